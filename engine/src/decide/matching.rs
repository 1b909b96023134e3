//! Whether a request has what a route asks for.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::ir::{
    route::{HeaderKey, HeaderMatch, HeaderRule, PathMatch, QueryMatch, Request, RouteMatch},
    text::TextMatch,
};

/// Whether all conditions of a route hold; `seed` decides a share of requests.
pub fn route(wanted: &RouteMatch, request: &Request<'_>, seed: u64) -> bool {
    path(&wanted.path, request) && beside_path(wanted, request, seed)
}

/// Whether all conditions but the path hold.
pub(crate) fn beside_path(wanted: &RouteMatch, request: &Request<'_>, seed: u64) -> bool {
    wanted.share.is_none_or(|share| share.contains(seed))
        && (!wanted.grpc || is_grpc(request.headers))
        && wanted.headers.iter().all(|wanted| header(wanted, request))
        && wanted.query.iter().all(|wanted| query(wanted, request))
}

/// Whether the path is what a route asks for.
pub fn path(wanted: &PathMatch, request: &Request<'_>) -> bool {
    let path = request.path_only();
    match wanted {
        PathMatch::Exact { path: wanted, ignore_case } => {
            if *ignore_case {
                path.eq_ignore_ascii_case(wanted)
            } else {
                path == &**wanted
            }
        }
        PathMatch::Prefix { path: wanted, ignore_case } => starts_with(path, wanted, *ignore_case),
        PathMatch::Segments { path: wanted, ignore_case } => {
            starts_with(path, wanted, *ignore_case) && matches!(path.as_bytes().get(wanted.len()), None | Some(b'/'))
        }
        PathMatch::Regex(pattern) => pattern.is_match(path.as_bytes()),
        PathMatch::Connect => request.method == http::Method::CONNECT,
    }
}

fn starts_with(path: &str, prefix: &str, ignore_case: bool) -> bool {
    path.as_bytes().get(..prefix.len()).is_some_and(|head| {
        if ignore_case { head.eq_ignore_ascii_case(prefix.as_bytes()) } else { head == prefix.as_bytes() }
    })
}

/// Whether a request's header is what is asked for.
pub fn header(wanted: &HeaderMatch, request: &Request<'_>) -> bool {
    let value = match &wanted.name {
        HeaderKey::Method => Some(Cow::Borrowed(request.method.as_str().as_bytes())),
        HeaderKey::Authority => Some(Cow::Borrowed(request.authority.as_bytes())),
        HeaderKey::Path => Some(Cow::Borrowed(request.path.as_bytes())),
        HeaderKey::Scheme => Some(Cow::Borrowed(request.scheme.as_bytes())),
        HeaderKey::Status => None,
        HeaderKey::Name(name) => joined(request.headers, name),
    };
    compare(wanted, value.as_deref())
}

/// Whether a response's header is what is asked for.
pub fn response_header(wanted: &HeaderMatch, status: StatusCode, headers: &HeaderMap) -> bool {
    let value = match &wanted.name {
        HeaderKey::Status => Some(Cow::Borrowed(status.as_str().as_bytes())),
        HeaderKey::Name(name) => joined(headers, name),
        HeaderKey::Method | HeaderKey::Authority | HeaderKey::Path | HeaderKey::Scheme => None,
    };
    compare(wanted, value.as_deref())
}

fn compare(wanted: &HeaderMatch, value: Option<&[u8]>) -> bool {
    let value = if wanted.missing_is_empty { Some(value.unwrap_or_default()) } else { value };
    let matched = match (&wanted.rule, value) {
        (HeaderRule::Present(present), value) => value.is_some() == *present,
        // A missing header fits no text. `invert` does not turn that round in Envoy's route matching unless the header
        // counts as empty, except that "not this value" is true of a header that is not there.
        (HeaderRule::Text(_) | HeaderRule::Range { .. }, None) => false,
        (HeaderRule::Text(text), Some(value)) => text.matches(value),
        (HeaderRule::Range { start, end }, Some(value)) => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.trim().parse::<i64>().ok())
            .is_some_and(|number| (*start..*end).contains(&number)),
    };
    matched != wanted.invert
}

/// All values of a header as one, joined by commas; the common single value is borrowed.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}

fn query(wanted: &QueryMatch, request: &Request<'_>) -> bool {
    let Some(query) = request.query() else { return false };
    let found = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(name, _)| *name == &*wanted.name)
        .map(|(_, value)| value);
    match (&wanted.value, found) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(text), Some(value)) => TextMatch::matches(text, value.as_bytes()),
    }
}

/// Whether a request is gRPC: `application/grpc`, alone or with a suffix after `+` or `;`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b'+' | b';')))
    })
}
