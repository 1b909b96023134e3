//! Names of xDS resources, as Istio's users and tools know them.

/// The cluster that sends a connection where it was going anyway.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// The cluster that drops what it gets.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// The cluster of inbound ports that no Service declares.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// The listener on 15001.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// The listener on 15006.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// The mark of packets between the proxy and its application that have a client's address (`TPROXY`).
pub const CLIENT_ADDRESS_MARK: u32 = 1337;
/// The catch-all virtual host where unknown destinations are let through.
pub const ALLOW_ANY: &str = "allow_any";
/// The catch-all virtual host where unknown destinations are refused.
pub const BLOCK_ALL: &str = "block_all";

/// An outbound cluster taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutboundCluster<'a> {
    /// The service's port.
    pub port: u16,
    /// The subset; empty for the whole service.
    pub subset: &'a str,
    /// The service's fully qualified host.
    pub host: &'a str,
}

/// `outbound|<port>|<subset>|<host>`.
pub fn outbound_cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Takes the name of an outbound cluster apart; any other name is `None`.
pub fn parse_outbound_cluster(name: &str) -> Option<OutboundCluster<'_>> {
    let mut parts = name.splitn(4, '|');
    if parts.next()? != "outbound" {
        return None;
    }
    let port = parts.next()?.parse().ok()?;
    Some(OutboundCluster { port, subset: parts.next()?, host: parts.next()? })
}

/// `inbound|<port>||`, the cluster of an application's own port.
pub fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// `outbound_.<port>_.<subset>_.<host>`, the server name that a sidecar sends in mesh TLS.
pub fn sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `<address>_<port>`, a listener; HTTP ones bind `0.0.0.0`.
pub fn listener(address: &str, port: u16) -> String {
    format!("{address}_{port}")
}

/// `http.<port>`, the routes of a gateway's plaintext port.
pub fn gateway_routes(port: u16) -> String {
    format!("http.{port}")
}

/// `<route configuration>/<virtual host>`, the name of one virtual host as a resource of its own.
pub fn virtual_host_resource(route_configuration: &str, virtual_host: &str) -> String {
    format!("{route_configuration}/{virtual_host}")
}

/// What names the listeners of gRPC servers that speak xDS themselves.
pub const GRPC_SERVER_LISTENERS: &str = "xds.istio.io/grpc/lds/inbound/";

/// `xds.istio.io/grpc/lds/inbound/<address>:<port>`, the listener of a gRPC server that listens there; an IPv6 address
/// stands in brackets.
pub fn grpc_server_listener(address: std::net::IpAddr, port: u16) -> String {
    format!("{GRPC_SERVER_LISTENERS}{}", std::net::SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::{OutboundCluster, outbound_cluster, parse_outbound_cluster};

    #[test]
    fn an_outbound_cluster_reads_back_what_it_writes() {
        let name = outbound_cluster(9080, "v1", "reviews.default.svc.cluster.local");
        assert_eq!(name, "outbound|9080|v1|reviews.default.svc.cluster.local");
        let host = "reviews.default.svc.cluster.local";
        assert_eq!(parse_outbound_cluster(&name), Some(OutboundCluster { port: 9080, subset: "v1", host }));
        assert_eq!(parse_outbound_cluster("inbound|9080||"), None);
        assert_eq!(parse_outbound_cluster("outbound|x||a"), None);
        assert_eq!(parse_outbound_cluster("PassthroughCluster"), None);
    }
}
