//! Persons by NHS number, and the aliases between superseded numbers (design 2 and 9).

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{
    Conn, StoreError,
    connection::on,
    schema::{alias, person},
};
use crate::cpis::types::{
    NhsNumber,
    child::{NumberStatus, Statement},
};

/// A known number.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: i64,
    pub nhs_number: NhsNumber,
    pub status: NumberStatus,
    pub traced_birth_date: Option<NaiveDate>,
    /// What the number is under a restriction, where that is not current or superseded.
    pub beneath: Option<NumberStatus>,
    pub deceased: bool,
    /// What demographics, the register or the PDS, last said of it; that there is nothing to say before they were asked.
    pub said: Statement,
    /// When demographics were asked for the newest answer, in milliseconds since 1970; 0 when they never were.
    pub traced_ms: i64,
    /// Demographics don't know it.
    pub unknown: bool,
}

/// "The child" of a look-up: the person at the end of the alias chain and all that lead to it. A retired number is
/// joined to no other, whatever alias was stored before (design 9).
#[derive(Clone, Debug)]
pub struct Child {
    /// The person of the number asked for.
    pub asked: Person,
    /// The person at the end of the chain; its row is the child's lock.
    pub end: Person,
    /// Every person of the child, the end included, by ascending id.
    pub persons: Vec<i64>,
    /// One of them is restricted: nothing of the child may be shown to clinicians.
    pub restricted: bool,
}

type Row = (i64, String, String, Option<NaiveDate>, Option<String>, bool, Option<String>, i64, Option<i64>);
type Columns = (
    person::id,
    person::nhs_number,
    person::status,
    person::traced_birth_date,
    person::beneath,
    person::deceased,
    person::register_seen,
    person::traced_ms,
    person::unknown_ms,
);

const COLUMNS: Columns = (
    person::id,
    person::nhs_number,
    person::status,
    person::traced_birth_date,
    person::beneath,
    person::deceased,
    person::register_seen,
    person::traced_ms,
    person::unknown_ms,
);

fn person_of(row: Row) -> Result<Person, StoreError> {
    let (id, number, status, traced_birth_date, beneath, deceased, said, traced_ms, unknown_ms) = row;
    let status_of = |code: &str| NumberStatus::from_code(code).ok_or(StoreError::Corrupt("person.status"));
    Ok(Person {
        id,
        nhs_number: NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("person.nhs_number"))?,
        status: status_of(&status)?,
        traced_birth_date,
        beneath: beneath.as_deref().map(status_of).transpose()?,
        deceased,
        said: match said {
            Some(said) => Statement::parse(&said).ok_or(StoreError::Corrupt("person.register_seen"))?,
            None => Statement::NOTHING_TO_SAY,
        },
        traced_ms,
        unknown: unknown_ms.is_some(),
    })
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, number: &NhsNumber) -> Result<Option<Person>, StoreError> {
    let row: Option<Row> =
        person::table.filter(person::nhs_number.eq(number.as_str())).select(COLUMNS).first(conn).optional()?;
    row.map(person_of).transpose()
}

/// Those of these numbers that are known, at most some hundreds at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find_all(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<Vec<Person>, StoreError> {
    let mut found = Vec::new();
    for some in numbers.chunks(500) {
        let some: Vec<&str> = some.iter().map(NhsNumber::as_str).collect();
        let rows: Vec<Row> = person::table.filter(person::nhs_number.eq_any(some)).select(COLUMNS).load(conn)?;
        for row in rows {
            found.push(person_of(row)?);
        }
    }
    Ok(found)
}

/// The person of a surrogate key.
///
/// # Errors
/// [`StoreError::Corrupt`] when there is none.
pub fn get(conn: &mut Conn, id: i64) -> Result<Person, StoreError> {
    person_of(person::table.find(id).select(COLUMNS).first(conn)?)
}

/// The persons of surrogate keys, by ascending key, at most some hundreds at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn get_all(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Person>, StoreError> {
    let rows: Vec<Row> =
        person::table.filter(person::id.eq_any(ids.to_vec())).order(person::id).select(COLUMNS).load(conn)?;
    rows.into_iter().map(person_of).collect()
}

/// The child that a number belongs to; `None` for a number that was never sent.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn child(conn: &mut Conn, number: &NhsNumber) -> Result<Option<Child>, StoreError> {
    let Some(asked) = find(conn, number)? else { return Ok(None) };
    let mut end = asked.clone();
    while let Some(next) = replacing(conn, end.id)? {
        let next = get(conn, next)?;
        if end.status == NumberStatus::Retired || next.status == NumberStatus::Retired {
            break;
        }
        end = next;
    }
    let mut members = vec![end.clone()];
    let mut reached = if end.status == NumberStatus::Retired { Vec::new() } else { vec![end.id] };
    while !reached.is_empty() {
        let older: Vec<Row> = person::table
            .inner_join(alias::table.on(alias::old_person_id.eq(person::id)))
            .filter(alias::replacing_person_id.eq_any(reached))
            .filter(person::status.ne(NumberStatus::Retired.code()))
            .select(COLUMNS)
            .load(conn)?;
        let older = older.into_iter().map(person_of).collect::<Result<Vec<_>, _>>()?;
        reached = older.iter().map(|person| person.id).collect();
        members.extend(older);
    }
    let mut persons: Vec<i64> = members.iter().map(|person| person.id).collect();
    persons.sort_unstable();
    let restricted = members.iter().any(|person| person.status == NumberStatus::Restricted);
    Ok(Some(Child { asked, end, persons, restricted }))
}

/// The person that superseded this one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn replacing(conn: &mut Conn, id: i64) -> Result<Option<i64>, StoreError> {
    Ok(alias::table.find(id).select(alias::replacing_person_id).first(conn).optional()?)
}

/// The persons that this one superseded, not those further back.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn superseded_by(conn: &mut Conn, id: i64) -> Result<Vec<Person>, StoreError> {
    let rows: Vec<Row> = person::table
        .inner_join(alias::table.on(alias::old_person_id.eq(person::id)))
        .filter(alias::replacing_person_id.eq(id))
        .order(person::id)
        .select(COLUMNS)
        .load(conn)?;
    rows.into_iter().map(person_of).collect()
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
    // The day on which the child comes of age is another one, and what is shown of it may be too.
    super::trace::again(conn, id)?;
    super::child::all_due(conn, id)
}

/// Changes a number's state.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_status(conn: &mut Conn, id: i64, status: NumberStatus) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::status.eq(status.code())).execute(conn)?;
    super::trace::again(conn, id)
}

/// Keeps what a number is under a restriction.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_beneath(conn: &mut Conn, id: i64, beneath: Option<NumberStatus>) -> Result<(), StoreError> {
    let beneath = beneath.map(NumberStatus::code);
    diesel::update(person::table.find(id)).set(person::beneath.eq(beneath)).execute(conn)?;
    Ok(())
}

/// Keeps whether the person has died.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_deceased(conn: &mut Conn, id: i64, deceased: bool) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::deceased.eq(deceased)).execute(conn)?;
    Ok(())
}

/// Keeps what demographics said of a number, so that only what they say anew counts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_said(conn: &mut Conn, id: i64, said: &Statement) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::register_seen.eq(said.text())).execute(conn)?;
    Ok(())
}

/// At most `limit` persons with a key above `after`, by ascending key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn page(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<Person>, StoreError> {
    let rows: Vec<Row> =
        person::table.filter(person::id.gt(after)).order(person::id).limit(limit).select(COLUMNS).load(conn)?;
    rows.into_iter().map(person_of).collect()
}

/// Forgets that a number was superseded: the one row of a merge.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn remove_alias(conn: &mut Conn, old: i64) -> Result<(), StoreError> {
    diesel::delete(alias::table.find(old)).execute(conn)?;
    Ok(())
}

/// True if `old` is at the end of the chain that begins at `replacing_id`, or on it: an alias between them would be a loop.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn leads_to(conn: &mut Conn, replacing_id: i64, old: i64) -> Result<bool, StoreError> {
    let mut at = Some(replacing_id);
    while let Some(id) = at {
        if id == old {
            return Ok(true);
        }
        at = replacing(conn, id)?;
    }
    Ok(false)
}

/// Stores that `old` was superseded by `replacing`; a loop is refused, and so is any alias of a retired number. A number
/// that is restricted stays so.
///
/// # Errors
/// [`StoreError::Database`] for a loop or a retired number.
pub fn supersede(conn: &mut Conn, old: i64, replacing_id: i64, since_ms: i64) -> Result<(), StoreError> {
    let was = get(conn, old)?.status;
    if was == NumberStatus::Retired || get(conn, replacing_id)?.status == NumberStatus::Retired {
        return Err(StoreError::Database("a retired number has no alias"));
    }
    if leads_to(conn, replacing_id, old)? {
        return Err(StoreError::Database("an alias must not close a loop"));
    }
    diesel::insert_into(alias::table)
        .values((
            alias::old_person_id.eq(old),
            alias::replacing_person_id.eq(replacing_id),
            alias::since_ms.eq(since_ms),
        ))
        .execute(conn)?;
    if was == NumberStatus::Restricted { Ok(()) } else { set_status(conn, old, NumberStatus::Superseded) }
}

/// Locks the end persons of these numbers in ascending id until the transaction ends (PostgreSQL; on SQLite the one
/// writer is the lock). A number without a person locks nothing.
///
/// # Errors
/// [`StoreError::Race`] on a deadlock.
pub(super) fn lock_ends(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<(), StoreError> {
    let mut locked: Vec<i64> = Vec::new();
    loop {
        let mut ends = Vec::new();
        for number in numbers {
            if let Some(child) = child(conn, number)? {
                ends.push(child.end.id);
            }
        }
        ends.sort_unstable();
        ends.dedup();
        ends.retain(|end| !locked.contains(end));
        let Conn::Postgres(c) = conn else { return Ok(()) };
        if ends.is_empty() {
            return Ok(());
        }
        let now_locked: Vec<i64> =
            person::table.filter(person::id.eq_any(ends)).order(person::id).select(person::id).for_update().load(c)?;
        locked.extend(now_locked);
        // Whoever held a lock that this waited for may have given the child another end: that one is the lock then.
    }
}
