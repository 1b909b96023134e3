//! Injected pods as files that a person can review (`tests/snapshots/`), and what must hold for every pod.

#![allow(clippy::unwrap_used)] // a test fails by panicking; clippy.toml reaches only what is marked #[test]

use std::collections::BTreeMap;

use forestay_webhook::inject::settings::Settings;
use forestay_webhook::inject::{Request, inject, patch};
use proptest::prelude::*;
use serde_json::{Value, json};

fn settings(revision: &str, mesh: &str, values: &Value, native: bool) -> Settings {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let mut values = values.clone();
    // The goldens do not change with every version.
    values["global"]["tag"] = json!("1.2.3");
    let injector = map(&[("config", ""), ("values", &values.to_string())]);
    Settings::read(revision, &map(&[("mesh", mesh)]), &injector, native).unwrap()
}

fn injected(pod: &Value, settings: &Settings) -> Value {
    inject(Request { pod, namespace: "bookinfo", variables: &[] }, settings).unwrap().pod.unwrap()
}

fn reviews() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "reviews-v1-7f-",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "7f"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-7f", "uid": "1", "controller": true},
            ],
        },
        "spec": {
            "serviceAccountName": "bookinfo-reviews",
            "containers": [{
                "name": "reviews", "image": "reviews:1", "ports": [{"containerPort": 9080}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    })
}

fn busy() -> Value {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = json!({
        "prometheus.io/scrape": "true", "prometheus.io/port": "9080", "prometheus.io/path": "/m",
        "proxy.istio.io/config": "concurrency: 2\nproxyMetadata: {A: b}\n",
        "sidecar.istio.io/proxyCPU": "50m",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
        "traffic.sidecar.istio.io/includeInboundPorts": "9080",
    });
    pod["spec"]["initContainers"] = json!([{"name": "wait", "image": "busybox"}]);
    let container = &mut pod["spec"]["containers"][0];
    container["ports"] = json!([{"containerPort": 9080, "name": "web"}]);
    container["livenessProbe"] =
        json!({"httpGet": {"path": "/live", "port": "web", "scheme": "HTTPS"}, "timeoutSeconds": 2});
    container["readinessProbe"] = json!({"tcpSocket": {"port": 9080}});
    container["startupProbe"] = json!({"grpc": {"port": 9080, "service": "s"}});
    container["lifecycle"] = json!({"preStop": {"httpGet": {"path": "/stop", "port": 9080}}});
    pod
}

fn overridden() -> Value {
    let mut pod = reviews();
    let own = json!({
        "name": "istio-proxy", "image": "auto", "env": [{"name": "EXTRA", "value": "1"}],
        "resources": {"requests": {"cpu": "1"}}, "securityContext": {"runAsUser": 2000},
    });
    pod["spec"]["containers"].as_array_mut().unwrap().push(own);
    pod
}

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

fn probe() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(json!({"exec": {"command": ["true"]}}))),
        Just(Some(json!({"httpGet": {"path": "/a", "port": "web"}}))),
        Just(Some(json!({"httpGet": {"port": 8080, "scheme": "HTTPS", "host": "h"}, "timeoutSeconds": 3}))),
        Just(Some(json!({"httpGet": {"port": "nowhere"}}))),
        Just(Some(json!({"httpGet": {"port": 15020, "path": "/x"}}))),
        Just(Some(json!({"tcpSocket": {"port": 81}}))),
        Just(Some(json!({"grpc": {"port": 82}}))),
    ]
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    (proptest::collection::vec(probe(), 3), any::<bool>()).prop_map(move |(probes, future)| {
        let mut container = json!({"name": name, "image": "x", "ports": [{"name": "web", "containerPort": 8080}]});
        for (field, probe) in ["livenessProbe", "readinessProbe", "startupProbe"].iter().zip(probes) {
            if let Some(probe) = probe {
                container[field] = probe;
            }
        }
        if future {
            container["fieldOfTheFuture"] = json!({"a": [1, null]});
        }
        container
    })
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pool = vec![
        ("sidecar.istio.io/nativeSidecar", "false"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
        ("status.sidecar.istio.io/port", "1234"),
        ("status.sidecar.istio.io/port", "0"),
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/scrape", "false"),
        ("prometheus.io/port", "80"),
        ("prometheus.io.path", "/m"),
        ("prometheus.io/port", "15020"),
        ("prometheus.istio.io/merge-metrics", "false"),
        ("prometheus.istio.io/scrape-targets", "8080:/a,8081"),
        ("proxy.istio.io/config", "concurrency: 0"),
        ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("sidecar.istio.io/userVolume", r#"{"v": {"emptyDir": {}}}"#),
        ("sidecar.istio.io/status", "injected"),
        ("kubectl.kubernetes.io/default-container", "b"),
    ];
    proptest::collection::vec(proptest::sample::select(pool), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

fn own_proxy() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(json!({"name": "istio-proxy", "image": "auto"}))),
        1 => Just(Some(json!({"name": "istio-proxy", "image": "mine", "args": ["x"], "securityContext": {"runAsUser": 7}}))),
    ]
}

prop_compose! {
    fn pods()(
        annotations in annotations(), a in container("a"), b in container("b"), init in container("init"),
        with_init in any::<bool>(), with_labels in any::<bool>(), own in own_proxy(), future in any::<bool>(),
    ) -> Value {
        let mut pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [a, b]}});
        if !annotations.is_empty() {
            pod["metadata"]["annotations"] = json!(annotations);
        }
        if with_labels {
            pod["metadata"]["labels"] = json!({"app": "p", "security.istio.io/tlsMode": "disabled"});
        }
        if with_init {
            pod["spec"]["initContainers"] = json!([init]);
        }
        if let Some(own) = own {
            pod["spec"]["containers"].as_array_mut().unwrap().push(own);
        }
        if future {
            pod["spec"]["fieldOfTheFuture"] = json!([true]);
        }
        pod
    }
}

/// A container without what injection may change in it.
fn own_fields(container: &Value) -> Value {
    let mut own = container.clone();
    for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        own.as_object_mut().unwrap().remove(field);
    }
    own
}

proptest! {
    #[test]
    fn for_every_pod(pod in pods(), native in any::<bool>(), revision in prop_oneof![Just("default"), Just("canary")]) {
        let settings = settings(revision, "", &json!({}), native);
        let once = injected(&pod, &settings);

        // The patch says exactly what changed.
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch::between(&pod, &once)).unwrap();
        prop_assert_eq!(&patched, &once);

        // Injecting again gives the same.
        let twice = injected(&once, &settings);
        prop_assert_eq!(&twice, &once);

        // What is the user's stays as it was.
        let all = |pod: &Value| -> Vec<Value> {
            let lists = ["containers", "initContainers"].iter().filter_map(|list| pod["spec"][list].as_array().cloned());
            lists.flatten().collect()
        };
        for before in all(&pod).iter().filter(|container| container["name"] != "istio-proxy") {
            let containers = all(&once);
            let after = containers.iter().find(|container| container["name"] == before["name"]).unwrap();
            prop_assert_eq!(own_fields(after), own_fields(before));
        }
        prop_assert_eq!(&once["spec"]["fieldOfTheFuture"], &pod["spec"]["fieldOfTheFuture"]);

        // And there is exactly one proxy.
        prop_assert_eq!(all(&once).iter().filter(|container| container["name"] == "istio-proxy").count(), 1);
    }
}
