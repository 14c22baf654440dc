//! A child as `Patient`: to a clinician a number, to an authority what it sent.

use super::{nhs_identifier, notification, plan::subject_identifier};
use crate::{
    cpis::types::{
        NhsNumber,
        child::{AuthorityChild, Demographics},
    },
    fhir::{
        datatype::{Coding, Extension, HumanName, Identifier, Meta, Period},
        resource::{Patient, PatientLink},
        system,
    },
};

/// Whether the number was traced (`UKCore-NHSNumberVerificationStatusEngland`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    Verified,
    /// Modulus 11 only: `pds.mode = "off"`.
    NotTraced,
}

/// What a clinician gets: the number, and name and birth date only when `disclose_demographics` gave them.
pub fn patient_for_clinician(
    number: &NhsNumber,
    verification: Verification,
    demographics: Option<&Demographics>,
) -> Patient {
    let (code, display) = match verification {
        Verification::Verified => ("01", "Number present and verified"),
        Verification::NotTraced => ("02", "Number present but not traced"),
    };
    let status = Extension {
        url: system::NUMBER_VERIFICATION_EXTENSION.to_owned(),
        value_codeable_concept: Some(Coding::displayed(system::NUMBER_VERIFICATION, code, display).into()),
        ..Extension::default()
    };
    Patient {
        id: Some(number.as_str().to_owned()),
        identifier: vec![Identifier { extension: vec![status], ..nhs_identifier(number) }],
        name: demographics.map(name).into_iter().collect(),
        birth_date: demographics.map(|d| d.birth_date.into()),
        ..Patient::default()
    }
}

/// What an authority gets: its own row, with its version; of a number that became inactive also since when, why, and what
/// replaces it. `base_url` is the FHIR base, without a last slash.
pub fn patient_for_owner(child: &AuthorityChild, base_url: &str) -> Patient {
    let number = &child.nhs_number;
    let nhs_number = match child.inactive_number() {
        None => nhs_identifier(number),
        Some(inactive) => Identifier {
            extension: vec![notification::inactive_reason(base_url, inactive.reason)],
            r#use: Some("old".to_owned()),
            period: Some(Period { start: None, end: Some(inactive.since.into()) }),
            ..nhs_identifier(number)
        },
    };
    let replaced_by = child.inactive_number().and_then(|inactive| inactive.replaced_by);
    let link = replaced_by
        .map(|replacing| PatientLink { other: subject_identifier(&replacing), kind: "replaced-by".to_owned() });
    let local = child.local_id.as_ref().map(|id| Identifier::new(system::LOCAL_ID, id));
    Patient {
        id: Some(number.as_str().to_owned()),
        meta: Some(Meta {
            version_id: Some(child.version.to_string()),
            last_updated: Some(child.modified().into()),
            ..Meta::default()
        }),
        identifier: std::iter::once(nhs_number).chain(local).collect(),
        name: vec![name(&child.demographics)],
        birth_date: Some(child.demographics.birth_date.into()),
        link: link.into_iter().collect(),
        ..Patient::default()
    }
}

fn name(demographics: &Demographics) -> HumanName {
    HumanName {
        r#use: Some("usual".to_owned()),
        family: Some(demographics.family.clone()),
        given: demographics.given.clone(),
        ..HumanName::default()
    }
}
