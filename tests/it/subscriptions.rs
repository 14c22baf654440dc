//! A subscription that is changed, and what its owner may ask of it: no event is lost, none gets another number.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::{
    harness::{Reply, TestApp, child, on_both_stores},
    notify::{Receiver, children, kind, look_up, named, pump, subscribe, wanted},
};

/// The subscription as it is wanted, with its id and something else.
fn changed(app: &TestApp, id: &str, endpoint: &str, changes: &Value) -> Value {
    let mut body = wanted(app, endpoint);
    body["id"] = json!(id);
    for (name, value) in changes.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// The status Parameters of each entry of a searchset.
fn statuses(reply: &Reply) -> Vec<(String, String, String)> {
    assert_eq!((reply.status, &reply.json["type"]), (200, &json!("searchset")), "{}", reply.text);
    let text = |list: &Value, name: &str, value: &str| named(list, name)[value].as_str().unwrap_or_default().to_owned();
    let told = reply.resources("Parameters");
    told.iter()
        .map(|status| {
            let list = &status["parameter"];
            assert_eq!(named(list, "type")["valueCode"], "query-status");
            let reference = named(list, "subscription")["valueReference"]["reference"].as_str().unwrap_or_default();
            let id = reference.rsplit('/').next().unwrap_or_default().to_owned();
            (id, text(list, "status", "valueCode"), text(list, "events-since-subscription-start", "valueString"))
        })
        .collect()
}

/// Numbers of the events that a history tells.
fn told(reply: &Reply) -> Vec<i64> {
    assert_eq!((reply.status, &reply.json["type"]), (200, &json!("history")), "{}", reply.text);
    let list = reply.json["entry"][0]["resource"]["parameter"].as_array().cloned().unwrap_or_default();
    assert_eq!(kind(&reply.json), "query-event");
    let events = list.iter().filter(|parameter| parameter["name"] == "notification-event");
    events
        .map(|event| named(&event["part"], "event-number")["valueString"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn parameters(list: &[Value]) -> Value {
    if list.is_empty() {
        json!({"resourceType": "Parameters"})
    } else {
        json!({"resourceType": "Parameters", "parameter": list})
    }
}

on_both_stores! {
    async fn what_was_not_delivered_goes_to_the_new_endpoint(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let children = children(&app, 4).await;
        let (old, new) = (format!("{}/old", hook.base), format!("{}/new", hook.base));
        let id = subscribe(&app, "Z9A", &old).await;
        let path = format!("/Subscription/{id}");
        look_up(&app, &children[0]).await;
        pump(&app).await;
        assert_eq!(hook.numbers("/old"), [1]);
        hook.refuse("/old", 500, None);
        look_up(&app, &children[1]).await;
        pump(&app).await;
        assert_eq!(hook.numbers("/old"), [1, 2], "tried once");

        let stale = app.authority("Z9A").header("If-Match", "W/\"1\"").put(&path, &changed(&app, &id, &new, &json!({}))).await;
        stale.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        let etag = app.authority("Z9A").get(&path).await.header("etag").to_owned();
        let updated = app.authority("Z9A").header("If-Match", &etag).put(&path, &changed(&app, &id, &new, &json!({}))).await;
        assert_eq!((updated.status, &updated.json["status"]), (200, &json!("requested")), "{}", updated.text);
        assert_ne!(updated.header("etag"), etag);
        assert!(updated.json["error"].is_null() && !updated.text.contains("secret"), "{}", updated.text);
        look_up(&app, &children[2]).await;
        pump(&app).await;
        assert_eq!(kind(&hook.got("/new")[0].2), "handshake", "first it must agree");
        look_up(&app, &children[3]).await;
        pump(&app).await;
        assert_eq!((hook.numbers("/new"), hook.numbers("/old")), (vec![2, 3, 4], vec![1, 2]));
        assert_eq!(statuses(&app.authority("Z9A").get(&format!("{path}/$status")).await), [(id, "active".to_owned(), "4".to_owned())]);
    }

    async fn what_was_given_up_is_sent_again_once_the_channel_is_corrected(backend) {
        let hook = Receiver::start();
        let app = TestApp::start_with(backend, |settings| settings.notify.retry_attempts = 2).await;
        let children = children(&app, 2).await;
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        hook.refuse("/a", 500, None);
        look_up(&app, &children[0]).await;
        pump(&app).await;
        app.clock.advance(TimeDelta::hours(2));
        pump(&app).await;
        let path = format!("/Subscription/{id}");
        let read = app.authority("Z9A").get(&path).await;
        assert_eq!(read.json["status"], "error", "{}", read.text);
        let status = app.authority("Z9A").get(&format!("{path}/$status")).await;
        assert!(status.text.contains("was not taken in 2 tries"), "{}", status.text);
        app.clock.advance(TimeDelta::hours(2));
        assert_eq!(pump(&app).await.waiting, 0, "given up");

        hook.accept("/a");
        let revived = app.authority("Z9A").put(&path, &changed(&app, &id, &format!("{}/a", hook.base), &json!({}))).await;
        assert_eq!((revived.status, &revived.json["status"]), (200, &json!("requested")), "{}", revived.text);
        pump(&app).await;
        assert_eq!(hook.numbers("/a"), [1, 1, 1], "tried twice, taken the third time");
        look_up(&app, &children[1]).await;
        pump(&app).await;
        assert_eq!(hook.numbers("/a"), [1, 1, 1, 2]);
        assert_eq!(app.authority("Z9A").get(&path).await.json["status"], "active");
    }

    /// While it is off others are told; what it missed comes when it is asked for again.
    async fn one_that_is_switched_off_misses_nothing_when_it_goes_on(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let children = children(&app, 3).await;
        let (a, b) = (format!("{}/a", hook.base), format!("{}/b", hook.base));
        let id = subscribe(&app, "Z9A", &a).await;
        subscribe(&app, "Z9A", &b).await;
        look_up(&app, &children[0]).await;
        pump(&app).await;
        let path = format!("/Subscription/{id}");
        let off = app.authority("Z9A").put(&path, &changed(&app, &id, &a, &json!({"status": "off"}))).await;
        assert_eq!((off.status, &off.json["status"]), (200, &json!("off")), "{}", off.text);
        let again = app.authority("Z9A").put(&path, &changed(&app, &id, &a, &json!({"status": "off"}))).await;
        assert_eq!(again.header("etag"), off.header("etag"), "it is off");
        assert_eq!(app.number("select count(*) as n from subscription where headers = '' and status = 'off'"), 1, "secrets are forgotten");
        look_up(&app, &children[1]).await;
        pump(&app).await;
        assert_eq!((hook.numbers("/a"), hook.numbers("/b")), (vec![1], vec![1, 2]));
        let on = app.authority("Z9A").put(&path, &changed(&app, &id, &a, &json!({}))).await;
        assert_eq!(on.json["status"], "requested", "{}", on.text);
        look_up(&app, &children[2]).await;
        pump(&app).await;
        pump(&app).await;
        assert_eq!((hook.numbers("/a"), hook.numbers("/b")), (vec![1, 2, 3], vec![1, 2, 3]));
    }

    async fn an_update_that_changes_nothing_makes_no_version(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let endpoint = format!("{}/a", hook.base);
        let id = subscribe(&app, "Z9A", &endpoint).await;
        let path = format!("/Subscription/{id}");
        pump(&app).await;
        let put = |changes: Value| app.authority("Z9A").put(&path, &changed(&app, &id, &endpoint, &changes));
        for status in ["requested", "active"] {
            let same = put(json!({"status": status})).await;
            assert_eq!((same.status, same.header("etag"), &same.json["status"]), (200, "W/\"2\"", &json!("active")), "{}", same.text);
        }
        let described = put(json!({"reason": "Night team"})).await;
        assert_eq!((described.header("etag"), &described.json["status"]), ("W/\"3\"", &json!("active")), "{}", described.text);
        let mut version = 3;
        for change in [
            json!({"reason": "Night team", "end": "2027-01-01T00:00:00Z"}),
            json!({"reason": "Night team", "channel": changed(&app, &id, &format!("{}/b", hook.base), &json!({}))["channel"].clone()}),
        ] {
            let reply = put(change).await;
            version += 1;
            assert_eq!((reply.header("etag"), &reply.json["status"]), (&*format!("W/\"{version}\""), &json!("requested")), "{}", reply.text);
            pump(&app).await;
            version += 1;
        }
        let mut secret = wanted(&app, &format!("{}/b", hook.base));
        secret["id"] = json!(id);
        secret["reason"] = json!("Night team");
        secret["channel"]["header"] = json!(["Authorization: Bearer another"]);
        let reply = app.authority("Z9A").put(&path, &secret).await;
        assert_eq!(reply.json["status"], "requested", "another secret: {}", reply.text);
        pump(&app).await;
        assert_eq!(hook.got("/b").last().map(|(_, secret, _)| secret.as_str()), Some("Bearer another"));
    }

    async fn what_an_update_may_not_do(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let endpoint = format!("{}/a", hook.base);
        let id = subscribe(&app, "Z9A", &endpoint).await;
        let path = format!("/Subscription/{id}");
        let body = changed(&app, &id, &endpoint, &json!({"reason": "Another"}));
        app.authority("Z9B").put(&path, &body).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        let nobodys = "0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10";
        let other = changed(&app, nobodys, &endpoint, &json!({}));
        app.authority("Z9A").put(&format!("/Subscription/{nobodys}"), &other).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        for (bad, at) in [
            (other, "Subscription.id"),
            (wanted(&app, &endpoint), "Subscription.id"),
            (changed(&app, &id, "ftp://hook.example.org/", &json!({})), "Subscription.channel.endpoint"),
            (changed(&app, &id, &endpoint, &json!({"end": "2026-11-23T11:59:59Z"})), "Subscription.end"),
            (changed(&app, &id, &endpoint, &json!({"status": "error"})), "Subscription.status"),
        ] {
            let reply = app.authority("Z9A").put(&path, &bad).await;
            assert!(matches!(reply.status, 400 | 422), "{}", reply.text);
            assert_eq!(reply.json["issue"][0]["expression"][0], at, "{}", reply.text);
        }
        let exists = app.authority("Z9A").header("If-None-Match", "*").put(&path, &body).await;
        exists.assert_refused(412, "conflict", "RESOURCE_VERSION_MISMATCH");
        assert_eq!(app.authority("Z9A").get(&path).await.header("etag"), "W/\"1\"");
        let created = app.authority("Z9A").header("If-None-Exist", "status=active").post("/Subscription", &wanted(&app, &endpoint)).await;
        created.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        app.authority("Z9A").delete(&path).await;
        app.authority("Z9A").put(&path, &body).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
    }

    /// What has never agreed is told nothing, though the channel before it had.
    async fn an_endpoint_that_refuses_its_handshake_is_told_nothing(backend) {
        let app = TestApp::start_with(backend, |settings| settings.notify.retry_attempts = 2);
        let (app, hook) = (app.await, Receiver::start());
        let children = children(&app, 2).await;
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        look_up(&app, &children[0]).await;
        pump(&app).await;
        let path = format!("/Subscription/{id}");
        let nowhere = changed(&app, &id, "http://127.0.0.1:9/nobody", &json!({}));
        assert_eq!(app.authority("Z9A").put(&path, &nowhere).await.json["status"], "requested");
        for _ in 0..3 {
            pump(&app).await;
            app.clock.advance(TimeDelta::hours(1));
        }
        assert_eq!(app.authority("Z9A").get(&path).await.json["status"], "error");
        look_up(&app, &children[1]).await;
        assert_eq!(pump(&app).await, cpis_gateway::notify::Pumped::default(), "nothing is sent");
        let back = changed(&app, &id, &format!("{}/a", hook.base), &json!({}));
        app.authority("Z9A").put(&path, &back).await;
        pump(&app).await;
        assert_eq!(hook.numbers("/a"), [1, 2], "and nothing is missed");
    }

    /// A handshake that was on its way when the channel was changed says nothing of the new one.
    async fn a_late_answer_of_the_old_endpoint_does_not_open_the_new(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let id = subscribe(&app, "Z9A", &format!("{}/old", hook.base)).await;
        let path = format!("/Subscription/{id}");
        let due = app.app.gateway.notifier_turns().await.expect("the turns").handshakes;
        let new = changed(&app, &id, &format!("{}/new", hook.base), &json!({}));
        assert_eq!(app.authority("Z9A").put(&path, &new).await.status, 200);
        let terms = cpis_gateway::cpis::notifications::NotifierTerms {
            process: "test".to_owned(), lease: TimeDelta::seconds(1), attempts: 1, catch_up: TimeDelta::days(30),
        };
        let old = &due[0];
        assert!(!app.app.gateway.activate_subscription(&terms, old).await.expect("an answer"));
        let fault = cpis_gateway::cpis::types::subscription::FailedSending { error: "no".to_owned(), pause: TimeDelta::hours(1), gone: false };
        app.app.gateway.record_failed_handshake(&terms, old, 1, fault).await.expect("an answer");
        let read = app.authority("Z9A").get(&path).await;
        assert_eq!((&read.json["status"], &read.json["error"]), (&json!("requested"), &Value::Null), "{}", read.text);
        pump(&app).await;
        assert_eq!((hook.got("/old").len(), hook.got("/new").len()), (0, 1));
    }

    async fn prefer_says_what_a_change_brings_back(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let endpoint = format!("{}/a", hook.base);
        let prefer = |value: &str| app.authority("Z9A").header("Prefer", value);
        let minimal = prefer("return=minimal").post("/Subscription", &wanted(&app, &endpoint)).await;
        assert_eq!((minimal.status, minimal.text.as_str(), minimal.header("etag")), (201, "", "W/\"1\""));
        let id = minimal.header("location").rsplit('/').next().unwrap().to_owned();
        let path = format!("/Subscription/{id}");
        let outcome = prefer("return=\"OperationOutcome\"").put(&path, &changed(&app, &id, &endpoint, &json!({"reason": "Another"}))).await;
        assert_eq!((outcome.status, &outcome.json["issue"][0]["severity"]), (200, &json!("information")), "{}", outcome.text);
        let whole = prefer("return=representation").put(&path, &changed(&app, &id, &endpoint, &json!({}))).await;
        assert_eq!((whole.status, &whole.json["resourceType"]), (200, &json!("Subscription")));
        let before = app.authority("Z9A").get("/Subscription").await.total();
        prefer("return=all").post("/Subscription", &wanted(&app, &endpoint)).await.assert_refused(400, "invalid", "PRECONDITION_FAILED");
        assert_eq!(app.authority("Z9A").get("/Subscription").await.total(), before);
    }

    async fn the_status_of_own_subscriptions(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let children = children(&app, 1).await;
        let first = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        look_up(&app, &children[0]).await;
        pump(&app).await;
        let second = subscribe(&app, "Z9A", &format!("{}/b", hook.base)).await;
        let foreign = subscribe(&app, "Z9B", &format!("{}/c", hook.base)).await;
        let active = (first.clone(), "active".to_owned(), "1".to_owned());
        let waiting = (second.clone(), "requested".to_owned(), "0".to_owned());
        let both = vec![active.clone(), waiting.clone()];
        for (query, expected) in [
            (String::new(), both.clone()),
            (format!("?id={first}"), vec![active.clone()]),
            (format!("?id={first},{second},{foreign}"), both.clone()),
            (format!("?id={second}&id={first}"), both.clone()),
            (format!("?id={foreign}"), Vec::new()),
            ("?status=active".to_owned(), vec![active.clone()]),
            ("?status=requested,error".to_owned(), vec![waiting.clone()]),
            (format!("?id={first}&status=off"), Vec::new()),
        ] {
            let reply = app.authority("Z9A").get(&format!("/Subscription/$status{query}")).await;
            assert_eq!((statuses(&reply), reply.total()), (expected.clone(), i64::try_from(expected.len()).unwrap()), "{query}");
        }
        let posted = parameters(&[json!({"name": "id", "valueId": first}), json!({"name": "status", "valueCode": "active"})]);
        assert_eq!(statuses(&app.authority("Z9A").post("/Subscription/$status", &posted).await), std::slice::from_ref(&active));
        assert_eq!(statuses(&app.authority("Z9A").post("/Subscription/$status", &parameters(&[])).await), both);
        for path in [format!("/Subscription/{first}/$status"), format!("/Subscription/{first}/%24status")] {
            assert_eq!(statuses(&app.authority("Z9A").get(&path).await), std::slice::from_ref(&active));
            assert_eq!(statuses(&app.authority("Z9A").post(&path, &parameters(&[])).await), std::slice::from_ref(&active));
        }

        app.authority("Z9B").get(&format!("/Subscription/{first}/$status")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        app.authority("Z9A").get("/Subscription/$status?status=asleep").await.assert_refused(400, "value", "INVALID_VALUE");
        app.authority("Z9A").get("/Subscription/$status?topic=x").await.assert_refused(400, "not-supported", "INVALID_VALUE");
        let unknown = parameters(&[json!({"name": "topic", "valueUri": "x"})]);
        app.authority("Z9A").post("/Subscription/$status", &unknown).await.assert_refused(400, "not-supported", "INVALID_VALUE");
        app.clinician().get("/Subscription/$status").await.assert_refused(403, "forbidden", "ACCESS_DENIED");
        app.authority("Z9A").delete(&format!("/Subscription/{second}")).await;
        app.authority("Z9A").get(&format!("/Subscription/{second}/$status")).await.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
        assert_eq!(statuses(&app.authority("Z9A").get("/Subscription/$status").await), [active]);
    }

    async fn events_may_be_had_again_page_by_page(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        hook.refuse("/a", 500, None);
        let child = child(1);
        app.on_record(&child, &[("Z9A", crate::harness::CPP, "2026-09-14", None)]).await;
        // Each user's first look-up is listed.
        for user in 0..53 {
            let reply = app.clinician_at("ZZ101", &format!("5550009{user:05}")).get(&child.care_team()).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
        pump(&app).await;
        let path = format!("/Subscription/{id}/$events");
        let first = app.authority("Z9A").get(&path).await;
        assert_eq!(told(&first), (1..=50).collect::<Vec<_>>(), "though none was delivered");
        assert_eq!(first.resources("AuditEvent").len(), 50);
        assert_eq!(first.resources("PractitionerRole").len(), 50);
        let next = first.next_page().expect("there are more");
        let second = app.authority("Z9A").get(&next).await;
        assert_eq!((told(&second), second.next_page()), (vec![51, 52, 53], None));
        for (query, numbers) in [
            ("?eventsSinceNumber=52", vec![52, 53]),
            ("?eventsSinceNumber=3&eventsUntilNumber=4", vec![3, 4]),
            ("?eventsUntilNumber=2&content=id-only", vec![1, 2]),
            ("?eventsUntilNumber=2&content=empty", vec![1, 2]),
            ("?eventsSinceNumber=54", vec![]),
            ("?eventsSinceNumber=9223372036854775807", vec![]),
            ("?eventsSinceNumber=5&eventsUntilNumber=4", vec![]),
        ] {
            let reply = app.authority("Z9A").get(&format!("{path}{query}")).await;
            assert_eq!(told(&reply), numbers, "{query}");
            let whole = !query.contains("content");
            assert_eq!(reply.text.contains(child.nhs()), whole && !numbers.is_empty(), "{query}");
            assert_eq!(reply.text.contains("AuditEvent/"), !query.contains("empty") && !numbers.is_empty(), "{query}");
        }
        let posted = parameters(&[json!({"name": "eventsSinceNumber", "valueString": "53"}), json!({"name": "content", "valueCode": "id-only"})]);
        assert_eq!(told(&app.authority("Z9A").post(&path, &posted).await), [53]);
        for query in ["?eventsSinceNumber=x", "?eventsSinceNumber=-1", "?eventsUntilNumber=1&eventsUntilNumber=2", "?content=some", "?since=1"] {
            assert_eq!(app.authority("Z9A").get(&format!("{path}{query}")).await.status, 400, "{query}");
        }
        app.authority("Z9B").get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        app.auditor().get(&path).await.assert_refused(403, "forbidden", "ACCESS_DENIED");

        let delivered = first.resources("AuditEvent")[0]["id"].as_str().unwrap().to_owned();
        let read = app.authority("Z9A").get(&format!("/AuditEvent/{delivered}")).await;
        assert_eq!(read.status, 200, "what is told may be read: {}", read.text);
        let audit = app.auditor().get("/AuditEvent?_count=200").await;
        let asked: Vec<Value> = audit.resources("AuditEvent").into_iter().filter(|event| event["entity"].to_string().contains(&delivered)).collect();
        assert!(!asked.is_empty(), "which accesses were told is in the audit");
    }

    /// Design 9: where a restricted child was seen is told to nobody, and nothing of it is lost.
    async fn events_of_a_restricted_child_are_held_here_too(backend) {
        let (app, hook) = (TestApp::start(backend).await, Receiver::start());
        let children = children(&app, 2).await;
        let id = subscribe(&app, "Z9A", &format!("{}/a", hook.base)).await;
        pump(&app).await;
        for child in &children {
            look_up(&app, child).await;
        }
        pump(&app).await;
        let path = format!("/Subscription/{id}/$events");
        app.execute(&format!("update person set status = 'restricted' where nhs_number = '{}'", children[0].nhs()));
        let held = app.authority("Z9A").get(&path).await;
        assert_eq!(told(&held), [2]);
        assert!(!held.text.contains(children[0].nhs()), "{}", held.text);
        app.execute("update person set status = 'current'");
        assert_eq!(told(&app.authority("Z9A").get(&path).await), [1, 2]);
    }
}
