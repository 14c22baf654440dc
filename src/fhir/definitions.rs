//! What this gateway defines or constrains, as resources that engineers can fetch: code systems, value sets, profiles,
//! operations, search parameters. All but the last are files of `schemas/definitions`, embedded and read once; in them
//! `{base}` stands for the FHIR base, so that what is ours has a canonical that resolves here.
//!
//! A national code system keeps its own canonical and is a fragment here: it is never claimed as ours.

use serde_json::{Value, json};

/// A definition as a file, by type and id.
type Embedded = (&'static str, &'static str, &'static str);

macro_rules! embedded {
    ($($kind:literal / $id:literal,)*) => {
        [$((
            $kind,
            $id,
            include_str!(concat!("../../schemas/definitions/", $kind, "/", $id, ".json")),
        ),)*]
    };
}

// One line for each file of the folder; a test holds the two together.
const EMBEDDED: &[Embedded] = &embedded! {
    "CodeSystem" / "cpis-audit-detail",
    "CodeSystem" / "cpis-inactive-reason",
    "CodeSystem" / "cpis-notification-topic",
    "CodeSystem" / "cpis-organization",
    "CodeSystem" / "cpis-record-ended-reason",
    "CodeSystem" / "cpis-upload-file-response",
    "CodeSystem" / "cpis-upload-record-response",
    "CodeSystem" / "england-flag-category-patient",
    "CodeSystem" / "spine-error-or-warning-code",
    "OperationDefinition" / "cpis-everything",
    "OperationDefinition" / "cpis-inactive",
    "OperationDefinition" / "cpis-match",
    "OperationDefinition" / "cpis-refused-records",
    "OperationDefinition" / "cpis-subscription-events",
    "OperationDefinition" / "cpis-subscription-status",
    "OperationDefinition" / "cpis-validate",
    "StructureDefinition" / "cpis-access-author",
    "StructureDefinition" / "cpis-access-event",
    "StructureDefinition" / "cpis-flag",
    "StructureDefinition" / "cpis-notification-reason",
    "StructureDefinition" / "cpis-organization",
    "StructureDefinition" / "cpis-patient",
    "StructureDefinition" / "cpis-shown-care-plan",
    "StructureDefinition" / "cpis-shown-care-team",
    "StructureDefinition" / "cpis-shown-flag",
    "StructureDefinition" / "cpis-subscription",
    "ValueSet" / "cpis-flag-category",
    "ValueSet" / "cpis-flag-code",
    "ValueSet" / "cpis-inactive-reason",
    "ValueSet" / "cpis-notification-reason",
    "ValueSet" / "cpis-notification-topic",
    "ValueSet" / "cpis-plan-type",
    "ValueSet" / "cpis-spine-error",
    "ValueSet" / "cpis-upload-file-response",
    "ValueSet" / "cpis-upload-record-response",
};

/// Day on which the definitions last changed.
pub const DATE: &str = "2026-11-23";
pub const VERSION: &str = "1.0.0";
pub const PUBLISHER: &str = "The operator of this gateway";

/// A definition that is embedded is no JSON: a fault of this program.
#[derive(Debug, thiserror::Error)]
#[error("the definition {kind}/{id} is not JSON")]
pub struct DefinitionFault {
    pub kind: &'static str,
    pub id: &'static str,
}

/// The definitions of one gateway.
#[derive(Debug)]
pub struct Definitions(Vec<Value>);

impl Definitions {
    /// Reads the embedded files; `base_url` is the FHIR base as clients see it, without a last slash.
    ///
    /// # Errors
    /// [`DefinitionFault`].
    pub fn read(base_url: &str) -> Result<Self, DefinitionFault> {
        let read = |(kind, id, text): &Embedded| {
            let mut value = serde_json::from_str(text).map_err(|_| DefinitionFault { kind, id })?;
            based_on(&mut value, base_url);
            Ok(value)
        };
        EMBEDDED.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Adds definitions that are made, not embedded.
    #[must_use]
    pub fn with(mut self, made: impl IntoIterator<Item = Value>) -> Self {
        self.0.extend(made);
        self
    }

    /// The definitions of a type, such as `CodeSystem`, by id.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |definition| text(definition, "resourceType") == kind)
    }

    pub fn find(&self, kind: &str, id: &str) -> Option<&Value> {
        self.0.iter().find(|definition| text(definition, "resourceType") == kind && text(definition, "id") == id)
    }

    /// Canonical of the operation `$code` on a resource type, if it is defined here.
    pub fn operation(&self, code: &str, resource_type: &str) -> Option<&str> {
        let on = |types: &Value| types.as_array().is_some_and(|types| types.iter().any(|one| one == resource_type));
        let mut found = self.of_type("OperationDefinition").filter(|one| text(one, "code") == code);
        found.find(|one| one.get("resource").is_some_and(on)).map(|one| text(one, "url"))
    }

    /// Canonical of the operation `$code` on the server as a whole, if it is defined here.
    pub fn system_operation(&self, code: &str) -> Option<&str> {
        let of_the_system = |one: &&Value| one.get("system") == Some(&Value::Bool(true)) && text(one, "code") == code;
        self.of_type("OperationDefinition").find(of_the_system).map(|one| text(one, "url"))
    }

    /// Canonicals of the profiles on a resource type.
    pub fn profiles<'a>(&'a self, resource_type: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let resource_type = resource_type.to_owned();
        let profiles = self.of_type("StructureDefinition").filter(move |one| text(one, "type") == resource_type);
        profiles.map(|one| text(one, "url"))
    }
}

fn text<'a>(definition: &'a Value, element: &str) -> &'a str {
    definition.get(element).and_then(Value::as_str).unwrap_or_default()
}

fn based_on(value: &mut Value, base_url: &str) {
    match value {
        Value::String(text) if text.contains("{base}") => *text = text.replace("{base}", base_url),
        Value::Array(items) => items.iter_mut().for_each(|item| based_on(item, base_url)),
        Value::Object(members) => members.values_mut().for_each(|member| based_on(member, base_url)),
        _ => {}
    }
}

/// A search parameter that R4 lacks, as one row of a resource's table says it.
#[derive(Clone, Copy, Debug)]
pub struct OwnParameter<'a> {
    /// Absolute canonical; its last segment is the id.
    pub canonical: &'a str,
    /// Resource type that is searched.
    pub resource: &'a str,
    /// As in the query string.
    pub name: &'a str,
    /// R4's type of search parameter, such as `token`.
    pub kind: &'a str,
    /// `FHIRPath` of the elements that it looks at.
    pub expression: &'a str,
    pub description: &'a str,
    /// Prefixes of a date, such as `ge`; empty for the others.
    pub comparators: &'a [&'a str],
    /// Modifiers without their colon; what is no modifier of R4's (a chain) is left out.
    pub modifiers: &'a [&'a str],
}

/// `http://hl7.org/fhir/search-modifier-code`.
const MODIFIERS: [&str; 12] =
    ["missing", "exact", "contains", "not", "text", "in", "not-in", "below", "above", "type", "identifier", "ofType"];

/// The parameter as a `SearchParameter`.
pub fn search_parameter(of: &OwnParameter<'_>) -> Value {
    let id = of.canonical.rsplit('/').next().unwrap_or_default();
    let mut made = json!({
        "resourceType": "SearchParameter",
        "id": id,
        "url": of.canonical,
        "version": VERSION,
        // A name that programs can use: letters and digits only (spd-0).
        "name": id.split('-').map(capitalised).collect::<String>(),
        "status": "active",
        "experimental": false,
        "date": DATE,
        "publisher": PUBLISHER,
        "description": of.description,
        "code": of.name,
        "base": [of.resource],
        "type": of.kind,
        "expression": of.expression,
        "xpathUsage": "normal",
        "multipleOr": true,
        "multipleAnd": true,
    });
    let known = of.modifiers.iter().map(|modifier| modifier.trim_start_matches(':'));
    let modifiers: Vec<&str> = known.filter(|modifier| MODIFIERS.contains(modifier)).collect();
    if let Some(members) = made.as_object_mut() {
        if !of.comparators.is_empty() {
            members.insert("comparator".to_owned(), json!(of.comparators));
        }
        if !modifiers.is_empty() {
            members.insert("modifier".to_owned(), json!(modifiers));
        }
    }
    made
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::{
        cpis::types::{
            PlanType,
            notice::{EndedReason, InactiveReason, Topic},
            upload::{FileCode, RecordCode},
        },
        fhir::{outcome::SpineCode, system},
    };

    const BASE: &str = "https://cpis.example.org/cpis/FHIR/R4";

    fn definitions() -> Definitions {
        Definitions::read(BASE).unwrap()
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/definitions");
        let mut files = BTreeSet::new();
        for folder in fs::read_dir(root).unwrap() {
            let folder = folder.unwrap().path();
            for file in fs::read_dir(&folder).unwrap() {
                let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
                files.insert((name(&folder), name(&file.unwrap().path())));
            }
        }
        let embedded = EMBEDDED.iter().map(|(kind, id, _)| ((*kind).to_owned(), (*id).to_owned()));
        assert_eq!(embedded.collect::<BTreeSet<_>>(), files);
    }

    #[test]
    fn each_definition_says_who_made_it_and_has_a_canonical_of_its_own() {
        let definitions = definitions();
        let mut canonicals = BTreeSet::new();
        for (definition, (kind, id, _)) in definitions.0.iter().zip(EMBEDDED) {
            assert_eq!((text(definition, "resourceType"), text(definition, "id")), (*kind, *id));
            for element in ["url", "version", "name", "title", "status", "date", "publisher", "description"] {
                assert!(!text(definition, element).is_empty(), "{kind}/{id}.{element}");
            }
            let name = text(definition, "name");
            let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            assert!(fits, "{name}: a name that programs can use (csd-0, vsd-0, sdf-0, opd-0)");
            assert_eq!(definition["experimental"], false, "{kind}/{id}");
            assert!(canonicals.insert(text(definition, "url").to_owned()), "{kind}/{id}");
            let ours = text(definition, "url") == format!("{BASE}/{kind}/{id}");
            let national = *kind == "CodeSystem" && definition["content"] == "fragment";
            assert_eq!(ours, !national, "{kind}/{id}: what is national is a fragment under its own canonical");
            assert!(!definition.to_string().contains("{base}"), "{kind}/{id}");
        }
    }

    fn codes(definition: &Value) -> BTreeSet<(String, String)> {
        let concepts = definition.get("concept").or_else(|| definition.pointer("/compose/include/0/concept"));
        let concepts = concepts.and_then(Value::as_array).cloned().unwrap_or_default();
        concepts.iter().map(|c| (text(c, "code").to_owned(), text(c, "display").to_owned())).collect()
    }

    fn pairs<'a>(of: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<(String, String)> {
        of.into_iter().map(|(code, display)| (code.to_owned(), display.to_owned())).collect()
    }

    /// The program and what it publishes say the same codes with the same words.
    #[test]
    fn the_codes_are_those_of_the_program() {
        let definitions = definitions();
        let of = |kind: &str, id: &str| codes(definitions.find(kind, id).unwrap());
        let url = |id: &str| text(definitions.find("CodeSystem", id).unwrap(), "url").to_owned();
        let plan_types = pairs(PlanType::ALL.iter().map(|plan| (plan.snomed(), plan.display())));
        assert_eq!(of("ValueSet", "cpis-plan-type"), plan_types);
        let spine = pairs(SpineCode::ALL.iter().map(|code| (code.code(), code.display())));
        assert_eq!(of("CodeSystem", "spine-error-or-warning-code"), spine);
        assert_eq!(of("ValueSet", "cpis-spine-error"), spine);
        assert_eq!(url("spine-error-or-warning-code"), system::SPINE_CODE);
        use RecordCode::*;
        let records = [Cpr01, Cpr02, Cpr03, Cpr04, Cpr05, Cpr06, Cpr07];
        let records = pairs(records.iter().map(|code| (code.code(), code.display())));
        assert_eq!(of("CodeSystem", "cpis-upload-record-response"), records);
        assert_eq!(url("cpis-upload-record-response"), system::RECORD_RESPONSE);
        use FileCode::*;
        let files = pairs([Cpf01, Cpf02, Cpf03, Cpf04, Cpf05].iter().map(|code| (code.code(), code.display())));
        assert_eq!(of("CodeSystem", "cpis-upload-file-response"), files);
        assert_eq!(of("ValueSet", "cpis-upload-file-response"), files);
        assert_eq!(url("cpis-upload-file-response"), system::FILE_RESPONSE);
        let topics: BTreeSet<String> = Topic::ALL.iter().map(|topic| topic.name().to_owned()).collect();
        let published: BTreeSet<String> =
            of("CodeSystem", "cpis-notification-topic").into_iter().map(|(code, _)| code).collect();
        assert_eq!(published, topics);
        let inactive = pairs(InactiveReason::ALL.iter().map(|reason| (reason.code(), reason.display())));
        assert_eq!(of("CodeSystem", "cpis-inactive-reason"), inactive);
        let ended = pairs(EndedReason::ALL.iter().map(|reason| (reason.code(), reason.display())));
        assert_eq!(of("CodeSystem", "cpis-record-ended-reason"), ended);
        let flag = pairs([(system::CPIS_FLAG, system::CPIS_FLAG_DISPLAY)]);
        assert_eq!(of("CodeSystem", "england-flag-category-patient"), flag);
        assert_eq!(of("ValueSet", "cpis-flag-code"), flag);
        assert_eq!(url("england-flag-category-patient"), system::FLAG_CATEGORY_PATIENT);
    }

    /// What a definition binds to or includes is a definition of this server, HL7's, or a known system.
    #[test]
    fn what_definitions_refer_to_is_there() {
        let definitions = definitions();
        let ours: BTreeSet<&str> = definitions.0.iter().map(|one| text(one, "url")).collect();
        fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::String(text) if text.starts_with(BASE) && !text.contains(' ') => found.push(text),
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                Value::Object(members) => members.values().for_each(|member| walk(member, found)),
                _ => {}
            }
        }
        for definition in &definitions.0 {
            let mut found = Vec::new();
            walk(definition, &mut found);
            assert!(found.iter().all(|url| ours.contains(url)), "{found:?}");
        }
        for value_set in definitions.of_type("ValueSet") {
            let system = value_set.pointer("/compose/include/0/system").and_then(Value::as_str).unwrap();
            assert!(ours.contains(system) || [system::SNOMED_CT, system::FLAG_CATEGORY].contains(&system), "{system}");
        }
    }

    /// R4's rules about profiles: paths begin with the type (sdf-8a), ids are unique (sdf-16, sdf-17) and give the path.
    #[test]
    fn the_profiles_are_well_formed() {
        let definitions = definitions();
        for profile in definitions.of_type("StructureDefinition") {
            let kind = text(profile, "type");
            assert_eq!(text(profile, "baseDefinition"), format!("http://hl7.org/fhir/StructureDefinition/{kind}"));
            assert_eq!(text(profile, "derivation"), "constraint");
            let elements = profile.pointer("/differential/element").and_then(Value::as_array).unwrap();
            let mut ids = BTreeSet::new();
            for element in elements {
                let (id, path) = (text(element, "id"), text(element, "path"));
                assert!(ids.insert(id), "{id} is there twice");
                assert!(path == kind || path.starts_with(&format!("{kind}.")), "{path}");
                let steps: Vec<&str> = id.split('.').map(|step| step.split(':').next().unwrap()).collect();
                assert_eq!(steps.join("."), path);
                let slice = id.rsplit('.').next().unwrap().split_once(':').map(|(_, slice)| slice);
                assert_eq!(element.get("sliceName").and_then(Value::as_str), slice, "{id}");
                assert!(slice.is_none() || ids.contains(id.rsplit_once(':').unwrap().0), "{id}: not sliced");
                let min = element.get("min").and_then(Value::as_u64).unwrap_or(0);
                let max = element.get("max").and_then(Value::as_str).and_then(|max| max.parse().ok());
                assert!(max.is_none_or(|max: u64| min <= max), "{id} (eld-2)");
            }
        }
    }

    /// The systems that a profile fixes are those that the schema of the same name does.
    #[test]
    fn profiles_and_schemas_fix_the_same_systems() {
        let definitions = definitions();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        fn walk(value: &Value, wanted: &str, found: &mut BTreeSet<String>) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| walk(item, wanted, found)),
                Value::Object(members) => {
                    let system = members.get(wanted).and_then(Value::as_str).filter(|text| text.contains(':'));
                    found.extend(system.map(str::to_owned));
                    members.values().for_each(|member| walk(member, wanted, found));
                }
                _ => {}
            }
        }
        let mut compared = 0;
        for file in fs::read_dir(root).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".schema.json").filter(|id| id.starts_with("cpis-")) else { continue };
            let schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let Some(profile) = definitions.find("StructureDefinition", id) else { panic!("{id} has no profile") };
            let (mut by_schema, mut by_profile) = (BTreeSet::new(), BTreeSet::new());
            walk(&schema, "const", &mut by_schema);
            walk(profile, "fixedUri", &mut by_profile);
            // The extensions of the backport are profiles of their own.
            by_schema.retain(|fixed| !fixed.starts_with(system::SUBSCRIPTIONS_BACKPORT));
            assert_eq!(by_profile, by_schema, "{id}");
            compared += 1;
        }
        assert!(compared >= 4);
    }

    #[test]
    fn a_search_parameter_is_made_of_its_row() {
        let canonical = format!("{BASE}/SearchParameter/AuditEvent-cpis-organization");
        let made = search_parameter(&OwnParameter {
            canonical: &canonical,
            resource: "AuditEvent",
            name: "cpis-organization",
            kind: "token",
            expression: "AuditEvent.agent.who.identifier",
            description: "Organisation that asked",
            comparators: &[],
            modifiers: &[":not", ":missing", ".identifier"],
        });
        assert_eq!(
            made,
            json!({
                "resourceType": "SearchParameter", "id": "AuditEvent-cpis-organization", "url": canonical,
                "version": VERSION, "name": "AuditEventCpisOrganization", "status": "active", "experimental": false,
                "date": DATE, "publisher": PUBLISHER, "description": "Organisation that asked",
                "code": "cpis-organization", "base": ["AuditEvent"], "type": "token",
                "expression": "AuditEvent.agent.who.identifier", "xpathUsage": "normal",
                "multipleOr": true, "multipleAnd": true, "modifier": ["not", "missing"],
            })
        );
        let definitions = definitions().with([made]);
        assert!(definitions.find("SearchParameter", "AuditEvent-cpis-organization").is_some());
    }

    #[test]
    fn operations_and_profiles_are_found_by_type() {
        let definitions = definitions();
        assert_eq!(
            definitions.operation("everything", "Patient"),
            Some("https://cpis.example.org/cpis/FHIR/R4/OperationDefinition/cpis-everything")
        );
        assert_eq!(definitions.operation("everything", "Flag"), None);
        let profiles: Vec<&str> = definitions.profiles("Flag").collect();
        let expected = ["cpis-flag", "cpis-shown-flag"].map(|id| format!("{BASE}/StructureDefinition/{id}"));
        assert_eq!(profiles, expected);
    }
}
