//! `google.protobuf.Struct`, protobuf's JSON object: built and read without ceremony.

use crate::types::google::{ListValue, Struct, Value, value::Kind};

/// A [`Struct`] under construction.
#[derive(Clone, Debug, Default)]
pub struct Object(Struct);

impl Object {
    /// An object without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: Value) -> Self {
        self.0.fields.insert(key.into(), value);
        self
    }

    /// Sets a field, unless the text is empty.
    #[must_use]
    pub fn set_text(self, key: &str, text: &str) -> Self {
        if text.is_empty() { self } else { self.set(key, string(text)) }
    }

    /// The finished object.
    pub fn build(self) -> Struct {
        self.0
    }
}

/// A string.
pub fn string(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

/// A number.
pub fn number(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

/// A list.
pub fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values: values.into_iter().collect() })) }
}

/// An object inside an object.
pub fn object(fields: Struct) -> Value {
    Value { kind: Some(Kind::StructValue(fields)) }
}

/// An object of strings, such as labels.
pub fn strings<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Struct {
    Struct { fields: pairs.into_iter().map(|(key, text)| (key.clone(), string(text))).collect() }
}

/// The text of a field; `None` when it is absent or no string.
pub fn text<'a>(object: &'a Struct, key: &str) -> Option<&'a str> {
    match object.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The number of a field; `None` when it is absent or no number.
pub fn float(object: &Struct, key: &str) -> Option<f64> {
    match object.fields.get(key)?.kind.as_ref()? {
        Kind::NumberValue(number) => Some(*number),
        _ => None,
    }
}

/// The object of a field; `None` when it is absent or no object.
pub fn fields<'a>(object: &'a Struct, key: &str) -> Option<&'a Struct> {
    match object.fields.get(key)?.kind.as_ref()? {
        Kind::StructValue(inner) => Some(inner),
        _ => None,
    }
}

/// The elements of a field that is a list; none when it is absent or no list.
pub fn elements<'a>(object: &'a Struct, key: &str) -> &'a [Value] {
    match object.fields.get(key).and_then(|value| value.kind.as_ref()) {
        Some(Kind::ListValue(list)) => &list.values,
        _ => &[],
    }
}

/// The fields of an object that are strings, such as labels.
pub fn texts(object: &Struct) -> impl Iterator<Item = (String, String)> + '_ {
    object.fields.iter().filter_map(|(key, value)| match value.kind.as_ref()? {
        Kind::StringValue(text) => Some((key.clone(), text.clone())),
        _ => None,
    })
}
