//! Real clients push, pull, copy, attach, list, sign and delete: by registry name and by `localhost:PORT`, with every kind of
//! credentials, and as workloads.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test"
)]

mod basics;
mod credentials;
mod docker;
mod management;
mod places;
mod purge;
mod sdk;
mod throttling;
mod tools;
mod workloads;

use postern_tests::{Admin, Containers, Layout, Server};
use serde_json::json;

const MESSAGE: &str = "through the side door";

/// A server, clients that trust it, and an image.
struct Bench {
    server: Server,
    containers: Containers,
    layout: Layout,
}

impl Bench {
    fn new() -> Self {
        Self::on(Server::start())
    }

    fn on(server: Server) -> Self {
        let mut containers = Containers::new();
        containers.trust(&server.bootstrap().ca_file);
        let mut layout = Layout::create(containers.scratch().join("layout"));
        layout.add_printing_image("hello", MESSAGE);
        Self { server, containers, layout }
    }

    fn localhost(&self) -> String {
        format!("localhost:{}", self.server.address().port())
    }

    fn named(&self) -> String {
        self.server.registry_host("postern")
    }

    /// Logs the clients in as the administrator.
    fn log_in(&self) {
        let bootstrap = self.server.bootstrap();
        let (user, password) = (bootstrap.client_id.as_str(), bootstrap.client_secret.as_str());
        self.containers.set_credentials(&[(&self.localhost(), user, password), (&self.named(), user, password)]);
    }

    /// Pushes the image with skopeo.
    fn push(&self, image: &str) {
        let target = format!("docker://{image}");
        let _ = self.containers.skopeo().args(["copy", &self.layout.reference("hello"), &target]).run().succeeded();
    }

    fn digest(&self, image: &str) -> String {
        let digest = ["inspect", "--format", "{{.Digest}}", &format!("docker://{image}")];
        self.containers.skopeo().args(digest).stdout().trim().to_owned()
    }

    fn admin(&self) -> Admin<'_> {
        Admin::of(&self.server)
    }

    /// Nobody may come in by the public network any more.
    fn close_the_wall(&self) {
        let admin = self.admin();
        admin.update(&admin.first_registry(), &json!({"publicNetworkAccess": "Disabled"}));
    }

    /// The manifest's descriptor, as oras sees it.
    fn descriptor(&self, image: &str) -> serde_json::Value {
        let fetch = ["manifest", "fetch", "--descriptor", "--plain-http=false", image];
        self.containers.oras().args(fetch).run().succeeded().json()
    }

    /// The tags of a repository, in order.
    fn tags(&self, repository: &str) -> Vec<String> {
        let listed = self.containers.oras().args(["repo", "tags", "--plain-http=false", repository]).stdout();
        listed.lines().map(str::to_owned).collect()
    }
}
