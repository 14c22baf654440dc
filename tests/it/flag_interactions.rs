//! Single interactions of an authority: create, update, delete of a Flag, update of Patient and Organization.

use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, LAC, Reply, TestApp, UCP, authority, child, on_both_stores,
    upload::{with, with_local_id},
};

/// Z9A with one child, sent but without a plan.
async fn with_child(backend: Backend) -> TestApp {
    let app = TestApp::start(backend).await;
    app.register(&child(1)).await;
    let reply = app.authority("Z9A").put(&format!("/Patient/{}", child(1).nhs()), &child(1).patient()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    app
}

fn plan(code: &str, start: &str, end: Option<&str>) -> Value {
    child(1).flag("Z9A", code, start, end)
}

fn id_of(reply: &Reply) -> String {
    reply.json["id"].as_str().expect("an id").to_owned()
}

const NOBODYS: &str = "3a8e4f0c-6a0b-4f43-9a41-2b1c0d9e8f70";

on_both_stores! {
    async fn a_flag_is_created_read_updated_and_deleted(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");

        let created = own.post("/Flag", &plan(CPP, "2026-09-14", None)).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let id = id_of(&created);
        assert_eq!(created.header("etag"), "W/\"1\"");
        assert_eq!(created.header("location"), format!("{}/Flag/{id}/_history/1", app.base));
        assert_eq!(created.json["status"], "active");

        let path = format!("/Flag/{id}");
        let read = own.get(&path).await;
        assert_eq!((read.status, &read.json), (200, &created.json));
        assert_eq!(read.header("etag"), "W/\"1\"");

        let ended = with(plan(CPP, "2026-09-14", Some("2026-11-20")), "/id", json!(id));
        let updated = app.authority("Z9A").header("If-Match", "W/\"1\"").put(&path, &ended).await;
        assert_eq!((updated.status, updated.header("etag")), (200, "W/\"2\""), "{}", updated.text);
        assert_eq!(updated.json["status"], "inactive");
        let again = own.put(&path, &ended).await;
        assert_eq!((again.status, again.header("etag")), (200, "W/\"2\""), "unchanged content makes no version");

        let deleted = app.authority("Z9A").header("If-Match", "W/\"2\"").delete(&path).await;
        assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
        assert_eq!(app.clinician().get(&child(1).care_team()).await.total(), 0);
        own.get(&path).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        assert_eq!(own.delete(&path).await.status, 204, "a delete may be repeated");
        own.put(&path, &ended).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        for other in [app.authority("Z9B"), app.clinician()] {
            other.get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        assert_eq!(own.get(&format!("/Flag?patient={}", child(1).nhs())).await.total(), 0);
    }

    async fn a_create_that_means_a_plan_on_file_updates_it(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let created = own.post("/Flag", &plan(CPP, "2026-09-14", None)).await;
        let again = own.post("/Flag", &plan(CPP, "2026-09-14", None)).await;
        assert_eq!((again.status, id_of(&again), again.header("etag")), (200, id_of(&created), "W/\"1\""));
        let ended = own.post("/Flag", &plan(CPP, "2026-09-14", Some("2026-11-01"))).await;
        assert_eq!((ended.status, id_of(&ended), ended.header("etag")), (200, id_of(&created), "W/\"2\""));
    }

    async fn a_stale_if_match_changes_nothing(backend) {
        let app = with_child(backend).await;
        let id = id_of(&app.authority("Z9A").post("/Flag", &plan(CPP, "2026-09-14", None)).await);
        let path = format!("/Flag/{id}");
        let ended = with(plan(CPP, "2026-09-14", Some("2026-11-20")), "/id", json!(id));
        for stale in ["W/\"2\"", "\"7\"", "W/\"one\"", "W/\"01\""] {
            let request = app.authority("Z9A").header("If-Match", stale);
            request.put(&path, &ended).await.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
            request.delete(&path).await.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        }
        for bad in ["1", "W/1", "", "W/\"1\", W/\"2\"", "*, W/\"1\""] {
            let request = app.authority("Z9A").header("If-Match", bad);
            request.put(&path, &ended).await.assert_refused(400, "invalid", "PRECONDITION_FAILED");
            request.delete(&path).await.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        }
        let read = app.authority("Z9A").get(&path).await;
        assert_eq!((read.header("etag"), &read.json["status"]), ("W/\"1\"", &json!("active")));
    }

    async fn if_none_exist_leaves_a_plan_on_file_as_it_is(backend) {
        let app = with_child(backend).await;
        let nhs = child(1).number;
        let criteria = format!("patient={}&identifier=CPP-1&code=http://snomed.info/sct|{CPP}", nhs.as_str());
        let flag = |end| with_local_id(plan(CPP, "2026-09-14", end), "CPP-1");
        let request = app.authority("Z9A").header("If-None-Exist", &criteria);
        let created = request.post("/Flag", &flag(None)).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let kept = request.post("/Flag", &flag(Some("2026-11-01"))).await;
        assert_eq!((kept.status, kept.header("etag"), &kept.json["period"]), (200, "W/\"1\"", &json!({"start": "2026-09-14"})));
        let unknown = app.authority("Z9A").header("If-None-Exist", "status=active").post("/Flag", &flag(None)).await;
        assert_eq!(unknown.status, 400, "{}", unknown.text);
    }

    async fn prefer_says_what_comes_back(backend) {
        let app = with_child(backend).await;
        let send = |prefer: &str| app.authority("Z9A").header("Prefer", prefer).post("/Flag", &plan(CPP, "2026-09-14", None));
        let minimal = send("return=minimal").await;
        assert_eq!((minimal.status, minimal.text.as_str(), minimal.header("etag")), (201, "", "W/\"1\""));
        let outcome = send("return=OperationOutcome").await;
        assert_eq!((outcome.status, &outcome.json["resourceType"]), (200, &json!("OperationOutcome")));
        assert_eq!(outcome.record_codes(), ["CPR06"]);
        let whole = send("respond-async, return=representation").await;
        assert_eq!((whole.status, &whole.json["resourceType"]), (200, &json!("Flag")));
        send("return=nothing").await.assert_refused(400, "invalid", "PRECONDITION_FAILED");
    }

    async fn an_unknown_plan_is_not_there(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        for id in [NOBODYS, "CPP-1", "1"] {
            let path = format!("/Flag/{id}");
            own.get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            own.delete(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            let flag = with(plan(CPP, "2026-09-14", None), "/id", json!(id));
            own.put(&path, &flag).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
    }

    async fn an_update_names_the_same_plan_twice(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let id = id_of(&own.post("/Flag", &plan(CPP, "2026-09-14", None)).await);
        for body in [plan(CPP, "2026-09-14", None), with(plan(CPP, "2026-09-14", None), "/id", json!(NOBODYS))] {
            let reply = own.put(&format!("/Flag/{id}"), &body).await;
            assert_eq!(reply.status, 400, "{}", reply.text);
            assert_eq!(reply.json["issue"][0]["expression"], json!(["Flag.id"]));
        }
        // The kind of a plan and its child can't be changed.
        let other_kind = with(plan(LAC, "2026-09-14", None), "/id", json!(id));
        assert_eq!(own.put(&format!("/Flag/{id}"), &other_kind).await.status, 422);
        app.register(&child(2)).await;
        let other_child = with(child(2).flag("Z9A", CPP, "2026-09-14", None), "/id", json!(id));
        own.put(&format!("/Flag/{id}"), &other_child).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
    }

    async fn what_is_wrong_with_a_flag_is_told_at_once(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let held = app.effects().await;
        let not_r4 = with(with(plan(CPP, "2026-09-14", None), "/status", json!("asleep")), "/category", json!("safety"));
        let reply = own.post("/Flag", &not_r4).await;
        assert_eq!((reply.status, reply.json["issue"].as_array().unwrap().len()), (400, 2), "{}", reply.text);

        let against_the_rules = child(1).flag("Z9B", CPP, "2026-12-14", Some("2026-12-01"));
        let reply = own.post("/Flag", &against_the_rules).await;
        let places: Vec<&Value> = reply.json["issue"].as_array().unwrap().iter().map(|issue| &issue["expression"][0]).collect();
        assert_eq!((reply.status, places), (400, vec![&json!("Flag.period"), &json!("Flag.author")]), "{}", reply.text);
        let reply = own.post("/Flag", &plan(CPP, "2026-12-14", Some("2036-12-01"))).await;
        assert_eq!((reply.status, reply.record_codes()), (422, vec!["CPR07".to_owned(), "CPR07".to_owned()]), "{}", reply.text);
        for (body, status) in [("", 400), ("{", 400), ("[]", 400), ("{\"resourceType\":\"Patient\"}", 400)] {
            let reply = own.send("POST", "/Flag", Some(("application/fhir+json", body.as_bytes().to_vec()))).await;
            assert_eq!(reply.status, status, "{body}: {}", reply.text);
        }
        assert_eq!(app.effects().await, held);
    }

    async fn an_unborn_childs_plan_is_warned_about(backend) {
        let app = with_child(backend).await;
        let request = app.authority("Z9A").header("Prefer", "return=OperationOutcome");
        let reply = request.post("/Flag", &plan(UCP, "2026-10-01", None)).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let severities: Vec<&Value> = reply.json["issue"].as_array().unwrap().iter().map(|issue| &issue["severity"]).collect();
        assert_eq!(severities, ["information", "warning"]);
    }

    async fn a_patient_is_the_authoritys_own(backend) {
        let app = with_child(backend).await;
        let path = format!("/Patient/{}", child(1).nhs());
        let own = app.authority("Z9A");
        let read = own.get(&path).await;
        assert_eq!((read.status, read.header("etag")), (200, "W/\"1\""), "{}", read.text);
        assert_eq!(own.put(&path, &child(1).patient()).await.header("etag"), "W/\"1\"", "unchanged");
        let renamed = with(child(1).patient(), "/name/0/given", json!(["Robin", "Sam"]));
        let stale = app.authority("Z9A").header("If-Match", "W/\"2\"").put(&path, &renamed).await;
        stale.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        let updated = app.authority("Z9A").header("If-Match", "W/\"1\"").put(&path, &renamed).await;
        assert_eq!((updated.status, updated.header("etag")), (200, "W/\"2\""), "{}", updated.text);
        app.authority("Z9B").get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");

        own.put("/Patient/9990000019", &child(1).patient()).await.assert_refused(400, "invalid", "INVALID_SEARCH_DATA");
        let unlike = own.put(&format!("/Patient/{}", child(2).nhs()), &child(1).patient()).await;
        assert_eq!(unlike.status, 400, "{}", unlike.text);
        let unknown = own.put(&format!("/Patient/{}", child(2).nhs()), &child(2).patient()).await;
        assert_eq!((unknown.status, unknown.record_codes()), (422, vec!["CPR01".to_owned()]), "{}", unknown.text);
    }

    async fn an_organization_is_changed_by_itself_only(backend) {
        let app = with_child(backend).await;
        let own = |duty: &str| authority("Z9A", "WESTMARCH COUNTY COUNCIL", duty);
        let read = app.authority("Z9A").get("/Organization/Z9A").await;
        let etag = read.header("etag").to_owned();
        let changed = app.authority("Z9A").header("If-Match", &etag).put("/Organization/Z9A", &own("01632960188")).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_ne!(changed.header("etag"), etag);
        let stale = app.authority("Z9A").header("If-Match", &etag).put("/Organization/Z9A", &own("01632960177")).await;
        stale.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        // The same again: nothing changes, and the answer says so.
        let same = app.authority("Z9A").header("Prefer", "return=OperationOutcome").put("/Organization/Z9A", &own("01632960188")).await;
        assert_eq!((same.status, same.header("etag")), (200, changed.header("etag")), "{}", same.text);
        assert!(same.text.contains("has not changed"), "{}", same.text);

        let other = app.authority("Z9A").put("/Organization/Z9B", &authority("Z9B", "NOT OURS", "01632960188")).await;
        other.assert_refused(403, "forbidden", "ACCESS_DENIED");
        let bad = app.authority("Z9A").put("/Organization/Z9A", &own("12")).await;
        assert_eq!((bad.status, bad.record_codes()), (422, vec!["CPR07".to_owned()]), "{}", bad.text);
        for caller in [app.clinician(), app.auditor()] {
            let reply = caller.put("/Organization/Z9A", &own("01632960177")).await;
            reply.assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
    }

    async fn only_authorities_change_flags(backend) {
        let app = with_child(backend).await;
        let id = id_of(&app.authority("Z9A").post("/Flag", &plan(CPP, "2026-09-14", None)).await);
        let path = format!("/Flag/{id}");
        let held = app.effects().await;
        for caller in [app.clinician(), app.auditor(), app.administrator()] {
            caller.post("/Flag", &plan(LAC, "2026-09-14", None)).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
            caller.put(&path, &plan(CPP, "2026-09-14", None)).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
            caller.delete(&path).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
            caller.put(&format!("/Patient/{}", child(1).nhs()), &child(1).patient()).await
                .assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
        assert_eq!(app.effects().await, held);
    }
}
