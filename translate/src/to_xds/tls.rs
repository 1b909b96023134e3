//! TLS contexts. The secrets `default` (the proxy's own certificate) and `ROOTCA` (the mesh's root) are names that the
//! proxy resolves itself.

use crds::networking::destination_rule::{ClientTlsMode, ClientTlsSettings};
use xds::any;
use xds::dynamic::{Object, string};
use xds::types::cluster::cluster::TransportSocketMatch;
use xds::types::{boolean, core, matcher, raw_buffer, tls};
use xds::workload::{TLS_MODE, TLS_MODE_ISTIO};

use crate::model::mesh::Mesh;

const OWN_CERTIFICATE: &str = "default";
const MESH_ROOT: &str = "ROOTCA";
/// What a sidecar offers: peer metadata may be exchanged, and this is mesh traffic.
const MESH_ALPN: [&str; 2] = ["istio-peer-exchange", "istio"];
/// What a sidecar takes.
const SERVER_ALPN: [&str; 3] = ["istio-peer-exchange", "h2", "http/1.1"];

/// How the server at the other end is found out to be the right one.
pub(crate) struct Peer {
    /// The server name to ask for.
    pub(crate) sni: String,
    /// The names of which its certificate must have one; with none, any of the mesh's will do.
    pub(crate) names: Vec<String>,
    /// Whether HTTP/2 is spoken.
    pub(crate) http2: bool,
}

fn secret(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: Some(xds::types::ads()) }
}

pub(crate) fn socket<M: prost::Message + prost::Name>(name: &str, config: &M) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any::pack(config))),
    }
}

fn names(names: &[String]) -> Vec<tls::SubjectAltNameMatcher> {
    let exactly = |name: &String, san_type: tls::subject_alt_name_matcher::SanType| tls::SubjectAltNameMatcher {
        san_type: san_type.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(name.clone())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let kind = |name: &String| {
        if name.contains("://") {
            tls::subject_alt_name_matcher::SanType::Uri
        } else if name.parse::<std::net::IpAddr>().is_ok() {
            tls::subject_alt_name_matcher::SanType::IpAddress
        } else {
            tls::subject_alt_name_matcher::SanType::Dns
        }
    };
    names.iter().map(|name| exactly(name, kind(name))).collect()
}

/// Mutual TLS of the mesh, with the workload's own certificate.
pub(crate) fn mesh_client(peer: &Peer) -> core::TransportSocket {
    let mut alpn: Vec<String> = MESH_ALPN.map(str::to_owned).into();
    if peer.http2 {
        alpn.push("h2".to_owned());
    }
    let validation = tls::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: names(&peer.names),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret(MESH_ROOT)),
        ..Default::default()
    };
    let context = tls::UpstreamTlsContext {
        sni: peer.sni.clone(),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret(OWN_CERTIFICATE)],
            alpn_protocols: alpn,
            validation_context_type: Some(tls::common_tls_context::ValidationContextType::CombinedValidationContext(
                validation,
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}

/// Mesh TLS to the endpoints that speak it, plain text to the others.
pub(crate) fn automatic(peer: &Peer) -> Vec<TransportSocketMatch> {
    vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(Object::new().set(TLS_MODE, string(TLS_MODE_ISTIO)).build()),
            transport_socket: Some(mesh_client(peer)),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Object::new().build()),
            transport_socket: Some(socket("envoy.transport_sockets.raw_buffer", &raw_buffer::RawBuffer {})),
        },
    ]
}

/// TLS as a DestinationRule asks for it; `None` where it asks for plain text.
pub(crate) fn client(settings: &ClientTlsSettings, peer: &Peer) -> Option<core::TransportSocket> {
    match settings.mode {
        ClientTlsMode::Disable => None,
        ClientTlsMode::IstioMutual => {
            let or = |own: &String, other: &String| if own.is_empty() { other.clone() } else { own.clone() };
            let names = if settings.subject_alt_names.is_empty() { &peer.names } else { &settings.subject_alt_names };
            Some(mesh_client(&Peer { sni: or(&settings.sni, &peer.sni), names: names.clone(), http2: peer.http2 }))
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => Some(origination(settings, peer)),
    }
}

/// TLS to a server outside of the mesh.
fn origination(settings: &ClientTlsSettings, peer: &Peer) -> core::TransportSocket {
    let file = |path: &String| {
        (!path.is_empty()).then(|| core::DataSource {
            specifier: Some(core::data_source::Specifier::Filename(path.clone())),
            ..Default::default()
        })
    };
    let certificate = (settings.mode == ClientTlsMode::Mutual).then(|| tls::TlsCertificate {
        certificate_chain: file(&settings.client_certificate),
        private_key: file(&settings.private_key),
        ..Default::default()
    });
    let verifies = settings.insecure_skip_verify != Some(true);
    let expected = if settings.subject_alt_names.is_empty() { &peer.names } else { &settings.subject_alt_names };
    let validation = tls::CertificateValidationContext {
        trusted_ca: file(&settings.ca_certificates).filter(|_| verifies),
        system_root_certs: (verifies && settings.ca_certificates.is_empty())
            .then(tls::certificate_validation_context::SystemRootCerts::default),
        match_typed_subject_alt_names: if verifies { names(expected) } else { Vec::new() },
        crl: file(&settings.ca_crl),
        ..Default::default()
    };
    let context = tls::UpstreamTlsContext {
        sni: settings.sni.clone(),
        // Any root's word for any server would be worth nothing. Where the name follows the host, the HTTP options say so.
        auto_sni_san_validation: verifies && expected.is_empty() && !settings.sni.is_empty(),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificates: certificate.into_iter().collect(),
            alpn_protocols: if peer.http2 { vec!["h2".to_owned()] } else { Vec::new() },
            validation_context_type: Some(tls::common_tls_context::ValidationContextType::ValidationContext(
                validation,
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}

/// Workloads of the mesh: those of its trust domain or of an alias. A root that several meshes share vouches for the others' too.
fn of_the_mesh(mesh: &Mesh) -> Vec<tls::SubjectAltNameMatcher> {
    let domains = std::iter::once(&mesh.config.trust_domain).chain(&mesh.config.trust_domain_aliases);
    domains
        .map(|domain| tls::SubjectAltNameMatcher {
            san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
            matcher: Some(matcher::StringMatcher {
                match_pattern: Some(matcher::string_matcher::MatchPattern::Prefix(format!("spiffe://{domain}/"))),
                ..Default::default()
            }),
            ..Default::default()
        })
        .collect()
}

/// Mutual TLS of the mesh as a sidecar terminates it.
pub(crate) fn mesh_server(mesh: &Mesh) -> core::TransportSocket {
    let context = tls::DownstreamTlsContext {
        require_client_certificate: Some(boolean(true)),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret(OWN_CERTIFICATE)],
            alpn_protocols: SERVER_ALPN.map(str::to_owned).into(),
            validation_context_type: Some(tls::common_tls_context::ValidationContextType::CombinedValidationContext(
                tls::common_tls_context::CombinedCertificateValidationContext {
                    default_validation_context: Some(tls::CertificateValidationContext {
                        match_typed_subject_alt_names: of_the_mesh(mesh),
                        ..Default::default()
                    }),
                    validation_context_sds_secret_config: Some(secret(MESH_ROOT)),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}
