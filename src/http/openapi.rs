//! `GET /openapi.json`: every route of the table, for people who explore and for tools; shown at `/docs`.

use utoipa::openapi::{
    Content, HttpMethod, Info, LicenseBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref,
    RefOr, Required, ResponseBuilder, ResponsesBuilder, Schema, SecurityRequirement, ServerBuilder, Type,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::ComponentsBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    query::FORMAT,
    routes::{Body, Route, Routes},
};
use crate::cpis::types::audit::Interaction;

const FHIR_JSON: &str = "application/fhir+json";
const BEARER: &str = "bearer";

/// The document; `base_path` is the FHIR base's path, `sandbox` adds its token endpoint.
pub fn document(base_path: &str, sandbox: bool) -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in Routes::default().all() {
        let path = if route.path.is_empty() { "/".to_owned() } else { route.path.to_owned() };
        paths = paths.path(format!("{base_path}{path}"), PathItem::new(method(route.method), operation(route)));
    }
    for (path, about) in [
        ("/_ping", "Whether the process answers, and its version. Open."),
        ("/_status", "Whether the service and what it depends on work. Open."),
    ] {
        let operation = OperationBuilder::new()
            .tag("system")
            .summary(Some(about))
            .responses(ResponsesBuilder::new().response("200", ResponseBuilder::new().description("It does.")).build())
            .build();
        paths = paths.path(path, PathItem::new(HttpMethod::Get, operation));
    }
    if sandbox {
        paths = paths.path("/sandbox/token", PathItem::new(HttpMethod::Post, token()));
    }
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
    let mut info = Info::new("CP-IS gateway", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Child-protection information over FHIR R4. Every access is audited before its answer leaves. \
         All bodies are FHIR JSON; every error is an OperationOutcome."
            .to_owned(),
    );
    info.license = Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build());
    let components = ComponentsBuilder::new()
        .security_scheme(BEARER, bearer)
        .schema("Resource", resource("Any FHIR R4 resource."))
        .schema("OperationOutcome", resource("What is wrong and what to do, with a Spine code for each issue."))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .components(Some(components))
        .paths(paths.build())
        .build()
}

fn resource(about: &str) -> Schema {
    ObjectBuilder::new()
        .description(Some(about))
        .property("resourceType", ObjectBuilder::new().schema_type(Type::String))
        .required("resourceType")
        .into()
}

fn method(name: &str) -> HttpMethod {
    match name {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn content(schema: &str) -> Content {
    Content::new(Some(RefOr::Ref(Ref::from_schema_name(schema))))
}

fn operation(route: &Route) -> Operation {
    let mut responses = ResponsesBuilder::new();
    for (status, about) in successes(route) {
        let mut response = ResponseBuilder::new().description(about);
        if status != "204" {
            response = response.content(FHIR_JSON, content("Resource"));
        }
        responses = responses.response(status, response);
    }
    for (status, about) in refusals(route) {
        responses = responses.response(
            status,
            ResponseBuilder::new().description(about).content(FHIR_JSON, content("OperationOutcome")),
        );
    }
    let mut operation = OperationBuilder::new()
        .tag(route.resource.unwrap_or("system"))
        .summary(Some(route.about))
        .operation_id(Some(operation_id(route)))
        .responses(responses.build());
    if !route.is_open() {
        let roles: Vec<&str> = route.callers.iter().map(|role| role.code()).collect();
        operation = operation
            .description(Some(format!("For: {}.", roles.join(", "))))
            .security(SecurityRequirement::new::<_, _, String>(BEARER, []));
    }
    for parameter in parameters(route) {
        operation = operation.parameter(parameter);
    }
    match route.body {
        Body::None => {}
        Body::Resource(about) => {
            let body = RequestBodyBuilder::new().description(Some(about)).content(FHIR_JSON, content("Resource"));
            operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
        }
        Body::Form => {
            let mut form = ObjectBuilder::new();
            for parameter in route.parameters.iter().chain(FORMAT) {
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some(parameter.about));
                form = form.property(parameter.name, text);
            }
            let form = Content::new(Some(RefOr::T(Schema::from(form))));
            let body = RequestBodyBuilder::new().content("application/x-www-form-urlencoded", form);
            operation = operation.request_body(Some(body.build()));
        }
    }
    operation.build()
}

fn operation_id(route: &Route) -> String {
    let path: String = route.path.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}{path}", route.method.to_ascii_lowercase())
}

fn parameters(route: &Route) -> Vec<Parameter> {
    let text = || Some(RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::String))));
    let mut parameters = Vec::new();
    for name in ["id", "vid"].into_iter().filter(|name| route.path.contains(&format!("{{{name}}}"))) {
        let id = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameters.push(id.schema(text()).build());
    }
    if route.body != Body::Form {
        for known in route.parameters.iter().chain(FORMAT) {
            let modifiers = known.modifiers.join(", ");
            let about = if modifiers.is_empty() {
                known.about.to_owned()
            } else {
                format!("{}. Also with {modifiers}", known.about)
            };
            let parameter = ParameterBuilder::new().name(known.name).parameter_in(ParameterIn::Query);
            parameters.push(parameter.required(Required::False).description(Some(about)).schema(text()).build());
        }
    }
    let mut headers = vec![
        ("X-Request-ID", "UUID; mirrored, and written in the audit"),
        ("TraceID", "The national API's name of the request id"),
        ("X-Correlation-ID", "Mirrored"),
    ];
    if route.callers.contains(&crate::cpis::types::caller::Role::Clinical) {
        headers.push(("IsUnscheduledAccessEvent", "true (or absent): unscheduled care; false: scheduled care"));
    }
    if matches!(route.method, "PUT" | "DELETE") {
        headers.push(("If-Match", "The version that must be current, such as W/\"3\""));
    }
    let stores = route.interaction != Interaction::Operation && matches!(route.body, Body::Resource(_));
    if matches!(route.method, "PUT" | "POST") && route.resource.is_some() && stores {
        headers.push(("Prefer", "return=minimal, representation or OperationOutcome"));
    }
    for name in route.honours {
        headers.push((name, "A condition of this request (RFC 9110; FHIR conditional interactions)"));
    }
    for (name, about) in headers {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
        parameters.push(parameter.description(Some(about)).schema(text()).build());
    }
    parameters
}

fn successes(route: &Route) -> Vec<(&'static str, &'static str)> {
    match (route.method, route.body) {
        _ if route.path.ends_with("/$validate") => vec![("200", "Judged: every problem, or that there is none.")],
        ("DELETE", _) => vec![("204", "Deleted.")],
        ("POST", Body::Resource("Flag")) => {
            vec![("201", "Created."), ("200", "The plan was there: corrected, or unchanged.")]
        }
        ("POST", Body::Resource("Subscription")) => vec![("201", "Created; the handshake follows.")],
        ("PUT", _) => vec![("200", "Replaced, or unchanged."), ("201", "Created.")],
        _ if route.honours.contains(&"If-None-Match") => {
            vec![("200", "Found."), ("304", "What If-None-Match names is current.")]
        }
        _ => vec![("200", "Found.")],
    }
}

fn refusals(route: &Route) -> Vec<(&'static str, &'static str)> {
    let mut refusals = vec![("400", "The request, or an id, header, parameter or body in it, is not valid.")];
    refusals.push(("406", "Another format than FHIR JSON was asked for."));
    if route.is_open() {
        if route.path.contains("{id}") {
            refusals.push(("404", "There is no such resource."));
        }
        if route.body != Body::None {
            refusals.push(("413", "The body is too long."));
            refusals.push(("415", "The body has another content type."));
        }
        return refusals;
    }
    refusals.extend([
        ("401", "No token, or one that is not accepted."),
        ("403", "Not permitted."),
        ("503", "The store is busy or the audit can't be made durable: no data is disclosed."),
    ]);
    if route.path.contains("{id}") {
        refusals.push(("404", "There is no such resource for this caller."));
        refusals.push(("410", "Deleted; said to its owner."));
    }
    if route.body != Body::None {
        refusals.push(("413", "The body is too long."));
        refusals.push(("415", "The body has another content type."));
    }
    let stores = route.interaction != Interaction::Operation;
    if stores && matches!(route.body, Body::Resource(_)) {
        refusals.push(("422", "A CP-IS rule is broken; each issue has its CPR code."));
    }
    if stores && matches!(route.method, "PUT" | "DELETE" | "POST") && route.body != Body::Form {
        refusals.push(("412", "If-Match or a condition failed."));
    }
    refusals
}

fn token() -> Operation {
    let mut form = ObjectBuilder::new();
    for (name, about) in [
        ("role", "clinical, local-authority, auditor or administrator"),
        ("organization", "ODS code; the role's first organisation without it"),
        ("user", "SDS user id; the organisation's first user without it"),
        ("activity", "Activity codes separated by commas, such as B0107"),
    ] {
        form = form.property(name, ObjectBuilder::new().schema_type(Type::String).description(Some(about)));
    }
    let form = Content::new(Some(RefOr::T(Schema::from(form.required("role")))));
    let body =
        RequestBodyBuilder::new().content("application/x-www-form-urlencoded", form).required(Some(Required::True));
    OperationBuilder::new()
        .tag("sandbox")
        .summary(Some("A token of the sandbox's own issuer (RFC 6749). Only in the sandbox."))
        .request_body(Some(body.build()))
        .responses(
            ResponsesBuilder::new()
                .response("200", ResponseBuilder::new().description("access_token, token_type, expires_in"))
                .response("400", ResponseBuilder::new().description("error, error_description"))
                .build(),
        )
        .build()
}
