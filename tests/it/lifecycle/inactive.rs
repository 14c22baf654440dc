//! `Patient/{nhs}/$inactive`: who is told of what, and that the administrator learns nothing.

use actix_web::rt::spawn;
use cpis_gateway::cpis::types::child::NumberStatus;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::told;
use crate::harness::{CPP, Child, LAC, Reply, TestApp, child, on_both_stores, upload::with};

fn parameters(reason: &str, replaced_by: Option<&Child>) -> Value {
    let mut all = vec![json!({"name": "reason", "valueCode": reason})];
    all.extend(replaced_by.map(|by| {
        json!({"name": "replacedBy",
               "valueIdentifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": by.nhs()}})
    }));
    json!({"resourceType": "Parameters", "parameter": all})
}

async fn inactive(app: &TestApp, child: &Child, reason: &str, replaced_by: Option<&Child>) -> Reply {
    let path = format!("/Patient/{}/$inactive", child.nhs());
    app.administrator().post(&path, &parameters(reason, replaced_by)).await
}

async fn taken(app: &TestApp, child: &Child, reason: &str, replaced_by: Option<&Child>) {
    let reply = inactive(app, child, reason, replaced_by).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
}

async fn seen(app: &TestApp, child: &Child) -> i64 {
    app.clinician().get(&child.care_team()).await.total()
}

on_both_stores! {
    async fn each_holder_is_told_once_and_the_number_is_no_record_any_more(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", LAC, "2026-10-01", None)]).await;
        let nhs = held.nhs();

        for _ in 0..3 {
            taken(&app, &held, "invalidated", None).await;
        }

        let expected = ["Z9A", "Z9B"].map(|ods| format!("{ods} inactive-number invalidated {nhs}"));
        assert_eq!(told(&app), expected);
        assert_eq!(seen(&app, &held).await, 0);
        taken(&app, &held, "retired", None).await;
        taken(&app, &held, "retired", None).await;
        assert_eq!(told(&app).len(), 4, "{:?}", told(&app));
        assert_eq!(told(&app)[3], format!("Z9B inactive-number retired {nhs}"));
    }

    async fn a_superseded_number_names_its_replacement_and_both_find_the_plans(backend) {
        let app = TestApp::start(backend).await;
        let (old, new, newest) = (child(1), child(2), child(3));
        app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record(&new, &[("Z9B", LAC, "2026-10-01", None)]).await;

        taken(&app, &old, "superseded", Some(&new)).await;
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (2, 2));
        taken(&app, &new, "superseded", Some(&newest)).await;

        let mut expected = vec![format!("Z9A inactive-number superseded {} by {}", old.nhs(), new.nhs())];
        expected.push(format!("Z9B inactive-number superseded {} by {}", new.nhs(), newest.nhs()));
        assert_eq!(told(&app), expected, "each is told of its own number only");
        assert_eq!([seen(&app, &old).await, seen(&app, &new).await, seen(&app, &newest).await], [2, 2, 2]);
        // Another replacement than was said first is a change.
        taken(&app, &old, "superseded", Some(&newest)).await;
        taken(&app, &old, "superseded", Some(&newest)).await;
        expected.push(format!("Z9A inactive-number superseded {} by {}", old.nhs(), newest.nhs()));
        assert_eq!(told(&app), expected);
        assert_eq!(app.number("select count(*) as n from alias"), 2);
    }

    async fn a_loop_and_a_retired_number_are_passed_over_without_a_word(backend) {
        let app = TestApp::start(backend).await;
        let (old, new, retired) = (child(1), child(2), child(3));
        app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record(&retired, &[("Z9A", CPP, "2026-09-14", None)]).await;
        taken(&app, &old, "superseded", Some(&new)).await;
        taken(&app, &retired, "retired", None).await;
        let before = (told(&app), app.stored());

        for (number, by) in [(&new, &old), (&retired, &new), (&new, &retired), (&old, &retired)] {
            taken(&app, number, "superseded", Some(by)).await;
        }

        assert_eq!((told(&app), app.stored()), before);
        assert_eq!(app.number("select count(*) as n from alias"), 1);
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await, seen(&app, &retired).await), (1, 1, 0));
    }

    async fn a_retired_number_loses_its_alias_and_never_gets_one(backend) {
        let app = TestApp::start(backend).await;
        let (old, new) = (child(1), child(2));
        app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
        taken(&app, &old, "superseded", Some(&new)).await;
        taken(&app, &old, "retired", None).await;

        assert_eq!(app.number("select count(*) as n from alias"), 0);
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (0, 0));
        assert!(told(&app)[1].ends_with(&format!("retired {}", old.nhs())), "no replacement: {:?}", told(&app));
    }

    async fn who_has_no_part_in_the_child_any_more_is_told_nothing(backend) {
        let app = TestApp::start(backend).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", CPP, "2024-01-01", Some("2025-12-01")),
                               ("Z9C", LAC, "2026-09-14", None)]).await;
        let own = app.authority("Z9C").get(&format!("/Flag?patient={}", held.nhs())).await.resources("Flag");
        app.authority("Z9C").delete(&format!("/Flag/{}", own[0]["id"].as_str().unwrap())).await;
        app.clock.set("2026-12-02T00:00:00Z".parse().unwrap());

        taken(&app, &held, "retired", None).await;

        assert_eq!(told(&app), [format!("Z9A inactive-number retired {}", held.nhs())]);
    }

    async fn the_answer_is_the_same_for_a_child_on_record_and_for_nobody(backend) {
        let app = TestApp::start(backend).await;
        let (held, nobody, by, by_held) = (child(1), child(2), child(3), child(4));
        for child in [&held, &by_held] {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        }
        let cases = [("invalidated", None), ("superseded", Some(&by)), ("superseded", Some(&by_held)), ("retired", None),
                     ("superseded", Some(&by))];
        for (reason, replaced_by) in cases {
            let mut answers = Vec::new();
            for child in [&held, &nobody] {
                let path = format!("/Patient/{}/$inactive", child.nhs());
                let request = app.administrator().header("X-Request-ID", "60E0B220-8136-4CA5-AE46-1D97EF59D068");
                let reply = request.post(&path, &parameters(reason, replaced_by)).await;
                let headers = reply.headers.iter().filter(|(name, _)| name.as_str() != "date");
                let headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
                answers.push((reply.status, headers, reply.text));
            }
            assert_eq!(answers[0], answers[1], "{reason}");
            assert_eq!(answers[0].0, 202);
        }
        assert!(!app.administrator().get(&held.care_team()).await.text.contains(held.nhs()));
    }

    async fn an_upload_under_a_number_that_was_given_up_is_refused(backend) {
        let app = TestApp::start(backend).await;
        for (index, reason, by, code) in [(1, "retired", None, "CPR01"), (2, "invalidated", None, "CPR01"),
                                          (3, "superseded", Some(child(9)), "CPR05")] {
            let held = child(index);
            app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
            taken(&app, &held, reason, by.as_ref()).await;
            let renamed = app.authority("Z9A").post("/Flag", &held.flag("Z9A", LAC, "2026-10-01", None)).await;
            assert_eq!((renamed.status, renamed.record_codes()), (422, vec![code.to_owned()]), "{}", renamed.text);
            // Another authority is answered the same, though it never sent the child.
            let entries = [held.put_patient(), held.post_flag("Z9B", CPP, "2026-10-01", None)];
            let other = app.authority("Z9B").post("", &crate::harness::bundle("batch", &entries)).await;
            assert_eq!(other.answers()[0].record_codes(), [code], "{}", other.text);
            // An end and a deletion are taken whatever has become of the number (design 6).
            let own = app.authority("Z9A").get(&format!("/Flag?patient={}", held.nhs())).await.resources("Flag");
            let ended = with(own[0].clone(), "/period/end", json!("2026-11-20"));
            let path = format!("/Flag/{}", own[0]["id"].as_str().unwrap());
            assert_eq!(app.authority("Z9A").put(&path, &ended).await.status, 200);
            assert_eq!(app.authority("Z9A").delete(&path).await.status, 204);
        }
    }

    async fn it_is_audited_with_what_was_said(backend) {
        let app = TestApp::start(backend).await;
        taken(&app, &child(1), "retired", None).await;

        let events = app.audit_of(child(1).nhs()).await;

        assert_eq!(events.len(), 1, "{events:?}");
        let text = events[0].to_string();
        assert!(text.contains(r#""type":"change","valueString":"retired""#), "{text}");
        assert_eq!(events[0]["outcome"], "0");
        assert!(app.verify().is_whole());
    }

    async fn look_ups_meanwhile_see_before_or_after(backend) {
        let app = TestApp::start(backend).await;
        let (old, new) = (child(1), child(2));
        app.on_record(&old, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record(&new, &[("Z9B", LAC, "2026-10-01", None)]).await;
        let other = app.beside();
        let mut looks = Vec::new();
        for index in 0..24 {
            let (app, asked) = (if index % 2 == 0 { &app } else { &other }, if index % 3 == 0 { &old } else { &new });
            let user = format!("5550000{index:05}");
            looks.push(spawn(app.clinician_at("ZZ101", &user).get(&asked.care_team())));
            if index == 12 {
                taken(app, &old, "superseded", Some(&new)).await;
            }
        }
        for look in join_all(looks).await {
            let reply = look.unwrap();
            assert!((1..=2).contains(&reply.total()), "{}", reply.text);
            let mentioned = reply.text.contains("was superseded") || reply.text.contains("replaced");
            assert!(reply.total() == 2 || !mentioned, "{}", reply.text);
        }
        assert_eq!((seen(&app, &old).await, seen(&app, &new).await), (2, 2));
        // Listings and outbox agree with what each access was decided on.
        assert!(app.verify().is_whole());
    }

    async fn what_is_malformed_is_refused_with_every_fault(backend) {
        let app = TestApp::start(backend).await;
        let (one, by) = (child(1), child(2));
        let path = format!("/Patient/{}/$inactive", one.nhs());
        let good = parameters("superseded", Some(&by));
        let cases = [
            (json!({"resourceType": "Parameters"}), 1),
            (json!({"resourceType": "Parameters", "parameter": [{"name": "why", "valueCode": "retired"}]}), 2),
            (parameters("dead", None), 1),
            (parameters("superseded", None), 1),
            (parameters("superseded", Some(&one)), 1),
            (parameters("retired", Some(&by)), 1),
            (parameters("invalidated", Some(&by)), 1),
            (with(good.clone(), "/parameter/1/valueIdentifier/value", json!("9990000011")), 1),
            (with(good.clone(), "/parameter/1/valueIdentifier/system", json!("urn:other")), 1),
            (with(good.clone(), "/parameter/0/valueCode", json!("dead")), 1),
            (with(good.clone(), "/parameter/1/name", json!("reason")), 3),
        ];
        for (body, issues) in cases {
            let reply = app.administrator().post(&path, &body).await;
            assert_eq!(reply.status, 400, "{body}: {}", reply.text);
            assert_eq!(reply.json["issue"].as_array().unwrap().len(), issues, "{body}: {}", reply.text);
            assert!(!reply.text.contains(by.nhs()), "{}", reply.text);
        }
        let bad = app.administrator().post("/Patient/9990000011/$inactive", &good).await;
        bad.assert_refused(400, "invalid", "INVALID_SEARCH_DATA");
        for caller in [app.clinician(), app.authority("Z9A"), app.auditor()] {
            caller.post(&path, &good).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
        app.administrator().get(&path).await.assert_refused(405, "not-supported", "INVALID_VALUE");
        let person = app.read(move |conn| cpis_gateway::store::person::find(conn, &one.number)).await;
        assert!(person.is_none_or(|person| person.status == NumberStatus::Current));
    }
}
