//! The agent of an application whose gRPC library reads xDS itself (`ISTIO_META_GENERATOR=grpc`): no proxy, no
//! redirection. The application finds what it needs in two shared folders:
//!
//! * [`bootstrap`]: the file that `GRPC_XDS_BOOTSTRAP` names
//! * [`files`]: its certificate, key and roots, as files that change at once
//! * [`relay`]: a socket through which it reaches the control plane, with the pod's certificate

pub mod bootstrap;
pub mod files;
pub mod relay;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::app_metrics::Failures;
use super::certificate::{Certificates, Counts};
use super::environment::{Environment, Grpc};
use super::lifecycle::{Lifecycle, Phase, told_to_end};
use super::readiness::Readiness;
use super::status::Status;
use super::{ListenError, answer};
use crate::admin::Metrics;
use crate::tls::identity::Identity;
use crate::xds::connect::ControlPlane;
use files::WriteError;
use relay::{Relay, Streams};

/// The waits between attempts to reach the control plane.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why the application cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}; is the volume istio-xds mounted, and may the agent write to it?")]
    Socket {
        /// Where.
        path: std::path::PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bootstrap file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system refuses something.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs until the pod ends.
pub async fn run(environment: Environment, grpc: Grpc) -> Result<(), GrpcError> {
    let readiness = Arc::new(Readiness::without_proxy());
    let lifecycle = Arc::new(Lifecycle::new());
    let counts = Arc::new(Counts::default());
    let streams = Arc::new(Streams::default());
    let failures = Arc::new(Failures::default());
    let (identity, identities) = watch::channel(None);
    let control_plane = ControlPlane {
        address: environment.discovery_address.clone(),
        roots: environment.roots.clone(),
        token: environment.token.clone(),
    };

    let status = Status {
        readiness: readiness.clone(),
        lifecycle: lifecycle.clone(),
        probes: environment.probes.clone(),
        application: environment.application.clone(),
        agent_metrics: metrics(streams.clone(), counts.clone(), failures.clone()),
        metrics: Arc::new(String::new),
        failures,
    };
    answer(status, &environment)?;
    tokio::spawn(end_on_signal(lifecycle.clone(), readiness.clone(), environment.termination_drain)?);

    // The application may start at any time: the socket is there before the file that names it.
    let relay = Relay { control_plane: control_plane.clone(), identity: identities.clone(), streams };
    let listener =
        relay::listen(&grpc.socket).map_err(|source| GrpcError::Socket { path: grpc.socket.clone(), source })?;
    tokio::spawn(relay.serve(listener));
    files::write(&grpc.bootstrap, bootstrap::bootstrap(&environment.node, &grpc).as_bytes())?;
    readiness.bootstrap_written();

    tokio::spawn(
        Certificates {
            authority: ControlPlane { address: environment.ca_address.clone(), ..control_plane.clone() },
            expected: environment.identity,
            lifetime: environment.certificate_lifetime,
            identity,
            readiness: readiness.clone(),
            counts,
            files: grpc.certificates,
        }
        .run(),
    );
    tokio::spawn(reach(control_plane, identities, readiness));
    // The sender lives in `lifecycle`, so this ends only with the phase.
    let _ = lifecycle.watch().wait_for(|phase| *phase == Phase::Quitting).await;
    Ok(())
}

/// Tries until the control plane answers with our certificate.
async fn reach(
    control_plane: ControlPlane,
    mut identity: watch::Receiver<Option<Arc<Identity>>>,
    readiness: Arc<Readiness>,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let Ok(current) = identity.wait_for(Option::is_some).await.map(|identity| identity.clone()) else { return };
        match control_plane.connect(current.as_deref()).await {
            Ok(_) => {
                readiness.control_plane_reached();
                return;
            }
            Err(error) => tracing::warn!("{error}"),
        }
        tokio::time::sleep(wait / 2 + wait.mul_f64(fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Fails readiness on SIGTERM or SIGINT, and ends a while later: the application may still open channels meanwhile.
fn end_on_signal(
    lifecycle: Arc<Lifecycle>,
    readiness: Arc<Readiness>,
    drain: Duration,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let told = told_to_end()?;
    Ok(async move {
        told.await;
        readiness.draining();
        lifecycle.advance(Phase::Draining);
        tracing::info!(?drain, "drains");
        tokio::time::sleep(drain).await;
        tracing::info!("ends");
        lifecycle.advance(Phase::Quitting);
    })
}

/// The agent's own metrics, under Istio's names where it has them.
fn metrics(streams: Arc<Streams>, counts: Arc<Counts>, failures: Arc<Failures>) -> Metrics {
    Arc::new(move || {
        let open = streams.open.load(Ordering::Relaxed);
        super::render(&[
            (
                "istio_agent_xds_connected",
                "gauge",
                "Whether a stream to the control plane is open.",
                u64::from(open > 0),
            ),
            ("istio_agent_xds_relayed_streams", "gauge", "Streams of the application to the control plane.", open),
            ("istio_agent_certificates_signed_total", "counter", "Certificates taken into use.", counts.signed()),
            (
                "istio_agent_num_failed_outgoing_requests",
                "counter",
                "Failed attempts to get a certificate.",
                counts.failed(),
            ),
            ("istio_agent_scrape_failures_total", "counter", "Failed scrapes of the application.", failures.count()),
        ])
    })
}
