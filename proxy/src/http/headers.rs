//! Changes to headers: those that rules make, and those that end at each hop.

use std::net::SocketAddr;

use bytes::Bytes;
use engine::ir::header::{AddMode, HeaderOps, HeaderPiece, HeaderTemplate};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};

use crate::error::Flags;

/// What templates of headers may ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The request's headers.
    pub request: Option<&'a HeaderMap>,
    /// The response's headers.
    pub response: Option<&'a HeaderMap>,
    /// The client.
    pub downstream_remote: Option<SocketAddr>,
    /// Where the client connected to.
    pub downstream_local: Option<SocketAddr>,
    /// The endpoint.
    pub upstream_remote: Option<SocketAddr>,
    /// The client's identity.
    pub peer: Option<&'a str>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'a str,
    /// The status.
    pub code: Option<u16>,
    /// Response flags.
    pub flags: Flags,
    /// The route's name.
    pub route: &'a str,
}

/// Applies changes, removals first. The new authority, if there is one, is the caller's to set.
pub fn apply(ops: &HeaderOps, headers: &mut HeaderMap, facts: &dyn Fn(&HeaderPiece, &HeaderMap) -> Option<String>) {
    let Some(changes) = ops.changes() else { return };
    for name in &changes.remove {
        headers.remove(name);
    }
    for add in &changes.add {
        let Some(value) = value(&add.value, headers, facts) else { continue };
        if value.is_empty() && !add.keep_empty {
            continue;
        }
        match add.mode {
            AddMode::Append => {
                headers.append(&add.name, value);
            }
            AddMode::Overwrite => {
                headers.insert(&add.name, value);
            }
            AddMode::IfAbsent => {
                headers.entry(&add.name).or_insert(value);
            }
            AddMode::OverwriteIfExists => {
                if headers.contains_key(&add.name) {
                    headers.insert(&add.name, value);
                }
            }
        }
    }
}

/// The value of a template.
pub fn value(
    template: &HeaderTemplate,
    own: &HeaderMap,
    facts: &dyn Fn(&HeaderPiece, &HeaderMap) -> Option<String>,
) -> Option<HeaderValue> {
    match template {
        HeaderTemplate::Fixed(value) => Some(value.clone()),
        HeaderTemplate::Pieces(pieces) => {
            let text: String = pieces.iter().filter_map(|piece| facts(piece, own)).collect();
            HeaderValue::from_str(&text).ok()
        }
    }
}

impl Facts<'_> {
    /// What a piece of a template stands for. `own` are the headers that are being changed.
    pub fn piece(&self, piece: &HeaderPiece, own: &HeaderMap) -> Option<String> {
        let header =
            |headers: Option<&HeaderMap>, name: &HeaderName| Some(headers?.get(name)?.to_str().ok()?.to_owned());
        let address = |address: Option<SocketAddr>, port: bool| {
            address.map(|address| if port { address.to_string() } else { address.ip().to_string() })
        };
        match piece {
            HeaderPiece::Text(text) => Some(text.to_string()),
            HeaderPiece::RequestHeader(name) => header(self.request.or(Some(own)), name),
            HeaderPiece::ResponseHeader(name) => header(self.response.or(Some(own)), name),
            HeaderPiece::DownstreamRemoteAddress { port } => address(self.downstream_remote, *port),
            HeaderPiece::DownstreamLocalAddress { port } => address(self.downstream_local, *port),
            HeaderPiece::UpstreamRemoteAddress => address(self.upstream_remote, true),
            HeaderPiece::DownstreamPeerUriSan => self.peer.map(str::to_owned),
            HeaderPiece::Protocol => Some(self.protocol.to_owned()),
            HeaderPiece::ResponseCode => self.code.map(|code| code.to_string()),
            HeaderPiece::ResponseFlags => Some(self.flags.to_string()),
            HeaderPiece::RouteName => Some(self.route.to_owned()),
            HeaderPiece::Hostname => std::env::var("HOSTNAME").ok(),
            HeaderPiece::StartTime => Some(crate::telemetry::access_log::timestamp(std::time::SystemTime::now())),
        }
    }
}

/// The numbers below 100, each in two digits.
static DIGITS: [u8; 200] = {
    let mut digits = [b'0'; 200];
    let mut number = 0u8;
    while number < 100 {
        digits[2 * number as usize] = b'0' + number / 10;
        digits[2 * number as usize + 1] = b'0' + number % 10;
        number += 1;
    }
    digits
};

/// A number as a header's value. Small ones, which the times of most requests are, need no memory.
pub fn number(value: u64) -> HeaderValue {
    let digits = match usize::try_from(value) {
        Ok(value @ 0..10) => DIGITS.get(2 * value + 1..2 * value + 2),
        Ok(value @ 10..100) => DIGITS.get(2 * value..2 * value + 2),
        _ => None,
    };
    let small = digits.and_then(|digits| HeaderValue::from_maybe_shared(Bytes::from_static(digits)).ok());
    small.unwrap_or_else(|| HeaderValue::from(value))
}

/// Takes away what `Connection` names, and leaves of it only that an upgrade is asked for. This comes before we add headers of our own: a
/// client that names `x-forwarded-client-cert` there would otherwise have us take away what we say of it.
pub fn strip_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    if named.is_empty() {
        return;
    }
    for name in named.iter().filter(|name| ![UPGRADE, TE, CONNECTION].contains(name)) {
        headers.remove(name);
    }
    if named.contains(&UPGRADE) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(CONNECTION);
    }
}

/// Headers that mean this hop only (RFC 9110, section 7.6.1). With `upgrade` the two that ask for one stay.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    strip_named(headers);
    headers.remove(CONNECTION);
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove(TRANSFER_ENCODING);
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
    // gRPC asks for trailers hop by hop; nothing else may be asked for through us.
    let trailers = headers.get(TE).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")))
    });
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests {
    use engine::ir::header::{AddMode, HeaderAdd, HeaderChanges, HeaderOps, HeaderPiece, HeaderTemplate};
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::{Facts, apply, number, strip_hop_by_hop};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    #[test]
    fn numbers_are_decimal() {
        for value in (0..=1000).chain([u64::MAX]) {
            assert_eq!(number(value), value.to_string());
        }
    }

    #[test]
    fn headers_of_one_hop_end_here() {
        let mut some = headers(&[
            ("connection", "keep-alive, x-mine, te"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "trailers, deflate"),
            ("upgrade", "websocket"),
            ("x-stays", "1"),
        ]);
        strip_hop_by_hop(&mut some, false);
        assert_eq!(some, headers(&[("te", "trailers"), ("x-stays", "1")]));

        let mut upgrade = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        strip_hop_by_hop(&mut upgrade, true);
        assert_eq!(upgrade, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn each_mode_of_adding() {
        let add = |name: &'static str, value: &'static str, mode| HeaderAdd {
            name: HeaderName::from_static(name),
            value: HeaderTemplate::Fixed(HeaderValue::from_static(value)),
            mode,
            keep_empty: false,
        };
        let ops = HeaderChanges {
            remove: [HeaderName::from_static("gone")].into(),
            add: [
                add("a", "2", AddMode::Append),
                add("b", "2", AddMode::Overwrite),
                add("c", "2", AddMode::IfAbsent),
                add("d", "2", AddMode::OverwriteIfExists),
                add("e", "", AddMode::Overwrite),
                HeaderAdd {
                    name: HeaderName::from_static("f"),
                    value: HeaderTemplate::Pieces(
                        [HeaderPiece::Text("x".into()), HeaderPiece::RequestHeader("a".parse().unwrap())].into(),
                    ),
                    mode: AddMode::Append,
                    keep_empty: false,
                },
            ]
            .into(),
            authority: None,
        };
        let ops = HeaderOps::from(ops);
        let mut some = headers(&[("gone", "1"), ("a", "1"), ("b", "1"), ("c", "1")]);
        let facts = Facts::default();
        apply(&ops, &mut some, &|piece, own| facts.piece(piece, own));
        assert_eq!(some, headers(&[("a", "1"), ("a", "2"), ("b", "2"), ("c", "1"), ("f", "x1")]));
    }
}
