//! `GET /metadata`: the `CapabilityStatement`, made from the route table.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    answer::Answer,
    refusal::Refusal,
    routes::{Route, Routes},
    service::Service,
};
use crate::{cpis::types::audit::Interaction, fhir::resource::Resource};

/// Name of the topic of unscheduled accesses, below the base.
pub const ACCESS_TOPIC: &str = "SubscriptionTopic/cpis-access";

/// # Errors
/// Never; handlers of the table share one signature.
pub fn capability_statement(service: &Service) -> Result<Answer, Refusal> {
    let routes = Routes::default();
    let mut resources: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in routes.all() {
        if let Some(resource) = route.resource {
            resources.entry(resource).or_default().push(route);
        }
    }
    let base = &service.settings.base_url;
    let rest = json!({
        "mode": "server",
        "documentation": "Requests need a bearer token. Local authorities see and change only what is theirs; a clinical \
                          request is one audited access of one child. GET /PatientFlag answers in the shape of the \
                          national Patient Flag API.",
        "security": {
            "cors": false,
            "description": "Bearer JWT (RFC 6750), RS512 among others, from a configured issuer."
        },
        "resource": resources.iter().map(|(name, routes)| resource(name, routes, base)).collect::<Vec<_>>(),
        "interaction": [{"code": "batch"}, {"code": "transaction"}],
    });
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-23",
        "kind": "instance",
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/json"],
        "software": {"name": "cpis-gateway", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "Child Protection - Information Sharing gateway", "url": base},
        "rest": [rest],
    });
    Ok(Answer::ok(Resource::Other(statement)))
}

fn resource(name: &str, routes: &[&Route], base: &str) -> Value {
    let mut interactions: Vec<&str> = Vec::new();
    let mut operations = Vec::new();
    for route in routes {
        if route.interaction == Interaction::Operation {
            let operation = route.path.rsplit('$').next().unwrap_or_default();
            let known = operations.iter().any(|o: &Value| o.get("name").and_then(Value::as_str) == Some(operation));
            if !known {
                operations.push(json!({
                    "name": operation,
                    "definition": format!("http://hl7.org/fhir/OperationDefinition/{name}-{operation}"),
                }));
            }
        } else if !interactions.contains(&route.interaction.code()) {
            interactions.push(route.interaction.code());
        }
    }
    let parameters = routes.first().map(|route| route.parameters).unwrap_or_default();
    let of = |wanted: &str| parameters.iter().find(|p| p.name == wanted).map(|p| p.about).unwrap_or_default();
    let includes = |text: &str| -> Vec<String> {
        let types = [
            "Flag:patient",
            "Flag:subject",
            "Flag:author",
            "AuditEvent:patient",
            "AuditEvent:entity",
            "AuditEvent:agent",
        ];
        types.iter().filter(|include| text.contains(*include)).map(ToString::to_string).collect()
    };
    let mut statement = json!({
        "type": name,
        "interaction": interactions.iter().map(|code| json!({"code": code})).collect::<Vec<_>>(),
        "versioning": if interactions.contains(&"update") { "versioned" } else { "no-version" },
        "readHistory": interactions.contains(&"vread"),
        "updateCreate": false,
        "searchParam": parameters
            .iter()
            .filter(|p| p.selects())
            .map(|p| json!({"name": p.name, "type": p.kind.code(), "documentation": p.about}))
            .collect::<Vec<_>>(),
        "searchInclude": includes(of("_include")),
        "searchRevInclude": includes(of("_revinclude")),
        "operation": operations,
    });
    if let Some(members) = statement.as_object_mut() {
        if name == "Subscription" {
            // How R4 servers say which topics there are (R5 backport, canonical of the topic).
            members.insert(
                "extension".to_owned(),
                json!([{
                    "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical",
                    "valueCanonical": format!("{base}/{ACCESS_TOPIC}"),
                }]),
            );
        }
        // R4 knows no empty lists.
        members.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    }
    statement
}
