//! The rules within one transaction: which committed row becomes which subscription's next event, and which event may go
//! next (design 7, 9).
//!
//! Numbers are given when a committed row is taken, so they have no gaps and don't depend on the order of commits.

use std::collections::BTreeMap;

use crate::{
    cpis::{notifications::may_be_told, types::subscription::Delivery},
    store::{
        Conn, StoreError,
        delivery::{self, Channel, Unrouted},
        outbox,
    },
};

/// True if [`route`] would do something.
pub(super) fn is_routable(conn: &mut Conn, now_ms: i64) -> Result<bool, StoreError> {
    Ok(delivery::first_behind(conn, now_ms)?.is_some() || !delivery::unrouted(conn, now_ms, 1)?.is_empty())
}

/// Gives at most about `limit` rows to the open subscriptions of their authority and topic: first what was there before a new
/// subscription, then what came since. True if there is more to do.
pub(super) fn route(conn: &mut Conn, now_ms: i64, limit: usize) -> Result<bool, StoreError> {
    if let Some(behind) = delivery::first_behind(conn, now_ms)? {
        catch_up(conn, behind, now_ms, limit)?;
        return Ok(true);
    }
    let taken = delivery::unrouted(conn, now_ms, limit)?;
    let mut by_authority: BTreeMap<i64, Vec<Unrouted>> = BTreeMap::new();
    for row in &taken {
        by_authority.entry(row.authority_id).or_default().push(*row);
    }
    for (authority, rows) in by_authority {
        for channel in delivery::caught_up(conn, authority, now_ms)? {
            let from_ms = channel.from_ms.unwrap_or(now_ms);
            let is_its = |row: &&Unrouted| row.topic == channel.topic && row.created_ms >= from_ms;
            let its: Vec<i64> = rows.iter().filter(is_its).map(|row| row.outbox_id).collect();
            delivery::queue(conn, channel.key, &its, now_ms)?;
        }
    }
    let ids: Vec<i64> = taken.iter().map(|row| row.outbox_id).collect();
    outbox::mark_routed(conn, &ids, now_ms)?;
    Ok(ids.len() == limit)
}

/// Gives a new subscription the next rows that it lacks. When none is left it has seen all that is committed, and from
/// then on only unrouted rows can be new to it.
fn catch_up(conn: &mut Conn, behind: Channel, now_ms: i64, limit: usize) -> Result<(), StoreError> {
    let from_ms = behind.from_ms.unwrap_or(now_ms);
    let lacking = delivery::lacking(conn, &behind, from_ms, limit)?;
    delivery::queue(conn, behind.key, &lacking, now_ms)?;
    if lacking.len() < limit {
        delivery::set_caught_up(conn, behind.key)?;
    }
    Ok(())
}

/// The open subscriptions whose next event is due, by ascending key.
pub(super) fn due(conn: &mut Conn, now_ms: i64) -> Result<Vec<i64>, StoreError> {
    let mut due = Vec::new();
    for key in delivery::with_queue(conn, now_ms)? {
        if next(conn, key, now_ms)?.is_some() {
            due.push(key);
        }
    }
    Ok(due)
}

/// The first event in a subscription's queue that isn't held, if it is due: events of one subscription go out in order.
pub(super) fn next(conn: &mut Conn, key: i64, now_ms: i64) -> Result<Option<Delivery>, StoreError> {
    let mut after = 0;
    while let Some((event, at_ms)) = delivery::first_queued(conn, key, after)? {
        if !is_held(conn, event.outbox)? {
            return Ok((at_ms <= now_ms).then_some(event));
        }
        after = event.event_number;
    }
    Ok(None)
}

/// True while an authority may not be told of an access ([`may_be_told`]). The event keeps its number and is sent when that
/// ends. What else an authority is told of its own record waits for nothing.
pub(in crate::cpis) fn is_held(conn: &mut Conn, outbox: i64) -> Result<bool, StoreError> {
    let Some((authority, number)) = outbox::access_of(conn, outbox)? else { return Ok(false) };
    Ok(!may_be_told(conn, authority, &number)?)
}
