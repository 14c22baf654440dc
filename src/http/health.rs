//! `/_ping` and `/_status`: is the process up, and does what it depends on work. Open; they tell nothing of any record.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{request_id::RequestIds, service::Service};

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

/// 200 when the store can be read, else 503. MESH is shown beside it: while it is away, look-ups work all the same.
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
    if let (Some(mailbox), Ok(())) = (&service.settings.mesh_mailbox, &store) {
        checks["mesh"] = mesh(&service, mailbox).await;
    }
    let mut body = release();
    if let Some(members) = body.as_object_mut() {
        members.insert("status".to_owned(), json!(word));
        members.insert("checks".to_owned(), checks);
    }
    respond(&request, status, &body)
}

/// How the gateway's own mailbox stands with MESH: `pass`, or `warn` with what is wrong and since when.
async fn mesh(service: &Service, mailbox: &str) -> Value {
    let Ok(stands) = service.gateway.mesh_contact(mailbox).await else { return json!({"status": "warn"}) };
    let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true));
    match (stands.failed, stands.reached) {
        (None, Some(_)) => json!({"status": "pass", "lastContact": time(stands.reached)}),
        (failed, reached) => json!({
            "status": "warn",
            "lastContact": time(reached),
            "failedSince": time(failed),
            "output": stands.error.as_deref().unwrap_or("MESH has not been reached yet"),
        }),
    }
}
