//! Members of the objects in annotations that nobody reads: the API server would drop them without a word, and a volume
//! whose source is misspelled would be an empty directory.

use std::fmt;

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

use super::annotations as annotation;

/// Says which members of a pod's own volumes and mounts are none of Kubernetes'.
pub(crate) fn of_volumes(name: &str, value: &str, warnings: &mut Vec<String>) {
    match name {
        annotation::USER_VOLUME => of_objects::<Volume>(name, "volume", value, warnings),
        annotation::USER_VOLUME_MOUNT => of_objects::<VolumeMount>(name, "mount", value, warnings),
        _ => {}
    }
}

fn of_objects<T: Serialize + DeserializeOwned>(name: &str, what: &str, value: &str, warnings: &mut Vec<String>) {
    // What is malformed has refused the pod already.
    let objects: Map<String, Value> = annotation::json_map(value).unwrap_or_default();
    for (own, object) in objects {
        for member in unread::<T>(&object) {
            // Which names there are is known of a whole volume, not of what is inside of it.
            let known = if member.contains('.') { &[] } else { fields_of::<T>() };
            let meant = crds::nearest(&member, known.iter().copied());
            let meant = meant.map(|meant| format!("; is {meant} meant?")).unwrap_or_default();
            let (own, member) = (short(&own), short(&member));
            warnings
                .push(format!("annotation {name}: {member} of {what} \"{own}\" is not known and has no effect{meant}"));
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(63).collect()
}

/// The paths of members that a type does not have: those that are gone when it is written again.
pub(crate) fn unread<T: Serialize + DeserializeOwned>(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let read = crds::parse::<T>(object.clone()).ok().and_then(|read| serde_json::to_value(read).ok());
    if let Some(read) = read {
        lost(object, &read, "", &mut found);
    }
    found
}

fn lost(written: &Value, read: &Value, path: &str, found: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (name, member) in written.iter().filter(|(_, member)| !member.is_null()) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match read.get(name) {
                    Some(read) => lost(member, read, &path, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                lost(written, read, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// The names of a type's fields, which every reader of it is told first.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    T::deserialize(Asking).err().map_or(&[], |names| names.0)
}

struct Asking;

/// What was asked for, in the place of an error.
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl std::error::Error for Names {}

impl serde::de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Asking {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::{annotation, of_volumes};

    fn warnings(name: &str, value: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        of_volumes(name, value, &mut warnings);
        warnings
    }

    #[test]
    fn members_that_kubernetes_does_not_have_are_named() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                annotation::USER_VOLUME,
                r#"{"a": {"emptyDir": {}}, "b": {"secret": {"secretName": "x", "items": []}}}"#,
                &[],
            ),
            (annotation::USER_VOLUME, r#"{"a": {"emptyDir": {"sizeLimit": 1}, "secret": null}, "b": {}}"#, &[]),
            (
                annotation::USER_VOLUME,
                r#"{"a": {"csi": {"driver": "d", "volumeAttributes": {"k": "v"}}, "projected": {"sources": [{"secret": {"name": "n"}}]}}}"#,
                &[],
            ),
            (
                annotation::USER_VOLUME,
                r#"{"certs": {"secert": {"secretName": "x"}}}"#,
                &["secert of volume \"certs\" is not known and has no effect; is secret meant?"],
            ),
            (
                annotation::USER_VOLUME,
                r#"{"certs": {"secret": {"name": "x", "items": [{"key": "k", "path": "p", "mod": 256}]}}}"#,
                &[
                    "secret.name of volume \"certs\" is not known and has no effect",
                    "secret.items[0].mod of volume \"certs\" is not known and has no effect",
                ],
            ),
            (annotation::USER_VOLUME_MOUNT, r#"{"a": {"mountPath": "/a", "readOnly": true, "subPath": ""}}"#, &[]),
            (
                annotation::USER_VOLUME_MOUNT,
                r#"{"a": {"mountPath": "/a", "readonly": true}}"#,
                &["readonly of mount \"a\" is not known and has no effect; is readOnly meant?"],
            ),
            ("sidecar.istio.io/other", "{", &[]),
        ];
        for (name, value, expected) in rows {
            let expected: Vec<_> = expected.iter().map(|said| format!("annotation {name}: {said}")).collect();
            assert_eq!(warnings(name, value), expected, "{value}");
        }
    }

    #[test]
    fn names_are_cut() {
        let long = "x".repeat(5000);
        for warning in warnings(annotation::USER_VOLUME, &format!("{{\"{long}\": {{\"{long}\": 1}}}}")) {
            assert!(warning.len() <= 256, "{warning}");
        }
    }
}
