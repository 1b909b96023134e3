//! Service `istio-sidecar-injector[-<revision>]`.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use names::{labels, ports};

use super::pod;
use crate::meshinstall::mesh::{Component, Mesh};

pub(super) fn build(mesh: &Mesh) -> Service {
    let mut metadata = mesh.object(Component::Webhook, &mesh.namespace, &mesh.injector());
    metadata.labels.get_or_insert_default().insert(labels::APP.to_owned(), "sidecar-injector".to_owned());
    let port = |name: &str, number: i32, target: u16| ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::Int(target.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            ports: Some(vec![
                port("https-webhook", 443, ports::WEBHOOK),
                port("http-monitoring", ports::MONITORING.into(), ports::MONITORING),
            ]),
            selector: Some(pod::webhook_selector(mesh)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
