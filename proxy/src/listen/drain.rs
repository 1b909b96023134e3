//! The end: how long a proxy goes on serving after it has been told to go.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at the connections.
const LOOK: Duration = Duration::from_millis(100);

/// How long to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRules {
    /// At least so long (`terminationDrainDuration`).
    pub minimum: Duration,
    /// And until no connection came for so long.
    pub quiet: Duration,
    /// But never longer: the kubelet kills at the end of the grace period.
    pub maximum: Duration,
}

impl Default for DrainRules {
    fn default() -> Self {
        Self { minimum: Duration::from_secs(5), quiet: Duration::from_secs(5), maximum: Duration::from_secs(3600) }
    }
}

/// Waits until the proxy may end. `total` counts connections that ever came, `open` those that are open now.
pub async fn wait(rules: DrainRules, total: impl Fn() -> u64, open: impl Fn() -> u64) {
    let start = Instant::now();
    let (mut seen, mut last) = (total(), start);
    loop {
        let now = Instant::now();
        if total() != seen {
            seen = total();
            last = now;
        }
        let (passed, quiet) = (now - start, now - last);
        let over = passed >= rules.minimum && (open() == 0 || quiet >= rules.quiet);
        if over || passed >= rules.maximum {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{DrainRules, wait};

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_clients_have_stopped_coming() {
        let (total, open) = (Cell::new(1), Cell::new(1));
        let start = Instant::now();
        let clients = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                total.set(total.get() + 1);
            }
        };
        let drained = async {
            wait(DrainRules::default(), || total.get(), || open.get()).await;
            start.elapsed().as_secs()
        };
        let (elapsed, ()) = tokio::join!(drained, clients);
        assert_eq!(elapsed, 13, "five seconds after the last connection");

        let start = Instant::now();
        wait(DrainRules::default(), || 0, || 0).await;
        assert_eq!(start.elapsed().as_secs(), 5, "the minimum, with nobody there");
    }
}
