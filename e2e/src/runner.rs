//! Runs scenarios group by group: one box a group, one line a scenario, everything about a failure in one folder.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use forestay_e2e::kube_box::{KubeBox, Options};
use forestay_e2e::progress::PlainLines;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::scenarios::footprint::Footprint;

/// Groups that only run when they are named: they take long, and say how much rather than whether.
const ON_REQUEST: [&str; 1] = ["scale"];

/// Scenarios that share a box.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// The image archives that the box starts with.
    pub(crate) images: fn() -> Result<Vec<PathBuf>>,
    /// What all scenarios of the group count on.
    pub(crate) prepare: for<'a> fn(&'a KubeBox) -> BoxFuture<'a, Result<()>>,
    pub(crate) scenarios: Vec<Scenario>,
}

/// One thing that must be true of a real cluster.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) deadline: Duration,
    /// Whether the rest of the group is built on this one and not worth trying without it.
    pub(crate) foundation: bool,
    /// Runs on a runtime whose threads are inside the box's network.
    pub(crate) run: for<'a> fn(&'a KubeBox) -> BoxFuture<'a, Result<()>>,
}

impl Scenario {
    /// One that nothing is built on, and that ends within so many minutes.
    pub(crate) fn new(
        name: &'static str,
        about: &'static str,
        minutes: u64,
        run: for<'a> fn(&'a KubeBox) -> BoxFuture<'a, Result<()>>,
    ) -> Self {
        Self { name, about, deadline: Duration::from_mins(minutes), foundation: false, run }
    }
}

impl Group {
    fn selected(&self, names: &[String]) -> Vec<&Scenario> {
        let chosen = |scenario: &&Scenario| {
            (names.is_empty() && !ON_REQUEST.contains(&self.name))
                || names.iter().any(|name| name == self.name || *name == format!("{}/{}", self.name, scenario.name))
        };
        self.scenarios.iter().filter(chosen).collect()
    }
}

/// How many scenarios ended how.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// Runs the scenarios named (all if none is) and says whether all passed.
pub(crate) fn run(groups: &[Group], names: &[String], output: &Path) -> Result<bool> {
    for name in names {
        if groups.iter().all(|group| group.selected(std::slice::from_ref(name)).is_empty()) {
            bail!("no scenario or group {name:?} (see --list)");
        }
    }
    let begun = Instant::now();
    let mut tally = Tally::default();
    for group in groups {
        let scenarios = group.selected(names);
        if !scenarios.is_empty() {
            run_group(group, &scenarios, output, &mut tally)?;
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    eprintln!("  ({:.0} s)", begun.elapsed().as_secs_f64());
    Ok(tally.failed == 0)
}

fn run_group(group: &Group, scenarios: &[&Scenario], output: &Path, tally: &mut Tally) -> Result<()> {
    let outer = tokio::runtime::Builder::new_current_thread().enable_all().build().context("build a runtime")?;
    let begun = Instant::now();
    let mut options = Options::new(format!("e2e-{}", group.name));
    options.progress = Arc::new(PlainLines);
    let footprint = Footprint::before(&options.name)?;
    let started = (group.images)().and_then(|images| {
        options.images = images;
        outer.block_on(KubeBox::start(options))
    });
    let kube_box = match started {
        Ok(kube_box) => kube_box,
        Err(error) => {
            // Without a box none of them can pass, and each is missing from the tally if it is not counted.
            println!("FAIL {}/*: start the box: {error:#}", group.name);
            tally.failed += scenarios.len();
            return Ok(());
        }
    };
    let phases: Vec<String> =
        kube_box.phases().iter().map(|(phase, at)| format!("{phase} {:.1}", at.as_secs_f64())).collect();
    eprintln!("  box {} ready, seconds to: {}", kube_box.name(), phases.join(", "));

    let prepare =
        Scenario { name: "prepare", about: "", deadline: Duration::from_mins(5), foundation: true, run: group.prepare };
    let try_one = |scenario: &Scenario| {
        let since = jiff::Timestamp::now();
        attempt(&kube_box, scenario).map_err(|error| {
            let folder = output.join(group.name).join(scenario.name);
            let trouble = outer.block_on(kube_box.trouble(since));
            let collected = outer.block_on(kube_box.collect(&folder));
            let seen = collected.map_or_else(|error| format!("{error:#}"), |()| folder.display().to_string());
            let lines: Vec<String> = trouble.iter().map(|line| format!("\n     {line}")).collect();
            format!("{error:#}{}\n     collected: {seen}", lines.concat())
        })
    };
    let mut sound = try_one(&prepare).map_err(|error| format!("prepare the group: {error}"));
    for scenario in scenarios {
        let begun = Instant::now();
        let name = format!("{}/{}", group.name, scenario.name);
        if let Err(broken) = &sound {
            report(tally, &name, begun.elapsed(), &Err(format!("not tried, it is built on what failed: {broken}")));
            continue;
        }
        let result = try_one(scenario);
        if scenario.foundation && result.is_err() {
            sound = Err(name.clone());
        }
        report(tally, &name, begun.elapsed(), &result);
    }

    let stopping = Instant::now();
    let network = kube_box.network().clone();
    let stopped = kube_box.stop().and_then(|()| footprint.check_gone(&network)).map_err(|error| format!("{error:#}"));
    let name = format!("{}/stop-leaves-nothing", group.name);
    report(tally, &name, stopping.elapsed(), &stopped);
    eprintln!("  group {} took {:.1} s", group.name, begun.elapsed().as_secs_f64());
    Ok(())
}

fn report(tally: &mut Tally, name: &str, took: Duration, result: &std::result::Result<(), String>) {
    match result {
        Ok(()) => {
            tally.passed += 1;
            println!("ok   {name} ({:.1} s)", took.as_secs_f64());
        }
        Err(error) => {
            tally.failed += 1;
            println!("FAIL {name} ({:.1} s): {error}", took.as_secs_f64());
        }
    }
}

/// Runs one scenario within its deadline; a panic is a failure like any other.
fn attempt(kube_box: &KubeBox, scenario: &Scenario) -> Result<()> {
    let runtime = kube_box.runtime()?;
    let result = kube_box.in_network(|| {
        runtime.block_on(async {
            let run = AssertUnwindSafe((scenario.run)(kube_box)).catch_unwind();
            match tokio::time::timeout(scenario.deadline, run).await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    Err(anyhow!("panic: {}", text.or_else(|| panic.downcast_ref().copied()).unwrap_or("?")))
                }
                Err(_) => Err(anyhow!("not finished within {} s", scenario.deadline.as_secs())),
            }
        })
    });
    // What the scenario left running is not waited for.
    runtime.shutdown_background();
    result?
}
