//! Objects of the mesh deleted and edited at random: all of them come back as they were, and nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use forestay_e2e::kube_box::KubeBox;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use names::resources::MESH_NAMESPACE;
use serde_json::{Value, json};

use super::objects::{self, FOREIGN, Field, Key};
use super::{installed, mesh_install, ready};
use crate::scenarios::mesh::SOON;

/// Deletions and edits.
const TIMES: usize = 200;
/// So many at a time.
const AT_ONCE: usize = 5;
const SEED: u64 = 0x0f0e_57a4;
/// Somebody has told the operator to keep its hands off this one.
const IGNORED: (&str, &str) = ("PodDisruptionBudget", "istio-ingressgateway");
const WEBHOOK: &str = "istio-sidecar-injector";

/// A generator of numbers that are the same on every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % end.max(1)
    }
}

/// What was done to an object.
enum Deed {
    Deleted { uid: String },
    Edited(Field),
}

/// 200 deletions and edits.
pub(crate) async fn two_hundred(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    let client = kube.client()?;
    let owner = foreign_marks(&client).await?;
    let before = objects::snapshot(&client).await?;
    ignore_one(kube).await?;
    // As an autoscaler does: the number is not the operator's.
    let scale = ["-n", MESH_NAMESPACE, "scale", "deployment", WEBHOOK, "--replicas=2"];
    kube.kubectl_ok(&scale).await?;

    let watching = Readiness::start(&client);
    let (mut dice, mut deleted, mut kinds) = (Dice(SEED), BTreeSet::new(), BTreeMap::new());
    let (mut done, mut edits, mut slowest) = (0, 0, Duration::ZERO);
    while done < TIMES {
        let present: Vec<Key> = before.keys().filter(|key| !is_ignored(key)).cloned().collect();
        let mut chosen = BTreeSet::new();
        while chosen.len() < AT_ONCE.min(TIMES - done) {
            chosen.insert(present[dice.below(present.len())].clone());
        }
        let mut pending = Vec::new();
        for key in chosen {
            // The Deployment that the autoscaler scales is edited only: anew it would have one pod.
            let delete = dice.below(2) == 0 && key.name != WEBHOOK;
            let deed = harm(&client, &key, &mut dice, delete).await.with_context(|| key.to_string())?;
            *kinds.entry(key.kind.clone()).or_insert(0_usize) += 1;
            if matches!(deed, Deed::Deleted { .. }) {
                deleted.insert(key.clone());
            } else {
                edits += 1;
            }
            pending.push((key, deed, Instant::now()));
            done += 1;
        }
        for (key, deed, begun) in pending {
            kube.eventually(&format!("{key} restored"), SOON, || restored(&client, &key, &deed)).await?;
            slowest = slowest.max(begun.elapsed());
        }
    }
    ready(kube, "default").await?;
    let unready = watching.longest_break();
    println!(
        "    {done} done to {} objects of {} kinds: {} deleted, {edits} edited; the slowest was back after {:.1} s; not Ready for at most {:.1} s at a time",
        before.len(),
        kinds.len(),
        done - edits,
        slowest.as_secs_f64(),
        unready.as_secs_f64()
    );
    let all: BTreeSet<&str> = before.keys().map(|key| key.kind.as_str()).collect();
    ensure!(kinds.len() == all.len(), "of kinds {all:?} only {kinds:?} were tried");

    let path = "jsonpath={.spec.replicas}";
    let replicas = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "deployment", WEBHOOK, "-o", path]).await?;
    ensure!(replicas == "2", "the autoscaler's number of pods was changed to {replicas}");
    ignored_stays(kube).await?;
    let after = objects::snapshot(&client).await?;
    for (key, value) in &before {
        let now = after.get(key).with_context(|| format!("{key} is gone"))?;
        // Its number of pods is not the operator's; see above.
        let number = |value: &Value| {
            let mut value = value.clone();
            if key.kind == "Deployment" && key.name == WEBHOOK {
                value["spec"]["replicas"] = Value::Null;
            }
            value
        };
        ensure!(number(now) == number(value), "{key} was\n{value:#}\nand is now\n{now:#}");
    }
    let more: Vec<String> = after.keys().filter(|key| !before.contains_key(key)).map(ToString::to_string).collect();
    ensure!(more.is_empty(), "there is more than before: {more:?}");
    for (key, object) in objects::all(&client).await? {
        let kept = object.annotations().get(FOREIGN).is_some_and(|value| *value == owner);
        ensure!(kept || deleted.contains(&key), "{key} has lost somebody else's annotation");
    }
    quiet(kube, &client).await
}

/// Marks every object with an annotation of somebody else's.
async fn foreign_marks(client: &Client) -> Result<String> {
    let value = "kept".to_owned();
    for key in objects::all(client).await?.keys() {
        let patch = json!({"metadata": {"annotations": {FOREIGN: value}}});
        let params = PatchParams { field_manager: Some("somebody-else".into()), ..PatchParams::default() };
        key.api(client)?.patch(&key.name, &params, &Patch::Merge(patch)).await?;
    }
    Ok(value)
}

fn is_ignored(key: &Key) -> bool {
    (key.kind.as_str(), key.name.as_str()) == IGNORED
}

async fn ignore_one(kube: &KubeBox) -> Result<()> {
    let (kind, name) = IGNORED;
    let patch = json!({
        "metadata": {"annotations": {names::annotations::IGNORE: "true"}},
        "spec": {"maxUnavailable": 7},
    });
    let arguments = ["-n", MESH_NAMESPACE, "patch", kind, name, "--type=merge", "-p", &patch.to_string()];
    kube.kubectl_ok(&arguments).await.map(drop)
}

/// The ignored object is as it was edited, and put back once the annotation goes.
async fn ignored_stays(kube: &KubeBox) -> Result<()> {
    let (kind, name) = IGNORED;
    let number = ["-n", MESH_NAMESPACE, "get", kind, name, "-o", "jsonpath={.spec.maxUnavailable}"];
    let there = kube.kubectl_ok(&number).await?;
    ensure!(there == "7", "an object with the ignore annotation was put back: maxUnavailable is {there}");
    let remove = format!("{}-", names::annotations::IGNORE);
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "annotate", kind, name, &remove]).await?;
    kube.eventually("it is put back without the annotation", SOON, || async {
        let there = kube.kubectl_ok(&number).await?;
        ensure!(there == "1", "maxUnavailable is {there}");
        Ok(())
    })
    .await
}

/// Deletes an object, or changes one of the fields that the operator says. What the API server itself refuses is no drift.
async fn harm(client: &Client, key: &Key, dice: &mut Dice, delete: bool) -> Result<Deed> {
    let api = key.api(client)?;
    let object = api.get(&key.name).await?;
    if delete {
        api.delete(&key.name, &DeleteParams::background()).await?;
        return Ok(Deed::Deleted { uid: object.uid().unwrap_or_default() });
    }
    let fields = objects::said(&object)?;
    for _ in 0..50 {
        let field = fields.get(dice.below(fields.len())).context("it says nothing")?.clone();
        let value = match &field.value {
            Value::String(text) => json!(format!("{text}x")),
            Value::Number(number) => json!(number.as_i64().unwrap_or_default() + 1),
            Value::Bool(truth) => json!(!truth),
            _ => continue,
        };
        let patch = json!([{"op": "replace", "path": field.pointer, "value": value}]);
        let patch: kube::core::params::Patch<()> = Patch::Json(serde_json::from_value(patch)?);
        match api.patch(&key.name, &PatchParams::default(), &patch).await {
            Ok(edited) => {
                let whole = serde_json::to_value(&edited)?;
                // Some values are written in another form.
                if whole.pointer(&field.pointer) == Some(&value) {
                    return Ok(Deed::Edited(field));
                }
            }
            Err(kube::Error::Api(refusal)) if [400, 403, 422].contains(&refusal.code) => {}
            // The operator was faster with what the edit before did.
            Err(kube::Error::Api(refusal)) if [404, 409].contains(&refusal.code) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("none of 50 edits was taken")
}

async fn restored(client: &Client, key: &Key, deed: &Deed) -> Result<()> {
    let object: DynamicObject = key.api(client)?.get(&key.name).await?;
    ensure!(object.metadata.deletion_timestamp.is_none(), "it is still on its way out");
    match deed {
        Deed::Deleted { uid } => ensure!(object.uid().as_deref() != Some(uid), "it is still the old one"),
        Deed::Edited(field) => {
            let whole = serde_json::to_value(&object)?;
            let now = whole.pointer(&field.pointer);
            ensure!(now == Some(&field.value), "{} is {now:?} instead of {}", field.pointer, field.value);
        }
    }
    Ok(())
}

/// When nothing changes nothing is written: the MeshInstall keeps its resourceVersion over a reconciliation.
async fn quiet(kube: &KubeBox, client: &Client) -> Result<()> {
    let version = |install: &Value| install["metadata"]["resourceVersion"].clone();
    // What the end of the edits brings up may still be on its way.
    let settled = kube
        .eventually("a status that stays", SOON, || async {
            let install = mesh_install(kube, "default").await?;
            let key = Key { kind: "ConfigMap".into(), namespace: MESH_NAMESPACE.into(), name: "istio".into() };
            let field = harm(client, &key, &mut Dice(SEED), false).await?;
            kube.eventually("an edit put back", SOON, || restored(client, &key, &field)).await?;
            let again = mesh_install(kube, "default").await?;
            ensure!(version(&install) == version(&again), "the status was written: {}", again["status"]);
            Ok(install)
        })
        .await?;
    ensure!(settled["status"]["state"] == "Healthy", "{}", settled["status"]);
    Ok(())
}

/// How long the MeshInstall was not Ready, by a watch.
struct Readiness {
    breaks: std::sync::Arc<std::sync::Mutex<(Option<Instant>, Duration)>>,
    watch: tokio::task::JoinHandle<()>,
}

impl Readiness {
    fn start(client: &Client) -> Self {
        let kind = kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(
            names::resources::API_GROUP,
            "v1alpha1",
            "MeshInstall",
        ));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let breaks = std::sync::Arc::<std::sync::Mutex<(Option<Instant>, Duration)>>::default();
        let noting = breaks.clone();
        let watch = tokio::spawn(async move {
            let changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            let mut changes = std::pin::pin!(changes);
            while let Some(change) = changes.next().await {
                let Ok(install) = change else { continue };
                let ready = super::condition(&install.data, "Ready")["status"] == "True";
                let mut breaks = noting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                match (ready, breaks.0) {
                    (false, None) => breaks.0 = Some(Instant::now()),
                    (true, Some(since)) => *breaks = (None, breaks.1.max(since.elapsed())),
                    _ => {}
                }
            }
        });
        Self { breaks, watch }
    }

    fn longest_break(self) -> Duration {
        self.watch.abort();
        self.breaks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

/// From a number of replicas to an autoscaler and back: at no moment there are fewer pods than before.
pub(crate) async fn scaling(kube: &KubeBox) -> Result<()> {
    let gateway = |scale: &str| {
        format!(
            "{{apiVersion: install.forestay.dev/v1alpha1, kind: MeshInstall, metadata: {{name: default}}, spec: {{profile: default, webhook: {{autoscaling: {{minReplicas: 1, maxReplicas: 3}}}}, gateways: [{{name: istio-ingressgateway, {scale}}}]}}}}"
        )
    };
    kube.apply(&gateway("replicas: 3")).await?;
    ready(kube, "default").await?;
    let client = kube.client()?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), MESH_NAMESPACE);
    let least = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noting = least.clone();
    let one = watcher::Config::default().fields("metadata.name=istio-ingressgateway");
    let watch = tokio::spawn(async move {
        let changes = watcher(api, one).default_backoff().applied_objects();
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            let Ok(deployment) = change else { continue };
            let replicas = deployment.spec.and_then(|spec| spec.replicas);
            noting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(replicas);
        }
    });
    kube.apply(&gateway("autoscaling: {minReplicas: 2, maxReplicas: 5}")).await?;
    kube.eventually("the operator lets go of the number", SOON, || async {
        let key =
            Key { kind: "Deployment".into(), namespace: MESH_NAMESPACE.into(), name: "istio-ingressgateway".into() };
        let object = key.api(&client)?.get(&key.name).await?;
        let fields = objects::said(&object)?;
        ensure!(!fields.iter().any(|field| field.pointer == "/spec/replicas"), "it still says replicas");
        Ok(())
    })
    .await?;
    ready(kube, "default").await?;
    watch.abort();
    let seen = least.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    ensure!(!seen.is_empty() && seen.iter().all(|replicas| *replicas == Some(3)), "the replicas were {seen:?}");
    kube.apply(&gateway("replicas: 1")).await?;
    ready(kube, "default").await?;
    installed(kube).await
}
