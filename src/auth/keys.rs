//! Issuers and the public keys that their tokens are verified with, from PEM or JWKS text.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use openssl::{
    bn::{BigNum, BigNumContext},
    ec::{EcGroup, EcKey, PointConversionForm},
    error::ErrorStack,
    nid::Nid,
    pkey::{Id, PKey, Public},
    rsa::Rsa,
};

use super::crypto;

/// Fewer bits in an RSA key are refused (NIST SP 800-131A).
const LEAST_RSA_BITS: u32 = 2048;

/// A public key of an issuer and the algorithms that it may be used with: the token doesn't choose beyond these.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    pub(super) kid: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// Why key material was refused. The texts say nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("not a public key in PEM (BEGIN PUBLIC KEY) or a JWK")]
    Unreadable,
    #[error("this is a private or secret key: configure the issuer's public key only")]
    Private,
    #[error("not a kind of key that is accepted: use RSA, EC P-256 or EC P-384")]
    Unsupported,
    #[error("the RSA key is too weak: 2048 bits at least")]
    Weak,
    #[error("the key has no key id (kid)")]
    NoKeyId,
    #[error("two keys of the issuer have the same key id (kid)")]
    DuplicateKeyId,
    #[error("the key set holds no key that tokens can be verified with")]
    NoUsableKey,
    #[error("two issuers have the same name")]
    DuplicateIssuer,
    #[error("an issuer needs a name and an audience")]
    Unnamed,
}

impl VerifyingKey {
    /// From a `BEGIN PUBLIC KEY` PEM; `kid` is the id that tokens name it by.
    ///
    /// # Errors
    /// [`KeyFault`] when it isn't an acceptable public key or `kid` is empty.
    pub fn from_pem(kid: &str, pem: &str) -> Result<Self, KeyFault> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyFault::Private);
        }
        let key = PKey::public_key_from_pem(pem.as_bytes()).map_err(|_| KeyFault::Unreadable)?;
        match key.id() {
            Id::RSA => Self::from_rsa(kid, &key.rsa().map_err(|_| KeyFault::Unreadable)?, None),
            Id::EC => Self::from_ec(kid, &key.ec_key().map_err(|_| KeyFault::Unreadable)?, None),
            _ => Err(KeyFault::Unsupported),
        }
    }

    /// From the text of one JWK (RFC 7517). Its `alg`, if given, is the only algorithm accepted with it.
    ///
    /// # Errors
    /// [`KeyFault`], also for a key with private parts or one whose `use` isn't `sig`.
    pub fn from_jwk(text: &str) -> Result<Self, KeyFault> {
        Self::from_jwk_value(serde_json::from_str(text).map_err(|_| KeyFault::Unreadable)?)
    }

    /// From the text of a JWK set. Keys for other uses or of other kinds are passed over, as RFC 7517 5 asks.
    ///
    /// # Errors
    /// [`KeyFault::Private`] when any key has private or secret parts; [`KeyFault::NoUsableKey`] when none is left.
    pub fn from_jwks(text: &str) -> Result<Vec<Self>, KeyFault> {
        #[derive(serde::Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_str(text).map_err(|_| KeyFault::Unreadable)?;
        let mut usable = Vec::new();
        for value in set.keys {
            match Self::from_jwk_value(value) {
                Ok(key) => usable.push(key),
                Err(KeyFault::Private) => return Err(KeyFault::Private),
                Err(_) => {}
            }
        }
        if usable.is_empty() { Err(KeyFault::NoUsableKey) } else { Ok(usable) }
    }

    /// The id that tokens name the key by.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn from_jwk_value(value: serde_json::Value) -> Result<Self, KeyFault> {
        // `d` is the private part of RSA, EC and OKP keys, `k` the secret of a symmetric one.
        if value.get("d").is_some() || value.get("k").is_some() {
            return Err(KeyFault::Private);
        }
        if value.get("use").is_some_and(|u| u != "sig") {
            return Err(KeyFault::Unsupported);
        }
        let only = match value.get("alg") {
            None | Some(serde_json::Value::Null) => None,
            Some(name) => Some(name.as_str().and_then(|n| n.parse::<Algorithm>().ok()).ok_or(KeyFault::Unsupported)?),
        };
        let jwk: Jwk = serde_json::from_value(value).map_err(|_| KeyFault::Unreadable)?;
        let kid = jwk.common.key_id.as_deref().ok_or(KeyFault::NoKeyId)?;
        match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let key = rsa_from_parts(&decode(&rsa.n)?, &decode(&rsa.e)?).map_err(|_| KeyFault::Unreadable)?;
                Self::from_rsa(kid, &key, only)
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let curve = match ec.curve {
                    EllipticCurve::P256 => Nid::X9_62_PRIME256V1,
                    EllipticCurve::P384 => Nid::SECP384R1,
                    _ => return Err(KeyFault::Unsupported),
                };
                let key = ec_from_parts(curve, &decode(&ec.x)?, &decode(&ec.y)?).map_err(|_| KeyFault::Unreadable)?;
                Self::from_ec(kid, &key, only)
            }
            _ => Err(KeyFault::Unsupported),
        }
    }

    fn from_rsa(kid: &str, key: &Rsa<Public>, only: Option<Algorithm>) -> Result<Self, KeyFault> {
        // An exponent of 1 would make every message its own signature.
        if key.n().num_bits().unsigned_abs() < LEAST_RSA_BITS || key.e().num_bits() < 2 {
            return Err(KeyFault::Weak);
        }
        let decoding = DecodingKey::from_rsa_raw_components(&key.n().to_vec(), &key.e().to_vec());
        Self::build(kid, crypto::algorithms_of(AlgorithmFamily::Rsa, None), only, decoding)
    }

    fn from_ec(kid: &str, key: &EcKey<Public>, only: Option<Algorithm>) -> Result<Self, KeyFault> {
        let algorithms = crypto::algorithms_of(AlgorithmFamily::Ec, key.group().curve_name());
        let point = BigNumContext::new()
            .and_then(|mut c| key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut c))
            .map_err(|_| KeyFault::Unreadable)?;
        Self::build(kid, algorithms, only, DecodingKey::from_ec_der(&point))
    }

    fn build(
        kid: &str,
        mut algorithms: Vec<Algorithm>,
        only: Option<Algorithm>,
        key: DecodingKey,
    ) -> Result<Self, KeyFault> {
        if kid.is_empty() {
            return Err(KeyFault::NoKeyId);
        }
        algorithms.retain(|a| only.is_none_or(|only| only == *a));
        if algorithms.is_empty() {
            return Err(KeyFault::Unsupported);
        }
        Ok(Self { kid: kid.to_owned(), algorithms, key })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, KeyFault> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Unreadable)
}

fn rsa_from_parts(n: &[u8], e: &[u8]) -> Result<Rsa<Public>, ErrorStack> {
    Rsa::from_public_components(BigNum::from_slice(n)?, BigNum::from_slice(e)?)
}

fn ec_from_parts(curve: Nid, x: &[u8], y: &[u8]) -> Result<EcKey<Public>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    // Refuses a point that doesn't lie on the curve.
    EcKey::from_public_key_affine_coordinates(&group, &*BigNum::from_slice(x)?, &*BigNum::from_slice(y)?)
}

/// Who may issue tokens: the `iss` that they carry, the `aud` that they must be for, and the keys that sign them.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) keys: Vec<VerifyingKey>,
}

impl Issuer {
    /// # Errors
    /// [`KeyFault`] when there is no key, two share an id, or a name is empty.
    pub fn new(issuer: &str, audience: &str, keys: Vec<VerifyingKey>) -> Result<Self, KeyFault> {
        if issuer.is_empty() || audience.is_empty() {
            return Err(KeyFault::Unnamed);
        }
        if keys.is_empty() {
            return Err(KeyFault::NoUsableKey);
        }
        let mut kids: Vec<&str> = keys.iter().map(VerifyingKey::kid).collect();
        kids.sort_unstable();
        if kids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(KeyFault::DuplicateKeyId);
        }
        Ok(Self { issuer: issuer.to_owned(), audience: audience.to_owned(), keys })
    }

    /// The `iss` of its tokens.
    pub fn name(&self) -> &str {
        &self.issuer
    }

    /// True for the sandbox's own issuer, and for any that uses the sandbox's key id: refuse both outside the sandbox.
    pub fn is_sandbox(&self) -> bool {
        super::sandbox::is_sandbox_issuer(&self.issuer) || self.keys.iter().any(|k| k.kid == super::sandbox::KID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(bits: u32) -> PKey<openssl::pkey::Private> {
        PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
    }

    fn public_pem(key: &PKey<openssl::pkey::Private>) -> String {
        String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
    }

    fn b64(bytes: &[u8]) -> String {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn a_pem_decides_its_algorithms() {
        let key = VerifyingKey::from_pem("a", &public_pem(&rsa(2048))).unwrap();
        assert_eq!(key.algorithms, [Algorithm::RS512, Algorithm::RS256, Algorithm::PS256]);
        for (curve, algorithm) in [(Nid::X9_62_PRIME256V1, Algorithm::ES256), (Nid::SECP384R1, Algorithm::ES384)] {
            let group = EcGroup::from_curve_name(curve).unwrap();
            let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
            assert_eq!(VerifyingKey::from_pem("a", &public_pem(&key)).unwrap().algorithms, [algorithm]);
        }
    }

    #[test]
    fn bad_key_material_is_refused() {
        let refused = |pem: &str| VerifyingKey::from_pem("a", pem).unwrap_err();
        let key = rsa(2048);
        let private = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        assert_eq!(refused(&private), KeyFault::Private);
        assert_eq!(refused(&public_pem(&rsa(1024))), KeyFault::Weak);
        assert_eq!(refused("no key"), KeyFault::Unreadable);
        assert_eq!(refused(&public_pem(&PKey::generate_ed25519().unwrap())), KeyFault::Unsupported);
        let p521 = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP521R1).unwrap()).unwrap();
        assert_eq!(refused(&public_pem(&PKey::from_ec_key(p521).unwrap())), KeyFault::Unsupported);
        assert_eq!(VerifyingKey::from_pem("", &public_pem(&key)).unwrap_err(), KeyFault::NoKeyId);
        let one = Rsa::from_public_components(key.rsa().unwrap().n().to_owned().unwrap(), BigNum::from_u32(1).unwrap());
        assert_eq!(VerifyingKey::from_rsa("a", &one.unwrap(), None).unwrap_err(), KeyFault::Weak);
    }

    #[test]
    fn a_key_set_keeps_the_signing_keys() {
        let key = rsa(2048).rsa().unwrap();
        let (n, e) = (b64(&key.n().to_vec()), b64(&key.e().to_vec()));
        let jwk = |more: &str| format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"{more}}}"#);
        let set = |keys: &[String]| VerifyingKey::from_jwks(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
        let kept = set(&[
            jwk(r#","kid":"sig","use":"sig","alg":"RS512""#),
            jwk(r#","kid":"enc","use":"enc""#),
            jwk(r#","kid":"oaep","alg":"RSA-OAEP""#),
            jwk(r#","kid":"hs","alg":"HS256""#),
            jwk(""),
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA","kid":"ed"}"#.to_owned(),
            r#"{"kty":"new","kid":"new"}"#.to_owned(),
        ])
        .unwrap();
        assert_eq!(kept.iter().map(VerifyingKey::kid).collect::<Vec<_>>(), ["sig"]);
        assert_eq!(kept[0].algorithms, [Algorithm::RS512]);
        assert_eq!(set(&[]).unwrap_err(), KeyFault::NoUsableKey);
        assert_eq!(set(&[jwk(r#","kid":"p","d":"AAAA""#)]).unwrap_err(), KeyFault::Private);
        assert_eq!(set(&[r#"{"kty":"oct","k":"AAAA","kid":"s"}"#.to_owned()]).unwrap_err(), KeyFault::Private);
        assert_eq!(VerifyingKey::from_jwks("[]").unwrap_err(), KeyFault::Unreadable);
        let off_curve = format!(r#"{{"kty":"EC","crv":"P-256","kid":"c","x":"{0}","y":"{0}"}}"#, b64(&[1; 32]));
        assert_eq!(VerifyingKey::from_jwk(&off_curve).unwrap_err(), KeyFault::Unreadable);
    }

    #[test]
    fn an_issuer_needs_distinct_keys_and_names() {
        let key = VerifyingKey::from_pem("a", &public_pem(&rsa(2048))).unwrap();
        let fault = |issuer, keys| Issuer::new(issuer, "aud", keys).unwrap_err();
        assert_eq!(fault("urn:a", vec![]), KeyFault::NoUsableKey);
        assert_eq!(fault("urn:a", vec![key.clone(), key.clone()]), KeyFault::DuplicateKeyId);
        assert_eq!(fault("", vec![key.clone()]), KeyFault::Unnamed);
        assert!(!Issuer::new("urn:a", "aud", vec![key]).unwrap().is_sandbox());
    }
}
