//! Parts of a resource: `_summary` and `_elements` (<https://hl7.org/fhir/R4/search.html#summary>).

use serde_json::{Map, Value, json};

/// What of a resource is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subset {
    /// The elements that R4 marks as summary.
    Summary,
    /// Narrative, `id`, `meta` and what is mandatory.
    Text,
    /// All but the narrative.
    Data,
    /// These elements, and what is mandatory: (of this type only, name).
    Elements(Vec<(Option<String>, String)>),
}

/// Elements of a type that CP-IS serves.
struct Elements {
    resource: &'static str,
    mandatory: &'static [&'static str],
    summary: &'static [&'static str],
    others: &'static [&'static str],
}

/// Elements of every resource. Modifiers (`implicitRules`, `modifierExtension`) are never left out.
const ALWAYS: [&str; 5] = ["resourceType", "id", "meta", "implicitRules", "modifierExtension"];
const OF_ALL: [&str; 7] = ["id", "meta", "implicitRules", "language", "text", "contained", "extension"];

/// By R4's definitions of the types.
const TYPES: [Elements; 13] = [
    Elements {
        resource: "AuditEvent",
        mandatory: &["type", "recorded", "agent", "source"],
        summary: &["subtype", "action", "outcome", "outcomeDesc", "purposeOfEvent"],
        others: &["period", "entity"],
    },
    Elements {
        resource: "CarePlan",
        mandatory: &["status", "intent", "subject"],
        summary: &[
            "identifier",
            "instantiatesCanonical",
            "instantiatesUri",
            "basedOn",
            "replaces",
            "partOf",
            "category",
            "title",
            "description",
            "encounter",
            "period",
            "created",
            "author",
            "addresses",
        ],
        others: &["contributor", "careTeam", "supportingInfo", "goal", "activity", "note"],
    },
    Elements {
        resource: "CareTeam",
        mandatory: &["status"],
        summary: &["identifier", "category", "name", "subject", "encounter", "period", "managingOrganization"],
        others: &["participant", "reasonCode", "reasonReference", "telecom", "note"],
    },
    Elements {
        resource: "Flag",
        mandatory: &["status", "code", "subject"],
        summary: &["identifier", "category", "period", "encounter", "author"],
        others: &[],
    },
    Elements {
        resource: "Organization",
        mandatory: &["active"],
        summary: &["identifier", "type", "name", "partOf"],
        others: &["alias", "telecom", "address", "contact", "endpoint"],
    },
    Elements {
        resource: "Patient",
        mandatory: &["active"],
        summary: &[
            "identifier",
            "name",
            "telecom",
            "gender",
            "birthDate",
            "deceasedBoolean",
            "deceasedDateTime",
            "address",
            "managingOrganization",
            "link",
        ],
        others: &[
            "maritalStatus",
            "multipleBirthBoolean",
            "multipleBirthInteger",
            "photo",
            "contact",
            "communication",
            "generalPractitioner",
        ],
    },
    Elements {
        resource: "PractitionerRole",
        mandatory: &[],
        summary: &[
            "identifier",
            "active",
            "period",
            "practitioner",
            "organization",
            "code",
            "specialty",
            "location",
            "telecom",
        ],
        others: &["healthcareService", "availableTime", "notAvailable", "availabilityExceptions", "endpoint"],
    },
    Elements {
        resource: "Subscription",
        mandatory: &["status", "reason", "criteria", "channel"],
        summary: &["contact", "end", "error"],
        others: &[],
    },
    Elements {
        resource: "CodeSystem",
        mandatory: &["status", "content"],
        summary: &[
            "url",
            "identifier",
            "version",
            "name",
            "title",
            "experimental",
            "date",
            "publisher",
            "contact",
            "useContext",
            "jurisdiction",
            "caseSensitive",
            "valueSet",
            "hierarchyMeaning",
            "compositional",
            "versionNeeded",
            "supplements",
            "count",
            "filter",
            "property",
        ],
        others: &["description", "purpose", "copyright", "concept"],
    },
    Elements {
        resource: "OperationDefinition",
        mandatory: &["name", "status", "kind", "code", "system", "type", "instance"],
        summary: &[
            "url",
            "version",
            "title",
            "experimental",
            "date",
            "publisher",
            "contact",
            "useContext",
            "jurisdiction",
            "affectsState",
            "base",
            "resource",
            "inputProfile",
            "outputProfile",
        ],
        others: &["description", "purpose", "comment", "parameter", "overload"],
    },
    Elements {
        resource: "SearchParameter",
        mandatory: &["url", "name", "status", "description", "code", "base", "type"],
        summary: &[
            "version",
            "derivedFrom",
            "experimental",
            "date",
            "publisher",
            "contact",
            "useContext",
            "jurisdiction",
        ],
        others: &[
            "purpose",
            "expression",
            "xpath",
            "xpathUsage",
            "target",
            "multipleOr",
            "multipleAnd",
            "comparator",
            "modifier",
            "chain",
            "component",
        ],
    },
    Elements {
        resource: "StructureDefinition",
        mandatory: &["url", "name", "status", "kind", "abstract", "type"],
        summary: &[
            "identifier",
            "version",
            "title",
            "experimental",
            "date",
            "publisher",
            "contact",
            "useContext",
            "jurisdiction",
            "keyword",
            "fhirVersion",
            "contextInvariant",
            "context",
            "baseDefinition",
            "derivation",
        ],
        others: &["description", "purpose", "copyright", "mapping", "snapshot", "differential"],
    },
    Elements {
        resource: "ValueSet",
        mandatory: &["status"],
        summary: &[
            "url",
            "identifier",
            "version",
            "name",
            "title",
            "experimental",
            "date",
            "publisher",
            "contact",
            "useContext",
            "jurisdiction",
            "immutable",
        ],
        others: &["description", "purpose", "copyright", "compose", "expansion"],
    },
];

fn elements_of(resource: &str) -> Option<&'static Elements> {
    TYPES.iter().find(|of| of.resource == resource)
}

/// Whether a type is among those that come along with each other in a search.
pub fn is_of_a_record(resource: &str) -> bool {
    elements_of(resource).is_some()
}

/// Whether a type has an element of this name; true for a type that is not in the table.
pub fn has_element(resource: &str, name: &str) -> bool {
    let own = |of: &Elements| [of.mandatory, of.summary, of.others].concat().contains(&name);
    OF_ALL.contains(&name) || elements_of(resource).is_none_or(own)
}

impl Subset {
    /// The subset of a resource, or of each resource in a Bundle of search results or history. An `OperationOutcome`
    /// stays whole, and so do resources that came along when `_elements` names no type.
    pub fn apply(&self, resource: Value) -> Value {
        match type_of(&resource) {
            "Bundle" => self.apply_to_bundle(resource),
            _ => self.apply_to_one(resource),
        }
    }

    fn apply_to_bundle(&self, mut bundle: Value) -> Value {
        let entries = bundle.get_mut("entry").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let matched = entry.pointer("/search/mode").is_none_or(|mode| mode == "match");
            let Some(slot) = entry.get_mut("resource") else { continue };
            let resource = slot.take();
            let asked = matched || !matches!(self, Self::Elements(_)) || self.names(type_of(&resource));
            *slot = if asked { self.apply_to_one(resource) } else { resource };
        }
        bundle
    }

    /// Whether `_elements` names this type.
    fn names(&self, resource: &str) -> bool {
        matches!(self, Self::Elements(names) if names.iter().any(|(of, _)| of.as_deref() == Some(resource)))
    }

    fn apply_to_one(&self, resource: Value) -> Value {
        let name = type_of(&resource).to_owned();
        let Value::Object(members) = resource else { return resource };
        if name == "OperationOutcome" {
            return Value::Object(members);
        }
        let of = elements_of(&name);
        let mandatory = |element: &str| of.is_some_and(|of| of.mandatory.contains(&element));
        let kept = |element: &str| match self {
            Self::Summary => of.is_none_or(|of| mandatory(element) || of.summary.contains(&element)),
            Self::Text => element == "text" || mandatory(element),
            Self::Data => element != "text",
            Self::Elements(names) => {
                let named = |(of, asked): &(Option<String>, String)| {
                    asked == element && of.as_deref().is_none_or(|of| of == name)
                };
                mandatory(element) || names.iter().any(named)
            }
        };
        let before = members.len();
        let mut members: Map<String, Value> = members
            .into_iter()
            .filter(|(element, _)| {
                let element = element.strip_prefix('_').unwrap_or(element);
                ALWAYS.contains(&element) || kept(element)
            })
            .collect();
        if members.len() < before || *self != Self::Data {
            mark(&mut members);
        }
        Value::Object(members)
    }
}

/// Says that it is not the whole resource, so that nobody stores it back.
fn mark(members: &mut Map<String, Value>) {
    let tag = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"});
    let meta = members.entry("meta").or_insert_with(|| json!({}));
    match meta.get_mut("tag").and_then(Value::as_array_mut) {
        Some(tags) => tags.push(tag),
        None => {
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("tag".to_owned(), json!([tag]));
            }
        }
    }
}

fn type_of(resource: &Value) -> &str {
    resource.get("resourceType").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag() -> Value {
        json!({
            "resourceType": "Flag", "id": "f", "text": {"status": "generated", "div": "<div/>"},
            "extension": [{"url": "urn:x"}], "status": "active", "_status": {"id": "s"},
            "code": {"text": "c"}, "subject": {"reference": "Patient/1"}, "period": {"start": "2026"}
        })
    }

    fn kept(subset: &Subset) -> String {
        let value = subset.apply(flag());
        assert_eq!(value["meta"]["tag"][0]["code"], "SUBSETTED");
        let names = value.as_object().unwrap().keys().filter(|name| *name != "meta" && *name != "resourceType");
        names.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn elements(names: &[(Option<&str>, &str)]) -> Subset {
        Subset::Elements(names.iter().map(|(of, name)| (of.map(str::to_owned), (*name).to_owned())).collect())
    }

    #[test]
    fn each_subset_keeps_what_r4_says() {
        assert_eq!(kept(&Subset::Summary), "_status code id period status subject");
        assert_eq!(kept(&Subset::Text), "_status code id status subject text");
        assert_eq!(kept(&Subset::Data), "_status code extension id period status subject");
        assert_eq!(kept(&elements(&[(None, "period")])), "_status code id period status subject");
        assert_eq!(kept(&elements(&[(Some("Patient"), "period")])), "_status code id status subject");
    }

    #[test]
    fn of_a_bundle_the_matches_are_cut_and_an_outcome_stays() {
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [{"severity": "information"}]});
        let bundle = json!({"resourceType": "Bundle", "type": "searchset", "entry": [
            {"resource": flag(), "search": {"mode": "match"}},
            {"resource": flag(), "search": {"mode": "include"}},
            {"resource": outcome, "search": {"mode": "outcome"}},
        ]});
        let cut = elements(&[(None, "period")]).apply(bundle.clone());
        assert!(cut["entry"][0]["resource"].get("text").is_none());
        assert_eq!(cut["entry"][1]["resource"], flag());
        let cut = Subset::Summary.apply(bundle);
        assert!(cut["entry"][1]["resource"].get("text").is_none());
        assert_eq!(cut["entry"][2]["resource"], outcome);
    }

    #[test]
    fn unknown_elements_are_told() {
        assert!(
            has_element("Flag", "period")
                && has_element("Flag", "text")
                && has_element("ValueSet", "compose")
                && has_element("Basic", "any")
        );
        assert!(!has_element("Flag", "perod"));
    }
}
