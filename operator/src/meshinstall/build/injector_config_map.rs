//! ConfigMap `istio-sidecar-injector[-<revision>]`: what the webhook injects.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::RenderError;
use crate::meshinstall::mesh::{Component, Mesh};

pub(super) fn build(mesh: &Mesh) -> Result<ConfigMap, RenderError> {
    let data = [
        ("config".to_owned(), crds::yaml::to_string(&config())?),
        ("values".to_owned(), format!("{:#}\n", values(mesh)?)),
    ];
    Ok(ConfigMap {
        metadata: mesh.object(Component::Configuration, &mesh.namespace, &mesh.injector()),
        data: Some(data.into()),
        ..ConfigMap::default()
    })
}

/// Whom to inject. The templates are the webhook's own.
fn config() -> Value {
    json!({
        "policy": "enabled",
        "alwaysInjectSelector": [],
        "neverInjectSelector": [],
        "injectedAnnotations": {},
        "defaultTemplates": ["sidecar"],
    })
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
        "revision": mesh.revision,
        "sidecarInjectorWebhook": {
            "rewriteAppHTTPProbe": true,
            "enableNamespacesByDefault": false,
            "reinvocationPolicy": "Never",
            "defaultTemplates": ["sidecar"],
        },
    }))
}
