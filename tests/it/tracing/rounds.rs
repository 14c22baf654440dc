//! Stored numbers are traced again: which, by how many processes, and what a death or a stumbling source leaves.

use std::{collections::HashSet, sync::Arc};

use chrono::TimeDelta;
use cpis_gateway::cpis::{Gateway, retrace::Retraced, types::NhsNumber};
use futures_util::future::join;

use super::{Counted, a_week, administrator_says, found, on_record};
use crate::harness::{CPP, Child, TestApp, bundle, child, number, on_both_stores, upload::entry};

const START: &str = "2026-09-14";

/// So many children on record, loaded by the register, and a PDS that knows them.
async fn with_children(app: &TestApp, count: u32) -> Arc<Counted> {
    let pds = Arc::new(Counted::default());
    let children: Vec<Child> = (1..=count).map(child).collect();
    for child in &children {
        app.register(child).await;
        pds.knows(child);
    }
    for some in children.chunks(16) {
        let of = |child: &Child| [child.put_patient(), entry("POST", "Flag", child.flag("Z9A", CPP, START, None))];
        let entries: Vec<serde_json::Value> = some.iter().flat_map(of).collect();
        let loaded = app.authority("Z9A").post("", &bundle("batch", &entries)).await;
        assert_eq!(loaded.file_code(), "CPF02", "{}", loaded.text);
    }
    pds
}

/// All of the numbers, part by part, as the operator has them traced.
async fn all(gateway: &Gateway, app: &TestApp) -> Retraced {
    let (mut done, mut after, since) = (Retraced::default(), 0, app.clock.now());
    while let Some(part) =
        gateway.retrace_all(after, since).await.map(|part| part.last.map(|last| (last, part.done))).unwrap()
    {
        done.add(part.1);
        after = part.0;
    }
    done
}

on_both_stores! {
    async fn two_processes_share_the_numbers_and_ask_about_each_once(backend) {
        let app = TestApp::start(backend).await;
        let pds = with_children(&app, 40).await;
        let other = app.beside();
        let (one, two) = (pds.gateway(&app), pds.gateway(&other));
        app.clock.advance(TimeDelta::days(3));
        let mut asked = Vec::new();
        // 40 numbers in a week are 0.48 an hour at twice the even pace.
        for _ in 0..90 {
            app.clock.advance(TimeDelta::hours(1));
            let (first, second) = join(one.retrace(), two.retrace()).await;
            let traced = first.unwrap().traced + second.unwrap().traced;
            assert!(traced <= 1, "{traced} at once");
            asked.extend(pds.asked());
            if asked.len() == 40 {
                break;
            }
        }
        let distinct: HashSet<NhsNumber> = asked.iter().copied().collect();
        assert_eq!((asked.len(), distinct.len()), (40, 40));

        // The operator's run beside another's: each number once.
        app.clock.advance(TimeDelta::minutes(1));
        let (first, second) = join(all(&one, &app), all(&two, &app)).await;
        assert_eq!((first.traced + second.traced, pds.asked().len()), (40, 40));
        assert_eq!(app.number("select count(*) as n from person where claimed_ms is not null"), 0);
    }

    async fn what_a_dead_process_had_claimed_another_traces_later(backend) {
        let app = TestApp::start(backend).await;
        let pds = with_children(&app, 20).await;
        let gateway = pds.gateway(&app);
        app.clock.advance(TimeDelta::days(4));
        // As a process leaves them that dies after it has claimed a batch.
        let until_ms = (app.clock.now() + TimeDelta::minutes(10)).timestamp_millis();
        app.execute(&format!("update person set claimed_ms = {until_ms} where id in (select id from person order by id limit 16)"));
        assert_eq!(all(&gateway, &app).await.traced, 4);
        pds.asked();
        app.clock.advance(TimeDelta::minutes(11));
        assert_eq!(all(&gateway, &app).await.traced, 20);
    }

    async fn a_run_that_ended_early_goes_on_from_there(backend) {
        let app = TestApp::start(backend).await;
        let pds = with_children(&app, 40).await;
        let (gateway, since) = (pds.gateway(&app), app.clock.now() + TimeDelta::seconds(1));
        app.clock.advance(TimeDelta::seconds(1));
        pds.leaves_after(16);
        let first = gateway.retrace_all(0, since).await.unwrap();
        let second = gateway.retrace_all(first.last.unwrap(), since).await.unwrap();
        assert_eq!((first.done.traced, second.done.traced, second.done.failed), (16, 0, 16));
        assert!(second.done.unavailable && !first.done.unavailable);
        pds.is_back();
        pds.asked();
        app.clock.advance(TimeDelta::hours(1));
        let rest = gateway.retrace_all(0, since).await.unwrap();
        assert_eq!(rest.done.traced, 16);
        let rest = gateway.retrace_all(rest.last.unwrap(), since).await.unwrap();
        assert_eq!((rest.done.traced, pds.asked().len()), (8, 24), "those that were traced are not again");
        assert_eq!(app.number("select count(*) as n from person where claimed_ms is not null"), 0);
    }

    async fn one_number_that_the_source_stumbles_over_holds_up_no_other(backend) {
        let app = TestApp::start(backend).await;
        let pds = with_children(&app, 20).await;
        let gateway = pds.gateway(&app);
        pds.state().stumbles.insert(child(1).number);
        app.clock.advance(TimeDelta::days(4));
        let mut done = Retraced::default();
        for _ in 0..100 {
            app.clock.advance(TimeDelta::hours(1));
            done.add(gateway.retrace().await.unwrap());
        }
        let asked: HashSet<NhsNumber> = pds.asked().into_iter().collect();
        assert_eq!(asked.len(), 19);
        assert!(done.failed > 0, "{done:?}");
        let gateway = pds.gateway(&app);
        let done = all(&gateway, &app).await;
        // It waits as if it had been traced; the operator is told that it is left.
        assert_eq!((done.traced, done.failed, done.unavailable), (19, 0, false));
        assert_eq!(gateway.traced_before(app.clock.now()).await.unwrap().1, 1);
    }

    async fn numbers_without_a_visible_plan_are_left_out_until_something_changes(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let (shown, ended) = (child(1), child(2));
        on_record(&app, &pds, &shown, &[("Z9A", CPP, START, None)]).await;
        on_record(&app, &pds, &ended, &[("Z9A", CPP, START, Some("2026-10-01"))]).await;
        administrator_says(&app, &child(9), "invalidated").await;
        app.clock.set("2027-10-01T12:00:00Z".parse().unwrap());
        a_week(&app).await;
        let (of_shown, of_ended) = (pds.times_asked(&shown.number), pds.times_asked(&ended.number));
        a_week(&app).await;
        assert!(pds.times_asked(&shown.number) > of_shown);
        assert_eq!(pds.times_asked(&ended.number), of_ended, "over a year after its end");
        assert_eq!(pds.times_asked(&number(9)), 0, "nobody's number");
        assert_eq!(app.number("select count(*) as n from person where retrace_ms is not null"), 1);

        app.on_record_again(&ended, &[("Z9B", CPP, "2027-09-01", None)]).await;
        assert_eq!(app.number("select count(*) as n from person where retrace_ms is not null"), 2);
        let of_ended = pds.times_asked(&ended.number);
        a_week(&app).await;
        assert!(pds.times_asked(&ended.number) > of_ended);
    }

    async fn what_an_upload_traced_is_not_traced_again_at_once(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let held = child(1);
        on_record(&app, &pds, &held, &[("Z9A", CPP, START, None)]).await;
        for day in 0..14 {
            app.clock.advance(TimeDelta::days(1));
            let entries = [held.put_patient(), entry("POST", "Flag", held.flag("Z9A", CPP, START, None))];
            assert_eq!(app.authority("Z9A").post("", &bundle("batch", &entries)).await.file_code(), "CPF02");
            assert_eq!(app.app.gateway.retrace().await.unwrap().traced, 0, "day {day}");
        }
        assert_eq!(pds.times_asked(&held.number), 15);
    }

    async fn a_late_answer_takes_back_nothing_that_was_asked_for_after_it(backend) {
        let app = TestApp::start(backend).await;
        let pds = with_children(&app, 1).await;
        let gateway = pds.gateway(&app);
        pds.says(&child(1).number, cpis_gateway::cpis::types::child::Trace::Restricted);
        app.clock.advance(TimeDelta::hours(1));
        assert_eq!(all(&gateway, &app).await.changed, 1);
        // The clock stands before that trace: as if this answer had been under way since.
        pds.says(&child(1).number, found(&child(1)));
        app.clock.set(app.clock.now() - TimeDelta::minutes(5));
        gateway.trace(&[child(1).number], cpis_gateway::cpis::types::child::Urgency::Caller).await.unwrap();
        assert_eq!(app.number("select count(*) as n from person where status = 'restricted'"), 1);
        assert_eq!(app.number("select count(*) as n from person where retrace_ms = 0"), 1, "it is asked again at once");
        app.clock.advance(TimeDelta::minutes(6));
        gateway.trace(&[child(1).number], cpis_gateway::cpis::types::child::Urgency::Caller).await.unwrap();
        assert_eq!(app.number("select count(*) as n from person where status = 'restricted'"), 0);
        // But a restriction counts however late it comes, until it is asked again.
        pds.says(&child(1).number, cpis_gateway::cpis::types::child::Trace::Restricted);
        app.clock.set(app.clock.now() - TimeDelta::minutes(5));
        gateway.trace(&[child(1).number], cpis_gateway::cpis::types::child::Urgency::Caller).await.unwrap();
        assert_eq!(app.number("select count(*) as n from person where status = 'restricted' and retrace_ms = 0"), 1);
    }

    async fn the_status_says_when_it_falls_behind(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        on_record(&app, &pds, &child(1), &[("Z9A", CPP, START, None)]).await;
        let check = async || {
            let dependencies = app.app.gateway.dependencies();
            let tracing = dependencies.iter().find(|one| one.name == "tracing").expect("a line");
            let check = (tracing.check)().await;
            (check.health.code(), check.detail)
        };
        assert_eq!(check().await, ("pass", "1 of 1 numbers were traced within 7 days.".to_owned()));
        app.clock.advance(TimeDelta::days(8));
        let (health, detail) = check().await;
        assert_eq!(health, "warn");
        assert!(detail.starts_with("Tracing again falls behind: 0 of 1"), "{detail}");
        a_week(&app).await;
        assert_eq!(check().await.0, "pass");
    }
}
