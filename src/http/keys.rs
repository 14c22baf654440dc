//! `GET /.well-known/jwks.json`: the public key that checks notifications. Open: it is for whoever receives them.

use actix_web::{HttpResponse, web::Data};

use super::service::Service;

/// How long a receiver may keep the key, in seconds: after a change of the key, signatures fail for as long at most.
const KEPT: &str = "public, max-age=3600";

pub async fn keys(service: Data<Service>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("Cache-Control", KEPT))
        .content_type("application/jwk-set+json")
        .body(service.notification_keys.to_string())
}
