use axum::body::Body;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{PRINCIPAL_TOKEN_SECONDS, PeerCertificate, authority_router};

pub(super) fn peer(address: [u8; 4], certificate: PeerCertificate) -> Peer {
    Peer { place: "p".into(), ingress: Ingress::Public, address: address.into(), simulated: false, certificate }
}

pub(super) async fn send(
    bench: &Bench,
    peer: Peer,
    method: &str,
    path: &str,
    body: &str,
) -> (StatusCode, Option<String>, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, format!("{AUTHORITY}:8443"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .extension(peer)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = authority_router(Arc::clone(&bench.identity)).oneshot(request).await.unwrap();
    let status = response.status();
    let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, retry, serde_json::from_slice(&body).unwrap_or_default())
}

fn form(client: &str, secret: &str, scope: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client)
        .append_pair("client_secret", secret)
        .append_pair("scope", scope)
        .append_pair("claims", r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#)
        .finish()
}

#[tokio::test]
async fn client_credentials() {
    let bench = Bench::new().await;
    let path = format!("/{TENANT}/oauth2/v2.0/token");
    let client = PUSHER_APPLICATION.to_string();
    let secret = bench.pusher_secret.expose().to_owned();
    let scope = "https://management.core.windows.net//.default";
    let caller = || peer([192, 0, 2, 1], PeerCertificate::None);
    let post = async |path: &str, body: &str| send(&bench, caller(), "POST", path, body).await;

    let (status, _, body) = post(&path, &form(&client, &secret, scope)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(PRINCIPAL_TOKEN_SECONDS - 1)));
    let token = Secret::new(body["access_token"].as_str().unwrap());
    let claims = bench.identity.authority_token(token.expose(), bench.now()).unwrap().0;
    assert_eq!(claims.aud, "https://management.core.windows.net/");
    assert_eq!(claims.iss, format!("https://{AUTHORITY}/{TENANT}/"));
    assert_eq!((claims.oid, claims.appid, claims.tid), (PUSHER, PUSHER_APPLICATION, TENANT));
    let caller = bench.identity.arm_caller(Some(&bearer(&token)), &WorkloadState::None, bench.now()).unwrap();
    assert_eq!(caller.principal.id, PrincipalId(PUSHER));

    let good = form(&client, &secret, scope);
    let cases = [
        (path.clone(), form(&client, "wrong", scope), 401, "invalid_client", 7_000_215),
        (path.clone(), form(&STRANGER.to_string(), &secret, scope), 400, "unauthorized_client", 700_016),
        (path.clone(), form("not-a-guid", &secret, scope), 400, "unauthorized_client", 700_016),
        (format!("/{STRANGER}/oauth2/v2.0/token"), good.clone(), 400, "invalid_request", 90002),
        ("/contoso.com/oauth2/v2.0/token".into(), good.clone(), 400, "invalid_request", 90002),
        (path.clone(), form(&client, &secret, "https://management.azure.com"), 400, "invalid_scope", 70011),
        (path.clone(), good.replace("client_credentials", "implicit"), 400, "unsupported_grant_type", 70003),
        (path.clone(), "grant_type=client_credentials".into(), 400, "invalid_request", 900_144),
        (path.clone(), String::new(), 400, "invalid_request", 900_144),
    ];
    for (path, body, status, error, code) in cases {
        let (got, _, answer) = post(&path, &body).await;
        assert_eq!((got.as_u16(), &answer["error"], &answer["error_codes"]), (status, &json!(error), &json!([code])));
        let description = answer["error_description"].as_str().unwrap();
        assert!(description.starts_with(&format!("AADSTS{code}: ")) && !description.contains(&secret), "{description}");
    }
    let (status, ..) = post(&path, &"a".repeat(crate::MAX_FORM_BYTES + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for tenant in ["organizations", "common"] {
        assert_eq!(post(&format!("/{tenant}/oauth2/v2.0/token"), &good).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let bench = Bench::new().await;
    let path = format!("/{TENANT}/oauth2/v2.0/token");
    let client = PUSHER_APPLICATION.to_string();
    let good = form(&client, bench.pusher_secret.expose(), "https://management.azure.com/.default");
    let post =
        async |address, body: &str| send(&bench, peer(address, PeerCertificate::None), "POST", &path, body).await;
    for _ in 0..10 {
        let (status, ..) = post([192, 0, 2, 1], &form(&client, "guess", "https://management.azure.com/.default")).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let (status, retry, _) = post([192, 0, 2, 1], &good).await;
    assert_eq!((status, retry.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("60")));
    assert_eq!(post([192, 0, 2, 2], &good).await.0, StatusCode::OK);
    bench.pass(60);
    assert_eq!(post([192, 0, 2, 1], &good).await.0, StatusCode::OK);
}

#[tokio::test]
async fn discovery_and_keys() {
    let bench = Bench::new().await;
    let get = async |path: &str| send(&bench, peer([192, 0, 2, 1], PeerCertificate::None), "GET", path, "").await;
    let (status, _, document) = get(&format!("/{TENANT}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!(status, StatusCode::OK);
    let base = format!("https://{AUTHORITY}:8443/{TENANT}");
    assert_eq!(document["issuer"], format!("{base}/v2.0"));
    assert_eq!(document["token_endpoint"], format!("{base}/oauth2/v2.0/token"));
    assert_eq!(document["jwks_uri"], format!("{base}/discovery/v2.0/keys"));
    assert_eq!(document["authorization_endpoint"], format!("{base}/oauth2/v2.0/authorize"));
    let (_, _, document) = get(&format!("https://{AUTHORITY}/{TENANT}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!(document["issuer"], format!("https://{AUTHORITY}/{TENANT}/v2.0"));
    let (_, _, document) = get(&format!("https://azurecr.test/{TENANT}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!(document["token_endpoint"], format!("https://azurecr.test/{TENANT}/oauth2/v2.0/token"));
    let (_, _, document) = get("/Organizations/v2.0/.well-known/openid-configuration").await;
    assert_eq!(document["token_endpoint"], format!("https://{AUTHORITY}:8443/organizations/oauth2/v2.0/token"));
    assert_eq!(get(&format!("/{STRANGER}/v2.0/.well-known/openid-configuration")).await.0, StatusCode::BAD_REQUEST);

    let (_, _, keys) = get(&format!("/{TENANT}/discovery/v2.0/keys")).await;
    let token = bench.pusher_token(ARM);
    let kid = jsonwebtoken::decode_header(token.expose()).unwrap().kid.unwrap();
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["kid"], &key["kty"], &key["use"], &key["alg"]),
        (&json!(kid), &json!("RSA"), &json!("sig"), &json!("RS256"))
    );
    assert!(key.get("d").is_none(), "only the public half");
    let registry = bench.identity.registry_key_set();
    assert!(registry.find(&kid).is_none(), "registry tokens have keys of their own");
}

#[tokio::test]
async fn managed_identity_endpoint() {
    let bench = Bench::new().await;
    let (leaf, _) = bench.certify(&container_group_id());
    let certificate = bench.identity.peer_certificate(Some(&[leaf]), bench.now());
    let post = async |certificate: &PeerCertificate, body: &str| {
        send(&bench, peer([10, 0, 0, 1], certificate.clone()), "POST", crate::MANAGED_TOKEN_PATH, body).await
    };
    let (status, _, body) = post(&certificate, &format!("resource={REGISTRY_AUDIENCE}&client_id={USER_CLIENT}")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["client_id"], &body["resource"]), (&json!(USER_CLIENT), &json!(REGISTRY_AUDIENCE)));
    let claims = bench.identity.authority_token(body["access_token"].as_str().unwrap(), bench.now()).unwrap().0;
    assert_eq!((claims.oid, claims.xms_mirid.as_deref()), (USER, Some(user_identity_id().as_str())));
    assert_eq!(body["expires_on"], claims.exp.to_string());
    let (_, _, body) = post(&certificate, &format!("resource={REGISTRY_AUDIENCE}")).await;
    let claims = bench.identity.authority_token(body["access_token"].as_str().unwrap(), bench.now()).unwrap().0;
    assert_eq!((claims.oid, claims.xms_mirid.as_deref()), (SYSTEM, Some(container_group_id().as_str())));

    let cases = [
        (&PeerCertificate::None, format!("resource={ARM}"), 403),
        (&certificate, String::new(), 400),
        (&certificate, format!("resource={ARM}&client_id=x"), 400),
        (&certificate, format!("resource={ARM}&client_id={USER_CLIENT}&object_id={USER}"), 400),
        (&certificate, format!("resource={ARM}&object_id={PUSHER}"), 400),
    ];
    for (certificate, body, status) in cases {
        let (got, _, answer) = post(certificate, &body).await;
        assert_eq!(got.as_u16(), status, "{body}: {answer}");
        assert!(answer.get("access_token").is_none());
    }
}
