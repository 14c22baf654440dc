//! Versions and histories: `vread`, `_history` of a resource and of a type, for the owner alone.

mod numbers;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::{
    harness::{
        Backend, CPP, LAC, Reply, TestApp, UCP, authority, bundle, child, on_both_stores,
        upload::{entry, with, with_local_id},
    },
    refusals::{events_of, request_id},
};

const NOBODYS: &str = "3a8e4f0c-6a0b-4f43-9a41-2b1c0d9e8f70";

/// Z9A with the first child of the register, sent at noon.
async fn with_child(backend: Backend) -> TestApp {
    let app = TestApp::start(backend).await;
    app.register(&child(1)).await;
    app.register(&child(2)).await;
    let reply = app.authority("Z9A").put(&format!("/Patient/{}", child(1).nhs()), &child(1).patient()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    app
}

/// A plan of the first child by Z9A; its path.
async fn with_plan(app: &TestApp, code: &str, start: &str, end: Option<&str>) -> String {
    let created = app.authority("Z9A").post("/Flag", &child(1).flag("Z9A", code, start, end)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    format!("/Flag/{}", created.json["id"].as_str().expect("an id"))
}

/// The plan gets another end; its version.
async fn end(app: &TestApp, path: &str, end: &str) {
    let id = path.rsplit('/').next().expect("an id");
    let read = app.authority("Z9A").get(path).await;
    let body = with(with(read.json, "/period/end", json!(end)), "/meta", Value::Null);
    let reply = app.authority("Z9A").put(path, &with(body, "/id", json!(id))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

async fn rename(app: &TestApp, given: &str) {
    let body = with(child(1).patient(), "/name/0/given", json!(["Robin", given]));
    let reply = app.authority("Z9A").put(&format!("/Patient/{}", child(1).nhs()), &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

fn later(app: &TestApp, milliseconds: i64) {
    app.clock.advance(TimeDelta::milliseconds(milliseconds));
}

/// (method, etag) of each entry.
fn entries(reply: &Reply) -> Vec<(String, String)> {
    assert_eq!((reply.status, &reply.json["type"]), (200, &json!("history")), "{}", reply.text);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let entries = reply.json["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(&entry["request"]["method"]), text(&entry["response"]["etag"]))).collect()
}

/// The versions of the entries, `W/"3"` as 3.
fn versions(reply: &Reply) -> Vec<i64> {
    entries(reply).iter().map(|(_, etag)| etag[3..etag.len() - 1].parse().expect("a version")).collect()
}

/// The versions of all pages from an address on, and how many pages there were.
async fn all_pages(app: &TestApp, path: &str) -> (Vec<(String, i64)>, usize) {
    let (mut found, mut next, mut pages) = (Vec::new(), Some(path.to_owned()), 0);
    while let Some(path) = next {
        let reply = app.authority("Z9A").get(&path).await;
        let ids = reply.json["entry"].as_array().cloned().unwrap_or_default();
        let ids = ids.iter().map(|entry| entry["fullUrl"].as_str().expect("a URL").to_owned());
        found.extend(ids.zip(versions(&reply)));
        next = reply.next_page();
        pages += 1;
        assert!(pages < 100);
    }
    (found, pages)
}

/// What R4 asks of a Bundle of type history: bdl-3, bdl-4, bdl-5, bdl-8.
fn assert_is_history(app: &TestApp, reply: &Reply) {
    assert_eq!(reply.json["type"], "history");
    for entry in reply.json["entry"].as_array().into_iter().flatten() {
        let url = entry["fullUrl"].as_str().expect("a fullUrl");
        assert!(url.starts_with(&app.base) && !url.contains("_history"), "{url}");
        let method = entry["request"]["method"].as_str().expect("a method");
        assert!(entry["request"]["url"].is_string() && entry["response"]["status"].is_string());
        assert!(entry["response"]["lastModified"].is_string() && entry["search"].is_null());
        assert_eq!(entry["resource"].is_null(), method == "DELETE", "{entry}");
        if method != "DELETE" {
            let version = format!("W/\"{}\"", entry["resource"]["meta"]["versionId"].as_str().expect("a version"));
            assert_eq!(entry["response"]["etag"], version.as_str());
            assert_eq!(entry["response"]["lastModified"], entry["resource"]["meta"]["lastUpdated"]);
        }
    }
}

on_both_stores! {
    async fn each_resource_shows_its_versions_newest_first(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let flag = with_local_id(child(1).flag("Z9A", CPP, "2026-09-14", None), "CPP-1");
        let created = own.post("/Flag", &flag).await;
        let path = format!("/Flag/{}", created.json["id"].as_str().expect("an id"));
        later(&app, 1);
        end(&app, &path, "2026-11-20").await;
        later(&app, 1);
        rename(&app, "Sam").await;
        later(&app, 1);
        assert_eq!(own.delete(&path).await.status, 204);
        later(&app, 1);
        let changed = own.put("/Organization/Z9A", &authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960188")).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        for (name, path, total) in [
            ("flag_history", format!("{path}/_history"), Some(3)),
            ("patient_history", format!("/Patient/{}/_history", child(1).nhs()), Some(2)),
            ("organization_history", "/Organization/Z9A/_history".to_owned(), Some(2)),
            ("flags_history", "/Flag/_history".to_owned(), None),
            ("patients_history", "/Patient/_history".to_owned(), None),
            ("organizations_history", "/Organization/_history?_count=2".to_owned(), None),
        ] {
            let reply = own.get(&path).await;
            assert_eq!((reply.status, reply.json["total"].as_i64()), (200, total), "{path}: {}", reply.text);
            assert_is_history(&app, &reply);
            insta::assert_json_snapshot!(name, reply.settled(), {
                ".link[2].url" => "[next]",
            });
        }
        let organizations = app.number("select count(*) as n from organization");
        let (all, _) = all_pages(&app, "/Organization/_history?_count=3").await;
        assert_eq!(i64::try_from(all.len()).unwrap(), organizations + 1, "each organisation, one of them twice");
    }

    async fn a_version_is_read_as_it_was_on_its_day(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let path = with_plan(&app, CPP, "2026-09-14", Some("2026-11-25")).await;
        let first = format!("{path}/_history/1");
        let (read, version) = (own.get(&path).await, own.get(&first).await);
        assert_eq!((version.status, &version.json), (200, &read.json));
        assert_eq!((version.header("etag"), version.header("last-modified")), ("W/\"1\"", read.header("last-modified")));
        assert_eq!((version.header("cache-control"), &version.json["status"]), ("no-store", &json!("active")));

        // The newest version is as of now, as it is read.
        app.clock.advance(TimeDelta::days(3));
        let own = app.authority("Z9A");
        let (read, version) = (own.get(&path).await, own.get(&first).await);
        assert_eq!((&read.json["status"], &version.json), (&json!("inactive"), &read.json));
        assert_eq!(version.json["meta"]["lastUpdated"], "2026-11-26T00:00:00.000Z");
        let history = own.get(&format!("{path}/_history")).await;
        assert_is_history(&app, &history);
        assert_eq!(history.resources("Flag"), [read.json]);

        // Once it has been replaced it is as of its own day.
        end(&app, &path, "2026-11-24").await;
        let version = own.get(&first).await;
        assert_eq!((version.status, &version.json["status"]), (200, &json!("active")), "{}", version.text);
        assert_eq!(version.json["meta"], json!({"versionId": "1", "lastUpdated": "2026-11-23T12:00:00.000Z"}));
        assert_eq!(version.json["period"]["end"], "2026-11-25");
        let second = own.get(&format!("{path}/_history/2")).await;
        assert_eq!((&second.json["status"], second.header("etag")), (&json!("inactive"), "W/\"2\""));
        let history = own.get(&format!("{path}/_history")).await;
        assert_eq!(history.resources("Flag"), [second.json, version.json]);
        assert_eq!(own.get("/Flag/_history").await.resources("Flag"), history.resources("Flag"));
    }

    async fn a_deleted_plan_keeps_its_history_for_its_owner(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let path = with_plan(&app, UCP, "2026-09-14", None).await;
        assert_eq!(own.delete(&path).await.status, 204);
        own.get(&path).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        own.get(&format!("{path}/_history/2")).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        let first = own.get(&format!("{path}/_history/1")).await;
        assert_eq!((first.status, &first.json["status"]), (200, &json!("active")), "{}", first.text);
        for history in [format!("{path}/_history"), "/Flag/_history".to_owned()] {
            let reply = own.get(&history).await;
            assert_eq!(entries(&reply), [("DELETE".to_owned(), "W/\"2\"".to_owned()), ("POST".to_owned(), "W/\"1\"".to_owned())]);
            let deleted = &reply.json["entry"][0];
            assert!(deleted["resource"].is_null());
            assert_eq!(deleted["response"]["outcome"]["issue"][0]["details"]["coding"][0]["code"], "entered-in-error");
        }
        let deleted_since = own.get(&format!("{path}/_history?_at=2026-11-24")).await;
        assert_eq!(versions(&deleted_since), [2], "that it is deleted is what holds then");
        for other in [app.authority("Z9B"), app.authority("Z9C")] {
            for path in [format!("{path}/_history/1"), format!("{path}/_history/2"), format!("{path}/_history")] {
                other.get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
            }
        }
    }

    async fn pages_stand_still_while_changes_are_made(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        for day in 1..=8 {
            later(&app, 1);
            end(&app, &path, &format!("2026-11-{day:02}")).await;
        }
        for (history, total) in [(format!("{path}/_history?_count=2"), Some(9)), ("/Flag/_history?_count=2".to_owned(), None)] {
            let (mut found, mut next) = (Vec::new(), Some(history.clone()));
            let mut day = if total.is_some() { 9 } else { 14 };
            let newest = day;
            while let Some(page) = next {
                let reply = app.authority("Z9A").get(&page).await;
                assert_eq!(reply.json["total"].as_i64(), total, "{}", reply.text);
                assert!(versions(&reply).len() <= 2);
                found.extend(versions(&reply));
                next = reply.next_page();
                // A version more for each page that is read.
                end(&app, &path, &format!("2026-11-{day:02}")).await;
                day += 1;
            }
            let expected: Vec<i64> = (1..=newest).rev().collect();
            assert_eq!(found, expected, "{history}: what was there, once each, and nothing later");
        }
        let (whole, pages) = all_pages(&app, &format!("{path}/_history?_count=200")).await;
        assert_eq!((whole.len(), pages), (21, 1));
        let (others, pages) = all_pages(&app, "/Patient/_history?_count=1").await;
        assert_eq!((others.len(), pages), (1, 1));
    }

    async fn since_and_at_are_kept_to_the_millisecond(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        // Version 1 at 12:00:00.000, version 2 at .010, version 3 (deleted) at .020.
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        later(&app, 10);
        end(&app, &path, "2026-11-20").await;
        later(&app, 10);
        assert_eq!(own.delete(&path).await.status, 204);
        let at = |time: &str| format!("2026-11-23T12:00:{time}Z");
        for (query, expected) in [
            (format!("_since={}", at("00.000")), vec![3, 2, 1]),
            (format!("_since={}", at("00.0000001")), vec![3, 2]),
            (format!("_since={}", at("00.001")), vec![3, 2]),
            (format!("_since={}", at("00.010")), vec![3, 2]),
            (format!("_since={}", at("00.011")), vec![3]),
            (format!("_since={}", at("00.020")), vec![3]),
            (format!("_since={}", at("00.021")), vec![]),
            ("_since=2026-11-23T13:00:00.020%2B01:00".to_owned(), vec![3]),
            ("_since=2026-11-23T13:00:00.020+01:00".to_owned(), vec![3]),
            (format!("_at={}", at("00.000")), vec![1]),
            (format!("_at={}", at("00.009")), vec![1]),
            (format!("_at={}", at("00.010")), vec![2]),
            (format!("_at={}", at("00.019")), vec![2]),
            (format!("_at={}", at("00.020")), vec![3]),
            (format!("_at={}", at("00.021")), vec![3]),
            ("_at=2026-11-23T11:59:59.999Z".to_owned(), vec![]),
            ("_at=2026-11-23T11:59:59Z".to_owned(), vec![]),
            (format!("_at={}", at("00")), vec![3, 2, 1]),
            (format!("_at={}", at("01")), vec![3]),
            ("_at=2026-11-23".to_owned(), vec![3, 2, 1]),
            ("_at=2026-11-22".to_owned(), vec![]),
            ("_at=2026-11-24".to_owned(), vec![3]),
            ("_at=2026-11".to_owned(), vec![3, 2, 1]),
            ("_at=2025".to_owned(), vec![]),
            ("_at=2027".to_owned(), vec![3]),
            ("_at=2026-11-23T12:00".to_owned(), vec![3, 2, 1]),
            (format!("_at=lt{}", at("00.010")), vec![1]),
            (format!("_at=gt{}", at("00.010")), vec![3, 2]),
            (format!("_at=2026-11-23&_since={}", at("00.010")), vec![3, 2]),
            (format!("_at={}&_since={}", at("00.005"), at("00.010")), vec![]),
        ] {
            let instance = own.get(&format!("{path}/_history?{query}")).await;
            assert_eq!(versions(&instance), expected, "{query}");
            assert_eq!(instance.total(), i64::try_from(expected.len()).unwrap(), "{query}");
            assert_eq!(versions(&own.get(&format!("/Flag/_history?{query}")).await), expected, "type: {query}");
            let (paged, _) = all_pages(&app, &format!("/Flag/_history?_count=1&{query}")).await;
            assert_eq!(paged.into_iter().map(|(_, version)| version).collect::<Vec<_>>(), expected, "paged: {query}");
        }
        // The first instant of the London day, in summer an hour before midnight UTC.
        app.clock.set("2027-06-30T22:59:59.999Z".parse().unwrap());
        let own = app.authority("Z9A");
        own.put("/Organization/Z9A", &authority("Z9A", "WESTMARCH", "01632960177")).await;
        later(&app, 1);
        own.put("/Organization/Z9A", &authority("Z9A", "WESTMARCH", "01632960166")).await;
        for (query, expected) in [("_at=2027-06-30", vec![2, 1]), ("_at=2027-07-01", vec![3]), ("_at=2027-06-29", vec![1])] {
            assert_eq!(versions(&own.get(&format!("/Organization/Z9A/_history?{query}")).await), expected, "{query}");
        }
    }

    async fn another_authoritys_versions_are_not_there(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        let other = app.authority("Z9B").put(&format!("/Patient/{}", child(1).nhs()), &child(1).patient()).await;
        assert_eq!(other.status, 201, "{}", other.text);
        rename(&app, "Sam").await;
        let theirs = app.authority("Z9B").get("/Patient/_history").await;
        assert_eq!(versions(&theirs), [1]);
        assert!(!theirs.text.contains("Sam"));
        let theirs = app.authority("Z9B").get(&format!("/Patient/{}/_history", child(1).nhs())).await;
        assert_eq!((versions(&theirs), theirs.total()), (vec![1], 1));
        app.authority("Z9B").get(&format!("/Patient/{}/_history/2", child(1).nhs())).await
            .assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        assert_eq!(versions(&app.authority("Z9B").get("/Flag/_history").await), Vec::<i64>::new());
        // What is another's and what is nobody's look the same.
        let asked = |path: String| app.authority("Z9B").header("X-Request-ID", NOBODYS).get(&path);
        for below in ["_history", "_history/1"] {
            let (theirs, nobodys) = (asked(format!("{path}/{below}")).await, asked(format!("/Flag/{NOBODYS}/{below}")).await);
            assert_eq!((theirs.status, &theirs.text), (404, &nobodys.text));
            let unknown = app.authority("Z9B").get(&format!("/Patient/{}/{below}", child(2).nhs())).await;
            unknown.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
    }

    async fn histories_are_the_owners_alone(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        let patient = format!("/Patient/{}", child(1).nhs());
        for caller in [app.clinician(), app.auditor(), app.administrator(), app.device()] {
            for path in [&path, &patient] {
                for below in ["_history", "_history/1"] {
                    caller.get(&format!("{path}/{below}")).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
                }
            }
            for path in ["/Flag/_history", "/Patient/_history"] {
                caller.get(path).await.assert_refused(403, "forbidden", "ACCESS_DENIED");
            }
            for path in ["/Organization/_history", "/Organization/Z9A/_history", "/Organization/ZZ101/_history/1"] {
                assert_eq!(caller.get(path).await.status, 200, "{path}");
            }
        }
        assert_eq!(app.clinician().get(&child(1).history()).await.total(), 1, "only this search itself was listed");
        for path in ["/CarePlan", "/CareTeam", "/AuditEvent", "/Subscription", "/PractitionerRole", ""] {
            for below in ["/_history", "/x/_history", "/x/_history/1"] {
                assert_eq!(app.authority("Z9A").get(&format!("{path}{below}")).await.status, 404, "{path}{below}");
            }
        }
    }

    async fn what_a_history_does_not_know_is_refused(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        for vid in ["2", "0", "-1", "01", "+1", "1.0", "x", "9223372036854775808", "1%20"] {
            let reply = own.get(&format!("{path}/_history/{vid}")).await;
            assert_eq!(reply.status, 404, "{vid}: {}", reply.text);
            assert_eq!(own.get(&format!("/Organization/Z9A/_history/{vid}")).await.status, 404, "{vid}");
        }
        for path in ["/Flag/1/_history", "/Flag/1/_history/1", "/Organization/ZZZ/_history", "/Organization/z9a/_history/1"] {
            own.get(path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        for path in ["/Patient/9990000019/_history", "/Patient/9990000019/_history/1", "/Patient/1/_history"] {
            own.get(path).await.assert_refused(400, "invalid", "INVALID_SEARCH_DATA");
        }
        own.get(&format!("{path}/_history/1?_since=2026")).await.assert_refused(400, "not-supported", "INVALID_VALUE");
        for history in [format!("{path}/_history"), "/Flag/_history".to_owned(), "/Organization/Z9A/_history".to_owned()] {
            for unknown in ["_sort=_lastUpdated", "patient=9990000018", "_list=x", "status=active", "_since:missing=true"] {
                own.get(&format!("{history}?{unknown}")).await.assert_refused(400, "not-supported", "INVALID_VALUE");
            }
            own.get(&format!("{history}?_at=zz2026")).await.assert_refused(400, "not-supported", "INVALID_VALUE");
            let none = own.get(&format!("{history}?_count=0")).await;
            assert_eq!((versions(&none), none.next_page()), (Vec::new(), None));
            for bad in [
                "_since=2026-11-23", "_since=2026-11-23T12:00:00", "_since=", "_since=ge2026-11-23T12:00:00Z", "_since=x",
                "_since=2026-11-23T12:00:00Z&_since=2026-11-23T12:00:00Z", "_at=2026-11-23&_at=2026-11-24", "_at=", "_at=x",
                "_at=2026-02-30", "_at=ne2026", "_count=x", "_count=-1", "_count=1&_count=2", "_cursor=x", "_cursor=e30",
            ] {
                own.get(&format!("{history}?{bad}")).await.assert_refused(400, "value", "INVALID_VALUE");
            }
        }
        // A cursor belongs to the history that gave it.
        end(&app, &path, "2026-11-20").await;
        let next = own.get("/Flag/_history?_count=1").await.next_page().expect("a next page");
        let cursor = next.split("_cursor=").nth(1).expect("a cursor").to_owned();
        assert_eq!(versions(&own.get(&format!("/Flag/_history?_cursor={cursor}")).await), [1]);
        for other in [format!("{path}/_history"), "/Patient/_history".to_owned(), "/Organization/_history".to_owned(), "/Flag".to_owned()] {
            own.get(&format!("{other}?_cursor={cursor}")).await.assert_refused(400, "value", "INVALID_VALUE");
        }
        for method in ["POST", "PUT", "DELETE"] {
            let body = (method != "DELETE").then(|| ("application/fhir+json", b"{}".to_vec()));
            for below in ["_history", "_history/1"] {
                let reply = own.send(method, &format!("{path}/{below}"), body.clone()).await;
                assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD"), "{method} {below}");
            }
        }
    }

    async fn the_location_of_every_write_resolves(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let flag = |end| child(1).flag("Z9A", CPP, "2026-09-14", end);
        let patient = format!("/Patient/{}", child(1).nhs());
        let mut locations = Vec::new();
        let created = own.post("/Flag", &flag(None)).await;
        let id = created.json["id"].as_str().expect("an id").to_owned();
        for reply in [
            created,
            own.post("/Flag", &flag(None)).await,
            own.put(&format!("/Flag/{id}"), &with(flag(Some("2026-11-20")), "/id", json!(id))).await,
            own.put(&patient, &child(1).patient()).await,
            own.put(&patient, &with(child(1).patient(), "/name/0/given", json!(["Robin", "Sam"]))).await,
            own.put("/Organization/Z9A", &authority("Z9A", "WESTMARCH", "01632960188")).await,
            own.put("/Organization/Z9A", &authority("Z9A", "WESTMARCH", "01632960188")).await,
        ] {
            assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
            locations.push((reply.header("location").to_owned(), reply.header("etag").to_owned()));
        }
        let sent = own.post("", &bundle("batch", &[
            entry("PUT", "Organization/Z9A", authority("Z9A", "WESTMARCH", "01632960177")),
            child(1).put_patient(),
            child(1).post_flag("Z9A", LAC, "2026-10-01", None),
            child(1).post_flag("Z9A", CPP, "2026-09-14", None),
            child(2).put_patient(),
        ])).await;
        assert_eq!(sent.file_code(), "CPF02", "{}", sent.text);
        for entry in sent.json["entry"].as_array().expect("entries") {
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            locations.push((format!("{}/{}", app.base, text(&entry["response"]["location"])), text(&entry["response"]["etag"])));
        }
        assert_eq!(locations.len(), 12);
        for (location, etag) in locations {
            assert!(location.starts_with(&app.base) && location.contains("/_history/"), "{location}");
            let reply = own.get(&location).await;
            assert_eq!((reply.status, reply.header("etag")), (200, etag.as_str()), "{location}: {}", reply.text);
            let version = format!("W/\"{}\"", reply.json["meta"]["versionId"].as_str().expect("a version"));
            assert_eq!(version, etag);
        }
        let hook = json!({
            "resourceType": "Subscription", "status": "requested", "reason": "To be told",
            "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
            "channel": {
                "type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook", "payload": "application/fhir+json",
                "_payload": {"extension": [{
                    "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                    "valueCode": "full-resource",
                }]},
            },
        });
        let subscribed = own.post("/Subscription", &hook).await;
        assert_eq!(subscribed.status, 201, "{}", subscribed.text);
        let location = subscribed.header("location").to_owned();
        assert!(!location.contains("_history"), "{location}");
        assert_eq!(own.get(&location).await.status, 200);
    }

    async fn each_is_audited_with_its_version(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        let patient = format!("/Patient/{}", child(1).nhs());
        let event = async |path: String| {
            let reply = own.get(&path).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            let events = events_of(&app, &request_id(&reply)).await;
            assert_eq!(events.len(), 1, "{path}");
            events[0].clone()
        };
        let names_patient = |event: &Value| {
            let mut entities = event["entity"].as_array().expect("entities").iter();
            entities.any(|entity| entity["what"]["identifier"]["value"] == child(1).nhs())
        };
        let profile = |event: &Value| event["meta"]["profile"][0].as_str().expect("a profile").rsplit('.').next().unwrap().to_owned();
        for (path, code, expected, named, reference) in [
            (format!("{path}/_history/1"), "vread", "PatientRead", true, Some(format!("{}/_history/1", &path[1..]))),
            (format!("{patient}/_history/1"), "vread", "PatientRead", true, Some(format!("{}/_history/1", &patient[1..]))),
            ("/Organization/Z9A/_history/1".to_owned(), "vread", "Read", false, Some("Organization/Z9A/_history/1".to_owned())),
            (format!("{path}/_history"), "history-instance", "PatientQuery", true, Some(path[1..].to_owned())),
            (format!("{patient}/_history"), "history-instance", "PatientQuery", true, Some(patient[1..].to_owned())),
            ("/Organization/Z9A/_history".to_owned(), "history-instance", "Query", false, Some("Organization/Z9A".to_owned())),
            ("/Flag/_history".to_owned(), "history-type", "Query", false, None),
            ("/Patient/_history".to_owned(), "history-type", "Query", false, None),
            ("/Organization/_history".to_owned(), "history-type", "Query", false, None),
        ] {
            let event = event(path.clone()).await;
            assert_eq!((&event["subtype"][0]["code"], &event["outcome"]), (&json!(code), &json!("0")), "{path}");
            assert_eq!(event["subtype"].as_array().unwrap().len(), if code == "vread" { 1 } else { 2 }, "{path}");
            assert_eq!(event["action"], if code == "vread" { "R" } else { "E" }, "{path}");
            assert_eq!((profile(&event).as_str(), names_patient(&event)), (expected, named), "{path}: {event}");
            let text = event.to_string();
            match reference {
                Some(reference) => assert!(text.contains(&format!("\"reference\":\"{reference}\"")), "{path}: {text}"),
                None => assert!(text.contains("\"rows\"") && text.contains("\"first\""), "{path}: {text}"),
            }
        }
        // A refusal names the child too, where its number is in the path.
        let refused = app.clinician().get(&format!("{patient}/_history")).await;
        let events = events_of(&app, &request_id(&refused)).await;
        assert_eq!((events.len(), &events[0]["outcome"], names_patient(&events[0])), (1, &json!("4"), true));
    }

    async fn nothing_is_shown_that_is_not_audited(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        let broken = match backend {
            Backend::Sqlite => "create trigger no_audit before insert on audit_event begin select raise(abort, 'broken'); end",
            Backend::Postgres => "alter table audit_event add constraint no_audit check (id < 0) not valid",
        };
        app.execute(broken);
        for path in [format!("{path}/_history/1"), format!("{path}/_history"), "/Flag/_history".to_owned(), "/Organization/_history".to_owned()] {
            let reply = app.authority("Z9A").get(&path).await;
            assert_eq!(reply.status, 503, "{path}: {}", reply.text);
            assert!(!reply.text.contains(child(1).nhs()) && !reply.text.contains("WESTMARCH"), "{}", reply.text);
        }
    }

    async fn who_has_a_version_of_an_organisation_is_told_so(backend) {
        let app = TestApp::start(backend).await;
        app.authority("Z9A").put("/Organization/Z9A", &authority("Z9A", "WESTMARCH", "01632960188")).await;
        for (vid, tag, status) in [(1, "W/\"1\"", 304), (1, "\"1\"", 304), (1, "W/\"2\"", 200), (2, "W/\"2\"", 304)] {
            let path = format!("/Organization/Z9A/_history/{vid}");
            let reply = app.clinician().header("If-None-Match", tag).get(&path).await;
            assert_eq!((reply.status, reply.header("etag")), (status, format!("W/\"{vid}\"").as_str()), "{}", reply.text);
            assert_eq!(reply.text.is_empty(), status == 304);
        }
        let (first, second) =
            (app.clinician().get("/Organization/Z9A/_history/1").await, app.clinician().get("/Organization/Z9A/_history/2").await);
        assert_ne!(first.json["telecom"], second.json["telecom"]);
        assert_eq!(app.clinician().get("/Organization/Z9A").await.json, second.json);
    }
}
