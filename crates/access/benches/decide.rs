//! How long a decision takes, its trace included, with many rules and many assignments.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has no figures")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ipnet::Ipv4Net;
use postern_access::{
    Action, Actions, AddressRanges, CONTAINER_GROUPS, Caller, Condition, ConnectionStatus, ContentPolicies, Credential,
    Grant, GrantTable, Ingress, Inputs, NetworkRules, Operation, OperationKind, Origin, Principal, PrincipalKind,
    PrivateEndpointConnection, RegistryRules, RoleAssignmentMode, Verified, Workload, WorkloadIdentity, WorkloadState,
    evaluate,
};
use postern_model::{IdentityKind, PrincipalId, RegistryUid, ResourceId, ResourceUid};
use uuid::Uuid;

const CALLER: u32 = 500;
const LISTED: Ipv4Addr = Ipv4Addr::new(20, 0, 1, 244);
const UNLISTED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const ABAC_READER: &str = "((!(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'}) AND \
    !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'})) OR \
    (@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'team/app'))";

fn principal_id(number: u32) -> PrincipalId {
    PrincipalId(Uuid::from_u128(0x5000_0000_0000 + u128::from(number)))
}

fn grant(number: u32, actions: &[Action], condition: Option<&str>) -> Grant {
    Grant {
        assignment: format!("/subscriptions/s/roleAssignments/{number}").into(),
        role: "AcrPull".into(),
        actions: Actions::of(actions),
        other_mode_actions: Actions::NONE,
        names_metadata_read: false,
        condition: condition.map(|text| Arc::new(text.parse::<Condition>().expect("a condition"))),
    }
}

/// Every second address from 20.0.0.0, so that no range swallows another.
fn addresses(count: u32) -> AddressRanges {
    let first = u32::from(Ipv4Addr::new(20, 0, 0, 0));
    AddressRanges::new((0..count).map(|at| Ipv4Net::from(Ipv4Addr::from(first + at * 2))))
}

fn endpoint(number: u32) -> ResourceId {
    let text =
        format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/endpoint-{number:05}");
    text.parse().expect("a resource id")
}

fn rules(addresses: AddressRanges, grants: GrantTable) -> RegistryRules {
    let connections = (0..200).map(|number| PrivateEndpointConnection {
        id: endpoint(number),
        endpoint: endpoint(number),
        status: ConnectionStatus::Approved,
    });
    RegistryRules {
        uid: RegistryUid(Uuid::from_u128(1)),
        id: ResourceId::root(),
        login_server: "reg.azurecr.io".into(),
        generation: 1,
        network: NetworkRules {
            public_access: true,
            default_allow: false,
            addresses: Arc::new(addresses),
            subnets: Arc::new([]),
            private_endpoints: connections.collect(),
            azure_services: true,
            tasks: None,
        },
        mode: RoleAssignmentMode::Abac,
        admin_enabled: false,
        anonymous_pull: false,
        arm_tokens_accepted: true,
        scanner_enabled: false,
        data_endpoint: None,
        policies: ContentPolicies::default(),
        grants: Arc::new(grants),
        tokens: Arc::default(),
        settings: Arc::default(),
    }
}

/// One assignment each.
fn spread(count: u32) -> GrantTable {
    GrantTable::new((0..count).map(|number| (principal_id(number), grant(number, &[Action::Pull], None))))
}

fn on_one(count: u32, condition: Option<&str>) -> GrantTable {
    let plain = (0..count).map(|number| grant(number, &[Action::Pull], None));
    let plain = plain.chain(condition.map(|text| grant(count, &[Action::Push], Some(text))));
    GrantTable::new(plain.map(|grant| (principal_id(CALLER), grant)))
}

struct Case {
    origin: Origin,
    credential: Credential,
    operation: Operation,
}

fn case(ingress: Ingress, address: Ipv4Addr, workload: bool, kind: OperationKind) -> Case {
    let identity = WorkloadIdentity { principal: principal_id(CALLER), kind: IdentityKind::SystemAssigned };
    let workload = workload.then(|| Workload {
        resource: endpoint(0),
        resource_type: CONTAINER_GROUPS.into(),
        uid: ResourceUid(Uuid::from_u128(2)),
        identities: vec![identity],
    });
    let caller = Caller::Principal(Arc::new(Principal {
        id: principal_id(CALLER),
        kind: PrincipalKind::ManagedIdentity,
        display_name: "caller".into(),
        groups: (0..4).map(|number| principal_id(1_000_000 + number)).collect(),
    }));
    Case {
        origin: Origin {
            ingress,
            address: IpAddr::V4(address),
            place: "bench".into(),
            simulated: false,
            workload: workload.map_or(WorkloadState::None, |workload| WorkloadState::Verified(Arc::new(workload))),
        },
        credential: Credential::Verified(Verified { caller, claim: None, binding: None }),
        operation: Operation::repository(kind, "team/app".parse().expect("a name"), None),
    }
}

fn measure(bench: &mut Criterion, name: &str, rules: &RegistryRules, case: &Case, allowed: bool) {
    let (origin, credential, operation) = (&case.origin, &case.credential, &case.operation);
    let inputs = Inputs { origin, rules, credential, operation, content: None };
    assert_eq!(evaluate(&inputs).is_allowed(), allowed, "{name}");
    bench.bench_function(name, |bencher| bencher.iter(|| evaluate(black_box(&inputs))));
}

fn decide(bench: &mut Criterion) {
    let listed = || case(Ingress::Public, LISTED, false, OperationKind::PullManifest);
    let thousand = rules(addresses(1000), spread(1000));
    measure(bench, "allowed by IP rule, 1000 + 1000 spread", &thousand, &listed(), true);
    let unlisted = case(Ingress::Public, UNLISTED, false, OperationKind::PullManifest);
    measure(bench, "denied by the wall, 1000 + 1000 spread", &thousand, &unlisted, false);
    let trusted = case(Ingress::Public, UNLISTED, true, OperationKind::PullManifest);
    measure(bench, "allowed as trusted service, 1000 + 1000 spread", &thousand, &trusted, true);
    let private = case(Ingress::PrivateEndpoint(endpoint(199)), UNLISTED, false, OperationKind::PullManifest);
    measure(bench, "allowed by the last of 200 private endpoints", &thousand, &private, true);
    let push = || case(Ingress::Public, LISTED, false, OperationKind::PushManifest);
    measure(bench, "denied by authorization, 1000 + 1000 spread", &thousand, &push(), false);

    let one = rules(addresses(1000), on_one(1000, None));
    measure(bench, "allowed, 1000 + 1000 on the caller", &one, &listed(), true);
    measure(bench, "denied by authorization, 1000 + 1000 on the caller", &one, &push(), false);
    let wall = case(Ingress::Public, UNLISTED, false, OperationKind::PushManifest);
    measure(bench, "denied by wall and authorization, 1000 + 1000 on the caller", &one, &wall, false);

    let condition = rules(addresses(1000), on_one(999, Some(ABAC_READER)));
    measure(bench, "allowed by condition, 1000 + 1000 on the caller", &condition, &push(), true);
    let elsewhere =
        on_one(999, Some(&ABAC_READER.replace("content/read", "content/write").replace("'team/app'", "'else'")));
    let elsewhere = rules(addresses(1000), elsewhere);
    measure(bench, "denied by condition, 1000 + 1000 on the caller", &elsewhere, &push(), false);

    for prefixes in [10, 100_000] {
        let rules = rules(addresses(prefixes), spread(1000));
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + prefixes / 2 * 2);
        let case = case(Ingress::Public, address, false, OperationKind::PullManifest);
        measure(bench, &format!("allowed by IP rule, {prefixes} prefixes"), &rules, &case, true);
    }
    for assignments in [10, 10_000] {
        let rules = rules(addresses(1000), on_one(assignments, None));
        measure(bench, &format!("allowed, {assignments} assignments on the caller"), &rules, &listed(), true);
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
