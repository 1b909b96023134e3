//! Goldens of everything that is rendered, and what holds for all of it.

use crds::install::{AddonSpec, AddonsSpec, GatewaySpec, MeshInstallSpec, Persistence, Profile};
use kube::ResourceExt;
use names::labels;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Admission, Rendered, build};
use crate::meshinstall::dereference::Dereferenced;
use crate::meshinstall::mesh::Mesh;
use crate::meshinstall::prune::superfluous;
use crate::meshinstall::trust::WebhookCa;
use crate::meshinstall::validate::{RelatedImages, validate};

const ON: Admission = Admission { injection: true, validation: true };

fn spec(value: Value) -> MeshInstallSpec {
    serde_json::from_value(value).expect("a spec")
}

fn mesh(spec: MeshInstallSpec) -> Mesh {
    let read = Dereferenced {
        name: spec.revision.clone(),
        uid: "4f1c1a54-0b7e-4d3c-9c89-5a7f6d1a0b10".into(),
        namespaces: [("edge".to_owned(), crate::meshinstall::dereference::NamespaceState::Active)].into(),
        spec,
        ..Dereferenced::default()
    };
    validate(&read, &RelatedImages::default()).expect("a valid spec")
}

fn render(value: Value) -> Vec<Rendered> {
    render_spec(spec(value))
}

fn render_spec(spec: MeshInstallSpec) -> Vec<Rendered> {
    build(&mesh(spec), &WebhookCa::fixed("CERT\n", "KEY\n"), ON).expect("objects")
}

/// One YAML document per object, without the version that the test was built as, and so without the hash.
fn yaml(objects: &[Rendered]) -> String {
    let document = |rendered: &Rendered| {
        let mut object = rendered.object.clone();
        object.metadata.annotations = None;
        crds::yaml::to_string(&object).expect("YAML")
    };
    let documents: Vec<String> = objects.iter().map(document).collect();
    documents.join("---\n").replace(names::VERSION, "VERSION")
}

/// What a reviewer wants to see of a variant: all names, and in full what differs from the default profile.
fn variant(value: Value) -> String {
    let (standard, objects) = (render(json!({})), render(value));
    let names: Vec<String> = objects.iter().map(|rendered| format!("# {}", rendered.display())).collect();
    let differing: Vec<Rendered> =
        objects.into_iter().filter(|o| !standard.iter().any(|s| s.object == o.object)).collect();
    format!("{}\n---\n{}", names.join("\n"), yaml(&differing))
}

#[test]
fn default_profile() {
    insta::assert_snapshot!(yaml(&render(json!({}))));
}

#[test]
fn demo_profile() {
    insta::assert_snapshot!(variant(json!({"profile": "demo"})));
}

#[test]
fn minimal_profile() {
    insta::assert_snapshot!(variant(json!({"profile": "minimal"})));
}

#[test]
fn named_revision_in_another_namespace() {
    insta::assert_snapshot!(variant(json!({"profile": "minimal", "revision": "canary", "namespace": "mesh"})));
}

#[test]
fn options() {
    insta::assert_snapshot!(variant(json!({
        "hub": "registry.example.org/mesh",
        "meshConfig": {
            "accessLogFile": "/dev/stdout",
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "defaultConfig": {"concurrency": 2, "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}},
            "trustDomain": "example.org",
        },
        "controlPlane": {"replicas": 2, "resources": {"requests": {"cpu": 1, "memory": "256Mi"}}},
        "webhook": {"replicas": 2, "image": "registry.example.org/other/webhook:1"},
        "proxy": {"logLevel": "debug", "resources": {"requests": {"cpu": "20m"}}},
        "gateways": [
            {"name": "istio-ingressgateway", "type": "NodePort", "replicas": 3},
            {
                "name": "edge",
                "namespace": "edge",
                "labels": {"istio": "edge", "team": "shop"},
                "ports": [
                    {"name": "http2", "port": 80, "targetPort": 80, "nodePort": 31080},
                    {"name": "tcp-mongo", "port": 27017},
                ],
            },
        ],
    })));
}

/// Istio's Helm values for injection: over the operator's own, and those for key `config` there as well.
#[test]
fn values_of_the_user() {
    let values = json!({
        "global": {"imagePullSecrets": ["pull"], "proxy": {"privileged": null, "readinessPeriodSeconds": 3}},
        "pilot": {"cni": {"enabled": true}},
        "sidecarInjectorWebhook": {
            "enableNamespacesByDefault": true,
            "neverInjectSelector": [{"matchLabels": {"job": "build"}}],
            "templates": {"mine": "spec: {}\n"},
            "defaultTemplates": ["sidecar", "mine"],
        },
    });
    let (_, injector) = super::settings(&mesh(spec(json!({"values": values})))).expect("settings");
    let data = injector.data.expect("data");
    let config = crds::yaml::value(&data["config"]).expect("YAML");
    let expected = json!({
        "policy": "enabled",
        "alwaysInjectSelector": [],
        "neverInjectSelector": [{"matchLabels": {"job": "build"}}],
        "injectedAnnotations": {},
        "defaultTemplates": ["sidecar", "mine"],
        "templates": {"mine": "spec: {}\n"},
    });
    assert_eq!(config, expected);
    let rendered: Value = serde_json::from_str(&data["values"]).expect("JSON");
    let at = |path: &str| rendered.pointer(path).cloned().unwrap_or_default();
    assert_eq!(at("/global/imagePullSecrets"), json!(["pull"]));
    assert_eq!(at("/global/proxy/privileged"), Value::Null);
    assert_eq!(at("/global/proxy/readinessPeriodSeconds"), 3);
    assert_eq!(at("/global/proxy/statusPort"), 15020, "what the user does not say stays");
    assert_eq!(at("/pilot/cni"), json!({"enabled": true, "provider": "default"}));
    let rendered = render(json!({"values": values}));
    let mutating = rendered.iter().find(|rendered| rendered.resource.kind == "MutatingWebhookConfiguration");
    let webhooks = mutating.and_then(|rendered| rendered.object.data["webhooks"].as_array().map(Vec::len));
    assert_eq!(webhooks, Some(5), "and the fifth webhook is there");
}

#[test]
fn openshift_profile() {
    insta::assert_snapshot!(variant(json!({"profile": "openshift"})));
}

#[test]
fn where_pods_run_and_what_they_carry() {
    insta::assert_snapshot!(variant(json!({
        "tag": "1.2.3-rc.1",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "controlPlane": {
            "autoscaling": {"minReplicas": 2, "maxReplicas": 5},
            "disruptionBudget": {"minAvailable": 1},
            "pod": {
                "annotations": {"example.org/team": "mesh"},
                "labels": {"team": "mesh", "app": "not-this-one"},
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "mesh", "operator": "Exists"}]},
                ]}}},
                "tolerations": [{"key": "mesh", "operator": "Exists", "effect": "NoSchedule"}],
                "priorityClassName": "system-cluster-critical",
                "env": [{"name": "RUST_LOG", "value": "debug"}, {"name": "CLUSTER_ID", "value": "east"}],
            },
        },
        "webhook": {
            "disruptionBudget": {"enabled": false},
            "pod": {"topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
            ]},
        },
        "gateways": [{
            "name": "istio-ingressgateway",
            "autoscaling": {"maxReplicas": 4, "targetMemoryUtilizationPercentage": 70},
            "service": {
                "annotations": {"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"},
                "labels": {"edge": "yes"},
                "externalTrafficPolicy": "Local",
                "loadBalancerClass": "example.org/nlb",
                "loadBalancerIP": "203.0.113.7",
                "loadBalancerSourceRanges": ["203.0.113.0/24"],
                "allocateLoadBalancerNodePorts": false,
                "externalIPs": ["198.51.100.1"],
                "ipFamilyPolicy": "PreferDualStack",
                "ipFamilies": ["IPv4", "IPv6"],
            },
        }],
    })));
}

#[test]
fn overlays_are_laid_over_what_is_rendered() {
    insta::assert_snapshot!(variant(json!({
        "controlPlane": {"overlays": [
            {"kind": "Deployment", "patch": {"spec": {"template": {"spec": {
                "containers": [{"name": "discovery", "env": [{"name": "GODEBUG", "value": "x"}]}, {"name": "extra", "image": "example.org/extra:1"}],
                "dnsPolicy": "Default",
            }}}}},
            {"kind": "PodDisruptionBudget", "patch": {"metadata": {"annotations": {"a": "b"}}}},
        ]},
        "gateways": [{"name": "istio-ingressgateway", "overlays": [
            {"kind": "Service", "patch": {"spec": {"sessionAffinity": "ClientIP"}}},
        ]}],
    })));
}

#[test]
fn an_empty_profile_is_nothing_and_parts_can_be_switched_on() {
    assert_eq!(render(json!({"profile": "empty"})), []);
    let kinds = |value: Value| -> Vec<String> {
        let deployments = render(value).into_iter().filter(|rendered| rendered.resource.kind == "Deployment");
        deployments.map(|rendered| rendered.object.name_any()).collect()
    };
    assert_eq!(kinds(json!({"profile": "empty", "controlPlane": {"enabled": true}})), ["istiod"]);
    assert_eq!(kinds(json!({"profile": "minimal", "webhook": {"enabled": false}})), ["istiod"]);
    assert_eq!(kinds(json!({"profile": "empty", "gateways": [{"name": "edge"}]})), ["edge"]);
}

#[test]
fn a_tag_is_a_webhook_configuration_of_its_own() {
    let mut mesh = mesh(spec(json!({"revision": "canary"})));
    mesh.tags = ["default".to_owned(), "prod".to_owned()].into();
    let objects = build(&mesh, &WebhookCa::fixed("C", "K"), ON).expect("objects");
    let of_tags: Vec<Rendered> =
        objects.into_iter().filter(|rendered| rendered.object.labels().contains_key(labels::TAG)).collect();
    insta::assert_snapshot!(yaml(&of_tags));
}

/// Objects without a revision are checked by whoever is the default, be it by a tag.
#[test]
fn the_default_tag_brings_the_objects_without_a_revision() {
    let names = |tags: &[&str]| -> Vec<String> {
        let mut mesh = mesh(spec(json!({"revision": "canary"})));
        mesh.tags = tags.iter().map(ToString::to_string).collect();
        let objects = build(&mesh, &WebhookCa::fixed("C", "K"), ON).expect("objects");
        let configuration = objects.iter().find(|one| one.resource.kind == "ValidatingWebhookConfiguration");
        let webhooks = configuration.expect("a configuration").object.data["webhooks"].as_array().cloned();
        webhooks.into_iter().flatten().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect()
    };
    assert_eq!(names(&["prod"]), ["rev.validation.istio.io"]);
    assert_eq!(names(&["default", "prod"]), ["rev.validation.istio.io", "validation.istio.io"]);
}

#[test]
fn admission_comes_last_and_then_first() {
    let rendered = |admission| -> Vec<String> {
        let objects = build(&mesh(spec(json!({}))), &WebhookCa::fixed("C", "K"), admission).expect("objects");
        objects.iter().map(|rendered| rendered.resource.kind.clone()).collect()
    };
    let (injection, validation) = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration");
    let before = rendered(Admission::default());
    assert!(before.iter().all(|kind| kind != injection && kind != validation));
    let after = rendered(ON);
    // A new authority has to be trusted before the Secret makes the webhook use it.
    assert_eq!(after[..2], [injection, validation]);
    assert_eq!(after[2..], before);
    // One that somebody has taken away because no webhook answers is not put back before one does.
    assert_eq!(rendered(Admission { validation: false, ..ON })[..2], [injection, before[0].as_str()]);
}

/// What the restricted profile of Pod Security asks for, and what an operator's pods should have beside.
#[test]
fn every_pod_is_restricted_and_complete() {
    for rendered in render(json!({"profile": "demo"})).iter().filter(|r| r.resource.kind == "Deployment") {
        let name = rendered.display();
        let pod = &rendered.object.data["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in pod["containers"].as_array().into_iter().flatten() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{name}");
            assert!(container["readinessProbe"].is_object() && container["resources"].is_object(), "{name}");
        }
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            assert!(volume["hostPath"].is_null(), "{name}");
        }
        let (selector, labels) = (
            &rendered.object.data["spec"]["selector"]["matchLabels"],
            &rendered.object.data["spec"]["template"]["metadata"]["labels"],
        );
        for (key, value) in selector.as_object().into_iter().flatten() {
            assert_eq!(&labels[key], value, "{name} selects its own pods by {key}");
        }
        assert_eq!(labels[labels::OWNED_BY], "default", "{name}");
    }
}

#[test]
fn the_default_revisions_service_does_not_select_a_canarys_pods() {
    let of = |objects: Vec<Rendered>, kind: &str, name: &str| {
        objects.into_iter().find(|r| r.resource.kind == kind && r.object.name_any() == name).expect("rendered")
    };
    let service = of(render(json!({})), "Service", "istiod");
    let canary = of(render(json!({"revision": "canary"})), "Deployment", "istiod-canary");
    let selector = service.object.data["spec"]["selector"].as_object().cloned().unwrap_or_default();
    let labels = &canary.object.data["spec"]["template"]["metadata"]["labels"];
    assert!(!selector.iter().all(|(key, value)| labels[key] == *value), "{selector:?} {labels}");
}

/// Each addon away, switched off, elsewhere, or deployed with or without a claim; one of the two that exclude each other.
fn any_addons() -> impl Strategy<Value = Option<Box<AddonsSpec>>> {
    let one = || {
        (0..5_u8).prop_map(|choice| match choice {
            0 => None,
            1 => Some(AddonSpec { enabled: false, ..AddonSpec::default() }),
            2 => Some(AddonSpec { external_url: Some("https://example.org".into()), ..AddonSpec::default() }),
            3 => Some(AddonSpec { persistence: Some(Persistence::default()), ..AddonSpec::default() }),
            _ => Some(AddonSpec::default()),
        })
    };
    // Kiali has neither data nor an address of its own, Zipkin no data.
    let without = |addon: Option<AddonSpec>| addon.map(|a| AddonSpec { persistence: None, ..a });
    let addons =
        (one(), one(), one(), one(), any::<bool>()).prop_map(move |(prometheus, grafana, kiali, tracing, jaeger)| {
            let kiali = without(kiali).map(|addon| AddonSpec { external_url: None, ..addon });
            let (jaeger, zipkin) = if jaeger { (tracing, None) } else { (None, without(tracing)) };
            Box::new(AddonsSpec { prometheus, grafana, kiali, jaeger, zipkin })
        });
    proptest::option::of(addons)
}

fn any_spec() -> impl Strategy<Value = MeshInstallSpec> {
    let profile = prop_oneof![
        Just(Profile::Default),
        Just(Profile::Minimal),
        Just(Profile::Demo),
        Just(Profile::Empty),
        Just(Profile::Openshift)
    ];
    let gateway = (0..4_usize, any::<bool>()).prop_map(|(index, enabled)| GatewaySpec {
        name: ["istio-ingressgateway", "istio-egressgateway", "edge", "partners"][index].to_owned(),
        enabled: Some(enabled),
        ..GatewaySpec::default()
    });
    (profile, proptest::collection::vec(gateway, 0..4), any_addons()).prop_map(|(profile, mut gateways, addons)| {
        gateways.sort_by(|a, b| a.name.cmp(&b.name));
        gateways.dedup_by(|a, b| a.name == b.name);
        MeshInstallSpec { profile, gateways, addons, ..MeshInstallSpec::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_spec_renders_the_same(spec in any_spec()) {
        prop_assert_eq!(render_spec(spec.clone()), render_spec(spec));
    }

    /// Applying b over a and pruning leaves exactly what b renders, and the data of what a had.
    #[test]
    fn pruning_leaves_exactly_what_is_rendered(a in any_spec(), b in any_spec()) {
        let (a, b) = (render_spec(a), render_spec(b));
        let mut cluster: std::collections::BTreeMap<String, _> = std::collections::BTreeMap::new();
        for rendered in a.iter().chain(&b) {
            let object = std::sync::Arc::new(rendered.object.clone());
            cluster.insert(rendered.display(), (rendered.resource.clone(), object));
        }
        let owned: Vec<_> = cluster.into_values().collect();
        let gone: Vec<String> =
            superfluous(&owned, &b).into_iter().map(|(resource, object)| super::display(resource, object)).collect();
        let mut left: Vec<String> = owned
            .iter()
            .map(|(resource, object)| super::display(resource, object))
            .filter(|name| !gone.contains(name))
            .collect();
        let data = a.iter().filter(|rendered| rendered.resource.kind == "PersistentVolumeClaim");
        let mut wanted: Vec<String> = b.iter().chain(data).map(Rendered::display).collect();
        left.sort();
        wanted.sort();
        wanted.dedup();
        prop_assert_eq!(left, wanted);
    }
}
