use std::os::unix::fs::PermissionsExt;

use postern_model::Secret;

use super::{Bench, assert_err};
use crate::{Keep, Store, StoreError};

#[tokio::test]
async fn the_vault_opens_with_its_own_key_only() {
    let bench = Bench::new().await;
    let vault = bench.store.vault();
    vault.put("signing", b"key one").await.unwrap();
    assert!(!vault.put_new("signing", b"key two").await.unwrap());
    assert!(vault.put_new("other", b"key three").await.unwrap());
    drop(vault);
    let bench = bench.reopen().await;
    let vault = bench.store.vault();
    let opened = vault.get("signing").await.unwrap().unwrap();
    assert_eq!(opened.expose(), b"key one");
    assert_eq!(format!("{opened:?}"), "Unsealed(…)");
    assert_eq!(vault.names().await.unwrap(), ["other", "signing"]);
    assert_eq!(vault.get("absent").await.unwrap(), None);

    // Sealed bytes are bound to their name.
    let mut transaction = bench.store.inner().database.write().await.unwrap();
    sqlx::query(
        "UPDATE vault SET sealed = (SELECT sealed FROM vault WHERE name = 'vault:other') WHERE name = 'vault:signing'",
    )
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    assert_err!(vault.get("signing").await, StoreError::Corrupt(_));
    assert!(vault.remove("signing").await.unwrap());
    assert!(!vault.remove("signing").await.unwrap());

    // At rest neither the secret nor a world-readable key.
    let key = bench.path("master.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!bench.path("master.key.new").exists());
    bench.store.close().await;
    let database = std::fs::read(bench.path("metadata.db")).unwrap();
    assert!(!database.windows(9).any(|window| window == b"key three"));
    drop(vault);
    let Bench { store, options, folder: _folder, .. } = bench;
    drop(store);

    let right = std::fs::read_to_string(&key).unwrap();
    for (text, mode) in [("ab".repeat(32), 0o600), ("ab".repeat(31), 0o600), (right.clone(), 0o644)] {
        std::fs::write(&key, &text).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        match Store::open(options.clone()).await {
            Err(StoreError::WrongMasterKey | StoreError::BadMasterKey(_)) => {}
            other => panic!("{text} {mode:o}: {:?}", other.map(|_| ())),
        }
    }
    std::fs::remove_file(&key).unwrap();
    assert_err!(Store::open(options.clone()).await, StoreError::MasterKeyMissing);
    std::fs::write(&key, right).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    Store::open(options).await.unwrap();
}

#[tokio::test]
async fn a_folder_opens_once() {
    let bench = Bench::new().await;
    assert_err!(Store::open(bench.options.clone()).await, StoreError::FolderInUse);
    bench.reopen().await;
}

#[tokio::test]
async fn credentials_hold_until_they_expire_or_are_replaced() {
    let bench = Bench::new().await;
    let credentials = bench.store.credentials();
    let (one, two) = (Secret::new("one-secret"), Secret::new("two-secret"));
    let expires = bench.now().plus_seconds(60);
    credentials.put("app", "password1", &one, Keep::Revealable, None).await.unwrap();
    credentials.put("app", "password2", &two, Keep::Hashed, Some(expires)).await.unwrap();
    drop(credentials);

    let bench = bench.reopen().await;
    let credentials = bench.store.credentials();
    let now = bench.now();
    assert_eq!(credentials.verify("app", &one, now).as_deref(), Some("password1"));
    assert_eq!(credentials.verify("app", &two, now).as_deref(), Some("password2"));
    assert_eq!(credentials.verify("app", &two, expires), None);
    assert_eq!(credentials.verify("other", &one, now), None);
    assert_eq!(credentials.verify("app", &Secret::new(""), now), None);
    let listed: Vec<_> = credentials.list("app").into_iter().map(|info| (info.slot, info.revealable)).collect();
    assert_eq!(listed, [("password1".into(), true), ("password2".into(), false)]);
    assert_eq!(credentials.reveal("app", "password1").await.unwrap(), Some(one.clone()));
    assert_eq!(credentials.reveal("app", "password2").await.unwrap(), None);

    credentials.put("app", "password1", &two, Keep::Hashed, None).await.unwrap();
    assert_eq!(credentials.verify("app", &one, now), None);
    assert_eq!(credentials.verify("app", &two, expires).as_deref(), Some("password1"));
    assert!(credentials.remove("app", "password1").await.unwrap());
    assert!(!credentials.remove("app", "password1").await.unwrap());
    assert!(credentials.remove_owner("app").await.unwrap());
    assert_eq!(credentials.list("app"), []);
    assert_eq!(credentials.verify("app", &two, now), None);
}
