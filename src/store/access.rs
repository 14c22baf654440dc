//! The access history: who looked at which child, and for which authority that was listed (design 5). Insert only.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{access, access_listing as listing, succession},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        NhsNumber,
        access::{Access, AccessAuthor, SequenceRange},
    },
};

/// A new row of the history.
pub struct NewAccess<'a> {
    pub id: Uuid,
    pub person_id: i64,
    pub nhs_number: NhsNumber,
    pub author_key: &'a str,
    pub author: &'a AccessAuthor,
    pub at: DateTime<Utc>,
    pub request_id: &'a str,
}

/// Adds a row to the history and lists it for `authorities`; returns its place in the order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn insert(conn: &mut Conn, new: &NewAccess<'_>, authorities: &[i64]) -> Result<i64, StoreError> {
    let author =
        serde_json::to_string(new.author).map_err(|_| StoreError::Database("an author could not be encoded"))?;
    let id: i64 = diesel::insert_into(access::table)
        .values((
            access::uuid.eq(new.id.to_string()),
            access::person_id.eq(new.person_id),
            access::nhs_number.eq(new.nhs_number.as_str()),
            access::author_key.eq(new.author_key),
            access::author.eq(author),
            access::at_ms.eq(new.at.timestamp_millis()),
            access::request_id.eq(new.request_id),
        ))
        .returning(access::id)
        .get_result(conn)?;
    for authority in authorities {
        diesel::insert_into(listing::table)
            .values((
                listing::access_id.eq(id),
                listing::authority_id.eq(*authority),
                listing::person_id.eq(new.person_id),
                listing::author_key.eq(new.author_key),
                listing::at_ms.eq(new.at.timestamp_millis()),
            ))
            .execute(conn)?;
    }
    Ok(id)
}

/// Listed for this authority, or for one whose records it has taken over.
macro_rules! listed_for_its {
    ($authority:expr) => {
        listing::authority_id.eq($authority).or(listing::authority_id.eq_any(
            succession::table.filter(succession::authority_id.eq($authority)).select(succession::predecessor_id),
        ))
    };
}

/// When an author was listed for these persons and this authority, after `after` (excluded) up to `until` (included).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn listed_between(
    conn: &mut Conn,
    persons: &[i64],
    authority: i64,
    author_key: &str,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, StoreError> {
    let times: Vec<i64> = listing::table
        .filter(listing::person_id.eq_any(persons.to_vec()))
        .filter(listed_for_its!(authority))
        .filter(listing::author_key.eq(author_key))
        .filter(listing::at_ms.gt(after.timestamp_millis()).and(listing::at_ms.le(until.timestamp_millis())))
        .select(listing::at_ms)
        .load(conn)?;
    Ok(times.into_iter().map(from_millis).collect())
}

type Row = (i64, String, String, String, i64, String);
type Columns = (access::id, access::uuid, access::nhs_number, access::author, access::at_ms, access::request_id);

const COLUMNS: Columns =
    (access::id, access::uuid, access::nhs_number, access::author, access::at_ms, access::request_id);

fn access_of((sequence, id, number, author, at_ms, request_id): Row) -> Result<Access, StoreError> {
    Ok(Access {
        sequence,
        id: Uuid::parse_str(&id).map_err(|_| StoreError::Corrupt("access.uuid"))?,
        at: from_millis(at_ms),
        nhs_number: NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("access.nhs_number"))?,
        author: serde_json::from_str(&author).map_err(|_| StoreError::Corrupt("access.author"))?,
        request_id,
    })
}

/// The newest rows of these persons' history, newest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn newest(conn: &mut Conn, persons: &[i64], limit: usize) -> Result<Vec<Access>, StoreError> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows: Vec<Row> = Vec::new();
    // A query a person keeps to the index however long the history is.
    for person in persons {
        let part: Vec<Row> = access::table
            .filter(access::person_id.eq(*person))
            .order(access::id.desc())
            .limit(most)
            .select(COLUMNS)
            .load(conn)?;
        rows.extend(part);
    }
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.0));
    rows.truncate(limit);
    rows.into_iter().map(access_of).collect()
}

/// The newest row of one author in these persons' history.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn newest_of_author(conn: &mut Conn, persons: &[i64], author_key: &str) -> Result<Option<Access>, StoreError> {
    let row: Option<Row> = access::table
        .filter(access::person_id.eq_any(persons.to_vec()).and(access::author_key.eq(author_key)))
        .order(access::id.desc())
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    row.map(access_of).transpose()
}

/// The row with this FHIR id.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, id: Uuid) -> Result<Option<Access>, StoreError> {
    let row: Option<Row> =
        access::table.filter(access::uuid.eq(id.to_string())).select(COLUMNS).first(conn).optional()?;
    row.map(access_of).transpose()
}

/// The row with this place in the order.
///
/// # Errors
/// [`StoreError::Corrupt`] when there is none.
pub fn get(conn: &mut Conn, sequence: i64) -> Result<Access, StoreError> {
    access_of(access::table.find(sequence).select(COLUMNS).first(conn)?)
}

/// True if the access is listed for the authority.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_listed_for(conn: &mut Conn, sequence: i64, authority: i64) -> Result<bool, StoreError> {
    let its = listing::table.filter(listing::access_id.eq(sequence)).filter(listed_for_its!(authority));
    Ok(diesel::select(diesel::dsl::exists(its)).get_result(conn)?)
}

/// That an access is listed for one authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    pub authority: i64,
    pub at: DateTime<Utc>,
}

/// For whom an access is listed, by ascending key of the authority; for verification.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn listings_of(conn: &mut Conn, sequence: i64) -> Result<Vec<Listing>, StoreError> {
    let rows: Vec<(i64, i64)> = listing::table
        .filter(listing::access_id.eq(sequence))
        .order(listing::authority_id)
        .select((listing::authority_id, listing::at_ms))
        .load(conn)?;
    Ok(rows.into_iter().map(|(authority, at_ms)| Listing { authority, at: from_millis(at_ms) }).collect())
}

/// How far the history reaches.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub rows: i64,
    /// The highest sequence among them.
    pub newest: i64,
}

/// Counts the whole history; for verification.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn extent(conn: &mut Conn) -> Result<Extent, StoreError> {
    use diesel::dsl::{count_star, max};
    let (rows, newest): (i64, Option<i64>) = access::table.select((count_star(), max(access::id))).first(conn)?;
    Ok(Extent { rows, newest: newest.unwrap_or(0) })
}

/// Accesses listed for an authority about these persons, newest first, before `below`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn listed_for(
    conn: &mut Conn,
    authority: i64,
    persons: &[i64],
    within: SequenceRange,
    limit: i64,
) -> Result<Vec<Access>, StoreError> {
    let mut query = listing::table
        .inner_join(access::table)
        .filter(listed_for_its!(authority))
        .filter(listing::person_id.eq_any(persons.to_vec()))
        .filter(listing::access_id.lt(within.below).and(listing::access_id.gt(within.above)))
        .select(COLUMNS)
        // Once, if it was listed for a predecessor too.
        .distinct()
        .limit(limit)
        .into_boxed();
    query = match within.oldest_first {
        true => query.order(access::id.asc()),
        false => query.order(access::id.desc()),
    };
    let rows: Vec<Row> = query.load(conn)?;
    rows.into_iter().map(access_of).collect()
}

/// How many accesses are listed for an authority about these persons.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count_listed_for(conn: &mut Conn, authority: i64, persons: &[i64]) -> Result<i64, StoreError> {
    Ok(listing::table
        .filter(listed_for_its!(authority))
        .filter(listing::person_id.eq_any(persons.to_vec()))
        .select(diesel::dsl::count(listing::access_id).aggregate_distinct())
        .first(conn)?)
}
