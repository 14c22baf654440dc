//! Records that were refused and that no later upload has loaded: to be shown to their authority again (design 7).

use diesel::{dsl::sql, prelude::*, sql_types::Bool};
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{succession, upload, upload_record as record},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        NhsNumber,
        refusal::OpenRefusal,
        upload::{Door, RecordCode},
    },
};

/// Refused and not resolved; written as the index has it, so that it is used.
const OPEN: &str = "upload_record.resolved_ms is null and upload_record.code <> 'CPR06'";

type Row = (i64, i64, String, Option<i64>, i64, String, Option<String>, Option<String>);

/// At most `limit` open refusals of an authority that were recorded from `since_ms` on, in the order of upload and position,
/// after a place in it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn open(
    conn: &mut Conn,
    authority: i64,
    after: Option<(i64, i64)>,
    since_ms: i64,
    limit: i64,
) -> Result<Vec<OpenRefusal>, StoreError> {
    let (upload_key, position) = after.unwrap_or((0, -1));
    let of_predecessors =
        succession::table.filter(succession::authority_id.eq(authority)).select(succession::predecessor_id);
    let later = record::upload_id.eq(upload_key).and(record::position.gt(position));
    let rows: Vec<Row> = record::table
        .inner_join(upload::table.on(upload::id.eq(record::upload_id)))
        .filter(sql::<Bool>(OPEN))
        .filter(upload::authority_id.eq(authority).or(upload::authority_id.eq_any(of_predecessors)))
        .filter(upload::applied_ms.is_not_null())
        .filter(record::upload_id.gt(upload_key).or(later))
        .filter(record::recorded_ms.ge(since_ms))
        .order((record::upload_id, record::position))
        .limit(limit)
        .select((
            record::upload_id,
            record::position,
            upload::uuid,
            upload::sequence_number,
            record::recorded_ms,
            record::code,
            record::nhs_number,
            record::reason,
        ))
        .load(conn)?;
    rows.into_iter().map(refusal_of).collect()
}

fn refusal_of((key, position, uuid, number, recorded_ms, code, nhs, reason): Row) -> Result<OpenRefusal, StoreError> {
    Ok(OpenRefusal {
        upload_key: key,
        position,
        upload: Uuid::parse_str(&uuid).map_err(|_| StoreError::Corrupt("upload.uuid"))?,
        file_number: number,
        recorded: from_millis(recorded_ms),
        code: RecordCode::from_code(&code).ok_or(StoreError::Corrupt("upload_record.code"))?,
        nhs_number: nhs
            .map(|number| NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("upload_record.nhs_number")))
            .transpose()?,
        reason,
    })
}

/// How many open refusals there are, of all authorities, that were recorded from `since_ms` on and before `before_ms`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count(conn: &mut Conn, since_ms: i64, before_ms: i64) -> Result<i64, StoreError> {
    Ok(record::table
        .filter(sql::<Bool>(OPEN))
        .filter(record::recorded_ms.ge(since_ms).and(record::recorded_ms.lt(before_ms)))
        .count()
        .get_result(conn)?)
}

/// Uploads with open refusals recorded from `since_ms` on and before `before_ms`, which were not shown again since then
/// either; (key, id, came over MESH), at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn to_show_again(
    conn: &mut Conn,
    since_ms: i64,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<(i64, Uuid, bool)>, StoreError> {
    let shown_long_ago = upload::reminded_ms.is_null().or(upload::reminded_ms.le(before_ms));
    let rows: Vec<(i64, String, String)> = record::table
        .inner_join(upload::table.on(upload::id.eq(record::upload_id)))
        .filter(sql::<Bool>(OPEN))
        .filter(record::recorded_ms.ge(since_ms).and(record::recorded_ms.le(before_ms)))
        .filter(upload::applied_ms.is_not_null())
        .filter(shown_long_ago)
        .order(upload::id)
        .select((upload::id, upload::uuid, upload::door))
        .distinct()
        .limit(limit)
        .load(conn)?;
    rows.into_iter()
        .map(|(key, uuid, door)| {
            let uuid = Uuid::parse_str(&uuid).map_err(|_| StoreError::Corrupt("upload.uuid"))?;
            Ok((key, uuid, door == Door::Mesh.code()))
        })
        .collect()
}

/// Keeps that the refusals of these uploads were shown again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn mark_shown(conn: &mut Conn, uploads: &[i64], now_ms: i64) -> Result<(), StoreError> {
    diesel::update(upload::table.filter(upload::id.eq_any(uploads.to_vec())))
        .set(upload::reminded_ms.eq(now_ms))
        .execute(conn)?;
    Ok(())
}
