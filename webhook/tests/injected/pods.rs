//! Pods of which something special must hold.

use std::collections::BTreeMap;

use forestay_webhook::inject::cluster::{Cluster, Namespace};
use forestay_webhook::inject::{Request, inject};
use serde_json::{Value, json};

use super::{CUSTOM, annotated, busy, injected, overridden, plain, reviews, settings, settings_with};

#[test]
fn openshift_chooses_the_proxys_user() {
    let annotations = BTreeMap::from([("openshift.io/sa.scc.uid-range".to_owned(), "1000620000/10000".to_owned())]);
    let about = Namespace::new(BTreeMap::new(), annotations);
    // OpenShift has put its own choice into every container of the pod, the user's istio-proxy among them.
    let mut pod = overridden();
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container["securityContext"] = json!({"runAsUser": 1_000_620_000});
    }
    let request = Request { pod: &pod, namespace: "bookinfo", about: Some(&about), variables: &[] };
    let pod = inject(request, &plain()).unwrap().pod.unwrap();
    let [init, proxy] = [0, 1].map(|index| pod["spec"]["initContainers"][index].clone());
    assert_eq!(proxy["securityContext"]["runAsUser"], 1_000_629_999);
    assert_eq!(proxy["securityContext"]["runAsGroup"], 1_000_629_999);
    let args: Vec<&str> = init["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(args.windows(2).any(|pair| pair == ["-u", "1000629999"]), "{args:?}");
}

#[test]
fn the_network_is_the_pods_the_paths_the_settings_or_the_mesh_namespaces() {
    let settings = |network: &str| settings("default", "", &json!({"global": {"network": network}}), true);
    let mesh =
        Namespace::new(BTreeMap::from([("topology.istio.io/network".to_owned(), "n4".to_owned())]), BTreeMap::new());
    let cluster = Cluster { namespaces: [("istio-system".to_owned(), mesh.into())].into(), ..Default::default() };
    let rows = [
        ("the pod's own", Some("n1"), Some("n2"), "n3", "n1"),
        ("the path's", None, Some("n2"), "n3", "n2"),
        ("the settings'", None, None, "n3", "n3"),
        ("the mesh namespace's", None, None, "", "n4"),
    ];
    for (name, own, path, set, expected) in rows {
        let mut pod = reviews();
        if let Some(own) = own {
            pod["metadata"]["labels"]["topology.istio.io/network"] = json!(own);
        }
        let variables: Vec<_> =
            path.map(|path| ("ISTIO_META_NETWORK".to_owned(), path.to_owned())).into_iter().collect();
        let settings = settings(set).within(cluster.clone().into());
        let request = Request { pod: &pod, namespace: "bookinfo", about: None, variables: &variables };
        let pod = inject(request, &settings).unwrap().pod.unwrap();
        assert_eq!(pod["metadata"]["labels"]["topology.istio.io/network"], expected, "{name}");
        let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let own: Vec<_> = env.iter().filter(|one| one["name"] == "ISTIO_META_NETWORK").collect();
        assert_eq!(own, [&json!({"name": "ISTIO_META_NETWORK", "value": expected})], "{name}");
    }
}

#[test]
fn a_pod_with_a_node_follows_its_kubelet() {
    let cluster = Cluster { nodes: [("old".to_owned(), false), ("new".to_owned(), true)].into(), ..Default::default() };
    let rows = [
        ("auto: all kubelets", "auto", None, false),
        ("auto: the node's kubelet", "auto", Some("new"), true),
        ("auto: an old one", "auto", Some("old"), false),
        ("always", "true", Some("old"), true),
        ("never", "false", Some("new"), false),
    ];
    for (name, mode, node, native) in rows {
        let values = json!({"pilot": {"env": {"ENABLE_NATIVE_SIDECARS": mode}}});
        let settings = settings("default", "", &values, false).within(cluster.clone().into());
        let mut pod = reviews();
        if let Some(node) = node {
            pod["spec"]["nodeName"] = json!(node);
        }
        let pod = injected(&pod, &settings);
        assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), if native { 1 } else { 2 }, "{name}");
    }
}

/// `kubectl debug --copy-to`: the copy carries what was injected, without labels and probes, perhaps with another image.
#[test]
fn a_copy_for_debugging_has_one_proxy() {
    let mut copy = injected(&busy(), &plain());
    copy["metadata"] = json!({"name": "reviews-debug", "annotations": copy["metadata"]["annotations"]});
    let container = copy["spec"]["containers"][0].as_object_mut().unwrap();
    container.retain(|name, _| !name.ends_with("Probe") && name != "lifecycle");
    container.insert("image".to_owned(), json!("busybox"));
    copy["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "debugger", "image": "busybox", "stdin": true}));
    let again = injected(&copy, &plain());
    let names = |list: &str| -> Vec<String> {
        again["spec"][list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("containers"), ["reviews", "debugger"]);
    assert_eq!(names("initContainers"), ["istio-init", "istio-proxy", "wait"]);
    assert_eq!(again["spec"]["containers"][0]["image"], "busybox");
    assert_eq!(again["spec"]["containers"][0].get("livenessProbe"), None);
    let volumes = names("volumes");
    assert_eq!(volumes.iter().collect::<std::collections::BTreeSet<_>>().len(), volumes.len(), "{volumes:?}");
}

/// The API server names a pod of a template, and knows its namespace, only after admission.
#[test]
fn a_pod_without_name_and_namespace_has_a_workload() {
    let rows = [
        ("of a ReplicaSet", reviews(), "reviews-v1", "deployments/reviews-v1"),
        (
            "of nobody",
            json!({"metadata": {"generateName": "lone-"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}),
            "lone-",
            "pods/lone-",
        ),
        (
            "of nobody, without any name",
            json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "x"}]}}),
            "",
            "",
        ),
    ];
    for (name, pod, workload, owner) in rows {
        let pod = injected(&pod, &plain());
        let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let value = |name: &str| {
            env.iter()
                .find(|one| one["name"] == name)
                .and_then(|one| one["value"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(value("ISTIO_META_WORKLOAD_NAME"), workload, "{name}");
        assert!(value("ISTIO_META_OWNER").ends_with(owner), "{name}: {}", value("ISTIO_META_OWNER"));
        assert!(owner.is_empty() || value("ISTIO_META_OWNER").contains("/namespaces/bookinfo/"), "{name}");
    }
}

#[test]
fn ephemeral_containers_stay_as_they_are() {
    let mut pod = reviews();
    pod["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x", "targetContainerName": "reviews"}]);
    assert_eq!(injected(&pod, &plain())["spec"]["ephemeralContainers"], pod["spec"]["ephemeralContainers"]);
}

/// Certificates and sockets may come from another driver: these three volumes are the pod's own, where it has them.
#[test]
fn a_pods_own_certificate_volumes_stay() {
    let csi = json!({"driver": "csi.spiffe.io", "readOnly": true});
    for name in ["workload-socket", "credential-socket", "workload-certs"] {
        let mut pod = reviews();
        pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": name, "csi": csi}));
        let once = injected(&pod, &plain());
        let volumes = once["spec"]["volumes"].as_array().unwrap();
        let own: Vec<&Value> = volumes.iter().filter(|volume| volume["name"] == name).collect();
        assert_eq!(own, [&json!({"name": name, "csi": csi})], "{name}");
        assert_eq!(injected(&once, &plain()), once, "{name}: injecting again gives the same");
    }
}

/// What our API types do not know yet, at every depth that injection touches.
#[test]
fn fields_of_the_future_stay() {
    let future = json!({"a": [1, null]});
    let mut pod = overridden();
    let get = |kind: &str| json!({kind: {"port": 9080, "future": future}, "future": future});
    let container = json!({
        "name": "b", "image": "x", "future": future,
        "env": [{"name": "A", "valueFrom": {"future": future}}],
        "ports": [{"containerPort": 80, "future": future}],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "future": future}],
        "resources": {"future": future},
        "securityContext": {"future": future, "capabilities": {"future": future}},
        "livenessProbe": get("httpGet"), "readinessProbe": {"future": future},
        "lifecycle": {"preStop": get("httpGet"), "future": future},
    });
    pod["future"] = future.clone();
    pod["metadata"]["future"] = future.clone();
    pod["metadata"]["ownerReferences"][0]["future"] = future.clone();
    pod["spec"]["future"] = future.clone();
    pod["spec"]["securityContext"] = json!({"future": future});
    pod["spec"]["volumes"][0]["emptyDir"]["future"] = future.clone();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "v", "future": future}));
    pod["spec"]["initContainers"] = json!([container.clone()]);
    pod["spec"]["ephemeralContainers"] = json!([{"name": "e", "future": future}]);
    let own = pod["spec"]["containers"].as_array_mut().unwrap();
    for one in own.iter_mut() {
        one["future"] = future.clone();
    }
    own.push(container);
    let count = |value: &Value| value.to_string().matches("\"future\":{\"a\":[1,null]}").count();
    let once = injected(&pod, &plain());
    let text = once["metadata"]["annotations"]["proxy.istio.io/overrides"].as_str().unwrap();
    assert!(text.contains("\"future\""), "the user's istio-proxy is kept whole: {text}");
    assert_eq!(count(&once), count(&pod), "{once:#}");
    assert_eq!(injected(&once, &plain()), once, "injecting again gives the same");
}

/// Templates in any order: of several that speak of the proxy there is one proxy, and it is where `sidecar` has it.
#[test]
fn the_order_of_templates_does_not_move_the_proxy() {
    let rows = [
        ("sidecar,custom", true, true),
        ("custom,sidecar", true, true),
        ("custom,sidecar", false, false),
        ("gateway,sidecar", true, true),
        ("sidecar,gateway", true, true),
        ("gateway,custom", true, false),
    ];
    for (templates, native, init) in rows {
        let settings = settings_with(CUSTOM, "default", "", &json!({"global": {"hub": "h"}}), native);
        let once = injected(&annotated(&json!({"inject.istio.io/templates": templates})), &settings);
        let proxies = |list: &str| -> Vec<Value> {
            let containers = once["spec"][list].as_array().cloned().unwrap_or_default();
            containers.into_iter().filter(|one| one["name"] == "istio-proxy").collect()
        };
        let (of_init, ordinary) = (proxies("initContainers"), proxies("containers"));
        assert_eq!((of_init.len(), ordinary.len()), if init { (1, 0) } else { (0, 1) }, "{templates}");
        // Only init containers may say it.
        assert!(ordinary.iter().all(|one| one["restartPolicy"].is_null()), "{templates}");
        assert!(of_init.iter().all(|one| one["restartPolicy"] == "Always"), "{templates}");
        assert_eq!(injected(&once, &settings), once, "{templates}: injecting again gives the same");
    }
}

/// The API server refuses containers of one name after injection, which must get so far: the first is not written over all.
#[test]
fn containers_of_one_name_do_not_grow() {
    let mut pod = reviews();
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "istio-proxy", "image": "auto", "args": ["x".repeat(100_000)]}));
    containers.extend((0..900).map(|_| json!({"name": "istio-proxy"})));
    for native in [true, false] {
        let after = injected(&pod, &settings("default", "", &json!({}), native));
        assert!(after.to_string().len() < 500_000, "{}", after.to_string().len());
    }
}

/// As the user's own `istio-proxy` does.
#[test]
fn a_users_own_istio_init_comes_back() {
    let mut pod = reviews();
    pod["spec"]["initContainers"] = json!([{"name": "wait", "image": "w"}, {"name": "istio-init", "image": "mine"}]);
    for native in [true, false] {
        let settings = settings("default", "", &json!({}), native);
        let once = injected(&pod, &settings);
        let own = once["spec"]["initContainers"].as_array().unwrap().iter().find(|one| one["name"] == "istio-init");
        assert_eq!(own.unwrap()["image"], "mine");
        assert_eq!(injected(&once, &settings), once);
    }
}
