//! What is spoken on a Service's port, by `appProtocol`, by the port's name, or by convention.

use std::fmt;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 in plain text.
    Http,
    /// HTTP/2 in plain text.
    Http2,
    /// HTTP in TLS that the application terminates.
    Https,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// An HTTP proxy's protocol.
    HttpProxy,
    /// Bytes.
    Tcp,
    /// TLS that the application terminates.
    Tls,
    /// Datagrams; not of the mesh.
    Udp,
    /// MongoDB's protocol.
    Mongo,
    /// MySQL's protocol.
    MySql,
    /// Redis' protocol.
    Redis,
    /// Not declared: found out from the first bytes.
    Unsupported,
}

/// Ports that are TCP where nothing is declared: their servers speak first, so there is nothing to find out from.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Reads a protocol's name; upper and lower case are the same.
    pub fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http_proxy" => Self::HttpProxy,
            "tcp" => Self::Tcp,
            "tls" => Self::Tls,
            "udp" => Self::Udp,
            "mongo" => Self::Mongo,
            "mysql" => Self::MySql,
            "redis" => Self::Redis,
            _ => Self::Unsupported,
        }
    }

    /// The protocol of a Kubernetes Service's port.
    pub fn of_port(port: u16, name: &str, transport: &str, app_protocol: Option<&str>) -> Self {
        if transport == "UDP" {
            return Self::Udp;
        }
        let declared = match app_protocol {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Https,
            Some(other) => other,
            None => name,
        };
        // The one protocol with a hyphen in its name.
        if declared.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("grpc-web")) {
            return Self::GrpcWeb;
        }
        let prefix = declared.split('-').next().unwrap_or_default();
        match Self::parse(prefix) {
            Self::Unsupported if SERVER_FIRST.contains(&port) => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Declared to be HTTP in plain text, of any version.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// Spoken to by HTTP/2 upstream.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Found out from the first bytes.
    pub fn is_sniffed(self) -> bool {
        self == Self::Unsupported
    }

    /// TLS that passes through: routed by server name.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// Declared to be bytes, as far as the mesh is concerned.
    pub fn is_tcp(self) -> bool {
        !self.is_http() && !self.is_sniffed() && self != Self::Udp
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Https => "HTTPS",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPCWeb",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Udp => "UDP",
            Self::Mongo => "Mongo",
            Self::MySql => "MySQL",
            Self::Redis => "Redis",
            Self::Unsupported => "Unsupported",
        })
    }
}
