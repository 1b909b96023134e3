//! What peers may try that mean no good, or know no better.

use std::time::Duration;

use engine::ir::cluster::UpstreamHttp;
use engine::ir::route::RouteAction;

use super::failures::default_retries;
use super::world::*;
use crate::net::MemoryNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: &str = "10.0.1.1:9080";
const GATEWAY: &str = "10.0.0.1:8080";

/// Writes `request` as it is to `listener`, and reads until the proxy closes.
async fn raw(net: &MemoryNet, listener: &str, request: &str) -> String {
    let mut io = net.redirect(at(listener), at("8.8.8.8:1234"), at("10.1.0.1:9080")).unwrap();
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_client_cannot_have_us_take_away_what_we_say_of_it() {
    run(async {
        let net = MemoryNet::default();
        let log = serve(&net, SERVER, false, async |_: &Seen| ok("x"));
        let _proxy = Proxy::start(&net, "gateway", None, gateway(GATEWAY, SERVER));
        let request = "GET / HTTP/1.1\r\nhost: x\r\nx-mine: 1\r\n\
                       connection: close, x-mine, x-forwarded-for, x-forwarded-proto, x-request-id\r\n\r\n";
        let answer = raw(&net, GATEWAY, request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let seen = &log.borrow()[0];
        assert!(!seen.headers.contains_key("x-mine"), "what a client names is of this hop only");
        assert_eq!(seen.headers["x-forwarded-for"], "8.8.8.8");
        assert_eq!(seen.headers["x-forwarded-proto"], "http");
        assert!(seen.headers.contains_key("x-request-id"));
    });
}

#[test]
fn a_body_keeps_its_length_whatever_is_claimed_of_it() {
    for (name, upstream, retries) in [
        ("as it comes", UpstreamHttp::Http1, false),
        ("kept for a retry", UpstreamHttp::Http1, true),
        ("to HTTP/2", UpstreamHttp::Http2, false),
        ("kept, to HTTP/2", UpstreamHttp::Http2, true),
    ] {
        run(async move {
            let net = MemoryNet::default();
            let log = serve(&net, SERVER, upstream == UpstreamHttp::Http2, async |_: &Seen| ok("x"));
            let mut rule = forward(&[("search", 1)]);
            rule.retry = retries.then(default_retries);
            let mut search = cluster("search", fixed(&[SERVER]));
            settings(&mut search).http = upstream;
            let config = outbound(table("*", vec![route("/", RouteAction::Forward(Box::new(rule)))]), vec![search]);
            let _proxy = Proxy::start(&net, "shop", None, config);
            for (method, framing, body, length) in [
                ("GET", "transfer-encoding: chunked", "4\r\nbody\r\n0\r\n\r\n", None),
                ("POST", "transfer-encoding: chunked", "4\r\nbody\r\n0\r\n\r\n", None),
                ("POST", "content-length: 4\r\nconnection: content-length", "body", Some("4")),
                ("POST", "content-length: 0", "", Some("0")),
                ("GET", "x: y", "", None),
            ] {
                let request = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{framing}\r\n\r\n{body}");
                let answer = raw(&net, OUTBOUND, &request).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {request:?}: {answer}");
                let seen = log.borrow_mut().pop().unwrap();
                let expected = if body.is_empty() { "" } else { "body" };
                assert_eq!(&seen.body[..], expected.as_bytes(), "{name}: {request:?}");
                let said = seen.headers.get("content-length").map(|length| length.to_str().unwrap());
                assert_eq!(said, length, "{name}: {request:?}");
            }
        });
    }
}

#[test]
fn a_server_that_says_two_lengths_is_believed_about_the_body_only() {
    run(async {
        let net = MemoryNet::default();
        let mut backlog = net.listen(at(SERVER));
        tokio::task::spawn_local(async move {
            let mut io = backlog.accept().await.unwrap().io;
            let mut head = [0; 4096];
            let _ = io.read(&mut head).await.unwrap();
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
            io.write_all(answer).await.unwrap();
        });
        let _proxy = Proxy::start(&net, "gateway", None, gateway(GATEWAY, SERVER));
        let answer = raw(&net, GATEWAY, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.contains("whole") && !answer.contains("content-length"), "{answer}");
    });
}

#[test]
fn a_client_that_says_nothing_more_is_let_go() {
    run(async {
        let net = MemoryNet::default();
        let _log = serve(&net, SERVER, false, async |_: &Seen| ok("x"));
        let proxy = Proxy::start(&net, "gateway", None, gateway(GATEWAY, SERVER));
        let mut http1 = Client::http1(&net, GATEWAY, GATEWAY).await;
        let mut http2 = Client::http2(&net, GATEWAY, GATEWAY).await;
        for _ in 0..3 {
            assert_eq!((http1.get("/").await.status, http2.get("/").await.status), (200, 200));
            tokio::time::sleep(Duration::from_mins(50)).await;
        }
        assert_eq!(proxy.worker.live.count(), 2, "not idle for an hour");
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(proxy.worker.live.count(), 0);
    });
}

#[test]
fn a_server_that_switches_protocols_unasked_is_not_followed() {
    run(async {
        let net = MemoryNet::default();
        let mut backlog = net.listen(at(SERVER));
        tokio::task::spawn_local(async move {
            let mut io = backlog.accept().await.unwrap().io;
            let mut head = [0; 4096];
            let _ = io.read(&mut head).await.unwrap();
            io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
                .await
                .unwrap();
            let _ = io.read(&mut head).await;
        });
        let _proxy = Proxy::start(&net, "gateway", None, gateway(GATEWAY, SERVER));
        let answer = raw(&net, GATEWAY, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    });
}
