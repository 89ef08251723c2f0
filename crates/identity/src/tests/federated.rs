//! Programs that prove themselves with tokens of an issuer outside.

use http::{StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::logins::{assert_from, assert_with, text};
use super::provider::{KEYS, Key, METADATA, Provider};
use super::*;
use crate::OutsideOptions;

const SUBJECT: &str = "repo:octo/app:ref:refs/heads/main";
const AUDIENCE: &str = "api://AzureADTokenExchange";

fn claims(provider: &Provider) -> Value {
    json!({
        "iss": provider.url, "sub": SUBJECT, "aud": AUDIENCE, "jti": "1", "ref": "refs/heads/main",
        "iat": START - 5, "nbf": START - 5, "exp": START + 300,
    })
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut changed = claims.clone();
    changed[name] = value;
    changed
}

fn credential(provider: &Provider) -> Value {
    json!({"properties": {"issuer": provider.url, "subject": SUBJECT, "audiences": [AUDIENCE]}})
}

/// The bench, with federated credentials of the user-assigned identity and of the service principal's application.
async fn bench(provider: &Provider) -> Bench {
    let bench = Bench::with(TENANT, OutsideOptions { outbound: Some(provider.outbound()), issuers: Vec::new() }).await;
    bench.put(&format!("{}/federatedIdentityCredentials/ci", user_identity_id()), credential(provider)).await;
    let application = format!("/providers/Microsoft.Graph/applications/{STRANGER}");
    bench.put(&application, json!({"properties": {"appId": PUSHER_APPLICATION, "displayName": "pusher"}})).await;
    bench.put(&format!("{application}/federatedIdentityCredentials/ci"), credential(provider)).await;
    bench
}

fn codes(answer: &Value) -> i64 {
    answer["error_codes"][0].as_i64().unwrap_or_default()
}

#[tokio::test]
async fn the_right_subject_gets_a_token() {
    let provider = Provider::start().await;
    let bench = bench(&provider).await;
    let algorithms = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
    ];
    let rsa = Key::new("one", Algorithm::RS256);
    for algorithm in algorithms {
        let is_elliptic = matches!(algorithm, Algorithm::ES256 | Algorithm::ES384);
        let key = if is_elliptic { Key::new("one", algorithm) } else { rsa.used_for(algorithm) };
        provider.publish(&provider.metadata(), &[&key]);
        bench.pass(3600);
        let said = claims(&provider);
        let said = with(&said, "exp", json!(bench.now().unix_seconds() + 60));
        for (client, who) in [(USER_CLIENT, USER), (PUSHER_APPLICATION, PUSHER)] {
            let (status, answer) = assert_with(&bench, &client.to_string(), &key.sign(&said)).await;
            assert_eq!(status, 200, "{algorithm:?} {answer}");
            let claims = bench.identity.authority_token(&text(&answer, "access_token"), bench.now()).unwrap().0;
            assert_eq!((claims.oid, claims.appid, claims.idtyp.as_str()), (who, client, "app"));
        }
    }
    // A list of one audience is as good, and so is a key without a name where there is one only.
    let key = Key::new("one", Algorithm::ES256);
    provider.publish_keys(&[&key]);
    bench.pass(3600);
    let said = with(&claims(&provider), "exp", json!(bench.now().unix_seconds() + 60));
    let nameless = Header { kid: None, ..key.header() };
    let assertion = key.sign_as(&nameless, &with(&said, "aud", json!([AUDIENCE])));
    assert_eq!(assert_with(&bench, &USER_CLIENT.to_string(), &assertion).await.0, 200);
}

#[tokio::test]
async fn whatever_else_is_refused() {
    let provider = Provider::start().await;
    let bench = bench(&provider).await;
    let (key, other) = (Key::new("one", Algorithm::RS256), Key::new("one", Algorithm::RS256));
    let elliptic = Key::new("elliptic", Algorithm::ES256);
    provider.publish_keys(&[&key, &elliptic]);
    let (client, said) = (USER_CLIENT.to_string(), claims(&provider));
    assert_eq!(assert_with(&bench, &client, &key.sign(&said)).await.0, 200);

    let change = |name: &str, value: Value| key.sign(&with(&said, name, value));
    let header = key.header();
    let critical = Header { crit: Some(vec!["exp".into()]), ..header.clone() };
    let none = format!("eyJhbGciOiJub25lIn0.{}.", key.sign(&said).split('.').nth(1).unwrap());
    let secret = EncodingKey::from_secret(key.published().to_string().as_bytes());
    let symmetric = Header { alg: Algorithm::HS256, ..header.clone() };
    let symmetric = jsonwebtoken::encode(&symmetric, &said, &secret).unwrap();
    let cases = [
        ("another issuer", 700_211, change("iss", json!(format!("{}/", provider.url)))),
        ("another spelling of it", 700_211, change("iss", json!(provider.url.replace("localhost", "LOCALHOST")))),
        ("another subject", 700_213, change("sub", json!("repo:octo/app:ref:refs/heads/other"))),
        ("another spelling of it", 700_213, change("sub", json!(SUBJECT.replace("octo", "Octo")))),
        ("another audience", 700_212, change("aud", json!("api://azureadtokenexchange"))),
        ("several audiences", 700_212, change("aud", json!([AUDIENCE, "https://other.example"]))),
        ("no audience", 700_027, change("aud", Value::Null)),
        ("expired", 700_024, change("exp", json!(START))),
        ("never ends", 700_027, change("exp", Value::Null)),
        ("ends in a text", 700_027, change("exp", json!("never"))),
        ("not yet", 700_024, change("nbf", json!(START + 301))),
        ("issued later", 700_024, change("iat", json!(START + 301))),
        ("an unknown key", 7_000_272, key.sign_as(&Header { kid: Some("two".into()), ..header.clone() }, &said)),
        ("no key of two", 700_027, other.sign_as(&Header { kid: None, ..header.clone() }, &said)),
        ("a forged key", 700_027, other.sign(&said)),
        (
            "a key of another kind",
            7_000_272,
            elliptic.sign_as(&Header { kid: Some("one".into()), ..elliptic.header() }, &said),
        ),
        (
            "another algorithm than the key's",
            7_000_272,
            key.sign_as(&Header { alg: Algorithm::RS512, ..header.clone() }, &said),
        ),
        ("a header that must be understood", 700_027, key.sign_as(&critical, &said)),
        ("unsigned", 700_027, none),
        ("signed with the public key", 700_027, symmetric),
        ("too long", 700_027, change("jti", json!("a".repeat(33 * 1024)))),
    ];
    for (number, (what, code, assertion)) in (1..).zip(&cases) {
        let (status, answer) = assert_from([198, 51, 100, number], &bench, &client, assertion).await;
        assert_eq!((status, codes(&answer)), (401, *code), "{what}: {answer}");
        assert!(answer.get("access_token").is_none());
    }
    // The clock of the issuer may be off by five minutes.
    let off = with(&with(&said, "iat", json!(START + 300)), "nbf", json!(START + 300));
    assert_eq!(assert_with(&bench, &client, &key.sign(&off)).await.0, 200);

    // Somebody else, who has no such credential; nobody.
    bench.remove(&format!("/providers/Microsoft.Graph/applications/{STRANGER}/federatedIdentityCredentials/ci")).await;
    let (status, answer) = assert_with(&bench, &PUSHER_APPLICATION.to_string(), &key.sign(&said)).await;
    assert_eq!((status, codes(&answer)), (401, 700_211));
    assert_eq!(codes(&assert_with(&bench, &STRANGER.to_string(), &key.sign(&said)).await.1), 700_016);
    // One that was removed is worth nothing from the next request.
    bench.remove(&format!("{}/federatedIdentityCredentials/ci", user_identity_id())).await;
    assert_eq!(codes(&assert_with(&bench, &client, &key.sign(&said)).await.1), 700_211);
    // Nobody was asked for what no credential named.
    assert_eq!(provider.asked(METADATA), 1);
}

#[tokio::test]
async fn whoever_sends_many_bad_ones_waits() {
    let provider = Provider::start().await;
    let bench = bench(&provider).await;
    let (key, other) = (Key::new("one", Algorithm::ES256), Key::new("one", Algorithm::ES256));
    provider.publish_keys(&[&key]);
    let (client, said) = (USER_CLIENT.to_string(), claims(&provider));
    for _ in 0..10 {
        assert_eq!(assert_with(&bench, &client, &other.sign(&said)).await.0, 401);
    }
    assert_eq!(assert_with(&bench, &client, &key.sign(&said)).await.0, 429);
    assert_eq!(assert_from([203, 0, 113, 1], &bench, &client, &key.sign(&said)).await.0, 200);
}

#[tokio::test]
async fn keys_are_kept_and_looked_for_again() {
    let provider = Provider::start().await;
    let bench = bench(&provider).await;
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    provider.publish_keys(&[&old]);
    let client = USER_CLIENT.to_string();
    let mut from = 0;
    let mut present = async |key: &Key, expected: i64| {
        from += 1;
        let said = with(&claims(&provider), "exp", json!(bench.now().unix_seconds() + 60));
        let (status, answer) = assert_from([198, 51, 100, from], &bench, &client, &key.sign(&said)).await;
        assert_eq!(if status == 200 { 0 } else { codes(&answer) }, expected, "{answer}");
    };
    present(&old, 0).await;
    present(&old, 0).await;
    assert_eq!((provider.asked(METADATA), provider.asked(KEYS)), (1, 1));
    // A key that is not known is looked for, though not at once again.
    provider.publish_keys(&[&new]);
    present(&new, 7_000_272).await;
    assert_eq!(provider.asked(KEYS), 1);
    bench.pass(30);
    present(&new, 0).await;
    assert_eq!(provider.asked(KEYS), 2);
    present(&old, 7_000_272).await;
    // An hour later the keys are read again; the ones before hold for a day when that fails.
    provider.answer(METADATA, (StatusCode::SERVICE_UNAVAILABLE, Vec::new(), String::new()));
    bench.pass(3600);
    present(&new, 0).await;
    present(&new, 0).await;
    assert_eq!(provider.asked(METADATA), 3, "it is not asked with every request");
    bench.pass(23 * 3600 - 1);
    present(&new, 0).await;
    bench.pass(30);
    present(&new, 50166).await;
    provider.publish(&provider.metadata(), &[&new]);
    bench.pass(30);
    present(&new, 0).await;
}

#[tokio::test]
async fn what_issuers_publish_is_not_taken_as_it_comes() {
    let key = Key::new("one", Algorithm::ES256);
    let provider = Provider::start().await;
    let moved = |to: String| (StatusCode::FOUND, vec![(header::LOCATION, to)], String::new());
    let metadata = provider.metadata();
    let changed = |name: &str, value: Value| with(&metadata, name, value).to_string();
    let deep = format!("{{\"keys\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    let published = json!({"keys": [key.published()]});
    let ok = |body: String| (StatusCode::OK, Vec::new(), body);
    let cases = [
        ("another issuer's configuration", METADATA, ok(changed("issuer", json!("https://other.example")))),
        ("almost its own", METADATA, ok(changed("issuer", json!(format!("{}/", provider.url))))),
        ("no keys", METADATA, ok(changed("jwks_uri", Value::Null))),
        ("keys without TLS", METADATA, ok(changed("jwks_uri", json!("http://localhost:1/keys")))),
        ("keys in a file", METADATA, ok(changed("jwks_uri", json!("file:///etc/passwd")))),
        ("keys inside", METADATA, ok(changed("jwks_uri", json!("https://169.254.169.254/keys")))),
        ("no document", METADATA, ok("<html>".into())),
        ("a list", METADATA, ok("[]".into())),
        ("a redirect", METADATA, moved(format!("{}/elsewhere", provider.url))),
        ("too long", METADATA, ok(format!("{metadata}{}", " ".repeat(64 << 10)))),
        ("too long", KEYS, ok(format!("{published}{}", " ".repeat(512 << 10)))),
        ("a redirect", KEYS, moved(format!("{}/elsewhere", provider.url))),
        ("nested", KEYS, ok(deep)),
        ("no list", KEYS, ok(json!({"keys": key.published()}).to_string())),
        ("gone", KEYS, (StatusCode::NOT_FOUND, Vec::new(), String::new())),
    ];
    provider.set("/elsewhere", &metadata.to_string());
    let bench = bench(&provider).await;
    let mut from = 0;
    let mut present = async || {
        // Nobody is asked again at once, and somebody who fails often waits.
        bench.pass(30);
        from += 1;
        let said = with(&claims(&provider), "exp", json!(bench.now().unix_seconds() + 60));
        let (status, answer) =
            assert_from([198, 51, 100, from], &bench, &USER_CLIENT.to_string(), &key.sign(&said)).await;
        (status, codes(&answer))
    };
    for (what, path, answer) in cases {
        provider.publish(&metadata, &[&key]);
        provider.answer(path, answer);
        assert_eq!(present().await, (400, 50166), "{what} at {path}");
    }
    assert_eq!(provider.asked("/elsewhere"), 0);

    // What is no key for this stands beside one that is.
    provider.publish(&metadata, &[&key]);
    let mut encryption = Key::new("one", Algorithm::ES256).published();
    encryption["use"] = "enc".into();
    let mut list: Vec<Value> =
        vec![json!(1), json!({}), json!({"kty": "oct", "kid": "one", "k": "c2VjcmV0"}), encryption];
    list.push(json!({"kty": "EC", "crv": "P-521", "kid": "one", "x": "", "y": ""}));
    list.push(json!({"kty": "RSA", "kid": "one", "n": "!", "e": "!"}));
    list.push(json!({"kty": "RSA", "alg": "RSA-OAEP", "kid": "one", "n": "AQAB", "e": "AQAB"}));
    list.push(key.published());
    provider.set(KEYS, &json!({"keys": list}).to_string());
    assert_eq!(present().await, (200, 0));
}

#[tokio::test]
async fn a_slow_issuer_holds_nobody_else_up() {
    const SLOW: &str = "/slow/.well-known/openid-configuration";
    let provider = Provider::start().await;
    let key = Key::new("one", Algorithm::ES256);
    provider.publish_keys(&[&key]);
    let issuer = json!(format!("{}/slow", provider.url));
    provider.set(SLOW, &with(&provider.metadata(), "issuer", issuer.clone()).to_string());
    provider.hold_back(Some(SLOW));
    let bench = bench(&provider).await;
    let mut slow = credential(&provider);
    slow["properties"]["issuer"] = issuer.clone();
    bench.put(&format!("{}/federatedIdentityCredentials/slow", user_identity_id()), slow).await;
    let client = USER_CLIENT.to_string();
    let (slow, quick) = (key.sign(&with(&claims(&provider), "iss", issuer)), key.sign(&claims(&provider)));
    let first = assert_with(&bench, &client, &slow);
    let second = assert_with(&bench, &client, &slow);
    let meanwhile = async {
        provider.until_asked(SLOW).await;
        assert_eq!(assert_with(&bench, &client, &quick).await.0, 200);
        provider.hold_back(None);
    };
    let (first, second, ()) = tokio::join!(first, second, meanwhile);
    assert_eq!((first.0, second.0), (200, 200));
    assert_eq!(provider.asked(SLOW), 1, "two who wait for the same ask once");
}

#[tokio::test]
async fn nobody_is_asked_without_a_client_or_inside() {
    let provider = Provider::start().await;
    let key = Key::new("one", Algorithm::ES256);
    provider.publish_keys(&[&key]);
    let assertion = key.sign(&claims(&provider));
    // Without one; with one that may not call this machine.
    let public = postern_outbound::Outbound::new(postern_outbound::OutboundOptions::default()).unwrap();
    for outbound in [None, Some(public)] {
        let bench = Bench::with(TENANT, OutsideOptions { outbound, issuers: Vec::new() }).await;
        bench.put(&format!("{}/federatedIdentityCredentials/ci", user_identity_id()), credential(&provider)).await;
        assert_eq!(codes(&assert_with(&bench, &USER_CLIENT.to_string(), &assertion).await.1), 50166);
    }
    assert_eq!(provider.asked(METADATA), 0);
}
