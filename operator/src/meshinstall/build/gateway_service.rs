//! A gateway's Service.

use crds::install::ServiceType;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use names::labels;

use super::pod;
use crate::meshinstall::mesh::{Component, Gateway, Mesh};

pub(super) fn build(mesh: &Mesh, gateway: &Gateway) -> Service {
    let mut metadata = mesh.object(Component::Gateway, &gateway.namespace, &gateway.name);
    let all = metadata.labels.get_or_insert_default();
    all.insert(labels::APP.to_owned(), gateway.name.clone());
    all.insert(labels::KUBERNETES_NAME.to_owned(), gateway.name.clone());
    all.extend(gateway.labels.clone());
    let own = &gateway.service;
    all.extend(own.labels.clone());
    metadata.annotations = (!own.annotations.is_empty()).then(|| own.annotations.clone());
    let list = |of: &[String]| (!of.is_empty()).then(|| of.to_vec());
    let families: Vec<String> = own.ip_families.iter().map(|family| format!("{family:?}")).collect();
    let ports = gateway.ports.iter().map(|port| ServicePort {
        name: Some(port.name.clone()),
        port: port.port,
        target_port: Some(IntOrString::Int(port.target_port)),
        node_port: port.node_port,
        protocol: Some(port.protocol.to_owned()),
        app_protocol: None,
    });
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(
                match gateway.service_type {
                    ServiceType::LoadBalancer => "LoadBalancer",
                    ServiceType::NodePort => "NodePort",
                    ServiceType::ClusterIP => "ClusterIP",
                }
                .to_owned(),
            ),
            ports: Some(ports.collect()),
            selector: Some(pod::gateway_selector(gateway)),
            external_traffic_policy: own.external_traffic_policy.map(|policy| format!("{policy:?}")),
            load_balancer_class: own.load_balancer_class.clone(),
            load_balancer_ip: own.load_balancer_ip.clone(),
            load_balancer_source_ranges: list(&own.load_balancer_source_ranges),
            allocate_load_balancer_node_ports: own.allocate_load_balancer_node_ports,
            external_ips: list(&own.external_ips),
            ip_family_policy: own.ip_family_policy.map(|policy| format!("{policy:?}")),
            ip_families: list(&families),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
