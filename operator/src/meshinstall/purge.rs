//! `uninstall: Purge`: takes away what a deletion otherwise leaves behind, because it may hold somebody's work or trust:
//! the certificate authority with its root in every namespace, the Leases, and the definitions of Istio's kinds with all
//! their objects. Namespaces stay.
//!
//! A definition that somebody else manages (Helm, OLM, another tool's `managed-by`) is left, and named.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use names::{labels, resources};
use serde::de::DeserializeOwned;

/// What is purged: with the last MeshInstall of a namespace its own things, with the last of all the rest too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) last_of_its_namespace: bool,
    pub(crate) last_of_all: bool,
}

/// Purges; the definitions that were left because somebody else manages them come back, with their manager.
pub(crate) async fn purge(
    client: &Client,
    namespace: &str,
    extent: Extent,
) -> Result<Vec<String>, (String, kube::Error)> {
    let mut left = Vec::new();
    if extent.last_of_its_namespace {
        delete(&Api::<Secret>::namespaced(client.clone(), namespace), "Secret", resources::CA_SECRET).await?;
        delete(&Api::<Lease>::namespaced(client.clone(), namespace), "Lease", resources::ISTIOD_LEASE).await?;
    }
    if extent.last_of_all {
        let roots = ListParams::default().fields(&format!("metadata.name={}", resources::ROOT_CERT_CONFIG_MAP));
        let everywhere: Api<ConfigMap> = Api::all(client.clone());
        let found = everywhere.list_metadata(&roots).await.map_err(|error| ("ConfigMaps".to_owned(), error))?;
        for map in &found {
            let of_namespace: Api<ConfigMap> = Api::namespaced(client.clone(), &map.namespace().unwrap_or_default());
            delete(&of_namespace, "ConfigMap", resources::ROOT_CERT_CONFIG_MAP).await?;
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for name in crds::istio_definitions().iter().map(ResourceExt::name_any) {
            let display = || format!("CustomResourceDefinition {name}");
            let found = definitions.get_metadata_opt(&name).await.map_err(|error| (display(), error))?;
            match found.as_ref().map(|found: &PartialObjectMeta<_>| manager(&found.metadata)) {
                None => {}
                Some(None) => delete(&definitions, "CustomResourceDefinition", &name).await?,
                Some(Some(manager)) => left.push(format!("{} (managed by {manager})", display())),
            }
        }
    }
    Ok(left)
}

/// Who else manages an object, by the marks that tools leave.
fn manager(metadata: &ObjectMeta) -> Option<String> {
    let of = |map: Option<&std::collections::BTreeMap<String, String>>, key: &str| map?.get(key).cloned();
    let (labels, annotations) = (metadata.labels.as_ref(), metadata.annotations.as_ref());
    if of(labels, "olm.managed").is_some_and(|managed| managed == "true") {
        return Some("OLM".to_owned());
    }
    of(annotations, "meta.helm.sh/release-name")
        .map(|release| format!("Helm release {release}"))
        .or_else(|| of(labels, labels::KUBERNETES_MANAGED_BY).filter(|manager| manager != resources::OPERATOR))
}

async fn delete<K>(api: &Api<K>, kind: &str, name: &str) -> Result<(), (String, kube::Error)>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err((format!("{kind} {name}"), error)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    use super::manager;

    #[test]
    fn somebody_elses_definition_is_known_by_its_marks() {
        for (name, metadata, expected) in [
            (
                "as `kubectl apply -f config/install.yaml` makes it",
                json!({"annotations": {"helm.sh/resource-policy": "keep"}}),
                None,
            ),
            (
                "Helm",
                json!({"annotations": {"meta.helm.sh/release-name": "istio-base"}}),
                Some("Helm release istio-base"),
            ),
            ("OLM", json!({"labels": {"olm.managed": "true"}}), Some("OLM")),
            (
                "another tool",
                json!({"labels": {"app.kubernetes.io/managed-by": "sail-operator"}}),
                Some("sail-operator"),
            ),
            ("ours", json!({"labels": {"app.kubernetes.io/managed-by": "forestay-operator"}}), None),
        ] {
            let metadata: ObjectMeta = serde_json::from_value(metadata).expect(name);
            assert_eq!(manager(&metadata).as_deref(), expected, "{name}");
        }
    }
}
