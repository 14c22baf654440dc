//! Changes by authorities as they came, and what was answered to each record (design 6).

use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{upload, upload_record as record},
};
use crate::cpis::types::{
    NhsNumber,
    upload::{Door, FileCode, RecordCode},
};

/// State of an upload whose versions count.
pub const APPLIED: &str = "applied";
/// State of an upload whose versions are written, and count once it is applied (design 6, staging).
pub const STAGED: &str = "staged";

/// Begins an upload that is applied by the transaction that it is in; returns its key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn begin(
    conn: &mut Conn,
    id: Uuid,
    authority: i64,
    door: Door,
    records: usize,
    now_ms: i64,
) -> Result<i64, StoreError> {
    Ok(diesel::insert_into(upload::table)
        .values((
            upload::uuid.eq(id.to_string()),
            upload::authority_id.eq(authority),
            upload::door.eq(door.code()),
            upload::state.eq(APPLIED),
            upload::received_ms.eq(now_ms),
            upload::applied_ms.eq(now_ms),
            upload::records.eq(i64::try_from(records).unwrap_or(i64::MAX)),
        ))
        .returning(upload::id)
        .get_result(conn)?)
}

/// Writes the file's code.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn answer(conn: &mut Conn, id: i64, code: FileCode) -> Result<(), StoreError> {
    diesel::update(upload::table.find(id)).set(upload::file_code.eq(code.code())).execute(conn)?;
    Ok(())
}

/// Keeps a record's answer. Of one refused with CPR02 nothing of the child may be kept, so `about` is `None`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_record(
    conn: &mut Conn,
    upload_id: i64,
    position: usize,
    code: RecordCode,
    about: Option<(&NhsNumber, &str)>,
    now_ms: i64,
) -> Result<(), StoreError> {
    diesel::insert_into(record::table)
        .values((
            record::upload_id.eq(upload_id),
            record::position.eq(i64::try_from(position).unwrap_or(i64::MAX)),
            record::code.eq(code.code()),
            record::nhs_number.eq(about.map(|(number, _)| number.as_str())),
            record::reason.eq(about.map(|(_, reason)| reason)),
            record::recorded_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// Takes the number and the reason off refused records older than `before_ms`; position and code stay.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget_refused(conn: &mut Conn, before_ms: i64) -> Result<usize, StoreError> {
    Ok(diesel::update(record::table.filter(record::recorded_ms.lt(before_ms)).filter(record::nhs_number.is_not_null()))
        .set((record::nhs_number.eq(None::<String>), record::reason.eq(None::<String>)))
        .execute(conn)?)
}

/// True while an upload of the authority is staged: its versions are there and don't count yet.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_staged(conn: &mut Conn, authority: i64) -> Result<bool, StoreError> {
    let staged = upload::table.filter(upload::authority_id.eq(authority).and(upload::state.eq(STAGED)));
    Ok(diesel::select(diesel::dsl::exists(staged)).get_result(conn)?)
}
