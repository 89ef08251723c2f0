use super::*;

/// What is left of a class of requests.
fn left(answer: &Answer, class: &str) -> Option<String> {
    let name = format!("x-ms-ratelimit-remaining-{class}");
    answer.headers.get(&name).map(|value| value.to_str().unwrap().to_owned())
}

fn retry_after(answer: &Answer) -> Option<&str> {
    answer.headers.get("retry-after").map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_principal_has_so_many_requests_of_a_subscription() {
    // Of the documented 250 reads and 25 more a second: two, and one every four seconds.
    let bench = Bench::limited(RequestLimiter::new(1)).await;
    let path = registry("myregistry");
    let reads = "subscription-reads";
    assert_eq!(left(&bench.get(&path).await, reads).as_deref(), Some("1"), "a resource that is not there counts, too");
    assert_eq!(left(&bench.get(GROUP).await, reads).as_deref(), Some("0"));
    let refused = bench.get(GROUP).await;
    assert_eq!((refused.short().as_str(), retry_after(&refused)), ("429 SubscriptionRequestsThrottled", Some("4")));
    let message = refused.at("/error/message");
    assert!(message.as_str().unwrap().starts_with("Number of 'read' requests for subscription '"), "{message}");
    assert!(message.as_str().unwrap().contains("after '4' seconds"), "{message}");
    assert_eq!(left(&refused, reads), None);
    assert_eq!(bench.send(Who::Owner, "HEAD", GROUP, None).await.status, 429);

    // Other classes, scopes and principals have their own.
    let put = bench.put(&path, premium(json!({}))).await;
    assert_eq!((put.status, left(&put, "subscription-writes").as_deref()), (201, Some("1")));
    assert_eq!(left(&bench.delete(&path).await, "subscription-deletes").as_deref(), Some("1"));
    assert_eq!(left(&bench.get("/tenants").await, "tenant-reads").as_deref(), Some("1"));
    assert_eq!(bench.get("/subscriptions").await.status, 200);
    assert_eq!(bench.get("/tenants").await.short(), "429 TooManyRequests");
    assert_eq!(bench.send(Who::Reader, "GET", GROUP, None).await.status, 200, "another's are theirs");

    bench.clock.0.fetch_add(3, Ordering::SeqCst);
    assert_eq!(retry_after(&bench.get(GROUP).await), Some("1"));
    bench.clock.0.fetch_add(1, Ordering::SeqCst);
    assert_eq!(bench.get(GROUP).await.status, 200);
}

#[tokio::test]
async fn who_is_not_known_takes_nobodys_requests() {
    let bench = Bench::limited(RequestLimiter::new(1)).await;
    for _ in 0..20 {
        let request = Request::get(format!("{GROUP}?api-version=2025-11-01")).body(Body::empty()).unwrap();
        assert_eq!(bench.request(request).await.status, 401);
    }
    assert_eq!(bench.get(GROUP).await.status, 200);
}

#[tokio::test]
async fn without_a_limiter_nothing_is_counted() {
    let bench = Bench::new().await;
    let answer = bench.get(GROUP).await;
    assert_eq!((answer.status, left(&answer, "subscription-reads")), (200, None));
}
