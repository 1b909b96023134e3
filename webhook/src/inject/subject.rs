//! What rendering reads of a pod: its own words, the settings beneath them, and what follows from both.

use std::collections::BTreeMap;

use crds::meshconfig::{InterceptionMode, ProxyConfig};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::annotations as annotation;
use super::cluster::Namespace;
use super::settings::Settings;
use super::values::Global;
use super::variables;
use super::workload::Workload;

/// A pod to inject, and all that its injection depends on.
pub(crate) struct Subject<'a> {
    pub(crate) settings: &'a Settings,
    /// The pod without anything of ours, and without the user's own `istio-proxy`.
    pub(crate) pod: &'a Pod,
    /// The pod without anything of ours, raw.
    pub(crate) raw: &'a Value,
    pub(crate) namespace: &'a str,
    /// What is known of the namespace.
    pub(crate) about: Option<&'a Namespace>,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// The mesh's proxy settings with the pod's over them.
    pub(crate) proxy_config: &'a ProxyConfig,
    pub(crate) interception: InterceptionMode,
    pub(crate) workload: &'a Workload,
    pub(crate) native: bool,
    /// The user's own `istio-proxy`, where the pod has one.
    pub(crate) users: Option<&'a Value>,
    /// Further environment, from the webhook's path.
    pub(crate) variables: &'a [(String, String)],
}

impl Subject<'_> {
    pub(crate) fn global(&self) -> &Global {
        &self.settings.values.global
    }

    /// An annotation, or the setting that it overrides.
    pub(crate) fn annotation<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.annotations.get(name).map_or(otherwise, String::as_str)
    }

    /// The agent's port, `"0"` for none.
    pub(crate) fn status_port(&self) -> &str {
        self.annotation(annotation::STATUS_PORT, &self.global().proxy.status_port)
    }

    /// The proxy's user, unless the pod's own `istio-proxy` says another.
    pub(crate) fn proxy_uid(&self) -> i64 {
        self.about.and_then(Namespace::proxy_uid).unwrap_or(i64::from(names::ports::PROXY_UID))
    }

    /// The proxy's group.
    pub(crate) fn proxy_gid(&self) -> i64 {
        self.about.and_then(Namespace::proxy_gid).unwrap_or(i64::from(names::ports::PROXY_UID))
    }

    /// The user that the pod's own `istio-proxy` says.
    pub(crate) fn run_as_user(&self) -> Option<i64> {
        self.users?.pointer("/securityContext/runAsUser")?.as_i64()
    }

    /// The group that the pod's own `istio-proxy` says.
    pub(crate) fn run_as_group(&self) -> Option<i64> {
        self.users?.pointer("/securityContext/runAsGroup")?.as_i64()
    }

    /// The network that the pod is in: its own label, the webhook's path, the settings, the label on the mesh's namespace.
    pub(crate) fn network(&self) -> Option<&str> {
        let of_path =
            self.variables.iter().find(|(name, _)| name == variables::NETWORK).map(|(_, value)| value.as_str());
        let said = |text: &str| !text.is_empty();
        let own = self.labels.get(names::labels::NETWORK).map(String::as_str);
        let set = Some(self.global().network.as_str());
        let candidates = [own, of_path, set, self.settings.cluster.network(&self.global().istio_namespace)];
        candidates.into_iter().flatten().find(|network| said(network))
    }

    /// Whether applications take connections on loopback only.
    pub(crate) fn inbound_on_loopback(&self) -> bool {
        let inbound = self.settings.mesh.other.get("inboundTrafficPolicy").and_then(|policy| policy.get("mode"));
        inbound.is_some_and(|mode| mode == "LOCALHOST")
    }

    /// Istio's `COMPLIANCE_POLICY`.
    pub(crate) fn compliance_policy(&self) -> Option<&str> {
        let policy = self.settings.values.pilot.env.get(super::values::COMPLIANCE_POLICY)?;
        Some(policy.as_ref()).filter(|policy: &&str| !policy.is_empty())
    }

    /// The containers of the application.
    pub(crate) fn application(&self) -> &[k8s_openapi::api::core::v1::Container] {
        self.pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
    }

    /// The proxy's image.
    pub(crate) fn image(&self) -> String {
        self.image_named(self.annotation(annotation::PROXY_IMAGE, &self.global().proxy.image))
    }

    /// The proxy's image, whatever the pod's annotation says.
    pub(crate) fn default_image(&self) -> String {
        self.image_named(&self.global().proxy.image)
    }

    /// Which variant of the image is asked for: `default` and nothing are the same.
    pub(crate) fn image_variant(&self) -> &str {
        let of_config = self.proxy_config.image.as_ref().map(|image| image.image_type.as_str()).unwrap_or_default();
        match (self.annotations.get(annotation::PROXY_IMAGE_TYPE), of_config) {
            (Some(kind), _) => kind,
            (None, "") => self.global().variant.as_str(),
            (None, kind) => kind,
        }
    }

    fn image_named(&self, image: &str) -> String {
        let global = self.global();
        if image.contains('/') {
            return image.to_owned();
        }
        let kind = self.image_variant();
        let tag = if kind.is_empty() {
            global.tag.to_string()
        } else {
            let bare = ["-debug", "-distroless"].iter().find_map(|variant| global.tag.strip_suffix(variant));
            let bare = bare.unwrap_or(&global.tag);
            if kind == "default" { bare.to_owned() } else { format!("{bare}-{kind}") }
        };
        names::images::reference(&global.hub, image, &tag)
    }

    /// The pod's four annotations, if it has any of them, replace the settings altogether.
    pub(crate) fn resources(&self) -> Value {
        let of = |cpu: &str, memory: &str| {
            let pairs = [("cpu", self.annotations.get(cpu)), ("memory", self.annotations.get(memory))];
            let set: Map<_, _> =
                pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
            (!set.is_empty()).then_some(Value::Object(set))
        };
        let requests = of(annotation::PROXY_CPU, annotation::PROXY_MEMORY);
        let limits = of(annotation::PROXY_CPU_LIMIT, annotation::PROXY_MEMORY_LIMIT);
        let mut resources = Map::new();
        if requests.is_none() && limits.is_none() {
            for (name, amounts) in &self.global().proxy.resources {
                let Some(amounts) = amounts.as_object() else { continue };
                let set: Map<_, _> = amounts.iter().filter(|(_, amount)| !amount.is_null()).map(own).collect();
                if !set.is_empty() {
                    resources.insert(name.clone(), Value::Object(set));
                }
            }
        }
        resources.extend(requests.map(|requests| ("requests".to_owned(), requests)));
        resources.extend(limits.map(|limits| ("limits".to_owned(), limits)));
        Value::Object(resources)
    }

    pub(crate) fn proxy_metadata(&self) -> Vec<Value> {
        self.proxy_config.proxy_metadata.iter().map(|(name, value)| variable(name, value)).collect()
    }

    pub(crate) fn with_pull_policy(&self, mut container: Value) -> Value {
        let policy = &self.global().image_pull_policy;
        if let (Value::Object(container), false) = (&mut container, policy.is_empty()) {
            container.insert("imagePullPolicy".to_owned(), json!(policy));
        }
        container
    }

    pub(crate) fn log_level(&self) -> String {
        let level = self.annotation(annotation::AGENT_LOG_LEVEL, &self.global().logging.level);
        format!("--log_output_level={level}")
    }

    /// Whether a classic sidecar starts first and the application waits for it.
    pub(crate) fn holds_application(&self) -> bool {
        let of_mesh = self.global().proxy.hold_application_until_proxy_starts;
        self.proxy_config.hold_application_until_proxy_starts.unwrap_or(of_mesh)
    }
}

/// An environment variable with a value.
pub(crate) fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// Sets a variable, in place if it is there.
pub(crate) fn set_variable(env: &mut Vec<Value>, name: &str, value: &str) {
    match env.iter_mut().find(|one| one.get("name").is_some_and(|own| own == name)) {
        Some(one) => *one = variable(name, value),
        None => env.push(variable(name, value)),
    }
}

/// An environment variable that is a field of the pod.
pub(crate) fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

pub(crate) fn insert_unless_empty<T: serde::Serialize>(object: &mut Value, name: &str, items: &[T]) {
    if let (Value::Object(object), false) = (object, items.is_empty()) {
        object.insert(name.to_owned(), json!(items));
    }
}
