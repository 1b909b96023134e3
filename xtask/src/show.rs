//! What a person sees of a chore: steps, with what is going on and how long it took. A progress display on a terminal,
//! plain lines elsewhere.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows steps. Steps may overlap, and may be reported by the library that runs a box.
#[derive(Debug)]
pub(crate) struct Show {
    /// The display; `None` where standard error is no terminal.
    display: Option<MultiProgress>,
    running: Mutex<HashMap<String, ProgressBar>>,
}

impl Show {
    pub(crate) fn new() -> Self {
        Self { display: std::io::stderr().is_terminal().then(MultiProgress::new), running: Mutex::default() }
    }

    /// Runs `work` as a step: its name while it runs, then how long it took and how it ended.
    pub(crate) fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        self.begin(name);
        let result = work();
        self.finish(name, begun.elapsed(), result.is_ok());
        result
    }

    /// Begins a step.
    pub(crate) fn begin(&self, name: &str) {
        let Some(display) = &self.display else {
            // Whoever reads a log wants to know what a silence is about.
            eprintln!("        {name} ...");
            return;
        };
        let style = ProgressStyle::with_template("{elapsed:>6} {spinner} {prefix} {wide_msg:.dim}");
        let bar = display.add(ProgressBar::new_spinner().with_prefix(name.to_owned()));
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        if let Some(old) = self.running().insert(name.to_owned(), bar) {
            old.finish_and_clear();
        }
    }

    /// Ends a step.
    pub(crate) fn finish(&self, name: &str, took: Duration, good: bool) {
        if let Some(bar) = self.running().remove(name) {
            bar.finish_and_clear();
        }
        let end = if good { "" } else { ": FAILED" };
        self.line(&format!("{:>5.1} s {name}{end}", took.as_secs_f64()));
    }

    /// The latest news of a running step, where there is a display.
    pub(crate) fn news(&self, name: &str, text: &str) {
        if let Some(bar) = self.running().get(name) {
            bar.set_message(text.to_owned());
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.display {
            // A closed terminal is no reason to stop.
            Some(display) => drop(display.println(text)),
            None => eprintln!("{text}"),
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl e2e::Progress for Show {
    fn begin(&self, step: &str) {
        Show::begin(self, step);
    }

    fn note(&self, text: &str) {
        self.line(&format!("        {text}"));
    }

    fn end(&self, step: &str, took: Duration) {
        self.finish(step, took, true);
    }
}
