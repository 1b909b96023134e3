//! The administration over a proxy that has a configuration, a certificate, and a refused rule.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use xds::{
    node::{NodeId, NodeMetadata, ProxyNode, ProxyType},
    type_url,
};

use super::Admin;
use crate::{
    agent::{lifecycle::Lifecycle, lifecycle::Phase, readiness::Readiness},
    tls::tests::Authority,
    xds::{
        publish::Publisher,
        session::tests::{first_configuration, host, response, session},
    },
};

const SPIFFE: &str = "spiffe://cluster.local/ns/default/sa/p";

fn admin() -> Admin {
    let mut session = session();
    session.open();
    let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    for response in first_configuration() {
        session.receive(response, now, wall);
    }
    let publisher = Publisher::new();
    let changes = session.changes(now);
    for (cluster, set) in changes.endpoints {
        publisher.endpoints(cluster, set);
    }
    publisher.snapshot(changes.snapshot.expect("whole"));
    let broken = response(type_url::VIRTUAL_HOST, "6", vec![host("9080/b", "2", "b", "")]);
    session.receive(broken, now, wall);
    let node = ProxyNode {
        id: NodeId {
            proxy_type: ProxyType::Sidecar,
            ip: "10.0.0.7".into(),
            pod: "p".into(),
            namespace: "default".into(),
            cluster_domain: "cluster.local".into(),
        },
        metadata: NodeMetadata { namespace: "default".into(), workload_name: "p".into(), ..NodeMetadata::default() },
    };
    Admin::new(
        node,
        Arc::new(Mutex::new(session)),
        Arc::new(publisher),
        watch::Sender::new(Some(Authority::new().identity(1, SPIFFE))).subscribe(),
        Arc::new(Readiness::new()),
        Arc::new(Lifecycle::new()),
        Arc::new(|| "# TYPE a counter\na{b=\"c\"} 1\n".to_owned()),
        Arc::new(|level| if level == "debug" { Ok(()) } else { Err(format!("no level {level}")) }),
    )
}

async fn ask(admin: &Admin, method: &Method, path: &str, query: &str) -> (StatusCode, String) {
    let answer = admin.answer(method, path, query);
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn get(path: &str, query: &str) -> String {
    let (status, body) = ask(&admin(), &Method::GET, path, query).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

async fn dump(query: &str) -> Value {
    serde_json::from_str(&get("/config_dump", query).await).expect("JSON")
}

#[tokio::test]
async fn the_dump_has_envoys_sections_with_virtual_hosts_in_their_tables_and_no_key() {
    let all = dump("include_eds").await;
    let configs = all["configs"].as_array().expect("a list");
    let section = |name: &str| {
        let wanted = format!("type.googleapis.com/envoy.admin.v3.{name}");
        configs.iter().find(|config| config["@type"] == wanted.as_str()).unwrap_or(&Value::Null)
    };
    assert_eq!(
        section("BootstrapConfigDump")["bootstrap"]["node"]["id"],
        "sidecar~10.0.0.7~p.default~default.svc.cluster.local"
    );
    let cluster = &section("ClustersConfigDump")["dynamic_active_clusters"][0];
    assert_eq!(cluster["cluster"]["name"], "a");
    assert_eq!(cluster["version_info"], "1");
    assert_eq!(cluster["last_updated"], "2023-11-14T22:13:20.000Z");
    let listener = &section("ListenersConfigDump")["dynamic_listeners"][0];
    assert_eq!((&listener["name"], &listener["active_state"]["listener"]["name"]), (&json!("l"), &json!("l")));
    let table = &section("RoutesConfigDump")["dynamic_route_configs"][0]["route_config"];
    assert_eq!(table["virtual_hosts"][0]["domains"], json!(["a"]));
    assert_eq!(table["virtual_hosts"][0]["routes"][0]["route"]["cluster"], "a");
    let endpoints = &section("EndpointsConfigDump")["dynamic_endpoint_configs"][0]["endpoint_config"];
    let member = &endpoints["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    assert_eq!(member["address"]["socket_address"], json!({"address": "10.0.0.1", "port_value": 9080}));
    let secrets = section("SecretsConfigDump")["dynamic_active_secrets"].as_array().expect("a list").clone();
    let names: Vec<_> = secrets.iter().map(|secret| secret["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["default", "ROOTCA"]);
    // base64 of `[redacted]`
    assert_eq!(secrets[0]["secret"]["tls_certificate"]["private_key"]["inline_bytes"], "W3JlZGFjdGVkXQ==");
}

#[tokio::test]
async fn one_list_of_the_dump_by_name() {
    let clusters = dump("resource=dynamic_active_clusters&name_regex=%5Ea$").await;
    assert_eq!(clusters["configs"][0]["@type"], "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster");
    assert_eq!(dump("resource=dynamic_listeners&name_regex=none").await["configs"], json!([]));
    for query in ["resource=nothing", "name_regex=("] {
        assert_eq!(ask(&admin(), &Method::GET, "/config_dump", query).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn clusters_listeners_certificates_and_statistics_are_shown() {
    let text = get("/clusters", "").await;
    assert!(text.contains("a::10.0.0.1:9080::health_flags::healthy\n"), "{text}");
    let clusters: Value = serde_json::from_str(&get("/clusters", "format=json").await).expect("JSON");
    assert_eq!(clusters["cluster_statuses"][0]["host_statuses"][0]["health_status"]["eds_health_status"], "HEALTHY");
    assert_eq!(get("/listeners", "").await, "l::0.0.0.0:9080\n");
    let certificates: Value = serde_json::from_str(&get("/certs", "").await).expect("JSON");
    let chain = &certificates["certificates"][0]["cert_chain"][0];
    assert_eq!(chain["subject_alt_names"], json!([{"uri": SPIFFE}]));
    assert_eq!(get("/stats", "").await, "a{b=\"c\"}: 1\n");
    assert!(get("/stats", "format=prometheus").await.contains("# TYPE"));
    let server: Value = serde_json::from_str(&get("/server_info", "").await).expect("JSON");
    assert_eq!((&server["state"], &server["version"]), (&json!("INITIALIZING"), &json!(names::VERSION)));
    let memory: Value = serde_json::from_str(&get("/memory", "").await).expect("JSON");
    assert_ne!(memory["total_physical_bytes"], "0");
}

#[tokio::test]
async fn what_changes_something_must_be_a_post() {
    let admin = admin();
    for path in ["/logging", "/drain_listeners", "/quitquitquit"] {
        assert_eq!(ask(&admin, &Method::GET, path, "level=debug").await.0, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(ask(&admin, &Method::POST, "/logging", "level=debug").await.0, StatusCode::OK);
    assert_eq!(
        ask(&admin, &Method::POST, "/logging", "level=loud").await,
        (StatusCode::BAD_REQUEST, "no level loud\n".to_owned())
    );
    let ready = ask(&admin, &Method::GET, "/ready", "").await;
    assert_eq!(ready.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&admin, &Method::POST, "/drain_listeners", "").await.0, StatusCode::OK);
    assert_eq!(admin.lifecycle.phase(), Phase::Draining);
    let ready = ask(&admin, &Method::GET, "/ready", "").await;
    assert_eq!(ready.1, "DRAINING: draining\n");
    assert_eq!(ask(&admin, &Method::GET, "/nothing", "").await.0, StatusCode::NOT_FOUND);
}
