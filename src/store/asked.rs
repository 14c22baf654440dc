//! Which children an author asked for within an hour, for the cap on distinct children (design 10). Rows of an hour that is
//! over are of no use, and are removed in rounds.

use diesel::prelude::*;

use super::{
    Conn, StoreError,
    connection::on,
    schema::{asked_alert, asked_child},
};

/// Keeps that an author asked for a child in an hour (hours since 1970); false if that is kept already.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add(conn: &mut Conn, hour: i64, author_key: &str, child: &str) -> Result<bool, StoreError> {
    let values = (asked_child::hour.eq(hour), asked_child::author_key.eq(author_key), asked_child::child.eq(child));
    let added =
        on!(conn, c => diesel::insert_into(asked_child::table).values(values).on_conflict_do_nothing().execute(c))?;
    Ok(added == 1)
}

/// Takes [`add`] back.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn remove(conn: &mut Conn, hour: i64, author_key: &str, child: &str) -> Result<(), StoreError> {
    diesel::delete(asked_child::table.find((hour, author_key, child))).execute(conn)?;
    Ok(())
}

/// Whether an author asked for a child in an hour.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_kept(conn: &mut Conn, hour: i64, author_key: &str, child: &str) -> Result<bool, StoreError> {
    let kept = asked_child::table.find((hour, author_key, child));
    Ok(diesel::select(diesel::dsl::exists(kept)).get_result(conn)?)
}

/// Whether an author asked for more than `cap` children in an hour: reads at most `cap` + 1 places of the key's index,
/// however many there are.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_over(conn: &mut Conn, hour: i64, author_key: &str, cap: i64) -> Result<bool, StoreError> {
    let beyond: Option<i64> = asked_child::table
        .filter(asked_child::hour.eq(hour).and(asked_child::author_key.eq(author_key)))
        .order(asked_child::child)
        .select(asked_child::hour)
        .offset(cap)
        .limit(1)
        .first(conn)
        .optional()?;
    Ok(beyond.is_some())
}

/// Keeps that the alert of an author and hour is raised; false if it was.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn is_first_alert(conn: &mut Conn, hour: i64, author_key: &str) -> Result<bool, StoreError> {
    let values = (asked_alert::hour.eq(hour), asked_alert::author_key.eq(author_key));
    let added =
        on!(conn, c => diesel::insert_into(asked_alert::table).values(values).on_conflict_do_nothing().execute(c))?;
    Ok(added == 1)
}

/// Whether there is anything of hours before this one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_before(conn: &mut Conn, hour: i64) -> Result<bool, StoreError> {
    let children = diesel::dsl::exists(asked_child::table.filter(asked_child::hour.lt(hour)));
    let alerts = diesel::dsl::exists(asked_alert::table.filter(asked_alert::hour.lt(hour)));
    Ok(diesel::select(children.or(alerts)).get_result(conn)?)
}

/// Removes what at most `authors` authors asked for in hours before this one; returns how many they were.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn remove_before(conn: &mut Conn, hour: i64, authors: i64) -> Result<usize, StoreError> {
    let over: Vec<(i64, String)> = asked_child::table
        .filter(asked_child::hour.lt(hour))
        .select((asked_child::hour, asked_child::author_key))
        .distinct()
        .limit(authors)
        .load(conn)?;
    for (hour, author_key) in &over {
        let theirs = asked_child::hour.eq(hour).and(asked_child::author_key.eq(author_key));
        diesel::delete(asked_child::table.filter(theirs)).execute(conn)?;
    }
    // One row an author and hour, of the few that were over the cap.
    diesel::delete(asked_alert::table.filter(asked_alert::hour.lt(hour))).execute(conn)?;
    Ok(over.len())
}
