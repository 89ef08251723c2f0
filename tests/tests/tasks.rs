//! Tasks at work: the documents' scripts with the unmodified CLI, on a registry that is closed first, carried out by real workers.
#![expect(clippy::indexing_slicing, reason = "a failed expectation is a failed test, also in what the tests share")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use postern_tests::bench::{self, Bench, Setup};
use postern_tests::{Az, Containers, Layout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const HOST: &str = "myregistry.azurecr.io";
/// A run of these tests takes seconds, and half a minute more when its worker is gone.
const RUN_LIMIT: Duration = Duration::from_secs(100);
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
/// Workers of the shared pool are a machine of their own.
const SHARED_POOL: &str = "namespace = '/run/netns/shared-pool'\nserver = '198.18.0.10:443'\nmemory_mib = 256";
/// The documents' build task. Source: "ACR Tasks: Access network-restricted registry".
const BUILD_TASK: &str = "version: v1.1.0
steps:
- build: -t $Registry/{{.Values.image}} -f {{.Values.dockerfile}} .
- push:
    - $Registry/{{.Values.image}}
";
/// As the document has it, with the registry's name and an age that everything here has.
const PURGE_TASK: &str = r#"registry_name="myregistry"
task_name="mypurgetask"
cmd="acr purge --filter 'hello-world:.*' --untagged --ago 0d"
registry_login_server=$(az acr update -n $registry_name --allow-trusted-services true --query "loginServer" -o tsv)
system_identity_principal=$(az acr task create -r $registry_name -n $task_name --cmd "$cmd" -c /dev/null --assign-identity [system] --auth-mode None --base-image-trigger-enabled false --query "identity.principalId" -o tsv)
registry_resource_id=$(az acr show -n $registry_name --query "id" -o tsv)
az role assignment create --role AcrDelete --assignee-object-id $system_identity_principal --assignee-principal-type ServicePrincipal --scope $registry_resource_id --output none
az role assignment create --role AcrPush --assignee-object-id $system_identity_principal --assignee-principal-type ServicePrincipal --scope $registry_resource_id --output none
az acr task credential add -r $registry_name -n $task_name --login-server $registry_login_server --use-identity [system] --output none"#;
const ALLOW_TASKS: &str = "az resource update --namespace Microsoft.ContainerRegistry --resource-type registries --name myregistry \
    --resource-group myresourcegroup --api-version 2025-06-01-preview \
    --set properties.networkRuleBypassAllowedForTasks=true --output none";

/// The administrator's CLI in the office, a registry named as in the documents with two images in it, and its wall up.
fn scene(setup: Setup) -> (Bench, Az, Containers, Layout) {
    let bench = Bench::with(setup);
    let az = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
    az.run(
        "az group create --name myresourcegroup --location eastus --output none
az acr create --resource-group myresourcegroup --name myregistry --sku Premium --output none",
    );
    let mut containers = Containers::new();
    let mut layout = Layout::create(containers.scratch().join("layout"));
    let login = az.json("az acr login --name myregistry --expose-token --output json");
    containers.set_credentials(&[(HOST, TOKEN_USER, login["accessToken"].as_str().unwrap_or_default())]);
    containers.enter(bench.place("office"));
    layout.add_printing_image("base", "base");
    for to in ["hello-world:1", "base:1"] {
        let to = format!("docker://{HOST}/{to}");
        let _ = containers.skopeo().args(["copy", &layout.reference("base"), &to]).run().succeeded();
    }
    // Nobody outside, but the office: what the tests look at afterwards is seen from there.
    az.run(
        "az acr update --name myregistry --default-action Deny --output none
az acr network-rule add --name myregistry --ip-address 198.51.100.7 --output none",
    );
    (bench, az, containers, layout)
}

fn with(access: &str) -> Setup {
    Setup { access: access.to_owned(), tasks: SHARED_POOL.to_owned(), ..Setup::default() }
}

fn tags(az: &Az, repository: &str) -> Value {
    az.json(&format!("az acr repository show-tags --name myregistry --repository {repository} --output json"))
}

/// What a script prints that must succeed: the log of a run is on one of both.
#[track_caller]
fn works(az: &Az, script: &str) -> String {
    let seen = az.script(script).run().succeeded();
    seen.stdout + &seen.stderr
}

/// What a script prints that must fail.
#[track_caller]
fn fails(az: &Az, script: &str) -> String {
    let seen = az.script(script).run().failed();
    seen.stdout + &seen.stderr
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// The purge task of the documents: it works by the policy of its day, fails by today's, works once the policy says so, and fails
/// without trusted services.
#[test]
fn the_documents_purge_task_follows_the_policy() {
    bench::inside(|| {
        let (mut bench, az, _containers, _layout) = scene(with("policy_date = '2025-05-01'"));
        az.run(PURGE_TASK);
        let run = "az acr task run -r myregistry -n mypurgetask";
        let log = works(&az, run);
        has(
            &log,
            &[
                "Logging in to registry: myregistry.azurecr.io",
                "Successfully logged into myregistry.azurecr.io",
                "Executing step ID: acb_step_0.",
                "Deleted myregistry.azurecr.io/hello-world:1",
                "Number of deleted tags: 1",
                "Number of deleted manifests: 1",
                "was successful after",
            ],
        );

        bench.set_access("policy_date = 'current'");
        let refused = "failed to get ACR refresh token, exchange API response code: 403 Forbidden";
        let log = fails(&az, run);
        let because = "refused this by its network layer:";
        has(
            &log,
            &[refused, because, "networkRuleBypassAllowedForTasks is unset", "Fix:", "postern explain", "failed after"],
        );
        az.run(ALLOW_TASKS);
        has(&works(&az, run), &["was successful after"]);
        az.run("az acr update -n myregistry --allow-trusted-services false --output none");
        has(&fails(&az, run), &[refused, because, "networkRuleBypassOptions"]);

        let runs = az.json("az acr task list-runs -r myregistry --query [].[runId,status,task] --output json");
        assert_eq!(runs.as_array().map(Vec::len), Some(4), "{runs}");
        let states: Vec<&str> = (0..4).filter_map(|at| runs[at][1].as_str()).collect();
        assert_eq!(states, ["Failed", "Succeeded", "Failed", "Succeeded"], "{runs}");
    });
}

/// The build task of the documents: local files, a Dockerfile whose base image is in the closed registry.
#[test]
fn the_documents_build_task_builds_local_files() {
    bench::inside(|| {
        let (bench, az, containers, _layout) = scene(with(""));
        let folder = containers.scratch().join("context");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("acb.yaml"), BUILD_TASK).unwrap();
        let dockerfile = format!(
            "FROM {HOST}/base:1 AS first\nRUN [\"/bin/cat\", \"/message\"]\nFROM {HOST}/base:1\nCOPY --from=first /message /again\nCOPY Dockerfile /\n"
        );
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        let at = folder.display();
        az.run(&format!(
            r#"cd {at}
principal=$(az acr task create -r myregistry -n mybuildtask -f acb.yaml -c /dev/null --assign-identity [system] --auth-mode None --base-image-trigger-enabled false --query "identity.principalId" -o tsv)
az role assignment create --role AcrPush --assignee-object-id $principal --assignee-principal-type ServicePrincipal --scope $(az acr show -n myregistry --query id -o tsv) --output none
az acr task credential add -r myregistry -n mybuildtask --login-server {HOST} --use-identity [system] --output none"#
        ));
        let run = format!(
            "cd {at}; az acr task run -r myregistry -n mybuildtask --set image=myrepo:mytag --set dockerfile=Dockerfile -c ."
        );
        has(&fails(&az, &run), &["exchange API response code: 403 Forbidden"]);
        az.run(ALLOW_TASKS);
        let log = works(&az, &run);
        has(
            &log,
            &[
                "Alias support enabled for version >= 1.1.0",
                "Successfully scanned dependencies",
                "Pushing image: myregistry.azurecr.io/myrepo:mytag, attempt 1",
                "Successfully pushed image: myregistry.azurecr.io/myrepo:mytag",
                "runtime-dependency:",
                "was successful after",
            ],
        );
        assert_eq!(tags(&az, "myrepo"), serde_json::json!(["mytag"]));
        let output = az.json("az acr task list-runs -r myregistry --query '[0].outputImages[0]' --output json");
        let digest = az.run("az acr repository show -n myregistry --image myrepo:mytag --query digest -o tsv");
        assert_eq!(output["digest"].as_str(), Some(digest.as_str()), "{output}");
        let image = format!("docker://{HOST}/myrepo:mytag");
        let _ = containers.skopeo().args(["inspect", &image]).run().succeeded();
        drop(bench);
    });
}

/// A quick build on an open registry, with the default login; the log, its end and what is left of it on the machine.
#[test]
fn a_quick_build_of_a_local_folder() {
    bench::inside(|| {
        let (bench, az, containers, _layout) = scene(with(""));
        let folder = containers.scratch().join("context");
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("Dockerfile"),
            format!("FROM {HOST}/base:1\nARG WHO\nENV WHO=$WHO\nRUN [\"/bin/cat\", \"/message\"]\n"),
        )
        .unwrap();
        let build = format!(
            "cd {}; az acr build -r myregistry --image quick:{{{{.Run.ID}}}} --build-arg WHO=me --file Dockerfile .",
            folder.display()
        );
        has(&fails(&az, &build), &["failed to login"]);
        az.run("az acr update --name myregistry --default-action Allow --output none");
        let log = works(&az, &build);
        has(&log, &["Executing step ID: build.", "Executing step ID: push.", "was successful after"]);
        assert_eq!(tags(&az, "quick").as_array().map(Vec::len), Some(1));
        // A test that the image must pass before it is pushed: here it does not.
        let file = "version: v1.1.0
steps:
- id: build
  build: -t $Registry/tested:1 .
- id: test
  cmd: $Registry/tested:1
- id: fail
  cmd: $Registry/tested:1
  entryPoint: /none
- push: [$Registry/tested:1]
";
        fs::write(folder.join("acb.yaml"), file).unwrap();
        let at = folder.display();
        let log = fails(&az, &format!("cd {at}; az acr run -r myregistry -f acb.yaml ."));
        has(&log, &["Successfully executed container: test", "Step ID: fail marked as failed"]);
        let repositories = az.json("az acr repository list -n myregistry --output json");
        assert!(!repositories.to_string().contains("tested"), "{repositories}");
        fs::write(folder.join("acb.yaml"), file.replace("  entryPoint: /none\n", "")).unwrap();
        has(&works(&az, &format!("cd {at}; az acr run -r myregistry -f acb.yaml .")), &["was successful after"]);
        assert_eq!(tags(&az, "tested"), serde_json::json!(["1"]));
        drop(bench);
    });
}

/// The documents' first scenario: an agent pool in a virtual network with a private endpoint builds for a registry that nobody outside
/// reaches, by the endpoint's address; and the seeds' last section, the other way around: the workers' own address in a rule.
#[test]
fn an_agent_pool_builds_behind_the_wall() {
    bench::inside(|| {
        let subnet = Bench::subnet("vnet-a");
        let tasks = format!(
            "{SHARED_POOL}\n\n[[tasks.subnet]]\nid = '{subnet}'\nnamespace = '/run/netns/vnet-a'\nserver = '10.0.0.10:443'"
        );
        let (bench, az, containers, _layout) = scene(Setup { tasks, ..Setup::default() });
        let registry = az.run("az acr show --name myregistry --query id -o tsv");
        let connection = serde_json::json!({"properties": {
            "privateEndpoint": {"id": Bench::endpoint("vnet-a")},
            "privateLinkServiceConnectionState": {"status": "Approved"},
        }});
        bench.admin().send("PUT", &format!("{registry}/privateEndpointConnections/vnet-a"), Some(&connection));
        let network = subnet.split("/subnets/").next().unwrap_or_default();
        let documents = [
            (
                network,
                serde_json::json!({"location": "eastus", "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}}),
            ),
            (&subnet, serde_json::json!({"properties": {"addressPrefix": "10.0.0.0/24"}})),
        ];
        for (id, document) in documents {
            bench.admin().send("PUT", id, Some(&document));
        }
        let folder = containers.scratch().join("context");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("Dockerfile"), format!("FROM {HOST}/base:1\nRUN [\"/bin/cat\", \"/message\"]\n"))
            .unwrap();
        let build = |rest: &str| {
            format!("cd {}; az acr build --registry myregistry {rest} --file Dockerfile .", folder.display())
        };
        has(&fails(&az, &build("--image outside:1")), &["failed to login", "403"]);
        az.run(&format!(
            "az acr agentpool create --name mypool --registry myregistry --tier S2 --subnet-id {subnet} --count 2 --output none"
        ));
        let log = works(&az, &build("--agent-pool mypool --image myimage:v1"));
        has(&log, &["Successfully pushed image: myregistry.azurecr.io/myimage:v1", "was successful after"]);
        assert_eq!(tags(&az, "myimage"), serde_json::json!(["v1"]));
        // The shared pool's own address, which is not the caller's.
        az.run("az acr network-rule add --name myregistry --ip-address 192.0.2.40 --output none");
        has(&works(&az, &build("--image outside:1")), &["was successful after"]);
    });
}

/// Waits until a run is where it should be; gives it as it is then.
fn wait_for(az: &Az, run: &str, statuses: &[&str]) -> Value {
    let begun = Instant::now();
    loop {
        let seen = az.json(&format!("az acr task show-run -r myregistry --run-id {run} --output json"));
        if seen["status"].as_str().is_some_and(|status| statuses.contains(&status)) {
            return seen;
        }
        assert!(begun.elapsed() < RUN_LIMIT, "the run is not {statuses:?}: {seen}");
    }
}

/// The server is killed while a run goes on, and the run ends as if nothing had been; then its worker is, and the run begins again; then
/// one that may have changed something, which does not.
#[test]
fn servers_and_workers_that_are_killed_lose_no_run() {
    bench::inside(|| {
        let (mut bench, az, containers, _layout) = scene(with(""));
        az.run("az acr update --name myregistry --default-action Allow --output none");
        let folder = containers.scratch().join("context");
        fs::create_dir_all(&folder).unwrap();
        let dockerfile = |seconds: u32| format!("FROM {HOST}/base:1\nRUN [\"/bin/sleep\", \"{seconds}\"]\n");
        let build = |tag: &str, seconds: u32| {
            fs::write(folder.join("Dockerfile"), dockerfile(seconds)).unwrap();
            let script = format!("cd {}; az acr build -r myregistry --image app:{tag} --no-wait .", folder.display());
            works(&az, &script);
            let run = az.run("az acr task list-runs -r myregistry --query [0].runId -o tsv");
            wait_for(&az, &run, &["Running"]);
            run
        };
        let run = build("server", 8);
        bench.crash();
        let ended = wait_for(&az, &run, &["Succeeded", "Failed", "Error", "Timeout"]);
        assert_eq!(ended["status"], "Succeeded", "{ended}");
        has(&works(&az, &format!("az acr task logs -r myregistry --run-id {run}")), &["was successful after"]);

        let run = build("worker", 9);
        kill_workers();
        let ended = wait_for(&az, &run, &["Succeeded", "Failed", "Error", "Timeout"]);
        assert_eq!(ended["status"], "Succeeded", "{ended}");
        let log = works(&az, &format!("az acr task logs -r myregistry --run-id {run}"));
        has(&log, &["the run begins again", "was successful after"]);
        assert_eq!(tags(&az, "app"), serde_json::json!(["server", "worker"]));

        let step = format!("az acr run -r myregistry --cmd '{HOST}/base:1 /bin/sleep 30' --no-wait /dev/null");
        works(&az, &step);
        let run = az.run("az acr task list-runs -r myregistry --query [0].runId -o tsv");
        wait_for(&az, &run, &["Running"]);
        let begun = Instant::now();
        while !logs(&bench.data().join("runs")).contains("Launching container with name: acb_step_0") {
            assert!(begun.elapsed() < RUN_LIMIT, "the step does not begin");
            std::thread::yield_now();
        }
        kill_workers();
        let ended = wait_for(&az, &run, &["Succeeded", "Failed", "Error", "Timeout"]);
        assert_eq!(ended["status"], "Error", "{ended}");
    });
}

/// What is in all logs below a folder.
fn logs(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let each = entries.map(|entry| match entry.path() {
        path if path.is_dir() => logs(&path),
        path => fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default(),
    });
    each.collect()
}

/// Kills every worker of this machine, which is the test's own.
fn kill_workers() {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_worker =
        |number: &i32| fs::read(format!("/proc/{number}/cmdline")).is_ok_and(|line| line.ends_with(b"agent-worker\0"));
    let workers: Vec<Pid> = numbers.filter(is_worker).filter_map(Pid::from_raw).collect();
    assert!(!workers.is_empty(), "no worker is there");
    for worker in workers {
        // The first to go may take the others with it.
        let _ = kill_process(worker, Signal::KILL);
    }
}
