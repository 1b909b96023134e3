//! The threads that serve: N single-threaded runtimes, each with its own view of the configuration, its own pools and its own cells.
//!
//! What comes in: updates from the control thread, sockets that it made, the mesh identity. What goes out: traffic. Nothing here is
//! shared between workers but what is named so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::Snapshot;
use engine::ir::access_log::AccessLog;
use http::HeaderValue;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use xds::peer::PeerMetadata;

use crate::agent::lifecycle::Phase;
use crate::listen::live::Live;
use crate::listen::sockets::Handed;
use crate::net::Net;
use crate::telemetry::access_log::{Lines, Sink, Writer};
use crate::telemetry::istio::{Recorder, WorkerSeries};
use crate::tls::identity::Identity;
use crate::tls::server::ServerConfigs;
use crate::upstream::cluster::{Clusters, SharedClusters};
use crate::xds::publish::{Subscription, Update};

/// How often idle connections are looked at.
const TIDY: Duration = Duration::from_secs(5);
/// How often access logs are handed to their writer.
const FLUSH: Duration = Duration::from_secs(1);

/// One worker's state; lives on its thread.
#[derive(Debug)]
pub struct Worker {
    /// The network.
    pub net: Net,
    /// The configuration that new decisions are made by.
    view: RefCell<Rc<View>>,
    /// Clusters and their connections.
    pub clusters: Clusters,
    /// Connections of clients.
    pub live: Live,
    /// Metrics.
    pub recorder: Recorder,
    /// Access logs.
    pub logs: Sink,
    /// What we say of ourselves to peers.
    pub own: OwnMetadata,
    /// Whether clients are being told to go.
    pub draining: Cell<bool>,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    servers: RefCell<Rc<ServerConfigs>>,
    lines: RefCell<Vec<KnownLogs>>,
    random: RefCell<fastrand::Rng>,
}

/// The logs of a chain, and their formats once read.
type KnownLogs = (Box<[AccessLog]>, Option<Rc<Lines>>);

/// A worker's hold on a configuration: counted on its own thread, so that a request does not touch what other workers touch.
#[derive(Debug)]
pub struct View {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
}

/// What we say of ourselves to peers, ready to be sent.
#[derive(Clone, Debug)]
pub struct OwnMetadata {
    /// `x-envoy-peer-metadata`
    pub header: HeaderValue,
    /// `x-envoy-peer-metadata-id`
    pub id: HeaderValue,
}

impl OwnMetadata {
    /// Encodes what we say once for the life of the process.
    pub fn new(metadata: &PeerMetadata, node_id: &str) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { header: value(&metadata.encode()), id: value(node_id) }
    }
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// The network.
    pub net: Net,
    /// Who we are to peers.
    pub metadata: PeerMetadata,
    /// Our node id.
    pub node_id: String,
    /// The mesh identity.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// This worker's cells.
    pub series: Arc<WorkerSeries>,
    /// What all workers share of clusters.
    pub shared: Arc<SharedClusters>,
    /// The access logs' writer.
    pub log_writer: Writer,
    /// The seed of this worker's decisions by chance.
    pub seed: u64,
}

impl Worker {
    /// A worker without configuration.
    pub fn new(parts: Parts) -> Rc<Self> {
        let generation = parts.identity.borrow().as_ref().map_or(0, |identity| identity.generation);
        Rc::new(Self {
            net: parts.net,
            view: RefCell::new(Rc::new(View { snapshot: Arc::default() })),
            clusters: Clusters::new(parts.shared, parts.series.clone()),
            live: Live::default(),
            recorder: Recorder::new(parts.series, &parts.metadata),
            logs: Sink::new(parts.log_writer),
            own: OwnMetadata::new(&parts.metadata, &parts.node_id),
            draining: Cell::new(false),
            identity: parts.identity,
            servers: RefCell::new(Rc::new(ServerConfigs::new(generation))),
            lines: RefCell::default(),
            random: RefCell::new(fastrand::Rng::with_seed(parts.seed)),
        })
    }

    /// The configuration that is valid now.
    pub fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// The mesh identity, once there is one.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.borrow().clone()
    }

    /// The generation of the mesh identity; zero while there is none.
    pub fn generation(&self) -> u64 {
        self.identity.borrow().as_ref().map_or(0, |identity| identity.generation)
    }

    /// TLS configurations as a server, for the present identity.
    pub fn servers(&self) -> Rc<ServerConfigs> {
        let generation = self.generation();
        let mut servers = self.servers.borrow_mut();
        if servers.generation() != generation {
            *servers = Rc::new(ServerConfigs::new(generation));
        }
        servers.clone()
    }

    /// The access logs of a chain, read once.
    pub fn lines(&self, logs: &[AccessLog]) -> Option<Rc<Lines>> {
        if logs.is_empty() {
            return None;
        }
        let mut known = self.lines.borrow_mut();
        if let Some((_, lines)) = known.iter().find(|(known, _)| &**known == logs) {
            return lines.clone();
        }
        let lines = Lines::new(logs).map(Rc::new);
        known.push((logs.into(), lines.clone()));
        lines
    }

    /// Goes over to what changed.
    pub fn apply(self: &Rc<Self>, update: Update) {
        match update {
            Update::Endpoints { cluster, set } => self.clusters.endpoints(&cluster, set),
            Update::Removed { cluster } => self.clusters.removed(&cluster),
            Update::Snapshot(snapshot) => {
                self.clusters.update(&snapshot);
                *self.view.borrow_mut() = Rc::new(View { snapshot });
                self.lines.borrow_mut().clear();
                self.live.judge_again(&self.view());
            }
        }
    }

    /// Once in a while: closes what is idle, counts bytes of open connections.
    pub fn tidy(&self) {
        self.clusters.tidy();
        self.live.report();
    }

    /// Tells clients to go, now or as soon as their request is answered.
    pub fn drain(&self) {
        self.draining.set(true);
        self.live.drain();
    }
}

/// What the control thread gives to a worker's thread.
#[derive(Debug)]
pub struct Start {
    /// What the worker is made of.
    pub parts: Parts,
    /// The configuration, now and later.
    pub updates: Subscription,
    /// Sockets, now and later.
    pub sockets: mpsc::UnboundedReceiver<Handed>,
    /// When to drain and when to quit.
    pub phase: watch::Receiver<Phase>,
}

/// Runs a worker on the present thread until the process quits.
pub fn run(start: Start) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(start));
    // Connections that are still open end with the process.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(start: Start) {
    let Start { parts, mut updates, mut sockets, mut phase } = start;
    let worker = Worker::new(parts);
    // What is there already counts before the first connection does.
    while let Some(update) = updates.try_next() {
        worker.apply(update);
    }
    let mut tidy = tokio::time::interval(TIDY);
    let mut flush = tokio::time::interval(FLUSH);
    loop {
        tokio::select! {
            biased;
            changed = phase.changed() => {
                let now = *phase.borrow_and_update();
                if now >= Phase::Draining && !worker.draining.get() {
                    worker.drain();
                }
                if changed.is_err() || now == Phase::Quitting {
                    worker.logs.flush();
                    return;
                }
            }
            update = updates.next() => match update {
                Some(update) => worker.apply(update),
                None => return,
            },
            Some(handed) = sockets.recv() => crate::listen::accept::start(&worker, handed),
            _ = tidy.tick() => worker.tidy(),
            _ = flush.tick() => worker.logs.flush(),
        }
    }
}

/// How many workers: what is configured, else the CPU limit rounded up (for a sidecar at most 2), else 1.
pub fn count(configured: Option<usize>, cpu_limit: Option<f64>, sidecar: bool) -> usize {
    if let Some(configured) = configured.filter(|configured| *configured > 0) {
        return configured;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few CPUs")]
    let limit = cpu_limit.map_or(1, |limit| limit.ceil().max(1.0) as usize);
    if sidecar { limit.min(2) } else { limit }
}

/// The CPU limit of this process's cgroup (version 2, else 1); `None` if there is none.
pub fn cpu_limit() -> Option<f64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    if let Some(max) = read("/sys/fs/cgroup/cpu.max") {
        let (quota, period) = max.trim().split_once(' ')?;
        return Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?);
    }
    let quota: f64 = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?.trim().parse().ok()?;
    let period: f64 = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?.trim().parse().ok()?;
    (quota > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::{Parts, Start};
    use crate::agent::lifecycle::{Lifecycle, Phase};
    use crate::http::tests as world;
    use crate::listen::sockets::Sockets;
    use crate::net::Net;
    use crate::telemetry::istio::Registry;
    use crate::xds::publish::Publisher;

    /// Two workers' threads, real sockets: a gateway before a server.
    #[test]
    fn workers_serve_what_the_control_thread_hands_them() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut head = [0; 4096];
                    while stream.read(&mut head).is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
                    }
                });
            }
        });
        // A port that was free a moment ago.
        let gateway = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let snapshot = Arc::new(world::gateway(&gateway.to_string(), &upstream.to_string()));

        let (publisher, lifecycle, registry) = (Publisher::new(), Lifecycle::new(), Registry::new(2));
        let (identity, identities) = watch::channel(None);
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for series in &registry.workers {
            let (sender, sockets) = mpsc::unbounded_channel();
            senders.push(sender);
            let parts = Parts {
                net: Net::Host,
                metadata: xds::peer::PeerMetadata::default(),
                node_id: "router~127.0.0.1~g.d~d.svc.cluster.local".into(),
                identity: identities.clone(),
                series: series.clone(),
                shared: Arc::default(),
                log_writer: std::sync::mpsc::sync_channel(1).0,
                seed: 1,
            };
            let start = Start { parts, updates: publisher.subscribe(), sockets, phase: lifecycle.watch() };
            threads.push(std::thread::spawn(move || super::run(start)));
        }
        publisher.snapshot(snapshot.clone());
        let mut sockets = Sockets::new(senders);
        assert!(sockets.update(&snapshot).is_empty());
        for _ in 0..20 {
            let mut client = std::net::TcpStream::connect(gateway).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
        }
        lifecycle.advance(Phase::Quitting);
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        drop(identity);
        let served: u64 = registry.workers.iter().map(|worker| worker.envoy.downstream_rq.get()).sum();
        assert_eq!(served, 20);
    }

    #[test]
    fn how_many_workers() {
        for (name, configured, limit, sidecar, expected) in [
            ("configured", Some(3), Some(1.0), true, 3),
            ("zero is not configured", Some(0), None, true, 1),
            ("a limit is rounded up", None, Some(1.2), true, 2),
            ("a sidecar has at most two", None, Some(7.0), true, 2),
            ("a gateway follows its limit", None, Some(3.5), false, 4),
            ("no limit", None, None, false, 1),
        ] {
            assert_eq!(super::count(configured, limit, sidecar), expected, "{name}");
        }
    }
}
