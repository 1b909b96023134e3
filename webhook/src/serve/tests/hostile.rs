//! Clients that are slow, wrong or hostile: each gets an answer where one is possible, and none keeps others from theirs.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::super::{CHECKED_WITHIN, check_beside, connection};
use super::{Endpoint, NAME, admission, ask, endpoint, endpoint_with, over};
use crate::body::{BUDGET, Budget, LARGEST};
use crate::places::Places;

/// Sends this on an HTTP/1.1 connection of its own and hears what is answered until the other end hangs up.
async fn say(endpoint: &Endpoint, bytes: &[u8]) -> String {
    let mut stream = endpoint.connect(b"http/1.1").await;
    stream.write_all(bytes).await.unwrap();
    let mut heard = Vec::new();
    // Without a farewell of TLS that is an error, after everything has been read.
    let _ = stream.read_to_end(&mut heard).await;
    String::from_utf8(heard).unwrap()
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: {NAME}\r\n{headers}\r\n{body}")
}

/// What a connection said: the statuses of its answers.
fn statuses(heard: &str) -> Vec<&str> {
    heard.match_indices("HTTP/1.").filter_map(|(at, _)| heard.get(at..)?.split(' ').nth(1)).collect()
}

/// The last answer's review.
fn reviewed(heard: &str) -> Value {
    let body = heard.rsplit("\r\n\r\n").next().unwrap_or_default();
    serde_json::from_str(body).unwrap_or(Value::Null)
}

/// The endpoint is as at its beginning: it answers, and nothing of it is still taken.
async fn is_well(endpoint: &Endpoint) {
    let (status, answer) = endpoint.post("/inject", ask().to_string().as_bytes()).await;
    assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(true)), "{answer}");
    let mut requests = endpoint.shared.busy.requests();
    requests.wait_for(|requests| *requests == 0).await.unwrap();
    assert!(endpoint.shared.budget.is_whole(BUDGET));
}

#[tokio::test]
async fn what_http_1_allows_is_answered_and_what_it_does_not_has_a_status() {
    let endpoint = endpoint().await;
    let review = ask().to_string();
    let length = format!("content-length: {}\r\n", review.len());
    let close = "connection: close\r\n";
    let chunked = format!("{:x}\r\n{review}\r\n0\r\n\r\n", review.len());
    let one = |headers: &str| post("/inject", &format!("{length}{close}{headers}"), &review);
    let rows: [(&str, String, &[&str]); 12] = [
        ("nothing said of the content", one(""), &["200"]),
        ("said to be YAML", one("content-type: application/yaml\r\n"), &["200"]),
        ("an old client", one("").replace("HTTP/1.1", "HTTP/1.0"), &["200"]),
        ("who waits to be asked for the body", one("expect: 100-continue\r\n"), &["100", "200"]),
        ("in chunks", post("/inject", &format!("transfer-encoding: chunked\r\n{close}"), &chunked), &["200"]),
        ("two at once", format!("{}{}", post("/inject", &length, &review), one("")), &["200", "200"]),
        ("a slash more", one("").replace("/inject", "/inject/"), &["200"]),
        ("chunks of no size", post("/inject", "transfer-encoding: chunked\r\n", "x\r\n{}\r\n"), &["200"]),
        ("two lengths", post("/inject", "content-length: 1\r\ncontent-length: 2\r\n", "{}"), &["400"]),
        ("no HTTP", "hello\r\n\r\n".to_owned(), &["400"]),
        ("a head without end", post("/inject", &"a: b\r\n".repeat(20_000), ""), &["431"]),
        ("a path without end", post(&format!("/{}", "a".repeat(100_000)), "", ""), &["431"]),
    ];
    for (name, request, expected) in rows {
        let heard = say(&endpoint, request.as_bytes()).await;
        assert_eq!(statuses(&heard), expected, "{name}: {heard}");
        if expected.last() == Some(&"200") {
            let allowed = reviewed(&heard)["response"]["allowed"].clone();
            assert_eq!(allowed, json!(name != "chunks of no size"), "{name}: {heard}");
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "MADE-UP"] {
        for (path, status) in [("/inject", "405"), ("/inject/net/n", "405"), ("/validate", "405"), ("/", "404")] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: {NAME}\r\n{close}\r\n");
            let heard = say(&endpoint, request.as_bytes()).await;
            assert_eq!(statuses(&heard), [status], "{method} {path}: {heard}");
            assert!(status == "404" || heard.contains("allow: POST\r\n"), "{method} {path}: {heard}");
            assert!(method == "HEAD" || heard.ends_with("/inject and /validate\n"), "{method} {path}: {heard}");
        }
    }
    is_well(&endpoint).await;
}

#[tokio::test]
async fn a_body_that_is_not_as_it_should_be_is_refused_by_an_admission_answer() {
    let endpoint = endpoint().await;
    let review = ask().to_string();
    let close = "connection: close\r\n";
    let coded = |coding: &str| {
        post("/inject", &format!("content-length: {}\r\n{close}content-encoding: {coding}\r\n", review.len()), &review)
    };
    let half = &review[..review.len() / 2];
    let rows = [
        ("zipped", coded("gzip"), false, 415, "encoded as \"gzip\"; it has to be sent as it is"),
        (
            "shorter than it says",
            post("/inject", &format!("content-length: {}\r\n", review.len()), half),
            true,
            400,
            "did not arrive whole",
        ),
        (
            "chunks without an end",
            post("/inject", "transfer-encoding: chunked\r\n", &format!("{:x}\r\n{half}", review.len())),
            true,
            400,
            "did not arrive whole",
        ),
    ];
    for (name, request, hangs_up, code, message) in rows {
        let mut stream = endpoint.connect(b"http/1.1").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        if hangs_up {
            stream.shutdown().await.unwrap();
        }
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        let answer = reviewed(&String::from_utf8(heard).unwrap());
        let response = &answer["response"];
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(code)),
            "{name}: {answer}"
        );
        assert!(response["status"]["message"].as_str().unwrap().contains(message), "{name}: {answer}");
        assert!(name == "zipped" || response["uid"] == "u1", "{name}: {answer}");
    }
    let heard = say(&endpoint, coded("identity").as_bytes()).await;
    assert_eq!(reviewed(&heard)["response"]["allowed"], true, "{heard}");
    is_well(&endpoint).await;
}

#[tokio::test]
async fn the_largest_body_is_read_and_one_byte_more_is_not() {
    let endpoint = endpoint().await;
    for (size, allowed) in [(LARGEST, true), (LARGEST + 1, false)] {
        let mut body = ask().to_string().into_bytes();
        body.resize(size, b' ');
        let (status, answer) = endpoint.post("/inject", &body).await;
        let response = &answer["response"];
        assert_eq!((status, &response["allowed"], &response["uid"]), (200, &json!(allowed), &json!("u1")), "{size}");
        assert!(allowed || response["status"]["code"] == 413, "{answer}");
    }
    is_well(&endpoint).await;
}

/// What is heard on a connection, and after how many seconds by tokio's clock, which stands still.
async fn slowly<F: Future<Output = ()>>(
    send: impl FnOnce(tokio::io::WriteHalf<tokio::io::DuplexStream>) -> F,
) -> (u64, Value) {
    let shared = endpoint().await.shared;
    let begun = tokio::time::Instant::now();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (mut hear, write) = tokio::io::split(theirs);
    let (_end, end) = tokio::sync::watch::channel(false);
    let client = async {
        let mut heard = Vec::new();
        let answered = async {
            let _ = hear.read_to_end(&mut heard).await;
        };
        tokio::join!(answered, send(write));
        (begun.elapsed().as_secs(), reviewed(&String::from_utf8(heard).unwrap()))
    };
    let places = Places::new(1);
    let (_, heard) = tokio::join!(connection(ours, admission(shared), &places, end), client);
    heard
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_its_time_is_answered_before_the_api_server_gives_up() {
    let review = ask().to_string();
    let begin = post("/inject", &format!("content-length: {}\r\n", review.len() + 100), &review);
    let silent = async |mut stream: tokio::io::WriteHalf<_>| {
        stream.write_all(begin.as_bytes()).await.unwrap();
        std::mem::forget(stream);
    };
    let drop_by_drop = async |mut stream: tokio::io::WriteHalf<_>| {
        stream.write_all(begin.as_bytes()).await.unwrap();
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    for (name, (seconds, answer)) in [("silent", slowly(silent).await), ("a byte a second", slowly(drop_by_drop).await)]
    {
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["status"]["code"]), (&json!("u1"), &json!(408)), "{name}: {answer}");
        assert!((8..10).contains(&seconds), "{name}: {seconds} s");
    }
}

#[tokio::test]
async fn versions_of_tls_and_protocols_above_it() {
    let endpoint = endpoint().await;
    let handshake = async |versions: &[&'static rustls::SupportedProtocolVersion], protocols: &[&[u8]]| {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(endpoint.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", endpoint.port)).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        /// What a client names, and what is agreed on, if anything is.
        type Row<'a> = (&'a str, &'a [&'a [u8]], Option<Option<&'a [u8]>>);
        let rows: [Row<'_>; 4] = [
            ("both", &[b"h2", b"http/1.1"], Some(Some(b"h2"))),
            ("the old one", &[b"http/1.1"], Some(Some(b"http/1.1"))),
            ("none named", &[], Some(None)),
            ("only unknown ones", &[b"spdy/3"], None),
        ];
        for (name, protocols, expected) in rows {
            let agreed = handshake(&[version], protocols).await;
            assert_eq!(agreed.as_ref().ok().map(Option::as_deref), expected, "{name}, {version:?}: {agreed:?}");
        }
    }

    // TLS 1.1, as no library here speaks it any more: a ClientHello of version 3.2 with one suite and no extensions.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    for (name, said) in [("TLS 1.1", hello.as_slice()), ("plaintext", b"GET / HTTP/1.1\r\n\r\n")] {
        let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port)).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        // An alert, a fatal one.
        assert_eq!((heard.first(), heard.get(5)), (Some(&0x15), Some(&2)), "{name}: {heard:?}");
    }
    is_well(&endpoint).await;
}

#[tokio::test]
async fn connections_without_requests_make_room_for_those_with() {
    let endpoint = endpoint_with(Places::new(8)).await;
    let mut idle = Vec::new();
    let mut silent = Vec::new();
    for round in 0..20 {
        idle.push(endpoint.connect(if round % 2 == 0 { b"h2" } else { b"http/1.1" }).await);
        silent.push(TcpStream::connect(("127.0.0.1", endpoint.port)).await.unwrap());
        is_well(&endpoint).await;
    }

    // One that was used once gets a farewell, and the next request of its client goes over a new one.
    let mut used = endpoint.http2().await;
    assert_eq!(over(used.clone(), "/inject", ask()).await.0, 200);
    for _ in 0..20 {
        silent.push(TcpStream::connect(("127.0.0.1", endpoint.port)).await.unwrap());
    }
    while used.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    is_well(&endpoint).await;
}

#[tokio::test]
async fn a_request_under_way_keeps_its_place() {
    let endpoint = endpoint_with(Places::new(2)).await;
    let review = ask().to_string();
    let (first, second) = review.split_at(review.len() / 2);
    let mut slow = endpoint.connect(b"http/1.1").await;
    let head = format!("content-length: {}\r\nconnection: close\r\n", review.len());
    slow.write_all(post("/inject", &head, first).as_bytes()).await.unwrap();
    while endpoint.shared.budget.is_whole(BUDGET) {
        tokio::task::yield_now().await;
    }
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(endpoint.connect(b"h2").await);
    }
    slow.write_all(second.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let _ = slow.read_to_end(&mut heard).await;
    assert_eq!(reviewed(&String::from_utf8(heard).unwrap())["response"]["allowed"], true);
}

#[tokio::test]
async fn streams_that_are_given_up_leave_nothing_behind() {
    let endpoint = endpoint().await;
    let sender = endpoint.http2().await;
    let answers: Vec<_> = (0..200).map(|_| tokio::spawn(over(sender.clone(), "/inject", ask()))).collect();
    for (number, answer) in answers.into_iter().enumerate() {
        if number % 2 == 0 {
            answer.abort();
        } else {
            assert_eq!(answer.await.unwrap().0, 200);
        }
    }
    // A client that is gone with answers under way.
    let leaving = endpoint.http2().await;
    let answers: Vec<_> = (0..50).map(|_| tokio::spawn(over(leaving.clone(), "/inject", ask()))).collect();
    drop(leaving);
    answers.iter().for_each(tokio::task::JoinHandle::abort);
    is_well(&endpoint).await;
}

/// CVE-2023-44487.
#[tokio::test]
async fn streams_that_are_begun_only_to_be_reset_end_their_connection_and_no_other() {
    let endpoint = endpoint().await;
    let other = endpoint.http2().await;
    let stream = endpoint.connect(b"h2").await;
    let (mut attacker, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for round in 0..100_000 {
        let Ok(mut ready) = attacker.ready().await else { break };
        let request = http::Request::post(format!("https://{NAME}/inject")).body(()).unwrap();
        let Ok((_, mut body)) = ready.send_request(request, false) else { break };
        body.send_reset(h2::Reason::CANCEL);
        attacker = ready;
        if round % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // By a farewell or, where the attacker does not listen, without.
    assert!(connection.await.unwrap().is_err());
    assert_eq!(over(other, "/inject", ask()).await.0, 200);
    is_well(&endpoint).await;
}

/// CVE-2024-27316 and its like: the head of a request that never ends.
#[tokio::test]
async fn headers_without_end_end_their_connection() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const CONTINUATION: u8 = 9;
    let frame = |kind: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, stream], payload].concat()
    };
    // A literal header that is not to be indexed, `a: aaa...`.
    let field = [&[0x10, 1, b'a', 0x7e][..], &[b'a'; 0x7e]].concat();
    for (name, payload) in [("of what counts", field.repeat(32)), ("of nothing", Vec::new())] {
        let endpoint = endpoint().await;
        let mut stream = endpoint.connect(b"h2").await;
        let begin =
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, &[]), frame(HEADERS, 1, &payload)];
        stream.write_all(&begin.concat()).await.unwrap();
        let more = frame(CONTINUATION, 1, &payload).repeat(16);
        let (mut hear, mut write) = tokio::io::split(stream);
        let flood = async {
            let mut sent = 0_usize;
            while write.write_all(&more).await.is_ok() {
                sent += more.len();
                assert!(sent < 64 << 20, "{name}: nobody minds");
            }
        };
        let mut heard = Vec::new();
        let ended = async {
            let _ = hear.read_to_end(&mut heard).await;
        };
        tokio::select! {
            () = flood => {}
            () = ended => {}
        }
        is_well(&endpoint).await;
    }
}

#[tokio::test]
async fn a_head_of_http_2_that_is_too_large_has_a_status() {
    let endpoint = endpoint().await;
    let mut sender = endpoint.http2().await;
    let large = |size: usize| {
        let request = http::Request::post(format!("https://{NAME}/inject")).header("a", "a".repeat(size));
        request.body(http_body_util::Full::from(Bytes::new())).unwrap()
    };
    assert_eq!(sender.send_request(large(20 << 10)).await.unwrap().status(), 431);
    assert_eq!(over(sender.clone(), "/inject", ask()).await.0, 200, "the connection goes on");
    // One that could not even be read to its end has no answer: headers of later requests depend on it.
    assert!(sender.send_request(large(1 << 20)).await.is_err());
    is_well(&endpoint).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_takes_too_long_is_answered_and_holds_up_nobody_else() {
    let checks = Arc::new(Semaphore::new(2));
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let whole = async || crate::body::read(Request::new(Body::from(ask().to_string())), &Budget::new(BUDGET)).await;
    let endless = check_beside(whole().await.unwrap(), &checks, move |_| stopped.recv().is_ok());
    // The clock does not run by itself while a thread works.
    let (answer, ()) = tokio::join!(endless, tokio::time::advance(CHECKED_WITHIN));
    let answer = answer.unwrap_err();
    assert_eq!((answer.uid(), answer.code()), ("u1", Some(503)));
    // It still has its place; another is free.
    assert_eq!(check_beside(whole().await.unwrap(), &checks, <[u8]>::len).await, Ok(ask().to_string().len()));
    assert_eq!(checks.available_permits(), 1);
    drop(stop);
    assert_eq!(check_beside(whole().await.unwrap(), &checks, |_| ()).await, Ok(()));
    let _both = checks.acquire_many(2).await.unwrap();
}
