//! The operator's processes on the machine, to be stopped and killed; and who asked the API server for what.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::scenarios::mesh::{STARTED, binaries};

/// The process of the operator in the pod of that name.
pub(crate) fn of_pod(kube: &KubeBox, pod: &str) -> Result<i32> {
    let name = format!("POD_NAME={pod}");
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&command).replace('\0', " ").starts_with("/usr/local/bin/forestay operator") {
            continue;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let own = environment.split(|byte| *byte == 0).any(|variable| variable == name.as_bytes());
        if own && descends(pid, kube.init()) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no operator runs in pod {pod}")
}

/// A program of the mesh in the box, by what its command line begins with.
pub(crate) fn running(kube: &KubeBox, command: &str) -> Result<i32> {
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with(&format!("/usr/local/bin/{command}")) && descends(pid, kube.init()) {
            return Ok(pid);
        }
    }
    anyhow::bail!("{command} does not run")
}

/// Whether `pid` runs below `ancestor`.
fn descends(mut pid: i32, ancestor: i32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pid = parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or_default();
    }
    false
}

/// Anonymous and resident memory of a process, MiB.
pub(crate) fn memory(pid: i32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    Ok((field("RssAnon:").context("RssAnon")?, field("VmRSS:").context("VmRSS")?))
}

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
}

/// An operator outside of any pod, under the operator's own service account: one that can be killed and started again
/// without the kubelet's patience.
pub(crate) struct Operator<'a> {
    kube: &'a KubeBox,
    kubeconfig: tempfile::NamedTempFile,
    program: std::path::PathBuf,
    child: Option<Child>,
}

impl<'a> Operator<'a> {
    /// Takes the place of the Deployment, which is scaled to nothing.
    pub(crate) async fn instead_of_the_deployment(kube: &'a KubeBox) -> Result<Self> {
        scale(kube, 0).await?;
        let token = kube
            .kubectl_ok(&["-n", "forestay-system", "create", "token", "forestay-operator", "--duration=1h"])
            .await?;
        let admin = fs::read_to_string(kube.kubeconfig()).context("the administrator's kubeconfig")?;
        let mut config: Value = crds::yaml::value(&admin)?;
        let users = config["users"].as_array_mut().context("users of the kubeconfig")?;
        for user in users {
            user["user"] = serde_json::json!({"token": token.trim()});
        }
        let kubeconfig = tempfile::NamedTempFile::new()?;
        fs::write(kubeconfig.path(), config.to_string())?;
        Ok(Self { kube, kubeconfig, program: binaries()?.path("forestay"), child: None })
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let log =
            fs::File::options().create(true).append(true).open(self.kube.layout().path("log/operator-killed.log"))?;
        let child = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.kube.init()))
            .arg("--")
            .arg(&self.program)
            .args(["operator", "--pod-name", "outside", "--pod-namespace", "forestay-system"])
            .env("KUBECONFIG", self.kubeconfig.path())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("run the operator by nsenter (package util-linux)")?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it by SIGKILL and starts another.
    pub(crate) async fn kill_and_start(&mut self) -> Result<()> {
        self.kill().await?;
        self.start()
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("kill the operator")?;
        }
        Ok(())
    }

    /// Gives the work back to the Deployment.
    pub(crate) async fn give_back(mut self) -> Result<()> {
        self.kill().await?;
        scale(self.kube, 1).await?;
        super::operator_available(self.kube).await
    }
}

/// Scales the operator's Deployment, and waits until it has no more pods than that.
pub(crate) async fn scale(kube: &KubeBox, replicas: u8) -> Result<()> {
    let wanted = format!("--replicas={replicas}");
    kube.kubectl_ok(&["-n", "forestay-system", "scale", "deployment/forestay-operator", &wanted]).await?;
    // One that goes has its time to end.
    kube.eventually("the operator's number of pods", STARTED, || async {
        let pods = pods(kube).await?;
        ensure!(pods.len() == usize::from(replicas), "{pods:?}");
        Ok(())
    })
    .await
}

/// The operator's pods.
pub(crate) async fn pods(kube: &KubeBox) -> Result<Vec<String>> {
    let names = "jsonpath={.items[*].metadata.name}";
    let names = kube.kubectl_ok(&["-n", "forestay-system", "get", "pods", "-o", names]).await?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Who holds the operator's Lease.
pub(crate) async fn leader(kube: &KubeBox) -> Result<String> {
    let holder = "jsonpath={.spec.holderIdentity}";
    let holder = kube.kubectl_ok(&["-n", "forestay-system", "get", "lease", "forestay-operator", "-o", holder]).await?;
    ensure!(!holder.is_empty(), "nobody has the Lease");
    Ok(holder)
}

/// Waits until somebody else than `old` leads.
pub(crate) async fn another_leader(kube: &KubeBox, old: &str) -> Result<String> {
    kube.eventually("another leader", Duration::from_mins(2), || async {
        let leader = leader(kube).await?;
        ensure!(leader != old, "{old} still leads");
        Ok(leader)
    })
    .await
}

/// A request of the operator's, as the API server's audit log has it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// When it came in, by the API server's clock.
    pub(crate) at: jiff::Timestamp,
    pub(crate) pod: String,
    pub(crate) verb: String,
    pub(crate) resource: String,
    /// The status of the answer.
    pub(crate) code: u64,
}

impl Asked {
    /// Whether it changed anything.
    pub(crate) fn writes(&self) -> bool {
        self.code < 300 && ["create", "update", "patch", "delete"].contains(&self.verb.as_str())
    }
}

/// Every request of a service account of `namespace/name`, in the order in which they came in.
pub(crate) fn asked(kube: &KubeBox, account: &str) -> Result<Vec<Asked>> {
    let log = fs::read_to_string(kube.layout().audit_log()).context("the audit log")?;
    let user = format!("system:serviceaccount:{}", account.replace('/', ":"));
    let mut all = Vec::new();
    for line in log.lines() {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        // A watch is told of twice: when it begins and when it ends.
        if event["user"]["username"] != user || event["stage"] == "ResponseStarted" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let at = text(&event["requestReceivedTimestamp"]);
        all.push(Asked {
            at: at.parse().with_context(|| format!("time {at:?}"))?,
            pod: text(&event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
            verb: text(&event["verb"]),
            resource: text(&event["objectRef"]["resource"]),
            code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        });
    }
    all.sort_by_key(|asked| asked.at);
    Ok(all)
}
