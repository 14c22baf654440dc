//! Sealed texts: what the program hands out to get it back, such as where a page begins, and nobody else may read or make.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::{
    error::ErrorStack,
    hash::{Hasher, MessageDigest},
    symm::{Cipher, decrypt_aead, encrypt_aead},
};

const NONCE: usize = 12;
const TAG: usize = 16;
/// What is sealed is filled up with spaces to a multiple of this many bytes, so that its length doesn't tell how large the
/// numbers in it are.
const BLOCK: usize = 96;

/// AES-256-GCM under a key of this installation. The nonce is made from what is sealed: the same text for the same
/// purpose looks the same, and a nonce never comes twice for different ones.
#[derive(Clone)]
pub struct Seal {
    key: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    /// A key out of another secret of the installation, which can't be told from it.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn from_secret(secret: &[u8]) -> Result<Self, ErrorStack> {
        Ok(Self { key: digest(&[b"cpis-gateway seal", secret])? })
    }

    /// Text for a URL. Only [`Seal::opened`] with the same `purpose` reads it.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn sealed(&self, purpose: &str, mut content: Vec<u8>) -> Result<String, ErrorStack> {
        content.resize(content.len().next_multiple_of(BLOCK), b' ');
        let made = digest(&[&self.key, purpose.as_bytes(), b"\0", &content])?;
        let (nonce, mut tag) = (&made[..NONCE], [0; TAG]);
        let hidden =
            encrypt_aead(Cipher::aes_256_gcm(), &self.key, Some(nonce), purpose.as_bytes(), &content, &mut tag)?;
        Ok(URL_SAFE_NO_PAD.encode([nonce, &tag, &hidden].concat()))
    }

    /// What was sealed, filled up with spaces; `None` for what was not sealed by this installation for this purpose.
    pub fn opened(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, rest) = bytes.split_at_checked(NONCE)?;
        let (tag, hidden) = rest.split_at_checked(TAG)?;
        decrypt_aead(Cipher::aes_256_gcm(), &self.key, Some(nonce), purpose.as_bytes(), hidden, tag).ok()
    }
}

fn digest(parts: &[&[u8]]) -> Result<[u8; 32], ErrorStack> {
    let mut hasher = Hasher::new(MessageDigest::sha256())?;
    for part in parts {
        hasher.update(part)?;
    }
    let mut made = [0; 32];
    made.copy_from_slice(&hasher.finish()?);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_purpose_open_what_is_whole() {
        let seal = Seal::from_secret(b"a").unwrap();
        let text = seal.sealed("this", b"{\"at\":5}".to_vec()).unwrap();
        let opened = seal.opened("this", &text).unwrap();
        assert_eq!(std::str::from_utf8(&opened).unwrap().trim_end(), "{\"at\":5}");
        assert_eq!(seal.opened("that", &text), None);
        assert_eq!(Seal::from_secret(b"b").unwrap().opened("this", &text), None);
        for at in 0..text.len() {
            let mut bent = text.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(seal.opened("this", std::str::from_utf8(&bent).unwrap()), None, "{at}");
        }
        for rubbish in ["", "A", "AAAA", &text[..20], &text[1..]] {
            assert_eq!(seal.opened("this", rubbish), None);
        }
    }

    #[test]
    fn the_length_does_not_tell_the_number() {
        let seal = Seal::from_secret(b"a").unwrap();
        let length = |text: &str| seal.sealed("this", text.into()).unwrap().len();
        assert_eq!(length("{\"at\":5}"), length("{\"at\":9223372036854775807}"));
    }
}
