//! A run's log on its way to the server: written by whoever carries the run out, sent in pieces, in order, until the server has it.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern_model::Clock;
use postern_tasks::lines;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::server::{Server, ServerError};

/// What may wait to be sent; whoever writes more waits.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Largest piece that is sent.
const PIECE_BYTES: usize = 1 << 20;
/// A log that grows slowly is sent so often.
const GATHER: Duration = Duration::from_millis(200);
/// After the server could not be reached.
const RETRY: Duration = Duration::from_secs(1);

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

/// Sends the log. Ends when the log is closed and everything was sent, or the run is not this worker's any more.
pub(crate) struct Sending(JoinHandle<()>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was written, or it was closed.
    written: Notify,
    /// Something was sent.
    sent: Notify,
}

#[derive(Default)]
struct State {
    waiting: BytesMut,
    /// How much was handed to the sender before.
    offset: u64,
    is_closed: bool,
}

impl Log {
    /// A log that is sent to the server under this lease.
    pub(crate) fn start(server: Server, lease: String, clock: Arc<dyn Clock>) -> (Self, Sending) {
        let shared = Arc::<Shared>::default();
        let sending = tokio::spawn(send(server, lease, Arc::clone(&shared)));
        (Self { shared, clock }, Sending(sending))
    }

    /// A line of the worker itself, with its time.
    pub(crate) async fn line(&self, line: &impl Display) {
        self.raw(&lines::stamped(self.clock.now(), line)).await;
    }

    /// A line of a step's output. What would end it within is shown as a space.
    pub(crate) async fn plain(&self, line: &str) {
        self.room().await;
        self.now(line);
    }

    /// The same, without waiting for room: for output that comes slowly, from where nothing can wait.
    pub(crate) fn now(&self, line: &str) {
        let clean: String = line.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }).collect();
        self.append(&format!("{clean}{}", lines::LINE_END));
    }

    /// Text with its own ends of lines.
    pub(crate) async fn raw(&self, text: &str) {
        self.room().await;
        self.append(text);
    }

    fn append(&self, text: &str) {
        let mut state = self.state();
        if !state.is_closed {
            state.waiting.extend_from_slice(text.as_bytes());
        }
        drop(state);
        self.shared.written.notify_one();
    }

    async fn room(&self) {
        loop {
            let sent = self.shared.sent.notified();
            tokio::pin!(sent);
            // Before looking: what is sent in between wakes this.
            sent.as_mut().enable();
            let has_room = {
                let state = self.state();
                state.waiting.len() < MAX_WAITING_BYTES || state.is_closed
            };
            if has_room {
                return;
            }
            sent.await;
        }
    }

    /// The time that lines have.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.shared.written.notify_one();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending {
    /// Waits until everything was sent.
    pub(crate) async fn done(self) {
        // It ends by itself; that it was cut short is for nobody to hear.
        let _ = self.0.await;
    }
}

async fn send(server: Server, lease: String, shared: Arc<Shared>) {
    loop {
        let (piece, offset, is_closed) = {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let length = state.waiting.len().min(PIECE_BYTES);
            let piece: Bytes = state.waiting.split_to(length).freeze();
            let offset = state.offset;
            state.offset += piece.len() as u64;
            (piece, offset, state.is_closed)
        };
        if piece.is_empty() {
            if is_closed {
                return;
            }
            shared.written.notified().await;
            // What comes right behind goes along.
            tokio::time::sleep(GATHER).await;
            continue;
        }
        while let Err(error) = server.log(&lease, offset, piece.clone()).await {
            match error {
                ServerError::Unreachable(_) | ServerError::Refused { status: 500.., .. } => {
                    tokio::time::sleep(RETRY).await;
                }
                ServerError::LeaseLost => return gave_up(&shared),
                other => {
                    tracing::error!(error = %other, "a part of a run's log is lost");
                    return gave_up(&shared);
                }
            }
        }
        shared.sent.notify_waiters();
    }
}

/// Nobody waits for room any more.
fn gave_up(shared: &Shared) {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    shared.sent.notify_waiters();
}
