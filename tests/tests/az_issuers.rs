//! Outside issuers of tokens: what they sign is worth something here where somebody said so.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test, also in what the tests share")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use postern_tests::bench::{self, Bench, Setup};
use postern_tests::{Az, Containers, Issuer, Layout};
use serde_json::json;

const REGISTRY: &str = "postern.azurecr.io";
/// The user name that goes with a registry's refresh token.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
const ISSUER: &str = "issuer.test";
const ISSUER_PORT: u16 = 8443;
const SUBJECT: &str = "repo:octo/app:ref:refs/heads/main";
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A server that may call an issuer on its own machine, and an image in its registry.
struct Scene {
    bench: Bench,
    issuer: Issuer,
    admin: Az,
    containers: Containers,
    registry: String,
}

impl Scene {
    fn new() -> Self {
        let authorities = std::env::temp_dir().join("authorities.pem");
        fs::write(&authorities, "").expect("the bench has a folder");
        let outbound = format!("allow = ['127.0.0.0/8']\nca_file = '{}'\n", authorities.display());
        let mut bench = Bench::with(Setup { outbound, ..Setup::default() });
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ISSUER_PORT);
        let listener = bench.server_place().listen(address).expect("the port is free");
        bench.server_place().add_host(ISSUER, address.ip());
        let issuer = Issuer::start(listener, ISSUER);
        fs::write(&authorities, issuer.certificate()).expect("the bench has a folder");
        bench.restart();
        let admin = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
        let registry = admin.run("az acr show --name postern --query id --output tsv");
        let mut containers = Containers::new();
        containers.enter(bench.place("internet"));
        let mut scene = Self { bench, issuer, admin, containers, registry };
        scene.push();
        scene
    }

    fn push(&mut self) {
        let layout = {
            let mut layout = Layout::create(self.containers.scratch().join("layout"));
            layout.add_printing_image("one", "one");
            layout
        };
        let token = self.admin.run("az acr login --name postern --expose-token --query accessToken --output tsv");
        self.containers.set_credentials(&[(REGISTRY, TOKEN_USER, &token)]);
        let arguments = ["copy", "--quiet", &layout.reference("one"), &format!("docker://{REGISTRY}/app:one")];
        let _ = self.containers.skopeo().args(arguments).run().succeeded();
    }

    /// Whoever is logged in with this CLI gets a token of the registry, and pulls with it, or may not.
    fn pulls(&self, az: &Az) -> bool {
        let token = az.run("az acr login --name postern --expose-token --query accessToken --output tsv");
        self.containers.set_credentials(&[(REGISTRY, TOKEN_USER, &token)]);
        let inspect = ["inspect", "--no-tags", &format!("docker://{REGISTRY}/app:one")];
        let outcome = self.containers.skopeo().args(inspect).run();
        outcome.stdout.contains("sha256:")
    }

    fn log_in(&self, client: &str, subject: &str) -> String {
        let token = self.issuer.token(&json!({"sub": subject, "aud": AUDIENCE}));
        let tenant = &self.bench.server().bootstrap().tenant_id;
        format!(
            "az login --service-principal --username {client} --tenant {tenant} --federated-token {token} --output none"
        )
    }
}

/// A pipeline without a secret: what its platform signs is worth a token of a managed identity, or of a service principal.
#[test]
fn federated_credentials() {
    bench::inside(|| {
        let scene = Scene::new();
        let issuer = scene.issuer.url();
        let made = scene.admin.json(&format!(
            r#"az group create --name team --location eastus --output none
az identity create --resource-group team --name ci --output none
credential="az identity federated-credential"
of="--identity-name ci --resource-group team"
$credential create --name main $of --issuer {issuer} --subject {SUBJECT} --output none
$credential create --name other $of --issuer {issuer} --subject another --audiences {AUDIENCE} --output none
$credential update --name other $of --issuer {issuer} --subject third --audiences {AUDIENCE} --output none
test "$($credential show --name other $of --query subject --output tsv)" = third
$credential delete --name other $of --yes
test "$($credential list $of --query [].name --output tsv)" = main
principal=$(az identity show --resource-group team --name ci --query principalId --output tsv)
az role assignment create --assignee-object-id $principal --assignee-principal-type ServicePrincipal --role AcrPull \
  --scope {} --output none
az identity show --resource-group team --name ci"#,
            scene.registry
        ));
        let client = made["clientId"].as_str().expect("an identity has a client id").to_owned();

        let pipeline = Az::new(scene.bench.place("internet"));
        let refused = pipeline.refused(&scene.log_in(&client, &SUBJECT.replace("main", "other")));
        assert!(refused.contains("AADSTS700213") && refused.contains("heads/other"), "{refused}");
        pipeline.run(&scene.log_in(&client, SUBJECT));
        assert!(scene.pulls(&pipeline), "the identity has the role");

        // The same for an application.
        let application = scene.admin.json(&format!(
            r#"app=$(az ad app create --display-name deploy --query appId --output tsv)
az ad sp create --id $app --output none
az role assignment create --assignee $app --role Reader --scope $(az group show --name team --query id --output tsv) --output none
echo '{{"name": "main", "issuer": "{issuer}", "subject": "{SUBJECT}", "audiences": ["{AUDIENCE}"], "description": "what deploys"}}' > main.json
az ad app federated-credential create --id $app --parameters main.json --output none
echo '{{"subject": "other"}}' > other.json
az ad app federated-credential update --id $app --federated-credential-id main --parameters other.json
echo '{{"subject": "{SUBJECT}"}}' > other.json
az ad app federated-credential update --id $app --federated-credential-id main --parameters other.json
id=$(az ad app federated-credential list --id $app --query [0].id --output tsv)
az ad app federated-credential show --id $app --federated-credential-id $id --query "{{app: '$app', name: name, subject: subject}}""#
        ));
        assert_eq!((&application["name"], &application["subject"]), (&json!("main"), &json!(SUBJECT)));
        let app = application["app"].as_str().expect("an application has an id").to_owned();
        let deploy = Az::new(scene.bench.place("internet"));
        deploy.run(&scene.log_in(&app, SUBJECT));
        assert!(!scene.pulls(&deploy), "it has no role for this registry");
        scene.admin.run(&format!(
            "az role assignment create --assignee {app} --role AcrPull --scope {} --output none",
            scene.registry
        ));
        assert!(scene.pulls(&deploy), "it has one now");

        // Without the credential, what the platform signs is worth nothing.
        scene.admin.run(&format!("az ad app federated-credential delete --id {app} --federated-credential-id main"));
        let later = Az::new(scene.bench.place("internet"));
        let refused = later.refused(&scene.log_in(&app, SUBJECT));
        assert!(refused.contains("AADSTS700211"), "{refused}");
    });
}
