//! `Flag`: that a child has a plan.

use super::Resource;
use crate::fhir::datatype::{CodeableConcept, Extension, Identifier, Meta, Period, Reference, fhir_struct};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/flag.html>
    #[serde(tag = "resourceType")]
    Flag {
        id: Option<String>,
        meta: Option<Meta>,
        contained: Vec<Resource>,
        extension: Vec<Extension>,
        identifier: Vec<Identifier>,
        /// active, inactive or entered-in-error.
        status: String,
        category: Vec<CodeableConcept>,
        code: CodeableConcept,
        subject: Reference,
        period: Option<Period>,
        author: Option<Reference>,
    }
}
