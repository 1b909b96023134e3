//! What the mesh's programs hold in memory, at rest and under load.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;

use super::load::Load;
use super::{SOON, gateway};

/// The programs, by a part of their command line, and the anonymous memory in MiB that none of their processes may
/// pass here: unoptimised builds, six services. The budgets proper are measured on release builds.
const PROGRAMS: [(&str, &str, f64); 5] = [
    ("operator", "/usr/local/bin/forestay operator", 48.0),
    ("control plane", "/usr/local/bin/forestay istiod", 48.0),
    ("webhook", "/usr/local/bin/forestay webhook", 40.0),
    ("gateway", "/usr/local/bin/pilot-agent proxy router", 24.0),
    ("sidecar", "/usr/local/bin/pilot-agent proxy sidecar", 24.0),
];

/// The largest process of a program.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    anonymous: f64,
    resident: f64,
}

/// Prints a line a program; fails when one holds far more than it should.
pub(crate) async fn footprint(kube: &KubeBox) -> Result<()> {
    let rest = measure(kube)?;
    let load = Load::start(kube, gateway(kube).await?, "/productpage", 4, Duration::ZERO);
    kube.eventually("some hundred pages", SOON, || async {
        let seen = load.seen();
        ensure!(seen.good() >= 300, "{} pages so far", seen.good());
        Ok(())
    })
    .await?;
    let loaded = measure(kube)?;
    load.stop().await.all_good(300)?;
    println!("    MiB anonymous (resident)     at rest          under load");
    for (name, _, limit) in PROGRAMS {
        let (rest, loaded) = (rest.get(name).context(name)?, loaded.get(name).context(name)?);
        println!(
            "    {name:<22} {:>8.1} ({:>5.1}) {:>9.1} ({:>5.1})",
            rest.anonymous, rest.resident, loaded.anonymous, loaded.resident
        );
        ensure!(loaded.anonymous <= limit, "a {name} holds {:.1} MiB, more than {limit}", loaded.anonymous);
    }
    Ok(())
}

fn measure(kube: &KubeBox) -> Result<BTreeMap<&'static str, Held>> {
    let mut held: BTreeMap<&'static str, Held> = BTreeMap::new();
    for (pid, command) in processes(kube)? {
        let Some((name, _, _)) = PROGRAMS.into_iter().find(|(_, start, _)| command.starts_with(start)) else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let largest = held.entry(name).or_default();
        if let (Some(anonymous), Some(resident)) = (mebibytes(&status, "RssAnon:"), mebibytes(&status, "VmRSS:"))
            && anonymous > largest.anonymous
        {
            *largest = Held { anonymous, resident };
        }
    }
    Ok(held)
}

/// The processes of a box, each with its command line.
pub(crate) fn processes(kube: &KubeBox) -> Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Others are of another box, or none.
        if descends(pid, kube.init()) {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    Ok(found)
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

fn mebibytes(status: &str, field: &str) -> Option<f64> {
    let kibibytes: f64 =
        status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1024.0)
}
