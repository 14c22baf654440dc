//! What waits in the inbox, message by message: a file of an authority, a report of MESH, or something that nobody here
//! can use.

use std::collections::HashSet;

use chrono::TimeDelta;

use super::{
    Mailbox, Parts, Pumped, Stopped, back_off,
    file::{Fault, Unread},
};
use crate::{
    cpis::{
        Error,
        mesh::ReportEffect,
        types::{Organization, mesh::Taken, upload::FileCode},
    },
    outside::mesh::{FaultKind, MeshFault, MessageHeaders, MessageType, meaning},
};

/// Pages of the inbox (500 messages each) that one look reads.
const MOST_PAGES: usize = 20;
/// A message that MESH can't hand over in so many tries is answered as one that can't be read.
const TRANSFER_ATTEMPTS: i64 = 3;

/// What became of one message in a round.
enum Ended {
    /// It may be taken out of the inbox.
    Done,
    /// It is left for later for its own sake; those behind it go on.
    Later,
    /// It is left for later for no fault of its own. What the same mailbox sent after it waits too: a file that is applied
    /// before the one sent before it would make that one out of order.
    Held { mailbox: String },
}

/// How the handling of one message ended.
enum Handled {
    Done,
    /// It is left for later; whether that was a try of this message, and why.
    Later(bool, &'static str),
}

impl Mailbox {
    /// The ids of all that waits, oldest first.
    pub(super) async fn list(&self) -> Result<Vec<String>, MeshFault> {
        let mut waiting = Vec::new();
        let mut place: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let page = self.0.client.list(place.as_deref(), None).await?;
            waiting.extend(page.ids);
            place = page.next;
            if place.is_none() {
                break;
            }
        }
        Ok(waiting)
    }

    /// Handles what waits, one message after the other.
    pub(super) async fn receive(&self, waiting: Vec<String>, done: &mut Pumped) -> Result<(), Stopped> {
        let mut held = HashSet::new();
        for id in waiting {
            let ended = match self.0.gateway.mesh_standing(&id).await? {
                Some(Taken::NotYet | Taken::SetAside) => continue,
                // The process died, or MESH was away, before it was told.
                Some(Taken::Handled) => Ended::Done,
                _ => self.handle(&id, &held).await?,
            };
            match ended {
                Ended::Done => {}
                Ended::Later => {
                    done.postponed += 1;
                    continue;
                }
                Ended::Held { mailbox } => {
                    held.insert(mailbox);
                    done.postponed += 1;
                    continue;
                }
            }
            match self.0.client.acknowledge(&id).await {
                Ok(()) => done.handled += 1,
                Err(fault) if fault.kind == FaultKind::Gone => done.handled += 1,
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    /// Handles one message, unless something that its mailbox sent before it is held.
    async fn handle(&self, id: &str, held: &HashSet<String>) -> Result<Ended, Stopped> {
        let Parts { gateway, client, settings, terms, .. } = &*self.0;
        let told = match client.head(id).await {
            Ok(told) => told,
            Err(fault) if fault.kind == FaultKind::Gone => return Ok(Ended::Later),
            Err(fault) if fault.is_of_mesh() => return Err(fault.into()),
            Err(_) => {
                // Without its headers nothing can be said of it, but that it was tried.
                return match gateway.take_mesh_message(terms, id, "").await? {
                    Taken::NotMine => Err(Stopped::LeaseLost),
                    Taken::Attempt(attempt) => {
                        let pause = back_off::pause(settings, id, attempt);
                        gateway.postpone_mesh_message(id, true, pause, "its headers can't be read").await?;
                        Ok(Ended::Later)
                    }
                    _ => Ok(Ended::Later),
                };
            }
        };
        let from = told.from.clone();
        if held.contains(&from) {
            return Ok(Ended::Held { mailbox: from });
        }
        let attempt = match gateway.take_mesh_message(terms, id, &told.from).await? {
            Taken::Attempt(attempt) => attempt,
            Taken::Handled => return Ok(Ended::Done),
            Taken::SetAside => {
                tracing::error!(
                    alert = "mesh-set-aside",
                    mesh.message = id,
                    "a MESH message can't be handled and is set aside: see cpis-gateway mesh received"
                );
                return Ok(Ended::Later);
            }
            Taken::NotYet => return Ok(Ended::Later),
            Taken::NotMine => return Err(Stopped::LeaseLost),
        };
        // In a task of its own: a panic is a fault of this message alone.
        let (mailbox, its_id) = (self.clone(), id.to_owned());
        let task = tokio::spawn(async move { mailbox.handle_taken(&its_id, &told, attempt).await });
        let handled = match AbortOnDrop(task).joined().await {
            Ok(handled) => handled,
            Err(_) => Ok(Handled::Later(true, "the handling broke off")),
        };
        match handled {
            Ok(Handled::Done) => Ok(Ended::Done),
            Ok(Handled::Later(counts, why)) => {
                let pause = if counts { back_off::pause(settings, id, attempt) } else { TimeDelta::zero() };
                tracing::warn!(
                    mesh.message = id,
                    attempt,
                    why,
                    "a MESH message could not be handled; it is tried again"
                );
                gateway.postpone_mesh_message(id, counts, pause, why).await?;
                Ok(if counts { Ended::Later } else { Ended::Held { mailbox: from } })
            }
            Err(stopped) => {
                let pause = TimeDelta::zero();
                gateway.postpone_mesh_message(id, false, pause, "MESH or the store was away").await?;
                Err(stopped)
            }
        }
    }

    async fn handle_taken(&self, id: &str, told: &MessageHeaders, attempt: i64) -> Result<Handled, Stopped> {
        let Parts { gateway, settings, .. } = &*self.0;
        if told.message_type == MessageType::Report {
            return self.report(id, told).await;
        }
        let Some(sender) = gateway.mesh_sender(&told.from).await? else {
            tracing::warn!(alert = "mesh-unknown-sender", mesh.message = id, "a MESH message from nobody's mailbox");
            gateway.finish_mesh_message(id, None, "unknown-sender", None).await?;
            return Ok(Handled::Done);
        };
        if told.workflow != settings.workflows.upload {
            tracing::warn!(
                alert = "mesh-unknown-workflow",
                mesh.message = id,
                authority = sender.ods.as_str(),
                "a MESH message of a workflow that is not that of uploads"
            );
            gateway.finish_mesh_message(id, Some(sender.id), "unknown-workflow", None).await?;
            return Ok(Handled::Done);
        }
        self.file(id, &told.from, sender, attempt).await
    }

    /// Applies a file; when this returns `Done`, its effect and its acknowledgement are durable.
    async fn file(&self, id: &str, from: &str, sender: Organization, attempt: i64) -> Result<Handled, Stopped> {
        let (gateway, authority, ods) = (&self.0.gateway, sender.id, sender.ods.clone());
        let read = match self.fetch(id).await {
            Ok(content) => self.apply(id, from, sender, content).await,
            Err(Unread::Mesh(fault)) if fault.is_of_mesh() => return Err(fault.into()),
            Err(Unread::Local) => return Ok(Handled::Later(false, "the data directory can't be used")),
            Err(Unread::Mesh(fault)) if fault.kind == FaultKind::Local => {
                return Ok(Handled::Later(false, "the data directory can't be used"));
            }
            Err(Unread::Mesh(fault)) if fault.kind == FaultKind::Gone => {
                return Ok(Handled::Later(true, "MESH does not have its content"));
            }
            Err(Unread::Mesh(fault)) if fault.kind != FaultKind::TooLarge && attempt < TRANSFER_ATTEMPTS => {
                return Ok(Handled::Later(true, "it can't be read from MESH"));
            }
            Err(unread) => Ok(unread.reply(id)),
        };
        let reply = match read {
            Ok(reply) => reply,
            Err(Fault::Store(Error::Fault(_))) => return Ok(Handled::Later(true, "the store is at fault")),
            Err(Fault::Store(Error::Occupied)) => {
                return Ok(Handled::Later(false, "another change of its authority is being made"));
            }
            Err(Fault::Interrupted) => return Ok(Handled::Later(true, "its reading broke off")),
            // A store that is away is away for everybody, and passes; one that is there has something against this file.
            Err(Fault::Store(_) | Fault::Busy) => {
                return Ok(Handled::Later(gateway.check().await.is_ok(), "the store can't take it"));
            }
            Err(Fault::Local(_)) => return Ok(Handled::Later(false, "the data directory can't be used")),
        };
        tracing::info!(
            mesh.message = id,
            authority = ods.as_str(),
            code = reply.code.code(),
            records = reply.records.unwrap_or(0),
            refused = reply.refused,
            "a file came over MESH"
        );
        let outcome = match reply.code {
            FileCode::Cpf01 => "CPF01",
            FileCode::Cpf02 => "CPF02",
            FileCode::Cpf03 => "CPF03",
            FileCode::Cpf04 => "CPF04",
            FileCode::Cpf05 => "CPF05",
        };
        gateway.finish_mesh_message(id, Some(authority), outcome, Some(reply)).await?;
        Ok(Handled::Done)
    }

    /// MESH reports that something sent was not delivered.
    async fn report(&self, id: &str, told: &MessageHeaders) -> Result<Handled, Stopped> {
        let Parts { gateway, settings, terms, .. } = &*self.0;
        let linked = told.linked.clone().unwrap_or_default();
        let plain = |code: &&str| code.len() <= 20 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let code = told.status_code.as_deref().filter(plain).unwrap_or("an unknown code");
        let meaning = meaning(code).unwrap_or("not delivered");
        let pause = back_off::pause(settings, id, 1);
        match gateway.take_mesh_report(terms, id, &linked, code, meaning, pause).await? {
            ReportEffect::Reopened(message) => tracing::warn!(
                message.id = %message.id, kind = message.kind.code(), code, meaning,
                "a MESH message was not delivered and goes out again"
            ),
            ReportEffect::Undeliverable(message) => tracing::error!(
                alert = "mesh-undeliverable", message.id = %message.id, kind = message.kind.code(), code, meaning,
                "a MESH message can't be delivered: see cpis-gateway mesh messages"
            ),
            ReportEffect::Nothing => {
                tracing::info!(mesh.message = id, code, "a MESH report about nothing sent from here")
            }
        }
        Ok(Handled::Done)
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn joined(mut self) -> Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
