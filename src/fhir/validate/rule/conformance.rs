//! R4's rules of the resources that describe a server: `CapabilityStatement`, `StructureDefinition` and their like.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Invariant, distinct, has, has_any, has_choice, list, rule, text};

pub(super) const RULES: &[Invariant] = &[
    rule(
        "cpb-1",
        |v| has_any(v, &["rest", "messaging", "document"]),
        "A CapabilityStatement needs rest, messaging or document (cpb-1).",
    ),
    rule("cpb-2", is_explained, "Give a description, software or implementation (cpb-2)."),
    rule(
        "cpb-3",
        |v| text(v, "kind") == Some("instance") || !list(v, "messaging").iter().any(|m| has(m, "endpoint")),
        "Only the statement of an instance has messaging endpoints (cpb-3).",
    ),
    rule(
        "cpb-7",
        |v| {
            let mut seen = BTreeSet::new();
            list(v, "document").iter().all(|d| seen.insert((text(d, "profile"), text(d, "mode"))))
        },
        "A document is described once for each profile and mode (cpb-7).",
    ),
    rule(
        "cpb-9",
        |v| distinct(list(v, "resource").iter().filter_map(|r| text(r, "type"))),
        "A type of resource is described once (cpb-9).",
    ),
    rule(
        "cpb-12",
        |v| distinct(list(v, "searchParam").iter().filter_map(|p| text(p, "name"))),
        "A search parameter is named once (cpb-12).",
    ),
    rule("cpb-14", instance_is_implemented, "A statement of kind instance needs its implementation (cpb-14)."),
    rule(
        "cpb-15",
        capability_is_software,
        "A statement of kind capability has software and no implementation (cpb-15).",
    ),
    rule(
        "cpb-16",
        requirements_are_bare,
        "A statement of kind requirements has neither software nor implementation (cpb-16).",
    ),
    rule(
        "tcp-1",
        |v| {
            let versions = list(v, "version");
            versions.len() < 2 || versions.iter().all(|version| has(version, "code"))
        },
        "Of several versions each has a code (tcp-1).",
    ),
    rule("tcp-2", is_explained, "Give a description, software or implementation (tcp-2)."),
    rule("tcp-3", instance_is_implemented, "A statement of kind instance needs its implementation (tcp-3)."),
    rule("tcp-4", capability_is_software, "A statement of kind capability has software and no implementation (tcp-4)."),
    rule(
        "tcp-5",
        requirements_are_bare,
        "A statement of kind requirements has neither software nor implementation (tcp-5).",
    ),
    rule("csd-1", codes_are_distinct, "A code is defined once in a code system (csd-1)."),
    rule("vsd-1", |v| has_any(v, &["valueSet", "system"]), "Give a value set or a system (vsd-1)."),
    rule(
        "vsd-2",
        |v| !has_any(v, &["concept", "filter"]) || has(v, "system"),
        "Concepts and filters need their system (vsd-2).",
    ),
    rule("vsd-3", |v| !has(v, "concept") || !has(v, "filter"), "Give concepts or filters, not both (vsd-3)."),
    rule("vsd-6", |v| has_any(v, &["code", "display"]), "Give a code or a display (vsd-6)."),
    rule(
        "vsd-9",
        |v| has(v, "code") || v.get("abstract") == Some(&Value::Bool(true)),
        "What is not abstract has a code (vsd-9).",
    ),
    rule("vsd-10", |v| !has(v, "code") || has(v, "system"), "A code needs its system (vsd-10)."),
    rule("spd-1", |v| !has(v, "xpath") || has(v, "xpathUsage"), "An xpath needs an xpathUsage (spd-1)."),
    rule(
        "spd-2",
        |v| !has(v, "chain") || text(v, "type") == Some("reference"),
        "Only a search parameter of type reference has chains (spd-2).",
    ),
    rule("opd-1", |v| has_any(v, &["type", "part"]), "A parameter has a type or parts (opd-1)."),
    rule(
        "opd-2",
        |v| !has(v, "searchType") || text(v, "type") == Some("string"),
        "Only a parameter of type string has a searchType (opd-2).",
    ),
    rule(
        "opd-3",
        |v| !has(v, "targetProfile") || matches!(text(v, "type"), Some("Reference" | "canonical")),
        "Only a parameter of type Reference or canonical has a targetProfile (opd-3).",
    ),
    rule(
        "sdf-1",
        |v| text(v, "derivation") == Some("constraint") || distinct(elements(v, "snapshot").filter_map(path)),
        "A path comes once, unless the structure is a constraint (sdf-1).",
    ),
    rule("sdf-2", |v| has_any(v, &["name", "uri"]), "A mapping has a name or a uri (sdf-2)."),
    rule(
        "sdf-3",
        |v| list(v, "element").iter().all(|e| has(e, "definition") && has(e, "min") && has(e, "max")),
        "Each element of a snapshot has a definition, min and max (sdf-3).",
    ),
    rule(
        "sdf-4",
        |v| v.get("abstract") == Some(&Value::Bool(true)) || has(v, "baseDefinition"),
        "A structure that is not abstract has a baseDefinition (sdf-4).",
    ),
    rule(
        "sdf-5",
        |v| {
            let extension = text(v, "type") == Some("Extension") && text(v, "derivation") != Some("specialization");
            !extension || has(v, "context")
        },
        "An extension says by its context where it may stand (sdf-5).",
    ),
    rule("sdf-6", |v| has_any(v, &["snapshot", "differential"]), "Give a snapshot or a differential (sdf-6)."),
    rule(
        "sdf-8",
        |v| {
            let Some(first) = elements(v, "snapshot").next().and_then(path) else { return true };
            (is_logical(v) || text(v, "type") == Some(first))
                && elements(v, "snapshot").skip(1).filter_map(path).all(|p| is_below(p, first))
        },
        "Every path of the snapshot begins with the type of the structure (sdf-8).",
    ),
    rule(
        "sdf-8a",
        |v| {
            let Some(first) = elements(v, "differential").next().and_then(path) else { return true };
            let named = text(v, "type").is_some_and(|name| first.starts_with(name));
            let root = first.split('.').next().unwrap_or_default();
            (is_logical(v) || named) && elements(v, "differential").skip(1).filter_map(path).all(|p| is_below(p, root))
        },
        "Every path of the differential begins with the type of the structure (sdf-8a).",
    ),
    rule(
        "sdf-8b",
        |v| list(v, "element").iter().all(|e| has(e, "base")),
        "Each element of a snapshot has a base (sdf-8b).",
    ),
    rule(
        "sdf-9",
        |v| roots(v).all(|e| !has_any(e, &["label", "code", "requirements"])),
        "The first element has no label, code or requirements (sdf-9).",
    ),
    rule(
        "sdf-10",
        |v| v.get("binding").is_none_or(|binding| has_any(binding, &["valueSet", "description"])),
        "A binding has a value set or a description (sdf-10).",
    ),
    rule(
        "sdf-11",
        |v| is_logical(v) || elements(v, "snapshot").next().is_none_or(|first| path(first) == text(v, "type")),
        "The first path of the snapshot is the type of the structure (sdf-11).",
    ),
    rule("sdf-14", |v| all_elements(v).all(|e| has(e, "id")), "Each element has an id (sdf-14)."),
    rule(
        "sdf-15",
        |v| is_logical(v) || elements(v, "snapshot").next().is_none_or(|first| !has(first, "type")),
        "The first element of a snapshot has no type, except in a logical model (sdf-15).",
    ),
    rule(
        "sdf-15a",
        |v| {
            is_logical(v)
                || elements(v, "differential").next().is_none_or(|first| !is_root(first) || !has(first, "type"))
        },
        "The first element of a differential has no type, except in a logical model (sdf-15a).",
    ),
    rule("sdf-16", |v| distinct(ids(v, "snapshot")), "An id comes once in the snapshot (sdf-16)."),
    rule("sdf-17", |v| distinct(ids(v, "differential")), "An id comes once in the differential (sdf-17)."),
    rule(
        "sdf-18",
        |v| !has(v, "contextInvariant") || text(v, "type") == Some("Extension"),
        "Only an extension has a contextInvariant (sdf-18).",
    ),
    rule(
        "sdf-19",
        |v| {
            !is_of_r4(v)
                || all_elements(v).flat_map(|e| list(e, "type")).filter_map(|t| text(t, "code")).all(is_r4_type)
        },
        "R4's own structures use R4's own types (sdf-19).",
    ),
    rule(
        "sdf-20",
        |v| list(v, "element").iter().filter(|e| is_root(e)).all(|e| !has(e, "slicing")),
        "The first element is not sliced (sdf-20).",
    ),
    rule(
        "sdf-21",
        |v| {
            text(v, "derivation") == Some("specialization")
                || !elements(v, "differential").any(|e| has_choice(e, "defaultValue"))
        },
        "Only a specialization gives default values (sdf-21).",
    ),
    rule(
        "sdf-22",
        |v| !is_of_r4(v) || !all_elements(v).any(|e| has_choice(e, "defaultValue")),
        "R4's own structures give no default values (sdf-22).",
    ),
    rule("sdf-23", |v| roots(v).all(|e| !has(e, "sliceName")), "The first element has no sliceName (sdf-23)."),
    rule(
        "eld-1",
        |v| has_any(v, &["discriminator", "description"]),
        "Slicing needs a discriminator or a description (eld-1).",
    ),
    rule(
        "eld-2",
        |v| {
            let most = text(v, "max").and_then(|max| max.parse::<u64>().ok());
            v.get("min").and_then(Value::as_u64).zip(most).is_none_or(|(least, most)| least <= most)
        },
        "min is not above max (eld-2).",
    ),
    rule(
        "eld-3",
        |v| text(v, "max").is_none_or(|max| max == "*" || max.parse::<u32>().is_ok()),
        "max is a number or * (eld-3).",
    ),
    rule(
        "eld-4",
        |v| !has(v, "aggregation") || is_reference(v),
        "Only a Reference or canonical has an aggregation (eld-4).",
    ),
    rule(
        "eld-5",
        |v| {
            let alone = !has_any(v, &["type", "example", "maxLength", "binding"])
                && !["defaultValue", "fixed", "pattern", "minValue", "maxValue"].iter().any(|name| has_choice(v, name));
            !has(v, "contentReference") || alone
        },
        "With a contentReference there are no type, values, lengths or binding (eld-5).",
    ),
    rule(
        "eld-6",
        |v| !has_choice(v, "fixed") || list(v, "type").len() < 2,
        "A fixed value needs a single type (eld-6).",
    ),
    rule("eld-7", |v| !has_choice(v, "pattern") || list(v, "type").len() < 2, "A pattern needs a single type (eld-7)."),
    rule(
        "eld-8",
        |v| !has_choice(v, "pattern") || !has_choice(v, "fixed"),
        "Give a pattern or a fixed value, not both (eld-8).",
    ),
    rule(
        "eld-11",
        |v| {
            let coded = ["code", "Coding", "CodeableConcept", "Quantity", "string", "uri"];
            let mut types = list(v, "type").iter().filter_map(|t| text(t, "code")).peekable();
            !has(v, "binding") || types.peek().is_none() || types.any(|code| coded.contains(&code))
        },
        "Only a coded element, a string or a uri has a binding (eld-11).",
    ),
    rule(
        "eld-12",
        |v| {
            let known = ["http:", "https:", "urn:"];
            text(v, "valueSet").is_none_or(|url| known.iter().any(|scheme| url.starts_with(scheme)))
        },
        "A value set is named by an http, https or urn address (eld-12).",
    ),
    rule(
        "eld-13",
        |v| distinct(list(v, "type").iter().filter_map(|t| text(t, "code"))),
        "A type is given once (eld-13).",
    ),
    rule(
        "eld-14",
        |v| distinct(list(v, "constraint").iter().filter_map(|c| text(c, "key"))),
        "The key of a constraint comes once (eld-14).",
    ),
    rule(
        "eld-15",
        |v| !has_choice(v, "defaultValue") || !has(v, "meaningWhenMissing"),
        "Give a default value or meaningWhenMissing, not both (eld-15).",
    ),
    rule(
        "eld-16",
        |v| {
            let token = |c: char| c.is_ascii_alphanumeric() || "/-_[]@".contains(c);
            text(v, "sliceName").is_none_or(|name| name.chars().all(token))
        },
        "A sliceName is of letters, digits and / - _ [ ] @ (eld-16).",
    ),
    rule(
        "eld-17",
        |v| !has(v, "targetProfile") || is_reference(v),
        "Only a Reference or canonical has a targetProfile (eld-17).",
    ),
    rule(
        "eld-18",
        |v| v.get("isModifier") != Some(&Value::Bool(true)) || has(v, "isModifierReason"),
        "A modifier needs its reason (eld-18).",
    ),
    rule(
        "eld-19",
        |v| path(v).is_none_or(is_path),
        "A path is of names of at most 64 characters, with dots between (eld-19).",
    ),
    rule(
        "eld-22",
        |v| !has(v, "sliceIsConstraining") || has(v, "sliceName"),
        "sliceIsConstraining needs a sliceName (eld-22).",
    ),
];

fn is_explained(statement: &Value) -> bool {
    has_any(statement, &["description", "software", "implementation"])
}

fn instance_is_implemented(statement: &Value) -> bool {
    text(statement, "kind") != Some("instance") || has(statement, "implementation")
}

fn capability_is_software(statement: &Value) -> bool {
    text(statement, "kind") != Some("capability") || (has(statement, "software") && !has(statement, "implementation"))
}

fn requirements_are_bare(statement: &Value) -> bool {
    text(statement, "kind") != Some("requirements") || !has_any(statement, &["software", "implementation"])
}

fn codes_are_distinct(code_system: &Value) -> bool {
    fn collect<'a>(concepts: &'a [Value], found: &mut Vec<&'a str>) {
        for concept in concepts {
            found.extend(text(concept, "code"));
            collect(list(concept, "concept"), found);
        }
    }
    let mut codes = Vec::new();
    collect(list(code_system, "concept"), &mut codes);
    distinct(codes)
}

/// The elements of the snapshot or the differential.
fn elements<'a>(structure: &'a Value, view: &str) -> impl Iterator<Item = &'a Value> {
    structure.get(view).map_or(&[][..], |view| list(view, "element")).iter()
}

fn all_elements(structure: &Value) -> impl Iterator<Item = &Value> {
    elements(structure, "snapshot").chain(elements(structure, "differential"))
}

fn ids<'a>(structure: &'a Value, view: &str) -> impl Iterator<Item = &'a str> {
    elements(structure, view).filter_map(|e| text(e, "id"))
}

fn path(element: &Value) -> Option<&str> {
    text(element, "path")
}

fn is_root(element: &Value) -> bool {
    path(element).is_some_and(|path| !path.contains('.'))
}

/// The elements whose path is the type alone.
fn roots(structure: &Value) -> impl Iterator<Item = &Value> {
    all_elements(structure).filter(|e| is_root(e))
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'))
}

fn is_logical(structure: &Value) -> bool {
    text(structure, "kind") == Some("logical")
}

fn is_of_r4(structure: &Value) -> bool {
    text(structure, "url").is_some_and(|url| url.starts_with("http://hl7.org/fhir/StructureDefinition"))
}

fn is_r4_type(code: &str) -> bool {
    let name = code.strip_prefix("http://hl7.org/fhirpath/System.").unwrap_or(code);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

fn is_reference(element_type: &Value) -> bool {
    matches!(text(element_type, "code"), Some("Reference" | "canonical"))
}

/// Names with dots between; `[x]` and the name of a slice may follow a name.
fn is_path(path: &str) -> bool {
    let special = |c: char| c.is_whitespace() || ".,:;'\"/|?!@#$%&*()[]{}".contains(c);
    let is_name = |name: &str| (1..=64).contains(&name.chars().count()) && !name.contains(special);
    path.split('.').all(|step| {
        let (name, slice) = step.split_once(':').map_or((step, None), |(name, slice)| (name, Some(slice)));
        is_name(name.strip_suffix("[x]").unwrap_or(name))
            && slice.is_none_or(|s| !s.is_empty() && !s.contains(char::is_whitespace))
    })
}
