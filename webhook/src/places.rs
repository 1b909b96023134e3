//! Places for connections: as many as memory is set aside for. When all are taken, whoever holds one without using it
//! makes room, the longest idle first: clients that connect and then say nothing do not keep an API server out.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places of one port; clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    wanted: Arc<Notify>,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), wanted: Arc::default() }
    }

    /// Takes a place, and asks for one first where none is free. Nothing, should there never be one any more.
    pub(crate) async fn take(&self) -> Option<Place> {
        let free = Arc::clone(&self.free);
        if free.available_permits() == 0 {
            self.wanted.notify_one();
        }
        Some(Place { _permit: free.acquire_owned().await.ok()? })
    }

    /// Ends when the caller's place is wanted for somebody else. Of those who wait here the first is asked first.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::Places;

    #[tokio::test]
    async fn the_longest_idle_is_asked_for_its_place_and_only_when_there_is_none() {
        let places = Places::new(2);
        let (first, _second) = (places.take().await, places.take().await);
        let (mut one, mut two) = (Box::pin(places.wanted()), Box::pin(places.wanted()));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none(), "nobody wants any");

        let mut third = Box::pin(places.take());
        assert!((&mut third).now_or_never().is_none());
        assert!((&mut two).now_or_never().is_none());
        assert!((&mut one).now_or_never().is_some());
        drop(first);
        assert!(third.await.is_some());
    }

    #[tokio::test]
    async fn who_becomes_idle_later_is_asked_then() {
        let places = Places::new(1);
        let busy = places.take().await;
        let mut waiting = Box::pin(places.take());
        assert!((&mut waiting).now_or_never().is_none());
        places.wanted().await;
        drop(busy);
        assert!(waiting.await.is_some());
    }
}
