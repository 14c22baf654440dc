//! Single interactions of an authority on Flag, Patient and Organization: a record of one entry through the same rules as
//! a Bundle (design 6).

use super::{
    answer::Answer,
    dispatch::Call,
    prefer::Return,
    query::{FORMAT, Query},
    refusal::{Case, Refusal},
    service::Service,
};
use crate::{
    cpis::{
        types::{
            NhsNumber, ShownPlan,
            upload::{Door, Problem, RecordChange},
        },
        upload::{
            answer::{Applied, Change, LoadedEntry, LoadedOrganization, LoadedRecord, LoadedRef, LoadedResource},
            apply::{Upload, UploadHead},
        },
    },
    fhir::{
        json,
        outcome::Issue,
        render::{self, View},
        resource::{OperationOutcome, Resource},
        upload::{
            Criteria, FlagRequest, Loaded, Reading, Stored, delete_by_criteria, delete_by_id, loaded_outcome,
            problem_issue, read_flag, read_organization, read_patient, single_status,
        },
    },
};
use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// What reading an upload of this caller needs.
pub fn reading(call: &Call) -> Reading<'_> {
    Reading {
        sender: Some(&call.caller.organization.ods),
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
    call.without_version()?;
    let mut sent = call.headers.get_all("if-none-exist").map(|value| value.to_str().unwrap_or("?x"));
    let if_none_exist = match (sent.next(), sent.next()) {
        (None, _) => None,
        (Some(one), None) => Some(criteria(&Query::parse(one.strip_prefix('?').unwrap_or(one))?)?),
        (Some(_), Some(_)) => {
            let text = "Missing or invalid header parameter: send If-None-Exist once.";
            return Err(Refusal::new(Case::Header, text));
        }
    };
    put_flag(call, FlagRequest::Create { if_none_exist }).await
}

/// `PUT Flag/{id}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn update_flag(call: Call) -> Result<Answer, Refusal> {
    let request = FlagRequest::Update { id: call.uuid()?, precondition: call.precondition()? };
    put_flag(call, request).await
}

/// `PUT Flag?{criteria}`: the plan that they find is updated, or one is created; 412 when they find several.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn update_flag_by_criteria(call: Call) -> Result<Answer, Refusal> {
    let request = FlagRequest::Conditional { criteria: criteria(&call.query)?, precondition: call.precondition()? };
    put_flag(call, request).await
}

/// The criteria of a conditional interaction; the patient in them is judged as in every search.
fn criteria(query: &Query) -> Result<Criteria, Refusal> {
    query.patient()?;
    let named = query.0.iter().filter(|sent| FORMAT.iter().all(|known| known.name != sent.name));
    Criteria::of(named.map(|sent| (format!("{}{}", sent.name, sent.modifier), sent.value.clone()))).map_err(refused)
}

async fn put_flag(call: Call, request: FlagRequest) -> Result<Answer, Refusal> {
    let preference = preference(&call)?;
    let (nhs_number, change) = read_flag(&body(&call)?, &request, &reading(&call)).map_err(refused)?;
    let loaded = apply(&call, RecordChange { nhs_number, child: None, plans: vec![change] }, "Flag").await?;
    answer(&call, &loaded, "Flag", preference)
}

/// `DELETE Flag/{id}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete_flag(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let change = delete_by_id(id, call.precondition()?, 0);
    let number = call.service.gateway.own_number_of(&call.caller.organization, id).await?;
    let nhs_number = number.ok_or_else(Refusal::not_found)?;
    let record = RecordChange { nhs_number, child: None, plans: vec![change] };
    apply(&call, record, "Flag").await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// `DELETE Flag?{criteria}`: the one plan of a child that they find; 412 when they find several.
///
/// # Errors
/// [`Refusal`] by design 4; 422 with CPR07 when there is nothing to delete.
pub async fn delete_flag_by_criteria(call: Call) -> Result<Answer, Refusal> {
    call.query.required_patient()?;
    let (nhs_number, change) = delete_by_criteria(criteria(&call.query)?, call.precondition()?, 0).map_err(refused)?;
    apply(&call, RecordChange { nhs_number, child: None, plans: vec![change] }, "Flag").await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// `PUT Patient/{nhs}`, with `If-Match` if it is sent.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn patient(call: Call, number: NhsNumber) -> Result<Answer, Refusal> {
    let body = body(&call)?;
    put_patient(call, number, body).await
}

/// `PUT Patient?identifier={nhs}`: the number is the id, so that the body may leave it out.
///
/// # Errors
/// [`Refusal`] by design 4.
pub async fn patient_by_criteria(call: Call, number: NhsNumber) -> Result<Answer, Refusal> {
    let mut body = body(&call)?;
    if let Some(members) = body.as_object_mut() {
        members.entry("id").or_insert_with(|| number.as_str().into());
    }
    put_patient(call, number, body).await
}

async fn put_patient(call: Call, number: NhsNumber, body: Value) -> Result<Answer, Refusal> {
    let preference = preference(&call)?;
    let child = read_patient(&body, number, call.precondition()?, &reading(&call)).map_err(refused)?;
    let record = RecordChange { nhs_number: number, child: Some(child), plans: Vec::new() };
    let loaded = apply(&call, record, "Patient").await?;
    answer(&call, &loaded, "Patient", preference)
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
    let change = read_organization(&body, &call.id, call.precondition()?, &reading(&call)).map_err(refused)?;
    let mut upload = single(&call, Vec::new());
    upload.head.organization = Some(Ok(change));
    match call.service.gateway.upload(upload).await.map_err(Refusal::of_change)?.organization {
        Some(Ok(organization)) => {
            let loaded = loaded_organization(&organization);
            let resource = render::organization(&organization.organization).into();
            let told = loaded_outcome(loaded.stored, &[], "Organization");
            Ok(written(&call, &loaded, resource, told, preference))
        }
        Some(Err(problem)) => Err(problems_refused(&[problem], "Organization")),
        None => Err(Refusal::not_found()),
    }
}

/// The body as strict JSON.
///
/// # Errors
/// [`Refusal`] 400.
pub fn body(call: &Call) -> Result<Value, Refusal> {
    json::parse(&call.body, json::RESOURCE_VALUES).map_err(|fault| Refusal::of_body(vec![fault.issue()]))
}

/// What is wrong with a single interaction.
pub fn refused(issues: Vec<Issue>) -> Refusal {
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
    let head = UploadHead::new(call.caller.clone(), call.context.clone(), call.interaction, Door::Interaction);
    Upload { head: UploadHead { all_or_nothing: true, ..head }, records: records.into_iter().map(Into::into).collect() }
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
    let reference = match &entry.of {
        LoadedRef::Child(number) => format!("Patient/{}", number.as_str()),
        LoadedRef::Plan(id) => format!("Flag/{id}"),
    };
    Loaded { stored: stored(entry.change), reference, version: entry.version, modified: entry.modified }
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

fn answer(call: &Call, loaded: &LoadedRecord, root: &str, preference: Return) -> Result<Answer, Refusal> {
    let entry = loaded.entries.first().ok_or_else(Refusal::not_found)?;
    let outcome = loaded_of(entry);
    let told = loaded_outcome(outcome.stored, &loaded.warnings, root);
    let resource = entry.resource.as_ref().ok_or_else(Refusal::not_found)?;
    Ok(written(call, &outcome, resource_of(&call.service, resource), told, preference))
}

/// What an entry has made of its resource, as the owner gets it.
pub fn resource_of(service: &Service, resource: &LoadedResource) -> Resource {
    match resource {
        LoadedResource::Child(child) => render::patient_for_owner(child, &service.settings.base_url).into(),
        LoadedResource::Plan(shown) => owner_flag(service, shown),
    }
}

/// The plan as its owner gets it.
pub fn owner_flag(service: &Service, shown: &ShownPlan) -> Resource {
    let gateway = &service.gateway;
    let view = View::Owner { now: gateway.clock.now(), zone: gateway.calendar.zone() };
    render::flag(shown, view).into()
}

/// When the plan as its owner gets it last changed: its `meta.lastUpdated`.
pub fn flag_modified(call: &Call, shown: &ShownPlan) -> DateTime<Utc> {
    let gateway = &call.service.gateway;
    render::last_updated(shown, gateway.clock.now(), gateway.calendar.zone())
}

/// 201 or 200 with what `Prefer: return=` asks for.
pub fn written(call: &Call, loaded: &Loaded, resource: Resource, told: OperationOutcome, preference: Return) -> Answer {
    let status = if loaded.stored == Stored::Created { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("{}/{}/_history/{}", call.service.settings.base_url, loaded.reference, loaded.version);
    let answer = preference.answer(status, resource, told);
    answer.with_version(loaded.version, loaded.modified).with_header("Location", location)
}

/// What a single change is answered with: without a preference the resource.
///
/// # Errors
/// [`Refusal`] 400 for a preference that is not known.
pub fn preference(call: &Call) -> Result<Return, Refusal> {
    Ok(Return::asked(&call.headers)?.unwrap_or(Return::Representation))
}
