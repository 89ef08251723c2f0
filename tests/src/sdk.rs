//! The Azure libraries of the data plane: programs of `tests/sdk` that use them.

use std::path::{Path, PathBuf};

use crate::{Bootstrap, Command, tools};

/// One of the libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// `azure-containerregistry` for Python.
    Python,
    /// `@azure/container-registry` for Node.js.
    JavaScript,
}

impl Sdk {
    /// The program's command line; verb and endpoint are its next arguments. Who it is and whom it trusts is still to be said.
    pub fn command_line(self) -> [PathBuf; 2] {
        let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(name);
        match self {
            Self::Python => [tools::python(), script("registry.py")],
            Self::JavaScript => [tools::node(), script("registry.mjs")],
        }
    }

    /// Where the packages lie that Node.js does not find by itself: a variable and its value.
    pub fn packages() -> (&'static str, PathBuf) {
        ("NODE_PACKAGES", tools::node_packages())
    }

    /// The program as the administrator, with the server's own authority.
    pub fn as_administrator(self, server: &Bootstrap) -> Command {
        self.trusting(&server.ca_file)
            .env("AZURE_TENANT_ID", &server.tenant_id)
            .env("AZURE_CLIENT_ID", &server.client_id)
            .env("AZURE_CLIENT_SECRET", &server.client_secret)
            .env("AZURE_AUTHORITY_HOST", &server.authority)
    }

    /// The program as nobody.
    pub fn anonymous(self, server: &Bootstrap) -> Command {
        self.trusting(&server.ca_file).env("ANONYMOUS", "1")
    }

    fn trusting(self, authority: &Path) -> Command {
        let [program, script] = self.command_line();
        let (variable, packages) = Self::packages();
        let command = Command::new(program).arg(script).env(variable, packages);
        command.env("REQUESTS_CA_BUNDLE", authority).env("NODE_EXTRA_CA_CERTS", authority)
    }
}
