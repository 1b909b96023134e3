//! What the addons have in common: a Deployment of one pod, its Services, its settings, perhaps a claim.

use std::collections::BTreeMap;

use crds::install::Persistence;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, HTTPGetAction, KeyToPath, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    Service, ServicePort, ServiceSpec, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use names::labels;
use sha2::{Digest, Sha256};

use super::{Addon, AddonKind};
use crate::meshinstall::build::{RenderError, Rendered, pod, roles, service_account};
use crate::meshinstall::mesh::{Component, Mesh};

/// One addon's Deployment, as far as it differs from the others'.
pub(super) struct Workload {
    pub(super) kind: AddonKind,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// Without image, resources, security and pull policy, which are alike for all.
    pub(super) container: Container,
    pub(super) volumes: Vec<Volume>,
    /// User and group that its image is made for; some images name theirs by a word, which the kubelet cannot check.
    pub(super) id: i64,
    /// Two pods must not have its data at a time.
    pub(super) alone: bool,
    /// How long it may take to end; None is Kubernetes' default.
    pub(super) grace: Option<i64>,
}

impl Workload {
    /// Its service account, what that may do, and its Deployment.
    pub(super) fn build(self, mesh: &Mesh, addon: &Addon) -> Result<Vec<Rendered>, RenderError> {
        let component = Component::Addon(self.kind);
        let name = self.kind.as_str();
        let mut objects =
            vec![Rendered::new(component, &service_account::build(mesh, component, &mesh.namespace, name))?];
        if self.kind.asks_the_api_server() {
            objects.push(Rendered::new(component, &roles::cluster_role(mesh, component))?);
            objects.push(Rendered::new(component, &roles::cluster_role_binding(mesh, component, name))?);
        }
        objects.push(Rendered::new(component, &self.deployment(mesh, addon))?);
        Ok(objects)
    }

    fn deployment(self, mesh: &Mesh, addon: &Addon) -> Deployment {
        let name = self.kind.as_str();
        let mut labels = pod::pod_labels(mesh, Component::Addon(self.kind), name, self.selector.clone());
        // The mesh's, which says nothing about this program.
        labels.remove(labels::KUBERNETES_VERSION);
        let container = Container {
            image: Some(addon.image.clone()),
            resources: Some((&addon.resources).into()),
            security_context: Some(pod::container_security()),
            ..self.container
        };
        let mut template = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                annotations: Some(self.annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                service_account_name: Some(name.to_owned()),
                automount_service_account_token: Some(self.kind.asks_the_api_server()),
                security_context: Some(security(mesh, self.id)),
                containers: vec![container],
                volumes: Some(self.volumes),
                termination_grace_period_seconds: self.grace,
                ..PodSpec::default()
            }),
        };
        pod::shape(&mut template, mesh, &addon.pods, &self.selector);
        let recreate = DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None };
        Deployment {
            metadata: metadata(mesh, self.kind, name),
            spec: Some(DeploymentSpec {
                replicas: Some(1),
                selector: LabelSelector { match_labels: Some(self.selector), match_expressions: None },
                strategy: Some(if self.alone { recreate } else { pod::strategy() }),
                template,
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }
}

/// Pod Security `restricted`, the pod's half, with the ids of the image.
fn security(mesh: &Mesh, id: i64) -> PodSecurityContext {
    let id = (!mesh.openshift).then_some(id);
    PodSecurityContext { run_as_user: id, run_as_group: id, fs_group: id, ..pod::pod_security(mesh.openshift, false) }
}

/// Metadata of an addon's object, with the label that people look for it by.
fn metadata(mesh: &Mesh, kind: AddonKind, name: &str) -> ObjectMeta {
    let mut metadata = mesh.object(Component::Addon(kind), &mesh.namespace, name);
    let all = metadata.labels.get_or_insert_default();
    all.insert(labels::APP.to_owned(), kind.as_str().to_owned());
    all.insert(labels::KUBERNETES_NAME.to_owned(), kind.as_str().to_owned());
    metadata
}

/// One of an addon's Services; `ports` are name, port and the pod's port.
pub(super) fn service(
    mesh: &Mesh,
    kind: AddonKind,
    name: &str,
    selector: &BTreeMap<String, String>,
    ports: &[(&str, u16, u16)],
) -> Result<Rendered, RenderError> {
    let ports = ports.iter().map(|(name, port, target)| ServicePort {
        name: Some((*name).to_owned()),
        port: (*port).into(),
        target_port: Some(IntOrString::Int((*target).into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    });
    let service = Service {
        metadata: metadata(mesh, kind, name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            ports: Some(ports.collect()),
            selector: Some(selector.clone()),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    Rendered::new(Component::Addon(kind), &service)
}

/// The ConfigMap of an addon, and what to put on its pods so that a change of it replaces them.
pub(super) fn config_map(
    mesh: &Mesh,
    kind: AddonKind,
    files: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<(Rendered, (String, String)), RenderError> {
    let data: BTreeMap<String, String> = files.into_iter().map(|(file, content)| (file.to_owned(), content)).collect();
    let hash = Sha256::digest(serde_json::to_vec(&data)?);
    let hash = hash.iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let map = ConfigMap { metadata: metadata(mesh, kind, kind.as_str()), data: Some(data), ..ConfigMap::default() };
    Ok((Rendered::new(Component::Addon(kind), &map)?, ("checksum/config".to_owned(), hash)))
}

/// The claim of an addon that keeps its data. Without an owner: the garbage collector must not take somebody's data.
pub(super) fn claim(
    mesh: &Mesh,
    kind: AddonKind,
    persistence: Option<&Persistence>,
) -> Result<Option<Rendered>, RenderError> {
    let Some(persistence) = persistence else { return Ok(None) };
    let mut metadata = metadata(mesh, kind, kind.as_str());
    metadata.owner_references = None;
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(persistence.size.0.clone()))]);
    let claim = PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: persistence.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    };
    Rendered::new(Component::Addon(kind), &claim).map(Some)
}

/// The volume of its data: its claim, or one that goes with the pod.
pub(super) fn storage(name: &str, kind: AddonKind, persistence: Option<&Persistence>) -> Volume {
    let claim = persistence
        .map(|_| PersistentVolumeClaimVolumeSource { claim_name: kind.as_str().to_owned(), read_only: None });
    let empty = claim.is_none().then(EmptyDirVolumeSource::default);
    Volume { name: name.to_owned(), persistent_volume_claim: claim, empty_dir: empty, ..Volume::default() }
}

/// A volume that goes with the pod, for a program whose root file system is read-only.
pub(super) fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// The volume of an addon's ConfigMap, all of it or some files.
pub(super) fn settings(name: &str, kind: AddonKind, files: &[&str]) -> Volume {
    let items = files.iter().map(|file| KeyToPath { key: (*file).into(), path: (*file).into(), mode: None });
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: kind.as_str().to_owned(),
            items: (!files.is_empty()).then(|| items.collect()),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Where a volume is seen.
pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A liveness probe by HTTP, patient: a program that reads its data back takes its time.
pub(super) fn liveness(path: &str, port: u16) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port.into()),
            ..HTTPGetAction::default()
        }),
        initial_delay_seconds: Some(30),
        period_seconds: Some(15),
        timeout_seconds: Some(10),
        failure_threshold: Some(6),
        ..Probe::default()
    }
}
