//! The national PDS FHIR API for the tests: a server on loopback, written from its documented answers (domain.md 6.4 and 7,
//! examples.md 9 and 10), that checks what it is asked as strictly as PDS does and answers about each number as it is told.
//!
//! A number that it was told nothing of is unknown (404 `RESOURCE_NOT_FOUND`).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    net::TcpListener,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use actix_web::{
    App as Web, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer,
    body::SizedStream,
    dev::ServerHandle,
    http::StatusCode,
    web::{self, Bytes, Data},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use cpis_gateway::{
    clock::Clock,
    config::{PdsMode, PdsSettings, Secret, Settings},
    cpis::types::NhsNumber,
};
use futures_util::stream;
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private, Public},
    rsa::Rsa,
    sign::Verifier,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Backend, Child, TestApp, noon};

/// The API key that the stand-in knows, and the id of the key that it has registered for it.
pub const API_KEY: &str = "test-api-key";
pub const KID: &str = "test-1";
/// Seconds that a token of its is good for, as PDS's are.
pub const TOKEN_SECONDS: i64 = 599;
/// Where the API is below the server's root.
const BASE: &str = "/personal-demographics/FHIR/R4";

/// The key pair of the tests, made once.
static KEY: LazyLock<PKey<Private>> =
    LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key"));

/// What is answered about a number.
#[derive(Clone, Debug)]
pub enum PdsAnswer {
    /// 200 with this Patient ([`patient`] makes one).
    Found(Value),
    /// 200 with a Patient without name and birth date.
    Minimal,
    /// 200 with the Patient that the number was replaced by.
    Superseded(NhsNumber),
    /// 200 with a Patient marked `R`: no address, phone or practice in it.
    Restricted,
    /// 200 with a Patient marked `V`.
    VeryRestricted,
    /// 404 `INVALIDATED_RESOURCE`.
    Invalidated,
    /// 404 `RESOURCE_NOT_FOUND`.
    Unknown,
    /// 400 `INVALID_RESOURCE_ID`.
    InvalidId,
    /// 401 `ACCESS_DENIED`, whatever the token.
    Denied,
    /// 408 `UNABLE_TO_CALL_SERVICE`.
    TimedOut,
    /// 429 `TOO_MANY_REQUESTS`, with `Retry-After` in seconds.
    TooMany(Option<u32>),
    /// This status with an HTML page, as a proxy sends it.
    Status(u16),
    /// 200 with this text as FHIR JSON.
    Text(String),
    /// 200 and half of a Patient, as valid HTTP.
    Malformed,
    /// 200 and a body that ends before its `Content-Length`.
    Truncated,
    /// 200 with a Patient as `text/html`.
    WrongType,
    /// 200 with a Patient of 4 MB.
    Oversize,
    /// The connection breaks before there is an answer.
    Broken,
    /// Never answered.
    Slow,
    /// 200 with a Patient whose id is the number asked for and whose identifier is this one.
    ForAnother(NhsNumber),
}

/// One request for a Patient that was made with a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub number: String,
    /// By the stand-in's clock: the app's in [`TestApp::start_with_pds`].
    pub at: DateTime<Utc>,
    pub request_id: String,
}

/// The stand-in. Its server stops when it is dropped.
pub struct PdsStandIn {
    inner: Data<Inner>,
    root: String,
    server: ServerHandle,
    /// The private key as a file.
    folder: TempDir,
}

struct Inner {
    audience: String,
    public: PKey<Public>,
    clock: Mutex<Clock>,
    answers: Mutex<HashMap<String, VecDeque<PdsAnswer>>>,
    asked: Mutex<Vec<Asked>>,
    /// Tokens issued, with when each ends.
    tokens: Mutex<HashMap<String, DateTime<Utc>>>,
    jtis: Mutex<HashSet<String>>,
    /// Statuses of the next answers of the token endpoint, instead of tokens.
    no_tokens: Mutex<VecDeque<u16>>,
    /// Every request for a token.
    token_requests: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for PdsStandIn {
    fn drop(&mut self) {
        // Not awaited: the runtime of the test ends with it.
        drop(self.server.stop(false));
    }
}

impl PdsStandIn {
    /// A stand-in whose clock stands at [`noon`] until it is given another.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let root = format!("http://{}", listener.local_addr().expect("an address"));
        let public = PKey::public_key_from_pem(&KEY.public_key_to_pem().expect("PEM")).expect("a public key");
        let inner = Data::new(Inner {
            audience: format!("{root}/oauth2/token"),
            public,
            clock: Mutex::new(Clock::standing_at(noon())),
            answers: Mutex::default(),
            asked: Mutex::default(),
            tokens: Mutex::default(),
            jtis: Mutex::default(),
            no_tokens: Mutex::default(),
            token_requests: Mutex::default(),
        });
        let served = inner.clone();
        let server = HttpServer::new(move || {
            Web::new()
                .app_data(served.clone())
                .route("/oauth2/token", web::post().to(token))
                .route(&format!("{BASE}/Patient/{{number}}"), web::get().to(read))
        });
        let server = server.workers(1).listen(listener).expect("a server").disable_signals().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let folder = TempDir::new().expect("a temporary directory");
        std::fs::write(folder.path().join("key.pem"), KEY.private_key_to_pem_pkcs8().expect("PEM")).expect("a file");
        Self { inner, root, server: handle, folder }
    }

    /// The base of its FHIR API, without a last slash.
    pub fn url(&self) -> String {
        format!("{}{BASE}", self.root)
    }

    pub fn token_url(&self) -> String {
        self.inner.audience.clone()
    }

    /// The private key whose public side it has registered, in PEM.
    pub fn key_file(&self) -> std::path::PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Settings of a gateway that asks it.
    pub fn settings(&self) -> PdsSettings {
        PdsSettings {
            mode: PdsMode::Fhir,
            url: Some(self.url()),
            token_url: Some(self.token_url()),
            api_key: Some(Secret::new(API_KEY)),
            key_file: Some(self.key_file()),
            kid: Some(KID.to_owned()),
            ..PdsSettings::default()
        }
    }

    /// From now on it goes by this clock.
    pub fn keep_time(&self, clock: &Clock) {
        *lock(&self.inner.clock) = clock.clone();
    }

    /// What is answered about a number from now on.
    pub fn says(&self, number: &NhsNumber, answer: PdsAnswer) {
        self.says_in_turn(number, [answer]);
    }

    /// What is answered about a number, one after the other; the last from then on.
    pub fn says_in_turn(&self, number: &NhsNumber, answers: impl IntoIterator<Item = PdsAnswer>) {
        lock(&self.inner.answers).insert(number.as_str().to_owned(), answers.into_iter().collect());
    }

    /// That this child has its number, and is who it is.
    pub fn knows(&self, child: &Child) {
        self.says(&child.number, PdsAnswer::Found(patient(child)));
    }

    /// The next requests for a token get these statuses.
    pub fn refuses_tokens(&self, statuses: impl IntoIterator<Item = u16>) {
        lock(&self.inner.no_tokens).extend(statuses);
    }

    /// No token that it issued is good any more.
    pub fn revokes_tokens(&self) {
        lock(&self.inner.tokens).clear();
    }

    /// The tokens that it issued and has not revoked.
    pub fn tokens_issued(&self) -> Vec<String> {
        lock(&self.inner.tokens).keys().cloned().collect()
    }

    /// Every request for a Patient that came with a good token, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.inner.asked).clone()
    }

    /// How often it was asked about a number.
    pub fn times_asked(&self, number: &NhsNumber) -> usize {
        lock(&self.inner.asked).iter().filter(|asked| asked.number == number.as_str()).count()
    }

    /// How often a token was asked for, with or without success.
    pub fn token_requests(&self) -> usize {
        *lock(&self.inner.token_requests)
    }
}

impl TestApp {
    /// A gateway that asks a PDS of its own (`pds.mode = "fhir"`), which goes by the app's clock.
    pub async fn start_with_pds(backend: Backend) -> (Self, PdsStandIn) {
        Self::start_with_pds_and(backend, |_| {}).await
    }

    /// [`TestApp::start_with_pds`] with other settings.
    pub async fn start_with_pds_and(backend: Backend, change: impl FnOnce(&mut Settings)) -> (Self, PdsStandIn) {
        let pds = PdsStandIn::start().await;
        let app = Self::start_with(backend, |settings| {
            settings.pds = pds.settings();
            change(settings);
        });
        let app = app.await;
        pds.keep_time(&app.clock);
        (app, pds)
    }
}

/// The Patient of a child as PDS has it.
pub fn patient(child: &Child) -> Value {
    let mut patient = minimal(child.nhs(), "U");
    patient["name"] = json!([{
        "id": "123", "use": "usual", "period": {"start": "2017-05-11"}, "family": child.family, "given": [child.given],
    }]);
    patient["gender"] = json!("unknown");
    patient["birthDate"] = json!(child.birth_date);
    patient["address"] = json!([{"use": "home", "line": ["1 Example Street"], "postalCode": "ZZ99 3WZ"}]);
    patient
}

fn minimal(number: &str, confidentiality: &str) -> Value {
    let display = match confidentiality {
        "U" => "unrestricted",
        "R" => "restricted",
        _ => "very restricted",
    };
    json!({
        "resourceType": "Patient",
        "id": number,
        "meta": {"versionId": "2", "security": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": confidentiality, "display": display,
        }]},
        "identifier": [{
            "system": "https://fhir.nhs.uk/Id/nhs-number",
            "value": number,
            "extension": [{
                "url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
                "valueCodeableConcept": {"coding": [{
                    "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus",
                    "version": "1.0.0", "code": "01", "display": "Number present and verified",
                }]},
            }],
        }],
    })
}

/// A Patient with a name that no test may ever find outside.
fn secret(number: &str, confidentiality: &str) -> Value {
    let mut patient = minimal(number, confidentiality);
    patient["name"] = json!([{"use": "usual", "family": "Hidden", "given": ["Secret"]}]);
    patient["birthDate"] = json!("2011-01-07");
    patient
}

fn outcome(severity: &str, issue: &str, code: &str, display: &str) -> Value {
    json!({
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": issue, "details": {"coding": [{
            "system": "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode", "version": "1",
            "code": code, "display": display,
        }]}}],
    })
}

fn fhir(mut response: HttpResponseBuilder, body: &Value) -> HttpResponse {
    response.content_type("application/fhir+json").body(body.to_string())
}

fn denied(diagnostics: &str) -> HttpResponse {
    let mut body = outcome("error", "forbidden", "ACCESS_DENIED", "Access Denied - Unauthorised");
    body["issue"][0]["diagnostics"] = json!(diagnostics);
    fhir(HttpResponse::Unauthorized(), &body)
}

/// `GET /Patient/{number}`.
async fn read(request: HttpRequest, number: web::Path<String>, inner: Data<Inner>) -> HttpResponse {
    let number = number.into_inner();
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now = lock(&inner.clock).now();
    let Some(token) = header("Authorization").strip_prefix("Bearer ") else {
        return denied("Missing Authorization header");
    };
    if lock(&inner.tokens).get(token).is_none_or(|ends| now >= *ends) {
        return denied("Invalid Access Token");
    }
    let request_id = header("X-Request-ID").to_owned();
    if Uuid::try_parse(&request_id).is_err() {
        let code = if request_id.is_empty() { "MISSING_VALUE" } else { "INVALID_VALUE" };
        return fhir(HttpResponse::BadRequest(), &outcome("error", "value", code, "Provided value is invalid"));
    }
    lock(&inner.asked).push(Asked { number: number.clone(), at: now, request_id: request_id.clone() });
    let answer = {
        let mut answers = lock(&inner.answers);
        match answers.get_mut(&number) {
            Some(script) if script.len() > 1 => script.pop_front(),
            Some(script) => script.front().cloned(),
            None => None,
        }
    };
    let answer =
        answer.unwrap_or(if NhsNumber::parse(&number).is_ok() { PdsAnswer::Unknown } else { PdsAnswer::InvalidId });
    give(&number, &request_id, answer).await
}

async fn give(number: &str, request_id: &str, answer: PdsAnswer) -> HttpResponse {
    let ok = || {
        let mut response = HttpResponse::Ok();
        response.insert_header(("X-Request-ID", request_id)).insert_header(("ETag", "W/\"2\""));
        response
    };
    let text = |text: String| ok().content_type("application/fhir+json").body(text);
    match answer {
        PdsAnswer::Found(patient) => fhir(ok(), &patient),
        PdsAnswer::Minimal => fhir(ok(), &minimal(number, "U")),
        PdsAnswer::Superseded(by) => fhir(ok(), &secret(by.as_str(), "U")),
        PdsAnswer::Restricted => fhir(ok(), &secret(number, "R")),
        PdsAnswer::VeryRestricted => fhir(ok(), &secret(number, "V")),
        PdsAnswer::Invalidated => fhir(
            HttpResponse::NotFound(),
            &outcome(
                "error",
                "processing",
                "INVALIDATED_RESOURCE",
                "Resource that has been marked as invalid was requested - invalid resources cannot be retrieved",
            ),
        ),
        PdsAnswer::Unknown => fhir(
            HttpResponse::NotFound(),
            &outcome("information", "not-found", "RESOURCE_NOT_FOUND", "Resource not found"),
        ),
        PdsAnswer::InvalidId => fhir(
            HttpResponse::BadRequest(),
            &outcome("error", "value", "INVALID_RESOURCE_ID", "Resource Id is invalid"),
        ),
        PdsAnswer::Denied => denied("Invalid Access Token"),
        PdsAnswer::TimedOut => fhir(
            HttpResponse::RequestTimeout(),
            &outcome(
                "error",
                "timeout",
                "UNABLE_TO_CALL_SERVICE",
                "The downstream domain processing has not completed",
            ),
        ),
        PdsAnswer::TooMany(after) => {
            let mut response = HttpResponse::TooManyRequests();
            if let Some(seconds) = after {
                response.insert_header(("Retry-After", seconds.to_string()));
            }
            let words = "Your application has made too many requests";
            fhir(response, &outcome("error", "throttled", "TOO_MANY_REQUESTS", words))
        }
        PdsAnswer::Status(status) => {
            let status = StatusCode::from_u16(status).expect("a status");
            HttpResponse::build(status).content_type("text/html").body("<html><body>a proxy's page</body></html>")
        }
        PdsAnswer::Text(body) => text(body),
        PdsAnswer::Malformed => {
            let whole = secret(number, "U").to_string();
            text(whole[..whole.len() / 2].to_owned())
        }
        PdsAnswer::Truncated => {
            let whole = secret(number, "U").to_string();
            let half = Bytes::from(whole[..whole.len() / 2].to_owned());
            let length = u64::try_from(whole.len()).expect("a length");
            let body = stream::iter([Ok::<_, io::Error>(half), Err(io::ErrorKind::ConnectionReset.into())]);
            ok().content_type("application/fhir+json").body(SizedStream::new(length, Box::pin(body)))
        }
        PdsAnswer::WrongType => ok().content_type("text/html").body(secret(number, "U").to_string()),
        PdsAnswer::Oversize => {
            let mut patient = secret(number, "U");
            patient["text"] = json!({"status": "generated", "div": "x".repeat(4 << 20)});
            fhir(ok(), &patient)
        }
        PdsAnswer::Broken => {
            ok().streaming(stream::iter([Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))]))
        }
        PdsAnswer::Slow => std::future::pending().await,
        PdsAnswer::ForAnother(other) => {
            let mut patient = secret(other.as_str(), "U");
            patient["id"] = json!(number);
            fhir(ok(), &patient)
        }
    }
}

fn oauth_error(status: u16, error: &str, description: &str) -> HttpResponse {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = json!({"error": error, "error_description": description, "message_id": "rrt-0-a-b-1"});
    HttpResponse::build(status).content_type("application/json").body(body.to_string())
}

/// `POST /oauth2/token`.
async fn token(request: HttpRequest, body: Bytes, inner: Data<Inner>) -> HttpResponse {
    *lock(&inner.token_requests) += 1;
    if let Some(status) = lock(&inner.no_tokens).pop_front() {
        return oauth_error(status, "invalid_request", "refused by the test");
    }
    let form = request.headers().get("Content-Type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !form.starts_with("application/x-www-form-urlencoded") {
        return oauth_error(415, "invalid_request", "Content-Type must be application/x-www-form-urlencoded");
    }
    let fields: HashMap<String, String> = form_fields(&body);
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") != "client_credentials" {
        return oauth_error(400, "unsupported_grant_type", "grant_type is invalid");
    }
    if field("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
        return oauth_error(400, "invalid_request", "Missing or invalid client_assertion_type");
    }
    let now = lock(&inner.clock).now();
    if let Err((status, description)) = inner.judge(field("client_assertion"), now) {
        let error = if status == 401 { "invalid_client" } else { "invalid_request" };
        return oauth_error(status, error, description);
    }
    let token = Uuid::new_v4().simple().to_string();
    lock(&inner.tokens).insert(token.clone(), now + TimeDelta::seconds(TOKEN_SECONDS));
    let body = json!({
        "access_token": token, "expires_in": TOKEN_SECONDS.to_string(), "token_type": "Bearer",
        "issued_at": now.timestamp_millis().to_string(),
    });
    HttpResponse::Ok().content_type("application/json").body(body.to_string())
}

fn form_fields(body: &[u8]) -> HashMap<String, String> {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

impl Inner {
    /// Whether a client assertion is as PDS's authorization server wants it.
    fn judge(&self, assertion: &str, now: DateTime<Utc>) -> Result<(), (u16, &'static str)> {
        let malformed = (400, "Malformed JWT in client_assertion");
        let [header, payload, signature] = assertion.split('.').collect::<Vec<_>>()[..] else { return Err(malformed) };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let object = |part: &str| serde_json::from_slice::<Value>(&bytes(part)?).map_err(|_| malformed);
        let (head, claims) = (object(header)?, object(payload)?);
        if head["alg"] != "RS512" {
            return Err((
                400,
                "Invalid 'alg' header in client_assertion JWT - unsupported JWT algorithm - must be 'RS512'",
            ));
        }
        match head["kid"].as_str() {
            None => return Err((400, "Missing 'kid' header in client_assertion JWT")),
            Some(KID) => {}
            Some(_) => return Err((401, "Invalid 'kid' header in client_assertion JWT - no matching public key")),
        }
        if claims["iss"] != API_KEY || claims["sub"] != claims["iss"] {
            return Err((400, "Missing or non-matching 'iss'/'sub' claims in client_assertion JWT"));
        }
        let mut verifier = Verifier::new(MessageDigest::sha512(), &self.public).expect("a verifier");
        let signed = format!("{header}.{payload}");
        if !verifier.verify_oneshot(&bytes(signature)?, signed.as_bytes()).unwrap_or(false) {
            return Err((401, "JWT signature verification failed"));
        }
        if claims["aud"] != self.audience.as_str() {
            return Err((401, "Missing or invalid 'aud' claim in client_assertion JWT"));
        }
        let Some(ends) = claims["exp"].as_i64() else {
            return Err((400, "Missing 'exp' claim in client_assertion JWT"));
        };
        if ends <= now.timestamp() {
            return Err((400, "Invalid 'exp' claim in client_assertion JWT - JWT has expired"));
        }
        if ends > now.timestamp() + 300 {
            return Err((400, "Invalid 'exp' claim in client_assertion JWT - more than 5 minutes in future"));
        }
        let Some(jti) = claims["jti"].as_str().filter(|jti| !jti.is_empty()) else {
            return Err((400, "Missing 'jti' claim in client_assertion JWT"));
        };
        if !lock(&self.jtis).insert(jti.to_owned()) {
            return Err((400, "Non-unique 'jti' claim in client_assertion JWT"));
        }
        Ok(())
    }
}
