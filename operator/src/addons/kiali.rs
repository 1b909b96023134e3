//! Kiali, for the mesh of this namespace and this revision. As in the sample nobody signs in; so it only shows
//! (`view_only_mode`) and has no right to change anything, where the sample's may change every object of Istio's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use names::{labels, resources};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::workload::{Workload, config_map, liveness, mount, scratch, service, settings};
use super::{Addon, AddonKind};
use crate::meshinstall::build::{RenderError, Rendered, pod};
use crate::meshinstall::mesh::Mesh;

const KIND: AddonKind = AddonKind::Kiali;
pub(super) const PORT: u16 = 20001;
/// Its own metrics.
const METRICS_PORT: u16 = 9090;
pub(super) const PATH: &str = "/kiali";
/// The image's user.
const ID: i64 = 1000;

pub(super) fn build(mesh: &Mesh, addon: &Addon) -> Result<Vec<Rendered>, RenderError> {
    let selector = BTreeMap::from([
        ("app.kubernetes.io/instance".to_owned(), "kiali".to_owned()),
        (labels::KUBERNETES_NAME.to_owned(), "kiali".to_owned()),
    ]);
    let (map, checksum) = config_map(mesh, KIND, [("config.yaml", crds::yaml::to_string(&config(mesh))?)])?;
    let mut annotations = pod::scrape(METRICS_PORT, None);
    annotations.extend([checksum, ("kiali.io/dashboards".to_owned(), "go,kiali".to_owned())]);
    let ports = [("http", PORT, PORT), ("http-metrics", METRICS_PORT, METRICS_PORT)];
    let mut objects = vec![map, service(mesh, KIND, "kiali", &selector, &ports)?];
    let health = format!("{PATH}/healthz");
    let workload = Workload {
        kind: KIND,
        selector,
        annotations,
        container: Container {
            name: "kiali".into(),
            command: Some(
                ["/opt/kiali/kiali", "-config", "/kiali-configuration/config.yaml"].map(str::to_owned).into(),
            ),
            ports: Some(vec![pod::port("api-port", PORT), pod::port("http-metrics", METRICS_PORT)]),
            env: Some(vec![
                pod::env_field("ACTIVE_NAMESPACE", "metadata.namespace"),
                pod::env("LOG_LEVEL", "info"),
                pod::env("LOG_FORMAT", "text"),
                pod::env("LOG_TIME_FIELD_FORMAT", "2006-01-02T15:04:05Z07:00"),
                pod::env("LOG_SAMPLER_RATE", "1"),
            ]),
            readiness_probe: Some(pod::http_probe(&health, PORT, 5, 6)),
            liveness_probe: Some(liveness(&health, PORT)),
            volume_mounts: Some(vec![
                mount("kiali-configuration", "/kiali-configuration", true),
                mount("tmp", "/tmp", false),
            ]),
            ..Container::default()
        },
        volumes: vec![settings("kiali-configuration", KIND, &[]), scratch("tmp")],
        id: ID,
        alone: false,
        grace: None,
    };
    objects.extend(workload.build(mesh, addon)?);
    Ok(objects)
}

/// `config.yaml`: what differs from Kiali's own defaults.
fn config(mesh: &Mesh) -> Value {
    json!({
        "auth": {"strategy": "anonymous"},
        "deployment": {
            "cluster_wide_access": true,
            "instance_name": "kiali",
            "namespace": mesh.namespace,
            "view_only_mode": true,
        },
        "external_services": {
            "custom_dashboards": {"enabled": true},
            "grafana": grafana(mesh),
            "istio": {
                "config_map_name": resources::mesh_config(&mesh.revision),
                "istio_sidecar_injector_config_map_name": mesh.injector(),
                "istiod_deployment_name": mesh.istiod(),
                "root_namespace": root_namespace(mesh),
            },
            "prometheus": {"enabled": true, "url": mesh.addons.address(AddonKind::Prometheus, &mesh.namespace)},
            "tracing": tracing(mesh),
        },
        "istio_namespace": mesh.namespace,
        "kiali_feature_flags": {"validations": {"ignore": ["KIA1301"]}},
        "kubernetes_config": {"cluster_name": names::CLUSTER_ID},
        "login_token": {"signing_key": signing_key(mesh)},
        "server": {
            "observability": {"metrics": {"enabled": true, "port": METRICS_PORT}},
            "port": PORT,
            "web_root": PATH,
        },
    })
}

/// Links into Grafana: an address elsewhere is also one that a browser reaches.
fn grafana(mesh: &Mesh) -> Value {
    let (addons, kind) = (&mesh.addons, AddonKind::Grafana);
    match addons.external.get(&kind) {
        Some(url) => json!({"enabled": true, "internal_url": url, "external_url": url}),
        None if addons.has(kind) => json!({"enabled": true, "internal_url": addons.address(kind, &mesh.namespace)}),
        None => json!({"enabled": false}),
    }
}

/// Traces, of Jaeger only: Kiali does not read Zipkin's API.
fn tracing(mesh: &Mesh) -> Value {
    let (addons, kind) = (&mesh.addons, AddonKind::Jaeger);
    if !addons.has(kind) {
        return json!({"enabled": false});
    }
    let url = addons.address(kind, &mesh.namespace);
    let mut tracing = json!({"enabled": true, "provider": "jaeger", "internal_url": url, "use_grpc": false});
    if addons.external.contains_key(&kind) {
        tracing["external_url"] = url.into();
    }
    tracing
}

/// Where rules for the whole mesh are.
fn root_namespace(mesh: &Mesh) -> &str {
    mesh.mesh_config.get("rootNamespace").and_then(Value::as_str).unwrap_or(&mesh.namespace)
}

/// Kiali wants one of 32 bytes. It signs sessions, and without anybody signing in there are none; but one that is known
/// to all must not be there either, for the day that somebody changes the strategy by an overlay.
fn signing_key(mesh: &Mesh) -> String {
    let hash = Sha256::digest(format!("kiali {} {}", mesh.name, mesh.uid));
    hash.iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
