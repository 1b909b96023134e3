//! Watches: ConfigMaps, Secret, Nodes and Namespaces come in; settings and the authority go out.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watch_object, watcher};
use kube::{Api, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::inject::cluster::{self, Cluster};
use crate::inject::settings::Settings;
use crate::metrics::Metrics;

/// Native sidecars are reliable from this kubelet on.
const NATIVE_SIDECARS: (u32, u32) = (1, 33);

/// Follows one object; its absence is told only when it was never there, since what was once good stays in use.
pub(crate) async fn object<K>(api: Api<K>, name: String, latest: watch::Sender<Option<K>>)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let mut stream = pin!(watch_object(api, &name).default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Some(object)) => {
                latest.send_replace(Some(object));
            }
            Ok(None) => tracing::warn!(%name, "is not there; what was read before stays in use"),
            Err(error) => tracing::warn!(%name, %error, "watch failed; trying again"),
        }
    }
}

/// Nodes by name, and whether their kubelets run native sidecars.
pub(crate) type Nodes = BTreeMap<String, bool>;
/// Namespaces by name, as far as injection reads them.
pub(crate) type Namespaces = BTreeMap<String, Arc<cluster::Namespace>>;

/// A node as far as it is read here. Most of one is the list of its images: tens of kilobytes, sent again with each
/// heartbeat.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Node)]
pub(crate) struct Kubelet {
    metadata: ObjectMeta,
    status: Option<KubeletStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletStatus {
    node_info: Option<KubeletInfo>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletInfo {
    #[serde(default)]
    kubelet_version: String,
}

/// Nodes of a list that come in one answer, which is in memory as a whole.
const NODES_AT_ONCE: u32 = 50;

/// Follows the nodes' kubelets; nothing until the nodes are known.
pub(crate) async fn kubelets(api: Api<Kubelet>, known: watch::Sender<Option<Nodes>>) {
    let mut stream = pin!(watcher(api, watcher::Config::default().page_size(NODES_AT_ONCE)).default_backoff());
    let mut nodes = Followed::default();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => nodes.take(event, node),
            Err(error) => tracing::warn!(%error, "watch of nodes failed; trying again"),
        }
        nodes.tell(&known);
    }
}

/// Follows the namespaces, of each of which only labels and two annotations are kept. Where they cannot be read, nothing
/// is known of them, and pods are injected all the same.
pub(crate) async fn namespaces(api: Api<PartialObjectMeta<Namespace>>, known: watch::Sender<Option<Namespaces>>) {
    let mut stream = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut namespaces = Followed::default();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => namespaces.take(event, namespace),
            Err(error) => {
                tracing::warn!(%error, "watch of namespaces failed; trying again");
                known.send_if_modified(|known| known.is_none().then(|| *known = Some(Namespaces::new())).is_some());
            }
        }
        namespaces.tell(&known);
    }
}

fn node(object: &Kubelet) -> (Option<String>, bool) {
    let info = object.status.as_ref().and_then(|status| status.node_info.as_ref());
    (object.metadata.name.clone(), runs_native_sidecars(info.map(|info| info.kubelet_version.as_str())))
}

fn namespace(object: &PartialObjectMeta<Namespace>) -> (Option<String>, Arc<cluster::Namespace>) {
    let of = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    let meta = &object.metadata;
    (meta.name.clone(), Arc::new(cluster::Namespace::new(of(&meta.labels), of(&meta.annotations))))
}

/// What a watch has told so far; told on as a whole, once it is whole.
struct Followed<T> {
    objects: BTreeMap<String, T>,
    complete: bool,
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), complete: false }
    }
}

impl<T: Clone + PartialEq> Followed<T> {
    fn take<K>(&mut self, event: Event<K>, read: impl Fn(&K) -> (Option<String>, T)) {
        match event {
            Event::Init => {
                self.objects.clear();
                self.complete = false;
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let (name, value) = read(&object);
                self.objects.insert(name.unwrap_or_default(), value);
            }
            Event::Delete(object) => {
                self.objects.remove(&read(&object).0.unwrap_or_default());
            }
            Event::InitDone => self.complete = true,
        }
    }

    /// Heartbeats of nodes change nothing that is read here, and so wake nobody.
    fn tell(&self, known: &watch::Sender<Option<BTreeMap<String, T>>>) {
        if self.complete {
            known.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&self.objects);
                if changed {
                    *known = Some(self.objects.clone());
                }
                changed
            });
        }
    }
}

/// Whether all kubelets of a cluster run native sidecars.
pub fn native_sidecars(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        runs_native_sidecars(info.map(|info| info.kubelet_version.as_str()))
    })
}

/// Not a kubelet whose version cannot be read.
fn runs_native_sidecars(kubelet: Option<&str>) -> bool {
    kubelet.and_then(version).unwrap_or_default() >= NATIVE_SIDECARS
}

/// Major and minor version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
    let minor = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok();
    Some((parts.next()?.parse().ok()?, minor(parts.next()?)?))
}

/// Where settings come from.
pub(crate) struct Sources {
    pub(crate) mesh: watch::Receiver<Option<ConfigMap>>,
    pub(crate) injector: watch::Receiver<Option<ConfigMap>>,
    pub(crate) nodes: watch::Receiver<Option<Nodes>>,
    pub(crate) namespaces: watch::Receiver<Option<Namespaces>>,
}

/// Reads settings anew whenever a source changes. Broken ones leave the last good ones in force, and say so.
pub(crate) async fn settings(
    revision: String,
    mut sources: Sources,
    metrics: Metrics,
    current: watch::Sender<Option<Arc<Settings>>>,
) {
    let mut reread = true;
    loop {
        // Of two sources that change at once one wakes, and here both are taken to have been seen.
        let (mesh, mesh_changed) = seen(&mut sources.mesh);
        let (injector, injector_changed) = seen(&mut sources.injector);
        reread |= mesh_changed || injector_changed;
        let nodes = sources.nodes.borrow_and_update().clone();
        let namespaces = sources.namespaces.borrow_and_update().clone();
        if let (Some(mesh), Some(injector), Some(nodes), Some(namespaces)) = (mesh, injector, nodes, namespaces) {
            let last = current.borrow().clone();
            let native = nodes.values().all(|native| *native);
            let cluster = Arc::new(Cluster { namespaces, nodes });
            // Namespaces come and go; the settings stay.
            if let Some(last) = last.filter(|last| !reread && last.cluster.all_native() == native) {
                current.send_replace(Some(Arc::new(Settings::clone(&last).within(cluster))));
            } else {
                read(&revision, (mesh, injector), cluster, &metrics, &current);
                reread = false;
            }
        }
        let changed = tokio::select! {
            changed = sources.mesh.changed() => { reread = true; changed }
            changed = sources.injector.changed() => { reread = true; changed }
            changed = sources.nodes.changed() => changed,
            changed = sources.namespaces.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// The newest of a source, and whether it is newer than what was seen before.
fn seen<T: Clone>(source: &mut watch::Receiver<T>) -> (T, bool) {
    let newest = source.borrow_and_update();
    (newest.clone(), newest.has_changed())
}

fn read(
    revision: &str,
    (mesh, injector): (ConfigMap, ConfigMap),
    cluster: Arc<Cluster>,
    metrics: &Metrics,
    current: &watch::Sender<Option<Arc<Settings>>>,
) {
    let data = |map: ConfigMap| map.data.unwrap_or_default();
    match Settings::read(revision, &data(mesh), &data(injector), cluster.all_native()) {
        Ok(settings) => {
            let mut settings = settings.within(cluster);
            let broken = settings.keep_good_templates(current.borrow().as_deref());
            for problem in &broken {
                tracing::error!(revision, "{problem}");
            }
            tracing::info!(revision, native_sidecars = settings.native_sidecars, "settings in force");
            metrics.settings(broken.is_empty());
            current.send_replace(Some(Arc::new(settings)));
        }
        Err(error) => {
            tracing::error!(%error, "settings are broken; the last good ones stay in force");
            metrics.settings(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use tokio::sync::watch;

    use super::{Event, Followed, Namespaces, Nodes, Sources, node, runs_native_sidecars, settings};
    use crate::inject::cluster;
    use crate::metrics::Metrics;

    #[test]
    fn kubelet_versions() {
        for (text, native) in [
            ("v1.33.0", true),
            ("v1.34.1+k3s1", true),
            ("v1.32.9", false),
            ("1.33", true),
            ("v1.33+", true),
            ("", false),
        ] {
            assert_eq!(runs_native_sidecars(Some(text)), native, "{text}");
        }
        assert!(!runs_native_sidecars(None));
    }

    #[test]
    fn of_a_node_only_the_kubelet_is_read() {
        let info = json!({"kubeletVersion": "v1.34.1", "osImage": "x"});
        let images = json!([{"names": ["a"], "sizeBytes": 1}]);
        for (name, object, native) in [
            (
                "whole",
                json!({"metadata": {"name": "a"}, "spec": {}, "status": {"nodeInfo": info, "images": images}}),
                true,
            ),
            ("not yet registered", json!({"metadata": {"name": "a"}, "spec": {}, "status": {}}), false),
            ("without a status", json!({"metadata": {"name": "a"}}), false),
        ] {
            let read = node(&serde_json::from_value(object).expect(name));
            assert_eq!(read, (Some("a".to_owned()), native), "{name}");
        }
    }

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        let data: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    #[tokio::test]
    async fn broken_settings_leave_the_last_good_ones_and_say_so() {
        let (mesh, mesh_receiver) = watch::channel(None);
        let (_injector, injector) = watch::channel(Some(map(&[("config", ""), ("values", "{}")])));
        let (_nodes, nodes) = watch::channel(Some(Nodes::new()));
        let (_namespaces, namespaces) = watch::channel(Some(Namespaces::new()));
        let (sender, mut current) = watch::channel(None);
        let metrics = Metrics::new();
        let sources = Sources { mesh: mesh_receiver, injector, nodes, namespaces };
        let task = tokio::spawn(settings("default".to_owned(), sources, metrics.clone(), sender));

        mesh.send_replace(Some(map(&[("mesh", "trustDomain: one")])));
        current.changed().await.unwrap();
        assert_eq!(current.borrow_and_update().as_ref().unwrap().mesh.trust_domain, "one");

        mesh.send_replace(Some(map(&[("mesh", "trustDomain: [")])));
        while !metrics.text().contains("sidecar_injection_settings_valid 0") {
            tokio::task::yield_now().await;
        }
        assert_eq!(current.borrow().as_ref().unwrap().mesh.trust_domain, "one");

        mesh.send_replace(Some(map(&[("mesh", "trustDomain: two")])));
        current.changed().await.unwrap();
        assert_eq!(current.borrow_and_update().as_ref().unwrap().mesh.trust_domain, "two");
        assert!(metrics.text().contains("sidecar_injection_settings_valid 1"));
        drop(mesh);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn namespaces_and_nodes_reach_the_settings() {
        let maps = (map(&[("mesh", "")]), map(&[("config", ""), ("values", "{}")]));
        let (_mesh, mesh) = watch::channel(Some(maps.0));
        let (_injector, injector) = watch::channel(Some(maps.1));
        let (nodes, nodes_receiver) = watch::channel(Some(Nodes::from([("new".to_owned(), true)])));
        let (namespaces, namespaces_receiver) = watch::channel(None);
        let (sender, mut current) = watch::channel(None);
        let sources = Sources { mesh, injector, nodes: nodes_receiver, namespaces: namespaces_receiver };
        let task = tokio::spawn(settings("default".to_owned(), sources, Metrics::new(), sender));

        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let shop = std::sync::Arc::new(cluster::Namespace::new(labels, BTreeMap::new()));
        namespaces.send_replace(Some(Namespaces::from([("shop".to_owned(), shop)])));
        current.changed().await.unwrap();
        let now = current.borrow_and_update().clone().unwrap();
        assert!(now.native_sidecars);
        assert_eq!(now.cluster.namespace("shop").unwrap().labels["team"], "a");
        assert_eq!(now.cluster.namespace("other"), None);

        // One old kubelet among them, and new pods get the classic form; a pod with a node by that node's kubelet.
        nodes.send_replace(Some(Nodes::from([("new".to_owned(), true), ("old".to_owned(), false)])));
        current.changed().await.unwrap();
        let now = current.borrow_and_update().clone().unwrap();
        assert_eq!(
            [None, Some("new"), Some("old"), Some("unknown")].map(|node| now.native_on(node)),
            [false, true, false, false]
        );
        drop((nodes, namespaces));
        task.abort();
    }

    /// A namespace is made in the moment in which the settings change, again and again: which of the two wakes is chance.
    #[tokio::test]
    async fn a_change_of_the_settings_is_not_lost_beside_another_change() {
        let named = |domain: &str| map(&[("mesh", &format!("trustDomain: {domain}"))]);
        let (mesh, mesh_receiver) = watch::channel(Some(named("first")));
        let (_injector, injector) = watch::channel(Some(map(&[("config", ""), ("values", "{}")])));
        let (_nodes, nodes) = watch::channel(Some(Nodes::new()));
        let (namespaces, namespaces_receiver) = watch::channel(Some(Namespaces::new()));
        let (sender, mut current) = watch::channel(None);
        let sources = Sources { mesh: mesh_receiver, injector, nodes, namespaces: namespaces_receiver };
        let task = tokio::spawn(settings("default".to_owned(), sources, Metrics::new(), sender));
        current.changed().await.unwrap();
        current.mark_unchanged();
        for round in 0..32 {
            let (domain, name) = (format!("domain-{round}"), format!("namespace-{round}"));
            mesh.send_replace(Some(named(&domain)));
            let made = std::sync::Arc::new(cluster::Namespace::new(BTreeMap::new(), BTreeMap::new()));
            namespaces.send_modify(|all| drop(all.get_or_insert_default().insert(name.clone(), made)));
            current.changed().await.unwrap();
            let now = current.borrow_and_update().clone().unwrap();
            assert_eq!(
                (now.mesh.trust_domain.as_str(), now.cluster.namespace(&name).is_some()),
                (domain.as_str(), true)
            );
        }
        task.abort();
    }

    #[tokio::test]
    async fn a_broken_template_leaves_its_last_good_version() {
        let with = |text: &str| map(&[("config", &format!("templates: {{mine: '{text}'}}")), ("values", "{}")]);
        let (_mesh, mesh) = watch::channel(Some(map(&[("mesh", "")])));
        let (injector, injector_receiver) = watch::channel(Some(with("spec: {}")));
        let (_nodes, nodes) = watch::channel(Some(Nodes::new()));
        let (_namespaces, namespaces) = watch::channel(Some(Namespaces::new()));
        let (sender, mut current) = watch::channel(None);
        let metrics = Metrics::new();
        let sources = Sources { mesh, injector: injector_receiver, nodes, namespaces };
        let task = tokio::spawn(settings("default".to_owned(), sources, metrics.clone(), sender));
        current.changed().await.unwrap();
        assert!(metrics.text().contains("sidecar_injection_settings_valid 1"));

        injector.send_replace(Some(with("{{ if }}")));
        current.changed().await.unwrap();
        let now = current.borrow_and_update().clone().unwrap();
        assert!(now.templates["mine"].checked().is_ok());
        assert!(metrics.text().contains("sidecar_injection_settings_valid 0"));
        task.abort();
    }

    #[test]
    fn a_watch_tells_what_it_knows_once_that_is_whole_and_only_changes() {
        let (known, mut receiver) = watch::channel(None);
        let mut followed = Followed::default();
        let mut take = |event: Event<(&str, u8)>| {
            followed.take(event, |(name, value)| (Some((*name).to_owned()), *value));
            followed.tell(&known);
            receiver.has_changed().unwrap().then(|| receiver.borrow_and_update().clone().unwrap())
        };
        let map =
            |pairs: &[(&str, u8)]| Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect::<BTreeMap<_, _>>());
        assert_eq!(take(Event::Init), None);
        assert_eq!(take(Event::InitApply(("a", 1))), None);
        assert_eq!(take(Event::InitDone), map(&[("a", 1)]));
        assert_eq!(take(Event::Apply(("a", 1))), None, "a heartbeat");
        assert_eq!(take(Event::Apply(("b", 2))), map(&[("a", 1), ("b", 2)]));
        assert_eq!(take(Event::Delete(("a", 1))), map(&[("b", 2)]));
        assert_eq!(take(Event::Init), None, "what was known stays until the list is whole again");
        assert_eq!(take(Event::InitDone), map(&[]));
    }
}
