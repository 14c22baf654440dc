//! Each authority's own child, with every version of what it sent (design 2).

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{
    Conn, StoreError,
    schema::{authority_child, authority_child_version as version, person, upload},
    upload::APPLIED,
};
use crate::{
    clock::from_millis,
    cpis::types::{
        NhsNumber,
        child::{AuthorityChild, Demographics},
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
    newest_versions(conn, rows)
}

/// One authority's own children of these persons, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_authority(conn: &mut Conn, authority: i64, persons: &[i64]) -> Result<Vec<AuthorityChild>, StoreError> {
    let owned = of_persons(conn, persons)?;
    Ok(owned.into_iter().filter(|o| o.authority_id == authority).map(|o| o.child).collect())
}

/// The child of a key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn get(conn: &mut Conn, id: i64) -> Result<Option<OwnedChild>, StoreError> {
    let rows: Vec<KeyRow> =
        authority_child::table.inner_join(person::table).filter(authority_child::id.eq(id)).select(KEYS).load(conn)?;
    Ok(newest_versions(conn, rows)?.pop())
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
    Ok((newest_versions(conn, rows)?.into_iter().map(|owned| owned.child).collect(), last))
}

fn newest_versions(conn: &mut Conn, keys: Vec<KeyRow>) -> Result<Vec<OwnedChild>, StoreError> {
    type VersionRow = (i64, String, String, NaiveDate, Option<String>, i64);
    let mut owned = Vec::with_capacity(keys.len());
    for (id, authority_id, person_id, number) in keys {
        let newest: Option<VersionRow> = version::table
            .left_join(upload::table)
            .filter(version::child_id.eq(id))
            .filter(version::upload_id.is_null().or(upload::state.eq(APPLIED)))
            .order(version::version.desc())
            .select((
                version::version,
                version::family,
                version::given,
                version::birth_date,
                version::local_id,
                version::recorded_ms,
            ))
            .first(conn)
            .optional()?;
        // Rows of an upload that does not count yet are as if not there.
        let Some((version, family, given, birth_date, local_id, recorded_ms)) = newest else { continue };
        let given = given.split('\n').filter(|g| !g.is_empty()).map(str::to_owned).collect();
        let child = AuthorityChild {
            id,
            person_id,
            nhs_number: NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("person.nhs_number"))?,
            demographics: Demographics { family, given, birth_date },
            local_id,
            version,
            recorded: from_millis(recorded_ms),
        };
        owned.push(OwnedChild { authority_id, child });
    }
    Ok(owned)
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
    upload_id: i64,
    demographics: &Demographics,
    local_id: Option<&str>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let last: Option<i64> =
        version::table.filter(version::child_id.eq(child_id)).select(diesel::dsl::max(version::version)).first(conn)?;
    let next = last.unwrap_or(0) + 1;
    diesel::insert_into(version::table)
        .values((
            version::child_id.eq(child_id),
            version::version.eq(next),
            version::upload_id.eq(upload_id),
            version::family.eq(&demographics.family),
            version::given.eq(demographics.given.join("\n")),
            version::birth_date.eq(demographics.birth_date),
            version::local_id.eq(local_id),
            version::recorded_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(next)
}
