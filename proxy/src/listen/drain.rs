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
        Self { minimum: Duration::from_secs(5), quiet: Duration::from_secs(5), maximum: Duration::from_hours(1) }
    }
}

/// What is going on in the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that ever came.
    pub total: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Requests that are being answered.
    pub requests: u64,
}

/// Waits until the proxy may end.
pub async fn wait(rules: DrainRules, traffic: impl Fn() -> Traffic) {
    let start = Instant::now();
    let (mut seen, mut last) = (traffic().total, start);
    loop {
        let (now, traffic) = (Instant::now(), traffic());
        if traffic.total != seen {
            seen = traffic.total;
            last = now;
        }
        let (passed, quiet) = (now - start, now - last);
        let over = passed >= rules.minimum && (traffic.open == 0 || (quiet >= rules.quiet && traffic.requests == 0));
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

    use super::{DrainRules, Traffic, wait};

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_clients_have_stopped_coming() {
        let traffic = Cell::new(Traffic { total: 1, open: 1, requests: 0 });
        let start = Instant::now();
        let clients = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                traffic.set(Traffic { total: traffic.get().total + 1, ..traffic.get() });
            }
        };
        let drained = async {
            wait(DrainRules::default(), || traffic.get()).await;
            start.elapsed().as_secs()
        };
        let (elapsed, ()) = tokio::join!(drained, clients);
        assert_eq!(elapsed, 13, "five seconds after the last connection");

        let start = Instant::now();
        wait(DrainRules::default(), Traffic::default).await;
        assert_eq!(start.elapsed().as_secs(), 5, "the minimum, with nobody there");
    }
}
