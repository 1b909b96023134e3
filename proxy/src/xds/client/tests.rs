//! The client against a control plane on loopback: TLS, token and certificate, one stream after another.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use xds::{
    type_url,
    types::discovery::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer, DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        DiscoveryRequest, DiscoveryResponse,
    },
};

use super::Client;
use crate::{
    agent::readiness::{NotReady, Readiness},
    tls::identity::{Identity, provider},
    xds::{
        connect::ControlPlane,
        publish::{Publisher, Update},
        session::tests::{endpoints, first_configuration, host, line, response, session},
    },
};

/// One stream as the control plane sees it.
struct Caller {
    /// `Bearer ...`, if the call carried a token.
    token: Option<String>,
    /// Whether the connection showed a certificate.
    certificate: bool,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Caller {
    /// The next request, in one line.
    async fn next(&mut self) -> String {
        line(&self.requests.message().await.expect("the stream is whole").expect("the client is there"))
    }

    fn send(&self, response: DeltaDiscoveryResponse) {
        self.responses.send(Ok(response)).expect("the client is there");
    }
}

/// Hands each stream to the test.
#[derive(Clone)]
struct Streams {
    certificate: bool,
    callers: mpsc::UnboundedSender<Caller>,
}

type Responses<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Streams {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (responses, stream) = mpsc::unbounded_channel();
        let caller = Caller { token, certificate: self.certificate, requests: request.into_inner(), responses };
        let _ = self.callers.send(caller);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    pub(crate) fn sign(&self, name: SanType) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = vec![name];
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        let uri = "spiffe://cluster.local/ns/default/sa/p".try_into().expect("ASCII");
        let (certificate, key) = self.sign(SanType::URI(uri));
        Arc::new(Identity::new(1, vec![certificate], key, vec![self.0.der().clone()]).expect("complete"))
    }

    /// The root, PEM.
    pub(crate) fn root(&self) -> String {
        self.0.pem()
    }

    /// Signs a request for what it asks for.
    pub(crate) fn sign_request(&self, csr: &str) -> String {
        let request = rcgen::CertificateSigningRequestParams::from_pem(csr).expect("a request");
        request.signed_by(&self.0).expect("signed").pem()
    }
}

/// A gRPC service on loopback, behind TLS. It is made for each connection, and told whether that showed a certificate.
pub(crate) async fn serve<S>(authority: &Authority, service: impl Fn(bool) -> S + Clone + Send + 'static) -> SocketAddr
where
    S: tower::Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let (certificate, key) = authority.sign(SanType::DnsName("localhost".try_into().expect("ASCII")));
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let certificate = tls.get_ref().1.peer_certificates().is_some();
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tls), TowerToHyperService::new(service(certificate)))
                    .await;
            });
        }
    });
    address
}

/// A control plane on loopback, and where it hands its streams to.
async fn control_plane(authority: &Authority) -> (SocketAddr, mpsc::UnboundedReceiver<Caller>) {
    let (callers, streams) = mpsc::unbounded_channel();
    let service =
        move |certificate| AggregatedDiscoveryServiceServer::new(Streams { certificate, callers: callers.clone() });
    (serve(authority, service).await, streams)
}

struct Proxy {
    publisher: Arc<Publisher>,
    readiness: Arc<Readiness>,
    identity: watch::Sender<Option<Arc<Identity>>>,
    client: tokio::task::JoinHandle<()>,
    files: tempfile::TempDir,
}

fn proxy(authority: &Authority, address: SocketAddr, identity: Option<Arc<Identity>>) -> Proxy {
    let files = tempfile::tempdir().expect("a directory");
    let (roots, token) = (files.path().join("root-cert.pem"), files.path().join("istio-token"));
    std::fs::write(&roots, authority.0.pem()).expect("written");
    std::fs::write(&token, "a-token\n").expect("written");
    let (publisher, readiness) = (Arc::new(Publisher::new()), Arc::new(Readiness::new()));
    let identity = watch::Sender::new(identity);
    let client = Client {
        control_plane: ControlPlane { address: format!("localhost:{}", address.port()), roots, token },
        session: Arc::new(Mutex::new(session())),
        publisher: publisher.clone(),
        readiness: readiness.clone(),
        identity: identity.subscribe(),
        connected: Arc::new(AtomicBool::new(false)),
        give_back: || {},
    };
    // The wait for a certificate is not what these tests are about.
    let client = tokio::spawn(async move { client.follow().await });
    Proxy { publisher, readiness, identity, client, files }
}

/// Plays the first configuration.
async fn configure(caller: &mut Caller) {
    for expected in ["cds +*", "lds +*", "vhds +*"] {
        assert_eq!(caller.next().await, expected);
    }
    let answers: [&[&str]; 5] =
        [&["cds ack 1", "eds +a"], &["eds ack 2"], &["lds ack 3", "rds +9080"], &["rds ack 4"], &["vhds ack 5"]];
    for (response, answers) in first_configuration().into_iter().zip(answers) {
        caller.send(response);
        for answer in answers {
            assert_eq!(caller.next().await, *answer);
        }
    }
}

#[tokio::test]
async fn configuration_arrives_and_stays_while_streams_come_and_go() {
    let authority = Authority::new();
    let (address, mut callers) = control_plane(&authority).await;
    let proxy = proxy(&authority, address, None);
    let mut updates = proxy.publisher.subscribe();
    assert!(matches!(updates.next().await, Some(Update::Snapshot(snapshot)) if snapshot.generation == 0));

    let mut first = callers.recv().await.expect("a stream");
    assert_eq!((first.token.as_deref(), first.certificate), (Some("Bearer a-token"), false));
    configure(&mut first).await;
    assert!(matches!(updates.next().await, Some(Update::Endpoints { cluster, .. }) if &*cluster == "a"));
    assert!(matches!(updates.next().await, Some(Update::Snapshot(snapshot)) if snapshot.table("9080").is_some()));
    proxy.readiness.certificate_present();
    assert_eq!(proxy.readiness.check(), Err(NotReady::Workers), "all that the control plane gives is there");

    first.responses.send(Err(Status::unavailable("going away"))).expect("the client is there");
    let mut second = callers.recv().await.expect("another stream");
    for expected in ["cds +* a=1", "eds +a a=1", "lds +* l=1", "rds +9080 9080=1", "vhds +* 9080/a=1"] {
        assert_eq!(second.next().await, expected);
    }
    assert!(updates.try_next().is_none(), "nothing changed while the control plane was away");

    second.send(response(type_url::ENDPOINTS, "9", vec![endpoints("a", &["10.0.0.1", "10.0.0.2"])]));
    assert_eq!(second.next().await, "eds ack 9");
    let Some(Update::Endpoints { set, .. }) = updates.next().await else { panic!("endpoints") };
    assert_eq!(set.endpoints.len(), 2);
    second.send(response(type_url::VIRTUAL_HOST, "10", vec![host("9080/a", "2", "a", "")]));
    assert_eq!(second.next().await, "vhds nack 10");
    assert!(updates.try_next().is_none(), "a refused rule changes nothing");
    proxy.client.abort();
}

#[tokio::test]
async fn a_new_certificate_means_a_new_connection_without_a_token() {
    let authority = Authority::new();
    let (address, mut callers) = control_plane(&authority).await;
    let proxy = proxy(&authority, address, None);
    let mut first = callers.recv().await.expect("a stream");
    configure(&mut first).await;

    proxy.identity.send_replace(Some(authority.identity()));
    let mut second = callers.recv().await.expect("another stream");
    assert_eq!((second.token.as_deref(), second.certificate), (None, true));
    assert_eq!(second.next().await, "cds +* a=1");
    proxy.client.abort();
}

#[tokio::test]
async fn a_control_plane_of_another_mesh_is_not_listened_to() {
    let authority = Authority::new();
    let (address, _callers) = control_plane(&authority).await;
    let proxy = proxy(&Authority::new(), address, None);
    let error = ControlPlane {
        address: format!("localhost:{}", address.port()),
        roots: proxy.files.path().join("root-cert.pem"),
        token: proxy.files.path().join("istio-token"),
    }
    .connect(None)
    .await
    .expect_err("its certificate is not of our mesh");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    proxy.client.abort();
}
