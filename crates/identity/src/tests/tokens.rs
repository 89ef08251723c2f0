use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use postern_access::{Action, Actions, Caller, WorkloadState};

use super::*;
use crate::{ACCESS_TOKEN_SECONDS, ArmRefusal, MAX_AUTHORIZATION_BYTES, REFRESH_TOKEN_SECONDS};

type Change<'a> = &'a dyn Fn(&mut Value);

fn password(bench: &Bench) -> TokenGrant {
    TokenGrant::Password { user: PUSHER_APPLICATION.to_string(), password: bench.pusher_secret.clone() }
}

fn access(bench: &Bench, registry: &str) -> Secret {
    bench.issue(registry, password(bench), "repository:app:pull,push,delete", &public_origin()).unwrap().access_token
}

fn caller(credential: Credential) -> String {
    verified(credential).caller.to_string()
}

#[tokio::test]
async fn login_forms() {
    use InvalidCredential::{Malformed, UnknownCaller, WrongAudience, WrongPassword};
    let bench = Bench::new().await;
    let application = PUSHER_APPLICATION.to_string();
    let pusher = format!("`pusher` ({PUSHER})");
    let good = [
        (basic(&application, bench.pusher_secret.expose()), pusher.as_str()),
        (basic("first", "admin-password"), "the admin user"),
        (basic("FIRST", "admin-password"), "the admin user"),
        (basic("Robot", "robot-password"), "repository token `robot`"),
    ];
    for (header, expected) in good {
        assert_eq!(caller(bench.credential("first", &header)), expected);
    }
    let refresh = bench.exchange("first", &bench.pusher_token(ARM), &public_origin()).unwrap();
    let with_refresh = basic("00000000-0000-0000-0000-000000000000", refresh.expose());
    assert_eq!(caller(bench.credential("first", &with_refresh)), pusher);

    let none = bench.identity.credential(&bench.rules("first"), None, OUTSIDE, bench.now()).unwrap();
    assert!(matches!(none, Credential::None));
    assert!(matches!(bench.credential("first", &basic("", "")), Credential::None));

    let bad = [
        (basic(&application, "nonsense"), WrongPassword),
        (basic("first", "robot-password"), WrongPassword),
        (basic("first", ""), WrongPassword),
        (basic("robot", "admin-password"), WrongPassword),
        (basic("other", "admin-password"), UnknownCaller),
        (basic("nobody", "x"), UnknownCaller),
        (basic(&STRANGER.to_string(), "x"), UnknownCaller),
        (basic(&SYSTEM.to_string(), "x"), UnknownCaller),
        (basic("00000000-0000-0000-0000-000000000000", "x"), Malformed),
        ("Basic !".into(), Malformed),
        ("Basic".into(), Malformed),
        ("Digest abc".into(), Malformed),
        ("Bearer abc".into(), Malformed),
        (format!("Bearer {}", "a".repeat(MAX_AUTHORIZATION_BYTES)), Malformed),
    ];
    for (header, expected) in bad {
        assert_invalid(bench.credential("first", &header), expected);
    }
    assert_invalid(bench.credential("other", &with_refresh), WrongAudience);
}

#[tokio::test]
async fn switched_off_callers() {
    let bench = Bench::new().await;
    let admin = bench.issue(
        "first",
        TokenGrant::Password { user: "first".into(), password: Secret::new("admin-password") },
        "repository:app:*",
        &public_origin(),
    );
    let robot_token = bench.issue(
        "first",
        TokenGrant::Password { user: "robot".into(), password: Secret::new("robot-password") },
        "repository:app:*",
        &public_origin(),
    );
    let (admin, robot_token) = (admin.unwrap(), robot_token.unwrap());
    assert_eq!(robot_token.claim.repository(&"app".parse().unwrap()), Actions::of(&[Action::Pull]));
    assert_eq!(caller(bench.credential("first", &bearer(&robot_token.access_token))), "repository token `robot`");
    let pusher = access(&bench, "first");

    let mut closed = registry(true);
    closed["properties"]["adminUserEnabled"] = false.into();
    bench.put(&registry_id("first"), closed).await;
    bench.put(&format!("{}/tokens/robot", registry_id("first")), robot("disabled")).await;
    bench
        .put(
            &format!("/providers/Microsoft.Graph/servicePrincipals/{PUSHER}"),
            json!({"properties": {"appId": PUSHER_APPLICATION, "displayName": "pusher", "accountEnabled": false}}),
        )
        .await;
    let headers = [
        basic("first", "admin-password"),
        bearer(&admin.access_token),
        basic("robot", "robot-password"),
        bearer(&robot_token.access_token),
        basic(&PUSHER_APPLICATION.to_string(), bench.pusher_secret.expose()),
        bearer(&pusher),
    ];
    for header in headers {
        assert_invalid(bench.credential("first", &header), InvalidCredential::Disabled);
    }
    bench.remove(&format!("{}/tokens/robot", registry_id("first"))).await;
    bench.put(&format!("{}/tokens/robot", registry_id("first")), robot("enabled")).await;
    let again = bench.credential("first", &bearer(&robot_token.access_token));
    assert_invalid(again, InvalidCredential::UnknownCaller);
}

#[tokio::test]
async fn an_access_token_allows_what_was_asked_for_and_granted() {
    let bench = Bench::new().await;
    let issued = bench
        .issue("first", password(&bench), "repository:app:pull,push,delete registry:catalog:*", &public_origin())
        .unwrap();
    assert_eq!(issued.expires_in, ACCESS_TOKEN_SECONDS);
    let header = bearer(&issued.access_token);
    let first = verified(bench.credential("first", &header));
    let claim = first.claim.unwrap();
    let expected = Actions::of(&[Action::Pull, Action::Push]);
    assert_eq!(claim.repository(&"app".parse().unwrap()), expected);
    assert!(claim.catalog, "a reader's `pull/read` lists the catalog");
    assert_eq!(first.binding, None);
    match &first.caller {
        Caller::Principal(principal) => assert_eq!(principal.groups, [PrincipalId(TEAM)]),
        other => panic!("{other:?}"),
    }
    // From memory: the same claim, not a copy; but the caller as it is now.
    bench.remove(&format!("/providers/Microsoft.Graph/groups/{TEAM}")).await;
    let second = verified(bench.credential("first", &header));
    assert!(Arc::ptr_eq(&claim, second.claim.as_ref().unwrap()));
    assert!(matches!(second.caller, Caller::Principal(principal) if principal.groups.is_empty()));
    let nothing = bench.issue("first", password(&bench), "repository:app:pull", &public_origin()).unwrap();
    assert_eq!(nothing.claim.repositories, [("app".parse().unwrap(), Actions::NONE)]);

    // A refresh token comes back as it went in; a password gets none.
    assert!(issued.refresh_token.is_none());
    let refresh = bench.exchange("first", &bench.pusher_token(ARM), &public_origin()).unwrap();
    let renewed = bench.issue("first", TokenGrant::RefreshToken(refresh.clone()), "", &public_origin()).unwrap();
    assert_eq!(renewed.refresh_token, Some(refresh.clone()));
    assert_invalid(bench.credential("first", &bearer(&refresh)), InvalidCredential::WrongKind);
    let swapped = bench.issue("first", TokenGrant::RefreshToken(renewed.access_token), "", &public_origin());
    assert_eq!(swapped.unwrap_err(), TokenRefusal::Invalid(InvalidCredential::WrongKind));

    bench.remove(&format!("/providers/Microsoft.Graph/servicePrincipals/{PUSHER}")).await;
    assert_invalid(bench.credential("first", &header), InvalidCredential::UnknownCaller);
}

#[tokio::test]
async fn tokens_have_the_documented_claims() {
    let bench = Bench::new().await;
    let refresh = bench.exchange("first", &bench.pusher_token(REGISTRY_AUDIENCE), &public_origin()).unwrap();
    let issued = bench
        .issue("first", TokenGrant::RefreshToken(refresh.clone()), "repository:app:pull", &public_origin())
        .unwrap();
    let keys = bench.identity.registry_key_set();
    let read = |token: &Secret| {
        let header = jsonwebtoken::decode_header(token.expose()).unwrap();
        assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::RS256, Some("JWT")));
        let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["first.azurecr.io.localhost"]);
        validation.set_issuer(&["Azure Container Registry"]);
        validation.validate_exp = false;
        jsonwebtoken::decode::<Value>(token.expose(), &key, &validation).unwrap().claims
    };
    let claims = read(&issued.access_token);
    assert_eq!(claims["access"], json!([{"type": "repository", "name": "app", "actions": ["pull"]}]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), ACCESS_TOKEN_SECONDS);
    assert_eq!((&claims["sub"], &claims["appid"]), (&json!(PUSHER_APPLICATION), &json!(PUSHER_APPLICATION)));
    assert_eq!(
        (&claims["grant_type"], &claims["version"], &claims["roles"]),
        (&json!("access_token"), &json!("1.0"), &json!([]))
    );
    let claims = read(&refresh);
    assert_eq!(claims["permissions"], json!({"actions": [], "notActions": []}));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), REFRESH_TOKEN_SECONDS);
    assert_eq!((&claims["grant_type"], &claims["tenant"]), (&json!("refresh_token"), &json!(TENANT)));
    assert!(claims.get("access").is_none());
}

#[tokio::test]
async fn a_token_holds_for_its_registry_its_mode_and_its_time_only() {
    use InvalidCredential::{Expired, ModeChanged, RegistryReplaced, WrongAudience};
    let bench = Bench::new().await;
    let token = bearer(&access(&bench, "first"));
    assert_invalid(bench.credential("other", &token), WrongAudience);
    bench.pass(-1);
    assert_invalid(bench.credential("first", &token), Expired);
    bench.pass(ACCESS_TOKEN_SECONDS);
    verified(bench.credential("first", &token));
    bench.pass(1);
    assert_invalid(bench.credential("first", &token), Expired);

    let token = bearer(&access(&bench, "first"));
    let mut abac = registry(true);
    abac["properties"]["roleAssignmentMode"] = "AbacRepositoryPermissions".into();
    bench.put(&registry_id("first"), abac).await;
    assert_invalid(bench.credential("first", &token), ModeChanged);
    bench.put(&registry_id("first"), registry(true)).await;
    verified(bench.credential("first", &token));
    bench.remove(&registry_id("first")).await;
    bench.put(&registry_id("first"), registry(true)).await;
    assert_invalid(bench.credential("first", &token), RegistryReplaced);
    assert_invalid(bench.credential("first", &basic("first", "admin-password")), InvalidCredential::WrongPassword);
}

#[tokio::test]
async fn forged_tokens() {
    use InvalidCredential::{BadSignature, Malformed};
    let bench = Bench::new().await;
    let genuine = access(&bench, "first");
    let parts: Vec<&str> = genuine.expose().split('.').collect();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let with_algorithm = |algorithm: &str| {
        let mut header = header.clone();
        header["alg"] = algorithm.into();
        encode(&header)
    };
    let mut greedy = claims.clone();
    greedy["access"][0]["actions"] = json!(["pull", "push", "delete"]);

    let kid = header["kid"].as_str().unwrap().to_owned();
    let jwk = bench.identity.registry_key_set().keys[0].clone();
    let public = serde_json::to_vec(&jwk).unwrap();
    let hmac = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::HS256) };
    let hmac = jsonwebtoken::encode(&hmac, &claims, &EncodingKey::from_secret(&public)).unwrap();

    let other = Bench::new().await;
    let foreign = access(&other, "first");
    let stolen_name = {
        // Signed by another server's key, under this one's key id.
        let parts: Vec<&str> = foreign.expose().split('.').collect();
        format!("{}.{}.{}", with_algorithm("RS256"), parts[1], parts[2])
    };
    let cases = [
        (format!("{}.{}.{}", parts[0], encode(&greedy), parts[2]), BadSignature),
        (format!("{}.{}.", with_algorithm("none"), parts[1]), Malformed),
        (format!("{}.{}.", with_algorithm("None"), parts[1]), Malformed),
        (format!("{}.{}.{}", with_algorithm("HS256"), parts[1], parts[2]), BadSignature),
        (format!("{}.{}.{}", with_algorithm("RS512"), parts[1], parts[2]), BadSignature),
        (hmac, BadSignature),
        (foreign.expose().to_owned(), BadSignature),
        (stolen_name, BadSignature),
        (bench.pusher_token(ARM).expose().to_owned(), BadSignature),
        (bench.pusher_token(REGISTRY_AUDIENCE).expose().to_owned(), BadSignature),
        (bench.pusher_token("https://graph.microsoft.com").expose().to_owned(), BadSignature),
        (format!("{}.{}", parts[0], parts[1]), Malformed),
        (format!("{}.{}.{}.x", parts[0], parts[1], parts[2]), Malformed),
        (String::new(), Malformed),
    ];
    for (token, expected) in cases {
        for _ in 0..2 {
            // The second time from memory.
            assert_invalid(bench.credential("first", &format!("Bearer {token}")), expected);
        }
    }
    // The right key and the wrong contents.
    let sign = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        bearer(&bench.identity.registry_keys.sign(&claims).unwrap())
    };
    let cases: [(Change<'_>, InvalidCredential); 6] = [
        (&|claims| claims["iss"] = "https://login".into(), InvalidCredential::WrongAudience),
        (&|claims| claims["tenant"] = json!(STRANGER), InvalidCredential::WrongTenant),
        (&|claims| claims["grant_type"] = "x".into(), InvalidCredential::WrongKind),
        (&|claims| claims["postern_caller"] = "root".into(), Malformed),
        (&|claims| claims["postern_mode"] = "x".into(), Malformed),
        (&|claims| claims["access"][0]["name"] = "A".into(), Malformed),
    ];
    for (change, expected) in cases {
        assert_invalid(bench.credential("first", &sign(change)), expected);
    }
}

#[tokio::test]
async fn exchange() {
    use TokenRefusal::{Invalid, WrongService};
    let bench = Bench::new().await;
    let origin = public_origin();
    let own_endpoint = format!("https://{SUFFIX}:8443");
    for audience in [ARM, "https://management.core.windows.net/", "https://management.azure.com", &own_endpoint] {
        bench.exchange("first", &bench.pusher_token(audience), &origin).unwrap();
    }
    let graph = bench.pusher_token("https://graph.microsoft.com");
    assert_eq!(bench.exchange("first", &graph, &origin), Err(Invalid(InvalidCredential::WrongAudience)));
    let registry_token = access(&bench, "first");
    assert_eq!(bench.exchange("first", &registry_token, &origin), Err(Invalid(InvalidCredential::BadSignature)));

    bench.put(&registry_id("first"), registry(false)).await;
    let refused = Err(Invalid(InvalidCredential::ArmAudienceRefused));
    assert_eq!(bench.exchange("first", &bench.pusher_token(ARM), &origin), refused);
    bench.exchange("first", &bench.pusher_token(REGISTRY_AUDIENCE), &origin).unwrap();

    let token = bench.pusher_token(REGISTRY_AUDIENCE);
    let rules = bench.rules("first");
    let mut request =
        ExchangeRequest { service: "other.azurecr.io.localhost".into(), tenant: None, access_token: token.clone() };
    let credential = bench.identity.exchange_credential(&rules, &request, bench.now());
    assert_eq!(bench.identity.exchange(&rules, &request, &credential, &origin, bench.now()), Err(WrongService));
    request.service = "FIRST.azurecr.io.localhost:8443".into();
    bench.identity.exchange(&rules, &request, &credential, &origin, bench.now()).unwrap();
    request.tenant = Some(STRANGER.to_string());
    let credential = bench.identity.exchange_credential(&rules, &request, bench.now());
    assert_invalid(credential, InvalidCredential::WrongTenant);

    bench.pass(3600);
    assert_eq!(bench.exchange("first", &token, &origin), Err(Invalid(InvalidCredential::Expired)));
}

#[tokio::test]
async fn anonymous_tokens() {
    let bench = Bench::new().await;
    let ask = || bench.issue("first", TokenGrant::Anonymous, "repository:app:pull,push", &public_origin());
    assert_eq!(ask().unwrap_err(), TokenRefusal::AuthenticationRequired);
    let mut open = registry(true);
    open["properties"]["anonymousPullEnabled"] = true.into();
    bench.put(&registry_id("first"), open).await;
    let issued = ask().unwrap();
    assert_eq!(issued.claim.repositories, [("app".parse().unwrap(), Actions::of(&[Action::Pull]))]);
    assert!(issued.refresh_token.is_none());
    let credential = verified(bench.credential("first", &bearer(&issued.access_token)));
    assert!(matches!(credential.caller, Caller::Anonymous));
}

#[test]
fn token_requests() {
    use TokenRefusal::{BadForm, Missing, UnsupportedGrant};
    #[track_caller]
    fn check(body: &str, expected: Result<&str, TokenRefusal>) {
        let grant = TokenRequest::from_form(body.as_bytes()).map(|request| match request.grant {
            TokenGrant::Anonymous => "anonymous".to_owned(),
            TokenGrant::RefreshToken(token) => format!("refresh {}", token.expose()),
            TokenGrant::Password { user, password } => format!("{user} {}", password.expose()),
            TokenGrant::Invalid(why) => why.to_string(),
        });
        assert_eq!(grant, expected.map(str::to_owned), "{body}");
    }
    check("grant_type=refresh_token&refresh_token=x&service=s", Ok("refresh x"));
    check("grant_type=refresh_token", Err(Missing("refresh_token")));
    check("grant_type=password", Ok("anonymous"));
    check("grant_type=password&username=a&password=b%26", Ok("a b&"));
    check("grant_type=password&username=00000000-0000-0000-0000-000000000000&password=x", Ok("refresh x"));
    check("grant_type=access_token", Err(UnsupportedGrant));
    check("", Err(Missing("grant_type")));
    check(&"a=b&".repeat(129), Err(BadForm));
    check(&format!("grant_type={}", "a".repeat(crate::MAX_FORM_BYTES)), Err(BadForm));

    let exchange = |body: &str| ExchangeRequest::from_form(body.as_bytes()).map(|request| request.service);
    assert_eq!(exchange("grant_type=access_token&service=s&access_token=x"), Ok("s".into()));
    assert_eq!(
        exchange("grant_type=access_token_refresh_token&service=s&access_token=x&refresh_token=y"),
        Ok("s".into())
    );
    assert_eq!(exchange("grant_type=refresh_token&service=s&refresh_token=y"), Err(UnsupportedGrant));
    assert_eq!(exchange("grant_type=access_token&access_token=x"), Err(Missing("service")));

    let query = "service=s&scope=repository:a:pull&scope=repository:b:pull%20registry:catalog:*&offline_token=true";
    let request = TokenRequest::from_query(query, Some(&basic("a", "b"))).unwrap();
    assert_eq!((request.scopes.len(), request.offline), (3, true));
    assert!(matches!(request.grant, TokenGrant::Password { .. }));
    let request = TokenRequest::from_query("", Some("Bearer x")).unwrap();
    assert!(matches!(request.grant, TokenGrant::Invalid(InvalidCredential::WrongKind)));
}

#[tokio::test]
async fn keys_rotate_with_overlap() {
    let bench = Bench::new().await;
    let old = bearer(&access(&bench, "first"));
    bench.pass(60);
    bench.identity.rotate_keys(bench.now()).await.unwrap();
    assert_eq!(bench.identity.registry_key_set().keys.len(), 2);
    let new = bearer(&access(&bench, "first"));
    verified(bench.credential("first", &old));
    verified(bench.credential("first", &new));
    // Once nothing that the old key signed can hold any more, the next rotation drops it.
    bench.pass(REFRESH_TOKEN_SECONDS);
    bench.identity.rotate_keys(bench.now()).await.unwrap();
    assert_eq!(bench.identity.registry_key_set().keys.len(), 2);
    let kids: Vec<_> = bench.identity.registry_key_set().keys.iter().map(|key| key.common.key_id.clone()).collect();

    // The keys are there again after a restart.
    let vault = bench.store.vault();
    let ring = crate::keys::KeyRing::load(&vault, "keys/registry", REFRESH_TOKEN_SECONDS, bench.now()).await.unwrap();
    let again: Vec<_> = ring.published().keys.iter().map(|key| key.common.key_id.clone()).collect();
    assert_eq!(kids, again);
    bench.identity.maintain(bench.now()).await.unwrap();
    assert_eq!(bench.identity.registry_key_set().keys.len(), 2);
    bench.pass(crate::keys::KEY_LIFETIME_SECONDS);
    bench.identity.maintain(bench.now()).await.unwrap();
    assert_ne!(bench.identity.registry_key_set().keys[0].common.key_id, kids[0]);
}

/// The one thread that there is waits for the key, and so cannot begin to make it.
#[tokio::test]
async fn whoever_needs_the_first_key_at_once_gets_it() {
    let bench = Bench::new().await;
    let ring = crate::keys::KeyRing::load(&bench.store.vault(), "keys/another", 0, bench.now()).await.unwrap();
    let token = ring.sign(&json!({"sub": "somebody"})).unwrap();
    assert_eq!(ring.verify::<serde_json::Value>(token.expose()).unwrap(), json!({"sub": "somebody"}));
}

#[tokio::test]
async fn callers_of_the_resource_manager() {
    use ArmRefusal::{Invalid, Missing};
    let bench = Bench::new().await;
    let call = |header: Option<&str>| bench.identity.arm_caller(header, &WorkloadState::None, bench.now());
    let caller = call(Some(&bearer(&bench.pusher_token(ARM)))).unwrap();
    assert_eq!((caller.principal.id, caller.client_id), (PrincipalId(PUSHER), PUSHER_APPLICATION));
    let refused = [
        (None, Missing),
        (Some(basic("", "")), Missing),
        (
            Some(basic(&PUSHER_APPLICATION.to_string(), bench.pusher_secret.expose())),
            Invalid(InvalidCredential::WrongKind),
        ),
        (Some(bearer(&bench.pusher_token(REGISTRY_AUDIENCE))), Invalid(InvalidCredential::WrongAudience)),
        (Some(bearer(&access(&bench, "first"))), Invalid(InvalidCredential::BadSignature)),
        (Some("Bearer x".into()), Invalid(InvalidCredential::Malformed)),
    ];
    for (header, expected) in refused {
        assert_eq!(call(header.as_deref()).unwrap_err(), expected);
    }
    let other = Bench::in_tenant(STRANGER).await;
    assert_eq!(call(Some(&bearer(&other.pusher_token(ARM)))).unwrap_err(), Invalid(InvalidCredential::BadSignature));
}
