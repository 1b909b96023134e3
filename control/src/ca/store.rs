//! Where the authority is kept, and how it is found again.
//!
//! Comes in: Secret `cacerts` (what the user brought; it wins) and Secret `istio-ca-secret` (self-signed, made if it is
//! absent and never overwritten), or a folder with the same file names. Goes out: the authority in use, on a watch
//! channel; what cannot be loaded leaves the last good one in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use names::resources::{CA_SECRET, PLUGGED_CA_SECRET};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use translate::model::mesh::Mesh;

use super::{Authority, Material, rotation};

/// The type of Secret that Istio gives its self-signed authority.
const SECRET_TYPE: &str = "istio.io/ca-root";
/// How often the leader looks whether the root is due for renewal.
const ROTATION_CHECK: Duration = Duration::from_hours(1);
/// How long to wait before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The authority in use; `None` until the first was loaded.
pub(crate) type Current = watch::Receiver<Option<Arc<Authority>>>;

/// Reads the authority from a folder with the file names of the Secret's keys, or makes one that lives as long as the
/// process.
pub(crate) fn from_folder(folder: Option<&Path>, trust_domain: &str, now: SystemTime) -> anyhow::Result<Authority> {
    use anyhow::Context as _;
    let material = match folder {
        None => Material::self_signed(trust_domain, now)?,
        Some(folder) => {
            let read = |name: &str| {
                let path: PathBuf = folder.join(name);
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
            };
            Material {
                ca_cert: read(Material::CA_CERT)?,
                ca_key: read(Material::CA_KEY)?,
                cert_chain: read(Material::CERT_CHAIN).unwrap_or_default(),
                root_cert: read(Material::ROOT_CERT)?,
            }
        }
    };
    Ok(Authority::load(&material, now)?)
}

/// Keeps `current` at what the Secrets say until `stop`.
pub(crate) struct Store {
    secrets: Api<Secret>,
    namespace: String,
    mesh: watch::Receiver<Arc<Mesh>>,
    current: watch::Sender<Option<Arc<Authority>>>,
    in_use: Option<InUse>,
    leader: watch::Receiver<bool>,
}

/// What is in use, so that a Secret that somebody deleted comes back with the root that the mesh trusts.
struct InUse {
    material: Material,
    /// The Secret that it was read from.
    secret: &'static str,
}

impl InUse {
    /// The material, if it is a self-signed root of ours: only that may be written. A key that the user brought is his to
    /// keep and to take away again, and so is an intermediate.
    fn own_root(&self) -> Option<&Material> {
        let signs_itself = self.material.ca_cert.trim() == self.material.root_cert.trim();
        (self.secret == CA_SECRET && signs_itself).then_some(&self.material)
    }
}

/// What the watch has seen of the two Secrets.
#[derive(Default)]
struct Seen {
    plugged: Option<Secret>,
    own: Option<Secret>,
    /// Both lists have arrived: only then does an absent Secret mean that there is none.
    listed: [bool; 2],
}

impl Store {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        mesh: watch::Receiver<Arc<Mesh>>,
        current: watch::Sender<Option<Arc<Authority>>>,
        leader: watch::Receiver<bool>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            mesh,
            current,
            in_use: None,
            leader,
        }
    }

    /// The organisation in a self-signed root.
    fn trust_domain(&self) -> String {
        self.mesh.borrow().config.trust_domain.clone()
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let watch = |name: &str| {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            watcher(self.secrets.clone(), config).default_backoff().boxed()
        };
        let mut events = futures::stream::select(
            watch(PLUGGED_CA_SECRET).map(|event| (0, event)),
            watch(CA_SECRET).map(|event| (1, event)),
        );
        let mut seen = Seen::default();
        let mut check = tokio::time::interval(ROTATION_CHECK);
        let mut retry: Option<tokio::time::Instant> = None;
        loop {
            let wait = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => match event {
                    Some((index, Ok(event))) => seen.apply(index, event),
                    Some((index, Err(error))) => {
                        let name = [PLUGGED_CA_SECRET, CA_SECRET][index];
                        tracing::warn!(%error, "Secret {}/{name} cannot be watched; is the RBAC of istiod complete?", self.namespace);
                        continue;
                    }
                    None => return,
                },
                () = wait => {}
                _ = check.tick() => {
                    self.rotate(&seen).await;
                    continue;
                }
            }
            retry = None;
            if seen.listed == [true, true] && !self.settle(&seen).await {
                retry = Some(tokio::time::Instant::now() + RETRY);
            }
        }
    }

    /// Loads what the Secrets say, or makes the self-signed one. False if it is to be tried again.
    async fn settle(&mut self, seen: &Seen) -> bool {
        let (name, secret) = match (&seen.plugged, &seen.own) {
            (Some(secret), _) => (PLUGGED_CA_SECRET, secret),
            (None, Some(secret)) => (CA_SECRET, secret),
            (None, None) => return self.create().await,
        };
        let material = material(secret);
        if let Some(in_use) = self.in_use.as_mut().filter(|in_use| in_use.material == material) {
            in_use.secret = name;
            return true;
        }
        match Authority::load(&material, SystemTime::now()) {
            Ok(authority) => self.put(material, authority, name),
            Err(error) => tracing::error!(
                "Secret {}/{name}: {error}. {}",
                self.namespace,
                if self.in_use.is_some() {
                    "The last good authority stays in use."
                } else {
                    "No certificate can be issued until it is put right; it is never overwritten."
                },
            ),
        }
        true
    }

    fn put(&mut self, material: Material, authority: Authority, secret: &'static str) {
        tracing::info!("the certificate authority in Secret {}/{secret} is in use", self.namespace);
        self.in_use = Some(InUse { material, secret });
        self.current.send_replace(Some(Arc::new(authority)));
    }

    async fn create(&self) -> bool {
        let now = SystemTime::now();
        let kept = self.in_use.as_ref().and_then(InUse::own_root);
        let material = match kept {
            Some(material) => Ok(material.clone()),
            None => Material::self_signed(&self.trust_domain(), now),
        };
        let material = match material {
            Ok(material) => material,
            Err(error) => {
                tracing::error!(%error, "no self-signed root could be made");
                return false;
            }
        };
        match self.secrets.create(&PostParams::default(), &secret(&material)).await {
            Ok(_) => {
                match (&self.in_use, kept) {
                    (Some(before), None) => tracing::warn!(
                        "Secret {}/{} is gone: a new self-signed root was made in Secret {CA_SECRET}, and the mesh's trust \
                         changes. To keep the old one, put the Secret back",
                        self.namespace,
                        before.secret,
                    ),
                    (Some(_), Some(_)) => {
                        tracing::info!(
                            "Secret {}/{CA_SECRET} was gone: made again, with the same root",
                            self.namespace
                        );
                    }
                    (None, _) => {
                        tracing::info!("Secret {}/{CA_SECRET} made: a self-signed root for the mesh", self.namespace);
                    }
                }
                true // the watch brings it back
            }
            // Another replica was faster: the watch brings what it made.
            Err(kube::Error::Api(status)) if status.code == 409 => true,
            Err(error) => {
                tracing::error!(%error, "Secret {}/{CA_SECRET} cannot be made", self.namespace);
                false
            }
        }
    }

    /// The leader renews a self-signed root in the last part of its life; the watch brings the new one to everybody.
    async fn rotate(&mut self, seen: &Seen) {
        let (None, Some(old), true) = (&seen.plugged, &seen.own, *self.leader.borrow()) else { return };
        let now = SystemTime::now();
        let due = match self.current.borrow().as_ref() {
            Some(authority) => rotation::root_is_due(authority.validity(), now),
            None => false,
        };
        // Whoever brought an authority, or took over an intermediate, renews it himself.
        let Some(material) = self.in_use.as_ref().filter(|_| due).and_then(InUse::own_root) else { return };
        let renewed = match material.renewed(&self.trust_domain(), now) {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::error!(%error, "the self-signed root could not be renewed");
                return;
            }
        };
        let mut replacement = secret(&renewed);
        replacement.metadata.resource_version = old.resource_version();
        match self.secrets.replace(CA_SECRET, &PostParams::default(), &replacement).await {
            Ok(_) => tracing::info!("the self-signed root was renewed, with the same key"),
            Err(error) => tracing::error!(%error, "Secret {}/{CA_SECRET} cannot be renewed", self.namespace),
        }
    }
}

impl Seen {
    fn apply(&mut self, index: usize, event: watcher::Event<Secret>) {
        let slot = if index == 0 { &mut self.plugged } else { &mut self.own };
        let listed = &mut self.listed[index.min(1)];
        match event {
            watcher::Event::Apply(secret) | watcher::Event::InitApply(secret) => *slot = Some(secret),
            watcher::Event::Delete(_) => *slot = None,
            // Between the start of a new list and its end nothing is known, and nothing is to be concluded.
            watcher::Event::Init => (*slot, *listed) = (None, false),
            watcher::Event::InitDone => *listed = true,
        }
    }
}

/// The material in a Secret; what is missing is empty, and [`Authority::load`] says so.
fn material(secret: &Secret) -> Material {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
    };
    let ca_cert = text(Material::CA_CERT);
    let root_cert = text(Material::ROOT_CERT);
    Material {
        ca_key: text(Material::CA_KEY),
        cert_chain: text(Material::CERT_CHAIN),
        // Istio leaves the root out of the Secret of a self-signed authority: the certificate is its own root.
        root_cert: if root_cert.trim().is_empty() && secret.name_any() == CA_SECRET {
            ca_cert.clone()
        } else {
            root_cert
        },
        ca_cert,
    }
}

/// The Secret that holds `material`.
fn secret(material: &Material) -> Secret {
    let value = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta { name: Some(CA_SECRET.to_owned()), ..ObjectMeta::default() },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(BTreeMap::from([
            (Material::CA_CERT.to_owned(), value(&material.ca_cert)),
            (Material::CA_KEY.to_owned(), value(&material.ca_key)),
            (Material::CERT_CHAIN.to_owned(), value(&material.cert_chain)),
            (Material::ROOT_CERT.to_owned(), value(&material.root_cert)),
        ])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests;
