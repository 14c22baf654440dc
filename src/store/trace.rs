//! When numbers were last traced, which are traced again and who does it; and what tracing the numbers of a staged upload
//! found, kept for a day (design 6 and 9).

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{
    Conn, StoreError,
    connection::on,
    person::{self as persons, Person},
    schema::{person, retrace_pace as pace, trace_result as result},
};
use crate::cpis::types::{
    NhsNumber,
    child::{Trace, Traced},
};

/// The one row of the pace.
const PACE: i64 = 1;

/// Keeps that demographics were asked about these persons at an instant, in milliseconds since 1970; not of those that
/// were asked for later already.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn asked(conn: &mut Conn, ids: &[i64], asked_ms: i64) -> Result<(), StoreError> {
    for ids in ids.chunks(500) {
        let earlier = || person::table.filter(person::id.eq_any(ids.to_vec())).filter(person::traced_ms.le(asked_ms));
        diesel::update(earlier().filter(person::retrace_ms.is_not_null()))
            .set(person::retrace_ms.eq(asked_ms))
            .execute(conn)?;
        diesel::update(earlier()).set(person::traced_ms.eq(asked_ms)).execute(conn)?;
    }
    Ok(())
}

/// Keeps since when demographics don't know a stored number; `None` when they do.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_unknown(conn: &mut Conn, id: i64, since_ms: Option<i64>) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::unknown_ms.eq(since_ms)).execute(conn)?;
    Ok(())
}

/// A person is traced again from now on, as soon as its turn comes: what is stored of it has changed.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn again(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    diesel::update(person::table.find(id).filter(person::retrace_ms.is_null()))
        .set(person::retrace_ms.eq(person::traced_ms.nullable()))
        .execute(conn)?;
    Ok(())
}

/// A person is traced again before all others.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn ask_at_once(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    diesel::update(person::table.find(id)).set(person::retrace_ms.eq(0)).execute(conn)?;
    Ok(())
}

/// These persons are not traced again until something of them changes. To be decided under their children's locks.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn leave(conn: &mut Conn, ids: &[i64]) -> Result<(), StoreError> {
    let none: Option<i64> = None;
    diesel::update(person::table.filter(person::id.eq_any(ids.to_vec())))
        .set((person::retrace_ms.eq(none), person::claimed_ms.eq(none)))
        .execute(conn)?;
    Ok(())
}

/// How numbers that are to be traced again are chosen and claimed.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// Those that are traced again, the longest untraced first, at a pace.
    Oldest {
        /// Traced at this instant or before.
        traced_by_ms: i64,
        /// Time in which each number is to be traced once.
        period_ms: i64,
        /// Numbers that are traced again.
        numbers: i64,
        /// What the pace granted longer ago than this, and than one number takes, is lost.
        most_ms: i64,
    },
    /// Every stored number, by key: those after `after` that were traced before `since_ms`.
    Next { after: i64, since_ms: i64 },
}

/// Claims at most `limit` numbers until `until_ms`, and keeps the pace at which they may be; none that another process has
/// claimed. By key for [`Choice::Next`].
///
/// The pace is twice the even one: so many numbers as are traced again, twice in a period. Who claims holds the pace's row, so
/// that no two processes claim at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn claim(
    conn: &mut Conn,
    choice: Choice,
    limit: i64,
    now_ms: i64,
    until_ms: i64,
) -> Result<Vec<Person>, StoreError> {
    let granted_ms = lock_pace(conn, now_ms)?;
    let free = || person::table.filter(person::claimed_ms.is_null().or(person::claimed_ms.lt(now_ms)));
    let ids: Vec<i64> = match choice {
        Choice::Oldest { traced_by_ms, period_ms, numbers, most_ms } => {
            let rate = numbers.max(1).saturating_mul(2);
            // And what one number takes: else few numbers would never be granted one.
            let most_ms = most_ms.saturating_add(period_ms / rate + 1);
            let from_ms = granted_ms.clamp(now_ms - most_ms, now_ms);
            let granted = (now_ms - from_ms).saturating_mul(rate) / period_ms.max(1);
            let ids: Vec<i64> = free()
                .filter(person::retrace_ms.le(traced_by_ms))
                .order((person::retrace_ms, person::id))
                .limit(granted.min(limit))
                .select(person::id)
                .load(conn)?;
            let taken = i64::try_from(ids.len()).unwrap_or(i64::MAX);
            // Rounded up, so that no fraction is granted twice.
            let used_ms = taken.saturating_mul(period_ms).saturating_add(rate - 1) / rate;
            diesel::update(pace::table.find(PACE)).set(pace::granted_ms.eq(from_ms + used_ms)).execute(conn)?;
            ids
        }
        Choice::Next { after, since_ms } => free()
            .filter(person::id.gt(after).and(person::traced_ms.lt(since_ms)))
            .order(person::id)
            .limit(limit)
            .select(person::id)
            .load(conn)?,
    };
    diesel::update(person::table.filter(person::id.eq_any(ids.clone())))
        .set(person::claimed_ms.eq(until_ms))
        .execute(conn)?;
    persons::get_all(conn, &ids)
}

/// The pace's row, made if it is new, and locked until the transaction ends; up to which instant it was granted.
fn lock_pace(conn: &mut Conn, now_ms: i64) -> Result<i64, StoreError> {
    let touched = diesel::update(pace::table.find(PACE)).set(pace::granted_ms.eq(pace::granted_ms)).execute(conn)?;
    if touched == 0 {
        let values = (pace::id.eq(PACE), pace::began_ms.eq(now_ms), pace::granted_ms.eq(now_ms));
        on!(conn, c => diesel::insert_into(pace::table).values(values).on_conflict_do_nothing().execute(c))?;
    }
    Ok(pace::table.find(PACE).select(pace::granted_ms).first(conn)?)
}

/// Gives up claims, or has nobody claim these numbers until an instant.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn release(conn: &mut Conn, ids: &[i64], until_ms: Option<i64>) -> Result<(), StoreError> {
    diesel::update(person::table.filter(person::id.eq_any(ids.to_vec())))
        .set(person::claimed_ms.eq(until_ms))
        .execute(conn)?;
    Ok(())
}

/// Whether a number waits to be traced again that was last traced at this instant or before.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_before(conn: &mut Conn, traced_by_ms: i64) -> Result<bool, StoreError> {
    let due = person::table.filter(person::retrace_ms.le(traced_by_ms));
    Ok(diesel::select(diesel::dsl::exists(due)).get_result(conn)?)
}

/// Numbers that are traced again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count(conn: &mut Conn) -> Result<i64, StoreError> {
    Ok(person::table.filter(person::retrace_ms.is_not_null()).count().get_result(conn)?)
}

/// Stored numbers that were last traced before an instant: all of them, and those that are traced again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count_before(conn: &mut Conn, since_ms: i64) -> Result<(i64, i64), StoreError> {
    let before = || person::table.filter(person::traced_ms.lt(since_ms));
    let again = before().filter(person::retrace_ms.is_not_null());
    Ok((before().count().get_result(conn)?, again.count().get_result(conn)?))
}

/// How far tracing again has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Numbers that are traced again.
    pub numbers: i64,
    /// Those of them that were traced since the instant asked for.
    pub since: i64,
    /// Those of them that never were.
    pub never: i64,
    /// When the longest untraced of the others was, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// When numbers were first traced again here, in milliseconds since 1970.
    pub began_ms: Option<i64>,
    /// Stored numbers that demographics don't know.
    pub unknown: i64,
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn progress(conn: &mut Conn, since_ms: i64) -> Result<Progress, StoreError> {
    let traced = person::table.filter(person::retrace_ms.gt(0));
    Ok(Progress {
        numbers: count(conn)?,
        since: person::table.filter(person::retrace_ms.ge(since_ms.max(1))).count().get_result(conn)?,
        never: person::table.filter(person::retrace_ms.le(0)).count().get_result(conn)?,
        oldest_ms: traced.select(diesel::dsl::min(person::retrace_ms)).first(conn)?,
        began_ms: pace::table.find(PACE).select(pace::began_ms).first(conn).optional()?,
        unknown: person::table.filter(person::unknown_ms.is_not_null()).count().get_result(conn)?,
    })
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = result)]
struct ResultRow {
    nhs_number: String,
    asked_ms: i64,
    result: String,
    family: Option<String>,
    given: Option<String>,
    birth_date: Option<NaiveDate>,
    deceased: bool,
}

const FOUND: &str = "found";
const INVALID: &str = "invalid";
const UNKNOWN: &str = "unknown";

/// Keeps what tracing found at an instant for an authority's staged upload, over what is kept of the same number. Nothing is
/// kept of a restricted number, nor of one that was replaced: the replacement may be a secret tomorrow.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn keep(
    conn: &mut Conn,
    authority: i64,
    number: &NhsNumber,
    trace: &Trace,
    asked_ms: i64,
) -> Result<(), StoreError> {
    let (code, found) = match trace {
        Trace::Found(traced) => (FOUND, Some(traced)),
        Trace::Invalid => (INVALID, None),
        Trace::Unknown => (UNKNOWN, None),
        Trace::Superseded(_) | Trace::Restricted | Trace::NotTraced => return Ok(()),
    };
    let values = (
        result::asked_ms.eq(asked_ms),
        result::result.eq(code),
        result::family.eq(found.and_then(|traced| traced.family.as_deref())),
        result::given.eq(found.map(|traced| traced.given.join("\n"))),
        result::birth_date.eq(found.and_then(|traced| traced.birth_date)),
        result::deceased.eq(found.is_some_and(|traced| traced.deceased)),
    );
    let key = (result::authority_id.eq(authority), result::nhs_number.eq(number.as_str()));
    on!(conn, c => diesel::insert_into(result::table)
        .values((key, values.clone()))
        .on_conflict((result::authority_id, result::nhs_number))
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

/// What is kept for an authority of these numbers that was asked after an instant, each with its own.
///
/// # Errors
/// [`StoreError::Corrupt`] when a result is not valid.
pub fn kept(
    conn: &mut Conn,
    authority: i64,
    numbers: &[NhsNumber],
    after_ms: i64,
) -> Result<HashMap<NhsNumber, (i64, Trace)>, StoreError> {
    let numbers: Vec<&str> = numbers.iter().map(NhsNumber::as_str).collect();
    let rows: Vec<ResultRow> = result::table
        .filter(result::authority_id.eq(authority).and(result::nhs_number.eq_any(numbers)))
        .filter(result::asked_ms.gt(after_ms))
        .select(ResultRow::as_select())
        .load(conn)?;
    rows.into_iter().map(kept_of).collect()
}

fn kept_of(row: ResultRow) -> Result<(NhsNumber, (i64, Trace)), StoreError> {
    let number = NhsNumber::parse(&row.nhs_number).map_err(|_| StoreError::Corrupt("trace_result.nhs_number"))?;
    let trace = match row.result.as_str() {
        FOUND => Trace::Found(Traced {
            family: row.family,
            given: row.given.iter().flat_map(|given| given.split('\n')).map(str::to_owned).collect(),
            birth_date: row.birth_date,
            deceased: row.deceased,
        }),
        INVALID => Trace::Invalid,
        UNKNOWN => Trace::Unknown,
        _ => return Err(StoreError::Corrupt("trace_result.result")),
    };
    Ok((number, (row.asked_ms, trace)))
}

/// Whether anything is kept of one of these numbers, for whomever.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_kept(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<bool, StoreError> {
    let numbers: Vec<&str> = numbers.iter().map(NhsNumber::as_str).collect();
    let rows = result::table.filter(result::nhs_number.eq_any(numbers));
    Ok(diesel::select(diesel::dsl::exists(rows)).get_result(conn)?)
}

/// Forgets what is kept of these numbers, for whomever: something newer is known.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<(), StoreError> {
    let numbers: Vec<&str> = numbers.iter().map(NhsNumber::as_str).collect();
    diesel::delete(result::table.filter(result::nhs_number.eq_any(numbers))).execute(conn)?;
    Ok(())
}

/// Which of the kept results are to be forgotten.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    /// Those of an authority.
    Of(i64),
    /// Those that were asked for at this instant or before.
    By(i64),
}

/// Forgets at most `limit` of the results that are over; returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget_over(conn: &mut Conn, over: Over, limit: i64) -> Result<usize, StoreError> {
    let rows = result::table.select((result::authority_id, result::nhs_number)).limit(limit).into_boxed();
    let rows = match over {
        Over::Of(authority) => rows.filter(result::authority_id.eq(authority)),
        Over::By(by_ms) => rows.filter(result::asked_ms.le(by_ms)),
    };
    let keys: Vec<(i64, String)> = rows.load(conn)?;
    for (authority, number) in &keys {
        diesel::delete(result::table.find((authority, number))).execute(conn)?;
    }
    Ok(keys.len())
}

/// Whether any result is over.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_over(conn: &mut Conn, over: Over) -> Result<bool, StoreError> {
    let rows = result::table.select(result::asked_ms).limit(1).into_boxed();
    let rows = match over {
        Over::Of(authority) => rows.filter(result::authority_id.eq(authority)),
        Over::By(by_ms) => rows.filter(result::asked_ms.le(by_ms)),
    };
    Ok(rows.first::<i64>(conn).optional()?.is_some())
}
