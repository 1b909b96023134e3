//! `forestay completion`: what a shell needs to complete `forestay`'s verbs and flags.

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell; for bash: source <(forestay completion bash)
    shell: Shell,
}

/// Writes the script to standard output.
pub(crate) fn run(args: &Args) {
    let mut command = crate::Command::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut std::io::stdout());
}
