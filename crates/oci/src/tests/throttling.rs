use super::*;

/// A hundredth of what a Premium registry lets through in a minute.
async fn bench() -> Bench {
    let bench = Bench::with(Some(Arc::new(RequestLimiter::new(1)))).await;
    bench.set(&json!({})).await;
    bench
}

const SUBJECT: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn an_identity_has_half_of_a_registrys_requests() {
    let bench = bench().await;
    bench.push_image("app", "1", "layer", json!({})).await;
    bench.clock.0.fetch_add(60_000_000, Ordering::SeqCst);
    let referrers = format!("/v2/app/referrers/{SUBJECT}");
    let list = async |login: Option<(&str, &str)>| {
        let call = bench.request("GET", &referrers);
        let call = match login {
            Some((user, password)) => call.header("authorization", basic(user, password)),
            None => call.without("authorization"),
        };
        let answer = call.send().await;
        (answer.status.as_u16(), answer.header("retry-after").map(str::to_owned))
    };
    let admin = Some(("contoso", PASSWORD));
    // Nobody takes a turn who is not let in anyway.
    for _ in 0..30 {
        assert_eq!(list(None).await.0, 401);
        assert_eq!(list(Some(("contoso", "wrong"))).await.0 / 100, 4);
        bench.clock.0.fetch_add(60_000_000, Ordering::SeqCst);
    }
    for _ in 0..10 {
        assert_eq!(list(admin).await.0, 200);
    }
    assert_eq!(list(admin).await, (429, Some("6".into())), "ten a minute");
    let refused = bench.request("GET", &referrers).send().await;
    assert!(refused.text().contains("TOOMANYREQUESTS"), "{}", refused.text());
    let record = bench.record(&refused).await;
    assert_eq!(record["status"], 429, "{record}");
    // The token has ten of its own, and with them the registry's twenty are gone.
    for _ in 0..10 {
        assert_eq!(list(Some(("reader", PASSWORD))).await.0, 200);
    }
    let robot = ROBOT.1.to_string();
    assert_eq!(list(Some((&robot, PASSWORD))).await, (429, Some("3".into())), "twenty a minute by all");
    bench.clock.0.fetch_add(3_000_000, Ordering::SeqCst);
    assert_eq!(list(Some((&robot, PASSWORD))).await.0, 200);
    // Other classes are not touched.
    assert_eq!(bench.request("GET", "/v2/app/tags/list").send().await.status, 200);
}

#[tokio::test]
async fn a_smaller_tier_lets_less_through() {
    let bench = bench().await;
    let mut document = registry(&json!({}));
    document["sku"] = json!({"name": "Standard"});
    put(&bench.directory, CONTOSO, document).await;
    let referrers = format!("/v2/app/referrers/{SUBJECT}");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(bench.request("GET", &referrers).send().await.status.as_u16());
    }
    assert_eq!(statuses[2..], [429, 429], "two of five hundred by two and a hundred: {statuses:?}");
    // A hundredth of a hundred times a hundred requests for tokens.
    let mut allowed = 0;
    while bench.request("GET", "/oauth2/token?service=contoso.azurecr.io.localhost").send().await.status != 429 {
        allowed += 1;
        assert!(allowed <= 100);
    }
    assert_eq!(allowed, 100);
}
