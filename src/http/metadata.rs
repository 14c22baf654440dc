//! `GET /metadata`: the `CapabilityStatement`, made from the route table once for all requests.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    answer::Answer,
    definitions::TokensFrom,
    dispatch::OpenCall,
    query::bad_value,
    refusal::Refusal,
    routes::{Body, Route, Routes},
    search::{
        Parameter,
        parameter::{Definition, Kind},
    },
    service::HttpSettings,
};
use crate::{
    cpis::types::{audit::Interaction, notice::Topic},
    fhir::definitions::{DATE, Definitions, OwnParameter, PUBLISHER, search_parameter},
};

/// Canonical of a topic on a server with this FHIR base, without a last slash.
pub fn topic_url(base_url: &str, topic: Topic) -> String {
    format!("{base_url}/SubscriptionTopic/{}", topic.name())
}

pub const PARAMETERS: &[Parameter] = &[Parameter::special(
    "mode",
    "full (or absent): everything; normative: the resource types that are normative in R4; terminology: the code systems, \
     as TerminologyCapabilities",
)];

/// Resource types that are normative in R4, of those that are served here.
const NORMATIVE: [&str; 8] = [
    "Bundle",
    "CodeSystem",
    "OperationDefinition",
    "OperationOutcome",
    "Parameters",
    "Patient",
    "StructureDefinition",
    "ValueSet",
];

/// Resource types here that refer to others, by URL and by identifier.
const REFERRING: [&str; 6] = ["AuditEvent", "CarePlan", "CareTeam", "Flag", "Organization", "PractitionerRole"];

/// # Errors
/// [`Refusal`] 400 for another mode.
pub fn metadata(call: &OpenCall<'_>) -> Result<Answer, Refusal> {
    let mode = call.query.single("mode")?.unwrap_or("full");
    let kept = call.service.published.mode(mode);
    kept.map(|kept| kept.answer(call)).ok_or_else(|| bad_value("mode", "must be full, normative or terminology"))
}

/// What is answered in each mode.
pub fn modes(
    routes: &Routes,
    settings: &HttpSettings,
    tokens: &TokensFrom,
    definitions: &Definitions,
) -> [(&'static str, Value); 3] {
    let mut resources: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in routes.all() {
        if let Some(resource) = route.resource {
            resources.entry(resource).or_default().push(route);
        }
    }
    let base = &settings.base_url;
    let described = |wanted: fn(&str) -> bool| -> Vec<Value> {
        let wanted = resources.iter().filter(|(name, _)| wanted(name));
        wanted.map(|(name, routes)| resource(name, routes, base, definitions)).collect()
    };
    let full = statement(routes, settings, tokens, definitions, described(|_| true));
    let normative = statement(routes, settings, tokens, definitions, described(|name| NORMATIVE.contains(&name)));
    [("full", full), ("normative", normative), ("terminology", terminology(base, definitions))]
}

/// What is the same in a `CapabilityStatement` and in `TerminologyCapabilities`.
fn instance(resource_type: &str, name: &str, title: &str, base: &str) -> Map<String, Value> {
    let mut members = Map::new();
    for (element, value) in [
        ("resourceType", json!(resource_type)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("name", json!(name)),
        ("title", json!(title)),
        ("status", json!("active")),
        ("experimental", json!(false)),
        ("date", json!(DATE)),
        ("publisher", json!(PUBLISHER)),
        ("kind", json!("instance")),
        ("software", json!({"name": "cpis-gateway", "version": env!("CARGO_PKG_VERSION")})),
        ("implementation", json!({"description": "Child Protection - Information Sharing gateway", "url": base})),
    ] {
        members.insert(element.to_owned(), value);
    }
    members
}

fn statement(
    routes: &Routes,
    settings: &HttpSettings,
    tokens: &TokensFrom,
    definitions: &Definitions,
    resources: Vec<Value>,
) -> Value {
    let mut members = instance("CapabilityStatement", "CpisGateway", "CP-IS gateway", &settings.base_url);
    let uploads = |route: &&Route| route.path.is_empty() && route.body == Body::Resource("Bundle");
    let upload = routes.all().iter().find(uploads);
    let interactions: Vec<Value> = upload
        .into_iter()
        .flat_map(|route| ["batch", "transaction"].map(|code| json!({"code": code, "documentation": told(route)})))
        .collect();
    let of_the_system = routes.all().iter().filter(|route| route.resource.is_none());
    let operations: Vec<Value> = of_the_system
        .filter_map(|route| {
            let code = route.path.strip_prefix("/$")?;
            let definition = definitions.system_operation(code)?;
            Some(json!({"name": code, "definition": definition, "documentation": told(route)}))
        })
        .collect();
    let mut rest = json!({
        "mode": "server",
        "documentation": documentation(routes),
        "security": security(settings, tokens),
        "resource": resources,
        "interaction": interactions,
        "operation": operations,
    });
    without_empty(&mut rest);
    members.insert("fhirVersion".to_owned(), json!("4.0.1"));
    members.insert("format".to_owned(), json!(["application/fhir+json", "application/json"]));
    members.insert("rest".to_owned(), json!([rest]));
    Value::Object(members)
}

/// What R4 has no element for: the rules of all requests, and paths that are of no resource type.
fn documentation(routes: &Routes) -> String {
    let mut text = "Requests need a bearer token, but for this statement and the definitions that it refers to. Local \
                    authorities see and change only what is theirs; a clinical request is one audited access of one child, \
                    and gets no ETag, 304, version or history of Patient, Flag, CarePlan and CareTeam, whatever is said \
                    of these types below. A parameter, modifier or include that is not known is refused, never ignored."
        .to_owned();
    for route in routes.all().iter().filter(|route| route.resource.is_none() && !route.is_open()) {
        if !route.path.is_empty() {
            text.push_str(&format!(" {} {}: {}", route.method, route.path, told(route)));
        }
    }
    text
}

/// What a route is for, and for whom.
fn told(route: &Route) -> String {
    if route.callers.is_empty() {
        return format!("{} Without a token.", route.about);
    }
    let roles: Vec<&str> = route.callers.iter().map(|role| role.code()).collect();
    format!("{} For: {}.", route.about, roles.join(", "))
}

/// How callers prove who they are. Only addresses that exist are told.
fn security(settings: &HttpSettings, tokens: &TokensFrom) -> Value {
    let mut security = json!({
        "cors": false,
        "service": [{
            "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                "code": "OAuth",
                "display": "OAuth",
            }],
            "text": "OAuth 2 bearer tokens (RFC 6750)",
        }],
    });
    let from = if tokens.issuers.is_empty() {
        String::new()
    } else {
        format!(" Accepted issuers: {}.", tokens.issuers.join(", "))
    };
    let mut text = format!("JWTs signed RS256, RS512, PS256, ES256 or ES384, from a configured issuer.{from}");
    if tokens.sandbox {
        let root = settings.base_url.strip_suffix(&settings.base_path).unwrap_or(&settings.base_url);
        security["extension"] = json!([{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [{"url": "token", "valueUri": format!("{root}/sandbox/token")}],
        }]);
        text.push_str(" This is a sandbox with synthetic data: its token endpoint asks for no proof.");
    }
    security["description"] = Value::String(text);
    security
}

fn resource(name: &str, routes: &[&Route], base: &str, definitions: &Definitions) -> Value {
    let of = |wanted: Interaction| routes.iter().find(move |route| route.interaction == wanted);
    let on_type =
        |method: &str| routes.iter().any(|route| route.method == method && route.path.strip_prefix('/') == Some(name));
    let honours = |interaction: Interaction, header: &str| {
        routes.iter().any(|route| route.interaction == interaction && route.honours.contains(&header))
    };
    let mut interactions: Vec<(&str, Value)> = Vec::new();
    for route in routes.iter().filter(|route| route.interaction != Interaction::Operation) {
        let code = route.interaction.code();
        if !interactions.iter().any(|(known, _)| *known == code) {
            interactions.push((code, json!({"code": code, "documentation": told(route)})));
        }
    }
    let has = |code: &str| interactions.iter().any(|(known, _)| *known == code);
    let read = match (honours(Interaction::Read, "If-None-Match"), honours(Interaction::Read, "If-Modified-Since")) {
        (true, true) => "full-support",
        (true, false) => "not-match",
        (false, true) => "modified-since",
        (false, false) => "not-supported",
    };
    let versioned = ["create", "update", "vread"].into_iter().any(has);
    let parameters = of(Interaction::SearchType).map(|route| route.parameters).unwrap_or_default();
    let selecting = parameters.iter().filter(|parameter| parameter.selects());
    let mut statement = json!({
        "type": name,
        "supportedProfile": definitions.profiles(name).collect::<Vec<_>>(),
        "interaction": interactions.iter().map(|(_, interaction)| interaction).collect::<Vec<_>>(),
        "versioning": if versioned { "versioned" } else { "no-version" },
        "readHistory": has("vread"),
        "updateCreate": routes.iter().any(|route| route.creates),
        "conditionalCreate": honours(Interaction::Create, "If-None-Exist"),
        "conditionalRead": read,
        "conditionalUpdate": on_type("PUT"),
        "conditionalDelete": if on_type("DELETE") { "single" } else { "not-supported" },
        "referencePolicy": if REFERRING.contains(&name) { vec!["literal", "logical"] } else { Vec::new() },
        "searchInclude": included(parameters, "_include"),
        "searchRevInclude": included(parameters, "_revinclude"),
        "searchParam": selecting
            .map(|parameter| json!({
                "name": parameter.name,
                "definition": parameter.canonical(name, base),
                "type": parameter.kind.code(),
                "documentation": parameter.about,
            }))
            .collect::<Vec<_>>(),
        "operation": operations(name, routes, definitions),
    });
    if name == "Subscription" {
        // How R4 servers say which topics there are (R5 backport, canonical of the topic).
        let topic = |topic: Topic| {
            json!({
                "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical",
                "valueCanonical": topic_url(base, topic),
            })
        };
        statement["extension"] = Topic::ALL.into_iter().map(topic).collect();
    }
    without_empty(&mut statement);
    statement
}

/// R4 knows no empty lists.
fn without_empty(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    }
}

/// The operations of a type, by their names.
fn operations(name: &str, routes: &[&Route], definitions: &Definitions) -> Vec<Value> {
    let mut operations: BTreeMap<&str, &Route> = BTreeMap::new();
    for route in routes {
        if let Some((_, code)) = route.path.rsplit_once("/$") {
            operations.entry(code).or_insert(route);
        }
    }
    let defined = |code: &str| {
        let own = definitions.operation(code, name).map(str::to_owned);
        own.unwrap_or_else(|| format!("http://hl7.org/fhir/OperationDefinition/{name}-{code}"))
    };
    let operations = operations.into_iter();
    operations
        .map(|(code, route)| json!({"name": code, "definition": defined(code), "documentation": told(route)}))
        .collect()
}

/// The includes that a search knows.
fn included(parameters: &[Parameter], name: &str) -> &'static [&'static str] {
    parameters.iter().find(|parameter| parameter.name == name).map_or(&[], |parameter| parameter.values)
}

/// The parameters that R4 lacks and this server defines, as `SearchParameter`s.
pub fn own_parameters(routes: &Routes, base_url: &str) -> Vec<Value> {
    let mut made: BTreeMap<String, Value> = BTreeMap::new();
    for route in routes.all().iter().filter(|route| route.interaction == Interaction::SearchType) {
        let Some(resource) = route.resource else { continue };
        for parameter in route.parameters.iter().filter(|parameter| parameter.definition == Definition::Own) {
            let Some(canonical) = parameter.canonical(resource, base_url) else { continue };
            let row = OwnParameter {
                canonical: &canonical,
                resource,
                name: parameter.name,
                kind: parameter.kind.code(),
                expression: &parameter.expression(resource),
                description: parameter.about,
                comparators: if parameter.kind == Kind::Date { &COMPARATORS } else { &[] },
                modifiers: parameter.modifiers,
            };
            let definition = search_parameter(&row);
            made.insert(canonical, definition);
        }
    }
    made.into_values().collect()
}

/// Prefixes of a date.
const COMPARATORS: [&str; 9] = ["eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap"];

/// The code systems that are published here. Nothing is expanded, validated or translated.
fn terminology(base: &str, definitions: &Definitions) -> Value {
    let mut members =
        instance("TerminologyCapabilities", "CpisGatewayTerminology", "Terminology of the CP-IS gateway", base);
    let system = |definition: &Value| json!({"uri": definition["url"], "version": [{"code": definition["version"], "isDefault": true}], "subsumption": false});
    members.insert("lockedDate".to_owned(), json!(false));
    members.insert("codeSystem".to_owned(), definitions.of_type("CodeSystem").map(system).collect());
    Value::Object(members)
}
