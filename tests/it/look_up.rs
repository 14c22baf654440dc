//! A clinician looks a child up: what each call shows, and what it shows of a child that nobody registered.

mod history;
mod numbers;
mod visibility;

use serde_json::{Value, json};

use crate::harness::{Backend, CPP, Child, LAC, Reply, TestApp, child, on_both_stores};

const NHS: &str = "https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C";

/// A gateway with one child that two authorities hold.
async fn with_two_authorities(backend: Backend) -> (TestApp, Child) {
    let app = TestApp::start(backend).await;
    let child = child(1);
    let plans = [("Z9A", CPP, "2026-09-14", None), ("Z9A", LAC, "2025-03-01", Some("2026-10-30"))];
    app.on_record(&child, &plans).await;
    app.on_record_again(&child, &[("Z9B", CPP, "2026-01-31", Some("2026-10-31"))]).await;
    (app, child)
}

fn type_of(resource: &Value) -> &str {
    resource["resourceType"].as_str().unwrap_or_default()
}

/// (type, mode) of every entry, in order.
fn entries(reply: &Reply) -> Vec<(String, String)> {
    let entries = reply.json["entry"].as_array().cloned().unwrap_or_default();
    let of = |entry: &Value| {
        let mode = entry["search"]["mode"].as_str().unwrap_or_default().to_owned();
        (type_of(&entry["resource"]).to_owned(), mode)
    };
    entries.iter().map(of).collect()
}

/// Every call that looks one child up; those of the second list answer 404 when there is nothing.
fn searches_and_reads(nhs: &str) -> (Vec<String>, Vec<String>) {
    let searches = vec![
        format!("/CareTeam?patient:identifier={NHS}{nhs}"),
        format!("/CarePlan?patient:identifier={NHS}{nhs}"),
        format!(
            "/Flag?patient:identifier={NHS}{nhs}&_include=Flag:patient&_include=Flag:author&_revinclude:iterate=AuditEvent:patient"
        ),
        format!("/AuditEvent?patient:identifier={NHS}{nhs}"),
        format!("/PatientFlag?patient={nhs}&code=child-protection-information-system-flag"),
        format!("/Patient?identifier={NHS}{nhs}"),
    ];
    (searches, vec![format!("/Patient/{nhs}"), format!("/Patient/{nhs}/$everything")])
}

on_both_stores! {
    async fn the_national_call_shows_the_plans_and_whom_to_phone(backend) {
        let (app, child) = with_two_authorities(backend).await;
        let path = format!("/CareTeam?patient:identifier={NHS}{}", child.nhs());

        let reply = app
            .clinician()
            .header("TraceID", "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10")
            .header("X-Request-ID", "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10")
            .header("IsUnscheduledAccessEvent", "true")
            .header("Accept", "application/fhir+json")
            .get(&path)
            .await;

        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.header("content-type"), "application/fhir+json");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("x-request-id"), "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10");
        assert_eq!((reply.header("etag"), reply.header("last-modified")), ("", ""));
        insta::assert_json_snapshot!("care_team_search", reply.settled());
    }

    async fn the_national_call_for_the_history_is_answered_as_it_is_spelled(backend) {
        let (app, child) = with_two_authorities(backend).await;
        let include = "AuditEvent:entity-type=http%3A%2F%2Fterminology.hl7.org%2FCodeSystem%2Fv3-RoleClass%7CASSIGNED";
        let path = format!("/AuditEvent?patient:identifier={NHS}{}&_include={include}", child.nhs());

        let reply = app
            .clinician()
            .header("TraceID", "5f0c7a9e-8f0a-4a37-9d0e-3e7a4c2b1a20")
            .header("IsUnscheduledAccessEvent", "true")
            .get(&path)
            .await;

        assert_eq!(reply.status, 200, "{}", reply.text);
        insta::assert_json_snapshot!("history_search", reply.settled());
    }

    async fn one_trip_for_flags_brings_patient_authorities_and_history(backend) {
        let (app, child) = with_two_authorities(backend).await;
        app.clinician_named("555000000301").get(&child.care_team()).await;
        let (searches, _) = searches_and_reads(child.nhs());

        let reply = app.clinician().get(&searches[2]).await;

        assert_eq!((reply.status, reply.total()), (200, 3), "{}", reply.text);
        insta::assert_json_snapshot!("flag_search", reply.settled());
        let alias = searches[2].replace("_revinclude:iterate=AuditEvent:patient", "_revinclude=AuditEvent:entity");
        let by_alias = app.clinician().get(&alias).await;
        assert_eq!(by_alias.settled()["entry"], reply.settled()["entry"]);
        let plain = app.clinician().get(&format!("/Flag?patient={}", child.nhs())).await;
        assert_eq!(entries(&plain), vec![("Flag".to_owned(), "match".to_owned()); 3]);
    }

    async fn the_patient_flag_call_has_its_own_shape(backend) {
        let (app, child) = with_two_authorities(backend).await;

        let reply = app.clinician().get(&searches_and_reads(child.nhs()).0[4]).await;

        assert_eq!((reply.status, reply.total()), (200, 3), "{}", reply.text);
        insta::assert_json_snapshot!("patient_flag_search", reply.settled());
        let wrong = app.clinician().get(&format!("/PatientFlag?patient={}&code=reasonable-adjustments", child.nhs())).await;
        wrong.assert_refused(400, "value", "INVALID_VALUE");
    }

    async fn everything_is_one_audited_trip(backend) {
        let (app, child) = with_two_authorities(backend).await;
        let path = format!("/Patient/{}/$everything", child.nhs());

        let reply = app.clinician().get(&path).await;

        assert_eq!(reply.status, 200, "{}", reply.text);
        insta::assert_json_snapshot!("everything", reply.settled());
        let posted = app.clinician().post(&path, &json!({"resourceType": "Parameters"})).await;
        assert_eq!(posted.settled(), reply.settled());
        let audited = format!(
            "select count(*) as n from audit_event where patient = '{}' and subtype = 'operation'",
            child.nhs()
        );
        assert_eq!(app.number(&audited), 2);
        assert_eq!(app.number("select count(*) as n from access"), 1);
    }

    async fn plans_and_patient_are_shown_without_what_the_clinician_need_not_know(backend) {
        let (app, child) = with_two_authorities(backend).await;
        let (searches, reads) = searches_and_reads(child.nhs());

        let plans = app.clinician().get(&searches[1]).await;
        let (patients, patient) = (app.clinician().get(&searches[5]).await, app.clinician().get(&reads[0]).await);

        insta::assert_json_snapshot!("care_plan_search", plans.settled());
        insta::assert_json_snapshot!("patient_search", patients.settled());
        assert_eq!(patient.json, patients.json["entry"][0]["resource"]);
        assert_eq!(patient.header("etag"), "");
        for text in [&plans.text, &patients.text, &patient.text] {
            assert!(!text.contains("Testcase") && !text.contains("2017"), "{text}");
        }
    }

    async fn name_and_birth_date_are_disclosed_only_where_that_is_switched_on(backend) {
        let app = TestApp::start_with(backend, |settings| settings.access.disclose_demographics = true).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        let patient = app.clinician().get(&format!("/Patient/{}", child.nhs())).await;

        assert_eq!((&patient.json["birthDate"], &patient.json["name"][0]["family"]), (&json!("2017-05-11"), &json!("Testcase")));
    }

    async fn a_plan_is_read_by_its_id_and_nothing_else_with_it(backend) {
        let (app, child) = with_two_authorities(backend).await;
        let teams = app.clinician().get(&child.care_team()).await.resources("CareTeam");
        let before = app.number("select count(*) as n from audit_event");

        let id = teams[1]["id"].as_str().unwrap();
        for resource in ["CareTeam", "CarePlan", "Flag"] {
            let reply = app.clinician().get(&format!("/{resource}/{id}")).await;
            assert_eq!((reply.status, type_of(&reply.json)), (200, resource), "{}", reply.text);
            assert_eq!(reply.json["id"], *id);
            assert_eq!(reply.header("etag"), "");
        }

        assert_eq!(app.clinician().get(&format!("/CareTeam/{id}")).await.json, teams[1]);
        assert_eq!(app.number("select count(*) as n from audit_event"), before + 4);
        let last = app.audit_of(child.nhs()).await;
        assert_eq!(last[0]["subtype"][0]["code"], "read");
        assert!(last[0].to_string().contains(&format!("CareTeam/{id}")), "{}", last[0]);
    }

    async fn an_id_that_is_no_plan_is_not_found_and_audited(backend) {
        let app = TestApp::start(backend).await;
        for id in ["4f0f6d2e-0000-4000-8000-000000000001", "1"] {
            for resource in ["CareTeam", "CarePlan", "Flag"] {
                let reply = app.clinician().get(&format!("/{resource}/{id}")).await;
                reply.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            }
        }
        let refused = "select count(*) as n from audit_event where outcome = '4' and subtype = 'read'";
        assert_eq!(app.number(refused), 6);
    }

    async fn no_record_is_an_empty_answer_that_is_audited_alike(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        let (searches, reads) = searches_and_reads(child.nhs());

        for path in &searches {
            let reply = app.clinician().get(path).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            let body = reply.json.as_object().unwrap();
            assert_eq!(body.keys().collect::<Vec<_>>(), ["link", "resourceType", "total", "type"], "{}", reply.text);
            assert_eq!((reply.total(), &body["type"]), (0, &json!("searchset")));
        }
        for path in &reads {
            app.clinician().get(path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }

        let audited = app.audit_of(child.nhs()).await;
        assert_eq!(audited.len(), 8);
        let outcomes: Vec<&str> = audited.iter().filter_map(|event| event["outcome"].as_str()).collect();
        assert_eq!(outcomes, ["4", "4", "0", "0", "0", "0", "0", "0"]);
        assert_eq!(app.number("select count(*) as n from access"), 0);
        assert_eq!(app.number("select count(*) as n from outbox"), 0);
    }

    async fn every_search_is_also_a_form(backend) {
        let (app, child) = with_two_authorities(backend).await;
        for resource in ["CareTeam", "CarePlan", "Flag", "AuditEvent"] {
            let got = app.clinician().get(&format!("/{resource}?patient={}", child.nhs())).await;
            let posted = app.clinician().form(&format!("/{resource}/_search"), &format!("patient={}", child.nhs())).await;
            assert_eq!(posted.settled(), got.settled(), "{resource}");
        }
    }

    async fn organisations_are_public_facts(backend) {
        let app = TestApp::start(backend).await;

        let read = app.clinician().get("/Organization/Z9A").await;
        let found = app.clinician().get("/Organization?name=west&_total=accurate").await;

        insta::assert_json_snapshot!("organization_read", read.settled());
        assert_eq!(read.header("etag"), "W/\"1\"");
        assert_eq!(app.clinician().header("If-None-Match", "W/\"1\"").get("/Organization/Z9A").await.status, 304);
        assert_eq!(found.total(), 2, "{}", found.text);
        // By name: Westbrook before Westmarch.
        assert_eq!(found.resources("Organization")[1], read.json);
        app.clinician().get("/Organization/ZZ999").await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
    }

    async fn without_a_durable_audit_nothing_is_shown(backend) {
        let (app, child) = with_two_authorities(backend).await;
        app.try_execute("alter table audit_event rename to audit_event_away").unwrap();

        let (searches, reads) = searches_and_reads(child.nhs());
        for path in searches.iter().chain(&reads) {
            let reply = app.clinician().get(path).await;
            reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
            assert!(!reply.header("retry-after").is_empty());
            assert!(!reply.text.contains("WESTMARCH"), "{}", reply.text);
        }

        app.try_execute("alter table audit_event_away rename to audit_event").unwrap();
        assert_eq!(app.number("select count(*) as n from access"), 0);
        assert_eq!(app.clinician().get(&child.care_team()).await.total(), 3);
        assert!(app.verify().is_whole(), "{:?}", app.verify());
    }

    async fn audit_history_and_outbox_are_written_together_or_not_at_all(backend) {
        let (app, child) = with_two_authorities(backend).await;
        let before = app.number("select count(*) as n from audit_event");
        app.try_execute("alter table outbox rename to outbox_away").unwrap();

        let reply = app.clinician().get(&child.care_team()).await;

        reply.assert_refused(503, "transient", "UNABLE_TO_CALL_SERVICE");
        app.try_execute("alter table outbox_away rename to outbox").unwrap();
        assert_eq!(app.number("select count(*) as n from access"), 0);
        assert_eq!(app.number("select count(*) as n from access_listing"), 0);
        // What is left is the event of the failure itself.
        assert_eq!(app.number("select count(*) as n from audit_event"), before + 1);
        assert_eq!(app.number("select count(*) as n from audit_event where outcome = '8'"), 1);
        assert!(app.verify().is_whole(), "{:?}", app.verify());
    }

    async fn what_was_answered_is_on_the_disk(backend) {
        let (app, child) = with_two_authorities(backend).await;

        let reply = app.clinician().header("X-Request-ID", "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10").get(&child.care_team()).await;

        assert_eq!(reply.status, 200);
        // Another connection sees what is committed only.
        let by_request = "request_id = '0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10'";
        assert_eq!(app.number(&format!("select count(*) as n from audit_event where {by_request}")), 1);
        assert_eq!(app.number(&format!("select count(*) as n from access where {by_request}")), 1);
        assert_eq!(app.number("select count(*) as n from outbox where kind = 'access'"), 2);
        // And a commit means the disk: the test's server has it off, the gateway's sessions switch it on.
        let durable = match backend {
            Backend::Sqlite => "select synchronous + 0 as n from pragma_synchronous",
            Backend::Postgres => "select case current_setting('synchronous_commit') when 'on' then 2 else 0 end::bigint as n",
        };
        assert_eq!(app.number(durable), 2);
    }
}
