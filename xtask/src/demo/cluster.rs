//! Where the demo runs.

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use e2e::{KubeBox, images::Archive};
use tokio::runtime::Runtime;

use crate::show::Show;

/// The name of the demo's box.
const BOX: &str = "demo";
/// Which archives the box was started with, in its folder.
const LOADED: &str = "demo-images";
/// The demo's own namespace in a cluster that is not its own.
const NAMESPACE: &str = "forestay-demo";
/// The port on the machine's loopback that leads to the page, if it is free.
const PORT: u16 = 9080;
/// How long a running box may take to say that it is well.
const WELL: Duration = Duration::from_secs(5);

/// A cluster that the demo's steps work on.
pub(super) enum Cluster<'a> {
    Boxed(&'a Boxed),
    Existing(&'a Existing),
}

impl Cluster<'_> {
    /// The namespace for Bookinfo.
    pub(super) fn namespace(&self) -> &'static str {
        match self {
            Cluster::Boxed(_) => "default",
            Cluster::Existing(_) => NAMESPACE,
        }
    }

    /// Runs kubectl, which must succeed; returns what it printed.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        match self {
            Cluster::Boxed(boxed) => boxed.runtime.block_on(boxed.kube.kubectl_ok(arguments)),
            Cluster::Existing(existing) => existing.kubectl(arguments),
        }
    }

    /// `kubectl apply -f` of a file whose objects are Bookinfo's: they name no namespace.
    pub(super) fn apply_here(&self, file: &Path) -> Result<()> {
        self.kubectl(&["-n", self.namespace(), "apply", "-f", &file.display().to_string()]).map(drop)
    }

    /// `kubectl apply -f` of a file whose objects name their namespaces, or have none.
    pub(super) fn apply(&self, file: &Path) -> Result<()> {
        self.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
    }

    /// GETs a path of a Service that clients reach at `address`: straight from the node's network in a box, and through
    /// the API server elsewhere, since this machine may not reach the Service.
    pub(super) fn get(&self, namespace: &str, service: &str, address: SocketAddr, path: &str) -> Result<String> {
        match self {
            Cluster::Boxed(boxed) => {
                let url = format!("http://{address}{path}");
                let answer = boxed.runtime.block_on(boxed.kube.http_get(&url))?;
                if !answer.status().is_success() {
                    bail!("{url} answers {}", answer.status());
                }
                Ok(String::from_utf8_lossy(answer.body()).into_owned())
            }
            Cluster::Existing(existing) => {
                let path = format!("/api/v1/namespaces/{namespace}/services/{service}:{}/proxy{path}", address.port());
                existing.kubectl(&["get", "--raw", &path])
            }
        }
    }
}

/// Tries until it works, for as long as anything may take.
pub(super) fn eventually<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + e2e::kube_box::DEADLINE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(300)),
            result => return result,
        }
    }
}

/// The demo's own Kubernetes.
pub(super) struct Boxed {
    kube: KubeBox,
    runtime: Runtime,
}

impl Boxed {
    /// The running box, if it is well and has these very images; else a new one.
    pub(super) fn start(archives: &[Archive], show: &Arc<Show>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let wanted: BTreeSet<String> = archives.iter().map(|archive| archive.path.display().to_string()).collect();
        let wanted = wanted.into_iter().collect::<Vec<_>>().join("\n");
        if let Some(kube) = show.step("look for a running box", || runtime.block_on(Self::well(&wanted)))? {
            return Ok(Self { kube, runtime });
        }
        let options = e2e::Options {
            detached: true,
            images: archives.iter().map(|archive| archive.path.clone()).collect(),
            progress: show.clone(),
            ..e2e::Options::new(BOX)
        };
        let kube = show.step("start Kubernetes", || runtime.block_on(KubeBox::start(options)))?;
        std::fs::write(kube.layout().path(LOADED), wanted).context("remembering the box's images")?;
        Ok(Self { kube, runtime })
    }

    async fn well(wanted: &str) -> Result<Option<KubeBox>> {
        // Whatever is wrong with a box that answers badly: a new one removes it first.
        let Ok(Some(kube)) = KubeBox::attach(BOX).await else { return Ok(None) };
        let loaded = std::fs::read_to_string(kube.layout().path(LOADED)).unwrap_or_default();
        let ready = tokio::time::timeout(WELL, kube.kubectl_ok(&["get", "--raw", "/readyz"])).await;
        Ok((loaded == wanted && matches!(ready, Ok(Ok(_)))).then_some(kube))
    }

    pub(super) fn remove() -> Result<()> {
        KubeBox::destroy(BOX)
    }

    /// Leads a port of the machine's loopback to an address in the box; gives the URL.
    pub(super) fn forward(&self, target: SocketAddr) -> Result<String> {
        let local = self.kube.forward(PORT, target).or_else(|_| self.kube.forward(0, target))?;
        Ok(format!("http://{local}"))
    }

    pub(super) fn kubectl_script(&self) -> PathBuf {
        self.kube.kubectl_script()
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.kube.kubeconfig()
    }

    /// Keeps what helps to understand a failure.
    pub(super) fn collect(&self, folder: &Path) {
        if let Err(error) = self.runtime.block_on(self.kube.collect(folder)) {
            eprintln!("collecting logs: {error:#}");
        }
    }
}

/// The cluster of the user's own kubeconfig.
pub(super) struct Existing {
    context: String,
    server: String,
}

impl Existing {
    pub(super) fn current() -> Result<Self> {
        let context = kubectl(&["config", "current-context"])
            .context("--existing uses the current context of your kubeconfig")?;
        let server = kubectl(&["config", "view", "--minify", "--output", "jsonpath={.clusters[0].cluster.server}"])?;
        Ok(Self { context: context.trim().to_owned(), server })
    }

    /// Always with the context that was named, should another become current meanwhile.
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&[&["--context", &self.context], arguments].concat())
    }
}

impl fmt::Display for Existing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.context, self.server)
    }
}

fn kubectl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("kubectl").args(arguments).output().context("starting kubectl")?;
    if !output.status.success() {
        bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
