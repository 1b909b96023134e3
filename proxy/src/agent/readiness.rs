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
    /// Without a proxy, what there is instead of clusters, listeners and workers.
    application: Option<Application>,
}

/// What an application waits for that reads xDS itself.
#[derive(Debug, Default)]
struct Application {
    bootstrap: AtomicBool,
    control_plane: AtomicBool,
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
    /// No bootstrap file.
    #[error("the bootstrap file for gRPC has not been written yet")]
    Bootstrap,
    /// No connection.
    #[error("the control plane has not been reached yet")]
    ControlPlane,
    /// On its way out.
    #[error("draining")]
    Draining,
}

impl Readiness {
    /// A proxy that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An agent without a proxy, of an application that reads xDS itself.
    pub fn without_proxy() -> Self {
        Self { application: Some(Application::default()), ..Self::default() }
    }

    /// The application's bootstrap file is there.
    pub fn bootstrap_written(&self) {
        if let Some(application) = &self.application {
            application.bootstrap.store(true, Ordering::Release);
        }
    }

    /// The control plane can be reached.
    pub fn control_plane_reached(&self) {
        if let Some(application) = &self.application {
            application.control_plane.store(true, Ordering::Release);
        }
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
        let always = [
            (!self.draining.load(Ordering::Acquire), NotReady::Draining),
            (self.certificate.load(Ordering::Acquire), NotReady::Certificate),
        ];
        let parts = match &self.application {
            Some(application) => [
                (application.bootstrap.load(Ordering::Acquire), NotReady::Bootstrap),
                (application.control_plane.load(Ordering::Acquire), NotReady::ControlPlane),
                (true, NotReady::Workers),
            ],
            None => [
                (self.clusters.load(Ordering::Acquire), NotReady::Clusters),
                (self.listeners.load(Ordering::Acquire), NotReady::Listeners),
                (self.active.load(Ordering::Acquire), NotReady::Workers),
            ],
        };
        always.into_iter().chain(parts).find(|(there, _)| !there).map_or(Ok(()), |(_, missing)| Err(missing))
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

    #[test]
    fn without_a_proxy_it_is_the_applications_files_and_the_way_to_the_control_plane() {
        let readiness = Readiness::without_proxy();
        assert_eq!(readiness.check(), Err(NotReady::Certificate));
        readiness.certificate_present();
        assert_eq!(readiness.check(), Err(NotReady::Bootstrap));
        readiness.bootstrap_written();
        assert_eq!(readiness.check(), Err(NotReady::ControlPlane));
        readiness.control_plane_reached();
        assert_eq!(readiness.check(), Ok(()));
        readiness.draining();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }
}
