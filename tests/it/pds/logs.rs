//! Nothing personal, no key and no token in what is logged, at any level and of any library.

use std::{
    io,
    sync::{Arc, Mutex},
};

use cpis_gateway::{demographics::pds_observer, outside::pds::PdsSettings, telemetry::metrics::Metrics};
use tracing_subscriber::fmt::MakeWriter;

use super::Asking;
use crate::harness::{
    child, number,
    pds::{API_KEY, PdsAnswer},
};

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[actix_web::test]
async fn nothing_personal_and_no_secret_is_logged() {
    let kept = Kept::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(kept.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let change = |settings: &mut PdsSettings| {
        settings.attempts = 2;
        // As many as fail below.
        settings.breaker_failures = 11;
        settings.observer = pds_observer(Metrics::default());
    };
    let asking = Asking::start_with(change).await;
    let robin = child(1);
    let mut tokens = 0;
    for answer in [
        PdsAnswer::Superseded(number(2)),
        PdsAnswer::Restricted,
        PdsAnswer::Unknown,
        PdsAnswer::Denied,
        PdsAnswer::Status(503),
        PdsAnswer::Status(404),
        PdsAnswer::Malformed,
        PdsAnswer::Truncated,
        PdsAnswer::Broken,
        PdsAnswer::WrongType,
        PdsAnswer::ForAnother(number(2)),
        PdsAnswer::Superseded(number(2)),
    ] {
        asking.pds.says(&robin.number, answer.clone());
        // What another test's thread logs first, tracing takes for not wanted by anybody.
        tracing::callsite::rebuild_interest_cache();
        let shown = format!("{:?}", asking.one(&robin).await);
        assert!(!shown.contains("999"), "{answer:?}: {shown}");
        tokens = tokens.max(asking.pds.token_requests());
    }
    // PDS is tried again; where nobody listens; without a token.
    asking.time.clock.advance(chrono::TimeDelta::seconds(40));
    asking.pds.says(&robin.number, PdsAnswer::Unknown);
    assert!(asking.one(&robin).await.is_ok());
    let client = asking.source.0.clone();
    let nobody = Asking::start_with(|settings| settings.url = "http://127.0.0.1:1/FHIR/R4".to_owned()).await;
    assert!(nobody.one(&robin).await.is_err());
    asking.pds.refuses_tokens([400; 5]);
    asking.pds.revokes_tokens();
    assert!(asking.one(&robin).await.is_err());
    drop(guard);
    let logged = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("a number could not be traced") && logged.contains("pds-away"), "{logged}");
    for text in [robin.nhs(), number(2).as_str(), "Hidden", "Secret", "2011-01-07", API_KEY, "eyJ", "Bearer "] {
        assert!(!logged.contains(text), "{text}: {logged}");
    }
    for token in asking.pds.tokens_issued() {
        assert!(!logged.contains(&token), "a token: {logged}");
    }
    assert!(!format!("{client:?}").contains(API_KEY) && tokens > 1);
}
