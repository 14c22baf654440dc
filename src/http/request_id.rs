//! The ids by which a request is traced: `X-Request-ID` or `TraceID`, and `X-Correlation-ID` (design 3, headers).

use actix_web::{
    HttpResponse,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};
use uuid::Uuid;

use super::refusal::{Case, Refusal};
use crate::{
    cpis::types::nhs_number::contains_nhs_number,
    fhir::outcome::{IssueCode, SpineCode},
};

/// The ids of one request; made where absent.
#[derive(Clone)]
pub struct RequestIds {
    /// Written in audit and logs.
    pub request_id: String,
    /// The header that carried it.
    request_header: &'static str,
    trace_id: Option<String>,
    correlation_id: Option<String>,
}

impl Default for RequestIds {
    fn default() -> Self {
        let request_id = Uuid::new_v4().to_string();
        Self { request_id, request_header: "X-Request-ID", trace_id: None, correlation_id: None }
    }
}

impl RequestIds {
    /// # Errors
    /// [`Refusal`] 400 `INVALID_VALUE` for an id of another form.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned());
        let mut ids = Self::default();
        if let Some(trace) = text("TraceID") {
            if !is_plain(&trace) {
                return Err(invalid(
                    "TraceID must be 1 to 64 letters, digits, dots, hyphens or underscores, and no NHS number.",
                ));
            }
            ids.request_id.clone_from(&trace);
            ids.trace_id = Some(trace);
        }
        if let Some(request) = text("X-Request-ID") {
            // The canonical form only: what is mirrored and logged can then hold nothing else.
            let uuid = Uuid::parse_str(&request).ok().filter(|_| request.len() == 36);
            let Some(_) = uuid else {
                return Err(invalid("X-Request-ID must be a UUID, such as 0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10."));
            };
            ids.request_id = request;
        } else if ids.trace_id.is_some() {
            ids.request_header = "";
        }
        if let Some(correlation) = text("X-Correlation-ID") {
            if !is_plain(&correlation) {
                return Err(invalid(
                    "X-Correlation-ID must be 1 to 64 letters, digits, dots, hyphens or underscores, and no NHS number.",
                ));
            }
            ids.correlation_id = Some(correlation);
        }
        Ok(ids)
    }

    /// The request id for logs. A group of a UUID can be made to hold an NHS number; digits that only read like one across
    /// its hyphens are chance, and would withhold one id in ten. (Any other id was refused if it holds one.)
    pub fn loggable(&self) -> &str {
        if self.request_id.split('-').any(contains_nhs_number) { "withheld" } else { &self.request_id }
    }

    /// Headers of the answer.
    pub fn mirrored(&self) -> Vec<(&'static str, &str)> {
        let mut headers = Vec::new();
        if !self.request_header.is_empty() {
            headers.push((self.request_header, self.request_id.as_str()));
        }
        headers.extend(self.trace_id.as_deref().map(|id| ("TraceID", id)));
        headers.extend(self.correlation_id.as_deref().map(|id| ("X-Correlation-ID", id)));
        headers
    }

    /// Adds them to an answer.
    pub fn mirror(&self, response: &mut HttpResponse) {
        for (name, value) in self.mirrored() {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    let fits = (1..=64).contains(&text.len());
    fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && !contains_nhs_number(text)
}

fn invalid(diagnostics: &str) -> Refusal {
    let mut refusal = Refusal::new(Case::Header, diagnostics).with_code(IssueCode::Value);
    for issue in &mut refusal.issues {
        issue.spine = SpineCode::InvalidValue;
    }
    refusal
}
