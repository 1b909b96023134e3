//! TLS contexts of gRPC libraries. Certificate and root come from a provider that the bootstrap file declares.

use xds::types::{boolean, core, matcher, tls};

use crate::to_xds::tls::socket;

/// The provider's name in the bootstrap file that the agent writes.
const PROVIDER: &str = "default";
const OWN_CERTIFICATE: &str = "default";
const MESH_ROOT: &str = "ROOTCA";
/// The only name that gRPC takes.
const SOCKET: &str = "envoy.transport_sockets.tls";

fn provided(certificate: &str) -> tls::CertificateProviderPluginInstance {
    tls::CertificateProviderPluginInstance {
        instance_name: PROVIDER.to_owned(),
        certificate_name: certificate.to_owned(),
    }
}

/// The workload's own certificate, and the mesh's root for the peer's. With `names`, the peer must have one of them.
fn mutual(names: &[String]) -> tls::CommonTlsContext {
    let exactly = |name: &String| matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(name.clone())),
        ..Default::default()
    };
    #[allow(deprecated)] // the form that gRPC reads
    let validation = tls::CertificateValidationContext {
        ca_certificate_provider_instance: Some(provided(MESH_ROOT)),
        match_subject_alt_names: names.iter().map(exactly).collect(),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_certificate_provider_instance: Some(provided(OWN_CERTIFICATE)),
        validation_context_type: Some(tls::common_tls_context::ValidationContextType::CombinedValidationContext(
            tls::common_tls_context::CombinedCertificateValidationContext {
                default_validation_context: Some(validation),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// Mutual TLS of the mesh to a server that has one of `names`; with none, any of the mesh's will do.
pub(super) fn client(names: &[String]) -> core::TransportSocket {
    let context = tls::UpstreamTlsContext { common_tls_context: Some(mutual(names)), ..Default::default() };
    socket(SOCKET, &context)
}

/// Mutual TLS of the mesh as a server terminates it. gRPC servers refuse to check names.
pub(super) fn server() -> core::TransportSocket {
    let context = tls::DownstreamTlsContext {
        require_client_certificate: Some(boolean(true)),
        common_tls_context: Some(mutual(&[])),
        ..Default::default()
    };
    socket(SOCKET, &context)
}
