//! Port 15020 (probes, merged metrics, the pod's end), 15021 (health) and 15090 (the proxy's own metrics).

use std::{net::SocketAddr, sync::Arc};

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::{
    app_metrics::{self, Application, Failures},
    lifecycle::{Lifecycle, Phase},
    probes::Probes,
    readiness::Readiness,
    serve::{self, Answer, text, with_type},
};
use crate::admin::Metrics;

/// What probes and scrapers ask about.
#[derive(Clone)]
pub struct Status {
    /// Whether the pod may get traffic.
    pub readiness: Arc<Readiness>,
    /// The end of the pod.
    pub lifecycle: Arc<Lifecycle>,
    /// The application's probes.
    pub probes: Probes,
    /// The application's metrics.
    pub application: Option<Application>,
    /// The agent's own metrics.
    pub agent_metrics: Metrics,
    /// The proxy's metrics.
    pub metrics: Metrics,
    /// Scrapes that failed.
    pub failures: Arc<Failures>,
}

impl Status {
    /// Serves the status port.
    pub async fn serve_status(self, listener: TcpListener) {
        serve::serve(listener, move |request, peer| {
            let status = self.clone();
            async move { status.answer(request, peer).await }
        })
        .await;
    }

    /// Serves the health port, for kubelets and load balancers.
    pub async fn serve_health(self, listener: TcpListener) {
        serve::serve(listener, move |request, _| {
            let answer = match request.uri().path() {
                "/healthz/ready" => self.ready(),
                _ => not_found(),
            };
            std::future::ready(answer)
        })
        .await;
    }

    /// Serves the proxy's own metrics.
    pub async fn serve_metrics(self, listener: TcpListener) {
        serve::serve(listener, move |request, _| {
            let answer = match request.uri().path() {
                "/stats/prometheus" => with_type(StatusCode::OK, app_metrics::TEXT, (self.metrics)()),
                _ => not_found(),
            };
            std::future::ready(answer)
        })
        .await;
    }

    async fn answer(self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let (asked, _) = request.into_parts();
        match asked.uri.path() {
            "/healthz/ready" => self.ready(),
            "/stats/prometheus" | "/metrics" => {
                let own = format!("{}{}", (self.agent_metrics)(), (self.metrics)());
                let merged = app_metrics::merge(own, self.application.as_ref(), &asked.headers, &self.failures).await;
                merged.map(BodyExt::boxed_unsync)
            }
            "/quitquitquit" => self.end(&asked.method, peer, Phase::Quitting),
            "/drain" => self.end(&asked.method, peer, Phase::Draining),
            path if path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/") => {
                self.probes.answer(&asked).await.map_or_else(not_found, |answer| answer.map(BodyExt::boxed_unsync))
            }
            _ => not_found(),
        }
    }

    fn ready(&self) -> Answer {
        match self.readiness.check() {
            Ok(()) => text(StatusCode::OK, ""),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }

    /// Ends the proxy's service. Only the pod itself may ask, and only on purpose.
    fn end(&self, method: &Method, peer: SocketAddr, phase: Phase) -> Answer {
        if !peer.ip().to_canonical().is_loopback() {
            return text(StatusCode::FORBIDDEN, "only from inside the pod\n");
        }
        if method != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "must be a POST\n");
        }
        if phase >= Phase::Draining {
            self.readiness.draining();
        }
        self.lifecycle.advance(phase);
        text(StatusCode::OK, "OK\n")
    }
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use http::Method;
    use tokio::net::TcpListener;

    use super::{Failures, Lifecycle, Phase, Probes, Readiness, Status};
    use crate::agent::ask::{self, AskError};

    fn status() -> Status {
        Status {
            readiness: Arc::new(Readiness::new()),
            lifecycle: Arc::new(Lifecycle::new()),
            probes: Probes::default(),
            application: None,
            agent_metrics: Arc::new(|| "agent 1\n".to_owned()),
            metrics: Arc::new(|| "proxy 2\n".to_owned()),
            failures: Arc::new(Failures::default()),
        }
    }

    fn make_ready(readiness: &Readiness) {
        readiness.certificate_present();
        readiness.clusters_received();
        readiness.listeners_received();
        readiness.listeners_active();
    }

    async fn served(status: Status) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(status.serve_status(listener));
        port
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_and_drain_ends_it() {
        let status = status();
        let port = served(status.clone()).await;
        let ready = ask::request(port, Method::GET, "/healthz/ready").await;
        let Err(AskError::Status { status: code, body }) = ready else { panic!("{ready:?}") };
        assert_eq!((code.as_u16(), body.as_str()), (503, "the workload certificate has not been signed yet"));
        make_ready(&status.readiness);
        assert!(ask::request(port, Method::GET, "healthz/ready").await.is_ok());

        let by_get = ask::request(port, Method::GET, "drain").await;
        assert!(matches!(by_get, Err(AskError::Status { status: code, .. }) if code.as_u16() == 405));
        assert_eq!(status.lifecycle.phase(), Phase::Serving);
        assert!(ask::request(port, Method::POST, "drain").await.is_ok());
        assert_eq!(status.lifecycle.phase(), Phase::Draining);
        assert!(ask::request(port, Method::GET, "healthz/ready").await.is_err());
        assert!(ask::request(port, Method::POST, "quitquitquit").await.is_ok());
        assert_eq!(status.lifecycle.phase(), Phase::Quitting);
    }

    #[tokio::test]
    async fn metrics_are_the_agents_and_the_proxys() {
        let port = served(status()).await;
        for path in ["/stats/prometheus", "/metrics"] {
            assert_eq!(ask::request(port, Method::GET, path).await.expect("metrics"), "agent 1\nproxy 2\n");
        }
        let missing = ask::request(port, Method::GET, "/app-health/a/livez").await;
        assert!(matches!(missing, Err(AskError::Status { status: code, .. }) if code.as_u16() == 404));
    }
}
