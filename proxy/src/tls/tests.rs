//! Certificates and handshakes of tests.

use std::sync::Arc;

use engine::ir::text::TextMatch;
use engine::ir::tls::{Certificate, DownstreamTls, NameKind, NameMatch, Roots, UpstreamTls, Validation};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::ClientConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::client::{self, Inside};
use super::identity::Identity;
use super::server::{self, ServerConfigs};
use super::verify::{ChainVerifier, Expected, check_peer};
use crate::net::{Io, Stream};

/// A client without a certificate that trusts anyone.
pub(crate) fn anonymous_client() -> ClientConfig {
    ClientConfig::builder_with_provider(super::identity::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(ChainVerifier::any())
        .with_no_client_auth()
}

/// A certificate authority of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The certificate of this authority.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// An identity signed by this authority.
    pub(crate) fn identity(&self, generation: u64, spiffe: &str) -> Arc<Identity> {
        self.identity_with(generation, spiffe, None)
    }

    /// One that has a DNS name beside.
    fn identity_with(&self, generation: u64, spiffe: &str, dns: Option<&str>) -> Arc<Identity> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(spiffe.try_into().unwrap())];
        params.subject_alt_names.extend(dns.map(|name| SanType::DnsName(name.try_into().unwrap())));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        Arc::new(Identity::new(generation, chain, private, vec![self.0.der().clone()]).unwrap())
    }
}

fn exact(kind: NameKind, name: &str) -> NameMatch {
    NameMatch { kind: Some(kind), text: TextMatch::Exact { value: name.into(), ignore_case: false } }
}

/// TLS of the mesh, as a sidecar terminates it.
pub(crate) fn mesh_server() -> Arc<DownstreamTls> {
    Arc::new(DownstreamTls {
        certificate: Certificate::Workload,
        validation: Some(Validation { roots: Roots::Mesh, subject_alt_names: Box::default() }),
        require_client_certificate: true,
        alpn: ["istio-peer-exchange", "h2", "http/1.1"].map(Into::into).into(),
        min_version: None,
        max_version: None,
    })
}

/// TLS of the mesh, as a sidecar begins it.
pub(crate) fn mesh_client(expected: &str) -> UpstreamTls {
    UpstreamTls {
        sni: Some("outbound_.9080_.v1_.reviews.default.svc.cluster.local".into()),
        auto_sni: false,
        auto_san_validation: false,
        certificate: Some(Certificate::Workload),
        validation: Some(Validation { roots: Roots::Mesh, subject_alt_names: [exact(NameKind::Uri, expected)].into() }),
        alpn: ["istio-peer-exchange", "istio"].map(Into::into).into(),
        min_version: None,
        max_version: None,
    }
}

#[test]
fn a_servers_names_are_judged_by_their_kind() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![
        SanType::DnsName("*.example.com".try_into().unwrap()),
        SanType::IpAddress("10.0.0.1".parse().unwrap()),
        SanType::IpAddress("fd00::1".parse().unwrap()),
    ];
    let certificate = params.self_signed(&key).unwrap();
    let now = std::time::SystemTime::now();
    for (kind, name, fits) in [
        (NameKind::Address, "10.0.0.1", true),
        (NameKind::Address, "fd00::1", true),
        (NameKind::Address, "10.0.0.2", false),
        (NameKind::Dns, "10.0.0.1", false),
        (NameKind::Dns, "foo.example.com", true),
        (NameKind::Dns, "foo.bar.example.com", false),
        (NameKind::Dns, "example.com", false),
    ] {
        let names = [exact(kind, name)];
        let judged = check_peer(certificate.der(), Expected { names: &names, ..Expected::default() }, now);
        assert_eq!(judged.is_ok(), fits, "{kind:?} {name}: {judged:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_outside_is_the_one_of_the_name_that_is_sent() {
    let authority = Authority::new();
    let server = authority.identity_with(1, SERVER, Some("*.example.com"));
    let configs = ServerConfigs::new(1);
    let terminate = DownstreamTls { validation: None, require_client_certificate: false, ..(*mesh_server()).clone() };
    let terminate = Arc::new(terminate);
    let validation = Validation { roots: Roots::Inline(authority.pem().into()), subject_alt_names: Box::default() };
    let fixed = |sni: &str, auto_san_validation| UpstreamTls {
        sni: Some(sni.into()),
        auto_san_validation,
        certificate: None,
        validation: Some(validation.clone()),
        alpn: Arc::default(),
        ..mesh_client(SERVER)
    };
    let by_host = UpstreamTls { sni: None, auto_sni: true, ..fixed("", true) };
    let rows = [
        ("its name", fixed("a.example.com", true), None, true),
        ("the name of another", fixed("a.example.org", true), None, false),
        ("the name of another, which nobody asked to verify", fixed("a.example.org", false), None, true),
        ("the request's host", by_host.clone(), Some("a.example.com"), true),
        ("another host", by_host, Some("a.example.org"), false),
    ];
    for (name, tls, host, fits) in rows {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let config = client::config(&tls, Inside::Tcp, false, None).unwrap();
        let accepting = server::accept(Io::new(Stream::Memory(far)), &terminate, &configs, Some(&server), &[]);
        let address = "10.0.0.1:443".parse().unwrap();
        let connecting = client::connect(Io::new(Stream::Memory(near)), &tls, config, host, address);
        let (_, connected) = tokio::join!(accepting, connecting);
        let refused = connected.err();
        assert_eq!(refused.is_none(), fits, "{name}: {refused:?}");
        assert!(refused.is_none_or(|reason| reason.contains("is not for a.example.org")), "{name}");
    }
}

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/productpage";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";

async fn shake(
    expected: &str,
    server: &Arc<Identity>,
    configs: &ServerConfigs,
    client: &Arc<ClientConfig>,
    offered: &[&str],
) -> (Result<server::Accepted, crate::error::ProxyError>, Result<client::Connected, String>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let offered: Vec<Vec<u8>> = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let tls = mesh_server();
    let upstream = mesh_client(expected);
    let accepting = server::accept(Io::new(Stream::Memory(far)), &tls, configs, Some(server), &offered);
    let address = "10.0.0.1:9080".parse().unwrap();
    let connecting = async {
        let mut connected =
            client::connect(Io::new(Stream::Memory(near)), &upstream, client.clone(), None, address).await?;
        // The ticket comes after the handshake, with the first read.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(1), connected.io.read_ahead()).await;
        Ok(connected)
    };
    tokio::join!(accepting, connecting)
}

#[tokio::test(start_paused = true)]
async fn two_workloads_know_each_other_and_resume() {
    let authority = Authority::new();
    let (ours, theirs) = (authority.identity(1, CLIENT), authority.identity(1, SERVER));
    let configs = ServerConfigs::new(1);
    for (inside, agreed) in [(Inside::Http1, Some("http/1.1")), (Inside::Http2, Some("h2")), (Inside::Tcp, None)] {
        let config = client::config(&mesh_client(SERVER), inside, true, Some(&ours)).unwrap();
        let offered: Vec<&str> =
            config.alpn_protocols.iter().map(|protocol| std::str::from_utf8(protocol).unwrap()).collect();
        let (accepted, connected) = shake(SERVER, &theirs, &configs, &config, &offered).await;
        let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
        assert_eq!(accepted.peer.unwrap().spiffe.as_ref(), Some(&ours.spiffe), "{inside:?}");
        assert_eq!(connected.peer.spiffe.as_ref(), Some(&theirs.spiffe), "{inside:?}");
        assert_eq!(accepted.alpn.as_deref(), agreed.map(str::as_bytes), "{inside:?}");
        assert!(!connected.resumed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_refused_on_either_side() {
    let authority = Authority::new();
    let (ours, theirs) = (authority.identity(1, CLIENT), authority.identity(1, SERVER));
    let configs = ServerConfigs::new(1);
    let config = client::config(&mesh_client(SERVER), Inside::Tcp, true, Some(&ours)).unwrap();
    let (_, connected) = shake("spiffe://cluster.local/ns/default/sa/ratings", &theirs, &configs, &config, &[]).await;
    let refused = connected.unwrap_err();
    assert!(refused.contains("is not who is expected there"), "{refused}");

    let elsewhere = Authority::new().identity(1, CLIENT);
    let config = client::config(&mesh_client(SERVER), Inside::Tcp, true, Some(&elsewhere)).unwrap();
    let (accepted, connected) = shake(SERVER, &theirs, &configs, &config, &[]).await;
    assert!(accepted.is_err() && connected.is_err(), "another authority's workload gets no connection");
}

#[tokio::test(start_paused = true)]
async fn a_session_counts_only_where_the_same_authority_does() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (client, server) = (ours.identity(1, CLIENT), ours.identity(1, SERVER));
    let upstream = mesh_client(SERVER);
    let config = client::config(&upstream, Inside::Tcp, true, Some(&client)).unwrap();
    let configs = ServerConfigs::new(1);
    let trusting = |authority: &Authority| {
        let roots = Roots::Inline(authority.pem().into());
        let validation = Some(Validation { roots, subject_alt_names: Box::default() });
        Arc::new(DownstreamTls { validation, ..(*mesh_server()).clone() })
    };
    let mut outcomes = Vec::new();
    for tls in [trusting(&ours), trusting(&ours), trusting(&others)] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accepting = server::accept(Io::new(Stream::Memory(far)), &tls, &configs, Some(&server), &[]);
        let address = "10.0.0.1:9080".parse().unwrap();
        let connecting = async {
            let near = Io::new(Stream::Memory(near));
            let mut connected = client::connect(near, &upstream, config.clone(), None, address).await?;
            let _ = tokio::time::timeout(std::time::Duration::from_millis(1), connected.io.read_ahead()).await;
            Ok::<_, String>(())
        };
        let (accepted, _) = tokio::join!(accepting, connecting);
        outcomes.push(accepted.map(|accepted| accepted.resumed).map_err(|_| "refused"));
    }
    assert_eq!(outcomes, [Ok(false), Ok(true), Err("refused")]);
}
