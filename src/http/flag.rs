//! `Flag`: that a child has a plan. Clinicians search and read; an authority also writes its own.

use super::{
    answer::Answer,
    care_team::{PATIENT, SUBJECT},
    clinical::{self, Asked, Searchset},
    dispatch::Call,
    paging::{self, COUNT, CURSOR},
    precondition::Current,
    query::Parameter,
    refusal::{Case, Refusal},
    upload,
};
use crate::{
    cpis::{
        own_record::OwnPlan,
        types::{
            audit::{EntityRef, QueryResult},
            caller::Role,
        },
    },
    fhir::render::{self, View},
};

pub const PARAMETERS: &[Parameter] = &[
    PATIENT,
    SUBJECT,
    Parameter::new("_include", "special", "Flag:patient, Flag:subject, Flag:author. For clinicians"),
    Parameter::new(
        "_revinclude",
        "special",
        "AuditEvent:patient (also as _revinclude:iterate) or AuditEvent:entity: the access history. For clinicians",
    )
    .with_modifiers(&[":iterate"]),
    COUNT,
    CURSOR,
];

/// What names a plan in a conditional interaction.
pub const CRITERIA: &[Parameter] = &[
    Parameter::new("patient", "reference", "The child: Patient/{nhs}, {nhs}, or as identifier with its system")
        .with_modifiers(&[":identifier", ".identifier"]),
    Parameter::new("subject", "reference", "The same as patient").with_modifiers(&[":identifier", ".identifier"]),
    Parameter::new("identifier", "token", "The authority's own id of the plan"),
    Parameter::new("code", "token", "SNOMED CT code of the plan type, as http://snomed.info/sct|{code}"),
];

const INCLUDES: [&str; 3] = ["Flag:patient", "Flag:subject", "Flag:author"];
const REVINCLUDES: [&str; 2] = ["AuditEvent:patient", "AuditEvent:entity"];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    if call.caller.role == Role::LocalAuthority {
        return own_search(call).await;
    }
    call.query.known_only("_include", &INCLUDES)?;
    call.query.known_only("_revinclude", &REVINCLUDES)?;
    call.query.only_for_others(&["_count", "_cursor"])?;
    let asked = |name: &str, values: &[&str]| call.query.values(name).any(|value| values.contains(&value));
    let with_patient = asked("_include", &["Flag:patient", "Flag:subject"]);
    let with_author = asked("_include", &["Flag:author"]);
    let with_history = asked("_revinclude", &REVINCLUDES);
    let number = call.query.required_patient()?;
    let found = clinical::look_up(&call, Asked::search(&call)?).await?;
    let mut set = Searchset::new(&call);
    for shown in &found.plans {
        set.matched(render::flag(shown, View::Clinician));
    }
    if with_patient && found.on_record() {
        let demographics = found.demographics.as_ref();
        set.included(render::patient_for_clinician(&number, call.service.verification(), demographics));
    }
    if with_author {
        for authority in found.authorities() {
            set.included(render::organization(authority));
        }
    }
    if with_history {
        set.history(&found, false);
    }
    set.superseded(&found);
    Ok(Answer::ok(set.finish()))
}

/// An authority's own flags: of one child, or all of them page by page.
async fn own_search(call: Call) -> Result<Answer, Refusal> {
    call.query.only_for_others(&["_include", "_revinclude"])?;
    let authority = &call.caller.organization;
    let patient = call.query.patient()?;
    let (plans, next) = match patient {
        Some(number) => (call.service.gateway.own_plans_of(authority, number).await?, None),
        None => {
            let (count, after) = (paging::count(&call.query)?, paging::cursor(&call.query)?.unwrap_or(0));
            let page = call.service.gateway.own_plans(authority, after, count).await?;
            (page.plans, page.next)
        }
    };
    let mut event = call.event();
    event.patient = patient;
    event.result = patient.is_none().then(|| QueryResult::of(&plans, |shown| shown.plan.id.to_string()));
    call.service.gateway.audit(event).await?;
    let mut set = Searchset::new(&call);
    for shown in &plans {
        set.matched(upload::owner_flag(&call, shown));
    }
    let mut bundle = set.finish();
    if patient.is_none() {
        // What a page holds is not the total, and the total is only counted when it is asked for by patient.
        bundle.total = None;
    }
    if let Some(next) = next {
        paging::link_next(&mut bundle, &call, &next)?;
    }
    Ok(Answer::ok(bundle))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    if call.caller.role == Role::LocalAuthority {
        return own_read(call).await;
    }
    let found = clinical::look_up(&call, Asked::plan("Flag", &call)?).await?;
    let shown = clinical::named_plan(&call, found)?;
    Ok(Answer::ok(render::flag(&shown, View::Clinician)))
}

async fn own_read(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let shown = match call.service.gateway.own_plan(&call.caller.organization, id).await? {
        OwnPlan::Unknown => return Err(Refusal::not_found()),
        OwnPlan::Deleted => return Err(Refusal::new(Case::Gone, "This plan was deleted.")),
        OwnPlan::Held(shown) => shown,
    };
    let mut event = call.event();
    event.patient = Some(shown.nhs_number);
    let version = Some(shown.plan.version);
    event.entity = Some(EntityRef { resource: "Flag".to_owned(), id: call.id.clone(), version });
    call.service.gateway.audit(event).await?;
    let current = Current {
        resource: upload::owner_flag(&call, &shown),
        version: shown.plan.version,
        modified: upload::flag_modified(&call, &shown),
        settled: shown.settled,
    };
    Ok(Answer::read(&call, current))
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    upload::create_flag(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    upload::update_flag(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn update_by_criteria(call: Call) -> Result<Answer, Refusal> {
    upload::update_flag_by_criteria(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete_by_criteria(call: Call) -> Result<Answer, Refusal> {
    upload::delete_flag_by_criteria(call).await
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    upload::delete_flag(call).await
}
