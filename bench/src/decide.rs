//! How long a decision takes, its trace included, whatever the number of rules.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use postern_access::{
    Action, Actions, AddressRanges, Caller, Condition, ContentPolicies, Credential, Grant, GrantTable, Ingress, Inputs,
    NetworkRules, Operation, OperationKind, Origin, Principal, PrincipalKind, RegistryRules, RoleAssignmentMode,
    Verified, WorkloadState, evaluate,
};
use postern_model::{PrincipalId, RegistryUid, ResourceId};
use serde_json::json;
use uuid::Uuid;

use crate::measure::Plan;
use crate::verdict::{Line, at_most};

/// Decisions between two looks at the clock.
const BATCH: u32 = 1000;
const CALLER: u32 = 5;
const CONDITION: &str = "((!(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'}) AND \
    !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'})) OR \
    (@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'team/app'))";

/// Few and many of each; what is measured is a pull that an address rule and a conditional role assignment allow.
pub(crate) fn line(plan: &Plan) -> Result<Line> {
    let cases = [(100, 10), (100, 10_000), (100_000, 10), (100_000, 10_000)];
    let asked = cases.into_iter().map(|(prefixes, assignments)| Asked::new(prefixes, assignments));
    let asked = asked.collect::<Result<Vec<_>>>()?;
    let mut rounds = vec![Vec::new(); asked.len()];
    // One after the other in each round: what disturbs the machine for a while disturbs all of them.
    for _ in 0..plan.rounds {
        for (asked, took) in asked.iter().zip(&mut rounds) {
            took.push(timed(plan, || asked.decide())?);
        }
    }
    let took = rounds.into_iter().map(median).collect::<Result<Vec<_>>>()?;
    let mut notes = Vec::new();
    for ((prefixes, assignments), time) in cases.iter().zip(&took) {
        notes.push(format!("{prefixes} prefixes and {assignments} assignments {time:.0} ns"));
    }
    let regorus = regorus_nanoseconds(10_000, plan)?;
    notes.push(format!("regorus with 10000 assignments and no prefixes {regorus:.0} ns"));
    let (least, most) =
        took.iter().fold((f64::MAX, 0.0_f64), |(least, most), time| (least.min(*time), most.max(*time)));
    Ok(Line {
        name: "decide".into(),
        must: vec![at_most("of regorus", most / regorus, 0.2), at_most("dearest / cheapest", most / least, 1.5)],
        goal: vec![at_most("ns", most, 1000.0), at_most("ns", most, 300.0)],
        note: notes.join(", "),
        ..Line::default()
    })
}

/// A pull from a registry with so many rules.
struct Asked {
    rules: RegistryRules,
    origin: Origin,
    credential: Credential,
    operation: Operation,
}

impl Asked {
    fn new(prefixes: u32, assignments: u32) -> Result<Self> {
        let origin = Origin {
            ingress: Ingress::Public,
            address: IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(20, 0, 0, 0)) + prefixes / 2 * 2)),
            place: "bench".into(),
            simulated: false,
            workload: WorkloadState::None,
        };
        let caller = Caller::Principal(Arc::new(Principal {
            id: principal(CALLER),
            kind: PrincipalKind::ManagedIdentity,
            display_name: "caller".into(),
            groups: (0..4).map(|number| principal(1_000_000 + number)).collect(),
        }));
        let credential = Credential::Verified(Verified { caller, claim: None, binding: None });
        let operation = Operation::repository(OperationKind::PullManifest, "team/app".parse()?, None);
        let asked = Self { rules: rules(prefixes, assignments)?, origin, credential, operation };
        ensure!(evaluate(&asked.inputs()).is_allowed(), "the pull is not allowed");
        Ok(asked)
    }

    fn inputs(&self) -> Inputs<'_> {
        let Self { rules, origin, credential, operation } = self;
        Inputs { origin, rules, credential, operation, content: None }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what is timed may fail")]
    fn decide(&self) -> Result<()> {
        black_box(evaluate(black_box(&self.inputs())));
        Ok(())
    }
}

/// Nanoseconds of one operation, over one round.
fn timed(plan: &Plan, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, mut count) = (Instant::now(), 0_u32);
    while count == 0 || start.elapsed() < plan.time.max(Duration::from_millis(1)) {
        (0..BATCH).try_for_each(|_| once())?;
        count += 1;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(count * BATCH))
}

fn median(mut rounds: Vec<f64>) -> Result<f64> {
    rounds.sort_unstable_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied().context("no round")
}

/// The role assignments alone, found by principal, with the condition as a comparison: less than the whole decision.
fn regorus_nanoseconds(assignments: u32, plan: &Plan) -> Result<f64> {
    const POLICY: &str = "package acr
import rego.v1
default allow := false
allow if {
    some grant in data.grants[input.principal]
    input.action in grant.actions
    input.repository == grant.repository
}";
    let grants: serde_json::Map<String, serde_json::Value> = (0..assignments)
        .map(|number| {
            let grant = json!([{"actions": ["pull"], "repository": "team/app"}]);
            (principal(number).to_string(), grant)
        })
        .collect();
    let mut engine = regorus::Engine::new();
    engine.add_policy("acr.rego".to_owned(), POLICY.to_owned())?;
    engine.add_data(regorus::Value::from_json_str(&json!({ "grants": grants }).to_string())?)?;
    let input = json!({"principal": principal(CALLER).to_string(), "action": "pull", "repository": "team/app"});
    let input = regorus::Value::from_json_str(&input.to_string())?;
    let mut once = || {
        engine.set_input(input.clone());
        ensure!(engine.eval_rule("data.acr.allow".to_owned())? == regorus::Value::from(true), "regorus denies");
        Ok(())
    };
    median((0..plan.rounds).map(|_| timed(plan, &mut once)).collect::<Result<_>>()?)
}

fn principal(number: u32) -> PrincipalId {
    PrincipalId(Uuid::from_u128(0x5000_0000_0000 + u128::from(number)))
}

/// Every second address from 20.0.0.0, so that no range swallows another; an assignment for each principal.
fn rules(prefixes: u32, assignments: u32) -> Result<RegistryRules> {
    let first = u32::from(Ipv4Addr::new(20, 0, 0, 0));
    let addresses = AddressRanges::new((0..=prefixes).map(|at| Ipv4Net::from(Ipv4Addr::from(first + at * 2))));
    let condition = Arc::new(CONDITION.parse::<Condition>().context("the condition")?);
    let grants = GrantTable::new((0..assignments).map(|number| {
        let grant = Grant {
            assignment: format!("/subscriptions/s/roleAssignments/{number}").into(),
            role: "Container Registry Repository Reader".into(),
            actions: Actions::of(&[Action::Pull]),
            other_mode_actions: Actions::NONE,
            names_metadata_read: false,
            condition: (number == CALLER).then(|| Arc::clone(&condition)),
        };
        (principal(number), grant)
    }));
    Ok(RegistryRules {
        uid: RegistryUid(Uuid::from_u128(1)),
        id: ResourceId::root(),
        login_server: "reg.azurecr.io".into(),
        generation: 1,
        network: NetworkRules {
            public_access: true,
            default_allow: false,
            addresses: Arc::new(addresses),
            subnets: Arc::new([]),
            private_endpoints: Arc::new([]),
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
    })
}
