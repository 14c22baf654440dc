//! `Patient`: for an authority the child as it sent it, for a clinician the number and its verification status.

use crate::fhir::{
    datatype::{ContactPoint, HumanName, Identifier, Meta, Reference, fhir_struct},
    date::Date,
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/patient.html>
    #[serde(tag = "resourceType")]
    Patient {
        id: Option<String>,
        meta: Option<Meta>,
        identifier: Vec<Identifier>,
        active: Option<bool>,
        name: Vec<HumanName>,
        telecom: Vec<ContactPoint>,
        gender: Option<String>,
        birth_date: Option<Date>,
        link: Vec<PatientLink>,
    }
}

fhir_struct! {
    PatientLink {
        other: Reference,
        /// replaced-by, replaces, refer or seealso.
        #[serde(rename = "type")]
        kind: String,
    }
}
