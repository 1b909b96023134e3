//! One request, from its headers to its answer.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use engine::decide::{fault, matching, rewrite};
use engine::ir::fault::AbortStatus;
use engine::ir::listener::{Direction, HttpChain, HttpFilter, ServerHeader};
use engine::ir::route::{self, RouteAction};
use engine::snapshot::{NoRoute, Routed};
use http::header::{CONNECTION, HeaderValue, SERVER};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::cors::{self, Verdict};
use super::forward::forward;
use super::forwarded;
use super::headers::{self, Facts};
use super::intake::{self, Refused, Target};
use super::record::{LogPart, Record};
use super::reply;
use super::serve::Connection;
use super::upgrade;
use crate::error::{Flag, ProxyError};
use crate::listen::live::Ending;
use crate::telemetry::access_log::Entry;
use crate::telemetry::istio::{Reporter, RequestProtocol, Security};

/// A request as it is decided about.
#[derive(Debug)]
pub struct Asked {
    /// Its method, headers, version.
    pub parts: Parts,
    /// What it is for.
    pub target: Target,
    /// Whether the client spoke `https`.
    pub https: bool,
    /// The client's address.
    pub source: IpAddr,
}

impl Asked {
    /// The request as the engine sees it.
    pub fn view(&self) -> route::Request<'_> {
        route::Request {
            method: &self.parts.method,
            scheme: if self.https { "https" } else { "http" },
            authority: self.target.authority(),
            path: self.target.path.as_str(),
            headers: &self.parts.headers,
            source: Some(self.source),
        }
    }
}

/// Answers a request.
pub async fn exchange(connection: Rc<Connection>, request: Request<Incoming>) -> Response<ResponseBody> {
    let chain = connection.chain();
    connection.worker.recorder.envoy().downstream_rq.add(1);
    // Who we are is for the mesh only: a client in plaintext may be anyone.
    let asked_for_metadata = chain.direction == Direction::Inbound
        && connection.client.leaf.is_some()
        && request.headers().contains_key(xds::peer::HEADER)
        && exchanges_metadata(&chain);
    let version = request.version();
    let mut response = answer(&connection, &chain, request).await;
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    match chain.server_header {
        ServerHeader::Overwrite => put_server(headers, &chain),
        ServerHeader::AppendIfAbsent if !headers.contains_key(SERVER) => put_server(headers, &chain),
        ServerHeader::AppendIfAbsent | ServerHeader::PassThrough => {}
    }
    if asked_for_metadata {
        headers.insert(xds::peer::HEADER, connection.worker.own.header.clone());
        headers.insert(xds::peer::ID_HEADER, connection.worker.own.id.clone());
    }
    if connection.worker.draining.get() {
        // HTTP/1: this answer is the connection's last. HTTP/2: GOAWAY, if the connection came after the drain began.
        if version != Version::HTTP_2 && !upgraded {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        connection.entered.open.end(Ending::Gracefully);
    }
    // The version on the way back is the client's, whatever the endpoint spoke.
    *response.version_mut() = version;
    response
}

fn put_server(headers: &mut http::HeaderMap, chain: &HttpChain) {
    if let Some(name) = &chain.server_name {
        headers.insert(SERVER, name.clone());
    }
}

fn exchanges_metadata(chain: &HttpChain) -> bool {
    chain.filters.contains(&HttpFilter::PeerMetadata)
}

async fn answer(
    connection: &Rc<Connection>,
    chain: &Arc<HttpChain>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let worker = &connection.worker;
    let (mut parts, body) = request.into_parts();
    let mut record = begin(connection, chain, &parts);
    let target = match intake::read(&parts, chain, connection.client.destination.port()) {
        Ok(target) => target,
        Err(Refused::Failed(error)) => return reply::failure(&error, record),
        Err(Refused::Redirect(path)) => return reply::redirect(307, &path, record),
    };
    headers::strip_named(&mut parts.headers);
    let identity = worker.identity();
    // Only said beside who the client is.
    let told = identity.as_ref().filter(|_| connection.client.leaf.is_some());
    let own = told.map(|identity| identity.spiffe.to_string());
    let client = forwarded::Client {
        address: connection.client.peer,
        tls: connection.client.tls,
        peer: connection.client.leaf.as_deref(),
        own: own.as_deref(),
    };
    let random = || u128::from(worker.random()) << 64 | u128::from(worker.random());
    let (source, https) = forwarded::set(&mut parts.headers, chain, client, random);
    peer_metadata(connection, chain, &mut parts, &mut record, own.as_deref());
    let asked = Asked { parts, target, https, source };
    log(connection, chain, &asked, &mut record);

    let view = worker.view();
    let routed = view.snapshot.route(chain, &asked.view(), worker.random());
    drop(view);
    let routed = match routed {
        Ok(routed) => routed,
        Err(refused) => {
            record.service = worker.recorder.service(None, "", fallback_host(chain, &asked));
            return no_route(refused, chain, &asked, record);
        }
    };
    if let Some(log) = &mut record.log {
        log.entry.route = Some(routed.route.name.clone());
    }
    let mut origin = None;
    for filter in &chain.filters {
        match filter {
            HttpFilter::Cors => {
                let Some(policy) = &routed.route.cors else { continue };
                match cors::judge(policy, &asked.parts) {
                    Verdict::Forward(allowed) => origin = allowed,
                    Verdict::Preflight(headers) => {
                        let mut response = reply::empty(cors::PREFLIGHT, record);
                        response.headers_mut().extend(headers);
                        return response;
                    }
                }
            }
            HttpFilter::Fault(own) => {
                let Some(rule) = routed.route.fault.as_ref().or(own.as_ref()) else { continue };
                match inject(connection, chain, &asked, &routed, rule, record).await {
                    Ok(untouched) => record = untouched,
                    Err(response) => return *response,
                }
            }
            HttpFilter::Alpn | HttpFilter::PeerMetadata | HttpFilter::Stats | HttpFilter::GrpcStats => {}
        }
    }
    let policy = routed.route.cors.clone();
    let mut response = act(connection, chain, asked, body, routed, record).await;
    if let (Some(policy), Some(origin)) = (policy, origin) {
        cors::respond(&policy, origin, response.headers_mut());
    }
    response
}

#[expect(clippy::unnecessary_box_returns, reason = "it stays boxed until the response has ended")]
fn begin(connection: &Rc<Connection>, chain: &HttpChain, parts: &Parts) -> Box<Record> {
    let worker = &connection.worker;
    let inbound = chain.direction == Direction::Inbound;
    let reporter = if inbound { Reporter::Destination } else { Reporter::Source };
    let mut record = Box::new(Record::new(worker.clone(), reporter));
    record.counted = chain.filters.contains(&HttpFilter::Stats);
    if matching::is_grpc(&parts.headers) {
        record.protocol = RequestProtocol::Grpc;
    }
    if inbound {
        record.destination = worker.recorder.own;
        record.source_principal = connection.principal;
        if connection.client.leaf.is_some() {
            record.security = Security::MutualTls;
        }
    } else {
        record.source = worker.recorder.own;
    }
    record
}

/// Reads who asked from the peer's metadata, and takes the headers away: they are between proxies. Only a client that has proved
/// its identity is believed, and only that it is of its own namespace.
fn peer_metadata(
    connection: &Connection,
    chain: &HttpChain,
    parts: &mut Parts,
    record: &mut Record,
    own: Option<&str>,
) {
    if chain.direction == Direction::Inbound {
        if let Some(header) = parts.headers.get(xds::peer::HEADER)
            && let Some(leaf) = connection.client.leaf.as_deref()
        {
            let mut last = connection.last_peer.borrow_mut();
            record.source = match &*last {
                Some((same, number)) if same == header => *number,
                _ => {
                    let number = connection.worker.recorder.peer_by_header(header.as_bytes(), leaf);
                    // A copy: the header as it came holds on to the connection's whole read buffer.
                    let copy = HeaderValue::from_bytes(header.as_bytes()).unwrap_or_else(|_| header.clone());
                    *last = Some((copy, number));
                    number
                }
            };
        }
        if connection.client.leaf.is_some() {
            record.destination_principal = connection.worker.recorder.principal(own);
        }
    }
    parts.headers.remove(xds::peer::HEADER);
    parts.headers.remove(xds::peer::ID_HEADER);
}

/// Istio takes the request's host for the service only on a client's side.
pub(super) fn fallback_host<'a>(chain: &HttpChain, asked: &'a Asked) -> Option<&'a str> {
    (chain.direction == Direction::Outbound).then(|| asked.target.authority())
}

fn log(connection: &Connection, chain: &HttpChain, asked: &Asked, record: &mut Record) {
    let Some(lines) = connection.worker.lines(&chain.access_logs) else { return };
    let client = &connection.client;
    let entry = Entry {
        method: asked.parts.method.as_str().into(),
        path: asked.target.original.as_ref().unwrap_or(&asked.target.path).as_str().into(),
        authority: asked.target.authority().into(),
        protocol: protocol(asked.parts.version),
        request: lines.request(&asked.parts.headers),
        downstream_local: Some(client.destination),
        downstream_remote: Some(client.peer),
        sni: client.sni.clone(),
        peer: client.leaf.as_deref().and_then(crate::tcp::proxy::uri).map(Into::into),
        ..Entry::default()
    };
    record.log = Some(Box::new(LogPart { lines, time: SystemTime::now(), entry }));
}

/// A version as Envoy's logs write it.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn no_route(refused: NoRoute, chain: &HttpChain, asked: &Asked, record: Box<Record>) -> Response<ResponseBody> {
    match refused {
        NoRoute::TlsRequired => {
            let host = engine::decide::host::without_port(asked.target.authority());
            reply::redirect(301, &format!("https://{host}{}", asked.target.path), record)
        }
        NoRoute::Table => {
            let name = match &chain.routes {
                engine::ir::listener::RouteSource::Named(name) => name.to_string(),
                engine::ir::listener::RouteSource::Inline(table) => table.name.to_string(),
            };
            reply::failure(&ProxyError::NoRouteConfiguration(name), record)
        }
        NoRoute::Host | NoRoute::Route => reply::failure(&ProxyError::NoRoute, record),
    }
}

/// Delays or aborts the request as the rule says; `Err` is the answer of an aborted one.
async fn inject(
    connection: &Rc<Connection>,
    chain: &HttpChain,
    asked: &Asked,
    routed: &Routed,
    rule: &engine::ir::fault::Fault,
    mut record: Box<Record>,
) -> Result<Box<Record>, Box<Response<ResponseBody>>> {
    let worker = &connection.worker;
    let injected = fault::inject(rule, &asked.view(), (worker.random(), worker.random()));
    if let Some(delay) = injected.delay {
        record.flags.set(Flag::DI);
        tokio::time::sleep(delay).await;
    }
    let Some(abort) = injected.abort else { return Ok(record) };
    // The metrics say which service the fault stands in for.
    if let RouteAction::Forward(forward) = &routed.route.action
        && let Some(cluster) = forward.clusters.members.first()
        && let Some(state) = worker.clusters.get(&cluster.name)
    {
        record.service = crate::tcp::proxy::service(worker, &state, fallback_host(chain, asked));
    }
    Err(Box::new(match abort {
        AbortStatus::Http(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply::failure(&ProxyError::FaultAbort(status), record)
        }
        AbortStatus::Grpc(status) => reply::grpc_abort(status, record),
    }))
}

async fn act(
    connection: &Rc<Connection>,
    chain: &Arc<HttpChain>,
    asked: Asked,
    body: Incoming,
    routed: Routed,
    record: Box<Record>,
) -> Response<ResponseBody> {
    let route = routed.route.clone();
    match &route.action {
        RouteAction::Redirect(redirect) => {
            let location = rewrite::location(redirect, &route.matches.path, &asked.view());
            with_route_headers(connection, &asked, &routed, reply::redirect(redirect.status, &location, record))
        }
        RouteAction::Direct(direct) => {
            let response = reply::direct(direct.status, direct.body.clone(), record);
            with_route_headers(connection, &asked, &routed, response)
        }
        RouteAction::Forward(rule) => {
            let upgrade = match upgrade::wanted(&asked.parts, chain, rule) {
                Ok(upgrade) => upgrade,
                Err(error) => return reply::failure(&error, record),
            };
            forward(connection, chain, asked, body, &routed, rule, upgrade, record).await
        }
    }
}

/// Adds what route and virtual host add to responses.
fn with_route_headers(
    connection: &Connection,
    asked: &Asked,
    routed: &Routed,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let facts = Facts {
        request: Some(&asked.parts.headers),
        downstream_remote: Some(connection.client.peer),
        downstream_local: Some(connection.client.destination),
        protocol: protocol(asked.parts.version),
        code: Some(response.status().as_u16()),
        route: &routed.route.name,
        ..Facts::default()
    };
    for ops in [&routed.route.response_headers, &routed.host.response_headers] {
        headers::apply(ops, response.headers_mut(), &|piece, own| facts.piece(piece, own));
    }
    response
}

/// How large the future of a request is.
#[cfg(test)]
pub(crate) fn size_of_future() -> usize {
    fn of<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    of(exchange)
}
