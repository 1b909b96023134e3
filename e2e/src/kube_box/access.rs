//! Using a running box: kubectl and what is made of it, images, connections.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, Uri};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::KubeBox;
use super::control::{self, Forward, Request as Call};
use super::netns::NetworkNamespace;

/// How long anything in a box may take, generously.
pub const DEADLINE: Duration = Duration::from_mins(2);

impl KubeBox {
    /// kubectl with `arguments`, ready to be spawned.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.init))
            .arg("--")
            .arg(&self.kubenode)
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.layout.path("kubectl-cache"))
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// A program of the machine's, ready to be spawned where it reaches the cluster, as kubectl is.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.init))
            .arg("--")
            .arg(program)
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs kubectl, however it ends.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_command(arguments).output().await.context("run kubectl by nsenter (package util-linux)")
    }

    /// Runs kubectl, which must succeed, and returns its standard output.
    pub async fn kubectl_ok(&self, arguments: &[&str]) -> Result<String> {
        succeeded(arguments, &self.kubectl(arguments).await?)
    }

    /// Runs kubectl with `input` on its standard input; it must succeed.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl by nsenter (package util-linux)")?;
        if let Some(mut stdin) = child.stdin.take() {
            // kubectl may refuse its flags and close early: its own message is the better error.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        succeeded(arguments, &child.wait_with_output().await.context("wait for kubectl")?)
    }

    /// Applies YAML.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], yaml).await
    }

    /// Applies a file or folder of YAML, in `namespace` where it names none.
    pub async fn apply_file(&self, namespace: &str, path: &Path) -> Result<String> {
        self.kubectl_ok(&["-n", namespace, "apply", "-f", &path.display().to_string()]).await
    }

    /// `kubectl wait`: until the one `object` (`pod/x`, `deployment/y`) meets `condition` (`condition=Available`,
    /// `delete`, `jsonpath=...`).
    pub async fn wait_for(&self, namespace: &str, object: &str, condition: &str, deadline: Duration) -> Result<()> {
        let (condition, timeout) = (format!("--for={condition}"), format!("--timeout={}s", deadline.as_secs()));
        let arguments = ["-n", namespace, "wait", object, &condition, &timeout];
        if let Err(error) = self.kubectl_ok(&arguments).await {
            let described = self.kubectl(&["-n", namespace, "describe", object]).await;
            let described = described.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            return Err(
                error.context(format!("{object} in {namespace}:\n{}", described.unwrap_or_default().trim_end()))
            );
        }
        Ok(())
    }

    /// Runs `command` in a container of a pod (`pod/x`, `deployment/y`), however it ends.
    pub async fn exec(&self, namespace: &str, pod: &str, container: Option<&str>, command: &[&str]) -> Result<Output> {
        let mut arguments = vec!["-n", namespace, "exec", pod];
        arguments.extend(container.iter().flat_map(|container| ["-c", container]));
        arguments.push("--");
        arguments.extend(command);
        self.kubectl(&arguments).await
    }

    /// Runs `command` in a container of a pod; it must succeed. Returns its standard output.
    pub async fn exec_ok(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        command: &[&str],
    ) -> Result<String> {
        let output = self.exec(namespace, pod, container, command).await?;
        succeeded(&[&["exec", pod, "--"], command].concat(), &output)
    }

    /// The log of a pod's container (or of its only one).
    pub async fn logs(&self, namespace: &str, pod: &str, container: Option<&str>) -> Result<String> {
        let mut arguments = vec!["-n", namespace, "logs", pod];
        arguments.extend(container.iter().flat_map(|container| ["-c", container]));
        self.kubectl_ok(&arguments).await
    }

    /// `kubectl port-forward` to `port` of `target` (`pod/x`, `service/y`).
    pub async fn port_forward(&self, namespace: &str, target: &str, port: u16) -> Result<PortForward> {
        self.port_forward_with(&[], namespace, target, port).await
    }

    /// The same with more flags for kubectl, for example `--as=<user>`.
    pub async fn port_forward_with(
        &self,
        flags: &[&str],
        namespace: &str,
        target: &str,
        port: u16,
    ) -> Result<PortForward> {
        let remote = format!(":{port}");
        let arguments = [&["-n", namespace, "port-forward", target, &remote], flags].concat();
        let mut child = self
            .kubectl_command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("run kubectl port-forward")?;
        let stdout = child.stdout.take().context("kubectl's standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line())
            .await
            .with_context(|| format!("port-forward to {target}: no answer"))??
            .with_context(|| format!("port-forward to {target} ended at once"))?;
        // Forwarding from 127.0.0.1:37431 -> 8080
        let local = line.split_whitespace().nth(2).and_then(|address| address.parse().ok());
        let address = local.with_context(|| format!("port-forward to {target} says {line:?}"))?;
        // Later lines ("Handling connection for ...") must find a reader, or kubectl blocks.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(PortForward { address, _child: child })
    }

    /// Imports image archives.
    pub async fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        super::start::import(&self.layout, archives).await
    }

    /// Polls `check` until it returns something, with the last error as the reason when it never does.
    pub async fn eventually<T, F>(&self, what: &str, deadline: Duration, mut check: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let end = Instant::now() + deadline;
        let mut last = anyhow::anyhow!("the first try did not come back");
        loop {
            let rest = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            match tokio::time::timeout(rest, check()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => last = error,
                // Cut short by the end: what the try before saw tells more.
                Err(_) => {}
            }
            if Instant::now() >= end {
                return Err(last.context(format!("{what}: not within {} s", deadline.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Connects to `address` from the node's network, like a client outside the cluster.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        self.network.connect(address).await
    }

    /// GETs `http://<address>[:port]/path` from the node's network on a connection of its own.
    pub async fn http_get(&self, url: &str) -> Result<Response<Bytes>> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        let host = uri.host().with_context(|| format!("{url}: no host"))?;
        let address: Ipv4Addr = host.parse().with_context(|| format!("{url}: the host must be an IPv4 address"))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::get(path).header(http::header::HOST, authority).body(Bytes::new())?;
        self.http((address, uri.port_u16().unwrap_or(80)).into(), request).await
    }

    /// Sends any HTTP/1.1 request to `address` from the node's network on a connection of its own.
    pub async fn http(&self, address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
        self.network.http(address, request).await
    }

    /// Leads connections to `127.0.0.1:<port>` on the machine (0: any free port) to `target` in the box, for as long as
    /// the box lives. A port that the box serves already is pointed at the new target.
    pub fn forward(&self, port: u16, target: SocketAddr) -> Result<SocketAddr> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if self.status()?.forwards.iter().any(|forward| forward.listen == listen) {
            control::call(&self.layout, Call::Forward(Forward { listen, target }), None)?;
            return Ok(listen);
        }
        // The caller may be inside the box's network; the process's first thread never is.
        let machine = NetworkNamespace::of_process(i32::try_from(std::process::id())?)?;
        let listener = machine.run(|| TcpListener::bind(listen))?.with_context(|| {
            format!("listen on {listen} of this machine (if something else uses the port, choose another)")
        })?;
        let listen = listener.local_addr().context("the listener's address")?;
        control::call(&self.layout, Call::Forward(Forward { listen, target }), Some(listener.as_fd()))?;
        Ok(listen)
    }
}

/// A running `kubectl port-forward`; ends when dropped.
pub struct PortForward {
    address: SocketAddr,
    _child: Child,
}

impl PortForward {
    /// The local end, on the loopback inside the box's network.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("kubectl {}: {}\n{}{}", arguments.join(" "), output.status, stderr, stdout.trim_end())
}
