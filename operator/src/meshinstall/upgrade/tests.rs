//! Upgrades, played through table by table: a cluster of rendered objects whose pods come up when a row says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::install::condition::Reason;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{Stage, Turn, Versions, front, turns};
use crate::meshinstall::build::{Admission, Rendered, build};
use crate::meshinstall::dereference::Dereferenced;
use crate::meshinstall::mesh::Component;
use crate::meshinstall::status::{Truth, Verdict};
use crate::meshinstall::trust::WebhookCa;
use crate::meshinstall::validate::{RelatedImages, validate};

const ON: Admission = Admission { injection: true, validation: true };

/// Everything that a mesh of this spec consists of, by the operator's own version and by the oldest that it serves.
fn rendered(spec: Value, version: &str) -> Vec<Rendered> {
    let mut spec = spec;
    spec["version"] = json!(version);
    let read = Dereferenced {
        name: "default".into(),
        uid: "uid".into(),
        spec: serde_json::from_value(spec).expect("a spec"),
        ..Dereferenced::default()
    };
    let mesh = validate(&read, &RelatedImages::default()).expect("a mesh");
    build(&mesh, &WebhookCa::fixed("CERT\n", "KEY\n"), ON).expect("objects")
}

fn new() -> String {
    crate::version::own().to_string()
}

fn old() -> String {
    crate::version::oldest(&crate::version::own()).to_string()
}

/// What is in the cluster.
#[derive(Clone, Default)]
struct Cluster(BTreeMap<String, DynamicObject>);

impl Cluster {
    fn of(objects: &[Rendered]) -> Self {
        let mut cluster = Self::default();
        for rendered in objects {
            cluster.put(rendered);
            cluster.come_up(&rendered.display());
        }
        cluster
    }

    /// As the API server has it after an apply: a Deployment with another template has its pods to replace.
    fn put(&mut self, rendered: &Rendered) {
        let before = self.0.get(&rendered.display());
        let mut object = rendered.object.clone();
        let same = before.is_some_and(|before| before.data["spec"]["template"] == object.data["spec"]["template"]);
        let generation = before.and_then(|before| before.metadata.generation).unwrap_or_default() + i64::from(!same);
        object.metadata.generation = Some(generation);
        if let Some(status) = before.and_then(|before| before.data.get("status")) {
            object.data["status"] = status.clone();
        }
        self.0.insert(rendered.display(), object);
    }

    /// The pods of a Deployment are all new and available.
    fn come_up(&mut self, name: &str) {
        let Some(object) = self.0.get_mut(name).filter(|_| name.starts_with("Deployment")) else { return };
        let wanted = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
        object.data["status"] = json!({
            "observedGeneration": object.metadata.generation,
            "replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted,
        });
    }

    fn present(&self, wanted: &[Rendered]) -> Vec<Option<Arc<DynamicObject>>> {
        wanted.iter().map(|rendered| self.0.get(&rendered.display()).cloned().map(Arc::new)).collect()
    }

    /// One reconciliation; the names of objects that were changed, and of Deployments that are not whole now.
    fn reconcile(&mut self, wanted: &[Rendered], before: Option<&[Rendered]>) -> (Vec<String>, Vec<String>) {
        let mut changed = Vec::new();
        for turn in turns(wanted.to_vec(), before, &self.present(wanted)) {
            let (Turn::Now(rendered) | Turn::Before(rendered)) = turn else { continue };
            let there = self.0.get(&rendered.display());
            if there.is_none_or(|there| there.annotations() != rendered.object.annotations()) {
                changed.push(rendered.display());
                self.put(&rendered);
            }
        }
        let broken = |(name, object): (&String, &DynamicObject)| (!super::is_whole(object)).then(|| name.clone());
        (changed, self.0.iter().filter_map(broken).collect())
    }
}

const ISTIOD: &str = "Deployment istio-system/istiod";
const WEBHOOK: &str = "Deployment istio-system/istio-sidecar-injector";
const INJECTION: &str = "ConfigMap istio-system/istio-sidecar-injector";
const INGRESS: &str = "Deployment istio-system/istio-ingressgateway";
const EGRESS: &str = "Deployment istio-system/istio-egressgateway";

#[test]
fn the_parts_go_one_after_the_other_and_each_waits_for_the_one_before() {
    let spec = json!({"profile": "demo"});
    let (before, wanted) = (rendered(spec.clone(), &old()), rendered(spec, &new()));
    let mut cluster = Cluster::of(&before);
    let mut order = Vec::new();
    loop {
        // As often as it is asked, and by whomever: nothing is remembered.
        let (changed, broken) = cluster.reconcile(&wanted, Some(&before));
        if !broken.is_empty() {
            assert_eq!(cluster.reconcile(&wanted, Some(&before)), (Vec::new(), broken.clone()));
        }
        if changed.is_empty() && broken.is_empty() {
            break;
        }
        order.push(changed);
        for name in broken {
            cluster.come_up(&name);
        }
    }
    assert_eq!(order, [vec![ISTIOD], vec![WEBHOOK], vec![INJECTION], vec![INGRESS, EGRESS]]);
    let present = cluster.present(&wanted);
    assert_eq!(front(wanted.iter().zip(present.iter().map(Option::as_deref))), None, "all is whole");
}

#[test]
fn a_step_that_does_not_come_up_stops_the_rest_which_is_still_kept() {
    let spec = json!({});
    let (before, wanted) = (rendered(spec.clone(), &old()), rendered(spec, &new()));
    let mut cluster = Cluster::of(&before);
    assert_eq!(cluster.reconcile(&wanted, Some(&before)).0, [ISTIOD]);

    // Somebody deletes a gateway's Deployment and edits the webhook's: both come back as they were, not as they will be.
    for name in [WEBHOOK, INGRESS] {
        let mut edited = cluster.0[name].clone();
        edited.annotations_mut().remove(names::annotations::RENDERED);
        cluster.0.insert(name.to_owned(), edited);
    }
    assert_eq!(cluster.reconcile(&wanted, Some(&before)).0, [WEBHOOK, INGRESS]);
    let version =
        |name: &str| cluster.0[name].data.pointer("/spec/template/metadata/labels/app.kubernetes.io~1version").cloned();
    assert_eq!(version(ISTIOD), Some(json!(new())));
    assert_eq!(version(WEBHOOK), Some(json!(old())));
    assert_eq!(version(INGRESS), Some(json!(old())));

    // Back to the version in force: the control plane alone has to move.
    let mut back = cluster.clone();
    let (changed, broken) = back.reconcile(&before, None);
    assert_eq!((changed, broken), (vec![ISTIOD.to_owned()], vec![ISTIOD.to_owned()]));
    back.come_up(ISTIOD);
    assert_eq!(back.reconcile(&before, None), (Vec::new(), Vec::new()));
}

#[test]
fn who_has_a_turn_to_wait_for() {
    let stages = |wanted: &[Rendered], cluster: &Cluster, before: Option<&[Rendered]>| {
        let turns = turns(wanted.to_vec(), before, &cluster.present(wanted));
        let held = |turn: &Turn| match turn {
            Turn::Now(_) => None,
            Turn::Before(rendered) => Some(format!("before: {}", rendered.display())),
            Turn::Wait(rendered) => Some(format!("wait: {}", rendered.display())),
        };
        turns.iter().filter_map(held).collect::<Vec<_>>()
    };
    let standard = rendered(json!({}), &new());
    let whole = Cluster::of(&standard);
    let starting = |name: &str| {
        let mut cluster = whole.clone();
        if let Some(object) = cluster.0.get_mut(name) {
            object.data["status"] = json!({});
        }
        cluster
    };
    let ignored = |cluster: &Cluster, name: &str| {
        let mut cluster = cluster.clone();
        if let Some(object) = cluster.0.get_mut(name) {
            object.annotations_mut().insert(names::annotations::IGNORE.into(), "true".into());
        }
        cluster
    };
    let mirror = rendered(json!({"hub": "mirror.example.org/mesh"}), &new());
    let smaller = rendered(json!({"gateways": [{"name": "istio-ingressgateway", "replicas": 2}]}), &new());
    let broken = rendered(json!({"controlPlane": {"image": "example.org/none:1"}}), &new());
    let earlier = rendered(json!({}), &old());
    for (name, wanted, cluster, before, held) in [
        ("a first installation", &standard, Cluster::default(), None, vec![]),
        ("nothing to do", &standard, whole.clone(), None, vec![]),
        ("a part that starts holds up no other change", &smaller, starting(ISTIOD), None, vec![]),
        ("one image of one part", &broken, whole.clone(), None, vec![]),
        (
            "another registry",
            &mirror,
            whole.clone(),
            None,
            vec![
                "wait: ConfigMap istio-system/istio-sidecar-injector",
                "wait: Deployment istio-system/istio-sidecar-injector",
                "wait: Deployment istio-system/istio-ingressgateway",
            ],
        ),
        (
            "another version",
            &standard,
            Cluster::of(&earlier),
            Some(&earlier[..]),
            vec![
                "before: ConfigMap istio-system/istio-sidecar-injector",
                "before: Deployment istio-system/istio-sidecar-injector",
                "before: Deployment istio-system/istio-ingressgateway",
            ],
        ),
        (
            "a control plane that the operator must leave alone",
            &standard,
            ignored(&Cluster::of(&earlier), ISTIOD),
            Some(&earlier[..]),
            vec![
                "before: ConfigMap istio-system/istio-sidecar-injector",
                "before: Deployment istio-system/istio-ingressgateway",
            ],
        ),
    ] {
        assert_eq!(stages(wanted, &cluster, before), held, "{name}");
    }
}

#[test]
fn what_is_said_of_versions() {
    let part = |reason: Reason, message: &str| {
        let truth = if reason == Reason::Available { Truth::True } else { Truth::False };
        Verdict { truth, reason, message: message.to_owned() }
    };
    let rows = [
        (
            "nothing yet",
            None,
            "0.1.0",
            Some(Stage::ControlPlane),
            Reason::Available,
            (Truth::Unknown, Reason::Reconciling, "Not yet installed."),
            None,
        ),
        (
            "installed",
            None,
            "0.2.0",
            None,
            Reason::Available,
            (Truth::True, Reason::Current, "Version 0.2.0 is in force"),
            Some("0.2.0"),
        ),
        (
            "as ever",
            Some("0.2.0"),
            "0.2.0",
            None,
            Reason::Available,
            (Truth::True, Reason::Current, "the operator's own"),
            Some("0.2.0"),
        ),
        (
            "a pod restarts",
            Some("0.2.0"),
            "0.2.0",
            Some(Stage::Gateways),
            Reason::Progressing,
            (Truth::True, Reason::Current, ""),
            Some("0.2.0"),
        ),
        (
            "the operator is newer",
            Some("0.1.0"),
            "0.1.0",
            None,
            Reason::Available,
            (
                Truth::False,
                Reason::UpgradeAvailable,
                "kubectl patch mi default --type=merge -p '{\"spec\":{\"version\":\"0.2.0\"}}'",
            ),
            Some("0.1.0"),
        ),
        (
            "under way",
            Some("0.1.0"),
            "0.2.0",
            Some(Stage::ControlPlane),
            Reason::Progressing,
            (Truth::False, Reason::Upgrading, "Upgrade from 0.1.0 to 0.2.0, step 1 of 4, the control plane: words."),
            Some("0.1.0"),
        ),
        (
            "the webhook's ConfigMap",
            Some("0.1.0"),
            "0.2.0",
            Some(Stage::Injection),
            Reason::Available,
            (Truth::False, Reason::Upgrading, "step 3 of 4, what is injected."),
            Some("0.1.0"),
        ),
        (
            "stopped",
            Some("0.1.0"),
            "0.2.0",
            Some(Stage::Webhook),
            Reason::ImagePullFailed,
            (
                Truth::False,
                Reason::UpgradeStopped,
                "has stopped at step 2 of 4, the webhook: words. What ran before goes on serving. Mend it, or set spec.version back to \"0.1.0\".",
            ),
            Some("0.1.0"),
        ),
        (
            "finished",
            Some("0.1.0"),
            "0.2.0",
            None,
            Reason::Available,
            (Truth::True, Reason::Current, "Version 0.2.0"),
            Some("0.2.0"),
        ),
    ];
    for (name, in_force, wanted, at, reason, (truth, expected, message), settled) in rows {
        let versions =
            Versions { own: "0.2.0".into(), in_force: in_force.map(str::to_owned), wanted: wanted.into(), at };
        let verdict = versions.verdict("default", |_: Component| part(reason, "words."));
        assert_eq!((verdict.truth, verdict.reason), (truth, expected), "{name}: {}", verdict.message);
        assert!(verdict.message.contains(message), "{name}: {}", verdict.message);
        assert_eq!(versions.settled(), settled, "{name}");
    }
}
