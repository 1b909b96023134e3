//! The pods' sandbox program: fifteen lines of C, because a C compiler is there anyway (it links Rust's binaries).

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cache::{Cache, Key};
use crate::progress::{Progress, step};

const SOURCE: &str = include_str!("pause.c");
const FLAGS: [&str; 6] = ["-static", "-Os", "-s", "-x", "c", "-"];

pub(crate) fn build(cache: &Cache, progress: &dyn Progress) -> Result<PathBuf> {
    let key = Key::new().text(SOURCE).text(&FLAGS.join(" "));
    cache.file("pause", key, |to| {
        step(progress, "build pause", || {
            let mut compiler = Command::new("cc")
                .args(FLAGS)
                .arg("-o")
                .arg(to)
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("run `cc` (package gcc)")?;
            if let Some(mut stdin) = compiler.stdin.take() {
                stdin.write_all(SOURCE.as_bytes()).context("write to the compiler")?;
            }
            let output = compiler.wait_with_output().context("wait for the compiler")?;
            if !output.status.success() {
                bail!("cc: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(())
        })
    })
}
