//! The containers and volumes that injection adds, as plain JSON.
//!
//! In come the pod as the user wrote it and the settings; out come `istio-init`, `istio-proxy` and the volumes. Nothing
//! here changes the pod.

use std::collections::BTreeMap;

use crds::meshconfig::{InterceptionMode, ProxyConfig};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::annotations as annotation;
use super::settings::{Global, Settings};
use super::workload::Workload;

/// The proxy's container.
pub(crate) const PROXY: &str = "istio-proxy";
/// The init container that redirects traffic.
pub(crate) const INIT: &str = "istio-init";

/// What rendering reads.
pub(crate) struct Subject<'a> {
    pub(crate) settings: &'a Settings,
    /// The pod without anything of ours.
    pub(crate) pod: &'a Pod,
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// The mesh's proxy settings with the pod's over them.
    pub(crate) proxy_config: &'a ProxyConfig,
    pub(crate) interception: InterceptionMode,
    pub(crate) workload: &'a Workload,
    pub(crate) native: bool,
    /// The user that the proxy runs as, where the pod's own `istio-proxy` container says it.
    pub(crate) run_as_user: Option<i64>,
    /// Further environment, from the webhook's path.
    pub(crate) variables: &'a [(String, String)],
}

impl Subject<'_> {
    fn global(&self) -> &Global {
        &self.settings.values.global
    }

    /// An annotation, or the setting that it overrides.
    fn annotation<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.annotations.get(name).map_or(otherwise, String::as_str)
    }

    /// The agent's port, `"0"` for none.
    pub(crate) fn status_port(&self) -> &str {
        self.annotation(annotation::STATUS_PORT, &self.global().proxy.status_port)
    }

    fn image(&self) -> String {
        let global = self.global();
        let image = self.annotation(annotation::PROXY_IMAGE, &global.proxy.image);
        if image.contains('/') {
            return image.to_owned();
        }
        let of_config = self.proxy_config.image.as_ref().map(|image| image.image_type.as_str()).unwrap_or_default();
        let kind = match (self.annotations.get(annotation::PROXY_IMAGE_TYPE), of_config) {
            (Some(kind), _) => kind,
            (None, "") => global.variant.as_str(),
            (None, kind) => kind,
        };
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
    fn resources(&self) -> Value {
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

    fn proxy_metadata(&self) -> Vec<Value> {
        self.proxy_config.proxy_metadata.iter().map(|(name, value)| variable(name, value)).collect()
    }

    fn with_pull_policy(&self, mut container: Value) -> Value {
        let policy = &self.global().image_pull_policy;
        if let (Value::Object(container), false) = (&mut container, policy.is_empty()) {
            container.insert("imagePullPolicy".to_owned(), json!(policy));
        }
        container
    }

    /// `istio-init`: sends the pod's traffic through the proxy. None with interception mode NONE, where an application
    /// speaks to the proxy's ports itself.
    pub(crate) fn init_container(&self) -> Option<Value> {
        if self.interception == InterceptionMode::None && !self.native {
            return None;
        }
        let global = self.global();
        let proxy = &global.proxy;
        let uid = self.run_as_user.filter(|uid| *uid != 0).unwrap_or(i64::from(names::ports::PROXY_UID)).to_string();
        let excluded = self.annotation(annotation::EXCLUDE_INBOUND_PORTS, &proxy.exclude_inbound_ports);
        let excluded = excluded_inbound(excluded, self.status_port());
        let mut args: Vec<String> = [
            "istio-iptables",
            "-p",
            &names::ports::OUTBOUND.to_string(),
            "-z",
            &names::ports::INBOUND.to_string(),
            "-u",
            &uid,
            "-m",
            self.interception.as_str(),
            "-i",
            self.annotation(annotation::INCLUDE_OUTBOUND_RANGES, &proxy.include_ip_ranges),
            "-x",
            self.annotation(annotation::EXCLUDE_OUTBOUND_RANGES, &proxy.exclude_ip_ranges),
            "-b",
            self.annotation(annotation::INCLUDE_INBOUND_PORTS, &proxy.include_inbound_ports),
            "-d",
            &excluded,
        ]
        .map(str::to_owned)
        .to_vec();
        let interfaces = [annotation::REROUTE_INTERFACES, annotation::KUBEVIRT_INTERFACES];
        let optional = [
            ("-q", self.annotation(annotation::INCLUDE_OUTBOUND_PORTS, &proxy.include_outbound_ports)),
            ("-o", self.annotation(annotation::EXCLUDE_OUTBOUND_PORTS, &proxy.exclude_outbound_ports)),
            ("-k", interfaces.iter().find_map(|name| self.annotations.get(*name)).map_or("", String::as_str)),
            ("-c", self.annotation(annotation::EXCLUDE_INTERFACES, "")),
        ];
        for (flag, value) in optional.into_iter().filter(|(_, value)| !value.is_empty()) {
            args.extend([flag.to_owned(), value.to_owned()]);
        }
        args.push(self.log_level());
        if global.log_as_json {
            args.push("--log_as_json".to_owned());
        }
        if global.proxy_init.force_apply_iptables {
            args.push("--force-apply".to_owned());
        }
        let image = if global.proxy_init.image.contains('/') { global.proxy_init.image.clone() } else { self.image() };
        let mut container = json!({
            "name": INIT,
            "image": image,
            "args": args,
            "resources": self.resources(),
            "securityContext": {
                "allowPrivilegeEscalation": proxy.privileged,
                "privileged": proxy.privileged,
                "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
                "readOnlyRootFilesystem": false,
                "runAsGroup": 0,
                "runAsNonRoot": false,
                "runAsUser": 0,
            },
        });
        insert_unless_empty(&mut container, "env", &self.proxy_metadata());
        Some(self.with_pull_policy(container))
    }

    fn log_level(&self) -> String {
        let level = self.annotation(annotation::AGENT_LOG_LEVEL, &self.global().logging.level);
        format!("--log_output_level={level}")
    }

    /// `istio-proxy`.
    pub(crate) fn proxy_container(&self) -> Value {
        let global = self.global();
        let mut args = vec![
            "proxy".to_owned(),
            "sidecar".to_owned(),
            "--domain".to_owned(),
            format!("$(POD_NAMESPACE).svc.{}", global.proxy.cluster_domain),
            format!("--proxyLogLevel={}", self.annotation(annotation::LOG_LEVEL, &global.proxy.log_level)),
            format!(
                "--proxyComponentLogLevel={}",
                self.annotation(annotation::COMPONENT_LOG_LEVEL, &global.proxy.component_log_level)
            ),
            self.log_level(),
        ];
        if global.log_as_json {
            args.push("--log_as_json".to_owned());
        }
        let mut container = json!({
            "name": PROXY,
            "image": self.image(),
            "args": args,
            "ports": [{"containerPort": names::ports::PROXY_STATS, "name": "http-envoy-prom", "protocol": "TCP"}],
            "env": self.environment(),
            "resources": self.resources(),
            "securityContext": self.security_context(),
            "volumeMounts": self.mounts(),
        });
        if let Value::Object(container) = &mut container {
            if self.native {
                container.insert("restartPolicy".to_owned(), json!("Always"));
            }
            container.extend(self.lifecycle().map(|lifecycle| ("lifecycle".to_owned(), lifecycle)));
            container.extend(self.probes());
        }
        self.with_pull_policy(container)
    }

    /// A native sidecar outlives the application and has to be told to drain; a classic one is told to let the
    /// application wait, if asked for.
    fn lifecycle(&self) -> Option<Value> {
        if !self.global().proxy.lifecycle.is_empty() {
            return Some(Value::Object(self.global().proxy.lifecycle.clone()));
        }
        if self.native {
            // Port 0 means no probes; the agent itself is still there.
            let port = Some(self.status_port()).filter(|port| *port != "0").unwrap_or(&self.global().proxy.status_port);
            let port = format!("--debug-port={port}");
            return Some(json!({"preStop": {"exec": {"command": ["pilot-agent", "request", port, "POST", "drain"]}}}));
        }
        self.holds_application().then(|| json!({"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}))
    }

    /// Whether a classic sidecar starts first and the application waits for it.
    pub(crate) fn holds_application(&self) -> bool {
        let of_mesh = self.global().proxy.hold_application_until_proxy_starts;
        self.proxy_config.hold_application_until_proxy_starts.unwrap_or(of_mesh)
    }

    fn probes(&self) -> Map<String, Value> {
        let mut probes = Map::new();
        if self.status_port() == "0" {
            return probes;
        }
        let proxy = &self.global().proxy;
        let number = |name: &str, otherwise: u32| {
            self.annotations.get(name).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
        };
        let get = json!({"path": "/healthz/ready", "port": names::ports::HEALTH});
        let mut readiness = json!({
            "httpGet": get,
            "periodSeconds": number(annotation::PERIOD, proxy.readiness_period_seconds),
            "timeoutSeconds": 3,
            "failureThreshold": number(annotation::FAILURE_THRESHOLD, proxy.readiness_failure_threshold),
        });
        let delay = number(annotation::INITIAL_DELAY, proxy.readiness_initial_delay_seconds);
        if let (Value::Object(readiness), true) = (&mut readiness, delay > 0) {
            readiness.insert("initialDelaySeconds".to_owned(), json!(delay));
        }
        probes.insert("readinessProbe".to_owned(), readiness);
        if proxy.startup_probe.enabled {
            let threshold = proxy.startup_probe.failure_threshold;
            let startup =
                json!({"httpGet": get, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": threshold});
            probes.insert("startupProbe".to_owned(), startup);
        }
        probes
    }

    fn security_context(&self) -> Value {
        let proxy = &self.global().proxy;
        let transparent = self.interception == InterceptionMode::Tproxy;
        let low_ports = self.annotations.get(annotation::CAP_NET_BIND).is_some_and(|value| value == "true");
        let tracing =
            self.proxy_config.proxy_metadata.get("IPTABLES_TRACE_LOGGING").is_some_and(|value| value == "true");
        let mut add = Vec::new();
        if transparent || tracing {
            add.push("NET_ADMIN");
        }
        if low_ports {
            add.push("NET_BIND_SERVICE");
        }
        let root = transparent || low_ports;
        let mut capabilities = json!({"drop": ["ALL"]});
        insert_unless_empty(&mut capabilities, "add", &add);
        let mut context = json!({
            "allowPrivilegeEscalation": proxy.privileged || tracing,
            "privileged": proxy.privileged || tracing,
            "capabilities": capabilities,
            "readOnlyRootFilesystem": true,
            "runAsGroup": names::ports::PROXY_UID,
            "runAsNonRoot": !root,
            "runAsUser": if root { 0 } else { names::ports::PROXY_UID },
        });
        if let (Value::Object(context), false) = (&mut context, proxy.seccomp_profile.is_empty()) {
            context.insert("seccompProfile".to_owned(), Value::Object(proxy.seccomp_profile.clone()));
        }
        context
    }

    fn environment(&self) -> Vec<Value> {
        let global = self.global();
        let mesh = &self.settings.mesh;
        let spec = self.pod.spec.as_ref();
        let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let ports: Vec<_> = containers.iter().flat_map(|c| c.ports.iter().flatten()).collect();
        let names: Vec<_> = containers.iter().map(|container| container.name.as_str()).collect();
        let ca = if global.ca_address.is_empty() {
            let istiod = names::resources::istiod(&self.settings.revision);
            format!("{istiod}.{}.svc:{}", global.istio_namespace, names::ports::XDS_TLS)
        } else {
            global.ca_address.clone()
        };
        let or = |value: &str, otherwise: &str| if value.is_empty() { otherwise.to_owned() } else { value.to_owned() };
        let mut env = vec![
            variable("PILOT_CERT_PROVIDER", &global.pilot_cert_provider),
            variable("CA_ADDR", &ca),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("INSTANCE_IP", "status.podIP"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("HOST_IP", "status.hostIP"),
            json!({
                "name": "ISTIO_CPU_LIMIT",
                "valueFrom": {"resourceFieldRef": {"divisor": "1", "resource": "limits.cpu"}},
            }),
            variable("PROXY_CONFIG", &Value::Object(self.proxy_config.differences()).to_string()),
            variable("ISTIO_META_POD_PORTS", &json!(ports).to_string()),
            variable("ISTIO_META_APP_CONTAINERS", &names.join(",")),
            variable("ISTIO_META_CLUSTER_ID", &or(&global.multi_cluster.cluster_name, names::CLUSTER_ID)),
            field("ISTIO_META_NODE_NAME", "spec.nodeName"),
            variable("ISTIO_META_INTERCEPTION_MODE", self.interception.as_str()),
        ];
        if !global.network.is_empty() {
            env.push(variable("ISTIO_META_NETWORK", &global.network));
        }
        if !self.workload.name.is_empty() {
            let name = self.labels.get(names::labels::WORKLOAD_NAME).unwrap_or(&self.workload.name);
            env.push(variable("ISTIO_META_WORKLOAD_NAME", name));
            env.push(variable("ISTIO_META_OWNER", &self.workload.owner(self.namespace)));
        }
        let mesh_id = or(&or(&global.mesh_id, &self.proxy_config.mesh_id), &mesh.trust_domain);
        env.push(variable("ISTIO_META_MESH_ID", &mesh_id));
        env.push(variable("TRUST_DOMAIN", &mesh.trust_domain));
        let inbound = mesh.other.get("inboundTrafficPolicy").and_then(|policy| policy.get("mode"));
        if inbound.is_some_and(|mode| mode == "LOCALHOST") {
            env.push(variable("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true"));
        }
        env.extend(self.proxy_metadata());
        for (name, value) in self.variables {
            set_variable(&mut env, name, value);
        }
        env
    }

    fn mounts(&self) -> Vec<Value> {
        let mut mounts: Vec<_> = [
            ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
            ("credential-socket", "/var/run/secrets/credential-uds"),
            ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
            ("istiod-ca-cert", names::paths::ROOT_CERT_DIR),
            ("istio-ca-crl", "/var/run/secrets/istio/crl"),
            ("istio-data", "/var/lib/istio/data"),
            ("istio-envoy", names::paths::PROXY_STATE),
            ("istio-token", "/var/run/secrets/tokens"),
            ("istio-podinfo", "/etc/istio/pod"),
        ]
        .into_iter()
        .map(|(name, path)| json!({"name": name, "mountPath": path}))
        .collect();
        mounts.extend(self.user_objects(annotation::USER_VOLUME_MOUNT));
        mounts
    }

    /// Volumes of our own, then those that the user asked for.
    pub(crate) fn volumes(&self) -> Vec<Value> {
        let reference = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
        let mut volumes = vec![
            json!({"name": "workload-socket", "emptyDir": {}}),
            json!({"name": "credential-socket", "emptyDir": {}}),
            json!({"name": "workload-certs", "emptyDir": {}}),
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
        volumes.extend(self.user_objects(annotation::USER_VOLUME));
        volumes
    }

    /// `{"name": {...}}` of an annotation as `[{name: ..., ...}]`.
    fn user_objects(&self, name: &str) -> Vec<Value> {
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

/// The ports that are never captured: statistics, health, the user's, the agent's.
fn excluded_inbound(user: &str, status_port: &str) -> String {
    let mut ports = vec![names::ports::PROXY_STATS.to_string(), names::ports::HEALTH.to_string()];
    ports.extend(user.split(',').map(str::trim).filter(|port| !port.is_empty()).map(str::to_owned));
    if !matches!(status_port, "" | "0") && !ports.iter().any(|port| port == status_port) {
        ports.push(status_port.to_owned());
    }
    ports.join(",")
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

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn insert_unless_empty<T: serde::Serialize>(object: &mut Value, name: &str, items: &[T]) {
    if let (Value::Object(object), false) = (object, items.is_empty()) {
        object.insert(name.to_owned(), json!(items));
    }
}
