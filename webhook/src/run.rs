//! The process: `forestay webhook`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use names::{ports, resources};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::body::{BUDGET, Budget};
use crate::idle::Busy;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::serve::{self, Shared};
use crate::{certificate, rest, watch as watches};

/// After the Service has heard that this replica ends, requests may still be on their way to it.
const GRACE: Duration = Duration::from_secs(5);

/// Flags of `forestay webhook`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The namespace of the mesh, where settings and authority are
    #[arg(long, env = "POD_NAMESPACE", default_value = resources::MESH_NAMESPACE)]
    pub namespace: String,
    /// The revision that this webhook injects
    #[arg(long, env = "REVISION", default_value = names::DEFAULT_REVISION)]
    pub revision: String,
    /// Port of `/inject` and `/validate`
    #[arg(long, default_value_t = ports::WEBHOOK)]
    pub port: u16,
    /// Port of `/metrics` and `/version`
    #[arg(long, default_value_t = ports::MONITORING)]
    pub monitoring_port: u16,
    /// Port of `/ready`
    #[arg(long, default_value_t = ports::READINESS)]
    pub readiness_port: u16,
}

/// Threads that a webhook needs: a review takes less than a millisecond, and what each thread keeps of the memory that it
/// has once used is not for the others. A second one answers while the first is at an object of megabytes.
pub const THREADS: usize = 2;

/// Runs the webhook until it is told to end. `give_back` gives free memory back to the operating system, `forget_start` the
/// code that has run so far.
pub async fn run(args: Args, give_back: fn(), forget_start: fn()) -> anyhow::Result<()> {
    let revision = if args.revision.is_empty() { names::DEFAULT_REVISION.to_owned() } else { args.revision };
    let client =
        Client::try_default().await.context("no Kubernetes API to talk to: is this a pod, or KUBECONFIG set?")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let metrics = Metrics::new();

    let (secret, secret_receiver) = watch::channel(None);
    let (mesh, mesh_receiver) = watch::channel(None);
    let (injector, injector_receiver) = watch::channel(None);
    let (nodes, nodes_receiver) = watch::channel(None);
    let (namespaces, namespaces_receiver) = watch::channel(None);
    let (settings, settings_receiver) = watch::channel(None);
    let (current, current_receiver) = watch::channel(None);
    let (ending, ending_receiver) = watch::channel(false);
    let (closing, closing_receiver) = watch::channel(false);

    // Tasks that never end of themselves; they go when this function does.
    let mut tasks = JoinSet::new();
    let maps = Api::namespaced(client.clone(), &args.namespace);
    let secrets = Api::namespaced(client.clone(), &args.namespace);
    tasks.spawn(watches::object(secrets, resources::WEBHOOK_CA_SECRET.to_owned(), secret));
    tasks.spawn(watches::object(maps.clone(), resources::mesh_config(&revision), mesh));
    tasks.spawn(watches::object(maps, resources::injector(&revision), injector));
    tasks.spawn(watches::kubelets(Api::all(client.clone()), nodes));
    tasks.spawn(watches::namespaces(Api::<PartialObjectMeta<Namespace>>::all(client), namespaces));
    let sources = watches::Sources {
        mesh: mesh_receiver,
        injector: injector_receiver,
        nodes: nodes_receiver,
        namespaces: namespaces_receiver,
    };
    tasks.spawn(watches::settings(revision.clone(), sources, metrics.clone(), settings));
    let dns_names = certificate::dns_names(&revision, &args.namespace);
    tasks.spawn(certificate::keep_fresh(secret_receiver, dns_names, provider, current));

    let busy = Busy::default();
    let (mut certified, mut settled) = (current_receiver.clone(), settings_receiver.clone());
    let started = async move {
        let _ = certified.wait_for(Option::is_some).await;
        let _ = settled.wait_for(Option::is_some).await;
        forget_start();
    };
    tasks.spawn(rest::rests(started, busy.requests(), give_back));
    let shared = Shared {
        settings: settings_receiver,
        certificate: current_receiver.clone(),
        metrics,
        budget: Budget::new(BUDGET),
        checks: Arc::new(Semaphore::new(serve::CHECKS)),
        busy,
        ending: ending_receiver,
    };
    let tls = serve::tls(current_receiver)?;
    let mut servers = JoinSet::new();
    let routes = [
        (args.port, Some(tls), serve::admission(shared.clone())),
        (args.readiness_port, None, serve::readiness(shared.clone())),
        (args.monitoring_port, None, serve::monitoring(shared)),
    ];
    for (port, tls, router) in routes {
        let places = Places::new(serve::MOST_CONNECTIONS);
        servers.spawn(serve::serve(serve::listen(port)?, tls, router, places, closing_receiver.clone()));
    }
    tracing::info!(version = names::VERSION, revision, namespace = args.namespace, "webhook started");

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        Some(ended) = tasks.join_next() => anyhow::bail!("a watch ended: {ended:?}"),
        Some(ended) = servers.join_next() => anyhow::bail!("a server ended: {ended:?}"),
    }
    tracing::info!("ending: no longer ready, still answering");
    ending.send_replace(true);
    tokio::time::sleep(GRACE).await;
    closing.send_replace(true);
    while servers.join_next().await.is_some() {}
    tracing::info!("ended");
    Ok(())
}
