//! `CareTeam`: the authority behind a plan and whom to phone.

use crate::fhir::datatype::{
    Annotation, CodeableConcept, ContactPoint, Identifier, Meta, Period, Reference, fhir_struct,
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/careteam.html>
    #[serde(tag = "resourceType")]
    CareTeam {
        id: Option<String>,
        meta: Option<Meta>,
        identifier: Vec<Identifier>,
        /// active, inactive or entered-in-error.
        status: Option<String>,
        category: Vec<CodeableConcept>,
        name: Option<String>,
        subject: Option<Reference>,
        period: Option<Period>,
        managing_organization: Vec<Reference>,
        /// `work` in office hours, `mobile` the emergency duty team.
        telecom: Vec<ContactPoint>,
        note: Vec<Annotation>,
    }
}
