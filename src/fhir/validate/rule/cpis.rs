//! Rules that CP-IS adds to those of R4.

use serde_json::Value;

use super::{Invariant, list, rule, text};
use crate::{
    cpis::types::{NhsNumber, OdsCode, upload::RecordCode},
    fhir::{
        outcome::{Issue, IssueCode, SpineCode},
        system,
        validate::{format::referred, location::Place},
    },
};

pub(super) const RULES: &[Invariant] = &[
    rule(
        "cpis-subject",
        |v| names_agree(v, "Patient", system::NHS_NUMBER, |n| NhsNumber::parse(n).is_ok()),
        "Name the child by the reference Patient/ and NHS number, or by an identifier with the system https://fhir.nhs.uk/Id/nhs-number and the number; if by both, by the same number.",
    ),
    rule(
        "cpis-author",
        |v| names_agree(v, "Organization", system::ODS_CODE, |c| OdsCode::parse(c).is_ok()),
        "Name the author by the reference Organization/ and ODS code, or by an identifier with the system https://fhir.nhs.uk/Id/ods-organization-code and the code; if by both, by the same code.",
    ),
    rule(
        "cpis-patient-id",
        |v| id_agrees(v, system::NHS_NUMBER, |n| NhsNumber::parse(n).is_ok()),
        "The id of the Patient is its NHS number: leave it out, or give the same number as in the identifier.",
    ),
    rule(
        "cpis-organization-id",
        |v| id_agrees(v, system::ODS_CODE, |c| OdsCode::parse(c).is_ok()),
        "The id of the Organization is its ODS code: leave it out, or give the same code as in the identifier.",
    ),
    rule(
        "cpis-care-provider",
        |v| {
            let mut coded = list(v, "type").iter().flat_map(|t| list(t, "coding"));
            // A body that oversees the service answers no calls about children either.
            coded.any(|c| match (text(c, "system"), text(c, "code")) {
                (Some(system::ORGANIZATION_TYPE), Some("prov")) => true,
                (Some(own), Some("oversight")) => system::is_cpis_organization(own),
                _ => false,
            })
        },
        "The organisation is not a care provider.",
    ),
];

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
fn id_agrees(resource: &Value, system: &str, valid: fn(&str) -> bool) -> bool {
    let identifier = list(resource, "identifier").iter().find(|i| text(i, "system") == Some(system));
    match (text(resource, "id"), identifier.and_then(|i| text(i, "value"))) {
        (Some(id), Some(value)) => id == value || !valid(value),
        _ => true,
    }
}

/// Nothing that changes the meaning of what CP-IS takes, and that it would not understand.
pub fn of_profile(resource: &Value, root: &str) -> Vec<Issue> {
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
