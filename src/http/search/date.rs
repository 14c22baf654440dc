//! `date` search values: prefix, precision, and what they mean for an element that is itself a stretch of time.
//! Days, months and years are civil ones of the configured zone (design 2). <https://hl7.org/fhir/R4/search.html#date>

use chrono::{DateTime, Months, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};

use crate::cpis::{calendar::Calendar, types::audit::Span};

const PREFIXES: [(&str, Prefix); 9] = [
    ("eq", Prefix::Eq),
    ("ne", Prefix::Ne),
    ("gt", Prefix::Gt),
    ("lt", Prefix::Lt),
    ("ge", Prefix::Ge),
    ("le", Prefix::Le),
    ("sa", Prefix::Sa),
    ("eb", Prefix::Eb),
    ("ap", Prefix::Ap),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

/// Why a value is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFault {
    /// Two letters before a digit that are no prefix of R4.
    Prefix,
    Value,
}

/// One value of a `date` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTest {
    prefix: Prefix,
    sent: Span,
}

impl DateTest {
    /// Reads a prefix (`eq` when there is none) and a year, month, day, minute, second or instant. A time without an
    /// offset is one of the configured zone. `now` is what `ap` measures from.
    ///
    /// # Errors
    /// [`DateFault`].
    pub fn parse(text: &str, calendar: &Calendar, now: DateTime<Utc>) -> Result<Self, DateFault> {
        let letters = text.get(..2).filter(|letters| letters.bytes().all(|b| b.is_ascii_alphabetic()));
        let (prefix, value) = match letters {
            None => (Prefix::Eq, text),
            Some(letters) => {
                let value = text.get(2..).unwrap_or_default();
                let known = PREFIXES.iter().find(|(name, _)| *name == letters);
                let digit = value.starts_with(|c: char| c.is_ascii_digit());
                let fault = if digit { DateFault::Prefix } else { DateFault::Value };
                (known.ok_or(fault)?.1, value)
            }
        };
        let sent = span(value, calendar).ok_or(DateFault::Value)?;
        let sent = if prefix == Prefix::Ap { widened(sent, now.timestamp_millis()) } else { sent };
        Ok(Self { prefix, sent })
    }

    /// Whether an element holds; an open side of a period reaches to the end of time.
    pub fn holds(&self, element: Span) -> bool {
        let sent = self.sent;
        let contains = sent.from_ms <= element.from_ms && element.before_ms <= sent.before_ms;
        match self.prefix {
            Prefix::Eq => contains,
            Prefix::Ne => !contains,
            Prefix::Gt => element.before_ms > sent.before_ms,
            Prefix::Lt => element.from_ms < sent.from_ms,
            Prefix::Ge => element.before_ms > sent.before_ms || contains,
            Prefix::Le => element.from_ms < sent.from_ms || contains,
            Prefix::Sa => element.from_ms >= sent.before_ms,
            Prefix::Eb => element.before_ms <= sent.from_ms,
            Prefix::Ap => element.from_ms < sent.before_ms && sent.from_ms < element.before_ms,
        }
    }

    /// The instants (to the millisecond) that hold, for a store that keeps instants.
    pub fn instants(&self) -> Vec<Span> {
        let Span { from_ms, before_ms } = self.sent;
        let after = Span { from_ms: before_ms, ..Span::ALWAYS };
        let before = Span { before_ms: from_ms, ..Span::ALWAYS };
        match self.prefix {
            Prefix::Eq | Prefix::Ap => vec![self.sent],
            Prefix::Ne => vec![before, after],
            Prefix::Gt | Prefix::Sa => vec![after],
            Prefix::Lt | Prefix::Eb => vec![before],
            Prefix::Ge => vec![Span { from_ms, ..Span::ALWAYS }],
            Prefix::Le => vec![Span { before_ms, ..Span::ALWAYS }],
        }
    }
}

/// What both sets of instants have, as stretches that neither overlap nor touch: so there are never more of them than the
/// sets have together, however often this is done.
pub fn intersection(one: &[Span], other: &[Span]) -> Vec<Span> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| a.and(*b)));
    let mut spans: Vec<Span> = pairs.filter(|span| span.from_ms < span.before_ms).collect();
    spans.sort_unstable_by_key(|span| span.from_ms);
    spans.dedup_by(|next, kept| {
        let joined = next.from_ms <= kept.before_ms;
        if joined {
            kept.before_ms = kept.before_ms.max(next.before_ms);
        }
        joined
    });
    spans
}

/// R4's advice for `ap`: a tenth of the distance from now, on both sides.
fn widened(sent: Span, now_ms: i64) -> Span {
    let near = now_ms.clamp(sent.from_ms, sent.before_ms);
    let margin = near.abs_diff(now_ms) / 10;
    let margin = i64::try_from(margin).unwrap_or(i64::MAX);
    Span { from_ms: sent.from_ms.saturating_sub(margin), before_ms: sent.before_ms.saturating_add(margin) }
}

/// The stretch of time that a FHIR `date`, `dateTime` or `instant` stands for, to its precision.
pub fn span(value: &str, calendar: &Calendar) -> Option<Span> {
    let (from, before) = bounds(value, calendar)?;
    Some(Span { from_ms: from.timestamp_millis(), before_ms: before.timestamp_millis() })
}

fn bounds(value: &str, calendar: &Calendar) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let shaped =
        value.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
    let first = |text: String| NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().filter(|day| day > &NaiveDate::MIN);
    let whole_days = |first: NaiveDate, next: NaiveDate| (calendar.day_bounds(first).0, calendar.day_bounds(next).0);
    match value.len() {
        4 if shaped => {
            let first = first(format!("{value}-01-01"))?;
            Some(whole_days(first, first.checked_add_months(Months::new(12))?))
        }
        7 if shaped => {
            let first = first(format!("{value}-01"))?;
            Some(whole_days(first, first.checked_add_months(Months::new(1))?))
        }
        10 if shaped => {
            let day = first(value.to_owned())?;
            Some(whole_days(day, day.succ_opt()?))
        }
        _ => moment(value, calendar),
    }
}

/// A day with a time to the minute, second or fraction, with or without an offset.
fn moment(value: &str, calendar: &Calendar) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (day, time) = value.split_once('T')?;
    // A plus sign in a query is a space; an offset is meant.
    let offset_at = time.find(['Z', '+', '-', ' ']).unwrap_or(time.len());
    let (time, offset) = time.split_at_checked(offset_at)?;
    let (time, width) = match time.len() {
        5 => (format!("{time}:00"), TimeDelta::minutes(1)),
        8 => (time.to_owned(), TimeDelta::seconds(1)),
        _ if time.get(8..9) == Some(".") => (time.to_owned(), TimeDelta::milliseconds(1)),
        _ => return None,
    };
    let at = if offset.is_empty() {
        let local = NaiveDateTime::parse_from_str(&format!("{day}T{time}"), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
        calendar.zone().from_local_datetime(&local).earliest()?.with_timezone(&Utc)
    } else {
        let text = format!("{day}T{time}{}", offset.replace(' ', "+"));
        DateTime::parse_from_rfc3339(&text).ok()?.with_timezone(&Utc)
    };
    Some((at, at.checked_add_signed(width)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn london() -> Calendar {
        Calendar::new(chrono_tz::Europe::London)
    }

    fn now() -> DateTime<Utc> {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn test(text: &str) -> Result<DateTest, DateFault> {
        DateTest::parse(text, &london(), now())
    }

    fn element(text: &str) -> Span {
        span(text, &london()).unwrap()
    }

    #[test]
    fn a_day_of_the_clock_change_has_its_own_length() {
        for (day, hours) in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)] {
            let span = element(day);
            assert_eq!(span.before_ms - span.from_ms, hours * 3_600_000, "{day}");
        }
    }

    #[test]
    fn each_precision_has_its_width() {
        for (text, seconds) in [
            ("2026-02", 28 * 86_400),
            ("2026-06-01T10:00", 60),
            ("2026-06-01T10:00:00", 1),
            ("2026-06-01T10:00Z", 60),
            ("2026-06-01T10:00:00+01:00", 1),
            ("2026-06-01T10:00:00 01:00", 1),
        ] {
            let span = element(text);
            assert_eq!(span.before_ms - span.from_ms, seconds * 1000, "{text}");
        }
        assert_eq!(element("2026-06-01T09:00:00Z"), element("2026-06-01T10:00:00"), "London has summer time");
        assert_eq!(element("2026-06-01T09:00:00.5Z").before_ms - element("2026-06-01T09:00:00.5Z").from_ms, 1);
    }

    /// Rows of R4's table of prefixes, with an element that is a period: (element, sent, prefixes that hold).
    #[test]
    fn prefixes_are_those_of_r4() {
        let year = element("2026");
        let open = Span { from_ms: element("2026-03-01").from_ms, ..Span::ALWAYS };
        for (of, sent, holding) in [
            (year, "2026", "eq ge le ap"),
            (year, "2025", "ne gt ge sa"),
            (year, "2027", "ne lt le eb ap"),
            (year, "2026-06", "ne gt lt ge le ap"),
            (element("2026-06-10"), "2026-06", "eq ge le"),
            (element("2026-06-10"), "2026-06-10T10:00", "ne gt lt ge le ap"),
            (open, "2026-03-01", "ne gt ge ap"),
            (open, "2026-02", "ne gt ge sa ap"),
            (open, "2030", "ne gt lt ge le ap"),
        ] {
            let sent_now = |prefix: &str| test(&format!("{prefix}{sent}")).unwrap().holds(of);
            let held: Vec<&str> = PREFIXES.iter().map(|(name, _)| *name).filter(|name| sent_now(name)).collect();
            let mut wanted: Vec<&str> = holding.split(' ').collect();
            // Whether `ap` holds beside the sent value depends on the distance from now; inside it always does.
            if held.contains(&"ap") && !wanted.contains(&"ap") {
                wanted.push("ap");
            }
            assert_eq!(held, wanted, "{sent}");
        }
    }

    #[test]
    fn approximately_is_a_tenth_of_the_distance() {
        // 100 days before now: ten days on each side.
        let sent = test("ap2026-08-15").unwrap();
        assert!(sent.holds(element("2026-08-06")) && sent.holds(element("2026-08-25")));
        assert!(!sent.holds(element("2026-08-04")) && !sent.holds(element("2026-08-27")));
        let today = test("ap2026-11-23").unwrap();
        assert!(today.holds(element("2026-11-23")) && !today.holds(element("2026-11-24")));
    }

    #[test]
    fn rubbish_is_no_date() {
        for text in
            ["", "x", "2026-13-01", "2026-02-30", "2026-01-01T10", "99999", "é2", "2026-1-1", "eq", "-026-01-01"]
        {
            assert_eq!(test(text), Err(DateFault::Value), "{text}");
        }
        for text in ["zz2026-01-01", "EQ2026", "af2026-01-01"] {
            assert_eq!(test(text), Err(DateFault::Prefix), "{text}");
        }
    }

    proptest! {
        /// The two ways of asking agree: of the element itself, and of the instants for the store.
        #[test]
        fn an_instant_holds_as_the_store_is_asked(
            at in 1_700_000_000_000_i64..1_800_000_000_000,
            around in 1_700_000_000_000_i64..1_800_000_000_000,
            prefix in 0_usize..9,
            precision in prop::sample::select(vec!["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ"]),
        ) {
            let text = DateTime::from_timestamp_millis(around).unwrap().format(precision).to_string();
            let sent = test(&format!("{}{text}", PREFIXES[prefix].0)).unwrap();
            let asked = sent.instants().iter().any(|span| span.from_ms <= at && at < span.before_ms);
            prop_assert_eq!(sent.holds(Span { from_ms: at, before_ms: at + 1 }), asked);
        }
    }
}
