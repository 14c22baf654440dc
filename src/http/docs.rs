//! The API's description at `/openapi.json` and the page at `/docs/` that shows it. Both load and ask nothing but this
//! server.

use std::sync::{Arc, OnceLock};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data, Path, ServiceConfig},
};
use utoipa_swagger_ui::Config;

use super::{
    only_get,
    openapi::{Described, document},
    read,
    refusal::Refusal,
    respond_refusal,
    service::Service,
};

/// The API page may load and ask nothing but this server; its scripts set styles on elements.
const PAGE_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                           base-uri 'none'; frame-ancestors 'none'";

/// The description, made when it is first asked for.
#[derive(Default)]
struct Description(OnceLock<Bytes>);

pub fn configure(config: &mut ServiceConfig) {
    // Without that the page would ask a validator on the internet about the document.
    let page = Config::new(["/openapi.json"]).validator_url("none");
    config
        .app_data(Data::new(Description::default()))
        .app_data(Data::new(page))
        .service(only_get("/openapi.json", read().to(description)))
        .service(only_get("/docs", read().to(directory)))
        .service(only_get("/docs/{file:.*}", read().to(file)));
}

async fn description(request: HttpRequest, service: Data<Service>, made: Data<Description>) -> HttpResponse {
    let text = match made.0.get() {
        Some(text) => text.clone(),
        None => {
            let settings = &service.settings;
            let of = Described {
                base_url: &settings.base_url,
                base_path: &settings.base_path,
                sandbox: service.sandbox.is_some(),
                pds_mode: settings.pds_mode,
            };
            match document(&of) {
                Ok(text) => made.0.get_or_init(|| Bytes::from(text)).clone(),
                Err(fault) => {
                    tracing::error!(%fault, "the API's description could not be made");
                    return respond_refusal(&request, &Refusal::fault());
                }
            }
        }
    };
    HttpResponse::Ok()
        .insert_header(("Content-Security-Policy", PAGE_POLICY))
        .content_type("application/json")
        .body(text)
}

/// The API page is a directory: its files are relative to it.
async fn directory() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header(("Location", "/docs/")).finish()
}

async fn file(request: HttpRequest, path: Path<String>, config: Data<Config<'static>>) -> HttpResponse {
    let config: Arc<Config<'static>> = config.into_inner();
    match utoipa_swagger_ui::serve(&path, config) {
        Ok(Some(file)) => {
            let mut response = HttpResponse::Ok();
            response.insert_header(("Content-Security-Policy", PAGE_POLICY)).content_type(file.content_type);
            if file.gzpipped {
                response.insert_header(("Content-Encoding", "gzip"));
            }
            response.body(file.bytes.into_owned())
        }
        Ok(None) => respond_refusal(&request, &Refusal::not_found()),
        Err(_) => {
            tracing::error!("a file of the API page could not be read");
            respond_refusal(&request, &Refusal::fault())
        }
    }
}
