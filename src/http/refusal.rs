//! The one table from what went wrong to HTTP status, FHIR issue code and Spine code (design 4).
//!
//! | Case | HTTP | issue.code | Spine code |
//! |---|---|---|---|
//! | `NhsNumber` in a URL or search | 400 | invalid | `INVALID_SEARCH_DATA` |
//! | `Header` | 400 | invalid | `PRECONDITION_FAILED` |
//! | `Parameter` unknown or bad, or another value in the request line | 400 | not-supported, value | `INVALID_VALUE` |
//! | `Body` not parseable or not valid R4 | 400 | as each issue says | as each issue says |
//! | `Rule` of CP-IS broken | 422 | as each issue says | as each issue says |
//! | `Token` none, empty, expired, forged | 401 | login, expired | `ACCESS_DENIED` |
//! | `Forbidden` | 403 | forbidden | `ACCESS_DENIED` |
//! | `NotFound` | 404 | not-found | `RESOURCE_NOT_FOUND` |
//! | `Gone` | 410 | deleted | `RESOURCE_NOT_FOUND` |
//! | `Version` doesn't match | 412 | conflict | `RESOURCE_VERSION_MISMATCH` |
//! | `Race` lost, or a duplicate in one transaction | 409 | conflict | `RESOURCE_VERSION_MISMATCH` |
//! | `TooLong` | 413 | too-long | `INVALID_VALUE` |
//! | `Method` | 405 | not-supported | `INVALID_VALUE` |
//! | `Accept`, `ContentType` | 406, 415 | not-supported | `INVALID_VALUE` |
//! | `TooMany` requests | 429 | throttled | `TOO_MANY_REQUESTS` |
//! | `Store` busy, down, or the audit not durable | 503 | transient | `UNABLE_TO_CALL_SERVICE` |
//! | `Fault` of ours | 500 | exception | `FAILURE_TO_PROCESS_MESSAGE` |

use actix_web::http::StatusCode;

use crate::{
    auth::{AuthFault, TokenFault},
    cpis,
    fhir::{
        outcome::{Issue, IssueCode, SpineCode},
        resource::OperationOutcome,
    },
};

/// What went wrong, as a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    NhsNumber,
    Header,
    Parameter,
    Body,
    Rule,
    Token,
    Forbidden,
    NotFound,
    Gone,
    Version,
    Race,
    TooLong,
    Method,
    Accept,
    ContentType,
    TooMany,
    Store,
    Fault,
}

impl Case {
    fn row(self) -> (StatusCode, IssueCode, SpineCode) {
        use IssueCode as I;
        use SpineCode as S;
        match self {
            Self::NhsNumber => (StatusCode::BAD_REQUEST, I::Invalid, S::InvalidSearchData),
            Self::Header => (StatusCode::BAD_REQUEST, I::Invalid, S::PreconditionFailed),
            Self::Parameter => (StatusCode::BAD_REQUEST, I::NotSupported, S::InvalidValue),
            Self::Body => (StatusCode::BAD_REQUEST, I::Structure, S::ValidationError),
            Self::Rule => (StatusCode::UNPROCESSABLE_ENTITY, I::BusinessRule, S::InvalidValue),
            Self::Token => (StatusCode::UNAUTHORIZED, I::Login, S::AccessDenied),
            Self::Forbidden => (StatusCode::FORBIDDEN, I::Forbidden, S::AccessDenied),
            Self::NotFound => (StatusCode::NOT_FOUND, I::NotFound, S::ResourceNotFound),
            Self::Gone => (StatusCode::GONE, I::Deleted, S::ResourceNotFound),
            Self::Version => (StatusCode::PRECONDITION_FAILED, I::Conflict, S::ResourceVersionMismatch),
            Self::Race => (StatusCode::CONFLICT, I::Conflict, S::ResourceVersionMismatch),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, I::TooLong, S::InvalidValue),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, I::NotSupported, S::InvalidValue),
            Self::Accept => (StatusCode::NOT_ACCEPTABLE, I::NotSupported, S::InvalidValue),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, I::NotSupported, S::InvalidValue),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, I::Throttled, S::TooManyRequests),
            Self::Store => (StatusCode::SERVICE_UNAVAILABLE, I::Transient, S::UnableToCallService),
            Self::Fault => (StatusCode::INTERNAL_SERVER_ERROR, I::Exception, S::FailureToProcessMessage),
        }
    }
}

/// A request that is not answered with what it asked for. The texts are for the caller.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub case: Case,
    pub issues: Vec<Issue>,
    /// Headers that the case needs: `Allow`, `WWW-Authenticate`, `Retry-After`.
    pub headers: Vec<(&'static str, String)>,
    /// What is answered instead of the issues alone: an upload's outcome carries its file code.
    pub outcome: Option<Box<OperationOutcome>>,
    audited: bool,
}

/// Seconds after which to try again when the store is busy.
const RETRY_AFTER: &str = "5";
/// Seconds after which another upload may be over.
const RETRY_AFTER_UPLOAD: &str = "30";

impl Refusal {
    pub fn new(case: Case, diagnostics: impl Into<String>) -> Self {
        let (_, code, spine) = case.row();
        Self {
            case,
            issues: vec![Issue::error(code, spine, diagnostics)],
            headers: Vec::new(),
            outcome: None,
            audited: false,
        }
    }

    /// The table's codes with issues that say more; the caller gets every one of them.
    pub fn with_issues(case: Case, issues: Vec<Issue>) -> Self {
        Self { case, issues, headers: Vec::new(), outcome: None, audited: false }
    }

    /// Of a body: 400 when any issue is against R4 itself, else 422.
    pub fn of_body(issues: Vec<Issue>) -> Self {
        let case = if issues.iter().all(Issue::is_profile) { Case::Rule } else { Case::Body };
        Self::with_issues(case, issues)
    }

    #[must_use]
    pub fn with_outcome(self, outcome: OperationOutcome) -> Self {
        Self { outcome: Some(Box::new(outcome)), ..self }
    }

    #[must_use]
    pub fn at(mut self, expression: &str) -> Self {
        self.issues = self.issues.into_iter().map(|issue| issue.at(expression)).collect();
        self
    }

    #[must_use]
    pub fn with_code(mut self, code: IssueCode) -> Self {
        for issue in &mut self.issues {
            issue.code = code;
        }
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The use case has written this refusal into the audit itself.
    #[must_use]
    pub fn audited(self) -> Self {
        Self { audited: true, ..self }
    }

    /// Whether nothing more is to be audited.
    pub fn already_audited(&self) -> bool {
        self.audited
    }

    pub fn status(&self) -> StatusCode {
        self.case.row().0
    }

    /// The Spine code for the audit: that of the first issue.
    pub fn spine_code(&self) -> &'static str {
        self.issues.first().map_or(self.case.row().2, |issue| issue.spine).code()
    }

    /// 405 with the methods that the path has.
    pub fn method(allow: &str) -> Self {
        Self::new(Case::Method, format!("This path takes {allow}.")).with_header("Allow", allow)
    }

    /// 404 in words that fit an id that was never given and one that the caller may not know of.
    pub fn not_found() -> Self {
        Self::new(Case::NotFound, "There is no such resource here.")
    }

    fn store() -> Self {
        Self::new(
            Case::Store,
            "The service can't answer safely at the moment. Please try again in a few seconds; if it is urgent, \
             phone the local authority's emergency duty team on its published number.",
        )
        .with_header("Retry-After", RETRY_AFTER)
    }

    /// Of a change by an authority: another one of the same record was there first.
    pub fn of_change(error: cpis::Error) -> Self {
        match error {
            cpis::Error::Race => Self::new(
                Case::Race,
                "Another change of the same record was made at the same moment. Nothing was stored: please send it again.",
            ),
            other => other.into(),
        }
    }

    /// 503: numbers can't be traced; `text` says what to do meanwhile.
    pub fn demographics(text: &str) -> Self {
        Self::new(Case::Store, text).with_header("Retry-After", RETRY_AFTER)
    }

    /// 503: as many large bodies as may be are being read.
    pub fn large_bodies() -> Self {
        Self::new(
            Case::Store,
            "Several large uploads are being read at the moment. Nothing of this one was stored: please send it again in a \
             minute.",
        )
        .with_header("Retry-After", RETRY_AFTER_UPLOAD)
    }

    /// 500: nothing of what happened leaves the process.
    pub fn fault() -> Self {
        Self::new(Case::Fault, "The service failed. The fault has been logged under this request's id.")
    }
}

impl From<cpis::Error> for Refusal {
    fn from(error: cpis::Error) -> Self {
        match error {
            cpis::Error::Unavailable(_) | cpis::Error::Race => {
                tracing::warn!(%error, "the store could not answer");
                Self::store()
            }
            cpis::Error::Fault(_) => {
                tracing::error!(%error, "the store holds what it should not");
                Self::fault()
            }
            cpis::Error::DemographicsUnavailable => Self::demographics(
                "NHS numbers can't be verified at the moment (CPF05). Nothing was stored: please send the same again later.",
            ),
            cpis::Error::OverCap { seconds } => Self::new(
                Case::TooMany,
                "You have asked for more different children within this hour than you may. Please try again after the time \
                 that Retry-After says; if a child can't wait, phone the local authority's emergency duty team, and ask \
                 whoever runs this service to lift the limit.",
            )
            .with_header("Retry-After", seconds.to_string())
            .audited(),
            cpis::Error::Occupied => Self::new(
                Case::Store,
                "Another change of your authority is still being made, and one is made at a time. Nothing of this one was \
                 stored: please send it again in a minute.",
            )
            .with_header("Retry-After", RETRY_AFTER_UPLOAD),
        }
    }
}

impl From<AuthFault> for Refusal {
    fn from(fault: AuthFault) -> Self {
        match fault {
            AuthFault::Token(fault) => {
                let code = if matches!(fault, TokenFault::Expired) { IssueCode::Expired } else { IssueCode::Login };
                let challenge = match fault {
                    TokenFault::Missing | TokenFault::Empty => "Bearer realm=\"cpis\"".to_owned(),
                    _ => "Bearer realm=\"cpis\", error=\"invalid_token\"".to_owned(),
                };
                Self::new(Case::Token, fault.to_string()).with_code(code).with_header("WWW-Authenticate", challenge)
            }
            AuthFault::Forbidden { reason, .. } => Self::new(Case::Forbidden, reason),
            AuthFault::Directory(fault) => {
                tracing::warn!(%fault, "the directory of clients could not be asked");
                Self::store()
            }
        }
    }
}

/// A response that could not be built is a fault of ours.
impl From<serde_json::Error> for Refusal {
    fn from(_: serde_json::Error) -> Self {
        tracing::error!("a response could not be written as JSON");
        Self::fault()
    }
}
