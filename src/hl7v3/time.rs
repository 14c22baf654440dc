//! HL7 v3 points in time (TS): `yyyymmddhhmmss+ZZzz`, truncated from the right (domain.md 1.4).

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// A point in time with at least its day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimeStamp {
    day: NaiveDate,
    time: Option<NaiveTime>,
    offset: Option<FixedOffset>,
}

fn parse(text: &str) -> Option<TimeStamp> {
    let sign = text.find(['+', '-']).unwrap_or(text.len());
    let (stamp, offset) = text.split_at_checked(sign)?;
    let offset = if offset.is_empty() { None } else { Some(parse_offset(offset)?) };
    let (whole, fraction) = stamp.split_once('.').unwrap_or((stamp, "0"));
    let fraction_fits = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    if !fraction_fits || (stamp.contains('.') && whole.len() != 14) {
        return None;
    }
    let part = |from: usize, to: usize| -> Option<u32> {
        let digits = whole.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let year = i32::try_from(part(0, 4)?).ok().filter(|year| *year > 0)?;
    let day = NaiveDate::from_ymd_opt(year, part(4, 6)?, part(6, 8)?)?;
    let time = match whole.len() {
        8 => None,
        10 => Some(NaiveTime::from_hms_opt(part(8, 10)?, 0, 0)?),
        12 => Some(NaiveTime::from_hms_opt(part(8, 10)?, part(10, 12)?, 0)?),
        // A leap second is the one before it.
        14 => Some(NaiveTime::from_hms_opt(part(8, 10)?, part(10, 12)?, part(12, 14)?.min(59))?),
        _ => return None,
    };
    if time.is_none() && offset.is_some() {
        return None;
    }
    Some(TimeStamp { day, time, offset })
}

fn parse_offset(text: &str) -> Option<FixedOffset> {
    let digits = text.get(1..).filter(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    let (hours, minutes): (i32, i32) = (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse().ok()?);
    let seconds = (hours * 60 + minutes) * 60;
    let fits = hours <= 14 && minutes < 60;
    FixedOffset::east_opt(if text.starts_with('-') { -seconds } else { seconds }).filter(|_| fits)
}

/// The day as it is written, whatever time follows: for a birth. `None` for a day that does not exist, or none at all.
pub fn written_day(text: &str) -> Option<NaiveDate> {
    parse(text).map(|stamp| stamp.day)
}

/// The civil day in `zone`: a time with an offset counts by its day there, anything else as it is written.
pub fn civil_day(text: &str, zone: Tz) -> Option<NaiveDate> {
    let stamp = parse(text)?;
    match (stamp.time, stamp.offset) {
        (Some(time), Some(offset)) => {
            let at = offset.from_local_datetime(&NaiveDateTime::new(stamp.day, time)).single()?;
            Some(at.with_timezone(&zone).date_naive())
        }
        _ => Some(stamp.day),
    }
}

/// The point in time, with its offset; `None` unless it has both time and offset.
pub fn instant(text: &str) -> Option<DateTime<FixedOffset>> {
    let stamp = parse(text)?;
    stamp.offset?.from_local_datetime(&NaiveDateTime::new(stamp.day, stamp.time?)).single()
}

/// To the second, with the offset of `zone` at that time.
pub fn written(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y%m%d%H%M%S%z").to_string()
}

pub fn written_date(day: NaiveDate) -> String {
    day.format("%Y%m%d").to_string()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::London;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_must_exist_and_be_whole() {
        for (text, day) in [
            ("20260914", "2026-09-14"),
            ("20240229", "2024-02-29"),
            ("2026091423", "2026-09-14"),
            ("202609142359", "2026-09-14"),
            ("20260914235960.1234+0000", "2026-09-14"),
            ("20260914120000-0500", "2026-09-14"),
        ] {
            assert_eq!(written_day(text).map(|d| d.to_string()).as_deref(), Some(day), "{text}");
        }
        for text in [
            "",
            "2026",
            "202609",
            "20260931",
            "20250229",
            "00000101",
            "2026-09-14",
            "20260914T12",
            "202609141",
            "2026091425",
            "20260914+0100",
            "20260914120000+1",
            "20260914120000+1500",
            "20260914120000+01:00",
            " 20260914",
            "2026091412.5",
            "20260914120000.",
            "２０２６０９１４",
            "20260914120000+0100x",
        ] {
            assert_eq!(written_day(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_with_an_offset_counts_by_its_day_in_london() {
        let day = |text| civil_day(text, London).map(|d| d.to_string());
        assert_eq!(day("20260630233000+0000").as_deref(), Some("2026-07-01"));
        assert_eq!(day("20260630233000+0100").as_deref(), Some("2026-06-30"));
        assert_eq!(day("20260630233000").as_deref(), Some("2026-06-30"));
        assert_eq!(day("20260630").as_deref(), Some("2026-06-30"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0_i64..4_000_000_000) {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            let text = written(at, London);
            prop_assert_eq!(instant(&text).map(|read| read.to_utc()), Some(at));
            prop_assert_eq!(civil_day(&text, London), Some(at.with_timezone(&London).date_naive()));
        }

        #[test]
        fn nothing_panics(text in "[0-9+.Zé-]{0,24}") {
            let _read = (written_day(&text), civil_day(&text, London), instant(&text));
        }
    }
}
