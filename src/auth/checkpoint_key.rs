//! The key that signs the audit's checkpoints, and its public side for whoever verifies them (design 5).
//!
//! ECDSA on P-384 over SHA-384: any OpenSSL verifies it in one line, without this program:
//!
//! ```text
//! openssl dgst -sha384 -verify audit-checkpoint.pub.pem -signature checkpoint.sig checkpoint
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use openssl::{
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private, Public},
    sha::sha256,
    sign::{Signer, Verifier},
};

use super::{
    key_file::{self, Readers},
    notification_key::{NotificationKey, NotificationKeyFault},
    seal::Seal,
};

/// The private key's file name within the directory given to [`CheckpointKey::generate_into`].
pub const PRIVATE_FILE: &str = "audit-checkpoint.pem";
/// The public key's file name.
pub const PUBLIC_FILE: &str = "audit-checkpoint.pub.pem";

/// Why the key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointKeyFault {
    /// A checkpoint that was signed with a key that is gone can't be verified any more, so no key is overwritten.
    #[error("{} exists already: move it away, and keep the public key for the checkpoints that it signed", .0.display())]
    Exists(PathBuf),
    #[error("the file {} cannot be read or written", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("not an EC P-384 key in PEM: make one with the command that generates the checkpoint key")]
    Unusable,
    #[error("OpenSSL failed")]
    Openssl(#[from] ErrorStack),
}

/// The private key. `Debug` shows its id only.
#[derive(Clone)]
pub struct CheckpointKey {
    key: PKey<Private>,
    public: PublicKey,
}

impl std::fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CheckpointKey").field(&self.public.key_id).finish()
    }
}

impl CheckpointKey {
    /// Makes a key and writes both files: the private one with mode 0600, the public one for all.
    ///
    /// # Errors
    /// [`CheckpointKeyFault::Exists`] when either file is there; nothing is changed then.
    pub fn generate_into(directory: &Path) -> Result<Self, CheckpointKeyFault> {
        for name in [PRIVATE_FILE, PUBLIC_FILE] {
            let path = directory.join(name);
            if path.try_exists().map_err(|e| CheckpointKeyFault::File(path.clone(), e))? {
                return Err(CheckpointKeyFault::Exists(path));
            }
        }
        let ec = EcKey::generate(&*EcGroup::from_curve_name(Nid::SECP384R1)?)?;
        let key = Self::from_private(PKey::from_ec_key(ec)?)?;
        let private = key.key.private_key_to_pem_pkcs8()?;
        write(directory, PRIVATE_FILE, &private, Readers::Owner)?;
        write(directory, PUBLIC_FILE, key.public.to_pem()?.as_bytes(), Readers::All)?;
        Ok(key)
    }

    /// Loads the private key's PEM file.
    ///
    /// # Errors
    /// [`CheckpointKeyFault::File`] or [`CheckpointKeyFault::Unusable`].
    pub fn load(pem_path: &Path) -> Result<Self, CheckpointKeyFault> {
        let pem = fs::read(pem_path).map_err(|e| CheckpointKeyFault::File(pem_path.to_owned(), e))?;
        // OpenSSL would ask at the terminal for the pass phrase of an encrypted key: an empty one makes it fail.
        let key = PKey::private_key_from_pem_passphrase(&pem, b"").map_err(|_| CheckpointKeyFault::Unusable)?;
        Self::from_private(key)
    }

    /// The DER signature (ECDSA, SHA-384) of `data`.
    ///
    /// # Errors
    /// [`CheckpointKeyFault::Openssl`].
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, CheckpointKeyFault> {
        Ok(Signer::new(MessageDigest::sha384(), &self.key)?.sign_oneshot_to_vec(data)?)
    }

    /// A seal of this installation: the key is the one secret that all its processes share.
    ///
    /// # Errors
    /// [`CheckpointKeyFault::Openssl`].
    pub fn seal(&self) -> Result<Seal, CheckpointKeyFault> {
        Ok(Seal::from_secret(&self.key.private_key_to_der()?)?)
    }

    /// The key that signs this installation's notifications, unless it has one of its own for that.
    ///
    /// # Errors
    /// [`NotificationKeyFault::Openssl`].
    pub fn notification_key(&self) -> Result<NotificationKey, NotificationKeyFault> {
        NotificationKey::from_secret(&self.key.private_key_to_der()?)
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// See [`PublicKey::key_id`].
    pub fn key_id(&self) -> &str {
        self.public.key_id()
    }

    fn from_private(key: PKey<Private>) -> Result<Self, CheckpointKeyFault> {
        let public = PublicKey::from_der(&key.public_key_to_der()?)?;
        Ok(Self { key, public })
    }
}

/// The public key.
#[derive(Clone)]
pub struct PublicKey {
    key: PKey<Public>,
    key_id: String,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PublicKey").field(&self.key_id).finish()
    }
}

impl PublicKey {
    /// # Errors
    /// [`CheckpointKeyFault::Unusable`] when it isn't an EC P-384 public key.
    pub fn from_pem(pem: &str) -> Result<Self, CheckpointKeyFault> {
        let key = PKey::public_key_from_pem(pem.as_bytes()).map_err(|_| CheckpointKeyFault::Unusable)?;
        Self::from_der(&key.public_key_to_der()?)
    }

    /// # Errors
    /// [`CheckpointKeyFault::File`] or [`CheckpointKeyFault::Unusable`].
    pub fn load(pem_path: &Path) -> Result<Self, CheckpointKeyFault> {
        let pem = fs::read_to_string(pem_path).map_err(|e| CheckpointKeyFault::File(pem_path.to_owned(), e))?;
        Self::from_pem(&pem)
    }

    /// True if `signature` was made over `data` with the private key. Anything malformed is false.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        Verifier::new(MessageDigest::sha384(), &self.key)
            .and_then(|mut v| v.verify_oneshot(signature, data))
            .unwrap_or(false)
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the key's `SubjectPublicKeyInfo` in DER.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// # Errors
    /// [`CheckpointKeyFault::Openssl`].
    pub fn to_pem(&self) -> Result<String, CheckpointKeyFault> {
        Ok(String::from_utf8_lossy(&self.key.public_key_to_pem()?).into_owned())
    }

    fn from_der(der: &[u8]) -> Result<Self, CheckpointKeyFault> {
        let key = PKey::public_key_from_der(der)?;
        let curve = key.ec_key().ok().and_then(|ec| ec.group().curve_name());
        if curve != Some(Nid::SECP384R1) {
            return Err(CheckpointKeyFault::Unusable);
        }
        let key_id = sha256(der).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { key, key_id })
    }
}

fn write(directory: &Path, name: &str, content: &[u8], readers: Readers) -> Result<(), CheckpointKeyFault> {
    key_file::write_new(directory, name, content, readers).map_err(|error| {
        let path = directory.join(name);
        match error.kind() {
            io::ErrorKind::AlreadyExists => CheckpointKeyFault::Exists(path),
            _ => CheckpointKeyFault::File(path, error),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_loaded_key_signs_what_the_public_file_verifies() {
        let directory = tempfile::tempdir().unwrap();
        let made = CheckpointKey::generate_into(directory.path()).unwrap();
        let loaded = CheckpointKey::load(&directory.path().join(PRIVATE_FILE)).unwrap();
        let public = PublicKey::load(&directory.path().join(PUBLIC_FILE)).unwrap();
        assert_eq!(made.key_id(), loaded.key_id());
        assert_eq!(public.key_id(), loaded.key_id());
        assert!(public.key_id().len() == 16 && public.key_id().bytes().all(|b| b.is_ascii_hexdigit()));
        let signature = loaded.sign(b"head 7").unwrap();
        assert!(public.verify(b"head 7", &signature));
        assert!(!public.verify(b"head 8", &signature));
        let mut bent = signature.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert!(!public.verify(b"head 7", &bent));
        assert!(!public.verify(b"head 7", b""));
    }

    #[test]
    fn another_key_does_not_verify() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (CheckpointKey::generate_into(a.path()).unwrap(), CheckpointKey::generate_into(b.path()).unwrap());
        assert_ne!(a.key_id(), b.key_id());
        assert!(!b.public().verify(b"head", &a.sign(b"head").unwrap()));
    }

    #[test]
    fn files_are_private_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        CheckpointKey::generate_into(directory.path()).unwrap();
        let private = directory.path().join(PRIVATE_FILE);
        let before = fs::read(&private).unwrap();
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(CheckpointKey::generate_into(directory.path()), Err(CheckpointKeyFault::Exists(_))));
        assert_eq!(fs::read(&private).unwrap(), before);
        fs::remove_file(&private).unwrap();
        // The old public key alone still forbids a new pair beside it.
        assert!(matches!(CheckpointKey::generate_into(directory.path()), Err(CheckpointKeyFault::Exists(_))));
        assert!(!private.exists());
    }

    #[test]
    fn other_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.pem");
        assert!(matches!(CheckpointKey::load(&path), Err(CheckpointKeyFault::File(..))));
        let p256 = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
        let p256 = PKey::from_ec_key(p256).unwrap();
        let p384 = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP384R1).unwrap()).unwrap();
        let encrypted = PKey::from_ec_key(p384)
            .unwrap()
            .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_256_cbc(), b"secret")
            .unwrap();
        for pem in [
            b"no key".to_vec(),
            p256.private_key_to_pem_pkcs8().unwrap(),
            PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap(),
            encrypted,
        ] {
            fs::write(&path, pem).unwrap();
            assert!(matches!(CheckpointKey::load(&path), Err(CheckpointKeyFault::Unusable)));
        }
        let public = String::from_utf8(p256.public_key_to_pem().unwrap()).unwrap();
        assert!(matches!(PublicKey::from_pem(&public), Err(CheckpointKeyFault::Unusable)));
    }

    #[test]
    fn debug_shows_the_id_only() {
        let directory = tempfile::tempdir().unwrap();
        let key = CheckpointKey::generate_into(directory.path()).unwrap();
        assert_eq!(format!("{key:?}"), format!("CheckpointKey({:?})", key.key_id()));
    }
}
