//! The proxy's life in its pod: certificate, configuration, probes, merged metrics, health, its end.
//!
//! [`run`] is the control thread: it starts everything here and ends with the proxy.
//!
//! * [`environment`]: what the proxy is told of itself
//! * [`certificate`]: its certificate, kept fresh
//! * [`readiness`]: whether the pod may get traffic; [`lifecycle`]: serving, draining, quitting
//! * [`status`]: the ports for kubelets, load balancers and scrapers; [`probes`], [`app_metrics`]: what is behind them
//! * [`grpc`]: all of it without a proxy, for an application whose gRPC library reads xDS itself
//! * [`ask`]: `pilot-agent request` and `wait`; [`serve`]: the small HTTP server below all of it

pub mod app_metrics;
pub mod ask;
pub mod certificate;
pub mod environment;
pub mod grpc;
pub mod lifecycle;
pub mod probes;
pub mod readiness;
pub mod serve;
pub mod status;

use std::{
    fmt::Write as _,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    admin::{Admin, LogLevel, Metrics},
    tls::identity::Identity,
    xds::{client::Client, connect::ControlPlane, publish::Publisher, session::Session},
};

use self::{
    app_metrics::Failures,
    certificate::{Certificates, Counts},
    environment::Environment,
    lifecycle::{Lifecycle, Phase},
    readiness::Readiness,
    status::Status,
};

/// What control thread and workers share.
pub struct Shared {
    /// The way of configuration to the workers.
    pub publisher: Arc<Publisher>,
    /// Whether the pod may get traffic.
    pub readiness: Arc<Readiness>,
    /// Serving, draining, quitting.
    pub lifecycle: Arc<Lifecycle>,
    /// Where the certificate is published.
    pub identity: watch::Sender<Option<Arc<Identity>>>,
    /// The workers' metrics.
    pub metrics: Metrics,
    /// Changes the level of logs.
    pub log_level: LogLevel,
    /// Gives free memory back to the operating system.
    pub give_back: fn(),
}

/// Why the control thread cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port}: {source}; does another proxy run in this pod?")]
pub struct ListenError {
    port: u16,
    source: io::Error,
}

fn listen(port: u16) -> Result<tokio::net::TcpListener, ListenError> {
    serve::listen_everywhere(port).map_err(|source| ListenError { port, source })
}

/// Answers kubelets, load balancers and scrapers.
fn answer(status: Status, environment: &Environment) -> Result<(), ListenError> {
    // A pod's annotation moves its rewritten probes; Prometheus goes on asking at the port of the settings.
    let probes_port = environment.probes_port.filter(|port| *port != environment.status_port);
    for port in [environment.status_port].into_iter().chain(probes_port) {
        tokio::spawn(status.clone().serve_status(listen(port)?));
    }
    tokio::spawn(status.clone().serve_health(listen(names::ports::HEALTH)?));
    tokio::spawn(status.serve_metrics(listen(names::ports::PROXY_STATS)?));
    Ok(())
}

/// The control thread: runs until the lifecycle says that the proxy quits.
pub async fn run(environment: Environment, shared: Shared) -> Result<(), ListenError> {
    let control_plane = ControlPlane {
        address: environment.discovery_address.clone(),
        roots: environment.roots.clone(),
        token: environment.token.clone(),
    };
    let session = Session::new(environment.node.to_node(), environment.proxy());
    let session = Arc::new(Mutex::new(session));
    let connected = Arc::new(AtomicBool::new(false));
    let counts = Arc::new(Counts::default());
    let failures = Arc::new(Failures::default());
    let status = Status {
        readiness: shared.readiness.clone(),
        lifecycle: shared.lifecycle.clone(),
        probes: environment.probes.clone(),
        application: environment.application.clone(),
        agent_metrics: own_metrics(session.clone(), connected.clone(), counts.clone(), failures.clone()),
        metrics: shared.metrics.clone(),
        failures,
    };
    let admin_address = (std::net::Ipv4Addr::LOCALHOST, environment.admin_port).into();
    let admin_socket =
        serve::listen(admin_address).map_err(|source| ListenError { port: environment.admin_port, source })?;
    answer(status, &environment)?;

    let identity = shared.identity.subscribe();
    tokio::spawn(
        Certificates {
            authority: ControlPlane { address: environment.ca_address.clone(), ..control_plane.clone() },
            expected: environment.identity.clone(),
            lifetime: environment.certificate_lifetime,
            identity: shared.identity,
            readiness: shared.readiness.clone(),
            counts,
            files: None,
        }
        .run(),
    );
    let admin = Admin::new(
        environment.node.clone(),
        session.clone(),
        shared.publisher.clone(),
        identity.clone(),
        shared.readiness.clone(),
        shared.lifecycle.clone(),
        shared.metrics,
        shared.log_level,
    );
    tokio::spawn(admin.serve(admin_socket));
    tokio::spawn(
        Client {
            control_plane,
            session,
            publisher: shared.publisher,
            readiness: shared.readiness,
            identity,
            connected,
            give_back: shared.give_back,
        }
        .run(),
    );
    // The sender lives in `shared.lifecycle`, so this ends only with the phase.
    let _ = shared.lifecycle.watch().wait_for(|phase| *phase == Phase::Quitting).await;
    Ok(())
}

/// The agent's own metrics, under Istio's names where it has them.
fn own_metrics(
    session: Arc<Mutex<Session>>,
    connected: Arc<AtomicBool>,
    counts: Arc<Counts>,
    failures: Arc<Failures>,
) -> Metrics {
    Arc::new(move || {
        let xds = session.lock().unwrap_or_else(PoisonError::into_inner).counts();
        let connected = u64::from(connected.load(Ordering::Relaxed));
        render(&[
            ("istio_agent_xds_connected", "gauge", "Whether a stream to the control plane is open.", connected),
            (
                "istio_agent_xds_accepted_total",
                "counter",
                "Responses of the control plane that were accepted.",
                xds.accepted,
            ),
            ("istio_agent_xds_refused_total", "counter", "Responses with a resource that was refused.", xds.refused),
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

/// Metrics as Prometheus reads them: name, type, help, value.
fn render(metrics: &[(&str, &str, &str, u64)]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in metrics {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}
