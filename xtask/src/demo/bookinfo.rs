//! Bookinfo's steps.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

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
    if let Cluster::Existing(_) = cluster {
        // `create` fails when it is there already, and that is fine.
        let _ = cluster.kubectl(&["create", "namespace", cluster.namespace()]);
    }
    cluster.apply(cluster.namespace(), &file)
}

fn wait(cluster: &Cluster<'_>, _workspace: &Workspace) -> Result<()> {
    let timeout = format!("--timeout={}s", e2e::kube_box::DEADLINE.as_secs());
    cluster
        .kubectl(&["-n", cluster.namespace(), "wait", "--for=condition=Available", "deployment", "--all", &timeout])
        .map(drop)
}

/// Where clients find the page.
pub(super) fn entrance(cluster: &Cluster<'_>) -> Result<SocketAddr> {
    let path = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    let address = cluster.kubectl(&["-n", cluster.namespace(), "get", "service", "productpage", "-o", path])?;
    address.parse().with_context(|| format!("Service productpage has the address {address:?}"))
}

/// The title of the page.
pub(super) fn title(cluster: &Cluster<'_>) -> Result<String> {
    let address = entrance(cluster)?;
    // A Service is there a moment before kube-proxy leads to it.
    let page = eventually(|| cluster.get(cluster.namespace(), "productpage", address, "/productpage"))?;
    title_of(&page).map(str::to_owned).with_context(|| format!("the page at {address} has no title: {page}"))
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
