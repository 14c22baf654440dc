//! Leases: work that one process at a time may do. A lease that ran out can be taken by another process; its fencing
//! number then goes up, so that the one who had it before can tell that it lost it.

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

/// A lease as its holder has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    name: String,
    holder: String,
    number: i64,
}

/// Takes a lease that nobody holds, with a new fencing number. `None` when it is held, by whomever.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn acquire(
    conn: &mut Conn,
    name: &str,
    holder: &str,
    now: DateTime<Utc>,
    length: TimeDelta,
) -> Result<Option<Fence>, StoreError> {
    let (now_ms, until_ms) = (now.timestamp_millis(), (now + length).timestamp_millis());
    let fence = |number| Some(Fence { name: name.to_owned(), holder: holder.to_owned(), number });
    let taken: Option<i64> = diesel::update(lease::table.find(name).filter(lease::until_ms.lt(now_ms)))
        .set((lease::holder.eq(holder), lease::until_ms.eq(until_ms), lease::fencing.eq(lease::fencing + 1)))
        .returning(lease::fencing)
        .get_result(conn)
        .optional()?;
    if let Some(number) = taken {
        return Ok(fence(number));
    }
    let values =
        (lease::name.eq(name), lease::holder.eq(holder), lease::until_ms.eq(until_ms), lease::fencing.eq(1_i64));
    let inserted =
        on!(conn, c => diesel::insert_into(lease::table).values(values).on_conflict_do_nothing().execute(c))?;
    Ok(if inserted == 1 { fence(1) } else { None })
}

/// Renews a lease and makes sure that it is still this holder's, in one statement: to be the first thing that a
/// transaction does under it. False when another has taken it since; then nothing may be written.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn hold(conn: &mut Conn, fence: &Fence, now: DateTime<Utc>, length: TimeDelta) -> Result<bool, StoreError> {
    let held = lease::table.find(&fence.name).filter(lease::holder.eq(&fence.holder));
    let held = diesel::update(held.filter(lease::fencing.eq(fence.number)))
        .set(lease::until_ms.eq((now + length).timestamp_millis()))
        .execute(conn)?;
    Ok(held == 1)
}

/// Gives up a lease that was acquired. Nothing happens if it was lost.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn give_up(conn: &mut Conn, fence: &Fence) -> Result<(), StoreError> {
    let held = lease::table.find(&fence.name).filter(lease::holder.eq(&fence.holder));
    diesel::update(held.filter(lease::fencing.eq(fence.number))).set(lease::until_ms.eq(0_i64)).execute(conn)?;
    Ok(())
}

/// For a change that is made whole in this transaction: takes a lease that nobody holds and gives it up at once. Whoever
/// had it before is fenced off, and on PostgreSQL the row is locked until the transaction ends. False when it is held.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn pass(conn: &mut Conn, name: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let free = lease::table.find(name).filter(lease::until_ms.lt(now.timestamp_millis()));
    let passed = diesel::update(free)
        .set((lease::holder.eq(""), lease::until_ms.eq(0_i64), lease::fencing.eq(lease::fencing + 1)))
        .execute(conn)?;
    if passed == 1 {
        return Ok(true);
    }
    let values = (lease::name.eq(name), lease::holder.eq(""), lease::until_ms.eq(0_i64), lease::fencing.eq(1_i64));
    let inserted =
        on!(conn, c => diesel::insert_into(lease::table).values(values).on_conflict_do_nothing().execute(c))?;
    Ok(inserted == 1)
}

/// Whether this holder has the lease and it has not run out.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_held_by(conn: &mut Conn, name: &str, holder: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let held =
        lease::table.find(name).filter(lease::holder.eq(holder)).filter(lease::until_ms.ge(now.timestamp_millis()));
    Ok(diesel::select(diesel::dsl::exists(held)).get_result(conn)?)
}
