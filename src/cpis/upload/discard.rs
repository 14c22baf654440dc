//! What was staged and is not applied is discarded, in parts behind everything else: by its own process when it is
//! refused, cancelled or can't go on; by another when its process died (design 6).

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    answer::{KeptAnswer, NotApplied, undone},
    apply::UploadHead,
    kept::{UNDONE, event},
    turn::{self, LEASE},
};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        types::{
            audit::{AuditAgent, Interaction, Outcome, RequestEvent},
            caller::{Author, RequestContext, Role},
        },
    },
    store::{self, StoreError, Tx, lease::Fence},
};

/// Rows that one transaction discards of each kind.
const PART: i64 = 256;
/// How long it is told that an upload was not applied.
const TOLD: TimeDelta = TimeDelta::days(1);

/// To be the first thing of each transaction under an authority's lease: whoever lost it writes nothing.
pub(super) fn hold(gateway: &Gateway, tx: &mut Tx<'_>, fence: &Fence) -> Result<(), StoreError> {
    if store::lease::hold(tx.conn, fence, gateway.clock.now(), LEASE)? { Ok(()) } else { Err(StoreError::LeaseLost) }
}

impl Gateway {
    /// Discards the versions that an upload has staged; its records stay.
    pub(super) async fn discard_versions(&self, fence: &Fence, key: i64) -> Result<(), Error> {
        self.in_parts(fence, move |tx| store::staged::discard_versions(tx.conn, key, PART)).await
    }

    /// Calls the good records of a refused transaction refused.
    pub(super) async fn refuse_good_records(&self, fence: &Fence, key: i64) -> Result<(), Error> {
        let answer = undone()?;
        self.in_parts(
            fence,
            move |tx| Ok(store::upload::refuse_good_records(tx.conn, key, UNDONE, &answer, PART)? == 0),
        )
        .await
    }

    /// Runs a part under the lease until it says that nothing is left.
    async fn in_parts(
        &self,
        fence: &Fence,
        part: impl Fn(&mut Tx<'_>) -> Result<bool, StoreError> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let part = Arc::new(part);
        loop {
            let (gateway, fence, part) = (self.clone(), fence.clone(), part.clone());
            let done = self.store.write_behind(Vec::new(), move |tx| {
                hold(&gateway, tx, &fence)?;
                part(tx)
            });
            if done.await? {
                return Ok(());
            }
        }
    }

    /// Discards all of an upload, and says why if anybody asks; the lease is given up with it.
    pub(super) async fn discard(
        &self,
        fence: &Fence,
        key: i64,
        head: &UploadHead,
        why: &NotApplied,
    ) -> Result<(), Error> {
        self.discard_versions(fence, key).await?;
        self.in_parts(fence, move |tx| store::staged::discard_records(tx.conn, key, PART)).await?;
        let mut event = event(head, head.interaction);
        event.outcome = if matches!(why, NotApplied::Failed) { Outcome::Failed } else { Outcome::Refused };
        event.refusal = Some(
            match why {
                NotApplied::Refused(_) | NotApplied::Cancelled => "INVALID_VALUE",
                NotApplied::Demographics | NotApplied::Occupied | NotApplied::Failed => "UNABLE_TO_CALL_SERVICE",
            }
            .to_owned(),
        );
        let answer = KeptAnswer::NotApplied(why.clone()).write()?;
        let (gateway, fence) = (self.clone(), fence.clone());
        let done = self.store.write(Vec::new(), move |tx| {
            hold(&gateway, tx, &fence)?;
            store::upload::set_discarded(tx.conn, key, Some(&answer))?;
            tx.append_audit(gateway.clock.now(), event.clone())?;
            store::lease::give_up(tx.conn, &fence)
        });
        done.await?;
        self.uploads.turn_is_over();
        Ok(())
    }

    /// Discards what dead processes have left of an authority's uploads.
    ///
    /// # Errors
    /// [`Error::Occupied`] when another process is at it, or the authority's next change, for too long.
    pub(super) async fn discard_left_over(&self, authority: i64, until: Instant) -> Result<(), Error> {
        loop {
            if let Some(fence) = self.take_lease(authority, Uuid::new_v4()).await? {
                return self.clear(authority, &fence, true).await;
            }
            self.wait_for_turn(authority, until).await?;
        }
    }

    /// The lease of an authority for `holder`, if nobody has it.
    async fn take_lease(&self, authority: i64, holder: Uuid) -> Result<Option<Fence>, Error> {
        let (name, holder, now) = (turn::lease_of(authority), holder.to_string(), self.clock.now());
        let taken = self.store.write(Vec::new(), move |tx| store::lease::acquire(tx.conn, &name, &holder, now, LEASE));
        Ok(taken.await?)
    }

    /// Under the lease of an authority: discards what others have staged and left.
    pub(super) async fn clear(&self, authority: i64, fence: &Fence, gives_up: bool) -> Result<(), Error> {
        let left = self.store.read(move |conn| store::upload::left_over(conn, authority)).await?;
        for (key, id) in left {
            self.discard_versions(fence, key).await?;
            self.in_parts(fence, move |tx| store::staged::discard_records(tx.conn, key, PART)).await?;
            let (gateway, fence) = (self.clone(), fence.clone());
            let done = self.store.write(Vec::new(), move |tx| {
                hold(&gateway, tx, &fence)?;
                store::upload::set_discarded(tx.conn, key, None)?;
                let event = gateway.left_over_event(tx, authority, id)?;
                tx.append_audit(gateway.clock.now(), event)
            });
            done.await?;
            tracing::warn!(upload = %id, "what a dead process had staged was discarded");
        }
        if gives_up {
            let fence = fence.clone();
            self.store.write(Vec::new(), move |tx| store::lease::give_up(tx.conn, &fence)).await?;
            self.uploads.turn_is_over();
        }
        Ok(())
    }

    /// That an upload was not applied, because its process died.
    fn left_over_event(&self, tx: &mut Tx<'_>, authority: i64, id: Uuid) -> Result<RequestEvent, StoreError> {
        let authority = store::organization::get(tx.conn, authority)?;
        let agent = AuditAgent {
            client_id: "cpis-gateway".to_owned(),
            role: Role::LocalAuthority,
            organization: authority.ods,
            organization_name: authority.name,
            author: Author::System,
            token_tail: String::new(),
        };
        let context = RequestContext::internal("an upload whose process died", self.clock.now());
        let mut event = RequestEvent::by(Interaction::Batch, agent, &context);
        event.outcome = Outcome::Failed;
        event.refusal = Some("UNABLE_TO_CALL_SERVICE".to_owned());
        event.upload = Some(id);
        Ok(event)
    }

    /// Discards what dead processes have left of any authority's uploads, and forgets those that were not applied when it
    /// has been told for long enough; returns how many authorities had something left. To be called now and then.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn sweep_uploads(&self) -> Result<usize, Error> {
        let authorities = self.store.read(store::upload::authorities_with_left_over).await?;
        let mut swept = 0;
        for authority in authorities {
            if let Some(fence) = self.take_lease(authority, Uuid::new_v4()).await? {
                self.clear(authority, &fence, true).await?;
                swept += 1;
            }
        }
        let before_ms = (self.clock.now() - TOLD).timestamp_millis();
        self.store.write(Vec::new(), move |tx| store::upload::forget_discarded(tx.conn, before_ms)).await?;
        Ok(swept)
    }
}
