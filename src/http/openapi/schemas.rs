//! The shapes of bodies, from the same `schemas/` that judge them. What only our validator understands is left out, and
//! the `_name` siblings of primitives and the fifty names of a `value[x]` of any type, which would hide the elements from
//! a reader and drown a tool; what remains is plain JSON Schema 2020-12 that stands in the document alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::fhir::validate::{SchemaFault, structures};

const DATATYPES: &str = "datatypes";
/// Any resource; also the name that our datatypes have for it, with a capital.
pub const RESOURCE: &str = "Resource";

/// Members that say nothing outside our validator, or that would contradict what is left out here.
const OURS: [&str; 7] = ["$schema", "$id", "$defs", "invariants", "choice", "targets", "additionalProperties"];

const COMPONENTS: &str = "#/components/schemas/";

/// Adds the names of the components that a part of the document refers to.
fn referred_to(part: &Value, names: &mut BTreeSet<String>) {
    match part {
        Value::Object(members) => {
            let reference = members.get("$ref").and_then(Value::as_str);
            names.extend(reference.and_then(|reference| reference.strip_prefix(COMPONENTS)).map(str::to_owned));
            members.values().for_each(|member| referred_to(member, names));
        }
        Value::Array(items) => items.iter().for_each(|item| referred_to(item, names)),
        _ => {}
    }
}

/// The schemas of the resources that have one.
pub struct Schemas {
    resources: BTreeMap<String, Value>,
    datatypes: Map<String, Value>,
}

/// Most types of a `name[x]` that are listed one by one.
const MOST_TYPES: usize = 12;

/// The choices of an object that are too wide to be listed.
fn open_choices(members: &Map<String, Value>) -> impl Iterator<Item = &String> {
    let properties = || members.get("properties").and_then(Value::as_object).into_iter().flatten();
    let choices = members.get("choice").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    choices.filter(move |choice| properties().filter(|(name, _)| is_of(name, choice)).count() > MOST_TYPES)
}

/// Whether an element is `name[x]` with some type.
fn is_of(element: &str, choice: &str) -> bool {
    element.strip_prefix(choice).is_some_and(|of| of.starts_with(char::is_uppercase))
}

impl Schemas {
    /// # Errors
    /// [`SchemaFault`] when an embedded schema is no JSON.
    pub fn read() -> Result<Self, SchemaFault> {
        let mut resources = structures()?;
        let mut datatypes = resources.remove(DATATYPES).unwrap_or_default();
        let datatypes = datatypes.get_mut("$defs").and_then(Value::as_object_mut).map(std::mem::take);
        Ok(Self { resources, datatypes: datatypes.unwrap_or_default() })
    }

    /// The component that a body of this type has: its own, else that of any resource.
    pub fn name<'a>(&self, resource: &'a str) -> &'a str {
        if self.resources.contains_key(resource) { resource } else { RESOURCE }
    }

    /// `components.schemas`: what the document refers to, and what that refers to.
    pub fn components_of(&self, document: &Value) -> Value {
        let mut wanted = BTreeSet::new();
        referred_to(document, &mut wanted);
        let mut components = Map::new();
        while let Some(name) = wanted.pop_first() {
            if components.contains_key(&name) {
                continue;
            }
            let (resource, local) = name.split_once('.').unwrap_or((&name, ""));
            let (of, schema) = match (self.resources.get(resource), local) {
                (Some(schema), "") => (resource, Some(schema)),
                (Some(schema), local) => (resource, schema.get("$defs").and_then(|locals| locals.get(local))),
                (None, _) if name == RESOURCE => ("", self.datatypes.get("resource")),
                (None, _) => ("", self.datatypes.get(&name)),
            };
            let plain = schema.map_or_else(|| json!({}), |schema| self.plain(schema, of));
            referred_to(&plain, &mut wanted);
            components.insert(name.clone(), plain);
        }
        Value::Object(components)
    }

    /// A schema without what is ours, its references pointing into the document. `of` is the resource whose file it is
    /// in, empty for the datatypes.
    fn plain(&self, schema: &Value, of: &str) -> Value {
        match schema {
            Value::Object(members) => match members.get("$ref").and_then(Value::as_str) {
                Some(reference) => self.referred(reference, of),
                None => self.plain_members(members, of),
            },
            Value::Array(items) => items.iter().map(|item| self.plain(item, of)).collect(),
            other => other.clone(),
        }
    }

    fn plain_members(&self, members: &Map<String, Value>, of: &str) -> Value {
        let mut plain = Map::new();
        let open: Vec<&String> = open_choices(members).collect();
        for (name, member) in members.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
            let member = match member.as_object().filter(|_| name == "properties") {
                Some(properties) => {
                    let listed = properties.iter().filter(|(property, _)| {
                        !property.starts_with('_') && !open.iter().any(|choice| is_of(property, choice))
                    });
                    listed.map(|(name, schema)| (name.clone(), self.plain(schema, of))).collect()
                }
                None => self.plain(member, of),
            };
            plain.insert(name.clone(), member);
        }
        for choice in open {
            plain.insert("description".to_owned(), json!(format!("Also {choice}[x], of any type that R4 has for it.")));
        }
        Value::Object(plain)
    }

    /// Primitives and code sets are short: they stand where they are used. The others are components.
    fn referred(&self, reference: &str, of: &str) -> Value {
        let (file, name) = reference.split_once("#/$defs/").unwrap_or_default();
        let component = if file.is_empty() && !of.is_empty() {
            format!("{of}.{name}")
        } else if name == "resource" {
            RESOURCE.to_owned()
        } else if name.starts_with(char::is_lowercase) {
            let primitive = self.datatypes.get(name).cloned().unwrap_or_else(|| json!({}));
            return self.plain(&primitive, "");
        } else {
            name.to_owned()
        };
        json!({"$ref": format!("{COMPONENTS}{component}")})
    }
}
