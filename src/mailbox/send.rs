//! What goes out: each message at least once under the same id, and never a second time without asking MESH whether the
//! first one arrived.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Mailbox, Parts, Pumped, Stopped, back_off, render};
use crate::{
    cpis::{
        Error,
        mesh::CHANNEL,
        types::mesh::{MeshKind, MeshMessage, MeshReady, MeshState, Sending},
    },
    outside::mesh::{FaultKind, MeshFault, Outgoing, SentStatus},
    telemetry::metrics,
};

/// MESH is asked for a lost sending from so long before it began: clocks differ.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::hours(1);
/// Codes that no further try mends: no such mailbox, not allowed, no such workflow, a bad CP-IS file.
const LASTING: [&str; 4] = ["12", "15", "16", "17"];
/// MESH keeps what it knows of a message for so long.
const TRACKED_FOR: TimeDelta = TimeDelta::days(30);

impl Mailbox {
    /// Puts what waits into messages and sends what is due.
    pub(super) async fn send_due(&self, done: &mut Pumped) -> Result<(), Stopped> {
        let Parts { gateway, terms, .. } = &*self.0;
        if !gateway.collect_mesh_notices(terms).await? {
            return Err(Stopped::LeaseLost);
        }
        for key in gateway.mesh_due().await?.send {
            let sending = match self.send(key).await {
                Ok(None) => continue,
                Ok(Some(sending)) => sending,
                // A fault of this message alone: the others go on.
                Err(Stopped::Store(Error::Fault(error))) => {
                    tracing::error!(%error, "a MESH message can't be made from what is stored");
                    let Some(message) = gateway.mesh_message(key).await? else { continue };
                    self.failed(&message, "it can't be made from what is stored".to_owned())
                }
                Err(stopped) => return Err(stopped),
            };
            match &sending {
                Sending::Sent { .. } => done.sent += 1,
                _ => done.failed += 1,
            }
            self.count(key, &sending).await?;
            if !gateway.record_mesh_sending(terms, key, sending).await? {
                return Err(Stopped::LeaseLost);
            }
        }
        Ok(())
    }

    async fn count(&self, key: i64, sending: &Sending) -> Result<(), Error> {
        let Some(message) = self.0.gateway.mesh_message(key).await? else { return Ok(()) };
        let counter = match sending {
            Sending::Sent { .. } => &metrics::DELIVERED,
            Sending::Failed { .. } | Sending::Unknown { .. } => &metrics::FAILED,
            Sending::Undeliverable { .. } => &metrics::GIVEN_UP,
        };
        self.0.gateway.metrics.count(counter, &[CHANNEL, message.kind.code()]);
        Ok(())
    }

    /// Sends one message, unless MESH has it already. `None` when it is not to be sent at this time.
    async fn send(&self, key: i64) -> Result<Option<Sending>, Stopped> {
        let Parts { gateway, client, terms, .. } = &*self.0;
        let Some(before) = gateway.mesh_message(key).await? else { return Ok(None) };
        if before.state == MeshState::Sending {
            let since = before.sending.unwrap_or(before.created) - CLOCKS_DIFFER;
            match client.find_sent(&before.local_id(), since).await {
                Ok(Some(sent)) => return Ok(Some(Sending::Sent { mesh_id: sent.id })),
                Ok(None) => {}
                Err(fault) if fault.is_of_mesh() => return Err(fault.into()),
                Err(fault) => return Ok(Some(self.unknown(&before, fault.text))),
            }
        }
        let Some(ready) = gateway.ready_mesh_message(key).await? else { return Ok(None) };
        if !gateway.begin_mesh_sending(terms, key).await? {
            return Err(Stopped::LeaseLost);
        }
        let mut body = match render::body(gateway, &self.0.settings, &ready).await {
            Ok(body) => body,
            Err(render::Fault::Store(error)) => return Err(error.into()),
            Err(fault @ render::Fault::Local(_)) => return Ok(Some(self.failed(&ready.message, fault.to_string()))),
        };
        match self.post(&ready, &mut body).await {
            Ok(mesh_id) => Ok(Some(Sending::Sent { mesh_id })),
            Err(fault) => self.not_sent(&ready.message, fault).await,
        }
    }

    async fn post(&self, ready: &MeshReady, body: &mut render::Body) -> Result<String, MeshFault> {
        let Parts { client, settings, .. } = &*self.0;
        let (local_id, workflows) = (ready.message.local_id(), &settings.workflows);
        let (workflow, name) = match ready.message.kind {
            MeshKind::Acknowledgement => (&workflows.acknowledgement, "acknowledgement"),
            MeshKind::Access => (&workflows.access, "access"),
            MeshKind::InactiveNumber => (&workflows.inactive, "inactive-nhs-number"),
        };
        let outgoing = Outgoing {
            to: &ready.mailbox,
            workflow,
            local_id: &local_id,
            file_name: &format!("{name}-{}.{}", ready.message.id, body.extension),
            content_type: body.content_type,
        };
        client.send(outgoing, body.length, &mut body.file).await
    }

    /// What a failed sending means. That MESH can't be worked with stops the round after it was written down.
    async fn not_sent(&self, message: &MeshMessage, fault: MeshFault) -> Result<Option<Sending>, Stopped> {
        let lasting = fault.code.as_deref().is_some_and(|code| LASTING.contains(&code));
        let sending = match fault.kind {
            FaultKind::Unknown => self.unknown(message, fault.text.clone()),
            FaultKind::Refused if lasting => {
                tracing::error!(
                    alert = "mesh-undeliverable", message.id = %message.id, kind = message.kind.code(), %fault,
                    "a MESH message can't be delivered: see cpis-gateway mesh messages"
                );
                Sending::Undeliverable { error: fault.text.clone() }
            }
            _ => self.failed(message, fault.text.clone()),
        };
        if !fault.is_of_mesh() {
            return Ok(Some(sending));
        }
        let Parts { gateway, terms, .. } = &*self.0;
        if !gateway.record_mesh_sending(terms, message.key, sending).await? {
            return Err(Stopped::LeaseLost);
        }
        Err(fault.into())
    }

    fn failed(&self, message: &MeshMessage, error: String) -> Sending {
        if message.attempts + 1 >= self.0.terms.attempts {
            tracing::error!(
                alert = "mesh-undeliverable", message.id = %message.id, kind = message.kind.code(), error,
                "a MESH message is given up: see cpis-gateway mesh messages"
            );
            return Sending::Undeliverable { error };
        }
        tracing::info!(message.id = %message.id, error, "a MESH message was not sent; it is tried again");
        Sending::Failed { error, at: self.later(message) }
    }

    fn unknown(&self, message: &MeshMessage, error: String) -> Sending {
        tracing::info!(message.id = %message.id, error, "whether a MESH message was sent is not known; MESH is asked");
        Sending::Unknown { error, at: self.later(message) }
    }

    fn later(&self, message: &MeshMessage) -> DateTime<Utc> {
        let pause = back_off::pause(&self.0.settings, &message.id.to_string(), message.attempts + 1);
        self.0.gateway.clock.now() + pause
    }

    /// Asks MESH what became of some of the messages that were sent.
    pub(super) async fn track(&self, done: &mut Pumped) -> Result<(), Stopped> {
        let Parts { gateway, client, .. } = &*self.0;
        for key in gateway.mesh_due().await?.track {
            let Some(message) = gateway.mesh_message(key).await? else { continue };
            let Some(mesh_id) = &message.mesh_id else { continue };
            let age = gateway.clock.now() - message.sending.unwrap_or(message.created);
            let delivered = match client.track(mesh_id).await {
                Ok(status) => status == SentStatus::Acknowledged,
                Err(fault) if fault.is_of_mesh() => return Err(fault.into()),
                Err(_) => false,
            };
            done.delivered += usize::from(delivered);
            // More rarely the older it is; a report tells of what was not collected anyway.
            let pause = match age {
                age if age > TRACKED_FOR => TimeDelta::days(36_500),
                age => age.clamp(TimeDelta::minutes(15), TimeDelta::days(1)),
            };
            gateway.record_mesh_tracking(key, delivered, pause).await?;
        }
        Ok(())
    }
}
