//! The registry's policies on content, set and used by the clients that people have: the Azure CLI, skopeo, podman, oras.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a failed expectation is a failed test")]

use postern_tests::bench::{self, Bench, Setup};
use postern_tests::{Az, Containers, Layout, Outcome};
use serde_json::{Value, json};

const HOST: &str = "myregistry.azurecr.io";
const DATA_HOST: &str = "myregistry.eastus.data.azurecr.io";
/// The user name that goes with a registry's refresh token.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// A registry with an image in `hello:1`, the administrator's CLI in the office, and clients that are logged in as a service principal
/// that may pull.
struct Scene {
    bench: Bench,
    az: Az,
    owner: Containers,
    puller: Containers,
    layout: Layout,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::with(Setup::default());
        let az = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
        az.run(
            "az group create --name myresourcegroup --location eastus --output none
az acr create --resource-group myresourcegroup --name myregistry --sku Premium --output none",
        );
        let (mut owner, mut puller) = (Containers::new(), Containers::new());
        let login = az.json("az acr login --name myregistry --expose-token --output json");
        owner.set_credentials(&[(HOST, TOKEN_USER, &text(&login["accessToken"]))]);
        let made = az.json(
            "az ad sp create-for-rbac --name puller --role AcrPull --scopes $(az acr show --name myregistry --query id --output tsv)",
        );
        puller.set_credentials(&[(HOST, &text(&made["appId"]), &text(&made["password"]))]);
        owner.enter(bench.place("office"));
        puller.enter(bench.place("internet"));
        let mut layout = Layout::create(owner.scratch().join("layout"));
        layout.add_printing_image("hello", "hello");
        let scene = Self { bench, az, owner, puller, layout };
        scene.push("hello:1");
        scene
    }

    fn push(&self, image: &str) {
        let _ = self.copy(image).succeeded();
    }

    fn copy(&self, image: &str) -> Outcome {
        let to = format!("docker://{HOST}/{image}");
        self.owner.skopeo().args(["copy", &self.layout.reference("hello"), &to]).run()
    }

    /// All of an image, copied by the service principal.
    fn pull(&self, image: &str) -> Outcome {
        let folder = self.puller.scratch().join("pulled").display().to_string();
        self.puller.skopeo().args(["copy", &format!("docker://{HOST}/{image}"), &format!("dir:{folder}")]).run()
    }

    /// The status and the answer of a request that curl sends as the administrator.
    fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let login = self.bench.server().bootstrap();
        let user = format!("{}:{}", login.client_id, login.client_secret);
        let command = self.bench.place("internet").command("curl").args(["--silent", "--user", &user]);
        let output = command.args(["--write-out", "\n%{http_code}"]).args(arguments).stdout();
        let (body, status) = output.rsplit_once('\n').unwrap_or_else(|| panic!("curl says {output}"));
        (status.parse().unwrap_or_default(), body.to_owned())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[test]
fn deleted_images_are_listed_and_restored_by_the_cli() {
    bench::inside(|| {
        let scene = Scene::new();
        scene.push("hello:2");
        let shown = scene.az.json(
            "az acr config soft-delete update --registry myregistry --days 14 --status enabled --yes --output none
az acr config soft-delete show --registry myregistry",
        );
        assert_eq!((&shown["retentionDays"], &shown["status"]), (&json!(14), &json!("enabled")));
        let refused = scene.az.refused(
            "az acr config retention update --registry myregistry --status enabled --days 7 --type UntaggedManifests",
        );
        assert!(refused.contains("cannot be enabled together"), "{refused}");

        scene.az.run("az acr repository delete --name myregistry --image hello:1 --yes");
        let gone = scene.pull("hello:1").failed();
        assert!(gone.stderr.contains("unknown"), "{gone}");
        assert_eq!(scene.az.json("az acr repository list-deleted --name myregistry"), json!(["hello"]));
        let manifests = scene.az.json("az acr manifest list-deleted --registry myregistry --name hello");
        assert_eq!(manifests[0]["tags"], json!(["1", "2"]), "{manifests}");
        assert!(manifests[0]["deletedAt"].is_string() && manifests[0]["expiresAfter"].is_string(), "{manifests}");
        let tags = scene.az.json("az acr manifest list-deleted-tags --registry myregistry --name hello:1");
        assert_eq!((&tags[0]["tag"], &tags[0]["digest"]), (&json!("1"), &manifests[0]["digest"]), "{tags}");
        let again = scene.copy("hello:3").failed();
        assert!(again.stderr.contains("restore it"), "{again}");

        scene.az.run("az acr manifest restore --registry myregistry --name hello:1 --yes --output none");
        let _ = scene.pull("hello:1").succeeded();
        let gone = scene.pull("hello:2").failed();
        assert!(gone.stderr.contains("unknown"), "{gone}");
        scene.az.run("az acr manifest restore --registry myregistry --name hello:2 --yes --output none");
        let _ = scene.pull("hello:2").succeeded();
        assert_eq!(scene.az.json("az acr repository list-deleted --name myregistry"), json!([]));
        // With the digest, and by force.
        let digest = text(&manifests[0]["digest"]);
        scene.az.run("az acr repository delete --name myregistry --repository hello --yes");
        scene.az.run(&format!(
            "az acr manifest restore --registry myregistry --name hello:new --digest {digest} --force --yes --output none"
        ));
        let _ = scene.pull("hello:new").succeeded();
    });
}

#[test]
fn untagged_manifests_go_when_their_time_has_come() {
    bench::inside(|| {
        let scene = Scene::new();
        // Docker's own kind of manifest: others are not the policy's.
        let (from, to) = (scene.layout.reference("hello"), format!("docker://{HOST}/hello:docker"));
        let _ = scene.owner.skopeo().args(["copy", "--format", "v2s2", &from, &to]).run().succeeded();
        scene.az.run(
            "az acr config retention update --registry myregistry --status enabled --days 0 --type UntaggedManifests --output none
az acr repository untag --name myregistry --image hello:docker
az acr repository untag --name myregistry --image hello:1
# Within seconds.
for attempt in $(seq 60); do
  left=$(az acr manifest list-metadata --registry myregistry --name hello --query 'length(@)' --output tsv)
  test \"$left\" = 1 && exit 0
done
exit 1",
        );
        let left = scene.az.json("az acr manifest list-metadata --registry myregistry --name hello");
        assert_eq!(left[0]["mediaType"], "application/vnd.oci.image.manifest.v1+json", "{left}");
    });
}

#[test]
fn what_is_quarantined_is_pulled_once_it_was_passed() {
    bench::inside(|| {
        let scene = Scene::new();
        let _ = scene.pull("hello:1").succeeded();
        scene.az.run(
            "az resource update --ids $(az acr show --name myregistry --query id --output tsv) \
               --set properties.policies.quarantinePolicy.status=enabled --output none",
        );
        let refused = scene.pull("hello:1").failed();
        assert!(refused.stderr.contains("manifest unknown"), "{refused}");
        let metadata = scene.az.json("az acr manifest show-metadata --registry myregistry --name hello:1");
        let digest = text(&metadata["digest"]);
        let refused = scene.pull(&format!("hello@{digest}")).failed();
        assert!(refused.stderr.contains("disallowed"), "{refused}");
        let target = format!("https://{HOST}/acr/v1/hello/_manifests/{digest}");
        let passed = r#"{"quarantineState":"Passed","quarantineDetails":"{\"scanner\":\"ours\"}"}"#;
        let (status, body) = scene.curl(&["--request", "PATCH", "--data", passed, &target]);
        assert_eq!(status, 200, "{body}");
        let _ = scene.pull("hello:1").succeeded();
    });
}

#[test]
fn blobs_come_from_the_data_endpoint() {
    bench::inside(|| {
        let scene = Scene::new();
        scene.az.run("az acr update --name myregistry --data-endpoint-enabled true --output none");
        let endpoints = scene.az.json("az acr show-endpoints --name myregistry");
        assert_eq!(endpoints["dataEndpoints"][0]["endpoint"], DATA_HOST, "{endpoints}");
        let login = scene.bench.server().bootstrap();
        let manifest = scene.owner.skopeo().args(["inspect", "--raw", &format!("docker://{HOST}/hello:1")]).stdout();
        let manifest: Value = serde_json::from_str(&manifest).expect("a manifest");
        let blob = format!("https://{HOST}/v2/hello/blobs/{}", text(&manifest["layers"][0]["digest"]));
        let answer = scene.bench.place("internet").command("curl").args(["--silent", "--head", "--request", "GET"]);
        let user = format!("{}:{}", login.client_id, login.client_secret);
        let answer = answer.args(["--user", &user, &blob]).stdout();
        let link =
            answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_else(|| panic!("{answer}"));
        assert!(
            answer.starts_with("HTTP/2 307") && link.starts_with(&format!("https://{DATA_HOST}/v2/hello/")),
            "{answer}"
        );
        assert!(!answer.contains("eyJ0eXAi"), "there is no token in the link: {answer}");

        // Each client follows, sends no token there, and has the same bytes.
        let _ = scene.pull("hello:1").succeeded();
        let image = format!("{HOST}/hello:1");
        let id = scene.puller.podman().args(["pull", "--quiet", &image]).stdout();
        assert_eq!(scene.puller.podman().args(["run", "--rm", "--network", "none", id.trim()]).stdout(), "hello\n");
        let folder = scene.puller.scratch().join("oras");
        std::fs::create_dir_all(folder.as_path()).expect("a folder");
        let copy = ["copy", "--to-oci-layout", &image, "out:1"];
        let _ = scene.puller.oras().args(copy).current_dir(folder.as_path()).run().succeeded();

        // The wall stands around the data endpoint, too: the link alone opens nothing from elsewhere.
        let fetch = |place: &str, link: &str| {
            let command = scene.bench.place(place).command("curl").args(["--silent", "--output", "/dev/null"]);
            command.args(["--write-out", "%{http_code}", link.trim()]).stdout()
        };
        assert_eq!(fetch("internet", link), "200");
        scene.az.run("az acr update --name myregistry --public-network-enabled false --output none");
        assert_eq!(fetch("internet", link), "403");
        assert_eq!(fetch("office", link), "403");
        scene
            .az
            .run("az acr update --name myregistry --public-network-enabled true --default-action Allow --output none");
        assert_eq!(fetch("office", link), "200");
        // Without the endpoint blobs come from the login server again.
        scene.az.run("az acr update --name myregistry --data-endpoint-enabled false --output none");
        assert_eq!(fetch("office", link), "404");
        let _ = scene.pull("hello:1").succeeded();
    });
}
