//! What is refused, left out, or only warned of.

use std::collections::BTreeMap;

use forestay_webhook::inject::cluster::Namespace;
use forestay_webhook::inject::{Outcome, Request, inject};
use serde_json::{Value, json};

use super::{reviews, settings_with};

/// Name, what is changed in the pod, the pod's namespace, and what the outcome is: part of a warning, or of a refusal.
#[test]
fn what_cannot_be_done_or_will_surprise() {
    type Change = fn(&mut Value);
    let rows: &[(&str, &str, Change, Expected)] = &[
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
            "certificates for somebody else",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"proxy.istio.io/config": "proxyMetadata: {OUTPUT_CERTS: /etc/certs}"});
            },
            Expected::Warned("proxyMetadata OUTPUT_CERTS has no effect: a sidecar keeps its certificate to itself"),
        ),
        (
            "HBONE",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"proxy.istio.io/config": "proxyMetadata: {ISTIO_META_ENABLE_HBONE: \"true\"}"});
            },
            Expected::Warned("proxyMetadata ISTIO_META_ENABLE_HBONE has no effect: there is no HBONE"),
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
            Expected::Quiet,
        ),
        (
            "TPROXY by the proxy's settings, and an application that is of the proxy's group",
            "",
            |pod| {
                pod["metadata"]["annotations"] = json!({"proxy.istio.io/config": "interceptionMode: TPROXY"});
                pod["spec"]["containers"][0]["securityContext"] = json!({"runAsGroup": 1337});
            },
            Expected::Warned("group 1337 is the proxy's: connections that reviews makes as this group"),
        ),
        (
            "TPROXY and a proxy of another group than its user",
            "",
            |pod| {
                pod["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "TPROXY"});
                let own = json!({"name": "istio-proxy", "image": "auto", "securityContext": {"runAsUser": 1234, "runAsGroup": 4321}});
                pod["spec"]["containers"].as_array_mut().unwrap().push(own);
            },
            Expected::Warned("istio-init takes to be 1234 and istio-proxy says is 4321; set runAsGroup to 1234"),
        ),
        (
            "a template that is not there",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "sidecar,other"}),
            Expected::Refused(
                "requested template \"other\" not found; have broken, gateway, grpc-agent, grpc-simple, host, loops, more, name, sidecar",
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
            "ports of traffic that is not captured",
            "",
            |pod| {
                pod["metadata"]["annotations"] = json!({
                    "proxy.istio.io/config": "interceptionMode: NONE",
                    "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
                });
            },
            Expected::Warned(
                "excludeOutboundPorts has no effect: with interceptionMode NONE no connection is captured",
            ),
        ),
        (
            "thousandths of bytes",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"sidecar.istio.io/proxyMemory": "128m"}),
            Expected::Warned("annotation sidecar.istio.io/proxyMemory: \"128m\" is less than a mebibyte"),
        ),
        (
            "a drain that is cut short",
            "",
            |pod| {
                pod["metadata"]["annotations"] = json!({"proxy.istio.io/config": "terminationDrainDuration: 60s"});
            },
            Expected::Warned("terminationDrainDuration 60s is longer than terminationGracePeriodSeconds, 30"),
        ),
        (
            "a drain that has its time",
            "",
            |pod| {
                pod["spec"]["terminationGracePeriodSeconds"] = json!(60);
                pod["metadata"]["annotations"] = json!({"proxy.istio.io/config": "terminationDrainDuration: 60s"});
            },
            Expected::Quiet,
        ),
        (
            "kept containers that are no list",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"proxy.istio.io/overrides": r#"{"containers": {}}"#}),
            Expected::Refused(
                "annotation 'proxy.istio.io/overrides': containers must be a list of containers with their names",
            ),
        ),
        (
            "a member of a volume that Kubernetes does not have",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"sidecar.istio.io/userVolume": r#"{"certs": {"configmap": {"name": "x"}}}"#});
            },
            Expected::Warned("configmap of volume \"certs\" is not known and has no effect; is configMap meant?"),
        ),
        (
            "more containers than a node could run",
            "",
            |pod| {
                let containers = pod["spec"]["containers"].as_array_mut().unwrap();
                containers.extend((0..1000).map(|index| json!({"name": format!("c{index}")})));
            },
            Expected::Refused("spec.containers has 1001 entries, of which injection takes 1000"),
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
            Expected::Warned("template grpc-simple: the control plane serves plaintext xDS"),
        ),
        (
            "an annotation without effect",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"sidecar.istio.io/statsCompression": "gzip"}),
            Expected::Warned("annotation sidecar.istio.io/statsCompression has no effect"),
        ),
        (
            "the node's network",
            "",
            |pod| pod["spec"]["hostNetwork"] = json!(true),
            Expected::Skipped("the pod uses its node's network"),
        ),
        (
            "Windows, by affinity",
            "",
            |pod| {
                let os =
                    json!({"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["windows"]}]});
                pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                    json!({"nodeSelectorTerms": [os]});
            },
            Expected::Skipped("nodes with Windows"),
        ),
        (
            "Windows or Linux, by affinity",
            "",
            |pod| {
                let os = |name: &str| json!({"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": [name]}]});
                pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                    json!({"nodeSelectorTerms": [os("windows"), os("linux")]});
            },
            Expected::Quiet,
        ),
        (
            "the mirror of a static pod",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "0a1b"}),
            Expected::Left,
        ),
        (
            "a gateway that is not injected",
            "",
            |pod| {
                pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
                pod["spec"]["containers"] = json!([{"name": "istio-proxy", "image": "auto"}]);
            },
            Expected::Skipped("image \"auto\" of istio-proxy is for injection to fill in"),
        ),
        (
            "a volume of the proxy's name",
            "",
            |pod| pod["spec"]["volumes"] = json!([{"name": "istio-data", "persistentVolumeClaim": {"claimName": "c"}}]),
            Expected::Refused("volume \"istio-data\" of the pod has the name of a volume that injection adds"),
        ),
        (
            "an application of the proxy's group",
            "",
            |pod| pod["spec"]["containers"][0]["securityContext"] = json!({"runAsGroup": 1337}),
            Expected::Warned("group 1337 is the proxy's: connections that reviews makes as this group"),
        ),
        (
            "an init container of the proxy's user, which goes around redirection on purpose",
            "",
            |pod| {
                let user = json!({"runAsUser": 1337});
                pod["spec"]["initContainers"] = json!([{"name": "i", "image": "x", "securityContext": user}]);
            },
            Expected::Quiet,
        ),
        (
            "a port of the proxy",
            "",
            |pod| pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 15021}]),
            Expected::Warned("port 15021 of container reviews is the proxy's"),
        ),
        (
            "the agent's port moved onto the application's",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"status.sidecar.istio.io/port": "9080"}),
            Expected::Warned("port 9080 of container reviews is the proxy's"),
        ),
        (
            "the agent's port moved",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"status.sidecar.istio.io/port": "15999"}),
            Expected::Warned("probes go to port 15999; metrics stay at port 15020"),
        ),
        (
            "a variant of the image",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"sidecar.istio.io/proxyImageType": "distroless"}),
            Expected::Warned("image type \"distroless\": docker.io/forestay has no such variant"),
        ),
        (
            "a variant of a whole image",
            "",
            |pod| {
                pod["metadata"]["annotations"] = json!({
                    "sidecar.istio.io/proxyImage": "example.org/p:1", "sidecar.istio.io/proxyImageType": "debug",
                });
            },
            Expected::Warned("proxyImageType has no effect: example.org/p:1 is a whole image"),
        ),
        (
            "the pod's limit below the proxy's",
            "",
            |pod| pod["spec"]["resources"] = json!({"limits": {"cpu": "1"}}),
            Expected::Warned("the cpu limit of istio-init is above the pod's own limit (spec.resources)"),
        ),
        (
            "the pod's requests without room for the proxy",
            "",
            |pod| {
                pod["spec"]["resources"] = json!({"requests": {"memory": "300Mi"}});
                pod["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "200Mi"}});
            },
            Expected::Warned("the memory requests with that of istio-proxy is above the pod's own request"),
        ),
        (
            "the pod's resources with room",
            "",
            |pod| {
                pod["spec"]["resources"] = json!({"requests": {"cpu": "0.4"}, "limits": {"cpu": "2", "memory": "2Gi"}});
                pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "0.3"}});
            },
            Expected::Quiet,
        ),
        (
            "a native sidecar alone",
            "",
            |pod| pod["spec"]["containers"] = json!([{"name": "istio-proxy", "image": "auto"}]),
            Expected::Warned("its only container is istio-proxy, a native sidecar"),
        ),
        (
            "an image for injection to fill in, of another container",
            "",
            |pod| pod["spec"]["containers"][0]["image"] = json!("auto"),
            Expected::Warned("image \"auto\" of container reviews stays"),
        ),
        (
            "a mount without a volume",
            "",
            |pod| {
                pod["metadata"]["annotations"] =
                    json!({"sidecar.istio.io/userVolumeMount": "{\"v\": {\"mountPath\": \"/v\"}}"});
            },
            Expected::Warned("istio-proxy mounts \"v\", which is no volume of the pod"),
        ),
        (
            "a template for a proxy that is not there",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "more"}),
            Expected::Warned("istio-proxy has no image, as none of its templates adds the proxy"),
        ),
        (
            "a template that gives the pod another name",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "sidecar,name"}),
            Expected::Refused("template \"name\": it changes metadata.name, which no template may"),
        ),
        (
            "a template that takes the node's network",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "sidecar,host"}),
            Expected::Refused("template \"host\": it changes spec.hostNetwork"),
        ),
        (
            "a label of ambient mode",
            "",
            |pod| pod["metadata"]["labels"]["istio.io/dataplane-mode"] = json!("ambient"),
            Expected::Warned("there is no ambient mode"),
        ),
        (
            "a field of ProxyConfig without effect",
            "",
            |pod| pod["metadata"]["annotations"] = json!({"proxy.istio.io/config": "tracing: {}"}),
            Expected::Warned("proxy.istio.io/config: tracing has no effect"),
        ),
        (
            "metrics over TLS",
            "",
            |pod| {
                pod["metadata"]["annotations"] = json!({"prometheus.io/scheme": "https", "prometheus.io/scrape": "true", "prometheus.io/port": "9080"});
            },
            Expected::Warned("prometheus.io/scheme https"),
        ),
        (
            "a probe of another host",
            "",
            |pod| pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 9080, "host": "h"}}),
            Expected::Warned("readinessProbe of container reviews: host h is left out"),
        ),
        (
            "a probe of another host that stays as it is",
            "",
            |pod| {
                pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 9080, "host": "h"}});
                pod["metadata"]["annotations"] = json!({"sidecar.istio.io/rewriteAppHTTPProbers": "false"});
            },
            Expected::Quiet,
        ),
    ];
    let config = "templates: {broken: '{{ if }}', loops: '{{ range 100000 }}{{ end }}', \
        more: 'spec: {containers: [{name: istio-proxy, env: [{name: A, value: b}]}]}', \
        name: 'metadata: {name: x}', host: 'spec: {hostNetwork: true}'}";
    let mesh = "discoverySelectors: [{matchLabels: {team: a}}]";
    let settings = settings_with(config, "default", mesh, &json!({}), true);
    for &(name, labels, change, expected) in rows {
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
            (Expected::Left, Ok(Outcome { pod: None, warnings, .. }))
            | (Expected::Quiet, Ok(Outcome { pod: Some(_), warnings, .. })) => {
                assert_eq!(warnings, Vec::<String>::new(), "{name}");
            }
            (_, result) => panic!("{name}: {result:?}"),
        }
    }
}

#[derive(Clone, Copy)]
enum Expected {
    /// Injected, and nothing to say.
    Quiet,
    /// Not injected, and nothing to say.
    Left,
    Warned(&'static str),
    Skipped(&'static str),
    Refused(&'static str),
}

#[test]
fn a_broken_policy_is_told_to_who_makes_a_pod() {
    let settings = settings_with("policy: sometimes", "canary", "", &json!({}), true);
    let request = Request { pod: &reviews(), namespace: "bookinfo", about: None, variables: &[] };
    let outcome = inject(request, &settings).unwrap();
    assert!(outcome.pod.is_none());
    let expected = "no pod gets a sidecar: policy in ConfigMap istio-sidecar-injector-canary, key config, is neither enabled nor disabled";
    assert_eq!(outcome.warnings, [expected]);
}
