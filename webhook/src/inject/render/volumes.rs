//! The volumes that a proxy needs, and where they are mounted.

use serde_json::{Value, json};

use crate::inject::annotations as annotation;
use crate::inject::subject::Subject;

impl Subject<'_> {
    /// The proxy's mounts; those that the user asked for are for sidecars.
    pub(super) fn mounts(&self, sidecar: bool) -> Vec<Value> {
        let mut mounts: Vec<_> = annotation::OWN_VOLUMES
            .into_iter()
            .filter(|(name, _)| sidecar || *name != "istio-ca-crl")
            .map(|(name, path)| json!({"name": name, "mountPath": path}))
            .collect();
        if sidecar {
            mounts.extend(self.user_objects(annotation::USER_VOLUME_MOUNT));
        }
        mounts
    }

    /// Volumes of our own, then, for sidecars, those that the user asked for.
    pub(crate) fn volumes(&self, sidecar: bool) -> Vec<Value> {
        let reference = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
        let mut volumes = vec![
            self.replaceable("workload-socket"),
            self.replaceable("credential-socket"),
            self.replaceable("workload-certs"),
            json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}}),
            json!({"name": "istio-data", "emptyDir": {}}),
            json!({"name": "istio-podinfo", "downwardAPI": {"items": [
                reference("labels", "metadata.labels"),
                reference("annotations", "metadata.annotations"),
            ]}}),
            json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": {
                "audience": self.global().sds.token.aud, "expirationSeconds": 43200, "path": "istio-token",
            }}]}}),
            json!({"name": "istiod-ca-cert", "configMap": {"name": names::resources::ROOT_CERT_CONFIG_MAP}}),
            json!({"name": "istio-ca-crl", "configMap": {"name": "istio-ca-crl", "optional": true}}),
        ];
        if sidecar {
            volumes.extend(self.user_objects(annotation::USER_VOLUME));
        } else {
            volumes.retain(|volume| volume.get("name").is_none_or(|name| name != "istio-ca-crl"));
        }
        volumes
    }

    /// An empty directory, unless the pod brings its own volume of this name: certificates and sockets may come from another
    /// driver, such as SPIFFE's. Istio names these three without a source for this.
    fn replaceable(&self, name: &str) -> Value {
        let own = self.raw.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
        let own = own.into_iter().find(|volume| volume.get("name").is_some_and(|own| own == name)).cloned();
        own.unwrap_or_else(|| json!({"name": name, "emptyDir": {}}))
    }

    /// `{"name": {...}}` of an annotation as `[{name: ..., ...}]`.
    pub(crate) fn user_objects(&self, name: &str) -> Vec<Value> {
        let objects = self.annotations.get(name).and_then(|text| annotation::json_map(text).ok()).unwrap_or_default();
        objects
            .into_iter()
            .filter_map(|(name, object)| match object {
                Value::Object(mut object) => {
                    object.insert("name".to_owned(), json!(name));
                    Some(Value::Object(object))
                }
                _ => None,
            })
            .collect()
    }
}
