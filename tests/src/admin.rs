//! The administrator's calls, made with curl.

use serde_json::Value;

use crate::{Command, Server};

/// Knows every property that the tests set.
const API_VERSION: &str = "2026-01-01-preview";

/// The administrator of a server, logged in.
#[derive(Debug)]
pub struct Admin<'a> {
    server: &'a Server,
    token: String,
}

impl<'a> Admin<'a> {
    /// Logs in with the bootstrap file's secret.
    pub fn of(server: &'a Server) -> Self {
        let bootstrap = server.bootstrap();
        let url = format!("{}/{}/oauth2/v2.0/token", bootstrap.authority, bootstrap.tenant_id);
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope=https://management.azure.com/.default",
            bootstrap.client_id, bootstrap.client_secret
        );
        let answer = server.curl().args(["--data", &form, &url]).run().succeeded().json();
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned();
        Self { server, token }
    }

    /// Sends a request to the resource manager; it must succeed.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.try_send(method, path, body);
        assert!((200..300).contains(&status), "{method} {path} answered {status}: {answer}");
        answer
    }

    /// Sends a request to the resource manager; gives status and answer.
    pub fn try_send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.try_send_with(&[], method, path, body)
    }

    /// The same with headers.
    pub fn try_send_with(&self, headers: &[&str], method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{separator}api-version={API_VERSION}", self.server.bootstrap().arm_endpoint);
        let mut command = self
            .server
            .curl()
            .args(["--request", method, "--write-out", "\n%{http_code}", "--header"])
            .args([&format!("Authorization: Bearer {}", self.token), &url])
            .args(headers.iter().flat_map(|header| ["--header", header]));
        if let Some(body) = body {
            command = command.args(["--header", "Content-Type: application/json", "--data", &body.to_string()]);
        }
        let output = command.stdout();
        let (text, status) = output.rsplit_once('\n').unwrap_or(("", &output));
        (status.parse().unwrap_or(0), serde_json::from_str(text).unwrap_or(Value::Null))
    }

    /// The id of a resource in a group.
    pub fn id(&self, group: &str, resource: &str) -> String {
        let subscription = &self.server.bootstrap().subscription_id;
        format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/{resource}")
    }

    /// The id of the registry that the first start made.
    pub fn first_registry(&self) -> String {
        self.id("postern", "Microsoft.ContainerRegistry/registries/postern")
    }

    /// Changes properties of a registry.
    pub fn update(&self, registry: &str, properties: &Value) {
        self.send("PATCH", registry, Some(&serde_json::json!({ "properties": properties })));
    }

    /// Makes a container group with a system-assigned identity that may pull from and push to the registry; gives its id.
    pub fn container_group(&self, name: &str, registry: &str) -> String {
        let id = self.id("postern", &format!("Microsoft.ContainerInstance/containerGroups/{name}"));
        let body = serde_json::json!({
            "location": "eastus",
            "identity": {"type": "SystemAssigned"},
            "properties": {"osType": "Linux", "containers": []},
        });
        let group = self.send("PUT", &id, Some(&body));
        let principal = group["identity"]["principalId"].as_str().unwrap_or_else(|| panic!("no identity in {group}"));
        self.assign("8311e382-0749-4cb8-b61a-304f252e45ec", principal, registry);
        id
    }

    /// Assigns a built-in role.
    pub fn assign(&self, role: &str, principal: &str, scope: &str) {
        let subscription = &self.server.bootstrap().subscription_id;
        let name = uuid_from(&format!("{role}{principal}{scope}"));
        let body = serde_json::json!({"properties": {
            "roleDefinitionId": format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"),
            "principalId": principal,
            "principalType": "ServicePrincipal",
        }});
        self.send("PUT", &format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"), Some(&body));
    }
}

/// A GUID that depends on the text only.
fn uuid_from(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(byte, hashed)| *byte = hashed);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// `postern`, the built binary, as a command line tool talking to the server.
pub fn postern(server: &Server, subcommand: &[&str], rest: &[&str]) -> Command {
    Command::new(crate::server::binary())
        .args(subcommand)
        .args(["--server"])
        .arg(server.data())
        .args(rest)
        .limit(std::time::Duration::from_mins(2))
}

/// `postern demo`.
pub fn demo(arguments: &[&str]) -> Command {
    run_postern(&["demo"]).args(arguments).limit(std::time::Duration::from_mins(2))
}

/// `postern` with these arguments.
pub fn run_postern(arguments: &[&str]) -> Command {
    Command::new(crate::server::binary()).args(arguments)
}
