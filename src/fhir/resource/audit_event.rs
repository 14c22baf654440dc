//! `AuditEvent`: an entry of the access history, or of the security audit.

use crate::fhir::{
    datatype::{CodeableConcept, Coding, Meta, Reference, fhir_struct},
    date::Instant,
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/auditevent.html>
    #[serde(tag = "resourceType")]
    AuditEvent {
        id: Option<String>,
        meta: Option<Meta>,
        #[serde(rename = "type")]
        kind: Coding,
        subtype: Vec<Coding>,
        action: Option<String>,
        recorded: Instant,
        /// 0 success, 4 minor failure, 8 serious failure.
        outcome: Option<String>,
        outcome_desc: Option<String>,
        agent: Vec<AuditEventAgent>,
        source: AuditEventSource,
        entity: Vec<AuditEventEntity>,
    }
}

fhir_struct! {
    AuditEventAgent {
        #[serde(rename = "type")]
        kind: Option<CodeableConcept>,
        role: Vec<CodeableConcept>,
        who: Option<Reference>,
        name: Option<String>,
        /// 1..1 in R4; optional here so that `false` is written.
        requestor: Option<bool>,
        location: Option<Reference>,
        policy: Vec<String>,
        network: Option<AuditEventAgentNetwork>,
    }
}

fhir_struct! {
    AuditEventAgentNetwork {
        address: Option<String>,
        /// 1 machine name, 2 IP address, 5 URI.
        #[serde(rename = "type")]
        kind: Option<String>,
    }
}

fhir_struct! {
    AuditEventSource {
        site: Option<String>,
        observer: Reference,
        #[serde(rename = "type")]
        kind: Vec<Coding>,
    }
}

fhir_struct! {
    AuditEventEntity {
        what: Option<Reference>,
        #[serde(rename = "type")]
        kind: Option<Coding>,
        role: Option<Coding>,
        name: Option<String>,
        description: Option<String>,
        /// Base64.
        query: Option<String>,
        detail: Vec<AuditEventEntityDetail>,
    }
}

fhir_struct! {
    AuditEventEntityDetail {
        #[serde(rename = "type")]
        kind: String,
        value_string: Option<String>,
    }
}
