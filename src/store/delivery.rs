//! From the outbox to the subscriptions: which event has which number in which subscription, and how its sending goes
//! (design 7). Only the notifier writes here, each time under its lease.
//!
//! Numbers are given when a committed row is taken, so they have no gaps and don't depend on the order of commits. A row
//! is taken once by each subscription (unique key), whatever is repeated after a crash.

use std::collections::BTreeMap;

use diesel::{
    dsl::{exists, not},
    prelude::*,
};
use uuid::Uuid;

use super::{
    Conn, StoreError,
    connection::on,
    outbox as rows, person,
    schema::{access, delivery, outbox, subscription},
    subscription::{SubscriptionRow, open},
};
use crate::cpis::types::{NhsNumber, child::NumberStatus, subscription::Subscription};

const QUEUED: &str = "queued";
const DELIVERED: &str = "delivered";
const UNDELIVERABLE: &str = "undeliverable";

/// True if [`route`] would do something.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_routable(conn: &mut Conn, now_ms: i64) -> Result<bool, StoreError> {
    let behind = subscription::table.filter(open!(now_ms)).filter(subscription::caught_up.eq(false));
    if diesel::select(exists(behind)).get_result(conn)? {
        return Ok(true);
    }
    Ok(!unrouted(conn, now_ms, 1)?.is_empty())
}

/// Gives at most about `limit` rows to the open subscriptions of their authority: first what was there before a new
/// subscription, then what came since. True if there is more to do.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn route(conn: &mut Conn, now_ms: i64, limit: usize) -> Result<bool, StoreError> {
    let behind: Option<(i64, i64, Option<i64>)> = subscription::table
        .filter(open!(now_ms))
        .filter(subscription::caught_up.eq(false))
        .order(subscription::id)
        .select((subscription::id, subscription::authority_id, subscription::from_ms))
        .first(conn)
        .optional()?;
    if let Some((key, authority, from_ms)) = behind {
        catch_up(conn, key, authority, from_ms.unwrap_or(now_ms), now_ms, limit)?;
        return Ok(true);
    }
    let taken = unrouted(conn, now_ms, limit)?;
    let mut by_authority: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for (id, authority, created_ms) in &taken {
        by_authority.entry(*authority).or_default().push((*id, *created_ms));
    }
    for (authority, rows) in by_authority {
        let subscriptions: Vec<(i64, Option<i64>)> = subscription::table
            .filter(open!(now_ms))
            .filter(subscription::authority_id.eq(authority).and(subscription::caught_up.eq(true)))
            .order(subscription::id)
            .select((subscription::id, subscription::from_ms))
            .load(conn)?;
        for (key, from_ms) in subscriptions {
            let from_ms = from_ms.unwrap_or(now_ms);
            let its: Vec<i64> = rows.iter().filter(|(_, created)| *created >= from_ms).map(|(id, _)| *id).collect();
            take(conn, key, &its, now_ms)?;
        }
    }
    let ids: Vec<i64> = taken.iter().map(|(id, _, _)| *id).collect();
    rows::mark_routed(conn, &ids, now_ms)?;
    Ok(ids.len() == limit)
}

/// The oldest rows that wait for an open subscription which has caught up: (id, authority, created).
fn unrouted(conn: &mut Conn, now_ms: i64, limit: usize) -> Result<Vec<(i64, i64, i64)>, StoreError> {
    Ok(outbox::table
        .inner_join(subscription::table.on(subscription::authority_id.eq(outbox::authority_id)))
        .filter(outbox::routed_ms.is_null())
        .filter(open!(now_ms))
        .filter(subscription::caught_up.eq(true))
        .filter(subscription::from_ms.le(outbox::created_ms.nullable()))
        .select((outbox::id, outbox::authority_id, outbox::created_ms))
        .distinct()
        .order(outbox::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(conn)?)
}

/// Gives a new subscription the next rows that it lacks, whether or not others have them. When none is left it has seen
/// all that is committed, and from then on only unrouted rows can be new to it.
fn catch_up(
    conn: &mut Conn,
    key: i64,
    authority: i64,
    from_ms: i64,
    now_ms: i64,
    limit: usize,
) -> Result<(), StoreError> {
    let has = delivery::table.filter(delivery::subscription_id.eq(key)).filter(delivery::outbox_id.eq(outbox::id));
    let lacking: Vec<i64> = outbox::table
        .filter(outbox::authority_id.eq(authority).and(outbox::created_ms.ge(from_ms)))
        .filter(not(exists(has)))
        .order(outbox::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select(outbox::id)
        .load(conn)?;
    take(conn, key, &lacking, now_ms)?;
    if lacking.len() < limit {
        diesel::update(subscription::table.find(key)).set(subscription::caught_up.eq(true)).execute(conn)?;
    }
    Ok(())
}

/// Gives rows the subscription's next numbers, in order; one that it has already is passed over.
fn take(conn: &mut Conn, key: i64, outbox_ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
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

/// One event on its way to one subscription.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub key: i64,
    pub event_number: i64,
    /// Sendings that failed so far.
    pub attempts: i64,
    /// Stable id of the notification: that of the outbox row.
    pub notification: Uuid,
    /// The access that it is about.
    pub access: i64,
}

/// The open subscriptions whose next event is due, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn due(conn: &mut Conn, now_ms: i64) -> Result<Vec<i64>, StoreError> {
    let queued =
        delivery::table.filter(delivery::subscription_id.eq(subscription::id)).filter(delivery::state.eq(QUEUED));
    let keys: Vec<i64> = subscription::table
        .filter(open!(now_ms))
        .filter(exists(queued))
        .order(subscription::id)
        .select(subscription::id)
        .load(conn)?;
    let mut due = Vec::new();
    for key in keys {
        if next_queued(conn, key, now_ms)?.is_some() {
            due.push(key);
        }
    }
    Ok(due)
}

/// The next event of an open subscription, if it is due: events of one subscription go out in order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn next_due(conn: &mut Conn, key: i64, now_ms: i64) -> Result<Option<(Subscription, Delivery)>, StoreError> {
    let row: Option<SubscriptionRow> = subscription::table
        .filter(subscription::id.eq(key))
        .filter(open!(now_ms))
        .select(SubscriptionRow::as_select())
        .first(conn)
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    match next_queued(conn, key, now_ms)? {
        Some(delivery) => Ok(Some((row.try_into()?, delivery))),
        None => Ok(None),
    }
}

type QueuedRow = (i64, i64, i64, i64, String, Option<i64>);

/// The first event in the queue that isn't held, if it is due.
fn next_queued(conn: &mut Conn, key: i64, now_ms: i64) -> Result<Option<Delivery>, StoreError> {
    let mut after = 0;
    loop {
        let row: Option<QueuedRow> = delivery::table
            .inner_join(outbox::table)
            .filter(delivery::subscription_id.eq(key).and(delivery::state.eq(QUEUED)))
            .filter(delivery::event_number.gt(after))
            .order(delivery::event_number)
            .select((
                delivery::id,
                delivery::event_number,
                delivery::attempts,
                delivery::next_attempt_ms,
                outbox::uuid,
                outbox::access_id,
            ))
            .first(conn)
            .optional()?;
        let Some((id, event_number, attempts, at_ms, uuid, access)) = row else { return Ok(None) };
        let access = access.ok_or(StoreError::Corrupt("outbox.access_id"))?;
        if is_held(conn, access)? {
            after = event_number;
            continue;
        }
        if at_ms > now_ms {
            return Ok(None);
        }
        let notification = Uuid::parse_str(&uuid).map_err(|_| StoreError::Corrupt("outbox.uuid"))?;
        return Ok(Some(Delivery { key: id, event_number, attempts, notification, access }));
    }
}

/// True while the child is restricted: where it was seen is then told to nobody (design 9). The event keeps its number
/// and is sent when the restriction ends.
fn is_held(conn: &mut Conn, access: i64) -> Result<bool, StoreError> {
    let number: String = access::table.find(access).select(access::nhs_number).first(conn)?;
    let number = NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("access.nhs_number"))?;
    let child = person::child(conn, &number)?;
    Ok(child.is_some_and(|child| [child.asked.status, child.end.status].contains(&NumberStatus::Restricted)))
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
