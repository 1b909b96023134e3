//! Readiness on 8080; metrics, version and debug pages on 15014.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::debug::{self, Debug};
use crate::metrics::Metrics;

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What makes a replica ready: each part by name, and whether it is there.
pub(crate) type Readiness = Arc<dyn Fn() -> Vec<(&'static str, bool)> + Send + Sync>;

/// `/ready` answers 200 once everything is there, else 503 with the names of what is missing.
pub(crate) fn readiness(readiness: Readiness) -> Router {
    Router::new().route("/ready", get(ready)).with_state(readiness)
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing: Vec<&str> = readiness().into_iter().filter(|(_, there)| !there).map(|(part, _)| part).collect();
    if missing.is_empty() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))).into_response()
    }
}

/// `/metrics`, `/version`, `/debug/*` and, as a convenience, `/ready`.
pub(crate) fn monitoring(metrics: Arc<Metrics>, state: Arc<Debug>, ready: Readiness) -> Router {
    let metrics = Router::new().route("/metrics", get(text)).with_state(metrics);
    metrics.route("/version", get(|| async { names::VERSION })).merge(debug::routes(state)).merge(readiness(ready))
}

async fn text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([("content-type", TEXT)], metrics.text())
}

/// Serves `router` until `stop`.
pub(crate) fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> impl Future<Output = std::io::Result<()>> {
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).into_future()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn get(router: Router, path: &str) -> (StatusCode, String) {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing() {
        let of = |authority: bool| -> Router {
            readiness(Arc::new(move || vec![("configuration", true), ("certificate authority", authority)]))
        };
        assert_eq!(get(of(true), "/ready").await, (StatusCode::OK, "ready\n".to_owned()));
        let missing = "not ready: certificate authority\n".to_owned();
        assert_eq!(get(of(false), "/ready").await, (StatusCode::SERVICE_UNAVAILABLE, missing));
    }
}
