//! Messages to authorities, from the moment they are queued until they are taken or given up.

use chrono::{DateTime, Utc};
use diesel::{
    dsl::{count_star, min},
    prelude::*,
};
use uuid::Uuid;

use crate::{
    clock::from_millis,
    cpis::types::{
        mesh::{FileReply, MeshCounts, MeshKind, MeshMessage, MeshState, Sending},
        upload::FileCode,
    },
    store::{
        Conn, StoreError,
        connection::on,
        schema::{mesh_mailbox as mailbox, mesh_message as message},
    },
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = message)]
struct Row {
    id: i64,
    uuid: String,
    kind: String,
    authority_id: i64,
    state: String,
    attempts: i64,
    reopened: i64,
    next_attempt_ms: i64,
    created_ms: i64,
    sending_ms: Option<i64>,
    mesh_id: Option<String>,
    last_error: Option<String>,
    reply_to: Option<String>,
    upload: Option<String>,
    file_code: Option<String>,
    file_number: Option<i64>,
    records: Option<i64>,
    refused: Option<i64>,
    reason: Option<String>,
    body: Option<Vec<u8>>,
}

impl TryFrom<Row> for MeshMessage {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let uuid = |text: String| Uuid::parse_str(&text).map_err(|_| StoreError::Corrupt("mesh_message.uuid"));
        let count = |n: Option<i64>| usize::try_from(n.unwrap_or(0)).unwrap_or_default();
        let code = |text: String| {
            let known =
                [FileCode::Cpf01, FileCode::Cpf02, FileCode::Cpf03, FileCode::Cpf04, FileCode::Cpf05].into_iter();
            known.into_iter().find(|code| code.code() == text).ok_or(StoreError::Corrupt("mesh_message.file_code"))
        };
        let reply = match (row.reply_to, row.file_code) {
            (Some(reply_to), Some(file_code)) => Some(FileReply {
                reply_to,
                upload: row.upload.map(uuid).transpose()?,
                code: code(file_code)?,
                number: row.file_number,
                records: row.records.and_then(|n| usize::try_from(n).ok()),
                refused: count(row.refused),
                reason: row.reason,
                body: row.body,
            }),
            _ => None,
        };
        Ok(Self {
            key: row.id,
            id: uuid(row.uuid)?,
            kind: MeshKind::from_code(&row.kind).ok_or(StoreError::Corrupt("mesh_message.kind"))?,
            authority: row.authority_id,
            state: MeshState::from_code(&row.state).ok_or(StoreError::Corrupt("mesh_message.state"))?,
            attempts: row.attempts,
            reopened: row.reopened,
            next_attempt: from_millis(row.next_attempt_ms),
            created: from_millis(row.created_ms),
            sending: row.sending_ms.map(from_millis),
            mesh_id: row.mesh_id,
            error: row.last_error,
            reply,
        })
    }
}

/// Queues a message without content of its own; returns its key.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add(conn: &mut Conn, kind: MeshKind, authority: i64, now_ms: i64) -> Result<i64, StoreError> {
    Ok(diesel::insert_into(message::table)
        .values((
            message::uuid.eq(Uuid::new_v4().to_string()),
            message::kind.eq(kind.code()),
            message::authority_id.eq(authority),
            message::state.eq(MeshState::Queued.code()),
            message::attempts.eq(0_i64),
            message::reopened.eq(0_i64),
            message::next_attempt_ms.eq(now_ms),
            message::created_ms.eq(now_ms),
        ))
        .returning(message::id)
        .get_result(conn)?)
}

/// Queues the acknowledgement of a file. Of a file that has one already nothing is queued: it was handled before a crash.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_reply(conn: &mut Conn, authority: i64, reply: &FileReply, now_ms: i64) -> Result<(), StoreError> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let values = (
        (
            message::uuid.eq(Uuid::new_v4().to_string()),
            message::kind.eq(MeshKind::Acknowledgement.code()),
            message::authority_id.eq(authority),
            message::state.eq(MeshState::Queued.code()),
            message::attempts.eq(0_i64),
            message::reopened.eq(0_i64),
            message::next_attempt_ms.eq(now_ms),
            message::created_ms.eq(now_ms),
        ),
        (
            message::reply_to.eq(&reply.reply_to),
            message::upload.eq(reply.upload.map(|id| id.to_string())),
            message::file_code.eq(reply.code.code()),
            message::file_number.eq(reply.number),
            message::records.eq(reply.records.map(count)),
            message::refused.eq(count(reply.refused)),
            message::reason.eq(reply.reason.as_deref()),
            message::body.eq(reply.body.as_deref()),
        ),
    );
    on!(conn, c => diesel::insert_into(message::table)
        .values(values.clone())
        .on_conflict(message::reply_to)
        .do_nothing()
        .execute(c))?;
    Ok(())
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn get(conn: &mut Conn, key: i64) -> Result<Option<MeshMessage>, StoreError> {
    let row: Option<Row> = message::table.find(key).select(Row::as_select()).first(conn).optional()?;
    row.map(MeshMessage::try_from).transpose()
}

/// The message with this id of ours.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, id: Uuid) -> Result<Option<MeshMessage>, StoreError> {
    let row: Option<Row> =
        message::table.filter(message::uuid.eq(id.to_string())).select(Row::as_select()).first(conn).optional()?;
    row.map(MeshMessage::try_from).transpose()
}

/// The message that MESH knows under this id as its newest sending.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_mesh_id(conn: &mut Conn, mesh_id: &str) -> Result<Option<MeshMessage>, StoreError> {
    let row: Option<Row> =
        message::table.filter(message::mesh_id.eq(mesh_id)).select(Row::as_select()).first(conn).optional()?;
    row.map(MeshMessage::try_from).transpose()
}

/// Keys of messages in one of these states whose time has come, the longest waiting first, at most `limit`. What is for
/// an authority without a mailbox waits until it has one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn due(conn: &mut Conn, states: &[MeshState], now_ms: i64, limit: i64) -> Result<Vec<i64>, StoreError> {
    let states: Vec<&str> = states.iter().map(|state| state.code()).collect();
    Ok(message::table
        .inner_join(mailbox::table.on(mailbox::authority_id.eq(message::authority_id)))
        .filter(message::state.eq_any(states))
        .filter(message::next_attempt_ms.le(now_ms))
        .order((message::next_attempt_ms, message::id))
        .limit(limit)
        .select(message::id)
        .load(conn)?)
}

/// Notes that the sending of a queued message begins, unless it has begun already.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn begin(conn: &mut Conn, key: i64, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(message::table.find(key).filter(message::state.eq(MeshState::Queued.code())))
        .set((message::state.eq(MeshState::Sending.code()), message::sending_ms.eq(now_ms)))
        .execute(conn)?;
    Ok(())
}

/// Writes how a sending went. What MESH already took stays so, unless MESH reports otherwise ([`reopen`]).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn record(conn: &mut Conn, key: i64, sending: &Sending, now_ms: i64, track_ms: i64) -> Result<(), StoreError> {
    let open =
        message::table.find(key).filter(message::state.eq_any([MeshState::Queued.code(), MeshState::Sending.code()]));
    let failed = message::attempts.eq(message::attempts + 1);
    match sending {
        Sending::Sent { mesh_id } => diesel::update(open)
            .set((
                message::state.eq(MeshState::Sent.code()),
                message::mesh_id.eq(mesh_id),
                message::sent_ms.eq(now_ms),
                message::next_attempt_ms.eq(track_ms),
                message::last_error.eq(None::<String>),
            ))
            .execute(conn)?,
        Sending::Failed { error, at } => diesel::update(open)
            .set((
                failed,
                message::state.eq(MeshState::Queued.code()),
                message::next_attempt_ms.eq(at.timestamp_millis()),
                message::last_error.eq(error),
            ))
            .execute(conn)?,
        Sending::Unknown { error, at } => diesel::update(open)
            .set((failed, message::next_attempt_ms.eq(at.timestamp_millis()), message::last_error.eq(error)))
            .execute(conn)?,
        Sending::Undeliverable { error } => diesel::update(open)
            .set((failed, message::state.eq(MeshState::Undeliverable.code()), message::last_error.eq(error)))
            .execute(conn)?,
    };
    Ok(())
}

/// Writes that the authority has taken a message; of the answer to a Bundle, what it said is not needed any more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn delivered(conn: &mut Conn, key: i64) -> Result<(), StoreError> {
    diesel::update(message::table.find(key).filter(message::state.eq(MeshState::Sent.code())))
        .set((message::state.eq(MeshState::Delivered.code()), message::body.eq(None::<Vec<u8>>)))
        .execute(conn)?;
    Ok(())
}

/// When MESH is asked next what became of a message that was sent.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn track_at(conn: &mut Conn, key: i64, at_ms: i64) -> Result<(), StoreError> {
    diesel::update(message::table.find(key).filter(message::state.eq(MeshState::Sent.code())))
        .set(message::next_attempt_ms.eq(at_ms))
        .execute(conn)?;
    Ok(())
}

/// Queues a message again under a new local id: it was not collected, or an operator says so. `attempts` is where its
/// failures are counted on from.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn reopen(
    conn: &mut Conn,
    key: i64,
    attempts: i64,
    at: DateTime<Utc>,
    error: Option<&str>,
) -> Result<(), StoreError> {
    diesel::update(message::table.find(key))
        .set((
            message::state.eq(MeshState::Queued.code()),
            message::attempts.eq(attempts),
            message::reopened.eq(message::reopened + 1),
            message::next_attempt_ms.eq(at.timestamp_millis()),
            message::sending_ms.eq(None::<i64>),
            message::last_error.eq(error),
        ))
        .execute(conn)?;
    Ok(())
}

/// Gives a message up: MESH reports that it can't be delivered.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn give_up(conn: &mut Conn, key: i64, error: &str) -> Result<(), StoreError> {
    diesel::update(message::table.find(key))
        .set((message::state.eq(MeshState::Undeliverable.code()), message::last_error.eq(error)))
        .execute(conn)?;
    Ok(())
}

/// Takes away a message that carries nothing any more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn remove(conn: &mut Conn, key: i64) -> Result<(), StoreError> {
    diesel::delete(message::table.find(key)).execute(conn)?;
    Ok(())
}

/// Which messages an operator asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub state: Option<MeshState>,
    /// Surrogate key of an authority.
    pub authority: Option<i64>,
}

/// Messages, newest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn list(conn: &mut Conn, asked: Asked, limit: i64) -> Result<Vec<MeshMessage>, StoreError> {
    let mut query = message::table.select(Row::as_select()).order(message::id.desc()).limit(limit).into_boxed();
    if let Some(state) = asked.state {
        query = query.filter(message::state.eq(state.code()));
    }
    if let Some(authority) = asked.authority {
        query = query.filter(message::authority_id.eq(authority));
    }
    let rows: Vec<Row> = query.load(conn)?;
    rows.into_iter().map(MeshMessage::try_from).collect()
}

/// How many messages of a kind stand how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub kind: MeshKind,
    pub queued: i64,
    pub sent: i64,
    pub undeliverable: i64,
    /// When the oldest that is queued was.
    pub oldest_queued: Option<DateTime<Utc>>,
}

/// How many messages stand how, by kind; those that were delivered are not counted, for they only grow.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn totals(conn: &mut Conn) -> Result<Vec<Total>, StoreError> {
    let rows: Vec<(String, String, i64, Option<i64>)> = message::table
        .filter(message::state.ne(MeshState::Delivered.code()))
        .group_by((message::kind, message::state))
        .select((message::kind, message::state, count_star(), min(message::created_ms)))
        .load(conn)?;
    let of = |kind: MeshKind| {
        let mut total = Total { kind, queued: 0, sent: 0, undeliverable: 0, oldest_queued: None };
        for (_, state, count, oldest) in rows.iter().filter(|(of, ..)| of == kind.code()) {
            match MeshState::from_code(state) {
                Some(MeshState::Queued | MeshState::Sending) => {
                    total.queued += count;
                    total.oldest_queued = oldest.map(from_millis).into_iter().chain(total.oldest_queued).min();
                }
                Some(MeshState::Sent) => total.sent += count,
                _ => total.undeliverable += count,
            }
        }
        total
    };
    Ok(MeshKind::ALL.into_iter().map(of).collect())
}

/// How many messages stand how, and how long the oldest queued one has waited.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn counts(conn: &mut Conn, now_ms: i64) -> Result<MeshCounts, StoreError> {
    let totals = totals(conn)?;
    let oldest = totals.iter().filter_map(|total| total.oldest_queued).min();
    Ok(MeshCounts {
        queued: totals.iter().map(|total| total.queued).sum(),
        sent: totals.iter().map(|total| total.sent).sum(),
        delivered: message::table.filter(message::state.eq(MeshState::Delivered.code())).count().get_result(conn)?,
        undeliverable: totals.iter().map(|total| total.undeliverable).sum(),
        oldest_queued_seconds: oldest.map(|at| ((now_ms - at.timestamp_millis()) / 1000).max(0)),
        set_aside: i64::try_from(super::received::all_set_aside(conn)?.len()).unwrap_or(i64::MAX),
    })
}

/// Queues the acknowledgement of an upload once more, under a new local id, if its sender was given it before; false when
/// there is none, or when it is on its way anyway.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn send_reply_again(conn: &mut Conn, upload: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
    let key: Option<i64> = message::table
        .filter(message::upload.eq(upload.to_string()))
        .filter(message::kind.eq(MeshKind::Acknowledgement.code()))
        .filter(message::state.eq_any([MeshState::Sent.code(), MeshState::Delivered.code()]))
        .select(message::id)
        .first(conn)
        .optional()?;
    match key {
        Some(key) => reopen(conn, key, 0, at, None).map(|()| true),
        None => Ok(false),
    }
}
