//! One subscription's channel: its handshake, and its events one after the other.

use std::time::Duration;

use uuid::Uuid;

use super::{Notifier, Parts, Pumped, Turn, back_off};
use crate::{
    cpis::{
        Error,
        types::subscription::{Delivery, FailedSending, Subscription},
    },
    fhir::{render::notification, resource::Bundle},
    outside::hook::HookFault,
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
    ) -> Result<Pumped, Error> {
        let bundle = notification::handshake(&self.0.base_url, &subscription, self.0.gateway.clock.now());
        let Parts { gateway, terms, .. } = &*self.0;
        let Err(fault) = self.post(&subscription, &bundle).await else {
            let mut done = Pumped { handshakes: 1, ..Pumped::default() };
            if gateway.activate_subscription(terms, &subscription).await? && gateway.route_notifications(terms).await? {
                done.add(self.clone().send_due(turn).await?);
            }
            return Ok(done);
        };
        let failures = failures + 1;
        if terms.is_last_try(failures) {
            tracing::warn!(subscription.id = %subscription.id, fault = %fault.text, "a handshake was given up");
        }
        let failed = self.failed(subscription.id, failures, fault);
        gateway.record_failed_handshake(terms, &subscription, failures, failed).await?;
        Ok(Pumped { failed: 1, ..Pumped::default() })
    }

    /// Sends what is due, in order, until something fails or nothing is left.
    pub(super) async fn send_due(self, turn: Turn) -> Result<Pumped, Error> {
        let mut done = Pumped::default();
        for _ in 0..BURST {
            let next = self.0.gateway.next_notification(turn.key).await?;
            let Some((subscription, delivery)) = next else { break };
            let sent = self.send(&subscription, &delivery).await?;
            let failed = sent.is_err();
            if failed {
                done.failed += 1
            } else {
                done.delivered += 1
            }
            let held = self.write_down(&subscription, &delivery, sent).await?;
            if !held || failed {
                break;
            }
        }
        drop(turn);
        Ok(done)
    }

    /// One sending of one event. A stored access that can't be read is a fault of that event, not of the store: it must
    /// not hold up those after it for ever.
    async fn send(&self, subscription: &Subscription, delivery: &Delivery) -> Result<Result<(), Fault>, Error> {
        let access = match self.0.gateway.notified_access(delivery).await {
            Ok(access) => access,
            Err(error @ Error::Fault(_)) => {
                tracing::error!(%error, notification.id = %delivery.notification, "a notification can't be made");
                return Ok(Err(Fault { text: "the notification could not be made".to_owned(), retry_after: None }));
            }
            Err(error) => return Err(error),
        };
        let event =
            notification::Event { notification: delivery.notification, number: delivery.event_number, access: &access };
        let bundle = notification::event(&self.0.base_url, subscription, &event, self.0.gateway.clock.now());
        Ok(self.post(subscription, &bundle).await)
    }

    async fn post(&self, subscription: &Subscription, bundle: &Bundle) -> Result<(), Fault> {
        let body = serde_json::to_vec(bundle).map_err(|_| Fault {
            text: "the notification could not be written as JSON".to_owned(),
            retry_after: None,
        })?;
        Ok(self.0.hooks.post(&subscription.endpoint, &subscription.headers, body).await?)
    }

    /// The `failures`-th failure in a row of what has this id, with the pause after it.
    fn failed(&self, id: Uuid, failures: i64, fault: Fault) -> FailedSending {
        let pause = back_off::pause(&self.0.settings, id, failures, fault.retry_after);
        FailedSending { error: fault.text, pause }
    }

    /// Writes down how a sending went. False when the lease was lost.
    async fn write_down(
        &self,
        subscription: &Subscription,
        delivery: &Delivery,
        sent: Result<(), Fault>,
    ) -> Result<bool, Error> {
        let Parts { gateway, terms, .. } = &*self.0;
        let (id, failures) = (delivery.notification, delivery.attempts + 1);
        if let Err(fault) = &sent {
            if terms.is_last_try(failures) {
                tracing::warn!(
                    subscription.id = %subscription.id, notification.id = %id, failures, fault = %fault.text,
                    "a notification is undeliverable"
                );
            } else {
                tracing::info!(
                    subscription.id = %subscription.id, notification.id = %id, failures, fault = %fault.text,
                    "a notification was not taken and is sent again"
                );
            }
        }
        let sent = sent.map_err(|fault| self.failed(id, failures, fault));
        gateway.record_sending(terms, subscription, delivery, sent).await
    }
}
