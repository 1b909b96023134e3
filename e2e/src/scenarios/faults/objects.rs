//! The objects of a mesh as values: all of them, what of each the operator says, and changes to it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Client, ResourceExt};
use names::{labels, resources};
use serde_json::{Map, Value, json};

/// The kinds that the operator makes: group, version, kind.
const KINDS: [(&str, &str, &str); 15] = [
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
    ("apps", "v1", "Deployment"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
];

/// Each kind that the operator makes.
pub(crate) fn kinds() -> Vec<ApiResource> {
    KINDS
        .iter()
        .map(|(group, version, kind)| ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
        .collect()
}

/// The label of everything that the operator makes.
pub(crate) fn selector() -> String {
    format!("{}={}", labels::KUBERNETES_MANAGED_BY, resources::OPERATOR)
}

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Key {
    pub(crate) fn of(kind: &ApiResource, object: &DynamicObject) -> Self {
        Self { kind: kind.kind.clone(), namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// Where it is.
    pub(crate) fn api(&self, client: &Client) -> Result<Api<DynamicObject>> {
        let kind = kinds().into_iter().find(|kind| kind.kind == self.kind).context("a kind of ours")?;
        Ok(if self.namespace.is_empty() {
            Api::all_with(client.clone(), &kind)
        } else {
            Api::namespaced_with(client.clone(), &self.namespace, &kind)
        })
    }
}

/// Every object of ours in the cluster, but for the namespace.
pub(crate) async fn all(client: &Client) -> Result<BTreeMap<Key, DynamicObject>> {
    let mut all = BTreeMap::new();
    for kind in kinds() {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        for object in api.list(&ListParams::default().labels(&selector())).await? {
            all.insert(Key::of(&kind, &object), object);
        }
    }
    Ok(all)
}

/// A snapshot of all objects, server-managed fields aside.
pub(crate) async fn snapshot(client: &Client) -> Result<BTreeMap<Key, Value>> {
    all(client).await?.into_iter().map(|(key, object)| Ok((key, plain(&object)?))).collect()
}

/// What of an object stays the same when it is made anew.
pub(crate) fn plain(object: &DynamicObject) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    let secret = value["type"] == "Opaque" && !value["data"].is_null();
    if let Some(members) = value.as_object_mut() {
        for member in ["status", "apiVersion", "kind"] {
            members.remove(member);
        }
        // Keys and certificates are made anew with the Secret.
        if secret {
            members.remove("data");
        }
    }
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        for member in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
            metadata.remove(member);
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove("deployment.kubernetes.io/revision");
            annotations.remove(FOREIGN);
            // The uid of the MeshInstall and the webhook's authority are part of what was rendered.
            annotations.remove(names::annotations::RENDERED);
        }
        for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
            owner.as_object_mut().map(|owner| owner.remove("uid"));
        }
    }
    // Pods are started anew when their ServiceAccount was made anew.
    if let Some(Value::Object(annotations)) = value.pointer_mut("/spec/template/metadata/annotations") {
        annotations.remove(names::annotations::TOKENS_OF);
    }
    if let Some(Value::Object(spec)) = value.get_mut("spec") {
        // A Service's addresses and node ports.
        for member in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            spec.remove(member);
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
    for webhook in value.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        // Of another authority when the Secret was made anew, but never none.
        let bundle = webhook["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
        webhook["clientConfig"]["caBundle"] = json!(bundle);
    }
    Ok(value)
}

/// An annotation of somebody else's.
pub(crate) const FOREIGN: &str = "example.org/somebody-elses";

/// A field that the operator says: where it is, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) pointer: String,
    pub(crate) value: Value,
}

/// Every text, number and truth value that the operator says of an object: the leaves of what its field manager holds.
pub(crate) fn said(object: &DynamicObject) -> Result<Vec<Field>> {
    let whole = serde_json::to_value(object)?;
    let mut fields = Vec::new();
    for entry in object.managed_fields() {
        if entry.manager.as_deref() == Some(resources::OPERATOR)
            && entry.operation.as_deref() == Some("Apply")
            && let Some(Value::Object(held)) = entry.fields_v1.as_ref().map(|fields| &fields.0)
        {
            leaves(held, &whole, "", &Map::new(), &mut fields);
        }
    }
    Ok(fields)
}

/// `of_item` are the keys by which a list knows the item that this is: with another key it would be another item, somebody
/// else's, beside which the operator puts its own again.
fn leaves(held: &Map<String, Value>, value: &Value, path: &str, of_item: &Map<String, Value>, into: &mut Vec<Field>) {
    for (key, inner) in held {
        let mut keys = Map::new();
        let (step, value) = if let Some(name) = key.strip_prefix("f:").filter(|name| !of_item.contains_key(*name)) {
            (name.replace('~', "~0").replace('/', "~1"), value.get(name))
        } else if let Some(text) = key.strip_prefix("k:") {
            let Ok(Value::Object(of_this)) = serde_json::from_str::<Value>(text) else { continue };
            keys = of_this;
            let is = |item: &&Value| keys.iter().all(|(key, wanted)| item.get(key) == Some(wanted));
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let Some(index) = items.iter().position(|item| is(&item)) else { continue };
            (index.to_string(), items.get(index))
        } else {
            continue;
        };
        let (Some(value), Some(inner), path) = (value, inner.as_object(), format!("{path}/{step}")) else { continue };
        match value {
            Value::Object(_) | Value::Array(_) if !inner.is_empty() => leaves(inner, value, &path, &keys, into),
            Value::String(_) | Value::Number(_) | Value::Bool(_) => {
                into.push(Field { pointer: path, value: value.clone() });
            }
            _ => {}
        }
    }
}
