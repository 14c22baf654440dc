//! An answer before it becomes an HTTP response.

use actix_web::{http::StatusCode, web::Bytes};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::refusal::Refusal;
use crate::fhir::{etag, outcome::operation_outcome, resource::Resource, subset::Subset};

/// What a handler gives: status, resource, headers.
pub struct Answer {
    pub status: StatusCode,
    pub resource: Option<Resource>,
    /// JSON that is written already, instead of a resource.
    pub written: Option<Bytes>,
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub fn ok(resource: impl Into<Resource>) -> Self {
        Self { status: StatusCode::OK, resource: Some(resource.into()), ..Self::empty(StatusCode::OK) }
    }

    /// JSON that is written already.
    pub fn written(json: Bytes) -> Self {
        Self { written: Some(json), ..Self::empty(StatusCode::OK) }
    }

    pub fn empty(status: StatusCode) -> Self {
        Self { status, resource: None, written: None, headers: Vec::new() }
    }

    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Only the part of the resource that was asked for.
    ///
    /// # Errors
    /// When the resource can't be written as JSON.
    pub fn cut_to(self, subset: Option<&Subset>) -> Result<Self, Refusal> {
        let (Some(subset), Some(resource)) = (subset, &self.resource) else { return Ok(self) };
        let part = subset.apply(serde_json::to_value(resource)?);
        Ok(Self { resource: Some(Resource::Other(part)), ..self })
    }

    /// `ETag` and `Last-Modified` of a version that the caller owns.
    #[must_use]
    pub fn with_version(self, version: i64, modified: DateTime<Utc>) -> Self {
        self.with_header("ETag", etag::of_version(version))
            .with_header("Last-Modified", modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
    }
}

impl From<&Refusal> for Answer {
    fn from(refusal: &Refusal) -> Self {
        let outcome = refusal.outcome.as_deref().cloned().unwrap_or_else(|| operation_outcome(&refusal.issues));
        Self { headers: refusal.headers.clone(), ..Self::ok(outcome).with_status(refusal.status()) }
    }
}

/// A resource as JSON text.
///
/// # Errors
/// When the resource can't be written.
pub fn json(resource: &impl Serialize, pretty: bool) -> Result<Vec<u8>, serde_json::Error> {
    if pretty { serde_json::to_vec_pretty(resource) } else { serde_json::to_vec(resource) }
}
