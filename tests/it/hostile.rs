//! What a hostile client tried once: requests made to be expensive, to hide a look-up, or to make one that is none.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::harness::{CPP, TestApp, child, on_both_stores};

on_both_stores! {
    async fn a_forged_cursor_is_refused(backend) {
        let app = TestApp::start(backend).await;
        let heads: Vec<[i64; 2]> = (1..=1_000).map(|chain| [chain, 5]).collect();
        for forged in [json!({"heads": heads, "below": 9}), json!({"heads": [], "below": 9}), json!({"heads": [[5, 5], [5, 5]], "below": 9})] {
            let cursor = URL_SAFE_NO_PAD.encode(forged.to_string());
            let reply = app.auditor().form("/AuditEvent/_search", &format!("_cursor={cursor}")).await;
            reply.assert_refused(400, "value", "INVALID_VALUE");
        }
    }

    async fn another_spelling_of_a_plans_id_is_no_access(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let id = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag")[0]["id"].clone();
        let id = id.as_str().unwrap().to_owned();
        for spelling in [id.to_uppercase(), id.replace('-', "")] {
            app.clinician().get(&format!("/Flag/{spelling}")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            app.authority("Z9A").get(&format!("/Flag/{spelling}")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        assert_eq!(app.number("select count(*) as n from access"), 0);
        assert_eq!(app.number("select count(*) as n from outbox"), 0);
    }

    async fn a_cursor_tells_nothing_of_others(backend) {
        let app = TestApp::start(backend).await;
        let (one, other) = (child(1), child(2));
        for child in [&one, &other] {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", CPP, "2026-09-14", None)]).await;
        }
        for user in ["555000000101", "555000000102"] {
            app.clinician_named(user).get(&one.care_team()).await;
        }
        let accesses = format!("/AuditEvent?patient={}", one.nhs());
        let paged = ["/Patient?", "/Patient/_history?", "/Flag/_history?", "/Flag?", &format!("{accesses}&")];
        for path in paged {
            let next = app.authority("Z9A").get(&format!("{path}_count=1")).await.next_page().expect("a next page");
            let (_, cursor) = next.split_once("_cursor=").expect("a cursor");
            // The numbers in it count the rows of all authorities.
            let bytes = URL_SAFE_NO_PAD.decode(cursor).expect("base64");
            assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_err(), "{path} {}", String::from_utf8_lossy(&bytes));
            assert_eq!(app.authority("Z9A").get(&next).await.status, 200, "{next}");
            app.authority("Z9B").get(&next).await.assert_refused(400, "value", "INVALID_VALUE");
            for elsewhere in paged.iter().filter(|elsewhere| **elsewhere != path) {
                let foreign = app.authority("Z9A").get(&format!("{elsewhere}_cursor={cursor}")).await;
                foreign.assert_refused(400, "value", "INVALID_VALUE");
            }
        }
    }

    async fn a_page_that_is_gone_is_refused_and_its_look_up_audited_once(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None), ("Z9B", CPP, "2026-09-21", None)]).await;
        let next = app.clinician().get(&format!("{}&_count=1", child.care_team())).await.next_page().expect("a next page");
        for ods in ["Z9A", "Z9B"] {
            let flags = app.authority(ods).get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag");
            app.authority(ods).delete(&format!("/Flag/{}", flags[0]["id"].as_str().unwrap())).await;
        }
        let before = app.number("select count(*) as n from audit_event");
        app.clinician().get(&next).await.assert_refused(400, "value", "INVALID_VALUE");
        assert_eq!(app.number("select count(*) as n from audit_event"), before + 1);
    }

    async fn no_condition_of_a_change_is_ignored(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let flag = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag")[0].clone();
        let path = format!("/Flag/{}", flag["id"].as_str().unwrap());
        let body = || Some(("application/fhir+json", flag.to_string().into_bytes()));
        for (method, path, name, value) in [
            ("DELETE", path.as_str(), "If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("PUT", path.as_str(), "If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("PUT", path.as_str(), "If-None-Exist", "identifier=x"),
            ("POST", "/Flag", "If-Match", "W/\"7\""),
            ("POST", "/Flag", "If-None-Match", "*"),
        ] {
            let body = body().filter(|_| method != "DELETE");
            let reply = app.authority("Z9A").header(name, value).send(method, path, body).await;
            reply.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        }
        assert_eq!(app.authority("Z9A").get(&path).await.header("etag"), "W/\"1\"");
    }

    async fn nothing_is_dropped_from_what_is_asked(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let of_child = |query: &str| format!("/Flag?patient={}&{query}", child.nhs());
        for (query, code) in [
            ("_include=Flag:patient:Organization", "not-supported"),
            ("_include=Flag:author:Patient", "not-supported"),
            ("_elements=status,Bogus.status", "value"),
            ("code=http://snomed.info/sct%7Ca%7Cb", "value"),
            ("author:identifier=https://fhir.nhs.uk/Id/ods-organization-code%7CZ9A%7Cb", "value"),
        ] {
            for by in [app.clinician(), app.authority("Z9A")] {
                by.get(&of_child(query)).await.assert_refused(400, code, "INVALID_VALUE");
            }
        }
        // An accent alone is nothing once accents are left out, and every name begins with nothing.
        app.clinician().get("/Organization?name=%CC%81").await.assert_refused(400, "value", "INVALID_VALUE");
    }

    async fn what_a_form_searched_for_is_in_the_audit(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.clinician().form("/CareTeam/_search", &format!("patient={}", child.nhs())).await;
        let query = app.audit_of(child.nhs()).await[0]["entity"].as_array().unwrap().iter()
            .find_map(|entity| entity["query"].as_str().map(str::to_owned));
        let query = base64::engine::general_purpose::STANDARD.decode(query.unwrap()).unwrap();
        let query = String::from_utf8(query).unwrap();
        assert!(query.ends_with(&format!("/CareTeam/_search?patient={}", child.nhs())), "{query}");
    }
}

#[actix_web::test]
async fn expensive_requests_are_refused_cheaply() {
    let app = TestApp::start(crate::harness::Backend::Sqlite).await;
    let clinician = app.clinician();
    let many = clinician.form("/CareTeam/_search", &"x=&".repeat(5_000)).await;
    many.assert_refused(400, "value", "INVALID_VALUE");
    assert!(many.text.len() < 2_000, "{}", many.text.len());

    // Each value would be held against every row, and be a condition of the store's query: enough of them, and the stack of
    // the program was at its end.
    let names: String = (0..1_000).map(|i| format!("a{i},")).collect();
    let dates: String = (0..1_000).map(|i| format!("ne{},", 1000 + i)).collect();
    for (by, path, form) in [
        (app.clinician(), "/Organization/_search", format!("name={names}a")),
        (app.authority("Z9A"), "/Flag/_search?_id=a", format!("date={dates}2026")),
        (app.auditor(), "/AuditEvent/_search", format!("date={dates}2026")),
        (app.auditor(), "/AuditEvent/_search", format!("_elements={}action", "action,".repeat(201))),
    ] {
        by.form(path, &form).await.assert_refused(400, "value", "INVALID_VALUE");
    }
    // All of these hold whenever one of them does; every pair of them once was a condition of its own.
    let dates = "date=ge2020,ge2021,ge2022,ge2023&".repeat(45);
    assert_eq!(app.auditor().form("/AuditEvent/_search", &dates).await.status, 200);
    let form = app.auditor().form("/AuditEvent/_search", &format!("_id={}", "a".repeat(20_000))).await;
    form.assert_refused(413, "too-long", "INVALID_VALUE");

    let long = clinician.get(&format!("/CareTeam?patient={}", "9".repeat(9_000))).await;
    long.assert_refused(400, "too-long", "INVALID_VALUE");

    let values = format!("{{\"resourceType\":\"Parameters\",\"parameter\":[{}1]}}", "1,".repeat(400_000));
    let body = Some(("application/fhir+json", values.into_bytes()));
    clinician.send("POST", "/Patient/9990000018/$everything", body).await.assert_refused(
        400,
        "structure",
        "VALIDATION_ERROR",
    );

    let headers: Vec<String> = (0..200).map(|i| format!("X-{i}: a")).collect();
    let subscription = json!({
        "resourceType": "Subscription", "status": "requested", "reason": "told", "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
        "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/", "payload": "application/fhir+json", "header": headers,
            "_payload": {"extension": [{"url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content", "valueCode": "full-resource"}]}}});
    assert_eq!(app.authority("Z9A").post("/Subscription", &subscription).await.status, 422);
}

#[actix_web::test]
async fn two_tokens_are_none_and_an_authoritys_user_is_no_clinician() {
    let app = TestApp::start(crate::harness::Backend::Sqlite).await;
    let twice = app.clinician().header("Authorization", "Bearer other").get("/CareTeam?patient=9990000018").await;
    twice.assert_refused(401, "login", "ACCESS_DENIED");
    // The token names an authority as the place of a clinical role.
    app.execute("update client set role = 'clinical' where client_id = 'sandbox-local-authority-z9a'");
    let reply = app.authority("Z9A").get("/CareTeam?patient=9990000018").await;
    reply.assert_refused(403, "forbidden", "ACCESS_DENIED");
}
