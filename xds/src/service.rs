//! The services behind a cluster, in its metadata: a request's `destination_service` labels come from it.

use crate::dynamic::{Object, elements, list, object, string, text};
use crate::provenance::ISTIO;
use crate::types::core::Metadata;
use crate::types::google::value::Kind;

/// A service as metrics name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The fully qualified host, `reviews.default.svc.cluster.local`.
    pub host: String,
    /// The name, `reviews`.
    pub name: String,
    /// The namespace, `default`.
    pub namespace: String,
}

/// Adds services to a cluster's metadata.
pub fn write<'a>(services: impl IntoIterator<Item = &'a ServiceName>, metadata: &mut Metadata) {
    let services = services.into_iter().map(|service| {
        let fields = Object::new().set("host", string(&service.host)).set("name", string(&service.name));
        object(fields.set("namespace", string(&service.namespace)).build())
    });
    let istio = metadata.filter_metadata.entry(ISTIO.to_owned()).or_default();
    istio.fields.insert("services".to_owned(), list(services));
}

/// Reads the services from a cluster's metadata.
pub fn read(metadata: &Metadata) -> Vec<ServiceName> {
    let Some(istio) = metadata.filter_metadata.get(ISTIO) else { return Vec::new() };
    let service = |value: &crate::types::google::Value| match value.kind.as_ref()? {
        Kind::StructValue(fields) => {
            let part = |key| text(fields, key).unwrap_or_default().to_owned();
            Some(ServiceName { host: part("host"), name: part("name"), namespace: part("namespace") })
        }
        _ => None,
    };
    elements(istio, "services").iter().filter_map(service).collect()
}

#[cfg(test)]
mod tests {
    use super::{ServiceName, read, write};
    use crate::types::core::Metadata;

    #[test]
    fn services_read_back_what_they_write() {
        let service = ServiceName {
            host: "reviews.default.svc.cluster.local".into(),
            name: "reviews".into(),
            namespace: "default".into(),
        };
        let mut metadata = Metadata::default();
        assert_eq!(read(&metadata), []);
        write([&service], &mut metadata);
        assert_eq!(read(&metadata), [service]);
    }
}
