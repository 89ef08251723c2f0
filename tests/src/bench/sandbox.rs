//! Running a test's body in namespaces of its own.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::FOLDER;

/// Names the test whose body runs inside; set in the copy of the test's process only.
const VARIABLE: &str = "POSTERN_BENCH_INSIDE";
/// Written inside when the body has come to its end: a copy that ran no test at all must not count.
const DONE: &str = "bench: the body has come to its end";
/// What is covered by files of the bench. They are found through links, as programs do.
const COVERED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf"];

const ROOT: &[&str] = &[];
const USER: &[&str] = &["--user", "--map-root-user"];

/// Prepares the file systems, then becomes the test. `/run` and `/var/lib/containers` are empty inside: what engines and `ip` keep there
/// is the bench's. A user who is root inside may not even look into those of the machine.
const PREPARE: &str = r#"
set -e
mount --make-rshared /
covered=$(for file in $COVERED; do readlink --canonicalize "$file"; done)
mount -t tmpfs -o mode=755 tmpfs /run
mount --make-private /run
[ ! -d /var/lib/containers ] || mount -t tmpfs tmpfs /var/lib/containers
mkdir -p "$TMPDIR" "$FOLDER/covered"
for file in $covered; do
    mkdir -p "$(dirname "$file")"
    [ -e "$file" ] || : > "$file"
    : > "$FOLDER/covered/$(basename "$file")"
    mount --bind "$FOLDER/covered/$(basename "$file")" "$file"
done
ip link set lo up
exec "$@"
"#;

/// Runs the body of a test in namespaces of its own. It is to be all that the test does: the test's process is started once more, for
/// this test alone, and there the body runs.
///
/// Root makes the namespaces directly, everybody else inside a user namespace. The test fails where neither is allowed.
pub fn inside<F: FnOnce()>(body: F) {
    let test = test_of::<F>();
    if let Some(output) = run(&test, body, &[test.as_ref(), "--exact".as_ref(), "--nocapture".as_ref()]) {
        report(&test, &output);
    }
}

/// The same for a whole program, which is started once more with its arguments. Gives what the body has printed, outside only.
pub fn program(body: impl FnOnce()) -> Option<String> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let output = run("program", body, &arguments)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    match stdout.split_once(DONE) {
        Some((printed, _)) if output.status.success() => Some(printed.to_owned()),
        _ => panic!("{stdout}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Runs the body if this is the copy of that name; otherwise starts the copy, and gives how it ended.
fn run(name: &str, body: impl FnOnce(), arguments: &[&OsStr]) -> Option<Output> {
    if std::env::var_os(VARIABLE).is_some_and(|inside| inside == name) {
        body();
        crate::command::say(DONE);
        return None;
    }
    let namespaces = namespaces().unwrap_or_else(|problem| panic!("{problem}"));
    let own = std::env::current_exe().expect("a program knows its own path");
    let mut command = unshare(namespaces);
    command.args(["sh", "-c", PREPARE, "sh"]).arg(own).args(arguments);
    command.env(VARIABLE, name).env("TMPDIR", temporary_folder()).env("FOLDER", FOLDER);
    command.env("COVERED", COVERED.join(" ")).env("PATH", crate::command::search_path());
    Some(command.stdin(Stdio::null()).output().expect("unshare can be started"))
}

/// The test's path as the test harness has it, from the type of its closure: `clients::pull::{{closure}}`.
fn test_of<F>() -> String {
    let name = std::any::type_name::<F>();
    let (_, path) = name.split_once("::").unwrap_or(("", name));
    path.split("::{{closure}}").next().unwrap_or_default().to_owned()
}

fn temporary_folder() -> PathBuf {
    Path::new(FOLDER).join("tmp")
}

/// Starts a program in new namespaces. It ends when this thread does, and with it whatever it has started.
fn unshare(namespaces: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare"]).args(namespaces);
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

/// The namespaces that this process may make; otherwise what to do about it.
fn namespaces() -> Result<&'static [&'static str], String> {
    let mut refusals = Vec::new();
    for namespaces in [ROOT, USER] {
        let tried = unshare(namespaces).args(["mount", "-t", "tmpfs", "tmpfs", "/run"]).output();
        match tried {
            Ok(output) if output.status.success() => return Ok(namespaces),
            Ok(output) => refusals.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => refusals.push(format!("setpriv and unshare (package util-linux) are needed: {error}")),
        }
    }
    Err(format!(
        "the network bench needs namespaces and this machine does not allow them.\n\
         Run the tests as root, or let users make namespaces:\n  \
         sysctl user.max_user_namespaces=10000\n  \
         sysctl kernel.unprivileged_userns_clone=1               (Debian, where it exists)\n  \
         sysctl kernel.apparmor_restrict_unprivileged_userns=0   (Ubuntu, where it exists)\n\
         In a container: add the capabilities SYS_ADMIN and NET_ADMIN and unmask /proc (docker: --privileged).\n\
         directly: {}\nin a user namespace: {}",
        refusals.first().map_or("", String::as_str),
        refusals.last().map_or("", String::as_str),
    ))
}

fn report(test: &str, output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let done = stdout.contains(DONE);
    if output.status.success() && done {
        // Shown by the harness when asked to.
        crate::command::say(&stdout);
        crate::command::say(&stderr);
        return;
    }
    let problem = if output.status.success() {
        format!("`{test}` ran no body: `inside` must be called by the test itself, with a closure")
    } else {
        format!("inside the bench: {}", output.status)
    };
    panic!("{problem}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
}

/// Writes the certificates that programs inside trust.
pub(super) fn trust(pem: &[u8]) -> std::io::Result<PathBuf> {
    let path = Path::new(FOLDER).join("covered/ca-certificates.crt");
    std::fs::write(&path, pem)?;
    Ok(path)
}

/// A file or folder of the bench.
pub(super) fn path(relative: impl Into<OsString>) -> PathBuf {
    Path::new(FOLDER).join(relative.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// All network devices of this process's network.
    fn devices() -> Vec<String> {
        let table = fs::read_to_string("/proc/self/net/dev").expect("Linux lists network devices");
        table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    }

    #[test]
    fn the_body_is_alone() {
        inside(|| {
            let devices = devices();
            assert!(devices.contains(&"lo".to_owned()) && !devices.contains(&"eth0".to_owned()), "{devices:?}");
            assert_eq!(std::process::id(), 1);
            fs::write("/run/bench/note", "gone with it").expect("the bench has a folder");
            assert_eq!(std::env::temp_dir(), temporary_folder());
        });
        let is_inside = std::env::var_os(VARIABLE).is_some();
        assert_eq!(Path::new("/run/bench/note").exists(), is_inside);
    }

    #[test]
    fn a_failure_inside_is_a_failure() {
        let failed = std::panic::catch_unwind(|| inside(|| panic!("on purpose")));
        if std::env::var_os(VARIABLE).is_some() {
            std::panic::resume_unwind(failed.expect_err("it panics inside"));
        }
        let message = failed.expect_err("the failure is passed on");
        let message = message.downcast_ref::<String>().expect("a message");
        assert!(message.contains("on purpose"), "{message}");
    }

    #[test]
    fn a_body_that_did_not_run_is_a_failure() {
        fn elsewhere() {
            inside(|| {});
        }
        let failed = std::panic::catch_unwind(elsewhere).expect_err("no test has this name");
        let message = failed.downcast_ref::<String>().expect("a message");
        assert!(message.contains("ran no body"), "{message}");
    }

    #[test]
    fn tests_are_named_by_their_closures() {
        fn name<F: FnOnce()>(_: &F) -> String {
            test_of::<F>()
        }
        let here = "bench::sandbox::tests::tests_are_named_by_their_closures";
        assert_eq!(name(&|| {}), here);
    }
}
