//! Bodies of requests: read within bounds of size and time, and within one budget for all of them together.
//!
//! A body counts from before its first byte until its request is answered, with the size that it says it has. Without the
//! budget, connections times streams times the largest body would be gigabytes. Were it taken byte by byte, bodies that
//! are half there could wait for each other. Small ones have a part of it to themselves: pods are not held up by a few
//! enormous objects, or by clients that announce some and send nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::envelope::Answer;

/// A review holds an object, an update's also the one before, and the API server takes no request above 3 MiB.
pub(crate) const LARGEST: usize = 8 << 20;
/// All bodies together: several of the largest, thousands of usual ones.
pub(crate) const BUDGET: usize = 32 << 20;
/// The part of the budget that is for small bodies alone, as one in so many.
const SMALL_PART: usize = 4;
/// What a small body is. Pods have 2 to 20 KiB, a ReplicaSet's as well as a person's.
const SMALL: usize = 256 << 10;
/// The API server waits 10 s for an answer.
const TIMEOUT: Duration = Duration::from_secs(8);
/// How much of a body that is refused is still read: a connection that is closed with bytes unread is reset, and the
/// answer lost with it.
const DISCARDED: usize = 64 << 20;
/// What of a refused body has arrived is heard within this time.
const HEARD: Duration = Duration::from_millis(100);
/// How much of a body that is refused is looked through for its uid.
const BEGINNING: usize = 1024;

/// Memory for bodies, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let small = bytes / SMALL_PART;
        Self { small: Arc::new(Semaphore::new(small)), large: Arc::new(Semaphore::new(bytes - small)) }
    }

    /// Room for a body of at most so many bytes, once there is some.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let part = if bytes <= SMALL { &self.small } else { &self.large };
        Arc::clone(part).acquire_many_owned(u32::try_from(bytes).ok()?).await.ok()
    }

    /// Whether nothing of it is taken.
    #[cfg(test)]
    pub(crate) fn is_whole(&self, bytes: usize) -> bool {
        self.small.available_permits() + self.large.available_permits() == bytes
    }
}

/// A whole body; what it takes of the budget comes back with its end.
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    _held: OwnedSemaphorePermit,
}

/// Reads a request's body to its end. What cannot be read is answered all the same.
pub(crate) async fn read(request: Request, budget: &Budget) -> Result<Whole, Answer> {
    let deadline = Instant::now() + TIMEOUT;
    let (head, mut body) = request.into_parts();
    let coding = head.headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity");
    if let Some(coding) = coding {
        discard(&mut body, deadline).await;
        let message = format!("the AdmissionReview is encoded as {coding:?}; it has to be sent as it is");
        return Err(Answer::refuse_body(&[], 415, message));
    }
    let declared = body.size_hint();
    // Of one that says itself that it is too large only the beginning is read, where its uid is.
    let most = if declared.lower() > LARGEST as u64 { 0 } else { LARGEST };
    let size = declared.upper().and_then(|size| usize::try_from(size).ok()).map_or(most, |size| size.min(most));
    let Ok(Some(mut held)) = tokio::time::timeout_at(deadline, budget.take(size)).await else {
        let begin = next(&mut body, deadline + HEARD).await.ok().flatten().unwrap_or_default();
        discard(&mut body, deadline + HEARD).await;
        return Err(Answer::refuse_body(&begin, 503, "too many large AdmissionReviews at once; try again"));
    };
    let mut bytes = Vec::new();
    loop {
        let data = match next(&mut body, deadline).await {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err((code, message)) => return Err(Answer::refuse_body(&bytes, code, message)),
        };
        if bytes.len() + data.len() > most {
            bytes.extend(data.iter().take(BEGINNING));
            drop(held);
            discard(&mut body, deadline).await;
            let message = format!("the AdmissionReview is larger than {LARGEST} bytes");
            return Err(Answer::refuse_body(&bytes, 413, message));
        }
        bytes.extend_from_slice(&data);
    }
    // One that did not say its size had room for the largest.
    drop(held.split(size.saturating_sub(bytes.len())));
    Ok(Whole { bytes, _held: held })
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
    use std::time::Duration;

    use axum::body::{Body, Bytes};
    use axum::extract::Request;
    use futures::StreamExt as _;

    use super::{Budget, LARGEST, SMALL, TIMEOUT};

    fn stream(chunks: Vec<Result<Bytes, std::io::Error>>, and_then_silence: bool) -> Body {
        let chunks = futures::stream::iter(chunks);
        if and_then_silence {
            Body::from_stream(chunks.chain(futures::stream::pending()))
        } else {
            Body::from_stream(chunks)
        }
    }

    async fn read(body: Body, budget: &Budget) -> Result<super::Whole, super::Answer> {
        super::read(Request::new(body), budget).await
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
            let answer = read(body, &Budget::new(2 * LARGEST)).await.err().expect(name);
            assert_eq!((answer.uid(), answer.code()), ("u7", Some(code)), "{name}");
            assert!(answer.message().is_some_and(|said| said.contains(message)), "{name}: {answer:?}");
        }
    }

    /// A body of so many bytes that says so, or does not.
    fn of(size: usize, says_so: bool) -> Body {
        let mut bytes = BEGIN.to_vec();
        bytes.resize(size, b'a');
        if says_so { Body::from(bytes) } else { stream(vec![Ok(Bytes::from(bytes))], false) }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_one_budget_and_give_it_back() {
        let bytes = 2 * LARGEST;
        let budget = Budget::new(bytes);
        // Three quarters are for large ones: 12 MiB.
        let first = read(of(LARGEST, true), &budget).await.ok().unwrap();
        let begun = tokio::time::Instant::now();
        let refused = read(of(LARGEST, true), &budget).await.err().unwrap();
        assert_eq!((refused.code(), refused.uid(), begun.elapsed()), (Some(503), "u7", TIMEOUT));
        let small = read(of(1000, true), &budget).await.ok().unwrap();
        let second = read(of(LARGEST / 2, true), &budget).await.ok().unwrap();

        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { read(of(SMALL + 1, false), &budget).await.ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        let unsaid = waiting.await.unwrap().unwrap();
        assert_eq!(unsaid.bytes.len(), SMALL + 1);
        let third = read(of(LARGEST - SMALL - 1, true), &budget).await.expect("it has given back what it did not need");
        drop((small, second, unsaid, third));
        assert!(budget.is_whole(bytes));
    }

    /// Taken as they arrive, three halves would fill the budget and none could come to its end.
    #[tokio::test(start_paused = true)]
    async fn bodies_that_are_half_there_do_not_wait_for_each_other() {
        let bytes = 4 * LARGEST;
        let budget = Budget::new(bytes);
        let read_slowly = async |seconds: u64| {
            let half = futures::stream::iter(
                (0..8_usize).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'a'; LARGEST / 8]))),
            );
            let slow = half.then(move |chunk| async move {
                tokio::time::sleep(Duration::from_millis(seconds * 125)).await;
                chunk
            });
            read(Body::from_stream(slow), &budget).await.map(|whole| whole.bytes.len()).map_err(|answer| answer.code())
        };
        let all = futures::future::join_all((0..6).map(|_| read_slowly(2))).await;
        assert_eq!(all, [Ok(LARGEST); 6]);
        assert!(budget.is_whole(bytes));
    }
}
