//! Istio's Helm values for injection: read as the webhook will read them.

use std::collections::BTreeMap;

use serde_json::Value;
use webhook::inject::settings::Settings;

use super::Invalid;
use crate::meshinstall::build;
use crate::meshinstall::build::injector_config_map::values_without_effect;
use crate::meshinstall::build::webhook_configuration::NAMESPACES_BY_DEFAULT;
use crate::meshinstall::mesh::Mesh;

/// The Helm values that are accepted and change nothing, as paths, for a condition.
pub(super) fn without_effect(mesh: &Mesh) -> Result<Vec<String>, Invalid> {
    values_without_effect(mesh).map_err(|error| Invalid::spec("spec.values", error.to_string()))
}

/// Names the Helm value that is wrong, before the webhook would have to keep to older ones for its sake.
pub(super) fn check(mesh: &Mesh) -> Result<(), Invalid> {
    let fixed = [("/revision", mesh.revision.as_str()), ("/global/istioNamespace", mesh.namespace.as_str())];
    let values = Value::Object(mesh.values.clone());
    for (path, own) in fixed {
        if let Some(other) = values.pointer(path).filter(|other| *other != own) {
            let field = format!("spec.values{}", path.replace('/', "."));
            return Err(Invalid::spec(
                field,
                format!("{other} is not {own:?}, which spec says elsewhere; leave it out"),
            ));
        }
    }
    if let Some(other) = values.pointer(NAMESPACES_BY_DEFAULT).filter(|other| !other.is_boolean() && !other.is_null()) {
        let field = format!("spec.values{}", NAMESPACES_BY_DEFAULT.replace('/', "."));
        return Err(Invalid::spec(field, format!("{other} is neither true nor false")));
    }
    let wrong = |message: String| Invalid::spec("spec.values", message);
    let (_, injector) = build::settings(mesh).map_err(|error| wrong(error.to_string()))?;
    let data = injector.data.unwrap_or_default();
    let none = BTreeMap::from([("mesh".to_owned(), String::new())]);
    let mut settings = Settings::read(&mesh.revision, &none, &data, true).map_err(|error| wrong(error.to_string()))?;
    match settings.keep_good_templates(None).into_iter().next() {
        Some(problem) => Err(Invalid::spec("spec.values.sidecarInjectorWebhook.templates", problem)),
        None => Ok(()),
    }
}
