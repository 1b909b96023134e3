//! What rules do to requests.

use std::time::Duration;

use bytes::Bytes;
use engine::ir::Fraction;
use engine::ir::cluster::UpstreamHttp;
use engine::ir::fault::{AbortFault, AbortStatus, DelayFault, Fault};
use engine::ir::header::{AddMode, HeaderAdd, HeaderChanges, HeaderTemplate};
use engine::ir::route::{DirectResponse, HostRewrite, Mirror, PathRewrite, Redirect, RedirectPath, RouteAction};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use tokio::time::Instant;

use super::world::*;
use crate::net::MemoryNet;

const ONE: &str = "10.0.1.1:9080";
const TWO: &str = "10.0.1.2:9080";

#[test]
fn http1_and_http2_on_either_side() {
    for (downstream, upstream, name) in [
        (false, UpstreamHttp::Http1, "1 to 1"),
        (false, UpstreamHttp::Http2, "1 to 2"),
        (true, UpstreamHttp::Http1, "2 to 1"),
        (true, UpstreamHttp::Http2, "2 to 2"),
        (true, UpstreamHttp::UseDownstream, "2 to the same"),
        (false, UpstreamHttp::UseDownstream, "1 to the same"),
    ] {
        run(async move {
            let net = MemoryNet::default();
            let http2 = upstream == UpstreamHttp::Http2 || (upstream == UpstreamHttp::UseDownstream && downstream);
            let log = serve(&net, ONE, http2, async |seen: &Seen| ok(&format!("{} bytes", seen.body.len())));
            let mut reviews = cluster("reviews", fixed(&[ONE]));
            settings(&mut reviews).http = upstream;
            let _proxy = Proxy::start(
                &net,
                "productpage",
                None,
                outbound(table("reviews", vec![route("/", to("reviews"))]), vec![reviews]),
            );
            let mut client = if downstream {
                Client::http2(&net, OUTBOUND, "10.1.0.1:9080").await
            } else {
                Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await
            };
            let mut request =
                Request::post("http://reviews:9080/a?b=c").body(Full::new(Bytes::from(vec![7; 100_000]))).unwrap();
            if !downstream {
                *request.uri_mut() = "/a?b=c".parse().unwrap();
                request.headers_mut().insert("host", HeaderValue::from_static("reviews:9080"));
            }
            for _ in 0..2 {
                let got = client.send(request.clone()).await;
                assert_eq!((got.status, got.body.as_str()), (200, "100000 bytes"), "{name}");
                assert_eq!(got.header("server"), "istio-envoy", "{name}");
                assert_eq!(got.header("x-envoy-upstream-service-time"), "0", "{name}");
            }
            let seen = log.borrow()[0].clone();
            assert_eq!(
                (seen.method.as_str(), seen.path.as_str(), seen.authority.as_str()),
                ("POST", "/a?b=c", "reviews:9080"),
                "{name}"
            );
            assert!(seen.headers.contains_key("x-request-id"), "{name}");
            assert_eq!(seen.headers["x-forwarded-proto"], "http", "{name}");
            assert_eq!(net.connected(at(ONE)), 1, "the connection is used again: {name}");
        });
    }
}

#[test]
fn weights_split_requests() {
    run(async {
        let net = MemoryNet::default();
        let (one, two) =
            (serve(&net, ONE, false, async |_: &Seen| ok("1")), serve(&net, TWO, false, async |_: &Seen| ok("2")));
        let split = RouteAction::Forward(Box::new(forward(&[("v1", 80), ("v2", 20)])));
        let config = outbound(
            table("*", vec![route("/", split)]),
            vec![cluster("v1", fixed(&[ONE])), cluster("v2", fixed(&[TWO]))],
        );
        let _proxy = Proxy::start(&net, "productpage", None, config);
        let mut client = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await;
        for _ in 0..1000 {
            assert_eq!(client.get("/").await.status, 200);
        }
        let share = one.borrow().len();
        assert_eq!(share + two.borrow().len(), 1000);
        assert!((750..850).contains(&share), "{share} of 1000 to 80 %");
    });
}

#[test]
fn a_path_and_headers_are_rewritten() {
    run(async {
        let net = MemoryNet::default();
        let log = serve(&net, ONE, false, async |_: &Seen| ok("x"));
        let mut rule = forward(&[("reviews", 1)]);
        rule.rewrite = Some(Box::new(PathRewrite::Prefix("/v2".into())));
        rule.host_rewrite = Some(Box::new(HostRewrite::Literal(HeaderValue::from_static("other"))));
        let mut rewriting = route("/api", RouteAction::Forward(Box::new(rule)));
        let set = |name: &'static str, value: &'static str| {
            let add = HeaderAdd {
                name: HeaderName::from_static(name),
                value: HeaderTemplate::Fixed(HeaderValue::from_static(value)),
                mode: AddMode::Overwrite,
                keep_empty: false,
            };
            HeaderChanges { add: [add].into(), ..HeaderChanges::default() }.into()
        };
        rewriting.request_headers = set("x-to", "server");
        rewriting.response_headers = set("x-back", "client");
        let config = outbound(table("*", vec![rewriting]), vec![cluster("reviews", fixed(&[ONE]))]);
        let _proxy = Proxy::start(&net, "productpage", None, config);
        let got = get(&net, "/api/../api/x?y=1").await;
        assert_eq!((got.status, got.header("x-back")), (200, "client"));
        let seen = &log.borrow()[0];
        assert_eq!((seen.path.as_str(), seen.authority.as_str()), ("/v2/x?y=1", "other"));
        assert_eq!(seen.headers["x-to"], "server");
        assert_eq!(seen.headers["x-envoy-original-path"], "/api/x?y=1");
    });
}

#[test]
fn answers_without_a_server() {
    run(async {
        let net = MemoryNet::default();
        let redirect = RouteAction::Redirect(Box::new(Redirect {
            status: 308,
            scheme: Some("https".into()),
            host: Some("new.example".into()),
            port: None,
            path: RedirectPath::Keep,
            strip_query: false,
        }));
        let direct = RouteAction::Direct(Box::new(DirectResponse { status: 418, body: "short and stout".into() }));
        let config = outbound(table("reviews", vec![route("/moved", redirect), route("/tea", direct)]), vec![]);
        let proxy = Proxy::start(&net, "productpage", None, config);
        let got = get(&net, "/moved?a=b").await;
        assert_eq!((got.status, got.header("location")), (308, "https://new.example/moved?a=b"));
        let got = get(&net, "/tea").await;
        assert_eq!((got.status, got.body.as_str()), (418, "short and stout"));
        let got = get(&net, "/nowhere").await;
        assert_eq!((got.status, got.body.as_str()), (404, ""));
        settle().await;
        assert!(proxy.requests().iter().any(|(labels, _)| labels.contains("response_flags=\"NR\"")));
    });
}

#[test]
fn faults_delay_and_abort() {
    run(async {
        let net = MemoryNet::default();
        let _log = serve(&net, ONE, false, async |_: &Seen| ok("x"));
        let mut slow = route("/slow", to("ratings"));
        let delay = DelayFault { duration: Duration::from_secs(7), share: Fraction::ALWAYS };
        slow.fault = Some(Fault { delay: Some(delay), ..Fault::default() }.into());
        let mut broken = route("/broken", to("ratings"));
        let abort = AbortFault { status: AbortStatus::Http(500), share: Fraction::ALWAYS };
        broken.fault = Some(Fault { abort: Some(abort), ..Fault::default() }.into());
        let mut ratings = cluster("ratings", fixed(&[ONE]));
        ratings.service = Some(service("ratings"));
        let proxy = Proxy::start(&net, "reviews", None, outbound(table("*", vec![slow, broken]), vec![ratings]));
        let start = Instant::now();
        assert_eq!(get(&net, "/slow").await.status, 200);
        assert_eq!(start.elapsed().as_secs(), 7);
        let got = get(&net, "/broken").await;
        assert_eq!((got.status, got.body.as_str()), (500, "fault filter abort"));
        settle().await;
        let flags: Vec<bool> = ["DI", "FI"]
            .iter()
            .map(|flag| {
                proxy.requests().iter().any(|(labels, count)| {
                    *count == 1
                        && labels.contains(&format!("response_flags=\"{flag}\""))
                        && labels.contains("destination_service=\"ratings.default.svc.cluster.local\"")
                })
            })
            .collect();
        assert_eq!(flags, [true, true]);
    });
}

#[test]
fn a_mirror_gets_a_copy_and_nobody_waits_for_it() {
    run(async {
        let net = MemoryNet::default();
        let _one = serve(&net, ONE, false, async |_: &Seen| ok("1"));
        let copies = serve(&net, TWO, false, async |_: &Seen| {
            tokio::time::sleep(Duration::from_mins(1)).await;
            ok("2")
        });
        let mut rule = forward(&[("v1", 1)]);
        rule.mirrors = [Mirror { cluster: "v2".into(), share: Fraction::ALWAYS, shadow_suffix: true }].into();
        let config = outbound(
            table("*", vec![route("/", RouteAction::Forward(Box::new(rule)))]),
            vec![cluster("v1", fixed(&[ONE])), cluster("v2", fixed(&[TWO]))],
        );
        let _proxy = Proxy::start(&net, "productpage", None, config);
        let start = Instant::now();
        let request = Request::post("/x").header("host", "reviews:9080").body(Full::new(Bytes::from("hello"))).unwrap();
        let got = Client::http1(&net, OUTBOUND, "10.1.0.1:9080").await.send(request).await;
        assert_eq!((got.body.as_str(), start.elapsed().as_secs()), ("1", 0));
        settle().await;
        let copy = copies.borrow()[0].clone();
        assert_eq!((copy.authority.as_str(), &copy.body[..]), ("reviews-shadow:9080", &b"hello"[..]));
    });
}

#[test]
fn a_mirror_that_never_answers_is_given_up() {
    run(async {
        let net = MemoryNet::default();
        let _one = serve(&net, ONE, false, async |_: &Seen| ok("1"));
        let _two = serve(&net, TWO, false, async |_: &Seen| std::future::pending().await);
        let mut rule = forward(&[("v1", 1)]);
        rule.mirrors = [Mirror { cluster: "v2".into(), share: Fraction::ALWAYS, shadow_suffix: true }].into();
        let config = outbound(
            table("*", vec![route("/", RouteAction::Forward(Box::new(rule)))]),
            vec![cluster("v1", fixed(&[ONE])), cluster("v2", fixed(&[TWO]))],
        );
        let proxy = Proxy::start(&net, "productpage", None, config);
        for _ in 0..3 {
            assert_eq!(get(&net, "/").await.status, 200);
        }
        settle().await;
        let copies = || proxy.worker.clusters.get("v2").unwrap().cells.cx_active.get();
        assert_eq!(copies(), 3);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(copies(), 0, "neither tasks nor connections pile up");
    });
}

#[test]
fn an_upgrade_becomes_bytes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    run(async {
        let net = MemoryNet::default();
        let mut backlog = net.listen(at(ONE));
        tokio::task::spawn_local(async move {
            let mut io = backlog.accept().await.unwrap().io;
            let mut head = vec![0; 4096];
            let read = io.read(&mut head).await.unwrap();
            let text = String::from_utf8_lossy(&head[..read]).to_lowercase();
            assert!(text.contains("upgrade: websocket") && text.contains("connection: upgrade"), "{text}");
            let answer =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nserver first";
            io.write_all(answer).await.unwrap();
            let mut echo = [0; 4];
            io.read_exact(&mut echo).await.unwrap();
            io.write_all(&echo).await.unwrap();
        });
        let config = outbound(table("*", vec![route("/", to("chat"))]), vec![cluster("chat", fixed(&[ONE]))]);
        let _proxy = Proxy::start(&net, "productpage", None, config);
        let mut io = net.redirect(at(OUTBOUND), at("10.0.0.9:1"), at("10.1.0.1:9080")).unwrap();
        io.write_all(b"GET /chat HTTP/1.1\r\nhost: chat\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        while !text.contains("server first") {
            let mut some = [0; 512];
            let read = io.read(&mut some).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&some[..read]));
        }
        assert!(text.starts_with("HTTP/1.1 101"), "{text}");
        io.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        io.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    });
}
