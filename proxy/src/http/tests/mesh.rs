//! Two proxies of the mesh with a client and a server.

use std::sync::Arc;

use engine::Snapshot;
use engine::ir::cluster::{Cluster, ClusterKind, ClusterTransport, LbPolicy, UpstreamHttp};
use engine::ir::endpoint::EndpointSet;
use engine::ir::listener::{
    ChainMatch, ClientCertDetails, Direction, ForwardClientCert, Listener, RouteSource, Transport,
};
use engine::ir::tls::UpstreamTransport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::net::MemoryNet;
use crate::tls::tests::{Authority, mesh_client, mesh_server};
use crate::xds::publish::Update;

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/productpage";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";
/// The server's pod; connections to it are redirected to its proxy.
const POD: &str = "10.0.1.1:9080";
/// Where the client's proxy finds the server's: the test network has no redirection of its own.
const PROXIED: &str = "127.0.0.1:15006";

fn matches(transport: Transport, protocols: &[&str]) -> ChainMatch {
    ChainMatch {
        transport: Some(transport),
        application_protocols: protocols.iter().map(|name| Box::from(*name)).collect(),
        ..ChainMatch::default()
    }
}

/// The inbound side of a port declared HTTP.
fn inbound(strict: bool) -> Snapshot {
    let mut chain_http =
        http_chain(RouteSource::Inline(table("*", vec![route("/", to("inbound|9080||"))])), Direction::Inbound);
    let details = ClientCertDetails { subject: true, uri: true, dns: true, ..ClientCertDetails::default() };
    chain_http.forward_client_cert = ForwardClientCert::AppendForward(details);
    let mesh = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
    let mut chains = vec![chain(http(chain_http.clone()), matches(Transport::Tls, &mesh), Some(mesh_server()))];
    if !strict {
        chains.push(chain(http(chain_http), matches(Transport::Plaintext, &[]), None));
    }
    let mut app = cluster("inbound|9080||", ClusterKind::OriginalDst { port_override: None, use_http_header: false });
    settings(&mut app).http = UpstreamHttp::UseDownstream;
    settings(&mut app).bind_source = "127.0.0.6".parse().ok();
    app.service = Some(service("reviews"));
    snapshot(vec![listener("virtualInbound", INBOUND, Direction::Inbound, chains)], vec![app])
}

/// The outbound side to a service whose endpoint speaks mesh TLS.
fn to_mesh(http: UpstreamHttp, expected: &str) -> Snapshot {
    let mut there = endpoint(PROXIED);
    there.mtls = true;
    there.workload = Some(Arc::new(xds::workload::Workload {
        name: "reviews-v1".into(),
        namespace: "default".into(),
        canonical_name: "reviews".into(),
        canonical_revision: "v1".into(),
        cluster: "Kubernetes".into(),
    }));
    let kind = ClusterKind::Static(Arc::new(EndpointSet::new(vec![there], LbPolicy::RoundRobin)));
    let mut reviews = cluster("outbound|9080||reviews.default.svc.cluster.local", kind);
    reviews.transport =
        ClusterTransport::ByTlsMode { istio: Arc::new(mesh_client(expected)), other: UpstreamTransport::Plaintext };
    settings(&mut reviews).http = http;
    reviews.service = Some(service("reviews"));
    let name = reviews.name.to_string();
    outbound(table("*", vec![route("/", to(&name))]), vec![reviews])
}

/// The test network has no redirection: what arrives at the server's proxy was going to its pod.
struct Mesh {
    net: MemoryNet,
    client: Proxy,
    server: Proxy,
    log: Log,
}

fn mesh(http: UpstreamHttp, strict: bool, expected: &str) -> Mesh {
    let net = MemoryNet::default();
    net.redirect_to(at(PROXIED), at(POD));
    let authority = Authority::new();
    let log = serve(&net, POD, http == UpstreamHttp::Http2, async |_: &Seen| ok("reviews"));
    let server = Proxy::start(&net, "reviews", Some(authority.identity(1, SERVER)), inbound(strict));
    let client = Proxy::start(&net, "productpage", Some(authority.identity(1, CLIENT)), to_mesh(http, expected));
    Mesh { net, client, server, log }
}

#[test]
fn a_request_goes_through_two_proxies_and_both_tell_of_it() {
    for upstream in [UpstreamHttp::Http1, UpstreamHttp::Http2] {
        run(async move {
            let mesh = mesh(upstream, true, SERVER);
            let got = get(&mesh.net, "/reviews/0").await;
            assert_eq!((got.status, got.body.as_str()), (200, "reviews"), "{got:?}");
            assert!(!got.headers.contains_key("x-envoy-peer-metadata"), "metadata are between proxies");
            {
                let seen = &mesh.log.borrow()[0];
                assert!(!seen.headers.contains_key("x-envoy-peer-metadata"));
                assert_eq!(seen.peer.ip().to_string(), "127.0.0.6");
                let cert = seen.headers["x-forwarded-client-cert"].to_str().unwrap();
                assert!(cert.starts_with(&format!("By={SERVER};Hash=")), "{cert}");
                assert!(cert.ends_with(&format!(";Subject=\"\";URI={CLIENT}")), "{cert}");
            }
            settle().await;
            for (name, at_client, at_server) in [
                ("reporter", "source", "destination"),
                ("source_workload", "productpage-v1", "productpage-v1"),
                ("source_canonical_service", "productpage", "productpage"),
                ("source_principal", CLIENT, CLIENT),
                ("source_cluster", "Kubernetes", "Kubernetes"),
                ("destination_workload", "reviews-v1", "reviews-v1"),
                ("destination_app", "reviews", "reviews"),
                ("destination_version", "v1", "v1"),
                ("destination_principal", SERVER, SERVER),
                ("destination_service", "reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local"),
                ("destination_service_name", "reviews", "reviews"),
                ("destination_service_namespace", "default", "default"),
                ("request_protocol", "http", "http"),
                ("response_code", "200", "200"),
                ("response_flags", "-", "-"),
                ("connection_security_policy", "unknown", "mutual_tls"),
            ] {
                assert_eq!(mesh.client.label(name), at_client, "{name} at the client");
                assert_eq!(mesh.server.label(name), at_server, "{name} at the server");
            }
        });
    }
}

/// An application that sees its clients: none gets a connection that says it is another, and each its own again.
#[test]
fn with_tproxy_the_server_sees_its_clients() {
    for upstream in [UpstreamHttp::Http1, UpstreamHttp::Http2] {
        run(async move {
            let net = MemoryNet::default();
            let log = serve(&net, POD, upstream == UpstreamHttp::Http2, async |_: &Seen| ok("reviews"));
            let mut transparent = inbound(false);
            let listeners = transparent.listeners().map(|listener| {
                let mark = Some(names::traffic::CLIENT_ADDRESS_MARK);
                Arc::new(Listener { transparent: true, client_address_mark: mark, ..(**listener).clone() })
            });
            let clusters = transparent.clusters().map(|cluster| Cluster::clone(cluster));
            transparent = snapshot(listeners.collect(), clusters.collect());
            let _server = Proxy::start(&net, "reviews", Some(Authority::new().identity(1, SERVER)), transparent);
            let mut clients = Vec::new();
            for address in ["10.0.0.7:4000", "10.0.0.8:4000", "10.0.0.7:4001"] {
                clients.push(match upstream {
                    UpstreamHttp::Http2 => Client::http2_from(&net, INBOUND, POD, address).await,
                    _ => Client::http1_from(&net, INBOUND, POD, address).await,
                });
            }
            for client in [0, 1, 0, 2, 1] {
                assert_eq!(clients[client].get("/reviews/0").await.status, 200);
            }
            let seen: Vec<String> = log.borrow().iter().map(|seen| seen.peer.ip().to_string()).collect();
            assert_eq!(seen, ["10.0.0.7", "10.0.0.8", "10.0.0.7", "10.0.0.7", "10.0.0.8"]);
            assert_eq!(net.connected(at(POD)), 2, "one connection for each address");
        });
    }
}

#[test]
fn plaintext_passes_while_permissive_and_not_when_strict() {
    run(async {
        let mesh = mesh(UpstreamHttp::Http1, false, SERVER);
        let mut outsider = Client::http1(&mesh.net, INBOUND, POD).await;
        assert_eq!(outsider.get("/").await.status, 200);
        settle().await;
        assert_eq!(mesh.server.label("connection_security_policy"), "none");
        assert_eq!(mesh.server.label("source_principal"), "unknown");
        assert_eq!(mesh.server.worker.live.count(), 1);
        mesh.server.registry.workers[0].http.lock().unwrap().clear();

        // Who it says that it is counts for nothing, and who we are is none of its business.
        let request = http::Request::get("/")
            .header("host", "reviews:9080")
            .header(xds::peer::HEADER, workload("ratings").encode())
            .body(http_body_util::Full::default())
            .unwrap();
        let got = outsider.send(request).await;
        assert_eq!(got.status, 200);
        assert!(!got.headers.contains_key(xds::peer::HEADER) && !got.headers.contains_key(xds::peer::ID_HEADER));
        settle().await;
        assert!(!mesh.server.requests().iter().any(|(labels, _)| labels.contains("ratings")));

        // The rule changes: the open connection would now be refused, so it is closed.
        mesh.server.worker.apply(Update::Snapshot(Arc::new(inbound(true))));
        settle().await;
        assert_eq!(mesh.server.worker.live.count(), 0);
        let mut io = mesh.net.redirect(at(INBOUND), at("10.0.0.9:1"), at(POD)).unwrap();
        io.write_all(b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = io.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "plaintext is refused under STRICT");
        assert_eq!(get(&mesh.net, "/").await.status, 200, "and mutual TLS is not");
    });
}

#[test]
fn a_peer_is_of_the_namespace_in_its_certificate() {
    run(async {
        let (authority, net) = (Authority::new(), MemoryNet::default());
        net.redirect_to(at(PROXIED), at(POD));
        let _log = serve(&net, POD, false, async |_: &Seen| ok("x"));
        let server = Proxy::start(&net, "reviews", Some(authority.identity(1, SERVER)), inbound(true));
        let other = "spiffe://cluster.local/ns/other/sa/productpage";
        let identity = Some(authority.identity(1, other));
        let _client = Proxy::start(&net, "productpage", identity, to_mesh(UpstreamHttp::Http1, SERVER));
        assert_eq!(get(&net, "/").await.status, 200);
        settle().await;
        assert_eq!(server.label("source_principal"), other);
        assert_eq!(server.label("source_workload"), "unknown", "its metadata say namespace default");
    });
}

#[test]
fn a_server_that_is_someone_else_gets_no_request() {
    run(async {
        let mesh = mesh(UpstreamHttp::Http1, true, "spiffe://cluster.local/ns/default/sa/ratings");
        let got = get(&mesh.net, "/").await;
        assert_eq!(got.status, 503);
        assert!(got.body.contains("TLS_error") && got.body.contains("is not who is expected there"), "{}", got.body);
        assert!(mesh.log.borrow().is_empty());
    });
}

#[test]
fn connections_are_made_anew_with_a_new_identity() {
    run(async {
        let authority = Authority::new();
        let net = MemoryNet::default();
        net.redirect_to(at(PROXIED), at(POD));
        let _log = serve(&net, POD, false, async |_: &Seen| ok("x"));
        let _server = Proxy::start(&net, "reviews", Some(authority.identity(1, SERVER)), inbound(true));
        let client = Proxy::start(
            &net,
            "productpage",
            Some(authority.identity(1, CLIENT)),
            to_mesh(UpstreamHttp::Http1, SERVER),
        );
        let mut beside = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        assert_eq!((beside.get("/").await.status, beside.get("/").await.status), (200, 200));
        assert_eq!(net.connected(at(PROXIED)), 1);
        client.identity.send(Some(authority.identity(2, CLIENT))).unwrap();
        assert_eq!(beside.get("/").await.status, 200);
        assert_eq!(net.connected(at(PROXIED)), 2);
    });
}

#[test]
fn a_drain_lets_the_request_finish_and_takes_new_ones() {
    run(async {
        let mesh = mesh(UpstreamHttp::Http1, false, SERVER);
        let mut client = Client::http1(&mesh.net, INBOUND, POD).await;
        assert_eq!(client.get("/").await.status, 200);
        let mut early = Client::http1(&mesh.net, INBOUND, POD).await;
        settle().await;
        mesh.server.worker.drain();
        settle().await;
        let first = early.get("/").await;
        assert_eq!((first.status, first.header("connection")), (200, "close"), "its request was on its way");
        let last = client.get("/").await;
        assert_eq!((last.status, last.header("connection")), (200, "close"), "whoever is there is told to go");
        settle().await;
        assert_eq!(mesh.server.worker.live.count(), 0);
        let mut late = Client::http1(&mesh.net, INBOUND, POD).await;
        let got = late.get("/").await;
        assert_eq!((got.status, got.header("connection")), (200, "close"), "whoever still comes is served once");
    });
}

#[test]
fn bytes_go_through_and_are_counted() {
    run(async {
        let net = MemoryNet::default();
        let mut backlog = net.listen(at("10.0.2.1:3306"));
        tokio::task::spawn_local(async move {
            let mut io = backlog.accept().await.unwrap().io;
            io.write_all(b"hello").await.unwrap(); // the server speaks first
            let mut question = Vec::new();
            io.read_to_end(&mut question).await.unwrap();
            io.write_all(&question).await.unwrap();
            io.shutdown().await.unwrap();
        });
        let sniffed = chain(
            http(http_chain(RouteSource::Inline(table("*", vec![route("/", to("db"))])), Direction::Outbound)),
            ChainMatch { application_protocols: ["http/1.1".into(), "h2c".into()].into(), ..ChainMatch::default() },
            None,
        );
        let chains = vec![sniffed, chain(tcp("db"), ChainMatch::default(), None)];
        let mut db = cluster("db", fixed(&["10.0.2.1:3306"]));
        db.service = Some(service("mysql"));
        let config = snapshot(vec![listener("virtualOutbound", OUTBOUND, Direction::Outbound, chains)], vec![db]);
        let proxy = Proxy::start(&net, "ratings", None, config);
        let mut io = net.redirect(at(OUTBOUND), at("10.0.0.9:1"), at("10.1.0.2:3306")).unwrap();
        let mut greeting = [0; 5];
        io.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
        io.write_all(b"select").await.unwrap();
        io.shutdown().await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"select");
        settle().await;
        let series = proxy.registry.workers[0].tcp.lock().unwrap();
        let (labels, series) = &series[0];
        assert_eq!((series.opened.get(), series.closed.get()), (1, 1));
        assert_eq!((series.received.get(), series.sent.get()), (6, 11));
        assert!(labels.contains("destination_service=\"mysql.default.svc.cluster.local\""), "{labels}");
        assert!(labels.contains("request_protocol=\"tcp\",response_flags=\"-\""), "{labels}");
    });
}

#[test]
fn bytes_go_through_two_proxies() {
    run(async {
        let net = MemoryNet::default();
        net.redirect_to(at(PROXIED), at(POD));
        let authority = Authority::new();
        let mut backlog = net.listen(at(POD));
        tokio::task::spawn_local(async move {
            let mut io = backlog.accept().await.unwrap().io;
            let mut question = Vec::new();
            io.read_to_end(&mut question).await.unwrap();
            io.write_all(&question).await.unwrap();
            io.shutdown().await.unwrap();
        });
        let mesh = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
        let terminate = chain(tcp("inbound|9080||"), matches(Transport::Tls, &mesh), Some(mesh_server()));
        let app = cluster("inbound|9080||", ClusterKind::OriginalDst { port_override: None, use_http_header: false });
        let inbound =
            snapshot(vec![listener("virtualInbound", INBOUND, Direction::Inbound, vec![terminate])], vec![app]);
        let server = Proxy::start(&net, "reviews", Some(authority.identity(1, SERVER)), inbound);
        let routed = to_mesh(UpstreamHttp::Http1, SERVER);
        let reviews = routed.clusters().next().unwrap();
        let bytes = chain(tcp(&reviews.name), ChainMatch::default(), None);
        let outbound = snapshot(
            vec![listener("virtualOutbound", OUTBOUND, Direction::Outbound, vec![bytes])],
            vec![(**reviews).clone()],
        );
        let client = Proxy::start(&net, "productpage", Some(authority.identity(1, CLIENT)), outbound);
        let mut io = net.redirect(at(OUTBOUND), at("10.0.0.9:1"), at("10.1.0.1:9080")).unwrap();
        io.write_all(&vec![7; 300_000]).await.unwrap();
        io.shutdown().await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 300_000);
        settle().await;
        for (proxy, policy) in [(&client, "unknown"), (&server, "mutual_tls")] {
            let series = proxy.registry.workers[0].tcp.lock().unwrap();
            let (labels, series) = &series[0];
            assert_eq!((series.received.get(), series.sent.get()), (300_000, 300_000));
            assert!(labels.contains(&format!("source_principal=\"{CLIENT}\"")), "{labels}");
            assert!(labels.contains(&format!("connection_security_policy=\"{policy}\"")), "{labels}");
        }
    });
}
