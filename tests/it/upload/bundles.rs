//! Batches and transactions: answered entry by entry, all or nothing where asked, the same again harmless.

use std::time::Instant;

use cpis_gateway::store::register;
use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, TestApp, UCP, authority, bundle, child, on_both_stores,
    upload::{entry, with, with_local_id},
};

/// Two children and a mother, seven entries.
fn three_records() -> Vec<Value> {
    let (robin, morgan, mother) = (child(1), child(2), child(3));
    vec![
        robin.put_patient(),
        robin.post_flag("Z9A", CPP, "2026-09-14", None),
        robin.post_flag("Z9A", LAC, "2025-03-01", Some("2026-10-30")),
        morgan.put_patient(),
        morgan.post_flag("Z9A", CPP, "2026-01-05", None),
        mother.put_patient(),
        mother.post_flag("Z9A", UCP, "2026-10-01", None),
    ]
}

async fn with_three_registered(backend: Backend) -> TestApp {
    let app = TestApp::start(backend).await;
    for index in 1..=3 {
        app.register(&child(index)).await;
    }
    app
}

on_both_stores! {
    async fn a_batch_is_loaded_and_the_same_again_changes_nothing(backend) {
        let app = with_three_registered(backend).await;
        let upload = bundle("batch", &three_records());

        let first = app.authority("Z9A").post("", &upload).await;

        assert_eq!(first.statuses(), [201; 7], "{}", first.text);
        assert_eq!(first.file_code(), "CPF02");
        assert_eq!(first.json["type"], "batch-response");
        for answer in first.answers() {
            assert_eq!(answer.record_codes(), ["CPR06"], "{}", first.text);
            assert_eq!(answer.etag.as_deref(), Some("W/\"1\""));
        }
        let held = app.effects().await;

        for kind in ["batch", "transaction"] {
            let again = app.authority("Z9A").post("", &bundle(kind, &three_records())).await;

            assert_eq!(again.statuses(), [200; 7], "{}", again.text);
            assert_eq!(again.file_code(), "CPF02");
            let told = |reply: &crate::harness::Reply| -> Vec<_> {
                reply.answers().into_iter().map(|answer| (answer.etag, answer.location)).collect()
            };
            assert_eq!(told(&again), told(&first));
            assert_eq!(app.effects().await, held);
        }
    }

    async fn entries_come_in_any_order_and_name_the_child_in_any_way(backend) {
        let app = with_three_registered(backend).await;
        let robin = child(1);
        let full_url = "urn:uuid:4f0f6d2e-5f5c-4f6e-9d53-0d3c1d6f00aa";
        let by_full_url = with(robin.post_flag("Z9A", CPP, "2026-09-14", None), "/resource/subject", json!({"reference": full_url}));
        let identifier = json!({"system": "https://fhir.nhs.uk/Id/nhs-number", "value": robin.nhs()});
        let by_identifier =
            with(robin.post_flag("Z9A", LAC, "2026-08-01", None), "/resource/subject", json!({"identifier": identifier}));
        let patient = with(robin.put_patient(), "/fullUrl", json!(full_url));

        let reply = app.authority("Z9A").post("", &bundle("transaction", &[by_full_url, by_identifier, patient])).await;

        assert_eq!(reply.statuses(), [201; 3], "{}", reply.text);
        assert_eq!(reply.json["type"], "transaction-response");
        assert_eq!(app.clinician().get(&robin.care_team()).await.total(), 2);
    }

    async fn a_bad_record_keeps_no_other_from_loading(backend) {
        let app = with_three_registered(backend).await;
        let mut entries = three_records();
        entries[3]["resource"]["birthDate"] = json!("2017-05-12");

        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;

        assert_eq!(reply.statuses(), [201, 201, 201, 422, 422, 201, 201], "{}", reply.text);
        assert_eq!(reply.file_code(), "CPF03");
        let answers = reply.answers();
        assert_eq!((answers[3].record_codes(), answers[4].record_codes()), (vec!["CPR03".into()], vec!["CPR03".into()]));
        for (index, plans) in [(1, 2), (2, 0), (3, 1)] {
            assert_eq!(app.clinician().get(&child(index).care_team()).await.total(), plans, "child {index}");
        }
        assert_eq!(app.authority("Z9A").get(&format!("/Patient/{}", child(2).nhs())).await.status, 404);
    }

    async fn a_batch_of_bad_records_loads_none(backend) {
        let app = with_three_registered(backend).await;
        let held = app.effects().await;
        let mut entries = three_records();
        for patient in [0, 3, 5] {
            entries[patient]["resource"]["name"][0]["family"] = json!("Other");
        }

        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;

        assert_eq!(reply.statuses(), [422; 7], "{}", reply.text);
        assert_eq!(reply.file_code(), "CPF04");
        assert_eq!(app.effects().await, held);
    }

    async fn a_refused_transaction_leaves_nothing(backend) {
        let app = with_three_registered(backend).await;
        let held = app.effects().await;
        let own = authority("Z9A", "RENAMED COUNCIL", "01632960188");
        let before = app.authority("Z9A").get("/Organization/Z9A").await;
        let good = |more: Value| {
            let mut entries = three_records();
            entries.insert(0, entry("PUT", "Organization/Z9A", own.clone()));
            entries.push(more);
            bundle("transaction", &entries)
        };
        let mother = child(3);
        let future = mother.post_flag("Z9A", CPP, "2026-11-24", None);
        let stale = with(entry("PUT", &mother.criteria("UCP-2"), with_local_id(mother.flag("Z9A", UCP, "2026-09-14", None), "UCP-2")),
            "/request/ifMatch", json!("W/\"7\""));
        let not_r4 = with(future.clone(), "/resource/status", json!("asleep"));
        let unknown = child(4).put_patient();
        for (more, status, code) in [
            (future, 422, "CPR07"), (unknown, 422, "CPR01"), (stale, 412, "CPR07"), (not_r4, 400, ""),
        ] {
            let reply = app.authority("Z9A").post("", &good(more)).await;

            assert_eq!(reply.status, status, "{}", reply.text);
            assert_eq!(reply.json["resourceType"], "OperationOutcome");
            assert_eq!(reply.file_code(), "CPF04", "{}", reply.text);
            assert_eq!(reply.record_codes().join(","), code, "{}", reply.text);
            assert!(reply.json["issue"][0]["expression"][0].as_str().unwrap().starts_with("Bundle.entry[8]"), "{}", reply.text);
            assert_eq!(app.effects().await, held);
        }
        let after = app.authority("Z9A").get("/Organization/Z9A").await;
        assert_eq!((after.text.clone(), after.header("etag")), (before.text.clone(), before.header("etag")));
    }

    async fn everything_wrong_is_told_at_once(backend) {
        let app = with_three_registered(backend).await;
        let robin = child(1);
        let future = robin.post_flag("Z9A", CPP, "2026-12-01", Some("2036-11-01"));
        let backwards = child(4).post_flag("Z9A", CPP, "2026-12-01", Some("2026-11-01"));
        let foreign = with(child(2).post_flag("Z9B", UCP, "2026-10-01", None), "/resource/code/coding/0/code", json!("1"));
        let nobody = child(9).put_patient();
        let no_type = with(child(3).post_flag("Z9A", LAC, "2026-10-01", None), "/resource/code", Value::Null);

        let reply = app
            .authority("Z9A")
            .post("", &bundle("transaction", &[with(robin.put_patient(), "/resource/birthDate", json!("2017-05-12")), future, foreign, nobody, no_type, backwards]))
            .await;

        assert_eq!(reply.status, 400, "{}", reply.text);
        let mut places: Vec<String> = reply.json["issue"].as_array().unwrap().iter()
            .map(|issue| issue["expression"][0].as_str().unwrap().to_owned()).collect();
        places.dedup();
        assert_eq!(places, [
            "Bundle.entry[0].resource.birthDate",
            "Bundle.entry[1].resource.period.end",
            "Bundle.entry[1].resource.period.start",
            "Bundle.entry[2].resource.code.coding[0].code",
            "Bundle.entry[2].resource.author",
            "Bundle.entry[3].resource.identifier",
            "Bundle.entry[4].resource.code",
            "Bundle.entry[5].resource.period",
        ], "{}", reply.text);
    }

    async fn an_unusable_envelope_stores_nothing(backend) {
        let app = with_three_registered(backend).await;
        let held = app.row_counts().await;
        let post = |body: &str| {
            let body = body.as_bytes().to_vec();
            app.authority("Z9A").send("POST", "", Some(("application/fhir+json", body)))
        };
        let no_request = bundle("batch", &[child(1).put_patient(), json!({"resource": child(1).patient()})]);
        for body in [
            "", "{", "[]", "null", "{\"resourceType\":\"Bundle\"",
            "{\"resourceType\":\"Flag\"}",
            "{\"resourceType\":\"Bundle\",\"type\":\"batch\"}",
            "{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[]}",
            "{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":{}}",
            "{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[1]}",
            &bundle("collection", &three_records()).to_string(),
            &bundle("history", &three_records()).to_string(),
            &no_request.to_string(),
        ] {
            let reply = post(body).await;
            assert_eq!(reply.status, 400, "{body}: {}", reply.text);
            assert_eq!(reply.file_code(), "CPF01", "{body}: {}", reply.text);
            assert_eq!(reply.json["resourceType"], "OperationOutcome");
        }
        let mut now = app.row_counts().await;
        // Of the refusals themselves there is an event each.
        for table in ["audit_event", "audit_chain"] {
            now.insert(table.to_owned(), held[table]);
        }
        assert_eq!(now, held);
    }

    async fn entries_of_another_kind_are_refused_by_themselves(backend) {
        let app = with_three_registered(backend).await;
        let (robin, morgan) = (child(1), child(2));
        let url = format!("Patient/{}", morgan.nhs());
        let mut entries = three_records();
        entries.truncate(3);
        entries.extend([
            entry("GET", &url, Value::Null),
            entry("DELETE", &url, Value::Null),
            entry("POST", "Patient", morgan.patient()),
            entry("POST", "Observation", json!({"resourceType": "Observation"})),
            entry("GET", &robin.care_team(), Value::Null),
            entry("PUT", "Organization/Z9B", authority("Z9B", "NOT OURS", "01632960188")),
        ]);

        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;

        assert_eq!(reply.statuses(), [201, 201, 201, 422, 422, 422, 422, 422, 422], "{}", reply.text);
        assert_eq!(reply.file_code(), "CPF03");
        for answer in &reply.answers()[3..8] {
            assert_eq!(answer.issues[0]["code"], "not-supported", "{}", reply.text);
        }
        assert_eq!(app.anonymous_name_of("Z9B").await, "EXAMPLEFORD CITY COUNCIL");
    }

    async fn the_authoritys_own_details_are_applied_first(backend) {
        let app = with_three_registered(backend).await;
        app.execute("update organization set duty_phone = null where ods = 'Z9A'");
        let own = |duty: &str| entry("PUT", "Organization/Z9A", authority("Z9A", "WESTMARCH COUNTY COUNCIL", duty));

        let reply = app.authority("Z9A").post("", &bundle("batch", &three_records())).await;
        assert_eq!(reply.statuses(), [422; 7], "{}", reply.text);

        // Refused details change nothing: the records are judged by the numbers on file, and there is none.
        let mut entries = three_records();
        entries.push(own("12"));
        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(reply.statuses(), [422; 8], "{}", reply.text);
        assert_eq!(reply.file_code(), "CPF04");

        entries[7] = own("01632960188");
        let reply = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(reply.statuses(), [201, 201, 201, 201, 201, 201, 201, 200], "{}", reply.text);
        assert_eq!(reply.file_code(), "CPF02");
        let seen = app.clinician().get(&child(1).care_team()).await;
        assert!(seen.text.contains("01632960188"), "{}", seen.text);
    }

    async fn refused_details_are_never_called_loaded(backend) {
        let app = with_three_registered(backend).await;
        let bad = entry("PUT", "Organization/Z9A", authority("Z9A", "WESTMARCH COUNTY COUNCIL", "12"));

        let alone = app.authority("Z9A").post("", &bundle("batch", std::slice::from_ref(&bad))).await;
        assert_eq!((alone.statuses(), alone.file_code()), (vec![422], "CPF04".to_owned()), "{}", alone.text);

        let mut entries = three_records();
        entries.push(bad);
        let beside = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(beside.statuses(), [201, 201, 201, 201, 201, 201, 201, 422], "{}", beside.text);
        assert_eq!(beside.file_code(), "CPF03");
    }

    async fn details_sent_twice_are_told_at_both(backend) {
        let app = with_three_registered(backend).await;
        let own = |duty: &str| entry("PUT", "Organization/Z9A", authority("Z9A", "WESTMARCH COUNTY COUNCIL", duty));

        let reply = app.authority("Z9A").post("", &bundle("batch", &[own("01632960188"), own("01632960199")])).await;

        assert_eq!(reply.statuses(), [422, 422], "{}", reply.text);
        let answers = reply.answers();
        assert_eq!(answers[0].issues[0]["diagnostics"], answers[1].issues[0]["diagnostics"], "{}", reply.text);
        assert_eq!(answers[1].expressions(), ["Bundle.entry[1].resource"]);
    }

    async fn plans_are_updated_and_deleted_in_a_bundle(backend) {
        let app = with_three_registered(backend).await;
        let robin = child(1);
        let flag = |end| with_local_id(robin.flag("Z9A", CPP, "2026-09-14", end), "CPP-1");
        let put = |end| entry("PUT", &robin.criteria("CPP-1"), flag(end));
        let send = |entries: Vec<Value>| app.authority("Z9A").post("", &bundle("batch", &entries));

        let created = send(vec![robin.put_patient(), put(None)]).await;
        assert_eq!(created.statuses(), [201, 201], "{}", created.text);
        let id = created.answers()[1].id();

        let stale = send(vec![with(put(Some("2026-11-20")), "/request/ifMatch", json!("W/\"2\""))]).await;
        assert_eq!(stale.statuses(), [412], "{}", stale.text);

        let ended = send(vec![with(put(Some("2026-11-20")), "/request/ifMatch", json!("W/\"1\""))]).await;
        assert_eq!(ended.statuses(), [200], "{}", ended.text);
        assert_eq!((ended.answers()[0].id(), ended.answers()[0].etag.as_deref()), (id.clone(), Some("W/\"2\"")));

        let by_id = with(flag(Some("2026-11-21")), "/id", json!(id));
        let corrected = send(vec![entry("PUT", &format!("Flag/{id}"), by_id)]).await;
        assert_eq!(corrected.statuses(), [200], "{}", corrected.text);

        let delete = || entry("DELETE", &robin.criteria_with_code("CPP-1", CPP), Value::Null);
        for _ in 0..2 {
            let deleted = send(vec![delete()]).await;
            assert_eq!(deleted.statuses(), [204], "{}", deleted.text);
            assert_eq!(deleted.answers()[0].record_codes(), ["CPR06"]);
        }
        let deleted = send(vec![entry("DELETE", &format!("Flag/{id}"), Value::Null)]).await;
        assert_eq!(deleted.statuses(), [204], "{}", deleted.text);

        // A deleted plan is never meant: the same key is a new plan.
        let anew = send(vec![put(None)]).await;
        assert_eq!(anew.statuses(), [201], "{}", anew.text);
        assert_ne!(anew.answers()[0].id(), id);
        let nothing = send(vec![entry("DELETE", &robin.criteria_with_code("LAC-1", LAC), Value::Null)]).await;
        assert_eq!((nothing.statuses(), nothing.answers()[0].record_codes()), (vec![422], vec!["CPR07".to_owned()]));
    }

    async fn a_failed_if_match_marks_its_entry_and_refuses_its_record(backend) {
        let app = with_three_registered(backend).await;
        let robin = child(1);
        let stale = with(robin.put_patient(), "/request/ifMatch", json!("W/\"3\""));
        let other = child(2).put_patient();

        let reply = app.authority("Z9A")
            .post("", &bundle("batch", &[robin.post_flag("Z9A", CPP, "2026-09-14", None), other, stale])).await;

        assert_eq!(reply.statuses(), [422, 201, 412], "{}", reply.text);
        assert_eq!(app.clinician().get(&robin.care_team()).await.total(), 0);
    }

    async fn order_within_a_record_does_not_change_what_is_told(backend) {
        let app = with_three_registered(backend).await;
        let robin = child(1);
        let bad_flag = with(robin.post_flag("Z9A", CPP, "2026-09-14", None), "/resource/status", json!("asleep"));
        let patient = || with(robin.put_patient(), "/fullUrl", Value::Null);
        let entries = [patient(), patient(), patient(), bad_flag];

        let orders = [[0, 1, 2, 3], [3, 0, 1, 2], [0, 3, 1, 2], [2, 1, 3, 0]];
        let mut told = Vec::new();
        for order in orders {
            let shuffled: Vec<Value> = order.iter().map(|entry| entries[*entry].clone()).collect();
            let reply = app.authority("Z9A").post("", &bundle("batch", &shuffled)).await;
            assert_eq!(reply.statuses(), [422; 4], "{}", reply.text);
            let mut words = vec![String::new(); 4];
            for (place, answer) in order.iter().zip(reply.answers()) {
                words[*place] = answer.issues[0]["diagnostics"].to_string();
            }
            told.push(words);
        }
        assert!(told.iter().all(|one| *one == told[0]), "{told:#?}");
        assert!(told[0][..3].iter().all(|words| words.contains("sent twice")), "{told:#?}");
    }

    async fn five_hundred_entries_are_taken_and_no_more(backend) {
        let app = TestApp::start_with(backend, |settings| settings.upload.max_entries = 500).await;
        let children: Vec<Child> = (1..=250).map(child).collect();
        let register = children.clone();
        let write = app.app.gateway.store.write(Vec::new(), move |tx| {
            use cpis_gateway::cpis::types::child::NumberStatus::Current;
            register.iter().try_for_each(|child| register::add(tx.conn, &child.number, &child.demographics(), Current, None))
        });
        write.await.expect("the children are registered");
        let mut entries: Vec<Value> = children.iter()
            .flat_map(|child| [child.put_patient(), child.post_flag("Z9A", CPP, "2026-09-14", None)]).collect();

        let begun = Instant::now();
        let reply = app.authority("Z9A").post("", &bundle("transaction", &entries)).await;
        eprintln!("500 entries on {backend:?}: {:?}", begun.elapsed());

        assert_eq!(reply.statuses(), [201; 500]);
        assert_eq!(reply.file_code(), "CPF02");
        let held = app.effects().await;
        assert_eq!((held["plan"], held["authority_child"]), (250, 250));

        entries.push(child(251).put_patient());
        for kind in ["batch", "transaction"] {
            let reply = app.authority("Z9A").post("", &bundle(kind, &entries)).await;
            reply.assert_refused(413, "too-long", "INVALID_VALUE");
            assert_eq!(reply.file_code(), "CPF01", "{}", reply.text);
        }
        assert_eq!(app.effects().await, held);
    }

    async fn only_an_authority_may_upload(backend) {
        let app = with_three_registered(backend).await;
        let held = app.effects().await;
        for caller in [app.clinician(), app.auditor(), app.administrator()] {
            let reply = caller.post("", &bundle("batch", &three_records())).await;
            reply.assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
        let reply = app.anonymous().post("", &bundle("batch", &three_records())).await;
        reply.assert_refused(401, "login", "ACCESS_DENIED");
        assert_eq!(app.effects().await, held);
        let reply = app.authority("Z9A").post("/", &bundle("batch", &three_records())).await;
        assert_eq!(reply.statuses(), [201; 7], "with a last slash: {}", reply.text);
    }
}

impl TestApp {
    /// An organisation's name as everybody sees it.
    async fn anonymous_name_of(&self, ods: &str) -> String {
        let reply = self.clinician().get(&format!("/Organization/{ods}")).await;
        reply.json["name"].as_str().expect("a name").to_owned()
    }
}
