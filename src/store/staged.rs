//! Discards what an upload has staged and will not apply, in parts: versions, the plans and children that they made, and
//! the persons whom nobody else knows (design 6, staging).

use std::collections::HashSet;

use diesel::prelude::*;

use super::{
    Conn, StoreError,
    schema::{
        access, alias, authority_child as child, authority_child_version as child_version, person, plan, plan_version,
    },
    upload,
};

/// Discards at most about `limit` of the versions that a staged upload wrote; true when there are none left, and what it
/// resolved is open again. Its records stay.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn discard_versions(conn: &mut Conn, key: i64, limit: i64) -> Result<bool, StoreError> {
    if discard_plans(conn, key, limit)? > 0 || discard_children(conn, key, limit)? > 0 {
        return Ok(false);
    }
    upload::unresolve(conn, key)?;
    Ok(true)
}

/// Deletes at most `limit` records of an upload that is discarded; true when there are none left.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn discard_records(conn: &mut Conn, key: i64, limit: i64) -> Result<bool, StoreError> {
    Ok(upload::delete_records(conn, key, limit)? == 0)
}

fn discard_plans(conn: &mut Conn, key: i64, limit: i64) -> Result<usize, StoreError> {
    let staged: Vec<(i64, i64)> = plan_version::table
        .filter(plan_version::upload_id.eq(key))
        .order(plan_version::id)
        .limit(limit)
        .select((plan_version::id, plan_version::plan_id))
        .load(conn)?;
    let (versions, plans): (Vec<i64>, Vec<i64>) = staged.into_iter().unzip();
    let count = versions.len();
    diesel::delete(plan_version::table.filter(plan_version::id.eq_any(versions))).execute(conn)?;
    let kept: Vec<i64> = plan_version::table
        .filter(plan_version::plan_id.eq_any(plans.clone()))
        .select(plan_version::plan_id)
        .load(conn)?;
    diesel::delete(plan::table.filter(plan::id.eq_any(without(plans, kept)))).execute(conn)?;
    Ok(count)
}

fn discard_children(conn: &mut Conn, key: i64, limit: i64) -> Result<usize, StoreError> {
    let staged: Vec<(i64, i64)> = child_version::table
        .filter(child_version::upload_id.eq(key))
        .order(child_version::id)
        .limit(limit)
        .select((child_version::id, child_version::child_id))
        .load(conn)?;
    let (versions, children): (Vec<i64>, Vec<i64>) = staged.into_iter().unzip();
    let count = versions.len();
    diesel::delete(child_version::table.filter(child_version::id.eq_any(versions))).execute(conn)?;
    let kept: Vec<i64> = child_version::table
        .filter(child_version::child_id.eq_any(children.clone()))
        .select(child_version::child_id)
        .load(conn)?;
    // A child's first version comes with its row, and no plan is staged for a child without one.
    let children = without(children, kept);
    let persons: Vec<i64> =
        child::table.filter(child::id.eq_any(children.clone())).select(child::person_id).load(conn)?;
    diesel::delete(child::table.filter(child::id.eq_any(children))).execute(conn)?;
    discard_persons(conn, persons)?;
    Ok(count)
}

/// Deletes the persons whom no other row is about.
fn discard_persons(conn: &mut Conn, persons: Vec<i64>) -> Result<(), StoreError> {
    if let Conn::Postgres(c) = conn {
        // Whoever is about to refer to one of them comes before this or finds it gone.
        let rows = person::table.filter(person::id.eq_any(persons.clone())).order(person::id).select(person::id);
        let _locked: Vec<i64> = rows.for_update().load(c)?;
    }
    let mut known: Vec<i64> =
        child::table.filter(child::person_id.eq_any(persons.clone())).select(child::person_id).load(conn)?;
    let of_alias: Vec<(i64, i64)> = alias::table
        .filter(alias::old_person_id.eq_any(persons.clone()).or(alias::replacing_person_id.eq_any(persons.clone())))
        .select((alias::old_person_id, alias::replacing_person_id))
        .load(conn)?;
    known.extend(of_alias.into_iter().flat_map(|(old, replacing)| [old, replacing]));
    let accessed: Vec<i64> =
        access::table.filter(access::person_id.eq_any(persons.clone())).select(access::person_id).load(conn)?;
    known.extend(accessed);
    let unknown = person::id.eq_any(without(persons, known)).and(person::status.eq("current"));
    diesel::delete(person::table.filter(unknown)).execute(conn)?;
    Ok(())
}

fn without(ids: Vec<i64>, kept: Vec<i64>) -> Vec<i64> {
    let kept: HashSet<i64> = kept.into_iter().collect();
    let mut left: Vec<i64> = ids.into_iter().filter(|id| !kept.contains(id)).collect();
    left.sort_unstable();
    left.dedup();
    left
}
