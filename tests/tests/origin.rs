//! Where a connection comes from: networks that share a range. Proxies are in `proxies.rs`.

use postern_tests::{Command, Scratch, tool};

/// What the networks of `networks.sh` see. 401 is the registry's challenge: the wall has let the request in.
const NETWORKS: &str = "\
# nothing is approved
first finds acme1 at 203.0.113.10
internet finds acme1 at 203.0.113.10
internet to acme1: 403
first to acme1: 403
# first is approved for acme1, second for other, third for both
first finds acme1 at 10.0.0.4
first finds other at 203.0.113.10
second finds acme1 at 203.0.113.10
second finds other at 10.0.0.4
third finds acme1 at 10.0.0.4
third finds other at 10.0.0.4
internet finds acme1 at 203.0.113.10
internet finds other at 203.0.113.10
first to acme1: 401
second to other: 401
third to acme1: 401
third to other: 401
internet to acme1: 403
# by address, whatever the names say
first to other: 403
second to acme1: 403
# first is rejected
first finds acme1 at 203.0.113.10
first to acme1: 403
";

#[test]
fn networks_with_the_same_range_are_told_apart() {
    let scratch = Scratch::new();
    let script = scratch.write("networks.sh", include_str!("origin/networks.sh"));
    // Root may make namespaces; everybody else within a user namespace, where the kernel allows that.
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let folder = scratch.join("networks");
    std::fs::create_dir(&folder).expect("the scratch folder can be written");
    let seen = Command::new(tool("unshare"))
        .args(user)
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh"])
        .args([&script, &postern_tests::binary(), &folder])
        .limit(std::time::Duration::from_mins(2))
        .run()
        .succeeded();
    assert_eq!(seen.stdout, NETWORKS, "{}", seen.stderr);
}
