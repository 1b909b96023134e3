//! Deployment `istio-sidecar-injector[-<revision>]`.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use names::{labels, ports};

use super::pod;
use crate::meshinstall::mesh::{Component, Mesh, Workload};

pub(super) fn build(mesh: &Mesh, workload: &Workload) -> Deployment {
    let selector = pod::webhook_selector(mesh);
    let mut metadata = mesh.object(Component::Webhook, &mesh.namespace, &mesh.injector());
    metadata.labels.get_or_insert_default().insert(labels::APP.to_owned(), "sidecar-injector".to_owned());
    let mut pod_labels = pod::pod_labels(mesh, Component::Webhook, "istio-sidecar-injector", selector.clone());
    pod_labels.insert("istio.io/dataplane-mode".to_owned(), "none".to_owned());

    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(pod::scrape(ports::MONITORING, None)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(mesh.injector()),
            security_context: Some(pod::pod_security(mesh.openshift, false)),
            containers: vec![container(mesh, workload)],
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
        name: "webhook".into(),
        image: Some(workload.image.clone()),
        args: Some(vec!["webhook".into()]),
        ports: Some(vec![
            pod::port("https-webhook", ports::WEBHOOK),
            pod::port("http-monitoring", ports::MONITORING),
            pod::port("http-ready", ports::READINESS),
        ]),
        env: Some(vec![
            pod::env("REVISION", &mesh.revision),
            pod::env_field("POD_NAME", "metadata.name"),
            pod::env_field("POD_NAMESPACE", "metadata.namespace"),
            pod::env("CLUSTER_ID", names::CLUSTER_ID),
        ]),
        readiness_probe: Some(pod::http_probe("/ready", ports::READINESS, 1, 3)),
        resources: Some((&workload.resources).into()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    }
}
