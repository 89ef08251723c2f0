use postern_access::{SCANNERS, TokenBinding, WorkloadRejection};
use postern_model::IdentityKind;
use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};

use super::*;
use crate::certificates::Leaf;
use crate::{
    ArmRefusal, FirstPartyService, IdentitySelector, MAX_SIGNING_REQUEST_BYTES, ManagedTokenRefusal, PeerCertificate,
    WORKLOAD_CERTIFICATE_SECONDS, WorkloadCertificateError,
};

fn rejected(state: WorkloadState) -> WorkloadRejection {
    match state {
        WorkloadState::Rejected(why) => why,
        other => panic!("{other:?}"),
    }
}

/// The origin of a connection with this certificate.
fn origin(bench: &Bench, leaf: &CertificateDer<'static>) -> Origin {
    let workload = bench.identity.verify_workload(std::slice::from_ref(leaf), bench.now());
    assert!(matches!(workload, WorkloadState::Verified(_)), "{workload:?}");
    Origin { workload, ..public_origin() }
}

/// A certificate of the workload authority with these names.
fn forged(bench: &Bench, names: &[&str], common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
    let names = names
        .iter()
        .map(|name| match name.strip_prefix("dns:") {
            Some(name) => SanType::DnsName(name.try_into().unwrap()),
            None => SanType::URI((*name).try_into().unwrap()),
        })
        .collect();
    let leaf = Leaf { names, common_name: common_name.into(), usage, lifetime_seconds: 600 };
    let key = KeyPair::generate().unwrap();
    bench.identity.workload_authority.sign(leaf, &key, bench.random.as_ref(), bench.now()).unwrap().der().clone()
}

#[tokio::test]
async fn a_certificate_names_its_workload() {
    let bench = Bench::new().await;
    let (leaf, _) = bench.certify(&container_group_id());
    let WorkloadState::Verified(workload) = origin(&bench, &leaf).workload else { panic!() };
    assert_eq!(workload.resource.as_str(), container_group_id());
    assert_eq!(&*workload.resource_type, postern_access::CONTAINER_GROUPS);
    assert_eq!(workload.uid, bench.resource(&container_group_id()).uid);
    let identities: Vec<_> = workload.identities.iter().map(|identity| (identity.principal.0, identity.kind)).collect();
    assert_eq!(identities, [(SYSTEM, IdentityKind::SystemAssigned), (USER, IdentityKind::UserAssigned)]);
    // A user-assigned identity that is gone is not one of them any more.
    bench.remove(&user_identity_id()).await;
    let WorkloadState::Verified(workload) = origin(&bench, &leaf).workload else { panic!() };
    assert_eq!(workload.identities.len(), 1);
}

#[tokio::test]
async fn certificates_that_do_not_count() {
    use WorkloadRejection::{Expired, Malformed, ResourceGone, UnknownIssuer};
    let bench = Bench::new().await;
    let (leaf, _) = bench.certify(&container_group_id());
    let state = |chain: &[CertificateDer<'_>]| bench.identity.verify_workload(chain, bench.now());
    assert!(matches!(state(&[]), WorkloadState::None));
    assert_eq!(rejected(state(&vec![leaf.clone(); 5])), Malformed);
    assert_eq!(rejected(state(&[CertificateDer::from(vec![1, 2, 3])])), Malformed);

    let stranger = Bench::new().await;
    let (foreign, _) = stranger.certify(&container_group_id());
    assert_eq!(rejected(state(&[foreign])), UnknownIssuer);
    let server_leaf = {
        let names = vec![SanType::URI("spiffe://x/y".try_into().unwrap())];
        let leaf =
            Leaf { names, common_name: "x".into(), usage: ExtendedKeyUsagePurpose::ClientAuth, lifetime_seconds: 60 };
        let key = KeyPair::generate().unwrap();
        bench.identity.server_authority.sign(leaf, &key, bench.random.as_ref(), bench.now()).unwrap().der().clone()
    };
    assert_eq!(rejected(state(&[server_leaf])), UnknownIssuer, "the server's authority makes no workloads");

    let uid = bench.resource(&container_group_id()).uid.to_string();
    let good = format!("spiffe://{TENANT}{}", container_group_id().replace(' ', "%20"));
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let make = |names: &[&str], name: &str| forged(&bench, names, name, client.clone());
    assert!(matches!(state(&[make(&[&good], &uid)]), WorkloadState::Verified(_)));
    let elsewhere = good.replace(&TENANT.to_string(), &STRANGER.to_string());
    let cases = [
        (make(&[&elsewhere], &uid), UnknownIssuer),
        (make(&[&good, &good], &uid), Malformed),
        (make(&[&good, "dns:a.example"], &uid), Malformed),
        (make(&["dns:a.example"], &uid), Malformed),
        (make(&[], &uid), Malformed),
        (make(&[&good], "not a uid"), Malformed),
        (make(&[&good.replace("spiffe", "https")], &uid), Malformed),
        (make(&[&format!("spiffe://{TENANT}")], &uid), Malformed),
        (make(&[&format!("{good}/%2e%2e/x")], &uid), Malformed),
        (make(&[&format!("{good}x")], &uid), ResourceGone),
        (make(&[&good], &STRANGER.to_string()), ResourceGone),
        (forged(&bench, &[&good], &uid, ExtendedKeyUsagePurpose::ServerAuth), Malformed),
    ];
    for (at, (leaf, expected)) in cases.into_iter().enumerate() {
        assert_eq!(rejected(state(&[leaf])), expected, "case {at}");
    }

    bench.pass(-301);
    assert_eq!(rejected(bench.identity.verify_workload(std::slice::from_ref(&leaf), bench.now())), Expired);
    bench.pass(301 + WORKLOAD_CERTIFICATE_SECONDS + 1);
    assert_eq!(rejected(bench.identity.verify_workload(&[leaf], bench.now())), Expired);
}

#[tokio::test]
async fn a_kept_connection_is_judged_anew_for_each_request() {
    let bench = Bench::new().await;
    let (leaf, _) = bench.certify(&container_group_id());
    let certificate = bench.identity.peer_certificate(Some(&[leaf]), bench.now());
    assert!(matches!(certificate, PeerCertificate::Presented(_)));
    let address = IpAddr::from([127, 0, 0, 1]);
    let peer = Peer { place: "p".into(), ingress: Ingress::Public, address, simulated: false, certificate };
    let state = || peer.origin(&bench.identity, bench.now()).workload;
    assert!(matches!(state(), WorkloadState::Verified(_)));
    bench.remove(&container_group_id()).await;
    assert_eq!(rejected(state()), WorkloadRejection::ResourceGone);
    // Another resource under the same id is not the one that was certified.
    bench.put(&container_group_id(), container_group()).await;
    assert_eq!(rejected(state()), WorkloadRejection::ResourceGone);
    bench.pass(WORKLOAD_CERTIFICATE_SECONDS + 1);
    assert_eq!(rejected(state()), WorkloadRejection::Expired);
}

#[tokio::test]
async fn first_party_services_have_certificates_that_nobody_can_ask_for() {
    let bench = Bench::new().await;
    let scanner = FirstPartyService::Scanner;
    bench.put(scanner.resource_id(), json!({"location": "x"})).await;
    let (request, _) = signing_request();
    let asked =
        bench.identity.issue_workload_certificate(&bench.resource(scanner.resource_id()), &request, bench.now());
    assert!(matches!(asked, Err(WorkloadCertificateError::FirstParty)));

    for (service, identities) in [(scanner, 1), (FirstPartyService::Importer, 0)] {
        let issued = bench.identity.first_party_certificate(service, &request, bench.now()).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        let WorkloadState::Verified(workload) = origin(&bench, &leaf).workload else { panic!() };
        assert_eq!((workload.uid, workload.identities.len()), (service.uid(), identities));
        let token = bench.identity.managed_token(
            &WorkloadState::Verified(Arc::clone(&workload)),
            REGISTRY_AUDIENCE,
            &IdentitySelector::Default,
            bench.now(),
        );
        assert_eq!(token.is_ok(), identities == 1);
        if let Ok(token) = token {
            assert_eq!(&*workload.resource_type, SCANNERS);
            let origin = origin(&bench, &leaf);
            let refresh = bench.exchange("first", &token.access_token, &origin).unwrap();
            let issued =
                bench.issue("first", TokenGrant::RefreshToken(refresh), "repository:app:pull", &origin).unwrap();
            let verified = verified(bench.credential("first", &bearer(&issued.access_token)));
            assert_eq!(verified.binding, Some(TokenBinding { resource: service.uid() }));
        }
    }
    // A certificate for the service's id and another uid is none.
    let fake = format!("spiffe://{TENANT}{}", scanner.resource_id());
    let uid = bench.resource(scanner.resource_id()).uid.to_string();
    let leaf = forged(&bench, &[&fake], &uid, ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(rejected(bench.identity.verify_workload(&[leaf], bench.now())), WorkloadRejection::ResourceGone);
}

#[tokio::test]
async fn signing_requests_give_their_key_and_nothing_else() {
    let bench = Bench::new().await;
    let resource = bench.resource(&container_group_id());
    let issue = |request: &str| bench.identity.issue_workload_certificate(&resource, request, bench.now());
    for bad in ["", "nonsense", &"a".repeat(MAX_SIGNING_REQUEST_BYTES + 1)] {
        assert!(matches!(issue(bad), Err(WorkloadCertificateError::BadRequest)));
    }
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["evil.example".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, STRANGER.to_string());
    let issued = issue(&params.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
    assert_eq!(issued.not_after, bench.now().plus_seconds(WORKLOAD_CERTIFICATE_SECONDS));
    assert_eq!(issued.ca_pem, bench.identity.server_ca_pem());
    let leaf = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    origin(&bench, &leaf);
}

#[tokio::test]
async fn managed_identity_tokens_belong_to_their_workload() {
    let bench = Bench::new().await;
    let (leaf, _) = bench.certify(&container_group_id());
    let home = origin(&bench, &leaf);
    let token = |selector: &IdentitySelector| {
        bench.identity.managed_token(&home.workload, REGISTRY_AUDIENCE, selector, bench.now())
    };

    let user: ResourceId = user_identity_id().to_uppercase().parse().unwrap();
    let cases = [
        (IdentitySelector::Default, Ok(SYSTEM)),
        (IdentitySelector::ObjectId(SYSTEM), Ok(SYSTEM)),
        (IdentitySelector::ClientId(USER_CLIENT), Ok(USER_CLIENT)),
        (IdentitySelector::ObjectId(USER), Ok(USER_CLIENT)),
        (IdentitySelector::ResourceId(user), Ok(USER_CLIENT)),
        (IdentitySelector::ClientId(PUSHER_APPLICATION), Err(ManagedTokenRefusal::IdentityNotAssigned)),
        (IdentitySelector::ObjectId(PUSHER), Err(ManagedTokenRefusal::IdentityNotAssigned)),
    ];
    for (selector, expected) in cases {
        assert_eq!(token(&selector).map(|token| token.client_id), expected, "{selector:?}");
    }
    let ask = |workload: &WorkloadState, resource: &str| {
        bench.identity.managed_token(workload, resource, &IdentitySelector::Default, bench.now()).map(|_| ())
    };
    assert_eq!(ask(&WorkloadState::None, ARM), Err(ManagedTokenRefusal::NoWorkload));
    let expired = WorkloadState::Rejected(WorkloadRejection::Expired);
    assert_eq!(ask(&expired, ARM), Err(WorkloadRejection::Expired.into()));
    assert_eq!(ask(&home.workload, "x"), Err(ManagedTokenRefusal::BadResource));

    // At home it gets registry tokens, bound to the workload.
    let managed = token(&IdentitySelector::Default).unwrap().access_token;
    let refresh = bench.exchange("first", &managed, &home).unwrap();
    let grant = || TokenGrant::RefreshToken(refresh.clone());
    let issued = bench.issue("first", grant(), "repository:app:pull,push", &home).unwrap();
    let verified = verified(bench.credential("first", &bearer(&issued.access_token)));
    let uid = bench.resource(&container_group_id()).uid;
    assert_eq!(verified.binding, Some(TokenBinding { resource: uid }));

    // Elsewhere none of it is worth anything.
    let neighbour = format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/neighbour");
    bench.put(&neighbour, json!({"location": "eastus"})).await;
    let (thief, _) = bench.certify(&neighbour);
    for elsewhere in [public_origin(), origin(&bench, &thief)] {
        assert_eq!(bench.exchange("first", &managed, &elsewhere), Err(TokenRefusal::BoundElsewhere));
        let issued = bench.issue("first", grant(), "repository:app:pull", &elsewhere);
        assert_eq!(issued.unwrap_err(), TokenRefusal::BoundElsewhere);
    }
    let arm = bench.identity.managed_token(&home.workload, ARM, &IdentitySelector::Default, bench.now()).unwrap();
    let header = bearer(&arm.access_token);
    let call = |workload: &WorkloadState| bench.identity.arm_caller(Some(&header), workload, bench.now());
    assert_eq!(call(&home.workload).unwrap().principal.id, PrincipalId(SYSTEM));
    assert_eq!(call(&WorkloadState::None).unwrap_err(), ArmRefusal::BoundElsewhere);

    // A service principal in the workload is nobody of the workload's: its token stays free.
    let free = bench.exchange("first", &bench.pusher_token(ARM), &home).unwrap();
    bench.issue("first", TokenGrant::RefreshToken(free), "repository:app:pull", &public_origin()).unwrap();
}
