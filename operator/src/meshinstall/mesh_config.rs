//! Istio's MeshConfig: our defaults, the profile's values and the user's, laid over each other as Istio does it.

use serde_json::{Map, Value, json};

use super::mesh::discovery_address;

/// What Istio's installation puts into the ConfigMap before anybody asks for anything.
pub(crate) fn defaults(namespace: &str, revision: &str) -> Map<String, Value> {
    let config = json!({
        "defaultConfig": {"discoveryAddress": discovery_address(namespace, revision)},
        "defaultProviders": {"metrics": ["prometheus"]},
        "enablePrometheusMerge": true,
        "rootNamespace": namespace,
        "trustDomain": names::identity::TRUST_DOMAIN,
    });
    match config {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Lays `over` on `base`. Each field replaces the one below, `null` takes it away; `defaultConfig` and its
/// `proxyMetadata` merge, `extensionProviders` merge by name (`pkg/config/mesh/mesh.go`).
pub(crate) fn merge(mut base: Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    for (field, value) in over {
        let merged = match (field.as_str(), base.get(field), value) {
            ("defaultConfig", Some(Value::Object(below)), Value::Object(above)) => {
                Value::Object(merge_proxy_config(below.clone(), above))
            }
            ("extensionProviders", Some(Value::Array(below)), Value::Array(above)) => {
                Value::Array(merge_by_name(below.clone(), above))
            }
            _ => value.clone(),
        };
        set(&mut base, field, merged);
    }
    base
}

fn merge_proxy_config(mut base: Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    for (field, value) in over {
        let merged = match (field.as_str(), base.get(field), value) {
            ("proxyMetadata", Some(Value::Object(below)), Value::Object(above)) => {
                let mut metadata = below.clone();
                for (key, value) in above {
                    set(&mut metadata, key, value.clone());
                }
                Value::Object(metadata)
            }
            _ => value.clone(),
        };
        set(&mut base, field, merged);
    }
    base
}

fn merge_by_name(mut base: Vec<Value>, over: &[Value]) -> Vec<Value> {
    for provider in over {
        match base.iter_mut().find(|known| known.get("name") == provider.get("name")) {
            Some(known) => known.clone_from(provider),
            None => base.push(provider.clone()),
        }
    }
    base
}

fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    if value.is_null() {
        map.shift_remove(key);
    } else {
        map.insert(key.to_owned(), value);
    }
}

/// What a proxy cannot know by itself: the fields of `defaultConfig` that differ from a proxy's own defaults. It is
/// the `PROXY_CONFIG` of a gateway.
pub(crate) fn proxy_config(mesh_config: &Map<String, Value>) -> Map<String, Value> {
    let own = discovery_address(names::resources::MESH_NAMESPACE, names::DEFAULT_REVISION);
    let mut config = mesh_config.get("defaultConfig").and_then(Value::as_object).cloned().unwrap_or_default();
    config.retain(|field, value| !(field == "discoveryAddress" && value.as_str() == Some(own.as_str())));
    config
}

/// `defaultConfig.proxyMetadata`, sorted by key, as environment variables of a proxy.
pub(crate) fn proxy_metadata(mesh_config: &Map<String, Value>) -> Vec<(String, String)> {
    let metadata = mesh_config.get("defaultConfig").and_then(|config| config.get("proxyMetadata"));
    let mut variables: Vec<(String, String)> = metadata
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    variables.sort();
    variables
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{defaults, merge, proxy_config, proxy_metadata};

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn lays_one_over_the_other_as_istio_does() {
        for (name, base, over, expected) in [
            ("a field replaces", json!({"a": 1, "b": 2}), json!({"b": 3}), json!({"a": 1, "b": 3})),
            ("an object replaces whole", json!({"a": {"x": 1}}), json!({"a": {"y": 2}}), json!({"a": {"y": 2}})),
            ("null takes away", json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2})),
            (
                "defaultConfig merges",
                json!({"defaultConfig": {"discoveryAddress": "d", "concurrency": 2}}),
                json!({"defaultConfig": {"concurrency": 4, "tracing": {"sampling": 1}}}),
                json!({"defaultConfig": {"discoveryAddress": "d", "concurrency": 4, "tracing": {"sampling": 1}}}),
            ),
            (
                "proxyMetadata merges",
                json!({"defaultConfig": {"proxyMetadata": {"A": "1", "B": "2"}}}),
                json!({"defaultConfig": {"proxyMetadata": {"B": "3", "C": "4"}}}),
                json!({"defaultConfig": {"proxyMetadata": {"A": "1", "B": "3", "C": "4"}}}),
            ),
            (
                "extensionProviders merge by name",
                json!({"extensionProviders": [{"name": "a", "port": 1}, {"name": "b"}]}),
                json!({"extensionProviders": [{"name": "a", "port": 2}, {"name": "c"}]}),
                json!({"extensionProviders": [{"name": "a", "port": 2}, {"name": "b"}, {"name": "c"}]}),
            ),
        ] {
            assert_eq!(Value::Object(merge(map(&base), &map(&over))), expected, "{name}");
        }
    }

    #[test]
    fn a_proxy_is_told_only_what_differs() {
        assert_eq!(Value::Object(proxy_config(&defaults("istio-system", "default"))), json!({}));
        assert_eq!(
            Value::Object(proxy_config(&defaults("mesh", "canary"))),
            json!({"discoveryAddress": "istiod-canary.mesh.svc:15012"})
        );
        let config = map(&json!({"defaultConfig": {"proxyMetadata": {"B": "2", "A": "1"}}}));
        assert_eq!(proxy_metadata(&config), [("A".into(), "1".into()), ("B".into(), "2".into())]);
    }
}
