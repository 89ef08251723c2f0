//! The lines of a run's log.

use std::fmt;

use postern_model::Timestamp;

use crate::graph::StepStatus;
use crate::order::ImageName;
use crate::template;

/// What ends a line.
pub const LINE_END: &str = "\r\n";

/// A line with the time before it and its end behind it.
pub fn stamped(at: Timestamp, line: &impl fmt::Display) -> String {
    format!("{} {line}{LINE_END}", template::layout("2006/01/02 15:04:05", at))
}

/// What the runner says.
#[derive(Clone, Copy, Debug)]
pub enum LogLine<'a> {
    /// The task file is of a version with aliases.
    AliasSupport,
    /// The files are fetched.
    Downloading,
    /// They are there.
    Downloaded,
    /// The workspace.
    HomeVolume(&'a str),
    /// A network is made.
    CreatingNetwork {
        /// Its name.
        name: &'a str,
        /// `bridge`
        driver: &'a str,
    },
    /// It is there.
    CreatedNetwork(&'a str),
    /// It was there before.
    SkippedNetwork(&'a str),
    /// Where logins are kept.
    SettingUp,
    /// It is there.
    SetUp,
    /// A login begins.
    LoggingIn(&'a str),
    /// It worked.
    LoggedIn(&'a str),
    /// A step begins.
    Executing {
        /// Its id.
        id: &'a str,
        /// How long it may take, in seconds.
        timeout: u32,
        /// Where it begins.
        directory: &'a str,
        /// The network that it is in.
        network: &'a str,
    },
    /// It waits before it begins.
    StartDelay {
        /// Its id.
        id: &'a str,
        /// How long, in seconds.
        seconds: u32,
    },
    /// Its image is fetched in any case.
    ExplicitPull,
    /// The Dockerfile is read.
    Scanning,
    /// It is understood.
    Scanned,
    /// A container begins.
    Launching(&'a str),
    /// It has ended.
    Launched(&'a str),
    /// It has failed, and begins again.
    Retrying {
        /// The step's id.
        id: &'a str,
        /// After so many seconds.
        seconds: u32,
    },
    /// It has failed for good.
    NoRetries(&'a str),
    /// It has failed, which does not matter.
    Ignored {
        /// The step's id.
        id: &'a str,
        /// Why.
        error: &'a str,
    },
    /// An image is pushed.
    Pushing {
        /// Its name.
        image: &'a str,
        /// From 1.
        attempt: u32,
    },
    /// It is there.
    Pushed(&'a str),
    /// It is not, and is pushed again.
    PushRetry {
        /// Its name.
        image: &'a str,
        /// After so many seconds.
        seconds: u32,
    },
    /// Some are not.
    PushFailed,
    /// How a step ended.
    Marked {
        /// Its id.
        id: &'a str,
        /// How.
        status: StepStatus,
        /// After so many microseconds.
        micros: u64,
    },
    /// Digests of base images are looked up.
    Populating(&'a str),
    /// They are known.
    Populated(&'a str),
    /// What follows, without a time: see [`dependencies`].
    DependenciesFound,
}

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AliasSupport => f.write_str(
                "Alias support enabled for version >= 1.1.0, please see https://aka.ms/acr/tasks/task-aliases for more information.",
            ),
            Self::Downloading => f.write_str("Downloading source code..."),
            Self::Downloaded => f.write_str("Finished downloading source code"),
            Self::HomeVolume(name) => write!(f, "Using {name} as the home volume"),
            Self::CreatingNetwork { name, driver } => {
                write!(f, "Creating Docker network: {name}, driver: '{driver}'")
            }
            Self::CreatedNetwork(name) => write!(f, "Successfully set up Docker network: {name}"),
            Self::SkippedNetwork(name) => write!(f, "Skip creating network: {name}"),
            Self::SettingUp => f.write_str("Setting up Docker configuration..."),
            Self::SetUp => f.write_str("Successfully set up Docker configuration"),
            Self::LoggingIn(server) => write!(f, "Logging in to registry: {server}"),
            Self::LoggedIn(server) => write!(f, "Successfully logged into {server}"),
            Self::Executing { id, timeout, directory, network } => write!(
                f,
                "Executing step ID: {id}. Timeout(sec): {timeout}, Working directory: '{directory}', Network: '{network}'"
            ),
            Self::StartDelay { id, seconds } => write!(f, "Waiting {seconds} seconds before executing step ID: {id}"),
            Self::ExplicitPull => f.write_str("Step specified pull. Performing an explicit pull..."),
            Self::Scanning => f.write_str("Scanning for dependencies..."),
            Self::Scanned => f.write_str("Successfully scanned dependencies"),
            Self::Launching(id) => write!(f, "Launching container with name: {id}"),
            Self::Launched(id) => write!(f, "Successfully executed container: {id}"),
            Self::Retrying { id, seconds } => {
                write!(f, "Container failed during run: {id}, waiting {seconds} seconds before retrying...")
            }
            Self::NoRetries(id) => write!(f, "Container failed during run: {id}. No retries remaining."),
            Self::Ignored { id, error } => {
                write!(f, "Step ID: {id} encountered an error: {error}, but is set to ignore errors. Continuing...")
            }
            Self::Pushing { image, attempt } => write!(f, "Pushing image: {image}, attempt {attempt}"),
            Self::Pushed(image) => write!(f, "Successfully pushed image: {image}"),
            Self::PushRetry { image, seconds } => {
                write!(f, "Failed to push image: {image}, waiting {seconds} seconds before retrying...")
            }
            Self::PushFailed => f.write_str("failed to push images successfully"),
            Self::Marked { id, status, micros } => write!(
                f,
                "Step ID: {id} marked as {} (elapsed time in seconds: {}.{:06})",
                status.name(),
                micros / 1_000_000,
                micros % 1_000_000
            ),
            Self::Populating(id) => write!(f, "Populating digests for step ID: {id}..."),
            Self::Populated(id) => write!(f, "Successfully populated digests for step ID: {id}"),
            Self::DependenciesFound => f.write_str("The following dependencies were found:"),
        }
    }
}

/// The last line of a run that succeeded; it has no time before it.
pub fn succeeded(run_id: &str, seconds: u64) -> String {
    format!("{LINE_END}Run ID: {run_id} was successful after {seconds}s{LINE_END}")
}

/// The last line of a run that did not.
pub fn failed(run_id: &str, seconds: u64, error: &str) -> String {
    format!("Run ID: {run_id} failed after {seconds}s. Error: {error}{LINE_END}")
}

/// What a failed step makes of the run.
pub fn exit_status(code: i64) -> String {
    format!("failed during run, err: exit status {code}")
}

/// An image that was built, and what it was built on.
#[derive(Clone, Debug)]
pub struct BuiltImage<'a> {
    /// The image.
    pub image: &'a ImageName,
    /// What its last stage is based on.
    pub runtime: Option<&'a ImageName>,
    /// What its other stages are based on.
    pub buildtime: Vec<&'a ImageName>,
}

/// The lines behind [`LogLine::DependenciesFound`].
pub fn dependencies(images: &[BuiltImage<'_>]) -> String {
    let mut out = String::new();
    for built in images {
        out.push_str("- image:\r\n");
        image(&mut out, built.image, "    ", "    ");
        if let Some(base) = built.runtime {
            out.push_str("  runtime-dependency:\r\n");
            image(&mut out, base, "    ", "    ");
        }
        if !built.buildtime.is_empty() {
            out.push_str("  buildtime-dependency:\r\n");
            for base in &built.buildtime {
                image(&mut out, base, "  - ", "    ");
            }
        }
        out.push_str("  git: {}\r\n");
    }
    out.push_str(LINE_END);
    out
}

fn image(out: &mut String, image: &ImageName, first: &str, further: &str) {
    let empty = "\"\"".to_owned();
    let fields = [
        ("registry", Some(&image.registry)),
        ("repository", Some(&image.repository)),
        ("tag", image.tag.as_ref()),
        ("digest", image.digest.as_ref()),
    ];
    for (index, (name, value)) in fields.into_iter().enumerate() {
        out.push_str(if index == 0 { first } else { further });
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value.unwrap_or(&empty));
        out.push_str(LINE_END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_time() {
        let at = "2026-11-22T01:02:03.9Z".parse().unwrap();
        assert_eq!(
            stamped(at, &LogLine::LoggingIn("r.azurecr.io")),
            "2026/11/22 01:02:03 Logging in to registry: r.azurecr.io\r\n"
        );
    }

    #[test]
    fn texts() {
        let marked = LogLine::Marked { id: "build", status: StepStatus::Successful, micros: 12_000_345 };
        let executing = LogLine::Executing { id: "a", timeout: 600, directory: "", network: "acb_default_network" };
        for (line, expected) in [
            (marked, "Step ID: build marked as successful (elapsed time in seconds: 12.000345)"),
            (
                executing,
                "Executing step ID: a. Timeout(sec): 600, Working directory: '', Network: 'acb_default_network'",
            ),
            (LogLine::CreatingNetwork { name: "n", driver: "bridge" }, "Creating Docker network: n, driver: 'bridge'"),
            (
                LogLine::Retrying { id: "a", seconds: 5 },
                "Container failed during run: a, waiting 5 seconds before retrying...",
            ),
            (LogLine::NoRetries("a"), "Container failed during run: a. No retries remaining."),
            (LogLine::Pushing { image: "r/i:t", attempt: 1 }, "Pushing image: r/i:t, attempt 1"),
        ] {
            assert_eq!(line.to_string(), expected);
        }
        assert_eq!(
            failed("ca1", 7, &exit_status(1)),
            "Run ID: ca1 failed after 7s. Error: failed during run, err: exit status 1\r\n"
        );
        assert_eq!(succeeded("ca1", 7), "\r\nRun ID: ca1 was successful after 7s\r\n");
    }

    #[test]
    fn dependencies_are_yaml() {
        let name = |repository: &str| ImageName {
            registry: "r".into(),
            repository: repository.into(),
            tag: Some("1".into()),
            digest: None,
        };
        let (built, base, tool) = (name("app"), name("base"), name("tool"));
        let text = dependencies(&[BuiltImage { image: &built, runtime: Some(&base), buildtime: vec![&tool] }]);
        let node = crate::yaml::parse(&text).unwrap().unwrap();
        let crate::yaml::Tree::List(images) = node.tree else { panic!("a list: {text}") };
        for (key, expected) in [("image", "app"), ("runtime-dependency", "base")] {
            let found = images[0].get(key).and_then(|image| image.get("repository")).unwrap();
            assert!(matches!(&found.tree, crate::yaml::Tree::Scalar { text, .. } if text == expected), "{text}");
        }
    }
}
