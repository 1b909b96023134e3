//! Gives Services of type LoadBalancer an address, as a cloud's controller would.
//!
//! Nothing has to announce the addresses: they lie in the node's own network, and kube-proxy rewrites connections to
//! them from the node's namespace and from pods alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::layout::{LOAD_BALANCER_ADDRESSES, NODE_ADDRESS};

/// Watches Services for as long as the box lives.
pub(crate) async fn run(client: Client) {
    let (services, writer) = reflector::store();
    let events =
        watcher(Api::<Service>::all(client.clone()), watcher::Config::default()).default_backoff().reflect(writer);
    pin_mut!(events);
    let mut pool = Pool::default();
    let mut retry = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                // Until the first list is complete, an address that is taken would look free.
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    eprintln!("load balancer: watch Services: {error}");
                    continue;
                }
                None => return,
            },
            () = tokio::time::sleep(Duration::from_secs(1)), if retry => {}
        }
        retry = false;
        for change in pool.plan(&services.state()) {
            if let Err(error) = apply(&client, &change).await {
                eprintln!("load balancer: Service {}/{}: {error}", change.namespace, change.name);
                retry = true;
            }
        }
    }
}

async fn apply(client: &Client, change: &Change) -> kube::Result<()> {
    let ingress = change.address.map(|address| vec![json!({"ip": address})]);
    let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    let api = Api::<Service>::namespaced(client.clone(), &change.namespace);
    match api.patch_status(&change.name, &PatchParams::default(), &patch).await {
        Err(error) if !matches!(&error, kube::Error::Api(status) if status.code == 404) => Err(error),
        _ => Ok(()),
    }
}

/// The status that a Service should get.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    namespace: String,
    name: String,
    address: Option<Ipv4Addr>,
}

/// Who has which address. Kept beside the watched objects, which lag behind our own patches.
#[derive(Debug, Default)]
struct Pool {
    taken: BTreeMap<String, Ipv4Addr>,
}

impl Pool {
    fn plan(&mut self, services: &[Arc<Service>]) -> Vec<Change> {
        let present: BTreeSet<String> = services
            .iter()
            .filter(|service| is_ours(service))
            .map(|service| service.uid().unwrap_or_default())
            .collect();
        self.taken.retain(|uid, _| present.contains(uid));
        for service in services.iter().filter(|service| is_ours(service)) {
            if let Some(address) = address_of(service).filter(|address| in_range(*address)) {
                self.taken.entry(service.uid().unwrap_or_default()).or_insert(address);
            }
        }

        let mut changes = Vec::new();
        for service in services {
            let wanted = if is_ours(service) { self.address_for(service) } else { None };
            if !is_ours(service) && service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_some()) {
                continue; // another controller's
            }
            if address_of(service) != wanted {
                changes.push(Change {
                    namespace: service.namespace().unwrap_or_default(),
                    name: service.name_any(),
                    address: wanted,
                });
            }
        }
        changes
    }

    fn address_for(&mut self, service: &Service) -> Option<Ipv4Addr> {
        let uid = service.uid().unwrap_or_default();
        let asked: Option<Ipv4Addr> = service
            .spec
            .as_ref()
            .and_then(|spec| spec.load_balancer_ip.as_deref())
            .and_then(|address| address.parse().ok())
            .filter(|address| in_range(*address));
        let free = |address: &Ipv4Addr| !self.taken.iter().any(|(other, taken)| taken == address && *other != uid);
        let address = asked.filter(free).or_else(|| self.taken.get(&uid).copied()).or_else(|| range().find(free))?;
        self.taken.insert(uid, address);
        Some(address)
    }
}

fn is_ours(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer")
            && spec.load_balancer_class.is_none()
            && service.metadata.deletion_timestamp.is_none()
    })
}

fn address_of(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?;
    ingress.ip.as_deref()?.parse().ok()
}

fn range() -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, _] = NODE_ADDRESS.octets();
    LOAD_BALANCER_ADDRESSES.map(move |last| Ipv4Addr::new(a, b, c, last))
}

fn in_range(address: Ipv4Addr) -> bool {
    range().any(|one| one == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, spec: &serde_json::Value, address: Option<&str>) -> Arc<Service> {
        let ingress: Vec<_> = address.iter().map(|address| json!({"ip": address})).collect();
        let value = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        Arc::new(serde_json::from_value(value).unwrap_or_default())
    }

    fn planned(pool: &mut Pool, services: &[Arc<Service>]) -> Vec<String> {
        pool.plan(services)
            .into_iter()
            .map(|change| format!("{}={}", change.name, change.address.map_or("none".into(), |a| a.to_string())))
            .collect()
    }

    #[test]
    fn addresses() {
        let lb = json!({"type": "LoadBalancer"});
        let plain = json!({"type": "ClusterIP"});
        let foreign = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/other"});
        let asking = json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.200"});
        for (case, services, expected) in [
            ("none wanted", vec![service("a", &plain, None)], vec![]),
            ("the first free", vec![service("a", &lb, None)], vec!["a=192.0.2.129"]),
            (
                "not what another has",
                vec![service("a", &lb, None), service("b", &lb, Some("192.0.2.129"))],
                vec!["a=192.0.2.130"],
            ),
            ("settled", vec![service("a", &lb, Some("192.0.2.140"))], vec![]),
            ("the one asked for", vec![service("a", &asking, None)], vec!["a=192.0.2.200"]),
            ("no longer a load balancer", vec![service("a", &plain, Some("192.0.2.129"))], vec!["a=none"]),
            ("another controller's", vec![service("a", &foreign, Some("198.51.100.1"))], vec![]),
        ] {
            assert_eq!(planned(&mut Pool::default(), &services), expected, "{case}");
        }
    }

    #[test]
    fn a_watch_that_lags_behind_does_not_move_an_address() {
        let lb = json!({"type": "LoadBalancer"});
        let mut pool = Pool::default();
        let a = service("a", &lb, None);
        assert_eq!(planned(&mut pool, std::slice::from_ref(&a)), ["a=192.0.2.129"]);
        // Our patch of `a` has not come back yet when `0`, which sorts before it, appears.
        assert_eq!(planned(&mut pool, &[service("0", &lb, None), a]), ["0=192.0.2.130", "a=192.0.2.129"]);
    }

    #[test]
    fn a_deleted_service_gives_its_address_back() {
        let lb = json!({"type": "LoadBalancer"});
        let mut pool = Pool::default();
        planned(&mut pool, &[service("a", &lb, None)]);
        assert_eq!(planned(&mut pool, &[service("b", &lb, None)]), ["b=192.0.2.129"]);
    }
}
