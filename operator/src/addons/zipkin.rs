//! Zipkin, the small distribution, with its traces in memory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use names::labels;

use super::workload::{Workload, mount, scratch, service};
use super::{Addon, AddonKind};
use crate::meshinstall::build::{RenderError, Rendered, pod};
use crate::meshinstall::mesh::Mesh;

const KIND: AddonKind = AddonKind::Zipkin;
pub(super) const PORT: u16 = 9411;
/// `zipkin`, as the image's name for it.
const ID: i64 = 1000;

pub(super) fn build(mesh: &Mesh, addon: &Addon) -> Result<Vec<Rendered>, RenderError> {
    let selector = BTreeMap::from([(labels::APP.to_owned(), "zipkin".to_owned())]);
    let mut objects = vec![
        service(mesh, KIND, "tracing", &selector, &[("http-query", 80, PORT)])?,
        service(mesh, KIND, "zipkin", &selector, &[("http-query", PORT, PORT)])?,
    ];
    let workload = Workload {
        kind: KIND,
        selector,
        annotations: BTreeMap::new(),
        container: Container {
            name: "zipkin".into(),
            ports: Some(vec![pod::port("http-query", PORT)]),
            env: Some(vec![pod::env("STORAGE_TYPE", "mem")]),
            readiness_probe: Some(pod::http_probe("/health", PORT, 5, 3)),
            liveness_probe: None,
            // Java unpacks its native libraries there.
            volume_mounts: Some(vec![mount("tmp", "/tmp", false)]),
            ..Container::default()
        },
        volumes: vec![scratch("tmp")],
        id: ID,
        alone: true,
        grace: None,
    };
    objects.extend(workload.build(mesh, addon)?);
    Ok(objects)
}
