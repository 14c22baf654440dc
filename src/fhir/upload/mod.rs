//! An upload in FHIR: a Bundle, or a single Flag, Patient or Organization, read into record changes; and the answer
//! (design 6). Reading looks at nothing but what was sent; what it means for the records is judged in `cpis`.

mod answer;
mod bundle;
mod content;
mod layout;
mod organization;
mod request;
#[cfg(test)]
mod tests;

use chrono_tz::Tz;

use super::{
    outcome::{Issue, IssueCode, SpineCode},
    validate::Validators,
};
use crate::cpis::types::{OdsCode, upload::RecordCode};

pub use answer::{
    Loaded, REFUSED_WITH_ANOTHER, Stored, loaded_outcome, problem_issue, refused_transaction, single_status,
    transaction_status, unjudged_outcome,
};
pub use bundle::{BundleKind, EntryIssue, UploadBundle, UploadRecord, read_bundle, read_upload};
pub use content::{FlagRequest, read_flag, read_organization, read_patient};
pub use layout::{Frame, RecordLayout, unread};
pub use organization::{SENSITIVE, read_any_organization};
pub use request::{Criteria, delete_by_criteria, delete_by_id, if_match};

/// What reading needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The authenticated authority: a resource may name no other as its author. `None` when nothing is sent in an
    /// authority's name, but only validated.
    pub sender: Option<&'a OdsCode>,
    /// The zone of civil dates: a period sent with a time counts by its day there.
    pub zone: Tz,
    pub validators: &'a Validators,
    /// Most entries that a Bundle may have.
    pub max_entries: usize,
}

/// Valid R4, but against the CP-IS profile or rules: 422.
fn rule(expression: &str, diagnostics: &str) -> Issue {
    coded(RecordCode::Cpr07, expression, diagnostics)
}

fn coded(code: RecordCode, expression: &str, diagnostics: &str) -> Issue {
    Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, diagnostics).with_record_code(code).at(expression)
}

/// Not valid as FHIR R4: 400.
fn not_r4(code: IssueCode, spine: SpineCode, expression: &str, diagnostics: &str) -> Issue {
    Issue::error(code, spine, diagnostics).at(expression)
}
