//! Golden files: `tests/golden/<name>/mesh.yaml` in, `<proxy>.yaml` beside it out, in the words of `describe`.
//! After a wanted change: `UPDATE_GOLDEN=1 cargo test -p forestay-translate golden`, and read the difference.

use std::path::Path;

use translate::{Proxy, describe};
use xds::node::ProxyType;

use crate::cluster::{Cluster, INGRESS_SERVICE, documents, ingress_gateway, proxy};

fn check(name: &str, proxies: impl FnOnce(&Cluster) -> Vec<(&'static str, Proxy)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let input = std::fs::read_to_string(folder.join("mesh.yaml")).expect("the input of the golden file");
    let mut cluster = Cluster::new(&input);
    cluster.add(documents(INGRESS_SERVICE));
    for (file, proxy) in proxies(&cluster) {
        let found = crds::yaml::to_string(&describe(&cluster.translate(&proxy))).expect("YAML");
        let path = folder.join(format!("{file}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).expect("the golden file is writable");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let line = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
        assert!(
            expected == found,
            "{} differs from line {}: run with UPDATE_GOLDEN=1 and read the difference",
            path.display(),
            line.unwrap_or_else(|| expected.lines().count().min(found.lines().count())) + 1,
        );
    }
}

#[test]
fn routing() {
    check("routing", |cluster| {
        let envoy = Proxy { virtual_hosts: false, ..cluster.sidecar_of("productpage") };
        vec![("productpage", cluster.sidecar_of("productpage")), ("productpage-envoy", envoy)]
    });
}

#[test]
fn security() {
    check("security", |cluster| vec![("strict", cluster.sidecar_of("strict")), ("ports", cluster.sidecar_of("ports"))]);
}

#[test]
fn ports() {
    check("ports", |_| vec![("client", proxy(ProxyType::Sidecar, "default"))]);
}

#[test]
fn gateway() {
    check("gateway", |_| vec![("ingressgateway", ingress_gateway())]);
}

#[test]
fn grpc() {
    check("grpc", |cluster| {
        let client = Proxy { grpc: true, virtual_hosts: false, ..proxy(ProxyType::Sidecar, "default") };
        let mut server = Proxy { grpc: true, virtual_hosts: false, ..cluster.sidecar_of("echo-v1") };
        // Injection does not mark pods whose application speaks for itself.
        server.labels.remove("security.istio.io/tlsMode");
        vec![("client", client), ("server", server)]
    });
}
