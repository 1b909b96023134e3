//! What a person sees of a chore: steps, with what is going on and how long it took. A progress display on a terminal,
//! plain lines elsewhere.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    sync::{Mutex, MutexGuard, PoisonError},
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
    /// Without a display: the step whose beginning is the last thing that was said, on a line that is still open.
    open: Mutex<Option<String>>,
}

impl Show {
    pub(crate) fn new() -> Self {
        Self {
            display: std::io::stderr().is_terminal().then(MultiProgress::new),
            running: Mutex::default(),
            open: Mutex::default(),
        }
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
            let mut open = self.open();
            if open.is_some() {
                eprintln!();
            }
            eprint!("{name} ... ");
            *open = Some(name.to_owned());
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
        let end = format!("{}{:.1} s", if good { "" } else { "FAILED after " }, took.as_secs_f64());
        let mut open = self.open();
        if open.as_deref() == Some(name) {
            eprintln!("{end}");
            *open = None;
            return;
        }
        drop(open);
        self.line(&format!("{name}: {end}"));
    }

    /// The latest news of a running step, where there is a display.
    pub(crate) fn news(&self, name: &str, text: &str) {
        if let Some(bar) = self.running().get(name) {
            bar.set_message(text.to_owned());
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if let Some(display) = &self.display {
            // A closed terminal is no reason to stop.
            let _ = display.println(text);
            return;
        }
        if self.open().take().is_some() {
            eprintln!();
        }
        eprintln!("{text}");
    }

    fn open(&self) -> MutexGuard<'_, Option<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl e2e::Progress for Show {
    fn begin(&self, step: &str) {
        Show::begin(self, step);
    }

    fn note(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    fn end(&self, step: &str, took: Duration) {
        self.finish(step, took, true);
    }
}
