//! The search grammar of R4 as this server speaks it: [`parameter`] is the row of the tables that every resource file has,
//! [`criterion`] reads what was sent for it, [`matching`] holds it against a resource, [`date`] knows prefixes and
//! precisions, [`result`] what shapes an answer (`_sort`, `_count`, `_summary` ...), [`page`] cursors and links,
//! [`include`] follows references, and [`searchset`] makes the Bundle. <https://hl7.org/fhir/R4/search.html>

pub mod criterion;
pub mod date;
pub mod include;
pub mod matching;
pub mod page;
pub mod parameter;
pub mod result;
pub mod searchset;

pub use page::{Page, Place};
pub use parameter::Parameter;
pub use result::Search;
pub use searchset::Searchset;
