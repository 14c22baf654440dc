//! `Patient/$match`: a number and a birth date belong together, or the same nothing whatever is wrong; and nobody learns from
//! it whether CP-IS holds a record (design 9).

use cpis_gateway::{config::PdsMode, cpis::types::child::NumberStatus};
use serde_json::{Value, json};

use crate::{
    harness::{Backend, CPP, Child, Reply, TestApp, child, on_both_stores, pds::PdsAnswer, statements, upload::with},
    refusals::{events_of, request_id},
};

const PATH: &str = "/Patient/$match";

/// Number and birth date alone.
fn bare(child: &Child) -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": child.nhs()}],
        "birthDate": child.birth_date,
    })
}

fn about(patient: Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": patient}]})
}

async fn confirm(app: &TestApp, patient: Value) -> Reply {
    let reply = app.clinician().post(PATH, &about(patient)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("cache-control"), "no-store");
    // So that the next one is not counted with it.
    app.app.gateway.later.done().await;
    reply
}

/// The statements until the answer is durable; what comes after them the caller doesn't wait for.
fn until_answered(mut statements: Vec<String>) -> Vec<String> {
    let audited =
        statements.iter().position(|one| one.to_lowercase().starts_with("insert into ") && one.contains("audit_event"));
    statements.truncate(audited.expect("it is audited") + 3);
    statements
}

/// Everything of an answer but its request id and its date.
fn whole(reply: &Reply) -> (u16, Vec<String>, String) {
    let varying = ["date", "x-request-id"];
    let headers = reply.headers.iter().filter(|(name, _)| !varying.contains(&name.as_str()));
    (reply.status, headers.map(|(name, value)| format!("{name}: {value:?}")).collect(), reply.text.clone())
}

fn assert_match(reply: &Reply, child: &Child) {
    assert_eq!(reply.total(), 1, "{}", reply.text);
    let entries = reply.json["entry"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{}", reply.text);
    assert_eq!(
        entries[0]["search"],
        json!({
            "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/match-grade", "valueCode": "certain"}],
            "mode": "match", "score": 1,
        })
    );
    let patient = &entries[0]["resource"];
    assert_eq!((&patient["resourceType"], &patient["id"]), (&json!("Patient"), &json!(child.nhs())));
    let status = &patient["identifier"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"];
    assert_eq!(status, "01");
}

fn assert_no_match(reply: &Reply) {
    assert_eq!(reply.total(), 0, "{}", reply.text);
    let entries = reply.json["entry"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["search"]["mode"]), (1, &json!("outcome")), "{}", reply.text);
    assert_eq!(entries[0]["resource"]["issue"][0]["severity"], "information");
}

on_both_stores! {
    async fn a_number_and_what_was_sent_with_it_belong_together(backend) {
        let app = TestApp::start(backend).await;
        let known = child(1);
        app.register(&known).await;

        let reply = confirm(&app, bare(&known)).await;
        assert_match(&reply, &known);
        assert!(!reply.text.contains(known.family) && !reply.text.contains(known.birth_date), "{}", reply.text);
        let named = json!([{"use": "usual", "family": "TESTCASE", "given": ["robin"]}]);
        assert_match(&confirm(&app, with(bare(&known), "/name", named)).await, &known);
        let family = json!([{"family": "Testcase"}]);
        assert_match(&confirm(&app, with(bare(&known), "/name", family)).await, &known);
        let official = json!([{"use": "old", "family": "Other"}, {"use": "official", "family": "Testcase"}]);
        assert_match(&confirm(&app, with(bare(&known), "/name", official)).await, &known);
        let mut wanted = about(bare(&known));
        wanted["parameter"].as_array_mut().unwrap().extend([
            json!({"name": "count", "valueInteger": 1}), json!({"name": "onlyCertainMatches", "valueBoolean": false}),
        ]);
        assert_match(&app.clinician().post(PATH, &wanted).await, &known);
        let encoded = app.clinician().post("/Patient/%24match", &about(bare(&known))).await;
        assert_match(&encoded, &known);

        for other in [
            with(bare(&known), "/birthDate", json!("2017-05-12")),
            with(bare(&known), "/name", json!([{"use": "usual", "family": "Example", "given": ["Robin"]}])),
            with(bare(&known), "/name", json!([{"use": "old", "family": "Testcase"}, {"use": "usual", "family": "Example"}])),
        ] {
            assert_no_match(&confirm(&app, other).await);
        }
    }

    /// The eight ways not to match have one answer, and cost the same.
    async fn nothing_tells_why_a_number_is_not_confirmed(backend) {
        statements::listen();
        let app = TestApp::start(backend).await;
        app.register(&child(1)).await;
        let mut asked = vec![
            ("birth date", with(bare(&child(1)), "/birthDate", json!("2017-05-12"))),
            ("name", with(bare(&child(1)), "/name", json!([{"family": "Example"}]))),
            ("both", with(with(bare(&child(1)), "/birthDate", json!("1990-05-12")), "/name", json!([{"family": "Example"}]))),
            ("unknown", bare(&child(9))),
        ];
        for (index, status, by) in [
            (2, NumberStatus::Restricted, None), (3, NumberStatus::Invalid, None), (4, NumberStatus::Retired, None),
            (5, NumberStatus::Superseded, Some(child(1).number)),
        ] {
            app.register_as(&child(index), status, by).await;
            asked.push((status.code(), bare(&child(index))));
        }
        // The chain and the caller's first row are there.
        confirm(&app, bare(&child(1))).await;
        let mut answers = Vec::new();
        for (why, patient) in asked {
            let (reply, statements) = app.statements_of(confirm(&app, patient)).await;
            assert_no_match(&reply);
            answers.push((why, whole(&reply), until_answered(statements)));
        }
        // The first of a number is counted, the same once more is not: the second of these is the plain one.
        let (_, first, _) = &answers[0];
        for (why, answer, statements) in &answers {
            assert_eq!(answer, first, "{why}");
            let as_the_first = if ["birth date", "name", "both"].contains(why) { &answers[0].2 } else { &answers[3].2 };
            assert_eq!(statements, as_the_first, "{why}");
        }
        let (matched, statements) = app.statements_of(confirm(&app, bare(&child(1)))).await;
        assert_match(&matched, &child(1));
        assert_eq!(until_answered(statements), answers[0].2, "a match costs what a mismatch does");
    }

    /// Twins, one with a plan: whatever was said of their numbers, answer and work are the same.
    async fn nothing_tells_whether_there_is_a_record(backend) {
        statements::listen();
        let app = TestApp::start(backend).await;
        confirm(&app, bare(&child(90))).await;
        let states = [
            None, Some("invalidated"), Some("retired"), Some("superseded"), Some("restricted"),
        ];
        for (index, state) in states.into_iter().enumerate() {
            let index = u32::try_from(index).unwrap() * 2;
            let (held, twin) = (child(index + 1), child(index + 2));
            app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
            app.register(&twin).await;
            for one in [&held, &twin] {
                match state {
                    None => {}
                    Some("restricted") => app.set_status(one.number, NumberStatus::Restricted).await,
                    Some(reason) => {
                        let mut said = vec![json!({"name": "reason", "valueCode": reason})];
                        if reason == "superseded" {
                            said.push(json!({"name": "replacedBy", "valueIdentifier":
                                {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": child(99).nhs()}}));
                        }
                        let path = format!("/Patient/{}/$inactive", one.nhs());
                        let said = json!({"resourceType": "Parameters", "parameter": said});
                        assert_eq!(app.administrator().post(&path, &said).await.status, 202);
                    }
                }
            }
            let mut answers = Vec::new();
            for one in [&held, &twin] {
                let (reply, statements) = app.statements_of(confirm(&app, bare(one))).await;
                assert_eq!(reply.total(), i64::from(state.is_none()), "{state:?}: {}", reply.text);
                let (status, headers, text) = whole(&reply);
                answers.push(((status, headers, text.replace(one.nhs(), "{nhs}")), until_answered(statements)));
            }
            assert_eq!(answers[0], answers[1], "{state:?}");
        }
    }

    /// With the national PDS too, where asking leaves a mark on numbers that are stored: after the answer.
    async fn what_pds_says_anew_is_raised_after_the_answer(backend) {
        statements::listen();
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (held, twin) = (child(1), child(2));
        for one in [&held, &twin, &child(3)] {
            pds.knows(one);
        }
        app.on_record_again(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        confirm(&app, bare(&child(3))).await;
        // The second time the mark is taken back: whether it was kept of a number must not show.
        for (round, restricted) in [false, true, false, true].into_iter().enumerate() {
            let mut costs = Vec::new();
            for one in [&held, &twin] {
                if restricted {
                    pds.says(&one.number, if round == 1 { PdsAnswer::Restricted } else { PdsAnswer::Invalidated });
                } else {
                    pds.knows(one);
                }
                let (reply, statements) = app.statements_of(confirm(&app, bare(one))).await;
                assert_eq!(reply.total(), i64::from(!restricted), "{}", reply.text);
                costs.push((reply.text.replace(one.nhs(), "{nhs}"), until_answered(statements)));
            }
            assert_eq!(costs[0], costs[1]);
        }
        assert_eq!(app.clinician().get(&held.care_team()).await.total(), 0, "it was raised");
        assert_eq!(app.number("select count(*) as n from outbox where kind = 'record-ended'"), 2);
    }

    async fn it_is_audited_once_and_is_no_access(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let before = app.stored();
        let named = with(bare(&held), "/name", json!([{"family": "Testcase", "given": ["Robin"]}]));

        let matched = confirm(&app, named.clone()).await;
        let missed = confirm(&app, with(named, "/birthDate", json!("2011-01-31"))).await;

        assert_eq!(app.stored(), before, "nothing is listed, nobody is told");
        for (reply, rows) in [(&matched, "1"), (&missed, "0")] {
            let events = events_of(&app, &request_id(reply)).await;
            assert_eq!(events.len(), 1, "{events:?}");
            let (event, text) = (&events[0], events[0].to_string());
            assert_eq!((&event["outcome"], &event["action"]), (&json!("0"), &json!("E")), "{text}");
            assert_eq!(event["meta"]["profile"][0], "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientQuery");
            assert!(text.contains(held.nhs()), "{text}");
            assert!(text.contains(&format!(r#"{{"type":"rows","valueString":"{rows}"}}"#)), "{text}");
        }
        assert_eq!(app.columns_holding("2011-01-31").await, Vec::<String>::new());
        let of_names = app.columns_holding("Testcase").await;
        assert!(!of_names.iter().any(|column| column.starts_with("audit_event")), "{of_names:?}");
        assert!(app.verify().is_whole());
    }

    async fn demographics_that_are_away_are_no_answer(backend) {
        let app = TestApp::start(backend).await;
        app.register(&child(1)).await;
        app.execute("alter table register_entry rename to register_away");

        let reply = app.clinician().post(PATH, &about(bare(&child(1)))).await;

        reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
        assert!(!reply.header("retry-after").is_empty());
        assert!(!reply.text.contains("CPF05"), "nothing was uploaded: {}", reply.text);
        app.execute("alter table register_away rename to register_entry");
        let events = events_of(&app, &request_id(&reply)).await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!((&events[0]["outcome"], &events[0]["outcomeDesc"]), (&json!("8"), &json!("UNABLE_TO_CALL_SERVICE")));
        assert!(events[0].to_string().contains(child(1).nhs()));
        assert_match(&confirm(&app, bare(&child(1))).await, &child(1));
    }

    async fn who_may_ask(backend) {
        let app = TestApp::start(backend).await;
        app.register(&child(1)).await;
        let asked = about(bare(&child(1)));
        for caller in [app.authority("Z9A"), app.auditor(), app.administrator(), app.caller("role=clinical", "activity=B0001")] {
            caller.post(PATH, &asked).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
        // It discloses nothing of CP-IS, so scheduled care may ask too, whatever the header says.
        for caller in [
            app.clinician(), app.device(), app.caller("role=clinical", "activity=B0170"),
            app.clinician().header("IsUnscheduledAccessEvent", "false"),
        ] {
            assert_match(&caller.post(PATH, &asked).await, &child(1));
        }
        let odd = app.clinician().header("IsUnscheduledAccessEvent", "perhaps").post(PATH, &asked).await;
        odd.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        app.clinician().get(PATH).await.assert_refused(405, "not-supported", "INVALID_VALUE");
    }

    async fn what_is_malformed_is_refused_with_every_fault(backend) {
        let app = TestApp::start(backend).await;
        let known = child(1);
        app.register(&known).await;
        let patient = |pointer: &str, value: Value| about(with(bare(&known), pointer, value));
        let more = |one: Value| {
            let mut asked = about(bare(&known));
            asked["parameter"].as_array_mut().unwrap().push(one);
            asked
        };
        let mut nothing = bare(&known);
        nothing.as_object_mut().unwrap().retain(|name, _| name == "resourceType");
        let number = |value: &str| json!([{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": value}]);
        let cases = [
            (json!({"resourceType": "Parameters"}), 1),
            (bare(&known), 1),
            (about(json!({"resourceType": "Organization", "name": "A"})), 1),
            (about(nothing), 2),
            (patient("/identifier", number("9990000011")), 1),
            (patient("/identifier", number("999 000 0018")), 1),
            (patient("/identifier", json!([number(known.nhs())[0], number(child(2).nhs())[0]])), 1),
            (patient("/identifier/0/system", json!("urn:other")), 1),
            (patient("/birthDate", json!("2017")), 1),
            (patient("/birthDate", json!("2017-05")), 1),
            (patient("/birthDate", json!("11/05/2017")), 1),
            (patient("/name", json!([{"text": "Robin Testcase"}])), 1),
            (patient("/name", json!([{"use": "nickname", "given": ["Bob"]}])), 1),
            (patient("/colour", json!("red")), 1),
            (more(json!({"name": "count", "valueInteger": 0})), 1),
            (more(json!({"name": "count", "valueInteger": -1})), 1),
            (more(json!({"name": "count", "valueString": "1"})), 1),
            (more(json!({"name": "onlyCertainMatches", "valueString": "true"})), 1),
            (more(json!({"name": "resource", "resource": bare(&known)})), 1),
            (more(json!({"name": "gender", "valueCode": "female"})), 1),
        ];
        for (body, issues) in cases {
            let reply = app.clinician().post(PATH, &body).await;
            assert_eq!(reply.status, 400, "{body}: {}", reply.text);
            assert_eq!(reply.json["issue"].as_array().unwrap().len(), issues, "{body}: {}", reply.text);
            assert!(!reply.text.contains("999000") && !reply.text.contains("Testcase"), "{}", reply.text);
        }
        let unknown = app.clinician().post("/Patient/$match?count=1", &about(bare(&known))).await;
        unknown.assert_refused(400, "not-supported", "INVALID_VALUE");
    }

    async fn the_operator_may_disclose_demographics(backend) {
        let app = TestApp::start_with(backend, |settings| settings.access.disclose_demographics = true).await;
        app.register(&child(1)).await;

        let reply = confirm(&app, bare(&child(1))).await;

        assert_match(&reply, &child(1));
        let patient = &reply.resources("Patient")[0];
        assert_eq!((&patient["name"][0]["family"], &patient["birthDate"]), (&json!("Testcase"), &json!("2017-05-11")));
    }
}

on_both_stores! {
    /// Whatever the national PDS says: it is that number's person, the one nothing, or nobody could be asked.
    async fn the_national_pds_is_asked(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let known = child(1);
        pds.knows(&known);
        assert_match(&confirm(&app, bare(&known)).await, &known);
        let wrong = confirm(&app, with(bare(&known), "/birthDate", json!("2017-05-12"))).await;
        assert_no_match(&wrong);
        for (index, answer) in [
            PdsAnswer::Minimal, PdsAnswer::Superseded(known.number), PdsAnswer::Restricted, PdsAnswer::VeryRestricted,
            PdsAnswer::Invalidated, PdsAnswer::Unknown,
        ].into_iter().enumerate() {
            let asked = child(u32::try_from(index).unwrap() + 10);
            pds.says(&asked.number, answer.clone());
            assert_eq!(whole(&confirm(&app, bare(&asked)).await), whole(&wrong), "{answer:?}");
            assert_eq!(pds.times_asked(&asked.number), 1, "{answer:?}");
        }
        for (index, answer) in [PdsAnswer::Malformed, PdsAnswer::ForAnother(known.number), PdsAnswer::Denied].into_iter().enumerate() {
            let asked = child(u32::try_from(index).unwrap() + 20);
            pds.says(&asked.number, answer.clone());
            let reply = app.clinician().post(PATH, &about(bare(&asked))).await;
            reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
            assert!(!reply.header("retry-after").is_empty(), "{answer:?}");
        }
    }
}

/// Where nobody is asked about numbers none can be confirmed, and none is promised to be.
#[actix_web::test]
async fn it_is_offered_only_where_numbers_are_traced() {
    for (mode, offered) in [(PdsMode::Register, true), (PdsMode::Off, false)] {
        let app = TestApp::start_with(Backend::Sqlite, |settings| settings.pds.mode = mode).await;
        let metadata = app.anonymous().get("/metadata").await;
        let description = app.anonymous().get("//openapi.json").await;
        assert_eq!(metadata.text.contains("OperationDefinition/cpis-match"), offered, "{mode:?}");
        let paths = description.json["paths"].as_object().unwrap();
        assert_eq!(paths.keys().any(|path| path.ends_with("/Patient/$match")), offered, "{mode:?}");
        let reply = app.clinician().post(PATH, &about(bare(&child(1)))).await;
        if offered {
            assert_no_match(&reply);
        } else {
            reply.assert_refused(400, "not-supported", "UNSUPPORTED_SERVICE");
            assert_eq!(events_of(&app, &request_id(&reply)).await.len(), 1);
        }
    }
}
