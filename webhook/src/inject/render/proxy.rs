//! `istio-proxy`, as a sidecar, as a gateway, and as an agent without a proxy.

use crds::meshconfig::InterceptionMode;
use serde_json::{Map, Value, json};

use crate::inject::PROXY;
use crate::inject::annotations as annotation;
use crate::inject::subject::{Subject, insert_unless_empty, set_variable, variable};

impl Subject<'_> {
    /// `istio-proxy` beside an application.
    pub(crate) fn proxy_container(&self) -> Value {
        let mut container = self.bare_proxy("sidecar");
        if let Value::Object(container) = &mut container {
            container.insert("resources".to_owned(), self.resources());
            container.insert("securityContext".to_owned(), self.security_context());
            if self.native {
                container.insert("restartPolicy".to_owned(), json!("Always"));
            }
            container.extend(self.lifecycle().map(|lifecycle| ("lifecycle".to_owned(), lifecycle)));
            container.extend(self.probes());
        }
        insert_unless_empty(&mut container, "volumeMounts", &self.mounts(true));
        container
    }

    /// `istio-proxy` as a gateway: the pod's own container says what else it needs.
    pub(crate) fn gateway_container(&self) -> Value {
        let mut container = self.bare_proxy("router");
        let mut context = json!({"runAsGroup": self.proxy_gid(), "runAsUser": self.proxy_uid()});
        let seccomp = &self.settings.values.gateways.seccomp_profile;
        if let (Value::Object(context), false) = (&mut context, seccomp.is_empty()) {
            context.insert("seccompProfile".to_owned(), Value::Object(seccomp.clone()));
        }
        if let Value::Object(container) = &mut container {
            container.insert("securityContext".to_owned(), context);
            if !self.global().proxy.lifecycle.is_empty() {
                container.insert("lifecycle".to_owned(), Value::Object(self.global().proxy.lifecycle.clone()));
            }
            let probes = self.probes().into_iter().filter(|(name, _)| name == "readinessProbe");
            container.extend(probes);
        }
        insert_unless_empty(&mut container, "volumeMounts", &self.mounts(false));
        container
    }

    /// `istio-proxy` as the agent of an application that speaks xDS itself.
    pub(crate) fn agent_container(&self) -> Value {
        let mut container = self.bare_proxy("sidecar");
        if let Value::Object(container) = &mut container {
            container.insert("resources".to_owned(), self.resources());
            if !self.global().proxy.lifecycle.is_empty() {
                container.insert("lifecycle".to_owned(), Value::Object(self.global().proxy.lifecycle.clone()));
            } else if self.holds_application() {
                container.insert("lifecycle".to_owned(), wait());
            }
            container.extend(self.probes().into_iter().filter(|(name, _)| name == "readinessProbe"));
        }
        if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
            env.splice(
                0..0,
                [variable("ISTIO_META_GENERATOR", "grpc"), variable("OUTPUT_CERTS", "/var/lib/istio/data")],
            );
            // gRPC resolves `xds:///` itself, so names need no address.
            set_variable(env, "ISTIO_META_DNS_CAPTURE", "false");
            set_variable(env, "DISABLE_ENVOY", "true");
        }
        let mounts: Vec<Value> = self
            .mounts(false)
            .into_iter()
            .map(|mut mount| {
                if let Some(name) = mount.get_mut("name").filter(|name| **name == "istio-envoy") {
                    *name = json!("istio-xds");
                }
                mount
            })
            .chain(self.user_objects(annotation::USER_VOLUME_MOUNT))
            .collect();
        insert_unless_empty(&mut container, "volumeMounts", &mounts);
        container
    }

    fn bare_proxy(&self, role: &str) -> Value {
        let global = self.global();
        let mut args = vec![
            "proxy".to_owned(),
            role.to_owned(),
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
        self.with_pull_policy(json!({
            "name": PROXY,
            "image": self.image(),
            "args": args,
            "ports": [{"containerPort": names::ports::PROXY_STATS, "name": "http-envoy-prom", "protocol": "TCP"}],
            "env": self.environment(),
        }))
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
        self.holds_application().then(wait)
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
            "runAsGroup": self.proxy_gid(),
            "runAsNonRoot": !root,
            "runAsUser": if root { 0 } else { self.proxy_uid() },
        });
        if let (Value::Object(context), false) = (&mut context, proxy.seccomp_profile.is_empty()) {
            context.insert("seccompProfile".to_owned(), Value::Object(proxy.seccomp_profile.clone()));
        }
        context
    }
}

/// The application's containers are started once this one's `postStart` is through.
fn wait() -> Value {
    json!({"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}})
}
