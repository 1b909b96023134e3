//! The templates that need no template language.

use names::labels;
use serde_json::{Map, Value, json};

use super::{GATEWAY, GRPC_AGENT, GRPC_SIMPLE};
use crate::inject::annotations as annotation;
use crate::inject::subject::{Subject, field, variable};
use crate::inject::workload;

/// The pod's fragment of a built-in template.
pub(super) fn render(name: &str, subject: &Subject<'_>) -> Value {
    match name {
        GATEWAY => gateway(subject),
        GRPC_AGENT => grpc_agent(subject),
        GRPC_SIMPLE => grpc_simple(subject),
        _ => sidecar(subject),
    }
}

fn sidecar(subject: &Subject<'_>) -> Value {
    let mut metadata = about(subject);
    set(&mut metadata, "labels", labels::TLS_MODE, "istio", subject.labels.contains_key(labels::TLS_MODE));
    if subject.by_cni() {
        for (name, value) in subject.cni_annotations() {
            set(&mut metadata, "annotations", name, &value, false);
        }
    }
    let proxy = subject.proxy_container();
    let mut init: Vec<Value> = subject.init_container().into_iter().collect();
    let mut containers = Vec::new();
    if subject.native {
        init.push(proxy);
    } else {
        containers.push(proxy);
    }
    let mut spec = Map::new();
    spec.insert("initContainers".to_owned(), Value::Array(init));
    spec.insert("containers".to_owned(), Value::Array(containers));
    spec.insert("volumes".to_owned(), Value::Array(subject.volumes(true)));
    fragment(subject, &metadata, spec)
}

fn gateway(subject: &Subject<'_>) -> Value {
    let mut spec = Map::new();
    spec.insert("containers".to_owned(), json!([subject.gateway_container()]));
    spec.insert("volumes".to_owned(), Value::Array(subject.volumes(false)));
    let context = &subject.settings.values.gateways.security_context;
    let context = if context.is_empty() {
        // Ports below 1024 without privileges.
        json!({"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]})
    } else {
        Value::Object(context.clone())
    };
    spec.insert("securityContext".to_owned(), context);
    fragment(subject, &about(subject), spec)
}

fn grpc_agent(subject: &Subject<'_>) -> Value {
    // The application decides itself whether it speaks mutual TLS, so the pod is not marked as if it did.
    let mut metadata = about(subject);
    set(&mut metadata, "annotations", annotation::REWRITE_PROBES, "false", false);
    let mut containers: Vec<Value> = subject
        .application()
        .iter()
        .map(|container| {
            json!({
                "name": container.name,
                "env": [
                    variable("GRPC_XDS_EXPERIMENTAL_SECURITY_SUPPORT", "true"),
                    variable("GRPC_XDS_BOOTSTRAP", "/etc/istio/proxy/grpc-bootstrap.json"),
                ],
                "volumeMounts": [
                    {"mountPath": "/var/lib/istio/data", "name": "istio-data"},
                    {"mountPath": names::paths::PROXY_STATE, "name": "istio-xds"},
                ],
            })
        })
        .collect();
    containers.push(subject.agent_container());
    let mut volumes = subject.volumes(false);
    for name in volumes.iter_mut().filter_map(|volume| volume.get_mut("name")).filter(|name| **name == "istio-envoy") {
        *name = json!("istio-xds");
    }
    volumes.extend(subject.user_objects(annotation::USER_VOLUME));
    let mut spec = Map::new();
    spec.insert("containers".to_owned(), Value::Array(containers));
    spec.insert("volumes".to_owned(), Value::Array(volumes));
    fragment(subject, &metadata, spec)
}

fn grpc_simple(subject: &Subject<'_>) -> Value {
    const VOLUME: &str = "grpc-io-proxyless-bootstrap";
    let mount = json!({"mountPath": "/var/lib/grpc/data/", "name": VOLUME});
    let containers: Vec<Value> = subject
        .application()
        .iter()
        .map(|container| {
            json!({
                "name": container.name,
                "env": [
                    variable("GRPC_XDS_BOOTSTRAP", "/var/lib/grpc/data/bootstrap.json"),
                    variable("GRPC_GO_LOG_VERBOSITY_LEVEL", "99"),
                    variable("GRPC_GO_LOG_SEVERITY_LEVEL", "info"),
                ],
                "volumeMounts": [mount],
            })
        })
        .collect();
    let init = json!({
        "name": "grpc-bootstrap-init",
        "image": "busybox:1.28",
        "volumeMounts": [mount],
        "env": [
            field("INSTANCE_IP", "status.podIP"),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            // Istio's template writes the line's end with it.
            variable("ISTIO_NAMESPACE", &format!("{}\n", subject.global().istio_namespace)),
        ],
        "command": ["sh", "-c", GRPC_BOOTSTRAP],
    });
    json!({
        "metadata": {"annotations": {annotation::REWRITE_PROBES: "false"}},
        "spec": {
            "initContainers": [init],
            "containers": containers,
            "volumes": [{"name": VOLUME, "emptyDir": {}}],
        },
    })
}

/// Writes the bootstrap file of a gRPC client that asks the control plane itself.
const GRPC_BOOTSTRAP: &str = r#"NODE_ID="sidecar~${INSTANCE_IP}~${POD_NAME}.${POD_NAMESPACE}~cluster.local"
SERVER_URI="dns:///istiod.${ISTIO_NAMESPACE}.svc:15010"
echo '
{
  "xds_servers": [
    {
      "server_uri": "'${SERVER_URI}'",
      "channel_creds": [{"type": "insecure"}],
      "server_features" : ["xds_v3"]
    }
  ],
  "node": {
    "id": "'${NODE_ID}'",
    "metadata": {
      "GENERATOR": "grpc"
    }
  }
}' > /var/lib/grpc/data/bootstrap.json"#;

/// Who the workload is, for telemetry and for people.
fn about(subject: &Subject<'_>) -> Value {
    let mut metadata = json!({"labels": {}, "annotations": {}});
    let canonical = workload::canonical_name(subject.labels, subject.workload);
    let revision = workload::canonical_revision(subject.labels);
    for (name, value) in [(labels::CANONICAL_NAME, canonical.as_str()), (labels::CANONICAL_REVISION, revision)] {
        set(&mut metadata, "labels", name, value, subject.labels.contains_key(name));
    }
    if let Some(first) = subject.application().first() {
        for name in [annotation::DEFAULT_CONTAINER, annotation::DEFAULT_LOGS_CONTAINER] {
            set(&mut metadata, "annotations", name, &first.name, subject.annotations.contains_key(name));
        }
    }
    set(&mut metadata, "annotations", labels::REVISION, &subject.settings.revision, false);
    metadata
}

/// Sets a label or an annotation, unless the user's own stays.
fn set(metadata: &mut Value, kind: &str, name: &str, value: &str, stays: bool) {
    if let (Some(members), false) = (metadata.get_mut(kind).and_then(Value::as_object_mut), stays) {
        members.insert(name.to_owned(), json!(value));
    }
}

fn fragment(subject: &Subject<'_>, metadata: &Value, mut spec: Map<String, Value>) -> Value {
    let secrets = &subject.global().image_pull_secrets;
    if !secrets.is_empty() {
        let secrets = secrets.iter().map(|name| json!({"name": name})).collect();
        spec.insert("imagePullSecrets".to_owned(), Value::Array(secrets));
    }
    spec.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
    json!({"metadata": metadata, "spec": spec})
}
