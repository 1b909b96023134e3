//! What a Secret says, and the Secrets of an API server in memory.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::api_server::ApiServer;

#[test]
fn a_secret_reads_back_what_it_writes() {
    let made = Material::self_signed("cluster.local", UNIX_EPOCH + Duration::from_hours(1)).unwrap();
    assert_eq!(material(&secret(&made)), made);
}

#[test]
fn istios_self_signed_secret_is_its_own_root() {
    let made = Material::self_signed("cluster.local", UNIX_EPOCH + Duration::from_hours(1)).unwrap();
    let mut istios = secret(&made);
    for key in [Material::CERT_CHAIN, Material::ROOT_CERT] {
        istios.data.as_mut().unwrap().insert(key.to_owned(), ByteString::default());
    }
    let taken = material(&istios);
    assert_eq!(taken.root_cert, made.ca_cert);
    Authority::load(&taken, UNIX_EPOCH + Duration::from_hours(2)).unwrap();

    istios.metadata.name = Some(PLUGGED_CA_SECRET.to_owned());
    assert_eq!(material(&istios).root_cert, "", "an intermediate is never taken for a root");
}

#[test]
fn an_absent_secret_counts_only_once_the_list_is_whole() {
    let mut seen = Seen::default();
    seen.apply(0, watcher::Event::Init);
    seen.apply(1, watcher::Event::Init);
    seen.apply(1, watcher::Event::InitDone);
    assert_eq!(seen.listed, [false, true]);
    seen.apply(0, watcher::Event::InitApply(Secret::default()));
    seen.apply(0, watcher::Event::InitDone);
    assert_eq!((seen.listed, seen.plugged.is_some(), seen.own.is_some()), ([true, true], true, false));
    seen.apply(0, watcher::Event::Init);
    assert_eq!((seen.listed, seen.plugged.is_some()), ([false, true], false));
}

#[test]
fn a_folder_holds_the_same_files() {
    let now = SystemTime::now();
    let folder = tempfile::tempdir().unwrap();
    let made = Material::self_signed("cluster.local", now).unwrap();
    std::fs::write(folder.path().join(Material::CA_CERT), &made.ca_cert).unwrap();
    std::fs::write(folder.path().join(Material::CA_KEY), &made.ca_key).unwrap();
    let error = from_folder(Some(folder.path()), "cluster.local", now).err().unwrap().to_string();
    assert!(error.contains(Material::ROOT_CERT), "{error}");
    std::fs::write(folder.path().join(Material::ROOT_CERT), &made.root_cert).unwrap();
    assert_eq!(from_folder(Some(folder.path()), "cluster.local", now).unwrap().root_pem(), made.root_cert);
}

/// A replica's store, and the root that it uses.
struct Replica {
    current: Current,
    _leader: watch::Sender<bool>,
}

impl Replica {
    fn start(api: &ApiServer) -> Self {
        let (sender, current) = watch::channel(None);
        let (leads, leader) = watch::channel(false);
        let (_, mesh) = watch::channel(Arc::new(Mesh::default()));
        let store = Store::new(api.client(), "istio-system", mesh, sender, leader);
        tokio::spawn(store.run(CancellationToken::new()));
        Self { current, _leader: leads }
    }

    async fn root(&mut self) -> String {
        let current = self.current.wait_for(Option::is_some).await.unwrap();
        current.as_ref().unwrap().root_pem().to_owned()
    }
}

fn stored(api: &ApiServer, name: &str) -> Option<Value> {
    api.get("v1", "secrets", "istio-system", name)
}

fn document(name: &str, material: &Material) -> Value {
    let mut document = serde_json::to_value(secret(material)).unwrap();
    document["metadata"] = json!({ "namespace": "istio-system", "name": name });
    document
}

#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_agree_on_one_root() {
    let api = ApiServer::new();
    let mut replicas = [Replica::start(&api), Replica::start(&api), Replica::start(&api)];
    let root = replicas[0].root().await;
    for replica in &mut replicas {
        assert_eq!(replica.root().await, root);
    }
    assert_eq!(stored(&api, CA_SECRET).unwrap()["type"], SECRET_TYPE);
    assert_eq!(Replica::start(&api).root().await, root, "a later one reads it");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_secret_comes_back_with_the_same_root() {
    let api = ApiServer::new();
    let root = Replica::start(&api).root().await;
    let before = stored(&api, CA_SECRET).unwrap()["metadata"]["resourceVersion"].clone();
    api.delete("v1", "secrets", "istio-system", CA_SECRET);
    api.until(|api| stored(api, CA_SECRET).filter(|secret| secret["metadata"]["resourceVersion"] != before)).await;
    assert_eq!(Replica::start(&api).root().await, root);
}

#[tokio::test(start_paused = true)]
async fn what_the_user_brought_wins_and_nonsense_changes_nothing() {
    let api = ApiServer::new();
    let mut replica = Replica::start(&api);
    let own = replica.root().await;
    let brought = Material::self_signed("example.org", SystemTime::now()).unwrap();
    api.put("secrets", document(PLUGGED_CA_SECRET, &brought));
    replica.current.changed().await.unwrap();
    assert_eq!(replica.root().await, brought.root_cert);

    let nonsense = Material { ca_key: "nonsense".to_owned(), ..brought.clone() };
    api.put("secrets", document(PLUGGED_CA_SECRET, &nonsense));
    let again = Material::self_signed("again.example", SystemTime::now()).unwrap();
    api.put("secrets", document(PLUGGED_CA_SECRET, &again));
    replica.current.changed().await.unwrap();
    assert_eq!(replica.root().await, again.root_cert, "nonsense in between was passed over");

    api.delete("v1", "secrets", "istio-system", PLUGGED_CA_SECRET);
    replica.current.changed().await.unwrap();
    assert_eq!(replica.root().await, own);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_user_brought_is_never_written_into_our_secret() {
    let api = ApiServer::new();
    let brought = Material::self_signed("example.org", SystemTime::now()).unwrap();
    api.put("secrets", document(PLUGGED_CA_SECRET, &brought));
    let mut replica = Replica::start(&api);
    assert_eq!(replica.root().await, brought.root_cert);
    assert!(stored(&api, CA_SECRET).is_none(), "nothing is made while the user's is there");

    api.delete("v1", "secrets", "istio-system", PLUGGED_CA_SECRET);
    replica.current.changed().await.unwrap();
    let root = replica.root().await;
    assert_ne!(root, brought.root_cert);
    let made: Secret = serde_json::from_value(stored(&api, CA_SECRET).unwrap()).unwrap();
    assert_ne!(material(&made).ca_key, brought.ca_key);
    assert_eq!(material(&made).root_cert, root);

    // What was made is ours, and comes back as such.
    let before = stored(&api, CA_SECRET).unwrap()["metadata"]["resourceVersion"].clone();
    api.delete("v1", "secrets", "istio-system", CA_SECRET);
    api.until(|api| stored(api, CA_SECRET).filter(|secret| secret["metadata"]["resourceVersion"] != before)).await;
    assert_eq!(Replica::start(&api).root().await, root);
}

#[test]
fn only_a_self_signed_root_of_ours_is_written() {
    let root = Material::self_signed("cluster.local", UNIX_EPOCH + Duration::from_hours(1)).unwrap();
    let other = Material::self_signed("example.org", UNIX_EPOCH + Duration::from_hours(1)).unwrap();
    let intermediate = Material { root_cert: other.root_cert, ..root.clone() };
    for (what, material, secret, writes) in [
        ("a root of ours", &root, CA_SECRET, true),
        ("a root that the user brought", &root, PLUGGED_CA_SECRET, false),
        ("an intermediate in our Secret", &intermediate, CA_SECRET, false),
        ("an intermediate that the user brought", &intermediate, PLUGGED_CA_SECRET, false),
    ] {
        let in_use = InUse { material: material.clone(), secret };
        assert_eq!(in_use.own_root().is_some(), writes, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_used_is_never_overwritten() {
    let api = ApiServer::new();
    let good = Material::self_signed("cluster.local", SystemTime::now()).unwrap();
    let broken = document(CA_SECRET, &Material { ca_key: String::new(), ..good.clone() });
    api.put("secrets", broken.clone());
    let mut replica = Replica::start(&api);
    // Longer than any retry of the store.
    tokio::time::sleep(RETRY * 10).await;
    assert!(replica.current.borrow().is_none());
    assert_eq!(stored(&api, CA_SECRET).unwrap()["data"], broken["data"]);
    api.put("secrets", document(CA_SECRET, &good));
    assert_eq!(replica.root().await, good.root_cert);
}
