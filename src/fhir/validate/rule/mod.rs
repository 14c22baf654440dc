//! What schemas cannot say. A row of a table is a rule about one object, named by the schemas with R4's own key where R4
//! has one; [`of_resource`] holds the rules that look across a resource, [`of_profile`] those of CP-IS.
//! Which of R4's invariants is checked where: the table in `schemas/README.md`.

mod across;
mod conformance;
mod cpis;
mod datatype;
mod resource;

pub(super) use across::of_resource;
pub(super) use cpis::of_profile;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::location::is_choice_of;

/// A rule about one object.
pub(super) struct Invariant {
    pub key: &'static str,
    pub holds: fn(&Value) -> bool,
    pub words: &'static str,
}

const fn rule(key: &'static str, holds: fn(&Value) -> bool, words: &'static str) -> Invariant {
    Invariant { key, holds, words }
}

/// Every row of every table.
pub(super) fn invariants() -> impl Iterator<Item = &'static Invariant> {
    [datatype::RULES, resource::RULES, conformance::RULES, cpis::RULES].into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// R4's `exists()`: an element is given, be it only by the extensions of a primitive.
fn has(value: &Value, name: &str) -> bool {
    value.get(name).is_some() || value.get(format!("_{name}")).is_some()
}

fn has_any(value: &Value, names: &[&str]) -> bool {
    names.iter().any(|name| has(value, name))
}

/// True if no text comes twice.
fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    texts.into_iter().all(|text| seen.insert(text))
}

/// The kinds in which `name[x]` is given; a value and its `_value` count as one.
fn choices<'a>(object: &'a Map<String, Value>, name: &str) -> BTreeSet<&'a str> {
    let bare = |key: &'a String| key.strip_prefix('_').unwrap_or(key);
    object.keys().map(bare).filter(|key| is_choice_of(key, name)).collect()
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

/// The types that a reference names: by its text, and by its `type`.
fn named_types(reference: &Value) -> impl Iterator<Item = &str> {
    [text(reference, "reference").and_then(referred_type), text(reference, "type")].into_iter().flatten()
}

/// What is wrong with the target of a reference. R4 has no other kind of resource there.
pub(super) fn targets(reference: &Value, types: &[String]) -> Option<String> {
    let right = named_types(reference).all(|name| types.iter().any(|t| t == name));
    (!right).then(|| format!("Refer to one of these resources: {}.", types.join(", ")))
}
