//! What tracing found for a file that stopped is kept for a day: sent again, it goes on from there.

use std::sync::Arc;

use chrono::TimeDelta;
use cpis_gateway::cpis::{
    Error, Gateway,
    types::{
        NhsNumber, PlanType, Precondition,
        audit::Interaction,
        caller::{Author, Role},
        child::Trace,
        upload::{ChildChange, Door, FileCode, PlanAction, PlanChange, PlanKey, ReadRecord, RecordChange},
    },
    upload::apply::{Upload, UploadHead},
};

use super::{Counted, administrator_says, found};
use crate::harness::{TestApp, child, on_both_stores};

/// Records of the file; it is judged 16 at a time.
const RECORDS: u32 = 96;

async fn file(app: &TestApp, authority: &str, children: impl Iterator<Item = u32>) -> Upload {
    let caller = app.caller_of(Role::LocalAuthority, authority, Author::System).await;
    let record = |index: u32| {
        let child = child(index);
        let plan = PlanChange {
            entry: 1,
            key: PlanKey::Content,
            plan_type: Some(PlanType::ChildProtection),
            local_id: None,
            action: PlanAction::Put { start: "2026-09-14".parse().expect("a day"), end: None },
        };
        let demographics = child.demographics();
        let sent = ChildChange { entry: 0, demographics, local_id: None, precondition: Precondition::None };
        ReadRecord::Change(RecordChange { nhs_number: child.number, child: Some(sent), plans: vec![plan] }).into()
    };
    let head = UploadHead::new(caller, app.context("POST /"), Interaction::Batch, Door::Bundle);
    Upload { head, records: children.map(record).collect() }
}

async fn send(app: &TestApp, gateway: &Gateway, authority: &str) -> Result<FileCode, Error> {
    let upload = file(app, authority, 1..=RECORDS).await;
    gateway.upload_in_stages(upload).await.map(|applied| applied.code)
}

/// A PDS that knows the children of the file, and a gateway that asks it.
fn pds(app: &TestApp) -> (Arc<Counted>, Gateway) {
    let pds = Arc::new(Counted::default());
    (1..=RECORDS).for_each(|index| pds.knows(&child(index)));
    let gateway = pds.gateway(app);
    (pds, gateway)
}

fn kept(app: &TestApp) -> i64 {
    app.number("select count(*) as n from trace_result")
}

/// How many of the first 64 numbers are among these.
fn of_the_first(asked: &[NhsNumber]) -> usize {
    let first: Vec<NhsNumber> = (1..=64).map(|index| child(index).number).collect();
    asked.iter().filter(|number| first.contains(number)).count()
}

on_both_stores! {
    async fn a_file_that_stopped_goes_on_when_it_is_sent_again(backend) {
        let app = TestApp::start(backend).await;
        let (pds, gateway) = pds(&app);
        pds.says(&child(5).number, Trace::Restricted);
        pds.leaves_after(64);
        assert!(matches!(send(&app, &gateway, "Z9A").await, Err(Error::DemographicsUnavailable)));
        assert_eq!((pds.asked().len(), kept(&app)), (64, 63), "nothing is kept of a restricted number");
        assert_eq!(app.number("select count(*) as n from person"), 0, "nothing of the file is stored");

        pds.is_back();
        app.clock.advance(TimeDelta::hours(23));
        assert_eq!(send(&app, &gateway, "Z9A").await.unwrap(), FileCode::Cpf03);
        let asked = pds.asked();
        assert_eq!((asked.len(), of_the_first(&asked)), (33, 1), "the rest of the file, and the restricted one");
        assert_eq!(kept(&app), 0, "it has served");
        // When they were asked is what counts for tracing them again.
        let old_ms = (app.clock.now() - TimeDelta::hours(23)).timestamp_millis();
        assert_eq!(app.number(&format!("select count(*) as n from person where traced_ms = {old_ms}")), 63);
        assert_eq!(app.number("select count(*) as n from person where retrace_ms = 0"), 63, "and they are asked before all others");

        assert_eq!(send(&app, &gateway, "Z9A").await.unwrap(), FileCode::Cpf03);
        assert_eq!(pds.asked().len(), RECORDS as usize, "the next file asks anew");
    }

    async fn an_old_answer_is_believed_by_nobody_else_and_no_longer_than_a_day(backend) {
        let app = TestApp::start(backend).await;
        let (pds, gateway) = pds(&app);
        pds.leaves_after(64);
        assert!(send(&app, &gateway, "Z9A").await.is_err());
        pds.is_back();
        pds.asked();
        // A small change asks anew, and what it finds is the newest that is known.
        let few = file(&app, "Z9A", 1..=2).await;
        gateway.upload(few).await.unwrap();
        assert_eq!((pds.asked().len(), kept(&app)), (2, 62));
        // An administrator says something of a number.
        administrator_says(&app, &child(3), "invalidated").await;
        assert_eq!(kept(&app), 61);

        assert_eq!(gateway.forget_old_traces().await.unwrap(), 0);
        pds.leaves_after(64);
        assert!(send(&app, &gateway, "Z9B").await.is_err());
        let asked = pds.asked();
        assert_eq!((asked.len(), of_the_first(&asked)), (64, 64), "another authority asks by itself");
        pds.is_back();
        app.clock.advance(TimeDelta::hours(24));
        assert_eq!(gateway.forget_old_traces().await.unwrap(), 64);
        assert_eq!(kept(&app), 0);
        assert_eq!(send(&app, &gateway, "Z9A").await.unwrap(), FileCode::Cpf03);
        assert_eq!(pds.asked().len(), RECORDS as usize);
    }

    async fn a_kept_answer_is_no_news(backend) {
        let app = TestApp::start(backend).await;
        let (pds, gateway) = pds(&app);
        gateway.upload(file(&app, "Z9A", 1..=1).await).await.unwrap();
        pds.says(&child(2).number, Trace::Unknown);
        pds.leaves_after(64);
        assert!(send(&app, &gateway, "Z9A").await.is_err());
        pds.is_back();
        // Meanwhile the number is found again by another's small change, and restricted after that.
        for trace in [found(&child(2)), Trace::Restricted] {
            pds.says(&child(2).number, trace);
            gateway.upload(file(&app, "Z9B", 1..=2).await).await.unwrap();
        }
        assert_eq!(send(&app, &gateway, "Z9A").await.unwrap(), FileCode::Cpf03);
        assert_eq!(app.number("select count(*) as n from person where status = 'restricted'"), 1);
    }
}

#[actix_web::test]
async fn the_register_is_asked_each_time() {
    let app = TestApp::start(crate::harness::Backend::Sqlite).await;
    for index in 1..=RECORDS {
        app.register(&child(index)).await;
    }
    assert_eq!(send(&app, &app.app.gateway, "Z9A").await.unwrap(), FileCode::Cpf02);
    assert_eq!(kept(&app), 0);
}
