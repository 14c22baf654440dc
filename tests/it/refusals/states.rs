//! What is refused because of what is stored: deleted, another version, a condition that fails, a race that is lost.

use serde_json::{Value, json};

use super::{FHIR, Row, Who, World, assert_tells_nothing_of, request_id};
use crate::harness::{Backend, CPP, LAC, TestApp, bundle, child, on_both_stores};

type Expected = (u16, &'static str, &'static str);

const GONE: Expected = (410, "deleted", "RESOURCE_NOT_FOUND");
const VERSION: Expected = (412, "conflict", "RESOURCE_VERSION_MISMATCH");
const NOT_FOUND: Expected = (404, "not-found", "RESOURCE_NOT_FOUND");

on_both_stores! {
    /// The owner is told that it is gone; to everybody else it never was.
    async fn a_deleted_plan(backend) {
        let world = World::start(backend).await;
        world.assert_refused(&[
            Row::new(Who::Authority, "GET", "/Flag/{deleted}", GONE),
            Row::new(Who::Clinician, "GET", "/Flag/{deleted}", NOT_FOUND),
            Row::new(Who::Clinician, "GET", "/CareTeam/{deleted}", NOT_FOUND),
        ]).await;
        let other = world.app.authority("Z9B").get(&world.fill("/Flag/{deleted}")).await;
        other.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        let gone = world.ask(&Row::new(Who::Authority, "GET", "/Flag/{deleted}", GONE)).await;
        let unknown = world.ask(&Row::new(Who::Clinician, "GET", "/Flag/{deleted}", NOT_FOUND)).await;
        let never = world.app.clinician().get("/Flag/0f7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10").await;
        assert_eq!(unknown.text, never.text, "to a clinician a deleted plan looks as one that never was");
        assert_ne!(gone.text, never.text);
        let again = world.app.authority("Z9A").delete(&world.fill("/Flag/{deleted}")).await;
        assert_eq!(again.status, 204, "a repeated delete is no fault: {}", again.text);
        let back = world.app.authority("Z9A")
            .put(&world.fill("/Flag/{deleted}"), &with_id(world.child.flag("Z9A", LAC, "2026-10-01", None), &world.fill("{deleted}")))
            .await;
        back.assert_refused(410, "deleted", "RESOURCE_NOT_FOUND");
    }

    async fn another_version_than_the_one_named(backend) {
        let world = World::start(backend).await;
        let stale = &[("If-Match", "W/\"7\"")];
        world.assert_refused(&[Row::new(Who::Authority, "DELETE", "/Flag/{flag}", VERSION).with(stale)]).await;
        let before = world.app.stored();
        let flag = with_id(world.child.flag("Z9A", CPP, "2026-09-15", None), &world.fill("{flag}"));
        let mut organization = crate::harness::authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960198");
        organization["id"] = json!("Z9A");
        for (path, body) in [
            (world.fill("/Flag/{flag}"), flag),
            (world.fill("/Patient/{nhs}"), world.child.patient()),
            ("/Organization/Z9A".to_owned(), organization),
        ] {
            let reply = world.app.authority("Z9A").header("If-Match", "W/\"7\"").put(&path, &body).await;
            reply.assert_refused(VERSION.0, VERSION.1, VERSION.2);
            assert_tells_nothing_of(&world.child, &reply);
            assert_eq!(world.app.stored(), before, "{}", reply.text);
            let events = world.events_of(&request_id(&reply)).await;
            assert!(!events.is_empty() && events.iter().all(|e| e["outcome"] == "4"), "{path}: {events:?}");
            assert!(events.iter().all(|e| e["outcomeDesc"] == VERSION.2), "{path}: {events:?}");
        }
        let current = world.app.authority("Z9A").header("If-Match", "W/\"1\"").delete(&world.fill("/Flag/{flag}")).await;
        assert_eq!(current.status, 204, "{}", current.text);
    }

    async fn a_create_that_is_not_to_find_anything(backend) {
        let world = World::start(backend).await;
        let before = world.app.stored();
        // The child's plan fits the criteria, but is not the one that was sent.
        let criteria = format!("patient={}&code=http://snomed.info/sct%7C{CPP}", world.child.nhs());
        let two = format!("patient={}", world.child.nhs());
        for criteria in [criteria, two] {
            let flag = world.child.flag("Z9A", CPP, "2026-09-14", None);
            let reply = world.app.authority("Z9A").header("If-None-Exist", &criteria).post("/Flag", &flag).await;
            assert!(matches!(reply.status, 200 | 412), "{}", reply.text);
            assert_eq!(world.app.stored(), before, "{}", reply.text);
        }
        let unknown = world.app.authority("Z9A").header("If-None-Exist", "colour=red");
        let reply = unknown.post("/Flag", &world.child.flag("Z9A", LAC, "2026-11-01", None)).await;
        reply.assert_refused(400, "not-supported", "INVALID_VALUE");
        assert_eq!(world.app.stored(), before);
    }

    async fn a_deleted_subscription(backend) {
        let world = World::start(backend).await;
        let created = world.app.authority("Z9A").post("/Subscription", &subscription(&world.app)).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let path = format!("/Subscription/{}", created.json["id"].as_str().unwrap());
        world.app.authority("Z9B").get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        let stale = world.app.authority("Z9A").header("If-Match", "W/\"9\"").delete(&path).await;
        stale.assert_refused(VERSION.0, VERSION.1, VERSION.2);
        assert_eq!(world.app.authority("Z9B").delete(&path).await.status, 404);
        assert_eq!(world.app.authority("Z9A").delete(&path).await.status, 204);
        let reply = world.app.authority("Z9A").get(&path).await;
        reply.assert_refused(GONE.0, GONE.1, GONE.2);
        let events = world.events_of(&request_id(&reply)).await;
        assert_eq!((events.len(), &events[0]["outcomeDesc"]), (1, &json!("RESOURCE_NOT_FOUND")));
    }

    /// Another writer is there first, every time: 409, nothing stored, and the next try succeeds.
    async fn a_race_that_is_lost(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.register(&child).await;
        app.authority("Z9A").put(&format!("/Patient/{}", child.nhs()), &child.patient()).await;
        app.execute(match backend {
            Backend::Sqlite => "create table seen (uuid text); \
                create trigger first before insert on plan when new.uuid not in (select uuid from seen) begin \
                insert into seen values (new.uuid); \
                insert into plan (uuid, child_id, plan_type, created_ms) \
                values (new.uuid, new.child_id, new.plan_type, new.created_ms); end",
            Backend::Postgres => "create function first() returns trigger language plpgsql as $$ begin \
                if pg_trigger_depth() = 1 then \
                insert into plan (uuid, child_id, plan_type, created_ms) \
                values (new.uuid, new.child_id, new.plan_type, new.created_ms); end if; return new; end $$; \
                create trigger first before insert on plan for each row execute function first()",
        });
        let before = app.stored();
        let flag = child.flag("Z9A", CPP, "2026-09-14", None);
        for reply in [
            app.authority("Z9A").post("/Flag", &flag).await,
            app.authority("Z9A").post("", &bundle("batch", &[child.post_flag("Z9A", CPP, "2026-09-14", None)])).await,
            app.authority("Z9A").post("", &bundle("transaction", &[child.post_flag("Z9A", CPP, "2026-09-14", None)])).await,
        ] {
            reply.assert_refused(409, "conflict", "RESOURCE_VERSION_MISMATCH");
            assert_tells_nothing_of(&child, &reply);
            assert_eq!(app.stored(), before);
            let events = crate::refusals::events_of(&app, &request_id(&reply)).await;
            let told: Vec<_> = events.iter().map(|e| (&e["outcome"], &e["outcomeDesc"])).collect();
            assert_eq!(told, [(&json!("4"), &json!("RESOURCE_VERSION_MISMATCH"))]);
        }
        app.execute(match backend {
            Backend::Sqlite => "drop trigger first",
            Backend::Postgres => "drop trigger first on plan",
        });
        assert_eq!(app.authority("Z9A").post("/Flag", &flag).await.status, 201);
    }

    /// Two clients of one authority send the same at the same moment: one plan, and nobody is told a falsehood.
    async fn the_same_plan_twice_at_once(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.register(&child).await;
        let entries = [child.put_patient(), child.post_flag("Z9A", CPP, "2026-09-14", None)];
        let body = bundle("transaction", &entries);
        let authority = app.authority("Z9A");
        let replies = futures_util::future::join_all((0..6).map(|_| authority.post("", &body))).await;
        assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 409)), "{replies:?}");
        assert_eq!(replies.iter().filter(|reply| reply.text.contains("201 Created")).count(), 1, "{replies:?}");
        assert_eq!(app.number("select count(*) as n from plan"), 1);
        assert_eq!(app.number("select count(*) as n from plan_version"), 1);
    }
}

fn with_id(mut resource: Value, id: &str) -> Value {
    resource["id"] = json!(id);
    resource
}

fn subscription(app: &TestApp) -> Value {
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "Duty team",
        "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
        "channel": {
            "type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook", "payload": FHIR,
            "_payload": {"extension": [{
                "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                "valueCode": "full-resource"
            }]}
        }
    })
}
