//! What came over MESH: each message is handled once, and one that can't be handled doesn't hold up the others.

use chrono::TimeDelta;

use super::{MeshTerms, audit};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        types::{
            Organization,
            caller::RequestContext,
            mesh::{FileReply, MeshMessage, MeshSetAside, Taken},
        },
    },
    store::{
        StoreError, Tx,
        mesh::{
            mailbox, message,
            received::{self, Standing},
        },
        organization,
    },
};

/// What a REPORT of MESH did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportEffect {
    /// The message goes out again after a pause.
    Reopened(MeshMessage),
    /// The message is given up.
    Undeliverable(MeshMessage),
    /// It is about nothing that was sent from here.
    Nothing,
}

impl Gateway {
    /// Begins to handle a message. Written down before anything is done, so that a message at which the process dies is
    /// set aside like one that fails.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn take_mesh_message(&self, terms: &MeshTerms, id: &str, from: &str) -> Result<Taken, Error> {
        let (terms, clock, id, from) = (terms.clone(), self.clock.clone(), id.to_owned(), from.to_owned());
        let write = self.store.write(Vec::new(), move |tx| {
            if !terms.hold(tx, &clock)? {
                return Ok(Taken::NotMine);
            }
            let now_ms = clock.now().timestamp_millis();
            let attempt = match received::find(tx.conn, &id)? {
                None => 1,
                Some(Standing::Handled) => return Ok(Taken::Handled),
                Some(Standing::SetAside) => return Ok(Taken::SetAside),
                Some(Standing::Taken { next_attempt_ms, .. }) if next_attempt_ms > now_ms => return Ok(Taken::NotYet),
                Some(Standing::Taken { attempts, .. }) => attempts + 1,
            };
            if attempt > terms.handling_attempts {
                received::set_aside(tx.conn, &id)?;
                return Ok(Taken::SetAside);
            }
            received::begin(tx.conn, &id, &from, attempt, now_ms)?;
            Ok(Taken::Attempt(attempt))
        });
        Ok(write.await?)
    }

    /// How a message that MESH lists stands, without beginning anything; `None` when it was never seen.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_standing(&self, id: &str) -> Result<Option<Taken>, Error> {
        let (id, now_ms) = (id.to_owned(), self.clock.now().timestamp_millis());
        let read = self.store.read(move |conn| {
            Ok(received::find(conn, &id)?.and_then(|standing| match standing {
                Standing::Handled => Some(Taken::Handled),
                Standing::SetAside => Some(Taken::SetAside),
                Standing::Taken { next_attempt_ms, .. } if next_attempt_ms > now_ms => Some(Taken::NotYet),
                Standing::Taken { .. } => None,
            }))
        });
        Ok(read.await?)
    }

    /// Leaves a message for later. `counts` says whether this was a try: what is wrong elsewhere (the store, demographics,
    /// MESH) is not held against the message.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn postpone_mesh_message(
        &self,
        id: &str,
        counts: bool,
        pause: TimeDelta,
        why: &'static str,
    ) -> Result<(), Error> {
        let (id, at_ms) = (id.to_owned(), (self.clock.now() + pause).timestamp_millis());
        let write = self.store.write(Vec::new(), move |tx| received::postpone(tx.conn, &id, counts, at_ms, why));
        Ok(write.await?)
    }

    /// The authority whose mailbox a message came from.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_sender(&self, from: &str) -> Result<Option<Organization>, Error> {
        let from = from.to_owned();
        let read = self.store.read(move |conn| match mailbox::authority_of(conn, &from)? {
            Some(authority) => organization::get(conn, authority).map(Some),
            None => Ok(None),
        });
        Ok(read.await?)
    }

    /// A message was handled: that, and its acknowledgement if it has one, are durable when this returns.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn finish_mesh_message(
        &self,
        id: &str,
        authority: Option<i64>,
        outcome: &'static str,
        reply: Option<FileReply>,
    ) -> Result<(), Error> {
        let (id, clock) = (id.to_owned(), self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            let now_ms = clock.now().timestamp_millis();
            if let (Some(authority), Some(reply)) = (authority, &reply) {
                message::add_reply(tx.conn, authority, reply, now_ms)?;
            }
            received::finish(tx.conn, &id, authority, outcome, now_ms)
        });
        Ok(write.await?)
    }

    /// MESH reports that a message of ours was not delivered, with its code and what that means. Not collected (14), and
    /// what is not known, is sent again after `pause` until the tries are used up; what sending again can't mend (12, 15,
    /// 16, 17) is given up at once.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn take_mesh_report(
        &self,
        terms: &MeshTerms,
        id: &str,
        linked: &str,
        code: &str,
        meaning: &str,
        pause: TimeDelta,
    ) -> Result<ReportEffect, Error> {
        let (terms, clock, id, linked) = (terms.clone(), self.clock.clone(), id.to_owned(), linked.to_owned());
        let error = format!("MESH reports {code}: {meaning}");
        let lasting = ["12", "15", "16", "17"].contains(&code);
        let write = self.store.write(Vec::new(), move |tx| {
            let now = clock.now();
            let effect = report(tx, &terms, &linked, lasting, &error, now + pause)?;
            received::finish(tx.conn, &id, None, "report", now.timestamp_millis())?;
            Ok(effect)
        });
        Ok(write.await?)
    }

    /// Messages that came and could not be handled, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mesh_set_aside(&self) -> Result<Vec<MeshSetAside>, Error> {
        Ok(self.store.read(received::all_set_aside).await?)
    }

    /// Has a message that was set aside handled again, in an operator's name; false when there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn take_up_mesh_message(&self, id: &str) -> Result<bool, Error> {
        let (id, clock) = (id.to_owned(), self.clock.clone());
        let context = RequestContext::internal(&format!("cpis-gateway mesh received retry {id}"), clock.now());
        let write = self.store.write(Vec::new(), move |tx| {
            let taken = received::take_up(tx.conn, &id, clock.now().timestamp_millis())?;
            if taken {
                audit(tx, &context, None)?;
            }
            Ok(taken)
        });
        Ok(write.await?)
    }
}

fn report(
    tx: &mut Tx<'_>,
    terms: &MeshTerms,
    linked: &str,
    lasting: bool,
    error: &str,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<ReportEffect, StoreError> {
    let Some(sent) = message::of_mesh_id(tx.conn, linked)? else { return Ok(ReportEffect::Nothing) };
    let failures = sent.attempts + 1;
    if lasting || failures >= terms.attempts {
        message::give_up(tx.conn, sent.key, error)?;
        return Ok(ReportEffect::Undeliverable(sent));
    }
    message::reopen(tx.conn, sent.key, failures, at, Some(error))?;
    Ok(ReportEffect::Reopened(sent))
}
