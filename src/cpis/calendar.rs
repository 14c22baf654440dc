//! Civil days and birthdays: which London day an instant falls on, how long that day is, how old somebody is (design 2).

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The civil calendar of one time zone: Europe/London in service, configurable, never the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar(Tz);

impl Calendar {
    pub fn new(zone: Tz) -> Self {
        Self(zone)
    }

    /// The zone, for rendering an instant with its offset (HL7 v3).
    pub fn zone(&self) -> Tz {
        self.0
    }

    /// The civil day on which an instant falls.
    pub fn day_of(&self, at: DateTime<Utc>) -> NaiveDate {
        at.with_timezone(&self.0).date_naive()
    }

    /// First instant of a day and first instant after it. In London 23, 24 or 25 hours apart.
    ///
    /// Empty (both equal) for a day that the zone skipped altogether.
    pub fn day_bounds(&self, day: NaiveDate) -> (DateTime<Utc>, DateTime<Utc>) {
        let next = day.succ_opt().unwrap_or(day);
        (self.first_instant(day), self.first_instant(next))
    }

    fn first_instant(&self, day: NaiveDate) -> DateTime<Utc> {
        let midnight = day.and_time(NaiveTime::MIN);
        self.0
            .from_local_datetime(&midnight)
            .earliest()
            .map_or_else(|| self.end_of_gap(day), |at| at.with_timezone(&Utc))
    }

    /// Where clocks jump over midnight (not in London since standard time began) the day starts at the jump.
    fn end_of_gap(&self, day: NaiveDate) -> DateTime<Utc> {
        let midnight = day.and_time(NaiveTime::MIN).and_utc();
        // No offset exceeds 26 hours: the day has not begun at `before` and has begun at `reached`.
        let (mut before, mut reached) = (midnight - TimeDelta::hours(26), midnight + TimeDelta::hours(50));
        while reached - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((reached - before).num_seconds() / 2);
            if self.day_of(middle) >= day { reached = middle } else { before = middle }
        }
        reached
    }
}

/// Completed years of age on a day; 0 before birth. Somebody born on 29 February grows older on 1 March of a common year.
pub fn age_on(birth: NaiveDate, day: NaiveDate) -> u32 {
    day.years_since(birth).unwrap_or(0)
}

/// The day on which somebody completes so many years: for one born on 29 February 1 March of a common year.
pub fn birthday(birth: NaiveDate, years: u32) -> NaiveDate {
    let year = i32::try_from(years).ok().and_then(|years| birth.year().checked_add(years)).unwrap_or(i32::MAX);
    birth.with_year(year).or_else(|| NaiveDate::from_ymd_opt(year, 3, 1)).unwrap_or(NaiveDate::MAX)
}

/// The day so many days later; the last day of the calendar when there is no such day.
pub fn days_after(day: NaiveDate, days: u32) -> NaiveDate {
    day.checked_add_days(Days::new(days.into())).unwrap_or(NaiveDate::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn london() -> Calendar {
        Calendar::new(Tz::Europe__London)
    }

    fn any_day() -> impl Strategy<Value = NaiveDate> {
        (0_u32..73_414).prop_map(|n| days_after(day("1900-01-01"), n))
    }

    #[test]
    fn an_instant_falls_on_its_london_day() {
        for (instant, expected) in [
            ("2026-06-30T22:59:59.999Z", "2026-06-30"),
            ("2026-06-30T23:00:00Z", "2026-07-01"),
            ("2026-12-31T23:59:59.999Z", "2026-12-31"),
            ("2027-01-01T00:00:00Z", "2027-01-01"),
            ("2026-03-29T00:59:59Z", "2026-03-29"),
            ("2026-10-24T23:00:00Z", "2026-10-25"),
        ] {
            assert_eq!(london().day_of(at(instant)), day(expected), "{instant}");
        }
    }

    #[test]
    fn a_day_with_a_clock_change_has_23_or_25_hours() {
        for (date, from, to) in [
            ("2026-03-29", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z"),
            ("2026-10-25", "2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z"),
            ("2026-01-15", "2026-01-15T00:00:00Z", "2026-01-16T00:00:00Z"),
            ("2026-07-15", "2026-07-14T23:00:00Z", "2026-07-15T23:00:00Z"),
        ] {
            assert_eq!(london().day_bounds(day(date)), (at(from), at(to)), "{date}");
        }
    }

    #[test]
    fn a_zone_that_jumps_over_midnight_or_a_whole_day_has_bounds_too() {
        let beirut = Calendar::new(Tz::Asia__Beirut);
        assert_eq!(beirut.day_bounds(day("2022-03-27")), (at("2022-03-26T22:00:00Z"), at("2022-03-27T21:00:00Z")));
        let apia = Calendar::new(Tz::Pacific__Apia);
        let skipped = apia.day_bounds(day("2011-12-30"));
        assert_eq!(skipped, (at("2011-12-30T10:00:00Z"), at("2011-12-30T10:00:00Z")));
    }

    #[test]
    fn born_on_29_february_is_18_on_1_march() {
        assert_eq!(birthday(day("2008-02-29"), 18), day("2026-03-01"));
        assert_eq!(birthday(day("2008-02-29"), 20), day("2028-02-29"));
        assert_eq!(age_on(day("2008-02-29"), day("2026-02-28")), 17);
        assert_eq!(age_on(day("2008-02-29"), day("2026-03-01")), 18);
    }

    #[test]
    fn nobody_is_older_than_zero_before_birth() {
        assert_eq!(age_on(day("2020-05-05"), day("2019-05-05")), 0);
        assert_eq!(age_on(day("2020-05-05"), day("2021-05-04")), 0);
        assert_eq!(age_on(day("2020-05-05"), day("2021-05-05")), 1);
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        assert_eq!(days_after(NaiveDate::MAX, 1), NaiveDate::MAX);
        assert_eq!(birthday(NaiveDate::MAX, u32::MAX), NaiveDate::MAX);
    }

    proptest! {
        #[test]
        fn days_are_half_open_and_leave_no_gap(day in any_day()) {
            let (from, to) = london().day_bounds(day);
            prop_assert_eq!(london().day_of(from), day);
            prop_assert_eq!(london().day_of(to - TimeDelta::milliseconds(1)), day);
            prop_assert!(london().day_of(from - TimeDelta::milliseconds(1)) < day);
            prop_assert_eq!(london().day_of(to), days_after(day, 1));
            prop_assert_eq!(to, london().day_bounds(days_after(day, 1)).0);
            prop_assert!([23, 24, 25].contains(&(to - from).num_hours()));
        }

        #[test]
        fn every_instant_lies_within_its_day(millis in -2_208_988_800_000_i64..4_133_980_800_000) {
            let instant = DateTime::from_timestamp_millis(millis).unwrap();
            let (from, to) = london().day_bounds(london().day_of(instant));
            prop_assert!(from <= instant && instant < to);
        }

        #[test]
        fn the_birthday_is_the_first_day_of_that_age(birth in any_day(), years in 1_u32..40) {
            let birthday = birthday(birth, years);
            prop_assert_eq!(age_on(birth, birthday), years);
            prop_assert_eq!(age_on(birth, birthday.pred_opt().unwrap()), years - 1);
        }
    }

    #[test]
    fn each_year_of_the_zone_tables_has_one_short_and_one_long_day() {
        for year in 1972..=2099 {
            let days = NaiveDate::from_ymd_opt(year, 1, 1).unwrap().iter_days().take_while(|d| d.year() == year);
            let lengths: Vec<i64> = days
                .map(|d| london().day_bounds(d))
                .map(|(from, to)| (to - from).num_hours())
                .filter(|hours| *hours != 24)
                .collect();
            assert_eq!(lengths, [23, 25], "{year}");
        }
    }
}
