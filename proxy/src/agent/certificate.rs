//! The proxy's certificate: asked for at the start, renewed at half of its life, published as an [`Identity`].
//!
//! The key is made here and never leaves the process. When the file with the mesh's roots changes, the same certificate
//! is published again with the new roots.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use names::identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::sync::watch;
use xds::certificates::{IstioCertificateRequest, IstioCertificateServiceClient};
use zeroize::Zeroizing;

use super::grpc::files::{self, WriteError};
use super::readiness::Readiness;
use crate::{
    tls::identity::{Identity, IdentityError},
    xds::connect::{ConnectError, ControlPlane},
};

/// The waits between failed attempts.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The time for one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the file with the roots is looked at. The kubelet itself takes up to a minute to change it.
const ROOTS_INTERVAL: Duration = Duration::from_secs(10);
/// No renewal comes sooner, however short a certificate lives.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Keeps a certificate.
#[derive(Debug)]
pub struct Certificates {
    /// The certificate authority.
    pub authority: ControlPlane,
    /// Who the certificate must say we are.
    pub expected: SpiffeId,
    /// How long it shall be valid.
    pub lifetime: Duration,
    /// Where it is published.
    pub identity: watch::Sender<Option<Arc<Identity>>>,
    /// What is told that there is one.
    pub readiness: Arc<Readiness>,
    /// Figures for the statistics.
    pub counts: Arc<Counts>,
    /// The folder into which key, chain and roots are written too, for an application that needs them.
    pub files: Option<PathBuf>,
}

/// Figures for the statistics.
#[derive(Debug, Default)]
pub struct Counts {
    signed: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// How many certificates were signed.
    pub fn signed(&self) -> u64 {
        self.signed.load(Ordering::Relaxed)
    }

    /// How many attempts failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the certificate authority refused: {} ({:?})", .0.message(), .0.code())]
    Refused(#[from] Box<tonic::Status>),
    #[error("no answer from the certificate authority in {TIMEOUT:?}")]
    Timeout,
    #[error("cannot make a key or a signing request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("the certificate authority answered with something that is no certificate")]
    Pem,
    #[error("the certificate is for {found}, not for {expected}; does the pod run under the service account it says?")]
    Other { found: String, expected: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Files(#[from] WriteError),
}

/// A signed certificate with all that an [`Identity`] is made of.
struct Signed {
    chain: Vec<CertificateDer<'static>>,
    /// Roots that came with it.
    roots: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
}

impl Certificates {
    /// Keeps the certificate fresh until the process ends.
    pub async fn run(self) {
        let mut generation = 0;
        let mut wait = FIRST_WAIT;
        loop {
            // The old certificate serves while attempts fail.
            let current = self.identity.borrow().clone();
            match self.sign(current.as_deref()).await {
                Ok(signed) => {
                    wait = FIRST_WAIT;
                    match self.keep(&signed, &mut generation).await {
                        Ok(()) => continue,
                        Err(failed) => self.note(&failed),
                    }
                }
                Err(failed) => self.note(&failed),
            }
            tokio::time::sleep(wait / 2 + wait.mul_f64(fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn note(&self, failed: &Failed) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("no certificate: {failed}");
    }

    /// Publishes a certificate, and again with every change of the roots, until it is time for the next one.
    async fn keep(&self, signed: &Signed, generation: &mut u64) -> Result<(), Failed> {
        let mut file = self.authority.read_roots()?;
        let renewal = self.publish(signed, &file, generation)?;
        let renewal = tokio::time::Instant::now() + renewal;
        let mut look = tokio::time::interval(ROOTS_INTERVAL);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(renewal) => return Ok(()),
                _ = look.tick() => {}
            }
            match self.authority.read_roots() {
                Ok(roots) if roots != file => {
                    tracing::info!("the mesh's roots changed");
                    self.publish(signed, &roots, generation)?;
                    file = roots;
                }
                Ok(_) => {}
                // Half-way through a change; the roots we have still stand.
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }

    /// Publishes a certificate and says after which time it is to be renewed.
    fn publish(
        &self,
        signed: &Signed,
        file: &[CertificateDer<'static>],
        generation: &mut u64,
    ) -> Result<Duration, Failed> {
        let mut roots = file.to_vec();
        roots.extend(signed.roots.iter().filter(|root| !file.contains(root)).cloned());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.key.to_vec()));
        let identity = Identity::new(*generation + 1, signed.chain.clone(), key, roots)?;
        if identity.spiffe != self.expected {
            let (found, expected) = (identity.spiffe.to_string(), self.expected.to_string());
            return Err(Failed::Other { found, expected });
        }
        if let Some(folder) = &self.files {
            files::write_certificate(folder, identity.chain(), &signed.key, &identity.roots)?;
        }
        *generation += 1;
        let renewal = renewal(SystemTime::now(), identity.not_before, identity.not_after, fastrand::f64());
        tracing::info!(identity = %identity.spiffe, serial = identity.serial, ?renewal, "certificate in use");
        self.counts.signed.fetch_add(1, Ordering::Relaxed);
        self.identity.send_replace(Some(Arc::new(identity)));
        self.readiness.certificate_present();
        Ok(renewal)
    }

    async fn sign(&self, current: Option<&Identity>) -> Result<Signed, Failed> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = signing_request(&key, &self.expected)?;
        let attempt = async {
            let (channel, bearer) = self.authority.connect(current).await?;
            let channel = tonic::service::interceptor::InterceptedService::new(channel, bearer);
            let mut client = IstioCertificateServiceClient::new(channel);
            let request = IstioCertificateRequest {
                csr,
                validity_duration: i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX),
                metadata: None,
            };
            Ok::<_, Failed>(client.create_certificate(request).await.map_err(Box::new)?.into_inner().cert_chain)
        };
        let answer = tokio::time::timeout(TIMEOUT, attempt).await.map_err(|_| Failed::Timeout)??;
        let (chain, roots) = split(&answer).ok_or(Failed::Pem)?;
        Ok(Signed { chain, roots, key: Zeroizing::new(key.serialize_der()) })
    }
}

fn signing_request(key: &KeyPair, identity: &SpiffeId) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.serialize_request(key)?.pem()
}

/// The chain to show (without the root: who verifies has it) and the roots.
#[allow(clippy::type_complexity)] // a pair of lists, used once
fn split(answer: &[String]) -> Option<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>)> {
    let mut chain = Vec::new();
    for pem in answer {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            chain.push(certificate.ok()?);
        }
    }
    if chain.is_empty() {
        return None;
    }
    let roots = chain.split_off(chain.iter().position(is_self_signed).unwrap_or(chain.len()));
    (!chain.is_empty()).then_some((chain, roots))
}

fn is_self_signed(der: &CertificateDer<'_>) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        let subject = certificate.subject().as_raw();
        // A workload's certificate may have an empty subject, and so may its issuer's.
        certificate.is_ca() && subject == certificate.issuer().as_raw()
    })
}

/// When to renew: half of the certificate's life from its beginning, a tenth sooner or later, so that pods that started
/// together do not renew together.
fn renewal(now: SystemTime, not_before: SystemTime, not_after: SystemTime, random: f64) -> Duration {
    let life = not_after.duration_since(not_before.max(now - Duration::from_mins(5))).unwrap_or_default();
    let age = now.duration_since(not_before).unwrap_or_default().min(Duration::from_mins(5));
    let half = life.mul_f64(0.4 + 0.2 * random.clamp(0.0, 1.0));
    half.saturating_sub(age).max(SHORTEST_LIFE)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering},
        },
        time::{Duration, SystemTime},
    };

    use names::identity::SpiffeId;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

    use tokio::sync::watch;
    use xds::certificates::{
        IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService, IstioCertificateServiceServer,
    };

    use super::{Certificates, ControlPlane, Counts, Readiness, renewal, signing_request, split};
    use crate::xds::client::tests::{Authority, serve};

    #[test]
    fn a_signing_request_names_the_workload() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let identity = names::identity::SpiffeId::new("cluster.local", "default", "reviews");
        let pem = signing_request(&key, &identity).expect("a request");
        let request = rcgen::CertificateSigningRequestParams::from_pem(&pem).expect("reads back");
        let uri = rcgen::SanType::URI(identity.to_string().try_into().expect("ASCII"));
        assert_eq!(request.params.subject_alt_names, [uri]);
    }

    #[test]
    fn the_root_is_told_from_the_chain() {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&root_key).expect("signed");
        let issuer = Issuer::new(params, root_key);
        let key = KeyPair::generate().expect("a key");
        let leaf =
            CertificateParams::new(vec!["a".to_owned()]).expect("a name").signed_by(&key, &issuer).expect("signed");

        let (chain, roots) = split(&[leaf.pem(), root.pem()]).expect("both are certificates");
        assert_eq!(
            (chain.as_slice(), roots.as_slice()),
            ([leaf.der().clone()].as_slice(), [root.der().clone()].as_slice())
        );
        let (chain, roots) = split(&[format!("{}{}", leaf.pem(), root.pem())]).expect("in one string");
        assert_eq!((chain.len(), roots.len()), (1, 1));
        assert_eq!(split(&[leaf.pem()]).map(|(chain, roots)| (chain.len(), roots.len())), Some((1, 0)));
        assert_eq!(split(&[root.pem()]), None, "a root alone is no chain");
        assert_eq!(split(&[]), None);
        assert_eq!(split(&["nothing".to_owned()]), None);
    }

    /// Signs what it is asked for, and counts.
    struct Signer {
        authority: Authority,
        refuse: AtomicU64,
        tokens: Mutex<Vec<Option<String>>>,
    }

    #[tonic::async_trait]
    impl IstioCertificateService for Signer {
        async fn create_certificate(
            &self,
            request: tonic::Request<IstioCertificateRequest>,
        ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status> {
            let token =
                request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
            self.tokens.lock().expect("whole").push(token);
            if self.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                return Err(tonic::Status::unauthenticated("who are you?"));
            }
            let leaf = self.authority.sign_request(&request.into_inner().csr);
            Ok(tonic::Response::new(IstioCertificateResponse { cert_chain: vec![leaf, self.authority.root()] }))
        }
    }

    #[tokio::test]
    async fn a_certificate_is_signed_for_the_token_and_tried_for_again_after_a_refusal() {
        let authority = Authority::new();
        let files = tempfile::tempdir().expect("a directory");
        let (roots, token) = (files.path().join("root-cert.pem"), files.path().join("istio-token"));
        std::fs::write(&roots, authority.root()).expect("written");
        std::fs::write(&token, "a-token").expect("written");
        // The signer needs the authority that the server's certificate is of.
        let authority = Arc::new(Signer { authority, refuse: AtomicU64::new(1), tokens: Mutex::default() });
        let signer = authority.clone();
        let address =
            serve(&authority.authority, move |_| IstioCertificateServiceServer::from_arc(signer.clone())).await;
        let identity = watch::Sender::new(None);
        let mut published = identity.subscribe();
        let (readiness, counts) = (Arc::new(Readiness::new()), Arc::new(Counts::default()));
        let certificates = Certificates {
            authority: ControlPlane { address: format!("localhost:{}", address.port()), roots, token },
            expected: SpiffeId::new("cluster.local", "default", "bookinfo-reviews"),
            lifetime: Duration::from_hours(24),
            identity,
            readiness: readiness.clone(),
            counts: counts.clone(),
            files: None,
        };
        let keeper = tokio::spawn(certificates.run());
        let identity = published.wait_for(Option::is_some).await.expect("a certificate").clone().expect("some");
        assert_eq!(identity.spiffe.to_string(), "spiffe://cluster.local/ns/default/sa/bookinfo-reviews");
        assert_eq!((identity.chain().len(), identity.roots.len()), (1, 1), "the root is no part of the chain");
        assert_eq!((counts.signed(), counts.failed()), (1, 1));
        assert_eq!(*authority.tokens.lock().expect("whole"), vec![Some("Bearer a-token".to_owned()); 2]);
        assert_ne!(readiness.check(), Err(crate::agent::readiness::NotReady::Certificate));
        keeper.abort();
    }

    #[test]
    fn renewal_comes_at_half_of_the_life_with_some_chance() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let day = Duration::from_hours(24);
        let at = |random| renewal(now, now, now + day, random).as_secs_f64() / day.as_secs_f64();
        assert!((at(0.0) - 0.4).abs() < 1e-6 && (at(0.5) - 0.5).abs() < 1e-6 && (at(1.0) - 0.6).abs() < 1e-6);
        assert_eq!(renewal(now, now - day, now, 0.5), Duration::from_secs(1), "at once, but not in a busy loop");
    }
}
