//! What is kept of an upload beside its effect: each record's answer, and the security audit. Of a restricted child
//! nothing is kept (design 6).

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{
    answer::{self, Change, LoadedEntry, LoadedOrganization, LoadedRecord, LoadedRef},
    apply::{SentRecord, UploadHead},
};
use crate::{
    cpis::types::{
        NhsNumber,
        audit::{EntityRef, Interaction, Outcome, QueryResult, RequestEvent},
        child::Trace,
        upload::{Door, PlanAction, PlanChange, Problem, ProblemKind, ReadRecord, RecordCode},
    },
    store::{StoreError, upload::KeptRecord},
};

/// Words for a record that was good, of a transaction that was refused.
pub(super) const UNDONE: &str = "Another record of the transaction was refused.";

/// What is kept of an upload beside its effect: answers and audit.
pub(super) struct Keeping<'a> {
    pub head: &'a UploadHead,
    pub traces: &'a HashMap<NhsNumber, Trace>,
    pub now: DateTime<Utc>,
    /// The answer is read again: what was loaded is kept with it.
    pub is_read_again: bool,
}

impl Keeping<'_> {
    /// Whether nothing of the child may be kept: its record is restricted and was refused, under whatever code.
    fn is_withheld(&self, number: &NhsNumber) -> bool {
        matches!(self.traces.get(number), Some(Trace::Restricted))
    }

    /// A record's answer; `undone` when its transaction was refused.
    pub fn record(
        &self,
        position: usize,
        sent: &SentRecord,
        outcome: &Result<LoadedRecord, Vec<Problem>>,
        undone: bool,
    ) -> Result<KeptRecord, StoreError> {
        let number = number_of(&sent.record);
        let mut kept = KeptRecord {
            position,
            code: RecordCode::Cpr06,
            nhs_number: None,
            reason: None,
            answer: Some(answer::write(outcome)?),
            form: sent.form.clone(),
        };
        match outcome {
            Ok(_) if !undone => {
                kept.answer = kept.answer.filter(|_| self.is_read_again);
                return Ok(kept);
            }
            Ok(_) => {
                kept.code = RecordCode::Cpr07;
                kept.reason = Some(UNDONE.to_owned());
                kept.answer = Some(answer::undone()?);
            }
            Err(problems) => {
                let reasons: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
                kept.code = code_of(problems);
                kept.reason = Some(reasons.join(" "));
            }
        }
        kept.nhs_number = number;
        if number.is_some_and(|number| self.is_withheld(&number)) {
            (kept.nhs_number, kept.reason, kept.answer) = (None, None, None);
        } else if number.is_none() {
            kept.reason = None;
        }
        Ok(kept)
    }

    /// The event of a record.
    pub fn record_event(
        &self,
        sent: &ReadRecord,
        outcome: &Result<LoadedRecord, Vec<Problem>>,
        undone: bool,
    ) -> RequestEvent {
        let interaction = match (sent, outcome) {
            (ReadRecord::Unreadable(_), _) => self.head.interaction,
            (_, Ok(loaded)) => interaction_of(loaded.entries.iter().map(|entry| entry.change)),
            (_, Err(_)) if self.head.door == Door::Interaction => self.head.interaction,
            (ReadRecord::Change(record), Err(_)) => interaction_of(record.plans.iter().map(asked_change)),
        };
        let mut event = event(self.head, interaction);
        event.patient = number_of(sent);
        match (sent, outcome) {
            (_, Ok(loaded)) if !undone => event.entity = loaded.entries.last().map(entity_of),
            // What a refused transaction made is undone: it has no id to be named by.
            (_, Ok(_)) | (ReadRecord::Unreadable(_), _) => self.refuse_record(&mut event, ProblemKind::Rule),
            (_, Err(problems)) => self.refuse_record(&mut event, kind_of(problems)),
        }
        event
    }

    fn refuse_record(&self, event: &mut RequestEvent, why: ProblemKind) {
        refuse(event, why);
        if event.patient.is_some_and(|number| self.is_withheld(&number)) {
            // Not even in the request's path.
            event.patient = None;
            event.request_line = event.request_line.split(' ').next().unwrap_or_default().to_owned();
        }
    }
}

/// The number that a record is about.
pub(super) fn number_of(record: &ReadRecord) -> Option<NhsNumber> {
    match record {
        ReadRecord::Change(change) => Some(change.nhs_number),
        ReadRecord::Unreadable(unreadable) => unreadable.nhs_number,
    }
}

/// The event of the authority's own entry.
pub(super) fn organization_event(
    head: &UploadHead,
    judged: &Result<LoadedOrganization, Problem>,
    undone: bool,
) -> RequestEvent {
    let mut event = event(head, Interaction::Update);
    let ods = head.caller.organization.ods.as_str().to_owned();
    let loaded = judged.as_ref().ok().filter(|_| !undone);
    let version = loaded.map(|loaded| loaded.organization.version);
    event.entity = Some(EntityRef { resource: "Organization".to_owned(), id: ods, version });
    if loaded.is_none() {
        refuse(&mut event, judged.as_ref().err().map_or(ProblemKind::Rule, |problem| problem.kind));
    }
    event
}

/// The event of the whole file; a single interaction is its one record's event, and has none.
pub(super) fn file_event(head: &UploadHead, records: usize, stored: bool) -> Option<RequestEvent> {
    if head.door == Door::Interaction {
        return None;
    }
    let mut event = event(head, head.interaction);
    event.result = Some(QueryResult { rows: i64::try_from(records).unwrap_or(i64::MAX), first: None, last: None });
    if !stored {
        refuse(&mut event, ProblemKind::Rule);
    }
    Some(event)
}

/// An event of an upload, naming it.
pub(super) fn event(head: &UploadHead, interaction: Interaction) -> RequestEvent {
    let mut event = RequestEvent::new(interaction, &head.caller, &head.context);
    event.upload = Some(head.id);
    event
}

/// The code that stands for a refused record.
fn code_of(problems: &[Problem]) -> RecordCode {
    RecordCode::standing_for(problems.iter().map(|problem| problem.code)).unwrap_or(RecordCode::Cpr07)
}

fn refuse(event: &mut RequestEvent, why: ProblemKind) {
    // The Spine code that the authority is answered with.
    let code = match why {
        ProblemKind::Rule | ProblemKind::OtherId => "INVALID_VALUE",
        ProblemKind::Version | ProblemKind::Several => "RESOURCE_VERSION_MISMATCH",
        ProblemKind::NotFound | ProblemKind::Gone => "RESOURCE_NOT_FOUND",
    };
    event.outcome = Outcome::Refused;
    event.refusal = Some(code.to_owned());
}

/// The kind that stands for a refused record: that of its first problem.
fn kind_of(problems: &[Problem]) -> ProblemKind {
    problems.first().map_or(ProblemKind::Rule, |problem| problem.kind)
}

fn asked_change(change: &PlanChange) -> Change {
    match change.action {
        PlanAction::Put { .. } => Change::Created,
        PlanAction::Delete { .. } => Change::Deleted,
    }
}

/// A record is a create if anything in it is new, a delete if all of it is, else an update.
fn interaction_of(changes: impl Iterator<Item = Change>) -> Interaction {
    let changes: Vec<Change> = changes.collect();
    if changes.contains(&Change::Created) {
        Interaction::Create
    } else if !changes.is_empty()
        && changes.iter().all(|change| matches!(change, Change::Deleted | Change::AlreadyDeleted))
    {
        Interaction::Delete
    } else {
        Interaction::Update
    }
}

fn entity_of(entry: &LoadedEntry) -> EntityRef {
    let (resource, id) = match &entry.of {
        LoadedRef::Child(number) => ("Patient", number.as_str().to_owned()),
        LoadedRef::Plan(id) => ("Flag", id.to_string()),
    };
    EntityRef { resource: resource.to_owned(), id, version: Some(entry.version) }
}
