//! Authorities' subscriptions: what they asked for, and the state of their channel (design 7).
//!
//! A subscription is *open* once its handshake has succeeded, until it is deleted or its end has passed. While a
//! notification had to be given up the status is `error`; an open one is served all the same, and goes back to `active`
//! with the next success.

use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{delivery, subscription},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        notice::Topic,
        subscription::{Content, Hook, NewSubscription, Payload, Subscription, SubscriptionStatus},
    },
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = subscription)]
struct SubscriptionRow {
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
    attempts: i64,
    topic_code: String,
    content: String,
    payload: String,
    heartbeat_seconds: Option<i64>,
    timeout_seconds: Option<i64>,
    max_count: Option<i64>,
}

impl TryFrom<SubscriptionRow> for Subscription {
    type Error = StoreError;

    fn try_from(row: SubscriptionRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: row.id,
            id: Uuid::parse_str(&row.uuid).map_err(|_| StoreError::Corrupt("subscription.uuid"))?,
            authority_id: row.authority_id,
            status: SubscriptionStatus::from_code(&row.status).ok_or(StoreError::Corrupt("subscription.status"))?,
            error: row.error,
            topic: Topic::from_code(&row.topic_code).ok_or(StoreError::Corrupt("subscription.topic_code"))?,
            criteria: row.topic,
            hook: Hook {
                endpoint: row.endpoint,
                headers: row.headers.lines().map(str::to_owned).collect(),
                payload: Payload::from_code(&row.payload).ok_or(StoreError::Corrupt("subscription.payload"))?,
                content: Content::from_code(&row.content).ok_or(StoreError::Corrupt("subscription.content"))?,
                heartbeat: whole(row.heartbeat_seconds)?,
                timeout: whole(row.timeout_seconds)?,
                max_count: whole(row.max_count)?,
            },
            reason: row.reason,
            end: row.end_ms.map(from_millis),
            version: row.version,
            updated: from_millis(row.updated_ms),
            events: row.events,
            failures: row.attempts,
        })
    }
}

fn whole(number: Option<i64>) -> Result<Option<u32>, StoreError> {
    let whole = |number| u32::try_from(number).map_err(|_| StoreError::Corrupt("a number of a subscription"));
    number.map(whole).transpose()
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
            subscription::endpoint.eq(&new.hook.endpoint),
            subscription::headers.eq(new.hook.headers.join("\n")),
            subscription::topic.eq(&new.criteria),
            subscription::topic_code.eq(new.topic.code()),
            asked(&new.hook),
            subscription::reason.eq(&new.reason),
            subscription::end_ms.eq(new.end_ms),
            subscription::version.eq(1_i64),
            subscription::created_ms.eq(now_ms),
            subscription::updated_ms.eq(now_ms),
            subscription::caught_up.eq(false),
            subscription::events.eq(0_i64),
            subscription::attempts.eq(0_i64),
            subscription::next_attempt_ms.eq(now_ms),
            subscription::deleted.eq(false),
        ))
        .execute(conn)?;
    Ok(())
}

type Asked = (
    diesel::dsl::Eq<subscription::payload, &'static str>,
    diesel::dsl::Eq<subscription::content, &'static str>,
    diesel::dsl::Eq<subscription::heartbeat_seconds, Option<i64>>,
    diesel::dsl::Eq<subscription::timeout_seconds, Option<i64>>,
    diesel::dsl::Eq<subscription::max_count, Option<i64>>,
);

/// What is asked of the hook beyond its address.
fn asked(hook: &Hook) -> Asked {
    (
        subscription::payload.eq(hook.payload.code()),
        subscription::content.eq(hook.content.code()),
        subscription::heartbeat_seconds.eq(hook.heartbeat.map(i64::from)),
        subscription::timeout_seconds.eq(hook.timeout.map(i64::from)),
        subscription::max_count.eq(hook.max_count.map(i64::from)),
    )
}

/// An authority's own subscription; the flag tells whether it was deleted.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, authority: i64, id: Uuid) -> Result<Option<(Subscription, bool)>, StoreError> {
    let row: Option<(SubscriptionRow, bool)> = subscription::table
        .filter(subscription::uuid.eq(id.to_string()).and(subscription::authority_id.eq(authority)))
        .select((SubscriptionRow::as_select(), subscription::deleted))
        .first(conn)
        .optional()?;
    row.map(|(row, deleted)| Ok((row.try_into()?, deleted))).transpose()
}

/// An authority's subscriptions that are not deleted, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_authority(conn: &mut Conn, authority: i64) -> Result<Vec<Subscription>, StoreError> {
    let rows: Vec<SubscriptionRow> = subscription::table
        .filter(subscription::authority_id.eq(authority).and(subscription::deleted.eq(false)))
        .order(subscription::id)
        .select(SubscriptionRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// What a change makes of a subscription's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on as it is: what is sent, and where to, stays the same.
    Kept,
    /// Nothing is sent until a new handshake has succeeded, which is due at once; then it is given what it has missed.
    Requested,
    /// Nothing is sent. Its headers are secrets that nobody needs any more.
    Off,
}

/// Replaces what an authority asked for; the version goes up by one. Numbers given so far stay.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn replace(
    conn: &mut Conn,
    key: i64,
    wanted: &NewSubscription,
    standing: Standing,
    now_ms: i64,
) -> Result<(), StoreError> {
    let headers = if standing == Standing::Off { String::new() } else { wanted.hook.headers.join("\n") };
    diesel::update(subscription::table.find(key))
        .set((
            subscription::endpoint.eq(&wanted.hook.endpoint),
            subscription::headers.eq(headers),
            subscription::topic.eq(&wanted.criteria),
            asked(&wanted.hook),
            subscription::reason.eq(&wanted.reason),
            subscription::end_ms.eq(wanted.end_ms),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?;
    let status = match standing {
        Standing::Kept => return contacted(conn, key, now_ms),
        Standing::Requested => SubscriptionStatus::Requested,
        Standing::Off => SubscriptionStatus::Off,
    };
    diesel::update(subscription::table.find(key))
        .set((
            subscription::status.eq(status.code()),
            subscription::error.eq(None::<String>),
            // While it isn't open, rows are given to others and not to it; a handshake that is given up must not open it.
            subscription::caught_up.eq(false),
            subscription::from_ms.eq(None::<i64>),
            subscription::attempts.eq(0_i64),
            subscription::next_attempt_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// The version of a subscription; `None` when there is none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn version(conn: &mut Conn, key: i64) -> Result<Option<i64>, StoreError> {
    Ok(subscription::table.find(key).select(subscription::version).first(conn).optional()?)
}

/// Marks a subscription deleted: nothing more is sent to it. Its headers are secrets that nobody needs any more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn delete(conn: &mut Conn, key: i64, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key))
        .set((
            subscription::deleted.eq(true),
            subscription::headers.eq(""),
            subscription::status.eq(SubscriptionStatus::Off.code()),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// The subscriptions that events are sent to at this moment, as a filter.
macro_rules! open {
    ($now_ms:expr) => {{
        use $crate::{cpis::types::subscription::SubscriptionStatus, store::schema::subscription};
        let now_ms: i64 = $now_ms;
        let served = vec![SubscriptionStatus::Active.code(), SubscriptionStatus::Error.code()];
        subscription::deleted
            .eq(false)
            .and(subscription::from_ms.is_not_null())
            .and(subscription::status.eq_any(served))
            .and(subscription::end_ms.is_null().or(subscription::end_ms.gt(now_ms)))
    }};
}
pub(super) use open;

/// A subscription by its key, if events are sent to it at this moment.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find_open(conn: &mut Conn, key: i64, now_ms: i64) -> Result<Option<Subscription>, StoreError> {
    let row: Option<SubscriptionRow> = subscription::table
        .filter(subscription::id.eq(key))
        .filter(open!(now_ms))
        .select(SubscriptionRow::as_select())
        .first(conn)
        .optional()?;
    row.map(Subscription::try_from).transpose()
}

/// Switches those off whose end has come; returns how many. Their headers are forgotten, as with [`delete`].
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn expire(conn: &mut Conn, now_ms: i64) -> Result<usize, StoreError> {
    Ok(diesel::update(subscription::table)
        .filter(subscription::status.ne(SubscriptionStatus::Off.code()))
        .filter(subscription::end_ms.le(now_ms))
        .set((
            subscription::status.eq(SubscriptionStatus::Off.code()),
            subscription::headers.eq(""),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?)
}

/// True if [`expire`] would switch one off.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_expired(conn: &mut Conn, now_ms: i64) -> Result<bool, StoreError> {
    let ended = subscription::table
        .filter(subscription::status.ne(SubscriptionStatus::Off.code()))
        .filter(subscription::end_ms.le(now_ms));
    Ok(diesel::select(diesel::dsl::exists(ended)).get_result(conn)?)
}

/// Subscriptions whose handshake is due.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn handshakes_due(conn: &mut Conn, now_ms: i64) -> Result<Vec<Subscription>, StoreError> {
    let rows: Vec<SubscriptionRow> = subscription::table
        .filter(subscription::status.eq(SubscriptionStatus::Requested.code()).and(subscription::deleted.eq(false)))
        .filter(subscription::end_ms.is_null().or(subscription::end_ms.gt(now_ms)))
        .filter(subscription::next_attempt_ms.le(now_ms))
        .order(subscription::id)
        .select(SubscriptionRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// The handshake succeeded: the subscription is active, and gets what its authority's outbox took in from `catch_up_ms`
/// before its creation on. False when it is no longer requested in the `version` that the handshake was made for.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn activate(
    conn: &mut Conn,
    (key, version): (i64, i64),
    catch_up_ms: i64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let requested = subscription::status.eq(SubscriptionStatus::Requested.code()).and(subscription::deleted.eq(false));
    let changed =
        diesel::update(subscription::table.find(key).filter(requested).filter(subscription::version.eq(version)))
            .set((
                subscription::status.eq(SubscriptionStatus::Active.code()),
                subscription::error.eq(None::<String>),
                subscription::from_ms.eq((subscription::created_ms - catch_up_ms).nullable()),
                subscription::attempts.eq(0_i64),
                subscription::version.eq(subscription::version + 1),
                subscription::updated_ms.eq(now_ms),
            ))
            .execute(conn)?;
    contacted(conn, key, now_ms)?;
    Ok(changed == 1)
}

/// Notes that the endpoint has answered: its next heartbeat is due when its period has passed from now on.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn contacted(conn: &mut Conn, key: i64, now_ms: i64) -> Result<(), StoreError> {
    let period: Option<i64> = subscription::table.find(key).select(subscription::heartbeat_seconds).first(conn)?;
    let next_ms = period.map(|seconds| now_ms + seconds * 1000);
    diesel::update(subscription::table.find(key)).set(subscription::heartbeat_at_ms.eq(next_ms)).execute(conn)?;
    Ok(())
}

/// The open subscriptions whose heartbeat is due. One whose event is being tried again is called for that anyway.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn heartbeats_due(conn: &mut Conn, now_ms: i64) -> Result<Vec<Subscription>, StoreError> {
    let tried_again = delivery::table
        .filter(delivery::subscription_id.eq(subscription::id))
        .filter(delivery::delivered_ms.is_null().and(delivery::state.eq("queued")).and(delivery::attempts.gt(0)));
    let rows: Vec<SubscriptionRow> = subscription::table
        .filter(open!(now_ms))
        .filter(subscription::heartbeat_at_ms.le(now_ms))
        .filter(diesel::dsl::not(diesel::dsl::exists(tried_again)))
        .order(subscription::id)
        .select(SubscriptionRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// Notes how a heartbeat went: `failures` in a row so far, and when the next one is due if it failed.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn heartbeat_sent(
    conn: &mut Conn,
    key: i64,
    failures: i64,
    failed_until_ms: Option<i64>,
    now_ms: i64,
) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key)).set(subscription::attempts.eq(failures)).execute(conn)?;
    match failed_until_ms {
        None => contacted(conn, key, now_ms),
        Some(at_ms) => {
            diesel::update(subscription::table.find(key)).set(subscription::heartbeat_at_ms.eq(at_ms)).execute(conn)?;
            Ok(())
        }
    }
}

/// Switches a subscription off because its endpoint said that it is there no more. What was not delivered waits; the
/// headers are forgotten, as with [`delete`].
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn gone(conn: &mut Conn, key: i64, error: &str, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key).filter(subscription::deleted.eq(false)))
        .set((
            subscription::status.eq(SubscriptionStatus::Off.code()),
            subscription::error.eq(error),
            subscription::headers.eq(""),
            subscription::caught_up.eq(false),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// How many subscriptions there are by topic and status, those deleted left out.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count_by_status(conn: &mut Conn) -> Result<Vec<(String, String, i64)>, StoreError> {
    Ok(subscription::table
        .filter(subscription::deleted.eq(false))
        .group_by((subscription::topic_code, subscription::status))
        .select((subscription::topic_code, subscription::status, diesel::dsl::count_star()))
        .load(conn)?)
}

/// Notes a failed handshake and when the next one is due; `None`: there will be none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn handshake_failed(
    conn: &mut Conn,
    key: i64,
    next_attempt_ms: Option<i64>,
    error: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    diesel::update(subscription::table.find(key))
        .set(subscription::attempts.eq(subscription::attempts + 1))
        .execute(conn)?;
    match next_attempt_ms {
        Some(at) => {
            diesel::update(subscription::table.find(key)).set(subscription::next_attempt_ms.eq(at)).execute(conn)?;
            set_state(conn, key, SubscriptionStatus::Requested, SubscriptionStatus::Requested, Some(error), now_ms)
        }
        None => set_state(conn, key, SubscriptionStatus::Requested, SubscriptionStatus::Error, Some(error), now_ms),
    }
}

/// Says how an open subscription stands: its owner reads it. A state that it has already makes no new version, and one
/// that was switched off or deleted meanwhile stays so.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_health(
    conn: &mut Conn,
    key: i64,
    status: SubscriptionStatus,
    error: Option<&str>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let was: Option<String> = subscription::table.find(key).select(subscription::status).first(conn).optional()?;
    match was.as_deref().and_then(SubscriptionStatus::from_code) {
        Some(from @ (SubscriptionStatus::Active | SubscriptionStatus::Error)) => {
            set_state(conn, key, from, status, error, now_ms)
        }
        _ => Ok(()),
    }
}

fn set_state(
    conn: &mut Conn,
    key: i64,
    from: SubscriptionStatus,
    to: SubscriptionStatus,
    error: Option<&str>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let stands: Option<Option<String>> = subscription::table
        .find(key)
        .filter(subscription::status.eq(from.code()).and(subscription::deleted.eq(false)))
        .select(subscription::error)
        .first(conn)
        .optional()?;
    let Some(before) = stands else { return Ok(()) };
    if from == to && before.as_deref() == error {
        return Ok(());
    }
    diesel::update(subscription::table.find(key))
        .set((
            subscription::status.eq(to.code()),
            subscription::error.eq(error),
            subscription::version.eq(subscription::version + 1),
            subscription::updated_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}
