//! Programs that are measured: started here, asked through `/proc`, ended here.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The unit of times in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on every Linux that this builds for.
const TICK: Duration = Duration::from_millis(10);

/// A program that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
}

impl Program {
    /// Starts a program with its output in `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let log = File::create(log).with_context(|| format!("writing {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name, child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time of all its threads since it started.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        cpu(&stat).with_context(|| format!("reading the CPU time of {} from {stat:?}", self.name))
    }

    /// Its anonymous memory, in KiB: what belongs to it alone and cannot be dropped.
    pub(crate) fn anonymous(&self) -> Result<u64> {
        let status = self.read("status")?;
        field(&status, "RssAnon").with_context(|| format!("reading the memory of {}", self.name))
    }

    /// All of its memory that is in the machine's, in KiB: also what it shares with files.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = self.read("status")?;
        field(&status, "VmRSS").with_context(|| format!("reading the memory of {}", self.name))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid());
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}: did {} end?", self.name))
    }

    /// Waits until `is` says so, and says how long that took.
    pub(crate) fn wait_until(&mut self, what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            if is()? {
                return Ok(begun.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended before {what}: {status}", self.name);
            }
            if begun.elapsed() > Duration::from_mins(1) {
                bail!("{}: no {what} after {:?}", self.name, begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2)); // another process: there is nothing to wait on
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It ended by itself, or it ends now; what it had open is in the namespace, which ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `utime` and `stime` of `/proc/<pid>/stat`. The name, second, is in parentheses and may have any character in it.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// A field of `/proc/<pid>/status` that is in kB.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{Program, cpu, field};

    #[test]
    fn cpu_time_is_that_of_user_and_system() {
        let stat = "42 (a (strange) name) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 3 0 99 1000 200";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("42 (short) S 1"), None);
        assert_eq!(cpu(""), None);
    }

    #[test]
    fn memory_is_found_by_its_whole_name() {
        let status = "Name:\tx\nVmRSS:\t   900 kB\nRssAnon:\t     640 kB\nRssFile:\t 260 kB\n";
        assert_eq!(field(status, "RssAnon"), Some(640));
        assert_eq!(field(status, "Rss"), None);
        assert_eq!(field(status, "Name"), None);
    }

    #[test]
    fn a_program_is_measured_while_it_runs_and_ends_with_its_value() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut program = Program::start(command, log.path()).unwrap();
        assert!(program.cpu().unwrap() < Duration::from_secs(1));
        assert!(program.anonymous().unwrap() < 10_000);
        assert!(program.wait_until("nothing", || Ok(true)).unwrap() < Duration::from_secs(1));
        let pid = program.pid();
        drop(program);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_program_that_ends_too_early_is_not_waited_for() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut program = Program::start(Command::new("false"), log.path()).unwrap();
        let error = program.wait_until("readiness", || Ok(false)).unwrap_err().to_string();
        assert!(error.starts_with("false ended before readiness: exit status: 1"), "{error}");
    }
}
