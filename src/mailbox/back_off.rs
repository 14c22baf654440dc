//! How long to wait after a failure: doubled each time, capped, and spread so that messages that failed together don't all
//! come back together.

use chrono::TimeDelta;
use openssl::sha::sha256;

use super::MailboxSettings;

/// The pause after the `failures`-th failure (from 1) of what has this id: between three quarters and the whole of
/// `retry_first` * 2^(failures - 1), at most `retry_longest`; the same each time it is asked.
pub(super) fn pause(settings: &MailboxSettings, id: &str, failures: i64) -> TimeDelta {
    let longest = settings.retry_longest.num_milliseconds();
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(32);
    let nominal = settings.retry_first.num_milliseconds().saturating_mul(1 << doublings).min(longest);
    let hash = sha256(format!("{id}|{failures}").as_bytes());
    let share = i64::from(u16::from_be_bytes([hash[0], hash[1]]));
    TimeDelta::milliseconds(nominal - nominal / 4 * share / i64::from(u16::MAX))
}
