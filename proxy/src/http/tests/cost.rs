//! What a request costs in memory. Counted, not timed: the figures are the same on every machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use engine::ir::header::{AddMode, HeaderAdd, HeaderChanges, HeaderOps, HeaderTemplate};
use engine::ir::listener::{ChainAction, ChainMatch, Direction, RouteSource};
use engine::ir::retry::{RetryOn, RetryPolicy};
use engine::ir::route::RouteAction;
use http::{HeaderName, HeaderValue};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{oneshot, watch};
use xds::peer::PeerMetadata;

use super::world::{chain, cluster, fixed, forward, http_chain, listener, route, service, snapshot, table};
use crate::listen::accept;
use crate::listen::sockets::Sockets;
use crate::net::Net;
use crate::telemetry::istio::Registry;
use crate::workers::{Parts, Worker};
use crate::xds::publish::Update;

/// The budgets of the phase in which HTTP/1.1 is hyper's (design, section 8).
const ALLOCATIONS: u64 = 14;
const BYTES: u64 = 20 * 1024;

const WARM_UP: usize = 100;
const COUNTED: u64 = 1000;

/// A server that answers each request on a connection with one kilobyte.
fn server() -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            std::thread::spawn(move || {
                let head =
                    "HTTP/1.1 200 OK\r\ncontent-length: 1024\r\ncontent-type: text/plain\r\nx-service: stable\r\n\r\n";
                let answer = [head.as_bytes(), &[b'x'; 1024]].concat();
                let mut request = [0; 4096];
                // A request without a body comes in one piece on loopback.
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    stream.write_all(&answer).unwrap();
                }
            });
        }
    });
    address
}

/// Sends a request and reads its answer to the end.
fn ask(stream: &mut TcpStream, buffer: &mut [u8]) {
    stream.write_all(b"GET /api/v1/items HTTP/1.1\r\nHost: app.example.com\r\nX-Version: v2\r\n\r\n").unwrap();
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "closed");
        length += read;
        let whole = &buffer[..length];
        let head = whole.windows(4).position(|four| four == b"\r\n\r\n");
        if head.is_some_and(|head| length == head + 4 + 1024) {
            assert!(whole.starts_with(b"HTTP/1.1 200 OK\r\n"));
            return;
        }
    }
}

fn set(name: &'static str) -> HeaderOps {
    let add = HeaderAdd {
        name: HeaderName::from_static(name),
        value: HeaderTemplate::Fixed(HeaderValue::from_static("1")),
        mode: AddMode::Overwrite,
        keep_empty: false,
    };
    HeaderChanges { add: [add].into(), ..HeaderChanges::default() }.into()
}

/// Istio's default policy: every request may be sent again.
fn retries() -> RetryPolicy {
    RetryPolicy {
        on: RetryOn { connect_failure: true, refused_stream: true, grpc_unavailable: true, ..RetryOn::default() },
        attempts: 2,
        per_try_timeout: None,
        status_codes: Box::default(),
        response_headers: Box::default(),
        request_headers: Box::default(),
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        avoid_previous_hosts: true,
        host_selection_attempts: 5,
        reset_headers: Box::default(),
    }
}

/// A gateway as the control plane configures one: two endpoints, retries, a header each way, an idle time for streams.
fn gateway(address: SocketAddr, servers: [SocketAddr; 2]) -> engine::Snapshot {
    let mut rule = forward(&[("stable", 1)]);
    rule.retry = Some(Arc::new(retries()));
    let mut marked = route("/", RouteAction::Forward(Box::new(rule)));
    (marked.request_headers, marked.response_headers) = (set("x-bench"), set("x-bench"));
    let mut http = http_chain(RouteSource::Inline(table("*", vec![marked])), Direction::Gateway);
    http.stream_idle_timeout = Some(Duration::from_mins(5));
    let chain = chain(ChainAction::Http(Arc::new(http)), ChainMatch::default(), None);
    let servers = servers.map(|server| server.to_string());
    let mut stable = cluster("stable", fixed(&[&servers[0], &servers[1]]));
    stable.service = Some(service("stable"));
    snapshot(vec![listener("gateway", &address.to_string(), Direction::Gateway, vec![chain])], vec![stable])
}

/// One worker on this thread, one connection from another; only what this thread allocates is counted.
#[test]
fn a_request_takes_few_allocations() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let snapshot = Arc::new(gateway(address, [server(), server()]));
    let registry = Registry::new(1);
    let (_identity, identity) = watch::channel(None);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();

    let (warm, is_warm) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let (go, may_go) = mpsc::channel();
    let worker = runtime.block_on(async {
        let worker = Worker::new(Parts {
            net: Net::Host,
            metadata: PeerMetadata::default(),
            node_id: "router~127.0.0.1~g.d~d.svc.cluster.local".into(),
            identity,
            series: registry.workers[0].clone(),
            shared: Arc::default(),
            log_writer: mpsc::sync_channel(1).0,
            seed: 1,
        });
        worker.apply(Update::Snapshot(snapshot.clone()));
        worker
    });
    let (sender, mut handed) = tokio::sync::mpsc::unbounded_channel();
    let mut sockets = Sockets::new(vec![sender]);
    assert!(sockets.update(&snapshot).is_empty());
    runtime.block_on(async { accept::start(&worker, handed.recv().await.unwrap()) });
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut buffer = [0; 8192];
        (0..WARM_UP).for_each(|_| ask(&mut stream, &mut buffer));
        warm.send(()).unwrap();
        may_go.recv().unwrap();
        (0..COUNTED).for_each(|_| ask(&mut stream, &mut buffer));
        done.send(()).unwrap();
    });
    runtime.block_on(is_warm).unwrap();
    let counted = allocation_counter::measure(|| {
        go.send(()).unwrap();
        runtime.block_on(is_done).unwrap();
    });
    client.join().unwrap();
    let tenths = counted.count_total * 10 / COUNTED;
    let bytes = counted.bytes_total / COUNTED;
    println!("a request: {}.{} allocations, {bytes} bytes", tenths / 10, tenths % 10);
    assert!(tenths <= ALLOCATIONS * 10, "{}.{} allocations", tenths / 10, tenths % 10);
    assert!(bytes <= BYTES, "{bytes} bytes");
}
