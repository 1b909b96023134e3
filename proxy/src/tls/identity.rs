//! Our identity in the mesh.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use names::identity::SpiffeId;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::verify::Leaf;

/// One generation of our identity: certificate, key and the mesh's roots. All that hangs on a generation (verifiers, tickets)
/// is made anew with it, so that no session outlives the trust it was made under.
pub struct Identity {
    /// Counts up with every change of certificate or roots.
    pub generation: u64,
    /// Who we are.
    pub spiffe: SpiffeId,
    /// The certificate is not valid after this.
    pub not_after: SystemTime,
    /// The certificate is not valid before this.
    pub not_before: SystemTime,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// The mesh's roots.
    pub roots: Vec<CertificateDer<'static>>,
    key: Arc<CertifiedKey>,
    trust: Arc<RootCertStore>,
    tickets: Arc<dyn ProducesTickets>,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The chain has no certificate.
    #[error("the certificate chain is empty")]
    Empty,
    /// The certificate does not name a workload.
    #[error("the certificate does not name a workload: {0}")]
    Name(String),
    /// A root cannot be used.
    #[error("a root certificate cannot be used: {0}")]
    Root(rustls::Error),
    /// There is no root.
    #[error("there is no root certificate")]
    NoRoot,
    /// Key and certificate do not fit, or cannot be used.
    #[error("certificate and key cannot be used: {0}")]
    Key(rustls::Error),
}

impl Identity {
    /// Puts an identity together: the chain leaf first.
    pub fn new(
        generation: u64,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IdentityError> {
        let leaf = Leaf::read(chain.first().ok_or(IdentityError::Empty)?).map_err(IdentityError::Name)?;
        let spiffe = leaf.spiffe.clone().ok_or_else(|| IdentityError::Name("no SPIFFE URI among its names".into()))?;
        let mut trust = RootCertStore::empty();
        for root in &roots {
            trust.add(root.clone()).map_err(IdentityError::Root)?;
        }
        if trust.is_empty() {
            return Err(IdentityError::NoRoot);
        }
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(IdentityError::Key)?;
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(IdentityError::Key)?;
        Ok(Self {
            generation,
            spiffe,
            not_after: at(leaf.not_after),
            not_before: at(leaf.not_before),
            serial: leaf.serial,
            roots,
            key: Arc::new(key),
            trust: Arc::new(trust),
            tickets,
        })
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    pub(crate) fn trust(&self) -> Arc<RootCertStore> {
        self.trust.clone()
    }

    pub(crate) fn tickets(&self) -> Arc<dyn ProducesTickets> {
        self.tickets.clone()
    }
}

fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("generation", &self.generation)
            .field("spiffe", &self.spiffe)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The one crypto provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}
