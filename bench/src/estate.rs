//! A server with very many registries and role assignments, and what its administrators ask of it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::load::{Limit, Load, Script, call};
use crate::postern::{Options, Pairs, Postern, Wall, resource};
use crate::process::Starter;
use crate::scripts::{Fresh, Repeat};
use crate::seed::{REPOSITORY, TAG};
use crate::site::{ACCEPT, Site};
use crate::stage::Sizes;
use crate::wire::{Body, Request};

const REGISTRIES: &str = "Microsoft.ContainerRegistry/registries";
const IDENTITIES: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
const ASSIGNMENTS: &str = "Microsoft.Authorization/roleAssignments";
const ACR_PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
const API_VERSION: &str = "2025-11-01";
const ASSIGNMENTS_VERSION: &str = "2022-04-01";
/// Connections for setting things up.
const CALLERS: usize = 16;
/// Who has the role assignments.
const PRINCIPALS: u32 = 1000;

/// What an administrator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// As `az acr show`.
    ShowRegistry,
    /// As `az acr list`, of a group.
    ListRegistries,
    /// As `az role assignment list --scope`, of a registry.
    AssignmentsAtScope,
    /// The role assignments of one principal in the subscription.
    AssignmentsOfPrincipal,
    /// As `az role assignment list --scope --assignee --include-groups`, of a registry.
    AssignedTo,
    /// The first page of all there are.
    AssignmentsPage,
    /// A new role assignment for the whole subscription, then a pull's first request, which must know of it.
    Assign,
}

pub(crate) struct Estate {
    pub(crate) postern: Postern,
    pub(crate) manager: Site,
}

impl Estate {
    /// Starts it and fills it, with its own registry as walled as that of the other rows.
    pub(crate) fn set(starter: Starter<'_>, options: &Options, sizes: Sizes) -> Result<Self> {
        let postern = Postern::start(starter, options)?;
        let manager = postern.manager()?;
        let estate = Self { postern, manager };
        estate.fill(sizes).context("the estate cannot be filled")?;
        estate.postern.set(Wall::On { address_rules: sizes.address_rules, assignments: 0 })?;
        Ok(estate)
    }

    fn subscription(&self) -> String {
        format!("/subscriptions/{}", self.postern.known("subscriptionId"))
    }

    fn group(&self) -> String {
        format!("{}/resourceGroups/many", self.subscription())
    }

    fn registry(&self, number: u32) -> String {
        format!("{}/providers/{REGISTRIES}/many{number:05}", self.group())
    }

    fn put(&self, id: &str, body: &Value) -> Request {
        resource(&self.manager, "PUT", id, body).expect(201)
    }

    fn assignment(&self, scope: &str, name: u128, principal: u32) -> Request {
        let body = json!({"properties": {
            "roleDefinitionId": role_in(&self.subscription()), "principalId": id_of(principal).to_string(), "principalType": "ServicePrincipal",
        }});
        self.put(&format!("{scope}/providers/{ASSIGNMENTS}/{}", Uuid::from_u128(name)), &body)
    }

    fn fill(&self, sizes: Sizes) -> Result<()> {
        call(&self.manager, self.put(&self.group(), &json!({"location": "eastus"})))?;
        self.put_all(sizes.registries, |number| {
            let body =
                json!({"location": "eastus", "sku": {"name": "Premium"}, "tags": {"number": number.to_string()}});
            self.put(&self.registry(number), &body)
        })?;
        self.put_all(PRINCIPALS, |number| {
            let body = json!({"location": "eastus", "properties": {"principalId": id_of(number).to_string()}});
            self.put(&format!("{}/providers/{IDENTITIES}/many-{number}", self.group()), &body)
        })?;
        // Each registry has others, and each principal has its own in many registries.
        self.put_all(sizes.all_assignments, |number| {
            let registry = number % sizes.registries;
            let principal = (number / sizes.registries + registry) % PRINCIPALS;
            self.assignment(&self.registry(registry), u128::from(number) + 1, principal)
        })
    }

    fn put_all(&self, count: u32, make: impl Fn(u32) -> Request) -> Result<()> {
        // One more is made than sent.
        let last = count.saturating_sub(1);
        let mut script = Fresh::new(|_, number| make(u32::try_from(number).unwrap_or(last).min(last)));
        let limit = Limit { time: Duration::MAX, operations: u64::from(count) };
        Load::connect(&self.manager, CALLERS)?.run(&mut script, limit)?;
        Ok(())
    }

    /// What the administrator sends.
    pub(crate) fn script(&self, task: Task, sizes: Sizes, pull: &Site) -> Box<dyn Script> {
        let registry = self.registry(sizes.registries / 2);
        // Of those that the registry has.
        let principal = id_of(sizes.registries / 2 % PRINCIPALS);
        let get = |id: &str, version: &str| self.manager.request("GET", &format!("{id}?api-version={version}"));
        let assignments = |scope: &str, filter: &str| {
            let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
            get(&format!("{scope}/providers/{ASSIGNMENTS}"), &format!("{ASSIGNMENTS_VERSION}&$filter={filter}"))
        };
        Box::new(Repeat::one(match task {
            Task::ShowRegistry => get(&registry, API_VERSION),
            Task::ListRegistries => get(&format!("{}/providers/{REGISTRIES}", self.group()), API_VERSION),
            Task::AssignmentsAtScope => assignments(&registry, "atScope()"),
            Task::AssignmentsOfPrincipal => assignments(&self.subscription(), &format!("principalId eq '{principal}'")),
            Task::AssignedTo => assignments(&registry, &format!("atScope() and assignedTo('{principal}')")),
            Task::AssignmentsPage => {
                get(&format!("{}/providers/{ASSIGNMENTS}", self.subscription()), ASSIGNMENTS_VERSION)
            }
            Task::Assign => return self.assigning(pull.clone()),
        }))
    }

    fn assigning(&self, pull: Site) -> Box<dyn Script> {
        let (manager, subscription) = (self.manager.clone(), self.subscription());
        let role = role_in(&subscription);
        Box::new(Pairs::new(move |number| {
            let principal = id_of(number % PRINCIPALS);
            let body = json!({"properties": {"roleDefinitionId": role, "principalId": principal.to_string()}});
            let name = Uuid::from_u128((1 << 64) + u128::from(number));
            let id = format!("{subscription}/providers/{ASSIGNMENTS}/{name}");
            let pulled = pull.send("HEAD", &format!("/v2/{REPOSITORY}/manifests/{TAG}"), ACCEPT, Body::Empty);
            [resource(&manager, "PUT", &id, &body).expect(201), pulled]
        }))
    }
}

fn role_in(subscription: &str) -> String {
    format!("{subscription}/providers/Microsoft.Authorization/roleDefinitions/{ACR_PULL}")
}

fn id_of(principal: u32) -> Uuid {
    Uuid::from_u128(0xe57a_0000_0000_4000_8000_0000_0000_0000 + u128::from(principal))
}
