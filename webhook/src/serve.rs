//! Serving: the two endpoints of admission on TLS, readiness and metrics in plaintext.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::body::{self, Budget, Whole};
use crate::certificate;
use crate::envelope::Answer;
use crate::idle::{self, Busy, Unused};
use crate::inject::settings::Settings;
use crate::inject::variables;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::review::review;
use crate::validate::{self, Checked};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the handshake to the first request, and for the head of each of HTTP/1.1.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without a request is closed, so that clients that went silent do not take the places of others. API
/// servers open a new one when they need it.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a connection may take to end once it was told to, and all of them once serving ends.
const DRAIN: Duration = Duration::from_secs(10);
/// The same for one whose place another waits for.
const FAREWELL: Duration = Duration::from_secs(1);
/// API servers keep a few connections each; the kubelet and Prometheus come one at a time.
pub(crate) const MOST_CONNECTIONS: usize = 256;
/// Reviews at once on a connection of HTTP/2; an API server that has more opens another one.
const MOST_STREAMS: u32 = 256;
/// What a client may send before it is read: with [`MOST_CONNECTIONS`], the other bound of memory beside the budget of
/// bodies.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// A review up to this size is checked where it was read: each further thread keeps two megabytes that it has once used,
/// and the 200 regular expressions of the costliest kind that fit in here take some 0.1 s.
const CHECKED_IN_PLACE: usize = 8 << 10;
/// Checks of larger objects at once.
pub(crate) const CHECKS: usize = 2;
/// The API server waits 5 s for an answer about an object.
const CHECKED_WITHIN: Duration = Duration::from_secs(4);
/// How often it is said that a client does not trust us.
const UNTRUSTED_EVERY: Duration = Duration::from_secs(10);

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: watch::Receiver<Option<Arc<Settings>>>,
    pub(crate) certificate: certificate::Current,
    pub(crate) metrics: Metrics,
    /// Memory for the bodies of all requests.
    pub(crate) budget: Budget,
    /// Places for checks of objects, [`CHECKS`] of them.
    pub(crate) checks: Arc<Semaphore>,
    /// Reviews on all connections that are being answered.
    pub(crate) busy: Busy,
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
        } else {
            match &*self.certificate.borrow() {
                None => Some("waiting for the certificate: Secret istio-sidecar-injector-ca, which the operator makes"),
                Some(serving) if serving.has_expired(SystemTime::now()) => {
                    Some("the certificate has expired: Secret istio-sidecar-injector-ca is broken or out of reach")
                }
                Some(_) => None,
            }
        }
    }
}

/// The admission routes.
pub(crate) fn admission(shared: Shared) -> Router {
    const WHAT: &str = "the webhook answers POST of /inject and /validate\n";
    Router::new()
        .route("/inject", post(inject))
        .route("/inject/", post(inject))
        .route("/inject/{*variables}", post(inject))
        .route("/validate", post(validate))
        .route("/validate/", post(validate))
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, WHAT) })
        .fallback(|| async { (StatusCode::NOT_FOUND, WHAT) })
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

async fn inject(State(shared): State<Shared>, request: Request) -> Response {
    let _busy = shared.busy.begin();
    let begin = Instant::now();
    let variables = variables::of_path(request.uri().path());
    let answer = match body::read(request, &shared.budget).await {
        Ok(body) => {
            let settings = shared.settings.borrow().clone();
            survive(&body.bytes, || review(&body.bytes, &variables, settings.as_deref()))
                .unwrap_or_else(|answer| answer)
        }
        Err(refusal) => refusal,
    };
    shared.metrics.injection(&answer, begin.elapsed());
    respond(&answer)
}

async fn validate(State(shared): State<Shared>, request: Request) -> Response {
    let _busy = shared.busy.begin();
    let begin = Instant::now();
    let checked = match body::read(request, &shared.budget).await {
        Ok(body) if body.bytes.len() <= CHECKED_IN_PLACE => survive(&body.bytes, || validate::check(&body.bytes)),
        Ok(body) => check_beside(body, &shared.checks, validate::check).await,
        Err(refusal) => Err(refusal),
    };
    let Checked { answer, count } = checked.unwrap_or_else(|answer| {
        shared.metrics.unread(answer.code().unwrap_or_default());
        Checked { answer, count: None }
    });
    shared.metrics.validation(count, begin.elapsed());
    respond(&answer)
}

/// Checks an object on a thread of its own, and answers in time also where the check takes longer. Some take seconds, of
/// thousands of regular expressions for example; whoever may write one rule must not keep pods and all other rules waiting.
async fn check_beside<T: Send + 'static>(
    body: Whole,
    checks: &Arc<Semaphore>,
    check: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Answer> {
    let body = Arc::new(body);
    let checked = async {
        let place = Arc::clone(checks).acquire_owned().await;
        let body = Arc::clone(&body);
        let check = tokio::task::spawn_blocking(move || {
            let _place = place;
            survive(&body.bytes, || check(&body.bytes))
        });
        check.await
    };
    match tokio::time::timeout(CHECKED_WITHIN, checked).await {
        Ok(Ok(checked)) => checked,
        // The process ends.
        Ok(Err(_)) => Err(Answer::refuse_body(&body.bytes, 503, "the webhook ends; try again")),
        Err(_) => {
            let seconds = CHECKED_WITHIN.as_secs();
            let answer = Answer::refuse_body(
                &body.bytes,
                503,
                format!(
                    "the object was not checked within {seconds} s: it is very large, or the webhook busy with one that is"
                ),
            );
            tracing::warn!(
                uid = answer.uid(),
                bytes = body.bytes.len(),
                "an object was not checked within {seconds} s"
            );
            Err(answer)
        }
    }
}

fn respond(answer: &Answer) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_json()).into_response()
}

/// A mistake of ours in one answer is an answer too, and not the end of a connection with all the others on it.
fn survive<T>(body: &[u8], answer: impl FnOnce() -> T) -> Result<T, Answer> {
    catch_unwind(AssertUnwindSafe(answer)).map_err(|_| {
        tracing::error!("a review ended in a panic");
        Answer::refuse_body(
            body,
            500,
            "the webhook failed on this object; its log says where. This is a mistake of ours",
        )
    })
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
    // API servers do not resume sessions: what would be kept for it is of use to nobody.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `end` becomes true; then takes no more connections and lets the open ones finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    places: Places,
    mut end: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = open.join_next() => continue,
            () = told(&mut end) => break,
        };
        let place = tokio::select! {
            Some(place) = places.take() => place,
            () = told(&mut end) => break,
        };
        let (tls, router, places, end) = (tls.clone(), router.clone(), places.clone(), end.clone());
        open.spawn(async move {
            let _place = place;
            let result = async {
                let stream = at_once(stream)?;
                let Some(tls) = tls else { return connection(stream, router, &places, end).await };
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
                let stream = tokio::select! {
                    handshake = handshake => handshake.map_err(|_| "the TLS handshake took too long")??,
                    () = places.wanted() => return Err("its place was wanted during the TLS handshake".into()),
                };
                connection(stream, router, &places, end).await
            };
            if let Err(error) = result.await {
                tell(peer, error.as_ref());
            }
        });
    }
    drop(listener);
    // A handshake may still be on its way: it gets its answer as well, or loses it after this.
    if tokio::time::timeout(DRAIN, async { while open.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What concerns the client alone is for those who look for it. A certificate that a client refuses concerns everybody:
/// while it is the API server, no pod of the mesh can be made.
fn tell(peer: SocketAddr, error: &(dyn std::error::Error + Send + Sync + 'static)) {
    if refuses_certificate(error) {
        static LAST: Mutex<Option<Instant>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reaches the port can refuse as often as he likes.
        if last.is_none_or(|last| last.elapsed() >= UNTRUSTED_EVERY) {
            *last = Some(Instant::now());
            tracing::warn!(
                %peer, %error,
                "a client does not trust the serving certificate. Where it is an API server, caBundle of the webhook \
                 configurations does not fit Secret {}: does the operator run, and may it write them?",
                names::resources::WEBHOOK_CA_SECRET
            );
            return;
        }
    }
    tracing::debug!(%peer, %error, "connection ended");
}

/// Whether a handshake ended because the client said that it does not accept our certificate.
fn refuses_certificate(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
    let tls = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let Some(rustls::Error::AlertReceived(alert)) = tls.and_then(|error| error.downcast_ref()) else { return false };
    matches!(alert, BadCertificate | CertificateExpired | CertificateUnknown | UnknownCA)
}

/// Every write goes out at once. Otherwise the end of an answer that needs more than one segment waits until the client
/// has acknowledged its beginning, which the client puts off until it has something to send: 40 ms, or its next review.
fn at_once(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits for the end; that nobody is left to say it is one as well.
async fn told(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

/// Serves a connection until the client ends it, it is idle for too long, its place is wanted, or serving ends.
async fn connection<S>(stream: S, router: Router, places: &Places, mut end: watch::Receiver<bool>) -> Result<(), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 << 10)
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(HEADER_TIMEOUT);
    let busy = Busy::default();
    let (service, requests) = (busy.counted(router), busy.requests());
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let farewell = tokio::select! {
        ended = connection.as_mut() => return ended,
        unused = idle::idle(requests, HEADER_TIMEOUT, IDLE_TIMEOUT, places) => match unused {
            Unused { wanted: true, ever_used: false } => return Err("it was not used, and its place was wanted".into()),
            Unused { wanted: true, ever_used: true } => FAREWELL,
            Unused { wanted: false, .. } => DRAIN,
        },
        () = told(&mut end) => DRAIN,
    };
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(farewell, connection).await {
        Ok(ended) => ended,
        Err(_) => Err("the client did not end the connection".into()),
    }
}

#[cfg(test)]
mod tests;
