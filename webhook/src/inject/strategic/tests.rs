use serde_json::{Value, json};

use super::{MergeError, merge};

fn merged(document: &Value, patch: &Value) -> Result<Value, MergeError> {
    let mut document = document.clone();
    merge(&mut document, patch).map(|()| document)
}

fn yaml(text: &str) -> Value {
    crds::yaml::value(text).expect("YAML")
}

/// Name, document, patch, result.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("members merge", "{a: {b: 1, c: 2}}", "{a: {c: 3, d: 4}}", "{a: {b: 1, c: 3, d: 4}}"),
    ("null takes a member out", "{a: 1, b: 2}", "{a: null}", "{b: 2}"),
    (
        "containers by name, the patch's first",
        "{containers: [{name: a, image: x}, {name: b}]}",
        "{containers: [{name: new}, {name: a, args: [p]}]}",
        "{containers: [{name: new}, {name: a, image: x, args: [p]}, {name: b}]}",
    ),
    (
        "what both have keeps its place among what only the document has",
        "{containers: [{name: a}, {name: b}, {name: c}]}",
        "{containers: [{name: b}, {name: new}]}",
        "{containers: [{name: a}, {name: b}, {name: new}, {name: c}]}",
    ),
    (
        "volumes by name, a new one at the end",
        "{volumes: [{name: a, emptyDir: {}}]}",
        "{volumes: [{name: b, emptyDir: {}}]}",
        "{volumes: [{name: a, emptyDir: {}}, {name: b, emptyDir: {}}]}",
    ),
    (
        "a volume has one source",
        "{volumes: [{name: a, emptyDir: {}}]}",
        "{volumes: [{name: a, csi: {driver: d}}]}",
        "{volumes: [{name: a, csi: {driver: d}}]}",
    ),
    (
        "a variable has a value or a reference",
        "{env: [{name: A, value: x}, {name: B, value: y}]}",
        "{env: [{name: A, valueFrom: {fieldRef: {fieldPath: f}}}]}",
        "{env: [{name: A, valueFrom: {fieldRef: {fieldPath: f}}}, {name: B, value: y}]}",
    ),
    (
        "a variable that stands twice still does",
        "{env: [{name: A, value: x}]}",
        "{env: [{name: B, value: '1'}, {name: B, value: '2'}]}",
        "{env: [{name: A, value: x}, {name: B, value: '1'}, {name: B, value: '2'}]}",
    ),
    (
        "a probe has one handler",
        "{readinessProbe: {httpGet: {port: 1}, periodSeconds: 5}}",
        "{readinessProbe: {tcpSocket: {port: 2}}}",
        "{readinessProbe: {periodSeconds: 5, tcpSocket: {port: 2}}}",
    ),
    (
        "mounts by path",
        "{volumeMounts: [{mountPath: /a, name: x}]}",
        "{volumeMounts: [{mountPath: /a, name: x, readOnly: true}, {mountPath: /b, name: y}]}",
        "{volumeMounts: [{mountPath: /a, name: x, readOnly: true}, {mountPath: /b, name: y}]}",
    ),
    (
        "ports by number and protocol",
        "{ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53}]}",
        "{ports: [{containerPort: 53, protocol: TCP, name: dns}]}",
        "{ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53, protocol: TCP, name: dns}]}",
    ),
    (
        "pull secrets by name, the patch's first",
        "{imagePullSecrets: [{name: mine}]}",
        "{imagePullSecrets: [{name: ours}]}",
        "{imagePullSecrets: [{name: ours}, {name: mine}]}",
    ),
    ("arguments are replaced", "{args: [a, b]}", "{args: [c]}", "{args: [c]}"),
    (
        "tolerations are replaced, as their type says",
        "{tolerations: [{key: a}]}",
        "{tolerations: [{key: b}]}",
        "{tolerations: [{key: b}]}",
    ),
    ("finalizers are a set", "{finalizers: [a, b]}", "{finalizers: [b, c]}", "{finalizers: [a, b, c]}"),
    (
        "an item is deleted",
        "{containers: [{name: a}, {name: b}]}",
        "{containers: [{name: a, $patch: delete}]}",
        "{containers: [{name: b}]}",
    ),
    (
        "an item is replaced",
        "{containers: [{name: a, image: x, args: [p]}]}",
        "{containers: [{name: a, image: y}, {$patch: replace}]}",
        "{containers: [{name: a, image: y}]}",
    ),
    ("an object is replaced", "{a: {b: 1}}", "{a: {$patch: replace, c: 2}}", "{a: {c: 2}}"),
    ("an object is emptied", "{a: {b: 1}}", "{a: {$patch: delete}}", "{a: {}}"),
    ("items go", "{finalizers: [a, b]}", "{$deleteFromPrimitiveList/finalizers: [a]}", "{finalizers: [b]}"),
    (
        "members stay",
        "{volumes: [{name: a, emptyDir: {}}]}",
        "{volumes: [{name: a, $retainKeys: [name, hostPath], hostPath: {path: /}}]}",
        "{volumes: [{name: a, hostPath: {path: /}}]}",
    ),
    (
        "order is set",
        "{containers: [{name: a}, {name: b}]}",
        "{$setElementOrder/containers: [{name: b}, {name: a}]}",
        "{containers: [{name: b}, {name: a}]}",
    ),
    ("no directive stays behind", "{}", "{a: {$patch: merge, b: {$retainKeys: [c], c: 1}}}", "{a: {b: {c: 1}}}"),
];

#[test]
fn patches_merge_as_kubernetes_merges_them() {
    for (name, document, patch, expected) in ROWS {
        let result = merged(&yaml(document), &yaml(patch));
        assert_eq!(result, Ok(yaml(expected)), "{name}");
    }
}

#[test]
fn a_patch_that_cannot_be_applied_says_where() {
    let rows = [
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "spec.containers: an item has no \"name\", which items of this list are known by",
        ),
        (json!({"spec": {"$patch": "drop"}}), "spec: \"$patch: drop\" is not known; delete, replace and merge are"),
        (
            json!({"$retainKeys": "a"}),
            "the document: $deleteFromPrimitiveList, $setElementOrder and $retainKeys take a list",
        ),
    ];
    for (patch, expected) in rows {
        assert_eq!(merged(&json!({}), &patch).map_err(|error| error.to_string()), Err(expected.to_owned()));
    }
}
