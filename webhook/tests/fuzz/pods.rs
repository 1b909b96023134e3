//! Arbitrary pods: what people write, what they mistype, and what no type of ours knows.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::entropy::Entropy;
use crate::json::{self, strings, text};

const LABELS: [&str; 12] = [
    "app",
    "version",
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
    "sidecar.istio.io/inject",
    "istio.io/rev",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
    "topology.istio.io/network",
    "security.istio.io/tlsMode",
    "pod-template-hash",
    "networking.istio.io/tunnel",
];

const ANNOTATIONS: [&str; 56] = [
    "sidecar.istio.io/inject",
    "sidecar.istio.io/status",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/discoveryAddress",
    "sidecar.istio.io/proxyImage",
    "sidecar.istio.io/proxyImageType",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/bootstrapOverride",
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/statsInclusionRegexps",
    "sidecar.istio.io/statsHistogramBuckets",
    "sidecar.istio.io/statsHistogramBins",
    "sidecar.istio.io/statsFlushInterval",
    "sidecar.istio.io/statsEvictionInterval",
    "sidecar.istio.io/statsCompression",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/nativeSidecar",
    "sidecar.istio.io/extraStatTags",
    "sidecar.istio.io/capNetBindService",
    "status.sidecar.istio.io/port",
    "readiness.status.sidecar.istio.io/applicationPorts",
    "readiness.status.sidecar.istio.io/initialDelaySeconds",
    "readiness.status.sidecar.istio.io/periodSeconds",
    "readiness.status.sidecar.istio.io/failureThreshold",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "istio.io/reroute-virtual-interfaces",
    "inject.istio.io/templates",
    "proxy.istio.io/config",
    "proxy.istio.io/overrides",
    "prometheus.io/scrape",
    "prometheus.io/port",
    "prometheus.io/path",
    "prometheus.io/scheme",
    "prometheus.istio.io/merge-metrics",
    "prometheus.istio.io/scrape-targets",
    "prometheus.istio.io/secure-port",
    "kubectl.kubernetes.io/default-container",
    "k8s.v1.cni.cncf.io/networks",
    "apm.datadoghq.com/env",
    "istio.io/rev",
];

/// Annotations with a value that is in order, so that an injection gets further than its first check.
const GOOD: [(&str, &str); 22] = [
    ("sidecar.istio.io/inject", "true"),
    ("sidecar.istio.io/nativeSidecar", "false"),
    ("sidecar.istio.io/interceptionMode", "TPROXY"),
    ("sidecar.istio.io/interceptionMode", "NONE"),
    ("sidecar.istio.io/proxyCPU", "100m"),
    ("sidecar.istio.io/userVolume", "{\"v\":{\"emptyDir\":{}}}"),
    ("sidecar.istio.io/userVolumeMount", "{\"v\":{\"mountPath\":\"/v\"}}"),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "true"),
    ("sidecar.istio.io/capNetBindService", "true"),
    ("status.sidecar.istio.io/port", "0"),
    ("status.sidecar.istio.io/port", "8888"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306, 6379"),
    ("traffic.sidecar.istio.io/includeInboundPorts", "*"),
    ("inject.istio.io/templates", "sidecar"),
    ("inject.istio.io/templates", "gateway"),
    ("inject.istio.io/templates", "grpc-agent"),
    ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true"),
    ("proxy.istio.io/config", "proxyMetadata: {A: b, ISTIO_META_DNS_CAPTURE: \"true\"}"),
    ("proxy.istio.io/overrides", "{\"containers\":[{\"name\":\"istio-proxy\",\"image\":\"auto\"}]}"),
    ("prometheus.io/port", "9090"),
    ("prometheus.istio.io/scrape-targets", "9090:/metrics,9091:/other"),
    ("apm.datadoghq.com/env", "{\"DD_ENV\":\"prod\"}"),
];

/// Fields newer than our API types, which no injection may lose.
pub(crate) const FUTURE: &str = "fieldOfAFutureKubernetes";

/// A pod; most of them fit Kubernetes' types.
pub(crate) fn pod(e: &mut Entropy<'_>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(e), "spec": spec(e)});
    if e.one_in(4) {
        for _ in 0..=e.below(3) {
            json::mutate(e, &mut pod);
        }
    }
    pod
}

/// A pod that Kubernetes would take: the names of its containers differ, and the marks of an injection are not there.
pub(crate) fn plausible(e: &mut Entropy<'_>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(e), "spec": spec(e)});
    let mut names = HashSet::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        if let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) {
            containers.retain(|container| {
                let name = container["name"].as_str().unwrap_or_default();
                !name.is_empty() && !matches!(name, "istio-init" | "istio-validation") && names.insert(name.to_owned())
            });
        }
    }
    if let Some(annotations) = pod["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !matches!(name.as_str(), "sidecar.istio.io/status" | "proxy.istio.io/overrides"));
    }
    pod
}

fn metadata(e: &mut Entropy<'_>) -> Value {
    let mut metadata = Map::new();
    if !e.one_in(4) {
        metadata.insert("name".to_owned(), json!("reviews-v1-7f"));
    }
    if e.one_in(3) {
        metadata.insert("generateName".to_owned(), json!("reviews-v1-"));
    }
    if e.one_in(3) {
        metadata.insert("namespace".to_owned(), json!(e.pick(&["default", "", "kube-system", "other"])));
    }
    if !e.one_in(3) {
        metadata.insert("labels".to_owned(), strings(e, &LABELS, 5));
    }
    if !e.one_in(3) {
        metadata.insert("annotations".to_owned(), annotations(e));
    }
    if e.one_in(3) {
        let kind = e.pick(&["ReplicaSet", "Job", "StatefulSet", "ReplicationController", "Rollout"]);
        let name = e.pick(&["reviews-v1-7f", "night-28000000", "-12345678", "7f", ""]);
        metadata.insert(
            "ownerReferences".to_owned(),
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]),
        );
    }
    Value::Object(metadata)
}

fn annotations(e: &mut Entropy<'_>) -> Value {
    let mut members = Map::new();
    for _ in 0..e.below(6) {
        let (name, value) = GOOD[e.below(GOOD.len())];
        members.insert(name.to_owned(), json!(value));
    }
    if e.one_in(3) {
        members.insert(e.pick(&ANNOTATIONS).to_owned(), Value::String(text(e)));
    }
    Value::Object(members)
}

fn spec(e: &mut Entropy<'_>) -> Value {
    let mut spec = Map::new();
    spec.insert("containers".to_owned(), containers(e));
    if e.one_in(2) {
        spec.insert("initContainers".to_owned(), containers(e));
    }
    if e.one_in(8) {
        spec.insert("ephemeralContainers".to_owned(), containers(e));
    }
    if e.one_in(3) {
        let name = e.pick(&["data", "istio-token", "istio-envoy", "v", "workload-socket"]);
        spec.insert("volumes".to_owned(), json!([{"name": name, "emptyDir": {}}]));
    }
    if e.one_in(10) {
        spec.insert("hostNetwork".to_owned(), json!(true));
    }
    if e.one_in(4) {
        spec.insert(
            "securityContext".to_owned(),
            json!({"runAsUser": e.pick(&[&0, &1337, &1000]), "fsGroup": 1337, "sysctls": [{"name": "a", "value": "b"}]}),
        );
    }
    if e.one_in(6) {
        spec.insert("imagePullSecrets".to_owned(), json!([{"name": "a"}]));
    }
    if e.one_in(8) {
        let os = e.pick(&["windows", "linux"]);
        spec.insert("os".to_owned(), json!({"name": os}));
        spec.insert("nodeSelector".to_owned(), json!({"kubernetes.io/os": os}));
    }
    if e.one_in(8) {
        spec.insert("dnsConfig".to_owned(), json!({"searches": ["global"]}));
    }
    if e.one_in(3) {
        spec.insert(FUTURE.to_owned(), json!({"deep": [1, {"er": true}]}));
    }
    Value::Object(spec)
}

fn containers(e: &mut Entropy<'_>) -> Value {
    (0..e.below(4)).map(|index| container(e, index)).collect()
}

fn container(e: &mut Entropy<'_>, index: usize) -> Value {
    let name = match e.below(8) {
        0 => "istio-proxy".to_owned(),
        1 => e.pick(&["istio-init", "istio-validation", "enable-core-dump", ""]).to_owned(),
        _ => format!("app-{index}"),
    };
    let mut container = Map::new();
    container.insert("name".to_owned(), json!(name));
    container.insert("image".to_owned(), json!(e.pick(&["app:1", "auto", ""])));
    if e.one_in(2) {
        container.insert(
            "ports".to_owned(),
            json!([{"name": e.pick(&["http", "metrics"]), "containerPort": e.pick(&[&8080, &15020, &15001])}]),
        );
    }
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        if e.one_in(3) {
            let mut checked = handler(e);
            if e.one_in(2) {
                checked["timeoutSeconds"] = json!(e.below(9));
            }
            container.insert(probe.to_owned(), checked);
        }
    }
    if e.one_in(4) {
        container.insert("lifecycle".to_owned(), json!({"preStop": handler(e), "postStart": handler(e)}));
    }
    if e.one_in(3) {
        container.insert("env".to_owned(), json!([{"name": "ISTIO_KUBE_APP_PROBERS", "value": text(e)}]));
    }
    if e.one_in(4) {
        container.insert("securityContext".to_owned(), json!({"runAsUser": e.below(2000), "runAsGroup": 1337}));
    }
    if e.one_in(4) {
        container.insert("resources".to_owned(), json!({"limits": {"cpu": e.pick(&["1", "100m"])}}));
    }
    if e.one_in(6) {
        container.insert("restartPolicy".to_owned(), json!("Always"));
    }
    if e.one_in(4) {
        container.insert("volumeMounts".to_owned(), json!([{"name": "data", "mountPath": "/data"}]));
    }
    if e.one_in(5) {
        container.insert(FUTURE.to_owned(), json!("kept"));
    }
    Value::Object(container)
}

fn handler(e: &mut Entropy<'_>) -> Value {
    let port = match e.below(5) {
        0 => json!(8080),
        1 => json!("http"),
        2 => json!(15020),
        3 => json!("unknown"),
        _ => json!("8080"),
    };
    match e.below(6) {
        0 => json!({"httpGet": {"port": port, "path": "/ready"}}),
        1 => json!({"httpGet": {"port": port, "scheme": "HTTPS", "httpHeaders": [{"name": "a", "value": text(e)}]}}),
        2 => json!({"tcpSocket": {"port": port}}),
        3 => json!({"grpc": {"port": 9090, "service": text(e)}}),
        4 => json!({"exec": {"command": ["true"]}}),
        _ => json!({}),
    }
}
