//! Bodies of requests: read within bounds of size and time, and within one budget for all of them together.
//!
//! A body counts from its first byte until its request is answered. Without the budget, connections times streams times
//! the largest body would be gigabytes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::envelope::Answer;

/// A review holds an object, an update's also the one before, and the API server takes no request above 3 MiB.
pub(crate) const LARGEST: usize = 8 << 20;
/// All bodies together: several of the largest, thousands of usual ones.
pub(crate) const BUDGET: usize = 32 << 20;
/// The API server waits 10 s for an answer.
const TIMEOUT: Duration = Duration::from_secs(8);
/// How much of a body that is refused is still read: a connection that is closed with bytes unread is reset, and the
/// answer lost with it.
const DISCARDED: usize = 64 << 20;

/// Memory for bodies, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Whether nothing of it is taken.
    #[cfg(test)]
    pub(crate) fn is_whole(&self, bytes: usize) -> bool {
        self.0.available_permits() == bytes
    }
}

/// A whole body; what it takes of the budget comes back with its end.
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    _held: Option<OwnedSemaphorePermit>,
}

/// Reads a body to its end. What cannot be read is answered all the same.
pub(crate) async fn read(mut body: Body, budget: &Budget) -> Result<Whole, Answer> {
    let deadline = Instant::now() + TIMEOUT;
    let mut bytes = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    loop {
        let data = match next(&mut body, deadline).await {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(Whole { bytes, _held: held }),
            Err((code, message)) => return Err(Answer::refuse_body(&bytes, code, message)),
        };
        if bytes.len() + data.len() > LARGEST {
            discard(&mut body, deadline).await;
            let message = format!("the AdmissionReview is larger than {LARGEST} bytes");
            return Err(Answer::refuse_body(&bytes, 413, message));
        }
        let amount = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let more = tokio::time::timeout_at(deadline, Arc::clone(&budget.0).acquire_many_owned(amount)).await;
        // The semaphore is never closed, so an error is the deadline.
        let Ok(Ok(more)) = more else {
            return Err(Answer::refuse_body(&bytes, 503, "too many large AdmissionReviews at once; try again"));
        };
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
}

/// The next bytes; nothing at the end; or why there are none.
async fn next(body: &mut Body, deadline: Instant) -> Result<Option<bytes::Bytes>, (u16, String)> {
    loop {
        return match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => Err((408, "the AdmissionReview took too long to arrive".to_owned())),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err((400, format!("the AdmissionReview did not arrive whole: {error}"))),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Some(data)),
                // Trailers.
                Err(_) => continue,
            },
        };
    }
}

async fn discard(body: &mut Body, deadline: Instant) {
    let mut discarded = 0;
    while let Ok(Some(data)) = next(body, deadline).await {
        discarded += data.len();
        if discarded > DISCARDED {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures::StreamExt as _;

    use super::{Budget, LARGEST, TIMEOUT, read};

    fn stream(chunks: Vec<Result<Bytes, std::io::Error>>, and_then_silence: bool) -> Body {
        let chunks = futures::stream::iter(chunks);
        if and_then_silence {
            Body::from_stream(chunks.chain(futures::stream::pending()))
        } else {
            Body::from_stream(chunks)
        }
    }

    const BEGIN: Bytes = Bytes::from_static(br#"{"request":{"uid":"u7","object":""#);

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_answered_with_the_uid() {
        let large = Ok(Bytes::from(vec![b'a'; LARGEST]));
        let rows = [
            ("too slow", stream(vec![Ok(BEGIN)], true), 408, "took too long"),
            (
                "broken off",
                stream(vec![Ok(BEGIN), Err(std::io::Error::other("gone"))], false),
                400,
                "did not arrive whole",
            ),
            ("too large", stream(vec![Ok(BEGIN), large, Ok(BEGIN)], false), 413, "larger than"),
        ];
        for (name, body, code, message) in rows {
            let answer = read(body, &Budget::new(1 << 20)).await.err().expect(name);
            assert_eq!((answer.uid(), answer.code()), ("u7", Some(code)), "{name}");
            assert!(answer.message().is_some_and(|said| said.contains(message)), "{name}: {answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_one_budget_and_give_it_back() {
        let budget = Budget::new(100);
        let of = |size: usize| Body::from(vec![b'a'; size]);
        let first = read(of(60), &budget).await.ok().unwrap();
        let begun = tokio::time::Instant::now();
        let refused = read(of(60), &budget).await.err().unwrap();
        assert_eq!((refused.code(), begun.elapsed()), (Some(503), TIMEOUT));
        let second = read(of(40), &budget).await.ok().unwrap();

        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { read(Body::from(vec![b'a'; 90]), &budget).await.ok().map(|whole| whole.bytes.len()) }
        });
        tokio::task::yield_now().await;
        drop((first, second));
        assert_eq!(waiting.await.unwrap(), Some(90));
        assert!(budget.is_whole(100));
    }
}
