//! Each authority's own child, with every version of what it sent (design 2).

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{
    Conn, StoreError,
    history::{NO_UPLOAD, Recording, Span, counting, histories, settled_below, walk},
    schema::{authority_child, authority_child_version as version, person, upload},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        NhsNumber,
        child::{AuthorityChild, Demographics},
        history::{HistoryAsked, HistoryPage, Recorded},
        page::Place,
    },
};

/// A child and whose it is.
#[derive(Clone, Debug)]
pub struct OwnedChild {
    pub authority_id: i64,
    pub child: AuthorityChild,
}

type KeyRow = (i64, i64, i64, String);
type Keys = (authority_child::id, authority_child::authority_id, authority_child::person_id, person::nhs_number);

const KEYS: Keys = (authority_child::id, authority_child::authority_id, authority_child::person_id, person::nhs_number);

/// The children of these persons that any authority holds, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_persons(conn: &mut Conn, persons: &[i64]) -> Result<Vec<OwnedChild>, StoreError> {
    let rows: Vec<KeyRow> = authority_child::table
        .inner_join(person::table)
        .filter(authority_child::person_id.eq_any(persons.to_vec()))
        .order(authority_child::id)
        .select(KEYS)
        .load(conn)?;
    newest_versions(conn, rows, NO_UPLOAD)
}

/// One authority's own children of these persons, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_authority(conn: &mut Conn, authority: i64, persons: &[i64]) -> Result<Vec<AuthorityChild>, StoreError> {
    of_authority_to(conn, authority, persons, NO_UPLOAD)
}

/// Whether an authority has a child of its own among these persons.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn holds_any(conn: &mut Conn, authority: i64, persons: &[i64]) -> Result<bool, StoreError> {
    let own = authority_child::table
        .filter(authority_child::person_id.eq_any(persons.to_vec()))
        .filter(authority_child::authority_id.eq(authority));
    Ok(diesel::select(diesel::dsl::exists(own)).get_result(conn)?)
}

/// [`of_authority`] as an upload sees them while it is judged.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_authority_to(
    conn: &mut Conn,
    authority: i64,
    persons: &[i64],
    upload: i64,
) -> Result<Vec<AuthorityChild>, StoreError> {
    if persons.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<KeyRow> = authority_child::table
        .inner_join(person::table)
        .filter(authority_child::person_id.eq_any(persons.to_vec()))
        .filter(authority_child::authority_id.eq(authority))
        .order(authority_child::id)
        .select(KEYS)
        .load(conn)?;
    Ok(newest_versions(conn, rows, upload)?.into_iter().map(|owned| owned.child).collect())
}

/// The child of a key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn get(conn: &mut Conn, id: i64) -> Result<Option<OwnedChild>, StoreError> {
    let rows: Vec<KeyRow> =
        authority_child::table.inner_join(person::table).filter(authority_child::id.eq(id)).select(KEYS).load(conn)?;
    Ok(newest_versions(conn, rows, NO_UPLOAD)?.pop())
}

/// The authorities that have a child of a person, or are about to.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn authorities_of(conn: &mut Conn, person_id: i64) -> Result<Vec<i64>, StoreError> {
    let children = authority_child::table.filter(authority_child::person_id.eq(person_id));
    Ok(children.select(authority_child::authority_id).load(conn)?)
}

/// At most `limit` of an authority's own children, by their keys from `place` on, and the key to read on from: none when
/// there are no more. Fewer come when some don't count yet.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn page(
    conn: &mut Conn,
    authority: i64,
    place: Option<Place<i64>>,
    limit: i64,
) -> Result<(Vec<AuthorityChild>, Option<i64>), StoreError> {
    let mut query = authority_child::table
        .inner_join(person::table)
        .filter(authority_child::authority_id.eq(authority))
        .limit(limit)
        .select(KEYS)
        .into_boxed();
    query = match place {
        Some(Place::Before(key)) => query.filter(authority_child::id.lt(key)).order(authority_child::id.desc()),
        Some(Place::After(key)) => query.filter(authority_child::id.gt(key)).order(authority_child::id.asc()),
        None => query.order(authority_child::id.asc()),
    };
    let rows: Vec<KeyRow> = query.load(conn)?;
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let last = rows.last().map(|(key, ..)| *key).filter(|_| full);
    Ok((newest_versions(conn, rows, NO_UPLOAD)?.into_iter().map(|owned| owned.child).collect(), last))
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = version)]
struct VersionRow {
    id: i64,
    child_id: i64,
    version: i64,
    family: String,
    given: String,
    birth_date: NaiveDate,
    local_id: Option<String>,
    recorded_ms: i64,
}

fn newest_versions(conn: &mut Conn, keys: Vec<KeyRow>, upload: i64) -> Result<Vec<OwnedChild>, StoreError> {
    let mut owned = Vec::with_capacity(keys.len());
    for key in keys {
        let newest: Option<VersionRow> = counting!(version, to upload)
            .filter(version::child_id.eq(key.0))
            .order(version::version.desc())
            .select(VersionRow::as_select())
            .first(conn)
            .optional()?;
        // Rows of an upload that does not count yet are as if not there.
        if let Some(newest) = newest {
            owned.push(at_version(&key, newest)?);
        }
    }
    Ok(owned)
}

fn at_version((id, authority_id, person_id, number): &KeyRow, row: VersionRow) -> Result<OwnedChild, StoreError> {
    let given = row.given.split('\n').filter(|g| !g.is_empty()).map(str::to_owned).collect();
    let child = AuthorityChild {
        id: *id,
        person_id: *person_id,
        nhs_number: NhsNumber::parse(number).map_err(|_| StoreError::Corrupt("person.nhs_number"))?,
        demographics: Demographics { family: row.family, given, birth_date: row.birth_date },
        local_id: row.local_id,
        version: row.version,
        recorded: from_millis(row.recorded_ms),
        inactive: None,
    };
    Ok(OwnedChild { authority_id: *authority_id, child })
}

histories! {
    version by child_id, VersionRow => AuthorityChild,
    all: counting!(version),
    of_type: |authority: i64| counting!(version).filter(version::authority_id.eq(authority))
}

/// A page of the versions of all children of an authority, numbered in the order of recording.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn history_of(
    conn: &mut Conn,
    authority: i64,
    asked: &HistoryAsked,
) -> Result<HistoryPage<Recorded<AuthorityChild>>, StoreError> {
    let settled = settled_below!(conn, version, authority);
    let page = of_type(conn, authority, settled, asked)?;
    Ok(HistoryPage { versions: recorded(conn, page.versions, |row| row.id)?, next: page.next })
}

/// The rows as versions of their children.
fn recorded(
    conn: &mut Conn,
    rows: Vec<VersionRow>,
    number: impl Fn(&VersionRow) -> i64,
) -> Result<Vec<Recorded<AuthorityChild>>, StoreError> {
    let children: Vec<i64> = rows.iter().map(|row| row.child_id).collect();
    let keys = authority_child::table.inner_join(person::table).filter(authority_child::id.eq_any(children));
    let keys: Vec<KeyRow> = keys.select(KEYS).load(conn)?;
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        let key = keys.iter().find(|key| key.0 == row.child_id).ok_or(StoreError::Corrupt("a version's child_id"))?;
        let newest = !is_followed(conn, &row, i64::MAX)?;
        versions.push(Recorded { number: number(&row), newest, content: at_version(key, row)?.child });
    }
    Ok(versions)
}

/// When the newest version of any child of an authority was recorded, whether or not it counts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn last_recorded(conn: &mut Conn, authority: i64) -> Result<Option<i64>, StoreError> {
    // Not that of the highest number: what came from a predecessor was recorded by its clock.
    let rows = version::table.filter(version::authority_id.eq(authority)).order(version::recorded_ms.desc());
    Ok(rows.select(version::recorded_ms).first(conn).optional()?)
}

/// The key of an authority's child for a person, made if it is new; it has no version yet.
///
/// # Errors
/// [`StoreError::Race`] when another writer made it.
pub fn find_or_create_key(conn: &mut Conn, authority: i64, person_id: i64) -> Result<i64, StoreError> {
    let found: Option<i64> = authority_child::table
        .filter(authority_child::person_id.eq(person_id).and(authority_child::authority_id.eq(authority)))
        .select(authority_child::id)
        .first(conn)
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    Ok(diesel::insert_into(authority_child::table)
        .values((authority_child::authority_id.eq(authority), authority_child::person_id.eq(person_id)))
        .returning(authority_child::id)
        .get_result(conn)?)
}

/// Adds a version; it counts when its upload is applied.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_version(
    conn: &mut Conn,
    child_id: i64,
    demographics: &Demographics,
    local_id: Option<&str>,
    recording: Recording,
) -> Result<i64, StoreError> {
    is_changed(conn, child_id)?;
    let last: Option<i64> =
        version::table.filter(version::child_id.eq(child_id)).select(diesel::dsl::max(version::version)).first(conn)?;
    let next = last.unwrap_or(0) + 1;
    diesel::insert_into(version::table)
        .values((
            version::child_id.eq(child_id),
            version::version.eq(next),
            version::authority_id.eq(recording.authority),
            version::upload_id.eq(recording.upload),
            version::family.eq(&demographics.family),
            version::given.eq(demographics.given.join("\n")),
            version::birth_date.eq(demographics.birth_date),
            version::local_id.eq(local_id),
            version::recorded_ms.eq(recording.recorded_ms),
        ))
        .execute(conn)?;
    Ok(next)
}

/// The day of what changed since it was last looked at ([`due`]).
const LONG_DUE: NaiveDate = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

/// A child whose plans may have to be ended by the system, or their ends taken back.
#[derive(Clone, Copy)]
pub struct DueChild {
    pub id: i64,
    pub authority: i64,
    pub nhs_number: NhsNumber,
}

/// At most `limit` children whose day has come, the longest due first. Those of an authority with a staged upload wait:
/// its versions don't count yet, and one of the system's would stand over them.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn due(conn: &mut Conn, today: NaiveDate, limit: i64) -> Result<Vec<DueChild>, StoreError> {
    let staged = upload::table
        .filter(upload::authority_id.eq(authority_child::authority_id))
        .filter(upload::state.eq_any([super::upload::STAGED, super::upload::CANCELLED]));
    let rows: Vec<(i64, i64, String)> = authority_child::table
        .inner_join(person::table)
        .filter(authority_child::due_date.le(today))
        .filter(diesel::dsl::not(diesel::dsl::exists(staged)))
        .order((authority_child::due_date, authority_child::id))
        .limit(limit)
        .select((authority_child::id, authority_child::authority_id, person::nhs_number))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, authority, number)| {
            let nhs_number = NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("person.nhs_number"))?;
            Ok(DueChild { id, authority, nhs_number })
        })
        .collect()
}

/// Says when a child's plans are to be looked at next; never for `None`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_due(conn: &mut Conn, id: i64, day: Option<NaiveDate>) -> Result<(), StoreError> {
    diesel::update(authority_child::table.find(id)).set(authority_child::due_date.eq(day)).execute(conn)?;
    Ok(())
}

/// Something is stored of a child: its plans have to be looked at, and its number is traced again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn is_changed(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    set_due(conn, id, Some(LONG_DUE))?;
    let person: i64 = authority_child::table.find(id).select(authority_child::person_id).first(conn)?;
    super::trace::again(conn, person)
}

/// Has the plans of every child of a person looked at.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn all_due(conn: &mut Conn, person_id: i64) -> Result<(), StoreError> {
    diesel::update(authority_child::table.filter(authority_child::person_id.eq(person_id)))
        .set(authority_child::due_date.eq(LONG_DUE))
        .execute(conn)?;
    Ok(())
}
