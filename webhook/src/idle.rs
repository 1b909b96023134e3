//! Which connections are idle: no request on them, for longer than is of use to anybody.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tower::Service;

use crate::places::Places;

/// How many requests, of a connection or of all, are being answered.
#[derive(Clone, Debug)]
pub(crate) struct Busy(Arc<watch::Sender<usize>>);

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Busy {
    /// The service with its requests counted here.
    pub(crate) fn counted<S>(&self, service: S) -> Counted<S> {
        Counted { service, busy: self.clone() }
    }

    /// Their number, to be followed by [`idle`].
    pub(crate) fn requests(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    pub(crate) fn begin(&self) -> Request {
        self.0.send_modify(|requests| *requests += 1);
        Request(self.clone())
    }
}

/// A request that is being answered, until this is dropped.
pub(crate) struct Request(Busy);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.send_modify(|requests| *requests = requests.saturating_sub(1));
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    service: S,
    busy: Busy,
}

impl<S, R> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (answer, counted) = (self.service.call(request), self.busy.begin());
        Box::pin(async move {
            let _counted = counted;
            answer.await
        })
    }
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unused {
    /// There was a request on it once.
    pub(crate) ever_used: bool,
    /// Somebody else waits for its place.
    pub(crate) wanted: bool,
}

/// Ends when there was no request for `first` since `requests` came from [`Busy::requests`], or for `later` since the last
/// one; earlier when there is none and the place is wanted for another connection.
pub(crate) async fn idle(
    mut requests: watch::Receiver<usize>,
    first: Duration,
    later: Duration,
    places: &Places,
) -> Unused {
    let mut ever_used = false;
    loop {
        ever_used |= *requests.borrow() > 0 || requests.has_changed().unwrap_or_default();
        // Neither wait ends by an error before the connection, which holds the sender.
        let _ = requests.wait_for(|requests| *requests == 0).await;
        tokio::select! {
            changed = tokio::time::timeout(if ever_used { later } else { first }, requests.changed()) => match changed {
                Ok(_) => ever_used = true,
                Err(_) => return Unused { ever_used, wanted: false },
            },
            () = places.wanted() => return Unused { ever_used, wanted: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Busy, Unused, idle};
    use crate::places::Places;

    const FIRST: Duration = Duration::from_secs(30);
    const LATER: Duration = Duration::from_mins(5);

    #[tokio::test(start_paused = true)]
    async fn how_long_a_silent_connection_stays() {
        /// Silence before a request, and the time that the request takes, in seconds.
        type Request = (u64, u64);
        // The last column: when the connection is idle.
        let rows: [(&str, &[Request], u64); 5] = [
            ("it never says anything", &[], 30),
            ("one request", &[(10, 1)], 311),
            ("one that takes longer than the limit", &[(0, 1000)], 1300),
            ("each request begins anew", &[(29, 1), (299, 1), (299, 1)], 930),
            ("a request too late", &[(31, 1)], 30),
        ];
        for (name, requests, expected) in rows {
            let (busy, begun) = (Busy::default(), Instant::now());
            let places = Places::new(1);
            let idle = idle(busy.requests(), FIRST, LATER, &places);
            let client = async {
                for (silence, takes) in requests {
                    tokio::time::sleep(Duration::from_secs(*silence)).await;
                    let _request = busy.begin();
                    tokio::time::sleep(Duration::from_secs(*takes)).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = client => {}
                unused = idle => assert!(!unused.wanted, "{name}"),
            }
            assert_eq!(begun.elapsed().as_secs(), expected, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_wanted_is_given_up_between_requests() {
        for (name, ever_used, request_takes) in [("never used", false, 0), ("during a request", true, 20)] {
            let (busy, begun, places) = (Busy::default(), Instant::now(), Places::new(1));
            let idle = idle(busy.requests(), FIRST, LATER, &places);
            let request = (request_takes > 0).then(|| busy.begin());
            let others = async {
                tokio::time::sleep(Duration::from_secs(10)).await;
                let _place = places.take().await;
                // There was one; now another is wanted.
                tokio::join!(places.take(), async {
                    tokio::time::sleep(Duration::from_secs(request_takes)).await;
                    drop(request);
                    std::future::pending::<()>().await;
                });
            };
            tokio::select! {
                () = others => {}
                unused = idle => assert_eq!(unused, Unused { ever_used, wanted: true }, "{name}"),
            }
            assert_eq!(begun.elapsed().as_secs(), 10 + request_takes, "{name}");
        }
    }
}
