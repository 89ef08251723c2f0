//! What a server acknowledged lasts: its run is recorded, every crash in between is played back, and each outcome is opened.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use postern_model::{Clock, Timestamp};
use postern_store::{Journal, Store, StoreOptions};
use postern_tests::disk::{
    DiskImage, Effect, End, Expectations, Fate, History, Key, Pusher, Recorder, Seeded, check, enable_admin,
    expect_collection, fast_folder, first_run, second_run,
};
use postern_tests::registry::RegistryClient;
use postern_tests::{Admin, Server};
use tokio::runtime::{Builder, Runtime};

const SEED: u64 = 20_261_122;
/// How many ends of each crash point's power cut are torn.
const TORN_ENDS: u64 = 1;
const CHECKERS: usize = 2;
/// On so many outcomes the whole server is started.
const SERVED: usize = 6;
/// Of writes in a row a kill is tried in between about so many.
const ONE_WRITE_OF: u64 = 12;
/// When it is set, a kill is tried between any two.
const EVERY_CRASH_VARIABLE: &str = "POSTERN_EVERY_CRASH";
/// Blob files that the second run collects at least.
const GARBAGE_FILES: usize = 5;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// A run that was recorded.
struct Recorded {
    effects: Vec<Effect>,
    history: Arc<History>,
    uploads: BTreeMap<String, Vec<u8>>,
    now: Timestamp,
}

fn record(folder: &Path) -> Recorded {
    let recorder = Arc::new(Recorder::new(folder));
    let history = Arc::new(History::new(Some(Arc::clone(&recorder))));
    let runtime = runtime();
    let mut server = recorder.start(&[]);
    let enabled = enable_admin(&server);
    let pusher = Pusher::new(enabled.client.clone(), Arc::clone(&history));
    let done = runtime.block_on(first_run(&pusher, &server, &enabled, SEED));
    done.unwrap_or_else(|refused| panic!("{refused}\n{}", server.log()));
    server.crash();
    assert_nothing_missed(&recorder);

    expect_collection(&pusher);
    let config = folder.join("collect-at-once.toml");
    fs::write(&config, "[limits]\ncollection_grace_seconds = 0\n").expect("the configuration can be written");
    let before = removed_blobs(&recorder);
    let mut server = recorder.start(&["--config", config.to_str().expect("the path is text")]);
    let started = Instant::now();
    while removed_blobs(&recorder) < before + GARBAGE_FILES {
        assert!(started.elapsed().as_secs() < 60, "the server does not collect\n{}", server.log());
        thread::yield_now();
    }
    let client = RegistryClient::new(server.address(), "postern", &enabled.passwords[0].1);
    let pusher = pusher.reconnected(client);
    let done = runtime.block_on(second_run(&pusher, SEED));
    done.unwrap_or_else(|refused| panic!("{refused}\n{}", server.log()));
    assert!(server.stop().success(), "{}", server.log());
    assert_nothing_missed(&recorder);
    // The resources' own times are those of the run; any moment soon after it will do.
    let modified = fs::metadata(recorder.data()).and_then(|data| data.modified()).expect("the data folder is there");
    let now = modified.duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let now = Timestamp::from_unix_seconds(i64::try_from(now).expect("a time fits"));
    Recorded { effects: recorder.effects(), history, uploads: pusher.uploads(), now }
}

fn removed_blobs(recorder: &Recorder) -> usize {
    let is_blob = |effect: &Effect| matches!(effect, Effect::Unlink(path) if path.starts_with("data/blobs/"));
    recorder.effects().iter().filter(|effect| is_blob(effect)).count()
}

/// The record and the real folder agree: no effect went past the recorder.
fn assert_nothing_missed(recorder: &Recorder) {
    let mut image = DiskImage::new();
    for effect in recorder.effects() {
        image.apply(&effect);
    }
    assert_eq!(image.differences(&recorder.root()), Vec::<String>::new());
}

/// A crash to look at.
struct Crash {
    folder: PathBuf,
    point: usize,
    end: End,
    expectations: Expectations,
}

#[derive(Default)]
struct Tally {
    killed: AtomicUsize,
    cut: AtomicUsize,
    torn: AtomicUsize,
    keys: AtomicUsize,
    manifests: AtomicUsize,
    uploads: AtomicUsize,
    problems: Mutex<Vec<String>>,
}

fn look_at(crashes: &Mutex<Receiver<Crash>>, recorded: &Recorded, tally: &Tally) {
    let runtime = runtime();
    loop {
        let next = crashes.lock().expect("no checker panics with the lock").recv();
        let Ok(Crash { folder, point, end, expectations }) = next else { return };
        let data = folder.join("data");
        let outcome = if data.exists() || !expectations.is_empty() {
            runtime.block_on(check(&data, &expectations, &recorded.uploads, recorded.now))
        } else {
            Ok(postern_tests::disk::Checked::default())
        };
        match outcome {
            Ok(checked) => {
                tally.keys.fetch_add(checked.keys, Ordering::Relaxed);
                tally.manifests.fetch_add(checked.manifests, Ordering::Relaxed);
                tally.uploads.fetch_add(checked.uploads, Ordering::Relaxed);
            }
            Err(problem) => {
                let around = recorded.effects[point.saturating_sub(3)..].iter().take(5).map(brief).collect::<Vec<_>>();
                let problem = format!("{end:?} before effect {point}, of {around:#?}\n{problem}");
                tally.problems.lock().expect("no checker panics with the lock").push(problem);
            }
        }
        let kind = match end {
            End::Kill => &tally.killed,
            End::PowerCut => &tally.cut,
            End::TornPowerCut(_) => &tally.torn,
        };
        kind.fetch_add(1, Ordering::Relaxed);
        fs::remove_dir_all(&folder).expect("the folder of a crash can be removed");
    }
}

fn brief(effect: &Effect) -> String {
    match effect {
        Effect::Write { offset, bytes, path, .. } => format!("{} bytes at {offset} of {path}", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// Decisions' records are a file of their own, and promise less.
fn is_of_the_store(effect: &Effect) -> bool {
    !effect.path().contains("audit.db") && !matches!(effect, Effect::Mark(_))
}

/// The ends to try before this effect happens. What is durable changes only by a sync, so that the worst moment for a power cut is
/// the one before. Of writes to one file in a row a kill is tried before the first, after the last and before one in between,
/// unless every single one is asked for.
fn ends(effects: &[Effect], point: usize) -> Vec<End> {
    let Some(effect) = effects.get(point) else { return vec![End::Kill, End::PowerCut] };
    if !is_of_the_store(effect) {
        return Vec::new();
    }
    let writes = |effect: &Effect| matches!(effect, Effect::Write { .. }).then(|| effect.path().to_owned());
    let before = effects[..point].iter().rev().find(|effect| is_of_the_store(effect)).and_then(writes);
    let goes_on = before.is_some() && before == writes(effect);
    let is_tried = !goes_on || Seeded::new(SEED ^ point as u64).below(ONE_WRITE_OF) == 0;
    let mut ends = Vec::new();
    if is_tried || std::env::var_os(EVERY_CRASH_VARIABLE).is_some() {
        ends.push(End::Kill);
    }
    if matches!(effect, Effect::Sync { .. } | Effect::SyncFailed { .. }) {
        ends.push(End::PowerCut);
        ends.extend((0..TORN_ENDS).map(|torn| End::TornPowerCut(SEED ^ (point as u64 * TORN_ENDS + torn))));
    }
    ends
}

fn play_back(recorded: &Recorded, folder: &Path) -> Tally {
    let tally = Tally::default();
    let (sender, receiver) = sync_channel(2 * CHECKERS);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        for _ in 0..CHECKERS {
            scope.spawn(|| look_at(&receiver, recorded, &tally));
        }
        let (mut image, mut expectations) = (DiskImage::new(), Expectations::default());
        for point in 0..=recorded.effects.len() {
            let effect = recorded.effects.get(point);
            for (number, end) in ends(&recorded.effects, point).into_iter().enumerate() {
                let folder = folder.join(format!("{point}-{number}"));
                fs::create_dir(&folder).expect("a folder for a crash can be made");
                image.write_to(&folder, end);
                let crash = Crash { folder, point, end, expectations: expectations.clone() };
                sender.send(crash).expect("checkers run to the end");
            }
            match effect {
                Some(Effect::Mark(mark)) => recorded.history.replay(&mut expectations, *mark),
                Some(effect) => image.apply(effect),
                None => {}
            }
        }
        drop(sender);
    });
    tally
}

/// The whole server on some of the outcomes: it starts, knows its passwords, and serves what it acknowledged.
fn serve_some(recorded: &Recorded, folder: &Path) {
    let syncs = |effect: &Effect| matches!(effect, Effect::Sync { .. }) && is_of_the_store(effect);
    let stride = recorded.effects.iter().filter(|effect| syncs(effect)).count() / SERVED;
    let (mut image, mut expectations, mut seen) = (DiskImage::new(), Expectations::default(), 0);
    for (point, effect) in recorded.effects.iter().enumerate() {
        if syncs(effect) {
            seen += 1;
            if seen % stride == 0 {
                let target = folder.join(format!("served-{point}"));
                fs::create_dir(&target).expect("the folder is new");
                let end = if (seen / stride).is_multiple_of(2) {
                    End::PowerCut
                } else {
                    End::TornPowerCut(SEED ^ point as u64)
                };
                image.write_to(&target, end);
                serve(&target.join("data"), &expectations, point);
                fs::remove_dir_all(&target).expect("the folder can be removed");
            }
        }
        match effect {
            Effect::Mark(mark) => recorded.history.replay(&mut expectations, *mark),
            effect => image.apply(effect),
        }
    }
}

fn serve(data: &Path, expectations: &Expectations, point: usize) {
    let server = Server::start_in(data, &[]);
    Admin::of(&server);
    let Some(Fate::Is(password)) = expectations.acknowledged(&Key::Password("password".into())) else { return };
    let client = RegistryClient::new(server.address(), "postern", password);
    let runtime = runtime();
    for (key, fates) in expectations.all() {
        let (Key::Manifest(repository, reference) | Key::Tag(repository, reference), [fate]) = (key, fates.as_slice())
        else {
            continue;
        };
        let path = format!("/v2/{repository}/manifests/{reference}");
        let status = runtime.block_on(client.get(&path)).expect("the server answers").status;
        let expected = if matches!(fate, Fate::Gone) { 404 } else { 200 };
        assert_eq!(status, expected, "{path} after a crash before effect {point}\n{}", server.log());
    }
}

#[test]
fn what_was_acknowledged_outlasts_every_crash() {
    let folder = fast_folder();
    let recorded = record(folder.path());
    let effects = recorded.effects.iter().filter(|effect| is_of_the_store(effect)).count();
    let started = Instant::now();
    let crashes = folder.path().join("crashes");
    fs::create_dir(&crashes).expect("the folder is new");
    let tally = play_back(&recorded, &crashes);
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{effects} effects; crashes: {} kills, {} power cuts, {} torn power cuts; {} facts, {} manifests, {} uploads checked; {:.0} s",
        count(&tally.killed),
        count(&tally.cut),
        count(&tally.torn),
        count(&tally.keys),
        count(&tally.manifests),
        count(&tally.uploads),
        started.elapsed().as_secs_f64()
    );
    serve_some(&recorded, &crashes);
    let problems = tally.problems.into_inner().expect("no checker panicked");
    let shown: Vec<_> = problems.iter().take(5).map(String::as_str).collect();
    assert!(problems.is_empty(), "{} crashes went wrong, for instance\n{}", problems.len(), shown.join("\n\n"));
}

/// Records of decisions promise less, and keep that: whatever happens the file can be read, and a second later they last.
#[test]
fn records_of_decisions_last_a_second_later() {
    let folder = fast_folder();
    let recorder = Arc::new(Recorder::new(folder.path()));
    let mut server = recorder.start(&[]);
    let enabled = enable_admin(&server);
    let pusher = Pusher::new(enabled.client.clone(), Arc::new(History::new(None)));
    let pushes = async {
        for tag in ["1", "2", "3"] {
            pusher.image("app", tag.as_bytes(), &[b"layer"], Some(tag)).await?;
        }
        Ok::<_, postern_tests::disk::Refused>(())
    };
    runtime().block_on(pushes).unwrap_or_else(|refused| panic!("{refused}"));
    let of_records = |effect: &Effect| effect.path().starts_with("data/audit.db");
    let started = Instant::now();
    // Nothing comes any more, and all there is was synced.
    let effects = loop {
        let effects = recorder.effects();
        let last =
            |wanted: fn(&Effect) -> bool| effects.iter().rposition(|effect| of_records(effect) && wanted(effect));
        let written = last(|effect| matches!(effect, Effect::Write { path, .. } if path.ends_with("-wal")));
        if written < last(|effect| matches!(effect, Effect::Sync { .. })) {
            break effects;
        }
        assert!(started.elapsed().as_secs() < 60, "records are never made durable\n{}", server.log());
        thread::yield_now();
    };
    server.crash();

    let mut image = DiskImage::new();
    let mut tried = 0;
    for (point, effect) in effects.iter().enumerate() {
        if of_records(effect) {
            for end in [End::Kill, End::PowerCut, End::TornPowerCut(SEED ^ point as u64)] {
                assert!(
                    records(&image, &folder.path().join("records"), end).is_some(),
                    "{end:?} before effect {point}"
                );
                tried += 1;
            }
        }
        image.apply(effect);
    }
    let kept = records(&image, &folder.path().join("records"), End::PowerCut).unwrap_or_default();
    println!("{tried} crashes, {kept} records at the end");
    // Three images are six blobs and three manifests.
    assert!(kept >= 9, "{kept} records");
}

/// How many records a crash leaves; nothing when they cannot be read.
fn records(image: &DiskImage, folder: &Path, end: End) -> Option<usize> {
    fs::create_dir(folder).expect("the folder is new");
    image.write_to(folder, end);
    let data = folder.join("data");
    let found = runtime().block_on(async {
        if !data.join("audit.db").exists() {
            return Some(0);
        }
        let journal = Journal::open(&data.join("audit.db")).await.ok()?;
        let clock = Arc::new(Stopped);
        let store = Store::open(StoreOptions::new(&data, clock, Arc::new(Seeded::new(SEED)))).await.ok()?;
        let mut resources = Vec::new();
        store
            .resources()
            .each(|row| {
                resources.push(row);
                Ok(())
            })
            .await
            .ok()?;
        let registry = resources.iter().find(|row| row.resource_type == "Microsoft.ContainerRegistry/registries");
        let scope = registry.map(|row| row.uid.clone()).unwrap_or_default();
        let newest = journal.newest(&scope, 1000).await.ok()?.len();
        journal.close().await;
        store.close().await;
        Some(newest)
    });
    fs::remove_dir_all(folder).expect("the folder can be removed");
    found
}

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }
}
