//! How fast PDS is asked, and about whom first.

use chrono::TimeDelta;
use cpis_gateway::{
    cpis::types::{
        NhsNumber,
        child::{Trace, Urgency},
    },
    demographics::Demographics,
};

use super::{Asking, assert_pace};
use crate::harness::{child, noon, number, pds::PdsAnswer};

/// The measure: all of them over real HTTP, at the permitted rate and never above it in any second, those that are
/// tried again among them; tokens renewed on the way.
#[actix_web::test]
async fn ten_thousand_numbers_are_traced_at_the_permitted_rate() {
    const NUMBERS: usize = 10_000;
    let asking = Asking::start().await;
    let numbers: Vec<NhsNumber> = (0..).take(NUMBERS).map(number).collect();
    let mut again = 0;
    for (index, number) in numbers.iter().enumerate() {
        let last = if index % 3 == 0 { PdsAnswer::Invalidated } else { PdsAnswer::Unknown };
        let failed = match index % 1000 {
            100 => vec![PdsAnswer::TooMany(None), PdsAnswer::TooMany(Some(2))],
            300 => vec![PdsAnswer::Status(503)],
            500 => vec![PdsAnswer::Broken],
            700 => vec![PdsAnswer::Denied],
            _ => Vec::new(),
        };
        again += failed.len();
        asking.pds.says_in_turn(number, failed.into_iter().chain([last]));
    }
    let traces = asking.trace(&numbers).await.expect("all are answered");
    for (index, trace) in traces.iter().enumerate() {
        let expected = if index % 3 == 0 { Trace::Invalid } else { Trace::Unknown };
        assert_eq!(*trace, expected, "{index}");
    }
    let times = asking.times();
    assert_eq!(times.len(), NUMBERS + again);
    assert_pace(&times, 5);
    let took = asking.time.clock.now() - noon();
    let least = TimeDelta::seconds(i64::try_from(times.len() / 5).expect("a number"));
    assert!(took >= least - TimeDelta::seconds(1), "{took}");
    // The margin of each second, and what PDS asked to be left alone for.
    assert!(took <= least + TimeDelta::seconds(60), "the permitted rate is used: {took}");
    assert!((4..30).contains(&asking.pds.token_requests()), "{}", asking.pds.token_requests());
}

#[actix_web::test]
async fn callers_overtake_files_and_files_what_nobody_waits_for() {
    let asking = Asking::start_with(|settings| settings.per_second = 1).await;
    // So that there is a token, and the next has to wait for its second.
    assert!(asking.one(&child(0)).await.is_ok());
    let of = |from: u32, many: u32| (from..from + many).map(number).collect::<Vec<NhsNumber>>();
    let (background, file, caller) = (of(100, 10), of(200, 20), of(300, 3));
    let traced = futures_util::future::join3(
        asking.source.trace(&background, Urgency::Background),
        asking.source.trace(&file, Urgency::File),
        asking.source.trace(&caller, Urgency::Caller),
    );
    let (one, two, three) = traced.await;
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    let asked: Vec<String> = asking.pds.asked().into_iter().skip(1).map(|asked| asked.number).collect();
    let is_of =
        |asked: &[String], numbers: &[NhsNumber]| asked.iter().all(|one| numbers.iter().any(|n| n.as_str() == one));
    // The first came before the others had asked.
    assert!(is_of(&asked[..1], &background), "{asked:?}");
    assert!(is_of(&asked[1..4], &caller), "{asked:?}");
    assert!(is_of(&asked[4..24], &file), "{asked:?}");
    assert!(is_of(&asked[24..], &background), "{asked:?}");
    assert_pace(&asking.times(), 1);
}

#[actix_web::test]
async fn a_number_that_is_given_twice_is_asked_about_once_and_answers_keep_their_order() {
    let asking = Asking::start().await;
    let (one, two, three) = (number(1), number(2), number(3));
    asking.pds.says(&one, PdsAnswer::Invalidated);
    asking.pds.says(&two, PdsAnswer::Superseded(three));
    asking.pds.says(&three, PdsAnswer::Restricted);
    let traced = asking.trace(&[three, one, two, one, three]).await.unwrap();
    let expected = [Trace::Restricted, Trace::Invalid, Trace::Superseded(three), Trace::Invalid, Trace::Restricted];
    assert_eq!(traced, expected);
    assert_eq!(asking.pds.asked().len(), 3);
    assert_eq!(asking.trace(&[]).await, Ok(Vec::new()));
}
