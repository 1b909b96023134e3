//! `cargo xtask test`: everything that is checked, in tiers, fast ones first.
//!
//! A tier that fails does not keep the later ones from running: one run tells everything that is wrong. At the end come
//! a table with the time of each tier, what failed and where its log is, and the plain line of totals.

mod cluster;
mod deny;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    bundle, crds, program, shapes,
    show::Show,
    tally::{self, Tally},
    workspace::Workspace,
};

/// How many failed tests are told at the end.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these tiers
    #[arg(value_enum)]
    tiers: Vec<Tier>,
    /// Only this scenario, or group of them, of the cluster tier
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
}

/// The tiers, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// rustfmt
    Format,
    /// Licences, sources, banned and duplicate dependencies
    Deny,
    /// Lints, over all targets
    Clippy,
    /// Unit, golden and vector tests, and the rules of the architecture
    Unit,
    /// Documentation builds without warnings
    Doc,
    /// The committed CRDs and whatever else is generated are what the types say
    Crds,
    /// The committed bundle for OLM is what the code says, and OLM's own checks find nothing
    Bundle,
    /// The scenarios on a real Kubernetes
    Cluster,
}

impl Tier {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// How a tier ended.
struct Outcome {
    tally: Tally,
    /// What failed, in a few lines.
    failures: Vec<String>,
}

/// A line of the table.
struct Row {
    tier: Tier,
    took: Duration,
    outcome: Outcome,
    log: PathBuf,
}

/// What a tier works with.
struct Context<'a> {
    workspace: &'a Workspace,
    show: &'a Show,
    step: &'a str,
    log: &'a Path,
    scenario: Option<&'a str>,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace, show: &Show) -> Result<ExitCode> {
    let logs = workspace.logs("test")?;
    let mut rows = Vec::new();
    for tier in Tier::value_variants().iter().copied() {
        let chosen = if arguments.tiers.is_empty() {
            arguments.scenario.is_none() || tier == Tier::Cluster
        } else {
            arguments.tiers.contains(&tier)
        };
        if !chosen {
            continue;
        }
        let (name, begun) = (tier.name(), Instant::now());
        let log = logs.join(format!("{name}.log"));
        let context = Context { workspace, show, step: &name, log: &log, scenario: arguments.scenario.as_deref() };
        show.begin(&name);
        let outcome = tier.run(&context).unwrap_or_else(|error| Outcome {
            tally: Tally::check(false),
            failures: format!("{error:#}").lines().map(str::to_owned).collect(),
        });
        let took = begun.elapsed();
        show.finish(&name, took, outcome.tally.failed == 0);
        rows.push(Row { tier, took, outcome, log });
    }
    Ok(report(&rows))
}

impl Tier {
    fn run(self, context: &Context<'_>) -> Result<Outcome> {
        match self {
            Tier::Format => {
                check(context.workspace.cargo(&["fmt", "--all", "--", "--check", "--color", "never"]), context)
            }
            Tier::Deny => check(deny::command(context)?, context),
            Tier::Clippy => check(
                context.workspace.cargo(&[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--keep-going",
                    "--",
                    "--deny",
                    "warnings",
                ]),
                context,
            ),
            Tier::Unit => tests(context.workspace.cargo(&["test", "--workspace", "--no-fail-fast"]), context),
            Tier::Doc => {
                // With private items, since a crate's story names its private modules.
                let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items", "--keep-going"];
                let mut command = context.workspace.cargo(&arguments);
                command.env("RUSTDOCFLAGS", "--deny warnings");
                check(command, context)
            }
            Tier::Crds => {
                let mut failures = crds::problems(context.workspace)?;
                failures.extend(shapes::problems(context.workspace)?);
                std::fs::write(context.log, failures.join("\n"))?;
                Ok(Outcome { tally: Tally::check(failures.is_empty()), failures })
            }
            Tier::Bundle => {
                let mut outcome = check(bundle::checker(context.workspace, context.show)?, context)?;
                let stale = bundle::problems(context.workspace)?;
                outcome.tally += Tally::check(stale.is_empty());
                outcome.failures.extend(stale);
                Ok(outcome)
            }
            Tier::Cluster => tests(cluster::command(context)?, context),
        }
    }
}

/// A program whose exit code says it all.
fn check(command: Command, context: &Context<'_>) -> Result<Outcome> {
    let ended = program::logged(command, context.log, context.show, context.step)?;
    let failures = if ended.good { Vec::new() } else { owned(ended.last_lines()) };
    Ok(Outcome { tally: Tally::check(ended.good), failures })
}

/// A program whose output counts tests.
fn tests(command: Command, context: &Context<'_>) -> Result<Outcome> {
    let ended = program::logged(command, context.log, context.show, context.step)?;
    let mut tally = Tally::of(&ended.output);
    let told = tally::failures(&ended.output);
    let more = told.len().saturating_sub(NAMED);
    let mut failures: Vec<String> = told.into_iter().take(NAMED).flatten().collect();
    if more > 0 {
        failures.push(format!("... and {more} more"));
    }
    if !ended.good && (tally.failed == 0 || failures.is_empty()) {
        // It did not come to the tests, or a process died in the middle of them.
        tally.failed = tally.failed.max(1);
        failures.extend(owned(ended.last_lines()));
    }
    if ended.good && tally.passed == 0 {
        tally.failed += 1;
        failures.push("no test ran".to_owned());
    }
    Ok(Outcome { tally, failures })
}

fn owned(lines: Vec<&str>) -> Vec<String> {
    lines.into_iter().map(str::to_owned).collect()
}

/// Prints the table, the failures and the totals.
fn report(rows: &[Row]) -> ExitCode {
    let mut total = Tally::default();
    println!();
    println!("{:<10} {:>9} {:>8} {:>8} {:>8}", "tier", "time", "passed", "failed", "skipped");
    for Row { tier, took, outcome: Outcome { tally, .. }, .. } in rows {
        let seconds = took.as_secs_f64();
        println!("{:<10} {seconds:>7.1} s {:>8} {:>8} {:>8}", tier.name(), tally.passed, tally.failed, tally.skipped);
        total += *tally;
    }
    let whole: Duration = rows.iter().map(|row| row.took).sum();
    println!("{:<10} {:>7.1} s", "all", whole.as_secs_f64());
    for Row { tier, outcome, log, .. } in rows.iter().filter(|row| row.outcome.tally.failed > 0) {
        println!("\n{} failed; its log is {}", tier.name(), log.display());
        for failure in &outcome.failures {
            println!("    {failure}");
        }
    }
    println!("\n{total}");
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
