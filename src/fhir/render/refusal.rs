//! A refused record as `Parameters`: what the authority has to correct.

use super::nhs_identifier;
use crate::{
    cpis::types::refusal::OpenRefusal,
    fhir::{
        datatype::Coding,
        resource::{Parameters, ParametersParameter},
        system,
    },
};

/// The record, by the upload that it came with and its place there.
pub fn refused_record(refusal: &OpenRefusal) -> Parameters {
    let named = |name: &str| ParametersParameter { name: name.to_owned(), ..ParametersParameter::default() };
    let code = Coding::displayed(system::RECORD_RESPONSE, refusal.code.code(), refusal.code.display());
    let parameter = [
        Some(ParametersParameter { value_string: Some(refusal.upload.to_string()), ..named("upload") }),
        refusal
            .file_number
            .map(|number| ParametersParameter { value_string: Some(number.to_string()), ..named("fileNumber") }),
        // For people a file's records begin with 1.
        Some(ParametersParameter { value_integer: Some(refusal.position.saturating_add(1)), ..named("position") }),
        Some(ParametersParameter { value_instant: Some(refusal.recorded.into()), ..named("refused") }),
        Some(ParametersParameter { value_codeable_concept: Some(code.into()), ..named("code") }),
        refusal
            .nhs_number
            .as_ref()
            .map(|number| ParametersParameter { value_identifier: Some(nhs_identifier(number)), ..named("patient") }),
        refusal
            .reason
            .as_ref()
            .map(|reason| ParametersParameter { value_string: Some(reason.clone()), ..named("reason") }),
    ];
    let id = Some(format!("{}-{}", refusal.upload, refusal.position.saturating_add(1)));
    Parameters { id, meta: None, parameter: parameter.into_iter().flatten().collect() }
}
