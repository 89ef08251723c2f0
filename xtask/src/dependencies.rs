//! `cargo xtask check-deps`: a request flows down one list of crates, and the pure ones stay pure.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{capture, cargo};

/// A crate of the server and its limits.
struct Layer {
    package: &'static str,
    /// Crates above that it must not use all the same.
    never: &'static [&'static str],
    /// Crates that must not appear anywhere below it.
    denied: &'static [&'static [&'static str]],
}

/// No I/O, no runtime, no cryptography, no logging: a decision is a function of values.
const IMPURE: &[&str] = &[
    "aws-lc-rs",
    "axum",
    "getrandom",
    "hyper",
    "mio",
    "rand",
    "reqwest",
    "rustix",
    "rustls",
    "sqlx",
    "sqlx-core",
    "tokio",
    "tracing",
];
/// Names and decisions have no wire form.
const WIRE: &[&str] = &["serde_json"];

/// From the ground up: each may use only what stands before it.
const LAYERS: &[Layer] = &[
    Layer { package: "postern-model", never: &[], denied: &[IMPURE, WIRE] },
    Layer { package: "postern-access", never: &[], denied: &[IMPURE, WIRE] },
    Layer { package: "postern-estate", never: &[], denied: &[IMPURE] },
    Layer { package: "postern-store", never: &[], denied: &[] },
    Layer { package: "postern-audit", never: &[], denied: &[] },
    Layer { package: "postern-outbound", never: &["postern-store", "postern-audit"], denied: &[] },
    Layer { package: "postern-identity", never: &[], denied: &[] },
    // A client like any other: it knows nothing of how the server works.
    Layer {
        package: "postern-acr",
        never: &[
            "postern-access",
            "postern-estate",
            "postern-store",
            "postern-audit",
            "postern-identity",
            "postern-outbound",
        ],
        denied: &[],
    },
    // A task's file, its steps and its schedule are values.
    Layer {
        package: "postern-tasks",
        never: &[
            "postern-access",
            "postern-estate",
            "postern-store",
            "postern-audit",
            "postern-identity",
            "postern-outbound",
            "postern-acr",
        ],
        denied: &[IMPURE],
    },
    // A worker is a client too: what it knows of the server is the gateway's part and the documents of runs.
    Layer {
        package: "postern-agent",
        never: &["postern-access", "postern-estate", "postern-store", "postern-audit", "postern-outbound"],
        denied: &[],
    },
    Layer { package: "postern-runs", never: &["postern-acr", "postern-agent"], denied: &[] },
    Layer { package: "postern-oci", never: &["postern-runs"], denied: &[] },
    Layer { package: "postern-arm", never: &["postern-oci"], denied: &[] },
    Layer { package: "postern", never: &[], denied: &[] },
];

/// Dependencies that only some crates may name, so that each concern has one place.
const RESERVED: &[(&str, &[&str])] = &[
    ("axum", &["postern-identity", "postern-runs", "postern-oci", "postern-arm", "postern"]),
    ("sqlx", &["postern-store"]),
    ("regorus", &[]),
    ("postern-oracles", &[]),
];

/// One TLS and cryptography provider is enough; this one comes in through other crates' default features.
const UNWANTED_PROVIDER: &str = "ring";

/// One line of the dependency list of a package.
#[derive(Debug)]
struct Use {
    package: String,
    dependency: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Development,
}

/// `cargo xtask check-deps`
pub(crate) fn run(_: &[String]) -> Result<()> {
    let text = capture(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata did not print JSON")?;
    let uses = read_uses(&metadata)?;
    let packages: BTreeSet<&str> = metadata_packages(&metadata)?.into_iter().map(|(name, _)| name).collect();

    let mut findings = unlisted(&metadata)?;
    findings.extend(check_uses(&uses));
    for layer in LAYERS.iter().filter(|layer| !layer.denied.is_empty() && packages.contains(layer.package)) {
        let tree = tree(&["--package", layer.package])?;
        findings.extend(
            tree.iter()
                .filter(|name| layer.denied.iter().any(|list| list.contains(&name.as_str())))
                .map(|name| format!("{} is pure and must not pull in {name}", layer.package)),
        );
    }
    if tree(&["--workspace"])?.contains(UNWANTED_PROVIDER) {
        findings.push(format!(
            "{UNWANTED_PROVIDER} is part of the build: `cargo tree --edges normal --invert {UNWANTED_PROVIDER}` shows through whom"
        ));
    }

    if findings.is_empty() {
        let present = LAYERS.iter().filter(|layer| packages.contains(layer.package)).count();
        println!("{present} crates keep their order");
        return Ok(());
    }
    bail!("the crates break their order:\n  {}", findings.join("\n  "))
}

/// Names of all packages that an ordinary build for this machine takes in.
fn tree(selection: &[&str]) -> Result<BTreeSet<String>> {
    let text = capture(cargo(&["tree", "--edges", "normal", "--prefix", "none"]).args(selection))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn metadata_packages(metadata: &Value) -> Result<Vec<(&str, &Value)>> {
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists no packages")?;
    packages
        .iter()
        .map(|package| {
            let name = package.get("name").and_then(Value::as_str).context("a package has no name")?;
            Ok((name, package))
        })
        .collect()
}

fn read_uses(metadata: &Value) -> Result<Vec<Use>> {
    let mut uses = Vec::new();
    for (package, value) in metadata_packages(metadata)? {
        let dependencies =
            value.get("dependencies").and_then(Value::as_array).context("a package has no dependency list")?;
        for dependency in dependencies {
            let name = dependency.get("name").and_then(Value::as_str).context("a dependency has no name")?;
            let kind = match dependency.get("kind").and_then(Value::as_str) {
                Some("dev") => Kind::Development,
                Some("build") => Kind::Build,
                _ => Kind::Normal,
            };
            uses.push(Use { package: package.to_owned(), dependency: name.to_owned(), kind });
        }
    }
    Ok(uses)
}

/// A crate of the server that has no place in the list yet.
fn unlisted(metadata: &Value) -> Result<Vec<String>> {
    Ok(metadata_packages(metadata)?
        .into_iter()
        .filter(|(name, package)| {
            let manifest = package.get("manifest_path").and_then(Value::as_str).unwrap_or_default();
            manifest.contains("/crates/") && position(name).is_none()
        })
        .map(|(name, _)| format!("{name} has no place in the order of xtask/src/dependencies.rs"))
        .collect())
}

fn check_uses(uses: &[Use]) -> Vec<String> {
    uses.iter().filter_map(check_use).collect()
}

/// What is wrong with one use, if anything. Packages outside the list (tasks, tests) may use everything.
fn check_use(edge: &Use) -> Option<String> {
    let Use { package, dependency, kind } = edge;
    let at = position(package)?;
    let layer = LAYERS.get(at)?;
    if let Some((_, allowed)) = RESERVED.iter().find(|(name, _)| name == dependency)
        && !allowed.contains(&layer.package)
        && *kind != Kind::Development
    {
        return Some(format!("{package} must not use {dependency}; only {} may", allowed.join(", ")));
    }
    let below = position(dependency)?;
    if below >= at || layer.never.contains(&dependency.as_str()) {
        return Some(format!("{package} must not use {dependency}, which does not stand before it"));
    }
    None
}

fn position(package: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.package == package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        use Kind::{Build, Development, Normal};
        let cases = [
            ("postern-access", "postern-model", Normal, true),
            ("postern-model", "postern-access", Normal, false),
            ("postern-model", "postern-access", Development, false),
            ("postern-oci", "postern-identity", Normal, true),
            ("postern-oci", "postern-arm", Normal, false),
            ("postern-acr", "postern-store", Normal, false),
            ("postern-arm", "postern-oci", Normal, false),
            ("postern", "postern-arm", Normal, true),
            ("postern-oci", "axum", Normal, true),
            ("postern-store", "axum", Build, false),
            ("postern-store", "axum", Development, true),
            ("postern-audit", "sqlx", Normal, false),
            ("postern-tests", "postern", Normal, true),
        ];
        for (package, dependency, kind, allowed) in cases {
            let edge = Use { package: package.to_owned(), dependency: dependency.to_owned(), kind };
            assert_eq!(check_use(&edge).is_none(), allowed, "{edge:?}");
        }
    }

    #[test]
    fn crates_without_a_place_are_named() {
        let metadata: Value = serde_json::from_str(
            r#"{"packages":[
                {"name":"postern-new","manifest_path":"/x/crates/new/Cargo.toml","dependencies":[{"name":"axum","kind":"dev"}]},
                {"name":"xtask","manifest_path":"/x/xtask/Cargo.toml","dependencies":[]}]}"#,
        )
        .expect("JSON");
        assert_eq!(
            unlisted(&metadata).expect("readable"),
            ["postern-new has no place in the order of xtask/src/dependencies.rs"]
        );
        assert_eq!(read_uses(&metadata).expect("readable").len(), 1);
    }
}
