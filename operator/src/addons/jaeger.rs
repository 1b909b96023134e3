//! Jaeger: all of it in one process, its storage Badger. It speaks OTLP, its own protocols and Zipkin's, and is also the
//! Service `zipkin`, so that meshes that send there need no change.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use names::labels;
use serde_json::{Value, json};

use super::workload::{Workload, claim, config_map, liveness, mount, scratch, service, settings, storage};
use super::{Addon, AddonKind};
use crate::meshinstall::build::{RenderError, Rendered, pod};
use crate::meshinstall::mesh::Mesh;

const KIND: AddonKind = AddonKind::Jaeger;
/// Where its pages are.
pub(super) const PATH: &str = "/jaeger";
const QUERY: u16 = 16686;
const QUERY_GRPC: u16 = 16685;
const ZIPKIN: u16 = 9411;
const OTLP_GRPC: u16 = 4317;
const OTLP_HTTP: u16 = 4318;
const COLLECTOR_GRPC: u16 = 14250;
const COLLECTOR_HTTP: u16 = 14268;
const HEALTH: u16 = 13133;
const METRICS: u16 = 8888;
/// The image's user.
const ID: i64 = 10001;

pub(super) fn build(mesh: &Mesh, addon: &Addon) -> Result<Vec<Rendered>, RenderError> {
    let selector = BTreeMap::from([(labels::APP.to_owned(), "jaeger".to_owned())]);
    let (map, checksum) = config_map(mesh, KIND, [("config.yaml", crds::yaml::to_string(&config())?)])?;
    let mut annotations = pod::scrape(METRICS, None);
    annotations.extend([checksum]);
    let mut objects = vec![map];
    objects.extend(claim(mesh, KIND, addon.persistence.as_ref())?);
    let one = |name: &str, ports: &[(&str, u16, u16)]| service(mesh, KIND, name, &selector, ports);
    objects.push(one("tracing", &[("http-query", 80, QUERY), ("grpc-query", QUERY_GRPC, QUERY_GRPC)])?);
    objects.push(one("zipkin", &[("http-query", ZIPKIN, ZIPKIN)])?);
    objects.push(one(
        "jaeger-collector",
        &[
            ("jaeger-collector-http", COLLECTOR_HTTP, COLLECTOR_HTTP),
            ("jaeger-collector-grpc", COLLECTOR_GRPC, COLLECTOR_GRPC),
            ("http-zipkin", ZIPKIN, ZIPKIN),
            ("grpc-otel", OTLP_GRPC, OTLP_GRPC),
            ("http-otel", OTLP_HTTP, OTLP_HTTP),
        ],
    )?);
    let ports = [
        ("http-query", QUERY),
        ("grpc-query", QUERY_GRPC),
        ("http-zipkin", ZIPKIN),
        ("grpc-otel", OTLP_GRPC),
        ("http-otel", OTLP_HTTP),
        ("grpc-collector", COLLECTOR_GRPC),
        ("http-collector", COLLECTOR_HTTP),
        ("http-health", HEALTH),
        ("http-metrics", METRICS),
    ];
    let workload = Workload {
        kind: KIND,
        selector: selector.clone(),
        annotations,
        container: Container {
            name: "jaeger".into(),
            args: Some(["--config", "/jaeger-configuration/config.yaml"].map(str::to_owned).into()),
            ports: Some(ports.iter().map(|(name, number)| pod::port(name, *number)).collect()),
            readiness_probe: Some(pod::http_probe("/status", HEALTH, 5, 3)),
            liveness_probe: Some(liveness("/status", HEALTH)),
            volume_mounts: Some(vec![
                mount("data", "/badger", false),
                mount("jaeger-configuration", "/jaeger-configuration", true),
                mount("tmp", "/tmp", false),
            ]),
            ..Container::default()
        },
        volumes: vec![
            storage("data", KIND, addon.persistence.as_ref()),
            settings("jaeger-configuration", KIND, &[]),
            scratch("tmp"),
        ],
        id: ID,
        alone: true,
        grace: None,
    };
    objects.extend(workload.build(mesh, addon)?);
    Ok(objects)
}

fn config() -> Value {
    let at = |port: u16| json!({"endpoint": format!("0.0.0.0:{port}")});
    json!({
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "remote_sampling", "healthcheckv2"],
            "pipelines": {"traces": {
                "receivers": ["otlp", "jaeger", "zipkin"],
                "processors": ["batch"],
                "exporters": ["jaeger_storage_exporter"],
            }},
            "telemetry": {
                "resource": {"service.name": "jaeger"},
                "metrics": {
                    "level": "detailed",
                    "readers": [{"pull": {"exporter": {"prometheus": {"host": "0.0.0.0", "port": METRICS}}}}],
                },
                "logs": {"level": "info"},
            },
        },
        "extensions": {
            "jaeger_query": {"base_path": PATH, "storage": {"traces": "badger_storage"}},
            "jaeger_storage": {"backends": {"badger_storage": {"badger": {
                "ephemeral": false,
                "directories": {"keys": "/badger/key", "values": "/badger/data/"},
            }}}},
            "remote_sampling": {
                "file": {"path": null, "default_sampling_probability": 1, "reload_interval": "1s"},
                "http": at(5778),
                "grpc": at(5779),
            },
            "healthcheckv2": {"use_v2": true, "http": at(HEALTH)},
        },
        "receivers": {
            "otlp": {"protocols": {"grpc": at(OTLP_GRPC), "http": at(OTLP_HTTP)}},
            "jaeger": {"protocols": {
                "grpc": at(COLLECTOR_GRPC),
                "thrift_http": at(COLLECTOR_HTTP),
                "thrift_binary": at(6832),
                "thrift_compact": at(6831),
            }},
            "zipkin": at(ZIPKIN),
        },
        "processors": {"batch": null},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "badger_storage"}},
    })
}
