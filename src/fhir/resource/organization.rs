//! `Organization`: local authorities and care providers.

use crate::fhir::datatype::{CodeableConcept, ContactPoint, Identifier, Meta, Reference, fhir_struct};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/organization.html>
    #[serde(tag = "resourceType")]
    Organization {
        id: Option<String>,
        meta: Option<Meta>,
        identifier: Vec<Identifier>,
        active: Option<bool>,
        #[serde(rename = "type")]
        kind: Vec<CodeableConcept>,
        name: Option<String>,
        telecom: Vec<ContactPoint>,
        part_of: Option<Reference>,
    }
}
