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
