//! Route tables: virtual hosts, routes, what matches and what happens.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Method};

use super::{
    Fraction, Provenance,
    fault::Fault,
    header::HeaderOps,
    retry::RetryPolicy,
    text::{Pattern, TextMatch},
};
pub use crate::decide::host::HostIndex;
pub use crate::decide::router::Router;

/// A route configuration with its virtual hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTable {
    /// Its name.
    pub name: Arc<str>,
    /// Virtual hosts by domain.
    pub hosts: HostIndex,
    /// Whether a port in the host is ignored when a virtual host is looked up.
    pub ignore_port: bool,
    /// Header changes of the table.
    pub request_headers: HeaderOps,
    /// Header changes of the table.
    pub response_headers: HeaderOps,
    /// The rule that it came from, if it says so.
    pub provenance: Option<Arc<Provenance>>,
}

/// The routes of one host.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name.
    pub name: Arc<str>,
    /// The domains it answers for, lower case, without short names.
    pub domains: Box<[Box<str>]>,
    /// The routes, ready to be searched.
    pub router: Router,
    /// Whether plaintext requests are redirected to HTTPS.
    pub require_tls: bool,
    /// Header changes of the host.
    pub request_headers: HeaderOps,
    /// Header changes of the host.
    pub response_headers: HeaderOps,
    /// Whether the destination is told the number of the attempt (`x-envoy-attempt-count`).
    pub include_attempt_count: bool,
    /// The rule that it came from, if it says so.
    pub provenance: Option<Arc<Provenance>>,
}

impl VirtualHost {
    /// Every cluster that a request to this host can go to.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.router
            .routes()
            .iter()
            .flat_map(|route| match &route.action {
                RouteAction::Forward(forward) => forward.clusters.members.as_ref(),
                RouteAction::Redirect(_) | RouteAction::Direct(_) => &[],
            })
            .map(|member| &member.name)
    }
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name: that of the VirtualService's rule, or `default`.
    pub name: Arc<str>,
    /// Which requests it is for.
    pub matches: RouteMatch,
    /// What happens to them.
    pub action: RouteAction,
    /// Header changes of the route.
    pub request_headers: HeaderOps,
    /// Header changes of the route.
    pub response_headers: HeaderOps,
    /// The fault of the route; wins over the chain's.
    pub fault: Option<Arc<Fault>>,
    /// The cross-origin policy of the route.
    pub cors: Option<Arc<Cors>>,
    /// The rule that it came from, if it says so.
    pub provenance: Option<Arc<Provenance>>,
}

/// Which requests a route is for: all conditions together.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// Headers, all of them.
    pub headers: Box<[HeaderMatch]>,
    /// Query parameters, all of them.
    pub query: Box<[QueryMatch]>,
    /// Only gRPC.
    pub grpc: bool,
    /// Only this share.
    pub share: Option<Fraction>,
}

/// What a path must be; its query does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact {
        /// What to compare with.
        path: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// Its beginning.
    Prefix {
        /// What to compare with.
        path: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// The path itself, or what is below it; never ends with `/`.
    Segments {
        /// What to compare with.
        path: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// The whole path, by a pattern.
    Regex(Box<Pattern>),
    /// `CONNECT` requests.
    Connect,
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// Which header.
    pub name: HeaderKey,
    /// What of it.
    pub rule: HeaderRule,
    /// Whether the result is turned round.
    pub invert: bool,
    /// Whether a missing header counts as an empty one.
    pub missing_is_empty: bool,
}

/// A header, or what HTTP/2 writes as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKey {
    /// `:method`.
    Method,
    /// `:authority`, and `host`.
    Authority,
    /// `:path`, with the query.
    Path,
    /// `:scheme`.
    Scheme,
    /// `:status`, in responses.
    Status,
    /// Any other.
    Name(HeaderName),
}

/// What of a header is looked at. Several values count as one, joined by commas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderRule {
    /// It is there (`true`), or not (`false`).
    Present(bool),
    /// Its text.
    Text(TextMatch),
    /// Its value as a number: `start <= value < end`.
    Range {
        /// The lowest.
        start: i64,
        /// The first that is too high.
        end: i64,
    },
}

/// What a query parameter must be; of several the first counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Its name.
    pub name: Box<str>,
    /// Its value; `None` asks only that it is there.
    pub value: Option<TextMatch>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// It goes to a cluster.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Box<Redirect>),
    /// It is answered here.
    Direct(Box<DirectResponse>),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

/// Forwarding to one of several clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Where to.
    pub clusters: Clusters,
    /// The time for the whole answer; `None` is no limit.
    pub timeout: Option<Duration>,
    /// The most that a client's `grpc-timeout` may ask for: `None` ignores the header, zero is no limit.
    pub max_grpc_timeout: Option<Duration>,
    /// The stream is reset after this long without a byte; `None` leaves it to the chain, zero is never.
    pub idle_timeout: Option<Duration>,
    /// Which outcomes are tried again.
    pub retry: Option<Arc<RetryPolicy>>,
    /// How the path changes.
    pub rewrite: Option<Box<PathRewrite>>,
    /// How the authority changes.
    pub host_rewrite: Option<Box<HostRewrite>>,
    /// Whether a rewritten host is kept in `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// Copies of the request.
    pub mirrors: Box<[Mirror]>,
    /// What consistent hashing hashes.
    pub hash: Box<[HashPolicy]>,
    /// The status when a cluster is not known.
    pub cluster_not_found_status: u16,
    /// Upgrades that the route allows or forbids, lower case.
    pub upgrades: Box<[(Box<str>, bool)]>,
}

/// The clusters of a route; at least one with a positive weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The clusters.
    pub members: Box<[WeightedCluster]>,
    /// The sum of their weights.
    pub total: u64,
}

/// One cluster of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Header changes for this cluster only.
    pub request_headers: HeaderOps,
    /// Header changes for this cluster only.
    pub response_headers: HeaderOps,
    /// The authority for this cluster only.
    pub host_rewrite: Option<Box<http::HeaderValue>>,
}

/// How a path changes before it is sent on; the query stays.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// What matched is replaced.
    Prefix(Box<str>),
    /// Every match of a pattern is replaced.
    Regex {
        /// The pattern.
        pattern: regex::bytes::Regex,
        /// The replacement, in `regex`'s notation (`${1}`).
        substitution: Box<str>,
    },
}

impl PartialEq for PathRewrite {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(left), Self::Prefix(right)) => left == right,
            (
                Self::Regex { pattern, substitution },
                Self::Regex { pattern: other_pattern, substitution: other_substitution },
            ) => pattern.as_str() == other_pattern.as_str() && substitution == other_substitution,
            _ => false,
        }
    }
}

/// How an authority changes before it is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// To a fixed one.
    Literal(http::HeaderValue),
    /// To the endpoint's host name, if it has one.
    Endpoint,
    /// To the value of a header.
    Header(HeaderName),
}

/// A copy of a request that nobody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where to.
    pub cluster: Arc<str>,
    /// For which share.
    pub share: Fraction,
    /// Whether `-shadow` is appended to the host.
    pub shadow_suffix: bool,
}

/// What consistent hashing hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    /// Which part of a request.
    pub source: HashSource,
    /// Whether the policies after it are left out once it gave a hash.
    pub terminal: bool,
}

/// The part of a request that is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// A header's value.
    Header(HeaderName),
    /// A cookie's value; made when there is none and there is a lifetime.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// Its lifetime; zero is the session's.
        ttl: Option<Duration>,
        /// Its path.
        path: Box<str>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter's value.
    Query(Box<str>),
}

/// A redirect.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Another scheme.
    pub scheme: Option<Box<str>>,
    /// Another host.
    pub host: Option<Box<str>>,
    /// Another port.
    pub port: Option<u16>,
    /// Another path.
    pub path: RedirectPath,
    /// Whether the query is left out.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug, PartialEq)]
pub enum RedirectPath {
    /// The request's.
    Keep,
    /// A fixed one; with a query of its own it replaces the request's.
    Replace(Box<str>),
    /// The request's, changed.
    Rewrite(PathRewrite),
}

/// A cross-origin policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Which origins.
    pub allow_origins: Box<[TextMatch]>,
    /// `access-control-allow-methods`.
    pub allow_methods: Box<str>,
    /// `access-control-allow-headers`.
    pub allow_headers: Box<str>,
    /// `access-control-expose-headers`.
    pub expose_headers: Box<str>,
    /// `access-control-max-age`.
    pub max_age: Box<str>,
    /// `access-control-allow-credentials`.
    pub allow_credentials: bool,
    /// Whether a preflight request from another origin goes on to the destination.
    pub forward_not_matching_preflights: bool,
}

/// A request as routing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host, as the client sent it, perhaps with a port.
    pub authority: &'a str,
    /// The path with its query, in normal form.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a http::HeaderMap,
    /// The client's address, for hashing.
    pub source: Option<IpAddr>,
}

impl<'a> Request<'a> {
    /// The path without its query.
    pub fn path_only(&self) -> &'a str {
        self.path.split_once(['?', '#']).map_or(self.path, |(path, _)| path)
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<&'a str> {
        let rest = self.path.split_once('?')?.1;
        Some(rest.split_once('#').map_or(rest, |(query, _)| query))
    }
}
