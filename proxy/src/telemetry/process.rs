//! The process's own figures, from `/proc/self`.

use std::time::Instant;

/// What a dashboard asks of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// `process_cpu_seconds_total`
    pub cpu_seconds: f64,
    /// `process_resident_memory_bytes`
    pub resident_bytes: u64,
    /// `process_virtual_memory_bytes`
    pub virtual_bytes: u64,
    /// `process_open_fds`
    pub open_fds: u64,
}

impl Process {
    /// Reads the figures now; what cannot be read is zero.
    pub fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self { open_fds, ..Self::parse(&stat) }
    }

    /// `/proc/self/stat`: the fields after the command's closing parenthesis (proc(5)).
    fn parse(stat: &str) -> Self {
        const TICKS: f64 = 100.0; // USER_HZ, a constant of the kernel's interface
        const PAGE: u64 = 4096;
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let field =
            |number: usize| -> u64 { fields.get(number).and_then(|value| value.parse().ok()).unwrap_or_default() };
        #[expect(clippy::cast_precision_loss, reason = "seconds of CPU")]
        let cpu_seconds = (field(11) + field(12)) as f64 / TICKS;
        Self { cpu_seconds, virtual_bytes: field(20), resident_bytes: field(21) * PAGE, open_fds: 0 }
    }
}

/// When the process started, for `envoy_server_uptime`.
#[derive(Clone, Copy, Debug)]
pub struct Started(pub Instant);

#[cfg(test)]
mod tests {
    #[test]
    fn a_command_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 100 8192000 500 1";
        let process = super::Process::parse(stat);
        assert!((process.cpu_seconds - 2.0).abs() < 1e-9);
        assert_eq!((process.virtual_bytes, process.resident_bytes), (8_192_000, 500 * 4096));
    }
}
