//! Bookinfo's steps.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use names::resources::{INGRESS_GATEWAY, MESH_NAMESPACE};

use super::cluster::{Cluster, eventually};
use crate::workspace::Workspace;

/// Upstream's file below the folder of samples.
const UPSTREAM: &str = "bookinfo/platform/kube/bookinfo.yaml";
/// Our own, for where upstream's is not at hand.
const OWN: &str = "config/samples/bookinfo.yaml";

type Step = fn(&Cluster<'_>, &Workspace) -> Result<()>;

pub(super) const STEPS: [(&str, Step); 2] = [("apply Bookinfo", apply), ("wait for Bookinfo's pods", wait)];

fn apply(cluster: &Cluster<'_>, workspace: &Workspace) -> Result<()> {
    let upstream = workspace.samples().join(UPSTREAM);
    let file = if upstream.exists() { upstream } else { workspace.root.join(OWN) };
    cluster.apply_here(&file)
}

fn wait(cluster: &Cluster<'_>, _workspace: &Workspace) -> Result<()> {
    let timeout = format!("--timeout={}s", e2e::kube_box::DEADLINE.as_secs());
    cluster
        .kubectl(&["-n", cluster.namespace(), "wait", "--for=condition=Available", "deployment", "--all", &timeout])
        .map(drop)
}

/// The title of the page that clients outside the cluster get at the gateway's address.
pub(super) fn title(cluster: &Cluster<'_>, gateway: SocketAddr) -> Result<String> {
    // The routes of rules that were just applied are live a moment later.
    let page = eventually(|| cluster.get(MESH_NAMESPACE, INGRESS_GATEWAY, gateway, "/productpage"))?;
    title_of(&page).map(str::to_owned).with_context(|| format!("the page at {gateway} has no title: {page}"))
}

fn title_of(page: &str) -> Option<&str> {
    const END: &str = "</title>";
    let title = page.get(page.find("<title>")?..)?;
    title.get(..title.find(END)? + END.len())
}

/// Removes Bookinfo from a cluster that goes on without it.
pub(super) fn remove(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kubectl(&["delete", "namespace", cluster.namespace(), "--ignore-not-found"]).map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn titles() {
        assert_eq!(super::title_of("<html><title>A</title></html>"), Some("<title>A</title>"));
        assert_eq!(super::title_of("</title><title>"), None);
        assert_eq!(super::title_of("no title"), None);
    }
}
