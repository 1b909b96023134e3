//! The mesh's steps: definitions and operator, a MeshInstall, the namespace; and the gateway that leads to the page.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use names::resources::{INGRESS_GATEWAY, MESH_NAMESPACE, OPERATOR, OPERATOR_NAMESPACE};

use super::cluster::{Cluster, eventually};
use crate::workspace::Workspace;

/// Everything that a cluster needs before a MeshInstall: definitions, operator, and what the operator may do.
const OPERATOR_AND_DEFINITIONS: &str = "config/install.yaml";
const INSTALL: &str = "config/samples/meshinstall.yaml";
/// Upstream's Gateway and VirtualService below the folder of samples.
const UPSTREAM_GATEWAY: &str = "bookinfo/networking/bookinfo-gateway.yaml";
/// Our own, for where upstream's are not at hand.
const OWN_GATEWAY: &str = "config/samples/bookinfo-gateway.yaml";

type Step = fn(&Cluster<'_>, &Workspace, Option<&str>) -> Result<()>;

/// Before Bookinfo.
pub(super) const STEPS: [(&str, Step); 4] = [
    ("apply the definitions and the operator", operator),
    ("wait for the operator", operator_runs),
    ("apply a MeshInstall and wait until it is Ready", install),
    ("opt the namespace in", opt_in),
];

/// Whether somebody has installed a mesh.
pub(super) fn installed(cluster: &Cluster<'_>) -> bool {
    // Where the kind is unknown, kubectl fails, and there is none.
    cluster.kubectl(&["get", "meshinstalls", "-o", "name"]).is_ok_and(|names| !names.trim().is_empty())
}

fn operator(cluster: &Cluster<'_>, workspace: &Workspace, registry: Option<&str>) -> Result<()> {
    cluster.apply(&workspace.root.join(OPERATOR_AND_DEFINITIONS))?;
    if let Some(hub) = registry {
        let image = names::images::reference(hub, names::images::FORESTAY, names::VERSION);
        let (operator, image) = (format!("deployment/{OPERATOR}"), format!("*={image}"));
        cluster.kubectl(&["-n", OPERATOR_NAMESPACE, "set", "image", &operator, &image])?;
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/meshinstalls.install.forestay.dev"]).map(drop)
}

fn operator_runs(cluster: &Cluster<'_>, _workspace: &Workspace, _registry: Option<&str>) -> Result<()> {
    let operator = format!("deployment/{OPERATOR}");
    cluster.kubectl(&["-n", OPERATOR_NAMESPACE, "rollout", "status", &operator, "--timeout=120s"]).map(drop)
}

fn install(cluster: &Cluster<'_>, workspace: &Workspace, registry: Option<&str>) -> Result<()> {
    cluster.apply(&workspace.root.join(INSTALL))?;
    if let Some(hub) = registry {
        let patch = format!(r#"{{"spec":{{"hub":"{hub}"}}}}"#);
        cluster.kubectl(&["patch", "meshinstall", "default", "--type=merge", "-p", &patch])?;
    }
    let ready = ["wait", "--for=condition=Ready", "meshinstall/default", "--timeout=120s"];
    cluster.kubectl(&ready).map(drop).map_err(|error| {
        let path = "jsonpath={range .status.conditions[*]}{.type}={.status} {.message}{\"\\n\"}{end}";
        let conditions = cluster.kubectl(&["get", "meshinstall", "default", "-o", path]).unwrap_or_default();
        error.context(format!("the MeshInstall does not become Ready:\n{conditions}"))
    })
}

fn opt_in(cluster: &Cluster<'_>, _workspace: &Workspace, _registry: Option<&str>) -> Result<()> {
    let namespace = cluster.namespace();
    cluster.kubectl(&["label", "namespace", namespace, "istio-injection=enabled", "--overwrite"]).map(drop)
}

/// Leads the gateway to Bookinfo, and gives the address where clients outside the cluster find it.
pub(super) fn open_gateway(cluster: &Cluster<'_>, workspace: &Workspace) -> Result<SocketAddr> {
    let upstream = workspace.samples().join(UPSTREAM_GATEWAY);
    let file = if upstream.exists() { upstream } else { workspace.root.join(OWN_GATEWAY) };
    cluster.apply_here(&file)?;
    let path = r#"jsonpath={.status.loadBalancer.ingress[0].ip}:{.spec.ports[?(@.name=="http2")].port}"#;
    eventually(|| {
        let address = cluster.kubectl(&["-n", MESH_NAMESPACE, "get", "service", INGRESS_GATEWAY, "-o", path])?;
        address
            .parse()
            .with_context(|| format!("Service {MESH_NAMESPACE}/{INGRESS_GATEWAY} has the address {address:?}"))
    })
}

/// Removes the mesh from a cluster that goes on without it. The definitions stay, as someone may have objects of them.
pub(super) fn remove(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kubectl(&["delete", "meshinstall", "default", "--ignore-not-found", "--timeout=120s"])?;
    cluster.kubectl(&["delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found"])?;
    for kind in ["clusterrole", "clusterrolebinding"] {
        cluster.kubectl(&["delete", kind, OPERATOR, "--ignore-not-found"])?;
    }
    Ok(())
}
