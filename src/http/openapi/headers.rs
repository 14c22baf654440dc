//! The headers of answers, each described once.

use serde_json::{Value, json};
use utoipa::openapi::{
    Header, HeaderBuilder, ObjectBuilder, Ref, Type,
    schema::{ComponentsBuilder, Schema},
};

struct Described {
    name: &'static str,
    about: &'static str,
    pattern: Option<&'static str>,
    example: &'static str,
    /// Whether it is there wherever it is described.
    always: bool,
}

const fn header(name: &'static str, about: &'static str, example: &'static str) -> Described {
    Described { name, about, pattern: None, example, always: true }
}

const HEADERS: &[Described] = &[
    Described {
        always: false,
        ..header(
            "X-Request-ID",
            "As sent, else made here: quote it when you report a fault. Not given when only TraceID was sent.",
            "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10",
        )
    },
    Described { always: false, ..header("X-Correlation-ID", "As sent.", "visit-20261123-17") },
    header("Cache-Control", "`no-store`; `no-cache` for what is public.", "no-store"),
    Described {
        always: false,
        pattern: Some("^W/\"[0-9a-f]+\"$"),
        ..header(
            "ETag",
            "The version, to whom it belongs; never for clinicians. A digest of what is published.",
            "W/\"1\"",
        )
    },
    Described {
        always: false,
        ..header("Last-Modified", "When that version was made; with ETag.", "Mon, 23 Nov 2026 12:00:00 GMT")
    },
    header("Location", "Where the resource is.", "https://cpis.example/cpis/FHIR/R4/Organization/Z9A/_history/2"),
    header(
        "Content-Location",
        "Where the answer to the upload will be.",
        "https://cpis.example/cpis/FHIR/R4/upload-status/6f1d2c3b-0000-4000-8000-000000000001",
    ),
    header("X-Progress", "How many of the upload's records are judged.", "1280 of 4000 records are judged"),
    header("WWW-Authenticate", "What a token is missing (RFC 6750).", "Bearer realm=\"cpis\""),
    header("Allow", "The methods that the path takes.", "GET, PUT"),
    Described { pattern: Some("^[0-9]+$"), ..header("Retry-After", "Seconds after which to try again.", "5") },
];

impl Described {
    fn built(&self) -> Header {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(self.pattern);
        HeaderBuilder::new()
            .description(Some(self.about))
            .schema(Some(Schema::from(schema)))
            .example(Some(json!(self.example)))
            .build()
    }
}

/// Adds all of them.
pub fn shared(components: ComponentsBuilder) -> ComponentsBuilder {
    HEADERS.iter().fold(components, |components, header| components.header(header.name, header.built()))
}

/// One of them, for a response.
pub fn reference(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// utoipa has no place for a header's `required`.
pub fn mark_required(document: &mut Value) {
    for header in HEADERS.iter().filter(|header| header.always) {
        let found = document.pointer_mut(&format!("/components/headers/{}", header.name));
        if let Some(header) = found.and_then(Value::as_object_mut) {
            header.insert("required".to_owned(), json!(true));
        }
    }
}
