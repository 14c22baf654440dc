//! The application's access token: asked for with a signed assertion (`private_key_jwt`, RS512), kept until shortly before its
//! end, and asked for once however many wait for it (domain.md 6.4, application-restricted).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::{
    error::ErrorStack,
    hash::MessageDigest,
    pkey::{PKey, Private},
    sign::Signer,
};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{FaultKind, Observer, PdsFault, Seen, body, time::Time};

/// Whom faults name.
const ISSUER: &str = "the issuer of PDS's tokens";
/// Seconds that an assertion is good for. PDS allows 300; the rest is for a clock of ours that is ahead of PDS's.
const ASSERTION_SECONDS: i64 = 270;
/// A token is not used in its last seconds: it could end under way.
const MARGIN: Duration = Duration::from_secs(60);
/// Largest answer that is read, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// A token that is good for less can't be used, in seconds.
const SHORTEST: u64 = 10;
/// One that says it is good for longer is renewed after this all the same, in seconds.
const LONGEST: u64 = 24 * 3600;
/// Smallest RSA key, in bits.
const SMALLEST_KEY: u32 = 2048;

/// A token, as the header that it is sent in.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// Not to be used from then on.
    until: Duration,
}

impl Token {
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        now < self.until
    }
}

/// Who asks, and with which key.
pub(super) struct Credentials {
    pub(super) url: Url,
    pub(super) audience: String,
    pub(super) api_key: SecretString,
    pub(super) kid: String,
    pub(super) key: PKey<Private>,
}

impl Credentials {
    /// # Errors
    /// [`FaultKind::Settings`] when the PEM is no private RSA key of at least 2048 bits.
    pub(super) fn key(pem: &[u8]) -> Result<PKey<Private>, PdsFault> {
        let key = PKey::private_key_from_pem_callback(pem, |_| Ok(0)).ok();
        key.filter(|key| key.rsa().is_ok() && key.bits() >= SMALLEST_KEY).ok_or_else(|| {
            PdsFault::new(
                FaultKind::Settings,
                "pds.key_file must be a private RSA key in PEM, of at least 2048 bits and without a password",
            )
        })
    }

    fn assertion(&self, now: i64) -> Result<String, ErrorStack> {
        let api_key = self.api_key.expose_secret();
        let header = json!({"alg": "RS512", "typ": "JWT", "kid": self.kid});
        let claims = json!({
            "iss": api_key, "sub": api_key, "aud": self.audience, "jti": Uuid::new_v4(), "exp": now + ASSERTION_SECONDS,
        });
        let part = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signer = Signer::new(MessageDigest::sha512(), &self.key)?;
        let signature = signer.sign_oneshot_to_vec(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The answer to a request for a token.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    token_type: String,
    expires_in: Seconds,
}

/// PDS writes numbers as texts here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    fn get(&self) -> Option<u64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// The token in use.
pub(super) struct Tokens {
    client: reqwest::Client,
    credentials: Credentials,
    time: Arc<dyn Time>,
    observer: Observer,
    cached: Mutex<Option<Token>>,
    /// How many requests for a token have ended.
    ended: AtomicU64,
    /// Held by who asks; the newest failure, and which request it was.
    asking: tokio::sync::Mutex<Option<(u64, PdsFault)>>,
}

impl Tokens {
    pub(super) fn new(
        client: reqwest::Client,
        credentials: Credentials,
        time: Arc<dyn Time>,
        observer: Observer,
    ) -> Self {
        Self {
            client,
            credentials,
            time,
            observer,
            cached: Mutex::new(None),
            ended: AtomicU64::new(0),
            asking: tokio::sync::Mutex::new(None),
        }
    }

    fn cached(&self) -> Option<Token> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.clone().filter(|token| token.is_fresh(self.time.now()))
    }

    /// The token, asked for if there is none.
    ///
    /// # Errors
    /// [`PdsFault`]; all who waited for the same request get the same.
    pub(super) async fn get(&self) -> Result<Token, PdsFault> {
        if let Some(token) = self.cached() {
            return Ok(token);
        }
        let ended_before = self.ended.load(Ordering::SeqCst);
        let mut last_failure = self.asking.lock().await;
        if let Some(token) = self.cached() {
            return Ok(token);
        }
        if let Some((number, fault)) = last_failure.as_ref()
            && *number > ended_before
        {
            return Err(fault.clone());
        }
        let asked = self.ask().await;
        (self.observer)(Seen::Token { issued: asked.is_ok() });
        let number = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        match asked {
            Ok(token) => {
                *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                Ok(token)
            }
            Err(fault) => {
                *last_failure = Some((number, fault.clone()));
                Err(fault)
            }
        }
    }

    /// PDS refused this token: it is not used again.
    pub(super) fn forget(&self, token: &Token) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have been asked for since.
        if cached.as_ref().is_some_and(|cached| cached.header == token.header) {
            *cached = None;
        }
    }

    async fn ask(&self) -> Result<Token, PdsFault> {
        let asked_at = self.time.now();
        let assertion = self.credentials.assertion(self.time.utc().timestamp());
        let assertion =
            assertion.map_err(|_| PdsFault::new(FaultKind::Settings, "the request for a token could not be signed"))?;
        // All of it is letters, digits and what needs no encoding but colons.
        let form = format!(
            "grant_type=client_credentials\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion={assertion}"
        );
        let request = self.client.post(self.credentials.url.clone());
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let response = request.send().await.map_err(|error| PdsFault::of_transport(&error, ISSUER))?;
        let status = response.status();
        if !status.is_success() {
            return Err(PdsFault::of_status(status.as_u16(), ISSUER));
        }
        let body = body::read(response, MOST_BYTES, ISSUER).await?;
        // serde's own text would quote the answer.
        let issued: Issued = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let seconds = issued.expires_in.get().filter(|seconds| *seconds >= SHORTEST).ok_or_else(unusable)?;
        let token = issued.access_token.as_str();
        if !issued.token_type.eq_ignore_ascii_case("Bearer") || token.is_empty() {
            return Err(unusable());
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| unusable())?;
        header.set_sensitive(true);
        let life = Duration::from_secs(seconds.min(LONGEST));
        Ok(Token { header, until: asked_at + life - MARGIN.min(life / 2) })
    }
}

fn unusable() -> PdsFault {
    PdsFault::new(FaultKind::Unreadable, "what the issuer of PDS's tokens answered is no token that can be used")
}
