use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use postern_model::{Clock, Secret, Timestamp};

use super::*;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_000_000)
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        plain_http: true,
        registry: None,
        suffix: crate::DEFAULT_SUFFIX.into(),
        credentials: None,
        config: None,
        password: None,
        concurrency: 2,
        clock: Arc::new(Still),
        version: String::new(),
    }
}

/// A registry that gives these answers, one connection each, and remembers what it was asked.
struct Scripted {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Status line, further headers, body.
    fn answering(answers: Vec<(&'static str, &'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (status, headers, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    let is_shown = head.is_empty() || line.to_lowercase().starts_with("authorization:");
                    if is_shown {
                        head.push_str(line.trim());
                        head.push('|');
                    }
                }
                let mut sent = vec![0; length];
                reader.read_exact(&mut sent).unwrap();
                head.push_str(&String::from_utf8(sent).unwrap());
                log.lock().unwrap().push(head);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    fn registry(&self, credentials: Credentials) -> Registry {
        Registry::new(&surroundings(), self.address.clone(), credentials).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn me() -> Credentials {
    Credentials::new("me", Secret::new("pw"))
}

fn app() -> RepositoryName {
    "my/app".parse().unwrap()
}

#[tokio::test]
async fn pages_are_followed_and_patience_is_shown() {
    let script = Scripted::answering(vec![
        ("429 Too Many Requests", "retry-after: 0\r\n", ""),
        ("200 OK", "link: </acr/v1/_catalog?last=a&n=1>; rel=\"next\"\r\n", r#"{"repositories":["a"]}"#),
        ("503 Service Unavailable", "retry-after: 0\r\n", ""),
        ("200 OK", "", r#"{"repositories":null}"#),
    ]);
    let names = script.registry(me()).catalog(1).await.unwrap();
    assert_eq!(names, ["a".parse().unwrap()]);
    let first = "GET /acr/v1/_catalog?n=1 HTTP/1.1|authorization: Basic bWU6cHc=|";
    let second = "GET /acr/v1/_catalog?last=a&n=1 HTTP/1.1|authorization: Basic bWU6cHc=|";
    assert_eq!(script.asked(), [first, first, second, second]);
}

#[tokio::test]
async fn patience_ends() {
    let script = Scripted::answering(vec![("429 Too Many Requests", "retry-after: 86400\r\n", "")]);
    let error = script.registry(me()).catalog(1).await.unwrap_err().to_string();
    assert!(error.ends_with("asks to wait: for 86400 seconds"), "{error}");
    let script = Scripted::answering(vec![("429 Too Many Requests", "retry-after: 0\r\n", ""); 100]);
    let error = script.registry(me()).catalog(1).await.unwrap_err();
    assert_eq!((error.status(), script.asked().len()), (Some(429), 100));
}

#[tokio::test]
async fn a_refresh_token_gets_tokens_for_what_is_done() {
    let token = |name: &'static str| ("200 OK", "", name);
    let script = Scripted::answering(vec![
        token(r#"{"access_token":"T1","expires_in":600}"#),
        ("200 OK", "", r#"{"repositories":[]}"#),
        token(r#"{"access_token":"T2","expires_in":600}"#),
        ("200 OK", "", r#"{"tags":null}"#),
        ("200 OK", "", r#"{"tags":[]}"#),
        // It ran out.
        ("401 Unauthorized", "", ""),
        token(r#"{"access_token":"T3","expires_in":600}"#),
        ("200 OK", "", "{}"),
        // It allows too little.
        ("401 Unauthorized", "", ""),
        token(r#"{"access_token":"T4"}"#),
        ("401 Unauthorized", "", ""),
    ]);
    let registry = script.registry(Credentials::new("", Secret::new("R+1")));
    registry.catalog(100).await.unwrap();
    for _ in 0..3 {
        assert!(registry.tags(&app(), "").await.unwrap().is_empty());
    }
    assert_eq!(registry.tags(&app(), "").await.unwrap_err().status(), Some(401));
    let asked = script.asked();
    let service = script.address.replace(':', "%3A");
    assert_eq!(
        asked[0],
        format!(
            "POST /oauth2/token HTTP/1.1|grant_type=refresh_token&service={service}&scope=registry%3Acatalog%3A*&refresh_token=R%2B1"
        )
    );
    assert!(
        asked[2].contains("scope=repository%3Amy%2Fapp%3Apull%2Cdelete%2Cmetadata_read%2Cmetadata_write&"),
        "{asked:?}"
    );
    let tokens: Vec<&str> =
        asked.iter().filter_map(|one| Some(one.split_once("Bearer ")?.1.trim_end_matches('|'))).collect();
    assert_eq!(tokens, ["T1", "T2", "T2", "T2", "T3", "T3", "T4"]);
}

#[tokio::test]
async fn a_refusal_keeps_the_registrys_words_and_the_id() {
    let body =
        r#"{"errors":[{"code":"DENIED","message":"client with IP '1.2.3.4' is not\u001b[31m allowed access."}]}"#;
    let script = Scripted::answering(vec![("403 Forbidden", "x-ms-correlation-request-id: 0a1b\r\n", body)]);
    let error = script.registry(me()).catalog(1).await.unwrap_err().to_string();
    let expected =
        "HTTP status 403 Forbidden: DENIED: client with IP '1.2.3.4' is not\u{fffd}[31m allowed access. (request 0a1b)";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (headers, body) in [
        ("", "<html>"),
        ("", r#"{"tags":[{"name":"1"}]}"#),
        ("link: <https://evil.example/acr/v1/x>; rel=\"next\"\r\n", r#"{"tags":[]}"#),
        ("link: <//evil.example/acr/v1/x>; rel=\"next\"\r\n", r#"{"tags":[]}"#),
        ("link: </acr/v1/my/app/_tags?n=100>; rel=\"next\"\r\n", r#"{"tags":[]}"#),
    ] {
        let script = Scripted::answering(vec![("200 OK", headers, body)]);
        let error = script.registry(me()).tags(&app(), "").await.unwrap_err();
        assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
    }
    let body = format!(
        r#"{{"tags":[{{"name":"a\nb","digest":"{digest}","lastUpdateTime":"2021-09-01T12:34:56.1234567Z"}}]}}"#
    );
    let script = Scripted::answering(vec![("200 OK", "", Box::leak(body.into_boxed_str()))]);
    let error = script.registry(me()).tags(&app(), "").await.unwrap_err().to_string();
    assert!(!error.contains('\n') && error.contains("is no tag"), "{error}");
}

#[test]
fn only_hosts_are_called() {
    for server in ["myregistry.azurecr.io/evil", "me@evil.example", "", "a b", "x?y", "x#y", "x\\y"] {
        let surroundings = Surroundings { plain_http: false, ..surroundings() };
        assert!(Registry::new(&surroundings, server.into(), me()).is_err(), "{server}");
    }
    for (server, is_good) in [
        ("localhost:5000", true),
        ("127.0.0.1", true),
        ("[::1]:5000", true),
        ("myregistry.azurecr.io", false),
        ("10.0.0.1:80", false),
    ] {
        assert_eq!(Registry::new(&surroundings(), server.into(), me()).is_ok(), is_good, "{server} without TLS");
    }
}
