//! The life of a chain: opened by a process, closed by it or for it, under checkpoints that name the one before.

use cpis_gateway::{
    app::App,
    cpis::types::audit::{AuditContent, Interaction, RequestEvent},
    store::{
        audit::chain_rows,
        checkpoint::{self, CheckpointContent},
    },
};

use crate::harness::{CPP, TestApp, child, on_both_stores};

fn contents(app: &TestApp, chain: i64) -> Vec<AuditContent> {
    let rows = chain_rows(&mut app.connection(), chain, 0, 10_000).unwrap();
    rows.iter().map(|row| serde_json::from_slice(&row.content).unwrap()).collect()
}

fn checkpoints(app: &TestApp) -> Vec<CheckpointContent> {
    let stored = checkpoint::after(&mut app.connection(), 0, 10_000).unwrap();
    stored.iter().map(|checkpoint| CheckpointContent::parse(&checkpoint.content).unwrap()).collect()
}

on_both_stores! {
    async fn an_untouched_audit_is_whole(backend) {
        let app = TestApp::start(backend).await;
        let child = child(1);
        app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
        app.clinician().get(&child.care_team()).await;
        app.anonymous().get(&child.care_team()).await;
        app.clinician().get("/CareTeam?patient=1").await;
        app.app.checkpoint().await.unwrap();
        app.authority("Z9A").get(&child.history()).await;
        app.audit_of(child.nhs()).await;

        let report = app.verify();

        assert!(report.is_whole(), "{report:?}");
        let rows = app.number("select count(*) as n from audit_event");
        assert_eq!((report.rows as i64, report.chains, report.checkpoints, report.not_yet_covered), (rows, 1, 1, 2));
    }

    async fn a_checkpoint_is_written_when_there_was_traffic_and_names_the_one_before(backend) {
        let app = TestApp::start(backend).await;
        assert_eq!(app.app.checkpoint().await.unwrap(), Some(1));
        assert_eq!(app.app.checkpoint().await.unwrap(), None, "nothing new");
        app.clinician().get(&child(1).care_team()).await;
        assert_eq!(app.app.checkpoint().await.unwrap(), Some(2));

        let [first, second] = &checkpoints(&app)[..] else { panic!("two checkpoints") };

        assert_eq!(first.previous, None);
        let stored = checkpoint::after(&mut app.connection(), 0, 1).unwrap();
        assert_eq!(second.previous.as_deref(), Some(cpis_gateway::store::audit::hex(&stored[0].hash).as_str()));
        assert_eq!(second.chains[0].seq, app.number("select max(seq) as n from audit_event"));
    }

    async fn one_process_writes_the_checkpoints_for_all(backend) {
        let app = TestApp::start(backend).await;
        let other = app.beside();
        app.clinician().get(&child(1).care_team()).await;
        other.clinician().get(&child(1).care_team()).await;

        assert_eq!(app.app.checkpoint().await.unwrap(), Some(1));
        app.clinician().get(&child(1).care_team()).await;
        assert_eq!(other.app.checkpoint().await.unwrap(), None, "the lease is the other's");

        assert_eq!(checkpoints(&app)[0].chains.len(), 2);
        app.clock.advance(chrono::TimeDelta::seconds(61));
        assert_eq!(other.app.checkpoint().await.unwrap(), Some(2), "its lease is over");
        assert!(app.verify().is_whole());
    }

    async fn the_chain_of_a_dead_process_is_closed_for_it(backend) {
        let app = TestApp::start(backend).await;
        // It writes nothing any more and its lease is not renewed: to the others that is a dead process.
        let dead = app.beside();
        dead.clinician().get(&child(1).care_team()).await;
        let chain = app.number("select max(id) as n from audit_chain");
        app.clock.advance(chrono::TimeDelta::minutes(6));

        app.app.checkpoint().await.unwrap();

        let contents = contents(&app, chain);
        assert!(matches!(&contents[0], AuditContent::ChainOpened { .. }));
        let AuditContent::ChainClosed { by } = contents.last().unwrap() else { panic!("{contents:?}") };
        let AuditContent::ChainOpened { process, .. } = &self::contents(&app, 1)[0] else { panic!("the first row") };
        assert_eq!(by, process, "it was closed by the checkpointer");
        let newest = checkpoints(&app).pop().unwrap();
        let head = newest.chains.iter().find(|head| head.chain == chain).expect("the checkpoint covers it");
        assert!(head.closed && head.seq == contents.len() as i64, "{head:?}");
        assert!(app.verify().is_whole());
    }

    async fn a_restart_goes_on_with_a_chain_that_names_the_newest_checkpoint(backend) {
        let app = TestApp::start(backend).await;
        app.clinician().get(&child(1).care_team()).await;
        let AuditContent::ChainOpened { newest_checkpoint: None, .. } = &contents(&app, 1)[0] else {
            panic!("the first chain follows nothing")
        };
        app.app.checkpoint().await.unwrap();

        let app = app.restart().await;
        app.clinician().get(&child(1).care_team()).await;

        let (before, after) = (contents(&app, 1), contents(&app, 2));
        assert!(matches!(before.last(), Some(AuditContent::ChainClosed { .. })));
        let AuditContent::ChainOpened { newest_checkpoint, newest_checkpoint_hash, .. } = &after[0] else {
            panic!("{after:?}")
        };
        let stored = checkpoint::newest(&mut app.connection()).unwrap().unwrap();
        assert_eq!(*newest_checkpoint, Some(stored.number));
        assert_eq!(newest_checkpoint_hash.as_deref(), Some(cpis_gateway::store::audit::hex(&stored.hash).as_str()));
        assert!(app.verify().is_whole());
    }

    async fn a_shutdown_closes_the_chain_under_a_last_checkpoint(backend) {
        let app = TestApp::start(backend).await;
        let other = App::open(app.settings().clone(), app.clock.clone()).unwrap();
        let caller = app.person_at("ZZ101", "000000000001").await;
        let event = RequestEvent::new(Interaction::SearchType, &caller, &app.context("GET /CareTeam"));
        other.gateway.audit(event).await.unwrap();
        let chain = app.number("select max(id) as n from audit_chain");

        other.run(async {}).await.unwrap();

        let contents = contents(&app, chain);
        assert!(matches!(contents.last(), Some(AuditContent::ChainClosed { .. })), "{contents:?}");
        let newest = checkpoints(&app).pop().expect("a last checkpoint");
        let head = newest.chains.iter().find(|head| head.chain == chain).expect("its chain");
        assert!(head.closed && head.seq == contents.len() as i64, "{head:?}");
        // The lease was given up: another process writes the next one at once.
        app.clinician().get(&child(1).care_team()).await;
        assert_eq!(app.app.checkpoint().await.unwrap(), Some(newest.number + 1));
        assert!(app.verify().is_whole());
    }
}

/// At the end of a month a process appends while another takes it for dead: one of the two must wait for the other.
#[actix_web::test]
async fn a_slow_process_is_not_closed_in_the_middle_of_a_commit() {
    let app = TestApp::start(crate::harness::Backend::Postgres).await;
    let (slow, closer) = (app.beside(), app.beside());
    slow.clinician().get(&child(1).care_team()).await;
    let month_end = "2026-11-30T23:59:59.999Z".parse().unwrap();
    app.clock.set(month_end);
    let caller = app.person_at("ZZ101", "000000000001").await;
    let event = RequestEvent::new(Interaction::SearchType, &caller, &app.context("GET /CareTeam"));

    let held = slow.hold_writer(Some((month_end, event))).await;
    app.clock.set("2026-12-01T00:00:00Z".parse().unwrap());
    let write = actix_web::rt::spawn(async move { closer.app.checkpoint().await });
    // Either it has passed the other's chain by, or it waits for it.
    let waiting = "select count(*) as n from pg_stat_activity \
                   where datname = current_database() and wait_event_type = 'Lock'";
    while !write.is_finished() && app.number(waiting) == 0 {
        tokio::task::yield_now().await;
    }
    held.release().await.unwrap();
    write.await.unwrap().unwrap();

    let report = app.verify();
    assert!(report.is_whole(), "{report:?}");
}
