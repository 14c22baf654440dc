//! What was not delivered to subscriptions, for operators: listed, counted, and put back into the queue. Nothing here
//! looks at what was delivered, so that its cost does not grow with the history.

use chrono::{DateTime, Utc};
use diesel::{
    dsl::{count_star, min},
    prelude::*,
};
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{delivery, organization, outbox, subscription},
};
use crate::{
    clock::from_millis,
    cpis::types::{OdsCode, notice::Topic, subscription::SubscriptionStatus},
};

const QUEUED: &str = "queued";
const UNDELIVERABLE: &str = "undeliverable";

/// One event that a subscription has not taken.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// Surrogate key of the delivery.
    pub key: i64,
    pub subscription: Uuid,
    pub status: SubscriptionStatus,
    pub authority: OdsCode,
    pub topic: Topic,
    pub event_number: i64,
    /// All its tries were used up.
    pub given_up: bool,
    pub attempts: i64,
    /// When it is tried next.
    pub next_attempt: DateTime<Utc>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// Stable id of the notification.
    pub notification: Uuid,
    pub created: DateTime<Utc>,
    /// Surrogate key of the outbox row.
    pub outbox: i64,
}

/// Which of them.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Those that were given up.
    pub given_up: bool,
    pub authority: Option<OdsCode>,
    /// One subscription and the number of its event.
    pub one: Option<(Uuid, i64)>,
}

type Row = (i64, String, String, String, String, i64, String, i64, i64, Option<String>, String, i64, i64);

fn undelivered_of(row: Row) -> Result<Undelivered, StoreError> {
    let (key, subscription, status, ods, kind, event_number, state, attempts, next_ms, last_error, id, at_ms, outbox) =
        row;
    Ok(Undelivered {
        key,
        subscription: Uuid::parse_str(&subscription).map_err(|_| StoreError::Corrupt("subscription.uuid"))?,
        status: SubscriptionStatus::from_code(&status).ok_or(StoreError::Corrupt("subscription.status"))?,
        authority: OdsCode::parse(&ods).map_err(|_| StoreError::Corrupt("organization.ods"))?,
        topic: Topic::from_code(&kind).ok_or(StoreError::Corrupt("outbox.kind"))?,
        event_number,
        given_up: state == UNDELIVERABLE,
        attempts,
        next_attempt: from_millis(next_ms),
        last_error,
        notification: Uuid::parse_str(&id).map_err(|_| StoreError::Corrupt("outbox.uuid"))?,
        created: from_millis(at_ms),
        outbox,
    })
}

/// At most `limit` of them, oldest first. What was told to a subscription that is deleted is told to nobody any more.
///
/// # Errors
/// [`StoreError::Corrupt`] when a row can't be read; [`StoreError`] when the database fails.
pub fn list(conn: &mut Conn, wanted: &Wanted, limit: i64) -> Result<Vec<Undelivered>, StoreError> {
    let mut query = delivery::table
        .inner_join(outbox::table)
        .inner_join(subscription::table)
        .inner_join(organization::table.on(organization::id.eq(outbox::authority_id)))
        .filter(delivery::delivered_ms.is_null().and(subscription::deleted.eq(false)))
        .order((delivery::outbox_id, delivery::id))
        .limit(limit)
        .into_boxed();
    if wanted.given_up {
        query = query.filter(delivery::state.eq(UNDELIVERABLE));
    }
    if let Some(ods) = &wanted.authority {
        query = query.filter(organization::ods.eq(ods.as_str().to_owned()));
    }
    if let Some((id, number)) = &wanted.one {
        query = query.filter(subscription::uuid.eq(id.to_string()).and(delivery::event_number.eq(*number)));
    }
    let rows: Vec<Row> = query
        .select((
            delivery::id,
            subscription::uuid,
            subscription::status,
            organization::ods,
            outbox::kind,
            delivery::event_number,
            delivery::state,
            delivery::attempts,
            delivery::next_attempt_ms,
            delivery::last_error,
            outbox::uuid,
            outbox::created_ms,
            outbox::id,
        ))
        .load(conn)?;
    rows.into_iter().map(undelivered_of).collect()
}

/// Puts events that were not delivered back into their queues as if they had never been tried; due at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn requeue(conn: &mut Conn, keys: &[i64], now_ms: i64) -> Result<usize, StoreError> {
    Ok(diesel::update(delivery::table.filter(delivery::id.eq_any(keys.to_vec())))
        .filter(delivery::delivered_ms.is_null())
        .set((
            delivery::state.eq(QUEUED),
            delivery::attempts.eq(0_i64),
            delivery::next_attempt_ms.eq(now_ms),
            delivery::last_error.eq(None::<String>),
        ))
        .execute(conn)?)
}

/// How many events of a topic stand alike.
#[derive(Clone, Debug)]
pub struct Total {
    pub topic: Topic,
    pub given_up: bool,
    /// Of their subscriptions.
    pub status: SubscriptionStatus,
    pub count: i64,
    pub oldest: DateTime<Utc>,
}

/// What is not delivered, counted.
///
/// # Errors
/// [`StoreError::Corrupt`] when a row can't be read; [`StoreError`] when the database fails.
pub fn totals(conn: &mut Conn) -> Result<Vec<Total>, StoreError> {
    let rows: Vec<(String, String, String, i64, Option<i64>)> = delivery::table
        .inner_join(outbox::table)
        .inner_join(subscription::table)
        .filter(delivery::delivered_ms.is_null().and(subscription::deleted.eq(false)))
        .group_by((outbox::kind, delivery::state, subscription::status))
        .select((outbox::kind, delivery::state, subscription::status, count_star(), min(outbox::created_ms)))
        .load(conn)?;
    rows.into_iter()
        .map(|(kind, state, status, count, oldest_ms)| {
            Ok(Total {
                topic: Topic::from_code(&kind).ok_or(StoreError::Corrupt("outbox.kind"))?,
                given_up: state == UNDELIVERABLE,
                status: SubscriptionStatus::from_code(&status).ok_or(StoreError::Corrupt("subscription.status"))?,
                count,
                oldest: from_millis(oldest_ms.unwrap_or_default()),
            })
        })
        .collect()
}
