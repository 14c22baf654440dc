//! [`Issue`]: one thing to tell a caller, and the `OperationOutcome` made of them (design 4).
//! The words are for people and never echo what was sent.

use serde_json::Value;

use super::{
    datatype::{CodeableConcept, Coding},
    resource::{OperationOutcome, OperationOutcomeIssue},
    system,
};
use crate::cpis::types::upload::RecordCode;

/// `OperationOutcome.issue.severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Severity {
    Error,
    Warning,
    Information,
}

impl Severity {
    pub fn code(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Information => "information",
        }
    }
}

/// Defines an enum whose variants have a wire code each.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|c| c.code() == code)
            }
        }
    };
}

codes! {
    /// `OperationOutcome.issue.code` (<https://hl7.org/fhir/R4/valueset-issue-type.html>), those used here.
    IssueCode {
        Invalid = "invalid",
        Structure = "structure",
        Required = "required",
        Value = "value",
        Invariant = "invariant",
        CodeInvalid = "code-invalid",
        Login = "login",
        Expired = "expired",
        Forbidden = "forbidden",
        Processing = "processing",
        NotSupported = "not-supported",
        MultipleMatches = "multiple-matches",
        NotFound = "not-found",
        Deleted = "deleted",
        TooLong = "too-long",
        TooCostly = "too-costly",
        BusinessRule = "business-rule",
        Conflict = "conflict",
        Transient = "transient",
        Throttled = "throttled",
        Exception = "exception",
        Informational = "informational",
    }
}

codes! {
    /// Codes of Spine-ErrorOrWarningCode (domain.md 6.1), and the `TOO_MANY_REQUESTS` that PDS adds.
    SpineCode {
        AccessDenied = "ACCESS_DENIED",
        FailureToProcessMessage = "FAILURE_TO_PROCESS_MESSAGE",
        UnableToCallService = "UNABLE_TO_CALL_SERVICE",
        UnsupportedService = "UNSUPPORTED_SERVICE",
        ResourceNotFound = "RESOURCE_NOT_FOUND",
        InvalidResourceId = "INVALID_RESOURCE_ID",
        InvalidatedResource = "INVALIDATED_RESOURCE",
        InvalidSearchData = "INVALID_SEARCH_DATA",
        TooManyMatches = "TOO_MANY_MATCHES",
        TooManyRequests = "TOO_MANY_REQUESTS",
        PreconditionFailed = "PRECONDITION_FAILED",
        ResourceVersionMismatch = "RESOURCE_VERSION_MISMATCH",
        ForbiddenUpdate = "FORBIDDEN_UPDATE",
        ValidationError = "VALIDATION_ERROR",
        InvalidUpdate = "INVALID_UPDATE",
        MissingValue = "MISSING_VALUE",
        InvalidValue = "INVALID_VALUE",
        UnsupportedValue = "UNSUPPORTED_VALUE",
        TooFewValuesSubmitted = "TOO_FEW_VALUES_SUBMITTED",
        TooManyValuesSubmitted = "TOO_MANY_VALUES_SUBMITTED",
        AdditionalProperties = "ADDITIONAL_PROPERTIES",
    }
}

impl SpineCode {
    pub fn display(self) -> &'static str {
        match self {
            Self::AccessDenied => "Access has been denied to process this request",
            Self::FailureToProcessMessage => "Failure to process message",
            Self::UnableToCallService => "Unable to call service",
            Self::UnsupportedService => "Unsupported service",
            Self::ResourceNotFound => "Resource not found",
            Self::InvalidResourceId => "Resource Id is invalid",
            Self::InvalidatedResource => {
                "Resource that has been marked as invalid was requested - invalid resources cannot be retrieved"
            }
            Self::InvalidSearchData => "Invalid search data",
            Self::TooManyMatches => "Too many matches",
            Self::TooManyRequests => "Too many requests",
            Self::PreconditionFailed => "Precondition failed",
            Self::ResourceVersionMismatch => "Resource version mismatch",
            Self::ForbiddenUpdate => "Forbidden update",
            Self::ValidationError => "Validation error",
            Self::InvalidUpdate => "Invalid update",
            Self::MissingValue => "Required value is missing",
            Self::InvalidValue => "Provided value is invalid",
            Self::UnsupportedValue => "Provided value is not supported",
            Self::TooFewValuesSubmitted => "Too few values submitted",
            Self::TooManyValuesSubmitted => "Too many values submitted",
            Self::AdditionalProperties => "Unexpected property",
        }
    }

    fn coding(self) -> Coding {
        Coding { version: Some("1".to_owned()), ..Coding::displayed(system::SPINE_CODE, self.code(), self.display()) }
    }
}

/// One thing to tell a caller.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Issue {
    pub severity: Severity,
    pub code: IssueCode,
    pub spine: SpineCode,
    /// The CP-IS record code: set when a CP-IS rule or profile, not plain R4, is broken (so 422, not 400).
    pub cpr: Option<RecordCode>,
    /// Plain English, what to do; never a value that was sent.
    pub diagnostics: String,
    /// `FHIRPath` of the elements, such as `Flag.period.start`.
    pub expression: Vec<String>,
}

impl Issue {
    /// An error without a record code and without an element.
    pub fn error(code: IssueCode, spine: SpineCode, diagnostics: impl Into<String>) -> Self {
        let diagnostics = diagnostics.into();
        Self { severity: Severity::Error, code, spine, cpr: None, diagnostics, expression: Vec::new() }
    }

    #[must_use]
    pub fn at(self, expression: impl Into<String>) -> Self {
        Self { expression: vec![expression.into()], ..self }
    }

    #[must_use]
    pub fn with_record_code(self, code: RecordCode) -> Self {
        Self { cpr: Some(code), ..self }
    }

    /// True if a CP-IS rule or profile is broken (422); false if the body is not valid R4 (400).
    pub fn is_profile(&self) -> bool {
        self.cpr.is_some()
    }

    /// The same issue for a resource that sits inside another: with `prefix` `Bundle.entry[3].resource`,
    /// `Flag.period.start` becomes `Bundle.entry[3].resource.period.start`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        for expression in &mut self.expression {
            *expression = match expression.split_once(['.', '[']) {
                Some((root, _)) => format!("{prefix}{}", expression.get(root.len()..).unwrap_or_default()),
                None => prefix.to_owned(),
            };
        }
        self
    }

    fn render(&self) -> OperationOutcomeIssue {
        let record = self.cpr.map(|c| Coding::displayed(system::RECORD_RESPONSE, c.code(), c.display()));
        OperationOutcomeIssue {
            severity: self.severity.code().to_owned(),
            code: self.code.code().to_owned(),
            details: Some(CodeableConcept {
                coding: std::iter::once(self.spine.coding()).chain(record).collect(),
                text: None,
            }),
            diagnostics: Some(self.diagnostics.clone()),
            expression: self.expression.clone(),
        }
    }
}

/// An information issue that a record was loaded: CPR06, no Spine code (none of them says success).
pub fn loaded(diagnostics: impl Into<String>) -> OperationOutcomeIssue {
    let code = RecordCode::Cpr06;
    OperationOutcomeIssue {
        severity: Severity::Information.code().to_owned(),
        code: IssueCode::Informational.code().to_owned(),
        details: Some(Coding::displayed(system::RECORD_RESPONSE, code.code(), code.display()).into()),
        diagnostics: Some(diagnostics.into()),
        expression: Vec::new(),
    }
}

/// What is said when there is nothing to say: R4 has no empty outcome.
pub fn nothing_wrong(diagnostics: impl Into<String>) -> OperationOutcome {
    let issue = OperationOutcomeIssue {
        severity: Severity::Information.code().to_owned(),
        code: IssueCode::Informational.code().to_owned(),
        diagnostics: Some(diagnostics.into()),
        ..OperationOutcomeIssue::default()
    };
    OperationOutcome { issue: vec![issue], ..OperationOutcome::default() }
}

/// What the owner of a deleted plan finds in its history: the Flag's status since then.
pub fn deleted_plan() -> OperationOutcome {
    let issue = OperationOutcomeIssue {
        severity: Severity::Information.code().to_owned(),
        code: IssueCode::Deleted.code().to_owned(),
        details: Some(Coding::displayed(system::FLAG_STATUS, "entered-in-error", "Entered in Error").into()),
        diagnostics: Some("This plan was deleted: its status is entered-in-error since then.".to_owned()),
        expression: Vec::new(),
    };
    OperationOutcome { issue: vec![issue], ..OperationOutcome::default() }
}

/// An outcome that tells of a success, without codes of CP-IS.
pub fn information(diagnostics: impl Into<String>) -> OperationOutcome {
    let issue = OperationOutcomeIssue { details: None, ..loaded(diagnostics) };
    OperationOutcome { issue: vec![issue], ..OperationOutcome::default() }
}

/// The issues as a resource, in the order given.
pub fn operation_outcome(issues: &[Issue]) -> OperationOutcome {
    OperationOutcome { issue: issues.iter().map(Issue::render).collect(), ..OperationOutcome::default() }
}

/// The type of JSON that a value is, in words; never the value.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_issue_is_rendered_with_both_codes() {
        let issue = Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, "Give a start date.")
            .at("Flag.period.start")
            .with_record_code(RecordCode::Cpr07);
        assert_eq!(
            serde_json::to_value(operation_outcome(&[issue])).unwrap(),
            json!({"resourceType": "OperationOutcome", "issue": [{
                "severity": "error", "code": "business-rule",
                "details": {"coding": [
                    {"system": "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode", "version": "1",
                     "code": "INVALID_VALUE", "display": "Provided value is invalid"},
                    {"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.17.473", "code": "CPR07", "display": "Record not loaded"}]},
                "diagnostics": "Give a start date.", "expression": ["Flag.period.start"]}]})
        );
    }

    #[test]
    fn an_expression_moves_into_its_entry() {
        let moved = |text: &str| {
            let issue = Issue::error(IssueCode::Value, SpineCode::InvalidValue, "x").at(text);
            issue.within("Bundle.entry[3].resource").expression
        };
        assert_eq!(moved("Flag.period.start"), ["Bundle.entry[3].resource.period.start"]);
        assert_eq!(moved("Flag"), ["Bundle.entry[3].resource"]);
    }

    #[test]
    fn codes_are_distinct_and_found_again() {
        for code in SpineCode::ALL {
            assert_eq!(SpineCode::from_code(code.code()), Some(*code));
        }
        for code in IssueCode::ALL {
            assert_eq!(IssueCode::from_code(code.code()), Some(*code));
        }
    }
}
