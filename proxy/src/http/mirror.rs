//! Copies of requests that nobody waits for.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use engine::ir::route::Mirror;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Request, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt;

use super::body::RequestBody;
use crate::error::ProxyError;
use crate::upstream::host::Active;
use crate::upstream::pool::{acquire, inside};
use crate::workers::Worker;

/// A request that is copied: what goes to the first endpoint, before anything about the endpoint is known.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: http::uri::PathAndQuery,
    /// The host.
    pub authority: HeaderValue,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The version that the client spoke.
    pub version: Version,
}

/// A copy is given up after this if the route has no timeout: nobody waits for it, so nobody would ever give it up.
const LONGEST: Duration = Duration::from_mins(1);

/// Sends copies as the rules say, each in a task of its own, for as long as a request may take.
pub fn send(worker: &Rc<Worker>, mirrors: &[Mirror], copied: &Copied, timeout: Option<Duration>) {
    let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(LONGEST);
    for mirror in mirrors.iter().filter(|mirror| mirror.share.contains(worker.random())) {
        let (worker, mirror, copied) = (worker.clone(), mirror.clone(), copied.clone());
        tokio::task::spawn_local(async move {
            let sending = tokio::time::timeout(timeout, one(&worker, &mirror, copied));
            if let Err(error) = sending.await.unwrap_or(Err(ProxyError::Timeout)) {
                tracing::debug!(cluster = %mirror.cluster, %error, "mirrored request failed");
            }
        });
    }
}

async fn one(worker: &Rc<Worker>, mirror: &Mirror, copied: Copied) -> Result<(), ProxyError> {
    let missing = || ProxyError::NoCluster(mirror.cluster.to_string());
    let state = worker.clusters.get(&mirror.cluster).ok_or_else(missing)?;
    let limit = state.config().settings.breakers.max_requests;
    let overflow = || ProxyError::Overflow { cluster: mirror.cluster.to_string(), limit: "http2MaxRequests" };
    let _permit = state.common.breakers.requests.take(limit).ok_or_else(overflow)?;
    let mut authority = copied.authority.clone();
    if mirror.shadow_suffix {
        let shadowed = shadow(authority.to_str().unwrap_or_default());
        authority = HeaderValue::from_str(&shadowed).unwrap_or(authority);
    }
    let host = authority.to_str().ok().map(str::to_owned);
    let picked = state.pick(worker.random(), None, &[], 0, None)?;
    let _active = Active::new(&picked.host);
    let kind = inside(state.config().settings.http, copied.version, false);
    let mut lease = acquire(worker, &state, &picked, kind, host.as_deref(), None).await?;
    let mut request = Request::new(RequestBody::Whole(copied.body));
    *request.method_mut() = copied.method;
    *request.headers_mut() = copied.headers;
    *request.uri_mut() = Uri::from(copied.path);
    super::forward::address(&mut request, &authority, lease.is_http2());
    request.headers_mut().remove(http::header::CONTENT_LENGTH);
    let endpoint = picked.host.address.to_string();
    let response = lease.send(request).await.map_err(|_| ProxyError::UpstreamClosed(endpoint))?;
    let mut body = response.into_body();
    while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
    if body.is_end_stream() {
        lease.done();
    }
    Ok(())
}

/// `host:port` as `host-shadow:port`.
fn shadow(authority: &str) -> String {
    let host = engine::decide::host::without_port(authority);
    format!("{host}-shadow{}", authority.get(host.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_shadow_keeps_its_port() {
        assert_eq!(super::shadow("reviews:9080"), "reviews-shadow:9080");
        assert_eq!(super::shadow("reviews"), "reviews-shadow");
    }
}
