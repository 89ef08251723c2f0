//! What each tool can do with a registry beyond push and pull.

use std::fs;

use crate::Bench;

const NOTE: &str = "application/vnd.example.note";
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

#[test]
fn skopeo_copies_lists_synchronizes_and_deletes() {
    let bench = Bench::new();
    bench.log_in();
    let host = bench.localhost();
    let skopeo = || bench.containers.skopeo();
    let image = format!("docker://{host}/one/hello:1");
    bench.push(&format!("{host}/one/hello:1"));
    // From repository to repository: the layer is mounted, not sent.
    let copy = format!("docker://{host}/two/hello");
    let _ = skopeo().args(["copy", &image, &format!("{copy}:1")]).run().succeeded();
    let _ = skopeo().args(["copy", "--preserve-digests", &image, &format!("{copy}:2")]).run().succeeded();
    let listed = skopeo().args(["list-tags", &copy]).run().succeeded().json();
    assert_eq!(listed["Tags"], serde_json::json!(["1", "2"]));
    assert_eq!(bench.digest(&format!("{host}/two/hello:2")), bench.digest(&format!("{host}/one/hello:1")));
    let folder = bench.containers.scratch().join("synchronized");
    let sync = ["sync", "--src", "docker", "--dest", "dir", &format!("{host}/two/hello")];
    let _ = skopeo().args(sync).arg(&folder).run().succeeded();
    assert!(folder.join("hello:2/manifest.json").is_file());
    // skopeo deletes the manifest, and with it every tag it has.
    let _ = skopeo().args(["delete", &format!("{copy}:1")]).run().succeeded();
    let gone = skopeo().args(["inspect", &format!("{copy}:2")]).run().failed();
    assert!(gone.stderr.contains("name unknown"), "{gone}");
    assert!(bench.digest(&format!("{host}/one/hello:1")).starts_with("sha256:"), "the other repository keeps its own");
}

#[test]
fn podman_searches_and_makes_lists_of_images() {
    let bench = Bench::new();
    bench.log_in();
    let host = bench.localhost();
    let podman = || bench.containers.podman();
    // Before the registry has the layer in another form, which would do as well.
    let local = podman().args(["pull", "--quiet", &bench.layout.reference("hello")]).stdout();
    let compressed = format!("{host}/compressed:1");
    let push = ["push", "--compression-format", "zstd", "--format", "oci", local.trim(), &compressed];
    let _ = podman().args(push).run().succeeded();
    let fetch = ["manifest", "fetch", "--plain-http=false", &compressed];
    let manifest = bench.containers.oras().args(fetch).run().succeeded().json();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd", "{manifest}");
    for image in ["team/hello:1", "team/hello:2", "other/hello:1"] {
        bench.push(&format!("{host}/{image}"));
    }
    let login = ["login", "--get-login", &host];
    assert_eq!(podman().args(login).stdout().trim(), bench.server.bootstrap().client_id);
    let tags = ["search", "--list-tags", "--format", "{{.Tag}}", &format!("{host}/team/hello")];
    let tags = podman().args(tags).stdout();
    assert_eq!(tags.split_whitespace().filter(|word| ["1", "2"].contains(word)).count(), 2, "{tags}");
    let found = podman().args(["search", "--format", "{{.Name}}", &format!("{host}/team")]).stdout();
    assert_eq!(found.trim(), format!("{host}/team/hello"));
    let list = format!("{host}/team/list:1");
    let _ = podman().args(["manifest", "create", &list]).run().succeeded();
    let _ = podman().args(["manifest", "add", &list, &format!("docker://{host}/team/hello:1")]).run().succeeded();
    let push = ["manifest", "push", "--all", &list, &format!("docker://{list}")];
    let _ = podman().args(push).run().succeeded();
    let seen =
        bench.containers.oras().args(["manifest", "fetch", "--plain-http=false", &list]).run().succeeded().json();
    assert_eq!(seen["manifests"].as_array().map(Vec::len), Some(1), "{seen}");
}

#[test]
fn buildah_builds_from_the_registry_and_pushes_an_index() {
    let bench = Bench::new();
    bench.log_in();
    let host = bench.localhost();
    bench.push(&format!("{host}/base:1"));
    let context = bench
        .containers
        .scratch()
        .write("context/Containerfile", format!("FROM {host}/base:1\nRUN echo built > /message\n"));
    let folder = context.parent().expect("a file is in a folder");
    let buildah = || bench.containers.buildah();
    let index = format!("{host}/built:1");
    let _ = buildah()
        .args(["bud", "--pull-always", "--manifest", &index, "--file"])
        .arg(&context)
        .arg(folder)
        .run()
        .succeeded();
    let _ = buildah().args(["manifest", "push", "--all", &index, &format!("docker://{index}")]).run().succeeded();
    assert_eq!(bench.descriptor(&index)["mediaType"], "application/vnd.oci.image.index.v1+json");
    let id = bench.containers.podman().args(["pull", "--quiet", &index]).stdout();
    assert_eq!(bench.containers.podman().args(["run", "--rm", id.trim()]).stdout(), "built\n");
}

#[test]
fn oras_attaches_discovers_copies_and_deletes() {
    let bench = Bench::new();
    bench.log_in();
    let host = bench.localhost();
    // To `localhost` oras would speak plain HTTP.
    let oras =
        |command: &[&str], rest: &[&str]| bench.containers.oras().args(command).arg("--plain-http=false").args(rest);
    bench.containers.scratch().write("note.txt", "a note");
    let image = format!("{host}/app:1");
    bench.push(&image);
    let _ = oras(&["tag"], &[&image, "2", "3"]).run().succeeded();
    assert_eq!(bench.tags(&format!("{host}/app")), ["1", "2", "3"]);
    let attach = |to: &str| {
        oras(&["attach", "--artifact-type", NOTE, "--format", "json"], &[to, "note.txt:text/plain"])
            .run()
            .succeeded()
            .json()
    };
    let note = attach(&image);
    let on_note = attach(note["reference"].as_str().expect("an artifact has a reference"));
    let discover = |image: &str| {
        oras(&["discover", "--format", "json", "--artifact-type", NOTE], &[image]).run().succeeded().json()
    };
    assert_eq!(discover(&image)["manifests"][0]["digest"], note["digest"]);
    let none = oras(&["discover", "--format", "json", "--artifact-type", "application/vnd.other"], &[&image]);
    assert_eq!(none.run().succeeded().json()["manifests"], serde_json::json!([]));

    // The image with all that refers to it, directly and not.
    let copy = format!("{host}/copies/app:1");
    let recursive = ["cp", "--recursive", "--from-plain-http=false", "--to-plain-http=false", &image, &copy];
    let _ = bench.containers.oras().args(recursive).run().succeeded();
    assert_eq!(bench.descriptor(&copy)["digest"], bench.descriptor(&image)["digest"]);
    let of_note = format!("{host}/copies/app@{}", note["digest"].as_str().expect("an artifact has a digest"));
    assert_eq!(discover(&of_note)["manifests"][0]["digest"], on_note["digest"]);
    let repositories = oras(&["repo", "ls"], &[&host]).stdout();
    assert_eq!(repositories, "app\ncopies/app\n");

    let blob = oras(&["blob", "push", "--descriptor"], &[&format!("{host}/app"), "note.txt"]).run().succeeded().json();
    let blob = format!("{host}/app@{}", blob["digest"].as_str().expect("a blob has a digest"));
    assert_eq!(oras(&["blob", "fetch", "--output", "-"], &[&blob]).stdout(), "a note");
    let needed = oras(&["blob", "delete", "--force"], &[&blob]).run().failed();
    assert!(needed.stderr.contains("still needs the blob"), "{needed}");
    let note = format!("{host}/app@{}", note["digest"].as_str().expect("an artifact has a digest"));
    let _ = oras(&["manifest", "delete", "--force"], &[&note]).run().succeeded();
    assert_eq!(discover(&image)["manifests"], serde_json::json!([]));
    let _ = oras(&["manifest", "delete", "--force"], &[&image]).run().succeeded();
}

#[test]
fn helm_charts_travel_with_oras() {
    let bench = Bench::new();
    bench.log_in();
    let scratch = bench.containers.scratch();
    let chart = b"the bytes of a packed chart";
    scratch.write("demo-0.1.0.tgz", chart);
    scratch.write("config.json", r#"{"name":"demo","version":"0.1.0","apiVersion":"v2"}"#);
    let reference = format!("{}/helm/demo:0.1.0", bench.localhost());
    let config = format!("config.json:{HELM_CONFIG}");
    let layer = format!("demo-0.1.0.tgz:{HELM_CHART}");
    let push = ["push", "--plain-http=false", "--config", &config, &reference, &layer];
    let _ = bench.containers.oras().args(push).run().succeeded();
    let fetch = ["manifest", "fetch", "--plain-http=false", &reference];
    let manifest = bench.containers.oras().args(fetch).run().succeeded().json();
    assert_eq!(
        (&manifest["config"]["mediaType"], &manifest["layers"][0]["mediaType"]),
        (&HELM_CONFIG.into(), &HELM_CHART.into())
    );
    let folder = scratch.join("pulled");
    let _ = bench
        .containers
        .oras()
        .args(["pull", "--plain-http=false", "--output"])
        .arg(&folder)
        .arg(&reference)
        .run()
        .succeeded();
    assert_eq!(fs::read(folder.join("demo-0.1.0.tgz")).expect("the chart was pulled"), chart);
}

#[test]
fn cosign_signs_verifies_and_cleans_up() {
    let bench = Bench::new();
    bench.log_in();
    let cosign = || bench.containers.cosign();
    let image = format!("{}/app:1", bench.localhost());
    bench.push(&image);
    let image = format!("{}/app@{}", bench.localhost(), bench.digest(&image));
    for prefix in ["own", "other"] {
        let _ = cosign().args(["generate-key-pair", "--output-key-prefix", prefix]).run().succeeded();
    }
    let verify = |key: &str, rest: &[&str]| {
        cosign().args(["verify", "--insecure-ignore-tlog", "--key", key]).args(rest).arg(&image).run()
    };
    let none = verify("own.pub", &[]).failed();
    assert!(none.stderr.contains("no signatures found"), "{none}");
    let sign = ["sign", "--yes", "--tlog-upload=false", "--key", "own.key"];
    let _ = cosign().args(sign).arg(&image).run().succeeded();
    let verified = verify("own.pub", &[]).succeeded().json();
    assert!(image.ends_with(verified[0]["critical"]["image"]["docker-manifest-digest"].as_str().expect("a digest")));
    let _ = verify("other.pub", &[]).failed();
    let copy = format!("{}/copies/app:1", bench.localhost());
    let _ = cosign().args(["copy", &image, &copy]).run().succeeded();
    let copied = bench.tags(&format!("{}/copies/app", bench.localhost()));
    assert!(copied.iter().any(|tag| tag.starts_with("sha256-")), "the image and its signature: {copied:?}");

    // The same by the referrers of OCI 1.1 instead of tags.
    let oci = |command: &[&str]| {
        cosign().env("COSIGN_EXPERIMENTAL", "1").args(command).arg("--registry-referrers-mode=oci-1-1")
    };
    let _ = oci(&sign).arg(&image).run().succeeded();
    let discover = ["discover", "--format", "json", "--plain-http=false", &image];
    let found = bench.containers.oras().args(discover).run().succeeded().json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.dev.cosign.artifact.sig.v1+json", "{found}");
    let verify_referrer = ["verify", "--insecure-ignore-tlog", "--key", "own.pub", "--experimental-oci11", &image];
    let _ = cosign().env("COSIGN_EXPERIMENTAL", "1").args(verify_referrer).run().succeeded();

    let tree = cosign().args(["tree", &image]).stdout();
    assert!(tree.contains("Signatures for an image tag"), "{tree}");
    let _ = cosign().args(["clean", "--force", "--type", "signature", &image]).run().succeeded();
    let _ = verify("own.pub", &[]).failed();
}

#[test]
fn the_rust_client_pushes_lists_and_finds_referrers() {
    let bench = Bench::new();
    bench.log_in();
    let run = |verb: &str, image: &str| bench.containers.oci_client().args([verb, image]).stdout();
    let image = format!("{}/rust/app:1", bench.localhost());
    assert!(run("push", &image).starts_with("pushed "));
    assert!(run("pull", &image).ends_with(" in 1 layers\n"));
    assert_eq!(run("tags", &image), "1\n");
    assert_eq!(run("referrers", &image), "\n");
    bench.containers.scratch().write("note.txt", "a note");
    let attach = ["attach", "--plain-http=false", "--artifact-type", NOTE, &image, "note.txt:text/plain"];
    let _ = bench.containers.oras().args(attach).run().succeeded();
    assert_eq!(run("referrers", &image), format!("{NOTE}\n"));
}
