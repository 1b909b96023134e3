//! `cargo xtask demo`: the main job on a real Kubernetes, step by step, and how to go on from there.
//!
//! [`cluster`] is where it happens: a box, or with `--existing` the cluster of the user's own kubeconfig. [`mesh`] and
//! [`bookinfo`] are the steps. Everything is prepared once and kept in the cache; a box that still runs with the same
//! images is used again.

mod bookinfo;
mod cluster;
mod mesh;

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use names::resources::{INGRESS_GATEWAY, MESH_NAMESPACE};

use self::cluster::{Boxed, Cluster, Existing};
use crate::{images, show::Show, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Remove everything that the demo made
    #[arg(long)]
    down: bool,
    /// Use the cluster of your own kubeconfig (it is named, and you are asked) instead of one in a box
    #[arg(long)]
    existing: bool,
    /// Do not ask before using the existing cluster
    #[arg(long, requires = "existing")]
    yes: bool,
    /// Where the existing cluster pulls the mesh's images from; see `cargo xtask images`
    #[arg(long, requires = "existing", value_name = "HUB")]
    registry: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace, show: &Arc<Show>) -> Result<ExitCode> {
    if arguments.existing {
        existing(arguments, workspace, show)?;
    } else if arguments.down {
        e2e::tools::require_root()?;
        show.step("remove the demo's Kubernetes", Boxed::remove)?;
    } else {
        boxed(workspace, show)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The demo in a Kubernetes of its own.
fn boxed(workspace: &Workspace, show: &Arc<Show>) -> Result<()> {
    e2e::tools::require_root()?;
    e2e::tools::for_box(&**show)?;
    let archives = images::build(workspace, show)?;
    let cluster = Boxed::start(&archives, show)?;
    let address = on(&Cluster::Boxed(&cluster), workspace, show, None).or_else(|error| {
        let folder = workspace.logs("demo")?;
        cluster.collect(&folder);
        Err(error.context(format!(
            "the demo failed; logs and states are in {}, the cluster still runs: {} get pods -A",
            folder.display(),
            cluster.kubectl_script().display()
        )))
    })?;
    let url = cluster.forward(address)?;
    println!("  page        {url}/productpage");
    println!("  kubectl     {} get pods", cluster.kubectl_script().display());
    println!(
        "  kubeconfig  {} (from inside the box's network only; the script above enters it)",
        cluster.kubeconfig().display()
    );
    println!("  remove it   cargo xtask demo --down");
    Ok(())
}

/// The demo in a cluster that the user already has.
fn existing(arguments: &Arguments, workspace: &Workspace, show: &Show) -> Result<()> {
    let cluster = Existing::current()?;
    println!("The cluster is {cluster}.");
    let what = if arguments.down { "remove the demo from it" } else { "run the demo in it" };
    if !arguments.yes && !confirmed(what)? {
        bail!("not without your yes; nothing was changed");
    }
    let cluster = Cluster::Existing(&cluster);
    // The namespace is the mark of the demo: without it, whatever mesh is there is somebody's.
    let ours =
        !cluster.kubectl(&["get", "namespace", cluster.namespace(), "--ignore-not-found", "-o", "name"])?.is_empty();
    if arguments.down {
        if !ours {
            bail!("there is no namespace {}, so there is no demo to remove", cluster.namespace());
        }
        show.step("remove the mesh", || mesh::remove(&cluster))?;
        return show.step("remove Bookinfo", || bookinfo::remove(&cluster));
    }
    if arguments.registry.is_none() {
        bail!("--existing needs --registry HUB: push the images of `cargo xtask images` there first");
    }
    if !ours && mesh::installed(&cluster) {
        bail!("a MeshInstall is there already, and the demo touches nothing of others'");
    }
    // Before anything else, so that it can be told later that the rest is the demo's.
    if !ours {
        cluster.kubectl(&["create", "namespace", cluster.namespace()])?;
    }
    let address = on(&cluster, workspace, show, arguments.registry.as_deref())?;
    println!("  page        http://localhost:9080/productpage, while this runs:");
    println!(
        "              kubectl -n {MESH_NAMESPACE} port-forward service/{INGRESS_GATEWAY} 9080:{}",
        address.port()
    );
    println!("  remove it   cargo xtask demo --existing --down");
    Ok(())
}

/// The steps, on any cluster. Prints the page's title at the end, and gives the page's address in the cluster.
fn on(cluster: &Cluster<'_>, workspace: &Workspace, show: &Show, registry: Option<&str>) -> Result<SocketAddr> {
    for (name, step) in mesh::STEPS {
        show.step(name, || step(cluster, workspace, registry))?;
    }
    for (name, step) in bookinfo::STEPS {
        show.step(name, || step(cluster, workspace))?;
    }
    let address = show.step("open the gateway", || mesh::open_gateway(cluster, workspace))?;
    let title = show.step("fetch /productpage through the gateway", || bookinfo::title(cluster, address))?;
    println!("\n{title}\n");
    Ok(address)
}

fn confirmed(what: &str) -> Result<bool> {
    use std::io::Write as _;
    print!("Shall I {what}? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading your answer; --yes goes without")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
