//! What is counted, under Istio's names.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::review::Verdict;

/// Seconds; most admissions take less than a millisecond.
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 10.0];

/// The counters; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Counter,
    injected: Counter,
    skipped: Counter,
    failed: Counter,
    seconds: Histogram,
    settings_valid: Gauge,
    settings_errors: Counter,
    registry: Arc<Registry>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            requests: Counter::default(),
            injected: Counter::default(),
            skipped: Counter::default(),
            failed: Counter::default(),
            seconds: Histogram::new(BUCKETS),
            settings_valid: Gauge::default(),
            settings_errors: Counter::default(),
            registry: Arc::default(),
        };
        let mut registry = Registry::default();
        let counters = [
            ("sidecar_injection_requests", "Admission requests", &metrics.requests),
            ("sidecar_injection_success", "Pods that got a sidecar", &metrics.injected),
            ("sidecar_injection_skip", "Pods that passed as they were", &metrics.skipped),
            ("sidecar_injection_failure", "Pods that were refused", &metrics.failed),
            ("sidecar_injection_settings_errors", "Settings that could not be read", &metrics.settings_errors),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("sidecar_injection_time_seconds", "How long an answer took", metrics.seconds.clone());
        registry.register(
            "sidecar_injection_settings_valid",
            "1 while the newest settings are in force, 0 while older ones are because the newest are broken",
            metrics.settings_valid.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }

    pub(crate) fn answered(&self, verdict: Verdict, took: Duration) {
        self.requests.inc();
        let counter = match verdict {
            Verdict::Injected => &self.injected,
            Verdict::Skipped => &self.skipped,
            Verdict::Refused => &self.failed,
        };
        counter.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn settings(&self, valid: bool) {
        self.settings_valid.set(i64::from(valid));
        if !valid {
            self.settings_errors.inc();
        }
    }

    /// OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
