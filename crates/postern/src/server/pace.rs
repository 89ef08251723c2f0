//! Nobody is waited for without end: bodies must make progress, connections must be used, heads must be short.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::MAX_HEADER_BYTES;

/// So many bytes of a body may keep the server waiting for [`super::Bounds::stall`]: a rate of some 500 bytes a second, which the
/// slowest honest client reaches. How long a whole body takes does not matter.
pub(super) const PROGRESS_BYTES: u64 = 16 << 10;
/// What is a little too long is read, so that its sender is told; from here on nothing more is.
const CUT_HEAD_BYTES: usize = 2 * MAX_HEADER_BYTES;
/// Read at once while a request's head is awaited.
const HEAD_READ_BYTES: usize = 16 << 10;
/// Requests of one connection that were given up by the client before they were answered; with more than these, and more than
/// were answered, they are what the connection is for.
const MAX_CANCELLED: usize = 1000;

/// What happens on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Bytes read and written.
    bytes: AtomicU64,
    /// Bytes read since a head may have begun.
    head_bytes: AtomicUsize,
    /// What is read belongs to a body, or to a tunnel.
    in_body: AtomicBool,
    begun: AtomicUsize,
    finished: AtomicUsize,
    cancelled: AtomicUsize,
    stormed: Notify,
}

/// How far a connection was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    bytes: u64,
    begun: usize,
}

/// A request being answered.
pub(super) struct Answering {
    activity: Arc<Activity>,
    is_answered: bool,
}

impl Activity {
    pub(super) fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.load(Ordering::Relaxed), begun: self.begun.load(Ordering::Relaxed) }
    }

    /// Whether next to nothing has happened since: no request was begun, none is being worked on, and what was read and written is
    /// too little for anybody who wants an answer.
    pub(super) fn is_idle_since(&self, mark: Mark) -> bool {
        let now = self.mark();
        let ended = self.finished.load(Ordering::Relaxed) + self.cancelled.load(Ordering::Relaxed);
        now.begun == mark.begun && ended >= now.begun && now.bytes - mark.bytes < PROGRESS_BYTES
    }

    /// The head of a request is complete: what is read from now on is its body, if it has one, and then the next head.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> Answering {
        self.head_bytes.store(0, Ordering::Relaxed);
        self.in_body.store(has_body, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Answering { activity: Arc::clone(self), is_answered: false }
    }

    fn body_ended(&self) {
        self.head_bytes.store(0, Ordering::Relaxed);
        self.in_body.store(false, Ordering::Relaxed);
    }

    /// Until the client has given up more requests than anybody does who wants answers.
    pub(super) async fn stormed(&self) {
        self.stormed.notified().await;
    }
}

impl Answering {
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let activity = &self.activity;
        if self.is_answered {
            activity.finished.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let cancelled = activity.cancelled.fetch_add(1, Ordering::Relaxed) + 1;
        if cancelled > MAX_CANCELLED && cancelled > activity.finished.load(Ordering::Relaxed) {
            activity.stormed.notify_one();
        }
    }
}

/// A stream that counts. With `limits_heads` it ends when a head grows beyond [`CUT_HEAD_BYTES`]: HTTP/1.1 would read as much
/// as its buffer holds, which is sized for bodies.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    limits_heads: bool,
}

impl<S> Watched<S> {
    pub(super) const fn new(stream: S, activity: Arc<Activity>, limits_heads: bool) -> Self {
        Self { stream, activity, limits_heads }
    }

    fn is_in_head(&self) -> bool {
        self.limits_heads && !self.activity.in_body.load(Ordering::Relaxed)
    }

    fn written(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &outcome {
            self.activity.bytes.fetch_add(*count as u64, Ordering::Relaxed);
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_in_head = self.is_in_head();
        if is_in_head && self.activity.head_bytes.load(Ordering::Relaxed) > CUT_HEAD_BYTES {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a request's head is too long")));
        }
        let before = buf.filled().len();
        if is_in_head && buf.remaining() > HEAD_READ_BYTES {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(HEAD_READ_BYTES));
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            let count = part.filled().len();
            buf.advance(count);
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        let count = buf.filled().len() - before;
        self.activity.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if is_in_head {
            self.activity.head_bytes.fetch_add(count, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, data);
        self.written(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.written(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request's body that fails when the client stops sending it: [`PROGRESS_BYTES`] may keep whoever reads it waiting for `stall`.
/// Time in which nobody wanted to read does not count.
pub(super) struct PacedBody {
    body: Incoming,
    activity: Arc<Activity>,
    stall: Duration,
    /// Made at the first wait; most bodies are there at once.
    timer: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
    waited: Duration,
    bytes: u64,
    has_stalled: Arc<AtomicBool>,
}

impl PacedBody {
    /// The body, and where it says that it has stalled.
    pub(super) fn new(body: Incoming, activity: Arc<Activity>, stall: Duration) -> (Self, Arc<AtomicBool>) {
        let has_stalled = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&has_stalled);
        let paced = Self {
            body,
            activity,
            stall,
            timer: None,
            waiting_since: None,
            waited: Duration::ZERO,
            bytes: 0,
            has_stalled,
        };
        (paced, flag)
    }

    fn came(&mut self, count: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        self.bytes += count as u64;
        if self.bytes >= PROGRESS_BYTES {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Ready when the client was waited for long enough.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.stall.saturating_sub(self.waited);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            // An earlier wait's timer may go off first; it is set anew then, which is rarer than every frame.
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let count = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
            self.came(count.unwrap_or_default());
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        ready!(self.poll_patience(cx));
        self.has_stalled.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        self.activity.body_ended();
    }
}
