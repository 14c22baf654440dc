//! Examples of requests and answers. `examples.json` is written by `tests/it/api_examples.rs` from what the gateway really
//! answered; the addresses in it become those of this gateway.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, example::ExampleBuilder, schema::ComponentsBuilder};

use crate::fhir::validate::SchemaFault;

const WRITTEN: &str = include_str!("examples.json");
/// The FHIR base in the file.
const BASE: &str = "http://127.0.0.1:8080/cpis/FHIR/R4";

#[derive(Deserialize)]
pub struct Examples {
    /// Bodies to send, by [`super::operation::key`].
    requests: BTreeMap<String, Value>,
    /// Answers of success, by the same.
    responses: BTreeMap<String, Value>,
    /// Refusals by status, then by what was wrong.
    refusals: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Examples {
    /// # Errors
    /// [`SchemaFault::Json`] when the embedded file is broken.
    pub fn read(base_url: &str) -> Result<Self, SchemaFault> {
        serde_json::from_str(&WRITTEN.replace(BASE, base_url)).map_err(|_| SchemaFault::Json("examples"))
    }

    /// Adds the bodies and the answers; the refusals stand in the responses that use them.
    pub fn shared(&self, components: ComponentsBuilder) -> ComponentsBuilder {
        let requests = self.requests.iter().map(|(key, body)| (format!("{key}-request"), body));
        let responses = self.responses.iter().map(|(key, body)| (format!("{key}-response"), body));
        requests.chain(responses).fold(components, |components, (name, body)| {
            components.example(name, ExampleBuilder::new().value(Some(body.clone())).build())
        })
    }

    pub fn request(&self, key: &str, content: ContentBuilder) -> Content {
        with(content, "request", self.requests.contains_key(key).then(|| format!("{key}-request")))
    }

    pub fn response(&self, key: &str, content: ContentBuilder) -> Content {
        with(content, "response", self.responses.contains_key(key).then(|| format!("{key}-response")))
    }

    pub fn refusal(&self, status: &str, content: ContentBuilder) -> Content {
        let examples = self.refusals.get(status).into_iter().flatten();
        let examples = examples
            .map(|(case, body)| (case.clone(), RefOr::T(ExampleBuilder::new().value(Some(body.clone())).build())));
        content.examples_from_iter(examples).build()
    }
}

fn with(content: ContentBuilder, label: &str, name: Option<String>) -> Content {
    let reference = name.map(|name| RefOr::Ref(Ref::new(format!("#/components/examples/{name}"))));
    content.examples_from_iter(reference.map(|reference| (label, reference))).build()
}
