//! One subscription's channel: its handshake, its events one after the other, its heartbeats.

use std::time::Duration;

use uuid::Uuid;

use super::{Notifier, Parts, Pumped, Turn, back_off};
use crate::{
    cpis::{
        Error,
        measured::REST_HOOK,
        types::subscription::{Delivery, FailedSending, Subscription},
    },
    fhir::{render::notification::Teller, resource::Bundle},
    outside::hook::{HookFault, Post},
    telemetry::metrics::{self, Metric},
};

/// Events that one task sends before the next round looks at everything again.
const BURST: usize = 100;

/// Why a sending failed.
struct Fault {
    /// Safe to log and to show to the owner.
    text: String,
    gone: bool,
    retry_after: Option<Duration>,
}

impl Fault {
    fn of_ours(text: &str) -> Self {
        Self { text: text.to_owned(), gone: false, retry_after: None }
    }
}

impl From<HookFault> for Fault {
    fn from(fault: HookFault) -> Self {
        Self { text: fault.text, gone: fault.gone, retry_after: fault.retry_after }
    }
}

impl Notifier {
    /// Sends the handshake; when it is taken, the subscription catches up and its events follow in the same turn.
    pub(super) async fn handshake(self, subscription: Subscription, turn: Turn) -> Result<Pumped, Error> {
        let Parts { gateway, terms, .. } = &*self.0;
        let sent = self.post(&subscription, &self.teller(&subscription).handshake()).await;
        gateway.metrics.count(&metrics::HANDSHAKES, &[result(&sent)]);
        let Err(fault) = sent else {
            let mut done = Pumped { handshakes: 1, ..Pumped::default() };
            if gateway.activate_subscription(terms, &subscription).await? && gateway.route_notifications(terms).await? {
                done.add(self.clone().send_due(turn).await?);
            }
            return Ok(done);
        };
        let failures = subscription.failures + 1;
        if terms.is_last_try(failures) || fault.gone {
            tracing::warn!(subscription.id = %subscription.id, fault = %fault.text, "a handshake was given up");
        }
        let failed = self.failed(subscription.id, failures, fault);
        gateway.record_failed_handshake(terms, &subscription, failures, failed).await?;
        Ok(Pumped { failed: 1, ..Pumped::default() })
    }

    /// Sends a heartbeat.
    pub(super) async fn heartbeat(self, subscription: Subscription, turn: Turn) -> Result<Pumped, Error> {
        let Parts { gateway, terms, .. } = &*self.0;
        let sent = self.post(&subscription, &self.teller(&subscription).heartbeat(Uuid::new_v4())).await;
        gateway.metrics.count(&metrics::HEARTBEATS, &[result(&sent)]);
        let done = match &sent {
            Ok(()) => Pumped { heartbeats: 1, ..Pumped::default() },
            Err(fault) => {
                tracing::info!(subscription.id = %subscription.id, fault = %fault.text, "a heartbeat was not taken");
                Pumped { failed: 1, ..Pumped::default() }
            }
        };
        let sent = sent.map_err(|fault| self.failed(subscription.id, subscription.failures + 1, fault));
        gateway.record_heartbeat(terms, &subscription, sent).await?;
        drop(turn);
        Ok(done)
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

    fn teller<'a>(&'a self, subscription: &'a Subscription) -> Teller<'a> {
        let Parts { gateway, base_url, .. } = &*self.0;
        Teller { base_url, subscription, now: gateway.clock.now(), zone: gateway.calendar.zone() }
    }

    /// One sending of one event. A stored notice that can't be read is a fault of that event, not of the store: it must
    /// not hold up those after it for ever.
    async fn send(&self, subscription: &Subscription, delivery: &Delivery) -> Result<Result<(), Fault>, Error> {
        match self.0.gateway.told_event(delivery).await {
            Ok(event) => Ok(self.post(subscription, &self.teller(subscription).event(&event)).await),
            Err(error @ Error::Fault(_)) => {
                tracing::error!(%error, notification.id = %delivery.notification, "a notification can't be made");
                Ok(Err(Fault::of_ours("the notification could not be made")))
            }
            Err(error) => Err(error),
        }
    }

    /// Signs and posts a notification. The signature names the time of this sending, whatever it tells of.
    async fn post(&self, subscription: &Subscription, bundle: &Bundle) -> Result<(), Fault> {
        let Parts { gateway, hooks, key, .. } = &*self.0;
        let body =
            serde_json::to_vec(bundle).map_err(|_| Fault::of_ours("the notification could not be written as JSON"))?;
        let id = bundle.id.as_deref().unwrap_or_default();
        let signature = key
            .headers(id, gateway.clock.now().timestamp(), &body)
            .map_err(|_| Fault::of_ours("the notification could not be signed"))?;
        let hook = &subscription.hook;
        let post = Post {
            endpoint: &hook.endpoint,
            headers: &hook.headers,
            signature: &signature,
            content_type: hook.payload.code(),
            timeout: hook.timeout.map(|seconds| Duration::from_secs(seconds.into())),
        };
        Ok(hooks.post(&post, body).await?)
    }

    /// The `failures`-th failure in a row of what has this id, with the pause after it.
    fn failed(&self, id: Uuid, failures: i64, fault: Fault) -> FailedSending {
        let pause = back_off::pause(&self.0.settings, id, failures, fault.retry_after);
        FailedSending { error: fault.text, pause, gone: fault.gone }
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
        let count = |metric: &Metric| gateway.metrics.count(metric, &[REST_HOOK, subscription.topic.code()]);
        match &sent {
            Ok(()) => count(&metrics::DELIVERED),
            Err(fault) if fault.gone => {
                count(&metrics::FAILED);
                tracing::warn!(
                    subscription.id = %subscription.id, notification.id = %id,
                    "an endpoint is gone; its subscription is switched off and its notifications wait"
                );
            }
            Err(fault) if terms.is_last_try(failures) => {
                count(&metrics::FAILED);
                count(&metrics::GIVEN_UP);
                tracing::warn!(
                    subscription.id = %subscription.id, notification.id = %id, failures, fault = %fault.text,
                    "a notification is undeliverable"
                );
            }
            Err(fault) => {
                count(&metrics::FAILED);
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

fn result(sent: &Result<(), Fault>) -> &'static str {
    if sent.is_ok() { "taken" } else { "failed" }
}
