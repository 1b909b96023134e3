//! Gives what is equal the same allocation, generation after generation and in every projection.
//!
//! Comes in: resources, and lists of them. Goes out: the same `Arc` for the same content. So to compare what a proxy holds
//! with what it shall have is to compare pointers, and a thousand proxies hold what one holds.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Weak};

use translate::Resource as Content;
use xds::version::Version;

use super::resource::{Kind, Resource, Set, WeakSet};

/// What is known of the present and the past.
#[derive(Default)]
pub(crate) struct Interner {
    resources: HashMap<(Kind, Arc<str>, Version), Weak<Resource>>,
    /// Sets by a hash of the addresses of their resources.
    sets: HashMap<(Kind, u64), Vec<WeakSet>>,
    /// Sets that were made of several, by the addresses of those; they are kept, so that no address is reused.
    merged: HashMap<(Kind, Vec<usize>), (Vec<Set>, WeakSet)>,
    hasher: RandomState,
}

impl Interner {
    /// The resource of this name and content.
    pub(crate) fn resource(&mut self, kind: Kind, name: &Arc<str>, content: &Arc<Content>) -> Arc<Resource> {
        let key = (kind, Arc::clone(name), content.version);
        if let Some(known) = self.resources.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let made = Resource::new(Arc::clone(name), Arc::clone(content));
        self.resources.insert(key, Arc::downgrade(&made));
        made
    }

    /// The set of these resources, which come from [`Interner::resource`].
    pub(crate) fn set(&mut self, kind: Kind, resources: Vec<Arc<Resource>>) -> Set {
        let set = Set::new(resources);
        let addresses: Vec<usize> = set.iter().map(|resource| Arc::as_ptr(resource).addr()).collect();
        let alike = self.sets.entry((kind, self.hasher.hash_one(&addresses))).or_default();
        if let Some(known) = alike.iter().filter_map(WeakSet::upgrade).find(|known| known.has_same(&set)) {
            return known;
        }
        alike.retain(|known| !known.is_gone());
        alike.push(set.downgrade());
        set
    }

    /// Several sets as one. Of two resources with one name, the one in the earlier set counts.
    pub(crate) fn merge(&mut self, kind: Kind, sets: Vec<Set>) -> Set {
        let sets = match <[Set; 1]>::try_from(sets) {
            Ok([only]) => return only,
            Err(sets) => sets,
        };
        let key = (kind, sets.iter().map(Set::address).collect());
        if let Some(known) = self.merged.get(&key).and_then(|(_, known)| known.upgrade()) {
            return known;
        }
        let set = self.set(kind, sets.iter().flat_map(|set| set.iter().cloned()).collect());
        self.merged.insert(key, (sets, set.downgrade()));
        set
    }

    /// Forgets what nobody holds any more.
    pub(crate) fn sweep(&mut self) {
        self.merged.retain(|_, (_, merged)| !merged.is_gone());
        self.sets.retain(|_, alike| {
            alike.retain(|known| !known.is_gone());
            !alike.is_empty()
        });
        self.resources.retain(|_, resource| resource.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::content;
    use super::*;

    fn set(interner: &mut Interner, items: &[&str]) -> Set {
        let resources = items.iter().map(|item| {
            let (name, text) = item.split_once('=').unwrap_or((item, ""));
            interner.resource(Kind::Cluster, &Arc::from(name), &content(Kind::Cluster, text))
        });
        let resources = resources.collect();
        interner.set(Kind::Cluster, resources)
    }

    #[test]
    fn what_is_equal_is_the_same_allocation() {
        let mut interner = Interner::default();
        let old = set(&mut interner, &["b=1", "a=1"]);
        assert!(set(&mut interner, &["a=1", "b=1"]).is(&old));
        let new = set(&mut interner, &["a=1", "b=2", "c=1"]);
        assert!(!new.is(&old));
        assert!(Arc::ptr_eq(&new[0], &old[0]));
        assert!(!Arc::ptr_eq(&new[1], &old[1]));

        let other = set(&mut interner, &["z=1"]);
        let merged = interner.merge(Kind::Cluster, vec![old.clone(), other.clone()]);
        assert_eq!(merged.len(), 3);
        assert!(interner.merge(Kind::Cluster, vec![old.clone(), other]).is(&merged));
        assert!(interner.merge(Kind::Cluster, vec![old.clone()]).is(&old));
        assert!(interner.merge(Kind::Cluster, Vec::new()).is_empty());
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let mut interner = Interner::default();
        for number in 0..100 {
            let (one, other) = (set(&mut interner, &[&format!("a={number}")]), set(&mut interner, &["b"]));
            interner.merge(Kind::Cluster, vec![one, other]);
        }
        interner.sweep();
        assert_eq!((interner.resources.len(), interner.sets.len(), interner.merged.len()), (0, 0, 0));
    }
}
