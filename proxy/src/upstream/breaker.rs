//! Circuit breakers: counts that all workers share, kept only where there is a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A count of its own cache line: workers write different breakers without disturbing each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Count(AtomicU32);

/// One place under a limit, given back when dropped.
#[derive(Debug)]
pub struct Permit(Option<Arc<Count>>);

impl Count {
    /// Takes a place; `None` when all are taken. A limit of `u32::MAX` is none, and nothing is counted.
    pub fn take(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        if limit == u32::MAX {
            return Some(Permit(None));
        }
        let taken =
            self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < limit).then_some(taken + 1));
        taken.is_ok().then(|| Permit(Some(self.clone())))
    }

    /// How many places are taken.
    pub fn taken(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The breakers of a cluster.
#[derive(Debug, Default)]
pub struct Breakers {
    /// `maxConnections`
    pub connections: Arc<Count>,
    /// `http1MaxPendingRequests`
    pub pending: Arc<Count>,
    /// `http2MaxRequests`
    pub requests: Arc<Count>,
    /// `maxRetries`
    pub retries: Arc<Count>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Count;

    #[test]
    fn a_place_is_given_back_when_its_holder_is_gone() {
        let count = Arc::new(Count::default());
        let first = count.take(1);
        assert!(first.is_some() && count.take(1).is_none());
        drop(first);
        assert!(count.take(1).is_some());
        assert_eq!(count.taken(), 0);
        let unlimited: Vec<_> = (0..3).map(|_| count.take(u32::MAX)).collect();
        assert!(unlimited.iter().all(Option::is_some));
        assert_eq!(count.taken(), 0, "without a limit nothing is counted");
    }
}
