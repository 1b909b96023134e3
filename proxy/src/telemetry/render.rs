//! The text of a scrape (Prometheus text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::cells::{BUCKETS, HistogramTotal};
use super::envoy::CLUSTER_METRICS;
use super::istio::Registry;
use super::process::Process;

/// What else a scrape shows.
#[derive(Clone, Debug)]
pub struct Server {
    /// How long the process has been running.
    pub uptime: Duration,
    /// Whether it has been told to go.
    pub draining: bool,
    /// The process's figures.
    pub process: Process,
}

/// Writes all metrics: what `:15090/stats/prometheus` answers.
pub fn prometheus(registry: &Registry, server: &Server) -> String {
    let mut out = String::with_capacity(64 * 1024);
    http(&mut out, registry);
    tcp(&mut out, registry);
    clusters(&mut out, registry);
    let sum = |pick: fn(&super::envoy::EnvoyCells) -> u64| {
        registry.workers.iter().fold(0u64, |sum, worker| sum.wrapping_add(pick(&worker.envoy)))
    };
    single(&mut out, "envoy_listener_downstream_cx_active", "gauge", sum(|cells| cells.downstream_cx_active.get()));
    single(&mut out, "envoy_listener_downstream_cx_total", "counter", sum(|cells| cells.downstream_cx_total.get()));
    single(&mut out, "envoy_listener_http_downstream_rq", "counter", sum(|cells| cells.downstream_rq.get()));
    single(&mut out, "envoy_http_downstream_rq_active", "gauge", sum(|cells| cells.downstream_rq_active.get()));
    single(&mut out, "envoy_listener_ssl_connection_error", "counter", sum(|cells| cells.handshake_failures.get()));
    single(&mut out, "forestay_connection_panics_total", "counter", sum(|cells| cells.panics.get()));
    single(&mut out, "envoy_server_uptime", "gauge", server.uptime.as_secs());
    single(&mut out, "envoy_server_live", "gauge", u64::from(!server.draining));
    single(&mut out, "envoy_server_concurrency", "gauge", registry.workers.len() as u64);
    single(&mut out, "envoy_server_memory_allocated", "gauge", server.process.resident_bytes);
    single(&mut out, "envoy_server_memory_heap_size", "gauge", server.process.resident_bytes);
    single(&mut out, "process_resident_memory_bytes", "gauge", server.process.resident_bytes);
    single(&mut out, "process_virtual_memory_bytes", "gauge", server.process.virtual_bytes);
    single(&mut out, "process_open_fds", "gauge", server.process.open_fds);
    let _ = writeln!(out, "# TYPE process_cpu_seconds_total counter");
    let _ = writeln!(out, "process_cpu_seconds_total {}", server.process.cpu_seconds);
    let _ = writeln!(out, "# TYPE istio_build gauge");
    let _ = writeln!(out, "istio_build{{component=\"proxy\",tag=\"{}\"}} 1", names::VERSION);
    out
}

fn single(out: &mut String, name: &str, kind: &str, value: u64) {
    let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
}

fn http(out: &mut String, registry: &Registry) {
    #[derive(Default)]
    struct Total {
        requests: u64,
        histograms: [HistogramTotal; 3],
    }
    let mut totals: BTreeMap<Box<str>, Total> = BTreeMap::new();
    for worker in &registry.workers {
        for (labels, series) in worker.http.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let total = totals.entry(labels.clone()).or_default();
            total.requests += series.requests.get();
            let each = [&series.duration, &series.request_bytes, &series.response_bytes];
            for (sum, histogram) in total.histograms.iter_mut().zip(each) {
                histogram.add_to(sum);
            }
        }
    }
    if totals.is_empty() {
        return;
    }
    let _ = writeln!(out, "# TYPE istio_requests_total counter");
    for (labels, total) in &totals {
        let _ = writeln!(out, "istio_requests_total{{{labels}}} {}", total.requests);
    }
    let names = ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"];
    for (index, name) in names.into_iter().enumerate() {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (labels, total) in &totals {
            if let Some(histogram) = total.histograms.get(index) {
                write_histogram(out, name, labels, histogram);
            }
        }
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, histogram: &HistogramTotal) {
    let mut seen = 0;
    for (bound, count) in BUCKETS.iter().zip(&histogram.counts) {
        seen += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {seen}");
    }
    seen += histogram.counts.last().copied().unwrap_or_default();
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {seen}");
    let (whole, thousandths) = (histogram.sum / 1000, histogram.sum % 1000);
    let _ = if thousandths == 0 {
        writeln!(out, "{name}_sum{{{labels}}} {whole}")
    } else {
        writeln!(out, "{name}_sum{{{labels}}} {whole}.{thousandths:03}")
    };
    let _ = writeln!(out, "{name}_count{{{labels}}} {seen}");
}

fn tcp(out: &mut String, registry: &Registry) {
    let mut totals: BTreeMap<Box<str>, [u64; 4]> = BTreeMap::new();
    for worker in &registry.workers {
        for (labels, series) in worker.tcp.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let total = totals.entry(labels.clone()).or_default();
            for (sum, cell) in total.iter_mut().zip([&series.opened, &series.closed, &series.sent, &series.received]) {
                *sum += cell.get();
            }
        }
    }
    let names = [
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
        "istio_tcp_sent_bytes_total",
        "istio_tcp_received_bytes_total",
    ];
    for (index, name) in names.into_iter().enumerate().filter(|_| !totals.is_empty()) {
        let _ = writeln!(out, "# TYPE {name} counter");
        for (labels, total) in &totals {
            let _ = writeln!(out, "{name}{{{labels}}} {}", total.get(index).copied().unwrap_or_default());
        }
    }
}

fn clusters(out: &mut String, registry: &Registry) {
    let mut totals: BTreeMap<Arc<str>, [u64; 7]> = BTreeMap::new();
    for worker in &registry.workers {
        worker.envoy.add_clusters(&mut totals);
    }
    // A mesh has many services, and most workloads speak to few of them.
    totals.retain(|_, total| total.iter().any(|value| *value != 0));
    for (index, (name, kind)) in CLUSTER_METRICS.into_iter().enumerate().filter(|_| !totals.is_empty()) {
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for (cluster, total) in &totals {
            let _ = write!(out, "{name}{{cluster_name=\"");
            escape(out, cluster);
            let _ = writeln!(out, "\"}} {}", total.get(index).copied().unwrap_or_default());
        }
    }
}

/// Writes a label's value.
pub(crate) fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Server, prometheus};
    use crate::telemetry::istio::{HttpSeries, Registry, TcpSeries};
    use crate::telemetry::process::Process;

    #[test]
    fn workers_are_added_up() {
        let registry = Registry::new(2);
        for worker in &registry.workers {
            let series = HttpSeries::default();
            series.requests.add(2);
            series.duration.observe(0.75);
            series.duration.observe(30.0);
            worker.http.lock().unwrap().push(("a=\"b\"".into(), series.into()));
            let series = TcpSeries::default();
            series.sent.add(7);
            worker.tcp.lock().unwrap().push(("c=\"d\"".into(), series.into()));
            worker.envoy.cluster(&"quiet".into());
            worker.envoy.cluster(&"busy".into()).cx_active.add(1);
        }
        let server = Server { uptime: Duration::from_secs(9), draining: false, process: Process::default() };
        let text = prometheus(&registry, &server);
        for line in [
            "# TYPE istio_requests_total counter",
            "istio_requests_total{a=\"b\"} 4",
            "istio_request_duration_milliseconds_bucket{a=\"b\",le=\"0.5\"} 0",
            "istio_request_duration_milliseconds_bucket{a=\"b\",le=\"1\"} 2",
            "istio_request_duration_milliseconds_bucket{a=\"b\",le=\"3600000\"} 4",
            "istio_request_duration_milliseconds_bucket{a=\"b\",le=\"+Inf\"} 4",
            "istio_request_duration_milliseconds_sum{a=\"b\"} 61.500",
            "istio_request_duration_milliseconds_count{a=\"b\"} 4",
            "istio_tcp_sent_bytes_total{c=\"d\"} 14",
            "envoy_cluster_upstream_cx_active{cluster_name=\"busy\"} 2",
            "envoy_server_uptime 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("quiet"));
    }
}
