//! Logs of runs that have not ended: what workers send and what the server says itself.

use std::sync::{Arc, Mutex};

use postern_model::Timestamp;
use postern_store::{Run, RunLog, StoreError};
use tokio::task::spawn_blocking;

use crate::mask::Masks;
use crate::{Runs, RunsError, locked};

/// Longest text of a worker that is kept beside a log.
const MAX_TEXT_CHARS: usize = 2000;

pub(crate) type SharedLog = Arc<Mutex<OpenLog>>;

/// A log that is written to.
pub(crate) struct OpenLog {
    log: RunLog,
    masks: Masks,
}

/// What came of a piece of log.
pub(crate) enum Appended {
    /// It is stored, all of it.
    Stored,
    /// Something before it is missing; so many bytes are there.
    Gap(u64),
}

impl OpenLog {
    /// What a worker sends: bytes that begin at `offset` of what it has sent under its lease.
    fn append(&mut self, lease: u64, offset: u64, bytes: &[u8]) -> Result<Appended, StoreError> {
        // What an earlier worker sent has come too late.
        if lease < self.log.lease() {
            return Err(StoreError::LeaseLost);
        }
        let received = self.log.received(lease);
        let Some(known) = received.checked_sub(offset) else { return Ok(Appended::Gap(received)) };
        let new = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
        if new.is_empty() {
            return Ok(Appended::Stored);
        }
        let masked = self.masks.take(&[self.log.tail(), new].concat());
        self.log.append(lease, new.len() as u64, &masked.shown, masked.tail, masked.findings)?;
        Ok(Appended::Stored)
    }

    /// Ends what an earlier worker has sent, and begins with another one.
    fn begin(&mut self, lease: u64, line: Option<&str>) -> Result<(), StoreError> {
        let mut masked = self.masks.finish(self.log.tail());
        masked.shown.extend(line.into_iter().flat_map(str::bytes));
        self.log.append(lease, 0, &masked.shown, Vec::new(), masked.findings)
    }

    fn say(&mut self, line: &str) -> Result<(), StoreError> {
        let tail = self.log.tail().to_vec();
        self.log.append(self.log.lease(), 0, line.as_bytes(), tail, 0)
    }

    fn findings(&self) -> u64 {
        self.log.findings()
    }
}

impl Runs {
    /// A line of the server's own, as a worker would write it.
    pub(crate) fn line(&self, text: &str) -> String {
        format!("{} {text}\r\n", stamp(self.now()))
    }

    async fn log_of(&self, run: &Run) -> Result<SharedLog, RunsError> {
        if let Some(open) = locked(&self.0.logs).get(&run.uid) {
            return Ok(Arc::clone(open));
        }
        // Without its order it has ended, and so has its log.
        let kept = self.order_of(run).await?.ok_or(StoreError::LeaseLost)?;
        let masks = Masks::of(&kept.order);
        let (runs, registry, number) = (self.0.store.runs(), run.registry, run.number);
        let (this, uid) = (self.clone(), run.uid);
        // Two at once would write over each other: whoever opens it second takes the first one's.
        blocking(move || {
            let mut logs = locked(&this.0.logs);
            if let Some(open) = logs.get(&uid) {
                return Ok(Arc::clone(open));
            }
            let open = Arc::new(Mutex::new(OpenLog { log: runs.open_log(registry, number)?, masks }));
            logs.insert(uid, Arc::clone(&open));
            Ok(open)
        })
        .await
    }

    async fn with_log<T: Send + 'static>(
        &self,
        run: &Run,
        work: impl FnOnce(&mut OpenLog) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RunsError> {
        let log = self.log_of(run).await?;
        blocking(move || work(&mut locked(&log))).await
    }

    /// Stores what a worker sends, with nothing secret in it.
    pub(crate) async fn append_log(
        &self,
        run: &Run,
        lease: i64,
        offset: u64,
        bytes: bytes::Bytes,
    ) -> Result<Appended, RunsError> {
        self.with_log(run, move |log| log.append(lease.cast_unsigned(), offset, &bytes)).await
    }

    /// Begins with what another worker sends.
    pub(crate) async fn begin_log(&self, run: &Run, lease: i64, line: Option<String>) -> Result<(), RunsError> {
        self.with_log(run, move |log| log.begin(lease.cast_unsigned(), line.as_deref())).await
    }

    /// A text of a run's worker that is kept beside its log, with nothing secret in it.
    pub(crate) async fn masked(&self, run: &Run, text: String) -> Result<String, RunsError> {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT_CHARS).collect();
        let shown = self.with_log(run, move |log| Ok(log.masks.finish(text.as_bytes()).shown)).await?;
        Ok(String::from_utf8_lossy(&shown).trim_end().to_owned())
    }

    /// Says something in a run's log.
    pub(crate) async fn say(&self, run: &Run, line: String) -> Result<(), RunsError> {
        self.with_log(run, move |log| log.say(&line)).await
    }

    /// Ends the log with a line of the server's own, if there is one; gives how many secrets were found in it.
    pub(crate) async fn finish_log(&self, run: &Run, line: Option<String>) -> Result<u64, RunsError> {
        self.with_log(run, move |log| {
            log.begin(log.log.lease(), line.as_deref())?;
            Ok(log.findings())
        })
        .await
    }

    /// Lets go of the log of a run that has ended.
    pub(crate) async fn close_log(&self, run: &Run) -> Result<(), RunsError> {
        locked(&self.0.logs).remove(&run.uid);
        let (runs, registry, number) = (self.0.store.runs(), run.registry, run.number);
        blocking(move || runs.settle_log(registry, number)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, RunsError> {
    let done = spawn_blocking(work).await.map_err(|_| StoreError::Interrupted)?;
    Ok(done?)
}

/// `2026/11/22 01:02:03`, as log lines begin.
fn stamp(time: Timestamp) -> String {
    let text = time.to_string();
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    let clock = rest.split('.').next().unwrap_or_default();
    format!("{} {clock}", date.replace('-', "/"))
}
