use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use postern_model::{Clock, Random, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{Missing, StoreOptions};

struct Fixed(AtomicI64, AtomicU64);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

impl Random for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = u8::try_from(self.1.fetch_add(7, Ordering::SeqCst) % 251).unwrap();
        }
    }
}

const GROUP: &str = "/subscriptions/s/resourceGroups/g";
const REGISTRY: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/Reg01";
const PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

async fn directory(folder: &TempDir) -> Directory {
    let environment = Arc::new(Fixed(AtomicI64::new(1), AtomicU64::new(1)));
    let store =
        Store::open(StoreOptions::new(folder.path().join("data"), Arc::clone(&environment) as _, environment)).await;
    let options = DirectoryOptions {
        settings: Arc::default(),
        suffix: "azurecr.io.localhost:8443".into(),
        default_registry: None,
    };
    Directory::open(&store.unwrap(), options).await.unwrap()
}

async fn put(directory: &Directory, path: &str, document: Value) -> Arc<Resource> {
    let Value::Object(document) = document else { panic!() };
    directory.put(id(path), document, Expected::Any).await.unwrap().0
}

fn premium(properties: Value) -> Value {
    json!({"location": "eastus", "sku": {"name": "Premium"}, "properties": properties})
}

#[tokio::test]
async fn hosts_lead_to_registries() {
    let folder = TempDir::new().unwrap();
    let directory = directory(&folder).await;
    assert!(directory.registry_by_host("localhost:8443").is_none());
    put(&directory, REGISTRY, premium(json!({}))).await;
    for host in [
        "reg01.azurecr.io.localhost",
        "REG01.azurecr.io.localhost:8443",
        "reg01.azurecr.io.localhost.",
        "localhost",
        "localhost:5000",
        "127.0.0.1:5000",
        "[::1]:5000",
        "reg01.eastus.data.azurecr.io.localhost",
    ] {
        assert_eq!(directory.registry_by_host(host).map(|rules| rules.id.clone()), Some(id(REGISTRY)), "{host}");
    }
    for host in ["", "reg01", "reg02.azurecr.io.localhost", "reg01.azurecr.io", "azurecr.io.localhost", "198.51.100.7"]
    {
        assert!(directory.registry_by_host(host).is_none(), "{host}");
    }
    put(&directory, &REGISTRY.replace("Reg01", "Reg02"), premium(json!({}))).await;
    assert!(directory.registry_by_host("localhost").is_none(), "which of the two?");
    // The same name in another group: it leads to neither.
    put(&directory, &REGISTRY.replace("Groups/g/", "Groups/h/"), premium(json!({}))).await;
    assert!(directory.registry_by_host("reg01.azurecr.io.localhost").is_none());
}

#[tokio::test]
async fn changes_hold_from_the_next_request() {
    let folder = TempDir::new().unwrap();
    let directory = directory(&folder).await;
    let other = REGISTRY.replace("Reg01", "Reg02");
    put(&directory, REGISTRY, premium(json!({}))).await;
    put(&directory, &other, premium(json!({}))).await;
    let rules = |path: &str| directory.registry_by_id(&id(path)).unwrap();
    let (first, second) = (rules(REGISTRY), rules(&other));
    assert!(Arc::ptr_eq(&first, &rules(REGISTRY)), "compiled once");

    put(
        &directory,
        REGISTRY,
        premium(json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}})),
    )
    .await;
    let changed = rules(REGISTRY);
    assert!(changed.network.addresses.find(Ipv4Addr::new(198, 51, 100, 7)).is_some());
    assert_eq!((changed.uid, changed.generation), (first.uid, 3));
    assert!(Arc::ptr_eq(&second, &rules(&other)), "the other one was not touched");

    put(&directory, &format!("{REGISTRY}/tokens/tok01"), json!({})).await;
    assert!(rules(REGISTRY).tokens.contains_key("tok01"));
    assert!(Arc::ptr_eq(&second, &rules(&other)));

    let principal = PrincipalId(Uuid::from_u128(5));
    let assignment = format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(1));
    put(
        &directory,
        &assignment,
        json!({"properties": {"principalId": principal.to_string(), "roleDefinitionId": PULL}}),
    )
    .await;
    let grants = |path: &str| rules(path).grants.of(std::iter::once(principal)).count();
    assert_eq!((grants(REGISTRY), grants(&other)), (1, 1));
    directory.remove(id(&assignment), Expected::Any).await.unwrap();
    assert_eq!((grants(REGISTRY), grants(&other)), (0, 0));

    let before = rules(&other);
    directory.set_settings(Arc::default());
    assert!(!Arc::ptr_eq(&before, &rules(&other)));
}

#[tokio::test]
async fn removal_takes_what_is_below_and_a_new_one_inherits_nothing() {
    let folder = TempDir::new().unwrap();
    let directory = directory(&folder).await;
    let first = put(&directory, REGISTRY, premium(json!({}))).await;
    put(&directory, &format!("{REGISTRY}/tokens/tok01"), json!({})).await;
    put(&directory, &format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/a"), json!({})).await;
    let removed = directory.remove(id(&REGISTRY.to_lowercase()), Expected::Any).await.unwrap();
    assert_eq!(removed.len(), 3);
    assert_eq!(removed[0].uid, first.uid);
    assert!(directory.registry_by_host("reg01.azurecr.io.localhost").is_none());
    assert!(directory.remove(id(REGISTRY), Expected::Any).await.unwrap().is_empty());
    let second = put(&directory, REGISTRY, premium(json!({}))).await;
    assert_ne!(second.uid, first.uid);
    assert!(directory.registry_by_id(&id(REGISTRY)).unwrap().tokens.is_empty());
}

#[tokio::test]
async fn a_restart_finds_everything_again() {
    let folder = TempDir::new().unwrap();
    let first = directory(&folder).await;
    let stored = put(&first, REGISTRY, premium(json!({"future": {"kept": 1}}))).await;
    let generation = first.generation();
    first.0.store.close().await;
    drop(first);
    let second = directory(&folder).await;
    let found = second.resource(&id(&REGISTRY.to_uppercase())).unwrap();
    assert_eq!(
        (found.document(), found.uid, &found.etag, found.created),
        (stored.document(), stored.uid, &stored.etag, stored.created)
    );
    assert_eq!(found.id.as_str(), REGISTRY);
    assert_eq!(second.generation(), generation);
    assert_eq!(second.registry_by_host("localhost").unwrap().generation, generation);
}

#[tokio::test]
async fn expectations_and_plans() {
    let folder = TempDir::new().unwrap();
    let directory = directory(&folder).await;
    let first = put(&directory, REGISTRY, premium(json!({}))).await;
    let again = |expected| directory.put(id(&REGISTRY.to_lowercase()), Document::new(), expected);
    assert!(matches!(again(Expected::Absent).await, Err(StoreError::Conflict)));
    assert!(matches!(again(Expected::Etag("other".into())).await, Err(StoreError::Conflict)));
    let (second, created) = again(Expected::Etag(first.etag.clone())).await.unwrap();
    assert!(!created && second.etag != first.etag && second.created == first.created && second.updated > first.updated);
    assert_eq!(second.id.as_str(), REGISTRY, "keeps its spelling");
    let gone = directory.remove(id(GROUP), Expected::Etag("x".into())).await;
    assert!(matches!(gone, Err(StoreError::Conflict)));
    let refused = directory.change(|_| Err::<Vec<Change>, _>(StoreError::NotFound(Missing::Resource))).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))));
    // All or none.
    let both = |expected| {
        vec![
            Change::Put { id: id(GROUP), document: Document::new(), expected: Expected::Any },
            Change::Put { id: id(REGISTRY), document: Document::new(), expected },
        ]
    };
    assert!(directory.change(move |_| Ok::<_, StoreError>(both(Expected::Absent))).await.is_err());
    assert!(directory.resource(&id(GROUP)).is_none());
    let outcome = directory.change(move |_| Ok::<_, StoreError>(both(Expected::Any))).await.unwrap();
    assert_eq!(outcome.put.iter().map(|(_, created)| *created).collect::<Vec<_>>(), [true, false]);
    assert!(outcome.put.iter().all(|(resource, _)| resource.generation == outcome.generation));
}
