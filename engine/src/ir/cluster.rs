//! Clusters: where traffic goes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use xds::service::ServiceName;

use super::{
    Provenance,
    endpoint::EndpointSet,
    tls::{NameMatch, UpstreamTls, UpstreamTransport},
};

/// A named set of endpoints and how to speak to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub kind: ClusterKind,
    /// How connections are encrypted, by what an endpoint says of itself.
    pub transport: ClusterTransport,
    /// The service that it stands for: a request's `destination_service`.
    pub service: Option<Arc<ServiceName>>,
    /// What most clusters have in common, and share.
    pub settings: Arc<Settings>,
    /// The rule that it came from, if it says so.
    pub provenance: Option<Arc<Provenance>>,
}

/// How endpoints are chosen, spoken to and spared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How one of them is chosen.
    pub lb: LbPolicy,
    /// Below this share of healthy endpoints all count as healthy, in per cent; zero is never.
    pub panic_threshold: u8,
    /// Whether the weights of localities count.
    pub locality_weighted: bool,
    /// The time for a connection.
    pub connect_timeout: Duration,
    /// Limits.
    pub breakers: Breakers,
    /// When an endpoint is left out for a while.
    pub outlier: Option<Outlier>,
    /// Which HTTP is spoken.
    pub http: UpstreamHttp,
    /// Connections come from this address.
    pub bind_source: Option<IpAddr>,
    /// TCP keep-alive.
    pub keepalive: Option<Keepalive>,
    /// A connection serves at most this many requests.
    pub max_requests_per_connection: Option<u32>,
    /// An idle connection is closed after this; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Whether the ALPN of TLS follows the request's protocol (`istio.alpn`).
    pub alpn_override: bool,
}

impl Default for Settings {
    /// Envoy's.
    fn default() -> Self {
        Self {
            lb: LbPolicy::RoundRobin,
            panic_threshold: 50,
            locality_weighted: false,
            connect_timeout: Duration::from_secs(5),
            breakers: Breakers::default(),
            outlier: None,
            http: UpstreamHttp::Http1,
            bind_source: None,
            keepalive: None,
            max_requests_per_connection: None,
            idle_timeout: Some(Duration::from_hours(1)),
            alpn_override: true,
        }
    }
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterKind {
    /// By name, from the control plane.
    Eds {
        /// The name of the ClusterLoadAssignment.
        service_name: Arc<str>,
    },
    /// From the cluster itself; without endpoints it drops what it gets.
    Static(Arc<EndpointSet>),
    /// The connection's own original destination.
    OriginalDst {
        /// The port in place of the destination's.
        port_override: Option<u16>,
        /// Whether `x-envoy-original-dst-host` names the destination.
        use_http_header: bool,
    },
    /// All addresses of some names.
    StrictDns(Box<Dns>),
    /// One address of a name.
    LogicalDns(Box<Dns>),
}

/// Names to resolve.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// The names.
    pub targets: Box<[DnsTarget]>,
    /// How often; also after a failure.
    pub refresh_rate: Duration,
    /// Whether the answer's TTL counts instead.
    pub respect_ttl: bool,
    /// Which addresses.
    pub family: DnsFamily,
}

/// One name to resolve.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsTarget {
    /// The name.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// What each address gets beside the address: weight, health, priority, TLS mode.
    pub template: super::endpoint::Endpoint,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6, else IPv4.
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LbPolicy {
    /// In turn.
    RoundRobin,
    /// The one with the fewest requests of some chosen at random.
    LeastRequest {
        /// How many are looked at.
        choices: u32,
    },
    /// At random.
    Random,
    /// By a hash of the request.
    RingHash {
        /// The fewest points on the ring.
        minimum_size: u64,
        /// The most points on the ring.
        maximum_size: u64,
    },
    /// By a hash of the request, in a table of this many places.
    Maglev {
        /// A prime.
        table_size: u64,
    },
    /// The connection's own original destination.
    ClusterProvided,
}

impl LbPolicy {
    /// Whether a hash of the request decides.
    pub fn hashes(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }
}

/// Limits of a cluster, all proxies' workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Breakers {
    /// Connections.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests at once.
    pub max_requests: u32,
    /// Retries at once, when there is no budget.
    pub max_retries: u32,
    /// Retries as a share of the requests.
    pub retry_budget: Option<RetryBudget>,
}

impl Default for Breakers {
    /// Envoy's limits.
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

/// Retries as a share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// The share, in thousandths of a per cent.
    pub thousandths: u32,
    /// So many are always allowed.
    pub min_concurrency: u32,
}

/// When an endpoint is left out for a while. A count of zero switches the condition off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outlier {
    /// So many 5xx in a row.
    pub consecutive_5xx: u32,
    /// So many 502, 503, 504 in a row.
    pub consecutive_gateway: u32,
    /// So many connections that failed in a row; only when they are counted apart.
    pub consecutive_local_origin: u32,
    /// Whether failed connections are counted apart from answers.
    pub split_local_origin: bool,
    /// How often ejections are looked at.
    pub interval: Duration,
    /// The first ejection's length; each further one adds as much.
    pub base_ejection: Duration,
    /// No ejection is longer.
    pub max_ejection: Duration,
    /// At most this share is ejected, in per cent.
    pub max_ejection_percent: u32,
    /// Whether one endpoint may be ejected whatever the share is.
    pub always_eject_one: bool,
}

/// How a cluster's connections are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterTransport {
    /// All alike.
    Uniform(UpstreamTransport),
    /// By the endpoint's [`mtls`](super::endpoint::Endpoint::mtls): `tlsMode-istio` or plaintext (auto mTLS).
    ByTlsMode {
        /// For `tlsMode: istio`.
        istio: Arc<UpstreamTls>,
        /// For the rest.
        other: UpstreamTransport,
    },
}

/// Which HTTP is spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamHttp {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client spoke.
    UseDownstream,
    /// By ALPN; HTTP/1.1 when there is none.
    Auto,
}

/// TCP keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Probes until the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first.
    pub time: Option<Duration>,
    /// Between two.
    pub interval: Option<Duration>,
}

impl Cluster {
    /// How a connection to an endpoint is encrypted; `mtls` is the endpoint's.
    pub fn transport_for(&self, mtls: bool) -> UpstreamTransport {
        match &self.transport {
            ClusterTransport::Uniform(transport) => transport.clone(),
            ClusterTransport::ByTlsMode { istio: tls, .. } if mtls => UpstreamTransport::Tls(tls.clone()),
            ClusterTransport::ByTlsMode { other, .. } => other.clone(),
        }
    }

    /// The names that a server must have one of, whichever endpoint is chosen.
    pub fn server_names(&self) -> &[NameMatch] {
        let tls = match &self.transport {
            ClusterTransport::Uniform(UpstreamTransport::Tls(tls)) | ClusterTransport::ByTlsMode { istio: tls, .. } => {
                tls
            }
            ClusterTransport::Uniform(UpstreamTransport::Plaintext) => return &[],
        };
        tls.validation.as_ref().map_or(&[], |validation| &validation.subject_alt_names)
    }
}
