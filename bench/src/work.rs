//! What a gateway has to do, said once for each dialect: Istio's objects (Forestay and Envoy get them from Forestay's
//! control plane), HAProxy's configuration, and the requests that ask for it.
//!
//! Ten virtual hosts with four routes each: an exact path, a prefix, a prefix with a header, everything else. Every
//! route adds a header to the request and one to the answer. Two services of two endpoints each, least requests first.
//! Each proxy also does what it does anyway in this place: a request id, forwarded headers, its metrics; no access log.

use std::fmt::Write as _;

use crate::backend::PORT;
use crate::network::{GATEWAY, NEXT, STABLE};

/// How many virtual hosts.
const HOSTS: usize = 10;

/// A request, and the service that must answer it.
const REQUESTS: [(&str, Option<&str>, &str); 5] = [
    ("/health", None, "stable"),
    ("/static/site.css", None, "stable"),
    ("/api/v1/items", Some("v2"), "next"),
    ("/api/v1/items", None, "stable"),
    ("/index.html", None, "stable"),
];

/// A request that is sent once, and what its answer must have in its head.
pub(crate) struct Check {
    pub(crate) host: String,
    pub(crate) path: &'static str,
    pub(crate) version: Option<&'static str>,
    pub(crate) expected: [String; 4],
}

/// Every request of the load, to see that a peer does all of the work before it is measured.
pub(crate) fn checks() -> impl Iterator<Item = Check> {
    (0..HOSTS).flat_map(|host| {
        REQUESTS.iter().map(move |(path, version, service)| Check {
            host: host_name(host),
            path,
            version: *version,
            expected: [
                "HTTP/1.1 200 OK".to_owned(),
                format!("x-service: {service}"),
                "x-marked: true".to_owned(),
                "x-bench: 1".to_owned(),
            ],
        })
    })
}

fn host_name(index: usize) -> String {
    format!("app{index}.example.com")
}

/// The load, as wrk's script.
pub(crate) fn script() -> String {
    let mut script = "local requests, next = {}, 0\ninit = function()\n".to_owned();
    for check in checks() {
        let version = check.version.map(|version| format!(", [\"x-version\"] = \"{version}\"")).unwrap_or_default();
        let _ = writeln!(
            script,
            "  requests[#requests + 1] = wrk.format(\"GET\", \"{}\", {{ Host = \"{}\"{version} }})",
            check.path, check.host
        );
    }
    script.push_str("end\nrequest = function()\n  next = next % #requests + 1\n  return requests[next]\nend\n");
    script
}

/// The mesh's settings: no mutual TLS towards endpoints that have none, no access log.
pub(crate) const MESH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data: { mesh: 'enableAutoMtls: false' }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: istio-system }
spec: { mtls: { mode: DISABLE } }
";

/// The gateway on a port, as Istio's objects.
pub(crate) fn istio(port: u16) -> String {
    let mut objects = MESH.to_owned();
    for (index, (name, endpoints)) in [("stable", STABLE), ("next", NEXT)].into_iter().enumerate() {
        objects.push_str(&service("default", name, &format!("10.96.0.{}", index + 1), PORT, &endpoints));
    }
    let _ = write!(
        objects,
        "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: edge, namespace: default }}
spec: {{ servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, hosts: ['*'] }}] }}
"
    );
    for host in 0..HOSTS {
        let name = host_name(host);
        let _ = write!(
            objects,
            "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: app{host}, namespace: default }}
spec:
  hosts: [{name}]
  gateways: [edge]
  http:
"
        );
        for (matches, service) in [
            ("[{ uri: { exact: /health } }]", "stable"),
            ("[{ uri: { prefix: /static/ } }]", "stable"),
            ("[{ uri: { prefix: /api/v1 }, headers: { x-version: { exact: v2 } } }]", "next"),
            ("[]", "stable"),
        ] {
            let _ = write!(
                objects,
                "  - match: {matches}
    headers: {{ request: {{ set: {{ x-bench: '1' }} }}, response: {{ set: {{ x-bench: '1' }} }} }}
    route: [{{ destination: {{ host: {service}, port: {{ number: {PORT} }} }} }}]
"
            );
        }
    }
    objects
}

/// A Service of one HTTP port, and its endpoints.
fn service(namespace: &str, name: &str, address: &str, port: u16, endpoints: &[impl AsRef<str>]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|address| format!("{{ addresses: [{}], conditions: {{ ready: true }} }}", address.as_ref()))
        .collect();
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: {namespace} }}
spec: {{ clusterIP: {address}, ports: [{{ name: http, port: {port}, targetPort: {port} }}], selector: {{ app: {name} }} }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {{ name: {name}, namespace: {namespace}, labels: {{ kubernetes.io/service-name: {name} }} }}
ports: [{{ name: http, port: {port}, protocol: TCP }}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}

/// A mesh of so many services, of two endpoints each, in namespaces of fifty.
pub(crate) fn services(count: usize) -> String {
    let mut objects = MESH.to_owned();
    for index in 0..count {
        let (high, low) = (index / 100, index % 100);
        let endpoints = [format!("10.1.{high}.{}", 2 * low + 1), format!("10.1.{high}.{}", 2 * low + 2)];
        let namespace = format!("team-{}", index / 50);
        objects.push_str(&service(
            &namespace,
            &format!("service-{index}"),
            &format!("10.96.{high}.{}", low + 1),
            8080,
            &endpoints,
        ));
    }
    objects
}

/// The same gateway as HAProxy's configuration, and the map of hosts that it names. Idiomatic, and in its favour: one
/// lookup of the host, and the routes written once for all hosts, which happen to be alike.
pub(crate) fn haproxy(port: u16, map: &std::path::Path) -> (String, String) {
    let map_text = (0..HOSTS).fold(String::new(), |text, host| text + &format!("{} app{host}\n", host_name(host)));
    let mut text = format!(
        "global
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  retries 2
  option redispatch
  option forwardfor
  http-reuse always
  balance leastconn
  unique-id-format %[uuid()]
  unique-id-header x-request-id
frontend edge
  bind {GATEWAY}:{port}
  http-request set-var(txn.host) req.hdr(host),field(1,:),lower,map({})
  http-request return status 404 unless {{ var(txn.host) -m found }}
  http-request set-header x-forwarded-proto http
  http-request set-header x-bench 1
  http-response set-header x-bench 1
  use_backend stable if {{ path /health }}
  use_backend stable if {{ path_beg /static/ }}
  use_backend next if {{ path_beg /api/v1 }} {{ req.hdr(x-version) -m str v2 }}
  default_backend stable
frontend metrics
  bind 127.0.0.1:8404
  http-request use-service prometheus-exporter if {{ path /metrics }}
",
        map.display()
    );
    for (name, endpoints) in [("stable", STABLE), ("next", NEXT)] {
        let _ = writeln!(text, "backend {name}");
        for (index, address) in endpoints.iter().enumerate() {
            let _ = writeln!(text, "  server {name}-{index} {address}:{PORT}");
        }
    }
    (text, map_text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{HOSTS, REQUESTS, checks, haproxy, istio, script, services};

    #[test]
    fn every_dialect_has_every_host() {
        let (configuration, map) = haproxy(8083, Path::new("/hosts.map"));
        assert!(configuration.contains("map(/hosts.map)"), "{configuration}");
        let (istio, script) = (istio(8081), script());
        for check in checks() {
            assert!(map.contains(&check.host) && istio.contains(&check.host) && script.contains(&check.host));
        }
        assert_eq!(checks().count(), HOSTS * REQUESTS.len());
        assert_eq!(script.matches("wrk.format").count(), HOSTS * REQUESTS.len());
        assert_eq!(istio.matches("kind: VirtualService").count(), HOSTS);
    }

    #[test]
    fn a_mesh_has_as_many_services_as_asked_for_and_no_address_twice() {
        let objects = services(1000);
        assert_eq!(objects.matches("kind: Service\n").count(), 1000);
        let addresses: std::collections::BTreeSet<&str> =
            objects.split("addresses: [").skip(1).filter_map(|rest| rest.split(']').next()).collect();
        assert_eq!(addresses.len(), 2000);
    }
}
