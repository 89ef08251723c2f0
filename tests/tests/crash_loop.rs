//! The real server, killed over and over in the middle of many pushes, always on the same folder.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test, also in what the tests share")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_model::Timestamp;
use postern_tests::disk::{History, Pusher, Refused, Seeded, check, enable_admin, fast_folder};
use postern_tests::registry::RegistryClient;
use postern_tests::{Scratch, Server};
use tokio::runtime::Runtime;

const ROUNDS: u64 = 6;
const CLIENTS: u64 = 4;
/// The server is killed after about so many images.
const IMAGES_PER_ROUND: u64 = 25;

/// Pushes, moves, deletes until the connection breaks; anything else that goes wrong is told.
async fn work(pusher: Pusher, repository: String, random: Seeded, done: Arc<AtomicUsize>) -> Refused {
    loop {
        let one = async {
            let (base, top) = (vec![7; 4000], random.bytes(20_000));
            pusher.blob(&repository, &base).await?;
            pusher.chunked(&repository, &top, 8000).await?;
            let first = pusher.image(&repository, &random.bytes(80), &[&base, &top], Some("latest")).await?;
            let second = pusher.image(&repository, &random.bytes(81), &[&base], Some("latest")).await?;
            pusher.manifest(&repository, &second, Some(&format!("t{}", random.below(8)))).await?;
            if random.flip() {
                pusher.delete_manifest(&repository, &first.digest, &[], &[]).await?;
            }
            pusher.begin_upload(&repository, &random.bytes(9000), 4000, 4000).await.map(|_| ())
        };
        if let Err(refused) = one.await {
            return refused;
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the target is new");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the entry has a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file can be copied");
        }
    }
}

#[test]
fn killed_in_the_middle_of_pushes_again_and_again() {
    let (scratch, copies) = (Scratch::new(), fast_folder());
    let data = scratch.join("data");
    let runtime = Runtime::new().expect("a runtime can be made");
    let history = Arc::new(History::new(None));
    let mut server = Server::start_in(&data, &[]);
    let enabled = enable_admin(&server);
    let pusher = Pusher::new(enabled.client.clone(), Arc::clone(&history));
    let (mut pushed, mut facts) = (0, 0);
    for round in 0..ROUNDS {
        let client = RegistryClient::new(server.address(), "postern", &enabled.passwords[0].1);
        let done = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client_number| {
                let random = Seeded::new(round << 32 | client_number << 16 | 1);
                let repository = format!("client-{client_number}");
                runtime.spawn(work(pusher.reconnected(client.clone()), repository, random, Arc::clone(&done)))
            })
            .collect();
        let enough =
            usize::try_from(IMAGES_PER_ROUND + Seeded::new(round).below(IMAGES_PER_ROUND)).expect("it is small");
        while done.load(Ordering::SeqCst) < enough && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        server.crash();
        for client in clients {
            let refused = runtime.block_on(client).expect("a client does not panic");
            assert_eq!(refused.status, 0, "{refused}\n{}", server.log());
        }
        pushed += done.load(Ordering::SeqCst);
        let copied = copies.path().join(round.to_string());
        copy(&data, &copied);
        let expectations = history.expectations();
        let modified =
            fs::metadata(data.join("metadata.db-wal")).and_then(|file| file.modified()).expect("the log is there");
        let seconds = modified.duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970").as_secs();
        let now = Timestamp::from_unix_seconds(i64::try_from(seconds).expect("a time fits"));
        let outcome = runtime.block_on(check(&copied, &expectations, &pusher.uploads(), now));
        facts += outcome.unwrap_or_else(|problem| panic!("round {round}:\n{problem}")).keys;
        fs::remove_dir_all(&copied).expect("the copy can be removed");
        server = Server::start_in(&data, &[]);
    }
    println!("{ROUNDS} kills, {pushed} rounds of pushes, {facts} facts checked");
}
