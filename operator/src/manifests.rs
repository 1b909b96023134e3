//! The operator's own YAML, and the page about its conditions: made from the code that they speak of.
//!
//! `kubectl apply -f config/install.yaml` is everything in one file; `config/crd`, `config/operator` and `config/rbac`
//! are its parts, each a base for kustomize, and `config/default` is all of them again. A test holds the committed files against this; `FORESTAY_WRITE_MANIFESTS=1 cargo test -p
//! forestay-operator` writes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crds::install::condition::{ConditionType, Reason};
use crds::yaml::{self, YamlError};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{Container, Namespace, PodSpec, PodTemplateSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use names::{images, labels, ports, resources};

use crate::meshinstall::build::pod;
use crate::{kustomize, rbac};

/// A generated file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// From the workspace's root, `config/install.yaml`.
    pub path: String,
    /// Its content.
    pub content: String,
}

pub(crate) const HEAD: &str = "# Generated from the code in operator/; do not edit.\n";

/// Every file that the operator's code gives.
pub fn manifests() -> Result<Vec<Manifest>, YamlError> {
    let operator = documents(&[
        yaml::to_string(&namespace())?,
        yaml::to_string(&service_account())?,
        yaml::to_string(&deployment())?,
    ]);
    let rbac = documents(&[
        yaml::to_string(&cluster_role())?,
        yaml::to_string(&cluster_role_binding())?,
        yaml::to_string(&role())?,
        yaml::to_string(&role_binding())?,
    ]);
    let (names, definitions): (Vec<String>, Vec<String>) =
        crds::manifests()?.into_iter().map(|manifest| (manifest.file_name, manifest.yaml)).unzip();
    let install = format!("{HEAD}{}---\n{operator}---\n{rbac}", documents(&definitions));
    let mut manifests: Vec<Manifest> = [
        ("config/operator/operator.yaml", format!("{HEAD}{operator}")),
        ("config/rbac/operator.yaml", format!("{HEAD}{rbac}")),
        ("config/install.yaml", install),
        ("docs/guide/conditions.md", conditions()),
    ]
    .map(|(path, content)| Manifest { path: path.to_owned(), content })
    .into();
    manifests.extend(kustomize::bases(&names)?);
    Ok(manifests)
}

fn documents(documents: &[String]) -> String {
    documents.join("---\n")
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some(resources::OPERATOR.into()),
        namespace: Some(resources::OPERATOR_NAMESPACE.into()),
        labels: Some(selector()),
        ..ObjectMeta::default()
    }
}

fn cluster_metadata() -> ObjectMeta {
    ObjectMeta { namespace: None, ..metadata() }
}

fn selector() -> BTreeMap<String, String> {
    BTreeMap::from([(labels::KUBERNETES_NAME.to_owned(), resources::OPERATOR.to_owned())])
}

/// The operator's namespace.
pub(crate) fn namespace() -> Namespace {
    let restricted = ("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(resources::OPERATOR_NAMESPACE.into()),
            labels: Some([restricted].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

fn service_account() -> ServiceAccount {
    ServiceAccount { metadata: metadata(), ..ServiceAccount::default() }
}

/// The operator's Deployment.
pub(crate) fn deployment() -> Deployment {
    let container = Container {
        name: "operator".into(),
        image: Some(images::reference(images::HUB, images::FORESTAY, names::VERSION)),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec!["operator".into()]),
        env: Some(vec![
            pod::env_field("POD_NAME", "metadata.name"),
            pod::env_field("POD_NAMESPACE", "metadata.namespace"),
        ]),
        ports: Some(vec![pod::port("http-monitoring", ports::MONITORING), pod::port("http-ready", ports::READINESS)]),
        readiness_probe: Some(pod::http_probe("/ready", ports::READINESS, 1, 3)),
        resources: Some((&crds::install::Resources::new([("cpu", "50m"), ("memory", "64Mi")], [])).into()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    };
    let mut annotations = pod::scrape(ports::MONITORING, None);
    annotations.insert("kubectl.kubernetes.io/default-container".into(), "operator".into());
    Deployment {
        metadata: metadata(),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(selector()), match_expressions: None },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(selector()),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    affinity: pod::on_our_nodes(None, &BTreeMap::new()),
                    service_account_name: Some(resources::OPERATOR.into()),
                    security_context: Some(pod::pod_security(false, false)),
                    containers: vec![container],
                    ..PodSpec::default()
                }),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn cluster_role() -> ClusterRole {
    ClusterRole { metadata: cluster_metadata(), rules: Some(rbac::operator_cluster()), aggregation_rule: None }
}

fn cluster_role_binding() -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: cluster_metadata(),
        role_ref: role_ref("ClusterRole"),
        subjects: Some(vec![subject()]),
    }
}

fn role() -> Role {
    Role { metadata: metadata(), rules: Some(rbac::policy(rbac::OPERATOR_NAMESPACE)) }
}

fn role_binding() -> RoleBinding {
    RoleBinding { metadata: metadata(), role_ref: role_ref("Role"), subjects: Some(vec![subject()]) }
}

fn role_ref(kind: &str) -> RoleRef {
    RoleRef { api_group: "rbac.authorization.k8s.io".into(), kind: kind.into(), name: resources::OPERATOR.into() }
}

fn subject() -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: resources::OPERATOR.into(),
        namespace: Some(resources::OPERATOR_NAMESPACE.into()),
        api_group: None,
    }
}

/// The page about conditions.
fn conditions() -> String {
    let mut page = String::from(
        "# Conditions of a MeshInstall\n\n\
         <!-- Generated from crds/src/install/condition.rs; do not edit. -->\n\n\
         `kubectl describe mi <name>` shows them; `kubectl wait --for=condition=Ready mi/<name>` waits for the last. Types and\n\
         reasons are stable, messages are for people. `status.state` is `Healthy`, or the reason of the first condition that is\n\
         not True.\n\n\
         | condition | True means |\n|---|---|\n",
    );
    for condition in ConditionType::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {} |", condition.as_str(), condition.meaning());
    }
    page.push_str("\n| reason | on | meaning, and what to do |\n|---|---|---|\n");
    for reason in Reason::ALL {
        let on: Vec<String> = reason.on().iter().map(|condition| format!("`{}`", condition.as_str())).collect();
        let on = if on.len() == ConditionType::ALWAYS.len() { "all".to_owned() } else { on.join(", ") };
        let _ = writeln!(page, "| `{}` | {on} | {} |", reason.as_str(), reason.meaning());
    }
    page
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::{Manifest, manifests};

    #[test]
    fn the_committed_files_are_current() {
        check_committed(&manifests().unwrap());
    }

    /// Writes the files instead, when asked to.
    pub(crate) fn check_committed(manifests: &[Manifest]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for manifest in manifests {
            let path = root.join(&manifest.path);
            if std::env::var_os("FORESTAY_WRITE_MANIFESTS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &manifest.content).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == manifest.content,
                "{} is not what the code says; run `FORESTAY_WRITE_MANIFESTS=1 cargo test -p forestay-operator`",
                manifest.path
            );
        }
    }
}
