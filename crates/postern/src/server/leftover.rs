//! What a handler leaves unread of a request's body.
//!
//! Some clients send a body before they know whether they may: the Azure libraries send each chunk of a blob without a token first, to be
//! asked for one. An HTTP/1.1 connection that is closed while they still write breaks under their hands before they read the answer, and
//! some versions of curl do not look at the answer of an HTTP/2 stream that ends while they have not sent all. So the rest is read and
//! thrown away, as far as such a body goes, and only then is answered.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// The chunks of the Azure libraries have four MiB, and so have the largest manifests.
const MAX_DISCARDED_BYTES: u64 = 5 << 20;
/// How long a body may take to come that nobody reads.
const DISCARD_LIMIT: Duration = Duration::from_secs(10);

/// Where a body arrives that its handler has dropped before the end.
pub(super) struct Leftover<B>(oneshot::Receiver<B>);

/// A body that is given back when it is dropped before the end.
struct Returning<B: HttpBody> {
    body: Option<B>,
    to: Option<oneshot::Sender<B>>,
}

/// Has the body given back.
pub(super) fn watch<B>(request: Request<B>) -> (Request<Body>, Option<Leftover<B>>)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Who expects to be told to go on has sent nothing yet.
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.body().is_end_stream() {
        return (request.map(Body::new), None);
    }
    let (parts, body) = request.into_parts();
    let (body, leftover) = returning(body);
    (Request::from_parts(parts, Body::new(body)), Some(leftover))
}

fn returning<B: HttpBody>(body: B) -> (Returning<B>, Leftover<B>) {
    let (to, from) = oneshot::channel();
    (Returning { body: Some(body), to: Some(to) }, Leftover(from))
}

/// Reads what is left, within limits. To be called when the handler has answered.
pub(super) async fn discard<B: HttpBody + Unpin>(leftover: Option<Leftover<B>>) {
    if let Some(body) = leftover.and_then(|mut leftover| leftover.0.try_recv().ok())
        && body.size_hint().lower() <= MAX_DISCARDED_BYTES
    {
        // Hardly ever needed, and not to make every request's state larger.
        Box::pin(read_to_end(body)).await;
    }
}

async fn read_to_end<B: HttpBody + Unpin>(mut body: B) {
    let mut discarded = 0;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, |data| bytes::Buf::remaining(data) as u64);
            if discarded > MAX_DISCARDED_BYTES {
                break;
            }
        }
    };
    // Beyond the limit the connection is closed, whatever the client makes of it.
    let _ = tokio::time::timeout(DISCARD_LIMIT, rest).await;
}

impl<B: HttpBody + Unpin> HttpBody for Returning<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody> Drop for Returning<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(to)) = (self.body.take(), self.to.take())
            && !body.is_end_stream()
        {
            // Nobody waits for it when the request itself was given up.
            let _ = to.send(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    const PIECE: u64 = 1 << 20;

    /// Of a body of so many pieces, how many are taken from it once its handler has read some and dropped it.
    async fn taken(pieces: u64, read: u64) -> u64 {
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let frames = stream::iter((0..pieces).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 1 << 20])))
        }));
        let (mut body, leftover) = returning(StreamBody::new(frames));
        for _ in 0..read {
            assert!(body.frame().await.is_some());
        }
        drop(body);
        discard(Some(leftover)).await;
        count.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_is_left_is_read_up_to_a_limit() {
        let limit = MAX_DISCARDED_BYTES / PIECE;
        for (pieces, read, expected) in [(0, 0, 0), (1, 0, 1), (3, 1, 3), (limit, 0, limit), (limit + 4, 0, limit + 1)]
        {
            assert_eq!(taken(pieces, read).await, expected, "{pieces} pieces, {read} of them read");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_still_held_is_left_alone() {
        let (mut body, leftover) = returning(http_body_util::Full::new(Bytes::from_static(b"held")));
        discard(Some(leftover)).await;
        assert_eq!(
            body.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok()),
            Some("held".into())
        );
    }
}
