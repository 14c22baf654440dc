//! Validation in two layers: the structure that R4 gives a resource, then what CP-IS asks on top.
//! The schemas (`schemas/`) say what a schema can say; `rule` holds the rest. Every problem is found at once, and
//! no message repeats what was sent. How the layers fit: `schemas/README.md`.

mod format;
mod location;
mod narrative;
mod rule;
mod schema;

use std::{
    collections::{BTreeMap, HashSet},
    sync::OnceLock,
};

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::Value;

pub use self::schema::structures;

use self::location::Place;
use super::{
    json::is_element_name,
    outcome::{Issue, IssueCode, SpineCode},
};
use crate::cpis::types::upload::RecordCode;

/// Most issues that one answer lists: nobody reads more, and a hostile body must not make a huge answer.
pub const MOST_ISSUES: usize = 1_000;

/// How far a resource is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As FHIR R4.
    Base,
    /// As FHIR R4, and as CP-IS asks of what authorities send. [`Issue::is_profile`] tells the two apart.
    Cpis,
}

/// Why the schemas could not be compiled: a fault of this program.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFault {
    #[error("schema {0} is not JSON")]
    Json(&'static str),
    #[error("schema {name} does not compile: {reason}")]
    Compile { name: &'static str, reason: String },
}

/// All validators, compiled from the embedded schemas: [`Validators::shared`].
pub struct Validators {
    base: BTreeMap<&'static str, jsonschema::Validator>,
    profiles: BTreeMap<&'static str, CpisProfile>,
}

/// A profile keeps its own text too: the messages are written beside the constraints that they explain.
struct CpisProfile {
    validator: jsonschema::Validator,
    schema: Value,
}

impl std::fmt::Debug for Validators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.base.keys()).finish()
    }
}

/// Where a resource stands: at the top, or inside another.
struct At<'a> {
    root: &'a str,
    contained: bool,
}

impl Validators {
    /// The validators of this process. The first call compiles the embedded schemas, which takes some tenths of a second;
    /// nothing is fetched.
    ///
    /// # Errors
    /// [`SchemaFault`] when a schema is broken or names a rule that does not exist.
    pub fn shared() -> Result<&'static Self, SchemaFault> {
        static SHARED: OnceLock<Validators> = OnceLock::new();
        match SHARED.get() {
            Some(compiled) => Ok(compiled),
            None => {
                let compiled = schema::compile()?;
                Ok(SHARED.get_or_init(|| compiled))
            }
        }
    }

    /// Every problem of the resource and of the resources inside it, each with its `FHIRPath`.
    /// A type that CP-IS has no schema for is refused at the top and passed over inside.
    pub fn validate(&self, resource: &Value, profile: Profile) -> Vec<Issue> {
        self.judge(resource, profile, true)
    }

    /// Every problem of a Bundle's own elements; the resources of its entries are left to [`Self::validate`],
    /// one by one, with [`Issue::within`] for the place.
    pub fn validate_envelope(&self, bundle: &Value) -> Vec<Issue> {
        self.judge(bundle, Profile::Base, false)
    }

    fn judge(&self, resource: &Value, profile: Profile, nested: bool) -> Vec<Issue> {
        let mut issues = Vec::new();
        let Some(type_name) = type_of(resource) else {
            return vec![no_type(resource)];
        };
        if !self.base.contains_key(type_name) {
            return vec![unknown_type()];
        }
        let at = At { root: type_name, contained: false };
        self.collect(resource, profile, nested, &at, &mut issues);
        if !nested {
            issues.retain(|issue| !issue.expression.iter().any(|e| is_inside_entry(e)));
        }
        if issues.len() > MOST_ISSUES {
            issues.truncate(MOST_ISSUES);
            let text = "There are more problems than are listed here: correct these first.";
            issues.push(Issue::error(IssueCode::Structure, SpineCode::ValidationError, text).at(type_name));
        }
        issues
    }

    fn collect(&self, resource: &Value, profile: Profile, nested: bool, at: &At<'_>, issues: &mut Vec<Issue>) {
        // A missing or impossible type of an inner resource is reported by the schema of the outer.
        let Some(type_name) = type_of(resource) else { return };
        let Some(base) = self.base.get(type_name) else { return };
        let first = issues.len();
        let errors = base.iter_errors(resource).take(MOST_ISSUES + 1);
        issues.extend(errors.flat_map(|error| base_issues(&error, resource, at.root)));
        issues.extend(rule::of_resource(resource, at.root, at.contained));
        if profile == Profile::Cpis {
            self.collect_profile(type_name, resource, at.root, first, issues);
        }
        drop_echoes(first, issues);
        for (place, inner, contained) in inner_resources(type_name, resource) {
            if issues.len() > MOST_ISSUES {
                return;
            }
            if contained || nested {
                let root = format!("{}{place}", at.root);
                let profile = if contained { Profile::Base } else { profile };
                self.collect(inner, profile, nested, &At { root: &root, contained }, issues);
            }
        }
    }

    /// Adds what the profile finds, except where R4 has found the element wrong already.
    fn collect_profile(&self, type_name: &str, resource: &Value, root: &str, first: usize, issues: &mut Vec<Issue>) {
        let Some(profile) = self.profiles.get(type_name) else { return };
        let errors = profile.validator.iter_errors(resource);
        let found: Vec<Issue> = errors
            .filter_map(|error| profile.issue(&error, resource, root))
            .chain(rule::of_profile(resource, root))
            .collect();
        let wrong_already: HashSet<Vec<String>> =
            issues.get(first..).unwrap_or_default().iter().map(|issue| issue.expression.clone()).collect();
        issues.extend(found.into_iter().filter(|issue| !wrong_already.contains(&issue.expression)));
    }
}

/// True for a place at or below the resource of a Bundle's entry.
fn is_inside_entry(expression: &str) -> bool {
    let rest = expression.strip_prefix("Bundle.entry[").and_then(|rest| rest.split_once("].resource"));
    rest.is_some_and(|(index, after)| {
        index.bytes().all(|b| b.is_ascii_digit()) && !after.starts_with(char::is_alphanumeric)
    })
}

/// `resourceType`, if it is one that could stand in a message.
fn type_of(resource: &Value) -> Option<&str> {
    resource.get("resourceType").and_then(Value::as_str).filter(|name| is_element_name(name))
}

fn no_type(resource: &Value) -> Issue {
    if !resource.is_object() {
        let found = super::outcome::json_type(resource);
        let text = format!("Send a FHIR resource: a JSON object, not {found}.");
        return Issue::error(IssueCode::Structure, SpineCode::ValidationError, text);
    }
    match resource.get("resourceType") {
        None => {
            Issue::error(IssueCode::Required, SpineCode::MissingValue, "Say what the resource is: give resourceType.")
        }
        Some(_) => unknown_type(),
    }
    .at("Resource.resourceType")
}

fn unknown_type() -> Issue {
    let text = "This type of resource is not taken here; the CapabilityStatement lists those that are.";
    Issue::error(IssueCode::Structure, SpineCode::ValidationError, text).at("Resource.resourceType")
}

/// Resources inside a resource: where, which, and whether contained.
fn inner_resources<'a>(type_name: &str, resource: &'a Value) -> Vec<(String, &'a Value, bool)> {
    let mut found = Vec::new();
    let list = |value: &'a Value, name: &str| value.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, inner) in list(resource, "contained").iter().enumerate() {
        found.push((format!(".contained[{index}]"), inner, true));
    }
    if type_name == "Bundle" {
        for (index, entry) in list(resource, "entry").iter().enumerate() {
            let inner = entry.get("resource").map(|r| (format!(".entry[{index}].resource"), r, false));
            let outcome = entry.get("response").and_then(|response| response.get("outcome"));
            found.extend(inner);
            found.extend(outcome.map(|o| (format!(".entry[{index}].response.outcome"), o, false)));
        }
    }
    if type_name == "Parameters" {
        parameters(String::new(), list(resource, "parameter"), "parameter", &mut found);
    }
    found
}

fn parameters<'a>(place: String, list: &'a [Value], name: &str, found: &mut Vec<(String, &'a Value, bool)>) {
    for (index, parameter) in list.iter().enumerate() {
        let place = format!("{place}.{name}[{index}]");
        found.extend(parameter.get("resource").map(|r| (format!("{place}.resource"), r, false)));
        if let Some(parts) = parameter.get("part").and_then(Value::as_array) {
            parameters(place, parts, "part", found);
        }
    }
}

/// Drops what only repeats another issue about the same element: a number where a code should be is the wrong
/// type, not a wrong code too; and the same words twice.
fn drop_echoes(first: usize, issues: &mut Vec<Issue>) {
    let judged = issues.split_off(first);
    let of_structure: HashSet<Vec<String>> =
        judged.iter().filter(|i| i.code == IssueCode::Structure).map(|i| i.expression.clone()).collect();
    let mut said = HashSet::new();
    for issue in judged {
        let echo = matches!(issue.code, IssueCode::CodeInvalid | IssueCode::Value);
        let shadowed = echo && of_structure.contains(&issue.expression);
        if !shadowed && said.insert((issue.expression.clone(), issue.diagnostics.clone())) {
            issues.push(issue);
        }
    }
}

/// A schema's error as issues; unknown elements give one each.
fn base_issues(error: &ValidationError<'_>, resource: &Value, root: &str) -> Vec<Issue> {
    let place = Place::of(error.instance_path().as_str(), resource, root);
    let issue = |code, spine, text: String| vec![Issue::error(code, spine, text).at(place.expression.clone())];
    let value = |text: String| issue(IssueCode::Value, SpineCode::InvalidValue, text);
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            if place.has_primitive_extension(name) {
                return Vec::new();
            }
            let text = "This element is mandatory: give it.";
            vec![Issue::error(IssueCode::Required, SpineCode::MissingValue, text).at(place.child(name))]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let text = "FHIR R4 has no such element here: remove it, or correct its name.";
            let issue = Issue::error(IssueCode::Structure, SpineCode::AdditionalProperties, text);
            unexpected.iter().map(|name| issue.clone().at(place.unknown_child(name))).collect()
        }
        ValidationErrorKind::Type { kind } => {
            if place.is_null_beside_extension() {
                return Vec::new();
            }
            issue(IssueCode::Structure, SpineCode::ValidationError, wrong_type(kind, place.value))
        }
        ValidationErrorKind::Enum { options } => {
            let text = match options.as_array() {
                Some(options) if options.len() <= 30 => {
                    let codes: Vec<&str> = options.iter().filter_map(Value::as_str).collect();
                    format!("Use one of these codes: {}.", codes.join(", "))
                }
                _ => "Use a code of FHIR R4's own list.".to_owned(),
            };
            issue(IssueCode::CodeInvalid, SpineCode::InvalidValue, text)
        }
        ValidationErrorKind::Format { format } => value(format::advice(format).to_owned()),
        ValidationErrorKind::Pattern { .. } => {
            value("The value has not the form that this element must have.".to_owned())
        }
        ValidationErrorKind::MinLength { .. } => {
            value("Empty texts are not allowed: leave the element out.".to_owned())
        }
        ValidationErrorKind::MaxLength { .. } => value("The text is too long.".to_owned()),
        ValidationErrorKind::Minimum { limit } | ValidationErrorKind::Maximum { limit } => {
            value(format!("The number is out of range; the limit is {limit}."))
        }
        ValidationErrorKind::MinItems { .. } => {
            let text = "Empty lists are not allowed: leave the element out, or fill it if it is mandatory.";
            issue(IssueCode::Structure, SpineCode::ValidationError, text.to_owned())
        }
        ValidationErrorKind::MinProperties { .. } => {
            let text = "Empty objects are not allowed: leave the element out.";
            issue(IssueCode::Structure, SpineCode::ValidationError, text.to_owned())
        }
        ValidationErrorKind::Custom { keyword, message } => match keyword.as_str() {
            schema::CHOICE if message == rule::CHOICE_MISSING => {
                issue(IssueCode::Required, SpineCode::MissingValue, message.clone())
            }
            schema::CHOICE => issue(IssueCode::Structure, SpineCode::ValidationError, message.clone()),
            schema::TARGETS => issue(IssueCode::Value, SpineCode::InvalidValue, message.clone()),
            _ => issue(IssueCode::Invariant, SpineCode::ValidationError, message.clone()),
        },
        _ => {
            let text = "FHIR R4 does not allow this here.";
            issue(IssueCode::Structure, SpineCode::ValidationError, text.to_owned())
        }
    }
}

fn wrong_type(kind: &jsonschema::error::TypeKind, found: Option<&Value>) -> String {
    let expected = match kind {
        jsonschema::error::TypeKind::Single(kind) => match kind.as_str() {
            "string" => "a text",
            "array" => "a list, even of one",
            "object" => "an object",
            "boolean" => "true or false, without quotes",
            "integer" => "a whole number, without quotes",
            "number" => "a number, without quotes",
            _ => "another type of JSON",
        },
        jsonschema::error::TypeKind::Multiple(_) => "another type of JSON",
    };
    match found {
        Some(Value::Null) => format!("This must be {expected}, not null: leave out what there is not."),
        Some(value) => format!("This must be {expected}, not {}.", super::outcome::json_type(value)),
        None => format!("This must be {expected}."),
    }
}

impl CpisProfile {
    fn issue(&self, error: &ValidationError<'_>, resource: &Value, root: &str) -> Option<Issue> {
        let place = Place::of(error.instance_path().as_str(), resource, root);
        let mut pointer = error.schema_path().as_str();
        let mut expression = place.expression.clone();
        let missing;
        let mut code = IssueCode::BusinessRule;
        let mut words = None;
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                expression = place.child(name);
                let constraint = pointer.rsplit_once('/').map_or("", |(before, _)| before);
                missing = format!("{constraint}/properties/{name}/required");
                pointer = &missing;
                words = Some("CP-IS needs this element: give it.".to_owned());
            }
            // R4 judges types; a wrong one is reported there.
            ValidationErrorKind::Type { .. } => return None,
            ValidationErrorKind::Custom { message, .. } => {
                code = IssueCode::Invariant;
                words = Some(message.clone());
            }
            _ => {}
        }
        let node = pointer.rsplit_once('/').and_then(|(node, _)| self.schema.pointer(node));
        let said = |key: &str| node.and_then(|n| n.get(key)).and_then(Value::as_str);
        let words = match (code, said("message").map(str::to_owned), words) {
            (IssueCode::Invariant, _, Some(words)) | (_, None, Some(words)) | (_, Some(words), _) => words,
            (_, None, None) => "CP-IS does not take this value here.".to_owned(),
        };
        let record_code =
            if said("cpr") == Some(RecordCode::Cpr04.code()) { RecordCode::Cpr04 } else { RecordCode::Cpr07 };
        Some(Issue::error(code, SpineCode::InvalidValue, words).at(expression).with_record_code(record_code))
    }
}

#[cfg(test)]
mod tests;
