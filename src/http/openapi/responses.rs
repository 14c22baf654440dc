//! What a route may answer: its successes, and the refusals of design 4 that can happen on it.

use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, ResponseBuilder, ResponsesBuilder, Schema,
    response::Responses,
    schema::{AnyOfBuilder, ComponentsBuilder},
};

use super::{
    examples::Examples,
    headers,
    operation::key,
    schemas::{RESOURCE, Schemas},
};
use crate::{
    cpis::types::{audit::Interaction, caller::Role},
    http::routes::{Body, Route, Routes},
};

pub const FHIR_JSON: &str = "application/fhir+json";
const OUTCOME: &str = "OperationOutcome";

/// A refusal: status, name of the shared response, what it means, the header that it always has.
struct Refused(&'static str, &'static str, &'static str, Option<&'static str>);

const REFUSALS: &[Refused] = &[
    Refused(
        "400",
        "BadRequest",
        "The request, or an id, header, parameter or body in it, isn't valid: one issue for each problem, with its `expression`.",
        None,
    ),
    Refused("401", "Unauthorized", "No token, or one that isn't accepted.", Some("WWW-Authenticate")),
    Refused(
        "403",
        "Forbidden",
        "Not for this role, not for this caller, or scheduled care. Decided before the child is looked up.",
        None,
    ),
    Refused("404", "NotFound", "There is no such resource, or none that this caller may know of.", None),
    Refused("405", "MethodNotAllowed", "The path does not take this method.", Some("Allow")),
    Refused("406", "NotAcceptable", "Another format than FHIR JSON was asked for.", None),
    Refused(
        "409",
        "Conflict",
        "Another change of the same record was made at the same moment, or a transaction names one twice. Nothing was stored.",
        None,
    ),
    Refused("410", "Gone", "Deleted; said to its owner alone.", None),
    Refused(
        "412",
        "PreconditionFailed",
        "If-Match or If-None-Exist failed, or a condition fits several. Nothing was stored.",
        None,
    ),
    Refused("413", "ContentTooLarge", "The body is too long, or has too many entries.", None),
    Refused("415", "UnsupportedMediaType", "The body has another content type, or is encoded.", None),
    Refused(
        "422",
        "UnprocessableContent",
        "Valid R4, but a rule of CP-IS is broken: each issue has its CPR code.",
        None,
    ),
    Refused(
        "429",
        "TooManyRequests",
        "The caller asked for more different children within the hour than it may; only where the operator has chosen to \
         refuse that.",
        Some("Retry-After"),
    ),
    Refused("500", "InternalServerError", "Our fault; it has been logged under this request's id.", None),
    Refused(
        "503",
        "ServiceUnavailable",
        "The store is busy or the audit can't be made durable: no data is disclosed, nothing was stored.",
        Some("Retry-After"),
    ),
];

/// Adds the refusals, which all routes share.
pub fn shared(components: ComponentsBuilder, examples: &Examples) -> ComponentsBuilder {
    REFUSALS.iter().fold(components, |components, Refused(status, name, about, header)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(OUTCOME)));
        let response = always(ResponseBuilder::new().description(*about));
        let response =
            header.iter().fold(response, |response, name| response.header_ref(*name, headers::reference(name)));
        components.response(*name, response.content(FHIR_JSON, examples.refusal(status, content)).build())
    })
}

fn always(response: ResponseBuilder) -> ResponseBuilder {
    let names = ["X-Request-ID", "X-Correlation-ID", "Cache-Control"];
    names.into_iter().fold(response, |response, name| response.header_ref(name, headers::reference(name)))
}

/// The shared response of a status.
pub fn refused(status: &str) -> Ref {
    let name = REFUSALS.iter().find(|refused| refused.0 == status).map_or("BadRequest", |refused| refused.1);
    Ref::from_response_name(name)
}

pub fn of(route: &Route, routes: &Routes, schemas: &Schemas, examples: &Examples) -> Responses {
    let mut responses = ResponsesBuilder::new();
    let key = key(route);
    for (status, about) in successes(route) {
        let mut response = always(ResponseBuilder::new().description(about));
        for name in headers_of(route, status) {
            response = response.header_ref(*name, headers::reference(name));
        }
        let is_empty = matches!(status, "204" | "304") || (status == "202" && !route.tells_only);
        if !is_empty {
            let content = ContentBuilder::new().schema(Some(body(route, schemas)));
            response = response.content(FHIR_JSON, examples.response(&key, content));
        }
        responses = responses.response(status, response.build());
    }
    for status in refusals(route, routes) {
        responses = responses.response(status, RefOr::Ref(refused(status)));
    }
    responses.build()
}

fn successes(route: &Route) -> Vec<(&'static str, &'static str)> {
    let mut successes = match route.interaction {
        Interaction::Create if route.resource == Some("Flag") => {
            vec![("201", "Created."), ("200", "The plan was there: corrected, or unchanged.")]
        }
        Interaction::Create => vec![("201", "Created.")],
        // Criteria that find nothing make something.
        Interaction::Update if route.creates || !route.path.contains("{id}") => {
            vec![("200", "Replaced, or unchanged."), ("201", "Created.")]
        }
        Interaction::Update => vec![("200", "Replaced, or unchanged.")],
        Interaction::Delete => vec![("204", "Deleted, or deleted before.")],
        Interaction::Batch | Interaction::Transaction => {
            vec![
                ("200", "Each entry with its own status and outcome; the file's CPF code in `meta.tag`."),
                ("202", "It takes longer, or is to be answered later: the answer will be at Content-Location."),
            ]
        }
        Interaction::Operation if route.is_upload_status() && route.method == "DELETE" => {
            vec![("202", "Taken back if it was not applied yet; its answer is given no more.")]
        }
        Interaction::Operation if route.is_upload_status() => vec![
            ("200", "What the upload is answered with, as the one entry of a batch-response Bundle."),
            ("202", "It goes on."),
        ],
        Interaction::SearchType => vec![("200", "What was found; nothing is no error.")],
        Interaction::Operation if is_validation(route) => {
            vec![("200", "Judged: every problem, or that there is none.")]
        }
        _ if route.tells_only => vec![("202", "Taken; the same answer whatever is held.")],
        _ => vec![("200", "Found.")],
    };
    if route.honours.contains(&"If-None-Match") {
        successes.push(("304", "What If-None-Match names is current, or nothing has changed since If-Modified-Since."));
    }
    successes
}

/// `$validate`, whose answer to an invalid resource is a success.
pub fn is_validation(route: &Route) -> bool {
    route.path.ends_with("/$validate")
}

/// Whether each child asked for counts against the caller's cap.
fn counts_children(route: &Route) -> bool {
    let about_a_child = !matches!(route.resource, Some("Organization"));
    about_a_child && !is_validation(route) && !route.is_open() && route.callers.contains(&Role::Clinical)
}

/// The headers of a success beside those that every answer has.
fn headers_of(route: &Route, status: &str) -> &'static [&'static str] {
    match route.interaction {
        Interaction::Batch | Interaction::Transaction if status == "202" => &["Content-Location", "Retry-After"],
        Interaction::Operation if status == "202" && route.method == "GET" => &["X-Progress", "Retry-After"],
        Interaction::Create | Interaction::Update => &["ETag", "Last-Modified", "Location"],
        Interaction::Read | Interaction::Vread => &["ETag", "Last-Modified"],
        _ if status == "304" || route.honours.contains(&"If-None-Match") => &["ETag"],
        _ => &[],
    }
}

/// What a success holds.
fn body(route: &Route, schemas: &Schemas) -> Schema {
    let reference = |name: &str| Ref::from_schema_name(schemas.name(name));
    let resource = route.resource.unwrap_or(RESOURCE);
    let operation = route.path.rsplit(['/', '$']).next().unwrap_or_default();
    let of = match (route.interaction, operation) {
        // As Prefer asks.
        (Interaction::Create | Interaction::Update, _) => vec![resource, OUTCOME],
        (Interaction::Read | Interaction::Vread, _) => vec![resource],
        (Interaction::Operation, "metadata") => vec!["CapabilityStatement", "TerminologyCapabilities"],
        (Interaction::Operation, _) if is_validation(route) || route.tells_only => vec![OUTCOME],
        _ => vec!["Bundle"],
    };
    let any = of.into_iter().fold(AnyOfBuilder::new(), |any, name| any.item(reference(name)));
    Schema::AnyOf(any.build())
}

/// The statuses of refusals that can happen.
fn refusals(route: &Route, routes: &Routes) -> Vec<&'static str> {
    let mut statuses = vec!["400", "406", "500"];
    if !route.is_open() {
        statuses.extend(["401", "403", "503"]);
    }
    let changes = matches!(
        route.interaction,
        Interaction::Create | Interaction::Update | Interaction::Delete | Interaction::Batch | Interaction::Transaction
    );
    let on_one = route.path.contains("{id}") || matches!(route.interaction, Interaction::Update | Interaction::Delete);
    if counts_children(route) {
        statuses.push("429");
    }
    if on_one {
        statuses.push("404");
    }
    let deleted = |other: &Route| other.interaction == Interaction::Delete && other.resource == route.resource;
    if on_one && route.callers.contains(&Role::LocalAuthority) && routes.all().iter().any(deleted) {
        statuses.push("410");
    }
    if route.body != Body::None {
        statuses.extend(["413", "415"]);
    }
    if changes {
        statuses.extend(["409", "412", "422"]);
    }
    statuses
}
