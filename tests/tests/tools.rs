//! The clients work on this machine, kept apart from its settings, before any server is involved.

use postern_tests::{Containers, Layout};

const MESSAGE: &str = "through the side door";

fn layout(containers: &Containers) -> Layout {
    let mut layout = Layout::create(containers.scratch().join("layout"));
    layout.add_printing_image("hello", MESSAGE);
    layout
}

#[test]
fn skopeo_copies_an_image_unchanged() {
    let containers = Containers::new();
    let layout = layout(&containers);
    let copy = format!("oci:{}:copy", containers.scratch().join("copy").display());
    let _ = containers.skopeo().args(["copy", &layout.reference("hello"), &copy]).run().succeeded();
    let raw = |reference: &str| containers.skopeo().args(["inspect", "--raw", reference]).stdout();
    assert_eq!(raw(&layout.reference("hello")), raw(&copy));
}

#[test]
fn podman_runs_an_image() {
    let containers = Containers::new();
    let layout = layout(&containers);
    let id = containers.podman().args(["pull", "--quiet", &layout.reference("hello")]).stdout();
    let printed = containers.podman().args(["run", "--rm", id.trim()]).stdout();
    assert_eq!(printed, format!("{MESSAGE}\n"));
    let other = containers.podman().args(["run", "--detach", id.trim(), "/bin/sleep", "600"]).stdout();
    assert_eq!(containers.podman().args(["ps", "--quiet", "--no-trunc"]).stdout(), other);
}

#[test]
fn buildah_builds_on_an_image() {
    let containers = Containers::new();
    let layout = layout(&containers);
    let context = containers.scratch().write(
        "context/Containerfile",
        format!("FROM {}\nRUN echo built > /message\nCMD [\"/bin/cat\", \"/message\"]\n", layout.reference("hello")),
    );
    let _ = containers
        .buildah()
        .args(["bud", "--tag", "built:1", "--file"])
        .arg(&context)
        .arg(containers.scratch().path().join("context"))
        .run()
        .succeeded();
    assert_eq!(containers.podman().args(["run", "--rm", "localhost/built:1"]).stdout(), "built\n");
}

#[test]
fn oras_copies_an_index_with_its_manifests() {
    let containers = Containers::new();
    let mut layout = layout(&containers);
    let manifest = layout.add_printing_image("other", "another");
    let index = layout.add_index(&[manifest]);
    layout.tag(&index, "index");
    let oras = || containers.oras();
    let source = format!("{}:index", layout.folder().display());
    let _ = oras().args(["cp", "--from-oci-layout", "--to-oci-layout", &source, "copy:index"]).run().succeeded();
    let descriptor = oras().args(["manifest", "fetch", "--oci-layout", "--descriptor", "copy:index"]).run().succeeded();
    assert_eq!(descriptor.json()["digest"], index.digest.as_str());
}

#[test]
fn clients_do_not_see_credentials_of_the_machine() {
    let containers = Containers::new();
    let login = |host: &str| containers.skopeo().args(["login", "--get-login", host]).run();
    let _ = login("registry.test").failed();
    containers.set_credentials(&[("registry.test", "somebody", "secret")]);
    assert_eq!(login("registry.test").succeeded().stdout, "somebody\n");
}
