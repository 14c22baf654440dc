//! Signed checkpoints over the audit's chains: a cut tail or a rewritten past shows against them (design 5).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Conn, Store, StoreError, audit, lease,
    schema::{audit_chain, audit_checkpoint},
};

/// Name of the lease of the one process that writes checkpoints.
const LEASE: &str = "audit-checkpoint";
const LEASE_LENGTH: TimeDelta = TimeDelta::seconds(60);

/// Signs what a checkpoint says; the key lives outside the database.
pub trait Signer: Send + Sync {
    /// # Errors
    /// A text for the log when the key can't sign.
    fn sign(&self, content: &[u8]) -> Result<Vec<u8>, String>;
    /// Names the key.
    fn key_id(&self) -> String;
}

/// Head and count of one chain. Rows are numbered from 1 without a gap, so the count is the head's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    pub chain: i64,
    pub seq: i64,
    /// Hexadecimal.
    pub link: String,
    pub closed: bool,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointContent {
    pub number: i64,
    pub at: DateTime<Utc>,
    /// Hash of the checkpoint before, hexadecimal; none for the first.
    pub previous: Option<String>,
    /// Every open chain, and those closed since the checkpoint before.
    pub chains: Vec<ChainHead>,
}

/// A stored checkpoint. `hash` = SHA-256 of the content and the signature.
#[derive(Clone, Queryable)]
pub struct Checkpoint {
    pub number: i64,
    pub at_ms: i64,
    pub content: Vec<u8>,
    pub hash: Vec<u8>,
    pub signature: Vec<u8>,
    pub key_id: String,
}

/// Hash by which the next checkpoint names this one.
pub fn hash(content: &[u8], signature: &[u8]) -> audit::Hash {
    let mut sha = openssl::sha::Sha256::new();
    sha.update(content);
    sha.update(signature);
    sha.finish()
}

/// The newest checkpoint.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn newest(conn: &mut Conn) -> Result<Option<Checkpoint>, StoreError> {
    Ok(audit_checkpoint::table.order(audit_checkpoint::number.desc()).first(conn).optional()?)
}

/// At most `limit` checkpoints after `number`, in order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn after(conn: &mut Conn, number: i64, limit: i64) -> Result<Vec<Checkpoint>, StoreError> {
    Ok(audit_checkpoint::table
        .filter(audit_checkpoint::number.gt(number))
        .order(audit_checkpoint::number)
        .limit(limit)
        .load(conn)?)
}

impl CheckpointContent {
    /// # Errors
    /// [`StoreError::Corrupt`] when the stored content is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes).map_err(|_| StoreError::Corrupt("audit_checkpoint.content"))
    }
}

/// Writes a checkpoint if anything was audited since the last one, and closes the chains of dead processes.
/// `None` when there was nothing new, or another process holds the lease.
///
/// # Errors
/// [`StoreError`]; an error here is an alert and stops no look-up.
pub async fn write(
    store: &Store,
    signer: Arc<dyn Signer>,
    process: String,
    now: DateTime<Utc>,
) -> Result<Option<i64>, StoreError> {
    store
        .write(Vec::new(), move |tx| {
            if !lease::take(tx.conn, LEASE, &process, now, LEASE_LENGTH)? {
                return Ok(None);
            }
            audit::close_dead_chains(tx.conn, now, &process)?;
            // What this very commit appends belongs to the checkpoint too.
            tx.chain.store_head(tx.conn)?;
            append(tx.conn, &*signer, now)
        })
        .await
}

/// The checkpoint of a process that ends: its chain is closed by then. Passed over when another process holds the lease.
pub(super) fn write_last(
    conn: &mut Conn,
    signer: &dyn Signer,
    process: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if lease::take(conn, LEASE, process, now, LEASE_LENGTH)? {
        append(conn, signer, now)?;
        lease::release(conn, LEASE, process)?;
    } else {
        tracing::warn!("the last checkpoint is left to the process that holds its lease");
    }
    Ok(())
}

fn append(conn: &mut Conn, signer: &dyn Signer, now: DateTime<Utc>) -> Result<Option<i64>, StoreError> {
    let previous = newest(conn)?;
    let known = previous.as_ref().map(|c| CheckpointContent::parse(&c.content)).transpose()?;
    let known = known.map(|c| c.chains).unwrap_or_default();
    let chains = heads_since(conn, &known)?;
    if chains.iter().all(|head| known.contains(head)) {
        return Ok(None);
    }
    let number = previous.as_ref().map_or(1, |c| c.number + 1);
    let content = CheckpointContent { number, at: now, previous: previous.map(|c| audit::hex(&c.hash)), chains };
    let content =
        serde_json::to_vec(&content).map_err(|_| StoreError::Database("a checkpoint could not be encoded"))?;
    let signature = signer.sign(&content).map_err(StoreError::Unsigned)?;
    diesel::insert_into(audit_checkpoint::table)
        .values((
            audit_checkpoint::number.eq(number),
            audit_checkpoint::at_ms.eq(now.timestamp_millis()),
            audit_checkpoint::hash.eq(hash(&content, &signature).to_vec()),
            audit_checkpoint::content.eq(content),
            audit_checkpoint::signature.eq(signature),
            audit_checkpoint::key_id.eq(signer.key_id()),
        ))
        .execute(conn)?;
    Ok(Some(number))
}

/// Heads of the open chains, and of those that the last checkpoint had as open or did not know.
fn heads_since(conn: &mut Conn, known: &[ChainHead]) -> Result<Vec<ChainHead>, StoreError> {
    let newest_known = known.iter().map(|h| h.chain).max().unwrap_or(0);
    let open_then: Vec<i64> = known.iter().filter(|h| !h.closed).map(|h| h.chain).collect();
    let rows: Vec<(i64, i64, Vec<u8>, bool)> = audit_chain::table
        .filter(
            audit_chain::closed.eq(false).or(audit_chain::id.gt(newest_known)).or(audit_chain::id.eq_any(open_then)),
        )
        .order(audit_chain::id)
        .select((audit_chain::id, audit_chain::head_seq, audit_chain::head_link, audit_chain::closed))
        .load(conn)?;
    let head = |(chain, seq, link, closed): (i64, i64, Vec<u8>, bool)| ChainHead {
        chain,
        seq,
        link: audit::hex(&link),
        closed,
    };
    Ok(rows.into_iter().map(head).collect())
}
