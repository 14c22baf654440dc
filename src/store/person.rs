//! Persons by NHS number, and the aliases between superseded numbers (design 2 and 9).

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{
    Conn, StoreError,
    connection::on,
    schema::{alias, person},
};
use crate::cpis::types::{NhsNumber, child::NumberStatus};

/// A known number.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: i64,
    pub nhs_number: NhsNumber,
    pub status: NumberStatus,
    pub traced_birth_date: Option<NaiveDate>,
}

/// "The child" of a look-up: the person at the end of the alias chain and all that lead to it.
#[derive(Clone, Debug)]
pub struct Child {
    /// The person of the number asked for.
    pub asked: Person,
    /// The person at the end of the chain; its row is the child's lock.
    pub end: Person,
    /// Every person of the child, the end included, by ascending id.
    pub persons: Vec<i64>,
}

type Row = (i64, String, String, Option<NaiveDate>);

const COLUMNS: (person::id, person::nhs_number, person::status, person::traced_birth_date) =
    (person::id, person::nhs_number, person::status, person::traced_birth_date);

fn person_of((id, number, status, traced_birth_date): Row) -> Result<Person, StoreError> {
    Ok(Person {
        id,
        nhs_number: NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("person.nhs_number"))?,
        status: NumberStatus::from_code(&status).ok_or(StoreError::Corrupt("person.status"))?,
        traced_birth_date,
    })
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, number: &NhsNumber) -> Result<Option<Person>, StoreError> {
    let row: Option<Row> =
        person::table.filter(person::nhs_number.eq(number.as_str())).select(COLUMNS).first(conn).optional()?;
    row.map(person_of).transpose()
}

/// The person of a surrogate key.
///
/// # Errors
/// [`StoreError::Corrupt`] when there is none.
pub fn get(conn: &mut Conn, id: i64) -> Result<Person, StoreError> {
    person_of(person::table.find(id).select(COLUMNS).first(conn)?)
}

/// The child that a number belongs to; `None` for a number that was never sent.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn child(conn: &mut Conn, number: &NhsNumber) -> Result<Option<Child>, StoreError> {
    let Some(asked) = find(conn, number)? else { return Ok(None) };
    let mut end = asked.id;
    while let Some(next) = replacing(conn, end)? {
        end = next;
    }
    let mut persons = vec![end];
    let mut reached = vec![end];
    while !reached.is_empty() {
        reached =
            alias::table.filter(alias::replacing_person_id.eq_any(reached)).select(alias::old_person_id).load(conn)?;
        persons.extend(&reached);
    }
    persons.sort_unstable();
    let end = if end == asked.id { asked.clone() } else { get(conn, end)? };
    Ok(Some(Child { asked, end, persons }))
}

fn replacing(conn: &mut Conn, id: i64) -> Result<Option<i64>, StoreError> {
    Ok(alias::table.find(id).select(alias::replacing_person_id).first(conn).optional()?)
}

/// The person of a number, made if the number is new.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find_or_create(conn: &mut Conn, number: &NhsNumber) -> Result<Person, StoreError> {
    let values = (person::nhs_number.eq(number.as_str()), person::status.eq(NumberStatus::Current.code()));
    on!(conn, c => diesel::insert_into(person::table).values(values).on_conflict_do_nothing().execute(c))?;
    find(conn, number)?.ok_or(StoreError::Race)
}

/// Keeps what tracing said of the birth date.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_traced_birth_date(conn: &mut Conn, id: i64, birth_date: NaiveDate) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::traced_birth_date.eq(birth_date)).execute(conn)?;
    Ok(())
}

/// Changes a number's state.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_status(conn: &mut Conn, id: i64, status: NumberStatus) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::status.eq(status.code())).execute(conn)?;
    Ok(())
}

/// Stores that `old` was superseded by `replacing`; a loop is refused.
///
/// # Errors
/// [`StoreError::Database`] for a loop.
pub fn supersede(conn: &mut Conn, old: i64, replacing_id: i64, since_ms: i64) -> Result<(), StoreError> {
    let mut at = Some(replacing_id);
    while let Some(id) = at {
        if id == old {
            return Err(StoreError::Database("an alias must not close a loop"));
        }
        at = replacing(conn, id)?;
    }
    diesel::insert_into(alias::table)
        .values((
            alias::old_person_id.eq(old),
            alias::replacing_person_id.eq(replacing_id),
            alias::since_ms.eq(since_ms),
        ))
        .execute(conn)?;
    set_status(conn, old, NumberStatus::Superseded)
}

/// Locks the end persons of these numbers in ascending id until the transaction ends (PostgreSQL; on SQLite the one
/// writer is the lock). A number without a person locks nothing.
///
/// # Errors
/// [`StoreError::Race`] on a deadlock.
pub(super) fn lock_ends(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<(), StoreError> {
    let mut ends = Vec::new();
    for number in numbers {
        if let Some(child) = child(conn, number)? {
            ends.push(child.end.id);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    if let Conn::Postgres(c) = conn {
        let _locked: Vec<i64> =
            person::table.filter(person::id.eq_any(ends)).order(person::id).select(person::id).for_update().load(c)?;
    }
    Ok(())
}
