//! What an authority uploads is what a clinician sees.

use serde_json::{Value, json};

use crate::harness::{
    CPP, LAC, Reply, TestApp, UCP, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

/// Of each plan shown: SNOMED code, start, end, status, authority.
fn shown(reply: &Reply) -> Vec<(String, String, Option<String>, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plan = |team: Value| {
        (
            text(&team["category"][0]["coding"][0]["code"]),
            text(&team["period"]["start"]),
            team["period"]["end"].as_str().map(str::to_owned),
            text(&team["status"]),
            text(&team["name"]),
        )
    };
    let mut plans: Vec<_> = reply.resources("CareTeam").into_iter().map(plan).collect();
    plans.sort();
    plans
}

fn plan(code: &str, start: &str, end: Option<&str>, status: &str) -> (String, String, Option<String>, String, String) {
    (
        code.to_owned(),
        start.to_owned(),
        end.map(str::to_owned),
        status.to_owned(),
        "WESTMARCH COUNTY COUNCIL".to_owned(),
    )
}

on_both_stores! {
    async fn every_kind_of_plan_reaches_the_clinician(backend) {
        let app = TestApp::start(backend).await;
        let robin = child(1);
        app.register(&robin).await;
        let entries = [
            robin.put_patient(),
            robin.post_flag("Z9A", CPP, "2026-09-14", None),
            robin.post_flag("Z9A", LAC, "2025-03-01", Some("2026-10-30")),
            robin.post_flag("Z9A", UCP, "2026-06-01", Some("2026-11-23")),
        ];
        assert_eq!(app.authority("Z9A").post("", &bundle("batch", &entries)).await.statuses(), [201; 4]);

        let seen = app.clinician().get(&robin.care_team()).await;

        assert_eq!(shown(&seen), [
            plan(CPP, "2026-09-14", None, "active"),
            plan(LAC, "2025-03-01", Some("2026-10-30"), "inactive"),
            // Its last day is today.
            plan(UCP, "2026-06-01", Some("2026-11-23"), "active"),
        ], "{}", seen.text);
        assert!(seen.text.contains("01632960199") && seen.text.contains("01632960100"), "{}", seen.text);

        let flags = app.clinician().get(&format!("/Flag?patient={}", robin.nhs())).await;
        assert_eq!(flags.total(), 3);
        assert!(flags.resources("Flag").iter().all(|flag| flag["meta"]["versionId"].is_null()), "{}", flags.text);
    }

    async fn a_correction_is_seen_at_once_and_a_deletion_too(backend) {
        let app = TestApp::start(backend).await;
        let robin = child(1);
        app.register(&robin).await;
        let put = |start, end| entry("PUT", &robin.criteria("CPP-1"), with_local_id(robin.flag("Z9A", CPP, start, end), "CPP-1"));
        let send = |entry: Value| app.authority("Z9A").post("", &bundle("batch", &[robin.put_patient(), entry]));
        for (start, end, status) in [
            ("2026-09-14", None, "active"), ("2026-09-10", None, "active"), ("2026-09-10", Some("2026-11-22"), "inactive"),
            ("2026-09-10", None, "active"),
        ] {
            assert_eq!(send(put(start, end)).await.file_code(), "CPF02");
            assert_eq!(shown(&app.clinician().get(&robin.care_team()).await), [plan(CPP, start, end, status)]);
        }
        // Entered in error is a deletion.
        let wrong = with(put("2026-09-10", None), "/resource/status", json!("entered-in-error"));
        assert_eq!(send(wrong).await.file_code(), "CPF02");
        assert_eq!(app.clinician().get(&robin.care_team()).await.total(), 0);
        assert_eq!(app.clinician().get(&robin.history()).await.total(), 0);
    }

    async fn an_unborn_childs_plan_without_an_end_is_warned_about(backend) {
        let app = TestApp::start(backend).await;
        let mother = child(1);
        app.register(&mother).await;
        let entries = [mother.put_patient(), mother.post_flag("Z9A", UCP, "2026-10-01", None)];

        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;

        assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);
        let told = &reply.answers()[1];
        assert_eq!(told.issues.len(), 2, "{}", reply.text);
        assert_eq!((&told.issues[0]["severity"], &told.issues[1]["severity"]), (&json!("information"), &json!("warning")));
        assert_eq!(told.expressions(), ["Bundle.entry[1].resource.period.end"]);
        assert!(told.issues[1]["diagnostics"].as_str().unwrap().contains("300 days"), "{}", reply.text);
    }

    async fn an_owner_gets_back_what_it_sent(backend) {
        let app = TestApp::start(backend).await;
        let robin = child(1);
        app.register(&robin).await;
        let flag = with_local_id(robin.flag("Z9A", CPP, "2026-09-14", Some("2026-11-01")), "CPP/2026 No. 7");
        let patient = with(robin.put_patient(), "/resource/name/0/given", json!(["Robin", "Sky"]));
        let entries = [patient, json!({"resource": flag, "request": {"method": "POST", "url": "Flag"}})];
        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(reply.file_code(), "CPF02", "{}", reply.text);

        let held = app.authority("Z9A").get(&format!("/Patient/{}", robin.nhs())).await;
        assert_eq!(held.json["name"][0]["given"], json!(["Robin", "Sky"]), "{}", held.text);
        assert_eq!((&held.json["birthDate"], &held.json["name"][0]["family"]), (&json!("2017-05-11"), &json!("Testcase")));
        let kept = app.authority("Z9A").get(&format!("/Flag/{}", reply.answers()[1].id())).await;
        assert_eq!(kept.json["identifier"][0]["value"], "CPP/2026 No. 7", "{}", kept.text);
        assert_eq!(kept.json["period"], json!({"start": "2026-09-14", "end": "2026-11-01"}));

        // And may send it back as it got it.
        let back = app.authority("Z9A").put(&format!("/Flag/{}", reply.answers()[1].id()), &kept.json).await;
        assert_eq!((back.status, back.header("etag")), (200, kept.header("etag")), "{}", back.text);
    }
}
