//! Who a peer is to metrics, and the small numbers that stand for names on the hot path.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use names::labels;
use xds::peer::PeerMetadata;
use xds::workload::Workload;

/// A workload as the metrics' labels describe it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// `*_workload`
    pub workload: Box<str>,
    /// `*_workload_namespace`
    pub namespace: Box<str>,
    /// `*_canonical_service`
    pub canonical_service: Box<str>,
    /// `*_canonical_revision`
    pub canonical_revision: Box<str>,
    /// `*_app`
    pub app: Box<str>,
    /// `*_version`
    pub version: Box<str>,
    /// `*_cluster`
    pub cluster: Box<str>,
}

/// What stands for a value that is not known.
pub const UNKNOWN: &str = "unknown";

impl Peer {
    /// A peer of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            workload: UNKNOWN.into(),
            namespace: UNKNOWN.into(),
            canonical_service: UNKNOWN.into(),
            canonical_revision: "latest".into(),
            app: UNKNOWN.into(),
            version: UNKNOWN.into(),
            cluster: UNKNOWN.into(),
        }
    }

    /// A peer by the metadata it sent.
    pub fn from_metadata(metadata: &PeerMetadata) -> Self {
        let label = |name: &str| metadata.labels.get(name).map(String::as_str).unwrap_or_default();
        let app = label(labels::APP);
        let first =
            |candidates: &[&str]| candidates.iter().find(|name| !name.is_empty()).map(|name| (*name).to_owned());
        let canonical =
            first(&[label(labels::CANONICAL_NAME), label(labels::KUBERNETES_NAME), app, &metadata.workload_name]);
        let revision =
            first(&[label(labels::CANONICAL_REVISION), label(labels::KUBERNETES_VERSION), label(labels::VERSION)]);
        Self {
            workload: or(&metadata.workload_name, UNKNOWN),
            namespace: or(&metadata.namespace, UNKNOWN),
            canonical_service: or(&canonical.unwrap_or_default(), UNKNOWN),
            canonical_revision: or(&revision.unwrap_or_default(), "latest"),
            app: or(app, UNKNOWN),
            version: or(label(labels::VERSION), UNKNOWN),
            cluster: or(&metadata.cluster_id, UNKNOWN),
        }
    }

    /// A peer by what the control plane says of its endpoint.
    pub fn from_workload(workload: &Workload) -> Self {
        Self {
            workload: or(&workload.name, UNKNOWN),
            namespace: or(&workload.namespace, UNKNOWN),
            canonical_service: or(&workload.canonical_name, UNKNOWN),
            canonical_revision: or(&workload.canonical_revision, "latest"),
            // Istio derives them from the canonical names where it has only the endpoint's metadata.
            app: or(&workload.canonical_name, UNKNOWN),
            version: or(&workload.canonical_revision, UNKNOWN),
            cluster: or(&workload.cluster, UNKNOWN),
        }
    }
}

/// The longest name there is in Kubernetes; a longer one is made up.
const LONGEST: usize = 253;

fn or(value: &str, otherwise: &str) -> Box<str> {
    if value.is_empty() || value.len() > LONGEST { otherwise.into() } else { value.into() }
}

/// Small numbers for values, given out in the order of their first use.
#[derive(Debug)]
pub struct Interner<T> {
    numbers: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
    limit: usize,
}

impl<T: Hash + Eq> Interner<T> {
    /// Number 0 stands for `zero`, and for everything that comes after `limit` values: what a peer may send must not fill our
    /// memory.
    pub fn new(zero: T, limit: usize) -> Self {
        let zero = Rc::new(zero);
        Self { numbers: HashMap::from([(zero.clone(), 0)]), values: vec![zero], limit }
    }

    /// The number of a value.
    pub fn number<Q>(&mut self, value: &Q) -> u32
    where
        Rc<T>: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = T> + ?Sized,
    {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        self.insert(value.to_owned())
    }

    /// The number of a value that is at hand as it is kept.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        if self.values.len() >= self.limit {
            return 0;
        }
        let Ok(number) = u32::try_from(self.values.len()) else { return 0 };
        let value = Rc::new(value);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    /// The value of a number.
    pub fn value(&self, number: u32) -> Option<&T> {
        self.values.get(usize::try_from(number).ok()?).map(AsRef::as_ref)
    }
}
