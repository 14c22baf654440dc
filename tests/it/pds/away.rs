//! PDS that is busy, broken or away: tried again with pauses, left alone by the breaker, seen by the operator.

use std::time::Duration;

use chrono::TimeDelta;
use cpis_gateway::{
    cpis::types::child::Trace,
    outside::pds::{Seen, Turned},
};

use super::{Asking, assert_pace};
use crate::{
    harness::{CPP, TestApp, bundle, child, on_both_stores, pds::PdsAnswer},
    operator::scrape,
};

#[actix_web::test]
async fn what_passes_is_tried_again_under_the_same_request_id() {
    let asking = Asking::start().await;
    let robin = child(1);
    for passing in [
        PdsAnswer::TimedOut,
        PdsAnswer::TooMany(None),
        PdsAnswer::Status(500),
        PdsAnswer::Status(502),
        PdsAnswer::Status(503),
        PdsAnswer::Status(504),
        PdsAnswer::Broken,
        PdsAnswer::Truncated,
    ] {
        let before = asking.pds.asked().len();
        asking.pds.says_in_turn(&robin.number, [passing.clone(), passing.clone(), PdsAnswer::Invalidated]);
        assert_eq!(asking.one(&robin).await, Ok(Trace::Invalid), "{passing:?}");
        let asked = asking.pds.asked().split_off(before);
        assert_eq!(asked.len(), 3, "{passing:?}");
        assert!(asked.iter().all(|one| one.request_id == asked[0].request_id), "{passing:?}: {asked:?}");
        let pauses: Vec<i64> = asked.windows(2).map(|pair| (pair[1].at - pair[0].at).num_milliseconds()).collect();
        assert!(pauses[0] >= 250 && pauses[1] >= 500, "{passing:?}: {pauses:?}");
        asking.time.clock.advance(TimeDelta::seconds(5));
    }
    let mut ids: Vec<String> = asking.pds.asked().into_iter().map(|asked| asked.request_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 8, "each number asked about has an id of its own");
    assert_pace(&asking.times(), 5);
}

#[actix_web::test]
async fn what_does_not_pass_is_asked_once_and_what_does_at_most_four_times() {
    let asking = Asking::start_with(|settings| settings.breaker_failures = 1000).await;
    let robin = child(1);
    for (answer, times) in [
        (PdsAnswer::Malformed, 1),
        (PdsAnswer::WrongType, 1),
        (PdsAnswer::Oversize, 1),
        (PdsAnswer::Status(403), 1),
        (PdsAnswer::Status(404), 1),
        (PdsAnswer::Status(302), 1),
        (PdsAnswer::Status(503), 4),
        (PdsAnswer::Broken, 4),
    ] {
        let before = asking.pds.asked().len();
        asking.pds.says(&robin.number, answer.clone());
        assert!(asking.one(&robin).await.is_err(), "{answer:?}");
        assert_eq!(asking.pds.asked().len() - before, times, "{answer:?}");
    }
}

#[actix_web::test]
async fn retry_after_is_honoured_by_all_requests() {
    let asking = Asking::start().await;
    let (busy, other) = (child(1), child(2));
    asking.pds.says_in_turn(&busy.number, [PdsAnswer::TooMany(Some(7)), PdsAnswer::Invalidated]);
    assert_eq!(asking.one(&busy).await, Ok(Trace::Invalid));
    assert!(asking.times()[1] >= 7000, "{:?}", asking.times());
    // Another number is held back as well: it is the application that asks too much.
    asking.pds.says(&busy.number, PdsAnswer::TooMany(Some(20)));
    let impatient = Asking { source: cpis_gateway::demographics::Pds(asking.source.0.clone()), ..asking };
    let now = impatient.time.clock.now();
    let (first, second) = futures_util::future::join(impatient.one(&busy), async {
        while impatient.pds.times_asked(&busy.number) < 3 {
            tokio::task::yield_now().await;
        }
        while impatient.source.0.state().under_way > 0 {
            tokio::task::yield_now().await;
        }
        impatient.one(&other).await
    })
    .await;
    assert_eq!((first.is_err(), second), (true, Ok(Trace::Unknown)));
    let asked = impatient.pds.asked();
    let of_other = asked.iter().find(|asked| asked.number == other.nhs()).expect("it was asked about");
    assert!(of_other.at - now >= TimeDelta::seconds(20), "{:?}", impatient.times());
}

#[actix_web::test]
async fn a_longer_retry_after_than_the_patience_is_not_waited_for() {
    let asking = Asking::start_with(|settings| settings.patience = Duration::from_secs(10)).await;
    let robin = child(1);
    asking.pds.says(&robin.number, PdsAnswer::TooMany(Some(86_400)));
    assert!(asking.one(&robin).await.is_err());
    assert!(asking.times().iter().all(|at| *at <= 10_000), "{:?}", asking.times());
    // And holds nobody back for a day.
    asking.pds.says(&robin.number, PdsAnswer::Unknown);
    asking.time.clock.advance(TimeDelta::seconds(10));
    assert_eq!(asking.one(&robin).await, Ok(Trace::Unknown));
}

#[actix_web::test]
async fn the_breaker_leaves_pds_alone_and_one_request_finds_it_back() {
    let asking = Asking::start_with(|settings| settings.attempts = 1).await;
    let (robin, alex) = (child(1), child(2));
    asking.pds.says(&robin.number, PdsAnswer::Status(503));
    for _ in 0..5 {
        assert!(asking.one(&robin).await.is_err());
    }
    assert!(asking.source.0.state().away);
    for _ in 0..20 {
        assert!(asking.one(&alex).await.is_err());
    }
    assert_eq!(asking.pds.asked().len(), 5, "it is left alone");
    asking.time.clock.advance(TimeDelta::seconds(31));
    assert!(asking.one(&robin).await.is_err());
    assert!(asking.one(&alex).await.is_err());
    assert_eq!(asking.pds.asked().len(), 6, "one request tried it, and it is left alone again");
    asking.time.clock.advance(TimeDelta::seconds(31));
    let numbers: Vec<_> = (10..60).map(|index| child(index).number).collect();
    assert_eq!(asking.one(&alex).await, Ok(Trace::Unknown));
    assert!(asking.trace(&numbers).await.is_ok());
    let turned: Vec<Seen> =
        asking.seen.lock().unwrap().iter().filter(|seen| matches!(seen, Seen::Turned(_))).copied().collect();
    assert_eq!(turned, [Seen::Turned(Turned::Away), Seen::Turned(Turned::Back)]);
}

on_both_stores! {
    async fn the_operator_sees_it(backend) {
        let (app, pds) = TestApp::start_with_pds(backend).await;
        let check = async |status: &str, whole: &str, says: &str| {
            let reply = app.administrator().get("//_status").await;
            assert_eq!(reply.status, 200, "look-ups don't need PDS: {}", reply.text);
            assert_eq!((reply.json["checks"]["pds"]["status"].as_str(), reply.json["status"].as_str()), (Some(status), Some(whole)), "{}", reply.text);
            assert!(reply.json["checks"]["pds"]["output"].as_str().is_some_and(|output| output.contains(says)), "{}", reply.text);
        };
        check("pass", "pass", "not answered yet").await;
        let robin = child(1);
        pds.knows(&robin);
        let sent = bundle("batch", &[robin.put_patient(), robin.post_flag("Z9A", CPP, "2026-10-01", None)]);
        assert_eq!(app.authority("Z9A").post("", &sent).await.file_code(), "CPF02");
        check("pass", "pass", "2026-11-23T12:00:").await;
        pds.says(&robin.number, PdsAnswer::Status(503));
        assert_eq!(app.authority("Z9A").post("", &sent).await.file_code(), "CPF05");
        check("warn", "warn", "last 4 requests failed").await;
        for _ in 0..3 {
            assert_eq!(app.authority("Z9A").post("", &sent).await.file_code(), "CPF05");
        }
        check("fail", "warn", "left alone").await;
        assert_eq!(pds.times_asked(&robin.number), 6, "it is left alone");
        let metrics = scrape(&app).await.replace("{}", "");
        for line in [
            "cpis_pds_requests_total{outcome=\"found\"} 1",
            "cpis_pds_requests_total{outcome=\"failing\"} 5",
            "cpis_pds_tokens_total{result=\"issued\"} 1",
            "cpis_pds_seconds_count 6",
            "cpis_pds_away 1.0",
            "cpis_pds_under_way 0.0",
            "cpis_pds_waiting{urgency=\"caller\"} 0.0",
        ] {
            assert!(metrics.lines().any(|shown| shown == line), "{line}: {metrics}");
        }
        app.clock.advance(TimeDelta::seconds(31));
        pds.knows(&robin);
        assert_eq!(app.authority("Z9A").post("", &sent).await.file_code(), "CPF02");
        check("pass", "pass", "It answered last").await;
        assert!(scrape(&app).await.replace("{}", "").contains("cpis_pds_away 0.0"));
    }
}
