//! An OpenID provider: whom people and pipelines have an account at, and the server has not.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::supplier::tls_as;

type Fields = HashMap<String, String>;

/// Nobody who asks it waits longer for the next byte.
const PATIENCE: Duration = Duration::from_mins(2);
const MAX_REQUEST_BYTES: u64 = 64 << 10;
const KEY_ID: &str = "1";

/// Serves its configuration, its keys and its token endpoint over TLS with a certificate of its own.
pub struct Issuer {
    url: String,
    certificate: String,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    key: EncodingKey,
    /// What was asked for each code that nobody has exchanged yet, and who signed in.
    codes: Mutex<HashMap<String, (Fields, Value)>>,
}

impl Issuer {
    /// Serves at this socket, under this name.
    pub fn start(listener: TcpListener, name: &str) -> Self {
        let port = listener.local_addr().expect("it is bound").port();
        let url = format!("https://{name}:{port}");
        let (config, certificate) = tls_as(name);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key can be made");
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("it is a key");
        let shared = Arc::new(Shared { url: url.clone(), key, codes: Mutex::default() });
        let serving = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, config) = (Arc::clone(&serving), Arc::clone(&config));
                // An error is a client that went away.
                thread::spawn(move || shared.serve(stream, config));
            }
        });
        Self { url, certificate, shared }
    }

    /// What its tokens call it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A token for ten minutes with these claims beside those of every token.
    pub fn token(&self, claims: &Value) -> String {
        self.shared.token(claims)
    }

    /// Somebody with these claims comes to the authorization endpoint by this address and signs in: where the browser is sent then.
    pub fn authorize(&self, address: &str, person: &Value) -> String {
        let address = Url::parse(address).expect("it is an address");
        assert_eq!(address.as_str().split('?').next(), Some(format!("{}/authorize", self.url).as_str()));
        let asked: Fields = address.query_pairs().into_owned().collect();
        assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"), "{asked:?}");
        let mut back = Url::parse(&asked["redirect_uri"]).expect("it is an address");
        let code = format!("code-{}", asked["state"]);
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &asked["state"]);
        lock(&self.shared.codes).insert(code, (asked, person.clone()));
        back.into()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn token(&self, claims: &Value) -> String {
        #[expect(clippy::disallowed_methods, reason = "the server that looks at the token has the real time, too")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
        let mut all = json!({"iss": self.url, "iat": now, "nbf": now, "exp": now + 600});
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &all, &self.key).expect("the key signs")
    }

    fn serve(&self, stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let (path, headers, body) = read_request(&mut stream)?;
        let (status, answer) = match path.as_str() {
            "/.well-known/openid-configuration" => ("200 OK", self.configuration()),
            "/keys" => ("200 OK", self.keys()),
            "/token" => match self.exchange(&headers, &body) {
                Ok(answer) => ("200 OK", answer),
                Err(why) => ("400 Bad Request", json!({"error": "invalid_grant", "error_description": why})),
            },
            _ => ("404 Not Found", json!({})),
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(answer.as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn configuration(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        json!({
            "issuer": self.url,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/keys"),
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn keys(&self) -> Value {
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("it has a public half");
        key.common.key_id = Some(KEY_ID.to_owned());
        json!({"keys": [key]})
    }

    /// A code for an identity token, once, for whoever began.
    fn exchange(&self, headers: &str, body: &str) -> Result<Value, &'static str> {
        let fields: Fields = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let (asked, person) = lock(&self.codes).remove(field("code")).ok_or("the code is unknown")?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
        let secret = base64::engine::general_purpose::STANDARD.encode(format!("{}:a+secret", asked["client_id"]));
        if field("grant_type") != "authorization_code" || field("redirect_uri") != asked["redirect_uri"] {
            return Err("it is not what was asked for");
        }
        if challenge != asked["code_challenge"] {
            return Err("the verifier does not fit");
        }
        if !headers.contains(&format!("authorization: basic {}", secret.to_lowercase())) {
            return Err("the client's secret is wrong");
        }
        let mut claims = json!({"aud": asked["client_id"], "nonce": asked["nonce"]});
        for (name, value) in person.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        Ok(json!({"access_token": "x", "token_type": "Bearer", "expires_in": 60, "id_token": self.token(&claims)}))
    }
}

/// Path, headers in small letters, and body of a request.
fn read_request(stream: &mut impl io::Read) -> io::Result<(String, String, String)> {
    let mut reader = BufReader::new(stream.take(MAX_REQUEST_BYTES));
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        head.push_str(&line);
        line.clear();
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = head.to_lowercase();
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok((path, headers, String::from_utf8_lossy(&body).into_owned()))
}
