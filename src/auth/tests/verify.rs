//! Verification of tokens: each fault, each algorithm, and the known attacks.

use super::*;

#[test]
fn every_accepted_algorithm_verifies_and_only_with_its_own_signature() {
    let pkcs1 = |digest| move |m: &[u8]| Signer::new(digest, &RSA).unwrap().sign_oneshot_to_vec(m).unwrap();
    let pss = |m: &[u8]| {
        let mut signer = Signer::new(MessageDigest::sha256(), &RSA).unwrap();
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
        signer.sign_oneshot_to_vec(m).unwrap()
    };
    type Sign<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
    let all: [(&str, &str, Sign<'_>); 5] = [
        ("RS512", "rsa", Box::new(pkcs1(MessageDigest::sha512()))),
        ("RS256", "rsa", Box::new(pkcs1(MessageDigest::sha256()))),
        ("PS256", "rsa", Box::new(pss)),
        ("ES256", "p256", Box::new(|m| raw_ecdsa(&P256, MessageDigest::sha256(), 32, m))),
        ("ES384", "p384", Box::new(|m| raw_ecdsa(&P384, MessageDigest::sha384(), 48, m))),
    ];
    for (algorithm, kid, sign) in &all {
        let header = json!({"alg": algorithm, "kid": kid});
        assert_eq!(verify(&signed_with(&header, &claims(json!({})), sign)).unwrap().client_id, "ed-system");
        for (other, _, sign_otherwise) in all.iter().filter(|(other, ..)| other != algorithm) {
            let token = signed_with(&header, &claims(json!({})), sign_otherwise);
            assert_eq!(verify(&token), Err(TokenFault::BadSignature), "{algorithm} with {other}");
        }
    }
}

#[test]
fn a_key_from_a_jwk_verifies_too() {
    let (rsa, ec) = (RSA.rsa().unwrap(), P384.ec_key().unwrap());
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = openssl::bn::BigNumContext::new().unwrap();
    ec.public_key().affine_coordinates(ec.group(), &mut x, &mut y, &mut context).unwrap();
    let b64 = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    let set = json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "use": "sig", "n": b64(rsa.n().to_vec()), "e": b64(rsa.e().to_vec())},
        {"kty": "EC", "kid": "p384", "crv": "P-384", "alg": "ES384",
            "x": b64(x.to_vec_padded(48).unwrap()), "y": b64(y.to_vec_padded(48).unwrap())},
    ]});
    let keys = VerifyingKey::from_jwks(&set.to_string()).unwrap();
    let tokens = Tokens::new(vec![Issuer::new(ISSUER, AUDIENCE, keys).unwrap()]).unwrap();
    assert!(tokens.verify(&signed(&claims(json!({}))), now()).is_ok());
    let es384 = signed_with(&json!({"alg": "ES384", "kid": "p384"}), &claims(json!({})), |m| {
        raw_ecdsa(&P384, MessageDigest::sha384(), 48, m)
    });
    assert!(tokens.verify(&es384, now()).is_ok());
}

#[test]
fn the_algorithm_is_never_the_tokens_choice() {
    let hmac = |secret: &[u8]| {
        let key = PKey::hmac(secret).unwrap();
        move |m: &[u8]| Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(m).unwrap()
    };
    let header = |algorithm: &str, kid: &str| json!({"alg": algorithm, "kid": kid});
    let public = pem(&RSA);
    for secret in [public.as_bytes(), public.trim_end().as_bytes(), &RSA.public_key_to_der().unwrap()] {
        let token = signed_with(&header("HS256", "rsa"), &claims(json!({})), hmac(secret));
        assert_eq!(verify(&token), Err(TokenFault::WrongAlgorithm));
    }
    for none in ["none", "None", "NONE", "", "rs512", "HS512", "RS384", "EdDSA"] {
        let token = signed_with(&header(none, "rsa"), &claims(json!({})), rs512);
        assert_eq!(verify(&token), Err(TokenFault::WrongAlgorithm), "{none}");
        let unsigned = signed_with(&header(none, "rsa"), &claims(json!({})), |_| vec![]);
        assert_eq!(verify(&unsigned), Err(TokenFault::WrongAlgorithm), "{none}, unsigned");
    }
    for (algorithm, kid) in [("RS512", "p384"), ("ES256", "p384"), ("ES384", "p256"), ("ES384", "rsa")] {
        let token = signed_with(&header(algorithm, kid), &claims(json!({})), rs512);
        assert_eq!(verify(&token), Err(TokenFault::WrongAlgorithm), "{algorithm} {kid}");
    }
    // Refused for the algorithm alone, before anything else in the token is looked at.
    let stranger = signed_with(&header("HS256", "rsa"), &claims(json!({"iss": "urn:stranger"})), rs512);
    assert_eq!(verify(&stranger), Err(TokenFault::WrongAlgorithm));
    let unsigned = signed_with(&header("RS512", "rsa"), &claims(json!({})), |_| vec![]);
    assert_eq!(verify(&unsigned), Err(TokenFault::BadSignature));
}

#[test]
fn a_key_in_the_header_is_not_believed() {
    let own = Rsa::generate(2048).unwrap();
    let jwk = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(own.n().to_vec()),
        "e": URL_SAFE_NO_PAD.encode(own.e().to_vec())});
    let own = PKey::from_rsa(own).unwrap();
    let token = signed_with(&json!({"alg": "RS512", "kid": "rsa", "jwk": jwk}), &claims(json!({})), |m| {
        Signer::new(MessageDigest::sha512(), &own).unwrap().sign_oneshot_to_vec(m).unwrap()
    });
    assert_eq!(verify(&token), Err(TokenFault::BadSignature));
}

#[test]
fn the_key_id_must_be_one_of_the_issuers() {
    for header in [json!({"alg": "RS512"}), json!({"alg": "RS512", "kid": "RSA"}), json!({"alg": "RS512", "kid": null})]
    {
        assert_eq!(verify(&signed_with(&header, &claims(json!({})), rs512)), Err(TokenFault::UnknownKey));
    }
    // Another issuer's key id does not serve.
    let key = |kid: &str| VerifyingKey::from_pem(kid, &pem(&RSA)).unwrap();
    let issuer = |name: &str, kid: &str| Issuer::new(name, AUDIENCE, vec![key(kid)]).unwrap();
    let tokens = Tokens::new(vec![issuer("urn:other", "rsa"), issuer(ISSUER, "own")]).unwrap();
    assert_eq!(tokens.verify(&signed(&claims(json!({}))), now()), Err(TokenFault::UnknownKey));
    let twice = Tokens::new(vec![issuer(ISSUER, "a"), issuer(ISSUER, "b")]);
    assert_eq!(twice.unwrap_err(), KeyFault::DuplicateIssuer);
}

#[test]
fn a_changed_token_does_not_fit_its_signature() {
    let genuine = signed(&claims(json!({})));
    assert!(verify(&genuine).is_ok());
    let parts: Vec<&str> = genuine.split('.').collect();
    let payload = encode(&claims(json!({"client_id": "auditor"})));
    assert_eq!(verify(&format!("{}.{payload}.{}", parts[0], parts[2])), Err(TokenFault::BadSignature));
    let header = encode(&json!({"alg": "RS256", "kid": "rsa"}));
    assert_eq!(verify(&format!("{header}.{}.{}", parts[1], parts[2])), Err(TokenFault::BadSignature));
    assert_eq!(verify(&format!("{}.{}.{}", parts[0], parts[1], &parts[2][4..])), Err(TokenFault::BadSignature));
}

#[test]
fn malformed_tokens_are_refused() {
    let genuine = signed(&claims(json!({})));
    let long = signed(&claims(json!({"padding": "x".repeat(LONGEST_TOKEN)})));
    let critical =
        signed_with(&json!({"alg": "RS512", "kid": "rsa", "crit": ["b64"], "b64": false}), &claims(json!({})), rs512);
    let two_issuers = {
        let message = format!(
            "{}.{}",
            encode(&json!({"alg": "RS512", "kid": "rsa"})),
            URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{ISSUER}","iss":"urn:b","aud":"{AUDIENCE}"}}"#))
        );
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(rs512(message.as_bytes())))
    };
    for token in [
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        "\u{e9}.\u{e9}.\u{e9}",
        &format!("{genuine}."),
        &format!("{genuine}.x"),
        &format!("x{genuine}"),
        &long,
        &critical,
        &two_issuers,
        &signed(&json!([])),
        &signed(&claims(json!({"exp": "soon"}))),
        &signed(&claims(json!({"aud": 1}))),
        &signed(&claims(json!({"nhsid_nrbac_roles": "nurse"}))),
    ] {
        assert_eq!(verify(token), Err(TokenFault::Malformed), "{} bytes", token.len());
    }
    assert_eq!(verify(""), Err(TokenFault::Empty));
}

#[test]
fn a_token_of_the_longest_length_is_read() {
    let bare = signed(&claims(json!({"padding": ""}))).len();
    // Base64 makes 4 characters of 3; the rest is searched.
    let fits = (LONGEST_TOKEN - bare) / 4 * 3;
    let longest = |n: usize| signed(&claims(json!({"padding": "x".repeat(n)})));
    let longest_that_fits =
        (fits.saturating_sub(4)..fits + 5).filter(|n| longest(*n).len() <= LONGEST_TOKEN).max().unwrap();
    assert!(verify(&longest(longest_that_fits)).is_ok());
    assert_eq!(verify(&longest(longest_that_fits + 1)), Err(TokenFault::Malformed));
}

#[test]
fn issuer_and_audience() {
    for issuer in [json!("urn:stranger"), json!(null), json!(format!("{ISSUER}/"))] {
        assert_eq!(verify(&signed(&claims(json!({"iss": issuer})))), Err(TokenFault::UnknownIssuer));
    }
    for aud in [json!("https://other"), json!([]), json!(["https://other"]), json!(format!("{AUDIENCE}/"))] {
        assert_eq!(verify(&signed(&claims(json!({"aud": aud})))), Err(TokenFault::WrongAudience), "{aud}");
    }
    assert!(verify(&signed(&claims(json!({"aud": ["https://other", AUDIENCE]})))).is_ok());
    assert_eq!(verify(&signed(&claims(json!({"aud": null})))), Err(TokenFault::IncompleteClaims("aud")));
}

#[test]
fn time_is_the_time_given() {
    let token = signed(&claims(json!({"exp": in_seconds(300), "nbf": in_seconds(0)})));
    let at = |millis: i64| tokens().verify(&token, now() + TimeDelta::milliseconds(millis)).map(|c| c.expires);
    let expires = now() + TimeDelta::seconds(300);
    assert_eq!(at(0), Ok(expires));
    assert_eq!(at(299_999), Ok(expires));
    assert_eq!(at(300_000), Err(TokenFault::Expired));
    assert_eq!(at(300_001), Err(TokenFault::Expired));
    assert_eq!(at(-5_000), Ok(expires));
    assert_eq!(at(-5_001), Err(TokenFault::NotYetValid));
    assert_eq!(verify(&signed(&claims(json!({"exp": null})))), Err(TokenFault::IncompleteClaims("exp")));
    assert_eq!(verify(&signed(&claims(json!({"exp": 1e300})))), Err(TokenFault::IncompleteClaims("exp")));
    assert_eq!(verify(&signed(&claims(json!({"exp": -1})))), Err(TokenFault::Expired));
    let fraction = signed(&claims(json!({"exp": 0.5 + f64::from(u32::try_from(in_seconds(0)).unwrap())})));
    assert!(verify(&fraction).is_ok());
}
