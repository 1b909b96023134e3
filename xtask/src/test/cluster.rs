//! The scenarios on a real Kubernetes: the images, then the runner.

use std::process::Command;

use anyhow::Result;

use super::Context;
use crate::images;

pub(super) fn command(context: &Context<'_>) -> Result<Command> {
    e2e::tools::require_root()?;
    e2e::tools::for_box(context.show)?;
    if context.scenario.is_none_or(|scenario| scenario.split('/').next() == Some("upgrade")) {
        images::next_version(context.workspace, context.show)?;
    }
    // After it, so that these are the programs that stay.
    images::build(context.workspace, context.show)?;
    let mut command = Command::new(context.workspace.binaries().join("forestay-e2e"));
    command.arg("--output").arg(context.log.with_extension("d")).args(context.scenario);
    Ok(command)
}
