use postern_model::{PrincipalId, ResourceUid};
use uuid::Uuid;

use super::*;
use crate::{
    CONTAINER_GROUPS, Ingress, InvalidCredential, Operation, OperationKind, TASKS, Workload, WorkloadIdentity, example,
};

const SYSTEM: PrincipalId = PrincipalId(Uuid::from_u128(1));
const USER: PrincipalId = PrincipalId(Uuid::from_u128(2));

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn verified(caller: Caller) -> Credential {
    Credential::Verified(Verified { caller, claim: None, binding: None })
}

fn principal(id: PrincipalId) -> Credential {
    let kind = PrincipalKind::ManagedIdentity;
    verified(Caller::Principal(Arc::new(Principal { id, kind, display_name: "caller".into(), groups: Vec::new() })))
}

fn workload(resource_type: &str, principal: PrincipalId, kind: IdentityKind) -> WorkloadState {
    WorkloadState::Verified(Arc::new(Workload {
        resource: id("/subscriptions/s/workload/w"),
        resource_type: resource_type.into(),
        uid: ResourceUid(Uuid::from_u128(3)),
        identities: vec![WorkloadIdentity { principal, kind }],
    }))
}

/// The fixes for the example registry (closed to the public) after `arrange`, as they print.
#[track_caller]
fn check(
    arrange: impl FnOnce(&mut Origin, &mut RegistryRules),
    credential: Credential,
    kind: OperationKind,
    expected: &[&str],
) {
    let (mut origin, mut rules) = example();
    arrange(&mut origin, &mut rules);
    let operation = &Operation::repository(kind, "team/app".parse().unwrap(), None);
    let inputs = Inputs { origin: &origin, rules: &rules, credential: &credential, operation, content: None };
    let found = fixes(&inputs).into_iter();
    let found: Vec<String> =
        found.map(|fix| fix.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")).collect();
    assert_eq!(found, expected);
}

fn open(rules: &mut RegistryRules) {
    (rules.network.public_access, rules.network.default_allow) = (true, true);
}

#[test]
fn an_allow_needs_none() {
    let arrange = |_: &mut Origin, rules: &mut RegistryRules| {
        open(rules);
        rules.admin_enabled = true;
    };
    check(arrange, verified(Caller::Admin), OperationKind::PullManifest, &[]);
}

#[test]
fn several_ways_through_the_wall_are_told_smallest_first() {
    let arrange = |origin: &mut Origin, rules: &mut RegistryRules| {
        origin.workload = workload(CONTAINER_GROUPS, SYSTEM, IdentityKind::SystemAssigned);
        rules.network.azure_services = false;
        rules.network.subnets = Arc::new([id("/subnets/a")]);
    };
    let role = "assign the caller a role that gives pull here";
    let expected = [
        format!("enable public network access + add an IP rule for 198.51.100.7 + {role}"),
        format!(
            "allow trusted services (networkRuleBypassOptions=AzureServices) + remove the service endpoint's virtual network \
             rules (trusted services do not apply with them) + {role}"
        ),
    ];
    check(arrange, principal(SYSTEM), OperationKind::PullManifest, &expected.each_ref().map(String::as_str));
}

#[test]
fn a_caller_that_the_wall_turned_away_before_its_credentials_needs_the_wall_open() {
    let expected = ["enable public network access + add an IP rule for 198.51.100.7"];
    check(|_, _| {}, Credential::None, OperationKind::PullManifest, &expected);
    let private = |origin: &mut Origin, _: &mut RegistryRules| {
        origin.ingress = Ingress::PrivateEndpoint(id("/endpoints/e"));
    };
    check(private, Credential::None, OperationKind::PullManifest, &["connect private endpoint `e` to this registry"]);
    let misrouted =
        |origin: &mut Origin, _: &mut RegistryRules| origin.ingress = Ingress::Misrouted(id("/endpoints/e"));
    check(misrouted, Credential::None, OperationKind::PullManifest, &[]);
}

#[test]
fn credentials_that_do_not_hold() {
    let expected = ["authenticate as a caller with the right"];
    let expired = || Credential::Invalid(InvalidCredential::Expired);
    check(|_, rules| open(rules), expired(), OperationKind::PullManifest, &expected);
    // Of a workload whose identity opened the wall: that identity has to authenticate.
    let trusted = |origin: &mut Origin, _: &mut RegistryRules| {
        origin.workload = workload(CONTAINER_GROUPS, USER, IdentityKind::UserAssigned);
    };
    check(trusted, expired(), OperationKind::PullManifest, &expected);
    check(
        |_, rules| open(rules),
        verified(Caller::RepositoryToken("gone".into())),
        OperationKind::PullManifest,
        &expected,
    );
}

#[test]
fn anonymous_callers() {
    let (enable, authenticate) = ("enable anonymous pull", "authenticate as a caller with the right");
    let anonymous = || verified(Caller::Anonymous);
    check(|_, rules| open(rules), anonymous(), OperationKind::PullManifest, &[enable, authenticate]);
    check(|_, rules| open(rules), anonymous(), OperationKind::PushManifest, &[authenticate]);
}

#[test]
fn a_user_identity_where_only_the_system_identity_counts() {
    let arrange = |origin: &mut Origin, rules: &mut RegistryRules| {
        origin.workload = workload(TASKS, USER, IdentityKind::UserAssigned);
        rules.network.tasks = Some(true);
        let grant = Grant {
            assignment: "a".into(),
            role: "AcrPull".into(),
            actions: Actions::of(&[Action::Pull]),
            other_mode_actions: Actions::NONE,
            names_metadata_read: false,
            condition: None,
        };
        rules.grants = Arc::new(GrantTable::new([(USER, grant)]));
    };
    let expected = [
        "use the workload's system-assigned identity",
        "enable public network access + add an IP rule for 198.51.100.7",
    ];
    check(arrange, principal(USER), OperationKind::PullManifest, &expected);
}
