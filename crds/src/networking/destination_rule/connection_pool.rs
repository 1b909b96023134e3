//! What is wrong with limits of connections, of a DestinationRule or of a Sidecar.

use super::{ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, TcpSettings};
use crate::Duration;
use crate::check::Checker;

/// The rules that DestinationRules and Sidecars share.
pub(in crate::networking) fn connection_pool(c: &mut Checker, pool: &ConnectionPoolSettings) {
    if pool.tcp.is_none() && pool.http.is_none() {
        c.error("", "needs tcp or http");
    }
    if let Some(tcp) = &pool.tcp {
        c.field("tcp", |c| of_tcp(c, tcp));
    }
    if let Some(http) = &pool.http {
        c.field("http", |c| of_http(c, http));
    }
}

fn of_tcp(c: &mut Checker, tcp: &TcpSettings) {
    c.not_negative("maxConnections", tcp.max_connections);
    c.duration("connectTimeout", tcp.connect_timeout);
    c.duration("maxConnectionDuration", tcp.max_connection_duration);
    // 0s switches it off.
    c.duration("idleTimeout", tcp.idle_timeout.filter(|timeout| *timeout != Duration::default()));
    if let Some(keepalive) = &tcp.tcp_keepalive {
        c.duration("tcpKeepalive.time", keepalive.time);
        c.duration("tcpKeepalive.interval", keepalive.interval);
    }
}

fn of_http(c: &mut Checker, http: &HttpSettings) {
    c.not_negative("http1MaxPendingRequests", http.http1_max_pending_requests);
    c.not_negative("http2MaxRequests", http.http2_max_requests);
    c.not_negative("maxRequestsPerConnection", http.max_requests_per_connection);
    c.not_negative("maxRetries", http.max_retries);
    c.not_negative("maxConcurrentStreams", http.max_concurrent_streams);
    c.duration("idleTimeout", http.idle_timeout);
    if http.use_client_protocol && http.h2_upgrade_policy == H2UpgradePolicy::Upgrade {
        c.error("useClientProtocol", "contradicts h2UpgradePolicy UPGRADE: leave one of them out");
    }
    if let Some(pings) = &http.http2_keep_alive {
        for (name, duration) in [("interval", pings.interval), ("timeout", pings.timeout)] {
            let name = format!("http2KeepAlive.{name}");
            if duration.is_none() {
                c.error(&name, "must be set");
            }
            c.duration(&name, duration);
        }
    }
}
