//! The serving certificate: minted in memory from the webhook's own authority, replaced long before it expires.
//!
//! In comes Secret `istio-sidecar-injector-ca`, which the operator writes; out goes a certificate that every new
//! handshake takes. The authority's certificate is sent along, so that a client whose bundle has the old and the new one
//! finds its way whichever signed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

/// How long a certificate is good for.
const LIFETIME: Duration = Duration::from_hours(24);
/// A replica mints anew after this long, so that a certificate in use is never older than a third of its life.
const RENEWAL: Duration = Duration::from_hours(8);
/// How long to wait after a failure that no change of the Secret mends.
const RETRY: Duration = Duration::from_mins(1);
/// Clocks differ: a certificate is good from some time before it was made.
const BACKDATE: Duration = Duration::from_mins(5);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("Secret {} has no key {key}", names::resources::WEBHOOK_CA_SECRET)]
    Missing { key: &'static str },
    #[error("Secret {}, key {key}: {reason}", names::resources::WEBHOOK_CA_SECRET)]
    Unreadable { key: &'static str, reason: String },
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("the certificate that was signed cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

const CERT: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";

/// A certificate to serve with.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) certified: Arc<CertifiedKey>,
    until: SystemTime,
}

impl Serving {
    /// Nobody accepts it any more: the Secret has been broken or out of reach for a day.
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        self.until <= now
    }
}

/// The names under which the API server may call a revision's webhook.
pub(crate) fn dns_names(revision: &str, namespace: &str) -> Vec<String> {
    let service = names::resources::injector(revision);
    let domain = names::CLUSTER_DOMAIN;
    vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.{domain}")]
}

/// Mints a certificate for these names. The newest authority stands first in the Secret; its key has to fit.
pub(crate) fn mint(
    secret: &Secret,
    dns_names: &[String],
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<Serving, CertificateError> {
    let unreadable = |key, reason: &dyn ToString| CertificateError::Unreadable { key, reason: reason.to_string() };
    let text = |key: &'static str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).ok_or(CertificateError::Missing { key })?;
        std::str::from_utf8(&bytes.0).map_err(|error| unreadable(key, &error))
    };
    let (ca_pem, key_pem) = (text(CERT)?, text(KEY)?);
    let ca_certs: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(ca_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(CERT, &error))?;
    let Some(ca_cert) = ca_certs.first() else { return Err(unreadable(CERT, &"there is no certificate in it")) };
    let ca_key_der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| unreadable(KEY, &error))?;
    // A key that does not fit would sign what no API server accepts: every pod of the mesh would be refused.
    CertifiedKey::from_der(vec![ca_cert.clone()], ca_key_der, provider)
        .map_err(|error| unreadable(KEY, &format!("does not fit {CERT}: {error}")))?;
    let ca_key = KeyPair::from_pem(key_pem).map_err(|error| unreadable(KEY, &error))?;
    let issuer = Issuer::from_ca_cert_der(ca_cert, ca_key).map_err(|error| unreadable(CERT, &error))?;

    let mut params = CertificateParams::default();
    params.subject_alt_names = dns_names
        .iter()
        .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)))
        .collect::<Result<_, rcgen::Error>>()?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = dns_names.first() {
        // A common name ends at 64 characters; who verifies looks at the names above.
        params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    }
    params.not_before = (now - BACKDATE).into();
    let until = now + LIFETIME;
    params.not_after = until.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;
    let key_der = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|error| CertificateError::Use(rustls::Error::General(error.to_owned())))?;
    let certified = CertifiedKey::from_der(vec![leaf.der().clone(), ca_cert.clone()], key_der, provider)?;
    Ok(Serving { certified: Arc::new(certified), until })
}

/// What handshakes take: the newest certificate, or none yet.
pub(crate) type Current = watch::Receiver<Option<Arc<Serving>>>;

/// Hands the newest certificate to every handshake.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) Current);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().as_ref().map(|serving| Arc::clone(&serving.certified))
    }
}

/// Keeps the certificate fresh: a new one whenever the Secret changes and well before the present one expires. A Secret
/// that is broken or gone leaves the last certificate in use.
pub(crate) async fn keep_fresh(
    mut secrets: watch::Receiver<Option<Secret>>,
    dns_names: Vec<String>,
    provider: Arc<CryptoProvider>,
    current: watch::Sender<Option<Arc<Serving>>>,
) {
    loop {
        let secret = secrets.borrow_and_update().clone();
        let wait = match secret.map(|secret| mint(&secret, &dns_names, SystemTime::now(), &provider)) {
            None => {
                tracing::debug!(secret = names::resources::WEBHOOK_CA_SECRET, "waiting for the Secret");
                RENEWAL
            }
            Some(Ok(serving)) => {
                tracing::info!(names = ?dns_names, "minted a serving certificate");
                current.send_replace(Some(Arc::new(serving)));
                RENEWAL
            }
            Some(Err(error)) => {
                tracing::error!(%error, "no new serving certificate; the last one stays in use");
                RETRY
            }
        };
        tokio::select! {
            changed = secrets.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::{RootCertStore, crypto::CryptoProvider};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio::sync::watch;

    use super::{dns_names, keep_fresh, mint};

    fn authority() -> (String, String, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let cert = params.self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem(), cert.der().clone())
    }

    fn secret(cert: &str, key: &str) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = BTreeMap::from([("ca-cert.pem".to_owned(), bytes(cert)), ("ca-key.pem".to_owned(), bytes(key))]);
        Secret { data: Some(data), ..Secret::default() }
    }

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(default_provider())
    }

    #[test]
    fn the_api_server_accepts_it_with_the_old_and_the_new_authority_in_its_bundle() {
        let ((_, _, old), (cert, key, new)) = (authority(), authority());
        let names = dns_names("canary", "istio-system");
        let now = SystemTime::now();
        let minted = mint(&secret(&cert, &key), &names, now, &provider()).unwrap();
        let verify = |roots: &[&CertificateDer<'static>], name: &str, time: SystemTime| {
            let mut store = RootCertStore::empty();
            for root in roots {
                store.add((*root).clone()).unwrap();
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build().unwrap();
            let (leaf, chain) = minted.certified.cert.split_first().unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let time = UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap());
            verifier.verify_server_cert(leaf, chain, &name, &[], time).is_ok()
        };
        let service = "istio-sidecar-injector-canary.istio-system.svc";
        let hour = Duration::from_hours(1);
        assert!(verify(&[&old, &new], service, now));
        assert!(verify(&[&new], service, now + 23 * hour));
        assert!(!verify(&[&new], service, now + 25 * hour), "a day is enough");
        assert!(!verify(&[&old], service, now), "another authority");
        assert!(!verify(&[&new], "istio-sidecar-injector.istio-system.svc", now), "another revision");
    }

    #[test]
    fn a_broken_secret_is_named() {
        let ((cert, key, _), (_, other_key, _)) = (authority(), authority());
        let rows = [
            (Secret::default(), "Secret istio-sidecar-injector-ca has no key ca-cert.pem"),
            (secret("", &key), "Secret istio-sidecar-injector-ca, key ca-cert.pem: there is no certificate in it"),
            (secret(&cert, "x"), "Secret istio-sidecar-injector-ca, key ca-key.pem: "),
            (secret(&cert, &other_key), "Secret istio-sidecar-injector-ca, key ca-key.pem: does not fit ca-cert.pem"),
        ];
        for (secret, expected) in rows {
            let error = mint(&secret, &dns_names("default", "a"), SystemTime::now(), &provider()).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_comes_with_time_and_with_a_new_secret_and_a_broken_secret_changes_nothing() {
        let (cert, key, _) = authority();
        let (secrets, receiver) = watch::channel(None);
        let (sender, mut current) = watch::channel(None);
        let task = tokio::spawn(keep_fresh(receiver, dns_names("default", "a"), provider(), sender));
        secrets.send_replace(Some(secret(&cert, &key)));
        current.changed().await.unwrap();
        let first = current.borrow_and_update().clone().unwrap();
        // Paused time runs to the renewal by itself.
        current.changed().await.unwrap();
        let second = current.borrow_and_update().clone().unwrap();
        assert_ne!(first.certified.cert, second.certified.cert);
        secrets.send_replace(Some(Secret::default()));
        assert!(tokio::time::timeout(Duration::from_hours(2), current.changed()).await.is_err());
        let (cert, key, der) = authority();
        secrets.send_replace(Some(secret(&cert, &key)));
        current.changed().await.unwrap();
        assert_eq!(current.borrow_and_update().clone().unwrap().certified.cert[1], der);
        drop(secrets);
        task.await.unwrap();
    }
}
