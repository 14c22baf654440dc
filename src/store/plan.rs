//! Plans and every version of them. The newest version whose upload is applied counts (design 6, staging).

use chrono::NaiveDate;
use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{authority_child, plan, plan_version as version, upload},
    upload::APPLIED,
};
use crate::{
    clock::from_millis,
    cpis::types::{LocalPlanId, Plan, PlanPeriod, PlanType, page::Place},
};

/// A plan, its key and the key of the child that it belongs to.
#[derive(Clone, Debug)]
pub struct ChildPlan {
    pub key: i64,
    pub child_id: i64,
    pub plan: Plan,
}

type KeyRow = (i64, String, i64, String, i64);
type Keys = (plan::id, plan::uuid, plan::child_id, plan::plan_type, plan::created_ms);

const KEYS: Keys = (plan::id, plan::uuid, plan::child_id, plan::plan_type, plan::created_ms);

/// The plans of these children, deleted ones included, in the order in which they were registered.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_children(conn: &mut Conn, children: &[i64]) -> Result<Vec<ChildPlan>, StoreError> {
    let rows: Vec<KeyRow> =
        plan::table.filter(plan::child_id.eq_any(children.to_vec())).order(plan::id).select(KEYS).load(conn)?;
    newest_versions(conn, rows)
}

/// The plan with this FHIR id.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, id: Uuid) -> Result<Option<ChildPlan>, StoreError> {
    let rows: Vec<KeyRow> = plan::table.filter(plan::uuid.eq(id.to_string())).select(KEYS).load(conn)?;
    Ok(newest_versions(conn, rows)?.pop())
}

/// The plans of one page, and the key to read on from: none when there are no more.
pub type PlanPage = (Vec<ChildPlan>, Option<i64>);

/// At most `limit` of an authority's own plans, by their keys from `place` on. Fewer come when some don't count yet.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn page(conn: &mut Conn, authority: i64, place: Option<Place<i64>>, limit: i64) -> Result<PlanPage, StoreError> {
    let mut query = plan::table
        .inner_join(authority_child::table)
        .filter(authority_child::authority_id.eq(authority))
        .limit(limit)
        .select(KEYS)
        .into_boxed();
    query = match place {
        Some(Place::Before(key)) => query.filter(plan::id.lt(key)).order(plan::id.desc()),
        Some(Place::After(key)) => query.filter(plan::id.gt(key)).order(plan::id.asc()),
        None => query.order(plan::id.asc()),
    };
    let rows: Vec<KeyRow> = query.load(conn)?;
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let last = rows.last().map(|(key, ..)| *key).filter(|_| full);
    Ok((newest_versions(conn, rows)?, last))
}

fn newest_versions(conn: &mut Conn, keys: Vec<KeyRow>) -> Result<Vec<ChildPlan>, StoreError> {
    type VersionRow = (i64, NaiveDate, Option<NaiveDate>, Option<String>, bool, i64);
    let mut plans = Vec::with_capacity(keys.len());
    for (key, id, child_id, plan_type, created_ms) in keys {
        // One query a plan: its cost stays the same however many versions there are.
        let newest: Option<VersionRow> = version::table
            .left_join(upload::table)
            .filter(version::plan_id.eq(key))
            .filter(version::upload_id.is_null().or(upload::state.eq(APPLIED)))
            .order(version::version.desc())
            .select((
                version::version,
                version::start_date,
                version::end_date,
                version::local_id,
                version::deleted,
                version::recorded_ms,
            ))
            .first(conn)
            .optional()?;
        let Some((version, start, end, local_id, deleted, recorded_ms)) = newest else { continue };
        let plan = Plan {
            id: Uuid::parse_str(&id).map_err(|_| StoreError::Corrupt("plan.uuid"))?,
            plan_type: PlanType::from_code(&plan_type).ok_or(StoreError::Corrupt("plan.plan_type"))?,
            period: PlanPeriod::new(start, end).ok_or(StoreError::Corrupt("plan_version.end_date"))?,
            local_id: local_id
                .map(|id| LocalPlanId::parse(&id).ok_or(StoreError::Corrupt("plan_version.local_id")))
                .transpose()?,
            version,
            deleted,
            recorded: from_millis(recorded_ms),
            created: from_millis(created_ms),
        };
        plans.push(ChildPlan { key, child_id, plan });
    }
    Ok(plans)
}

/// What a version says.
#[derive(Clone, Copy, Debug)]
pub struct VersionContent<'a> {
    pub period: PlanPeriod,
    pub local_id: Option<&'a LocalPlanId>,
    pub deleted: bool,
}

/// Registers a plan with its first version; returns its key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn create(
    conn: &mut Conn,
    child_id: i64,
    id: Uuid,
    plan_type: PlanType,
    upload_id: i64,
    content: VersionContent<'_>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let key: i64 = diesel::insert_into(plan::table)
        .values((
            plan::uuid.eq(id.to_string()),
            plan::child_id.eq(child_id),
            plan::plan_type.eq(plan_type.code()),
            plan::created_ms.eq(now_ms),
        ))
        .returning(plan::id)
        .get_result(conn)?;
    add_version(conn, key, upload_id, content, now_ms)?;
    Ok(key)
}

/// Adds a version; it counts when its upload is applied. Returns its number.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_version(
    conn: &mut Conn,
    key: i64,
    upload_id: i64,
    content: VersionContent<'_>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let last: Option<i64> =
        version::table.filter(version::plan_id.eq(key)).select(diesel::dsl::max(version::version)).first(conn)?;
    let next = last.unwrap_or(0) + 1;
    diesel::insert_into(version::table)
        .values((
            version::plan_id.eq(key),
            version::version.eq(next),
            version::upload_id.eq(upload_id),
            version::start_date.eq(content.period.start()),
            version::end_date.eq(content.period.end()),
            version::local_id.eq(content.local_id.map(LocalPlanId::as_str)),
            version::deleted.eq(content.deleted),
            version::recorded_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(next)
}
