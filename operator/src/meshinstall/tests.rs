//! What is done about objects: brought in, and taken away in order.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{ApiResource, DynamicObject};
use kube::client::Body;
use kube::core::Status;
use names::annotations;
use serde_json::{Value, json};
use tower::BoxError;

use super::apply::{ApplyError, Step, bring_in, decide};
use super::basis::Basis;
use super::build::Rendered;
use super::finalize::{Next, grace, next};
use super::mesh::Component;
use super::prune::Owned;
use super::status::deleting;
use crate::pod::Pod;
use crate::usage::Usage;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

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
    let unused = Usage::default();
    let rows: Vec<(&str, _, &Usage, _)> = vec![
        ("in use", install(10, json!({})), &used, Some(20)),
        ("long enough", install(30, json!({})), &used, None),
        ("nobody uses it", install(0, json!({})), &unused, None),
        ("a spec of its own", install(10, json!({"spec": {"deletionGracePeriodSeconds": 60}})), &used, Some(50)),
        ("forced", install(0, forced), &used, None),
    ];
    for (name, install, usage, wait) in rows {
        assert_eq!(grace(&install, usage, NOW).map(|wait| wait.as_secs()), wait, "{name}");
    }
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
        owned("Deployment", "apps", "prometheus", "prometheus"),
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
            vec!["Deployment prometheus"],
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

/// An API server that has one Secret, and what it was asked.
#[derive(Clone)]
struct Server {
    secret: Arc<Mutex<Option<Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn with(secret: Option<Value>) -> Self {
        Self { secret: Arc::new(Mutex::new(secret)), asked: Arc::default() }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = serde_json::from_slice(&body.collect_bytes().await?)?;
                    let (code, answer) = server.answer(&head.method, body);
                    let response = Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer)?))?;
                    Ok::<_, BoxError>(response)
                }
            }),
            "default",
        )
    }

    fn answer(&self, method: &Method, mut body: Value) -> (u16, Value) {
        let mut there = self.secret.lock().unwrap();
        let named = |of: &Value| (of["metadata"]["uid"].clone(), of["metadata"]["resourceVersion"].clone());
        let fits = match &*there {
            Some(there) => method == Method::PATCH && named(there) == named(&body),
            None => method == Method::POST,
        };
        self.asked.lock().unwrap().push(format!("{method} {} {}", named(&body).1, body["data"]));
        if !fits {
            let status = Status::failure("the object has been modified", "Conflict").with_code(409);
            return (409, serde_json::to_value(status).unwrap());
        }
        let next = named(&body).1.as_str().map_or(1, |version| version.parse::<u32>().unwrap() + 1);
        body["metadata"]["uid"] = json!("u");
        body["metadata"]["resourceVersion"] = json!(next.to_string());
        *there = Some(body.clone());
        (200, body)
    }
}

/// The webhook's authority, made from what was found.
fn authority(found: Option<&DynamicObject>) -> Rendered {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "istio-sidecar-injector-ca", "namespace": "istio-system"},
        "type": "Opaque",
        "data": {"ca-cert.pem": "bmV3"},
    }))
    .expect("a Secret");
    Rendered::new(Component::Configuration, &secret).expect("rendered").made_from(Basis::of(found))
}

#[tokio::test]
async fn what_was_made_from_what_is_there_is_written_over_that_alone() {
    let secret = |version: &str, data: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "istio-sidecar-injector-ca", "namespace": "istio-system", "uid": "u", "resourceVersion": version,
            },
            "type": "Opaque",
            "data": {"ca-cert.pem": data},
        })
    };
    let object = |value: &Value| serde_json::from_value::<DynamicObject>(value.clone()).unwrap();
    let (read, newer) = (secret("7", "b2xk"), secret("8", "b3RoZXI="));
    let new = r#"{"ca-cert.pem":"bmV3"}"#;
    #[rustfmt::skip]
    let rows = [
        ("absent, still absent", None, None, vec!["POST null null".to_owned(), format!(r#"PATCH "1" {new}"#)], true),
        ("absent, made by somebody meanwhile", None, Some(&newer), vec!["POST null null".to_owned()], false),
        ("as it was read", Some(&read), Some(&read), vec![format!(r#"PATCH "7" {new}"#)], true),
        ("changed by somebody meanwhile", Some(&read), Some(&newer), vec![format!(r#"PATCH "7" {new}"#)], false),
    ];
    for (name, found, there, asked, written) in rows {
        let found = found.map(object);
        let server = Server::with(there.cloned());
        let current = found.clone().map(Arc::new);
        let result = bring_in(&server.client(), authority(found.as_ref()), current, true).await;
        assert_eq!(*server.asked.lock().unwrap(), asked, "{name}");
        let now = server.secret.lock().unwrap().clone().unwrap();
        if written {
            assert!(result.is_ok(), "{name}: {result:?}");
            assert_eq!(now["data"]["ca-cert.pem"], "bmV3", "{name}");
        } else {
            assert!(matches!(result, Err(ApplyError::Overtaken { .. })), "{name}: {result:?}");
            assert_eq!(Some(&now), there, "{name}: it is as somebody made it");
        }
    }
}
