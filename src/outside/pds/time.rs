//! Time as the client needs it, injected: tests ask about thousands of numbers without waiting for any of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

/// A source of time.
pub trait Time: Send + Sync {
    /// Since some beginning. Never goes back, whatever is done to the machine's clock.
    fn now(&self) -> Duration;

    /// The instant of this moment, for what others read.
    fn utc(&self) -> DateTime<Utc>;

    /// Ends when [`Time::now`] is `at` or later.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'_, ()>;

    /// Ends then too, but only bounds something else: time that is moved on by whoever sleeps is not moved on for it.
    fn passed(&self, at: Duration) -> BoxFuture<'_, ()>;
}
