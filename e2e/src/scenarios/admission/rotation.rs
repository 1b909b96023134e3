//! New authorities under load: the webhook's own, which the operator replaces, and the mesh's, which the user does.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use forestay_e2e::kube_box::KubeBox;
use names::DEFAULT_REVISION;
use names::resources::{CA_SECRET, MESH_NAMESPACE, PLUGGED_CA_SECRET, WEBHOOK_CA_SECRET, injector, validator};
use serde_json::{Value, json};

use super::authority::{Authority, aged, plugged_in, trusted};
use super::load::Load;
use super::{
    INJECTED, client, get, httpbin, idle_pod, injected, namespaces, remove, secret_key, strict, webhook_addresses,
};
use crate::scenarios::mesh::security::{has, server_certificate};
use crate::scenarios::mesh::{SOON, STARTED};

const MUTATING: &str = "mutatingwebhookconfiguration";
const VALIDATING: &str = "validatingwebhookconfiguration";
const BUNDLE: &str = "/webhooks/0/clientConfig/caBundle";
const CERT: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const NEXT_CERT: &str = "next-ca-cert.pem";
const NEXT_KEY: &str = "next-ca-key.pem";

/// The webhook's authority grows old and is replaced, and then its Secret is deleted; `caBundle` is edited before.
pub(crate) async fn of_the_webhook(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "rotation";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    let configuration = injector(DEFAULT_REVISION);
    // Somebody takes it out of one configuration, and puts his own into the other.
    let (another, _) = plugged_in("another")?;
    let another = json!([{"op": "replace", "path": BUNDLE, "value": BASE64.encode(another.cert)}]);
    for (kind, name, edit) in [
        (MUTATING, configuration.clone(), json!([{"op": "remove", "path": BUNDLE}])),
        (VALIDATING, validator(DEFAULT_REVISION, MESH_NAMESPACE), another),
    ] {
        let good = bundle_of(kube, kind, &name).await?;
        kube.kubectl_ok(&["patch", kind, &name, "--type=json", "-p", &edit.to_string()]).await?;
        kube.eventually("an edited caBundle put back", SOON, || async {
            let now = bundle_of(kube, kind, &name).await?;
            ensure!(now == good, "that of {kind} {name} is {now}");
            Ok(())
        })
        .await?;
    }

    let load = Load::start(kube, NAMESPACE, 2, true)?;
    let first_key = secret_key(kube, WEBHOOK_CA_SECRET, KEY).await?;
    // Eight months are two thirds of a year: the next authority is announced, and trusted before it is used.
    let old = aged(&first_key, Duration::from_hours(24 * 245))?;
    patch_secret(kube, WEBHOOK_CA_SECRET, CERT, &old).await?;
    let next = announced(kube).await?;
    ensure!(secret_key(kube, WEBHOOK_CA_SECRET, KEY).await? == first_key, "the next authority is in use at once");

    let next_key = secret_key(kube, WEBHOOK_CA_SECRET, NEXT_KEY).await?;
    let next = (next, aged(&next_key, Duration::from_mins(30))?);
    patch_secret(kube, WEBHOOK_CA_SECRET, NEXT_CERT, &next.1).await?;
    kube.eventually("the announced authority in use", SOON, || async {
        ensure!(secret_key(kube, WEBHOOK_CA_SECRET, KEY).await? == next_key, "not yet");
        let bundle = bundle(kube).await?;
        ensure!(bundle.contains(old.trim()), "the one before is not trusted any more");
        serves_from(kube, &next.0).await
    })
    .await?;
    // New replicas and new connections know nothing of the old authority.
    let deployment = format!("deployment/{configuration}");
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "rollout", "restart", &deployment]).await?;
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "rollout", "status", &deployment, "--timeout=240s"]).await?;
    kube.eventually("new replicas under the new authority", SOON, || serves_from(kube, &next.0)).await?;

    // Deleted: the replicas' certificates stay good, and another authority is announced.
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "delete", "secret", WEBHOOK_CA_SECRET]).await?;
    kube.eventually("the Secret made again", SOON, || async {
        ensure!(secret_key(kube, WEBHOOK_CA_SECRET, KEY).await? == next_key, "with another key");
        Ok(())
    })
    .await?;
    announced(kube).await?;

    kube.apply(&idle_pod("after", NAMESPACE, "", "")).await?;
    kube.wait_for(NAMESPACE, "pod/after", "condition=Ready", STARTED).await?;
    injected(&get(kube, NAMESPACE, "pod/after").await?)?;
    load.all_admitted().await?;
    remove(kube, &[NAMESPACE]).await
}

/// The next authority, once it stands in the Secret and API servers are told to trust it.
async fn announced(kube: &KubeBox) -> Result<String> {
    kube.eventually("the next authority announced", SOON, || async {
        let next = secret_key(kube, WEBHOOK_CA_SECRET, NEXT_CERT).await?;
        ensure!(!next.is_empty(), "Secret {WEBHOOK_CA_SECRET} has no key {NEXT_CERT}");
        ensure!(bundle(kube).await?.contains(next.trim()), "caBundle does not have it yet");
        Ok(next)
    })
    .await
}

/// Every replica serves with a certificate of this authority.
async fn serves_from(kube: &KubeBox, authority: &str) -> Result<()> {
    let name = format!("{}.{MESH_NAMESPACE}.svc", injector(DEFAULT_REVISION));
    for address in webhook_addresses(kube, DEFAULT_REVISION).await? {
        let address = format!("{address}:{}", names::ports::WEBHOOK).parse()?;
        trusted(kube, address, &name, authority).await.with_context(|| format!("the webhook at {address}"))?;
    }
    Ok(())
}

/// What API servers trust, of all webhooks that inject.
async fn bundle(kube: &KubeBox) -> Result<String> {
    bundle_of(kube, MUTATING, &injector(DEFAULT_REVISION)).await
}

async fn bundle_of(kube: &KubeBox, kind: &str, name: &str) -> Result<String> {
    let template = "go-template={{range .webhooks}}{{with .clientConfig.caBundle}}{{. | base64decode}}{{end}}\n{{end}}";
    kube.kubectl_ok(&["get", kind, name, "-o", template]).await
}

async fn patch_secret(kube: &KubeBox, secret: &str, key: &str, value: &str) -> Result<()> {
    let patch = json!({"stringData": {key: value}}).to_string();
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "patch", "secret", secret, "--type=merge", "-p", &patch]).await.map(drop)
}

/// From the self-signed root to an intermediate under a root of the user's, in the steps that Istio's users take: first
/// everybody trusts both roots, then the new one signs. Meanwhile one pod asks another without a pause, and pods are made.
pub(crate) async fn of_the_mesh(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "roots";
    const SIGNER: &str = "an intermediate of my own";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    strict(kube, NAMESPACE).await?;
    let ask = "while :; do curl -s -o /dev/null -w \"%{http_code}\\n\" --max-time 20 http://server:8000/status/200; sleep 0.05; done";
    kube.apply(&httpbin("server", NAMESPACE)).await?;
    kube.wait_for(NAMESPACE, "deployment/server", "condition=Available", STARTED).await?;
    kube.apply(&client("client", NAMESPACE, ask)).await?;
    kube.wait_for(NAMESPACE, "deployment/client", "condition=Available", STARTED).await?;
    let load = Load::start(kube, NAMESPACE, 2, true)?;

    let own =
        Authority { cert: secret_key(kube, CA_SECRET, CERT).await?, key: secret_key(kube, CA_SECRET, KEY).await? };
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "delete", "secret", CA_SECRET]).await?;
    kube.eventually("a deleted root made again", SOON, || async {
        ensure!(secret_key(kube, CA_SECRET, KEY).await? == own.key, "with another key");
        Ok(())
    })
    .await?;

    let (root, intermediate) = plugged_in(SIGNER)?;
    let both = format!("{}\n{}", own.cert.trim(), root.cert);
    plug_in(kube, &own, &own.cert, &both).await?;
    for deployment in ["server", "client"] {
        trusts_both(kube, NAMESPACE, deployment).await?;
    }
    plug_in(kube, &intermediate, &format!("{}{}", intermediate.cert, root.cert), &both).await?;
    kube.eventually("a certificate of the new authority", STARTED, || async {
        kube.kubectl_ok(&["-n", NAMESPACE, "rollout", "restart", "deployment/server"]).await?;
        kube.kubectl_ok(&["-n", NAMESPACE, "rollout", "status", "deployment/server", "--timeout=120s"]).await?;
        let newest = ["get", "pod", "-l", "kind=server", "--sort-by=.metadata.creationTimestamp", "-o"];
        let address = [&["-n", NAMESPACE], newest.as_slice(), &["jsonpath={.items[-1:].status.podIP}"]].concat();
        let address = kube.kubectl_ok(&address).await?;
        let certificate = server_certificate(kube, &format!("{address}:8080")).await?;
        ensure!(has(&certificate, SIGNER.as_bytes()), "{address} shows a certificate of another authority");
        Ok(())
    })
    .await?;
    // And the other way round: a client of the new authority.
    kube.apply(&client("late", NAMESPACE, "sleep infinity")).await?;
    kube.wait_for(NAMESPACE, "deployment/late", "condition=Available", STARTED).await?;
    let once = ["curl", "-fsS", "-o", "/dev/null", "http://server:8000/status/200"];
    kube.exec_ok(NAMESPACE, "deployment/late", Some("app"), &once).await?;

    load.all_admitted().await?;
    let log = kube.kubectl_ok(&["-n", NAMESPACE, "logs", "deployment/client", "-c", "app", "--tail=-1"]).await?;
    let (good, bad): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| *line == "200");
    println!("    {} requests meanwhile", good.len());
    ensure!(bad.is_empty(), "{} of {} requests failed: {bad:?}", bad.len(), good.len() + bad.len());
    ensure!(good.len() >= 50, "only {} requests, too few to mean anything", good.len());

    remove(kube, &[NAMESPACE]).await?;
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "delete", "secret", PLUGGED_CA_SECRET]).await.map(drop)
}

/// What Istio's users put into Secret `cacerts`.
async fn plug_in(kube: &KubeBox, signer: &Authority, chain: &str, roots: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": PLUGGED_CA_SECRET, "namespace": MESH_NAMESPACE},
        "stringData": {CERT: signer.cert, KEY: signer.key, "cert-chain.pem": chain, "root-cert.pem": roots},
    });
    kube.apply(&secret.to_string()).await.map(drop)
}

/// Waits until a pod's proxy has heard of two roots.
async fn trusts_both(kube: &KubeBox, namespace: &str, deployment: &str) -> Result<()> {
    let pod = format!("deployment/{deployment}");
    let ask = ["pilot-agent", "request", "GET", "certs"];
    kube.eventually("a proxy that trusts both roots", STARTED, || async {
        let certificates = kube.exec_ok(namespace, &pod, Some("istio-proxy"), &ask).await?;
        let certificates: Value = serde_json::from_str(&certificates)?;
        let roots = certificates["certificates"][0]["ca_cert"].as_array().map(Vec::len);
        ensure!(roots == Some(2), "{deployment} trusts {roots:?} roots");
        Ok(())
    })
    .await
}
