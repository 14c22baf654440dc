//! The access token: asked for once, kept until shortly before its end, renewed when PDS refuses it.

use chrono::TimeDelta;
use cpis_gateway::{cpis::types::child::Trace, outside::pds::Seen};
use secrecy::{SecretSlice, SecretString};

use super::Asking;
use crate::harness::{child, number, pds::PdsAnswer};

/// Requests about numbers; one is checked as strictly as PDS does, so that a wrong assertion fails every test here.
fn asked_about(asking: &Asking) -> usize {
    asking.pds.asked().len()
}

#[actix_web::test]
async fn many_who_wait_ask_for_one_token() {
    let asking = Asking::start().await;
    let children: Vec<_> = (1..=30).map(child).collect();
    let all = futures_util::future::join_all(children.iter().map(|child| asking.one(child))).await;
    assert!(all.iter().all(|trace| *trace == Ok(Trace::Unknown)));
    assert_eq!((asking.pds.token_requests(), asked_about(&asking)), (1, 30));
}

#[actix_web::test]
async fn many_who_wait_share_a_failure_too() {
    let asking = Asking::start_with(|settings| settings.attempts = 1).await;
    asking.pds.refuses_tokens([401]);
    let children: Vec<_> = (1..=30).map(child).collect();
    let all = futures_util::future::join_all(children.iter().map(|child| asking.one(child))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!((asking.pds.token_requests(), asked_about(&asking)), (1, 0));
    assert!(asking.seen.lock().unwrap().contains(&Seen::Token { issued: false }));
}

#[actix_web::test]
async fn a_token_is_renewed_before_it_ends() {
    let asking = Asking::start().await;
    let robin = child(1);
    assert!(asking.one(&robin).await.is_ok());
    asking.time.clock.advance(TimeDelta::seconds(530));
    assert!(asking.one(&robin).await.is_ok());
    assert_eq!(asking.pds.token_requests(), 1);
    asking.time.clock.advance(TimeDelta::seconds(10));
    assert!(asking.one(&robin).await.is_ok());
    assert_eq!((asking.pds.token_requests(), asked_about(&asking)), (2, 3), "PDS has not refused the old one");
}

#[actix_web::test]
async fn a_token_that_pds_refuses_is_renewed_once() {
    let asking = Asking::start_with(|settings| settings.attempts = 1).await;
    let robin = child(1);
    assert!(asking.one(&robin).await.is_ok());
    asking.pds.revokes_tokens();
    assert_eq!(asking.one(&robin).await, Ok(Trace::Unknown));
    assert_eq!((asking.pds.token_requests(), asked_about(&asking)), (2, 2));
    asking.pds.says(&robin.number, PdsAnswer::Denied);
    assert!(asking.one(&robin).await.is_err());
    assert_eq!((asking.pds.token_requests(), asked_about(&asking)), (3, 4), "and no third time");
}

#[actix_web::test]
async fn a_token_endpoint_that_is_away_is_tried_again_and_then_left_alone() {
    let asking = Asking::start().await;
    let robin = child(1);
    asking.pds.refuses_tokens([503, 503]);
    assert_eq!(asking.one(&robin).await, Ok(Trace::Unknown));
    assert_eq!(asking.pds.token_requests(), 3);
    asking.pds.revokes_tokens();
    asking.pds.refuses_tokens([503; 100]);
    for _ in 0..10 {
        assert!(asking.one(&robin).await.is_err());
    }
    assert_eq!(asking.pds.token_requests(), 8, "after five failures in a row");
    asking.time.clock.advance(TimeDelta::seconds(31));
    for _ in 0..10 {
        assert!(asking.one(&robin).await.is_err());
    }
    assert_eq!(asking.pds.token_requests(), 9);
}

#[actix_web::test]
async fn credentials_that_are_not_registered_get_no_token_and_ask_about_nobody() {
    let key = openssl::rsa::Rsa::generate(2048).unwrap();
    let other_key = openssl::pkey::PKey::from_rsa(key).unwrap().private_key_to_pem_pkcs8().unwrap();
    type Change = Box<dyn FnOnce(&mut cpis_gateway::outside::pds::PdsSettings)>;
    let changes: [Change; 4] = [
        Box::new(|settings| settings.kid = "other".to_owned()),
        Box::new(|settings| settings.api_key = SecretString::from("other")),
        Box::new(|settings| settings.audience = "https://example.org/token".to_owned()),
        Box::new(|settings| settings.key = SecretSlice::from(other_key)),
    ];
    for change in changes {
        let asking = Asking::start_with(change).await;
        assert!(asking.trace(&[number(1)]).await.is_err());
        assert_eq!((asking.pds.token_requests(), asked_about(&asking)), (1, 0));
    }
}
