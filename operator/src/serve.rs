//! `/ready` and `/metrics`, on every replica, leader or not.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Whether the API server has answered yet.
#[derive(Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Binds a port on all addresses, IPv4's too.
pub(crate) async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(everywhere).await {
        Ok(listener) => Ok(listener),
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))
            .await
            .with_context(|| format!("port {port} cannot be opened")),
    }
}

/// Serves `/ready` for ever.
pub(crate) async fn readiness(listener: TcpListener, ready: Readiness) -> anyhow::Result<()> {
    let answer = move || async move {
        if ready.is_set() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n")
        }
    };
    axum::serve(listener, Router::new().route("/ready", get(answer))).await.context("serving /ready")
}

/// Serves `/metrics` for ever.
pub(crate) async fn metrics(listener: TcpListener, metrics: Metrics) -> anyhow::Result<()> {
    let answer = move || async move {
        match metrics.text() {
            Ok(text) => {
                let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, content_type)], text).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    axum::serve(listener, Router::new().route("/metrics", get(answer))).await.context("serving /metrics")
}
