//! Watches: ConfigMaps, Secret and Nodes come in; settings and the authority go out.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watch_object, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

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

/// Whether all kubelets run native sidecars; nothing until the nodes are known.
pub(crate) async fn kubelets(api: Api<Node>, native: watch::Sender<Option<bool>>) {
    let mut stream = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut versions = BTreeMap::new();
    let mut complete = false;
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => {
                versions.clear();
                complete = false;
            }
            Ok(Event::InitApply(node) | Event::Apply(node)) => {
                versions.insert(node.metadata.name.clone().unwrap_or_default(), kubelet(&node));
            }
            Ok(Event::Delete(node)) => {
                versions.remove(&node.metadata.name.unwrap_or_default());
            }
            Ok(Event::InitDone) => complete = true,
            Err(error) => tracing::warn!(%error, "watch of nodes failed; trying again"),
        }
        if complete {
            let all = versions.values().all(|version| *version >= NATIVE_SIDECARS);
            native.send_if_modified(|known| known.replace(all) != Some(all));
        }
    }
}

/// Whether all kubelets of a cluster run native sidecars.
pub fn native_sidecars(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| kubelet(node) >= NATIVE_SIDECARS)
}

/// Major and minor version; zero, and so too old, where it cannot be read.
fn kubelet(node: &Node) -> (u32, u32) {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.and_then(|info| version(&info.kubelet_version)).unwrap_or_default()
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
    let minor = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok();
    Some((parts.next()?.parse().ok()?, minor(parts.next()?)?))
}

/// Where settings come from.
pub(crate) struct Sources {
    pub(crate) mesh: watch::Receiver<Option<ConfigMap>>,
    pub(crate) injector: watch::Receiver<Option<ConfigMap>>,
    pub(crate) native: watch::Receiver<Option<bool>>,
}

/// Reads settings anew whenever a source changes. Broken ones leave the last good ones in force, and say so.
pub(crate) async fn settings(
    revision: String,
    mut sources: Sources,
    metrics: Metrics,
    current: watch::Sender<Option<Arc<Settings>>>,
) {
    loop {
        let mesh = sources.mesh.borrow_and_update().clone();
        let injector = sources.injector.borrow_and_update().clone();
        let native = *sources.native.borrow_and_update();
        if let (Some(mesh), Some(injector), Some(native)) = (mesh, injector, native) {
            let data = |map: ConfigMap| map.data.unwrap_or_default();
            match Settings::read(&revision, &data(mesh), &data(injector), native) {
                Ok(settings) => {
                    tracing::info!(revision, native_sidecars = native, "settings in force");
                    metrics.settings(true);
                    current.send_replace(Some(Arc::new(settings)));
                }
                Err(error) => {
                    tracing::error!(%error, "settings are broken; the last good ones stay in force");
                    metrics.settings(false);
                }
            }
        }
        let changed = tokio::select! {
            changed = sources.mesh.changed() => changed,
            changed = sources.injector.changed() => changed,
            changed = sources.native.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::sync::watch;

    use super::{NATIVE_SIDECARS, Sources, settings, version};
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
            assert_eq!(version(text).unwrap_or_default() >= NATIVE_SIDECARS, native, "{text}");
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
        let (_native, native) = watch::channel(Some(true));
        let (sender, mut current) = watch::channel(None);
        let metrics = Metrics::new();
        let sources = Sources { mesh: mesh_receiver, injector, native };
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
}
