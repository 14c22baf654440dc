//! `/_ping` and `/_status`: is the process up, and does what it depends on work. Open; they tell nothing of any record.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde_json::{Value, json};

use super::{request_id::RequestIds, service::Service};
use crate::cpis::types::caller::Role;

fn respond(request: &HttpRequest, status: StatusCode, body: &Value) -> HttpResponse {
    let ids = RequestIds::of(request.headers()).unwrap_or_default();
    let mut response = HttpResponse::build(status);
    response.insert_header(("Cache-Control", "no-store"));
    let mut response = response.json(body);
    ids.mirror(&mut response);
    response
}

/// What build answers.
fn release() -> Value {
    json!({
        "version": concat!("v", env!("CARGO_PKG_VERSION")),
        "revision": env!("CARGO_PKG_VERSION"),
        "releaseId": env!("CARGO_PKG_VERSION"),
        "commitId": option_env!("CPIS_COMMIT").unwrap_or("unknown"),
    })
}

/// 200 as long as the process answers.
pub async fn ping(request: HttpRequest) -> HttpResponse {
    respond(&request, StatusCode::OK, &release())
}

/// 200 when the store can be read, else 503. Which authorities are silent is told to administrators alone.
pub async fn status(request: HttpRequest, service: Data<Service>) -> HttpResponse {
    let store = service.gateway.check().await;
    let (status, word) = match &store {
        Ok(_) => (StatusCode::OK, "pass"),
        Err(error) => {
            tracing::warn!(%error, "the store failed its check");
            (StatusCode::SERVICE_UNAVAILABLE, "fail")
        }
    };
    let mut checks = json!({"store": {"status": word}});
    if store.is_ok()
        && let Ok(silent) = service.gateway.silent_authorities().await
    {
        checks["authorities"] = json!({"status": if silent.is_empty() { "pass" } else { "warn" }});
        if asks_as_administrator(&request, &service).await {
            let told = silent.iter().map(|one| json!({"ods": one.ods.as_str(), "lastConfirmed": one.last_confirmed}));
            checks["authorities"]["silent"] = told.collect();
        }
    }
    let mut body = release();
    if let Some(members) = body.as_object_mut() {
        members.insert("status".to_owned(), json!(word));
        members.insert("checks".to_owned(), checks);
    }
    respond(&request, status, &body)
}

/// Whether the token, if there is one, is an administrator's. Any other changes nothing: the answer is for everybody.
async fn asks_as_administrator(request: &HttpRequest, service: &Service) -> bool {
    let Some(header) = request.headers().get("authorization").and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let caller = service.authenticate(Some(header.to_owned())).await;
    caller.is_ok_and(|caller| caller.role == Role::Administrator)
}
