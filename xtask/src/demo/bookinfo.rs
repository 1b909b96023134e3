//! Bookinfo's steps.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::cluster::{Cluster, eventually};
use crate::workspace::Workspace;

/// Upstream's file below the folder of samples.
const UPSTREAM: &str = "bookinfo/platform/kube/bookinfo.yaml";
/// Our own, for where upstream's is not at hand.
const OWN: &str = "config/samples/bookinfo.yaml";

/// The Service of the page.
pub(super) const SERVICE: &str = "productpage";

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

/// Where clients find the page without a gateway.
pub(super) fn service(cluster: &Cluster<'_>) -> Result<SocketAddr> {
    let path = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    let address = cluster.kubectl(&["-n", cluster.namespace(), "get", "service", SERVICE, "-o", path])?;
    address.parse().with_context(|| format!("Service {SERVICE} has the address {address:?}"))
}

/// The title of the page that the Service `namespace/service` gives at `address`.
pub(super) fn title(cluster: &Cluster<'_>, namespace: &str, service: &str, address: SocketAddr) -> Result<String> {
    // A Service is there a moment before anything leads to it.
    let page = eventually(|| cluster.get(namespace, service, address, "/productpage"))?;
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
