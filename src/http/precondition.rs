//! Conditions in the headers of a request: `If-Match` and `If-None-Match: *` of a change, `If-None-Match` and
//! `If-Modified-Since` of a read (RFC 9110 13; R4 http.html). Only for what the caller owns, and for organisations: a
//! clinician gets no version to compare with.

use actix_web::http::{StatusCode, header::HttpDate};
use chrono::{DateTime, Utc};

use super::{
    answer::Answer,
    dispatch::Call,
    refusal::{Case, Refusal},
};
use crate::{
    cpis::types::Precondition,
    fhir::{etag::EntityTags, resource::Resource, upload::if_match},
};

/// What a read found: the version of a resource, and whether a copy of it may be called unchanged.
pub struct Current {
    pub resource: Resource,
    /// From 1.
    pub version: i64,
    /// When what is shown last changed, as `meta.lastUpdated`.
    pub modified: DateTime<Utc>,
    /// The version says all: what is shown doesn't change without a new one.
    pub settled: bool,
}

impl Call {
    /// The condition of a change. Both headers together contradict each other.
    ///
    /// # Errors
    /// [`Refusal`] 400 for a header that can't be understood: ignored, it would let a change through that was not meant.
    pub fn precondition(&self) -> Result<Precondition, Refusal> {
        if self.headers.contains_key("if-unmodified-since") {
            return Err(invalid("Send If-Match with the version: a date can't tell two changes in one second apart."));
        }
        if self.headers.contains_key("if-none-exist") {
            return Err(invalid(
                "If-None-Exist is for a create by POST. Send If-None-Match: * or criteria in the URL.",
            ));
        }
        match (self.joined("if-match"), self.joined("if-none-match")) {
            (None, None) => Ok(Precondition::None),
            (Some(tag), None) => if_match(&tag).map_err(|issue| invalid(&issue.diagnostics)),
            (None, Some(tags)) if EntityTags::read(&tags) == Some(EntityTags::Any) => Ok(Precondition::Absent),
            (None, Some(_)) => Err(invalid("If-None-Match of a change may only be *: there is nothing yet.")),
            (Some(_), Some(_)) => Err(invalid("Send either If-Match or If-None-Match with a change.")),
        }
    }

    /// Refuses a condition that a create of this type doesn't know.
    ///
    /// # Errors
    /// [`Refusal`] 400 when `If-None-Exist` is sent.
    pub fn without_criteria(&self) -> Result<(), Refusal> {
        match self.headers.contains_key("if-none-exist") {
            false => Ok(()),
            true => Err(invalid("If-None-Exist is known for Flag only. Search first, then create.")),
        }
    }

    /// Refuses a condition on a version where a new resource is made.
    ///
    /// # Errors
    /// [`Refusal`] 400 when one is sent.
    pub fn without_version(&self) -> Result<(), Refusal> {
        let names = ["if-match", "if-none-match", "if-unmodified-since"];
        match names.iter().any(|name| self.headers.contains_key(*name)) {
            false => Ok(()),
            true => Err(invalid("A create has no version to compare with. Send If-None-Exist, or none of these.")),
        }
    }

    /// The values of a header that may be sent several times, as one list.
    fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.headers.get_all(name).map(|value| value.to_str().unwrap_or("?")).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn is_unchanged(&self, current: &Current) -> bool {
        if !current.settled {
            return false;
        }
        match self.joined("if-none-match") {
            // The date counts only without a tag (RFC 9110 13.1.3).
            Some(tags) => EntityTags::read(&tags).is_some_and(|tags| tags.names(current.version)),
            None => self.joined("if-modified-since").is_some_and(|date| {
                is_since(&date, current.version, current.modified, self.service.gateway.clock.now())
            }),
        }
    }
}

impl Answer {
    /// A read of a version: 200, or 304 without a body when the caller has it already. To be sent after the audit.
    pub fn read(call: &Call, current: Current) -> Self {
        let answer = if call.is_unchanged(&current) {
            Self::empty(StatusCode::NOT_MODIFIED)
        } else {
            Self::ok(current.resource)
        };
        answer.with_version(current.version, current.modified)
    }
}

/// Whether nothing has changed since a date as HTTP writes it. What is no date, or lies in the future, says nothing.
///
/// A date can't tell two changes within its second apart: only for the first version is that second enough.
fn is_since(date: &str, version: i64, modified: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let Ok(since) = date.parse::<HttpDate>() else { return false };
    let since = DateTime::<Utc>::from(std::time::SystemTime::from(since)).timestamp();
    let second = modified.timestamp();
    since <= now.timestamp() && (second < since || (second == since && version == 1))
}

fn invalid(diagnostics: &str) -> Refusal {
    Refusal::new(Case::Header, format!("Missing or invalid header parameter: {diagnostics}"))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_date_is_compared_by_the_second() {
        let at = |second, milli: u32| {
            Utc.with_ymd_and_hms(2026, 11, 23, 12, 0, second).unwrap() + chrono::TimeDelta::milliseconds(milli.into())
        };
        let now = at(30, 0);
        for (date, version, modified, expected) in [
            ("Mon, 23 Nov 2026 12:00:10 GMT", 1, at(10, 250), true),
            ("Mon, 23 Nov 2026 12:00:10 GMT", 2, at(10, 250), false),
            ("Mon, 23 Nov 2026 12:00:11 GMT", 2, at(10, 250), true),
            ("Mon, 23 Nov 2026 12:00:09 GMT", 1, at(10, 250), false),
            ("Mon, 23 Nov 2026 12:00:31 GMT", 1, at(10, 250), false),
            // The two old forms, which RFC 9110 asks to be read too.
            ("Monday, 23-Nov-26 12:00:10 GMT", 1, at(10, 0), true),
            ("Mon Nov 23 12:00:10 2026", 1, at(10, 0), true),
            ("2026-11-23T12:00:10Z", 1, at(10, 0), false),
            ("", 1, at(10, 0), false),
            ("yesterday", 1, at(10, 0), false),
        ] {
            assert_eq!(is_since(date, version, modified, now), expected, "{date} {version}");
        }
    }
}
