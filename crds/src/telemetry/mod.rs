//! Group `telemetry.istio.io`: what proxies report. Types beside their checks; one file for each of the three parts, and
//! `expression`: the language of their filters.

mod access_logging;
mod expression;
mod metrics;
mod tracing;

use kube::CustomResource;

pub use self::access_logging::{AccessLogging, Filter, LogMatch};
pub use self::metrics::{Metric, MetricMatch, Metrics, MetricsOverride, TagOperation, TagOverride};
pub use self::tracing::{CustomTag, EnvironmentTag, FormatterTag, HeaderTag, LiteralTag, Tracing, TracingMatch};
use crate::check::{Checker, Problem};
use crate::message::message;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;
use crate::target::{PolicyTargetReference, check_scope};

/// The group's name.
pub const GROUP: &str = "telemetry.istio.io";
/// The versions in which its kind is served. As by Istio, the older one is stored.
pub const VERSIONS: &[&str] = &["v1", "v1alpha1"];

message! {
    /// Traces, metrics and access logs of workloads.
    #[derive(CustomResource)]
    #[kube(
        group = "telemetry.istio.io", version = "v1", kind = "Telemetry", plural = "telemetries", namespaced,
        schema = "disabled", status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "telemetry", category = "istio-io", category = "telemetry-istio-io",
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "only one of targetRefs or selector can be set",
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    }]))]
    pub struct TelemetrySpec {
        /// Workloads that this applies to; all of the namespace when absent.
        pub selector: Option<WorkloadSelector>,
        /// The older form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Gateways or Services that this applies to.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Traces; one entry.
        pub tracing: Vec<Tracing>,
        /// Metrics.
        pub metrics: Vec<Metrics>,
        /// Access logs.
        pub access_logging: Vec<AccessLogging>,
    }
}

message! {
    /// A provider of the mesh's settings.
    #[schemars(extend("required" = ["name"]))]
    pub struct ProviderRef {
        /// Its name in `meshConfig.extensionProviders`.
        #[schemars(length(min = 1))]
        pub name: String,
    }
}

message! {
    /// At which end of a request.
    pub enum WorkloadMode {
        /// At both.
        #[default]
        ClientAndServer,
        /// Where it is sent.
        Client,
        /// Where it arrives.
        Server,
    }
}

impl TelemetrySpec {
    /// What is wrong with these settings.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        check_scope(&mut c, self.selector.as_ref(), self.target_ref.as_ref(), &self.target_refs);
        if self.tracing.len() > 1 {
            c.warn("tracing", "has more than one entry, of which only the first counts");
        }
        c.each("tracing", &self.tracing, tracing::check);
        c.each("metrics", &self.metrics, metrics::check);
        c.each("accessLogging", &self.access_logging, access_logging::check);
        c.finish()
    }
}

fn check_providers(c: &mut Checker, providers: &[ProviderRef]) {
    c.each("providers", providers, |c, provider| c.required("name", &provider.name));
}

#[cfg(test)]
mod tests {
    use super::TelemetrySpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("nothing", "{}", &[]),
            (
                "all three",
                "{tracing: [{providers: [{name: zipkin}], randomSamplingPercentage: 10, customTags: {a: {literal: {value: b}}}}], \
                 metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, \
                 tagOverrides: {x: {value: request.host}, y: {operation: REMOVE}}}]}], \
                 accessLogging: [{filter: {expression: 'response.code >= 400'}, disabled: false}]}",
                &[],
            ),
            (
                "tracing twice and by two",
                "{tracing: [{providers: [{name: a}, {name: b}]}, {}]}",
                &[
                    "spec.tracing: has more than one entry, of which only the first counts",
                    "spec.tracing[0].providers: has more than one entry, of which only the first counts",
                ],
            ),
            (
                "a share above 100",
                "{tracing: [{randomSamplingPercentage: 101}]}",
                &["spec.tracing[0].randomSamplingPercentage: 101 is not a percentage: it must be between 0 and 100"],
            ),
            (
                "tags of nothing",
                "{tracing: [{customTags: {'': {header: {name: x}}, a: {}, b: {literal: {}}, c: {header: {name: x}, literal: {value: y}}}}]}",
                &[
                    "spec.tracing[0].customTags: has an empty name",
                    "spec.tracing[0].customTags[a]: says nothing, so there is no such tag: set one of literal, environment, header, formatter",
                    "spec.tracing[0].customTags[b].literal.value: must be set",
                    "spec.tracing[0].customTags[c]: has literal and header, of which only one can be",
                ],
            ),
            (
                "tags of metrics",
                "{metrics: [{reportingInterval: 0s, overrides: [{match: {metric: REQUEST_COUNT, customMetric: a}, \
                 tagOverrides: {'': {value: x}, a: {}, b: {operation: REMOVE, value: c}}}]}]}",
                &[
                    "spec.metrics[0].reportingInterval: 0s is too short: it must be at least 1ms",
                    "spec.metrics[0].overrides[0].match: has metric and customMetric, of which only one can be",
                    "spec.metrics[0].overrides[0].tagOverrides: has an empty name, which no label has",
                    "spec.metrics[0].overrides[0].tagOverrides[a].value: must be set for operation UPSERT",
                    "spec.metrics[0].overrides[0].tagOverrides[b].value: must not be set for operation REMOVE",
                ],
            ),
            (
                "a filter that is no expression",
                "{accessLogging: [{filter: {}}, {filter: {expression: 'response.code => 400'}}]}",
                &[
                    "spec.accessLogging[0].filter.expression: is not an expression of CEL: a value is missing at its end",
                    "spec.accessLogging[1].filter.expression: is not an expression of CEL: an operator is missing at character 15, before \"=> 400\"",
                ],
            ),
            (
                "providers without a name",
                "{metrics: [{providers: [{}]}], accessLogging: [{providers: [{}]}]}",
                &[
                    "spec.metrics[0].providers[0].name: must be set",
                    "spec.accessLogging[0].providers[0].name: must be set",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: TelemetrySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
