//! What is asked for and cannot be done, or will surprise: said at admission, never passed over in silence.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodSpec;

use super::annotations as annotation;
use super::subject::Subject;
use super::template::{Chosen, GRPC_AGENT, GRPC_SIMPLE};
use super::{INIT, PROXY, pod_security, selector};

/// Annotations of Istio's that have no effect here, and why. A name that ends in a slash stands for all below it.
const NO_EFFECT: [(&str, &str); 17] = [
    (annotation::BOOTSTRAP_OVERRIDE, "the proxy has no Envoy bootstrap"),
    ("sidecar.istio.io/componentLogLevel", "the proxy has one log level; use sidecar.istio.io/logLevel"),
    ("sidecar.istio.io/discoveryAddress", "write discoveryAddress into proxy.istio.io/config"),
    ("sidecar.istio.io/extraStatTags", "the proxy's metrics have Istio's labels; use Telemetry"),
    ("sidecar.istio.io/statsCompression", "the proxy's metrics are not compressed"),
    ("sidecar.istio.io/statsEvictionInterval", "metrics are kept as long as the proxy runs"),
    ("sidecar.istio.io/statsFlushInterval", "metrics are made when they are asked for"),
    ("sidecar.istio.io/statsHistogramBins", "histograms have Istio's buckets"),
    ("sidecar.istio.io/statsHistogramBuckets", "histograms have Istio's buckets"),
    ("sidecar.istio.io/statsInclusionPrefixes", "the proxy has no statistics of Envoy's"),
    ("sidecar.istio.io/statsInclusionRegexps", "the proxy has no statistics of Envoy's"),
    ("sidecar.istio.io/statsInclusionSuffixes", "the proxy has no statistics of Envoy's"),
    ("readiness.status.sidecar.istio.io/applicationPorts", "readiness does not wait for ports of the application"),
    ("prometheus.istio.io/secure-port", "metrics are served in plaintext"),
    ("apm.datadoghq.com/env", "there is no tracing by Datadog"),
    ("ambient.istio.io/", "there is no ambient mode"),
    ("alpha.istio.io/", "Istio has given it up"),
];

/// Annotations on pods that are read, or written, by this injection.
const KNOWN: [&str; 36] = [
    annotation::INTERCEPTION_MODE,
    annotation::STATUS_PORT,
    annotation::INITIAL_DELAY,
    annotation::PERIOD,
    annotation::FAILURE_THRESHOLD,
    annotation::INCLUDE_OUTBOUND_RANGES,
    annotation::EXCLUDE_OUTBOUND_RANGES,
    annotation::INCLUDE_INBOUND_PORTS,
    annotation::EXCLUDE_INBOUND_PORTS,
    annotation::INCLUDE_OUTBOUND_PORTS,
    annotation::EXCLUDE_OUTBOUND_PORTS,
    annotation::EXCLUDE_INTERFACES,
    annotation::KUBEVIRT_INTERFACES,
    annotation::REROUTE_INTERFACES,
    annotation::MERGE_METRICS,
    annotation::PROXY_CPU,
    annotation::PROXY_MEMORY,
    annotation::PROXY_CPU_LIMIT,
    annotation::PROXY_MEMORY_LIMIT,
    annotation::REWRITE_PROBES,
    annotation::PROXY_IMAGE,
    annotation::PROXY_IMAGE_TYPE,
    annotation::LOG_LEVEL,
    annotation::AGENT_LOG_LEVEL,
    annotation::USER_VOLUME,
    annotation::USER_VOLUME_MOUNT,
    annotation::CAP_NET_BIND,
    annotation::TEMPLATES,
    names::annotations::NATIVE_SIDECAR,
    names::annotations::PROXY_CONFIG,
    names::annotations::PROXY_OVERRIDES,
    names::annotations::STATUS,
    names::labels::INJECT,
    names::labels::REVISION,
    super::prometheus::TARGETS,
    // Read by the control plane and by tools, on pods too.
    "galley.istio.io/analyze-suppress",
];

/// Where the names of annotations for injection begin; those of other parts are none of ours.
const OURS: [&str; 7] = [
    "sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
    "proxy.istio.io/",
    "inject.istio.io/",
    "prometheus.istio.io/",
];

/// What the annotations of a pod ask for in vain.
pub(crate) fn of_annotations(annotations: &BTreeMap<String, String>, warnings: &mut Vec<String>) {
    for (name, value) in annotations {
        let matches = |one: &str| one == name || (one.ends_with('/') && name.starts_with(one));
        if let Some((_, why)) = NO_EFFECT.iter().find(|(one, _)| matches(one)) {
            warnings.push(format!("annotation {name} has no effect: {why}"));
        } else if OURS.iter().any(|prefix| name.starts_with(prefix)) && !KNOWN.contains(&name.as_str()) {
            warnings.push(format!("annotation {name} is not known and has no effect"));
        }
        if name == annotation::REWRITE_PROBES && annotation::boolean(value).is_err() {
            warnings.push(format!("annotation {name}: \"{value}\" counts as \"false\": probes are left as they are"));
        }
    }
}

/// What an injected pod will do that its author may not expect.
pub(crate) fn of_pod(subject: &Subject<'_>, chosen: &[Chosen<'_>], merged: &PodSpec, warnings: &mut Vec<String>) {
    let has = |name: &str| chosen.iter().any(|template| template.is(name));
    if has(GRPC_AGENT) {
        warnings.push(format!(
            "template {GRPC_AGENT}: our agent writes no bootstrap file for gRPC; use template sidecar, or Istio's image by annotation {}",
            annotation::PROXY_IMAGE
        ));
    }
    if has(GRPC_SIMPLE) {
        warnings.push(format!(
            "template {GRPC_SIMPLE}: our control plane has no configuration for gRPC's own xDS and no port 15010 outside its pod; use template sidecar"
        ));
    }
    if subject.proxy_config.proxy_metadata.get("ISTIO_META_ENABLE_HBONE").is_some_and(|value| value == "true") {
        warnings.push("ISTIO_META_ENABLE_HBONE has no effect: there is no HBONE".to_owned());
    }
    captured_dns(subject, merged, warnings);
    dns(subject, warnings);
    same_user(subject, merged, warnings);
    endless(subject, merged, warnings);
    if let Some(about) = subject.about {
        warnings.extend(pod_security::warning(subject.namespace, about, merged));
        discovery(subject, about, warnings);
    }
}

/// There is no DNS server in the proxy: `istio-init` leaves DNS alone whatever it is told.
fn captured_dns(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    const CAPTURE: [&str; 3] = ["ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE", "CAPTURE_ALL_DNS"];
    let on = |value: &str| annotation::boolean(value).unwrap_or(false);
    let metadata = &subject.proxy_config.proxy_metadata;
    let proxies = merged.containers.iter().chain(merged.init_containers.iter().flatten());
    let environment =
        proxies.filter(|one| [PROXY, INIT].contains(&one.name.as_str())).flat_map(|one| one.env.iter().flatten());
    let environment: BTreeSet<&str> =
        environment.filter(|one| one.value.as_deref().is_some_and(on)).map(|one| one.name.as_str()).collect();
    for name in CAPTURE {
        let whence = if metadata.get(name).is_some_and(|value| on(value)) {
            "proxyMetadata"
        } else if environment.contains(name) {
            "environment"
        } else {
            continue;
        };
        warnings.push(format!(
            "{whence} {name} has no effect: the proxy serves no DNS, so that DNS is not captured and names resolve by the pod's own name servers"
        ));
    }
}

/// The control plane is found by the cluster's DNS.
fn dns(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    let policy = subject.pod.spec.as_ref().and_then(|spec| spec.dns_policy.as_deref());
    if let Some(policy) = policy.filter(|policy| !matches!(*policy, "ClusterFirst" | "ClusterFirstWithHostNet")) {
        let address = &subject.proxy_config.discovery_address;
        warnings.push(format!("dnsPolicy {policy}: the proxy may not be able to resolve the control plane, {address}"));
    }
}

/// Connections of the proxy's user are not redirected, whoever makes them.
fn same_user(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let containers = merged.containers.iter().chain(merged.init_containers.iter().flatten());
    let Some(proxy) = containers.clone().find(|container| container.name == PROXY) else { return };
    let user = |container: &k8s_openapi::api::core::v1::Container| container.security_context.as_ref()?.run_as_user;
    let Some(uid) = user(proxy).filter(|uid| *uid != 0) else { return };
    let of_pod = merged.security_context.as_ref().and_then(|context| context.run_as_user);
    let same: Vec<&str> = subject
        .application()
        .iter()
        .filter(|container| user(container).or(of_pod) == Some(uid))
        .map(|container| container.name.as_str())
        .collect();
    if !same.is_empty() {
        warnings.push(format!(
            "user {uid} is the proxy's: connections that {} makes as this user bypass the proxy, its policies and mutual TLS; set another runAsUser",
            same.join(", ")
        ));
    }
}

/// A pod that is to end does not, while a classic sidecar runs on.
fn endless(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let ends = matches!(merged.restart_policy.as_deref(), Some("Never" | "OnFailure"));
    let classic = merged.containers.iter().any(|container| container.name == PROXY);
    // A pod whose only container is the proxy is meant to run.
    if ends && classic && !subject.application().is_empty() {
        let port = subject.proxy_config.status_port;
        warnings.push(format!(
            "the pod will not end by itself, as istio-proxy runs on: annotate {}: \"true\" (Kubernetes 1.29 or newer), or POST http://localhost:{port}/quitquitquit when done",
            names::annotations::NATIVE_SIDECAR
        ));
    }
}

/// Istio injects outside its discovery selectors as well, and so do we.
fn discovery(subject: &Subject<'_>, about: &super::cluster::Namespace, warnings: &mut Vec<String>) {
    let selectors = subject.settings.mesh.other.get("discoverySelectors").and_then(serde_json::Value::as_array);
    let Some(selectors) = selectors.filter(|selectors| !selectors.is_empty()) else { return };
    let selected = selectors.iter().any(|one| {
        let parsed = crds::parse(one.clone()).ok();
        // What cannot be read selects nothing, and is the analysis' to tell.
        parsed.is_some_and(|selector| selector::matches(&selector, &about.labels).unwrap_or(false))
    });
    if !selected {
        warnings.push(format!(
            "namespace {} is outside MeshConfig's discoverySelectors: a control plane that follows them gives this pod no root certificate and no configuration",
            subject.namespace
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, NO_EFFECT, of_annotations};

    #[test]
    fn what_has_no_effect_is_said() {
        let rows = [
            ("sidecar.istio.io/bootstrapOverride", "mine", Some("has no effect: the proxy has no Envoy bootstrap")),
            ("sidecar.istio.io/statsInclusionPrefixes", "x", Some("has no effect")),
            ("ambient.istio.io/redirection", "enabled", Some("has no effect: there is no ambient mode")),
            ("sidecar.istio.io/proxyCpu", "1", Some("is not known and has no effect")),
            ("sidecar.istio.io/rewriteAppHTTPProbers", "maybe", Some("counts as \"false\"")),
            ("sidecar.istio.io/proxyCPU", "1", None),
            ("sidecar.istio.io/interceptionMode", "REDIRECT", None),
            ("example.org/anything", "x", None),
        ];
        for (name, value, expected) in rows {
            let mut warnings = Vec::new();
            of_annotations(&[(name.to_owned(), value.to_owned())].into(), &mut warnings);
            match expected {
                None => assert_eq!(warnings, Vec::<String>::new(), "{name}"),
                Some(said) => {
                    assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
                    assert!(warnings[0].contains(name) && warnings[0].contains(said), "{warnings:?}");
                }
            }
        }
    }

    #[test]
    fn no_annotation_is_in_both_lists() {
        for (name, _) in NO_EFFECT {
            assert!(!KNOWN.contains(&name), "{name}");
        }
    }
}
