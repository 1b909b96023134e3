//! From Kubernetes objects to the model.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::host;
use super::mesh::Mesh;
use super::object::ObjectError;
use super::protocol::Protocol;
use super::service::{Origin, Resolution, Service, ServicePort, TargetPort};
use super::visibility::Visibility;
use super::workload::{EndpointSlice, Health, SliceAddress, Workload};

/// Istio's annotation on a Service: where it is visible.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// The label by which an EndpointSlice names its Service.
const SLICE_SERVICE: &str = "kubernetes.io/service-name";
/// The label by which a Deployment tells its ReplicaSets apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

fn full_name(metadata: &ObjectMeta) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

/// A Service.
pub fn service(from: &core::Service, mesh: &Mesh) -> Result<Service, ObjectError> {
    let spec = from.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        // Its name leads to another host's address, and that is where connections are judged.
        let why = "a Service of type ExternalName is an alias in DNS only";
        return Err(ObjectError::Meaningless { kind: "Service", name: full_name(&from.metadata), why });
    }
    let name = from.metadata.name.clone().unwrap_or_default();
    let namespace = from.metadata.namespace.clone().unwrap_or_default();
    let cluster_ips = spec.cluster_ips.filter(|ips| !ips.is_empty());
    let cluster_ips = cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    // "None" is what headless Services have instead of an address; none at all means: not assigned yet.
    let headless = cluster_ips.iter().any(|ip| ip == "None");
    let export_to = from.metadata.annotations.as_ref().and_then(|all| all.get(EXPORT_TO));
    let export_to: Vec<String> =
        export_to.map(|to| to.split(',').map(|to| to.trim().to_owned()).collect()).unwrap_or_default();
    Ok(Service {
        host: host::of_service(&name, &namespace, &mesh.cluster_domain),
        ports: spec.ports.unwrap_or_default().iter().filter_map(port).collect(),
        addresses: cluster_ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).collect(),
        selector: spec.selector.unwrap_or_default(),
        resolution: if headless { Resolution::Headless } else { Resolution::Endpoints },
        endpoints: Vec::new(),
        mesh_external: false,
        subject_alt_names: Vec::new(),
        visibility: Visibility::parse(&export_to, &mesh.config.default_service_export_to, &namespace),
        created: created(&from.metadata),
        origin: Origin::Kubernetes,
        name,
        namespace,
    })
}

fn port(from: &core::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(from.port).ok()?;
    let name = from.name.clone().unwrap_or_default();
    let transport = from.protocol.as_deref().unwrap_or("TCP");
    let target = match &from.target_port {
        Some(IntOrString::Int(target)) if *target > 0 => TargetPort::Number(u16::try_from(*target).ok()?),
        Some(IntOrString::String(target)) if !target.is_empty() => TargetPort::Name(target.clone()),
        _ => TargetPort::Number(number),
    };
    let protocol = Protocol::of_port(number, &name, transport, from.app_protocol.as_deref());
    Some(ServicePort { number, name, protocol, target })
}

/// An EndpointSlice.
pub fn endpoint_slice(from: &discovery::EndpointSlice) -> Result<EndpointSlice, ObjectError> {
    let meaningless = |why| ObjectError::Meaningless { kind: "EndpointSlice", name: full_name(&from.metadata), why };
    let service = from.metadata.labels.as_ref().and_then(|labels| labels.get(SLICE_SERVICE));
    let service = service.ok_or_else(|| meaningless("it has no label kubernetes.io/service-name"))?;
    if from.address_type == "FQDN" {
        return Err(meaningless("addresses of type FQDN are not supported, by kube-proxy neither"));
    }
    let ports = from
        .ports
        .iter()
        .flatten()
        .filter_map(|port| Some((port.name.clone().unwrap_or_default(), u16::try_from(port.port?).ok()?)));
    let addresses = from.endpoints.iter().flat_map(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // Absent means: unknown, which the API asks to read as ready, as serving, as not terminating.
        let ready = conditions.ready.unwrap_or(true);
        let serving = conditions.serving.unwrap_or(ready);
        let health = match (ready, serving, conditions.terminating.unwrap_or(false)) {
            (true, ..) => Health::Ready,
            (false, true, true) => Health::Draining,
            (false, ..) => Health::Unready,
        };
        let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
        let pod = pod.and_then(|target| target.name.clone()).unwrap_or_default();
        let node = endpoint.node_name.clone().unwrap_or_default();
        endpoint.addresses.iter().map(move |ip| SliceAddress {
            ip: ip.clone(),
            health,
            pod: pod.clone(),
            node: node.clone(),
        })
    });
    Ok(EndpointSlice {
        name: from.metadata.name.clone().unwrap_or_default(),
        namespace: from.metadata.namespace.clone().unwrap_or_default(),
        service: service.clone(),
        ports: ports.collect(),
        addresses: addresses.collect(),
    })
}

/// Of a Pod, what the model reads: of the hundreds of fields of a whole one most would be read to be dropped.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = core::Pod)]
pub struct Pod {
    /// Names, labels and owners.
    pub metadata: ObjectMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    node_name: Option<String>,
    service_account_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Option<Vec<core::ContainerPort>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    conditions: Option<Vec<core::PodCondition>>,
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<core::PodIP>>,
}

/// A Pod.
pub fn pod(from: &Pod) -> Workload {
    let status = from.status.clone().unwrap_or_default();
    let spec = from.spec.clone().unwrap_or_default();
    let mut ips: Vec<String> = status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip).collect();
    if ips.is_empty() {
        ips.extend(status.pod_ip);
    }
    let mut ports = BTreeMap::new();
    // A native sidecar is an init container, and its ports count as the others' do.
    for container in spec.init_containers.iter().flatten().chain(spec.containers.iter().flatten()) {
        for port in container.ports.iter().flatten() {
            if let (Some(name), Ok(number)) = (&port.name, u16::try_from(port.container_port)) {
                ports.insert(name.clone(), number);
            }
        }
    }
    Workload {
        name: from.metadata.name.clone().unwrap_or_default(),
        namespace: from.metadata.namespace.clone().unwrap_or_default(),
        ips,
        labels: from.metadata.labels.clone().unwrap_or_default(),
        service_account: spec.service_account_name.unwrap_or_else(|| "default".to_owned()),
        node: spec.node_name.unwrap_or_default(),
        workload_name: workload_name(&from.metadata),
        ports,
        ready: status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True"),
        finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
    }
}

/// The name of what made a pod: its Deployment rather than its ReplicaSet, its CronJob rather than its Job.
fn workload_name(metadata: &ObjectMeta) -> String {
    let own = || metadata.name.clone().or_else(|| metadata.generate_name.clone()).unwrap_or_default();
    let owners = metadata.owner_references.iter().flatten();
    let Some(owner) = owners.clone().find(|owner| owner.controller == Some(true)) else { return own() };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
            let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            deployment.unwrap_or(&owner.name).to_owned()
        }
        // `<cron job>-<minutes of Unix time>`, 8 digits (10 before Kubernetes 1.21).
        "Job" => match owner.name.rsplit_once('-') {
            Some((cron, minute)) if minute.len() >= 8 && minute.bytes().all(|b| b.is_ascii_digit()) => cron.to_owned(),
            _ => owner.name.clone(),
        },
        _ => owner.name.clone(),
    }
}
