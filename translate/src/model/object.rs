//! An API object, reduced; and the reduction from a document, whatever it is.

use std::sync::Arc;

use crds::ParseError;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::mesh::Mesh;
use super::rule::{DestinationRule, Gateway, PeerAuthentication, ServiceEntry, VirtualService};
use super::service::Service;
use super::workload::{EndpointSlice, Workload};
use super::{istio, kubernetes};

/// An object that translation reads.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Kubernetes Service.
    Service(Arc<Service>),
    /// A Kubernetes EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Kubernetes Pod.
    Workload(Arc<Workload>),
    /// Istio's VirtualService.
    VirtualService(Arc<VirtualService>),
    /// Istio's DestinationRule.
    DestinationRule(Arc<DestinationRule>),
    /// Istio's Gateway.
    Gateway(Arc<Gateway>),
    /// Istio's ServiceEntry.
    ServiceEntry(Arc<ServiceEntry>),
    /// Istio's PeerAuthentication.
    PeerAuthentication(Arc<PeerAuthentication>),
}

/// Why a document is no object that translation reads.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Translation has no use for objects of this kind.
    #[error("{api_version} {kind} is not of the mesh's configuration")]
    Kind {
        /// `apiVersion`
        api_version: String,
        /// `kind`
        kind: String,
    },
    /// It does not fit its type.
    #[error("{kind} {name}: {source}")]
    Parse {
        /// `kind`
        kind: String,
        /// `namespace/name`
        name: String,
        /// Which field, and what is wrong with it.
        source: ParseError,
    },
    /// It is well formed, but says nothing to the mesh (an EndpointSlice of no Service, an ExternalName Service).
    #[error("{kind} {name} has no meaning for the mesh: {why}")]
    Meaningless {
        /// `kind`
        kind: &'static str,
        /// `namespace/name`
        name: String,
        /// What it would need to have one.
        why: &'static str,
    },
}

/// Reduces a document (of a folder of YAML) to the object that it is. No namespace means `default`.
pub fn from_document(mut document: Value, mesh: &Mesh) -> Result<Object, ObjectError> {
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if let Some(Value::Object(metadata)) = document.get_mut("metadata") {
        metadata.entry("namespace").or_insert_with(|| "default".into());
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Ok(match (group, kind.as_str()) {
        ("", "Service") => Object::Service(kubernetes::service(&parse(document, &kind)?, mesh)?.into()),
        ("discovery.k8s.io", "EndpointSlice") => {
            Object::EndpointSlice(kubernetes::endpoint_slice(&parse(document, &kind)?)?.into())
        }
        ("", "Pod") => Object::Workload(kubernetes::pod(&parse(document, &kind)?).into()),
        ("networking.istio.io", "VirtualService") => {
            Object::VirtualService(istio::virtual_service(parse(document, &kind)?, mesh).into())
        }
        ("networking.istio.io", "DestinationRule") => {
            Object::DestinationRule(istio::destination_rule(parse(document, &kind)?, mesh).into())
        }
        ("networking.istio.io", "Gateway") => Object::Gateway(istio::gateway(parse(document, &kind)?).into()),
        ("networking.istio.io", "ServiceEntry") => {
            Object::ServiceEntry(istio::service_entry(parse(document, &kind)?, mesh).into())
        }
        ("security.istio.io", "PeerAuthentication") => {
            Object::PeerAuthentication(istio::peer_authentication(parse(document, &kind)?).into())
        }
        _ => return Err(ObjectError::Kind { api_version, kind }),
    })
}

fn parse<T: DeserializeOwned>(document: Value, kind: &str) -> Result<T, ObjectError> {
    let part = |key: &str| document.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
    let name = format!("{}/{}", part("namespace"), part("name"));
    crds::parse(document).map_err(|source| ObjectError::Parse { kind: kind.to_owned(), name, source })
}
