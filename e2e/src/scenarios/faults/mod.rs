//! What an operator has to live through: its objects edited and deleted, itself killed or doubled, the API server gone,
//! namespaces and definitions that vanish, deletions of every kind. The scenarios share one box; each begins with a mesh
//! that is Ready, which it makes if it is not there.
//!
//! * [`fields`]: every field of the API, tried wrong
//! * [`drift`]: 200 objects edited or deleted
//! * [`killed`]: the operator killed at every stage
//! * [`replicas`]: two operators at once
//! * [`api_server`]: the API server killed under load
//! * [`definitions`]: Istio's definitions missing, older, newer
//! * [`namespaces`]: a mesh's or gateway's namespace vanishes, a node is drained
//! * [`deletions`]: what deletion leaves and what gets in its way
//! * [`farewell`]: the operator taken away before its meshes

mod api_server;
mod definitions;
mod deletions;
mod drift;
mod farewell;
mod fields;
mod killed;
mod namespaces;
pub(crate) mod objects;
pub(crate) mod process;
mod replicas;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use forestay_e2e::{images, tools};
use futures::FutureExt as _;
use serde_json::Value;

use super::mesh::{self, STARTED, operator_available};
use crate::runner::{Group, Scenario};

/// The scenarios.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    Group {
        name: "faults",
        images: archives,
        prepare: |kube| prepare(kube).boxed(),
        scenarios: vec![
            scenario("every-field-wrong", "each field tried wrong: refused, or a condition that names it", 5, |b| {
                fields::wrong(b).boxed()
            }),
            scenario("scaling", "from replicas to an autoscaler and back, and no pod goes", 5, |b| {
                drift::scaling(b).boxed()
            }),
            scenario("drift-200", "200 objects deleted or edited, all restored; nothing else is touched", 10, |b| {
                drift::two_hundred(b).boxed()
            }),
            scenario("two-operators", "one writes at any moment; a paused one does not go on writing", 8, |b| {
                replicas::two(b).boxed()
            }),
            scenario("api-restart", "the API server is killed under load during an installation", 8, |b| {
                api_server::killed(b).boxed()
            }),
            scenario("api-slow", "a mesh is installed and deleted while the API server hardly works", 10, |b| {
                api_server::slow(b).boxed()
            }),
            scenario(
                "missing-definitions",
                "Istio's definitions missing or newer: a condition, nothing changed",
                5,
                |b| definitions::missing(b).boxed(),
            ),
            scenario("node-drain", "kubectl drain goes through with one replica each", 8, |b| {
                namespaces::drain(b).boxed()
            }),
            scenario("one-revision", "of two with one revision the older has it, then the other", 6, |b| {
                deletions::one_revision(b).boxed()
            }),
            scenario("gateway-namespace", "a gateway's namespace vanishes and comes back", 6, |b| {
                namespaces::of_a_gateway(b).boxed()
            }),
            scenario("mesh-namespace", "the mesh's namespace is deleted, with and without the mesh", 8, |b| {
                namespaces::of_the_mesh(b).boxed()
            }),
            scenario("edited-while-deleted", "a MeshInstall edited while it goes, parts of it gone before", 6, |b| {
                deletions::edited(b).boxed()
            }),
            scenario("operator-killed", "killed at every stage of an installation and of a deletion", 10, |b| {
                killed::at_every_stage(b).boxed()
            }),
            scenario("keep-and-purge", "what stays after a deletion, and after a purge", 8, |b| {
                deletions::keep_and_purge(b).boxed()
            }),
            scenario("operator-before-mesh", "taking the operator away first is refused, or told", 8, |b| {
                farewell::operator_first(b).boxed()
            }),
        ],
    }
}

pub(crate) fn archives() -> Result<Vec<PathBuf>> {
    let (binaries, cache) = (mesh::binaries()?, tools::Cache::open()?);
    let mut archives = images::mesh(&binaries, names::VERSION, &cache)?;
    archives.push(images::httpbin(&tools::httpbin(&forestay_e2e::progress::PlainLines)?, &cache)?);
    Ok(archives.into_iter().map(|archive| archive.path).collect())
}

/// The operator, and nothing else yet.
pub(crate) async fn prepare(kube: &KubeBox) -> Result<()> {
    mesh::operator_installed(kube).await?;
    deletions::note_what_is_there(kube).await
}

/// The mesh of most scenarios: gateway, one replica each, an autoscaler for the webhook.
const MESH: &str = r"
apiVersion: install.forestay.dev/v1alpha1
kind: MeshInstall
metadata: {name: default}
spec:
  profile: default
  webhook: {autoscaling: {minReplicas: 1, maxReplicas: 3}}
";

/// Makes the mesh if it is not there, and waits until it is Ready.
async fn installed(kube: &KubeBox) -> Result<()> {
    // However the scenario before has left it.
    process::scale(kube, 1).await?;
    kube.apply(MESH).await?;
    ready(kube, "default").await
}

/// Waits until a MeshInstall is Ready as it stands now.
async fn ready(kube: &KubeBox, name: &str) -> Result<()> {
    kube.eventually(&format!("mi/{name} Ready"), STARTED, || async {
        let install = mesh_install(kube, name).await?;
        let ready = condition(&install, "Ready");
        ensure!(
            ready["status"] == "True" && ready["observedGeneration"] == install["metadata"]["generation"],
            "Ready is {ready}"
        );
        Ok(())
    })
    .await
}

async fn mesh_install(kube: &KubeBox, name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&kube.kubectl_ok(&["get", "mi", name, "-o", "json"]).await?)?)
}

/// One condition of an object; null when it does not have it.
fn condition<'a>(object: &'a Value, of: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == of).unwrap_or(&Value::Null)
}

/// Waits for a condition of a MeshInstall with this status and reason, whose message says all of these.
async fn says(kube: &KubeBox, name: &str, of: &str, status: &str, reason: &str, parts: &[&str]) -> Result<()> {
    kube.eventually(&format!("{of}={status} {reason} of mi/{name}"), mesh::SOON, || async {
        let install = mesh_install(kube, name).await?;
        let said = condition(&install, of);
        let message = said["message"].as_str().unwrap_or_default();
        ensure!(
            said["status"] == status && said["reason"] == reason && parts.iter().all(|part| message.contains(part)),
            "it says {said}"
        );
        Ok(())
    })
    .await
}

/// kubectl must fail; its words come back.
async fn refused(kube: &KubeBox, arguments: &[&str]) -> Result<String> {
    let output = tokio::time::timeout(Duration::from_mins(1), kube.kubectl(arguments)).await.context("no answer")??;
    ensure!(!output.status.success(), "kubectl {} succeeded", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Lets the guard warn instead of refusing, as somebody who insists does.
async fn insist(kube: &KubeBox) -> Result<()> {
    let patch = format!(
        r#"{{"metadata":{{"annotations":{{"{}":"true"}}}},"spec":{{"validationActions":["Warn"]}}}}"#,
        names::annotations::IGNORE
    );
    let binding = ["validatingadmissionpolicybinding", names::resources::GUARD];
    kube.kubectl_ok(&[&["patch"], &binding[..], &["--type=merge", "-p", &patch]].concat()).await.map(drop)
}

/// Deletes a MeshInstall, whoever uses it, and waits until it is gone.
async fn uninstalled(kube: &KubeBox, name: &str) -> Result<()> {
    let force = format!("{}=true", names::annotations::FORCE_DELETE);
    kube.kubectl_ok(&["annotate", "--overwrite", "mi", name, &force]).await?;
    kube.kubectl_ok(&["delete", "mi", name, "--timeout=240s"]).await.map(drop)
}
