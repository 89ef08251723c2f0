//! People who sign in with an issuer of their own.

use std::collections::{BTreeMap, HashMap};

use axum::body::Body;
use base64::Engine as _;
use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jsonwebtoken::Algorithm;
use postern_estate::{OutsideIdentity, members_of};
use postern_outbound::Url;
use tower::ServiceExt as _;

use super::authority::peer;
use super::logins::{AZ, begin_device, encode, redeem, refresh, text, user_id};
use super::provider::{Key, Provider};
use super::*;
use crate::{OutsideOptions, PeerCertificate, TrustedIssuer, authority_router};

const PAGE: &str = "/common/oauth2/deviceauth";
const READERS: Uuid = Uuid::from_u128(0xd1);

/// What is changed in an identity token.
type Change = fn(&mut Value);

/// A browser, and whom it talks to.
struct Scene {
    bench: Bench,
    provider: Provider,
    key: Key,
    cookies: HashMap<String, String>,
}

/// What a page says.
#[derive(Debug)]
struct Page {
    status: u16,
    text: String,
}

impl Page {
    /// What is between these two, without escapes.
    fn between(&self, start: &str, end: &str) -> String {
        let (_, rest) = self.text.split_once(start).unwrap_or_else(|| panic!("no {start} in {self:?}"));
        rest.split_once(end).unwrap().0.replace("&amp;", "&")
    }
}

fn trusted(provider: &Provider) -> TrustedIssuer {
    TrustedIssuer {
        name: "corporate".into(),
        url: provider.url.clone(),
        client_id: "postern".into(),
        client_secret: Some(Secret::new("a secret")),
        scopes: vec!["openid".into(), "groups".into()],
        user_claim: "email".into(),
        groups_claim: Some("groups".into()),
        groups: BTreeMap::from([("readers".into(), PrincipalId(READERS))]),
        create_users: true,
        outbound: provider.outbound(),
    }
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut TrustedIssuer)) -> Self {
        let provider = Provider::start().await;
        let mut issuer = trusted(&provider);
        change(&mut issuer);
        let bench = Bench::with(TENANT, OutsideOptions { outbound: None, issuers: vec![issuer] }).await;
        let group = format!("/providers/Microsoft.Graph/groups/{READERS}");
        bench.put(&group, json!({"properties": {"displayName": "readers", "members": [PUSHER]}})).await;
        let key = Key::new("one", Algorithm::ES256);
        provider.publish_keys(&[&key]);
        Self { bench, provider, key, cookies: HashMap::new() }
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> Page {
        self.send_from([192, 0, 2, 1], method, path, body).await
    }

    async fn send_from(&mut self, from: [u8; 4], method: &str, path: &str, body: &str) -> Page {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{AUTHORITY}:8443"))
            .header(COOKIE, cookies.join("; "))
            .extension(peer(from, PeerCertificate::None))
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = authority_router(Arc::clone(&self.bench.identity)).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Page { status, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Begins with this code: what the provider is asked.
    async fn begin(&mut self, code: &str) -> HashMap<String, String> {
        let page = self.send("POST", PAGE, &encode(&[("code", code), ("issuer", "corporate")])).await;
        assert_eq!(page.status, 200, "{page:?}");
        let address = Url::parse(&page.between("<a href=\"", "\"")).unwrap();
        assert!(address.as_str().starts_with(&format!("{}/authorize?", self.provider.url)), "{address}");
        address.query_pairs().into_owned().collect()
    }

    fn claims(&self, subject: &str, asked: &HashMap<String, String>) -> Value {
        let now = self.bench.now().unix_seconds();
        json!({
            "iss": self.provider.url, "sub": subject, "aud": "postern", "nonce": asked["nonce"],
            "iat": now, "exp": now + 60, "email": "anna@example.org", "name": "Anna <A>", "groups": ["readers", "others"],
        })
    }

    /// The provider gives this identity token for the next code.
    fn provide(&self, claims: &Value) {
        self.provider.set("/token", &json!({"id_token": self.key.sign(claims)}).to_string());
    }

    async fn back(&mut self, asked: &HashMap<String, String>) -> Page {
        let path =
            format!("/common/oauth2/callback/corporate?{}", encode(&[("code", "c"), ("state", &asked["state"])]));
        self.send("GET", &path, "").await
    }

    /// From the code to the last question, and its answer.
    async fn sign_in(&mut self, code: &str, change: impl FnOnce(&mut Value)) -> Page {
        let asked = self.begin(code).await;
        let mut claims = self.claims("248289761001", &asked);
        change(&mut claims);
        self.provide(&claims);
        let page = self.back(&asked).await;
        if page.status != 200 {
            return page;
        }
        let ticket = page.between("name=\"ticket\" value=\"", "\"");
        self.send("POST", PAGE, &encode(&[("ticket", &ticket), ("answer", "approve")])).await
    }

    /// The codes of a device that waits.
    async fn device(&self) -> (String, String) {
        let begun = begin_device(&self.bench, AZ).await.1;
        (text(&begun, "user_code"), text(&begun, "device_code"))
    }

    /// A person signs a device in: its tokens.
    async fn signed_in(&mut self, change: impl FnOnce(&mut Value)) -> Value {
        let (code, device) = self.device().await;
        let page = self.sign_in(&code, change).await;
        assert_eq!(page.status, 200, "{page:?}");
        let (status, answer) = redeem(&self.bench, &device).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn user(&self, subject: &str) -> Option<Arc<Resource>> {
        let who = OutsideIdentity { issuer: self.provider.url.clone(), subject: subject.into() };
        self.bench.directory.with_estate(|estate| estate.users_who_are(&who).next().cloned())
    }

    fn readers(&self) -> Vec<PrincipalId> {
        members_of(&self.bench.resource(&format!("/providers/Microsoft.Graph/groups/{READERS}")))
    }
}

fn oid(scene: &Scene, answer: &Value) -> Uuid {
    let token = text(answer, "access_token");
    scene.bench.identity.authority_token(&token, scene.bench.now()).unwrap().0.oid
}

#[tokio::test]
async fn a_person_becomes_a_user_with_the_groups_of_the_token() {
    let mut scene = Scene::new().await;
    let (code, device) = scene.device().await;
    let page = scene.send("GET", PAGE, "").await;
    assert!(page.text.contains(">Sign in with corporate<"), "{page:?}");
    let asked = scene.begin(&code).await;
    assert_eq!((asked["client_id"].as_str(), asked["scope"].as_str()), ("postern", "openid groups"));
    assert_eq!(asked["redirect_uri"], format!("https://{AUTHORITY}:8443/common/oauth2/callback/corporate"));
    scene.provide(&scene.claims("1", &asked));
    let page = scene.back(&asked).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text.contains("You are Anna &lt;A&gt; (corporate:anna@example.org)."), "{page:?}");
    assert!(page.text.contains(&code), "{page:?}");
    // Until the last question is answered, nobody is signed in.
    assert_eq!(redeem(&scene.bench, &device).await.1["error"], "authorization_pending");
    let sent: HashMap<String, String> =
        form_urlencoded::parse(scene.provider.bodies("/token")[0].as_bytes()).into_owned().collect();
    let challenge = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, sent["code_verifier"].as_bytes());
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(challenge);
    assert_eq!((sent["code"].as_str(), &challenge), ("c", &asked["code_challenge"]));
    let ticket = page.between("name=\"ticket\" value=\"", "\"");
    assert_eq!(scene.send("POST", PAGE, &encode(&[("ticket", &ticket), ("answer", "approve")])).await.status, 200);
    let answer = redeem(&scene.bench, &device).await.1;
    let id = oid(&scene, &answer);
    assert_eq!(scene.user("1").unwrap().id.name(), id.to_string());
    assert_eq!(scene.readers(), [PrincipalId(PUSHER), PrincipalId(id)]);
    let header = bearer(&Secret::new(text(&answer, "access_token")));
    let caller = scene.bench.identity.arm_caller(Some(&header), &WorkloadState::None, scene.bench.now()).unwrap();
    assert!(caller.principal.groups.contains(&PrincipalId(READERS)));

    // The same person by another name; another person by the same name; nobody's member any more.
    let again = scene.signed_in(|claims| claims["sub"] = "1".into()).await;
    assert_eq!(oid(&scene, &again), id);
    let again = scene
        .signed_in(|claims| {
            claims["sub"] = "1".into();
            claims["email"] = "anna.b@example.org".into();
            claims["groups"] = json!("others");
        })
        .await;
    assert_eq!(oid(&scene, &again), id);
    assert_eq!(scene.readers(), [PrincipalId(PUSHER)]);
    let other = scene.signed_in(|claims| claims["sub"] = "2".into()).await;
    assert_ne!(oid(&scene, &other), id);
    let names: Vec<_> = ["1", "2"].map(|who| scene.user(who).unwrap().text(&["userPrincipalName"]).unwrap()).into();
    assert_eq!(names[0], "corporate:anna@example.org");
    // Nor do two names look the same.
    scene
        .signed_in(|claims| {
            claims["sub"] = "3".into();
            claims["name"] = "A\u{202e}n\u{200b}na\u{feff}".into();
        })
        .await;
    assert_eq!(scene.user("3").unwrap().text(&["displayName"]).unwrap(), "Anna");
    assert!(names[1].starts_with("corporate:anna@example.org#"), "{names:?}");
}

#[tokio::test]
async fn a_session_ends_with_the_user_the_day_and_the_issuer() {
    let mut scene = Scene::new().await;
    let first = scene.signed_in(|_| {}).await;
    let (id, token) = (oid(&scene, &first), text(&first, "refresh_token"));
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 200);
    scene.bench.pass(8 * 3600 - 1);
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 200);
    scene.bench.pass(1);
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 400, "a working day");

    let second = scene.signed_in(|_| {}).await;
    let (access, token) = (text(&second, "access_token"), text(&second, "refresh_token"));
    let known = scene.bench.resource(&user_id(id));
    let mut off = known.document();
    off["properties"]["accountEnabled"] = false.into();
    scene.bench.put(&user_id(id), off.into()).await;
    assert!(scene.bench.identity.authority_token(&access, scene.bench.now()).is_err());
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 400);
    let (code, _) = scene.device().await;
    assert_eq!(scene.sign_in(&code, |_| {}).await.status, 403, "who is switched off is not made anew");
    scene.bench.put(&user_id(id), known.document().into()).await;
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 200);
    // So does whoever becomes somebody else at the issuer, also nobody, which would make the session one of this directory's own.
    let another = json!([{"signInType": "federated", "issuer": scene.provider.url, "issuerAssignedId": "another"}]);
    for identities in [json!(null), json!([]), another] {
        let mut relinked = known.document();
        relinked["properties"]["identities"] = identities.clone();
        scene.bench.put(&user_id(id), relinked.into()).await;
        assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 400, "{identities}");
    }
    scene.bench.put(&user_id(id), known.document().into()).await;
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 200);

    // A user who is deleted and signs in again is another one.
    scene.bench.remove(&user_id(id)).await;
    assert_eq!(refresh(&scene.bench, AZ, &token).await.0, 400);
    let third = scene.signed_in(|_| {}).await;
    assert_ne!(oid(&scene, &third), id);

    // Whose issuer is not trusted any more is nobody, and all tokens stop: with the next start, as the configuration says.
    let mut other = scene.bench.resource(&user_id(oid(&scene, &third))).document();
    other["properties"]["identities"][0]["issuer"] = "https://former.example".into();
    let id = oid(&scene, &third);
    scene.bench.put(&user_id(id), other.into()).await;
    assert!(scene.bench.identity.authority_token(&text(&third, "access_token"), scene.bench.now()).is_err());
    assert_eq!(refresh(&scene.bench, AZ, &text(&third, "refresh_token")).await.0, 400);
}

#[tokio::test]
async fn whatever_the_provider_says_of_somebody_else() {
    let mut scene = Scene::new().await;
    let cases: [(&str, Change); 12] = [
        ("another issuer", |claims| claims["iss"] = "https://other.example".into()),
        ("another audience", |claims| claims["aud"] = "another".into()),
        ("several audiences", |claims| claims["aud"] = json!(["postern", "another"])),
        ("another party", |claims| claims["azp"] = "another".into()),
        ("another sign-in", |claims| claims["nonce"] = "another".into()),
        ("of no sign-in", |claims| claims["nonce"] = Value::Null),
        ("expired", |claims| claims["exp"] = START.into()),
        ("not yet", |claims| claims["iat"] = json!(4_000_000_000_i64)),
        ("nobody", |claims| claims["sub"] = "".into()),
        ("no text", |claims| claims["sub"] = "a\u{0}b".into()),
        ("too long", |claims| claims["sub"] = "a".repeat(601).into()),
        ("no subject", |claims| claims["sub"] = Value::Null),
    ];
    for (what, change) in cases {
        scene.bench.pass(60);
        let (code, device) = scene.device().await;
        let page = scene.sign_in(&code, change).await;
        assert_eq!(page.status, 403, "{what}: {page:?}");
        assert_eq!(redeem(&scene.bench, &device).await.1["error"], "authorization_pending", "{what}");
    }
    // Forged; no token; refused.
    let forger = Key::new("one", Algorithm::ES256);
    let (code, _) = scene.device().await;
    let asked = scene.begin(&code).await;
    let forged = forger.sign(&scene.claims("1", &asked));
    for answer in [json!({"id_token": forged}).to_string(), "{}".into(), "x".repeat(70_000)] {
        scene.provider.set("/token", &answer);
        assert_eq!(scene.back(&asked).await.status, 403, "{answer:.40}");
    }
    scene.provider.answer("/token", (StatusCode::BAD_REQUEST, Vec::new(), "{}".into()));
    assert_eq!(scene.back(&asked).await.status, 403);
    let refused = format!("/common/oauth2/callback/corporate?error=access_denied&state={}", asked["state"]);
    assert_eq!(scene.send("GET", &refused, "").await.status, 403);
    // Another issuer has sent the code (RFC 9207).
    scene.provide(&scene.claims("1", &asked));
    let fields = [("code", "c"), ("state", asked["state"].as_str()), ("iss", "https://other.example")];
    let mixed = format!("/common/oauth2/callback/corporate?{}", encode(&fields));
    assert_eq!(scene.send("GET", &mixed, "").await.status, 403);
    assert!(scene.user("1").is_none(), "nobody came to be");
}

#[tokio::test]
async fn nobody_goes_on_with_what_another_browser_began() {
    let mut scene = Scene::new().await;
    let (code, device) = scene.device().await;
    let nobody = encode(&[("code", "BCDF-GHJK"), ("issuer", "corporate")]);
    assert_eq!(scene.send("POST", PAGE, &nobody).await.status, 404, "another code");
    let unknown = encode(&[("code", &code), ("issuer", "other")]);
    assert_eq!(scene.send("POST", PAGE, &unknown).await.status, 400, "another issuer");
    let asked = scene.begin(&code).await;
    scene.provide(&scene.claims("1", &asked));
    let cookies = std::mem::take(&mut scene.cookies);
    assert_eq!(scene.back(&asked).await.status, 400, "without the cookie");
    scene.cookies.clone_from(&cookies);
    let elsewhere = format!("/common/oauth2/callback/other?{}", encode(&[("code", "c"), ("state", &asked["state"])]));
    assert_eq!(scene.send("GET", &elsewhere, "").await.status, 400, "sent by another issuer");
    assert_eq!(scene.provider.bodies("/token"), Vec::<String>::new(), "its code goes nowhere");
    let other = HashMap::from([("state".to_owned(), "another".to_owned())]);
    assert_eq!(scene.back(&other).await.status, 400, "another state");
    // Neither an access token nor a ticket passes for the cookie, nor the cookie for a ticket.
    let page = scene.back(&asked).await;
    let ticket = page.between("name=\"ticket\" value=\"", "\"");
    let (name, cookie) = cookies.iter().next().unwrap();
    for forged in [ticket.as_str(), scene.bench.pusher_token(ARM).expose(), "x"] {
        scene.cookies.insert(name.clone(), forged.to_owned());
        assert_eq!(scene.back(&asked).await.status, 400, "{forged}");
    }
    for forged in [cookie.as_str(), scene.bench.pusher_token(ARM).expose(), "x"] {
        let body = encode(&[("ticket", forged), ("answer", "approve")]);
        assert_eq!(scene.send("POST", PAGE, &body).await.status, 400, "{forged}");
    }
    assert_eq!(redeem(&scene.bench, &device).await.1["error"], "authorization_pending");
    // Time passes; somebody refuses.
    scene.bench.pass(301);
    let body = encode(&[("ticket", &ticket), ("answer", "approve")]);
    assert_eq!(scene.send("POST", PAGE, &body).await.status, 400, "too late");
    scene.bench.pass(300);
    scene.cookies = cookies;
    assert_eq!(scene.back(&asked).await.status, 400, "too late");
    let (code, device) = scene.device().await;
    let asked = scene.begin(&code).await;
    scene.provide(&scene.claims("1", &asked));
    let page = scene.back(&asked).await;
    let ticket = page.between("name=\"ticket\" value=\"", "\"");
    let body = encode(&[("ticket", &ticket), ("answer", "decline")]);
    assert_eq!(scene.send("POST", PAGE, &body).await.status, 200);
    assert_eq!(redeem(&scene.bench, &device).await.1["error"], "authorization_declined");
}

#[tokio::test]
async fn who_must_be_there_before() {
    let mut scene = Scene::with(|issuer| issuer.create_users = false).await;
    let (code, _) = scene.device().await;
    assert_eq!(scene.sign_in(&code, |_| {}).await.status, 403, "nobody is made");
    // A user of the same name, or of the same subject at another issuer, is somebody else.
    let id = Uuid::from_u128(0xe1);
    let user = |issuer: &str| {
        json!({"properties": {
            "userPrincipalName": "anna@example.org", "displayName": "Anna",
            "identities": [{"signInType": "federated", "issuer": issuer, "issuerAssignedId": "248289761001"}],
        }})
    };
    scene.bench.put(&user_id(id), user("https://other.example")).await;
    let (code, _) = scene.device().await;
    assert_eq!(scene.sign_in(&code, |_| {}).await.status, 403);
    let url = scene.provider.url.clone();
    scene.bench.put(&user_id(id), user(&url)).await;
    let answer = scene.signed_in(|_| {}).await;
    assert_eq!(oid(&scene, &answer), id);
    // Of two who are the same person, neither.
    scene.bench.put(&user_id(Uuid::from_u128(0xe2)), user(&url)).await;
    let (code, _) = scene.device().await;
    assert_eq!(scene.sign_in(&code, |_| {}).await.status, 403);
}

#[tokio::test]
async fn an_issuer_that_is_not_there() {
    let mut scene = Scene::new().await;
    let (code, _) = scene.device().await;
    scene.provider.set(super::provider::METADATA, "{}");
    let begin = encode(&[("code", &code), ("issuer", "corporate")]);
    assert_eq!(scene.send("POST", PAGE, &begin).await.status, 502);
    // People are not sent where nothing is secret.
    scene.bench.pass(30);
    let mut metadata = scene.provider.metadata();
    metadata["authorization_endpoint"] = "http://localhost:1/authorize".into();
    scene.provider.set(super::provider::METADATA, &metadata.to_string());
    assert_eq!(scene.send("POST", PAGE, &begin).await.status, 502);
}
