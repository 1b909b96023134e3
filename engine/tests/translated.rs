//! What the control plane makes of objects, taken by a proxy: nothing is refused, and calls go where the objects say.

#[path = "../../translate/tests/it/cluster.rs"]
#[allow(dead_code)] // made for the translation's own tests
mod cluster;

use std::{path::Path, sync::Arc, time::Instant};

use cluster::{Cluster, INGRESS_SERVICE, documents, ingress_gateway, material, proxy};
use forestay_engine::{
    Snapshot, Store,
    compile::{self, Viewpoint},
    decide::chain::Connection,
    explain::explain,
    ir::{listener::Transport, route::Request},
};
use http::{HeaderMap, HeaderValue, Method};
use translate::Proxy;
use xds::{node::ProxyType, type_url, types::discovery::Resource};

/// Everything that `proxy` is sent, compiled; a refusal fails the test.
fn compiled(cluster: &Cluster, proxy: &Proxy, what: &str) -> Arc<Snapshot> {
    let set = cluster.translate(proxy);
    let mut store = Store::new(compile::Proxy {
        gateway: proxy.proxy_type == ProxyType::Router,
        viewpoint: Viewpoint {
            namespace: proxy.namespace.as_str().into(),
            domain: proxy.cluster_domain.as_str().into(),
        },
    });
    let now = Instant::now();
    for kind in type_url::PUSH_ORDER {
        let resource = |(name, resource): (&Arc<str>, &Arc<translate::Resource>)| Resource {
            name: name.to_string(),
            version: resource.version.to_string(),
            resource: Some(resource.any.clone()),
            ..Resource::default()
        };
        let resources: Vec<_> = set.of(kind).map(resource).collect();
        let refused: Vec<_> = store.upsert(kind, &resources, now).iter().map(ToString::to_string).collect();
        assert_eq!(refused, Vec::<String>::new(), "{what}: {}", proxy.name);
    }
    let names = |kind: &str| set.of(kind).map(|(name, _)| name.clone()).collect::<std::collections::BTreeSet<_>>();
    assert!(
        store.wanted_routes().is_subset(&names(type_url::ROUTES)),
        "{what}: a listener names routes that are not sent"
    );
    assert!(store.wanted_endpoints().is_subset(&names(type_url::ENDPOINTS)), "{what}: endpoints are not sent");
    assert!(store.tables_have_hosts(), "{what}: a table without virtual hosts");
    store.changes(now).snapshot.expect("everything is new")
}

fn bookinfo(samples: &Path, files: &[&str]) -> Cluster {
    let read = |path: &str| std::fs::read_to_string(samples.join("bookinfo").join(path)).expect("a sample");
    let mut cluster = Cluster::new(&read("platform/kube/bookinfo.yaml"));
    cluster.add(documents(INGRESS_SERVICE));
    for file in files {
        cluster.add(documents(&read(&format!("networking/{file}"))));
    }
    cluster
}

#[test]
fn nothing_that_is_translated_is_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../translate/tests/golden");
    for name in ["routing", "security", "ports", "gateway"] {
        let yaml = std::fs::read_to_string(golden.join(name).join("mesh.yaml")).expect("the input of a golden file");
        let mut cluster = Cluster::new(&yaml);
        cluster.add(documents(INGRESS_SERVICE));
        let pods: Vec<String> = cluster.inputs.workloads.values().map(|pod| pod.name.clone()).collect();
        let mut proxies: Vec<Proxy> = pods.iter().map(|pod| cluster.sidecar_of(pod)).collect();
        proxies.extend([proxy(ProxyType::Sidecar, "default"), ingress_gateway()]);
        for proxy in proxies {
            compiled(&cluster, &proxy, name);
        }
    }
}

#[test]
fn addresses_among_the_names_of_a_server_are_taken_as_addresses() {
    let cluster = Cluster::new(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.example]
  ports: [{number: 443, name: tcp, protocol: TCP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside}
spec:
  host: outside.example
  trafficPolicy: {tls: {mode: SIMPLE, subjectAltNames: [10.0.0.1, 'fd00:0::1', server.example]}}
",
    );
    let snapshot = compiled(&cluster, &proxy(ProxyType::Sidecar, "default"), "outside");
    let outside = snapshot.cluster("outbound|443||outside.example").expect("the cluster");
    let is_one = |address: &str| {
        let address = address.parse().expect("an address");
        outside.server_names().iter().any(|name| name.matches_address(address))
    };
    assert_eq!(["10.0.0.1", "fd00::1", "10.0.0.2"].map(is_one), [true, true, false]);
}

#[test]
fn every_bookinfo_sample_is_taken() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let folder = std::fs::read_dir(samples.join("bookinfo/networking")).expect("the samples");
    for file in folder.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()) {
        if Path::new(&file).extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let cluster = bookinfo(&samples, &["destination-rule-all.yaml", &file]);
        for proxy in [cluster.sidecar_of("productpage"), cluster.sidecar_of("ratings"), ingress_gateway()] {
            compiled(&cluster, &proxy, &file);
        }
    }
}

struct Call<'a> {
    accepted_by: &'a str,
    destination: &'a str,
    transport: Transport,
    protocols: &'a [&'a str],
    authority: &'a str,
    path: &'a str,
    user: Option<&'static str>,
}

impl Call<'_> {
    fn play(&self, snapshot: &Snapshot) -> String {
        let connection = Connection {
            destination: self.destination.parse().expect("an address"),
            source: "10.9.9.9:40000".parse().expect("an address"),
            transport: self.transport,
            server_name: None,
            application_protocols: self.protocols,
        };
        let mut headers = HeaderMap::new();
        if let Some(user) = self.user {
            headers.insert("end-user", HeaderValue::from_static(user));
        }
        let request = Request {
            method: &Method::GET,
            scheme: "http",
            authority: self.authority,
            path: self.path,
            headers: &headers,
            source: None,
        };
        explain(snapshot, self.accepted_by, &connection, Some(&request), 7).to_string()
    }
}

const OUTBOUND: Call<'static> = Call {
    accepted_by: "virtualOutbound",
    destination: "10.96.0.1:9080",
    transport: Transport::Plaintext,
    protocols: &["http/1.1"],
    authority: "reviews:9080",
    path: "/reviews/0",
    user: None,
};
const INBOUND: Call<'static> = Call { accepted_by: "virtualInbound", destination: "10.1.0.1:9080", ..OUTBOUND };

#[test]
fn the_walkthroughs_calls_go_where_its_files_say() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    for (file, user, expected) in [
        ("virtual-service-all-v1.yaml", None, &["|v1|"][..]),
        ("virtual-service-reviews-test-v2.yaml", None, &["|v1|"]),
        ("virtual-service-reviews-test-v2.yaml", Some("jason"), &["|v2|"]),
        ("virtual-service-reviews-50-v3.yaml", None, &["|v1|", "|v3|"]),
        ("virtual-service-reviews-jason-v2-v3.yaml", None, &["|v3|"]),
        ("virtual-service-reviews-jason-v2-v3.yaml", Some("jason"), &["|v2|"]),
    ] {
        let cluster = bookinfo(&samples, &["destination-rule-all.yaml", file]);
        let snapshot = compiled(&cluster, &cluster.sidecar_of("productpage"), file);
        let text = Call { user, ..OUTBOUND }.play(&snapshot);
        for subset in ["|v1|", "|v2|", "|v3|"] {
            assert_eq!(text.contains(subset), expected.contains(&subset), "{file} {user:?}:\n{text}");
        }
        assert!(!text.contains("not known") && text.contains("(VirtualService default/reviews, spec.http"), "{text}");
    }
    let cluster = bookinfo(&samples, &["bookinfo-gateway.yaml"]);
    let gateway = compiled(&cluster, &ingress_gateway(), "bookinfo-gateway.yaml");
    let from_outside = |path| Call {
        accepted_by: "0.0.0.0_8080",
        destination: "10.1.8.8:8080",
        authority: "1.2.3.4",
        path,
        ..OUTBOUND
    };
    let text = from_outside("/productpage?u=normal").play(&gateway);
    assert!(text.contains("cluster: outbound|9080||productpage.default.svc.cluster.local weight"), "{text}");
    let text = from_outside("/admin").play(&gateway);
    assert!(text.contains("404 NR"), "{text}");
}

#[test]
fn inbound_traffic_meets_the_chain_of_its_kind() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let cluster = bookinfo(&samples, &[]);
    let reviews = cluster.sidecar_of("reviews-v1");
    let snapshot = compiled(&cluster, &reviews, "bookinfo.yaml");
    let mesh = Call { transport: Transport::Tls, protocols: &["istio-peer-exchange", "istio-http/1.1"], ..INBOUND };
    for (name, call) in [("plaintext", &INBOUND), ("mesh TLS", &mesh)] {
        let text = call.play(&snapshot);
        assert!(text.contains("inbound|9080||") && !text.contains("not known"), "{name}:\n{text}");
    }
    let terminates = |call: &Call<'_>, snapshot: &Snapshot| {
        let connection = Connection {
            destination: call.destination.parse().expect("an address"),
            source: "10.9.9.9:40000".parse().expect("an address"),
            transport: call.transport,
            server_name: None,
            application_protocols: call.protocols,
        };
        explain(snapshot, call.accepted_by, &connection, None, 7).chain.map(|chain| chain.tls.is_some())
    };
    assert_eq!(terminates(&INBOUND, &snapshot), Some(false), "PERMISSIVE takes plaintext");
    assert_eq!(terminates(&mesh, &snapshot), Some(true));

    let mut strict = bookinfo(&samples, &[]);
    strict.add(documents(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: default}\n\
         spec: {mtls: {mode: STRICT}}",
    ));
    let snapshot = compiled(&strict, &strict.sidecar_of("reviews-v1"), "STRICT");
    assert_eq!(terminates(&mesh, &snapshot), Some(true));
    assert_ne!(terminates(&INBOUND, &snapshot), Some(false), "STRICT refuses plaintext:\n{}", INBOUND.play(&snapshot));
}

#[test]
fn with_tproxy_the_socket_takes_any_address_and_the_clients_own_is_kept() {
    for transparent in [false, true] {
        let proxy = Proxy { transparent, ..proxy(ProxyType::Sidecar, "default") };
        let snapshot = compiled(&Cluster::new(""), &proxy, "no services");
        let inbound = snapshot.listener("virtualInbound").expect("the listener");
        let expected = (transparent, transparent.then_some(1337));
        assert_eq!((inbound.transparent, inbound.client_address_mark), expected);
    }
}
