//! Deployment `istiod[-<revision>]`.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use names::{labels, ports};

use super::pod;
use crate::meshinstall::mesh::{Component, Mesh, Workload};

pub(super) fn build(mesh: &Mesh, workload: &Workload) -> Deployment {
    let selector = pod::control_plane_selector(mesh);
    let mut metadata = mesh.object(Component::ControlPlane, &mesh.namespace, &mesh.istiod());
    metadata.labels.get_or_insert_default().extend([
        (labels::APP.to_owned(), "istiod".to_owned()),
        (labels::ISTIO.to_owned(), "pilot".to_owned()),
        (labels::KUBERNETES_NAME.to_owned(), "istiod".to_owned()),
        ("operator.istio.io/component".to_owned(), "Pilot".to_owned()),
    ]);
    let mut pod_labels = pod::pod_labels(mesh, Component::ControlPlane, "istiod", selector.clone());
    pod_labels.extend([
        ("istio.io/dataplane-mode".to_owned(), "none".to_owned()),
        ("operator.istio.io/component".to_owned(), "Pilot".to_owned()),
    ]);
    // A named revision's pods must not answer for the default revision, whose Service selects `pilot`.
    pod_labels.entry(labels::ISTIO.to_owned()).or_insert_with(|| "istiod".to_owned());
    let mut annotations = pod::scrape(ports::MONITORING, None);
    annotations.insert(labels::INJECT.to_owned(), "false".to_owned());

    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(mesh.istiod()),
            security_context: Some(pod::pod_security(mesh.openshift, false)),
            containers: vec![container(mesh, workload)],
            tolerations: Some(vec![Toleration {
                key: Some("cni.istio.io/not-ready".into()),
                operator: Some("Exists".into()),
                ..Toleration::default()
            }]),
            ..PodSpec::default()
        }),
    };
    pod::shape(&mut template, mesh, &workload.pods, &selector);
    pod::keep_to_our_nodes(&mut template, &workload.pods);

    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: workload.scale.replicas,
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            strategy: Some(pod::strategy()),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn container(mesh: &Mesh, workload: &Workload) -> Container {
    Container {
        name: "discovery".into(),
        image: Some(workload.image.clone()),
        args: Some(vec!["istiod".into()]),
        ports: Some(vec![
            pod::port("http-debug", ports::READINESS),
            pod::port("grpc-xds", ports::XDS_PLAINTEXT),
            pod::port("tls-xds", ports::XDS_TLS),
            pod::port("http-monitoring", ports::MONITORING),
        ]),
        env: Some(vec![
            pod::env("REVISION", &mesh.revision),
            pod::env("PILOT_CERT_PROVIDER", "istiod"),
            pod::env_field("POD_NAME", "metadata.name"),
            pod::env_field("POD_NAMESPACE", "metadata.namespace"),
            pod::env_field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            pod::env("PILOT_TRACE_SAMPLING", mesh.trace_sampling.to_string()),
            pod::env("CLUSTER_ID", names::CLUSTER_ID),
        ]),
        readiness_probe: Some(pod::http_probe("/ready", ports::READINESS, 1, 3)),
        resources: Some((&workload.resources).into()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    }
}
