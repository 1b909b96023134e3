//! What is in the cluster, by watches: the objects of ours, their pods, the endpoints of the webhooks, and what a mesh must
//! fit beside. A reconciliation that changes nothing asks the API server for nothing.
//!
//! Only objects with the operator's `managed-by` label are watched whole. Of all namespaces and of pods with a sidecar,
//! which are many in a large cluster, a few words each are kept ([`crate::usage`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::install::{MeshInstall, MeshRevisionTag};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    self as core, ConfigMap, Namespace, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use names::{labels, resources};

use crate::guard;
use crate::meshinstall::dereference::{NamespaceState, is_ours};
use crate::pod::Pod;
use crate::usage::Usage;

/// The label of everything that the operator makes.
pub(crate) fn selector() -> String {
    format!("{}={}", labels::KUBERNETES_MANAGED_BY, resources::OPERATOR)
}

/// Every kind that the operator renders, watches for drift, and prunes.
pub(crate) fn managed_kinds() -> Vec<ApiResource> {
    fn kind<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    vec![
        kind::<MutatingWebhookConfiguration>(),
        kind::<ValidatingWebhookConfiguration>(),
        kind::<Deployment>(),
        kind::<PodDisruptionBudget>(),
        kind::<HorizontalPodAutoscaler>(),
        kind::<Service>(),
        kind::<ServiceAccount>(),
        kind::<PersistentVolumeClaim>(),
        kind::<ConfigMap>(),
        kind::<Secret>(),
        kind::<RoleBinding>(),
        kind::<Role>(),
        kind::<ClusterRoleBinding>(),
        kind::<ClusterRole>(),
    ]
}

/// The caches behind the watches.
pub(crate) struct Live {
    pub(crate) installs: Store<DeserializeGuard<MeshInstall>>,
    pub(crate) objects: Vec<(ApiResource, Store<DynamicObject>)>,
    pub(crate) pods: Store<Pod>,
    pub(crate) endpoints: Store<EndpointSlice>,
    pub(crate) tags: Store<DeserializeGuard<MeshRevisionTag>>,
    /// Every Deployment that is an `istiod`, whoever made it.
    pub(crate) control_planes: Store<PartialObjectMeta<Deployment>>,
    /// Every CustomResourceDefinition's name and version.
    pub(crate) definitions: Store<PartialObjectMeta<CustomResourceDefinition>>,
    /// Every namespace's labels.
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Every pod with a sidecar: whose, and of which version.
    pub(crate) sidecars: Store<PartialObjectMeta<core::Pod>>,
}

impl Live {
    /// Waits until every cache has been filled once; before that, "not there" would mean nothing.
    pub(crate) async fn ready(&self) {
        // The only error is that a watch has ended, and then the process is about to.
        // The guard's are not waited for: under roles of an older version they cannot be had, and the mesh does not need them.
        for (_, store) in self.objects.iter().filter(|(kind, _)| !guard::kinds().contains(kind)) {
            let _ = store.wait_until_ready().await;
        }
        let _ = self.pods.wait_until_ready().await;
        let _ = self.endpoints.wait_until_ready().await;
        let _ = self.namespaces.wait_until_ready().await;
        let _ = self.sidecars.wait_until_ready().await;
        let _ = self.installs.wait_until_ready().await;
        let _ = self.tags.wait_until_ready().await;
        let _ = self.control_planes.wait_until_ready().await;
        let _ = self.definitions.wait_until_ready().await;
    }

    /// All MeshInstalls that can be read.
    pub(crate) fn installs(&self) -> Vec<MeshInstall> {
        self.installs.state().iter().filter_map(|install| install.0.clone().ok()).collect()
    }

    /// All MeshRevisionTags that can be read.
    pub(crate) fn tags(&self) -> Vec<MeshRevisionTag> {
        self.tags.state().iter().filter_map(|tag| tag.0.clone().ok()).collect()
    }

    /// One object of ours.
    pub(crate) fn get(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<DynamicObject>> {
        let (_, store) = self.objects.iter().find(|(kind, _)| kind == resource)?;
        let mut key = ObjectRef::new_with(name, resource.clone());
        key.namespace = namespace.map(str::to_owned);
        store.get(&key)
    }

    /// Whether objects can be created in a namespace; None when it is not there.
    pub(crate) fn namespace(&self, name: &str) -> Option<NamespaceState> {
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        Some(NamespaceState::of(&namespace.metadata))
    }

    /// Deployments of a namespace that are an `istiod`, but none that we made.
    pub(crate) fn foreign_control_planes(&self, namespace: &str) -> Vec<String> {
        let foreign = |of: &PartialObjectMeta<Deployment>| of.namespace().as_deref() == Some(namespace) && !is_ours(of);
        let mut names: Vec<String> = self.control_planes.state_filter(foreign).iter().map(|of| of.name_any()).collect();
        names.sort();
        names
    }

    /// Everything that was made for one MeshInstall.
    pub(crate) fn owned_by(&self, install: &str) -> Vec<(ApiResource, Arc<DynamicObject>)> {
        let mine = |object: &DynamicObject| object.labels().get(labels::OWNED_BY).is_some_and(|owner| owner == install);
        self.objects
            .iter()
            .flat_map(|(kind, store)| store.state_filter(mine).into_iter().map(move |object| (kind.clone(), object)))
            .collect()
    }

    /// The pods of one MeshInstall's Deployments.
    pub(crate) fn pods_of(&self, install: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| pod.labels().get(labels::OWNED_BY).is_some_and(|owner| owner == install))
    }

    /// Who uses a revision. `names` are the values of `istio.io/rev` that lead to it.
    pub(crate) fn usage(&self, names: &BTreeSet<String>, current: &str) -> Usage {
        let (namespaces, pods) = (self.namespaces.state(), self.sidecars.state());
        Usage::of(names, current, namespaces.iter().map(AsRef::as_ref), pods.iter().map(AsRef::as_ref))
    }

    /// Whether a Service has an endpoint that takes connections.
    pub(crate) fn serves(&self, namespace: &str, service: &str) -> bool {
        self.endpoints.find(|slice| is_of(slice, namespace, service) && has_ready_endpoint(slice)).is_some()
    }
}

fn is_of(slice: &EndpointSlice, namespace: &str, service: &str) -> bool {
    slice.namespace().as_deref() == Some(namespace)
        && slice.labels().get("kubernetes.io/service-name").is_some_and(|name| name == service)
}

fn has_ready_endpoint(slice: &EndpointSlice) -> bool {
    // Absent means ready, says the API.
    let ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    };
    slice.endpoints.iter().any(ready)
}
