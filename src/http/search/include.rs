//! `_include` and `_revinclude`: which resources come along, found by following the elements of a reference parameter.
//! <https://hl7.org/fhir/R4/search.html#include>

use std::collections::HashSet;

use serde_json::Value;

use super::{
    matching::{elements, key_of},
    page::Row,
    parameter::Parameter,
};
use crate::http::{
    audit_event, care_plan, care_team, flag, organization, patient,
    query::Query,
    refusal::{Case, Refusal},
};

/// The spelling that the national API prints for what is `AuditEvent:agent` here (domain.md 6).
pub const NATIONAL: &str = "AuditEvent:entity-type=http://terminology.hl7.org/CodeSystem/v3-RoleClass|ASSIGNED";

/// One `Type:parameter`.
#[derive(Clone, Debug)]
struct Include {
    resource: String,
    parameter: &'static Parameter,
    /// Only what is of this type.
    target: Option<String>,
    /// Also from what was itself included.
    iterate: bool,
}

/// What is to come along.
#[derive(Clone, Debug, Default)]
pub struct Includes {
    forward: Vec<Include>,
    reverse: Vec<Include>,
}

/// The parameters of each type, for what its references are called.
fn table(resource: &str) -> &'static [Parameter] {
    match resource {
        "AuditEvent" => audit_event::PARAMETERS,
        "CarePlan" => care_plan::PARAMETERS,
        "CareTeam" => care_team::PARAMETERS,
        "Flag" => flag::PARAMETERS,
        "Organization" => organization::PARAMETERS,
        "Patient" => patient::PARAMETERS,
        _ => &[],
    }
}

impl Includes {
    /// Reads them; the rows `_include` and `_revinclude` of the search list the known ones.
    ///
    /// # Errors
    /// [`Refusal`] 400 for one that is not known: a silently smaller answer would be a wrong one.
    pub fn of(query: &Query, resource: &str, parameters: &[Parameter]) -> Result<Self, Refusal> {
        let read = |name: &str| -> Result<Vec<Include>, Refusal> {
            let known = parameters.iter().find(|parameter| parameter.name == name).map_or(&[][..], |row| row.values);
            let sent = query.0.iter().filter(|sent| sent.name == name);
            sent.map(|sent| {
                let iterate = !sent.modifier.is_empty();
                let include = include(&sent.value, iterate, known)?;
                let from_here = include.resource == resource || iterate || name == "_revinclude";
                from_here.then_some(include).ok_or_else(|| {
                    let text = format!("Parameter '{name}' follows this reference only as {name}:iterate.");
                    Refusal::new(Case::Parameter, text).at(&format!("http.{name}"))
                })
            })
            .collect()
        };
        Ok(Self { forward: read("_include")?, reverse: read("_revinclude")? })
    }

    pub fn is_empty(&self) -> bool {
        self.forward.is_empty() && self.reverse.is_empty()
    }

    /// Takes out of `pool` what comes along with the matches, each once. The pool holds what the same look-up found, so
    /// what refers to a patient refers to that of the search.
    ///
    /// # Errors
    /// When a resource can't be written as JSON.
    pub fn follow(&self, matches: &[Row], pool: Vec<Row>) -> Result<Vec<Row>, Refusal> {
        let mut waiting: Vec<Option<Row>> = Vec::with_capacity(pool.len());
        let mut values = Vec::with_capacity(pool.len());
        for row in pool {
            values.push(serde_json::to_value(&row.resource)?);
            waiting.push(Some(row));
        }
        let there: HashSet<(&str, &str)> =
            matches.iter().filter_map(|row| Some((row.resource.type_name(), row.resource.id()?))).collect();
        for (slot, value) in waiting.iter_mut().zip(&values) {
            if identity(value).is_some_and(|key| there.contains(&key)) {
                *slot = None;
            }
        }
        let mut sources = Vec::new();
        for row in matches {
            sources.push(serde_json::to_value(&row.resource)?);
            for with in &row.with {
                sources.push(serde_json::to_value(with)?);
            }
        }
        let mut included = Vec::new();
        let mut first = true;
        while !sources.is_empty() {
            let mut next = Vec::new();
            for (slot, value) in waiting.iter_mut().zip(&values) {
                if slot.is_some() && self.brings(&sources, value, &values, first) {
                    next.push(value.clone());
                    included.extend(slot.take());
                }
            }
            (sources, first) = (next, false);
        }
        Ok(included)
    }

    fn brings(&self, sources: &[Value], candidate: &Value, pool: &[Value], first: bool) -> bool {
        let Some((resource, id)) = identity(candidate) else { return false };
        let sole_patient = || pool.iter().filter(|value| type_of(value) == "Patient").count() == 1;
        let leads = |include: &Include, source: &Value| {
            type_of(source) == include.resource
                && include.target.as_deref().is_none_or(|target| target == resource)
                && elements(source, include.parameter.paths)
                    .into_iter()
                    .filter_map(key_of)
                    .any(|(of, to)| of == resource && (to == id || (resource == "Patient" && sole_patient())))
        };
        let forward =
            self.forward.iter().filter(|i| first || i.iterate).any(|i| sources.iter().any(|source| leads(i, source)));
        let refers = |include: &Include| {
            include.resource == resource && !elements(candidate, include.parameter.paths).is_empty()
        };
        forward || (first && self.reverse.iter().any(refers))
    }
}

fn include(value: &str, iterate: bool, known: &[&str]) -> Result<Include, Refusal> {
    let unknown = || {
        let text = format!("This include is not known here. Known: {}.", known.join(", "));
        Refusal::new(Case::Parameter, text).at(if iterate { "http._include:iterate" } else { "http._include" })
    };
    let plain = if value == NATIONAL { "AuditEvent:agent" } else { value };
    let mut parts = plain.split(':');
    let (resource, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let target = parts.next().map(str::to_owned);
    let listed = known.contains(&format!("{resource}:{name}").as_str()) && parts.next().is_none();
    let parameter = table(resource).iter().find(|parameter| parameter.name == name);
    let typed = target.as_deref().is_none_or(|target| targets(name).contains(&target));
    match parameter.filter(|_| listed && typed) {
        Some(parameter) => Ok(Include { resource: resource.to_owned(), parameter, target, iterate }),
        None => Err(unknown()),
    }
}

/// What a reference leads to here. Any other type would bring nothing, which looks like there were none.
fn targets(parameter: &str) -> &'static [&'static str] {
    match parameter {
        "patient" | "subject" => &["Patient"],
        "author" | "partof" => &["Organization"],
        "detail" => &["CarePlan"],
        "care-team" => &["CareTeam"],
        "agent" => &["PractitionerRole"],
        "entity" => &["Patient", "PractitionerRole"],
        _ => &[],
    }
}

fn type_of(value: &Value) -> &str {
    value.get("resourceType").and_then(Value::as_str).unwrap_or_default()
}

fn identity(value: &Value) -> Option<(&str, &str)> {
    Some((type_of(value), value.get("id").and_then(Value::as_str)?))
}
