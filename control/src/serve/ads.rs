//! The discovery service: one task per stream.
//!
//! Comes in: the client's requests, and generations of the mesh. Goes out: what [`Subscriber`] says. A stream waits for
//! nobody but its own client, and of several generations that pass meanwhile it sees the last.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::BoxFuture;
use tonic::metadata::MetadataMap;
use translate::Proxy;
use xds::node::ProxyNode;
use xds::provenance::Provenance;
use xds::types::core::Node;
use xds::types::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::authenticate::{Authenticator, authorize};
use super::connections::{Connections, Entered};
use super::tls::Peer;
use super::wire::{Discovery, Frame, Outgoing, Requests};
use crate::metrics::Metrics;
use crate::push::cache::Generation;
use crate::push::resource::Kind;
use crate::push::subscriber::{Answer, Protocol, Subscriber, View};

/// A stream is closed after this long, so that proxies spread over replicas that came later.
const RENEWAL: Duration = Duration::from_mins(30);
/// ... and up to this much later, so that not all come back at once.
const RENEWAL_JITTER: Duration = Duration::from_mins(3);
/// The first request must come in this time.
const FIRST_REQUEST: Duration = Duration::from_secs(15);
/// A client that takes nothing for this long is gone.
const SEND: Duration = Duration::from_mins(1);
/// Requests that are decoded at once. A proxy that comes back names all that it holds, which takes ten times as much
/// memory decoded; a thousand of them at once must not.
const DECODING: usize = 8;

/// A response of this size is a large one.
const LARGE: usize = 16 * 1024;
/// Large responses that are under way at once, over all streams: what waits in buffers for slow clients is bounded.
const UNDER_WAY: usize = 256;
/// A large response counts as under way until it is answered, or for this long: slow clients hold up only themselves.
const LARGE_TURN: Duration = Duration::from_secs(2);

/// The discovery service.
pub(crate) struct Ads {
    pub(crate) authenticator: Authenticator,
    pub(crate) generations: watch::Receiver<Option<Arc<Generation>>>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) metrics: Arc<Metrics>,
    /// Streams end, spread over [`Ads::drain`].
    pub(crate) stopping: CancellationToken,
    /// The time over which streams end when the process stops.
    pub(crate) drain: Duration,
    pub(crate) turns: Turns,
}

/// What streams take turns at.
pub(crate) struct Turns {
    /// Decoding and translating.
    work: Semaphore,
    /// Having a large response under way.
    large: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { work: Semaphore::new(DECODING), large: Arc::new(Semaphore::new(UNDER_WAY)) }
    }
}

impl Discovery for Ads {
    fn stream(
        self: Arc<Self>,
        protocol: Protocol,
        head: http::request::Parts,
        mut requests: Requests,
        outgoing: Outgoing,
    ) -> BoxFuture<(), Status> {
        Box::pin(async move {
            let Some(peer) = head.extensions.get::<Peer>().cloned() else {
                self.metrics.internal_errors.inc();
                return Err(Status::internal("the connection is not known"));
            };
            let identity = if peer.authenticate {
                let metadata = MetadataMap::from_headers(head.headers);
                Some(self.authenticator.identity(&peer, &metadata).await?)
            } else {
                None
            };
            tokio::spawn(async move {
                let ended = match self.enter(protocol, &peer, identity, &mut requests).await {
                    Ok(None) => Ok(()),
                    Ok(Some((stream, first))) => stream.run(first, requests, &outgoing).await,
                    Err(status) => Err(status),
                };
                if let Err(status) = ended {
                    let _ = outgoing.send(Err(status)).await; // the client may be gone
                }
            });
            Ok(())
        })
    }
}

/// A request of either protocol.
enum Incoming {
    Delta(DeltaDiscoveryRequest),
    StateOfTheWorld(DiscoveryRequest),
}

impl Incoming {
    fn decode(protocol: Protocol, bytes: Bytes) -> Result<Self, Status> {
        let decoded = match protocol {
            Protocol::Delta => DeltaDiscoveryRequest::decode(bytes).map(Self::Delta),
            Protocol::StateOfTheWorld => DiscoveryRequest::decode(bytes).map(Self::StateOfTheWorld),
        };
        decoded.map_err(|error| Status::invalid_argument(format!("the request cannot be decoded: {error}")))
    }

    fn node(&self) -> Option<&Node> {
        match self {
            Self::Delta(request) => request.node.as_ref(),
            Self::StateOfTheWorld(request) => request.node.as_ref(),
        }
    }
}

/// One stream.
struct Stream {
    ads: Arc<Ads>,
    protocol: Protocol,
    proxy: Arc<Proxy>,
    subscriber: Subscriber,
    connection: Entered,
    /// What the proxy shall have.
    view: Arc<View>,
    /// When the change was seen that it comes from; a stream keeps no generation, which would keep a whole mesh.
    since: Instant,
    is_change: bool,
    /// The generation was accepted whole.
    settled: bool,
    /// The turn of a large response that is under way, and when it ends at the latest.
    large: Option<(OwnedSemaphorePermit, tokio::time::Instant)>,
    label: String,
    version: String,
}

impl Ads {
    /// Reads a stream's first request and finds out whom it is for. `None` if the client left before it said.
    async fn enter(
        self: &Arc<Self>,
        protocol: Protocol,
        peer: &Peer,
        identity: Option<names::identity::SpiffeId>,
        requests: &mut Requests,
    ) -> Result<Option<(Stream, Bytes)>, Status> {
        let first = tokio::time::timeout(FIRST_REQUEST, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))??;
        let Some(first) = first else { return Ok(None) };
        // The node stands in the request's first field; the rest is decoded when it is the stream's turn.
        let incoming = self.decode(protocol, first.clone()).await?;
        let node =
            ProxyNode::from_node(incoming.node()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        drop(incoming);
        if let Some(identity) = &identity {
            authorize(identity, &node)?;
        }
        let mut proxy = Proxy::from_node(&node);
        if let Some(identity) = &identity {
            // What is proved counts more than what is said.
            proxy.service_account.clone_from(&identity.service_account);
        }
        let proxy = Arc::new(proxy);
        let mut generations = self.generations.clone();
        let (generation, view) = loop {
            // A control plane that does not know the mesh yet must not say that it is empty.
            let generation = tokio::select! {
                known = generations.wait_for(Option::is_some) => known.ok().and_then(|known| known.clone()),
                () = self.stopping.cancelled() => None,
            };
            let generation = generation.ok_or_else(|| Status::unavailable("the control plane stops"))?;
            if let Some(view) = self.view(&generation, &proxy, None).await? {
                break (generation, view);
            }
        };
        let connection = self.connections.enter(node, peer.address, identity, protocol);
        connection.set_view(Arc::clone(&view));
        let version = connection.node.metadata.istio_version.clone();
        self.metrics.xds.with([&version]).inc();
        let label = super::connections::proxy_name(&connection.node);
        tracing::info!(proxy = %label, peer = ?peer.address, "connected");
        let subscriber = Subscriber::new(protocol, !proxy.virtual_hosts);
        let stream = Stream {
            ads: Arc::clone(self),
            protocol,
            proxy,
            subscriber,
            connection,
            view,
            since: generation.since,
            is_change: generation.is_change,
            settled: false,
            large: None,
            label,
            version,
        };
        Ok(Some((stream, first)))
    }

    async fn decode(&self, protocol: Protocol, bytes: Bytes) -> Result<Incoming, Status> {
        let _turn = self.turns.work.acquire().await;
        Incoming::decode(protocol, bytes)
    }

    /// Translating may take a while for the first proxy of its kind, and must not hold up other streams meanwhile.
    async fn view(
        &self,
        generation: &Arc<Generation>,
        proxy: &Arc<Proxy>,
        before: Option<&Arc<View>>,
    ) -> Result<Option<Arc<View>>, Status> {
        let _turn = self.turns.work.acquire().await;
        let (generation, proxy, before) = (Arc::clone(generation), Arc::clone(proxy), before.cloned());
        tokio::task::spawn_blocking(move || generation.view(&proxy, before.as_ref())).await.map_err(|error| {
            self.metrics.internal_errors.inc();
            tracing::error!(%error, "the configuration of a proxy could not be made");
            Status::internal("the configuration could not be made")
        })
    }
}

impl Stream {
    async fn run(mut self, first: Bytes, mut requests: Requests, frames: &Outgoing) -> Result<(), Status> {
        let mut generations = self.ads.generations.clone();
        let stopping = self.ads.stopping.clone();
        let mut end: Pin<Box<tokio::time::Sleep>> = Box::pin(tokio::time::sleep(RENEWAL + jitter(RENEWAL_JITTER)));
        let mut leaving = false;
        self.request(first).await?;
        loop {
            if !self.send(frames).await? {
                return Ok(());
            }
            let turn = self.large.as_ref().map(|(_, until)| *until);
            tokio::select! {
                () = until(turn) => self.large = None,
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        tracing::debug!(proxy = %self.label, %status, "the client is gone");
                        return Ok(());
                    }
                },
                changed = generations.changed() => {
                    let latest = generations.borrow_and_update().clone();
                    if let (Ok(()), Some(latest)) = (changed, latest) {
                        self.turn_to(latest).await?;
                    } else {
                        return Err(Status::unavailable("the control plane stops"));
                    }
                }
                () = &mut end => {
                    let why = if leaving { "the control plane stops" } else { "the stream is to be renewed" };
                    return Err(Status::unavailable(why));
                }
                () = stopping.cancelled(), if !leaving => {
                    leaving = true;
                    end.as_mut().reset(tokio::time::Instant::now() + jitter(self.ads.drain));
                }
            }
        }
    }

    /// Sees the mesh as it is in `generation`.
    async fn turn_to(&mut self, generation: Arc<Generation>) -> Result<(), Status> {
        let Some(view) = self.ads.view(&generation, &self.proxy, Some(&self.view)).await? else {
            return Ok(()); // there is a later one, and the stream is about to hear of it
        };
        (self.since, self.is_change) = (generation.since, generation.is_change);
        self.settled = false;
        if !Arc::ptr_eq(&view, &self.view) {
            self.connection.set_view(Arc::clone(&view));
            self.view = view;
        }
        Ok(())
    }

    /// Takes a request.
    async fn request(&mut self, bytes: Bytes) -> Result<(), Status> {
        let _turn = self.ads.turns.work.acquire().await;
        let answer = match Incoming::decode(self.protocol, bytes)? {
            Incoming::Delta(request) => self.subscriber.delta(request, &self.view),
            Incoming::StateOfTheWorld(request) => self.subscriber.state_of_the_world(request, &self.view),
        };
        let metrics = &self.ads.metrics;
        if matches!(answer, Answer::Ack { .. } | Answer::Nack { .. }) {
            self.large = None;
        }
        match answer {
            Answer::Subscribed => {}
            Answer::Ack { kind } => {
                metrics.refusing[kind.index()].remove([&self.label, REFUSED]);
                self.report(kind);
            }
            Answer::Nack { kind, reason, names } => {
                metrics.rejects.with([kind.type_url()]).inc();
                metrics.refusing[kind.index()].with([&self.label, REFUSED]).set(1);
                self.report(kind);
                tracing::warn!(
                    proxy = %self.label,
                    "{} refused: {reason}; the proxy keeps what it had. From: {}",
                    kind.short().to_uppercase(),
                    self.provenance(kind, &reason, &names),
                );
            }
            Answer::Stale => metrics.expired_nonces.inc(),
            Answer::UnknownType(type_url) => {
                tracing::debug!(proxy = %self.label, %type_url, "a kind of resource that is not served");
            }
        }
        Ok(())
    }

    /// Sends what the client is owed. False if it is gone.
    async fn send(&mut self, frames: &Outgoing) -> Result<bool, Status> {
        while let Some(response) = self.subscriber.next(&self.view) {
            let kind = response.kind;
            let frame = Frame(response);
            tracing::debug!(
                proxy = %self.label,
                "{}: {} resources, {} removed, {} bytes",
                kind.short(), frame.0.resources.len(), frame.0.removed.len(), frame.len(),
            );
            if frame.len() > LARGE {
                let turn = Arc::clone(&self.ads.turns.large).acquire_owned().await;
                self.large = turn.ok().map(|turn| (turn, tokio::time::Instant::now() + LARGE_TURN));
            }
            match tokio::time::timeout(SEND, frames.send(Ok(frame))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(false),
                Err(_) => return Err(Status::deadline_exceeded("the client takes nothing")),
            }
            self.ads.metrics.pushes.with([kind.short()]).inc();
            self.ads.metrics.push_time.with([kind.short()]).observe(self.since.elapsed());
            self.report(kind);
        }
        if !self.settled && !self.subscriber.is_waiting() {
            self.settled = true;
            if self.is_change {
                self.ads.metrics.convergence_time.observe(self.since.elapsed());
            }
        }
        Ok(true)
    }

    fn report(&self, kind: Kind) {
        self.connection.set_progress(kind, self.subscriber.progress(kind));
    }

    /// The rules that what was refused came from: those of the resources that the reason names, else of all of them.
    fn provenance(&self, kind: Kind, reason: &str, names: &[Arc<str>]) -> String {
        const AT_MOST: usize = 5;
        let named: Vec<&Arc<str>> = names.iter().filter(|name| reason.contains(&***name)).collect();
        let suspects = if named.is_empty() { names.iter().collect() } else { named };
        let mut origins: Vec<String> = suspects
            .iter()
            .take(AT_MOST)
            .map(|name| {
                let origin = self.view[kind.index()].get(name).and_then(|resource| resource.provenance());
                match origin {
                    Some(Provenance { rule, generation, field, .. }) if !rule.is_empty() => {
                        format!("{name} ({rule} generation {generation} {field})")
                    }
                    _ => name.to_string(),
                }
            })
            .collect();
        if suspects.len() > AT_MOST {
            origins.push(format!("and {} more", suspects.len() - AT_MOST));
        }
        origins.join(", ")
    }
}

/// The label `err` of `pilot_xds_*_reject`: the reason itself is in the log, and would make a series of its own each.
const REFUSED: &str = "refused";

impl Drop for Stream {
    fn drop(&mut self) {
        self.ads.metrics.xds.with([&self.version]).dec();
        for kind in Kind::ALL {
            self.ads.metrics.refusing[kind.index()].remove([&self.label, REFUSED]);
        }
        tracing::info!(proxy = %self.label, "disconnected");
    }
}

/// Sleeps until then; for ever if there is no then.
async fn until(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn jitter(up_to: Duration) -> Duration {
    up_to.mul_f64(fastrand::f64())
}
