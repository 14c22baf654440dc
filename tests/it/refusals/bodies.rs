//! What is wrong with a body: JSON, R4, the CP-IS profile and rules; too long, too deep, said twice.

use serde_json::{Value, json};

use super::{FHIR, FORM, Row, Who, World, assert_names_nobody, request_id};
use crate::harness::{Backend, CPP, LAC, Reply, TestApp, authority, bundle, child, on_both_stores};

type Expected = (u16, &'static str, &'static str);

const BROKEN: Expected = (400, "structure", "VALIDATION_ERROR");
const REQUIRED: Expected = (400, "required", "MISSING_VALUE");
const PROPERTY: Expected = (400, "structure", "ADDITIONAL_PROPERTIES");
const VALUE: Expected = (400, "value", "INVALID_VALUE");
const INVARIANT: Expected = (400, "invariant", "VALIDATION_ERROR");
const ID: Expected = (400, "invariant", "INVALID_VALUE");
const RULE: Expected = (422, "business-rule", "INVALID_VALUE");

const fn sent(method: &'static str, path: &'static str, body: &'static str, expected: Expected) -> Row {
    Row::new(Who::Authority, method, path, expected).sending(FHIR, body)
}

/// Bodies that are no JSON that one could rely on; whatever the path, the answer is the same.
const NOT_JSON: &[(&str, &str)] = &[
    ("", "ends too early"),
    ("{", "ends too early"),
    (r#"{"resourceType":"#, "ends too early"),
    ("}", "not valid JSON"),
    ("resourceType=Bundle", "not valid JSON"),
    ("<Bundle xmlns=\"http://hl7.org/fhir\"/>", "not valid JSON"),
    (r#"{"resourceType":"Flag",}"#, "not valid JSON"),
    (r#"{'resourceType':'Flag'}"#, "not valid JSON"),
    (r#"{"resourceType":NaN}"#, "not valid JSON"),
    (r#"{"a":1e999}"#, "not valid JSON"),
    (r#"{"a":"\ud800"}"#, "not valid JSON"),
    (r#"{"resourceType":"Flag"} {"resourceType":"Flag"}"#, "more text"),
    (r#"{"resourceType":"Flag","id":"{nhs}","id":"{unknown}"}"#, "given twice"),
    (r#"{"resourceType":"Flag","\u0069d":"a","id":"b"}"#, "given twice"),
    (r#"{"resourceType":"Patient","name":[{"family":"Testcase","family":"Robin"}]}"#, "given twice"),
    ("\u{feff}{}", "not valid JSON"),
];

/// Where a resource is taken.
const DOORS: &[(&str, &str)] = &[
    ("POST", ""),
    ("POST", "/"),
    ("POST", "/Flag"),
    ("PUT", "/Flag/{flag}"),
    ("PUT", "/Patient/{nhs}"),
    ("PUT", "/Organization/Z9A"),
    ("POST", "/Subscription"),
];

#[actix_web::test]
async fn what_is_not_json_at_every_door() {
    let world = World::start(Backend::Sqlite).await;
    for (method, path) in DOORS {
        for (body, says) in NOT_JSON {
            world.assert_refused(&[sent(method, path, body, BROKEN).saying(says)]).await;
        }
    }
    for (body, says) in NOT_JSON {
        let row = Row::new(Who::Clinician, "POST", "/Patient/{nhs}/$everything", BROKEN);
        world.assert_refused(&[row.sending(FHIR, body).saying(says)]).await;
    }
}

#[actix_web::test]
async fn what_is_too_deep_or_no_utf8_at_every_door() {
    let world = World::start(Backend::Sqlite).await;
    let deep = |levels: usize| {
        format!("{}{{}}{}", r#"{"resourceType":"Flag","extension":["#.repeat(levels), "]}".repeat(levels))
    };
    let open_ended = "[".repeat(500_000);
    for (method, path) in DOORS {
        for body in [
            deep(40).into_bytes(),
            deep(5_000).into_bytes(),
            open_ended.clone().into_bytes(),
            b"{\"a\":\"\xff\"}".to_vec(),
        ] {
            let before = world.app.stored();
            let reply = world.caller(Who::Authority).send(method, &world.fill(path), Some((FHIR, body))).await;
            reply.assert_refused(400, "structure", "VALIDATION_ERROR");
            assert_eq!(world.app.stored(), before);
            assert_eq!(world.events_of(&request_id(&reply)).await.len(), 1);
        }
    }
}

/// Another shape than the door takes.
const SHAPES: &[Row] = &[
    sent("POST", "", "null", BROKEN),
    sent("POST", "", "[]", BROKEN),
    sent("POST", "", "\"Bundle\"", BROKEN),
    sent("POST", "", "{}", BROKEN),
    sent("POST", "", r#"{"resourceType":"Patient","id":"{nhs}"}"#, BROKEN).saying("batch or transaction"),
    sent("POST", "", r#"{"resourceType":"Nonsense"}"#, BROKEN),
    sent("POST", "", r#"{"resourceType":"Bundle"}"#, REQUIRED),
    sent("POST", "", r#"{"resourceType":"Bundle","type":"batch","entry":[]}"#, REQUIRED).saying("CPF01"),
    sent("POST", "", r#"{"resourceType":"Bundle","type":"batch","entry":{}}"#, REQUIRED),
    sent(
        "POST",
        "",
        r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Flag"}}]}"#,
        VALUE,
    ),
    sent(
        "POST",
        "",
        r#"{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Flag"}}]}"#,
        INVARIANT,
    ),
    sent(
        "POST",
        "",
        r#"{"resourceType":"Bundle","type":"batch","sender":"{nhs}","entry":[{"request":{"method":"DELETE","url":"Flag/x"}}]}"#,
        PROPERTY,
    ),
    sent("POST", "/Flag", "[]", VALUE),
    sent("POST", "/Flag", "{}", VALUE),
    sent("POST", "/Flag", r#"{"resourceType":"Patient","id":"{nhs}"}"#, VALUE).saying("Flag"),
    sent("PUT", "/Flag/{flag}", r#"{"resourceType":"CarePlan"}"#, VALUE),
    sent("PUT", "/Patient/{nhs}", "[]", VALUE),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Flag"}"#, VALUE),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Patient","id":"{nhs}","birthDate":"2017-13-45"}"#, VALUE),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Patient","id":"{nhs}","birthDate":20170511}"#, BROKEN),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Patient","id":"{nhs}","nhsNumber":"{nhs}"}"#, PROPERTY),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Patient","id":"{nhs}","name":null}"#, BROKEN),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Patient","id":"{nhs}","name":[]}"#, BROKEN),
    sent("PUT", "/Patient/{nhs}", r#"{"resourceType":"Patient","id":"{nhs}","name":[{"family":""}]}"#, VALUE),
    sent("PUT", "/Organization/Z9A", r#"{"resourceType":"Patient"}"#, VALUE),
    sent("POST", "/Subscription", r#"{"resourceType":"Flag"}"#, VALUE),
    sent("POST", "/Subscription", "[]", BROKEN),
    sent("POST", "/Subscription", r#"{"resourceType":"Subscription"}"#, REQUIRED),
    Row::new(Who::Clinician, "POST", "/Patient/{nhs}/$everything", BROKEN).sending(FHIR, r#"{"resourceType":"Flag"}"#),
    Row::new(Who::Clinician, "POST", "/Patient/{nhs}/$everything", (400, "not-supported", "INVALID_VALUE"))
        .sending(FHIR, r#"{"resourceType":"Parameters","parameter":[{"name":"start","valueDate":"2020-01-01"}]}"#),
];

#[actix_web::test]
async fn resources_of_another_type_or_shape() {
    World::start(Backend::Sqlite).await.assert_refused(SHAPES).await;
}

/// An update whose body has another id than the URL, or none (FHIR R4, update).
#[actix_web::test]
async fn another_id_than_that_of_the_url() {
    let world = World::start(Backend::Sqlite).await;
    let mut organization = authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960198");
    let mut flag = world.child.flag("Z9A", CPP, "2026-09-15", None);
    let mut patient = world.child.patient();
    for id in [json!("Z9B"), Value::Null] {
        for (path, body) in [
            (world.fill("/Flag/{flag}"), &mut flag),
            (world.fill("/Patient/{nhs}"), &mut patient),
            ("/Organization/Z9A".to_owned(), &mut organization),
        ] {
            match &id {
                Value::Null => drop(body.as_object_mut().unwrap().remove("id")),
                id => body["id"] = id.clone(),
            }
            let before = world.app.stored();
            let reply = world.app.authority("Z9A").put(&path, body).await;
            reply.assert_refused(ID.0, ID.1, ID.2);
            assert!(reply.text.contains(".id\""), "{}", reply.text);
            assert_eq!(world.app.stored(), before);
            assert_one_refusal(&world, &reply, ID.2).await;
        }
    }
}

/// A Flag or Patient with one fault, and how it is refused; all on a child that is on record.
fn faulty() -> Vec<(&'static str, String, Value, Expected, &'static str)> {
    let known = child(41);
    let flag = |change: &dyn Fn(&mut Value)| {
        let mut flag = known.flag("Z9A", LAC, "2026-11-01", None);
        change(&mut flag);
        flag
    };
    let patient = |change: &dyn Fn(&mut Value)| {
        let mut patient = known.patient();
        change(&mut patient);
        patient
    };
    let own = || format!("/Patient/{}", known.nhs());
    vec![
        ("POST", "/Flag".to_owned(), flag(&|f| drop(f.as_object_mut().unwrap().remove("status"))), REQUIRED, "status"),
        (
            "POST",
            "/Flag".to_owned(),
            flag(&|f| f["status"] = json!("open")),
            (400, "code-invalid", "INVALID_VALUE"),
            "status",
        ),
        ("POST", "/Flag".to_owned(), flag(&|f| f["period"]["start"] = json!("yesterday")), VALUE, "Flag.period.start"),
        ("POST", "/Flag".to_owned(), flag(&|f| f["note"] = json!("see file")), PROPERTY, "note"),
        ("POST", "/Flag".to_owned(), flag(&|f| drop(f.as_object_mut().unwrap().remove("period"))), RULE, "Flag.period"),
        ("POST", "/Flag".to_owned(), flag(&|f| f["period"]["start"] = json!("2026-11-24")), RULE, "Flag.period.start"),
        (
            "POST",
            "/Flag".to_owned(),
            flag(&|f| f["period"]["end"] = json!("2026-10-01")),
            (400, "invariant", "VALIDATION_ERROR"),
            "Flag.period",
        ),
        ("POST", "/Flag".to_owned(), flag(&|f| f["code"]["coding"][0]["code"] = json!("73211009")), RULE, "Flag.code"),
        ("POST", "/Flag".to_owned(), flag(&|f| f["author"]["identifier"]["value"] = json!("Z9B")), RULE, "Flag.author"),
        (
            "POST",
            "/Flag".to_owned(),
            flag(&|f| {
                f["subject"] =
                    json!({"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000019"}})
            }),
            RULE,
            "CPR04",
        ),
        ("POST", "/Flag".to_owned(), child(8).flag("Z9A", CPP, "2026-11-01", None), RULE, "CPR"),
        ("PUT", own(), patient(&|p| p["birthDate"] = json!("2025-01-01")), RULE, "CPR03"),
        ("PUT", own(), patient(&|p| p["birthDate"] = json!("2015-02-03")), RULE, "CPR"),
        ("PUT", own(), patient(&|p| drop(p.as_object_mut().unwrap().remove("birthDate"))), RULE, "birthDate"),
        (
            "PUT",
            "/Organization/Z9A".to_owned(),
            authority("Z9A", "WESTMARCH COUNTY COUNCIL", "12"),
            RULE,
            "Organization.telecom",
        ),
    ]
}

on_both_stores! {
    async fn a_resource_with_one_fault(backend) {
        let world = World::start(backend).await;
        for (method, path, body, expected, says) in faulty() {
            let before = world.app.stored();
            let reply = world.caller(Who::Authority).send(method, &path, Some((FHIR, body.to_string().into_bytes()))).await;
            assert_eq!(reply.status, expected.0, "{body}\n{}", reply.text);
            reply.assert_refused(expected.0, expected.1, expected.2);
            assert!(reply.text.contains(says), "{says}: {}", reply.text);
            assert_names_nobody(&world.child, &reply);
            assert!(!reply.text.contains("9990000019") && !reply.text.contains(child(8).nhs()), "{}", reply.text);
            if expected.0 == 422 {
                assert_eq!(reply.record_codes().len(), reply.json["issue"].as_array().unwrap().len(), "{}", reply.text);
            }
            assert_eq!(world.app.stored(), before, "{body}");
            assert_one_refusal(&world, &reply, expected.2).await;
        }
    }

    async fn all_faults_of_a_body_are_told_at_once(backend) {
        let world = World::start(backend).await;
        let mut flag = world.child.flag("Z9A", LAC, "2026-13-01", Some("soon"));
        flag["status"] = json!("open");
        flag["colour"] = json!("red");
        let reply = world.app.authority("Z9A").post("/Flag", &flag).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        for element in ["Flag.period.start", "Flag.period.end", "Flag.status", "colour"] {
            assert!(reply.text.contains(element), "{element}: {}", reply.text);
        }
    }

    async fn a_preference_that_is_not_known_stores_nothing(backend) {
        let world = World::start(backend).await;
        let before = world.app.stored();
        let asked = world.app.authority("Z9A").header("Prefer", "return=everything");
        let mut own = authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960198");
        own["id"] = json!("Z9A");
        let replies = [
            asked.post("/Flag", &world.child.flag("Z9A", LAC, "2026-11-01", None)).await,
            asked.put(&format!("/Patient/{}", world.child.nhs()), &world.child.patient()).await,
            asked.put("/Organization/Z9A", &own).await,
        ];
        for reply in replies {
            reply.assert_refused(400, "invalid", "PRECONDITION_FAILED");
            assert_eq!(world.app.stored(), before, "{}", reply.text);
            assert_one_refusal(&world, &reply, "PRECONDITION_FAILED").await;
        }
    }

    async fn a_batch_answers_each_record_and_stores_the_good_ones_only(backend) {
        let app = TestApp::start(backend).await;
        let (good, stranger) = (child(1), child(2));
        app.register(&good).await;
        let entries = [
            good.put_patient(),
            good.post_flag("Z9A", CPP, "2026-09-14", None),
            stranger.put_patient(),
            stranger.post_flag("Z9A", CPP, "2026-09-14", None),
        ];
        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let statuses: Vec<_> = reply.json["entry"].as_array().unwrap().iter().map(|e| e["response"]["status"].clone()).collect();
        assert_eq!(statuses, ["201 Created", "201 Created", "422 Unprocessable Entity", "422 Unprocessable Entity"]);
        assert!(!reply.text.contains(stranger.nhs()), "{}", reply.text);
        assert_eq!(app.number("select count(*) as n from plan"), 1);
        let transaction = app.authority("Z9A").post("", &bundle("transaction", &entries)).await;
        transaction.assert_refused(422, "business-rule", "INVALID_VALUE");
        assert_eq!(app.number("select count(*) as n from plan_version"), 1);
    }
}

async fn assert_one_refusal(world: &World, reply: &Reply, spine: &str) {
    let events = world.events_of(&request_id(reply)).await;
    let told: Vec<_> = events.iter().map(|e| (e["outcome"].as_str(), e["outcomeDesc"].as_str())).collect();
    assert_eq!(told, [(Some("4"), Some(spine))], "{}", reply.text);
}

const TOO_LONG: Expected = (413, "too-long", "INVALID_VALUE");

#[actix_web::test]
async fn bodies_over_the_limit_declared_or_not() {
    let app = TestApp::start_with(Backend::Sqlite, |settings| {
        settings.limits.body_bytes = 20_000;
        settings.upload.body_bytes = 20_000;
    })
    .await;
    let world = World::of(app).await;
    let long = || format!("{{\"resourceType\":\"Bundle\",\"id\":\"{}\"}}", "9".repeat(30_000));
    for (who, method, path, kind) in [
        (Who::Authority, "POST", "", FHIR),
        (Who::Authority, "POST", "/Flag", FHIR),
        (Who::Authority, "PUT", "/Patient/{nhs}", FHIR),
        (Who::Authority, "POST", "/Subscription", FHIR),
        (Who::Clinician, "POST", "/Patient/{nhs}/$everything", FHIR),
        (Who::Clinician, "POST", "/CareTeam/_search", FORM),
    ] {
        let before = world.app.stored();
        let reply = world.caller(who).send(method, &world.fill(path), Some((kind, long().into_bytes()))).await;
        reply.assert_refused(TOO_LONG.0, TOO_LONG.1, TOO_LONG.2);
        assert_eq!(world.app.stored(), before, "{path}");
        assert_one_refusal(&world, &reply, TOO_LONG.2).await;

        let token = world.app.token(&cpis_gateway::http::sandbox::TokenForm {
            role: Some(if who == Who::Clinician { "clinical" } else { "local-authority" }.to_owned()),
            ..Default::default()
        });
        let mut bytes = format!(
            "{method} /cpis/FHIR/R4{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n",
            world.fill(path)
        );
        for _ in 0..30 {
            bytes.push_str(&format!("3e8\r\n{}\r\n", "9".repeat(1000)));
        }
        bytes.push_str("0\r\n\r\n");
        let reply = world.app.raw(bytes.into_bytes()).await;
        reply.assert_refused(TOO_LONG.0, TOO_LONG.1, TOO_LONG.2);
        assert_one_refusal(&world, &reply, TOO_LONG.2).await;
    }
    let fits = format!("{{\"resourceType\":\"{}\"}}", "9".repeat(19_000));
    let reply = world.caller(Who::Authority).send("POST", "", Some((FHIR, fits.into_bytes()))).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
}

#[actix_web::test]
async fn more_entries_than_a_bundle_may_have() {
    let app = TestApp::start_with(Backend::Sqlite, |settings| settings.upload.max_entries = 3).await;
    let world = World::of(app).await;
    let entries = vec![world.child.put_patient(); 4];
    let before = world.app.stored();
    let reply = world.app.authority("Z9A").post("", &bundle("batch", &entries)).await;
    reply.assert_refused(TOO_LONG.0, TOO_LONG.1, TOO_LONG.2);
    assert!(reply.text.contains("CPF01"), "{}", reply.text);
    assert_eq!(world.app.stored(), before);
    assert_one_refusal(&world, &reply, TOO_LONG.2).await;
}

/// The body ends before its declared length: the client has gone, nothing may be stored.
#[actix_web::test]
async fn a_body_that_breaks_off() {
    let world = World::start(Backend::Sqlite).await;
    let before = world.app.stored();
    let token = world.app.token(&cpis_gateway::http::sandbox::TokenForm {
        role: Some("local-authority".to_owned()),
        ..Default::default()
    });
    let flag = world.child.flag("Z9A", LAC, "2026-11-01", None).to_string();
    let head = format!(
        "POST /cpis/FHIR/R4/Flag HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/fhir+json\r\n"
    );
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{flag}\r\nnonsense\r\n", flag.len());
    let short = format!("{head}Content-Length: {}\r\n\r\n{flag}", flag.len() + 1);
    for request in [chunked, short] {
        let reply = world.app.raw_cut(request.into_bytes()).await;
        assert!(matches!(reply.status, 0 | 400), "there may be nobody to answer: {}", reply.text);
        assert_eq!(world.app.stored(), before, "half a body is no body");
    }
    let whole = format!("{head}Content-Length: {}\r\n\r\n{flag}", flag.len());
    assert_eq!(world.app.raw(whole.into_bytes()).await.status, 201);
}
