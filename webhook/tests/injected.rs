//! Injected pods as files that a person can review (`tests/snapshots/`), and what must hold for every pod.

#![allow(clippy::unwrap_used)] // a test fails by panicking; clippy.toml reaches only what is marked #[test]

use std::collections::BTreeMap;

use forestay_webhook::inject::cluster::Namespace;
use forestay_webhook::inject::settings::Settings;
use forestay_webhook::inject::{InjectError, Outcome, Request, inject, patch};
use proptest::prelude::*;
use serde_json::{Value, json};

fn settings(revision: &str, mesh: &str, values: &Value, native: bool) -> Settings {
    settings_with("", revision, mesh, values, native)
}

fn settings_with(config: &str, revision: &str, mesh: &str, values: &Value, native: bool) -> Settings {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let mut values = values.clone();
    // The goldens do not change with every version.
    values["global"]["tag"] = json!("1.2.3");
    let injector = map(&[("config", config), ("values", &values.to_string())]);
    Settings::read(revision, &map(&[("mesh", mesh)]), &injector, native).unwrap()
}

fn outcome(pod: &Value, settings: &Settings) -> Result<Outcome, InjectError> {
    inject(Request { pod, namespace: "bookinfo", about: None, variables: &[] }, settings)
}

fn injected(pod: &Value, settings: &Settings) -> Value {
    outcome(pod, settings).unwrap().pod.unwrap()
}

fn plain() -> Settings {
    settings("default", "", &json!({}), true)
}

fn annotated(annotations: &Value) -> Value {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = annotations.clone();
    pod
}

fn reviews() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "reviews-v1-7f-",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "7f"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-7f", "uid": "1", "controller": true},
            ],
        },
        "spec": {
            "serviceAccountName": "bookinfo-reviews",
            "containers": [{
                "name": "reviews", "image": "reviews:1", "ports": [{"containerPort": 9080}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    })
}

fn busy() -> Value {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = json!({
        "prometheus.io/scrape": "true", "prometheus.io/port": "9080", "prometheus.io/path": "/m",
        "proxy.istio.io/config": "concurrency: 2\nproxyMetadata: {A: b}\n",
        "sidecar.istio.io/proxyCPU": "50m",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
        "traffic.sidecar.istio.io/includeInboundPorts": "9080",
    });
    pod["spec"]["initContainers"] = json!([{"name": "wait", "image": "busybox"}]);
    let container = &mut pod["spec"]["containers"][0];
    container["ports"] = json!([{"containerPort": 9080, "name": "web"}]);
    container["livenessProbe"] =
        json!({"httpGet": {"path": "/live", "port": "web", "scheme": "HTTPS"}, "timeoutSeconds": 2});
    container["readinessProbe"] = json!({"tcpSocket": {"port": 9080}});
    container["startupProbe"] = json!({"grpc": {"port": 9080, "service": "s"}});
    container["lifecycle"] = json!({"preStop": {"httpGet": {"path": "/stop", "port": 9080}}});
    pod
}

fn overridden() -> Value {
    let mut pod = reviews();
    let own = json!({
        "name": "istio-proxy", "image": "auto", "env": [{"name": "EXTRA", "value": "1"}],
        "resources": {"requests": {"cpu": "1"}}, "securityContext": {"runAsUser": 2000},
    });
    pod["spec"]["containers"].as_array_mut().unwrap().push(own);
    pod
}

#[test]
fn a_native_sidecar() {
    insta::assert_yaml_snapshot!(injected(&reviews(), &settings("default", "", &json!({}), true)));
}

#[test]
fn a_classic_sidecar_by_annotation() {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = json!({"sidecar.istio.io/nativeSidecar": "false"});
    insta::assert_yaml_snapshot!(injected(&pod, &settings("default", "", &json!({}), true)));
}

#[test]
fn a_classic_sidecar_that_the_application_waits_for() {
    let mesh = "defaultConfig: {holdApplicationUntilProxyStarts: true}";
    insta::assert_yaml_snapshot!(injected(&reviews(), &settings("default", mesh, &json!({}), false)));
}

#[test]
fn probes_metrics_and_traffic_by_annotation() {
    insta::assert_yaml_snapshot!(injected(&busy(), &settings("default", "", &json!({}), true)));
}

#[test]
fn a_named_revision_in_another_namespace() {
    let mesh = "{trustDomain: example.org, defaultConfig: {discoveryAddress: 'istiod-canary.mesh.svc:15012'}}";
    let values = json!({"global": {"istioNamespace": "mesh", "imagePullSecrets": ["pull"], "network": "n1"}});
    insta::assert_yaml_snapshot!(injected(&reviews(), &settings("canary", mesh, &values, true)));
}

#[test]
fn the_users_own_proxy_container() {
    insta::assert_yaml_snapshot!(injected(&overridden(), &settings("default", "", &json!({}), true)));
}

#[test]
fn template_gateway() {
    let mut pod = reviews();
    pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "gateway"});
    pod["spec"]["containers"] = json!([{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8080}]}]);
    insta::assert_yaml_snapshot!(injected(&pod, &plain()));
}

#[test]
fn template_grpc_simple() {
    let pod = annotated(&json!({"inject.istio.io/templates": "grpc-simple"}));
    insta::assert_yaml_snapshot!(injected(&pod, &plain()));
}

#[test]
fn template_grpc_agent() {
    let pod = annotated(&json!({"inject.istio.io/templates": "grpc-agent"}));
    let outcome = outcome(&pod, &plain()).unwrap();
    insta::assert_yaml_snapshot!(outcome.pod.unwrap());
    assert!(outcome.warnings[0].contains("template grpc-agent"), "{:?}", outcome.warnings);
}

/// A user's template beside ours: what Istio's page on customizing injection shows.
const CUSTOM: &str = r#"
templates:
  custom: |
    metadata:
      labels:
        canonical: {{ index .ObjectMeta.Labels "app" | default .DeploymentMeta.Name | quote }}
    spec:
      containers:
      - name: istio-proxy
        env:
        - name: GREETING
          value: hello-{{ .ObjectMeta.Namespace }}
      {{- range .Spec.Containers }}
      {{- if ne .Name "istio-proxy" }}
      - name: {{ .Name }}
        env:
        - name: PORTS
          value: '{{ range $index, $port := .Ports }}{{ if $index }},{{ end }}{{ $port.ContainerPort }}{{ end }}'
      {{- end }}
      {{- end }}
      - name: helper
        image: {{ .Values.global.hub }}/helper:{{ .Values.global.tag }}
      volumes:
      - name: workload-socket
        csi: {driver: csi.spiffe.io, readOnly: true}
aliases:
  both: [sidecar, custom]
"#;

#[test]
fn template_of_the_user() {
    let settings = settings_with(CUSTOM, "default", "", &json!({"global": {"hub": "example.org/mesh"}}), true);
    let pod = annotated(&json!({"inject.istio.io/templates": "both"}));
    let once = injected(&pod, &settings);
    insta::assert_yaml_snapshot!(once);
    assert_eq!(injected(&once, &settings), once, "injecting again gives the same");
}

#[test]
fn redirection_by_a_cni_plugin() {
    let values = json!({"pilot": {"cni": {"enabled": true, "provider": "multus"}}});
    let pod = annotated(&json!({
        "k8s.v1.cni.cncf.io/networks": "other",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
    }));
    insta::assert_yaml_snapshot!(injected(&pod, &settings("default", "", &values, true)));
}

/// Each annotation, and what it changes: the difference to the same pod without it.
#[test]
fn annotations_one_by_one() {
    let rows = [
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("status.sidecar.istio.io/port", "15999"),
        ("readiness.status.sidecar.istio.io/initialDelaySeconds", "7"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "8"),
        ("readiness.status.sidecar.istio.io/failureThreshold", "9"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.1.0.0/16"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "80"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "81"),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "82"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "83"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth1"),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
        ("istio.io/reroute-virtual-interfaces", "net2"),
        ("prometheus.istio.io/merge-metrics", "false"),
        ("prometheus.istio.io/scrape-targets", "9090:/a,9091:/b"),
        ("prometheus.io/scrape", "false"),
        ("prometheus.io/port", "9090"),
        ("proxy.istio.io/config", "{concurrency: 3, proxyMetadata: {ISTIO_DUAL_STACK: 'true'}}"),
        ("sidecar.istio.io/proxyCPU", "1"),
        ("sidecar.istio.io/proxyMemory", "1Gi"),
        ("sidecar.istio.io/proxyCPULimit", "2"),
        ("sidecar.istio.io/proxyMemoryLimit", "2Gi"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
        ("sidecar.istio.io/proxyImage", "example.org/proxy:1"),
        ("sidecar.istio.io/proxyImageType", "debug"),
        ("sidecar.istio.io/logLevel", "debug"),
        ("sidecar.istio.io/agentLogLevel", "default:debug"),
        ("sidecar.istio.io/componentLogLevel", "misc:debug"),
        ("sidecar.istio.io/userVolume", r#"{"certs": {"secret": {"secretName": "x"}}}"#),
        ("sidecar.istio.io/userVolumeMount", r#"{"certs": {"mountPath": "/etc/certs"}}"#),
        ("sidecar.istio.io/capNetBindService", "true"),
        ("kubectl.kubernetes.io/default-container", "other"),
    ];
    let mut pod = reviews();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 9080}});
    let before = injected(&pod, &plain());
    let mut changes = serde_json::Map::new();
    for (name, value) in rows {
        pod["metadata"]["annotations"] = json!({name: value});
        let mut after = injected(&pod, &plain());
        // The annotation itself is no news.
        if before["metadata"]["annotations"][name].is_null() && after["metadata"]["annotations"][name] == value {
            after["metadata"]["annotations"].as_object_mut().unwrap().shift_remove(name);
        }
        let patch = patch::between(&before, &after);
        let lines = patch.iter().map(|operation| {
            let operation = json!(operation);
            let value = operation.get("value").map(|value| format!(" {value}")).unwrap_or_default();
            let text = |name: &str| operation[name].as_str().unwrap().to_owned();
            json!(format!("{} {}{value}", text("op"), text("path")))
        });
        changes.insert(format!("{name}: {value}"), lines.collect());
    }
    insta::assert_yaml_snapshot!(changes);
}

/// Name, what is changed in the pod, the pod's namespace, and what the outcome is: part of a warning, or of a refusal.
#[test]
fn what_cannot_be_done_or_will_surprise() {
    type Change = fn(&mut Value);
    let rows: [(&str, &str, Change, Expected); 20] = [
        (
            "DNS capture by the proxy's settings",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"proxy.istio.io/config": "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}"});
            },
            Expected::Warned("proxyMetadata ISTIO_META_DNS_CAPTURE has no effect: the proxy serves no DNS"),
        ),
        (
            "DNS capture by the pod's own istio-proxy",
            "",
            |pod| {
                let own = json!({"name": "istio-proxy", "env": [{"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}]});
                pod["spec"]["containers"].as_array_mut().unwrap().push(own);
            },
            Expected::Warned("environment ISTIO_META_DNS_CAPTURE has no effect"),
        ),
        (
            "DNS is not to be captured",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"proxy.istio.io/config": "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"false\"}"});
            },
            Expected::Quiet,
        ),
        ("nothing to say", "", |_| {}, Expected::Quiet),
        (
            "TPROXY by annotation",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "TPROXY"}),
            Expected::Refused("annotation sidecar.istio.io/interceptionMode: TPROXY"),
        ),
        (
            "TPROXY by the proxy's settings",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"proxy.istio.io/config": "interceptionMode: TPROXY"}),
            Expected::Refused("MeshConfig's defaultConfig): TPROXY"),
        ),
        (
            "a template that is not there",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "sidecar,other"}),
            Expected::Refused(
                "requested template \"other\" not found; have broken, gateway, grpc-agent, grpc-simple, loops, sidecar",
            ),
        ),
        (
            "a template that does not parse",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "sidecar,broken"}),
            Expected::Refused("template \"broken\" is broken: "),
        ),
        (
            "a template that does not end",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "loops"}),
            Expected::Refused("template \"loops\": its loops take more than 10000 turns"),
        ),
        (
            "requests above limits",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"sidecar.istio.io/proxyCPU": "2", "sidecar.istio.io/proxyCPULimit": "500m"});
            },
            Expected::Refused("sidecar.istio.io/proxyCPU (2) is more than sidecar.istio.io/proxyCPULimit (500m)"),
        ),
        (
            "Windows, by the pod's field",
            "",
            |pod| pod["spec"]["os"] = json!({"name": "windows"}),
            Expected::Skipped("nodes with Windows"),
        ),
        (
            "Windows, by the node's label",
            "",
            |pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"}),
            Expected::Skipped("nodes with Windows"),
        ),
        (
            "an application that is the proxy's user",
            "",
            |pod| pod["spec"]["securityContext"] = json!({"runAsUser": 1337}),
            Expected::Warned("user 1337 is the proxy's: connections that reviews makes"),
        ),
        (
            "a Job with a classic sidecar",
            "",
            |pod| {
                pod["spec"]["restartPolicy"] = json!("OnFailure");
                pod["metadata"]["annotations"] = json!({"sidecar.istio.io/nativeSidecar": "false"});
            },
            Expected::Warned("POST http://localhost:15020/quitquitquit"),
        ),
        ("a Job with a native one", "", |pod| pod["spec"]["restartPolicy"] = json!("OnFailure"), Expected::Quiet),
        (
            "Pod Security",
            "pod-security.kubernetes.io/enforce=baseline",
            |_| {},
            Expected::Warned("Pod Security \"baseline\" of namespace bookinfo will refuse this pod: istio-init needs"),
        ),
        (
            "outside the discovery selectors",
            "team=b",
            |_| {},
            Expected::Warned("outside MeshConfig's discoverySelectors"),
        ),
        (
            "names not by the cluster",
            "",
            |pod| pod["spec"]["dnsPolicy"] = json!("Default"),
            Expected::Warned("dnsPolicy Default"),
        ),
        (
            "gRPC's own xDS",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "grpc-simple"}),
            Expected::Warned("template grpc-simple: our control plane has no configuration"),
        ),
        (
            "an annotation without effect",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"sidecar.istio.io/statsCompression": "gzip"}),
            Expected::Warned("annotation sidecar.istio.io/statsCompression has no effect"),
        ),
    ];
    let config = "templates: {broken: '{{ if }}', loops: '{{ range 100000 }}{{ end }}'}";
    let mesh = "discoverySelectors: [{matchLabels: {team: a}}]";
    let settings = settings_with(config, "default", mesh, &json!({}), true);
    for (name, labels, change, expected) in rows {
        let mut pod = reviews();
        change(&mut pod);
        let labels = labels.split(',').filter_map(|pair| pair.split_once('='));
        let mut labels: BTreeMap<String, String> = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        labels.entry("team".to_owned()).or_insert_with(|| "a".to_owned());
        let about = Namespace::new(labels, BTreeMap::new());
        let result =
            inject(Request { pod: &pod, namespace: "bookinfo", about: Some(&about), variables: &[] }, &settings);
        match (expected, result) {
            (Expected::Refused(part), Err(error)) => assert!(error.to_string().contains(part), "{name}: {error}"),
            (Expected::Skipped(part), Ok(Outcome { pod: None, warnings, .. })) => {
                assert!(warnings[0].contains(part), "{name}: {warnings:?}");
            }
            (Expected::Warned(part), Ok(Outcome { pod: Some(_), warnings, .. })) => {
                assert!(warnings.iter().any(|warning| warning.contains(part)), "{name}: {warnings:?}");
                // What is longer, the API server cuts.
                assert!(warnings.iter().all(|warning| warning.len() <= 256), "{name}: {warnings:?}");
            }
            (Expected::Quiet, Ok(Outcome { pod: Some(_), warnings, .. })) => {
                assert_eq!(warnings, Vec::<String>::new(), "{name}");
            }
            (_, result) => panic!("{name}: {result:?}"),
        }
    }
}

enum Expected {
    Quiet,
    Warned(&'static str),
    Skipped(&'static str),
    Refused(&'static str),
}

#[test]
fn openshift_chooses_the_proxys_user() {
    let annotations = BTreeMap::from([("openshift.io/sa.scc.uid-range".to_owned(), "1000620000/10000".to_owned())]);
    let about = Namespace::new(BTreeMap::new(), annotations);
    // OpenShift has put its own choice into every container of the pod, the user's istio-proxy among them.
    let mut pod = overridden();
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container["securityContext"] = json!({"runAsUser": 1_000_620_000});
    }
    let request = Request { pod: &pod, namespace: "bookinfo", about: Some(&about), variables: &[] };
    let pod = inject(request, &plain()).unwrap().pod.unwrap();
    let [init, proxy] = [0, 1].map(|index| pod["spec"]["initContainers"][index].clone());
    assert_eq!(proxy["securityContext"]["runAsUser"], 1_000_629_999);
    assert_eq!(proxy["securityContext"]["runAsGroup"], 1_000_629_999);
    let args: Vec<&str> = init["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(args.windows(2).any(|pair| pair == ["-u", "1000629999"]), "{args:?}");
}

#[test]
fn the_network_is_the_pods_the_paths_the_settings_or_the_mesh_namespaces() {
    let settings = |network: &str| settings("default", "", &json!({"global": {"network": network}}), true);
    let mesh =
        Namespace::new(BTreeMap::from([("topology.istio.io/network".to_owned(), "n4".to_owned())]), BTreeMap::new());
    let cluster = forestay_webhook::inject::cluster::Cluster {
        namespaces: [("istio-system".to_owned(), mesh.into())].into(),
        ..Default::default()
    };
    let rows = [
        ("the pod's own", Some("n1"), Some("n2"), "n3", "n1"),
        ("the path's", None, Some("n2"), "n3", "n2"),
        ("the settings'", None, None, "n3", "n3"),
        ("the mesh namespace's", None, None, "", "n4"),
    ];
    for (name, own, path, set, expected) in rows {
        let mut pod = reviews();
        if let Some(own) = own {
            pod["metadata"]["labels"]["topology.istio.io/network"] = json!(own);
        }
        let variables: Vec<_> =
            path.map(|path| ("ISTIO_META_NETWORK".to_owned(), path.to_owned())).into_iter().collect();
        let settings = settings(set).within(cluster.clone().into());
        let request = Request { pod: &pod, namespace: "bookinfo", about: None, variables: &variables };
        let pod = inject(request, &settings).unwrap().pod.unwrap();
        assert_eq!(pod["metadata"]["labels"]["topology.istio.io/network"], expected, "{name}");
        let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let own: Vec<_> = env.iter().filter(|one| one["name"] == "ISTIO_META_NETWORK").collect();
        assert_eq!(own, [&json!({"name": "ISTIO_META_NETWORK", "value": expected})], "{name}");
    }
}

#[test]
fn a_pod_with_a_node_follows_its_kubelet() {
    let cluster = forestay_webhook::inject::cluster::Cluster {
        nodes: [("old".to_owned(), false), ("new".to_owned(), true)].into(),
        ..Default::default()
    };
    let rows = [
        ("auto: all kubelets", "auto", None, false),
        ("auto: the node's kubelet", "auto", Some("new"), true),
        ("auto: an old one", "auto", Some("old"), false),
        ("always", "true", Some("old"), true),
        ("never", "false", Some("new"), false),
    ];
    for (name, mode, node, native) in rows {
        let values = json!({"pilot": {"env": {"ENABLE_NATIVE_SIDECARS": mode}}});
        let settings = settings("default", "", &values, false).within(cluster.clone().into());
        let mut pod = reviews();
        if let Some(node) = node {
            pod["spec"]["nodeName"] = json!(node);
        }
        let pod = injected(&pod, &settings);
        assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), if native { 1 } else { 2 }, "{name}");
    }
}

/// `kubectl debug --copy-to`: the copy carries what was injected, without labels and probes, perhaps with another image.
#[test]
fn a_copy_for_debugging_has_one_proxy() {
    let mut copy = injected(&busy(), &plain());
    copy["metadata"] = json!({"name": "reviews-debug", "annotations": copy["metadata"]["annotations"]});
    let container = copy["spec"]["containers"][0].as_object_mut().unwrap();
    container.retain(|name, _| !name.ends_with("Probe") && name != "lifecycle");
    container.insert("image".to_owned(), json!("busybox"));
    copy["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "debugger", "image": "busybox", "stdin": true}));
    let again = injected(&copy, &plain());
    let names = |list: &str| -> Vec<String> {
        again["spec"][list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("containers"), ["reviews", "debugger"]);
    assert_eq!(names("initContainers"), ["istio-init", "istio-proxy", "wait"]);
    assert_eq!(again["spec"]["containers"][0]["image"], "busybox");
    assert_eq!(again["spec"]["containers"][0].get("livenessProbe"), None);
    let volumes = names("volumes");
    assert_eq!(volumes.iter().collect::<std::collections::BTreeSet<_>>().len(), volumes.len(), "{volumes:?}");
}

/// The API server names a pod of a template, and knows its namespace, only after admission.
#[test]
fn a_pod_without_name_and_namespace_has_a_workload() {
    let rows = [
        ("of a ReplicaSet", reviews(), "reviews-v1", "deployments/reviews-v1"),
        (
            "of nobody",
            json!({"metadata": {"generateName": "lone-"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}),
            "lone-",
            "pods/lone-",
        ),
        (
            "of nobody, without any name",
            json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "x"}]}}),
            "",
            "",
        ),
    ];
    for (name, pod, workload, owner) in rows {
        let pod = injected(&pod, &plain());
        let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let value = |name: &str| {
            env.iter()
                .find(|one| one["name"] == name)
                .and_then(|one| one["value"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(value("ISTIO_META_WORKLOAD_NAME"), workload, "{name}");
        assert!(value("ISTIO_META_OWNER").ends_with(owner), "{name}: {}", value("ISTIO_META_OWNER"));
        assert!(owner.is_empty() || value("ISTIO_META_OWNER").contains("/namespaces/bookinfo/"), "{name}");
    }
}

#[test]
fn ephemeral_containers_stay_as_they_are() {
    let mut pod = reviews();
    pod["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x", "targetContainerName": "reviews"}]);
    assert_eq!(injected(&pod, &plain())["spec"]["ephemeralContainers"], pod["spec"]["ephemeralContainers"]);
}

fn probe() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(json!({"exec": {"command": ["true"]}}))),
        Just(Some(json!({"httpGet": {"path": "/a", "port": "web"}}))),
        Just(Some(json!({"httpGet": {"port": 8080, "scheme": "HTTPS", "host": "h"}, "timeoutSeconds": 3}))),
        Just(Some(json!({"httpGet": {"port": "nowhere"}}))),
        Just(Some(json!({"httpGet": {"port": 15020, "path": "/x"}}))),
        Just(Some(json!({"tcpSocket": {"port": 81}}))),
        Just(Some(json!({"grpc": {"port": 82}}))),
    ]
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    (proptest::collection::vec(probe(), 3), any::<bool>()).prop_map(move |(probes, future)| {
        let mut container = json!({"name": name, "image": "x", "ports": [{"name": "web", "containerPort": 8080}]});
        for (field, probe) in ["livenessProbe", "readinessProbe", "startupProbe"].iter().zip(probes) {
            if let Some(probe) = probe {
                container[field] = probe;
            }
        }
        if future {
            container["fieldOfTheFuture"] = json!({"a": [1, null]});
        }
        container
    })
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pool = vec![
        ("sidecar.istio.io/nativeSidecar", "false"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
        ("status.sidecar.istio.io/port", "1234"),
        ("status.sidecar.istio.io/port", "0"),
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/scrape", "false"),
        ("prometheus.io/port", "80"),
        ("prometheus.io.path", "/m"),
        ("prometheus.io/port", "15020"),
        ("prometheus.istio.io/merge-metrics", "false"),
        ("prometheus.istio.io/scrape-targets", "8080:/a,8081"),
        ("proxy.istio.io/config", "concurrency: 0"),
        ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true"),
        ("inject.istio.io/templates", "sidecar,custom"),
        ("inject.istio.io/templates", "custom"),
        ("inject.istio.io/templates", "grpc-simple"),
        ("inject.istio.io/templates", "grpc-agent"),
        ("inject.istio.io/templates", "gateway"),
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("sidecar.istio.io/userVolume", r#"{"v": {"emptyDir": {}}}"#),
        ("sidecar.istio.io/status", "injected"),
        ("kubectl.kubernetes.io/default-container", "b"),
    ];
    proptest::collection::vec(proptest::sample::select(pool), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

fn own_proxy() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(json!({"name": "istio-proxy", "image": "auto"}))),
        1 => Just(Some(json!({"name": "istio-proxy", "image": "mine", "args": ["x"], "securityContext": {"runAsUser": 7}}))),
    ]
}

prop_compose! {
    fn pods()(
        annotations in annotations(), a in container("a"), b in container("b"), init in container("init"),
        with_init in any::<bool>(), with_labels in any::<bool>(), own in own_proxy(), future in any::<bool>(),
    ) -> Value {
        let mut pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [a, b]}});
        if !annotations.is_empty() {
            pod["metadata"]["annotations"] = json!(annotations);
        }
        if with_labels {
            pod["metadata"]["labels"] = json!({"app": "p", "security.istio.io/tlsMode": "disabled"});
        }
        if with_init {
            pod["spec"]["initContainers"] = json!([init]);
        }
        if let Some(own) = own {
            pod["spec"]["containers"].as_array_mut().unwrap().push(own);
        }
        if future {
            pod["spec"]["fieldOfTheFuture"] = json!([true]);
        }
        pod
    }
}

/// What of a container must be the same after injection: all but probes and hooks. Templates may add variables and
/// mounts, behind which the user's own stand.
fn unchanged(before: &Value, after: &Value) -> bool {
    let own = before.as_object().unwrap().iter();
    let mut own = own.filter(|(name, _)| !name.ends_with("Probe") && *name != "lifecycle");
    own.all(|(name, value)| match (value, &after[name]) {
        (Value::Array(value), Value::Array(after)) if matches!(name.as_str(), "env" | "volumeMounts") => {
            value.iter().all(|one| after.contains(one))
        }
        (value, after) => value == after,
    })
}

proptest! {
    #[test]
    fn for_every_pod(pod in pods(), native in any::<bool>(), revision in prop_oneof![Just("default"), Just("canary")]) {
        let settings = settings_with(CUSTOM, revision, "", &json!({"global": {"hub": "h"}}), native);
        let once = injected(&pod, &settings);

        // The patch says exactly what changed.
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch::between(&pod, &once)).unwrap();
        prop_assert_eq!(&patched, &once);

        // Injecting again gives the same.
        let twice = injected(&once, &settings);
        prop_assert_eq!(&twice, &once);

        // What is the user's stays as it was.
        let all = |pod: &Value| -> Vec<Value> {
            let lists = ["containers", "initContainers"].iter().filter_map(|list| pod["spec"][list].as_array().cloned());
            lists.flatten().collect()
        };
        for before in all(&pod).iter().filter(|container| container["name"] != "istio-proxy") {
            let containers = all(&once);
            let after = containers.iter().find(|container| container["name"] == before["name"]).unwrap();
            prop_assert!(unchanged(before, after), "{} became {}", before, after);
        }
        prop_assert_eq!(&once["spec"]["fieldOfTheFuture"], &pod["spec"]["fieldOfTheFuture"]);

        // And there is never a second proxy.
        let proxies = all(&once).iter().filter(|container| container["name"] == "istio-proxy").count();
        prop_assert!(proxies <= 1);
        let templates = pod["metadata"]["annotations"]["inject.istio.io/templates"].as_str().unwrap_or("sidecar");
        prop_assert!(proxies == 1 || templates == "grpc-simple");
    }
}
