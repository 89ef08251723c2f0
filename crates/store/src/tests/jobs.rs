use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use postern_model::Secret;
use tokio::sync::watch;

use super::*;
use crate::{Beat, Canceling, JobEnd, JobExecutor, JobId, JobKind, JobLimits, JobState, Jobs, Lease, NewJob};

const LEASE: i64 = 30;
const KEPT: i64 = 3600;

/// A text to be printed.
struct Print;

impl JobKind for Print {
    const NAME: &'static str = "print";
    const LIMITS: JobLimits = JobLimits {
        attempts: 3,
        lease_seconds: 30,
        backoff_seconds: 4,
        max_backoff_seconds: 6,
        keep_seconds: 3600,
        open_per_subject: 4,
        leased_per_subject: 100,
    };
    type Payload = String;
    type Outcome = String;
}

/// Another kind, which sees nothing of the first.
struct Other;

impl JobKind for Other {
    const NAME: &'static str = "other";
    const LIMITS: JobLimits = JobLimits { leased_per_subject: 1, ..Print::LIMITS };
    type Payload = u32;
    type Outcome = ();
}

fn new(text: &str) -> NewJob<Print> {
    NewJob::new(text, text.to_owned())
}

async fn enqueue(bench: &Bench, text: &str) -> JobId {
    bench.store.jobs().enqueue(new(text)).await.unwrap().id
}

async fn take(bench: &Bench) -> Option<Lease<Print>> {
    bench.store.jobs().take::<Print>("test").await.unwrap()
}

/// State, attempts, and outcome or note.
async fn shown(bench: &Bench, id: JobId) -> String {
    match bench.store.jobs().find::<Print>(id).await.unwrap() {
        None => "gone".into(),
        Some(job) => {
            assert_eq!(job.state.is_end(), job.ended.is_some());
            let end = job.outcome.or(job.note).unwrap_or_default();
            format!("{:?} {} {end}", job.state, job.attempts).trim_end().to_owned()
        }
    }
}

#[tokio::test]
async fn a_job_is_done_once_and_its_end_is_kept_for_a_time() {
    let bench = Bench::new().await;
    let jobs = bench.store.jobs();
    let id = enqueue(&bench, "one").await;
    assert!(jobs.take::<Other>("test").await.unwrap().is_none());
    assert!(jobs.find::<Other>(id).await.unwrap().is_none());
    assert_eq!(shown(&bench, id).await, "Waiting 0");
    let lease = take(&bench).await.unwrap();
    assert_eq!((lease.id(), lease.attempt(), lease.subject(), lease.payload().as_str()), (id, 1, "one", "one"));
    assert!(take(&bench).await.is_none());
    assert_eq!(shown(&bench, id).await, "Leased 1");
    lease.end(JobEnd::Succeeded("done".into())).await.unwrap();
    assert_eq!(shown(&bench, id).await, "Succeeded 1 done");
    assert_err!(lease.end(JobEnd::Failed("late".into())).await, StoreError::LeaseLost);
    assert_err!(lease.heartbeat().await, StoreError::LeaseLost);
    bench.pass(LEASE + 1);
    assert!(take(&bench).await.is_none());

    bench.pass(KEPT - LEASE - 2);
    assert_eq!(jobs.expire().await.unwrap(), 0);
    assert_eq!(shown(&bench, id).await, "Succeeded 1 done");
    bench.pass(2);
    assert_eq!(jobs.expire().await.unwrap(), 1);
    assert_eq!(shown(&bench, id).await, "gone");
}

#[tokio::test]
async fn what_is_asked_for_twice_is_one_job() {
    let bench = Bench::new().await;
    let jobs = bench.store.jobs();
    let first = jobs.enqueue(new("a").key("k")).await.unwrap();
    let second = jobs.enqueue(new("b").key("k")).await.unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!(first.id, second.id);
    // Kinds have keys of their own, and without a key nothing is the same.
    assert!(jobs.enqueue(NewJob::<Other>::new("a", 1).key("k")).await.unwrap().is_new);
    assert_ne!(enqueue(&bench, "a").await, enqueue(&bench, "a").await);
    // It stays the same after its end, until that is forgotten.
    let lease = take(&bench).await.unwrap();
    assert_eq!(lease.id(), first.id);
    lease.end(JobEnd::Succeeded(String::new())).await.unwrap();
    assert!(!jobs.enqueue(new("c").key("k")).await.unwrap().is_new);
    bench.pass(KEPT + 1);
    jobs.expire().await.unwrap();
    assert!(jobs.enqueue(new("c").key("k")).await.unwrap().is_new);
}

#[tokio::test]
async fn who_lost_the_lease_has_no_effect() {
    let bench = Bench::new().await;
    let id = enqueue(&bench, "one").await;
    let first = take(&bench).await.unwrap();
    bench.pass(LEASE - 1);
    assert_eq!(first.heartbeat().await.unwrap(), Beat::Kept);
    bench.pass(LEASE - 1);
    assert!(take(&bench).await.is_none(), "the heartbeat counts from when it came");
    bench.pass(2);
    let second = take(&bench).await.unwrap();
    assert_eq!((second.id(), second.attempt()), (id, 2));
    assert_err!(first.heartbeat().await, StoreError::LeaseLost);
    assert_err!(first.end(JobEnd::Succeeded("first".into())).await, StoreError::LeaseLost);
    assert_err!(first.release().await, StoreError::LeaseLost);
    assert_eq!(shown(&bench, id).await, "Leased 2");
    second.end(JobEnd::Succeeded("second".into())).await.unwrap();
    assert_eq!(shown(&bench, id).await, "Succeeded 2 second");
}

#[tokio::test]
async fn a_late_end_counts_where_nobody_took_over() {
    let bench = Bench::new().await;
    let id = enqueue(&bench, "one").await;
    let lease = take(&bench).await.unwrap();
    bench.pass(LEASE * 2);
    assert_eq!(lease.heartbeat().await.unwrap(), Beat::Kept);
    assert!(take(&bench).await.is_none());
    bench.pass(LEASE * 2);
    lease.end(JobEnd::Succeeded("late".into())).await.unwrap();
    assert_eq!(shown(&bench, id).await, "Succeeded 1 late");
}

#[tokio::test]
async fn retries_wait_and_come_to_an_end() {
    let bench = Bench::new().await;
    let id = enqueue(&bench, "one").await;
    for (wait, state) in [(4, "Waiting 1"), (6, "Waiting 2")] {
        take(&bench).await.unwrap().end(JobEnd::Retry("broken".into())).await.unwrap();
        assert_eq!(shown(&bench, id).await, state);
        bench.pass(wait - 1);
        assert!(take(&bench).await.is_none());
        bench.pass(1);
    }
    take(&bench).await.unwrap().end(JobEnd::Retry("broken".into())).await.unwrap();
    assert_eq!(shown(&bench, id).await, "Failed 3 broken");

    // The same for an executor that never comes to say anything.
    let id = enqueue(&bench, "two").await;
    for attempt in 1..=3 {
        assert_eq!(take(&bench).await.unwrap().attempt(), attempt);
        bench.pass(LEASE + 1);
    }
    assert!(take(&bench).await.is_none());
    assert_eq!(shown(&bench, id).await, "Failed 3 whoever carried it out has gone away");
}

#[tokio::test]
async fn jobs_have_their_turn() {
    let bench = Bench::new().await;
    let jobs = bench.store.jobs();
    let later = bench.now().plus_seconds(100);
    jobs.enqueue(new("later").not_before(later)).await.unwrap();
    for text in ["first", "second"] {
        enqueue(&bench, text).await;
    }
    jobs.enqueue(new("past").not_before(Timestamp::from_unix_seconds(0))).await.unwrap();
    let mut order = Vec::new();
    while let Some(lease) = take(&bench).await {
        order.push(lease.payload().clone());
        lease.end(JobEnd::Succeeded(String::new())).await.unwrap();
    }
    assert_eq!(order, ["first", "second", "past"]);
    bench.pass(100);
    assert_eq!(take(&bench).await.unwrap().payload(), "later");
}

#[tokio::test]
async fn jobs_are_called_off() {
    let bench = Bench::new().await;
    let jobs = bench.store.jobs();
    let waiting = enqueue(&bench, "waiting").await;
    assert_eq!(jobs.cancel::<Other>(waiting).await.unwrap(), Canceling::TooLate);
    assert_eq!(jobs.cancel::<Print>(waiting).await.unwrap(), Canceling::Done);
    assert_eq!(jobs.cancel::<Print>(waiting).await.unwrap(), Canceling::TooLate);
    assert!(take(&bench).await.is_none());
    assert_eq!(shown(&bench, waiting).await, "Canceled 0 it was canceled");

    let running = enqueue(&bench, "running").await;
    let lease = take(&bench).await.unwrap();
    assert_eq!(jobs.cancel::<Print>(running).await.unwrap(), Canceling::Asked);
    assert_eq!(lease.heartbeat().await.unwrap(), Beat::CancelAsked);
    lease.end(JobEnd::Canceled).await.unwrap();
    assert_eq!(shown(&bench, running).await, "Canceled 1 it was canceled");

    // Whoever has it may have gone away, and may just have finished.
    let (lost, finished) = (enqueue(&bench, "both").await, enqueue(&bench, "both").await);
    let (_lost, lease) = (take(&bench).await.unwrap(), take(&bench).await.unwrap());
    assert_eq!(jobs.cancel_all_of::<Print>("both").await.unwrap(), 2);
    lease.end(JobEnd::Succeeded("done".into())).await.unwrap();
    assert_eq!(shown(&bench, finished).await, "Succeeded 1 done");
    bench.pass(LEASE + 1);
    assert!(take(&bench).await.is_none());
    assert_eq!(shown(&bench, lost).await, "Canceled 1 whoever carried it out has gone away");
}

#[tokio::test]
async fn secrets_go_with_the_end() {
    let bench = Bench::new().await;
    let sealed = async |id: JobId| {
        let query = sqlx::query_scalar::<_, Option<Vec<u8>>>("SELECT sealed FROM jobs WHERE id = $1");
        query.bind(id.to_string()).fetch_one(bench.store.inner().database.read()).await.unwrap()
    };
    let secret = || Secret::new("hunter2-hunter2");
    for end in [JobEnd::Succeeded(String::new()), JobEnd::Failed(String::new()), JobEnd::Canceled] {
        let id = bench.store.jobs().enqueue(new("one").secret(secret())).await.unwrap().id;
        let bytes = sealed(id).await.unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        take(&bench).await.unwrap().end(JobEnd::Retry(String::new())).await.unwrap();
        bench.pass(10);
        let lease = take(&bench).await.unwrap();
        assert_eq!(lease.secret().unwrap().expose(), "hunter2-hunter2");
        lease.end(end).await.unwrap();
        assert_eq!(sealed(id).await, None);
    }
    let id = bench.store.jobs().enqueue(new("one").secret(secret())).await.unwrap().id;
    bench.store.jobs().cancel::<Print>(id).await.unwrap();
    assert_eq!(sealed(id).await, None);
    let id = bench.store.jobs().enqueue(new("one").secret(secret())).await.unwrap().id;
    for _ in 0..3 {
        assert!(take(&bench).await.is_some());
        bench.pass(LEASE + 1);
    }
    assert!(take(&bench).await.is_none());
    assert_eq!(sealed(id).await, None);
    let huge = new("one").secret(Secret::new("x".repeat((16 << 10) + 1)));
    assert_err!(bench.store.jobs().enqueue(huge).await, StoreError::TooLarge { .. });
}

#[tokio::test]
async fn jobs_survive_a_restart() {
    let bench = Bench::new().await;
    let (one, two) = (enqueue(&bench, "one").await, enqueue(&bench, "two").await);
    let lease = take(&bench).await.unwrap();
    drop(lease);
    let bench = bench.reopen().await;
    assert_eq!((shown(&bench, one).await, shown(&bench, two).await), ("Leased 1".into(), "Waiting 0".into()));
    assert_eq!(bench.store.jobs().reclaim::<Other>().await.unwrap(), 0);
    assert_eq!(bench.store.jobs().reclaim::<Print>().await.unwrap(), 1);
    let leases = [take(&bench).await.unwrap(), take(&bench).await.unwrap()];
    let of = |id| leases.iter().find(|lease| lease.id() == id).unwrap();
    assert_eq!((of(one).attempt(), of(two).attempt()), (2, 1));
    // Given back in order, an attempt does not count.
    of(one).release().await.unwrap();
    assert_eq!(shown(&bench, one).await, "Waiting 1");
    assert_err!(of(one).heartbeat().await, StoreError::LeaseLost);
    assert_eq!(take(&bench).await.unwrap().attempt(), 2);
}

#[tokio::test]
async fn jobs_have_bounds() {
    let bench = Bench::new().await;
    for _ in 0..4 {
        enqueue(&bench, "same").await;
    }
    assert_err!(bench.store.jobs().enqueue(new("same")).await, StoreError::TooManyJobs { limit: 4 });
    enqueue(&bench, "other").await;
    take(&bench).await.unwrap().end(JobEnd::Canceled).await.unwrap();
    enqueue(&bench, "same").await;
    assert_err!(bench.store.jobs().enqueue(new(&"x".repeat(256 << 10))).await, StoreError::TooLarge { .. });
}

#[tokio::test]
async fn what_cannot_be_read_does_not_hold_up_the_rest() {
    let bench = Bench::new().await;
    let bad = enqueue(&bench, "bad").await;
    let good = enqueue(&bench, "good").await;
    let mut writing = bench.store.inner().database.write().await.unwrap();
    sqlx::query("UPDATE jobs SET payload = '[' WHERE id = $1")
        .bind(bad.to_string())
        .execute(&mut *writing)
        .await
        .unwrap();
    writing.commit().await.unwrap();
    assert_eq!(take(&bench).await.unwrap().id(), good);
    assert_err!(bench.store.jobs().find::<Print>(bad).await.map(|_| ()), StoreError::Corrupt(_));
    bench.pass(LEASE + 1);
    assert_eq!(take(&bench).await.unwrap().id(), good);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_takes_what_another_has() {
    let bench = Bench::new().await;
    for number in 0..100 {
        enqueue(&bench, &format!("{number}")).await;
    }
    let takers = (0..8).map(|_| {
        let jobs = bench.store.jobs();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(lease) = jobs.take::<Print>("test").await.unwrap() {
                taken.push(lease.payload().parse::<u32>().unwrap());
                lease.end(JobEnd::Succeeded(String::new())).await.unwrap();
            }
            taken
        })
    });
    let takers: Vec<_> = takers.collect();
    let mut all = Vec::new();
    for taker in takers {
        all.extend(taker.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
}

/// Prints; waits forever on `hang`.
struct Printer {
    printed: Mutex<Vec<String>>,
    begun: tokio::sync::Semaphore,
    attempts: AtomicU32,
}

impl Printer {
    fn new() -> Arc<Self> {
        Arc::new(Self { printed: Mutex::default(), begun: tokio::sync::Semaphore::new(0), attempts: AtomicU32::new(0) })
    }
}

impl JobExecutor<Print> for Printer {
    async fn run(&self, job: &Lease<Print>) -> JobEnd<Print> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        self.begun.add_permits(1);
        if job.payload() == "hang" {
            std::future::pending::<()>().await;
        }
        self.printed.lock().unwrap().push(job.payload().clone());
        JobEnd::Succeeded(format!("printed {}", job.payload()))
    }
}

fn start(jobs: Jobs, printer: &Arc<Printer>) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    let printer = Arc::clone(printer);
    (stop, tokio::spawn(async move { jobs.carry_out(printer, 2, stopped).await }))
}

#[tokio::test]
async fn executors_are_given_jobs_until_they_are_stopped() {
    let bench = Bench::new().await;
    let jobs = bench.store.jobs();
    let before = enqueue(&bench, "before").await;
    let printer = Printer::new();
    let (stop, running) = start(jobs.clone(), &printer);
    assert_eq!(jobs.ended::<Print>(before).await.unwrap().unwrap().outcome.unwrap(), "printed before");
    // Two hang, so that a third one waits; it has its turn when one of them is called off.
    let hanging = [enqueue(&bench, "hang").await, enqueue(&bench, "hang").await];
    printer.begun.acquire_many(3).await.unwrap().forget();
    let after = enqueue(&bench, "after").await;
    assert_eq!(shown(&bench, after).await, "Waiting 0");
    assert_eq!(jobs.cancel::<Print>(hanging[0]).await.unwrap(), Canceling::Asked);
    assert_eq!(jobs.ended::<Print>(hanging[0]).await.unwrap().unwrap().state, JobState::Canceled);
    assert_eq!(jobs.ended::<Print>(after).await.unwrap().unwrap().outcome.unwrap(), "printed after");
    assert_eq!(shown(&bench, hanging[1]).await, "Leased 1");

    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(shown(&bench, hanging[1]).await, "Waiting 0");
    assert_eq!(*printer.printed.lock().unwrap(), ["before", "after"]);
    assert_eq!(printer.attempts.load(Ordering::SeqCst), 4);
    assert!(jobs.ended::<Print>(JobId(Uuid::from_u128(1))).await.unwrap().is_none());
}

#[tokio::test]
async fn one_subject_does_not_take_everybodys_turn() {
    let bench = Bench::new().await;
    let jobs = bench.store.jobs();
    for (subject, number) in [("a", 1), ("a", 2), ("a", 3), ("b", 4)] {
        jobs.enqueue(NewJob::<Other>::new(subject, number)).await.unwrap();
    }
    let take = async || jobs.take::<Other>("test").await.unwrap();
    let first = take().await.unwrap();
    assert_eq!((*first.payload(), *take().await.unwrap().payload()), (1, 4));
    assert!(take().await.is_none());
    first.end(JobEnd::Succeeded(())).await.unwrap();
    assert_eq!(*take().await.unwrap().payload(), 2);
    // A lease that nobody keeps up is in nobody's way.
    bench.pass(LEASE + 1);
    assert!(take().await.is_some());
}

#[tokio::test]
async fn what_was_given_back_was_begun() {
    let bench = Bench::new().await;
    enqueue(&bench, "one").await;
    let lease = take(&bench).await.unwrap();
    assert!(!lease.is_resumed());
    lease.release().await.unwrap();
    let lease = take(&bench).await.unwrap();
    assert_eq!((lease.attempt(), lease.is_resumed()), (1, true));
}
