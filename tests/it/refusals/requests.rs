//! What is wrong before the body is looked at: NHS numbers, headers, parameters, encodings, formats, methods, roles.

use super::{
    FHIR, FORM, Row,
    Who::{Administrator, Auditor, Authority, Clinician, Nobody, WithoutActivity},
    World,
};
use crate::harness::{Backend, on_both_stores};

type Expected = (u16, &'static str, &'static str);

const NUMBER: Expected = (400, "invalid", "INVALID_SEARCH_DATA");
const HEADER: Expected = (400, "invalid", "PRECONDITION_FAILED");
const UNKNOWN: Expected = (400, "not-supported", "INVALID_VALUE");
const VALUE: Expected = (400, "value", "INVALID_VALUE");
const FORBIDDEN: Expected = (403, "forbidden", "ACCESS_DENIED");
const NOT_FOUND: Expected = (404, "not-found", "RESOURCE_NOT_FOUND");
const METHOD: Expected = (405, "not-supported", "INVALID_VALUE");
const ACCEPT: Expected = (406, "not-supported", "INVALID_VALUE");
const CONTENT_TYPE: Expected = (415, "not-supported", "INVALID_VALUE");

const fn get(path: &'static str, expected: Expected) -> Row {
    Row::new(Clinician, "GET", path, expected)
}

const NUMBERS: &[Row] = &[
    get("/CareTeam", NUMBER).saying("Invalid NHS number"),
    get("/CareTeam?patient=", NUMBER).saying("Invalid NHS number"),
    get("/CareTeam?patient:identifier=", NUMBER),
    get("/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C", NUMBER),
    get("/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C999000001", NUMBER),
    get("/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C99900000180", NUMBER),
    get("/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C9990000019", NUMBER).saying("check digit"),
    get("/CareTeam?patient=1111111111", NUMBER),
    get("/CareTeam?patient=0000000000", NUMBER),
    get("/CareTeam?patient=999%20000%200018", NUMBER),
    get("/CareTeam?patient=999+000+0018", NUMBER),
    get("/CareTeam?patient=999000001a", NUMBER),
    get(
        "/CareTeam?patient=%EF%BC%99%EF%BC%99%EF%BC%99%EF%BC%90%EF%BC%90%EF%BC%90%EF%BC%90%EF%BC%90%EF%BC%91%EF%BC%98",
        NUMBER,
    ),
    get("/CareTeam?patient=Patient/9990000019", NUMBER),
    get("/CarePlan?patient=9990000019", NUMBER),
    get("/Flag", NUMBER),
    get("/Flag?patient=9990000019", NUMBER),
    get("/PatientFlag", NUMBER),
    get("/PatientFlag?patient=9990000019&code=child-protection-information-system-flag", NUMBER),
    get("/AuditEvent", NUMBER),
    get("/AuditEvent?patient=9990000019", NUMBER),
    get("/Patient", NUMBER),
    get("/Patient?identifier=9990000019", NUMBER),
    get("/Patient?_id=9990000019", NUMBER),
    get("/Patient/9990000019", NUMBER),
    get("/Patient/nobody", NUMBER),
    get("/Patient/%FF%FE", NUMBER),
    get("/Patient/%00", NUMBER),
    get("/Patient/..%2F..%2FFlag", NUMBER),
    get("/Patient/9990000019/$everything", NUMBER),
    Row::new(Clinician, "POST", "/Patient/9990000019/$everything", NUMBER)
        .sending(FHIR, r#"{"resourceType":"Parameters"}"#),
    Row::new(Clinician, "POST", "/CareTeam/_search", NUMBER).sending(FORM, "patient=9990000019"),
    Row::new(Clinician, "POST", "/CareTeam/_search", NUMBER).sending(FORM, ""),
    Row::new(Authority, "GET", "/Flag?patient=9990000019", NUMBER),
    Row::new(Authority, "GET", "/AuditEvent", NUMBER),
    Row::new(Authority, "PUT", "/Patient/9990000019", NUMBER).sending(FHIR, r#"{"resourceType":"Patient"}"#),
    Row::new(Auditor, "GET", "/AuditEvent?patient=9990000019", NUMBER),
];

const HEADERS: &[Row] = &[
    get("/CareTeam?patient={nhs}", HEADER)
        .with(&[("IsUnscheduledAccessEvent", "yes")])
        .saying("IsUnscheduledAccessEvent"),
    get("/CareTeam?patient={nhs}", HEADER).with(&[("IsUnscheduledAccessEvent", "True")]),
    get("/CareTeam?patient={nhs}", HEADER).with(&[("IsUnscheduledAccessEvent", "")]),
    get("/CareTeam?patient={nhs}", HEADER).with(&[("IsUnscheduledAccessEvent", "true, false")]),
    get("/CareTeam?patient={nhs}", HEADER).with(&[("IsUnscheduledEvent", "1")]),
    get("/CareTeam?patient={nhs}", HEADER)
        .with(&[("IsUnscheduledAccessEvent", "true"), ("IsUnscheduledEvent", "false")]),
    get("/CareTeam?patient={nhs}", HEADER).with(&[("IsUnscheduledAccessEvent", "{nhs}")]),
    get("/Patient/{nhs}", HEADER).with(&[("IsUnscheduledAccessEvent", "no")]),
    get("/Patient/{nhs}/$everything", HEADER).with(&[("IsUnscheduledAccessEvent", "no")]),
    get("/PatientFlag?patient={nhs}", HEADER).with(&[("IsUnscheduledAccessEvent", "no")]),
    get("/Flag/{flag}", HEADER).with(&[("IsUnscheduledEvent", "no")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("X-Request-ID", "1234")]).saying("X-Request-ID"),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("X-Request-ID", "{nhs}")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("X-Request-ID", "0f7b0f6e3a514a2e9a549e3c5a1d2b10")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("X-Request-ID", "{0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10}")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("TraceID", "a b")]).saying("TraceID"),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("TraceID", "visit-{nhs}")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("TraceID", "visit.999-000-0018.x")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("TraceID", "")]),
    get("/CareTeam?patient={nhs}", VALUE)
        .with(&[("TraceID", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("X-Correlation-ID", "<script>")]).saying("X-Correlation-ID"),
    get("/CareTeam?patient={nhs}", VALUE).with(&[("X-Correlation-ID", "{nhs}")]),
    // Nonsense is refused whoever sends it, though only a clinician's counts.
    Row::new(Authority, "GET", "/Flag/{flag}", HEADER).with(&[("IsUnscheduledAccessEvent", "no")]),
    Row::new(Authority, "GET", "/Organization/Z9A", HEADER).with(&[("IsUnscheduledEvent", "yes")]),
    Row::new(Auditor, "GET", "/AuditEvent", HEADER)
        .with(&[("IsUnscheduledAccessEvent", "true"), ("IsUnscheduledEvent", "false")]),
    Row::new(Authority, "DELETE", "/Flag/{flag}", HEADER).with(&[("If-Match", "latest")]).saying("If-Match"),
    Row::new(Authority, "DELETE", "/Flag/{flag}", HEADER).with(&[("If-Match", "W/\"1\", W/\"2\"")]),
];

const PARAMETERS: &[Row] = &[
    get("/CareTeam?patient={nhs}&participant=x", UNKNOWN)
        .saying("Unknown parameter 'participant'. Known here: patient"),
    get("/CareTeam?patient={nhs}&_lastUpdated=2026", UNKNOWN).saying("_lastUpdated"),
    get("/CareTeam?patient={nhs}&_sort=participant", UNKNOWN).saying("status"),
    get("/CareTeam?patient={nhs}&_sort=-_summary", UNKNOWN),
    get("/CareTeam?patient={nhs}&_has:Flag:patient:code=x", UNKNOWN),
    get("/CareTeam?Patient={nhs}", UNKNOWN).naming_nobody(),
    get("/CareTeam?patient={nhs}&{nhs}=x", UNKNOWN).naming_nobody(),
    get("/CareTeam?patient:exact={nhs}", UNKNOWN).saying(":exact"),
    get("/CareTeam?patient:missing=false", UNKNOWN).saying(":missing").naming_nobody(),
    get("/CareTeam?patient:not={nhs}", UNKNOWN).saying(":not"),
    get("/CareTeam?patient:Group={nhs}", UNKNOWN),
    get("/CareTeam?patient.name=Testcase", UNKNOWN),
    get("/CareTeam?patient={nhs}&status:text=active", UNKNOWN).saying(":not"),
    get("/CareTeam?patient={nhs}&date=zz2026", UNKNOWN).saying("prefixes"),
    get("/CarePlan?patient={nhs}&goal=x", UNKNOWN),
    get("/Flag?patient={nhs}&identifier=x", UNKNOWN).saying("role"),
    get("/Flag?patient={nhs}&_lastUpdated=2026", UNKNOWN).saying("role"),
    get("/Flag?patient={nhs}&_include=Flag:encounter", UNKNOWN).saying("Flag:patient"),
    get("/Flag?patient={nhs}&_include=*", UNKNOWN),
    get("/Flag?patient={nhs}&_include=Flag:patient:Group", UNKNOWN),
    get("/Flag?patient={nhs}&_include=CarePlan:care-team", UNKNOWN).saying("_include:iterate"),
    get("/Flag?patient={nhs}&_include:recurse=Flag:patient", UNKNOWN),
    get("/Flag?patient={nhs}&_revinclude=Provenance:target", UNKNOWN),
    get("/Flag/{flag}?_count=1", UNKNOWN),
    get("/Patient?identifier={nhs}&family=Testcase", UNKNOWN),
    get("/Patient?name=Testcase", UNKNOWN),
    get("/Patient/{nhs}/$everything?_since=2020", UNKNOWN),
    get("/PatientFlag?patient={nhs}&status=active", UNKNOWN),
    get("/AuditEvent?patient={nhs}&subtype=read", UNKNOWN).saying("role"),
    get("/AuditEvent?patient={nhs}&source=x", UNKNOWN),
    get("/Organization?address=x", UNKNOWN),
    get("/metadata?colour=red", UNKNOWN).saying("colour"),
    Row::new(Clinician, "POST", "/CareTeam/_search", UNKNOWN).sending(FORM, "patient={nhs}&participant=x"),
    Row::new(Clinician, "POST", "/CareTeam/_search?participant=x", UNKNOWN).sending(FORM, "patient={nhs}"),
    get("/CareTeam?patient={nhs}&participant=x", UNKNOWN).with(&[("Prefer", "handling=lenient")]),
    Row::new(Authority, "GET", "/Flag?patient={nhs}&_revinclude=AuditEvent:patient", UNKNOWN),
    Row::new(Authority, "GET", "/Flag?patient={nhs}&_include=Flag:detail", UNKNOWN),
    Row::new(Authority, "GET", "/Flag?_sort=date", UNKNOWN).saying("patient"),
    Row::new(Authority, "GET", "/Subscription?contact=x", UNKNOWN),
    Row::new(Auditor, "GET", "/AuditEvent?site=x", UNKNOWN),
    Row::new(Auditor, "GET", "/AuditEvent?_sort=agent", UNKNOWN).saying("date"),
    Row::new(Auditor, "GET", "/AuditEvent?date=xx2026-11", UNKNOWN),
    Row::new(Auditor, "GET", "/AuditEvent?date:missing=true", UNKNOWN),
];

const VALUES: &[Row] = &[
    get("/CareTeam?patient={nhs}&patient={nhs}", VALUE).saying("one patient").naming_nobody(),
    get("/CareTeam?patient={nhs}&patient={unknown}", VALUE).naming_nobody(),
    get("/CareTeam?patient={nhs},{unknown}", VALUE).naming_nobody(),
    get("/CarePlan?patient={nhs}&patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C{unknown}", VALUE)
        .naming_nobody(),
    get("/Flag?patient={nhs}&subject={nhs}", VALUE).naming_nobody(),
    get("/PatientFlag?patient={nhs}&patient={unknown}", VALUE).naming_nobody(),
    get("/AuditEvent?patient={nhs}&patient={unknown}", VALUE).naming_nobody(),
    get("/Patient?identifier={nhs}&identifier={unknown}", VALUE).naming_nobody(),
    get("/Patient?identifier={nhs},{unknown}", VALUE).naming_nobody(),
    get("/Patient?identifier={nhs}&_id={nhs}", VALUE).naming_nobody(),
    Row::new(Clinician, "POST", "/CareTeam/_search?patient={nhs}", VALUE)
        .sending(FORM, "patient={unknown}")
        .naming_nobody(),
    get("/CareTeam?patient:identifier=urn:oid:1.2.3%7C{nhs}", VALUE)
        .saying("https://fhir.nhs.uk/Id/nhs-number")
        .naming_nobody(),
    get("/PatientFlag?patient={nhs}&code=other", VALUE),
    get("/CareTeam?patient={nhs}&status=entered-in-error", VALUE).saying("active, inactive"),
    get("/CareTeam?patient={nhs}&status=", VALUE).saying("empty"),
    get("/CareTeam?patient={nhs}&status=active,,inactive", VALUE),
    get("/CareTeam?patient={nhs}&status:missing=maybe", VALUE),
    get("/CareTeam?patient={nhs}&category=%7C", VALUE).saying("system|code"),
    get("/CareTeam?patient={nhs}&date=yesterday", VALUE).saying("2026-11-03"),
    get("/CareTeam?patient={nhs}&date=2026-02-30", VALUE),
    get("/CareTeam?patient={nhs}&_count=-1", VALUE),
    get("/CareTeam?patient={nhs}&_count=1&_count=2", VALUE).saying("only once"),
    get("/CareTeam?patient={nhs}&_total=exact", VALUE),
    get("/CareTeam?patient={nhs}&_summary=all", VALUE),
    get("/CareTeam?patient={nhs}&_elements=telcom", VALUE).saying("_elements"),
    get("/CareTeam?patient={nhs}&_summary=text&_include=CareTeam:patient", VALUE),
    get("/CareTeam?patient={nhs}&_cursor=abc", VALUE),
    get("/Flag?patient={nhs}&author=https://elsewhere.example/Organization/Z9A", VALUE),
    get("/Flag/{flag}?_summary=count", VALUE),
    get("/Flag/{flag}?_elements=statu", VALUE),
    get("/CareTeam?patient={nhs}&_pretty=maybe", VALUE),
    Row::new(Nobody, "GET", "/metadata?_pretty=maybe", VALUE),
    get("/CareTeam?patient=%FF%FE", VALUE).saying("percent-encoded"),
    get("/CareTeam?patient=%ZZ", VALUE),
    get("/CareTeam?patient=%9", VALUE),
    get("/CareTeam?patient={nhs}%0D%0ASet-Cookie:a=b", VALUE).naming_nobody(),
    get("/CareTeam?patient={nhs}%00", VALUE).naming_nobody(),
    get("/CareTeam?patient=%C0%B9990000018", VALUE),
    get("/CareTeam?%E2%28%A1={nhs}", VALUE).naming_nobody(),
    Row::new(Clinician, "POST", "/CareTeam/_search", VALUE).sending(FORM, "patient=%FF"),
    Row::new(Authority, "GET", "/Flag?_count=-1", VALUE),
    Row::new(Authority, "GET", "/Flag?_count=many", VALUE),
    Row::new(Authority, "GET", "/Flag?_cursor=rubbish", VALUE),
    Row::new(Authority, "GET", "/Subscription?status=asleep", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?_cursor=eyJhIjoxfQ", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?_id=", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?outcome=5", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?_total=all", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?date=yesterday", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?date=2026-02-30", VALUE),
    Row::new(Auditor, "GET", "/AuditEvent?date=%C3%A9%C3%A9", VALUE),
    Row::new(Clinician, "GET", "/Organization?active=perhaps", VALUE),
];

const FORMATS: &[Row] = &[
    get("/CareTeam?patient={nhs}", ACCEPT).with(&[("Accept", "application/fhir+xml")]).saying("application/fhir+json"),
    get("/CareTeam?patient={nhs}", ACCEPT).with(&[("Accept", "text/html")]),
    get("/CareTeam?patient={nhs}", ACCEPT).with(&[("Accept", "application/fhir+json;q=0")]),
    get("/CareTeam?patient={nhs}&_format=xml", ACCEPT),
    get("/CareTeam?patient={nhs}&_format=application/fhir%2Bxml", ACCEPT),
    get("/CareTeam?patient={nhs}&_format=xml", ACCEPT).with(&[("Accept", "application/fhir+json")]),
    Row::new(Clinician, "POST", "/CareTeam/_search", ACCEPT).sending(FORM, "patient={nhs}&_format=xml"),
    Row::new(Authority, "POST", "/Flag", ACCEPT).with(&[("Accept", "text/plain")]).sending(FHIR, "{}"),
    Row::new(Nobody, "GET", "/metadata", ACCEPT).with(&[("Accept", "application/fhir+xml")]),
    Row::new(Nobody, "GET", "/metadata?_format=ttl", ACCEPT),
    Row::new(Authority, "POST", "", CONTENT_TYPE)
        .sending("application/fhir+xml", "<Bundle/>")
        .saying("application/fhir+json"),
    Row::new(Authority, "POST", "", CONTENT_TYPE).sending("text/plain", "{}"),
    Row::new(Authority, "POST", "", CONTENT_TYPE).sending(FORM, "a=b"),
    Row::new(Authority, "POST", "", CONTENT_TYPE).sending("", "{}"),
    Row::new(Authority, "POST", "", CONTENT_TYPE),
    Row::new(Authority, "POST", "", CONTENT_TYPE).with(&[("Content-Encoding", "gzip")]).sending(FHIR, "{}"),
    Row::new(Authority, "POST", "/Flag", CONTENT_TYPE).sending("multipart/form-data; boundary=x", "--x--"),
    Row::new(Authority, "PUT", "/Flag/{flag}", CONTENT_TYPE).sending("application/json-patch+json", "[]"),
    Row::new(Clinician, "POST", "/CareTeam/_search", CONTENT_TYPE).sending(FHIR, r#"{"patient":"{nhs}"}"#),
    Row::new(Clinician, "POST", "/Patient/{nhs}/$everything", CONTENT_TYPE).sending(FORM, "a=b"),
];

/// Method not allowed, with what `Allow` names.
const METHODS: &[(Row, &str)] = &[
    (Row::new(Clinician, "DELETE", "/CareTeam?patient={nhs}", METHOD), "GET, HEAD"),
    (Row::new(Clinician, "GET", "/CareTeam/_search?patient={nhs}", METHOD), "POST"),
    (Row::new(Clinician, "PUT", "/Patient/{nhs}/$everything", METHOD).naming_nobody(), "GET, HEAD, POST"),
    (Row::new(Authority, "GET", "", METHOD), "POST"),
    (Row::new(Authority, "PATCH", "/Flag/{flag}", METHOD), "GET, HEAD, PUT, DELETE"),
    (Row::new(Authority, "DELETE", "/Patient/{nhs}", METHOD).naming_nobody(), "GET, HEAD, PUT"),
    (Row::new(Authority, "OPTIONS", "/Flag", METHOD), "GET, HEAD, POST, PUT, DELETE"),
    (Row::new(Authority, "POST", "/Flag/{flag}", METHOD), "GET, HEAD, PUT, DELETE"),
    (Row::new(Authority, "POST", "/Subscription/{flag}", METHOD), "GET, HEAD, PUT, DELETE"),
    (Row::new(Auditor, "DELETE", "/AuditEvent/202611-1", METHOD), "GET, HEAD"),
    (Row::new(Auditor, "PUT", "/AuditEvent/202611-1", METHOD), "GET, HEAD"),
    (Row::new(Auditor, "POST", "/AuditEvent", METHOD), "GET, HEAD"),
    (Row::new(Administrator, "POST", "/metadata", METHOD), "GET, HEAD"),
    (Row::new(Nobody, "TRACE", "/metadata", METHOD), "GET, HEAD"),
];

const PLACES: &[Row] = &[
    get("/Nothing", NOT_FOUND).saying("metadata"),
    get("/CareTeam/{unknown}", NOT_FOUND),
    get("/CareTeam/0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10", NOT_FOUND),
    get("/CareTeam/%FF", NOT_FOUND),
    get("/CarePlan/x", NOT_FOUND),
    get("/Flag/0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10", NOT_FOUND),
    get("/CareTeam/{flag}/_history", NOT_FOUND),
    get("/CarePlan/{flag}/_history/1", NOT_FOUND),
    get("/Flag/{deleted}", NOT_FOUND),
    get("/CarePlan/{deleted}", NOT_FOUND),
    get("/CareTeam/{deleted}", NOT_FOUND),
    get("/Patient/{unknown}", NOT_FOUND),
    get("/Patient/{unknown}/$everything", NOT_FOUND),
    get("/Patient/{nhs}/$match", NOT_FOUND).naming_nobody(),
    get("/Organization/ZZ999", NOT_FOUND),
    get("/Organization/nowhere", NOT_FOUND),
    get("/metadata/x", NOT_FOUND),
    Row::new(Authority, "GET", "/Flag/{other}", NOT_FOUND),
    Row::new(Authority, "GET", "/Flag/0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10", NOT_FOUND),
    Row::new(Authority, "GET", "/Flag/nothing", NOT_FOUND),
    Row::new(Authority, "DELETE", "/Flag/{other}", NOT_FOUND),
    Row::new(Authority, "DELETE", "/Flag/nothing", NOT_FOUND),
    Row::new(Authority, "GET", "/Patient/{unknown}", NOT_FOUND),
    Row::new(Authority, "GET", "/Subscription/{flag}", NOT_FOUND),
    Row::new(Authority, "DELETE", "/Subscription/nothing", NOT_FOUND),
    Row::new(Authority, "GET", "/AuditEvent/202611-1", NOT_FOUND),
    Row::new(Authority, "GET", "/PractitionerRole/{flag}", NOT_FOUND),
    Row::new(Auditor, "GET", "/AuditEvent/202611-99999999", NOT_FOUND),
    Row::new(Auditor, "GET", "/AuditEvent/190001-1", NOT_FOUND),
    Row::new(Auditor, "GET", "/AuditEvent/nothing", NOT_FOUND),
    Row::new(Auditor, "GET", "/AuditEvent/99999999999999999999-1", NOT_FOUND),
    Row::new(Auditor, "GET", "/AuditEvent/{flag}", NOT_FOUND),
    Row::new(Auditor, "GET", "/PractitionerRole/{flag}", NOT_FOUND),
];

const ROLES: &[Row] = &[
    get("/Flag/{flag}/_history", FORBIDDEN),
    get("/Flag/{flag}/_history/1", FORBIDDEN),
    get("/Flag/_history", FORBIDDEN),
    get("/Patient/{nhs}/_history", FORBIDDEN),
    get("/Patient/{nhs}/_history/1", FORBIDDEN),
    get("/Patient/_history", FORBIDDEN),
    Row::new(WithoutActivity, "GET", "/CareTeam?patient={nhs}", FORBIDDEN).saying("B0107"),
    Row::new(WithoutActivity, "GET", "/Patient/{nhs}", FORBIDDEN),
    Row::new(WithoutActivity, "GET", "/Patient/{nhs}/$everything", FORBIDDEN),
    Row::new(WithoutActivity, "GET", "/Flag/{flag}", FORBIDDEN),
    Row::new(WithoutActivity, "GET", "/AuditEvent?patient={nhs}", FORBIDDEN),
    Row::new(Clinician, "GET", "/CareTeam?patient={nhs}", FORBIDDEN).with(&[("IsUnscheduledAccessEvent", "false")]),
    Row::new(Auditor, "GET", "/CareTeam?patient={nhs}", FORBIDDEN).saying("auditor"),
    Row::new(Auditor, "GET", "/Patient/{nhs}", FORBIDDEN),
    // What a role may not ask is not read.
    Row::new(Auditor, "POST", "/CareTeam/_search", FORBIDDEN).sending(FORM, "patient={nhs}").naming_nobody(),
    Row::new(Administrator, "GET", "/CareTeam?patient={nhs}", FORBIDDEN),
    Row::new(Administrator, "GET", "/Flag/{flag}", FORBIDDEN),
    Row::new(Administrator, "GET", "/AuditEvent?patient={nhs}", FORBIDDEN),
    Row::new(Authority, "GET", "/CareTeam?patient={nhs}", FORBIDDEN),
    Row::new(Authority, "GET", "/Patient/{nhs}/$everything", FORBIDDEN),
    Row::new(Clinician, "POST", "", FORBIDDEN).sending(FHIR, r#"{"resourceType":"Bundle","type":"batch"}"#),
    Row::new(Clinician, "DELETE", "/Flag/{flag}", FORBIDDEN),
    Row::new(Clinician, "PUT", "/Patient/{nhs}", FORBIDDEN).sending(FHIR, r#"{"resourceType":"Patient"}"#),
    Row::new(Clinician, "GET", "/AuditEvent/202611-1", FORBIDDEN),
    Row::new(Clinician, "GET", "/Subscription", FORBIDDEN),
    Row::new(Authority, "PUT", "/Organization/Z9B", FORBIDDEN)
        .sending(FHIR, r#"{"resourceType":"Organization","id":"Z9B"}"#),
];

#[actix_web::test]
async fn no_nhs_number_or_a_wrong_one() {
    World::start(Backend::Sqlite).await.assert_refused(NUMBERS).await;
}

#[actix_web::test]
async fn headers_of_another_form() {
    World::start(Backend::Sqlite).await.assert_refused(HEADERS).await;
}

#[actix_web::test]
async fn unknown_parameters_modifiers_prefixes_and_includes() {
    let mut rows = PARAMETERS.to_vec();
    // Open: there is nobody to audit.
    rows.iter_mut().filter(|row| row.path.starts_with("/metadata")).for_each(|row| row.who = Nobody);
    World::start(Backend::Sqlite).await.assert_refused(&rows).await;
}

#[actix_web::test]
async fn two_patients_rubbish_encodings_and_values_of_no_use() {
    World::start(Backend::Sqlite).await.assert_refused(VALUES).await;
}

#[actix_web::test]
async fn formats_other_than_fhir_json() {
    World::start(Backend::Sqlite).await.assert_refused(FORMATS).await;
}

#[actix_web::test]
async fn methods_that_a_path_does_not_have() {
    let world = World::start(Backend::Sqlite).await;
    for (row, allow) in METHODS {
        world.assert_refused(&[*row]).await;
        assert_eq!(world.ask(row).await.header("allow"), *allow, "{row:?}");
    }
    let head = world.app.authority("Z9A").send("HEAD", "", None).await;
    assert_eq!((head.status, head.text.as_str(), head.header("allow")), (405, "", "POST"));
}

on_both_stores! {
    async fn ids_that_are_not_there_or_not_the_callers(backend) {
        World::start(backend).await.assert_refused(PLACES).await;
    }
}

#[actix_web::test]
async fn roles_that_may_not() {
    World::start(Backend::Sqlite).await.assert_refused(ROLES).await;
}

#[actix_web::test]
async fn outside_the_fhir_base_there_is_nothing() {
    let world = World::start(Backend::Sqlite).await;
    let outside = [
        ("GET", "//"),
        ("GET", "//cpis"),
        ("GET", "//cpis/FHIR/R4x/metadata"),
        ("POST", "//CareTeam"),
        ("GET", "//.env"),
    ];
    for (method, path) in outside {
        let reply = world.app.anonymous().send(method, path, None).await;
        reply.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
    }
    for (method, path) in [("POST", "//_ping"), ("DELETE", "//_status"), ("GET", "//sandbox/token")] {
        let reply = world.app.anonymous().send(method, path, None).await;
        reply.assert_refused(405, "not-supported", "INVALID_VALUE");
        assert!(!reply.header("allow").is_empty(), "{path}");
    }
}

/// A header that is given twice, which the harness's client can't send.
#[actix_web::test]
async fn a_header_twice_with_different_values() {
    let world = World::start(Backend::Sqlite).await;
    let token = world
        .app
        .token(&cpis_gateway::http::sandbox::TokenForm { role: Some("clinical".to_owned()), ..Default::default() });
    let ask = async |headers: &str| {
        let path = world.child.care_team();
        let request = format!(
            "GET /cpis/FHIR/R4{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        );
        world.app.raw(request.into_bytes()).await
    };
    for name in ["IsUnscheduledAccessEvent", "IsUnscheduledEvent", "isunscheduledaccessevent"] {
        let reply = ask(&format!("{name}: true\r\n{name}: false\r\n")).await;
        reply.assert_refused(400, "invalid", "PRECONDITION_FAILED");
    }
    let same = ask("IsUnscheduledAccessEvent: true\r\nIsUnscheduledAccessEvent: true\r\n").await;
    assert_eq!(same.status, 200, "{}", same.text);
    let bytes = ask("TraceID: caf\u{e9}\r\n").await;
    bytes.assert_refused(400, "value", "INVALID_VALUE");
}
