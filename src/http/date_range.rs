//! A `date` search value as a half-open range of instants: prefix, precision, civil days of the configured zone (design 2).

use chrono::{DateTime, Months, NaiveDate, TimeDelta, Utc};

use crate::cpis::calendar::Calendar;

/// From (included) and before (excluded), milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateRange {
    pub from_ms: Option<i64>,
    pub before_ms: Option<i64>,
}

impl DateRange {
    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let from_ms = self.from_ms.max(other.from_ms);
        let before_ms = match (self.before_ms, other.before_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { from_ms, before_ms }
    }
}

const PREFIXES: [&str; 5] = ["eq", "ge", "gt", "le", "lt"];

/// Whether a value begins with a prefix that is not known here, such as R4's `ap`.
pub fn has_unknown_prefix(text: &str) -> bool {
    let prefix = text.get(..2).filter(|prefix| prefix.bytes().all(|b| b.is_ascii_lowercase()));
    let number_follows = text.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    number_follows && prefix.is_some_and(|prefix| !PREFIXES.contains(&prefix))
}

/// Reads `[eq|ge|gt|le|lt]` and a year, month, day or instant with an offset; `None` for anything else.
pub fn parse(text: &str, calendar: &Calendar) -> Option<DateRange> {
    let (prefix, value) = match text.get(..2) {
        Some(prefix) if prefix.bytes().all(|b| b.is_ascii_lowercase()) => (prefix, text.get(2..)?),
        _ => ("eq", text),
    };
    let (from, before) = bounds(value, calendar)?;
    let (from, before) = (Some(from.timestamp_millis()), Some(before.timestamp_millis()));
    Some(match prefix {
        "eq" => DateRange { from_ms: from, before_ms: before },
        "ge" => DateRange { from_ms: from, before_ms: None },
        "gt" => DateRange { from_ms: before, before_ms: None },
        "le" => DateRange { from_ms: None, before_ms: before },
        "lt" => DateRange { from_ms: None, before_ms: from },
        _ => return None,
    })
}

fn bounds(value: &str, calendar: &Calendar) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let whole_days = |first: NaiveDate, next: NaiveDate| (calendar.day_bounds(first).0, calendar.day_bounds(next).0);
    match value.len() {
        4 if digits(value) => {
            let first = NaiveDate::parse_from_str(&format!("{value}-01-01"), "%Y-%m-%d").ok()?;
            Some(whole_days(first, first.checked_add_months(Months::new(12))?))
        }
        7 if digits(value) => {
            let first = NaiveDate::parse_from_str(&format!("{value}-01"), "%Y-%m-%d").ok()?;
            Some(whole_days(first, first.checked_add_months(Months::new(1))?))
        }
        10 if digits(value) => {
            let day = NaiveDate::parse_from_str(value, "%Y-%m-%d").ok()?;
            Some(whole_days(day, day.succ_opt()?))
        }
        _ => {
            // A plus sign in a query is a space; an offset is meant.
            let at = DateTime::parse_from_rfc3339(&value.replace(' ', "+")).ok()?.with_timezone(&Utc);
            let width = if value.contains('.') { TimeDelta::milliseconds(1) } else { TimeDelta::seconds(1) };
            Some((at, at.checked_add_signed(width)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Option<(Option<i64>, Option<i64>)> {
        parse(text, &Calendar::new(chrono_tz::Europe::London)).map(|r| (r.from_ms, r.before_ms))
    }

    #[test]
    fn a_day_of_the_clock_change_has_its_own_length() {
        let hours = |day: &str| range(day).and_then(|(from, before)| Some((before? - from?) / 3_600_000));
        assert_eq!(hours("2026-03-29"), Some(23));
        assert_eq!(hours("2026-10-25"), Some(25));
        assert_eq!(hours("2026-06-01"), Some(24));
    }

    #[test]
    fn prefixes_bound_one_side() {
        let Some((from, before)) = range("2026-11-03") else { panic!("a plain day") };
        assert_eq!(range("ge2026-11-03"), Some((from, None)));
        assert_eq!(range("gt2026-11-03"), Some((before, None)));
        assert_eq!(range("le2026-11-03"), Some((None, before)));
        assert_eq!(range("lt2026-11-03"), Some((None, from)));
        assert_eq!(range("2026-11-03T10:00:00Z"), range("eq2026-11-03T10:00:00+00:00"));
    }

    #[test]
    fn rubbish_is_no_range() {
        for text in
            ["", "x", "2026-13-01", "2026-02-30", "zz2026-01-01", "2026-01-01T10:00", "99999", "ap2026-01-01", "é2"]
        {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
