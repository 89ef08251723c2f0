//! The network bench: the wall in real networks, with real clients.

use postern_tests::bench::{self, Bench, Scenario, Setup};
use postern_tests::{Containers, Layout, golden, golden_parts};
use serde_json::json;

#[test]
fn names_and_addresses_are_those_of_the_place() {
    bench::inside(|| {
        let bench = Bench::new();
        let status = |place: &str| {
            let url = format!("https://{}/v2/", Bench::host("postern"));
            let curl = bench.place(place).curl().args(["--output", "/dev/null", "--write-out", "%{http_code}", &url]);
            curl.stdout()
        };
        let admin = bench.admin();
        let registry = admin.first_registry();
        for place in bench.places() {
            assert_eq!(status(place.name()), "401", "{}", place.name());
        }
        connect(&bench, &registry, "vnet-a");
        admin.update(&registry, &json!({"publicNetworkAccess": "Disabled"}));
        for place in bench.places() {
            let expected = if place.name() == "vnet-a" { "401" } else { "403" };
            assert_eq!(status(place.name()), expected, "{}", place.name());
        }
        assert_eq!(bench.place("vnet-a").resolve("postern.azurecr.io"), [bench.endpoint_address("vnet-a").ip()]);
        assert_eq!(
            bench.place("vnet-a").resolve("postern.privatelink.azurecr.io"),
            [bench.endpoint_address("vnet-a").ip()]
        );
        assert!(bench.place("vnet-b").resolve("postern.azurecr.io").contains(&Bench::public_address().ip()));
    });
}

#[test]
fn skopeo_pulls_where_the_wall_lets_it() {
    bench::inside(|| {
        let bench = Bench::new();
        let mut containers = Containers::new();
        containers.enter(bench.place("office"));
        let bootstrap = bench.server().bootstrap();
        let host = Bench::host("postern");
        containers.set_credentials(&[(&host, &bootstrap.client_id, &bootstrap.client_secret)]);
        let mut layout = Layout::create(containers.scratch().join("layout"));
        layout.add_printing_image("hello", "hello");
        let image = format!("docker://{host}/hello:1");
        let _ = containers.skopeo().args(["copy", &layout.reference("hello"), &image]).run().succeeded();
        let admin = bench.admin();
        let only_office = json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}});
        admin.update(&admin.first_registry(), &only_office);
        let inspect = ["inspect", &image];
        let _ = containers.skopeo().args(inspect).run().succeeded();
        containers.enter(bench.place("internet"));
        let refused = containers.skopeo().args(inspect).run().failed();
        assert!(refused.stderr.contains("403 (Forbidden)"), "{refused}");
        containers.enter(bench.place("office"));
        let id = containers.podman().args(["pull", "--quiet", image.trim_start_matches("docker://")]).stdout();
        assert_eq!(containers.podman().args(["run", "--rm", id.trim()]).stdout(), "hello\n");
    });
}

/// Closed registry, named as in the documents on the port of HTTPS: what is denied, by which words, and the two ways in.
#[test]
fn a_closed_registry_by_its_documented_name() {
    bench::inside(|| {
        let bench = Bench::new();
        let admin = bench.admin();
        let registry = admin.first_registry();
        let group = admin.container_group("mycontainer", &registry);
        let host = Bench::host("postern");
        let shown = admin.send("GET", &registry, None);
        assert_eq!(shown["properties"]["loginServer"], host, "the port of HTTPS goes without saying");
        let (user, password) =
            (bench.server().bootstrap().client_id.clone(), bench.server().bootstrap().client_secret.clone());

        let mut containers = Containers::new();
        let mut layout = Layout::create(containers.scratch().join("layout"));
        layout.add_printing_image("hello", "hello");
        let image = format!("docker://{host}/hello:1");
        containers.set_credentials(&[(&host, &user, &password)]);
        containers.enter(bench.place("internet"));
        let _ = containers.skopeo().args(["copy", &layout.reference("hello"), &image]).run().succeeded();

        connect(&bench, &registry, "vnet-a");
        admin.update(&registry, &json!({"publicNetworkAccess": "Disabled"}));

        let inspect = ["inspect", "--no-tags", &image];
        let refused = containers.skopeo().args(inspect).run().failed();
        assert!(refused.stderr.contains("403 (Forbidden)"), "{refused}");
        let url = format!("https://{host}/v2/");
        let body = bench.place("internet").curl().arg(&url).run().succeeded().json();
        assert_eq!(body["errors"][0]["code"], "DENIED", "{body}");
        let message = body["errors"][0]["message"].as_str().unwrap_or_default();
        let documented =
            "client with IP '203.0.113.9' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.";
        assert!(message.starts_with(documented), "{message}");

        // The same name and the same client, from the network of the private endpoint.
        containers.enter(bench.place("vnet-a"));
        assert_eq!(containers.skopeo().args(inspect).run().succeeded().json()["Architecture"], "amd64");
        let id = containers.podman().args(["pull", "--quiet", &format!("{host}/hello:1")]).stdout();
        assert_eq!(containers.podman().args(["run", "--rm", id.trim()]).stdout(), "hello\n");
        // A virtual network of the same prefix is another one: its name leads outside, and the outside is closed.
        containers.enter(bench.place("vnet-b"));
        let refused = containers.skopeo().args(inspect).run().failed();
        assert!(refused.stderr.contains("403 (Forbidden)"), "{refused}");
        let foreign =
            format!("{}:{}:{}", host, bench.endpoint_address("vnet-a").port(), bench.endpoint_address("vnet-a").ip());
        let through = bench.place("peered").curl().args(["--resolve", &foreign, &url]).run().succeeded().json();
        assert_eq!(through["errors"][0]["code"], "DENIED", "the endpoint's address alone opens nothing: {through}");

        // A trusted workload, from the internet.
        let workload = bench.place("workload");
        let skopeo = postern_tests::tool("skopeo").display().to_string();
        let run = ["--as", &group, "--", &skopeo, "inspect", "--no-tags", &image];
        let pulled = bench.postern(workload, &["workload", "run"], &run).env("HOME", containers.scratch().path());
        assert_eq!(pulled.run().succeeded().json()["Architecture"], "amd64");
        containers.enter(workload);
        let refused = containers.skopeo().args(inspect).run().failed();
        assert!(refused.stderr.contains("403 (Forbidden)"), "without its certificate it is anybody: {refused}");
    });
}

/// Without tasks: pushed from a trusted place, and purged from there by `acr`, while everybody else is shut out.
#[test]
fn a_trusted_place_purges_what_it_pushed() {
    bench::inside(|| {
        let bench = Bench::new();
        let (admin, host) = (bench.admin(), Bench::host("postern"));
        let only_office = json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}});
        admin.update(&admin.first_registry(), &only_office);
        let mut containers = Containers::new();
        containers.enter(bench.place("office"));
        let bootstrap = bench.server().bootstrap();
        containers.set_credentials(&[(&host, &bootstrap.client_id, &bootstrap.client_secret)]);
        let mut layout = Layout::create(containers.scratch().join("layout"));
        layout.add_printing_image("hello", "hello");
        for tag in ["v1", "v2"] {
            let image = format!("docker://{host}/hello-world:{tag}");
            let _ = containers.skopeo().args(["copy", &layout.reference("hello"), &image]).run().succeeded();
        }
        // By the registry's documented name, found by DNS, with docker's login.
        let acr = |place: &str| {
            let command = bench.place(place).command(postern_tests::binary());
            let command =
                command.args(["acr", "purge", "-r", "postern", "--filter", "hello-world:^v1$", "--ago", "0d", "--ca"]);
            command.arg(&bootstrap.ca_file).env("DOCKER_CONFIG", containers.scratch().join("docker"))
        };
        let refused = acr("internet").run().failed();
        assert!(refused.stderr.contains("client with IP '203.0.113.9' is not allowed access"), "{refused}");
        let purged = acr("office").run().succeeded();
        assert!(
            purged.stdout.contains(&format!("Deleted {host}/hello-world:v1\n\nNumber of deleted tags: 1\n")),
            "{purged}"
        );
        let listed = containers.skopeo().args(["list-tags", &format!("docker://{host}/hello-world")]).run().succeeded();
        assert_eq!(listed.json()["Tags"], json!(["v2"]));
    });
}

/// What the guide shows is what the bench finds.
#[test]
fn scenarios_print_their_tables() {
    bench::inside(|| {
        let scenario = Scenario::parse(include_str!("../../specs/network/closing-the-wall.toml")).expect("a scenario");
        let table = scenario.table();
        golden("docs/reference/network-closing-the-wall.md", &table);
        let (_, rows) = table.split_once("| from |").expect("a scenario prints a table");
        let parts = [("places", &Setup::default().table()), ("closing the wall", &format!("| from |{rows}"))];
        golden_parts("docs/guides/rehearse-a-network.md", &parts.map(|(name, part)| (name, part.as_str())));
    });
}

#[test]
fn scenarios_that_name_no_place_are_refused() {
    let text = "title = 't'\n[[step]]\nname = 's'\napprove = ['nowhere']";
    assert_eq!(Scenario::parse(text).expect_err("there is none"), "there is no place `nowhere`");
}

/// Approves the private endpoint of a network for the registry.
fn connect(bench: &Bench, registry: &str, network: &str) {
    let connection = json!({"properties": {
        "privateEndpoint": {"id": Bench::endpoint(network)},
        "privateLinkServiceConnectionState": {"status": "Approved"},
    }});
    bench.admin().send("PUT", &format!("{registry}/privateEndpointConnections/{network}"), Some(&connection));
}
