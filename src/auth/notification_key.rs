//! The key that signs notifications, and its public side for whoever receives them (design 7).
//!
//! Ed25519 in the form of Standard Webhooks (<https://www.standardwebhooks.com>): the header `webhook-signature` holds
//! `v1a,` and the base64 of the signature over `{webhook-id}.{webhook-timestamp}.{body}`. How to check it with a few lines
//! of Python: `docs/notifications.md`.

use std::{fs, path::Path};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use openssl::{
    error::ErrorStack,
    md::Md,
    pkey::{Id, PKey, Private},
    pkey_ctx::PkeyCtx,
    sha::sha256,
    sign::Signer,
};
use serde_json::{Value, json};

/// Header that names the notification; the same each time it is sent.
pub const ID: &str = "webhook-id";
/// Header with the time of the sending, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signature.
pub const SIGNATURE: &str = "webhook-signature";

/// Why the key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NotificationKeyFault {
    #[error("the file {} cannot be read", .0.display())]
    File(std::path::PathBuf, #[source] std::io::Error),
    #[error("not an Ed25519 key in PEM: make one with openssl genpkey -algorithm ed25519")]
    Unusable,
    #[error("OpenSSL failed")]
    Openssl(#[from] ErrorStack),
}

/// The private key. `Debug` shows its id only.
#[derive(Clone)]
pub struct NotificationKey {
    key: PKey<Private>,
    /// The public key, 32 bytes in base64url.
    x: String,
}

impl std::fmt::Debug for NotificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NotificationKey").field(&self.key_id()).finish()
    }
}

impl NotificationKey {
    /// A key out of another secret of the installation, which can't be told from it (HKDF with SHA-256, RFC 5869).
    ///
    /// # Errors
    /// [`NotificationKeyFault::Openssl`].
    pub fn from_secret(secret: &[u8]) -> Result<Self, NotificationKeyFault> {
        let mut seed = [0; 32];
        let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
        hkdf.derive_init()?;
        hkdf.set_hkdf_md(Md::sha256())?;
        hkdf.set_hkdf_key(secret)?;
        hkdf.add_hkdf_info(b"cpis-gateway notifications")?;
        hkdf.derive(Some(&mut seed))?;
        Self::of(PKey::private_key_from_raw_bytes(&seed, Id::ED25519)?)
    }

    /// Loads a private key's PEM file.
    ///
    /// # Errors
    /// [`NotificationKeyFault::File`] or [`NotificationKeyFault::Unusable`].
    pub fn load(pem_path: &Path) -> Result<Self, NotificationKeyFault> {
        let pem = fs::read(pem_path).map_err(|error| NotificationKeyFault::File(pem_path.to_owned(), error))?;
        // OpenSSL would ask at the terminal for the pass phrase of an encrypted key: an empty one makes it fail.
        let key = PKey::private_key_from_pem_passphrase(&pem, b"").map_err(|_| NotificationKeyFault::Unusable)?;
        if key.id() != Id::ED25519 {
            return Err(NotificationKeyFault::Unusable);
        }
        Self::of(key)
    }

    fn of(key: PKey<Private>) -> Result<Self, NotificationKeyFault> {
        let x = URL_SAFE_NO_PAD.encode(key.raw_public_key()?);
        Ok(Self { key, x })
    }

    /// The three headers of a sending of `body` at `timestamp`, in seconds since 1970.
    ///
    /// # Errors
    /// [`NotificationKeyFault::Openssl`].
    pub fn headers(
        &self,
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> Result<[(&'static str, String); 3], NotificationKeyFault> {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let signature = Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(&signed)?;
        Ok([
            (ID, id.to_owned()),
            (TIMESTAMP, timestamp.to_string()),
            (SIGNATURE, format!("v1a,{}", STANDARD.encode(signature))),
        ])
    }

    /// The thumbprint of the public key (RFC 7638).
    pub fn key_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x).as_bytes()))
    }

    /// The public key as a JSON Web Key Set (RFC 7517, 8037).
    pub fn jwks(&self) -> Value {
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.key_id(), "x": self.x},
        ]})
    }
}

#[cfg(test)]
mod tests {
    use openssl::sign::Verifier;

    use super::*;

    fn verifies(key: &NotificationKey, signed: &[u8], header: &str) -> bool {
        let jwks = key.jwks();
        let x = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
        let public = PKey::public_key_from_raw_bytes(&x, Id::ED25519).unwrap();
        let signature = STANDARD.decode(header.strip_prefix("v1a,").unwrap()).unwrap();
        Verifier::new_without_digest(&public).unwrap().verify_oneshot(&signature, signed).unwrap()
    }

    #[test]
    fn what_is_signed_is_checked_with_what_is_published() {
        let key = NotificationKey::from_secret(b"a secret").unwrap();
        let [id, timestamp, signature] = key.headers("n-1", 1_700_000_000, b"{}").unwrap();
        assert_eq!((id, timestamp), ((ID, "n-1".to_owned()), (TIMESTAMP, "1700000000".to_owned())));
        assert_eq!(signature.0, SIGNATURE);
        assert!(verifies(&key, b"n-1.1700000000.{}", &signature.1));
        assert!(!verifies(&key, b"n-2.1700000000.{}", &signature.1));
        assert!(!verifies(&key, b"n-1.1700000001.{}", &signature.1));
        assert!(!verifies(&key, b"n-1.1700000000.{ }", &signature.1));
    }

    #[test]
    fn the_key_is_the_same_for_the_same_secret_only() {
        let of = |secret: &[u8]| NotificationKey::from_secret(secret).unwrap().jwks();
        assert_eq!(of(b"a"), of(b"a"));
        assert_ne!(of(b"a"), of(b"b"));
        let key = NotificationKey::from_secret(b"a").unwrap();
        assert_eq!(format!("{key:?}"), format!("NotificationKey({:?})", key.key_id()));
    }

    /// RFC 8037 appendix A.3.
    #[test]
    fn the_key_id_is_the_thumbprint() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = NotificationKey::of(PKey::private_key_from_raw_bytes(&seed, Id::ED25519).unwrap()).unwrap();
        assert_eq!(key.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_of_ones_own_is_loaded_and_no_other_kind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.pem");
        assert!(matches!(NotificationKey::load(&path), Err(NotificationKeyFault::File(..))));
        let made = PKey::generate_ed25519().unwrap();
        fs::write(&path, made.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let loaded = NotificationKey::load(&path).unwrap();
        assert_eq!(loaded.x, URL_SAFE_NO_PAD.encode(made.raw_public_key().unwrap()));
        for other in [PKey::generate_x25519().unwrap().private_key_to_pem_pkcs8().unwrap(), b"no key".to_vec()] {
            fs::write(&path, other).unwrap();
            assert!(matches!(NotificationKey::load(&path), Err(NotificationKeyFault::Unusable)));
        }
    }
}
