//! The mesh's root certificate in ConfigMap `istio-ca-root-cert` of every namespace.
//!
//! Comes in: namespaces and those ConfigMaps, by watch; the root in use. Goes out: ConfigMaps that are missing or
//! differ are written. Only the leader writes. A namespace that is being deleted takes no new objects and is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use names::resources::{ROOT_CERT_CONFIG_MAP, ROOT_CERT_KEY};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::store::Current;

/// The field manager of what istiod writes.
const MANAGER: &str = "istiod";
/// The label by which Istio marks these ConfigMaps.
const CONFIG_LABEL: &str = "istio.io/config";
/// How long to wait before failed writes are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of the cluster.
#[derive(Default)]
struct Known {
    /// Namespaces that take objects.
    namespaces: BTreeSet<String>,
    /// The root in each namespace's ConfigMap.
    roots: BTreeMap<String, String>,
    /// Both lists are whole.
    listed: [bool; 2],
}

impl Known {
    fn namespace(&mut self, event: watcher::Event<PartialObjectMeta<Namespace>>) {
        match event {
            watcher::Event::Init => {
                self.namespaces.clear();
                self.listed[0] = false;
            }
            watcher::Event::InitDone => self.listed[0] = true,
            watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace) => {
                let name = namespace.name_any();
                if namespace.metadata.deletion_timestamp.is_some() {
                    self.namespaces.remove(&name);
                } else {
                    self.namespaces.insert(name);
                }
            }
            watcher::Event::Delete(namespace) => {
                self.namespaces.remove(&namespace.name_any());
            }
        }
    }

    fn config_map(&mut self, event: watcher::Event<ConfigMap>) {
        match event {
            watcher::Event::Init => {
                self.roots.clear();
                self.listed[1] = false;
            }
            watcher::Event::InitDone => self.listed[1] = true,
            watcher::Event::Apply(map) | watcher::Event::InitApply(map) => {
                let namespace = map.namespace().unwrap_or_default();
                let root = map.data.and_then(|mut data| data.remove(ROOT_CERT_KEY)).unwrap_or_default();
                self.roots.insert(namespace, root);
            }
            watcher::Event::Delete(map) => {
                self.roots.remove(&map.namespace().unwrap_or_default());
            }
        }
    }

    /// The namespace went away while the root was written. Its events may come after this, and before those of another with
    /// its name, which is to get the root too: so nothing is known of it any more.
    fn gone(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
        self.roots.remove(namespace);
    }

    /// The namespaces in which `root` is missing.
    fn missing(&self, root: &str) -> Vec<String> {
        if self.listed != [true, true] {
            return Vec::new();
        }
        let has = |namespace: &String| self.roots.get(namespace).is_some_and(|found| found == root);
        self.namespaces.iter().filter(|namespace| !has(namespace)).cloned().collect()
    }
}

/// Writes the root wherever it is missing, while `leader` says so, until `stop`.
pub(crate) async fn run(
    client: Client,
    mut authority: Current,
    mut leader: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let named = watcher::Config::default().fields(&format!("metadata.name={ROOT_CERT_CONFIG_MAP}"));
    let all = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    let mut namespaces = watcher(all, watcher::Config::default()).default_backoff().boxed();
    let mut config_maps = watcher(Api::<ConfigMap>::all(client.clone()), named).default_backoff().boxed();
    let mut known = Known::default();
    let mut retry = tokio::time::interval(RETRY);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = namespaces.next() => match event {
                Ok(event) => known.namespace(event),
                Err(error) => tracing::warn!(%error, "Namespaces cannot be watched; is the RBAC of istiod complete?"),
            },
            Some(event) = config_maps.next() => match event {
                Ok(event) => known.config_map(event),
                Err(error) => {
                    tracing::warn!(%error, "ConfigMaps {ROOT_CERT_CONFIG_MAP} cannot be watched; is the RBAC of istiod complete?");
                }
            },
            Ok(()) = authority.changed() => {}
            Ok(()) = leader.changed() => {}
            _ = retry.tick() => if !failed { continue },
        }
        if !*leader.borrow() {
            continue;
        }
        let root = authority.borrow().as_ref().map(|authority| authority.root_pem().to_owned());
        let Some(root) = root else { continue };
        failed = false;
        for namespace in known.missing(&root) {
            match write(&client, &namespace, &root).await {
                // Remembered at once: the watch's own event may take a moment, and must not cause a second write.
                Ok(Written::There) => drop(known.roots.insert(namespace, root.clone())),
                Ok(Written::NamespaceGone) => known.gone(&namespace),
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, "ConfigMap {namespace}/{ROOT_CERT_CONFIG_MAP} cannot be written");
                }
            }
        }
    }
}

/// What came of a write.
enum Written {
    There,
    NamespaceGone,
}

async fn write(client: &Client, namespace: &str, root: &str) -> kube::Result<Written> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch(ROOT_CERT_CONFIG_MAP, &parameters, &Patch::Apply(config_map(root))).await {
        Ok(_) => Ok(Written::There),
        // Between the watch and the write.
        Err(kube::Error::Api(status)) if status.code == 404 || is_terminating(&status) => Ok(Written::NamespaceGone),
        Err(error) => Err(error),
    }
}

fn is_terminating(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains("being terminated")
}

fn config_map(root: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOT_CERT_CONFIG_MAP.to_owned()),
            labels: Some(BTreeMap::from([(CONFIG_LABEL.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(ROOT_CERT_KEY.to_owned(), root.to_owned())])),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn namespace(name: &str, terminating: bool) -> PartialObjectMeta<Namespace> {
        let deletion_timestamp = terminating.then_some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        PartialObjectMeta {
            metadata: ObjectMeta { name: Some(name.to_owned()), deletion_timestamp, ..ObjectMeta::default() },
            ..PartialObjectMeta::default()
        }
    }

    fn in_namespace(namespace: &str, root: &str) -> ConfigMap {
        let mut map = config_map(root);
        map.metadata.namespace = Some(namespace.to_owned());
        map
    }

    #[test]
    fn the_root_is_missing_where_it_is_absent_or_differs() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let mut known = Known::default();
        known.namespace(Init);
        for (name, terminating) in [("default", false), ("edited", false), ("good", false), ("leaving", true)] {
            known.namespace(InitApply(namespace(name, terminating)));
        }
        known.namespace(InitDone);
        assert!(known.missing("root").is_empty(), "nothing is missing before the ConfigMaps were listed");
        known.config_map(Init);
        known.config_map(InitApply(in_namespace("edited", "something else")));
        known.config_map(InitApply(in_namespace("good", "root")));
        known.config_map(InitDone);
        assert_eq!(known.missing("root"), ["default", "edited"]);

        known.config_map(Delete(in_namespace("good", "root")));
        assert_eq!(known.missing("root"), ["default", "edited", "good"], "deleted: written again");
        known.namespace(Apply(namespace("good", true)));
        assert_eq!(known.missing("root"), ["default", "edited"], "but not into a namespace that goes away");
        known.config_map(Apply(in_namespace("edited", "root")));
        known.config_map(Apply(in_namespace("default", "root")));
        assert!(known.missing("root").is_empty());
        assert_eq!(known.missing("a new root"), ["default", "edited"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_writes_and_repairs_it_in_every_namespace() {
        use crate::api_server::ApiServer;
        use crate::ca::{Authority, Material};
        use serde_json::json;
        let api = ApiServer::new();
        let namespace = |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        api.put("namespaces", namespace("default"));
        let now = std::time::SystemTime::now();
        let material = Material::self_signed("cluster.local", now).unwrap();
        let authority = Authority::load(&material, now).unwrap();
        let (_sender, current) = watch::channel(Some(std::sync::Arc::new(authority)));
        let (leads, leader) = watch::channel(false);
        tokio::spawn(run(api.client(), current, leader, CancellationToken::new()));
        let map = |api: &ApiServer, namespace: &str| api.get("v1", "configmaps", namespace, ROOT_CERT_CONFIG_MAP);
        let good = |api: &ApiServer, namespace: &str| {
            map(api, namespace).filter(|map| map["data"][ROOT_CERT_KEY] == material.root_cert.as_str())
        };
        tokio::time::sleep(RETRY * 3).await;
        assert!(map(&api, "default").is_none(), "only the leader writes");

        leads.send_replace(true);
        api.until(|api| good(api, "default")).await;
        api.put("namespaces", namespace("later"));
        api.until(|api| good(api, "later")).await;
        api.delete("v1", "configmaps", "default", ROOT_CERT_CONFIG_MAP);
        api.until(|api| good(api, "default")).await;
        let mut edited = map(&api, "later").unwrap();
        edited["data"][ROOT_CERT_KEY] = json!("edited");
        api.put("configmaps", edited);
        api.until(|api| good(api, "later")).await;
    }

    /// The ConfigMap's end is seen before the namespace's: two watches. Then a namespace of the same name is made.
    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_is_made_anew_gets_the_root_as_the_one_before() {
        use crate::api_server::ApiServer;
        use crate::ca::{Authority, Material};
        let api = ApiServer::new();
        let namespace = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
        api.put("namespaces", namespace.clone());
        let now = std::time::SystemTime::now();
        let authority = Authority::load(&Material::self_signed("cluster.local", now).unwrap(), now).unwrap();
        let (_sender, current) = watch::channel(Some(std::sync::Arc::new(authority)));
        let (_leads, leader) = watch::channel(true);
        tokio::spawn(run(api.client(), current, leader, CancellationToken::new()));
        let map = |api: &ApiServer| api.get("v1", "configmaps", "shop", ROOT_CERT_CONFIG_MAP);
        api.until(map).await;

        api.terminate("shop", true);
        api.delete("v1", "configmaps", "shop", ROOT_CERT_CONFIG_MAP);
        tokio::time::sleep(RETRY).await;
        assert!(map(&api).is_none(), "a namespace that ends takes nothing");
        api.delete("v1", "namespaces", "", "shop");
        api.terminate("shop", false);
        api.put("namespaces", namespace);
        tokio::time::timeout(Duration::from_mins(10), api.until(map)).await.expect("the root in the new namespace");
    }
}
