//! `forestay version`: this program, the control plane, and the proxies of the data plane.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use http::Request;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use names::{annotations, labels, ports};
use serde::{Deserialize, Serialize};

use crate::cluster;

/// The label that every pod with a proxy carries, sidecar or gateway.
const WITH_PROXY: &str = labels::CANONICAL_NAME;
const PROXY: &str = "istio-proxy";
const UNKNOWN: &str = "unknown";

/// What to ask, and how to say it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask the cluster as well; with --remote=false only this program's own version is told
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    remote: bool,
    /// One line for each part; with --short=false every control plane and proxy by name
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    short: bool,
    /// For machines
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: cluster::Args,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

/// All versions, in the form of `istioctl version -o json`.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Versions {
    #[serde(rename = "clientVersion")]
    client: ClientVersion,
    #[serde(rename = "meshVersion", skip_serializing_if = "Option::is_none")]
    mesh: Option<Vec<ControlPlane>>,
    #[serde(rename = "dataPlaneVersion", skip_serializing_if = "Option::is_none")]
    data_plane: Option<Vec<Proxy>>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct ClientVersion {
    version: String,
}

/// A replica of the control plane.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ControlPlane {
    component: &'static str,
    name: String,
    revision: String,
    info: Info,
}

#[derive(Debug, PartialEq, Serialize)]
struct Info {
    version: String,
}

/// A pod with a proxy.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Proxy {
    #[serde(rename = "ID")]
    id: String,
    istio_version: String,
}

/// Prints the versions. A cluster that does not answer is told on standard error, and is no failure: the question was
/// answered as far as it could be.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut versions = Versions { client: ClientVersion { version: names::VERSION.to_owned() }, ..Versions::default() };
    if args.remote {
        match remote(&args.cluster).await {
            Ok((mesh, proxies)) => {
                if mesh.is_empty() {
                    eprintln!("no control plane is running in namespace {}", args.cluster.istio_namespace);
                }
                versions.mesh = Some(mesh);
                versions.data_plane = Some(proxies);
            }
            Err(error) => eprintln!("the cluster's versions are not known: {error}: {}", error.root_cause()),
        }
    }
    match args.output {
        Some(Output::Json) => println!("{}", serde_json::to_string_pretty(&versions)?),
        Some(Output::Yaml) => print!("{}", crds::yaml::to_string(&versions)?),
        None if args.short => print!("{}", lines(&versions)),
        None => println!("{}", table(&versions)),
    }
    Ok(())
}

/// Of a Pod, what is told here.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = core::Pod)]
struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Containers,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Containers {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    name: String,
    image: Option<String>,
}

async fn remote(cluster: &cluster::Args) -> anyhow::Result<(Vec<ControlPlane>, Vec<Proxy>)> {
    let client = cluster.client().await?;
    let namespace = cluster.istio_namespace.as_str();
    let control_planes: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let running = ListParams::default().fields("status.phase=Running");
    let selected = running.clone().labels(&format!("{}=istiod", labels::APP));
    let pods = control_planes.list(&selected).await.with_context(|| format!("listing pods of {namespace}"))?;
    let mut mesh = Vec::new();
    for pod in pods {
        let name = pod.name_any();
        let version = match control_plane(&client, namespace, &name).await {
            Ok(version) => version,
            Err(error) => {
                eprintln!("pod {namespace}/{name} does not tell its version: {error:#}");
                image_tag(&pod, None).unwrap_or_else(|| UNKNOWN.to_owned())
            }
        };
        let revision = pod.labels().get(labels::REVISION).cloned().unwrap_or_default();
        mesh.push(ControlPlane { component: "pilot", name, revision, info: Info { version } });
    }
    let proxies =
        Api::<Pod>::all(client).list(&running.labels(WITH_PROXY)).await.context("listing pods with a proxy")?;
    Ok((mesh, proxies.iter().filter_map(proxy).collect()))
}

/// A control plane's own word, through the API server.
async fn control_plane(client: &Client, namespace: &str, pod: &str) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{}/proxy/version", ports::MONITORING);
    let version = client.request_text(Request::get(path).body(Vec::new())?).await?;
    Ok(version.trim().to_owned())
}

/// The version of a pod's proxy: what its injection wrote down, else its image's tag.
fn proxy(pod: &Pod) -> Option<Proxy> {
    let noted = pod.annotations().get(annotations::PROXY_VERSION).cloned();
    let istio_version = noted.or_else(|| image_tag(pod, Some(PROXY)))?;
    Some(Proxy { id: format!("{}.{}", pod.name_any(), pod.namespace().unwrap_or_default()), istio_version })
}

/// The tag of a container's image, by the container's name or the first there is.
fn image_tag(pod: &Pod, container: Option<&str>) -> Option<String> {
    let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let image = all.find(|one| container.is_none_or(|name| one.name == name))?.image.as_deref()?;
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
    last.split_once(':').map(|(_, tag)| tag.to_owned())
}

/// One line for each part, as people know it from Istio.
fn lines(versions: &Versions) -> String {
    let mut lines = vec![format!("client version: {}", versions.client.version)];
    if let Some(mesh) = versions.mesh.as_ref().filter(|mesh| !mesh.is_empty()) {
        let mut all: Vec<&str> = mesh.iter().map(|component| component.info.version.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        lines.push(format!("control plane version: {}", all.join(", ")));
    }
    if let Some(proxies) = &versions.data_plane {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for proxy in proxies {
            *counts.entry(&proxy.istio_version).or_default() += 1;
        }
        let counted: Vec<String> = counts
            .iter()
            .map(|(version, count)| format!("{version} ({count} {})", if *count == 1 { "proxy" } else { "proxies" }))
            .collect();
        lines.push(format!(
            "data plane version: {}",
            if counted.is_empty() { "none".to_owned() } else { counted.join(", ") }
        ));
    }
    lines.join("\n") + "\n"
}

fn table(versions: &Versions) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["PART", "NAME", "REVISION", "VERSION"]);
    table.add_row(["client", "forestay", "", &versions.client.version]);
    for component in versions.mesh.iter().flatten() {
        table.add_row(["control plane", &component.name, &component.revision, &component.info.version]);
    }
    for proxy in versions.data_plane.iter().flatten() {
        table.add_row(["proxy", &proxy.id, "", &proxy.istio_version]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ClientVersion, ControlPlane, Info, Proxy, Versions, lines, proxy, table};

    fn versions() -> Versions {
        let component = |name: &str, version: &str| ControlPlane {
            component: "pilot",
            name: name.to_owned(),
            revision: "default".to_owned(),
            info: Info { version: version.to_owned() },
        };
        let proxy = |id: &str, version: &str| Proxy { id: id.to_owned(), istio_version: version.to_owned() };
        Versions {
            client: ClientVersion { version: "0.2.0".to_owned() },
            mesh: Some(vec![component("istiod-a", "0.2.0"), component("istiod-b", "0.2.0")]),
            data_plane: Some(vec![proxy("a.default", "0.1.0"), proxy("b.default", "0.2.0"), proxy("c.x", "0.2.0")]),
        }
    }

    #[test]
    fn a_line_for_each_part() {
        let expected = "client version: 0.2.0\ncontrol plane version: 0.2.0\n\
                        data plane version: 0.1.0 (1 proxy), 0.2.0 (2 proxies)\n";
        assert_eq!(lines(&versions()), expected);
        let alone = Versions { client: ClientVersion { version: "0.2.0".to_owned() }, ..Versions::default() };
        assert_eq!(lines(&alone), "client version: 0.2.0\n");
        assert!(table(&versions()).to_string().contains("istiod-b"));
    }

    #[test]
    fn the_form_for_machines_is_istios() {
        let json = serde_json::to_value(versions()).unwrap();
        assert_eq!(json["clientVersion"], json!({"version": "0.2.0"}));
        assert_eq!(json["meshVersion"][0]["Component"], "pilot");
        assert_eq!(json["meshVersion"][0]["Info"], json!({"version": "0.2.0"}));
        assert_eq!(json["dataPlaneVersion"][0], json!({"ID": "a.default", "IstioVersion": "0.1.0"}));
    }

    #[test]
    fn a_proxy_tells_its_version() {
        let rows = [
            (
                "by annotation",
                json!({"install.forestay.dev/proxy-version": "0.1.0"}),
                "hub/proxyv2:0.2.0",
                Some("0.1.0"),
            ),
            ("by tag", json!({}), "docker.io:5000/hub/proxyv2:0.2.0@sha256:00", Some("0.2.0")),
            ("not at all", json!({}), "docker.io:5000/hub/proxyv2", None),
        ];
        for (name, annotations, image, expected) in rows {
            let pod = json!({
                "metadata": {"name": "a", "namespace": "b", "annotations": annotations},
                "spec": {"containers": [], "initContainers": [{"name": "istio-proxy", "image": image}]},
            });
            let found = proxy(&serde_json::from_value(pod).unwrap());
            assert_eq!(found.map(|proxy| proxy.istio_version), expected.map(str::to_owned), "{name}");
        }
    }
}
