//! A control plane behind TLS at one end, an application at a socket at the other.

use std::convert::Infallible;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::xds::client::tests::{Authority, serve};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// Answers with what it was sent, and says how it was called.
fn answer(request: Request<Incoming>, certificate: bool) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let text = |value: &str| HeaderValue::from_str(value).expect("ASCII");
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), text("0"))]);
    let mut response = Response::new(Body::new(body.with_trailers(std::future::ready(Some(Ok(trailers))))));
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("none");
    response.headers_mut().insert("x-called", text(parts.uri.path()));
    response.headers_mut().insert("x-proved-by", text(if certificate { "certificate" } else { token }));
    response
}

struct World {
    files: tempfile::TempDir,
    identity: watch::Sender<Option<Arc<Identity>>>,
    authority: Authority,
    relay: Relay,
}

impl World {
    async fn new(with_control_plane: bool) -> Self {
        let authority = Authority::new();
        let files = tempfile::tempdir().expect("a folder");
        let (roots, token) = (files.path().join("root-cert.pem"), files.path().join("istio-token"));
        std::fs::write(&roots, authority.root()).expect("written");
        std::fs::write(&token, "a-token").expect("written");
        let port = if with_control_plane {
            let service = |certificate| {
                tower::service_fn(move |request: Request<Incoming>| {
                    std::future::ready(Ok::<_, Infallible>(answer(request, certificate)))
                })
            };
            serve(&authority, service).await.port()
        } else {
            // Of the ports that nobody listens on, one that nobody will.
            1
        };
        let identity = watch::Sender::new(None);
        let control_plane = ControlPlane { address: format!("localhost:{port}"), roots, token };
        let relay = Relay { control_plane, identity: identity.subscribe(), streams: Arc::default() };
        let listener = listen(&files.path().join("XDS")).expect("a socket");
        tokio::spawn(relay.clone().serve(listener));
        Self { files, identity, authority, relay }
    }

    /// Calls as the application does.
    async fn call<B>(&self, path: &str, body: B) -> Response<Incoming>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let stream = UnixStream::connect(self.files.path().join("XDS")).await.expect("the relay listens");
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{path}"))
            .header(header::AUTHORIZATION, "Bearer the application's own")
            .header(header::TE, "trailers")
            .body(body)
            .expect("a request");
        client.send_request(request).await.expect("an answer")
    }
}

fn header_of<'a>(response: &'a Response<Incoming>, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_stream_is_passed_on_both_ways_with_our_own_proof() {
    let world = World::new(true).await;
    let token = world.call(METHOD, Full::new(Bytes::new())).await;
    assert_eq!(header_of(&token, "x-proved-by"), "Bearer a-token", "before there is a certificate");

    world.identity.send_replace(Some(world.authority.identity()));
    let (sender, receiver) = mpsc::channel(1);
    let mut answer = world.call(METHOD, StreamBody::new(ReceiverStream::new(receiver))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!((header_of(&answer, "x-called"), header_of(&answer, "x-proved-by")), (METHOD, "certificate"));
    for text in ["first", "second"] {
        sender.send(Ok::<_, Infallible>(Frame::data(Bytes::from(text)))).await.expect("the stream is open");
        let frame = answer.frame().await.expect("a frame").expect("sound");
        assert_eq!(frame.into_data().expect("data"), text, "while the stream goes on");
    }
    assert_eq!(world.relay.streams.open.load(Ordering::Relaxed), 1);
    drop(sender);
    let trailers = answer.frame().await.expect("trailers").expect("sound").into_trailers().expect("trailers");
    assert_eq!(trailers.get("grpc-status").and_then(|value| value.to_str().ok()), Some("0"));
}

#[tokio::test]
async fn nothing_but_discovery_is_passed_on() {
    let world = World::new(true).await;
    for path in
        ["/istio.v1.auth.IstioCertificateService/CreateCertificate", "/", "/grpc.reflection.v1.ServerReflection/X"]
    {
        let answer = world.call(path, Full::new(Bytes::new())).await;
        assert_eq!((header_of(&answer, "grpc-status"), header_of(&answer, "x-called")), ("12", ""), "{path}");
    }
}

#[tokio::test]
async fn without_a_control_plane_the_application_is_told_to_try_again() {
    let world = World::new(false).await;
    world.identity.send_replace(Some(world.authority.identity()));
    let answer = world.call(METHOD, Full::new(Bytes::new())).await;
    assert_eq!(header_of(&answer, "grpc-status"), "14");
}

#[tokio::test]
async fn a_socket_that_an_earlier_agent_left_is_replaced() {
    let files = tempfile::tempdir().expect("a folder");
    let path = files.path().join("XDS");
    drop(listen(&path).expect("a socket"));
    let _listener = listen(&path).expect("another");
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "the application is another user");
}
