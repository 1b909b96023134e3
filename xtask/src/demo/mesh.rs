//! The mesh's steps: definitions, operator, a MeshInstall.

use anyhow::{Context as _, Result};

use super::cluster::Cluster;
use crate::workspace::Workspace;

/// Applied in this order.
const DEFINITIONS: &str = "config/crd";
const OPERATOR: &str = "config/operator";
const INSTALL: &str = "config/samples/meshinstall.yaml";
const OPERATOR_NAMESPACE: &str = "forestay-system";

type Step = fn(&Cluster<'_>, &Workspace, Option<&str>) -> Result<()>;

pub(super) const STEPS: [(&str, Step); 4] = [
    ("apply the definitions", definitions),
    ("apply the operator", operator),
    ("apply a MeshInstall", install),
    ("opt the namespace in", opt_in),
];

/// Whether this tree has a mesh to install.
pub(super) fn exists(workspace: &Workspace) -> bool {
    workspace.root.join(OPERATOR).is_dir()
}

fn definitions(cluster: &Cluster<'_>, workspace: &Workspace, _registry: Option<&str>) -> Result<()> {
    cluster.apply("default", &workspace.root.join(DEFINITIONS))?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/meshinstalls.install.forestay.dev"]).map(drop)
}

fn operator(cluster: &Cluster<'_>, workspace: &Workspace, registry: Option<&str>) -> Result<()> {
    cluster.apply("default", &workspace.root.join(OPERATOR))?;
    let operator = "deployment/forestay-operator";
    if let Some(hub) = registry {
        let image = names::images::reference(hub, names::images::FORESTAY, names::VERSION);
        cluster.kubectl(&["-n", OPERATOR_NAMESPACE, "set", "image", operator, &format!("*={image}")])?;
    }
    cluster.kubectl(&["-n", OPERATOR_NAMESPACE, "rollout", "status", operator, "--timeout=120s"]).map(drop)
}

fn install(cluster: &Cluster<'_>, workspace: &Workspace, registry: Option<&str>) -> Result<()> {
    cluster.apply("default", &workspace.root.join(INSTALL))?;
    if let Some(hub) = registry {
        let patch = format!(r#"{{"spec":{{"hub":"{hub}"}}}}"#);
        cluster.kubectl(&["patch", "meshinstall", "default", "--type=merge", "-p", &patch])?;
    }
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "meshinstall/default", "--timeout=120s"])
        .map(drop)
        .context("the MeshInstall does not become Ready; `kubectl describe mi default` says why")
}

fn opt_in(cluster: &Cluster<'_>, _workspace: &Workspace, _registry: Option<&str>) -> Result<()> {
    let namespace = cluster.namespace();
    if let Cluster::Existing(_) = cluster {
        // `create` fails when it is there already, and that is fine.
        let _ = cluster.kubectl(&["create", "namespace", namespace]);
    }
    cluster.kubectl(&["label", "namespace", namespace, "istio-injection=enabled", "--overwrite"]).map(drop)
}

/// Removes the mesh from a cluster that goes on without it. The definitions stay, as someone may have objects of them.
pub(super) fn remove(cluster: &Cluster<'_>, workspace: &Workspace) -> Result<()> {
    if !exists(workspace) {
        return Ok(());
    }
    cluster.kubectl(&["delete", "meshinstall", "default", "--ignore-not-found", "--timeout=120s"])?;
    let operator = workspace.root.join(OPERATOR).display().to_string();
    cluster.kubectl(&["delete", "-f", &operator, "--ignore-not-found"]).map(drop)
}
