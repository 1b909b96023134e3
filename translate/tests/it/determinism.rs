//! Translation depends on nothing but its input: not on the order in which objects came, not on what the cache has seen.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use translate::{Cache, Proxy, Resource, ResourceSet, Snapshot, translate};
use xds::node::ProxyType;
use xds::type_url;

use crate::cluster::{Cluster, INGRESS_SERVICE, documents, ingress_gateway, proxy};

const ROUTING: &str = include_str!("../golden/routing/mesh.yaml");
const PORTS: &str = include_str!("../golden/ports/mesh.yaml");
const GATEWAY: &str = include_str!("../golden/gateway/mesh.yaml");

/// Everything in the golden meshes that is not changed by the test's own controllers.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(ROUTING);
    for text in [PORTS, GATEWAY, INGRESS_SERVICE] {
        cluster.add(documents(text));
    }
    cluster
}

fn proxies(cluster: &Cluster) -> Vec<Proxy> {
    let productpage = cluster.sidecar_of("productpage");
    let envoy = Proxy { virtual_hosts: false, ..productpage.clone() };
    vec![productpage, envoy, ingress_gateway(), proxy(ProxyType::Sidecar, "other")]
}

/// Names, versions and bytes of everything.
fn fingerprint(set: &ResourceSet) -> Vec<(String, String, Vec<u8>)> {
    let of = |url: &'static str| {
        set.of(url).map(move |(name, it)| (format!("{url} {name}"), it.version.to_string(), it.any.value.clone()))
    };
    type_url::PUSH_ORDER.into_iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_events_makes_no_difference(order in Just(events()).prop_shuffle()) {
        let expected = cluster();
        let mut shuffled = Cluster::default();
        for event in order {
            shuffled.inputs.apply(event.0);
        }
        for proxy in proxies(&expected) {
            let (set, expected) = (shuffled.translate(&proxy), expected.translate(&proxy));
            prop_assert_eq!(fingerprint(&set), fingerprint(&expected));
            prop_assert!(set.problems().eq(expected.problems()));
        }
    }
}

#[derive(Clone, Debug)]
struct Event(translate::model::object::Object);

/// Every object of the cluster, as the event that brings it.
fn events() -> Vec<Event> {
    use translate::model::object::Object;
    let inputs = cluster().inputs;
    let mut events = Vec::new();
    events.extend(inputs.services.into_values().map(Object::Service));
    events.extend(inputs.slices.into_values().map(Object::EndpointSlice));
    events.extend(inputs.workloads.into_values().map(Object::Workload));
    events.extend(inputs.virtual_services.into_values().map(Object::VirtualService));
    events.extend(inputs.destination_rules.into_values().map(Object::DestinationRule));
    events.extend(inputs.gateways.into_values().map(Object::Gateway));
    events.extend(inputs.service_entries.into_values().map(Object::ServiceEntry));
    events.extend(inputs.peer_authentications.into_values().map(Object::PeerAuthentication));
    events.into_iter().map(Event).collect()
}

#[test]
fn a_cache_changes_nothing_and_shares_what_is_equal() {
    let mut cluster = cluster();
    let mut cache = Cache::new();
    let proxies = proxies(&cluster);
    let first = Snapshot::new(&cluster.inputs);
    let before: Vec<_> = proxies.iter().map(|proxy| translate(&first, proxy, &mut cache)).collect();
    for (proxy, set) in proxies.iter().zip(&before) {
        assert_eq!(fingerprint(set), fingerprint(&cluster.translate(proxy)));
    }

    // Another pod of the same namespace, whose labels no rule asks for: the very same part.
    let twin = Proxy { name: "twin".into(), ips: vec!["10.1.7.7".into()], ..proxies[0].clone() };
    let twin = translate(&first, &twin, &mut cache);
    assert!(Arc::ptr_eq(&twin.parts[0], &before[0].parts[0]));

    // One changed rule: everything that did not change is the same allocation as before.
    let mut documents: Vec<Value> = documents(ROUTING);
    documents.retain(|document| document["kind"] == "VirtualService");
    let changed = documents.first_mut().expect("a VirtualService");
    changed["spec"]["http"][0]["timeout"] = "9s".into();
    cluster.add(vec![changed.clone()]);
    let second = Snapshot::new(&cluster.inputs);
    let after = translate(&second, &proxies[0], &mut cache);
    let is_as_before =
        |url: &str, name: &str, it: &Arc<Resource>| before[0].get(url, name).is_some_and(|old| Arc::ptr_eq(old, it));
    let mut differing: Vec<String> = Vec::new();
    for url in type_url::PUSH_ORDER {
        let changed = after.of(url).filter(|(name, it)| !is_as_before(url, name, it));
        differing.extend(changed.map(|(name, _)| name.to_string()));
    }
    assert_eq!(differing, ["9080/reviews.default.svc.cluster.local:9080"]);
}
