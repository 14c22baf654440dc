//! XML as it is read and written here. Reading: a document is a root and its children, each child a small tree that is
//! read, used and dropped; entities are never resolved, and depth, size and number of all parts are bounded.

mod document;
mod element;
mod input;
mod writer;

pub use document::{Document, Limits};
pub use element::{Element, Space};
pub use writer::Writer;

/// Namespace of HL7 v3.
pub const HL7: &str = "urn:hl7-org:v3";
/// Namespace of `npfitlc:contentId`.
pub const LOCALISATION: &str = "NPFIT:HL7:Localisation";

/// Characters that XML 1.0 allows.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
