//! Leases: background work that one process at a time may do. A lease that ran out can be taken by another process.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;

use super::{Conn, StoreError, connection::on, schema::lease};

/// Takes or renews a lease for `holder`. False when another holds it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn take(
    conn: &mut Conn,
    name: &str,
    holder: &str,
    now: DateTime<Utc>,
    length: TimeDelta,
) -> Result<bool, StoreError> {
    let (now_ms, until_ms) = (now.timestamp_millis(), (now + length).timestamp_millis());
    let values =
        (lease::name.eq(name), lease::holder.eq(holder), lease::until_ms.eq(until_ms), lease::fencing.eq(1_i64));
    let inserted =
        on!(conn, c => diesel::insert_into(lease::table).values(values).on_conflict_do_nothing().execute(c))?;
    if inserted == 1 {
        return Ok(true);
    }
    let renewed = diesel::update(lease::table.find(name).filter(lease::holder.eq(holder)))
        .set(lease::until_ms.eq(until_ms))
        .execute(conn)?;
    if renewed == 1 {
        return Ok(true);
    }
    let taken = diesel::update(lease::table.find(name).filter(lease::until_ms.lt(now_ms)))
        .set((lease::holder.eq(holder), lease::until_ms.eq(until_ms), lease::fencing.eq(lease::fencing + 1)))
        .execute(conn)?;
    Ok(taken == 1)
}

/// True unless another than `holder` has the lease and it has not run out: whether [`take`] is worth trying.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_free(conn: &mut Conn, name: &str, holder: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let other =
        lease::table.find(name).filter(lease::holder.ne(holder)).filter(lease::until_ms.ge(now.timestamp_millis()));
    let held: bool = diesel::select(diesel::dsl::exists(other)).get_result(conn)?;
    Ok(!held)
}

/// Gives a lease up, so that another process needn't wait until it has run out. Nothing happens if `holder` lost it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn release(conn: &mut Conn, name: &str, holder: &str) -> Result<(), StoreError> {
    diesel::update(lease::table.find(name).filter(lease::holder.eq(holder)))
        .set(lease::until_ms.eq(0_i64))
        .execute(conn)?;
    Ok(())
}
