//! Where the entries of an upload Bundle lie: all that its answer needs of the Bundle itself, so that it can be answered
//! when the Bundle is gone. The rules number the entries of a record within it, the same for every door: the child is 0,
//! its n-th plan is n.

use openssl::sha::Sha256;
use serde::{Deserialize, Serialize};

use super::bundle::{BundleKind, EntryIssue, UploadBundle, UploadRecord};
use crate::cpis::types::upload::{
    ChildChange, PlanChange, Problem, ProblemKind, ReadRecord, RecordChange, RecordCode, SUBJECT_ENTRY,
    UnreadableRecord,
};

/// What an entry was, as far as its answer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryShape {
    pub has_resource: bool,
    pub is_delete: bool,
}

/// The entries of a Bundle, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub kind: BundleKind,
    /// A character an entry: whether it has a resource, and whether it is a delete.
    shapes: String,
}

impl Frame {
    pub(super) fn new(kind: BundleKind, shapes: Vec<EntryShape>) -> Self {
        let code = |shape: EntryShape| match (shape.has_resource, shape.is_delete) {
            (false, false) => '-',
            (true, false) => 'r',
            (false, true) => 'd',
            (true, true) => 'b',
        };
        Self { kind, shapes: shapes.into_iter().map(code).collect() }
    }

    /// How many entries the Bundle has.
    pub fn entries(&self) -> usize {
        self.shapes.len()
    }

    pub(super) fn shape(&self, entry: usize) -> Option<EntryShape> {
        let code = self.shapes.as_bytes().get(entry)?;
        Some(EntryShape { has_resource: matches!(code, b'r' | b'b'), is_delete: matches!(code, b'd' | b'b') })
    }
}

/// The entries of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLayout {
    /// Their positions in the Bundle, rising.
    pub entries: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    child: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    plans: Vec<usize>,
    /// Why the record could not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unreadable: Option<Vec<EntryIssue>>,
}

impl RecordLayout {
    /// The position in the Bundle of an entry of the record.
    pub fn position(&self, entry: usize) -> usize {
        let first = || self.entries.first().copied().unwrap_or_default();
        match entry.checked_sub(SUBJECT_ENTRY + 1) {
            None => self.child.unwrap_or_else(first),
            Some(plan) => self.plans.get(plan).copied().unwrap_or_else(first),
        }
    }

    /// The problem with its entry's position in the Bundle.
    pub fn placed(&self, problem: &Problem) -> Problem {
        Problem { entry: self.position(problem.entry), ..problem.clone() }
    }
}

impl UploadRecord {
    /// Where its entries lie.
    pub fn layout(&self) -> RecordLayout {
        let entries = self.entries.clone();
        match &self.content {
            Ok(change) => {
                let child = change.child.as_ref().map(|child| child.entry);
                let mut plans: Vec<usize> = change.plans.iter().map(|plan| plan.entry).collect();
                plans.sort_unstable();
                RecordLayout { entries, child, plans, unreadable: None }
            }
            Err(issues) => RecordLayout { entries, child: None, plans: Vec::new(), unreadable: Some(issues.clone()) },
        }
    }
}

impl UploadBundle {
    /// A record of this Bundle as every door delivers it.
    pub fn record(&self, record: &UploadRecord) -> ReadRecord {
        match &record.content {
            Ok(change) => ReadRecord::Change(numbered(change)),
            Err(issues) => ReadRecord::Unreadable(UnreadableRecord {
                nhs_number: record.nhs_number,
                problems: issues.iter().map(unread).collect(),
                digest: self.digest_of(record),
            }),
        }
    }

    fn digest_of(&self, record: &UploadRecord) -> [u8; 32] {
        let mut sha = Sha256::new();
        for digest in record.entries.iter().filter_map(|entry| self.digests.get(*entry)) {
            sha.update(digest);
        }
        sha.finish()
    }
}

/// The record with its entries numbered within it.
fn numbered(change: &RecordChange) -> RecordChange {
    let mut plans: Vec<PlanChange> = change.plans.clone();
    plans.sort_by_key(|plan| plan.entry);
    for (number, plan) in plans.iter_mut().enumerate() {
        plan.entry = SUBJECT_ENTRY + 1 + number;
    }
    let child = change.child.clone().map(|child| ChildChange { entry: SUBJECT_ENTRY, ..child });
    RecordChange { nhs_number: change.nhs_number, child, plans }
}

/// What is wrong with a record that could not be read, for those who don't have the Bundle.
pub fn unread(told: &EntryIssue) -> Problem {
    Problem {
        entry: SUBJECT_ENTRY,
        code: told.issue.cpr.unwrap_or(RecordCode::Cpr07),
        kind: ProblemKind::Rule,
        reason: told.issue.diagnostics.clone(),
        element: "",
    }
}
