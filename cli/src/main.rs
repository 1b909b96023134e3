//! `forestay`: one binary for everything beside the proxy. Each server is a thin main over its library; people's verbs
//! have a file each.
//!
//! * `forestay operator`, `forestay istiod`, `forestay webhook`: the servers, as their Deployments start them
//! * [`version`]: `forestay version`

mod log;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Thousands of small, short-lived objects a second: the system's allocator keeps several times their size.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A service mesh for Kubernetes that speaks Istio's API.
#[derive(Debug, Parser)]
#[command(name = "forestay", version = names::VERSION)]
struct Command {
    #[command(flatten)]
    log: log::Args,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Reconcile MeshInstalls (runs in the cluster)
    Operator(operator::Args),
    /// Serve configuration and certificates to proxies (runs in the cluster)
    Istiod(Box<control::Args>),
    /// Inject sidecars (runs in the cluster)
    Webhook(webhook::Args),
    /// Tell the versions of this program, the control plane and the proxies
    Version(version::Args),
}

fn main() -> ExitCode {
    let command = Command::parse();
    if let Err(error) = command.log.start() {
        eprintln!("forestay: {error:#}");
        return ExitCode::FAILURE;
    }
    match run(command.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forestay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    // One provider for kube, tonic and our own TLS; whoever came first has installed the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match verb {
            Verb::Operator(args) => operator::run(args).await,
            Verb::Istiod(args) => control::run(*args).await,
            Verb::Webhook(args) => webhook::run(args).await,
            Verb::Version(args) => version::run(args).await,
        }
    })
}
