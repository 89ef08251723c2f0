//! Commands of the Azure CLI that the scripts in `az.rs` have no need of: what they print, and that the wall heeds what they set.
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::time::Instant;

use postern_tests::bench::{self, Bench, Setup};
use postern_tests::{Az, Containers, Layout};
use serde_json::{Value, json};

const HOST: &str = "myregistry.azurecr.io";
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// The administrator's CLI in the office, with a group and a registry named as in the documents.
fn scene(setup: Setup) -> (Bench, Az) {
    let bench = Bench::with(setup);
    let az = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
    az.run(
        "az group create --name myresourcegroup --location eastus --output none
az acr create --resource-group myresourcegroup --name myregistry --sku Premium --output none",
    );
    (bench, az)
}

/// Pushes `hello:1` from the office; gives the containers, which are logged in.
fn push(bench: &Bench, az: &Az) -> (Containers, Layout) {
    let mut containers = Containers::new();
    let mut layout = Layout::create(containers.scratch().join("layout"));
    layout.add_printing_image("hello", "hello");
    let login = az.json("az acr login --name myregistry --expose-token --output json");
    let token = login["accessToken"].as_str().unwrap_or_else(|| panic!("no token in {login}")).to_owned();
    containers.set_credentials(&[(HOST, TOKEN_USER, &token)]);
    containers.enter(bench.place("office"));
    let to = format!("docker://{HOST}/hello:1");
    let _ = containers.skopeo().args(["copy", &layout.reference("hello"), &to]).run().succeeded();
    (containers, layout)
}

fn length(value: &Value) -> Option<usize> {
    value.as_array().map(Vec::len)
}

/// What stands around an agent pool and a private endpoint: rules, routes, service endpoints, zones.
#[test]
fn networks_with_rules_routes_and_zones() {
    bench::inside(|| {
        let (_bench, az) = scene(Setup::default());
        let subnet = az.json(
            r"az network vnet create --resource-group myresourcegroup --name myvnet --address-prefix 10.0.0.0/16 \
  --subnet-name mysubnet --subnet-prefix 10.0.0.0/24 --output none
az network nsg create --resource-group myresourcegroup --name mynsg --output none
priority=100
for service in AzureKeyVault Storage EventHub AzureActiveDirectory; do
  az network nsg rule create --resource-group myresourcegroup --nsg-name mynsg --name allow-$service --priority $priority \
    --direction Outbound --access Allow --protocol Tcp --source-address-prefixes VirtualNetwork --source-port-ranges '*' \
    --destination-address-prefixes $service --destination-port-ranges 443 --output none
  priority=$((priority + 10))
done
az network nsg rule create --resource-group myresourcegroup --nsg-name mynsg --name allow-AzureMonitor --priority 150 \
  --direction Outbound --access Allow --protocol Tcp --source-address-prefixes VirtualNetwork --source-port-ranges '*' \
  --destination-address-prefixes AzureMonitor --destination-port-ranges 443 12000 --output none
az network route-table create --resource-group myresourcegroup --name myroutes --output none
az network route-table route create --resource-group myresourcegroup --route-table-name myroutes --name out \
  --address-prefix 0.0.0.0/0 --next-hop-type VirtualAppliance --next-hop-ip-address 10.0.1.4 --output none
az network vnet subnet update --resource-group myresourcegroup --vnet-name myvnet --name mysubnet \
  --network-security-group mynsg --route-table myroutes \
  --service-endpoints Microsoft.AzureActiveDirectory Microsoft.ContainerRegistry Microsoft.EventHub Microsoft.KeyVault Microsoft.Storage",
        );
        let ends_in = |value: &Value, end: &str| value.as_str().is_some_and(|text| text.ends_with(end));
        assert!(ends_in(&subnet["networkSecurityGroup"]["id"], "/networkSecurityGroups/mynsg"), "{subnet}");
        assert!(ends_in(&subnet["routeTable"]["id"], "/routeTables/myroutes"), "{subnet}");
        assert_eq!(length(&subnet["serviceEndpoints"]), Some(5), "{subnet}");
        let rules = az.json("az network nsg rule list --resource-group myresourcegroup --nsg-name mynsg");
        assert_eq!(length(&rules), Some(5), "{rules}");
        let whole = az.json("az network nsg show --resource-group myresourcegroup --name mynsg");
        assert_eq!(length(&whole["securityRules"]), Some(5), "{whole}");
        let routes = az.json("az network route-table show --resource-group myresourcegroup --name myroutes");
        assert_eq!(routes["routes"][0]["nextHopIpAddress"], "10.0.1.4", "{routes}");

        let shown = az.json(
            r"registry=$(az acr show --name myregistry --query id --output tsv)
az network private-endpoint create --resource-group myresourcegroup --name myendpoint --location eastus --vnet-name myvnet \
  --subnet mysubnet --private-connection-resource-id $registry --group-id registry --connection-name myconnection --output none
az network private-dns zone create --resource-group myresourcegroup --name privatelink.azurecr.io --output none
az network private-dns link vnet create --resource-group myresourcegroup --zone-name privatelink.azurecr.io --name mylink \
  --virtual-network myvnet --registration-enabled false --output none
az network private-endpoint dns-zone-group create --resource-group myresourcegroup --endpoint-name myendpoint --name myzonegroup \
  --private-dns-zone privatelink.azurecr.io --zone-name privatelink.azurecr.io --output none
az network private-dns record-set a create --resource-group myresourcegroup --zone-name privatelink.azurecr.io --name myregistry \
  --output none
az network private-dns record-set a add-record --resource-group myresourcegroup --zone-name privatelink.azurecr.io \
  --record-set-name myregistry --ipv4-address 10.0.0.4 --output none
az network private-endpoint show --resource-group myresourcegroup --name myendpoint",
        );
        let state = &shown["privateLinkServiceConnections"][0]["privateLinkServiceConnectionState"]["status"];
        assert_eq!(state, "Approved", "{shown}");
        let record = "az network private-dns record-set a show --resource-group myresourcegroup --zone-name privatelink.azurecr.io \
                      --name myregistry --query aRecords[0].ipv4Address";
        assert_eq!(az.json(record), "10.0.0.4");
        let records = "az network private-dns record-set list --resource-group myresourcegroup --zone-name privatelink.azurecr.io \
                       --query [].aRecords[].ipv4Address";
        assert_eq!(az.json(records), json!(["10.0.0.4"]));
        let links =
            "az network private-dns link vnet list --resource-group myresourcegroup --zone-name privatelink.azurecr.io";
        assert_eq!(length(&az.json(links)), Some(1));
        let connections = az.json(
            "az network private-endpoint-connection list --id $(az acr show --name myregistry --query id --output tsv)",
        );
        assert_eq!(length(&connections), Some(1), "{connections}");
        let links = az.json("az acr private-link-resource list --name myregistry");
        assert_eq!(links[0]["groupId"], "registry", "{links}");
        az.run(
            "az network private-endpoint delete --resource-group myresourcegroup --name myendpoint
az network vnet subnet update --resource-group myresourcegroup --vnet-name myvnet --name mysubnet --network-security-group null \
  --route-table null --output none
az network nsg rule delete --resource-group myresourcegroup --nsg-name mynsg --name allow-Storage
az network nsg delete --resource-group myresourcegroup --name mynsg
az network route-table delete --resource-group myresourcegroup --name myroutes",
        );
        assert_eq!(az.json("az network nsg list --resource-group myresourcegroup"), json!([]));
    });
}

/// Usage, policies, endpoints, identities, webhooks, health, import: a registry's own commands.
#[test]
fn a_registrys_settings_and_health() {
    bench::inside(|| {
        let (bench, az) = scene(Setup::default());
        let (containers, _layout) = push(&bench, &az);
        let usage = az.json("az acr show-usage --name myregistry");
        let of = |name: &str| {
            let rows = usage["value"].as_array().into_iter().flatten();
            let mut found =
                rows.filter(|row| row["name"] == name).map(|row| (row["currentValue"].clone(), row["limit"].clone()));
            found.next().unwrap_or_else(|| panic!("no {name} in {usage}"))
        };
        assert!(of("Size").0.as_u64().is_some_and(|size| size > 500_000), "busybox is larger: {usage}");
        assert_eq!(of("Size").1, json!(500_u64 << 30));
        assert_eq!(of("Webhooks"), (json!(0), json!(500)));

        let config = |rest: &str| format!("az acr config {rest} --registry myregistry --query");
        for (command, expected) in [
            ("az acr check-name --name myregistry --query nameAvailable".to_owned(), json!(false)),
            ("az acr check-name --name anothername --query nameAvailable".into(), json!(true)),
            ("az acr show-endpoints --name myregistry --query loginServer".into(), json!(HOST)),
            ("az acr list --resource-group myresourcegroup --query [].name".into(), json!(["myregistry"])),
            (config("content-trust show") + " status", json!("disabled")),
            (config("content-trust update --status disabled --yes") + " status", json!("disabled")),
            (config("soft-delete update --status enabled --days 20 --yes") + " retentionDays", json!(20)),
            (config("soft-delete show") + " status", json!("enabled")),
            (config("soft-delete update --status disabled --yes") + " status", json!("disabled")),
            (config("retention update --status enabled --days 30 --type UntaggedManifests") + " days", json!(30)),
            (config("authentication-as-arm show") + " status", json!("enabled")),
            (config("authentication-as-arm update --status disabled") + " status", json!("disabled")),
            (
                "az acr identity assign --name myregistry --identities [system] --query identity.type".into(),
                json!("SystemAssigned"),
            ),
            ("az acr identity show --name myregistry --query type".into(), json!("SystemAssigned")),
            (
                "az acr update --name myregistry --anonymous-pull-enabled true --query anonymousPullEnabled".into(),
                json!(true),
            ),
            (
                "az acr update --name myregistry --data-endpoint-enabled true --query dataEndpointEnabled".into(),
                json!(true),
            ),
            ("az acr update --name myregistry --tags a=b --query tags.a".into(), json!("b")),
        ] {
            assert_eq!(az.json(&command), expected, "{command}");
        }
        // Whoever is nobody may pull now.
        containers.set_credentials(&[]);
        let image = format!("docker://{HOST}/hello:1");
        let _ = containers.skopeo().args(["inspect", "--no-tags", &image]).run().succeeded();

        let hook = az.json(
            "az acr webhook create --registry myregistry --name mywebhook --uri https://hooks.test/secret --actions push delete \
             --headers Authorization=hidden",
        );
        assert_eq!((&hook["status"], &hook["actions"]), (&json!("enabled"), &json!(["push", "delete"])), "{hook}");
        for shown in [
            az.run("az acr webhook show --registry myregistry --name mywebhook"),
            az.run("az acr webhook list --registry myregistry"),
            az.run("az acr webhook update --registry myregistry --name mywebhook --status disabled --scope hello:*"),
        ] {
            assert!(!shown.contains("hidden") && !shown.contains("hooks.test"), "{shown}");
        }
        let kept = az.json("az acr webhook get-config --registry myregistry --name mywebhook");
        assert_eq!(
            kept,
            json!({"customHeaders": {"Authorization": "hidden"}, "serviceUri": "https://hooks.test/secret"})
        );
        az.run("az acr webhook delete --registry myregistry --name mywebhook");

        az.run(
            "az acr create --resource-group myresourcegroup --name mytarget --sku Standard --output none
az acr import --name mytarget --source myregistry.azurecr.io/hello:1 --image imported:1
az acr import --name mytarget --source hello:1 --registry $(az acr show --name myregistry --query id --output tsv) --image again:1",
        );
        assert_eq!(az.json("az acr repository list --name mytarget"), json!(["again", "imported"]));
        for refused in [
            "az acr network-rule add --name mytarget --ip-address 203.0.113.7",
            "az acr config retention update --registry mytarget --status enabled --days 3 --type UntaggedManifests",
            "az acr webhook create --registry mytarget --name hook --uri nothing --actions push",
        ] {
            let said = az.refused(refused);
            assert!(!said.contains("Traceback"), "{said}");
        }
    });
}

/// From nothing to a container group's pull past a closed wall, by the documents' commands. How long it takes is printed.
#[test]
fn from_a_group_to_a_trusted_pull() {
    const MOST_SECONDS_BETWEEN_POLLS: u32 = 1;
    bench::inside(|| {
        let bench = Bench::new();
        let az = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
        let begun = Instant::now();
        az.run(
            "az group create --name myresourcegroup --location eastus --output none
az acr create --resource-group myresourcegroup --name myregistry --sku Premium --output none",
        );
        let (containers, _layout) = push(&bench, &az);
        let group = az.run(
            r"az acr update --name myregistry --public-network-enabled false --output none
az container create --resource-group myresourcegroup --name mycontainer --assign-identity --image hello --os-type Linux \
  --cpu 1 --memory 1 --output none
PRINCIPAL_ID=$(az container show --resource-group myresourcegroup --name mycontainer --query identity.principalId --output tsv)
REGISTRY_ID=$(az acr show --name myregistry --query id --output tsv)
az role assignment create --assignee $PRINCIPAL_ID --role AcrPull --scope $REGISTRY_ID --output none
az acr update --name myregistry --allow-trusted-services true --output none
az container show --resource-group myresourcegroup --name mycontainer --query id --output tsv",
        );
        let skopeo = postern_tests::tool("skopeo").display().to_string();
        let image = format!("docker://{HOST}/hello:1");
        let run = ["--as", &group, "--", &skopeo, "inspect", "--no-tags", &image];
        let place = bench.place("workload");
        let run = bench.postern(place, &["workload", "run"], &run).env("HOME", containers.scratch().path());
        let _ = run.run().succeeded();
        println!("from the group to the trusted pull: {:.1} s", begun.elapsed().as_secs_f64());

        // What the CLI was told to wait between two looks at something under way, from its own log.
        let waits = az.run(
            r#"cat $AZURE_CONFIG_DIR/logs/*.log* | grep -io "'retry-after': '[0-9]*'" | grep -o "[0-9]*" | sort -n | tail -1 || true"#,
        );
        let fits = |text: &str| text.parse::<u32>().is_ok_and(|seconds| seconds <= MOST_SECONDS_BETWEEN_POLLS);
        assert!(waits.is_empty() || fits(&waits), "{waits}");
        let logged = az.run("cat $AZURE_CONFIG_DIR/logs/*.log* | grep -ic 'response status'");
        assert!(logged.parse::<u32>().is_ok_and(|count| count > 20), "the log holds the answers: {logged}");
    });
}

/// Nobody who drives the CLI sees that there were too many requests: it waits as long as it is told to, and asks again.
#[test]
fn the_cli_waits_when_it_is_told_to() {
    bench::inside(|| {
        let throttling = "enabled = true\npercent = 2".to_owned();
        let (_bench, az) = scene(Setup { throttling, ..Setup::default() });
        az.run(
            "for number in 1 2 3 4 5 6; do az acr update --name myregistry --tags number=$number --output none; done",
        );
        assert_eq!(az.json("az acr show --name myregistry --query tags.number"), "6");
        let waits = az.run("cat $AZURE_CONFIG_DIR/logs/*.log* | grep -ic 'response status: 429'");
        assert!(waits.parse::<u32>().is_ok_and(|count| count > 0), "{waits}");
    });
}

/// The documents of tasks: what the client writes, changes and shows of them; no run is begun.
#[test]
fn tasks_their_logins_and_timers() {
    bench::inside(|| {
        let (_bench, az) = scene(Setup::default());
        // The first one of the documents: its identity is taken from the very answer.
        let principal = az.run(
            r#"az acr task create --registry myregistry --name mypurgetask --cmd "acr purge --filter 'hello-world:.*' --ago 7d --dry-run" \
  --context /dev/null --assign-identity [system] --auth-mode None --base-image-trigger-enabled false \
  --query identity.principalId --output tsv"#,
        );
        assert_eq!(principal.len(), 36, "{principal}");
        let logins = az.json(
            "az acr task credential add --registry myregistry --name mypurgetask --login-server myregistry.azurecr.io --use-identity [system]
",
        );
        assert_eq!(logins[HOST]["identity"], "[system]", "{logins}");
        let shown = az.json("az acr task show --registry myregistry --name mypurgetask");
        assert_eq!((&shown["timeout"], &shown["step"]["type"]), (&json!(3600), &json!("EncodedTask")), "{shown}");
        assert_eq!(shown["identity"]["principalId"], Value::from(principal), "{shown}");

        // A file with values that nobody may see, a schedule, and a login by name and password.
        let created = az.json(
            r"cat > acb.yaml <<'END'
version: v1.1.0
steps:
- build: -t $Registry/{{.Values.image}} -f {{.Values.dockerfile}} .
- push:
  - $Registry/{{.Values.image}}
END
az acr task create --registry myregistry --name mybuildtask --file acb.yaml --context /dev/null --schedule '0 1 * * Mon-Fri' \
  --set image=app:1 --set-secret password=hidden-value --output json",
        );
        assert_eq!(created["trigger"]["timerTriggers"][0]["schedule"], "0 1 * * Mon-Fri", "{created}");
        assert_eq!(created["trigger"]["baseImageTrigger"]["baseImageTriggerType"], "Runtime", "{created}");
        let names = az.json("az acr task list --registry myregistry --query [].name");
        assert_eq!(names, json!(["mybuildtask", "mypurgetask"]));
        az.run(
            "az acr task credential add --registry myregistry --name mybuildtask --login-server other.azurecr.io --username me \\
  --password hidden-password --output none",
        );
        let show = "az acr task show --registry myregistry --name mybuildtask";
        assert!(!az.run(show).contains("hidden-"));
        let details = az.json(&format!("{show} --with-secure-properties"));
        assert!(details.to_string().contains("hidden-value"), "{details}");
        assert!(details.to_string().contains("hidden-password"), "{details}");

        // Timers by their names.
        let task = "--registry myregistry --name mybuildtask";
        az.run(&format!("az acr task timer add {task} --timer-name t2 --schedule '0 2 * * *' --output none"));
        az.run(&format!("az acr task timer update {task} --timer-name t1 --enabled false --output none"));
        let timers = az.json(&format!("az acr task timer list {task} --query '[].[name, schedule, status]'"));
        assert_eq!(timers, json!([["t1", "0 1 * * Mon-Fri", "Disabled"], ["t2", "0 2 * * *", "Enabled"]]));
        let never = az.refused(&format!("az acr task timer add {task} --timer-name t3 --schedule '0 0 30 2 *'"));
        assert!(never.contains("the schedule never fires"), "{never}");
        az.run(&format!("az acr task timer remove {task} --timer-name t1 --output none"));
        assert_eq!(az.json(&format!("az acr task timer list {task} --query [].name")), json!(["t2"]));

        let logins = az.json(&format!("az acr task credential list {task}"));
        assert!(logins["other.azurecr.io"].is_object(), "{logins}");
        let logins = az.json(&format!("az acr task credential remove {task} --login-server other.azurecr.io"));
        assert!(logins["other.azurecr.io"].is_null(), "{logins}");
        let identity = az.json(&format!("az acr task identity assign {task} --query identity.type"));
        assert_eq!(identity, "SystemAssigned");
        assert_eq!(az.json(&format!("az acr task identity show {task}"))["type"], "SystemAssigned");
        let updated = az.json(&format!("az acr task update {task} --status Disabled --cpu 4"));
        assert_eq!(
            (&updated["status"], &updated["agentConfiguration"]["cpu"]),
            (&json!("Disabled"), &json!(4)),
            "{updated}"
        );
        assert_eq!(
            updated["trigger"]["timerTriggers"][0]["name"], "t2",
            "what an update does not name stays: {updated}"
        );
        az.run(&format!("az acr task delete {task} --yes"));
        assert_eq!(az.json("az acr task list --registry myregistry --query [].name"), json!(["mypurgetask"]));
        assert!(az.refused(show).contains("ResourceNotFound"));
    });
}

/// Agent pools: made, counted and deleted, as the client waits for it.
#[test]
fn agent_pools_come_and_go() {
    bench::inside(|| {
        let (_bench, az) = scene(Setup::default());
        let pool = az.json(
            "az network vnet create --resource-group myresourcegroup --name myvnet --address-prefix 10.0.0.0/16 \\
  --subnet-name mysubnet --subnet-prefix 10.0.0.0/24 --output none
subnet=$(az network vnet subnet show --resource-group myresourcegroup --vnet-name myvnet --name mysubnet --query id --output tsv)
az acr agentpool create --registry myregistry --name mypool --tier S2 --subnet-id $subnet",
        );
        assert_eq!((&pool["count"], &pool["tier"], &pool["os"]), (&json!(1), &json!("S2"), &json!("Linux")), "{pool}");
        let named = "--registry myregistry --name mypool";
        assert_eq!(az.json(&format!("az acr agentpool update {named} --count 3"))["count"], 3);
        assert_eq!(az.json(&format!("az acr agentpool show {named} --query tier")), "S2");
        assert_eq!(az.json("az acr agentpool list --registry myregistry --query [].name"), json!(["mypool"]));
        let much = az.refused("az acr agentpool create --registry myregistry --name other --tier S3");
        assert!(much.contains("at most 16 processors"), "{much}");
        // A task may be for it; the client looks at the pool until it is gone.
        az.run(
            "az acr task create --registry myregistry --name mytask --cmd 'acr tag list' --context /dev/null --agent-pool mypool \\
  --output none
az acr agentpool delete --registry myregistry --name mypool --yes",
        );
        assert_eq!(az.json("az acr agentpool list --registry myregistry"), json!([]));
    });
}
