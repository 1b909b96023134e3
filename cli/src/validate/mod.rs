//! `forestay validate`: Istio's objects in files, read strictly, before a cluster sees them.
//!
//! * `check`: what is wrong with each document of a text; pure
//! * `service`: names of Services' ports
//! * `report`: how it is told
//! * here: reading and writing

mod check;
mod report;
mod service;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;

use self::report::FileReport;
use crate::exit::{Code, Failure};
use crate::{cluster, input};

/// What to validate.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or folders of .yaml, .yml and .json files; `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1.., value_delimiter = ',', required = true)]
    files: Vec<PathBuf>,
    /// For machines
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: cluster::Args,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

/// Checks everything that is named. Asks no cluster.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let sources = input::read(&args.files)?;
    let namespace = args.cluster.namespace()?;
    let context = check::Context { namespace: &namespace, mesh_namespace: &args.cluster.istio_namespace };
    let reports: Vec<FileReport> = sources
        .iter()
        .map(|source| FileReport { file: source.clone().name, findings: check::text(&source.text, context) })
        .collect();
    match args.output {
        Some(Output::Json) => println!("{}", serde_json::to_string_pretty(&report::machine(&reports)).context("JSON")?),
        Some(Output::Yaml) => print!("{}", crds::yaml::to_string(&report::machine(&reports)).context("YAML")?),
        None => {
            let (out, err) = report::people(&reports);
            print!("{out}");
            eprint!("{err}");
        }
    }
    match report::outcome(&reports) {
        None => Ok(()),
        Some(report::Outcome::Invalid) => Err(Failure::told(Code::Failed)),
        Some(report::Outcome::Unreadable) => Err(Failure::told(Code::Data)),
    }
}
