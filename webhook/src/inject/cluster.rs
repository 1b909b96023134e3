//! What an injection knows of the cluster beside its settings: namespaces and nodes. Immutable; replaced as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use names::labels;

/// A namespace, as far as an injection depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations; only those that are read.
    pub annotations: BTreeMap<String, String>,
}

/// OpenShift gives every namespace a block of user ids, `<first>/<number>` or `<first>-<last>`.
const UID_RANGE: &str = "openshift.io/sa.scc.uid-range";
/// The same for supplemental groups; several blocks with commas.
const GROUPS: &str = "openshift.io/sa.scc.supplemental-groups";
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

impl Namespace {
    /// A namespace without the annotations that nobody here reads: thousands of them are kept in memory.
    pub fn new(labels: BTreeMap<String, String>, mut annotations: BTreeMap<String, String>) -> Self {
        annotations.retain(|name, _| matches!(name.as_str(), UID_RANGE | GROUPS));
        Self { labels, annotations }
    }

    /// Whether OpenShift chooses this namespace's user ids.
    pub(crate) fn chooses_ids(&self) -> bool {
        self.annotations.contains_key(UID_RANGE)
    }

    /// The proxy's user: the last of the namespace's block.
    pub(crate) fn proxy_uid(&self) -> Option<i64> {
        last(self.annotations.get(UID_RANGE)?)
    }

    /// The proxy's group: the last of the first block of groups, which are the users' where none are given.
    pub(crate) fn proxy_gid(&self) -> Option<i64> {
        let groups = self.annotations.get(GROUPS).or_else(|| self.annotations.get(UID_RANGE))?;
        last(groups.split(',').next()?)
    }

    /// What Pod Security enforces: `privileged`, `baseline`, `restricted`.
    pub(crate) fn pod_security(&self) -> Option<&str> {
        self.labels.get(POD_SECURITY).map(String::as_str)
    }
}

/// The last id of a block.
fn last(block: &str) -> Option<i64> {
    let number = |text: &str| text.trim().parse::<u32>().ok().map(i64::from);
    if let Some((first, size)) = block.split_once('/') {
        return Some(number(first)? + number(size)? - 1).filter(|last| *last >= 0);
    }
    let (first, last) = block.split_once('-')?;
    number(last).filter(|last| number(first).is_some_and(|first| first <= *last))
}

/// Namespaces and nodes, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Namespaces by name. One that is not there is injected as if nothing were known of it.
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    /// Nodes by name, and whether their kubelets run native sidecars.
    pub nodes: BTreeMap<String, bool>,
}

impl Cluster {
    /// The namespace of this name, where it is known.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name).map(Arc::as_ref)
    }

    /// Whether all kubelets run native sidecars.
    pub fn all_native(&self) -> bool {
        self.nodes.values().all(|native| *native)
    }

    /// The network of the mesh, by the label on the mesh's namespace.
    pub(crate) fn network(&self, mesh_namespace: &str) -> Option<&str> {
        let label = self.namespace(mesh_namespace)?.labels.get(labels::NETWORK)?;
        Some(label.as_str()).filter(|network| !network.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Namespace;

    #[test]
    fn the_last_id_of_a_block_is_the_proxys() {
        let rows = [
            ("by size", "1000620000/10000", Some("1000620000/10000"), (Some(1_000_629_999), Some(1_000_629_999))),
            ("by end", "10-20", Some("30-40,50-60"), (Some(20), Some(40))),
            ("groups are the users' where none are given", "10/5", None, (Some(14), Some(14))),
            ("neither form", "many", Some(""), (None, None)),
            ("backwards", "20-10", None, (None, None)),
            ("nothing in it", "0/0", None, (None, None)),
        ];
        for (name, uids, groups, expected) in rows {
            let mut annotations = BTreeMap::from([(super::UID_RANGE.to_owned(), uids.to_owned())]);
            annotations.extend(groups.map(|groups| (super::GROUPS.to_owned(), groups.to_owned())));
            annotations.insert("other".to_owned(), "x".to_owned());
            let namespace = Namespace::new(BTreeMap::new(), annotations);
            assert_eq!((namespace.proxy_uid(), namespace.proxy_gid()), expected, "{name}");
            assert!(!namespace.annotations.contains_key("other"), "{name}");
        }
    }
}
