//! The outbox: what authorities are to be told, written in the transaction that caused it (design 7). The notifier gives
//! committed rows to the subscriptions of their authority ([`super::delivery`]); a row without one waits.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

use super::{Conn, StoreError, schema::outbox};

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// An unscheduled access listed for the authority.
    Access,
}

impl OutboxKind {
    pub fn code(self) -> &'static str {
        match self {
            Self::Access => "access",
        }
    }
}

/// Puts an access into the outbox for one authority, under a new stable id.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_access(conn: &mut Conn, authority: i64, access: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::insert_into(outbox::table)
        .values((
            outbox::uuid.eq(Uuid::new_v4().to_string()),
            outbox::kind.eq(OutboxKind::Access.code()),
            outbox::authority_id.eq(authority),
            outbox::access_id.eq(access),
            outbox::created_ms.eq(at.timestamp_millis()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Marks rows as given to the subscriptions that their authority had.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn mark_routed(conn: &mut Conn, ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
    diesel::update(outbox::table.filter(outbox::id.eq_any(ids.to_vec())))
        .set(outbox::routed_ms.eq(now_ms))
        .execute(conn)?;
    Ok(())
}

/// The authorities that an access was put into the outbox for, by ascending key; for verification.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn authorities_of(conn: &mut Conn, access: i64) -> Result<Vec<i64>, StoreError> {
    Ok(outbox::table
        .filter(outbox::access_id.eq(access))
        .order(outbox::authority_id)
        .select(outbox::authority_id)
        .load(conn)?)
}
