//! One object as the operator wants it, whatever its kind.

use kube::api::{ApiResource, DynamicObject};
use kube::{Resource, ResourceExt};
use names::annotations;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::meshinstall::mesh::Component;

/// An object that could not be written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot be written as YAML: {0}")]
    Yaml(#[from] crds::yaml::YamlError),
}

/// One object as the operator wants it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) component: Component,
    pub(crate) resource: ApiResource,
    pub(crate) object: DynamicObject,
    /// Started and changed only once the control plane is available; put back at any time.
    pub(crate) after_control_plane: bool,
}

impl Rendered {
    /// Takes a typed object and marks it with the hash of what was rendered, which tells a newer spec from drift.
    pub(crate) fn new<K>(component: Component, object: &K) -> Result<Self, RenderError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let value = serde_json::to_value(object)?;
        let hash = Sha256::digest(serde_json::to_vec(&value)?);
        let mut object: DynamicObject = serde_json::from_value(value)?;
        let hash = hash.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        object.annotations_mut().insert(annotations::RENDERED.to_owned(), hash);
        Ok(Self { component, resource: ApiResource::erase::<K>(&()), object, after_control_plane: false })
    }

    pub(crate) fn after_control_plane(self) -> Self {
        Self { after_control_plane: true, ..self }
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

/// `Deployment istio-system/istiod`, as messages name it.
pub(crate) fn display(resource: &ApiResource, object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", resource.kind, object.name_any()),
        None => format!("{} {}", resource.kind, object.name_any()),
    }
}
