//! Where a resource came from: the rule, its generation and the field in it.
//!
//! Written into `metadata.filter_metadata` of listeners, virtual hosts, routes and clusters; read by access logs,
//! NACK messages, `/explain` and people. `istio.config` is what Istio writes, `forestay` is ours.

use crate::dynamic::{Object, fields, float, number, string, text};
use crate::types::core::Metadata;

/// The key of Istio's part of the metadata.
pub const ISTIO: &str = "istio";
/// The key of our part of the metadata.
pub const FORESTAY: &str = "forestay";

/// Where a resource came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Provenance {
    /// The rule's path as Istio writes it, `/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews`;
    /// empty for what comes from no rule but from a Service.
    pub config: String,
    /// The object as people say it, `VirtualService default/reviews`.
    pub rule: String,
    /// The object's `metadata.generation`; 0 where Kubernetes counts none.
    pub generation: i64,
    /// The field in the object, `spec.http[0]`.
    pub field: String,
}

impl Provenance {
    /// From an object of an Istio API group, such as `networking.istio.io/v1`.
    pub fn of_rule(group_version: &str, kind: &str, namespace: &str, name: &str, generation: i64) -> Self {
        Self {
            config: format!("/apis/{group_version}/namespaces/{namespace}/{}/{name}", kebab(kind)),
            rule: format!("{kind} {namespace}/{name}"),
            generation,
            field: "spec".to_owned(),
        }
    }

    /// From an object that is no rule, such as a Service.
    pub fn of_object(kind: &str, namespace: &str, name: &str) -> Self {
        Self { rule: format!("{kind} {namespace}/{name}"), ..Self::default() }
    }

    /// The same object, another field.
    #[must_use]
    pub fn at(&self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self.clone() }
    }

    /// Adds itself to a resource's metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        if !self.config.is_empty() {
            let istio = metadata.filter_metadata.entry(ISTIO.to_owned()).or_default();
            istio.fields.insert("config".to_owned(), string(&self.config));
        }
        #[allow(clippy::cast_precision_loss)] // JSON has no other number, and generations count edits
        let generation = number(self.generation as f64);
        let ours = Object::new().set("rule", string(&self.rule)).set("generation", generation);
        metadata.filter_metadata.insert(FORESTAY.to_owned(), ours.set_text("field", &self.field).build());
    }

    /// Metadata with nothing but itself.
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::default();
        self.write(&mut metadata);
        metadata
    }

    /// Reads it from a resource's metadata. Of an Istio control plane, that writes only its own part, `config` is known.
    pub fn read(metadata: &Metadata) -> Option<Self> {
        let config = metadata.filter_metadata.get(ISTIO).and_then(|istio| text(istio, "config"));
        let ours = metadata.filter_metadata.get(FORESTAY);
        if config.is_none() && ours.is_none() {
            return None;
        }
        let ours_text = |key| ours.and_then(|ours| text(ours, key)).unwrap_or_default().to_owned();
        #[allow(clippy::cast_possible_truncation)] // saturates
        let generation = ours.and_then(|ours| float(ours, "generation")).unwrap_or_default() as i64;
        Some(Self {
            config: config.unwrap_or_default().to_owned(),
            rule: ours_text("rule"),
            generation,
            field: ours_text("field"),
        })
    }
}

/// `VirtualService` as `virtual-service`.
fn kebab(kind: &str) -> String {
    let mut out = String::with_capacity(kind.len() + 2);
    for (at, letter) in kind.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The text of a key in one part of the metadata.
pub fn metadata_text<'a>(metadata: &'a Metadata, part: &str, key: &str) -> Option<&'a str> {
    text(metadata.filter_metadata.get(part)?, key)
}

/// The object of a key in one part of the metadata.
pub fn metadata_fields<'a>(metadata: &'a Metadata, part: &str, key: &str) -> Option<&'a crate::types::google::Struct> {
    fields(metadata.filter_metadata.get(part)?, key)
}

#[cfg(test)]
mod tests {
    use super::Provenance;

    #[test]
    fn provenance_reads_back_what_it_writes() {
        let rule = Provenance::of_rule("networking.istio.io/v1", "VirtualService", "default", "reviews", 3);
        let rule = rule.at("spec.http[0]");
        assert_eq!(rule.config, "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews");
        assert_eq!(Provenance::read(&rule.metadata()), Some(rule));

        let service = Provenance::of_object("Service", "default", "reviews");
        assert_eq!(Provenance::read(&service.metadata()), Some(service));
        assert_eq!(Provenance::read(&crate::types::core::Metadata::default()), None);
    }
}
