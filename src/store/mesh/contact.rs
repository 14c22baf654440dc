//! How the gateway's own mailbox stands with MESH: one row, written by whichever process works, read by all.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::{
    clock::from_millis,
    cpis::types::mesh::MeshContact,
    store::{Conn, StoreError, connection::on, schema::mesh_contact as contact},
};

/// How the mailbox stands; nothing known before the first call.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn get(conn: &mut Conn, mailbox: &str) -> Result<MeshContact, StoreError> {
    type Row = (Option<i64>, Option<i64>, Option<i64>, Option<String>);
    let row: Option<Row> = contact::table
        .find(mailbox)
        .select((contact::handshake_ms, contact::ok_ms, contact::failed_ms, contact::error))
        .first(conn)
        .optional()?;
    let (handshake, reached, failed, error) = row.unwrap_or_default();
    Ok(MeshContact {
        handshake: handshake.map(from_millis),
        reached: reached.map(from_millis),
        failed: failed.map(from_millis),
        error,
    })
}

/// Writes how the mailbox stands.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set(conn: &mut Conn, mailbox: &str, stands: &MeshContact) -> Result<(), StoreError> {
    let ms = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_millis());
    let values = (
        contact::handshake_ms.eq(ms(stands.handshake)),
        contact::ok_ms.eq(ms(stands.reached)),
        contact::failed_ms.eq(ms(stands.failed)),
        contact::error.eq(stands.error.as_deref()),
    );
    on!(conn, c => diesel::insert_into(contact::table)
        .values((contact::mailbox.eq(mailbox), values))
        .on_conflict(contact::mailbox)
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}
