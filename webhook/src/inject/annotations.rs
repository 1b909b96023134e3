//! A pod's annotations, checked: one that is malformed refuses the pod, by name, rather than half of an injection.

use std::collections::BTreeMap;

use crds::check::is_dns_label;
use crds::meshconfig::{InterceptionMode, ProxyConfig};
use crds::quantity::amount;
use k8s_openapi::api::core::v1::{Volume, VolumeMount};
pub(crate) use names::annotations::STATUS_PORT;
use names::annotations::{DISCOVERY_ADDRESS, NATIVE_SIDECAR, PROXY_CONFIG};
use names::ports;
use serde_json::{Map, Value};

pub(crate) const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
pub(crate) const INITIAL_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
pub(crate) const PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
pub(crate) const FAILURE_THRESHOLD: &str = "readiness.status.sidecar.istio.io/failureThreshold";
pub(crate) const INCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
pub(crate) const EXCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
pub(crate) const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
pub(crate) const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
pub(crate) const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
pub(crate) const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
pub(crate) const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
pub(crate) const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
pub(crate) const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
pub(crate) const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
pub(crate) const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
pub(crate) const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
pub(crate) const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
pub(crate) const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
pub(crate) const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
pub(crate) const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
pub(crate) const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
pub(crate) const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
pub(crate) const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
pub(crate) const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
pub(crate) const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
pub(crate) const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
pub(crate) const CAP_NET_BIND: &str = "sidecar.istio.io/capNetBindService";
pub(crate) const BOOTSTRAP_OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
pub(crate) const TEMPLATES: &str = "inject.istio.io/templates";
pub(crate) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
pub(crate) const DEFAULT_LOGS_CONTAINER: &str = "kubectl.kubernetes.io/default-logs-container";

/// Ports of the proxy, other than its agent's.
pub(crate) const OWN_PORTS: [u16; 5] =
    [ports::PROXY_ADMIN, ports::OUTBOUND, ports::INBOUND, ports::HEALTH, ports::PROXY_STATS];
/// Volumes of the proxy, and where they are mounted.
pub(crate) const OWN_VOLUMES: [(&str, &str); 9] = [
    ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
    ("credential-socket", "/var/run/secrets/credential-uds"),
    ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
    ("istiod-ca-cert", names::paths::ROOT_CERT_DIR),
    ("istio-ca-crl", "/var/run/secrets/istio/crl"),
    ("istio-data", "/var/lib/istio/data"),
    ("istio-envoy", names::paths::PROXY_STATE),
    ("istio-token", "/var/run/secrets/tokens"),
    ("istio-podinfo", "/etc/istio/pod"),
];

type Check = fn(&str) -> Result<(), String>;

/// Every annotation with a form, and its form.
const CHECKS: [(&str, Check); 26] = [
    (INTERCEPTION_MODE, |value| interception_mode(value).map(drop)),
    (STATUS_PORT, agents_port),
    (INITIAL_DELAY, unsigned),
    (PERIOD, unsigned),
    (FAILURE_THRESHOLD, unsigned),
    (INCLUDE_OUTBOUND_RANGES, |value| if value == "*" { Ok(()) } else { ranges(value) }),
    (EXCLUDE_OUTBOUND_RANGES, ranges),
    (INCLUDE_INBOUND_PORTS, |value| if value == "*" { Ok(()) } else { ports(value) }),
    (EXCLUDE_INBOUND_PORTS, ports),
    (EXCLUDE_OUTBOUND_PORTS, ports),
    // Istio lets a malformed one through, and istio-init fails on it for ever.
    (INCLUDE_OUTBOUND_PORTS, ports),
    (EXCLUDE_INTERFACES, interfaces),
    (KUBEVIRT_INTERFACES, interfaces),
    (REROUTE_INTERFACES, interfaces),
    (MERGE_METRICS, |value| boolean(value).map(drop)),
    (PROXY_CONFIG, |value| proxy_config(&ProxyConfig::default(), value).map(drop)),
    (PROXY_CPU, quantity),
    (PROXY_MEMORY, quantity),
    (PROXY_CPU_LIMIT, quantity),
    (PROXY_MEMORY_LIMIT, quantity),
    (NATIVE_SIDECAR, |value| boolean(value).map(drop)),
    (USER_VOLUME, user_volumes),
    (USER_VOLUME_MOUNT, user_mounts),
    (PROXY_IMAGE, image),
    (PROXY_IMAGE_TYPE, |value| if value.is_empty() { Ok(()) } else { image(value) }),
    (DISCOVERY_ADDRESS, address),
];

/// Every malformed annotation, as `invalid value '<v>' for annotation '<name>': <reason>`.
pub(crate) fn problems(annotations: &BTreeMap<String, String>) -> Vec<String> {
    CHECKS
        .iter()
        .filter_map(|(name, check)| {
            let value = annotations.get(*name)?;
            let reason = check(value).err()?;
            Some(format!("invalid value '{value}' for annotation '{name}': {reason}"))
        })
        .collect()
}

/// Requests above their limits, which the API server refuses in a container that the user never wrote.
pub(crate) fn conflicts(annotations: &BTreeMap<String, String>) -> Vec<String> {
    [(PROXY_CPU, PROXY_CPU_LIMIT), (PROXY_MEMORY, PROXY_MEMORY_LIMIT)]
        .into_iter()
        .filter_map(|(request, limit)| {
            let (asked, most) = (annotations.get(request)?, annotations.get(limit)?);
            (amount(asked)? > amount(most)?).then(|| format!("{request} ({asked}) is more than {limit} ({most})"))
        })
        .collect()
}

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be \"true\" or \"false\"".to_owned()),
    }
}

pub(crate) fn interception_mode(value: &str) -> Result<InterceptionMode, String> {
    match value {
        "REDIRECT" => Ok(InterceptionMode::Redirect),
        "TPROXY" => Ok(InterceptionMode::Tproxy),
        "NONE" => Ok(InterceptionMode::None),
        _ => Err("must be REDIRECT, TPROXY or NONE".to_owned()),
    }
}

/// The mesh's proxy settings with a pod's over them.
pub(crate) fn proxy_config(base: &ProxyConfig, yaml: &str) -> Result<ProxyConfig, String> {
    let fields = proxy_config_fields(yaml)?;
    let config = base.merged(&Value::Object(fields.clone())).map_err(|error| error.to_string())?;
    // What the API server, or the proxy at its start, would refuse.
    let others = OWN_PORTS.into_iter().filter(|port| *port != ports::PROXY_ADMIN);
    let others: Vec<u16> = others.chain([config.proxy_admin_port, config.status_port]).collect();
    for (name, port) in [("statusPort", config.status_port), ("proxyAdminPort", config.proxy_admin_port)] {
        if fields.contains_key(name) && (port == 0 || others.iter().filter(|other| **other == port).count() > 1) {
            return Err(format!("{name}: {port} is no port, or another of the proxy's"));
        }
    }
    if fields.contains_key("discoveryAddress") {
        address(&config.discovery_address).map_err(|problem| format!("discoveryAddress: {problem}"))?;
    }
    let legal = |name: &str| !name.is_empty() && name.chars().all(|c| (' '..='~').contains(&c) && c != '=');
    match config.proxy_metadata.keys().find(|name| !legal(name)) {
        Some(name) => Err(format!("proxyMetadata: {name:?} cannot be the name of an environment variable")),
        None => Ok(config),
    }
}

/// The fields that annotation `proxy.istio.io/config` sets.
pub(crate) fn proxy_config_fields(yaml: &str) -> Result<Map<String, Value>, String> {
    match crds::yaml::value(yaml).map_err(|error| format!("line {}: {}", error.line, error.message))? {
        Value::Null => Ok(Map::new()),
        Value::Object(fields) => Ok(fields),
        _ => Err("must be fields of ProxyConfig as YAML, such as \"concurrency: 2\"".to_owned()),
    }
}

/// A JSON object, such as `{"name": {...}}`.
pub(crate) fn json_map(value: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(value).map_err(|error| format!("must be a JSON object: {error}"))
}

/// Volumes by name. Those of the proxy itself have their place already. What the API server would refuse in a pod that
/// nobody has seen like this is refused here.
fn user_volumes(value: &str) -> Result<(), String> {
    for (name, volume) in named_objects(value)? {
        if OWN_VOLUMES.iter().any(|(own, _)| *own == name) {
            return Err(format!("\"{name}\" is a volume of the proxy itself; use another name"));
        }
        let read: Volume = crds::parse(volume.clone()).map_err(|error| format!("\"{name}\": {error}"))?;
        if !is_dns_label(&name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let name: String = name.chars().take(80).collect();
            return Err(format!("\"{name}\" cannot be the name of a volume: use small letters, digits and dashes"));
        }
        // Members that there are not are told elsewhere.
        let written = serde_json::to_value(read).unwrap_or_default();
        let sources: Vec<&str> = written
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .filter(|one| *one != "name")
            .collect();
        if sources.len() > 1 {
            return Err(format!("\"{name}\" has {}, of which only one can be", sources.join(" and ")));
        }
    }
    Ok(())
}

/// Mounts by the name of their volume, each in a place of its own.
fn user_mounts(value: &str) -> Result<(), String> {
    let mut taken: Vec<(String, String)> =
        OWN_VOLUMES.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
    for (name, mount) in named_objects(value)? {
        let mount: VolumeMount = crds::parse(mount).map_err(|error| format!("\"{name}\": {error}"))?;
        if mount.mount_path.is_empty() {
            return Err(format!("\"{name}\" has no mountPath"));
        }
        if let Some((other, path)) = taken.iter().find(|(_, path)| *path == mount.mount_path) {
            return Err(format!("\"{name}\" has mountPath {path}, where \"{other}\" is mounted"));
        }
        taken.push((name, mount.mount_path));
        if taken.len() > MOST_MOUNTS {
            return Err(format!("has more than {MOST_MOUNTS} mounts"));
        }
    }
    Ok(())
}

/// More is a mistake; each is compared with all.
const MOST_MOUNTS: usize = 1000;

/// `{"name": {...}}` as objects that have their names in them.
fn named_objects(value: &str) -> Result<Vec<(String, Value)>, String> {
    let named = |(name, object): (String, Value)| {
        let Value::Object(mut object) = object else {
            return Err(format!("\"{name}\" must be an object, such as {{\"{name}\": {{...}}}}"));
        };
        object.insert("name".to_owned(), Value::String(name.clone()));
        Ok((name, Value::Object(object)))
    };
    json_map(value)?.into_iter().map(named).collect()
}

/// Part of an image's name, or all of it.
fn image(value: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "./:-_@".contains(c);
    if value.is_empty() || !value.chars().all(fits) {
        return Err(
            "cannot be part of an image's name, such as \"proxyv2\" or \"registry.example.org/proxy:1.0\"".to_owned()
        );
    }
    Ok(())
}

/// `host:port`.
fn address(value: &str) -> Result<(), String> {
    let fits = value.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && whole(port).is_some_and(|port: u16| port > 0)
    });
    if fits { Ok(()) } else { Err(format!("\"{value}\" is not host:port, such as \"istiod.istio-system.svc:15012\"")) }
}

/// Digits only: what Rust reads beside them (a plus sign), Go does not.
fn whole<T: std::str::FromStr>(value: &str) -> Option<T> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

/// Fields of probes, which are signed in Kubernetes' API.
fn unsigned(value: &str) -> Result<(), String> {
    let most = i32::MAX;
    let fits = whole::<u32>(value).is_some_and(|number| i32::try_from(number).is_ok());
    if fits { Ok(()) } else { Err(format!("must be a whole number from 0 to {most}")) }
}

/// The agent listens there, so it can be none of the proxy's other ports.
fn agents_port(value: &str) -> Result<(), String> {
    let port = whole::<u16>(value).ok_or_else(|| "must be a port, or 0 for none".to_owned())?;
    if OWN_PORTS.contains(&port) { Err(format!("port {port} is another port of the proxy")) } else { Ok(()) }
}

fn ports(value: &str) -> Result<(), String> {
    let bad = value.split(',').map(str::trim).find(|port| !port.is_empty() && whole::<u16>(port).is_none());
    bad.map_or(Ok(()), |port| Err(format!("\"{port}\" is not a port: write ports with commas, such as \"80,443\"")))
}

fn ranges(value: &str) -> Result<(), String> {
    let whole = |range: &str| {
        let (address, length) = range.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
    };
    let bad = value.split(',').find(|range| !value.is_empty() && whole(range).is_none());
    bad.map_or(Ok(()), |range| Err(format!("\"{range}\" is not a CIDR block, such as \"10.0.0.0/8\" (the mesh's own are includeIPRanges and excludeIPRanges)")))
}

fn interfaces(value: &str) -> Result<(), String> {
    // Linux: at most 15 bytes, no slash, no space. An empty list is no list.
    let fits = |name: &str| {
        name.len() <= 15 && !name.contains('/') && !name.chars().any(|c| c.is_whitespace() || c.is_control())
    };
    let bad = value.split(',').map(str::trim).find(|name| !fits(name));
    bad.map_or(Ok(()), |name| Err(format!("\"{name}\" is not the name of a network interface")))
}

fn quantity(value: &str) -> Result<(), String> {
    let problem = || "must be a resource quantity, such as \"100m\" or \"128Mi\"".to_owned();
    match amount(value).ok_or_else(problem)? {
        // The API server refuses it in a container that the user never wrote.
        amount if amount < 0.0 => Err("must not be negative".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::problems;

    #[test]
    fn a_malformed_annotation_is_named() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("sidecar.istio.io/interceptionMode", &["REDIRECT", "TPROXY", "NONE"], &["", "redirect"]),
            ("status.sidecar.istio.io/port", &["0", "15020", "65535"], &["", "65536", "-1", "+1", "x", "15021"]),
            ("readiness.status.sidecar.istio.io/periodSeconds", &["0", "2147483647"], &["", "-1", "+1", "2147483648"]),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                &["*", "", "10.0.0.0/8", "10.0.0.1/24,fd00::/8"],
                &["10.0.0.0", "10.0.0.0/33", "*,10.0.0.0/8", "bad"],
            ),
            ("traffic.sidecar.istio.io/excludeOutboundIPRanges", &["", "10.0.0.0/8"], &["*"]),
            ("traffic.sidecar.istio.io/includeInboundPorts", &["*", "", "1,2", "1, 2"], &["1,x", "70000", "+80"]),
            ("traffic.sidecar.istio.io/excludeInboundPorts", &["", "1,2"], &["*", "http"]),
            (
                "traffic.sidecar.istio.io/kubevirtInterfaces",
                &["net1", "net1,net2"],
                &["a/b", "a b", "longer-than-allowed"],
            ),
            ("prometheus.istio.io/merge-metrics", &["true", "false", "1"], &["", "yes"]),
            (
                "proxy.istio.io/config",
                &["", "concurrency: 2", "{}", "proxyMetadata: {A.b: x}", "discoveryAddress: 'a.b:1'"],
                &[
                    "concurrency: x",
                    "a: [",
                    "text",
                    "statusPort: 0",
                    "proxyAdminPort: 0",
                    "statusPort: 15021",
                    "proxyAdminPort: 15020",
                    "discoveryAddress: a",
                    "proxyMetadata: {A=B: x}",
                    "proxyMetadata: {'': x}",
                ],
            ),
            ("sidecar.istio.io/proxyCPU", &["1", "100m", "1.5", "2e3"], &["", "100 m", "100x", "1\n", "-1"]),
            ("sidecar.istio.io/nativeSidecar", &["true", "false"], &["maybe"]),
            (
                "sidecar.istio.io/userVolume",
                &["{}", r#"{"a": {"emptyDir": {}}}"#],
                &[
                    "[]",
                    "{",
                    r#"{"a": "x"}"#,
                    r#"{"a": {"emptyDir": 5}}"#,
                    r#"{"istio-data": {"emptyDir": {}}}"#,
                    r#"{"My_Volume": {"emptyDir": {}}}"#,
                    r#"{"": {"emptyDir": {}}}"#,
                    r#"{"a": {"emptyDir": {}, "secret": {"secretName": "s"}}}"#,
                ],
            ),
            (
                "sidecar.istio.io/userVolumeMount",
                &["{}", r#"{"a": {"mountPath": "/a"}}"#],
                &[
                    r#"{"a": []}"#,
                    r#"{"a": {}}"#,
                    r#"{"a": {"mountPath": 5}}"#,
                    r#"{"a": {"mountPath": "/etc/istio/pod"}}"#,
                    r#"{"a": {"mountPath": "/a"}, "b": {"mountPath": "/a"}}"#,
                ],
            ),
            ("sidecar.istio.io/proxyImage", &["proxyv2", "example.org:5000/a/b:1@sha256:00"], &["", "a b"]),
            ("sidecar.istio.io/proxyImageType", &["", "debug", "distroless"], &["a b"]),
            ("sidecar.istio.io/discoveryAddress", &["istiod.mesh.svc:15012", "[::1]:1"], &["", "istiod", "a:0", ":1"]),
        ];
        for (name, good, bad) in rows {
            let of = |value: &str| problems(&BTreeMap::from([((*name).to_owned(), value.to_owned())]));
            for value in *good {
                assert_eq!(of(value), Vec::<String>::new(), "{name}: {value}");
            }
            for value in *bad {
                let found = of(value);
                assert_eq!(found.len(), 1, "{name}: {value}");
                assert!(
                    found[0].starts_with(&format!("invalid value '{value}' for annotation '{name}': ")),
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn a_request_above_its_limit_is_named() {
        let of = |pairs: &[(&str, &str)]| {
            super::conflicts(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let rows = [("1", "2", 0), ("1", "1000m", 0), ("1", "500m", 1), ("1Gi", "1G", 1), ("2e3", "1k", 1)];
        for (request, limit, expected) in rows {
            let found = of(&[("sidecar.istio.io/proxyCPU", request), ("sidecar.istio.io/proxyCPULimit", limit)]);
            assert_eq!(found.len(), expected, "{request} {limit}: {found:?}");
        }
        assert!(of(&[("sidecar.istio.io/proxyMemory", "1Gi")]).is_empty());
    }
}
