//! Every field of the API tried wrong, on a real API server. That every field has a row is a unit test of the operator's,
//! `validate/wrong_fields.rs`.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use names::resources::API_GROUP;
use serde_json::Value;

use super::{MESH, condition, installed, mesh_install, ready, refused, says};

#[path = "../../../../operator/tests/wrong_fields/table.rs"]
mod table;

/// All rows by server-side dry runs; those marked for it on the running mesh; and what cannot be changed.
pub(crate) async fn wrong(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    let (client, rows) = (kube.client()?, table::rows());
    let tried: Vec<Option<String>> = stream::iter(rows.clone())
        .map(|row| {
            let client = client.clone();
            async move { admission(&client, &row).await }
        })
        .buffered(8)
        .collect()
        .await;
    let wrong: Vec<String> = tried.into_iter().flatten().collect();
    ensure!(wrong.is_empty(), "of {} rows {} are not as they say:\n{}", rows.len(), wrong.len(), wrong.join("\n"));

    let on_a_mesh: Vec<&table::Row> = rows.iter().filter(|row| row.cluster).collect();
    for row in &on_a_mesh {
        kube.apply(&on_the_mesh(row)?.to_string()).await?;
        let reason = row.reason.as_deref().unwrap_or_default();
        says(kube, "default", "Reconciled", "False", reason, &[&row.says]).await.with_context(|| row.field.clone())?;
        let install = mesh_install(kube, "default").await?;
        for part in ["ControlPlaneReady", "WebhookReady"] {
            let said = condition(&install, part);
            ensure!(said["status"] == "True", "{}: what ran before does not run on: {said}", row.field);
        }
    }
    kube.apply(MESH).await?;
    ready(kube, "default").await?;

    for (field, value) in [("namespace", "elsewhere"), ("revision", "canary")] {
        let patch = format!(r#"{{"spec":{{"{field}":"{value}"}}}}"#);
        let error = refused(kube, &["patch", "mi", "default", "--type=merge", "-p", &patch]).await?;
        ensure!(error.contains(&format!("spec.{field} cannot be changed: create a second MeshInstall")), "{error}");
    }
    println!("    {} rows, {} of them on a running mesh", rows.len(), on_a_mesh.len());
    Ok(())
}

/// A row's object with the rest of the mesh that runs: where only a version is refused, other changes are followed.
fn on_the_mesh(row: &table::Row) -> Result<Value> {
    let (mut object, mesh) = (row.object("default"), crds::yaml::value(MESH)?);
    let rest = mesh.get("spec").and_then(Value::as_object).context("the mesh has no spec")?;
    let spec = object.get_mut("spec").and_then(Value::as_object_mut).context("the row has no spec")?;
    for (field, value) in rest {
        spec.entry(field).or_insert_with(|| value.clone());
    }
    Ok(object)
}

/// What is wrong with a row, if anything: what the API server says about its object.
async fn admission(client: &Client, row: &table::Row) -> Option<String> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(API_GROUP, "v1alpha1", &row.kind));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let object: DynamicObject = match serde_json::from_value(row.object("wrong")) {
        Ok(object) => object,
        Err(error) => return Some(format!("{}: {error}", row.field)),
    };
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match (api.create(&dry_run, &object).await, &row.refused) {
        (Err(error), Some(words)) if said(&error).contains(words) => None,
        (Err(error), Some(words)) => {
            Some(format!("{}: refused by\n    {}\n  instead of\n    {words}", row.field, said(&error)))
        }
        (Ok(_), Some(_)) => Some(format!("{}: taken: {}", row.field, object.data)),
        (Err(error), None) => Some(format!("{}: refused by {}", row.field, said(&error))),
        (Ok(_), None) => None,
    }
}

/// The API server's words alone.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
