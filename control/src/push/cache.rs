//! A changed model becomes resources, made once for all proxies that share them.
//!
//! Comes in: the inputs, whenever the queue lets a change go. Goes out: a [`Generation`], the mesh of one moment, of
//! which a stream asks what its proxy shall have. Translation is done when the first proxy of a projection asks; what
//! did not change since the last generation is the same allocation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use translate::{Part, Proxy, ResourceSet, Snapshot};

use super::intern::Interner;
use super::problems::Problems;
use super::queue::{Batch, Queue};
use super::resource::{Kind, Set};
use super::subscriber::View;
use crate::metrics::Metrics;
use crate::watch::Intake;
use crate::watch::intake::Taken;

/// What generations share.
struct Shared {
    interner: Mutex<Interner>,
    cache: Mutex<translate::Cache>,
    problems: Problems,
    /// The number of the latest generation.
    latest: AtomicU64,
}

/// The mesh of one moment.
pub(crate) struct Generation {
    number: u64,
    /// When the oldest change in it was seen.
    pub(crate) since: Instant,
    /// Whether it came from a change, and not from the start of the process.
    pub(crate) is_change: bool,
    snapshot: Arc<Snapshot>,
    shared: Arc<Shared>,
    sets: Mutex<Sets>,
}

/// What was made from the parts of a translation, by their addresses; the parts are kept so that no address is reused.
#[derive(Default)]
struct Sets {
    of_part: HashMap<(Kind, usize), (Arc<Part>, Set)>,
    views: HashMap<Vec<usize>, (ResourceSet, Arc<View>)>,
}

fn address(part: &Arc<Part>) -> usize {
    Arc::as_ptr(part).addr()
}

impl Generation {
    /// What `proxy` shall have; `None` if there is a later generation already, of which to ask instead. `before` is what
    /// it should have had until now: what is unchanged is taken from it.
    pub(crate) fn view(&self, proxy: &Proxy, before: Option<&Arc<View>>) -> Option<Arc<View>> {
        let made = {
            let mut cache = self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
            // The cache serves one snapshot at a time: going back would throw away what it has.
            if self.shared.latest.load(Ordering::Acquire) != self.number {
                return None;
            }
            translate::translate(&self.snapshot, proxy, &mut cache)
        };
        self.shared.problems.note(self.number, made.problems());
        let key: Vec<usize> = made.parts.iter().map(address).collect();
        if let Some((_, view)) = self.sets().views.get(&key) {
            return Some(Arc::clone(view));
        }
        let view = Kind::ALL.map(|kind| {
            let parts = made.parts.iter().filter(|part| part.of(kind.type_url()).is_some_and(|it| !it.is_empty()));
            let sets = parts.map(|part| self.of_part(kind, part)).collect();
            self.interner().merge(kind, sets)
        });
        let view = match before {
            Some(before) if view.iter().zip(before.iter()).all(|(new, old)| new.is(old)) => Arc::clone(before),
            _ => Arc::new(view),
        };
        Some(Arc::clone(&self.sets().views.entry(key).or_insert((made, view)).1))
    }

    fn interner(&self) -> MutexGuard<'_, Interner> {
        self.shared.interner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sets(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_part(&self, kind: Kind, part: &Arc<Part>) -> Set {
        let key = (kind, address(part));
        if let Some((_, set)) = self.sets().of_part.get(&key) {
            return set.clone();
        }
        let set = {
            let mut interner = self.interner();
            let resources = part.of(kind.type_url()).into_iter().flatten();
            let resources = resources.map(|(name, content)| interner.resource(kind, name, content)).collect();
            interner.set(kind, resources)
        };
        self.sets().of_part.entry(key).or_insert((Arc::clone(part), set)).1.clone()
    }
}

/// What streams see generations by; `None` until the mesh is known.
pub(crate) type Generations = watch::Receiver<Option<Arc<Generation>>>;

/// Makes generations.
pub(crate) struct Publisher {
    intake: Arc<Intake>,
    queue: Queue,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    generations: watch::Sender<Option<Arc<Generation>>>,
    number: u64,
}

impl Publisher {
    pub(crate) fn new(intake: Arc<Intake>, queue: Queue, metrics: Arc<Metrics>) -> (Self, Generations) {
        let (generations, receiver) = watch::channel(None);
        let shared = Arc::new(Shared {
            interner: Mutex::default(),
            cache: Mutex::default(),
            problems: Problems::new(Arc::clone(&metrics)),
            latest: AtomicU64::new(0),
        });
        (Self { intake, queue, metrics, shared, generations, number: 0 }, receiver)
    }

    /// Makes a generation whenever the queue lets changes go, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = self.queue.next() => batch,
            };
            let Some(batch) = batch else { return };
            self.publish(batch).await;
        }
    }

    async fn publish(&mut self, batch: Batch) {
        let Taken { inputs, changes, since } = self.intake.take();
        let first = self.number == 0;
        if changes.is_empty() && !first {
            return;
        }
        self.metrics.debounce_time.observe(batch.waited);
        for (let_go, trigger) in [(batch.endpoints, "endpoint"), (batch.config, "config")] {
            if let_go {
                self.metrics.push_triggers.with([trigger]).inc();
            }
        }
        let start = Instant::now();
        // Indexing a large mesh takes longer than a task may hold its thread.
        let indexed = tokio::task::spawn_blocking(move || Arc::new(Snapshot::new(&inputs))).await;
        let snapshot = match indexed {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.metrics.internal_errors.inc();
                tracing::error!(%error, "the mesh could not be indexed; proxies keep what they have");
                return;
            }
        };
        self.metrics.translate_time.observe(start.elapsed());
        self.number += 1;
        self.shared.problems.turn_to(self.number);
        self.shared.interner.lock().unwrap_or_else(PoisonError::into_inner).sweep();
        self.shared.latest.store(self.number, Ordering::Release);
        match changes.as_slice() {
            [] => tracing::info!("the mesh is known: generation {}", self.number),
            [change] => tracing::info!("generation {}: {change}", self.number),
            [change, more @ ..] => tracing::info!("generation {}: {change} and {} more", self.number, more.len()),
        }
        self.generations.send_replace(Some(Arc::new(Generation {
            number: self.number,
            since,
            is_change: !first,
            snapshot,
            shared: Arc::clone(&self.shared),
            sets: Mutex::default(),
        })));
    }
}
