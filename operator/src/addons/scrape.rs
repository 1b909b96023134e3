//! What Prometheus scrapes: Istio's sample, which is the community chart's configuration, job by job. Pods and Services
//! say by annotation that they want to be scraped, and where: `prometheus.io/{scrape,scheme,path,port}`.

use serde_json::{Map, Value, json};

/// Where a pod's service account shows itself to the API server and to kubelets.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// `prometheus.yml`, for Prometheus 2 and 3.
pub(super) fn config() -> Value {
    json!({
        "global": {"evaluation_interval": "1m", "scrape_interval": "15s", "scrape_timeout": "10s"},
        "scrape_configs": [
            api_servers(),
            nodes("kubernetes-nodes", None),
            nodes("kubernetes-nodes-cadvisor", Some("/metrics/cadvisor")),
            pods(Pace::Usual),
            pods(Pace::Slow),
            endpoints(Pace::Usual),
            endpoints(Pace::Slow),
            probed_services(),
            {"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"]}]},
            {
                "job_name": "prometheus-pushgateway",
                "honor_labels": true,
                "kubernetes_sd_configs": [{"role": "service"}],
                "relabel_configs": [keep("pushgateway", &["__meta_kubernetes_service_annotation_prometheus_io_probe"])],
            },
        ],
    })
}

/// How often a target is scraped: some are too large for every 15 seconds, and say so by `prometheus.io/scrape-slow`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Usual,
    Slow,
}

impl Pace {
    /// A job under its name, and its times where they are not everyone's.
    fn job(self, name: &str, role: &str, rules: Vec<Value>) -> Value {
        let mut job = Map::new();
        let suffix = if self == Self::Slow { "-slow" } else { "" };
        job.insert("job_name".into(), format!("{name}{suffix}").into());
        job.insert("honor_labels".into(), true.into());
        job.insert("kubernetes_sd_configs".into(), json!([{"role": role}]));
        job.insert("relabel_configs".into(), rules.into());
        if self == Self::Slow {
            job.insert("scrape_interval".into(), "5m".into());
            job.insert("scrape_timeout".into(), "30s".into());
        }
        job.into()
    }

    /// Who asks for this pace, by the annotations of `of` (`pod`, `service`).
    fn chosen(self, of: &str) -> Vec<Value> {
        let (usual, slow) = (annotation(of, "scrape"), annotation(of, "scrape_slow"));
        match self {
            Self::Usual => vec![keep("true", &[&usual]), drop("true", &[&slow])],
            Self::Slow => vec![keep("true", &[&slow])],
        }
    }
}

fn pods(pace: Pace) -> Value {
    let address = |regex: &str, replacement: &str| {
        replace(regex, &[&annotation("pod", "port"), "__meta_kubernetes_pod_ip"], replacement, "__address__")
    };
    let mut rules = pace.chosen("pod");
    rules.extend([
        replace("(https?)", &[&annotation("pod", "scheme")], "$1", "__scheme__"),
        replace("(.+)", &[&annotation("pod", "path")], "$1", "__metrics_path__"),
        address(r"(\d+);(([A-Fa-f0-9]{1,4}::?){1,7}[A-Fa-f0-9]{1,4})", "[$2]:$1"),
        address(r"(\d+);((([0-9]+?)(\.|$)){4})", "$2:$1"),
        label_map(&annotation("pod", "param_(.+)"), "__param_$1"),
        label_map("__meta_kubernetes_pod_label_(.+)", "$1"),
        copy("__meta_kubernetes_namespace", "namespace"),
        copy("__meta_kubernetes_pod_name", "pod"),
        drop("Pending|Succeeded|Failed|Completed", &["__meta_kubernetes_pod_phase"]),
        copy("__meta_kubernetes_pod_node_name", "node"),
    ]);
    pace.job("kubernetes-pods", "pod", rules)
}

fn endpoints(pace: Pace) -> Value {
    let mut rules = pace.chosen("service");
    rules.extend([
        replace("(https?)", &[&annotation("service", "scheme")], "$1", "__scheme__"),
        replace("(.+)", &[&annotation("service", "path")], "$1", "__metrics_path__"),
        replace(r"(.+?)(?::\d+)?;(\d+)", &["__address__", &annotation("service", "port")], "$1:$2", "__address__"),
        label_map(&annotation("service", "param_(.+)"), "__param_$1"),
        label_map("__meta_kubernetes_service_label_(.+)", "$1"),
        copy("__meta_kubernetes_namespace", "namespace"),
        copy("__meta_kubernetes_service_name", "service"),
        copy("__meta_kubernetes_pod_node_name", "node"),
    ]);
    pace.job("kubernetes-service-endpoints", "endpoints", rules)
}

fn api_servers() -> Value {
    let of = ["__meta_kubernetes_namespace", "__meta_kubernetes_service_name", "__meta_kubernetes_endpoint_port_name"];
    with_account(
        json!({
            "job_name": "kubernetes-api-servers",
            "kubernetes_sd_configs": [{"role": "endpoints"}],
            "relabel_configs": [keep("default;kubernetes;https", &of)],
        }),
        false,
    )
}

/// Kubelets, whose certificates are mostly signed by themselves.
fn nodes(name: &str, path: Option<&str>) -> Value {
    let mut rules = vec![label_map("__meta_kubernetes_node_label_(.+)", "$1")];
    let mut job = json!({"job_name": name, "kubernetes_sd_configs": [{"role": "node"}]});
    if let Some(path) = path {
        rules.push(copy("__metrics_path__", "metrics_path"));
        job["metrics_path"] = path.into();
    }
    job["relabel_configs"] = rules.into();
    with_account(job, true)
}

/// Services that want to be probed by a blackbox exporter.
fn probed_services() -> Value {
    json!({
        "job_name": "kubernetes-services",
        "honor_labels": true,
        "kubernetes_sd_configs": [{"role": "service"}],
        "metrics_path": "/probe",
        "params": {"module": ["http_2xx"]},
        "relabel_configs": [
            keep("true", &[&annotation("service", "probe")]),
            copy("__address__", "__param_target"),
            {"replacement": "blackbox", "target_label": "__address__"},
            copy("__param_target", "instance"),
            label_map("__meta_kubernetes_service_label_(.+)", "$1"),
            copy("__meta_kubernetes_namespace", "namespace"),
            copy("__meta_kubernetes_service_name", "service"),
        ],
    })
}

/// By TLS, as the pod's service account.
fn with_account(mut job: Value, any_certificate: bool) -> Value {
    job["scheme"] = "https".into();
    job["authorization"] = json!({"credentials_file": format!("{ACCOUNT}/token")});
    job["tls_config"] = json!({"ca_file": format!("{ACCOUNT}/ca.crt")});
    if any_certificate {
        job["tls_config"]["insecure_skip_verify"] = true.into();
    }
    job
}

fn annotation(of: &str, name: &str) -> String {
    format!("__meta_kubernetes_{of}_annotation_prometheus_io_{name}")
}

fn keep(regex: &str, sources: &[&str]) -> Value {
    json!({"action": "keep", "regex": regex, "source_labels": sources})
}

fn drop(regex: &str, sources: &[&str]) -> Value {
    json!({"action": "drop", "regex": regex, "source_labels": sources})
}

fn replace(regex: &str, sources: &[&str], replacement: &str, target: &str) -> Value {
    json!({"action": "replace", "regex": regex, "source_labels": sources, "replacement": replacement, "target_label": target})
}

/// The value as it is, under another name.
fn copy(source: &str, target: &str) -> Value {
    json!({"action": "replace", "source_labels": [source], "target_label": target})
}

fn label_map(regex: &str, replacement: &str) -> Value {
    json!({"action": "labelmap", "regex": regex, "replacement": replacement})
}
