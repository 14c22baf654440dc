//! The `Authorization` header: an HMAC over mailbox, nonce, password and time; one for each call (domain.md 5.2).

use chrono::{DateTime, Utc};
use openssl::{error::ErrorStack, hash::MessageDigest, pkey::PKey, sign::Signer};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

/// `NHSMESH mailbox:nonce:0:yyyyMMddHHmm:mac` for one call.
///
/// # Errors
/// When OpenSSL can't make an HMAC.
pub(super) fn authorization(
    mailbox: &str,
    password: &SecretString,
    shared_key: &SecretString,
    nonce: Uuid,
    now: DateTime<Utc>,
) -> Result<String, ErrorStack> {
    let time = now.format("%Y%m%d%H%M");
    let public = format!("{mailbox}:{nonce}:0");
    let signed = SecretString::from(format!("{public}:{}:{time}", password.expose_secret()));
    let key = PKey::hmac(shared_key.expose_secret().as_bytes())?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    signer.update(signed.expose_secret().as_bytes())?;
    let mac: String = signer.sign_to_vec()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("NHSMESH {public}:{time}:{mac}"))
}
