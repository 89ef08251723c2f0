use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::Counter;
use postern_access::{Credential, Layer};
use postern_model::{Clock, CorrelationId, RegistryUid};
use postern_store::{Journal, JournalEntry, StoreError};
use serde_json::json;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::record::render_line;
use crate::{Purge, Record};

/// Records that wait to be written, at most. A record holds references, not copies.
const QUEUE_RECORDS: usize = 8192;
/// Records written in one transaction.
const BATCH_RECORDS: usize = 512;
/// Sources that denials are counted for under pressure; beyond, they share one count.
const MAX_AGGREGATES: usize = 4096;
/// How long records are gathered before they are written: a batch costs the same whether one record or hundreds are in it.
/// Nobody waits for it; who asks for a record has what is there written at once.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// After so many records the writer lets others have the thread.
const RECORDS_PER_TURN: usize = 64;
/// Lines about denials in one second; the others of that second are counted.
const MAX_LINES_PER_SECOND: u32 = 50;
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// A power cut costs the records of this time at most.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// How long and how much to keep.
#[derive(Clone, Copy, Debug)]
pub struct AuditOptions {
    /// Records older than this many days are dropped.
    pub keep_days: u32,
    /// The oldest records beyond this number are dropped.
    pub max_records: u64,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { keep_days: 30, max_records: 5_000_000 }
    }
}

/// Where requests leave their records. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Message>,
    /// Ends the gathering: somebody waits, or the queue fills up.
    urgent: Arc<Notify>,
    pressure: Arc<Mutex<HashMap<Aggregate, u64>>>,
    counters: Arc<Counters>,
    journal: Journal,
}

/// A counter for each verdict and layer. Looked up once: the recorder hashes names and labels each time.
#[derive(Default)]
struct Counters([OnceLock<Counter>; 8]);

impl Counters {
    fn count(&self, is_allowed: bool, layer: Layer) {
        let verdict = if is_allowed { "allow" } else { "deny" };
        let make = || metrics::counter!("postern_decisions_total", "verdict" => verdict, "layer" => layer.as_str());
        match self.0.get(2 * layer as usize + usize::from(is_allowed)) {
            Some(counter) => counter.get_or_init(make).increment(1),
            None => make().increment(1),
        }
    }
}

/// The task that writes. Ends once every [`Audit`] is gone and all records are written.
pub struct AuditWriter(JoinHandle<()>);

enum Message {
    Record(Box<Record>),
    Purge(Box<Purge>),
    Flush(oneshot::Sender<()>),
}

impl Message {
    const fn is_flush(&self) -> bool {
        matches!(self, Self::Flush(_))
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Aggregate {
    Source { registry: RegistryUid, address: IpAddr, layer: Layer },
    Overflow,
}

impl Audit {
    /// Starts the writer on this journal.
    pub fn start(journal: Journal, options: AuditOptions, clock: Arc<dyn Clock>) -> (Self, AuditWriter) {
        let (queue, records) = mpsc::channel(QUEUE_RECORDS);
        let pressure = Arc::new(Mutex::default());
        let urgent = Arc::<Notify>::default();
        let lines = Lines::default();
        let writer = Writer {
            journal: journal.clone(),
            urgent: Arc::clone(&urgent),
            pressure: Arc::clone(&pressure),
            options,
            clock,
            lines,
        };
        let audit = Self { queue, urgent, pressure, counters: Arc::default(), journal };
        (audit, AuditWriter(tokio::spawn(writer.run(records))))
    }

    /// Leaves a record. An allow waits for room in the queue; a denial that finds none is counted instead.
    pub async fn record(&self, record: Record) {
        let denied = record.decision.permit().err();
        self.counters.count(denied.is_none(), record.decision.deciding_layer());
        if self.queue.capacity() < QUEUE_RECORDS / 2 {
            self.urgent.notify_one();
        }
        match (self.queue.try_send(Message::Record(Box::new(record))), denied) {
            (Err(mpsc::error::TrySendError::Full(Message::Record(record))), Some(layer)) => self.count(&record, layer),
            (Err(mpsc::error::TrySendError::Full(message)), None) => {
                let _ = self.queue.send(message).await;
            }
            (Ok(()) | Err(_), _) => {}
        }
    }

    /// Leaves a record of what a policy took away. Waits for room in the queue.
    pub async fn record_purge(&self, purge: Purge) {
        let _ = self.queue.send(Message::Purge(Box::new(purge))).await;
    }

    fn count(&self, record: &Record, layer: Layer) {
        metrics::counter!("postern_audit_aggregated_total").increment(1);
        let source = Aggregate::Source { registry: record.rules.uid, address: record.origin.address, layer };
        let mut pressure = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if pressure.len() < MAX_AGGREGATES || pressure.contains_key(&source) {
            source
        } else {
            Aggregate::Overflow
        };
        *pressure.entry(key).or_default() += 1;
    }

    /// Returns once everything recorded so far is in the journal.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            self.urgent.notify_one();
            let _ = written.await;
        }
    }

    /// The record with this id as JSON text, whether it was written already or waits.
    pub async fn find(&self, id: CorrelationId) -> Result<Option<String>, StoreError> {
        if let Some(found) = self.journal.find(id).await? {
            return Ok(Some(found));
        }
        self.flush().await;
        self.journal.find(id).await
    }

    /// The newest records of a registry, newest first.
    pub async fn newest(&self, registry: RegistryUid, limit: u32) -> Result<Vec<String>, StoreError> {
        self.flush().await;
        self.journal.newest(&registry.to_string(), limit).await
    }
}

impl AuditWriter {
    /// Waits until everything is written. Drop every [`Audit`] first.
    pub async fn finished(self) {
        let _ = self.0.await;
    }
}

struct Writer {
    journal: Journal,
    urgent: Arc<Notify>,
    pressure: Arc<Mutex<HashMap<Aggregate, u64>>>,
    options: AuditOptions,
    clock: Arc<dyn Clock>,
    lines: Lines,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        let mut written: u64 = 0;
        let mut sync_at = None;
        loop {
            let next = records.recv_many(&mut batch, BATCH_RECORDS);
            let received = match sync_at {
                None => next.await,
                Some(at) => {
                    let Ok(received) = tokio::time::timeout_at(at, next).await else {
                        self.sync().await;
                        sync_at = None;
                        continue;
                    };
                    received
                }
            };
            if received == 0 {
                break;
            }
            let room = BATCH_RECORDS - batch.len();
            if room > 0 && !batch.iter().any(Message::is_flush) {
                let _ = tokio::time::timeout(GATHERED_FOR, self.urgent.notified()).await;
                if !records.is_empty() {
                    records.recv_many(&mut batch, room).await;
                }
            }
            let mut flushes = Vec::new();
            let mut entries: Vec<JournalEntry> = self.aggregates();
            for (at, message) in batch.drain(..).enumerate() {
                match message {
                    Message::Record(record) => {
                        self.lines.add(&record);
                        entries.push(entry(&record));
                    }
                    Message::Purge(purge) => entries.push(JournalEntry {
                        id: purge.id,
                        time: purge.time,
                        scope: purge.registry.to_string(),
                        record: purge.render(),
                    }),
                    Message::Flush(done) => flushes.push(done),
                }
                if at % RECORDS_PER_TURN == RECORDS_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            self.write(&entries).await;
            // Not only when there is a pause.
            let now = Instant::now();
            if sync_at.is_some_and(|at| at <= now) {
                self.sync().await;
                sync_at = None;
            } else {
                sync_at = sync_at.or(Some(now + SYNC_AFTER));
            }
            for done in flushes {
                let _ = done.send(());
            }
            // Pruning once in a while is enough, and keeps writing cheap.
            let before = written;
            written += entries.len() as u64;
            if before / PRUNE_EVERY_RECORDS != written / PRUNE_EVERY_RECORDS {
                self.prune().await;
            }
        }
        self.lines.say_how_many_more();
        self.write(&self.aggregates()).await;
        self.journal.close().await;
    }

    /// Records must not be lost to a passing fault (a full disk, say): keeps trying, and the queue fills up behind it.
    async fn write(&self, entries: &[JournalEntry]) {
        if entries.is_empty() {
            return;
        }
        while let Err(error) = self.journal.append(entries).await {
            metrics::counter!("postern_audit_write_failures_total").increment(1);
            tracing::error!(
                error = &error as &dyn std::error::Error,
                records = entries.len(),
                "audit records cannot be written, trying again",
            );
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn sync(&self) {
        if let Err(error) = self.journal.sync().await {
            tracing::error!(error = %error, "audit records are not durable yet");
        }
    }

    fn aggregates(&self) -> Vec<JournalEntry> {
        let counts = std::mem::take(&mut *self.pressure.lock().unwrap_or_else(PoisonError::into_inner));
        let time = self.clock.now();
        counts
            .into_iter()
            .map(|(aggregate, count)| {
                let (scope, source) = match aggregate {
                    Aggregate::Source { registry, address, layer } => {
                        (registry.to_string(), json!({"address": address.to_string(), "decidedBy": layer.as_str()}))
                    }
                    Aggregate::Overflow => (String::new(), json!({"address": "many"})),
                };
                let record =
                    json!({"time": time.to_string(), "verdict": "deny", "aggregated": count, "source": source});
                JournalEntry { id: CorrelationId(uuid::Uuid::nil()), time, scope, record: record.to_string() }
            })
            .collect()
    }

    async fn prune(&self) {
        let before = self.clock.now().plus_seconds(-86_400 * i64::from(self.options.keep_days));
        if let Err(error) = self.journal.prune(before, self.options.max_records).await {
            tracing::warn!(error = %error, "old audit records cannot be dropped");
        }
    }
}

const PRUNE_EVERY_RECORDS: u64 = 100_000;

fn entry(record: &Record) -> JournalEntry {
    JournalEntry { id: record.id, time: record.time, scope: record.rules.uid.to_string(), record: render_line(record) }
}

/// The log lines that go with records. They say that there was a decision; the record says why. Under a flood of denials the log
/// says how many there were: otherwise whoever is refused could fill the disk.
#[derive(Default)]
struct Lines {
    second: i64,
    count: u32,
    /// Denials of the second that got no line.
    more: u64,
}

impl Lines {
    fn add(&mut self, record: &Record) {
        let second = record.time.unix_seconds();
        // Records come in the order in which requests end, not begin: only a later second is a new one.
        if second > self.second {
            self.say_how_many_more();
            (self.second, self.count) = (second, 0);
        }
        if !is_worth_a_line(record) || self.count < MAX_LINES_PER_SECOND {
            self.count += u32::from(is_worth_a_line(record));
            log(record);
        } else {
            self.more += 1;
        }
    }

    fn say_how_many_more(&mut self) {
        let more = std::mem::take(&mut self.more);
        if more > 0 {
            tracing::info!(denied.more = more, "denied, and so many more within the second: see the records");
        }
    }
}

/// A challenge is how every client begins, and is not worth a line.
fn is_worth_a_line(record: &Record) -> bool {
    let layer = record.decision.deciding_layer();
    let is_challenge = matches!(record.credential, Credential::None) && layer == Layer::Authentication;
    !record.decision.is_allowed() && !is_challenge
}

fn log(record: &Record) {
    let (layer, operation) = (record.decision.deciding_layer().as_str(), record.operation.kind.as_str());
    let (id, registry, status) = (record.id, &record.rules.login_server, record.status);
    if is_worth_a_line(record) {
        tracing::info!(request.id = %id, registry = %registry, operation, decision.layer = layer, status, "denied");
    } else {
        tracing::debug!(request.id = %id, registry = %registry, operation, decision.layer = layer, status, "decided");
    }
}

#[cfg(test)]
mod tests {
    use postern_access::{Inputs, Operation, OperationKind, evaluate, example};
    use postern_model::Timestamp;
    use uuid::Uuid;

    use super::*;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_seconds(1_795_348_800)
        }
    }

    fn denied(number: u128) -> Record {
        let (origin, rules) = example();
        let (credential, operation) = (Credential::None, Operation::registry(OperationKind::Ping));
        let inputs =
            Inputs { origin: &origin, rules: &rules, credential: &credential, operation: &operation, content: None };
        let decision = evaluate(&inputs);
        Record {
            id: CorrelationId(Uuid::from_u128(number)),
            time: Noon.now(),
            rules: Arc::new(rules),
            origin,
            credential,
            operation,
            content: None,
            decision,
            status: 403,
            user_agent: Some("evil\u{7}agent".into()),
        }
    }

    #[tokio::test]
    async fn a_record_tells_layers_and_fixes_and_is_found_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        let (audit, writer) = Audit::start(journal, AuditOptions::default(), Arc::new(Noon));
        audit.record(denied(7)).await;
        let found = audit.find(denied(7).id).await.unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_str(&found).unwrap();
        assert_eq!(value["verdict"], "deny");
        assert_eq!(value["decidedBy"], "network");
        assert_eq!(
            value["layers"][0]["findings"],
            json!(["public network access is disabled", "no IP rule holds the client's address"])
        );
        assert_eq!(value["fixes"], json!([["enable public network access", "add an IP rule for 198.51.100.7"]]));
        assert!(!found.contains('\u{7}'), "control characters are escaped");
        drop(audit);
        writer.finished().await;
    }

    #[test]
    fn a_flood_of_denials_is_a_few_lines_and_a_number() {
        let mut lines = Lines::default();
        for number in 0..u128::from(MAX_LINES_PER_SECOND) {
            lines.add(&denied(number));
        }
        assert_eq!((lines.count, lines.more), (MAX_LINES_PER_SECOND, 0));
        lines.add(&denied(0));
        lines.add(&denied(1));
        assert_eq!((lines.count, lines.more), (MAX_LINES_PER_SECOND, 2));
        // The next second begins anew, and says how many there were.
        lines.add(&Record { time: Noon.now().plus_seconds(1), ..denied(2) });
        assert_eq!((lines.count, lines.more), (1, 0));
    }

    #[tokio::test]
    async fn denials_beyond_the_queue_are_counted_per_source() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        let (audit, writer) = Audit::start(journal.clone(), AuditOptions::default(), Arc::new(Noon));
        // The writer's task does not run until this one yields, so the queue fills up.
        for number in 0..QUEUE_RECORDS as u128 + 10 {
            audit.record(denied(number)).await;
        }
        let all = audit.newest(denied(0).rules.uid, 100_000).await.unwrap();
        assert_eq!(all.len(), QUEUE_RECORDS + 1);
        let counted = all.iter().find(|record| record.contains("aggregated")).unwrap();
        assert!(counted.contains("\"aggregated\":10"), "{counted}");
        drop(audit);
        writer.finished().await;
    }
}
