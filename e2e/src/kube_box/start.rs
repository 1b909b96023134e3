//! From nothing to a ready cluster.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use kube::runtime::wait::{Condition, await_condition};

use super::access::DEADLINE;
use super::collect::last_lines;
use super::control::{self, Request};
use super::init::Charge;
use super::layout::{DNS_ADDRESS, Layout, NODE_NAME, state_root};
use super::machine::{self, Machine};
use super::netns::NetworkNamespace;
use super::part::{Binaries, Part};
use super::{INIT_WORD, KubeBox, Options, api, cgroup, collect, config, destroy, dns, pki};
use crate::progress::Progress;
use crate::tools::{self, Tools};

/// Measures the phases of one start and shows them.
struct Phases<'a> {
    begun: Instant,
    progress: &'a dyn Progress,
    done: std::sync::Mutex<Vec<(String, Duration)>>,
}

impl Phases<'_> {
    async fn run<T>(&self, phase: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        self.progress.begin(phase);
        let value = work.await?;
        self.progress.end(phase, begun.elapsed());
        if let Ok(mut done) = self.done.lock() {
            done.push((phase.to_owned(), self.begun.elapsed()));
        }
        Ok(value)
    }
}

pub(crate) async fn start(options: Options) -> Result<KubeBox> {
    tools::require_root()?;
    let layout = Layout::new(&options.name)?;
    let tools = tools::for_box(&*options.progress)?;
    let phases = Phases { begun: Instant::now(), progress: &*options.progress, done: std::sync::Mutex::default() };
    let launched = phases.run("files and namespaces", launch(&layout, &tools, options.detached)).await;
    let mut kube_box = launched.with_context(|| format!("box {}", options.name))?;
    if let Err(error) = ready(&mut kube_box, &tools.base_images, &options.images, &phases).await {
        // Dropping the half-started box removes it, so keep what it said.
        let kept = std::env::temp_dir().join(format!("forestay-box-{}-failed", options.name));
        collect::logs(&layout, &kept)?;
        return Err(error.context(format!("box {} (its logs are kept in {})", options.name, kept.display())));
    }
    kube_box.detached = options.detached;
    kube_box.phases = phases.done.into_inner().unwrap_or_default();
    Ok(kube_box)
}

pub(crate) async fn attach(name: &str) -> Result<Option<KubeBox>> {
    let layout = Layout::new(name)?;
    let charge = layout.path(Charge::FILE);
    if !charge.exists() {
        return Ok(None);
    }
    let charge = Charge::read(&charge)?;
    let Ok((status, init)) = control::call(&layout, Request::Status, None) else {
        return Ok(None); // half-dead: the next start or destroy removes it
    };
    if !status.api_server_seen_ready {
        return Ok(None);
    }
    let network = NetworkNamespace::of_process(init)?;
    let config = api::config(&layout).await?;
    Ok(Some(KubeBox {
        layout,
        init,
        network,
        config,
        kubenode: charge.binaries.kubenode,
        child: None,
        detached: true,
        phases: Vec::new(),
    }))
}

/// Writes the box's files, starts its init and waits until it takes commands.
async fn launch(layout: &Layout, tools: &Tools, detached: bool) -> Result<KubeBox> {
    let charge = Charge {
        name: layout.name().to_owned(),
        root: state_root(),
        binaries: Binaries { kubenode: tools.kubenode.clone(), containerd: tools.containerd.clone() },
        tethered: !detached,
    };
    {
        let machine = Machine::lock(&charge.root)?;
        destroy::remove(layout)?;
        machine::load_modules()?;
        machine.prepare()?;
        write_files(layout, &charge)?;
    }
    let mut child = match spawn_init(layout, detached) {
        Ok(child) => child,
        Err(error) => {
            destroy::destroy_at(layout)?;
            return Err(error);
        }
    };
    let connected = async {
        let init = init_answers(layout, &mut child).await?;
        let network = NetworkNamespace::of_process(init)?;
        anyhow::Ok((init, network, api::config(layout).await?))
    };
    match connected.await {
        Ok((init, network, config)) => {
            let kubenode = tools.kubenode.clone();
            let kube_box = KubeBox {
                layout: layout.clone(),
                init,
                network,
                config,
                kubenode,
                child: Some(child),
                detached: false,
                phases: Vec::new(),
            };
            write_kubectl_script(&kube_box)?;
            Ok(kube_box)
        }
        Err(error) => {
            let error = error.context(format!("its init says:\n{}", last_lines(&layout.log("init"), 10)));
            destroy::destroy_at(layout)?;
            child.wait().context("wait for the box's process")?;
            Err(error)
        }
    }
}

fn write_files(layout: &Layout, charge: &Charge) -> Result<()> {
    for folder in ["bin", "cni", "containerd", "log", "pki", "podlogs", "run", "kubelet", "volumeplugins"] {
        let path = layout.path(folder);
        fs::create_dir_all(&path).with_context(|| format!("mkdir {}", path.display()))?;
    }
    // Keys lie below.
    fs::set_permissions(layout.path("pki"), fs::Permissions::from_mode(0o700)).context("chmod pki")?;
    pki::write(layout)?;
    config::write(layout)?;
    cgroup::create(&layout.cgroup())?;
    let path = layout.path(Charge::FILE);
    fs::write(&path, serde_json::to_vec_pretty(charge)?).with_context(|| format!("write {}", path.display()))
}

fn spawn_init(layout: &Layout, detached: bool) -> Result<Child> {
    let path = layout.log("init");
    let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let own = std::env::current_exe().context("find this program's own file")?;
    Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg("setsid")
        .arg(own)
        .arg(INIT_WORD)
        .arg(layout.path(Charge::FILE))
        // Out of the terminal's foreground group: Ctrl-C is for the harness, which then decides.
        .process_group(0)
        .stdin(if detached { Stdio::null() } else { Stdio::piped() })
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .spawn()
        .context("run `unshare` (package util-linux)")
}

async fn init_answers(layout: &Layout, child: &mut Child) -> Result<i32> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().context("look after the box's process")? {
            bail!("its init ended at once ({status})");
        }
        if layout.init_socket().exists() {
            match control::call(layout, Request::Status, None) {
                Ok((_, init)) => return Ok(init),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {} // bound, but not listening yet
            }
        }
        if Instant::now() > deadline {
            bail!("its init does not answer");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// For people: becomes root to enter the box's network, and is kubectl there.
fn write_kubectl_script(kube_box: &KubeBox) -> Result<()> {
    let path = kube_box.kubectl_script();
    let script = format!(
        "#!/bin/sh\n# kubectl for the box {name}.\n[ \"$(id -u)\" = 0 ] || sudo=sudo\n\
         exec $sudo nsenter --net=/proc/{init}/ns/net -- {kubenode} kubectl --kubeconfig {kubeconfig} \"$@\"\n",
        name = kube_box.name(),
        init = kube_box.init,
        kubenode = kube_box.kubenode.display(),
        kubeconfig = kube_box.kubeconfig().display(),
    );
    fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(|| format!("chmod {}", path.display()))
}

/// Waits for everything that a test may count on.
async fn ready(kube_box: &mut KubeBox, base_images: &Path, images: &[PathBuf], phases: &Phases<'_>) -> Result<()> {
    // Only the watch over the init needs it mutably, and nothing else looks at it meanwhile.
    let mut child = kube_box.child.take();
    let result = tokio::select! {
        result = all_ready(kube_box, base_images, images, phases) => result,
        error = ended(child.as_mut()) => Err(error.context(last_lines(&kube_box.layout.log("init"), 10))),
    };
    kube_box.child = child;
    result
}

async fn ended(child: Option<&mut Child>) -> anyhow::Error {
    let Some(child) = child else { return std::future::pending().await };
    loop {
        match child.try_wait() {
            Ok(None) => tokio::time::sleep(Duration::from_millis(200)).await,
            Ok(Some(status)) => return anyhow!("its init ended ({status})"),
            Err(error) => return anyhow!("look after the box's process: {error}"),
        }
    }
}

async fn all_ready(kube_box: &KubeBox, base: &Path, images: &[PathBuf], phases: &Phases<'_>) -> Result<()> {
    let client = kube_box.client()?;
    let import_all = async {
        // The base first: CoreDNS waits for it.
        phases.run("own images imported", import(&kube_box.layout, &[base.to_owned()])).await?;
        if !images.is_empty() {
            phases.run("images imported", import(&kube_box.layout, images)).await?;
        }
        Ok(())
    };
    let control_plane = async {
        let api_server = async {
            api::wait_ready(&client).await;
            Ok(())
        };
        phases
            .run("API server ready", within(kube_box, &[Part::KubeApiserver, Part::Etcd], "API server", api_server))
            .await?;
        kube_box.apply(&dns::manifests()).await.context("apply CoreDNS")?;
        let nodes = Api::<Node>::all(client.clone());
        let node = appears(nodes, NODE_NAME, is_node_ready());
        phases.run("node ready", within(kube_box, &[Part::Kubelet, Part::Containerd], "node", node)).await?;
        let deployments = Api::<Deployment>::namespaced(client.clone(), dns::NAMESPACE);
        let coredns = appears(deployments, dns::DEPLOYMENT, is_deployment_available());
        let account = Api::<ServiceAccount>::default_namespaced(client.clone());
        let account = appears(account, "default", |account: Option<&ServiceAccount>| account.is_some());
        let parts = [Part::KubeControllerManager, Part::KubeScheduler, Part::Kubelet, Part::Containerd];
        phases
            .run("DNS ready", async {
                within(kube_box, &parts, "CoreDNS", coredns).await?;
                // Its pod is ready; that its Service has it takes kube-proxy a moment more.
                within(kube_box, &[Part::KubeProxy], "the Service of CoreDNS", connects(kube_box, DNS_ADDRESS, 53))
                    .await?;
                within(kube_box, &parts[..1], "service account default/default", account).await
            })
            .await
    };
    tokio::try_join!(import_all, control_plane).map(drop)
}

/// Gives `work` the usual deadline; if it passes, says what `parts` were doing.
async fn within(kube_box: &KubeBox, parts: &[Part], what: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    let error = match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => format!("{what} is not ready: {error:#}"),
        Err(_) => format!("{what} is not ready after {} s", DEADLINE.as_secs()),
    };
    let status = kube_box.status().unwrap_or_default();
    let mut said = Vec::new();
    for part in parts {
        let state = status.part(*part).map(|status| {
            let ended = status.last_exit.as_deref().map(|exit| format!(", last ended with {exit}"));
            format!("{:?}, started {} times{}", status.state, status.starts, ended.unwrap_or_default())
        });
        let lines = last_lines(&kube_box.layout.log(part.name()), 12);
        said.push(format!("--- {part} ({}):\n{lines}", state.unwrap_or_default()));
    }
    Err(anyhow!("{error}\n{}", said.join("\n")))
}

/// Waits, by a watch, until the object exists and meets `condition`.
async fn appears<K>(api: Api<K>, name: &str, condition: impl Condition<K>) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
    K::DynamicType: Default,
{
    // Boxed: a watch's state is large, and debug builds copy futures from frame to frame.
    Box::pin(await_condition(api, name, condition)).await.map(drop).with_context(|| format!("watch {name}"))
}

/// Waits until a Service's address takes connections; kube-proxy refuses them as long as it has no endpoints.
async fn connects(kube_box: &KubeBox, address: Ipv4Addr, port: u16) -> Result<()> {
    while kube_box.connect((address, port).into()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn is_node_ready() -> impl Condition<Node> {
    |node: Option<&Node>| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    }
}

fn is_deployment_available() -> impl Condition<Deployment> {
    |deployment: Option<&Deployment>| {
        let conditions = deployment.and_then(|deployment| deployment.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Available" && one.status == "True"))
    }
}

/// Imports image archives as soon as containerd answers.
pub(crate) async fn import(layout: &Layout, archives: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !layout.containerd_socket().exists() {
        if Instant::now() > deadline {
            bail!("containerd does not answer:\n{}", last_lines(&layout.log("containerd"), 12));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for archive in archives {
        let output = tokio::process::Command::new("ctr")
            .arg("-a")
            .arg(layout.containerd_socket())
            .args(["-n", "k8s.io", "images", "import"])
            .arg(archive)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run `ctr` (package containerd)")?;
        if !output.status.success() {
            bail!("import {}: {}", archive.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}
