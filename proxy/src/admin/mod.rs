//! What people and tools ask a proxy, on 127.0.0.1:15000.

use std::sync::Arc;

/// Gives all metrics in Prometheus' text format.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;
