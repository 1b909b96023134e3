//! Admissions: the webhook as an API server calls it, over one connection of HTTP/2 and TLS.
//!
//! It is the program itself, on one core, with settings like the operator's from an API server that knows nothing else.
//! Reviews go out at a fixed rate whether the ones before are answered or not, so that a slow one does not hide behind
//! the next.

mod api;
mod reviews;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::process::Program;
use crate::report::table;
use crate::{network, peers};

/// Reviews a second while latency is measured.
const RATE: u32 = 200;
/// Reviews in all, before memory is looked at again.
const MANY: usize = 10_000;
/// Reviews at once while the many are made.
const AT_ONCE: usize = 64;
/// Reviews of very large pods, and how many of them at once.
const BURST: usize = 64;
const BURST_AT_ONCE: usize = 8;
/// How long nothing is asked then.
const REST: Duration = Duration::from_secs(10);
/// The core that the webhook has to itself, as far as the machine lets it.
const CORE: &str = "0";

type Client = SendRequest<Full<Bytes>>;

/// What a load was like.
struct Seen {
    /// In the order of their answers, in milliseconds.
    latencies: Vec<f64>,
    /// CPU of the webhook for one review, in milliseconds.
    cpu: f64,
}

/// Latency, CPU and memory of admissions.
pub(crate) fn measure(programs: &peers::Programs, seconds: u64) -> Result<()> {
    network::enter_new()?;
    let files = tempfile::tempdir()?;
    let cluster = api::start(files.path())?;
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", CORE]).arg(&programs.forestay).args([
        "webhook",
        "--namespace",
        names::resources::MESH_NAMESPACE,
    ]);
    command.env("KUBECONFIG", &cluster.kubeconfig).env("RUST_LOG", "warn");
    let log = files.path().join("webhook.log");
    let mut webhook = Program::start(command, &log)?;
    let ready = SocketAddr::from((Ipv4Addr::LOCALHOST, names::ports::READINESS));
    webhook
        .wait_until("readiness", || Ok(peers::is_ready(ready, "/ready")))
        .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let idle = (webhook.anonymous()?, webhook.resident()?);
    for review in reviews::all() {
        let (seen, throughput, answer) = runtime.block_on(async {
            let client = connect(&cluster.authority).await?;
            let answer = ask(client.clone(), review.path, review.body.clone()).await?;
            ensure!(answer["response"]["allowed"] == true, "{} is refused: {answer}", review.name);
            let seen = at_a_rate(&client, &review, &webhook, Duration::from_secs(seconds)).await?;
            let throughput = at_once(&client, &review, MANY, AT_ONCE).await?;
            anyhow::Ok((seen, throughput, answer))
        })?;
        let patch = answer["response"]["patch"].as_str().map(|patch| BASE64.decode(patch)).transpose()?;
        rows.push(vec![
            review.name.to_owned(),
            review.body.len().to_string(),
            patch.map_or("-".to_owned(), |patch| patch.len().to_string()),
            format!("{:.2}", percentile(&seen.latencies, 50)),
            format!("{:.2}", percentile(&seen.latencies, 99)),
            format!("{:.2}", percentile(&seen.latencies, 100)),
            format!("{:.3}", seen.cpu),
            format!("{throughput:.0}"),
        ]);
    }
    table(
        &format!("Admissions, {RATE} a second for {seconds} s, one core"),
        &["", "review, bytes", "patch, bytes", "p50, ms", "p99, ms", "most, ms", "CPU each, ms", "at most a second"],
        &rows,
    );
    let after = (webhook.anonymous()?, webhook.resident()?);
    let large = reviews::large();
    runtime.block_on(async { at_once(&connect(&cluster.authority).await?, &large, BURST, BURST_AT_ONCE).await })?;
    let burst = (webhook.anonymous()?, webhook.resident()?);
    std::thread::sleep(REST);
    let rest = (webhook.anonymous()?, webhook.resident()?);
    let row = |name: &str, (anonymous, resident)| vec![name.to_owned(), mebibytes(anonymous), mebibytes(resident)];
    table(
        "Memory of the webhook, MiB",
        &["", "anonymous", "resident"],
        &[
            row("ready", idle),
            row(&format!("after {MANY} reviews of each"), after),
            row(&format!("after {BURST} pods of {} KiB", large.body.len() >> 10), burst),
            row(&format!("{} s later", REST.as_secs()), rest),
        ],
    );
    Ok(())
}

/// A connection as an API server makes it.
async fn connect(authority: &CertificateDer<'static>) -> Result<Client> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.clone())?;
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, names::ports::WEBHOOK)).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(api::SERVER_NAME)?, stream).await?;
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// One review and its answer.
async fn ask(mut client: Client, path: &str, body: Bytes) -> Result<Value> {
    client.ready().await?;
    let request = hyper::Request::post(format!("https://{}{path}", api::SERVER_NAME))
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    let answer = client.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&answer)?)
}

async fn timed(client: Client, path: &'static str, body: Bytes) -> Result<f64> {
    let begun = Instant::now();
    let answer = ask(client, path, body).await?;
    ensure!(answer["response"]["allowed"] == true, "refused: {answer}");
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

async fn at_a_rate(client: &Client, review: &reviews::Review, webhook: &Program, duration: Duration) -> Result<Seen> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    let (before, begun) = (webhook.cpu()?, Instant::now());
    let mut asked = JoinSet::new();
    while begun.elapsed() < duration {
        ticks.tick().await;
        asked.spawn(timed(client.clone(), review.path, review.body.clone()));
    }
    let latencies = asked.join_all().await.into_iter().collect::<Result<Vec<f64>>>()?;
    let spent = webhook.cpu()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "some thousand reviews")]
    let cpu = spent.as_secs_f64() * 1e3 / latencies.len() as f64;
    Ok(Seen { latencies, cpu })
}

/// As fast as the webhook answers; how many that is a second.
async fn at_once(client: &Client, review: &reviews::Review, reviews: usize, most: usize) -> Result<f64> {
    let begun = Instant::now();
    let mut asked = JoinSet::new();
    for _ in 0..reviews {
        if asked.len() == most {
            asked.join_next().await.transpose()?.transpose()?;
        }
        asked.spawn(timed(client.clone(), review.path, review.body.clone()));
    }
    asked.join_all().await.into_iter().try_for_each(|answer| answer.map(drop))?;
    #[expect(clippy::cast_precision_loss, reason = "some thousand reviews")]
    Ok(reviews as f64 / begun.elapsed().as_secs_f64())
}

/// The figure below which so many of a hundred are.
fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let index = (figures.len() * percent).div_ceil(100).saturating_sub(1);
    figures.get(index).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1}", kibibytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_figures_that_were_seen() {
        let figures: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (percent, expected) in [(50, 100.0), (99, 198.0), (100, 200.0)] {
            assert!((percentile(&figures, percent) - expected).abs() < 1e-9, "{percent}");
        }
        assert!(percentile(&[], 99).is_nan());
    }
}
