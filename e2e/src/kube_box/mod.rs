//! A real single-node Kubernetes in namespaces of its own: one process is PID 1 of the node and the parent of every
//! part, so that killing it ends everything at once.
//!
//! * on the harness's side: `start` builds and starts a box, `access` uses one (kubectl, HTTP, clients), `control`
//!   hurts its parts, [`destroy()`] removes one, alive or half-dead, `collect` keeps what a failure needs and `trouble` tells the
//!   most of it in a few lines;
//! * in the box: `init` supervises the parts, after `cage` has set up network and mounts; `load_balancer` and
//!   `forwarder` live in it;
//! * what both know: `layout` (paths, addresses), `part` (binaries and flags), `config` and `pki` (files).
//!
//! On two cores a start takes 5 to 8 seconds (files and namespaces 0.2, API server 3, node 4, DNS the rest), a stop 0.1
//! to 1; a box with CoreDNS costs about 500 MiB.

mod access;
mod api;
mod cage;
mod cgroup;
mod collect;
mod config;
mod control;
mod destroy;
mod dns;
mod fd_passing;
mod forwarder;
mod init;
mod layout;
mod load_balancer;
mod machine;
mod netns;
mod part;
mod pki;
mod start;
mod trouble;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

pub use access::{DEADLINE, PortForward};
pub use config::PAUSE_IMAGE;
pub use control::{Forward, PartState, PartStatus, Status};
pub use destroy::destroy;
pub use init::init_main;
pub use layout::{
    CLUSTER_DOMAIN, DNS_ADDRESS, LOAD_BALANCER_ADDRESSES, Layout, NODE_ADDRESS, NODE_NAME, POD_CIDR, SERVICE_CIDR,
    state_root,
};
pub use netns::NetworkNamespace;
pub use part::Part;

use crate::progress::{Progress, Silent};
use control::Request;
pub(crate) use dns::IMAGE as DNS_IMAGE;

/// The first argument with which this very program is started again as a box's init. A program that starts boxes must
/// hand over to [`init_main`] when it sees it, before it starts a runtime.
pub const INIT_WORD: &str = "kube-box-init";

/// What to start.
#[derive(Clone)]
pub struct Options {
    /// The box's name; boxes with different names run side by side.
    pub name: String,
    /// Whether the box outlives this process. Otherwise it dies with it, however it ends.
    pub detached: bool,
    /// Image archives to import while the API server starts.
    pub images: Vec<PathBuf>,
    /// Who is told what is going on.
    pub progress: Arc<dyn Progress>,
}

impl Options {
    /// A box that dies with this process, has only its own images and is started silently.
    pub fn new(name: impl Into<String>) -> Options {
        Options { name: name.into(), detached: false, images: Vec::new(), progress: Arc::new(Silent) }
    }
}

/// A running box. Unless it is detached, dropping it stops it.
pub struct KubeBox {
    layout: Layout,
    init: i32,
    network: NetworkNamespace,
    config: kube::Config,
    kubenode: PathBuf,
    /// The process that dies with the init and that dies with us; `None` when attached.
    child: Option<std::process::Child>,
    detached: bool,
    phases: Vec<(String, Duration)>,
}

impl KubeBox {
    /// Starts a box and waits until the node and the DNS server are ready and the default service account exists.
    /// Whatever is left of an earlier box of that name is removed first. Needs root.
    pub async fn start(options: Options) -> Result<KubeBox> {
        start::start(options).await
    }

    /// The running box `name`, if there is one. Does not take it over: dropping it leaves it running.
    pub async fn attach(name: &str) -> Result<Option<KubeBox>> {
        start::attach(name).await
    }

    /// Removes the box `name` or whatever is left of it; no error if there is nothing.
    pub fn destroy(name: &str) -> Result<()> {
        destroy(name)
    }

    /// Ends every process of the box and removes its control groups and folder.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let child = self.child.take();
        // From here on there is nothing left for `drop` to do.
        self.detached = true;
        destroy::destroy_at(&self.layout)?;
        if let Some(mut child) = child {
            child.wait().context("wait for the box's process")?;
        }
        Ok(())
    }

    /// The box's name.
    pub fn name(&self) -> &str {
        self.layout.name()
    }

    /// Its files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The process id of its init on the machine.
    pub fn init(&self) -> i32 {
        self.init
    }

    /// The administrator's kubeconfig, for use inside the box's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    /// A script for people: kubectl for this box. It becomes root by sudo, to enter the box's network.
    pub fn kubectl_script(&self) -> PathBuf {
        self.layout.path("bin/kubectl")
    }

    /// How long each phase of the start took, in order of completion, from the beginning of the start.
    pub fn phases(&self) -> &[(String, Duration)] {
        &self.phases
    }

    /// A client of the API server with the administrator's rights. Works inside the box's network and outside, and
    /// belongs to the runtime that this is called on.
    pub fn client(&self) -> Result<kube::Client> {
        api::client_outside(&self.config, &self.network)
    }

    /// The box's network namespace: connect into it, run closures and runtimes in it.
    pub fn network(&self) -> &NetworkNamespace {
        &self.network
    }

    /// Runs `work` on a thread inside the box's network.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.network.run(work)
    }

    /// A runtime whose threads are all inside the box's network; see [`NetworkNamespace::runtime`].
    pub fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        self.network.runtime()
    }

    /// What the box's init knows about its parts and forwards.
    pub fn status(&self) -> Result<Status> {
        self.call(Request::Status)
    }

    /// Kills a part by SIGKILL; it is started again after a second, as under any service manager.
    pub fn kill(&self, part: Part) -> Result<()> {
        self.call(Request::Kill(part)).map(drop)
    }

    /// Kills a part; it stays away until [`start_part`](Self::start_part).
    pub fn stop_part(&self, part: Part) -> Result<()> {
        let mut status = self.call(Request::Stop(part))?;
        // SIGKILL takes effect in milliseconds; a hundred rounds are a second.
        for _ in 0..100 {
            if status.part(part).is_some_and(|status| status.state == PartState::Stopped) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
            status = self.status()?;
        }
        anyhow::bail!("{part} does not die")
    }

    /// Starts a part that was stopped (or is waiting to be started again).
    pub fn start_part(&self, part: Part) -> Result<()> {
        self.call(Request::Start(part)).map(drop)
    }

    /// Stops a part and starts it again at once.
    pub fn restart_part(&self, part: Part) -> Result<()> {
        self.stop_part(part)?;
        self.start_part(part)
    }

    /// Freezes a part by SIGSTOP: its connections stay open and nothing answers.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.call(Request::Pause(part)).map(drop)
    }

    /// Lets a paused part go on.
    pub fn resume(&self, part: Part) -> Result<()> {
        self.call(Request::Resume(part)).map(drop)
    }

    fn call(&self, request: Request) -> Result<Status> {
        control::call(&self.layout, request, None).map(|(status, _)| status)
    }

    /// Copies everything that helps to understand a failure into `folder`.
    pub async fn collect(&self, folder: &Path) -> Result<()> {
        collect::collect(self, folder).await
    }

    /// The few lines that tell most about what went wrong since then.
    pub async fn trouble(&self, since: jiff::Timestamp) -> Vec<String> {
        trouble::since(self, since).await
    }
}

impl Drop for KubeBox {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        if let Err(error) = self.end() {
            eprintln!("box {}: {error:#}", self.layout.name());
        }
    }
}
