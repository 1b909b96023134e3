//! What the pods of all parts have in common: their security, their environment, the labels they are found by.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ContainerPort, EnvVar, EnvVarSource, ExecAction, HTTPGetAction, LocalObjectReference,
    NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector, PodSecurityContext, PodTemplateSpec, Probe,
    SeccompProfile, SecurityContext, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use names::{images, labels, ports};

use crate::meshinstall::mesh::{Component, Gateway, Mesh, Pods};

/// Pod Security `restricted`, the pod's half. Where the namespace gives the ids (OpenShift), none may be asked for.
pub(crate) fn pod_security(ids_of_the_namespace: bool, sysctl_unprivileged_ports: bool) -> PodSecurityContext {
    let id = (!ids_of_the_namespace).then_some(ports::PROXY_UID.into());
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: id,
        run_as_group: id,
        fs_group: id,
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        sysctls: sysctl_unprivileged_ports.then(|| {
            // One of the few that are safe, and the way to listen on 80 without a capability.
            vec![k8s_openapi::api::core::v1::Sysctl {
                name: "net.ipv4.ip_unprivileged_port_start".into(),
                value: "0".into(),
            }]
        }),
        ..PodSecurityContext::default()
    }
}

/// Lays over a part's pods what the spec says of them, and what is the same for all: pull secrets, and that pods of one
/// part are spread over nodes.
pub(crate) fn shape(template: &mut PodTemplateSpec, mesh: &Mesh, pods: &Pods, selector: &BTreeMap<String, String>) {
    let metadata = template.metadata.get_or_insert_default();
    metadata.annotations.get_or_insert_default().extend(pods.annotations.clone());
    let labels = metadata.labels.get_or_insert_default();
    // A selector that no longer selects would be refused by the API server.
    labels.extend(pods.labels.clone().into_iter().filter(|(key, _)| !selector.contains_key(key)));

    let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    let own = || LabelSelector { match_labels: Some(selector.clone()), match_expressions: None };
    let spec = template.spec.get_or_insert_default();
    spec.node_selector = some(&pods.node_selector);
    spec.affinity.clone_from(&pods.affinity);
    if !pods.tolerations.is_empty() {
        spec.tolerations.get_or_insert_default().extend(pods.tolerations.clone());
    }
    spec.priority_class_name.clone_from(&pods.priority_class);
    let mut constraints = pods.topology_spread.clone();
    if constraints.is_empty() && pods.affinity.is_none() {
        constraints = spread(selector);
    }
    for constraint in &mut constraints {
        constraint.label_selector.get_or_insert_with(own);
    }
    spec.topology_spread_constraints = (!constraints.is_empty()).then_some(constraints);
    let secrets = &mesh.images.pull_secrets;
    spec.image_pull_secrets =
        (!secrets.is_empty()).then(|| secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect());
    for container in &mut spec.containers {
        container.image_pull_policy = Some(mesh.images.pull_policy.to_owned());
    }
    if let Some(container) = spec.containers.first_mut() {
        let env = container.env.get_or_insert_default();
        // Names are unique in a container; the user's word counts.
        env.retain(|variable| !pods.env.iter().any(|own| own.name == variable.name));
        env.extend(pods.env.clone());
    }
}

/// Keeps pods of our own images to nodes that these run on.
pub(crate) fn keep_to_our_nodes(template: &mut PodTemplateSpec, pods: &Pods) {
    let spec = template.spec.get_or_insert_default();
    spec.affinity = on_our_nodes(spec.affinity.take(), &pods.node_selector);
}

/// Only nodes that our images run on: clusters may have others beside them. Who speaks of the architecture himself has
/// images of his own.
pub(crate) fn on_our_nodes(own: Option<Affinity>, selector: &BTreeMap<String, String>) -> Option<Affinity> {
    const ARCHITECTURE: &str = "kubernetes.io/arch";
    let speaks = |term: &NodeSelectorTerm| term.match_expressions.iter().flatten().any(|one| one.key == ARCHITECTURE);
    let required =
        |affinity: &Affinity| affinity.node_affinity.clone()?.required_during_scheduling_ignored_during_execution;
    let terms = own.as_ref().and_then(required).map(|required| required.node_selector_terms).unwrap_or_default();
    if selector.contains_key(ARCHITECTURE) || terms.iter().any(speaks) {
        return own;
    }
    let is = |key: &str, value: &str| NodeSelectorRequirement {
        key: key.into(),
        operator: "In".into(),
        values: Some(vec![value.into()]),
    };
    let mut affinity = own.unwrap_or_default();
    let node = affinity.node_affinity.get_or_insert_default();
    let terms =
        &mut node.required_during_scheduling_ignored_during_execution.get_or_insert_default().node_selector_terms;
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
    }
    // One of the terms has to hold, and in it all expressions.
    for term in terms {
        let ours = [is("kubernetes.io/os", images::OS), is(ARCHITECTURE, images::ARCHITECTURE)];
        term.match_expressions.get_or_insert_default().extend(ours);
    }
    Some(affinity)
}

/// Pod Security `restricted`, the container's half.
pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..SecurityContext::default()
    }
}

/// An environment variable with a value.
pub(crate) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

/// An environment variable with a field of the pod.
pub(crate) fn env_field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { api_version: None, field_path: path.to_owned() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// A TCP port of a container.
pub(crate) fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// A readiness probe by HTTP. Short periods, because an installation waits for it.
pub(crate) fn http_probe(path: &str, port: u16, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port.into()),
            ..HTTPGetAction::default()
        }),
        exec: None::<ExecAction>,
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Replicas on different nodes, and in different zones, where there are such; they start all the same where there are not.
fn spread(selector: &BTreeMap<String, String>) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector { match_labels: Some(selector.clone()), match_expressions: None }),
        // Of one template: pods that a roll-out is about to end do not count.
        match_label_keys: Some(vec!["pod-template-hash".into()]),
        ..TopologySpreadConstraint::default()
    };
    vec![over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")]
}

/// New pods come up before old ones go, and none goes for one that does not come up.
pub(crate) fn strategy() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::String("100%".into())),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

/// The labels that Prometheus and people find a pod of ours by, besides its selector.
pub(crate) fn pod_labels(
    mesh: &Mesh,
    component: Component,
    name: &str,
    more: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = mesh.labels(component);
    all.extend([
        (labels::KUBERNETES_NAME.to_owned(), name.to_owned()),
        (labels::KUBERNETES_VERSION.to_owned(), mesh.version.clone()),
        // Rendered whole: nothing is to be injected.
        (labels::INJECT.to_owned(), "false".to_owned()),
    ]);
    all.extend(more);
    all
}

/// The labels that belong to Istio's interface, and by which the control plane's pods are found.
pub(crate) fn control_plane_selector(mesh: &Mesh) -> BTreeMap<String, String> {
    let second = if mesh.revision == names::DEFAULT_REVISION {
        (labels::ISTIO.to_owned(), "pilot".to_owned())
    } else {
        (labels::REVISION.to_owned(), mesh.revision.clone())
    };
    BTreeMap::from([(labels::APP.to_owned(), "istiod".to_owned()), second])
}

/// The labels by which the webhook's pods are found.
pub(crate) fn webhook_selector(mesh: &Mesh) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::APP.to_owned(), "sidecar-injector".to_owned()),
        (labels::REVISION.to_owned(), mesh.revision.clone()),
    ])
}

/// The labels by which a gateway's pods are found. Not the ones that a spec can change: a selector cannot be changed.
pub(crate) fn gateway_selector(gateway: &Gateway) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::COMPONENT.to_owned(), Component::Gateway.as_str().to_owned()),
        (labels::KUBERNETES_NAME.to_owned(), gateway.name.clone()),
    ])
}

/// What Prometheus' usual configuration looks for.
pub(crate) fn scrape(port: u16, path: Option<&str>) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        ("prometheus.io/scrape".to_owned(), "true".to_owned()),
        ("prometheus.io/port".to_owned(), port.to_string()),
    ]);
    annotations.extend(path.map(|path| ("prometheus.io/path".to_owned(), path.to_owned())));
    annotations
}
