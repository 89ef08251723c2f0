//! A disk that fails or is full: the client is told so, nothing acknowledged is lost, nothing half is seen, and the server goes
//! on as soon as the disk does.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_model::Timestamp;
use postern_tests::disk::{
    DiskImage, Effect, End, Error, Expectations, Fate, Fault, FaultKind, History, Key, Pusher, Recorder, Refused,
    Seeded, check, enable_admin, fast_folder, image_manifest,
};
use postern_tests::{Admin, Scratch, Server};
use tokio::runtime::{Builder, Runtime};

const SEED: u64 = 7;
/// At most so many operations of a kind are made to fail, spread over all of them.
const MOST_FAULTS: u64 = 40;
/// The same where each failure is followed by power cuts.
const MOST_FAILED_SYNCS: u64 = 16;
/// A start that has not failed by then counts as hung.
const PATIENCE: Duration = Duration::from_mins(1);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// What each fault falls into: every kind of change, in a repository of its own.
async fn scenario(pusher: &Pusher, number: u64) -> Result<(), Refused> {
    let random = Seeded::new(SEED ^ number << 8);
    let (repository, other) = (format!("r{number}"), format!("o{number}"));
    let (base, top) = (random.bytes(3000), random.bytes(300 << 10));
    let config = random.bytes(100);
    let digest = pusher.blob(&repository, &base).await?;
    pusher.chunked(&repository, &top, 100 << 10).await?;
    pusher.blob(&repository, &config).await?;
    let image = image_manifest(&config, &[&base, &top]);
    pusher.manifest(&repository, &image, Some("1")).await?;
    pusher.manifest(&repository, &image, Some("2")).await?;
    pusher.mount(&other, &digest, &repository).await?;
    let second = pusher.image(&other, &random.bytes(50), &[&base], Some("1")).await?;
    pusher.begin_upload(&other, &top, 200 << 10, 100 << 10).await?;
    pusher.untag(&repository, "2").await?;
    pusher.delete_manifest(&other, &second.digest, &["1"], &[]).await?;
    let lone = pusher.blob(&other, &random.bytes(70)).await?;
    pusher.delete_blob(&other, &lone).await
}

/// A refusal has to be one that a client understands: a server error in the specification's form, and "full" when it is full.
///
/// SQLite has only one word for all that can befall a sync or shared memory, so that a full disk may then be told as a broken one.
fn assert_clear(refused: &Refused, fault: &Fault) {
    let broken = refused.status == 500 && refused.code.as_deref() == Some("UNKNOWN");
    let clear = broken || (fault.error == Error::Full && is_full(refused));
    assert!(clear, "{fault:?} was answered with {refused}");
}

fn is_full(refused: &Refused) -> bool {
    refused.status == 507 && refused.code.as_deref() == Some("UNAVAILABLE")
}

/// How often an operation failed, how many requests were refused, and how many of them because the disk is full.
#[derive(Clone, Copy, Debug, Default)]
struct Injuries {
    failed: u64,
    refused: u64,
    full: u64,
}

/// Lets each of the operations that a scenario needs fail once.
fn injure_each(
    recorder: &Recorder,
    pusher: &Pusher,
    runtime: &Runtime,
    next: &mut u64,
    mut fault: Fault,
    most: u64,
) -> Injuries {
    let mut run = |fault: Fault| {
        *next += 1;
        recorder.injure(&fault);
        let outcome = runtime.block_on(scenario(pusher, *next));
        (outcome, recorder.heal())
    };
    let (outcome, (seen, _)) = run(Fault { nth: u64::MAX, ..fault });
    outcome.unwrap_or_else(|refused| panic!("without a fault: {refused}"));
    assert!(seen > 0, "{fault:?}: nothing of the kind is ever done");
    let stride = seen.div_ceil(most);
    let mut injuries = Injuries::default();
    for nth in (1..=seen).step_by(usize::try_from(stride).expect("a stride is small")) {
        fault.nth = nth;
        let (outcome, (_, fired)) = run(fault);
        injuries.failed += fired;
        if let Err(refused) = outcome {
            assert_clear(&refused, &fault);
            injuries.refused += 1;
            injuries.full += u64::from(is_full(&refused));
        }
    }
    let (outcome, _) = run(Fault { nth: u64::MAX, ..fault });
    outcome.unwrap_or_else(|refused| panic!("after {fault:?}: {refused}"));
    injuries
}

/// Looks at a copy of the data folder as a crash left it.
fn look(runtime: &Runtime, data: &Path, expectations: &Expectations, pusher: &Pusher) {
    let outcome = runtime.block_on(check(data, expectations, &pusher.uploads(), now(data)));
    outcome.unwrap_or_else(|problem| panic!("{problem}"));
}

fn now(data: &Path) -> Timestamp {
    let modified = fs::metadata(data).and_then(|data| data.modified()).expect("the data folder is there");
    let seconds = modified.duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970").as_secs();
    Timestamp::from_unix_seconds(i64::try_from(seconds).expect("a time fits"))
}

#[test]
fn each_operation_fails_once_and_nothing_acknowledged_is_lost() {
    let folder = fast_folder();
    let recorder = Recorder::new(folder.path());
    let runtime = runtime();
    let mut server = recorder.start_unrecorded(&[]);
    let enabled = enable_admin(&server);
    let pusher = Pusher::new(enabled.client.clone(), Arc::new(History::new(None)));
    let mut number = 0;
    for (kinds, error) in [
        (&[FaultKind::Write][..], Error::Full),
        (&[FaultKind::Write], Error::Broken),
        (&[FaultKind::Sync], Error::Broken),
        (&[FaultKind::Sync], Error::Full),
        (&[FaultKind::Create], Error::Full),
        (&[FaultKind::Unlink], Error::Broken),
    ] {
        let fault = Fault { half: error == Error::Full, ..Fault::once(kinds, 1, error) };
        let injuries = injure_each(&recorder, &pusher, &runtime, &mut number, fault, MOST_FAULTS);
        println!("{kinds:?} {error:?}: {injuries:?}");
        assert!(injuries.failed > 0, "{fault:?} never happened");
        // A blob file that cannot be removed is left to the next start.
        assert!(injuries.refused > 0 || kinds == [FaultKind::Unlink], "{fault:?} was never told");
        let tells = error == Error::Full && kinds != [FaultKind::Sync];
        assert!(injuries.full > injuries.refused / 2 || !tells, "{fault:?} is not told as a full disk: {injuries:?}");
    }
    server.crash();
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    look(&runtime, &recorder.data(), &pusher.history().expectations(), &pusher);
}

/// After a failed sync the kernel takes what was to be synced for clean: another sync says "done" and does nothing. The image
/// loses those bytes for good, so that a server that tried again would lose what it acknowledges then.
#[test]
fn a_failed_sync_is_never_taken_for_a_late_one() {
    let folder = fast_folder();
    let recorder = Arc::new(Recorder::new(folder.path()));
    let history = Arc::new(History::new(Some(Arc::clone(&recorder))));
    let runtime = runtime();
    let mut server = recorder.start(&[]);
    let enabled = enable_admin(&server);
    let pusher = Pusher::new(enabled.client.clone(), Arc::clone(&history));
    let mut number = 0;
    let fault = Fault::once(&[FaultKind::Sync], 1, Error::Broken);
    let failed = injure_each(&recorder, &pusher, &runtime, &mut number, fault, MOST_FAILED_SYNCS).failed;
    server.crash();

    let (mut image, mut expectations) = (DiskImage::new(), Expectations::default());
    let (mut since_failure, mut tried, now) = (usize::MAX, 0, now(&recorder.data()));
    let effects = recorder.effects();
    for (point, effect) in effects.iter().enumerate() {
        // The failure itself, and what is acknowledged soon after it.
        let is_sync =
            matches!(effect, Effect::Sync { path, .. } | Effect::SyncFailed { path, .. } if !path.contains("audit.db"));
        if is_sync && since_failure < 4 {
            since_failure += 1;
            for (number, end) in [End::PowerCut, End::TornPowerCut(SEED ^ point as u64)].into_iter().enumerate() {
                let target = folder.path().join(format!("{point}-{number}"));
                fs::create_dir(&target).expect("a folder for a crash can be made");
                image.write_to(&target, end);
                let outcome = runtime.block_on(check(&target.join("data"), &expectations, &pusher.uploads(), now));
                outcome.unwrap_or_else(|problem| panic!("{end:?} before effect {point}\n{problem}"));
                fs::remove_dir_all(&target).expect("the folder of a crash can be removed");
                tried += 1;
            }
        }
        match effect {
            Effect::Mark(mark) => history.replay(&mut expectations, *mark),
            effect => image.apply(effect),
        }
        if matches!(effect, Effect::SyncFailed { .. }) {
            since_failure = 0;
        }
    }
    println!("{failed} syncs failed, {tried} power cuts soon after them");
    assert!(tried > 20, "{tried} power cuts");
}

#[test]
fn a_first_start_that_fails_leaves_nothing_in_the_way_of_the_next() {
    let folder = fast_folder();
    let recorder = Recorder::new(folder.path());
    let (mut failed, mut started) = (0, 0);
    for (kinds, nths, error) in [
        (&[FaultKind::Sync][..], (1..=12).collect::<Vec<_>>(), Error::Broken),
        (&[FaultKind::Rename], vec![1, 2, 3], Error::Broken),
        (&[FaultKind::Create], vec![1, 2, 3, 100, 259, 260, 261, 262, 263, 264], Error::Full),
        (&[FaultKind::Write], vec![1, 2, 3, 5, 9, 17, 33, 65, 100, 150], Error::Full),
    ] {
        for nth in nths {
            recorder.injure(&Fault::once(kinds, nth, error));
            let first = catch_unwind(AssertUnwindSafe(|| recorder.start_unrecorded(&[])));
            recorder.heal();
            match first {
                // What failed was not needed, or is done again.
                Ok(mut server) => {
                    server.crash();
                    started += 1;
                }
                Err(failure) => {
                    let text = failure.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
                    assert!(text.contains("ended before it was ready"), "{kinds:?} {nth}: {text}");
                    assert!(!text.contains("panicked"), "{kinds:?} {nth}: {text}");
                    failed += 1;
                }
            }
            let server = recorder.start_unrecorded(&[]);
            Admin::of(&server);
            drop(server);
            fs::remove_dir_all(recorder.data()).expect("the data folder can be removed");
        }
    }
    println!("{failed} first starts failed, {started} went on");
    assert!(failed > 10, "only {failed} first starts failed");
}

/// What is on a disk that only the server sees.
fn listing(server: &Server, disk: &Path) -> String {
    let disk = format!("/proc/{}/root{}", server.process_id(), disk.display());
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("the tool is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("df", &["-k", &disk]) + &run("find", &[&disk, "-type", "f", "-printf", "%k KiB %P\n"])
}

#[test]
fn a_full_disk_refuses_pushes_and_nothing_else() {
    const IMAGE_BYTES: usize = 512 << 10;
    const BALLAST_BYTES: usize = 1 << 20;
    let scratch = Scratch::new();
    let disk = scratch.join("disk");
    fs::create_dir(&disk).expect("the folder is new");
    let config = "[limits]\ncollection_grace_seconds = 10\ncollection_interval_seconds = 1\n";
    let config = scratch.write("postern.toml", config);
    let server = Server::start_on_small_disk(&disk, 16, &["--config", config.to_str().expect("the path is text")]);
    // The disk is mounted for the server alone. This is what somebody can take away when nothing else fits on it.
    let ballast = PathBuf::from(format!("/proc/{}/root{}/ballast", server.process_id(), disk.display()));
    fs::write(&ballast, vec![0; BALLAST_BYTES]).expect("the disk is empty yet");
    let runtime = runtime();
    let enabled = enable_admin(&server);
    let pusher = Pusher::new(enabled.client.clone(), Arc::new(History::new(None)));
    let random = Seeded::new(SEED);
    let mut pushed = Vec::new();
    let refused = loop {
        assert!(pushed.len() < 100, "the disk never gets full");
        let repository = if pushed.len() % 2 == 0 { "kept" } else { "doomed" };
        let tag = pushed.len().to_string();
        match runtime.block_on(pusher.image(repository, &random.bytes(100), &[&random.bytes(IMAGE_BYTES)], Some(&tag)))
        {
            Ok(image) => pushed.push((repository, image)),
            Err(refused) => break refused,
        }
    };
    assert!(is_full(&refused), "{refused}");
    // Also one after the other, and in pieces. A few find the room that the databases' logs gave back.
    let mut refusals = 0;
    for _ in 0..20 {
        let large = random.bytes(2 * IMAGE_BYTES);
        if let Err(refused) = runtime.block_on(pusher.chunked("more", &large, IMAGE_BYTES)) {
            assert_eq!(refused.status, 507, "{refused}");
            refusals += 1;
        }
    }
    assert!(refusals >= 10, "{refusals} pushes refused on a full disk");
    let pull = |repository: &str, digest: &str| {
        let answer = runtime.block_on(pusher.client.get(&format!("/v2/{repository}/manifests/{digest}")));
        answer.map(|answer| answer.status).expect("the server answers")
    };
    for (repository, image) in &pushed {
        assert_eq!(pull(repository, &image.digest), 200);
    }
    // Deleting takes a little room before it frees any.
    fs::remove_file(&ballast).expect("the ballast is there");
    let started = Instant::now();
    while let Err(refused) = runtime.block_on(pusher.delete_repository("doomed")) {
        assert!(is_full(&refused) && started.elapsed() < PATIENCE, "nothing can be deleted: {refused}");
    }
    while let Err(refused) = runtime.block_on(pusher.image("more", b"{}", &[&random.bytes(3 * IMAGE_BYTES)], Some("1")))
    {
        assert!(
            started.elapsed() < PATIENCE,
            "deleting frees nothing: {refused}\n{}\n{}",
            listing(&server, &disk),
            server.log()
        );
    }
    for (key, fates) in pusher.history().expectations().all() {
        if let (Key::Manifest(repository, digest), [Fate::Is(_)]) = (key, fates.as_slice()) {
            assert_eq!(pull(repository, digest), 200, "{key:?}");
        }
    }
    println!("{} images filled the disk", pushed.len());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
