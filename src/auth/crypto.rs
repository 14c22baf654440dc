//! The `CryptoProvider` that lets the `jsonwebtoken` crate sign and verify with OpenSSL.
//!
//! Only RS256, RS512, PS256, ES256 and ES384 exist here: for any other algorithm (every HS* above all) there is neither
//! a signer nor a verifier, whatever key is offered.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind, Result},
    jwk::{EllipticCurve, ThumbprintHash},
    signature::{self, Signer, Verifier},
};
use openssl::{
    bn::{BigNum, BigNumContext},
    ec::{EcGroup, EcKey, EcPoint},
    ecdsa::EcdsaSig,
    error::ErrorStack,
    hash::{MessageDigest, hash},
    nid::Nid,
    pkey::{PKey, Private, Public},
    rsa::{Padding, Rsa},
    sign::RsaPssSaltlen,
};

/// The algorithms that a token may be signed with, in order of preference.
pub const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS512, Algorithm::RS256, Algorithm::PS256, Algorithm::ES384, Algorithm::ES256];

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: new_signer,
    verifier_factory: new_verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |der| {
            let key = PKey::private_key_from_der(der).and_then(|k| k.rsa()).map_err(rejected)?;
            Ok((key.n().to_vec(), key.e().to_vec()))
        },
        rsa_pub_components_from_public_key: |der| {
            let key = Rsa::public_key_from_der_pkcs1(der).map_err(rejected)?;
            Ok((key.n().to_vec(), key.e().to_vec()))
        },
        ec_pub_components_from_private_key: ec_components,
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: digest,
    },
};

/// Makes OpenSSL the process's provider for `jsonwebtoken`; harmless to repeat. The crate panics when it is asked to
/// sign or verify without one, so everything here that does either calls this first.
pub fn install() {
    static INSTALLED: Once = Once::new();
    // An error would mean that one is installed already; nothing else in this program installs any.
    INSTALLED.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// OpenSSL's reasons may quote what was parsed, so they are not carried on.
fn rejected(_: ErrorStack) -> Error {
    ErrorKind::InvalidKeyFormat.into()
}

fn failed(_: ErrorStack) -> signature::Error {
    signature::Error::new()
}

/// What an algorithm does with a message.
#[derive(Clone, Copy)]
enum Scheme {
    Pkcs1(MessageDigest),
    Pss(MessageDigest),
    /// Curve, digest, and the length in bytes of each half of the signature (RFC 7518 3.4).
    Ecdsa(Nid, MessageDigest, usize),
}

fn scheme(algorithm: Algorithm) -> Result<Scheme> {
    match algorithm {
        Algorithm::RS256 => Ok(Scheme::Pkcs1(MessageDigest::sha256())),
        Algorithm::RS512 => Ok(Scheme::Pkcs1(MessageDigest::sha512())),
        Algorithm::PS256 => Ok(Scheme::Pss(MessageDigest::sha256())),
        Algorithm::ES256 => Ok(Scheme::Ecdsa(Nid::X9_62_PRIME256V1, MessageDigest::sha256(), 32)),
        Algorithm::ES384 => Ok(Scheme::Ecdsa(Nid::SECP384R1, MessageDigest::sha384(), 48)),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn new_signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let scheme = scheme(*algorithm)?;
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = PKey::private_key_from_der(key.as_bytes()).map_err(rejected)?;
    if let Scheme::Ecdsa(curve, ..) = scheme {
        let ec = key.ec_key().map_err(rejected)?;
        if ec.group().curve_name() != Some(curve) {
            return Err(ErrorKind::InvalidEcdsaKey.into());
        }
    }
    Ok(Box::new(OpensslSigner { algorithm: *algorithm, scheme, key }))
}

fn new_verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let scheme = scheme(*algorithm)?;
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = match scheme {
        Scheme::Ecdsa(curve, ..) => ec_public_key(curve, key.try_get_as_bytes()?).and_then(PKey::from_ec_key),
        Scheme::Pkcs1(_) | Scheme::Pss(_) => rsa_public_key(key).and_then(PKey::from_rsa),
    }
    .map_err(rejected)?;
    Ok(Box::new(OpensslVerifier { algorithm: *algorithm, scheme, key }))
}

fn rsa_public_key(key: &DecodingKey) -> std::result::Result<Rsa<Public>, ErrorStack> {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => Rsa::public_key_from_der_pkcs1(der),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            Rsa::from_public_components(BigNum::from_slice(n)?, BigNum::from_slice(e)?)
        }
    }
}

/// `point` as SEC 1 writes it, uncompressed; checked to lie on the curve.
fn ec_public_key(curve: Nid, point: &[u8]) -> std::result::Result<EcKey<Public>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    let key = EcKey::from_public_key(&group, &point)?;
    key.check_key()?;
    Ok(key)
}

struct OpensslSigner {
    algorithm: Algorithm,
    scheme: Scheme,
    key: PKey<Private>,
}

impl OpensslSigner {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, ErrorStack> {
        match self.scheme {
            Scheme::Pkcs1(digest) => openssl::sign::Signer::new(digest, &self.key)?.sign_oneshot_to_vec(message),
            Scheme::Pss(digest) => {
                let mut signer = openssl::sign::Signer::new(digest, &self.key)?;
                signer.set_rsa_padding(Padding::PKCS1_PSS)?;
                signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                signer.set_rsa_mgf1_md(digest)?;
                signer.sign_oneshot_to_vec(message)
            }
            Scheme::Ecdsa(_, digest, half) => {
                let key = self.key.ec_key()?;
                let signature = EcdsaSig::sign(&hash(digest, message)?, &key)?;
                let half = i32::try_from(half).unwrap_or(i32::MAX);
                Ok([signature.r().to_vec_padded(half)?, signature.s().to_vec_padded(half)?].concat())
            }
        }
    }
}

impl Signer<Vec<u8>> for OpensslSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        self.sign(message).map_err(failed)
    }
}

impl JwtSigner for OpensslSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct OpensslVerifier {
    algorithm: Algorithm,
    scheme: Scheme,
    key: PKey<Public>,
}

impl OpensslVerifier {
    fn fits(&self, message: &[u8], signature: &[u8]) -> std::result::Result<bool, ErrorStack> {
        match self.scheme {
            Scheme::Pkcs1(digest) => {
                openssl::sign::Verifier::new(digest, &self.key)?.verify_oneshot(signature, message)
            }
            Scheme::Pss(digest) => {
                let mut verifier = openssl::sign::Verifier::new(digest, &self.key)?;
                verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                verifier.set_rsa_mgf1_md(digest)?;
                verifier.verify_oneshot(signature, message)
            }
            Scheme::Ecdsa(_, digest, half) => {
                let Some((r, s)) = signature.split_at_checked(half).filter(|(_, s)| s.len() == half) else {
                    return Ok(false);
                };
                let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
                let key = self.key.ec_key()?;
                signature.verify(&hash(digest, message)?, &key)
            }
        }
    }
}

impl Verifier<Vec<u8>> for OpensslVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        match self.fits(message, signature) {
            Ok(true) => Ok(()),
            // OpenSSL reports a malformed signature as an error; to the caller it is one that does not fit.
            Ok(false) | Err(_) => Err(signature::Error::new()),
        }
    }
}

impl JwtVerifier for OpensslVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn ec_components(der: &[u8], algorithm: Algorithm) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>)> {
    let Scheme::Ecdsa(_, _, half) = scheme(algorithm)? else {
        return Err(ErrorKind::InvalidAlgorithm.into());
    };
    let curve = if half == 32 { EllipticCurve::P256 } else { EllipticCurve::P384 };
    let (x, y) = ec_coordinates(der, half).map_err(rejected)?;
    Ok((curve, x, y))
}

fn ec_coordinates(der: &[u8], half: usize) -> std::result::Result<(Vec<u8>, Vec<u8>), ErrorStack> {
    let key = PKey::private_key_from_der(der)?.ec_key()?;
    let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
    key.public_key().affine_coordinates(key.group(), &mut x, &mut y, &mut *BigNumContext::new()?)?;
    let half = i32::try_from(half).unwrap_or(i32::MAX);
    Ok((x.to_vec_padded(half)?, y.to_vec_padded(half)?))
}

fn digest(data: &[u8], name: ThumbprintHash) -> Result<Vec<u8>> {
    let digest = match name {
        ThumbprintHash::SHA256 => MessageDigest::sha256(),
        ThumbprintHash::SHA384 => MessageDigest::sha384(),
        ThumbprintHash::SHA512 => MessageDigest::sha512(),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(hash(digest, data).map_err(rejected)?.to_vec())
}

/// Those of [`ALGORITHMS`] that a key of this family (and, for EC, this curve) may be used with.
pub(super) fn algorithms_of(family: AlgorithmFamily, curve: Option<Nid>) -> Vec<Algorithm> {
    ALGORITHMS
        .into_iter()
        .filter(|a| a.family() == family)
        .filter(|a| match scheme(*a) {
            Ok(Scheme::Ecdsa(own, ..)) => Some(own) == curve,
            Ok(_) => true,
            Err(_) => false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};

    use super::*;

    fn keys() -> Vec<(Algorithm, EncodingKey)> {
        let ec = |curve| {
            let key = EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
            EncodingKey::from_ec_der(&PKey::from_ec_key(key).unwrap().private_key_to_pkcs8().unwrap())
        };
        let rsa = EncodingKey::from_rsa_der(&Rsa::generate(2048).unwrap().private_key_to_der().unwrap());
        vec![
            (Algorithm::RS512, rsa.clone()),
            (Algorithm::RS256, rsa.clone()),
            (Algorithm::PS256, rsa),
            (Algorithm::ES256, ec(Nid::X9_62_PRIME256V1)),
            (Algorithm::ES384, ec(Nid::SECP384R1)),
        ]
    }

    #[test]
    fn what_is_signed_verifies_with_the_public_side() {
        install();
        for (algorithm, key) in keys() {
            let public = DecodingKey::from_jwk(&Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
            let signature = jsonwebtoken::crypto::sign(b"message", &key, algorithm).unwrap();
            let fits = |message: &[u8]| jsonwebtoken::crypto::verify(&signature, message, &public, algorithm).unwrap();
            assert!(fits(b"message"), "{algorithm:?}");
            assert!(!fits(b"massage"), "{algorithm:?}");
        }
    }

    #[test]
    fn the_components_of_a_private_key_have_the_length_of_its_curve() {
        install();
        for (algorithm, key) in keys() {
            if let AlgorithmParameters::EllipticCurve(ec) = Jwk::from_encoding_key(&key, algorithm).unwrap().algorithm {
                let bytes = if algorithm == Algorithm::ES256 { 43 } else { 64 };
                assert_eq!((ec.x.len(), ec.y.len()), (bytes, bytes), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn nothing_signs_or_verifies_by_another_algorithm_or_family() {
        let hmac = (EncodingKey::from_secret(b"secret"), DecodingKey::from_secret(b"secret"));
        for (_, key) in keys() {
            for other in [Algorithm::HS256, Algorithm::HS512, Algorithm::RS384, Algorithm::PS512, Algorithm::EdDSA] {
                assert!(new_signer(&other, &key).is_err(), "{other:?}");
                assert!(new_verifier(&other, &hmac.1).is_err(), "{other:?}");
            }
        }
        for algorithm in ALGORITHMS {
            assert!(new_signer(&algorithm, &hmac.0).is_err(), "{algorithm:?}");
            assert!(new_verifier(&algorithm, &hmac.1).is_err(), "{algorithm:?}");
        }
        let (_, p256) = keys().swap_remove(3);
        assert!(new_signer(&Algorithm::ES384, &p256).is_err());
    }
}
