//! Outside issuers of tokens: what they sign is worth something here where somebody said so.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

use postern_tests::bench::{self, Bench, Setup};
use postern_tests::{Az, Command, Containers, Issuer, Layout, Outcome};
use serde_json::{Value, json};

const REGISTRY: &str = "postern.azurecr.io";
/// The user name that goes with a registry's refresh token.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
const ISSUER: &str = "issuer.test";
const ISSUER_PORT: u16 = 8443;
const SUBJECT: &str = "repo:octo/app:ref:refs/heads/main";
/// The object id of a group of the directory.
const DEVELOPERS: &str = "de7e0000-0000-4000-8000-000000000001";
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
        let secret = std::env::temp_dir().join("client.secret");
        fs::write(&secret, "a secret\n").expect("the bench has a folder");
        let issuers = format!(
            "[[issuer]]\nname = 'corporate'\nurl = 'https://{ISSUER}:{ISSUER_PORT}'\nclient_id = 'postern'\n\
             client_secret_file = '{}'\ngroups_claim = 'groups'\ngroups = {{ developers = '{DEVELOPERS}' }}\n",
            secret.display()
        );
        let mut bench = Bench::with(Setup { outbound, issuers, ..Setup::default() });
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

    /// A person signs a device in by the pages, as a browser does: the CLI of that device.
    fn person(&self, claims: &Value) -> Az {
        let (device, outcome) = self.sign_in(claims);
        let _ = outcome.succeeded();
        device
    }

    /// The same of a person whom nothing is given: what the CLI says of that.
    fn person_without_subscriptions(&self, claims: &Value) -> String {
        let (_, outcome) = self.sign_in(claims);
        let outcome = outcome.failed();
        format!("{}{}", outcome.stdout, outcome.stderr)
    }

    fn sign_in(&self, claims: &Value) -> (Az, Outcome) {
        let device = Az::new(self.bench.place("office"));
        let hint = std::env::temp_dir().join("hint");
        let _ = fs::remove_file(&hint);
        let _ = Command::new("mkfifo").arg(&hint).run().succeeded();
        let tenant = &self.bench.server().bootstrap().tenant_id;
        let script = format!(
            "AZURE_CORE_ONLY_SHOW_ERRORS=false az login --use-device-code --tenant {tenant} --output none 2> >(tee {} >&2)",
            hint.display()
        );
        let script = device.script(&script);
        let outcome = thread::scope(|scope| {
            let running = scope.spawn(|| script.run());
            // It opens once the CLI has something to say.
            let said = fs::File::open(&hint).expect("the CLI writes to it");
            let mut said = BufReader::new(said);
            let mut line = String::new();
            while !line.contains("enter the code ") {
                line.clear();
                let read = said.read_line(&mut line).expect("it is text");
                assert!(read > 0, "the CLI shows no code");
            }
            let (_, code) = line.split_once("enter the code ").expect("it is there");
            self.approve(&code[..9], claims);
            // What else it says must find a reader.
            let _ = std::io::copy(&mut said, &mut std::io::sink());
            running.join().expect("the thread only runs a command")
        });
        (device, outcome)
    }

    fn approve(&self, code: &str, claims: &Value) {
        let jar = std::env::temp_dir().join("cookies").display().to_string();
        let page = "https://azurecr.io/common/oauth2/deviceauth";
        let browse = |arguments: &[&str]| {
            let curl =
                self.bench.place("internet").curl().args(["--fail-with-body", "--cookie", &jar, "--cookie-jar", &jar]);
            curl.args(arguments).run().succeeded().stdout
        };
        let between = |text: &str, start: &str| {
            let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start} in {text}"));
            rest.split('"').next().unwrap_or_default().replace("&amp;", "&")
        };
        let form = browse(&[page]);
        assert!(form.contains("Sign in with corporate"), "{form}");
        let begun = browse(&["--data-urlencode", &format!("code={code}"), "--data", "issuer=corporate", page]);
        let back = self.issuer.authorize(&between(&begun, "<a href=\""), claims);
        let question = browse(&[&back]);
        assert!(question.contains(code), "{question}");
        let ticket = format!("ticket={}", between(&question, "name=\"ticket\" value=\""));
        let done = browse(&["--data-urlencode", &ticket, "--data", "answer=approve", page]);
        assert!(done.contains("The device is signed in."), "{done}");
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

/// People of an outside issuer: what they may comes from the groups that it says they are in.
#[test]
fn people_of_an_issuer() {
    bench::inside(|| {
        let scene = Scene::new();
        let group = format!("/providers/Microsoft.Graph/groups/{DEVELOPERS}");
        scene.bench.admin().send("PUT", &group, Some(&json!({"properties": {"displayName": "developers"}})));
        scene.admin.run(&format!(
            "az role assignment create --assignee-object-id {DEVELOPERS} --assignee-principal-type Group --role AcrPull \
             --scope {0} --output none
az role assignment create --assignee-object-id {DEVELOPERS} --assignee-principal-type Group --role Reader \
             --scope {0} --output none",
            scene.registry
        ));
        let anna =
            json!({"sub": "1", "preferred_username": "anna@example.org", "name": "Anna", "groups": ["developers"]});
        let device = scene.person(&anna);
        let name = "corporate:anna@example.org";
        assert_eq!(device.run("az ad signed-in-user show --query userPrincipalName --output tsv"), name);
        assert_eq!(device.run("az acr list --query [].name --output tsv"), "postern");
        assert!(scene.pulls(&device), "a role of the group");
        let members = format!("az ad group member list --group {DEVELOPERS} --query [].userPrincipalName --output tsv");
        assert_eq!(scene.admin.run(&members), name);

        // Somebody else, in no group that counts here, sees nothing.
        let ben = json!({"sub": "2", "preferred_username": "ben@example.org", "name": "Ben", "groups": ["sales"]});
        let refused = scene.person_without_subscriptions(&ben);
        assert!(refused.contains("No subscriptions found"), "{refused}");
        assert_eq!(scene.admin.run(&members), name);

        // She left the group: her next sign-in says so, also for the device before.
        let anna = json!({"sub": "1", "preferred_username": "anna@example.org", "name": "Anna", "groups": []});
        scene.person_without_subscriptions(&anna);
        assert_eq!(scene.admin.run(&members), "");
        let refused = device.refused("az acr login --name postern --expose-token");
        assert!(refused.contains("AuthorizationFailed"), "{refused}");
    });
}
