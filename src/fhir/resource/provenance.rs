//! `Provenance`: who recorded a flag; contained in the flags of the Patient Flag API.

use crate::fhir::{
    datatype::{CodeableConcept, Meta, Reference, fhir_struct},
    date::Instant,
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/provenance.html>
    #[serde(tag = "resourceType")]
    Provenance {
        id: Option<String>,
        meta: Option<Meta>,
        target: Vec<Reference>,
        recorded: Instant,
        activity: Option<CodeableConcept>,
        agent: Vec<ProvenanceAgent>,
    }
}

fhir_struct! {
    ProvenanceAgent {
        #[serde(rename = "type")]
        kind: Option<CodeableConcept>,
        role: Vec<CodeableConcept>,
        who: Reference,
        on_behalf_of: Option<Reference>,
    }
}
