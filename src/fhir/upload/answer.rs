//! Answers an upload: what became of each entry, the record code of each, the file code of the whole (design 6).

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{
    bundle::{BundleKind, EntryIssue, coded},
    layout::Frame,
};
use crate::{
    cpis::types::upload::{FileCode, Problem, ProblemKind, RecordCode, Warning},
    fhir::{
        datatype::{Coding, Meta},
        outcome::{self, Issue, IssueCode, Severity, SpineCode, operation_outcome},
        resource::{Bundle, BundleEntry, BundleEntryResponse, OperationOutcome},
        system,
    },
};

/// What is told of an entry that has no fault of its own.
pub const REFUSED_WITH_ANOTHER: &str =
    "Nothing of this child's record was stored, because another of its entries was refused.";

/// What became of an entry that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Created,
    Updated,
    /// As stored before: no new version.
    Unchanged,
    Deleted,
    AlreadyDeleted,
}

/// The resource of an entry that was loaded. No `Debug`: the id of a Patient is its NHS number.
#[derive(Clone, PartialEq, Eq)]
pub struct Loaded {
    pub stored: Stored,
    /// Type and id, such as `Flag/{id}`.
    pub reference: String,
    pub version: i64,
    /// When that version was recorded.
    pub modified: DateTime<Utc>,
}

/// A problem as an issue. `root` is where the resource is: its type, or `Bundle.entry[3].resource`.
pub fn problem_issue(problem: &Problem, root: &str) -> Issue {
    let (code, spine) = match problem.kind {
        ProblemKind::Rule => (IssueCode::BusinessRule, SpineCode::InvalidValue),
        ProblemKind::Version => (IssueCode::Conflict, SpineCode::ResourceVersionMismatch),
        ProblemKind::Several => (IssueCode::MultipleMatches, SpineCode::ResourceVersionMismatch),
        ProblemKind::OtherId => (IssueCode::Invariant, SpineCode::InvalidValue),
        ProblemKind::NotFound => (IssueCode::NotFound, SpineCode::ResourceNotFound),
        ProblemKind::Gone => (IssueCode::Deleted, SpineCode::ResourceNotFound),
    };
    let at = if problem.element.is_empty() { root.to_owned() } else { format!("{root}.{}", problem.element) };
    let issue = Issue::error(code, spine, problem.reason.clone()).at(at);
    // What R4 itself asks of an id is no rule of CP-IS.
    if problem.kind == ProblemKind::OtherId { issue } else { issue.with_record_code(problem.code) }
}

/// HTTP status of a refused single interaction.
pub fn single_status(issues: &[Issue]) -> u16 {
    let any = |code| issues.iter().any(|issue| issue.code == code);
    if issues.iter().any(|issue| !issue.is_profile()) {
        400
    } else if any(IssueCode::NotFound) {
        404
    } else if any(IssueCode::Deleted) {
        410
    } else if issues.iter().any(is_version) {
        412
    } else {
        422
    }
}

/// HTTP status of a refused transaction: 400 if an entry isn't valid R4, else 412, else 422.
pub fn transaction_status(issues: &[EntryIssue]) -> u16 {
    if issues.iter().any(|told| !told.issue.is_profile()) {
        400
    } else if issues.iter().any(|told| is_version(&told.issue)) {
        412
    } else {
        422
    }
}

fn is_version(issue: &Issue) -> bool {
    issue.spine == SpineCode::ResourceVersionMismatch
}

/// The answer to a refused transaction: every issue, and the file code in `meta.tag`.
pub fn refused_transaction(issues: &[EntryIssue], code: FileCode) -> OperationOutcome {
    let issues: Vec<Issue> = issues.iter().map(|told| told.issue.clone()).collect();
    OperationOutcome { meta: Some(tagged(code)), ..operation_outcome(&issues) }
}

/// The answer to a file that was not judged: its issues with the file code (CPF01 for a body that is no usable upload,
/// CPF05 when numbers can't be verified) beside the Spine code and in `meta.tag`.
pub fn unjudged_outcome(issues: &[Issue], code: FileCode) -> OperationOutcome {
    let mut outcome = OperationOutcome { meta: Some(tagged(code)), ..operation_outcome(issues) };
    for details in outcome.issue.iter_mut().filter_map(|issue| issue.details.as_mut()) {
        details.coding.push(file_code(code));
    }
    outcome
}

/// What is told about an entry that was loaded: CPR06, then the warnings with `root` as in [`problem_issue`].
pub fn loaded_outcome(stored: Stored, warnings: &[Warning], root: &str) -> OperationOutcome {
    let words = match stored {
        Stored::Created | Stored::Updated => "The record was loaded.",
        Stored::Unchanged => "The record was loaded before and has not changed.",
        Stored::Deleted => "The plan was deleted.",
        Stored::AlreadyDeleted => "The plan was deleted before.",
    };
    let warnings: Vec<Issue> = warnings.iter().map(|warning| warning_issue(warning, root)).collect();
    let mut told = operation_outcome(&warnings);
    told.issue.insert(0, outcome::loaded(words));
    told
}

fn warning_issue(warning: &Warning, root: &str) -> Issue {
    let at = if warning.element.is_empty() { root.to_owned() } else { format!("{root}.{}", warning.element) };
    let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, warning.reason.clone()).at(at);
    Issue { severity: Severity::Warning, ..issue }
}

fn file_code(code: FileCode) -> Coding {
    Coding::displayed(system::FILE_RESPONSE, code.code(), code.display())
}

fn tagged(code: FileCode) -> Meta {
    Meta { tag: vec![file_code(code)], ..Meta::default() }
}

impl Frame {
    /// Where an entry's resource is, for expressions; the entry itself when it has none.
    fn root(&self, entry: usize) -> String {
        let has_resource = self.shape(entry).is_some_and(|shape| shape.has_resource);
        format!("Bundle.entry[{entry}]{}", if has_resource { ".resource" } else { "" })
    }

    /// Problems of a judged record as issues of this Bundle.
    pub fn problems(&self, problems: &[Problem]) -> Vec<EntryIssue> {
        let issue = |problem: &Problem| {
            let root = self.root(problem.entry);
            // An entry without a resource has no elements to point at.
            let element = if root.ends_with(".resource") { problem.element } else { "" };
            let issue = coded(self.kind, problem_issue(&Problem { element, ..problem.clone() }, &root));
            EntryIssue { entry: problem.entry, issue }
        };
        problems.iter().map(issue).collect()
    }

    /// The answer to an entry that was loaded; of `warnings` those of this entry.
    pub fn loaded(&self, entry: usize, loaded: &Loaded, warnings: &[Warning]) -> BundleEntryResponse {
        let is_delete = self.shape(entry).is_some_and(|shape| shape.is_delete);
        let status = match loaded.stored {
            Stored::Created => "201 Created",
            _ if is_delete => "204 No Content",
            _ => "200 OK",
        };
        let warnings: Vec<Warning> = warnings.iter().filter(|warning| warning.entry == entry).cloned().collect();
        let there = matches!(loaded.stored, Stored::Created | Stored::Updated | Stored::Unchanged);
        BundleEntryResponse {
            status: status.to_owned(),
            location: there.then(|| format!("{}/_history/{}", loaded.reference, loaded.version)),
            etag: there.then(|| format!("W/\"{}\"", loaded.version)),
            last_modified: Some(loaded.modified.into()),
            outcome: Some(loaded_outcome(loaded.stored, &warnings, &self.root(entry)).into()),
        }
    }

    /// The answers to all entries of a refused record: 422 each, 412 where `If-Match` failed.
    pub fn refused(&self, entries: &[usize], issues: &[EntryIssue]) -> Vec<(usize, BundleEntryResponse)> {
        entries.iter().map(|entry| (*entry, self.refused_entry(*entry, issues))).collect()
    }

    fn refused_entry(&self, entry: usize, issues: &[EntryIssue]) -> BundleEntryResponse {
        let mut own: Vec<Issue> =
            issues.iter().filter(|told| told.entry == entry).map(|told| told.issue.clone()).collect();
        let version = own.iter().any(is_version);
        if own.is_empty() {
            let codes = issues.iter().filter_map(|told| told.issue.cpr);
            let code = RecordCode::standing_for(codes).unwrap_or(RecordCode::Cpr07);
            let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, REFUSED_WITH_ANOTHER);
            own.push(issue.with_record_code(code).at(self.root(entry)));
        }
        let status = if version { "412 Precondition Failed" } else { "422 Unprocessable Entity" };
        let outcome = Some(operation_outcome(&own).into());
        BundleEntryResponse { status: status.to_owned(), outcome, ..BundleEntryResponse::default() }
    }

    /// The response Bundle: an answer for each entry, in the order of the request, and the file code in `meta.tag`. An
    /// entry without an answer counts as refused, so that each answer stands at its entry's place.
    pub fn response(&self, answers: Vec<(usize, BundleEntryResponse)>, code: FileCode) -> Bundle {
        let mut answers: HashMap<usize, BundleEntryResponse> = answers.into_iter().collect();
        let kind = match self.kind {
            BundleKind::Batch => "batch-response",
            BundleKind::Transaction => "transaction-response",
        };
        let answer = |entry: usize| {
            let response = answers.remove(&entry).unwrap_or_else(|| self.refused_entry(entry, &[]));
            BundleEntry { response: Some(response), ..BundleEntry::default() }
        };
        Bundle {
            meta: Some(tagged(code)),
            kind: kind.to_owned(),
            entry: (0..self.entries()).map(answer).collect(),
            ..Bundle::default()
        }
    }
}
