//! The walkthrough, as a user goes through it, with upstream's unmodified YAML. The scenarios share one box and build
//! on each other, in this order:
//!
//! 1. [`install`]: the operator and a MeshInstall
//! 2. [`inject`]: who gets a sidecar, and Bookinfo
//! 3. [`walkthrough`]: the page, from inside and through the gateway
//! 4. [`routing`]: what VirtualServices do to the page
//! 5. [`security`]: what is on the wire, and who may speak to whom
//! 6. [`discovery`]: pods come and go under load
//! 7. [`metrics`]: what a request leaves behind
//! 8. [`memory`]: what the programs hold
//! 9. [`bad_input`]: what happens to mistakes
//! 10. [`validation`]: what is refused before it can do harm
//! 11. [`cleanup`]: what deletion leaves behind

pub(crate) mod bad_input;
pub(crate) mod cleanup;
pub(crate) mod discovery;
pub(crate) mod inject;
pub(crate) mod install;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod operator;
mod routing;
pub(crate) mod security;
pub(crate) mod validation;
pub(crate) mod walkthrough;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use forestay_e2e::kube_box::KubeBox;
use forestay_e2e::{images, progress, tools};
use futures::FutureExt as _;
use http::{Request, Response, StatusCode, header};

use crate::runner::{Group, Scenario};

/// The scenarios, in the order of the walkthrough.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    let foundation = |name, about, run| Scenario { foundation: true, ..scenario(name, about, 6, run) };
    Group {
        name: "mesh",
        images: archives,
        prepare: |_| async { Ok(()) }.boxed(),
        scenarios: vec![
            foundation("install", "operator and MeshInstall applied, Ready, useful columns", |b| {
                install::install(b).boxed()
            }),
            foundation("bookinfo", "a labelled namespace's pods get a native sidecar, unmodified YAML", |b| {
                inject::bookinfo(b).boxed()
            }),
            scenario("choices", "classic by annotation; not unlabelled, not opted out", 6, |b| {
                inject::choices(b).boxed()
            }),
            foundation("from-inside", "kubectl exec in ratings prints the page's title", |b| {
                walkthrough::from_inside(b).boxed()
            }),
            foundation("gateway", "the page through LoadBalancer address and NodePort", |b| {
                walkthrough::through_the_gateway(b).boxed()
            }),
            scenario("all-v1", "every page without stars", 3, |b| routing::all_v1(b).boxed()),
            scenario("jason-v2", "jason sees v2, others v1", 3, |b| routing::jason_sees_v2(b).boxed()),
            scenario("half-v3", "half of the pages from v3", 3, |b| routing::half_v3(b).boxed()),
            scenario("jason-v2-v3", "jason sees v2, others v3", 3, |b| routing::jason_v2_others_v3(b).boxed()),
            scenario("delay", "7 s of delay for jason, and the page apologises", 3, |b| routing::delay(b).boxed()),
            scenario("abort", "500 from ratings for jason, and the page says so", 3, |b| routing::abort(b).boxed()),
            scenario("change-under-load", "rules change and no request fails", 5, |b| {
                routing::change_under_load(b).boxed()
            }),
            scenario("on-the-wire", "TLS between sidecars and no HTTP", 3, |b| security::on_the_wire(b).boxed()),
            scenario("identities", "SPIFFE in the handshake and in x-forwarded-client-cert", 6, |b| {
                security::identities(b).boxed()
            }),
            scenario("strict", "plaintext from outside passes while PERMISSIVE, not under STRICT", 4, |b| {
                security::strict(b).boxed()
            }),
            scenario("wrong-token", "a token for another audience gets no certificate", 6, |b| {
                security::wrong_token(b).boxed()
            }),
            scenario("graceful", "scaling, restarting and deleting lose no request", 8, |b| {
                discovery::graceful(b).boxed()
            }),
            scenario("killed", "a killed pod takes at most what it held with it", 8, |b| discovery::killed(b).boxed()),
            scenario("rolling-restart", "control plane, webhook and gateway restart, no request fails", 8, |b| {
                discovery::rolling_restart(b).boxed()
            }),
            scenario("metrics", "each edge told by both ends, with Istio's labels", 5, |b| metrics::edges(b).boxed()),
            scenario("memory", "what each program holds, at rest and under load", 3, |b| memory::footprint(b).boxed()),
            scenario("tag", "a tag leads pods to a revision and counts as its use", 6, |b| operator::tag(b).boxed()),
            scenario("settings", "overlays, settings without effect and mistakes are told by name", 4, |b| {
                operator::settings(b).boxed()
            }),
            scenario("bad-installs", "MeshInstalls that cannot work say which field", 4, |b| {
                bad_input::mesh_installs(b).boxed()
            }),
            scenario("missing-subset", "503 with its flag, and the control plane says so", 4, |b| {
                bad_input::missing_subset(b).boxed()
            }),
            scenario("bad-annotation", "a malformed annotation is refused by name", 3, |b| {
                bad_input::malformed_annotation(b).boxed()
            }),
            scenario("validation", "Istio's objects are refused, warned of, accepted; kubectl says why", 3, |b| {
                validation::answers(b).boxed()
            }),
            scenario("validation-outage", "without its webhook objects can be deleted, pods outside start", 8, |b| {
                validation::outage(b).boxed()
            }),
            scenario("ca-bundle", "an edited caBundle is put back", 3, |b| validation::repaired(b).boxed()),
            scenario("cleanup", "kubectl delete mi leaves nothing, and pods can be created at once", 8, |b| {
                cleanup::cleanup(b).boxed()
            }),
        ],
    }
}

/// The images: our own, Bookinfo's, curl and httpbin, from the programs that were built beside this one.
pub(crate) fn archives() -> Result<Vec<PathBuf>> {
    // Before any box is there, so that a mirror that is away is not taken for a fault of the mesh; all at once.
    tools::ensure_packages(&["binutils", "tcpdump"], &progress::PlainLines)?;
    let (binaries, cache) = (binaries()?, tools::Cache::open()?);
    let mut archives = images::mesh(&binaries, names::VERSION, &cache)?;
    archives.push(images::samples(&binaries, &cache)?);
    archives.push(images::httpbin(&tools::httpbin(&progress::PlainLines)?, &cache)?);
    Ok(archives.into_iter().map(|archive| archive.path).collect())
}

/// The programs that were built beside this one, and what puts them into images. `FORESTAY_PROGRAMS` is a folder with
/// others, for example release builds; those that are not there are taken from beside this one.
pub(crate) fn binaries() -> Result<images::Binaries> {
    let program = std::env::current_exe().context("the path of this program")?;
    tools::ensure_packages(&["binutils"], &progress::PlainLines)?;
    let folder = program.parent().context("the folder of this program")?;
    Ok(images::Binaries::in_folder(folder).preferring(std::env::var_os("FORESTAY_PROGRAMS").map(PathBuf::from)))
}

/// The operator by its static manifest, available.
pub(crate) async fn operator_installed(kube: &KubeBox) -> Result<()> {
    kube.kubectl_ok(&["apply", "-f", &config("install.yaml").display().to_string()]).await?;
    operator_available(kube).await
}

pub(crate) async fn operator_available(kube: &KubeBox) -> Result<()> {
    kube.wait_for("forestay-system", "deployment/forestay-operator", "condition=Available", STARTED).await
}

/// How long a change may take to show, generously: the machine is shared and noisy, and who waits for nothing loses nothing.
pub(crate) const SOON: Duration = Duration::from_mins(2);
/// How long pods may take to start.
pub(crate) const STARTED: Duration = Duration::from_mins(4);

/// The folder of Istio's unmodified YAML.
pub(crate) fn samples() -> PathBuf {
    std::env::var_os("FORESTAY_SAMPLES").map_or_else(|| workspace().join("../shared/samples"), PathBuf::from)
}

/// A file of `$FORESTAY_SAMPLES`.
pub(crate) fn sample(path: &str) -> Result<PathBuf> {
    let file = samples().join(path);
    ensure!(file.exists(), "{}: not there; set FORESTAY_SAMPLES to Istio's samples", file.display());
    Ok(file)
}

/// A file of our own `config/`.
pub(crate) fn config(path: &str) -> PathBuf {
    workspace().join("config").join(path)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Applies one of Istio's samples to `default`.
pub(crate) async fn apply_sample(kube: &KubeBox, path: &str) -> Result<()> {
    kube.apply_file("default", &sample(path)?).await.map(drop)
}

/// Deletes what one of Istio's samples made in `default`.
pub(crate) async fn delete_sample(kube: &KubeBox, path: &str) -> Result<()> {
    let file = sample(path)?.display().to_string();
    kube.kubectl_ok(&["-n", "default", "delete", "--ignore-not-found", "-f", &file]).await.map(drop)
}

/// The address that the ingress gateway's Service got, with its HTTP port.
pub(crate) async fn gateway(kube: &KubeBox) -> Result<SocketAddr> {
    kube.eventually("the ingress gateway's LoadBalancer address", SOON, || async {
        let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
        let service = ["-n", "istio-system", "get", "service", "istio-ingressgateway", "-o", path];
        let address: Ipv4Addr = kube.kubectl_ok(&service).await?.trim().parse().context("no address yet")?;
        Ok(SocketAddr::from((address, 80)))
    })
    .await
}

/// The name of a running pod with these labels in `default`.
pub(crate) async fn pod(kube: &KubeBox, labels: &str) -> Result<String> {
    let name = "jsonpath={.items[0].metadata.name}";
    let running = "--field-selector=status.phase=Running";
    kube.kubectl_ok(&["-n", "default", "get", "pod", "-l", labels, running, "-o", name]).await
}

/// A visitor of the bookshop, signed in or not.
pub(crate) struct Visitor<'a> {
    kube: &'a KubeBox,
    gateway: SocketAddr,
    cookie: Option<String>,
}

impl<'a> Visitor<'a> {
    /// Somebody whom the shop does not know.
    pub(crate) async fn anonymous(kube: &'a KubeBox) -> Result<Self> {
        Ok(Self { kube, gateway: gateway(kube).await?, cookie: None })
    }

    /// Signs in through the page's form, as the walkthrough does.
    pub(crate) async fn signed_in(kube: &'a KubeBox, name: &str) -> Result<Self> {
        let mut visitor = Self::anonymous(kube).await?;
        let form = Request::post("/login")
            .header(header::HOST, visitor.gateway.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("username={name}&passwd=")))?;
        let response = kube.http(visitor.gateway, form).await?;
        let cookie = response.headers().get(header::SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next());
        let Some(cookie) = cookie else { bail!("/login answered {} without a cookie", response.status()) };
        visitor.cookie = Some(cookie.to_owned());
        Ok(visitor)
    }

    /// GETs a path of the shop.
    pub(crate) async fn get(&self, path: &str) -> Result<Response<Bytes>> {
        let mut request = Request::get(path).header(header::HOST, self.gateway.to_string());
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.kube.http(self.gateway, request.body(Bytes::new())?).await
    }

    /// The product page.
    pub(crate) async fn page(&self) -> Result<Page> {
        let response = self.get("/productpage").await?;
        let body = String::from_utf8_lossy(response.body()).into_owned();
        ensure!(response.status() == StatusCode::OK, "/productpage answered {}: {body}", response.status());
        Ok(Page(body))
    }
}

/// The product page as a person reads it.
pub(crate) struct Page(pub(crate) String);

impl Page {
    /// The page's title.
    pub(crate) fn title(&self) -> Option<&str> {
        self.0.split_once("<title>")?.1.split_once("</title>").map(|(title, _)| title.trim())
    }

    /// Which version of reviews served the page: the name of its pod says so.
    pub(crate) fn reviews(&self) -> Option<&'static str> {
        let served = self.0.split_once("Reviews served by:")?.1;
        ["v1", "v2", "v3"].into_iter().find(|version| served.trim_start().starts_with(&format!("reviews-{version}")))
    }

    /// What the page shows of reviews, in words: for failures.
    pub(crate) fn stars(&self) -> &'static str {
        match (self.0.contains("<font color=\"black\">"), self.0.contains("<font color=\"red\">")) {
            (true, false) => "black",
            (false, true) => "red",
            (false, false) => "none",
            (true, true) => "both",
        }
    }
}
