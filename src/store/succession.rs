//! One authority takes over from another: everything that is the old one's becomes the new one's, in one transaction and
//! by whole-table statements, so that its length hardly grows with the records (design 7).
//!
//! What is append only stays as it was: what was listed for the old authority is read as the new one's (`succession`).

use std::collections::HashSet;

use diesel::{prelude::*, sql_query};

use super::{
    Conn, StoreError, organization,
    schema::{
        authority_child as child, client, mesh_mailbox as mailbox, mesh_message as message,
        organization as organizations, outbox, plan, subscription, succession,
    },
};
use crate::cpis::types::{NhsNumber, Organization, succession::Taken};

/// Rows that no channel has been given.
macro_rules! waits {
    () => {
        outbox::routed_ms.is_null().and(outbox::mesh_ms.is_null())
    };
}

/// The authorities that this one has taken over from, also through another.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn predecessors(conn: &mut Conn, authority: i64) -> Result<Vec<i64>, StoreError> {
    Ok(succession::table
        .filter(succession::authority_id.eq(authority))
        .order(succession::predecessor_id)
        .select(succession::predecessor_id)
        .load(conn)?)
}

/// The code of the authority that took over from this one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn succeeded_by(conn: &mut Conn, authority: i64) -> Result<Option<String>, StoreError> {
    Ok(organizations::table.find(authority).select(organizations::succeeded_by).first(conn)?)
}

/// Lets no look-up of a child on record, and no upload, go on until the transaction ends (PostgreSQL; on SQLite the one writer does): each
/// locks a person's row.
///
/// # Errors
/// [`StoreError::Race`] on a deadlock.
pub fn lock_all_children(conn: &mut Conn) -> Result<(), StoreError> {
    if let Conn::Postgres(c) = conn {
        diesel::RunQueryDsl::execute(sql_query("lock table person in exclusive mode"), c)?;
    }
    Ok(())
}

/// The numbers under which an authority holds children.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn numbers(conn: &mut Conn, authority: i64) -> Result<Vec<NhsNumber>, StoreError> {
    use super::schema::person;
    let rows: Vec<String> = child::table
        .inner_join(person::table)
        .filter(child::authority_id.eq(authority))
        .order(child::id)
        .select(person::nhs_number)
        .load(conn)?;
    rows.iter().map(|number| NhsNumber::parse(number).map_err(|_| StoreError::Corrupt("person.nhs_number"))).collect()
}

/// What would move from the old authority to the new one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count(conn: &mut Conn, old: &Organization, new: &Organization) -> Result<Taken, StoreError> {
    let theirs = |authority: i64| child::table.filter(child::authority_id.eq(authority));
    let of_old: HashSet<i64> = theirs(old.id).select(child::person_id).load(conn)?.into_iter().collect();
    let of_new: Vec<i64> = theirs(new.id).select(child::person_id).load(conn)?;
    let both = of_new.iter().filter(|person| of_old.contains(person)).count();
    let of_mailbox = |authority: i64| mailbox::table.find(authority).select(mailbox::mailbox);
    Ok(Taken {
        children: i64::try_from(of_old.len()).unwrap_or(i64::MAX),
        held_by_both: i64::try_from(both).unwrap_or(i64::MAX),
        plans: plan::table.inner_join(child::table).filter(child::authority_id.eq(old.id)).count().get_result(conn)?,
        subscriptions: subscription::table
            .filter(subscription::authority_id.eq(old.id).and(subscription::deleted.eq(false)))
            .count()
            .get_result(conn)?,
        waiting: outbox::table.filter(outbox::authority_id.eq(old.id)).filter(waits!()).count().get_result(conn)?,
        messages: message::table
            .filter(message::authority_id.eq(old.id).and(message::state.eq_any(["queued", "sending"])))
            .count()
            .get_result(conn)?,
        mailbox: of_mailbox(old.id).first(conn).optional()?,
        replaces_mailbox: of_mailbox(new.id).first::<String>(conn).optional()?.is_some(),
        clients: client::table
            .filter(client::organization_ods.eq(old.ods.as_str()).and(client::disabled.eq(false)))
            .count()
            .get_result(conn)?,
    })
}

/// Moves everything. `channels_from_ms`: notifications before are not for a mailbox that moves along.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn take_over(
    conn: &mut Conn,
    old: &Organization,
    new: &Organization,
    now_ms: i64,
    channels_from_ms: i64,
) -> Result<(), StoreError> {
    records(conn, old.id, new.id)?;
    notifications(conn, old.id, new.id, now_ms)?;
    diesel::update(subscription::table.filter(subscription::authority_id.eq(old.id)))
        .set(subscription::authority_id.eq(new.id))
        .execute(conn)?;
    mailboxes(conn, old.id, new.id, channels_from_ms)?;
    for predecessor in predecessors(conn, old.id)?.into_iter().chain([old.id]) {
        diesel::insert_into(succession::table)
            .values((
                succession::authority_id.eq(new.id),
                succession::predecessor_id.eq(predecessor),
                succession::since_ms.eq(now_ms),
            ))
            .execute(conn)?;
    }
    // What was confirmed last of the two is what clinicians are told.
    let confirmed =
        |conn: &mut Conn, id: i64| organizations::table.find(id).select(organizations::confirmed_ms).first(conn);
    let (of_old, of_new): (Option<i64>, Option<i64>) = (confirmed(conn, old.id)?, confirmed(conn, new.id)?);
    diesel::update(organizations::table.find(new.id))
        .set(organizations::confirmed_ms.eq(of_old.max(of_new)))
        .execute(conn)?;
    organization::succeed(conn, old, new, now_ms)
}

/// Children, plans and every version. Of a child that both hold the plans go to the new authority's own child; what the old
/// one said of it (name, local id) stays the old one's.
fn records(conn: &mut Conn, old: i64, new: i64) -> Result<(), StoreError> {
    // The keys are numbers of ours; Diesel can't say that a table is compared with itself.
    let of_old = format!("select person_id from authority_child where authority_id = {old}");
    let pairs = format!(
        "from authority_child o join authority_child n on n.person_id = o.person_id and n.authority_id = {new}"
    );
    for statement in [
        // A key of a child of which nothing was ever stored.
        format!(
            "delete from authority_child where authority_id = {new} and person_id in ({of_old}) \
             and not exists (select 1 from authority_child_version v where v.child_id = authority_child.id) \
             and not exists (select 1 from plan p where p.child_id = authority_child.id)"
        ),
        format!(
            "update authority_child set due_date = '2000-01-01' \
             where authority_id = {new} and person_id in ({of_old})"
        ),
        format!(
            "update plan set child_id = (select n.id {pairs} where o.id = plan.child_id) \
             where child_id in (select o.id {pairs} where o.authority_id = {old})"
        ),
        format!(
            "update authority_child set authority_id = {new} where authority_id = {old} \
             and person_id not in (select person_id from authority_child where authority_id = {new})"
        ),
        format!("update plan_version set authority_id = {new} where authority_id = {old}"),
        format!(
            "update authority_child_version set authority_id = {new} where authority_id = {old} \
             and child_id in (select id from authority_child where authority_id = {new})"
        ),
    ] {
        sql_query(statement).execute(conn)?;
    }
    Ok(())
}

/// Everything that the old authority was told, or is to be: what waits goes to the new one's channels, the rest is not sent
/// again.
fn notifications(conn: &mut Conn, old: i64, new: i64, now_ms: i64) -> Result<(), StoreError> {
    let its = || outbox::table.filter(outbox::authority_id.eq(old));
    let given = outbox::routed_ms.is_not_null().or(outbox::mesh_ms.is_not_null());
    let from_ms: Option<i64> = mailbox::table.find(old).select(mailbox::from_ms).first(conn).optional()?;
    // Given to subscriptions, and waiting for the window of the mailbox: that it has still to be sent there stays so.
    let not_for_mailbox = outbox::created_ms.lt(from_ms.unwrap_or(i64::MAX));
    diesel::update(its().filter(given).filter(outbox::mesh_ms.is_null()).filter(not_for_mailbox))
        .set(outbox::mesh_ms.eq(now_ms))
        .execute(conn)?;
    diesel::update(its().filter(outbox::routed_ms.is_null()).filter(outbox::mesh_ms.is_not_null()))
        .set(outbox::routed_ms.eq(now_ms))
        .execute(conn)?;
    diesel::update(its()).set(outbox::authority_id.eq(new)).execute(conn)?;
    Ok(())
}

/// The old authority's mailbox, unless the new one has its own; and what is on its way.
fn mailboxes(conn: &mut Conn, old: i64, new: i64, from_ms: i64) -> Result<(), StoreError> {
    let held: Option<i64> = mailbox::table.find(new).select(mailbox::authority_id).first(conn).optional()?;
    let of_old = mailbox::table.find(old);
    if held.is_some() {
        diesel::delete(of_old).execute(conn)?;
    } else if let Some(since) = of_old.select(mailbox::from_ms).first::<i64>(conn).optional()? {
        diesel::update(mailbox::table.find(old))
            .set((mailbox::authority_id.eq(new), mailbox::from_ms.eq(since.max(from_ms))))
            .execute(conn)?;
    }
    diesel::update(message::table.filter(message::authority_id.eq(old).and(message::state.ne("delivered"))))
        .set(message::authority_id.eq(new))
        .execute(conn)?;
    Ok(())
}
