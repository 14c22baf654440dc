//! What holds for every answer of the gateway and every notification that it sends, whatever a test asked for: valid R4, and what the
//! design says of errors, searches and headers. A breach fails the test that met it.

use cpis_gateway::fhir::validate::{Profile, Validators};
use serde_json::Value;

use super::Reply;

/// Fails the test if the answer to `asked` (method and path) is not as every answer has to be.
pub fn check(asked: &str, reply: &Reply) {
    let faults = faults(reply);
    assert!(
        faults.is_empty(),
        "The answer to {asked} is wrong:\n{}\n{} {}",
        faults.join("\n"),
        reply.status,
        reply.text
    );
}

/// Fails the test if what was sent to a hook is not valid R4.
pub fn check_notification(body: &Value) {
    let faults = [of_resource(body), of_made(body)].concat();
    assert!(faults.is_empty(), "The notification is wrong:\n{}\n{body}", faults.join("\n"));
}

fn faults(reply: &Reply) -> Vec<String> {
    let is_fhir = reply.header("content-type").starts_with("application/fhir+json");
    if reply.text.is_empty() || !(is_fhir || reply.json.get("resourceType").is_some()) {
        return Vec::new();
    }
    let mut faults = [of_resource(&reply.json), of_made(&reply.json)].concat();
    let kind = reply.json["resourceType"].as_str().unwrap_or_default();
    if !is_fhir && reply.header("content-type").split(';').next() != Some("application/json") {
        faults.push(format!("a resource is not sent as {}", reply.header("content-type")));
    }
    if reply.status >= 400 {
        faults.extend(of_refusal(&reply.json));
    }
    if kind == "Bundle" && reply.json["type"] == "searchset" {
        faults.extend(of_searchset(&reply.json));
    }
    faults
}

/// R4's own rules.
fn of_resource(resource: &Value) -> Vec<String> {
    let validators = Validators::shared().expect("the schemas compile");
    let issues = validators.validate(resource, Profile::Base);
    issues.iter().map(|issue| format!("{}: {}", issue.expression.join(" "), issue.diagnostics)).collect()
}

/// Design 4: every error is an `OperationOutcome`; every issue of it says what to do and has a Spine code.
fn of_refusal(outcome: &Value) -> Vec<String> {
    if outcome["resourceType"] != "OperationOutcome" {
        return vec!["an error is an OperationOutcome".to_owned()];
    }
    let issues = outcome["issue"].as_array().cloned().unwrap_or_default();
    let mut faults = Vec::new();
    for (index, issue) in issues.iter().enumerate() {
        let codings = issue["details"]["coding"].as_array().cloned().unwrap_or_default();
        let spine = codings.iter().any(|c| c["system"] == "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode");
        let is_error = matches!(issue["severity"].as_str(), Some("error" | "fatal"));
        if is_error && !spine {
            faults.push(format!("issue {index} has no Spine code"));
        }
        if issue["diagnostics"].as_str().is_none_or(|words| words.len() <= 10) {
            faults.push(format!("issue {index} does not say what to do"));
        }
    }
    if !issues.iter().any(|issue| matches!(issue["severity"].as_str(), Some("error" | "fatal"))) {
        faults.push("an error has an issue of severity error".to_owned());
    }
    faults
}

/// Design 3: `self` link, `fullUrl` and `search.mode` of every entry, an id of every resource found, no resource twice.
fn of_searchset(bundle: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let links = bundle["link"].as_array().cloned().unwrap_or_default();
    if links.iter().filter(|link| link["relation"] == "self").count() != 1 {
        faults.push("a search result has one self link".to_owned());
    }
    let mut seen = std::collections::HashSet::new();
    for (index, entry) in bundle["entry"].as_array().into_iter().flatten().enumerate() {
        let resource = &entry["resource"];
        let is_outcome = resource["resourceType"] == "OperationOutcome";
        if entry["search"]["mode"].as_str().is_none_or(|mode| (mode == "outcome") != is_outcome) {
            faults.push(format!("entry {index} has no right search.mode"));
        }
        if is_outcome {
            continue;
        }
        let (kind, id) =
            (resource["resourceType"].as_str().unwrap_or_default(), resource["id"].as_str().unwrap_or_default());
        // Parameters have no address of their own: those of Subscription/$status carry their id as a UUID.
        let address = if kind == "Parameters" { format!("urn:uuid:{id}") } else { format!("/{kind}/{id}") };
        if id.is_empty() || !entry["fullUrl"].as_str().is_some_and(|url| url.ends_with(&address)) {
            faults.push(format!("entry {index} has not the fullUrl of its resource"));
        }
        if !seen.insert(format!("{kind}/{id}")) {
            faults.push(format!("entry {index} is there a second time"));
        }
    }
    faults
}

/// What the gateway makes itself is stricter than R4: every coding has a system and a code (a role without a code
/// has its display only, as the national API reads it), every identifier a value (request ids have no system).
fn of_made(resource: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(resource, "", &mut faults);
    faults
}

fn walk(value: &Value, place: &str, faults: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let here = format!("{place}.{name}");
                let each: Vec<&Value> = inner.as_array().map_or_else(|| vec![inner], |list| list.iter().collect());
                for one in each {
                    let (coded, known) = (one["code"].is_string(), one["system"].is_string());
                    if name == "coding" && (coded != known || !(coded || one["display"].is_string())) {
                        faults.push(format!("{here}: a coding has a system and a code, or only a display"));
                    }
                    if name == "identifier" && !one["value"].is_string() {
                        faults.push(format!("{here}: an identifier has a value"));
                    }
                    walk(one, &here, faults);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| walk(one, place, faults)),
        _ => {}
    }
}
