//! `forestay-e2e [--list] [names...]`: runs the cluster scenarios, each on a real Kubernetes.

mod runner;
mod scenarios;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use forestay_e2e::{kube_box, tools};

/// Runs the cluster scenarios, each on a real Kubernetes in a box. Needs root.
#[derive(Parser)]
#[command(name = "forestay-e2e")]
struct Arguments {
    /// Scenarios or groups to run (`box`, `box/services`); all if none is named.
    names: Vec<String>,
    /// Only list the scenarios.
    #[arg(long)]
    list: bool,
    /// Where to collect what a failed scenario leaves behind.
    #[arg(long, env = "FORESTAY_E2E_OUTPUT", default_value = "/tmp/forestay-e2e")]
    output: PathBuf,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == kube_box::INIT_WORD) {
        return kube_box::init_main(arguments);
    }
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|first| first == scenarios::HOLD_WORD) {
        return scenarios::hold(arguments.next());
    }
    let arguments = Arguments::parse();
    let groups = scenarios::all();
    if arguments.list {
        for group in &groups {
            for scenario in &group.scenarios {
                println!("{}/{:<24} {}", group.name, scenario.name, scenario.about);
            }
        }
        return ExitCode::SUCCESS;
    }
    let run = tools::require_root().and_then(|()| runner::run(&groups, &arguments.names, &arguments.output));
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("forestay-e2e: {error:#}");
            ExitCode::from(2)
        }
    }
}
