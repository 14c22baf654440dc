//! When a plan is active, when it may be seen (design 2). Judged at each look-up; no job is needed to hide a plan.

use chrono::NaiveDate;

use super::{
    calendar::{birthday, days_after},
    limits::Limits,
    types::{PlanPeriod, PlanType, notice::EndedReason, plan::SystemEnd},
};

/// The last day of a plan as the rules see it, `None` while it is open.
///
/// An unborn child's plan without an end, or one that ends later than [`Limits::unborn_longest_days`] after its start,
/// counts as ended on that day.
pub fn effective_end(plan_type: PlanType, period: &PlanPeriod, limits: &Limits) -> Option<NaiveDate> {
    match plan_type {
        PlanType::ChildProtection | PlanType::LookedAfter => period.end(),
        PlanType::Unborn => {
            let longest = days_after(period.start(), limits.unborn_longest_days);
            Some(period.end().map_or(longest, |end| end.min(longest)))
        }
    }
}

/// True from the day on which the child is an adult, for the plan types that end then. A UCP is held on the mother: her
/// age is no limit.
pub fn ended_by_age(plan_type: PlanType, birth_date: Option<NaiveDate>, today: NaiveDate, limits: &Limits) -> bool {
    plan_type != PlanType::Unborn && birth_date.is_some_and(|birth| today >= birthday(birth, limits.adult_age))
}

/// The first day on which a plan is over by a rule and not by its own end: after the longest time of an unborn child's
/// plan, else when the child comes of age by this birth date.
pub fn closes(plan_type: PlanType, period: &PlanPeriod, birth_date: NaiveDate, limits: &Limits) -> Option<NaiveDate> {
    match plan_type {
        PlanType::ChildProtection | PlanType::LookedAfter => Some(birthday(birth_date, limits.adult_age)),
        PlanType::Unborn => effective_end(plan_type, period, limits).and_then(|end| end.succ_opt()),
    }
}

/// The end that a rule puts over the one that was sent, if that is later or missing, and the first day on which that is so.
///
/// CPP and LAC: the birthday of [`Limits::adult_age`] itself is the last day (the latest that an authority may send too),
/// or the start where a corrected birth date lies before it. UCP: the last of [`Limits::unborn_longest_days`].
pub fn ruled_end(
    plan_type: PlanType,
    period: &PlanPeriod,
    birth_date: NaiveDate,
    limits: &Limits,
) -> Option<(SystemEnd, NaiveDate)> {
    let (reason, on, from) = match plan_type {
        PlanType::ChildProtection | PlanType::LookedAfter => {
            let birthday = birthday(birth_date, limits.adult_age);
            (EndedReason::Adult, birthday.max(period.start()), birthday)
        }
        PlanType::Unborn => {
            let longest = days_after(period.start(), limits.unborn_longest_days);
            (EndedReason::UnbornLimit, longest, days_after(longest, 1))
        }
    };
    period.end().is_none_or(|end| end > on).then_some((SystemEnd { reason, on }, from))
}

/// Active: from the start to the end, both included, and the child not of age. One with a start in the future (which
/// can't be stored) is not.
pub fn active(
    plan_type: PlanType,
    period: &PlanPeriod,
    birth_date: Option<NaiveDate>,
    today: NaiveDate,
    limits: &Limits,
) -> bool {
    period.start() <= today
        && effective_end(plan_type, period, limits).is_none_or(|end| today <= end)
        && !ended_by_age(plan_type, birth_date, today, limits)
}

/// Visible to those who treat the child: until [`Limits::visible_days`] (CPP, LAC) or [`Limits::unborn_visible_days`]
/// (UCP) after the end, and no CPP or LAC, open or ended, from the birthday of [`Limits::adult_age`].
///
/// `birth_date` is the traced one, else the one that the authority sent.
pub fn visible(
    plan_type: PlanType,
    period: &PlanPeriod,
    birth_date: Option<NaiveDate>,
    today: NaiveDate,
    limits: &Limits,
) -> bool {
    let kept = match plan_type {
        PlanType::ChildProtection | PlanType::LookedAfter => limits.visible_days,
        PlanType::Unborn => limits.unborn_visible_days,
    };
    effective_end(plan_type, period, limits).is_none_or(|end| today <= days_after(end, kept))
        && !ended_by_age(plan_type, birth_date, today, limits)
}

#[cfg(test)]
mod tests {
    use chrono::Datelike;
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn period(start: &str, end: Option<&str>) -> PlanPeriod {
        PlanPeriod::new(day(start), end.map(day)).unwrap()
    }

    const LIMITS: Limits = Limits {
        visible_days: 365,
        unborn_visible_days: 28,
        unborn_longest_days: 300,
        adult_age: 18,
        history_rows: 25,
        relist_hours: 24,
        silent_hours: 36,
        refused_kept_days: 90,
        remind_days: 7,
        retrace_days: 7,
        distinct_children: 100,
        distinct_children_of_devices: 0,
        refuse_over_cap: false,
    };

    #[test]
    fn the_defaults_are_the_national_ones() {
        assert_eq!(Limits::default(), LIMITS);
    }

    #[test]
    fn an_ended_plan_is_visible_for_365_days() {
        let ended = period("2024-01-01", Some("2025-03-01"));
        for plan_type in [PlanType::ChildProtection, PlanType::LookedAfter] {
            for (today, is_active, is_visible) in [
                ("2023-12-31", false, true),
                ("2024-01-01", true, true),
                ("2025-03-01", true, true),
                ("2025-03-02", false, true),
                ("2026-03-01", false, true),
                ("2026-03-02", false, false),
            ] {
                assert_eq!(active(plan_type, &ended, None, day(today), &LIMITS), is_active, "{today}");
                assert_eq!(visible(plan_type, &ended, None, day(today), &LIMITS), is_visible, "{today}");
            }
        }
    }

    #[test]
    fn an_unborn_plan_ends_by_itself_and_is_visible_for_28_days() {
        for (end, active_until, visible_until) in [
            (Some("2026-05-01"), "2026-05-01", "2026-05-29"),
            (None, "2026-10-28", "2026-11-25"),
            (Some("2026-10-28"), "2026-10-28", "2026-11-25"),
            (Some("2026-10-29"), "2026-10-28", "2026-11-25"),
        ] {
            let plan = period("2026-01-01", end);
            let is_active = |d: NaiveDate| active(PlanType::Unborn, &plan, Some(day("1990-01-01")), d, &LIMITS);
            let is_visible = |d: NaiveDate| visible(PlanType::Unborn, &plan, Some(day("1990-01-01")), d, &LIMITS);
            assert!(is_active(day(active_until)) && !is_active(days_after(day(active_until), 1)), "{end:?}");
            assert!(is_visible(day(visible_until)) && !is_visible(days_after(day(visible_until), 1)), "{end:?}");
        }
    }

    #[test]
    fn from_the_18th_birthday_no_plan_of_the_child_is_shown() {
        let birth = Some(day("2008-02-29"));
        for end in [None, Some("2026-02-01")] {
            let plan = period("2020-01-01", end);
            for plan_type in [PlanType::ChildProtection, PlanType::LookedAfter] {
                assert!(visible(plan_type, &plan, birth, day("2026-02-28"), &LIMITS));
                assert!(!visible(plan_type, &plan, birth, day("2026-03-01"), &LIMITS));
                assert!(!active(plan_type, &plan, birth, day("2026-03-01"), &LIMITS));
            }
        }
    }

    /// The rules told day by day: what an authority's officer with a wall calendar would do.
    struct WallCalendar {
        active: bool,
        visible: bool,
    }

    fn wall_calendar(
        plan_type: PlanType,
        plan: &PlanPeriod,
        birth: Option<NaiveDate>,
        today: NaiveDate,
    ) -> WallCalendar {
        let unborn = plan_type == PlanType::Unborn;
        let (mut since_start, mut since_end) = (0, None);
        for turned in plan.start().iter_days().take_while(|turned| *turned <= today).skip(1) {
            since_start += 1;
            let was_last = Some(turned.pred_opt().unwrap()) == plan.end() || (unborn && since_start == 301);
            since_end = match since_end {
                None if was_last => Some(1),
                None => None,
                Some(days) => Some(days + 1),
            };
        }
        let of_age = !unborn
            && birth.is_some_and(|birth| {
                let years = today.year() - birth.year();
                years > 18 || (years == 18 && (today.month(), today.day()) >= (birth.month(), birth.day()))
            });
        WallCalendar {
            active: plan.start() <= today && since_end.is_none() && !of_age,
            visible: since_end.is_none_or(|days| days <= if unborn { 28 } else { 365 }) && !of_age,
        }
    }

    proptest! {
        #[test]
        fn the_rules_agree_with_a_wall_calendar(
            kind in 0_usize..3,
            length in proptest::option::of(0_u32..420),
            born_before in proptest::option::of(6_000_u32..7_000),
            seen_after in 0_u32..900,
        ) {
            let plan_type = PlanType::ALL[kind];
            let start = day("2023-11-05");
            let plan = PlanPeriod::new(start, length.map(|n| days_after(start, n))).unwrap();
            let birth = born_before.and_then(|n| start.checked_sub_days(chrono::Days::new(n.into())));
            let today = days_after(start, seen_after);
            let expected = wall_calendar(plan_type, &plan, birth, today);
            prop_assert_eq!(active(plan_type, &plan, birth, today, &LIMITS), expected.active);
            prop_assert_eq!(visible(plan_type, &plan, birth, today, &LIMITS), expected.visible);
        }

        #[test]
        fn what_is_active_is_visible(kind in 0_usize..3, length in proptest::option::of(0_u32..420), seen_after in 0_u32..900) {
            let start = day("2023-11-05");
            let plan = PlanPeriod::new(start, length.map(|n| days_after(start, n))).unwrap();
            let today = days_after(start, seen_after);
            let plan_type = PlanType::ALL[kind];
            prop_assert!(!active(plan_type, &plan, None, today, &LIMITS) || visible(plan_type, &plan, None, today, &LIMITS));
        }
    }
}
