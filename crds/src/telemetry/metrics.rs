//! Which metrics there are, and their labels.

use std::collections::BTreeMap;

use super::{ProviderRef, WorkloadMode, check_providers};
use crate::Duration;
use crate::check::Checker;
use crate::message::message;

message! {
    /// Metrics of some providers.
    pub struct Metrics {
        /// Who takes them; the mesh's default providers when empty.
        pub providers: Vec<ProviderRef>,
        /// Changes to single metrics, in order.
        pub overrides: Vec<MetricsOverride>,
        /// How often they are sent, for providers that are sent to.
        pub reporting_interval: Option<Duration>,
    }
}

message! {
    /// A change to some metrics.
    pub struct MetricsOverride {
        /// Which; all when absent.
        #[serde(rename = "match")]
        pub matches: Option<MetricMatch>,
        /// Switches them off.
        pub disabled: Option<bool>,
        /// Labels by name.
        pub tag_overrides: BTreeMap<String, TagOverride>,
    }
}

message! {
    /// Chooses metrics.
    #[schemars(extend("oneOf" = crate::schema::at_most_one_of(&["metric", "customMetric"])))]
    pub struct MetricMatch {
        /// One of Istio's.
        pub metric: Option<Metric>,
        /// One of the provider's own.
        #[schemars(length(min = 1))]
        pub custom_metric: Option<String>,
        /// At which end.
        pub mode: WorkloadMode,
    }
}

message! {
    /// Istio's metrics.
    pub enum Metric {
        /// All of them.
        #[default]
        AllMetrics,
        /// `istio_requests_total`
        RequestCount,
        /// `istio_request_duration_milliseconds`
        RequestDuration,
        /// `istio_request_bytes`
        RequestSize,
        /// `istio_response_bytes`
        ResponseSize,
        /// `istio_tcp_connections_opened_total`
        TcpOpenedConnections,
        /// `istio_tcp_connections_closed_total`
        TcpClosedConnections,
        /// `istio_tcp_sent_bytes_total`
        TcpSentBytes,
        /// `istio_tcp_received_bytes_total`
        TcpReceivedBytes,
        /// `istio_request_messages_total`
        GrpcRequestMessages,
        /// `istio_response_messages_total`
        GrpcResponseMessages,
    }
}

message! {
    /// A change to a label.
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "message": "value must be set when operation is UPSERT",
            "rule": "((has(self.operation) ? self.operation : \"\") == \"UPSERT\") ? (self.value != \"\") : true",
        },
        {
            "message": "value must not be set when operation is REMOVE",
            "rule": "((has(self.operation) ? self.operation : \"\") == \"REMOVE\") ? !has(self.value) : true",
        },
    ]))]
    pub struct TagOverride {
        /// Whether the label is set or taken away.
        pub operation: TagOperation,
        /// A CEL expression for its value.
        pub value: String,
    }
}

message! {
    /// Whether a label is set or taken away.
    pub enum TagOperation {
        /// Set.
        #[default]
        Upsert,
        /// Taken away.
        Remove,
    }
}

pub(super) fn check(c: &mut Checker, metrics: &Metrics) {
    check_providers(c, &metrics.providers);
    c.duration("reportingInterval", metrics.reporting_interval);
    c.each("overrides", &metrics.overrides, |c, change| {
        if let Some(chosen) = &change.matches {
            if chosen.metric.is_some() && chosen.custom_metric.is_some() {
                c.error("match", "has metric and customMetric, of which only one can be");
            }
            if chosen.custom_metric.as_ref().is_some_and(String::is_empty) {
                c.error("match.customMetric", "must not be empty");
            }
        }
        for (name, tag) in &change.tag_overrides {
            if name.is_empty() {
                c.warn("tagOverrides", "has an empty name, which no label has");
            }
            c.key("tagOverrides", name, |c| match tag.operation {
                TagOperation::Upsert if tag.value.is_empty() => {
                    c.error("value", "must be set for operation UPSERT");
                }
                TagOperation::Remove if !tag.value.is_empty() => {
                    c.error("value", "must not be set for operation REMOVE");
                }
                _ => {}
            });
        }
    });
}
