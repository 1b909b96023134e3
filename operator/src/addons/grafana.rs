//! Grafana, with its data sources: Prometheus, and the tracing addon where there is one. As in the sample nobody signs
//! in; what the sample also does, calling home for news of versions, is switched off.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, VolumeMount};
use names::labels;
use serde_json::{Value, json};

use super::workload::{Workload, claim, config_map, liveness, mount, scratch, service, settings, storage};
use super::{Addon, AddonKind};
use crate::meshinstall::build::{RenderError, Rendered, pod};
use crate::meshinstall::mesh::Mesh;

const KIND: AddonKind = AddonKind::Grafana;
pub(super) const PORT: u16 = 3000;
/// `grafana`, as the image's name for it.
const ID: i64 = 472;

const INI: &str = "\
[analytics]
check_for_updates = false
check_for_plugin_updates = false
reporting_enabled = false
[auth]
disable_login_form = true
[auth.anonymous]
enabled = true
org_role = Admin
[auth.basic]
enabled = false
[log]
mode = console
[paths]
data = /var/lib/grafana
plugins = /var/lib/grafana/plugins
provisioning = /etc/grafana/provisioning
";

pub(super) fn build(mesh: &Mesh, addon: &Addon) -> Result<Vec<Rendered>, RenderError> {
    let selector = BTreeMap::from([
        ("app.kubernetes.io/instance".to_owned(), "grafana".to_owned()),
        (labels::KUBERNETES_NAME.to_owned(), "grafana".to_owned()),
    ]);
    let sources = crds::yaml::to_string(&data_sources(mesh))?;
    let (map, checksum) = config_map(mesh, KIND, [("grafana.ini", INI.to_owned()), ("datasources.yaml", sources)])?;
    let mut objects = vec![map];
    objects.extend(claim(mesh, KIND, addon.persistence.as_ref())?);
    objects.push(service(mesh, KIND, "grafana", &selector, &[("service", PORT, PORT)])?);
    let ini = mount("config", "/etc/grafana/grafana.ini", true);
    let workload = Workload {
        kind: KIND,
        selector,
        annotations: [checksum].into(),
        container: Container {
            name: "grafana".into(),
            ports: Some(vec![pod::port("grafana", PORT)]),
            readiness_probe: Some(pod::http_probe("/api/health", PORT, 5, 3)),
            liveness_probe: Some(liveness("/api/health", PORT)),
            volume_mounts: Some(vec![
                VolumeMount { sub_path: Some("grafana.ini".into()), ..ini },
                mount("datasources", "/etc/grafana/provisioning/datasources", true),
                mount("storage", "/var/lib/grafana", false),
                mount("tmp", "/tmp", false),
            ]),
            ..Container::default()
        },
        volumes: vec![
            settings("config", KIND, &["grafana.ini"]),
            settings("datasources", KIND, &["datasources.yaml"]),
            storage("storage", KIND, addon.persistence.as_ref()),
            scratch("tmp"),
        ],
        id: ID,
        alone: true,
        grace: None,
    };
    objects.extend(workload.build(mesh, addon)?);
    Ok(objects)
}

/// Grafana's provisioning file. Prometheus always: whoever runs one in the mesh's namespace, it has that name.
fn data_sources(mesh: &Mesh) -> Value {
    let url = |kind| mesh.addons.address(kind, &mesh.namespace);
    let mut sources = vec![json!({
        "name": "Prometheus",
        "type": "prometheus",
        "access": "proxy",
        "isDefault": true,
        "editable": true,
        "orgId": 1,
        "url": url(AddonKind::Prometheus),
        "jsonData": {"timeInterval": "15s"},
    })];
    for (kind, name) in [(AddonKind::Jaeger, "Jaeger"), (AddonKind::Zipkin, "Zipkin")] {
        if mesh.addons.has(kind) {
            sources.push(json!({
                "name": name,
                "type": kind.as_str(),
                "access": "proxy",
                "isDefault": false,
                "editable": true,
                "orgId": 1,
                "url": url(kind),
            }));
        }
    }
    json!({"apiVersion": 1, "datasources": sources})
}
