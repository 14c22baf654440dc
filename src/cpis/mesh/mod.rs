//! The exchange with authorities over MESH: whose mailbox is which, what came ([`incoming`]), and what is sent
//! ([`outgoing`]). Calls to MESH themselves are the mailbox loop's.
//!
//! One process at a time works, under the lease `mesh`: every change of what is sent renews it and answers whether it
//! still holds.

mod incoming;
mod outgoing;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

pub use incoming::ReportEffect;
pub use outgoing::MeshDue;

use super::{
    gateway::{Error, Gateway},
    types::{
        OdsCode, Organization,
        audit::{AuditAgent, EntityRef, Interaction, RequestEvent},
        caller::RequestContext,
        health::Health,
        mesh::{MeshContact, MeshCounts, MeshMailbox},
        organization::OrganizationKind,
    },
};
use crate::{
    clock::Clock,
    store::{Conn, StoreError, Tx, lease, mesh, organization},
    telemetry::metrics::{self, Sample},
};

const LEASE: &str = "mesh";
/// Name among the channels.
pub const CHANNEL: &str = "mesh";

/// On what terms a process exchanges messages.
#[derive(Clone, Debug)]
pub struct MeshTerms {
    /// Names the process among those of the same database: holder of the lease.
    pub process: String,
    /// How long the lease lasts after each renewal: a process that died is followed after that.
    pub lease: TimeDelta,
    /// Tries before a message is undeliverable.
    pub attempts: i64,
    /// Tries before a message that came is set aside.
    pub handling_attempts: i64,
    /// Accesses of so long go into one message; zero for a message each.
    pub window: TimeDelta,
    /// Most accesses in one message.
    pub max_accesses: usize,
}

impl MeshTerms {
    /// Renews the lease within a transaction.
    fn hold(&self, tx: &mut Tx<'_>, clock: &Clock) -> Result<bool, StoreError> {
        lease::take(tx.conn, LEASE, &self.process, clock.now(), self.lease)
    }
}

/// Why a mailbox was not given to an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxRefusal {
    #[error("there is no organisation with this ODS code")]
    NoOrganization,
    #[error("the organisation is not a local authority")]
    NotAnAuthority,
    #[error("the mailbox is another authority's: remove it there first")]
    Taken,
    #[error("the authority has no mailbox")]
    None,
}

impl Gateway {
    /// Takes or renews the lease; false when another process has it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn hold_mesh(&self, terms: &MeshTerms) -> Result<bool, Error> {
        let (terms, clock) = (terms.clone(), self.clock.clone());
        Ok(self.store.write(Vec::new(), move |tx| terms.hold(tx, &clock)).await?)
    }

    /// Gives the lease up, so that the next process needn't wait until it has run out.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn release_mesh(&self, terms: &MeshTerms) -> Result<(), Error> {
        let process = terms.process.clone();
        Ok(self.store.write(Vec::new(), move |tx| lease::release(tx.conn, LEASE, &process)).await?)
    }

    /// The mailboxes of all authorities.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_mailboxes(&self) -> Result<Vec<MeshMailbox>, Error> {
        Ok(self.store.read(mesh::mailbox::all).await?)
    }

    /// Gives an authority a mailbox, or another one, in an operator's name. A new one gets the notifications of `catch_up`
    /// before this moment.
    ///
    /// # Errors
    /// [`Error`]; the inner one says why it is refused.
    pub async fn set_mesh_mailbox(
        &self,
        ods: OdsCode,
        mailbox: String,
        catch_up: TimeDelta,
    ) -> Result<Result<(), MailboxRefusal>, Error> {
        let line = format!("cpis-gateway mesh mailboxes set {} {mailbox}", ods.as_str());
        let from_ms = (self.clock.now() - catch_up).timestamp_millis();
        self.change_mailbox(ods, line, move |tx, authority| {
            if mesh::mailbox::authority_of(tx.conn, &mailbox)?.is_some_and(|owner| owner != authority.id) {
                return Ok(Err(MailboxRefusal::Taken));
            }
            mesh::mailbox::set(tx.conn, authority.id, &mailbox, from_ms)?;
            Ok(Ok(()))
        })
        .await
    }

    /// Takes an authority's mailbox away, in an operator's name.
    ///
    /// # Errors
    /// [`Error`]; the inner one says why it is refused.
    pub async fn remove_mesh_mailbox(&self, ods: OdsCode) -> Result<Result<(), MailboxRefusal>, Error> {
        let line = format!("cpis-gateway mesh mailboxes remove {}", ods.as_str());
        self.change_mailbox(ods, line, |tx, authority| {
            Ok(if mesh::mailbox::remove(tx.conn, authority.id)? { Ok(()) } else { Err(MailboxRefusal::None) })
        })
        .await
    }

    async fn change_mailbox(
        &self,
        ods: OdsCode,
        line: String,
        change: impl Fn(&mut Tx<'_>, &Organization) -> Result<Result<(), MailboxRefusal>, StoreError> + Send + 'static,
    ) -> Result<Result<(), MailboxRefusal>, Error> {
        let context = RequestContext::internal(&line, self.clock.now());
        let write = self.store.write(Vec::new(), move |tx| {
            let Some(authority) = organization::find(tx.conn, &ods)? else {
                return Ok(Err(MailboxRefusal::NoOrganization));
            };
            if authority.kind != OrganizationKind::LocalAuthority {
                return Ok(Err(MailboxRefusal::NotAnAuthority));
            }
            if let Err(refusal) = change(tx, &authority)? {
                return Ok(Err(refusal));
            }
            let entity = EntityRef { resource: "Organization".to_owned(), id: ods.as_str().to_owned(), version: None };
            audit(tx, &context, Some(entity))?;
            Ok(Ok(()))
        });
        Ok(write.await?)
    }

    /// Notes how the gateway's own mailbox stands with MESH.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn note_mesh_contact(&self, mailbox: &str, stands: MeshContact) -> Result<(), Error> {
        let mailbox = mailbox.to_owned();
        let write = self.store.write(Vec::new(), move |tx| mesh::contact::set(tx.conn, &mailbox, &stands));
        Ok(write.await?)
    }

    /// How the gateway's own mailbox stands with MESH.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_contact(&self, mailbox: &str) -> Result<MeshContact, Error> {
        let mailbox = mailbox.to_owned();
        Ok(self.store.read(move |conn| mesh::contact::get(conn, &mailbox)).await?)
    }

    /// How it stands, for `/_status`: while MESH is away, everything but the exchange with MESH works.
    pub async fn check_mesh(self, mailbox: String) -> (Health, String) {
        let time = |at: Option<DateTime<Utc>>| match at {
            Some(at) => at.to_rfc3339_opts(SecondsFormat::Secs, true),
            None => "never".to_owned(),
        };
        let Ok(stands) = self.mesh_contact(&mailbox).await else {
            return (Health::Warn, "How MESH stands can't be read from the store.".to_owned());
        };
        let (reached, error) = (time(stands.reached), stands.error.unwrap_or_default());
        match (stands.failed, stands.reached) {
            (Some(failed), _) => {
                let text = format!("No exchange since {}: {error}. Last contact: {reached}.", time(Some(failed)));
                (Health::Warn, text)
            }
            (None, None) => (Health::Warn, "MESH has not been reached yet.".to_owned()),
            (None, Some(_)) => (Health::Pass, format!("Last contact: {reached}.")),
        }
    }

    /// How many messages stand how.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_counts(&self) -> Result<MeshCounts, Error> {
        let now_ms = self.clock.now().timestamp_millis();
        Ok(self.store.read(move |conn| mesh::message::counts(conn, now_ms)).await?)
    }
}

/// The gauges of the exchange, by kind of message.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn samples(conn: &mut Conn, now: DateTime<Utc>) -> Result<Vec<Sample>, StoreError> {
    let mut samples = Vec::new();
    for total in mesh::message::totals(conn)? {
        let labels = [CHANNEL, total.kind.code()];
        if total.undeliverable > 0 {
            samples.push(Sample::new(&metrics::UNDELIVERABLE, &labels, number(total.undeliverable)));
        }
        if let Some(oldest) = total.oldest_queued {
            let age = (now - oldest).num_seconds().max(0);
            samples.push(Sample::new(&metrics::QUEUED, &labels, number(total.queued)));
            samples.push(Sample::new(&metrics::OLDEST_SECONDS, &labels, number(age)));
        }
    }
    let aside = mesh::received::all_set_aside(conn)?.len();
    samples.push(Sample::new(&metrics::MESH_SET_ASIDE, &[], number(i64::try_from(aside).unwrap_or(i64::MAX))));
    Ok(samples)
}

fn number(count: i64) -> f64 {
    f64::from(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Audits what an operator did at the command line.
fn audit(tx: &mut Tx<'_>, context: &RequestContext, entity: Option<EntityRef>) -> Result<(), StoreError> {
    let event = RequestEvent { entity, ..RequestEvent::by(Interaction::Operation, AuditAgent::operator(), context) };
    tx.append_audit(context.at, event)
}
