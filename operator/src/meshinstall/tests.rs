//! What the steps decide, table by table.

use std::sync::Arc;

use crds::install::condition::{ConditionType, Reason};
use crds::install::{MeshInstallSpec, MeshInstallStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject};
use names::annotations;
use serde_json::{Value, json};

use super::apply::{Step, decide};
use super::build::Rendered;
use super::dereference::{Dereferenced, NamespaceState, Other};
use super::finalize::{Next, grace, next};
use super::mesh::Component;
use super::prune::Owned;
use super::status::{Observed, Verdict, deleting, find, first_sight, status};
use super::validate::{RelatedImages, validate};
use crate::usage::Usage;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn spec(value: Value) -> MeshInstallSpec {
    serde_json::from_value(value).expect("a spec")
}

fn read(value: Value) -> Dereferenced {
    Dereferenced { name: "default".into(), uid: "uid".into(), spec: spec(value), ..Dereferenced::default() }
}

#[test]
fn what_cannot_work_names_its_field() {
    let taken = |namespace: &str, older| Other {
        name: "first".into(),
        namespace: namespace.into(),
        revision: "default".into(),
        older,
    };
    let rows: Vec<(&str, Dereferenced, Reason, &str)> = vec![
        (
            "a version that we do not have",
            read(json!({"version": "9.9.9"})),
            Reason::UnknownVersion,
            "spec.version: this operator does not have version \"9.9.9\"; set ",
        ),
        (
            "two installs of one revision in a namespace",
            Dereferenced { others: vec![taken("istio-system", true)], ..read(json!({})) },
            Reason::RevisionTaken,
            "spec.revision: MeshInstall first already has revision \"default\" (in namespace istio-system)",
        ),
        (
            "two installs of one revision in two namespaces",
            Dereferenced { others: vec![taken("mesh", true)], ..read(json!({})) },
            Reason::RevisionTaken,
            "spec.revision: MeshInstall first already has revision \"default\" (in namespace mesh)",
        ),
        (
            "an Istio of someone else's",
            Dereferenced { foreign_control_planes: vec!["istiod".into()], ..read(json!({})) },
            Reason::ForeignObject,
            "spec.namespace: Deployment istio-system/istiod is a control plane that this operator did not make",
        ),
        (
            "a namespace on its way out",
            Dereferenced {
                namespaces: [("istio-system".to_owned(), NamespaceState::Terminating)].into(),
                ..read(json!({}))
            },
            Reason::NamespaceUnavailable,
            "spec.namespace: namespace istio-system is being deleted",
        ),
        (
            "a gateway's namespace that does not exist",
            read(json!({"gateways": [{"name": "a"}, {"name": "b", "namespace": "edge"}]})),
            Reason::NamespaceUnavailable,
            "spec.gateways[1].namespace: namespace \"edge\" does not exist; create it, or choose another",
        ),
        (
            "two ports on one number",
            read(json!({"gateways": [{"name": "a", "ports": [{"name": "x", "port": 80}, {"name": "y", "port": 80}]}]})),
            Reason::InvalidSpec,
            "spec.gateways[0].ports: \"x\" and \"y\" are both on port 80; give one of them another",
        ),
        (
            "a port of the proxy's own",
            read(json!({"gateways": [{"name": "a", "ports": [{"name": "x", "port": 15000}]}]})),
            Reason::InvalidSpec,
            "spec.gateways[0].ports: \"x\" ends at port 15000 of the pod, which the proxy itself listens on",
        ),
        (
            "a label of ours",
            read(json!({"gateways": [{"name": "a", "labels": {"istio.io/rev": "x"}}]})),
            Reason::InvalidSpec,
            "spec.gateways[0].labels: label \"istio.io/rev\" is the operator's own",
        ),
        (
            "a field of MeshConfig of the wrong type",
            read(json!({"meshConfig": {"enablePrometheusMerge": "maybe"}})),
            Reason::InvalidSpec,
            "spec.meshConfig.enablePrometheusMerge: ",
        ),
        (
            "ports that redirection does not follow",
            read(json!({"meshConfig": {"proxyListenPort": 15999}})),
            Reason::InvalidSpec,
            "spec.meshConfig.proxyListenPort: 15999 is not supported; pods' traffic is redirected to 15001",
        ),
        (
            "a trust domain that no identity can have",
            read(json!({"meshConfig": {"trustDomain": "Example.org/x"}})),
            Reason::InvalidSpec,
            "spec.meshConfig.trustDomain: \"Example.org/x\" cannot be part of a SPIFFE identity",
        ),
        (
            "proxy metadata that is no string",
            read(json!({"meshConfig": {"defaultConfig": {"proxyMetadata": {"DNS": true}}}})),
            Reason::InvalidSpec,
            "spec.meshConfig.defaultConfig.proxyMetadata",
        ),
        (
            "a provider without a name",
            read(json!({"meshConfig": {"extensionProviders": [{"zipkin": {"service": "z", "port": 9411}}]}})),
            Reason::InvalidSpec,
            "spec.meshConfig.extensionProviders[0]",
        ),
        (
            "two providers of one name",
            read(json!({"meshConfig": {"extensionProviders": [
                {"name": "z", "zipkin": {"service": "z", "port": 9411}},
                {"name": "z", "zipkin": {"service": "y", "port": 9411}},
            ]}})),
            Reason::InvalidSpec,
            "spec.meshConfig.extensionProviders[1].name: extensionProviders[0] is called \"z\" too",
        ),
        (
            "a field that MeshConfig does not have",
            read(json!({"meshConfig": {"accesslogFile": "/dev/stdout"}})),
            Reason::InvalidSpec,
            "spec.meshConfig.accesslogFile: Istio's configuration has no such field; is accessLogFile meant?",
        ),
        (
            "a field that ProxyConfig does not have",
            read(json!({"meshConfig": {"defaultConfig": {"zzz": 1}}})),
            Reason::InvalidSpec,
            "spec.meshConfig.defaultConfig.zzz: Istio's configuration has no such field",
        ),
        (
            "an affinity with a field that Kubernetes does not have",
            read(json!({"controlPlane": {"pod": {"affinity": {"podAffinity": {"requiredDuringScheduling": []}}}}})),
            Reason::InvalidSpec,
            "spec.controlPlane.pod.affinity.podAffinity.requiredDuringScheduling: Kubernetes has no such field",
        ),
        (
            "an affinity of the wrong type",
            read(json!({"webhook": {"pod": {"affinity": {"nodeAffinity": "zone"}}}})),
            Reason::InvalidSpec,
            "spec.webhook.pod.affinity.nodeAffinity: invalid type",
        ),
        (
            "a spread without a key",
            read(json!({"gateways": [{"name": "a", "pod": {"topologySpreadConstraints": [{"maxSkew": 1}]}}]})),
            Reason::InvalidSpec,
            "spec.gateways[0].pod.topologySpreadConstraints[0]: needs topologyKey",
        ),
        (
            "a label of ours on pods",
            read(json!({"controlPlane": {"pod": {"labels": {"app.kubernetes.io/name": "x"}}}})),
            Reason::InvalidSpec,
            "spec.controlPlane.pod.labels: label \"app.kubernetes.io/name\" is the operator's own",
        ),
        (
            "a budget that no drain can keep",
            read(json!({"controlPlane": {"disruptionBudget": {"minAvailable": 1}}})),
            Reason::InvalidSpec,
            "spec.controlPlane.disruptionBudget.minAvailable: no node could be drained",
        ),
        (
            "a variable twice",
            read(json!({"webhook": {"pod": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}})),
            Reason::InvalidSpec,
            "spec.webhook.pod.env: A stands there twice",
        ),
        (
            "a gateway with the name of the control plane",
            read(json!({"gateways": [{"name": "istiod"}]})),
            Reason::InvalidSpec,
            "spec.gateways[0].name: \"istiod\" is the name of a part of the mesh in this namespace",
        ),
        (
            "an overlay that changes a selector",
            read(
                json!({"webhook": {"overlays": [{"kind": "Deployment", "patch": {"spec": {"selector": {"matchLabels": {"a": "b"}}}}}]}}),
            ),
            Reason::InvalidSpec,
            "spec.webhook.overlays[0].patch.spec.selector: is the operator's own",
        ),
        (
            "an overlay with a field that Kubernetes does not have",
            read(json!({"controlPlane": {"overlays": [
                {"kind": "Deployment", "patch": {"spec": {"template": {"spec": {"containers": [{"name": "discovery", "arguments": []}]}}}}},
            ]}})),
            Reason::InvalidSpec,
            "spec.controlPlane.overlays[0].patch.spec.template.spec.containers[0].arguments: Kubernetes has no such field",
        ),
        (
            "an overlay whose item does not say which it is",
            read(json!({"gateways": [{"name": "a", "overlays": [
                {"kind": "Deployment", "patch": {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}},
            ]}]})),
            Reason::InvalidSpec,
            "spec.gateways[0].overlays[0].patch: ",
        ),
        (
            "an overlay with a label of ours",
            read(json!({"webhook": {"overlays": [
                {"kind": "Deployment", "patch": {"metadata": {"labels": {"install.forestay.dev/owned-by": "me"}}}},
            ]}})),
            Reason::InvalidSpec,
            "spec.webhook.overlays[0].patch.metadata.labels: label \"install.forestay.dev/owned-by\" is the operator's own",
        ),
        (
            "a block of addresses that is none",
            read(
                json!({"gateways": [{"name": "a", "service": {"loadBalancerSourceRanges": ["10.0.0.1/8", "office"]}}]}),
            ),
            Reason::InvalidSpec,
            "spec.gateways[0].service.loadBalancerSourceRanges[1]: \"office\" is not a block of addresses",
        ),
        (
            "a Helm value of the wrong type",
            read(json!({"values": {"global": {"proxy": {"privileged": "maybe"}}}})),
            Reason::InvalidSpec,
            "spec.values: ConfigMap istio-sidecar-injector, key values: global.proxy.privileged: ",
        ),
        (
            "a Helm value that spec says elsewhere",
            read(json!({"values": {"global": {"istioNamespace": "other"}}})),
            Reason::InvalidSpec,
            "spec.values.global.istioNamespace: \"other\" is not \"istio-system\"",
        ),
        (
            "a template that does not parse",
            read(json!({"values": {"sidecarInjectorWebhook": {"templates": {"mine": "a\n{{ if .x }}"}}}})),
            Reason::InvalidSpec,
            "spec.values.sidecarInjectorWebhook.templates: template \"mine\" is broken, pods that ask for it are refused: line 2",
        ),
    ];
    for (name, read, reason, message) in rows {
        let invalid = validate(&read, &RelatedImages::default()).expect_err(name);
        assert_eq!(invalid.reason, reason, "{name}");
        assert!(invalid.to_string().starts_with(message), "{name}: {invalid}");
    }
}

#[test]
fn the_older_of_two_keeps_the_revision() {
    let other = Other { name: "b".into(), namespace: "istio-system".into(), revision: "default".into(), older: false };
    assert!(validate(&Dereferenced { others: vec![other], ..read(json!({})) }, &RelatedImages::default()).is_ok());
}

#[test]
fn an_image_is_the_specs_then_the_environments_then_the_default() {
    let related = RelatedImages {
        forestay: Some("mirror/forestay@sha256:1".into()),
        proxy: Some("mirror/proxyv2@sha256:2".into()),
    };
    let tag = names::VERSION;
    for (name, spec, related, control_plane, proxy, value) in [
        (
            "nothing said",
            json!({}),
            RelatedImages::default(),
            format!("docker.io/forestay/forestay:{tag}"),
            format!("docker.io/forestay/proxyv2:{tag}"),
            "proxyv2",
        ),
        (
            "environment",
            json!({}),
            related.clone(),
            "mirror/forestay@sha256:1".into(),
            "mirror/proxyv2@sha256:2".into(),
            "mirror/proxyv2@sha256:2",
        ),
        (
            "hub beats environment",
            json!({"hub": "example.org/mesh"}),
            related.clone(),
            format!("example.org/mesh/forestay:{tag}"),
            format!("example.org/mesh/proxyv2:{tag}"),
            "proxyv2",
        ),
        (
            "image beats hub",
            json!({"hub": "example.org/mesh", "controlPlane": {"image": "a/b:1"}, "proxy": {"image": "c/d:2"}}),
            related,
            "a/b:1".into(),
            "c/d:2".into(),
            "c/d:2",
        ),
    ] {
        let mesh = validate(&read(spec), &related).expect(name);
        let image = mesh.control_plane.map(|workload| workload.image).unwrap_or_default();
        assert_eq!((image, mesh.proxy.image), (control_plane, proxy), "{name}");
        assert_eq!(mesh.proxy.image_value, value, "{name}");
    }
}

fn rendered() -> Rendered {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system", "labels": {"a": "b"}},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "istio-proxy", "image": "x"}]}},
        },
    }))
    .expect("a Deployment");
    Rendered::new(Component::Gateway, &deployment).expect("rendered").after_control_plane()
}

#[test]
fn what_is_to_be_done_about_an_object() {
    let rendered = rendered();
    let same = rendered.object.clone();
    let with = |edit: &dyn Fn(&mut DynamicObject)| {
        let mut object = same.clone();
        edit(&mut object);
        Some(object)
    };
    let rows = [
        ("absent, control plane not there", None, false, Step::Wait),
        ("absent, control plane there", None, true, Step::Apply),
        ("as it should be", Some(same.clone()), true, Step::Nothing),
        (
            "defaults and fields of others",
            with(&|o| {
                o.data["spec"]["replicas"] = json!(3);
                o.data["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/log");
                o.metadata.labels.get_or_insert_default().insert("team".into(), "shop".into());
            }),
            true,
            Step::Nothing,
        ),
        (
            "edited, control plane away",
            with(&|o| o.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("y")),
            false,
            Step::Apply,
        ),
        ("label gone", with(&|o| o.metadata.labels = None), false, Step::Apply),
        (
            "of an older spec, control plane away",
            with(&|o| {
                o.metadata.annotations.get_or_insert_default().insert(annotations::RENDERED.into(), "old".into());
            }),
            false,
            Step::Wait,
        ),
        (
            "hands off",
            with(&|o| {
                o.data["spec"] = json!({});
                o.metadata.annotations.get_or_insert_default().insert(annotations::IGNORE.into(), "true".into());
            }),
            true,
            Step::Ignore,
        ),
    ];
    for (name, live, control_plane, step) in rows {
        assert_eq!(decide(&rendered, live.as_ref(), control_plane), step, "{name}");
    }
}

/// A Deployment of a component with this status.
fn deployment(name: &str, status: &Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "istio-system", "generation": 2},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {"containers": [{"name": "c", "image": "example.org/forestay:1"}]}},
        },
        "status": status,
    }))
    .expect("a Deployment")
}

fn available(name: &str) -> Deployment {
    deployment(name, &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}))
}

fn starting(name: &str) -> Deployment {
    deployment(name, &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "unavailableReplicas": 1}))
}

fn pod(app: &str, status: &Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": format!("{app}-1"), "namespace": "istio-system", "labels": {"app": app}},
        "status": status,
    });
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"containerStatuses": [{
        "name": "c", "image": "example.org/forestay:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]})
}

fn observed(control_plane: Deployment) -> Observed {
    Observed {
        deployments: vec![
            (Component::ControlPlane, control_plane),
            (Component::Webhook, available("istio-sidecar-injector")),
            (Component::Gateway, available("istio-ingressgateway")),
        ],
        pods: Vec::new(),
        admission: true,
        waiting: Vec::new(),
        wanted: Some(vec![Component::ControlPlane, Component::Webhook, Component::Gateway]),
        without_effect: Some(Vec::new()),
        usage: Usage::default(),
    }
}

fn conditions(status: &MeshInstallStatus) -> Vec<(String, String, String)> {
    status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect()
}

fn says(status: &MeshInstallStatus, of: ConditionType) -> (String, String, String) {
    let condition = find(status, of).expect("every condition is there");
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

#[test]
fn at_first_sight_nothing_is_claimed() {
    let status = first_sight(Some(1), NOW);
    assert_eq!(status.state.as_deref(), Some("Reconciling"));
    assert!(conditions(&status).iter().all(|(_, truth, reason)| truth == "Unknown" && reason == "Reconciling"));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
    assert_eq!(status.conditions.len(), ConditionType::ALWAYS.len());
}

#[test]
fn all_well() {
    let status = status(&observed(available("istiod")), Verdict::applied(30), Some(3), None, NOW);
    let not_true: Vec<_> = conditions(&status).into_iter().filter(|(_, truth, _)| truth != "True").collect();
    assert_eq!(not_true, [("InUse".to_owned(), "False".to_owned(), "NotReferencedByAnything".to_owned())]);
    assert_eq!(status.state.as_deref(), Some("Healthy"));
    let components: Vec<String> =
        status.components.iter().map(|c| format!("{} {} {}", c.component, c.name, c.ready)).collect();
    assert_eq!(
        components,
        ["control-plane istiod 1/1", "gateway istio-ingressgateway 1/1", "webhook istio-sidecar-injector 1/1"]
    );
}

#[test]
fn a_condition_carries_the_pods_own_reason() {
    let refused = json!({"observedGeneration": 2, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"},
    ]});
    let late = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out"},
    ]});
    let unschedulable = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient cpu."},
    ]});
    let crashed = json!({"containerStatuses": [{
        "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }]});
    let ended = json!({"containerStatuses": [{
        "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "message": "no such file"}},
    }]});
    let pulling = waiting("ImagePullBackOff", "Back-off pulling image");
    let unmounted = waiting("CreateContainerConfigError", "configmap \"x\" not found");
    let rows = vec![
        (
            "on its way",
            starting("istiod"),
            vec![],
            "Progressing",
            "Deployment istio-system/istiod: 0/1 pods are available.",
        ),
        (
            "the newest template is not seen yet",
            deployment(
                "istiod",
                &json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
            ),
            vec![],
            "Progressing",
            "1/1 pods",
        ),
        (
            "image",
            starting("istiod"),
            vec![pod("istiod", &pulling)],
            "ImagePullFailed",
            "pod istiod-1, container c: ImagePullBackOff of example.org/forestay:1: Back-off pulling image",
        ),
        (
            "crash loop",
            starting("istiod"),
            vec![pod("istiod", &crashed)],
            "CrashLoop",
            "CrashLoopBackOff after 4 restarts, last exit code 137 (OOMKilled)",
        ),
        ("first crash", starting("istiod"), vec![pod("istiod", &ended)], "CrashLoop", "exit code 1: no such file"),
        ("no room", starting("istiod"), vec![pod("istiod", &unschedulable)], "Unschedulable", "Insufficient cpu"),
        ("no ConfigMap", starting("istiod"), vec![pod("istiod", &unmounted)], "ContainerConfigError", "not found"),
        (
            "scaled to nothing",
            {
                let mut none = deployment("istiod", &json!({"observedGeneration": 2}));
                none.spec.get_or_insert_default().replicas = Some(0);
                none
            },
            vec![],
            "NotReady",
            "is scaled to no pods; scale it up",
        ),
        ("quota", deployment("istiod", &refused), vec![], "PodRefused", "exceeded quota: small"),
        ("too slow", deployment("istiod", &late), vec![], "NotReady", "has timed out"),
        (
            "somebody else's pod",
            starting("istiod"),
            vec![pod("other", &waiting("ImagePullBackOff", ""))],
            "Progressing",
            "0/1",
        ),
    ];
    for (name, deployment, pods, reason, message) in rows {
        let observed = Observed { pods, ..observed(deployment) };
        let status = status(&observed, Verdict::applied(30), Some(3), None, NOW);
        let (truth, found, text) = says(&status, ConditionType::ControlPlaneReady);
        assert_eq!((truth.as_str(), found.as_str()), ("False", reason), "{name}: {text}");
        assert!(text.contains(message), "{name}: {text}");
        assert_eq!(says(&status, ConditionType::Ready), (truth, found, text), "{name}: Ready says the same");
        assert_eq!(status.state.as_deref(), Some(reason), "{name}");
        assert_eq!(says(&status, ConditionType::GatewaysReady).0, "True", "{name}: the others are not touched");
    }
}

#[test]
fn what_is_still_missing() {
    let healthy = || observed(available("istiod"));
    for (name, observed, condition, truth, reason) in [
        (
            "admission is not on yet",
            Observed { admission: false, ..healthy() },
            ConditionType::WebhookReady,
            "False",
            "WaitingForEndpoints",
        ),
        (
            "gateways wait",
            Observed { waiting: vec!["istio-system/istio-ingressgateway".into()], ..healthy() },
            ConditionType::GatewaysReady,
            "False",
            "WaitingForControlPlane",
        ),
        (
            "no gateway asked for",
            Observed { wanted: Some(vec![Component::ControlPlane, Component::Webhook]), ..healthy() },
            ConditionType::GatewaysReady,
            "True",
            "NoGateways",
        ),
        ("nothing there", Observed::default(), ConditionType::ControlPlaneReady, "False", "NotFound"),
    ] {
        let status = status(&observed, Verdict::applied(30), Some(1), None, NOW);
        let (found, why, _) = says(&status, condition);
        assert_eq!((found.as_str(), why.as_str()), (truth, reason), "{name}");
    }
}

#[test]
fn a_wrong_spec_is_said_while_the_rest_runs_on() {
    let verdict = Verdict::failed(Reason::UnknownVersion, "spec.version: no");
    let status = status(&observed(available("istiod")), verdict, Some(4), None, NOW);
    assert_eq!(says(&status, ConditionType::Reconciled).1, "UnknownVersion");
    assert_eq!(
        says(&status, ConditionType::Ready),
        ("False".into(), "UnknownVersion".into(), "spec.version: no".into())
    );
    assert_eq!(says(&status, ConditionType::ControlPlaneReady).0, "True");
    assert_eq!(
        says(&status, ConditionType::Stalled),
        ("True".into(), "UnknownVersion".into(), "spec.version: no".into())
    );
    let tried_again = Verdict::failed(Reason::ApplyFailed, "the API server is away");
    let status = super::status::status(&observed(available("istiod")), tried_again, Some(4), None, NOW);
    assert!(find(&status, ConditionType::Stalled).is_none(), "what is tried again is not stalled");
}

#[test]
fn a_part_that_is_switched_off_is_not_missed() {
    let observed = Observed { wanted: Some(Vec::new()), without_effect: Some(Vec::new()), ..Observed::default() };
    let status = status(&observed, Verdict::applied(0), Some(1), None, NOW);
    assert_eq!(says(&status, ConditionType::ControlPlaneReady).1, "SwitchedOff");
    assert_eq!(says(&status, ConditionType::WebhookReady).1, "SwitchedOff");
    assert_eq!(says(&status, ConditionType::GatewaysReady).1, "NoGateways");
    assert_eq!(says(&status, ConditionType::Ready).0, "True");
}

#[test]
fn what_has_no_effect_is_named() {
    for (name, spec, expected) in [
        ("nothing asked for", json!({}), vec![]),
        ("a profile's own", json!({"profile": "demo"}), vec![]),
        ("what is so anyway", json!({"meshConfig": {"enableTracing": false, "accessLogEncoding": "TEXT"}}), vec![]),
        (
            "two levels",
            json!({"meshConfig": {"enableTracing": true, "defaultConfig": {"tracing": {"sampling": 1}}}}),
            vec!["spec.meshConfig.enableTracing", "spec.meshConfig.defaultConfig.tracing"],
        ),
    ] {
        let mesh = validate(&read(spec), &RelatedImages::default()).expect(name);
        assert_eq!(mesh.without_effect, expected, "{name}");
        let observed = Observed { without_effect: Some(mesh.without_effect), ..observed(available("istiod")) };
        let status = status(&observed, Verdict::applied(1), Some(1), None, NOW);
        let (truth, _, message) = says(&status, ConditionType::SettingsEffective);
        assert_eq!(truth == "True", expected.is_empty(), "{name}: {message}");
        assert!(expected.iter().all(|field| message.contains(field)), "{name}: {message}");
        assert_eq!(says(&status, ConditionType::Ready).0, "True", "{name}: Ready does not wait for it");
    }
}

#[test]
fn a_deletion_waits_while_the_revision_is_used() {
    let used = Usage { namespaces: vec!["default".into()], ..Usage::default() };
    let install = |seconds: i64, more: Value| {
        let mut object = json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshInstall",
            "metadata": {"name": "default", "deletionTimestamp": (NOW - SignedDuration::from_secs(seconds)).to_string()},
            "spec": {},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            object[key.as_str()] = value.clone();
        }
        serde_json::from_value::<crds::install::MeshInstall>(object).expect("a MeshInstall")
    };
    let forced = json!({"metadata": {
        "name": "default", "deletionTimestamp": NOW.to_string(),
        "annotations": {"install.forestay.dev/force-delete": "true"},
    }});
    for (name, install, usage, wait) in [
        ("in use", install(10, json!({})), &used, Some(20)),
        ("long enough", install(30, json!({})), &used, None),
        ("nobody uses it", install(0, json!({})), &Usage::default(), None),
        ("a spec of its own", install(10, json!({"spec": {"deletionGracePeriodSeconds": 60}})), &used, Some(50)),
        ("forced", install(0, forced), &used, None),
    ] {
        assert_eq!(grace(&install, usage, NOW).map(|wait| wait.as_secs()), wait, "{name}");
    }
}

#[test]
fn times_change_only_with_the_status_and_nothing_new_is_equal() {
    let first = status(&observed(starting("istiod")), Verdict::applied(30), Some(1), None, NOW);
    let later = NOW + SignedDuration::from_secs(60);
    let same = status(&observed(starting("istiod")), Verdict::applied(30), Some(1), Some(&first), later);
    assert_eq!(same, first, "so nothing is written");
    let ready = status(&observed(available("istiod")), Verdict::applied(30), Some(1), Some(&first), later);
    let time = |status: &MeshInstallStatus, of| find(status, of).map(|c| c.last_transition_time.0);
    assert_eq!(time(&ready, ConditionType::Ready), Some(later));
    assert_eq!(time(&ready, ConditionType::WebhookReady), Some(NOW));
}

fn owned(kind: &str, group: &str, name: &str, component: &str) -> Owned {
    let resource = ApiResource {
        group: group.into(),
        version: "v1".into(),
        api_version: if group.is_empty() { "v1".into() } else { format!("{group}/v1") },
        kind: kind.into(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    let mut object = DynamicObject::new(name, &resource).within("istio-system");
    object.metadata.labels = Some([(names::labels::COMPONENT.to_owned(), component.to_owned())].into());
    (resource, Arc::new(object))
}

#[test]
fn a_mesh_goes_in_an_order_that_keeps_the_cluster_usable() {
    let mut cluster = vec![
        owned("ConfigMap", "", "istio", "configuration"),
        owned("Deployment", "apps", "istiod", "control-plane"),
        owned("Service", "", "istiod", "control-plane"),
        owned("Deployment", "apps", "istio-sidecar-injector", "webhook"),
        owned("Deployment", "apps", "istio-ingressgateway", "gateway"),
        owned("MutatingWebhookConfiguration", "admissionregistration.k8s.io", "istio-sidecar-injector", "webhook"),
        owned("ValidatingWebhookConfiguration", "admissionregistration.k8s.io", "istio-validator", "webhook"),
    ];
    let mut order = Vec::new();
    while let Next::Delete { objects, progress } = next(&cluster, &[], NOW) {
        assert!(progress.starts_with("Deleting, step "), "{progress}");
        let gone: Vec<Owned> = objects.into_iter().cloned().collect();
        order.push(
            gone.iter()
                .map(|(r, o)| format!("{} {}", r.kind, o.metadata.name.clone().unwrap_or_default()))
                .collect::<Vec<_>>(),
        );
        cluster.retain(|one| !gone.contains(one));
    }
    assert_eq!(
        order,
        [
            vec![
                "MutatingWebhookConfiguration istio-sidecar-injector",
                "ValidatingWebhookConfiguration istio-validator",
            ],
            vec!["Deployment istio-ingressgateway"],
            vec!["Deployment istio-sidecar-injector"],
            vec!["Deployment istiod", "Service istiod"],
            vec!["ConfigMap istio"],
        ]
    );
    assert!(matches!(next(&cluster, &[], NOW), Next::Done));
}

#[test]
fn pods_are_waited_for_but_not_for_ever() {
    let ending = |seconds: i64| {
        let time = NOW + SignedDuration::from_secs(seconds);
        let pod = json!({"metadata": {
            "name": "istio-ingressgateway-1",
            "namespace": "istio-system",
            "labels": {names::labels::COMPONENT: "gateway"},
            "deletionTimestamp": time.to_string(),
        }});
        Arc::new(serde_json::from_value::<Pod>(pod).expect("a Pod"))
    };
    let cluster = [owned("Deployment", "apps", "istiod", "control-plane")];
    for (name, seconds, wait) in
        [("within its grace period", 20, Some(50)), ("just past it", -10, Some(20)), ("its node is gone", -31, None)]
    {
        match (next(&cluster, &[ending(seconds)], NOW), wait) {
            (Next::Wait { at_most, progress }, Some(seconds)) => {
                assert_eq!(at_most.as_secs(), seconds, "{name}");
                assert!(progress.contains("istio-system/istio-ingressgateway-1"), "{name}: {progress}");
            }
            (Next::Delete { .. }, None) => {}
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_is_on_its_way_out_is_not_deleted_again() {
    let (resource, object) = owned("Deployment", "apps", "istiod", "control-plane");
    let mut going = (*object).clone();
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
    match next(&[(resource, Arc::new(going))], &[], NOW) {
        Next::Delete { objects, progress } => {
            assert!(objects.is_empty());
            assert!(progress.contains("Deployment istio-system/istiod"), "{progress}");
        }
        other => panic!("{other:?}"),
    }
    let status = deleting("Deleting, step 4 of 5", Some(2), None, NOW);
    assert_eq!(status.state.as_deref(), Some("Deleting"));
}
