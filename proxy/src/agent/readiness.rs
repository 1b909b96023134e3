//! Whether the pod may get traffic: configuration received and live, certificate there, not draining.

use std::sync::atomic::{AtomicBool, Ordering};

/// What readiness depends on. Each part is set by whoever knows.
#[derive(Debug, Default)]
pub struct Readiness {
    clusters: AtomicBool,
    listeners: AtomicBool,
    active: AtomicBool,
    certificate: AtomicBool,
    draining: AtomicBool,
}

/// Why a proxy is not ready: the text that `/healthz/ready` answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// No certificate.
    #[error("the workload certificate has not been signed yet")]
    Certificate,
    /// No clusters.
    #[error("no clusters received from the control plane")]
    Clusters,
    /// No listeners.
    #[error("no listeners received from the control plane")]
    Listeners,
    /// Sockets are missing.
    #[error("workers have not started")]
    Workers,
    /// On its way out.
    #[error("draining")]
    Draining,
}

impl Readiness {
    /// A proxy that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The control plane has sent clusters.
    pub fn clusters_received(&self) {
        self.clusters.store(true, Ordering::Release);
    }

    /// The control plane has sent listeners.
    pub fn listeners_received(&self) {
        self.listeners.store(true, Ordering::Release);
    }

    /// Workers accept connections on the listeners' sockets.
    pub fn listeners_active(&self) {
        self.active.store(true, Ordering::Release);
    }

    /// There is a certificate.
    pub fn certificate_present(&self) {
        self.certificate.store(true, Ordering::Release);
    }

    /// The proxy drains.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the pod may get traffic.
    pub fn check(&self) -> Result<(), NotReady> {
        let parts = [
            (!self.draining.load(Ordering::Acquire), NotReady::Draining),
            (self.certificate.load(Ordering::Acquire), NotReady::Certificate),
            (self.clusters.load(Ordering::Acquire), NotReady::Clusters),
            (self.listeners.load(Ordering::Acquire), NotReady::Listeners),
            (self.active.load(Ordering::Acquire), NotReady::Workers),
        ];
        parts.into_iter().find(|(there, _)| !there).map_or(Ok(()), |(_, missing)| Err(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::{NotReady, Readiness};

    #[test]
    fn a_proxy_is_ready_when_all_parts_are_there_until_it_drains() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Err(NotReady::Certificate));
        readiness.certificate_present();
        assert_eq!(readiness.check(), Err(NotReady::Clusters));
        readiness.clusters_received();
        assert_eq!(readiness.check(), Err(NotReady::Listeners));
        readiness.listeners_received();
        assert_eq!(readiness.check(), Err(NotReady::Workers));
        readiness.listeners_active();
        assert_eq!(readiness.check(), Ok(()));
        readiness.draining();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }
}
