//! TLS as a server.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use engine::ir::tls::{Certificate, DownstreamTls, Roots, TlsVersion, Validation};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::alpn;
use super::identity::{Identity, provider};
use super::verify::{Expected, Leaf, check_peer};
use crate::error::ProxyError;
use crate::net::Io;

/// A client after its handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The stream inside TLS.
    pub io: Io,
    /// The client, if it showed a certificate.
    pub peer: Option<Arc<Leaf>>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Whether the session was resumed.
    pub resumed: bool,
}

/// The configurations that a worker made for the present identity.
#[derive(Debug, Default)]
pub struct ServerConfigs {
    generation: u64,
    made: RefCell<Vec<Made>>,
}

#[derive(Debug)]
struct Made {
    tls: Arc<DownstreamTls>,
    /// For clients with which a protocol can be agreed on.
    with_alpn: Arc<ServerConfig>,
    /// For the others: rustls refuses a client when no protocol is common, Istio's proxies go on without one.
    without: Arc<ServerConfig>,
}

impl ServerConfigs {
    /// No configuration yet, for one generation of the identity.
    pub fn new(generation: u64) -> Self {
        Self { generation, made: RefCell::default() }
    }

    /// The generation that these are for.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn get(
        &self,
        tls: &Arc<DownstreamTls>,
        identity: Option<&Identity>,
        offered: &[Vec<u8>],
    ) -> Result<Arc<ServerConfig>, String> {
        let common = |config: &ServerConfig| config.alpn_protocols.iter().any(|ours| offered.contains(ours));
        let choose = |made: &Made| if common(&made.with_alpn) { made.with_alpn.clone() } else { made.without.clone() };
        let mut made = self.made.borrow_mut();
        if let Some(made) = made.iter().find(|made| Arc::ptr_eq(&made.tls, tls) || made.tls == *tls) {
            return Ok(choose(made));
        }
        let with_alpn = build(tls, identity)?;
        let mut without = with_alpn.clone();
        without.alpn_protocols.clear();
        // A chain that is gone leaves its configuration behind; the next generation clears them all.
        made.retain(|made| Arc::strong_count(&made.tls) > 1);
        let new = Made { tls: tls.clone(), with_alpn: Arc::new(with_alpn), without: Arc::new(without) };
        let chosen = choose(&new);
        made.push(new);
        Ok(chosen)
    }
}

/// Does the handshake and judges the client. `offered` is the client's ALPN, as sniffed.
pub async fn accept(
    io: Io,
    tls: &Arc<DownstreamTls>,
    configs: &ServerConfigs,
    identity: Option<&Identity>,
    offered: &[Vec<u8>],
) -> Result<Accepted, ProxyError> {
    let config = configs.get(tls, identity, offered).map_err(ProxyError::DownstreamTls)?;
    let stream =
        TlsAcceptor::from(config).accept(io).await.map_err(|error| ProxyError::DownstreamTls(error.to_string()))?;
    let (_, session) = stream.get_ref();
    let agreed = session.alpn_protocol().map(<[u8]>::to_vec);
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let peer = match (certificate, &tls.validation) {
        (Some(certificate), validation) => {
            let names = validation.as_ref().map_or(&[][..], |validation| &validation.subject_alt_names);
            let mesh = validation.as_ref().is_some_and(|validation| validation.roots == Roots::Mesh);
            let expected = Expected { names, server_name: None, workload: mesh };
            let leaf = check_peer(certificate, expected, SystemTime::now()).map_err(ProxyError::DownstreamTls)?;
            Some(Arc::new(leaf))
        }
        (None, _) if tls.require_client_certificate => {
            return Err(ProxyError::DownstreamTls("the client showed no certificate".into()));
        }
        (None, _) => None,
    };
    Ok(Accepted { io: Io::tls(stream), peer, alpn: agreed, resumed })
}

fn build(tls: &DownstreamTls, identity: Option<&Identity>) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(tls.min_version, tls.max_version))
        .map_err(|error| format!("TLS versions: {error}"))?;
    let builder = match &tls.validation {
        None => builder.with_no_client_auth(),
        Some(validation) => {
            let roots = roots(&validation.roots, identity)?;
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            if !tls.require_client_certificate {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("trusted roots: {error}"))?)
        }
    };
    let key = certified_key(&tls.certificate, identity)?;
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = tls
        .alpn
        .iter()
        // Whoever agrees on it must speak Istio's metadata protocol over TCP; we pass metadata in HTTP headers only.
        .filter(|protocol| protocol.as_ref() != alpn::PEER_EXCHANGE)
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    config.send_tls13_tickets = 1;
    // A ticket stands for a chain that was verified, so it is good only where the same roots count: those of the mesh are the same in all
    // chains of a generation, others need tickets of their own.
    config.ticketer = match identity {
        Some(identity) if is_mesh(tls.validation.as_ref()) => identity.tickets(),
        _ => rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| format!("session tickets: {error}"))?,
    };
    Ok(config)
}

pub(super) fn versions(
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if max != Some(TlsVersion::V1_2) {
        versions.push(&rustls::version::TLS13);
    }
    if min != Some(TlsVersion::V1_3) {
        versions.push(&rustls::version::TLS12);
    }
    versions
}

pub(super) fn certified_key(
    certificate: &Certificate,
    identity: Option<&Identity>,
) -> Result<Arc<CertifiedKey>, String> {
    match certificate {
        Certificate::Workload => Ok(identity.ok_or("the proxy has no certificate of the mesh yet")?.certified_key()),
        Certificate::Named(name) => Err(format!("secret {name} has not been received")),
        Certificate::Files { chain, key } => {
            let certificates = CertificateDer::pem_file_iter(chain.as_ref())
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("certificate {chain}: {error}"))?;
            let private = PrivateKeyDer::from_pem_file(key.as_ref()).map_err(|error| format!("key {key}: {error}"))?;
            let key = CertifiedKey::from_der(certificates, private, &provider())
                .map_err(|error| format!("certificate {chain} and key {key}: {error}"))?;
            Ok(Arc::new(key))
        }
    }
}

/// Debian's bundle, which the proxy's image has.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(super) fn roots(roots: &Roots, identity: Option<&Identity>) -> Result<Arc<RootCertStore>, String> {
    let file = |path: &str| {
        let found = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("trusted roots {path}: {error}"))?;
        store(found, path)
    };
    match roots {
        Roots::Mesh => Ok(identity.ok_or("the proxy has no root certificate of the mesh yet")?.trust()),
        Roots::Named(name) => Err(format!("secret {name} has not been received")),
        Roots::File(path) => file(path),
        Roots::System => file(SYSTEM_ROOTS),
        Roots::Inline(pem) => {
            let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
            store(found.map_err(|error| format!("inline trusted roots: {error}"))?, "inline")
        }
    }
}

fn store(found: Vec<CertificateDer<'static>>, origin: &str) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found);
    if usable == 0 { Err(format!("trusted roots {origin}: no usable certificate")) } else { Ok(Arc::new(store)) }
}

/// Whether a validation asks for the mesh's own roots.
pub(super) fn is_mesh(validation: Option<&Validation>) -> bool {
    validation.is_some_and(|validation| validation.roots == Roots::Mesh)
}
