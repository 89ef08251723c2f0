use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

/// What is read at once: large enough that system calls do not count, small enough for the processor's cache.
const CHUNK_BYTES: usize = 256 << 10;
/// Bodies up to this size are read in one go into a buffer of their own size.
const SMALL_BYTES: u64 = 64 << 10;
/// Buffers kept for the next reader: 4 MiB.
const KEPT_BUFFERS: usize = 16;

/// Buffers of [`CHUNK_BYTES`] that go round, so that nothing is allocated or zeroed per chunk.
#[derive(Default)]
pub(crate) struct BufferPool(Mutex<Vec<Box<[u8]>>>);

impl BufferPool {
    fn take(&self) -> Box<[u8]> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice())
    }
}

/// A buffer on loan; it goes back when the last slice of it is dropped.
struct Loan {
    bytes: Box<[u8]>,
    pool: Option<Arc<BufferPool>>,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            let mut kept = pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_BUFFERS {
                kept.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

/// A range of a blob as a response body.
///
/// What is in the page cache is read in place; only what would wait for the disk goes to the blocking pool. A blob that is
/// deleted meanwhile is read to its end.
pub struct BlobBody {
    file: Arc<File>,
    buffers: Arc<BufferPool>,
    offset: u64,
    end: u64,
    waiting: Option<JoinHandle<io::Result<Bytes>>>,
}

impl BlobBody {
    pub(crate) fn new(file: Arc<File>, buffers: Arc<BufferPool>, start: u64, end: u64) -> Self {
        Self { file, buffers, offset: start.min(end), end, waiting: None }
    }

    const fn remaining(&self) -> u64 {
        self.end - self.offset
    }

    /// Reads the next chunk if that needs no waiting.
    fn read_now(&mut self) -> Option<io::Result<Bytes>> {
        let mut loan = self.lend();
        let wanted = usize::try_from(self.remaining()).unwrap_or(usize::MAX).min(loan.bytes.len());
        let target = loan.bytes.get_mut(..wanted)?;
        match rustix::io::preadv2(&*self.file, &mut [IoSliceMut::new(target)], self.offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => Some(Ok(Bytes::from_owner(loan).slice(..read))),
            // Not in the page cache, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => {
                let (file, offset) = (Arc::clone(&self.file), self.offset);
                self.waiting = Some(tokio::task::spawn_blocking(move || read_waiting(&file, loan, wanted, offset)));
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn lend(&self) -> Loan {
        if self.remaining() <= SMALL_BYTES {
            let length = usize::try_from(self.remaining()).unwrap_or(0);
            return Loan { bytes: vec![0; length].into_boxed_slice(), pool: None };
        }
        Loan { bytes: self.buffers.take(), pool: Some(Arc::clone(&self.buffers)) }
    }
}

fn read_waiting(file: &File, mut loan: Loan, wanted: usize, offset: u64) -> io::Result<Bytes> {
    let target = loan.bytes.get_mut(..wanted).ok_or(io::ErrorKind::InvalidInput)?;
    file.read_exact_at(target, offset)?;
    Ok(Bytes::from_owner(loan).slice(..wanted))
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.remaining() == 0 {
            return Poll::Ready(None);
        }
        if self.waiting.is_none()
            && let Some(read) = self.read_now()
        {
            return Poll::Ready(Some(self.deliver(read)));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(None) };
        let read = ready!(Pin::new(waiting).poll(context)).unwrap_or_else(|error| Err(io::Error::other(error)));
        self.waiting = None;
        Poll::Ready(Some(self.deliver(read)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

impl BlobBody {
    fn deliver(&mut self, read: io::Result<Bytes>) -> io::Result<Frame<Bytes>> {
        match read {
            Ok(bytes) => {
                self.offset += bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                // Nothing more follows a failure.
                self.offset = self.end;
                Err(error)
            }
        }
    }
}
