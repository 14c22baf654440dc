//! Compiles the embedded schemas, with the formats and with three keywords of our own: `invariants` names rows of
//! the rule table, `choice` lists the `name[x]` elements of an object, `targets` the types that a reference may have.

use std::collections::BTreeMap;

use jsonschema::{Keyword, Registry, ValidationError, ValidationOptions};
use serde_json::Value;

use super::{CpisProfile, SchemaFault, Validators, format::FORMATS, rule};

pub(super) const CHOICE: &str = "choice";
pub(super) const TARGETS: &str = "targets";
const INVARIANTS: &str = "invariants";

/// Embeds the schema of a name.
macro_rules! schema {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../schemas/", $name, ".schema.json")))
    };
}

const DATATYPES: (&str, &str) = schema!("datatypes");

const BASE: [(&str, (&str, &str)); 19] = [
    ("AuditEvent", schema!("audit-event")),
    ("Bundle", schema!("bundle")),
    ("CapabilityStatement", schema!("capability-statement")),
    ("CarePlan", schema!("care-plan")),
    ("CareTeam", schema!("care-team")),
    ("CodeSystem", schema!("code-system")),
    ("Flag", schema!("flag")),
    ("OperationDefinition", schema!("operation-definition")),
    ("OperationOutcome", schema!("operation-outcome")),
    ("Organization", schema!("organization")),
    ("Parameters", schema!("parameters")),
    ("Patient", schema!("patient")),
    ("PractitionerRole", schema!("practitioner-role")),
    ("Provenance", schema!("provenance")),
    ("SearchParameter", schema!("search-parameter")),
    ("StructureDefinition", schema!("structure-definition")),
    ("Subscription", schema!("subscription")),
    ("TerminologyCapabilities", schema!("terminology-capabilities")),
    ("ValueSet", schema!("value-set")),
];

const PROFILES: [(&str, (&str, &str)); 4] = [
    ("Flag", schema!("cpis-flag")),
    ("Organization", schema!("cpis-organization")),
    ("Patient", schema!("cpis-patient")),
    ("Subscription", schema!("cpis-subscription")),
];

pub(super) fn compile() -> Result<Validators, SchemaFault> {
    let fault = |name: &'static str, reason: String| SchemaFault::Compile { name, reason };
    let datatypes = read(DATATYPES)?;
    let registry = Registry::new()
        .add("cpis:///datatypes.schema.json", &datatypes)
        .and_then(jsonschema::RegistryBuilder::prepare)
        .map_err(|e| fault(DATATYPES.0, e.to_string()))?;
    let options = options(&registry);
    let build = |name: &'static str, schema: &Value| options.build(schema).map_err(|e| fault(name, e.to_string()));
    let mut base = BTreeMap::new();
    for (type_name, embedded) in BASE {
        base.insert(type_name, build(embedded.0, &read(embedded)?)?);
    }
    let mut profiles = BTreeMap::new();
    for (type_name, embedded) in PROFILES {
        let schema = read(embedded)?;
        profiles.insert(type_name, CpisProfile { validator: build(embedded.0, &schema)?, schema });
    }
    Ok(Validators { base, profiles })
}

/// The embedded schemas of the first layer by resource type, and the `datatypes` that they stand on, as written.
///
/// # Errors
/// [`SchemaFault::Json`].
pub fn structures() -> Result<BTreeMap<String, Value>, SchemaFault> {
    let all = BASE.into_iter().chain([("datatypes", DATATYPES)]);
    all.map(|(name, embedded)| Ok((name.to_owned(), read(embedded)?))).collect()
}

fn read((name, text): (&'static str, &'static str)) -> Result<Value, SchemaFault> {
    serde_json::from_str(text).map_err(|_| SchemaFault::Json(name))
}

fn options<'r>(registry: &'r Registry<'r>) -> ValidationOptions<'r> {
    let options = jsonschema::options()
        .with_registry(registry)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_keyword(INVARIANTS, |_, value, _| invariants(value))
        .with_keyword(CHOICE, |_, value, _| choice(value))
        .with_keyword(TARGETS, |_, value, _| targets(value));
    FORMATS.iter().fold(options, |options, format| options.with_format(format.name, format.check))
}

type BoxedKeyword = Box<dyn for<'i> Keyword<'i>>;

/// A check that names every fault it finds.
struct Check<F>(F);

impl<'i, F: Fn(&Value) -> Vec<String> + Send + Sync> Keyword<'i> for Check<F> {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match (self.0)(instance).into_iter().next() {
            Some(words) => Err(ValidationError::custom(words)),
            None => Ok(()),
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        (self.0)(instance).is_empty()
    }

    fn iter_errors(&self, instance: &'i Value) -> Box<dyn Iterator<Item = ValidationError<'i>> + 'i> {
        Box::new((self.0)(instance).into_iter().map(|words| -> ValidationError<'i> { ValidationError::custom(words) }))
    }
}

fn texts(value: &Value) -> Result<Vec<String>, ValidationError<'static>> {
    let texts = value.as_array().map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    texts.ok_or_else(|| ValidationError::schema("a list of texts is expected"))
}

fn invariants(value: &Value) -> Result<BoxedKeyword, ValidationError<'static>> {
    let mut rules = Vec::new();
    for key in texts(value)? {
        let rule = rule::invariants().find(|rule| rule.key == key);
        rules.push(rule.ok_or_else(|| ValidationError::schema(format!("there is no rule {key}")))?);
    }
    Ok(Box::new(Check(move |instance: &Value| {
        rules.iter().filter(|rule| !(rule.holds)(instance)).map(|rule| rule.words.to_owned()).collect()
    })))
}

fn choice(value: &Value) -> Result<BoxedKeyword, ValidationError<'static>> {
    let object = value.as_object().ok_or_else(|| ValidationError::schema("an object is expected"))?;
    let choices: Vec<(String, bool)> =
        object.iter().map(|(name, card)| (name.clone(), card.as_str() == Some("1..1"))).collect();
    Ok(Box::new(Check(move |instance: &Value| {
        choices.iter().filter_map(|(name, mandatory)| rule::choice(instance, name, *mandatory)).collect()
    })))
}

fn targets(value: &Value) -> Result<BoxedKeyword, ValidationError<'static>> {
    let types = texts(value)?;
    Ok(Box::new(Check(move |instance: &Value| rule::targets(instance, &types).into_iter().collect())))
}
