//! One stream after another.
//!
//! While the control plane is away the workers go on with the last configuration. Waits between attempts double up to
//! ten seconds and have a random part, so that a mesh does not come back all at once. A new certificate means a new
//! connection: the control plane may close one whose certificate has expired.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc, watch};
use xds::{
    type_url,
    types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};

use super::{
    connect::{ConnectError, ControlPlane},
    publish::Publisher,
    session::Session,
    stream::{self, Responses},
};
use crate::{agent::readiness::Readiness, tls::identity::Identity};

/// The first wait between two streams.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait between two streams.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The first stream waits this long for a certificate, which proves us better than a token.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(5);
/// After this the first configuration is taken as it is, as Envoy's `initial_fetch_timeout` does.
const WHOLE_WAIT: Duration = Duration::from_secs(15);
/// A response with so many resources leaves memory behind that is worth giving back,
const MANY: usize = 64;
/// and this long after the last one nothing more is expected.
const QUIET: Duration = Duration::from_secs(1);

/// The client of the control plane.
#[derive(Debug)]
pub struct Client {
    /// Where the control plane is.
    pub control_plane: ControlPlane,
    /// Our side of the conversation, shared with those who dump it.
    pub session: Arc<Mutex<Session>>,
    /// Where configuration goes.
    pub publisher: Arc<Publisher>,
    /// What is told that configuration came.
    pub readiness: Arc<Readiness>,
    /// Our certificate.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// Whether a stream is open, for the statistics.
    pub connected: Arc<std::sync::atomic::AtomicBool>,
    /// Gives free memory back to the operating system.
    pub give_back: fn(),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the control plane refused the stream: {}", .0.message())]
    Stream(#[from] Box<tonic::Status>),
    #[error("the control plane closed the stream")]
    Closed,
    #[error("a new certificate was signed")]
    NewCertificate,
}

impl Client {
    /// Follows the control plane until the process ends.
    pub async fn run(mut self) {
        let _ = tokio::time::timeout(CERTIFICATE_WAIT, self.identity.wait_for(Option::is_some)).await;
        self.follow().await;
    }

    async fn follow(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            let mut heard = false;
            let ended = self.stream(&mut heard).await;
            self.connected.store(false, std::sync::atomic::Ordering::Relaxed);
            match ended {
                Ended::NewCertificate => {
                    tracing::debug!("connecting to the control plane anew with the new certificate");
                    wait = FIRST_WAIT;
                    continue;
                }
                Ended::Closed => tracing::info!("{ended}; connecting again"),
                _ => tracing::warn!("{ended}"),
            }
            if heard {
                wait = FIRST_WAIT;
            }
            // Half of the wait is fixed, half is random.
            let jittered = wait / 2 + wait.mul_f64(fastrand::f64() / 2.0);
            self.idle(jittered).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits without a stream; what falls due meanwhile is still done.
    async fn idle(&mut self, wait: Duration) {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let due = self.next_deadline();
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                () = at(due) => self.publish(),
            }
        }
    }

    async fn stream(&mut self, heard: &mut bool) -> Ended {
        let identity = self.identity.borrow_and_update().clone();
        let (requests, mut responses) = match self.open(identity.as_deref()).await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        let whole = tokio::time::Instant::now() + WHOLE_WAIT;
        let mut quiet = None;
        loop {
            let due = self.next_deadline();
            let settled = self.lock().is_settled();
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        *heard = true;
                        if response.resources.len() >= MANY {
                            quiet = Some(Instant::now() + QUIET);
                        }
                        if !self.receive(response, &requests) {
                            return Ended::Closed;
                        }
                    }
                    Ok(None) => return Ended::Closed,
                    Err(status) => return Ended::Stream(Box::new(status)),
                },
                () = at(due) => self.publish(),
                () = at(quiet) => {
                    (self.give_back)();
                    quiet = None;
                }
                () = tokio::time::sleep_until(whole), if !settled => {
                    tracing::warn!("the control plane has not sent everything that it named; going on with what there is");
                    self.lock().settle();
                    self.publish();
                }
                changed = self.identity.changed() => {
                    if changed.is_ok() && self.identity.borrow().is_some() {
                        return Ended::NewCertificate;
                    }
                }
            }
        }
    }

    async fn open(
        &self,
        identity: Option<&Identity>,
    ) -> Result<(mpsc::UnboundedSender<DeltaDiscoveryRequest>, Responses), Ended> {
        let (channel, bearer) = self.control_plane.connect(identity).await?;
        // Unbounded, but small: one answer to each response, and the server sends one response at a time.
        let (sender, receiver) = mpsc::unbounded_channel();
        for request in self.lock().open() {
            let _ = sender.send(request);
        }
        let responses = stream::open(channel, bearer, receiver).await.map_err(Box::new)?;
        self.connected.store(true, std::sync::atomic::Ordering::Relaxed);
        tracing::info!(control_plane = self.control_plane.address, "following the control plane");
        Ok((sender, responses))
    }

    /// Takes a response; `false` when it cannot be answered any more.
    fn receive(
        &self,
        response: DeltaDiscoveryResponse,
        requests: &mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    ) -> bool {
        let type_url = response.type_url.clone();
        let kind = type_url::short(&type_url);
        let (resources, removed) = (response.resources.len(), response.removed_resources.len());
        tracing::debug!(kind, resources, removed, "configuration received");
        let answers = self.lock().receive(response, Instant::now(), SystemTime::now());
        for answer in &answers {
            if let Some(error) = &answer.error_detail {
                tracing::warn!(kind, "configuration refused: {}", error.message);
            }
        }
        // Live first, then acknowledged: whoever counts ACKs counts proxies that do it.
        self.publish();
        answers.into_iter().all(|answer| requests.send(answer).is_ok())
    }

    fn publish(&self) {
        let mut session = self.lock();
        let changes = session.changes(Instant::now());
        let settled = session.is_settled();
        let (clusters, listeners) = (session.received(type_url::CLUSTER), session.received(type_url::LISTENER));
        drop(session);
        for (cluster, set) in changes.endpoints {
            self.publisher.endpoints(cluster, set);
        }
        if let Some(snapshot) = changes.snapshot {
            self.publisher.snapshot(snapshot);
        }
        for cluster in changes.removed {
            self.publisher.removed(cluster);
        }
        if settled && clusters {
            self.readiness.clusters_received();
        }
        if settled && listeners {
            self.readiness.listeners_received();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let session = self.lock();
        session.is_settled().then(|| session.next_deadline()).flatten()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends at `deadline`; never without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
pub(crate) mod tests;
