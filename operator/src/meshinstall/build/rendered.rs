//! One object as the operator wants it, whatever its kind.

use crds::install::Overlay;
use kube::api::{ApiResource, DynamicObject};
use kube::{Resource, ResourceExt};
use names::annotations;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use webhook::inject::strategic::{MergeError, merge};

use crate::meshinstall::basis::Basis;
use crate::meshinstall::mesh::Component;

/// An object that could not be written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot be written as YAML: {0}")]
    Yaml(#[from] crds::yaml::YamlError),
    #[error("cannot be patched as the spec's overlays say: {0}")]
    Overlay(#[from] MergeError),
}

/// One object as the operator wants it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) component: Component,
    pub(crate) resource: ApiResource,
    pub(crate) object: DynamicObject,
    /// Started and changed only once the control plane is available; put back at any time.
    pub(crate) after_control_plane: bool,
    /// What it was made from; most objects are made from the spec alone.
    pub(crate) basis: Option<Basis>,
}

impl Rendered {
    /// Takes a typed object and marks it with the hash of what was rendered, which tells a newer spec from drift.
    pub(crate) fn new<K>(component: Component, object: &K) -> Result<Self, RenderError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let object = hashed(serde_json::to_value(object)?)?;
        Ok(Self { component, resource: ApiResource::erase::<K>(&()), object, after_control_plane: false, basis: None })
    }

    /// Lays those of the spec's patches over it that are for its kind.
    pub(crate) fn patched(mut self, overlays: &[Overlay]) -> Result<Self, RenderError> {
        let mut patches = overlays.iter().filter(|overlay| overlay.kind.as_str() == self.resource.kind).peekable();
        if patches.peek().is_none() {
            return Ok(self);
        }
        self.object.annotations_mut().remove(annotations::RENDERED);
        let mut value = serde_json::to_value(&self.object)?;
        for overlay in patches {
            merge(&mut value, &Value::Object(overlay.patch.clone()))?;
        }
        self.object = hashed(value)?;
        Ok(self)
    }

    pub(crate) fn after_control_plane(self) -> Self {
        Self { after_control_plane: true, ..self }
    }

    pub(crate) fn made_from(self, basis: Basis) -> Self {
        Self { basis: Some(basis), ..self }
    }

    /// The hash of what was rendered.
    pub(crate) fn hash(&self) -> Option<&str> {
        self.object.annotations().get(annotations::RENDERED).map(String::as_str)
    }

    /// `Deployment istio-system/istiod`, as messages name it.
    pub(crate) fn display(&self) -> String {
        display(&self.resource, &self.object)
    }
}

/// An object that carries the hash of itself.
fn hashed(value: Value) -> Result<DynamicObject, RenderError> {
    let hash = Sha256::digest(serde_json::to_vec(&value)?);
    let mut object: DynamicObject = serde_json::from_value(value)?;
    let hash = hash.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    object.annotations_mut().insert(annotations::RENDERED.to_owned(), hash);
    Ok(object)
}

/// `Deployment istio-system/istiod`, as messages name it.
pub(crate) fn display(resource: &ApiResource, object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", resource.kind, object.name_any()),
        None => format!("{} {}", resource.kind, object.name_any()),
    }
}
