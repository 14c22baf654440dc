//! FHIR R4 as a language: resources, strict JSON, rendering of domain facts, validation, `OperationOutcome`.
//! Pure: facts in, resources out; knows no HTTP and no store.

pub mod datatype;
pub mod date;
pub mod definitions;
pub mod etag;
pub mod json;
pub mod outcome;
pub mod render;
pub mod resource;
pub mod subset;
pub mod system;
pub mod upload;
pub mod validate;
