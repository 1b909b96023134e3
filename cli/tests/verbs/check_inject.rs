//! `forestay x check-inject` against a cluster's answers; the decisions themselves are tested beside their code.

use serde_json::{Value, json};

use super::api_server::{ApiServer, list};
use super::forestay;

fn configuration() -> Value {
    let registration = webhook::configuration::Registration {
        revision: "default",
        namespace: "istio-system",
        enable_namespaces_by_default: false,
        ca_bundle: b"ca",
    };
    serde_json::to_value(webhook::configuration::mutating(&registration)).unwrap()
}

fn cluster(namespace_labels: &Value) -> ApiServer {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": namespace_labels}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a-1", "namespace": "shop"},
        "spec": {"containers": [{"name": "a"}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"template": {"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": {"containers": []}}},
    });
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector"},
        "data": {"config": "policy: enabled\n"},
    });
    let slice = json!({
        "addressType": "IPv4", "metadata": {"name": "x"},
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}],
    });
    ApiServer::with(&[
        ("/api/v1/namespaces/shop", namespace),
        ("/api/v1/namespaces/shop/pods/a-1", pod),
        ("/apis/apps/v1/namespaces/shop/deployments/a", deployment),
        ("/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector", config),
        (
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            list("admissionregistration.k8s.io/v1", "MutatingWebhookConfigurationList", &[configuration()]),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices",
            list("discovery.k8s.io/v1", "EndpointSliceList", &[slice]),
        ),
    ])
}

#[test]
fn a_pod_a_workload_a_namespace_and_labels() {
    let enabled = cluster(&json!({"istio-injection": "enabled"}));
    let kubeconfig = enabled.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let rows: [(&str, &[&str], &[&str]); 5] = [
        (
            "a pod of the context's namespace",
            &["a-1"],
            &["Pod shop/a-1: injected; the webhook of revision default", "no webhook is ready", "make it anew"],
        ),
        ("a pod by its namespace", &["a-1.shop", "--context", "other"], &["Pod shop/a-1: injected"]),
        (
            "a workload",
            &["deploy/a", "-n", "shop"],
            &["Pod has sidecar.istio.io/inject=false label, preventing injection", "Deployment shop/a: not injected"],
        ),
        ("a namespace", &["namespace/shop"], &["A pod in namespace shop: injected"]),
        (
            "labels",
            &["-l", "app=a,sidecar.istio.io/inject=false"],
            &["A pod in namespace shop with app=a,sidecar.istio.io/inject=false: not injected"],
        ),
    ];
    for (name, arguments, expected) in rows {
        let ended = forestay(&[&["x", "check-inject", "-c", kubeconfig], arguments].concat());
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{name}: {ended:?}");
        assert!(ended.out.starts_with("WEBHOOK "), "{name}: {}", ended.out);
        for text in expected {
            assert!(ended.out.contains(text), "{name}: {}", ended.out);
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let cluster = cluster(&json!({}));
    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let rows: [(&str, &[&str], &str); 3] = [
        ("a pod", &["b"], "Pod shop/b: "),
        ("a namespace", &["a-1.nowhere"], "namespace nowhere: "),
        ("a context", &["a-1", "--context", "nowhere"], "nowhere"),
    ];
    for (name, arguments, expected) in rows {
        let ended = forestay(&[&["x", "check-inject", "-c", kubeconfig], arguments].concat());
        assert_eq!(ended.code, 1, "{name}: {ended:?}");
        assert!(ended.out.is_empty() && ended.err.contains(expected), "{name}: {ended:?}");
    }
}
