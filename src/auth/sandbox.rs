//! The sandbox's own issuer of tokens. Its private key lies in the sandbox's directory, so whoever can read that can be
//! anybody: outside the sandbox a configuration that names this issuer or its key id must be refused
//! ([`is_sandbox_issuer`], [`Issuer::is_sandbox`]).

use std::{fs, io, path::Path};

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use openssl::{pkey::PKey, rsa::Rsa};
use serde_json::{Value, json};

use super::{
    crypto,
    key_file::{self, Readers},
    keys::{Issuer, KeyFault, VerifyingKey},
};
use crate::cpis::types::{
    OdsCode,
    caller::{Client, ResponsiblePerson, User},
};

/// `iss` of the sandbox's tokens.
pub const ISSUER: &str = "urn:cpis-gateway:sandbox";
/// `aud` of the sandbox's tokens.
pub const AUDIENCE: &str = "urn:cpis-gateway:sandbox:api";
/// The id of the sandbox's key.
pub const KID: &str = "sandbox";
/// The key file's name within the sandbox's directory.
pub const FILE: &str = "sandbox-issuer.pem";
const BITS: u32 = 3072;

/// True for the issuer that only a sandbox may trust; case and white space around it don't matter.
pub fn is_sandbox_issuer(issuer: &str) -> bool {
    issuer.trim().eq_ignore_ascii_case(ISSUER)
}

/// Why the sandbox's issuer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SandboxFault {
    #[error("the sandbox's key file {FILE} cannot be written or read")]
    File(#[source] io::Error),
    #[error("the sandbox's key file {FILE} is not an RSA private key: remove it and start the sandbox again")]
    Key(#[source] openssl::error::ErrorStack),
    #[error(transparent)]
    PublicKey(#[from] KeyFault),
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// What a token of the sandbox is to say.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    pub client: &'a Client,
    pub user: Option<&'a User>,
    /// Who answers for an unattended client; makes the token one without a user's claims when `user` is `None`.
    pub responsible: Option<&'a ResponsiblePerson>,
    /// The user's organisation, or the site of an unattended client.
    pub organization: &'a OdsCode,
    /// Activity codes of the user's role; an unattended client's come from its registration.
    pub activities: &'a [String],
    pub lifetime_seconds: i64,
}

/// The sandbox's issuer with its private key. `Debug` shows no key.
pub struct SandboxIssuer {
    signing: EncodingKey,
    public_pem: String,
}

impl std::fmt::Debug for SandboxIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SandboxIssuer(..)")
    }
}

impl SandboxIssuer {
    /// Loads the key from `directory`, or makes one (RSA, 3072 bits, mode 0600) if there is none. Of several processes
    /// that do so at once all end up with the same key.
    ///
    /// # Errors
    /// [`SandboxFault`] when the file can't be written or read, or holds something else.
    pub fn open(directory: &Path) -> Result<Self, SandboxFault> {
        let path = directory.join(FILE);
        if !path.try_exists().map_err(SandboxFault::File)? {
            let key = Rsa::generate(BITS).and_then(PKey::from_rsa).map_err(SandboxFault::Key)?;
            let pem = key.private_key_to_pem_pkcs8().map_err(SandboxFault::Key)?;
            match key_file::write_new(directory, FILE, &pem, Readers::Owner) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(SandboxFault::File(error)),
                _ => {}
            }
        }
        let pem = fs::read(&path).map_err(SandboxFault::File)?;
        // OpenSSL would ask at the terminal for the pass phrase of an encrypted key: an empty one makes it fail.
        let rsa = PKey::private_key_from_pem_passphrase(&pem, b"").and_then(|k| k.rsa()).map_err(SandboxFault::Key)?;
        let der = rsa.private_key_to_der().map_err(SandboxFault::Key)?;
        let public = rsa.public_key_to_pem().map_err(SandboxFault::Key)?;
        crypto::install();
        Ok(Self { signing: EncodingKey::from_rsa_der(&der), public_pem: String::from_utf8_lossy(&public).into_owned() })
    }

    /// The public side, for [`super::Tokens::new`].
    ///
    /// # Errors
    /// [`SandboxFault::PublicKey`] when the file held a key too weak to verify with.
    pub fn issuer(&self) -> Result<Issuer, SandboxFault> {
        Ok(Issuer::new(ISSUER, AUDIENCE, vec![VerifyingKey::from_pem(KID, &self.public_pem)?])?)
    }

    /// An access token, signed RS512, valid from `now` for `lifetime_seconds`.
    ///
    /// # Errors
    /// [`SandboxFault::Sign`] when OpenSSL can't sign.
    pub fn mint(&self, request: &TokenRequest<'_>, now: DateTime<Utc>) -> Result<String, SandboxFault> {
        let mut header = Header::new(Algorithm::RS512);
        header.kid = Some(KID.to_owned());
        jsonwebtoken::encode(&header, &claims(request, now), &self.signing).map_err(SandboxFault::Sign)
    }
}

fn claims(request: &TokenRequest<'_>, now: DateTime<Utc>) -> Value {
    let client_id = &request.client.client_id;
    let issued = now.timestamp();
    let mut claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": client_id,
        "client_id": client_id,
        "iat": issued,
        "exp": issued.saturating_add(request.lifetime_seconds),
        "jti": uuid::Uuid::new_v4(),
    });
    if let Some(user) = request.user {
        claims["sub"] = json!(user.sds_user_id);
        claims["uid"] = json!(user.sds_user_id);
        claims["name"] = json!(user.name);
        claims["selected_roleid"] = json!(user.role_profile_id);
        claims["nhsid_nrbac_roles"] = json!([{
            "person_roleid": user.role_profile_id,
            "org_code": request.organization,
            "role_code": user.job_role_code,
            "role_name": user.job_role_name,
            "activity_codes": request.activities,
        }]);
    } else if let Some(responsible) = request.responsible {
        claims["cpis_site"] = json!(request.organization);
        claims["cpis_responsible_person"] = json!(responsible);
    }
    claims
}
