//! `/_ping` and `/_status`: is the process up, and does what it depends on work. Open; they tell nothing of any record. What
//! was found is for administrators; others read the words `pass`, `warn` and `fail`.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::{request_id::RequestIds, service::Service};
use crate::cpis::types::{caller::Role, health::Health};

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

/// 503 when something fails without which nobody is answered, else 200.
pub async fn status(request: HttpRequest, service: Data<Service>) -> HttpResponse {
    let dependencies = &service.dependencies;
    let checks = join_all(dependencies.iter().map(|dependency| (dependency.check)())).await;
    let for_administrator = is_administrator(&service, &request).await;
    let mut whole = Health::Pass;
    let mut status = StatusCode::OK;
    let mut told = Map::new();
    for (dependency, check) in dependencies.iter().zip(checks) {
        whole = whole.max(match check.health {
            // What the service can do without is no failure of the service.
            Health::Fail if !dependency.essential => Health::Warn,
            health => health,
        });
        if dependency.essential && check.health == Health::Fail {
            status = StatusCode::SERVICE_UNAVAILABLE;
        }
        let mut one = json!({"status": check.health.code()});
        if for_administrator {
            one["output"] = Value::String(check.detail);
        }
        told.insert(check.name.to_owned(), one);
    }
    let mut body = release();
    if let Some(members) = body.as_object_mut() {
        members.insert("status".to_owned(), json!(whole.code()));
        members.insert("checks".to_owned(), Value::Object(told));
    }
    respond(&request, status, &body)
}

/// Who sends no token, or one that isn't good, gets what everybody gets.
async fn is_administrator(service: &Service, request: &HttpRequest) -> bool {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    if header.is_none() {
        return false;
    }
    service.authenticate(header).await.is_ok_and(|caller| caller.role == Role::Administrator)
}
