//! `CodeSystem`, `ValueSet`, `StructureDefinition`, `SearchParameter` and `OperationDefinition`: what this server defines or
//! constrains, read only and without a token, for they are facts of no person. With [`metadata`](super::metadata) made
//! once, and answered from memory.

use std::collections::BTreeMap;

use actix_web::{
    http::{
        StatusCode,
        header::{HeaderMap, IF_NONE_MATCH},
    },
    web::Bytes,
};
use openssl::sha::sha256;
use serde_json::Value;

use super::{
    answer::{self, Answer},
    dispatch::OpenCall,
    metadata,
    refusal::Refusal,
    routes::Routes,
    search::{
        Parameter, Search, Searchset,
        page::Row,
        parameter::{Definition::R4, ID},
        result::{self, searched_by},
    },
    service::HttpSettings,
};
use crate::fhir::{
    definitions::{DefinitionFault, Definitions},
    resource::Resource,
};

const URL: Parameter = Parameter::uri("url", &["url"], R4("conformance-url"), "Canonical of a definition");
const NAME: Parameter = Parameter::string("name", &["name"], R4("conformance-name"), "Beginning of the name, any case");
const STATUS: Parameter =
    Parameter::token("status", &["status"], R4("conformance-status"), "active: all that is published here is")
        .one_of(&["draft", "active", "retired", "unknown"])
        .in_system("http://hl7.org/fhir/publication-status");
const VERSION: Parameter =
    Parameter::token("version", &["version"], R4("conformance-version"), "Version of a definition");

pub const CODE_SYSTEM: &[Parameter] = searched_by![
    ID,
    URL,
    NAME,
    STATUS,
    VERSION,
    Parameter::uri("system", &["url"], R4("CodeSystem-system"), "The system of its codes: the same as url"),
];
pub const VALUE_SET: &[Parameter] = searched_by![
    ID,
    URL,
    NAME,
    STATUS,
    VERSION,
    Parameter::uri(
        "reference",
        &["compose.include.system"],
        R4("ValueSet-reference"),
        "A code system that it takes codes from",
    ),
];
pub const STRUCTURE_DEFINITION: &[Parameter] = searched_by![
    ID,
    URL,
    NAME,
    STATUS,
    VERSION,
    Parameter::uri("type", &["type"], R4("StructureDefinition-type"), "Resource type that it constrains"),
];
pub const SEARCH_PARAMETER: &[Parameter] = searched_by![
    ID,
    URL,
    NAME,
    STATUS,
    VERSION,
    Parameter::token("base", &["base"], R4("SearchParameter-base"), "Resource type that is searched"),
    Parameter::token("code", &["code"], R4("SearchParameter-code"), "As in the query string"),
];
pub const OPERATION_DEFINITION: &[Parameter] = searched_by![
    ID,
    URL,
    NAME,
    STATUS,
    VERSION,
    Parameter::token("code", &["code"], R4("OperationDefinition-code"), "As in the path, without the dollar sign"),
];

/// How long a client may keep what is published, in seconds: an hour.
const CACHED: &str = "public, max-age=3600";

/// Where tokens come from, as far as it may be told to anybody.
#[derive(Clone, Debug, Default)]
pub struct TokensFrom {
    /// The sandbox's own endpoint hands them out.
    pub sandbox: bool,
    /// The `iss` of each configured issuer.
    pub issuers: Vec<String>,
}

/// What is published could not be made: a fault of this program.
#[derive(Debug, thiserror::Error)]
pub enum PublishFault {
    #[error(transparent)]
    Definition(#[from] DefinitionFault),
    #[error("what is published can't be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Everything that is published, made once: by type and id, and the answers of `/metadata` by mode.
pub struct Published {
    definitions: Definitions,
    resources: BTreeMap<(String, String), Kept>,
    modes: BTreeMap<&'static str, Kept>,
}

impl Published {
    /// # Errors
    /// [`PublishFault`].
    pub fn new(settings: &HttpSettings, tokens: &TokensFrom) -> Result<Self, PublishFault> {
        let routes = Routes::offered(settings.pds_mode);
        let base_url = &settings.base_url;
        let definitions = Definitions::read(base_url)?.with(metadata::own_parameters(&routes, base_url));
        let mut resources = BTreeMap::new();
        for route in routes.all().iter().filter(|route| route.is_open()) {
            for definition in route.resource.into_iter().flat_map(|kind| definitions.of_type(kind)) {
                let text = |element| definition.get(element).and_then(Value::as_str).unwrap_or_default().to_owned();
                resources.insert((text("resourceType"), text("id")), Kept::of(definition)?);
            }
        }
        let mut modes = BTreeMap::new();
        for (mode, statement) in metadata::modes(&routes, settings, tokens, &definitions) {
            modes.insert(mode, Kept::of(&statement)?);
        }
        Ok(Self { definitions, resources, modes })
    }

    /// The answer of `/metadata` in a mode.
    pub fn mode(&self, mode: &str) -> Option<&Kept> {
        self.modes.get(mode)
    }

    /// Canonical of the profile that an upload of this type is judged by.
    pub fn judged_profile(&self, resource_type: &str) -> Option<&str> {
        let suffix = format!("/cpis-{}", resource_type.to_ascii_lowercase());
        self.definitions.profiles(resource_type).find(|canonical| canonical.ends_with(&suffix))
    }
}

/// A resource as it goes over the wire.
pub struct Kept {
    compact: Bytes,
    pretty: Bytes,
    /// Weak, for both spellings are the same resource.
    etag: String,
}

impl Kept {
    fn of(resource: &Value) -> Result<Self, serde_json::Error> {
        let compact = Bytes::from(answer::json(resource, false)?);
        Ok(Self { etag: etag(&compact), compact, pretty: answer::json(resource, true)?.into() })
    }

    /// 304 when the caller has it already.
    pub fn answer(&self, call: &OpenCall<'_>) -> Answer {
        let body = if is_pretty(call) { &self.pretty } else { &self.compact };
        answer_cached(call, &self.etag, body.clone())
    }
}

fn is_pretty(call: &OpenCall<'_>) -> bool {
    call.query.values("_pretty").any(|value| value == "true")
}

fn etag(json: &[u8]) -> String {
    let hash: String = sha256(json).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{hash}\"")
}

fn answer_cached(call: &OpenCall<'_>, etag: &str, json: Bytes) -> Answer {
    let answer =
        if names(call.headers, etag) { Answer::empty(StatusCode::NOT_MODIFIED) } else { Answer::written(json) };
    answer.with_header("ETag", etag).with_header("Cache-Control", CACHED)
}

/// Whether `If-None-Match` names the tag (RFC 9110 13.1.2: weak comparison, a list, or any).
fn names(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let mut sent = headers.get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    sent.any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}

/// # Errors
/// [`Refusal`] 404.
pub fn read(call: &OpenCall<'_>) -> Result<Answer, Refusal> {
    let kept = call.service.published.resources.get(&(call.resource.to_owned(), call.id.clone()));
    let kept = kept.ok_or_else(Refusal::not_found)?;
    let part = result::asked_subset(&call.query, call.resource, call.parameters)?;
    let whole = part.as_ref().and(call.service.published.definitions.find(call.resource, &call.id));
    match (part, whole) {
        (Some(part), Some(whole)) => fresh(call, &part.apply(whole.clone())),
        _ => Ok(kept.answer(call)),
    }
}

/// # Errors
/// [`Refusal`] 400 for a parameter that can't be read.
pub fn search(call: &OpenCall<'_>) -> Result<Answer, Refusal> {
    let search = Search::read(call.service, &call.query, call.resource, call.parameters)?;
    let mut set = Searchset::of_open(call);
    for definition in call.service.published.definitions.of_type(call.resource) {
        set.matched(Row::of(Resource::Other(definition.clone())));
    }
    let bundle = serde_json::to_value(set.whole(&search)?)?;
    match result::asked_subset(&call.query, call.resource, call.parameters)? {
        Some(part) => fresh(call, &part.apply(bundle)),
        None => fresh(call, &bundle),
    }
}

/// An answer that is made for this call; its tag is that of the content all the same.
fn fresh(call: &OpenCall<'_>, resource: &Value) -> Result<Answer, Refusal> {
    let json = Bytes::from(answer::json(resource, is_pretty(call))?);
    Ok(answer_cached(call, &etag(&json), json))
}
