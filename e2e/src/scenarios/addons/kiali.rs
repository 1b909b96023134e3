//! Does against control plane and proxies what Kiali does to recognise an Istio and to show it (kiali/kiali,
//! `istio/discovery.go`, `istio/version.go`, `kubernetes/istio.go`), as Kiali's own service account: what it may not ask
//! for is missing here too.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use forestay_e2e::kube_box::KubeBox;
use http::{Request, header};
use names::resources::MESH_NAMESPACE;
use regex::Regex;
use serde_json::Value;

use super::{address, query, set};
use crate::scenarios::mesh::{SOON, pod};

/// Kiali's requests carry its service account's name.
const ACCOUNT: &str = "--as=system:serviceaccount:istio-system:kiali";

/// Istio's kinds that Kiali lists.
const KINDS: [&str; 15] = [
    "virtualservices.networking.istio.io",
    "destinationrules.networking.istio.io",
    "gateways.networking.istio.io",
    "serviceentries.networking.istio.io",
    "sidecars.networking.istio.io",
    "workloadentries.networking.istio.io",
    "workloadgroups.networking.istio.io",
    "envoyfilters.networking.istio.io",
    "peerauthentications.security.istio.io",
    "requestauthentications.security.istio.io",
    "authorizationpolicies.security.istio.io",
    "wasmplugins.extensions.istio.io",
    "telemetries.telemetry.istio.io",
    "replicasets.apps",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
];

/// What its graph, its card of the control plane, its pages of workloads and of proxies are made from.
const METRICS: [&str; 24] = [
    "istio_requests_total",
    "istio_request_duration_milliseconds_bucket",
    "istio_request_bytes_bucket",
    "istio_response_bytes_bucket",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_request_messages_total",
    "istio_response_messages_total",
    "pilot_proxy_convergence_time_sum",
    "pilot_proxy_convergence_time_count",
    "pilot_services",
    "pilot_xds",
    "pilot_xds_pushes",
    "process_cpu_seconds_total{app=\"istiod\"}",
    "process_resident_memory_bytes{app=\"istiod\"}",
    "envoy_cluster_upstream_cx_active",
    "envoy_cluster_upstream_rq_total",
    "envoy_listener_downstream_cx_active",
    "envoy_listener_http_downstream_rq",
    "envoy_server_memory_allocated",
    "envoy_server_memory_heap_size",
    "envoy_server_uptime",
];

/// Those of TCP and of gRPC's messages: Bookinfo has neither, and a series begins with its first event.
const WITHOUT_TRAFFIC: [&str; 6] = [
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_request_messages_total",
    "istio_response_messages_total",
];

/// The labels by which its graph tells ends of an edge apart.
const GRAPH: [&str; 18] = [
    "reporter",
    "source_cluster",
    "source_workload_namespace",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_principal",
    "destination_cluster",
    "destination_service_namespace",
    "destination_service",
    "destination_service_name",
    "destination_workload_namespace",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "request_protocol",
    "response_code",
    "response_flags",
];

pub(super) async fn probe(kube: &KubeBox) -> Result<()> {
    // Its service account and rights are the addon's; Prometheus is what it asks. Other scenarios may have had them off.
    set(kube, r#"{"kiali": {}, "prometheus": {}}"#).await?;
    kube.eventually("Kiali has its rights", SOON, || async {
        as_kiali(kube, &["get", "deployments", "-A"]).await.map(drop)
    })
    .await?;
    let mut wrong = Vec::new();
    let istiod = istiod(kube).await?;
    let checks = [
        ("the control plane's Deployment", deployment(&istiod)),
        ("settings", settings(kube).await),
        ("version", version(kube).await),
        ("kinds", kinds(kube).await),
        ("health", health(kube).await),
        ("pods", pods(kube).await),
        // What was sent a moment ago is not accepted yet.
        ("debug pages", kube.eventually("what was sent accepted", SOON, || debug_pages(kube)).await),
        ("a proxy's configuration", config_dump(kube).await),
        ("a proxy's log levels", log_levels(kube).await),
        ("tags", tags(kube).await),
        ("metrics", metrics(kube).await),
    ];
    for (what, result) in checks {
        if let Err(error) = result {
            wrong.push(format!("{what}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of what Kiali asks is answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

async fn as_kiali(kube: &KubeBox, arguments: &[&str]) -> Result<String> {
    kube.kubectl_ok(&[arguments, &[ACCOUNT]].concat()).await
}

async fn read(kube: &KubeBox, arguments: &[&str]) -> Result<Value> {
    let text = as_kiali(kube, &[arguments, &["-o", "json"]].concat()).await?;
    serde_json::from_str(&text).with_context(|| format!("kubectl {}", arguments.join(" ")))
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The Deployment that is the control plane: in any namespace, by its label.
async fn istiod(kube: &KubeBox) -> Result<Value> {
    let found = read(kube, &["get", "deployments", "-A", "-l", "app=istiod"]).await?;
    ensure!(items(&found).len() == 1, "{} Deployments have the label app=istiod", items(&found).len());
    items(&found).first().cloned().context("one")
}

/// Revision, cluster and monitoring port of the control plane.
fn deployment(istiod: &Value) -> Result<()> {
    ensure!(istiod["metadata"]["labels"]["istio.io/rev"] == "default", "labels {}", istiod["metadata"]["labels"]);
    let container = &istiod["spec"]["template"]["spec"]["containers"][0];
    let env = |name: &str| {
        let all = container["env"].as_array().into_iter().flatten();
        all.filter(|variable| variable["name"] == name).find_map(|variable| variable["value"].as_str())
    };
    ensure!(
        env("CLUSTER_ID") == Some("Kubernetes"),
        "CLUSTER_ID is {:?}; Kiali's cluster is Kubernetes",
        env("CLUSTER_ID")
    );
    for name in ["EXTERNAL_ISTIOD", "SHARED_MESH_CONFIG", "PILOT_SCOPE_GATEWAY_TO_NAMESPACE"] {
        ensure!(env(name).is_none_or(|value| value == "false"), "{name} is {:?}", env(name));
    }
    let mut arguments = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let port = arguments.find_map(|argument| argument.strip_prefix("--monitoringAddr="));
    ensure!(port.is_none_or(|port| port == ":15014"), "--monitoringAddr is {port:?}");
    let ready = istiod["status"]["availableReplicas"].as_u64().unwrap_or_default();
    ensure!(ready >= 1, "no replica is available");
    Ok(())
}

/// The ConfigMaps of the revision `default`, and the mesh's root certificate.
async fn settings(kube: &KubeBox) -> Result<()> {
    let map = async |name: &str, key: &str| -> Result<String> {
        let map = read(kube, &["-n", MESH_NAMESPACE, "get", "configmap", name]).await?;
        let text = map["data"][key].as_str().with_context(|| format!("ConfigMap {name} has no key {key}"))?;
        Ok(text.to_owned())
    };
    let mesh = crds::yaml::value(&map("istio", "mesh").await?).context("ConfigMap istio, key mesh")?;
    for field in ["rootNamespace", "trustDomain", "defaultConfig"] {
        ensure!(!mesh[field].is_null(), "MeshConfig has no {field}: {mesh}");
    }
    let discovery = mesh["defaultConfig"]["discoveryAddress"].as_str().unwrap_or_default();
    ensure!(discovery.starts_with("istiod.istio-system.svc:"), "discoveryAddress is {discovery:?}");
    crds::yaml::value(&map("istio", "meshNetworks").await?).context("ConfigMap istio, key meshNetworks")?;
    let values: Value = serde_json::from_str(&map("istio-sidecar-injector", "values").await?)
        .context("ConfigMap istio-sidecar-injector, key values")?;
    let network = &values["global"]["network"];
    ensure!(network.is_null() || network.is_string(), "global.network is {network}");
    ensure!(values["global"].is_object(), "values have no global: {values}");
    let root = map("istio-ca-root-cert", "root-cert.pem").await?;
    ensure!(root.contains("BEGIN CERTIFICATE"), "the root certificate is {root:?}");
    Ok(())
}

/// `/version` at a Service with the labels of a control plane, in one of the forms that Kiali reads.
async fn version(kube: &KubeBox) -> Result<()> {
    let found = read(kube, &["get", "services", "-A", "-l", "app=istiod,istio.io/rev=default"]).await?;
    let service = items(&found).first().context("no Service has the labels app=istiod and istio.io/rev=default")?;
    let ip = service["spec"]["clusterIP"].as_str().context("a cluster IP")?;
    let version = super::page(kube, &format!("http://{ip}:15014/version")).await?;
    let known = Regex::new(r"^[0-9]+\.[0-9]+\.[0-9]+(-(alpha|beta|rc)\.[0-9]+)?$")?;
    ensure!(known.is_match(version.trim()), "/version says {version:?}, which is an \"Unknown Istio Implementation\"");
    Ok(())
}

/// Every kind that it lists is there, and it may list it.
async fn kinds(kube: &KubeBox) -> Result<()> {
    for kind in KINDS {
        as_kiali(kube, &["get", kind, "-A"]).await?;
    }
    let namespaces = read(kube, &["get", "namespaces"]).await?;
    let labelled = items(&namespaces).iter().any(|one| one["metadata"]["labels"]["istio-injection"] == "enabled");
    ensure!(labelled, "no namespace is seen with istio-injection=enabled");
    // It only shows: what it may not do is a part of the promise.
    for (verb, kind) in
        [("create", "virtualservices.networking.istio.io"), ("patch", "deployments.apps"), ("get", "secrets")]
    {
        let allowed = kube.kubectl(&["auth", "can-i", verb, kind, "-A", ACCOUNT]).await?;
        ensure!(!allowed.status.success(), "it may {verb} {kind}");
    }
    Ok(())
}

/// GETs a page of a pod through the API server's port-forward, as Kiali.
async fn forwarded(kube: &KubeBox, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String> {
    let forward = kube.port_forward_with(&[ACCOUNT], namespace, &format!("pod/{pod}"), port).await?;
    get(kube, forward.address(), path).await.with_context(|| format!("{namespace}/{pod}:{port}{path}"))
}

async fn get(kube: &KubeBox, address: SocketAddr, path: &str) -> Result<String> {
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Bytes::new())?;
    let answer = kube.http(address, request).await?;
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    ensure!(answer.status() == 200, "answered {}: {body}", answer.status());
    Ok(body)
}

/// A running pod of the control plane.
async fn istiod_pod(kube: &KubeBox) -> Result<String> {
    let running = ["-n", MESH_NAMESPACE, "get", "pods", "-l", "app=istiod", "--field-selector=status.phase=Running"];
    let pods = read(kube, &running).await?;
    let name = items(&pods).first().and_then(|pod| pod["metadata"]["name"].as_str());
    Ok(name.context("no pod of the control plane runs")?.to_owned())
}

async fn health(kube: &KubeBox) -> Result<()> {
    forwarded(kube, MESH_NAMESPACE, &istiod_pod(kube).await?, 8080, "/ready").await.map(drop)
}

/// What tells a pod of the mesh from others.
async fn pods(kube: &KubeBox) -> Result<()> {
    let pods = read(kube, &["-n", "default", "get", "pods"]).await?;
    ensure!(!items(&pods).is_empty(), "no pods");
    for pod in items(&pods) {
        let metadata = &pod["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let status = metadata["annotations"]["sidecar.istio.io/status"].as_str();
        let status: Value = serde_json::from_str(status.with_context(|| format!("{name} has no status annotation"))?)?;
        ensure!(status["revision"] == "default", "{name}: its status names revision {}", status["revision"]);
        for list in ["initContainers", "containers"] {
            ensure!(status[list].is_array() || status[list].is_null(), "{name}: {list} is {}", status[list]);
        }
        for label in ["service.istio.io/canonical-name", "service.istio.io/canonical-revision", "app", "version"] {
            ensure!(metadata["labels"][label].is_string(), "{name} has no label {label}");
        }
    }
    Ok(())
}

/// `/debug` of the control plane, through port-forward.
async fn debug_pages(kube: &KubeBox) -> Result<()> {
    let istiod = istiod_pod(kube).await?;
    let page = async |path: &str| -> Result<Value> {
        let text = forwarded(kube, MESH_NAMESPACE, &istiod, 15014, path).await?;
        serde_json::from_str(&text).with_context(|| format!("{path} is no JSON: {text}"))
    };
    let syncz = page("/debug/syncz").await?;
    let proxies = syncz.as_array().context("/debug/syncz is no list")?;
    let productpage = pod(kube, "app=productpage").await?;
    let own = proxies.iter().find(|proxy| proxy["proxy"] == format!("{productpage}.default"));
    let own = own.with_context(|| format!("/debug/syncz has no proxy {productpage}.default: {syncz}"))?;
    ensure!(own["cluster_id"] == "Kubernetes", "cluster_id is {}", own["cluster_id"]);
    for kind in ["cluster", "listener", "route", "endpoint"] {
        let (sent, acked) = (&own[format!("{kind}_sent")], &own[format!("{kind}_acked")]);
        ensure!(sent.is_string() && sent == acked, "{kind}: sent {sent}, accepted {acked}");
    }
    let registry = page("/debug/registryz").await?;
    let hosts: BTreeSet<&str> =
        registry.as_array().into_iter().flatten().filter_map(|service| service["hostname"].as_str()).collect();
    ensure!(hosts.contains("reviews.default.svc.cluster.local"), "/debug/registryz knows {hosts:?}");
    ensure!(page("/debug/configz").await?.is_array(), "/debug/configz is no list");
    page("/debug/endpointz").await.map(drop)
}

/// What its page of a proxy shows: bootstrap, clusters, listeners, routes.
async fn config_dump(kube: &KubeBox) -> Result<()> {
    let productpage = pod(kube, "app=productpage").await?;
    let text = forwarded(kube, "default", &productpage, 15000, "/config_dump").await?;
    let dump: Value = serde_json::from_str(&text).context("/config_dump is no JSON")?;
    let section = |name: &str| -> Result<&Value> {
        let wanted = format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump");
        let found = dump["configs"].as_array().into_iter().flatten().find(|one| one["@type"] == wanted.as_str());
        found.with_context(|| format!("/config_dump has no {wanted}"))
    };
    let node = &section("Bootstrap")?["bootstrap"]["node"];
    ensure!(node["id"].as_str().is_some_and(|id| id.contains(&productpage)), "bootstrap.node.id is {}", node["id"]);
    let names = |section: &Value, list: &str, path: &str| -> BTreeSet<String> {
        let all = section[list].as_array().into_iter().flatten();
        all.filter_map(|one| one.pointer(path)?.as_str()).map(str::to_owned).collect()
    };
    let clusters = names(section("Clusters")?, "dynamic_active_clusters", "/cluster/name");
    let reviews = "outbound|9080||reviews.default.svc.cluster.local";
    ensure!(clusters.contains(reviews), "dynamic_active_clusters has no {reviews}: {clusters:?}");
    let listeners = names(section("Listeners")?, "dynamic_listeners", "/active_state/listener/name");
    ensure!(listeners.contains("virtualInbound"), "dynamic_listeners are {listeners:?}");
    let routes = names(section("Routes")?, "dynamic_route_configs", "/route_config/name");
    ensure!(routes.contains("9080"), "dynamic_route_configs are {routes:?}");
    Ok(())
}

/// Its page of a proxy changes how much it logs, by POST.
async fn log_levels(kube: &KubeBox) -> Result<()> {
    let productpage = pod(kube, "app=productpage").await?;
    let forward = kube.port_forward_with(&[ACCOUNT], "default", &format!("pod/{productpage}"), 15000).await?;
    for level in ["debug", "warning"] {
        let request = Request::post(format!("/logging?level={level}"))
            .header(header::HOST, forward.address().to_string())
            .body(Bytes::new())?;
        let answer = kube.http(forward.address(), request).await?;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        ensure!(answer.status() == 200, "/logging?level={level} answered {}: {body}", answer.status());
    }
    Ok(())
}

/// A tag is a webhook configuration with two labels.
async fn tags(kube: &KubeBox) -> Result<()> {
    kube.apply(
        "{apiVersion: install.forestay.dev/v1alpha1, kind: MeshRevisionTag, metadata: {name: prod}, spec: {targetRef: {kind: MeshInstall, name: default}}}",
    )
    .await?;
    kube.wait_for("default", "meshrevisiontag/prod", "condition=Ready", SOON).await?;
    let found = read(kube, &["get", "mutatingwebhookconfigurations", "-l", "istio.io/tag=prod"]).await?;
    let labels = items(&found).first().map(|one| one["metadata"]["labels"].clone()).unwrap_or_default();
    ensure!(labels["istio.io/rev"] == "default", "the tag's configuration has the labels {labels}");
    kube.kubectl_ok(&["delete", "meshrevisiontag", "prod"]).await.map(drop)
}

/// Every metric that it asks Prometheus for has series, with the labels of its graph.
async fn metrics(kube: &KubeBox) -> Result<()> {
    let prometheus = address(kube, "prometheus", 9090).await?;
    let missing = kube
        .eventually("every metric has been scraped", SOON, || async {
            let mut missing = Vec::new();
            for metric in METRICS.iter().filter(|metric| !WITHOUT_TRAFFIC.contains(metric)) {
                if query(kube, &prometheus, &format!("count({metric})")).await?.is_empty() {
                    missing.push(*metric);
                }
            }
            ensure!(missing.is_empty(), "Prometheus has no {}", missing.join(", "));
            Ok(missing)
        })
        .await;
    missing?;
    let grouped = format!("sum by ({}) (istio_requests_total{{source_workload=\"productpage-v1\"}})", GRAPH.join(", "));
    let series = query(kube, &prometheus, &grouped).await?;
    ensure!(!series.is_empty(), "no edges from productpage-v1");
    for (labels, _) in &series {
        for label in GRAPH {
            ensure!(labels[label].as_str().is_some_and(|value| !value.is_empty()), "an edge without {label}: {labels}");
        }
        let known = [&labels["source_cluster"], &labels["destination_cluster"]];
        ensure!(known.iter().all(|cluster| *cluster == "Kubernetes"), "clusters of an edge: {labels}");
    }
    Ok(())
}
