//! Serving: admission on TLS, readiness and metrics in plaintext.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::certificate;
use crate::inject::settings::Settings;
use crate::inject::variables;
use crate::metrics::Metrics;
use crate::review::{Answer, review};

/// A review holds a pod, and the API server takes no request above 3 MiB.
const LARGEST_BODY: usize = 8 << 20;
/// The API server waits 10 s for an answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(8);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_CONNECTIONS: usize = 1024;
/// How long open connections may finish once serving ends.
const DRAIN: Duration = Duration::from_secs(10);

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: watch::Receiver<Option<Arc<Settings>>>,
    pub(crate) certificate: certificate::Current,
    pub(crate) metrics: Metrics,
    /// True once the process was told to end.
    pub(crate) ending: watch::Receiver<bool>,
}

impl Shared {
    /// Ready means: able to answer.
    fn not_ready(&self) -> Option<&'static str> {
        if *self.ending.borrow() {
            Some("ending")
        } else if self.settings.borrow().is_none() {
            Some("waiting for the settings: ConfigMaps of the mesh and of the injector, and the nodes")
        } else if self.certificate.borrow().is_none() {
            Some("waiting for the certificate: Secret istio-sidecar-injector-ca, which the operator makes")
        } else {
            None
        }
    }
}

/// The admission routes.
pub(crate) fn admission(shared: Shared) -> Router {
    Router::new()
        .route("/inject", post(admit))
        .route("/inject/", post(admit))
        .route("/inject/{*variables}", post(admit))
        .with_state(shared)
}

/// `/ready`, for the kubelet.
pub(crate) fn readiness(shared: Shared) -> Router {
    let ready = |State(shared): State<Shared>| async move {
        match shared.not_ready() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    };
    Router::new().route("/ready", get(ready)).with_state(shared)
}

/// `/metrics` and `/version`.
pub(crate) fn monitoring(shared: Shared) -> Router {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let metrics =
        |State(shared): State<Shared>| async move { ([(header::CONTENT_TYPE, OPEN_METRICS)], shared.metrics.text()) };
    Router::new().route("/metrics", get(metrics)).route("/version", get(|| async { names::VERSION })).with_state(shared)
}

async fn admit(State(shared): State<Shared>, request: Request) -> Response {
    let begin = Instant::now();
    let variables = variables::of_path(request.uri().path());
    let answer = match read(request.into_body()).await {
        Ok(body) => {
            let settings = shared.settings.borrow().clone();
            review(&body, &variables, settings.as_deref())
        }
        Err(refusal) => refusal,
    };
    shared.metrics.answered(answer.verdict, begin.elapsed());
    ([(header::CONTENT_TYPE, "application/json")], answer.to_json()).into_response()
}

/// Reads a body within its bounds of size and time; beyond them the question is still answered.
async fn read(mut body: Body) -> Result<Vec<u8>, Answer> {
    let deadline = tokio::time::Instant::now() + BODY_TIMEOUT;
    let mut bytes = Vec::new();
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Answer::refuse_body(&bytes, 408, "the AdmissionReview took too long to arrive")),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => {
                return Err(Answer::refuse_body(
                    &bytes,
                    400,
                    format!("the AdmissionReview did not arrive whole: {error}"),
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > LARGEST_BODY {
                let message = format!("the AdmissionReview is larger than {LARGEST_BODY} bytes");
                return Err(Answer::refuse_body(&bytes, 413, message));
            }
            bytes.extend_from_slice(&data);
        }
    }
}

/// Listens on all addresses, of both families where there are two.
pub(crate) fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let any = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    any(SocketAddr::from(([0_u16; 8], port)))
        .or_else(|_| any(SocketAddr::from(([0, 0, 0, 0], port))))
        .with_context(|| format!("cannot listen on port {port}"))
}

/// TLS with the newest certificate for every handshake.
pub(crate) fn tls(current: certificate::Current) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate::Resolver(current)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `end` becomes true; then takes no more connections and lets the open ones finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut end: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            (permit, accepted) = next => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    // Out of file descriptors, most likely: accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = told(&mut end) => break,
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            let result = match tls {
                None => connection(stream, router, watcher).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, router, watcher).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err("the TLS handshake took too long".into()),
                },
            };
            if let Err(error) = result {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
}

/// Waits for the end; that nobody is left to say it is one as well.
async fn told(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn connection<S>(
    stream: S,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 << 10)
        .max_concurrent_streams(256)
        .keep_alive_interval(HEADER_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned();
    watcher.watch(connection).await
}

#[cfg(test)]
mod tests;
