use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

async fn refusal(outbound: &Outbound, text: &str) -> String {
    match outbound.get(&url(text), HeaderMap::new()).await {
        Ok(answer) => panic!("{text} was called: {}", answer.status()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn addresses_are_looked_at_after_names_are_resolved() {
    let outbound = Outbound::new(OutboundOptions::default()).unwrap();
    assert_eq!(
        refusal(&outbound, "https://localhost:1/").await.replace("::1", "127.0.0.1"),
        "`localhost` is not called: its address 127.0.0.1 is a loopback address"
    );
    assert!(refusal(&outbound, "https://[::1]:1/").await.ends_with("a loopback address"));
    assert!(refusal(&outbound, "https://2130706433/").await.ends_with("a loopback address"));
    assert!(refusal(&outbound, "https://169.254.169.254/").await.ends_with("a link-local address"));
    assert_eq!(
        refusal(&outbound, "http://198.51.100.1/").await,
        "`198.51.100.1` is not called: it is no HTTPS address"
    );
}
