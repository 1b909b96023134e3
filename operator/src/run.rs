//! The process: `forestay operator`.

use anyhow::{Context, bail};
use axum::http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Api, Client};
use names::{images, ports, resources};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tower::filter::FilterLayer;
use tracing::info;

use crate::addons::AddonKind;
use crate::controller;
use crate::leader::{Candidate, Term};
use crate::meshinstall::validate::RelatedImages;
use crate::metrics::Metrics;
use crate::serve::{self, Readiness};

/// Flags of `forestay operator`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of this replica in the Lease
    #[arg(long, env = "POD_NAME", default_value = "forestay-operator")]
    pub pod_name: String,
    /// Namespace of the Lease
    #[arg(long, env = "POD_NAMESPACE", default_value = resources::OPERATOR_NAMESPACE)]
    pub pod_namespace: String,
    /// Image of control plane and webhook, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_FORESTAY)]
    pub forestay_image: Option<String>,
    /// Image of the proxies, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_PROXY)]
    pub proxy_image: Option<String>,
    /// Image of the addon Prometheus, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_PROMETHEUS)]
    pub prometheus_image: Option<String>,
    /// Image of the addon Grafana, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_GRAFANA)]
    pub grafana_image: Option<String>,
    /// Image of the addon Kiali, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_KIALI)]
    pub kiali_image: Option<String>,
    /// Image of the addon Jaeger, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_JAEGER)]
    pub jaeger_image: Option<String>,
    /// Image of the addon Zipkin, for MeshInstalls that name none
    #[arg(long, env = images::RELATED_IMAGE_ZIPKIN)]
    pub zipkin_image: Option<String>,
    /// Port of `/metrics`
    #[arg(long, default_value_t = ports::MONITORING)]
    pub monitoring_port: u16,
    /// Port of `/ready`
    #[arg(long, default_value_t = ports::READINESS)]
    pub readiness_port: u16,
}

/// Runs the operator until it is told to end or loses the Lease.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client =
        Client::try_default().await.context("no Kubernetes API to talk to: is this a pod, or KUBECONFIG set?")?;
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    let mut readiness = tokio::spawn(serve::readiness(serve::bind(args.readiness_port).await?, ready.clone()));
    let mut monitoring = tokio::spawn(serve::metrics(serve::bind(args.monitoring_port).await?, metrics.clone()));
    let stop = stop_signal()?;
    info!(version = names::VERSION, pod = %args.pod_name, "operator started");

    let leases = Api::namespaced(client.clone(), &args.pod_namespace);
    let mut candidate = Candidate::new(leases, resources::OPERATOR, &args.pod_name);
    tokio::select! {
        () = candidate.acquire(|| ready.set()) => {}
        () = stopped(stop.clone()) => return Ok(()),
        ended = &mut readiness => return ended?,
        ended = &mut monitoring => return ended?,
    }

    metrics.lead(true);
    let of_addons = [
        (AddonKind::Prometheus, args.prometheus_image),
        (AddonKind::Grafana, args.grafana_image),
        (AddonKind::Kiali, args.kiali_image),
        (AddonKind::Jaeger, args.jaeger_image),
        (AddonKind::Zipkin, args.zipkin_image),
    ];
    let images = RelatedImages {
        forestay: non_empty(args.forestay_image),
        proxy: non_empty(args.proxy_image),
        addons: of_addons.into_iter().filter_map(|(kind, image)| Some((kind, non_empty(image)?))).collect(),
    };
    let work = controller::run(
        fenced(candidate.term()).await?,
        args.pod_name,
        args.pod_namespace,
        images,
        metrics,
        stopped(stop),
    );
    tokio::select! {
        () = work => {}
        // At once, with work under way or not: another replica is about to begin.
        () = candidate.keep() => bail!("the Lease is lost"),
        ended = readiness => return ended?,
        ended = monitoring => return ended?,
    }
    candidate.release().await;
    info!("operator ended");
    Ok(())
}

/// A client whose writes end with the term. A process that was stopped for longer than that, and does not know it yet, would
/// otherwise write what it was about to, beside another.
async fn fenced(term: Term) -> anyhow::Result<Client> {
    let config = kube::Config::infer().await.context("no Kubernetes API to talk to")?;
    let fence = FilterLayer::new(move |request: Request<Body>| {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads || term.holds() { Ok(request) } else { Err(NotLeading) }
    });
    Ok(ClientBuilder::try_from(config).context("client of the Kubernetes API")?.with_layer(&fence).build())
}

/// Why a write was held back.
#[derive(Debug, thiserror::Error)]
#[error("held back: the Lease has not been renewed in time, another replica may lead")]
struct NotLeading;

/// A variable that is set to nothing is not set.
fn non_empty(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut term = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody can tell any more, and the process is ending.
    let _ = stop.wait_for(|stop| *stop).await;
}
