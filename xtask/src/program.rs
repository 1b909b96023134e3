//! Running other programs: everything that they say goes into a log, the last line of it onto the display.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::show::Show;

/// How many lines of a log are shown when a program failed.
const SHOWN: usize = 30;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Whether its exit code was zero.
    pub(crate) good: bool,
    /// Everything that it said, on both streams.
    pub(crate) output: String,
}

impl Ended {
    /// The last lines of the output.
    pub(crate) fn last_lines(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.output.lines().filter(|line| !line.trim().is_empty()).collect();
        lines.iter().skip(lines.len().saturating_sub(SHOWN)).copied().collect()
    }
}

/// Runs a program as (part of) the step `step`, with its output in `log`, however it ends.
pub(crate) fn logged(mut command: Command, log: &Path, show: &Show, step: &str) -> Result<Ended> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    // The command holds the pipe's writing end; the output ends only when nobody does.
    drop(command);
    let mut file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    let mut output = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        file.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        show.news(step, text.trim());
        output.push_str(&text);
        line.clear();
    }
    Ok(Ended { good: child.wait()?.success(), output })
}

/// Runs a program that must succeed.
pub(crate) fn succeed(command: Command, log: &Path, show: &Show, step: &str) -> Result<String> {
    let name = format!("{command:?}");
    let ended = logged(command, log, show, step)?;
    if !ended.good {
        bail!("{name} failed; {} ends with:\n{}", log.display(), ended.last_lines().join("\n"));
    }
    Ok(ended.output)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{logged, succeed};
    use crate::show::Show;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_land_in_the_log_in_order() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let ended = logged(shell("echo one; echo two >&2; exit 3"), log.path(), &Show::new(), "step").unwrap();
        assert!(!ended.good);
        assert_eq!(ended.output, "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), ended.output);
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let error = succeed(shell("seq 100; exit 1"), log.path(), &Show::new(), "step").unwrap_err().to_string();
        assert!(error.ends_with("\n99\n100") && error.contains("\n71\n") && !error.contains("\n70\n"), "{error}");
    }
}
