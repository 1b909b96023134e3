//! When a connection is idle: no request on it, for longer than is of use to anybody.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tower::Service;

/// How many requests of a connection are being answered.
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

    fn begin(&self) -> Request {
        self.0.send_modify(|requests| *requests += 1);
        Request(self.clone())
    }
}

/// A request that is being answered, until this is dropped.
struct Request(Busy);

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

/// Ends when there was no request for `first` since `requests` came from [`Busy::requests`], or for `later` since the last
/// one.
pub(crate) async fn idle(mut requests: watch::Receiver<usize>, first: Duration, later: Duration) {
    let mut limit = first;
    loop {
        if *requests.borrow() > 0 || requests.has_changed().unwrap_or_default() {
            limit = later;
        }
        // Neither wait ends by an error before the connection, which holds the sender.
        let _ = requests.wait_for(|requests| *requests == 0).await;
        if tokio::time::timeout(limit, requests.changed()).await.is_err() {
            return;
        }
        limit = later;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Busy, idle};

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
            let idle = idle(busy.requests(), FIRST, LATER);
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
                () = idle => {}
            }
            assert_eq!(begun.elapsed().as_secs(), expected, "{name}");
        }
    }
}
