//! What came over MESH, by MESH's message id: so that a message is handled once, and one that can't be handled does not
//! hold up the others.

use diesel::prelude::*;

use crate::{
    clock::from_millis,
    cpis::types::mesh::MeshSetAside,
    store::{Conn, StoreError, connection::on, schema::mesh_received as received},
};

const TAKEN: &str = "taken";
const HANDLED: &str = "handled";
const SET_ASIDE: &str = "set-aside";

/// How a message that came stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Taken { attempts: i64, next_attempt_ms: i64 },
    Handled,
    SetAside,
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, id: &str) -> Result<Option<Standing>, StoreError> {
    let row: Option<(String, i64, i64)> = received::table
        .find(id)
        .select((received::state, received::attempts, received::next_attempt_ms))
        .first(conn)
        .optional()?;
    Ok(row.map(|(state, attempts, next_attempt_ms)| match state.as_str() {
        HANDLED => Standing::Handled,
        SET_ASIDE => Standing::SetAside,
        _ => Standing::Taken { attempts, next_attempt_ms },
    }))
}

/// Notes that the handling of a message begins, for the `attempts`-th time.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn begin(conn: &mut Conn, id: &str, mailbox: &str, attempts: i64, now_ms: i64) -> Result<(), StoreError> {
    let values = (
        received::message_id.eq(id),
        received::state.eq(TAKEN),
        received::mailbox.eq(mailbox),
        received::attempts.eq(attempts),
        received::received_ms.eq(now_ms),
        received::next_attempt_ms.eq(now_ms),
    );
    on!(conn, c => diesel::insert_into(received::table)
        .values(values)
        .on_conflict(received::message_id)
        .do_update()
        .set((received::attempts.eq(attempts), received::mailbox.eq(mailbox)))
        .execute(c))?;
    Ok(())
}

/// Has a message left alone until a moment; with `counts` false, as if it had not been tried.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn postpone(conn: &mut Conn, id: &str, counts: bool, next_attempt_ms: i64, why: &str) -> Result<(), StoreError> {
    let back = i64::from(!counts);
    diesel::update(received::table.find(id).filter(received::state.eq(TAKEN)))
        .set((
            received::attempts.eq(received::attempts - back),
            received::next_attempt_ms.eq(next_attempt_ms),
            received::outcome.eq(why),
        ))
        .execute(conn)?;
    Ok(())
}

/// Gives a message up until an operator says otherwise.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_aside(conn: &mut Conn, id: &str) -> Result<(), StoreError> {
    diesel::update(received::table.find(id)).set(received::state.eq(SET_ASIDE)).execute(conn)?;
    Ok(())
}

/// Notes that a message was handled, and how.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn finish(conn: &mut Conn, id: &str, authority: Option<i64>, outcome: &str, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(received::table.find(id))
        .set((
            received::state.eq(HANDLED),
            received::authority_id.eq(authority),
            received::outcome.eq(outcome),
            received::handled_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// Puts a message that was set aside back, as if it had never been tried; false when it was not set aside.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn take_up(conn: &mut Conn, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let row = received::table.find(id).filter(received::state.eq(SET_ASIDE));
    let changed = diesel::update(row)
        .set((received::state.eq(TAKEN), received::attempts.eq(0_i64), received::next_attempt_ms.eq(now_ms)))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Messages that are set aside, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn all_set_aside(conn: &mut Conn) -> Result<Vec<MeshSetAside>, StoreError> {
    let rows: Vec<(String, String, i64, Option<String>)> = received::table
        .filter(received::state.eq(SET_ASIDE))
        .order(received::received_ms)
        .select((received::message_id, received::mailbox, received::received_ms, received::outcome))
        .load(conn)?;
    let set_aside = |(message, mailbox, received_ms, reason)| MeshSetAside {
        message,
        mailbox,
        received: from_millis(received_ms),
        reason,
    };
    Ok(rows.into_iter().map(set_aside).collect())
}
