//! The project's chores, as `cargo xtask <verb>` in the workspace's root.
//!
//! * [`demo`]: the main job on a real Kubernetes, step by step
//! * [`test`](mod@test): everything that is checked, in tiers; [`vectors`]: the test vectors alone
//! * [`images`], [`crds`], [`bundle`], [`shapes`]: what gets built and generated; [`mod@bench`]: what is measured beside the peers
//! * `structure`: who may import whom, enforced by a test
//! * [`show`]: how all of them tell what they are doing; [`program`]: how they run other programs; [`generated`]: files that
//!   code makes and that are committed; [`tally`]: what a test runner's output says

mod bench;
mod bundle;
mod crds;
mod demo;
mod generated;
mod images;
mod program;
mod shapes;
mod show;
#[cfg(test)]
mod structure;
mod tally;
mod test;
mod vectors;
mod workspace;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{show::Show, workspace::Workspace};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version = names::VERSION)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the main job on a real Kubernetes: one in a box, or your own with --existing
    Demo(demo::Arguments),
    /// Run every check and test, fast ones first; or only the named tiers
    Test(test::Arguments),
    /// Run only the test vectors, and say for each file how many cases pass
    Vectors(vectors::Arguments),
    /// Build the container images into the cache and list them
    Images,
    /// Measure the mesh beside Envoy and HAProxy; see docs/performance.md
    Bench(bench::Arguments),
    /// Remove every box of this machine (of `$FORESTAY_STATE`), whatever state it is in
    #[command(hide = true)]
    CleanUp,
    /// Write the YAML that is generated from types and code (config/crd, the operator, the bundle); or check it
    Crds(crds::Arguments),
    /// Write the operator's package for OLM (config/bundle, config/catalog); or check it, with OLM's own validators
    Bundle(bundle::Arguments),
    /// Write the table of Envoy's messages that the proxy's /config_dump is written by; or check it
    Shapes(shapes::Arguments),
}

fn main() -> ExitCode {
    // A box's first process is this program again.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == e2e::kube_box::INIT_WORD) {
        return e2e::kube_box::init_main(words);
    }
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let show = Arc::new(Show::new());
    match &arguments.verb {
        Verb::Demo(arguments) => demo::run(arguments, &workspace, &show),
        Verb::Test(arguments) => test::run(arguments, &workspace, &show),
        Verb::Vectors(arguments) => vectors::run(arguments, &workspace),
        Verb::Images => images::run(&workspace, &show),
        Verb::Bench(arguments) => bench::run(arguments, &workspace, &show),
        Verb::CleanUp => clean_up(),
        Verb::Crds(arguments) => crds::run(arguments, &workspace),
        Verb::Bundle(arguments) => bundle::run(arguments, &workspace, &show),
        Verb::Shapes(arguments) => shapes::run(arguments, &workspace),
    }
}

/// For `.ci/run`, which leaves nothing behind however it ends.
fn clean_up() -> Result<ExitCode> {
    let Ok(boxes) = e2e::kube_box::state_root().read_dir() else { return Ok(ExitCode::SUCCESS) };
    for entry in boxes {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Some(name) = entry.file_name().to_str()
        {
            e2e::KubeBox::destroy(name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
