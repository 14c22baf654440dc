//! An upload of many records (design 6, staging): its records are judged and written in batches, behind everything else
//! that waits for the writer, and count for nobody until one transaction marks the upload as applied. What stops before
//! that leaves nothing.

use std::{sync::Arc, time::Duration};

use futures_util::future::join;

use super::{
    answer::{KeptAnswer, LoadedOrganization, NotApplied},
    apply::{Before, SentRecord, UploadHead, file_code},
    discard::hold,
    identity::FileDigest,
    kept::{Keeping, event, file_event, number_of, organization_event},
    record::{Judging, judge_organization, write_organization},
    turn::{self, LEASE},
};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        trace::Traces,
        types::{
            NhsNumber, Organization,
            audit::Outcome,
            upload::{OrganizationChange, Problem},
        },
    },
    store::{
        self, StoreError, Tx,
        history::Recording,
        lease::Fence,
        upload::{STAGED, WAITING},
    },
};

/// The records of an upload, one after the other.
pub(super) type Source = Box<dyn Iterator<Item = SentRecord> + Send>;

/// How often a lease is renewed while nothing is written under it.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// How a staged upload ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With a final answer, that of this upload.
    Final { key: i64, repeated: bool },
    /// Nothing of it is stored.
    NotApplied(NotApplied),
}

/// How the wait for its turn ended.
enum Claimed {
    Staged(Fence),
    Ended(Ended),
}

/// Why an upload goes no further.
enum Stop {
    NotApplied(NotApplied),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::DemographicsUnavailable => Self::NotApplied(NotApplied::Demographics),
            other => Self::Error(other),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}

impl Gateway {
    /// Makes an upload of `count` records known; returns its key.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub(super) async fn begin_staging(
        &self,
        head: &UploadHead,
        count: usize,
        identity: Option<[u8; 32]>,
    ) -> Result<i64, Error> {
        let (new, now_ms) = (head.as_new(count, identity), self.clock.now().timestamp_millis());
        let begun = self.store.write(Vec::new(), move |tx| store::upload::begin(tx.conn, &new, WAITING, now_ms));
        Ok(begun.await?)
    }

    /// Stages and applies an upload that was begun. `expected` is the hash of what its records have to be, if they were
    /// read before.
    ///
    /// # Errors
    /// [`Error`] when the store fails or another process has taken over: then nothing is applied.
    pub(super) async fn stage(
        &self,
        key: i64,
        head: Arc<UploadHead>,
        source: Source,
        count: usize,
        identity: Option<[u8; 32]>,
        expected: Option<[u8; 32]>,
    ) -> Result<Ended, Error> {
        let fence = match self.claim(&head, key, identity).await {
            Ok(Claimed::Staged(fence)) => fence,
            Ok(Claimed::Ended(ended)) => return Ok(ended),
            Err(Error::Occupied) => {
                self.end_waiting(&head, key, NotApplied::Occupied, None).await?;
                return Ok(Ended::NotApplied(NotApplied::Occupied));
            }
            Err(error) => return Err(error),
        };
        let run = Run { gateway: self.clone(), head: head.clone(), key, fence, count };
        match run.beating(run.run(source, expected)).await {
            Ok(()) => {
                self.uploads.turn_is_over();
                if let Err(error) = self.forget_traces_of(head.authority()).await {
                    tracing::warn!(%error, "the traces of an upload are kept for a day");
                }
                Ok(Ended::Final { key, repeated: false })
            }
            Err(Stop::NotApplied(why)) => {
                self.discard(&run.fence, key, &head, &why).await?;
                Ok(Ended::NotApplied(why))
            }
            Err(Stop::Error(error)) => {
                if let Err(left) = self.discard(&run.fence, key, &head, &NotApplied::Failed).await {
                    tracing::warn!(error = %left, upload = %head.id, "what was staged is left to be discarded");
                }
                Err(error)
            }
        }
    }

    /// Waits until the upload is the one that its authority's lease is held for, and nothing is left of others.
    async fn claim(&self, head: &Arc<UploadHead>, key: i64, identity: Option<[u8; 32]>) -> Result<Claimed, Error> {
        let (authority, patience) = (head.authority(), self.patience());
        let fence = loop {
            let (name, holder, now) = (turn::lease_of(authority), head.id.to_string(), self.clock.now());
            let taken =
                self.store.write(Vec::new(), move |tx| store::lease::acquire(tx.conn, &name, &holder, now, LEASE));
            if let Some(fence) = taken.await? {
                break fence;
            }
            self.wait_for_turn(authority, patience).await?;
        };
        self.clear(authority, &fence, false).await?;
        let (gateway, sent, held) = (self.clone(), head.clone(), fence.clone());
        let known = self.store.write(Vec::new(), move |tx| {
            hold(&gateway, tx, &held)?;
            let known = gateway.what_is_known(tx.conn, &sent, identity)?;
            if !matches!(known, Before::New) {
                return Ok(Some(known));
            }
            gateway.count_gap(tx.conn, &sent, identity)?;
            store::organization::lock(tx.conn, authority)?;
            if !store::organization::get(tx.conn, authority)?.active {
                // Closed since the caller was let in: another has taken over.
                return Err(StoreError::Race);
            }
            Ok(if store::upload::advance(tx.conn, key, WAITING, STAGED)? { Some(Before::New) } else { None })
        });
        let known = match known.await {
            Ok(known) => known,
            Err(error) => {
                self.end_waiting(head, key, NotApplied::Failed, Some(fence)).await?;
                return Err(error.into());
            }
        };
        let (ended, why) = match known {
            Some(Before::New) => return Ok(Claimed::Staged(fence)),
            Some(Before::Answered(original)) => {
                let reason = "The same file was sent twice at once. Send it again to be given its answer.";
                (Ended::Final { key: original, repeated: true }, NotApplied::Refused(reason.to_owned()))
            }
            Some(Before::Refused(reason)) => {
                let why = NotApplied::Refused(reason);
                (Ended::NotApplied(why.clone()), why)
            }
            None => (Ended::NotApplied(NotApplied::Cancelled), NotApplied::Cancelled),
        };
        self.end_waiting(head, key, why, Some(fence)).await?;
        Ok(Claimed::Ended(ended))
    }

    /// An upload that was never staged ends.
    async fn end_waiting(
        &self,
        head: &UploadHead,
        key: i64,
        why: NotApplied,
        fence: Option<Fence>,
    ) -> Result<(), Error> {
        let mut event = event(head, head.interaction);
        event.outcome = Outcome::Refused;
        event.refusal =
            Some(if why == NotApplied::Occupied { "UNABLE_TO_CALL_SERVICE" } else { "INVALID_VALUE" }.to_owned());
        let (answer, now) = (KeptAnswer::NotApplied(why).write()?, self.clock.now());
        let done = self.store.write(Vec::new(), move |tx| {
            store::upload::set_discarded(tx.conn, key, Some(&answer))?;
            tx.append_audit(now, event.clone())?;
            fence.as_ref().map_or(Ok(()), |fence| store::lease::give_up(tx.conn, fence))
        });
        done.await?;
        self.uploads.turn_is_over();
        Ok(())
    }
}

/// An upload whose turn it is.
struct Run {
    gateway: Gateway,
    head: Arc<UploadHead>,
    key: i64,
    fence: Fence,
    count: usize,
}

/// Records that are judged in one transaction.
struct Batch {
    records: Vec<SentRecord>,
    numbers: Vec<NhsNumber>,
    traces: Traces,
}

/// How many records of a batch were loaded and refused.
struct Written {
    loaded: usize,
    refused: usize,
}

/// How the attempt to apply ended.
enum Finished {
    Applied,
    Cancelled,
    /// The authority's own entry is refused now, and with it its transaction.
    OrganizationRefused,
}

impl Run {
    async fn run(&self, source: Source, expected: Option<[u8; 32]>) -> Result<(), Stop> {
        let (authority, organization_refused) = self.authority().await?;
        let (mut loaded, mut refused, mut digest) = (0, 0, FileDigest::new());
        let (mut source, mut batch) = self.next(source).await?;
        while !batch.records.is_empty() {
            if expected.is_some() {
                batch.records.iter().for_each(|sent| digest.add(&sent.record));
            }
            // The next batch is read and traced while this one is written.
            let (written, next) = join(self.write(batch, loaded + refused, &authority), self.next(source)).await;
            let Some(written) = written? else { return Err(Stop::NotApplied(NotApplied::Cancelled)) };
            (loaded, refused) = (loaded + written.loaded, refused + written.refused);
            (source, batch) = next?;
        }
        if loaded + refused != self.count || expected.is_some_and(|expected| expected != digest.finish()) {
            return Err(StoreError::Corrupt("a file changed while it was read").into());
        }
        let mut stored = !(self.head.all_or_nothing && (refused > 0 || organization_refused));
        loop {
            if !stored {
                self.gateway.discard_versions(&self.fence, self.key).await?;
                self.gateway.refuse_good_records(&self.fence, self.key).await?;
            }
            match self.finish(loaded, stored).await? {
                Finished::Applied => return Ok(()),
                Finished::Cancelled => return Err(Stop::NotApplied(NotApplied::Cancelled)),
                Finished::OrganizationRefused => stored = false,
            }
        }
    }

    /// Runs `work`, and renews the lease while that takes its time.
    async fn beating<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(RENEW_EVERY) => {
                    let (gateway, fence) = (self.gateway.clone(), self.fence.clone());
                    let held = self.gateway.store.write(Vec::new(), move |tx| hold(&gateway, tx, &fence)).await;
                    if let Err(error) = held {
                        tracing::warn!(%error, upload = %self.head.id, "an upload's lease could not be renewed");
                    }
                }
            }
        }
    }

    /// The authority as its records are judged: with its own entry, though that is written last.
    async fn authority(&self) -> Result<(Organization, bool), Stop> {
        let id = self.head.authority();
        let authority = self.gateway.store.read(move |conn| store::organization::get(conn, id)).await?;
        Ok(match &self.head.organization {
            None => (authority, false),
            Some(Err(_)) => (authority, true),
            Some(Ok(change)) => match judge_organization(&authority, change) {
                Ok((after, _)) => (after, false),
                Err(_) => (authority, true),
            },
        })
    }

    /// The next records, traced; none at the end.
    async fn next(&self, mut source: Source) -> Result<(Source, Batch), Stop> {
        let most = self.gateway.uploads.batch_records;
        // What reads them may read a file.
        let read = tokio::task::spawn_blocking(move || {
            let records: Vec<SentRecord> = source.by_ref().take(most).collect();
            (source, records)
        });
        let (source, records) = read.await.map_err(|_| StoreError::Corrupt("a file that can't be read"))?;
        let mut numbers: Vec<NhsNumber> = records.iter().filter_map(|sent| number_of(&sent.record)).collect();
        let traces = self.gateway.traces(&mut numbers, Some(self.head.authority())).await?;
        Ok((source, Batch { records, numbers, traces }))
    }

    /// Judges and writes a batch whose first record has this position. `None`: the upload was cancelled.
    async fn write(
        &self,
        batch: Batch,
        position: usize,
        authority: &Organization,
    ) -> Result<Option<Written>, StoreError> {
        let (gateway, head, fence, key) = (self.gateway.clone(), self.head.clone(), self.fence.clone(), self.key);
        let (authority, numbers) = (authority.clone(), batch.numbers.clone());
        let write = self.gateway.store.write_behind(numbers, move |tx| {
            hold(&gateway, tx, &fence)?;
            if !store::upload::judged(tx.conn, key, position + batch.records.len())? {
                return Ok(None);
            }
            store::organization::lock(tx.conn, authority.id)?;
            let now = gateway.clock.now();
            let recording = Recording::begin(tx.conn, authority.id, key, now.timestamp_millis())?;
            let traces = &batch.traces;
            let judging =
                Judging { gateway: &gateway, traces, authority: authority.clone(), recording, now, shows: false };
            write_batch(tx, &judging, &head, &batch, position, key).map(Some)
        });
        write.await
    }

    /// Marks the upload as applied with its answer and its audit, and gives up the lease.
    async fn finish(&self, loaded: usize, stored: bool) -> Result<Finished, StoreError> {
        let (gateway, head, fence, key) = (self.gateway.clone(), self.head.clone(), self.fence.clone(), self.key);
        let count = self.count;
        let finish = self.gateway.store.write(Vec::new(), move |tx| {
            hold(&gateway, tx, &fence)?;
            let (now, authority) = (gateway.clock.now(), head.authority());
            store::organization::lock(tx.conn, authority)?;
            let organization = match &head.organization {
                Some(Ok(change)) => Some(organization(tx, authority, change, stored, now)?),
                Some(Err(problem)) => Some(Err(problem.clone())),
                None => None,
            };
            let refused = matches!(organization, Some(Err(_)));
            if refused && stored && head.all_or_nothing {
                return Ok(Finished::OrganizationRefused);
            }
            let (code, now_ms) = (file_code(loaded, count, refused, stored), now.timestamp_millis());
            let answer = KeptAnswer::Final { organization: KeptAnswer::organization(organization.as_ref()), stored };
            if !store::upload::apply(tx.conn, key, code, &answer.write()?, now_ms)? {
                return Ok(Finished::Cancelled);
            }
            if let Some(judged) = &organization {
                tx.append_audit(now, organization_event(&head, judged, !stored))?;
            }
            if let Some(event) = file_event(&head, count, stored) {
                tx.append_audit(now, event)?;
            }
            gateway.confirm(tx, &head, code, now_ms)?;
            store::lease::give_up(tx.conn, &fence)?;
            Ok(Finished::Applied)
        });
        finish.await
    }
}

/// What becomes of the authority's own entry; written unless its transaction is refused.
fn organization(
    tx: &mut Tx<'_>,
    authority: i64,
    change: &OrganizationChange,
    stored: bool,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Result<LoadedOrganization, Problem>, StoreError> {
    let authority = store::organization::get(tx.conn, authority)?;
    if stored {
        return write_organization(tx, &authority, change, now);
    }
    let judged = judge_organization(&authority, change);
    Ok(judged.map(|(_, change)| LoadedOrganization { organization: authority, change }))
}

fn write_batch(
    tx: &mut Tx<'_>,
    judging: &Judging<'_>,
    head: &UploadHead,
    batch: &Batch,
    first: usize,
    key: i64,
) -> Result<Written, StoreError> {
    let (now, now_ms) = (judging.now, judging.now.timestamp_millis());
    let keeping = Keeping { head, traces: &batch.traces.by_number, now, is_read_again: true };
    let (mut kept, mut loaded) = (Vec::with_capacity(batch.records.len()), Vec::new());
    let mut refused = 0;
    for (offset, sent) in batch.records.iter().enumerate() {
        let outcome = judging.record(tx, &sent.record)?;
        kept.push(keeping.record(first + offset, sent, &outcome, false)?);
        tx.append_audit(now, keeping.record_event(&sent.record, &outcome, false))?;
        match outcome {
            Ok(_) => loaded.extend(number_of(&sent.record)),
            Err(_) => refused += 1,
        }
    }
    store::upload::add_records(tx.conn, key, &kept, now_ms)?;
    store::upload::resolve(tx.conn, head.authority(), key, &loaded, now_ms)?;
    Ok(Written { loaded: batch.records.len() - refused, refused })
}
