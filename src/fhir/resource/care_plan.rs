//! `CarePlan`: which plan a flag stands for.

use crate::fhir::datatype::{CodeableConcept, Identifier, Meta, Period, Reference, fhir_struct};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/careplan.html>
    #[serde(tag = "resourceType")]
    CarePlan {
        id: Option<String>,
        meta: Option<Meta>,
        identifier: Vec<Identifier>,
        /// active, completed or entered-in-error.
        status: String,
        intent: String,
        category: Vec<CodeableConcept>,
        subject: Reference,
        period: Option<Period>,
        author: Option<Reference>,
        care_team: Vec<Reference>,
    }
}
