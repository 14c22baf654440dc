//! Real tokens, signed here with OpenSSL, against the verification and the making of the caller.

mod authenticate;
mod sandbox_issuer;
mod verify;

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use openssl::{
    bn::BigNum,
    ec::{EcGroup, EcKey},
    ecdsa::EcdsaSig,
    hash::{MessageDigest, hash},
    nid::Nid,
    pkey::{PKey, Private},
    rsa::{Padding, Rsa},
    sign::{RsaPssSaltlen, Signer},
};
use serde_json::{Value, json};

use super::{
    AuthFault, Claims, Directory, DirectoryFault, Issuer, KeyFault, LONGEST_TOKEN, TokenFault, Tokens, VerifyingKey,
    sandbox::{self, SandboxIssuer, TokenRequest},
};
use crate::cpis::types::{
    OdsCode, Organization,
    caller::{Author, Caller, Client, ResponsiblePerson, Role, User, VIEW_FLAG, VIEW_FLAG_SILENTLY},
    organization::{CareSetting, OrganizationKind},
};

const ISSUER: &str = "https://am.example.nhs.uk";
const AUDIENCE: &str = "https://cpis.example.nhs.uk";

static RSA: LazyLock<PKey<Private>> = LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
static P256: LazyLock<PKey<Private>> = LazyLock::new(|| ec(Nid::X9_62_PRIME256V1));
static P384: LazyLock<PKey<Private>> = LazyLock::new(|| ec(Nid::SECP384R1));

fn ec(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

fn pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

fn tokens() -> Tokens {
    let key = |kid: &str, key: &PKey<Private>| VerifyingKey::from_pem(kid, &pem(key)).unwrap();
    let keys = vec![key("rsa", &RSA), key("p256", &P256), key("p384", &P384)];
    Tokens::new(vec![Issuer::new(ISSUER, AUDIENCE, keys).unwrap()]).unwrap()
}

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap()
}

fn in_seconds(seconds: i64) -> i64 {
    now().timestamp() + seconds
}

fn ods(code: &str) -> OdsCode {
    OdsCode::parse(code).unwrap()
}

/// The claims of a complete user's token, with `change` laid over them (null removes).
fn claims(change: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": in_seconds(300), "iat": in_seconds(0), "client_id": "ed-system",
        "sub": "0f0c", "uid": "555021935107", "name": "TESTER, Ada (Mrs)",
        "nhsid_nrbac_roles": [{"person_roleid": "555254242103", "org_code": "ZZ101", "role_code": "R8003",
            "role_name": "Nurse Access Role", "activity_codes": [VIEW_FLAG]}],
    });
    let object = claims.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    claims
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn signed_with(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn rs512(message: &[u8]) -> Vec<u8> {
    Signer::new(MessageDigest::sha512(), &RSA).unwrap().sign_oneshot_to_vec(message).unwrap()
}

fn signed(claims: &Value) -> String {
    signed_with(&json!({"alg": "RS512", "typ": "JWT", "kid": "rsa"}), claims, rs512)
}

fn raw_ecdsa(key: &PKey<Private>, digest: MessageDigest, half: i32, message: &[u8]) -> Vec<u8> {
    let signature = EcdsaSig::sign(&hash(digest, message).unwrap(), &key.ec_key().unwrap()).unwrap();
    let padded = |n: &openssl::bn::BigNumRef| n.to_vec_padded(half).unwrap();
    [padded(signature.r()), padded(signature.s())].concat()
}

fn verify(token: &str) -> Result<Claims, TokenFault> {
    tokens().verify(token, now())
}

/// A directory in memory; `None` answers as a store that is down.
struct Register(Option<Vec<Client>>);

fn client(client_id: &str, role: Role, organization: &str) -> Client {
    Client {
        client_id: client_id.to_owned(),
        name: format!("System {client_id}"),
        role,
        organization: ods(organization),
        unattended: false,
        activities: vec![],
        disabled: false,
    }
}

fn register() -> Register {
    let unattended = Client {
        unattended: true,
        activities: vec![VIEW_FLAG_SILENTLY.to_owned()],
        ..client("robot", Role::Clinical, "ZZ101")
    };
    Register(Some(vec![
        client("ed-system", Role::Clinical, "ZZ900"),
        unattended,
        Client { disabled: true, ..client("gone", Role::Clinical, "ZZ101") },
        client("la-system", Role::LocalAuthority, "Z9A"),
        client("audit-desk", Role::Auditor, "ZZ700"),
    ]))
}

impl Directory for Register {
    fn client(&self, client_id: &str) -> Result<Option<Client>, DirectoryFault> {
        let clients = self.0.as_ref().ok_or_else(|| DirectoryFault::new("pool is empty"))?;
        Ok(clients.iter().find(|c| c.client_id == client_id).cloned())
    }

    fn organization(&self, code: &OdsCode) -> Result<Option<Organization>, DirectoryFault> {
        let known = [
            ("ZZ101", None),
            ("ZZ202", None),
            ("ZZ1011", Some("ZZ101")),
            ("ZZ700", None),
            ("Z9A", None),
            ("ZZ888", None),
        ];
        Ok(known.iter().find(|(own, _)| *own == code.as_str()).map(|(own, part_of)| Organization {
            id: 1,
            ods: ods(own),
            name: format!("Organisation {own}"),
            kind: OrganizationKind::CareProvider,
            care_setting: Some(CareSetting::Unscheduled),
            sensitive: false,
            office_phone: None,
            duty_phone: None,
            part_of: part_of.map(ods),
            active: *own != "ZZ888",
            version: 1,
            updated: now(),
        }))
    }
}

fn authenticate(claims: &Value) -> Result<Caller, AuthFault> {
    tokens().authenticate(Some(&format!("Bearer {}", signed(claims))), &register(), now())
}

fn token_fault(result: Result<Caller, AuthFault>) -> TokenFault {
    match result {
        Err(AuthFault::Token(fault)) => fault,
        other => panic!("not a token fault: {other:?}"),
    }
}

fn forbidden(result: Result<Caller, AuthFault>) -> &'static str {
    match result {
        Err(AuthFault::Forbidden { reason, .. }) => reason,
        other => panic!("not forbidden: {other:?}"),
    }
}

fn device_claims(change: Value) -> Value {
    let mut all = json!({"client_id": "robot", "nhsid_nrbac_roles": null, "name": null, "uid": null, "sub": "robot",
        "cpis_site": "ZZ1011", "cpis_responsible_person": {"name": "Grace Test", "role_code": "R8000",
            "role_name": "Safeguarding lead", "phone": "01632960100"}});
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims(all)
}
