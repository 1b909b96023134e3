//! The endpoint as the API server sees it: a real connection over TLS, on loopback.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::{LARGEST_BODY, Shared, admission, monitoring, readiness, serve, tls};
use crate::inject::settings::Settings;
use crate::metrics::Metrics;

struct Endpoint {
    port: u16,
    roots: RootCertStore,
    shared: Shared,
    end: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
    _senders: (watch::Sender<Option<Arc<Settings>>>, watch::Sender<bool>),
}

const NAME: &str = "istio-sidecar-injector.istio-system.svc";

async fn endpoint() -> Endpoint {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = params.self_signed(&key).unwrap();
    let bytes = |text: String| k8s_openapi::ByteString(text.into_bytes());
    let data = [("ca-cert.pem".to_owned(), bytes(ca.pem())), ("ca-key.pem".to_owned(), bytes(key.serialize_pem()))];
    let secret = k8s_openapi::api::core::v1::Secret { data: Some(data.into()), ..Default::default() };
    let names = [NAME.to_owned()];
    let minted = crate::certificate::mint(&secret, &names, std::time::SystemTime::now(), &default_provider()).unwrap();

    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings =
        Settings::read("default", &map(&[("mesh", "")]), &map(&[("config", ""), ("values", "{}")]), true).unwrap();
    let (settings, settings_receiver) = watch::channel(Some(Arc::new(settings)));
    let (_, certificate) = watch::channel(Some(Arc::new(minted)));
    let (ending, ending_receiver) = watch::channel(false);
    let shared = Shared { settings: settings_receiver, certificate, metrics: Metrics::new(), ending: ending_receiver };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (end, end_receiver) = watch::channel(false);
    let acceptor = tls(shared.certificate.clone()).unwrap();
    let served = tokio::spawn(serve(listener, Some(acceptor), admission(shared.clone()), end_receiver));
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    Endpoint { port, roots, shared, end, served, _senders: (settings, ending) }
}

impl Endpoint {
    async fn post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has answered may close before it has read everything.
        let _ = stream.write_all(body).await;
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        let text = String::from_utf8(response).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
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
    let (status, _) = endpoint.post("/elsewhere", b"").await;
    assert_eq!(status, 404);

    let counted = endpoint.shared.metrics.text();
    for line in [
        "sidecar_injection_requests_total 3",
        "sidecar_injection_success_total 2",
        "sidecar_injection_failure_total 1",
        "sidecar_injection_skip_total 0",
        "sidecar_injection_time_seconds_count 3",
    ] {
        assert!(counted.contains(line), "{line} in\n{counted}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_an_answer_too() {
    let endpoint = endpoint().await;
    let begin = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u9","object":""#;
    let mut body = begin.to_vec();
    body.resize(LARGEST_BODY + 1, b'a');
    let (status, answer) = endpoint.post("/inject", &body).await;
    assert_eq!((status, &answer["response"]["uid"]), (200, &json!("u9")), "{answer}");
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("larger than"), "{message}");
}

#[tokio::test]
async fn the_end_waits_for_nobody_who_is_idle() {
    let endpoint = endpoint().await;
    endpoint.end.send_replace(true);
    endpoint.served.await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", endpoint.port)).await.is_err());
}

#[tokio::test]
async fn ready_means_able_to_answer() {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let endpoint = endpoint().await;
    let get = |router: axum::Router, path: &'static str| async move {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(get(readiness(endpoint.shared.clone()), "/ready").await, (200, "ready\n".to_owned()));
    let (_, none) = watch::channel(None);
    let unready = Shared { certificate: none, ..endpoint.shared.clone() };
    let (status, reason) = get(readiness(unready), "/ready").await;
    assert_eq!(status, 503);
    assert!(reason.contains("istio-sidecar-injector-ca"), "{reason}");
    assert_eq!(get(monitoring(endpoint.shared.clone()), "/version").await, (200, names::VERSION.to_owned()));
}
