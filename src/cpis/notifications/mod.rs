//! What an authority's subscriptions are told, and how a sending is recorded (design 7). Sending itself is the notifier's.
//!
//! One process at a time works, under the lease `notifier`: each change renews it and answers whether it still holds, so
//! that numbers are given by one process only.

mod event;
pub mod operator;
pub(super) mod queue;

pub(super) use event::{may_be_told, tellable};

use chrono::TimeDelta;

use super::{
    gateway::{Error, Gateway},
    types::subscription::{Delivery, Event, FailedSending, Subscription, SubscriptionStatus},
};
use crate::{
    clock::Clock,
    store::{
        Conn, StoreError, Tx,
        delivery::{self, Attempt},
        lease, subscription,
    },
};

pub(super) const LEASE: &str = "notifier";
/// What the owner of a subscription reads when its endpoint answered 410.
const GONE: &str = "The endpoint answered 410 Gone, so this Subscription was switched off. What was not delivered is kept: \
                    correct the endpoint and update this Subscription with status requested.";
/// Rows that one transaction gives numbers to: look-ups wait behind it (design 6: at most 64).
pub const ROUTED_AT_ONCE: usize = 64;

/// On what terms a process notifies.
#[derive(Clone, Debug)]
pub struct NotifierTerms {
    /// Names the process among those of the same database: holder of the lease.
    pub process: String,
    /// How long the lease lasts after each renewal: a process that died is followed after that.
    pub lease: TimeDelta,
    /// Tries before a notification is undeliverable, or a handshake given up.
    pub attempts: i64,
    /// A new subscription gets the notifications of this time before its creation.
    pub catch_up: TimeDelta,
}

impl NotifierTerms {
    /// True if nothing is tried again after so many failures in a row.
    pub fn is_last_try(&self, failures: i64) -> bool {
        failures >= self.attempts
    }

    /// Renews the lease within a transaction. On PostgreSQL that also locks its row: what two processes do under it
    /// can't interleave, even if one was thought dead.
    fn hold(&self, tx: &mut Tx<'_>, clock: &Clock) -> Result<bool, StoreError> {
        lease::take(tx.conn, LEASE, &self.process, clock.now(), self.lease)
    }
}

/// What is due at a moment.
#[derive(Debug)]
pub struct NotifierTurns {
    /// Subscriptions whose handshake is due.
    pub handshakes: Vec<Subscription>,
    /// Keys of the subscriptions whose next event is due, ascending.
    pub events: Vec<i64>,
    /// Subscriptions that have been told nothing for so long that a heartbeat is due.
    pub heartbeats: Vec<Subscription>,
}

fn turns(conn: &mut Conn, now_ms: i64) -> Result<NotifierTurns, StoreError> {
    Ok(NotifierTurns {
        handshakes: subscription::handshakes_due(conn, now_ms)?,
        events: queue::due(conn, now_ms)?,
        heartbeats: subscription::heartbeats_due(conn, now_ms)?,
    })
}

impl Gateway {
    /// Whether a process may notify and has something to do. Changes nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_notifier_work(&self, terms: &NotifierTerms) -> Result<bool, Error> {
        let (now, process) = (self.clock.now(), terms.process.clone());
        let read = self.store.read(move |conn| {
            let now_ms = now.timestamp_millis();
            Ok(lease::is_free(conn, LEASE, &process, now)?
                && (subscription::any_expired(conn, now_ms)?
                    || !subscription::handshakes_due(conn, now_ms)?.is_empty()
                    || queue::is_routable(conn, now_ms)?
                    || !subscription::heartbeats_due(conn, now_ms)?.is_empty()
                    || !queue::due(conn, now_ms)?.is_empty()))
        });
        Ok(read.await?)
    }

    /// Takes the lease and switches off the subscriptions whose end has come; false when another process has it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn expire_subscriptions(&self, terms: &NotifierTerms) -> Result<bool, Error> {
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            if !terms.hold(tx, &clock)? {
                return Ok(false);
            }
            subscription::expire(tx.conn, clock.now().timestamp_millis())?;
            Ok(true)
        });
        Ok(write.await?)
    }

    /// Gives committed rows to the open subscriptions of their authority under their next numbers, a few a transaction;
    /// false when the lease was lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn route_notifications(&self, terms: &NotifierTerms) -> Result<bool, Error> {
        loop {
            let (terms, clock) = (terms.clone(), self.clock.clone());
            let routed = self.store.write(Vec::new(), move |tx| {
                if !terms.hold(tx, &clock)? {
                    return Ok(None);
                }
                queue::route(tx.conn, clock.now().timestamp_millis(), ROUTED_AT_ONCE).map(Some)
            });
            match routed.await? {
                None => return Ok(false),
                Some(false) => return Ok(true),
                Some(true) => {}
            }
        }
    }

    /// The subscriptions that something is to be sent to now.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn notifier_turns(&self) -> Result<NotifierTurns, Error> {
        let now_ms = self.clock.now().timestamp_millis();
        Ok(self.store.read(move |conn| turns(conn, now_ms)).await?)
    }

    /// The next event of a subscription, if the subscription is open and the event is due.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn next_notification(&self, subscription: i64) -> Result<Option<(Subscription, Delivery)>, Error> {
        let now_ms = self.clock.now().timestamp_millis();
        let read = self.store.read(move |conn| {
            let Some(open) = subscription::find_open(conn, subscription, now_ms)? else { return Ok(None) };
            Ok(queue::next(conn, subscription, now_ms)?.map(|event| (open, event)))
        });
        Ok(read.await?)
    }

    /// An event with all that may be told of it.
    ///
    /// # Errors
    /// [`Error::Fault`] when it can't be read: a fault of that event alone. [`Error`] otherwise.
    pub async fn told_event(&self, delivery: &Delivery) -> Result<Event, Error> {
        let (gateway, delivery) = (self.clone(), delivery.clone());
        Ok(self.store.read(move |conn| gateway.event(conn, &delivery)).await?)
    }

    /// The handshake succeeded: the subscription is active and catches up. Recorded whoever has the lease, since the
    /// endpoint did agree; false when its events are not for this process to send: it was changed, deleted or ended
    /// meanwhile, or the lease was lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn activate_subscription(
        &self,
        terms: &NotifierTerms,
        subscription: &Subscription,
    ) -> Result<bool, Error> {
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let asked = (subscription.key, subscription.version);
        let write = self.store.write(Vec::new(), move |tx| {
            let now_ms = clock.now().timestamp_millis();
            let active = subscription::activate(tx.conn, asked, terms.catch_up.num_milliseconds(), now_ms)?;
            Ok(active && terms.hold(tx, &clock)?)
        });
        Ok(write.await?)
    }

    /// The handshake failed, for the `failures`-th time: it is tried again after its pause, or given up after the last, or
    /// at once when the endpoint is gone. Says nothing of a subscription that was changed meanwhile: its handshake is
    /// another one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record_failed_handshake(
        &self,
        terms: &NotifierTerms,
        subscription: &Subscription,
        failures: i64,
        fault: FailedSending,
    ) -> Result<(), Error> {
        let (clock, key, version) = (self.clock.clone(), subscription.key, subscription.version);
        let FailedSending { error, pause, gone } = fault;
        let (pause, text) = if terms.is_last_try(failures) {
            let text = format!(
                "The handshake failed {failures} times and is not tried again: {error}. Correct the endpoint and \
                 update this Subscription with status requested."
            );
            (None, text)
        } else {
            (Some(pause), format!("The handshake failed and is tried again: {error}."))
        };
        let write = self.store.write(Vec::new(), move |tx| {
            if subscription::version(tx.conn, key)? != Some(version) {
                return Ok(());
            }
            let now = clock.now();
            if gone {
                return subscription::gone(tx.conn, key, GONE, now.timestamp_millis());
            }
            let at_ms = pause.map(|pause| (now + pause).timestamp_millis());
            subscription::handshake_failed(tx.conn, key, at_ms, &text, now.timestamp_millis())
        });
        Ok(write.await?)
    }

    /// Records how the sending of an event went, for the event and for the subscription's owner. After the last try the
    /// event is undeliverable: kept, and the subscription's status is `error` until a later event is taken. When the
    /// endpoint is gone the subscription is switched off, and the event waits with those behind it. A failure of what was
    /// sent before the owner changed the subscription counts for nothing. False when the lease was lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record_sending(
        &self,
        terms: &NotifierTerms,
        subscription: &Subscription,
        event: &Delivery,
        sent: Result<(), FailedSending>,
    ) -> Result<bool, Error> {
        let (number, failures, now) = (event.event_number, event.attempts + 1, self.clock.now());
        let gone = sent.as_ref().is_err_and(|failed| failed.gone);
        // An error stays in sight while the status is error: until something is delivered.
        let (attempt, status, text) = match sent {
            Ok(()) => (Attempt::Delivered, SubscriptionStatus::Active, None),
            Err(FailedSending { error, .. }) if terms.is_last_try(failures) && !gone => {
                let text = format!("Event {number} was not taken in {failures} tries: {error}.");
                (Attempt::Undeliverable { error }, SubscriptionStatus::Error, Some(text))
            }
            Err(FailedSending { error, pause, .. }) => {
                let text = format!("Event {number} was not taken and is sent again: {error}.");
                let at_ms = (now + pause).timestamp_millis();
                (Attempt::Retry { at_ms, error }, subscription.status, Some(text))
            }
        };
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let (event, subscription, version) = (event.key, subscription.key, subscription.version);
        let write = self.store.write(Vec::new(), move |tx| {
            let now_ms = now.timestamp_millis();
            let delivered = attempt == Attempt::Delivered;
            if !delivered && subscription::version(tx.conn, subscription)? != Some(version) {
                return terms.hold(tx, &clock);
            }
            delivery::record(tx.conn, event, &attempt, now_ms)?;
            if gone {
                subscription::gone(tx.conn, subscription, GONE, now_ms)?;
            } else {
                subscription::set_health(tx.conn, subscription, status, text.as_deref(), now_ms)?;
            }
            if delivered {
                subscription::heartbeat_sent(tx.conn, subscription, 0, None, now_ms)?;
            }
            terms.hold(tx, &clock)
        });
        Ok(write.await?)
    }

    /// Records how a heartbeat went. A failed one is tried again after its pause; the subscription's status is `error` after
    /// the last try, and heartbeats go on. Says nothing of a subscription that was changed meanwhile.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record_heartbeat(
        &self,
        terms: &NotifierTerms,
        subscription: &Subscription,
        sent: Result<(), FailedSending>,
    ) -> Result<(), Error> {
        let (key, version, now) = (subscription.key, subscription.version, self.clock.now());
        let failures = if sent.is_ok() { 0 } else { subscription.failures + 1 };
        let given_up = terms.is_last_try(failures);
        let status = match &sent {
            // That it hears says nothing of an event that it did not take.
            Ok(()) if subscription.failures > 0 => SubscriptionStatus::Active,
            Err(_) if given_up => SubscriptionStatus::Error,
            _ => subscription.status,
        };
        let kept = sent.is_ok() && subscription.failures == 0;
        let write = self.store.write(Vec::new(), move |tx| {
            if subscription::version(tx.conn, key)? != Some(version) {
                return Ok(());
            }
            let now_ms = now.timestamp_millis();
            let (until_ms, text) = match &sent {
                Ok(()) => (None, None),
                Err(failed) if failed.gone => return subscription::gone(tx.conn, key, GONE, now_ms),
                Err(FailedSending { error, pause, .. }) => {
                    let text = format!("A heartbeat was not taken, for the {failures}. time: {error}.");
                    (Some((now + *pause).timestamp_millis()), Some(text))
                }
            };
            subscription::heartbeat_sent(tx.conn, key, failures, until_ms, now_ms)?;
            if kept { Ok(()) } else { subscription::set_health(tx.conn, key, status, text.as_deref(), now_ms) }
        });
        Ok(write.await?)
    }

    /// Events that wait for open subscriptions, due or not.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn waiting_notifications(&self) -> Result<usize, Error> {
        let now_ms = self.clock.now().timestamp_millis();
        let waiting = self.store.read(move |conn| delivery::waiting(conn, now_ms)).await?;
        Ok(usize::try_from(waiting).unwrap_or_default())
    }

    /// Gives the lease up, so that the next process needn't wait until it has run out.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn release_notifier(&self, terms: &NotifierTerms) -> Result<(), Error> {
        let process = terms.process.clone();
        let write = self.store.write(Vec::new(), move |tx| lease::release(tx.conn, LEASE, &process));
        Ok(write.await?)
    }
}
