//! HTTP in, HTTP out; nothing else knows actix. The route table is in [`routes`], the table from error to status in
//! [`refusal`], one file a resource or interaction.

mod answer;
mod audit_event;
mod bundle;
mod care_plan;
mod care_team;
mod clinical;
pub mod definitions;
mod dispatch;
mod everything;
mod flag;
mod health;
mod history;
mod metadata;
mod openapi;
mod organization;
mod patient;
mod patient_flag;
mod practitioner_role;
mod precondition;
mod prefer;
mod query;
mod refusal;
mod request_id;
mod routes;
pub mod sandbox;
mod search;
pub mod service;
mod subscription;
mod unscheduled;
mod upload;
mod validate;

use actix_web::{
    HttpRequest, HttpResponse, Resource, Route,
    dev::Service as _,
    guard::{Any, Get, Head, fn_guard},
    http::Method,
    middleware::DefaultHeaders,
    web::{self, Data, Payload, ServiceConfig},
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use self::{
    answer::Answer,
    refusal::{Case, Refusal},
    request_id::RequestIds,
    routes::Routes,
    service::Service,
};

pub use metadata::ACCESS_TOPIC;

/// Registers everything that is served.
pub fn configure(config: &mut ServiceConfig, service: Data<Service>) {
    let base = service.settings.base_path.clone();
    let document = openapi::document(&base, service.sandbox.is_some());
    config
        .app_data(service)
        .app_data(Data::new(Routes::default()))
        .service(only_get("/_ping", read().to(health::ping)))
        .service(only_get("/_status", read().to(health::status)))
        .service(
            web::resource("/sandbox/token")
                .route(web::post().to(sandbox::token))
                .default_service(web::to(sandbox::another_method)),
        )
        .service(
            web::scope("")
                .guard(fn_guard(|context| {
                    let path = context.head().uri.path();
                    path == "/openapi.json" || path.starts_with("/docs/")
                }))
                .wrap(DefaultHeaders::new().add(("Content-Security-Policy", PAGE_POLICY)))
                // Its files know GET only; the server leaves the body of a HEAD out whoever made it.
                .wrap_fn(|mut request, next| {
                    if request.method() == Method::HEAD {
                        request.head_mut().method = Method::GET;
                    }
                    next.call(request)
                })
                // Without that the page would ask a validator on the internet about the document.
                .service(
                    SwaggerUi::new("/docs/{_:.*}")
                        .url("/openapi.json", document)
                        .config(Config::default().validator_url("none")),
                ),
        )
        .route("/docs", read().to(docs))
        .default_service(web::to(below_base));
}

/// The API page may load and ask nothing but this server; its scripts set styles on elements.
const PAGE_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                           base-uri 'none'; frame-ancestors 'none'";

/// GET and HEAD.
fn read() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

fn only_get(path: &str, route: Route) -> Resource {
    let refuse = |request: HttpRequest| async move {
        let ids = RequestIds::of(request.headers()).unwrap_or_default();
        dispatch::respond(&Answer::from(&Refusal::method("GET, HEAD")), &ids, false)
    };
    web::resource(path).route(route).default_service(web::to(refuse))
}

/// The API page is a directory: its files are relative to it.
async fn docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header(("Location", "/docs/")).finish()
}

async fn below_base(
    service: Data<Service>,
    routes: Data<Routes>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let base = &service.settings.base_path;
    let below = request.path().strip_prefix(base.as_str());
    if below.is_some_and(|below| below.is_empty() || below.starts_with('/')) {
        return dispatch::dispatch(service.into_inner(), &routes, request, payload).await;
    }
    let refusal = Refusal::new(Case::NotFound, format!("There is nothing here. The FHIR base is {base}."));
    dispatch::respond(&Answer::from(&refusal), &RequestIds::default(), false)
}
