//! Goldens of every addon, and what holds for all of them.

use std::collections::BTreeSet;

use crds::install::MeshInstallSpec;
use kube::ResourceExt;
use names::labels;
use serde_json::{Value, json};

use super::{AddonKind, build};
use crate::meshinstall::build::Rendered;
use crate::meshinstall::dereference::Dereferenced;
use crate::meshinstall::mesh::Mesh;
use crate::meshinstall::validate::{RelatedImages, validate};

pub(super) fn mesh(spec: Value) -> Mesh {
    let spec: MeshInstallSpec = serde_json::from_value(spec).expect("a spec");
    let read = Dereferenced {
        name: spec.revision.clone(),
        uid: "4f1c1a54-0b7e-4d3c-9c89-5a7f6d1a0b10".into(),
        spec,
        ..Dereferenced::default()
    };
    validate(&read, &RelatedImages::default()).expect("a valid spec")
}

fn render(spec: Value) -> Vec<Rendered> {
    build(&mesh(spec)).expect("objects")
}

fn yaml(objects: &[Rendered]) -> String {
    let document = |rendered: &Rendered| {
        let mut object = rendered.object.clone();
        object.metadata.annotations = None;
        crds::yaml::to_string(&object).expect("YAML")
    };
    objects.iter().map(document).collect::<Vec<_>>().join("---\n")
}

/// All names, and in full those of these kinds.
fn only(objects: Vec<Rendered>, kinds: &[&str]) -> String {
    let names: Vec<String> = objects.iter().map(|rendered| format!("# {}", rendered.display())).collect();
    let chosen: Vec<Rendered> =
        objects.into_iter().filter(|rendered| kinds.contains(&rendered.resource.kind.as_str())).collect();
    format!("{}\n---\n{}", names.join("\n"), yaml(&chosen))
}

#[test]
fn prometheus() {
    insta::assert_snapshot!(yaml(&render(json!({"addons": {"prometheus": {}}}))));
}

#[test]
fn grafana() {
    insta::assert_snapshot!(yaml(&render(json!({"addons": {"grafana": {}}}))));
}

#[test]
fn kiali() {
    insta::assert_snapshot!(yaml(&render(json!({"addons": {"kiali": {}}}))));
}

#[test]
fn jaeger() {
    insta::assert_snapshot!(yaml(&render(json!({"addons": {"jaeger": {}}}))));
}

#[test]
fn zipkin() {
    insta::assert_snapshot!(yaml(&render(json!({"addons": {"zipkin": {}}}))));
}

#[test]
fn everything_that_can_be_said_of_an_addon() {
    let objects = render(json!({
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "addons": {"prometheus": {
            "image": "registry.example.org/prometheus:3",
            "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}},
            "persistence": {"size": "50Gi", "storageClassName": "fast"},
            "pod": {"nodeSelector": {"disk": "ssd"}, "labels": {"team": "mesh"}, "env": [{"name": "GOGC", "value": "75"}]},
            "overlays": [
                {"kind": "Service", "patch": {"metadata": {"annotations": {"a": "b"}}}},
                {"kind": "Deployment", "patch": {"spec": {"template": {"spec": {"containers": [
                    {"name": "prometheus-server", "args": ["--config.file=/etc/config/prometheus.yml", "--storage.tsdb.path=/data", "--storage.tsdb.retention.time=30d"]},
                ]}}}}},
            ],
        }},
    }));
    insta::assert_snapshot!(only(objects, &["PersistentVolumeClaim", "Service", "Deployment"]));
}

/// What Grafana and Kiali are told of the others, in a namespace and a revision of another name.
#[test]
fn addons_find_each_other() {
    let settings = |spec: Value| {
        let objects = render(spec);
        let maps = objects.iter().filter(|r| r.resource.kind == "ConfigMap" && r.object.name_any() != "prometheus");
        let text: Vec<String> = maps
            .map(|map| {
                let data = map.object.data["data"].as_object().cloned().unwrap_or_default();
                let files = data.iter().filter(|(file, _)| *file != "grafana.ini");
                let texts: Vec<String> =
                    files.map(|(file, text)| format!("# {file}\n{}", text.as_str().unwrap_or_default())).collect();
                texts.concat()
            })
            .collect();
        text.concat()
    };
    insta::assert_snapshot!(
        "addons_of_the_mesh",
        settings(json!({
            "namespace": "mesh", "revision": "canary", "meshConfig": {"rootNamespace": "rules"},
            "addons": {"prometheus": {}, "grafana": {}, "kiali": {}, "zipkin": {}},
        }))
    );
    insta::assert_snapshot!(
        "addons_elsewhere",
        settings(json!({"addons": {
            "prometheus": {"externalURL": "https://prometheus.example.org/"},
            "grafana": {},
            "kiali": {},
            "jaeger": {"externalURL": "https://jaeger.example.org/jaeger"},
        }}))
    );
    let elsewhere = json!({"addons": {
        "grafana": {"externalURL": "https://grafana.example.org"},
        "prometheus": {"externalURL": "http://prometheus.monitoring:9090"},
        "zipkin": {"externalURL": "http://zipkin.tracing:9411"},
    }});
    assert_eq!(render(elsewhere), [], "nothing is deployed for what runs elsewhere");
}

fn all() -> [Value; 2] {
    let addons = |tracing: &str| {
        json!({"addons": {
            "prometheus": {"persistence": {}}, "grafana": {"persistence": {}}, "kiali": {}, tracing: {},
        }})
    };
    [addons("jaeger"), addons("zipkin")]
}

/// What the restricted profile of Pod Security asks for, with ids, since images may name theirs by a word.
#[test]
fn every_pod_is_restricted() {
    for rendered in all().into_iter().flat_map(render).filter(|rendered| rendered.resource.kind == "Deployment") {
        let name = rendered.display();
        let pod = &rendered.object.data["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert!(pod["securityContext"]["runAsUser"].as_i64().is_some_and(|id| id > 0), "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in pod["containers"].as_array().into_iter().flatten() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert!(container["readinessProbe"].is_object() && container["resources"].is_object(), "{name}");
        }
        let (selector, labels) = (
            &rendered.object.data["spec"]["selector"]["matchLabels"],
            &rendered.object.data["spec"]["template"]["metadata"]["labels"],
        );
        for (key, value) in selector.as_object().into_iter().flatten() {
            assert_eq!(&labels[key], value, "{name} selects its own pods by {key}");
        }
        assert_eq!(labels[labels::INJECT], "false", "{name}");
    }
    for rendered in render(json!({"profile": "openshift", "addons": {"grafana": {}}})) {
        let security = &rendered.object.data["spec"]["template"]["spec"]["securityContext"];
        assert!(security["runAsUser"].is_null() && security["fsGroup"].is_null(), "the namespace gives the ids");
    }
}

/// What the garbage collector takes with a MeshInstall must not be somebody's data.
#[test]
fn only_claims_have_no_owner() {
    for rendered in all().into_iter().flat_map(render) {
        let is_claim = rendered.resource.kind == "PersistentVolumeClaim";
        assert_eq!(rendered.object.owner_references().is_empty(), is_claim, "{}", rendered.display());
    }
}

/// Every Service leads to a port of a container that its selector finds.
#[test]
fn services_lead_to_pods() {
    for objects in all().map(render) {
        let deployments: Vec<&Rendered> = objects.iter().filter(|r| r.resource.kind == "Deployment").collect();
        for service in objects.iter().filter(|r| r.resource.kind == "Service") {
            let spec = &service.object.data["spec"];
            let found = deployments.iter().find(|deployment| {
                let labels = &deployment.object.data["spec"]["template"]["metadata"]["labels"];
                spec["selector"].as_object().into_iter().flatten().all(|(key, value)| &labels[key] == value)
            });
            let Some(found) = found else { panic!("{} selects nothing", service.display()) };
            let pod = &found.object.data["spec"]["template"]["spec"];
            let open: BTreeSet<u64> = pod["containers"][0]["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|port| port["containerPort"].as_u64())
                .collect();
            for port in spec["ports"].as_array().into_iter().flatten() {
                let target = port["targetPort"].as_u64().unwrap_or_default();
                assert!(open.contains(&target), "{}: {target} is not open", service.display());
            }
        }
    }
}

#[test]
fn each_addons_deployment_has_its_name_and_component() {
    for kind in AddonKind::ALL {
        let objects = render(json!({"addons": {kind.as_str(): {}}}));
        let deployments: Vec<String> = objects
            .iter()
            .filter(|rendered| rendered.resource.kind == "Deployment")
            .map(|rendered| rendered.object.name_any())
            .collect();
        assert_eq!(deployments, [kind.as_str()]);
        assert!(objects.iter().all(|rendered| rendered.object.labels()[labels::COMPONENT] == kind.as_str()));
    }
}

mod vectors {
    //! Ours beside Istio's samples, read from where they lie.

    use std::collections::{BTreeMap, BTreeSet};
    use std::path::PathBuf;

    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::render;
    use crate::meshinstall::build::Rendered;

    /// A file of the samples; None, with a line that says so, where they are absent.
    fn sample(file: &str) -> Option<Vec<Value>> {
        let folder = std::env::var_os("FORESTAY_SAMPLES")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/samples")), PathBuf::from);
        let path = folder.join("addons").join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("SKIPPED: {} is not there; set FORESTAY_SAMPLES to Istio's samples", path.display());
            return None;
        };
        Some(crds::yaml::documents(&text).into_iter().map(|document| document.expect("YAML").value).collect())
    }

    fn find<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
        let found = documents.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("the sample has no {kind} {name}"))
    }

    fn ours(objects: &[Rendered], kind: &str, name: &str) -> Value {
        let found = objects.iter().find(|r| r.resource.kind == kind && r.object.name_any() == name);
        found.map_or_else(|| panic!("we render no {kind} {name}"), |rendered| rendered.object.data.clone())
    }

    /// Name, port and the pod's port of each port.
    fn ports(service: &Value) -> BTreeSet<(String, u64, u64)> {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        ports
            .map(|port| {
                let number = port["port"].as_u64().unwrap_or_default();
                let target = port["targetPort"].as_u64().unwrap_or(number);
                (port["name"].as_str().unwrap_or_default().to_owned(), number, target)
            })
            .collect()
    }

    #[test]
    fn services_are_the_samples() {
        for (addon, file) in [
            ("prometheus", "prometheus.yaml"),
            ("grafana", "grafana.yaml"),
            ("kiali", "kiali.yaml"),
            ("jaeger", "jaeger.yaml"),
            ("zipkin", "extras/zipkin.yaml"),
        ] {
            let Some(documents) = sample(file) else { return };
            let objects = render(json!({"addons": {addon: {}}}));
            for kind in ["Service", "Deployment", "ServiceAccount", "ConfigMap"] {
                let names: BTreeSet<&str> = documents
                    .iter()
                    .filter(|one| one["kind"] == kind)
                    .filter_map(|one| one["metadata"]["name"].as_str())
                    // Dashboards are not among ours yet.
                    .filter(|name| !name.contains("dashboards"))
                    .collect();
                for name in names {
                    let (theirs, own) = (find(&documents, kind, name), ours(&objects, kind, name));
                    if kind == "Service" {
                        assert_eq!(ports(&own), ports(theirs), "Service {name}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_image_is_the_samples() {
        for (addon, file, container) in [
            ("prometheus", "prometheus.yaml", "prometheus-server"),
            ("grafana", "grafana.yaml", "grafana"),
            ("kiali", "kiali.yaml", "kiali"),
            ("jaeger", "jaeger.yaml", "jaeger"),
        ] {
            let Some(documents) = sample(file) else { return };
            let image = |deployment: &Value| {
                let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().cloned();
                let of_name = containers.into_iter().flatten().find(|one| one["name"] == container);
                of_name.map(|one| one["image"].clone()).unwrap_or_default()
            };
            let objects = render(json!({"addons": {addon: {}}}));
            let theirs = image(find(&documents, "Deployment", addon));
            assert_eq!(image(&ours(&objects, "Deployment", addon)), theirs, "{addon}");
        }
    }

    /// What is scraped, job by job and rule by rule, with Prometheus' defaults filled in and what is said in another way
    /// (`bearer_token_file`) said in one.
    #[test]
    fn prometheus_scrapes_what_the_sample_scrapes() {
        let Some(documents) = sample("prometheus.yaml") else { return };
        let config = |map: &Value| -> Value {
            crds::yaml::value(map["data"]["prometheus.yml"].as_str().expect("prometheus.yml")).expect("YAML")
        };
        let theirs = config(find(&documents, "ConfigMap", "prometheus"));
        let own = config(&ours(&render(json!({"addons": {"prometheus": {}}})), "ConfigMap", "prometheus"));
        assert_eq!(own["global"], theirs["global"]);
        assert_eq!(jobs(&own), jobs(&theirs));
    }

    /// Jobs by name, as Prometheus understands them.
    fn jobs(config: &Value) -> BTreeMap<String, Value> {
        let jobs = config["scrape_configs"].as_array().cloned().unwrap_or_default();
        jobs.into_iter()
            .map(|mut job| {
                if let Some(file) = job.as_object_mut().and_then(|job| job.remove("bearer_token_file")) {
                    job["authorization"] = json!({"credentials_file": file});
                }
                for rule in job["relabel_configs"].as_array_mut().into_iter().flatten() {
                    let defaults =
                        [("action", json!("replace")), ("replacement", json!("$1")), ("regex", json!("(.*)"))];
                    for (field, value) in defaults {
                        let rule = rule.as_object_mut().expect("a rule");
                        rule.entry(field).or_insert(value);
                    }
                    if let Some(regex) = rule["regex"].as_bool() {
                        rule["regex"] = regex.to_string().into();
                    }
                }
                (job["job_name"].as_str().unwrap_or_default().to_owned(), job)
            })
            .collect()
    }
}
