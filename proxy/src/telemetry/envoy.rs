//! The few of Envoy's own figures that Kiali, dashboards and people look at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::cells::Cell;

/// What one worker counts of one cluster.
#[derive(Debug, Default)]
pub struct ClusterCells {
    /// `envoy_cluster_upstream_cx_active`
    pub cx_active: Cell,
    /// `envoy_cluster_upstream_cx_total`
    pub cx_total: Cell,
    /// `envoy_cluster_upstream_cx_connect_fail`
    pub cx_connect_fail: Cell,
    /// `envoy_cluster_upstream_rq_total`
    pub rq_total: Cell,
    /// `envoy_cluster_upstream_rq_active`
    pub rq_active: Cell,
    /// `envoy_cluster_upstream_rq_retry`
    pub rq_retry: Cell,
    /// `envoy_cluster_upstream_rq_pending_overflow`
    pub rq_overflow: Cell,
}

/// What one worker counts in all.
#[derive(Debug, Default)]
pub struct EnvoyCells {
    /// `envoy_listener_downstream_cx_active`
    pub downstream_cx_active: Cell,
    /// `envoy_listener_downstream_cx_total`
    pub downstream_cx_total: Cell,
    /// `envoy_listener_http_downstream_rq`
    pub downstream_rq: Cell,
    /// `envoy_http_downstream_rq_active`
    pub downstream_rq_active: Cell,
    /// Connection tasks that panicked.
    pub panics: Cell,
    /// TLS handshakes of clients that failed.
    pub handshake_failures: Cell,
    clusters: Mutex<Vec<(Arc<str>, Arc<ClusterCells>)>>,
}

impl EnvoyCells {
    /// The cells of a cluster, made when it is new.
    pub fn cluster(&self, name: &Arc<str>) -> Arc<ClusterCells> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cells)) = clusters.iter().find(|(known, _)| known == name) {
            return cells.clone();
        }
        let cells = Arc::new(ClusterCells::default());
        clusters.push((name.clone(), cells.clone()));
        cells
    }

    /// Adds what this worker counts of clusters to a sum over workers.
    pub(crate) fn add_clusters(&self, total: &mut BTreeMap<Arc<str>, [u64; 7]>) {
        for (name, cells) in self.clusters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let sum = total.entry(name.clone()).or_default();
            let values = [
                &cells.cx_active,
                &cells.cx_total,
                &cells.cx_connect_fail,
                &cells.rq_total,
                &cells.rq_active,
                &cells.rq_retry,
                &cells.rq_overflow,
            ];
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum = sum.wrapping_add(value.get());
            }
        }
    }
}

/// The names that go with the sums of [`EnvoyCells::add_clusters`], and their types.
pub(crate) const CLUSTER_METRICS: [(&str, &str); 7] = [
    ("envoy_cluster_upstream_cx_active", "gauge"),
    ("envoy_cluster_upstream_cx_total", "counter"),
    ("envoy_cluster_upstream_cx_connect_fail", "counter"),
    ("envoy_cluster_upstream_rq_total", "counter"),
    ("envoy_cluster_upstream_rq_active", "gauge"),
    ("envoy_cluster_upstream_rq_retry", "counter"),
    ("envoy_cluster_upstream_rq_pending_overflow", "counter"),
];
