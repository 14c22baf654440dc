//! Domain facts as FHIR resources (design 3 and 5). Facts in, resource out; nothing is looked up or decided here.

mod access_event;
mod child;
pub mod notification;
mod organization;
mod plan;
mod refusal;
mod security_event;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::datatype::{CodeableConcept, Coding, Identifier, Reference, given};
use super::system;
use crate::cpis::types::{NhsNumber, OdsCode};

pub use access_event::access_event;
pub use child::{Verification, patient_for_clinician, patient_for_owner};
pub use organization::{classified_organization, organization};
pub use plan::{PatientFlag, care_plan, care_team, flag, last_updated, patient_flag};
pub use refusal::refused_record;
pub use security_event::security_event;

/// For whom a plan is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// No version, no local plan id: an end that passes makes no new version, so a clinician must never cache.
    Clinician,
    /// The authority whose plan it is. `now` and `zone` decide whether the day after the end has come.
    Owner { now: DateTime<Utc>, zone: Tz },
}

fn nhs_identifier(number: &NhsNumber) -> Identifier {
    Identifier::new(system::NHS_NUMBER, number.as_str())
}

fn ods_identifier(code: &OdsCode) -> Identifier {
    Identifier::new(system::ODS_CODE, code.as_str())
}

/// `Patient/{nhs}` with the number as identifier too: clients read either.
fn patient_reference(number: &NhsNumber) -> Reference {
    Reference::to("Patient", number.as_str()).with_identifier(nhs_identifier(number))
}

fn organization_reference(code: &OdsCode, name: &str) -> Reference {
    Reference::to("Organization", code.as_str()).with_identifier(ods_identifier(code)).with_display(name)
}

/// A job role: coded when the code is known, else in words.
fn job_role(code: Option<&str>, name: Option<&str>) -> Option<CodeableConcept> {
    let display = name.and_then(given);
    match code.and_then(given) {
        Some(code) => Some(Coding { display, ..Coding::new(system::SDS_JOB_ROLE, &code) }.into()),
        // The national API reads the role from coding.display, so it stands there too.
        None => display.map(|name| CodeableConcept {
            coding: vec![Coding { display: Some(name.clone()), ..Coding::default() }],
            text: Some(name),
        }),
    }
}

#[cfg(test)]
mod tests;
