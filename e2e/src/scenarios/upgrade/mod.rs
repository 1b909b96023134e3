//! From one version to the next, under load: the same code built twice, as [`names::VERSION`] and as
//! [`names::NEXT_VERSION`]. The scenarios share one box and build on each other, in this order:
//!
//! 1. [`takeover`]: a certificate authority that Istio left is damaged, mended, and the mesh's
//! 2. [`in_place`]: a newer operator changes nothing; versions that are refused; an image that is not there; the upgrade;
//!    and the workloads after it
//! 3. [`canary`]: a second revision, upgraded while its operator is killed; a tag moves to it

mod canary;
mod in_place;
mod takeover;
mod watched;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use forestay_e2e::{images, progress, tools};
use futures::FutureExt as _;
use names::resources::{OPERATOR, OPERATOR_NAMESPACE};
use names::{NEXT_VERSION, VERSION};

use super::mesh::load::Load;
use super::mesh::{self, SOON, STARTED};
use crate::runner::{Group, Scenario};

/// The scenarios, each built on the one before.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    let foundation = |name, about, run| Scenario { foundation: true, ..scenario(name, about, 8, run) };
    Group {
        name: "upgrade",
        images: archives,
        prepare: |_| async { Ok(()) }.boxed(),
        scenarios: vec![
            foundation("takeover", "a damaged authority of Istio's is told by name; mended, it is the mesh's", |b| {
                takeover::takeover(b).boxed()
            }),
            foundation("bookinfo", "Bookinfo by the version before, under the authority that was taken over", |b| {
                takeover::bookinfo(b).boxed()
            }),
            foundation("operator-first", "a newer operator restarts nothing and says what it has", |b| {
                in_place::operator_first(b).boxed()
            }),
            scenario("record", "the MeshInstall is the parent of an ApplySet that leads to all it made", 2, |b| {
                in_place::record(b).boxed()
            }),
            scenario("refused", "versions that cannot be are refused, and what runs is kept", 4, |b| {
                in_place::refused(b).boxed()
            }),
            scenario("stopped", "an image that is not there stops the upgrade; back, and no request failed", 8, |b| {
                in_place::stopped(b).boxed()
            }),
            foundation("in-place", "one part after the other, and no request fails", |b| in_place::upgraded(b).boxed()),
            scenario("workloads", "restarted under load they get the new sidecar, and no request fails", 8, |b| {
                in_place::workloads(b).boxed()
            }),
            scenario("operator-killed", "a canary is upgraded while its operator is killed at each step", 8, |b| {
                canary::operator_killed(b).boxed()
            }),
            scenario("tag-moves", "a tag moves to the canary under load, and no request fails", 8, |b| {
                canary::tag_moves(b).boxed()
            }),
        ],
    }
}

fn archives() -> Result<Vec<PathBuf>> {
    tools::ensure_packages(&["openssl"], &progress::PlainLines)?;
    let mut archives = mesh::archives()?;
    let next = images::mesh(&mesh::binaries()?.next(), NEXT_VERSION, &tools::Cache::open()?)?;
    archives.extend(next.into_iter().map(|archive| archive.path));
    Ok(archives)
}

/// What productpage answers with the status that reviews gave it, so that a failed call in the mesh shows.
const REVIEWS: &str = "/api/v1/products/0/reviews";

/// Visitors at the gateway who never stop; each request goes through the mesh, too.
async fn load(kube: &KubeBox) -> Result<Load> {
    Ok(Load::start(kube, mesh::gateway(kube).await?, REVIEWS, 4, Duration::from_millis(20)))
}

/// Ends a load; no request may have failed, and requests must have been answered up to the end.
async fn unharmed(kube: &KubeBox, load: Load) -> Result<()> {
    let so_far = load.seen().good();
    kube.eventually("answers at the end", SOON, || async {
        let good = load.seen().good();
        ensure!(good >= so_far + 50, "{} good answers since", good - so_far);
        Ok(())
    })
    .await?;
    let seen = load.stop().await;
    println!("    {} requests meanwhile", seen.good());
    seen.all_good(100)
}

/// Brings the operator of the next version, as `kubectl apply` of its manifests does.
async fn next_operator(kube: &KubeBox) -> Result<()> {
    let file = std::fs::read_to_string(mesh::config("install.yaml")).context("read config/install.yaml")?;
    // What a build as the next version generates: the default of spec.version, and the operator's image.
    let mut next = file.clone();
    for (from, to) in [
        (format!("default: {VERSION}\n"), format!("default: {NEXT_VERSION}\n")),
        (format!("/forestay:{VERSION}\n"), format!("/forestay:{NEXT_VERSION}\n")),
    ] {
        ensure!(next.matches(&from).count() == 1, "config/install.yaml does not say {from:?} once");
        next = next.replace(&from, &to);
    }
    kube.apply(&next).await?;
    let deployment = format!("deployment/{OPERATOR}");
    kube.kubectl_ok(&["-n", OPERATOR_NAMESPACE, "rollout", "status", &deployment, "--timeout=240s"]).await.map(drop)
}

/// A condition as `status reason message`.
async fn condition(kube: &KubeBox, install: &str, of: &str) -> Result<String> {
    let of = format!("@.type==\"{of}\"");
    let path = format!("jsonpath={{range .status.conditions[?({of})]}}{{.status}} {{.reason}} {{.message}}{{end}}");
    kube.kubectl_ok(&["get", &format!("mi/{install}"), "-o", &path]).await
}

/// Waits until a condition begins so and contains that.
async fn says(kube: &KubeBox, install: &str, of: &str, begins: &str, contains: &str) -> Result<()> {
    kube.eventually(&format!("condition {of} {begins} {contains:?}"), STARTED, || async {
        let found = condition(kube, install, of).await?;
        ensure!(found.starts_with(begins) && found.contains(contains), "it is {found:?}");
        Ok(())
    })
    .await
}

/// Changes the spec of a MeshInstall, as `kubectl patch` does.
async fn patch(kube: &KubeBox, install: &str, spec: &str) -> Result<()> {
    let patch = format!("{{\"spec\": {spec}}}");
    kube.kubectl_ok(&["patch", "mi", install, "--type=merge", "-p", &patch]).await.map(drop)
}

/// One field of a MeshInstall.
async fn field(kube: &KubeBox, install: &str, path: &str) -> Result<String> {
    kube.kubectl_ok(&["get", "mi", install, "-o", &format!("jsonpath={{{path}}}")]).await
}

/// Waits until a MeshInstall is Ready and that version is in force.
async fn in_force(kube: &KubeBox, install: &str, version: &str) -> Result<()> {
    kube.eventually(&format!("MeshInstall {install} Ready at {version}"), STARTED, || async {
        let ready = condition(kube, install, "Ready").await?;
        let found = field(kube, install, ".status.version").await?;
        let wanted = field(kube, install, ".spec.version").await?;
        ensure!(
            ready.starts_with("True") && found == version && wanted == version,
            "version {found} is in force, {wanted} is asked for: {ready}"
        );
        Ok(())
    })
    .await
}
