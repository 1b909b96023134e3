//! Flags, and how the parts are put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use kube::Client;
use names::ports;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use translate::model::change::Kind;
use translate::model::mesh::Mesh;

use crate::ca::token::Reviewer;
use crate::ca::{store, trust};
use crate::leader;
use crate::metrics::Metrics;
use crate::push::cache::Publisher;
use crate::push::queue::Queue;
use crate::serve::ads::{Ads, Turns};
use crate::serve::authenticate::Authenticator;
use crate::serve::certificates::Certificates;
use crate::serve::connections::Connections;
use crate::serve::debug::Debug;
use crate::serve::http::Readiness;
use crate::serve::{self, http, tls};
use crate::watch::files::Files;
use crate::watch::{Intake, kubernetes};

/// How long parts have to end after the streams did.
const END: Duration = Duration::from_secs(5);
/// Connections that are accepted and not served yet.
const BACKLOG: usize = 64;

/// The flags of `forestay istiod`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The namespace of the control plane.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::resources::MESH_NAMESPACE)]
    pub namespace: String,
    /// The name of this replica's pod: who it is in the election of a leader.
    #[arg(long, env = "POD_NAME", default_value = "istiod")]
    pub pod_name: String,
    /// The revision that this control plane is.
    #[arg(long, env = "REVISION", default_value = names::DEFAULT_REVISION)]
    pub revision: String,
    /// The id of the cluster, as proxies and metrics say it.
    #[arg(long, env = "CLUSTER_ID", default_value = names::CLUSTER_ID)]
    pub cluster_id: String,
    /// The DNS domain of the cluster.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = names::CLUSTER_DOMAIN)]
    pub cluster_domain: String,
    /// Read configuration from a folder of YAML instead of from Kubernetes; changed files are read again.
    #[arg(long)]
    pub config_dir: Option<PathBuf>,
    /// With --config-dir: a folder with the certificate authority (ca-cert.pem, ca-key.pem, cert-chain.pem,
    /// root-cert.pem). Without it an authority is made that lives as long as the process.
    #[arg(long, requires = "config_dir")]
    pub ca_dir: Option<PathBuf>,
    /// Where xDS and the certificate authority are served over TLS.
    #[arg(long, default_value_t = unspecified(ports::XDS_TLS))]
    pub xds_tls_address: SocketAddr,
    /// Where xDS is served in plaintext and to everybody who can connect: keep it on loopback.
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], ports::XDS_PLAINTEXT)))]
    pub xds_plaintext_address: SocketAddr,
    /// Where metrics, version and debug pages are served.
    #[arg(long, default_value_t = unspecified(ports::MONITORING))]
    pub monitoring_address: SocketAddr,
    /// Where readiness is served.
    #[arg(long, default_value_t = unspecified(ports::READINESS))]
    pub readiness_address: SocketAddr,
    /// The seconds over which open streams are closed when the process stops.
    #[arg(long, default_value_t = 5)]
    pub drain_seconds: u64,
}

/// All addresses, of both families.
fn unspecified(port: u16) -> SocketAddr {
    SocketAddr::from(([0_u16; 8], port))
}

/// Runs the control plane until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start (an address is taken, there is no API server), or when a part of it ended that must not.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut running = start(args).await?;
    tokio::select! {
        signal = signal() => tracing::info!("{} received: stopping", signal?),
        ended = running.ended() => return ended,
    }
    running.stop().await;
    Ok(())
}

async fn signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// A control plane that runs, for those who embed one (benchmarks, tests).
pub struct Running {
    /// Where xDS and the certificate authority are served over TLS.
    pub xds_tls: SocketAddr,
    /// Where xDS is served in plaintext.
    pub xds_plaintext: SocketAddr,
    /// Where metrics, version and debug pages are served.
    pub monitoring: SocketAddr,
    /// Where readiness is served.
    pub readiness: SocketAddr,
    #[cfg(test)]
    authority: store::Current,
    connections: Arc<Connections>,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Streams end one by one, and readiness fails.
    stopping: CancellationToken,
    /// Everything ends.
    stop: CancellationToken,
    drain: Duration,
}

impl Running {
    /// Waits until a part ends, which none does by itself.
    async fn ended(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) | None => Err(anyhow::anyhow!("a part of the control plane ended")),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(error).context("a part of the control plane failed"),
        }
    }

    /// Lets the streams go, spread over the drain time, and then everything else.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let deadline = tokio::time::Instant::now() + self.drain;
        while !self.connections.list().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END, ended).await.is_err() {
            tracing::warn!("not everything ended in {END:?}; the rest is dropped");
            self.tasks.abort_all();
        }
    }
}

/// Starts all parts. They end with [`Running::stop`].
///
/// # Errors
/// When an address is taken, the certificate authority of `--ca-dir` cannot be loaded, or no API server is configured.
pub async fn start(args: Args) -> anyhow::Result<Running> {
    let stopping = CancellationToken::new();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // whoever came first installed the same
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let metrics = Arc::new(Metrics::new());
    let (queue, gathered) = Queue::new();
    let base =
        Mesh { cluster_domain: args.cluster_domain.clone(), cluster_id: args.cluster_id.clone(), ..Mesh::default() };
    let awaited = kubernetes::KINDS.into_iter().chain([Kind::Mesh]);
    let intake = Arc::new(Intake::new(base, awaited, queue, Arc::clone(&metrics)));
    let authority = watch::Sender::new(None);
    let current = authority.subscribe();

    let reviewer = if let Some(folder) = &args.config_dir {
        tasks.spawn(endless(
            "the watch of files",
            Files::new(folder, &args.revision, Arc::clone(&intake)).run(stop.clone()),
        ));
        let made = store::from_folder(args.ca_dir.as_deref(), names::identity::TRUST_DOMAIN, SystemTime::now())?;
        authority.send_replace(Some(Arc::new(made)));
        Reviewer::new(None)
    } else {
        let client = Client::try_default().await.context("no Kubernetes API server is configured")?;
        in_cluster(&args, &client, &intake, authority, &current, &stop, &mut tasks);
        Reviewer::new(Some(client))
    };

    let (publisher, generations) = Publisher::new(Arc::clone(&intake), gathered, Arc::clone(&metrics));
    tasks.spawn(endless("the publisher", publisher.run(stop.clone())));

    let tls_config = watch::Sender::new(None);
    let tls_current = tls_config.subscribe();
    let server_names = tls::server_names(&args.revision, &args.namespace);
    tasks.spawn(endless(
        "the renewal of our certificate",
        tls::keep(current.clone(), server_names, tls_config, Arc::clone(&metrics), stop.clone()),
    ));

    let connections = Arc::new(Connections::default());
    let drain = Duration::from_secs(args.drain_seconds);
    let authenticator = Authenticator::new(reviewer, intake.mesh());
    let ads = Arc::new(Ads {
        authenticator: authenticator.clone(),
        generations,
        connections: Arc::clone(&connections),
        metrics: Arc::clone(&metrics),
        stopping: stopping.clone(),
        drain,
        turns: Turns::new(),
    });
    let certificates =
        Arc::new(Certificates { authority: current.clone(), authenticator, metrics: Arc::clone(&metrics) });

    let (tls_listener, xds_tls) = bind(args.xds_tls_address, "--xds-tls-address").await?;
    let (plain_listener, xds_plaintext) = bind(args.xds_plaintext_address, "--xds-plaintext-address").await?;
    let (monitoring_listener, monitoring) = bind(args.monitoring_address, "--monitoring-address").await?;
    let (readiness_listener, readiness) = bind(args.readiness_address, "--readiness-address").await?;
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    tasks.spawn(endless("accepting TLS", tls::accept(tls_listener, Some(tls_current), accepted.clone(), stop.clone())));
    tasks.spawn(endless("accepting plaintext", tls::accept(plain_listener, None, accepted, stop.clone())));
    let served = serve::grpc(ads, certificates, incoming, stop.clone());
    tasks.spawn(async move { served.await.context("the gRPC server failed") });

    let parts = parts(intake.synced(), current.clone(), stopping.clone());
    let debug = Arc::new(Debug { connections: Arc::clone(&connections), intake });
    for (listener, router, what) in [
        (monitoring_listener, http::monitoring(metrics, debug, Arc::clone(&parts)), "the monitoring server failed"),
        (readiness_listener, http::readiness(parts), "the readiness server failed"),
    ] {
        let served = http::serve(listener, router, stop.clone());
        tasks.spawn(async move { served.await.context(what) });
    }
    tracing::info!(
        version = names::VERSION, revision = %args.revision, %xds_tls, %xds_plaintext, %monitoring, %readiness,
        "the control plane runs"
    );
    Ok(Running {
        xds_tls,
        xds_plaintext,
        monitoring,
        readiness,
        #[cfg(test)]
        authority: current,
        connections,
        tasks,
        stopping,
        stop,
        drain,
    })
}

/// The parts that only exist in a cluster.
fn in_cluster(
    args: &Args,
    client: &Client,
    intake: &Arc<Intake>,
    authority: watch::Sender<Option<Arc<crate::ca::Authority>>>,
    current: &store::Current,
    stop: &CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let leads = watch::Sender::new(false);
    let leader = leads.subscribe();
    let (election, namespace, me) = (client.clone(), args.namespace.clone(), args.pod_name.clone());
    let until = stop.clone();
    tasks.spawn(endless("the election", async move { leader::run(election, &namespace, &me, leads, until).await }));

    let store = store::Store::new(client.clone(), &args.namespace, intake.mesh(), authority, leader.clone());
    tasks.spawn(endless("the certificate authority", store.run(stop.clone())));
    tasks.spawn(endless(
        "the writer of root certificates",
        trust::run(client.clone(), current.clone(), leader, stop.clone()),
    ));

    let mut watches = kubernetes::start(client, &args.namespace, &args.revision, intake, stop);
    tasks.spawn(async move {
        while let Some(ended) = watches.join_next().await {
            ended.context("a watch failed")?;
        }
        Ok(())
    });
}

/// A part that ends only when it is told to.
async fn endless(name: &'static str, part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    anyhow::bail!("{name} ended")
}

/// What makes a replica ready.
fn parts(synced: watch::Receiver<bool>, authority: store::Current, stopping: CancellationToken) -> Readiness {
    Arc::new(move || {
        vec![
            ("configuration", *synced.borrow()),
            ("certificate authority", authority.borrow().is_some()),
            ("stopping", !stopping.is_cancelled()),
        ]
    })
}

/// Listens on `address`; on IPv4 alone where the machine has no IPv6.
async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await
        }
        bound => bound,
    };
    let listener = listener.with_context(|| format!("cannot listen on {address} ({flag})"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests;
