//! Why the control plane cannot use the mesh's certificate authority, told where a person looks. The control plane decides
//! that for itself and says it in its log; a look at the Secrets is worth its requests only while it is not ready. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use names::resources::{CA_SECRET, PLUGGED_CA_SECRET};
use rcgen::{KeyPair, PublicKeyData as _};

const CERT: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOT: &str = "root-cert.pem";

/// What is wrong with the Secret that the control plane reads: `cacerts` where it is there, else `istio-ca-secret`.
pub(crate) fn trouble(
    namespace: &str,
    plugged: Option<&Secret>,
    own: Option<&Secret>,
    now: Timestamp,
) -> Option<String> {
    let (name, secret) = match (plugged, own) {
        (Some(secret), _) => (PLUGGED_CA_SECRET, secret),
        (None, Some(secret)) => (CA_SECRET, secret),
        (None, None) => return None,
    };
    // Istio leaves the root out of the Secret of a self-signed authority.
    let root_wanted = name == PLUGGED_CA_SECRET;
    let (key, problem) = problem(secret, root_wanted, now)?;
    Some(format!(
        "Secret {namespace}/{name}, key {key}: {problem}. It is never overwritten: put it right, or delete the Secret for a new \
         root, which the mesh's present certificates do not chain to."
    ))
}

fn problem(secret: &Secret, root_wanted: bool, now: Timestamp) -> Option<(&'static str, String)> {
    let text = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).filter(|text| !text.trim().is_empty())
    };
    let missing = |key| Some((key, "is missing or empty".to_owned()));
    let Some(cert) = text(CERT) else { return missing(CERT) };
    let Some(key) = text(KEY) else { return missing(KEY) };
    if root_wanted && text(ROOT).is_none() {
        return missing(ROOT);
    }
    let Ok(key) = KeyPair::from_pem(&key) else {
        return Some((KEY, "holds no private key that can sign (PKCS#8, SEC1 or PKCS#1 in PEM)".into()));
    };
    let unreadable = || Some((CERT, "holds no certificate in PEM".to_owned()));
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(cert.as_bytes()) else { return unreadable() };
    let Ok(cert) = pem.parse_x509() else { return unreadable() };
    if !cert.is_ca() {
        return Some((CERT, "may not sign certificates (basic constraint CA is not set)".into()));
    }
    if cert.public_key().raw != key.subject_public_key_info() {
        return Some((KEY, format!("does not belong to the certificate in {CERT}")));
    }
    let end = cert.validity().not_after.timestamp();
    (end <= now.as_second()).then(|| (CERT, format!("expired at {}", cert.validity().not_after)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::trouble;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn secret(values: &[(&str, &str)]) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = values.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn what_is_wrong_is_told_by_secret_and_key() {
        let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let signed = |edit: &dyn Fn(&mut CertificateParams)| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            edit(&mut params);
            params.self_signed(&key).expect("a certificate").pem()
        };
        let cert = signed(&|_| {});
        let expired = signed(&|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let leaf = signed(&|params| params.is_ca = IsCa::NoCa);
        let (key, other) = (key.serialize_pem(), other.serialize_pem());
        let good = secret(&[("ca-cert.pem", &cert), ("ca-key.pem", &key), ("root-cert.pem", &cert)]);
        let as_istio = secret(&[("ca-cert.pem", &cert), ("ca-key.pem", &key), ("root-cert.pem", "")]);
        for (name, plugged, own, expected) in [
            ("none", None, None, None),
            ("as ours", None, Some(&good), None),
            ("as Istio's, without a root", None, Some(&as_istio), None),
            (
                "the user's own without a root",
                Some(&as_istio),
                None,
                Some("Secret mesh/cacerts, key root-cert.pem: is missing"),
            ),
            (
                "no key",
                None,
                Some(&secret(&[("ca-cert.pem", &cert)])),
                Some("Secret mesh/istio-ca-secret, key ca-key.pem: is missing or empty. It is never overwritten"),
            ),
            (
                "half a key",
                None,
                Some(&secret(&[("ca-cert.pem", &cert), ("ca-key.pem", &key[..60])])),
                Some("Secret mesh/istio-ca-secret, key ca-key.pem: holds no private key"),
            ),
            (
                "another's key",
                None,
                Some(&secret(&[("ca-cert.pem", &cert), ("ca-key.pem", &other)])),
                Some("Secret mesh/istio-ca-secret, key ca-key.pem: does not belong to"),
            ),
            (
                "no certificate",
                None,
                Some(&secret(&[("ca-cert.pem", "?"), ("ca-key.pem", &key)])),
                Some("Secret mesh/istio-ca-secret, key ca-cert.pem: holds no certificate"),
            ),
            (
                "a leaf",
                None,
                Some(&secret(&[("ca-cert.pem", &leaf), ("ca-key.pem", &key)])),
                Some("Secret mesh/istio-ca-secret, key ca-cert.pem: may not sign"),
            ),
            (
                "expired",
                None,
                Some(&secret(&[("ca-cert.pem", &expired), ("ca-key.pem", &key)])),
                Some("Secret mesh/istio-ca-secret, key ca-cert.pem: expired at Jan"),
            ),
            (
                "cacerts wins, and is broken",
                Some(&secret(&[])),
                Some(&good),
                Some("Secret mesh/cacerts, key ca-cert.pem"),
            ),
            ("cacerts wins, and is whole", Some(&good), Some(&secret(&[])), None),
        ] {
            let found = trouble("mesh", plugged, own, NOW);
            match expected {
                None => assert_eq!(found, None, "{name}"),
                Some(expected) => {
                    assert!(found.as_deref().is_some_and(|found| found.starts_with(expected)), "{name}: {found:?}");
                }
            }
        }
    }
}
