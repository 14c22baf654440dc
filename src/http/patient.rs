//! `Patient`: to a clinician a number that is on record, to an authority its own row.

use super::{
    answer::Answer,
    clinical::{self, Asked, Searchset},
    dispatch::Call,
    precondition::Current,
    query::{Parameter, bad_value, identifier_value, nhs_number},
    refusal::{Case, Refusal},
    upload,
};
use crate::{
    cpis::{
        look_up::Subject,
        types::{NhsNumber, audit::EntityRef, caller::Role},
    },
    fhir::render,
};

pub const PARAMETERS: &[Parameter] = &[
    Parameter::new("identifier", "token", "NHS number, as https://fhir.nhs.uk/Id/nhs-number|{nhs}"),
    Parameter::new("_id", "token", "NHS number"),
];

/// What names a child in a conditional update.
pub const CRITERIA: &[Parameter] =
    &[Parameter::new("identifier", "token", "NHS number, as https://fhir.nhs.uk/Id/nhs-number|{nhs}")];

/// # Errors
/// [`Refusal`] by design 4.
pub async fn search(call: Call) -> Result<Answer, Refusal> {
    let number = searched(&call)?;
    let mut set = Searchset::new(&call);
    if call.caller.role == Role::LocalAuthority {
        let child = call.service.gateway.own_child(&call.caller.organization, number).await?;
        let mut event = call.event();
        event.patient = Some(number);
        call.service.gateway.audit(event).await?;
        if let Some(child) = &child {
            set.matched(render::patient_for_owner(child));
        }
        return Ok(Answer::ok(set.finish()));
    }
    let asked = Asked { subject: Subject::Number(number), entity: None, absent_is_not_found: false, by_setting: false };
    let found = clinical::look_up(&call, asked).await?;
    if found.on_record() {
        let demographics = found.demographics.as_ref();
        set.matched(render::patient_for_clinician(&number, call.service.verification(), demographics));
    }
    set.superseded(&found);
    Ok(Answer::ok(set.finish()))
}

/// The one number that the search names.
fn searched(call: &Call) -> Result<NhsNumber, Refusal> {
    let identifier = call.query.single("identifier")?.map(|text| identifier_value("identifier", text)).transpose()?;
    let number = match (identifier, call.query.single("_id")?) {
        (Some(_), Some(_)) => {
            return Err(bad_value("_id", "can't be combined with identifier: please give one of them"));
        }
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => {
            return Err(Refusal::new(
                Case::NhsNumber,
                "Invalid NHS number: none was given. Search by identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018",
            ));
        }
    };
    if number.contains(',') {
        return Err(bad_value("identifier", "may name one patient only: please make one search for each"));
    }
    nhs_number(number)
}

/// # Errors
/// [`Refusal`] by design 4.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let number = nhs_number(&call.id)?;
    if call.caller.role == Role::LocalAuthority {
        return own(call, number).await;
    }
    let found = clinical::look_up(&call, Asked::read("Patient", &call.id, Subject::Number(number))).await?;
    let demographics = found.demographics.as_ref();
    Ok(Answer::ok(render::patient_for_clinician(&number, call.service.verification(), demographics)))
}

async fn own(call: Call, number: NhsNumber) -> Result<Answer, Refusal> {
    let child = call.service.gateway.own_child(&call.caller.organization, number).await?;
    let child = child.ok_or_else(Refusal::not_found)?;
    let mut event = call.event();
    event.patient = Some(number);
    let version = Some(child.version);
    event.entity = Some(EntityRef { resource: "Patient".to_owned(), id: call.id.clone(), version });
    call.service.gateway.audit(event).await?;
    let current = Current {
        resource: render::patient_for_owner(&child).into(),
        version: child.version,
        modified: child.recorded,
        settled: true,
    };
    Ok(Answer::read(&call, current))
}

/// # Errors
/// [`Refusal`] by design 4; 422 with the CPR code for what breaks a CP-IS rule.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    let number = nhs_number(&call.id)?;
    upload::patient(call, number).await
}

/// # Errors
/// [`Refusal`] by design 4; 422 with the CPR code for what breaks a CP-IS rule.
pub async fn update_by_criteria(call: Call) -> Result<Answer, Refusal> {
    let number = searched(&call)?;
    upload::patient_by_criteria(call, number).await
}
