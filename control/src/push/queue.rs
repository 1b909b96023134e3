//! Gathers bursts of changes.
//!
//! Comes in: that something changed, endpoints and configuration apart. Goes out: when to translate, and what changed
//! since. A lane is let go once it was quiet for 10 ms, or at the latest 100 ms after its first change; endless churn of
//! endpoints therefore never delays a changed route, and the other way round.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// A lane is let go after this long without another change.
const QUIET: Duration = Duration::from_millis(10);
/// ... and at the latest this long after its first one.
const LATEST: Duration = Duration::from_millis(100);

/// What kind of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Endpoints came, went or changed their readiness.
    Endpoints,
    /// Anything else.
    Config,
}

/// When a lane's first and last changes came.
#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Instant,
    last: Instant,
}

impl Pending {
    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + LATEST)
    }
}

/// What is let go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) endpoints: bool,
    pub(crate) config: bool,
    /// How long the oldest change of it has waited.
    pub(crate) waited: Duration,
}

/// The receiving end of a queue of changes.
pub(crate) struct Queue {
    changes: mpsc::UnboundedReceiver<Lane>,
    endpoints: Option<Pending>,
    config: Option<Pending>,
}

impl Queue {
    /// A queue, and where changes are put into it. A change is one byte, and all that wait are taken at once.
    pub(crate) fn new() -> (mpsc::UnboundedSender<Lane>, Self) {
        let (sender, changes) = mpsc::unbounded_channel();
        (sender, Self { changes, endpoints: None, config: None })
    }

    /// Waits for the next batch; `None` once nobody can change anything any more and all was let go.
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        loop {
            let due = [self.endpoints, self.config].into_iter().flatten().map(Pending::due).min();
            let Some(due) = due else {
                let lane = self.changes.recv().await?;
                self.note(lane);
                continue;
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => return Some(self.release()),
                lane = self.changes.recv() => if let Some(lane) = lane {
                    self.note(lane);
                } else {
                    tokio::time::sleep_until(due).await;
                    return Some(self.release());
                },
            }
        }
    }

    fn note(&mut self, lane: Lane) {
        let now = Instant::now();
        let pending = match lane {
            Lane::Endpoints => &mut self.endpoints,
            Lane::Config => &mut self.config,
        };
        pending.get_or_insert(Pending { first: now, last: now }).last = now;
    }

    fn release(&mut self) -> Batch {
        let now = Instant::now();
        let mut batch = Batch::default();
        for (pending, flag) in [(&mut self.endpoints, &mut batch.endpoints), (&mut self.config, &mut batch.config)] {
            if let Some(due) = pending.take_if(|pending| pending.due() <= now) {
                *flag = true;
                batch.waited = batch.waited.max(now - due.first);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Puts in changes at given times and returns when what was let go.
    async fn play(changes: Vec<(u64, Lane)>) -> Vec<(u64, bool, bool)> {
        let (sender, mut queue) = Queue::new();
        let start = Instant::now();
        tokio::spawn(async move {
            for (at, lane) in changes {
                tokio::time::sleep_until(start + ms(at)).await;
                sender.send(lane).unwrap();
            }
        });
        let mut out = Vec::new();
        while let Some(batch) = queue.next().await {
            let at = u64::try_from(start.elapsed().as_millis()).unwrap();
            out.push((at, batch.endpoints, batch.config));
        }
        out
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_is_let_go_when_it_is_quiet_or_late() {
        use Lane::{Config, Endpoints};
        let every = |lane, from: u64, to: u64, step: usize| (from..to).step_by(step).map(move |at| (at, lane));
        let mut churn: Vec<_> = every(Endpoints, 0, 1000, 5).collect();
        churn.push((300, Config));
        churn.sort_by_key(|(at, _)| *at);
        let config_during_churn: Vec<_> = play(churn).await.into_iter().filter(|(_, _, config)| *config).collect();

        assert_eq!(play(vec![(0, Config)]).await, [(10, false, true)], "one change waits 10 ms");
        assert_eq!(play(vec![(0, Config), (8, Config)]).await, [(18, false, true)], "another one prolongs it");
        assert_eq!(play(vec![(0, Config), (50, Config)]).await, [(10, false, true), (60, false, true)], "two bursts");
        assert_eq!(
            play(every(Config, 0, 150, 5).collect()).await,
            [(100, false, true), (155, false, true)],
            "a long burst is let go after 100 ms"
        );
        assert_eq!(play(vec![(0, Config), (0, Endpoints)]).await, [(10, true, true)], "both at once");
        assert_eq!(config_during_churn.len(), 1);
        assert!(config_during_churn[0].0 <= 311, "churn of endpoints does not delay it: {config_during_churn:?}");
    }
}
