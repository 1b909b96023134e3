//! Load, made by `wrk` over connections that are kept alive.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections, each with one request at a time.
    pub(crate) connections: u32,
    /// For how long.
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Requests that were answered with success.
    pub(crate) requests: f64,
    /// Of them a second.
    pub(crate) rate: f64,
    /// Latencies in microseconds: the median, and the 99th percentile.
    pub(crate) p50: f64,
    /// See `p50`.
    pub(crate) p99: f64,
}

/// Runs a script of requests against an address. An answer other than success makes all figures worthless: an error.
pub(crate) fn run(load: &Load, script: &Path, address: &str) -> Result<Outcome> {
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", &load.connections.to_string(), "-d", &format!("{}s", load.duration.as_secs())])
        .args(["--latency", "-s"])
        .arg(script)
        .arg(format!("http://{address}/"))
        .output()
        .context("running wrk, of the package wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    parse(&text).with_context(|| format!("wrk against {address} says:\n{text}"))
}

fn parse(text: &str) -> Result<Outcome> {
    for failed in ["Non-2xx", "Socket errors"] {
        if let Some(line) = text.lines().find(|line| line.trim().starts_with(failed)) {
            bail!("requests failed: {}", line.trim());
        }
    }
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")).context("no requests")?.0;
    let latency = |name| after(name).and_then(microseconds).with_context(|| format!("no latency {name}"));
    Ok(Outcome {
        requests: requests.parse().context("the number of requests")?,
        rate: after("Requests/sec:").context("no rate")?.parse().context("the rate")?,
        p50: latency("50%")?,
        p99: latency("99%")?,
    })
}

/// `1.50ms` in microseconds.
fn microseconds(text: &str) -> Option<f64> {
    let unit_at = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    match unit {
        "us" => Some(number),
        "ms" => Some(number * 1e3),
        "s" => Some(number * 1e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, microseconds, parse};

    const GOOD: &str = "Running 10s test @ http://10.10.0.1:8081/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.62ms  510.10us   9.91ms   81.65%
    Req/Sec    19.89k     1.02k   21.83k    70.00%
  Latency Distribution
     50%    1.50ms
     75%    1.81ms
     90%    2.19ms
     99%    3.52ms
  197850 requests in 10.00s, 243.66MB read
Requests/sec:  19784.21
Transfer/sec:     24.36MB
";

    #[test]
    fn what_wrk_says_is_read() {
        let expected = Outcome { requests: 197_850.0, rate: 19_784.21, p50: 1_500.0, p99: 3_520.0 };
        assert_eq!(parse(GOOD).unwrap(), expected);
    }

    #[test]
    fn figures_of_failed_requests_are_none() {
        for line in ["  Non-2xx or 3xx responses: 5", "  Socket errors: connect 0, read 3, write 0, timeout 0"] {
            let error = parse(&format!("{GOOD}{line}\n")).unwrap_err().to_string();
            assert!(error.ends_with(line.trim()), "{error}");
        }
        assert!(parse("unable to connect").is_err());
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in
            [("917.00us", Some(917.0)), ("1.5ms", Some(1500.0)), ("2s", Some(2e6)), ("1.5", None), ("x", None)]
        {
            assert_eq!(microseconds(text), expected, "{text}");
        }
    }
}
