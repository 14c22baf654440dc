//! The outbox: what authorities are to be told, written in the transaction that caused it (design 7). The notifier gives
//! committed rows to the subscriptions of their authority ([`super::delivery`]); a row without one waits.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError, access,
    schema::{access as access_table, outbox, plan},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        NhsNumber, PlanType,
        child::Inactive,
        notice::{EndedReason, InactiveReason, Notice, Topic},
    },
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

/// One thing that an authority is to be told, as it was put into the outbox.
#[derive(Clone, Debug)]
pub struct Told {
    /// Stable id of the notification.
    pub id: Uuid,
    pub authority_id: i64,
    pub created: DateTime<Utc>,
    pub notice: Notice,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = outbox)]
struct Row {
    uuid: String,
    kind: String,
    authority_id: i64,
    access_id: Option<i64>,
    created_ms: i64,
    nhs_number: Option<String>,
    replaced_by: Option<String>,
    reason: Option<String>,
    plan_id: Option<i64>,
}

/// The row of a surrogate key, with the access or the plan that it is about.
///
/// # Errors
/// [`StoreError::Corrupt`] when there is none or it can't be read; [`StoreError`] when the database fails.
pub fn get(conn: &mut Conn, id: i64) -> Result<Told, StoreError> {
    let row: Row = outbox::table.find(id).select(Row::as_select()).first(conn)?;
    Ok(Told {
        id: Uuid::parse_str(&row.uuid).map_err(|_| StoreError::Corrupt("outbox.uuid"))?,
        authority_id: row.authority_id,
        created: from_millis(row.created_ms),
        notice: notice(conn, &row)?,
    })
}

fn notice(conn: &mut Conn, row: &Row) -> Result<Notice, StoreError> {
    let own_number = || number(row.nhs_number.as_deref())?.ok_or(StoreError::Corrupt("outbox.nhs_number"));
    let reason = row.reason.as_deref().unwrap_or_default();
    match Topic::from_code(&row.kind).ok_or(StoreError::Corrupt("outbox.kind"))? {
        Topic::Access => {
            let access = access::get(conn, row.access_id.ok_or(StoreError::Corrupt("outbox.access_id"))?)?;
            Ok(Notice::Access(Box::new(access)))
        }
        Topic::InactiveNumber => Ok(Notice::InactiveNumber {
            nhs_number: own_number()?,
            reason: InactiveReason::from_code(reason).ok_or(StoreError::Corrupt("outbox.reason"))?,
            replaced_by: number(row.replaced_by.as_deref())?,
        }),
        Topic::RecordEnded => Ok(Notice::RecordEnded {
            nhs_number: own_number()?,
            reason: EndedReason::from_code(reason).ok_or(StoreError::Corrupt("outbox.reason"))?,
            plan: row.plan_id.map(|key| plan_of(conn, key)).transpose()?,
        }),
    }
}

fn number(text: Option<&str>) -> Result<Option<NhsNumber>, StoreError> {
    text.map(|text| NhsNumber::parse(text).map_err(|_| StoreError::Corrupt("outbox.nhs_number"))).transpose()
}

/// FHIR id and type of a plan.
fn plan_of(conn: &mut Conn, key: i64) -> Result<(Uuid, PlanType), StoreError> {
    let (id, plan_type): (String, String) = plan::table.find(key).select((plan::uuid, plan::plan_type)).first(conn)?;
    Ok((
        Uuid::parse_str(&id).map_err(|_| StoreError::Corrupt("plan.uuid"))?,
        PlanType::from_code(&plan_type).ok_or(StoreError::Corrupt("plan.plan_type"))?,
    ))
}

/// The authority that a row is for, and the number that was asked for with the access that it is about; `None` for another
/// topic.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not a number; [`StoreError`] when the database fails.
pub fn access_of(conn: &mut Conn, id: i64) -> Result<Option<(i64, NhsNumber)>, StoreError> {
    let asked: Option<(i64, String)> = outbox::table
        .inner_join(access_table::table.on(outbox::access_id.eq(access_table::id.nullable())))
        .filter(outbox::id.eq(id))
        .select((outbox::authority_id, access_table::nhs_number))
        .first(conn)
        .optional()?;
    let Some((authority, asked)) = asked else { return Ok(None) };
    Ok(number(Some(&asked))?.map(|number| (authority, number)))
}

/// Takes the replacement out of all that an authority was told of a number.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget_replacement(conn: &mut Conn, authority: i64, nhs_number: &NhsNumber) -> Result<(), StoreError> {
    let its = outbox::authority_id.eq(authority).and(outbox::nhs_number.eq(nhs_number.as_str()));
    diesel::update(outbox::table.filter(its).filter(outbox::replaced_by.is_not_null()))
        .set(outbox::replaced_by.eq(None::<String>))
        .execute(conn)?;
    Ok(())
}

/// What an authority was told last of a number that it sent having become inactive.
///
/// # Errors
/// [`StoreError::Corrupt`] when the row can't be read; [`StoreError`] when the database fails.
pub fn newest_inactive(
    conn: &mut Conn,
    authority: i64,
    nhs_number: &NhsNumber,
) -> Result<Option<Inactive>, StoreError> {
    let row: Option<(i64, Option<String>, Option<String>)> = outbox::table
        .filter(outbox::authority_id.eq(authority).and(outbox::nhs_number.eq(nhs_number.as_str())))
        .filter(outbox::kind.eq(Topic::InactiveNumber.code()))
        .order(outbox::id.desc())
        .select((outbox::created_ms, outbox::reason, outbox::replaced_by))
        .first(conn)
        .optional()?;
    let Some((created_ms, reason, replaced_by)) = row else { return Ok(None) };
    let reason = reason.as_deref().and_then(InactiveReason::from_code).ok_or(StoreError::Corrupt("outbox.reason"))?;
    let replaced_by = number(replaced_by.as_deref())?;
    Ok(Some(Inactive { reason, replaced_by, since: from_millis(created_ms), holds: true }))
}
