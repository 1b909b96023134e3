//! TLS as a client.

use std::sync::Arc;
use std::time::SystemTime;

use engine::ir::tls::UpstreamTls;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::alpn;
use super::identity::{Identity, provider};
use super::server::{certified_key, is_mesh, roots, versions};
use super::verify::{ChainVerifier, Expected, Leaf, check_peer};
use crate::net::Io;

/// A server after its handshake.
#[derive(Debug)]
pub struct Connected {
    /// The stream inside TLS.
    pub io: Io,
    /// The server.
    pub peer: Arc<Leaf>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Whether the session was resumed.
    pub resumed: bool,
}

/// What will be spoken inside, which decides the ALPN between proxies of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inside {
    /// Bytes.
    Tcp,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP, whichever the server prefers.
    Either,
}

/// Makes the configuration for one endpoint. Its sessions are its own: rustls keeps them by server name only, and all endpoints
/// of a cluster have the same.
pub fn config(
    tls: &UpstreamTls,
    inside: Inside,
    alpn_override: bool,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, String> {
    let verifier = match &tls.validation {
        None => ChainVerifier::any(),
        Some(validation) => ChainVerifier::trusting(roots(&validation.roots, identity)?),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(tls.min_version, tls.max_version))
        .map_err(|error| format!("TLS versions: {error}"))?
        .dangerous() // the chain is verified above, the names by `check_peer` after every handshake
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let key = certified_key(certificate, identity)?;
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols = protocols(tls, inside, alpn_override);
    config.resumption = Resumption::in_memory_sessions(2);
    config.enable_sni = tls.sni.is_some() || tls.auto_sni;
    Ok(Arc::new(config))
}

fn protocols(tls: &UpstreamTls, inside: Inside, alpn_override: bool) -> Vec<Vec<u8>> {
    let mesh = alpn_override && tls.alpn.iter().any(|protocol| protocol.as_ref() == "istio");
    let own = || tls.alpn.iter().map(AsRef::as_ref).filter(|protocol| *protocol != alpn::PEER_EXCHANGE).collect();
    let chosen: Vec<&str> = match inside {
        Inside::Http1 if mesh => alpn::MESH_HTTP11.to_vec(),
        Inside::Http2 if mesh => alpn::MESH_HTTP2.to_vec(),
        Inside::Tcp | Inside::Either => own(),
        // What is agreed on must be what is spoken.
        Inside::Http1 => own().into_iter().filter(|protocol| *protocol != "h2").collect(),
        Inside::Http2 => own().into_iter().filter(|protocol| *protocol != "http/1.1").collect(),
    };
    chosen.into_iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

/// Does the handshake and judges the server. `host` is the request's host, for automatic server names.
pub async fn connect(
    io: Io,
    tls: &UpstreamTls,
    config: Arc<ClientConfig>,
    host: Option<&str>,
    endpoint: std::net::SocketAddr,
) -> Result<Connected, String> {
    let sent = if tls.auto_sni { host.or(tls.sni.as_deref()) } else { tls.sni.as_deref() };
    let name = match sent {
        Some(name) => mesh_name(name)?,
        None => ServerName::IpAddress(endpoint.ip().into()),
    };
    let stream = TlsConnector::from(config).connect(name, io).await.map_err(|error| error.to_string())?;
    let (_, session) = stream.get_ref();
    let agreed = session.alpn_protocol().map(<[u8]>::to_vec);
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let certificate = session.peer_certificates().and_then(<[_]>::first).ok_or("the server showed no certificate")?;
    let names = tls.validation.as_ref().map_or(&[][..], |validation| &validation.subject_alt_names);
    let server_name = if tls.auto_san_validation { sent } else { None };
    let expected = Expected { names, server_name, workload: is_mesh(tls.validation.as_ref()) };
    let peer = Arc::new(check_peer(certificate, expected, SystemTime::now())?);
    Ok(Connected { io: Io::tls(stream), peer, alpn: agreed, resumed })
}

/// `outbound_.9080_.v1_.reviews...` is a name to rustls too: underscores are allowed in what it takes for DNS names.
fn mesh_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|error| format!("server name {name:?}: {error}"))
}
