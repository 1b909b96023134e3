//! What a user's template sees: the same data as Istio's, under Go's names.
//!
//! The pod, its workload and the settings of mesh and proxy are structures in Istio, so their members are written as Go
//! writes them (`.Spec.ServiceAccountName`); the Helm values are maps and keep their names (`.Values.global.hub`).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::{Map, Value as Json, json};

use super::functions::{STRUCTURE, from_json};
use crate::inject::subject::Subject;

/// Go's names that are not JSON's with a capital.
const NAMES: [(&str, &str); 25] = [
    ("apiVersion", "APIVersion"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("cephfs", "CephFS"),
    ("clusterIP", "ClusterIP"),
    ("csi", "CSI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("grpc", "GRPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("ip", "IP"),
    ("iscsi", "ISCSI"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("rbd", "RBD"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("tcpSocket", "TCPSocket"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("uri", "URI"),
];

/// Members that are maps in Go too, whose names are the user's.
const MAPS: [&str; 11] = [
    "annotations",
    "customTags",
    "data",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "proxyMetadata",
    "requests",
    "volumeAttributes",
];

fn go_name(json: &str) -> String {
    if let Some((_, go)) = NAMES.iter().find(|(own, _)| *own == json) {
        return (*go).to_owned();
    }
    let mut characters = json.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

/// The name in JSON of a structure's member.
pub(super) fn json_name(go: &str) -> String {
    if let Some((json, _)) = NAMES.iter().find(|(_, own)| *own == go) {
        return (*json).to_owned();
    }
    let mut characters = go.chars();
    characters.next().map_or(String::new(), |first| first.to_lowercase().chain(characters).collect())
}

pub(super) fn structure(json: &Json) -> Value {
    match json {
        Json::Object(members) => {
            let mut own = BTreeMap::from([(Arc::from(STRUCTURE), Value::Nil)]);
            for (name, member) in members {
                let value = if MAPS.contains(&name.as_str()) { from_json(member) } else { structure(member) };
                own.insert(Arc::from(go_name(name)), value);
            }
            Value::Map(Arc::new(own))
        }
        Json::Array(items) => Value::List(items.iter().map(structure).collect()),
        other => from_json(other),
    }
}

/// A structure, with the zero of Go's type for what is absent.
fn with_zeros(json: &Json, zeros: &[(&str, Json)]) -> Value {
    let mut whole = json.as_object().cloned().unwrap_or_default();
    for (name, zero) in zeros {
        whole.entry(*name).or_insert_with(|| zero.clone());
    }
    structure(&Json::Object(whole))
}

/// Puts the JSON that `protoToJSON` answers beside the members.
fn with_json(value: Value, json: &Map<String, Json>) -> Value {
    match value {
        Value::Map(members) => {
            let mut members = members.as_ref().clone();
            members.insert(Arc::from(STRUCTURE), Value::String(Arc::from(Json::Object(json.clone()).to_string())));
            Value::Map(Arc::new(members))
        }
        other => other,
    }
}

/// The data of a pod.
pub(super) fn of(subject: &Subject<'_>) -> Value {
    let settings = subject.settings;
    let text = || json!("");
    let empty = Json::Object(Map::new());
    let member = |name: &str| subject.raw.get(name).unwrap_or(&empty);
    let zero_meta = [
        ("name", text()),
        ("generateName", text()),
        ("namespace", text()),
        ("labels", json!({})),
        ("annotations", json!({})),
    ];
    let mut meta = member("metadata").clone();
    if let Some(meta) = meta.as_object_mut() {
        // The namespace of a pod from a template stands beside it in the request.
        meta.insert("namespace".to_owned(), json!(subject.namespace));
    }
    let zero_spec = [
        ("containers", json!([])),
        ("initContainers", json!([])),
        ("volumes", json!([])),
        ("serviceAccountName", text()),
        ("nodeName", text()),
        ("hostname", text()),
        ("subdomain", text()),
        ("schedulerName", text()),
        ("priorityClassName", text()),
        ("restartPolicy", text()),
        ("dnsPolicy", text()),
        ("hostNetwork", json!(false)),
        ("nodeSelector", json!({})),
    ];
    let workload = subject.workload;
    let deployment = json!({"name": workload.name, "namespace": subject.namespace, "labels": {}, "annotations": {}});
    let proxy_config = serde_json::to_value(subject.proxy_config).unwrap_or_default();
    let proxy_config = with_json(structure(&proxy_config), &subject.proxy_config.differences());
    let mesh = serde_json::to_value(&settings.mesh).unwrap_or_default();
    let inbound = if subject.inbound_on_loopback() { "localhost" } else { "passthrough" };
    let text = |text: &str| Value::String(Arc::from(text));
    let members = [
        ("TypeMeta", structure(&json!({"kind": workload.kind, "apiVersion": workload.api_version}))),
        ("DeploymentMeta", structure(&deployment)),
        ("ObjectMeta", with_zeros(&meta, &zero_meta)),
        ("Spec", with_zeros(member("spec"), &zero_spec)),
        ("ProxyConfig", proxy_config),
        ("MeshConfig", structure(&mesh)),
        ("Values", from_json(&settings.raw_values)),
        ("Revision", text(&settings.revision)),
        ("NativeSidecars", Value::Bool(subject.native)),
        ("ProxyImage", text(&subject.default_image())),
        ("ProxyUID", Value::Int(subject.proxy_uid())),
        ("ProxyGID", Value::Int(subject.proxy_gid())),
        ("InboundTrafficPolicyMode", text(inbound)),
        ("CompliancePolicy", text(subject.compliance_policy().unwrap_or_default())),
    ];
    Value::Map(Arc::new(members.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()))
}
