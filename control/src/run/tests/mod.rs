//! The control plane as a whole, over real sockets on loopback: Bookinfo from a folder, a proxy of ours as the client.

mod envoy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use names::identity::SpiffeId;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use xds::certificates::{IstioCertificateRequest, IstioCertificateServiceClient};
use xds::node::{NodeId, NodeMetadata, ProxyNode};
use xds::types::discovery::{AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds::types::google::Status;

use super::{Args, Running, start};
use crate::ca::Authority;
use crate::push::resource::Kind;

/// How long anything may take on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Upstream's Bookinfo files; `None`, loudly, where they are not.
fn samples() -> Option<PathBuf> {
    let folder = std::env::var_os("FORESTAY_SAMPLES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/samples")), PathBuf::from);
    let there = folder.join("bookinfo").is_dir();
    if !there {
        eprintln!("SKIPPED: {} has no bookinfo; set FORESTAY_SAMPLES", folder.display());
    }
    there.then_some(folder)
}

/// A folder of configuration, and a control plane that reads it.
struct World {
    folder: tempfile::TempDir,
    running: Option<Running>,
    writes: u64,
}

impl World {
    async fn bookinfo(samples: &std::path::Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bookinfo = samples.join("bookinfo");
        for file in [
            "platform/kube/bookinfo.yaml",
            "networking/destination-rule-all.yaml",
            "networking/virtual-service-all-v1.yaml",
        ] {
            let name = file.rsplit('/').next().unwrap();
            std::fs::copy(bookinfo.join(file), folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("endpoints.yaml"), endpoints()).unwrap();
        let loopback = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let args = Args {
            namespace: "istio-system".to_owned(),
            pod_name: "istiod".to_owned(),
            revision: "default".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            config_dir: Some(folder.path().to_owned()),
            ca_dir: None,
            xds_tls_address: loopback(0),
            xds_plaintext_address: loopback(0),
            monitoring_address: loopback(0),
            readiness_address: loopback(0),
            drain_seconds: 0,
        };
        let running = start(args).await.unwrap();
        Self { folder, running: Some(running), writes: 0 }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn authority(&self) -> Arc<Authority> {
        self.running().authority.borrow().clone().unwrap()
    }

    /// Replaces a file; two writes within one tick of the file system's clock differ too.
    fn write(&mut self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        self.writes += 1;
        let hidden = self.folder.path().join(format!("{name}.new"));
        std::fs::write(&hidden, text).unwrap();
        let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(self.writes);
        std::fs::File::options().write(true).open(&hidden).unwrap().set_modified(stamp).unwrap();
        std::fs::rename(hidden, path).unwrap();
    }

    /// A channel to port 15012, with a client certificate for `identity` if one is given.
    async fn channel(&self, identity: Option<&SpiffeId>) -> Channel {
        let authority = self.authority();
        let mut roots = rustls::RootCertStore::empty();
        for root in authority.roots() {
            roots.add(root.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (csr, key) = request();
                let issued = authority.sign_request(&csr, identity, None, SystemTime::now()).unwrap();
                let chain = issued.chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(chain.collect(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let address = self.running().xds_tls;
        let connect = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("istiod.istio-system.svc").map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        Endpoint::from_static("https://istiod.istio-system.svc:15012").connect_with_connector(connect).await.unwrap()
    }

    async fn plaintext(&self) -> Channel {
        let address = format!("http://{}", self.running().xds_plaintext);
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }

    async fn page(&self, address: std::net::SocketAddr, path: &str) -> (u16, String) {
        use http_body_util::BodyExt as _;
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path)
            .header("host", "istiod")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn metric(&self, line: &str) -> Option<String> {
        let (_, text) = self.page(self.running().monitoring, "/metrics").await;
        text.lines().find_map(|found| found.strip_prefix(line)).map(|value| value.trim().to_owned())
    }

    async fn stop(mut self) {
        let mut running = self.running.take().unwrap();
        let ended = running.tasks.try_join_next();
        assert!(ended.is_none(), "{ended:?}");
        running.stop().await;
    }
}

fn request() -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap(), key)
}

/// What the cluster adds to Bookinfo: a pod of each version, and an EndpointSlice with its address.
fn endpoints() -> String {
    let pods = ["details v1", "productpage v1", "ratings v1", "reviews v1", "reviews v2", "reviews v3"];
    let yaml = |(index, pod): (usize, &&str)| {
        let (app, version) = pod.split_once(' ').unwrap();
        POD_AND_SLICE.replace("APP", app).replace("VERSION", version).replace("IP", &format!("10.1.0.{}", index + 1))
    };
    pods.iter().enumerate().map(yaml).collect()
}

const POD_AND_SLICE: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: APP-VERSION, labels: {app: APP, version: VERSION, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: bookinfo-APP, containers: [{name: APP, ports: [{containerPort: 9080}]}]}
status: {phase: Running, podIP: IP, podIPs: [{ip: IP}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: APP-VERSION, labels: {kubernetes.io/service-name: APP}}
ports: [{name: http, port: 9080, protocol: TCP}]
endpoints: [{addresses: [IP], conditions: {ready: true}, targetRef: {kind: Pod, name: APP-VERSION}}]
";

fn productpage() -> ProxyNode {
    ProxyNode {
        id: NodeId::parse("sidecar~10.1.0.2~productpage-v1.default~default.svc.cluster.local").unwrap(),
        metadata: NodeMetadata {
            namespace: "default".to_owned(),
            service_account: "bookinfo-productpage".to_owned(),
            labels: BTreeMap::from([
                ("app".to_owned(), "productpage".to_owned()),
                ("version".to_owned(), "v1".to_owned()),
            ]),
            instance_ips: vec!["10.1.0.2".to_owned()],
            istio_version: "0.1.0".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            virtual_hosts: true,
            ..NodeMetadata::default()
        },
    }
}

fn identity() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "bookinfo-productpage")
}

/// A proxy as far as the protocol goes: it subscribes as a proxy does, and accepts what it gets.
struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    /// Name and version of everything it holds, by kind.
    held: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl Proxy {
    async fn connect(
        channel: Channel,
        node: &ProxyNode,
        held: BTreeMap<&'static str, BTreeMap<String, String>>,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let first = [Kind::Cluster, Kind::Listener, Kind::VirtualHost];
        for (index, kind) in first.into_iter().enumerate() {
            let request = DeltaDiscoveryRequest {
                node: (index == 0).then(|| node.to_node()),
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: vec!["*".to_owned()],
                initial_resource_versions: held.get(kind.short()).cloned().unwrap_or_default().into_iter().collect(),
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(request).await.unwrap();
        }
        for kind in [Kind::Endpoints, Kind::Routes] {
            if let Some(versions) = held.get(kind.short()) {
                let request = DeltaDiscoveryRequest {
                    type_url: kind.type_url().to_owned(),
                    resource_names_subscribe: versions.keys().cloned().collect(),
                    initial_resource_versions: versions.clone().into_iter().collect(),
                    ..DeltaDiscoveryRequest::default()
                };
                requests.send(request).await.unwrap();
            }
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, responses, held }
    }

    /// Takes the next response and accepts it.
    async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await;
        self.answer(&response, None).await;
        response
    }

    async fn receive(&mut self) -> DeltaDiscoveryResponse {
        tokio::time::timeout(PATIENCE, self.responses.message())
            .await
            .expect("a response in time")
            .expect("a stream that goes on")
            .expect("a response")
    }

    /// Accepts a response, or refuses it with a reason.
    async fn answer(&mut self, response: &DeltaDiscoveryResponse, refuse: Option<&str>) {
        let kind = Kind::of(&response.type_url).unwrap();
        if refuse.is_none() {
            let held = self.held.entry(kind.short()).or_default();
            for resource in &response.resources {
                held.insert(resource.name.clone(), resource.version.clone());
            }
            for name in &response.removed_resources {
                held.remove(name);
            }
        }
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: refuse.map(|message| Status { message: message.to_owned(), ..Status::default() }),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(answer).await.unwrap();
        if refuse.is_none() {
            self.follow(kind, response).await;
        }
    }

    /// Subscribes to what new clusters and listeners name.
    async fn follow(&mut self, kind: Kind, response: &DeltaDiscoveryResponse) {
        use xds::types::{cluster, listener};
        let mut names = Vec::new();
        let target = match kind {
            Kind::Cluster => {
                for resource in &response.resources {
                    let any = resource.resource.as_ref().unwrap();
                    let cluster: cluster::Cluster = xds::any::unpack(any).unwrap();
                    if cluster.eds_cluster_config.is_some() {
                        names.push(cluster.name);
                    }
                }
                Kind::Endpoints
            }
            Kind::Listener => {
                for resource in &response.resources {
                    let any = resource.resource.as_ref().unwrap();
                    let listener: listener::Listener = xds::any::unpack(any).unwrap();
                    names.extend(routes_of(&listener));
                }
                Kind::Routes
            }
            _ => return,
        };
        let known = self.held.get(target.short());
        names.retain(|name| !known.is_some_and(|known| known.contains_key(name)));
        if !names.is_empty() {
            let request = DeltaDiscoveryRequest {
                type_url: target.type_url().to_owned(),
                resource_names_subscribe: names,
                ..DeltaDiscoveryRequest::default()
            };
            self.requests.send(request).await.unwrap();
        }
    }

    /// Takes responses until it holds what a sidecar needs of Bookinfo.
    async fn settle(&mut self) {
        let whole = |held: &BTreeMap<&str, BTreeMap<String, String>>| {
            let has = |kind: &str, name: &str| held.get(kind).is_some_and(|of_kind| of_kind.contains_key(name));
            has("cds", REVIEWS_V1)
                && has("eds", REVIEWS_V1)
                && has("lds", "virtualOutbound")
                && has("rds", "9080")
                && has("vhds", REVIEWS_HOST)
        };
        while !whole(&self.held) {
            self.next().await;
        }
    }
}

/// Route configurations that a listener gets by name.
fn routes_of(listener: &xds::types::listener::Listener) -> Vec<String> {
    use xds::types::http_connection_manager::{HttpConnectionManager, http_connection_manager::RouteSpecifier};
    use xds::types::listener::filter::ConfigType;
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    chains
        .flat_map(|chain| &chain.filters)
        .filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => xds::any::unpack::<HttpConnectionManager>(any).ok(),
            _ => None,
        })
        .filter_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
            _ => None,
        })
        .collect()
}

const REVIEWS_V1: &str = "outbound|9080|v1|reviews.default.svc.cluster.local";
const REVIEWS_HOST: &str = "9080/reviews.default.svc.cluster.local:9080";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_gets_bookinfo_and_then_only_what_changes() {
    let Some(samples) = samples() else { return };
    let mut world = World::bookinfo(&samples).await;
    let node = productpage();
    let mut proxy = Proxy::connect(world.channel(Some(&identity())).await, &node, BTreeMap::new()).await;
    proxy.settle().await;
    for version in ["", "v1", "v2", "v3"] {
        let cluster = names::traffic::outbound_cluster(9080, version, "reviews.default.svc.cluster.local");
        assert!(proxy.held["cds"].contains_key(&cluster), "{cluster}");
    }
    assert!(proxy.held["lds"].contains_key("virtualInbound"));
    assert!(proxy.held["lds"].contains_key("0.0.0.0_9080"));

    // A changed VirtualService resends its one virtual host and nothing else.
    let all_v1 = std::fs::read_to_string(world.folder.path().join("virtual-service-all-v1.yaml")).unwrap();
    let v3 = std::fs::read_to_string(samples.join("bookinfo/networking/virtual-service-reviews-v3.yaml")).unwrap();
    let reviews_v3 = format!("{}---\n{v3}", without(&all_v1, "VirtualService", "reviews"));
    world.write("virtual-service-all-v1.yaml", &reviews_v3);
    let response = proxy.next().await;
    assert_eq!(names_of(&response), ("vhds", vec![REVIEWS_HOST.to_owned()], Vec::new()));
    let host = response.resources[0].resource.as_ref().unwrap();
    let host: xds::types::route::VirtualHost = xds::any::unpack(host).unwrap();
    assert!(format!("{host:?}").contains("outbound|9080|v3|reviews"), "{host:?}");

    // A refusal is counted, and the same is not sent again; what comes next is.
    world.write("virtual-service-all-v1.yaml", &all_v1);
    let refused = proxy.receive().await;
    proxy.answer(&refused, Some("virtual host: no")).await;
    assert_eq!(names_of(&refused).1, [REVIEWS_HOST]);
    world.write("virtual-service-all-v1.yaml", &reviews_v3);
    let response = proxy.receive().await;
    assert_eq!(names_of(&response).1, [REVIEWS_HOST]);
    let rejects = format!("pilot_total_xds_rejects{{type=\"{}\"}}", Kind::VirtualHost.type_url());
    assert_eq!(world.metric(&rejects).await.as_deref(), Some("1"));
    let (_, syncz) = world.page(world.running().monitoring, "/debug/syncz").await;
    let syncz: serde_json::Value = serde_json::from_str(&syncz).unwrap();
    assert_eq!(syncz[0]["proxy"], "productpage-v1.default");
    assert_eq!(syncz[0]["rejected"]["vhds"], "virtual host: no");
    assert_eq!(syncz[0]["cluster_sent"], syncz[0]["cluster_acked"]);
    assert_ne!(syncz[0]["route_sent"], syncz[0]["route_acked"]);
    proxy.answer(&response, None).await;

    // A Service that goes takes its resources along, in the order that leaves no dangling name.
    let bookinfo = std::fs::read_to_string(world.folder.path().join("bookinfo.yaml")).unwrap();
    world.write("bookinfo.yaml", &without(&bookinfo, "Service", "ratings"));
    let mut removed = Vec::new();
    while proxy.held["cds"].keys().any(|name| name.contains("ratings")) {
        let response = proxy.next().await;
        let (kind, _, gone) = names_of(&response);
        removed.extend(gone.into_iter().map(|name| (kind, name)));
    }
    let position = |kind| removed.iter().position(|(of, name)| *of == kind && name.contains("ratings"));
    assert!(position("vhds") < position("cds"), "{removed:?}");
    world.stop().await;
}

/// The documents of a file but one.
fn without(text: &str, kind: &str, name: &str) -> String {
    let documents = crds::yaml::documents(text).into_iter().flatten();
    let others = documents.filter(|document| !(document.kind() == kind && document.name() == name));
    others.fold(String::new(), |text, document| text + "---\n" + &document.value.to_string() + "\n")
}

/// Kind, names of resources, names of removed ones.
fn names_of(response: &DeltaDiscoveryResponse) -> (&'static str, Vec<String>, Vec<String>) {
    let kind = Kind::of(&response.type_url).unwrap().short();
    let names = response.resources.iter().map(|resource| resource.name.clone()).collect();
    (kind, names, response.removed_resources.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_comes_back_gets_only_what_it_lacks() {
    let Some(samples) = samples() else { return };
    let world = World::bookinfo(&samples).await;
    let mut proxy = Proxy::connect(world.channel(Some(&identity())).await, &productpage(), BTreeMap::new()).await;
    proxy.settle().await;
    // What is still under way arrives before a second stream is opened.
    while proxy.held["eds"].len() < proxy.held["cds"].keys().filter(|name| name.starts_with("outbound")).count() {
        proxy.next().await;
    }
    let mut held = proxy.held.clone();
    drop(proxy);
    held.get_mut("cds").unwrap().insert(REVIEWS_V1.to_owned(), "0000000000000000".to_owned());

    let mut again = Proxy::connect(world.channel(Some(&identity())).await, &productpage(), held).await;
    let mut answered = BTreeSet::new();
    while answered.len() < 5 {
        let (kind, names, removed) = names_of(&again.next().await);
        let expected: &[&str] = if kind == "cds" { &[REVIEWS_V1] } else { &[] };
        assert_eq!(
            (names.as_slice(), removed.len()),
            (expected.iter().map(|&n| n.to_owned()).collect::<Vec<_>>().as_slice(), 0),
            "{kind}"
        );
        answered.insert(kind);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_proves_it_gets_a_configuration_or_a_certificate() {
    let Some(samples) = samples() else { return };
    let world = World::bookinfo(&samples).await;
    let other = SpiffeId::new("cluster.local", "default", "bookinfo-ratings");
    for (name, identity, expected) in [
        ("no certificate", None, Code::Unauthenticated),
        ("another account's certificate", Some(&other), Code::PermissionDenied),
    ] {
        let mut client = AggregatedDiscoveryServiceClient::new(world.channel(identity).await);
        let request = DeltaDiscoveryRequest {
            node: Some(productpage().to_node()),
            type_url: Kind::Cluster.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
        let status = match client.delta_aggregated_resources(requests).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        };
        assert_eq!(status.code(), expected, "{name}: {status}");
    }

    let (csr, _) = request();
    let request = |csr: &str| IstioCertificateRequest { csr: csr.to_owned(), validity_duration: 3600, metadata: None };
    let mut stranger = IstioCertificateServiceClient::new(world.channel(None).await);
    let status = stranger.create_certificate(request(&csr)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "request authenticate failure"));

    let mut known = IstioCertificateServiceClient::new(world.channel(Some(&identity())).await);
    let chain = known.create_certificate(request(&csr)).await.unwrap().into_inner().cert_chain;
    let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    assert_eq!(crate::ca::authority::identity_of(&leaf), Some(identity()));
    let status = known.create_certificate(request("nonsense")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    assert_eq!(world.metric("citadel_server_csr_count").await.as_deref(), Some("3"));
    assert_eq!(world.metric("citadel_server_success_cert_issuance_count").await.as_deref(), Some("1"));
    assert_eq!(world.metric("citadel_server_authentication_failure_count").await.as_deref(), Some("1"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_say_what_is_there() {
    let Some(samples) = samples() else { return };
    let world = World::bookinfo(&samples).await;
    let mut envoy = productpage();
    envoy.metadata.virtual_hosts = false;
    let mut client = AggregatedDiscoveryServiceClient::new(world.plaintext().await).max_decoding_message_size(64 << 20);
    let first = xds::types::discovery::DiscoveryRequest {
        node: Some(envoy.to_node()),
        type_url: Kind::Cluster.type_url().to_owned(),
        ..Default::default()
    };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
    let mut stream = client.stream_aggregated_resources(requests).await.unwrap().into_inner();
    let response = stream.message().await.unwrap().unwrap();
    assert!(!response.resources.is_empty(), "plaintext, without identity, the state of the world");

    let monitoring = world.running().monitoring;
    assert_eq!(world.page(world.running().readiness, "/ready").await.0, 200);
    assert_eq!(world.page(monitoring, "/version").await, (200, names::VERSION.to_owned()));
    for (path, text) in [
        ("/debug/registryz", "reviews.default.svc.cluster.local"),
        ("/debug/configz", "VirtualService"),
        ("/debug/endpointz", "10.1.0.4"),
        ("/debug/adsz", "state of the world"),
        ("/debug/config_dump?proxyID=productpage-v1.default", REVIEWS_V1),
        ("/metrics", "pilot_services 4"),
        ("/metrics", "pilot_virt_services 4"),
        ("/metrics", "pilot_xds{version=\"0.1.0\"} 1"),
        ("/metrics", "pilot_xds_pushes{type=\"cds\"} 1"),
    ] {
        let (status, body) = world.page(monitoring, path).await;
        assert!(status == 200 && body.contains(text), "{path}: {status} {body}");
    }
    assert_eq!(world.page(monitoring, "/debug/config_dump?proxyID=nobody").await.0, 404);
    world.stop().await;
}
