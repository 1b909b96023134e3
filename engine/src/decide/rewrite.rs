//! Where a request goes on to: rewritten paths, and the location of redirects.

use std::borrow::Cow;

use super::host::without_port;
use crate::ir::route::{PathMatch, PathRewrite, Redirect, RedirectPath, Request};

/// The path, with its query, after `rewrite`; `matched` is the path rule of the route.
pub fn path<'a>(rewrite: &PathRewrite, matched: &PathMatch, request: &Request<'a>) -> Cow<'a, str> {
    let only = request.path_only();
    let rest = request.path.get(only.len()..).unwrap_or_default();
    match rewrite {
        PathRewrite::Prefix(replacement) => {
            let length = match matched {
                PathMatch::Prefix { path, .. } | PathMatch::Segments { path, .. } => path.len(),
                // With an exact path or a pattern, Envoy replaces all of it.
                PathMatch::Exact { .. } | PathMatch::Regex(_) => only.len(),
                PathMatch::Connect => 0,
            };
            let kept = only.get(length..).unwrap_or_default();
            Cow::Owned(format!("{replacement}{kept}{rest}"))
        }
        PathRewrite::Regex { pattern, substitution } => {
            let new = pattern.replace_all(only.as_bytes(), substitution.as_bytes());
            match String::from_utf8(new.into_owned()) {
                Ok(new) => Cow::Owned(format!("{new}{rest}")),
                Err(_) => Cow::Borrowed(request.path),
            }
        }
    }
}

/// The `location` that `redirect` sends a client to.
pub fn location(redirect: &Redirect, matched: &PathMatch, request: &Request<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let host = authority(redirect, scheme, request);
    let path = match &redirect.path {
        RedirectPath::Keep => Cow::Borrowed(request.path),
        RedirectPath::Rewrite(rewrite) => path(rewrite, matched, request),
        RedirectPath::Replace(new) => match request.query() {
            Some(query) if !redirect.strip_query && !new.contains('?') => Cow::Owned(format!("{new}?{query}")),
            _ => Cow::Borrowed(&**new),
        },
    };
    let keeps_own_query = matches!(&redirect.path, RedirectPath::Replace(_));
    let path = if redirect.strip_query && !keeps_own_query {
        path.split_once('?').map_or(&*path, |(path, _)| path)
    } else {
        &*path
    };
    format!("{scheme}://{host}{path}")
}

fn authority<'a>(redirect: &'a Redirect, scheme: &str, request: &Request<'a>) -> Cow<'a, str> {
    let host = redirect.host.as_deref().unwrap_or(request.authority);
    let default = |port: u16| matches!((scheme, port), ("http", 80) | ("https", 443));
    match redirect.port {
        Some(port) if default(port) => Cow::Borrowed(without_port(host)),
        Some(port) => Cow::Owned(format!("{}:{port}", without_port(host))),
        // The old scheme's default port means nothing under a new scheme.
        None if redirect.scheme.is_some() && matches!(port_of(host), Some(80 | 443)) => {
            Cow::Borrowed(without_port(host))
        }
        None => Cow::Borrowed(host),
    }
}

fn port_of(authority: &str) -> Option<u16> {
    authority.get(without_port(authority).len()..)?.strip_prefix(':')?.parse().ok()
}
