use std::collections::HashMap;

use postern_model::ResourceUid;
use uuid::Uuid;

use super::*;
use crate::{
    ConnectionStatus, Grant, GrantTable, InvalidCredential, NetworkRules, PrivateEndpointConnection,
    RepositoryTokenRule, RoleAssignmentMode, ScopeMapActions, TokenBinding, TokenClaim, WorkloadIdentity, example,
};

const SYSTEM: PrincipalId = PrincipalId(Uuid::from_u128(1));
const USER: PrincipalId = PrincipalId(Uuid::from_u128(2));
const PUBLIC_AND_ADDRESS: [&str; 2] = ["public network access is disabled", "no IP rule holds the client's address"];

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn open(network: &mut NetworkRules) {
    (network.public_access, network.default_allow) = (true, true);
}

fn principal(id: PrincipalId) -> Caller {
    let kind = PrincipalKind::ManagedIdentity;
    Caller::Principal(Arc::new(Principal { id, kind, display_name: "caller".into(), groups: Vec::new() }))
}

fn verified(caller: Caller) -> Credential {
    Credential::Verified(Verified { caller, claim: None, binding: None })
}

fn workload(resource_type: &str, identities: &[(PrincipalId, IdentityKind)]) -> WorkloadState {
    let identities = identities.iter().map(|&(principal, kind)| WorkloadIdentity { principal, kind });
    WorkloadState::Verified(Arc::new(Workload {
        resource: id("/subscriptions/s/workload/w"),
        resource_type: resource_type.into(),
        uid: ResourceUid(Uuid::from_u128(3)),
        identities: identities.collect(),
    }))
}

fn pull() -> Operation {
    Operation::repository(OperationKind::PullManifest, "team/app".parse().unwrap(), None)
}

/// Decides about the example registry after `arrange`, and compares the refusing layer and everything it and the layers before
/// and after it object to.
#[track_caller]
fn check(
    arrange: impl FnOnce(&mut Origin, &mut RegistryRules),
    credential: Credential,
    operation: &Operation,
    expected: Result<(), (Layer, &[&str])>,
) -> Decision {
    let (mut origin, mut rules) = example();
    arrange(&mut origin, &mut rules);
    let inputs = Inputs { origin: &origin, rules: &rules, credential: &credential, operation, content: None };
    let decision = evaluate(&inputs);
    let lines = decision.trace.lines();
    let denied = lines.iter().filter(|(_, outcome, _)| *outcome == "denied").flat_map(|(_, _, lines)| lines);
    let denied: Vec<&str> = denied.map(String::as_str).collect();
    let found = decision.permit().map(drop).map_err(|layer| (layer, denied.as_slice()));
    assert_eq!(found, expected);
    decision
}

#[test]
fn a_private_endpoint_with_several_connections_takes_the_approved_one() {
    let endpoint = id("/subscriptions/s/privateEndpoints/e");
    let connections =
        [("b", ConnectionStatus::Rejected), ("c", ConnectionStatus::Approved), ("a", ConnectionStatus::Pending)];
    let arrange = |statuses: &[(&str, ConnectionStatus)], origin: &mut Origin, rules: &mut RegistryRules| {
        origin.ingress = Ingress::PrivateEndpoint(endpoint.clone());
        rules.admin_enabled = true;
        rules.network.private_endpoints = statuses
            .iter()
            .map(|&(name, status)| PrivateEndpointConnection {
                id: id(&format!("/connections/{name}")),
                endpoint: endpoint.clone(),
                status,
            })
            .collect();
    };
    let decision =
        check(|origin, rules| arrange(&connections, origin, rules), verified(Caller::Admin), &pull(), Ok(()));
    assert_eq!(decision.trace.network, NetworkStep::Allowed(Via::PrivateEndpoint(id("/connections/c"))));
    let refused: &[&str] = &["private endpoint connection `a` is Pending"];
    for rest in [[connections[0], connections[2]], [connections[2], connections[0]]] {
        let expected = Err((Layer::Network, refused));
        check(|origin, rules| arrange(&rest, origin, rules), verified(Caller::Admin), &pull(), expected);
    }
}

#[test]
fn a_mapped_address_is_the_ipv4_address_it_holds() {
    let arrange = |origin: &mut Origin, rules: &mut RegistryRules| {
        origin.address = "::ffff:198.51.100.7".parse().unwrap();
        (rules.network.public_access, rules.admin_enabled) = (true, true);
        rules.network.addresses = Arc::new(crate::AddressRanges::new(["198.51.100.0/24".parse().unwrap()]));
    };
    check(arrange, verified(Caller::Admin), &pull(), Ok(()));
}

#[test]
fn the_default_action_is_no_matter_while_public_access_is_off() {
    let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
        (rules.network.default_allow, rules.admin_enabled) = (true, true);
    };
    let expected: &[&str] = &["public network access is disabled"];
    check(arrange, verified(Caller::Admin), &pull(), Err((Layer::Network, expected)));
}

#[test]
fn a_quick_run_bypasses_only_as_a_run() {
    for (resource_type, passes) in
        [(crate::RUNS, true), ("MICROSOFT.containerregistry/registries/RUNS", true), (crate::TASKS, false)]
    {
        let arrange = |origin: &mut Origin, rules: &mut RegistryRules| {
            let mut settings = crate::Settings::default();
            settings.switches.quick_run_bypass = true;
            rules.settings = Arc::new(settings);
            (rules.network.tasks, rules.admin_enabled) = (Some(true), true);
            origin.workload = workload(resource_type, &[]);
        };
        let mut refused = PUBLIC_AND_ADDRESS.to_vec();
        refused.push("the workload has no identity that `acrTasks` may bypass the network rules with");
        let expected = if passes { Ok(()) } else { Err((Layer::Network, refused.as_slice())) };
        check(arrange, verified(Caller::Admin), &pull(), expected);
    }
}

#[test]
fn before_credentials_the_gate_asks_for_a_suitable_identity_and_after_them_for_that_one() {
    let arrange = |origin: &mut Origin, rules: &mut RegistryRules| {
        let identities = [(SYSTEM, IdentityKind::SystemAssigned), (USER, IdentityKind::UserAssigned)];
        origin.workload = workload(crate::WORKSPACES, &identities);
        rules.grants =
            Arc::new(GrantTable::new([(SYSTEM, grant("a", &[Action::Pull])), (USER, grant("b", &[Action::Pull]))]));
    };
    check(arrange, Credential::None, &pull(), Err((Layer::Authentication, &["no credentials"])));
    let expired = InvalidCredential::Expired;
    let refused: &[&str] = &["the token has expired or is not valid yet"];
    check(arrange, Credential::Invalid(expired), &pull(), Err((Layer::Authentication, refused)));
    check(arrange, verified(principal(SYSTEM)), &pull(), Ok(()));
    let mut refused = PUBLIC_AND_ADDRESS.to_vec();
    refused.push("the credentials are not those of an identity that this workload may bypass the network rules with");
    check(arrange, verified(principal(USER)), &pull(), Err((Layer::Network, &refused)));
}

fn grant(assignment: &str, actions: &[Action]) -> Grant {
    Grant {
        assignment: assignment.into(),
        role: assignment.into(),
        actions: Actions::of(actions),
        other_mode_actions: Actions::NONE,
        names_metadata_read: false,
        condition: None,
    }
}

#[test]
fn the_ground_is_the_assignment_with_the_least_id() {
    for order in [["b", "a", "c"], ["c", "b", "a"], ["a", "b", "c"]] {
        let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
            open(&mut rules.network);
            let grants = order.map(|assignment| (SYSTEM, grant(assignment, &[Action::Pull])));
            rules.grants = Arc::new(GrantTable::new(grants));
        };
        let decision = check(arrange, verified(principal(SYSTEM)), &pull(), Ok(()));
        let ground = Ground::Assignment { assignment: "a".into(), role: "a".into() };
        assert_eq!(decision.trace.authorization, AuthorizationStep::Allowed(ground));
    }
}

#[test]
fn rights_of_several_assignments_make_one_set() {
    let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
        open(&mut rules.network);
        let mut conditional = grant("b", &[Action::Push]);
        conditional.condition = Some(Arc::new("!(ActionMatches{'*/sign/*'})".parse().unwrap()));
        rules.grants = Arc::new(GrantTable::new([(SYSTEM, conditional), (SYSTEM, grant("a", &[Action::Pull]))]));
    };
    let push = Operation::repository(OperationKind::PushManifest, "team/app".parse().unwrap(), None);
    check(arrange, verified(principal(SYSTEM)), &push, Ok(()));
}

#[test]
fn a_claim_and_a_right_must_meet_in_one_set() {
    let untag = Operation::repository(OperationKind::Untag, "team/app".parse().unwrap(), None);
    for (claimed, held, expected) in [
        (Action::Delete, Action::Delete, Ok(())),
        (Action::MetadataWrite, Action::MetadataWrite, Ok(())),
        (Action::MetadataWrite, Action::Delete, Err("no role assignment gives metadata_write")),
        (Action::Delete, Action::MetadataWrite, Err("no role assignment gives delete")),
        (Action::Pull, Action::Delete, Err("the access token does not claim delete")),
    ] {
        let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
            open(&mut rules.network);
            rules.grants = Arc::new(GrantTable::new([(SYSTEM, grant("a", &[held]))]));
        };
        let claim = TokenClaim {
            repositories: vec![("team/app".parse().unwrap(), Actions::of(&[claimed]))],
            ..TokenClaim::default()
        };
        let claim = Some(Arc::new(claim));
        let credential = Credential::Verified(Verified { caller: principal(SYSTEM), claim, binding: None });
        let line = [expected.err().unwrap_or_default()];
        check(arrange, credential, &untag, expected.map_err(|_| (Layer::Authorization, line.as_slice())));
    }
}

#[test]
fn a_token_is_found_without_regard_to_case_and_owns_by_its_uid() {
    let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
        open(&mut rules.network);
        let token = RepositoryTokenRule {
            name: "Robot".into(),
            uid: ResourceUid(Uuid::from_u128(9)),
            enabled: true,
            actions: Arc::new(ScopeMapActions::parse(["repositories/team/*/content/read"]).unwrap()),
        };
        rules.tokens = Arc::new(HashMap::from([("robot".into(), token)]));
        rules.mode = RoleAssignmentMode::Abac;
    };
    let decision = check(arrange, verified(Caller::RepositoryToken("ROBOT".into())), &pull(), Ok(()));
    let permit = decision.permit().unwrap();
    assert_eq!(permit.holder(), Holder::RepositoryToken(ResourceUid(Uuid::from_u128(9))));
    assert_eq!(permit.actions(), Actions::of(&[Action::Pull]));
}

#[test]
fn near_assignments_are_told_up_to_a_limit() {
    let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
        open(&mut rules.network);
        let grants = (0..1000).map(|number| {
            let mut near = grant(&format!("a{number:04}"), &[]);
            near.other_mode_actions = Actions::of(&[Action::Pull]);
            (SYSTEM, near)
        });
        rules.grants = Arc::new(GrantTable::new(grants));
    };
    let mut refused = vec!["no role assignment gives pull".to_owned()];
    refused.extend(
        (0..MAX_NEAR_GRANTS)
            .map(|number| format!("role `a{number:04}` is not honoured in the registry's role assignment mode")),
    );
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    check(arrange, verified(principal(SYSTEM)), &pull(), Err((Layer::Authorization, &refused)));
}

#[test]
fn a_bound_token_needs_its_workload_on_every_way() {
    let binding = Some(TokenBinding { resource: ResourceUid(Uuid::from_u128(3)) });
    let credential = || Credential::Verified(Verified { caller: Caller::Admin, claim: None, binding });
    let inside = |origin: &mut Origin, rules: &mut RegistryRules| {
        open(&mut rules.network);
        rules.admin_enabled = true;
        origin.workload = workload(crate::CONTAINER_GROUPS, &[]);
    };
    check(inside, credential(), &pull(), Ok(()));
    let outside = |_: &mut Origin, rules: &mut RegistryRules| {
        open(&mut rules.network);
        rules.admin_enabled = true;
    };
    let refused: &[&str] = &["the token was issued to a workload and is used outside of it"];
    check(outside, credential(), &pull(), Err((Layer::Network, refused)));
}
