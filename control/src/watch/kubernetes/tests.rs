//! Watches against an API server in memory.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use translate::model::change::Kind;
use translate::model::mesh::Mesh;

use super::{KINDS, start};
use crate::api_server::ApiServer;
use crate::metrics::Metrics;
use crate::push::queue::Queue;
use crate::watch::Intake;

const NETWORKING: &str = "networking.istio.io/v1";

struct World {
    api: ApiServer,
    intake: Arc<Intake>,
    queue: Queue,
    _watches: tokio::task::JoinSet<()>,
}

impl World {
    fn start(api: ApiServer) -> Self {
        let (changes, queue) = Queue::new();
        let awaited = KINDS.into_iter().chain([Kind::Mesh]);
        let intake = Arc::new(Intake::new(Mesh::default(), awaited, changes, Arc::new(Metrics::new())));
        let watches = start(&api.client(), "istio-system", "default", &intake, &CancellationToken::new());
        Self { api, intake, queue, _watches: watches }
    }

    async fn synced(&self) {
        self.intake.synced().wait_for(|synced| *synced).await.unwrap();
    }

    /// Waits until the VirtualServices are these: `<name> <first host>`.
    async fn virtual_services(&mut self, expected: &[&str]) {
        loop {
            let inputs = self.intake.inputs();
            let found: Vec<String> =
                inputs.virtual_services.values().map(|rule| format!("{} {}", rule.name, rule.spec.hosts[0])).collect();
            if found == expected {
                return;
            }
            self.queue.next().await.unwrap();
        }
    }
}

fn rule(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": NETWORKING, "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": name, "generation": 1 },
        "spec": { "hosts": [host], "http": [{ "route": [{ "destination": { "host": host } }] }] },
    })
}

#[tokio::test(start_paused = true)]
async fn objects_are_followed() {
    let api = ApiServer::new();
    api.put("virtualservices", rule("a", "a.example"));
    api.put("virtualservices", rule("b", "b.example"));
    let mut world = World::start(api);
    world.synced().await;
    world.virtual_services(&["a a.example", "b b.example"]).await;
    world.api.put("virtualservices", rule("b", "c.example"));
    world.virtual_services(&["a a.example", "b c.example"]).await;
    world.api.delete(NETWORKING, "virtualservices", "default", "a");
    world.virtual_services(&["b c.example"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_revision_is_not_for_this_one() {
    let of = |name: &str, revision: &str| {
        let mut rule = rule(name, "a.example");
        rule["metadata"]["labels"] = json!({"istio.io/rev": revision});
        rule
    };
    let api = ApiServer::new();
    api.put("virtualservices", of("own", "default"));
    api.put("virtualservices", of("others", "canary"));
    api.put("virtualservices", rule("everybodys", "a.example"));
    let mut world = World::start(api);
    world.synced().await;
    world.virtual_services(&["everybodys a.example", "own a.example"]).await;
    world.api.put("virtualservices", of("own", "canary"));
    world.api.put("virtualservices", of("others", "default"));
    world.virtual_services(&["everybodys a.example", "others a.example"]).await;
    assert_eq!(world.intake.unreadable(), [], "it is not wrong either");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_stalls_nothing() {
    let api = ApiServer::new();
    let mut bad = rule("bad", "a.example");
    bad["spec"]["http"][0]["timeout"] = json!("soon");
    api.put("virtualservices", bad);
    api.put("virtualservices", rule("good", "b.example"));
    let mut world = World::start(api);
    world.synced().await;
    world.virtual_services(&["good b.example"]).await;
    let unreadable = world.intake.unreadable();
    assert_eq!(unreadable.len(), 1);
    assert!(unreadable[0].2.starts_with("spec.http[0].timeout"), "{unreadable:?}");

    // Its last good version stays when a good one turns bad.
    let mut bad = rule("good", "z.example");
    bad["spec"]["hosts"] = json!("not a list");
    world.api.put("virtualservices", bad);
    world.api.put("virtualservices", rule("other", "c.example"));
    world.virtual_services(&["good b.example", "other c.example"]).await;
    world.api.put("virtualservices", rule("good", "y.example"));
    world.virtual_services(&["good y.example", "other c.example"]).await;
    assert_eq!(world.intake.unreadable().len(), 1, "only the one that was never good");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_server_does_not_know_is_empty_and_asked_for_again() {
    let api = ApiServer::new();
    for plural in ["virtualservices", "peerauthentications"] {
        api.serve(plural, false);
    }
    let mut world = World::start(api);
    world.synced().await;
    world.api.serve("virtualservices", true);
    world.api.put("virtualservices", rule("a", "a.example"));
    world.virtual_services(&["a a.example"]).await;
}

#[tokio::test(start_paused = true)]
async fn the_mesh_config_is_followed_and_its_last_good_version_kept() {
    let map = |mesh: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "namespace": "istio-system", "name": "istio" }, "data": { "mesh": mesh },
        })
    };
    let api = ApiServer::new();
    api.put("configmaps", map("trustDomain: example.org"));
    api.put("virtualservices", rule("a", "a.example"));
    let mut world = World::start(api);
    world.synced().await;
    let mut mesh = world.intake.mesh();
    mesh.wait_for(|mesh| mesh.config.trust_domain == "example.org").await.unwrap();
    world.api.put("configmaps", map("trustDomain: [1"));
    world.api.delete("v1", "configmaps", "istio-system", "istio");
    world.api.put("configmaps", map("trustDomain: example.org\ndefaultVirtualServiceExportTo: ['.']"));
    mesh.changed().await.unwrap();
    assert_eq!(mesh.borrow().config.trust_domain, "example.org", "neither nonsense nor absence counted");

    // Rules are reduced again, because it is the MeshConfig that says where they are visible.
    loop {
        let inputs = world.intake.inputs();
        if inputs.virtual_services.values().all(|rule| !rule.visibility.allows("elsewhere")) {
            break;
        }
        world.queue.next().await.unwrap();
    }
}
