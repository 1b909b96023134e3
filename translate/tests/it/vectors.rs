//! Istio's own tests as vectors ($FORESTAY_VECTORS): outbound virtual hosts, and the tables of small functions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use translate::model::host;
use translate::model::labels::{self, Labels};
use translate::model::protocol::Protocol;
use xds::node::ProxyType;

use crate::cluster::{Cluster, Resources, clusters_of, material, proxy};

/// What does not come out as Istio has it, by name, and why.
const KNOWN_FAILURES: &[(&str, &str)] = &[
    ("explicit first then wildcard with sidecar cross namespace", SIDECAR),
    ("non-service wildcard match with explicit sidecar", SIDECAR),
    ("sidecar filter", SIDECAR),
];
const SIDECAR: &str = "kind Sidecar is not translated yet";
/// Kinds that a whole variant rests on.
const UNREAD_KINDS: &[&str] = &["HTTPRoute"];

fn cases(file: &str) -> Option<Vec<Value>> {
    let path = material("FORESTAY_VECTORS", "vectors")?.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut whole: Value = serde_json::from_str(&text).expect("vectors are JSON");
    whole["cases"].as_array_mut().map(std::mem::take)
}

#[test]
fn outbound_virtual_hosts_are_istios() {
    let Some(cases) = cases("sidecar-routes.json") else { return };
    let (mut passed, mut unread, mut failed) = (0, 0, BTreeMap::new());
    for case in &cases {
        let name = case["name"].as_str().unwrap_or_default();
        for variant in case["variants"].as_array().into_iter().flatten() {
            let cluster = Cluster::new(variant["config"].as_str().unwrap_or_default());
            if let Some(kind) = cluster.ignored.iter().find(|kind| UNREAD_KINDS.contains(&kind.as_str())) {
                eprintln!("unread: {name} ({kind})");
                unread += 1;
                continue;
            }
            match outbound(&cluster, case, variant) {
                Ok(()) => passed += 1,
                Err(difference) => {
                    failed.insert(name, difference);
                }
            }
        }
    }
    eprintln!("sidecar-routes: {passed} passed, {} failed, {unread} rest on kinds not read yet", failed.len());
    let known: BTreeSet<&str> = KNOWN_FAILURES.iter().map(|(name, _)| *name).collect();
    for (name, difference) in &failed {
        assert!(known.contains(name), "{name}: {difference}");
    }
    let fixed: Vec<_> = known.iter().filter(|name| !failed.contains_key(*name)).collect();
    assert!(fixed.is_empty(), "these pass now, take them off the list: {fixed:?}");
}

fn outbound(cluster: &Cluster, case: &Value, variant: &Value) -> Result<(), String> {
    let namespace = case["proxyNamespace"].as_str().unwrap_or_default();
    let routes = case["routeConfig"].as_str().unwrap_or_default();
    let set = cluster.translate(&proxy(ProxyType::Sidecar, namespace));
    let prefix = format!("{routes}/");
    let mut by_domain: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in set.names(xds::type_url::VIRTUAL_HOST).iter().filter_map(|name| name.strip_prefix(&prefix)) {
        let host = set.virtual_host(routes, name).ok_or("listed, but not there")?;
        let mut clusters: Vec<_> = host.routes.iter().flat_map(clusters_of).collect();
        clusters.sort();
        by_domain.extend(host.domains.into_iter().map(|domain| (domain, clusters.clone())));
    }
    for (domain, expected) in variant["virtualHosts"].as_object().into_iter().flatten() {
        let expected: Option<Vec<String>> = serde_json::from_value(expected.clone()).map_err(|e| e.to_string())?;
        let found = by_domain.get(domain).filter(|clusters| !clusters.is_empty()).cloned();
        if found != expected {
            return Err(format!("{domain}: expected {expected:?}, found {found:?}"));
        }
    }
    Ok(())
}

#[test]
fn small_functions_are_istios() {
    let Some(cases) = cases("small-tables.json") else { return };
    let mut checked: BTreeMap<String, usize> = BTreeMap::new();
    for case in &cases {
        let (table, input, expected) = (case["table"].as_str().unwrap_or_default(), &case["in"], &case["expect"]);
        let text = |key: &str| input[key].as_str().unwrap_or_default();
        let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap_or_default() };
        let found: Value = match table {
            "convertProtocol" => {
                let port = u16::try_from(input["port"].as_u64().unwrap_or_default()).expect("a port");
                let protocol =
                    Protocol::of_port(port, text("portName"), text("transport"), input["appProtocol"].as_str());
                protocol.to_string().into()
            }
            "protocolParse" => Protocol::parse(text("value")).to_string().into(),
            "hostMatches" => host::matches(text("a"), text("b")).into(),
            "hostSubsetOf" => host::subset_of(text("a"), text("b")).into(),
            "hostMoreSpecific" => host::by_specificity(text("a"), text("b")).is_lt().into(),
            "namesIntersection" => {
                let (a, b) = (texts(&input["a"]), texts(&input["b"]));
                let borrow = |names: &'_ [String]| -> Vec<String> { names.to_vec() };
                let (a, b) = (borrow(&a), borrow(&b));
                let a: Vec<&str> = a.iter().map(String::as_str).collect();
                let b: Vec<&str> = b.iter().map(String::as_str).collect();
                host::intersection(&a, &b).into()
            }
            "namesSortOrder" => {
                let mut names = texts(&input["names"]);
                names.sort_by(|a, b| host::by_specificity(a, b));
                names.into()
            }
            "labelsSubset" => {
                let of = |key: &str| -> Labels { serde_json::from_value(input[key].clone()).unwrap_or_default() };
                let (left, right) = (of("left"), of("right"));
                serde_json::json!({
                    "subsetOf": labels::subset_of(&left, &right), "selects": labels::selects(&left, &right),
                })
            }
            _ => continue, // of another crate: admission, policies, delegation
        };
        assert_eq!(found, *expected, "{}", case["name"]);
        *checked.entry(table.to_owned()).or_default() += 1;
    }
    eprintln!("small-tables: {checked:?}");
    assert_eq!(checked.len(), 8, "a table is missing from the vectors");
}
