//! Logins of people, and of programs with certificates.

use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{PKCS_RSA_SHA256, RsaKeySize};

use super::authority::{peer, send};
use super::*;
use crate::PeerCertificate;

const ANNA: Uuid = Uuid::from_u128(0xc1);
pub(super) const AZ: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const SCOPE: &str = "https://management.azure.com//.default openid profile offline_access";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const PASSWORD: &str = "correct horse";

fn user(name: &str, enabled: bool) -> Value {
    json!({"properties": {"userPrincipalName": name, "displayName": "Anna", "accountEnabled": enabled}})
}

pub(super) fn user_id(id: Uuid) -> String {
    format!("/providers/Microsoft.Graph/users/{id}")
}

pub(super) fn encode(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn post(bench: &Bench, fields: &[(&str, &str)]) -> (u16, Value) {
    post_from([192, 0, 2, 1], bench, fields).await
}

async fn post_from(address: [u8; 4], bench: &Bench, fields: &[(&str, &str)]) -> (u16, Value) {
    let path = format!("/{TENANT}/oauth2/v2.0/token");
    let from = peer(address, PeerCertificate::None);
    let (status, _, answer) = send(bench, from, "POST", &path, &encode(fields)).await;
    (status.as_u16(), answer)
}

pub(super) async fn sign_in(bench: &Bench, name: &str, password: &str) -> (u16, Value) {
    let fields =
        [("grant_type", "password"), ("client_id", AZ), ("username", name), ("password", password), ("scope", SCOPE)];
    post(bench, &fields).await
}

pub(super) async fn refresh(bench: &Bench, client: &str, token: &str) -> (u16, Value) {
    let scope = format!("{REGISTRY_AUDIENCE}/.default offline_access");
    let fields = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token), ("scope", &scope)];
    post(bench, &fields).await
}

pub(super) fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

async fn with_anna() -> Bench {
    let bench = Bench::new().await;
    bench.put(&user_id(ANNA), user("anna@example.org", true)).await;
    bench.identity.set_user_password(PrincipalId(ANNA), Secret::new(PASSWORD)).await.unwrap();
    bench
}

#[tokio::test]
async fn people_sign_in_and_stay_signed_in() {
    let bench = with_anna().await;
    let (status, answer) = sign_in(&bench, "Anna@Example.org", PASSWORD).await;
    assert_eq!(status, 200, "{answer}");
    let (claims, _) = bench.identity.authority_token(&text(&answer, "access_token"), bench.now()).unwrap();
    assert_eq!((claims.oid, claims.appid.to_string(), claims.idtyp.as_str()), (ANNA, AZ.to_owned(), "user"));
    let header = bearer(&Secret::new(text(&answer, "access_token")));
    let caller = bench.identity.arm_caller(Some(&header), &WorkloadState::None, bench.now()).unwrap();
    assert_eq!(caller.principal.id, PrincipalId(ANNA));

    // Neither of the other two is an access token, nor is that one of them.
    for name in ["refresh_token", "id_token"] {
        let header = bearer(&Secret::new(text(&answer, name)));
        assert!(bench.identity.arm_caller(Some(&header), &WorkloadState::None, bench.now()).is_err(), "{name}");
    }
    for name in ["access_token", "id_token"] {
        let (status, refused) = refresh(&bench, AZ, &text(&answer, name)).await;
        assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")), "{name}");
    }

    let (status, fresh) = refresh(&bench, AZ, &text(&answer, "refresh_token")).await;
    assert_eq!(status, 200, "{fresh}");
    let claims = bench.identity.authority_token(&text(&fresh, "access_token"), bench.now()).unwrap().0;
    assert_eq!((claims.aud.as_str(), claims.oid), (REGISTRY_AUDIENCE, ANNA));
    // To another client it is worth nothing, and it ends.
    let powershell = "1950a258-227b-4e31-a9cf-717495945fc2";
    assert_eq!(refresh(&bench, powershell, &text(&fresh, "refresh_token")).await.0, 400);
    assert_eq!(refresh(&bench, &PUSHER_APPLICATION.to_string(), &text(&fresh, "refresh_token")).await.0, 400);
    bench.pass(24 * 3600 - 1);
    assert_eq!(refresh(&bench, AZ, &text(&fresh, "refresh_token")).await.0, 200);
    bench.pass(1);
    assert_eq!(refresh(&bench, AZ, &text(&fresh, "refresh_token")).await.0, 400);
}

#[tokio::test]
async fn a_session_ends_with_the_password_the_account_and_its_time() {
    let bench = with_anna().await;
    let session = async || text(&sign_in(&bench, "anna@example.org", PASSWORD).await.1, "refresh_token");

    let token = session().await;
    bench.pass(1);
    bench.identity.set_user_password(PrincipalId(ANNA), Secret::new(PASSWORD)).await.unwrap();
    assert_eq!(refresh(&bench, AZ, &token).await.0, 400, "the password was set again");

    let token = session().await;
    bench.put(&user_id(ANNA), user("anna@example.org", false)).await;
    assert_eq!(refresh(&bench, AZ, &token).await.0, 400);
    let (status, answer) = sign_in(&bench, "anna@example.org", PASSWORD).await;
    assert_eq!((status, &answer["error_codes"]), (400, &json!([50057])));
    bench.put(&user_id(ANNA), user("anna@example.org", true)).await;
    assert_eq!(refresh(&bench, AZ, &token).await.0, 200);

    bench.remove(&user_id(ANNA)).await;
    bench.put(&user_id(ANNA), user("anna@example.org", true)).await;
    assert_eq!(refresh(&bench, AZ, &token).await.0, 400, "it is another user");

    // Used every day it ends all the same.
    bench.identity.set_user_password(PrincipalId(ANNA), Secret::new(PASSWORD)).await.unwrap();
    let mut token = session().await;
    for _ in 0..90 {
        bench.pass(24 * 3600 - 1);
        token = text(&refresh(&bench, AZ, &token).await.1, "refresh_token");
    }
    bench.pass(90);
    assert_eq!(refresh(&bench, AZ, &token).await.0, 400);
}

#[tokio::test]
async fn wrong_passwords() {
    let bench = with_anna().await;
    let other = Uuid::from_u128(0xc2);
    bench.put(&user_id(other), user("twin@example.org", true)).await;
    bench.put(&user_id(Uuid::from_u128(0xc3)), user("twin@example.org", true)).await;
    bench.identity.set_user_password(PrincipalId(other), Secret::new(PASSWORD)).await.unwrap();
    // A secret in another slot is no password, and a password is no client secret.
    bench.set_secret(SecretOwner::Principal(PrincipalId(ANNA)), "1", &Secret::new("a secret")).await;
    let anna = ANNA.to_string();
    for (name, password) in [
        ("anna@example.org", "wrong"),
        ("anna@example.org", "a secret"),
        ("nobody@example.org", PASSWORD),
        ("twin@example.org", PASSWORD),
        (anna.as_str(), PASSWORD),
        ("pusher", bench.pusher_secret.expose()),
    ] {
        let (status, answer) = sign_in(&bench, name, password).await;
        assert_eq!((status, &answer["error_codes"]), (400, &json!([50126])), "{name}");
    }
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", anna.as_str()),
        ("client_secret", PASSWORD),
        ("scope", "https://management.azure.com/.default"),
    ];
    assert_ne!(post(&bench, &fields).await.0, 200);
    for _ in 0..8 {
        assert_eq!(sign_in(&bench, "anna@example.org", "wrong").await.0, 400);
    }
    let (status, answer) = sign_in(&bench, "ANNA@example.org", PASSWORD).await;
    assert_eq!((status, &answer["error_codes"]), (429, &json!([50196])));
    bench.pass(60);
    assert_eq!(sign_in(&bench, "anna@example.org", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn every_name_is_of_the_same_realm() {
    let bench = with_anna().await;
    let get = async |path: &str| send(&bench, peer([192, 0, 2, 1], PeerCertificate::None), "GET", path, "").await;
    // Which clients take for an account of this tenant, whether there is one or not.
    for name in ["anna%40example.org", "nobody%40example.org"] {
        assert_eq!(get(&format!("/common/userrealm/{name}?api-version=1.0")).await.0, StatusCode::NOT_FOUND);
    }
}

/// A key with its certificate, and what an assertion is made of.
struct Signer {
    key: KeyPair,
    certificate: Vec<u8>,
    claims: Value,
}

impl Signer {
    fn new(bench: &Bench) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        let claims = json!({
            "aud": format!("https://{AUTHORITY}:8443/{TENANT}/oauth2/v2.0/token"),
            "iss": PUSHER_APPLICATION, "sub": PUSHER_APPLICATION, "jti": "1",
            "iat": serde_json::from_str::<Value>(&format!("{START}.25")).unwrap(), "nbf": START,
            "exp": serde_json::from_str::<Value>(&format!("{}.63", START + 600)).unwrap(),
        });
        assert_eq!(bench.now().unix_seconds(), START);
        Self { key, certificate, claims }
    }

    fn entry(&self) -> Value {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        json!({"type": "AsymmetricX509Cert", "usage": "Verify", "key": key, "endDateTime": "2100-01-01T00:00:00Z"})
    }

    fn thumbprint(&self, algorithm: &'static ::aws_lc_rs::digest::Algorithm) -> String {
        use base64::Engine as _;
        let digest = ::aws_lc_rs::digest::digest(algorithm, &self.certificate);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    }

    fn header(&self, algorithm: Algorithm) -> Header {
        let mut header = Header::new(algorithm);
        match algorithm {
            Algorithm::RS256 => {
                header.x5t = Some(self.thumbprint(&::aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY));
            }
            _ => header.x5t_s256 = Some(self.thumbprint(&::aws_lc_rs::digest::SHA256)),
        }
        header
    }

    fn sign(&self, header: &Header, change: (&str, Value)) -> String {
        let mut claims = self.claims.clone();
        claims[change.0] = change.1;
        let key = EncodingKey::from_rsa_pem(self.key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(header, &claims, &key).unwrap()
    }
}

async fn put_certificates(bench: &Bench, entries: Value) {
    let id = format!("/providers/Microsoft.Graph/servicePrincipals/{PUSHER}");
    let properties = json!({"appId": PUSHER_APPLICATION, "displayName": "pusher", "keyCredentials": entries});
    bench.put(&id, json!({"properties": properties})).await;
}

pub(super) async fn assert_with(bench: &Bench, client: &str, assertion: &str) -> (u16, Value) {
    assert_from([192, 0, 2, 1], bench, client, assertion).await
}

pub(super) async fn assert_from(address: [u8; 4], bench: &Bench, client: &str, assertion: &str) -> (u16, Value) {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_assertion", assertion),
        ("client_assertion_type", ASSERTION),
        ("scope", "https://management.azure.com/.default"),
    ];
    post_from(address, bench, &fields).await
}

#[tokio::test]
async fn a_program_with_a_certificate() {
    let bench = Bench::new().await;
    let signer = Signer::new(&bench);
    put_certificates(&bench, json!([signer.entry()])).await;
    let client = PUSHER_APPLICATION.to_string();
    let unchanged = || ("jti", json!("1"));
    for algorithm in [Algorithm::RS256, Algorithm::PS256] {
        let assertion = signer.sign(&signer.header(algorithm), unchanged());
        let (status, answer) = assert_with(&bench, &client, &assertion).await;
        assert_eq!(status, 200, "{algorithm:?} {answer}");
        let claims = bench.identity.authority_token(&text(&answer, "access_token"), bench.now()).unwrap().0;
        assert_eq!((claims.oid, claims.idtyp.as_str()), (PUSHER, "app"));
    }

    let header = signer.header(Algorithm::RS256);
    let good = signer.sign(&header, unchanged());
    let endpoint = format!("https://{AUTHORITY}:8443/{TENANT}/oauth2/v2.0/token");
    let stranger = Signer::new(&bench);
    let mut without_thumbprint = header.clone();
    without_thumbprint.x5t = None;
    let mut strong_counts = header.clone();
    strong_counts.x5t_s256 = Some(stranger.thumbprint(&::aws_lc_rs::digest::SHA256));
    let bad = [
        ("another issuer", signer.sign(&header, ("iss", json!(USER_CLIENT)))),
        ("another subject", signer.sign(&header, ("sub", json!(PUSHER)))),
        ("another audience", signer.sign(&header, ("aud", json!(format!("{endpoint}/"))))),
        ("two audiences", signer.sign(&header, ("aud", json!([endpoint, "https://other.example"])))),
        ("another server", signer.sign(&header, ("aud", json!(endpoint.replace("login", "other"))))),
        ("expired", signer.sign(&header, ("exp", json!(START)))),
        ("holds too long", signer.sign(&header, ("exp", json!(START + 901)))),
        ("never ends", signer.sign(&header, ("exp", json!(null)))),
        ("not yet", signer.sign(&header, ("nbf", json!(START + 301)))),
        ("issued later", signer.sign(&header, ("iat", json!(START + 301)))),
        ("no id", signer.sign(&header, ("jti", json!("")))),
        ("no thumbprint", signer.sign(&without_thumbprint, unchanged())),
        ("the stronger thumbprint counts", signer.sign(&strong_counts, unchanged())),
        ("somebody else's key and certificate", stranger.sign(&stranger.header(Algorithm::RS256), unchanged())),
        ("somebody else's key", stranger.sign(&header, unchanged())),
        ("another algorithm", signer.sign(&Header { alg: Algorithm::RS512, ..header.clone() }, unchanged())),
        ("unsigned", format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap())),
        ("too long", "a".repeat(33 * 1024)),
    ];
    for (number, (what, assertion)) in (1..).zip(&bad) {
        let (status, answer) = assert_from([198, 51, 100, number], &bench, &client, assertion).await;
        assert_eq!((status, &answer["error_codes"]), (401, &json!([700_027])), "{what}: {answer}");
        assert!(answer.get("access_token").is_none());
    }
    // A token of the authority is none of an issuer outside either.
    let (status, answer) = assert_with(&bench, &client, bench.pusher_token(ARM).expose()).await;
    assert_eq!((status, &answer["error_codes"]), (401, &json!([700_211])));
    // Signed with what everybody knows of the key.
    let mut public = Header::new(Algorithm::HS256);
    public.x5t.clone_from(&header.x5t);
    let key = EncodingKey::from_secret(&signer.certificate);
    let forged = jsonwebtoken::encode(&public, &signer.claims, &key).unwrap();
    assert_eq!(assert_with(&bench, &client, &forged).await.0, 401);
    // Somebody else, with a certificate of the first.
    assert_eq!(assert_with(&bench, &USER_CLIENT.to_string(), &good).await.0, 401);
    assert_eq!(assert_with(&bench, &STRANGER.to_string(), &good).await.0, 400);
    // Whoever sends many bad ones waits, as with passwords.
    let guesser = [203, 0, 113, 1];
    for _ in 0..10 {
        assert_eq!(assert_from(guesser, &bench, &client, &bad[0].1).await.0, 401);
    }
    assert_eq!(assert_from(guesser, &bench, &client, &good).await.0, 429);
    let both = [
        ("grant_type", "client_credentials"),
        ("client_id", client.as_str()),
        ("client_secret", bench.pusher_secret.expose()),
        ("client_assertion", good.as_str()),
        ("client_assertion_type", ASSERTION),
        ("scope", "https://management.azure.com/.default"),
    ];
    assert_eq!(post(&bench, &both).await.0, 400);

    assert_eq!(assert_with(&bench, &client, &good).await.0, 200);
    for (name, value) in [
        ("endDateTime", json!("2020-01-01T00:00:00Z")),
        ("endDateTime", json!("some day")),
        ("startDateTime", json!("2099-01-01T00:00:00Z")),
        ("usage", json!("Sign")),
        ("type", json!("Symmetric")),
        ("key", json!("AAAA")),
    ] {
        let mut entry = signer.entry();
        entry[name] = value;
        put_certificates(&bench, json!([entry])).await;
        assert_eq!(assert_with(&bench, &client, &good).await.0, 401, "{name}");
    }
    // The application's count, too.
    put_certificates(&bench, json!([])).await;
    let application = json!({"properties": {"appId": PUSHER_APPLICATION, "keyCredentials": [signer.entry()]}});
    bench.put(&format!("/providers/Microsoft.Graph/applications/{STRANGER}"), application).await;
    assert_eq!(assert_with(&bench, &client, &good).await.0, 200);
}

pub(super) async fn begin_device(bench: &Bench, client: &str) -> (u16, Value) {
    let path = format!("/{TENANT}/oauth2/v2.0/devicecode");
    let from = peer([192, 0, 2, 1], PeerCertificate::None);
    let (status, _, answer) =
        send(bench, from, "POST", &path, &encode(&[("client_id", client), ("scope", SCOPE)])).await;
    (status.as_u16(), answer)
}

pub(super) async fn redeem(bench: &Bench, device: &str) -> (u16, Value) {
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    post(bench, &[("grant_type", grant), ("client_id", AZ), ("device_code", device)]).await
}

pub(super) async fn approve(bench: &Bench, code: &str, whom: Option<Uuid>) -> Result<(), String> {
    let answered = bench.identity.answer_device_login(code, whom.map(PrincipalId), [192, 0, 2, 9].into()).await;
    answered.map(drop).map_err(|refusal| refusal.to_string())
}

#[tokio::test]
async fn a_device_is_signed_in_by_who_approves_its_code() {
    let bench = with_anna().await;
    assert_eq!(begin_device(&bench, &PUSHER_APPLICATION.to_string()).await.0, 400, "no public client");
    let (status, begun) = begin_device(&bench, AZ).await;
    assert_eq!(status, 200, "{begun}");
    let (code, device) = (text(&begun, "user_code"), text(&begun, "device_code"));
    assert!(text(&begun, "verification_uri").ends_with("/common/oauth2/deviceauth"));
    let (status, pending) = redeem(&bench, &device).await;
    assert_eq!((status, &pending["error"]), (400, &json!("authorization_pending")));
    assert_eq!(redeem(&bench, "guessed").await.1["error"], json!("bad_verification_code"));
    assert!(approve(&bench, "BCDF-GHJK", Some(ANNA)).await.is_err(), "another code");
    assert!(approve(&bench, &code, Some(Uuid::from_u128(0xdead))).await.is_err(), "nobody");

    approve(&bench, &code.to_lowercase(), Some(ANNA)).await.unwrap();
    assert!(approve(&bench, &code, Some(ANNA)).await.is_err(), "answered already");
    let (status, answer) = redeem(&bench, &device).await;
    assert_eq!(status, 200, "{answer}");
    let (claims, _) = bench.identity.authority_token(&text(&answer, "access_token"), bench.now()).unwrap();
    assert_eq!((claims.oid, claims.upn.as_deref()), (ANNA, Some("anna@example.org")));
    assert_eq!(redeem(&bench, &device).await.1["error"], json!("bad_verification_code"), "once");
    assert_eq!(refresh(&bench, AZ, &text(&answer, "refresh_token")).await.0, 200);

    let declined = begin_device(&bench, AZ).await.1;
    approve(&bench, &text(&declined, "user_code"), None).await.unwrap();
    let (status, refused) = redeem(&bench, &text(&declined, "device_code")).await;
    assert_eq!((status, &refused["error"]), (400, &json!("authorization_declined")));
}

#[tokio::test]
async fn an_approval_does_not_outlive_its_time_or_its_user() {
    let bench = with_anna().await;
    let late = begin_device(&bench, AZ).await.1;
    bench.pass(901);
    assert!(approve(&bench, &text(&late, "user_code"), Some(ANNA)).await.is_err());
    assert_eq!(redeem(&bench, &text(&late, "device_code")).await.1["error"], json!("expired_token"));

    for (name, enabled) in [("disabled", false), ("another", true)] {
        bench.put(&user_id(ANNA), user("anna@example.org", true)).await;
        let begun = begin_device(&bench, AZ).await.1;
        approve(&bench, &text(&begun, "user_code"), Some(ANNA)).await.unwrap();
        if enabled {
            bench.remove(&user_id(ANNA)).await;
        }
        bench.put(&user_id(ANNA), user("anna@example.org", enabled)).await;
        let (status, refused) = redeem(&bench, &text(&begun, "device_code")).await;
        assert_eq!((status, &refused["error"]), (400, &json!("authorization_declined")), "{name}");
    }
}

#[tokio::test]
async fn an_approval_does_not_outlive_the_password() {
    let bench = with_anna().await;
    let begun = begin_device(&bench, AZ).await.1;
    approve(&bench, &text(&begun, "user_code"), Some(ANNA)).await.unwrap();
    bench.pass(1);
    bench.identity.set_user_password(PrincipalId(ANNA), Secret::new("another horse")).await.unwrap();
    let (status, refused) = redeem(&bench, &text(&begun, "device_code")).await;
    assert_eq!((status, &refused["error"]), (400, &json!("authorization_declined")));
}

#[tokio::test]
async fn a_program_stays_signed_in_for_a_working_day() {
    let bench = with_anna().await;
    let begun = begin_device(&bench, AZ).await.1;
    approve(&bench, &text(&begun, "user_code"), Some(PUSHER)).await.unwrap();
    let answer = redeem(&bench, &text(&begun, "device_code")).await.1;
    let token = text(&answer, "refresh_token");
    bench.pass(8 * 3600 - 1);
    assert_eq!(refresh(&bench, AZ, &token).await.0, 200);
    bench.pass(1);
    assert_eq!(refresh(&bench, AZ, &token).await.0, 400);
    // A managed identity's tokens come from where it belongs.
    let begun = begin_device(&bench, AZ).await.1;
    assert!(approve(&bench, &text(&begun, "user_code"), Some(USER)).await.is_err());
}

#[tokio::test]
async fn people_approve_on_the_page() {
    let bench = with_anna().await;
    let page = "/common/oauth2/deviceauth";
    let from = || peer([192, 0, 2, 1], PeerCertificate::None);
    let begun = begin_device(&bench, AZ).await.1;
    let (code, device) = (text(&begun, "user_code"), text(&begun, "device_code"));
    let form = |code: &str, password: &str| {
        encode(&[("code", code), ("username", "anna@example.org"), ("password", password)])
    };
    let cases = [
        (form(&code, "wrong"), 403),
        (form("BCDF-GHJK", PASSWORD), 404),
        (encode(&[("code", &code)]), 400),
        (form(&code, PASSWORD), 200),
        (form(&code, PASSWORD), 404),
    ];
    for (body, expected) in cases {
        let (status, _, _) = send(&bench, from(), "POST", page, &body).await;
        assert_eq!(status.as_u16(), expected, "{body}");
    }
    assert_eq!(redeem(&bench, &device).await.0, 200);
    assert_eq!(send(&bench, from(), "GET", page, "").await.0, StatusCode::OK);
}
