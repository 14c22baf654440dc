//! One authority takes over from another: nothing vanishes, nothing is there twice, and nobody is told twice.

use std::{collections::BTreeSet, time::Instant};

use actix_web::rt::spawn;
use chrono::TimeDelta;
use cpis_gateway::{
    cpis::{
        succession::Succeeded,
        types::{PlanPeriod, PlanType, child::Demographics},
    },
    store::{self, StoreError, history::Recording, mesh, plan::VersionContent},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use super::look_after;
use crate::harness::{Backend, CPP, Child, LAC, Reply, TestApp, child, number, ods, on_both_stores, upload::with};

async fn succeed(app: &TestApp, old: &str, new: &str) -> Succeeded {
    app.app.gateway.succeed(ods(old), ods(new), false).await.expect("the succession")
}

async fn would_succeed(app: &TestApp, old: &str, new: &str) -> Succeeded {
    app.app.gateway.succeed(ods(old), ods(new), true).await.expect("the dry run")
}

/// (id, authority, start) of each plan that a clinician sees.
fn plans(reply: &Reply) -> BTreeSet<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let teams = reply.resources("CareTeam");
    let seen: BTreeSet<_> = teams
        .iter()
        .map(|team| {
            let authority = text(&team["managingOrganization"][0]["identifier"]["value"]);
            (text(&team["id"]), authority, text(&team["period"]["start"]))
        })
        .collect();
    assert_eq!(seen.len(), teams.len(), "none is there twice");
    seen
}

fn ids(plans: &BTreeSet<(String, String, String)>) -> BTreeSet<String> {
    plans.iter().map(|(id, ..)| id.clone()).collect()
}

/// Westmarch holds the first, both the second, Exampleford the third.
async fn two_authorities(backend: Backend) -> (TestApp, [Child; 3]) {
    let app = TestApp::start(backend).await;
    let children = [child(1), child(2), child(3)];
    app.on_record(&children[0], &[("Z9A", CPP, "2026-09-14", None)]).await;
    app.on_record(
        &children[1],
        &[("Z9A", CPP, "2026-08-01", None), ("Z9B", CPP, "2026-09-01", None), ("Z9B", LAC, "2026-10-01", None)],
    )
    .await;
    app.on_record(&children[2], &[("Z9B", LAC, "2026-10-01", None)]).await;
    (app, children)
}

async fn team(app: &TestApp, child: &Child) -> Reply {
    app.clinician().get(&child.care_team()).await
}

on_both_stores! {
    async fn clinicians_see_the_same_plans_under_the_successor(backend) {
        let (app, children) = two_authorities(backend).await;
        let mut before = Vec::new();
        for child in &children {
            before.push(plans(&team(&app, child).await));
        }
        assert!(matches!(succeed(&app, "Z9A", "Z9B").await, Succeeded::Done(_)));
        for (child, before) in children.iter().zip(&before) {
            let after = plans(&team(&app, child).await);
            assert_eq!(ids(&after), ids(before), "ids stay");
            assert!(after.iter().all(|(_, authority, _)| authority == "Z9B"), "{after:?}");
            let id = &after.iter().next().unwrap().0;
            assert_eq!(app.clinician().get(&format!("/CareTeam/{id}")).await.status, 200);
        }
        assert_eq!(look_after(&app).await, (0, 0));
        assert!(app.verify().is_whole());
    }

    async fn versions_and_histories_are_the_successors(backend) {
        let (app, children) = two_authorities(backend).await;
        let old = app.authority("Z9A");
        let flag = old.get(&format!("/Flag?patient={}", children[0].nhs())).await.resources("Flag")[0].clone();
        let path = format!("/Flag/{}", flag["id"].as_str().unwrap());
        let ended = with(flag, "/period/end", json!("2026-11-20"));
        assert_eq!(old.put(&path, &ended).await.status, 200);
        let patient = format!("/Patient/{}", children[0].nhs());
        let read = [old.get(&path).await, old.get(&format!("{path}/_history/1")).await, old.get(&patient).await];
        let versions = app.number("select count(*) as n from plan_version");

        succeed(&app, "Z9A", "Z9B").await;

        let new = app.authority("Z9B");
        let again = [new.get(&path).await, new.get(&format!("{path}/_history/1")).await, new.get(&patient).await];
        for (before, after) in read.iter().zip(&again) {
            assert_eq!((after.status, after.header("etag")), (200, before.header("etag")), "{}", after.text);
            assert_eq!(after.json["meta"], before.json["meta"]);
        }
        assert_eq!(app.number("select count(*) as n from plan_version"), versions);
        assert_eq!(new.get(&format!("{path}/_history")).await.total(), 2);
        let all = new.get("/Flag/_history").await;
        assert_eq!(all.resources("Flag").len(), usize::try_from(versions).unwrap(), "{}", all.text);
        assert_eq!(new.get("/Patient?_total=accurate").await.total(), 3);
        let own = new.get(&format!("/Flag?patient={}", children[1].nhs())).await;
        assert_eq!(own.total(), 3, "overlapping plans are kept as they are: {}", own.text);
        // And goes on: by id, with the version that it sees.
        let wider = with(again[0].json.clone(), "/period/end", json!("2026-11-22"));
        let changed = app.authority("Z9B").header("If-Match", "W/\"2\"").put(&path, &wider).await;
        assert_eq!((changed.status, changed.header("etag")), (200, "W/\"3\""), "{}", changed.text);
    }

    async fn the_old_authority_is_closed_and_says_who_took_over(backend) {
        let (app, children) = two_authorities(backend).await;
        succeed(&app, "Z9A", "Z9B").await;
        let refused = app.authority("Z9A").get(&format!("/Patient/{}", children[0].nhs())).await;
        refused.assert_refused(403, "forbidden", "ACCESS_DENIED");
        assert!(refused.text.contains("taken over"), "{}", refused.text);
        let old = app.clinician().get("/Organization/Z9A").await;
        assert_eq!((&old.json["active"], &old.json["partOf"]["reference"]), (&json!(false), &json!("Organization/Z9B")));
        let mut reopened = crate::harness::authority("Z9A", "WESTMARCH COUNTY COUNCIL", "01632960188");
        reopened["active"] = json!(true);
        reopened["type"] = json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": "govt"}]}]);
        let reply = app.administrator().put("/Organization/Z9A", &reopened).await;
        assert_eq!(reply.status, 422, "{}", reply.text);
        assert_eq!(app.authority("Z9C").get(&format!("/Patient/{}", children[0].nhs())).await.status, 404);
    }

    async fn accesses_are_the_successors_and_none_is_told_twice(backend) {
        let (app, children) = two_authorities(backend).await;
        for child in &children {
            team(&app, child).await;
        }
        let (rows, waiting) = (app.number("select count(*) as n from outbox"), app.number("select count(*) as n from access"));
        assert_eq!((rows, waiting), (4, 3));
        succeed(&app, "Z9A", "Z9B").await;
        let successor = "select count(*) as n from outbox o join organization a on a.id = o.authority_id where a.ods = 'Z9B'";
        assert_eq!(app.number(successor), 4, "what waits moves");
        for child in &children {
            let listed = app.authority("Z9B").get(&format!("/AuditEvent?patient={}", child.nhs())).await;
            assert_eq!((listed.total(), listed.resources("AuditEvent").len()), (1, 1), "{}", listed.text);
            let event = listed.resources("AuditEvent")[0]["id"].clone();
            let read = app.authority("Z9B").get(&format!("/AuditEvent/{}", event.as_str().unwrap())).await;
            assert_eq!(read.status, 200);
            let other = app.authority("Z9C").get(&format!("/AuditEvent/{}", event.as_str().unwrap())).await;
            assert_eq!(other.status, 404);
            // The same clinician within a day is a repeat for the successor too.
            team(&app, child).await;
        }
        assert_eq!((app.number("select count(*) as n from outbox"), app.number("select count(*) as n from access")), (4, 3));
        app.clock.advance(TimeDelta::hours(24));
        team(&app, &children[1]).await;
        assert_eq!(app.number("select count(*) as n from outbox"), 5);
        assert!(app.verify().is_whole());
        app.execute("update outbox set authority_id = (select id from organization where ods = 'Z9C') where id = 1");
        assert!(!app.verify().is_whole());
    }

    async fn channels_move(backend) {
        let (app, _) = two_authorities(backend).await;
        let wanted = json!({
            "resourceType": "Subscription", "status": "requested", "reason": "The duty team is told",
            "criteria": format!("{}/SubscriptionTopic/cpis-access", app.base),
            "channel": {"type": "rest-hook", "endpoint": "https://hooks.westmarch.example/cpis", "payload": "application/fhir+json"},
        });
        let made = app.authority("Z9A").post("/Subscription", &wanted).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let id = made.json["id"].as_str().unwrap().to_owned();
        let now_ms = app.clock.now().timestamp_millis();
        let write = app.app.gateway.store.write(Vec::new(), move |tx| {
            let authority = store::organization::find(tx.conn, &ods("Z9A"))?.unwrap();
            mesh::mailbox::set(tx.conn, authority.id, "WESTOT001", now_ms)
        });
        write.await.unwrap();
        succeed(&app, "Z9A", "Z9B").await;
        let read = app.authority("Z9B").get(&format!("/Subscription/{id}")).await;
        assert_eq!((read.status, &read.json["meta"]["versionId"]), (200, &made.json["meta"]["versionId"]), "{}", read.text);
        let boxes = app.read(mesh::mailbox::all).await;
        assert_eq!(boxes.iter().map(|one| (one.authority.ods.as_str(), one.mailbox.as_str())).collect::<Vec<_>>(), [("Z9B", "WESTOT001")]);
    }

    async fn a_dry_run_says_what_would_move_and_changes_nothing(backend) {
        let (app, children) = two_authorities(backend).await;
        team(&app, &children[0]).await;
        let before = (app.stored(), app.number("select count(*) as n from audit_event"));
        let Succeeded::Done(taken) = would_succeed(&app, "Z9A", "Z9B").await else { panic!("it would be done") };
        assert_eq!((taken.children, taken.held_by_both, taken.plans, taken.waiting, taken.clients), (2, 1, 2, 1, 1));
        assert_eq!((app.stored(), app.number("select count(*) as n from audit_event")), before);
        assert_eq!(succeed(&app, "Z9A", "Z9B").await, Succeeded::Done(taken));
        assert_eq!(succeed(&app, "Z9A", "Z9B").await, Succeeded::AsItWas);
        for (old, new) in [("Z9A", "Z9C"), ("Z9B", "Z9A"), ("Z9B", "Z9B"), ("Z9B", "ZZ101"), ("Z9B", "Z9Z")] {
            assert!(matches!(succeed(&app, old, new).await, Succeeded::Refused(_)), "{old} {new}");
        }
        // The child is named in the audit, with whose it is now.
        let moved = app.audit_of(children[0].nhs()).await;
        assert_eq!(moved.iter().filter(|event| event.to_string().contains(r#""valueString":"succeeded""#)).count(), 1);
    }

    async fn a_successor_is_succeeded_too(backend) {
        let (app, children) = two_authorities(backend).await;
        team(&app, &children[0]).await;
        succeed(&app, "Z9A", "Z9B").await;
        succeed(&app, "Z9B", "Z9C").await;
        for (child, count) in children.iter().zip([1, 3, 1]) {
            let seen = plans(&team(&app, child).await);
            assert_eq!(seen.len(), count);
            assert!(seen.iter().all(|(_, authority, _)| authority == "Z9C"), "{seen:?}");
        }
        let listed = app.authority("Z9C").get(&format!("/AuditEvent?patient={}", children[0].nhs())).await;
        assert_eq!(listed.total(), 1);
        assert!(app.verify().is_whole());
    }

    async fn while_an_upload_is_staged_it_waits(backend) {
        let (app, _) = two_authorities(backend).await;
        for ods in ["Z9A", "Z9B"] {
            app.execute(&format!("insert into upload (uuid, authority_id, door, state, received_ms, records)
                select '{}', id, 'bundle', 'staged', 0, 1 from organization where ods = '{ods}'", Uuid::new_v4()));
            let before = app.stored();
            assert!(matches!(succeed(&app, "Z9A", "Z9B").await, Succeeded::Refused(why) if why.contains("being applied")));
            assert_eq!(app.stored(), before);
            app.execute("delete from upload where state = 'staged'");
        }
        assert!(matches!(succeed(&app, "Z9A", "Z9B").await, Succeeded::Done(_)));
    }

    async fn look_ups_meanwhile_see_all_plans_once(backend) {
        let (app, children) = two_authorities(backend).await;
        let other = app.beside();
        let expected = ids(&plans(&team(&app, &children[1]).await));
        let mut looks = Vec::new();
        let mut moving = None;
        for index in 0..32 {
            let at = if index % 2 == 0 { &app } else { &other };
            looks.push(spawn(at.clinician_at("ZZ101", &format!("5550000{index:05}")).get(&children[1].care_team())));
            if index == 12 {
                let gateway = app.app.gateway.clone();
                moving = Some(spawn(async move { gateway.succeed(ods("Z9A"), ods("Z9B"), false).await }));
            }
            tokio::task::yield_now().await;
        }
        for look in join_all(looks).await {
            let reply = look.unwrap();
            let seen = plans(&reply);
            assert_eq!(ids(&seen), expected, "{}", reply.text);
            let authorities: BTreeSet<&str> = seen.iter().map(|(_, authority, _)| authority.as_str()).collect();
            assert!(authorities == BTreeSet::from(["Z9A", "Z9B"]) || authorities == BTreeSet::from(["Z9B"]), "{seen:?}");
        }
        assert!(matches!(moving.unwrap().await.unwrap().unwrap(), Succeeded::Done(_)));
        assert!(app.verify().is_whole());
    }

    async fn three_thousand_children_move_in_seconds(backend) {
        let app = TestApp::start(backend).await;
        let now_ms = app.clock.now().timestamp_millis();
        for begin in (0..3000_u32).step_by(500) {
            let write = app.app.gateway.store.write(Vec::new(), move |tx| stored(tx.conn, begin..begin + 500, now_ms));
            write.await.unwrap();
        }
        let before = Instant::now();
        let Succeeded::Done(taken) = succeed(&app, "Z9A", "Z9B").await else { panic!("it is done") };
        let took = before.elapsed();
        assert_eq!((taken.children, taken.held_by_both, taken.plans), (3000, 300, 3000));
        assert!(took.as_secs() < 10, "{took:?}");
        assert_eq!(app.number("select count(*) as n from plan p join authority_child c on c.id = p.child_id
                               join organization a on a.id = c.authority_id where a.ods = 'Z9A'"), 0);
        assert_eq!(app.authority("Z9B").get("/Flag?_summary=count").await.total(), 3300);
    }
}

/// Children with a plan of Westmarch each; of every tenth Exampleford has one too.
fn stored(conn: &mut store::Conn, which: std::ops::Range<u32>, now_ms: i64) -> Result<(), StoreError> {
    for authority in ["Z9A", "Z9B"] {
        let authority = store::organization::find(conn, &ods(authority))?.unwrap();
        let recording = Recording::by_system(conn, authority.id, now_ms)?;
        for index in which.clone().filter(|index| authority.ods.as_str() == "Z9A" || index % 10 == 0) {
            let person = store::person::find_or_create(conn, &number(index))?;
            let key = store::child::find_or_create_key(conn, authority.id, person.id)?;
            let named = Demographics {
                family: "Testcase".into(),
                given: vec!["Robin".into()],
                birth_date: "2017-05-11".parse().unwrap(),
            };
            store::child::add_version(conn, key, &named, None, recording)?;
            let period = PlanPeriod::new("2026-09-14".parse().unwrap(), None).unwrap();
            let content = VersionContent { period, local_id: None, deleted: false };
            store::plan::create(conn, key, Uuid::new_v4(), PlanType::ChildProtection, content, recording)?;
        }
    }
    Ok(())
}
