use serde_json::json;

use super::{Fate, Key, Pusher, Refused, Seeded, image_manifest, index_manifest, referrer_manifest};
use crate::registry::RegistryClient;
use crate::{Admin, Server};

/// Bytes of a layer large enough to be written in several batches.
const LARGE_LAYER_BYTES: usize = 300 << 10;

/// The first registry with its admin user on.
pub struct Enabled {
    /// A client logged in as that user.
    pub client: RegistryClient,
    /// The registry's id.
    pub registry: String,
    /// The user's two passwords.
    pub passwords: Vec<(String, String)>,
}

/// Turns the admin user of the first registry on and logs in as it.
pub fn enable_admin(server: &Server) -> Enabled {
    let admin = Admin::of(server);
    let registry = admin.first_registry();
    admin.update(&registry, &json!({"adminUserEnabled": true}));
    let listed = admin.send("POST", &format!("{registry}/listCredentials"), Some(&json!({})));
    let passwords: Vec<(String, String)> = listed["passwords"]
        .as_array()
        .expect("a list of passwords")
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
            (text("name"), text("value"))
        })
        .collect();
    let client = RegistryClient::new(server.address(), "postern", &passwords[0].1);
    Enabled { client, registry, passwords }
}

/// What a registry lives through, one request after the other where they touch the same things.
///
/// # Errors
/// The first request that was not answered as it should.
pub async fn first_run(pusher: &Pusher, server: &Server, enabled: &Enabled, seed: u64) -> Result<(), Refused> {
    let history = pusher.history();
    history.note(vec![(Key::Bootstrap, Fate::Is(server.bootstrap().client_secret.clone()))]);
    history.note(vec![(Key::Resource(enabled.registry.clone()), Fate::Is("adminUserEnabled\":true".into()))]);
    for (slot, password) in &enabled.passwords {
        history.note(vec![(Key::Password(slot.clone()), Fate::Is(password.clone()))]);
    }
    // Three clients at once, so that what the server does together is torn apart together.
    let several = ["one", "two", "three"].map(|repository| {
        let (pusher, random) = (pusher.clone(), Seeded::new(seed ^ repository.len() as u64));
        tokio::spawn(async move { images(&pusher, repository, &random).await })
    });
    for task in several {
        task.await.expect("the task does not panic")?;
    }
    let random = Seeded::new(seed);
    uploads(pusher, &random).await?;
    graph(pusher, &random).await?;
    resources(pusher, server, enabled);
    removals(pusher, &random).await
}

async fn images(pusher: &Pusher, repository: &str, random: &Seeded) -> Result<(), Refused> {
    let (base, config) = (random.bytes(3000), random.bytes(120));
    let first = pusher.image(repository, &config, &[&base], Some("latest")).await?;
    let top = random.bytes(5000);
    let second = pusher.image(repository, &random.bytes(130), &[&base, &top], Some("latest")).await?;
    pusher.manifest(repository, &first, Some("old")).await?;
    pusher.manifest(repository, &second, Some("new")).await?;
    // The same content again changes nothing.
    pusher.image(repository, &config, &[&base], Some("old")).await?;
    pusher.untag(repository, "old").await?;
    pusher.manifest(repository, &first, Some("latest")).await
}

async fn uploads(pusher: &Pusher, random: &Seeded) -> Result<(), Refused> {
    let large = random.bytes(LARGE_LAYER_BYTES);
    let whole = pusher.chunked("uploads", &large, 130 << 10).await?;
    let other = pusher.chunked("uploads", &random.bytes(9000), 2500).await?;
    // Content that is there already arrives once more, in pieces.
    pusher.chunked("copies", &large, 280 << 10).await?;
    pusher.mount("mounted", &whole, "uploads").await?;
    pusher.mount("mounted", &other, "uploads").await?;
    // These stay open.
    pusher.begin_upload("uploads", &random.bytes(9000), 6000, 2000).await?;
    pusher.begin_upload("uploads", &random.bytes(280 << 10), 270 << 10, 270 << 10).await?;
    pusher.begin_upload("uploads", &random.bytes(100), 0, 1).await?;
    let config = random.bytes(99);
    pusher.blob("mounted", &config).await?;
    pusher.manifest("mounted", &image_manifest(&config, &[&large]), Some("1")).await
}

async fn graph(pusher: &Pusher, random: &Seeded) -> Result<(), Refused> {
    let (amd, arm) = (random.bytes(1000), random.bytes(1001));
    let shared = random.bytes(2000);
    let amd = pusher.image("graph", &amd, &[&shared], None).await?;
    let arm = pusher.image("graph", &arm, &[&shared], None).await?;
    let index = index_manifest(&[&amd, &arm]);
    pusher.manifest("graph", &index, Some("multi")).await?;
    let config = b"{}".to_vec();
    pusher.blob("graph", &config).await?;
    let signature = referrer_manifest(&index, &config);
    pusher.manifest("graph", &signature, None).await?;
    let of_signature = referrer_manifest(&signature, &config);
    pusher.manifest("graph", &of_signature, None).await?;
    pusher.untag("graph", "multi").await?;
    // A subject goes with what refers to it; the children of an index stay.
    let doomed = pusher.image("graph", &random.bytes(40), &[&shared], Some("doomed")).await?;
    let signature = referrer_manifest(&doomed, &config);
    pusher.manifest("graph", &signature, Some("doomed.sig")).await?;
    pusher.delete_manifest("graph", &doomed.digest, &["doomed", "doomed.sig"], &[&signature.digest]).await
}

fn resources(pusher: &Pusher, server: &Server, enabled: &Enabled) {
    let (admin, history) = (Admin::of(server), pusher.history());
    let token = format!("{}/tokens/robot", enabled.registry);
    let scope_map = format!("{}/scopeMaps/robots", enabled.registry);
    let key = |id: &str| Key::Resource(id.to_owned());
    let put = |id: &str, sign: &str, body: serde_json::Value| {
        let number = history.begin(vec![(key(id), Fate::Is(sign.to_owned()))]);
        admin.send("PUT", id, Some(&body));
        history.acknowledge(number);
    };
    let actions = json!({"properties": {"actions": ["repositories/one/content/read"]}});
    put(&scope_map, "repositories/one/content/read", actions);
    put(&token, "robots", json!({"properties": {"scopeMapId": scope_map, "status": "enabled"}}));
    let actions = json!({"properties": {"actions": ["repositories/two/content/read"]}});
    put(&scope_map, "repositories/two/content/read", actions);
    let number = history.begin(vec![(key(&token), Fate::Gone)]);
    admin.send("DELETE", &token, None);
    history.acknowledge(number);
    // The old password is gone as soon as the new one holds.
    let number = history.begin(vec![(Key::Password("password2".into()), Fate::Free)]);
    let renewed =
        admin.send("POST", &format!("{}/regenerateCredential", enabled.registry), Some(&json!({"name": "password2"})));
    let fresh = renewed["passwords"].as_array().and_then(|all| all.iter().find(|entry| entry["name"] == "password2"));
    let fresh = fresh.and_then(|entry| entry["value"].as_str()).expect("the new password is shown").to_owned();
    history.acknowledge(number);
    history.note(vec![(Key::Password("password2".into()), Fate::Is(fresh))]);
}

async fn removals(pusher: &Pusher, random: &Seeded) -> Result<(), Refused> {
    let lone = pusher.blob("one", &random.bytes(777)).await?;
    pusher.delete_blob("one", &lone).await?;
    let shared = random.bytes(4321);
    let digest = pusher.blob("one", &shared).await?;
    pusher.mount("two", &digest, "one").await?;
    pusher.delete_blob("one", &digest).await?;
    let doomed = pusher.image("doomed", &random.bytes(50), &[&shared, &random.bytes(60)], Some("1")).await?;
    pusher.manifest("doomed", &doomed, Some("2")).await?;
    pusher.delete_manifest("doomed", &doomed.digest, &["1", "2"], &[]).await?;
    pusher.image("doomed", &random.bytes(51), &[&shared], Some("1")).await?;
    pusher.image("doomed", &random.bytes(52), &[&shared], Some("2")).await?;
    pusher.delete_repository("doomed").await?;
    // Nothing ever refers to these.
    for length in [10, 20_000] {
        let digest = pusher.blob("two", &random.bytes(length)).await?;
        pusher.abandon_blob("two", &digest);
    }
    let digest = format!("sha256:{}", crate::image::sha256(&shared));
    pusher.abandon_blob("two", &digest);
    Ok(())
}

/// After a crash: the server collects at once, and takes content meanwhile.
///
/// # Errors
/// The first request that was not answered as it should.
pub async fn second_run(pusher: &Pusher, seed: u64) -> Result<(), Refused> {
    let random = Seeded::new(!seed);
    for round in 0..6 {
        let tag = format!("{round}");
        pusher.image("later", &random.bytes(70), &[&random.bytes(600)], Some(&tag)).await?;
    }
    pusher.untag("later", "3").await
}

/// Before a start that collects: what no manifest needs may go. What manifests need is looked at through them.
pub fn expect_collection(pusher: &Pusher) {
    let expectations = pusher.history().expectations();
    let blobs = expectations.all().filter(|(key, _)| matches!(key, Key::Blob(..)));
    pusher.history().note(blobs.map(|(key, _)| (key.clone(), Fate::Free)).collect());
}
