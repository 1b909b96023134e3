//! The settings of injection that a MeshInstall asks for, without a cluster: for the command line.

use std::collections::BTreeMap;

use crds::install::MeshInstall;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;

use super::build::{self, RenderError};
use super::dereference::{Dereferenced, NamespaceState};
use super::validate::{Invalid, RelatedImages, validate};

/// The contents of the two ConfigMaps that the webhook reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionSettings {
    /// ConfigMap `istio[-<revision>]`, key `mesh`.
    pub mesh: String,
    /// ConfigMap `istio-sidecar-injector[-<revision>]`, key `config`.
    pub config: String,
    /// Its key `values`.
    pub values: String,
}

/// A MeshInstall whose settings cannot be told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InjectionError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("nothing is rendered for key {0}")]
    Missing(&'static str),
}

/// What the webhook of this MeshInstall would read, in a cluster where nothing stands in the installation's way.
pub fn injection_settings(install: &MeshInstall) -> Result<InjectionSettings, InjectionError> {
    let spec = install.spec.clone();
    let named = spec.gateways.iter().filter_map(|gateway| gateway.namespace.clone());
    let read = Dereferenced {
        name: install.name_any(),
        namespaces: named.map(|namespace| (namespace, NamespaceState::Active)).collect(),
        spec,
        ..Dereferenced::default()
    };
    let mesh = validate(&read, &RelatedImages::default()).map_err(Reason::from)?;
    let (mesh, injector) = build::settings(&mesh).map_err(Reason::from)?;
    let key = |map: &ConfigMap, key: &'static str| {
        let data: Option<&BTreeMap<String, String>> = map.data.as_ref();
        data.and_then(|data| data.get(key)).cloned().ok_or(Reason::Missing(key))
    };
    Ok(InjectionSettings {
        mesh: key(&mesh, "mesh")?,
        config: key(&injector, "config")?,
        values: key(&injector, "values")?,
    })
}
