//! Pods come and go under load, and nobody notices.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::load::Load;
use super::{SOON, gateway, pod};
use forestay_e2e::kube_box::KubeBox;

/// What productpage answers with the status that reviews gave it, so that a failed call shows.
const REVIEWS: &str = "/api/v1/products/0/reviews";
const CLIENTS: usize = 4;

/// Scaling up and down, restarting and deleting: no request fails.
pub(crate) async fn graceful(kube: &KubeBox) -> Result<()> {
    let load = Load::start(kube, gateway(kube).await?, REVIEWS, CLIENTS, Duration::from_millis(20));
    let rolled = |version: &str| format!("deployment/reviews-{version}");
    for replicas in ["--replicas=3", "--replicas=1"] {
        kube.kubectl_ok(&["scale", &rolled("v1"), replicas]).await?;
        kube.kubectl_ok(&["rollout", "status", &rolled("v1"), "--timeout=240s"]).await?;
    }
    kube.kubectl_ok(&["rollout", "restart", &rolled("v3")]).await?;
    kube.kubectl_ok(&["rollout", "status", &rolled("v3"), "--timeout=240s"]).await?;
    let doomed = pod(kube, "app=reviews,version=v2").await?;
    kube.kubectl_ok(&["delete", "pod", &doomed, "--wait=true", "--timeout=120s"]).await?;
    load.stop().await.all_good(100)
}

/// A pod killed without grace takes at most the requests it held with it.
pub(crate) async fn killed(kube: &KubeBox) -> Result<()> {
    kube.kubectl_ok(&["wait", "deployment", "--all", "--for=condition=Available", "--timeout=240s"]).await?;
    let load = Load::start(kube, gateway(kube).await?, REVIEWS, CLIENTS, Duration::from_millis(20));
    let good = |least: usize| {
        let load = &load;
        kube.eventually("answers under load", SOON, move || async move {
            let seen = load.seen();
            ensure!(seen.good() >= least, "{} good answers so far", seen.good());
            Ok(())
        })
    };
    good(50).await?;
    let doomed = pod(kube, "app=reviews,version=v1").await?;
    kube.kubectl_ok(&["delete", "pod", &doomed, "--grace-period=0", "--force"]).await?;
    kube.kubectl_ok(&["rollout", "status", "deployment/reviews-v1", "--timeout=240s"]).await?;
    good(load.seen().good() + 50).await?;
    let seen = load.stop().await;
    let lost = seen.answers.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum::<usize>()
        + seen.errors.values().sum::<usize>();
    ensure!(
        lost <= CLIENTS,
        "{lost} requests were lost to one killed pod, more than the {CLIENTS} in flight: {seen:?}"
    );
    Ok(())
}

/// The mesh's own parts restart one after the other under load: no request fails.
pub(crate) async fn rolling_restart(kube: &KubeBox) -> Result<()> {
    let load = Load::start(kube, gateway(kube).await?, "/productpage", CLIENTS, Duration::from_millis(20));
    for deployment in ["istiod", "istio-sidecar-injector", "istio-ingressgateway"] {
        let deployment = format!("deployment/{deployment}");
        kube.kubectl_ok(&["-n", "istio-system", "rollout", "restart", &deployment]).await?;
        kube.kubectl_ok(&["-n", "istio-system", "rollout", "status", &deployment, "--timeout=240s"]).await?;
    }
    let after = load.seen().good();
    kube.eventually("answers after the restarts", SOON, || async {
        let seen = load.seen();
        ensure!(seen.good() >= after + 100, "{} good answers since", seen.good() - after);
        Ok(())
    })
    .await?;
    load.stop().await.all_good(100)
}
