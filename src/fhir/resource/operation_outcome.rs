//! `OperationOutcome`: what went wrong, or what is worth knowing.

use crate::fhir::datatype::{CodeableConcept, Meta, fhir_struct};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/operationoutcome.html>
    #[serde(tag = "resourceType")]
    OperationOutcome {
        id: Option<String>,
        meta: Option<Meta>,
        issue: Vec<OperationOutcomeIssue>,
    }
}

fhir_struct! {
    OperationOutcomeIssue {
        severity: String,
        code: String,
        details: Option<CodeableConcept>,
        diagnostics: Option<String>,
        expression: Vec<String>,
    }
}
