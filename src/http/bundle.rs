//! `POST [base]`: an authority's upload as a batch or transaction Bundle (design 6).

use std::collections::HashMap;

use super::{
    answer::Answer,
    dispatch::Call,
    prefer::Return,
    refusal::{Case, Refusal},
    upload::{loaded_of, reading, resource_of},
};
use crate::{
    cpis::{
        Error,
        types::{
            audit::Interaction,
            upload::{Door, FileCode, Problem, ProblemKind, RecordChange, RecordCode},
        },
        upload::apply::{Applied, Change, LoadedEntry, Unreadable, Upload},
    },
    fhir::{
        json,
        outcome::{Issue, IssueCode},
        render,
        resource::{Bundle, BundleEntryResponse, Resource},
        upload::{
            BundleKind, EntryIssue, UploadBundle, read_bundle, refused_transaction, transaction_status,
            unjudged_outcome,
        },
    },
};

/// # Errors
/// [`Refusal`] 400 with CPF01 for an unusable envelope, 413, a refused transaction's 400, 412 or 422, 503.
pub async fn upload(call: Call) -> Result<Answer, Refusal> {
    let preference = Return::asked(&call.headers)?;
    let body = json::parse(&call.body, json::BUNDLE_VALUES).map_err(|fault| envelope_refused(vec![fault.issue()]))?;
    let mut bundle = read_bundle(&body, &reading(&call)).map_err(envelope_refused)?;
    let authority = &call.caller.organization;
    let mut children = HashMap::new();
    for id in bundle.unplaced().collect::<Vec<_>>() {
        if let Some(number) = call.service.gateway.own_number_of(authority, id).await? {
            children.insert(id, number);
        }
    }
    bundle.place(|id| children.get(&id).copied());
    let applied = call.service.gateway.upload(asked(&call, &bundle)).await.map_err(not_applied)?;
    let mut answer = answer(&call, &bundle, &applied)?;
    if preference == Some(Return::Representation) {
        represent(&call, &bundle, &applied, &mut answer);
    }
    Ok(Answer::ok(answer))
}

/// Adds the resources that were loaded to their entries. Without that an entry has its codes and warnings alone, which
/// it keeps whatever is preferred: an authority must learn them.
fn represent(call: &Call, bundle: &UploadBundle, applied: &Applied, answer: &mut Bundle) {
    let records = applied.records.iter().filter_map(|record| record.as_ref().ok());
    let there = |entry: &&LoadedEntry| !matches!(entry.change, Change::Deleted | Change::AlreadyDeleted);
    let loaded = records.flat_map(|record| &record.entries).filter(there);
    let mut resources: Vec<(usize, Resource)> = loaded.map(|entry| (entry.entry, resource_of(call, entry))).collect();
    if let (Some(Ok(change)), Some(Ok(loaded))) = (&bundle.organization, &applied.organization) {
        resources.push((change.entry, render::organization(&loaded.organization).into()));
    }
    for (entry, resource) in resources {
        if let Some(slot) = answer.entry.get_mut(entry) {
            slot.resource = Some(resource);
        }
    }
}

fn envelope_refused(issues: Vec<Issue>) -> Refusal {
    let too_long = issues.iter().any(|issue| issue.code == IssueCode::TooLong);
    let outcome = unjudged_outcome(&issues, FileCode::Cpf01);
    Refusal::with_issues(if too_long { Case::TooLong } else { Case::Body }, issues).with_outcome(outcome)
}

fn not_applied(error: Error) -> Refusal {
    let unverifiable = matches!(error, Error::DemographicsUnavailable);
    let refusal = Refusal::of_change(error);
    if !unverifiable {
        return refusal;
    }
    let outcome = unjudged_outcome(&refusal.issues, FileCode::Cpf05);
    refusal.with_outcome(outcome)
}

/// The Bundle as the rules take it: what could be read, and what could not.
fn asked(call: &Call, bundle: &UploadBundle) -> Upload {
    let mut records: Vec<RecordChange> = Vec::new();
    let mut unreadable = Vec::new();
    for record in &bundle.records {
        match &record.content {
            Ok(change) => records.push(change.clone()),
            Err(issues) => unreadable.push(Unreadable {
                nhs_number: record.nhs_number,
                code: RecordCode::standing_for(issues.iter().filter_map(|told| told.issue.cpr))
                    .unwrap_or(RecordCode::Cpr07),
                reason: issues.iter().map(|told| told.issue.diagnostics.as_str()).collect::<Vec<_>>().join(" "),
            }),
        }
    }
    let all_or_nothing = bundle.kind == BundleKind::Transaction;
    Upload {
        caller: call.caller.clone(),
        context: call.context.clone(),
        interaction: if all_or_nothing { Interaction::Transaction } else { Interaction::Batch },
        door: Door::Bundle,
        all_or_nothing,
        organization: bundle.organization.as_ref().map(|read| match read {
            Ok(change) => Ok(change.clone()),
            Err(issues) => Err(unread_organization(issues)),
        }),
        records,
        unreadable,
    }
}

fn unread_organization(issues: &[EntryIssue]) -> Problem {
    Problem {
        entry: issues.first().map_or(0, |told| told.entry),
        code: RecordCode::Cpr07,
        kind: ProblemKind::Rule,
        reason: issues.iter().map(|told| told.issue.diagnostics.as_str()).collect::<Vec<_>>().join(" "),
        element: "",
    }
}

fn answer(call: &Call, bundle: &UploadBundle, applied: &Applied) -> Result<Bundle, Refusal> {
    let mut outcomes = applied.records.iter();
    let mut issues: Vec<EntryIssue> = Vec::new();
    let mut answers: Vec<(usize, BundleEntryResponse)> = Vec::new();
    for record in &bundle.records {
        let refused = match (&record.content, record.content.as_ref().ok().and_then(|_| outcomes.next())) {
            (Err(unreadable), _) => unreadable.clone(),
            (Ok(_), Some(Err(problems))) => bundle.problems(problems),
            (Ok(_), Some(Ok(loaded))) => {
                for entry in &loaded.entries {
                    answers.push((entry.entry, bundle.loaded(entry.entry, &loaded_of(call, entry), &loaded.warnings)));
                }
                continue;
            }
            (Ok(_), None) => Vec::new(),
        };
        answers.extend(bundle.refused(&record.entries, &refused));
        issues.extend(refused);
    }
    if let Some(read) = &bundle.organization {
        let refused = match (read, &applied.organization) {
            (Err(unreadable), _) => unreadable.clone(),
            (Ok(_), Some(Err(problem))) => bundle.problems(std::slice::from_ref(problem)),
            (Ok(change), Some(Ok(organization))) => {
                let loaded = super::upload::loaded_organization(organization);
                answers.push((change.entry, bundle.loaded(change.entry, &loaded, &[])));
                Vec::new()
            }
            (Ok(_), None) => Vec::new(),
        };
        let entries: Vec<usize> = refused.iter().map(|told| told.entry).collect();
        answers.extend(bundle.refused(&entries, &refused));
        issues.extend(refused);
    }
    if bundle.kind == BundleKind::Transaction && !applied.stored {
        return Err(transaction_refused(&mut issues, applied.code));
    }
    Ok(bundle.response(answers, applied.code))
}

fn transaction_refused(issues: &mut [EntryIssue], code: FileCode) -> Refusal {
    issues.sort_by_key(|told| told.entry);
    let case = match transaction_status(issues) {
        400 => Case::Body,
        412 => Case::Version,
        _ => Case::Rule,
    };
    let outcome = refused_transaction(issues, code);
    let issues = issues.iter().map(|told| told.issue.clone()).collect();
    // The use case has audited every record and the refused file.
    Refusal::with_issues(case, issues).with_outcome(outcome).audited()
}
