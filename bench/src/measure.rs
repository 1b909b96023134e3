//! The measurements.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::load::{self, Load, Outcome};
use crate::mesh::Mesh;
use crate::peers::{self, Gateway, Peer, Programs, Role};
use crate::process::Program;
use crate::report::{median, ratio, table};
use crate::{backend, network, syscalls as strace, work};

/// Load before anything is measured: connections are open, pages and caches are warm.
const WARM_UP: Duration = Duration::from_secs(2);
/// For how long system calls are counted.
const COUNTED: Duration = Duration::from_secs(3);
/// How many services the mesh of a sidecar has.
const MESHES: [usize; 3] = [0, 100, 1000];
/// After a proxy is ready its memory is watched for so long.
const SETTLING: Duration = Duration::from_secs(5);
/// The time between two looks at memory.
const LOOK: Duration = Duration::from_millis(5);
/// Ports of the control plane of sidecars.
const CONTROL_PLANE: u16 = 18_000;

/// What a round says of a peer.
struct Round {
    /// CPU of the whole process for a request, in microseconds.
    cpu: f64,
    outcome: Outcome,
}

/// CPU per request at a gateway, interleaved rounds.
pub(crate) fn gateway(programs: &Programs, load: &Load, rounds: usize) -> Result<()> {
    network::enter_new()?;
    backend::start()?;
    let gateways = Gateway::start_all(programs)?;
    let files = tempfile::tempdir()?;
    let script = files.path().join("requests.lua");
    std::fs::write(&script, work::script())?;
    for gateway in &gateways {
        load::run(&Load { duration: WARM_UP, ..*load }, &script, &gateway.address())?;
    }
    let mut figures: Vec<Vec<Round>> = gateways.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        eprintln!("gateway, {} connections: round {} of {rounds}", load.connections, round + 1);
        for (gateway, figures) in gateways.iter().zip(&mut figures) {
            let before = gateway.program.cpu()?;
            let outcome = load::run(load, &script, &gateway.address())?;
            let spent = gateway.program.cpu()?.saturating_sub(before);
            figures.push(Round { cpu: spent.as_secs_f64() * 1e6 / outcome.requests, outcome });
        }
    }
    let cpus: Vec<Vec<f64>> = figures.iter().map(|of| of.iter().map(|round| round.cpu).collect()).collect();
    let of = |peer| gateways.iter().position(|gateway| gateway.peer == peer).and_then(|index| cpus.get(index));
    let beside = |cpu: &[f64], peer| of(peer).map_or("-".to_owned(), |base| format!("{:.2}", ratio(cpu, base)));
    let mut rows = Vec::new();
    for ((gateway, rounds), cpu) in gateways.iter().zip(&figures).zip(&cpus) {
        let middle = |figure: fn(&Outcome) -> f64| median(rounds.iter().map(|round| figure(&round.outcome)));
        rows.push(vec![
            gateway.peer.name().to_owned(),
            format!("{:.1}", median(cpu.iter().copied())),
            beside(cpu, Peer::HaProxy),
            beside(cpu, Peer::Envoy),
            format!("{:.0}", middle(|outcome| outcome.rate)),
            format!("{:.0}", middle(|outcome| outcome.p50)),
            format!("{:.0}", middle(|outcome| outcome.p99)),
        ]);
    }
    table(
        &format!(
            "Gateway, HTTP/1.1, {} connections, {rounds} rounds of {} s; medians",
            load.connections,
            load.duration.as_secs()
        ),
        &["", "CPU a request, us", "x HAProxy", "x Envoy", "requests/s", "p50, us", "p99, us"],
        &rows,
    );
    Ok(())
}

/// System calls per request at a gateway, one request at a time.
pub(crate) fn syscalls(programs: &Programs) -> Result<()> {
    network::enter_new()?;
    backend::start()?;
    let files = tempfile::tempdir()?;
    let script = files.path().join("requests.lua");
    std::fs::write(&script, work::script())?;
    let one = Load { connections: 1, duration: WARM_UP };
    let mut rows = Vec::new();
    for gateway in Gateway::start_all(programs)? {
        load::run(&one, &script, &gateway.address())?;
        let counted = Load { duration: COUNTED, ..one };
        let (outcome, counts) = strace::during(&gateway.program, || load::run(&counted, &script, &gateway.address()))?;
        #[expect(clippy::cast_precision_loss, reason = "some 100,000 calls")]
        let each = |calls: u64| calls as f64 / outcome.requests;
        // What is not made for every hundredth request belongs to no request.
        let calls: Vec<String> = counts
            .iter()
            .filter(|(_, calls)| each(*calls) >= 0.01)
            .map(|(name, calls)| format!("{name} {:.2}", each(*calls)))
            .collect();
        let total = each(counts.iter().map(|(_, calls)| calls).sum());
        rows.push(vec![gateway.peer.name().to_owned(), format!("{total:.2}"), calls.join(", ")]);
    }
    table("System calls per request, one connection", &["", "total", "which"], &rows);
    Ok(())
}

/// Memory of sidecars that know a mesh of so many services, and of the control plane that told them.
pub(crate) fn memory(programs: &Programs) -> Result<()> {
    let mut rows = Vec::new();
    let mut peers = vec![Peer::Forestay];
    peers.extend(programs.envoy.as_ref().map(|_| Peer::Envoy));
    for services in MESHES {
        for &peer in &peers {
            network::enter_new()?;
            let mesh = Mesh::start(programs, &work::services(services), CONTROL_PLANE)?;
            let alone = mesh.control_plane.anonymous()?;
            let (mut sidecar, _) = start_sidecar(peer, programs, &mesh)?;
            let (mut peak, begun) = (0, Instant::now());
            let mut ready = None;
            let (address, path) = peers::readiness(peer);
            while ready.is_none_or(|ready: Instant| ready.elapsed() < SETTLING) {
                peak = peak.max(sidecar.anonymous()?);
                if ready.is_none() && peers::is_ready(address, path) {
                    ready = Some(Instant::now());
                }
                anyhow::ensure!(begun.elapsed() < Duration::from_mins(1), "{}", mesh.log("proxy.log"));
                std::thread::sleep(LOOK); // the figures are those of another process
            }
            sidecar.wait_until("its end", || Ok(true))?;
            let settled = sidecar.anonymous()?;
            let dumped = peers::dump(peer)?;
            anyhow::ensure!(
                dumped > services * 1000,
                "a dump of {dumped} bytes has not all of {services} services in it"
            );
            rows.push(vec![
                services.to_string(),
                peer.name().to_owned(),
                mebibytes(settled),
                mebibytes(peak),
                mebibytes(sidecar.anonymous()?),
                mebibytes(alone),
                mebibytes(mesh.control_plane.anonymous()?),
            ]);
        }
    }
    table(
        "Anonymous memory of a sidecar with one worker, and of its control plane, MiB",
        &["services", "", "settled", "peak", "after a dump", "control plane alone", "with this sidecar"],
        &rows,
    );
    Ok(())
}

/// From the start of a sidecar until it says that it is ready.
pub(crate) fn start(programs: &Programs, rounds: usize) -> Result<()> {
    let mut rows = Vec::new();
    let mut peers = vec![Peer::Forestay];
    peers.extend(programs.envoy.as_ref().map(|_| Peer::Envoy));
    for services in MESHES {
        for &peer in &peers {
            let mut times = Vec::new();
            for _ in 0..rounds {
                network::enter_new()?;
                let mesh = Mesh::start(programs, &work::services(services), CONTROL_PLANE)?;
                let (mut sidecar, started) = start_sidecar(peer, programs, &mesh)?;
                let (address, path) = peers::readiness(peer);
                sidecar
                    .wait_until("readiness", || Ok(peers::is_ready(address, path)))
                    .with_context(|| mesh.log("proxy.log"))?;
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            rows.push(vec![services.to_string(), peer.name().to_owned(), format!("{:.0}", median(times))]);
        }
    }
    table(&format!("Start of a sidecar to ready, ms, median of {rounds}"), &["services", "", "ready"], &rows);
    Ok(())
}

fn start_sidecar(peer: Peer, programs: &Programs, mesh: &Mesh) -> Result<(Program, Instant)> {
    let command = peers::command(peer, Role::Sidecar, programs, mesh)?;
    let started = Instant::now();
    Ok((Program::start(command, &mesh.file("proxy.log"))?, started))
}

/// How large the programs are.
pub(crate) fn sizes(programs: &Programs) -> Result<()> {
    let paths = [Some(&programs.forestay), Some(&programs.proxy), programs.envoy.as_ref(), programs.haproxy.as_ref()];
    let mut rows = Vec::new();
    for path in paths.into_iter().flatten() {
        let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
        let name = path.file_name().unwrap_or_default().display().to_string();
        rows.push(vec![name, mebibytes(size / 1024)]);
    }
    table("Programs, MiB", &["", "size"], &rows);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1}", kibibytes as f64 / 1024.0)
}
