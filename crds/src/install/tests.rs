//! The CRD as the API server will see it.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::condition::{ConditionType, Reason};
use super::{MeshInstall, MeshInstallSpec, Profile, Quantity};

fn crd() -> Value {
    serde_json::to_value(MeshInstall::crd()).expect("a CRD is JSON")
}

fn spec_schema(path: &str) -> Value {
    crd()
        .pointer(&format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{path}"))
        .cloned()
        .unwrap_or_default()
}

#[test]
fn names_and_scope() {
    let crd = crd();
    assert_eq!(crd["metadata"]["name"], "meshinstalls.install.forestay.dev");
    assert_eq!(crd["spec"]["scope"], "Cluster");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["mi"]));
    assert_eq!(crd["spec"]["names"]["categories"], json!(["mesh"]));
    assert!(crd["spec"]["versions"][0]["subresources"]["status"].is_object());
}

#[test]
fn columns_that_a_person_sees() {
    let columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"].clone();
    let of = |wide: bool| -> Vec<String> {
        columns
            .as_array()
            .into_iter()
            .flatten()
            .filter(|c| c["priority"].as_i64().is_some_and(|p| p > 0) == wide)
            .filter_map(|c| c["name"].as_str().map(str::to_owned))
            .collect()
    };
    assert_eq!(of(false), ["Version", "Revision", "Ready", "Status", "Age"]);
    assert_eq!(of(true), ["Profile", "Namespace", "In force", "Pods", "Outdated", "Message"]);
}

#[test]
fn defaults_are_in_the_schema() {
    assert_eq!(spec_schema("version")["default"], names::VERSION);
    assert_eq!(spec_schema("namespace")["default"], "istio-system");
    assert_eq!(spec_schema("revision")["default"], "default");
    assert_eq!(spec_schema("profile")["default"], "default");
    assert_eq!(
        spec_schema("profile")["enum"],
        json!(["default", "minimal", "demo", "empty", "openshift", "preview", "remote"])
    );
    let empty: MeshInstallSpec = serde_json::from_value(json!({})).expect("an empty spec is whole");
    assert_eq!(empty, MeshInstallSpec::default());
    assert_eq!(empty.profile, Profile::Default);
}

#[test]
fn what_cannot_be_changed_says_so() {
    for field in ["namespace", "revision"] {
        let rules = spec_schema(field)["x-kubernetes-validations"].clone();
        assert_eq!(rules[0]["rule"], "self == oldSelf", "{field}");
        assert!(rules[0]["message"].as_str().is_some_and(|m| m.contains("second MeshInstall")), "{field}");
    }
}

#[test]
fn what_is_istios_is_kept_as_written() {
    for field in ["meshConfig", "values"] {
        assert_eq!(spec_schema(field)["x-kubernetes-preserve-unknown-fields"], true, "{field}");
    }
}

#[test]
fn lists_are_maps_by_their_key() {
    assert_eq!(spec_schema("gateways")["x-kubernetes-list-type"], "map");
    assert_eq!(spec_schema("gateways")["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(spec_schema("gateways/items/properties/ports")["x-kubernetes-list-map-keys"], json!(["name"]));
}

#[test]
fn conditions_have_the_rules_of_kep_1623() {
    let conditions = crd()
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions")
        .cloned()
        .unwrap_or_default();
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    let item = &conditions["items"];
    assert_eq!(item["required"], json!(["lastTransitionTime", "message", "reason", "status", "type"]));
    assert_eq!(item["properties"]["message"]["maxLength"], 32768);
    assert_eq!(item["properties"]["reason"]["minLength"], 1);
}

#[test]
fn quantities_are_strings_or_numbers() {
    let read = |v: Value| serde_json::from_value::<Quantity>(v).map(|q| q.0);
    assert_eq!(read(json!("100m")).ok(), Some("100m".into()));
    assert_eq!(read(json!(2)).ok(), Some("2".into()));
    assert!(read(json!(true)).is_err());
}

#[test]
fn the_crd_is_small_enough_for_client_side_apply() {
    assert!(serde_json::to_vec(&crd()).expect("JSON").len() < 250_000);
}

#[test]
fn reasons_are_complete_and_fit_the_schema() {
    let mut seen = std::collections::HashSet::new();
    for reason in Reason::ALL {
        assert!(seen.insert(reason.as_str()), "{} twice", reason.as_str());
        assert!(reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(!reason.on().is_empty() && reason.meaning().ends_with('.'), "{}", reason.as_str());
    }
    for condition in ConditionType::ALL {
        assert!(Reason::ALL.iter().any(|r| r.on().contains(&condition)), "{}", condition.as_str());
    }
}
