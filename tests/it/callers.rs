//! Who may call: tokens verified against their issuer, clients and organisations looked up, roles kept apart, identity from
//! the token alone (design 10).

use std::{path::Path, sync::LazyLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use cpis_gateway::{
    auth::{
        checkpoint_key::CheckpointKey,
        sandbox::{AUDIENCE, FILE, ISSUER, KID},
    },
    config::IssuerSettings,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use openssl::{pkey::PKey, rsa::Rsa};
use serde_json::{Value, json};

use crate::{
    harness::{Backend, CPP, Child, Reply, TestApp, child, on_both_stores},
    refusals::{assert_tells_nothing_of, events_of, request_id},
};

/// Another RSA key than any issuer's: private and public PEM.
static OTHER_KEY: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    (key.private_key_to_pem_pkcs8().expect("PEM"), key.public_key_to_pem().expect("PEM"))
});

/// Signs claims as an issuer with this private key would.
fn sign(pem: &[u8], algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    let key = EncodingKey::from_rsa_pem(pem).expect("an RSA key");
    jsonwebtoken::encode(&header, claims, &key).expect("a token")
}

/// What a clinician's token of the sandbox says, with changes.
fn claims(app: &TestApp, changes: Value) -> Value {
    let now = app.clock.now().timestamp();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600, "sub": "555000000101", "uid": "555000000101",
        "client_id": "sandbox-clinical-zz101", "name": "EXAMPLE, Dana (Ms)", "selected_roleid": "555100000101",
        "nhsid_nrbac_roles": [{
            "person_roleid": "555100000101", "org_code": "ZZ101", "role_code": "R0620", "role_name": "Staff Nurse",
            "activity_codes": ["B0107"],
        }],
    });
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn sandbox_key(app: &TestApp) -> Vec<u8> {
    std::fs::read(app.data_dir().join(FILE)).expect("the sandbox's key")
}

fn token(app: &TestApp, changes: Value) -> String {
    sign(&sandbox_key(app), Algorithm::RS512, Some(KID), &claims(app, changes))
}

/// Sends an `Authorization` header as it stands.
async fn ask(app: &TestApp, authorization: &str, path: &str) -> Reply {
    app.anonymous().header("Authorization", authorization).get(path).await
}

async fn with_child(backend: Backend) -> (TestApp, Child) {
    let app = TestApp::start(backend).await;
    let child = child(1);
    app.on_record(&child, &[("Z9A", CPP, "2026-09-14", None)]).await;
    (app, child)
}

fn assert_unknown_caller(child: &Child, what: &str, reply: &Reply, issue: &str) {
    assert_eq!(reply.status, 401, "{what}: {}", reply.text);
    reply.assert_refused(401, issue, "ACCESS_DENIED");
    assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}");
    assert_tells_nothing_of(child, reply);
}

/// Every way in which a token is no token: 401, and no record of anybody's in the audit.
#[actix_web::test]
async fn tokens_that_are_not_accepted() {
    let (app, child) = with_child(Backend::Sqlite).await;
    let look_up = child.care_team();
    let key = sandbox_key(&app);
    let good = token(&app, json!({}));
    let (head, signature) = good.rsplit_once('.').expect("a signature");
    let payload = head.split_once('.').expect("a payload").1;
    let unsigned = |header: Value| format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header.to_string()));
    let forged_payload =
        URL_SAFE_NO_PAD.encode(claims(&app, json!({"client_id": "sandbox-auditor-zz801"})).to_string());
    let bearer = |token: &str| format!("Bearer {token}");
    let with_header = |header: Value| {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        format!("{header}.{payload}.{signature}")
    };
    let now = app.clock.now().timestamp();
    let cases: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("scheme alone", "Bearer".to_owned()),
        ("another scheme", "Basic c2FuZGJveDpzYW5kYm94".to_owned()),
        ("rubbish", bearer("rubbish")),
        ("three parts of rubbish", bearer("a.b.c")),
        ("non-ASCII", bearer("t\u{e9}")),
        ("too long", bearer(&"a".repeat(9000))),
        ("two tokens", format!("Bearer {good}, Bearer {good}")),
        ("algorithm none", bearer(&unsigned(json!({"alg": "none", "kid": KID})))),
        ("algorithm none, with a signature", bearer(&with_header(json!({"alg": "none", "kid": KID})))),
        ("another algorithm's name", bearer(&with_header(json!({"alg": "HS512", "kid": KID})))),
        ("a key in the header", bearer(&with_header(json!({"alg": "RS512", "kid": KID, "jwk": {"kty": "RSA"}})))),
        ("cut signature", bearer(good.get(..good.len() - 8).expect("a token"))),
        ("no signature", bearer(&format!("{head}."))),
        (
            "another payload",
            bearer(&format!("{}.{forged_payload}.{signature}", head.split_once('.').expect("a header").0)),
        ),
        ("another key", bearer(&sign(&OTHER_KEY.0, Algorithm::RS512, Some(KID), &claims(&app, json!({}))))),
        ("unknown key id", bearer(&sign(&key, Algorithm::RS512, Some("other"), &claims(&app, json!({}))))),
        ("no key id", bearer(&sign(&key, Algorithm::RS512, None, &claims(&app, json!({}))))),
        ("another issuer", bearer(&token(&app, json!({"iss": "https://stranger.example.org"})))),
        ("no issuer", bearer(&token(&app, json!({"iss": null})))),
        ("another audience", bearer(&token(&app, json!({"aud": "urn:somebody-else"})))),
        ("no audience", bearer(&token(&app, json!({"aud": null})))),
        ("no expiry", bearer(&token(&app, json!({"exp": null})))),
        ("not yet valid", bearer(&token(&app, json!({"nbf": now + 60})))),
        ("unknown client", bearer(&token(&app, json!({"client_id": "nobody"})))),
        ("no client", bearer(&token(&app, json!({"client_id": null})))),
        ("two clients", bearer(&token(&app, json!({"azp": "sandbox-auditor-zz801"})))),
        ("a user without a name", bearer(&token(&app, json!({"name": null})))),
        ("no selected role", bearer(&token(&app, json!({"selected_roleid": "7"})))),
        ("no role", bearer(&token(&app, json!({"nhsid_nrbac_roles": []})))),
    ];
    let audited = app.number("select count(*) as n from audit_event");
    let without = app.anonymous().get(&look_up).await;
    assert_unknown_caller(&child, "no header", &without, "login");
    assert!(!without.header("www-authenticate").contains("error="), "no token is no error (RFC 6750 3.1)");
    for (what, authorization) in &cases {
        let reply = ask(&app, authorization, &look_up).await;
        assert_unknown_caller(&child, what, &reply, "login");
        let secret = authorization.strip_prefix("Bearer ").filter(|token| token.len() > 5).unwrap_or("no token");
        assert!(!reply.text.contains(secret), "{what}: the token is echoed");
    }
    for exp in [now - 1, now] {
        let reply = ask(&app, &bearer(&token(&app, json!({"exp": exp}))), &look_up).await;
        assert_unknown_caller(&child, "expired", &reply, "expired");
        assert!(reply.header("www-authenticate").contains("invalid_token"));
    }
    // Unknown callers can't fill the audit, and what there is stays theirs to guess.
    for path in ["/Nothing", "/CareTeam", "/CareTeam?patient=1", "/Patient/{nhs}"] {
        let reply = app.anonymous().get(&path.replace("{nhs}", child.nhs())).await;
        assert_unknown_caller(&child, path, &reply, "login");
    }
    assert_eq!(app.number("select count(*) as n from audit_event"), audited);
    assert_eq!(ask(&app, &format!("bearer {good}"), &look_up).await.status, 200, "the good one is good");
}

#[actix_web::test]
async fn a_token_ends_when_it_says() {
    let (app, child) = with_child(Backend::Sqlite).await;
    let clinician = app.clinician();
    assert_eq!(clinician.get(&child.care_team()).await.status, 200);
    app.clock.advance(TimeDelta::seconds(3600));
    assert_unknown_caller(&child, "an hour later", &clinician.get(&child.care_team()).await, "expired");
}

on_both_stores! {
    async fn a_disabled_client_is_refused_at_once(backend) {
        let (app, child) = with_child(backend).await;
        let clinician = app.clinician();
        assert_eq!(clinician.get(&child.care_team()).await.status, 200);
        app.execute("update client set disabled = true where client_id = 'sandbox-clinical-zz101'");
        assert_unknown_caller(&child, "disabled", &clinician.get(&child.care_team()).await, "login");
        app.execute("update client set disabled = false where client_id = 'sandbox-clinical-zz101'");
        assert_eq!(clinician.get(&child.care_team()).await.status, 200);
    }

    /// A genuine token whose bearer may not be a caller: 403, with a record of the client in the audit.
    async fn a_genuine_token_that_makes_no_caller(backend) {
        let (app, child) = with_child(backend).await;
        let device = json!({
            "client_id": "sandbox-device-zz101", "sub": "sandbox-device-zz101", "uid": null, "name": null,
            "nhsid_nrbac_roles": null, "selected_roleid": null, "cpis_site": "ZZ10102",
            "cpis_responsible_person": {"name": "EXAMPLE, Robin (Dr)", "role_name": "Named Doctor for Safeguarding"},
        });
        let changed = |changes: Value| {
            let mut claims = device.clone();
            for (name, value) in changes.as_object().expect("an object") {
                claims[name] = value.clone();
            }
            claims
        };
        let role = |organization: &str| json!([{"person_roleid": "1", "org_code": organization, "activity_codes": ["B0107"]}]);
        app.execute("update organization set active = false where ods = 'ZZ121'");
        for (what, client, changes) in [
            ("an organisation that isn't registered", "sandbox-clinical-zz101", json!({"nhsid_nrbac_roles": role("ZZ999"), "selected_roleid": null})),
            ("an organisation that isn't active", "sandbox-clinical-zz101", json!({"nhsid_nrbac_roles": role("ZZ121"), "selected_roleid": null})),
            ("no user, and no device", "sandbox-clinical-zz101", changed(json!({"client_id": "sandbox-clinical-zz101"}))),
            ("nobody responsible", "sandbox-device-zz101", changed(json!({"cpis_responsible_person": null}))),
            ("no site", "sandbox-device-zz101", changed(json!({"cpis_site": null}))),
            ("another organisation's site", "sandbox-device-zz101", changed(json!({"cpis_site": "ZZ111"}))),
        ] {
            let reply = ask(&app, &format!("Bearer {}", token(&app, changes)), &child.care_team()).await;
            assert_eq!(reply.status, 403, "{what}: {}", reply.text);
            reply.assert_refused(403, "forbidden", "ACCESS_DENIED");
            assert_tells_nothing_of(&child, &reply);
            let events = events_of(&app, &request_id(&reply)).await;
            assert_eq!(events.len(), 1, "{what}");
            assert_eq!((&events[0]["outcome"], &events[0]["outcomeDesc"]), (&json!("4"), &json!("ACCESS_DENIED")), "{what}");
            let event = events[0].to_string();
            assert!(event.contains(client) && event.contains(child.nhs()), "{what}: {event}");
        }
        let good = app.anonymous().with_token(&token(&app, device)).get(&child.care_team()).await;
        assert_eq!(good.status, 200, "{}", good.text);
    }
}

/// Nothing but the token says who calls: not headers, not the body, not a claim of another kind.
#[actix_web::test]
async fn identity_comes_from_the_token_alone() {
    let (app, child) = with_child(Backend::Sqlite).await;
    let reply = app
        .clinician()
        .header("NHSD-Session-URID", "555100000302")
        .header("X-User", "555000000302")
        .header("From", "somebody@example.org")
        .get(&child.history())
        .await;
    assert_eq!(reply.total(), 1, "{}", reply.text);
    assert!(reply.text.contains("555000000101") && !reply.text.contains("555000000302"), "{}", reply.text);

    let posing = token(&app, json!({"role": "auditor", "cpis_role": "auditor", "scope": "system/*.*"}));
    let reply = ask(&app, &format!("Bearer {posing}"), "/AuditEvent").await;
    reply.assert_refused(400, "invalid", "INVALID_SEARCH_DATA");
    // The client's organisation and activity codes count for a client without a user's role.
    let authority = token(&app, json!({"client_id": "sandbox-local-authority-z9b"}));
    let flags = ask(&app, &format!("Bearer {authority}"), "/Flag").await;
    assert_eq!((flags.status, flags.resources("Flag").len()), (200, 0), "Z9B's desk, though its user works at ZZ101");

    let mut flag = child.flag("Z9A", CPP, "2026-09-14", None);
    flag["author"]["identifier"]["value"] = json!("Z9A");
    let reply = app.authority("Z9B").post("/Flag", &flag).await;
    assert_eq!(reply.status, 422, "an authority can't write in another's name: {}", reply.text);
}

/// Each route of the API description, asked by each role that it doesn't name: 403, audited.
#[actix_web::test]
async fn every_route_is_closed_to_the_roles_that_it_does_not_name() {
    let (app, child) = with_child(Backend::Sqlite).await;
    let document = app.anonymous().get("//openapi.json").await.json;
    let (mut open, mut asked) = (Vec::new(), 0);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let method = method.to_uppercase();
            if operation["security"].is_null() {
                open.push(format!("{method} {path}"));
                continue;
            }
            let told = operation["description"].as_str().expect("for whom");
            let named: Vec<&str> = told.trim_start_matches("For: ").trim_end_matches('.').split(", ").collect();
            let filled =
                format!("//{}", path.trim_start_matches('/').replace("{id}", child.nhs()).replace("{vid}", "1"));
            let form = operation["requestBody"]["content"].get("application/x-www-form-urlencoded").is_some();
            let body = (method != "GET" && method != "DELETE").then(|| {
                if form {
                    ("application/x-www-form-urlencoded", Vec::new())
                } else {
                    ("application/fhir+json", b"{}".to_vec())
                }
            });
            let nobody = app.anonymous().send(&method, &filled, body.clone()).await;
            assert_unknown_caller(&child, path, &nobody, "login");
            for role in ["clinical", "local-authority", "auditor", "administrator"] {
                let reply = app.caller(&format!("role={role}"), "").send(&method, &filled, body.clone()).await;
                asked += 1;
                if named.contains(&role) {
                    let about_role = reply.text.contains("not for clients of the role");
                    assert!(!about_role && reply.status < 500, "{role} {method} {path}: {}", reply.text);
                    continue;
                }
                assert_eq!(reply.status, 403, "{role} {method} {path}: {}", reply.text);
                reply.assert_refused(403, "forbidden", "ACCESS_DENIED");
                assert_tells_nothing_of(&child, &reply);
                let events = events_of(&app, &request_id(&reply)).await;
                let told: Vec<_> = events.iter().map(|event| (&event["outcome"], &event["outcomeDesc"])).collect();
                assert_eq!(told, [(&json!("4"), &json!("ACCESS_DENIED"))], "{role} {method} {path}");
            }
        }
    }
    open.sort_unstable();
    let mut expected = vec!["GET /_ping".to_owned(), "GET /_status".to_owned(), "POST /sandbox/token".to_owned()];
    expected.extend(
        ["GET /.well-known/jwks.json", "GET /cpis/FHIR/R4/metadata", "GET /docs/", "GET /openapi.json"]
            .map(str::to_owned),
    );
    for kind in ["CodeSystem", "OperationDefinition", "SearchParameter", "StructureDefinition", "ValueSet"] {
        for route in ["GET /cpis/FHIR/R4/{}", "GET /cpis/FHIR/R4/{}/{id}", "POST /cpis/FHIR/R4/{}/_search"] {
            expected.push(route.replacen("{}", kind, 1));
        }
    }
    expected.sort_unstable();
    assert_eq!(open, expected);
    assert!(asked > 100, "{asked}");
}

const FORM: &str = "application/x-www-form-urlencoded";

#[actix_web::test]
async fn the_sandbox_hands_out_tokens_to_anybody() {
    let (app, child) = with_child(Backend::Sqlite).await;
    let issued = app.anonymous().form("//sandbox/token", "role=clinical&user=555000000102").await;
    assert_eq!((issued.status, issued.header("cache-control")), (200, "no-store"), "{}", issued.text);
    let authorization = format!("Bearer {}", issued.json["access_token"].as_str().expect("a token"));
    let reply = ask(&app, &authorization, &child.history()).await;
    assert!(reply.text.contains("SAMPLE, Kit"), "{}", reply.text);
    for (kind, form) in
        [(FORM, "role=nobody"), (FORM, "role=auditor&role=clinical"), ("application/json", "{}"), (FORM, "role=%zz")]
    {
        let refused = app.anonymous().send("POST", "//sandbox/token", Some((kind, form.as_bytes().to_vec()))).await;
        assert_eq!((refused.status, &refused.json["error"]), (400, &json!("invalid_request")), "{}", refused.text);
    }
    let long = app.anonymous().send("POST", "//sandbox/token", Some((FORM, vec![b'a'; 3 << 20]))).await;
    assert!(matches!(long.status, 400 | 413), "{}", long.text);
    assert!(!long.json.is_null(), "in JSON: {}", long.text);
}

/// Outside the sandbox: its endpoint is not there, its tokens are worth nothing, and a configured issuer is believed.
#[actix_web::test]
async fn outside_the_sandbox_its_tokens_are_worth_nothing() {
    let key = OTHER_KEY.1.clone();
    let app = TestApp::start_with(Backend::Sqlite, |settings| {
        settings.sandbox = false;
        CheckpointKey::generate_into(&settings.data_dir).expect("a signing key");
        settings.audit.signing_key = Some(settings.data_dir.join(cpis_gateway::auth::checkpoint_key::PRIVATE_FILE));
        settings.auth.issuers.push(issuer(&settings.data_dir, &key));
    })
    .await;
    let child = child(1);
    let endpoint = app.anonymous().form("//sandbox/token", "role=clinical").await;
    endpoint.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
    for method in ["GET", "PUT"] {
        assert_eq!(app.anonymous().send(method, "//sandbox/token", None).await.status, 404, "{method}");
    }
    assert!(!app.anonymous().get("//openapi.json").await.text.contains("/sandbox/token"));
    assert_unknown_caller(&child, "a sandbox token", &app.clinician().get(&child.care_team()).await, "login");

    let own = |algorithm: Algorithm, changes: Value| {
        let mut claims =
            claims(&app, json!({"iss": "https://issuer.example.nhs.uk", "aud": "https://cpis.example.nhs.uk"}));
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        format!("Bearer {}", sign(&OTHER_KEY.0, algorithm, Some("2026-1"), &claims))
    };
    for algorithm in [Algorithm::RS512, Algorithm::RS256, Algorithm::PS256] {
        let reply = ask(&app, &own(algorithm, json!({})), &child.care_team()).await;
        assert_eq!((reply.status, reply.total()), (200, 0), "{algorithm:?}: {}", reply.text);
    }
    let several = json!({"aud": ["https://other.example.nhs.uk", "https://cpis.example.nhs.uk"]});
    assert_eq!(ask(&app, &own(Algorithm::RS512, several), &child.care_team()).await.status, 200);
    for changes in [json!({"aud": AUDIENCE}), json!({"iss": ISSUER}), json!({"exp": app.clock.now().timestamp()})] {
        assert_eq!(
            ask(&app, &own(Algorithm::RS512, changes.clone()), &child.care_team()).await.status,
            401,
            "{changes}"
        );
    }
}

fn issuer(directory: &Path, public_pem: &[u8]) -> IssuerSettings {
    let path = directory.join("issuer.pub.pem");
    std::fs::write(&path, public_pem).expect("the issuer's key is written");
    IssuerSettings {
        issuer: "https://issuer.example.nhs.uk".to_owned(),
        audience: "https://cpis.example.nhs.uk".to_owned(),
        jwks_file: None,
        pem_file: Some(path),
        kid: Some("2026-1".to_owned()),
    }
}

/// The request's ids: mirrored, made where absent, written in the audit.
#[actix_web::test]
async fn request_ids_are_mirrored_and_audited() {
    let (app, child) = with_child(Backend::Sqlite).await;
    let (uuid, trace) = ("0F7b0f6e-3a51-4a2e-9a54-9e3c5a1d2b10", "visit.2026_11-23");
    for (path, status) in [(child.care_team(), 200), ("/CareTeam".to_owned(), 400), ("/Nothing".to_owned(), 404)] {
        let made = app.clinician().get(&path).await;
        assert_eq!(made.status, status, "{}", made.text);
        assert!(uuid::Uuid::parse_str(made.header("X-Request-ID")).is_ok(), "made where absent");
        assert_eq!((made.header("TraceID"), made.header("X-Correlation-ID")), ("", ""));
        assert_eq!(events_of(&app, made.header("X-Request-ID")).await.len(), 1);

        let sent = app.clinician().header("X-Request-ID", uuid).header("X-Correlation-ID", "abc.1").get(&path).await;
        assert_eq!((sent.header("X-Request-ID"), sent.header("X-Correlation-ID")), (uuid, "abc.1"));
        let traced = app.clinician().header("TraceID", trace).get(&path).await;
        assert_eq!((traced.header("TraceID"), traced.header("X-Request-ID")), (trace, ""));
        let both = app.clinician().header("TraceID", trace).header("X-Request-ID", uuid).get(&path).await;
        assert_eq!((both.header("TraceID"), both.header("X-Request-ID")), (trace, uuid));
    }
    assert_eq!(app.number(&format!("select count(*) as n from audit_event where request_id = '{uuid}'")), 6);
    assert_eq!(app.number(&format!("select count(*) as n from audit_event where request_id = '{trace}'")), 3);
    let open = app.anonymous().header("X-Request-ID", uuid).get("/metadata").await;
    assert_eq!((open.status, open.header("X-Request-ID")), (200, uuid));
    let ping = app.anonymous().header("X-Request-ID", uuid).get("//_ping").await;
    assert_eq!(ping.header("X-Request-ID"), uuid);
    // What is wrong is not mirrored.
    let wrong = app.clinician().header("X-Request-ID", child.nhs()).get(&child.care_team()).await;
    assert!(uuid::Uuid::parse_str(wrong.header("X-Request-ID")).is_ok(), "{}", wrong.header("X-Request-ID"));
}
