//! Attempts: endpoint, connection, timeout, retry.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::decide::{cluster, retry};
use engine::ir::listener::HttpChain;
use engine::ir::retry::RetryPolicy;
use engine::ir::route::{Forward, WeightedCluster};
use engine::snapshot::Routed;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::body::{Progress, RequestBody, ResponseBody, Source, Streamed};
use super::exchange::{Asked, fallback_host, protocol};
use super::head;
use super::headers::{self, Facts};
use super::kept::Headers;
use super::mirror::{self, Copied};
use super::record::Record;
use super::replay::{self, Replay};
use super::reply;
use super::serve::Connection;
use super::upgrade;
use crate::error::{Flag, ProxyError};
use crate::tcp::proxy::{destination, service, uri};
use crate::telemetry::istio::Reporter;
use crate::upstream::breaker::Permit;
use crate::upstream::cluster::{ClusterState, Picked};
use crate::upstream::host::Active;
use crate::upstream::outlier::Seen;
use crate::upstream::pool::{Lease, acquire, inside};
use crate::workers::Worker;

const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// How often a request is given to another connection because the one from the pool had been closed.
const STALE: u32 = 8;

/// What is sent to an endpoint, before the endpoint is known.
#[derive(Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path with its query, after rewriting.
    pub path: PathAndQuery,
    /// The host, after rewriting.
    pub authority: HeaderValue,
    /// The headers, after all changes.
    pub headers: HeaderMap,
}

/// A body as attempts take it.
enum Bodies {
    Empty,
    Whole(bytes::Bytes),
    Once(Option<Streamed>),
    Kept(Rc<Replay>),
}

impl Bodies {
    fn next(&mut self) -> RequestBody {
        match self {
            Self::Empty => RequestBody::Empty,
            Self::Whole(bytes) => RequestBody::Whole(bytes.clone()),
            Self::Once(body) => body.take().map_or(RequestBody::Empty, RequestBody::Stream),
            Self::Kept(replay) => RequestBody::Replay(replay.attempt()),
        }
    }

    fn can_repeat(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Once(body) => body.is_some(),
            Self::Kept(replay) => replay.can_repeat(),
        }
    }
}

/// One endpoint's answer, and what it hangs on.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    active: Active,
    picked: Picked,
    /// From the request's last byte out to the answer's first in, in milliseconds.
    took: Duration,
}

/// Everything that attempts of one request have in common.
struct Attempts<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Rc<Connection>,
    state: &'a Rc<ClusterState>,
    method: Method,
    path: PathAndQuery,
    authority: HeaderValue,
    headers: Headers,
    bodies: Bodies,
    version: Version,
    upgrade: bool,
    hash: Option<u64>,
    policy: Option<Arc<RetryPolicy>>,
    tell_number: bool,
    /// The endpoint of the last attempt.
    last: Option<SocketAddr>,
    /// Those of earlier ones.
    avoid: Vec<SocketAddr>,
    deadline: Option<Instant>,
}

/// Forwards a request as its route says.
#[expect(clippy::too_many_arguments, reason = "all of it is the request")]
pub async fn forward(
    connection: &Rc<Connection>,
    chain: &Arc<HttpChain>,
    mut asked: Asked,
    body: Incoming,
    routed: &Routed,
    rule: &Forward,
    wants_upgrade: bool,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    let worker = &connection.worker;
    let Some(member) = cluster::pick(&rule.clusters, worker.random()) else {
        return reply::failure(&ProxyError::NoRoute, record);
    };
    let Some(state) = worker.clusters.get(&member.name) else {
        record.service = worker.recorder.service(None, &member.name, fallback_host(chain, &asked));
        let mut response = reply::failure(&ProxyError::NoCluster(member.name.to_string()), record);
        if let Ok(status) = StatusCode::from_u16(rule.cluster_not_found_status) {
            *response.status_mut() = status;
        }
        return response;
    };
    record.service = service(worker, &state, fallback_host(chain, &asked));
    if let Some(log) = &mut record.log {
        log.entry.cluster = Some(member.name.clone());
    }
    let limit = state.config().settings.breakers.max_requests;
    let Some(permit) = state.common.breakers.requests.take(limit) else {
        state.cells.rq_overflow.add(1);
        let error = ProxyError::Overflow { cluster: member.name.to_string(), limit: "http2MaxRequests" };
        return reply::failure(&error, record);
    };
    let client_upgrade = wants_upgrade.then(|| asked.parts.extensions.remove::<OnUpgrade>()).flatten();
    let policy = rule.retry.clone().filter(|policy| retry::applies(policy, &asked.view()));
    let deadline = head::timeout(rule, &asked.parts.headers).map(|timeout| Instant::now() + timeout);
    let hash = head::hash(rule, &asked);
    let version = asked.parts.version;
    let head = head::make(connection, &mut asked, routed, rule, member, wants_upgrade);
    let progress = (!body.is_end_stream()).then(Rc::<Progress>::default);
    record.body.clone_from(&progress);
    let bodies = match bodies(worker, rule, policy.is_some(), body, progress.as_ref(), &head, version, deadline).await {
        Ok(bodies) => bodies,
        Err(error) => return reply::failure(&error, record),
    };
    let Head { method, path, authority, headers } = head;
    let mut attempts = Attempts {
        worker,
        connection,
        state: &state,
        method,
        path,
        authority,
        headers: Headers::Whole(headers),
        bodies,
        version,
        upgrade: wants_upgrade,
        hash,
        policy,
        tell_number: routed.host.include_attempt_count,
        last: None,
        avoid: Vec::new(),
        deadline,
    };
    let outcome = match attempts.run(&mut record).await {
        // What comes next is no HTTP, and the client did not ask for anything else.
        Ok(answered) if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS && client_upgrade.is_none() => {
            let endpoint = answered.picked.host.address.to_string();
            Err(ProxyError::UpstreamProtocol { endpoint, reason: "it switches protocols unasked".into() })
        }
        outcome => outcome,
    };
    match outcome {
        Err(error) => {
            // The answer is ours, but its headers are the route's.
            respond_to_failure(connection, &asked, routed, member, &error, record)
        }
        Ok(answered) => {
            let finishing = Finishing { connection, chain, asked: &asked, routed, member };
            let idle = rule.idle_timeout.or(chain.stream_idle_timeout).filter(|idle| !idle.is_zero());
            finishing.respond(answered, record, Held { permit, progress, deadline, idle, client_upgrade })
        }
    }
}

/// Decides how the body is kept. Where there are mirrors, it is read first: copies need it whole.
#[expect(clippy::too_many_arguments, reason = "all of it is the request")]
async fn bodies(
    worker: &Rc<Worker>,
    rule: &Forward,
    retries: bool,
    body: Incoming,
    progress: Option<&Rc<Progress>>,
    head: &Head,
    version: Version,
    deadline: Option<Instant>,
) -> Result<Bodies, ProxyError> {
    if !rule.mirrors.is_empty() {
        let small = body.size_hint().upper().is_some_and(|size| size <= replay::LIMIT as u64);
        if small {
            let reading = Limited::new(body, replay::LIMIT).collect();
            let read = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, reading).await.map_err(|_| ProxyError::Timeout)?,
                None => reading.await,
            };
            let whole = read.map_err(|_| ProxyError::ClientGone)?.to_bytes();
            if let Some(progress) = progress {
                progress.ended.set(true);
                progress.received.set(whole.len() as u64);
            }
            let copied = Copied {
                method: head.method.clone(),
                path: head.path.clone(),
                authority: head.authority.clone(),
                headers: head.headers.clone(),
                body: whole.clone(),
                version,
            };
            mirror::send(worker, &rule.mirrors, &copied, rule.timeout);
            return Ok(if whole.is_empty() { Bodies::Empty } else { Bodies::Whole(whole) });
        }
        tracing::debug!("a request with a large or endless body is not mirrored");
    }
    Ok(match progress {
        None => Bodies::Empty,
        Some(progress) if retries => Bodies::Kept(Replay::new(body, progress.clone())),
        Some(progress) => Bodies::Once(Some(Streamed::new(body, progress.clone()))),
    })
}

impl Attempts<'_> {
    /// Attempts until one is answered for good.
    async fn run(&mut self, record: &mut Record) -> Result<Answered, ProxyError> {
        let most = self.policy.as_ref().map_or(0, |policy| policy.attempts);
        let mut tried = 0;
        let mut _retrying: Option<Permit> = None;
        loop {
            let outcome = self.bounded(tried, record).await;
            let Some(policy) = self.policy.clone() else { return outcome };
            let seen = match &outcome {
                Ok(answered) => retry::Outcome::Response {
                    status: answered.response.status(),
                    headers: answered.response.headers(),
                },
                Err(error) => match outcome_of(error) {
                    Some(seen) => seen,
                    None => return outcome,
                },
            };
            if !retry::retriable(&policy, &seen) {
                return outcome;
            }
            if tried >= most {
                record.flags.set(Flag::URX);
                return outcome;
            }
            if !self.bodies.can_repeat() {
                return outcome;
            }
            let Some(permit) = self.retry_permit() else {
                record.flags.set(Flag::UO);
                return outcome;
            };
            _retrying = Some(permit);
            self.avoid.extend(self.last.take());
            drop(outcome);
            tried += 1;
            self.state.cells.rq_retry.add(1);
            let wait = retry::backoff(&policy, tried, self.worker.random());
            match self.deadline {
                Some(deadline) if Instant::now() + wait >= deadline => {
                    tokio::time::sleep_until(deadline).await;
                    return Err(ProxyError::Timeout);
                }
                _ => tokio::time::sleep(wait).await,
            }
        }
    }

    fn retry_permit(&self) -> Option<Permit> {
        let breakers = self.state.config().settings.breakers;
        let limit = match breakers.retry_budget {
            None => breakers.max_retries,
            Some(budget) => {
                let share = self.state.cells.rq_active.get().saturating_mul(budget.thousandths.into()) / 100_000;
                u32::try_from(share).unwrap_or(u32::MAX).max(budget.min_concurrency)
            }
        };
        self.state.common.breakers.retries.take(limit)
    }

    /// One attempt in its time.
    async fn bounded(&mut self, tried: u32, record: &mut Record) -> Result<Answered, ProxyError> {
        let per_try = self.policy.as_ref().and_then(|policy| policy.per_try_timeout).map(|time| Instant::now() + time);
        let (until, error) = match (self.deadline, per_try) {
            (None, None) => return self.once(tried, record).await,
            (None, Some(per_try)) => (per_try, ProxyError::PerTryTimeout),
            (Some(deadline), Some(per_try)) if per_try < deadline => (per_try, ProxyError::PerTryTimeout),
            (Some(deadline), _) => (deadline, ProxyError::Timeout),
        };
        match tokio::time::timeout_at(until, self.once(tried, record)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(error),
        }
    }

    /// One attempt.
    async fn once(&mut self, tried: u32, record: &mut Record) -> Result<Answered, ProxyError> {
        let policy = self.policy.as_deref();
        let again =
            policy.filter(|policy| policy.avoid_previous_hosts).map_or(0, |policy| policy.host_selection_attempts);
        let original = Some(self.connection.client.destination).filter(|_| self.connection.client.redirected);
        let picked = self.state.pick(self.worker.random(), self.hash, &self.avoid, again, original)?;
        self.last = Some(picked.host.address);
        let active = Active::new(&picked.host);
        if record.reporter == Reporter::Source {
            record.destination = destination(self.worker, self.state, &picked);
        }
        if let Some(log) = &mut record.log {
            log.entry.upstream_remote = Some(picked.host.address);
        }
        let _counted = RequestCount::new(self.state);
        let kind = inside(self.state.config().settings.http, self.version, self.upgrade);
        let authority = self.authority.clone();
        let host = authority.to_str().ok();
        let mut request: Option<Request<RequestBody>> = None;
        for _ in 0..STALE {
            let mut lease = acquire(self.worker, self.state, &picked, kind, host, self.connection.client.kept).await?;
            self.note_connection(&lease, record);
            let mut ready = match request.take() {
                Some(request) => request,
                None => self.request(&picked, tried),
            };
            address(&mut ready, &authority, lease.is_http2());
            let sent = Instant::now();
            match lease.send(ready).await {
                Ok(response) => {
                    self.state.saw(&picked.host, Seen::Status(response.status().as_u16()));
                    return Ok(Answered { response, lease, active, picked, took: sent.elapsed() });
                }
                Err(mut failed) => {
                    // Nothing of it went out: the connection had been closed while it was idle.
                    if let Some(unsent) = failed.take_message()
                        && lease.reused
                    {
                        request = Some(unsent);
                        continue;
                    }
                    let error = broken(&failed.into_error(), &picked);
                    if error != ProxyError::ClientGone {
                        self.state.saw(&picked.host, Seen::Failed);
                    }
                    return Err(error);
                }
            }
        }
        Err(ProxyError::UpstreamClosed(picked.host.address.to_string()))
    }

    fn request(&mut self, picked: &Picked, tried: u32) -> Request<RequestBody> {
        let mut request = Request::new(self.bodies.next());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        let more = self.policy.as_ref().is_some_and(|policy| tried < policy.attempts);
        *request.headers_mut() = self.headers.next(more);
        let headers = request.headers_mut();
        if self.tell_number {
            headers.insert(ATTEMPT_COUNT, HeaderValue::from(tried + 1));
        }
        // Only to an endpoint that has a proxy of the mesh before it: an application has no use for it, a stranger no right to it.
        if picked.mesh_tls {
            headers.insert(xds::peer::HEADER, self.worker.own.header.clone());
            headers.insert(xds::peer::ID_HEADER, self.worker.own.id.clone());
        }
        request
    }

    fn note_connection(&self, lease: &Lease, record: &mut Record) {
        let about = lease.about();
        if record.reporter == Reporter::Source
            && let Some(peer) = &about.peer
        {
            record.destination_principal = self.worker.recorder.principal(uri(peer));
            let own = self.worker.identity();
            record.source_principal = self.worker.recorder.principal(own.map(|own| own.spiffe.to_string()).as_deref());
        }
        if let Some(log) = &mut record.log {
            log.entry.upstream_local = Some(about.local);
        }
    }
}

/// A request in Envoy's gauges, until dropped.
struct RequestCount(Rc<ClusterState>);

impl RequestCount {
    fn new(state: &Rc<ClusterState>) -> Self {
        state.cells.rq_total.add(1);
        state.cells.rq_active.add(1);
        Self(state.clone())
    }
}

impl Drop for RequestCount {
    fn drop(&mut self) {
        self.0.cells.rq_active.sub(1);
    }
}

/// Addresses a request: HTTP/1 names its host in a header, HTTP/2 in the URI.
pub(super) fn address(request: &mut Request<RequestBody>, authority: &HeaderValue, http2: bool) {
    frame(request, http2);
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if http2 {
        request.headers_mut().remove(HOST);
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = http::uri::Authority::try_from(authority.as_bytes()).ok();
        parts.path_and_query = Some(path);
        *request.version_mut() = Version::HTTP_2;
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    } else {
        request.headers_mut().insert(HOST, authority.clone());
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(path);
    }
}

/// Says how long the body is: by the body itself, never by what a header claims. Without a word about it hyper takes GET and HEAD for
/// requests without a body, and drops one that has come in chunks.
fn frame(request: &mut Request<RequestBody>, http2: bool) {
    let length = request.body().size_hint().exact();
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    let claimed = headers.remove(CONTENT_LENGTH).is_some();
    match length {
        // That there is no body goes without saying, unless the client said it.
        Some(0) if !claimed => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None if http2 => {}
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// What a failure is to a retry policy; `None` is nothing that another attempt could mend.
fn outcome_of(error: &ProxyError) -> Option<retry::Outcome<'static>> {
    Some(match error {
        ProxyError::Connect { .. } | ProxyError::ConnectTimeout(_) | ProxyError::UpstreamTls { .. } => {
            retry::Outcome::ConnectFailure
        }
        ProxyError::RefusedStream(_) => retry::Outcome::RefusedStream,
        ProxyError::UpstreamClosed(_) | ProxyError::UpstreamReset(_) | ProxyError::UpstreamProtocol { .. } => {
            retry::Outcome::Reset
        }
        ProxyError::PerTryTimeout => retry::Outcome::PerTryTimeout,
        ProxyError::Overflow { .. } => retry::Outcome::Overflow,
        _ => return None,
    })
}

/// What a broken exchange means.
fn broken(error: &hyper::Error, picked: &Picked) -> ProxyError {
    use std::error::Error;
    let endpoint = picked.host.address.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return match h2.reason() {
                Some(h2::Reason::REFUSED_STREAM) => ProxyError::RefusedStream(endpoint),
                // A server that goes away names the last stream that it works on; only those after it fail by this (RFC 9113, section 6.8).
                Some(h2::Reason::NO_ERROR) if h2.is_go_away() && h2.is_remote() => ProxyError::RefusedStream(endpoint),
                Some(h2::Reason::PROTOCOL_ERROR) => ProxyError::UpstreamProtocol { endpoint, reason: h2.to_string() },
                _ if h2.is_reset() => ProxyError::UpstreamReset(endpoint),
                _ => ProxyError::UpstreamClosed(endpoint),
            };
        }
        cause = inner.source();
    }
    if error.is_parse() || error.is_parse_status() {
        return ProxyError::UpstreamProtocol { endpoint, reason: error.to_string() };
    }
    if error.is_user() {
        return ProxyError::ClientGone; // the body came from the client
    }
    ProxyError::UpstreamClosed(endpoint)
}

/// What an answer's body holds until it ends.
struct Held {
    permit: Permit,
    progress: Option<Rc<Progress>>,
    deadline: Option<Instant>,
    idle: Option<Duration>,
    client_upgrade: Option<OnUpgrade>,
}

/// The way of an endpoint's answer to the client.
struct Finishing<'a> {
    connection: &'a Rc<Connection>,
    chain: &'a HttpChain,
    asked: &'a Asked,
    routed: &'a Routed,
    member: &'a WeightedCluster,
}

impl Finishing<'_> {
    fn respond(&self, answered: Answered, mut record: Box<Record>, held: Held) -> Response<ResponseBody> {
        let Answered { mut response, lease, active, picked, took } = answered;
        let status = response.status();
        record.code = status.as_u16();
        record.details = "via_upstream".into();
        record.grpc_from(response.headers());
        let server_upgrade = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut response));
        let (mut parts, body) = response.into_parts();
        self.learn_peer(&mut parts.headers, &lease, &mut record);
        headers::strip_hop_by_hop(&mut parts.headers, server_upgrade.is_some());
        // Beside `transfer-encoding`, which ends here, it said nothing of the body (RFC 9112, section 6.3).
        if body.size_hint().exact().is_none() {
            parts.headers.remove(CONTENT_LENGTH);
        }
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        parts.headers.insert(SERVICE_TIME, headers::number(took));
        self.change_headers(&mut parts.headers, status, &picked, &record);
        if let Some(log) = &mut record.log {
            log.entry.response = log.lines.response(&parts.headers);
        }
        parts.version = Version::HTTP_11;
        let body = if let (Some(server), Some(client)) = (server_upgrade, held.client_upgrade) {
            upgrade::start(self.connection.clone(), client, server, active, record);
            ResponseBody::own(bytes::Bytes::new(), None)
        } else {
            let Held { permit, progress, deadline, idle, .. } = held;
            let source = Source { lease, active, permit: Some(permit), progress, deadline, idle };
            ResponseBody::relayed(body, source, record)
        };
        Response::from_parts(parts, body)
    }

    /// An answer's metadata tell more of the peer than its endpoint does; they are not for the client.
    fn learn_peer(&self, headers: &mut HeaderMap, lease: &Lease, record: &mut Record) {
        let metadata = headers.remove(xds::peer::HEADER);
        headers.remove(xds::peer::ID_HEADER);
        if record.reporter == Reporter::Source
            && let Some(leaf) = lease.about().peer.as_deref()
            && let Some(metadata) = metadata
        {
            match self.connection.worker.recorder.peer_by_header(metadata.as_bytes(), leaf) {
                0 => {} // the endpoint's own metadata stay
                number => record.destination = number,
            }
        }
    }

    fn change_headers(&self, headers: &mut HeaderMap, status: StatusCode, picked: &Picked, record: &Record) {
        let Self { connection, chain, asked, routed, member } = self;
        let table = connection.worker.view().snapshot.table_of(chain).cloned();
        let facts = Facts {
            request: Some(&asked.parts.headers),
            downstream_remote: Some(connection.client.peer),
            downstream_local: Some(connection.client.destination),
            upstream_remote: Some(picked.host.address),
            peer: connection.client.leaf.as_deref().and_then(uri),
            protocol: protocol(asked.parts.version),
            code: Some(status.as_u16()),
            flags: record.flags,
            route: &routed.route.name,
            ..Facts::default()
        };
        let of_table = table.as_ref().map(|table| &table.response_headers);
        let own = [&member.response_headers, &routed.route.response_headers, &routed.host.response_headers];
        for ops in own.into_iter().chain(of_table) {
            headers::apply(ops, headers, &|piece, own| facts.piece(piece, own));
        }
    }
}

fn respond_to_failure(
    connection: &Connection,
    asked: &Asked,
    routed: &Routed,
    member: &WeightedCluster,
    error: &ProxyError,
    record: Box<Record>,
) -> Response<ResponseBody> {
    tracing::debug!(route = %routed.route.name, rule = ?routed.route.provenance.as_ref().map(|from| &from.rule), cluster = %member.name, %error, "request failed");
    let mut response = reply::failure(error, record);
    let facts = Facts {
        request: Some(&asked.parts.headers),
        downstream_remote: Some(connection.client.peer),
        downstream_local: Some(connection.client.destination),
        code: Some(response.status().as_u16()),
        route: &routed.route.name,
        ..Facts::default()
    };
    for ops in [&member.response_headers, &routed.route.response_headers, &routed.host.response_headers] {
        headers::apply(ops, response.headers_mut(), &|piece, own| facts.piece(piece, own));
    }
    response
}
