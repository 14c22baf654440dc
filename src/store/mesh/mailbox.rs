//! Which mailbox is which authority's.

use diesel::prelude::*;

use crate::{
    clock::from_millis,
    cpis::types::mesh::MeshMailbox,
    store::{
        Conn, StoreError, organization,
        schema::{mesh_mailbox as mailbox, organization as organizations},
    },
};

/// All mailboxes, by the authorities' ODS codes.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn all(conn: &mut Conn) -> Result<Vec<MeshMailbox>, StoreError> {
    let rows: Vec<(i64, String, i64)> = mailbox::table
        .inner_join(organizations::table.on(organizations::id.eq(mailbox::authority_id)))
        .order(organizations::ods)
        .select((mailbox::authority_id, mailbox::mailbox, mailbox::from_ms))
        .load(conn)?;
    rows.into_iter()
        .map(|(authority, mailbox, from_ms)| {
            Ok(MeshMailbox { authority: organization::get(conn, authority)?, mailbox, from: from_millis(from_ms) })
        })
        .collect()
}

/// Whose mailbox it is, by surrogate key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn authority_of(conn: &mut Conn, id: &str) -> Result<Option<i64>, StoreError> {
    Ok(mailbox::table.filter(mailbox::mailbox.eq(id)).select(mailbox::authority_id).first(conn).optional()?)
}

/// An authority's mailbox, and from when on notifications are for it (milliseconds).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_authority(conn: &mut Conn, authority: i64) -> Result<Option<(String, i64)>, StoreError> {
    Ok(mailbox::table.find(authority).select((mailbox::mailbox, mailbox::from_ms)).first(conn).optional()?)
}

/// Gives an authority a mailbox; one that it had already is replaced, and `from_ms` stays as it was.
///
/// # Errors
/// [`StoreError::Race`] when the mailbox is another authority's; [`StoreError`] when the database fails.
pub fn set(conn: &mut Conn, authority: i64, id: &str, from_ms: i64) -> Result<(), StoreError> {
    let changed = diesel::update(mailbox::table.find(authority)).set(mailbox::mailbox.eq(id)).execute(conn)?;
    if changed == 0 {
        diesel::insert_into(mailbox::table)
            .values((mailbox::authority_id.eq(authority), mailbox::mailbox.eq(id), mailbox::from_ms.eq(from_ms)))
            .execute(conn)?;
    }
    Ok(())
}

/// Takes an authority's mailbox away; false when it has none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn remove(conn: &mut Conn, authority: i64) -> Result<bool, StoreError> {
    Ok(diesel::delete(mailbox::table.find(authority)).execute(conn)? == 1)
}
