//! Istio's objects at admission: a mistake is refused by name, what cannot be meant is warned of, and a webhook that is
//! away holds up nothing but new rules.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;

use super::{SOON, STARTED};
use forestay_e2e::kube_box::KubeBox;

const CONFIGURATION: &str = "validatingwebhookconfiguration/istio-validator-istio-system";
const WEBHOOK: &str = "deployment/istio-sidecar-injector";
/// A namespace that has nothing to do with the mesh.
const OUTSIDE: &str = "outside-the-mesh";

/// A VirtualService `validated` for a host that nobody calls, with one HTTP rule.
fn virtual_service(rule: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: validated, namespace: default, finalizers: [example.org/held]}}, spec: {{hosts: [validated.example.org], http: [{rule}]}}}}"
    )
}

const GOOD: &str = "{route: [{destination: {host: details, port: {number: 9080}}}]}";
/// Legal for the schema; that the weights are all zero is only seen by who knows what they mean.
const BAD: &str = "{route: [{destination: {host: details}, weight: 0}, {destination: {host: reviews}, weight: 0}]}";
/// Legal, but nothing gets to the second rule.
const POINTLESS: &str = "{route: [{destination: {host: details}}]}, {route: [{destination: {host: reviews}}]}";

/// `kubectl apply`: whether it succeeded, and what it said on both of its outputs.
async fn apply(kube: &KubeBox, yaml: &str) -> Result<(bool, String)> {
    let mut child = kube
        .kubectl_command(&["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run kubectl by nsenter (package util-linux)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(yaml.as_bytes()).await.context("write to kubectl")?;
    }
    let output = child.wait_with_output().await.context("wait for kubectl")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

async fn refused(kube: &KubeBox, yaml: &str, parts: &[&str]) -> Result<()> {
    let (applied, said) = apply(kube, yaml).await?;
    ensure!(!applied, "accepted: {yaml}");
    for part in parts {
        ensure!(said.contains(part), "the refusal does not say {part:?}: {said}");
    }
    Ok(())
}

async fn accepted(kube: &KubeBox, yaml: &str) -> Result<String> {
    let (applied, said) = apply(kube, yaml).await?;
    ensure!(applied, "refused: {said}");
    Ok(said)
}

/// Refused, warned of, accepted.
pub(crate) async fn answers(kube: &KubeBox) -> Result<()> {
    kube.kubectl_ok(&["get", CONFIGURATION]).await?;
    refused(kube, &virtual_service(BAD), &["VirtualService \"validated\" is invalid", "spec.http[0].route"]).await?;
    let said = accepted(kube, &virtual_service(POINTLESS)).await?;
    ensure!(said.contains("Warning: VirtualService default/validated: spec.http[1]"), "no warning: {said}");
    let said = accepted(kube, &virtual_service(GOOD)).await?;
    ensure!(!said.contains("Warning"), "warned of a good one: {said}");
    // A good one that gets a mistake; in another version, which is the same object.
    let bad = virtual_service(BAD).replace("networking.istio.io/v1,", "networking.istio.io/v1beta1,");
    refused(kube, &bad, &["spec.http[0].route"]).await
}

/// While no webhook runs, objects can be changed in their metadata, deleted, and let go by their finalizers; a rule that
/// nobody can check is refused, and says why; who has to write one all the same takes the configuration away.
pub(crate) async fn outage(kube: &KubeBox) -> Result<()> {
    accepted(kube, &virtual_service(GOOD)).await?;
    let istio = |arguments: &[&'static str]| [&["-n", "istio-system"][..], arguments].concat();
    // The number of replicas is the profile's: the operator must be asked to keep its hands off.
    kube.kubectl_ok(&istio(&["annotate", WEBHOOK, "install.forestay.dev/ignore=true"])).await?;
    kube.kubectl_ok(&istio(&["scale", WEBHOOK, "--replicas=0"])).await?;
    kube.kubectl_ok(&istio(&["wait", "pod", "-l", "app=sidecar-injector", "--for=delete", "--timeout=120s"])).await?;
    let away = async {
        refused(kube, &virtual_service(POINTLESS), &["failed calling webhook \"validation.istio.io\""]).await?;
        let object = "virtualservice/validated";
        kube.kubectl_ok(&["annotate", object, "example.org/touched=yes"]).await?;
        kube.kubectl_ok(&["delete", object, "--wait=false"]).await?;
        let free = r#"{"metadata":{"finalizers":null}}"#;
        kube.kubectl_ok(&["patch", object, "--type=merge", "-p", free]).await?;
        kube.wait_for("default", object, "delete", SOON).await?;

        kube.kubectl_ok(&["create", "namespace", OUTSIDE]).await?;
        kube.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: app, namespace: {OUTSIDE}}}, spec: {{containers: [{{name: app, image: 'docker.io/curlimages/curl:8.16.0', command: [/bin/sleep, infinity]}}]}}}}"
        ))
        .await?;
        kube.wait_for(OUTSIDE, "pod/app", "condition=Ready", STARTED).await?;
        kube.kubectl_ok(&["delete", "namespace", OUTSIDE, "--wait=false"]).await?;

        kube.kubectl_ok(&["delete", CONFIGURATION]).await?;
        kube.eventually("a rule that is written all the same", SOON, || async {
            accepted(kube, &virtual_service(GOOD)).await
        })
        .await?;
        ensure!(kube.kubectl_ok(&["get", CONFIGURATION]).await.is_err(), "put back while no webhook answers");
        anyhow::Ok(())
    }
    .await;
    kube.kubectl_ok(&istio(&["annotate", WEBHOOK, "install.forestay.dev/ignore-"])).await?;
    kube.kubectl_ok(&istio(&["rollout", "status", WEBHOOK, "--timeout=240s"])).await?;
    away?;
    // A roll-out that the operator has not begun yet counts as done: this is what waits for the webhook's pods.
    kube.eventually("mistakes refused again", STARTED, || async {
        refused(kube, &virtual_service(BAD), &["spec.http[0].route"]).await
    })
    .await
}

/// A `caBundle` that somebody has edited is put back before he can look twice.
pub(crate) async fn repaired(kube: &KubeBox) -> Result<()> {
    for configuration in [CONFIGURATION, "mutatingwebhookconfiguration/istio-sidecar-injector"] {
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let good = kube.kubectl_ok(&["get", configuration, "-o", path]).await?;
        // "edited"
        let edit = r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "ZWRpdGVk"}]"#;
        kube.kubectl_ok(&["patch", configuration, "--type=json", "-p", edit]).await?;
        kube.eventually("the bundle put back", SOON, || async {
            let now = kube.kubectl_ok(&["get", configuration, "-o", path]).await?;
            ensure!(now == good, "{configuration} still has another caBundle");
            Ok(())
        })
        .await?;
    }
    kube.eventually("validation as before", SOON, || async {
        refused(kube, &virtual_service(BAD), &["spec.http[0].route"]).await
    })
    .await?;
    // What an earlier scenario may have left; held by a finalizer that nobody takes off.
    let free = r#"{"metadata":{"finalizers":null}}"#;
    let object = "virtualservice/validated";
    kube.kubectl_ok(&["delete", object, "--wait=false", "--ignore-not-found"]).await?;
    let _ = kube.kubectl(&["patch", object, "--type=merge", "-p", free]).await?;
    kube.wait_for("default", object, "delete", SOON).await
}
