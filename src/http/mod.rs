//! HTTP in, HTTP out; nothing else knows actix. The route table is in [`routes`], the table from error to status in
//! [`refusal`], one file a resource or interaction.

mod answer;
mod audit_event;
mod bundle;
pub mod by_mesh;
mod care_plan;
mod care_team;
mod clinical;
pub mod definitions;
mod dispatch;
mod docs;
mod everything;
mod flag;
mod health;
mod history;
mod inactive;
mod keys;
pub mod management;
mod metadata;
mod openapi;
mod organization;
mod patient;
mod patient_flag;
mod patient_match;
mod practitioner_role;
mod precondition;
mod prefer;
mod query;
mod refusal;
mod refused_records;
mod request_id;
mod routes;
pub mod sandbox;
mod search;
pub mod service;
mod subscription;
mod unscheduled;
mod upload;
mod upload_status;
mod validate;

use actix_web::{
    HttpRequest, HttpResponse, Resource, Route,
    guard::{Any, Get, Head},
    web::{self, Data, Payload, ServiceConfig},
};

use self::{
    answer::Answer,
    refusal::{Case, Refusal},
    request_id::RequestIds,
    routes::Routes,
    service::Service,
};

/// Registers everything that is served.
pub fn configure(config: &mut ServiceConfig, service: Data<Service>) {
    config
        .app_data(service)
        .app_data(Data::new(Routes::default()))
        .service(only_get("/_ping", read().to(health::ping)))
        .service(only_get("/_status", read().to(health::status)))
        .service(only_get("/.well-known/jwks.json", read().to(keys::keys)))
        .service(
            web::resource("/sandbox/token")
                .route(web::post().to(sandbox::token))
                .default_service(web::to(sandbox::another_method)),
        )
        .configure(docs::configure)
        .default_service(web::to(below_base));
}

/// GET and HEAD.
fn read() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

fn only_get(path: &str, route: Route) -> Resource {
    let refuse = |request: HttpRequest| async move { respond_refusal(&request, &Refusal::method("GET, HEAD")) };
    web::resource(path).route(route).default_service(web::to(refuse))
}

/// A refusal of what is not below the FHIR base.
fn respond_refusal(request: &HttpRequest, refusal: &Refusal) -> HttpResponse {
    let ids = RequestIds::of(request.headers()).unwrap_or_default();
    dispatch::respond(&Answer::from(refusal), &ids, false)
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
    respond_refusal(&request, &refusal)
}
