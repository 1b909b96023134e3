//! The endpoint as the API server sees it: a real connection over TLS, on loopback.

mod hostile;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{
    CHECKS, MOST_CONNECTIONS, Shared, admission, at_once, connection, monitoring, readiness, serve, survive, tls,
};
use crate::body::{BUDGET, Budget, LARGEST};
use crate::certificate::Serving;
use crate::idle::Busy;
use crate::inject::settings::Settings;
use crate::metrics::Metrics;
use crate::places::Places;

struct Endpoint {
    port: u16,
    roots: RootCertStore,
    shared: Shared,
    certificate: watch::Sender<Option<Arc<Serving>>>,
    end: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
    _senders: (watch::Sender<Option<Arc<Settings>>>, watch::Sender<bool>),
}

const NAME: &str = "istio-sidecar-injector.istio-system.svc";

/// A serving certificate, and the authority that it is of.
fn certificate(now: SystemTime) -> (Serving, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = params.self_signed(&key).unwrap();
    let bytes = |text: String| k8s_openapi::ByteString(text.into_bytes());
    let data = [("ca-cert.pem".to_owned(), bytes(ca.pem())), ("ca-key.pem".to_owned(), bytes(key.serialize_pem()))];
    let secret = k8s_openapi::api::core::v1::Secret { data: Some(data.into()), ..Default::default() };
    (crate::certificate::mint(&secret, &[NAME.to_owned()], now, &default_provider()).unwrap(), ca.der().clone())
}

async fn endpoint() -> Endpoint {
    endpoint_with(Places::new(MOST_CONNECTIONS)).await
}

async fn endpoint_with(places: Places) -> Endpoint {
    let (minted, authority) = certificate(SystemTime::now());
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings =
        Settings::read("default", &map(&[("mesh", "")]), &map(&[("config", ""), ("values", "{}")]), true).unwrap();
    let (settings, settings_receiver) = watch::channel(Some(Arc::new(settings)));
    let (certificate, certificate_receiver) = watch::channel(Some(Arc::new(minted)));
    let (ending, ending_receiver) = watch::channel(false);
    let shared = Shared {
        settings: settings_receiver,
        certificate: certificate_receiver,
        metrics: Metrics::new(),
        budget: Budget::new(BUDGET),
        checks: Arc::new(Semaphore::new(CHECKS)),
        busy: Busy::default(),
        ending: ending_receiver,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (end, end_receiver) = watch::channel(false);
    let acceptor = tls(shared.certificate.clone()).unwrap();
    let served = tokio::spawn(serve(listener, Some(acceptor), admission(shared.clone()), places, end_receiver));
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    Endpoint { port, roots, shared, certificate, end, served, _senders: (settings, ending) }
}

impl Endpoint {
    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// One request on an HTTP/1.1 connection of its own.
    async fn post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = self.connect(b"http/1.1").await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        rest(stream).await
    }

    /// A connection of HTTP/2, as an API server keeps one.
    async fn http2(&self) -> SendRequest<Full<bytes::Bytes>> {
        let stream = TokioIo::new(self.connect(b"h2").await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

async fn rest(mut stream: TlsStream<TcpStream>) -> (u16, Value) {
    let mut response = Vec::new();
    // Without a farewell of TLS that is an error, after everything has been read.
    let _ = stream.read_to_end(&mut response).await;
    let text = String::from_utf8(response).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn over(mut sender: SendRequest<Full<bytes::Bytes>>, path: &str, body: Value) -> (u16, Value) {
    let request = http::Request::post(format!("https://{NAME}{path}")).body(Full::from(body.to_string())).unwrap();
    sender.ready().await.unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn ask() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "default", "object": {"metadata": {"name": "a"}, "spec": {"containers": []}},
        },
    })
}

fn ask_about(spec: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u2", "kind": {"group": "networking.istio.io", "version": "v1", "kind": "VirtualService"},
            "operation": "CREATE", "namespace": "default", "object": {"metadata": {"name": "a"}, "spec": spec},
        },
    })
}

#[tokio::test]
async fn reviews_are_answered_over_tls() {
    let endpoint = endpoint().await;
    for path in ["/inject", "/inject/cluster/c1/net/n1"] {
        let (status, answer) = endpoint.post(path, ask().to_string().as_bytes()).await;
        assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(true)), "{answer}");
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
    }
    let (status, answer) = endpoint.post("/inject", b"hello").await;
    assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(false)));

    let sender = endpoint.http2().await;
    let good = json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]});
    let (status, answer) = over(sender.clone(), "/validate", ask_about(&good)).await;
    assert_eq!((status, &answer["response"]), (200, &json!({"uid": "u2", "allowed": true})));
    let (status, answer) = over(sender, "/validate", ask_about(&json!({"hosts": []}))).await;
    assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(false)), "{answer}");

    let counted = endpoint.shared.metrics.text();
    for line in [
        "sidecar_injection_requests_total 3",
        "sidecar_injection_success_total 2",
        "sidecar_injection_failure_total 1",
        "sidecar_injection_skip_total 0",
        "sidecar_injection_time_seconds_count 3",
        "galley_validation_passed{group=\"networking.istio.io\",version=\"v1\",resource=\"virtualservices\"} 1",
        "galley_validation_failed{group=\"networking.istio.io\",version=\"v1\",resource=\"virtualservices\",reason=\"invalid_resource\"} 1",
        "galley_validation_time_seconds_count 2",
    ] {
        assert!(counted.contains(line), "{line} in\n{counted}");
    }
}

#[tokio::test]
async fn what_is_no_review_at_all_has_an_http_status() {
    let endpoint = endpoint().await;
    let (status, _) = endpoint.post("/elsewhere", b"").await;
    assert_eq!(status, 404);
    let mut stream = endpoint.connect(b"http/1.1").await;
    let head = format!("GET /validate HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(rest(stream).await.0, 405);
}

#[tokio::test]
async fn a_body_without_end_is_an_answer_too() {
    let endpoint = endpoint().await;
    let begin = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u9","object":""#;
    let mut body = begin.to_vec();
    // More than any buffer between us holds: who sends it all before he listens must be heard to his end.
    body.resize(2 * LARGEST, b'a');
    for path in ["/inject", "/validate"] {
        let (status, answer) = endpoint.post(path, &body).await;
        assert_eq!((status, &answer["response"]["uid"]), (200, &json!("u9")), "{answer}");
        assert_eq!(answer["response"]["status"]["code"], 413);
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("larger than"), "{message}");
    }
    assert!(endpoint.shared.metrics.text().contains("galley_validation_http_error{status=\"413\"} 1"));
}

#[tokio::test]
async fn many_reviews_at_once_are_all_answered() {
    let endpoint = endpoint().await;
    let sender = endpoint.http2().await;
    let answers = (0..500).map(|n| {
        let mut body = ask();
        body["request"]["uid"] = json!(n.to_string());
        tokio::spawn(over(sender.clone(), "/inject", body))
    });
    for (n, answer) in futures::future::join_all(answers).await.into_iter().enumerate() {
        let (status, answer) = answer.unwrap();
        assert_eq!((status, &answer["response"]["uid"]), (200, &json!(n.to_string())));
        assert_eq!(answer["response"]["allowed"], true);
    }
}

#[tokio::test]
async fn the_end_waits_for_nobody_who_is_idle() {
    let endpoint = endpoint().await;
    let _idle = (endpoint.connect(b"http/1.1").await, endpoint.http2().await);
    endpoint.end.send_replace(true);
    endpoint.served.await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", endpoint.port)).await.is_err());
}

#[tokio::test]
async fn the_end_waits_for_an_answer_under_way() {
    let endpoint = endpoint().await;
    let body = ask().to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let mut stream = endpoint.connect(b"http/1.1").await;
    let head = format!("POST /inject HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: {}\r\n\r\n{first}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // Its beginning has been read once something of the budget is taken.
    while endpoint.shared.budget.is_whole(BUDGET) {
        tokio::task::yield_now().await;
    }
    endpoint.end.send_replace(true);
    while TcpStream::connect(("127.0.0.1", endpoint.port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(second.as_bytes()).await.unwrap();
    let (status, answer) = rest(stream).await;
    assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(true)));
    endpoint.served.await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_the_old_ones_work_on() {
    let mut endpoint = endpoint().await;
    let old = endpoint.http2().await;
    assert_eq!(over(old.clone(), "/inject", ask()).await.0, 200);

    let (minted, authority) = certificate(SystemTime::now());
    // As in `caBundle` during a rotation: the new authority beside the old one.
    endpoint.roots.add(authority.clone()).unwrap();
    endpoint.certificate.send_replace(Some(Arc::new(minted)));
    let new = endpoint.connect(b"h2").await;
    assert_eq!(new.get_ref().1.peer_certificates().unwrap()[1], authority);
    let new = endpoint.http2().await;
    for sender in [old, new] {
        let (status, answer) = over(sender, "/inject", ask()).await;
        assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(true)));
    }
}

#[tokio::test]
async fn ready_means_able_to_answer() {
    use tower::ServiceExt as _;
    let endpoint = endpoint().await;
    let get = |router: axum::Router, path: &'static str| async move {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(get(readiness(endpoint.shared.clone()), "/ready").await, (200, "ready\n".to_owned()));
    let two_days_ago = SystemTime::now() - Duration::from_hours(48);
    let of = |certificate| watch::channel(certificate).1;
    for (name, unready, because) in [
        ("no certificate", Shared { certificate: of(None), ..endpoint.shared.clone() }, "istio-sidecar-injector-ca"),
        (
            "an old certificate",
            Shared { certificate: of(Some(Arc::new(certificate(two_days_ago).0))), ..endpoint.shared.clone() },
            "has expired",
        ),
        ("no settings", Shared { settings: watch::channel(None).1, ..endpoint.shared.clone() }, "ConfigMaps"),
        ("the end", Shared { ending: watch::channel(true).1, ..endpoint.shared.clone() }, "ending"),
    ] {
        let (status, reason) = get(readiness(unready), "/ready").await;
        assert_eq!(status, 503, "{name}");
        assert!(reason.contains(because), "{name}: {reason}");
    }
    assert_eq!(get(monitoring(endpoint.shared.clone()), "/version").await, (200, names::VERSION.to_owned()));
}

#[test]
fn a_panic_is_an_answer() {
    let body = br#"{"request":{"uid":"u3"}}"#;
    let answer = survive(body, || -> () { panic!("on purpose") }).unwrap_err();
    assert_eq!((answer.uid(), answer.allowed(), answer.code()), ("u3", false, Some(500)));
}

/// How long a connection stays that a client uses so, by tokio's clock, which stands still.
async fn stays<F: Future<Output = ()>>(client: impl FnOnce(tokio::io::DuplexStream) -> F) -> Duration {
    let shared = endpoint().await.shared;
    let begun = tokio::time::Instant::now();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (_end, end) = watch::channel(false);
    let client = client(theirs);
    let serve = async {
        // How it ends is not the question.
        let _ = connection(ours, admission(shared), &Places::new(1), end).await;
        begun.elapsed()
    };
    let (stayed, ()) = tokio::join!(serve, client);
    stayed
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_closed() {
    let until_closed = async |mut stream: tokio::io::DuplexStream, says: &[u8]| {
        stream.write_all(says).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
    };
    let seconds = stays(|stream| until_closed(stream, b"")).await.as_secs();
    assert_eq!(seconds, 30, "nothing is said");
    let seconds = stays(|stream| until_closed(stream, b"GET / HTTP/1.1\r\nhost")).await.as_secs();
    assert_eq!(seconds, 30, "half a head");
    let version_2 = async |stream, requests: usize| {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let asking = async {
            for _ in 0..requests {
                tokio::time::sleep(Duration::from_secs(20)).await;
                assert_eq!(over(sender.clone(), "/inject", ask()).await.0, 200);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asking => {}
            _ = connection => {}
        }
    };
    let seconds = stays(|stream| version_2(stream, 0)).await.as_secs();
    assert_eq!(seconds, 30, "HTTP/2 without a request");
    let seconds = stays(|stream| version_2(stream, 3)).await.as_secs();
    assert_eq!(seconds, 360, "three requests, the last after a minute");
}

#[tokio::test]
async fn answers_do_not_wait_for_acknowledgements() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    assert!(!stream.nodelay().unwrap(), "the kernel's default");
    assert!(at_once(stream).unwrap().nodelay().unwrap());
}
