//! Each record of an upload has its own event, which names the upload; the file has one; the answers are kept.

use std::collections::BTreeMap;

use cpis_gateway::store::Conn;
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Nullable, Text},
};
use serde_json::{Value, json};

use crate::harness::{
    CPP, TestApp, bundle, child, on_both_stores,
    upload::{entry, with},
};

#[derive(Debug, PartialEq, Eq, QueryableByName)]
struct Kept {
    #[diesel(sql_type = BigInt)]
    position: i64,
    #[diesel(sql_type = Text)]
    code: String,
    #[diesel(sql_type = Nullable<Text>)]
    nhs_number: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
}

/// The answers of the newest upload.
async fn kept(app: &TestApp) -> Vec<Kept> {
    let query = "select position, code, nhs_number, reason from upload_record \
                 where upload_id = (select max(id) from upload) order by position";
    app.read(move |conn| {
        Ok(match conn {
            Conn::Sqlite(c) => sql_query(query).load(c)?,
            Conn::Postgres(c) => sql_query(query).load(c)?,
        })
    })
    .await
}

/// What an event says of itself: action, outcome, what is named beside the patient.
fn facts(event: &Value) -> (String, String, BTreeMap<String, String>) {
    let details = event["entity"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .flat_map(|entity| entity["detail"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let details = details.map(|detail| (text(&detail["type"]), text(&detail["valueString"]))).collect();
    (text(&event["action"]), text(&event["outcome"]), details)
}

on_both_stores! {
    async fn each_record_has_its_event_and_the_file_one(backend) {
        let app = TestApp::start(backend).await;
        for index in 1..=3 {
            app.register(&child(index)).await;
        }
        app.authority("Z9A").post("", &bundle("batch", &[child(3).put_patient(), child(3).post_flag("Z9A", CPP, "2026-09-14", None)])).await;
        let before = app.row_counts().await["audit_event"];
        let entries = [
            child(1).put_patient(),
            child(1).post_flag("Z9A", CPP, "2026-09-14", None),
            with(child(2).put_patient(), "/resource/birthDate", json!("2001-01-01")),
            child(3).post_flag("Z9A", CPP, "2026-09-14", Some("2026-11-01")),
            child(4).put_patient(),
        ];

        let reply = app.authority("Z9A").header("X-Request-ID", "6e1d9f0a-8f2c-4b7e-9c55-1f2e3d4c5b6a").post("", &bundle("batch", &entries)).await;
        assert_eq!(reply.file_code(), "CPF03", "{}", reply.text);

        // A record each, and the file.
        assert_eq!(app.row_counts().await["audit_event"] - before, 5);
        let mut uploads = Vec::new();
        for (index, action, outcome) in [(1, "C", "0"), (2, "U", "4"), (3, "U", "0"), (4, "U", "4")] {
            let events = app.audit_of(child(index).nhs()).await;
            let (said, ended, details) = facts(&events[0]);
            assert_eq!((said.as_str(), ended.as_str()), (action, outcome), "child {index}: {}", events[0]);
            uploads.push(details.get("upload").cloned().expect("the upload is named"));
        }
        uploads.dedup();
        assert_eq!(uploads.len(), 1, "all of them name the same upload");
        let named = app.columns_holding(&uploads[0]).await;
        assert!(named.contains(&"upload.uuid".to_owned()), "{named:?}");

        let all = app.auditor().get("/AuditEvent?_count=20").await.resources("AuditEvent");
        let files: Vec<&Value> = all.iter().filter(|event| event["subtype"][0]["code"] == "batch").collect();
        let (_, outcome, details) = facts(files[0]);
        assert_eq!((outcome.as_str(), details.get("upload")), ("0", Some(&uploads[0])), "{}", files[0]);
    }

    async fn the_answer_to_each_record_is_kept(backend) {
        let app = TestApp::start(backend).await;
        app.register(&child(1)).await;
        let bad = with(child(1).post_flag("Z9A", CPP, "2026-09-14", None), "/resource/status", json!("asleep"));

        app.authority("Z9A").post("", &bundle("batch", &[child(2).put_patient(), child(1).put_patient()])).await;
        let rows = kept(&app).await;
        assert_eq!(rows.iter().map(|row| (row.position, row.code.as_str())).collect::<Vec<_>>(), [(0, "CPR01"), (1, "CPR06")]);
        // Of a loaded record the plan's own rows tell.
        assert_eq!(rows[1].nhs_number, None);
        assert_eq!(rows[0].nhs_number.as_deref(), Some(child(2).nhs()));
        let reason = rows[0].reason.as_deref().expect("a reason");
        assert!(reason.len() > 10 && !reason.contains(child(2).nhs()), "{reason}");

        app.authority("Z9A").post("", &bundle("transaction", &[child(1).put_patient(), bad, child(2).put_patient()])).await;
        let codes: Vec<String> = kept(&app).await.into_iter().map(|row| row.code).collect();
        assert_eq!(codes.len(), 2, "{codes:?}");
        assert!(codes.iter().all(|code| code != "CPR06"), "nothing of a refused transaction is loaded: {codes:?}");
    }

    /// In whatever order the entries come, the same code stands for the record.
    async fn the_code_of_a_record_does_not_depend_on_the_order(backend) {
        let app = TestApp::start(backend).await;
        let robin = child(1);
        let entries = [robin.put_patient(), robin.post_flag("Z9A", CPP, "2026-12-14", None)];
        for order in [[0, 1], [1, 0]] {
            let shuffled: Vec<Value> = order.iter().map(|entry: &usize| entries[*entry].clone()).collect();
            app.authority("Z9A").post("", &bundle("batch", &shuffled)).await;
            let codes: Vec<String> = kept(&app).await.into_iter().map(|row| row.code).collect();
            assert_eq!(codes, ["CPR01"]);
        }
    }

    async fn a_refused_transaction_is_audited_and_names_no_plan(backend) {
        let app = TestApp::start(backend).await;
        app.register(&child(1)).await;
        let entries = [child(1).put_patient(), child(1).post_flag("Z9A", CPP, "2026-09-14", None), child(2).put_patient()];

        let reply = app.authority("Z9A").post("", &bundle("transaction", &entries)).await;
        assert_eq!(reply.status, 422, "{}", reply.text);

        for index in [1, 2] {
            let events = app.audit_of(child(index).nhs()).await;
            assert_eq!((events.len(), facts(&events[0]).1.as_str()), (1, "4"), "child {index}");
            // The plan that was undone has no id to be found by.
            assert!(!events[0].to_string().contains("Flag/"), "{}", events[0]);
        }
    }

    async fn a_single_interaction_is_one_event(backend) {
        let app = TestApp::start(backend).await;
        let robin = child(1);
        app.register(&robin).await;
        let before = app.row_counts().await["audit_event"];
        let authority = app.authority("Z9A");
        authority.put(&format!("/Patient/{}", robin.nhs()), &robin.patient()).await;
        let created = authority.post("/Flag", &robin.flag("Z9A", CPP, "2026-09-14", None)).await;
        authority.post("/Flag", &robin.flag("Z9A", CPP, "2027-09-14", None)).await;
        authority.delete(&format!("/Flag/{}", created.json["id"].as_str().expect("an id"))).await;
        assert_eq!(app.row_counts().await["audit_event"] - before, 4);

        let actions: Vec<(String, String)> =
            app.audit_of(robin.nhs()).await.iter().map(facts).map(|(action, outcome, _)| (action, outcome)).collect();
        let said: Vec<(&str, &str)> = actions.iter().map(|(action, outcome)| (action.as_str(), outcome.as_str())).collect();
        assert_eq!(said, [("D", "0"), ("C", "4"), ("C", "0"), ("C", "0")]);
    }

    async fn an_unreadable_envelope_is_one_refused_event(backend) {
        let app = TestApp::start(backend).await;
        let before = app.row_counts().await["audit_event"];
        app.authority("Z9A").post("", &json!({"resourceType": "Bundle", "type": "collection"})).await;
        app.authority("Z9A").post("", &bundle("batch", &[entry("GET", "Flag", Value::Null)])).await;
        // The first is refused as a file; the second is a file with one refused record.
        assert_eq!(app.row_counts().await["audit_event"] - before, 1 + 2);
    }
}
