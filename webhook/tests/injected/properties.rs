//! What must hold for every pod.

use std::collections::BTreeMap;

use forestay_webhook::inject::patch;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CUSTOM, injected, settings_with};

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
        ("inject.istio.io/templates", "sidecar,custom"),
        ("inject.istio.io/templates", "custom"),
        ("inject.istio.io/templates", "grpc-simple"),
        ("inject.istio.io/templates", "grpc-agent"),
        ("inject.istio.io/templates", "gateway"),
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
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

/// What of a container must be the same after injection: all but probes and hooks. Templates may add variables and
/// mounts, behind which the user's own stand.
fn unchanged(before: &Value, after: &Value) -> bool {
    let own = before.as_object().unwrap().iter();
    let mut own = own.filter(|(name, _)| !name.ends_with("Probe") && *name != "lifecycle");
    own.all(|(name, value)| match (value, &after[name]) {
        (Value::Array(value), Value::Array(after)) if matches!(name.as_str(), "env" | "volumeMounts") => {
            value.iter().all(|one| after.contains(one))
        }
        (value, after) => value == after,
    })
}

proptest! {
    #[test]
    fn for_every_pod(pod in pods(), native in any::<bool>(), revision in prop_oneof![Just("default"), Just("canary")]) {
        let settings = settings_with(CUSTOM, revision, "", &json!({"global": {"hub": "h"}}), native);
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
            prop_assert!(unchanged(before, after), "{} became {}", before, after);
        }
        prop_assert_eq!(&once["spec"]["fieldOfTheFuture"], &pod["spec"]["fieldOfTheFuture"]);

        // And there is never a second proxy.
        let proxies = all(&once).iter().filter(|container| container["name"] == "istio-proxy").count();
        prop_assert!(proxies <= 1);
        let templates = pod["metadata"]["annotations"]["inject.istio.io/templates"].as_str().unwrap_or("sidecar");
        prop_assert!(proxies == 1 || templates == "grpc-simple");
    }
}
