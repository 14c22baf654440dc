//! Each defect gives exactly the issues expected, at exactly the place, and no message repeats what was sent.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::fhir::outcome::IssueCode as C;
use Profile::{Base, Cpis};

static VALIDATORS: LazyLock<&Validators> = LazyLock::new(|| Validators::shared().unwrap());

fn flag() -> Value {
    json!({
        "resourceType": "Flag",
        "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24", "value": "LCS-0042"}],
        "status": "active",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "safety"}]}],
        "code": {"coding": [
            {"system": "https://fhir.nhs.uk/England/CodeSystem/England-FlagCategoryPatient", "code": "child-protection-information-system-flag"},
            {"system": "http://snomed.info/sct", "code": "342191000000101"}]},
        "subject": {"reference": "Patient/9990000018", "identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}},
        "period": {"start": "2026-09-14", "end": "2026-12-01"},
        "author": {"reference": "Organization/Z9A", "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9A"}}
    })
}

fn patient() -> Value {
    json!({
        "resourceType": "Patient", "id": "9990000018",
        "identifier": [
            {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"},
            {"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24", "value": "LCS-1"}],
        "name": [{"use": "usual", "family": "Testcase", "given": ["Robin", "Alex"]}],
        "gender": "unknown", "birthDate": "2017-05-11"
    })
}

fn organization() -> Value {
    json!({
        "resourceType": "Organization", "id": "Z9A",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9A"}],
        "name": "WESTMARCH COUNTY COUNCIL",
        "telecom": [
            {"system": "phone", "value": "01632960100", "use": "work"},
            {"system": "phone", "value": "01632 960999", "use": "mobile"},
            {"system": "email", "value": "duty@example.org"}]
    })
}

const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";

fn subscription() -> Value {
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "Accesses to our children",
        "criteria": "https://api.example.org/cpis/FHIR/R4/SubscriptionTopic/cpis-access",
        "channel": {
            "type": "rest-hook", "endpoint": "https://la.example.org/hook", "payload": "application/fhir+json",
            "_payload": {"extension": [{
                "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                "valueCode": "full-resource"}]},
            "header": ["Authorization: Bearer abc"]}
    })
}

fn bundle() -> Value {
    json!({
        "resourceType": "Bundle", "type": "batch",
        "entry": [
            {"fullUrl": "https://example.org/Patient/9990000018", "resource": patient(), "request": {"method": "PUT", "url": "Patient/9990000018"}},
            {"resource": flag(), "request": {"method": "POST", "url": "Flag"}},
            {"request": {"method": "DELETE", "url": "Flag/1"}}]
    })
}

fn parameters() -> Value {
    json!({
        "resourceType": "Parameters",
        "parameter": [
            {"name": "subscription", "valueReference": {"reference": "Subscription/1"}},
            {"name": "notification-event", "part": [{"name": "event-number", "valueString": "2"}, {"name": "focus", "resource": flag()}]}]
    })
}

fn audit_event() -> Value {
    json!({
        "resourceType": "AuditEvent",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "recorded": "2026-11-03T21:45:00.000Z",
        "agent": [{"who": {"display": "cpis-gateway"}, "requestor": true}],
        "source": {"observer": {"display": "cpis-gateway"}},
        "entity": [{"detail": [{"type": "rows", "valueString": "1"}]}]
    })
}

/// What R4 allows though CP-IS does not use it.
fn rich_patient() -> Value {
    json!({
        "resourceType": "Patient",
        "meta": {"profile": ["https://example.org/p"], "tag": [{"code": "x"}]},
        "implicitRules": "https://example.org/rules", "language": "en-GB",
        "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Child</div>"},
        "contained": [
            {"resourceType": "Organization", "id": "gp", "name": "Surgery"},
            {"resourceType": "Practitioner", "id": "p", "name": [{"family": "Example"}]}],
        "extension": [{"url": "https://example.org/e", "valueAddress": {"city": "York"}}, {"url": "https://example.org/f", "extension": [{"url": "g", "valueDecimal": 1.5}]}],
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018", "period": {"start": "2020"}, "assigner": {"display": "NHS"}}],
        "name": [{"family": "Testcase", "given": ["Robin", null], "_given": [null, {"extension": [{"url": "u", "valueCode": "masked"}]}]}],
        "birthDate": "2017-05-11", "_birthDate": {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "2017-05-11T03:15:00+01:00"}]},
        "_gender": {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]},
        "deceasedBoolean": false, "_deceasedBoolean": {"id": "d"}, "multipleBirthInteger": 1,
        "contact": [{"relationship": [{"text": "mother"}], "name": {"family": "Sample"}}],
        "communication": [{"language": {"text": "English"}, "preferred": true}],
        "generalPractitioner": [{"reference": "#gp"}, {"reference": "#p"}, {"reference": "https://example.org/Practitioner/1/_history/2"}],
        "link": [{"other": {"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}, "type": "seealso"}]
    })
}

/// The resource with the element at the pointer set, or removed by `None`; `-` appends to a list.
fn with(mut resource: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match resource.pointer_mut(parent).unwrap() {
        Value::Object(object) => match value {
            Some(value) => drop(object.insert(last.to_owned(), value)),
            None => drop(object.remove(last).unwrap()),
        },
        Value::Array(list) => match (last, value) {
            ("-", Some(value)) => list.push(value),
            (index, Some(value)) => list[index.parse::<usize>().unwrap()] = value,
            (index, None) => drop(list.remove(index.parse().unwrap())),
        },
        _ => panic!("{pointer}"),
    }
    resource
}

fn found(resource: &Value, profile: Profile) -> Vec<(String, C)> {
    let issues = VALIDATORS.validate(resource, profile);
    let mut found: Vec<_> = issues.iter().map(|issue| (issue.expression.join(" | "), issue.code)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn good_resources_have_no_issue() {
    for resource in [
        flag(),
        patient(),
        organization(),
        subscription(),
        bundle(),
        parameters(),
        audit_event(),
        with(flag(), "/subject/reference", None),
        with(flag(), "/subject/identifier", None),
        with(flag(), "/author", None),
        with(flag(), "/identifier", None),
        with(flag(), "/category", None),
        with(flag(), "/code/coding/0", None),
        with(flag(), "/period/end", None),
        with(with(flag(), "/period", None), "/status", Some(json!("entered-in-error"))),
        with(patient(), "/id", None),
        with(organization(), "/telecom/0", None),
    ] {
        assert_eq!(found(&resource, Cpis), [], "{resource}");
    }
    assert_eq!(found(&rich_patient(), Base), []);
    let care_provider = json!({"resourceType": "Organization", "name": "EASTVALE",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "ZZ101"}],
        "type": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": "prov"}]}]});
    assert_eq!(found(&care_provider, Cpis), []);
}

type Defect = (Profile, Value, &'static [(&'static str, C)]);

/// Breaks the good resource in one place.
fn defects_of_r4() -> Vec<Defect> {
    let odd = || Some(json!("SECRET"));
    vec![
        (Base, with(flag(), "/status", None), &[("Flag.status", C::Required)]),
        (Base, with(flag(), "/status", odd()), &[("Flag.status", C::CodeInvalid)]),
        (Base, with(flag(), "/status", Some(json!(1))), &[("Flag.status", C::Structure)]),
        (Base, with(flag(), "/status", Some(json!(["active"]))), &[("Flag.status", C::Structure)]),
        (Base, with(flag(), "/status", Some(Value::Null)), &[("Flag.status", C::Structure)]),
        (Base, with(flag(), "/code", None), &[("Flag.code", C::Required)]),
        (Base, with(flag(), "/code", Some(json!({}))), &[("Flag.code", C::Structure)]),
        (Base, with(flag(), "/subject", None), &[("Flag.subject", C::Required)]),
        (Base, with(flag(), "/category", Some(json!([]))), &[("Flag.category", C::Structure)]),
        (Base, with(flag(), "/category", Some(json!({"text": "SECRET"}))), &[("Flag.category", C::Structure)]),
        (Base, with(flag(), "/colour", odd()), &[("Flag.colour", C::Structure)]),
        (Base, with(flag(), "/9990000018", odd()), &[("Flag", C::Structure)]),
        (Base, with(flag(), "/_subject", Some(json!({"id": "x"}))), &[("Flag._subject", C::Structure)]),
        (Base, with(flag(), "/id", Some(json!("SECRET id"))), &[("Flag.id", C::Value)]),
        (Base, with(flag(), "/period/start", Some(json!("2015-02-30"))), &[("Flag.period.start", C::Value)]),
        (Base, with(flag(), "/period/start", Some(json!("2026-09-14T10:00"))), &[("Flag.period.start", C::Value)]),
        (Base, with(flag(), "/period/end", Some(json!("2026-09-13"))), &[("Flag.period", C::Invariant)]),
        (Base, with(flag(), "/subject/reference", Some(json!("Device/SECRET"))), &[("Flag.subject", C::Value)]),
        (Base, with(flag(), "/subject/type", Some(json!("Group"))), &[("Flag.subject", C::Invariant)]),
        (Base, with(flag(), "/author/reference", Some(json!("#SECRET"))), &[("Flag.author.reference", C::Invariant)]),
        (Base, with(flag(), "/code/coding/1/code", Some(json!(" SECRET"))), &[("Flag.code.coding[1].code", C::Value)]),
        (Base, with(flag(), "/code/coding/1/codes", odd()), &[("Flag.code.coding[1].codes", C::Structure)]),
        (Base, with(flag(), "/code/text", Some(json!(""))), &[("Flag.code.text", C::Value)]),
        (
            Base,
            with(flag(), "/meta", Some(json!({"lastUpdated": "2026-09-14"}))),
            &[("Flag.meta.lastUpdated", C::Value)],
        ),
        (
            Base,
            with(flag(), "/extension", Some(json!([{"url": "u", "valueString": "SECRET", "valueCode": "b"}]))),
            &[("Flag.extension[0]", C::Structure)],
        ),
        (Base, with(flag(), "/extension", Some(json!([{"url": "u"}]))), &[("Flag.extension[0]", C::Invariant)]),
        (
            Base,
            with(flag(), "/extension", Some(json!([{"valueString": "SECRET"}]))),
            &[("Flag.extension[0].url", C::Required)],
        ),
        (
            Base,
            with(flag(), "/extension", Some(json!([{"url": "u", "valueDate": "2023-02-29"}]))),
            &[("Flag.extension[0].value", C::Value)],
        ),
        (
            Base,
            with(flag(), "/contained", Some(json!([{"resourceType": "SECRET", "id": "c"}]))),
            &[("Flag.contained[0]", C::Invariant), ("Flag.contained[0].resourceType", C::CodeInvalid)],
        ),
        (
            Base,
            with(flag(), "/contained", Some(json!([{"resourceType": "Patient", "id": "c", "gender": "SECRET"}]))),
            &[("Flag.contained[0]", C::Invariant), ("Flag.contained[0].gender", C::CodeInvalid)],
        ),
        (Base, with(patient(), "/deceasedBoolean", Some(json!(true))), &[]),
        (
            Base,
            with(
                with(patient(), "/deceasedBoolean", Some(json!(true))),
                "/deceasedDateTime",
                Some(json!("2026-01-01")),
            ),
            &[("Patient", C::Structure)],
        ),
        (Base, with(patient(), "/deceasedBoolean", odd()), &[("Patient.deceased", C::Structure)]),
        (Base, with(patient(), "/gender", odd()), &[("Patient.gender", C::CodeInvalid)]),
        (Base, with(patient(), "/birthDate", Some(json!("11/05/2017"))), &[("Patient.birthDate", C::Value)]),
        (
            Base,
            with(patient(), "/name/0/given", Some(json!(["SECRET", null]))),
            &[("Patient.name[0].given[1]", C::Structure)],
        ),
        (Base, with(patient(), "/name/0/use", odd()), &[("Patient.name[0].use", C::CodeInvalid)]),
        (
            Base,
            with(patient(), "/telecom", Some(json!([{"value": "SECRET"}]))),
            &[("Patient.telecom[0]", C::Invariant)],
        ),
        (Base, with(patient(), "/contact", Some(json!([{"gender": "male"}]))), &[("Patient.contact[0]", C::Invariant)]),
        (
            Base,
            with(patient(), "/link", Some(json!([{"other": {"reference": "Group/1"}}]))),
            &[("Patient.link[0].other", C::Value), ("Patient.link[0].type", C::Required)],
        ),
        (
            Base,
            with(patient(), "/text", Some(json!({"status": "generated", "div": "SECRET"}))),
            &[("Patient.text.div", C::Invariant)],
        ),
        (
            Base,
            with(patient(), "/photo", Some(json!([{"contentType": "image/png", "data": "SECRET"}]))),
            &[("Patient.photo[0].data", C::Value)],
        ),
        (
            Base,
            with(organization(), "/telecom/0/use", Some(json!("home"))),
            &[("Organization.telecom[0]", C::Invariant)],
        ),
        (Base, json!({"resourceType": "Organization", "active": true}), &[("Organization", C::Invariant)]),
        (Base, with(subscription(), "/channel/type", odd()), &[("Subscription.channel.type", C::CodeInvalid)]),
        (Base, with(subscription(), "/reason", None), &[("Subscription.reason", C::Required)]),
        (Base, with(subscription(), "/channel", Some(json!({}))), &[("Subscription.channel.type", C::Required)]),
        (Base, with(subscription(), "/end", Some(json!("2026-01-01"))), &[("Subscription.end", C::Value)]),
        (
            Base,
            with(bundle(), "/type", None),
            &[
                ("Bundle.entry[0].request", C::Invariant),
                ("Bundle.entry[1].request", C::Invariant),
                ("Bundle.entry[2].request", C::Invariant),
                ("Bundle.type", C::Required),
            ],
        ),
        (Base, with(bundle(), "/entry/1/request", None), &[("Bundle.entry[1].request", C::Invariant)]),
        (Base, with(bundle(), "/entry/1/request/method", odd()), &[("Bundle.entry[1].request.method", C::CodeInvalid)]),
        (Base, with(bundle(), "/entry/1/request/url", None), &[("Bundle.entry[1].request.url", C::Required)]),
        (
            Base,
            with(bundle(), "/entry/1/search", Some(json!({"mode": "match"}))),
            &[("Bundle.entry[1].search", C::Invariant)],
        ),
        (
            Base,
            with(bundle(), "/entry/1/response", Some(json!({"status": "200"}))),
            &[("Bundle.entry[1].response", C::Invariant)],
        ),
        (
            Base,
            with(bundle(), "/entry/1/fullUrl", Some(json!("https://example.org/Patient/9990000018"))),
            &[("Bundle.entry[1].fullUrl", C::Invariant)],
        ),
        (
            Base,
            with(bundle(), "/entry/0/fullUrl", Some(json!("https://example.org/Patient/1/_history/1"))),
            &[("Bundle.entry[0]", C::Invariant)],
        ),
        (
            Base,
            with(bundle(), "/entry/2", Some(json!({"fullUrl": "urn:uuid:1"}))),
            &[("Bundle.entry[2]", C::Invariant), ("Bundle.entry[2].request", C::Invariant)],
        ),
        (Base, with(bundle(), "/total", Some(json!(3))), &[("Bundle.total", C::Invariant)]),
        (
            Base,
            with(bundle(), "/total", Some(json!(-3))),
            &[("Bundle.total", C::Invariant), ("Bundle.total", C::Value)],
        ),
        (
            Base,
            with(bundle(), "/entry/1/resource/period/start", Some(json!("2026-02-30"))),
            &[("Bundle.entry[1].resource.period.start", C::Value)],
        ),
        (
            Base,
            with(bundle(), "/entry/1/resource/resourceType", None),
            &[("Bundle.entry[1].resource.resourceType", C::Required)],
        ),
        (Base, with(parameters(), "/parameter/0/valueString", odd()), &[("Parameters.parameter[0]", C::Structure)]),
        (Base, with(parameters(), "/parameter/0/valueReference", None), &[("Parameters.parameter[0]", C::Invariant)]),
        (
            Base,
            with(parameters(), "/parameter/1/part/0/name", None),
            &[("Parameters.parameter[1].part[0].name", C::Required)],
        ),
        (
            Base,
            with(parameters(), "/parameter/1/part/1/resource/status", odd()),
            &[("Parameters.parameter[1].part[1].resource.status", C::CodeInvalid)],
        ),
        (Base, with(audit_event(), "/agent", Some(json!([]))), &[("AuditEvent.agent", C::Structure)]),
        (Base, with(audit_event(), "/agent", None), &[("AuditEvent.agent", C::Required)]),
        (Base, with(audit_event(), "/agent/0/requestor", None), &[("AuditEvent.agent[0].requestor", C::Required)]),
        (
            Base,
            with(audit_event(), "/entity/0/detail/0/valueString", None),
            &[("AuditEvent.entity[0].detail[0]", C::Required)],
        ),
        (
            Base,
            with(with(audit_event(), "/entity/0/name", odd()), "/entity/0/query", Some(json!("R0VU"))),
            &[("AuditEvent.entity[0]", C::Invariant)],
        ),
        (Base, json!({"resourceType": "SECRET"}), &[("Resource.resourceType", C::Structure)]),
        (Base, json!({"status": "SECRET"}), &[("Resource.resourceType", C::Required)]),
        (Base, json!(["SECRET"]), &[("", C::Structure)]),
    ]
}

fn defects_of_profiles() -> Vec<Defect> {
    vec![
        (
            Cpis,
            with(flag(), "/subject/identifier/system", None),
            &[("Flag.subject.identifier.system", C::BusinessRule)],
        ),
        (Cpis, with(flag(), "/subject/identifier/value", None), &[("Flag.subject.identifier.value", C::BusinessRule)]),
        (Cpis, with(flag(), "/period", None), &[("Flag.period", C::BusinessRule)]),
        (Cpis, with(flag(), "/period/start", None), &[("Flag.period.start", C::BusinessRule)]),
        (Cpis, with(flag(), "/period/start", Some(json!("2026-09"))), &[("Flag.period.start", C::BusinessRule)]),
        (Cpis, with(flag(), "/period/start", Some(json!("2026-02-30"))), &[("Flag.period.start", C::Value)]),
        (
            Cpis,
            with(flag(), "/code/coding/1/code", Some(json!("999SECRET"))),
            &[("Flag.code.coding[1].code", C::BusinessRule)],
        ),
        (Cpis, with(flag(), "/code/coding/1", None), &[("Flag.code.coding", C::BusinessRule)]),
        (
            Cpis,
            with(
                flag(),
                "/code/coding/-",
                Some(json!({"system": "http://snomed.info/sct", "code": "764841000000100"})),
            ),
            &[("Flag.code.coding", C::BusinessRule)],
        ),
        (
            Cpis,
            with(flag(), "/code/coding/0/code", Some(json!("national-reasonable-adjustment-flag"))),
            &[("Flag.code.coding[0].code", C::BusinessRule)],
        ),
        (Cpis, with(flag(), "/code", Some(json!({"text": "SECRET"}))), &[("Flag.code.coding", C::BusinessRule)]),
        (
            Cpis,
            with(flag(), "/subject/reference", Some(json!("Patient/9990000019"))),
            &[("Flag.subject.reference", C::BusinessRule)],
        ),
        (
            Cpis,
            with(flag(), "/subject/identifier/value", Some(json!("999 000 0018"))),
            &[("Flag.subject.identifier.value", C::BusinessRule)],
        ),
        (Cpis, with(flag(), "/subject/identifier/value", Some(json!("9990000026"))), &[("Flag.subject", C::Invariant)]),
        (Cpis, with(flag(), "/subject", Some(json!({"display": "SECRET"}))), &[("Flag.subject", C::Invariant)]),
        (
            Cpis,
            with(flag(), "/subject", Some(json!({"identifier": {"system": "urn:x", "value": "SECRET"}}))),
            &[("Flag.subject.identifier.system", C::BusinessRule), ("Flag.subject.identifier.value", C::BusinessRule)],
        ),
        (Cpis, with(flag(), "/author/identifier/value", Some(json!("Z9B"))), &[("Flag.author", C::Invariant)]),
        (
            Cpis,
            with(flag(), "/author/reference", Some(json!("Practitioner/SECRET"))),
            &[("Flag.author.reference", C::BusinessRule)],
        ),
        (
            Cpis,
            with(flag(), "/identifier/-", Some(json!({"value": "SECRET"}))),
            &[("Flag.identifier", C::BusinessRule)],
        ),
        (
            Cpis,
            with(flag(), "/identifier/0/value", Some(json!("SECRET "))),
            &[("Flag.identifier[0].value", C::BusinessRule)],
        ),
        (
            Cpis,
            with(flag(), "/modifierExtension", Some(json!([{"url": "u", "valueString": "SECRET"}]))),
            &[("Flag.modifierExtension", C::BusinessRule)],
        ),
        (
            Cpis,
            with(flag(), "/implicitRules", Some(json!("https://example.org/SECRET"))),
            &[("Flag.implicitRules", C::BusinessRule)],
        ),
        (
            Cpis,
            with(patient(), "/identifier/0/value", Some(json!("9990000019"))),
            &[("Patient.identifier[0].value", C::BusinessRule)],
        ),
        (Cpis, with(patient(), "/identifier/0", None), &[("Patient.identifier", C::BusinessRule)]),
        (Cpis, with(patient(), "/identifier", None), &[("Patient.identifier", C::BusinessRule)]),
        (Cpis, with(patient(), "/id", Some(json!("9990000026"))), &[("Patient", C::Invariant)]),
        (Cpis, with(patient(), "/birthDate", None), &[("Patient.birthDate", C::BusinessRule)]),
        (Cpis, with(patient(), "/birthDate", Some(json!("2017"))), &[("Patient.birthDate", C::BusinessRule)]),
        (Cpis, with(patient(), "/name/0/family", None), &[("Patient.name", C::BusinessRule)]),
        (Cpis, with(patient(), "/name", None), &[("Patient.name", C::BusinessRule)]),
        (Cpis, with(organization(), "/telecom/1", None), &[("Organization.telecom", C::BusinessRule)]),
        (Cpis, with(organization(), "/telecom", None), &[("Organization.telecom", C::BusinessRule)]),
        (
            Cpis,
            with(organization(), "/telecom/1/value", Some(json!("SECRET-01632"))),
            &[("Organization.telecom[1].value", C::BusinessRule)],
        ),
        (
            Cpis,
            with(organization(), "/telecom/1/use", Some(json!("work"))),
            &[("Organization.telecom", C::BusinessRule), ("Organization.telecom", C::BusinessRule)],
        ),
        (
            Cpis,
            with(organization(), "/identifier/0/value", Some(json!("secret"))),
            &[("Organization.identifier[0].value", C::BusinessRule)],
        ),
        (Cpis, with(organization(), "/name", None), &[("Organization.name", C::BusinessRule)]),
        (
            Cpis,
            with(subscription(), "/channel/type", Some(json!("email"))),
            &[("Subscription.channel.type", C::BusinessRule)],
        ),
        (
            Cpis,
            with(subscription(), "/channel/endpoint", Some(json!("https://SECRET@la.example.org/"))),
            &[("Subscription.channel.endpoint", C::BusinessRule)],
        ),
        (Cpis, with(subscription(), "/channel/endpoint", None), &[("Subscription.channel.endpoint", C::BusinessRule)]),
        (Cpis, with(subscription(), "/channel/payload", None), &[("Subscription.channel.payload", C::BusinessRule)]),
        (
            Cpis,
            with(
                subscription(),
                "/channel/extension",
                Some(json!([
                    {"url": format!("{BACKPORT}backport-heartbeat-period"), "valueUnsignedInt": 59},
                    {"url": format!("{BACKPORT}backport-timeout"), "valueUnsignedInt": 0},
                    {"url": format!("{BACKPORT}backport-max-count"), "valuePositiveInt": 10_001},
                    {"url": format!("{BACKPORT}backport-filter-criteria"), "valueString": "x"},
                ])),
            ),
            &[
                ("Subscription.channel.extension[0].value", C::BusinessRule),
                ("Subscription.channel.extension[1].value", C::BusinessRule),
                ("Subscription.channel.extension[2].value", C::BusinessRule),
                ("Subscription.channel.extension[3].url", C::BusinessRule),
            ],
        ),
        (
            Cpis,
            with(subscription(), "/criteria", Some(json!("Flag?code=SECRET"))),
            &[("Subscription.criteria", C::BusinessRule)],
        ),
        (
            Cpis,
            with(subscription(), "/channel/_payload/extension/0/valueCode", Some(json!("SECRET"))),
            &[("Subscription.channel.payload.extension[0].value", C::BusinessRule)],
        ),
        (
            Cpis,
            with(subscription(), "/channel/header/0", Some(json!("SECRET\r\nX: y"))),
            &[("Subscription.channel.header[0]", C::BusinessRule)],
        ),
        (Cpis, with(subscription(), "/status", Some(json!("error"))), &[("Subscription.status", C::BusinessRule)]),
        (
            Cpis,
            with(bundle(), "/entry/0/resource/identifier/0/value", Some(json!("9990000019"))),
            &[("Bundle.entry[0].resource.identifier[0].value", C::BusinessRule)],
        ),
    ]
}

#[test]
fn each_defect_gives_exactly_its_issues() {
    let defects: Vec<Defect> = defects_of_r4().into_iter().chain(defects_of_profiles()).collect();
    let mut wrong = Vec::new();
    for (profile, resource, expected) in &defects {
        let mut found = found(resource, *profile);
        let mut expected: Vec<(String, C)> = expected.iter().map(|(e, c)| ((*e).to_owned(), *c)).collect();
        for list in [&mut found, &mut expected] {
            list.sort_by_key(|(expression, code)| (expression.clone(), code.code()));
        }
        if found != expected {
            wrong.push(format!("{resource}\n  found {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(defects.len() > 100, "{}", defects.len());
}

#[test]
fn no_issue_repeats_what_was_sent() {
    for (profile, resource, _) in defects_of_r4().into_iter().chain(defects_of_profiles()) {
        for issue in VALIDATORS.validate(&resource, profile) {
            let said = format!("{issue:?}");
            for secret in ["SECRET", "999000", "999 000", "2026-", "2015", "2017", "Robin", "Testcase", "LCS-", "01632"]
            {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}

#[test]
fn only_cpis_problems_carry_a_record_code() {
    for (profile, resource, _) in defects_of_r4() {
        assert!(VALIDATORS.validate(&resource, profile).iter().all(|issue| !issue.is_profile()), "{resource}");
    }
    let code = |resource: Value| VALIDATORS.validate(&resource, Cpis)[0].cpr;
    assert_eq!(code(with(patient(), "/identifier/0", None)), Some(RecordCode::Cpr04));
    assert_eq!(code(with(flag(), "/subject/reference", Some(json!("Patient/1")))), Some(RecordCode::Cpr04));
    assert_eq!(code(with(flag(), "/subject", Some(json!({"display": "x"})))), Some(RecordCode::Cpr04));
    assert_eq!(code(with(flag(), "/period", None)), Some(RecordCode::Cpr07));
    assert_eq!(code(with(patient(), "/birthDate", None)), Some(RecordCode::Cpr07));
}

#[test]
fn spine_codes_say_what_kind_of_fault() {
    let spine = |resource: Value| VALIDATORS.validate(&resource, Base)[0].spine;
    assert_eq!(spine(with(flag(), "/status", None)), SpineCode::MissingValue);
    assert_eq!(spine(with(flag(), "/status", Some(json!("x")))), SpineCode::InvalidValue);
    assert_eq!(spine(with(flag(), "/x", Some(json!("x")))), SpineCode::AdditionalProperties);
    assert_eq!(spine(with(flag(), "/status", Some(json!(1)))), SpineCode::ValidationError);
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut resource = with(flag(), "/status", None);
    resource = with(resource, "/period/start", Some(json!("2026-13-01")));
    resource = with(resource, "/subject/identifier/value", Some(json!("9990000019")));
    resource = with(resource, "/code/coding/1/code", Some(json!("1")));
    resource = with(resource, "/nonsense", Some(json!(1)));
    let expressions: Vec<String> = found(&resource, Cpis).into_iter().map(|(expression, _)| expression).collect();
    assert_eq!(
        expressions,
        [
            "Flag.code.coding[1].code",
            "Flag.nonsense",
            "Flag.period.start",
            "Flag.status",
            "Flag.subject.identifier.value"
        ]
    );
}

#[test]
fn an_envelope_is_judged_without_its_resources() {
    let broken = with(bundle(), "/entry/1/resource/status", None);
    assert_eq!(VALIDATORS.validate_envelope(&broken), []);
    for resource in [json!({"no": "type"}), json!(null), json!("text"), json!({"resourceType": "SECRET"})] {
        let broken = with(bundle(), "/entry/1/resource", Some(resource));
        assert_eq!(VALIDATORS.validate_envelope(&broken), []);
        assert!(!VALIDATORS.validate(&broken, Base).is_empty());
    }
    let broken = with(broken, "/entry/1/request", None);
    let issues = VALIDATORS.validate_envelope(&broken);
    assert_eq!(issues.iter().map(|i| i.expression.join("")).collect::<Vec<_>>(), ["Bundle.entry[1].request"]);
}

#[test]
fn every_rule_is_used_and_every_choice_has_its_name() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let schemas = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let schemas: Vec<Value> =
        schemas.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect();
    let mut named = std::collections::BTreeSet::new();
    let mut chosen = std::collections::BTreeSet::new();
    fn walk(
        node: &Value,
        named: &mut std::collections::BTreeSet<String>,
        chosen: &mut std::collections::BTreeSet<String>,
    ) {
        if let Some(keys) = node.get("invariants").and_then(Value::as_array) {
            named.extend(keys.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        if let Some(choices) = node.get("choice").and_then(Value::as_object) {
            chosen.extend(choices.keys().cloned());
        }
        let inner: Vec<&Value> = match node {
            Value::Object(object) => object.values().collect(),
            Value::Array(list) => list.iter().collect(),
            _ => Vec::new(),
        };
        inner.into_iter().for_each(|inner| walk(inner, named, chosen));
    }
    schemas.iter().for_each(|schema| walk(schema, &mut named, &mut chosen));
    let unused: Vec<&str> = rule::invariants().map(|rule| rule.key).filter(|key| !named.contains(*key)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    let known: std::collections::BTreeSet<String> = location::CHOICES.map(str::to_owned).into();
    assert_eq!(chosen, known);
}

#[test]
fn a_hostile_body_gives_no_endless_answer() {
    let many: serde_json::Map<String, Value> = (0..20_000_u32)
        .map(|n| {
            (
                n.to_be_bytes().map(|b| char::from(b'a' + b % 16)).iter().collect::<String>()
                    + &"x".repeat(n as usize % 7),
                json!(n),
            )
        })
        .collect();
    let mut resource = flag();
    resource.as_object_mut().unwrap().extend(many);
    assert_eq!(VALIDATORS.validate(&resource, Cpis).len(), MOST_ISSUES + 1);
    let entries: Vec<Value> = (0..20_000).map(|_| json!({"resource": {"resourceType": "Flag"}})).collect();
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
    assert_eq!(VALIDATORS.validate(&bundle, Cpis).len(), MOST_ISSUES + 1);
    let contained: Vec<Value> =
        (0..20_000).map(|n| json!({"resourceType": "Patient", "id": format!("c{n}")})).collect();
    let resource = with(flag(), "/contained", Some(json!(contained)));
    assert_eq!(VALIDATORS.validate(&resource, Base).len(), MOST_ISSUES + 1);
}
