//! `PractitionerRole`: who looked, as they were at that time.

use crate::fhir::datatype::{CodeableConcept, ContactPoint, Identifier, Meta, Reference, fhir_struct};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/practitionerrole.html>
    #[serde(tag = "resourceType")]
    PractitionerRole {
        id: Option<String>,
        meta: Option<Meta>,
        identifier: Vec<Identifier>,
        active: Option<bool>,
        practitioner: Option<Reference>,
        organization: Option<Reference>,
        code: Vec<CodeableConcept>,
        location: Vec<Reference>,
        telecom: Vec<ContactPoint>,
    }
}
