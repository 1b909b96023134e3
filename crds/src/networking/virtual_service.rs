//! VirtualService: where requests to a host go.

use std::collections::BTreeMap;

use kube::CustomResource;

use crate::Duration;
use crate::message::message;
use crate::schema::at_most_one_of;
use crate::status::IstioStatus;

mod check;
mod cover;
mod http;
mod matching;
mod reach;

pub(in crate::networking) use check::destination;

message! {
    /// Routes for a set of hosts.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "VirtualService", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "vs", category = "istio-io", category = "networking-istio-io",
        printcolumn(name = "Gateways", type_ = "string", json_path = ".spec.gateways", description = "The names of gateways and sidecars that should apply these routes"),
        printcolumn(name = "Hosts", type_ = "string", json_path = ".spec.hosts", description = "The destination hosts to which traffic is being sent"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    pub struct VirtualServiceSpec {
        /// Destination hosts: DNS names, with wildcards, or short names of services in the same namespace.
        pub hosts: Vec<String>,
        /// Gateways, as `namespace/name` or `name`, that apply these routes; `mesh` stands for all sidecars.
        pub gateways: Vec<String>,
        /// Routes for HTTP, in order; the first that matches wins.
        pub http: Vec<HttpRoute>,
        /// Routes for TLS that is passed through.
        pub tls: Vec<TlsRoute>,
        /// Routes for opaque TCP.
        pub tcp: Vec<TcpRoute>,
        /// Namespaces that this applies in: `.`, `*`, or names.
        pub export_to: Vec<String>,
    }
}

message! {
    /// One HTTP route.
    pub struct HttpRoute {
        /// A name for logs and debugging.
        pub name: String,
        /// Conditions, any of which suffices; none matches every request.
        #[serde(rename = "match")]
        pub matches: Vec<HttpMatchRequest>,
        /// Where requests go, by weight.
        pub route: Vec<HttpRouteDestination>,
        /// Answers with a redirect.
        pub redirect: Option<HttpRedirect>,
        /// Answers with a fixed response.
        pub direct_response: Option<HttpDirectResponse>,
        /// Another VirtualService that has the routes.
        pub delegate: Option<Delegate>,
        /// Changes path or authority before forwarding.
        pub rewrite: Option<HttpRewrite>,
        /// How long a request may take, retries included.
        pub timeout: Option<Duration>,
        /// When and how often to try again.
        pub retries: Option<HttpRetry>,
        /// Delays and failures to inject.
        pub fault: Option<HttpFaultInjection>,
        /// A destination that gets a copy of each request; its responses are dropped.
        pub mirror: Option<Destination>,
        /// Destinations that get copies.
        pub mirrors: Vec<HttpMirrorPolicy>,
        /// Deprecated: share of requests to mirror.
        pub mirror_percent: Option<u32>,
        /// Deprecated spelling of `mirrorPercent`.
        #[serde(rename = "mirror_percent")]
        pub mirror_percent_deprecated: Option<u32>,
        /// Share of requests to mirror; all when absent.
        pub mirror_percentage: Option<Percent>,
        /// Cross-origin resource sharing.
        pub cors_policy: Option<CorsPolicy>,
        /// Header changes for all destinations.
        pub headers: Option<Headers>,
    }
}

message! {
    /// Conditions of an HTTP route, all of which must hold.
    #[derive(Eq, Hash)]
    pub struct HttpMatchRequest {
        /// A name for logs and debugging.
        pub name: String,
        /// The path.
        pub uri: Option<StringMatch>,
        /// The URI's scheme.
        pub scheme: Option<StringMatch>,
        /// The method.
        pub method: Option<StringMatch>,
        /// The authority (`Host`).
        pub authority: Option<StringMatch>,
        /// Headers; an empty match asks only for presence.
        pub headers: BTreeMap<String, StringMatch>,
        /// Headers that must not match.
        pub without_headers: BTreeMap<String, StringMatch>,
        /// Query parameters.
        pub query_params: BTreeMap<String, StringMatch>,
        /// The port the request was addressed to.
        pub port: u32,
        /// Labels of the workload that sends.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the workload that sends.
        pub source_namespace: String,
        /// Replaces the VirtualService's gateways for this match.
        pub gateways: Vec<String>,
        /// Compares `uri` without regard to case (exact and prefix).
        pub ignore_uri_case: bool,
        /// A prefix for this route's statistics.
        pub stat_prefix: String,
    }
}

message! {
    /// Matches a string: exactly, by prefix, or by regular expression (RE2, the whole string).
    #[derive(Eq, Hash)]
    #[schemars(extend("oneOf" = at_most_one_of(&["exact", "prefix", "regex"])))]
    pub struct StringMatch {
        /// The whole string.
        pub exact: Option<String>,
        /// Its beginning.
        pub prefix: Option<String>,
        /// A regular expression for the whole string.
        pub regex: Option<String>,
    }
}

/// What a [`StringMatch`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StringMatcher<'a> {
    /// Nothing: any value, as long as there is one.
    Present,
    /// The whole string.
    Exact(&'a str),
    /// Its beginning.
    Prefix(&'a str),
    /// A regular expression for the whole string.
    Regex(&'a str),
}

impl StringMatch {
    /// The one thing that this match asks for.
    pub fn matcher(&self) -> StringMatcher<'_> {
        if let Some(exact) = &self.exact {
            StringMatcher::Exact(exact)
        } else if let Some(prefix) = &self.prefix {
            StringMatcher::Prefix(prefix)
        } else if let Some(regex) = &self.regex {
            StringMatcher::Regex(regex)
        } else {
            StringMatcher::Present
        }
    }
}

message! {
    /// A share of requests.
    pub struct Percent {
        /// 0 to 100, with fractions.
        pub value: f64,
    }
}

message! {
    /// One weighted destination of an HTTP route.
    #[schemars(extend("required" = ["destination"]))]
    pub struct HttpRouteDestination {
        /// Where requests go.
        pub destination: Destination,
        /// The share of requests; relative to the other weights. A single destination may leave it out.
        pub weight: i32,
        /// Header changes for this destination.
        pub headers: Option<Headers>,
    }
}

message! {
    /// A service, or a subset of it.
    #[schemars(extend("required" = ["host"]))]
    pub struct Destination {
        /// The service's host; a short name is resolved in the rule's own namespace.
        pub host: String,
        /// A subset that a DestinationRule defines.
        pub subset: String,
        /// The port, where the service has several.
        pub port: Option<PortSelector>,
    }
}

message! {
    /// A port by number.
    pub struct PortSelector {
        /// The number.
        pub number: u32,
    }
}

message! {
    /// Header changes of requests and responses.
    pub struct Headers {
        /// On the way to the destination.
        pub request: Option<HeaderOperations>,
        /// On the way back.
        pub response: Option<HeaderOperations>,
    }
}

message! {
    /// Header changes: set, then add, then remove.
    pub struct HeaderOperations {
        /// Headers to overwrite.
        pub set: BTreeMap<String, String>,
        /// Headers to append.
        pub add: BTreeMap<String, String>,
        /// Headers to remove.
        pub remove: Vec<String>,
    }
}

message! {
    /// Answers with a redirect.
    #[schemars(extend("oneOf" = at_most_one_of(&["port", "derivePort"])))]
    pub struct HttpRedirect {
        /// The new path.
        pub uri: String,
        /// What replaces the matched prefix.
        pub prefix_rewrite: String,
        /// The new authority.
        pub authority: String,
        /// The new port.
        #[schemars(extend("nullable" = false))]
        pub port: Option<u32>,
        /// How to find the port.
        pub derive_port: Option<RedirectPortSelection>,
        /// The new scheme.
        pub scheme: String,
        /// The status; 301 when absent.
        pub redirect_code: u32,
    }
}

message! {
    /// How a redirect finds its port.
    pub enum RedirectPortSelection {
        /// 80 or 443, by the scheme.
        #[default]
        FromProtocolDefault,
        /// The port of the request.
        FromRequestPort,
    }
}

message! {
    /// Answers with a fixed response.
    #[schemars(extend("required" = ["status"]))]
    pub struct HttpDirectResponse {
        /// The status.
        pub status: u32,
        /// The body.
        pub body: Option<HttpBody>,
    }
}

message! {
    /// A body, as text or as base64.
    #[schemars(extend("oneOf" = at_most_one_of(&["string", "bytes"])))]
    pub struct HttpBody {
        /// Text.
        pub string: Option<String>,
        /// Base64.
        #[schemars(extend("format" = "byte"))]
        pub bytes: Option<String>,
    }
}

message! {
    /// The VirtualService that a route is delegated to.
    pub struct Delegate {
        /// Its name.
        pub name: String,
        /// Its namespace; the root's own when absent.
        pub namespace: String,
    }
}

message! {
    /// Changes path or authority before forwarding.
    pub struct HttpRewrite {
        /// The new path, or what replaces the matched prefix.
        pub uri: String,
        /// The new authority.
        pub authority: String,
        /// Rewrites the path by a regular expression.
        pub uri_regex_rewrite: Option<RegexRewrite>,
    }
}

message! {
    /// A regular expression and its substitution.
    pub struct RegexRewrite {
        /// The expression (RE2).
        #[serde(rename = "match")]
        pub pattern: String,
        /// The substitution; `\1` names a group.
        pub rewrite: String,
    }
}

message! {
    /// When and how often to try again.
    pub struct HttpRetry {
        /// How often beyond the first try; 0 switches retries off.
        pub attempts: i32,
        /// How long each try may take.
        pub per_try_timeout: Option<Duration>,
        /// The shortest wait between tries; 25ms when absent.
        pub backoff: Option<Duration>,
        /// Conditions, comma-separated, as Envoy names them, or status codes.
        pub retry_on: String,
        /// Whether to try endpoints in other localities.
        pub retry_remote_localities: Option<bool>,
        /// Whether to avoid endpoints that failed before; yes when absent.
        pub retry_ignore_previous_hosts: Option<bool>,
    }
}

message! {
    /// Delays and failures to inject.
    pub struct HttpFaultInjection {
        /// Delays requests.
        pub delay: Option<FaultDelay>,
        /// Fails requests.
        pub abort: Option<FaultAbort>,
    }
}

message! {
    /// Delays requests.
    #[schemars(extend("oneOf" = at_most_one_of(&["fixedDelay", "exponentialDelay"])))]
    pub struct FaultDelay {
        /// By how much.
        pub fixed_delay: Option<Duration>,
        /// Not implemented, by Istio neither.
        pub exponential_delay: Option<Duration>,
        /// The share of requests; all when absent.
        pub percentage: Option<Percent>,
        /// Deprecated: a whole percentage.
        pub percent: i32,
    }
}

message! {
    /// Fails requests.
    #[schemars(extend("oneOf" = at_most_one_of(&["httpStatus", "grpcStatus", "http2Error"])))]
    pub struct FaultAbort {
        /// With this HTTP status.
        #[schemars(extend("nullable" = false))]
        pub http_status: Option<i32>,
        /// With this gRPC status, by name or number.
        pub grpc_status: Option<String>,
        /// Not implemented, by Istio neither.
        #[serde(rename = "http2Error")]
        pub http2_error: Option<String>,
        /// The share of requests; all when absent.
        pub percentage: Option<Percent>,
    }
}

message! {
    /// A destination that gets copies.
    #[schemars(extend("required" = ["destination"]))]
    pub struct HttpMirrorPolicy {
        /// Where they go.
        pub destination: Destination,
        /// The share of requests; all when absent.
        pub percentage: Option<Percent>,
    }
}

message! {
    /// Cross-origin resource sharing.
    pub struct CorsPolicy {
        /// Deprecated: origins, exactly.
        pub allow_origin: Vec<String>,
        /// Origins that may call.
        pub allow_origins: Vec<StringMatch>,
        /// Methods that may be used.
        pub allow_methods: Vec<String>,
        /// Headers that may be sent.
        pub allow_headers: Vec<String>,
        /// Headers that may be read.
        pub expose_headers: Vec<String>,
        /// How long a preflight's answer may be cached.
        pub max_age: Option<Duration>,
        /// Whether credentials may be sent.
        pub allow_credentials: Option<bool>,
        /// What happens to preflights that do not match.
        pub unmatched_preflights: UnmatchedPreflights,
    }
}

message! {
    /// What happens to preflights that do not match.
    pub enum UnmatchedPreflights {
        /// Forwarded.
        #[default]
        Unspecified,
        /// Forwarded to the destination.
        Forward,
        /// Answered here.
        Ignore,
    }
}

message! {
    /// One route of passed-through TLS.
    #[schemars(extend("required" = ["match"]))]
    pub struct TlsRoute {
        /// Conditions, any of which suffices.
        #[serde(rename = "match")]
        pub matches: Vec<TlsMatchAttributes>,
        /// Where connections go, by weight.
        pub route: Vec<RouteDestination>,
    }
}

message! {
    /// Conditions of a TLS route, all of which must hold.
    #[derive(Eq, Hash)]
    #[schemars(extend("required" = ["sniHosts"]))]
    pub struct TlsMatchAttributes {
        /// Server names, any of which suffices.
        pub sni_hosts: Vec<String>,
        /// Addresses the connection was made to.
        pub destination_subnets: Vec<String>,
        /// The port the connection was made to.
        pub port: u32,
        /// Labels of the workload that connects.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the workload that connects.
        pub source_namespace: String,
        /// Replaces the VirtualService's gateways for this match.
        pub gateways: Vec<String>,
    }
}

message! {
    /// One route of opaque TCP.
    pub struct TcpRoute {
        /// Conditions, any of which suffices; none matches every connection.
        #[serde(rename = "match")]
        pub matches: Vec<L4MatchAttributes>,
        /// Where connections go, by weight.
        pub route: Vec<RouteDestination>,
    }
}

message! {
    /// Conditions of a TCP route, all of which must hold.
    #[derive(Eq, Hash)]
    pub struct L4MatchAttributes {
        /// Addresses the connection was made to.
        pub destination_subnets: Vec<String>,
        /// The port the connection was made to.
        pub port: u32,
        /// Address of the workload that connects.
        pub source_subnet: String,
        /// Labels of the workload that connects.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the workload that connects.
        pub source_namespace: String,
        /// Replaces the VirtualService's gateways for this match.
        pub gateways: Vec<String>,
    }
}

message! {
    /// One weighted destination of a TLS or TCP route.
    #[schemars(extend("required" = ["destination"]))]
    pub struct RouteDestination {
        /// Where connections go.
        pub destination: Destination,
        /// The share of connections.
        pub weight: i32,
    }
}
