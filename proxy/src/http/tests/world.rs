//! A small world for tests: a network in memory, servers, proxies with hand-built configuration, clients.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::Snapshot;
use engine::ir::cluster::{Breakers, Cluster, ClusterKind, ClusterTransport, LbPolicy, Settings};
use engine::ir::endpoint::{Endpoint, EndpointSet, Health};
use engine::ir::header::HeaderOps;
use engine::ir::listener::{
    Chain, ChainAction, ChainMatch, Codec, Direction, ForwardClientCert, HttpChain, HttpFilter, Listener,
    PathNormalization, RouteSource, ServerHeader, Sniff, TcpChain, TcpCluster,
};
use engine::ir::route::{
    Clusters, Forward, HostIndex, PathMatch, Route, RouteAction, RouteMatch, RouteTable, Router, VirtualHost,
    WeightedCluster,
};
use engine::ir::tls::{DownstreamTls, UpstreamTransport};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use xds::peer::PeerMetadata;
use xds::service::ServiceName;

use crate::http::local::Local;
use crate::listen::accept;
use crate::net::{MemoryNet, Net};
use crate::telemetry::istio::Registry;
use crate::tls::identity::Identity;
use crate::workers::{Parts, Worker};
use crate::xds::publish::Update;

/// Runs a test on a worker's kind of runtime, with paused time.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime =
        Builder::new_current_thread().enable_all().start_paused(true).build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

pub(crate) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

pub(crate) const OUTBOUND: &str = "127.0.0.1:15001";
pub(crate) const INBOUND: &str = "127.0.0.1:15006";

pub(crate) fn http_chain(routes: RouteSource, direction: Direction) -> HttpChain {
    HttpChain {
        routes,
        codec: Codec::Auto,
        direction,
        filters: [
            HttpFilter::Alpn,
            HttpFilter::PeerMetadata,
            HttpFilter::Cors,
            HttpFilter::Fault(None),
            HttpFilter::Stats,
        ]
        .into(),
        forward_client_cert: ForwardClientCert::Sanitize,
        server_name: Some(HeaderValue::from_static("istio-envoy")),
        server_header: if direction == Direction::Inbound {
            ServerHeader::PassThrough
        } else {
            ServerHeader::Overwrite
        },
        access_logs: Box::default(),
        use_remote_address: direction == Direction::Gateway,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        generate_request_id: true,
        preserve_external_request_id: false,
        normalize: PathNormalization { normalize: true, ..PathNormalization::default() },
        strip_matching_host_port: false,
        upgrades: ["websocket".into()].into(),
        accept_http_10: false,
        request_headers_timeout: None,
        request_timeout: None,
        stream_idle_timeout: None,
        idle_timeout: None,
        max_connection_duration: None,
        drain_timeout: Duration::from_secs(5),
        max_concurrent_streams: None,
        max_request_headers_kb: 60,
        stat_prefix: "x".into(),
    }
}

pub(crate) fn chain(action: ChainAction, matches: ChainMatch, tls: Option<Arc<DownstreamTls>>) -> Arc<Chain> {
    Arc::new(Chain { name: "c".into(), matches, tls, tls_handshake_timeout: None, action, provenance: None })
}

pub(crate) fn http(chain: HttpChain) -> ChainAction {
    ChainAction::Http(Arc::new(chain))
}

pub(crate) fn tcp(cluster: &str) -> ChainAction {
    ChainAction::Tcp(Arc::new(TcpChain {
        clusters: [TcpCluster { name: cluster.into(), weight: 1 }].into(),
        idle_timeout: None,
        max_connect_attempts: 1,
        access_logs: Box::default(),
        stat_prefix: "x".into(),
    }))
}

pub(crate) fn listener(name: &str, address: &str, direction: Direction, chains: Vec<Arc<Chain>>) -> Arc<Listener> {
    Arc::new(Listener {
        name: name.into(),
        address: at(address),
        additional_addresses: Box::default(),
        bind: true,
        use_original_dst: direction != Direction::Gateway,
        transparent: false,
        client_address_mark: None,
        direction,
        sniff: Sniff {
            original_dst: true,
            tls: direction == Direction::Inbound,
            http: direction != Direction::Gateway,
            timeout: Duration::ZERO,
            continue_on_timeout: true,
        },
        chains: chains.into(),
        default_chain: None,
        provenance: None,
    })
}

pub(crate) fn cluster(name: &str, kind: ClusterKind) -> Cluster {
    Cluster {
        name: name.into(),
        kind,
        transport: ClusterTransport::Uniform(UpstreamTransport::Plaintext),
        service: None,
        settings: Arc::new(Settings {
            panic_threshold: 0,
            connect_timeout: Duration::from_secs(10),
            breakers: Breakers {
                max_connections: u32::MAX,
                max_pending_requests: u32::MAX,
                max_requests: u32::MAX,
                max_retries: u32::MAX,
                retry_budget: None,
            },
            idle_timeout: None,
            ..Settings::default()
        }),
        provenance: None,
    }
}

/// A cluster's own settings, to be changed.
pub(crate) fn settings(cluster: &mut Cluster) -> &mut Settings {
    Arc::make_mut(&mut cluster.settings)
}

pub(crate) fn service(name: &str) -> Arc<ServiceName> {
    let host = format!("{name}.default.svc.cluster.local");
    Arc::new(ServiceName { host, name: name.into(), namespace: "default".into() })
}

pub(crate) fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        address: at(address),
        additional_addresses: Box::default(),
        hostname: None,
        weight: 1,
        health: Health::Healthy,
        mtls: false,
        workload: None,
        locality: Arc::default(),
        locality_weight: 0,
        priority: 0,
    }
}

pub(crate) fn fixed(addresses: &[&str]) -> ClusterKind {
    let endpoints = addresses.iter().map(|address| endpoint(address)).collect();
    ClusterKind::Static(Arc::new(EndpointSet::new(endpoints, LbPolicy::RoundRobin)))
}

pub(crate) fn forward(clusters: &[(&str, u32)]) -> Forward {
    let members: Vec<WeightedCluster> = clusters
        .iter()
        .map(|(name, weight)| WeightedCluster {
            name: (*name).into(),
            weight: *weight,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            host_rewrite: None,
        })
        .collect();
    let total = members.iter().map(|member| u64::from(member.weight)).sum();
    Forward {
        clusters: Clusters { members: members.into(), total },
        timeout: None,
        max_grpc_timeout: None,
        idle_timeout: None,
        retry: None,
        rewrite: None,
        host_rewrite: None,
        append_x_forwarded_host: false,
        mirrors: Box::default(),
        hash: Box::default(),
        cluster_not_found_status: 503,
        upgrades: Box::default(),
    }
}

pub(crate) fn route(prefix: &str, action: RouteAction) -> Route {
    Route {
        name: "default".into(),
        matches: RouteMatch {
            path: PathMatch::Prefix { path: prefix.into(), ignore_case: false },
            headers: Box::default(),
            query: Box::default(),
            grpc: false,
            share: None,
        },
        action,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        fault: None,
        cors: None,
        provenance: None,
    }
}

pub(crate) fn to(cluster: &str) -> RouteAction {
    RouteAction::Forward(Box::new(forward(&[(cluster, 1)])))
}

pub(crate) fn table(domain: &str, routes: Vec<Route>) -> Arc<RouteTable> {
    let host = VirtualHost {
        name: domain.into(),
        domains: [domain.into()].into(),
        router: Router::new(routes.into_iter().map(Arc::new).collect()),
        require_tls: false,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        include_attempt_count: false,
        provenance: None,
    };
    Arc::new(RouteTable {
        name: "t".into(),
        hosts: HostIndex::new(vec![Arc::new(host)], None),
        ignore_port: true,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        provenance: None,
    })
}

pub(crate) fn snapshot(listeners: Vec<Arc<Listener>>, clusters: Vec<Cluster>) -> Snapshot {
    let listeners = listeners.into_iter().map(|listener| (listener.name.clone(), listener)).collect();
    let clusters = clusters.into_iter().map(|cluster| (cluster.name.clone(), Arc::new(cluster))).collect();
    Snapshot::new(1, listeners, HashMap::new(), clusters)
}

/// A sidecar's outbound side with one table for all it gets.
pub(crate) fn outbound(table: Arc<RouteTable>, clusters: Vec<Cluster>) -> Snapshot {
    let chain = chain(http(http_chain(RouteSource::Inline(table), Direction::Outbound)), ChainMatch::default(), None);
    snapshot(vec![listener("virtualOutbound", OUTBOUND, Direction::Outbound, vec![chain])], clusters)
}

/// A gateway at one address before a server at another.
pub(crate) fn gateway(address: &str, server: &str) -> Snapshot {
    let table = table("*", vec![route("/", to("server"))]);
    let chain = chain(http(http_chain(RouteSource::Inline(table), Direction::Gateway)), ChainMatch::default(), None);
    snapshot(
        vec![listener("gateway", address, Direction::Gateway, vec![chain])],
        vec![cluster("server", fixed(&[server]))],
    )
}

/// A proxy: one worker.
pub(crate) struct Proxy {
    pub(crate) worker: Rc<Worker>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identity: watch::Sender<Option<Arc<Identity>>>,
    _stop: watch::Sender<bool>,
}

pub(crate) fn workload(name: &str) -> PeerMetadata {
    let labels = [("app", name), ("version", "v1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    PeerMetadata {
        name: format!("{name}-v1-0"),
        namespace: "default".into(),
        workload_name: format!("{name}-v1"),
        labels: labels.into(),
        cluster_id: "Kubernetes".into(),
        ..PeerMetadata::default()
    }
}

impl Proxy {
    pub(crate) fn start(net: &MemoryNet, name: &str, identity: Option<Arc<Identity>>, snapshot: Snapshot) -> Self {
        let registry = Arc::new(Registry::new(1));
        let (identity, watching) = watch::channel(identity);
        let worker = Worker::new(Parts {
            net: Net::Memory(net.clone()),
            metadata: workload(name),
            node_id: format!("sidecar~10.0.0.1~{name}-v1-0.default~default.svc.cluster.local"),
            identity: watching,
            series: registry.workers[0].clone(),
            shared: Arc::default(),
            log_writer: std::sync::mpsc::sync_channel(1).0,
            seed: 7,
        });
        let snapshot = Arc::new(snapshot);
        worker.apply(Update::Snapshot(snapshot.clone()));
        let (stop, watching) = watch::channel(false);
        for listener in snapshot.bound_listeners() {
            let backlog = net.listen(listener.address);
            tokio::task::spawn_local(accept::accept(worker.clone(), listener.name.clone(), backlog, watching.clone()));
        }
        Self { worker, registry, identity, _stop: stop }
    }

    /// All series of HTTP requests: labels and count.
    pub(crate) fn requests(&self) -> Vec<(String, u64)> {
        let series = self.registry.workers[0].http.lock().unwrap();
        series.iter().map(|(labels, series)| (labels.to_string(), series.requests.get())).collect()
    }

    /// The value of a label in the only series.
    pub(crate) fn label(&self, name: &str) -> String {
        let all = self.requests();
        assert_eq!(all.len(), 1, "{all:#?}");
        let start = all[0].0.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        all[0].0[start..].split('"').next().unwrap().to_owned()
    }
}

/// What a server saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: SocketAddr,
}

pub(crate) type Log = Rc<RefCell<Vec<Seen>>>;
type Answer = Response<Full<Bytes>>;

/// A server that answers every request by `answer`; gives what it saw.
pub(crate) fn serve(
    net: &MemoryNet,
    address: &str,
    http2: bool,
    answer: impl AsyncFn(&Seen) -> Answer + Clone + 'static,
) -> Log {
    let log = Log::default();
    let seen = log.clone();
    let mut backlog = net.listen(at(address));
    tokio::task::spawn_local(async move {
        while let Ok(accepted) = backlog.accept().await {
            let (log, answer, peer) = (seen.clone(), answer.clone(), accepted.peer);
            let service = service_fn(move |request: Request<Incoming>| {
                let (log, answer) = (log.clone(), answer.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                    let header = parts.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
                    let authority = parts.uri.authority().map(ToString::to_string).or(header).unwrap_or_default();
                    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                    let seen =
                        Seen { method: parts.method.to_string(), path, authority, headers: parts.headers, body, peer };
                    log.borrow_mut().push(seen.clone());
                    Ok::<_, Infallible>(answer(&seen).await)
                }
            });
            let io = TokioIo::new(accepted.io);
            tokio::task::spawn_local(async move {
                let _ = if http2 {
                    hyper::server::conn::http2::Builder::new(Local).serve_connection(io, service).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                };
            });
        }
    });
    log
}

pub(crate) fn ok(body: &str) -> Answer {
    Response::new(Full::new(Bytes::from(body.to_owned())))
}

pub(crate) fn status(status: u16) -> Answer {
    let mut response = ok("");
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// An answer as a client has it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A client beside a proxy, whose connection to `original` is redirected.
pub(crate) struct Client {
    http1: Option<hyper::client::conn::http1::SendRequest<Full<Bytes>>>,
    http2: Option<hyper::client::conn::http2::SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(crate) async fn http1(net: &MemoryNet, listener: &str, original: &str) -> Self {
        Self::http1_from(net, listener, original, "10.0.0.9:1234").await
    }

    pub(crate) async fn http1_from(net: &MemoryNet, listener: &str, original: &str, own: &str) -> Self {
        let io = net.redirect(at(listener), at(own), at(original)).unwrap();
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::task::spawn_local(driver);
        Self { http1: Some(sender), http2: None }
    }

    pub(crate) async fn http2(net: &MemoryNet, listener: &str, original: &str) -> Self {
        Self::http2_from(net, listener, original, "10.0.0.9:1234").await
    }

    pub(crate) async fn http2_from(net: &MemoryNet, listener: &str, original: &str, own: &str) -> Self {
        let io = net.redirect(at(listener), at(own), at(original)).unwrap();
        let (sender, driver) = hyper::client::conn::http2::handshake(Local, TokioIo::new(io)).await.unwrap();
        tokio::task::spawn_local(driver);
        Self { http1: None, http2: Some(sender) }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Got {
        let response = match (&mut self.http1, &mut self.http2) {
            (Some(sender), _) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            (_, Some(sender)) => sender.send_request(request).await.unwrap(),
            _ => unreachable!(),
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Got { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Got {
        let request = if self.http2.is_some() {
            Request::get(format!("http://reviews:9080{path}"))
        } else {
            Request::get(path).header("host", "reviews:9080")
        };
        self.send(request.body(Full::default()).unwrap()).await
    }
}

/// One request to `path` at an outbound listener.
pub(crate) async fn get(net: &MemoryNet, path: &str) -> Got {
    Client::http1(net, OUTBOUND, "10.1.0.1:9080").await.get(path).await
}

/// Lets everything run that can.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
