//! Injected pods.
//!
//! * `goldens`: as files that a person can review (`snapshots/`)
//! * `said`: what is refused, left out, or only warned of
//! * `pods`: pods of which something special must hold
//! * `properties`: what must hold for every pod

#![allow(clippy::unwrap_used)] // a test fails by panicking; clippy.toml reaches only what is marked #[test]

mod goldens;
mod pods;
mod properties;
mod said;

use std::collections::BTreeMap;

use forestay_webhook::inject::settings::Settings;
use forestay_webhook::inject::{InjectError, Outcome, Request, inject};
use serde_json::{Value, json};

fn settings(revision: &str, mesh: &str, values: &Value, native: bool) -> Settings {
    settings_with("", revision, mesh, values, native)
}

fn settings_with(config: &str, revision: &str, mesh: &str, values: &Value, native: bool) -> Settings {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let mut values = values.clone();
    // The goldens do not change with every version.
    values["global"]["tag"] = json!("1.2.3");
    let injector = map(&[("config", config), ("values", &values.to_string())]);
    Settings::read(revision, &map(&[("mesh", mesh)]), &injector, native).unwrap()
}

fn outcome(pod: &Value, settings: &Settings) -> Result<Outcome, InjectError> {
    inject(Request { pod, namespace: "bookinfo", about: None, variables: &[] }, settings)
}

fn injected(pod: &Value, settings: &Settings) -> Value {
    outcome(pod, settings).unwrap().pod.unwrap()
}

fn plain() -> Settings {
    settings("default", "", &json!({}), true)
}

fn annotated(annotations: &Value) -> Value {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = annotations.clone();
    pod
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

/// A user's template beside ours: what Istio's page on customizing injection shows.
const CUSTOM: &str = r#"
templates:
  custom: |
    metadata:
      labels:
        canonical: {{ index .ObjectMeta.Labels "app" | default .DeploymentMeta.Name | quote }}
    spec:
      containers:
      - name: istio-proxy
        env:
        - name: GREETING
          value: hello-{{ .ObjectMeta.Namespace }}
      {{- range .Spec.Containers }}
      {{- if ne .Name "istio-proxy" }}
      - name: {{ .Name }}
        env:
        - name: PORTS
          value: '{{ range $index, $port := .Ports }}{{ if $index }},{{ end }}{{ $port.ContainerPort }}{{ end }}'
      {{- end }}
      {{- end }}
      - name: helper
        image: {{ .Values.global.hub }}/helper:{{ .Values.global.tag }}
      volumes:
      - name: workload-socket
        csi: {driver: csi.spiffe.io, readOnly: true}
aliases:
  both: [sidecar, custom]
"#;
