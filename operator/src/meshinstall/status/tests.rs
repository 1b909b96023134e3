//! What the status says of what is in the cluster.

use std::sync::Arc;

use crds::install::MeshInstallStatus;
use crds::install::condition::{ConditionType, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::{Observed, Verdict, find, first_sight, status};
use crate::addons::AddonKind;
use crate::addons::apply::Trouble;
use crate::definitions::Findings;
use crate::meshinstall::mesh::Component;
use crate::meshinstall::upgrade::Versions;
use crate::meshinstall::validate::tests::read;
use crate::meshinstall::validate::{RelatedImages, validate};
use crate::pod::Pod;
use crate::usage::Usage;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

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
        authority: None,
        wanted: Some(vec![Component::ControlPlane, Component::Webhook, Component::Gateway]),
        without_effect: Some(Vec::new()),
        usage: Usage::default(),
        addon_troubles: Vec::new(),
        definitions: Some(Findings::default()),
        versions: Versions::new(Some(names::VERSION), names::VERSION, None),
        images: None,
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
    let status = status(&observed(available("istiod")), Verdict::applied(30), Some(3), None, "default", NOW);
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
        let status = status(&observed, Verdict::applied(30), Some(3), None, "default", NOW);
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
        (
            "an authority that cannot be used",
            Observed { authority: Some("Secret a/b".into()), ..observed(starting("istiod")) },
            ConditionType::ControlPlaneReady,
            "False",
            "AuthorityUnusable",
        ),
        (
            "a control plane that runs keeps the last good one",
            Observed { authority: Some("Secret a/b".into()), ..healthy() },
            ConditionType::ControlPlaneReady,
            "True",
            "Available",
        ),
    ] {
        let status = status(&observed, Verdict::applied(30), Some(1), None, "default", NOW);
        let (found, why, _) = says(&status, condition);
        assert_eq!((found.as_str(), why.as_str()), (truth, reason), "{name}");
    }
}

#[test]
fn a_wrong_spec_is_said_while_the_rest_runs_on() {
    let verdict = Verdict::failed(Reason::UnknownVersion, "spec.version: no");
    let status = status(&observed(available("istiod")), verdict, Some(4), None, "default", NOW);
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
    let status = super::status(&observed(available("istiod")), tried_again, Some(4), None, "default", NOW);
    assert!(find(&status, ConditionType::Stalled).is_none(), "what is tried again is not stalled");
}

#[test]
fn a_part_that_is_switched_off_is_not_missed() {
    let observed = Observed { wanted: Some(Vec::new()), without_effect: Some(Vec::new()), ..Observed::default() };
    let status = status(&observed, Verdict::applied(0), Some(1), None, "default", NOW);
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
        (
            "Helm values that are read, or are so anyway",
            json!({"values": {
                "global": {"proxy": {"autoInject": "disabled", "componentLogLevel": "misc:error"}, "platform": ""},
                "sidecarInjectorWebhook": {
                    "enableNamespacesByDefault": true, "reinvocationPolicy": "Never",
                    "injectedAnnotations": {"a": "b"}, "neverInjectSelector": [],
                },
                "telemetry": null,
            }}),
            vec![],
        ),
        (
            "Helm values that nobody reads",
            json!({"values": {
                "global": {"proxy": {"componentLogLevel": "misc:debug", "logAsJson": true}},
                "pilot": {"traceSampling": 1, "env": {"PILOT_ENABLE_STATUS": "true"}},
                "sidecarInjectorWebhook": {"reinvocationPolicy": "IfNeeded"},
                "telemetry": {"enabled": null, "v2": {}},
            }}),
            vec![
                "spec.values.global.proxy.logAsJson",
                "spec.values.pilot.traceSampling",
                "spec.values.sidecarInjectorWebhook.reinvocationPolicy",
                "spec.values.telemetry",
                "spec.values.pilot.env.PILOT_ENABLE_STATUS",
                "spec.values.global.proxy.componentLogLevel",
            ],
        ),
    ] {
        let mesh = validate(&read(spec), &RelatedImages::default()).expect(name);
        assert_eq!(mesh.without_effect, expected, "{name}");
        let observed = Observed { without_effect: Some(mesh.without_effect), ..observed(available("istiod")) };
        let status = status(&observed, Verdict::applied(1), Some(1), None, "default", NOW);
        let (truth, _, message) = says(&status, ConditionType::SettingsEffective);
        assert_eq!(truth == "True", expected.is_empty(), "{name}: {message}");
        assert!(expected.iter().all(|field| message.contains(field)), "{name}: {message}");
        assert_eq!(says(&status, ConditionType::Ready).0, "True", "{name}: Ready does not wait for it");
    }
}

#[test]
fn times_change_only_with_the_status_and_nothing_new_is_equal() {
    let first = status(&observed(starting("istiod")), Verdict::applied(30), Some(1), None, "default", NOW);
    let later = NOW + SignedDuration::from_secs(60);
    let same = status(&observed(starting("istiod")), Verdict::applied(30), Some(1), Some(&first), "default", later);
    assert_eq!(same, first, "so nothing is written");
    let ready = status(&observed(available("istiod")), Verdict::applied(30), Some(1), Some(&first), "default", later);
    let time = |status: &MeshInstallStatus, of| find(status, of).map(|c| c.last_transition_time.0);
    assert_eq!(time(&ready, ConditionType::Ready), Some(later));
    assert_eq!(time(&ready, ConditionType::WebhookReady), Some(NOW));
}

/// An addon in trouble is told, and the mesh is Ready without it.
#[test]
fn the_mesh_does_not_wait_for_its_addons() {
    let with = |deployments: Vec<(AddonKind, Deployment)>, pods| {
        let mut observed = observed(available("istiod"));
        let kinds = deployments.iter().map(|(kind, _)| Component::Addon(*kind));
        observed.wanted.get_or_insert_default().extend(kinds.collect::<Vec<_>>());
        observed.deployments.extend(deployments.into_iter().map(|(kind, d)| (Component::Addon(kind), d)));
        Observed { pods, ..observed }
    };
    let foreign = Trouble {
        addon: AddonKind::Prometheus,
        reason: Reason::ForeignObject,
        message: "spec.addons.prometheus: Service istio-system/prometheus exists.".into(),
    };
    let pulling = waiting("ErrImagePull", "no such host");
    for (name, observed, truth, reason, message) in [
        ("none", with(vec![], vec![]), "True", "NoAddons", "The spec asks for no addon"),
        (
            "well",
            with(vec![(AddonKind::Zipkin, available("zipkin"))], vec![]),
            "True",
            "Available",
            "Deployment istio-system/zipkin: 1/1 pods are available.",
        ),
        (
            "one of two on its way",
            with(vec![(AddonKind::Zipkin, available("zipkin")), (AddonKind::Kiali, starting("kiali"))], vec![]),
            "False",
            "Progressing",
            "Deployment istio-system/kiali: 0/1 pods are available.",
        ),
        (
            "an image that cannot be had goes before one on its way",
            with(
                vec![(AddonKind::Kiali, starting("kiali")), (AddonKind::Grafana, starting("grafana"))],
                vec![pod("grafana", &pulling)],
            ),
            "False",
            "ImagePullFailed",
            "pod grafana-1, container c: ErrImagePull of example.org/forestay:1: no such host",
        ),
        (
            "somebody else's",
            Observed { addon_troubles: vec![foreign.clone()], ..with(vec![], vec![]) },
            "False",
            "ForeignObject",
            "spec.addons.prometheus: Service istio-system/prometheus exists.",
        ),
        (
            "partly somebody else's: what is there of it is not judged",
            Observed {
                addon_troubles: vec![foreign],
                ..with(vec![(AddonKind::Prometheus, starting("prometheus"))], vec![])
            },
            "False",
            "ForeignObject",
            "spec.addons.prometheus: Service istio-system/prometheus exists.",
        ),
        (
            "a spec that cannot be honoured, and no addon known",
            Observed { wanted: None, ..with(vec![], vec![]) },
            "Unknown",
            "Reconciling",
            "",
        ),
    ] {
        let status = status(&observed, Verdict::applied(30), Some(1), None, "default", NOW);
        let (found, why, text) = says(&status, ConditionType::AddonsReady);
        assert_eq!((found.as_str(), why.as_str()), (truth, reason), "{name}: {text}");
        assert!(text.contains(message), "{name}: {text}");
        let (ready, why, text) = says(&status, ConditionType::Ready);
        assert_eq!((ready.as_str(), why.as_str()), ("True", "Healthy"), "{name}: {text}");
        assert_eq!(text.contains("Of its addons: "), truth == "False", "{name}: {text}");
        assert_eq!(status.state.as_deref(), Some("Healthy"), "{name}");
        assert!(find(&status, ConditionType::Stalled).is_none(), "{name}");
    }
    let observed = with(vec![(AddonKind::Zipkin, available("zipkin"))], vec![]);
    let status = status(&observed, Verdict::applied(30), Some(1), None, "default", NOW);
    let zipkin = status.components.iter().find(|component| component.component == "zipkin").expect("listed");
    assert_eq!((zipkin.name.as_str(), zipkin.ready.as_str()), ("zipkin", "1/1"));
}
