//! Service `istiod[-<revision>]`.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use names::{labels, ports};

use super::pod;
use crate::meshinstall::mesh::{Component, Mesh};

/// Istio's ports without 443: the webhook has its own Service.
pub(super) fn build(mesh: &Mesh) -> Service {
    let mut metadata = mesh.object(Component::ControlPlane, &mesh.namespace, &mesh.istiod());
    metadata.labels.get_or_insert_default().extend([
        (labels::APP.to_owned(), "istiod".to_owned()),
        (labels::ISTIO.to_owned(), "pilot".to_owned()),
        (labels::KUBERNETES_NAME.to_owned(), "istiod".to_owned()),
        ("operator.istio.io/component".to_owned(), "Pilot".to_owned()),
    ]);
    let port = |name: &str, number: u16| ServicePort {
        name: Some(name.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::Int(number.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            ports: Some(vec![
                port("grpc-xds", ports::XDS_PLAINTEXT),
                port("https-dns", ports::XDS_TLS),
                port("http-monitoring", ports::MONITORING),
            ]),
            selector: Some(pod::control_plane_selector(mesh)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
