//! Rest: a while after a burst of requests the memory that it took goes back to the operating system. The allocator does so
//! by itself only while more memory is asked of it, and a webhook that nobody calls asks for none.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

/// How long nothing was asked.
const REST: Duration = Duration::from_secs(5);

/// Calls `give_back` once after every time with requests, from the end of the start on; ends with their sender.
pub(crate) async fn rests(started: impl Future<Output = ()>, mut requests: watch::Receiver<usize>, give_back: fn()) {
    started.await;
    while requests.changed().await.is_ok() {
        loop {
            let _ = requests.wait_for(|requests| *requests == 0).await;
            match tokio::time::timeout(REST, requests.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => break,
            }
        }
        give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::rests;
    use crate::idle::Busy;

    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test(start_paused = true)]
    async fn memory_goes_back_once_after_each_burst() {
        let busy = Busy::default();
        let task = tokio::spawn(rests(std::future::ready(()), busy.requests(), || {
            GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
        }));
        // Requests one after the other, each with its length and the silence after it, in seconds; how often memory was
        // given back by then.
        for (name, takes, silence, expected) in [
            ("from the start nothing", 0, 60, 0),
            ("a first one", 1, 4, 0),
            ("goes on", 1, 4, 0),
            ("a long one", 60, 4, 0),
            ("the last", 1, 6, 1),
            ("nothing more", 0, 3600, 1),
            ("another burst", 1, 6, 2),
        ] {
            if takes > 0 {
                let _request = busy.begin();
                tokio::time::sleep(Duration::from_secs(takes)).await;
            }
            tokio::time::sleep(Duration::from_secs(silence)).await;
            assert_eq!(GIVEN_BACK.load(Ordering::Relaxed), expected, "{name}");
        }
        drop(busy);
        task.await.unwrap();
    }
}
