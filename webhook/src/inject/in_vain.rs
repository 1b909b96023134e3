//! What the annotations and labels of a pod ask for in vain: said at admission, never passed over in silence.

use std::collections::BTreeMap;

use crds::meshconfig::fields::{Effect, PROXY_FIELDS};
use crds::quantity::amount;
use serde_json::{Map, Value};

use super::settings::Settings;
use super::{annotations as annotation, members};

/// Annotations of Istio's that have no effect here, and why. A name that ends in a slash stands for all below it.
const NO_EFFECT: [(&str, &str); 16] = [
    (annotation::BOOTSTRAP_OVERRIDE, "the proxy has no Envoy bootstrap"),
    ("sidecar.istio.io/componentLogLevel", "the proxy has one log level; use sidecar.istio.io/logLevel"),
    ("sidecar.istio.io/extraStatTags", "the proxy's metrics have Istio's labels; use Telemetry"),
    ("sidecar.istio.io/statsCompression", "the proxy's metrics are not compressed"),
    ("sidecar.istio.io/statsEvictionInterval", "metrics are kept as long as the proxy runs"),
    ("sidecar.istio.io/statsFlushInterval", "metrics are made when they are asked for"),
    ("sidecar.istio.io/statsHistogramBins", "histograms have Istio's buckets"),
    ("sidecar.istio.io/statsHistogramBuckets", "histograms have Istio's buckets"),
    ("sidecar.istio.io/statsInclusionPrefixes", "the proxy has no statistics of Envoy's"),
    ("sidecar.istio.io/statsInclusionRegexps", "the proxy has no statistics of Envoy's"),
    ("sidecar.istio.io/statsInclusionSuffixes", "the proxy has no statistics of Envoy's"),
    ("readiness.status.sidecar.istio.io/applicationPorts", "readiness does not wait for ports of the application"),
    ("prometheus.istio.io/secure-port", "metrics are served in plaintext"),
    ("apm.datadoghq.com/env", "there is no tracing by Datadog"),
    ("ambient.istio.io/", "there is no ambient mode"),
    ("alpha.istio.io/", "Istio has given it up"),
];

/// Annotations on pods that are read, or written, by this injection.
const KNOWN: [&str; 37] = [
    annotation::INTERCEPTION_MODE,
    annotation::STATUS_PORT,
    annotation::INITIAL_DELAY,
    annotation::PERIOD,
    annotation::FAILURE_THRESHOLD,
    annotation::INCLUDE_OUTBOUND_RANGES,
    annotation::EXCLUDE_OUTBOUND_RANGES,
    annotation::INCLUDE_INBOUND_PORTS,
    annotation::EXCLUDE_INBOUND_PORTS,
    annotation::INCLUDE_OUTBOUND_PORTS,
    annotation::EXCLUDE_OUTBOUND_PORTS,
    annotation::EXCLUDE_INTERFACES,
    annotation::KUBEVIRT_INTERFACES,
    annotation::REROUTE_INTERFACES,
    annotation::MERGE_METRICS,
    annotation::PROXY_CPU,
    annotation::PROXY_MEMORY,
    annotation::PROXY_CPU_LIMIT,
    annotation::PROXY_MEMORY_LIMIT,
    annotation::REWRITE_PROBES,
    annotation::PROXY_IMAGE,
    annotation::PROXY_IMAGE_TYPE,
    annotation::LOG_LEVEL,
    annotation::AGENT_LOG_LEVEL,
    annotation::USER_VOLUME,
    annotation::USER_VOLUME_MOUNT,
    annotation::CAP_NET_BIND,
    annotation::TEMPLATES,
    names::annotations::DISCOVERY_ADDRESS,
    names::annotations::NATIVE_SIDECAR,
    names::annotations::PROXY_CONFIG,
    names::annotations::PROXY_OVERRIDES,
    names::annotations::STATUS,
    names::labels::INJECT,
    names::labels::REVISION,
    super::prometheus::TARGETS,
    // Read by the control plane and by tools, on pods too.
    "galley.istio.io/analyze-suppress",
];

/// Where the names of annotations for injection begin; those of other parts are none of ours.
const OURS: [&str; 7] = [
    "sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
    "proxy.istio.io/",
    "inject.istio.io/",
    "prometheus.istio.io/",
];

/// Labels of Istio's on pods that have no effect here, and why.
const NO_EFFECT_AS_LABEL: [(&str, &str); 6] = [
    ("istio.io/use-waypoint", "there are no waypoints"),
    ("istio.io/use-waypoint-namespace", "there are no waypoints"),
    ("istio.io/ingress-use-waypoint", "there are no waypoints"),
    ("istio-locality", "endpoints have no locality"),
    ("topology.istio.io/subzone", "endpoints have no locality"),
    ("networking.istio.io/tunnel", "there is no HBONE"),
];

/// What a pod asks for in vain.
pub(crate) fn asked(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) {
    for (name, value) in annotations {
        let matches = |one: &str| one == name || (one.ends_with('/') && name.starts_with(one));
        if let Some((_, why)) = NO_EFFECT.iter().find(|(one, _)| matches(one)) {
            warnings.push(format!("annotation {name} has no effect: {why}"));
        } else if OURS.iter().any(|prefix| name.starts_with(prefix)) {
            if !KNOWN.contains(&name.as_str()) {
                let meant = crds::nearest(name, KNOWN).map(|known| format!("; is {known} meant?")).unwrap_or_default();
                warnings.push(format!("annotation {name} is not known and has no effect{meant}"));
            }
        } else if let Some(known) = of_another_domain(name, &KNOWN) {
            warnings.push(format!("annotation {name} is not known and has no effect; is {known} meant?"));
        }
        members::of_volumes(name, value, warnings);
        warnings.extend(taken_for(name, value).map(|taken| format!("annotation {name}: {taken}")));
    }
    as_labels(labels, warnings);
    let name = names::annotations::PROXY_CONFIG;
    let fields = annotations.get(name).and_then(|yaml| annotation::proxy_config_fields(yaml).ok()).unwrap_or_default();
    proxy_config(name, &fields, warnings);
    overrides(annotations, warnings);
    traffic(annotations, &fields, settings, warnings);
    revision(annotations, settings, warnings);
}

/// The known name of which a name has the last part, in a domain that is Istio's or a slip of it: `sidecar.isito.io/inject`,
/// `traffic.istio.io/excludeInboundPorts`.
fn of_another_domain<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let (domain, last) = name.split_once('/')?;
    let same = known.iter().copied().filter(|known| *known != name && *known != names::annotations::STATUS);
    let mut same = same.filter_map(|known| Some((known, known.split_once('/').filter(|(_, own)| *own == last)?.0)));
    // Others have annotations of these names too.
    let near = |own: &str| domain.ends_with(".istio.io") || crds::nearest(domain, [own]).is_some();
    same.find(|(_, own)| near(own)).map(|(known, _)| known)
}

/// What a value that is none of an annotation's counts as.
fn taken_for(name: &str, value: &str) -> Option<String> {
    let short: String = value.chars().take(40).collect();
    match name {
        annotation::REWRITE_PROBES => annotation::boolean(value)
            .is_err()
            .then(|| format!("\"{short}\" counts as \"false\": probes are left as they are")),
        annotation::CAP_NET_BIND => (!matches!(value, "true" | "false"))
            .then(|| format!("\"{short}\" counts as \"false\": only \"true\" gives the capability")),
        annotation::LOG_LEVEL => (!is_level(value)).then(|| format!("\"{short}\" counts as \"warning\"; {LEVELS}")),
        annotation::AGENT_LOG_LEVEL => agent_level(value),
        // A slip for "Mi": thousandths of bytes are legal.
        annotation::PROXY_MEMORY | annotation::PROXY_MEMORY_LIMIT => amount(value)
            .is_some_and(|bytes| bytes > 0.0 && bytes < 1_048_576.0)
            .then(|| format!("\"{short}\" is less than a mebibyte: write \"128Mi\" for 128 of them")),
        // The API server takes nothing for its default.
        annotation::PERIOD if is_nothing(value) => Some("0 counts as 10, which is Kubernetes' default".to_owned()),
        annotation::FAILURE_THRESHOLD if is_nothing(value) => {
            Some("0 counts as 3, which is Kubernetes' default".to_owned())
        }
        _ => None,
    }
}

fn is_nothing(number: &str) -> bool {
    number.bytes().all(|digit| digit == b'0')
}

const LEVELS: &str = "levels are trace, debug, info, warning, error and off";

fn is_level(name: &str) -> bool {
    matches!(name, "trace" | "debug" | "info" | "warning" | "warn" | "error" | "critical" | "fatal" | "off" | "none")
}

/// Of Istio's levels by scope the agent has one, the default.
fn agent_level(value: &str) -> Option<String> {
    let mut scopes = value.split(',').map(|scope| scope.split_once(':').unwrap_or(("default", scope)));
    scopes.find_map(|(scope, level)| {
        let (scope, level): (String, String) = (scope.chars().take(40).collect(), level.chars().take(40).collect());
        if !matches!(scope.as_str(), "default" | "all") {
            return Some(format!("scope \"{scope}\" has no effect: the agent has one level, that of \"default\""));
        }
        (!is_level(&level)).then(|| format!("\"{level}\" counts as \"warning\"; {LEVELS}"))
    })
}

fn as_labels(labels: &BTreeMap<String, String>, warnings: &mut Vec<String>) {
    if labels.get("istio.io/dataplane-mode").is_some_and(|mode| mode == "ambient") {
        warnings.push("label istio.io/dataplane-mode=ambient has no effect: there is no ambient mode".to_owned());
    }
    for name in labels.keys().filter(|name| !matches!(name.as_str(), names::labels::INJECT | names::labels::REVISION)) {
        if let Some((_, why)) = NO_EFFECT_AS_LABEL.iter().find(|(label, _)| label == name) {
            warnings.push(format!("label {name} has no effect: {why}"));
        } else if KNOWN.contains(&name.as_str()) {
            warnings.push(format!("label {name} has no effect: write it as an annotation of the pod"));
        } else if OURS.iter().any(|prefix| name.starts_with(prefix)) {
            let as_it_is = |known: &str| known == names::labels::INJECT || known == names::labels::REVISION;
            let meant = crds::nearest(name, KNOWN).map(|known| {
                let how = if as_it_is(known) { "" } else { ", as an annotation," };
                format!("; is {known}{how} meant?")
            });
            warnings.push(format!("label {name} is not known and has no effect{}", meant.unwrap_or_default()));
        } else if let Some(known) = of_another_domain(name, &[names::labels::INJECT]) {
            warnings.push(format!("label {name} is not known and has no effect; is {known} meant?"));
        }
    }
}

/// Fields that Istio has and nothing here follows, and fields that Istio does not have.
fn proxy_config(name: &str, fields: &Map<String, Value>, warnings: &mut Vec<String>) {
    for (field, value) in fields {
        match PROXY_FIELDS.iter().find(|(known, _)| known == field) {
            Some((_, Effect::InForce)) if field == "image" => image(name, value, warnings),
            Some((_, Effect::InForce)) => {}
            Some((_, Effect::None)) => warnings.push(format!("annotation {name}: {field} has no effect here")),
            None => {
                let field: String = field.chars().take(60).collect();
                let meant = crds::nearest(&field, PROXY_FIELDS.iter().map(|(known, _)| *known));
                let meant = meant.map(|known| format!("; is {known} meant?")).unwrap_or_default();
                warnings.push(format!("annotation {name}: {field} is not known and has no effect{meant}"));
            }
        }
    }
}

/// The one field in force that has fields of its own, of which there is one.
fn image(name: &str, image: &Value, warnings: &mut Vec<String>) {
    const FIELD: &str = "imageType";
    for field in image.as_object().into_iter().flat_map(Map::keys).filter(|field| *field != FIELD) {
        let field: String = field.chars().take(60).collect();
        let meant = crds::nearest(&field, [FIELD]).map(|known| format!("; is {known} meant?")).unwrap_or_default();
        warnings.push(format!("annotation {name}: image.{field} is not known and has no effect{meant}"));
    }
}

/// What an earlier injection keeps has two lists; who writes it by hand may miss them.
fn overrides(annotations: &BTreeMap<String, String>, warnings: &mut Vec<String>) {
    let name = names::annotations::PROXY_OVERRIDES;
    let members = annotations.get(name).and_then(|text| annotation::json_map(text).ok()).unwrap_or_default();
    for member in members.keys().filter(|member| !super::LISTS.contains(&member.as_str())) {
        let member: String = member.chars().take(60).collect();
        let meant = crds::nearest(&member, super::LISTS).map(|known| format!("; is {known} meant?"));
        let meant = meant.unwrap_or_default();
        warnings.push(format!("annotation {name}: {member} is not known and has no effect{meant}"));
    }
}

/// Where nothing is captured, nothing is taken out of it. As in Istio, ports are taken out of all ports only, not out of a
/// list.
fn traffic(
    annotations: &BTreeMap<String, String>,
    fields: &Map<String, Value>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) {
    let said = annotations.get(annotation::INTERCEPTION_MODE).map(String::as_str);
    let said = said.or_else(|| fields.get("interceptionMode").and_then(Value::as_str));
    if said.unwrap_or(settings.mesh.default_config.interception_mode.as_str()) == "NONE" {
        let of_traffic =
            |name: &&String| name.starts_with("traffic.sidecar.istio.io/") && KNOWN.contains(&name.as_str());
        let in_vain = annotations.keys().filter(of_traffic);
        warnings.extend(in_vain.map(|name| {
            format!("annotation {name} has no effect: with interceptionMode NONE no connection is captured")
        }));
        return;
    }
    let included = annotations.get(annotation::INCLUDE_INBOUND_PORTS).map(String::as_str);
    let included = included.unwrap_or(&settings.values.global.proxy.include_inbound_ports);
    let excluded = annotations.get(annotation::EXCLUDE_INBOUND_PORTS).filter(|ports| !ports.is_empty());
    if included != "*" && excluded.is_some() {
        warnings.push(format!(
            "annotation {} has no effect: only the ports of includeInboundPorts are captured; leave them out there",
            annotation::EXCLUDE_INBOUND_PORTS
        ));
    }
}

/// Which revision injects is said by labels; the annotation is an injection's own mark.
fn revision(annotations: &BTreeMap<String, String>, settings: &Settings, warnings: &mut Vec<String>) {
    let name = names::labels::REVISION;
    let asked = annotations.get(name).filter(|_| !annotations.contains_key(names::annotations::STATUS));
    if let Some(asked) = asked.filter(|asked| **asked != settings.revision) {
        let asked: String = asked.chars().take(63).collect();
        let by = &settings.revision;
        warnings.push(format!("annotation {name}: \"{asked}\" has no effect, revision {by} injects: make it a label"));
    }
}

/// Annotations for injection that stand where nobody reads them: on a workload, beside its pods' template.
pub(crate) fn misplaced(annotations: impl Iterator<Item = String>, place: &str) -> Option<String> {
    let own = |name: &String| {
        name != names::annotations::STATUS
            && (KNOWN.contains(&name.as_str()) || OURS.iter().any(|prefix| name.starts_with(prefix)))
    };
    // On any object these have a meaning of their own.
    let elsewhere =
        |name: &String| matches!(name.as_str(), names::labels::REVISION | "galley.istio.io/analyze-suppress");
    let found: Vec<String> = annotations.filter(|name| own(name) && !elsewhere(name)).collect();
    (!found.is_empty())
        .then(|| format!("{place} has no effect on pods: {}; write it into the template's metadata", found.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{KNOWN, NO_EFFECT, Settings, asked, misplaced};

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn warnings(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Vec<String> {
        let injector = pairs(&[("config", ""), ("values", "{}")]);
        let settings = Settings::read("default", &pairs(&[("mesh", "")]), &injector, true).unwrap();
        let mut warnings = Vec::new();
        asked(&pairs(labels), &pairs(annotations), &settings, &mut warnings);
        warnings
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let rows = [
            ("sidecar.istio.io/bootstrapOverride", "mine", Some("has no effect: the proxy has no Envoy bootstrap")),
            ("sidecar.istio.io/statsInclusionPrefixes", "x", Some("has no effect")),
            ("ambient.istio.io/redirection", "enabled", Some("has no effect: there is no ambient mode")),
            (
                "sidecar.istio.io/proxyCpu",
                "1",
                Some("is not known and has no effect; is sidecar.istio.io/proxyCPU meant?"),
            ),
            ("sidecar.istio.io/quality", "1", Some("is not known and has no effect")),
            ("sidecar.istio.io/rewriteAppHTTPProbers", "maybe", Some("counts as \"false\"")),
            ("sidecar.istio.io/rewriteAppHTTPProbers", "false", None),
            ("sidecar.istio.io/capNetBindService", "True", Some("\"True\" counts as \"false\"")),
            ("sidecar.istio.io/capNetBindService", "true", None),
            ("sidecar.istio.io/logLevel", "verbose", Some("\"verbose\" counts as \"warning\"")),
            ("sidecar.istio.io/logLevel", "debug", None),
            ("sidecar.istio.io/agentLogLevel", "default:info,xds:debug", Some("scope \"xds\" has no effect")),
            ("sidecar.istio.io/agentLogLevel", "default:loud", Some("\"loud\" counts as \"warning\"")),
            ("sidecar.istio.io/agentLogLevel", "all:debug", None),
            ("sidecar.istio.io/agentLogLevel", "debug", None),
            ("readiness.status.sidecar.istio.io/periodSeconds", "0", Some("0 counts as 10")),
            ("readiness.status.sidecar.istio.io/failureThreshold", "00", Some("0 counts as 3")),
            ("readiness.status.sidecar.istio.io/failureThreshold", "1", None),
            ("readiness.status.sidecar.istio.io/initialDelaySeconds", "0", None),
            ("sidecar.istio.io/proxyCPU", "1", None),
            ("sidecar.istio.io/interceptionMode", "REDIRECT", None),
            ("sidecar.istio.io/discoveryAddress", "istiod.mesh.svc:15012", None),
            ("proxy.istio.io/config", "{concurrency: 2, proxyMetadata: {A: b}}", None),
            ("proxy.istio.io/config", "tracing: {sampling: 3}", Some("proxy.istio.io/config: tracing has no effect")),
            (
                "proxy.istio.io/config",
                "concurency: 2",
                Some("concurency is not known and has no effect; is concurrency"),
            ),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "81", None),
            ("istio.io/rev", "canary", Some("\"canary\" has no effect, revision default injects")),
            ("istio.io/rev", "default", None),
            ("example.org/anything", "x", None),
            ("example.org/config", "x", None),
            ("prometheus.io/port", "1", None),
            ("networking.istio.io/exportTo", "x", None),
            (
                "sidecar.isito.io/inject",
                "true",
                Some("is not known and has no effect; is sidecar.istio.io/inject meant?"),
            ),
            (
                "traffic.istio.io/excludeInboundPorts",
                "1",
                Some("is not known and has no effect; is traffic.sidecar.istio.io/excludeInboundPorts meant?"),
            ),
            (
                "sidecar.istio.io/excludeInboundPorts",
                "1",
                Some("is not known and has no effect; is traffic.sidecar.istio.io/excludeInboundPorts meant?"),
            ),
            (
                "sidecar.istio.io/userVolume",
                r#"{"v": {"emptydir": {}}}"#,
                Some("emptydir of volume \"v\" is not known and has no effect; is emptyDir meant?"),
            ),
            (
                "proxy.istio.io/config",
                "image: {imagetype: debug}",
                Some("image.imagetype is not known and has no effect; is imageType meant?"),
            ),
            ("proxy.istio.io/config", "image: {imageType: debug}", None),
            (
                "proxy.istio.io/overrides",
                r#"{"container": []}"#,
                Some("container is not known and has no effect; is containers meant?"),
            ),
        ];
        for (name, value, expected) in rows {
            let warnings = warnings(&[], &[(name, value)]);
            match expected {
                None => assert_eq!(warnings, Vec::<String>::new(), "{name}"),
                Some(said) => {
                    assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
                    assert!(warnings[0].contains(name) && warnings[0].contains(said), "{warnings:?}");
                    assert!(warnings[0].len() <= 256, "{warnings:?}");
                }
            }
        }
        let both = [
            ("traffic.sidecar.istio.io/excludeInboundPorts", "81"),
            ("traffic.sidecar.istio.io/includeInboundPorts", "80"),
        ];
        assert_eq!(warnings(&[], &both).len(), 1);
        // What an earlier injection wrote is no wish.
        assert!(warnings(&[], &[("istio.io/rev", "canary"), ("sidecar.istio.io/status", "{}")]).is_empty());
    }

    #[test]
    fn labels_that_mean_nothing_here_are_named() {
        let rows = [
            ("sidecar.istio.io/inject", "true", None),
            ("istio.io/rev", "canary", None),
            ("security.istio.io/tlsMode", "disabled", None),
            ("istio.io/dataplane-mode", "none", None),
            ("istio.io/dataplane-mode", "ambient", Some("there is no ambient mode")),
            ("istio.io/use-waypoint", "w", Some("there are no waypoints")),
            ("istio-locality", "a.b", Some("endpoints have no locality")),
            ("sidecar.istio.io/proxyCPU", "1", Some("write it as an annotation")),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", "1", Some("write it as an annotation")),
            ("sidecar.istio.io/injct", "true", Some("; is sidecar.istio.io/inject meant?")),
            ("sidecar.istio.io/proxyCpu", "1", Some("; is sidecar.istio.io/proxyCPU, as an annotation, meant?")),
            ("sidecar.istio.io/quality", "1", Some("is not known and has no effect")),
            ("sidecars.istio.io/inject", "true", Some("; is sidecar.istio.io/inject meant?")),
            ("example.org/inject", "true", None),
        ];
        for (name, value, expected) in rows {
            let warnings = warnings(&[(name, value)], &[]);
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{name}: {warnings:?}");
            assert!(expected.is_none_or(|said| warnings[0].contains(said)), "{name}: {warnings:?}");
        }
    }

    #[test]
    fn no_annotation_is_in_both_lists() {
        for (name, _) in NO_EFFECT {
            assert!(!KNOWN.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_stands_beside_the_template_is_named() {
        let of = |names: &[&str]| misplaced(names.iter().map(|name| (*name).to_owned()), "metadata.annotations");
        assert_eq!(of(&["example.org/a", "istio.io/rev", "galley.istio.io/analyze-suppress"]), None);
        assert_eq!(
            of(&["a", "sidecar.istio.io/proxyCPU", "proxy.istio.io/config"]).unwrap(),
            "metadata.annotations has no effect on pods: sidecar.istio.io/proxyCPU, proxy.istio.io/config; write it into the template's metadata"
        );
    }
}
