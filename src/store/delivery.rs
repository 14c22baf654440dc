//! From the outbox to the subscriptions: which event has which number in which subscription, and how its sending goes
//! (design 7). The notifier writes here under its lease, and an owner's change of a channel has what was not delivered
//! sent again; what is given to whom and when it may go is decided in `cpis::notifications`.
//!
//! A row is given once to each subscription (unique key), whatever is repeated after a crash.

use diesel::{
    dsl::{exists, not},
    prelude::*,
};
use uuid::Uuid;

use super::{
    Conn, StoreError,
    connection::on,
    schema::{delivery, outbox, subscription},
    subscription::open,
};
use crate::cpis::types::{notice::Topic, subscription::Delivery};

const QUEUED: &str = "queued";
const DELIVERED: &str = "delivered";
const UNDELIVERABLE: &str = "undeliverable";

/// What of an open subscription decides which outbox rows are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Surrogate key of the subscription.
    pub key: i64,
    pub authority_id: i64,
    pub topic: Topic,
    /// Rows created before this moment are not for it; milliseconds.
    pub from_ms: Option<i64>,
}

type ChannelRow = (i64, i64, String, Option<i64>);
type ChannelColumns = (subscription::id, subscription::authority_id, subscription::topic_code, subscription::from_ms);

const CHANNEL: ChannelColumns =
    (subscription::id, subscription::authority_id, subscription::topic_code, subscription::from_ms);

fn channel_of((key, authority_id, topic, from_ms): ChannelRow) -> Result<Channel, StoreError> {
    let topic = Topic::from_code(&topic).ok_or(StoreError::Corrupt("subscription.topic_code"))?;
    Ok(Channel { key, authority_id, topic, from_ms })
}

/// The first open subscription that has still to be given what was there before it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn first_behind(conn: &mut Conn, now_ms: i64) -> Result<Option<Channel>, StoreError> {
    let row: Option<ChannelRow> = subscription::table
        .filter(open!(now_ms))
        .filter(subscription::caught_up.eq(false))
        .order(subscription::id)
        .select(CHANNEL)
        .first(conn)
        .optional()?;
    row.map(channel_of).transpose()
}

/// An authority's open subscriptions that have caught up, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn caught_up(conn: &mut Conn, authority: i64, now_ms: i64) -> Result<Vec<Channel>, StoreError> {
    let rows: Vec<ChannelRow> = subscription::table
        .filter(open!(now_ms))
        .filter(subscription::authority_id.eq(authority).and(subscription::caught_up.eq(true)))
        .order(subscription::id)
        .select(CHANNEL)
        .load(conn)?;
    rows.into_iter().map(channel_of).collect()
}

/// An outbox row that no subscription has been given yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrouted {
    pub outbox_id: i64,
    pub authority_id: i64,
    pub topic: Topic,
    pub created_ms: i64,
}

/// The oldest rows that wait for an open subscription to their topic which has caught up, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn unrouted(conn: &mut Conn, now_ms: i64, limit: usize) -> Result<Vec<Unrouted>, StoreError> {
    let asks = subscription::authority_id.eq(outbox::authority_id).and(subscription::topic_code.eq(outbox::kind));
    let rows: Vec<(i64, i64, String, i64)> = outbox::table
        .inner_join(subscription::table.on(asks))
        .filter(outbox::routed_ms.is_null())
        .filter(open!(now_ms))
        .filter(subscription::caught_up.eq(true))
        .filter(subscription::from_ms.le(outbox::created_ms.nullable()))
        .select((outbox::id, outbox::authority_id, outbox::kind, outbox::created_ms))
        .distinct()
        .order(outbox::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(conn)?;
    rows.into_iter()
        .map(|(outbox_id, authority_id, kind, created_ms)| {
            let topic = Topic::from_code(&kind).ok_or(StoreError::Corrupt("outbox.kind"))?;
            Ok(Unrouted { outbox_id, authority_id, topic, created_ms })
        })
        .collect()
}

/// The oldest rows of a subscription's authority and topic from `from_ms` on that it has not been given, at most `limit`;
/// whether or not others have them.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn lacking(conn: &mut Conn, channel: &Channel, from_ms: i64, limit: usize) -> Result<Vec<i64>, StoreError> {
    let has =
        delivery::table.filter(delivery::subscription_id.eq(channel.key)).filter(delivery::outbox_id.eq(outbox::id));
    Ok(outbox::table
        .filter(outbox::authority_id.eq(channel.authority_id).and(outbox::kind.eq(channel.topic.code())))
        .filter(outbox::created_ms.ge(from_ms))
        .filter(not(exists(has)))
        .order(outbox::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select(outbox::id)
        .load(conn)?)
}

/// Notes that a subscription has been given what was there before it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_caught_up(conn: &mut Conn, key: i64) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key)).set(subscription::caught_up.eq(true)).execute(conn)?;
    Ok(())
}

/// Gives rows the subscription's next numbers, in order; one that it has already is passed over.
///
/// # Errors
/// [`StoreError::Race`] when another process has given one of the numbers meanwhile; [`StoreError`] when the database
/// fails.
pub fn queue(conn: &mut Conn, key: i64, outbox_ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
    if outbox_ids.is_empty() {
        return Ok(());
    }
    let before: i64 = subscription::table.find(key).select(subscription::events).first(conn)?;
    let mut events = before;
    for outbox_id in outbox_ids {
        let values = (
            delivery::subscription_id.eq(key),
            delivery::event_number.eq(events + 1),
            delivery::outbox_id.eq(*outbox_id),
            delivery::state.eq(QUEUED),
            delivery::attempts.eq(0_i64),
            delivery::next_attempt_ms.eq(now_ms),
        );
        // On this key only: a number that another process has given meanwhile must fail, not be passed over.
        let once = (delivery::subscription_id, delivery::outbox_id);
        let new = on!(conn, c => diesel::insert_into(delivery::table)
            .values(values)
            .on_conflict(once)
            .do_nothing()
            .execute(c))?;
        events += i64::from(new == 1);
    }
    if events > before {
        diesel::update(subscription::table.find(key)).set(subscription::events.eq(events)).execute(conn)?;
    }
    Ok(())
}

/// The open subscriptions that have an event in the queue, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn with_queue(conn: &mut Conn, now_ms: i64) -> Result<Vec<i64>, StoreError> {
    let queued =
        delivery::table.filter(delivery::subscription_id.eq(subscription::id)).filter(delivery::state.eq(QUEUED));
    Ok(subscription::table
        .filter(open!(now_ms))
        .filter(exists(queued))
        .order(subscription::id)
        .select(subscription::id)
        .load(conn)?)
}

type DeliveryRow = (i64, i64, i64, i64, String);
type DeliveryColumns = (delivery::id, delivery::event_number, delivery::attempts, delivery::outbox_id, outbox::uuid);

const DELIVERY: DeliveryColumns =
    (delivery::id, delivery::event_number, delivery::attempts, delivery::outbox_id, outbox::uuid);

fn delivery_of((key, event_number, attempts, outbox, uuid): DeliveryRow) -> Result<Delivery, StoreError> {
    let notification = Uuid::parse_str(&uuid).map_err(|_| StoreError::Corrupt("outbox.uuid"))?;
    Ok(Delivery { key, event_number, attempts, notification, outbox })
}

/// A subscription's first event in the queue after the number `after`, and when it is due (milliseconds).
///
/// # Errors
/// [`StoreError::Corrupt`] when the row can't be read; [`StoreError`] when the database fails.
pub fn first_queued(conn: &mut Conn, key: i64, after: i64) -> Result<Option<(Delivery, i64)>, StoreError> {
    let row: Option<(DeliveryRow, i64)> = delivery::table
        .inner_join(outbox::table)
        .filter(delivery::subscription_id.eq(key).and(delivery::state.eq(QUEUED)))
        .filter(delivery::event_number.gt(after))
        .order(delivery::event_number)
        .select((DELIVERY, delivery::next_attempt_ms))
        .first(conn)
        .optional()?;
    row.map(|(row, at_ms)| Ok((delivery_of(row)?, at_ms))).transpose()
}

/// How a sending went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// Try again at this time.
    Retry {
        at_ms: i64,
        error: String,
    },
    /// The last try failed.
    Undeliverable {
        error: String,
    },
}

/// Writes how a sending went. A failure changes nothing of an event that another process has delivered meanwhile.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn record(conn: &mut Conn, key: i64, attempt: &Attempt, now_ms: i64) -> Result<(), StoreError> {
    let attempts = delivery::attempts.eq(delivery::attempts + 1);
    let queued = delivery::table.find(key).filter(delivery::state.eq(QUEUED));
    match attempt {
        Attempt::Delivered => diesel::update(delivery::table.find(key).filter(delivery::state.ne(DELIVERED)))
            .set((attempts, delivery::state.eq(DELIVERED), delivery::delivered_ms.eq(now_ms)))
            .execute(conn)?,
        Attempt::Retry { at_ms, error } => diesel::update(queued)
            .set((attempts, delivery::next_attempt_ms.eq(*at_ms), delivery::last_error.eq(error)))
            .execute(conn)?,
        Attempt::Undeliverable { error } => diesel::update(queued)
            .set((attempts, delivery::state.eq(UNDELIVERABLE), delivery::last_error.eq(error)))
            .execute(conn)?,
    };
    Ok(())
}

/// Puts back into the queue what a subscription has not been delivered, as if it had never been tried; it is due at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn retry_all(conn: &mut Conn, key: i64, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(delivery::table.filter(delivery::subscription_id.eq(key).and(delivery::state.ne(DELIVERED))))
        .set((
            delivery::state.eq(QUEUED),
            delivery::attempts.eq(0_i64),
            delivery::next_attempt_ms.eq(now_ms),
            delivery::last_error.eq(None::<String>),
        ))
        .execute(conn)?;
    Ok(())
}

/// A subscription's events of these numbers, both included, by ascending number, at most `limit`; delivered or not.
///
/// # Errors
/// [`StoreError::Corrupt`] when a row can't be read; [`StoreError`] when the database fails.
pub fn between(conn: &mut Conn, key: i64, (from, to): (i64, i64), limit: i64) -> Result<Vec<Delivery>, StoreError> {
    let rows: Vec<DeliveryRow> = delivery::table
        .inner_join(outbox::table)
        .filter(delivery::subscription_id.eq(key))
        .filter(delivery::event_number.between(from, to))
        .order(delivery::event_number)
        .limit(limit)
        .select(DELIVERY)
        .load(conn)?;
    rows.into_iter().map(delivery_of).collect()
}

/// Events queued for open subscriptions.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn waiting(conn: &mut Conn, now_ms: i64) -> Result<i64, StoreError> {
    let keys = subscription::table.filter(open!(now_ms)).select(subscription::id);
    Ok(delivery::table
        .filter(delivery::state.eq(QUEUED).and(delivery::subscription_id.eq_any(keys)))
        .count()
        .get_result(conn)?)
}

/// One event of a subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct DeliveryState {
    pub event_number: i64,
    /// queued, delivered or undeliverable.
    pub state: String,
    pub attempts: i64,
    pub last_error: Option<String>,
}

/// A subscription's events, by number: for operators and for the authority's desk.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_subscription(conn: &mut Conn, key: i64, after: i64, limit: i64) -> Result<Vec<DeliveryState>, StoreError> {
    Ok(delivery::table
        .filter(delivery::subscription_id.eq(key).and(delivery::event_number.gt(after)))
        .order(delivery::event_number)
        .limit(limit)
        .select((delivery::event_number, delivery::state, delivery::attempts, delivery::last_error))
        .load(conn)?)
}
