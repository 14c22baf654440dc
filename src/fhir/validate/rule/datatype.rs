//! R4's rules of datatypes.

use serde_json::Value;

use super::{Invariant, has, has_any, has_choice, list, referred_type, rule, text};
use crate::fhir::{
    date,
    validate::narrative::{self, Narrative},
};

const UCUM: &str = "http://unitsofmeasure.org";

pub(super) const RULES: &[Invariant] = &[
    rule(
        "ext-1",
        |v| has_choice(v, "value") != has(v, "extension"),
        "An extension has either a value or extensions of its own, not both and not neither (ext-1).",
    ),
    rule("per-1", in_order, "The end must not lie before the start (per-1)."),
    rule("cpt-2", |v| !has(v, "value") || has(v, "system"), "A contact value needs a system such as phone (cpt-2)."),
    rule("att-1", |v| !has(v, "data") || has(v, "contentType"), "An attachment with data needs a contentType (att-1)."),
    rule("qty-3", |v| !has(v, "code") || has(v, "system"), "A unit with a code needs its system (qty-3)."),
    rule("sqty-1", |v| !has(v, "comparator"), "A simple quantity has no comparator (sqty-1)."),
    rule(
        "age-1",
        |v| coded_ucum(v) && v.get("value").and_then(Value::as_f64).is_none_or(|age| age > 0.0),
        "An age is positive, with the code of a UCUM unit of time (age-1).",
    ),
    rule(
        "cnt-3",
        |v| {
            let whole = v.get("value").is_none_or(|count| !count.to_string().contains('.'));
            coded_ucum(v) && text(v, "code").is_none_or(|code| code == "1") && whole
        },
        "A count is a whole number with the UCUM code 1 (cnt-3).",
    ),
    rule("dis-1", coded_ucum, "A distance has the code of a UCUM unit of length (dis-1)."),
    rule(
        "drt-1",
        |v| !has(v, "code") || (text(v, "system") == Some(UCUM) && has(v, "value")),
        "A duration with a code has a value, and the system of UCUM (drt-1).",
    ),
    rule("rng-2", low_before_high, "The high end of a range must not lie below the low (rng-2)."),
    rule(
        "rat-1",
        |v| has(v, "numerator") == has(v, "denominator") && (has(v, "numerator") || has(v, "extension")),
        "A ratio has a numerator and a denominator, or neither and an extension (rat-1).",
    ),
    rule("ref-type", type_agrees, "The type of the reference and the resource that it points at differ."),
    rule(
        "txt-1",
        |v| v.as_str().is_none_or(|div| narrative::read(div).is_some()),
        "A narrative is one well-formed XHTML div in the namespace http://www.w3.org/1999/xhtml, with nothing but text, basic formatting, links and images: no scripts, forms, frames, event attributes or HTML entities (txt-1).",
    ),
    rule(
        "txt-2",
        |v| v.as_str().is_none_or(|div| narrative::read(div) != Some(Narrative::Empty)),
        "A narrative has some text or an image (txt-2).",
    ),
    rule("exp-1", |v| has_any(v, &["expression", "reference"]), "Give an expression or a reference (exp-1)."),
    rule("drq-1", path_or_parameter, "Give a path or a searchParam, not both (drq-1)."),
    rule("drq-2", path_or_parameter, "Give a path or a searchParam, not both (drq-2)."),
    rule(
        "trd-1",
        |v| !has(v, "data") || !has_choice(v, "timing"),
        "A trigger has a timing or a data requirement, not both (trd-1).",
    ),
    rule("trd-2", |v| !has(v, "condition") || has(v, "data"), "A trigger with a condition needs data (trd-2)."),
    rule(
        "trd-3",
        |v| match text(v, "type").unwrap_or_default() {
            "named-event" => has(v, "name"),
            "periodic" => has_choice(v, "timing"),
            kind => !kind.starts_with("data-") || has(v, "data"),
        },
        "A named event needs a name, a periodic one a timing, a data event data (trd-3).",
    ),
    rule("tim-1", |v| !has(v, "duration") || has(v, "durationUnit"), "A duration needs its unit (tim-1)."),
    rule("tim-2", |v| !has(v, "period") || has(v, "periodUnit"), "A period needs its unit (tim-2)."),
    rule("tim-4", |v| not_negative(v, "duration"), "A duration is not negative (tim-4)."),
    rule("tim-5", |v| not_negative(v, "period"), "A period is not negative (tim-5)."),
    rule("tim-6", |v| !has(v, "periodMax") || has(v, "period"), "periodMax needs a period (tim-6)."),
    rule("tim-7", |v| !has(v, "durationMax") || has(v, "duration"), "durationMax needs a duration (tim-7)."),
    rule("tim-8", |v| !has(v, "countMax") || has(v, "count"), "countMax needs a count (tim-8)."),
    rule(
        "tim-9",
        |v| {
            let meals = ["C", "CM", "CD", "CV"];
            let named = list(v, "when").iter().filter_map(Value::as_str);
            !has(v, "offset") || (has(v, "when") && !named.into_iter().any(|when| meals.contains(&when)))
        },
        "An offset needs a when, and not that of a meal itself (tim-9).",
    ),
    rule("tim-10", |v| !has(v, "timeOfDay") || !has(v, "when"), "Give timeOfDay or when, not both (tim-10)."),
];

fn in_order(period: &Value) -> bool {
    match (text(period, "start"), text(period, "end")) {
        (Some(start), Some(end)) => date::in_order(start, end),
        _ => true,
    }
}

/// A value has a code, and the system is UCUM.
fn coded_ucum(quantity: &Value) -> bool {
    (has(quantity, "code") || !has(quantity, "value")) && text(quantity, "system").is_none_or(|system| system == UCUM)
}

/// Quantities of different units are not compared.
fn low_before_high(range: &Value) -> bool {
    let (Some(low), Some(high)) = (range.get("low"), range.get("high")) else { return true };
    let number = |quantity: &Value| quantity.get("value").and_then(Value::as_f64);
    let same = ["system", "code", "unit"].iter().all(|name| low.get(name) == high.get(name));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if same => low <= high,
        _ => true,
    }
}

fn type_agrees(reference: &Value) -> bool {
    match (text(reference, "reference").and_then(referred_type), text(reference, "type")) {
        (Some(referred), Some(said)) => referred == said,
        _ => true,
    }
}

fn path_or_parameter(filter: &Value) -> bool {
    has(filter, "path") != has(filter, "searchParam")
}

fn not_negative(repeat: &Value, name: &str) -> bool {
    repeat.get(name).and_then(Value::as_f64).is_none_or(|number| number >= 0.0)
}
