//! Image names.
//!
//! Two images are our own: the proxy, and one multi-call binary for everything else. Those of addons are their makers'.
//! An explicit value in a MeshInstall wins over the operator's `RELATED_IMAGE_*` environment, and that over the default.

/// The registry and organisation that images come from unless configured otherwise.
pub const HUB: &str = "docker.io/forestay";
/// The proxy: sidecar, gateway and redirection set-up.
pub const PROXY: &str = "proxyv2";
/// The multi-call binary: `operator`, `istiod`, `webhook` and the CLI.
pub const FORESTAY: &str = "forestay";
/// The addon Prometheus, in the version of Istio's sample.
pub const PROMETHEUS: &str = "docker.io/prom/prometheus:v3.10.0";
/// The addon Grafana, in the version of Istio's sample.
pub const GRAFANA: &str = "docker.io/grafana/grafana:12.0.1";
/// The addon Kiali, in the version of Istio's sample.
pub const KIALI: &str = "quay.io/kiali/kiali:v2.27";
/// The addon Jaeger, in the version of Istio's sample.
pub const JAEGER: &str = "docker.io/jaegertracing/jaeger:2.17.0";
/// The addon Zipkin: the small distribution, as Istio's sample has it.
pub const ZIPKIN: &str = "docker.io/openzipkin/zipkin-slim:3.4.4";
/// The operator's environment variable that names the proxy's image.
pub const RELATED_IMAGE_PROXY: &str = "RELATED_IMAGE_PROXY";
/// The operator's environment variable that names the multi-call image.
pub const RELATED_IMAGE_FORESTAY: &str = "RELATED_IMAGE_FORESTAY";
/// The operator's environment variable that names Prometheus' image.
pub const RELATED_IMAGE_PROMETHEUS: &str = "RELATED_IMAGE_PROMETHEUS";
/// The operator's environment variable that names Grafana's image.
pub const RELATED_IMAGE_GRAFANA: &str = "RELATED_IMAGE_GRAFANA";
/// The operator's environment variable that names Kiali's image.
pub const RELATED_IMAGE_KIALI: &str = "RELATED_IMAGE_KIALI";
/// The operator's environment variable that names Jaeger's image.
pub const RELATED_IMAGE_JAEGER: &str = "RELATED_IMAGE_JAEGER";
/// The operator's environment variable that names Zipkin's image.
pub const RELATED_IMAGE_ZIPKIN: &str = "RELATED_IMAGE_ZIPKIN";
/// One image that an installation can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Related {
    /// The operator's environment variable for it.
    pub variable: &'static str,
    /// What it is called where images are listed.
    pub name: &'static str,
    /// Its name, which hub and version complete, or a whole reference; see [`reference()`].
    pub image: &'static str,
}

/// Every image that an installation can run.
pub const RELATED: [Related; 7] = [
    Related { variable: RELATED_IMAGE_FORESTAY, name: FORESTAY, image: FORESTAY },
    Related { variable: RELATED_IMAGE_PROXY, name: PROXY, image: PROXY },
    Related { variable: RELATED_IMAGE_PROMETHEUS, name: "prometheus", image: PROMETHEUS },
    Related { variable: RELATED_IMAGE_GRAFANA, name: "grafana", image: GRAFANA },
    Related { variable: RELATED_IMAGE_KIALI, name: "kiali", image: KIALI },
    Related { variable: RELATED_IMAGE_JAEGER, name: "jaeger", image: JAEGER },
    Related { variable: RELATED_IMAGE_ZIPKIN, name: "zipkin", image: ZIPKIN },
];
/// The operating system that images are built for, as Go and Kubernetes call it.
pub const OS: &str = "linux";
/// The architecture that images are built for, as Go and Kubernetes call it.
pub const ARCHITECTURE: &str = "amd64";

/// `<hub>/<name>:<tag>`; a name with a `/` in it is a whole reference already and is taken as it is.
pub fn reference(hub: &str, name: &str, tag: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{}/{name}:{tag}", hub.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_with_a_slash_is_a_whole_reference() {
        assert_eq!(super::reference("docker.io/forestay/", "proxyv2", "0.1.0"), "docker.io/forestay/proxyv2:0.1.0");
        assert_eq!(super::reference("docker.io/forestay", "example.org/p:1", "0.1.0"), "example.org/p:1");
    }
}
