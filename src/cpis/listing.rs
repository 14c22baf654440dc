//! The listing rule: which unscheduled access of a child is listed and notified, and which rows of the history a
//! clinician is shown (design 5).

use chrono::{DateTime, TimeDelta, Utc};

use super::{limits::Limits, types::access::Access};

/// Whether an unscheduled access now is listed for an authority whose record of the child is visible.
///
/// `listed_before`: when the same author was listed for this child (over all its numbers) and this authority; any order.
/// Only an access listed less than [`Limits::relist_hours`] ago suppresses this one: a repeat in between was not listed
/// and so never moves the window, and a listed one that lies in the future (a clock was set back) suppresses nothing.
pub fn decide(now: DateTime<Utc>, listed_before: &[DateTime<Utc>], limits: &Limits) -> bool {
    let window = TimeDelta::hours(limits.relist_hours.into());
    !listed_before.iter().any(|listed| *listed <= now && now - *listed < window)
}

/// The rows of the history that a caller is shown: the newest `rows`, among them always the caller's own newest one,
/// which takes the last place if it would fall out.
///
/// `newest_first` needs at least the newest `rows` rows of the child; `own_latest` is the caller's newest row, if any.
pub fn shown_history(newest_first: &[Access], own_latest: Option<&Access>, rows: usize) -> Vec<Access> {
    let newest = &newest_first[..rows.min(newest_first.len())];
    match own_latest {
        Some(own) if !newest.iter().any(|row| row.id == own.id) => {
            let mut shown = newest[..newest.len().min(rows.saturating_sub(1))].to_vec();
            shown.push(own.clone());
            shown.sort_by_key(|row| std::cmp::Reverse(row.sequence));
            shown
        }
        _ => newest.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::cpis::types::{NhsNumber, OdsCode, access::AccessAuthor, caller::Author};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn row(sequence: i64) -> Access {
        Access {
            sequence,
            id: Uuid::from_u128(sequence.try_into().unwrap()),
            at: at("2026-11-03T21:45:00Z") + TimeDelta::minutes(sequence),
            nhs_number: NhsNumber::parse("9990000018").unwrap(),
            author: AccessAuthor {
                author: Author::System,
                client_id: "ed".to_owned(),
                organization: OdsCode::parse("ZZ101").unwrap(),
                organization_name: "EASTVALE GENERAL HOSPITAL ED".to_owned(),
                sensitive: false,
                scheduled_setting: false,
            },
            request_id: sequence.to_string(),
        }
    }

    fn rows(newest: i64) -> Vec<Access> {
        (1..=newest).rev().map(row).collect()
    }

    fn sequences(shown: &[Access]) -> Vec<i64> {
        shown.iter().map(|row| row.sequence).collect()
    }

    #[test]
    fn the_first_access_is_listed() {
        assert!(decide(at("2026-11-03T21:45:00Z"), &[], &Limits::default()));
    }

    #[test]
    fn exactly_24_hours_after_the_listed_one_is_new() {
        let listed = [at("2026-11-02T21:45:00Z")];
        assert!(!decide(at("2026-11-03T21:44:59.999Z"), &listed, &Limits::default()));
        assert!(decide(at("2026-11-03T21:45:00Z"), &listed, &Limits::default()));
        assert!(!decide(listed[0], &listed, &Limits::default()));
    }

    #[test]
    fn the_window_is_24_hours_even_when_the_clocks_change() {
        let listed = [at("2026-10-24T22:00:00Z")];
        assert!(!decide(at("2026-10-25T21:59:59Z"), &listed, &Limits::default()));
        assert!(decide(at("2026-10-25T22:00:00Z"), &listed, &Limits::default()));
    }

    #[test]
    fn a_listed_one_in_the_future_suppresses_nothing() {
        let now = at("2026-11-03T21:45:00Z");
        assert!(decide(now, &[now + TimeDelta::milliseconds(1)], &Limits::default()));
        assert!(!decide(now, &[now + TimeDelta::hours(1), now - TimeDelta::hours(1)], &Limits::default()));
    }

    #[test]
    fn the_callers_own_row_takes_the_last_place_when_it_would_fall_out() {
        let history = rows(30);
        assert_eq!(sequences(&shown_history(&history, None, 25)), (6..=30).rev().collect::<Vec<_>>());
        assert_eq!(sequences(&shown_history(&history, Some(&row(6)), 25)), (6..=30).rev().collect::<Vec<_>>());
        let with_own: Vec<i64> = (7..=30).rev().chain([2]).collect();
        assert_eq!(sequences(&shown_history(&history, Some(&row(2)), 25)), with_own);
        assert_eq!(sequences(&shown_history(&history[..25], Some(&row(2)), 25)), with_own);
        assert_eq!(sequences(&shown_history(&rows(3), Some(&row(3)), 25)), [3, 2, 1]);
        assert!(shown_history(&[], None, 25).is_empty());
    }

    proptest! {
        /// An author who looks at random moments: an access is listed exactly when 24 h have passed since the listed one
        /// before it, whatever repeats lie between.
        #[test]
        fn repeats_never_move_the_window(gaps in proptest::collection::vec(0_i64..40 * 3_600_000, 1..60)) {
            let mut now = at("2026-01-01T00:00:00Z");
            let (mut listed, mut window_opened) = (Vec::new(), None);
            for gap in gaps {
                now += TimeDelta::milliseconds(gap);
                let expected = window_opened.is_none_or(|opened| now >= opened + TimeDelta::days(1));
                prop_assert_eq!(decide(now, &listed, &Limits::default()), expected);
                if expected {
                    window_opened = Some(now);
                    listed.insert(0, now);
                }
            }
        }

        #[test]
        fn the_order_of_earlier_accesses_does_not_matter(
            mut hours_ago in proptest::collection::vec(-50_i64..50, 0..10).prop_shuffle()
        ) {
            let now = at("2026-01-01T00:00:00Z");
            let listed = |hours: &[i64]| hours.iter().map(|h| now - TimeDelta::hours(*h)).collect::<Vec<_>>();
            let as_given = decide(now, &listed(&hours_ago), &Limits::default());
            prop_assert_eq!(as_given, !hours_ago.iter().any(|h| (0..24).contains(h)));
            hours_ago.sort_unstable();
            prop_assert_eq!(decide(now, &listed(&hours_ago), &Limits::default()), as_given);
        }

        #[test]
        fn the_shown_rows_are_the_newest_and_hold_the_callers_own(
            count in 0_i64..60, own in proptest::option::of(1_i64..60), limit in 1_usize..30
        ) {
            let history = rows(count);
            let own = own.filter(|own| *own <= count).map(row);
            let shown = shown_history(&history, own.as_ref(), limit);
            prop_assert_eq!(shown.len(), history.len().min(limit));
            prop_assert!(shown.windows(2).all(|pair| pair[0].sequence > pair[1].sequence));
            prop_assert!(own.as_ref().is_none_or(|own| shown.contains(own)));
            let others = shown.iter().filter(|row| Some(*row) != own.as_ref()).count();
            prop_assert!(shown.iter().take(others).filter(|row| Some(*row) != own.as_ref())
                .all(|row| history[..limit.min(history.len())].contains(row)));
        }
    }
}
