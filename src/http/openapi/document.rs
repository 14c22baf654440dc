//! The document as a whole: what the service is, its tags, its paths, and what they share.

use serde_json::Value;
use utoipa::openapi::{
    HttpMethod, Info, LicenseBuilder, OpenApiBuilder, PathItem, PathsBuilder, ServerBuilder,
    schema::ComponentsBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use super::{
    examples::Examples,
    headers,
    operation::{self, BEARER},
    outside, parameters, responses,
    schemas::Schemas,
    written,
};
use crate::{config::PdsMode, fhir::validate::SchemaFault, http::routes::Routes};

const ABOUT: &str = "\
Child-protection information over FHIR R4 for the English service CP-IS. A clinician looks a child up by NHS number; a \
local authority uploads plans and is told of every access; an auditor sees every request.

- Every access is audited before its answer leaves; if it can't be, the answer is 503 and no data.
- All bodies below the FHIR base are FHIR JSON; every error is an `OperationOutcome` with a Spine code that says what to do.
- A parameter, modifier or prefix that isn't known is refused with 400, never ignored.
- `HEAD` is answered as `GET` is, without the body: it counts as the same access.
- A request without a good token is answered 401 before anything else is looked at. A method that a path does not take is \
answered 405 with `Allow`, an address that does not exist 404. What is no HTTP at all, or has a header of over 64 KB, is \
answered 400 or 431 without a body.
- The schemas show R4's elements without the `_name` siblings of primitives; those are accepted as R4 says.";

/// For whom the document is made.
pub struct Described<'a> {
    /// Absolute FHIR base, without a last slash.
    pub base_url: &'a str,
    /// Its path.
    pub base_path: &'a str,
    /// Its token endpoint is described too.
    pub sandbox: bool,
    /// Whether numbers are traced.
    pub pds_mode: PdsMode,
}

/// The document as JSON text.
///
/// # Errors
/// [`SchemaFault`] when an embedded file is broken: a fault of this program.
pub fn document(of: &Described<'_>) -> Result<Vec<u8>, SchemaFault> {
    let routes = Routes::offered(of.pds_mode);
    let (schemas, examples) = (Schemas::read()?, Examples::read(of.base_url)?);
    let mut paths = PathsBuilder::new();
    for route in routes.all() {
        let path = if route.path.is_empty() { "/" } else { route.path };
        let item = PathItem::new(method(route.method), operation::of(route, &routes, &schemas, &examples));
        paths = paths.path(format!("{}{path}", of.base_path), item);
    }
    for (path, method, operation) in outside::operations(of.sandbox) {
        paths = paths.path(path, PathItem::new(method, operation));
    }
    let token = if of.sandbox { " In the sandbox `POST /sandbox/token` gives one." } else { "" };
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(format!(
        "A signed JWT of a configured issuer (RS256, RS512, PS256, ES256 or ES384). It says who calls: a registered client \
         and, for clinicians, the user.{token}"
    )));
    let components = ComponentsBuilder::new().security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
    let components = parameters::shared(components);
    let components = headers::shared(components);
    let components = examples.shared(components);
    let components = responses::shared(components, &examples);
    let mut info = Info::new("CP-IS gateway", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    info.license = Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build());
    let tags = operation::tags(&routes).into_iter().chain(outside::tags(of.sandbox));
    let built = OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .tags(Some(tags.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .components(Some(components.build()))
        .paths(paths.build())
        .build();
    let mut document = serde_json::to_value(built).map_err(|_| SchemaFault::Json("openapi"))?;
    headers::mark_required(&mut document);
    let shapes = schemas.components_of(&document);
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("schemas".to_owned(), shapes);
    }
    written::text(&document).map_err(|_| SchemaFault::Json("openapi"))
}

fn method(name: &str) -> HttpMethod {
    match name {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "DELETE" => HttpMethod::Delete,
        "HEAD" => HttpMethod::Head,
        "PATCH" => HttpMethod::Patch,
        _ => HttpMethod::Get,
    }
}
