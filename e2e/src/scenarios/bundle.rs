//! The operator as OLM installs it, without OLM: the bundle's definitions, and exactly what the ClusterServiceVersion's
//! install strategy says, under the rights that it asks for and no others. No static manifest is applied here.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use forestay_e2e::{images, tools};
use futures::FutureExt as _;
use serde_json::{Map, Value, json};

use super::mesh::{STARTED, binaries, config};
use crate::runner::{Group, Scenario};

/// The scenarios, each built on the one before.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    let foundation = |name, about, run| Scenario { foundation: true, ..scenario(name, about, 5, run) };
    Group {
        name: "bundle",
        images: archives,
        prepare: |_| async { Ok(()) }.boxed(),
        scenarios: vec![
            scenario("kustomize", "the kustomize base holds what the one file holds", 1, |b| kustomize(b).boxed()),
            foundation("install", "deployment and permissions of the CSV, and nothing else", |b| install(b).boxed()),
            scenario("examples", "the API server takes every example of the CSV", 2, |b| examples(b).boxed()),
            scenario("lifecycle", "a MeshInstall becomes Ready, and its deletion leaves nothing", 8, |b| {
                lifecycle(b).boxed()
            }),
        ],
    }
}

fn archives() -> Result<Vec<PathBuf>> {
    let archives = images::mesh(&binaries()?, names::VERSION, &tools::Cache::open()?)?;
    Ok(archives.into_iter().map(|archive| archive.path).collect())
}

/// The unit test beside `operator/src/kustomize.rs` reads the lists itself; this is kustomize.
async fn kustomize(kube: &KubeBox) -> Result<()> {
    let built = kube.kubectl_ok(&["kustomize", &config("default").display().to_string()]).await?;
    let file = std::fs::read_to_string(config("install.yaml")).context("read config/install.yaml")?;
    let (mut built, mut file) = (documents(&built)?, documents(&file)?);
    // kustomize has an order of its own.
    built.sort_by_key(ToString::to_string);
    file.sort_by_key(ToString::to_string);
    for (built, file) in built.iter().zip(&file) {
        ensure!(built == file, "kustomize says\n{built:#}\nwhere config/install.yaml says\n{file:#}");
    }
    ensure!(built.len() == file.len(), "kustomize has {} objects, config/install.yaml {}", built.len(), file.len());
    Ok(())
}

/// Keys in order, so that documents compare as text.
fn documents(text: &str) -> Result<Vec<Value>> {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut members: Vec<(String, Value)> = members.into_iter().collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>().into()
            }
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    crds::yaml::documents(text).into_iter().map(|document| Ok(sorted(document?.value))).collect()
}

/// The ClusterServiceVersion.
fn csv() -> Result<Value> {
    let path = config("bundle/manifests/forestay-operator.clusterserviceversion.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(crds::yaml::value(&text)?)
}

fn annotation(csv: &Value, name: &str) -> Result<Value> {
    let text = csv["metadata"]["annotations"][name].as_str().with_context(|| format!("the CSV has no {name}"))?;
    serde_json::from_str(text).with_context(|| format!("the CSV's {name}"))
}

async fn install(kube: &KubeBox) -> Result<()> {
    let csv = csv()?;
    let mut definitions = vec!["apply".to_owned(), "--server-side".to_owned()];
    for entry in config("bundle/manifests").read_dir().context("read config/bundle/manifests")? {
        let path = entry?.path().display().to_string();
        if !path.ends_with(".clusterserviceversion.yaml") {
            definitions.extend(["-f".to_owned(), path]);
        }
    }
    let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
    kube.kubectl_ok(&definitions).await?;
    kube.kubectl_ok(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).await?;

    let namespace = annotation(&csv, "operatorframework.io/suggested-namespace-template")?;
    let name = namespace["metadata"]["name"].as_str().context("the namespace's name")?.to_owned();
    let mut objects = vec![namespace];
    objects.extend(strategy(&csv, &name)?);
    let yaml: Vec<String> = objects.iter().map(ToString::to_string).collect();
    kube.apply(&yaml.join("\n---\n")).await?;
    for deployment in list(&csv, "/spec/install/spec/deployments") {
        let deployment = format!("deployment/{}", deployment["name"].as_str().unwrap_or_default());
        kube.wait_for(&name, &deployment, "condition=Available", STARTED).await?;
    }
    Ok(())
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What OLM makes of an install strategy: service accounts, roles and bindings under names that it invents, Deployments
/// with the CSV's annotations on their pods, the operator group's namespaces and the name of an OperatorCondition.
fn strategy(csv: &Value, namespace: &str) -> Result<Vec<Value>> {
    let owner = csv["metadata"]["name"].as_str().context("the CSV's name")?;
    let mut objects = Vec::new();
    for (kind, field) in [("ClusterRole", "clusterPermissions"), ("Role", "permissions")] {
        for (index, permission) in list(csv, &format!("/spec/install/spec/{field}")).iter().enumerate() {
            let account = &permission["serviceAccountName"];
            // The second time it is the same.
            objects.push(json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace},
            }));
            let mut metadata = json!({"name": format!("{owner}-{index}"), "labels": {"olm.owner": owner}});
            if kind == "Role" {
                metadata["namespace"] = namespace.into();
            }
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": metadata, "rules": permission["rules"],
            }));
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata["name"]},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            }));
        }
    }
    let mut annotations = csv["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    for (name, value) in [("operatorGroup", "global"), ("operatorNamespace", namespace), ("targetNamespaces", "")] {
        annotations.insert(format!("olm.{name}"), value.into());
    }
    for deployment in list(csv, "/spec/install/spec/deployments") {
        let mut spec = deployment["spec"].clone();
        spec["revisionHistoryLimit"] = 1.into();
        let pod = spec.pointer_mut("/template/metadata/annotations").and_then(Value::as_object_mut);
        pod.context("the pods' annotations")?.extend(annotations.clone());
        for container in
            spec.pointer_mut("/template/spec/containers").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let variables = container["env"].as_array_mut().context("the container's environment")?;
            variables.push(json!({"name": "OPERATOR_CONDITION_NAME", "value": owner}));
        }
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "spec": spec,
            "metadata": {"name": deployment["name"], "namespace": namespace, "labels": deployment["label"]},
        }));
    }
    Ok(objects)
}

async fn examples(kube: &KubeBox) -> Result<()> {
    let examples = annotation(&csv()?, "alm-examples")?;
    let examples: Vec<String> = list(&examples, "").iter().map(ToString::to_string).collect();
    let said = kube.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], &examples.join("\n---\n")).await?;
    ensure!(said.lines().count() == examples.len(), "of {} examples kubectl says:\n{said}", examples.len());
    Ok(())
}

async fn lifecycle(kube: &KubeBox) -> Result<()> {
    let csv = csv()?;
    let install = annotation(&csv, "operatorframework.io/initialization-resource")?;
    let name = install["metadata"]["name"].as_str().context("the MeshInstall's name")?;
    let (object, begun) = (format!("mi/{name}"), Instant::now());
    kube.apply(&install.to_string()).await?;
    kube.wait_for("default", &object, "condition=Ready", STARTED).await?;
    println!("    MeshInstall to Ready: {:.1} s", begun.elapsed().as_secs_f64());

    // The mesh's images are those that a mirror knows of.
    let related: Vec<&str> =
        list(&csv, "/spec/relatedImages").iter().filter_map(|image| image["image"].as_str()).collect();
    let images = "jsonpath={range .items[*]}{.spec.template.spec.containers[0].image}{\"\\n\"}{end}";
    let images = kube.kubectl_ok(&["-n", "istio-system", "get", "deployments", "-o", images]).await?;
    for image in images.lines() {
        ensure!(related.contains(&image), "the mesh runs {image}, which is none of the CSV's relatedImages");
    }

    kube.kubectl_ok(&["delete", &object, "--timeout=240s"]).await?;
    let owned = format!("{}={name}", names::labels::OWNED_BY);
    let namespaced = "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,poddisruptionbudgets";
    let global = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations";
    kube.eventually("nothing of the mesh left", STARTED, || async {
        for kinds in [namespaced, global] {
            let left = kube.kubectl_ok(&["get", kinds, "-A", "-l", &owned, "-o", "name"]).await?;
            ensure!(left.trim().is_empty(), "left: {left}");
        }
        Ok(())
    })
    .await?;

    let log = kube.logs(names::resources::OPERATOR_NAMESPACE, "deployment/forestay-operator", None).await?;
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("forbidden")).collect();
    ensure!(refused.is_empty(), "the CSV's permissions are too few:\n{}", refused.join("\n"));
    Ok(())
}
