//! Numbers traced with the national PDS FHIR API: the client and the gateway against a stand-in of it.

mod answers;
mod away;
mod logs;
mod pace;
mod tokens;

use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use cpis_gateway::{
    clock::Clock,
    cpis::types::{
        NhsNumber,
        child::{Trace, Urgency},
    },
    demographics::{Demographics, Pds, Unavailable},
    outside::pds::{PdsClient, PdsSettings, Seen, Time},
};
use futures_util::future::BoxFuture;
use secrecy::{SecretSlice, SecretString};

use crate::harness::{
    Child, noon,
    pds::{API_KEY, KID, PdsStandIn},
};

/// Time that stands while a request is under way, so that what a request is asked at is when it was sent; and else is moved
/// on by whoever sleeps.
pub struct Moved {
    pub clock: Clock,
    client: OnceLock<PdsClient>,
}

impl Moved {
    /// The first of the clock's milliseconds that is not before.
    fn at(&self, since: Duration) -> DateTime<Utc> {
        noon() + TimeDelta::from_std(since).expect("a while") + TimeDelta::nanoseconds(999_999)
    }
}

impl Time for Moved {
    fn now(&self) -> Duration {
        (self.clock.now() - noon()).to_std().expect("after noon")
    }

    fn utc(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.now() < at {
                if self.client.get().is_none_or(|client| client.state().under_way == 0) {
                    self.clock.set(self.at(at));
                } else {
                    tokio::task::yield_now().await;
                }
            }
        })
    }

    fn passed(&self, at: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.now() < at {
                tokio::task::yield_now().await;
            }
        })
    }
}

/// A source of demographics that asks a stand-in of its own, in a time of its own.
pub struct Asking {
    pub pds: PdsStandIn,
    pub time: Arc<Moved>,
    pub source: Pds,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Asking {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut PdsSettings)) -> Self {
        let pds = PdsStandIn::start().await;
        let time = Arc::new(Moved { clock: Clock::standing_at(noon()), client: OnceLock::new() });
        pds.keep_time(&time.clock);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let mut settings = settings(&pds, time.clone(), seen.clone());
        change(&mut settings);
        let source = Pds(PdsClient::new(settings).expect("the client"));
        assert!(time.client.set(source.0.clone()).is_ok());
        Self { pds, time, source, seen }
    }

    pub async fn trace(&self, numbers: &[NhsNumber]) -> Result<Vec<Trace>, Unavailable> {
        self.source.trace(numbers, Urgency::File).await
    }

    /// Traces one number.
    pub fn one(&self, child: &Child) -> impl Future<Output = Result<Trace, Unavailable>> {
        let number = child.number;
        async move { Ok(self.source.trace(&[number], Urgency::Caller).await?.remove(0)) }
    }

    /// When each request about a Patient was made, in milliseconds after noon.
    pub fn times(&self) -> Vec<i64> {
        self.pds.asked().iter().map(|asked| (asked.at - noon()).num_milliseconds()).collect()
    }
}

fn settings(pds: &PdsStandIn, time: Arc<Moved>, seen: Arc<Mutex<Vec<Seen>>>) -> PdsSettings {
    PdsSettings {
        url: pds.url(),
        token_url: pds.token_url(),
        audience: pds.token_url(),
        api_key: SecretString::from(API_KEY),
        key: SecretSlice::from(std::fs::read(pds.key_file()).expect("the key")),
        kid: KID.to_owned(),
        authorities: None,
        per_second: 5,
        concurrency: 8,
        timeout: Duration::from_secs(10),
        patience: Duration::from_secs(30),
        attempts: 4,
        breaker_failures: 5,
        breaker_pause: Duration::from_secs(30),
        zone: chrono_tz::Europe::London,
        time,
        observer: Arc::new(move |what| seen.lock().expect("no panic").push(what)),
    }
}

/// No second has more requests than PDS allows: `times` in milliseconds, in the order of the requests.
pub fn assert_pace(times: &[i64], per_second: usize) {
    for (first, window) in times.windows(per_second + 1).enumerate() {
        let took = window[per_second] - window[0];
        assert!(took > 1000, "{} requests within {took} ms, from the {first}th on", per_second + 1);
    }
}
