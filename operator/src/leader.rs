//! The Lease: of several replicas one works.
//!
//! Every write names the resourceVersion that was read, so of two candidates that want the same term the API server
//! refuses one. A holder is given up on when its Lease has not changed for the Lease's own duration *by our clock*;
//! clocks of different machines are never compared. A holder that cannot renew stops before others may begin.
//!
//! [`decide`] is pure; [`Candidate`] asks and writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::answer::words;

/// How long a holder that is not heard of keeps the Lease.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder goes on without having renewed: shorter, so that it stops before another begins.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed: twice before the deadline.
const RENEWAL: Duration = Duration::from_secs(4);
/// How often it is asked for.
const PERIOD: Duration = Duration::from_secs(2);

/// What a candidate has seen of a Lease, by its own clock.
#[derive(Clone, Debug, Default)]
struct Sighting {
    version: Option<String>,
    at: Option<Instant>,
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// It is not there.
    Create,
    /// It is ours, or free, or its holder is not heard of: write it, if it is still the one that was read.
    Write,
    /// Another holds it.
    Wait,
}

/// Decides about the Lease as it was read at `now`.
fn decide(lease: Option<&Lease>, me: &str, seen: &mut Sighting, now: Instant) -> Decision {
    let Some(lease) = lease else { return Decision::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    if seen.at.is_none() || seen.version != lease.metadata.resource_version {
        *seen = Sighting { version: lease.metadata.resource_version.clone(), at: Some(now) };
    }
    let holder = spec.holder_identity.unwrap_or_default();
    let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = duration.map_or(DURATION, Duration::from_secs);
    let silent = seen.at.is_some_and(|at| now.duration_since(at) >= duration);
    if holder.is_empty() || holder == me || silent { Decision::Write } else { Decision::Wait }
}

/// The Lease as `me` writes it over `old`.
fn written(old: Option<&Lease>, name: &str, me: &str, now: Timestamp) -> Lease {
    let spec = old.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let mine = spec.holder_identity.as_deref() == Some(me);
    let transitions = spec.lease_transitions.unwrap_or(0);
    let metadata = old.map_or_else(
        || ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        |lease| lease.metadata.clone(),
    );
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if mine { spec.acquire_time } else { Some(MicroTime(now)) },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if mine || old.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }),
    }
}

/// How long this replica may still write: for as long as it has renewed the Lease not too long ago. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Term(Arc<Mutex<Option<Instant>>>);

impl Term {
    /// The Lease was renewed by a request that began at `at`.
    fn renewed(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// How long the holder may still go on at `now`.
    fn left(&self, now: Instant) -> Duration {
        let renewed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.map_or(Duration::ZERO, |at| RENEW_DEADLINE.saturating_sub(now.duration_since(at)))
    }

    /// Whether it may write.
    pub(crate) fn holds(&self) -> bool {
        !self.left(Instant::now()).is_zero()
    }
}

/// One replica that wants to lead.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    seen: Sighting,
    term: Term,
    /// The Lease as it was written last: a renewal need not read what nobody else may have written.
    held: Option<Lease>,
}

impl Candidate {
    /// `identity` must be unique among the replicas, for example the pod's name.
    pub(crate) fn new(api: Api<Lease>, name: &str, identity: &str) -> Self {
        Self {
            api,
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: Sighting::default(),
            term: Term::default(),
            held: None,
        }
    }

    /// The term of this candidate, for those who write.
    pub(crate) fn term(&self) -> Term {
        self.term.clone()
    }

    /// Waits until the Lease is ours. `answered` is called whenever the API server has answered.
    pub(crate) async fn acquire(&mut self, mut answered: impl FnMut()) {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    answered();
                    info!(lease = %self.name, identity = %self.identity, "leading");
                    return;
                }
                Ok(false) => answered(),
                Err(error) => warn!(lease = %self.name, "the Lease cannot be had: {}", words(&error)),
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews the Lease until that fails for too long, or another has it. When this returns, the work must stop.
    pub(crate) async fn keep(&mut self) {
        loop {
            sleep(RENEWAL).await;
            let left = self.term.left(Instant::now());
            match timeout(left, self.attempt()).await {
                Ok(Ok(true)) | Err(_) => {}
                Ok(Ok(false)) => {
                    warn!(lease = %self.name, "another replica has the Lease");
                    return;
                }
                Ok(Err(error)) => warn!(lease = %self.name, "the Lease cannot be renewed: {}", words(&error)),
            }
            if !self.term.holds() {
                warn!(lease = %self.name, "the Lease could not be renewed in time");
                return;
            }
        }
    }

    /// Gives the Lease up, so that the next one need not wait.
    pub(crate) async fn release(&mut self) {
        let Ok(Ok(Some(mut lease))) = timeout(PERIOD, self.api.get_opt(&self.name)).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = Some(String::new());
        if let Ok(Err(error)) = timeout(PERIOD, self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            debug!("the Lease could not be given up: {error}");
        }
    }

    /// One attempt: true when the Lease is ours now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        if let Some(held) = self.held.take() {
            match self.write(Some(held)).await {
                // Somebody has written it. Who, has to be read.
                Ok(false) => {}
                other => return other,
            }
        }
        let lease = self.api.get_opt(&self.name).await?;
        self.write(lease).await
    }

    /// Writes over a Lease, if that is ours to do, and if it is still the same.
    async fn write(&mut self, lease: Option<Lease>) -> Result<bool, kube::Error> {
        // Others count from when they see the renewal, which is later.
        let begun = Instant::now();
        let decision = decide(lease.as_ref(), &self.identity, &mut self.seen, Instant::now());
        let mine = written(lease.as_ref(), &self.name, &self.identity, Timestamp::now());
        let result = match decision {
            Decision::Wait => return Ok(false),
            Decision::Create => self.api.create(&PostParams::default(), &mine).await,
            // With the resourceVersion that was read: whoever comes second is refused.
            Decision::Write => self.api.replace(&self.name, &PostParams::default(), &mine).await,
        };
        match result {
            Ok(written) => {
                self.held = Some(written);
                self.term.renewed(begun);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::api::coordination::v1::Lease;
    use tokio::time::Instant;

    use super::{DURATION, Decision, RENEW_DEADLINE, Sighting, Term, decide, written};

    /// The API server, as far as a Lease is concerned: a write must name the version that is there.
    #[derive(Default)]
    struct Server {
        lease: Option<Lease>,
        version: u64,
    }

    impl Server {
        fn write(&mut self, decision: Decision, mut lease: Lease) -> bool {
            let there = self.lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
            let fits = match decision {
                Decision::Create => self.lease.is_none(),
                Decision::Write => self.lease.is_some() && lease.metadata.resource_version == there,
                Decision::Wait => false,
            };
            if fits {
                self.version += 1;
                lease.metadata.resource_version = Some(self.version.to_string());
                self.lease = Some(lease);
            }
            fits
        }
    }

    fn time() -> Timestamp {
        Timestamp::constant(1_800_000_000, 0)
    }

    #[test]
    fn of_two_that_read_the_same_lease_one_gets_it() {
        for (name, silence) in [("not there yet", None), ("holder not heard of", Some(DURATION))] {
            let (mut server, start) = (Server::default(), Instant::now());
            let mut seen = [Sighting::default(), Sighting::default()];
            if silence.is_some() {
                assert!(server.write(Decision::Create, written(None, "l", "dead", time())));
                for seen in &mut seen {
                    assert_eq!(decide(server.lease.as_ref(), "x", seen, start), Decision::Wait, "{name}");
                }
            }
            let now = start + silence.unwrap_or_default();
            let read = server.lease.clone();
            let mut won = 0;
            for (me, seen) in ["a", "b"].iter().zip(&mut seen) {
                let decision = decide(read.as_ref(), me, seen, now);
                won += usize::from(server.write(decision, written(read.as_ref(), "l", me, time())));
            }
            assert_eq!(won, 1, "{name}");
        }
    }

    #[test]
    fn a_holder_that_renews_is_left_alone_however_wrong_its_clock_is() {
        let (mut server, start) = (Server::default(), Instant::now());
        let long_ago = Timestamp::constant(0, 0);
        assert!(server.write(Decision::Create, written(None, "l", "a", long_ago)));
        let mut seen = Sighting::default();
        for step in 0..100 {
            let now = start + Duration::from_secs(2 * step);
            assert_eq!(decide(server.lease.as_ref(), "b", &mut seen, now), Decision::Wait, "step {step}");
            let renewed = written(server.lease.as_ref(), "l", "a", long_ago);
            assert!(server.write(Decision::Write, renewed));
        }
    }

    #[test]
    fn a_lease_that_was_given_up_is_free_at_once() {
        let mut lease = written(None, "l", "a", time());
        lease.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(decide(Some(&lease), "b", &mut Sighting::default(), Instant::now()), Decision::Write);
    }

    #[test]
    fn a_term_ends_before_another_may_begin() {
        let (term, start) = (Term::default(), Instant::now());
        assert!(term.left(start).is_zero(), "never had");
        term.renewed(start);
        for (name, after, holds) in [("at once", 0, true), ("just before", 9, true), ("too late", 10, false)] {
            assert_eq!(!term.left(start + Duration::from_secs(after)).is_zero(), holds, "{name}");
        }
        assert!(RENEW_DEADLINE < DURATION);
    }

    #[test]
    fn terms_are_counted_and_renewals_are_not() {
        let first = written(None, "l", "a", time());
        let renewed = written(Some(&first), "l", "a", time());
        let taken = written(Some(&renewed), "l", "b", time());
        let terms = [first, renewed, taken].map(|lease| lease.spec.unwrap().lease_transitions);
        assert_eq!(terms, [Some(0), Some(0), Some(1)]);
    }
}
