//! How long to wait after a failed sending: doubled each time, capped, spread so that hooks that failed together are not
//! tried together, and never shorter than the hook asked for (up to the cap).

use std::time::Duration;

use chrono::TimeDelta;
use openssl::sha::sha256;
use uuid::Uuid;

use super::NotifierSettings;

/// The pause after the `failures`-th failure in a row (from 1): between three quarters and the whole of
/// `retry_first` * 2^(failures - 1), at most `retry_longest`; a longer `retry_after` is honoured up to `retry_longest`.
/// The spread comes from a hash of `id` and `failures`, so it is the same each time it is asked.
pub(super) fn pause(settings: &NotifierSettings, id: Uuid, failures: i64, retry_after: Option<Duration>) -> TimeDelta {
    let longest = settings.retry_longest.num_milliseconds();
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(32);
    let nominal = settings.retry_first.num_milliseconds().saturating_mul(1 << doublings).min(longest);
    let hash = sha256(format!("{id}|{failures}").as_bytes());
    let share = i64::from(u16::from_be_bytes([hash[0], hash[1]]));
    let spread = nominal - nominal / 4 * share / i64::from(u16::MAX);
    let asked = retry_after.map_or(0, |after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    TimeDelta::milliseconds(spread.max(asked.min(longest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x6f1c_2a44_93b0_4f0e_8c1d_0a5b_7c9e_1f20);

    fn settings() -> NotifierSettings {
        NotifierSettings {
            hook_timeout: TimeDelta::seconds(10),
            retry_first: TimeDelta::seconds(30),
            retry_longest: TimeDelta::hours(1),
            retry_attempts: 100,
            catch_up: TimeDelta::days(30),
        }
    }

    #[test]
    fn the_pause_doubles_up_to_the_longest_and_is_spread_over_its_last_quarter() {
        let mut seconds: i64 = 30;
        for failures in 1..=40 {
            let pause = pause(&settings(), ID, failures, None);
            assert!(pause <= TimeDelta::seconds(seconds), "failure {failures}: {pause}");
            assert!(pause >= TimeDelta::milliseconds(seconds * 750), "failure {failures}: {pause}");
            seconds = (seconds * 2).min(3600);
        }
    }

    #[test]
    fn the_spread_is_of_the_notification_and_the_attempt_and_always_the_same() {
        let of = |id: u128, failures| pause(&settings(), Uuid::from_u128(id), failures, None);
        assert_eq!(of(1, 8), of(1, 8));
        let among: std::collections::BTreeSet<_> = (0..20).map(|id| of(id, 8)).collect();
        assert!(among.len() > 15, "{among:?}");
        assert_ne!(of(1, 20), of(1, 21), "both are at the cap");
    }

    #[test]
    fn a_longer_retry_after_is_honoured_up_to_the_longest_pause() {
        let after = |seconds| pause(&settings(), ID, 1, Some(Duration::from_secs(seconds)));
        assert_eq!(after(120), TimeDelta::seconds(120));
        assert_eq!(after(86_400), TimeDelta::hours(1));
        assert_eq!(after(u64::MAX), TimeDelta::hours(1));
        assert_eq!(after(1), pause(&settings(), ID, 1, None), "a shorter one changes nothing");
    }
}
