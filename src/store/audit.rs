//! The security audit's rows: the hash chain that they form, their search columns, and the queries of auditors.
//!
//! `content_hash` = SHA-256(format version, recorded ms, content); `link` = SHA-256(previous link, chain, seq,
//! `content_hash`), integers as 8 bytes big-endian (design 5). JSON for people is rendered from the content, never hashed.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use diesel::prelude::*;
use openssl::sha::Sha256;

use super::{
    Conn, StoreError, Tx, checkpoint,
    schema::{audit_chain, audit_event},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        audit::{AuditContent, AuditRow, AuditSearch, Interaction, Outcome, RequestEvent, SystemEvent},
        caller::Author,
    },
};

/// Version of the content's form; the rows tell theirs.
pub const FORMAT_VERSION: i64 = 1;
/// A process that has not renewed its chain's lease for this long is dead.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// The key of PostgreSQL's advisory lock around the opening of a chain.
const OPENING_LOCK: i64 = 0x4350_4954;

pub type Hash = [u8; 32];

/// Hash of a row's content.
pub fn content_hash(format_version: i64, recorded_ms: i64, content: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(&format_version.to_be_bytes());
    sha.update(&recorded_ms.to_be_bytes());
    sha.update(content);
    sha.finish()
}

/// Link of a row to the one before it in its chain; the first row's previous link is all zeros.
pub fn link(previous: &[u8], chain: i64, seq: i64, content_hash: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(previous);
    sha.update(&chain.to_be_bytes());
    sha.update(&seq.to_be_bytes());
    sha.update(content_hash);
    sha.finish()
}

/// The chain that this process appends to.
pub(super) struct Chain {
    process: String,
    head: Option<Head>,
    /// The head may not be what the database holds.
    doubtful: bool,
}

#[derive(Clone, Copy)]
struct Head {
    chain: i64,
    seq: i64,
    link: Hash,
}

/// A point to return to when what came after it is undone.
#[derive(Clone, Copy)]
pub(super) struct Mark(Option<Head>);

impl Chain {
    pub(super) fn new(process: String) -> Self {
        Self { process, head: None, doubtful: false }
    }

    pub(super) fn process(&self) -> &str {
        &self.process
    }

    pub(super) fn is_open(&self) -> bool {
        self.head.is_some()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.head)
    }

    pub(super) fn reset(&mut self, mark: Mark) {
        self.head = mark.0;
    }

    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Makes sure that the chain is open and this process still holds it: reads the head again if in doubt, opens a
    /// new chain if there is none or another process closed this one.
    pub(super) fn renew(&mut self, conn: &mut Conn, now: DateTime<Utc>) -> Result<(), StoreError> {
        if let Some(head) = self.head {
            if self.doubtful {
                let stored = audit_chain::table
                    .find(head.chain)
                    .select((audit_chain::head_seq, audit_chain::head_link))
                    .first::<(i64, Vec<u8>)>(conn)
                    .optional()?;
                self.head = match stored {
                    Some((seq, bytes)) => Some(Head { chain: head.chain, seq, link: hash_of(&bytes)? }),
                    None => None,
                };
            }
            let held = diesel::update(audit_chain::table.find(head.chain).filter(audit_chain::closed.eq(false)))
                .set(audit_chain::lease_until_ms.eq((now + LEASE).timestamp_millis()))
                .execute(conn)?;
            if held == 0 {
                self.head = None;
            }
        }
        self.doubtful = false;
        if self.head.is_none() { self.open(conn, now) } else { Ok(()) }
    }

    fn open(&mut self, conn: &mut Conn, now: DateTime<Utc>) -> Result<(), StoreError> {
        if let Conn::Postgres(c) = conn {
            // Until this commits no other process opens one: chains are seen in the order of their numbers, so that an
            // auditor's first page knows every chain that is not above the newest (`committed_heads`).
            diesel::sql_query(format!("select pg_advisory_xact_lock({OPENING_LOCK})")).execute(c)?;
        }
        let newest = checkpoint::newest(conn)?;
        let zero: Hash = [0; 32];
        let chain: i64 = diesel::insert_into(audit_chain::table)
            .values((
                audit_chain::process.eq(&self.process),
                audit_chain::opened_ms.eq(now.timestamp_millis()),
                audit_chain::lease_until_ms.eq((now + LEASE).timestamp_millis()),
                audit_chain::head_seq.eq(0_i64),
                audit_chain::head_link.eq(zero.to_vec()),
                audit_chain::closed.eq(false),
            ))
            .returning(audit_chain::id)
            .get_result(conn)?;
        self.head = Some(Head { chain, seq: 0, link: zero });
        let opened = AuditContent::ChainOpened {
            process: self.process.clone(),
            newest_checkpoint: newest.as_ref().map(|c| c.number),
            newest_checkpoint_hash: newest.as_ref().map(|c| hex(&c.hash)),
        };
        self.append(conn, now, &opened)?;
        Ok(())
    }

    fn append(&mut self, conn: &mut Conn, at: DateTime<Utc>, content: &AuditContent) -> Result<(), StoreError> {
        let Some(head) = self.head else { return Err(StoreError::Corrupt("no open audit chain")) };
        self.head = Some(insert(conn, head, at, content)?);
        Ok(())
    }

    /// Writes the head beside the chain, once for all rows of the transaction.
    pub(super) fn store_head(&self, conn: &mut Conn) -> Result<(), StoreError> {
        match self.head {
            Some(head) => write_head(conn, head, false),
            None => Ok(()),
        }
    }

    /// Appends the last record.
    pub(super) fn close(&mut self, conn: &mut Conn, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.renew(conn, now)?;
        self.append(conn, now, &AuditContent::ChainClosed { by: self.process.clone() })?;
        if let Some(head) = self.head.take() {
            write_head(conn, head, true)?;
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// Appends a security event; it is durable when the change is.
    ///
    /// # Errors
    /// [`StoreError`] when the row can't be written; the change must then fail.
    pub fn append_audit(&mut self, at: DateTime<Utc>, event: RequestEvent) -> Result<(), StoreError> {
        self.chain.append(self.conn, at, &AuditContent::Request(Box::new(event)))
    }

    /// [`Tx::append_audit`] of a change that nobody's request made.
    ///
    /// # Errors
    /// [`StoreError`] when the row can't be written; the change must then fail.
    pub fn append_system_audit(&mut self, at: DateTime<Utc>, event: SystemEvent) -> Result<(), StoreError> {
        self.chain.append(self.conn, at, &AuditContent::System(Box::new(event)))
    }
}

fn insert(conn: &mut Conn, head: Head, at: DateTime<Utc>, content: &AuditContent) -> Result<Head, StoreError> {
    let bytes =
        serde_json::to_vec(content).map_err(|_| StoreError::Database("an audit record could not be encoded"))?;
    let (seq, recorded_ms) = (head.seq + 1, at.timestamp_millis());
    let hash = content_hash(FORMAT_VERSION, recorded_ms, &bytes);
    let linked = link(&head.link, head.chain, seq, &hash);
    let columns = SearchColumns::of(content);
    diesel::insert_into(audit_event::table)
        .values((
            (
                audit_event::month.eq(month_of(at)),
                audit_event::chain.eq(head.chain),
                audit_event::seq.eq(seq),
                audit_event::format_version.eq(FORMAT_VERSION),
                audit_event::recorded_ms.eq(recorded_ms),
                audit_event::content.eq(bytes),
                audit_event::content_hash.eq(hash.to_vec()),
                audit_event::link.eq(linked.to_vec()),
            ),
            columns,
        ))
        .execute(conn)?;
    Ok(Head { chain: head.chain, seq, link: linked })
}

fn write_head(conn: &mut Conn, head: Head, closed: bool) -> Result<(), StoreError> {
    diesel::update(audit_chain::table.find(head.chain))
        .set((
            audit_chain::head_seq.eq(head.seq),
            audit_chain::head_link.eq(head.link.to_vec()),
            audit_chain::closed.eq(closed),
        ))
        .execute(conn)?;
    Ok(())
}

/// Closes the chains of processes whose lease is over, each by a last record; returns how many.
pub(super) fn close_dead_chains(conn: &mut Conn, now: DateTime<Utc>, by: &str) -> Result<usize, StoreError> {
    let over = audit_chain::lease_until_ms.lt(now.timestamp_millis());
    let dead: Vec<i64> = audit_chain::table
        .filter(audit_chain::closed.eq(false).and(over))
        .order(audit_chain::id)
        .select(audit_chain::id)
        .load(conn)?;
    let mut closed = 0;
    for chain in dead {
        // Taken in one statement: a process that was only slow renews its lease before this, or finds its chain closed.
        let head: Option<(i64, Vec<u8>)> =
            diesel::update(audit_chain::table.find(chain).filter(audit_chain::closed.eq(false).and(over)))
                .set(audit_chain::closed.eq(true))
                .returning((audit_chain::head_seq, audit_chain::head_link))
                .get_result(conn)
                .optional()?;
        if let Some((seq, link)) = head {
            let head = Head { chain, seq, link: hash_of(&link)? };
            let head = insert(conn, head, now, &AuditContent::ChainClosed { by: by.to_owned() })?;
            write_head(conn, head, true)?;
            closed += 1;
        }
    }
    Ok(closed)
}

/// `yyyymm` of an instant, UTC.
pub fn month_of(at: DateTime<Utc>) -> i32 {
    at.year() * 100 + i32::try_from(at.month()).unwrap_or(1)
}

fn hash_of(bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("audit_chain.head_link"))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What auditors search by; derived from the content, and derived again when the audit is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Insertable, Queryable)]
#[diesel(table_name = audit_event)]
pub struct SearchColumns {
    pub patient: Option<String>,
    pub agent: Option<String>,
    pub agent_name: Option<String>,
    pub agent_role: Option<String>,
    pub organization: Option<String>,
    pub site: Option<String>,
    pub action: Option<String>,
    pub outcome: Option<String>,
    pub event_type: String,
    pub subtype: String,
    pub request_id: Option<String>,
    pub entity: Option<String>,
}

impl SearchColumns {
    pub fn of(content: &AuditContent) -> Self {
        match content {
            AuditContent::ChainOpened { .. } => Self::of_chain("110120"),
            AuditContent::ChainClosed { .. } => Self::of_chain("110121"),
            AuditContent::Request(event) => Self::of_request(event),
            AuditContent::System(event) => Self::of_system(event),
        }
    }

    fn of_system(event: &SystemEvent) -> Self {
        Self {
            patient: event.patient.map(|number| number.as_str().to_owned()),
            agent: Some(event.by.clone()),
            action: Some(Interaction::Update.action().to_string()),
            outcome: Some(Outcome::Success.code().to_owned()),
            event_type: "110100".to_owned(),
            subtype: Interaction::Update.code().to_owned(),
            entity: event.entity.as_ref().map(|e| format!("{}/{}", e.resource, e.id)),
            ..Self::default()
        }
    }

    fn of_chain(subtype: &str) -> Self {
        Self { event_type: "110100".to_owned(), subtype: subtype.to_owned(), ..Self::default() }
    }

    fn of_request(event: &RequestEvent) -> Self {
        let (agent, name, role, site) = match &event.agent.author {
            Author::Person(user) => (user.sds_user_id.clone(), user.name.clone(), user.job_role_code.clone(), None),
            Author::Device { responsible, site } => (
                event.agent.client_id.clone(),
                responsible.name.clone(),
                responsible.role_code.clone(),
                site.as_ref().map(|s| s.as_str().to_owned()),
            ),
            Author::System => (event.agent.client_id.clone(), event.agent.client_id.clone(), None, None),
        };
        Self {
            patient: event.patient.map(|n| n.as_str().to_owned()),
            agent: Some(agent),
            agent_name: Some(name.to_lowercase()),
            agent_role: role.or_else(|| Some(event.agent.role.code().to_owned())),
            organization: Some(event.agent.organization.as_str().to_owned()),
            site,
            action: Some(event.interaction.action().to_string()),
            outcome: Some(event.outcome.code().to_owned()),
            event_type: "rest".to_owned(),
            subtype: event.interaction.code().to_owned(),
            request_id: Some(event.request_id.clone()),
            entity: event.entity.as_ref().map(|e| format!("{}/{}", e.resource, e.id)),
        }
    }
}

type Backend = <Conn as diesel::Connection>::Backend;
type Within<'a> = Box<dyn BoxableExpression<audit_event::table, Backend, SqlType = diesel::sql_types::Bool> + 'a>;

macro_rules! filtered {
    ($search:expr) => {{
        let search: &AuditSearch = $search;
        let mut query = audit_event::table.into_boxed();
        if let Some(patient) = &search.patient {
            query = query.filter(audit_event::patient.eq(patient.as_str().to_owned()));
        }
        if let Some(spans) = &search.recorded {
            // At most as many as the caller sent dates; usually one.
            let outside = audit_event::recorded_ms.lt(i64::MIN);
            let mut within: Within<'_> = Box::new(outside);
            for span in spans {
                let one = audit_event::recorded_ms.ge(span.from_ms).and(audit_event::recorded_ms.lt(span.before_ms));
                within = Box::new(within.or(one));
            }
            query = query.filter(within);
        }
        if let Some(ids) = &search.ids {
            query = query.filter(audit_event::id.eq_any(ids.clone()));
        }
        if !search.actions.is_empty() {
            query = query.filter(audit_event::action.eq_any(search.actions.clone()));
        }
        if !search.outcomes.is_empty() {
            query = query.filter(audit_event::outcome.eq_any(search.outcomes.clone()));
        }
        if !search.subtypes.is_empty() {
            query = query.filter(audit_event::subtype.eq_any(search.subtypes.clone()));
        }
        if let Some(newest) = search.heads.iter().map(|(chain, _)| *chain).max() {
            query = query.filter(audit_event::chain.le(newest));
        }
        for (chain, seq) in &search.heads {
            query = query.filter(audit_event::chain.ne(*chain).or(audit_event::seq.le(*seq)));
        }
        query
    }};
}

/// Heads of the open chains, and the newest chain: what the first page of a search counts (design 3, paging).
/// A closed chain has no later rows, so it needs no mark; the newest chain's id bounds those opened later.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn committed_heads(conn: &mut Conn) -> Result<Vec<(i64, i64)>, StoreError> {
    let newest = diesel::dsl::max(audit_chain::id);
    let newest: Option<i64> = audit_chain::table.select(newest).first(conn)?;
    let heads = audit_chain::table
        .filter(audit_chain::closed.eq(false).or(audit_chain::id.nullable().eq(newest)))
        .order(audit_chain::id)
        .select((audit_chain::id, audit_chain::head_seq))
        .load(conn)?;
    Ok(heads)
}

type Row = (i32, i64, i64, i64, i64, Vec<u8>);
type Columns = (
    audit_event::month,
    audit_event::id,
    audit_event::chain,
    audit_event::seq,
    audit_event::recorded_ms,
    audit_event::content,
);

const COLUMNS: Columns = (
    audit_event::month,
    audit_event::id,
    audit_event::chain,
    audit_event::seq,
    audit_event::recorded_ms,
    audit_event::content,
);

/// A page of the security audit in the order asked for: at most `limit` rows.
///
/// # Errors
/// [`StoreError::Corrupt`] when a row's content can't be read.
pub fn search(conn: &mut Conn, search: &AuditSearch, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
    let mut query = filtered!(search).limit(limit);
    if let Some(below) = search.below_id {
        query = query.filter(audit_event::id.lt(below));
    }
    if let Some(above) = search.above_id {
        query = query.filter(audit_event::id.gt(above));
    }
    query = if search.oldest_first { query.order(audit_event::id.asc()) } else { query.order(audit_event::id.desc()) };
    let rows: Vec<Row> = query.select(COLUMNS).load(conn)?;
    rows.into_iter().map(row).collect()
}

/// How many rows the search has over all its pages.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn count(conn: &mut Conn, search: &AuditSearch) -> Result<i64, StoreError> {
    Ok(filtered!(search).count().get_result(conn)?)
}

/// One row by its key.
///
/// # Errors
/// [`StoreError::Corrupt`] when its content can't be read.
pub fn find(conn: &mut Conn, month: i32, id: i64) -> Result<Option<AuditRow>, StoreError> {
    let found = audit_event::table
        .filter(audit_event::month.eq(month).and(audit_event::id.eq(id)))
        .select(COLUMNS)
        .first(conn)
        .optional()?;
    found.map(row).transpose()
}

fn row((month, id, chain, seq, ms, content): Row) -> Result<AuditRow, StoreError> {
    let content = serde_json::from_slice(&content).map_err(|_| StoreError::Corrupt("audit_event.content"))?;
    Ok(AuditRow { month, id, chain, seq, recorded: from_millis(ms), content })
}

/// A row as verification reads it: nothing interpreted.
#[derive(Queryable)]
pub struct StoredRow {
    pub id: i64,
    pub seq: i64,
    pub format_version: i64,
    pub recorded_ms: i64,
    pub content: Vec<u8>,
    pub content_hash: Vec<u8>,
    pub link: Vec<u8>,
    pub month: i32,
    pub columns: SearchColumns,
}

/// At most `limit` rows of a chain after `seq`, in chain order; for verification.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn chain_rows(conn: &mut Conn, chain: i64, after_seq: i64, limit: i64) -> Result<Vec<StoredRow>, StoreError> {
    Ok(audit_event::table
        .filter(audit_event::chain.eq(chain).and(audit_event::seq.gt(after_seq)))
        .order(audit_event::seq)
        .limit(limit)
        .select((
            audit_event::id,
            audit_event::seq,
            audit_event::format_version,
            audit_event::recorded_ms,
            audit_event::content,
            audit_event::content_hash,
            audit_event::link,
            audit_event::month,
            (
                audit_event::patient,
                audit_event::agent,
                audit_event::agent_name,
                audit_event::agent_role,
                audit_event::organization,
                audit_event::site,
                audit_event::action,
                audit_event::outcome,
                audit_event::event_type,
                audit_event::subtype,
                audit_event::request_id,
                audit_event::entity,
            ),
        ))
        .load(conn)?)
}

/// A chain as its process left it.
#[derive(Queryable)]
pub struct StoredChain {
    pub id: i64,
    pub head_seq: i64,
    pub head_link: Vec<u8>,
    pub closed: bool,
}

/// Every chain, in order; for verification.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn chains(conn: &mut Conn) -> Result<Vec<StoredChain>, StoreError> {
    Ok(audit_chain::table
        .order(audit_chain::id)
        .select((audit_chain::id, audit_chain::head_seq, audit_chain::head_link, audit_chain::closed))
        .load(conn)?)
}

/// How many rows lie where no walk along a chain comes by.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn rows_outside_chains(conn: &mut Conn) -> Result<i64, StoreError> {
    let of_a_chain = diesel::dsl::exists(audit_chain::table.filter(audit_chain::id.eq(audit_event::chain)));
    let outside = audit_event::table.filter(audit_event::seq.lt(1).or(diesel::dsl::not(of_a_chain)));
    Ok(outside.count().get_result(conn)?)
}
