//! The places that chores work in: the work tree, cargo's target folder, and the inputs beside the work tree.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// The Rust target that `.cargo/config.toml` names.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The work tree.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// This program is built from the workspace that it works on.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the folder above xtask/")?.to_owned();
        // target/<triple>/<profile>/xtask
        let program = std::env::current_exe().context("finding this program")?;
        let target = program.ancestors().nth(3).context("finding cargo's target folder")?.to_owned();
        Ok(Self { root, target })
    }

    /// Where `cargo build` leaves the workspace's programs.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.target.join(TARGET).join("debug")
    }

    /// The folder for the logs of a chore.
    pub(crate) fn logs(&self, chore: &str) -> Result<PathBuf> {
        let folder = self.target.join("logs").join(chore);
        std::fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
        Ok(folder)
    }

    /// Cargo, in the work tree, with the same target folder and profile as this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // What it says goes into logs.
        command.env("CARGO_TERM_COLOR", "never");
        command
    }

    /// Upstream's unmodified samples: `$FORESTAY_SAMPLES`, or `shared/samples` beside the work tree.
    pub(crate) fn samples(&self) -> PathBuf {
        match std::env::var_os("FORESTAY_SAMPLES") {
            Some(folder) => PathBuf::from(folder),
            None => self.root.join("../shared/samples"),
        }
    }
}
