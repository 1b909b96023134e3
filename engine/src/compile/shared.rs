//! Values that many resources have alike: kept once, however many have them. In a mesh of a thousand services that is most of what is
//! compiled: names stand in clusters, endpoints and routes, and settings are the same for nearly all.

use std::{borrow::Borrow, cell::RefCell, collections::HashSet, hash::Hash, sync::Arc};

use xds::{provenance::Provenance, service::ServiceName, types::core::Metadata, workload::Workload};

use crate::ir::{cluster::Settings, endpoint::Locality, retry::RetryPolicy};

/// A pool is looked through for what nobody has any more only when it holds more than this, and twice as much as after the last time.
const SMALL: usize = 64;

/// What the resources of a proxy share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) texts: Pool<str>,
    pub(crate) alpn: Pool<[Box<str>]>,
    pub(crate) provenances: Pool<Provenance>,
    pub(crate) services: Pool<ServiceName>,
    pub(crate) workloads: Pool<Workload>,
    pub(crate) localities: Pool<Locality>,
    pub(crate) settings: Pool<Settings>,
    pub(crate) retries: Pool<RetryPolicy>,
}

impl Shared {
    /// The rule that a resource came from.
    pub(crate) fn provenance(&self, metadata: Option<&Metadata>) -> Option<Arc<Provenance>> {
        metadata.and_then(Provenance::read).map(|provenance| self.provenances.get(provenance))
    }
}

/// Values of one type.
#[derive(Debug)]
pub(crate) struct Pool<T: ?Sized>(RefCell<Values<T>>);

#[derive(Debug)]
struct Values<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// How many there may be before it is looked through.
    most: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self(RefCell::new(Values { values: HashSet::new(), most: SMALL }))
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// The one that is equal to `value`.
    pub(crate) fn get<V: Borrow<T> + Into<Arc<T>>>(&self, value: V) -> Arc<T> {
        let Values { values, most } = &mut *self.0.borrow_mut();
        if let Some(known) = values.get(value.borrow()) {
            return known.clone();
        }
        if values.len() >= *most {
            values.retain(|value| Arc::strong_count(value) > 1);
            *most = (values.len() * 2).max(SMALL);
        }
        let value: Arc<T> = value.into();
        values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Pool, SMALL};

    #[test]
    fn equal_values_are_one_and_what_nobody_has_goes() {
        let pool: Pool<str> = Pool::default();
        let (first, second) = (pool.get("a"), pool.get("a"));
        assert!(Arc::ptr_eq(&first, &second));
        for number in 0..10 * SMALL {
            pool.get(number.to_string().as_str());
        }
        assert!(pool.0.borrow().values.len() <= SMALL);
        assert!(Arc::ptr_eq(&first, &pool.get("a")), "somebody has it");
    }
}
