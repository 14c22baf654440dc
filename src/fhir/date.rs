//! FHIR `date`, `dateTime` and `instant`: texts that keep the precision they were sent with.
//! <https://hl7.org/fhir/R4/datatypes.html#dateTime>

use chrono::{DateTime as ChronoDateTime, FixedOffset, NaiveDate, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date(String);

/// A [`Date`], or a day with a time to the second and an offset.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DateTime(String);

/// A point in time with an offset; written in UTC with milliseconds and `Z`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(String);

impl Date {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The day; `None` when only year or month were sent, or there is no such day.
    pub fn day(&self) -> Option<NaiveDate> {
        full_day(&self.0)
    }
}

impl From<NaiveDate> for Date {
    fn from(day: NaiveDate) -> Self {
        Self(day.format("%Y-%m-%d").to_string())
    }
}

impl DateTime {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The civil day in `zone`; a day sent without a time is taken as it stands. `None` below day precision.
    pub fn day(&self, zone: Tz) -> Option<NaiveDate> {
        match parse_instant(&self.0) {
            Some(at) => Some(at.with_timezone(&zone).date_naive()),
            None => full_day(&self.0),
        }
    }
}

impl From<NaiveDate> for DateTime {
    fn from(day: NaiveDate) -> Self {
        Self(day.format("%Y-%m-%d").to_string())
    }
}

impl From<ChronoDateTime<Utc>> for DateTime {
    fn from(at: ChronoDateTime<Utc>) -> Self {
        Self(at.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Instant {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The point in time; `None` when the text is not an instant.
    pub fn at(&self) -> Option<ChronoDateTime<Utc>> {
        parse_instant(&self.0).map(|at| at.with_timezone(&Utc))
    }
}

impl From<ChronoDateTime<Utc>> for Instant {
    fn from(at: ChronoDateTime<Utc>) -> Self {
        Self(at.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Masked: a date may be a birth date.
macro_rules! masked_debug {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
masked_debug!(Date, DateTime, Instant);

fn digits(text: &str, count: usize) -> Option<u32> {
    let fits = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn full_day(text: &str) -> Option<NaiveDate> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let year = digits(year, 4).filter(|y| *y > 0)?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, digits(month, 2)?, digits(day, 2)?)
}

/// True for a FHIR `date` that exists.
pub fn is_date(text: &str) -> bool {
    match text.len() {
        4 => digits(text, 4).is_some_and(|year| year > 0),
        7 => full_day(&format!("{text}-01")).is_some(),
        _ => full_day(text).is_some(),
    }
}

/// True for a FHIR `dateTime` that exists: a `date`, or a day, a time to the second and an offset.
pub fn is_date_time(text: &str) -> bool {
    is_date(text) || is_instant(text)
}

/// True for a FHIR `instant` that exists.
pub fn is_instant(text: &str) -> bool {
    parse_instant(text).is_some()
}

/// True for a FHIR `time`: `hh:mm:ss`, optionally with a fraction.
pub fn is_time(text: &str) -> bool {
    time_length(text) == Some(text.len())
}

/// Length of the `hh:mm:ss(.f+)?` at the start of the text. Second 60 is a leap second.
fn time_length(text: &str) -> Option<usize> {
    let (hour, minute, second) = (text.get(0..2)?, text.get(3..5)?, text.get(6..8)?);
    let colons = text.get(2..3)? == ":" && text.get(5..6)? == ":";
    let real = digits(hour, 2)? < 24 && digits(minute, 2)? < 60 && digits(second, 2)? <= 60;
    if !(colons && real) {
        return None;
    }
    match text.get(8..)?.strip_prefix('.') {
        None => Some(8),
        Some(rest) => {
            let fraction = rest.bytes().take_while(u8::is_ascii_digit).count();
            (fraction > 0).then_some(9 + fraction)
        }
    }
}

fn is_offset(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return text == "Z" };
    let Some((hours, minutes)) = rest.split_once(':') else { return false };
    match (digits(hours, 2), digits(minutes, 2)) {
        (Some(hours), Some(minutes)) => (hours < 14 && minutes < 60) || (hours == 14 && minutes == 0),
        _ => false,
    }
}

fn parse_instant(text: &str) -> Option<ChronoDateTime<FixedOffset>> {
    let (day, rest) = text.split_once('T')?;
    full_day(day)?;
    let time = time_length(rest)?;
    if !is_offset(rest.get(time..)?) {
        return None;
    }
    ChronoDateTime::parse_from_rfc3339(text).ok()
}

/// True unless `start` lies after `end` (invariant per-1). Compared at the coarser of the two precisions;
/// texts that are not dates are judged elsewhere and count as in order.
pub fn in_order(start: &str, end: &str) -> bool {
    if let (Some(start), Some(end)) = (parse_instant(start), parse_instant(end)) {
        return start <= end;
    }
    if !is_date_time(start) || !is_date_time(end) {
        return true;
    }
    let day = |text: &'_ str| text.split('T').next().unwrap_or_default().to_owned();
    let (start, end) = (day(start), day(end));
    let precision = start.len().min(end.len());
    start.get(..precision) <= end.get(..precision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::London;

    #[test]
    fn only_days_that_exist_are_dates() {
        for good in ["2015", "2015-02", "2015-02-28", "2016-02-29", "0001-01-01"] {
            assert!(is_date(good) && is_date_time(good), "{good}");
        }
        for bad in ["2015-02-30", "2015-2-3", "15-02-03", "2015-13", "0000", "2015-02-28T", "2015-02-28 ", "", "٢٠١٥"]
        {
            assert!(!is_date(bad) && !is_date_time(bad), "{bad}");
        }
    }

    #[test]
    fn a_time_needs_seconds_and_an_offset() {
        for good in ["2026-11-03T21:45:00Z", "2026-11-03T21:45:00.123+01:00", "2026-11-03T21:45:00-14:00"] {
            assert!(is_instant(good) && is_date_time(good), "{good}");
        }
        for bad in [
            "2026-11-03T21:45Z",
            "2026-11-03T21:45:00",
            "2026-11-03T24:00:00Z",
            "2026-11-31T21:45:00Z",
            "2026-11-03T21:45:00.Z",
            "2026-11-03T21:45:00+15:00",
            "2026-11-03t21:45:00z",
            "2026-11-03 21:45:00Z",
            "2026-11-03",
        ] {
            assert!(!is_instant(bad), "{bad}");
        }
    }

    #[test]
    fn a_day_is_the_one_in_london() {
        let day = |text: &str| DateTime(text.to_owned()).day(London).map(|d| d.to_string());
        assert_eq!(day("2026-06-30T23:30:00Z").as_deref(), Some("2026-07-01"));
        assert_eq!(day("2026-12-31T23:30:00Z").as_deref(), Some("2026-12-31"));
        assert_eq!(day("2026-12-31").as_deref(), Some("2026-12-31"));
        assert_eq!(day("2026-12"), None);
    }

    #[test]
    fn order_is_judged_at_the_coarser_precision() {
        for (start, end, expected) in [
            ("2026-01-02", "2026-01-01", false),
            ("2026-01-02", "2026-01-02", true),
            ("2026-01-02", "2026-01", true),
            ("2026-02", "2026-01-31", false),
            ("2026-01-01T23:59:59Z", "2026-01-01", true),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", true),
            ("2026-01-01T01:00:01+01:00", "2026-01-01T00:00:00Z", false),
            ("not a date", "2026-01-01", true),
        ] {
            assert_eq!(in_order(start, end), expected, "{start} {end}");
        }
    }
}
