//! Which specs are refused, and what the others mean.

use std::collections::BTreeMap;

use crds::install::condition::Reason;
use crds::install::{ImagesStatus, MeshInstallSpec};
use serde_json::{Value, json};

use super::{RelatedImages, validate};
use crate::addons::AddonKind;
use crate::meshinstall::dereference::{Dereferenced, NamespaceState, Other};

fn spec(value: Value) -> MeshInstallSpec {
    serde_json::from_value(value).expect("a spec")
}

pub(crate) fn read(value: Value) -> Dereferenced {
    Dereferenced { name: "default".into(), uid: "uid".into(), spec: spec(value), ..Dereferenced::default() }
}

#[test]
fn what_cannot_work_names_its_field() {
    let taken = |namespace: &str, older| Other {
        name: "first".into(),
        namespace: namespace.into(),
        revision: "default".into(),
        older,
        addons: Vec::new(),
    };
    let rows: Vec<(&str, Dereferenced, Reason, &str)> = vec![
        (
            "a version that we do not have",
            read(json!({"version": "9.9.9"})),
            Reason::UnknownVersion,
            "spec.version: \"9.9.9\" is of another major version than this operator",
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
            "a Helm value that is a text instead of a switch",
            read(json!({"values": {"sidecarInjectorWebhook": {"enableNamespacesByDefault": "true"}}})),
            Reason::InvalidSpec,
            "spec.values.sidecarInjectorWebhook.enableNamespacesByDefault: \"true\" is neither true nor false",
        ),
        (
            "a Helm value that spec says elsewhere",
            read(json!({"values": {"global": {"istioNamespace": "other"}}})),
            Reason::InvalidSpec,
            "spec.values.global.istioNamespace: \"other\" is not \"istio-system\"",
        ),
        (
            "two addons with the same Services",
            read(json!({"addons": {"jaeger": {}, "zipkin": {"externalURL": "http://zipkin.example.org"}}})),
            Reason::InvalidSpec,
            "spec.addons.zipkin: excludes jaeger, both are the Services tracing and zipkin",
        ),
        (
            "an address that is none",
            read(json!({"addons": {"prometheus": {"externalURL": "prometheus.example.org:9090"}}})),
            Reason::InvalidSpec,
            "spec.addons.prometheus.externalURL: \"prometheus.example.org:9090\" is not an address such as https://",
        ),
        (
            "an address of a file",
            read(json!({"addons": {"grafana": {"externalURL": "file:///grafana"}}})),
            Reason::InvalidSpec,
            "spec.addons.grafana.externalURL: \"file:///grafana\" is not an address",
        ),
        (
            "an addon elsewhere with an image",
            read(json!({"addons": {"jaeger": {"externalURL": "https://jaeger.example.org", "image": "a/b:1"}}})),
            Reason::InvalidSpec,
            "spec.addons.jaeger.image: with externalURL nothing is deployed; remove one of the two",
        ),
        (
            "an addon elsewhere with overlays",
            read(json!({"addons": {"zipkin": {
                "externalURL": "https://zipkin.example.org", "overlays": [{"kind": "Service", "patch": {}}],
            }}})),
            Reason::InvalidSpec,
            "spec.addons.zipkin.overlays: with externalURL nothing is deployed",
        ),
        (
            "a Kiali elsewhere",
            read(json!({"addons": {"kiali": {"externalURL": "https://kiali.example.org"}}})),
            Reason::InvalidSpec,
            "spec.addons.kiali.externalURL: nothing asks Kiali for anything",
        ),
        (
            "a volume for what keeps no data",
            read(json!({"addons": {"zipkin": {"persistence": {}}}})),
            Reason::InvalidSpec,
            "spec.addons.zipkin.persistence: zipkin keeps no data on a volume; remove it",
        ),
        (
            "an addon's overlay that changes a selector",
            read(
                json!({"addons": {"grafana": {"overlays": [{"kind": "Service", "patch": {"spec": {"selector": {"a": "b"}}}}]}}}),
            ),
            Reason::InvalidSpec,
            "spec.addons.grafana.overlays[0].patch.spec.selector: is the operator's own",
        ),
        (
            "a label of ours on an addon's pods",
            read(json!({"addons": {"kiali": {"pod": {"labels": {"app.kubernetes.io/name": "x"}}}}})),
            Reason::InvalidSpec,
            "spec.addons.kiali.pod.labels: label \"app.kubernetes.io/name\" is the operator's own",
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
    let other = Other {
        name: "b".into(),
        namespace: "istio-system".into(),
        revision: "default".into(),
        older: false,
        addons: Vec::new(),
    };
    assert!(validate(&Dereferenced { others: vec![other], ..read(json!({})) }, &RelatedImages::default()).is_ok());
}

#[test]
fn an_image_is_the_specs_then_the_environments_then_the_default() {
    let related = RelatedImages {
        forestay: Some("mirror/forestay@sha256:1".into()),
        proxy: Some("mirror/proxyv2@sha256:2".into()),
        addons: BTreeMap::new(),
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

/// An addon is wanted when it stands in the spec; its image is the spec's, then the environment's, then the sample's.
#[test]
fn which_addons_are_deployed_and_which_are_elsewhere() {
    let related = RelatedImages {
        addons: [(AddonKind::Grafana, "mirror/grafana@sha256:3".to_owned())].into(),
        ..RelatedImages::default()
    };
    let spec = json!({"hub": "example.org/mesh", "addons": {
        "prometheus": {"externalURL": "https://prometheus.example.org/"},
        "grafana": {},
        "kiali": {"image": "example.org/kiali:1"},
        "jaeger": {"enabled": false},
        "zipkin": {"enabled": true},
    }});
    let addons = validate(&read(spec), &related).expect("valid").addons;
    let deployed: Vec<(AddonKind, &str)> =
        addons.deployed.iter().map(|(kind, addon)| (*kind, addon.image.as_str())).collect();
    let expected = [
        (AddonKind::Grafana, "mirror/grafana@sha256:3"),
        (AddonKind::Kiali, "example.org/kiali:1"),
        (AddonKind::Zipkin, names::images::ZIPKIN),
    ];
    assert_eq!(deployed, expected);
    let external: Vec<_> = addons.external.into_iter().collect();
    assert_eq!(external, [(AddonKind::Prometheus, "https://prometheus.example.org".to_owned())]);
}

#[test]
fn an_older_install_of_the_namespace_contests_an_addon() {
    let other = |older, namespace: &str, addon| Other {
        name: "first".into(),
        namespace: namespace.into(),
        revision: "first".into(),
        older,
        addons: vec![addon],
    };
    for (name, other, contested) in [
        ("the same", other(true, "istio-system", AddonKind::Zipkin), true),
        ("the other owner of its Services", other(true, "istio-system", AddonKind::Jaeger), true),
        ("another addon", other(true, "istio-system", AddonKind::Grafana), false),
        ("another namespace", other(true, "mesh", AddonKind::Zipkin), false),
        ("younger", other(false, "istio-system", AddonKind::Zipkin), false),
    ] {
        let read = Dereferenced { others: vec![other], ..read(json!({"addons": {"zipkin": {}}})) };
        let addons = validate(&read, &RelatedImages::default()).expect(name).addons;
        assert_eq!(addons.contested.contains_key(&AddonKind::Zipkin), contested, "{name}");
    }
}

#[test]
fn the_version_in_force_keeps_its_images() {
    let (own, earlier) = (crate::version::own(), crate::version::oldest(&crate::version::own()).to_string());
    let related = RelatedImages {
        forestay: Some("new/forestay@sha256:1".into()),
        proxy: Some("new/proxyv2@sha256:2".into()),
        ..RelatedImages::default()
    };
    let images = ImagesStatus { forestay: "old/forestay@sha256:3".into(), proxy: "old/proxyv2@sha256:4".into() };
    let (default, of_own) = (format!("docker.io/forestay/forestay:{earlier}"), own.to_string());
    for (name, spec, in_force, recorded, image) in [
        ("in force", json!({"version": earlier}), Some(&earlier), Some(&images), "old/forestay@sha256:3"),
        ("in force, and not recorded", json!({"version": earlier}), Some(&earlier), None, &default),
        ("first installed", json!({"version": earlier}), None, None, &default),
        (
            "the spec names a hub",
            json!({"version": earlier, "hub": "a.b/c"}),
            Some(&earlier),
            Some(&images),
            &format!("a.b/c/forestay:{earlier}"),
        ),
        (
            "on the way to the operator's",
            json!({"version": of_own}),
            Some(&earlier),
            Some(&images),
            "new/forestay@sha256:1",
        ),
        (
            "refused, so what is in force",
            json!({"version": "x"}),
            Some(&earlier),
            Some(&images),
            "old/forestay@sha256:3",
        ),
    ] {
        let read = Dereferenced { in_force: in_force.cloned(), images_in_force: recorded.cloned(), ..read(spec) };
        let mesh = validate(&read, &related).expect(name);
        assert_eq!(mesh.control_plane.map(|workload| workload.image).unwrap_or_default(), image, "{name}");
    }
}
