//! The profiles: what a MeshInstall starts from.

use std::collections::BTreeMap;

use crds::install::{Profile, Resources, ServiceType};
use names::{labels, ports, resources};
use serde_json::{Map, Value, json};

use super::mesh::GatewayPort;

/// A profile's values.
pub(crate) struct Defaults {
    /// Whether control plane and webhook are there.
    pub(crate) enabled: bool,
    /// Whether the namespace gives users and groups their ids.
    pub(crate) openshift: bool,
    pub(crate) control_plane: Resources,
    pub(crate) webhook: Resources,
    /// Pods of the webhook; None leaves the number to whoever scales its Deployment. Pods of the mesh and rules are
    /// refused while there is none.
    pub(crate) webhook_replicas: Option<i32>,
    pub(crate) sidecar: Resources,
    pub(crate) gateway: Resources,
    /// Laid over the defaults of MeshConfig, under the spec's.
    pub(crate) mesh_config: Map<String, Value>,
    /// Of 100 requests, how many are traced.
    pub(crate) trace_sampling: u8,
    /// Name and Service type of the profile's gateways.
    pub(crate) gateways: &'static [(&'static str, ServiceType)],
}

/// The values of a profile.
///
/// Proxies have Istio's requests and limits; control plane and webhook are much smaller than Istio's and ask for less.
pub(crate) fn defaults(profile: Profile) -> Defaults {
    let proxy = Resources::new([("cpu", "100m"), ("memory", "128Mi")], [("cpu", "2"), ("memory", "1Gi")]);
    let standard = Defaults {
        enabled: true,
        openshift: false,
        control_plane: Resources::new([("cpu", "100m"), ("memory", "128Mi")], []),
        webhook: Resources::new([("cpu", "50m"), ("memory", "64Mi")], []),
        webhook_replicas: Some(2),
        sidecar: proxy.clone(),
        gateway: proxy,
        mesh_config: Map::new(),
        trace_sampling: 1,
        gateways: &[(resources::INGRESS_GATEWAY, ServiceType::LoadBalancer)],
    };
    match profile {
        // What Istio's `preview` adds is the proxies' DNS, which ours do not have. `remote` is refused before.
        Profile::Default | Profile::Preview | Profile::Remote => standard,
        Profile::Minimal => Defaults { gateways: &[], webhook_replicas: None, ..standard },
        Profile::Empty => Defaults { enabled: false, gateways: &[], webhook_replicas: None, ..standard },
        Profile::Openshift => Defaults { openshift: true, ..standard },
        Profile::Demo => {
            let small = Resources::new([("cpu", "10m"), ("memory", "40Mi")], []);
            Defaults {
                control_plane: Resources::new([("cpu", "10m"), ("memory", "64Mi")], []),
                webhook: Resources::new([("cpu", "10m"), ("memory", "32Mi")], []),
                webhook_replicas: None,
                sidecar: small.clone(),
                gateway: small,
                mesh_config: demo_mesh_config(),
                trace_sampling: 100,
                gateways: &[
                    (resources::INGRESS_GATEWAY, ServiceType::LoadBalancer),
                    (resources::EGRESS_GATEWAY, ServiceType::ClusterIP),
                ],
                ..standard
            }
        }
    }
}

/// Access logs for everyone, and the providers that Istio's samples of telemetry name.
fn demo_mesh_config() -> Map<String, Value> {
    let config = json!({
        "accessLogFile": "/dev/stdout",
        "extensionProviders": [
            {
                "name": "otel",
                "envoyOtelAls": {"service": "opentelemetry-collector.observability.svc.cluster.local", "port": 4317},
            },
            {"name": "skywalking", "skywalking": {"service": "tracing.istio-system.svc.cluster.local", "port": 11800}},
            {
                "name": "otel-tracing",
                "opentelemetry": {"service": "opentelemetry-collector.observability.svc.cluster.local", "port": 4317},
            },
            {"name": "jaeger", "opentelemetry": {"service": "jaeger-collector.istio-system.svc.cluster.local", "port": 4317}},
        ],
    });
    match config {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The ports of a gateway whose spec names none.
pub(crate) fn gateway_ports() -> Vec<GatewayPort> {
    vec![port("http2", 80, ports::GATEWAY_HTTP), port("https", 443, ports::GATEWAY_HTTPS)]
}

/// The port that load balancers probe, on every gateway.
pub(crate) fn status_port() -> GatewayPort {
    port("status-port", ports::HEALTH.into(), ports::HEALTH)
}

fn port(name: &str, port: i32, target: u16) -> GatewayPort {
    GatewayPort { name: name.to_owned(), port, target_port: target.into(), node_port: None, protocol: "TCP" }
}

/// The labels of a gateway whose spec names none: `istio-ingressgateway` is `istio: ingressgateway`, as Istio's is.
pub(crate) fn gateway_labels(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(labels::ISTIO.to_owned(), name.strip_prefix("istio-").unwrap_or(name).to_owned())])
}
