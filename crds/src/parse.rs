//! From JSON to a type, with errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A document that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ParseError {
    /// The field, such as `spec.http[0].timeout`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Reads an object or a part of one. As in protobuf's JSON, `null` is the same as absent.
pub fn parse<T: DeserializeOwned>(mut value: Value) -> Result<T, ParseError> {
    drop_nulls(&mut value);
    serde_path_to_error::deserialize(value)
        .map_err(|error| ParseError { path: error.path().to_string(), message: error.inner().to_string() })
}

/// Removes members of objects that are `null`. Nesting is bounded by the readers of JSON and YAML (128 levels).
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::networking::virtual_service::VirtualService;

    #[test]
    fn an_error_names_the_field() {
        let rows = [
            ("{spec: {http: [{timeout: soon}]}}", "spec.http[0].timeout: \"soon\" is not a duration"),
            ("{spec: {http: [{route: [{weight: much}]}]}}", "spec.http[0].route[0].weight: invalid type: string"),
            ("{spec: {hosts: reviews}}", "spec.hosts: invalid type: string"),
            (
                "{spec: {http: [{redirect: {derivePort: FROM_ABOVE}}]}}",
                "spec.http[0].redirect.derivePort: unknown variant `FROM_ABOVE`",
            ),
        ];
        for (yaml, expected) in rows {
            let error = parse::<VirtualService>(crate::yaml::value(yaml).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn null_is_absent() {
        let yaml = "{metadata: {name: a}, spec: {hosts: null, http: [{timeout: null, route: null, name: x}]}}";
        let object: VirtualService = parse(crate::yaml::value(yaml).unwrap()).unwrap();
        assert_eq!(object.spec.http.len(), 1);
    }
}
