//! A set of keys written into a policy (RFC 7517): public ones, for verifying signatures.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::check::Checker;

/// What a key of each type must have to verify a signature (RFC 7518, section 6; RFC 8037), and what only its owner may.
const TYPES: [(&str, &[&str], &[&str]); 4] = [
    ("RSA", &["n", "e"], &["d", "p", "q", "dp", "dq", "qi", "oth"]),
    ("EC", &["crv", "x", "y"], &["d"]),
    ("OKP", &["crv", "x"], &["d"]),
    ("oct", &["k"], &["k"]),
];

/// Checks the field `jwks` of a rule.
pub(super) fn check(c: &mut Checker, jwks: &str) {
    let Ok(set) = serde_json::from_str::<Value>(jwks) else {
        return c.error("jwks", "is not JSON: write a set of keys, {\"keys\": [...]}");
    };
    // A single key stands for a set of one, as in Istio.
    let keys = match set.get("keys") {
        Some(Value::Array(keys)) => keys.as_slice(),
        None if set.get("kty").is_some() => std::slice::from_ref(&set),
        _ => return c.error("jwks", "is not a set of keys, {\"keys\": [...]}"),
    };
    for (index, key) in keys.iter().enumerate() {
        if let Err(problem) = check_key(key) {
            c.error("jwks", format!("keys[{index}] {problem}"));
        } else if let Some(secret) = secret(key) {
            c.warn(
                "jwks",
                format!("keys[{index}] has the secret part \"{secret}\", which everyone who reads this object gets: leave public keys only"),
            );
        }
    }
}

fn of_type(key: &Value) -> Option<&'static (&'static str, &'static [&'static str], &'static [&'static str])> {
    let kind = key.get("kty").and_then(Value::as_str)?;
    TYPES.iter().find(|(name, ..)| *name == kind)
}

fn check_key(key: &Value) -> Result<(), String> {
    let Some((kind, members, _)) = of_type(key) else {
        return Err("has no kty of RSA, EC, OKP or oct".to_owned());
    };
    for member in *members {
        let Some(text) = key.get(*member).and_then(Value::as_str).filter(|text| !text.is_empty()) else {
            return Err(format!("has no \"{member}\", which a key of type {kind} needs"));
        };
        if *member != "crv" && URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).is_err() {
            return Err(format!("has a \"{member}\" that is not base64url"));
        }
    }
    Ok(())
}

fn secret(key: &Value) -> Option<&'static str> {
    let (_, _, secrets) = of_type(key)?;
    secrets.iter().copied().find(|member| key.get(*member).is_some())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::check::Checker;

    #[test]
    fn sets_of_keys() {
        let rows: &[(&str, &[&str])] = &[
            (r#"{"keys": []}"#, &[]),
            (r#"{"keys": [{"kty": "RSA", "n": "xA", "e": "AQAB", "kid": "a"}]}"#, &[]),
            (r#"{"kty": "EC", "crv": "P-256", "x": "xA", "y": "xA"}"#, &[]),
            ("foo", &["is not JSON: write a set of keys, {\"keys\": [...]}"]),
            ("[]", &["is not a set of keys, {\"keys\": [...]}"]),
            (r#"{"keys": [{"kty": "RSA", "n": "xA"}]}"#, &["keys[0] has no \"e\", which a key of type RSA needs"]),
            (r#"{"keys": [{"kty": "XYZ"}]}"#, &["keys[0] has no kty of RSA, EC, OKP or oct"]),
            (r#"{"keys": [null]}"#, &["keys[0] has no kty of RSA, EC, OKP or oct"]),
            (r#"{"keys": [{"kty": "RSA", "n": "x A", "e": "AQAB"}]}"#, &["keys[0] has a \"n\" that is not base64url"]),
            (
                r#"{"keys": [{"kty": "RSA", "n": "xA", "e": "AQAB", "d": "xA"}]}"#,
                &[
                    "keys[0] has the secret part \"d\", which everyone who reads this object gets: leave public keys only",
                ],
            ),
            (
                r#"{"keys": [{"kty": "oct", "k": "xA"}]}"#,
                &[
                    "keys[0] has the secret part \"k\", which everyone who reads this object gets: leave public keys only",
                ],
            ),
        ];
        for (jwks, expected) in rows {
            let mut c = Checker::of_spec();
            check(&mut c, jwks);
            let found: Vec<_> = c.finish().into_iter().map(|problem| problem.message).collect();
            assert_eq!(found, *expected, "{jwks}");
        }
    }
}
