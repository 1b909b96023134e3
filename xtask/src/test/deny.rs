//! cargo-deny, in the one version that `deny.toml` is written for, installed outside the work tree.

use std::process::Command;

use anyhow::Result;

use super::Context;
use crate::program;

const VERSION: &str = "0.20.2";

/// `cargo deny check`, without the advisories: their database is in no package registry.
pub(super) fn command(context: &Context<'_>) -> Result<Command> {
    let folder = e2e::tools::Cache::open()?.folder(&format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        let build = tempfile::tempdir()?;
        let mut install = Command::new("cargo");
        install
            // Unoptimised it compiles in a minute and checks in a second.
            .args(["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--root"])
            .arg(&folder)
            .env("CARGO_TARGET_DIR", build.path())
            // Away from the work tree, whose settings for images are not meant for it.
            .current_dir(build.path());
        context.show.news(context.step, "installing cargo-deny");
        program::succeed(install, &context.log.with_extension("install.log"), context.show, context.step)?;
    }
    let mut command = Command::new(program);
    command
        .args(["--all-features", "--locked", "check", "bans", "licenses", "sources"])
        .current_dir(&context.workspace.root);
    Ok(command)
}
