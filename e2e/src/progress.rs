//! What is being done right now, for whoever shows it: a progress bar on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

/// Receives the steps of long work. Steps may overlap (images are imported while the API server starts).
pub trait Progress: Send + Sync {
    /// `step` has begun.
    fn begin(&self, step: &str);
    /// Something worth a line happened within the running steps.
    fn note(&self, text: &str);
    /// `step` is done.
    fn end(&self, step: &str, took: Duration);
}

/// One plain line for every finished step and every note, on standard error.
#[derive(Debug, Default, Clone, Copy)]
pub struct PlainLines;

impl Progress for PlainLines {
    fn begin(&self, _step: &str) {}

    fn note(&self, text: &str) {
        eprintln!("  {text}");
    }

    fn end(&self, step: &str, took: Duration) {
        eprintln!("  {step} ({:.1} s)", took.as_secs_f64());
    }
}

/// Shows nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str) {}
    fn note(&self, _text: &str) {}
    fn end(&self, _step: &str, _took: Duration) {}
}

/// Runs `work` as the step `step`. A step that fails is not ended: its error says what happened.
pub fn step<T, E>(progress: &dyn Progress, step: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    progress.begin(step);
    let done = work()?;
    progress.end(step, begun.elapsed());
    Ok(done)
}
