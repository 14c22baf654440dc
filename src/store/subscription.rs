//! Authorities' subscriptions and the deliveries of their events (design 7).

use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    connection::on,
    schema::{delivery, outbox, subscription},
};
use crate::{
    clock::from_millis,
    cpis::types::subscription::{Subscription, SubscriptionStatus},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = subscription)]
struct Row {
    id: i64,
    uuid: String,
    authority_id: i64,
    status: String,
    error: Option<String>,
    endpoint: String,
    headers: String,
    topic: String,
    reason: String,
    end_ms: Option<i64>,
    version: i64,
    updated_ms: i64,
    events: i64,
}

impl TryFrom<Row> for Subscription {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            key: row.id,
            id: Uuid::parse_str(&row.uuid).map_err(|_| StoreError::Corrupt("subscription.uuid"))?,
            authority_id: row.authority_id,
            status: SubscriptionStatus::from_code(&row.status).ok_or(StoreError::Corrupt("subscription.status"))?,
            error: row.error,
            endpoint: row.endpoint,
            headers: row.headers.lines().map(str::to_owned).collect(),
            topic: row.topic,
            reason: row.reason,
            end: row.end_ms.map(from_millis),
            version: row.version,
            updated: from_millis(row.updated_ms),
            events: row.events,
        })
    }
}

/// What an authority asks for.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    pub id: Uuid,
    pub authority_id: i64,
    pub endpoint: String,
    /// `Name: value` lines.
    pub headers: Vec<String>,
    pub topic: String,
    pub reason: String,
    pub end_ms: Option<i64>,
}

/// Stores a subscription in status `requested`; its handshake is due at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn create(conn: &mut Conn, new: &NewSubscription, now_ms: i64) -> Result<(), StoreError> {
    diesel::insert_into(subscription::table)
        .values((
            subscription::uuid.eq(new.id.to_string()),
            subscription::authority_id.eq(new.authority_id),
            subscription::status.eq(SubscriptionStatus::Requested.code()),
            subscription::endpoint.eq(&new.endpoint),
            subscription::headers.eq(new.headers.join("\n")),
            subscription::topic.eq(&new.topic),
            subscription::reason.eq(&new.reason),
            subscription::end_ms.eq(new.end_ms),
            subscription::version.eq(1_i64),
            subscription::updated_ms.eq(now_ms),
            subscription::events.eq(0_i64),
            subscription::attempts.eq(0_i64),
            subscription::next_attempt_ms.eq(now_ms),
            subscription::deleted.eq(false),
        ))
        .execute(conn)?;
    Ok(())
}

/// An authority's own subscription; the flag tells whether it was deleted.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, authority: i64, id: Uuid) -> Result<Option<(Subscription, bool)>, StoreError> {
    let row: Option<(Row, bool)> = subscription::table
        .filter(subscription::uuid.eq(id.to_string()).and(subscription::authority_id.eq(authority)))
        .select((Row::as_select(), subscription::deleted))
        .first(conn)
        .optional()?;
    row.map(|(row, deleted)| Ok((row.try_into()?, deleted))).transpose()
}

/// An authority's subscriptions that are not deleted, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_authority(conn: &mut Conn, authority: i64) -> Result<Vec<Subscription>, StoreError> {
    let rows: Vec<Row> = subscription::table
        .filter(subscription::authority_id.eq(authority).and(subscription::deleted.eq(false)))
        .order(subscription::id)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// Marks a subscription deleted: nothing more is sent to it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn delete(conn: &mut Conn, key: i64, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key))
        .set((
            subscription::deleted.eq(true),
            subscription::status.eq(SubscriptionStatus::Off.code()),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// Subscriptions whose handshake is due, with the attempts made so far.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn handshakes_due(conn: &mut Conn, now_ms: i64) -> Result<Vec<(Subscription, i64)>, StoreError> {
    let rows: Vec<(Row, i64)> = subscription::table
        .filter(subscription::status.eq(SubscriptionStatus::Requested.code()).and(subscription::deleted.eq(false)))
        .filter(subscription::next_attempt_ms.le(now_ms))
        .order(subscription::id)
        .select((Row::as_select(), subscription::attempts))
        .load(conn)?;
    rows.into_iter().map(|(row, attempts)| Ok((row.try_into()?, attempts))).collect()
}

/// Changes the status after a handshake or a run of failures.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_status(
    conn: &mut Conn,
    key: i64,
    status: SubscriptionStatus,
    error: Option<&str>,
    now_ms: i64,
) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key))
        .set((
            subscription::status.eq(status.code()),
            subscription::error.eq(error),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// Notes a failed handshake: when the next one is due.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn postpone_handshake(conn: &mut Conn, key: i64, next_attempt_ms: i64) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key))
        .set((subscription::attempts.eq(subscription::attempts + 1), subscription::next_attempt_ms.eq(next_attempt_ms)))
        .execute(conn)?;
    Ok(())
}

/// Gives outbox rows the subscription's next event numbers, in order and without a gap. A row that the subscription
/// has already is passed over. Returns how many were new.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_deliveries(conn: &mut Conn, key: i64, outbox_ids: &[i64], now_ms: i64) -> Result<usize, StoreError> {
    let mut events: i64 = subscription::table.find(key).select(subscription::events).first(conn)?;
    let mut added = 0;
    for outbox_id in outbox_ids {
        let values = (
            delivery::subscription_id.eq(key),
            delivery::event_number.eq(events + 1),
            delivery::outbox_id.eq(*outbox_id),
            delivery::state.eq(QUEUED),
            delivery::attempts.eq(0_i64),
            delivery::next_attempt_ms.eq(now_ms),
        );
        let new =
            on!(conn, c => diesel::insert_into(delivery::table).values(values).on_conflict_do_nothing().execute(c))?;
        if new == 1 {
            events += 1;
            added += 1;
        }
    }
    diesel::update(subscription::table.find(key)).set(subscription::events.eq(events)).execute(conn)?;
    Ok(added)
}

const QUEUED: &str = "queued";
const DELIVERED: &str = "delivered";
const UNDELIVERABLE: &str = "undeliverable";

/// One event on its way to one subscription.
#[derive(Clone, Debug, Queryable)]
pub struct Delivery {
    pub id: i64,
    pub subscription_id: i64,
    pub event_number: i64,
    pub outbox_id: i64,
    pub attempts: i64,
    /// Stable id of the notification.
    pub notification_id: String,
    pub access_id: Option<i64>,
}

/// The next event of each active subscription, if it is due: events of one subscription go out in order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn deliveries_due(conn: &mut Conn, now_ms: i64) -> Result<Vec<(Subscription, Delivery)>, StoreError> {
    let rows: Vec<Row> = subscription::table
        .filter(subscription::status.eq(SubscriptionStatus::Active.code()).and(subscription::deleted.eq(false)))
        .filter(diesel::dsl::exists(
            delivery::table.filter(delivery::subscription_id.eq(subscription::id)).filter(delivery::state.eq(QUEUED)),
        ))
        .order(subscription::id)
        .select(Row::as_select())
        .load(conn)?;
    let mut due = Vec::new();
    for row in rows {
        let next: Option<(Delivery, i64)> = delivery::table
            .inner_join(outbox::table)
            .filter(delivery::subscription_id.eq(row.id).and(delivery::state.eq(QUEUED)))
            .order(delivery::event_number)
            .select((
                (
                    delivery::id,
                    delivery::subscription_id,
                    delivery::event_number,
                    delivery::outbox_id,
                    delivery::attempts,
                    outbox::uuid,
                    outbox::access_id,
                ),
                delivery::next_attempt_ms,
            ))
            .first(conn)
            .optional()?;
        if let Some((delivery, at)) = next
            && at <= now_ms
        {
            due.push((row.try_into()?, delivery));
        }
    }
    Ok(due)
}

/// How a delivery went.
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

/// Writes how a delivery went.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn record_attempt(conn: &mut Conn, id: i64, attempt: &Attempt, now_ms: i64) -> Result<(), StoreError> {
    let target = delivery::table.find(id);
    let attempts = delivery::attempts.eq(delivery::attempts + 1);
    match attempt {
        Attempt::Delivered => diesel::update(target)
            .set((attempts, delivery::state.eq(DELIVERED), delivery::delivered_ms.eq(now_ms)))
            .execute(conn)?,
        Attempt::Retry { at_ms, error } => diesel::update(target)
            .set((attempts, delivery::next_attempt_ms.eq(*at_ms), delivery::last_error.eq(error)))
            .execute(conn)?,
        Attempt::Undeliverable { error } => diesel::update(target)
            .set((attempts, delivery::state.eq(UNDELIVERABLE), delivery::last_error.eq(error)))
            .execute(conn)?,
    };
    Ok(())
}

/// How many deliveries are in each state: (queued, delivered, undeliverable).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn delivery_counts(conn: &mut Conn) -> Result<(i64, i64, i64), StoreError> {
    let mut count = |state: &str| -> Result<i64, StoreError> {
        Ok(delivery::table.filter(delivery::state.eq(state.to_owned())).count().get_result(conn)?)
    };
    Ok((count(QUEUED)?, count(DELIVERED)?, count(UNDELIVERABLE)?))
}
