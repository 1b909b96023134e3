//! Every way a request or a connection can fail, and the one table from failure to what client, log and metrics see.
//!
//! Status codes, bodies, response flags and details are Envoy's, because people, dashboards and Kiali know them.

use std::fmt;

use http::StatusCode;

/// Why a request or a connection failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No route matches.
    #[error("no route matches")]
    NoRoute,
    /// The listener's route configuration has not been received.
    #[error("route configuration {0} has not been received yet")]
    NoRouteConfiguration(String),
    /// No filter chain takes the connection.
    #[error(
        "no filter chain takes this connection: check PeerAuthentication (plaintext under STRICT) and the port's protocol"
    )]
    NoFilterChain,
    /// The route names a cluster that does not exist.
    #[error(
        "cluster {0} does not exist: check the subset in the DestinationRule and the destination in the VirtualService"
    )]
    NoCluster(String),
    /// The cluster has no endpoint that may be used.
    #[error("cluster {0} has no healthy endpoint: check that the pods are ready and that the subset's labels match")]
    NoHealthyUpstream(String),
    /// Nothing may go there.
    #[error("destination is not in the registry and outboundTrafficPolicy is REGISTRY_ONLY")]
    BlackHole,
    /// The connection could not be made.
    #[error(
        "connecting to {endpoint} failed: {reason}; maybe a NetworkPolicy blocks the port or nothing listens there"
    )]
    Connect {
        /// Where to.
        endpoint: String,
        /// The operating system's words.
        reason: String,
    },
    /// The connection was not made in time.
    #[error("connecting to {0} timed out; maybe a NetworkPolicy blocks the port")]
    ConnectTimeout(String),
    /// The TLS handshake with the endpoint failed, or it is not who it should be.
    #[error("TLS with {endpoint} failed: {reason}")]
    UpstreamTls {
        /// Whom with.
        endpoint: String,
        /// What failed.
        reason: String,
    },
    /// The endpoint closed the connection before it answered.
    #[error("{0} closed the connection before it answered")]
    UpstreamClosed(String),
    /// The endpoint reset the stream before it answered.
    #[error("{0} reset the stream before it answered")]
    UpstreamReset(String),
    /// The endpoint refused the stream, so the request was not executed.
    #[error("{0} refused the stream")]
    RefusedStream(String),
    /// The endpoint's answer is not HTTP.
    #[error("{endpoint} did not answer in HTTP: {reason}")]
    UpstreamProtocol {
        /// Whose answer.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A circuit breaker is open.
    #[error("cluster {cluster}: circuit breaker {limit} is open; see connectionPool in its DestinationRule")]
    Overflow {
        /// Which cluster.
        cluster: String,
        /// Which limit, by its name in a DestinationRule.
        limit: &'static str,
    },
    /// The route's timeout passed.
    #[error("the route's timeout passed")]
    Timeout,
    /// The timeout of the last try passed.
    #[error("the timeout of the last try passed")]
    PerTryTimeout,
    /// The route injects this failure.
    #[error("fault injected by the route")]
    FaultAbort(StatusCode),
    /// A policy denies the request.
    #[error("denied by AuthorizationPolicy {0}")]
    Denied(String),
    /// The client sent no Host.
    #[error("the request has no host")]
    MissingHost,
    /// HTTP/1.0, which Istio's proxies do not take unless told to.
    #[error("HTTP/1.0 is not taken here")]
    LowVersion,
    /// The path cannot be normalised.
    #[error("the path cannot be normalised")]
    BadPath,
    /// An upgrade that the route does not allow.
    #[error("upgrade to {0} is not allowed here")]
    UpgradeRefused(String),
    /// The client's TLS handshake failed, or it is not who it must be.
    #[error("TLS with the client failed: {0}")]
    DownstreamTls(String),
    /// The client went away.
    #[error("the client went away")]
    ClientGone,
    /// Nothing came over the connection for too long.
    #[error("idle for too long")]
    IdleTimeout,
}

/// Envoy's response flags, those that this proxy sets, in Envoy's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Flag {
    /// No healthy upstream.
    UH,
    /// Upstream connection failure.
    UF,
    /// Overflow of a circuit breaker.
    UO,
    /// No route.
    NR,
    /// Retries used up.
    URX,
    /// No cluster.
    NC,
    /// Upstream timeout.
    UT,
    /// Upstream reset the stream.
    UR,
    /// Upstream closed the connection.
    UC,
    /// Upstream protocol error.
    UPE,
    /// Delay injected.
    DI,
    /// Fault injected.
    FI,
    /// Client disconnected.
    DC,
    /// Client protocol error.
    DPE,
    /// Stream idle for too long.
    SI,
}

/// A set of response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

impl Flags {
    const ORDER: [Flag; 15] = [
        Flag::UH,
        Flag::UT,
        Flag::UR,
        Flag::UF,
        Flag::UC,
        Flag::UO,
        Flag::NR,
        Flag::DI,
        Flag::FI,
        Flag::DC,
        Flag::URX,
        Flag::SI,
        Flag::DPE,
        Flag::UPE,
        Flag::NC,
    ];

    /// Adds a flag.
    pub fn set(&mut self, flag: Flag) {
        self.0 |= 1 << (flag as u8);
    }

    /// Whether a flag is set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & (1 << (flag as u8)) != 0
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        let mut flags = Self::default();
        flags.set(flag);
        flags
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("-");
        }
        let mut first = true;
        for flag in Self::ORDER.into_iter().filter(|flag| self.has(*flag)) {
            write!(f, "{}{flag:?}", if first { "" } else { "," })?;
            first = false;
        }
        Ok(())
    }
}

/// What client, log and metrics see of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code; 0 if there is nobody left to answer.
    pub status: u16,
    /// The gRPC status for a gRPC request.
    pub grpc: u8,
    /// The response flag.
    pub flag: Option<Flag>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// The body.
    pub body: String,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Option<String>,
}

/// What Envoy says when no response began; its reason follows.
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

impl ProxyError {
    /// The table.
    pub fn answer(&self) -> Answer {
        let reset = |status, flag, reason: &str| {
            let details = format!("upstream_reset_before_response_started{{{}}}", reason.replace(' ', "_"));
            row(status, Some(flag), &details, &format!("{RESET}{reason}"))
        };
        match self {
            Self::NoRoute => row(404, Some(Flag::NR), "route_not_found", ""),
            Self::NoRouteConfiguration(_) => row(404, Some(Flag::NR), "route_configuration_not_found", ""),
            Self::NoFilterChain => row(0, Some(Flag::NR), "filter_chain_not_found", ""),
            Self::NoCluster(_) => row(503, Some(Flag::NC), "cluster_not_found", ""),
            Self::NoHealthyUpstream(_) | Self::BlackHole => {
                row(503, Some(Flag::UH), "no_healthy_upstream", "no healthy upstream")
            }
            Self::Connect { reason, .. } => transport(reason, "delayed connect error: "),
            Self::UpstreamTls { reason, .. } => transport(reason, "TLS_error:"),
            Self::ConnectTimeout(_) => reset(503, Flag::UF, "connection timeout"),
            Self::UpstreamClosed(_) => reset(503, Flag::UC, "connection termination"),
            Self::UpstreamReset(_) => reset(503, Flag::UR, "remote reset"),
            Self::RefusedStream(_) => reset(503, Flag::UR, "remote refused stream reset"),
            Self::UpstreamProtocol { .. } => reset(502, Flag::UPE, "protocol error"),
            Self::Overflow { .. } => reset(503, Flag::UO, "overflow"),
            Self::Timeout => row(504, Some(Flag::UT), "response_timeout", "upstream request timeout"),
            Self::PerTryTimeout => row(504, Some(Flag::UT), "upstream_per_try_timeout", "upstream request timeout"),
            Self::FaultAbort(status) => {
                row(status.as_u16(), Some(Flag::FI), "fault_filter_abort", "fault filter abort")
            }
            Self::Denied(policy) => {
                let policy = if policy.is_empty() { "none" } else { policy };
                row(403, None, &format!("rbac_access_denied_matched_policy[{policy}]"), "RBAC: access denied")
            }
            Self::MissingHost => row(400, Some(Flag::DPE), "missing_host_header", ""),
            Self::LowVersion => row(426, Some(Flag::DPE), "low_version", ""),
            Self::BadPath => row(400, None, "path_normalization_failed", ""),
            Self::UpgradeRefused(_) => row(403, None, "upgrade_failed", ""),
            Self::DownstreamTls(_) => row(0, None, "downstream_tls_error", ""),
            Self::ClientGone => row(0, Some(Flag::DC), "downstream_remote_disconnect", ""),
            Self::IdleTimeout => row(408, Some(Flag::SI), "stream_idle_timeout", "stream timeout"),
        }
    }

    /// Whether the request certainly did not reach an application, so that it may be sent again by anyone.
    pub fn not_executed(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::ConnectTimeout(_) | Self::UpstreamTls { .. } | Self::RefusedStream(_)
        )
    }
}

fn row(status: u16, flag: Option<Flag>, details: &str, body: &str) -> Answer {
    let grpc = grpc_status(status);
    Answer { status, grpc, flag, details: details.to_owned(), body: body.to_owned(), transport_failure: None }
}

fn transport(reason: &str, kind: &str) -> Answer {
    let failure = format!("{kind}{reason}");
    let details =
        format!("upstream_reset_before_response_started{{remote_connection_failure|{}}}", failure.replace(' ', "_"));
    let body = format!("{RESET}remote connection failure, transport failure reason: {failure}");
    Answer { transport_failure: Some(failure), ..row(503, Some(Flag::UF), &details, &body) }
}

/// The gRPC status that stands for an HTTP status (gRPC's "HTTP to gRPC Status Code Mapping").
pub fn grpc_status(status: u16) -> u8 {
    match status {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::{Flag, Flags, ProxyError};
    use http::StatusCode;

    #[test]
    fn every_failure_has_envoys_answer() {
        let at = || "10.0.0.1:9080".to_owned();
        let reset = "upstream connect error or disconnect/reset before headers. reset reason: ";
        let began = "upstream_reset_before_response_started";
        let rows: Vec<(ProxyError, u16, u8, &str, String, String)> = vec![
            (ProxyError::NoRoute, 404, 12, "NR", "route_not_found".into(), String::new()),
            (
                ProxyError::NoRouteConfiguration("80".into()),
                404,
                12,
                "NR",
                "route_configuration_not_found".into(),
                String::new(),
            ),
            (ProxyError::NoFilterChain, 0, 2, "NR", "filter_chain_not_found".into(), String::new()),
            (ProxyError::NoCluster("c".into()), 503, 14, "NC", "cluster_not_found".into(), String::new()),
            (
                ProxyError::NoHealthyUpstream("c".into()),
                503,
                14,
                "UH",
                "no_healthy_upstream".into(),
                "no healthy upstream".into(),
            ),
            (ProxyError::BlackHole, 503, 14, "UH", "no_healthy_upstream".into(), "no healthy upstream".into()),
            (
                ProxyError::Connect { endpoint: at(), reason: "Connection refused".into() },
                503,
                14,
                "UF",
                format!("{began}{{remote_connection_failure|delayed_connect_error:_Connection_refused}}"),
                format!(
                    "{reset}remote connection failure, transport failure reason: delayed connect error: Connection refused"
                ),
            ),
            (
                ProxyError::ConnectTimeout(at()),
                503,
                14,
                "UF",
                format!("{began}{{connection_timeout}}"),
                format!("{reset}connection timeout"),
            ),
            (
                ProxyError::UpstreamTls { endpoint: at(), reason: "unknown issuer".into() },
                503,
                14,
                "UF",
                format!("{began}{{remote_connection_failure|TLS_error:unknown_issuer}}"),
                format!("{reset}remote connection failure, transport failure reason: TLS_error:unknown issuer"),
            ),
            (
                ProxyError::UpstreamClosed(at()),
                503,
                14,
                "UC",
                format!("{began}{{connection_termination}}"),
                format!("{reset}connection termination"),
            ),
            (
                ProxyError::UpstreamReset(at()),
                503,
                14,
                "UR",
                format!("{began}{{remote_reset}}"),
                format!("{reset}remote reset"),
            ),
            (
                ProxyError::RefusedStream(at()),
                503,
                14,
                "UR",
                format!("{began}{{remote_refused_stream_reset}}"),
                format!("{reset}remote refused stream reset"),
            ),
            (
                ProxyError::UpstreamProtocol { endpoint: at(), reason: "x".into() },
                502,
                14,
                "UPE",
                format!("{began}{{protocol_error}}"),
                format!("{reset}protocol error"),
            ),
            (
                ProxyError::Overflow { cluster: "c".into(), limit: "maxRequests" },
                503,
                14,
                "UO",
                format!("{began}{{overflow}}"),
                format!("{reset}overflow"),
            ),
            (ProxyError::Timeout, 504, 14, "UT", "response_timeout".into(), "upstream request timeout".into()),
            (
                ProxyError::PerTryTimeout,
                504,
                14,
                "UT",
                "upstream_per_try_timeout".into(),
                "upstream request timeout".into(),
            ),
            (
                ProxyError::FaultAbort(StatusCode::IM_A_TEAPOT),
                418,
                2,
                "FI",
                "fault_filter_abort".into(),
                "fault filter abort".into(),
            ),
            (
                ProxyError::Denied(String::new()),
                403,
                7,
                "-",
                "rbac_access_denied_matched_policy[none]".into(),
                "RBAC: access denied".into(),
            ),
            (ProxyError::MissingHost, 400, 13, "DPE", "missing_host_header".into(), String::new()),
            (ProxyError::LowVersion, 426, 2, "DPE", "low_version".into(), String::new()),
            (ProxyError::BadPath, 400, 13, "-", "path_normalization_failed".into(), String::new()),
            (ProxyError::UpgradeRefused("x".into()), 403, 7, "-", "upgrade_failed".into(), String::new()),
            (ProxyError::DownstreamTls("x".into()), 0, 2, "-", "downstream_tls_error".into(), String::new()),
            (ProxyError::ClientGone, 0, 2, "DC", "downstream_remote_disconnect".into(), String::new()),
            (ProxyError::IdleTimeout, 408, 2, "SI", "stream_idle_timeout".into(), "stream timeout".into()),
        ];
        for (error, status, grpc, flag, details, body) in rows {
            let answer = error.answer();
            let flags = answer.flag.map(Flags::from).unwrap_or_default().to_string();
            assert_eq!((answer.status, answer.grpc, flags.as_str()), (status, grpc, flag), "{error}");
            assert_eq!((answer.details, answer.body), (details, body), "{error}");
        }
    }

    #[test]
    fn flags_print_in_envoys_order() {
        let mut flags = Flags::default();
        assert_eq!(flags.to_string(), "-");
        flags.set(Flag::URX);
        flags.set(Flag::UF);
        assert_eq!(flags.to_string(), "UF,URX");
    }
}
