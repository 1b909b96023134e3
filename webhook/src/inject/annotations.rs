//! A pod's annotations, checked: one that is malformed refuses the pod, by name, rather than half of an injection.

use std::collections::BTreeMap;

use crds::meshconfig::{InterceptionMode, ProxyConfig};
use names::annotations::{NATIVE_SIDECAR, PROXY_CONFIG};

pub(crate) const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
pub(crate) const STATUS_PORT: &str = "status.sidecar.istio.io/port";
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

type Check = fn(&str) -> Result<(), String>;

/// Every annotation with a form, and its form.
const CHECKS: [(&str, Check); 23] = [
    (INTERCEPTION_MODE, |value| interception_mode(value).map(drop)),
    (STATUS_PORT, |value| port_or_zero(value)),
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
    (USER_VOLUME, |value| json_map(value).map(drop)),
    (USER_VOLUME_MOUNT, |value| json_map(value).map(drop)),
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
    let value = crds::yaml::value(yaml).map_err(|error| format!("line {}: {}", error.line, error.message))?;
    match value {
        serde_json::Value::Null => Ok(base.clone()),
        object @ serde_json::Value::Object(_) => base.merged(&object).map_err(|error| error.to_string()),
        _ => Err("must be fields of ProxyConfig as YAML, such as \"concurrency: 2\"".to_owned()),
    }
}

/// A JSON object, such as `{"name": {...}}`.
pub(crate) fn json_map(value: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(value).map_err(|error| format!("must be a JSON object: {error}"))
}

fn unsigned(value: &str) -> Result<(), String> {
    value.parse::<u32>().map(drop).map_err(|_| "must be a whole number that is not negative".to_owned())
}

fn port_or_zero(value: &str) -> Result<(), String> {
    value.parse::<u16>().map(drop).map_err(|_| "must be a port, or 0 for none".to_owned())
}

fn ports(value: &str) -> Result<(), String> {
    let bad = value.split(',').map(str::trim).find(|port| !port.is_empty() && port.parse::<u16>().is_err());
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
    amount(value).map(drop).ok_or_else(problem)
}

/// Kubernetes' resource quantities.
fn amount(value: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 16] = [
        ("", 1.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
    ];
    let number = value.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(value.len());
    let (digits, suffix) = value.split_at(number);
    let digits: f64 = digits.parse().ok()?;
    if let Some((_, scale)) = UNITS.iter().find(|(unit, _)| *unit == suffix) {
        return Some(digits * scale);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(digits * 10_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::problems;

    #[test]
    fn a_malformed_annotation_is_named() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("sidecar.istio.io/interceptionMode", &["REDIRECT", "TPROXY", "NONE"], &["", "redirect"]),
            ("status.sidecar.istio.io/port", &["0", "15020", "65535"], &["", "65536", "-1", "x"]),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                &["*", "", "10.0.0.0/8", "10.0.0.1/24,fd00::/8"],
                &["10.0.0.0", "10.0.0.0/33", "*,10.0.0.0/8", "bad"],
            ),
            ("traffic.sidecar.istio.io/excludeOutboundIPRanges", &["", "10.0.0.0/8"], &["*"]),
            ("traffic.sidecar.istio.io/includeInboundPorts", &["*", "", "1,2", "1, 2"], &["1,x", "70000"]),
            ("traffic.sidecar.istio.io/excludeInboundPorts", &["", "1,2"], &["*", "http"]),
            (
                "traffic.sidecar.istio.io/kubevirtInterfaces",
                &["net1", "net1,net2"],
                &["a/b", "a b", "longer-than-allowed"],
            ),
            ("prometheus.istio.io/merge-metrics", &["true", "false", "1"], &["", "yes"]),
            ("proxy.istio.io/config", &["", "concurrency: 2", "{}"], &["concurrency: x", "a: [", "text"]),
            ("sidecar.istio.io/proxyCPU", &["1", "100m", "1.5", "2e3"], &["", "100 m", "100x", "1\n"]),
            ("sidecar.istio.io/nativeSidecar", &["true", "false"], &["maybe"]),
            ("sidecar.istio.io/userVolume", &["{}", r#"{"a": {"emptyDir": {}}}"#], &["[]", "{"]),
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
