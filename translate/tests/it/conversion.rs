//! From Kubernetes objects to the model.

use serde_json::{Value, json};
use translate::model::change::{Key, Kind};
use translate::model::mesh::Mesh;
use translate::model::object::{self, Object, ObjectError};
use translate::model::service::Resolution;
use translate::model::visibility::Visibility;
use translate::model::workload::Health;

use crate::cluster::Cluster;

fn convert(document: Value) -> Result<Object, ObjectError> {
    object::from_document(document, &Mesh::default())
}

#[test]
fn a_pod_is_named_after_what_made_it() {
    let rows = [
        ("ReplicaSet", "reviews-v1-5d4f", json!({"pod-template-hash": "5d4f"}), "reviews-v1"),
        ("ReplicaSet", "by-hand", json!({}), "by-hand"),
        ("StatefulSet", "db", json!({}), "db"),
        ("Job", "backup-28123456", json!({}), "backup"),
        ("Job", "once-v2", json!({}), "once-v2"),
    ];
    for (kind, owner, labels, expected) in rows {
        let reference = json!({"apiVersion": "v1", "kind": kind, "name": owner, "uid": "1", "controller": true});
        let metadata = json!({"name": "pod-0", "labels": labels, "ownerReferences": [reference]});
        let Ok(Object::Workload(pod)) = convert(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}))
        else {
            panic!("{owner} is no pod");
        };
        assert_eq!(pod.workload_name, expected, "{kind} {owner}");
    }
    let Ok(Object::Workload(pod)) = convert(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}}))
    else {
        panic!("no pod");
    };
    assert_eq!((pod.workload_name.as_str(), pod.service_account.as_str()), ("bare", "default"));
}

#[test]
fn conditions_say_what_an_endpoint_can_be_used_for() {
    let rows = [
        (json!(null), Health::Ready),
        (json!({"ready": true}), Health::Ready),
        (json!({"ready": false}), Health::Unready),
        (json!({"ready": false, "serving": true, "terminating": true}), Health::Draining),
        (json!({"ready": false, "serving": false, "terminating": true}), Health::Unready),
        (json!({"ready": true, "serving": true, "terminating": true}), Health::Ready), // publishNotReadyAddresses
    ];
    for (conditions, expected) in rows {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "a-1", "labels": {"kubernetes.io/service-name": "a"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}], "ports": [{"port": 80}],
        });
        let Ok(Object::EndpointSlice(slice)) = convert(slice) else { panic!("no slice") };
        assert_eq!(slice.addresses[0].health, expected, "{conditions}");
    }
}

#[test]
fn services_without_an_address_are_headless_or_aliases() {
    let service =
        |spec: Value| convert(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec}));
    let Ok(Object::Service(headless)) = service(json!({"clusterIP": "None"})) else { panic!("no service") };
    assert_eq!(headless.resolution, Resolution::Headless);
    let Ok(Object::Service(both)) = service(json!({"clusterIPs": ["10.0.0.1", "fd00::1"]})) else {
        panic!("no service")
    };
    assert_eq!((both.addresses.len(), both.resolution), (2, Resolution::Endpoints));
    let alias = service(json!({"type": "ExternalName", "externalName": "example.com"}));
    assert!(matches!(alias, Err(ObjectError::Meaningless { .. })));
}

#[test]
fn export_to_says_where_a_thing_counts() {
    let parse = |export_to: &[&str], default: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Visibility::parse(&owned(export_to), &owned(default), "own")
    };
    let rows = [
        (parse(&[], &["*"]), [true, true]),
        (parse(&[], &["."]), [true, false]),
        (parse(&["."], &["*"]), [true, false]),
        (parse(&["other"], &["*"]), [false, true]),
        (parse(&[".", "other"], &["*"]), [true, true]),
        (parse(&["~"], &["*"]), [false, false]),
        (parse(&[], &[]), [true, true]),
    ];
    for (index, (visibility, [own, other])) in rows.iter().enumerate() {
        assert_eq!([visibility.allows("own"), visibility.allows("other")], [*own, *other], "row {index}");
    }
}

#[test]
fn an_error_names_object_and_field() {
    let broken = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "reviews"},
        "spec": {"http": [{"timeout": "soon"}]},
    });
    let error = convert(broken).expect_err("soon is no duration").to_string();
    assert!(error.starts_with("VirtualService default/reviews: spec.http[0].timeout"), "{error}");
    let unknown = convert(json!({"apiVersion": "apps/v1", "kind": "Deployment"})).expect_err("not the mesh's");
    assert!(matches!(unknown, ObjectError::Kind { .. }));
}

#[test]
fn only_what_differs_is_a_change() {
    let mut cluster = Cluster::new(
        "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {ports: [{port: 80, name: http}], clusterIP: 10.0.0.1}
",
    );
    let same = cluster.inputs.services.values().next().cloned().expect("one service");
    assert_eq!(cluster.inputs.apply(Object::Service(same)), None);
    let key = Key::new("default", "a");
    let change = cluster.inputs.remove(Kind::Service, &key).expect("it was there");
    assert_eq!((change.to_string().as_str(), change.is_endpoints()), ("Service default/a", false));
    assert_eq!(cluster.inputs.remove(Kind::Service, &key), None);
}
