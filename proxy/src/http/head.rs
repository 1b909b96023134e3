//! What goes to an endpoint, before the endpoint is known: path, host, headers, time, hash.

use std::hash::Hasher;
use std::time::Duration;

use engine::decide::rewrite;
use engine::ir::header::{HeaderAdd, HeaderOps, HeaderTemplate};
use engine::ir::route::{Forward, HashSource, HostRewrite, WeightedCluster};
use engine::snapshot::Routed;
use http::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use super::exchange::{Asked, protocol};
use super::forward::Head;
use super::forwarded::FORWARDED_HOST;
use super::headers::{self, Facts};
use super::serve::Connection;
use crate::tcp::proxy::uri;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// Puts together what goes to an endpoint. The request's headers are taken unless the response's rules ask for them later.
pub(super) fn make(
    connection: &Connection,
    asked: &mut Asked,
    routed: &Routed,
    rule: &Forward,
    member: &WeightedCluster,
    upgrade: bool,
) -> Head {
    let view = connection.worker.view();
    let table = view.snapshot.table_of(&connection.chain()).cloned();
    let path = new_path(asked, routed, rule);
    let response_ops = [&member.response_headers, &routed.route.response_headers, &routed.host.response_headers];
    let needed_later =
        response_ops.into_iter().chain(table.as_ref().map(|table| &table.response_headers)).any(has_pieces);
    let mut headers = if needed_later { asked.parts.headers.clone() } else { std::mem::take(&mut asked.parts.headers) };
    headers::strip_hop_by_hop(&mut headers, upgrade);

    let mut authority = asked.target.authority.clone();
    let request_ops = [&member.request_headers, &routed.route.request_headers, &routed.host.request_headers];
    for ops in request_ops.into_iter().chain(table.as_ref().map(|table| &table.request_headers)) {
        let Some(changes) = ops.changes() else { continue };
        let facts = Facts {
            downstream_remote: Some(connection.client.peer),
            downstream_local: Some(connection.client.destination),
            peer: connection.client.leaf.as_deref().and_then(uri),
            protocol: protocol(asked.parts.version),
            route: &routed.route.name,
            ..Facts::default()
        };
        headers::apply(ops, &mut headers, &|piece, own| facts.piece(piece, own));
        if let Some(template) = &changes.authority
            && let Some(new) = headers::value(template, &headers, &|piece, own| facts.piece(piece, own))
        {
            authority = new;
        }
    }
    if let Some(new) = new_host(rule, member, &headers) {
        if rule.append_x_forwarded_host {
            headers.append(FORWARDED_HOST, authority.clone());
        }
        headers.insert(ORIGINAL_HOST, authority);
        authority = new;
    }
    headers.remove(HOST);
    join_cookies(&mut headers);
    if let Some(original) = path.original {
        headers.insert(ORIGINAL_PATH, original);
    }
    Head { method: asked.parts.method.clone(), path: path.path, authority, headers }
}

/// HTTP/2 may send a cookie in pieces; HTTP/1 takes one header only (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(_)) = (pieces.next(), pieces.next()) {
        let mut joined = first.as_bytes().to_vec();
        for piece in headers.get_all(COOKIE).iter().skip(1) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(piece.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(COOKIE, joined);
        }
    }
}

fn has_pieces(ops: &HeaderOps) -> bool {
    let pieces = |add: &HeaderAdd| matches!(add.value, HeaderTemplate::Pieces(_));
    ops.changes().is_some_and(|changes| changes.add.iter().any(pieces))
}

struct NewPath {
    path: PathAndQuery,
    /// The path before rewriting, if it was rewritten.
    original: Option<HeaderValue>,
}

fn new_path(asked: &Asked, routed: &Routed, rule: &Forward) -> NewPath {
    let kept = || NewPath { path: asked.target.path.clone(), original: None };
    let Some(rewriting) = &rule.rewrite else { return kept() };
    let new = rewrite::path(rewriting, &routed.route.matches.path, &asked.view());
    // A path must begin with a slash; a rule that leaves it out means one.
    let new = if new.starts_with('/') { new.into_owned() } else { format!("/{new}") };
    match PathAndQuery::try_from(new) {
        Ok(path) => NewPath { path, original: HeaderValue::from_str(asked.target.path.as_str()).ok() },
        Err(_) => kept(),
    }
}

fn new_host(rule: &Forward, member: &WeightedCluster, headers: &HeaderMap) -> Option<HeaderValue> {
    if let Some(host) = &member.host_rewrite {
        return Some(HeaderValue::clone(host));
    }
    match rule.host_rewrite.as_deref()? {
        HostRewrite::Literal(host) => Some(host.clone()),
        HostRewrite::Header(name) => headers.get(name).cloned(),
        // Known only with the endpoint; those of the mesh have no host names.
        HostRewrite::Endpoint => None,
    }
}

/// The time for the whole answer.
pub(super) fn timeout(rule: &Forward, headers: &HeaderMap) -> Option<Duration> {
    let own = rule.timeout.filter(|timeout| !timeout.is_zero());
    let asked = rule.max_grpc_timeout.and_then(|most| {
        let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(grpc_timeout)?;
        Some(if most.is_zero() { asked } else { asked.min(most) })
    });
    asked.or(own)
}

/// `100m`: digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || digits.starts_with('+') {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// What consistent hashing hashes of this request.
pub(super) fn hash(rule: &Forward, asked: &Asked) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in &rule.hash {
        let part = match &policy.source {
            HashSource::Header(name) => asked.parts.headers.get(name).map(|value| digest(value.as_bytes())),
            HashSource::Cookie { name, .. } => cookie(&asked.parts.headers, name).map(|value| digest(value.as_bytes())),
            HashSource::SourceIp => Some(digest(asked.source.to_string().as_bytes())),
            HashSource::Query(name) => query(asked, name).map(|value| digest(value.as_bytes())),
        };
        if let Some(part) = part {
            hash = Some(hash.map_or(part, |hash| hash.rotate_left(1) ^ part));
            if policy.terminal {
                break;
            }
        }
    }
    hash
}

/// FNV-1a: the same in every proxy, so that all send one key to one endpoint.
fn digest(bytes: &[u8]) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(bytes);
    hasher.finish()
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

fn query<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    let query = asked.target.path.query()?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::{COOKIE, HeaderMap, HeaderValue};

    use super::{grpc_timeout, join_cookies};

    #[test]
    fn a_cookie_in_pieces_becomes_one_header() {
        let mut headers = HeaderMap::new();
        for piece in ["a=1", "b=2"] {
            headers.append(COOKIE, HeaderValue::from_static(piece));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn grpc_timeouts() {
        let rows = [
            ("100m", Some(Duration::from_millis(100))),
            ("2S", Some(Duration::from_secs(2))),
            ("1H", Some(Duration::from_hours(1))),
            ("5u", Some(Duration::from_micros(5))),
            ("", None),
            ("m", None),
            ("1x", None),
            ("+1S", None),
            ("123456789S", None),
            ("1ä", None),
        ];
        for (text, expected) in rows {
            assert_eq!(grpc_timeout(text), expected, "{text:?}");
        }
    }
}
