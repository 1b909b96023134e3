//! Annotations on pods and on our own objects.

/// On an injected pod: what the injection added, as JSON.
pub const STATUS: &str = "sidecar.istio.io/status";
/// On a pod: overrides native (`"true"`) or classic (`"false"`) sidecar.
pub const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
/// On a pod: the port of its proxy's agent, which rewritten probes and drain go to; `0` for no probes of the proxy.
pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
/// On a pod: the control plane of its proxy, `host:port`.
pub const DISCOVERY_ADDRESS: &str = "sidecar.istio.io/discoveryAddress";
/// On a pod: fields of ProxyConfig, as YAML.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// On an injected pod: the user's own `istio-proxy` fields, so that injecting again gives the same.
pub const PROXY_OVERRIDES: &str = "proxy.istio.io/overrides";
/// On an injected pod: the version of its proxy.
pub const PROXY_VERSION: &str = "install.forestay.dev/proxy-version";
/// On an object of ours: hands off; the operator leaves it as it is.
pub const IGNORE: &str = "install.forestay.dev/ignore";
/// On a MeshInstall that is being deleted: do not wait until nobody uses its revision.
pub const FORCE_DELETE: &str = "install.forestay.dev/force-delete";
/// On the pods of a Deployment of ours: the uid of the ServiceAccount that they were started anew for.
pub const TOKENS_OF: &str = "install.forestay.dev/tokens-of";
/// On an object that the operator makes: the hash of what it rendered.
pub const RENDERED: &str = "install.forestay.dev/rendered";
/// On an AuthorizationPolicy: `"true"` tries it out; it decides nothing and shows in metrics and logs.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// On an object of Istio's: its admission is refused, whatever it says. Istio probes its validation with it.
pub const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";
/// On the parent of an ApplySet: the tool that keeps it, and its version.
pub const SET_TOOLING: &str = "applyset.kubernetes.io/tooling";
/// On the parent of an ApplySet: the kinds that its members are of.
pub const SET_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
/// On the parent of an ApplySet: the namespaces that its members are in.
pub const SET_NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
