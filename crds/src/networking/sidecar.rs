//! Sidecar: what a sidecar listens on, and which services it knows.

use kube::CustomResource;

use super::destination_rule::ConnectionPoolSettings;
use super::gateway::ServerTlsSettings;
use super::virtual_service::Destination;
use crate::message::message;
use crate::selector::LabelSelector;
use crate::status::IstioStatus;

mod check;

message! {
    /// What the sidecars of some workloads listen on, and which services they know.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "Sidecar", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        category = "istio-io", category = "networking-istio-io",
    )]
    pub struct SidecarSpec {
        /// The workloads; all of the namespace when absent.
        pub workload_selector: Option<LabelSelector>,
        /// What they listen on for others; what their Services say when absent.
        pub ingress: Vec<IngressListener>,
        /// What they listen on for their own application, and the services behind it.
        pub egress: Vec<EgressListener>,
        /// Limits of connections to the application, for all ports without their own.
        pub inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// What happens to connections to unknown hosts; the mesh's setting when absent.
        pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }
}

message! {
    /// A listener for others.
    #[schemars(extend("required" = ["port"]))]
    pub struct IngressListener {
        /// The port.
        pub port: Option<SidecarPort>,
        /// An address to bind; all when absent.
        pub bind: String,
        /// How connections get here.
        pub capture_mode: CaptureMode,
        /// Where the application is: `127.0.0.1:port`, `0.0.0.0:port` (the workload's own address), the same for IPv6,
        /// or `unix://<path>`.
        pub default_endpoint: String,
        /// TLS that is terminated here, for callers outside the mesh.
        pub tls: Option<ServerTlsSettings>,
        /// Limits of connections to the application.
        pub connection_pool: Option<ConnectionPoolSettings>,
    }
}

message! {
    /// A listener for the workload's own application.
    #[schemars(extend("required" = ["hosts"]))]
    pub struct EgressListener {
        /// The port; all ports of the hosts when absent.
        pub port: Option<SidecarPort>,
        /// An address or `unix://<path>` to bind.
        pub bind: String,
        /// How connections get here.
        pub capture_mode: CaptureMode,
        /// Services, as `namespace/host`; `./` is this namespace, `*/` any, and `~` leaves out.
        pub hosts: Vec<String>,
    }
}

message! {
    /// A port of a sidecar.
    pub struct SidecarPort {
        /// The number; 0 for a unix socket.
        pub number: u32,
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        pub protocol: String,
        /// A name.
        pub name: String,
        /// Deprecated: has no effect.
        pub target_port: u32,
    }
}

message! {
    /// How connections get to a listener.
    pub enum CaptureMode {
        /// As the workload is set up.
        #[default]
        Default,
        /// By redirection.
        Iptables,
        /// By connecting to it.
        None,
    }
}

message! {
    /// What happens to connections to unknown hosts.
    pub struct OutboundTrafficPolicy {
        /// Whether they are let through.
        pub mode: OutboundTrafficMode,
        /// The service that they go through.
        pub egress_proxy: Option<Destination>,
    }
}

message! {
    /// Whether connections to unknown hosts are let through.
    pub enum OutboundTrafficMode {
        /// No.
        #[default]
        RegistryOnly,
        /// Yes.
        AllowAny,
    }
}
