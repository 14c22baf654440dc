//! What is kept of an upload beside its effect: each record's answer, and the security audit. Of a restricted child
//! nothing is kept (design 6).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::apply::{Change, Judged, LoadedEntry, LoadedRecord, LoadedResource, Upload};
use crate::{
    cpis::types::{
        NhsNumber,
        audit::{EntityRef, Interaction, Outcome, QueryResult, RequestEvent},
        child::Trace,
        upload::{Door, PlanAction, PlanChange, Problem, ProblemKind, RecordChange, RecordCode},
    },
    store::{self, StoreError, Tx},
};

/// What is kept of an upload beside its effect: answers and audit.
pub(super) struct Keeping<'a> {
    pub upload: &'a Upload,
    pub judged: &'a Judged,
    /// False when a transaction was refused.
    pub stored: bool,
    pub traces: &'a HashMap<NhsNumber, Trace>,
    pub id: Uuid,
    pub now: DateTime<Utc>,
}

impl Keeping<'_> {
    /// Whether nothing of the child may be kept: its record is restricted and was refused, under whatever code.
    fn is_withheld(&self, number: &NhsNumber) -> bool {
        matches!(self.traces.get(number), Some(Trace::Restricted))
    }

    /// Keeps each record's answer by its position.
    pub fn records(&self, tx: &mut Tx<'_>, key: i64) -> Result<(), StoreError> {
        let readable = self.upload.records.iter().zip(&self.judged.records).map(|(record, outcome)| {
            let (code, reason) = match outcome {
                Ok(_) if self.stored => return (RecordCode::Cpr06, None),
                Ok(_) => (RecordCode::Cpr07, "Another record of the transaction was refused.".to_owned()),
                Err(problems) => {
                    let reasons: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
                    (code_of(problems), reasons.join(" "))
                }
            };
            (code, Some((record.nhs_number, reason)))
        });
        let unreadable = self.upload.unreadable.iter().map(|unreadable| {
            let about = unreadable.nhs_number.map(|number| (number, unreadable.reason.clone()));
            (unreadable.code, about)
        });
        for (position, (code, about)) in readable.chain(unreadable).enumerate() {
            let about = about.as_ref().filter(|(number, _)| !self.is_withheld(number));
            let about = about.map(|(number, reason)| (number, reason.as_str()));
            store::upload::add_record(tx.conn, key, position, code, about, self.now.timestamp_millis())?;
        }
        Ok(())
    }

    /// One event a record, and one for the file; a single interaction is its one record's event.
    pub fn audit(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for (record, outcome) in self.upload.records.iter().zip(&self.judged.records) {
            tx.append_audit(self.now, self.record_event(record, outcome))?;
        }
        for unreadable in &self.upload.unreadable {
            let mut event = self.event(self.upload.interaction);
            event.patient = unreadable.nhs_number;
            self.refuse_record(&mut event, ProblemKind::Rule);
            tx.append_audit(self.now, event)?;
        }
        if let Some(organization) = &self.judged.organization {
            let mut event = self.event(Interaction::Update);
            let ods = self.upload.caller.organization.ods.as_str().to_owned();
            let loaded = organization.as_ref().ok().filter(|_| self.stored);
            let version = loaded.map(|loaded| loaded.organization.version);
            event.entity = Some(EntityRef { resource: "Organization".to_owned(), id: ods, version });
            if loaded.is_none() {
                refuse(&mut event, organization.as_ref().err().map_or(ProblemKind::Rule, |problem| problem.kind));
            }
            tx.append_audit(self.now, event)?;
        }
        if self.upload.door == Door::Bundle {
            let mut event = self.event(self.upload.interaction);
            let rows = self.upload.records.len() + self.upload.unreadable.len();
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            event.result = Some(QueryResult { rows, first: None, last: None });
            if !self.stored {
                refuse(&mut event, ProblemKind::Rule);
            }
            tx.append_audit(self.now, event)?;
        }
        Ok(())
    }

    fn event(&self, interaction: Interaction) -> RequestEvent {
        let mut event = RequestEvent::new(interaction, &self.upload.caller, &self.upload.context);
        event.upload = Some(self.id);
        event
    }

    fn record_event(&self, record: &RecordChange, outcome: &Result<LoadedRecord, Vec<Problem>>) -> RequestEvent {
        let interaction = match outcome {
            Ok(loaded) => interaction_of(loaded.entries.iter().map(|entry| entry.change)),
            Err(_) if self.upload.door == Door::Interaction => self.upload.interaction,
            Err(_) => interaction_of(record.plans.iter().map(asked_change)),
        };
        let mut event = self.event(interaction);
        event.patient = Some(record.nhs_number);
        match outcome {
            Ok(loaded) if self.stored => event.entity = loaded.entries.last().map(entity_of),
            // What a refused transaction made is undone: it has no id to be named by.
            Ok(_) => self.refuse_record(&mut event, ProblemKind::Rule),
            Err(problems) => self.refuse_record(&mut event, kind_of(problems)),
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
    match &entry.resource {
        LoadedResource::Child(child) => EntityRef {
            resource: "Patient".to_owned(),
            id: child.nhs_number.as_str().to_owned(),
            version: Some(child.version),
        },
        LoadedResource::Plan(shown) => {
            EntityRef { resource: "Flag".to_owned(), id: shown.plan.id.to_string(), version: Some(shown.plan.version) }
        }
    }
}
