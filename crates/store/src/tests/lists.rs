use postern_access::OperationKind;
use postern_model::Tag;

use super::{Bench, assert_err, permit, tags_of};
use crate::{AttributeChange, Missing, Order, Page, PageRequest, StoreError, TagInfo};

const HIDDEN: AttributeChange =
    AttributeChange { list_enabled: Some(false), delete_enabled: None, write_enabled: None, read_enabled: None };

#[tokio::test]
async fn tags_in_byte_order_by_pages() {
    let bench = Bench::new().await;
    let tags = ["v1", "V1", "_x", "10", "9", "a-b", "a.b", "a_b", "hidden"];
    bench.push_image("app", &[b"one"], &tags).await;
    let hidden: Tag = "hidden".parse().unwrap();
    bench.open(OperationKind::WriteMetadata, "app").update_tag(&hidden, HIDDEN).await.unwrap();
    let list = bench.open(OperationKind::ListTags, "app");
    let sorted = ["10", "9", "V1", "_x", "a-b", "a.b", "a_b", "v1"];
    for limit in [1, 3, 8, 9, 100] {
        let (mut all, mut last, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = list.tag_names(last.as_deref(), limit).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            all.extend(page.items.clone());
            pages += 1;
            last.clone_from(&page.next);
            if last.is_none() {
                break;
            }
        }
        assert_eq!(all, tags_of(&sorted));
        assert_eq!(pages, 8_u32.div_ceil(limit));
    }
    assert_eq!(*list.tag_names(None, 0).await.unwrap(), Page { items: vec![], next: None });
    assert_eq!(list.tag_names(Some("a"), 1).await.unwrap().items, tags_of(&["a-b"]));
    assert_eq!(list.tag_names(Some("zz"), 1).await.unwrap().items, []);
    let nowhere = bench.open(OperationKind::ListTags, "nowhere");
    assert_err!(nowhere.tag_names(None, 1).await, StoreError::NotFound(Missing::Repository));
}

#[tokio::test]
async fn a_list_of_tags_is_that_of_the_moment() {
    let bench = Bench::new().await;
    let list = bench.open(OperationKind::ListTags, "app");
    let names = async || (list.tag_names(None, 9).await.unwrap().items.clone(), list.tag_names(Some("a"), 1).await);
    let check = async |tags: &[&str]| {
        for _ in 0..2 {
            let (all, page) = names().await;
            assert_eq!(all, tags_of(tags));
            assert_eq!(
                page.unwrap().items,
                tags_of(&tags.iter().copied().filter(|&tag| tag > "a").take(1).collect::<Vec<_>>())
            );
        }
    };
    bench.push_image("app", &[b"one"], &["a", "c"]).await;
    check(&["a", "c"]).await;
    bench.push_image("app", &[b"two"], &["b"]).await;
    check(&["a", "b", "c"]).await;
    let b: Tag = "b".parse().unwrap();
    bench.open(OperationKind::WriteMetadata, "app").update_tag(&b, HIDDEN).await.unwrap();
    check(&["a", "c"]).await;
    bench.open(OperationKind::Untag, "app").untag(&"c".parse().unwrap()).await.unwrap();
    check(&["a"]).await;
    bench.open(OperationKind::DeleteRepository, "app").delete_repository().await.unwrap();
    assert_err!(list.tag_names(None, 9).await, StoreError::NotFound(Missing::Repository));
}

#[tokio::test]
async fn the_catalog_shows_a_registry_its_own() {
    let bench = Bench::new().await;
    let catalog = bench.store.catalog(&permit(1, OperationKind::ListCatalog, "")).unwrap();
    let mut digests = Vec::new();
    for name in ["b", "a/b", "a-b", "a", "hidden"] {
        digests.push(bench.push_image(name, &[b"one"], &["t"]).await);
    }
    bench.open(OperationKind::WriteMetadata, "hidden").update(HIDDEN).await.unwrap();
    let names =
        |page: Page<postern_model::RepositoryName>| page.items.iter().map(ToString::to_string).collect::<Vec<_>>();
    let page = catalog.page(None, 3).await.unwrap();
    assert_eq!(page.next.as_deref(), Some("a/b"));
    assert_eq!(names(page), ["a", "a-b", "a/b"]);
    assert_eq!(names(catalog.page(Some("a/b"), 3).await.unwrap()), ["b"]);
    let other = bench.store.catalog(&permit(2, OperationKind::ListCatalog, "")).unwrap();
    assert_eq!(other.page(None, 3).await.unwrap().items, []);
    assert_err!(bench.store.catalog(&permit(1, OperationKind::Ping, "a")), StoreError::NotPermitted(_));

    bench.open(OperationKind::DeleteManifest, "a").delete_manifest(&digests[3]).await.unwrap();
    assert_eq!(names(catalog.page(None, 1).await.unwrap()), ["a-b"]);
}

#[tokio::test]
async fn descriptions_by_last_update() {
    let bench = Bench::new().await;
    let one = bench.push_image("app", &[b"one"], &["c", "a"]).await;
    let two = bench.push_image("app", &[b"two"], &["b"]).await;
    bench.push_image("app", &[b"two"], &["d"]).await;
    let write = bench.open(OperationKind::WriteMetadata, "app");
    let locked = AttributeChange { delete_enabled: Some(false), ..AttributeChange::default() };
    write.update_tag(&"a".parse().unwrap(), locked).await.unwrap();

    let read = bench.open(OperationKind::ReadMetadata, "app");
    let names = |page: &Page<TagInfo>| page.items.iter().map(|tag| tag.name.to_string()).collect::<String>();
    for (order, expected) in [(Order::Name, "abcd"), (Order::NewestFirst, "adbc"), (Order::OldestFirst, "cbda")] {
        let (mut all, mut last) = (String::new(), None);
        loop {
            let page = read.tag_infos(None, &PageRequest { last, limit: 1, order }).await.unwrap();
            all += &names(&page);
            last = page.next;
            if last.is_none() {
                break;
            }
        }
        assert_eq!(all, expected);
    }
    let page = PageRequest { last: Some("d".into()), limit: 10, order: Order::NewestFirst };
    assert_eq!(names(&read.tag_infos(None, &page).await.unwrap()), "bc");
    let page = PageRequest { last: Some("gone".into()), ..page };
    assert_err!(read.tag_infos(None, &page).await, StoreError::BadCursor);

    let page = PageRequest { limit: 10, ..PageRequest::default() };
    assert_eq!(names(&read.tag_infos(Some(&one), &page).await.unwrap()), "ac");
    assert!(!read.tag_info(&"a".parse().unwrap()).await.unwrap().attributes.delete_enabled);
    assert_err!(read.tag_info(&"x".parse().unwrap()).await, StoreError::NotFound(Missing::Tag));
    let manifests = read.manifest_infos(&PageRequest { order: Order::OldestFirst, ..page }).await.unwrap().items;
    let described: Vec<_> = manifests.into_iter().map(|manifest| (manifest.digest, manifest.tags)).collect();
    assert_eq!(described, [(one, tags_of(&["a", "c"])), (two, tags_of(&["b", "d"]))]);
    let info = read.info().await.unwrap();
    assert_eq!((info.manifest_count, info.tag_count), (2, 4));
    assert!(info.created < info.updated);
    write.update_manifest(&two, HIDDEN).await.unwrap();
    assert_eq!(read.manifest_infos(&PageRequest { limit: 10, ..PageRequest::default() }).await.unwrap().items.len(), 1);
}
