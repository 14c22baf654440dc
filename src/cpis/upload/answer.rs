//! What became of an upload, in a form that every door renders, and as it is kept: an answer that is repeated is made
//! from the same thing as the first one.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    cpis::types::{
        NhsNumber, Organization, ShownPlan,
        child::AuthorityChild,
        upload::{FileCode, Problem, ProblemKind, RecordCode, Warning},
    },
    store::{StoreError, upload::KeptRecord},
};

/// What became of an upload. When this exists, effect and audit are durable.
#[derive(Clone, Debug)]
pub struct Applied {
    pub id: Uuid,
    pub code: FileCode,
    /// Why a file was not judged: CPF01 only. Plain English, never a value that was sent.
    pub reason: Option<String>,
    pub organization: Option<Result<LoadedOrganization, Problem>>,
    /// In the order of the file. In a refused transaction the records that were good are not stored either.
    pub records: Vec<Result<LoadedRecord, Vec<Problem>>>,
    /// False when a transaction was refused: nothing is stored.
    pub stored: bool,
    /// The same file was answered before: this is that answer.
    pub repeated: bool,
}

/// The authority after its own entry was applied.
#[derive(Clone, Debug)]
pub struct LoadedOrganization {
    pub organization: Organization,
    /// [`Change::Updated`] or [`Change::Unchanged`].
    pub change: Change,
}

/// A record that was loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadedRecord {
    pub entries: Vec<LoadedEntry>,
    pub warnings: Vec<Warning>,
}

/// What one entry of a loaded record did.
#[derive(Clone, Debug)]
pub struct LoadedEntry {
    pub entry: usize,
    pub change: Change,
    pub of: LoadedRef,
    pub version: i64,
    /// When the owner's view of that version last changed, as at the answer.
    pub modified: DateTime<Utc>,
    /// What it now is, if it was applied at once; of others see `Gateway::loaded_resource`.
    pub resource: Option<LoadedResource>,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadedRef {
    Child(NhsNumber),
    Plan(Uuid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Created,
    Updated,
    Unchanged,
    Deleted,
    /// It was deleted before.
    AlreadyDeleted,
}

#[derive(Clone, Debug)]
pub enum LoadedResource {
    Child(Box<AuthorityChild>),
    Plan(Box<ShownPlan>),
}

/// Why an upload came to no answer that is final. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotApplied {
    /// CPF01, with the reason.
    Refused(String),
    /// CPF05.
    Demographics,
    /// Another change of the authority took too long.
    Occupied,
    /// Its authority took it back.
    Cancelled,
    /// The service failed.
    Failed,
}

/// The final answer of an upload beside its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeptAnswer {
    Final {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        organization: Option<KeptOrganization>,
        stored: bool,
    },
    NotApplied(NotApplied),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeptOrganization {
    Loaded { change: Change, version: i64 },
    Refused(KeptProblem),
}

impl KeptAnswer {
    pub fn organization(judged: Option<&Result<LoadedOrganization, Problem>>) -> Option<KeptOrganization> {
        judged.map(|judged| match judged {
            Ok(loaded) => KeptOrganization::Loaded { change: loaded.change, version: loaded.organization.version },
            Err(problem) => KeptOrganization::Refused(problem.into()),
        })
    }

    pub fn write(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|_| StoreError::Database("an answer could not be encoded"))
    }

    pub fn read(kept: Option<&[u8]>) -> Result<Self, StoreError> {
        kept.and_then(|kept| serde_json::from_slice(kept).ok()).ok_or(StoreError::Corrupt("upload.answer"))
    }
}

/// The answer of one record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kept {
    Loaded {
        entries: Vec<KeptEntry>,
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        warnings: Vec<KeptWarning>,
    },
    Refused(Vec<KeptProblem>),
    /// It was good, but another record of its transaction was not.
    Undone,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptEntry {
    entry: usize,
    change: Change,
    of: LoadedRef,
    version: i64,
    modified_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptWarning {
    entry: usize,
    reason: String,
    element: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptProblem {
    entry: usize,
    code: String,
    kind: ProblemKind,
    reason: String,
    element: String,
}

impl From<&Problem> for KeptProblem {
    fn from(problem: &Problem) -> Self {
        Self {
            entry: problem.entry,
            code: problem.code.code().to_owned(),
            kind: problem.kind,
            reason: problem.reason.clone(),
            element: problem.element.to_owned(),
        }
    }
}

impl KeptProblem {
    pub fn read(self) -> Result<Problem, StoreError> {
        Ok(Problem {
            entry: self.entry,
            code: RecordCode::from_code(&self.code).ok_or(StoreError::Corrupt("upload_record.answer"))?,
            kind: self.kind,
            reason: self.reason,
            element: element(&self.element),
        })
    }
}

/// What a record of an undone transaction is kept with.
pub(super) fn undone() -> Result<String, StoreError> {
    written(&Kept::Undone)
}

/// A record's answer as it is kept.
pub(super) fn write(outcome: &Result<LoadedRecord, Vec<Problem>>) -> Result<String, StoreError> {
    written(&match outcome {
        Ok(loaded) => {
            let entries = loaded.entries.iter().map(|entry| KeptEntry {
                entry: entry.entry,
                change: entry.change,
                of: entry.of.clone(),
                version: entry.version,
                modified_ms: entry.modified.timestamp_millis(),
            });
            let warnings = loaded.warnings.iter().map(|warning| KeptWarning {
                entry: warning.entry,
                reason: warning.reason.clone(),
                element: warning.element.to_owned(),
            });
            Kept::Loaded { entries: entries.collect(), warnings: warnings.collect() }
        }
        Err(problems) => Kept::Refused(problems.iter().map(KeptProblem::from).collect()),
    })
}

fn written(kept: &Kept) -> Result<String, StoreError> {
    serde_json::to_string(kept).map_err(|_| StoreError::Database("an answer could not be encoded"))
}

/// A record's answer as it was given. Of one of which nothing but the code is kept there is only that to tell.
pub(super) fn read(kept: &KeptRecord) -> Result<Result<LoadedRecord, Vec<Problem>>, StoreError> {
    let corrupt = || StoreError::Corrupt("upload_record.answer");
    let Some(answer) = &kept.answer else { return Ok(Err(vec![forgotten(kept.code)])) };
    Ok(match serde_json::from_str(answer).map_err(|_| corrupt())? {
        Kept::Loaded { entries, warnings } => {
            let entries = entries.into_iter().map(|entry| LoadedEntry {
                entry: entry.entry,
                change: entry.change,
                of: entry.of,
                version: entry.version,
                modified: crate::clock::from_millis(entry.modified_ms),
                resource: None,
            });
            let warnings = warnings.into_iter().map(|warning| Warning {
                entry: warning.entry,
                reason: warning.reason,
                element: element(&warning.element),
            });
            Ok(LoadedRecord { entries: entries.collect(), warnings: warnings.collect() })
        }
        Kept::Refused(problems) => Err(problems.into_iter().map(KeptProblem::read).collect::<Result<_, _>>()?),
        Kept::Undone => Ok(LoadedRecord::default()),
    })
}

/// The words for a sensitive record, the same however often it is answered: of the record itself nothing is kept.
pub(super) const SENSITIVE: &str = "The record of this NHS number is sensitive: nothing can be shared about it here.";

fn forgotten(code: RecordCode) -> Problem {
    let reason = match code {
        RecordCode::Cpr02 => SENSITIVE,
        _ => {
            "This record was refused when the file came first. What was wrong with it is not kept any more: send it \
              again in a new file to be told."
        }
    };
    Problem { entry: 0, code, kind: ProblemKind::Rule, reason: reason.to_owned(), element: "" }
}

/// Most elements that problems name; there are a few dozen.
const ELEMENTS: usize = 1024;

/// The one copy of an element's name: problems name elements by constants, which a name that was kept becomes again.
fn element(name: &str) -> &'static str {
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    if name.is_empty() {
        return "";
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    match known.get(name) {
        Some(found) => found,
        // What is kept was a constant once; a store that somebody wrote into must not fill the memory all the same.
        None if known.len() >= ELEMENTS => "",
        None => {
            let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
            known.insert(name);
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(answer: Option<String>, code: RecordCode) -> KeptRecord {
        KeptRecord { position: 0, code, nhs_number: None, reason: None, answer, form: None }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let modified = "2026-11-23T12:00:00.123Z".parse().unwrap();
        let entry = |entry, change, of| LoadedEntry { entry, change, of, version: 3, modified, resource: None };
        let number = NhsNumber::parse("9990000018").unwrap();
        let loaded = LoadedRecord {
            entries: vec![
                entry(0, Change::Unchanged, LoadedRef::Child(number)),
                entry(2, Change::AlreadyDeleted, LoadedRef::Plan(Uuid::from_u128(7))),
            ],
            warnings: vec![Warning { entry: 2, reason: "Send its end.".to_owned(), element: "period.end" }],
        };
        let read_back = read(&kept(Some(write(&Ok(loaded.clone())).unwrap()), RecordCode::Cpr06)).unwrap();
        assert_eq!(format!("{read_back:?}"), format!("{:?}", Ok::<_, Vec<Problem>>(loaded)));
        let problems = vec![Problem {
            entry: 1,
            code: RecordCode::Cpr03,
            kind: ProblemKind::Several,
            reason: "Correct them.".to_owned(),
            element: "identifier",
        }];
        let read_back = read(&kept(Some(write(&Err(problems.clone())).unwrap()), RecordCode::Cpr03)).unwrap();
        assert_eq!(read_back.unwrap_err(), problems);
        assert!(read(&kept(Some(undone().unwrap()), RecordCode::Cpr07)).unwrap().unwrap().entries.is_empty());
    }

    #[test]
    fn what_is_not_kept_any_more_still_has_its_code() {
        for code in [RecordCode::Cpr02, RecordCode::Cpr05] {
            let told = read(&kept(None, code)).unwrap().unwrap_err();
            assert_eq!(told.iter().map(|problem| problem.code).collect::<Vec<_>>(), [code]);
        }
        assert!(read(&kept(Some("{}".to_owned()), RecordCode::Cpr07)).is_err());
    }
}
