//! Is the audit whole? Every chain is walked, every hash and link computed again, search columns and listing decisions
//! compared with what they were derived from, and all of it held against the signed checkpoints (design 5).

use std::collections::HashMap;

use super::types::{
    access::Access,
    audit::{AuditContent, RequestEvent},
};
use crate::store::{
    self, Conn, Store, StoreError,
    audit::{SearchColumns, StoredChain, StoredRow, content_hash, hex, link},
    checkpoint::{Checkpoint, CheckpointContent},
};

/// Rows read at a time.
const PAGE: i64 = 1000;
/// Findings that are told one by one; the rest are counted.
const MOST_TOLD: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub chain: Option<i64>,
    pub seq: Option<i64>,
    pub checkpoint: Option<i64>,
    pub what: &'static str,
}

impl Finding {
    fn anywhere(what: &'static str) -> Self {
        Self { chain: None, seq: None, checkpoint: None, what }
    }
}

/// What a verification saw.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    pub chains: u64,
    pub rows: u64,
    pub checkpoints: u64,
    /// Rows that no checkpoint covers yet: written since the newest one.
    pub not_yet_covered: u64,
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more_findings: u64,
}

impl Report {
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MOST_TOLD {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    fn in_row(&mut self, chain: i64, seq: i64, what: &'static str) {
        self.find(Finding { chain: Some(chain), seq: Some(seq), checkpoint: None, what });
    }

    fn in_checkpoint(&mut self, number: i64, what: &'static str) {
        self.find(Finding { chain: None, seq: None, checkpoint: Some(number), what });
    }
}

/// Checks a signature over a checkpoint's content, by the id of its key.
pub type VerifySignature<'a> = &'a dyn Fn(&str, &[u8], &[u8]) -> bool;

/// Verifies the whole audit. `progress` is told the number of rows seen so far.
///
/// # Errors
/// [`StoreError`] when the database can't be read; what is wrong with the audit is in the report.
pub fn verify(
    store: &Store,
    signature: VerifySignature<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    // Checkpoints first: what they say must be among the rows that are read after them.
    let checkpoints = verify_checkpoints(store, signature, &mut report)?;
    let covered = newest_heads(&checkpoints);
    // Then the history, for the same reason: what it holds now is listed in rows that are read after it.
    let history = store.read_blocking(store::access::extent)?;
    let mut seen = Seen { history, listed: 0 };
    let mut heads = HashMap::new();
    for stored in store.read_blocking(store::audit::chains)? {
        let StoredChain { id: chain, head_seq, head_link, closed } = stored;
        let walked = walk(store, chain, &checkpoints, &mut seen, &mut report, progress)?;
        // An open chain may grow while it is read; a closed one may not.
        if walked.seq < head_seq || (closed && walked.seq != head_seq) {
            report.in_row(chain, walked.seq, "the chain ends before the head that its process stored");
        } else if walked.seq == head_seq && walked.link.as_slice() != head_link.as_slice() {
            report.in_row(chain, walked.seq, "the chain's stored head is not its last row");
        }
        let covered_seq = covered.get(&chain).copied().unwrap_or(0);
        report.not_yet_covered += u64::try_from(walked.seq - covered_seq).unwrap_or(0);
        report.chains += 1;
        heads.insert(chain, walked.seq);
    }
    for (chain, seq) in covered {
        match heads.get(&chain) {
            None => report.in_row(chain, seq, "a checkpoint names a chain that is not there"),
            Some(walked) if *walked < seq => report.in_row(chain, seq, "rows that a checkpoint covers are missing"),
            Some(_) => {}
        }
    }
    if seen.listed < seen.history.rows {
        report.find(Finding::anywhere("the history holds an access that no event of the audit lists"));
    }
    if store.read_blocking(store::audit::rows_outside_chains)? > 0 {
        report.find(Finding::anywhere("there are rows that belong to no chain"));
    }
    Ok(report)
}

fn verify_checkpoints(
    store: &Store,
    signature: VerifySignature<'_>,
    report: &mut Report,
) -> Result<Vec<CheckpointContent>, StoreError> {
    let mut contents = Vec::new();
    let (mut number, mut previous): (i64, Option<String>) = (0, None);
    loop {
        let page: Vec<Checkpoint> = store.read_blocking(|conn| store::checkpoint::after(conn, number, PAGE))?;
        if page.is_empty() {
            return Ok(contents);
        }
        for checkpoint in page {
            if checkpoint.number != number + 1 {
                report.in_checkpoint(checkpoint.number, "checkpoints before this one are missing");
            }
            number = checkpoint.number;
            report.checkpoints += 1;
            if !signature(&checkpoint.key_id, &checkpoint.content, &checkpoint.signature) {
                report.in_checkpoint(number, "the signature is not by the key that is trusted");
            }
            let hash = store::checkpoint::hash(&checkpoint.content, &checkpoint.signature);
            if hash.as_slice() != checkpoint.hash.as_slice() {
                report.in_checkpoint(number, "the stored hash is not that of the content");
            }
            match CheckpointContent::parse(&checkpoint.content) {
                Ok(content) if content.number != number || content.previous != previous => {
                    report.in_checkpoint(number, "it does not follow the checkpoint before it");
                }
                Ok(content) => contents.push(content),
                Err(_) => report.in_checkpoint(number, "the content can't be read"),
            }
            previous = Some(hex(&hash));
        }
    }
}

/// The newest seq of each chain that a checkpoint names.
fn newest_heads(checkpoints: &[CheckpointContent]) -> HashMap<i64, i64> {
    let mut heads = HashMap::new();
    for head in checkpoints.iter().flat_map(|checkpoint| &checkpoint.chains) {
        let newest = heads.entry(head.chain).or_insert(0);
        *newest = head.seq.max(*newest);
    }
    heads
}

/// The history as it was when the walk began, and how many of its rows events have listed so far.
struct Seen {
    history: store::access::Extent,
    listed: i64,
}

/// Where a walk along a chain ended.
struct Walked {
    seq: i64,
    link: store::audit::Hash,
}

fn walk(
    store: &Store,
    chain: i64,
    checkpoints: &[CheckpointContent],
    seen: &mut Seen,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<Walked, StoreError> {
    let marks: HashMap<i64, &str> = checkpoints
        .iter()
        .flat_map(|checkpoint| &checkpoint.chains)
        .filter(|head| head.chain == chain)
        .map(|head| (head.seq, head.link.as_str()))
        .collect();
    let mut walked = Walked { seq: 0, link: [0; 32] };
    loop {
        let after = walked.seq;
        let page = store.read_blocking(|conn| store::audit::chain_rows(conn, chain, after, PAGE))?;
        if page.is_empty() {
            return Ok(walked);
        }
        for row in page {
            verify_row(chain, &row, &mut walked, report);
            if let Some(expected) = marks.get(&row.seq)
                && *expected != hex(&walked.link)
            {
                report.in_row(chain, row.seq, "it is not the row that a checkpoint was written over");
            }
            let wrong = match serde_json::from_slice(&row.content) {
                Ok(AuditContent::Request(event)) => {
                    store.read_blocking(|conn| verify_listing(conn, &event, row.recorded_ms, seen))?
                }
                Ok(AuditContent::ChainOpened { newest_checkpoint: Some(number), newest_checkpoint_hash, .. }) => {
                    store.read_blocking(|conn| verify_named(conn, number, newest_checkpoint_hash.as_deref()))?
                }
                _ => None,
            };
            if let Some(what) = wrong {
                report.in_row(chain, row.seq, what);
            }
            report.rows += 1;
        }
        progress(report.rows);
    }
}

fn verify_row(chain: i64, row: &StoredRow, walked: &mut Walked, report: &mut Report) {
    if row.seq != walked.seq + 1 {
        report.in_row(chain, row.seq, "rows before this one are missing");
    }
    let hash = content_hash(row.format_version, row.recorded_ms, &row.content);
    if hash.as_slice() != row.content_hash.as_slice() {
        report.in_row(chain, row.seq, "the content or its time was changed");
    }
    let linked = link(&walked.link, chain, row.seq, &row.content_hash);
    if linked.as_slice() != row.link.as_slice() {
        report.in_row(chain, row.seq, "the row is not linked to the one before it");
    }
    if store::audit::month_of(crate::clock::from_millis(row.recorded_ms)) != row.month {
        report.in_row(chain, row.seq, "the month is not that of its time");
    }
    match serde_json::from_slice::<AuditContent>(&row.content) {
        Ok(content) if SearchColumns::of(&content) != row.columns => {
            report.in_row(chain, row.seq, "what auditors search by was changed");
        }
        Ok(_) => {}
        Err(_) => report.in_row(chain, row.seq, "the content can't be read"),
    }
    *walked = Walked { seq: row.seq, link: linked };
}

/// Whether the checkpoint that a chain's first record names is there as it was then.
fn verify_named(conn: &mut Conn, number: i64, hash: Option<&str>) -> Result<Option<&'static str>, StoreError> {
    let stored = store::checkpoint::after(conn, number - 1, 1)?.into_iter().find(|found| found.number == number);
    Ok(match stored {
        None => Some("it names a checkpoint that is not there"),
        Some(found) if Some(hex(&found.hash).as_str()) != hash => {
            Some("it names another checkpoint than the stored one")
        }
        Some(_) => None,
    })
}

/// Compares history and outbox with the listing decision that the event holds.
fn verify_listing(
    conn: &mut Conn,
    event: &RequestEvent,
    recorded_ms: i64,
    seen: &mut Seen,
) -> Result<Option<&'static str>, StoreError> {
    let mut decided = Vec::new();
    for decision in event.listing.iter().filter(|decision| decision.listed) {
        match store::organization::find(conn, &decision.authority)? {
            Some(authority) => decided.push(authority.id),
            None => return Ok(Some("it lists an authority that is not there")),
        }
    }
    decided.sort_unstable();
    let Some(id) = event.access_id else {
        return Ok((!decided.is_empty()).then_some("it lists an access but names none"));
    };
    let Some(access) = store::access::find(conn, id)? else {
        return Ok(Some("the access that it lists is missing from the history"));
    };
    if access.sequence <= seen.history.newest {
        seen.listed += 1;
    }
    let listings = store::access::listings_of(conn, access.sequence)?;
    if !listings.iter().map(|listing| listing.authority).eq(decided.iter().copied()) {
        return Ok(Some("the history lists the access for other authorities"));
    }
    if listings.iter().any(|listing| listing.at != access.at) {
        return Ok(Some("the history lists the access at another time"));
    }
    let told = store::outbox::authorities_of(conn, access.sequence)?;
    if !are_told(conn, &decided, told)? {
        return Ok(Some("the outbox holds the access for other authorities"));
    }
    Ok((!is_of(&access, event, recorded_ms)).then_some("the access in the history is another one"))
}

/// Whether the outbox tells each authority that the access is listed for, or who has taken over from it, and nobody else.
fn are_told(conn: &mut Conn, decided: &[i64], mut told: Vec<i64>) -> Result<bool, StoreError> {
    if told == decided {
        return Ok(true);
    }
    let mut by_others = Vec::new();
    for authority in decided {
        match told.iter().position(|one| one == authority) {
            Some(place) => drop(told.swap_remove(place)),
            None => by_others.push(*authority),
        }
    }
    for authority in by_others {
        let mut successor = None;
        for (place, one) in told.iter().enumerate() {
            if store::succession::predecessors(conn, *one)?.contains(&authority) {
                successor = Some(place);
            }
        }
        match successor {
            Some(place) => drop(told.swap_remove(place)),
            None => return Ok(false),
        }
    }
    Ok(told.is_empty())
}

/// Whether a row of the history says what the event says: of whom, by whom, when, in which request.
fn is_of(access: &Access, event: &RequestEvent, recorded_ms: i64) -> bool {
    let (by, agent) = (&access.author, &event.agent);
    access.request_id == event.request_id
        && Some(access.nhs_number) == event.patient
        && access.at.timestamp_millis() == recorded_ms
        && by.author == agent.author
        && by.client_id == agent.client_id
        && by.organization == agent.organization
        && by.organization_name == agent.organization_name
}
