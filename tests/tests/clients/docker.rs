//! docker, with podman as its engine.

use crate::{Bench, MESSAGE};

#[test]
fn docker_logs_in_pushes_pulls_runs_and_builds() {
    let bench = Bench::new();
    let engine = bench.containers.engine();
    let host = bench.localhost();
    let bootstrap = bench.server.bootstrap();
    let login = |password: &str| {
        let login = ["login", "--username", &bootstrap.client_id, "--password-stdin", &host];
        engine.docker().args(login).input(password)
    };
    let wrong = login("wrong").run().failed();
    assert!(wrong.stderr.contains("401 Unauthorized"), "{wrong}");
    let _ = login(&bootstrap.client_secret).run().succeeded();

    let archive = bench.containers.scratch().join("hello.tar");
    let target = format!("docker-archive:{}:hello:1", archive.display());
    let _ = bench.containers.skopeo().args(["copy", &bench.layout.reference("hello"), &target]).run().succeeded();
    let _ = engine.docker().args(["load", "--input"]).arg(&archive).run().succeeded();
    let image = format!("{host}/docker/hello:1");
    let _ = engine.docker().args(["tag", "hello:1", &image]).run().succeeded();
    let _ = engine.docker().args(["push", &image]).run().succeeded();
    let _ = engine.docker().args(["rmi", "--force", &image, "hello:1"]).run().succeeded();
    let _ = engine.docker().args(["pull", "--quiet", &image]).run().succeeded();
    assert_eq!(engine.docker().args(["run", "--rm", "--network=none", &image]).stdout(), format!("{MESSAGE}\n"));
    // docker itself asks the registry here, not its engine.
    let manifest = engine.docker().args(["manifest", "inspect", &image]).run().succeeded().json();
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1), "{manifest}");

    let built = format!("{host}/docker/built:1");
    let context = bench.containers.scratch().join("context");
    std::fs::create_dir_all(&context).expect("a folder can be made");
    let steps = format!("FROM {image}\nENV NOTE=built\nCMD [\"/bin/sh\", \"-c\", \"echo $NOTE\"]\n");
    std::fs::write(context.join("Dockerfile"), steps).expect("a file can be written");
    let _ = engine.docker().args(["build", "--pull", "--tag", &built]).arg(&context).run().succeeded();
    let _ = engine.docker().args(["push", &built]).run().succeeded();
    assert_eq!(bench.tags(&format!("{host}/docker/built")), ["1"]);
    let layers =
        |image: &str| engine.docker().args(["manifest", "inspect", image]).run().succeeded().json()["layers"].clone();
    assert_eq!(layers(&built)[0]["digest"], layers(&image)[0]["digest"], "the base layer is not sent anew");

    let _ = engine.docker().args(["logout", &host]).run().succeeded();
    let _ = engine.docker().args(["pull", &built]).run().failed();
}

#[test]
fn docker_pulls_with_a_refresh_token() {
    let bench = Bench::new();
    bench.log_in();
    let image = format!("{}/hello:1", bench.localhost());
    bench.push(&image);
    bench.containers.set_identity_token(&bench.localhost(), &bench.refresh_token());
    let engine = bench.containers.engine();
    let _ = engine.docker().args(["pull", "--quiet", &image]).run().succeeded();
    // podman's engine loses the token on pushes. Here docker itself pushes.
    let list = format!("{}/hello:list", bench.localhost());
    let _ = engine.docker().args(["manifest", "create", &list, &image]).run().succeeded();
    let _ = engine.docker().args(["manifest", "push", &list]).run().succeeded();
    assert_eq!(bench.tags(&format!("{}/hello", bench.localhost())), ["1", "list"]);
}
