//! An authority falls silent: an alert once and again each day, and a note on everything that is shown of it.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::look_after;
use crate::harness::{CPP, LAC, TestApp, child, noon, on_both_stores};

fn confirmed(app: &TestApp, ods: &str, hours_ago: i64) {
    let at = (app.clock.now() - TimeDelta::hours(hours_ago)).timestamp_millis();
    app.execute(&format!("update organization set confirmed_ms = {at} where ods = '{ods}'"));
}

/// The notes of every CareTeam in an answer, by authority.
fn notes(value: &Value) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    match value {
        Value::Object(members) => {
            if members.get("resourceType") == Some(&json!("CareTeam")) {
                let ods = value["managingOrganization"][0]["identifier"]["value"].as_str().unwrap().to_owned();
                found.push((ods, value["note"][0]["text"].as_str().map(str::to_owned)));
            }
            members.values().for_each(|member| found.extend(notes(member)));
        }
        Value::Array(items) => items.iter().for_each(|item| found.extend(notes(item))),
        _ => {}
    }
    found
}

async fn alerts(app: &TestApp) -> usize {
    app.app.look_after_records().await.unwrap().alerts
}

on_both_stores! {
    async fn its_care_teams_say_when_they_were_last_confirmed_on_every_route(backend) {
        let app = TestApp::start(backend).await;
        let robin = child(1);
        app.on_record(&robin, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", LAC, "2026-10-01", None)]).await;
        confirmed(&app, "Z9A", 36);
        confirmed(&app, "Z9B", 35);
        let nhs = robin.nhs();
        let id = app.clinician().get(&robin.care_team()).await.resources("CareTeam")[0]["id"].clone();
        let id = id.as_str().unwrap();
        let paths = [robin.care_team(), format!("/CareTeam/{id}"), format!("/Patient/{nhs}/$everything"),
                     format!("/PatientFlag?patient={nhs}"), format!("/Patient?identifier={nhs}&_revinclude=CareTeam:patient"),
                     format!("/CareTeam?patient={nhs}&_include=CareTeam:patient")];
        let said = "The local authority last confirmed this record on 22 November 2026.";
        for path in paths {
            let reply = app.clinician().get(&path).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            let found = notes(&reply.json);
            assert!(found.contains(&("Z9A".to_owned(), Some(said.to_owned()))), "{path}: {found:?}");
            assert!(found.iter().all(|(ods, note)| (ods == "Z9A") == note.is_some()), "{path}: {found:?}");
        }
        // One that has never been confirmed says nothing.
        app.execute("update organization set confirmed_ms = null");
        let reply = app.clinician().get(&robin.care_team()).await;
        assert!(notes(&reply.json).iter().all(|(_, note)| note.is_none()), "{}", reply.text);
    }

    async fn the_day_is_londons(backend) {
        let app = TestApp::start(backend).await;
        app.on_record(&child(1), &[("Z9A", CPP, "2026-05-01", None)]).await;
        app.execute(&format!("update organization set confirmed_ms = {} where ods = 'Z9A'",
                             "2026-06-30T23:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis()));
        let reply = app.clinician().get(&child(1).care_team()).await;
        assert!(reply.text.contains("on 1 July 2026."), "{}", reply.text);
    }

    async fn an_alert_is_raised_once_and_again_each_day(backend) {
        let app = TestApp::start(backend).await;
        // Never sent, a hospital, a closed authority: none of them can fall silent.
        app.execute("update organization set active = false where ods = 'Z9C'");
        confirmed(&app, "Z9C", 100);
        confirmed(&app, "ZZ101", 100);
        confirmed(&app, "Z9A", 35);
        assert_eq!(alerts(&app).await, 0);
        app.clock.advance(TimeDelta::hours(1));
        let other = app.beside();
        assert_eq!((alerts(&app).await, alerts(&app).await, alerts(&other).await), (1, 0, 0));
        let silent = app.app.gateway.silent_authorities().await.unwrap();
        assert_eq!(silent.iter().map(|one| one.ods.as_str()).collect::<Vec<_>>(), ["Z9A"]);
        app.clock.advance(TimeDelta::hours(24) - TimeDelta::milliseconds(1));
        assert_eq!(alerts(&app).await, 0);
        app.clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(alerts(&app).await, 1);
        // It is heard, and falls silent again.
        confirmed(&app, "Z9A", 0);
        app.clock.advance(TimeDelta::hours(30));
        assert_eq!(alerts(&app).await, 0);
        app.clock.advance(TimeDelta::hours(6));
        assert_eq!(alerts(&app).await, 1);
        look_after(&app).await;
    }

    async fn administrators_are_told_who_is_silent(backend) {
        let app = TestApp::start(backend).await;
        assert_eq!(app.anonymous().get("//_status").await.json["checks"]["authorities"], json!({"status": "pass"}));
        confirmed(&app, "Z9B", 48);
        for caller in [app.anonymous(), app.authority("Z9B"), app.clinician(), app.anonymous().with_token("a.b.c")] {
            let reply = caller.get("//_status").await;
            assert_eq!((reply.status, &reply.json["checks"]["authorities"]), (200, &json!({"status": "warn"})));
        }
        let reply = app.administrator().get("//_status").await;
        let last = (noon() - TimeDelta::hours(48)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let told = reply.json["checks"]["authorities"]["output"].as_str().unwrap();
        assert!(told.contains(&format!("Z9B since {last}")), "{told}");
    }
}
