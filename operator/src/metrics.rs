//! The operator's own metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Handles to the metrics; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    leading: Gauge<i64, AtomicI64>,
    seconds: Histogram,
    failures: Counter,
    writes: Counter,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("forestay_operator");
        let leading = Gauge::default();
        registry.register("leading", "1 while this replica holds the Lease", leading.clone());
        let seconds = Histogram::new(exponential_buckets(0.005, 2.0, 12));
        registry.register_with_unit("reconcile", "Time of a reconciliation", Unit::Seconds, seconds.clone());
        let failures = Counter::default();
        registry.register("reconcile_errors", "Reconciliations that are tried again", failures.clone());
        let writes = Counter::default();
        registry.register("objects_written", "Objects that were created, changed or put back", writes.clone());
        Self { registry: Arc::new(registry), leading, seconds, failures, writes }
    }

    /// Says whether this replica holds the Lease.
    pub(crate) fn lead(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// Counts objects that were written.
    pub(crate) fn written(&self, objects: usize) {
        self.writes.inc_by(objects as u64);
    }

    /// Starts the clock of a reconciliation.
    pub(crate) fn reconciliation(&self) -> Timer<'_> {
        Timer { metrics: self, started: Instant::now() }
    }

    /// OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A reconciliation under way.
pub(crate) struct Timer<'a> {
    metrics: &'a Metrics,
    started: Instant,
}

impl Timer<'_> {
    pub(crate) fn done(self, ok: bool) {
        self.metrics.seconds.observe(self.started.elapsed().as_secs_f64());
        if !ok {
            self.metrics.failures.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn every_metric_has_a_name_that_says_its_unit() {
        let metrics = Metrics::new();
        metrics.lead(true);
        metrics.written(3);
        metrics.reconciliation().done(false);
        let text = metrics.text().unwrap();
        for line in [
            "forestay_operator_leading 1",
            "forestay_operator_objects_written_total 3",
            "forestay_operator_reconcile_errors_total 1",
            "forestay_operator_reconcile_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
