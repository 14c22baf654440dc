//! Conditions of a read: 304 for what the caller owns and has already, and never where it would hide a change; HEAD; what
//! `Prefer` brings back.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::{
    Backend, CPP, Child, LAC, Reply, TestApp, UCP, authority, bundle, child, on_both_stores, upload::with,
};

/// Z9A with one plan of a child; its path.
async fn with_plan(backend: Backend, child: &Child, code: &str, start: &str, end: Option<&str>) -> (TestApp, String) {
    let app = TestApp::start(backend).await;
    app.on_record(child, &[("Z9A", code, start, end)]).await;
    let flags = app.authority("Z9A").get(&format!("/Flag?patient={}", child.nhs())).await.resources("Flag");
    (app, format!("/Flag/{}", flags[0]["id"].as_str().expect("an id")))
}

async fn events(app: &TestApp) -> i64 {
    app.number("select count(*) as n from audit_event where event_type = 'rest'")
}

/// A date as HTTP writes it.
fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn assert_unmodified(reply: &Reply, first: &Reply) {
    assert_eq!((reply.status, reply.text.as_str()), (304, ""), "{:?}", reply.headers);
    for name in ["etag", "last-modified"] {
        assert_eq!(reply.header(name), first.header(name));
    }
    assert_eq!((reply.header("content-length"), reply.header("content-type")), ("", ""));
}

on_both_stores! {
    async fn what_the_owner_has_already_is_not_sent_again(backend) {
        let child = child(1);
        let (app, flag) = with_plan(backend, &child, CPP, "2026-09-14", None).await;
        app.clock.advance(TimeDelta::minutes(1));
        let subscription = app.authority("Z9A").post("/Subscription", &json!({
            "resourceType": "Subscription", "status": "requested", "reason": "Duty team",
            "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
            "channel": {
                "type": "rest-hook", "endpoint": "https://hook.example.org/cpis", "payload": "application/fhir+json",
                "_payload": {"extension": [{
                    "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                    "valueCode": "full-resource"}]},
            },
        })).await;
        assert_eq!(subscription.status, 201, "{}", subscription.text);
        let subscription = format!("/Subscription/{}", subscription.json["id"].as_str().unwrap());
        for path in [flag, format!("/Patient/{}", child.nhs()), subscription, "/Organization/Z9A".to_owned()] {
            let first = app.authority("Z9A").get(&path).await;
            assert_eq!((first.status, first.header("etag")), (200, "W/\"1\""), "{}", first.text);
            let shown = first.json["meta"]["lastUpdated"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
            assert_eq!(first.header("last-modified"), http_date(shown), "the header agrees with the resource");
            let audited = events(&app).await;
            let mut asked = 0;
            for (name, value) in [
                ("If-None-Match", "W/\"1\""),
                ("If-None-Match", "\"1\""),
                ("If-None-Match", "*"),
                ("If-None-Match", "\"a,b\", W/\"7\" , W/\"1\""),
                ("If-Modified-Since", first.header("last-modified")),
                ("If-Modified-Since", &http_date(app.clock.now())),
            ] {
                let reply = app.authority("Z9A").header(name, value).get(&path).await;
                assert_unmodified(&reply, &first);
                asked += 1;
            }
            let two = app.authority("Z9A").header("If-None-Match", "\"x\"").header("If-None-Match", "W/\"1\"").get(&path).await;
            assert_unmodified(&two, &first);
            for headers in [
                &[("If-None-Match", "W/\"2\"")][..],
                &[("If-None-Match", "1")],
                &[("If-None-Match", "W/\"2\""), ("If-Modified-Since", &http_date(app.clock.now()))],
                &[("If-Modified-Since", &http_date(shown - TimeDelta::seconds(1)))],
                &[("If-Modified-Since", &http_date(app.clock.now() + TimeDelta::seconds(1)))],
                &[("If-Modified-Since", "2026-11-23")],
            ] {
                let mut request = app.authority("Z9A");
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let reply = request.get(&path).await;
                assert_eq!((reply.status, &reply.json), (200, &first.json), "{headers:?}");
                asked += 1;
            }
            assert_eq!(events(&app).await, audited + asked + 1, "each is audited like the read");
        }
    }

    async fn a_clinician_is_never_answered_unmodified(backend) {
        let child = child(1);
        let (app, flag) = with_plan(backend, &child, CPP, "2026-09-14", None).await;
        let care_team = flag.replace("Flag", "CareTeam");
        for path in [flag, care_team, format!("/Patient/{}", child.nhs())] {
            let reply = app.clinician().header("If-None-Match", "*").header("If-Modified-Since", &http_date(app.clock.now())).get(&path).await;
            assert_eq!((reply.status, reply.header("etag"), reply.header("last-modified")), (200, "", ""), "{path}");
        }
        let organization = app.clinician().header("If-None-Match", "W/\"1\"").get("/Organization/Z9A").await;
        assert_eq!(organization.status, 304, "public facts");
    }

    /// Each row: a plan, how long to wait, and the status that is then shown without a new version.
    async fn no_304_hides_that_a_plan_has_ended(backend) {
        let nearly_adult = Child { birth_date: "2008-11-25", ..child(3) };
        for (child, code, start, end, days, status) in [
            (child(1), CPP, "2026-09-14", Some("2026-11-24"), 0, "active"),
            (child(1), CPP, "2026-09-14", Some("2026-11-24"), 2, "inactive"),
            (child(2), UCP, "2026-01-30", None, 0, "active"),
            (child(2), UCP, "2026-01-30", None, 4, "inactive"),
            (nearly_adult.clone(), LAC, "2026-09-14", None, 1, "active"),
            (nearly_adult.clone(), LAC, "2026-09-14", None, 2, "inactive"),
        ] {
            let what = format!("{code} {start} {end:?} {days}");
            let (app, path) = with_plan(backend, &child, code, start, end).await;
            let first = app.authority("Z9A").get(&path).await;
            app.clock.advance(TimeDelta::days(days));
            let again = app.authority("Z9A").get(&path).await;
            assert_eq!((again.status, &again.json["status"], again.header("etag")), (200, &json!(status), "W/\"1\""), "{what}");
            let may_be_unmodified = code == LAC && status == "active";
            let expected = if may_be_unmodified { 304 } else { 200 };
            for request in [
                app.authority("Z9A").header("If-None-Match", first.header("etag")),
                app.authority("Z9A").header("If-None-Match", "*"),
                app.authority("Z9A").header("If-Modified-Since", first.header("last-modified")),
            ] {
                assert_eq!(request.get(&path).await.status, expected, "{what}");
            }
            let shown = again.json["meta"]["lastUpdated"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
            assert_eq!(again.header("last-modified"), http_date(shown), "{what}");
            let recorded = first.json["meta"]["lastUpdated"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
            if status == "inactive" {
                // It changed at the midnight between.
                assert!(shown > recorded && shown <= app.clock.now(), "{what}: {shown}");
                assert_eq!(shown.format("%H:%M:%S%.3f").to_string(), "00:00:00.000", "{what}");
            } else {
                assert_eq!(shown, recorded, "{what}");
            }
        }
    }

    /// What is shown besides the version's own facts: the authority's name, and whether the child is of age.
    async fn no_304_hides_what_else_has_changed(backend) {
        let child = child(1);
        let (app, path) = with_plan(backend, &child, CPP, "2026-09-14", None).await;
        let unmodified = async || app.authority("Z9A").header("If-None-Match", "W/\"1\"").get(&path).await;
        assert_eq!(unmodified().await.status, 304);
        app.execute("update person set traced_birth_date = '2005-01-01'");
        let adult = unmodified().await;
        assert_eq!((adult.status, &adult.json["status"]), (200, &json!("inactive")), "{}", adult.text);
        app.execute("update person set traced_birth_date = '2017-05-11'");
        app.clock.advance(TimeDelta::minutes(1));
        let own = authority("Z9A", "ANOTHER NAME", "01632960188");
        assert_eq!(app.authority("Z9A").put("/Organization/Z9A", &own).await.status, 200);
        let renamed = unmodified().await;
        assert_eq!((renamed.status, &renamed.json["author"]["display"]), (200, &json!("ANOTHER NAME")), "{}", renamed.text);
        let stale = app.authority("Z9A").header("If-None-Match", "W/\"1\"").get("/Organization/Z9A").await;
        assert_eq!((stale.status, stale.header("etag")), (200, "W/\"2\""));
    }

    async fn two_changes_within_a_second_are_told_apart(backend) {
        let app = TestApp::start(backend).await;
        let own = |duty: &str| authority("Z9A", "WESTMARCH COUNTY COUNCIL", duty);
        let first = app.authority("Z9A").put("/Organization/Z9A", &own("01632960188")).await;
        app.clock.advance(TimeDelta::milliseconds(10));
        let second = app.authority("Z9A").put("/Organization/Z9A", &own("01632960177")).await;
        assert_eq!(first.header("last-modified"), second.header("last-modified"));
        let request = app.authority("Z9A").header("If-Modified-Since", first.header("last-modified"));
        assert_eq!(request.get("/Organization/Z9A").await.status, 200, "the date can't tell");
    }

    async fn a_change_may_ask_that_there_is_nothing_yet(backend) {
        let child = child(1);
        let (app, flag) = with_plan(backend, &child, CPP, "2026-09-14", None).await;
        let held = app.effects().await;
        let patient = format!("/Patient/{}", child.nhs());
        let own = authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960188");
        let body = with(child.flag("Z9A", CPP, "2026-09-14", None), "/id", json!(flag["/Flag/".len()..]));
        for (path, body) in [(&flag, &body), (&patient, &child.patient()), (&"/Organization/Z9A".to_owned(), &own)] {
            let reply = app.authority("Z9A").header("If-None-Match", "*").put(path, body).await;
            reply.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
            for headers in [&[("If-None-Match", "W/\"1\"")][..], &[("If-Match", "W/\"1\""), ("If-None-Match", "*")], &[("If-Match", "1")]] {
                let mut request = app.authority("Z9A");
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                request.put(path, body).await.assert_refused(400, "invalid", "PRECONDITION_FAILED");
            }
        }
        assert_eq!(app.effects().await["plan_version"], held["plan_version"]);
        let exists = app.authority("Z9A").header("If-Match", "*").put(&patient, &child.patient()).await;
        assert_eq!(exists.status, 200, "{}", exists.text);
        app.register(&crate::harness::child(2)).await;
        let other = crate::harness::child(2);
        let absent = app.authority("Z9A").header("If-Match", "*").put(&format!("/Patient/{}", other.nhs()), &other.patient()).await;
        absent.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
    }

    async fn head_tells_and_is_audited_as_get(backend) {
        let child = child(1);
        let (app, flag) = with_plan(backend, &child, CPP, "2026-09-14", None).await;
        let accesses = || app.number("select count(*) as n from access");
        for (request, path) in [
            (app.authority("Z9A"), flag.clone()),
            (app.authority("Z9A"), "/Organization/Z9A".to_owned()),
            (app.authority("Z9A"), "/Flag/0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10".to_owned()),
            (app.anonymous(), "/metadata".to_owned()),
            (app.anonymous(), "//_ping".to_owned()),
            (app.anonymous(), "//_status".to_owned()),
            (app.anonymous(), "//openapi.json".to_owned()),
            (app.clinician(), child.history()),
        ] {
            let request = request.header("X-Request-ID", "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10");
            let before = events(&app).await;
            let get = request.get(&path).await;
            let each = events(&app).await - before;
            let head = request.send("HEAD", &path, None).await;
            assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
            let headers = |reply: &Reply| {
                let mut headers = reply.headers.clone();
                headers.remove("date");
                headers
            };
            assert_eq!(headers(&head), headers(&get), "{path}");
            assert_eq!(head.header("content-length"), get.text.len().to_string(), "{path}");
            assert_eq!(events(&app).await - before, 2 * each, "{path}");
        }
        // A look-up of a child is an access, however much of its answer is sent.
        let before = accesses();
        let head = app.clinician_named("555000000102").send("HEAD", &child.care_team(), None).await;
        assert_eq!((head.status, accesses()), (200, before + 1));
        let last = &app.audit_of(child.nhs()).await[0];
        assert_eq!(last["subtype"][0]["code"], "search-type");
        // The request line, in base64: HEAD and the path.
        assert!(last["entity"].to_string().contains("SEVBRCAv"), "{last}");
        let unmodified = app.authority("Z9A").header("If-None-Match", "W/\"1\"").send("HEAD", &flag, None).await;
        assert_eq!((unmodified.status, unmodified.header("etag")), (304, "W/\"1\""));
        let token = app.token(&cpis_gateway::http::sandbox::TokenForm::parse(b"role=local-authority&organization=Z9A").unwrap());
        let path = format!("{}{flag}", app.settings().base_path);
        let bytes = format!("HEAD {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        let raw = app.raw(bytes.into_bytes()).await;
        assert_eq!((raw.status, raw.text.as_str()), (200, ""), "no byte of the body is sent");
        assert_ne!(raw.header("content-length"), "0");
    }

    async fn an_upload_says_as_much_as_is_preferred(backend) {
        let app = TestApp::start(backend).await;
        for kind in ["batch", "transaction"] {
            for (index, prefer) in ["", "return=minimal", "return=OperationOutcome", "wait=10, return=\"representation\""].into_iter().enumerate() {
                let child = child(u32::try_from(index).unwrap() + if kind == "batch" { 1 } else { 11 });
                app.register(&child).await;
                let own = json!({"resource": authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960999"),
                    "request": {"method": "PUT", "url": "Organization/Z9A"}});
                let entries = [own, child.put_patient(), child.post_flag("Z9A", CPP, "2026-09-14", None)];
                let mut request = app.authority("Z9A");
                if !prefer.is_empty() {
                    request = request.header("Prefer", prefer);
                }
                let reply = request.post("", &bundle(kind, &entries)).await;
                assert_eq!(reply.status, 200, "{}", reply.text);
                let entries = reply.json["entry"].as_array().unwrap();
                let types: Vec<&Value> = entries.iter().map(|entry| &entry["resource"]["resourceType"]).collect();
                if prefer.contains("representation") {
                    assert_eq!(types, ["Organization", "Patient", "Flag"], "{}", reply.text);
                    let id = entries[2]["resource"]["id"].as_str().unwrap();
                    assert!(entries[2]["response"]["location"].as_str().unwrap().contains(id));
                } else {
                    assert!(types.iter().all(|kind| kind.is_null()), "{prefer}: {}", reply.text);
                }
                assert!(entries.iter().all(|entry| entry["response"]["outcome"]["issue"].is_array()), "{}", reply.text);
                assert!(reply.text.contains("CPR06"), "{}", reply.text);
            }
            let unknown = app.authority("Z9A").header("Prefer", "return=everything").post("", &bundle(kind, &[child(1).put_patient()])).await;
            unknown.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        }
        // A record that is refused or deleted has nothing to show.
        let gone = crate::harness::upload::entry("DELETE", &format!("Flag?patient={}", child(1).nhs()), Value::Null);
        let bad = child(99).put_patient();
        let reply = app.authority("Z9A").header("Prefer", "return=representation").post("", &bundle("batch", &[gone, bad])).await;
        assert_eq!(reply.statuses(), [204, 422], "{}", reply.text);
        assert!(reply.resources("Flag").is_empty() && reply.resources("Patient").is_empty());
    }
}
