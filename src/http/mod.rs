//! HTTP in, HTTP out; nothing else knows actix. The route table is in [`routes`], the table from error to status in
//! [`refusal`], one file a resource or interaction.

mod answer;
mod audit_event;
mod bundle;
mod care_plan;
mod care_team;
mod clinical;
mod date_range;
mod dispatch;
mod everything;
mod flag;
mod health;
mod metadata;
mod openapi;
mod organization;
mod paging;
mod patient;
mod patient_flag;
mod practitioner_role;
mod query;
mod refusal;
mod request_id;
mod routes;
pub mod sandbox;
pub mod service;
mod subscription;
mod unscheduled;
mod upload;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Payload, ServiceConfig},
};
use utoipa_swagger_ui::SwaggerUi;

use self::{
    answer::Answer,
    refusal::{Case, Refusal},
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
        .route("/_ping", web::get().to(health::ping))
        .route("/_status", web::get().to(health::status))
        .route("/sandbox/token", web::post().to(sandbox::token))
        .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document))
        .route("/docs", web::get().to(docs))
        .default_service(web::to(below_base));
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
    dispatch::respond(&Answer::from(&refusal), &request_id::RequestIds::default(), false)
}
