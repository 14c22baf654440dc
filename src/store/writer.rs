//! The writer: one thread, one connection, one audit chain. Changes that wait together share one durable commit
//! (group commit), each undone alone if it fails alone. Parts of long work (an upload's batches) wait in a lane of their
//! own behind everything else (`super::lanes`), and have a commit each.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use diesel::Connection;
use tokio::sync::oneshot;

use super::{
    Conn, Location, StoreError,
    audit::Chain,
    checkpoint::{self, Signer},
    connection::on,
    lanes::{Lanes, Next},
    person,
};
use crate::{clock::Clock, cpis::types::NhsNumber};

/// Runs of a change that keeps losing a race.
const ATTEMPTS: usize = 3;
/// How long an idle writer waits before it renews its chain's lease.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// What a change sees: the transaction, and the audit chain that it may append to.
pub struct Tx<'a> {
    pub conn: &'a mut Conn,
    pub(super) chain: &'a mut Chain,
}

impl Tx<'_> {
    /// Runs `part` in a savepoint: what it did is undone when it returns `Ok(Err(_))` or `Err(_)`, audit included.
    ///
    /// # Errors
    /// The [`StoreError`] that `part` met; its own refusal comes back as the inner `Err`.
    pub fn savepoint<T, R>(
        &mut self,
        part: impl FnOnce(&mut Tx<'_>) -> Result<Result<T, R>, StoreError>,
    ) -> Result<Result<T, R>, StoreError> {
        enum Undo<R> {
            Refused(R),
            Failed(StoreError),
        }
        impl<R> From<diesel::result::Error> for Undo<R> {
            fn from(error: diesel::result::Error) -> Self {
                Self::Failed(error.into())
            }
        }
        let before = self.chain.mark();
        let chain = &mut *self.chain;
        let result = self.conn.transaction::<T, Undo<R>, _>(|conn| match part(&mut Tx { conn, chain }) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(refusal)) => Err(Undo::Refused(refusal)),
            Err(error) => Err(Undo::Failed(error)),
        });
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Undo::Refused(refusal)) => {
                self.chain.reset(before);
                Ok(Err(refusal))
            }
            Err(Undo::Failed(error)) => {
                self.chain.reset(before);
                Err(error)
            }
        }
    }
}

/// One waiting change.
trait Job: Send {
    fn children(&self) -> &[NhsNumber];
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    fn finish(self: Box<Self>, durable: Result<(), StoreError>);
}

struct Change<T, F> {
    children: Vec<NhsNumber>,
    change: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send> Job for Change<T, F> {
    fn children(&self) -> &[NhsNumber] {
        &self.children
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.result = Some((self.change)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, durable: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // The asker may have gone away; its change stands all the same.
        let _gone = reply.send(durable.and_then(|()| result.ok_or(StoreError::NotDurable)));
    }
}

/// Handle of the writer thread; clones share it.
#[derive(Clone)]
pub struct Writer {
    lanes: Arc<Lanes<Box<dyn Job>>>,
    /// Who signs the last checkpoint, if anybody does; set when the writer is closed.
    signer: Arc<Mutex<Option<Arc<dyn Signer>>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    _last: Arc<LastHandle>,
}

/// Ends the thread when the last handle is dropped.
struct LastHandle(Arc<Lanes<Box<dyn Job>>>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Which changes a change waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Those that came before it.
    First,
    /// All others: part of long work.
    Behind,
}

impl Writer {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(location: Location, process: String, clock: Clock) -> Result<Self, StoreError> {
        let conn = location.connect()?;
        let lanes = Arc::new(Lanes::default());
        let signer = Arc::new(Mutex::new(None));
        let (waiting, signed_by) = (lanes.clone(), signer.clone());
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                Loop { location, conn: Some(conn), chain: Chain::new(process), clock }.run(&waiting, &signed_by);
            })
            .map_err(StoreError::unavailable)?;
        let last = Arc::new(LastHandle(lanes.clone()));
        Ok(Self { lanes, signer, thread: Arc::new(Mutex::new(Some(thread))), _last: last })
    }

    pub(super) fn submit<T: Send + 'static>(
        &self,
        lane: Lane,
        children: Vec<NhsNumber>,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Change { children, change, result: None, reply });
        let taken = match lane {
            Lane::First => self.lanes.put_first(job),
            Lane::Behind => self.lanes.put_behind(job),
        };
        if taken { Ok(answer) } else { Err(StoreError::Busy) }
    }

    /// Changes that wait at this moment.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.waiting()
    }

    /// Lets what waits be written, closes the chain under a last checkpoint, ends the thread.
    pub(super) fn close(&self, signer: Option<Arc<dyn Signer>>) {
        *self.signer.lock().unwrap_or_else(PoisonError::into_inner) = signer;
        self.lanes.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _panicked = thread.join();
        }
    }
}

struct Loop {
    location: Location,
    /// `None` after a failure that may have broken it; opened anew for the next batch.
    conn: Option<Conn>,
    chain: Chain,
    clock: Clock,
}

impl Loop {
    fn run(mut self, waiting: &Lanes<Box<dyn Job>>, signer: &Mutex<Option<Arc<dyn Signer>>>) {
        loop {
            match waiting.next(HEARTBEAT) {
                Next::Together(batch) => self.write(batch),
                Next::Alone(job) => {
                    self.write(vec![job]);
                    waiting.behind_is_done();
                }
                Next::Nothing => self.renew_lease(),
                Next::Closed => break,
            }
        }
        let signer = signer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.close_chain(signer);
    }

    /// Writes a batch in one commit. When that was undone by a lost race or by one of the changes, each is written by
    /// itself, so that what fails by itself fails alone. Nothing is tried again after a commit whose result is not known,
    /// for it may have happened, nor while the database is away.
    fn write(&mut self, mut batch: Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        let attempted = match self.attempt(&mut batch) {
            // Lost before the commit, so nothing of it is stored; a new connection tells whether the database is back.
            Err(StoreError::Unavailable(_)) => self.attempt(&mut batch),
            attempted => attempted,
        };
        let outcomes = match attempted {
            Ok(outcomes) => outcomes,
            Err(StoreError::Race | StoreError::Busy) => batch.iter_mut().map(|job| self.alone(job)).collect(),
            Err(StoreError::Database(_) | StoreError::Corrupt(_)) if batch.len() > 1 => {
                batch.iter_mut().map(|job| self.alone(job)).collect()
            }
            Err(error) => {
                tracing::error!(%error, changes = batch.len(), "a commit failed");
                batch.iter().map(|_| Err(StoreError::NotDurable)).collect()
            }
        };
        for (job, outcome) in batch.into_iter().zip(outcomes) {
            job.finish(outcome);
        }
    }

    fn alone(&mut self, job: &mut Box<dyn Job>) -> Result<(), StoreError> {
        let mut last = StoreError::Busy;
        for _ in 0..ATTEMPTS {
            match self.attempt(std::slice::from_mut(job)) {
                Ok(mut outcomes) => return outcomes.pop().unwrap_or(Err(StoreError::NotDurable)),
                Err(error @ (StoreError::Race | StoreError::Busy)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// One transaction over all of `jobs`. `Ok`: it is durable, with each job's own outcome. `Err`: nothing is.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.location.connect()?,
        };
        let (now, before, chain) = (self.clock.now(), self.chain.mark(), &mut self.chain);
        let result = catch_unwind(AssertUnwindSafe(|| {
            transaction(&mut conn, |conn| {
                chain.renew(conn, now)?;
                lock_children(conn, jobs)?;
                let mut outcomes = Vec::with_capacity(jobs.len());
                for job in jobs.iter_mut() {
                    let outcome = Tx { conn, chain }.savepoint(|tx| job.run(tx).map(Ok::<(), ()>));
                    match outcome {
                        // The whole transaction is lost with a race on PostgreSQL: begin again.
                        Err(error @ (StoreError::Race | StoreError::Unavailable(_))) => return Err(error),
                        outcome => outcomes.push(outcome.map(|_| ())),
                    }
                }
                chain.store_head(conn)?;
                Ok(outcomes)
            })
        }));
        match result {
            Ok(Ok(outcomes)) => {
                self.conn = Some(conn);
                Ok(outcomes)
            }
            Ok(Err(error)) => {
                // Whether a failed commit happened can't be known from here: the head is read again before the next one.
                self.chain.reset(before);
                self.chain.doubt();
                if !matches!(error, StoreError::Unavailable(_) | StoreError::NotDurable) {
                    self.conn = Some(conn);
                }
                Err(error)
            }
            Err(_panic) => {
                tracing::error!("a change panicked; its transaction was undone");
                self.chain.reset(before);
                self.chain.doubt();
                Err(StoreError::Database("a change panicked"))
            }
        }
    }

    fn renew_lease(&mut self) {
        if self.chain.is_open()
            && let Err(error) = self.attempt(&mut [])
        {
            tracing::warn!(%error, "the audit chain's lease could not be renewed");
        }
    }

    fn close_chain(&mut self, signer: Option<Arc<dyn Signer>>) {
        if !self.chain.is_open() {
            return;
        }
        let now = self.clock.now();
        let Some(mut conn) = self.conn.take().or_else(|| self.location.connect().ok()) else { return };
        let chain = &mut self.chain;
        let closed = transaction(&mut conn, |conn| {
            chain.close(conn, now)?;
            match signer {
                Some(signer) => checkpoint::write_last(conn, &*signer, chain.process(), now),
                None => Ok(()),
            }
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "the audit chain could not be closed; the checkpointer will close it");
        }
    }
}

/// A write transaction: SQLite takes the write lock at once, so that it never has to upgrade a read.
///
/// # Errors
/// What `body` returns; [`StoreError::NotDurable`] when the commit's result is not known.
pub(super) fn transaction<T>(
    conn: &mut Conn,
    body: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    use diesel::connection::{AnsiTransactionManager as Ansi, TransactionManager};
    match conn {
        Conn::Sqlite(c) => Ansi::begin_transaction_sql(c, "begin immediate")?,
        Conn::Postgres(c) => Ansi::begin_transaction(c)?,
    }
    match body(conn) {
        Ok(value) => {
            let committed = on!(conn, c => Ansi::commit_transaction(c));
            committed.map(|()| value).map_err(|error| match StoreError::from(error) {
                race @ (StoreError::Race | StoreError::Busy) => race,
                _ => StoreError::NotDurable,
            })
        }
        Err(error) => {
            let undone = on!(conn, c => Ansi::rollback_transaction(c));
            undone.map_err(StoreError::unavailable)?;
            Err(error)
        }
    }
}

/// Locks the persons at the end of the alias chains of all jobs' children, in ascending id (design 5).
fn lock_children(conn: &mut Conn, jobs: &[Box<dyn Job>]) -> Result<(), StoreError> {
    let numbers: Vec<NhsNumber> = jobs.iter().flat_map(|job| job.children().iter().copied()).collect();
    if matches!(conn, Conn::Sqlite(_)) || numbers.is_empty() {
        return Ok(());
    }
    person::lock_ends(conn, &numbers)
}
