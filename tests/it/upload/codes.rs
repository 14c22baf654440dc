//! The record codes: which answers what, and that no answer repeats what was sent.

use cpis_gateway::cpis::types::child::NumberStatus;
use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, LAC, Reply, TestApp, UCP, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

const GOOD: u32 = 1;
const SUPERSEDED: u32 = 2;
const INVALID: u32 = 3;
const RESTRICTED: u32 = 4;
const UNKNOWN: u32 = 5;

async fn with_register(backend: Backend) -> TestApp {
    let app = TestApp::start(backend).await;
    app.register(&child(GOOD)).await;
    app.register_as(&child(SUPERSEDED), NumberStatus::Superseded, Some(child(GOOD).number)).await;
    app.register_as(&child(INVALID), NumberStatus::Invalid, None).await;
    app.register_as(&child(RESTRICTED), NumberStatus::Restricted, None).await;
    app
}

/// Every entry of the reply is refused with this one code.
fn assert_code(reply: &Reply, code: &str) {
    for answer in reply.answers() {
        assert_eq!(answer.status, 422, "{}", reply.text);
        let mut codes = answer.record_codes();
        codes.dedup();
        assert_eq!(codes, [code], "{}", reply.text);
    }
    assert_eq!(reply.file_code(), "CPF04");
}

on_both_stores! {
    async fn the_number_is_verified_against_the_register(backend) {
        let app = with_register(backend).await;
        for (index, code) in [(UNKNOWN, "CPR01"), (INVALID, "CPR01"), (RESTRICTED, "CPR02"), (SUPERSEDED, "CPR05")] {
            let sent = child(index);
            let entries = [sent.put_patient(), sent.post_flag("Z9A", CPP, "2026-09-14", None)];
            let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
            assert_code(&reply, code);
            // The replacement isn't told: the authority traces the child itself.
            for number in [sent.nhs(), child(GOOD).nhs()] {
                assert!(!reply.text.contains(number), "{}", reply.text);
            }
        }
    }

    async fn birth_date_family_and_given_names_must_agree(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        for (pointer, value, place) in [
            ("/resource/birthDate", json!("2016-05-11"), "birthDate"),
            ("/resource/name/0/family", json!("Testcases"), "name.family"),
            ("/resource/name/0/given", json!(["Sky"]), "name.given"),
            // There are people with one name; this isn't one of them.
            ("/resource/name/0/given", Value::Null, "name.given"),
        ] {
            let patient = with(robin.put_patient(), pointer, value.clone());
            let reply = app.authority("Z9A").post("", &bundle("batch", &[patient])).await;
            assert_code(&reply, "CPR03");
            assert_eq!(reply.answers()[0].expressions(), [format!("Bundle.entry[0].resource.{place}")]);
            for told in ["2016-05-11", "2017-05-11", "Testcase", "Sky", "Robin"] {
                assert!(!reply.text.contains(told), "{}", reply.text);
            }
        }
        for family in ["TESTCASE", "testcase", "Téstcase", "Tést-Case", " Testcase "] {
            let patient = with(robin.put_patient(), "/resource/name/0/family", json!(family));
            let reply = app.authority("Z9A").post("", &bundle("batch", &[patient])).await;
            assert!(reply.answers()[0].is_loaded(), "{family}: {}", reply.text);
        }
        for given in [json!(["ROBIN"]), json!(["Róbin", "Sky"]), json!(["Robin Sky"]), json!([" robin "])] {
            let patient = with(robin.put_patient(), "/resource/name/0/given", given.clone());
            let reply = app.authority("Z9A").post("", &bundle("batch", &[patient])).await;
            assert!(reply.answers()[0].is_loaded(), "{given}: {}", reply.text);
        }
    }

    async fn a_number_that_cannot_be_one_is_told_as_such(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        for bad in ["9990000019", "999000001", "9999999999", "ABC123", "99900000181", "999-000-0018"] {
            let in_url = with(entry("PUT", &format!("Patient/{bad}"), robin.patient()), "/resource/id", json!(bad));
            let in_reference = with(robin.post_flag("Z9A", CPP, "2026-09-14", None), "/resource/subject", json!({"reference": format!("Patient/{bad}")}));
            let in_identifier = with(robin.post_flag("Z9A", CPP, "2026-09-14", None), "/resource/subject",
                json!({"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": bad}}));
            let in_criteria = entry("DELETE", &format!("Flag?patient={bad}&code={CPP}&identifier=CPP-1"), Value::Null);
            let only_identifier = with(robin.put_patient(), "/resource/identifier/0/value", json!(bad));
            for one in [in_url, in_reference, in_identifier, in_criteria, only_identifier] {
                let reply = app.authority("Z9A").post("", &bundle("batch", std::slice::from_ref(&one))).await;
                assert_code(&reply, "CPR04");
                assert!(!reply.text.contains(bad), "{}", reply.text);
                // Letters are told of in words of their own.
                assert!(bad != "ABC123" || reply.text.contains("old style"), "{}", reply.text);
            }
        }
    }

    async fn the_rules_of_a_plan_are_told_where_they_are_broken(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        let flag = |code, start, end| robin.post_flag("Z9A", code, start, end);
        for (bad, place) in [
            (flag(CPP, "2026-11-24", None), "period.start"),
            (flag(CPP, "2026-09-14", Some("2026-09-13")), "period"),
            // 366 days before 2026-11-23; 365 is still shared.
            (flag(CPP, "2024-09-14", Some("2025-11-22")), "period.end"),
            (flag(LAC, "2026-09-14", Some("2035-05-12")), "period.end"),
            (with(flag(CPP, "2026-09-14", Some("2026-10-14")), "/resource/period/start", Value::Null), "period.start"),
            (with(flag(CPP, "2026-09-14", None), "/resource/author/identifier/value", json!("Z9B")), "author"),
            (with(flag(CPP, "2026-09-14", None), "/resource/code/coding/0/code", json!("1234")), "code.coding[0].code"),
        ] {
            let reply = app.authority("Z9A").post("", &bundle("batch", &[robin.put_patient(), bad])).await;
            assert_code(&reply, "CPR07");
            let places = reply.answers()[1].expressions();
            assert_eq!(places.first(), Some(&format!("Bundle.entry[1].resource.{place}")), "{}", reply.text);
        }
        for good in [flag(CPP, "2026-11-23", None), flag(LAC, "2024-09-14", Some("2025-11-23"))] {
            let reply = app.authority("Z9A").post("", &bundle("batch", &[robin.put_patient(), good])).await;
            assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
        }
    }

    async fn one_open_plan_of_a_kind_and_a_name_for_each_unborn_child(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        let send = |entries: Vec<Value>| app.authority("Z9A").post("", &bundle("batch", &entries));
        let first = send(vec![robin.put_patient(), robin.post_flag("Z9A", CPP, "2026-09-14", None), robin.post_flag("Z9A", UCP, "2026-09-14", None)]).await;
        assert_eq!(first.file_code(), "CPF02", "{}", first.text);

        assert_code(&send(vec![robin.post_flag("Z9A", CPP, "2026-10-14", None)]).await, "CPR07");
        assert_code(&send(vec![robin.post_flag("Z9A", UCP, "2026-10-14", None)]).await, "CPR07");
        let named = |id: &str| json!({"resource": with_local_id(robin.flag("Z9A", UCP, "2026-10-14", None), id),
                                      "request": {"method": "POST", "url": "Flag"}});
        let twin = send(vec![named("UCP-2")]).await;
        assert_eq!(twin.statuses(), [201], "{}", twin.text);
        // The same start means the same plan: it is corrected, and takes the local id.
        let again = json!({"resource": with_local_id(robin.flag("Z9A", CPP, "2026-09-14", None), "CPP-1"),
                           "request": {"method": "POST", "url": "Flag"}});
        let updated = send(vec![again]).await;
        assert_eq!(updated.statuses(), [200], "{}", updated.text);
        assert_eq!(updated.answers()[0].id(), first.answers()[1].id());
    }

    async fn a_child_must_be_sent_before_its_plans_alone(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        let plan = bundle("batch", &[robin.post_flag("Z9A", CPP, "2026-09-14", None)]);
        assert_code(&app.authority("Z9A").post("", &plan).await, "CPR07");
        app.authority("Z9A").post("", &bundle("batch", &[robin.put_patient()])).await;
        assert_eq!(app.authority("Z9A").post("", &plan).await.statuses(), [201]);
        // What another authority sent is no help to this one.
        assert_code(&app.authority("Z9B").post("", &bundle("batch", &[robin.post_flag("Z9B", CPP, "2026-09-14", None)])).await, "CPR07");
    }

    async fn an_end_or_a_delete_is_taken_whatever_became_of_the_number(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        let plan = |end| with_local_id(robin.flag("Z9A", CPP, "2026-09-14", end), "CPP-1");
        let put = |end| entry("PUT", &robin.criteria("CPP-1"), plan(end));
        let send = |entries: Vec<Value>| app.authority("Z9A").post("", &bundle("batch", &entries));
        assert_eq!(send(vec![robin.put_patient(), put(None)]).await.file_code(), "CPF02");
        for status in ["restricted", "invalid", "superseded"] {
            let replaced = if status == "superseded" { format!("'{}'", child(UNKNOWN).nhs()) } else { "null".to_owned() };
            let number = robin.nhs();
            app.execute(&format!("update register_entry set status = '{status}', replaced_by = {replaced} where nhs_number = '{number}'"));
            let day = match status { "restricted" => "2026-11-20", "invalid" => "2026-11-21", _ => "2026-11-22" };
            let ended = send(vec![put(Some(day))]).await;
            assert_eq!(ended.statuses(), [200], "{status}: {}", ended.text);
            let reopened = send(vec![put(None)]).await;
            assert_eq!(reopened.statuses(), [422], "{status}: {}", reopened.text);
        }
        let gone = send(vec![entry("DELETE", &robin.criteria_with_code("CPP-1", CPP), Value::Null)]).await;
        assert_eq!(gone.statuses(), [204], "{}", gone.text);
    }

    /// Wherever a number, a name or a birth date stands in a refused body, no answer repeats it.
    async fn no_refusal_repeats_what_was_sent(backend) {
        let app = with_register(backend).await;
        let robin = child(UNKNOWN);
        let nhs = robin.nhs();
        let (patient, flag) = (robin.put_patient(), robin.post_flag("Z9A", CPP, "2026-09-14", None));
        let mut bodies = Vec::new();
        for (entry, pointer) in [
            (&patient, "/resource/gender"), (&patient, "/resource/birthDate"), (&patient, "/resource/name"),
            (&patient, "/resource/9990000506"), (&patient, "/resource/telecom"), (&patient, "/fullUrl"),
            (&patient, "/request/url"), (&patient, "/request/method"), (&patient, "/request/ifMatch"),
            (&patient, "/9990000506"), (&patient, "/resource/resourceType"), (&patient, "/resource/id"),
            (&flag, "/resource/status"), (&flag, "/resource/code/coding/0/code"), (&flag, "/resource/period/start"),
            (&flag, "/resource/period/end"), (&flag, "/resource/subject/reference"), (&flag, "/resource/author/identifier/value"),
            (&flag, "/resource/extension"), (&flag, "/resource/identifier"), (&flag, "/request/ifNoneExist"),
            (&flag, "/resource/period/9990000506"),
        ] {
            for value in [json!(nhs), json!(nhs.parse::<i64>().expect("digits")), json!({nhs: robin.family}), json!([nhs, robin.birth_date])] {
                bodies.push(with(entry.clone(), pointer, value));
            }
        }
        let texts = [nhs, "9990000506", robin.family, robin.given, robin.birth_date];
        for body in bodies {
            for kind in ["batch", "transaction"] {
                let reply = app.authority("Z9A").post("", &bundle(kind, std::slice::from_ref(&body))).await;
                assert!(matches!(reply.status, 200 | 400 | 412 | 422), "{body}: {}", reply.text);
                assert!(texts.iter().all(|text| !reply.text.contains(text)), "{body}: {}", reply.text);
                if reply.status == 200 {
                    assert_eq!(reply.file_code(), "CPF04", "{body}: {}", reply.text);
                }
            }
        }
        for broken in [format!("{{\"{nhs}\":1,\"{nhs}\":2}}"), format!("{{\"resourceType\":\"Bundle\",\"type\":\"{nhs}"), nhs.to_owned()] {
            let reply = app.authority("Z9A").send("POST", "", Some(("application/fhir+json", broken.into_bytes()))).await;
            assert_eq!(reply.status, 400, "{}", reply.text);
            assert!(texts.iter().all(|text| !reply.text.contains(text)), "{}", reply.text);
        }
    }

    /// Numbers that can't be verified now are no reason to refuse a record: the file is to be sent again.
    async fn without_the_register_the_file_is_to_be_sent_again(backend) {
        let app = with_register(backend).await;
        let robin = child(GOOD);
        let held = app.effects().await;
        app.execute("alter table register_entry rename to register_away");
        for kind in ["batch", "transaction"] {
            let reply = app.authority("Z9A").post("", &bundle(kind, &[robin.put_patient()])).await;
            reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
            assert_eq!(reply.file_code(), "CPF05", "{}", reply.text);
            assert!(!reply.header("retry-after").is_empty());
        }
        app.execute("alter table register_away rename to register_entry");
        assert_eq!(app.effects().await, held);
        let again = app.authority("Z9A").post("", &bundle("batch", &[robin.put_patient()])).await;
        assert_eq!(again.file_code(), "CPF02", "{}", again.text);
    }
}
