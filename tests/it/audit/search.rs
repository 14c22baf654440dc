//! An auditor searches the security audit: by patient and date, page by page, while it grows.

use std::collections::BTreeSet;

use actix_web::rt::spawn;
use chrono::{DateTime, Utc};
use cpis_gateway::cpis::types::audit::{Interaction, RequestEvent};

use crate::harness::{Backend, Reply, TestApp, child, on_both_stores};

fn ids(reply: &Reply) -> Vec<String> {
    let events = reply.resources("AuditEvent");
    events.iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// All pages from `path` on; `between` runs after each.
async fn pages(app: &TestApp, path: &str, mut between: impl AsyncFnMut()) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let reply = app.auditor().get(&path).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        pages.push(ids(&reply));
        next = reply.next_page();
        assert!(pages.len() < 100, "the pages never end");
        between().await;
    }
    pages
}

async fn looks(app: &TestApp, count: usize) {
    for _ in 0..count {
        app.clinician().get(&child(1).care_team()).await;
    }
}

on_both_stores! {
    async fn pages_stand_still_while_the_audit_grows(backend) {
        let app = TestApp::start(backend).await;
        let other = app.beside();
        looks(&app, 5).await;
        looks(&other, 5).await;
        looks(&app, 3).await;
        let of_child = format!("/AuditEvent?patient={}", child(1).nhs());
        let there: Vec<String> = ids(&app.auditor().get(&of_child).await);

        // Two processes append between the pages, and a third one begins a chain of its own.
        let third = app.beside();
        let by_patient = pages(&app, &format!("{of_child}&_count=4"), async || {
            for process in [&app, &other, &third] {
                looks(process, 1).await;
            }
        }).await;

        // The first search above is one row more: it names the patient too.
        assert_eq!(there.len(), 13);
        let seen: Vec<String> = by_patient.concat();
        assert_eq!(seen[1..], there, "none lost, none doubled, none that came later");
        assert_eq!(by_patient.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 2]);
    }

    async fn without_a_patient_the_whole_audit_is_paged_the_same(backend) {
        let app = TestApp::start(backend).await;
        let other = app.beside();
        looks(&app, 4).await;
        looks(&other, 4).await;
        let rows = app.number("select count(*) as n from audit_event");

        let all = pages(&app, "/AuditEvent?_count=3&_total=accurate", async || {
            looks(&other, 1).await;
            looks(&app, 1).await;
        }).await.concat();

        assert_eq!(all.len() as i64, rows);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    async fn the_total_stays_that_of_the_first_page(backend) {
        let app = TestApp::start(backend).await;
        looks(&app, 7).await;
        let path = format!("/AuditEvent?patient={}&_count=3", child(1).nhs());

        let first = app.auditor().get(&path).await;
        looks(&app, 2).await;
        let second = app.auditor().get(&first.next_page().expect("a second page")).await;

        assert_eq!((first.total(), second.total()), (7, 7));
        let counted = app.auditor().get(&format!("/AuditEvent?patient={}&_summary=count", child(1).nhs())).await;
        // The two searches above were audited with the patient that they named.
        assert_eq!((counted.total(), counted.json.get("entry")), (11, None), "{}", counted.text);
    }

    async fn a_day_is_londons_with_its_23_24_or_25_hours(backend) {
        let app = TestApp::start(backend).await;
        let last = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
        // Just before, just within at both ends, just after: 25 October 2026 has 25 hours, 28 March 2027 has 23.
        let instants = ["2026-10-24T22:59:59.999Z", "2026-10-24T23:00:00Z", "2026-10-25T23:59:59.999Z", "2026-10-26T00:00:00Z",
                        "2027-03-27T23:59:59.999Z", "2027-03-28T00:00:00Z", "2027-03-28T22:59:59.999Z", "2027-03-28T23:00:00Z"];
        for instant in instants {
            app.clock.set(last(instant));
            looks(&app, 1).await;
        }
        let found = async |date: &str| {
            let path = format!("/AuditEvent?patient={}&date={date}", child(1).nhs());
            let reply = app.auditor().get(&path).await;
            let events = reply.resources("AuditEvent");
            let asked_by_clinician = events.iter().filter(|event| event.to_string().contains("555000000101"));
            asked_by_clinician.count()
        };
        app.clock.set(last("2027-06-01T12:00:00Z"));
        assert_eq!(found("2026-10-25").await, 2);
        assert_eq!(found("2027-03-28").await, 2);
        assert_eq!(found("ge2027-03-28").await, 3);
        assert_eq!(found("lt2026-10-25").await, 1);
        assert_eq!(found("gt2026-10-25&date=lt2027-03-28").await, 2);
        assert_eq!(found("2026-10-26T00:00:00Z").await, 1);
        assert_eq!(found("2026").await, 4);
        assert_eq!(found("sa2026-10-25").await, 5);
        assert_eq!(found("ne2026-10-25&date=2026").await, 2);
        assert_eq!(found("2026-10-25,2027-03-28").await, 4);
        let prefix = app.auditor().get("/AuditEvent?date=zz2026-10-25").await;
        prefix.assert_refused(400, "not-supported", "INVALID_VALUE");
        let day = app.auditor().get("/AuditEvent?date=2026-10-32").await;
        day.assert_refused(400, "value", "INVALID_VALUE");
    }

    async fn an_event_is_read_by_its_id_and_a_cursor_of_another_making_is_refused(backend) {
        let app = TestApp::start(backend).await;
        looks(&app, 1).await;
        let found = app.auditor().get(&format!("/AuditEvent?patient={}", child(1).nhs())).await;

        let id = &ids(&found)[0];
        let read = app.auditor().get(&format!("/AuditEvent/{id}")).await;

        assert!(id.starts_with("202611-"), "{id}");
        assert_eq!(read.json, found.resources("AuditEvent")[0]);
        insta::assert_json_snapshot!("security_event", read.json, {
            ".id" => "[id]", ".agent[].network.address" => "[address]", ".agent[].policy[]" => "[token]",
            ".entity[].what.identifier.value" => "[value]",
        });
        for cursor in ["x", "e30", "W10"] {
            let refused = app.auditor().get(&format!("/AuditEvent?_cursor={cursor}")).await;
            refused.assert_refused(400, "value", "INVALID_VALUE");
        }
        for id in ["202611-999999", "202612-1", "202611-x"] {
            app.auditor().get(&format!("/AuditEvent/{id}")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
    }

    async fn searching_is_itself_audited(backend) {
        let app = TestApp::start(backend).await;
        looks(&app, 2).await;
        app.auditor().get("/AuditEvent?_count=2").await;

        let found = app.auditor().get("/AuditEvent?_count=1").await.resources("AuditEvent");

        let event = found[0].to_string();
        assert!(event.contains("sandbox-auditor-zz801"), "{event}");
        assert_eq!(found[0]["action"], "E");
    }
}

/// Two processes open their chains at once, and the one with the lower number commits last: its rows are later than the
/// first page all the same.
#[actix_web::test]
async fn a_chain_that_is_committed_late_is_on_no_page_that_was_begun_before() {
    let app = TestApp::start(Backend::Postgres).await;
    looks(&app, 4).await;
    let (slow, fast) = (app.beside(), app.beside());
    let caller = app.person_at("ZZ101", "000000000001").await;
    let mut event = RequestEvent::new(Interaction::SearchType, &caller, &app.context("GET /CareTeam"));
    event.patient = Some(child(1).number);

    let held = slow.hold_writer(Some((app.clock.now(), event.clone()))).await;
    let gateway = fast.app.gateway.clone();
    let quick = spawn(async move { gateway.audit(event).await });
    let waiting = "select count(*) as n from pg_stat_activity \
                   where datname = current_database() and wait_event_type = 'Lock'";
    while !quick.is_finished() && app.number(waiting) == 0 {
        tokio::task::yield_now().await;
    }
    // These are newer than the event that waits for its commit.
    looks(&app, 4).await;
    let first = app.auditor().get(&format!("/AuditEvent?patient={}&_count=2", child(1).nhs())).await;
    let shown = first.total();
    held.release().await.unwrap();
    quick.await.unwrap().unwrap();

    let rest = pages(&app, &first.next_page().expect("a second page"), async || {}).await.concat();

    assert_eq!(ids(&first).len() + rest.len(), usize::try_from(shown).unwrap());
}
