//! Which requests are traced, and what their spans say.

use std::collections::BTreeMap;

use super::{ProviderRef, WorkloadMode, check_providers};
use crate::check::Checker;
use crate::message::message;

message! {
    /// Traces.
    pub struct Tracing {
        /// At which end.
        #[serde(rename = "match")]
        pub matches: Option<TracingMatch>,
        /// Who takes them: one; the mesh's default provider when empty.
        pub providers: Vec<ProviderRef>,
        /// The share of requests without a decision yet that is traced, in percent.
        #[schemars(schema_with = "schema::percentage")]
        pub random_sampling_percentage: Option<f64>,
        /// Switches reporting off; the decision still travels with the request.
        pub disable_span_reporting: Option<bool>,
        /// Switches the headers of tracing off.
        pub disable_context_propagation: Option<bool>,
        /// Further tags by name.
        pub custom_tags: BTreeMap<String, CustomTag>,
        /// Whether spans have Istio's own tags; yes when absent.
        pub enable_istio_tags: Option<bool>,
        /// Whether `x-request-id` carries the decision; yes when absent.
        pub use_request_id_for_trace_sampling: Option<bool>,
    }
}

message! {
    /// At which end of a request a span is made.
    pub struct TracingMatch {
        /// The end.
        pub mode: WorkloadMode,
    }
}

message! {
    /// Where a tag's value comes from.
    #[schemars(extend("oneOf" = crate::schema::at_most_one_of(&["literal", "environment", "header", "formatter"])))]
    pub struct CustomTag {
        /// As it stands.
        pub literal: Option<LiteralTag>,
        /// From the proxy's environment.
        pub environment: Option<EnvironmentTag>,
        /// From the request.
        pub header: Option<HeaderTag>,
        /// From Envoy's command operators.
        pub formatter: Option<FormatterTag>,
    }
}

message! {
    /// A value as it stands.
    #[schemars(extend("required" = ["value"]))]
    pub struct LiteralTag {
        /// The value.
        #[schemars(length(min = 1))]
        pub value: String,
    }
}

message! {
    /// A variable of the proxy's environment.
    #[schemars(extend("required" = ["name"]))]
    pub struct EnvironmentTag {
        /// Its name.
        #[schemars(length(min = 1))]
        pub name: String,
        /// What stands for it where it is not set.
        pub default_value: String,
    }
}

message! {
    /// A header of the request.
    #[schemars(extend("required" = ["name"]))]
    pub struct HeaderTag {
        /// Its name.
        #[schemars(length(min = 1))]
        pub name: String,
        /// What stands for it where it is not there.
        pub default_value: String,
    }
}

message! {
    /// A format.
    #[schemars(extend("required" = ["value"]))]
    pub struct FormatterTag {
        /// With Envoy's command operators, such as `%REQUESTED_SERVER_NAME%`.
        #[schemars(length(min = 1))]
        pub value: String,
    }
}

pub(super) fn check(c: &mut Checker, tracing: &Tracing) {
    if tracing.providers.len() > 1 {
        c.warn("providers", "has more than one entry, of which only the first counts");
    }
    check_providers(c, &tracing.providers);
    if let Some(percentage) = tracing.random_sampling_percentage {
        c.percent("randomSamplingPercentage", percentage);
    }
    for (name, tag) in &tracing.custom_tags {
        if name.is_empty() {
            c.error("customTags", "has an empty name");
        }
        c.key("customTags", name, |c| check_tag(c, tag));
    }
}

fn check_tag(c: &mut Checker, tag: &CustomTag) {
    let sources = [
        ("literal", tag.literal.as_ref().map(|literal| ("value", &literal.value))),
        ("environment", tag.environment.as_ref().map(|variable| ("name", &variable.name))),
        ("header", tag.header.as_ref().map(|header| ("name", &header.name))),
        ("formatter", tag.formatter.as_ref().map(|formatter| ("value", &formatter.value))),
    ];
    let set: Vec<_> = sources.iter().filter(|(_, field)| field.is_some()).map(|(name, _)| *name).collect();
    match set.as_slice() {
        [] => c.warn("", "says nothing, so there is no such tag: set one of literal, environment, header, formatter"),
        [_] => {}
        several => c.error("", format!("has {}, of which only one can be", several.join(" and "))),
    }
    for (name, field) in sources {
        if let Some((field, value)) = field {
            c.required(&format!("{name}.{field}"), value);
        }
    }
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn percentage(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "format": "double", "minimum": 0, "maximum": 100, "nullable": true})
    }
}
