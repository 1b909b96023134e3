//! What peers may try that mean no good, or know no better.

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
