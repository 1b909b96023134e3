//! What this process uses, as every Prometheus client reports it.

use super::family::{header, sample};

/// The kernel's unit of CPU time in `/proc`; it is 100 a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Writes `process_*`; what `/proc` does not say is left out.
pub(crate) fn write(out: &mut String) {
    if let Some(ticks) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_ticks) {
        let name = "process_cpu_seconds_total";
        header(name, "CPU time of this process in seconds.", "counter", out);
        let value = format!("{}.{:02}", ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND);
        sample(name, "", &value, out);
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        for (name, help, key) in [
            ("process_resident_memory_bytes", "Resident memory in bytes.", "VmRSS:"),
            ("process_virtual_memory_bytes", "Virtual memory in bytes.", "VmSize:"),
        ] {
            if let Some(kib) = kibibytes(&status, key) {
                header(name, help, "gauge", out);
                sample(name, "", &(kib * 1024).to_string(), out);
            }
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        header(name, "Open file descriptors.", "gauge", out);
        sample(name, "", &open.count().to_string(), out);
    }
}

/// User and system time: fields 14 and 15, counted after the command's name, which may have spaces in it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn kibibytes(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("nonsense"), None);
        assert_eq!(kibibytes("VmSize:\t 10 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1234));
        let mut out = String::new();
        write(&mut out);
        assert!(out.contains("process_resident_memory_bytes"), "{out}");
    }
}
