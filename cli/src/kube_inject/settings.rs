//! The settings of an injection: from the cluster's ConfigMaps, from files in their place, with an installation's own
//! settings over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use crds::meshconfig::MeshConfig;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::ListParams;
use kube::{Api, Client};
use names::resources;
use serde_json::{Map, Value};
use webhook::inject::settings::{Config, Settings, Values};

use crate::exit::{Code, Failure};
use crate::{cluster, input};

const MESH: &str = "mesh";
const CONFIG: &str = "config";
const VALUES: &str = "values";

/// Where the settings are; the flags of `istioctl kube-inject`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
#[group(skip)]
pub(crate) struct Args {
    /// The revision that injects
    #[arg(short, long, default_value = names::DEFAULT_REVISION)]
    revision: String,
    /// The MeshConfig, instead of the ConfigMap's key `mesh`
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// The ConfigMap with the MeshConfig [default: istio, istio-REVISION]
    #[arg(long = "meshConfigMapName", value_name = "NAME")]
    mesh_config_map: Option<String>,
    /// Policy and templates, instead of the ConfigMap's key `config`
    #[arg(long = "injectConfigFile", value_name = "FILE", conflicts_with = "inject_config_map")]
    inject_config_file: Option<PathBuf>,
    /// The ConfigMap with `config` and `values` [default: istio-sidecar-injector, istio-sidecar-injector-REVISION]
    #[arg(long = "injectConfigMapName", value_name = "NAME")]
    inject_config_map: Option<String>,
    /// Helm values (YAML or JSON), instead of the ConfigMap's key `values`
    #[arg(long = "valuesFile", value_name = "FILE")]
    values_file: Option<PathBuf>,
    /// A MeshInstall, whose settings are taken instead of the cluster's, or an IstioOperator, whose `hub`, `tag`,
    /// `meshConfig` and `values` are laid over them
    #[arg(long = "operatorFileName", value_name = "FILE")]
    operator_file: Option<PathBuf>,
    /// Whether the proxy is a native sidecar; unless given as the cluster's kubelets are, and true without a cluster
    #[arg(long = "nativeSidecars", value_name = "BOOL")]
    native_sidecars: Option<bool>,
}

/// A text of settings, and where it stands.
#[derive(Clone, Debug)]
struct Text {
    place: String,
    text: String,
}

/// The three texts that an injection depends on.
struct Texts {
    mesh: Text,
    config: Text,
    values: Text,
}

/// Reads the settings; the cluster is asked for nothing that a file says.
pub(super) async fn read(args: &Args, cluster: &cluster::Args) -> Result<Settings, Failure> {
    let operator = args.operator_file.as_deref().map(operator_file).transpose()?;
    let (mut revision, mut rendered) = (args.revision.clone(), None);
    if let Some(Operator::MeshInstall { revision: own, texts }) = &operator {
        revision.clone_from(own);
        rendered = Some(texts);
    }
    let from_file = |path: &Option<PathBuf>| path.as_deref().map(text_of_file).transpose();
    let rendered =
        |key: &str| rendered.and_then(|texts| texts.iter().find(|(own, _)| *own == key)).map(|(_, it)| it.clone());
    let mesh = from_file(&args.mesh_config_file)?.or_else(|| rendered(MESH));
    let config = from_file(&args.inject_config_file)?.or_else(|| rendered(CONFIG));
    let values = from_file(&args.values_file)?.or_else(|| rendered(VALUES));

    let (texts, native) = if let (Some(mesh), Some(config), Some(values)) = (&mesh, &config, &values) {
        let texts = Texts { mesh: mesh.clone(), config: config.clone(), values: values.clone() };
        (texts, args.native_sidecars.unwrap_or(true))
    } else {
        let client = cluster.client().await.context(
            "settings that no file gives come from the cluster (give --meshConfigFile, --injectConfigFile and \
             --valuesFile, or --operatorFileName with a MeshInstall, to do without)",
        )?;
        let mut maps = Maps { client, namespace: &cluster.istio_namespace, read: BTreeMap::new() };
        let mesh_name = args.mesh_config_map.clone().unwrap_or_else(|| resources::mesh_config(&revision));
        let injector_name = args.inject_config_map.clone().unwrap_or_else(|| resources::injector(&revision));
        let texts = Texts {
            mesh: maps.or_read(mesh, &mesh_name, MESH).await?,
            config: maps.or_read(config, &injector_name, CONFIG).await?,
            values: maps.or_read(values, &injector_name, VALUES).await?,
        };
        let native = match args.native_sidecars {
            Some(native) => native,
            None => native_sidecars(&maps.client).await?,
        };
        (texts, native)
    };
    let texts = match &operator {
        Some(Operator::Istio(spec)) => overlay(texts, spec).map_err(data)?,
        _ => texts,
    };
    settings(&revision, &texts, native).map_err(data)
}

fn data(error: anyhow::Error) -> Failure {
    Failure::new(Code::Data, error)
}

fn text_of_file(path: &Path) -> anyhow::Result<Text> {
    let source = input::file(path)?;
    Ok(Text { place: source.name, text: source.text })
}

/// ConfigMaps, each read once.
struct Maps<'a> {
    client: Client,
    namespace: &'a str,
    read: BTreeMap<String, BTreeMap<String, String>>,
}

impl Maps<'_> {
    /// What a file says, else the key of a ConfigMap.
    async fn or_read(&mut self, file: Option<Text>, name: &str, key: &str) -> anyhow::Result<Text> {
        if let Some(text) = file {
            return Ok(text);
        }
        let place = format!("ConfigMap {}/{name}", self.namespace);
        if !self.read.contains_key(name) {
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
            let map = maps.get(name).await.with_context(|| {
                format!("{place} (is the mesh in another namespace, -i, or of another revision, --revision?)")
            })?;
            self.read.insert(name.to_owned(), map.data.unwrap_or_default());
        }
        let text = self.read.get(name).and_then(|data| data.get(key));
        let text = text.with_context(|| format!("{place} has no key {key}"))?;
        Ok(Text { place: format!("{place}, key {key}"), text: text.clone() })
    }
}

async fn native_sidecars(client: &Client) -> anyhow::Result<bool> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.context("the nodes' versions (--nativeSidecars says it without asking)")?;
    Ok(webhook::native_sidecars(&nodes.items))
}

/// What `--operatorFileName` names.
enum Operator {
    /// Our own installation: the settings that the operator would render.
    MeshInstall { revision: String, texts: Vec<(&'static str, Text)> },
    /// Istio's: a spec whose parts are laid over other settings.
    Istio(Map<String, Value>),
}

fn operator_file(path: &Path) -> Result<Operator, Failure> {
    let source = input::file(path)?;
    operator_text(&source.name, &source.text).map_err(data)
}

fn operator_text(name: &str, text: &str) -> anyhow::Result<Operator> {
    for document in crds::yaml::documents(text) {
        let document = document.with_context(|| name.to_owned())?;
        match (document.group(), document.kind()) {
            ("install.forestay.dev", "MeshInstall") => {
                let who = format!("{name}: MeshInstall {}", document.name());
                let install: crds::install::MeshInstall =
                    crds::parse(document.value.clone()).with_context(|| who.clone())?;
                let revision = install.spec.revision.clone();
                let rendered = operator::injection_settings(&install).map_err(|error| anyhow!("{who}: {error}"))?;
                let texts = [(MESH, rendered.mesh), (CONFIG, rendered.config), (VALUES, rendered.values)];
                let texts = texts.map(|(key, text)| (key, Text { place: format!("{who}, {key}"), text }));
                return Ok(Operator::MeshInstall { revision, texts: texts.into() });
            }
            ("install.istio.io", "IstioOperator") => {
                let spec = document.value.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
                return Ok(Operator::Istio(spec));
            }
            _ => {}
        }
    }
    bail!("{name}: there is neither a MeshInstall nor an IstioOperator in it")
}

/// Lays an IstioOperator over the settings: what it says beats what is below, field by field.
fn overlay(texts: Texts, spec: &Map<String, Value>) -> anyhow::Result<Texts> {
    let mut values = object(&texts.values)?;
    let mut images = Map::new();
    for name in ["hub", "tag"] {
        if let Some(value) = spec.get(name) {
            images.insert(name.to_owned(), value.clone());
        }
    }
    if !images.is_empty() {
        merge(&mut values, &Map::from_iter([("global".to_owned(), Value::Object(images))]));
    }
    if let Some(cni) = spec.get("components").and_then(|components| components.pointer("/cni/enabled")) {
        let enabled = serde_json::json!({"pilot": {"cni": {"enabled": cni}}});
        merge(&mut values, enabled.as_object().unwrap_or(&Map::new()));
    }
    if let Some(own) = spec.get("values").and_then(Value::as_object) {
        merge(&mut values, own);
    }
    let mut mesh = object(&texts.mesh)?;
    if let Some(own) = spec.get("meshConfig").and_then(Value::as_object) {
        merge(&mut mesh, own);
    }
    let text = |below: &Text, value: Map<String, Value>| Text {
        place: format!("{}, under the IstioOperator", below.place),
        text: Value::Object(value).to_string(),
    };
    Ok(Texts { mesh: text(&texts.mesh, mesh), values: text(&texts.values, values), config: texts.config })
}

fn object(text: &Text) -> anyhow::Result<Map<String, Value>> {
    crds::yaml::from_str(&text.text).with_context(|| text.place.clone())
}

fn merge(below: &mut Map<String, Value>, above: &Map<String, Value>) {
    for (name, value) in above {
        match (below.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(own)) => merge(inner, own),
            _ => {
                below.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Reads the texts; an error names the file or ConfigMap, and the line or field in it.
fn settings(revision: &str, texts: &Texts, native: bool) -> anyhow::Result<Settings> {
    let Texts { mesh, config, values } = texts;
    MeshConfig::from_yaml(&mesh.text).with_context(|| mesh.place.clone())?;
    crds::yaml::from_str::<Config>(&config.text).with_context(|| config.place.clone())?;
    crds::yaml::from_str::<Values>(&values.text).with_context(|| values.place.clone())?;
    let data = |pairs: &[(&str, &Text)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), text.text.clone())).collect()
    };
    let settings =
        Settings::read(revision, &data(&[(MESH, mesh)]), &data(&[(CONFIG, config), (VALUES, values)]), native);
    settings.with_context(|| format!("{}, {}, {}", mesh.place, config.place, values.place))
}

#[cfg(test)]
mod tests {
    use super::{MESH, Operator, Text, Texts, VALUES, operator_text, overlay, settings};

    fn texts(mesh: &str, config: &str, values: &str) -> Texts {
        let text = |place: &str, text: &str| Text { place: place.to_owned(), text: text.to_owned() };
        Texts {
            mesh: text("mesh.yaml", mesh),
            config: text("config.yaml", config),
            values: text("values.json", values),
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let rows = [
            (texts("enableTracing: 7", "", ""), "mesh.yaml: enableTracing: invalid type"),
            (texts("", "policy: [", ""), "config.yaml: line 2"),
            (texts("", "", r#"{"global": {"hub": []}}"#), "values.json: global.hub: invalid type"),
        ];
        for (texts, expected) in rows {
            let error = format!("{:#}", settings("default", &texts, true).unwrap_err());
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_istio_operator_lies_over_the_settings() {
        let operator = operator_text(
            "iop.yaml",
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  hub: example.org/mesh\n  tag: 1.0\n  \
             meshConfig: {trustDomain: example.org, defaultConfig: {concurrency: 3}}\n  \
             values: {global: {proxy: {logLevel: debug}}}\n",
        );
        let Ok(Operator::Istio(spec)) = operator else { panic!("no IstioOperator") };
        let below = texts(
            "{trustDomain: cluster.local, defaultConfig: {statusPort: 15021}}",
            "",
            r#"{"global": {"hub": "old", "proxy": {"statusPort": 1}}}"#,
        );
        let settings = settings("default", &overlay(below, &spec).unwrap(), true).unwrap();
        assert_eq!(settings.mesh.trust_domain, "example.org");
        assert_eq!(settings.mesh.default_config.status_port, 15021, "what it does not say stays");
        let global = settings.values.global;
        assert_eq!((global.hub.as_str(), &*global.tag), ("example.org/mesh", "1.0"));
        assert_eq!((global.proxy.log_level.as_str(), &*global.proxy.status_port), ("debug", "1"));
    }

    #[test]
    fn a_mesh_install_brings_its_own_settings() {
        let install = "apiVersion: install.forestay.dev/v1alpha1\nkind: MeshInstall\nmetadata: {name: default}\nspec:\n  \
                       revision: canary\n  hub: example.org/mesh\n  meshConfig: {trustDomain: example.org}\n";
        let Ok(Operator::MeshInstall { revision, texts }) = operator_text("mi.yaml", install) else {
            panic!("no MeshInstall")
        };
        let of = |key: &str| &texts.iter().find(|(own, _)| *own == key).unwrap().1.text;
        assert_eq!(revision, "canary");
        assert!(of(MESH).contains("trustDomain: example.org"), "{}", of(MESH));
        assert!(of(VALUES).contains("example.org/mesh"), "{}", of(VALUES));
    }

    #[test]
    fn a_file_of_another_kind_is_named() {
        let rows = [
            ("kind: Pod\n", "mi.yaml: there is neither"),
            ("a: [\n", "mi.yaml: document 1"),
            (
                "apiVersion: install.forestay.dev/v1alpha1\nkind: MeshInstall\nmetadata: {name: a}\nspec: {version: latest}\n",
                "mi.yaml: MeshInstall a: spec.version: ",
            ),
        ];
        for (text, expected) in rows {
            let Err(error) = operator_text("mi.yaml", text) else { panic!("{text}") };
            assert!(format!("{error:#}").starts_with(expected), "{error:#}");
        }
    }
}
