//! A gateway's Deployment, rendered whole: gateways never depend on injection. Environment and volumes are those of an
//! injected sidecar.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, PodTemplateSpec, ProjectedVolumeSource,
    ResourceFieldSelector, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use names::{identity, labels, paths, ports, resources};

use super::{RenderError, pod};
use crate::meshinstall::mesh::{Component, Gateway, Mesh};
use crate::meshinstall::mesh_config;

pub(super) fn build(mesh: &Mesh, gateway: &Gateway, account: &str) -> Result<Deployment, RenderError> {
    let selector = pod::gateway_selector(gateway);
    let mut metadata = mesh.object(Component::Gateway, &gateway.namespace, &gateway.name);
    let all = metadata.labels.get_or_insert_default();
    all.insert(labels::APP.to_owned(), gateway.name.clone());
    all.insert(labels::KUBERNETES_NAME.to_owned(), gateway.name.clone());
    all.extend(gateway.labels.clone());

    let mut pod_labels = pod::pod_labels(mesh, Component::Gateway, &gateway.name, selector.clone());
    pod_labels.extend([
        (labels::APP.to_owned(), gateway.name.clone()),
        (labels::CANONICAL_NAME.to_owned(), gateway.name.clone()),
        (labels::CANONICAL_REVISION.to_owned(), "latest".to_owned()),
        ("istio.io/dataplane-mode".to_owned(), "none".to_owned()),
    ]);
    pod_labels.extend(gateway.labels.clone());

    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(pod::scrape(ports::AGENT, Some("/stats/prometheus"))),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(account.to_owned()),
            automount_service_account_token: Some(false),
            security_context: Some(pod::pod_security(
                mesh.openshift,
                gateway.ports.iter().any(|port| port.target_port < 1024),
            )),
            containers: vec![container(mesh, gateway)?],
            volumes: Some(volumes()),
            ..PodSpec::default()
        }),
    };
    pod::shape(&mut template, mesh, &gateway.pods, &selector);
    pod::keep_to_our_nodes(&mut template, &gateway.pods);

    Ok(Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: gateway.scale.replicas,
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            strategy: Some(pod::strategy()),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

fn container(mesh: &Mesh, gateway: &Gateway) -> Result<Container, RenderError> {
    let mut container_ports: Vec<ContainerPort> = Vec::new();
    for port in &gateway.ports {
        // Two ports of the Service may end at one of the pod.
        let known =
            |p: &ContainerPort| p.container_port == port.target_port && p.protocol.as_deref() == Some(port.protocol);
        if !container_ports.iter().any(known) {
            container_ports.push(ContainerPort {
                container_port: port.target_port,
                protocol: Some(port.protocol.to_owned()),
                ..ContainerPort::default()
            });
        }
    }
    container_ports.push(pod::port("http-envoy-prom", ports::PROXY_STATS));
    Ok(Container {
        name: "istio-proxy".into(),
        image: Some(mesh.proxy.image.clone()),
        args: Some(vec![
            "proxy".into(),
            "router".into(),
            "--domain".into(),
            format!("$(POD_NAMESPACE).svc.{}", names::CLUSTER_DOMAIN),
            format!("--proxyLogLevel={}", mesh.proxy.log_level),
            "--proxyComponentLogLevel=misc:error".into(),
            "--log_output_level=default:info".into(),
        ]),
        ports: Some(container_ports),
        env: Some(environment(mesh, gateway)?),
        volume_mounts: Some(mounts()),
        readiness_probe: Some(pod::http_probe("/healthz/ready", ports::HEALTH, 1, 30)),
        resources: Some((&gateway.resources).into()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    })
}

fn environment(mesh: &Mesh, gateway: &Gateway) -> Result<Vec<EnvVar>, RenderError> {
    let owner = format!("kubernetes://apis/apps/v1/namespaces/{}/deployments/{}", gateway.namespace, gateway.name);
    let proxy_config = serde_json::to_string(&mesh_config::proxy_config(&mesh.mesh_config))?;
    let mut environment = vec![
        pod::env("PILOT_CERT_PROVIDER", "istiod"),
        pod::env("CA_ADDR", mesh.discovery_address()),
        pod::env_field("POD_NAME", "metadata.name"),
        pod::env_field("POD_NAMESPACE", "metadata.namespace"),
        pod::env_field("INSTANCE_IP", "status.podIP"),
        pod::env_field("HOST_IP", "status.hostIP"),
        EnvVar {
            name: "ISTIO_CPU_LIMIT".into(),
            value: None,
            value_from: Some(EnvVarSource {
                resource_field_ref: Some(ResourceFieldSelector {
                    resource: "limits.cpu".into(),
                    divisor: Some(Quantity("1".into())),
                    container_name: None,
                }),
                ..EnvVarSource::default()
            }),
        },
        pod::env_field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        pod::env("PROXY_CONFIG", proxy_config),
        pod::env("ISTIO_META_POD_PORTS", "[]"),
        pod::env("ISTIO_META_APP_CONTAINERS", ""),
        pod::env("ISTIO_META_CLUSTER_ID", names::CLUSTER_ID),
        pod::env_field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        pod::env("ISTIO_META_WORKLOAD_NAME", &gateway.name),
        pod::env("ISTIO_META_OWNER", owner),
        pod::env("ISTIO_META_MESH_ID", mesh.trust_domain()),
        pod::env("TRUST_DOMAIN", mesh.trust_domain()),
        pod::env("ISTIO_META_UNPRIVILEGED_POD", "true"),
    ];
    let metadata = mesh_config::proxy_metadata(&mesh.mesh_config);
    // Names are unique in a pod; the user's word counts.
    environment.retain(|variable| !metadata.iter().any(|(name, _)| *name == variable.name));
    environment.extend(metadata.into_iter().map(|(name, value)| pod::env(&name, value)));
    Ok(environment)
}

fn volumes() -> Vec<Volume> {
    let empty = |name: &str, medium: Option<&str>| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: medium.map(str::to_owned), size_limit: None }),
        ..Volume::default()
    };
    let field = |path: &str, field: &str| DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector { api_version: None, field_path: field.to_owned() }),
        ..DownwardAPIVolumeFile::default()
    };
    vec![
        empty("workload-socket", None),
        empty("credential-socket", None),
        empty("workload-certs", None),
        empty("istio-envoy", Some("Memory")),
        empty("istio-data", None),
        Volume {
            name: "istio-podinfo".into(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![field("labels", "metadata.labels"), field("annotations", "metadata.annotations")]),
                default_mode: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "istio-token".into(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(ServiceAccountTokenProjection {
                        audience: Some(identity::TOKEN_AUDIENCE.into()),
                        expiration_seconds: Some(43_200),
                        path: "istio-token".into(),
                    }),
                    ..VolumeProjection::default()
                }]),
                default_mode: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "istiod-ca-cert".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: resources::ROOT_CERT_CONFIG_MAP.into(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

fn mounts() -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    vec![
        mount("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        mount("credential-socket", "/var/run/secrets/credential-uds"),
        mount("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
        mount("istio-envoy", paths::PROXY_STATE),
        mount("istio-data", "/var/lib/istio/data"),
        mount("istio-podinfo", "/etc/istio/pod"),
        mount("istio-token", "/var/run/secrets/tokens"),
        mount("istiod-ca-cert", paths::ROOT_CERT_DIR),
    ]
}
