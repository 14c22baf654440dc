//! An authority's subscriptions: each change with its audit in one transaction (design 7).

use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    types::{
        Organization,
        audit::RequestEvent,
        subscription::{NewSubscription, Subscription},
    },
};
use crate::store::subscription;

/// An authority's own subscription by its id.
pub enum OwnSubscription {
    /// Not there, or another authority's: the two look alike.
    Unknown,
    Deleted,
    Held(Box<Subscription>),
}

/// How the end of a subscription went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsubscribed {
    Done,
    Unknown,
    /// `If-Match` named another version.
    OtherVersion,
}

/// Most subscriptions that an authority may have at a time: each costs a call for every access.
pub const MOST_SUBSCRIPTIONS: usize = 20;

impl Gateway {
    /// Stores a subscription; its handshake is due at once. `None` when the authority has as many as it may.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn subscribe(&self, new: NewSubscription, event: RequestEvent) -> Result<Option<Subscription>, Error> {
        let clock = self.clock.clone();
        let write = self.store.write(Vec::new(), move |tx| {
            if subscription::of_authority(tx.conn, new.authority_id)?.len() >= MOST_SUBSCRIPTIONS {
                return Ok(None);
            }
            let now = clock.now();
            subscription::create(tx.conn, &new, now.timestamp_millis())?;
            tx.append_audit(now, event.clone())?;
            subscription::find(tx.conn, new.authority_id, new.id)
        });
        Ok(write.await?.map(|(stored, _)| stored))
    }

    /// An authority's own subscription.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_subscription(&self, authority: &Organization, id: Uuid) -> Result<OwnSubscription, Error> {
        let authority = authority.id;
        let found = self.store.read(move |conn| subscription::find(conn, authority, id)).await?;
        Ok(match found {
            None => OwnSubscription::Unknown,
            Some((_, true)) => OwnSubscription::Deleted,
            Some((stored, false)) => OwnSubscription::Held(Box::new(stored)),
        })
    }

    /// An authority's subscriptions that are not deleted, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_subscriptions(&self, authority: &Organization) -> Result<Vec<Subscription>, Error> {
        let authority = authority.id;
        Ok(self.store.read(move |conn| subscription::of_authority(conn, authority)).await?)
    }

    /// Ends a subscription; one that was deleted before stays so. `event` gets the version that it leaves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn unsubscribe(
        &self,
        authority: &Organization,
        id: Uuid,
        if_match: Option<i64>,
        event: RequestEvent,
    ) -> Result<Unsubscribed, Error> {
        let (authority, clock) = (authority.id, self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            let Some((stored, deleted)) = subscription::find(tx.conn, authority, id)? else {
                return Ok(Unsubscribed::Unknown);
            };
            if !deleted && if_match.is_some_and(|version| version != stored.version) {
                return Ok(Unsubscribed::OtherVersion);
            }
            let now = clock.now();
            if !deleted {
                subscription::delete(tx.conn, stored.key, now.timestamp_millis())?;
            }
            let mut event = event.clone();
            if let Some(entity) = &mut event.entity {
                entity.version = Some(if deleted { stored.version } else { stored.version + 1 });
            }
            tx.append_audit(now, event)?;
            Ok(Unsubscribed::Done)
        });
        Ok(write.await?)
    }
}
