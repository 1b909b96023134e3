//! What is wrong with an EnvoyFilter. Whether a patch fits Envoy's own types is not looked at.

use super::{ApplyTo, ConfigMatch, ConfigPatch, EnvoyFilterSpec, FilterMatch, PatchContext, PatchOperation};
use crate::check::{Checker, Problem};

/// The one network filter that has filters inside it, by its present and its older name.
const HTTP_CONNECTION_MANAGER: [&str; 2] =
    ["envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"];

/// Network filters by older names, and by those of today.
const NETWORK: [(&str, &str); 7] = [
    ("envoy.client_ssl_auth", "envoy.filters.network.client_ssl_auth"),
    ("envoy.ext_authz", "envoy.filters.network.ext_authz"),
    ("envoy.http_connection_manager", "envoy.filters.network.http_connection_manager"),
    ("envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"),
    ("envoy.ratelimit", "envoy.filters.network.ratelimit"),
    ("envoy.redis_proxy", "envoy.filters.network.redis_proxy"),
    ("envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"),
];

/// HTTP filters in the same way.
const HTTP: [(&str, &str); 16] = [
    ("envoy.buffer", "envoy.filters.http.buffer"),
    ("envoy.cors", "envoy.filters.http.cors"),
    ("envoy.csrf", "envoy.filters.http.csrf"),
    ("envoy.http_dynamo_filter", "envoy.filters.http.dynamo"),
    ("envoy.ext_authz", "envoy.filters.http.ext_authz"),
    ("envoy.fault", "envoy.filters.http.fault"),
    ("envoy.grpc_http1_bridge", "envoy.filters.http.grpc_http1_bridge"),
    ("envoy.grpc_json_transcoder", "envoy.filters.http.grpc_json_transcoder"),
    ("envoy.grpc_web", "envoy.filters.http.grpc_web"),
    ("envoy.gzip", "envoy.filters.http.gzip"),
    ("envoy.health_check", "envoy.filters.http.health_check"),
    ("envoy.ip_tagging", "envoy.filters.http.ip_tagging"),
    ("envoy.lua", "envoy.filters.http.lua"),
    ("envoy.rate_limit", "envoy.filters.http.ratelimit"),
    ("envoy.router", "envoy.filters.http.router"),
    ("envoy.squash", "envoy.filters.http.squash"),
];

fn old_name(c: &mut Checker, field: &str, name: &str, names: &[(&str, &str)]) {
    if let Some((_, today)) = names.iter().find(|(old, _)| *old == name) {
        c.warn(field, format!("\"{name}\" is the old name of a filter: write \"{today}\""));
    }
}

impl EnvoyFilterSpec {
    /// What is wrong with these patches.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        // Istio warns of every one, since Envoy's configuration is no stable interface.
        c.warn(
            "",
            "patches Envoy's own configuration, which changes from release to release: prefer the mesh's own API",
        );
        c.at_most_one(&[
            ("workloadSelector", self.workload_selector.is_some()),
            ("targetRefs", !self.target_refs.is_empty()),
        ]);
        if let Some(selector) = &self.workload_selector {
            c.field("workloadSelector", |c| selector.check(c));
        }
        c.each("targetRefs", &self.target_refs, |c, target| target.check(c));
        c.each("configPatches", &self.config_patches, config_patch);
        c.finish()
    }
}

fn config_patch(c: &mut Checker, patch: &ConfigPatch) {
    if patch.apply_to == ApplyTo::Invalid {
        c.error("applyTo", "must be set");
    }
    match &patch.patch {
        None => c.error("patch", "must be set"),
        Some(patch) => c.field("patch", |c| match patch.operation {
            PatchOperation::Invalid => c.error("operation", "must be set"),
            PatchOperation::Remove => {}
            _ if patch.value.is_none() => c.error("value", "must be set, unless operation is REMOVE"),
            _ => {}
        }),
    }
    if let Some(matches) = &patch.matches {
        c.field("match", |c| config_match(c, matches, patch.apply_to));
    }
    let added = patch.patch.as_ref().filter(|patch| adds(patch.operation)).and_then(|patch| patch.value.as_ref());
    let is_filter = matches!(patch.apply_to, ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::ListenerFilter);
    let has = |name: &str| added.is_some_and(|value| value.contains_key(name));
    if is_filter && added.is_some() && !TYPES.into_iter().any(has) {
        c.warn("patch.value", "has no typed_config, by which Envoy knows what kind of filter it is");
    }
}

/// What says of which type a filter is, by protobuf's names and JSON's.
const TYPES: [&str; 4] = ["typed_config", "typedConfig", "config_discovery", "configDiscovery"];

fn adds(operation: PatchOperation) -> bool {
    matches!(
        operation,
        PatchOperation::Add | PatchOperation::InsertBefore | PatchOperation::InsertAfter | PatchOperation::InsertFirst
    )
}

fn config_match(c: &mut Checker, matches: &ConfigMatch, of: ApplyTo) {
    let objects = [
        ("listener", matches.listener.is_some()),
        ("routeConfiguration", matches.route_configuration.is_some()),
        ("cluster", matches.cluster.is_some()),
        ("waypoint", matches.waypoint.is_some()),
    ];
    c.at_most_one(&objects);
    if matches.waypoint.is_some() != (matches.context == PatchContext::Waypoint) {
        c.error("waypoint", "must be set for context WAYPOINT, and for no other");
    }
    if let Some(waypoint) = &matches.waypoint
        && waypoint.port_number != 0
    {
        c.port("waypoint.portNumber", waypoint.port_number);
    }
    let expected = match of {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter => "listener",
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => "routeConfiguration",
        ApplyTo::Cluster => "cluster",
        ApplyTo::Invalid | ApplyTo::ExtensionConfig | ApplyTo::Bootstrap | ApplyTo::ListenerFilter => "",
    };
    if let Some((name, _)) = objects.iter().find(|(name, set)| *set && *name != expected && *name != "waypoint")
        && !expected.is_empty()
    {
        c.error(name, format!("does not fit applyTo: use {expected}"));
    }
    if let Some(proxy) = &matches.proxy {
        c.regex("proxy.proxyVersion", &proxy.proxy_version);
    }
    if let Some(filter) = matches.listener.as_ref().and_then(|listener| listener.filter_chain.as_ref()?.filter.as_ref())
    {
        c.field("listener.filterChain.filter", |c| filter_match(c, filter, of));
    }
}

fn filter_match(c: &mut Checker, filter: &FilterMatch, of: ApplyTo) {
    if matches!(of, ApplyTo::Listener | ApplyTo::FilterChain) {
        c.warn("", "has no effect here: a whole listener or filter chain is patched");
    }
    c.required("name", &filter.name);
    old_name(c, "name", &filter.name, &NETWORK);
    if let Some(inner) = &filter.sub_filter {
        c.required("subFilter.name", &inner.name);
        old_name(c, "subFilter.name", &inner.name, &HTTP);
        if of != ApplyTo::HttpFilter {
            c.error("subFilter", "needs applyTo HTTP_FILTER");
        } else if !HTTP_CONNECTION_MANAGER.contains(&filter.name.as_str()) {
            let [name, _] = HTTP_CONNECTION_MANAGER;
            c.error("subFilter", format!("needs a filter of name \"{name}\": no other has filters inside it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EnvoyFilterSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "a filter",
                "{workloadSelector: {labels: {app: a}}, configPatches: [{applyTo: HTTP_FILTER, match: {context: SIDECAR_INBOUND, proxy: {proxyVersion: '^1\\.2.*'}, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}, patch: {operation: INSERT_BEFORE, value: {name: a, typed_config: {}}}}]}",
                &[],
            ),
            (
                "old names, and a filter without a type",
                "{configPatches: [{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: envoy.http_connection_manager, subFilter: {name: envoy.router}}}}}, patch: {operation: ADD, value: {name: a}}}]}",
                &[
                    "spec.configPatches[0].match.listener.filterChain.filter.name: \"envoy.http_connection_manager\" is the old name of a filter: write \"envoy.filters.network.http_connection_manager\"",
                    "spec.configPatches[0].match.listener.filterChain.filter.subFilter.name: \"envoy.router\" is the old name of a filter: write \"envoy.filters.http.router\"",
                    "spec.configPatches[0].patch.value: has no typed_config, by which Envoy knows what kind of filter it is",
                ],
            ),
            (
                "a removal",
                "{configPatches: [{applyTo: CLUSTER, match: {cluster: {service: a}}, patch: {operation: REMOVE}}]}",
                &[],
            ),
            (
                "nothing said",
                "{configPatches: [{}]}",
                &["spec.configPatches[0].applyTo: must be set", "spec.configPatches[0].patch: must be set"],
            ),
            (
                "no value",
                "{configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE}}, {applyTo: CLUSTER, patch: {}}]}",
                &[
                    "spec.configPatches[0].patch.value: must be set, unless operation is REMOVE",
                    "spec.configPatches[1].patch.operation: must be set",
                ],
            ),
            (
                "a match of something else",
                "{configPatches: [{applyTo: CLUSTER, match: {listener: {portNumber: 80}}, patch: {operation: REMOVE}}]}",
                &["spec.configPatches[0].match.listener: does not fit applyTo: use cluster"],
            ),
            (
                "a version that is no expression",
                "{configPatches: [{applyTo: CLUSTER, match: {proxy: {proxyVersion: '('}}, patch: {operation: REMOVE}}]}",
                &["spec.configPatches[0].match.proxy.proxyVersion: \"(\" is not a regular expression: unclosed group"],
            ),
            (
                "a filter inside a filter that has none",
                "{configPatches: [{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: tcp, subFilter: {name: a}}}}}, patch: {operation: REMOVE}}]}",
                &[
                    "spec.configPatches[0].match.listener.filterChain.filter.subFilter: needs a filter of name \"envoy.filters.network.http_connection_manager\": no other has filters inside it",
                ],
            ),
            (
                "a waypoint elsewhere",
                "{configPatches: [{applyTo: HTTP_FILTER, match: {waypoint: {portNumber: 80}}, patch: {operation: REMOVE}}]}",
                &["spec.configPatches[0].match.waypoint: must be set for context WAYPOINT, and for no other"],
            ),
            (
                "workloads and targets",
                "{workloadSelector: {labels: {app: a}}, targetRefs: [{kind: Service, name: a}]}",
                &["spec: has workloadSelector and targetRefs, of which only one can be"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: EnvoyFilterSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            let (warning, rest) = problems.split_first().unwrap();
            assert!(warning.starts_with("spec: patches Envoy's own configuration"), "{warning}");
            assert_eq!(rest, *expected, "{name}");
        }
    }
}
