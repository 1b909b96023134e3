//! Injected pods as files that a person can review (`snapshots/`).

use forestay_webhook::inject::patch;
use serde_json::json;

use super::{CUSTOM, annotated, busy, injected, outcome, overridden, plain, reviews, settings, settings_with};

#[test]
fn a_native_sidecar() {
    insta::assert_yaml_snapshot!(injected(&reviews(), &settings("default", "", &json!({}), true)));
}

#[test]
fn a_classic_sidecar_by_annotation() {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = json!({"sidecar.istio.io/nativeSidecar": "false"});
    insta::assert_yaml_snapshot!(injected(&pod, &settings("default", "", &json!({}), true)));
}

#[test]
fn a_classic_sidecar_that_the_application_waits_for() {
    let mesh = "defaultConfig: {holdApplicationUntilProxyStarts: true}";
    insta::assert_yaml_snapshot!(injected(&reviews(), &settings("default", mesh, &json!({}), false)));
}

#[test]
fn probes_metrics_and_traffic_by_annotation() {
    insta::assert_yaml_snapshot!(injected(&busy(), &settings("default", "", &json!({}), true)));
}

#[test]
fn a_named_revision_in_another_namespace() {
    let mesh = "{trustDomain: example.org, defaultConfig: {discoveryAddress: 'istiod-canary.mesh.svc:15012'}}";
    let values = json!({"global": {"istioNamespace": "mesh", "imagePullSecrets": ["pull"], "network": "n1"}});
    insta::assert_yaml_snapshot!(injected(&reviews(), &settings("canary", mesh, &values, true)));
}

#[test]
fn the_users_own_proxy_container() {
    insta::assert_yaml_snapshot!(injected(&overridden(), &settings("default", "", &json!({}), true)));
}

#[test]
fn template_gateway() {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "gateway"});
    pod["spec"]["containers"] = json!([{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8080}]}]);
    insta::assert_yaml_snapshot!(injected(&pod, &plain()));
}

#[test]
fn template_grpc_simple() {
    let pod = annotated(&json!({"inject.istio.io/templates": "grpc-simple"}));
    insta::assert_yaml_snapshot!(injected(&pod, &plain()));
}

#[test]
fn template_grpc_agent() {
    let pod = annotated(&json!({"inject.istio.io/templates": "grpc-agent"}));
    let outcome = outcome(&pod, &plain()).unwrap();
    insta::assert_yaml_snapshot!(outcome.pod.unwrap());
    assert!(outcome.warnings[0].contains("holdApplicationUntilProxyStarts"), "{:?}", outcome.warnings);
    let held = annotated(&json!({
        "inject.istio.io/templates": "grpc-agent",
        "proxy.istio.io/config": r#"{"holdApplicationUntilProxyStarts": true}"#,
    }));
    let warnings = self::outcome(&held, &plain()).unwrap().warnings;
    assert!(warnings.is_empty(), "the application waits for its agent: {warnings:?}");
}

#[test]
fn template_of_the_user() {
    let settings = settings_with(CUSTOM, "default", "", &json!({"global": {"hub": "example.org/mesh"}}), true);
    let pod = annotated(&json!({"inject.istio.io/templates": "both"}));
    let once = injected(&pod, &settings);
    insta::assert_yaml_snapshot!(once);
    assert_eq!(injected(&once, &settings), once, "injecting again gives the same");
}

#[test]
fn redirection_by_a_cni_plugin() {
    let values = json!({"pilot": {"cni": {"enabled": true, "provider": "multus"}}});
    let pod = annotated(&json!({
        "k8s.v1.cni.cncf.io/networks": "other",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
    }));
    insta::assert_yaml_snapshot!(injected(&pod, &settings("default", "", &values, true)));
}

/// Each annotation, and what it changes: the difference to the same pod without it.
#[test]
fn annotations_one_by_one() {
    let rows = [
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
        ("status.sidecar.istio.io/port", "15999"),
        ("readiness.status.sidecar.istio.io/initialDelaySeconds", "7"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "8"),
        ("readiness.status.sidecar.istio.io/failureThreshold", "9"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.1.0.0/16"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "80"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "81"),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "82"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "83"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth1"),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
        ("istio.io/reroute-virtual-interfaces", "net2"),
        ("prometheus.istio.io/merge-metrics", "false"),
        ("prometheus.istio.io/scrape-targets", "9090:/a,9091:/b"),
        ("prometheus.io/scrape", "false"),
        ("prometheus.io/port", "9090"),
        ("proxy.istio.io/config", "{concurrency: 3, proxyMetadata: {ISTIO_DUAL_STACK: 'true'}}"),
        ("sidecar.istio.io/proxyCPU", "1"),
        ("sidecar.istio.io/proxyMemory", "1Gi"),
        ("sidecar.istio.io/proxyCPULimit", "2"),
        ("sidecar.istio.io/proxyMemoryLimit", "2Gi"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
        ("sidecar.istio.io/proxyImage", "example.org/proxy:1"),
        ("sidecar.istio.io/proxyImageType", "debug"),
        ("sidecar.istio.io/logLevel", "debug"),
        ("sidecar.istio.io/agentLogLevel", "default:debug"),
        ("sidecar.istio.io/componentLogLevel", "misc:debug"),
        ("sidecar.istio.io/userVolume", r#"{"certs": {"secret": {"secretName": "x"}}}"#),
        ("sidecar.istio.io/userVolumeMount", r#"{"certs": {"mountPath": "/etc/certs"}}"#),
        ("sidecar.istio.io/capNetBindService", "true"),
        ("kubectl.kubernetes.io/default-container", "other"),
    ];
    let mut pod = reviews();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 9080}});
    let before = injected(&pod, &plain());
    let mut changes = serde_json::Map::new();
    for (name, value) in rows {
        pod["metadata"]["annotations"] = json!({name: value});
        let mut after = injected(&pod, &plain());
        // The annotation itself is no news.
        if before["metadata"]["annotations"][name].is_null() && after["metadata"]["annotations"][name] == value {
            after["metadata"]["annotations"].as_object_mut().unwrap().shift_remove(name);
        }
        let patch = patch::between(&before, &after);
        let lines = patch.iter().map(|operation| {
            let operation = json!(operation);
            let value = operation.get("value").map(|value| format!(" {value}")).unwrap_or_default();
            let text = |name: &str| operation[name].as_str().unwrap().to_owned();
            json!(format!("{} {}{value}", text("op"), text("path")))
        });
        changes.insert(format!("{name}: {value}"), lines.collect());
    }
    insta::assert_yaml_snapshot!(changes);
}
