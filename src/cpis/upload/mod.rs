//! What an upload means: every door (FHIR, HL7 v3, command line) delivers the same record changes, judged by the same
//! rules (design 6).

pub mod alone;
pub mod apply;
pub mod judge;
mod kept;
mod meant;
mod relations;
#[cfg(test)]
mod tests;
