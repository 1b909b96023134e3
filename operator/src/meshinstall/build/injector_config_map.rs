//! ConfigMap `istio-sidecar-injector[-<revision>]`: what the webhook injects.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::RenderError;
use crate::meshinstall::mesh::{Component, Mesh};

pub(super) fn build(mesh: &Mesh) -> Result<ConfigMap, RenderError> {
    let mut values = values(mesh)?;
    lay_over(&mut values, &Value::Object(mesh.values.clone()));
    let config = ("config".to_owned(), crds::yaml::to_string(&config(&values))?);
    Ok(ConfigMap {
        metadata: mesh.object(Component::Configuration, &mesh.namespace, &mesh.injector()),
        data: Some([config, ("values".to_owned(), format!("{values:#}\n"))].into()),
        ..ConfigMap::default()
    })
}

/// Whom to inject, and by which templates; from the values, as Istio's chart has it. Built-in templates are the webhook's
/// own.
fn config(values: &Value) -> Value {
    let injector = |name: &str, otherwise: Value| {
        values.pointer(&format!("/sidecarInjectorWebhook/{name}")).cloned().unwrap_or(otherwise)
    };
    let mut config = json!({
        "policy": values.pointer("/global/proxy/autoInject").cloned().unwrap_or(json!("enabled")),
        "alwaysInjectSelector": injector("alwaysInjectSelector", json!([])),
        "neverInjectSelector": injector("neverInjectSelector", json!([])),
        "injectedAnnotations": injector("injectedAnnotations", json!({})),
        "defaultTemplates": injector("defaultTemplates", json!(["sidecar"])),
    });
    for name in ["templates", "aliases"] {
        if let (Some(config), value @ Value::Object(_)) = (config.as_object_mut(), injector(name, Value::Null)) {
            config.insert(name.to_owned(), value);
        }
    }
    config
}

/// Helm's rule: maps merge, null takes a default away, anything else replaces.
fn lay_over(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                if value.is_null() {
                    base.shift_remove(name);
                } else {
                    lay_over(base.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Istio's Helm values, as far as an injection depends on them.
fn values(mesh: &Mesh) -> Result<Value, RenderError> {
    Ok(json!({
        "global": {
            "hub": mesh.images.hub,
            "tag": mesh.images.tag,
            "istioNamespace": mesh.namespace,
            "imagePullPolicy": mesh.images.pull_policy,
            "imagePullSecrets": mesh.images.pull_secrets,
            "meshID": mesh.trust_domain(),
            "network": "",
            "platform": if mesh.openshift { "openshift" } else { "" },
            "multiCluster": {"clusterName": names::CLUSTER_ID},
            "proxy": {
                "image": mesh.proxy.image_value,
                "clusterDomain": names::CLUSTER_DOMAIN,
                "logLevel": mesh.proxy.log_level,
                "componentLogLevel": "misc:error",
                "privileged": false,
                "statusPort": names::ports::AGENT,
                "readinessInitialDelaySeconds": 0,
                "readinessPeriodSeconds": 15,
                "readinessFailureThreshold": 4,
                "startupProbe": {"enabled": true, "failureThreshold": 600},
                "includeIPRanges": "*",
                "excludeIPRanges": "",
                "includeInboundPorts": "*",
                "excludeInboundPorts": "",
                "includeOutboundPorts": "",
                "excludeOutboundPorts": "",
                "holdApplicationUntilProxyStarts": false,
                "resources": serde_json::to_value(&mesh.proxy.resources)?,
            },
            "proxy_init": {
                "image": mesh.proxy.image_value,
                "resources": serde_json::to_value(&mesh.proxy.resources)?,
            },
            "logging": {"level": "default:info"},
        },
        "pilot": {"cni": {"enabled": false, "provider": "default"}, "env": {"ENABLE_NATIVE_SIDECARS": "auto"}},
        "revision": mesh.revision,
        "sidecarInjectorWebhook": {
            "rewriteAppHTTPProbe": true,
            "enableNamespacesByDefault": false,
            "reinvocationPolicy": "Never",
            "defaultTemplates": ["sidecar"],
        },
    }))
}
