//! System calls of a program, counted by `strace` while something happens.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Program;

/// How often each call was made.
pub(crate) type Counts = Vec<(String, u64)>;

/// Counts the calls of all threads of `program` during `work`.
pub(crate) fn during<T>(program: &Program, work: impl FnOnce() -> Result<T>) -> Result<(T, Counts)> {
    let file = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(file.path())
        .args(["-p", &program.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .context("running strace, of the package strace")?;
    let mut said = BufReader::new(strace.stderr.take().context("strace's messages")?);
    let mut line = String::new();
    said.read_line(&mut line)?; // "strace: Process 42 attached with 5 threads"
    let done = work();
    let pid = Pid::from_raw(i32::try_from(strace.id())?);
    kill(pid, Signal::SIGINT).context("ending strace")?;
    strace.wait()?;
    Ok((done.with_context(|| format!("strace says {line:?}"))?, parse(&std::fs::read_to_string(file.path())?)))
}

/// The table of `strace -c -U name,calls`.
fn parse(text: &str) -> Counts {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
        (name != "total").then(|| (name.to_owned(), calls))
    };
    let mut counts: Counts = text.lines().filter_map(row).collect();
    counts.sort_by_key(|(name, calls)| (std::cmp::Reverse(*calls), name.clone()));
    counts
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn straces_table_is_read() {
        let text = "syscall               calls\n------------------ ---------\nwritev                  200\n\
                    epoll_wait              400\nrecvfrom                200\n------------------ ---------\n\
                    total                   800\n";
        let expected = [("epoll_wait", 400), ("recvfrom", 200), ("writev", 200)];
        assert_eq!(parse(text), expected.map(|(name, calls)| (name.to_owned(), calls)));
        assert!(parse("").is_empty());
    }
}
