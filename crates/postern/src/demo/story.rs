//! The story itself, in the order in which a lock-down happens.

use postern_access::PolicyDate;
use postern_identity::{FirstPartyService, Gateway};
use postern_model::Secret;
use serde_json::json;

use super::caller::Proof;
use super::image;
use super::stage::{Place, Stage};
use crate::workload::managed_identity_token;

const ACR_PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
const ACR_PUSH: &str = "8311e382-0749-4cb8-b61a-304f252e45ec";
const REPOSITORY_READER: &str = "b93aa761-3e63-49ed-ac28-beffa264f7ac";

const CONTAINER: &str = "Microsoft.ContainerInstance/containerGroups/mycontainer";
const SHARED_CONTAINER: &str = "Microsoft.ContainerInstance/containerGroups/mysharedcontainer";
const NO_ROLE: &str = "Microsoft.ContainerInstance/containerGroups/norole";
const IDENTITY: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/myidentity";
const WORKSPACE: &str = "Microsoft.MachineLearningServices/workspaces/myworkspace";
const WEB_APP: &str = "Microsoft.Web/sites/mywebapp";
const TASK: &str = "Microsoft.ContainerRegistry/registries/myregistry/tasks/mypurgetask";
const SHARED_TASK: &str = "Microsoft.ContainerRegistry/registries/myregistry/tasks/mysharedtask";
const QUICK_RUN: &str = "Microsoft.ContainerRegistry/registries/myregistry/runs/quickrun";

/// As `az role assignment create --condition` writes it: reading is limited to one repository.
const ONLY_HELLO_WORLD: &str = "( (  !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'})  AND  \
    !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'}) ) OR  \
    (  @Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'hello-world' ))";

const REPOSITORY: &str = "hello-world";
const OTHER_REPOSITORY: &str = "secret/app";
const TAG: &str = "v1";

/// A service principal of the story.
struct Developer {
    client_id: String,
    secret: Secret,
}

impl Developer {
    fn proof(&self) -> Proof<'_> {
        Proof::Secret { client_id: &self.client_id, secret: &self.secret }
    }
}

pub(super) async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    let developer = prepare(stage).await?;
    lock_down(stage, &developer).await?;
    private_endpoint(stage, &developer).await?;
    trusted_services(stage, &developer).await?;
    service_endpoint(stage, &developer).await?;
    tasks(stage).await?;
    roles(stage).await?;
    scoped_token(stage).await?;
    locked_tag(stage).await
}

/// Pushes the image and gives everybody their roles.
async fn prepare(stage: &Stage) -> anyhow::Result<Developer> {
    let image = image::printing("Hello from Postern: this image came through the wall.\n");
    for (registry, repository) in [
        ("myregistry", REPOSITORY),
        ("myregistry", OTHER_REPOSITORY),
        ("subnetregistry", REPOSITORY),
        ("postern", REPOSITORY),
    ] {
        let pushed = stage.registry(registry, Place::Internet.spot())?.push(repository, TAG, &image).await?;
        anyhow::ensure!(pushed.status.is_success(), "pushing to {registry} answered {}", pushed.status);
    }
    let (object, client_id, secret) = stage.service_principal("developer").await?;
    for registry in ["myregistry", "subnetregistry"] {
        stage.assign(registry, ACR_PULL, &object, None).await?;
    }
    for resource in [CONTAINER, IDENTITY, WORKSPACE, WEB_APP] {
        stage.assign("myregistry", ACR_PULL, &stage.principal(resource).await?, None).await?;
    }
    stage.assign("subnetregistry", ACR_PULL, &stage.principal(CONTAINER).await?, None).await?;
    stage.assign("myregistry", ACR_PUSH, &stage.principal(TASK).await?, None).await?;
    Ok(Developer { client_id, secret })
}

async fn pull(stage: &mut Stage, caller: &str, place: Place, proof: Proof<'_>) -> anyhow::Result<()> {
    let answer = stage.registry("myregistry", place.spot())?.pull(REPOSITORY, TAG, proof).await?;
    stage.note(caller, place, answer).await
}

async fn pull_through(stage: &mut Stage, caller: &str, gateway: &Gateway, proof: Proof<'_>) -> anyhow::Result<()> {
    let answer = stage.registry_through("myregistry", gateway)?.pull(REPOSITORY, TAG, proof).await?;
    stage.note(caller, Place::Cloud, answer).await
}

async fn pull_as(stage: &mut Stage, caller: &str, resource: &str) -> anyhow::Result<()> {
    let gateway = stage.gateway(resource, Place::Cloud).await?;
    let proof = Proof::ManagedIdentity { gateway: &gateway, client_id: None };
    pull_through(stage, caller, &gateway, proof).await?;
    drop(gateway);
    Ok(())
}

async fn lock_down(stage: &mut Stage, developer: &Developer) -> anyhow::Result<()> {
    stage.set("all networks");
    pull(stage, "developer", Place::Internet, developer.proof()).await?;
    stage.update("myregistry", json!({"networkRuleSet": {"defaultAction": "Deny"}})).await?;
    stage.set("selected networks, no rule");
    pull(stage, "developer", Place::Internet, developer.proof()).await?;
    pull(stage, "nobody in particular", Place::Internet, Proof::None).await?;
    let rules = json!([{"action": "Allow", "value": "203.0.113.0/24"}]);
    stage.update("myregistry", json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}})).await?;
    stage.set("IP rule for the office");
    pull(stage, "developer", Place::Office, developer.proof()).await?;
    pull(stage, "developer", Place::Internet, developer.proof()).await?;
    stage.update("myregistry", json!({"publicNetworkAccess": "Disabled"})).await?;
    stage.set("public access disabled");
    pull(stage, "developer", Place::Office, developer.proof()).await
}

async fn private_endpoint(stage: &mut Stage, developer: &Developer) -> anyhow::Result<()> {
    stage.set("private endpoint approved");
    pull(stage, "developer", Place::Network, developer.proof()).await?;
    let elsewhere = stage.registry("myregistry", Place::Internet.spot_at_private_endpoint())?;
    let answer = elsewhere.pull(REPOSITORY, TAG, developer.proof()).await?;
    stage.note("developer, at the endpoint's address", Place::Internet, answer).await?;
    stage.decide_private_endpoint("Rejected").await?;
    stage.set("private endpoint rejected");
    pull(stage, "developer", Place::Network, developer.proof()).await?;
    stage.decide_private_endpoint("Approved").await
}

async fn trusted_services(stage: &mut Stage, developer: &Developer) -> anyhow::Result<()> {
    stage.set("trusted services on");
    let container = stage.gateway(CONTAINER, Place::Cloud).await?;
    let own = || Proof::ManagedIdentity { gateway: &container, client_id: None };
    pull_through(stage, "Container Instances, system identity", &container, own()).await?;
    pull_as(stage, "Container Instances, user identity", SHARED_CONTAINER).await?;
    let scanner = stage.first_party_gateway(FirstPartyService::Scanner, Place::Cloud).await?;
    let own_token = Proof::ManagedIdentity { gateway: &scanner, client_id: None };
    pull_through(stage, "Defender, no role", &scanner, own_token).await?;
    drop(scanner);
    pull_as(stage, "Machine Learning", WORKSPACE).await?;
    let importer = stage.first_party_gateway(FirstPartyService::Importer, Place::Cloud).await?;
    pull_through(stage, "import, for the developer", &importer, developer.proof()).await?;
    drop(importer);
    pull_as(stage, "App Service", WEB_APP).await?;
    pull_as(stage, "Container Instances, no role", NO_ROLE).await?;

    // What a thief may get hold of: the identity's token, and the registry token bought with it.
    let entra = managed_identity_token(&container, None).await?;
    let refresh = stage.registry_through("myregistry", &container)?.exchange(&entra).await?;
    let refresh = refresh.map_err(|refused| anyhow::anyhow!("the exchange answered {}", refused.status))?;
    pull(stage, "that container's token, stolen", Place::Internet, Proof::Token(&entra)).await?;
    pull(stage, "its registry token, stolen", Place::Network, Proof::Refresh(&refresh)).await?;

    stage.update("myregistry", json!({"networkRuleBypassOptions": "None"})).await?;
    stage.set("trusted services off");
    pull_through(stage, "Container Instances, system identity", &container, own()).await?;
    stage.update("myregistry", json!({"networkRuleBypassOptions": "AzureServices"})).await?;
    drop(container);
    Ok(())
}

async fn service_endpoint(stage: &mut Stage, developer: &Developer) -> anyhow::Result<()> {
    let subnet = stage.id("Microsoft.Network/virtualNetworks/myvnet/subnets/machines")?;
    let rules = json!([{"action": "Allow", "id": subnet.as_str(), "virtualNetworkSubnetResourceId": subnet.as_str()}]);
    let properties = json!({"networkRuleSet": {"defaultAction": "Deny", "virtualNetworkRules": rules}});
    stage.update("subnetregistry", properties).await?;
    stage.set("service endpoint, trusted services on");
    let answer =
        stage.registry("subnetregistry", Place::Subnet.spot())?.pull(REPOSITORY, TAG, developer.proof()).await?;
    stage.note("developer", Place::Subnet, answer).await?;
    let gateway = stage.gateway(CONTAINER, Place::Cloud).await?;
    let proof = Proof::ManagedIdentity { gateway: &gateway, client_id: None };
    let answer = stage.registry_through("subnetregistry", &gateway)?.pull(REPOSITORY, TAG, proof).await?;
    stage.note("Container Instances, system identity", Place::Cloud, answer).await?;
    drop(gateway);
    Ok(())
}

async fn tasks(stage: &mut Stage) -> anyhow::Result<()> {
    const OWN: &str = "task, system identity";
    stage.set("tasks policy unset");
    pull_as(stage, OWN, TASK).await?;
    for (date, setting) in
        [(PolicyDate::Before, "unset, before 2025-05-16"), (PolicyDate::Grace, "unset, before 2025-06-01")]
    {
        stage.policy_date(date);
        stage.set(&format!("tasks policy {setting}"));
        pull_as(stage, OWN, TASK).await?;
    }
    stage.update("myregistry", json!({"networkRuleBypassAllowedForTasks": false})).await?;
    stage.set("tasks policy false, before 2025-06-01");
    pull_as(stage, OWN, TASK).await?;
    stage.policy_date(PolicyDate::Current);
    stage.set("tasks policy false");
    pull_as(stage, OWN, TASK).await?;
    stage.update("myregistry", json!({"networkRuleBypassAllowedForTasks": true})).await?;
    stage.set("tasks policy true");
    pull_as(stage, OWN, TASK).await?;
    pull_as(stage, "task, user identity", SHARED_TASK).await?;
    let run = stage.run_gateway(QUICK_RUN, Place::Cloud).await?;
    pull_through(stage, "quick run", &run, Proof::None).await?;
    drop(run);
    Ok(())
}

async fn roles(stage: &mut Stage) -> anyhow::Result<()> {
    stage.update("myregistry", json!({"roleAssignmentMode": "AbacRepositoryPermissions"})).await?;
    stage.assign("myregistry", REPOSITORY_READER, &stage.principal(CONTAINER).await?, Some(ONLY_HELLO_WORLD)).await?;
    stage.set("ABAC, condition on hello-world");
    let gateway = stage.gateway(CONTAINER, Place::Cloud).await?;
    for (repository, caller) in
        [(REPOSITORY, "Container Instances, hello-world"), (OTHER_REPOSITORY, "Container Instances, secret/app")]
    {
        let proof = Proof::ManagedIdentity { gateway: &gateway, client_id: None };
        let answer = stage.registry_through("myregistry", &gateway)?.pull(repository, TAG, proof).await?;
        stage.note(caller, Place::Cloud, answer).await?;
    }
    drop(gateway);
    stage.update("myregistry", json!({"roleAssignmentMode": "LegacyRegistryPermissions"})).await
}

async fn scoped_token(stage: &mut Stage) -> anyhow::Result<()> {
    stage.set("token with a scope map");
    let password = stage.token_password("myregistry", "hello-token").await?;
    for (repository, caller) in
        [(REPOSITORY, "hello-token, hello-world"), (OTHER_REPOSITORY, "hello-token, secret/app")]
    {
        let proof = Proof::RepositoryToken { name: "hello-token", password: &password };
        let answer = stage.registry("myregistry", Place::Network.spot())?.pull(repository, TAG, proof).await?;
        stage.note(caller, Place::Network, answer).await?;
    }
    Ok(())
}

async fn locked_tag(stage: &mut Stage) -> anyhow::Result<()> {
    let registry = stage.registry("myregistry", Place::Network.spot())?;
    registry.lock(REPOSITORY, TAG).await?;
    let other = image::printing("Another image under the same tag.\n");
    let answer = registry.push(REPOSITORY, TAG, &other).await?;
    stage.set("tag locked");
    stage.note("administrator, pushing v1 again", Place::Network, answer).await
}
