//! The time, injected: the system's clock in service, a hand-set one in tests. Instants are whole milliseconds UTC.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, TimeZone, Utc};

/// A source of the current time; cheap to clone, clones share a hand-set time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands until it is moved; for tests and for seeding the past.
    pub fn standing_at(at: DateTime<Utc>) -> Self {
        Self(Some(Arc::new(AtomicI64::new(at.timestamp_millis()))))
    }

    /// True of a clock that doesn't go by itself.
    pub fn stands(&self) -> bool {
        self.0.is_some()
    }

    /// Now, cut to milliseconds: SQLite and PostgreSQL keep different fractions (architecture 1.10).
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            None => from_millis(Utc::now().timestamp_millis()),
            Some(millis) => from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Sets a standing clock; no effect on the machine's.
    pub fn set(&self, at: DateTime<Utc>) {
        if let Some(millis) = &self.0 {
            millis.store(at.timestamp_millis(), Ordering::SeqCst);
        }
    }

    /// Moves a standing clock; no effect on the machine's.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(millis) = &self.0 {
            millis.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
        }
    }
}

/// The instant of a count of milliseconds since 1970; the epoch when out of chrono's range.
pub fn from_millis(millis: i64) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(millis).single().unwrap_or_default()
}
