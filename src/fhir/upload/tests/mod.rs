//! Uploads as JSON: read into record changes, and answered.

mod bundle;
mod single;

use std::sync::LazyLock;

use chrono::NaiveDate;
use chrono_tz::Europe::London;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    cpis::types::{
        LocalPlanId, NhsNumber, OdsCode, PlanType, Precondition,
        child::Demographics,
        upload::{
            ChildChange, FileCode, PlanAction, PlanChange, PlanCriteria, PlanKey, Problem, ProblemKind, RecordChange,
            RecordCode,
        },
    },
    fhir::{
        outcome::{Issue, IssueCode},
        validate::{Profile, Validators},
    },
};

static VALIDATORS: LazyLock<&Validators> = LazyLock::new(|| Validators::shared().unwrap());
static SENDER: LazyLock<OdsCode> = LazyLock::new(|| OdsCode::parse("Z9A").unwrap());

const ROBIN: &str = "9990000018";
const MORGAN: &str = "9990000026";
const PLAN: &str = "4f0f6d2e-0000-4000-8000-000000000001";

fn reading() -> Reading<'static> {
    Reading { sender: Some(&SENDER), zone: London, validators: &VALIDATORS, max_entries: 20 }
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn number(text: &str) -> NhsNumber {
    NhsNumber::parse(text).unwrap()
}

fn patient(nhs: &str) -> Value {
    json!({
        "resourceType": "Patient", "id": nhs,
        "identifier": [
            {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs},
            {"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24", "value": "LCS-0042"}
        ],
        "name": [
            {"use": "nickname", "family": "Other", "given": ["Bobby"]},
            {"use": "usual", "family": "Testcase", "given": ["Robin", "Alex"]}
        ],
        "birthDate": "2017-05-11"
    })
}

fn flag(nhs: &str, local_id: &str) -> Value {
    json!({
        "resourceType": "Flag", "status": "active",
        "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24", "value": local_id}],
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "342191000000101"}]},
        "subject": {"reference": format!("Patient/{nhs}")},
        "period": {"start": "2026-09-14"}
    })
}

fn organization() -> Value {
    json!({
        "resourceType": "Organization", "id": "Z9A",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9A"}],
        "name": "WESTMARCH COUNTY COUNCIL",
        "telecom": [
            {"system": "phone", "value": "01632 960100", "use": "work"},
            {"system": "phone", "value": "01632 960999", "use": "mobile"}
        ]
    })
}

/// The resource with one element set, or removed by null.
fn with(mut resource: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = resource.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    resource
}

fn child_change(entry: usize) -> ChildChange {
    ChildChange {
        entry,
        demographics: Demographics {
            family: "Testcase".to_owned(),
            given: vec!["Robin".to_owned(), "Alex".to_owned()],
            birth_date: day("2017-05-11"),
        },
        local_id: Some("LCS-0042".to_owned()),
        precondition: Precondition::None,
    }
}

fn plan_change(entry: usize, key: PlanKey, local_id: &str, action: PlanAction) -> PlanChange {
    PlanChange {
        entry,
        key,
        plan_type: Some(PlanType::ChildProtection),
        local_id: LocalPlanId::parse(local_id),
        action,
    }
}

fn content() -> PlanKey {
    PlanKey::Content
}

fn put() -> PlanAction {
    PlanAction::Put { start: day("2026-09-14"), end: None }
}

fn places(issues: &[Issue]) -> Vec<(&str, Option<RecordCode>)> {
    issues.iter().map(|issue| (issue.expression.first().map_or("", String::as_str), issue.cpr)).collect()
}
