//! Conditional interactions of an authority: create, update and delete by criteria (R4 http.html), among its own plans
//! alone.

use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, Reply, TestApp, child, on_both_stores,
    upload::{with, with_local_id},
};

/// Z9A with a CPP and a LAC of a child, Z9B with a CPP of the same child.
async fn shared(backend: Backend) -> (TestApp, Child) {
    let (app, child) = (TestApp::start(backend).await, child(1));
    app.on_record(&child, &[("Z9A", LAC, "2026-10-01", None), ("Z9B", CPP, "2026-09-21", None)]).await;
    let own = with_local_id(child.flag("Z9A", CPP, "2026-09-14", None), "CPP-1");
    let reply = app.authority("Z9A").post("/Flag", &own).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    (app, child)
}

fn by_code(child: &Child, code: &str) -> String {
    format!("/Flag?patient={}&code=http://snomed.info/sct%7C{code}", child.nhs())
}

async fn own(app: &TestApp, authority: &str, child: &Child) -> Vec<Value> {
    app.authority(authority).get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag")
}

async fn own_id(app: &TestApp, authority: &str, child: &Child, code: &str) -> String {
    let flags = own(app, authority, child).await;
    let flag = flags.iter().find(|flag| flag["code"].to_string().contains(code)).expect("the flag");
    flag["id"].as_str().expect("an id").to_owned()
}

fn assert_several(reply: &Reply) {
    reply.assert_refused(412, "multiple-matches", "RESOURCE_VERSION_MISMATCH");
}

on_both_stores! {
    async fn an_update_by_criteria_finds_none_one_or_several(backend) {
        let (app, child) = shared(backend).await;
        let id = own_id(&app, "Z9A", &child, CPP).await;

        // One: it is updated, though its start is another.
        let moved = child.flag("Z9A", CPP, "2026-09-15", None);
        let updated = app.authority("Z9A").put(&by_code(&child, CPP), &moved).await;
        assert_eq!((updated.status, updated.header("etag")), (200, "W/\"2\""), "{}", updated.text);
        assert_eq!((updated.json["id"].as_str(), &updated.json["period"]["start"]), (Some(&*id), &json!("2026-09-15")));
        assert_eq!(updated.json["identifier"][0]["value"], "CPP-1", "an id that isn't sent again stays");
        assert!(updated.header("location").ends_with(&format!("/Flag/{id}/_history/2")));
        let named = app.authority("Z9A").put(&format!("/{}", child.criteria("CPP-1")), &moved).await;
        assert_eq!((named.status, named.header("etag")), (200, "W/\"2\""), "unchanged: {}", named.text);

        // Several: none of them.
        let held = app.effects().await;
        assert_several(&app.authority("Z9A").put(&format!("/Flag?patient={}", child.nhs()), &moved).await);
        assert_eq!(app.effects().await, held);

        // None: a new one.
        let other = child_of(&app, 2).await;
        let created = app.authority("Z9A").put(&by_code(&other, CPP), &other.flag("Z9A", CPP, "2026-09-15", None)).await;
        assert_eq!((created.status, created.header("etag")), (201, "W/\"1\""), "{}", created.text);
    }

    async fn a_delete_by_criteria_finds_none_one_or_several(backend) {
        let (app, child) = shared(backend).await;
        let id = own_id(&app, "Z9A", &child, LAC).await;
        assert_several(&app.authority("Z9A").delete(&format!("/Flag?patient={}", child.nhs())).await);
        let stale = app.authority("Z9A").header("If-Match", "W/\"4\"").delete(&by_code(&child, LAC)).await;
        stale.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        assert_eq!(own(&app, "Z9A", &child).await.len(), 2);

        let current = app.authority("Z9A").header("If-Match", "W/\"1\"").delete(&by_code(&child, LAC)).await;
        assert_eq!((current.status, current.text.as_str()), (204, ""));
        app.authority("Z9A").get(&format!("/Flag/{id}")).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        assert_eq!(app.authority("Z9A").delete(&by_code(&child, LAC)).await.status, 204, "a delete may be repeated");
        // Now one is left, so that its child names it.
        assert_eq!(app.authority("Z9A").delete(&format!("/Flag?patient={}", child.nhs())).await.status, 204);
        let nothing = app.authority("Z9A").delete(&format!("/{}", child.criteria("CPP-9"))).await;
        assert_eq!((nothing.status, nothing.record_codes()), (422, vec!["CPR07".to_owned()]), "{}", nothing.text);
        assert_eq!(own(&app, "Z9B", &child).await.len(), 1, "another authority's is not touched");
    }

    async fn a_create_that_finds_a_plan_leaves_it_as_it_is(backend) {
        let (app, child) = shared(backend).await;
        let id = own_id(&app, "Z9A", &child, CPP).await;
        let create = |criteria: &str, flag: &Value| app.authority("Z9A").header("If-None-Exist", criteria).post("/Flag", flag);
        let flag = child.flag("Z9A", CPP, "2026-10-14", Some("2026-11-01"));
        let found = create(&by_code(&child, CPP)["/Flag".len()..], &flag).await;
        assert_eq!((found.status, found.json["id"].as_str(), found.header("etag")), (200, Some(&*id), "W/\"1\""), "{}", found.text);
        assert_eq!(found.json["period"], json!({"start": "2026-09-14"}));
        assert_several(&create(&format!("patient={}", child.nhs()), &flag).await);
        let other = child_of(&app, 2).await;
        let none = create(&by_code(&other, CPP)["/Flag?".len()..], &other.flag("Z9A", CPP, "2026-10-14", None)).await;
        assert_eq!(none.status, 201, "{}", none.text);
        for criteria in ["", "status=active", "patient=9990000019", "patient=1&patient=2"] {
            assert_eq!(create(criteria, &flag).await.status, 400, "{criteria}");
        }
    }

    async fn criteria_that_are_not_understood_change_nothing(backend) {
        let (app, child) = shared(backend).await;
        let held = app.effects().await;
        let flag = child.flag("Z9A", CPP, "2026-09-15", None);
        let nhs = child.nhs();
        for (query, issue, spine) in [
            ("", "invalid", "INVALID_VALUE"),
            ("?status=active", "not-supported", "INVALID_VALUE"),
            ("?patient={nhs}&status=active", "not-supported", "INVALID_VALUE"),
            ("?patient:exact={nhs}", "not-supported", "INVALID_VALUE"),
            ("?patient=9990000019", "invalid", "INVALID_SEARCH_DATA"),
            ("?patient={nhs}&patient={nhs}", "value", "INVALID_VALUE"),
            ("?patient={nhs}&code=1", "invalid", "INVALID_VALUE"),
            ("?patient={nhs}&identifier=", "invalid", "INVALID_VALUE"),
            ("?patient=%zz", "value", "INVALID_VALUE"),
        ] {
            let path = format!("/Flag{}", query.replace("{nhs}", nhs));
            let reply = app.authority("Z9A").put(&path, &flag).await;
            reply.assert_refused(400, issue, spine);
            assert_eq!(app.authority("Z9A").delete(&path).await.status, 400, "{query}");
        }
        // A delete needs its child; an update has it in the body.
        app.authority("Z9A").delete("/Flag?identifier=CPP-1").await.assert_refused(400, "invalid", "INVALID_SEARCH_DATA");
        let formatted = app.authority("Z9A").put(&format!("{}&_format=json&_pretty=true", by_code(&child, CPP)), &child.flag("Z9A", CPP, "2026-09-14", None)).await;
        assert_eq!((formatted.status, formatted.header("etag")), (200, "W/\"1\""), "{}", formatted.text);
        for (code, local_id) in [(LAC, None), (CPP, Some("CPP-2"))] {
            let flag = child.flag("Z9A", code, "2026-09-14", None);
            let flag = local_id.map_or(flag.clone(), |id| with_local_id(flag, id));
            let unlike = app.authority("Z9A").put(&format!("/{}", child.criteria_with_code("CPP-1", CPP)), &flag).await;
            assert_eq!(unlike.status, 422, "{}", unlike.text);
        }
        for caller in [app.clinician(), app.auditor(), app.administrator()] {
            caller.put(&by_code(&child, CPP), &flag).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
            caller.delete(&by_code(&child, CPP)).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        }
        assert_eq!(app.effects().await["plan_version"], held["plan_version"]);
    }

    async fn an_id_in_the_body_is_that_of_the_plan_found(backend) {
        let (app, child) = shared(backend).await;
        let id = own_id(&app, "Z9A", &child, CPP).await;
        let flag = |id: &str| with(child.flag("Z9A", CPP, "2026-09-14", Some("2026-11-01")), "/id", json!(id));
        let other = own_id(&app, "Z9B", &child, CPP).await;
        for wrong in [other.as_str(), "1"] {
            let reply = app.authority("Z9A").put(&by_code(&child, CPP), &flag(wrong)).await;
            reply.assert_refused(400, "invariant", "INVALID_VALUE");
            assert_eq!(reply.json["issue"][0]["expression"], json!(["Flag.id"]));
        }
        assert_eq!(app.authority("Z9A").put(&by_code(&child, CPP), &flag(&id)).await.header("etag"), "W/\"2\"");
    }

    async fn preconditions_of_an_update_by_criteria(backend) {
        let (app, child) = shared(backend).await;
        let path = by_code(&child, CPP);
        let put = |name: &str, value: &str, end| {
            app.authority("Z9A").header(name, value).put(&path, &child.flag("Z9A", CPP, "2026-09-14", end))
        };
        for (name, value) in [("If-Match", "W/\"2\""), ("If-Match", "\"x\""), ("If-None-Match", "*")] {
            put(name, value, Some("2026-11-01")).await.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        }
        assert_eq!(put("If-Match", "W/\"1\"", Some("2026-11-01")).await.header("etag"), "W/\"2\"");
        assert_eq!(put("If-Match", "*", Some("2026-11-02")).await.header("etag"), "W/\"3\"");
        let other = child_of(&app, 2).await;
        let absent = by_code(&other, CPP);
        let flag = other.flag("Z9A", CPP, "2026-09-14", None);
        for value in ["*", "W/\"1\""] {
            let reply = app.authority("Z9A").header("If-Match", value).put(&absent, &flag).await;
            reply.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        }
        assert_eq!(app.authority("Z9A").header("If-None-Match", "*").put(&absent, &flag).await.status, 201);
    }

    /// What an authority's criteria find does not depend on what another holds.
    async fn criteria_find_nothing_of_another_authority(backend) {
        let told = async |other_holds: bool| {
            let (app, child) = (TestApp::start(backend).await, child(1));
            app.register(&child).await;
            if other_holds {
                app.on_record_again(&child, &[("Z9B", CPP, "2026-09-14", None), ("Z9B", LAC, "2026-09-14", None)]).await;
            }
            assert_eq!(app.authority("Z9A").put(&format!("/Patient/{}", child.nhs()), &child.patient()).await.status, 201);
            let mut told = Vec::new();
            let flag = |end| child.flag("Z9A", CPP, "2026-09-14", end);
            let patient = format!("/Flag?patient={}", child.nhs());
            let z9a = || app.authority("Z9A");
            for reply in [
                z9a().delete(&patient).await,
                z9a().delete(&by_code(&child, CPP)).await,
                z9a().header("If-Match", "W/\"1\"").put(&patient, &flag(None)).await,
                z9a().header("If-None-Match", "*").put(&patient, &flag(None)).await,
                z9a().put(&patient, &flag(Some("2026-11-01"))).await,
                z9a().header("If-None-Exist", &patient["/Flag?".len()..]).post("/Flag", &flag(None)).await,
                z9a().delete(&patient).await,
            ] {
                told.push((reply.status, reply.header("etag").to_owned(), reply.record_codes()));
            }
            told
        };
        let alone = told(false).await;
        assert_eq!(alone.iter().map(|(status, ..)| *status).collect::<Vec<_>>(), [422, 422, 412, 201, 200, 200, 204]);
        assert_eq!(told(true).await, alone);
    }

    async fn a_patient_is_updated_by_its_number(backend) {
        let app = TestApp::start(backend).await;
        let (one, two) = (child(1), child(2));
        app.register(&one).await;
        app.register(&two).await;
        let path = format!("/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number%7C{}", one.nhs());
        let created = app.authority("Z9A").put(&path, &with(one.patient(), "/id", Value::Null)).await;
        assert_eq!((created.status, created.json["id"].as_str()), (201, Some(one.nhs())), "{}", created.text);
        let renamed = with(one.patient(), "/name/0/given", json!(["Robin", "Sam"]));
        let updated = app.authority("Z9A").header("If-Match", "W/\"1\"").put(&path, &renamed).await;
        assert_eq!((updated.status, updated.header("etag")), (200, "W/\"2\""), "{}", updated.text);
        let exists = app.authority("Z9A").header("If-None-Match", "*").put(&path, &renamed).await;
        exists.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        let fresh = app.authority("Z9B").header("If-None-Match", "*").put(&path, &one.patient()).await;
        assert_eq!(fresh.status, 201, "another authority's row is not there: {}", fresh.text);

        assert_eq!(app.authority("Z9A").put(&path, &two.patient()).await.status, 400, "the body is of another child");
        let unlike = with(two.patient(), "/id", Value::Null);
        assert_eq!(app.authority("Z9A").put(&path, &unlike).await.status, 422, "the number in the body is another");
        for (query, spine) in [("", "INVALID_SEARCH_DATA"), ("?identifier=1", "INVALID_SEARCH_DATA"), ("?name=Testcase", "INVALID_VALUE")] {
            let reply = app.authority("Z9A").put(&format!("/Patient{query}"), &one.patient()).await;
            assert_eq!((reply.status, &*reply.spine_codes()[0]), (400, spine), "{query}: {}", reply.text);
        }
    }

    async fn what_was_conditional_is_audited(backend) {
        let (app, child) = shared(backend).await;
        app.authority("Z9A").put(&by_code(&child, CPP), &child.flag("Z9A", CPP, "2026-09-14", Some("2026-11-01"))).await;
        app.authority("Z9A").delete(&by_code(&child, LAC)).await;
        app.authority("Z9A").delete(&format!("/Flag?patient={}&colour=red", child.nhs())).await;
        let events = app.audit_of(child.nhs()).await;
        let told: Vec<_> = events.iter().take(3)
            .map(|event| (event["subtype"][0]["code"].as_str().unwrap(), event["outcome"].as_str().unwrap())).collect();
        assert_eq!(told, [("delete", "4"), ("delete", "0"), ("update", "0")]);
    }
}

/// Another child that Z9A has sent, without a plan.
async fn child_of(app: &TestApp, index: u32) -> Child {
    let child = child(index);
    app.register(&child).await;
    let reply = app.authority("Z9A").put(&format!("/Patient/{}", child.nhs()), &child.patient()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    child
}
