//! Labels on namespaces, pods, services and our own objects.

/// On a namespace: `enabled` injects the default revision's sidecar, `disabled` forbids injection.
pub const INJECTION: &str = "istio-injection";
/// On a namespace or pod: which revision injects. On our objects: the revision they belong to.
pub const REVISION: &str = "istio.io/rev";
/// On a pod: `"true"` or `"false"`; beats the annotation of the same name.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// On an injected pod: `istio`. Endpoints with it are spoken to by mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// The service that a workload is, for telemetry.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// The version that a workload is, for telemetry.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// On a pod: its workload's name, where its owner does not tell it.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// On a pod, a gateway's Service or the mesh's namespace: the network it is in.
pub const NETWORK: &str = "topology.istio.io/network";
/// On a service, a namespace or a ServiceEntry: the waypoint that its callers go through.
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// `app`, the older name of a workload's service.
pub const APP: &str = "app";
/// `version`, the older name of a workload's version.
pub const VERSION: &str = "version";
/// Kubernetes' recommended label for an application's name.
pub const KUBERNETES_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended label for an application's version.
pub const KUBERNETES_VERSION: &str = "app.kubernetes.io/version";
/// Kubernetes' recommended label for what manages an object.
pub const KUBERNETES_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// On gateways: which gateway it is (`ingressgateway`); the control plane carries `pilot`.
pub const ISTIO: &str = "istio";
/// Set by the namespace controller on every namespace: its own name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// On the webhook configuration of a MeshRevisionTag: its name.
pub const TAG: &str = "istio.io/tag";
/// On everything that the operator makes: the MeshInstall it was made for.
pub const OWNED_BY: &str = "install.forestay.dev/owned-by";
/// On a MeshInstall: the ApplySet that it is the parent of (KEP-3659).
pub const SET_ID: &str = "applyset.kubernetes.io/id";
/// On a definition: its objects may be parents of ApplySets.
pub const SET_PARENT_TYPE: &str = "applyset.kubernetes.io/is-parent-type";
/// On what the operator makes for one MeshInstall: the ApplySet that it is a member of.
pub const PART_OF_SET: &str = "applyset.kubernetes.io/part-of";
/// On everything that the operator makes: which component it belongs to.
pub const COMPONENT: &str = "install.forestay.dev/component";
