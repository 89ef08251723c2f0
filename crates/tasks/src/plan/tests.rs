use super::*;
use crate::order::{Argument, RegistryLogin};

fn order(work: Work) -> RunOrder {
    RunOrder {
        run_id: "ca1".into(),
        registry: "r.azurecr.io".into(),
        registry_name: "r".into(),
        task_name: None,
        workload: "/w".into(),
        triggered_by: "manual".into(),
        created: 1_795_308_729,
        os: "linux".into(),
        architecture: "amd64".into(),
        timeout_seconds: 3600,
        cpu: 2,
        source: Source::None,
        work,
        logins: vec![RegistryLogin {
            server: "r.azurecr.io".into(),
            login: Login::Token { token: Secret::new("t0ken") },
        }],
    }
}

fn argument(name: &str, value: &str, is_secret: bool) -> Argument {
    Argument { name: name.into(), value: Secret::new(value), is_secret }
}

fn encoded(task: &str, values: &[(&str, &str)]) -> RunOrder {
    order(Work::Encoded {
        task: task.into(),
        values_content: Some("image: from-file\nother: 5\n".into()),
        values: values.iter().map(|(name, value)| argument(name, value, false)).collect(),
    })
}

fn show(plan: Result<Plan, PlanError>) -> String {
    match plan {
        Err(error) => format!("! {error}"),
        Ok(plan) => {
            let steps: Vec<String> = (plan.steps.iter())
                .map(|step| match &step.action {
                    StepAction::Build(build) => {
                        format!("{}: build {} {:?} {}", step.id, build.tags.join(","), build.dockerfile, build.context)
                    }
                    StepAction::Push(images) => format!("{}: push {}", step.id, images.join(",")),
                    StepAction::Cmd(words) => format!("{}: {}", step.id, words.join("|")),
                })
                .collect();
            steps.join("; ")
        }
    }
}

fn check(task: &str, values: &[(&str, &str)], expected: &str) {
    assert_eq!(show(plan(&encoded(task, values), &Inputs::default())), expected, "{task}");
}

#[test]
fn task_files() {
    // What the client writes for `--cmd "acr purge …" -c /dev/null`.
    check(
        "version: v1.1.0\nsteps: \n  - cmd: acr purge --registry $RegistryName --filter 'hello-world:.*' --ago 7d --untagged --dry-run\n    disableWorkingDirectoryOverride: true\n    timeout: 3600\n",
        &[],
        "acb_step_0: mcr.microsoft.com/acr/acr-cli:0.19|purge|--registry|r|--filter|hello-world:.*|--ago|7d|--untagged|--dry-run",
    );
    // A build whose image and Dockerfile the run is given.
    check(
        "version: v1.1.0\nsteps:\n- build: -t $Registry/{{.Values.image}} -f {{.Values.dockerfile}} .\n- push:\n    - $Registry/{{.Values.image}}\n",
        &[("image", "myrepo:mytag"), ("dockerfile", "Dockerfile")],
        "acb_step_0: build r.azurecr.io/myrepo:mytag Some(\"Dockerfile\") .; acb_step_1: push r.azurecr.io/myrepo:mytag",
    );
    check(
        "steps:\n- cmd: '{{.Values.image}}:{{.Values.other}} {{.Run.Date}} {{.Run.TaskName}} {{.Build.ID}}'\n",
        &[],
        "acb_step_0: from-file:5|20261122-005209z|quickrun|ca1",
    );
    check(
        "steps:\n- push: [a, 'a:latest', 'h:1/b@sha256:x', b]\n",
        &[],
        "acb_step_0: push a:latest,h:1/b@sha256:x,b:latest",
    );
    check("steps:\n- cmd: bash -c 'echo {{.Values.RUN}}'\n", &[], "acb_step_0: bash|-c|echo ");
    check(
        "version: v1.1.0\nalias:\n  values:\n    img: $Registry/tool:{{.Run.ID}}\nsteps:\n- cmd: $img\n- cmd: img x\n",
        &[],
        "acb_step_0: $Registry/tool:ca1; acb_step_1: $Registry/tool:ca1|x",
    );
}

#[test]
fn what_is_refused() {
    check(
        "# c\nsteps:\n- cmd: {{ nope }}\n",
        &[],
        "! failed to render the task: line 3, column 11: function \"nope\" not defined",
    );
    check(
        "# c\nsteps:\n- cmd: a\n  id: a b\n",
        &[],
        "! failed to read the task: line 3, column 3: step ID cannot contain spaces",
    );
    check(
        "steps:\n{{ range until 2 }}\n- cmd: a\n  id: a b\n{{ end }}\n",
        &[],
        "! failed to read the task: as its templates make it: line 3, column 3: step ID cannot contain spaces",
    );
    check(
        "steps:\n- {cmd: a, id: a, when: [b]}\n- {cmd: b, id: b}\n",
        &[],
        "! failed to order the steps: the steps wait for one another: a -> b -> a",
    );
    check(
        "steps:\n- {cmd: a, when: [b]}\n",
        &[],
        "! failed to order the steps: b does not exist as a vertex [from: b, to: acb_step_0]",
    );
    check(
        "steps:\n- build: -t a\n",
        &[],
        "! step acb_step_0: \"docker build\" requires exactly 1 argument, the context; here are 0",
    );
    check("steps:\n- cmd: a 'b\n", &[], "! step acb_step_0: command contains an unterminated '\\'' quote");
    check("steps:\n- cmd: --rm a\n", &[], "! step acb_step_0: a command begins with the image that it runs");
    check(
        "version: v1.1.0\nalias: {directive: ab}\nsteps:\n- cmd: a\n",
        &[],
        "! alias: line 1, column 8: $ directive can only be overwritten by a single character",
    );
    let file = order(Work::File { task_file: "acb.yaml".into(), values_file: Some("v".into()), values: Vec::new() });
    assert_eq!(show(plan(&file, &Inputs::default())), "! the task file is not among the files");
    let inputs = Inputs { task: Some("steps: [{cmd: a}]"), ..Inputs::default() };
    assert_eq!(show(plan(&file, &inputs)), "! the values file is not among the files");
    let inputs = Inputs { values: Some("- a"), ..inputs };
    assert_eq!(show(plan(&file, &inputs)), "! values file: line 1, column 1: expected a map of values");
}

#[test]
fn messages_tell_no_secrets() {
    let planned = |task: &str| {
        let values = vec![argument("key", "s3cret", true)];
        plan(&order(Work::Encoded { task: task.into(), values_content: None, values }), &Inputs::default())
    };
    for (task, expected) in [
        ("steps:\n- {cmd: a, env: ['{{.Values.key}}']}\n", "environment variable *** correctly"),
        ("steps:\n- {cmd: a, env: ['{{.Values.key | b64enc}}']}\n", "environment variable *** correctly"),
        ("steps:\n- build: --{{.Values.key}} .\n", "unknown flag: --***"),
        ("steps:\n- {cmd: a, when: ['{{.Values.key}}']}\n", "*** does not exist as a vertex"),
    ] {
        let message = planned(task).unwrap_err().to_string();
        assert!(message.contains(expected), "{task}: {message}");
    }
}

#[test]
fn what_is_known_before_a_run() {
    let check = |text: &str, expected: &str| {
        let found = super::check(text).map_or_else(|error| error.to_string(), |()| "fine".to_owned());
        assert_eq!(found, expected, "{text}");
    };
    check("version: v1.1.0\nsteps:\n- build: -t $Registry/{{.Values.image}} .\n", "fine");
    check("version: v1.1.0\nsteps:\n- cmd: acr purge --registry $RegistryName\n", "fine");
    check("{{ if }}", "failed to render the task: line 1, column 7: missing value for command");
    check("steps:\n- cmd: {{ nope }}\n", "failed to render the task: line 2, column 11: function \"nope\" not defined");
    check("steps: []", "failed to read the task: line 1, column 1: the task has no steps");
    check("\u{1}", "failed to read the task: line 1, column 1: expected a map for a task, found a text");
}

#[test]
fn quick_builds() {
    let work = DockerWork {
        image_names: vec!["hello:{{.Run.ID}}".into(), "r.azurecr.io/b".into(), "hello:ca1".into()],
        push: true,
        no_cache: true,
        dockerfile: "x_Dockerfile".into(),
        target: Some("test".into()),
        arguments: vec![argument("A", "1 2", false), argument("B", "s3cret", true)],
    };
    let planned = plan(&order(Work::Docker(work.clone())), &Inputs::default()).unwrap();
    assert!(planned.networks.is_empty());
    assert_eq!(planned.steps.iter().map(|step| step.settings.timeout).collect::<Vec<_>>(), [28_800, 3600]);
    let StepAction::Build(build) = &planned.steps[0].action else { panic!("a build") };
    assert_eq!(build.arguments, ["A=1 2", "B=s3cret"]);
    assert_eq!((build.target.as_deref(), build.no_cache), (Some("test"), true));
    assert_eq!(planned.masks.iter().map(Secret::expose).collect::<Vec<_>>(), ["s3cret", "t0ken"]);
    assert_eq!(
        show(Ok(planned)),
        "build: build r.azurecr.io/hello:ca1,r.azurecr.io/b,r.azurecr.io/hello:ca1 Some(\"x_Dockerfile\") .; push: push r.azurecr.io/hello:ca1,r.azurecr.io/b:latest"
    );
    let unpushed = DockerWork { push: false, ..work.clone() };
    assert_eq!(plan(&order(Work::Docker(unpushed)), &Inputs::default()).unwrap().steps.len(), 1);
    let bad = DockerWork { image_names: vec!["{{.Values.x}}".into()], ..work };
    let error = plan(&order(Work::Docker(bad)), &Inputs::default()).unwrap_err().to_string();
    assert!(error.starts_with("image name \"{{.Values.x}}\": line 1, column 3: nil pointer"), "{error}");
}

#[test]
fn secrets_and_sources_are_asked_for() {
    let task = "version: v1.1.0\nalias:\n  src: [more.yaml]\nsecrets:\n- id: key\n  keyvault: https://v/{{.Values.image}}\n  clientID: c\nsteps:\n- cmd: $tool {{.Secrets.key | b64enc}} {{.Secrets.key}}\n";
    let order = encoded(task, &[]);
    let asked = needs(&order, &Inputs::default()).unwrap();
    assert_eq!(asked, Needs { alias_sources: vec!["more.yaml".into()], secrets: Vec::new() });
    let aliases = [("more.yaml".to_owned(), "tool: host/tool\n".to_owned())];
    let inputs = Inputs { aliases: &aliases, ..Inputs::default() };
    let asked = needs(&order, &inputs).unwrap();
    let secret = VaultSecret { id: "key".into(), key_vault: "https://v/from-file".into(), client_id: Some("c".into()) };
    assert_eq!(asked, Needs { alias_sources: Vec::new(), secrets: vec![secret] });
    let secrets = [("key".to_owned(), Secret::new("s3cret"))];
    let planned = plan(&order, &Inputs { secrets: &secrets, ..inputs }).unwrap();
    assert_eq!(planned.masks.iter().map(Secret::expose).collect::<Vec<_>>(), ["czNjcmV0", "s3cret", "s3cret", "t0ken"]);
    assert_eq!(show(Ok(planned)), "acb_step_0: host/tool|czNjcmV0|s3cret");
}
