//! The Azure libraries of both planes: programs of `tests/sdk` that use them.

use std::path::{Path, PathBuf};

use crate::{Bootstrap, Command, tools};

/// The libraries of a language, today's unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// `azure-containerregistry` for Python, and `azure-mgmt-*`.
    Python,
    /// `azure-mgmt-containerregistry` for Python as it was in 2021: the control plane only.
    PythonOf2021,
    /// `@azure/container-registry` for Node.js, and `@azure/arm-containerregistry`.
    JavaScript,
}

impl Sdk {
    /// The program of the data plane; verb and endpoint are its next arguments. Who it is and whom it trusts is still to be said.
    pub fn command_line(self) -> [PathBuf; 2] {
        match self {
            Self::Python => [tools::python(), script("registry.py")],
            Self::PythonOf2021 => panic!("it has no data plane"),
            Self::JavaScript => [tools::node(), script("registry.mjs")],
        }
    }

    /// The program of the control plane, likewise; the verb is its next argument.
    pub fn management_command_line(self) -> [PathBuf; 2] {
        match self {
            Self::Python => [tools::python(), script("management.py")],
            Self::PythonOf2021 => [tools::older_python(), script("older.py")],
            Self::JavaScript => [tools::node(), script("management.mjs")],
        }
    }

    /// Where the packages lie that Node.js does not find by itself: a variable and its value.
    pub fn packages() -> (&'static str, PathBuf) {
        ("NODE_PACKAGES", tools::node_packages())
    }

    /// The program of the data plane as the administrator, with the server's own authority.
    pub fn as_administrator(self, server: &Bootstrap) -> Command {
        administrator(trusting(self.command_line(), &server.ca_file), server)
    }

    /// The program of the control plane as the administrator.
    pub fn manages(self, server: &Bootstrap) -> Command {
        let command = administrator(trusting(self.management_command_line(), &server.ca_file), server);
        Self::of_server(server).into_iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// What the program of the control plane is told of the server besides: variables and their values.
    pub fn of_server(server: &Bootstrap) -> [(&'static str, &str); 3] {
        [
            ("ARM_ENDPOINT", &server.arm_endpoint),
            ("SUBSCRIPTION_ID", &server.subscription_id),
            ("REGISTRY_PROXY", &server.proxy),
        ]
    }

    /// The program of the data plane as nobody.
    pub fn anonymous(self, server: &Bootstrap) -> Command {
        trusting(self.command_line(), &server.ca_file).env("ANONYMOUS", "1")
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(name)
}

fn administrator(command: Command, server: &Bootstrap) -> Command {
    command
        .env("AZURE_TENANT_ID", &server.tenant_id)
        .env("AZURE_CLIENT_ID", &server.client_id)
        .env("AZURE_CLIENT_SECRET", &server.client_secret)
        .env("AZURE_AUTHORITY_HOST", &server.authority)
}

fn trusting([program, script]: [PathBuf; 2], authority: &Path) -> Command {
    let (variable, packages) = Sdk::packages();
    let command = Command::new(program).arg(script).env(variable, packages);
    command.env("REQUESTS_CA_BUNDLE", authority).env("NODE_EXTRA_CA_CERTS", authority)
}
