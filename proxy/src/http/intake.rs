//! What a request is for.

use engine::decide::normalize::{self, Normalized};
use engine::ir::listener::{HttpChain, PathNormalization};
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};

use crate::error::ProxyError;

/// What a request is for: its host and its path, cheap to copy.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host as the client sent it, perhaps with a port.
    pub authority: HeaderValue,
    /// The path with its query, in normal form.
    pub path: PathAndQuery,
    /// The path as the client sent it, if normal form changed it.
    pub original: Option<PathAndQuery>,
}

/// A request that does not go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be served.
    Failed(ProxyError),
    /// The client is sent to the path in normal form.
    Redirect(String),
}

impl Target {
    /// The host as text.
    pub fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }
}

/// Reads host and path, and puts the path into normal form.
pub fn read(parts: &Parts, chain: &HttpChain, local_port: u16) -> Result<Target, Refused> {
    if parts.version == Version::HTTP_10 && !chain.accept_http_10 {
        return Err(Refused::Failed(ProxyError::LowVersion));
    }
    // A request in absolute form names its host there (RFC 9112, section 3.2.2), HTTP/2 in `:authority`.
    let authority = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(HOST).cloned(),
    };
    let authority = authority.filter(|authority| authority.to_str().is_ok_and(|text| !text.is_empty()));
    let mut authority = authority.ok_or(Refused::Failed(ProxyError::MissingHost))?;
    if chain.strip_matching_host_port {
        let text = authority.to_str().unwrap_or_default();
        if let Some(host) = text.strip_suffix(&format!(":{local_port}"))
            && let Ok(host) = HeaderValue::from_str(host)
        {
            authority = host;
        }
    }
    let sent = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if parts.method == Method::CONNECT || sent.as_str() == "*" {
        return Ok(Target { authority, path: sent, original: None });
    }
    let (path, original) = normal(chain.normalize, sent)?;
    Ok(Target { authority, path, original })
}

fn normal(rules: PathNormalization, sent: PathAndQuery) -> Result<(PathAndQuery, Option<PathAndQuery>), Refused> {
    let changed = match normalize::path(rules, sent.as_str()) {
        Normalized::Reject => return Err(Refused::Failed(ProxyError::BadPath)),
        Normalized::Redirect(path) => return Err(Refused::Redirect(path)),
        Normalized::Path(path) if path == sent.as_str() => None,
        Normalized::Path(path) => {
            Some(PathAndQuery::try_from(path.as_ref()).map_err(|_| Refused::Failed(ProxyError::BadPath))?)
        }
    };
    Ok(match changed {
        None => (sent, None),
        Some(path) => (path, Some(sent)),
    })
}
