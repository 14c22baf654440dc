//! `Prefer` (RFC 7240; R4 http.html#return): what a change is answered with.

use actix_web::http::{StatusCode, header::HeaderMap};

use super::{
    answer::Answer,
    refusal::{Case, Refusal},
};
use crate::fhir::resource::{OperationOutcome, Resource};

/// `Prefer: return=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Minimal,
    Representation,
    OperationOutcome,
}

impl Return {
    /// What is asked for, if anything is; read before anything is stored, so that a refusal means that nothing was.
    ///
    /// # Errors
    /// [`Refusal`] 400 for another value.
    pub fn asked(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        match preference(headers, "return").as_deref() {
            None => Ok(None),
            Some("minimal") => Ok(Some(Self::Minimal)),
            Some("representation") => Ok(Some(Self::Representation)),
            Some("OperationOutcome") => Ok(Some(Self::OperationOutcome)),
            Some(_) => Err(Refusal::new(
                Case::Header,
                "Missing or invalid header parameter: Prefer return must be minimal, representation or \
                 OperationOutcome.",
            )),
        }
    }

    /// The body that was asked for: none, the resource, or what is told of the change.
    pub fn answer(self, status: StatusCode, resource: Resource, told: OperationOutcome) -> Answer {
        match self {
            Self::Minimal => Answer::empty(status),
            Self::OperationOutcome => Answer::ok(told).with_status(status),
            Self::Representation => Answer::ok(resource).with_status(status),
        }
    }
}

/// The value of a preference, unquoted; empty when it has none. Of one that is given twice the first counts (RFC 7240 2).
pub fn preference(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all("prefer").filter_map(|value| value.to_str().ok());
    all.flat_map(|value| split(value, ',')).find_map(|preference| {
        // What follows a semicolon are parameters of the preference; none has a meaning here.
        let first = split(preference, ';').into_iter().next()?;
        let (given, value) = first.split_once('=').unwrap_or((first, ""));
        given.trim().eq_ignore_ascii_case(name).then(|| unquoted(value.trim()))
    })
}

/// The parts between separators that are not within quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let cut = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        cut
    })
    .collect()
}

/// A token as it is; of a quoted string what is quoted.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    quoted
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static("prefer"), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_preference_is_found_in_every_spelling() {
        for values in [
            &["return=minimal"][..],
            &["Return = minimal"],
            &["return=\"minimal\""],
            &["return=\"mini\\mal\""],
            &["respond-async", "return=minimal"],
            &["respond-async, wait=10,return=minimal; foo=\"a,b\""],
            &["foo=\"x, return=representation\"; bar, return=minimal"],
            &["return=minimal, return=representation"],
            &["return=minimal", "return=nothing"],
        ] {
            assert_eq!(Return::asked(&headers(values)).ok(), Some(Some(Return::Minimal)), "{values:?}");
        }
        for values in [&[][..], &["respond-async"], &["handling=lenient; return=minimal"], &["foo=\"return=minimal\""]]
        {
            assert_eq!(Return::asked(&headers(values)).ok(), Some(None), "{values:?}");
        }
        for value in ["return", "return=", "return=nothing", "return=operationoutcome", "return=\"minimal"] {
            assert!(Return::asked(&headers(&[value])).is_err(), "{value}");
        }
        assert_eq!(preference(&headers(&["handling=lenient"]), "handling").as_deref(), Some("lenient"));
    }
}
