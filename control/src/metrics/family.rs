//! Counters, gauges and histograms, and how Prometheus reads them.
//!
//! Istio's names end as they end: `pilot_xds_pushes` is a counter without `_total`. OpenMetrics does not allow that, so
//! this is Prometheus' own text format (0.0.4), which does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// One time series, or the several that make up a histogram.
pub(crate) trait Cell: Default {
    /// The word after `# TYPE`.
    const TYPE: &'static str;

    /// Writes the sample lines; `labels` is what stands between the braces.
    fn write(&self, name: &str, labels: &str, out: &mut String);
}

/// Only goes up.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Cell for Counter {
    const TYPE: &'static str = "counter";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        sample(name, labels, &self.0.load(Ordering::Relaxed).to_string(), out);
    }
}

/// Goes up and down.
#[derive(Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cell for Gauge {
    const TYPE: &'static str = "gauge";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        sample(name, labels, &self.0.load(Ordering::Relaxed).to_string(), out);
    }
}

/// The upper bounds, in seconds, of every histogram here. Istio's begin at 10 or 100 ms; ours is meant to be quicker.
const BOUNDS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0];

/// How long something took.
#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: std::time::Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Cell for Histogram {
    const TYPE: &'static str = "histogram";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.buckets) {
            sum += count.load(Ordering::Relaxed);
            sample(&bucket, &format!("{labels}{comma}le=\"{bound}\""), &sum.to_string(), out);
        }
        let count = self.count.load(Ordering::Relaxed).to_string();
        sample(&bucket, &format!("{labels}{comma}le=\"+Inf\""), &count, out);
        let micros = self.micros.load(Ordering::Relaxed);
        sample(&format!("{name}_sum"), labels, &format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000), out);
        sample(&format!("{name}_count"), labels, &count, out);
    }
}

/// Cells under one name, told apart by `N` labels.
pub(crate) struct Family<C, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    cells: RwLock<BTreeMap<[String; N], Arc<C>>>,
}

impl<C: Cell, const N: usize> Family<C, N> {
    pub(crate) fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, help, labels, cells: RwLock::default() }
    }

    /// The cell with these label values; made when it is not there.
    pub(crate) fn with(&self, values: [&str; N]) -> Arc<C> {
        let key = values.map(ToOwned::to_owned);
        if let Some(cell) = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(cell);
        }
        Arc::clone(self.cells.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Forgets a cell, so that what is gone (a proxy, a rule) does not stay in memory.
    pub(crate) fn remove(&self, values: [&str; N]) {
        self.cells.write().unwrap_or_else(PoisonError::into_inner).remove(&values.map(ToOwned::to_owned));
    }

    pub(crate) fn write(&self, out: &mut String) {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        if cells.is_empty() {
            return;
        }
        header(self.name, self.help, C::TYPE, out);
        for (values, cell) in cells.iter() {
            let labels: Vec<String> =
                self.labels.iter().zip(values).map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
            cell.write(self.name, &labels.join(","), out);
        }
    }
}

impl<C: Cell> Family<C, 0> {
    /// The only cell of a family without labels; it is there from the start, so that it reads 0 and not nothing.
    pub(crate) fn single(name: &'static str, help: &'static str) -> (Self, Arc<C>) {
        let family = Self::new(name, help, []);
        let cell = family.with([]);
        (family, cell)
    }
}

/// `# HELP` and `# TYPE`.
pub(crate) fn header(name: &str, help: &str, kind: &str, out: &mut String) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}"); // a String takes everything
}

/// One line.
pub(crate) fn sample(name: &str, labels: &str, value: &str, out: &mut String) {
    let _ =
        if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") };
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn prometheus_reads_it() {
        let pushes: Family<Counter, 1> = Family::new("pilot_xds_pushes", "Pushes.", ["type"]);
        let mut out = String::new();
        pushes.write(&mut out);
        assert_eq!(out, "", "a family without cells says nothing");
        pushes.with(["cds"]).add(2);
        pushes.with(["a \"quote\"\n"]).inc();
        pushes.write(&mut out);
        assert_eq!(
            out,
            "# HELP pilot_xds_pushes Pushes.\n# TYPE pilot_xds_pushes counter\n\
             pilot_xds_pushes{type=\"a \\\"quote\\\"\\n\"} 1\npilot_xds_pushes{type=\"cds\"} 2\n"
        );
        pushes.remove(["cds"]);
        let mut out = String::new();
        pushes.write(&mut out);
        assert!(!out.contains("cds"));
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let (family, cell) = Family::<Histogram, 0>::single("t", "T.");
        for millis in [1, 2, 600, 60_000] {
            cell.observe(Duration::from_millis(millis));
        }
        let mut out = String::new();
        family.write(&mut out);
        for line in [
            "t_bucket{le=\"0.001\"} 1",
            "t_bucket{le=\"0.005\"} 2",
            "t_bucket{le=\"1\"} 3",
            "t_bucket{le=\"30\"} 3",
            "t_bucket{le=\"+Inf\"} 4",
            "t_sum 60.603000",
            "t_count 4",
        ] {
            assert!(out.lines().any(|found| found == line), "{line} in\n{out}");
        }
    }
}
