//! What is counted, under Istio's names.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::envelope::Answer;
use crate::validate::Count;

/// Seconds; most admissions take less than a millisecond. From 0.1 on, Istio's.
const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0];

type Label = (&'static str, &'static str);

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
    valid: Family<[Label; 3], Total>,
    invalid: Family<[Label; 4], Total>,
    unread: Family<[(&'static str, u16); 1], Total>,
    validation_seconds: Histogram,
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
            valid: Family::default(),
            invalid: Family::default(),
            unread: Family::default(),
            validation_seconds: Histogram::new(BUCKETS),
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
        registry.register("galley_validation_passed", "Objects that were found good", metrics.valid.clone());
        registry.register("galley_validation_failed", "Objects that were not", metrics.invalid.clone());
        registry.register(
            "galley_validation_http_error",
            "Reviews that could not be read, by the HTTP status that says why",
            metrics.unread.clone(),
        );
        registry.register(
            "galley_validation_time_seconds",
            "How long an answer about an object took",
            metrics.validation_seconds.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// An answer about a pod.
    pub(crate) fn injection(&self, answer: &Answer, took: Duration) {
        self.requests.inc();
        let counter = match (answer.allowed(), answer.patch()) {
            (true, Some(_)) => &self.injected,
            (true, None) => &self.skipped,
            (false, _) => &self.failed,
        };
        counter.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// An answer about one of Istio's objects.
    pub(crate) fn validation(&self, count: Option<Count>, took: Duration) {
        self.validation_seconds.observe(took.as_secs_f64());
        let Some(Count { group, version, resource, outcome }) = count else { return };
        let labels = [("group", group), ("version", version), ("resource", resource)];
        match outcome {
            Ok(()) => self.valid.get_or_create(&labels).inc(),
            Err(failure) => {
                let [group, version, resource] = labels;
                self.invalid.get_or_create(&[group, version, resource, ("reason", failure.as_str())]).inc();
            }
        }
    }

    /// A review of one of Istio's objects that could not be read.
    pub(crate) fn unread(&self, status: u16) {
        self.unread.get_or_create(&[("status", status)]).inc();
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

/// A counter whose name does not end in `_total`, as Istio's dashboards ask for it. OpenMetrics has no such counters,
/// so its type is left unknown; queries do not mind.
#[derive(Clone, Debug, Default)]
struct Total(Arc<AtomicU64>);

impl Total {
    fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
