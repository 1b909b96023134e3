//! One of the replicas is the leader: a Lease, guarded by its resourceVersion.
//!
//! Only writers ask for it (the root certificate in every namespace, the renewal of the root); xDS and certificates are
//! served by every replica. As in client-go, a lease counts as held for as long as it was *seen* to change within its
//! duration by the local clock: clocks of other machines are never compared.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The Lease of the control plane's writers, in the mesh's namespace; all revisions share it, as they share the root.
use names::resources::ISTIOD_LEASE as LEASE;
/// After this long without a renewal another replica takes over.
const DURATION: Duration = Duration::from_secs(15);
/// The leader stops to be one when it could not renew for this long, well before another takes over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the lease is renewed or looked at.
const PERIOD: Duration = Duration::from_secs(3);

/// What to do about a lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Write ourselves into it.
    Hold,
    /// Another replica has it.
    Wait,
}

/// Decides about a lease that has not changed for `unchanged`.
fn step(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Step {
    let Some(holder) = spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty()) else {
        return Step::Hold;
    };
    if holder == me {
        return Step::Hold;
    }
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs);
    if unchanged >= duration { Step::Hold } else { Step::Wait }
}

/// The lease with us as its holder.
fn held(lease: &Lease, me: &str, now: Timestamp) -> Lease {
    let old = lease.spec.clone().unwrap_or_default();
    let ours = old.holder_identity.as_deref() == Some(me);
    let mut lease = lease.clone();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        acquire_time: if ours { old.acquire_time.clone() } else { Some(MicroTime(now)) },
        lease_transitions: if ours { old.lease_transitions } else { Some(old.lease_transitions.unwrap_or(0) + 1) },
        ..old
    });
    lease
}

/// What a replica knows of the Lease.
#[derive(Default)]
struct Known {
    /// Another's: its resourceVersion, and since when it is unchanged.
    seen: Option<(String, Instant)>,
    /// Ours, as it was written last: a renewal need not read what nobody else may have written.
    ours: Option<Lease>,
}

/// Takes part in the election as `me` until `stop`, and tells `leader` whether this replica leads.
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    me: &str,
    leader: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let mut known = Known::default();
    let mut renewed: Option<Instant> = None;
    loop {
        // A call that hangs must not keep us leader beyond the deadline.
        match tokio::time::timeout(PERIOD, attempt(&leases, me, &mut known)).await {
            Ok(Ok(true)) => renewed = Some(Instant::now()),
            Ok(Ok(false)) => renewed = None,
            Ok(Err(error)) => tracing::warn!(%error, "Lease {namespace}/{LEASE} could not be renewed"),
            Err(_) => tracing::warn!("Lease {namespace}/{LEASE} could not be renewed: no answer in {PERIOD:?}"),
        }
        let leads = renewed.is_some_and(|renewed| renewed.elapsed() < RENEW_DEADLINE);
        leader.send_if_modified(|old| {
            let changed = *old != leads;
            if changed {
                tracing::info!("{me} {} the leader", if leads { "is" } else { "is no longer" });
            }
            *old = leads;
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => break,
        }
    }
    if *leader.borrow() {
        leader.send_replace(false);
        release(&leases, me).await;
    }
}

/// One round; whether we hold the lease after it.
async fn attempt(leases: &Api<Lease>, me: &str, known: &mut Known) -> kube::Result<bool> {
    let params = PostParams::default();
    // A conflict says that somebody has written it after all. Who, has to be read.
    if let Some(ours) = known.ours.take() {
        known.ours = won(leases.replace(LEASE, &params, &held(&ours, me, Timestamp::now())).await)?;
        if known.ours.is_some() {
            return Ok(true);
        }
    }
    let written = match leases.get_opt(LEASE).await? {
        None => {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            leases.create(&params, &held(&Lease { metadata, spec: None }, me, Timestamp::now())).await
        }
        Some(lease) => {
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let since = match &mut known.seen {
                Some((seen, since)) if *seen == version => *since,
                seen => seen.insert((version, Instant::now())).1,
            };
            match step(lease.spec.as_ref(), me, since.elapsed()) {
                Step::Wait => return Ok(false),
                // The lease still carries its resourceVersion: whoever writes second loses.
                Step::Hold => leases.replace(LEASE, &params, &held(&lease, me, Timestamp::now())).await,
            }
        }
    };
    known.ours = won(written)?;
    Ok(known.ours.is_some())
}

/// What was written; a conflict means that another replica was faster, which is no error.
fn won(result: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives the lease back, so that the next leader need not wait for it to run out.
async fn release(leases: &Api<Lease>, me: &str) {
    let released = async {
        let mut lease = leases.get(LEASE).await?;
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(me)) {
            spec.holder_identity = None;
            leases.replace(LEASE, &PostParams::default(), &lease).await?;
        }
        Ok::<(), kube::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(PERIOD, released).await {
        tracing::info!(%error, "Lease {LEASE} could not be given back; it runs out in {DURATION:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some("7".to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(ToOwned::to_owned),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(4),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_ours_or_was_not_renewed() {
        let rows = [
            ("no spec", None, 0, Step::Hold),
            ("nobody", lease(None).spec, 0, Step::Hold),
            ("given back", lease(Some("")).spec, 0, Step::Hold),
            ("ours", lease(Some("a")).spec, 0, Step::Hold),
            ("another's, fresh", lease(Some("b")).spec, 14, Step::Wait),
            ("another's, run out", lease(Some("b")).spec, 15, Step::Hold),
        ];
        for (name, spec, unchanged, expected) in rows {
            assert_eq!(step(spec.as_ref(), "a", Duration::from_secs(unchanged)), expected, "{name}");
        }
    }

    #[test]
    fn taking_a_lease_counts_a_transition_and_renewing_does_not() {
        let now = Timestamp::UNIX_EPOCH;
        let taken = held(&lease(Some("b")), "a", now);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "guarded by what was read");
        let spec = taken.spec.clone().unwrap_or_default();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(5)));
        let renewed = held(&taken, "a", now).spec.unwrap_or_default();
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(5), spec.acquire_time));
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_leads_and_another_follows_when_it_stops() {
        let api = crate::api_server::ApiServer::new();
        let replicas: Vec<_> = ["a", "b", "c"]
            .map(|me| {
                let (leads, leader) = watch::channel(false);
                let (client, stop) = (api.client(), CancellationToken::new());
                let until = stop.clone();
                tokio::spawn(async move { run(client, "istio-system", me, leads, until).await });
                (leader, stop)
            })
            .into();
        let leaders = || -> Vec<usize> { (0..3).filter(|index| *replicas[*index].0.borrow()).collect() };
        let holder = |api: &crate::api_server::ApiServer| {
            let lease = api.get("coordination.k8s.io/v1", "leases", "istio-system", LEASE)?;
            lease["spec"]["holderIdentity"].as_str().map(ToOwned::to_owned)
        };
        tokio::time::sleep(DURATION * 4).await;
        let [first] = leaders()[..] else { panic!("one leader, not {:?}", leaders()) };
        assert_eq!(holder(&api).as_deref(), Some(["a", "b", "c"][first]));

        replicas[first].1.cancel();
        tokio::time::sleep(PERIOD * 2).await;
        let [second] = leaders()[..] else { panic!("one leader, not {:?}", leaders()) };
        assert_ne!(first, second, "given back, so nobody waits for it to run out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_reads_nothing_and_a_lease_that_was_taken_or_deleted_is_noticed() {
        let api = crate::api_server::ApiServer::new();
        let leases: Api<Lease> = Api::namespaced(api.client(), "istio-system");
        let mut known = Known::default();
        assert!(attempt(&leases, "a", &mut known).await.unwrap());
        let reads = api.reads();
        for _ in 0..10 {
            assert!(attempt(&leases, "a", &mut known).await.unwrap());
        }
        assert_eq!(api.reads(), reads, "ten renewals");

        let mut taken = leases.get(LEASE).await.unwrap();
        taken.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
        leases.replace(LEASE, &PostParams::default(), &taken).await.unwrap();
        assert!(!attempt(&leases, "a", &mut known).await.unwrap(), "another has it");
        assert!(!attempt(&leases, "a", &mut known).await.unwrap(), "and keeps it");

        taken = leases.get(LEASE).await.unwrap();
        taken.spec.as_mut().unwrap().holder_identity = None;
        leases.replace(LEASE, &PostParams::default(), &taken).await.unwrap();
        assert!(attempt(&leases, "a", &mut known).await.unwrap(), "given back");
        api.delete("coordination.k8s.io/v1", "leases", "istio-system", LEASE);
        attempt(&leases, "a", &mut known).await.expect_err("what was to be renewed is gone");
        assert!(attempt(&leases, "a", &mut known).await.unwrap(), "made anew");
    }
}
