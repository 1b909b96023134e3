//! What the proxies lead to: a server with one fixed answer, as cheap as it gets, in this process.
//!
//! The answer says which service it is of (by the address that was connected to) and whether the proxy added its header,
//! so that a peer which skips a part of the work is found out.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, Result};

use crate::network::NEXT;

/// The port of every endpoint.
pub(crate) const PORT: u16 = 9000;
/// The size of an answer's body.
const BODY: usize = 1024;
/// No request of ours has a longer head.
const HEAD: usize = 16 * 1024;

/// Serves in threads, one a connection, until the process ends.
pub(crate) fn start() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).with_context(|| format!("listening on port {PORT}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream)); // a proxy that hangs up ends it
        }
    });
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?.ip().to_string();
    let service = if NEXT.contains(&local.as_str()) { "next" } else { "stable" };
    let answers = [answer(service, false), answer(service, true)];
    let mut head = Vec::with_capacity(HEAD);
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 || head.len() > HEAD {
            return Ok(());
        }
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        // No proxy pipelines, and no request has a body: a head's end is the request's.
        if head.ends_with(b"\r\n\r\n") {
            let [plain, marked] = &answers;
            stream.write_all(if is_marked(&head) { marked } else { plain })?;
            head.clear();
        }
    }
}

/// Whether a request has the header that the proxy is to add.
fn is_marked(head: &[u8]) -> bool {
    head.windows(10).any(|window| window.eq_ignore_ascii_case(b"\r\nx-bench:"))
}

fn answer(service: &str, marked: bool) -> Vec<u8> {
    let body = "x".repeat(BODY);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\nx-service: {service}\r\n\
         x-marked: {marked}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{answer, is_marked};

    #[test]
    fn the_proxys_header_is_seen_whatever_its_case() {
        assert!(is_marked(b"GET / HTTP/1.1\r\nX-Bench: 1\r\n\r\n"));
        assert!(!is_marked(b"GET /x-bench: HTTP/1.1\r\nhost: a\r\n\r\n"));
    }

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let answer = String::from_utf8(answer("next", true)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 1024\r\nx-service: next\r\nx-marked: true"), "{head}");
        assert_eq!(body.len(), 1024);
    }
}
