//! Istio's standard metrics.
//!
//! A worker's [`Recorder`] turns what is known at the end of a request into a small key, and the key into a series of cells. The
//! series' labels are written once, when it is new, and shared with the scraper through [`Registry`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use xds::peer::{MAX_ENCODED, PeerMetadata};
use xds::service::ServiceName;

use super::cells::{Cell, Histogram};
use super::envoy::EnvoyCells;
use super::peer::{Interner, Peer, UNKNOWN};
use crate::error::Flags;
use crate::tls::verify::Leaf;

/// The most different peers, principals or services that one worker tells apart.
const LIMIT: usize = 10_000;
/// The most series of one kind that a worker keeps. Their labels multiply, and most are in the hand of peers: what comes later is counted
/// together, as of unknown peers.
const SERIES: usize = 10_000;
/// The most bytes of peer metadata that a worker remembers so as not to decode them again.
const REMEMBERED: usize = 1 << 20;

/// A series of HTTP metrics.
#[derive(Debug, Default)]
pub struct HttpSeries {
    /// `istio_requests_total`
    pub requests: Cell,
    /// `istio_request_duration_milliseconds`
    pub duration: Histogram,
    /// `istio_request_bytes`
    pub request_bytes: Histogram,
    /// `istio_response_bytes`
    pub response_bytes: Histogram,
}

/// A series of TCP metrics.
#[derive(Debug, Default)]
pub struct TcpSeries {
    /// `istio_tcp_connections_opened_total`
    pub opened: Cell,
    /// `istio_tcp_connections_closed_total`
    pub closed: Cell,
    /// `istio_tcp_sent_bytes_total`
    pub sent: Cell,
    /// `istio_tcp_received_bytes_total`
    pub received: Cell,
}

/// A list of series with their labels, as Prometheus writes them, shared with the scraper.
pub(crate) type Series<S> = Mutex<Vec<(Box<str>, Arc<S>)>>;

/// What one worker counts.
#[derive(Debug, Default)]
pub struct WorkerSeries {
    pub(crate) http: Series<HttpSeries>,
    pub(crate) tcp: Series<TcpSeries>,
    /// Envoy's gauges.
    pub envoy: EnvoyCells,
}

/// What all workers count, for the scraper.
#[derive(Debug)]
pub struct Registry {
    /// By worker.
    pub workers: Vec<Arc<WorkerSeries>>,
}

impl Registry {
    /// Room for so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Arc::default()).collect() }
    }
}

/// On which side of a connection we report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's side, and gateways.
    Source,
    /// The server's side.
    Destination,
}

/// `request_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
}

/// `connection_security_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// Mutual TLS.
    MutualTls,
    /// Plaintext.
    None,
    /// The client's side does not say.
    Unknown,
}

/// A number that stands for a peer, a principal or a service.
pub type Number = u32;

/// The labels of a series, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which side.
    pub reporter: Reporter,
    /// Who asked; see [`Recorder::peer`].
    pub source: Number,
    /// Who answered.
    pub destination: Number,
    /// Who asked, by certificate; see [`Recorder::principal`].
    pub source_principal: Number,
    /// Who answered, by certificate.
    pub destination_principal: Number,
    /// Which service; see [`Recorder::service`].
    pub service: Number,
    /// What was spoken.
    pub protocol: RequestProtocol,
    /// The status; 0 when there was none.
    pub code: u16,
    /// The gRPC status.
    pub grpc: Option<u32>,
    /// Response flags.
    pub flags: Flags,
    /// How the connection was secured.
    pub security: Security,
}

/// One worker's way into its series.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<WorkerSeries>,
    http: RefCell<HashMap<Key, Arc<HttpSeries>>>,
    tcp: RefCell<HashMap<Key, Arc<TcpSeries>>>,
    peers: RefCell<Interner<Peer>>,
    headers: RefCell<Headers>,
    principals: RefCell<Interner<String>>,
    services: RefCell<Interner<ServiceName>>,
    /// Ourselves.
    pub own: Number,
}

/// Metadata headers that were decoded already.
#[derive(Debug, Default)]
struct Headers {
    numbers: HashMap<Box<[u8]>, Number>,
    /// Their size.
    bytes: usize,
}

impl Headers {
    fn remember(&mut self, header: &[u8], number: Number) {
        if self.bytes + header.len() > REMEMBERED {
            *self = Self::default(); // somebody sends a new one with every request
        }
        self.bytes += header.len();
        self.numbers.insert(header.into(), number);
    }
}

impl Key {
    /// The key under which a series is counted that there is no room for.
    fn of_unknown_peers(self) -> Self {
        let unknown = 0;
        Self {
            source: unknown,
            destination: unknown,
            source_principal: unknown,
            destination_principal: unknown,
            service: unknown,
            grpc: None,
            flags: Flags::default(),
            ..self
        }
    }
}

impl Recorder {
    /// A recorder for the proxy that `own` describes.
    pub fn new(shared: Arc<WorkerSeries>, own: &PeerMetadata) -> Self {
        let mut peers = Interner::new(Peer::unknown(), LIMIT);
        let own = peers.insert(Peer::from_metadata(own));
        let nothing = ServiceName { host: UNKNOWN.into(), name: UNKNOWN.into(), namespace: UNKNOWN.into() };
        Self {
            shared,
            http: RefCell::default(),
            tcp: RefCell::default(),
            peers: RefCell::new(peers),
            headers: RefCell::default(),
            principals: RefCell::new(Interner::new(UNKNOWN.to_owned(), LIMIT)),
            services: RefCell::new(Interner::new(nothing, LIMIT)),
            own,
        }
    }

    /// Envoy's gauges of this worker.
    pub fn envoy(&self) -> &EnvoyCells {
        &self.shared.envoy
    }

    /// The number of a peer that sent this metadata header over a connection on which it is `leaf`. The same header is decoded once.
    pub fn peer_by_header(&self, header: &[u8], leaf: &Leaf) -> Number {
        let number = self.by_header(header);
        let peers = self.peers.borrow();
        let claimed = peers.value(number).map_or(UNKNOWN, |peer| &peer.namespace);
        let proved = leaf.spiffe.as_ref().map(|spiffe| spiffe.namespace.as_str());
        // Whoever names a namespace that is not the one in its certificate names nothing.
        if Some(claimed) == proved { number } else { 0 }
    }

    fn by_header(&self, header: &[u8]) -> Number {
        if header.len() > MAX_ENCODED {
            return 0; // longer than any that is decoded
        }
        if let Some(number) = self.headers.borrow().numbers.get(header) {
            return *number;
        }
        let number = match PeerMetadata::decode(header) {
            Some(metadata) => self.peers.borrow_mut().insert(Peer::from_metadata(&metadata)),
            None => 0,
        };
        self.headers.borrow_mut().remember(header, number);
        number
    }

    /// The number of a peer.
    pub fn peer(&self, peer: Peer) -> Number {
        self.peers.borrow_mut().insert(peer)
    }

    /// The number of a principal, `spiffe://...`.
    pub fn principal(&self, uri: Option<&str>) -> Number {
        let Some(uri) = uri else { return 0 };
        self.principals.borrow_mut().insert(uri.to_owned())
    }

    /// The number of a service. Without one, the name of a special cluster or the request's host (outbound only) stands for it.
    pub fn service(&self, service: Option<&ServiceName>, cluster: &str, host: Option<&str>) -> Number {
        use names::traffic::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
        let name = if let Some(service) = service {
            service.clone()
        } else {
            let host = host.unwrap_or(UNKNOWN);
            let special = [BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH].contains(&cluster);
            let name = if special { cluster } else { host };
            ServiceName { host: host.into(), name: name.into(), namespace: UNKNOWN.into() }
        };
        self.services.borrow_mut().insert(name)
    }

    /// The HTTP series of a key.
    pub fn http(&self, key: &Key) -> Arc<HttpSeries> {
        if let Some(series) = self.http.borrow().get(key) {
            return series.clone();
        }
        let unknown = key.of_unknown_peers();
        if self.http.borrow().len() >= SERIES && *key != unknown {
            return self.http(&unknown);
        }
        let series = self.add(&self.shared.http, key);
        self.http.borrow_mut().insert(*key, series.clone());
        series
    }

    /// The TCP series of a key.
    pub fn tcp(&self, key: &Key) -> Arc<TcpSeries> {
        if let Some(series) = self.tcp.borrow().get(key) {
            return series.clone();
        }
        let unknown = key.of_unknown_peers();
        if self.tcp.borrow().len() >= SERIES && *key != unknown {
            return self.tcp(&unknown);
        }
        let series = self.add(&self.shared.tcp, key);
        self.tcp.borrow_mut().insert(*key, series.clone());
        series
    }

    fn add<S: Default>(&self, list: &Series<S>, key: &Key) -> Arc<S> {
        let series = Arc::new(S::default());
        // Shared with the scraper only, and only for a new set of labels.
        list.lock().unwrap_or_else(PoisonError::into_inner).push((self.labels(key).into(), series.clone()));
        series
    }

    /// The labels in Istio's order, as Prometheus writes them.
    fn labels(&self, key: &Key) -> String {
        let (peers, principals, services) = (self.peers.borrow(), self.principals.borrow(), self.services.borrow());
        let unknown = Peer::unknown();
        let source = peers.value(key.source).unwrap_or(&unknown);
        let destination = peers.value(key.destination).unwrap_or(&unknown);
        let principal = |number| principals.value(number).map_or(UNKNOWN, String::as_str);
        let service = services.value(key.service);
        let part = |pick: fn(&ServiceName) -> &str| service.map_or(UNKNOWN, pick);
        let reporter = if key.reporter == Reporter::Source { "source" } else { "destination" };
        let protocol = match key.protocol {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
            RequestProtocol::Tcp => "tcp",
        };
        let security = match key.security {
            Security::MutualTls => "mutual_tls",
            Security::None => "none",
            Security::Unknown => "unknown",
        };
        let mut out = Labels(String::with_capacity(1024));
        out.put("reporter", reporter);
        out.put("source_workload", &source.workload);
        out.put("source_canonical_service", &source.canonical_service);
        out.put("source_canonical_revision", &source.canonical_revision);
        out.put("source_workload_namespace", &source.namespace);
        out.put("source_principal", principal(key.source_principal));
        out.put("source_app", &source.app);
        out.put("source_version", &source.version);
        out.put("source_cluster", &source.cluster);
        out.put("destination_workload", &destination.workload);
        out.put("destination_workload_namespace", &destination.namespace);
        out.put("destination_principal", principal(key.destination_principal));
        out.put("destination_app", &destination.app);
        out.put("destination_version", &destination.version);
        out.put("destination_service", part(|service| &service.host));
        out.put("destination_canonical_service", &destination.canonical_service);
        out.put("destination_canonical_revision", &destination.canonical_revision);
        out.put("destination_service_name", part(|service| &service.name));
        out.put("destination_service_namespace", self.service_namespace(service, destination));
        out.put("destination_cluster", &destination.cluster);
        out.put("request_protocol", protocol);
        if key.protocol != RequestProtocol::Tcp {
            out.put("response_code", &key.code.to_string());
            out.put("grpc_response_status", &key.grpc.map(|status| status.to_string()).unwrap_or_default());
        }
        out.put("response_flags", &key.flags.to_string());
        out.put("connection_security_policy", security);
        out.0
    }

    #[expect(clippy::unused_self, reason = "reads better beside its only caller")]
    fn service_namespace<'a>(&self, service: Option<&'a ServiceName>, destination: &'a Peer) -> &'a str {
        match service {
            Some(service) if service.namespace != UNKNOWN => &service.namespace,
            _ => &destination.namespace,
        }
    }
}

struct Labels(String);

impl Labels {
    fn put(&mut self, name: &str, value: &str) {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}{name}=\"");
        super::render::escape(&mut self.0, value);
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Key, REMEMBERED, Recorder, Registry, Reporter, RequestProtocol, SERIES, Security};
    use crate::error::{Flag, Flags};
    use xds::peer::PeerMetadata;

    #[test]
    fn what_peers_make_up_does_not_fill_the_memory() {
        let registry = Registry::new(1);
        let recorder = Recorder::new(Arc::clone(&registry.workers[0]), &PeerMetadata::default());
        let key = |source, code| Key {
            reporter: Reporter::Destination,
            source,
            destination: recorder.own,
            source_principal: 0,
            destination_principal: 0,
            service: 0,
            protocol: RequestProtocol::Http,
            code,
            grpc: None,
            flags: Flags::default(),
            security: Security::None,
        };
        for number in 0..2 * SERIES {
            let name = format!("{number}");
            let metadata = PeerMetadata { name: "x".repeat(400), workload_name: name, ..PeerMetadata::default() };
            let source = recorder.by_header(metadata.encode().as_bytes());
            recorder.http(&key(source, 200)).requests.add(1);
            recorder.http(&key(source, 404)).requests.add(1);
        }
        let series = registry.workers[0].http.lock().unwrap();
        assert!(series.len() <= SERIES + 2, "{} series", series.len());
        let counted: u64 = series.iter().map(|(_, series)| series.requests.get()).sum();
        assert_eq!(counted, 4 * SERIES as u64, "what has no series of its own is counted all the same");
        let headers = recorder.headers.borrow();
        assert!(headers.bytes <= REMEMBERED && headers.numbers.len() < 2000, "{} bytes", headers.bytes);
        drop(headers);

        let long = PeerMetadata { workload_name: "x".repeat(1000), namespace: "a".into(), ..PeerMetadata::default() };
        let number = recorder.by_header(long.encode().as_bytes());
        assert!(recorder.peers.borrow().value(number).is_none_or(|peer| peer.workload.len() < 300));
        let before = recorder.headers.borrow().bytes;
        assert_eq!(recorder.by_header(&vec![b'A'; 50_000]), 0);
        assert_eq!(recorder.headers.borrow().bytes, before, "no metadata, not remembered");
    }

    #[test]
    fn a_series_has_istios_25_labels_in_istios_order() {
        let registry = Registry::new(1);
        let own = PeerMetadata {
            namespace: "default".into(),
            workload_name: "productpage-v1".into(),
            labels: [("app".to_owned(), "productpage".to_owned()), ("version".to_owned(), "v1".to_owned())].into(),
            cluster_id: "Kubernetes".into(),
            ..PeerMetadata::default()
        };
        let recorder = Recorder::new(Arc::clone(&registry.workers[0]), &own);
        let key = Key {
            reporter: Reporter::Source,
            source: recorder.own,
            destination: 0,
            source_principal: 0,
            destination_principal: recorder.principal(Some("spiffe://cluster.local/ns/default/sa/\"x\"")),
            service: recorder.service(None, "PassthroughCluster", Some("example.org")),
            protocol: RequestProtocol::Http,
            code: 503,
            grpc: None,
            flags: Flags::from(Flag::UF),
            security: Security::Unknown,
        };
        recorder.http(&key).requests.add(2);
        recorder.http(&key).requests.add(1);
        let series = registry.workers[0].http.lock().unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].1.requests.get(), 3);
        let expected = "reporter=\"source\",source_workload=\"productpage-v1\",source_canonical_service=\"productpage\",\
            source_canonical_revision=\"v1\",source_workload_namespace=\"default\",source_principal=\"unknown\",\
            source_app=\"productpage\",source_version=\"v1\",source_cluster=\"Kubernetes\",\
            destination_workload=\"unknown\",destination_workload_namespace=\"unknown\",\
            destination_principal=\"spiffe://cluster.local/ns/default/sa/\\\"x\\\"\",destination_app=\"unknown\",\
            destination_version=\"unknown\",destination_service=\"example.org\",\
            destination_canonical_service=\"unknown\",destination_canonical_revision=\"latest\",\
            destination_service_name=\"PassthroughCluster\",destination_service_namespace=\"unknown\",\
            destination_cluster=\"unknown\",request_protocol=\"http\",response_code=\"503\",\
            grpc_response_status=\"\",response_flags=\"UF\",connection_security_policy=\"unknown\"";
        assert_eq!(&*series[0].0, expected);
    }
}
