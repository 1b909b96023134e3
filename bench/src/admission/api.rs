//! An API server that knows what the webhook reads, and nothing that changes: lists are answered, watches stay silent.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use names::resources::{MESH_NAMESPACE, WEBHOOK_CA_SECRET, injector, mesh_config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The name by which an API server calls the webhook.
pub(crate) const SERVER_NAME: &str = "istio-sidecar-injector.istio-system.svc";

/// A cluster, as far as the webhook looks.
pub(crate) struct Cluster {
    /// The file by which programs find it.
    pub(crate) kubeconfig: PathBuf,
    /// The authority of the webhook's certificates.
    pub(crate) authority: CertificateDer<'static>,
}

/// Serves until the process ends.
pub(crate) fn start(folder: &Path) -> Result<Cluster> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = params.self_signed(&key)?;
    let known = known(&authority.pem(), &key.serialize_pem());

    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve(listener, known)));

    let kubeconfig = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).with_context(|| kubeconfig.display().to_string())?;
    Ok(Cluster { kubeconfig, authority: authority.der().clone() })
}

/// The objects by the last part of their list's path.
fn known(certificate: &str, key: &str) -> Value {
    let namespaced =
        |name: &str| json!({"name": name, "namespace": MESH_NAMESPACE, "uid": name, "resourceVersion": "1"});
    let proxy = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    let values = json!({
        "global": {
            "hub": names::images::HUB, "tag": names::VERSION, "istioNamespace": MESH_NAMESPACE,
            "imagePullPolicy": "IfNotPresent", "meshID": "cluster.local",
            "multiCluster": {"clusterName": names::CLUSTER_ID},
            "proxy": {
                "image": names::images::PROXY, "clusterDomain": names::CLUSTER_DOMAIN, "logLevel": "warning",
                "statusPort": names::ports::AGENT, "includeIPRanges": "*", "includeInboundPorts": "*",
                "readinessPeriodSeconds": 15, "readinessFailureThreshold": 4,
                "startupProbe": {"enabled": true, "failureThreshold": 600}, "resources": proxy,
            },
            "proxy_init": {"image": names::images::PROXY, "resources": proxy},
        },
        "revision": names::DEFAULT_REVISION,
        "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": true},
    });
    let config = "policy: enabled\ndefaultTemplates: [sidecar]\n";
    let mesh = "trustDomain: cluster.local\nenablePrometheusMerge: true\n";
    let (mesh_name, injector_name) = (mesh_config(names::DEFAULT_REVISION), injector(names::DEFAULT_REVISION));
    json!({
        "configmaps": [
            {"metadata": namespaced(&mesh_name), "data": {"mesh": mesh}},
            {"metadata": namespaced(&injector_name), "data": {"config": config, "values": values.to_string()}},
        ],
        "secrets": [{
            "metadata": namespaced(WEBHOOK_CA_SECRET),
            "data": {"ca-cert.pem": BASE64.encode(certificate), "ca-key.pem": BASE64.encode(key)},
        }],
        "nodes": [{
            "metadata": {"name": "node", "uid": "node", "resourceVersion": "1"},
            "status": {"nodeInfo": {
                "kubeletVersion": "v1.34.1", "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            }},
        }],
        "namespaces": [{"metadata": {
            "name": "default", "uid": "default", "resourceVersion": "1",
            "labels": {"istio-injection": "enabled", "kubernetes.io/metadata.name": "default"},
        }}],
    })
}

async fn serve(listener: std::net::TcpListener, known: Value) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let known = std::sync::Arc::new(known);
    loop {
        let (stream, _) = listener.accept().await?;
        let known = std::sync::Arc::clone(&known);
        let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
            let answer = answer(&known, request.uri().path(), request.uri().query().unwrap_or_default());
            async move { answer }
        });
        // A client that hangs up says so itself.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

type Answer = Response<BoxBody<Bytes, std::convert::Infallible>>;

fn answer(known: &Value, path: &str, query: &str) -> Result<Answer, hyper::http::Error> {
    let answer = Response::builder().header("content-type", "application/json");
    if query.split('&').any(|one| one == "watch=true") {
        let silence = futures::stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>();
        return answer.body(BoxBody::new(StreamBody::new(silence)));
    }
    let kind = path.rsplit('/').next().unwrap_or_default();
    // `fieldSelector=metadata.name%3D<name>`, the only one that is asked for.
    let name = query.split('&').find_map(|one| one.strip_prefix("fieldSelector=metadata.name%3D"));
    let all = known[kind].as_array().cloned().unwrap_or_default();
    let items: Vec<Value> =
        all.into_iter().filter(|item| name.is_none_or(|name| item["metadata"]["name"] == name)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
    answer.body(Full::new(Bytes::from(list.to_string())).boxed())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::{answer, known};

    #[tokio::test]
    async fn a_list_holds_what_was_asked_for() {
        let known = known("certificate", "key");
        for (path, query, expected) in [
            ("/api/v1/nodes", "", "node"),
            ("/api/v1/namespaces/istio-system/configmaps", "fieldSelector=metadata.name%3Distio", "istio"),
            ("/api/v1/namespaces/istio-system/secrets", "limit=500", "istio-sidecar-injector-ca"),
        ] {
            let body = answer(&known, path, query).unwrap().into_body().collect().await.unwrap().to_bytes();
            let list: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(list["items"].as_array().unwrap().len(), 1, "{path}");
            assert_eq!(list["items"][0]["metadata"]["name"], expected, "{path}");
        }
    }
}
