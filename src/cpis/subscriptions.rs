//! An authority's subscriptions: each change with its audit in one transaction (design 7).

use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    notifications::queue::is_held,
    types::{
        Organization, Precondition,
        audit::RequestEvent,
        subscription::{Event, Hook, NewSubscription, Subscription, SubscriptionChange, SubscriptionStatus},
    },
};
use crate::store::{
    StoreError, delivery,
    subscription::{self, Standing},
};

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

/// How the change of a subscription went.
pub enum Resubscribed {
    /// As it stands now.
    Done(Box<Subscription>),
    Unknown,
    Deleted,
    /// A subscription keeps its topic: its events are numbered, and all of one kind.
    OtherTopic,
    /// A precondition does not hold.
    OtherVersion(Precondition),
}

/// Events of a subscription in the order of their numbers.
pub struct PastEvents {
    pub subscription: Subscription,
    pub events: Vec<Event>,
    /// Number to go on from, if there may be more.
    pub next: Option<i64>,
}

/// What a change asks of a subscription; `None` when it stands like that already.
///
/// Whatever decides what is sent where (endpoint, headers, content, end) needs a new handshake, and so does one that stands
/// still, in error or off.
fn standing(stored: &Subscription, change: &SubscriptionChange) -> Option<Standing> {
    let wanted = &change.wanted;
    let Hook { endpoint, headers, payload, content, heartbeat, timeout, max_count } = &stored.hook;
    let same_place = *endpoint == wanted.hook.endpoint
        && *payload == wanted.hook.payload
        && *content == wanted.hook.content
        && stored.criteria == wanted.criteria
        && stored.end.map(|end| end.timestamp_millis()) == wanted.end_ms;
    let same_words = stored.reason == wanted.reason
        && *heartbeat == wanted.hook.heartbeat
        && *timeout == wanted.hook.timeout
        && *max_count == wanted.hook.max_count;
    let stands_still = matches!(stored.status, SubscriptionStatus::Error | SubscriptionStatus::Off);
    match change.off {
        true if stored.status == SubscriptionStatus::Off && same_place && same_words => None,
        true => Some(Standing::Off),
        false if stands_still || !same_place || *headers != wanted.hook.headers => Some(Standing::Requested),
        false => (!same_words).then_some(Standing::Kept),
    }
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

    /// Replaces what an authority asked for. Numbers of events go on without a gap, and what was not delivered goes to the
    /// new endpoint once it has answered its handshake. `event` gets the version that it leaves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn resubscribe(
        &self,
        change: SubscriptionChange,
        precondition: Precondition,
        event: RequestEvent,
    ) -> Result<Resubscribed, Error> {
        let clock = self.clock.clone();
        let write = self.store.write(Vec::new(), move |tx| {
            let (authority, id) = (change.wanted.authority_id, change.wanted.id);
            let stored = match subscription::find(tx.conn, authority, id)? {
                None => return Ok(Resubscribed::Unknown),
                Some((_, true)) => return Ok(Resubscribed::Deleted),
                Some((stored, false)) => stored,
            };
            if !precondition.holds(Some(stored.version)) {
                return Ok(Resubscribed::OtherVersion(precondition));
            }
            if stored.topic != change.wanted.topic {
                return Ok(Resubscribed::OtherTopic);
            }
            let now = clock.now();
            if let Some(standing) = standing(&stored, &change) {
                let now_ms = now.timestamp_millis();
                subscription::replace(tx.conn, stored.key, &change.wanted, standing, now_ms)?;
                if standing == Standing::Requested {
                    delivery::retry_all(tx.conn, stored.key, now_ms)?;
                }
            }
            let (stands, _) = subscription::find(tx.conn, authority, id)?.ok_or(StoreError::Corrupt("subscription"))?;
            let mut event = event.clone();
            if let Some(entity) = &mut event.entity {
                entity.version = Some(stands.version);
            }
            tx.append_audit(now, event)?;
            Ok(Resubscribed::Done(Box::new(stands)))
        });
        Ok(write.await?)
    }

    /// Events of an own subscription with numbers between two, both included: at most `limit` of them. One about a child
    /// whose record is restricted is left out as long as that lasts (design 9).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn past_events(
        &self,
        subscription: Subscription,
        between: (i64, i64),
        limit: i64,
    ) -> Result<PastEvents, Error> {
        let gateway = self.clone();
        let read = self.store.read(move |conn| {
            let given = delivery::between(conn, subscription.key, between, limit)?;
            let full = i64::try_from(given.len()).unwrap_or(i64::MAX) >= limit;
            let last = given.last().map(|event| event.event_number);
            let next = last.map(|last| last + 1).filter(|next| full && *next <= between.1.min(subscription.events));
            let mut events = Vec::new();
            for event in given {
                if !is_held(conn, event.outbox)? {
                    events.push(gateway.event(conn, &event)?);
                }
            }
            Ok(PastEvents { subscription: subscription.clone(), events, next })
        });
        Ok(read.await?)
    }

    /// Ends a subscription; one that was deleted before stays so. `event` gets the version that it leaves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn unsubscribe(
        &self,
        authority: &Organization,
        id: Uuid,
        precondition: Precondition,
        event: RequestEvent,
    ) -> Result<Unsubscribed, Error> {
        let (authority, clock) = (authority.id, self.clock.clone());
        let write = self.store.write(Vec::new(), move |tx| {
            let Some((stored, deleted)) = subscription::find(tx.conn, authority, id)? else {
                return Ok(Unsubscribed::Unknown);
            };
            if !deleted && !precondition.holds(Some(stored.version)) {
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
