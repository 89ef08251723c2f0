//! The network bench: the wall in real networks, with real clients.

use postern_tests::bench::{self, Bench};
use postern_tests::{Containers, Layout};
use serde_json::json;

#[test]
fn names_and_addresses_are_those_of_the_place() {
    bench::inside(|| {
        let mut bench = Bench::new();
        bench.name("postern", Some("vnet-a"));
        let status = |place: &str| {
            let url = format!("https://{}/v2/", Bench::host("postern"));
            let curl = bench.place(place).curl().args(["--output", "/dev/null", "--write-out", "%{http_code}", &url]);
            curl.stdout()
        };
        let admin = bench.admin();
        let registry = admin.first_registry();
        for place in bench.places() {
            let expected = match place.name() {
                // The endpoint has no connection yet.
                "vnet-a" => "403",
                _ => "401",
            };
            assert_eq!(status(place.name()), expected, "{}", place.name());
        }
        admin.update(&registry, &json!({"publicNetworkAccess": "Disabled"}));
        for place in bench.places() {
            assert_eq!(status(place.name()), "403", "{}", place.name());
        }
        assert_eq!(bench.place("vnet-a").resolve("postern.azurecr.io"), [Bench::endpoint_address("vnet-a").ip()]);
        assert_eq!(bench.place("vnet-b").resolve("postern.azurecr.io"), [Bench::public_address().ip()]);
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
