//! What goes wrong, and what becomes of it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::ir::cluster::{ClusterKind, LbPolicy, Outlier};
use engine::ir::endpoint::EndpointSet;
use engine::ir::retry::{RetryOn, RetryPolicy};
use engine::ir::route::RouteAction;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::world::*;
use crate::net::MemoryNet;
use crate::xds::publish::Update;

const DEAD: &str = "10.0.1.1:9080";
const ALIVE: &str = "10.0.1.2:9080";

/// Istio's default policy.
pub(super) fn default_retries() -> Arc<RetryPolicy> {
    Arc::new(RetryPolicy {
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            grpc_unavailable: true,
            grpc_cancelled: true,
            retriable_status_codes: true,
            ..RetryOn::default()
        },
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
    })
}

fn retrying(policy: Arc<RetryPolicy>) -> RouteAction {
    let mut rule = forward(&[("reviews", 1)]);
    rule.retry = Some(policy);
    RouteAction::Forward(Box::new(rule))
}

#[test]
fn what_a_client_sees_of_failures() {
    run(async {
        let net = MemoryNet::default();
        let config = outbound(
            table(
                "reviews",
                vec![
                    route("/dead", to("dead")),
                    route("/empty", to("empty")),
                    route("/missing", to("missing")),
                    route("/retried", retrying(default_retries())),
                ],
            ),
            vec![cluster("dead", fixed(&[DEAD])), cluster("empty", fixed(&[])), cluster("reviews", fixed(&[DEAD]))],
        );
        let proxy = Proxy::start(&net, "productpage", None, config);
        let refused = "upstream connect error or disconnect/reset before headers. reset reason: remote connection \
                       failure, transport failure reason: delayed connect error: connection refused";
        for (path, status, body, flags) in [
            ("/dead", 503, refused, "UF"),
            ("/empty", 503, "no healthy upstream", "UH"),
            ("/missing", 503, "", "NC"),
            ("/retried", 503, refused, "UF,URX"),
            ("/unknown", 404, "", "NR"),
        ] {
            let got = get(&net, path).await;
            assert_eq!((got.status, got.body.as_str()), (status, body), "{path}");
            settle().await;
            let told = format!("response_code=\"{status}\",grpc_response_status=\"\",response_flags=\"{flags}\"");
            assert!(proxy.requests().iter().any(|(labels, _)| labels.contains(&told)), "{path}: {told}");
        }
        assert_eq!(net.connected(at(DEAD)), 1 + 3, "one, and one with two retries");
    });
}

#[test]
fn grpc_clients_get_grpc_answers() {
    run(async {
        let net = MemoryNet::default();
        let config = outbound(table("*", vec![route("/", to("empty"))]), vec![cluster("empty", fixed(&[]))]);
        let proxy = Proxy::start(&net, "productpage", None, config);
        let request =
            Request::post("http://reviews/x").header("content-type", "application/grpc").body(Full::default()).unwrap();
        let got = Client::http2(&net, OUTBOUND, "10.1.0.1:9080").await.send(request).await;
        assert_eq!(
            (got.status, got.header("grpc-status"), got.header("grpc-message")),
            (200, "14", "no healthy upstream")
        );
        settle().await;
        assert_eq!(
            (proxy.label("request_protocol"), proxy.label("grpc_response_status")),
            ("grpc".into(), "14".into())
        );
    });
}

#[test]
fn a_failed_connection_is_tried_elsewhere() {
    run(async {
        let net = MemoryNet::default();
        let log = serve(&net, ALIVE, false, async |seen: &Seen| ok(&format!("{}", seen.body.len())));
        let config = outbound(
            table("*", vec![route("/", retrying(default_retries()))]),
            vec![cluster("reviews", fixed(&[DEAD, ALIVE]))],
        );
        let _proxy = Proxy::start(&net, "productpage", None, config);
        for _ in 0..10 {
            let request = Request::post("/").header("host", "x").body(Full::new(Bytes::from("body"))).unwrap();
            let got = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await.send(request).await;
            assert_eq!((got.status, got.body.as_str()), (200, "4"));
        }
        assert_eq!(log.borrow().len(), 10);
    });
}

#[test]
fn a_body_is_sent_again_unless_it_is_too_large() {
    for (size, status, requests) in [(60_000, 200, 2), (200_000, 503, 1)] {
        run(async move {
            let net = MemoryNet::default();
            let first = Rc::new(Cell::new(true));
            let log =
                serve(
                    &net,
                    ALIVE,
                    false,
                    async move |_: &Seen| {
                        if first.replace(false) { super::world::status(503) } else { ok("second") }
                    },
                );
            let mut policy = (*default_retries()).clone();
            policy.on.server_error = true;
            let config = outbound(
                table("*", vec![route("/", retrying(Arc::new(policy)))]),
                vec![cluster("reviews", fixed(&[ALIVE]))],
            );
            let _proxy = Proxy::start(&net, "productpage", None, config);
            let request = Request::post("/").header("host", "x").body(Full::new(Bytes::from(vec![1; size]))).unwrap();
            let got = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await.send(request).await;
            assert_eq!((got.status, log.borrow().len()), (status, requests), "{size} bytes");
            assert!(log.borrow().iter().all(|seen| seen.body.len() == size));
        });
    }
}

#[test]
fn a_timeout_answers_504() {
    run(async {
        let net = MemoryNet::default();
        let _log = serve(&net, ALIVE, false, async |_: &Seen| {
            tokio::time::sleep(Duration::from_mins(1)).await;
            ok("late")
        });
        let mut rule = forward(&[("reviews", 1)]);
        rule.timeout = Some(Duration::from_millis(500));
        let mut policy = (*default_retries()).clone();
        policy.per_try_timeout = Some(Duration::from_secs(2));
        policy.on.reset = true;
        let config = outbound(
            table(
                "*",
                vec![route("/once", RouteAction::Forward(Box::new(rule))), route("/tries", retrying(Arc::new(policy)))],
            ),
            vec![cluster("reviews", fixed(&[ALIVE]))],
        );
        let proxy = Proxy::start(&net, "productpage", None, config);
        let start = Instant::now();
        let got = get(&net, "/once").await;
        assert_eq!((got.status, got.body.as_str()), (504, "upstream request timeout"));
        assert_eq!(start.elapsed().as_millis(), 500);
        let start = Instant::now();
        assert_eq!(get(&net, "/tries").await.status, 504);
        let elapsed = start.elapsed().as_millis();
        assert!((6000..6500).contains(&elapsed), "three tries of two seconds: {elapsed} ms");
        settle().await;
        assert!(proxy.requests().iter().any(|(labels, _)| labels.contains("response_flags=\"UT\"")));
    });
}

/// A server that closes each connection after its first answer, without saying so.
fn closing_server(net: &MemoryNet, address: &str) -> Rc<Cell<u32>> {
    let mut backlog = net.listen(at(address));
    let served = Rc::new(Cell::new(0));
    let count = served.clone();
    tokio::task::spawn_local(async move {
        while let Ok(accepted) = backlog.accept().await {
            let mut io = accepted.io;
            let count = count.clone();
            tokio::task::spawn_local(async move {
                let mut head = vec![0; 4096];
                if io.read(&mut head).await.unwrap_or(0) > 0 {
                    count.set(count.get() + 1);
                    let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    served
}

#[test]
fn a_stale_connection_costs_no_request() {
    run(async {
        let net = MemoryNet::default();
        let served = closing_server(&net, ALIVE);
        let config = outbound(table("*", vec![route("/", to("reviews"))]), vec![cluster("reviews", fixed(&[ALIVE]))]);
        let _proxy = Proxy::start(&net, "productpage", None, config);
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!(served.get(), 20);
    });
}

/// An HTTP/2 server that goes away when the first request comes, without having worked on it.
fn leaving_server(net: &MemoryNet, address: &str) {
    let mut backlog = net.listen(at(address));
    tokio::task::spawn_local(async move {
        let mut io = backlog.accept().await.unwrap().io;
        drop(backlog); // nobody else gets in
        let mut read = vec![0; 4096];
        io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
        // A frame of HEADERS: type 1 in the fourth byte, on stream 1.
        let mut seen = Vec::new();
        while !seen.windows(9).any(|frame: &[u8]| frame[3] == 1 && frame[5..] == [0, 0, 0, 1]) {
            let count = io.read(&mut read).await.unwrap();
            assert!(count > 0);
            seen.extend_from_slice(&read[..count]);
        }
        // GOAWAY: the last stream is 0, NO_ERROR.
        io.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let _ = io.read(&mut read).await;
    });
}

#[test]
fn a_server_that_goes_away_costs_no_request() {
    run(async {
        let net = MemoryNet::default();
        leaving_server(&net, DEAD);
        let log = serve(&net, ALIVE, true, async |_: &Seen| ok("x"));
        let mut reviews = cluster("reviews", fixed(&[DEAD, ALIVE]));
        settings(&mut reviews).http = engine::ir::cluster::UpstreamHttp::Http2;
        let config = outbound(table("*", vec![route("/", retrying(default_retries()))]), vec![reviews]);
        let _proxy = Proxy::start(&net, "productpage", None, config);
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        for _ in 0..2 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!(log.borrow().len(), 2);
        assert!(net.connected(at(DEAD)) > 0);
    });
}

#[test]
fn removed_endpoints_get_nothing_more() {
    run(async {
        let net = MemoryNet::default();
        let (one, two) =
            (serve(&net, DEAD, false, async |_: &Seen| ok("1")), serve(&net, ALIVE, false, async |_: &Seen| ok("2")));
        let set = |addresses: &[&str]| {
            let endpoints = addresses.iter().map(|address| endpoint(address)).collect();
            Update::Endpoints {
                cluster: "reviews".into(),
                set: Arc::new(EndpointSet::new(endpoints, LbPolicy::RoundRobin)),
            }
        };
        let config = outbound(
            table("*", vec![route("/", to("reviews"))]),
            vec![cluster("reviews", ClusterKind::Eds { service_name: "reviews".into() })],
        );
        let proxy = Proxy::start(&net, "productpage", None, config);
        proxy.worker.apply(set(&[DEAD, ALIVE]));
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!((one.borrow().len(), two.borrow().len()), (2, 2));
        proxy.worker.apply(set(&[ALIVE]));
        for _ in 0..4 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!((one.borrow().len(), two.borrow().len()), (2, 6));
        assert_eq!((net.connected(at(DEAD)), net.connected(at(ALIVE))), (1, 1), "pools are kept");
    });
}

#[test]
fn breakers_refuse_what_is_too_much() {
    run(async {
        let net = MemoryNet::default();
        let _log = serve(&net, ALIVE, false, async |_: &Seen| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ok("x")
        });
        let mut reviews = cluster("reviews", fixed(&[ALIVE]));
        settings(&mut reviews).breakers.max_connections = 1;
        settings(&mut reviews).breakers.max_pending_requests = 1;
        let proxy = Proxy::start(
            &net,
            "productpage",
            None,
            outbound(table("*", vec![route("/", to("reviews"))]), vec![reviews]),
        );
        let (a, b, c) = tokio::join!(get(&net, "/"), get(&net, "/"), get(&net, "/"));
        let mut all = [a.status, b.status, c.status];
        all.sort_unstable();
        assert_eq!(all, [200, 200, 503], "one works, one waits, one is refused");
        settle().await;
        assert!(proxy.requests().iter().any(|(labels, _)| labels.contains("response_flags=\"UO\"")));
        assert_eq!(net.connected(at(ALIVE)), 1);
    });
}

#[test]
fn an_endpoint_does_not_wait_for_the_idle_connections_of_another() {
    run(async {
        let net = MemoryNet::default();
        let _one = serve(&net, DEAD, false, async |_: &Seen| ok("1"));
        let _two = serve(&net, ALIVE, false, async |_: &Seen| ok("2"));
        let mut reviews = cluster("reviews", fixed(&[DEAD, ALIVE]));
        settings(&mut reviews).breakers.max_connections = 1;
        let _proxy = Proxy::start(
            &net,
            "productpage",
            None,
            outbound(table("*", vec![route("/", to("reviews"))]), vec![reviews]),
        );
        let start = Instant::now();
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!(start.elapsed().as_millis(), 0, "in turn, and at once");
    });
}

#[test]
fn an_endpoint_that_fails_is_left_out() {
    run(async {
        let net = MemoryNet::default();
        let bad = serve(&net, DEAD, false, async |_: &Seen| status(500));
        let good = serve(&net, ALIVE, false, async |_: &Seen| ok("x"));
        let mut reviews = cluster("reviews", fixed(&[DEAD, ALIVE]));
        settings(&mut reviews).outlier = Some(Outlier {
            consecutive_5xx: 2,
            consecutive_gateway: 0,
            consecutive_local_origin: 0,
            split_local_origin: false,
            interval: Duration::from_secs(1),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_mins(5),
            max_ejection_percent: 100,
            always_eject_one: true,
        });
        let _proxy = Proxy::start(
            &net,
            "productpage",
            None,
            outbound(table("*", vec![route("/", to("reviews"))]), vec![reviews]),
        );
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        for _ in 0..20 {
            client.get("/").await;
        }
        assert_eq!((bad.borrow().len(), good.borrow().len()), (2, 18));
    });
}

#[test]
fn a_panic_ends_one_connection_only() {
    run(async {
        let net = MemoryNet::default();
        let _log = serve(&net, ALIVE, false, async |_: &Seen| ok("x"));
        let config = outbound(table("*", vec![route("/", to("reviews"))]), vec![cluster("reviews", fixed(&[ALIVE]))]);
        let proxy = Proxy::start(&net, "productpage", None, config);
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        assert_eq!(client.get("/").await.status, 200);
        crate::listen::connection::panicking(&proxy.worker);
        settle().await;
        assert_eq!(client.get("/").await.status, 200, "another connection goes on");
        let cells = proxy.worker.recorder.envoy();
        assert_eq!((cells.panics.get(), cells.downstream_cx_active.get()), (1, 1));
    });
}

#[test]
fn a_request_costs_a_bounded_future() {
    // An exchange waits in its connection's task: its size is memory for every request in flight.
    let size = crate::http::exchange::size_of_future();
    println!("a request's future: {size} bytes");
    assert!(size <= 8 * 1024, "{size} bytes");
}
