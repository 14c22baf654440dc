//! What is sent over MESH: notifications are put into messages, and each message goes out until the authority has it.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{LEASE, MeshTerms, audit};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        notifications::{may_be_told, tellable},
        types::{
            NhsNumber, OdsCode,
            caller::RequestContext,
            mesh::{MeshContent, MeshKind, MeshMessage, MeshReady, MeshRow, MeshState, Sending},
            notice::Topic,
        },
    },
    store::{
        Conn, StoreError, access, lease,
        mesh::{
            mailbox,
            message::{self, Asked},
            notice::{self, Carried},
        },
        organization, person,
    },
};

/// Messages made for one authority and topic in one transaction, and messages sent in one round.
const AT_ONCE: i64 = 64;
/// Messages whose fate MESH is asked for in one round.
const TRACKED_AT_ONCE: i64 = 20;
/// How long after a sending MESH is first asked what became of it.
const FIRST_TRACKED: TimeDelta = TimeDelta::minutes(15);

/// What is due to be sent or asked about.
#[derive(Clone, Debug, Default)]
pub struct MeshDue {
    /// Keys of the messages to be sent.
    pub send: Vec<i64>,
    /// Keys of the messages that MESH is to be asked about.
    pub track: Vec<i64>,
}

impl Gateway {
    /// Puts the notifications whose window is over into messages; false when the lease was lost. A restricted child's
    /// accesses wait until it is restricted no longer.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn collect_mesh_notices(&self, terms: &MeshTerms) -> Result<bool, Error> {
        for (topic, kind) in [(Topic::Access, MeshKind::Access), (Topic::InactiveNumber, MeshKind::InactiveNumber)] {
            let window = if topic == Topic::Access { terms.window } else { TimeDelta::zero() };
            let until_ms = (self.clock.now() - window).timestamp_millis();
            let authorities = self.store.read(move |conn| notice::authorities(conn, topic, until_ms)).await?;
            let each = topic == Topic::InactiveNumber || terms.window.is_zero();
            for authority in authorities {
                loop {
                    let most = if each { 1 } else { terms.max_accesses };
                    let read = self.store.read(move |conn| next_batch(conn, authority, topic, until_ms, most));
                    let batch = read.await?;
                    if batch.is_empty() {
                        break;
                    }
                    if !self.put_into_message(terms, authority.0, kind, batch).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn put_into_message(
        &self,
        terms: &MeshTerms,
        authority: i64,
        kind: MeshKind,
        batch: Vec<i64>,
    ) -> Result<bool, Error> {
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            if !terms.hold(tx, &clock)? {
                return Ok(false);
            }
            let now_ms = clock.now().timestamp_millis();
            let key = message::add(tx.conn, kind, authority, now_ms)?;
            notice::put_in(tx.conn, key, &batch, now_ms)?;
            Ok(true)
        });
        Ok(write.await?)
    }

    /// Whether a process may exchange messages and has something to send. Changes nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_mesh_work(&self, terms: &MeshTerms) -> Result<bool, Error> {
        let (now, terms) = (self.clock.now(), terms.clone());
        let read = self.store.read(move |conn| {
            let (now_ms, until_ms) = (now.timestamp_millis(), (now - terms.window).timestamp_millis());
            Ok(lease::is_free(conn, LEASE, &terms.process, now)?
                && (!message::due(conn, &[MeshState::Queued, MeshState::Sending], now_ms, 1)?.is_empty()
                    || !notice::authorities(conn, Topic::Access, until_ms)?.is_empty()
                    || !notice::authorities(conn, Topic::InactiveNumber, now_ms)?.is_empty()))
        });
        Ok(read.await?)
    }

    /// What is to be done now.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_due(&self) -> Result<MeshDue, Error> {
        let now_ms = self.clock.now().timestamp_millis();
        let read = self.store.read(move |conn| {
            Ok(MeshDue {
                send: message::due(conn, &[MeshState::Queued, MeshState::Sending], now_ms, AT_ONCE)?,
                track: message::due(conn, &[MeshState::Sent], now_ms, TRACKED_AT_ONCE)?,
            })
        });
        Ok(read.await?)
    }

    /// Makes a message ready to go: its content is read anew, and accesses of children that are restricted by now are taken
    /// out to wait. `None` when nothing is to be sent: it is not due any more, carries nothing any more, or its authority
    /// has no mailbox (then it waits for one).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn ready_mesh_message(&self, key: i64) -> Result<Option<MeshReady>, Error> {
        let held = self.store.read(move |conn| held_now(conn, key)).await?;
        if !held.is_empty() {
            let write = self.store.write(Vec::new(), move |tx| {
                notice::take_out(tx.conn, &held)?;
                if notice::count(tx.conn, key)? == 0 {
                    message::remove(tx.conn, key)?;
                }
                Ok(())
            });
            write.await?;
        }
        Ok(self.store.read(move |conn| ready(conn, key)).await?)
    }

    /// A message as it stands.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_message(&self, key: i64) -> Result<Option<MeshMessage>, Error> {
        Ok(self.store.read(move |conn| message::get(conn, key)).await?)
    }

    /// Notes that a message is about to be sent; false when the lease was lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn begin_mesh_sending(&self, terms: &MeshTerms, key: i64) -> Result<bool, Error> {
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            if !terms.hold(tx, &clock)? {
                return Ok(false);
            }
            message::begin(tx.conn, key, clock.now().timestamp_millis())?;
            Ok(true)
        });
        Ok(write.await?)
    }

    /// Writes how a sending went; false when the lease was lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record_mesh_sending(&self, terms: &MeshTerms, key: i64, sending: Sending) -> Result<bool, Error> {
        let (terms, clock) = (terms.clone(), self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            let now = clock.now();
            let track_ms = (now + FIRST_TRACKED).timestamp_millis();
            message::record(tx.conn, key, &sending, now.timestamp_millis(), track_ms)?;
            terms.hold(tx, &clock)
        });
        Ok(write.await?)
    }

    /// Writes what MESH says of a message that was sent: taken by the authority, or ask again after `pause`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record_mesh_tracking(&self, key: i64, delivered: bool, pause: TimeDelta) -> Result<(), Error> {
        let at_ms = (self.clock.now() + pause).timestamp_millis();
        let write = self.store.write(Vec::new(), move |tx| match delivered {
            true => message::delivered(tx.conn, key),
            false => message::track_at(tx.conn, key, at_ms),
        });
        Ok(write.await?)
    }

    /// Messages as operators see them, newest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_messages(
        &self,
        state: Option<MeshState>,
        ods: Option<OdsCode>,
        limit: i64,
    ) -> Result<Vec<MeshRow>, Error> {
        let read = self.store.read(move |conn| {
            let authority = match &ods {
                None => None,
                Some(ods) => match organization::find(conn, ods)? {
                    Some(found) => Some(found.id),
                    None => return Ok(Vec::new()),
                },
            };
            let found = message::list(conn, Asked { state, authority }, limit)?;
            found.into_iter().map(|message| row(conn, message)).collect()
        });
        Ok(read.await?)
    }

    /// One message as operators see it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_message_by_id(&self, id: Uuid) -> Result<Option<MeshRow>, Error> {
        let read = self.store.read(move |conn| {
            let found = message::find(conn, id)?;
            found.map(|message| row(conn, message)).transpose()
        });
        Ok(read.await?)
    }

    /// Sends messages again, in an operator's name: one, or all that are undeliverable. Returns how many.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn requeue_mesh_messages(&self, one: Option<Uuid>) -> Result<usize, Error> {
        let clock = self.clock.clone();
        let what = one.map_or_else(|| "--undeliverable".to_owned(), |id| id.to_string());
        let context = RequestContext::internal(&format!("cpis-gateway mesh messages requeue {what}"), clock.now());
        let write = self.store.write(Vec::new(), move |tx| {
            let found = match one {
                Some(id) => message::find(tx.conn, id)?.into_iter().collect(),
                None => {
                    let asked = Asked { state: Some(MeshState::Undeliverable), authority: None };
                    message::list(tx.conn, asked, i64::MAX)?
                }
            };
            // What waits or is on its way goes out anyway.
            let closed = |message: &&MeshMessage| !matches!(message.state, MeshState::Queued | MeshState::Sending);
            let again: Vec<&MeshMessage> = found.iter().filter(closed).collect();
            for message in &again {
                message::reopen(tx.conn, message.key, 0, clock.now(), None)?;
            }
            if !again.is_empty() {
                audit(tx, &context, None)?;
            }
            Ok(again.len())
        });
        Ok(write.await?)
    }
}

fn row(conn: &mut Conn, message: MeshMessage) -> Result<MeshRow, StoreError> {
    let authority = organization::get(conn, message.authority)?.ods;
    let notices = notice::count(conn, message.key)?;
    Ok(MeshRow { message, authority, notices })
}

/// The next notifications of an authority that go into one message: none unless the oldest that isn't held has waited for
/// its window.
fn next_batch(
    conn: &mut Conn,
    authority: (i64, i64),
    topic: Topic,
    until_ms: i64,
    most: usize,
) -> Result<Vec<i64>, StoreError> {
    let (mut batch, mut after) = (Vec::new(), 0);
    loop {
        let waiting = notice::waiting(conn, authority, topic, after, AT_ONCE)?;
        let Some(last) = waiting.last() else { return Ok(batch) };
        after = last.outbox_id;
        for one in &waiting {
            let number = one.access.map(|access| notice::number_asked(conn, access)).transpose()?;
            if !number.map_or(Ok(true), |number| may_be_told(conn, authority.0, &number))? {
                continue;
            }
            if batch.is_empty() && one.created_ms > until_ms {
                return Ok(batch);
            }
            batch.push(one.outbox_id);
            if batch.len() == most {
                return Ok(batch);
            }
        }
    }
}

/// Notifications in a message that must not go out at this moment.
fn held_now(conn: &mut Conn, key: i64) -> Result<Vec<i64>, StoreError> {
    let mut held = Vec::new();
    let Some(message) = message::get(conn, key)? else { return Ok(held) };
    for Carried { outbox_id, access, .. } in notice::carried(conn, key)? {
        if let Some(access) = access {
            let number = notice::number_asked(conn, access)?;
            if !may_be_told(conn, message.authority, &number)? {
                held.push(outbox_id);
            }
        }
    }
    Ok(held)
}

fn ready(conn: &mut Conn, key: i64) -> Result<Option<MeshReady>, StoreError> {
    let Some(message) = message::get(conn, key)? else { return Ok(None) };
    if !matches!(message.state, MeshState::Queued | MeshState::Sending) {
        return Ok(None);
    }
    let Some((mailbox, _)) = mailbox::of_authority(conn, message.authority)? else { return Ok(None) };
    let content = match (&message.kind, &message.reply) {
        (MeshKind::Acknowledgement, Some(reply)) => MeshContent::Acknowledgement(reply.clone()),
        (MeshKind::Acknowledgement, None) => return Err(StoreError::Corrupt("mesh_message.reply_to")),
        (MeshKind::Access, _) => match accesses(conn, &message)? {
            Some(content) => content,
            None => return Ok(None),
        },
        (MeshKind::InactiveNumber, _) => inactive_number(conn, &message)?,
    };
    let authority = organization::get(conn, message.authority)?;
    Ok(Some(MeshReady { message, authority, mailbox, content }))
}

fn persons(conn: &mut Conn, number: &NhsNumber) -> Result<Vec<i64>, StoreError> {
    Ok(person::child(conn, number)?.map(|child| child.persons).unwrap_or_default())
}

/// `None` when nothing is left in the message: an empty one is never sent.
fn accesses(conn: &mut Conn, message: &MeshMessage) -> Result<Option<MeshContent>, StoreError> {
    let (mut accesses, mut everybody) = (Vec::new(), Vec::new());
    for carried in notice::carried(conn, message.key)? {
        let mut access = access::get(conn, carried.access.ok_or(StoreError::Corrupt("outbox.access_id"))?)?;
        let child = persons(conn, &access.nhs_number)?;
        // Another number by which the child was asked for may be one that only another authority knows.
        if let Some(own) = notice::own_number(conn, message.authority, &child)? {
            access.nhs_number = own;
        }
        everybody.extend(child);
        accesses.push(access);
    }
    everybody.sort_unstable();
    everybody.dedup();
    let file_number = notice::newest_file(conn, message.authority, &everybody)?;
    Ok((!accesses.is_empty()).then_some(MeshContent::Accesses { accesses, file_number }))
}

fn inactive_number(conn: &mut Conn, message: &MeshMessage) -> Result<MeshContent, StoreError> {
    let number = |text: &str| NhsNumber::parse(text).map_err(|_| StoreError::Corrupt("outbox.nhs_number"));
    let carried = notice::carried(conn, message.key)?;
    let told = carried.first().ok_or(StoreError::Corrupt("mesh_message_notice"))?;
    let nhs_number = number(told.nhs_number.as_deref().unwrap_or_default())?;
    // A number may have been retired since.
    let replaced_by = tellable(conn, &nhs_number, told.replaced_by.as_deref().map(number).transpose()?)?;
    let child = persons(conn, &nhs_number)?;
    let file_number = notice::newest_file(conn, message.authority, &child)?;
    Ok(MeshContent::InactiveNumber { nhs_number, replaced_by, file_number })
}
