//! Many at once: clinicians on one child, two processes on one database, changes that share a commit.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::rt::spawn;
use chrono::TimeDelta;
use cpis_gateway::{
    cpis::types::{
        access::AccessKind,
        audit::{Interaction, RequestEvent},
    },
    store::{self, StoreError, checkpoint::Signer},
};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::harness::{Backend, CPP, Child, LAC, Reply, TestApp, child, on_both_stores};

const LOOKS: usize = 64;

fn history_ids(reply: &Reply) -> Vec<String> {
    let events = reply.resources("AuditEvent");
    events.iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Ids of the child's whole history, newest first.
async fn stored_history(app: &TestApp, child: &Child) -> Vec<String> {
    let number = child.number;
    let rows = app.read(move |conn| {
        let child = store::person::child(conn, &number)?.expect("the child is stored");
        store::access::newest(conn, &child.persons, 10_000)
    });
    rows.await.into_iter().map(|row| row.id.to_string()).collect()
}

/// Security events of each request id.
fn events_of(app: &TestApp, requests: &[Uuid]) -> Vec<i64> {
    let count = |id: &Uuid| app.number(&format!("select count(*) as n from audit_event where request_id = '{id}'"));
    requests.iter().map(count).collect()
}

/// Lets the tasks that were spawned on this thread run until each waits for the writer.
async fn submitted() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Returns when so many sessions of the test's database wait for another's lock.
async fn waiting_for_locks(app: &TestApp, sessions: i64) {
    let waiting = "select count(*) as n from pg_stat_activity \
                   where datname = current_database() and wait_event_type = 'Lock'";
    while app.number(waiting) < sessions {
        tokio::task::yield_now().await;
    }
}

on_both_stores! {
    async fn sixty_four_clinicians_on_one_child_each_see_a_right_history(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.on_record_again(&child, &[("Z9B", LAC, "2026-09-14", None)]).await;

        let requests: Vec<Uuid> = (0..LOOKS).map(|_| Uuid::new_v4()).collect();
        let looks = requests.iter().enumerate().map(|(index, request)| {
            let clinician = app.clinician_at("ZZ101", &format!("{index:012}"));
            spawn(clinician.header("X-Request-ID", &request.to_string()).get(&child.history()))
        });
        let replies: Vec<Reply> = join_all(looks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();

        let stored = stored_history(&app, &child).await;
        assert_eq!(stored.len(), LOOKS);
        let mut own_rows = BTreeSet::new();
        for reply in &replies {
            assert_eq!(reply.status, 200, "{}", reply.text);
            let shown = history_ids(reply);
            // Its own row is the newest of its moment; what follows is the history as it was then, without a gap.
            let position = stored.iter().position(|id| *id == shown[0]).expect("a stored row");
            let expected: Vec<String> = stored.iter().skip(position).take(25).cloned().collect();
            assert_eq!(shown, expected);
            own_rows.insert(position);
        }
        assert_eq!(own_rows.len(), LOOKS, "each look has a row of its own");
        assert_eq!(events_of(&app, &requests), vec![1; LOOKS]);
        assert_eq!(app.number("select count(*) as n from outbox"), 2 * LOOKS as i64);
        assert!(app.verify().is_whole(), "{:?}", app.verify());
    }

    async fn sixty_four_looks_by_one_author_give_one_row(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        let requests: Vec<Uuid> = (0..LOOKS).map(|_| Uuid::new_v4()).collect();
        let looks = requests.iter().map(|request| {
            spawn(app.clinician().header("X-Request-ID", &request.to_string()).get(&child.history()))
        });
        let replies: Vec<Reply> = join_all(looks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();

        let stored = stored_history(&app, &child).await;
        assert_eq!(stored.len(), 1);
        for reply in replies {
            assert_eq!((reply.status, history_ids(&reply)), (200, stored.clone()), "{}", reply.text);
        }
        assert_eq!(events_of(&app, &requests), vec![1; LOOKS]);
        assert_eq!(app.number("select count(*) as n from outbox"), 1);
        assert!(app.verify().is_whole());
    }

    async fn two_processes_list_each_author_once(backend) {
        let app = TestApp::start(backend).await;
        let other = app.beside();
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;

        let requests: Vec<Uuid> = (0..LOOKS).map(|_| Uuid::new_v4()).collect();
        let looks = requests.iter().enumerate().map(|(index, request)| {
            let process = if index % 2 == 0 { &app } else { &other };
            let clinician = process.clinician_at("ZZ101", &format!("{:012}", index / 2));
            spawn(clinician.header("X-Request-ID", &request.to_string()).get(&child.history()))
        });
        let replies: Vec<Reply> = join_all(looks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();

        assert!(replies.iter().all(|reply| reply.status == 200));
        assert_eq!(stored_history(&app, &child).await.len(), LOOKS / 2);
        assert_eq!(app.number("select count(*) as n from outbox"), LOOKS as i64 / 2);
        assert_eq!(events_of(&app, &requests), vec![1; LOOKS]);
        let chains = "select count(distinct chain) as n from audit_event where subtype = 'search-type'";
        assert_eq!(app.number(chains), 2);
        let report = app.verify();
        assert!(report.is_whole() && report.chains >= 2, "{report:?}");
    }

    async fn looks_uploads_and_merges_of_several_children_at_once_all_end(backend) {
        let app = TestApp::start(backend).await;
        let other = app.beside();
        let children: Vec<Child> = (1..=6).map(child).collect();
        for child in &children {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        }

        let mut work = Vec::new();
        for round in 0..24_usize {
            let process = if round % 2 == 0 { &app } else { &other };
            // Each Bundle locks all the children, in another order each time.
            let mut entries = Vec::new();
            for step in 0..children.len() {
                let child = &children[(round * 5 + step * if round % 3 == 0 { 1 } else { 5 }) % children.len()];
                let end = format!("2027-01-{:02}", round + 1);
                entries.extend([child.put_patient(), child.post_flag("Z9A", CPP, "2026-09-14", Some(&end))]);
            }
            work.push(spawn(process.authority("Z9A").post("", &crate::harness::bundle("batch", &entries))));
            for child in &children {
                let clinician = process.clinician_at("ZZ121", &format!("{round:012}"));
                work.push(spawn(clinician.get(&child.care_team())));
            }
        }
        let merge = app.supersede(children[0].number, children[1].number);
        let (replies, merged) = futures_util::future::join(join_all(work), merge).await;

        merged.unwrap();
        for reply in replies.into_iter().map(Result::unwrap) {
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(!reply.text.contains("CPF04"), "{}", reply.text);
        }
        let report = app.verify();
        assert!(report.is_whole(), "{report:?}");
    }

    async fn a_change_that_fails_in_a_shared_commit_fails_alone(backend) {
        let app = TestApp::start(backend).await;
        let children: Vec<Child> = (1..=3).map(child).collect();
        for child in &children {
            app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        }
        let caller = app.person_at("ZZ101", "000000000001").await;
        let event = RequestEvent::new(Interaction::SearchType, &caller, &app.context("GET /lost"));
        let now = app.clock.now();
        let before = app.number("select count(*) as n from audit_event");

        // While one transaction is held, all of these wait, and then share the next one.
        let held = app.hold_writer(None).await;
        let looks: Vec<_> = children.iter().map(|child| spawn({
            let gateway = app.app.gateway.clone();
            let ask = app.look_up_of(&caller, child.number, AccessKind::Unscheduled);
            async move { gateway.look_up(ask).await }
        })).collect();
        let fail = |how: fn() -> StoreError| {
            let (store, event) = (app.app.gateway.store.clone(), event.clone());
            spawn(async move {
                let change = store.write(Vec::new(), move |tx| {
                    tx.append_audit(now, event.clone())?;
                    Err::<(), _>(how())
                });
                change.await
            })
        };
        let refused = fail(|| StoreError::Database("a test's refusal"));
        let raced = fail(|| StoreError::Race);
        let panicked = fail(|| panic!("a test's panic"));
        let wrong_sql = spawn({
            let (store, event) = (app.app.gateway.store.clone(), event.clone());
            async move {
                let change = store.write(Vec::new(), move |tx| {
                    use diesel::RunQueryDsl;
                    tx.append_audit(now, event.clone())?;
                    diesel::sql_query("insert into no_such_table values (1)").execute(tx.conn)?;
                    Ok(())
                });
                change.await
            }
        });
        submitted().await;
        held.release().await.unwrap();

        for look in looks {
            assert_eq!(look.await.unwrap().unwrap().unwrap().plans.len(), 1);
        }
        assert!(matches!(refused.await.unwrap(), Err(StoreError::Database("a test's refusal"))));
        assert!(matches!(raced.await.unwrap(), Err(StoreError::Race)));
        assert!(matches!(panicked.await.unwrap(), Err(StoreError::Database("a change panicked"))));
        assert!(matches!(wrong_sql.await.unwrap(), Err(StoreError::Database(_))));
        assert_eq!(app.number("select count(*) as n from audit_event"), before + 3);
        assert_eq!(app.number("select count(*) as n from access"), 3);
        assert!(app.verify().is_whole(), "{:?}", app.verify());
    }

    async fn a_checkpoint_that_cannot_be_signed_stops_no_look_up(backend) {
        struct NoKey;
        impl Signer for NoKey {
            fn sign(&self, _: &[u8]) -> Result<Vec<u8>, String> {
                Err("the key is away".to_owned())
            }
            fn key_id(&self) -> String {
                "none".to_owned()
            }
        }
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        let caller = app.person_at("ZZ101", "000000000001").await;

        let held = app.hold_writer(None).await;
        let store = app.app.gateway.store.clone();
        let now = app.clock.now();
        let checkpoint = spawn(async move {
            store::checkpoint::write(&store, std::sync::Arc::new(NoKey), "a process".to_owned(), now).await
        });
        let gateway = app.app.gateway.clone();
        let ask = app.look_up_of(&caller, child.number, AccessKind::Unscheduled);
        let look = spawn(async move { gateway.look_up(ask).await });
        submitted().await;
        held.release().await.unwrap();

        assert!(checkpoint.await.unwrap().is_err());
        assert_eq!(look.await.unwrap().unwrap().unwrap().plans.len(), 1);
        assert_eq!(app.number("select count(*) as n from audit_checkpoint"), 0);
        assert!(app.verify().is_whole());
    }
}

/// What one authority's record is at the moment of a look decides, whatever order the two processes commit in.
#[actix_web::test]
async fn a_look_waits_for_the_upload_of_the_same_child_in_another_process() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.beside();
    let child = child(1);
    app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
    let number = child.number;

    let (entered, running) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (store, mut entered) = (other.app.gateway.store.clone(), Some(entered));
    let change = spawn(async move {
        let locked = store.write(vec![number], move |tx| {
            if let Some(entered) = entered.take() {
                entered.send(()).map_err(|()| StoreError::Busy)?;
                let _released = released.recv();
            }
            let person = store::person::find(tx.conn, &number)?.expect("the child");
            store::person::set_status(tx.conn, person.id, cpis_gateway::cpis::types::child::NumberStatus::Restricted)
        });
        locked.await
    });
    running.await.unwrap();
    let look = spawn(app.clinician().get(&child.care_team()));
    waiting_for_locks(&app, 1).await;
    drop(release);

    change.await.unwrap().unwrap();
    assert_eq!(look.await.unwrap().total(), 0, "the look came after the change");
}

/// The order of the two numbers' locks while a merge is under way.
#[actix_web::test]
async fn a_look_that_waited_for_a_merge_is_decided_under_the_new_ends_lock() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.beside();
    let third = app.beside();
    let (old, new) = (child(1), child(2));
    for child in [&old, &new] {
        app.on_record(child, &[("Z9A", CPP, "2026-09-14", None)]).await;
    }
    let (old_number, new_number, at_ms) = (old.number, new.number, app.clock.now().timestamp_millis());

    // The merge holds both ends; looks by the old number wait for the old end, which then is no end any more.
    let (entered, running) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (store, mut entered) = (other.app.gateway.store.clone(), Some(entered));
    let merge = spawn(async move {
        let merged = store.write(vec![old_number, new_number], move |tx| {
            let old = store::person::find(tx.conn, &old_number)?.expect("the old number");
            let new = store::person::find(tx.conn, &new_number)?.expect("the new number");
            store::person::supersede(tx.conn, old.id, new.id, at_ms)?;
            if let Some(entered) = entered.take() {
                entered.send(()).map_err(|()| StoreError::Busy)?;
                let _released = released.recv();
            }
            Ok(())
        });
        merged.await
    });
    running.await.unwrap();
    let by_old = spawn(app.clinician().get(&old.care_team()));
    let by_new = spawn(third.clinician().get(&new.care_team()));
    waiting_for_locks(&app, 2).await;
    drop(release);

    merge.await.unwrap().unwrap();
    assert_eq!((by_old.await.unwrap().total(), by_new.await.unwrap().total()), (2, 2));
    assert_eq!(app.number("select count(*) as n from access"), 1, "one author, one child: one row");
    assert!(app.verify().is_whole());
}

on_both_stores! {
    async fn a_process_that_was_late_goes_on_in_a_new_chain(backend) {
        let app = TestApp::start(backend).await;
        let late = app.beside();
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        late.clinician().get(&child.care_team()).await;
        let process = "(select max(id) from audit_chain)";
        let closed = format!("select count(*) as n from audit_chain where closed and id = {process}");

        // Five minutes without a sign of life: to the others it is dead.
        app.clock.advance(TimeDelta::minutes(4));
        app.app.checkpoint().await.unwrap();
        assert_eq!(app.number(&closed), 0);
        app.clock.advance(TimeDelta::minutes(2));
        app.app.checkpoint().await.unwrap();
        assert_eq!(app.number(&closed), 1);
        let open = app.number("select count(*) as n from audit_chain where not closed");
        assert_eq!(open, 1, "its own chain is renewed by the checkpoint");

        let reply = late.clinician().get(&child.care_team()).await;

        assert_eq!((reply.status, reply.total()), (200, 1));
        assert_eq!(app.number("select count(*) as n from audit_chain"), 3);
        assert_eq!(app.number("select count(*) as n from audit_chain where not closed"), 2);
        app.app.checkpoint().await.unwrap();
        let report = app.verify();
        assert!(report.is_whole(), "{report:?}");
        let by_chain: BTreeMap<i64, i64> = (1..=3)
            .map(|chain| (chain, app.number(&format!("select count(*) as n from audit_event where chain = {chain}"))))
            .collect();
        assert_eq!(report.rows as i64, by_chain.values().sum::<i64>());
    }
}
