//! The outbox: what authorities are to be told, written in the transaction that caused it (design 7). The notifier gives
//! committed rows to the subscriptions of their authority ([`super::delivery`]); a row without one waits.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{Conn, StoreError, schema::outbox};
use crate::cpis::types::{
    NhsNumber,
    notice::{EndedReason, InactiveReason, Topic},
};

/// Puts an access into the outbox for one authority, under a new stable id.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_access(conn: &mut Conn, authority: i64, access: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::insert_into(outbox::table)
        .values((
            outbox::uuid.eq(Uuid::new_v4().to_string()),
            outbox::kind.eq(Topic::Access.code()),
            outbox::authority_id.eq(authority),
            outbox::access_id.eq(access),
            outbox::created_ms.eq(at.timestamp_millis()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Tells one authority that a number of its became inactive, under a new stable id.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_inactive_number(
    conn: &mut Conn,
    authority: i64,
    number: &NhsNumber,
    reason: InactiveReason,
    replaced_by: Option<&NhsNumber>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::insert_into(outbox::table)
        .values((
            outbox::uuid.eq(Uuid::new_v4().to_string()),
            outbox::kind.eq(Topic::InactiveNumber.code()),
            outbox::authority_id.eq(authority),
            outbox::nhs_number.eq(number.as_str()),
            outbox::reason.eq(reason.code()),
            outbox::replaced_by.eq(replaced_by.map(NhsNumber::as_str)),
            outbox::created_ms.eq(at.timestamp_millis()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Tells one authority that the system ended a record of its, or takes that back, under a new stable id. `plan` is the
/// surrogate key of the plan that it is about, if it is about one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_record_ended(
    conn: &mut Conn,
    authority: i64,
    number: &NhsNumber,
    reason: EndedReason,
    plan: Option<i64>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::insert_into(outbox::table)
        .values((
            outbox::uuid.eq(Uuid::new_v4().to_string()),
            outbox::kind.eq(Topic::RecordEnded.code()),
            outbox::authority_id.eq(authority),
            outbox::nhs_number.eq(number.as_str()),
            outbox::reason.eq(reason.code()),
            outbox::plan_id.eq(plan),
            outbox::created_ms.eq(at.timestamp_millis()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Marks rows as given to the subscriptions that their authority had.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn mark_routed(conn: &mut Conn, ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
    diesel::update(outbox::table.filter(outbox::id.eq_any(ids.to_vec())))
        .set(outbox::routed_ms.eq(now_ms))
        .execute(conn)?;
    Ok(())
}

/// The authorities that an access was put into the outbox for, by ascending key; for verification.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn authorities_of(conn: &mut Conn, access: i64) -> Result<Vec<i64>, StoreError> {
    Ok(outbox::table
        .filter(outbox::access_id.eq(access))
        .order(outbox::authority_id)
        .select(outbox::authority_id)
        .load(conn)?)
}
