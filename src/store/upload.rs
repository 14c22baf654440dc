//! Changes by authorities as they came: whether their versions count, and what was answered to each record (design 6).

use diesel::prelude::*;
use uuid::Uuid;

use super::{
    Conn, StoreError,
    schema::{organization, upload, upload_record as record},
};
use crate::cpis::types::{
    NhsNumber,
    upload::{Door, FileCode, RecordCode},
};

/// Its versions count, and its answer is final.
pub const APPLIED: &str = "applied";
/// Its versions are being written, and count once it is applied (design 6, staging).
pub const STAGED: &str = "staged";
/// It waits for its authority's other change to end; nothing of it is written.
pub const WAITING: &str = "waiting";
/// Its authority took it back while it was staged; what it wrote is about to be discarded.
pub const CANCELLED: &str = "cancelled";
/// It was not applied, and nothing of it is left; the answer says why, unless its process died.
pub const DISCARDED: &str = "discarded";

/// An upload as it begins.
#[derive(Clone, Debug)]
pub struct NewUpload {
    pub id: Uuid,
    pub authority: i64,
    pub door: Door,
    pub records: usize,
    /// The authority's number of the file.
    pub number: Option<i64>,
    /// What the file is told by from another of the same number.
    pub identity: Option<[u8; 32]>,
    pub mesh_message: Option<String>,
    /// What the door needs to answer it without the file; JSON.
    pub form: Option<String>,
}

/// Begins an upload; returns its key. One that is `APPLIED` at once is applied by the transaction that it is in.
///
/// # Errors
/// [`StoreError::Race`] when its number was used meanwhile.
pub fn begin(conn: &mut Conn, new: &NewUpload, state: &str, now_ms: i64) -> Result<i64, StoreError> {
    Ok(diesel::insert_into(upload::table)
        .values((
            upload::uuid.eq(new.id.to_string()),
            upload::authority_id.eq(new.authority),
            upload::door.eq(new.door.code()),
            upload::sequence_number.eq(new.number),
            upload::content_hash.eq(new.identity.map(|hash| hash.to_vec())),
            upload::state.eq(state),
            upload::received_ms.eq(now_ms),
            upload::applied_ms.eq((state == APPLIED).then_some(now_ms)),
            upload::records.eq(count(new.records)),
            upload::mesh_message.eq(&new.mesh_message),
            upload::judged.eq(0_i64),
            upload::form.eq(&new.form),
        ))
        .returning(upload::id)
        .get_result(conn)?)
}

fn count(records: usize) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}

/// Writes the final answer of an upload that was begun as applied.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn answer(conn: &mut Conn, key: i64, code: FileCode, answer: &[u8]) -> Result<(), StoreError> {
    let values = (upload::file_code.eq(code.code()), upload::answer.eq(answer));
    diesel::update(upload::table.find(key)).set(values).execute(conn)?;
    Ok(())
}

/// From one state to the next; false when it is in another.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn advance(conn: &mut Conn, key: i64, from: &str, to: &str) -> Result<bool, StoreError> {
    let in_state = upload::table.find(key).filter(upload::state.eq(from));
    Ok(diesel::update(in_state).set(upload::state.eq(to)).execute(conn)? == 1)
}

/// Counts the records of a staged upload that are judged; false when it isn't staged any more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn judged(conn: &mut Conn, key: i64, records: usize) -> Result<bool, StoreError> {
    let staged = upload::table.find(key).filter(upload::state.eq(STAGED));
    Ok(diesel::update(staged).set(upload::judged.eq(count(records))).execute(conn)? == 1)
}

/// Marks a staged upload as applied, with its final answer: from now on its versions count. False when it isn't staged
/// any more. What it costs does not depend on how many versions there are.
///
/// # Errors
/// [`StoreError::Race`] when its number was used meanwhile.
pub fn apply(conn: &mut Conn, key: i64, code: FileCode, answer: &[u8], now_ms: i64) -> Result<bool, StoreError> {
    let applied = diesel::update(upload::table.find(key).filter(upload::state.eq(STAGED)))
        .set((
            upload::state.eq(APPLIED),
            upload::applied_ms.eq(now_ms),
            upload::file_code.eq(code.code()),
            upload::answer.eq(answer),
        ))
        .execute(conn)?;
    Ok(applied == 1)
}

/// Marks an upload as discarded once nothing of it is left, with the reason as JSON if there is anybody to give one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn set_discarded(conn: &mut Conn, key: i64, answer: Option<&[u8]>) -> Result<(), StoreError> {
    diesel::update(upload::table.find(key))
        .set((upload::state.eq(DISCARDED), answer.map(|answer| upload::answer.eq(answer))))
        .execute(conn)?;
    Ok(())
}

/// Keeps when a change of an authority was last applied.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn confirm(conn: &mut Conn, authority: i64, now_ms: i64) -> Result<(), StoreError> {
    let found = organization::table.find(authority);
    diesel::update(found).set(organization::confirmed_ms.eq(now_ms)).execute(conn)?;
    Ok(())
}

/// What a file's number says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// This upload had the same number and content: its answer is final.
    Same(i64),
    /// The number was used with other content.
    Other,
    /// Not used, and a later one was.
    OutOfOrder,
    /// Not used yet. How many numbers lie between the highest used one and this.
    New { gap: i64 },
}

/// Whether a file's number was used by its authority: by uploads with a final answer.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn known(conn: &mut Conn, authority: i64, number: i64, identity: &[u8; 32]) -> Result<Known, StoreError> {
    let used = upload::table.filter(upload::authority_id.eq(authority).and(upload::applied_ms.is_not_null()));
    let same: Option<(i64, Option<Vec<u8>>)> = used
        .filter(upload::sequence_number.eq(number))
        .select((upload::id, upload::content_hash))
        .first(conn)
        .optional()?;
    if let Some((key, hash)) = same {
        return Ok(if hash.as_deref() == Some(&identity[..]) { Known::Same(key) } else { Known::Other });
    }
    let highest = diesel::dsl::max(upload::sequence_number);
    let highest: Option<i64> = used.select(highest).first(conn)?;
    Ok(match highest {
        Some(highest) if number < highest => Known::OutOfOrder,
        Some(highest) => Known::New { gap: number.saturating_sub(highest).saturating_sub(1) },
        None => Known::New { gap: 0 },
    })
}

/// The upload with a final answer that a MESH message brought.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn of_message(conn: &mut Conn, authority: i64, message: &str) -> Result<Option<i64>, StoreError> {
    Ok(upload::table
        .filter(upload::authority_id.eq(authority).and(upload::mesh_message.eq(message)))
        .filter(upload::applied_ms.is_not_null())
        .select(upload::id)
        .first(conn)
        .optional()?)
}

/// Uploads of an authority of which there may be staged rows. Whoever has the authority's lease knows that nobody works
/// on them any more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn left_over(conn: &mut Conn, authority: i64) -> Result<Vec<(i64, Uuid)>, StoreError> {
    let unfinished = upload::authority_id.eq(authority).and(upload::state.eq_any([STAGED, CANCELLED]));
    let rows: Vec<(i64, String)> =
        upload::table.filter(unfinished).order(upload::id).select((upload::id, upload::uuid)).load(conn)?;
    rows.into_iter().map(|(key, id)| Ok((key, uuid(&id)?))).collect()
}

/// Authorities that have uploads of which there may be staged rows.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn authorities_with_left_over(conn: &mut Conn) -> Result<Vec<i64>, StoreError> {
    let unfinished = upload::applied_ms.is_null().and(upload::state.eq_any([STAGED, CANCELLED]));
    Ok(upload::table
        .filter(unfinished)
        .select(upload::authority_id)
        .distinct()
        .order(upload::authority_id)
        .load(conn)?)
}

/// Forgets uploads that were received before an instant, were not applied, and of which nothing is left. One that still
/// waits then has waited for too long: its process died.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget_discarded(conn: &mut Conn, received_before_ms: i64) -> Result<usize, StoreError> {
    let over = upload::applied_ms.is_null().and(upload::state.eq_any([DISCARDED, WAITING]));
    let over = over.and(upload::received_ms.lt(received_before_ms));
    Ok(diesel::delete(upload::table.filter(over)).execute(conn)?)
}

/// An upload as it stands.
#[derive(Clone, Debug)]
pub struct StoredUpload {
    pub key: i64,
    pub id: Uuid,
    pub authority: i64,
    pub state: String,
    pub received_ms: i64,
    pub records: i64,
    pub judged: i64,
    pub number: Option<i64>,
    pub code: Option<FileCode>,
    pub answer: Option<Vec<u8>>,
    pub form: Option<String>,
}

type Row = (i64, String, i64, String, i64, i64, i64, Option<i64>, Option<String>, Option<Vec<u8>>, Option<String>);
type Columns = (
    upload::id,
    upload::uuid,
    upload::authority_id,
    upload::state,
    upload::received_ms,
    upload::records,
    upload::judged,
    upload::sequence_number,
    upload::file_code,
    upload::answer,
    upload::form,
);

const COLUMNS: Columns = (
    upload::id,
    upload::uuid,
    upload::authority_id,
    upload::state,
    upload::received_ms,
    upload::records,
    upload::judged,
    upload::sequence_number,
    upload::file_code,
    upload::answer,
    upload::form,
);

fn stored(
    (key, id, authority, state, received_ms, records, judged, number, code, answer, form): Row,
) -> Result<StoredUpload, StoreError> {
    let code =
        code.map(|code| FileCode::from_code(&code).ok_or(StoreError::Corrupt("upload.file_code"))).transpose()?;
    Ok(StoredUpload { key, id: uuid(&id)?, authority, state, received_ms, records, judged, number, code, answer, form })
}

fn uuid(text: &str) -> Result<Uuid, StoreError> {
    Uuid::parse_str(text).map_err(|_| StoreError::Corrupt("upload.uuid"))
}

/// The upload of a key.
///
/// # Errors
/// [`StoreError::Corrupt`] when there is none.
pub fn get(conn: &mut Conn, key: i64) -> Result<StoredUpload, StoreError> {
    stored(upload::table.find(key).select(COLUMNS).first(conn)?)
}

/// An authority's upload by its id; with `None` anybody's.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, authority: Option<i64>, id: Uuid) -> Result<Option<StoredUpload>, StoreError> {
    let found: Option<(i64, i64)> = upload::table
        .filter(upload::uuid.eq(id.to_string()))
        .select((upload::id, upload::authority_id))
        .first(conn)
        .optional()?;
    match found {
        Some((key, owner)) if authority.is_none_or(|authority| authority == owner) => get(conn, key).map(Some),
        _ => Ok(None),
    }
}

/// Its door gives no answer to it any more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget_form(conn: &mut Conn, key: i64) -> Result<(), StoreError> {
    diesel::update(upload::table.find(key)).set(upload::form.eq(None::<String>)).execute(conn)?;
    Ok(())
}

/// What is kept of a record.
#[derive(Clone, Debug)]
pub struct KeptRecord {
    /// From 0, in the order of the file.
    pub position: usize,
    pub code: RecordCode,
    /// Of a refused record, unless it is restricted or its time is over.
    pub nhs_number: Option<NhsNumber>,
    pub reason: Option<String>,
    /// What it was answered with; JSON.
    pub answer: Option<String>,
    /// What its door needs to answer it without the file; JSON.
    pub form: Option<String>,
}

/// Keeps records' answers.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn add_records(conn: &mut Conn, key: i64, records: &[KeptRecord], now_ms: i64) -> Result<(), StoreError> {
    for kept in records {
        diesel::insert_into(record::table)
            .values((
                record::upload_id.eq(key),
                record::position.eq(count(kept.position)),
                record::code.eq(kept.code.code()),
                record::nhs_number.eq(kept.nhs_number.as_ref().map(NhsNumber::as_str)),
                record::reason.eq(&kept.reason),
                record::answer.eq(&kept.answer),
                record::form.eq(&kept.form),
                record::recorded_ms.eq(now_ms),
            ))
            .execute(conn)?;
    }
    Ok(())
}

type RecordRow = (i64, String, Option<String>, Option<String>, Option<String>, Option<String>);
type RecordColumns = (record::position, record::code, record::nhs_number, record::reason, record::answer, record::form);

const RECORD_COLUMNS: RecordColumns =
    (record::position, record::code, record::nhs_number, record::reason, record::answer, record::form);

fn kept((position, code, number, reason, answer, form): RecordRow) -> Result<KeptRecord, StoreError> {
    let number = number.map(|number| NhsNumber::parse(&number)).transpose();
    Ok(KeptRecord {
        position: usize::try_from(position).map_err(|_| StoreError::Corrupt("upload_record.position"))?,
        code: RecordCode::from_code(&code).ok_or(StoreError::Corrupt("upload_record.code"))?,
        nhs_number: number.map_err(|_| StoreError::Corrupt("upload_record.nhs_number"))?,
        reason,
        answer,
        form,
    })
}

/// All records of an upload, by position.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn records(conn: &mut Conn, key: i64) -> Result<Vec<KeptRecord>, StoreError> {
    let of_upload = record::table.filter(record::upload_id.eq(key)).order(record::position);
    let rows: Vec<RecordRow> = of_upload.select(RECORD_COLUMNS).load(conn)?;
    rows.into_iter().map(kept).collect()
}

/// At most `limit` refused records of an upload by position, after one if it is given.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn refused(conn: &mut Conn, key: i64, after: Option<usize>, limit: i64) -> Result<Vec<KeptRecord>, StoreError> {
    let rows: Vec<RecordRow> = record::table
        .filter(record::upload_id.eq(key).and(record::code.ne(RecordCode::Cpr06.code())))
        .filter(record::position.gt(after.map_or(-1, count)))
        .order(record::position)
        .limit(limit)
        .select(RECORD_COLUMNS)
        .load(conn)?;
    rows.into_iter().map(kept).collect()
}

/// How many records of an upload were refused.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count_refused(conn: &mut Conn, key: i64) -> Result<i64, StoreError> {
    let refused = record::upload_id.eq(key).and(record::code.ne(RecordCode::Cpr06.code()));
    Ok(record::table.filter(refused).count().get_result(conn)?)
}

/// Marks refused records of an authority about these numbers as resolved by an upload that loads them.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn resolve(
    conn: &mut Conn,
    authority: i64,
    key: i64,
    numbers: &[NhsNumber],
    now_ms: i64,
) -> Result<(), StoreError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let numbers: Vec<String> = numbers.iter().map(|number| number.as_str().to_owned()).collect();
    let found: Vec<(i64, i64)> = record::table
        .inner_join(upload::table)
        .filter(record::nhs_number.eq_any(numbers))
        .filter(record::resolved_ms.is_null().and(record::code.ne(RecordCode::Cpr06.code())))
        .filter(upload::authority_id.eq(authority).and(upload::applied_ms.is_not_null()))
        .select((record::upload_id, record::position))
        .load(conn)?;
    for place in found {
        diesel::update(record::table.find(place))
            .set((record::resolved_ms.eq(now_ms), record::resolved_by.eq(key)))
            .execute(conn)?;
    }
    Ok(())
}

/// Takes back what [`resolve`] marked.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn unresolve(conn: &mut Conn, key: i64) -> Result<(), StoreError> {
    diesel::update(record::table.filter(record::resolved_by.eq(key)))
        .set((record::resolved_ms.eq(None::<i64>), record::resolved_by.eq(None::<i64>)))
        .execute(conn)?;
    Ok(())
}

/// Calls at most `limit` records of an upload refused that were good, because others of it were not; returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn refuse_good_records(
    conn: &mut Conn,
    key: i64,
    reason: &str,
    answer: &str,
    limit: i64,
) -> Result<usize, StoreError> {
    let good: Vec<i64> = record::table
        .filter(record::upload_id.eq(key).and(record::code.eq(RecordCode::Cpr06.code())))
        .order(record::position)
        .limit(limit)
        .select(record::position)
        .load(conn)?;
    let found = record::table.filter(record::upload_id.eq(key).and(record::position.eq_any(good)));
    Ok(diesel::update(found)
        .set((record::code.eq(RecordCode::Cpr07.code()), record::reason.eq(reason), record::answer.eq(answer)))
        .execute(conn)?)
}

/// Deletes at most `limit` records of an upload; returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn delete_records(conn: &mut Conn, key: i64, limit: i64) -> Result<usize, StoreError> {
    let of_upload = record::table.filter(record::upload_id.eq(key)).order(record::position);
    let positions: Vec<i64> = of_upload.limit(limit).select(record::position).load(conn)?;
    let found = record::table.filter(record::upload_id.eq(key).and(record::position.eq_any(positions)));
    Ok(diesel::delete(found).execute(conn)?)
}

/// Takes number, reason and answer off refused records older than `before_ms`; position and code stay.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn forget_refused(conn: &mut Conn, before_ms: i64) -> Result<usize, StoreError> {
    let old = record::recorded_ms.lt(before_ms).and(record::code.ne(RecordCode::Cpr06.code()));
    let known = record::nhs_number.is_not_null().or(record::answer.is_not_null()).or(record::reason.is_not_null());
    Ok(diesel::update(record::table.filter(old).filter(known))
        .set((
            record::nhs_number.eq(None::<String>),
            record::reason.eq(None::<String>),
            record::answer.eq(None::<String>),
            record::form.eq(None::<String>),
        ))
        .execute(conn)?)
}

/// True while an upload of the authority is in one of these states.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn any_in(conn: &mut Conn, authority: i64, states: &[&str]) -> Result<bool, StoreError> {
    let found = upload::authority_id.eq(authority).and(upload::state.eq_any(states.to_vec()));
    Ok(diesel::select(diesel::dsl::exists(upload::table.filter(found))).get_result(conn)?)
}
