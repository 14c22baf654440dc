//! What schemas cannot say. [`INVARIANTS`] are rules about one object, named by the schemas with R4's own keys where
//! R4 has one; [`of_resource`] holds the rules that look across a resource, [`of_profile`] those of CP-IS.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::{format::referred, location::Place};
use crate::{
    cpis::types::{NhsNumber, OdsCode, upload::RecordCode},
    fhir::{
        date,
        outcome::{Issue, IssueCode, SpineCode},
        system,
    },
};

/// A rule about one object.
pub(super) struct Invariant {
    pub key: &'static str,
    pub holds: fn(&Value) -> bool,
    pub words: &'static str,
}

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        key: "ext-1",
        holds: |v| has_choice(v, "value") != v.get("extension").is_some(),
        words: "An extension has either a value or extensions of its own, not both and not neither (ext-1).",
    },
    Invariant { key: "per-1", holds: in_order, words: "The end must not lie before the start (per-1)." },
    Invariant {
        key: "cpt-2",
        holds: |v| v.get("value").is_none() || has(v, "system"),
        words: "A contact value needs a system such as phone (cpt-2).",
    },
    Invariant {
        key: "att-1",
        holds: |v| v.get("data").is_none() || has(v, "contentType"),
        words: "An attachment with data needs a contentType (att-1).",
    },
    Invariant {
        key: "qty-3",
        holds: |v| v.get("code").is_none() || has(v, "system"),
        words: "A unit with a code needs its system (qty-3).",
    },
    Invariant {
        key: "ref-type",
        holds: type_agrees,
        words: "The type of the reference and the resource that it points at differ.",
    },
    Invariant {
        key: "pat-1",
        holds: |v| ["name", "telecom", "address", "organization"].iter().any(|name| v.get(name).is_some()),
        words: "A contact needs a name, a telecom, an address or an organization (pat-1).",
    },
    Invariant {
        key: "cpl-3",
        holds: |v| v.get("detail").is_none() || v.get("reference").is_none(),
        words: "An activity has a detail or a reference, not both (cpl-3).",
    },
    Invariant {
        key: "org-1",
        holds: |v| v.get("identifier").is_some() || has(v, "name"),
        words: "An organisation needs an identifier or a name (org-1).",
    },
    Invariant {
        key: "org-2",
        holds: |v| !list(v, "address").iter().any(|a| text(a, "use") == Some("home")),
        words: "An organisation's address is never of use home (org-2).",
    },
    Invariant {
        key: "org-3",
        holds: |v| !list(v, "telecom").iter().any(|t| text(t, "use") == Some("home")),
        words: "An organisation's telecom is never of use home (org-3).",
    },
    Invariant {
        key: "sev-1",
        holds: |v| v.get("name").is_none() || v.get("query").is_none(),
        words: "An entity has a name or a query, not both (sev-1).",
    },
    Invariant {
        key: "inv-1",
        holds: |v| {
            let given = [has_choice(v, "value"), v.get("resource").is_some(), v.get("part").is_some()];
            given.iter().filter(|given| **given).count() == 1
        },
        words: "A parameter has exactly one of a value, a resource and parts (inv-1).",
    },
    Invariant {
        key: "bdl-5",
        holds: |v| ["resource", "request", "response"].iter().any(|name| v.get(name).is_some()),
        words: "An entry needs a resource, a request or a response (bdl-5).",
    },
    Invariant {
        key: "bdl-8",
        holds: |v| text(v, "fullUrl").is_none_or(|url| !url.contains("/_history/")),
        words: "A fullUrl never names a version (bdl-8).",
    },
    Invariant {
        key: "cpis-subject",
        holds: |v| names_agree(v, "Patient", system::NHS_NUMBER, |n| NhsNumber::parse(n).is_ok()),
        words: "Name the child by the reference Patient/ and NHS number, or by an identifier with the system https://fhir.nhs.uk/Id/nhs-number and the number; if by both, by the same number.",
    },
    Invariant {
        key: "cpis-author",
        holds: |v| names_agree(v, "Organization", system::ODS_CODE, |c| OdsCode::parse(c).is_ok()),
        words: "Name the author by the reference Organization/ and ODS code, or by an identifier with the system https://fhir.nhs.uk/Id/ods-organization-code and the code; if by both, by the same code.",
    },
    Invariant {
        key: "cpis-patient-id",
        holds: |v| id_agrees(v, system::NHS_NUMBER),
        words: "The id of the Patient is its NHS number: leave it out, or give the same number as in the identifier.",
    },
    Invariant {
        key: "cpis-organization-id",
        holds: |v| id_agrees(v, system::ODS_CODE),
        words: "The id of the Organization is its ODS code: leave it out, or give the same code as in the identifier.",
    },
    Invariant {
        key: "cpis-care-provider",
        holds: |v| {
            let coded = list(v, "type").iter().flat_map(|t| list(t, "coding"));
            // A body that oversees the service answers no calls about children either.
            coded.into_iter().any(|c| match (text(c, "system"), text(c, "code")) {
                (Some(system::ORGANIZATION_TYPE), Some("prov")) => true,
                (Some(own), Some("oversight")) => system::is_cpis_organization(own),
                _ => false,
            })
        },
        words: "The organisation is not a care provider.",
    },
];

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// True if a primitive is given, be it only by its extensions.
fn has(value: &Value, name: &str) -> bool {
    value.get(name).is_some() || value.get(format!("_{name}")).is_some()
}

/// The kinds in which `name[x]` is given; a value and its `_value` count as one.
fn choices<'a>(object: &'a Map<String, Value>, name: &str) -> BTreeSet<&'a str> {
    let kind = |key: &'a String| {
        let kind = key.strip_prefix('_').unwrap_or(key).strip_prefix(name)?;
        kind.starts_with(|c: char| c.is_ascii_uppercase()).then_some(kind)
    };
    object.keys().filter_map(kind).collect()
}

fn has_choice(value: &Value, name: &str) -> bool {
    value.as_object().is_some_and(|object| !choices(object, name).is_empty())
}

pub(super) const CHOICE_MISSING: &str = "A value is mandatory here: give one.";

/// What is wrong with the element `name[x]` of an object.
pub(super) fn choice(value: &Value, name: &str, mandatory: bool) -> Option<String> {
    let given = value.as_object().map(|object| choices(object, name).len())?;
    match given {
        0 if mandatory => Some(CHOICE_MISSING.to_owned()),
        0 | 1 => None,
        _ => Some(format!("The element {name}[x] is given in more than one type: give it once.")),
    }
}

/// The type that a reference's text names; none for fragments, `urn:` and texts of another shape.
fn referred_type(reference: &str) -> Option<&str> {
    let before = reference.split_once("/_history/").map_or(reference, |(before, _)| before);
    let (before, id) = before.rsplit_once('/')?;
    let name = before.rsplit('/').next()?;
    let is_type = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphabetic());
    (is_type && !id.is_empty()).then_some(name)
}

/// What is wrong with the target of a reference. R4 has no other kind of resource there.
pub(super) fn targets(reference: &Value, types: &[String]) -> Option<String> {
    let named = [text(reference, "reference").and_then(referred_type), text(reference, "type")];
    let right = named.into_iter().flatten().all(|name| types.iter().any(|t| t == name));
    (!right).then(|| format!("Refer to one of these resources: {}.", types.join(", ")))
}

fn type_agrees(reference: &Value) -> bool {
    match (text(reference, "reference").and_then(referred_type), text(reference, "type")) {
        (Some(referred), Some(said)) => referred == said,
        _ => true,
    }
}

fn in_order(period: &Value) -> bool {
    match (text(period, "start"), text(period, "end")) {
        (Some(start), Some(end)) => date::in_order(start, end),
        _ => true,
    }
}

/// True if a reference names its target, and by reference and identifier the same one. A name that is itself wrong
/// is reported where it stands, so counts as right here.
fn names_agree(reference: &Value, resource_type: &str, system: &str, valid: fn(&str) -> bool) -> bool {
    let by_reference = text(reference, "reference");
    let identifier = reference.get("identifier");
    let by_identifier = identifier.filter(|i| text(i, "system") == Some(system)).and_then(|i| text(i, "value"));
    match (by_reference, by_identifier) {
        (None, None) => identifier.is_some(),
        (Some(by_reference), Some(by_identifier)) => match referred(by_reference, resource_type) {
            Some(id) => !valid(&id) || !valid(by_identifier) || id == by_identifier,
            None => true,
        },
        _ => true,
    }
}

/// True unless the id and the identifier of that system differ; a wrong identifier is reported where it stands.
fn id_agrees(resource: &Value, system: &str) -> bool {
    let identifier = list(resource, "identifier").iter().find(|i| text(i, "system") == Some(system));
    match (text(resource, "id"), identifier.and_then(|i| text(i, "value"))) {
        (Some(id), Some(value)) => id == value,
        _ => true,
    }
}

fn invariant(words: &str) -> Issue {
    Issue::error(IssueCode::Invariant, SpineCode::ValidationError, words)
}

/// R4's rules that look across a resource; `root` is its `FHIRPath`.
pub(super) fn of_resource(resource: &Value, root: &str, contained: bool) -> Vec<Issue> {
    let mut issues = Vec::new();
    if text(resource, "resourceType") == Some("Bundle") {
        bundle(resource, root, &mut issues);
    }
    if contained {
        contained_resource(resource, root, &mut issues);
    } else {
        fragments(resource, root, &mut issues);
    }
    issues
}

fn bundle(bundle: &Value, root: &str, issues: &mut Vec<Issue>) {
    let kind = text(bundle, "type").unwrap_or_default();
    let say = |issues: &mut Vec<Issue>, words: &str, place: String| issues.push(invariant(words).at(place));
    if bundle.get("total").is_some() && !matches!(kind, "searchset" | "history") {
        say(issues, "Only a search result or a history has a total (bdl-1).", format!("{root}.total"));
    }
    if kind == "document" {
        bundle_of(bundle, root, "Composition", issues);
        for name in ["identifier", "timestamp"] {
            if !has(bundle, name) {
                say(
                    issues,
                    "A document needs an identifier and a timestamp (bdl-9, bdl-10).",
                    format!("{root}.{name}"),
                );
            }
        }
    }
    if kind == "message" {
        bundle_of(bundle, root, "MessageHeader", issues);
    }
    let request = matches!(kind, "batch" | "transaction" | "history");
    let response = matches!(kind, "batch-response" | "transaction-response" | "history");
    let mut full_urls = HashSet::new();
    for (index, entry) in list(bundle, "entry").iter().enumerate() {
        let at = |name: &str| format!("{root}.entry[{index}].{name}");
        if entry.get("search").is_some() && kind != "searchset" {
            say(issues, "Only an entry of a search result has search (bdl-2).", at("search"));
        }
        if entry.get("request").is_some() != request {
            let words = "Every entry of a batch, transaction or history has a request, no other has (bdl-3).";
            say(issues, words, at("request"));
        }
        if entry.get("response").is_some() != response {
            let words = "Every entry of a batch-response, transaction-response or history has a response, no other has (bdl-4).";
            say(issues, words, at("response"));
        }
        let version = entry.pointer("/resource/meta/versionId").and_then(Value::as_str);
        if let Some(full_url) = text(entry, "fullUrl")
            && kind != "history"
            && !full_urls.insert((full_url, version))
        {
            say(issues, "Two entries have the same fullUrl (bdl-7).", at("fullUrl"));
        }
    }
}

fn bundle_of(bundle: &Value, root: &str, first_type: &str, issues: &mut Vec<Issue>) {
    let first = list(bundle, "entry").first().and_then(|e| e.get("resource")).and_then(|r| text(r, "resourceType"));
    if first != Some(first_type) {
        let words = format!("The first resource of such a Bundle is a {first_type} (bdl-11, bdl-12).");
        issues.push(invariant(&words).at(format!("{root}.entry")));
    }
}

fn contained_resource(resource: &Value, root: &str, issues: &mut Vec<Issue>) {
    if resource.get("contained").is_some() {
        issues.push(invariant("A contained resource contains no other (dom-2).").at(format!("{root}.contained")));
    }
    for name in ["versionId", "lastUpdated", "security"] {
        if resource.get("meta").is_some_and(|meta| meta.get(name).is_some()) {
            let words = "A contained resource has no version, date or security label of its own (dom-4, dom-5).";
            issues.push(invariant(words).at(format!("{root}.meta.{name}")));
        }
    }
}

/// Every `#id` leads to a contained resource (ref-1), and every contained resource is referred to (dom-3).
fn fragments(resource: &Value, root: &str, issues: &mut Vec<Issue>) {
    let contained: Vec<&str> = list(resource, "contained").iter().map(|c| text(c, "id").unwrap_or_default()).collect();
    let ids: HashSet<&str> = contained.iter().copied().filter(|id| !id.is_empty()).collect();
    let mut used = Vec::new();
    collect_fragments(resource, &mut String::new(), &mut used);
    let mut referred_to = HashSet::new();
    let mut referring_back = HashSet::new();
    for (pointer, id) in &used {
        if id.is_empty() {
            let index = pointer.strip_prefix("/contained/").and_then(|rest| rest.split('/').next());
            referring_back.extend(index.and_then(|index| index.parse::<usize>().ok()));
        } else if ids.contains(id) {
            referred_to.insert(*id);
        } else {
            let words = "A reference that starts with # names a resource that is contained here (ref-1).";
            issues.push(invariant(words).at(Place::of(pointer, resource, root).expression));
        }
    }
    for (index, id) in contained.iter().enumerate() {
        if !referring_back.contains(&index) && !referred_to.contains(id) {
            let words = "Refer to the contained resource from the resource that contains it, or leave it out (dom-3).";
            issues.push(invariant(words).at(format!("{root}.contained[{index}]")));
        }
    }
}

/// References `#id` with their JSON pointers. Resources that are entries of a Bundle or values of Parameters are
/// looked at by themselves.
fn collect_fragments<'a>(value: &'a Value, pointer: &mut String, found: &mut Vec<(String, &'a str)>) {
    let length = pointer.len();
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                if let (true, Some(id)) = (name == "reference", inner.as_str().and_then(|t| t.strip_prefix('#'))) {
                    found.push((pointer.clone(), id));
                }
                let own = inner.get("resourceType").is_none();
                if own {
                    collect_fragments(inner, pointer, found);
                }
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                collect_fragments(inner, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Of CP-IS: nothing that changes the meaning of what it takes, and that it would not understand.
pub(super) fn of_profile(resource: &Value, root: &str) -> Vec<Issue> {
    let mut pointers = Vec::new();
    if resource.get("implicitRules").is_some() {
        pointers.push("/implicitRules".to_owned());
    }
    collect_modifiers(resource, &mut String::new(), &mut pointers);
    let words = "CP-IS knows no rules or extensions that change the meaning of a resource: leave this out.";
    let issue =
        Issue::error(IssueCode::BusinessRule, SpineCode::InvalidValue, words).with_record_code(RecordCode::Cpr07);
    pointers.iter().map(|pointer| issue.clone().at(Place::of(pointer, resource, root).expression)).collect()
}

fn collect_modifiers(value: &Value, pointer: &mut String, found: &mut Vec<String>) {
    let length = pointer.len();
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                if name == "modifierExtension" {
                    found.push(pointer.clone());
                } else {
                    collect_modifiers(inner, pointer, found);
                }
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                collect_modifiers(inner, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}
