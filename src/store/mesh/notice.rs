//! Which notifications of the outbox go into which message to an authority; each into one.

use diesel::prelude::*;

use crate::{
    cpis::types::{NhsNumber, notice::Topic},
    store::{
        Conn, StoreError,
        connection::on,
        schema::{
            access, authority_child as child, authority_child_version as child_version, mesh_mailbox as mailbox,
            mesh_message_notice as notice, outbox, plan, plan_version, upload,
        },
        upload::APPLIED,
    },
};

/// A notification that waits for a message.
#[derive(Clone, Debug, Queryable)]
pub struct Waiting {
    pub outbox_id: i64,
    pub created_ms: i64,
    pub access: Option<i64>,
}

/// Authorities with a mailbox and notifications of a topic, created by then, that are in no message yet; with the moment
/// from which on they are for the mailbox (milliseconds).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn authorities(conn: &mut Conn, topic: Topic, until_ms: i64) -> Result<Vec<(i64, i64)>, StoreError> {
    Ok(outbox::table
        .inner_join(mailbox::table.on(mailbox::authority_id.eq(outbox::authority_id)))
        .filter(outbox::mesh_ms.is_null().and(outbox::kind.eq(topic.code())))
        .filter(outbox::created_ms.ge(mailbox::from_ms).and(outbox::created_ms.le(until_ms)))
        .select((mailbox::authority_id, mailbox::from_ms))
        .distinct()
        .order(mailbox::authority_id)
        .load(conn)?)
}

/// An authority's notifications of a topic that are in no message yet, after `after`, in order, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn waiting(
    conn: &mut Conn,
    (authority, from_ms): (i64, i64),
    topic: Topic,
    after: i64,
    limit: i64,
) -> Result<Vec<Waiting>, StoreError> {
    Ok(outbox::table
        .filter(outbox::authority_id.eq(authority).and(outbox::kind.eq(topic.code())))
        .filter(outbox::mesh_ms.is_null().and(outbox::created_ms.ge(from_ms)))
        .filter(outbox::id.gt(after))
        .order(outbox::id)
        .limit(limit)
        .select((outbox::id, outbox::created_ms, outbox::access_id))
        .load(conn)?)
}

/// The number that was asked for with an access.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not a number.
pub fn number_asked(conn: &mut Conn, access: i64) -> Result<NhsNumber, StoreError> {
    let number: String = access::table.find(access).select(access::nhs_number).first(conn)?;
    NhsNumber::parse(&number).map_err(|_| StoreError::Corrupt("access.nhs_number"))
}

/// Puts notifications into a message.
///
/// # Errors
/// [`StoreError::Race`] when one of them is in another message.
pub fn put_in(conn: &mut Conn, message: i64, outbox_ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
    let rows: Vec<_> =
        outbox_ids.iter().map(|id| (notice::outbox_id.eq(*id), notice::message_id.eq(message))).collect();
    for part in rows.chunks(200) {
        on!(conn, c => diesel::insert_into(notice::table).values(part.to_vec()).execute(c))?;
    }
    diesel::update(outbox::table.filter(outbox::id.eq_any(outbox_ids.to_vec())))
        .set(outbox::mesh_ms.eq(now_ms))
        .execute(conn)?;
    Ok(())
}

/// Takes notifications out of the message that they are in: they wait again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn take_out(conn: &mut Conn, outbox_ids: &[i64]) -> Result<(), StoreError> {
    diesel::delete(notice::table.filter(notice::outbox_id.eq_any(outbox_ids.to_vec()))).execute(conn)?;
    diesel::update(outbox::table.filter(outbox::id.eq_any(outbox_ids.to_vec())))
        .set(outbox::mesh_ms.eq(None::<i64>))
        .execute(conn)?;
    Ok(())
}

/// A notification in a message.
#[derive(Clone, Debug, Queryable)]
pub struct Carried {
    pub outbox_id: i64,
    pub access: Option<i64>,
    pub nhs_number: Option<String>,
    pub replaced_by: Option<String>,
}

/// What a message carries, in order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn carried(conn: &mut Conn, message: i64) -> Result<Vec<Carried>, StoreError> {
    Ok(notice::table
        .inner_join(outbox::table)
        .filter(notice::message_id.eq(message))
        .order(outbox::id)
        .select((outbox::id, outbox::access_id, outbox::nhs_number, outbox::replaced_by))
        .load(conn)?)
}

/// How many notifications a message carries.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count(conn: &mut Conn, message: i64) -> Result<i64, StoreError> {
    Ok(notice::table.filter(notice::message_id.eq(message)).count().get_result(conn)?)
}

/// The highest number of an authority's applied files that touched one of these persons; `None` when all came otherwise.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn newest_file(conn: &mut Conn, authority: i64, persons: &[i64]) -> Result<Option<i64>, StoreError> {
    use diesel::dsl::max;
    let of_child: Option<i64> = child_version::table
        .inner_join(upload::table)
        .inner_join(child::table.on(child::id.eq(child_version::child_id)))
        .filter(child::authority_id.eq(authority).and(child::person_id.eq_any(persons.to_vec())))
        .filter(upload::state.eq(APPLIED))
        .select(max(upload::sequence_number))
        .first(conn)?;
    let of_plans: Option<i64> = plan_version::table
        .inner_join(upload::table)
        .inner_join(plan::table.on(plan::id.eq(plan_version::plan_id)))
        .inner_join(child::table.on(child::id.eq(plan::child_id)))
        .filter(child::authority_id.eq(authority).and(child::person_id.eq_any(persons.to_vec())))
        .filter(upload::state.eq(APPLIED))
        .select(max(upload::sequence_number))
        .first(conn)?;
    Ok(of_child.max(of_plans))
}

/// The number under which an authority sent the child that one of these persons is; of several, that of the newest row.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not a number.
pub fn own_number(conn: &mut Conn, authority: i64, persons: &[i64]) -> Result<Option<NhsNumber>, StoreError> {
    use crate::store::schema::person;
    let number: Option<String> = child::table
        .inner_join(person::table)
        .filter(child::authority_id.eq(authority).and(child::person_id.eq_any(persons.to_vec())))
        .order(child::id.desc())
        .select(person::nhs_number)
        .first(conn)
        .optional()?;
    number.map(|text| NhsNumber::parse(&text).map_err(|_| StoreError::Corrupt("person.nhs_number"))).transpose()
}
