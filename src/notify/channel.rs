//! One subscription's channel: its handshake, and its events one after the other.

use std::time::Duration;

use chrono::TimeDelta;

use super::{Notifier, Pumped, Turn, back_off, bundle};
use crate::{
    cpis::types::subscription::{Subscription, SubscriptionStatus},
    fhir::resource::Bundle,
    outside::hook::HookFault,
    store::{
        StoreError, access,
        delivery::{self, Attempt, Delivery},
        subscription,
    },
};

/// Events that one task sends before the next round looks at everything again.
const BURST: usize = 100;

/// Why a sending failed.
struct Fault {
    /// Safe to log and to show to the owner.
    text: String,
    retry_after: Option<Duration>,
}

impl From<HookFault> for Fault {
    fn from(fault: HookFault) -> Self {
        Self { text: fault.text, retry_after: fault.retry_after }
    }
}

impl Notifier {
    /// Sends the handshake; when it is taken, the subscription catches up and its events follow in the same turn.
    pub(super) async fn handshake(
        self,
        subscription: Subscription,
        failures: i64,
        turn: Turn,
    ) -> Result<Pumped, StoreError> {
        let bundle = bundle::handshake(&self.0.base_url, &subscription, self.0.gateway.clock.now());
        let key = subscription.key;
        let Err(fault) = self.post(&subscription, &bundle).await else {
            let (notifier, catch_up) = (self.clone(), self.0.settings.catch_up.num_milliseconds());
            // Written whoever has the lease: the hook did agree.
            let activated = self.0.gateway.store.write(Vec::new(), move |tx| {
                let active = subscription::activate(tx.conn, key, catch_up, notifier.now_ms())?;
                Ok(active && notifier.hold(tx)?)
            });
            let mut done = Pumped { handshakes: 1, ..Pumped::default() };
            if activated.await? && self.route().await? {
                done.add(self.send_due(turn).await?);
            }
            return Ok(done);
        };
        let retry = self.retry(subscription.id, failures + 1, &fault);
        if retry.is_none() {
            tracing::warn!(subscription.id = %subscription.id, fault = %fault.text, "a handshake was given up");
        }
        let text = match retry {
            Some(_) => format!("The handshake failed and is tried again: {}.", fault.text),
            None => format!(
                "The handshake failed {} times and is not tried again: {}. Correct the endpoint, delete this \
                 Subscription and create a new one.",
                failures + 1,
                fault.text
            ),
        };
        let notifier = self.clone();
        let noted = self.0.gateway.store.write(Vec::new(), move |tx| {
            let now = notifier.0.gateway.clock.now();
            let at = retry.map(|pause| (now + pause).timestamp_millis());
            subscription::handshake_failed(tx.conn, key, at, &text, now.timestamp_millis())
        });
        noted.await?;
        Ok(Pumped { failed: 1, ..Pumped::default() })
    }

    /// Sends what is due, in order, until something fails or nothing is left.
    pub(super) async fn send_due(self, turn: Turn) -> Result<Pumped, StoreError> {
        let mut done = Pumped::default();
        for _ in 0..BURST {
            let (key, now_ms) = (turn.key, self.now_ms());
            let next = self.0.gateway.store.read(move |conn| delivery::next_due(conn, key, now_ms)).await?;
            let Some((subscription, delivery)) = next else { break };
            let sent = self.send(&subscription, &delivery).await?;
            let failed = sent.is_err();
            if failed {
                done.failed += 1
            } else {
                done.delivered += 1
            }
            let held = self.write_down(&subscription, delivery, sent).await?;
            if !held || failed {
                break;
            }
        }
        drop(turn);
        Ok(done)
    }

    /// One sending of one event. A stored access that can't be read is a fault of that event, not of the store: it must
    /// not hold up those after it for ever.
    async fn send(&self, subscription: &Subscription, delivery: &Delivery) -> Result<Result<(), Fault>, StoreError> {
        let sequence = delivery.access;
        let access = match self.0.gateway.store.read(move |conn| access::get(conn, sequence)).await {
            Ok(access) => access,
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, notification.id = %delivery.notification, "a notification can't be made");
                return Ok(Err(Fault { text: "the notification could not be made".to_owned(), retry_after: None }));
            }
            Err(error) => return Err(error),
        };
        let event =
            bundle::Event { notification: delivery.notification, number: delivery.event_number, access: &access };
        let bundle = bundle::event(&self.0.base_url, subscription, &event, self.0.gateway.clock.now());
        Ok(self.post(subscription, &bundle).await)
    }

    async fn post(&self, subscription: &Subscription, bundle: &Bundle) -> Result<(), Fault> {
        let body = serde_json::to_vec(bundle).map_err(|_| Fault {
            text: "the notification could not be written as JSON".to_owned(),
            retry_after: None,
        })?;
        Ok(self.0.hooks.post(&subscription.endpoint, &subscription.headers, body).await?)
    }

    /// The pause after the `failures`-th failure; `None` when that was the last try.
    fn retry(&self, id: uuid::Uuid, failures: i64, fault: &Fault) -> Option<TimeDelta> {
        let settings = &self.0.settings;
        (failures < settings.retry_attempts).then(|| back_off::pause(settings, id, failures, fault.retry_after))
    }

    /// Writes down how a sending went, for the event and for the subscription's owner. False when the lease was lost.
    async fn write_down(
        &self,
        subscription: &Subscription,
        delivery: Delivery,
        sent: Result<(), Fault>,
    ) -> Result<bool, StoreError> {
        let (id, number, failures) = (delivery.notification, delivery.event_number, delivery.attempts + 1);
        let now = self.0.gateway.clock.now();
        // An error stays in sight while the status is error: until something is delivered.
        let (attempt, status, error) = match sent {
            Ok(()) => (Attempt::Delivered, SubscriptionStatus::Active, None),
            Err(fault) => match self.retry(id, failures, &fault) {
                Some(pause) => {
                    tracing::info!(
                        subscription.id = %subscription.id, notification.id = %id, failures, fault = %fault.text,
                        "a notification was not taken and is sent again"
                    );
                    let text = format!("Event {number} was not taken and is sent again: {}.", fault.text);
                    let attempt = Attempt::Retry { at_ms: (now + pause).timestamp_millis(), error: fault.text };
                    (attempt, subscription.status, Some(text))
                }
                None => {
                    tracing::warn!(
                        subscription.id = %subscription.id, notification.id = %id, failures, fault = %fault.text,
                        "a notification is undeliverable"
                    );
                    let text = format!("Event {number} was not taken in {failures} tries: {}.", fault.text);
                    (Attempt::Undeliverable { error: fault.text }, SubscriptionStatus::Error, Some(text))
                }
            },
        };
        let (notifier, key) = (self.clone(), subscription.key);
        let written = self.0.gateway.store.write(Vec::new(), move |tx| {
            let now_ms = now.timestamp_millis();
            delivery::record(tx.conn, delivery.key, &attempt, now_ms)?;
            subscription::set_health(tx.conn, key, status, error.as_deref(), now_ms)?;
            notifier.hold(tx)
        });
        written.await
    }
}
