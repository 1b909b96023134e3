//! Listeners and their filter chains.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderValue;
use ipnet::IpNet;

use super::{Provenance, access_log::AccessLog, fault::Fault, route::RouteTable, tls::DownstreamTls};

/// A place where connections arrive.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens, or for which original destinations it answers.
    pub address: SocketAddr,
    /// Further addresses of the same listener.
    pub additional_addresses: Box<[SocketAddr]>,
    /// Whether it has a socket of its own; otherwise connections come from one with
    /// [`Listener::use_original_dst`].
    pub bind: bool,
    /// Whether a connection is handed to the listener of its original destination, if there is one.
    pub use_original_dst: bool,
    /// Whether its socket takes connections to whichever address, which redirection left as they were (`TPROXY`).
    pub transparent: bool,
    /// `original_src`: what goes on from here comes from the client's address, on packets with this mark.
    pub client_address_mark: Option<u32>,
    /// Which way its traffic goes.
    pub direction: Direction,
    /// What is found out about a connection before its chain is chosen.
    pub sniff: Sniff,
    /// The chains, in the order they were sent.
    pub chains: Box<[Arc<Chain>]>,
    /// The chain when none matches.
    pub default_chain: Option<Arc<Chain>>,
    /// The rule that it came from, if it says so.
    pub provenance: Option<Arc<Provenance>>,
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the application beside the proxy.
    Inbound,
    /// From the application beside the proxy.
    Outbound,
    /// Through a gateway.
    Gateway,
}

/// The listener filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sniff {
    /// `original_dst`: the destination before redirection is read from the socket.
    pub original_dst: bool,
    /// `tls_inspector`: a ClientHello gives server name and ALPN.
    pub tls: bool,
    /// `http_inspector`: the first bytes tell HTTP from other protocols.
    pub http: bool,
    /// How long the inspectors wait for bytes; zero is forever.
    pub timeout: Duration,
    /// Whether a client that stays silent goes on to chain selection; otherwise it is closed.
    pub continue_on_timeout: bool,
}

/// One filter chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Its name, empty if it has none.
    pub name: Arc<str>,
    /// Which connections it is for.
    pub matches: ChainMatch,
    /// Whether and how TLS is terminated.
    pub tls: Option<Arc<DownstreamTls>>,
    /// How long the TLS handshake may take, if bounded.
    pub tls_handshake_timeout: Option<Duration>,
    /// What is done with the connection.
    pub action: ChainAction,
    /// The rule that it came from, if it says so.
    pub provenance: Option<Arc<Provenance>>,
}

/// Which connections a chain is for. An empty list and `None` match all; of the chains that match, the most specific
/// wins, dimension by dimension in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// The original destination port.
    pub destination_port: Option<u16>,
    /// The original destination address.
    pub destination: Box<[IpNet]>,
    /// Server names, lower case; `*.` stands for one label or more.
    pub server_names: Box<[Box<str>]>,
    /// `tls` or `raw_buffer`.
    pub transport: Option<Transport>,
    /// ALPN, or what the HTTP inspector found (`http/1.0`, `http/1.1`, `h2c`).
    pub application_protocols: Box<[Box<str>]>,
    /// The address that the connection came from.
    pub direct_source: Box<[IpNet]>,
    /// Whether the peer is on this machine.
    pub source_type: SourceType,
    /// The peer's address.
    pub source: Box<[IpNet]>,
    /// The peer's port.
    pub source_ports: Box<[u16]>,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Without TLS (`raw_buffer`).
    Plaintext,
    /// With a ClientHello (`tls`).
    Tls,
}

/// Where a peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Anywhere.
    #[default]
    Any,
    /// The same address as ours, or loopback.
    SameIpOrLoopback,
    /// Another address.
    External,
}

/// What a chain does with a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum ChainAction {
    /// Speaks HTTP and routes each request.
    Http(Arc<HttpChain>),
    /// Moves bytes.
    Tcp(Arc<TcpChain>),
}

/// `tcp_proxy`.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpChain {
    /// Where to; at least one, with a positive total weight.
    pub clusters: Box<[TcpCluster]>,
    /// Closed after this long without a byte; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// How often connecting is tried.
    pub max_connect_attempts: u32,
    /// Access logs.
    pub access_logs: Box<[AccessLog]>,
    /// Prefix of statistics.
    pub stat_prefix: Arc<str>,
}

/// One destination of [`TcpChain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpCluster {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Its weight.
    pub weight: u32,
}

/// `http_connection_manager`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpChain {
    /// Where the routes are.
    pub routes: RouteSource,
    /// Which protocols it accepts.
    pub codec: Codec,
    /// Which way its traffic goes.
    pub direction: Direction,
    /// The HTTP filters, in order, without the router.
    pub filters: Box<[HttpFilter]>,
    /// What happens to `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCert,
    /// The `server` header of responses; none where the name is no value of a header.
    pub server_name: Option<HeaderValue>,
    /// What happens to a `server` header of the destination.
    pub server_header: ServerHeader,
    /// Access logs.
    pub access_logs: Box<[AccessLog]>,
    /// Whether the peer's address is appended to `x-forwarded-for` and trusted as the client's.
    pub use_remote_address: bool,
    /// How many trusted proxies stand before us.
    pub xff_num_trusted_hops: u32,
    /// Whether `x-forwarded-for` is left as it is.
    pub skip_xff_append: bool,
    /// Whether `x-request-id` is made when there is none.
    pub generate_request_id: bool,
    /// Whether an `x-request-id` from outside is kept.
    pub preserve_external_request_id: bool,
    /// How paths are put into normal form.
    pub normalize: PathNormalization,
    /// Whether a `Host` port that is the listener's is removed.
    pub strip_matching_host_port: bool,
    /// Upgrades that are allowed, lower case (`websocket`).
    pub upgrades: Box<[Box<str>]>,
    /// HTTP/1.0 is answered.
    pub accept_http_10: bool,
    /// The time a client has to send its headers.
    pub request_headers_timeout: Option<Duration>,
    /// The time a client has to send its request.
    pub request_timeout: Option<Duration>,
    /// A stream is reset after this long without a byte; `None` is never.
    pub stream_idle_timeout: Option<Duration>,
    /// A connection is closed after this long without a stream; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// No connection is older; `None` is no limit.
    pub max_connection_duration: Option<Duration>,
    /// Between GOAWAY and close.
    pub drain_timeout: Duration,
    /// HTTP/2: streams at once.
    pub max_concurrent_streams: Option<u32>,
    /// The most header bytes of a request.
    pub max_request_headers_kb: u32,
    /// Prefix of statistics.
    pub stat_prefix: Arc<str>,
}

/// Where an HTTP chain's routes are.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteSource {
    /// A route configuration of its own; look it up in the snapshot for each request.
    Named(Arc<str>),
    /// Sent with the listener.
    Inline(Arc<RouteTable>),
}

/// Which HTTP an HTTP chain speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN, else by the connection's first bytes.
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// One HTTP filter.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpFilter {
    /// `envoy.filters.http.fault`: the chain's own fault; a route's replaces it.
    Fault(Option<Arc<Fault>>),
    /// `envoy.filters.http.cors`: honours the route's policy.
    Cors,
    /// `istio.alpn`: the ALPN of upstream TLS follows the request's protocol.
    Alpn,
    /// `istio.metadata_exchange`: peer metadata headers are read, sent and stripped.
    PeerMetadata,
    /// `istio.stats`: Istio's standard metrics.
    Stats,
    /// `envoy.filters.http.grpc_stats`: messages are counted.
    GrpcStats,
}

/// What happens to `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Removed.
    #[default]
    Sanitize,
    /// Sent on as it came.
    ForwardOnly,
    /// With mutual TLS, the peer's certificate is appended.
    AppendForward(ClientCertDetails),
    /// With mutual TLS, replaced by the peer's certificate.
    SanitizeSet(ClientCertDetails),
    /// Sent on as it came, whether there is TLS or not.
    AlwaysForwardOnly,
}

/// What is written into `x-forwarded-client-cert` beside `By` and `Hash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCertDetails {
    /// `Subject`.
    pub subject: bool,
    /// `URI`.
    pub uri: bool,
    /// `DNS`.
    pub dns: bool,
    /// `Cert`.
    pub cert: bool,
    /// `Chain`.
    pub chain: bool,
}

/// What happens to a `server` header of the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Replaced by ours.
    #[default]
    Overwrite,
    /// Ours only if there is none.
    AppendIfAbsent,
    /// Left as it is.
    PassThrough,
}

/// Istio's `pathNormalization`, as Envoy's options spell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathNormalization {
    /// RFC 3986 normal form, and `\` as `/` (BASE).
    pub normalize: bool,
    /// `//` as `/` (MERGE_SLASHES).
    pub merge_slashes: bool,
    /// What `%2F` and `%5C` mean (DECODE_AND_MERGE_SLASHES).
    pub escaped_slashes: EscapedSlashes,
}

/// What `%2F` and `%5C` in a path mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Left as they are.
    #[default]
    Keep,
    /// The request is refused with 400.
    Reject,
    /// The client is sent to the unescaped path.
    UnescapeAndRedirect,
    /// Taken for slashes.
    UnescapeAndForward,
}
