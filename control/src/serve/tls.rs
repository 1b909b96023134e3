//! Port 15012 accepts TLS: our certificate comes from the mesh's authority, the client's is verified by it.
//!
//! Comes in: TCP connections. Goes out: streams that carry the [`Peer`] they belong to. Sessions are never resumed: a
//! resumed session skips the verification of the client's certificate, and a proxy connects once in half an hour.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use names::identity::SpiffeId;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::ca::{Authority, authority, rotation, store};
use crate::metrics::Metrics;

/// How long our own certificate lives; it is renewed at half of that.
const CERTIFICATE_TTL: Duration = Duration::from_hours(24);
/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once: a thousand proxies that come back at once must not take all of the CPU and memory.
const HANDSHAKES: usize = 64;
/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: Option<SocketAddr>,
    /// The identity in the client's certificate, which the mesh's root signed.
    pub(crate) identity: Option<SpiffeId>,
    /// Whether callers must prove who they are. On the plaintext port, which is on loopback, they need not.
    pub(crate) authenticate: bool,
}

/// A connection of either port.
pub(crate) struct Connection {
    stream: Stream,
    peer: Peer,
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The names that our certificate is for: what a proxy's `discoveryAddress` may say, and loopback.
pub(crate) fn server_names(revision: &str, namespace: &str) -> Vec<String> {
    let mut services = vec![names::resources::istiod(revision)];
    // A revision tag may make any revision the default one, whose proxies call it by the name without a suffix.
    let default = names::resources::istiod("");
    if !services.contains(&default) {
        services.push(default);
    }
    let suffixes = [String::new(), format!(".{}", names::CLUSTER_DOMAIN)];
    services
        .iter()
        .flat_map(|service| suffixes.iter().map(move |suffix| format!("{service}.{namespace}.svc{suffix}")))
        .chain(["localhost".to_owned()])
        .collect()
}

/// Makes the TLS side of `authority`: a fresh certificate of ours, and its roots to verify clients by.
pub(crate) fn server_config(
    authority: &Authority,
    names: &[String],
    provider: Arc<CryptoProvider>,
    now: SystemTime,
) -> anyhow::Result<(ServerConfig, (SystemTime, SystemTime))> {
    let (issued, key) = authority.issue_server(names, CERTIFICATE_TTL, now)?;
    let chain =
        issued.chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(root.clone())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((config, (now, issued.not_after)))
}

/// Keeps `config` at the authority in use, and our certificate fresh, until `stop`.
pub(crate) async fn keep(
    mut authority: store::Current,
    names: Vec<String>,
    config: watch::Sender<Option<Arc<ServerConfig>>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    loop {
        let current = authority.borrow_and_update().clone();
        let mut renewal = None;
        if let Some(current) = current {
            metrics.root_expiry.set(seconds(current.root_not_after()));
            metrics.chain_expiry.set(seconds(current.validity().1));
            match server_config(&current, &names, Arc::clone(&provider), SystemTime::now()) {
                Ok((made, validity)) => {
                    config.send_replace(Some(Arc::new(made)));
                    renewal = Some(rotation::until_server_renewal(validity, SystemTime::now()));
                }
                Err(error) => tracing::error!("the control plane's own certificate could not be made: {error:#}"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // An authority that came from a folder never changes, and nobody is left who could say so.
            Ok(()) = authority.changed() => {}
            () = tokio::time::sleep(renewal.unwrap_or(CERTIFICATE_TTL)) => {}
        }
    }
}

/// Accepts connections until `stop`. Without `config` they are plaintext and need no identity.
pub(crate) async fn accept(
    listener: TcpListener,
    config: Option<watch::Receiver<Option<Arc<ServerConfig>>>>,
    connections: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true); // only latency is lost
        let mut config = config.clone();
        let (connections, handshakes, stop) = (connections.clone(), Arc::clone(&handshakes), stop.clone());
        tokio::spawn(async move {
            let connection = async {
                let Some(config) = &mut config else { return Ok(plain(stream, address)) };
                let handshake = async {
                    // Whoever comes before the authority is loaded waits for it.
                    let current = config.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
                    let _turn = handshakes.acquire().await;
                    let current = current.ok_or_else(|| io::Error::other("there is no certificate"))?;
                    TlsAcceptor::from(current).accept(stream).await
                };
                Ok(secured(tokio::time::timeout(HANDSHAKE, handshake).await??, address))
            };
            let connection: io::Result<Connection> = tokio::select! {
                () = stop.cancelled() => return,
                connection = connection => connection,
            };
            match connection {
                Ok(connection) => drop(connections.send(Ok(connection)).await), // nobody serves any more: closed
                Err(error) => tracing::debug!(%address, %error, "no TLS connection"),
            }
        });
    }
}

fn plain(stream: TcpStream, address: SocketAddr) -> Connection {
    let peer = Peer { address: Some(address), identity: None, authenticate: false };
    Connection { stream: Stream::Plain(stream), peer }
}

fn secured(stream: TlsStream<TcpStream>, address: SocketAddr) -> Connection {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let identity = certificate.and_then(authority::identity_of);
    let peer = Peer { address: Some(address), identity, authenticate: true };
    Connection { stream: Stream::Tls(Box::new(stream)), peer }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_revision_answers_to_its_own_name_and_to_the_defaults() {
        assert_eq!(
            super::server_names("default", "istio-system"),
            ["istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "localhost"]
        );
        let canary = super::server_names("canary", "mesh");
        assert!(canary.contains(&"istiod-canary.mesh.svc".to_owned()), "{canary:?}");
        assert!(canary.contains(&"istiod.mesh.svc.cluster.local".to_owned()), "{canary:?}");
    }
}
