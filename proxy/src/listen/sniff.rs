//! What a connection speaks, by its first bytes.
//!
//! What comes in: the bytes read so far. What goes out: the protocol, or that more bytes are needed. Pure; the loop that
//! reads is [`sniff`].

use std::io;
use std::time::Duration;

use crate::net::Io;

/// What the first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A TLS ClientHello.
    Tls(ClientHello),
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/1.1, or a request line that is not finished yet.
    Http11,
    /// HTTP/1.0.
    Http10,
    /// Anything else: bytes.
    Tcp,
    /// The client said nothing in the time it had; perhaps the server speaks first.
    Silent,
    /// The client closed without a word.
    Closed,
}

/// What matters of a ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name, in lower case.
    pub sni: Option<String>,
    /// The application protocols, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// A step of [`decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// Decided.
    Is(Sniffed),
}

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest ClientHello that is read ahead; rustls itself refuses more than 64 KB.
const LONGEST_HELLO: usize = 64 * 1024;
/// The longest request line that is looked at to tell HTTP/1.0 from HTTP/1.1.
const LONGEST_LINE: usize = 8 * 1024;
const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH "];

/// Reads ahead until the protocol is known. A client that stays silent for `patience` is [`Sniffed::Silent`]; one that
/// started to speak has the same time again to say enough, and is bytes after that. `None` waits for ever.
pub async fn sniff(io: &mut Io, patience: Option<Duration>) -> io::Result<Sniffed> {
    loop {
        if let Step::Is(sniffed) = decide(io.ahead()) {
            return Ok(sniffed);
        }
        let started = !io.ahead().is_empty();
        let read = match patience {
            None => io.read_ahead().await?,
            Some(patience) => match tokio::time::timeout(patience, io.read_ahead()).await {
                Ok(read) => read?,
                Err(_) => return Ok(if started { Sniffed::Tcp } else { Sniffed::Silent }),
            },
        };
        if read == 0 {
            return Ok(if started { Sniffed::Tcp } else { Sniffed::Closed });
        }
    }
}

/// Decides by the bytes read so far.
pub fn decide(bytes: &[u8]) -> Step {
    match bytes.first() {
        None => Step::More,
        Some(0x16) => decide_tls(bytes),
        Some(_) => decide_http(bytes),
    }
}

fn decide_http(bytes: &[u8]) -> Step {
    if bytes.starts_with(PREFACE) {
        return Step::Is(Sniffed::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Step::More;
    }
    if let Some(method) = METHODS.iter().find(|method| bytes.starts_with(method)) {
        let rest = bytes.get(method.len()..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            // A request line that goes on for long is left to the codec and its limits.
            return if bytes.len() < LONGEST_LINE { Step::More } else { Step::Is(Sniffed::Http11) };
        };
        let line = rest.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        return Step::Is(match line {
            _ if line.ends_with(b" HTTP/1.1") => Sniffed::Http11,
            _ if line.ends_with(b" HTTP/1.0") => Sniffed::Http10,
            _ => Sniffed::Tcp,
        });
    }
    let may_become = METHODS.iter().any(|method| method.starts_with(bytes));
    if may_become { Step::More } else { Step::Is(Sniffed::Tcp) }
}

/// A TLS handshake may be cut into records anywhere, and a record into segments.
fn decide_tls(bytes: &[u8]) -> Step {
    let more = if bytes.len() < LONGEST_HELLO { Step::More } else { Step::Is(Sniffed::Tcp) };
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        // A record: type (1), version (2), length (2), then its content.
        let Some((header, after)) = rest.split_at_checked(5) else {
            let plausible = [Some(&0x16), Some(&0x03)];
            let fits = rest.iter().zip(plausible).all(|(byte, expected)| Some(byte) == expected);
            return if fits { more } else { Step::Is(Sniffed::Tcp) };
        };
        let [kind, major, _, high, low] = *header else { return Step::Is(Sniffed::Tcp) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != 0x16 || major != 0x03 || length == 0 || length > 16 * 1024 {
            return Step::Is(Sniffed::Tcp);
        }
        let content = after.get(..length).unwrap_or(after);
        message.extend_from_slice(content);
        // A handshake message: type (1), length (3), then its body; 1 is a ClientHello.
        if message.first().is_some_and(|kind| *kind != 0x01) {
            return Step::Is(Sniffed::Tcp);
        }
        if let Some([_, a, b, c]) = message.first_chunk::<4>() {
            let wanted = 4 + usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
            if wanted > LONGEST_HELLO {
                return Step::Is(Sniffed::Tcp);
            }
            if let Some(body) = message.get(4..wanted) {
                return Step::Is(read_hello(body).map_or(Sniffed::Tcp, Sniffed::Tls));
            }
        }
        if after.len() < length {
            return more;
        }
        rest = after.get(length..).unwrap_or_default();
    }
}

/// A reader over the length-prefixed vectors of TLS.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1)?.first().map(|byte| usize::from(*byte))
    }

    fn u16(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes(self.take(2)?.try_into().ok()?)))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length)
    }
}

/// Reads the body of a ClientHello (RFC 8446, section 4.1.2); `None` if it is not well-formed.
fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?; // legacy_version, random
    reader.vector8()?; // legacy_session_id
    reader.vector16()?; // cipher_suites
    reader.vector8()?; // legacy_compression_methods
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello); // TLS 1.2 without extensions
    }
    let mut extensions = Reader(reader.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut content = Reader(extensions.vector16()?);
        match kind {
            0 => {
                let mut names = Reader(content.vector16()?);
                while !names.0.is_empty() {
                    let (kind, name) = (names.u8()?, names.vector16()?);
                    if kind == 0 {
                        hello.sni = std::str::from_utf8(name).ok().map(str::to_ascii_lowercase);
                    }
                }
            }
            16 => {
                let mut protocols = Reader(content.vector16()?);
                while !protocols.0.is_empty() {
                    hello.alpn.push(protocols.vector8()?.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

#[cfg(test)]
mod tests {
    use super::{ClientHello, PREFACE, Sniffed, Step, decide};

    /// A ClientHello as rustls writes it.
    fn hello(sni: &str, alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = crate::tls::tests::anonymous_client();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = rustls_pki_types::ServerName::try_from(sni.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn first_bytes_decide() {
        let rows: [(&str, &[u8], Step); 14] = [
            ("nothing", b"", Step::More),
            ("part of a method", b"PO", Step::More),
            ("part of a method or of the preface", b"P", Step::More),
            ("part of the preface", b"PRI * HT", Step::More),
            ("the preface", PREFACE, Step::Is(Sniffed::Http2)),
            ("a request line that goes on", b"GET /x", Step::More),
            ("HTTP/1.1", b"GET / HTTP/1.1\r\n", Step::Is(Sniffed::Http11)),
            ("HTTP/1.0", b"GET / HTTP/1.0\r\n", Step::Is(Sniffed::Http10)),
            ("bare line feed", b"DELETE / HTTP/1.1\n", Step::Is(Sniffed::Http11)),
            ("not HTTP after all", b"GET me out\r\n", Step::Is(Sniffed::Tcp)),
            ("redis", b"*1\r\n$4\r\nPING\r\n", Step::Is(Sniffed::Tcp)),
            ("a record of another version", &[0x16, 0x09, 0x01], Step::Is(Sniffed::Tcp)),
            ("a TLS alert", &[0x15, 0x03, 0x03, 0, 2, 2, 40], Step::Is(Sniffed::Tcp)),
            ("a ServerHello", &[0x16, 0x03, 0x03, 0, 4, 2, 0, 0, 0], Step::Is(Sniffed::Tcp)),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(decide(bytes), expected, "{name}");
        }
    }

    #[test]
    fn a_client_hello_is_read_wherever_it_is_cut() {
        let bytes = hello("Reviews.default.svc", &[b"istio-http/1.1", b"istio"]);
        let expected = Step::Is(Sniffed::Tls(ClientHello {
            sni: Some("reviews.default.svc".to_owned()),
            alpn: vec![b"istio-http/1.1".to_vec(), b"istio".to_vec()],
        }));
        for end in 0..bytes.len() {
            assert_eq!(decide(&bytes[..end]), Step::More, "{end} of {} bytes", bytes.len());
        }
        assert_eq!(decide(&bytes), expected);
        // The same message cut into records of 100 bytes.
        let records: Vec<u8> = bytes[5..]
            .chunks(100)
            .flat_map(|chunk| {
                let mut record = vec![0x16, 0x03, 0x01, 0, u8::try_from(chunk.len()).unwrap()];
                record.extend_from_slice(chunk);
                record
            })
            .collect();
        assert_eq!(decide(&records), expected);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let bytes = hello("a.b", &[b"h2"]);
        for position in 0..bytes.len() {
            for value in [0x00, 0x01, 0x7f, 0xff] {
                let mut broken = bytes.clone();
                broken[position] = value;
                let _ = decide(&broken);
            }
        }
    }
}
