use super::{Bench, assert_err};
use crate::{Expected, Missing, ResourceChange, ResourceRow, Resources, StoreError};

pub(super) fn row(key: &str, document: &str, etag: &str) -> ResourceRow {
    ResourceRow {
        id_key: key.into(),
        id: key.to_uppercase(),
        uid: "u".into(),
        resource_type: "T/t".into(),
        document: document.into(),
        etag: etag.into(),
        generation: 0,
        created: 1,
        updated: 2,
    }
}

async fn all(resources: &Resources) -> (u64, Vec<ResourceRow>) {
    let mut rows = Vec::new();
    let generation = resources
        .each(|row| {
            rows.push(row);
            Ok(())
        })
        .await
        .unwrap();
    (generation, rows)
}

#[tokio::test]
async fn documents_have_generations() {
    let bench = Bench::new().await;
    let resources = bench.store.resources();
    assert_eq!(all(&resources).await, (0, vec![]));
    assert_eq!(resources.put(row("/a", "a1", "1"), Expected::Absent).await.unwrap(), 1);
    assert_err!(resources.put(row("/a", "a2", "2"), Expected::Absent).await, StoreError::Conflict);
    assert_err!(resources.put(row("/a", "a2", "2"), Expected::Etag("0".into())).await, StoreError::Conflict);
    let changes = vec![
        ResourceChange::Put(row("/a", "a2", "2"), Expected::Etag("1".into())),
        ResourceChange::Put(row("/b", "b1", "1"), Expected::Any),
    ];
    assert_eq!(resources.write(changes).await.unwrap(), 2);
    // All or nothing: the failing second change takes the first one along.
    let changes = vec![
        ResourceChange::Put(row("/c", "c1", "1"), Expected::Any),
        ResourceChange::Remove("/missing".into(), Expected::Any),
    ];
    assert_err!(resources.write(changes).await, StoreError::NotFound(Missing::Resource));
    assert_eq!(resources.remove("/b", Expected::Etag("1".into())).await.unwrap(), 3);
    drop(resources);

    let bench = bench.reopen().await;
    let resources = bench.store.resources();
    let expected = ResourceRow { generation: 2, ..row("/a", "a2", "2") };
    assert_eq!(all(&resources).await, (3, vec![expected]));
    let own =
        |rows: &[(&str, &str)]| rows.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect::<Vec<_>>();
    for (generation, rows) in [
        (0, own(&[])),
        (1, own(&[("/a", "a1")])),
        (2, own(&[("/a", "a2"), ("/b", "b1")])),
        (3, own(&[("/a", "a2")])),
        (99, own(&[("/a", "a2")])),
    ] {
        assert_eq!(resources.at_generation(generation).await.unwrap(), rows, "{generation}");
    }
}
