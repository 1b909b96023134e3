//! `spec.meshConfig`: Istio's MeshConfig, of whose every field `crds` knows what becomes of it.

use std::collections::BTreeMap;

use crds::meshconfig::fields::{Effect, FIELDS, PROXY_FIELDS};
use serde_json::{Map, Value, json};

use super::Invalid;

/// Values of such fields that ask for nothing but what is so anyway.
fn is_so_anyway(field: &str, value: &Value) -> bool {
    match field {
        "accessLogEncoding" => value == "TEXT",
        "defaultProviders" => *value == json!({"metrics": ["prometheus"]}),
        "disableEnvoyListenerLog" | "verifyCertificateAtClient" => value == true,
        "enableEnvoyAccessLogService" | "enableTracing" => value == false,
        "h2UpgradePolicy" => value == "DO_NOT_UPGRADE",
        "ingressControllerMode" => value == "OFF",
        _ => value.is_null(),
    }
}

/// The fields of a MeshConfig that are accepted and change nothing, as paths, for a condition.
pub(super) fn without_effect(own: &Map<String, Value>) -> Vec<String> {
    let of = |path: &str, config: &Map<String, Value>, fields: &[(&str, Effect)]| -> Vec<String> {
        let none = |name: &str| fields.iter().any(|(field, effect)| *field == name && *effect == Effect::None);
        let asked_for = config.iter().filter(|(name, value)| none(name) && !is_so_anyway(name, value));
        asked_for.map(|(name, _)| format!("{path}.{name}")).collect()
    };
    let mut found = of("spec.meshConfig", own, FIELDS);
    if let Some(Value::Object(proxy)) = own.get("defaultConfig") {
        found.extend(of("spec.meshConfig.defaultConfig", proxy, PROXY_FIELDS));
    }
    found
}

/// Refuses a field that Istio does not have: a slip of the pen would otherwise be a setting that silently is not there.
fn known(
    path: &str,
    config: &Map<String, Value>,
    fields: &[(&str, Effect)],
    wrong: &impl Fn(&str, String) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    for name in config.keys() {
        if fields.iter().any(|(known, _)| known == name) {
            continue;
        }
        let likeness = |known: &str| strsim::jaro_winkler(&known.to_ascii_lowercase(), &name.to_ascii_lowercase());
        let nearest = fields.iter().map(|(known, _)| (likeness(known), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = nearest.filter(|(likeness, _)| *likeness > 0.85).map(|(_, known)| format!("; is {known} meant?"));
        let hint = hint.unwrap_or_default();
        return wrong(&format!("{path}{name}"), format!("Istio's configuration has no such field{hint}"));
    }
    Ok(())
}

/// Names the field of a MeshConfig that is wrong. What a proxy or the control plane would only find out later, in a
/// log that nobody reads, is found here.
pub(super) fn check(config: &Map<String, Value>) -> Result<(), Invalid> {
    let wrong = |path: &str, message: String| Err(Invalid::spec(format!("spec.meshConfig.{path}"), message));
    if let Err(error) = crds::parse::<crds::meshconfig::MeshConfig>(Value::Object(config.clone())) {
        return wrong(&error.path, error.message);
    }
    known("", config, FIELDS, &wrong)?;
    if let Some(Value::Object(proxy)) = config.get("defaultConfig") {
        known("defaultConfig.", proxy, PROXY_FIELDS, &wrong)?;
    }
    if let Some(trust_domain) = config.get("trustDomain").and_then(Value::as_str) {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.chars().all(legal) {
            return wrong(
                "trustDomain",
                format!(
                    "{trust_domain:?} cannot be part of a SPIFFE identity: lower-case letters, digits, '.', '-' and '_' only"
                ),
            );
        }
    }
    // The control plane would move its listeners, and istio-init would go on redirecting to these.
    for (field, port) in
        [("proxyListenPort", names::ports::OUTBOUND), ("proxyInboundListenPort", names::ports::INBOUND)]
    {
        if let Some(other) = config.get(field).filter(|value| value.as_u64() != Some(port.into())) {
            return wrong(field, format!("{other} is not supported; pods' traffic is redirected to {port}"));
        }
    }
    if let Some(providers) = config.get("extensionProviders").and_then(Value::as_array) {
        let mut seen = BTreeMap::new();
        for (index, provider) in providers.iter().enumerate() {
            let path = format!("extensionProviders[{index}].name");
            let Some(name) = provider.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
                return wrong(&path, "a provider needs a name that Telemetry and AuthorizationPolicy refer to".into());
            };
            if let Some(first) = seen.insert(name, index) {
                return wrong(
                    &path,
                    format!("extensionProviders[{first}] is called {name:?} too; choose another name"),
                );
            }
        }
    }
    let metadata = config.get("defaultConfig").and_then(|proxy| proxy.get("proxyMetadata")).and_then(Value::as_object);
    for (key, value) in metadata.into_iter().flatten() {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(legal) {
            return wrong(
                "defaultConfig.proxyMetadata",
                format!("{key:?} cannot be the name of an environment variable"),
            );
        }
        if !value.is_string() && !value.is_null() {
            return wrong(
                &format!("defaultConfig.proxyMetadata.{key}"),
                format!("{value} becomes an environment variable: write it as a string, \"{value}\""),
            );
        }
    }
    Ok(())
}
