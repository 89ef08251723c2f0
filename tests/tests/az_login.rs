//! The ways in which the Azure CLI logs in, with the CLI itself.

use postern_tests::Az;
use postern_tests::bench::{self, Bench};

/// A person with a password, and a program with a certificate: each gets what its role gives.
#[test]
fn passwords_and_certificates() {
    bench::inside(|| {
        let bench = Bench::new();
        let server = bench.server().bootstrap();
        let admin = Az::new(bench.place("office")).as_administrator(server);
        let made = admin.json(
            r#"user=$(az ad user create --display-name Anna --user-principal-name anna@example.org --password "correct horse 1" --query id --output tsv)
scope=/subscriptions/$(az account show --query id --output tsv)
az role assignment create --assignee-object-id $user --assignee-principal-type User --role Reader --scope $scope --output none
az ad sp create-for-rbac --name robot --create-cert --role Reader --scopes $scope"#,
        );
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let tenant = &server.tenant_id;

        let anna = Az::new(bench.place("internet"));
        let login = |password: &str| {
            format!("az login --username anna@example.org --password '{password}' --tenant {tenant} --output none")
        };
        let refused = anna.refused(&login("wrong"));
        assert!(refused.contains("AADSTS50126"), "{refused}");
        anna.run(&login("correct horse 1"));
        // Another audience, for the refresh token that the CLI keeps.
        let shown = anna.run("az ad signed-in-user show --query userPrincipalName --output tsv && az acr list --query [].name --output tsv");
        assert_eq!(shown, "anna@example.org\npostern");

        let robot = Az::new(bench.place("internet"));
        robot.run(&format!(
            "az login --service-principal --username {} --certificate {} --tenant {tenant} --output none",
            text("appId"),
            text("fileWithCertAndPrivateKey")
        ));
        assert_eq!(robot.run("az acr list --query [].name --output tsv"), "postern");

        // A machine without a browser: somebody approves the code that it shows, on the server's machine.
        let approve = |whom: &str| {
            let (program, data) = (postern_tests::binary(), bench.server().data().display().to_string());
            format!(
                r#"rm -f hint; mkfifo hint; exec 3<>hint
AZURE_CORE_ONLY_SHOW_ERRORS=false az login --use-device-code --tenant {tenant} --output none 2>&3 &
code=$(grep --max-count=1 --only-matching --extended-regexp '[B-Z]{{4}}-[B-Z]{{4}}' <&3 | head -n 1)
nsenter --net=/run/netns/server {} device {whom} --server {data} "$code"
wait $! || {{ timeout 1 cat <&3 >&2; exit 1; }}"#,
                program.display()
            )
        };
        let headless = Az::new(bench.place("office"));
        let said = headless.run(&approve("approve --user anna@example.org"));
        assert!(said.starts_with("signed in as anna@example.org: "), "{said}");
        let who = "az ad signed-in-user show --query userPrincipalName --output tsv";
        assert_eq!(headless.run(who), "anna@example.org");
        // A person's token does not make a session of itself.
        let by_token = "az rest --method post --url https://azurecr.io/postern/v1/deviceLogins/BCDF-GHJK/approve";
        let refused = headless.refused(by_token);
        assert!(refused.contains("AuthorizationFailed"), "{refused}");
        let refused = headless.refused(&approve("decline"));
        assert!(!refused.contains("signed in as"), "{refused}");
        let _ = headless.run(&approve("approve"));
        let administrator = headless.json("az account show --query user");
        assert_eq!(administrator["type"], "user", "{administrator}");
    });
}

/// A workload logs in as its managed identity, by the endpoint that its gateway offers.
#[test]
fn managed_identities() {
    bench::inside(|| {
        let bench = Bench::new();
        let admin = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
        let (program, data) = (postern_tests::binary(), bench.server().data());
        let run =
            format!("nsenter --net=/run/netns/server {} workload run --server {}", program.display(), data.display());
        let said = admin.run(&format!(
            r#"az group create --name team --location eastus --output none
group=$(az resource create --resource-group team --name job --resource-type Microsoft.ContainerInstance/containerGroups \
  --is-full-object --properties '{{"location": "eastus", "identity": {{"type": "SystemAssigned"}}, "properties": {{"osType": "Linux", "containers": []}}}}' \
  --query id --output tsv)
principal=$(az resource show --ids $group --query identity.principalId --output tsv)
az role assignment create --assignee-object-id $principal --assignee-principal-type ServicePrincipal --role Reader \
  --scope /subscriptions/$(az account show --query id --output tsv) --output none
az logout
{run} --as $group -- bash -euo pipefail -c 'az login --identity --output none
az account show --query user.assignedIdentityInfo --output tsv
az acr list --query [].name --output tsv'
az acr list --output none 2> without || echo nothing without it"#
        ));
        assert_eq!(said, "MSI\npostern\nnothing without it");
    });
}
