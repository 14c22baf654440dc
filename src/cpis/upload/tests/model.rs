//! The judge against a naive model of one authority's plans for one child, under random changes.

use proptest::prelude::*;

use super::*;
use crate::cpis::calendar::days_after;

/// A plan in the model.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: Uuid,
    plan_type: PlanType,
    start: NaiveDate,
    end: Option<NaiveDate>,
    local_id: Option<LocalPlanId>,
    deleted: bool,
}

impl Row {
    fn last_day(&self) -> NaiveDate {
        let limit = days_after(self.start, 300);
        match (self.plan_type, self.end) {
            (Unborn, end) => end.map_or(limit, |end| end.min(limit)),
            (_, end) => end.unwrap_or(NaiveDate::MAX),
        }
    }

    fn shares_a_day_with(&self, other: &Row) -> bool {
        self.start <= other.last_day() && other.start <= self.last_day()
    }
}

#[derive(Debug, PartialEq)]
enum Expected {
    Create,
    Update(Uuid),
    Unchanged(Uuid),
    Delete(Uuid),
    AlreadyDeleted(Uuid),
    Refuse,
}

/// What one change by content does, told as the design tells it.
fn expect(rows: &[Row], change: &PlanChange) -> Expected {
    let plan_type = change.plan_type.unwrap();
    let of_type: Vec<&Row> = rows.iter().filter(|row| row.plan_type == plan_type).collect();
    let live: Vec<&Row> = of_type.iter().copied().filter(|row| !row.deleted).collect();
    let same_id = |row: &&Row| change.local_id.is_some() && row.local_id == change.local_id;
    let one_without_id = |row: &Row| change.local_id.is_none() || row.local_id.is_none();
    match change.action {
        PlanAction::Delete { start } => {
            let same_start = |row: &&Row| Some(row.start) == start && one_without_id(row);
            let starting: Vec<&Row> = live.iter().copied().filter(|row| same_start(row)).collect();
            if let Some(row) = live.iter().copied().find(|row| same_id(row)) {
                Expected::Delete(row.id)
            } else if let Some(row) = of_type.iter().rev().find(|row| row.deleted && same_id(row)) {
                Expected::AlreadyDeleted(row.id)
            } else if starting.len() > 1 {
                Expected::Refuse
            } else if let Some(row) = starting.first() {
                Expected::Delete(row.id)
            } else if let Some(row) = of_type.iter().rev().find(|row| row.deleted && same_start(row)) {
                Expected::AlreadyDeleted(row.id)
            } else {
                Expected::Refuse
            }
        }
        PlanAction::Put { start, end } => {
            if end.is_some_and(|end| end < start) {
                return Expected::Refuse;
            }
            let starting: Vec<&Row> =
                live.iter().copied().filter(|row| row.start == start && one_without_id(row)).collect();
            let meant = live.iter().copied().find(|row| same_id(row)).or(match starting.as_slice() {
                [one] => Some(one),
                _ => None,
            });
            let next = Row {
                id: meant.map_or(Uuid::nil(), |row| row.id),
                plan_type,
                start,
                end,
                local_id: change.local_id.clone().or_else(|| meant.and_then(|row| row.local_id.clone())),
                deleted: false,
            };
            match meant {
                Some(row) if *row == next => Expected::Unchanged(row.id),
                _ if starting.len() > 1 && change.local_id.is_none() => Expected::Refuse,
                _ if refused_among(&live, meant, &next, change.local_id.is_none()) => Expected::Refuse,
                Some(row) => Expected::Update(row.id),
                None => Expected::Create,
            }
        }
    }
}

fn refused_among(live: &[&Row], before: Option<&Row>, next: &Row, unnamed: bool) -> bool {
    live.iter().copied().filter(|other| Some(other.id) != before.map(|row| row.id)).any(|other| {
        let ambiguous = other.start == next.start && (unnamed || other.local_id.is_none());
        let collides = day(TODAY) <= other.last_day() && next.shares_a_day_with(other);
        let open = day(TODAY) <= next.last_day();
        let refused = match (next.plan_type, before) {
            (Unborn, None) => unnamed,
            (Unborn, Some(_)) => false,
            (_, Some(before)) => open || !before.shares_a_day_with(other),
            (_, None) => true,
        };
        ambiguous || (collides && refused)
    })
}

fn rows(stored: &StoredRecord) -> Vec<Row> {
    let row = |plan: &Plan| Row {
        id: plan.id,
        plan_type: plan.plan_type,
        start: plan.period.start(),
        end: plan.period.end(),
        local_id: plan.local_id.clone(),
        deleted: plan.deleted,
    };
    stored.plans.iter().map(row).collect()
}

/// Applies a verdict as the store does; new ids are counted up.
fn apply(stored: &mut StoredRecord, verdict: &Verdict, at: &mut i64) {
    *at += 1;
    let now = recorded() + chrono::TimeDelta::seconds(*at);
    for write in &verdict.plans {
        let change = |plans: &mut Vec<Plan>, id: Uuid, how: &dyn Fn(&mut Plan)| {
            let plan = plans.iter_mut().find(|plan| plan.id == id && !plan.deleted).unwrap();
            plan.version += 1;
            plan.recorded = now;
            how(plan);
        };
        match write {
            PlanWrite::Create { plan_type, period, local_id, .. } => stored.plans.push(Plan {
                id: id(u128::try_from(stored.plans.len()).unwrap() + 1),
                plan_type: *plan_type,
                period: *period,
                ended: None,
                local_id: local_id.clone(),
                version: 1,
                deleted: false,
                recorded: now,
                created: now,
            }),
            PlanWrite::Update { id, period, local_id, .. } => change(&mut stored.plans, *id, &|plan| {
                plan.period = *period;
                plan.local_id.clone_from(local_id);
            }),
            PlanWrite::Delete { id, .. } => change(&mut stored.plans, *id, &|plan| plan.deleted = true),
            PlanWrite::Unchanged { .. } | PlanWrite::AlreadyDeleted { .. } => {}
        }
    }
    // The newest version last, as the model reads it.
    stored.plans.sort_by_key(|plan| (plan.recorded, plan.id));
}

fn days_before_today() -> impl Strategy<Value = NaiveDate> {
    (0_u64..6).prop_map(|days| day(TODAY).checked_sub_days(chrono::Days::new(days)).unwrap())
}

/// Few days, few local ids, all plan types: keys meet often.
fn any_change() -> impl Strategy<Value = PlanChange> {
    let end = proptest::option::of((0_u32..9).prop_map(|days| days_after(day("2026-10-29"), days)));
    let plan_type = proptest::sample::select(PlanType::ALL.to_vec());
    let local_id = proptest::sample::select(vec![None, local("A"), local("B")]);
    (plan_type, local_id, days_before_today(), end, 0..4).prop_map(|(plan_type, local_id, start, end, kind)| {
        let action = match kind {
            0 => PlanAction::Delete { start: Some(start) },
            _ => PlanAction::Put { start, end },
        };
        PlanChange { entry: 0, key: PlanKey::Content, plan_type: Some(plan_type), local_id, action }
    })
}

/// As `any_change`, or by the id of a plan that may be there.
fn any_change_by_any_key() -> impl Strategy<Value = PlanChange> {
    (any_change(), proptest::option::weighted(0.3, 1_u128..6)).prop_map(|(change, n)| match n {
        Some(n) => by_id(PlanChange { plan_type: None, ..change }, n, None),
        None => change,
    })
}

fn any_record() -> impl Strategy<Value = RecordChange> {
    proptest::collection::vec(any_change_by_any_key(), 1..5).prop_map(|mut plans| {
        for (entry, change) in plans.iter_mut().enumerate() {
            change.entry = entry;
        }
        plans_only(plans)
    })
}

fn open_plans(stored: &StoredRecord, plan_type: PlanType) -> usize {
    let live = stored.plans.iter().filter(|plan| !plan.deleted && plan.plan_type == plan_type);
    live.filter(|plan| plan.period.end().is_none_or(|end| day(TODAY) <= end)).count()
}

fn local_ids_are_unique(stored: &StoredRecord) -> bool {
    let live = || stored.plans.iter().filter(|plan| !plan.deleted && plan.local_id.is_some());
    live().all(|one| {
        live().filter(|other| other.plan_type == one.plan_type && other.local_id == one.local_id).count() == 1
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn single_changes_do_what_the_model_says(changes in proptest::collection::vec(any_change(), 1..25)) {
        let (mut held, mut at) = (stored([]), 0);
        for change in changes {
            let expected = expect(&rows(&held), &change);
            let outcome = judged(&plans_only([change]), &held);
            let actual = match outcome.as_ref().map(|verdict| verdict.plans.as_slice()) {
                Err(_) => Expected::Refuse,
                Ok([PlanWrite::Create { .. }]) => Expected::Create,
                Ok([PlanWrite::Update { id, .. }]) => Expected::Update(*id),
                Ok([PlanWrite::Unchanged { id, .. }]) => Expected::Unchanged(*id),
                Ok([PlanWrite::Delete { id, .. }]) => Expected::Delete(*id),
                Ok([PlanWrite::AlreadyDeleted { id, .. }]) => Expected::AlreadyDeleted(*id),
                Ok(other) => panic!("{other:?}"),
            };
            prop_assert_eq!(actual, expected);
            if let Ok(verdict) = outcome {
                apply(&mut held, &verdict, &mut at);
            }
        }
    }

    #[test]
    fn the_same_record_again_changes_nothing(records in proptest::collection::vec(any_record(), 1..8)) {
        let (mut held, mut at) = (stored([]), 0);
        for record in records {
            let Ok(verdict) = judged(&record, &held) else { continue };
            apply(&mut held, &verdict, &mut at);
            let again = judged(&record, &held);
            let writes = again.map(|verdict| verdict.plans);
            prop_assert!(writes.is_ok(), "{record:?} {writes:?}");
            for write in writes.unwrap() {
                let idle = matches!(write, PlanWrite::Unchanged { .. } | PlanWrite::AlreadyDeleted { .. });
                prop_assert!(idle, "{record:?} {write:?}");
            }
        }
    }

    #[test]
    fn the_order_of_the_entries_does_not_matter(
        before in proptest::collection::vec(any_record(), 0..6),
        (record, shuffled) in any_record().prop_flat_map(|record| {
            let plans = record.plans.clone();
            (Just(record), Just(plans).prop_shuffle())
        }),
    ) {
        let (mut held, mut at) = (stored([]), 0);
        for record in before {
            if let Ok(verdict) = judged(&record, &held) {
                apply(&mut held, &verdict, &mut at);
            }
        }
        prop_assert_eq!(judged(&record, &held), judged(&plans_only(shuffled), &held));
    }

    #[test]
    fn no_sequence_leaves_two_open_plans_or_two_of_one_local_id(records in proptest::collection::vec(any_record(), 1..12)) {
        let (mut held, mut at) = (stored([]), 0);
        for record in records {
            if let Ok(verdict) = judged(&record, &held) {
                prop_assert_eq!(verdict.plans.len(), record.plans.len());
                apply(&mut held, &verdict, &mut at);
            }
            prop_assert!(open_plans(&held, ChildProtection) <= 1);
            prop_assert!(open_plans(&held, LookedAfter) <= 1);
            prop_assert!(local_ids_are_unique(&held));
        }
    }
}
