//! A connection for one HTTP request: an idle one, a shared HTTP/2 one, or a new one.

use std::cell::Cell;
use std::rc::Rc;

use engine::ir::cluster::UpstreamHttp;
use futures::FutureExt;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::breaker::Permit;
use super::cluster::{ClusterState, Picked};
use super::connect::{Connection, Counted, connect};
use super::host::{About, Connecting, Host, Idle, Kind, Multiplexed};
use crate::error::ProxyError;
use crate::http::body::RequestBody;
use crate::http::local::Local;
use crate::net::ClientAddress;
use crate::tls::client::Inside;
use crate::workers::Worker;

/// What an HTTP/2 connection to an endpoint is made of when it is new.
pub(super) type Made = Multiplexed;

/// A connection for one request.
#[derive(Debug)]
pub struct Lease {
    host: Rc<Host>,
    cluster: Rc<ClusterState>,
    about: Rc<About>,
    sender: Sender,
    /// Whether the connection served a request before: it may turn out to be closed.
    pub reused: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// The most idle HTTP/1 connections that one worker keeps to one endpoint.
const MOST_IDLE: usize = 64;
/// HTTP/2 windows: enough for a fast stream in the same data centre.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The most header bytes of a response, as Envoy's default for requests.
const MAX_HEADERS: u32 = 60 * 1024;

/// Which HTTP is spoken to a cluster for a request that came with `downstream`; an upgrade needs HTTP/1.1.
pub fn inside(http: UpstreamHttp, downstream: Version, upgrade: bool) -> Inside {
    match http {
        _ if upgrade => Inside::Http1,
        UpstreamHttp::Http2 => Inside::Http2,
        UpstreamHttp::UseDownstream if downstream == Version::HTTP_2 => Inside::Http2,
        UpstreamHttp::Http1 | UpstreamHttp::UseDownstream => Inside::Http1,
        UpstreamHttp::Auto => Inside::Either,
    }
}

/// Finds or makes a connection to an endpoint. `host` is the request's host, `client` the address that the endpoint is to see.
pub async fn acquire(
    worker: &Rc<Worker>,
    cluster: &Rc<ClusterState>,
    picked: &Picked,
    inside: Inside,
    host: Option<&str>,
    client: Option<ClientAddress>,
) -> Result<Lease, ProxyError> {
    let kind = cluster.kind(worker, picked, host, client);
    if matches!(inside, Inside::Http2 | Inside::Either) {
        if let Some(found) = shared(&picked.host, &kind) {
            return Ok(lease_http2(cluster, &picked.host, found, true));
        }
        if inside == Inside::Http2 {
            return http2_once(worker, cluster, picked, kind).await;
        }
    }
    let mut pending: Option<Permit> = None;
    loop {
        if let Some(idle) = idle(cluster, &picked.host, &kind).await {
            return Ok(idle);
        }
        if pending.is_none() {
            let limit = cluster.config().settings.breakers.max_pending_requests;
            pending = Some(
                cluster
                    .common
                    .breakers
                    .pending
                    .take(limit)
                    .ok_or_else(|| overflow(cluster, "http1MaxPendingRequests"))?,
            );
        }
        let freed = cluster.freed.notified();
        if let Some(counted) = cluster.place(&picked.host) {
            let connection = connect(worker, cluster, picked, &kind, inside, counted).await?;
            return handshake(cluster, &picked.host, kind, connection).await;
        }
        // Another worker's connection may be the one that ends: its notice does not reach us.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(25), freed).await;
    }
}

fn overflow(cluster: &ClusterState, limit: &'static str) -> ProxyError {
    cluster.cells.rq_overflow.add(1);
    ProxyError::Overflow { cluster: cluster.config().name.to_string(), limit }
}

async fn idle(cluster: &Rc<ClusterState>, host: &Rc<Host>, kind: &Kind) -> Option<Lease> {
    let kept = cluster.idle();
    loop {
        // The last one back is the first one out: the others age and are closed. Where clients' addresses are kept it is the
        // last one of this client, elsewhere simply the last.
        let Idle { mut sender, about, since } = {
            let mut idle = host.idle.borrow_mut();
            let last = idle.iter().rposition(|idle| idle.about.kind.client == kind.client)?;
            idle.remove(last)
        };
        if since.elapsed() >= kept || about.kind != *kind || sender.is_closed() {
            continue;
        }
        if sender.ready().await.is_ok() {
            return Some(Lease {
                host: host.clone(),
                cluster: cluster.clone(),
                about,
                sender: Sender::Http1(sender),
                reused: true,
            });
        }
    }
}

fn shared(host: &Host, kind: &Kind) -> Option<Multiplexed> {
    let mut shared = host.shared.borrow_mut();
    shared.retain(|shared| !shared.sender.is_closed());
    shared.iter().find(|shared| shared.about.kind == *kind).cloned()
}

fn lease_http2(cluster: &Rc<ClusterState>, host: &Rc<Host>, found: Multiplexed, reused: bool) -> Lease {
    found.last.set(Instant::now());
    Lease {
        host: host.clone(),
        cluster: cluster.clone(),
        about: found.about,
        sender: Sender::Http2(found.sender),
        reused,
    }
}

/// One HTTP/2 connection is made, however many requests ask for it at the same time.
async fn http2_once(
    worker: &Rc<Worker>,
    cluster: &Rc<ClusterState>,
    picked: &Picked,
    kind: Kind,
) -> Result<Lease, ProxyError> {
    let host = &picked.host;
    let present =
        host.connecting.borrow().as_ref().filter(|making| making.kind == kind).map(|making| making.outcome.clone());
    let outcome = if let Some(outcome) = present {
        outcome
    } else {
        let counted = cluster.place(host).ok_or_else(|| overflow(cluster, "maxConnections"))?;
        let (worker, owner, picked, wanted) = (worker.clone(), cluster.clone(), picked.clone(), kind.clone());
        let making = async move {
            let outcome = async {
                let connection = connect(&worker, &owner, &picked, &wanted, Inside::Http2, counted).await?;
                http2(&picked.host, wanted, connection).await
            }
            .await;
            picked.host.connecting.borrow_mut().take();
            outcome
        };
        let outcome = making.boxed_local().shared();
        *host.connecting.borrow_mut() = Some(Connecting { kind, outcome: outcome.clone() });
        // It goes on when the request that began it goes away: others may wait for it.
        tokio::task::spawn_local(outcome.clone().map(drop));
        outcome
    };
    Ok(lease_http2(cluster, host, outcome.await?, false))
}

async fn handshake(
    cluster: &Rc<ClusterState>,
    host: &Rc<Host>,
    kind: Kind,
    connection: Connection,
) -> Result<Lease, ProxyError> {
    if connection.alpn.as_deref() == Some(b"h2") {
        return Ok(lease_http2(cluster, host, http2(host, kind, connection).await?, false));
    }
    let failed = protocol_error(host);
    let Connection { io, peer, local, counted, .. } = connection;
    let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(io)).await.map_err(failed)?;
    let about = about(kind, peer, local);
    drive(driver.with_upgrades(), counted, &about);
    Ok(Lease { host: host.clone(), cluster: cluster.clone(), about, sender: Sender::Http1(sender), reused: false })
}

async fn http2(host: &Rc<Host>, kind: Kind, connection: Connection) -> Result<Multiplexed, ProxyError> {
    let failed = protocol_error(host);
    let Connection { io, peer, local, counted, .. } = connection;
    let (sender, driver) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .handshake(TokioIo::new(io))
        .await
        .map_err(failed)?;
    let about = about(kind, peer, local);
    drive(driver, counted, &about);
    let made = Multiplexed { sender, about, last: Rc::new(Cell::new(Instant::now())) };
    if !host.gone.get() {
        host.shared.borrow_mut().push(made.clone());
    }
    Ok(made)
}

fn about(kind: Kind, peer: Option<std::sync::Arc<crate::tls::verify::Leaf>>, local: std::net::SocketAddr) -> Rc<About> {
    Rc::new(About { kind, peer, local, requests: Cell::new(0), closed: Cell::new(false) })
}

fn protocol_error(host: &Host) -> impl Fn(hyper::Error) -> ProxyError + use<> {
    let endpoint = host.address.to_string();
    move |error| ProxyError::UpstreamProtocol { endpoint: endpoint.clone(), reason: error.to_string() }
}

/// A connection's own task; it ends with the connection.
fn drive(driver: impl Future<Output = hyper::Result<()>> + 'static, counted: Counted, about: &Rc<About>) {
    let weak = Rc::downgrade(about);
    tokio::task::spawn_local(async move {
        let _counted = counted;
        if let Err(error) = driver.await {
            tracing::debug!(%error, "upstream connection ended");
        }
        if let Some(about) = weak.upgrade() {
            about.closed.set(true);
        }
    });
}

impl Lease {
    /// Whether HTTP/2 is spoken.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// What is the same for all requests on the connection.
    pub fn about(&self) -> &Rc<About> {
        &self.about
    }

    /// Sends the request. If it was not sent, it comes back with the error.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Box<TrySendError<Request<RequestBody>>>> {
        self.about.requests.set(self.about.requests.get().saturating_add(1));
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await.map_err(Box::new),
            Sender::Http2(sender) => sender.try_send_request(request).await.map_err(Box::new),
        }
    }

    /// The response has been read to its end: the connection may serve another request.
    pub fn done(self) {
        let Sender::Http1(sender) = self.sender else { return };
        let most = self.cluster.config().settings.max_requests_per_connection.unwrap_or(u32::MAX);
        let used_up = self.about.requests.get() >= most;
        let mut idle = self.host.idle.borrow_mut();
        if self.host.gone.get() || used_up || sender.is_closed() || idle.len() >= MOST_IDLE {
            return;
        }
        idle.push(Idle { sender, about: self.about, since: Instant::now() });
        drop(idle);
        self.cluster.freed.notify_one();
    }
}
