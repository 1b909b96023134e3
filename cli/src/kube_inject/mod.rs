//! `forestay kube-inject`: sidecars for the workloads of files, by the webhook's own code.
//!
//! * `settings`: where the settings come from, cluster or files
//! * `inject`: a text with its documents, injected; pure
//! * here: reading and writing

mod inject;
mod settings;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::exit::{Code, Failure};
use crate::{cluster, input};

/// What to inject.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file with Kubernetes' objects; `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1.., required = true)]
    files: Vec<PathBuf>,
    /// Where the injected objects go; standard output unless given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    settings: settings::Args,
    #[command(flatten)]
    cluster: cluster::Args,
}

/// Injects everything that is named, or nothing: with a mistake in one document, no output is written.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let sources = input::read(&args.files)?;
    let settings = settings::read(&args.settings, &args.cluster).await?;
    let namespace = args.cluster.namespace()?;

    let (mut texts, mut broken) = (Vec::new(), None);
    for source in &sources {
        match inject::text(source, &settings, &namespace) {
            Ok(injected) => {
                for warning in injected.warnings {
                    eprintln!("{warning}");
                }
                texts.push(injected.text);
            }
            Err(problems) => {
                for problem in problems {
                    eprintln!("{}", problem.message);
                    let worst = broken.get_or_insert(problem.code);
                    // Text that is no YAML is the more basic mistake.
                    *worst = if problem.code == Code::Data { Code::Data } else { *worst };
                }
            }
        }
    }
    if let Some(code) = broken {
        eprintln!("nothing was injected");
        return Err(Failure::told(code));
    }
    write(args.output, &inject::join(&texts))?;
    Ok(())
}

fn write(output: Option<PathBuf>, text: &str) -> anyhow::Result<()> {
    match output {
        Some(path) => std::fs::write(&path, text).with_context(|| path.display().to_string()),
        None => std::io::stdout().write_all(text.as_bytes()).context("standard output"),
    }
}
