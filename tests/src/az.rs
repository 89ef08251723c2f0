//! The Azure CLI, unmodified, with settings of its own.

use std::time::Duration;

use serde_json::Value;

use crate::bench::Place;
use crate::command::search_path;
use crate::{Bootstrap, Command, Scratch, tools};

/// Each command of a script takes a second or two, and some scripts have many.
const LIMIT: Duration = Duration::from_mins(2);

/// What the CLI is told besides: nothing of it names a server.
const SETTINGS: [(&str, &str); 9] = [
    // Else it asks a public authority whether this one is genuine.
    ("AZURE_CORE_INSTANCE_DISCOVERY", "false"),
    ("AZURE_CORE_COLLECT_TELEMETRY", "false"),
    ("AZURE_CORE_SURVEY_MESSAGE", "false"),
    ("AZURE_CORE_LOGIN_EXPERIENCE_V2", "off"),
    ("AZURE_CORE_NO_COLOR", "true"),
    ("AZURE_EXTENSION_USE_DYNAMIC_INSTALL", "no"),
    ("AZURE_CLIENTS_SHOW_SECRETS_WARNING", "no"),
    ("AZURE_CORE_ONLY_SHOW_ERRORS", "true"),
    // Requests and answers, in `logs` of its folder.
    ("AZURE_LOGGING_ENABLE_LOG_FILE", "true"),
];

/// The Azure CLI on a machine of the bench, and what it remembers.
#[derive(Debug)]
pub struct Az {
    folder: Scratch,
    place: Place,
}

impl Az {
    /// It knows the server's cloud, and nobody is logged in.
    pub fn new(place: &Place) -> Self {
        let az = Self { folder: Scratch::new(), place: place.clone() };
        az.run(
            "az cloud register -n Postern --endpoint-resource-manager https://azurecr.io && az cloud set -n Postern",
        );
        az
    }

    /// Logs in as a service principal.
    #[must_use]
    pub fn logged_in(self, tenant: &str, client: &str, secret: &str) -> Self {
        self.run(&format!(
            "az login --service-principal --username {client} --password={secret} --tenant {tenant} --output none"
        ));
        self
    }

    /// Logs in as the administrator.
    #[must_use]
    pub fn as_administrator(self, server: &Bootstrap) -> Self {
        self.logged_in(&server.tenant_id, &server.client_id, &server.client_secret)
    }

    /// A script of bash, as it stands in documents; it ends at the first command that fails.
    pub fn script(&self, text: &str) -> Command {
        let mut path = tools::azure_cli().into_os_string();
        path.push(":");
        path.push(search_path());
        let command = self.place.command("bash").args(["-euo", "pipefail", "-c", text]).env("PATH", path);
        let command = SETTINGS.iter().fold(command, |command, (name, value)| command.env(name, value));
        let folder = self.folder.path();
        command.env("HOME", folder).env("AZURE_CONFIG_DIR", folder.join("azure")).current_dir(folder).limit(LIMIT)
    }

    /// Runs a script, which must succeed; gives what it prints, without space around it.
    pub fn run(&self, text: &str) -> String {
        self.script(text).stdout().trim().to_owned()
    }

    /// Runs a script, which must print JSON.
    pub fn json(&self, text: &str) -> Value {
        self.script(text).run().succeeded().json()
    }

    /// Runs a script, which must fail; gives what it says.
    pub fn refused(&self, text: &str) -> String {
        self.script(text).run().failed().stderr
    }
}
