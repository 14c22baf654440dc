//! What is for the operator alone, on a listener of its own: `GET /metrics`. Without a token, so that it is
//! kept on loopback or a network of the operator's; it tells nothing of any child.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};

use crate::{cpis::Gateway, telemetry::metrics::CONTENT_TYPE};

/// Registers what is served there.
pub fn configure(config: &mut ServiceConfig, gateway: Data<Gateway>) {
    config.app_data(gateway).route("/metrics", web::get().to(metrics));
}

async fn metrics(gateway: Data<Gateway>) -> HttpResponse {
    match gateway.metrics.exposition(&gateway.measured().await) {
        Ok(text) => {
            HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).content_type(CONTENT_TYPE).body(text)
        }
        Err(_) => {
            tracing::error!("the metrics could not be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}
