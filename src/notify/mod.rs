//! The notifier: takes committed outbox rows to the authorities' subscriptions (design 7).
//!
//! - [`Notifier::pump`] does one round and waits for it; tests drive it. [`Notifier::run`] is the same as a background
//!   loop that never waits for a slow hook.
//! - What is told to whom, and what a failure means for the subscription, is decided in [`crate::cpis::notifications`];
//!   the loop, the tasks, the bundles and the pauses are here.
//! - One process at a time works, under the lease `notifier`; every change renews it and work stops when it is lost.
//! - A round: subscriptions whose end has come are switched off; outbox rows get their numbers; then each subscription
//!   with something due has a task of its own, which sends its events one after the other. A hook that hangs holds up
//!   its own subscription only, and no lock or transaction is held while anything is sent.
//! - What is sent is written down after the answer, so an event is sent **at least once**: after a crash in between it
//!   comes again under the same `Bundle.id` (the stable id of the outbox row) and the same event number.
//! - A failure is tried again after a pause ([`back_off`]), then it is `undeliverable`: kept, logged, and the
//!   subscription's status is `error` until a later event is taken. The next events are sent all the same, so that one
//!   that a hook can't digest doesn't silence it. A hook that answers 410 is gone: its subscription is switched off, and
//!   what it was not told waits.
//! - A subscription that asks for heartbeats gets one when nothing was sent to it for so long.
//! - Every sending is signed ([`crate::auth::notification_key`]).

mod back_off;
mod channel;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    auth::notification_key::NotificationKey,
    config::NotifySettings,
    cpis::{Error, Gateway, notifications::NotifierTerms},
    outside::hook::HookClient,
};

/// How much longer than a sending the lease lasts: a process that died is followed after that.
const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(20);
/// How often the background loop looks for work.
const TICK: Duration = Duration::from_secs(1);
/// How long a stop waits for what is being sent; what is cut off is sent again by the next process.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// When and how often to send.
#[derive(Clone, Debug)]
pub struct NotifierSettings {
    /// Longest time that the hook client waits for an answer.
    pub hook_timeout: TimeDelta,
    /// Pause before the second try; doubled after each further one.
    pub retry_first: TimeDelta,
    /// Longest pause between two tries; also caps `Retry-After`.
    pub retry_longest: TimeDelta,
    /// Tries before a notification is undeliverable, or a handshake given up.
    pub retry_attempts: i64,
    /// A new subscription gets the notifications of this time before its creation.
    pub catch_up: TimeDelta,
}

impl From<&NotifySettings> for NotifierSettings {
    fn from(settings: &NotifySettings) -> Self {
        Self {
            hook_timeout: TimeDelta::seconds(settings.hook_timeout_seconds.into()),
            retry_first: TimeDelta::seconds(settings.retry_first_seconds.into()),
            retry_longest: TimeDelta::seconds(settings.retry_longest_seconds.into()),
            retry_attempts: settings.retry_attempts.into(),
            catch_up: TimeDelta::days(settings.catch_up_days.into()),
        }
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Handshakes that succeeded.
    pub handshakes: usize,
    /// Heartbeats that a hook took.
    pub heartbeats: usize,
    /// Events that a hook took.
    pub delivered: usize,
    /// Sendings that failed, handshakes and heartbeats included.
    pub failed: usize,
    /// Events that wait for open subscriptions afterwards, due or not.
    pub waiting: usize,
}

impl Pumped {
    fn add(&mut self, other: Self) {
        self.handshakes += other.handshakes;
        self.heartbeats += other.heartbeats;
        self.delivered += other.delivered;
        self.failed += other.failed;
    }
}

/// The notifier of one process. Cheap to clone; clones share what is being sent.
#[derive(Clone)]
pub struct Notifier(Arc<Parts>);

struct Parts {
    gateway: Gateway,
    hooks: HookClient,
    key: NotificationKey,
    settings: NotifierSettings,
    terms: NotifierTerms,
    /// Absolute FHIR base, without a last slash.
    base_url: String,
    /// Subscriptions that have a task at this moment.
    busy: Mutex<HashSet<i64>>,
}

impl Notifier {
    /// `process` names this process among those of the same database; `hooks` and the key that signs what they post.
    pub fn new(
        gateway: Gateway,
        (hooks, key): (HookClient, NotificationKey),
        settings: NotifierSettings,
        base_url: String,
        process: String,
    ) -> Self {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let terms = NotifierTerms {
            process,
            lease: settings.hook_timeout + LEASE_MARGIN,
            attempts: settings.retry_attempts,
            catch_up: settings.catch_up,
        };
        Self(Arc::new(Parts { gateway, hooks, key, settings, terms, base_url, busy: Mutex::default() }))
    }

    /// One round, until all that was due has been sent or has failed. A subscription that an earlier call is still
    /// waiting for is left to that call, so a round begun meanwhile serves the others. Does nothing while another process
    /// has the lease.
    ///
    /// # Errors
    /// [`Error`] when the database fails; nothing is lost, the next round goes on.
    pub async fn pump(&self) -> Result<Pumped, Error> {
        let mut tasks = JoinSet::new();
        self.start_round(&mut tasks).await?;
        let mut done = Pumped::default();
        let mut fault = None;
        while let Some(task) = tasks.join_next().await {
            match finished(task) {
                Ok(part) => done.add(part),
                // The others are let finish: a task that is cut off may have sent what it could not write down.
                Err(error) => fault = Some(error),
            }
        }
        if let Some(error) = fault {
            return Err(error);
        }
        done.waiting = self.0.gateway.waiting_notifications().await?;
        Ok(done)
    }

    /// Works until `stop` is true or its sender is gone, then gives the lease up.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        while !*stop.borrow() {
            if let Err(error) = self.start_round(&mut tasks).await {
                tracing::warn!(%error, "notifications could not be looked through; they wait");
            }
            if !pause(&mut tasks, &mut stop).await {
                break;
            }
        }
        let rest = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WAIT, rest).await.is_err() {
            tracing::info!("a hook was still to answer at the stop; its notification is sent again");
            tasks.shutdown().await;
        }
        if let Err(error) = self.0.gateway.release_notifier(&self.0.terms).await {
            tracing::warn!(%error, "the notifier's lease could not be given up; it runs out by itself");
        }
    }

    /// Expiry, numbers, and a task for each subscription with something due that has none yet.
    async fn start_round(&self, tasks: &mut JoinSet<Result<Pumped, Error>>) -> Result<(), Error> {
        let Parts { gateway, terms, .. } = &*self.0;
        let works = gateway.has_notifier_work(terms).await?
            && gateway.expire_subscriptions(terms).await?
            && gateway.route_notifications(terms).await?;
        if !works {
            return Ok(());
        }
        let due = gateway.notifier_turns().await?;
        for subscription in due.handshakes {
            if let Some(turn) = self.turn(subscription.key) {
                tasks.spawn(self.clone().handshake(subscription, turn));
            }
        }
        for key in due.events {
            if let Some(turn) = self.turn(key) {
                tasks.spawn(self.clone().send_due(turn));
            }
        }
        // After the events: one that is being told something needs no heartbeat.
        for subscription in due.heartbeats {
            if let Some(turn) = self.turn(subscription.key) {
                tasks.spawn(self.clone().heartbeat(subscription, turn));
            }
        }
        Ok(())
    }

    /// The right to send to a subscription; `None` while another task has it.
    fn turn(&self, key: i64) -> Option<Turn> {
        let new = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        new.then(|| Turn { parts: self.0.clone(), key })
    }
}

/// One task's right to send to one subscription; given back when dropped, also by a panic or a stop.
struct Turn {
    parts: Arc<Parts>,
    key: i64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.parts.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

type Joined = Result<Result<Pumped, Error>, tokio::task::JoinError>;

fn finished(task: Joined) -> Result<Pumped, Error> {
    task.unwrap_or_else(|error| {
        tracing::error!(panicked = error.is_panic(), "the sending of a notification broke off; it is tried again");
        Ok(Pumped { failed: 1, ..Pumped::default() })
    })
}

/// Waits for a tick, or less when a task has got on and there may be more for it. False when it is time to stop.
async fn pause(tasks: &mut JoinSet<Result<Pumped, Error>>, stop: &mut watch::Receiver<bool>) -> bool {
    let tick = tokio::time::sleep(TICK);
    tokio::pin!(tick);
    loop {
        tokio::select! {
            changed = stop.changed() => return changed.is_ok() && !*stop.borrow(),
            () = &mut tick => return true,
            Some(task) = tasks.join_next(), if !tasks.is_empty() => match task {
                Ok(Ok(done)) if done.handshakes + done.delivered > 0 => return true,
                Ok(Err(error)) => tracing::warn!(%error, "a notification could not be sent or written down"),
                // After a failure there is a pause anyway.
                task => drop(finished(task)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
