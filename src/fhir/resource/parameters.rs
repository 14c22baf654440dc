//! `Parameters`: input and output of operations, and the status of a subscription.

use super::Resource;
use crate::fhir::{
    datatype::{CodeableConcept, Extension, Identifier, Meta, Reference, fhir_struct},
    date::{Date, DateTime, Instant},
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/parameters.html>
    #[serde(tag = "resourceType")]
    Parameters {
        id: Option<String>,
        meta: Option<Meta>,
        parameter: Vec<ParametersParameter>,
    }
}

fhir_struct! {
    /// Of `value[x]` only the kinds that CP-IS uses are kept.
    ParametersParameter {
        extension: Vec<Extension>,
        name: String,
        value_boolean: Option<bool>,
        value_integer: Option<i64>,
        value_unsigned_int: Option<u32>,
        value_string: Option<String>,
        value_code: Option<String>,
        value_uri: Option<String>,
        value_canonical: Option<String>,
        value_date: Option<Date>,
        value_date_time: Option<DateTime>,
        value_instant: Option<Instant>,
        value_identifier: Option<Identifier>,
        value_codeable_concept: Option<CodeableConcept>,
        value_reference: Option<Reference>,
        resource: Option<Resource>,
        part: Vec<ParametersParameter>,
    }
}
