//! The headers that say who asked: `x-forwarded-*`, `x-request-id`, `x-forwarded-client-cert`, as Envoy sets them.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use engine::ir::listener::{ClientCertDetails, ForwardClientCert, HttpChain};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::tls::verify::Leaf;

/// `x-forwarded-for`
pub const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`
pub const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `x-forwarded-client-cert`
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// `x-request-id`
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// The length of an IPv6 address with an IPv4 address in it and a zone is less.
const LONGEST_ADDRESS: usize = 64;
/// The length of a UUID's text.
const UUID: usize = 36;

/// Headers that only a trusted client may steer us by.
const STEERING: [&str; 12] = [
    "x-envoy-retry-on",
    "x-envoy-max-retries",
    "x-envoy-retry-grpc-on",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-decorator-operation",
    "x-envoy-ip-tags",
];

/// The client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is encrypted.
    pub tls: bool,
    /// Who it is, by certificate.
    pub peer: Option<&'a Leaf>,
    /// Who we are to it, by certificate.
    pub own: Option<&'a str>,
}

/// Sets the headers of a request; says which address is the client's, and which scheme the request came with.
pub fn set(
    headers: &mut HeaderMap,
    chain: &HttpChain,
    client: Client<'_>,
    id: impl FnOnce() -> u128,
) -> (IpAddr, bool) {
    let address = client.address.ip();
    let trusted = trusted_address(headers, chain, address);
    let mut edge = false;
    if chain.use_remote_address {
        let internal = trusted.is_internal();
        edge = !internal;
        if !chain.skip_xff_append {
            append_address(headers, address);
        }
        // What a client says of its scheme counts only behind trusted proxies.
        if chain.xff_num_trusted_hops == 0 || !headers.contains_key(PROTO) {
            headers.insert(PROTO, HeaderValue::from_static(if client.tls { "https" } else { "http" }));
        }
        if internal {
            headers.insert(INTERNAL, HeaderValue::from_static("true"));
        } else {
            headers.remove(INTERNAL);
            for name in STEERING {
                headers.remove(name);
            }
            if let Ok(value) = HeaderValue::from_str(&trusted.to_string()) {
                headers.insert(EXTERNAL_ADDRESS, value);
            }
        }
    } else if !headers.contains_key(PROTO) {
        headers.insert(PROTO, HeaderValue::from_static(if client.tls { "https" } else { "http" }));
    }
    if edge && !chain.preserve_external_request_id {
        headers.remove(REQUEST_ID);
    }
    if chain.generate_request_id && !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id(id()));
    }
    client_cert(headers, chain.forward_client_cert, client);
    let https = headers.get(PROTO).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"));
    (trusted, https)
}

/// The client's address: what the last trusted proxy wrote, or who is connected.
fn trusted_address(headers: &HeaderMap, chain: &HttpChain, address: IpAddr) -> IpAddr {
    let hops = usize::try_from(chain.xff_num_trusted_hops).unwrap_or(0);
    let back = match (chain.use_remote_address, hops) {
        (true, 0) => return address,
        (true, hops) => hops - 1,
        (false, hops) => hops,
    };
    let sent: Vec<&str> = headers
        .get_all(FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    sent.iter().rev().nth(back).and_then(|text| text.parse().ok()).unwrap_or(address)
}

trait Internal {
    fn is_internal(&self) -> bool;
}

impl Internal for IpAddr {
    /// RFC 1918, loopback and unique local addresses: what Envoy calls internal.
    fn is_internal(&self) -> bool {
        match self.to_canonical() {
            IpAddr::V4(address) => address.is_private() || address.is_loopback(),
            IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
        }
    }
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    let earlier: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let value = if earlier.is_empty() {
        HeaderValue::from_str(value)
    } else {
        HeaderValue::from_str(&format!("{},{value}", earlier.join(",")))
    };
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

/// Every request gets an address and an id: their text is made on the stack, so that the header's value is all that is
/// allocated.
fn append_address(headers: &mut HeaderMap, address: IpAddr) {
    let mut buffer = [0; LONGEST_ADDRESS];
    if let Some(text) = on_stack(&mut buffer, format_args!("{address}")) {
        append(headers, &FOR, text);
    }
}

/// A random UUID, version 4. The 14th digit is what Envoy's tracing reads the sampling decision from: 4 is none.
fn request_id(random: u128) -> HeaderValue {
    let bits = (random & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let [high, low] = [bits >> 64, bits & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or_default());
    let mut buffer = [0; UUID];
    on_stack(
        &mut buffer,
        format_args!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        ),
    )
    .and_then(|text| HeaderValue::from_str(text).ok())
    .unwrap_or_else(|| HeaderValue::from_static("0"))
}

/// Writes a text into a buffer; `None` if it does not fit.
fn on_stack<'a>(buffer: &'a mut [u8], text: fmt::Arguments<'_>) -> Option<&'a str> {
    let room = buffer.len();
    let mut rest = &mut *buffer;
    rest.write_fmt(text).ok()?;
    let length = room - rest.len();
    str::from_utf8(buffer.get(..length)?).ok()
}

fn client_cert(headers: &mut HeaderMap, rule: ForwardClientCert, client: Client<'_>) {
    match rule {
        ForwardClientCert::AlwaysForwardOnly => {}
        ForwardClientCert::ForwardOnly if client.peer.is_some() => {}
        ForwardClientCert::AppendForward(details) => match client.peer {
            None => drop(headers.remove(CLIENT_CERT)),
            Some(peer) => append(headers, &CLIENT_CERT, &element(peer, client.own, details)),
        },
        ForwardClientCert::SanitizeSet(details) => {
            headers.remove(CLIENT_CERT);
            if let Some(peer) = client.peer {
                append(headers, &CLIENT_CERT, &element(peer, client.own, details));
            }
        }
        ForwardClientCert::Sanitize | ForwardClientCert::ForwardOnly => drop(headers.remove(CLIENT_CERT)),
    }
}

/// One element: `By=...;Hash=...;Subject="...";URI=...`.
fn element(peer: &Leaf, own: Option<&str>, details: ClientCertDetails) -> String {
    let mut out = String::new();
    if let Some(own) = own {
        let _ = write!(out, "By={own};");
    }
    let _ = write!(out, "Hash={}", peer.fingerprint);
    if details.subject {
        let _ = write!(out, ";Subject=\"{}\"", peer.subject.replace('\\', "\\\\").replace('"', "\\\""));
    }
    if details.uri {
        let _ = write!(out, ";URI={}", peer.uris.first().map(String::as_str).unwrap_or_default());
    }
    if details.dns {
        for name in &peer.dns {
            let _ = write!(out, ";DNS={name}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue};

    use super::{CLIENT_CERT, Client, EXTERNAL_ADDRESS, FOR, INTERNAL, PROTO, REQUEST_ID, set};
    use crate::http::tests::http_chain;
    use crate::tls::verify::Leaf;
    use engine::ir::listener::{ClientCertDetails, Direction, ForwardClientCert, HttpChain, RouteSource};

    fn chain(edge: bool) -> HttpChain {
        HttpChain { use_remote_address: edge, ..http_chain(RouteSource::Named("x".into()), Direction::Gateway) }
    }

    fn client(address: &str, peer: Option<&'static Leaf>) -> Client<'static> {
        Client { address: address.parse().unwrap(), tls: false, peer, own: Some("spiffe://t/ns/b/sa/server") }
    }

    #[test]
    fn a_gateway_says_who_asked() {
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_static("9.9.9.9"));
        headers.insert(REQUEST_ID, HeaderValue::from_static("mine"));
        headers.insert("x-envoy-retry-on", HeaderValue::from_static("5xx"));
        let (address, https) = set(&mut headers, &chain(true), client("8.8.8.8:1", None), || 7);
        assert_eq!((address.to_string().as_str(), https), ("8.8.8.8", false));
        assert_eq!(headers[FOR], "9.9.9.9,8.8.8.8");
        assert_eq!(headers[PROTO], "http");
        assert_eq!(headers[EXTERNAL_ADDRESS], "8.8.8.8");
        assert_eq!(headers[REQUEST_ID], "00000000-0000-4000-8000-000000000007", "an outsider does not choose it");
        assert!(!headers.contains_key("x-envoy-retry-on") && !headers.contains_key(INTERNAL));
    }

    #[test]
    fn a_sidecar_leaves_it_as_it_is() {
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_static("8.8.8.8"));
        headers.insert(PROTO, HeaderValue::from_static("https"));
        headers.insert(REQUEST_ID, HeaderValue::from_static("mine"));
        let (address, https) = set(&mut headers, &chain(false), client("10.0.0.1:1", None), || 7);
        assert_eq!((address.to_string().as_str(), https), ("8.8.8.8", true));
        assert_eq!(
            (&headers[FOR], &headers[REQUEST_ID]),
            (&HeaderValue::from_static("8.8.8.8"), &HeaderValue::from_static("mine"))
        );
    }

    #[test]
    fn the_clients_certificate_is_passed_on_as_the_rule_says() {
        let peer: &'static Leaf = Box::leak(Box::new(Leaf {
            spiffe: None,
            uris: vec!["spiffe://t/ns/a/sa/client".into()],
            dns: vec![],
            addresses: vec![],
            subject: String::new(),
            fingerprint: "ab".into(),
            serial: String::new(),
            not_before: 0,
            not_after: 0,
        }));
        let all = ClientCertDetails { subject: true, uri: true, dns: true, ..ClientCertDetails::default() };
        let own = "By=spiffe://t/ns/b/sa/server;Hash=ab;Subject=\"\";URI=spiffe://t/ns/a/sa/client";
        let rows: [(&str, ForwardClientCert, Option<&'static Leaf>, Option<String>); 6] = [
            ("append", ForwardClientCert::AppendForward(all), Some(peer), Some(format!("x=1,{own}"))),
            ("append without TLS", ForwardClientCert::AppendForward(all), None, None),
            ("set", ForwardClientCert::SanitizeSet(all), Some(peer), Some(own.to_owned())),
            ("sanitize", ForwardClientCert::Sanitize, Some(peer), None),
            ("forward", ForwardClientCert::ForwardOnly, Some(peer), Some("x=1".into())),
            ("forward without TLS", ForwardClientCert::ForwardOnly, None, None),
        ];
        for (name, rule, peer, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(CLIENT_CERT, HeaderValue::from_static("x=1"));
            let chain = HttpChain { forward_client_cert: rule, ..chain(false) };
            set(&mut headers, &chain, client("10.0.0.1:1", peer), || 7);
            let found = headers.get(CLIENT_CERT).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(found, expected, "{name}");
        }
    }
}
