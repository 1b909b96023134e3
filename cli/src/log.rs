//! Logging of the servers: to standard error, for people or for machines.

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How to log; the same flags for every verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to log, as tracing's directives (`info`, `forestay_control=debug,warn`)
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    log: String,
    /// The form of a log line
    #[arg(long, env = "FORESTAY_LOG_FORMAT", value_enum, default_value_t = Format::Text, global = true)]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Args {
    /// Starts logging for the process.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log).with_context(|| format!("--log {:?}", self.log))?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
        match self.log_format {
            Format::Text => lines.init(),
            Format::Json => lines.json().init(),
        }
        Ok(())
    }
}
