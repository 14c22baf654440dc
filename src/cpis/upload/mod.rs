//! What an upload means: every door (FHIR, HL7 v3, command line) delivers the same record changes, judged by the same
//! rules (design 6). Small ones are judged and applied in one transaction (`apply`), others are staged (`staging`); one
//! change of an authority at a time (`turn`).

pub mod alone;
pub mod answer;
pub mod apply;
mod discard;
pub mod file;
mod identity;
pub mod judge;
mod kept;
mod meant;
mod record;
mod relations;
mod staging;
pub mod status;
#[cfg(test)]
mod tests;
pub mod turn;
