//! The proxy as a process: the control thread, the workers, the way between them, and the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use xds::node::ProxyType;

use crate::admin::{LogLevel, Metrics};
use crate::agent::environment::Environment;
use crate::agent::lifecycle::{Lifecycle, Phase, told_to_end};
use crate::agent::readiness::Readiness;
use crate::agent::{self, Shared};
use crate::listen::drain::{self, DrainRules, Traffic};
use crate::listen::sockets::Sockets;
use crate::net::Net;
use crate::telemetry::access_log;
use crate::telemetry::istio::Registry;
use crate::telemetry::process::Process;
use crate::telemetry::render::{self, Server};
use crate::upstream::dns::{self, Resolver};
use crate::workers::{self, Parts, Start};
use crate::xds::publish::{Publisher, Update};

/// How long workers have to end after they were told.
const ENDING: Duration = Duration::from_secs(2);

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it is told of itself is not enough.
    #[error(transparent)]
    Environment(#[from] agent::environment::EnvironmentError),
    /// An application that reads xDS itself cannot be served.
    #[error(transparent)]
    Grpc(#[from] agent::grpc::GrpcError),
    /// A port of its own is taken.
    #[error(transparent)]
    Listen(#[from] agent::ListenError),
    /// The operating system refuses something.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs a proxy until it is told to end. `domain` is `--domain`; `give_back` gives free memory back to the operating system.
pub fn proxy(
    proxy_type: ProxyType,
    domain: Option<&str>,
    log_level: LogLevel,
    give_back: fn(),
) -> Result<(), RunError> {
    raise_descriptors();
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let labels = std::fs::read_to_string(names::paths::POD_LABELS).unwrap_or_default();
    let annotations = std::fs::read_to_string(names::paths::POD_ANNOTATIONS).unwrap_or_default();
    let environment = Environment::read(proxy_type, domain, &variables, &labels, &annotations)?;
    if let Some(grpc) = environment.grpc.clone() {
        tracing::info!(id = %environment.node.id, version = names::VERSION, "agent of an application that reads xDS itself");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return Ok(runtime.block_on(agent::grpc::run(environment, grpc))?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few CPUs")]
    let limit = environment.cpu_limit.map(|cpus| cpus as f64).or_else(workers::cpu_limit);
    let count = workers::count(environment.concurrency, limit, proxy_type == ProxyType::Sidecar);
    tracing::info!(id = %environment.node.id, workers = count, version = names::VERSION, "proxy starts");

    let registry = Arc::new(Registry::new(count));
    let publisher = Arc::new(Publisher::new());
    let readiness = Arc::new(Readiness::new());
    let lifecycle = Arc::new(Lifecycle::new());
    let (identity, identities) = watch::channel(None);
    let (log_writer, log_thread) = access_log::start_writer()?;
    let mut sockets = Vec::with_capacity(count);
    let mut threads = Vec::with_capacity(count);
    let clusters = Arc::default();
    for (index, series) in registry.workers.iter().enumerate() {
        let (sender, handed) = mpsc::unbounded_channel();
        sockets.push(sender);
        let parts = Parts {
            net: Net::Host,
            metadata: environment.peer_metadata(),
            node_id: environment.node.id.to_string(),
            identity: identities.clone(),
            series: series.clone(),
            shared: Arc::clone(&clusters),
            log_writer: log_writer.clone(),
            seed: fastrand::u64(..),
        };
        let start = Start { parts, updates: publisher.subscribe(), sockets: handed, phase: lifecycle.watch() };
        threads.push(spawn_worker(index, start)?);
    }
    drop(log_writer);

    let metrics = metrics(registry.clone(), lifecycle.clone());
    let rules = DrainRules { minimum: environment.termination_drain, ..DrainRules::default() };
    let shared = Shared {
        publisher: publisher.clone(),
        readiness: readiness.clone(),
        lifecycle: lifecycle.clone(),
        identity,
        metrics,
        log_level,
        give_back,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        tokio::spawn(open_sockets(publisher.clone(), Sockets::new(sockets), readiness.clone()));
        tokio::spawn(dns::run(publisher, Resolver::system()));
        tokio::spawn(end_on_signal(lifecycle.clone(), readiness, registry, rules)?);
        agent::run(environment, shared).await.map_err(RunError::from)
    });
    lifecycle.advance(Phase::Quitting);
    join(threads, log_thread);
    outcome
}

fn spawn_worker(index: usize, start: Start) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| workers::run(start)));
        match outcome {
            Ok(Ok(())) => {}
            // Connections' panics end in their tasks; this is the worker itself. A restart is better than half a proxy.
            Ok(Err(error)) => {
                tracing::error!(%error, "a worker cannot run");
                std::process::abort();
            }
            Err(_) => std::process::abort(),
        }
    })
}

/// Makes the sockets of each configuration. Workers subscribed earlier, so they have a configuration before its sockets.
async fn open_sockets(publisher: Arc<Publisher>, mut sockets: Sockets, readiness: Arc<Readiness>) {
    let mut updates = publisher.subscribe();
    while let Some(update) = updates.next().await {
        let Update::Snapshot(snapshot) = update else { continue };
        if snapshot.generation == 0 {
            continue; // nothing has been received yet
        }
        // An address that cannot be opened is in the log; it must not keep the others from getting traffic.
        let failed = sockets.update(&snapshot);
        if failed.is_empty() || sockets.count() > 0 {
            readiness.listeners_active();
        }
    }
}

/// Drains on SIGTERM or SIGINT, then ends the proxy.
fn end_on_signal(
    lifecycle: Arc<Lifecycle>,
    readiness: Arc<Readiness>,
    registry: Arc<Registry>,
    rules: DrainRules,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let told = told_to_end()?;
    Ok(async move {
        told.await;
        readiness.draining();
        lifecycle.advance(Phase::Draining);
        tracing::info!(?rules, "drains");
        drain::wait(rules, || traffic(&registry)).await;
        tracing::info!("ends");
        lifecycle.advance(Phase::Quitting);
    })
}

fn traffic(registry: &Registry) -> Traffic {
    registry.workers.iter().fold(Traffic::default(), |sum, worker| Traffic {
        total: sum.total + worker.envoy.downstream_cx_total.get(),
        open: sum.open + worker.envoy.downstream_cx_active.get(),
        requests: sum.requests + worker.envoy.downstream_rq_active.get(),
    })
}

fn metrics(registry: Arc<Registry>, lifecycle: Arc<Lifecycle>) -> Metrics {
    let started = Instant::now();
    Arc::new(move || {
        let draining = lifecycle.phase() != Phase::Serving;
        let server = Server { uptime: started.elapsed(), draining, process: Process::read() };
        render::prometheus(&registry, &server)
    })
}

/// Waits for the threads, but not for ever: the process ends in any case.
fn join(threads: Vec<JoinHandle<()>>, log_thread: JoinHandle<()>) {
    let end = Instant::now() + ENDING;
    for thread in threads.into_iter().chain(std::iter::once(log_thread)) {
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// As many descriptors as the pod may have: each connection needs two.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "the limit of open descriptors stays as it is");
    }
}
