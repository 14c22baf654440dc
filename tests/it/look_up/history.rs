//! The access history over HTTP: the listing rule's edges, the 25 rows, devices, sensitive organisations, silent reads.

use chrono::TimeDelta;
use cpis_gateway::config::ScheduledCare;
use serde_json::Value;

use crate::harness::{CPP, Reply, TestApp, child, on_both_stores};

/// SDS user ids of the history's rows, newest first.
fn users(reply: &Reply) -> Vec<String> {
    let roles = reply.resources("PractitionerRole");
    let user = |role: &Value| role["practitioner"]["identifier"]["value"].as_str().unwrap_or_default().to_owned();
    roles.iter().map(user).collect()
}

fn outbox_of(app: &TestApp, ods: &str) -> i64 {
    app.number(&format!(
        "select count(*) as n from outbox join organization on organization.id = authority_id where ods = '{ods}'"
    ))
}

on_both_stores! {
    async fn a_repeat_within_24_hours_is_not_listed_and_moves_nothing(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let rows = |app: &TestApp| (app.number("select count(*) as n from access"), outbox_of(app, "Z9A"));

        app.clinician().get(&child.care_team()).await;
        app.clock.advance(TimeDelta::hours(23));
        app.clinician().get(&child.care_team()).await;
        app.clock.advance(TimeDelta::milliseconds(3_600_000 - 1));
        app.clinician().get(&child.care_team()).await;
        assert_eq!(rows(&app), (1, 1));
        app.clock.advance(TimeDelta::milliseconds(1));
        app.clinician().get(&child.care_team()).await;
        assert_eq!(rows(&app), (2, 2), "exactly 24 hours after the listed one is new");

        let reply = app.clinician().get(&child.history()).await;
        assert_eq!(users(&reply), ["555000000101", "555000000101"]);
        // Every look is in the security audit.
        let audited = "select count(*) as n from audit_event where agent = '555000000101'";
        assert_eq!(app.number(audited), 5);
    }

    async fn each_authority_is_told_by_its_own_window(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().get(&child.care_team()).await;
        app.clock.advance(TimeDelta::hours(2));
        app.on_record_again(&child, &[("Z9B", CPP, "2026-11-23", None)]).await;

        app.clinician().get(&child.care_team()).await;

        assert_eq!((outbox_of(&app, "Z9A"), outbox_of(&app, "Z9B")), (1, 1));
        assert_eq!(app.clinician().get(&child.history()).await.total(), 2);
        // Each authority sees only what was listed for it.
        for ods in ["Z9A", "Z9B"] {
            assert_eq!(app.authority(ods).get(&child.history()).await.total(), 1, "{ods}");
        }
        assert_eq!(app.authority("Z9C").get(&child.history()).await.total(), 0);
    }

    async fn the_callers_own_row_is_always_among_the_25(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().get(&child.care_team()).await;
        for other in 1..=30 {
            app.clinician_at("ZZ121", &format!("{other:012}")).get(&child.care_team()).await;
        }

        let own = app.clinician().get(&child.history()).await;

        assert_eq!((own.total(), own.resources("AuditEvent").len()), (25, 25));
        let mut expected: Vec<String> = (7..=30).rev().map(|other| format!("{other:012}")).collect();
        expected.push("555000000101".to_owned());
        assert_eq!(users(&own), expected);
        // In every call that shows it.
        let flags = app.clinician().get(&format!("/Flag?patient={}&_revinclude=AuditEvent:patient", child.nhs())).await;
        assert_eq!(users(&flags), expected);
        let of_newest = app.clinician_at("ZZ121", "000000000030").get(&child.history()).await;
        assert_eq!(users(&of_newest), (6..=30).rev().map(|other| format!("{other:012}")).collect::<Vec<_>>());
    }

    async fn the_same_user_at_another_organisation_is_another_author(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        for organization in ["ZZ101", "ZZ121", "ZZ101"] {
            app.clinician_at(organization, "000000000001").get(&child.care_team()).await;
        }
        assert_eq!(app.number("select count(*) as n from access"), 2);
    }

    async fn a_device_is_listed_with_who_answers_for_it(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        let teams = app.device().header("IsUnscheduledAccessEvent", "true").get(&child.care_team()).await;
        let reply = app.device().get(&child.history()).await;

        assert_eq!((teams.status, teams.total()), (200, 1), "{}", teams.text);
        insta::assert_json_snapshot!("device_history", reply.settled());
        assert_eq!(outbox_of(&app, "Z9A"), 1);
        let audited = app.audit_of(child.nhs()).await;
        insta::assert_json_snapshot!("device_audit", audited[0]["agent"], {
            "[].who.identifier.value" => "[client]", "[].network.address" => "[address]", "[].policy[]" => "[token]",
        });
    }

    async fn what_a_sensitive_organisation_is_stays_with_the_auditors(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        let own = app.clinician_named("555000000401").get(&child.history()).await;
        let others = app.clinician().get(&child.history()).await;
        let authority = app.authority("Z9A").get(&child.history()).await;

        for reply in [&own, &others, &authority] {
            assert_eq!(reply.status, 200, "{}", reply.text);
            for secret in ["ROWAN", "ZZ131", "SPECIMEN", "555000000401", "555100000401", "sandbox-clinical-zz131"] {
                assert!(!reply.text.contains(secret), "{secret}: {}", reply.text);
            }
        }
        let role = others.resources("PractitionerRole").pop().unwrap();
        insta::assert_json_snapshot!("withheld_role", role, { ".id" => "[id]" });
        let id = role["id"].as_str().unwrap();
        let withheld = app.authority("Z9A").get(&format!("/PractitionerRole/{id}")).await;
        assert_eq!(withheld.json, role);
        assert_eq!(app.authority("Z9B").get(&format!("/AuditEvent/{id}")).await.status, 404);
        let told = app.auditor().get(&format!("/PractitionerRole/{id}")).await;
        assert!(told.text.contains("ROWAN") && told.text.contains("555000000401"), "{}", told.text);
        assert_eq!(app.auditor().get(&format!("/AuditEvent/{id}")).await.status, 200);
    }

    async fn a_silent_read_is_audited_but_neither_listed_nor_notified(backend) {
        let app = TestApp::start_with(backend, |s| s.access.scheduled_care = ScheduledCare::SilentRead).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().get(&child.care_team()).await;
        let silent = || app.caller("role=clinical", "user=555000000501").header("IsUnscheduledAccessEvent", "false");

        let teams = silent().get(&child.care_team()).await;
        let history = silent().get(&child.history()).await;

        assert_eq!((teams.status, teams.total()), (200, 1), "{}", teams.text);
        assert_eq!(users(&history), ["555000000101"]);
        assert_eq!((app.number("select count(*) as n from access"), outbox_of(&app, "Z9A")), (1, 1));
        let audited = "select count(*) as n from audit_event where agent = '555000000501' and patient = ";
        assert_eq!(app.number(&format!("{audited}'{}'", child.nhs())), 2);
    }

    async fn a_look_from_scheduled_care_is_marked(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        let reply = app.caller("role=clinical", "user=555000000501&activity=B0107").get(&child.history()).await;

        let detail = &reply.resources("AuditEvent")[0]["entity"][0]["detail"][0];
        assert_eq!(detail["valueString"], "Unscheduled access from an organisation of scheduled care", "{}", reply.text);
    }

    async fn an_access_that_lies_in_the_future_suppresses_nothing(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().get(&child.care_team()).await;
        app.clock.advance(-TimeDelta::hours(1));

        app.clinician().get(&child.care_team()).await;

        assert_eq!(outbox_of(&app, "Z9A"), 2);
        let history = app.clinician().get(&child.history()).await;
        let times: Vec<Value> = history.resources("AuditEvent").iter().map(|event| event["recorded"].clone()).collect();
        // In the order in which they happened, whatever the clock said.
        assert_eq!(times.len(), 2);
        assert!(times[0].as_str().unwrap().contains("T11:00:00") && times[1].as_str().unwrap().contains("T12:00:00"), "{times:?}");
    }
}
