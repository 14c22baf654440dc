//! Single interactions of an authority on Flag, Patient and Organization: a record of one entry through the same rules as
//! a Bundle (design 6).

use super::{
    answer::Answer,
    dispatch::Call,
    refusal::{Case, Refusal},
};
use crate::{
    cpis::{
        types::{
            NhsNumber, ShownPlan,
            child::AuthorityChild,
            upload::{Door, PlanChange, Problem, RecordChange},
        },
        upload::apply::{Applied, Change, LoadedEntry, LoadedOrganization, LoadedRecord, LoadedResource, Upload},
    },
    fhir::{
        json,
        outcome::Issue,
        render::{self, View},
        resource::{OperationOutcome, Resource},
        upload::{
            Criteria, FlagRequest, Loaded, Reading, Stored, delete_by_id, loaded_outcome, problem_issue, read_flag,
            read_organization, read_patient, single_status,
        },
    },
};
use actix_web::http::StatusCode;
use serde_json::Value;

/// What reading an upload of this caller needs.
pub fn reading(call: &Call) -> Reading<'_> {
    Reading {
        sender: &call.caller.organization.ods,
        zone: call.service.gateway.calendar.zone(),
        validators: call.service.validators,
        max_entries: call.service.settings.max_entries,
    }
}

/// `POST Flag`, with `If-None-Exist` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn create_flag(call: Call) -> Result<Answer, Refusal> {
    let preference = preference(&call)?;
    let body = body(&call)?;
    let if_none_exist = match call.headers.get("if-none-exist") {
        None => None,
        Some(value) => Some(Criteria::parse(value.to_str().unwrap_or("?")).map_err(refused)?),
    };
    let request = FlagRequest::Create { if_none_exist };
    let (number, change) = read_flag(&body, &request, &reading(&call)).map_err(refused)?;
    put_flag(call, number, change, preference).await
}

/// `PUT Flag/{id}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn update_flag(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let preference = preference(&call)?;
    let body = body(&call)?;
    let request = FlagRequest::Update { id, if_match: call.if_match()? };
    let (number, change) = read_flag(&body, &request, &reading(&call)).map_err(refused)?;
    put_flag(call, number, change, preference).await
}

async fn put_flag(
    call: Call,
    number: NhsNumber,
    change: PlanChange,
    preference: Preference,
) -> Result<Answer, Refusal> {
    let record = RecordChange { nhs_number: number, child: None, plans: vec![change] };
    let loaded = apply(&call, record, "Flag").await?;
    answer(&call, loaded, "Flag", preference)
}

/// `DELETE Flag/{id}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete_flag(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let change = delete_by_id(id, call.if_match()?, 0);
    let number = call.service.gateway.own_number_of(&call.caller.organization, id).await?;
    let nhs_number = number.ok_or_else(Refusal::not_found)?;
    let record = RecordChange { nhs_number, child: None, plans: vec![change] };
    apply(&call, record, "Flag").await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// `PUT Patient/{nhs}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn patient(call: Call, number: NhsNumber) -> Result<Answer, Refusal> {
    let preference = preference(&call)?;
    let body = body(&call)?;
    let if_match = call.if_match()?;
    let child = read_patient(&body, number, if_match, &reading(&call)).map_err(refused)?;
    let record = RecordChange { nhs_number: number, child: Some(child), plans: Vec::new() };
    let loaded = apply(&call, record, "Patient").await?;
    answer(&call, loaded, "Patient", preference)
}

/// `PUT Organization/{ods}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn organization(call: Call) -> Result<Answer, Refusal> {
    if call.id != call.caller.organization.ods.as_str() {
        return Err(Refusal::new(Case::Forbidden, "An authority may only change its own organisation."));
    }
    let preference = preference(&call)?;
    let body = body(&call)?;
    let if_match = call.if_match()?;
    let change = read_organization(&body, &call.id, if_match, &reading(&call)).map_err(refused)?;
    let mut upload = single(&call, Vec::new());
    upload.organization = Some(Ok(change));
    match call.service.gateway.upload(upload).await.map_err(Refusal::of_change)?.organization {
        Some(Ok(organization)) => {
            let loaded = loaded_organization(&organization);
            let resource = render::organization(&organization.organization).into();
            Ok(answer_with(&call, &loaded, resource, loaded_outcome(loaded.stored, &[], "Organization"), preference))
        }
        Some(Err(problem)) => Err(problems_refused(&[problem], "Organization")),
        None => Err(Refusal::not_found()),
    }
}

fn body(call: &Call) -> Result<Value, Refusal> {
    json::parse(&call.body, json::RESOURCE_VALUES).map_err(|fault| Refusal::of_body(vec![fault.issue()]))
}

fn refused(issues: Vec<Issue>) -> Refusal {
    Refusal::with_issues(case_of(&issues), issues)
}

fn case_of(issues: &[Issue]) -> Case {
    match single_status(issues) {
        400 => Case::Body,
        404 => Case::NotFound,
        410 => Case::Gone,
        412 => Case::Version,
        _ => Case::Rule,
    }
}

fn problems_refused(problems: &[Problem], root: &str) -> Refusal {
    let issues: Vec<Issue> = problems.iter().map(|problem| problem_issue(problem, root)).collect();
    // The use case has audited the refused record.
    refused(issues).audited()
}

fn single(call: &Call, records: Vec<RecordChange>) -> Upload {
    Upload {
        caller: call.caller.clone(),
        context: call.context.clone(),
        interaction: call.interaction,
        door: Door::Interaction,
        all_or_nothing: true,
        organization: None,
        records,
        unreadable: Vec::new(),
    }
}

async fn apply(call: &Call, record: RecordChange, root: &str) -> Result<LoadedRecord, Refusal> {
    let Applied { mut records, .. } =
        call.service.gateway.upload(single(call, vec![record])).await.map_err(Refusal::of_change)?;
    match records.pop() {
        Some(Ok(loaded)) => Ok(loaded),
        Some(Err(problems)) => Err(problems_refused(&problems, root)),
        None => Err(Refusal::not_found()),
    }
}

fn stored(change: Change) -> Stored {
    match change {
        Change::Created => Stored::Created,
        Change::Updated => Stored::Updated,
        Change::Unchanged => Stored::Unchanged,
        Change::Deleted => Stored::Deleted,
        Change::AlreadyDeleted => Stored::AlreadyDeleted,
    }
}

/// An entry that was loaded, as its answer names it.
pub fn loaded_of(entry: &LoadedEntry) -> Loaded {
    let stored = stored(entry.change);
    match &entry.resource {
        LoadedResource::Child(child) => Loaded {
            stored,
            reference: format!("Patient/{}", child.nhs_number.as_str()),
            version: child.version,
            modified: child.recorded,
        },
        LoadedResource::Plan(shown) => Loaded {
            stored,
            reference: format!("Flag/{}", shown.plan.id),
            version: shown.plan.version,
            modified: shown.plan.recorded,
        },
    }
}

/// The authority's own entry after it was applied.
pub fn loaded_organization(loaded: &LoadedOrganization) -> Loaded {
    let organization = &loaded.organization;
    Loaded {
        stored: stored(loaded.change),
        reference: format!("Organization/{}", organization.ods.as_str()),
        version: organization.version,
        modified: organization.updated,
    }
}

fn answer(call: &Call, loaded: LoadedRecord, root: &str, preference: Preference) -> Result<Answer, Refusal> {
    let entry = loaded.entries.first().ok_or_else(Refusal::not_found)?;
    let outcome = loaded_of(entry);
    let resource = match &entry.resource {
        LoadedResource::Child(child) => owner_patient(child),
        LoadedResource::Plan(shown) => owner_flag(call, shown),
    };
    let told = loaded_outcome(outcome.stored, &loaded.warnings, root);
    Ok(answer_with(call, &outcome, resource, told, preference))
}

/// The plan as its owner gets it.
pub fn owner_flag(call: &Call, shown: &ShownPlan) -> Resource {
    let gateway = &call.service.gateway;
    let view = View::Owner { now: gateway.clock.now(), zone: gateway.calendar.zone() };
    render::flag(shown, view).into()
}

fn owner_patient(child: &AuthorityChild) -> Resource {
    render::patient_for_owner(child).into()
}

/// 201 or 200 with what `Prefer: return=` asks for; the representation without it.
fn answer_with(
    call: &Call,
    loaded: &Loaded,
    resource: Resource,
    told: OperationOutcome,
    preference: Preference,
) -> Answer {
    let created = loaded.stored == Stored::Created;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("{}/{}/_history/{}", call.service.settings.base_url, loaded.reference, loaded.version);
    let answer = match preference {
        Preference::Minimal => Answer::empty(status),
        Preference::OperationOutcome => Answer::ok(told).with_status(status),
        Preference::Representation => Answer::ok(resource).with_status(status),
    };
    answer.with_version(loaded.version, loaded.modified).with_header("Location", location)
}

enum Preference {
    Minimal,
    Representation,
    OperationOutcome,
}

/// What `Prefer` asks for; read before anything is stored, so that a refusal means that nothing was.
fn preference(call: &Call) -> Result<Preference, Refusal> {
    let preferences = call.header("prefer").unwrap_or_default();
    match preferences.split([',', ';']).map(str::trim).find_map(|part| part.strip_prefix("return=")) {
        None | Some("representation") => Ok(Preference::Representation),
        Some("minimal") => Ok(Preference::Minimal),
        Some("OperationOutcome") => Ok(Preference::OperationOutcome),
        Some(_) => Err(Refusal::new(
            Case::Header,
            "Missing or invalid header parameter: Prefer return must be minimal, representation or OperationOutcome.",
        )),
    }
}
