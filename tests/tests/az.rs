//! Scripts written for the Azure CLI, run by it in the network bench: what they set is what the wall does.
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use postern_tests::bench::{self, Bench, Setup, Spec, Way};
use postern_tests::{Az, Containers, Layout};
use serde_json::{Value, json};

const HOST: &str = "myregistry.azurecr.io";
/// The user name that goes with a registry's refresh token.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
/// What the server says to who may not, by the name of the client's library.
const REFUSALS: [&str; 4] = ["403 (Forbidden)", "unauthorized", "denied", "insufficient_scope"];

/// A registry named as in the documents, with an image in `hello` and `other`, and the administrator's CLI in the office.
struct Scene {
    bench: Bench,
    az: Az,
    containers: Containers,
    image: String,
    _layout: Layout,
}

impl Scene {
    fn new(setup: Setup, create: &str) -> Self {
        let bench = Bench::with(setup);
        let az = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
        az.run("az group create --name myresourcegroup --location eastus --output none");
        az.run(create);
        let containers = Containers::new();
        let mut layout = Layout::create(containers.scratch().join("layout"));
        layout.add_printing_image("hello", "hello");
        let image = layout.reference("hello");
        let mut scene = Self { bench, az, containers, image, _layout: layout };
        let login = scene.az.json("az acr login --name myregistry --expose-token --output json");
        assert_eq!(login["loginServer"], HOST);
        scene.log_in(TOKEN_USER, &text(&login["accessToken"]));
        for repository in ["hello", "other"] {
            assert!(scene.pushes("office", repository), "the administrator pushes");
        }
        scene
    }

    fn log_in(&mut self, user: &str, password: &str) {
        self.containers.set_credentials(&[(HOST, user, password)]);
    }

    fn pulls(&mut self, place: &str, repository: &str) -> bool {
        let image = format!("docker://{HOST}/{repository}:1");
        self.skopeo(place, &["inspect", "--no-tags", &image])
    }

    fn pushes(&mut self, place: &str, repository: &str) -> bool {
        let (from, to) = (self.image.clone(), format!("docker://{HOST}/{repository}:1"));
        self.skopeo(place, &["copy", &from, &to])
    }

    /// Whether it was let; anything but a refusal fails the test.
    fn skopeo(&mut self, place: &str, arguments: &[&str]) -> bool {
        self.containers.enter(self.bench.place(place));
        let outcome = self.containers.skopeo().args(arguments).run();
        let is_refusal = REFUSALS.iter().any(|words| outcome.stderr.contains(words));
        assert!(outcome.code == Some(0) || is_refusal, "{outcome}");
        outcome.code == Some(0)
    }

    /// How the container group fares with a pull, from the internet.
    fn workload(&self, group: &str) -> Pull {
        let skopeo = postern_tests::tool("skopeo").display().to_string();
        let image = format!("docker://{HOST}/hello:1");
        let run = ["--as", group, "--", &skopeo, "inspect", "--no-tags", &image];
        let place = self.bench.place("workload");
        let run = self.bench.postern(place, &["workload", "run"], &run).env("HOME", self.containers.scratch().path());
        let outcome = run.run();
        let says = |words: &str| outcome.stderr.contains(words);
        match outcome.code {
            Some(0) => Pull::Done,
            _ if says("403 (Forbidden)") => Pull::KeptOut,
            _ if says("requested access to the resource is denied") => Pull::NoRight,
            _ => panic!("{outcome}"),
        }
    }

    /// Another CLI, logged in as a service principal that was just made.
    fn as_service_principal(&self, made: &Value) -> Az {
        Az::new(self.bench.place("internet")).logged_in(
            &text(&made["tenant"]),
            &text(&made["appId"]),
            &text(&made["password"]),
        )
    }
}

/// How a pull ends.
#[derive(Debug, PartialEq, Eq)]
enum Pull {
    Done,
    /// By the network rules.
    KeptOut,
    /// It is inside, and its roles do not give it.
    NoRight,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

const CREATE: &str = "az acr create --resource-group myresourcegroup --name myregistry --sku Premium --output none";

/// The guide of trusted services and of the Tasks bypass policy.
#[test]
fn trusted_services_and_the_tasks_policy() {
    bench::inside(|| {
        let mut scene = Scene::new(Setup::default(), CREATE);
        scene.az.run("az acr update --name myregistry --public-network-enabled false --output none");
        assert!(!scene.pulls("office", "hello"));

        // The document leaves out the image and what it takes, which the CLI insists on.
        let group = scene.az.run(
            "az container create \
               --resource-group myresourcegroup \
               --name mycontainer \
               --assign-identity --image hello --os-type Linux --cpu 1 --memory 1 \
               --query id --output tsv",
        );
        assert_eq!(scene.workload(&group), Pull::NoRight);
        let assigned = scene.az.json(
            r"PRINCIPAL_ID=$(az container show \
  --resource-group myresourcegroup \
  --name mycontainer \
  --query identity.principalId --output tsv)

# Get the registry resource ID
REGISTRY_ID=$(az acr show --name myregistry --query id --output tsv)

# Assign AcrPull role (for non-ABAC registries)
az role assignment create \
  --assignee $PRINCIPAL_ID \
  --role AcrPull \
  --scope $REGISTRY_ID --output none

az role assignment list --assignee $PRINCIPAL_ID --scope $REGISTRY_ID",
        );
        assert_eq!(
            (&assigned[0]["roleDefinitionName"], assigned.as_array().map(Vec::len)),
            (&json!("AcrPull"), Some(1))
        );
        let shown = "az acr show --name myregistry --query networkRuleBypassOptions";
        assert_eq!(scene.az.json(shown), "AzureServices");
        assert_eq!(scene.workload(&group), Pull::Done);

        scene.az.run("az acr update --name myregistry --allow-trusted-services false");
        assert_eq!(scene.az.json(shown), "None");
        assert_eq!(scene.workload(&group), Pull::KeptOut);
        scene.az.run("az acr update --name myregistry --allow-trusted-services true");
        assert_eq!(scene.workload(&group), Pull::Done);
        assert!(!scene.pulls("workload", "hello"), "without its certificate it is anybody");

        for value in ["true", "false"] {
            let shown = scene.az.json(&format!(
                r#"registry="myregistry"
resourceGroup="myresourcegroup"

az resource update \
    --namespace Microsoft.ContainerRegistry \
    --resource-type registries \
    --name $registry \
    --resource-group $resourceGroup \
    --api-version 2025-06-01-preview \
    --set properties.networkRuleBypassAllowedForTasks={value} --output none

az resource show \
    --namespace Microsoft.ContainerRegistry \
    --resource-type registries \
    --name $registry \
    --resource-group $resourceGroup \
    --api-version 2025-06-01-preview \
    --query properties.networkRuleBypassAllowedForTasks"#
            ));
            assert_eq!(shown.to_string(), value);
        }
        assert!(!scene.pulls("office", "hello"), "the generic update has left the rest alone");
    });
}

/// Rules for the addresses of a region's tasks, and private endpoints.
#[test]
fn network_rules_and_private_endpoints() {
    bench::inside(|| {
        let mut setup = Setup::default();
        for (name, address) in [("eastus-pool", "20.42.67.9/24"), ("beside-it", "20.42.68.9/24")] {
            let addresses = vec![address.to_owned()];
            setup.places.push(Spec { name: name.into(), addresses, by: Way::Internet, resource: None });
        }
        let mut scene = Scene::new(setup, CREATE);
        assert!(scene.pulls("eastus-pool", "hello"));
        scene.az.run("az acr update --name myregistry --default-action Deny --output none");
        assert!(!scene.pulls("eastus-pool", "hello") && !scene.pulls("office", "hello"));

        let prefixes = scene.az.run(
            "az network list-service-tags --location eastus --query \"values[?id == 'AzureContainerRegistry.EastUS'].properties.addressPrefixes[]\" -o tsv",
        );
        assert_eq!(prefixes.lines().count(), 19, "{prefixes}");
        assert!(prefixes.lines().any(|prefix| prefix == "20.42.67.0/24"));
        scene.az.run(
            r#"az acr network-rule add -n myregistry --ip-address "20.42.66.0/24"
az acr network-rule add -n myregistry --ip-address "20.42.67.0/24"
az acr network-rule add -n myregistry --ip-address "20.42.74.64/26""#,
        );
        assert!(scene.pulls("eastus-pool", "hello"));
        assert!(!scene.pulls("beside-it", "hello") && !scene.pulls("office", "hello"));
        let rules = scene.az.json("az acr network-rule list -n myregistry");
        assert_eq!(rules["ipRules"].as_array().map(Vec::len), Some(3), "{rules}");
        let refused = scene.az.refused("az acr network-rule add -n myregistry --ip-address 2603:1030:210:402::90/125");
        assert!(!refused.contains("Traceback"), "{refused}");
        scene.az.run("az acr network-rule remove -n myregistry --ip-address 20.42.67.0/24 --output none");
        assert!(!scene.pulls("eastus-pool", "hello"));

        // A private endpoint, under the id that the bench has for one in the network `vnet-a`.
        let network = r"az network vnet create --resource-group myresourcegroup --name myvnet --address-prefix 10.0.0.0/16 \
  --subnet-name mysubnet --subnet-prefix 10.0.0.0/24 --output none
subnet=$(az network vnet subnet show \
    --resource-group myresourcegroup \
    --vnet-name myvnet \
    --name mysubnet \
    --query id -o tsv)
az network private-endpoint create --resource-group postern --name vnet-a --location eastus --subnet $subnet \
  --private-connection-resource-id $(az acr show --name myregistry --query id --output tsv) \
  --group-id registry --connection-name myconnection --output none
az acr private-endpoint-connection list --registry-name myregistry --query [].name --output tsv";
        let connection = scene.az.run(network);
        scene.az.run("az acr update --name myregistry --public-network-enabled false --output none");
        assert!(scene.pulls("vnet-a", "hello"));
        assert!(!scene.pulls("vnet-b", "hello") && !scene.pulls("office", "hello"));
        let change = |verb: &str| {
            format!(
                "az acr private-endpoint-connection {verb} --registry-name myregistry --name {connection} --output none"
            )
        };
        scene.az.run(&change("reject"));
        assert!(!scene.pulls("vnet-a", "hello"));
        scene.az.run(&change("approve"));
        assert!(scene.pulls("vnet-a", "hello"));
        scene.az.run(&change("delete"));
        assert!(!scene.pulls("vnet-a", "hello"));
    });
}

/// Accounts for programs, their secrets, groups, custom roles, and roles for some repositories.
#[test]
fn identities_and_roles() {
    bench::inside(|| {
        let mut scene = Scene::new(Setup::default(), CREATE);
        let registry = scene.az.run("az acr show --name myregistry --query id --output tsv");
        let ci = scene.az.json(&format!("az ad sp create-for-rbac --name ci --role AcrPush --scopes {registry}"));
        let (client, secret) = (text(&ci["appId"]), text(&ci["password"]));
        scene.log_in(&client, &secret);
        assert!(scene.pushes("internet", "hello"));
        // With the CLI it does what its role gives, and no more.
        let own = scene.as_service_principal(&ci);
        let login = own.json("az acr login --name myregistry.azurecr.io --expose-token");
        scene.log_in(TOKEN_USER, &text(&login["accessToken"]));
        assert!(scene.pulls("internet", "hello"));
        let refused =
            own.refused("az acr update --name myregistry --resource-group myresourcegroup --admin-enabled true");
        assert!(refused.contains("AuthorizationFailed"), "{refused}");
        let refused = own.refused("az ad sp create-for-rbac --name mine");
        assert!(refused.contains("Insufficient privileges"), "{refused}");
        let refused =
            own.refused(&format!("az ad sp credential reset --id {}", scene.bench.server().bootstrap().client_id));
        assert!(refused.contains("Insufficient privileges"), "{refused}");
        let refused = scene.az.refused("az ad signed-in-user show");
        assert!(refused.contains("delegated authentication"), "{refused}");

        // What is taken away holds at once.
        scene.log_in(&client, &secret);
        scene.az.run(&format!("az role assignment delete --assignee {client} --role AcrPush --scope {registry}"));
        assert!(!scene.pulls("internet", "hello"));

        // A role by a group, and a custom one.
        let team = scene.az.run(&format!(
            "az ad group create --display-name team --mail-nickname team --query id --output tsv
az ad group member add --group team --member-id $(az ad sp show --id {client} --query id --output tsv)"
        ));
        scene.az.run(&format!(
            r#"cat > role.json <<'END'
{{"Name": "Image Puller", "Description": "pulls", "AssignableScopes": ["{registry}"],
  "Actions": ["Microsoft.ContainerRegistry/registries/metadata/read"]}}
END
az role definition create --role-definition @role.json --output none
az role assignment create --assignee {team} --role "Image Puller" --scope {registry} --output none"#
        ));
        assert!(!scene.pulls("internet", "hello"), "the role gives another action");
        scene.az.run(
            "sed -i 's#metadata/read#pull/read#' role.json
az role definition update --role-definition @role.json --output none",
        );
        assert!(scene.pulls("internet", "hello") && !scene.pushes("internet", "hello"));
        let refused = scene.az.refused("az role definition delete --name 'Image Puller'");
        assert!(refused.contains("RoleDefinitionHasAssignments"), "{refused}");
        scene.az.run(&format!(
            "az ad group member remove --group team --member-id $(az ad sp show --id {client} --query id --output tsv)"
        ));
        assert!(!scene.pulls("internet", "hello"));

        // A registry with roles for repositories, and a condition.
        scene.az.run("az acr update --name myregistry --role-assignment-mode rbac-abac --output none");
        let principal = scene.az.run(&format!("az ad sp show --id {client} --query id --output tsv"));
        scene.az.run(&format!(
            r#"az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal \
  --role "Container Registry Repository Reader" --scope {registry} --condition-version 2.0 --output none \
  --condition "((!(ActionMatches{{'Microsoft.ContainerRegistry/registries/repositories/content/read'}}) AND \
!(ActionMatches{{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'}})) OR \
(@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'hello'))""#
        ));
        assert!(scene.pulls("internet", "hello"));
        assert!(!scene.pulls("internet", "other"));

        // A new secret replaces those that the service principal itself had; the account's end is the end of all.
        let fresh = scene.az.json(&format!("az ad sp credential reset --id {client}"));
        scene.log_in(&client, &text(&fresh["password"]));
        assert!(scene.pulls("internet", "hello"));
        scene.az.run(&format!("az ad sp delete --id {client}"));
        assert!(!scene.pulls("internet", "hello"));
    });
}

/// Everything else that is set on a registry and done in it.
#[test]
fn a_registrys_own_commands() {
    bench::inside(|| {
        let mut scene = Scene::new(Setup::default(), CREATE);
        assert_eq!(scene.az.json("az acr repository list --name myregistry"), json!(["hello", "other"]));
        let tags = scene.az.json("az acr repository show-tags --name myregistry --repository hello");
        assert_eq!(tags, json!(["1"]));
        let manifests = scene.az.json("az acr manifest list-metadata --registry myregistry --name hello");
        assert_eq!(manifests[0]["tags"], json!(["1"]));
        let health = scene.az.script("az acr check-health --name myregistry --yes --ignore-errors").run().succeeded();
        for wrong in ["CONNECTIVITY_DNS_ERROR", "CHALLENGE_ERROR", "REFRESH_TOKEN_ERROR", "ACCESS_TOKEN_ERROR"] {
            assert!(!health.stderr.contains(wrong), "{health}");
        }

        // A token for one repository.
        let token = scene.az.json(
            "az acr token create --name mytoken --registry myregistry --repository hello content/read metadata/read",
        );
        scene.log_in("mytoken", &text(&token["credentials"]["passwords"][0]["value"]));
        assert!(scene.pulls("internet", "hello") && !scene.pulls("internet", "other"));
        assert!(!scene.pushes("internet", "hello"));
        scene.az.run(
            "az acr scope-map create --name mymap --registry myregistry --repository other content/read --output none
az acr token update --name mytoken --registry myregistry --scope-map mymap --output none",
        );
        assert!(!scene.pulls("internet", "hello") && scene.pulls("internet", "other"));
        scene.az.run("az acr token update --name mytoken --registry myregistry --status disabled --output none");
        assert!(!scene.pulls("internet", "other"));

        // The administrator's account of the registry.
        scene.az.run("az acr update --name myregistry --admin-enabled true --output none");
        let shown = scene.az.json("az acr credential show --name myregistry");
        scene.log_in("myregistry", &text(&shown["passwords"][0]["value"]));
        assert!(scene.pushes("internet", "hello"));
        scene.az.run("az acr credential renew --name myregistry --password-name password --output none");
        assert!(!scene.pulls("internet", "hello"));

        scene.az.run("az acr repository delete --name myregistry --image other:1 --yes");
        assert_eq!(scene.az.json("az acr repository list --name myregistry"), json!(["hello"]));
        let untagged = "az acr repository untag --name myregistry --image hello:1 && az acr repository show-tags --name myregistry --repository hello";
        assert_eq!(scene.az.json(untagged), json!([]));
        let kept = scene.az.json(
            "az acr config retention update --registry myregistry --status enabled --days 30 --type UntaggedManifests --output none
az acr config retention show --registry myregistry",
        );
        assert_eq!((&kept["days"], &kept["status"]), (&json!(30), &json!("enabled")));
        let refused =
            scene.az.refused("az acr create --resource-group myresourcegroup --name myregistry --sku Nothing");
        assert!(!refused.contains("Traceback"), "{refused}");
        scene.az.run("az acr delete --name myregistry --yes && az group delete --name myresourcegroup --yes");
        assert!(scene.bench.place("internet").resolve(HOST).is_empty(), "the name leads nowhere any more");
    });
}
