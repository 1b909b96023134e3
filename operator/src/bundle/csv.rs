//! The ClusterServiceVersion.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crds::yaml::YamlError;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ApiResource;
use names::{images, resources};
use serde_json::{Map, Value, json};

use super::release::{CANDIDATE, Release, STABLE};
use super::{Definition, descriptors, examples};
use crate::meshinstall::build::pod;
use crate::{live, manifests, rbac};

/// What it is, in a line.
pub(super) const SUMMARY: &str =
    "A service mesh that speaks Istio's API: control plane, injection, gateways and sidecars.";
/// What it is, for somebody who looks through a catalog.
pub(super) const DESCRIPTION: &str = include_str!("description.md");
/// A sail on its forestay.
const ICON: &str = include_str!("icon.svg");

/// The oldest Kubernetes that the definitions and the operator's requests are made for.
const MIN_KUBERNETES: &str = "1.34.0";
/// How far the operator takes a mesh, in the words of OLM's capability levels.
const CAPABILITIES: &str = "Seamless Upgrades";

/// The icon as catalogs carry it.
pub(super) fn icon() -> Value {
    json!({"base64data": BASE64_STANDARD.encode(ICON), "mediatype": "image/svg+xml"})
}

/// The images of an installation: name and reference.
pub(super) fn related_images() -> Vec<(&'static str, String)> {
    let reference = |image| images::reference(images::HUB, image, names::VERSION);
    images::RELATED.iter().map(|related| (related.name, reference(related.image))).collect()
}

/// The ClusterServiceVersion of a release.
pub(super) fn csv(release: &Release, definitions: &[Definition]) -> Result<Value, YamlError> {
    let related: Vec<Value> =
        related_images().iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
    let mut spec = json!({
        "displayName": "Forestay",
        "description": DESCRIPTION,
        "version": release.version().to_string(),
        "maturity": if release.version().major == 0 { "alpha" } else { "stable" },
        "minKubeVersion": MIN_KUBERNETES,
        "keywords": ["service mesh", "istio", "mtls", "sidecar", "gateway", "traffic management", "networking"],
        "maintainers": [{"name": "The Forestay maintainers", "email": "maintainers@forestay.dev"}],
        "provider": {"name": "Forestay", "url": "https://forestay.dev"},
        "links": [
            {"name": "Source and documentation", "url": env!("CARGO_PKG_REPOSITORY")},
            {"name": "Istio's API", "url": "https://istio.io/latest/docs/reference/config/"},
        ],
        "icon": [icon()],
        "installModes": [
            {"type": "OwnNamespace", "supported": false},
            {"type": "SingleNamespace", "supported": false},
            {"type": "MultiNamespace", "supported": false},
            {"type": "AllNamespaces", "supported": true},
        ],
        "customresourcedefinitions": {"owned": definitions.iter().map(owned).collect::<Vec<_>>()},
        "install": {"strategy": "deployment", "spec": install()},
        "relatedImages": related,
    });
    if let Some(before) = release.replaces(if release.channels().contains(&STABLE) { STABLE } else { CANDIDATE }) {
        spec["replaces"] = before.into();
    }
    let supported = "supported".to_owned();
    let labels = std::collections::BTreeMap::from([
        (format!("operatorframework.io/arch.{}", images::ARCHITECTURE), supported.clone()),
        (format!("operatorframework.io/os.{}", images::OS), supported),
    ]);
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": release.name(),
            // Where it is put is decided by whoever installs it.
            "namespace": "placeholder",
            "annotations": annotations(release, definitions)?,
            "labels": labels,
        },
        "spec": spec,
    }))
}

fn annotations(release: &Release, definitions: &[Definition]) -> Result<Value, YamlError> {
    let examples = examples::examples(definitions)?;
    let install = examples.iter().find(|example| example["kind"] == "MeshInstall").cloned().unwrap_or_default();
    Ok(json!({
        "alm-examples": pretty(&examples.into()),
        "capabilities": CAPABILITIES,
        "categories": "Networking, Security, Observability",
        "certified": "false",
        "containerImage": images::reference(images::HUB, images::FORESTAY, names::VERSION),
        "description": SUMMARY,
        "olm.skipRange": release.skip_range(),
        // The console asks for it once the operator runs: without one there is no mesh.
        "operatorframework.io/initialization-resource": pretty(&install),
        "operatorframework.io/suggested-namespace": resources::OPERATOR_NAMESPACE,
        // With its Pod Security labels; a console makes the namespace from it.
        "operatorframework.io/suggested-namespace-template": pretty(&json!(manifests::namespace())),
        "repository": env!("CARGO_PKG_REPOSITORY"),
        "support": "The Forestay maintainers",
    }))
}

/// JSON for people: values of annotations are shown as they are.
fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// The Deployment and the permissions, which are those of `config/install.yaml`.
fn install() -> Value {
    let deployment = manifests::deployment();
    let mut spec = deployment.spec.unwrap_or_default();
    if let Some(container) = spec.template.spec.as_mut().and_then(|pod| pod.containers.first_mut()) {
        // A mirror rewrites these, and the operator takes the mesh's images from them.
        let images = images::RELATED.iter().zip(related_images());
        let variables = images.map(|(related, (_, image))| pod::env(related.variable, image));
        container.env.get_or_insert_default().extend(variables);
    }
    json!({
        "deployments": [{
            "name": resources::OPERATOR,
            "label": deployment.metadata.labels,
            "spec": spec,
        }],
        "clusterPermissions": [{"serviceAccountName": resources::OPERATOR, "rules": rbac::operator_cluster()}],
        "permissions": [{
            "serviceAccountName": resources::OPERATOR,
            "rules": rbac::policy(rbac::OPERATOR_NAMESPACE),
        }],
    })
}

/// A kind that the bundle brings.
fn owned(definition: &Definition) -> Value {
    let mut owned = Map::from_iter([
        ("name".to_owned(), definition.name().into()),
        ("kind".to_owned(), definition.kind().into()),
        ("version".to_owned(), definition.version().into()),
        ("displayName".to_owned(), descriptors::kind_title(definition.kind()).into()),
        ("description".to_owned(), description(definition).into()),
    ]);
    if definition.is_ours() {
        owned.insert("resources".to_owned(), made_for_it().into());
        let schema = definition.versions().find(|(name, _)| *name == definition.version()).map(|(_, schema)| schema);
        if let Some(schema) = schema {
            owned.insert("specDescriptors".to_owned(), descriptors::spec(schema).into());
            owned.insert("statusDescriptors".to_owned(), descriptors::status(schema).into());
        }
    }
    owned.into()
}

/// Only one version of a definition carries descriptions, and Istio's kinds are described at their spec.
fn description(definition: &Definition) -> &str {
    let places = ["/description", "/properties/spec/description"];
    let texts = definition.versions().flat_map(|(_, schema)| places.map(|place| schema.pointer(place)));
    texts.flatten().filter_map(Value::as_str).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The kinds that a MeshInstall leads to; a console lists their objects with it.
fn made_for_it() -> Vec<Value> {
    let mut kinds = live::managed_kinds();
    kinds.push(ApiResource::erase::<Pod>(&()));
    kinds.sort_by(|a, b| (&a.api_version, &a.kind).cmp(&(&b.api_version, &b.kind)));
    kinds.iter().map(|kind| json!({"kind": kind.kind, "name": "", "version": kind.api_version})).collect()
}
