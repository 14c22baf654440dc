//! Plans and every version of them. The newest version whose upload is applied counts (design 6, staging).

use chrono::NaiveDate;
use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    history::{NO_UPLOAD, Recording, Span, counting, histories, settled_below, walk},
    schema::{authority_child, plan, plan_version as version},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        LocalPlanId, Plan, PlanPeriod, PlanType,
        history::{HistoryAsked, HistoryPage, Recorded},
        notice::EndedReason,
        page::Place,
        plan::SystemEnd,
    },
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
    newest_versions(conn, rows, NO_UPLOAD)
}

/// [`of_children`] as an upload sees them while it is judged.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_children_to(conn: &mut Conn, children: &[i64], upload: i64) -> Result<Vec<ChildPlan>, StoreError> {
    if children.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<KeyRow> =
        plan::table.filter(plan::child_id.eq_any(children.to_vec())).order(plan::id).select(KEYS).load(conn)?;
    newest_versions(conn, rows, upload)
}

/// The plan with this FHIR id.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, id: Uuid) -> Result<Option<ChildPlan>, StoreError> {
    let rows: Vec<KeyRow> = plan::table.filter(plan::uuid.eq(id.to_string())).select(KEYS).load(conn)?;
    Ok(newest_versions(conn, rows, NO_UPLOAD)?.pop())
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
    Ok((newest_versions(conn, rows, NO_UPLOAD)?, last))
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = version)]
struct VersionRow {
    id: i64,
    plan_id: i64,
    version: i64,
    start_date: NaiveDate,
    end_date: Option<NaiveDate>,
    local_id: Option<String>,
    deleted: bool,
    recorded_ms: i64,
    ended_by: Option<String>,
    ended_on: Option<NaiveDate>,
}

fn newest_versions(conn: &mut Conn, keys: Vec<KeyRow>, upload: i64) -> Result<Vec<ChildPlan>, StoreError> {
    let mut plans = Vec::with_capacity(keys.len());
    for key in keys {
        // One query a plan: its cost stays the same however many versions there are.
        let newest: Option<VersionRow> = counting!(version, to upload)
            .filter(version::plan_id.eq(key.0))
            .order(version::version.desc())
            .select(VersionRow::as_select())
            .first(conn)
            .optional()?;
        if let Some(newest) = newest {
            plans.push(at_version(&key, newest)?);
        }
    }
    Ok(plans)
}

fn at_version((key, id, child_id, plan_type, created_ms): &KeyRow, row: VersionRow) -> Result<ChildPlan, StoreError> {
    let ended = match (row.ended_by, row.ended_on) {
        (Some(reason), Some(on)) => {
            let reason = EndedReason::from_code(&reason).ok_or(StoreError::Corrupt("plan_version.ended_by"))?;
            Some(SystemEnd { reason, on })
        }
        _ => None,
    };
    let plan = Plan {
        id: Uuid::parse_str(id).map_err(|_| StoreError::Corrupt("plan.uuid"))?,
        plan_type: PlanType::from_code(plan_type).ok_or(StoreError::Corrupt("plan.plan_type"))?,
        period: PlanPeriod::new(row.start_date, row.end_date).ok_or(StoreError::Corrupt("plan_version.end_date"))?,
        ended,
        local_id: row
            .local_id
            .map(|id| LocalPlanId::parse(&id).ok_or(StoreError::Corrupt("plan_version.local_id")))
            .transpose()?,
        version: row.version,
        deleted: row.deleted,
        recorded: from_millis(row.recorded_ms),
        created: from_millis(*created_ms),
    };
    Ok(ChildPlan { key: *key, child_id: *child_id, plan })
}

histories! {
    version by plan_id, VersionRow => ChildPlan,
    all: counting!(version),
    of_type: |authority: i64| counting!(version).filter(version::authority_id.eq(authority))
}

/// A page of the versions of all plans of an authority, numbered in the order of recording.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn history_of(
    conn: &mut Conn,
    authority: i64,
    asked: &HistoryAsked,
) -> Result<HistoryPage<Recorded<ChildPlan>>, StoreError> {
    let settled = settled_below!(conn, version, authority);
    let page = of_type(conn, authority, settled, asked)?;
    Ok(HistoryPage { versions: recorded(conn, page.versions, |row| row.id)?, next: page.next })
}

/// The rows as versions of their plans.
fn recorded(
    conn: &mut Conn,
    rows: Vec<VersionRow>,
    number: impl Fn(&VersionRow) -> i64,
) -> Result<Vec<Recorded<ChildPlan>>, StoreError> {
    let plans: Vec<i64> = rows.iter().map(|row| row.plan_id).collect();
    let keys: Vec<KeyRow> = plan::table.filter(plan::id.eq_any(plans)).select(KEYS).load(conn)?;
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        let key = keys.iter().find(|key| key.0 == row.plan_id).ok_or(StoreError::Corrupt("plan_version.plan_id"))?;
        let newest = !is_followed(conn, &row, i64::MAX)?;
        versions.push(Recorded { number: number(&row), newest, content: at_version(key, row)? });
    }
    Ok(versions)
}

/// When the newest version of any plan of an authority was recorded, whether or not it counts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn last_recorded(conn: &mut Conn, authority: i64) -> Result<Option<i64>, StoreError> {
    // Not that of the highest number: what came from a predecessor was recorded by its clock.
    let rows = version::table.filter(version::authority_id.eq(authority)).order(version::recorded_ms.desc());
    Ok(rows.select(version::recorded_ms).first(conn).optional()?)
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
    content: VersionContent<'_>,
    recording: Recording,
) -> Result<i64, StoreError> {
    let key: i64 = diesel::insert_into(plan::table)
        .values((
            plan::uuid.eq(id.to_string()),
            plan::child_id.eq(child_id),
            plan::plan_type.eq(plan_type.code()),
            plan::created_ms.eq(recording.recorded_ms),
        ))
        .returning(plan::id)
        .get_result(conn)?;
    super::child::is_changed(conn, child_id)?;
    insert_version(conn, key, 1, content, (None, None), recording)?;
    Ok(key)
}

/// Adds a version; it counts when its upload is applied. Returns its number.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_version(
    conn: &mut Conn,
    key: i64,
    content: VersionContent<'_>,
    recording: Recording,
) -> Result<i64, StoreError> {
    let child: i64 = plan::table.find(key).select(plan::child_id).first(conn)?;
    super::child::is_changed(conn, child)?;
    add_next(conn, key, content, (None, None), recording)
}

/// Adds a version by the system, which counts at once: the end that it writes over what the authority sent, or that such
/// an end is taken back ([`EndedReason::Reopened`], without a day). Returns its number.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_system_version(
    conn: &mut Conn,
    key: i64,
    sent: VersionContent<'_>,
    reason: EndedReason,
    on: Option<NaiveDate>,
    recording: Recording,
) -> Result<i64, StoreError> {
    add_next(conn, key, sent, (Some(reason), on), recording)
}

/// Adds the next version, after those that don't count yet too.
fn add_next(
    conn: &mut Conn,
    key: i64,
    content: VersionContent<'_>,
    ended: Ended,
    recording: Recording,
) -> Result<i64, StoreError> {
    let last: Option<i64> =
        version::table.filter(version::plan_id.eq(key)).select(diesel::dsl::max(version::version)).first(conn)?;
    let next = last.unwrap_or(0) + 1;
    insert_version(conn, key, next, content, ended, recording)?;
    Ok(next)
}

/// What the system says of an end: why, and on which day.
type Ended = (Option<EndedReason>, Option<NaiveDate>);

fn insert_version(
    conn: &mut Conn,
    key: i64,
    number: i64,
    content: VersionContent<'_>,
    (ended_by, ended_on): Ended,
    recording: Recording,
) -> Result<(), StoreError> {
    diesel::insert_into(version::table)
        .values((
            version::plan_id.eq(key),
            version::version.eq(number),
            version::authority_id.eq(recording.authority),
            version::upload_id.eq(recording.upload),
            version::start_date.eq(content.period.start()),
            version::end_date.eq(content.period.end()),
            version::local_id.eq(content.local_id.map(LocalPlanId::as_str)),
            version::deleted.eq(content.deleted),
            version::recorded_ms.eq(recording.recorded_ms),
            version::ended_by.eq(ended_by.map(EndedReason::code)),
            version::ended_on.eq(ended_on),
        ))
        .execute(conn)?;
    Ok(())
}

/// Why the authority was last told that the system ended a plan, unless that was taken back.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn ended_told(conn: &mut Conn, key: i64) -> Result<Option<EndedReason>, StoreError> {
    let told: Option<String> = plan::table.find(key).select(plan::ended_told).first(conn)?;
    told.map(|told| EndedReason::from_code(&told).ok_or(StoreError::Corrupt("plan.ended_told"))).transpose()
}

/// Keeps what the authority was told.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_ended_told(conn: &mut Conn, key: i64, told: Option<EndedReason>) -> Result<(), StoreError> {
    diesel::update(plan::table.find(key)).set(plan::ended_told.eq(told.map(EndedReason::code))).execute(conn)?;
    Ok(())
}
