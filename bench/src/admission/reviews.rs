//! The reviews: a pod of Bookinfo and two rules of it, as the API server sends them.

use bytes::Bytes;
use serde_json::{Value, json};

/// A review, ready to be sent.
pub(crate) struct Review {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
}

/// All of them.
pub(crate) fn all() -> [Review; 3] {
    [
        review("pod of reviews", "/inject", ("", "v1", "Pod", "pods"), &pod()),
        review(
            "VirtualService",
            "/validate",
            ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
            &rule(),
        ),
        review(
            "DestinationRule",
            "/validate",
            ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
            &subsets(),
        ),
    ]
}

/// A pod about as large as an API server takes one.
pub(crate) fn large() -> Review {
    let mut pod = pod();
    let variables: Vec<Value> =
        (0..10_000).map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "x".repeat(60)})).collect();
    pod["spec"]["containers"][0]["env"] = Value::Array(variables);
    review("large pod", "/inject", ("", "v1", "Pod", "pods"), &pod)
}

fn review(
    name: &'static str,
    path: &'static str,
    (group, version, kind, resource): (&str, &str, &str, &str),
    object: &Value,
) -> Review {
    let group_version_kind = json!({"group": group, "version": version, "kind": kind});
    let group_version_resource = json!({"group": group, "version": version, "resource": resource});
    let body = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": group_version_kind, "resource": group_version_resource,
            "requestKind": group_version_kind, "requestResource": group_version_resource,
            "namespace": "default", "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "f2b1b1e6-3c5e-4c43-a6c0-6d3c9c1d2b6a",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": object, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    Review { name, path, body: Bytes::from(body.to_string()) }
}

fn pod() -> Value {
    let token = json!({"projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let mut volume = token;
    volume["name"] = json!("kube-api-access-x5k2p");
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "generateName": "reviews-v1-7d6c5b8f9b-", "namespace": "default",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "7d6c5b8f9b"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9080"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-7d6c5b8f9b",
                "uid": "0b1e8d3e-7a52-4c0e-9a3f-9b8a0d1f3b10", "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-11-28T12:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:app": {}, "f:version": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"reviews\"}": {".": {}, "f:image": {}, "f:name": {}}}}},
            }],
        },
        "spec": {
            "volumes": [{"name": "wlp-output", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}, volume],
            "containers": [{
                "name": "reviews", "image": "registry.istio.io/release/examples-bookinfo-reviews-v1:1.20.3",
                "ports": [{"containerPort": 9080, "protocol": "TCP"}],
                "env": [{"name": "LOG_DIR", "value": "/tmp/logs"}],
                "resources": {},
                "livenessProbe": {"httpGet": {"path": "/health", "port": 9080, "scheme": "HTTP"}, "periodSeconds": 10},
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"}, {"name": "wlp-output", "mountPath": "/opt/ibm/wlp/output"},
                    {"name": "kube-api-access-x5k2p", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
                ],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "bookinfo-reviews", "serviceAccount": "bookinfo-reviews", "securityContext": {},
            "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
        },
        "status": {},
    })
}

fn rule() -> Value {
    let to = |subset: &str, weight: u8| json!({"destination": {"host": "reviews", "subset": subset}, "weight": weight});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default", "generation": 1},
        "spec": {"hosts": ["reviews"], "http": [
            {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("v2", 100)], "timeout": "2s"},
            {"match": [{"uri": {"regex": "/api/v[0-9]+/.*"}}], "route": [to("v1", 50), to("v3", 50)],
                "retries": {"attempts": 3, "perTryTimeout": "500ms", "retryOn": "5xx"}},
            {"route": [to("v1", 100)]},
        ]},
    })
}

fn subsets() -> Value {
    let subset = |version: &str| json!({"name": version, "labels": {"version": version}});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "reviews", "namespace": "default", "generation": 1},
        "spec": {
            "host": "reviews",
            "trafficPolicy": {
                "loadBalancer": {"simple": "LEAST_REQUEST"},
                "connectionPool": {"tcp": {"maxConnections": 100}, "http": {"http2MaxRequests": 1000}},
                "outlierDetection": {"consecutive5xxErrors": 7, "interval": "5m", "baseEjectionTime": "15m"},
            },
            "subsets": [subset("v1"), subset("v2"), subset("v3")],
        },
    })
}
