//! Two operators at once: one of them writes, whatever happens to it. The audit log says who wrote what and when.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::MESH_NAMESPACE;
use nix::sys::signal::Signal;

use super::process::{Asked, another_leader, asked, leader, of_pod, pods, scale, signal};
use super::{installed, operator_available};
use crate::scenarios::mesh::{SOON, STARTED};

const ACCOUNT: &str = "forestay-system/forestay-operator";

/// Edits an object of ours, and waits until it is put back.
async fn drift(kube: &KubeBox) -> Result<()> {
    const OBJECT: [&str; 2] = ["configmap", "istio"];
    let edit = r#"{"metadata":{"labels":{"install.forestay.dev/component":"edited"}}}"#;
    let arguments = [&["-n", MESH_NAMESPACE, "patch"], &OBJECT[..], &["--type=merge", "-p", edit]].concat();
    kube.kubectl_ok(&arguments).await?;
    kube.eventually("an edit put back", Duration::from_mins(2), || async {
        let path = "jsonpath={.metadata.labels.install\\.forestay\\.dev/component}";
        let label = kube.kubectl_ok(&[&["-n", MESH_NAMESPACE, "get"], &OBJECT[..], &["-o", path]].concat()).await?;
        ensure!(label == "configuration", "the label is {label}");
        Ok(())
    })
    .await
}

/// A leader that is paused past its Lease, one that is killed, and one that is asked to go.
pub(crate) async fn two(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    scale(kube, 2).await?;
    operator_available(kube).await?;
    kube.eventually("both ready", STARTED, || async {
        let path = "jsonpath={.status.readyReplicas}";
        let ready =
            kube.kubectl_ok(&["-n", "forestay-system", "get", "deployment/forestay-operator", "-o", path]).await?;
        ensure!(ready == "2", "{ready} are");
        Ok(())
    })
    .await?;
    drift(kube).await?;

    let paused = leader(kube).await?;
    let process = of_pod(kube, &paused)?;
    signal(process, Signal::SIGSTOP)?;
    let begun = Instant::now();
    let second = another_leader(kube, &paused).await;
    let took = begun.elapsed();
    let drifted = match &second {
        Ok(_) => drift(kube).await,
        Err(_) => Ok(()),
    };
    // What it had sent before its pause the API server may have taken up at any time until here.
    let resumed = jiff::Timestamp::now();
    signal(process, Signal::SIGCONT)?;
    let second = second?;
    drifted?;
    println!("    a paused leader is followed after {:.1} s", took.as_secs_f64());
    kube.eventually("the paused one ends", SOON, || async {
        ensure!(of_pod(kube, &paused).ok() != Some(process), "it still runs");
        Ok(())
    })
    .await?;
    drift(kube).await?;
    let late: Vec<Asked> = asked(kube, ACCOUNT)?
        .into_iter()
        .filter(|asked| asked.pod == paused && asked.at > resumed && asked.writes())
        .collect();
    ensure!(late.is_empty(), "after its pause {paused} wrote: {late:#?}");

    let begun = Instant::now();
    signal(of_pod(kube, &second)?, Signal::SIGKILL)?;
    drift(kube).await?;
    println!("    after a kill an edit is put back within {:.1} s", begun.elapsed().as_secs_f64());

    // Both up again, then the leader is asked to go.
    kube.eventually("both up", STARTED, || async {
        for pod in pods(kube).await? {
            of_pod(kube, &pod)?;
        }
        Ok(())
    })
    .await?;
    let third = leader(kube).await?;
    let begun = Instant::now();
    kube.kubectl_ok(&["-n", "forestay-system", "delete", "pod", &third, "--wait=false"]).await?;
    another_leader(kube, &third).await?;
    println!("    a leader that is asked to go is followed after {:.1} s", begun.elapsed().as_secs_f64());
    drift(kube).await?;
    scale(kube, 1).await?;
    operator_available(kube).await?;
    // Whichever was left has it.
    drift(kube).await?;
    one_at_a_time(kube).await
}

/// Nobody writes in between another's writes.
async fn one_at_a_time(kube: &KubeBox) -> Result<()> {
    let writes: Vec<Asked> = asked(kube, ACCOUNT)?
        .into_iter()
        .filter(|asked| asked.writes() && asked.resource != "leases" && !asked.pod.is_empty())
        .collect();
    let first = writes.first().context("nobody wrote anything")?;
    let (mut terms, mut changes) = (vec![first.pod.clone()], Vec::new());
    for (before, write) in writes.iter().zip(writes.iter().skip(1)) {
        if before.pod != write.pod {
            terms.push(write.pod.clone());
            changes.push(format!("{} by {}, then {} by {}", before.at, before.pod, write.at, write.pod));
        }
    }
    // The Lease counts its holders. Read last: whoever writes in the log has had it by now.
    let path = "jsonpath={.spec.leaseTransitions}";
    let transitions =
        kube.kubectl_ok(&["-n", "forestay-system", "get", "lease", "forestay-operator", "-o", path]).await?;
    let transitions: usize = transitions.parse().context("the Lease's transitions")?;
    ensure!(
        terms.len() <= transitions + 1,
        "{} terms, and the Lease has changed hands {transitions} times: {changes:#?}",
        terms.len()
    );
    println!("    {} writes in {} terms, none between another's", writes.len(), terms.len());
    Ok(())
}
