//! DestinationRule: how a destination is spoken to once a route has chosen it.

use std::collections::BTreeMap;

use kube::CustomResource;

use crate::Duration;
use crate::message::message;
use crate::schema::at_most_one_of;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;

mod check;
mod connection_pool;
mod locality;

pub(in crate::networking) use connection_pool::connection_pool;

message! {
    /// Subsets and traffic policy of a host.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "DestinationRule", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "dr", category = "istio-io", category = "networking-istio-io",
        printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", description = "The name of a service from the service registry"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("required" = ["host"]))]
    pub struct DestinationRuleSpec {
        /// The service's host; a short name is resolved in the rule's own namespace.
        pub host: String,
        /// Policy for all subsets and ports.
        pub traffic_policy: Option<TrafficPolicy>,
        /// Named sets of endpoints.
        pub subsets: Vec<Subset>,
        /// Namespaces that this applies in: `.`, `*`, or names.
        pub export_to: Vec<String>,
        /// Clients that this applies to; all when absent.
        pub workload_selector: Option<WorkloadSelector>,
    }
}

message! {
    /// A named set of endpoints.
    #[schemars(extend("required" = ["name"]))]
    pub struct Subset {
        /// Its name, which routes use.
        pub name: String,
        /// Labels of its endpoints.
        pub labels: BTreeMap<String, String>,
        /// Policy that replaces the rule's, field by field.
        pub traffic_policy: Option<TrafficPolicy>,
    }
}

message! {
    /// How connections to a destination are made.
    pub struct TrafficPolicy {
        /// Balancing.
        pub load_balancer: Option<LoadBalancerSettings>,
        /// Limits.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is ejected.
        pub outlier_detection: Option<OutlierDetection>,
        /// TLS to the destination.
        pub tls: Option<ClientTlsSettings>,
        /// Policy of single ports, which replaces the rest of this policy for them.
        #[schemars(length(max = 4096))]
        pub port_level_settings: Vec<PortTrafficPolicy>,
        /// Tunnels connections through another host.
        pub tunnel: Option<TunnelSettings>,
        /// Speaks the PROXY protocol to the destination.
        pub proxy_protocol: Option<ProxyProtocol>,
        /// Limits retries to a share of requests.
        pub retry_budget: Option<RetryBudget>,
    }
}

message! {
    /// Policy of one port.
    pub struct PortTrafficPolicy {
        /// The port.
        pub port: Option<super::virtual_service::PortSelector>,
        /// Balancing.
        pub load_balancer: Option<LoadBalancerSettings>,
        /// Limits.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is ejected.
        pub outlier_detection: Option<OutlierDetection>,
        /// TLS to the destination.
        pub tls: Option<ClientTlsSettings>,
    }
}

message! {
    /// Balancing.
    #[schemars(extend("oneOf" = at_most_one_of(&["simple", "consistentHash", "backendUtilization"])))]
    pub struct LoadBalancerSettings {
        /// A plain algorithm.
        pub simple: Option<SimpleLb>,
        /// Affinity by a hash.
        pub consistent_hash: Option<ConsistentHashLb>,
        /// By the load that endpoints report.
        pub backend_utilization: Option<BackendUtilization>,
        /// Preference of near endpoints.
        pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        /// Preference of the same zone by capacity.
        pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        /// Deprecated: how long a new endpoint warms up.
        pub warmup_duration_secs: Option<Duration>,
        /// How a new endpoint warms up.
        pub warmup: Option<WarmupConfiguration>,
    }
}

message! {
    /// A plain balancing algorithm.
    pub enum SimpleLb {
        /// Least requests.
        #[default]
        Unspecified,
        /// Deprecated: least requests.
        LeastConn,
        /// At random.
        Random,
        /// Where the caller was going.
        Passthrough,
        /// In turn.
        RoundRobin,
        /// The less busy of two.
        LeastRequest,
    }
}

message! {
    /// Affinity by a hash.
    #[schemars(extend("allOf" = [
        {"oneOf": at_most_one_of(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"])},
        {"oneOf": at_most_one_of(&["ringHash", "maglev"])},
    ]))]
    pub struct ConsistentHashLb {
        /// By a header.
        pub http_header_name: Option<String>,
        /// By a cookie.
        pub http_cookie: Option<HttpCookie>,
        /// By the caller's address.
        #[schemars(extend("nullable" = false))]
        pub use_source_ip: Option<bool>,
        /// By a query parameter.
        pub http_query_parameter_name: Option<String>,
        /// On a ring.
        pub ring_hash: Option<RingHash>,
        /// By Maglev's table.
        pub maglev: Option<MagLev>,
        /// Deprecated: the ring's least size.
        #[schemars(schema_with = "crate::schema::uint64")]
        pub minimum_ring_size: u64,
    }
}

message! {
    /// The cookie of an affinity.
    #[schemars(extend("required" = ["name"]))]
    pub struct HttpCookie {
        /// Its name.
        pub name: String,
        /// Its path.
        pub path: String,
        /// Its lifetime; a cookie with one is made when it is missing.
        #[schemars(with = "Option<String>")]
        pub ttl: Option<Duration>,
        /// Further attributes.
        pub attributes: Vec<CookieAttribute>,
    }
}

message! {
    /// An attribute of a cookie.
    #[schemars(extend("required" = ["name"]))]
    pub struct CookieAttribute {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }
}

message! {
    /// Hashing on a ring.
    pub struct RingHash {
        /// The ring's least size; 1024 when absent.
        #[schemars(schema_with = "crate::schema::uint64")]
        pub minimum_ring_size: u64,
    }
}

message! {
    /// Maglev hashing.
    pub struct MagLev {
        /// The table's size; 65537 when absent.
        #[schemars(schema_with = "crate::schema::uint64")]
        pub table_size: u64,
    }
}

message! {
    /// Balancing by the load that endpoints report.
    pub struct BackendUtilization {
        /// Penalty of errors, in percent.
        pub error_utilization_penalty_percent: u32,
        /// The reports' fields that count.
        pub metric_names_for_computing_utilization: Vec<String>,
        /// How long a weight is kept.
        #[schemars(with = "Option<String>")]
        pub weight_expiration_period: Option<Duration>,
        /// How long a weight must be stable.
        #[schemars(with = "Option<String>")]
        pub weight_stabilization_period: Option<Duration>,
        /// How often weights are computed.
        #[schemars(with = "Option<String>")]
        pub weight_update_period: Option<Duration>,
    }
}

message! {
    /// Preference of near endpoints.
    pub struct LocalityLoadBalancerSetting {
        /// Shares by locality.
        pub distribute: Vec<LocalityDistribute>,
        /// Where traffic of a region goes when it fails.
        pub failover: Vec<LocalityFailover>,
        /// Labels by which endpoints are ordered.
        pub failover_priority: Vec<String>,
        /// Whether this is on; the mesh's setting when absent.
        pub enabled: Option<bool>,
    }
}

message! {
    /// Shares of traffic from one locality.
    pub struct LocalityDistribute {
        /// `region/zone/subzone`.
        pub from: String,
        /// Locality to percentage.
        pub to: BTreeMap<String, u32>,
    }
}

message! {
    /// Where traffic of a region goes when it fails.
    pub struct LocalityFailover {
        /// The region that fails.
        pub from: String,
        /// The region that takes over.
        pub to: String,
    }
}

message! {
    /// Preference of the same zone by capacity.
    pub struct ZoneAwareLoadBalancerSetting {
        /// Whether this is on.
        pub enabled: Option<bool>,
        /// Where traffic of a region goes when it fails.
        pub failover: Vec<LocalityFailover>,
        /// Labels by which endpoints are ordered.
        pub failover_priority: Vec<String>,
        /// Endpoints from which on zones count.
        #[schemars(schema_with = "crate::schema::min_cluster_size")]
        pub min_cluster_size: Option<u64>,
    }
}

message! {
    /// How a new endpoint warms up.
    #[schemars(extend("required" = ["duration"]))]
    pub struct WarmupConfiguration {
        /// For how long.
        pub duration: Option<Duration>,
        /// The share it begins with, in percent; 10 when absent.
        #[schemars(range(min = 0.0, max = 100.0))]
        pub minimum_percent: Option<f64>,
        /// How steeply its share grows; 1 when absent.
        #[schemars(range(min = 0.0))]
        pub aggression: Option<f64>,
    }
}

message! {
    /// Limits of connections and requests.
    pub struct ConnectionPoolSettings {
        /// Of connections.
        pub tcp: Option<TcpSettings>,
        /// Of HTTP.
        pub http: Option<HttpSettings>,
    }
}

message! {
    /// Limits of connections.
    pub struct TcpSettings {
        /// Connections to the destination.
        pub max_connections: i32,
        /// How long connecting may take; 10s when absent.
        pub connect_timeout: Option<Duration>,
        /// Keep-alive probes.
        pub tcp_keepalive: Option<TcpKeepalive>,
        /// How long a connection may live.
        pub max_connection_duration: Option<Duration>,
        /// How long a connection may be idle.
        #[schemars(with = "Option<String>")]
        pub idle_timeout: Option<Duration>,
    }
}

message! {
    /// Keep-alive probes.
    pub struct TcpKeepalive {
        /// Probes before the connection is dead.
        pub probes: u32,
        /// Idle time before the first.
        pub time: Option<Duration>,
        /// Time between them.
        pub interval: Option<Duration>,
    }
}

message! {
    /// Limits of HTTP.
    pub struct HttpSettings {
        /// Requests that wait for a connection.
        #[serde(rename = "http1MaxPendingRequests")]
        pub http1_max_pending_requests: i32,
        /// Requests at once.
        #[serde(rename = "http2MaxRequests")]
        pub http2_max_requests: i32,
        /// Requests a connection serves.
        pub max_requests_per_connection: i32,
        /// Retries at once.
        pub max_retries: i32,
        /// How long a connection may be idle.
        pub idle_timeout: Option<Duration>,
        /// Whether HTTP/1.1 becomes HTTP/2.
        pub h2_upgrade_policy: H2UpgradePolicy,
        /// Keeps the caller's protocol.
        pub use_client_protocol: bool,
        /// Streams at once on an HTTP/2 connection.
        pub max_concurrent_streams: i32,
        /// HTTP/2 pings.
        #[serde(rename = "http2KeepAlive")]
        pub http2_keep_alive: Option<Http2KeepAlive>,
    }
}

message! {
    /// HTTP/2 pings.
    pub struct Http2KeepAlive {
        /// Time between them.
        pub interval: Option<Duration>,
        /// How long an answer may take.
        pub timeout: Option<Duration>,
    }
}

message! {
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub enum H2UpgradePolicy {
        /// As the mesh says.
        #[default]
        Default,
        /// Never.
        DoNotUpgrade,
        /// Always.
        Upgrade,
    }
}

message! {
    /// When an endpoint is ejected.
    pub struct OutlierDetection {
        /// Deprecated: errors in a row.
        pub consecutive_errors: i32,
        /// Whether failures to connect are counted apart.
        pub split_external_local_origin_errors: bool,
        /// Failures to connect in a row.
        pub consecutive_local_origin_failures: Option<u32>,
        /// 502, 503, 504 in a row.
        pub consecutive_gateway_errors: Option<u32>,
        /// 5xx in a row; 5 when absent.
        #[serde(rename = "consecutive5xxErrors")]
        pub consecutive_5xx_errors: Option<u32>,
        /// Time between sweeps; 10s when absent.
        pub interval: Option<Duration>,
        /// The least ejection; 30s when absent.
        pub base_ejection_time: Option<Duration>,
        /// The most endpoints ejected, in percent; 10 when absent.
        pub max_ejection_percent: i32,
        /// Ejection needs this many healthy endpoints, in percent.
        pub min_health_percent: i32,
        /// Statuses that count as errors.
        #[schemars(schema_with = "crate::schema::http_statuses")]
        pub outlier_detection_http_error_codes: Vec<u32>,
    }
}

message! {
    /// TLS to a destination.
    pub struct ClientTlsSettings {
        /// Whether, and with which certificate.
        pub mode: ClientTlsMode,
        /// A file with the client's certificate.
        pub client_certificate: String,
        /// A file with its key.
        pub private_key: String,
        /// A file with the authorities to trust.
        pub ca_certificates: String,
        /// A Secret with all three.
        pub credential_name: String,
        /// Names that the server's certificate must have.
        pub subject_alt_names: Vec<String>,
        /// The server name to ask for.
        pub sni: String,
        /// Does not verify the server's certificate.
        pub insecure_skip_verify: Option<bool>,
        /// A file with revoked certificates.
        pub ca_crl: String,
    }
}

message! {
    /// Whether TLS is used to a destination.
    pub enum ClientTlsMode {
        /// No.
        #[default]
        Disable,
        /// Yes, without a client certificate.
        Simple,
        /// With a client certificate.
        Mutual,
        /// With the workload's own certificate.
        IstioMutual,
    }
}

message! {
    /// Tunnels connections through another host.
    #[schemars(extend("required" = ["targetHost", "targetPort"]))]
    pub struct TunnelSettings {
        /// CONNECT or POST.
        pub protocol: String,
        /// The host to reach.
        pub target_host: String,
        /// Its port.
        pub target_port: u32,
    }
}

message! {
    /// The PROXY protocol.
    pub struct ProxyProtocol {
        /// Its version.
        pub version: ProxyProtocolVersion,
    }
}

message! {
    /// A version of the PROXY protocol.
    pub enum ProxyProtocolVersion {
        /// Text.
        #[default]
        V1,
        /// Binary.
        V2,
    }
}

message! {
    /// Limits retries to a share of requests.
    pub struct RetryBudget {
        /// The share, in percent; 20 when absent.
        #[schemars(range(min = 0.0, max = 100.0))]
        pub percent: Option<f64>,
        /// Retries that are always allowed.
        pub min_retry_concurrency: u32,
        /// Time over which requests are counted.
        #[schemars(with = "Option<String>")]
        pub budget_interval: Option<Duration>,
    }
}
