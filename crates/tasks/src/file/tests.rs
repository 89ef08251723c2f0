use super::*;
use crate::graph::When;

fn check(text: &str, expected: &str) {
    let found = TaskFile::parse(text).map_or_else(
        |error| format!("! {error}"),
        |task| {
            let steps: Vec<_> =
                task.steps.iter().map(|step| format!("{} {:?} {:?}", step.id, step.when, step.line)).collect();
            format!("{:?}: {}", task.version, steps.join("; "))
        },
    );
    assert_eq!(found, expected, "{text}");
}

#[test]
fn files() {
    check(
        "version: v1.1.0\nsteps:\n- build: -t a .\n- push:\n  - a\n- cmd: a\n  id: test\n  when: ['-']\n",
        r#"V1_1: acb_step_0 Previous Build("-t a ."); acb_step_1 Previous Push(["a"]); test AtOnce Cmd("a")"#,
    );
    check("steps: [{cmd: bash, when: [a, b], unknown: 1}]", r#"V1_0: acb_step_0 After(["a", "b"]) Cmd("bash")"#);
    check(
        "{\"version\": \"1.0-Preview-1\", \"steps\": [{\"cmd\": \"a\"}]}",
        r#"Preview: acb_step_0 Previous Cmd("a")"#,
    );
}

#[test]
fn what_is_refused() {
    let step = |text: &str| format!("steps:\n- {text}\n");
    check("", "! rendered template was empty");
    check("a", "! line 1, column 1: expected a map for a task, found a text");
    check(
        "version: v2\nsteps: [{cmd: a}]",
        "! line 1, column 10: invalid version specified: \"v2\", the current version is \"v1.0.0\"",
    );
    check("version: v1.0.0", "! line 1, column 1: the task has no steps");
    check("steps: {a: b}", "! line 1, column 8: expected a list for steps, found a map");
    check(&step("id: a"), "! line 2, column 3: step is missing a cmd, build, or push property");
    check(
        &step("{cmd: a, build: b}"),
        "! line 2, column 3: step must only contain a single build, cmd, or push property",
    );
    check(&step("{cmd: a, id: a b}"), "! line 2, column 3: step ID cannot contain spaces");
    check(
        &step("{cmd: a, id: ../b}"),
        "! line 2, column 3: step ID \"../b\" may only have letters, digits, '_', '.' and '-', at most 128 of them",
    );
    check(&step("{cmd: a, retries: -1}"), "! line 2, column 3: step must specify retries >= 0");
    check(&step("{cmd: a, repeat: -1}"), "! line 2, column 3: step must specify repeat >= 0");
    check(&step("{cmd: a, retries: x}"), "! line 2, column 21: expected a whole number for retries, found a text");
    check(&step("{cmd: a, detach: 1}"), "! line 2, column 20: expected true or false for detach, found a text");
    check(&step("{cmd: [a]}"), "! line 2, column 9: expected text for cmd, found a list");
    check(&step("{push: a}"), "! line 2, column 10: expected a list for push, found a text");
    check(&step("{cmd: a, id: a, when: [a]}"), "! line 2, column 3: Step ID: a is self-referenced");
    check(
        &step("{cmd: a, when: ['-', b]}"),
        "! line 2, column 3: step cannot contain other IDs in when if the immediate execution token is specified",
    );
    check(
        &step("{cmd: a, cache: x}"),
        "! line 2, column 3: invalid value for cache property. Valid values are 'enabled', 'disabled'",
    );
    check(&step("{cmd: a, env: [b]}"), "! line 2, column 3: cannot parse step environment variable b correctly");
    check(
        &step("{cmd: a, volumeMounts: [{name: v, mountPath: /x}]}"),
        "! line 2, column 27: provided mount name does not correspond to a volume",
    );
    let volume = |text: &str| format!("volumes: [{text}]\nsteps: [{{cmd: a}}]");
    check(&volume("{name: a/b}"), "! line 1, column 11: volume name is not well formed. Only use alphanumeric and - _");
    check(&volume("{name: a}"), "! line 1, column 11: volume a: secret is empty");
    check(&volume("{name: a, secret: {../x: YQ==}}"), "! line 1, column 11: volume a: \"../x\" is no name for a file");
    check(&volume("{name: a, secret: [{x: '!'}]}"), "! line 1, column 11: volume a: the value of x is not base64");
    check(
        "secrets: [{id: a, keyvault: http://x}]\nsteps: [{cmd: a}]",
        "! line 1, column 11: failed to validate secret with ID: a: keyvault has to be the https URL of a secret",
    );
    let twice = "{id: a, keyvault: 'https://v/secrets/a'}";
    check(
        &format!("secrets: [{twice}, {twice}]\nsteps: [{{cmd: a}}]"),
        "! line 1, column 1: duplicate secret found with ID: a",
    );
    let many = "- cmd: a\n".repeat(MAX_STEPS + 1);
    check(&format!("steps:\n{many}"), "! line 1, column 1: the task has more than 256 steps");
}

#[test]
fn settings_and_defaults() {
    let text = "
stepTimeout: 60
workingDirectory: src
env: ['A=1,B=2', C=3]
networks: [{name: n1}, {name: n2, isDefault: true, driver: x, ipv6: true}]
volumes: [{name: v, secret: [{one: YQ==}, {two: Yg==}]}]
steps:
- cmd: a
- cmd: b
  timeout: 5
  retries: 2
  retryDelay: 1
  repeat: 3
  startDelay: 4
  env: [B=x]
  network: n1
  workingDirectory: other
  entryPoint: sh
  exitedWith: [0, 3]
  exitedWithout: [255]
  detach: true
  keep: yes
  ignoreErrors: true
  disableWorkingDirectoryOverride: true
  cache: Enabled
  user: 1000
  cpus: 0.5
  volumeMounts: [{name: v, mountPath: /v}]
";
    let task = TaskFile::parse(text).unwrap();
    let default = Settings {
        timeout: 60,
        retry_delay: 5,
        env: ["A=1", "B=2", "C=3"].map(str::to_owned).to_vec(),
        network: Some("n2".into()),
        working_directory: Some("src".into()),
        ..Settings::default()
    };
    assert_eq!(task.steps[0].settings, default);
    let full = Settings {
        timeout: 5,
        retries: 2,
        retry_delay: 1,
        repeat: 3,
        start_delay: 4,
        env: ["B=x", "A=1", "C=3"].map(str::to_owned).to_vec(),
        network: Some("n1".into()),
        working_directory: Some("other".into()),
        entry_point: Some("sh".into()),
        exited_with: vec![0, 3],
        exited_without: vec![255],
        detach: true,
        keep: true,
        ignore_errors: true,
        keeps_image_directory: true,
        cache: true,
        user: Some("1000".into()),
        cpus: Some("0.5".into()),
        mounts: vec![Mount { name: "v".into(), path: "/v".into() }],
        ..Settings::default()
    };
    assert_eq!(task.steps[1].settings, full);
    assert_eq!(task.steps[1].when, When::Previous);
    assert_eq!(task.volumes[0].files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let plain = TaskFile::parse("steps: [{cmd: a}]").unwrap();
    assert_eq!(plain.networks[0].name, DEFAULT_NETWORK);
    assert_eq!(plain.steps[0].settings.network.as_deref(), Some(DEFAULT_NETWORK));
    assert_eq!(plain.steps[0].settings.timeout, 600);
    let apart = TaskFile::parse("networks: [{name: n1}]\nsteps: [{cmd: a}]").unwrap();
    assert_eq!(apart.steps[0].settings.network, None);
}
