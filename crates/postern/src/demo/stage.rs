//! The stage of the story: a server with simulated places, and the means to act on it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use postern_access::{PolicyDate, RUNS, Settings, Workload};
use postern_estate::import::Target;
use postern_identity::{FirstPartyService, Gateway, GatewayError};
use postern_model::{CorrelationId, ResourceId, ResourceUid, Secret};
use reqwest::Method;
use serde_json::{Value, json};

use super::caller::{Answer, Registry, Spot, client_at, client_through};
use super::table::Row;
use crate::bootstrap::Bootstrap;
use crate::client::AdminClient;
use crate::config::{Config, PlaceConfig};
use crate::serve::Running;
use crate::{apply, environment, workload};

const ESTATE: &str = include_str!("../../../../examples/story.json");
const GROUP: &str = "myResourceGroup";
const SUBSCRIPTION: &str = "5ec0de00-0000-4000-8000-000000000001";
const PREVIEW: &str = "2026-01-01-preview";

/// Where the server listens, and where its private endpoint does.
const PUBLIC_ENDPOINT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PRIVATE_ENDPOINT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 4));

/// A place of the story. Simulated: loopback addresses that are seen as others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere on the internet, 198.51.100.0/24.
    Internet,
    /// The office, 203.0.113.0/24.
    Office,
    /// The virtual network with the private endpoint, 10.1.0.0/24.
    Network,
    /// A subnet with a service endpoint, 10.2.0.0/24.
    Subnet,
    /// Where the cloud's own services call from, 20.42.66.0/24.
    Cloud,
}

impl Place {
    pub(super) const ALL: [Self; 5] = [Self::Internet, Self::Office, Self::Network, Self::Subnet, Self::Cloud];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::Office => "office",
            Self::Network => "myvnet",
            Self::Subnet => "machines",
            Self::Cloud => "cloud",
        }
    }

    /// The loopback range that stands for it, and what that is seen as.
    const fn ranges(self) -> (&'static str, &'static str) {
        match self {
            Self::Internet => ("127.51.100.0/24", "198.51.100.0/24"),
            Self::Office => ("127.113.5.0/24", "203.0.113.0/24"),
            Self::Network => ("127.10.1.0/24", "10.1.0.0/24"),
            Self::Subnet => ("127.10.2.0/24", "10.2.0.0/24"),
            Self::Cloud => ("127.20.42.0/24", "20.42.66.0/24"),
        }
    }

    const fn address(self) -> IpAddr {
        IpAddr::V4(match self {
            Self::Internet => Ipv4Addr::new(127, 51, 100, 7),
            Self::Office => Ipv4Addr::new(127, 113, 5, 7),
            Self::Network => Ipv4Addr::new(127, 10, 1, 5),
            Self::Subnet => Ipv4Addr::new(127, 10, 2, 5),
            Self::Cloud => Ipv4Addr::new(127, 20, 42, 9),
        })
    }

    /// Connecting to where the registry's name leads from here.
    pub(super) const fn spot(self) -> Spot {
        let to = if matches!(self, Self::Network) { PRIVATE_ENDPOINT } else { PUBLIC_ENDPOINT };
        Spot { from: self.address(), to }
    }

    /// Connecting to the private endpoint's address, wherever one is.
    pub(super) const fn spot_at_private_endpoint(self) -> Spot {
        Spot { from: self.address(), to: PRIVATE_ENDPOINT }
    }

    fn config(self, subscription: &str) -> PlaceConfig {
        let network = format!("/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/Microsoft.Network");
        let (peers, seen_as) = self.ranges();
        PlaceConfig {
            name: self.name().into(),
            peers: peers.parse().into_iter().collect(),
            listen: (self == Self::Network).then_some(PRIVATE_ENDPOINT),
            private_endpoint: (self == Self::Network).then(|| format!("{network}/privateEndpoints/myendpoint")),
            subnet: (self == Self::Subnet).then(|| format!("{network}/virtualNetworks/myvnet/subnets/machines")),
            seen_as: seen_as.parse().ok(),
            simulated: true,
            ..PlaceConfig::default()
        }
    }
}

pub(super) struct Stage {
    running: Running,
    admin: AdminClient,
    folder: PathBuf,
    temporary: bool,
    setting: String,
    pub(super) rows: Vec<Row>,
}

impl Stage {
    /// Starts the server and puts the story's resources on it.
    pub(super) async fn build(port: u16, data: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = data.is_none();
        let folder = data.map_or_else(
            || std::env::temp_dir().join(format!("postern-demo-{}", environment::random().uuid())),
            Path::to_owned,
        );
        let mut config = Config::default();
        config.server.listen = vec![(PUBLIC_ENDPOINT, port).into()];
        // Places name resources by id, so the subscription's is fixed beforehand.
        config.server.subscription_id = Some(SUBSCRIPTION.parse()?);
        config.places = Place::ALL.map(|place| place.config(SUBSCRIPTION)).into();
        config.check()?;
        let running = Running::start(&folder, &config).await?;
        let admin = AdminClient::connect(&folder).await?;
        let target =
            Target { subscription: SUBSCRIPTION.into(), resource_group: GROUP.into(), location: "eastus".into() };
        apply::put_all(&admin, ESTATE, &target).await.context("the story's resources")?;
        Ok(Self { running, admin, folder, temporary, setting: String::new(), rows: Vec::new() })
    }

    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    pub(super) fn bootstrap(&self) -> &Bootstrap {
        &self.running.bootstrap
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops the server; a temporary folder goes away.
    pub(super) async fn clear(self) {
        self.running.stop().await;
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    /// From here on rows are about this setting.
    pub(super) fn set(&mut self, setting: &str) {
        setting.clone_into(&mut self.setting);
    }

    /// The id of a resource in the story's group.
    pub(super) fn id(&self, resource: &str) -> anyhow::Result<ResourceId> {
        let subscription = &self.admin.bootstrap.subscription_id;
        Ok(format!("/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/{resource}").parse()?)
    }

    pub(super) fn registry_id(&self, name: &str) -> anyhow::Result<ResourceId> {
        self.id(&format!("Microsoft.ContainerRegistry/registries/{name}"))
    }

    /// Changes properties of a registry, as `az acr update` does.
    pub(super) async fn update(&self, registry: &str, properties: Value) -> anyhow::Result<()> {
        let path = format!("{}?api-version={PREVIEW}", self.registry_id(registry)?);
        self.admin.send(Method::PATCH, &path, Some(&json!({"properties": properties}))).await?;
        Ok(())
    }

    /// Approves or rejects the registry's private endpoint connection.
    pub(super) async fn decide_private_endpoint(&self, status: &str) -> anyhow::Result<()> {
        let list = format!("{}/privateEndpointConnections", self.registry_id("myregistry")?);
        let connections = self.admin.send(Method::GET, &list, None).await?;
        let id = connections.pointer("/value/0/id").and_then(Value::as_str).context("there is no connection")?;
        let body =
            json!({"properties": {"privateLinkServiceConnectionState": {"status": status, "description": "demo"}}});
        self.admin.send(Method::PUT, id, Some(&body)).await?;
        Ok(())
    }

    /// Sets what day the Tasks policy is read at.
    pub(super) fn policy_date(&self, policy_date: PolicyDate) {
        self.running.directory.set_settings(Arc::new(Settings { policy_date, ..Settings::default() }));
    }

    /// The object id of a resource's identity.
    pub(super) async fn principal(&self, resource: &str) -> anyhow::Result<String> {
        let found = self.admin.send(Method::GET, self.id(resource)?.as_str(), None).await?;
        let principal = found.pointer("/identity/principalId").or_else(|| found.pointer("/properties/principalId"));
        Ok(principal.and_then(Value::as_str).with_context(|| format!("`{resource}` has no identity"))?.to_owned())
    }

    /// Assigns a built-in role on a registry.
    pub(super) async fn assign(
        &self,
        registry: &str,
        role: &str,
        principal: &str,
        condition: Option<&str>,
    ) -> anyhow::Result<()> {
        let scope = self.registry_id(registry)?;
        let roles = "providers/Microsoft.Authorization/roleDefinitions";
        let subscription = &self.admin.bootstrap.subscription_id;
        let mut properties = json!({
            "roleDefinitionId": format!("/subscriptions/{subscription}/{roles}/{role}"),
            "principalId": principal,
            "principalType": "ServicePrincipal",
        });
        if let (Some(condition), Some(properties)) = (condition, properties.as_object_mut()) {
            properties.insert("condition".into(), condition.into());
            properties.insert("conditionVersion".into(), "2.0".into());
        }
        let name = environment::random().uuid();
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}");
        self.admin.send(Method::PUT, &path, Some(&json!({"properties": properties}))).await?;
        Ok(())
    }

    /// Makes a service principal; gives its object id, client id and secret.
    pub(super) async fn service_principal(&self, name: &str) -> anyhow::Result<(String, String, Secret)> {
        let (object, client) = (environment::random().uuid().to_string(), environment::random().uuid().to_string());
        let id = format!("/providers/Microsoft.Graph/servicePrincipals/{object}");
        let body = json!({"properties": {"appId": client, "displayName": name}});
        self.admin.send(Method::PUT, &id, Some(&body)).await?;
        let answer = self.admin.send(Method::POST, &format!("{id}/addPassword"), Some(&json!({}))).await?;
        let secret = answer.get("secretText").and_then(Value::as_str).context("the answer holds no secret")?;
        Ok((object, client, Secret::new(secret)))
    }

    /// A password for a repository-scoped token.
    pub(super) async fn token_password(&self, registry: &str, token: &str) -> anyhow::Result<Secret> {
        let registry = self.registry_id(registry)?;
        let body = json!({"tokenId": format!("{registry}/tokens/{token}"), "name": "password1"});
        let answer = self.admin.send(Method::POST, &format!("{registry}/generateCredentials"), Some(&body)).await?;
        let value = answer.pointer("/passwords/0/value").and_then(Value::as_str);
        Ok(Secret::new(value.context("the answer holds no password")?))
    }

    /// A gateway for a workload of the story, in a place.
    pub(super) async fn gateway(&self, resource: &str, place: Place) -> anyhow::Result<Gateway> {
        let admin = AdminClient::connect(&self.folder).await?;
        workload::gateway(admin, self.id(resource)?, Some(place.address())).await
    }

    /// A gateway for a run without a task: it is no resource, and proves to be itself as long as it goes on.
    pub(super) async fn run_gateway(&self, run: &str, place: Place) -> anyhow::Result<Gateway> {
        let (id, uid) = (self.id(run)?, ResourceUid(environment::random().uuid()));
        self.running.directory.open_run(Workload {
            resource_type: RUNS.into(),
            resource: id.clone(),
            uid,
            identities: Vec::new(),
        });
        let identity = Arc::clone(&self.running.identity);
        let issue = move |request: String| {
            let (identity, id) = (Arc::clone(&identity), id.clone());
            async move {
                let issued = identity.run_certificate((&id, uid), &request, environment::clock().now());
                issued.map_err(|error| GatewayError::Refused(error.to_string()))
            }
        };
        workload::gateway_with(self.bootstrap(), Arc::new(issue), Some(place.address())).await
    }

    /// A gateway for a service of the server itself. Its certificate is made inside the process: no API issues one.
    pub(super) async fn first_party_gateway(
        &self,
        service: FirstPartyService,
        place: Place,
    ) -> anyhow::Result<Gateway> {
        let identity = Arc::clone(&self.running.identity);
        let issue = move |request: String| {
            let identity = Arc::clone(&identity);
            async move {
                let now = environment::clock().now();
                let issued = identity.first_party_certificate(service, &request, now);
                issued.map_err(|error| GatewayError::Refused(error.to_string()))
            }
        };
        workload::gateway_with(self.bootstrap(), Arc::new(issue), Some(place.address())).await
    }

    /// A registry as seen from a place.
    pub(super) fn registry(&self, name: &str, spot: Spot) -> anyhow::Result<Registry<'_>> {
        let host = format!("{name}{}", self.bootstrap().registry_suffix);
        let client = client_at(self.bootstrap(), spot, &[&host])?;
        Ok(Registry { client, bootstrap: self.bootstrap(), host })
    }

    /// A registry as seen through a workload's gateway.
    pub(super) fn registry_through(&self, name: &str, gateway: &Gateway) -> anyhow::Result<Registry<'_>> {
        let host = format!("{name}{}", self.bootstrap().registry_suffix);
        Ok(Registry { client: client_through(self.bootstrap(), gateway)?, bootstrap: self.bootstrap(), host })
    }

    /// Notes an answer, with what its audit record says about the decision.
    pub(super) async fn note(&mut self, caller: &str, place: Place, answer: Answer) -> anyhow::Result<()> {
        let id: CorrelationId = answer.id.parse().with_context(|| format!("{caller}: the answer names no id"))?;
        let found =
            self.running.audit.find(id).await?.with_context(|| format!("{caller}: nothing is recorded under {id}"))?;
        let record: Value = serde_json::from_str(&found)?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.rows.push(Row {
            caller: caller.into(),
            place: place.name().into(),
            setting: self.setting.clone(),
            status: answer.status.as_u16(),
            verdict: text("/verdict").into(),
            layer: text("/decidedBy").into(),
            why: why(&record),
            id: answer.id,
        });
        Ok(())
    }
}

/// What the deciding layer found. Of a refused workload's findings the last is about the workload, and is the one to tell.
fn why(record: &Value) -> String {
    let deciding = record.get("decidedBy");
    let layers = record.get("layers").and_then(Value::as_array).into_iter().flatten();
    let findings: Vec<&str> = layers
        .filter(|layer| layer.get("layer") == deciding)
        .filter_map(|layer| layer.get("findings").and_then(Value::as_array))
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let is_workload = record.pointer("/origin/workload").is_some_and(|workload| !workload.is_null());
    let told = if is_workload { findings.last() } else { findings.first() };
    let told = told.copied().unwrap_or_default();
    // Connections have generated names.
    match told.split_once("connection `").and_then(|(before, rest)| Some((before, rest.split_once('`')?.1))) {
        Some((before, after)) => format!("{before}connection{after}"),
        None => told.to_owned(),
    }
}
