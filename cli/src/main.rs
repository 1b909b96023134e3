//! `forestay`: one binary for everything beside the proxy. Each server is a thin main over its library; people's verbs
//! have a file or a folder each.
//!
//! * `forestay operator`, `forestay istiod`, `forestay webhook`: the servers, as their Deployments start them
//! * [`kube_inject`]: `forestay kube-inject`; [`check_inject`]: `forestay x check-inject`; [`validate`]: `forestay validate`;
//!   [`version`]: `forestay version`; [`completion`]: `forestay completion`
//! * [`cluster`]: the flags that say which cluster and namespaces; [`input`]: files that are named; [`exit`]: how a verb ends;
//!   `allocator`, `pages`: memory

mod allocator;
mod check_inject;
mod cluster;
mod completion;
mod exit;
mod input;
mod kube_inject;
mod log;
mod pages;
mod validate;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::Failure;

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
    /// Inject sidecars into the workloads of files
    KubeInject(Box<kube_inject::Args>),
    /// Check Istio's objects in files
    #[command(visible_alias = "v")]
    Validate(validate::Args),
    /// Tell the versions of this program, the control plane and the proxies
    Version(version::Args),
    /// What may still change
    #[command(subcommand, visible_alias = "x", alias = "exp")]
    Experimental(Experimental),
    /// Write the script by which a shell completes verbs and flags
    Completion(completion::Args),
}

#[derive(Debug, Subcommand)]
enum Experimental {
    /// Explain whether a pod gets a sidecar, from which revision, and what to do if it should not be so
    CheckInject(check_inject::Args),
}

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            // Help and versions come this way too; they are no mistakes. Where nobody reads them, nothing is lost.
            let _ = error.print();
            return if error.use_stderr() { exit::Code::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = command.log.start() {
        return Failure::from(error).end();
    }
    match run(command.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(),
    }
}

fn run(verb: Verb) -> Result<(), Failure> {
    // One provider for kube, tonic and our own TLS; whoever came first has installed the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if matches!(verb, Verb::Webhook(_)) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        runtime.worker_threads(processors.min(webhook::THREADS));
    }
    let runtime = runtime.enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        match verb {
            Verb::Operator(args) => Ok(operator::run(args).await?),
            Verb::Istiod(args) => Ok(control::run(*args).await?),
            Verb::Webhook(args) => Ok(webhook::run(args, allocator::give_back, pages::forget_start).await?),
            Verb::KubeInject(args) => kube_inject::run(*args).await,
            Verb::Validate(args) => validate::run(&args),
            Verb::Version(args) => Ok(version::run(args).await?),
            Verb::Experimental(Experimental::CheckInject(args)) => check_inject::run(args).await,
            Verb::Completion(args) => {
                completion::run(&args);
                Ok(())
            }
        }
    })
}
