//! `POST [base]`: an authority's upload as a batch or transaction Bundle (design 6). One that takes long is answered 202,
//! and its answer is given by `upload_status`.

use std::{collections::HashMap, time::Duration};

use actix_web::{http::StatusCode, web::Bytes};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    answer::Answer,
    dispatch::Call,
    prefer::{Return, preference},
    refusal::{Case, Refusal},
    service::Service,
    upload::{loaded_of, loaded_organization, resource_of},
};
use crate::{
    cpis::{
        self,
        types::{
            Organization,
            audit::Interaction,
            upload::{Door, FileCode, Problem},
        },
        upload::{
            answer::{Applied, Change, LoadedEntry},
            apply::{Begun, SentRecord, Upload, UploadHead},
        },
    },
    fhir::{
        outcome::{Issue, IssueCode, SpineCode},
        render,
        resource::{Bundle, BundleEntryResponse, Resource},
        upload::{
            BundleKind, EntryIssue, Frame, Reading, RecordLayout, UploadBundle, read_upload, refused_transaction,
            transaction_status, unjudged_outcome, unread,
        },
    },
};

/// Bodies of more bytes are read where they keep nobody waiting.
const QUICKLY_READ: usize = 64 << 10;

/// Seconds after which to ask for an upload's answer again.
pub const ASK_AGAIN: &str = "5";

/// # Errors
/// [`Refusal`] 400 with CPF01 for an unusable envelope, 413, a refused transaction's 400, 412 or 422, 503.
pub async fn upload(call: Call) -> Result<Answer, Refusal> {
    let patience = call.service.settings.answer_within;
    upload_within(call, Some(patience)).await
}

/// [`upload`] with the patience of whoever asks: 202 after that time, without one never.
///
/// # Errors
/// As [`upload`].
pub async fn upload_within(mut call: Call, patience: Option<Duration>) -> Result<Answer, Refusal> {
    let wanted = Return::asked(&call.headers)?;
    let at_once = preference(&call.headers, "respond-async").is_none();
    let bundle = read(&mut call).await?;
    let sent = Sent::of(&bundle, wanted == Some(Return::Representation));
    let gateway = &call.service.gateway;
    if at_once && bundle.records.len() <= gateway.uploads.batch_records {
        let applied = gateway.upload(asked(&call, &bundle, None)?).await.map_err(not_applied)?;
        return sent.answer(&call.service, &call.caller.organization, &applied).await;
    }
    let upload = asked(&call, &bundle, Some(&sent))?;
    let id = upload.head.id;
    drop(bundle);
    let going = match gateway.begin_upload(upload).await.map_err(not_applied)? {
        Begun::Answered(applied) => return sent.answer(&call.service, &call.caller.organization, &applied).await,
        Begun::Going(going) => going,
    };
    // It goes on whether or not anybody waits for it.
    let worker = gateway.clone();
    let mut work = tokio::spawn(async move {
        let ended = worker.finish_upload(going).await;
        if let Err(error) = &ended {
            tracing::warn!(%error, upload = %id, "an upload was not applied");
        }
        ended
    });
    let ended = match patience {
        _ if !at_once => None,
        Some(patience) => tokio::time::timeout(patience, &mut work).await.ok(),
        None => Some(work.await),
    };
    if let Some(ended) = ended {
        let applied = ended.map_err(|_| Refusal::fault())?.map_err(not_applied)?;
        return sent.answer(&call.service, &call.caller.organization, &applied).await;
    }
    let location = format!("{}/upload-status/{id}", call.service.settings.base_url);
    let answer = Answer::empty(StatusCode::ACCEPTED).with_header("Content-Location", location);
    Ok(answer.with_header("Retry-After", ASK_AGAIN))
}

/// The Bundle, complete; the body is gone then.
async fn read(call: &mut Call) -> Result<UploadBundle, Refusal> {
    let body = std::mem::replace(&mut call.body, Bytes::new());
    let service = call.service.clone();
    let sender = call.caller.organization.ods.clone();
    let parse = move |body: &Bytes| {
        let reading = Reading {
            sender: Some(&sender),
            zone: service.gateway.calendar.zone(),
            validators: service.validators,
            max_entries: service.settings.max_entries,
        };
        read_upload(body, &reading)
    };
    let read = if body.len() > QUICKLY_READ {
        tokio::task::spawn_blocking(move || parse(&body)).await.map_err(|_| Refusal::fault())?
    } else {
        parse(&body)
    };
    call.large_body = None;
    let mut bundle = read.map_err(envelope_refused)?;
    let plans: Vec<Uuid> = bundle.unplaced().collect();
    let children = call.service.gateway.own_numbers_of(&call.caller.organization, plans).await?;
    bundle.place(|id| children.get(&id).copied());
    Ok(bundle)
}

fn envelope_refused(issues: Vec<Issue>) -> Refusal {
    let too_long = issues.iter().any(|issue| issue.code == IssueCode::TooLong);
    let outcome = unjudged_outcome(&issues, FileCode::Cpf01);
    Refusal::with_issues(if too_long { Case::TooLong } else { Case::Body }, issues).with_outcome(outcome)
}

/// An upload that was not applied, though nothing is wrong with it.
pub fn not_applied(error: cpis::Error) -> Refusal {
    let unverifiable = matches!(error, cpis::Error::DemographicsUnavailable);
    let refusal = Refusal::of_change(error);
    if !unverifiable {
        return refusal;
    }
    let outcome = unjudged_outcome(&refusal.issues, FileCode::Cpf05);
    refusal.with_outcome(outcome)
}

/// A file whose number can't be used: CPF01, in a Bundle that is valid R4.
pub fn number_refused(reason: &str) -> Refusal {
    let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, reason).at("Bundle.identifier");
    let outcome = unjudged_outcome(std::slice::from_ref(&issue), FileCode::Cpf01);
    Refusal::with_issues(Case::Rule, vec![issue]).with_outcome(outcome)
}

/// The Bundle as the rules take it; with `form` it can be answered when the Bundle is gone.
fn asked(call: &Call, bundle: &UploadBundle, form: Option<&Sent>) -> Result<Upload, Refusal> {
    let all_or_nothing = bundle.kind == BundleKind::Transaction;
    let interaction = if all_or_nothing { Interaction::Transaction } else { Interaction::Batch };
    let mut records = Vec::with_capacity(bundle.records.len());
    for (index, record) in bundle.records.iter().enumerate() {
        let layout = form.and_then(|form| form.records.get(index));
        let form = layout.map(serde_json::to_string).transpose()?;
        records.push(SentRecord { record: bundle.record(record), form });
    }
    let head = UploadHead::new(call.caller.clone(), call.context.clone(), interaction, Door::Bundle);
    Ok(Upload {
        head: UploadHead {
            all_or_nothing,
            organization: bundle.organization.as_ref().map(|read| match read {
                Ok(change) => Ok(change.clone()),
                Err(issues) => Err(unread_organization(issues)),
            }),
            number: bundle.file_number,
            form: form.map(|form| serde_json::to_string(&form.form)).transpose()?,
            ..head
        },
        records,
    })
}

fn unread_organization(issues: &[EntryIssue]) -> Problem {
    let reason = issues.iter().map(|told| told.issue.diagnostics.as_str()).collect::<Vec<_>>().join(" ");
    let first = issues.first().map(unread);
    let entry = issues.first().map_or(0, |told| told.entry);
    match first {
        Some(problem) => Problem { entry, reason, ..problem },
        None => unread(&EntryIssue { entry, issue: Issue::error(IssueCode::Value, SpineCode::InvalidValue, reason) }),
    }
}

/// What the answer needs to know of a Bundle.
pub struct Sent {
    form: Form,
    records: Vec<RecordLayout>,
}

/// The same, without its records; kept with the upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Form {
    frame: Frame,
    organization: Option<OrganizationForm>,
    /// The resources are wanted with the answer.
    representation: bool,
}

/// The authority's own entry: where it lies, or why it can't be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OrganizationForm {
    At(usize),
    Unreadable(Vec<EntryIssue>),
}

impl Sent {
    fn of(bundle: &UploadBundle, representation: bool) -> Self {
        let organization = bundle.organization.as_ref().map(|read| match read {
            Ok(change) => OrganizationForm::At(change.entry),
            Err(issues) => OrganizationForm::Unreadable(issues.clone()),
        });
        Self {
            form: Form { frame: bundle.frame(), organization, representation },
            records: bundle.records.iter().map(|record| record.layout()).collect(),
        }
    }

    /// From what was kept of it.
    ///
    /// # Errors
    /// [`Refusal`] 500 when that can't be read.
    pub fn kept(form: &str, records: &[Option<String>]) -> Result<Self, Refusal> {
        let layout = |kept: &Option<String>| match kept {
            Some(kept) => serde_json::from_str(kept).map_err(Refusal::from),
            None => Err(Refusal::fault()),
        };
        Ok(Self { form: serde_json::from_str(form)?, records: records.iter().map(layout).collect::<Result<_, _>>()? })
    }

    /// What the upload is answered with: the first time, and as often as it is asked for.
    ///
    /// # Errors
    /// [`Refusal`] of a refused transaction, or of a file whose number can't be used.
    pub async fn answer(
        &self,
        service: &Service,
        authority: &Organization,
        applied: &Applied,
    ) -> Result<Answer, Refusal> {
        if let Some(reason) = &applied.reason {
            return Err(number_refused(reason));
        }
        let mut answer = self.bundle(applied)?;
        if self.form.representation {
            self.represent(service, authority, applied, &mut answer).await?;
        }
        Ok(Answer::ok(answer))
    }

    fn bundle(&self, applied: &Applied) -> Result<Bundle, Refusal> {
        let frame = &self.form.frame;
        let mut issues: Vec<EntryIssue> = Vec::new();
        let mut answers: Vec<(usize, BundleEntryResponse)> = Vec::new();
        for (layout, outcome) in self.records.iter().zip(&applied.records) {
            let refused = match (&layout.unreadable, outcome) {
                (Some(unreadable), _) => unreadable.clone(),
                (None, Err(problems)) => {
                    let placed: Vec<Problem> = problems.iter().map(|problem| layout.placed(problem)).collect();
                    frame.problems(&placed)
                }
                (None, Ok(loaded)) => {
                    for entry in &loaded.entries {
                        let mine = loaded.warnings.iter().filter(|warning| warning.entry == entry.entry);
                        let position = layout.position(entry.entry);
                        let mine: Vec<_> =
                            mine.map(|w| cpis::types::upload::Warning { entry: position, ..w.clone() }).collect();
                        answers.push((position, frame.loaded(position, &loaded_of(entry), &mine)));
                    }
                    continue;
                }
            };
            answers.extend(frame.refused(&layout.entries, &refused));
            issues.extend(refused);
        }
        if let Some(sent) = &self.form.organization {
            let refused = match (sent, &applied.organization) {
                (OrganizationForm::Unreadable(unreadable), _) => unreadable.clone(),
                (OrganizationForm::At(entry), Some(Err(problem))) => {
                    frame.problems(&[Problem { entry: *entry, ..problem.clone() }])
                }
                (OrganizationForm::At(entry), Some(Ok(organization))) => {
                    answers.push((*entry, frame.loaded(*entry, &loaded_organization(organization), &[])));
                    Vec::new()
                }
                (OrganizationForm::At(_), None) => Vec::new(),
            };
            let entries: Vec<usize> = refused.iter().map(|told| told.entry).collect();
            answers.extend(frame.refused(&entries, &refused));
            issues.extend(refused);
        }
        if frame.kind == BundleKind::Transaction && !applied.stored {
            return Err(transaction_refused(&mut issues, applied.code));
        }
        Ok(frame.response(answers, applied.code))
    }

    /// Adds the resources that were loaded to their entries. Without that an entry has its codes and warnings alone, which
    /// it keeps whatever is preferred: an authority must learn them.
    async fn represent(
        &self,
        service: &Service,
        authority: &Organization,
        applied: &Applied,
        answer: &mut Bundle,
    ) -> Result<(), Refusal> {
        let (mut positions, mut entries): (Vec<usize>, Vec<LoadedEntry>) = (Vec::new(), Vec::new());
        for (layout, outcome) in self.records.iter().zip(&applied.records) {
            for entry in outcome.iter().flat_map(|loaded| &loaded.entries) {
                if !matches!(entry.change, Change::Deleted | Change::AlreadyDeleted) {
                    positions.push(layout.position(entry.entry));
                    entries.push(entry.clone());
                }
            }
        }
        let resources = service.gateway.loaded_resources(authority, entries).await?;
        let mut shown: HashMap<usize, Resource> = positions
            .into_iter()
            .zip(resources)
            .filter_map(|(position, resource)| Some((position, resource_of(service, &resource?))))
            .collect();
        if let (Some(OrganizationForm::At(entry)), Some(Ok(loaded))) = (&self.form.organization, &applied.organization)
        {
            shown.insert(*entry, render::organization(&loaded.organization).into());
        }
        for (position, resource) in shown {
            if let Some(slot) = answer.entry.get_mut(position) {
                slot.resource = Some(resource);
            }
        }
        Ok(())
    }
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
