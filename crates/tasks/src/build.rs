//! What stands behind `build:`, as values.

use crate::words;

/// A build of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// What the image is called.
    pub tags: Vec<String>,
    /// The Dockerfile's path; none for the one in the context.
    pub dockerfile: Option<String>,
    /// A path among the run's files, or a location.
    pub context: String,
    /// The stage to build.
    pub target: Option<String>,
    /// `NAME=value`, or `NAME` for what the environment says.
    pub arguments: Vec<String>,
    /// `name=value`
    pub labels: Vec<String>,
    /// Whether base images are pulled even if they are there.
    pub pull: bool,
    /// Whether layers of earlier builds are not used.
    pub no_cache: bool,
    /// `linux/arm64`
    pub platform: Option<String>,
    /// All other flags with their values, as they stand there.
    pub others: Vec<(String, Option<String>)>,
}

/// Why a line builds nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It cannot be taken apart.
    #[error(transparent)]
    Words(#[from] words::WordsError),
    /// There is no such flag.
    #[error("unknown flag: {0}")]
    Unknown(String),
    /// A flag lacks its value.
    #[error("flag needs an argument: {0}")]
    NoValue(String),
    /// A flag takes no value, or not this one.
    #[error("invalid argument {value:?} for {flag:?} flag")]
    Value {
        /// The flag.
        flag: String,
        /// What it was given.
        value: String,
    },
    /// Not one context.
    #[error("\"docker build\" requires exactly 1 argument, the context; here are {0}")]
    Contexts(usize),
}

/// Other flags with values that docker knows.
const WITH_VALUE: &[&str] = &[
    "--add-host",
    "--build-context",
    "--cache-from",
    "--cache-to",
    "--cgroup-parent",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--iidfile",
    "--isolation",
    "--memory",
    "--memory-swap",
    "--network",
    "--output",
    "--progress",
    "--secret",
    "--security-opt",
    "--shm-size",
    "--ssh",
    "--ulimit",
];
/// Other flags without.
const WITHOUT_VALUE: &[&str] = &["--compress", "--force-rm", "--load", "--quiet", "--rm", "--squash"];

/// The long name of a short flag.
fn long(short: char) -> Option<&'static str> {
    Some(match short {
        't' => "--tag",
        'f' => "--file",
        'm' => "--memory",
        'c' => "--cpu-shares",
        'o' => "--output",
        'q' => "--quiet",
        _ => return None,
    })
}

impl Build {
    /// Reads a command line.
    pub fn parse(line: &str) -> Result<Self, BuildError> {
        Self::from_words(words::split(line)?)
    }

    fn from_words(words: Vec<String>) -> Result<Self, BuildError> {
        let mut build = Self::default();
        let mut contexts = Vec::new();
        let mut words = words.into_iter();
        let mut only_contexts = false;
        while let Some(word) = words.next() {
            if only_contexts || word == "-" || !word.starts_with('-') {
                contexts.push(word);
                continue;
            }
            if word == "--" {
                only_contexts = true;
                continue;
            }
            let (flag, value) = Self::flag(&word)?;
            let takes_value =
                matches!(flag.as_str(), "--tag" | "--file" | "--target" | "--build-arg" | "--label" | "--platform")
                    || WITH_VALUE.contains(&flag.as_str());
            let value = match (takes_value, value) {
                (true, None) => Some(words.next().ok_or_else(|| BuildError::NoValue(word.clone()))?),
                (_, value) => value,
            };
            build.set(flag, value)?;
        }
        match <[String; 1]>::try_from(contexts) {
            Ok([context]) => Ok(Self { context, ..build }),
            Err(contexts) => Err(BuildError::Contexts(contexts.len())),
        }
    }

    /// `--flag`, `--flag=value`, `-f` or `-fvalue`
    fn flag(word: &str) -> Result<(String, Option<String>), BuildError> {
        if word.starts_with("--") {
            return Ok(match word.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            });
        }
        let mut rest = word.chars().skip(1);
        let flag = rest.next().and_then(long).ok_or_else(|| BuildError::Unknown(word.to_owned()))?;
        let value: String = rest.collect();
        let value = value.strip_prefix('=').unwrap_or(&value);
        Ok((flag.to_owned(), (!value.is_empty()).then(|| value.to_owned())))
    }

    fn set(&mut self, flag: String, value: Option<String>) -> Result<(), BuildError> {
        let text = value.clone().unwrap_or_default();
        match flag.as_str() {
            "--tag" => self.tags.push(text),
            "--file" => self.dockerfile = Some(text),
            "--target" => self.target = Some(text),
            "--build-arg" => self.arguments.push(text),
            "--label" => self.labels.push(text),
            "--platform" => self.platform = Some(text),
            "--pull" => self.pull = truth(&flag, value.as_deref())?,
            "--no-cache" => self.no_cache = truth(&flag, value.as_deref())?,
            other if WITH_VALUE.contains(&other) => self.others.push((flag, value)),
            other if WITHOUT_VALUE.contains(&other) => {
                if truth(&flag, value.as_deref())? {
                    self.others.push((flag, None));
                }
            }
            _ => return Err(BuildError::Unknown(flag)),
        }
        Ok(())
    }
}

fn truth(flag: &str, value: Option<&str>) -> Result<bool, BuildError> {
    match value {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(BuildError::Value { flag: flag.to_owned(), value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let found = Build::parse(line).map_or_else(
            |error| format!("! {error}"),
            |build| {
                format!(
                    "{} {:?} {} {:?} {:?} {:?} {} {} {:?} {:?}",
                    build.tags.join(","),
                    build.dockerfile,
                    build.context,
                    build.target,
                    build.arguments,
                    build.labels,
                    build.pull,
                    build.no_cache,
                    build.platform,
                    build.others
                )
            },
        );
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn lines() {
        check(
            "-t r/a:1 --tag=r/b -f ./Dockerfile .",
            r#"r/a:1,r/b Some("./Dockerfile") . None [] [] false false None []"#,
        );
        check(
            "--build-arg A='1 2' --build-arg=B --target test --label x=y --pull --no-cache=false --platform linux/arm64 dir",
            r#" None dir Some("test") ["A=1 2", "B"] ["x=y"] true false Some("linux/arm64") []"#,
        );
        check(
            "-m 2GB --network=host -q --rm=false https://host/x.git#main:src",
            r#" None https://host/x.git#main:src None [] [] false false None [("--memory", Some("2GB")), ("--network", Some("host")), ("--quiet", None)]"#,
        );
        check("-tr/a -fD -- -", r#"r/a Some("D") - None [] [] false false None []"#);
    }

    #[test]
    fn what_is_refused() {
        check("-t a", "! \"docker build\" requires exactly 1 argument, the context; here are 0");
        check("-t a . .", "! \"docker build\" requires exactly 1 argument, the context; here are 2");
        check("--nope .", "! unknown flag: --nope");
        check("-z .", "! unknown flag: -z");
        check(". -t", "! flag needs an argument: -t");
        check("--pull=maybe .", "! invalid argument \"maybe\" for \"--pull\" flag");
        check("-t 'a .", "! command contains an unterminated '\\'' quote");
    }
}
