//! Holds a criterion against a resource, read as JSON through the paths of its parameter.

use serde_json::Value;

use super::{
    criterion::{Asked, Criterion, Wanted},
    date,
    parameter::{Kind, Parameter},
};
use crate::{
    cpis::{
        calendar::Calendar,
        types::{audit::Span, organization::searchable},
    },
    fhir::system,
};

/// Whether a resource meets a criterion.
pub fn holds(criterion: &Criterion, resource: &Value, calendar: &Calendar) -> bool {
    let parameter = criterion.parameter;
    let elements = elements(resource, parameter.paths);
    let any = |wanted: &[Wanted]| {
        wanted.iter().any(|wanted| elements.iter().any(|element| is(wanted, element, parameter, calendar)))
    };
    match &criterion.asked {
        Asked::Missing(missing) => elements.is_empty() == *missing,
        Asked::AnyOf(wanted) => any(wanted),
        Asked::NoneOf(wanted) => !any(wanted),
    }
}

/// The elements at these paths; a list's items stand for the list.
pub fn elements<'a>(resource: &'a Value, paths: &[&str]) -> Vec<&'a Value> {
    let mut all = Vec::new();
    for path in paths {
        let mut found = vec![resource];
        for name in path.split('.') {
            let next = found.into_iter().filter_map(|value| value.get(name));
            found = next
                .flat_map(|value| value.as_array().map_or_else(|| vec![value], |items| items.iter().collect()))
                .collect();
        }
        all.extend(found);
    }
    all
}

fn is(wanted: &Wanted, element: &Value, parameter: &Parameter, calendar: &Calendar) -> bool {
    match wanted {
        Wanted::Token { system, code } => tokens(element, parameter.system).iter().any(|(of, is)| {
            system.as_deref().is_none_or(|wanted| wanted == of.unwrap_or_default())
                && code.as_deref().is_none_or(|wanted| wanted == *is)
        }),
        Wanted::Date(test) => span(element, calendar).is_some_and(|span| test.holds(span)),
        Wanted::Reference { resource, id } => {
            key_of(element).is_some_and(|(of, is)| is == id && resource.as_deref().is_none_or(|wanted| wanted == of))
        }
        Wanted::Identifier { system, value } => element.get("identifier").is_some_and(|identifier| {
            let text = |name: &str| identifier.get(name).and_then(Value::as_str);
            text("value") == Some(value)
                && system.as_deref().is_none_or(|wanted| wanted == text("system").unwrap_or_default())
        }),
        Wanted::Beginning(folded) => text(element).is_some_and(|text| searchable(text).starts_with(folded)),
        Wanted::Part(folded) => text(element).is_some_and(|text| searchable(text).contains(folded)),
        Wanted::Exact(exact) => text(element) == Some(exact),
    }
}

fn text(element: &Value) -> Option<&str> {
    element.as_str()
}

/// (system, code) of everything that a token may look at: `code`, boolean, `Coding`, `CodeableConcept`, `Identifier`.
fn tokens<'a>(element: &'a Value, implied: Option<&'a str>) -> Vec<(Option<&'a str>, &'a str)> {
    let text = |value: &'a Value, name: &str| value.get(name).and_then(Value::as_str);
    match element {
        Value::String(code) => vec![(implied, code)],
        Value::Bool(yes) => vec![(implied, if *yes { "true" } else { "false" })],
        Value::Object(_) => match element.get("coding").and_then(Value::as_array) {
            Some(codings) => {
                codings.iter().filter_map(|coding| Some((text(coding, "system"), text(coding, "code")?))).collect()
            }
            None => {
                let code = text(element, "code").or_else(|| text(element, "value"));
                code.map(|code| (text(element, "system"), code)).into_iter().collect()
            }
        },
        _ => Vec::new(),
    }
}

/// The stretch of time of a date or a `Period`; an open side has no bound.
fn span(element: &Value, calendar: &Calendar) -> Option<Span> {
    match element {
        Value::String(text) => date::span(text, calendar),
        Value::Object(_) => {
            let side = |name: &str| match element.get(name) {
                None => Some(Span::ALWAYS),
                Some(value) => date::span(value.as_str()?, calendar),
            };
            Some(Span { from_ms: side("start")?.from_ms, before_ms: side("end")?.before_ms })
        }
        _ => None,
    }
}

/// Type and id of what a `Reference` leads to: by its reference, else by an identifier that is also an id here.
pub fn key_of(reference: &Value) -> Option<(&str, &str)> {
    if let Some(literal) = reference.get("reference").and_then(Value::as_str) {
        let (before, id) = literal.rsplit_once('/')?;
        return Some((before.rsplit('/').next()?, id));
    }
    let identifier = reference.get("identifier")?;
    let value = identifier.get("value").and_then(Value::as_str)?;
    match identifier.get("system").and_then(Value::as_str)? {
        system::NHS_NUMBER => Some(("Patient", value)),
        system::ODS_CODE => Some(("Organization", value)),
        _ => None,
    }
}

/// What a resource is sorted by: the least of its values; none sorts last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortValue {
    Instant(i64),
    Text(String),
}

/// The value that `_sort` compares: for a date the beginning, or when descending the end.
pub fn sort_value(resource: &Value, parameter: &Parameter, descending: bool, calendar: &Calendar) -> Option<SortValue> {
    let values = elements(resource, parameter.paths).into_iter().filter_map(|element| match parameter.kind {
        Kind::Date => {
            let span = span(element, calendar)?;
            Some(SortValue::Instant(if descending { span.before_ms } else { span.from_ms }))
        }
        Kind::Token => tokens(element, None).first().map(|(_, code)| SortValue::Text((*code).to_owned())),
        Kind::Reference => key_of(element).map(|(of, id)| SortValue::Text(format!("{of}/{id}"))),
        Kind::String | Kind::Uri | Kind::Special => text(element).map(|text| SortValue::Text(searchable(text))),
    });
    if descending { values.max() } else { values.min() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::{
        query::Query,
        search::{criterion::Reading, parameter::Definition},
    };

    const PARAMETERS: &[Parameter] = &[
        Parameter::token("status", &["status"], Definition::Own, "").in_system("urn:status"),
        Parameter::token("code", &["code"], Definition::Own, ""),
        Parameter::token("identifier", &["identifier"], Definition::Own, ""),
        Parameter::date("date", &["period"], Definition::Own, ""),
        Parameter::reference("author", &["author"], Definition::Own, ""),
        Parameter::string("name", &["name"], Definition::Own, ""),
        Parameter::token("active", &["active"], Definition::Own, ""),
    ];

    fn flag() -> Value {
        json!({
            "status": "active",
            "active": true,
            "name": "Côte d'Azur Council",
            "code": {"coding": [{"system": "urn:a", "code": "1"}, {"code": "2"}]},
            "identifier": [{"system": "urn:id", "value": "LCS-1"}],
            "period": {"start": "2026-03-01", "end": "2026-06-30"},
            "author": {"reference": "Organization/Z9A", "identifier": {"system": system::ODS_CODE, "value": "Z9A"}}
        })
    }

    fn holding(query: &str) -> bool {
        let calendar = Calendar::new(chrono_tz::Europe::London);
        let reading = Reading {
            calendar: &calendar,
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
            base_url: "https://x.example",
        };
        Query::parse(query).unwrap().0.iter().all(|sent| {
            let parameter = PARAMETERS.iter().find(|p| p.name == sent.name).unwrap();
            holds(&Criterion::read(parameter, sent, reading).unwrap(), &flag(), &calendar)
        })
    }

    #[test]
    fn what_is_there_is_found() {
        for query in [
            "status=active",
            "status=urn:status|active",
            "status=urn:status|",
            "status:not=inactive,entered-in-error",
            "active=true",
            "code=1",
            "code=urn:a|1",
            "code=urn:a|",
            "code=|2",
            "code=9,2",
            "code=1&code=2",
            "identifier=LCS-1",
            "identifier=urn:id|LCS-1",
            "date=ge2026-01-01&date=le2026-12-31",
            "date=2026",
            "author=Organization/Z9A",
            "author=Z9A",
            "author=https://x.example/Organization/Z9A",
            "author:identifier=https://fhir.nhs.uk/Id/ods-organization-code|Z9A",
            "author.identifier=Z9A",
            "name=cote",
            "name=CÔTE D'AZUR",
            "name:contains=council",
            "name:exact=C%C3%B4te d'Azur Council",
            "name:missing=false",
        ] {
            assert!(holding(query), "{query}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for query in [
            "status=inactive",
            "status=urn:other|active",
            "status=|active",
            "status:not=active",
            "status:missing=true",
            "active=false",
            "code=|1",
            "code=urn:a|2",
            "code=1&code=9",
            "identifier=|LCS-1",
            "date=2026-04",
            "date=sa2026-03-01",
            "author=Patient/Z9A",
            "author:identifier=urn:x|Z9A",
            "name=azur",
            "name:exact=cote d'azur council",
        ] {
            assert!(!holding(query), "{query}");
        }
    }
}
