//! The proxy's environment: how it reaches the control plane, and who it is.

use serde_json::{Value, json};

use crate::inject::subject::{Subject, field, set_variable, variable};
use crate::inject::variables;

impl Subject<'_> {
    pub(super) fn environment(&self) -> Vec<Value> {
        let global = self.global();
        let mesh = &self.settings.mesh;
        let containers = self.application();
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
        env.extend(self.network().map(|network| variable("ISTIO_META_NETWORK", network)));
        if !self.workload.name.is_empty() {
            let name = self.labels.get(names::labels::WORKLOAD_NAME).unwrap_or(&self.workload.name);
            env.push(variable("ISTIO_META_WORKLOAD_NAME", name));
            env.push(variable("ISTIO_META_OWNER", &self.workload.owner(self.namespace)));
        }
        let mesh_id = or(&or(&global.mesh_id, &self.proxy_config.mesh_id), &mesh.trust_domain);
        env.push(variable("ISTIO_META_MESH_ID", &mesh_id));
        env.push(variable("TRUST_DOMAIN", &mesh.trust_domain));
        if self.inbound_on_loopback() {
            env.push(variable("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true"));
        }
        if let Some(policy) = self.compliance_policy() {
            env.push(variable("COMPLIANCE_POLICY", policy));
            if policy.starts_with("fips") {
                env.push(variable("GODEBUG", "fips140=only"));
            }
        }
        env.extend(self.resource_attributes().map(|attributes| variable("OTEL_RESOURCE_ATTRIBUTES", &attributes)));
        env.extend(self.proxy_metadata());
        for (name, value) in self.variables.iter().filter(|(name, _)| name != variables::NETWORK) {
            set_variable(&mut env, name, value);
        }
        env
    }

    /// What a tracing provider by OpenTelemetry asks to know of the workload, under OpenTelemetry's names for Kubernetes.
    fn resource_attributes(&self) -> Option<String> {
        let providers = self.settings.mesh.other.get("extensionProviders")?.as_array()?;
        let asks = |provider: &Value| {
            let enrichment = provider.pointer("/opentelemetry/serviceAttributeEnrichment");
            enrichment.is_some_and(|enrichment| enrichment == "OTEL_SEMANTIC_CONVENTIONS")
        };
        if !providers.iter().any(asks) {
            return None;
        }
        let mut attributes = vec![format!("service.namespace={}", self.namespace)];
        let version = self.labels.get(names::labels::KUBERNETES_VERSION).filter(|version| !version.is_empty());
        attributes.extend(version.map(|version| format!("service.version={version}")));
        let container = self.application().first().map(|container| container.name.as_str());
        let instance = container.map(|name| format!("service.instance.id={}.$(POD_NAME).{name}", self.namespace));
        attributes.extend(instance);
        Some(attributes.join(","))
    }
}
