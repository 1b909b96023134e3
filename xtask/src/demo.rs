//! `cargo xtask demo`: the main job on a real Kubernetes, step by step, and how to go on from there.
//!
//! [`cluster`] is where it happens: a box, or with `--existing` the cluster of the user's own kubeconfig. [`mesh`] and
//! [`bookinfo`] are the steps. Everything is prepared once and kept in the cache; a box that still runs with the same
//! images is used again.

mod bookinfo;
mod cluster;
mod mesh;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};

use self::cluster::{Boxed, Cluster, Existing};
use crate::{images, show::Show, workspace::Workspace};

/// Words for the end, when there is no mesh to show.
const NO_MESH: &str = "There is no mesh yet: this is Bookinfo on plain Kubernetes.";

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
    let shown = on(&Cluster::Boxed(&cluster), workspace, show, None);
    if let Err(error) = shown {
        let folder = workspace.logs("demo")?;
        cluster.collect(&folder);
        return Err(error.context(format!(
            "the demo failed; logs and states are in {}, the cluster still runs: {} get pods -A",
            folder.display(),
            cluster.kubectl_script().display()
        )));
    }

    let url = cluster.forward(bookinfo::entrance(&Cluster::Boxed(&cluster))?)?;
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
    if arguments.down {
        show.step("remove Bookinfo", || bookinfo::remove(&cluster))?;
        return show.step("remove the mesh", || mesh::remove(&cluster, workspace));
    }
    if mesh::exists(workspace) && arguments.registry.is_none() {
        bail!("--existing needs --registry HUB: push the images of `cargo xtask images` there first");
    }
    on(&cluster, workspace, show, arguments.registry.as_deref())?;
    println!(
        "  page        kubectl -n {} port-forward service/productpage 9080, then http://localhost:9080/productpage",
        cluster.namespace()
    );
    println!("  remove it   cargo xtask demo --existing --down");
    Ok(())
}

/// The steps, on any cluster; prints the page's title at the end.
fn on(cluster: &Cluster<'_>, workspace: &Workspace, show: &Show, registry: Option<&str>) -> Result<()> {
    let with_mesh = mesh::exists(workspace);
    if with_mesh {
        for (name, step) in mesh::STEPS {
            show.step(name, || step(cluster, workspace, registry))?;
        }
    }
    for (name, step) in bookinfo::STEPS {
        show.step(name, || step(cluster, workspace))?;
    }
    let title = show.step("fetch /productpage", || bookinfo::title(cluster))?;
    println!("\n{title}\n");
    if !with_mesh {
        println!("{NO_MESH}\n");
    }
    Ok(())
}

/// Whether this tree has a mesh to show.
pub(crate) fn has_mesh(workspace: &Workspace) -> bool {
    mesh::exists(workspace)
}

fn confirmed(what: &str) -> Result<bool> {
    use std::io::Write as _;
    print!("Shall I {what}? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading your answer; --yes goes without")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
