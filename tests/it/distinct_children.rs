//! The cap on distinct children: counted whatever is found and on whichever route, an alert once for an author and hour, a
//! refusal only where the operator asked for it (design 10).

use chrono::TimeDelta;
use cpis_gateway::config::Settings;
use serde_json::{Value, json};

use crate::{
    harness::{CPP, Child, Reply, TestApp, child, on_both_stores},
    refusals::{assert_tells_nothing_of, events_of, request_id},
};

fn capped(settings: &mut Settings) {
    settings.limits.distinct_children_per_hour = 3;
}

fn refusing(settings: &mut Settings) {
    capped(settings);
    settings.limits.refuse_over_cap = true;
}

/// The alerts in the audit, as an auditor finds them.
async fn alerts(app: &TestApp) -> Vec<Value> {
    let all = app.auditor().get("/AuditEvent?_count=200").await.resources("AuditEvent");
    let is_alert = |event: &Value| event.to_string().contains(r#""valueString":"distinct-children""#);
    all.into_iter().filter(is_alert).collect()
}

fn counted(app: &TestApp) -> i64 {
    app.number("select count(*) as n from asked_child")
}

async fn look_up(app: &TestApp, index: u32) -> Reply {
    app.clinician().get(&child(index).care_team()).await
}

fn question(child: &Child) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": {
        "resourceType": "Patient", "birthDate": child.birth_date,
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": child.nhs()}],
    }}]})
}

fn assert_over_cap(reply: &Reply, seconds: &str) {
    reply.assert_refused(429, "throttled", "TOO_MANY_REQUESTS");
    assert_eq!(reply.header("retry-after"), seconds);
}

on_both_stores! {
    async fn over_the_cap_an_alert_is_raised_once_and_nobody_is_refused(backend) {
        let app = TestApp::start_with(backend, capped).await;
        let held = child(1);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        // Found, not found, and confirmed: each number once, however often it is asked for.
        for _ in 0..3 {
            look_up(&app, 1).await;
            app.clinician().get(&format!("/Patient/{}", child(2).nhs())).await;
            app.clinician().post("/Patient/$match", &question(&child(3))).await;
            app.clinician().get(&child(1).history()).await;
        }
        assert_eq!((counted(&app), alerts(&app).await.len()), (3, 0));

        let over = app.clinician().post("/Patient/$match", &question(&child(4))).await;
        assert_eq!(over.status, 200, "{}", over.text);

        let raised = alerts(&app).await;
        assert_eq!(raised.len(), 1);
        let text = raised[0].to_string();
        assert!(text.contains("Practitioner/555000000101") && text.contains("ZZ101"), "{text}");
        assert!(!text.contains("999"), "no number: {text}");
        for index in 5..9 {
            assert_eq!(look_up(&app, index).await.status, 200);
        }
        assert_eq!((alerts(&app).await.len(), counted(&app)), (1, 8));
        let metrics = app.app.gateway.metrics.exposition(&[]).unwrap();
        assert!(metrics.contains(r#"cpis_distinct_children_over_cap_total{author="person"} 1"#), "{metrics}");
        assert_eq!(look_up(&app, 1).await.total(), 1);
        assert!(app.verify().is_whole());
    }

    async fn it_is_counted_for_each_author_by_itself_and_over_all_processes(backend) {
        let app = TestApp::start_with(backend, capped).await;
        let other = app.beside();
        for index in 1..=2 {
            look_up(&app, index).await;
            other.clinician().get(&child(index + 2).care_team()).await;
            other.clinician_named("555000000102").get(&child(index).care_team()).await;
        }
        assert_eq!((counted(&app), alerts(&app).await.len()), (6, 1), "four of one, two of another");
    }

    async fn with_the_hour_the_count_begins_anew_and_what_was_counted_goes(backend) {
        let app = TestApp::start_with(backend, capped).await;
        for index in 1..=5 {
            look_up(&app, index).await;
        }
        assert_eq!(alerts(&app).await.len(), 1);
        app.clock.advance(TimeDelta::minutes(60));
        for index in 1..=3 {
            look_up(&app, index).await;
        }
        assert_eq!((alerts(&app).await.len(), counted(&app)), (1, 8));
        look_up(&app, 4).await;
        assert_eq!(alerts(&app).await.len(), 2, "a new hour is a new alert");

        app.app.look_after_records().await.unwrap();

        let rows = "select count(*) as n from asked_alert";
        assert_eq!((counted(&app), app.number(rows)), (4, 1), "only this hour's are left");
    }

    async fn further_children_are_refused_where_the_operator_asked_for_it(backend) {
        let app = TestApp::start_with(backend, refusing).await;
        let held = child(4);
        app.on_record(&held, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let flag = app.authority("Z9A").get(&format!("/Flag?patient={}", held.nhs())).await.resources("Flag");
        let flag = flag[0]["id"].as_str().unwrap();
        app.clock.advance(TimeDelta::minutes(20));
        for index in 1..=3 {
            assert_eq!(look_up(&app, index).await.status, 200);
        }
        let (stored, unknown) = (app.stored(), "6f1d2c3b-0000-4000-8000-000000000001");
        let paths = [
            held.care_team(), held.history(), format!("/Patient/{}", held.nhs()), format!("/Patient/{}/$everything", held.nhs()),
            child(5).care_team(), format!("/Flag/{flag}"), format!("/Flag/{unknown}"),
        ];
        let mut answers = Vec::new();
        for path in &paths {
            let reply = app.clinician().get(path).await;
            assert_over_cap(&reply, "2400");
            assert_tells_nothing_of(&held, &reply);
            let events = events_of(&app, &request_id(&reply)).await;
            assert_eq!(events.len(), 1, "{path}");
            assert_eq!((&events[0]["outcome"], &events[0]["outcomeDesc"]), (&json!("4"), &json!("TOO_MANY_REQUESTS")), "{path}");
            answers.push(reply.text);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        for one in [&held, &child(5)] {
            assert_over_cap(&app.clinician().post("/Patient/$match", &question(one)).await, "2400");
        }
        assert_eq!((app.stored(), counted(&app), alerts(&app).await.len()), (stored, 3, 1), "nothing was done");
        // Who was asked for before may be asked for again; others are not held up.
        assert_eq!(look_up(&app, 2).await.status, 200);
        assert_eq!(app.clinician_named("555000000102").get(&held.care_team()).await.total(), 1);
        app.clock.advance(TimeDelta::minutes(40));
        assert_eq!(app.clinician().get(&held.care_team()).await.total(), 1);
        assert!(app.verify().is_whole());
    }

    async fn devices_have_a_cap_of_their_own(backend) {
        let app = TestApp::start_with(backend, |settings| {
            refusing(settings);
            settings.limits.distinct_children_per_hour = 1;
            settings.limits.distinct_children_per_hour_of_devices = 2;
        }).await;
        for index in 1..=2 {
            assert_eq!(app.device().get(&child(index).care_team()).await.status, 200);
        }
        assert_over_cap(&app.device().get(&child(3).care_team()).await, "3600");
        let raised = alerts(&app).await;
        assert!(raised.len() == 1 && raised[0].to_string().contains("Device/"), "{raised:?}");
    }

    async fn without_a_cap_nothing_is_counted(backend) {
        let app = TestApp::start_with(backend, |settings| settings.limits.distinct_children_per_hour = 0).await;
        for index in 1..=3 {
            look_up(&app, index).await;
        }
        app.device().get(&child(1).care_team()).await;
        assert_eq!(counted(&app), 0);
    }

    /// A caller without permission is refused before anything is counted.
    async fn who_may_not_ask_is_not_counted(backend) {
        let app = TestApp::start_with(backend, capped).await;
        app.caller("role=clinical", "activity=B0001").get(&child(1).care_team()).await;
        app.clinician().get("/CareTeam?patient=1").await;
        app.clinician().post("/Patient/$match", &json!({"resourceType": "Parameters"})).await;
        app.authority("Z9A").get(&format!("/Flag?patient={}", child(1).nhs())).await;
        assert_eq!(counted(&app), 0);
    }
}
