//! One change of an authority at a time (design 6): whoever stages one holds the authority's lease; the others wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use tokio::{sync::Notify, time::Instant};

use crate::{
    cpis::gateway::{Error, Gateway},
    store,
};

/// How long a process may write nothing before another discards what it staged.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(60);
/// How often it is asked whether another process has ended its change; those of this process tell.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How uploads are taken (configuration), and what is counted of them.
#[derive(Clone, Debug)]
pub struct Uploads {
    /// Records that are judged in one transaction, at most 64; a Bundle of no more is applied in one.
    pub batch_records: usize,
    /// How long a change waits for the one of its authority before it.
    pub wait: Duration,
    pub counts: Counts,
    /// Told whenever a change of this process has ended.
    ended: Arc<Notify>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self::new(16, Duration::from_secs(30))
    }
}

impl Uploads {
    pub fn new(batch_records: usize, wait: Duration) -> Self {
        Self { batch_records, wait, counts: Counts::default(), ended: Arc::default() }
    }

    pub(super) fn turn_is_over(&self) {
        self.ended.notify_waiters();
    }
}

/// What is counted of uploads since the process began.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<AtomicU64>);

impl Counts {
    pub(super) fn skipped(&self, numbers: i64) {
        self.0.fetch_add(u64::try_from(numbers).unwrap_or(0), Ordering::Relaxed);
    }

    /// File numbers that authorities left out.
    pub fn gaps(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The lease that the changes of an authority are made under.
pub(super) fn lease_of(authority: i64) -> String {
    format!("upload/{authority}")
}

impl Gateway {
    /// Until when a change that begins now waits for its turn.
    pub(super) fn patience(&self) -> Instant {
        Instant::now() + self.uploads.wait
    }

    /// Waits until no change of an authority is under way, as far as can be seen without trying.
    ///
    /// # Errors
    /// [`Error::Occupied`] when that takes too long.
    pub(super) async fn wait_for_turn(&self, authority: i64, until: Instant) -> Result<(), Error> {
        loop {
            let ended = self.uploads.ended.notified();
            let now = self.clock.now();
            // The name of nobody: whoever holds it is another.
            let free = self.store.read(move |conn| store::lease::is_free(conn, &lease_of(authority), "", now));
            if free.await? {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::Occupied);
            }
            let next = until.min(Instant::now() + ASK_EVERY);
            tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}
