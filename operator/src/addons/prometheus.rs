//! Prometheus. The sample's second container, which reloads settings, has nothing to do here: they change with the
//! operator, and the pod with them. So nothing needs `--web.enable-lifecycle`, by which anybody could end it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use names::labels;

use super::workload::{Workload, claim, config_map, liveness, mount, service, settings, storage};
use super::{Addon, AddonKind, scrape};
use crate::meshinstall::build::{RenderError, Rendered, pod};
use crate::meshinstall::mesh::Mesh;

const KIND: AddonKind = AddonKind::Prometheus;
pub(super) const PORT: u16 = 9090;
/// `nobody`, as the image's name for it.
const ID: i64 = 65534;

pub(super) fn build(mesh: &Mesh, addon: &Addon) -> Result<Vec<Rendered>, RenderError> {
    let selector = BTreeMap::from([
        ("app.kubernetes.io/component".to_owned(), "server".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), "prometheus".to_owned()),
        (labels::KUBERNETES_NAME.to_owned(), "prometheus".to_owned()),
    ]);
    let (map, checksum) = config_map(mesh, KIND, [("prometheus.yml", crds::yaml::to_string(&scrape::config())?)])?;
    let mut objects = vec![map];
    objects.extend(claim(mesh, KIND, addon.persistence.as_ref())?);
    objects.push(service(mesh, KIND, "prometheus", &selector, &[("http", PORT, PORT)])?);
    let workload = Workload {
        kind: KIND,
        selector,
        annotations: [checksum].into(),
        container: Container {
            name: "prometheus-server".into(),
            // Those that Prometheus 2 and 3 both have.
            args: Some(
                [
                    "--config.file=/etc/config/prometheus.yml",
                    "--storage.tsdb.path=/data",
                    "--storage.tsdb.retention.time=15d",
                ]
                .map(str::to_owned)
                .into(),
            ),
            ports: Some(vec![pod::port("http", PORT)]),
            readiness_probe: Some(pod::http_probe("/-/ready", PORT, 5, 3)),
            liveness_probe: Some(liveness("/-/healthy", PORT)),
            volume_mounts: Some(vec![
                mount("config-volume", "/etc/config", true),
                mount("storage-volume", "/data", false),
            ]),
            ..Container::default()
        },
        volumes: vec![
            settings("config-volume", KIND, &[]),
            storage("storage-volume", KIND, addon.persistence.as_ref()),
        ],
        id: ID,
        alone: true,
        grace: Some(300),
    };
    objects.extend(workload.build(mesh, addon)?);
    Ok(objects)
}
