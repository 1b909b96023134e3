//! `forestay kube-inject` and `forestay x check-inject` on a real cluster: the same pods as the webhook makes, and the same
//! decisions.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::DEFAULT_REVISION;
use names::resources::{MESH_NAMESPACE, injector};
use serde_json::{Value, json};

use super::{INJECTED, get, idle_pod, injected, namespaces, remove, strict};
use crate::scenarios::mesh::inject::{containers, name_of, pods};
use crate::scenarios::mesh::{SOON, STARTED, sample};

/// Runs `forestay`, which must succeed; its standard output comes back.
async fn forestay(kube: &KubeBox, arguments: &[&str]) -> Result<String> {
    let program = std::env::current_exe().context("the path of this program")?;
    let program = program.parent().context("the folder of this program")?.join("forestay");
    let output = kube.command(&program, arguments).output().await.context("run forestay by nsenter")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "forestay {}: {}: {said}", arguments.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Upstream's samples, injected as files in a namespace of no label, beside the same that the webhook injects.
pub(crate) async fn kube_inject(kube: &KubeBox) -> Result<()> {
    const FILES: &str = "by-file";
    const WEBHOOK: &str = "by-webhook";
    namespaces(kube, &[FILES], "").await?;
    namespaces(kube, &[WEBHOOK], INJECTED).await?;
    for namespace in [FILES, WEBHOOK] {
        strict(kube, namespace).await?;
    }
    for path in ["sleep/sleep.yaml", "httpbin/httpbin.yaml"] {
        let file = sample(path)?;
        let words = ["kube-inject", "-n", FILES, "-f", &file.display().to_string()];
        let yaml = forestay(kube, &words).await?;
        kube.kubectl_with_input(&["-n", FILES, "apply", "-f", "-"], &yaml).await?;
        kube.apply_file(WEBHOOK, &file).await?;
    }
    for namespace in [FILES, WEBHOOK] {
        for deployment in ["deployment/sleep", "deployment/httpbin"] {
            kube.wait_for(namespace, deployment, "condition=Available", STARTED).await?;
        }
    }
    let table = kube.kubectl_ok(&["-n", FILES, "get", "pods"]).await?;
    ensure!(table.lines().skip(1).all(|line| line.contains("2/2")), "not all pods are 2/2:\n{table}");

    let (of_files, of_webhook) = (pods(kube, FILES).await?, pods(kube, WEBHOOK).await?);
    for app in ["sleep", "httpbin"] {
        let of = |pods: &[Value]| {
            let found = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == app).cloned();
            found.with_context(|| format!("no pod of {app}"))
        };
        let (file, webhook) = (of(&of_files)?, of(&of_webhook)?);
        injected(&file)?;
        let (file, webhook) = (comparable(&file, FILES)?, comparable(&webhook, WEBHOOK)?);
        if let Some(difference) = difference("", &file, &webhook) {
            anyhow::bail!("the pod of {app} by kube-inject is not the webhook's: {difference}");
        }
    }
    for (from, to) in [(FILES, FILES), (FILES, WEBHOOK), (WEBHOOK, FILES)] {
        let url = format!("http://httpbin.{to}:8000/headers");
        kube.eventually("a request by mutual TLS", SOON, || async {
            let headers =
                kube.exec_ok(from, "deployment/sleep", Some("sleep"), &["curl", "-fsS", "-m", "10", &url]).await?;
            for part in [
                format!("By=spiffe://cluster.local/ns/{to}/sa/httpbin"),
                format!("URI=spiffe://cluster.local/ns/{from}/sa/sleep"),
            ] {
                ensure!(headers.contains(&part), "x-forwarded-client-cert does not say {part}: {headers}");
            }
            Ok(())
        })
        .await?;
    }
    remove(kube, &[FILES, WEBHOOK]).await
}

/// What must be the same of two pods of a workload: all of their spec and marks, without what Kubernetes chose for each.
fn comparable(pod: &Value, namespace: &str) -> Result<Value> {
    let mut metadata = json!({"labels": pod["metadata"]["labels"], "annotations": pod["metadata"]["annotations"]});
    let mut spec = pod["spec"].clone();
    if let Some(labels) = metadata["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("nodeName");
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            sort(&mut container["volumeMounts"], "mountPath");
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                if variable["name"] == "ISTIO_META_POD_PORTS" {
                    variable["value"] = with_protocols(&variable["value"])?;
                }
            }
        }
    }
    // The token's volume is there when the webhook looks, and not when a file is read.
    sort(&mut spec["volumes"], "name");
    // It has a name by chance.
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let token = volumes.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with("kube-api-access-"));
    let token = token.unwrap_or("kube-api-access-").to_owned();
    let text = json!({"metadata": metadata, "spec": spec}).to_string();
    Ok(serde_json::from_str(&text.replace(&token, "token").replace(namespace, "its-namespace"))?)
}

fn sort(list: &mut Value, by: &str) {
    if let Some(items) = list.as_array_mut() {
        items.sort_by_key(|item| {
            let key = item[by].as_str().unwrap_or_default();
            // Of the names by chance none is before another.
            if key.starts_with("kube-api-access-") { "kube-api-access-".to_owned() } else { key.to_owned() }
        });
    }
}

/// A list of ports with Kubernetes' default, which a file need not say.
fn with_protocols(ports: &Value) -> Result<Value> {
    let mut ports: Value = serde_json::from_str(ports.as_str().unwrap_or("[]"))?;
    for port in ports.as_array_mut().into_iter().flatten() {
        if port["protocol"].is_null() {
            port["protocol"] = json!("TCP");
        }
    }
    Ok(ports)
}

/// The first place where two documents are not the same.
fn difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(one), Value::Object(other)) => {
            let all: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            all.into_iter().find_map(|name| difference(&format!("{path}/{name}"), &a[name], &b[name]))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
            .iter()
            .zip(other)
            .enumerate()
            .find_map(|(index, (one, other))| difference(&format!("{path}/{index}"), one, other)),
        _ => (a != b).then(|| format!("{path} is {a} and {b}")),
    }
}

/// What check-inject says is what then happens, over the matrix of labels, through a tag and past a condition.
pub(crate) async fn check_inject(kube: &KubeBox) -> Result<()> {
    const TAG: &str = "prod";
    kube.apply(&format!(
        "{{apiVersion: install.forestay.dev/v1alpha1, kind: MeshRevisionTag, metadata: {{name: {TAG}}}, spec: {{targetRef: {{name: {DEFAULT_REVISION}}}}}}}"
    ))
    .await?;
    kube.wait_for("default", &format!("mrt/{TAG}"), "condition=Ready", STARTED).await?;
    kube.kubectl_with_input(&["create", "-f", "-"], &conditional(kube).await?.to_string()).await?;
    let every = [
        ("ci-plain", ""),
        ("ci-enabled", INJECTED),
        ("ci-disabled", "istio-injection: disabled"),
        ("ci-default", "istio.io/rev: default"),
        ("ci-tag", "istio.io/rev: prod"),
        ("ci-nowhere", "istio.io/rev: nowhere"),
        ("ci-both", "istio-injection: enabled, istio.io/rev: nowhere"),
        ("ci-condition", "team: conditional"),
    ];
    for (namespace, labels) in every {
        namespaces(kube, &[namespace], labels).await?;
    }
    let pods = [
        ("none", vec![]),
        ("in", vec!["sidecar.istio.io/inject=true"]),
        ("out", vec!["sidecar.istio.io/inject=false"]),
        ("tag", vec!["istio.io/rev=prod"]),
        ("in-tag", vec!["sidecar.istio.io/inject=true", "istio.io/rev=prod"]),
    ];
    let (mut with, mut without) = (0, 0);
    for (namespace, _) in every {
        for (name, labels) in &pods {
            let yaml = labels.iter().map(|label| label.replacen('=', ": \"", 1) + "\"").collect::<Vec<_>>().join(", ");
            let pod = idle_pod(name, namespace, &format!("labels: {{{yaml}}}"), "");
            let made = kube.kubectl_with_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &pod).await?;
            let made: Value = serde_json::from_str(&made)?;
            let has = containers(&made, "initContainers").contains(&"istio-proxy");
            let mut words = vec!["x", "check-inject", "-n", namespace];
            let joined = labels.join(",");
            if !labels.is_empty() {
                words.extend(["-l", &joined]);
            }
            let said = forestay(kube, &words).await?;
            let says = said.contains(": injected; ");
            ensure!(says == has, "{namespace}, pod {name}: injected: {has}, and check-inject says:\n{said}");
            *(if has { &mut with } else { &mut without }) += 1;
        }
    }
    ensure!(with >= 10 && without >= 10, "{with} pods with and {without} without a sidecar show little");

    // The same about things that are there.
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: ci-tag}, spec: {replicas: 0, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: app, image: none}]}}}}";
    kube.apply(deployment).await?;
    kube.apply(&idle_pod("there", "ci-enabled", "labels: {sidecar.istio.io/inject: \"false\"}", "")).await?;
    for (words, parts) in [
        (
            vec!["deployment/a", "-n", "ci-tag"],
            vec!["Deployment ci-tag/a: injected", "is the tag prod of revision default"],
        ),
        (vec!["namespace/ci-tag"], vec!["A pod in namespace ci-tag: injected", "istio-revision-tag-prod"]),
        (vec!["there.ci-enabled"], vec!["Pod ci-enabled/there: not injected", "preventing injection"]),
        (
            vec!["namespace/ci-condition"],
            vec![": injected", "condition not-skipped cannot be evaluated here and is taken as true"],
        ),
        (vec!["namespace/ci-nowhere"], vec![": not injected", "no webhook answers to revision \"nowhere\""]),
    ] {
        let said = forestay(kube, &[&["x", "check-inject"], words.as_slice()].concat()).await?;
        for part in parts {
            ensure!(said.contains(part), "check-inject {words:?} does not say {part:?}:\n{said}");
        }
    }
    let skipped = idle_pod("skipped", "ci-condition", "annotations: {skip: \"yes\"}", "");
    let made = kube.kubectl_with_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &skipped).await?;
    ensure!(!made.contains("istio-proxy"), "the condition keeps nobody out");

    // A tag that leads nowhere says so.
    let nowhere = r#"{"spec":{"targetRef":{"name":"gone"}}}"#;
    kube.kubectl_ok(&["patch", "mrt", TAG, "--type=merge", "-p", nowhere]).await?;
    kube.eventually("what check-inject says of a tag that leads nowhere", SOON, || async {
        let said = forestay(kube, &["x", "check-inject", "namespace/ci-tag"]).await?;
        ensure!(said.contains("MeshRevisionTag prod is not in force: spec.targetRef.name"), "{said}");
        Ok(())
    })
    .await?;
    kube.kubectl_ok(&["delete", "mrt", TAG]).await?;
    kube.kubectl_ok(&["delete", "mutatingwebhookconfiguration", CONDITIONAL]).await?;
    remove(kube, &every.map(|(namespace, _)| namespace)).await
}

const CONDITIONAL: &str = "with-a-condition";

/// A configuration of somebody's own: the mesh's webhook for namespaces of a team, by a condition.
async fn conditional(kube: &KubeBox) -> Result<Value> {
    let name = injector(DEFAULT_REVISION);
    let ours = get(kube, "default", &format!("mutatingwebhookconfiguration/{name}")).await?;
    let mut webhook = ours["webhooks"][0].clone();
    ensure!(webhook["clientConfig"]["service"]["namespace"] == MESH_NAMESPACE, "another webhook: {}", name_of(&ours));
    webhook["name"] = json!("team.sidecar-injector.istio.io");
    webhook["namespaceSelector"] = json!({"matchLabels": {"team": "conditional"}});
    webhook["objectSelector"] = json!({"matchExpressions": [
        {"key": "sidecar.istio.io/inject", "operator": "DoesNotExist"}, {"key": "istio.io/rev", "operator": "DoesNotExist"},
    ]});
    let expression = "!has(object.metadata.annotations) || !('skip' in object.metadata.annotations)";
    webhook["matchConditions"] = json!([{"name": "not-skipped", "expression": expression}]);
    Ok(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONDITIONAL}, "webhooks": [webhook],
    }))
}
