//! Verification of a bearer token: form, algorithm, issuer, key, signature, audience, time, claims, in this order.
//!
//! Nothing that the token says about how to verify it is believed: `alg` must be one that the named key is made for,
//! `kid` picks among the issuer's configured keys, and `jwk`, `jku`, `x5c`, `x5u` in the header are never looked at.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::{
    claims::{Claims, Payload},
    crypto,
    keys::{Issuer, KeyFault},
};

/// Longest token read, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;
/// How far, in milliseconds, an issuer's clock may run ahead of ours. Expiry has no leeway.
const NOT_BEFORE_LEEWAY: f64 = 5_000.0;

/// Why a token was refused: all are 401. The texts never hold any part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("Missing Authorization header: send Authorization: Bearer and an access token")]
    Missing,
    #[error("Empty Authorization header: send Authorization: Bearer and an access token")]
    Empty,
    #[error("Invalid Access Token: it is not a signed JSON Web Token of at most 8 KiB")]
    Malformed,
    #[error("Invalid Access Token: its issuer is not one that this service trusts")]
    UnknownIssuer,
    #[error("Invalid Access Token: its key id (kid) is missing or is not one of its issuer's keys")]
    UnknownKey,
    #[error("Invalid Access Token: sign it with RS512, RS256, PS256, ES384 or ES256, as its key allows")]
    WrongAlgorithm,
    #[error("Invalid Access Token: its signature does not fit")]
    BadSignature,
    #[error("Invalid Access Token: it was issued for another audience")]
    WrongAudience,
    #[error("The access token has expired: get a new one")]
    Expired,
    #[error("Invalid Access Token: it is not valid yet; check the clock of its issuer")]
    NotYetValid,
    #[error("The access token's client is not registered here")]
    UnknownClient,
    #[error("The access token's client has been disabled")]
    DisabledClient,
    /// The claim that is missing or unusable.
    #[error("Invalid Access Token: the claim {0} is missing or cannot be used")]
    IncompleteClaims(&'static str),
}

/// The issuers that are trusted and how their tokens are verified. Immutable: when keys change, make another.
#[derive(Clone, Debug)]
pub struct Tokens {
    issuers: Vec<Issuer>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Tokens {
    /// # Errors
    /// [`KeyFault::DuplicateIssuer`] when two issuers have the same name: which keys count would be a matter of order.
    pub fn new(issuers: Vec<Issuer>) -> Result<Self, KeyFault> {
        crypto::install();
        let mut names: Vec<&str> = issuers.iter().map(Issuer::name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(KeyFault::DuplicateIssuer);
        }
        Ok(Self { issuers })
    }

    /// Verifies `token` (the compact form, without `Bearer`) as of `now` and reads its claims.
    ///
    /// Whether the client is registered and enabled is not decided here (see [`super::authenticate`]).
    ///
    /// # Errors
    /// The first [`TokenFault`] met. Before the signature fits, only faults of form, issuer, key and algorithm arise.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, TokenFault> {
        if token.is_empty() {
            return Err(TokenFault::Empty);
        }
        if token.len() > LONGEST_TOKEN {
            return Err(TokenFault::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        let header: Header = part(header)?;
        let algorithm = accepted(&header)?;
        let payload: Payload = part(payload)?;

        let issuer = self.issuers.iter().find(|i| Some(&i.issuer) == payload.iss.as_ref());
        let issuer = issuer.ok_or(TokenFault::UnknownIssuer)?;
        let key = issuer.keys.iter().find(|k| Some(&k.kid) == header.kid.as_ref()).ok_or(TokenFault::UnknownKey)?;
        if !key.algorithms.contains(&algorithm) {
            return Err(TokenFault::WrongAlgorithm);
        }
        if !jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm).unwrap_or(false) {
            return Err(TokenFault::BadSignature);
        }

        if !payload.aud.as_ref().ok_or(TokenFault::IncompleteClaims("aud"))?.names(&issuer.audience) {
            return Err(TokenFault::WrongAudience);
        }
        let expires = in_time(&payload, now)?;
        payload.into_claims(expires)
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TokenFault> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenFault::Malformed)
}

fn accepted(header: &Header) -> Result<Algorithm, TokenFault> {
    // RFC 7515 4.1.11: a header parameter that must be understood and isn't makes the token invalid.
    if header.crit.is_some() {
        return Err(TokenFault::Malformed);
    }
    let algorithm = header.alg.parse().map_err(|_| TokenFault::WrongAlgorithm)?;
    if crypto::ALGORITHMS.contains(&algorithm) { Ok(algorithm) } else { Err(TokenFault::WrongAlgorithm) }
}

/// When the token expires, if `now` lies within its time. At the second of `exp` it is no longer valid (RFC 7519 4.1.4).
fn in_time(payload: &Payload, now: DateTime<Utc>) -> Result<DateTime<Utc>, TokenFault> {
    let exp = payload.exp.ok_or(TokenFault::IncompleteClaims("exp"))? * 1000.0;
    // Milliseconds since 1970 are exact in an f64 for 285,000 years, and `as` saturates.
    let (now, expires) = (now.timestamp_millis() as f64, DateTime::from_timestamp_millis(exp as i64));
    if now >= exp {
        return Err(TokenFault::Expired);
    }
    if payload.nbf.is_some_and(|nbf| now + NOT_BEFORE_LEEWAY < nbf * 1000.0) {
        return Err(TokenFault::NotYetValid);
    }
    expires.ok_or(TokenFault::IncompleteClaims("exp"))
}
