//! The client of the national PDS FHIR API (domain.md 6.4 and 7): who a number belongs to, by `GET /Patient/{number}` as an
//! application.
//!
//! - [`PdsClient::new`] with [`PdsSettings`]; [`PdsClient::patient`] asks about one number and waits for its [`Turn`].
//! - [`Answer`] is what PDS said, [`PdsFault`] why it said nothing that can be relied on. Neither shows a number or a name
//!   in `Debug`; a fault's text is fit for a log.
//! - [`PdsClient::state`] says how PDS has been; an [`Observer`] is told of every request.
//!
//! Numbers are asked about at a pace that PDS allows (`pace`), by whoever is most in need first (`gate`). PDS that fails
//! again and again is left alone (`breaker`). Time is injected ([`Time`]), but for how long a request may take.

mod answer;
mod body;
mod breaker;
mod fault;
mod gate;
mod pace;
#[cfg(test)]
mod tests;
mod time;
mod token;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use reqwest::{
    Certificate, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    redirect, tls,
};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use uuid::Uuid;

pub use answer::{Answer, Person};
pub use breaker::Turned;
pub use fault::{FaultKind, PdsFault};
pub use time::Time;

use self::{
    breaker::{Breaker, Outcome},
    gate::Gate,
    pace::Pace,
    token::{Credentials, Token, Tokens},
};
use super::hook::retry_after;

/// Whom faults name.
const PDS: &str = "PDS";
/// Longest time until TCP and TLS are up.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes; a Patient of PDS is some ten thousand.
const MOST_BYTES: usize = 1 << 20;
/// Pause before a number is asked about again, doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long all requests are held back after a 429 that doesn't say how long.
const HELD: Duration = Duration::from_secs(1);

/// How soon an answer is needed: requests wait in this order, the greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Nobody waits.
    Background,
    /// A file of many records.
    File,
    /// A caller waits for the answer.
    Caller,
}

impl Turn {
    pub const ALL: [Self; 3] = [Self::Background, Self::File, Self::Caller];

    /// As the metrics have it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::File => "file",
            Self::Caller => "caller",
        }
    }
}

/// What happened, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A request about a number ended: the code of its [`Answer`] or [`FaultKind`], and how long it took.
    Asked { outcome: &'static str, took: Duration },
    /// A token was asked for.
    Token { issued: bool },
    /// PDS counts as away, or is back.
    Turned(Turned),
}

/// Is told what happens; must not block.
pub type Observer = Arc<dyn Fn(Seen) + Send + Sync>;

/// How PDS has been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PdsState {
    /// It is left alone, or tried by one request.
    pub away: bool,
    /// Requests that failed in a row.
    pub failures: u32,
    /// When it last answered.
    pub last_answer: Option<DateTime<Utc>>,
    /// Why it failed since then, in words fit for a log.
    pub last_fault: Option<String>,
    pub under_way: usize,
    /// Requests that wait for their turn, in the order of [`Turn::ALL`].
    pub waiting: [usize; 3],
}

/// Which PDS, as whom, and how much of it.
pub struct PdsSettings {
    /// FHIR base, without a last slash.
    pub url: String,
    pub token_url: String,
    /// The `aud` of what is sent to `token_url`.
    pub audience: String,
    pub api_key: SecretString,
    /// The application's private RSA key in PEM, and the id under which the public one is registered.
    pub key: SecretSlice<u8>,
    pub kid: String,
    /// CA certificates in PEM that PDS's own is judged by; the machine's when absent.
    pub authorities: Option<Vec<u8>>,
    /// Most requests in any second, those tried again among them.
    pub per_second: u32,
    /// Most requests under way.
    pub concurrency: usize,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long a number is asked about: from the question if a caller waits, else from its first failure.
    pub patience: Duration,
    /// Requests about one number.
    pub attempts: u32,
    /// Requests in a row that must fail for PDS to count as away, and how long it then is left alone.
    pub breaker_failures: u32,
    pub breaker_pause: Duration,
    /// Zone of the civil date that a usual name must hold at.
    pub zone: Tz,
    pub time: Arc<dyn Time>,
    pub observer: Observer,
}

/// The client. Cheap to clone; clones share pace, breaker, token and connections.
#[derive(Clone)]
pub struct PdsClient(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    base: Url,
    gate: Gate,
    tokens: Tokens,
    time: Arc<dyn Time>,
    observer: Observer,
    zone: Tz,
    patience: Duration,
    attempts: u32,
    concurrency: usize,
}

impl std::fmt::Debug for PdsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PdsClient(..)")
    }
}

impl PdsClient {
    /// # Errors
    /// [`FaultKind::Settings`] when a URL, the key or the certificates can't be used.
    pub fn new(settings: PdsSettings) -> Result<Self, PdsFault> {
        let unusable = |text: &str| PdsFault::new(FaultKind::Settings, text);
        let url = |text: &str, name: &str| {
            let url = Url::parse(text).ok().filter(|url| !url.cannot_be_a_base());
            url.ok_or_else(|| unusable(&format!("{name} is not a URL")))
        };
        let (base, token_url) = (url(&settings.url, "pds.url")?, url(&settings.token_url, "pds.token_url")?);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("cpis-gateway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT.min(settings.timeout))
            .timeout(settings.timeout)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .tls_version_min(tls::Version::TLS_1_2);
        if let Some(authorities) = &settings.authorities {
            let authorities = Certificate::from_pem_bundle(authorities)
                .map_err(|_| unusable("the CA certificates in pds.authorities can't be read: give them in PEM"))?;
            builder = builder.tls_certs_only(authorities);
        }
        let client = builder.build().map_err(|_| unusable("TLS can't be set up: check pds.authorities"))?;
        let credentials = Credentials {
            url: token_url,
            audience: settings.audience,
            api_key: settings.api_key,
            kid: settings.kid,
            key: Credentials::key(settings.key.expose_secret())?,
        };
        let (time, observer) = (settings.time, settings.observer);
        let breaker = Breaker::new(settings.breaker_failures, settings.breaker_pause);
        let pace = Pace::new(settings.per_second);
        Ok(Self(Arc::new(Inner {
            gate: Gate::new(time.clone(), observer.clone(), pace, breaker, settings.concurrency),
            tokens: Tokens::new(client.clone(), credentials, time.clone(), observer.clone()),
            client,
            base,
            time,
            observer,
            zone: settings.zone,
            patience: settings.patience,
            attempts: settings.attempts.max(1),
            concurrency: settings.concurrency.max(1),
        })))
    }

    /// How many numbers may be asked about at the same time with any use.
    pub fn concurrency(&self) -> usize {
        self.0.concurrency
    }

    /// How PDS has been.
    pub fn state(&self) -> PdsState {
        self.0.gate.state()
    }

    /// Asks about a number of ten digits, as often as it takes and is allowed. Whoever stops waiting asks no more.
    ///
    /// # Errors
    /// [`PdsFault`]: of the last request, or that PDS is left alone.
    pub async fn patient(&self, number: &str, turn: Turn) -> Result<Answer, PdsFault> {
        let request_id = Uuid::new_v4();
        let asked = self.0.ask_again(number, request_id, turn);
        let answer = if turn == Turn::Caller {
            tokio::select! {
                biased;
                answer = asked => answer,
                () = self.0.time.passed(self.0.time.now() + self.0.patience) => {
                    Err(PdsFault::new(FaultKind::Late, "PDS did not answer within pds.patience_seconds"))
                }
            }
        } else {
            asked.await
        };
        answer.map_err(|fault| PdsFault { request_id: Some(request_id), ..fault })
    }
}

impl Inner {
    async fn ask_again(&self, number: &str, request_id: Uuid, turn: Turn) -> Result<Answer, PdsFault> {
        let mut deadline = (turn == Turn::Caller).then(|| self.time.now() + self.patience);
        let (mut attempt, mut renewed) = (1, false);
        loop {
            let (fault, token) = match self.ask_in_turn(number, request_id, turn, renewed).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if let (Some(401), Some(token), false) = (fault.status, token, renewed) {
                // It may have been taken back, or ended early: once, with another.
                self.tokens.forget(&token);
                renewed = true;
                continue;
            }
            let now = self.time.now();
            let asked_for = fault.retry_after.unwrap_or_default().min(self.patience);
            let again_at = now + pause(attempt, request_id).max(asked_for);
            let deadline = *deadline.get_or_insert(now + self.patience);
            if !fault.is_passing() || attempt >= self.attempts || again_at > deadline {
                return Err(fault);
            }
            attempt += 1;
            self.time.sleep_until(again_at).await;
        }
    }

    /// One request, when its turn has come; with a fault, the token that was used.
    async fn ask_in_turn(
        &self,
        number: &str,
        request_id: Uuid,
        turn: Turn,
        renewed: bool,
    ) -> Result<Answer, (PdsFault, Option<Token>)> {
        let alone = |fault| (fault, None);
        loop {
            self.gate.check().map_err(alone)?;
            let token = self.tokens.get().await.map_err(|fault| {
                self.gate.failed(&fault);
                (fault, None)
            })?;
            let permit = self.gate.turn(turn).await.map_err(alone)?;
            if !token.is_fresh(self.time.now()) {
                // It ended while this waited. A new one takes its time, and a request goes out at its turn or not at all.
                continue;
            }
            let started = Instant::now();
            let asked = self.ask_once(number, request_id, &token).await;
            let outcome = asked.as_ref().map_or_else(|fault| fault.kind.code(), Answer::code);
            (self.observer)(Seen::Asked { outcome, took: started.elapsed() });
            match &asked {
                Ok(_) => permit.settle(Outcome::Good),
                Err(fault) if fault.status == Some(401) && !renewed => permit.settle(Outcome::Open),
                Err(fault) => {
                    if fault.kind == FaultKind::Busy {
                        let held = fault.retry_after.map_or(HELD, |asked_for| asked_for.min(self.patience));
                        self.gate.hold(self.time.now() + held);
                    }
                    self.gate.note(fault);
                    permit.settle(fault.kind.outcome());
                }
            }
            return asked.map_err(|fault| (fault, Some(token)));
        }
    }

    async fn ask_once(&self, number: &str, request_id: Uuid, token: &Token) -> Result<Answer, PdsFault> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["Patient", number]);
        }
        let request = self
            .client
            .get(url)
            .header(AUTHORIZATION, token.header.clone())
            .header(ACCEPT, "application/fhir+json")
            // The same at each try: PDS knows by it that it is the same request (domain.md 6.4).
            .header("X-Request-ID", request_id.to_string());
        let response = request.send().await.map_err(|error| PdsFault::of_transport(&error, PDS))?;
        let status = response.status().as_u16();
        if !matches!(status, 200 | 400 | 404) {
            let retry_after = retry_after(response.headers(), self.time.utc());
            return Err(PdsFault { retry_after, ..PdsFault::of_status(status, PDS) });
        }
        let is_fhir = is_fhir(&response);
        let body = body::read(response, MOST_BYTES, PDS).await?;
        if status == 200 {
            if !is_fhir {
                return Err(PdsFault::unreadable("it is not FHIR in JSON"));
            }
            let today = self.time.utc().with_timezone(&self.zone).date_naive();
            return answer::patient(&body, number, today);
        }
        let said = if is_fhir { answer::refusal(status, &body)? } else { None };
        // Of another making: a proxy's page is no word about a number.
        said.ok_or_else(|| PdsFault {
            status: Some(status),
            ..PdsFault::new(FaultKind::Refused, format!("PDS answered {status} without a code that says why"))
        })
    }
}

/// Whether an answer says that it is FHIR in JSON.
fn is_fhir(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/fhir+json", "application/json"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// How long to wait after the `failed`th request about a number: doubled each time, and a half to the whole of it, so that
/// requests that failed together don't come back together.
fn pause(failed: u32, request_id: Uuid) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    let dice = request_id.as_bytes()[usize::try_from(failed).unwrap_or_default() % 6];
    whole / 2 + whole.mul_f64(f64::from(dice) / 510.0)
}
