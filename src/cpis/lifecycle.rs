//! The rounds of what becomes of records after they were sent: ends by the system, the register, silence. One process at a
//! time works, under the lease `lifecycle`; each change renews it. A round is cut into short transactions, so that
//! look-ups never wait long, and a process that dies leaves nothing half done.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    ends::AT_ONCE,
    gateway::{Error, Gateway},
};
use crate::{
    demographics::Source,
    store::{StoreError, Tx, lease},
};

const LEASE: &str = "lifecycle";
/// Batches of ends in one round: what is left is for the next one.
const MOST_BATCHES: usize = 32;

/// On what terms a process looks after records.
#[derive(Clone, Debug)]
pub struct LifecycleTerms {
    /// Names the process among those of the same database.
    pub process: String,
    /// How long the lease lasts after each renewal: a process that died is followed after that.
    pub lease: TimeDelta,
    /// Stored numbers that one round compares with the register.
    pub compared_at_once: usize,
}

impl LifecycleTerms {
    /// Renews the lease within a transaction; false when another process has it.
    pub(super) fn hold(&self, tx: &mut Tx<'_>, now: DateTime<Utc>) -> Result<bool, StoreError> {
        lease::take(tx.conn, LEASE, &self.process, now, self.lease)
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedAfter {
    /// Ends that the system wrote.
    pub ended: usize,
    /// Ends that it took back.
    pub reopened: usize,
    /// Numbers of which the register said something new.
    pub numbers: usize,
    /// Alerts of silent authorities that were raised.
    pub alerts: usize,
    /// Acknowledgements that were queued once more.
    pub shown_again: usize,
    /// The last person compared: the next round goes on after it.
    pub compared_to: i64,
}

impl Gateway {
    /// One round; `compared_to` is that of the round before, 0 at first. Nothing while another process has the lease.
    ///
    /// # Errors
    /// [`Error`]; what was done before it stays done, the next round goes on.
    pub async fn look_after_records(&self, terms: &LifecycleTerms, compared_to: i64) -> Result<LookedAfter, Error> {
        let mut done = LookedAfter { compared_to, ..LookedAfter::default() };
        if !self.takes_lifecycle(terms).await? {
            return Ok(done);
        }
        // First: a corrected birth date is acted on in the same round.
        if self.demographics.source() == Source::Register {
            let compared = self.compare_with_register(compared_to, terms.compared_at_once).await?;
            (done.numbers, done.compared_to) = (compared.changed, compared.last);
        }
        for _ in 0..MOST_BATCHES {
            let batch = self.end_due_records(terms).await?;
            done.ended += batch.ended;
            done.reopened += batch.reopened;
            if batch.children < AT_ONCE {
                break;
            }
        }
        done.alerts = self.alert_of_silence(terms).await?.len();
        done.shown_again = self.show_refusals_again(terms).await?;
        self.forget_counted_children(terms).await?;
        Ok(done)
    }

    /// Takes the lease, or looks whether another process has it without waiting for the writer.
    async fn takes_lifecycle(&self, terms: &LifecycleTerms) -> Result<bool, Error> {
        let (now, process) = (self.clock.now(), terms.process.clone());
        if !self.store.read(move |conn| lease::is_free(conn, LEASE, &process, now)).await? {
            return Ok(false);
        }
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| terms.hold(tx, clock.now()));
        Ok(write.await?)
    }

    /// Gives the lease up, so that the next process needn't wait until it has run out.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn release_lifecycle(&self, terms: &LifecycleTerms) -> Result<(), Error> {
        let process = terms.process.clone();
        let write = self.store.write(Vec::new(), move |tx| lease::release(tx.conn, LEASE, &process));
        Ok(write.await?)
    }
}
