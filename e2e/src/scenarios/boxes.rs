//! The box itself: that it is a real cluster, that its parts can die and come back, that two run side by side.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use forestay_e2e::kube_box::{DEADLINE, KubeBox, NODE_ADDRESS, Options, Part, PartState};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::footprint::{self, Footprint};
use super::probe;
use crate::runner::{Group, Scenario};

const TEXT: &str = "from the probe";

pub(crate) fn group() -> Group {
    let deadline = Duration::from_mins(3);
    let scenario = |name, about, run| Scenario { name, about, deadline, foundation: false, run };
    Group {
        name: "box",
        images: || Ok(vec![probe::archive()?]),
        prepare: |kube_box| prepare(kube_box).boxed(),
        scenarios: vec![
            scenario("dns", "the node is ready, pods resolve names, unknown ones fail at once", |b| dns(b).boxed()),
            scenario("services", "ClusterIP, NodePort and LoadBalancer answer, from outside and from a pod", |b| {
                services(b).boxed()
            }),
            scenario("kubectl", "exec, logs and port-forward", |b| kubectl(b).boxed()),
            scenario("forward", "a port of the machine's loopback leads into the box", |b| forward(b).boxed()),
            scenario("api-server-dies", "pods keep serving without it, and it comes back", |b| {
                api_server_dies(b).boxed()
            }),
            scenario("kubelet-dies", "pods keep serving without it, and new ones run after it is back", |b| {
                kubelet_dies(b).boxed()
            }),
            scenario(
                "side-by-side",
                "a second box has its own objects, dies with its holder and is removed without a trace",
                |b| side_by_side(b).boxed(),
            ),
        ],
    }
}

async fn prepare(kube_box: &KubeBox) -> Result<()> {
    kube_box.apply(&web()).await?;
    kube_box.wait_for("default", "deployment/web", "condition=Available", DEADLINE).await
}

/// An HTTP server behind a LoadBalancer.
fn web() -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {image}
        args:
        - -c
        - 'mkdir -p /www && echo "{TEXT}" > /www/index.html && echo serving && exec httpd -f -p 8080 -h /www'
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"#,
        image = probe::IMAGE
    )
}

async fn dns(kube_box: &KubeBox) -> Result<()> {
    let node = Api::<Node>::all(kube_box.client()?).get("node1").await?;
    let version = node.status.and_then(|status| status.node_info).map(|info| info.kubelet_version);
    ensure!(version.as_deref() == Some("v1.36.4"), "the kubelet says it is {version:?}");

    // busybox's nslookup takes a name with a dot as it is, without the search list.
    for name in ["kubernetes.default.svc.cluster.local", "web.default.svc.cluster.local"] {
        let answer = kube_box.exec_ok("default", "deployment/web", None, &["nslookup", name]).await?;
        ensure!(answer.contains("Address: 10.96."), "{name} resolves to:\n{answer}");
    }
    // The libc's resolver, with the search list.
    ensure!(from_pod(kube_box, "web", "80").await?.contains(TEXT), "the Service's short name from its own pod");
    let asked = tokio::time::Instant::now();
    let outside = kube_box.exec("default", "deployment/web", None, &["nslookup", "forestay.dev"]).await?;
    ensure!(!outside.status.success(), "an outside name resolves");
    // Two tries of 5 s are what no answer at all takes.
    ensure!(asked.elapsed() < Duration::from_secs(8), "an outside name takes {:?} to fail", asked.elapsed());
    Ok(())
}

/// The addresses of the Service `web`: ClusterIP, NodePort, LoadBalancer.
async fn addresses(kube_box: &KubeBox) -> Result<[String; 3]> {
    let services = Api::<Service>::default_namespaced(kube_box.client()?);
    kube_box
        .eventually("the Service's LoadBalancer address", DEADLINE, || async {
            let service = services.get("web").await?;
            let spec = service.spec.context("no spec")?;
            let port = spec.ports.unwrap_or_default().first().and_then(|port| port.node_port).context("no NodePort")?;
            let ingress = service.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
            let address = ingress.unwrap_or_default().into_iter().next().and_then(|first| first.ip);
            Ok([
                spec.cluster_ip.context("no ClusterIP")?,
                format!("{NODE_ADDRESS}:{port}"),
                address.context("no LoadBalancer address yet")?,
            ])
        })
        .await
}

async fn answers(kube_box: &KubeBox, address: &str) -> Result<()> {
    kube_box
        .eventually(&format!("http://{address}/"), DEADLINE, || async {
            let response = kube_box.http_get(&format!("http://{address}/")).await?;
            ensure!(response.body().starts_with(TEXT.as_bytes()), "{response:?}");
            Ok(())
        })
        .await
}

async fn services(kube_box: &KubeBox) -> Result<()> {
    let addresses = addresses(kube_box).await?;
    for address in &addresses {
        answers(kube_box, address).await?;
        let (host, port) = address.split_once(':').unwrap_or((address, "80"));
        let answer = from_pod(kube_box, host, port).await?;
        ensure!(answer.contains(TEXT), "{address} from a pod: {answer:?}");
    }
    Ok(())
}

/// GETs `/` from within a pod.
async fn from_pod(kube_box: &KubeBox, host: &str, port: &str) -> Result<String> {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port}");
    kube_box.exec_ok("default", "deployment/web", None, &["sh", "-c", &script]).await
}

async fn kubectl(kube_box: &KubeBox) -> Result<()> {
    let log = kube_box.logs("default", "deployment/web", Some("web")).await?;
    ensure!(log.trim() == "serving", "the pod's log: {log:?}");
    let echo = kube_box.exec("default", "deployment/web", Some("web"), &["sh", "-c", "echo out; exit 3"]).await?;
    ensure!(echo.stdout == b"out\n" && echo.status.code() == Some(3), "exec: {echo:?}");

    let forward = kube_box.port_forward("default", "deployment/web", 8080).await?;
    let request = http::Request::get("/").header("host", "web").body(Bytes::new())?;
    let response = kube_box.http(forward.address(), request).await?;
    ensure!(response.body().starts_with(TEXT.as_bytes()), "through port-forward: {response:?}");
    Ok(())
}

async fn forward(kube_box: &KubeBox) -> Result<()> {
    let [cluster_ip, _, balancer] = addresses(kube_box).await?;
    let listen = kube_box.forward(0, format!("{balancer}:80").parse()?)?;
    let get = || {
        // A plain thread of this process, outside the box's network, is what a browser is.
        let machine = forestay_e2e::kube_box::NetworkNamespace::of_process(i32::try_from(std::process::id())?)?;
        machine.run(|| -> Result<String> {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(listen)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?
    };
    let answer = get()?;
    ensure!(answer.contains(TEXT), "through {listen}: {answer:?}");
    // Pointing the port elsewhere needs no new listener.
    ensure!(kube_box.forward(listen.port(), format!("{cluster_ip}:80").parse()?)? == listen, "another port");
    let answer = get()?;
    ensure!(answer.contains(TEXT), "through {listen} at its new target: {answer:?}");
    Ok(())
}

async fn api_server_dies(kube_box: &KubeBox) -> Result<()> {
    let [_, _, balancer] = addresses(kube_box).await?;
    kube_box.stop_part(Part::KubeApiserver)?;
    let without = kube_box.kubectl(&["get", "nodes", "--request-timeout=2s"]).await?;
    ensure!(!without.status.success(), "there is still an API server");
    answers(kube_box, &balancer).await?;

    kube_box.start_part(Part::KubeApiserver)?;
    api_answers(kube_box).await?;

    kube_box.kill(Part::KubeApiserver)?;
    kube_box
        .eventually("the API server's restart", DEADLINE, || async {
            let status = kube_box.status()?;
            let part = status.part(Part::KubeApiserver).context("no such part")?;
            ensure!(part.state == PartState::Running && part.starts == 3, "{part:?}");
            Ok(())
        })
        .await?;
    api_answers(kube_box).await?;

    kube_box.pause(Part::KubeApiserver)?;
    let paused = kube_box.kubectl(&["get", "nodes", "--request-timeout=1s"]).await?;
    ensure!(!paused.status.success(), "a paused API server answers");
    kube_box.resume(Part::KubeApiserver)?;
    api_answers(kube_box).await
}

async fn api_answers(kube_box: &KubeBox) -> Result<()> {
    let nodes = Api::<Node>::all(kube_box.client()?);
    kube_box.eventually("the API server's answer", DEADLINE, || async { Ok(nodes.get("node1").await?) }).await.map(drop)
}

async fn kubelet_dies(kube_box: &KubeBox) -> Result<()> {
    let [_, _, balancer] = addresses(kube_box).await?;
    kube_box.stop_part(Part::Kubelet)?;
    answers(kube_box, &balancer).await?;
    kube_box.kubectl_ok(&["scale", "deployment/web", "--replicas=2"]).await?;
    kube_box.start_part(Part::Kubelet)?;
    kube_box.wait_for("default", "deployment/web", "jsonpath={.status.availableReplicas}=2", DEADLINE).await?;
    kube_box.kubectl_ok(&["scale", "deployment/web", "--replicas=1"]).await.map(drop)
}

/// The first argument with which a scenario runs this program again to start a box, say so and hold it.
pub(crate) const HOLD_WORD: &str = "hold-box";

/// Starts the box `name` and holds it for as long as this process lives.
pub(crate) fn hold(name: Option<String>) -> ExitCode {
    let start = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let _held = KubeBox::start(Options::new(name.context("which box?")?)).await?;
            println!("ready");
            std::future::pending().await
        })
    };
    if let Err(error) = start() {
        eprintln!("{HOLD_WORD}: {error:#}");
    }
    ExitCode::FAILURE
}

async fn side_by_side(kube_box: &KubeBox) -> Result<()> {
    let name = "e2e-second";
    let footprint = Footprint::before(name)?;
    let mut holder = tokio::process::Command::new(std::env::current_exe()?)
        .args([HOLD_WORD, name])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut says = BufReader::new(holder.stdout.take().context("no standard output")?).lines();
    ensure!(says.next_line().await?.as_deref() == Some("ready"), "the second box does not start");
    let second = KubeBox::attach(name).await?.context("cannot attach to the second box")?;

    let there = second.kubectl(&["get", "deployment/web"]).await?;
    ensure!(!there.status.success(), "the second box has the first one's Deployment");
    let [_, _, balancer] = addresses(kube_box).await?;
    answers(kube_box, &balancer).await?;

    // Whoever holds a box that is not detached takes it along, however suddenly he goes.
    holder.kill().await?;
    kube_box
        .eventually("the end of the second box's processes", DEADLINE, || async {
            ensure!(footprint::processes_in(second.network())?.is_empty(), "there are some");
            Ok(())
        })
        .await?;
    // It is half-dead now: nobody was left to remove its folder and control groups.
    ensure!(second.layout().folder().exists(), "the folder went too");
    KubeBox::destroy(name)?;
    footprint.check_gone(second.network())?;
    ensure!(KubeBox::attach(name).await?.is_none(), "something to attach to is left");
    answers(kube_box, &balancer).await
}
