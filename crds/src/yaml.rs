//! The only reader and writer of YAML.
//!
//! Everything else works on [`serde_json::Value`]; the YAML library stays behind this door.

mod plain;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Text that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// The document it stands in, counted from 0.
    pub document: usize,
    /// The line of the text, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl YamlError {
    /// What is wrong, without the place.
    pub fn reason(&self) -> &str {
        let Self { document, line, message } = self;
        message.strip_prefix(&format!("document {}, line {line}: ", document + 1)).unwrap_or(message)
    }
}

/// One document of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its place, counted from 0 (empty documents count).
    pub index: usize,
    /// The line that it begins on, counted from 1.
    pub line: usize,
    /// Its content.
    pub value: Value,
}

impl Document {
    /// `apiVersion`, or nothing.
    pub fn api_version(&self) -> &str {
        self.text(&["apiVersion"])
    }

    /// The group in `apiVersion`; empty for Kubernetes' core.
    pub fn group(&self) -> &str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// `kind`, or nothing.
    pub fn kind(&self) -> &str {
        self.text(&["kind"])
    }

    /// `metadata.name`, or nothing.
    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    /// `metadata.namespace`, where there is one.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.text(&["metadata", "namespace"])).filter(|namespace| !namespace.is_empty())
    }

    fn text(&self, path: &[&str]) -> &str {
        path.iter().try_fold(&self.value, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads all documents of a text, each for itself: a broken one does not hide the others. Empty ones are left out; the
/// items of a `kind: List` stand in its place.
pub fn documents(text: &str) -> Vec<Result<Document, YamlError>> {
    let mut found = Vec::new();
    for part in parts(text) {
        match part.document() {
            Ok(None) => {}
            Ok(Some(document)) => {
                if document.kind() == "List" && document.group().is_empty() {
                    let Document { index, line, ref value } = document;
                    let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                    found.extend(items.into_iter().map(|value| Ok(Document { index, line, value })));
                } else {
                    found.push(Ok(document));
                }
            }
            Err(error) => found.push(Err(error)),
        }
    }
    found
}

/// One document of a text as it is written, empty or broken though it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its place, counted from 0.
    pub index: usize,
    /// The line that it begins on, counted from 1.
    pub line: usize,
    /// The text: all that follows the `---`, to the next one.
    pub text: &'a str,
}

impl Part<'_> {
    /// Reads it; nothing when it is empty. A `kind: List` stays whole.
    pub fn document(&self) -> Result<Option<Document>, YamlError> {
        let Self { index, line, text } = *self;
        match value(text) {
            Ok(Value::Null) => Ok(None),
            Ok(value) => Ok(Some(Document { index, line, value })),
            Err(error) => {
                let line = line + error.line.saturating_sub(1);
                let message = format!("document {}, line {line}: {}", index + 1, error.message);
                Err(YamlError { document: index, line, message })
            }
        }
    }

    /// Whether it is written as JSON.
    pub fn is_json(&self) -> bool {
        self.text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(self.text).is_ok()
    }
}

/// All documents of a text as they are written, the empty ones too. JSON objects may also follow each other without
/// anything between them, as `kubectl` reads them.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for (line, text) in split(text) {
        for (line, text) in json_stream(line, text) {
            parts.push(Part { index: parts.len(), line, text });
        }
    }
    parts
}

/// Takes JSON objects that follow each other apart; leaves everything else whole.
fn json_stream(line: usize, text: &str) -> Vec<(usize, &str)> {
    let whole = vec![(line, text)];
    if !text.trim_start().starts_with('{') {
        return whole;
    }
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(object) = objects.next() {
        let end = objects.byte_offset();
        let (Ok(_), Some(object)) = (object, text.get(start..end)) else { return whole };
        let before = text.get(..start).unwrap_or_default().matches('\n').count();
        let blank = object.len() - object.trim_start().len();
        let skipped = object.get(..blank).unwrap_or_default().matches('\n').count();
        found.push((line + before + skipped, object.trim_start()));
        start = end;
    }
    if found.len() > 1 { found } else { whole }
}

/// Splits at `---` lines. A line that begins so ends a document even inside a block of text (YAML 1.2, 9.1.2), so
/// no parsing is needed. Each part comes with the line that its content begins on.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            // What stands before the first separator is a document only if something is there (`%YAML`, a comment).
            if start != 0 || !text.get(..offset).unwrap_or_default().trim().is_empty() {
                parts.push((start_line, text.get(start..offset).unwrap_or_default()));
            }
            (start, start_line) = (offset + 3, number + 1);
        }
        offset += line.len();
    }
    parts.push((start_line, text.get(start..).unwrap_or_default()));
    parts
}

/// Reads one document. Merge keys (`<<`) are resolved; keys that are numbers or booleans become strings, as in JSON.
pub fn value(text: &str) -> Result<Value, YamlError> {
    let fail = |line: usize, message: String| YamlError { document: 0, line, message };
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The place is said once, by whoever knows the whole text.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        fail(error.location().map_or(1, |place| place.line()), message)
    })?;
    value.apply_merge().map_err(|error| fail(1, error.to_string()))?;
    serde_json::to_value(value).map_err(|error| fail(1, error.to_string()))
}

/// Reads one document into a type; an error names the field.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, ReadError> {
    let value = value(text).map_err(|error| ReadError(format!("line {}: {}", error.line, error.message)))?;
    // An empty text is an empty object: that is how people write "all defaults".
    let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
    crate::parse(value).map_err(|error| ReadError(error.to_string()))
}

/// Text that is not YAML, or does not fit its type; the message names line or field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

/// Writes one document.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, YamlError> {
    serde_yaml::to_string(value).map_err(|error| YamlError { document: 0, line: 1, message: error.to_string() })
}

/// Writes one document of somebody else's, so that readers of YAML 1.1, `kubectl` among them, understand every string in it as
/// one.
pub fn to_string_1_1(value: Value) -> Result<String, YamlError> {
    to_string(&plain::mark(value)).map(|text| plain::unmark(&text))
}

#[cfg(test)]
mod tests {
    use super::{documents, from_str, parts, value};

    #[test]
    fn each_document_knows_its_place() {
        let text = "# a comment\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n---\n---\n\
                    apiVersion: networking.istio.io/v1\nkind: Gateway\n";
        let found: Vec<_> = documents(text).into_iter().map(Result::unwrap).collect();
        let places: Vec<_> = found.iter().map(|d| (d.index, d.line, d.group(), d.kind(), d.name())).collect();
        assert_eq!(places, [(1, 2, "", "Pod", "a"), (3, 7, "networking.istio.io", "Gateway", "")]);
        assert_eq!(found[0].namespace(), Some("b"));
        assert_eq!(found[1].namespace(), None);
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        let found = documents("a: 1\n---\nb: [\n---\nc: 3\n");
        assert_eq!(found.len(), 3);
        let error = found[1].as_ref().unwrap_err();
        assert_eq!(error.document, 1);
        assert!(error.to_string().starts_with("document 2, line "), "{error}");
    }

    #[test]
    fn a_list_is_its_items() {
        let found = documents("kind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: B\n");
        let kinds: Vec<_> = found.iter().map(|d| d.as_ref().unwrap().kind()).collect();
        assert_eq!(kinds, ["A", "B"]);
    }

    #[test]
    fn json_objects_may_follow_each_other() {
        let text = "{\"kind\": \"A\"}\n{\n\"kind\": \"B\"}\n---\nkind: C\n--- {kind: D}\n";
        let found: Vec<_> = documents(text).into_iter().map(Result::unwrap).collect();
        let places: Vec<_> = found.iter().map(|d| (d.index, d.line, d.kind())).collect();
        assert_eq!(places, [(0, 1, "A"), (1, 2, "B"), (2, 4, "C"), (3, 6, "D")]);
        let json: Vec<bool> = parts(text).iter().map(super::Part::is_json).collect();
        assert_eq!(json, [true, true, false, false]);
        let broken = documents("{\"kind\": \"A\"}\n{\"kind\": ]\n");
        assert!(broken.iter().all(Result::is_err), "{broken:?}");
    }

    #[test]
    fn text_in_a_block_is_not_a_separator() {
        let found = documents("a: |\n  ---\n  text\nb: '--- x'\n");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn json_shapes_come_out() {
        let read = value("base: &b {x: 1}\nother: {<<: *b, 8080: true}\n").unwrap();
        assert_eq!(read["other"], serde_json::json!({"x": 1, "8080": true}));
        assert!(value("? {a: b}\n: c\n").is_err(), "a map as a key has no JSON form");
    }

    #[test]
    fn an_error_names_line_or_field() {
        let spec = from_str::<crate::meshconfig::MeshConfig>("enablePrometheusMerge: maybe\n");
        assert!(spec.unwrap_err().to_string().starts_with("enablePrometheusMerge: invalid type"));
        assert!(from_str::<crate::meshconfig::MeshConfig>("a: [").unwrap_err().to_string().starts_with("line "));
        assert!(from_str::<crate::meshconfig::MeshConfig>("").is_ok());
    }
}
