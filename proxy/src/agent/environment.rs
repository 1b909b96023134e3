//! What a proxy is told of itself: command line, environment variables and files that injection put into its pod.
//!
//! Read once, at the start; everything else gets values.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use engine::compile::{Proxy, Viewpoint};
use names::{
    annotations::{DISCOVERY_ADDRESS, STATUS_PORT},
    identity::SpiffeId,
};
use serde_json::Value;
use xds::{
    dynamic,
    node::{GRPC_GENERATOR, NodeId, NodeMetadata, ProxyNode, ProxyType},
    peer::PeerMetadata,
    types::google::{Struct, Value as Field, value::Kind},
};

use super::{
    app_metrics::{self, Application},
    probes::{self, Probes},
};

/// How long a certificate shall be valid unless the mesh says otherwise.
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(24);
/// Istio's time between SIGTERM and the end.
const TERMINATION_DRAIN: Duration = Duration::from_secs(5);

/// What a proxy is told of itself.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Who it is to the control plane.
    pub node: ProxyNode,
    /// Who its certificate must say it is.
    pub identity: SpiffeId,
    /// `host:port` of the control plane.
    pub discovery_address: String,
    /// `host:port` of the certificate authority.
    pub ca_address: String,
    /// How long a certificate shall be valid.
    pub certificate_lifetime: Duration,
    /// How many workers, if the mesh says it.
    pub concurrency: Option<usize>,
    /// The CPU limit in whole CPUs, rounded up.
    pub cpu_limit: Option<usize>,
    /// The least time between SIGTERM and the end.
    pub termination_drain: Duration,
    /// The port of probes and merged metrics.
    pub status_port: u16,
    /// Where an annotation of the pod moves the probes to.
    pub probes_port: Option<u16>,
    /// The port of administration, on loopback.
    pub admin_port: u16,
    /// The application's probes.
    pub probes: Probes,
    /// The application's metrics.
    pub application: Option<Application>,
    /// The mesh's root certificates.
    pub roots: PathBuf,
    /// The service account token.
    pub token: PathBuf,
    /// What the application is given if its gRPC library reads xDS itself; then there is no proxy.
    pub grpc: Option<Grpc>,
}

/// Where an application finds what its gRPC library needs to read xDS itself.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// The bootstrap file.
    pub bootstrap: PathBuf,
    /// The folder of its certificate, key and roots, if it gets them.
    pub certificates: Option<PathBuf>,
    /// The socket through which it reaches the control plane.
    pub socket: PathBuf,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is missing.
    #[error("{0} is not set; the pod's template must set it, as injection does")]
    Missing(&'static str),
    /// A variable cannot be read.
    #[error("{name}: {reason}")]
    Invalid {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
}

impl Environment {
    /// Reads variables, and the pod's labels and annotations as the downward API writes them. `domain` is `--domain`.
    pub fn read(
        proxy_type: ProxyType,
        domain: Option<&str>,
        variables: &BTreeMap<String, String>,
        labels: &str,
        annotations: &str,
    ) -> Result<Self, EnvironmentError> {
        let get = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let required = |name: &'static str| get(name).ok_or(EnvironmentError::Missing(name));
        let namespace = required("POD_NAMESPACE")?.to_owned();
        let pod = required("POD_NAME")?.to_owned();
        let ip = required("INSTANCE_IP")?;
        let service_account = required("SERVICE_ACCOUNT")?.to_owned();
        let config = json("PROXY_CONFIG", get("PROXY_CONFIG").unwrap_or("{}"))?;
        let metadata = metadata(variables, &config, &pod, &namespace, &service_account, ip, labels);
        let trust_domain = get("TRUST_DOMAIN").unwrap_or(names::CLUSTER_DOMAIN);
        let annotations = pairs(annotations);
        let annotated = |name: &str| annotations.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let discovery_address = annotated(DISCOVERY_ADDRESS).or(text(&config, "discoveryAddress")).map_or_else(
            || {
                format!(
                    "{}.{}.svc:{}",
                    names::resources::istiod(""),
                    names::resources::MESH_NAMESPACE,
                    names::ports::XDS_TLS
                )
            },
            str::to_owned,
        );
        let ca_address = get("CA_ADDR").unwrap_or(&discovery_address).to_owned();
        let ttl = match get("SECRET_TTL") {
            Some(value) => duration("SECRET_TTL", value)?,
            None => CERTIFICATE_LIFETIME,
        };
        let first_ip = ip.split(',').next().unwrap_or(ip);
        let pod_ip: IpAddr = first_ip.parse().map_err(|_| EnvironmentError::Invalid {
            name: "INSTANCE_IP",
            reason: format!("{first_ip:?} is no IP address"),
        })?;
        let to_localhost = get("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION").is_some_and(|value| value == "true");
        Ok(Self {
            node: ProxyNode {
                id: NodeId {
                    proxy_type,
                    ip: first_ip.to_owned(),
                    pod,
                    namespace: namespace.clone(),
                    cluster_domain: cluster_domain(domain, &namespace),
                },
                metadata,
            },
            identity: SpiffeId::new(trust_domain, &namespace, &service_account),
            discovery_address,
            ca_address,
            certificate_lifetime: ttl,
            concurrency: number(&config, "concurrency").filter(|count| *count > 0),
            cpu_limit: get("ISTIO_CPU_LIMIT").and_then(|value| value.parse().ok()).filter(|cpus| *cpus > 0),
            termination_drain: match text(&config, "terminationDrainDuration") {
                Some(value) => duration("PROXY_CONFIG", value)?,
                None => TERMINATION_DRAIN,
            },
            status_port: port(&config, "statusPort", names::ports::AGENT),
            probes_port: annotated(STATUS_PORT).and_then(|port| port.parse().ok()).filter(|port| *port > 0),
            admin_port: port(&config, "proxyAdminPort", names::ports::PROXY_ADMIN),
            probes: match get("ISTIO_KUBE_APP_PROBERS") {
                Some(value) => probes::parse(value, pod_ip, to_localhost)
                    .map_err(|reason| EnvironmentError::Invalid { name: "ISTIO_KUBE_APP_PROBERS", reason })?,
                None => Probes::default(),
            },
            application: match get("ISTIO_PROMETHEUS_ANNOTATIONS") {
                Some(value) => app_metrics::parse(value)
                    .map_err(|reason| EnvironmentError::Invalid { name: "ISTIO_PROMETHEUS_ANNOTATIONS", reason })?,
                None => None,
            },
            roots: get("XDS_ROOT_CA").unwrap_or(names::paths::ROOT_CERT).into(),
            token: get("JWT_PATH").unwrap_or(names::paths::TOKEN).into(),
            grpc: (get("ISTIO_META_GENERATOR") == Some(GRPC_GENERATOR)).then(|| Grpc {
                bootstrap: get("GRPC_XDS_BOOTSTRAP").unwrap_or(names::paths::GRPC_BOOTSTRAP).into(),
                certificates: get("OUTPUT_CERTS").map(PathBuf::from),
                socket: names::paths::GRPC_XDS_SOCKET.into(),
            }),
        })
    }

    /// For whom configuration is compiled.
    pub fn proxy(&self) -> Proxy {
        Proxy {
            gateway: self.node.id.proxy_type == ProxyType::Router,
            viewpoint: Viewpoint {
                namespace: self.node.id.namespace.as_str().into(),
                domain: self.node.id.cluster_domain.as_str().into(),
            },
        }
    }

    /// Who it is to other proxies.
    pub fn peer_metadata(&self) -> PeerMetadata {
        let metadata = &self.node.metadata;
        PeerMetadata {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            workload_name: metadata.workload_name.clone(),
            owner: metadata.owner.clone(),
            labels: metadata.labels.clone(),
            cluster_id: metadata.cluster_id.clone(),
            mesh_id: metadata.mesh_id.clone(),
            instance_ips: metadata.instance_ips.join(","),
            istio_version: metadata.istio_version.clone(),
        }
    }
}

fn metadata(
    variables: &BTreeMap<String, String>,
    config: &Value,
    pod: &str,
    namespace: &str,
    service_account: &str,
    ips: &str,
    labels: &str,
) -> NodeMetadata {
    let meta = |name: &str| variables.get(&format!("ISTIO_META_{name}")).cloned().unwrap_or_default();
    let or = |value: String, default: &str| if value.is_empty() { default.to_owned() } else { value };
    let labels = pairs(labels);
    let workload_name =
        or(meta("WORKLOAD_NAME"), labels.get(names::labels::CANONICAL_NAME).map_or(pod, String::as_str));
    let revision = labels.get(names::labels::REVISION).map_or(names::DEFAULT_REVISION, String::as_str);
    NodeMetadata {
        namespace: namespace.to_owned(),
        name: pod.to_owned(),
        service_account: service_account.to_owned(),
        cluster_id: or(meta("CLUSTER_ID"), names::CLUSTER_ID),
        istio_version: or(meta("ISTIO_VERSION"), names::VERSION),
        istio_revision: or(variables.get("REVISION").cloned().unwrap_or_default(), revision),
        node_name: meta("NODE_NAME"),
        workload_name,
        owner: meta("OWNER"),
        interception_mode: or(meta("INTERCEPTION_MODE"), "REDIRECT"),
        mesh_id: or(meta("MESH_ID"), variables.get("TRUST_DOMAIN").map_or(names::CLUSTER_DOMAIN, String::as_str)),
        instance_ips: ips.split(',').filter(|ip| !ip.is_empty()).map(str::to_owned).collect(),
        pod_ports: meta("POD_PORTS"),
        proxy_config: match to_field(config).kind {
            Some(Kind::StructValue(fields)) if !fields.fields.is_empty() => Some(fields),
            _ => None,
        },
        // gRPC has no virtual hosts of their own.
        virtual_hosts: meta("GENERATOR") != GRPC_GENERATOR,
        generator: meta("GENERATOR"),
        labels,
    }
}

/// `default.svc.cluster.local` without the namespace; the cluster's usual domain without a flag.
fn cluster_domain(domain: Option<&str>, namespace: &str) -> String {
    let domain = domain.and_then(|domain| domain.strip_prefix(namespace)?.strip_prefix(".svc."));
    domain.unwrap_or(names::CLUSTER_DOMAIN).trim_end_matches('.').to_owned()
}

/// Labels or annotations as the downward API writes them: `key="value"`, the value quoted as in Go.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, quoted) = line.split_once('=')?;
        // A label's value, and that of the annotations read here, never needs more than JSON's quoting.
        Some((key.trim().to_owned(), serde_json::from_str::<String>(quoted.trim()).ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn json(name: &'static str, text: &str) -> Result<Value, EnvironmentError> {
    serde_json::from_str(text).map_err(|error| EnvironmentError::Invalid { name, reason: error.to_string() })
}

fn text<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key)?.as_str()
}

fn number(config: &Value, key: &str) -> Option<usize> {
    config.get(key)?.as_u64().and_then(|number| usize::try_from(number).ok())
}

fn port(config: &Value, key: &str, default: u16) -> u16 {
    number(config, key).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(default)
}

/// A duration as protobuf's JSON (`5s`, `1.5s`) and Go (`1h30m`, `500ms`) write it.
fn duration(name: &'static str, text: &str) -> Result<Duration, EnvironmentError> {
    go_duration(text).ok_or_else(|| EnvironmentError::Invalid {
        name,
        reason: format!("{text:?} is no duration such as 5s or 1h30m"),
    })
}

fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|character: char| character.is_ascii_alphabetic())?;
        let (number, from_unit) = rest.split_at(end);
        let unit_end = from_unit.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(from_unit.len());
        let (unit, after) = from_unit.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = after;
    }
    Some(total)
}

/// JSON as protobuf's `Value`.
fn to_field(value: &Value) -> Field {
    match value {
        Value::Null => Field { kind: None },
        Value::Bool(value) => Field { kind: Some(Kind::BoolValue(*value)) },
        Value::Number(number) => dynamic::number(number.as_f64().unwrap_or_default()),
        Value::String(text) => dynamic::string(text),
        Value::Array(values) => dynamic::list(values.iter().map(to_field)),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), to_field(value))).collect();
            dynamic::object(Struct { fields })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use xds::node::ProxyType;

    use super::{Environment, EnvironmentError, cluster_domain, go_duration};

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [
            ("POD_NAME", "reviews-v1-0"),
            ("POD_NAMESPACE", "default"),
            ("INSTANCE_IP", "10.0.0.7"),
            ("SERVICE_ACCOUNT", "bookinfo-reviews"),
        ];
        base.iter().chain(pairs).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    const LABELS: &str = "app=\"reviews\"\nservice.istio.io/canonical-name=\"reviews\"\nversion=\"v1\"\n";

    #[test]
    fn an_injected_pods_environment_becomes_a_node() {
        let variables = variables(&[
            (
                "PROXY_CONFIG",
                r#"{"discoveryAddress":"istiod-canary.mesh.svc:15012","concurrency":2,"terminationDrainDuration":"20s"}"#,
            ),
            ("ISTIO_META_WORKLOAD_NAME", "reviews-v1"),
            ("ISTIO_META_CLUSTER_ID", "east"),
            ("TRUST_DOMAIN", "example.org"),
            ("ISTIO_CPU_LIMIT", "2"),
        ]);
        let environment = Environment::read(ProxyType::Sidecar, Some("default.svc.corp.local"), &variables, LABELS, "")
            .expect("complete");
        assert_eq!(environment.node.id.to_string(), "sidecar~10.0.0.7~reviews-v1-0.default~default.svc.corp.local");
        assert_eq!(environment.identity.to_string(), "spiffe://example.org/ns/default/sa/bookinfo-reviews");
        assert_eq!(environment.discovery_address, "istiod-canary.mesh.svc:15012");
        assert_eq!(environment.ca_address, "istiod-canary.mesh.svc:15012");
        assert_eq!((environment.concurrency, environment.cpu_limit), (Some(2), Some(2)));
        assert_eq!(environment.termination_drain, Duration::from_secs(20));
        assert_eq!(environment.node.metadata.labels["version"], "v1");
        assert_eq!(environment.peer_metadata().workload_name, "reviews-v1");
        assert_eq!(environment.peer_metadata().cluster_id, "east");
        assert_eq!(&*environment.proxy().viewpoint.domain, "corp.local");
    }

    #[test]
    fn an_application_that_reads_xds_itself_is_told_where() {
        let none = Environment::read(ProxyType::Sidecar, None, &variables(&[]), "", "").expect("complete");
        assert!(none.grpc.is_none() && none.node.metadata.virtual_hosts);
        let variables = variables(&[
            ("ISTIO_META_GENERATOR", "grpc"),
            ("OUTPUT_CERTS", "/certs"),
            ("GRPC_XDS_BOOTSTRAP", "/b.json"),
        ]);
        let environment = Environment::read(ProxyType::Sidecar, None, &variables, "", "").expect("complete");
        assert_eq!(environment.node.metadata.generator, "grpc");
        assert!(!environment.node.metadata.virtual_hosts);
        let grpc = environment.grpc.expect("it reads xDS itself");
        assert_eq!(grpc.bootstrap.to_str(), Some("/b.json"));
        assert_eq!(grpc.certificates.as_deref().and_then(std::path::Path::to_str), Some("/certs"));
        assert_eq!(grpc.socket.to_str(), Some("/etc/istio/proxy/XDS"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let mut missing = variables(&[]);
        missing.remove("SERVICE_ACCOUNT");
        let error = Environment::read(ProxyType::Sidecar, None, &missing, "", "").expect_err("no service account");
        assert!(matches!(error, EnvironmentError::Missing("SERVICE_ACCOUNT")), "{error}");
        for (name, value) in [
            ("PROXY_CONFIG", "{"),
            ("SECRET_TTL", "soon"),
            ("INSTANCE_IP", "nowhere"),
            ("ISTIO_KUBE_APP_PROBERS", "[]"),
            ("ISTIO_PROMETHEUS_ANNOTATIONS", "{"),
        ] {
            let error = Environment::read(ProxyType::Sidecar, None, &variables(&[(name, value)]), "", "")
                .expect_err("a value that cannot be read");
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn defaults_are_istios() {
        let environment = Environment::read(ProxyType::Router, None, &variables(&[]), "", "").expect("complete");
        assert_eq!(environment.discovery_address, "istiod.istio-system.svc:15012");
        assert_eq!((environment.status_port, environment.admin_port), (15020, 15000));
        assert!(environment.proxy().gateway);
        assert_eq!(cluster_domain(Some("other.svc.x"), "default"), "cluster.local");
    }

    /// As in Istio, the agent reads these two itself.
    #[test]
    fn annotations_of_the_pod_go_before_its_settings() {
        let config = [("PROXY_CONFIG", r#"{"discoveryAddress":"a:1","statusPort":15999}"#)];
        let rows = [
            ("", "a:1", None),
            ("status.sidecar.istio.io/port=\"15998\"\n", "a:1", Some(15998)),
            ("other=\"\\x00\"\nsidecar.istio.io/discoveryAddress=\"b:2\"\n", "b:2", None),
            ("sidecar.istio.io/discoveryAddress=\"\"\nstatus.sidecar.istio.io/port=\"0\"\n", "a:1", None),
        ];
        for (annotations, address, port) in rows {
            let environment =
                Environment::read(ProxyType::Sidecar, None, &variables(&config), "", annotations).expect("complete");
            assert_eq!(
                (environment.discovery_address.as_str(), environment.probes_port),
                (address, port),
                "{annotations}"
            );
            assert_eq!(environment.status_port, 15999, "{annotations}");
        }
    }

    #[test]
    fn durations_are_read_as_protobuf_and_go_write_them() {
        for (text, millis) in
            [("5s", Some(5000)), ("1.5s", Some(1500)), ("1h30m", Some(5_400_000)), ("250ms", Some(250))]
        {
            assert_eq!(go_duration(text).map(|duration| duration.as_millis()), millis, "{text}");
        }
        for text in ["", "5", "s", "5d", "-5s", "5s7"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
