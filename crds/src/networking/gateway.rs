//! Gateway: what listens at the edge of the mesh.

use std::collections::BTreeMap;

use kube::CustomResource;

use crate::message::message;
use crate::status::IstioStatus;

mod check;
mod tls;

pub(in crate::networking) use tls::server_tls;

message! {
    /// Servers on the gateways that a selector chooses.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "Gateway", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "gw", category = "istio-io", category = "networking-istio-io",
    )]
    pub struct GatewaySpec {
        /// Ports, hosts and TLS.
        pub servers: Vec<Server>,
        /// Labels of the gateway's pods.
        pub selector: BTreeMap<String, String>,
    }
}

message! {
    /// One port for some hosts.
    #[schemars(extend("required" = ["port", "hosts"]))]
    pub struct Server {
        /// The port.
        pub port: Option<Port>,
        /// An address to bind; all when absent.
        pub bind: String,
        /// Hosts, optionally as `namespace/host`.
        pub hosts: Vec<String>,
        /// TLS, or a redirect to it.
        pub tls: Option<ServerTlsSettings>,
        /// Where traffic goes that has no route.
        pub default_endpoint: String,
        /// A name for statistics and logs.
        pub name: String,
    }
}

message! {
    /// A port of a Gateway.
    #[schemars(extend("required" = ["number", "protocol", "name"]))]
    pub struct Port {
        /// The number that the gateway's Service exposes.
        pub number: u32,
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        pub protocol: String,
        /// A name.
        pub name: String,
        /// The port of the pod.
        pub target_port: u32,
    }
}

message! {
    /// TLS of a server.
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "message": "only one of credentialNames or tlsCertificates can be set",
            "rule": "(has(self.tlsCertificates) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
        },
        {
            "message": "only one of credentialName or credentialNames can be set",
            "rule": "(has(self.credentialName) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
        },
        {
            "message": "only one of credentialName or tlsCertificates can be set",
            // Istio's rule to the letter, though it says less than its message; `check` says the rest.
            "rule": "(has(self.credentialNames) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1",
        },
    ]))]
    pub struct ServerTlsSettings {
        /// Answers plaintext with a redirect to https.
        pub https_redirect: bool,
        /// What is terminated, and what is asked of clients.
        pub mode: ServerTlsMode,
        /// A file with the certificate.
        pub server_certificate: String,
        /// A file with its key.
        pub private_key: String,
        /// A file with the authorities for clients' certificates.
        pub ca_certificates: String,
        /// A file with revoked certificates.
        pub ca_crl: String,
        /// A Secret with certificate and key.
        pub credential_name: String,
        /// Secrets with certificates of different kinds.
        #[schemars(length(min = 1, max = 2))]
        pub credential_names: Vec<String>,
        /// A Secret with the authorities for clients' certificates.
        pub ca_cert_credential_name: String,
        /// Files with certificates of different kinds.
        #[schemars(length(min = 1, max = 2))]
        pub tls_certificates: Vec<TlsCertificate>,
        /// Names that a client's certificate must have.
        pub subject_alt_names: Vec<String>,
        /// SHA-256 of clients' public keys.
        pub verify_certificate_spki: Vec<String>,
        /// SHA-256 of clients' certificates.
        pub verify_certificate_hash: Vec<String>,
        /// The lowest version; TLS 1.2 when absent.
        pub min_protocol_version: TlsProtocol,
        /// The highest version.
        pub max_protocol_version: TlsProtocol,
        /// Cipher suites, by OpenSSL's names.
        pub cipher_suites: Vec<String>,
        /// Curves.
        pub ecdh_curves: Vec<String>,
        /// Does not verify clients' certificates.
        pub insecure_skip_verify: Option<bool>,
    }
}

message! {
    /// What a server terminates, and what it asks of clients.
    pub enum ServerTlsMode {
        /// Nothing is terminated; routes go by server name.
        #[default]
        Passthrough,
        /// TLS.
        Simple,
        /// TLS with a client certificate.
        Mutual,
        /// Passed through to the cluster that the server name names.
        AutoPassthrough,
        /// TLS with the mesh's certificates.
        IstioMutual,
        /// TLS, with a client certificate if the client has one.
        OptionalMutual,
    }
}

message! {
    /// A TLS version.
    #[derive(PartialOrd, Ord)]
    pub enum TlsProtocol {
        /// The default.
        #[default]
        TlsAuto,
        /// TLS 1.0.
        #[serde(rename = "TLSV1_0")]
        V1_0,
        /// TLS 1.1.
        #[serde(rename = "TLSV1_1")]
        V1_1,
        /// TLS 1.2.
        #[serde(rename = "TLSV1_2")]
        V1_2,
        /// TLS 1.3.
        #[serde(rename = "TLSV1_3")]
        V1_3,
    }
}

message! {
    /// Files with one certificate.
    pub struct TlsCertificate {
        /// The certificate.
        pub server_certificate: String,
        /// Its key.
        pub private_key: String,
        /// The authorities for clients' certificates.
        pub ca_certificates: String,
    }
}
