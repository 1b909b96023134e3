//! Tasks of hyper on this worker's own thread.

/// Runs hyper's tasks where they are made.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
