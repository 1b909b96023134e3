//! ConfigMap `istio-sidecar-injector[-<revision>]`: what the webhook injects.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::RenderError;
use super::webhook_configuration::NAMESPACES_BY_DEFAULT;
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

/// The fields of key `config`, and the values that they come from.
const CONFIG: [(&str, &str); 7] = [
    ("policy", "/global/proxy/autoInject"),
    ("alwaysInjectSelector", "/sidecarInjectorWebhook/alwaysInjectSelector"),
    ("neverInjectSelector", "/sidecarInjectorWebhook/neverInjectSelector"),
    ("injectedAnnotations", "/sidecarInjectorWebhook/injectedAnnotations"),
    ("defaultTemplates", "/sidecarInjectorWebhook/defaultTemplates"),
    ("templates", "/sidecarInjectorWebhook/templates"),
    ("aliases", "/sidecarInjectorWebhook/aliases"),
];

/// Whom to inject, and by which templates; from the values, as Istio's chart has it. Built-in templates are the webhook's
/// own.
fn config(values: &Value) -> Value {
    let mut config = json!({
        "policy": "enabled",
        "alwaysInjectSelector": [],
        "neverInjectSelector": [],
        "injectedAnnotations": {},
        "defaultTemplates": ["sidecar"],
    });
    for (name, path) in CONFIG {
        // Of maps nothing but maps: Helm leaves an empty one out.
        let is_map = |value: &&Value| !matches!(name, "templates" | "aliases") || value.is_object();
        if let (Some(config), Some(value)) = (config.as_object_mut(), values.pointer(path).filter(is_map)) {
            config.insert(name.to_owned(), value.clone());
        }
    }
    config
}

/// The paths of the user's values that neither the operator nor the webhook reads, and that are not so anyway.
pub(crate) fn values_without_effect(mesh: &Mesh) -> Result<Vec<String>, RenderError> {
    let mut own = Value::Object(mesh.values.clone());
    drop_nulls(&mut own);
    let standard = values(mesh)?;
    let pointer = |path: &String| format!("/{}", path.replace('.', "/"));
    let read_here = |path: &String| {
        CONFIG.iter().map(|(_, path)| *path).chain([NAMESPACES_BY_DEFAULT]).any(|read| read == pointer(path))
    };
    let is_so_anyway = |path: &String| {
        let value = own.pointer(&pointer(path));
        value.is_some() && value == standard.pointer(&pointer(path))
    };
    let mut found = webhook::inject::settings::unread(&own);
    found.retain(|path| !read_here(path) && !is_so_anyway(path));
    Ok(found.into_iter().map(|path| format!("spec.values.{path}")).collect())
}

/// What takes a default away asks for nothing by itself.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(drop_nulls);
    }
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
