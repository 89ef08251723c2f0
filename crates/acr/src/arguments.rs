//! The words of a command. Names, short forms and defaults are those of the tool that people know.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use postern_model::{Digest, RepositoryName, Secret, Tag};

/// One command with what it needs to log in.
#[derive(Clone, Debug, Args)]
pub struct Invocation {
    /// Registry name, or its login server.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub registry: Option<String>,
    /// Registry username.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub username: Option<String>,
    /// Registry password, or a refresh token where there is no username. Others on this machine may see it: prefer --password-stdin.
    #[arg(short, long, global = true, value_name = "PASSWORD", value_parser = secret, allow_hyphen_values = true)]
    pub password: Option<Secret>,
    /// Read the password from standard input.
    #[arg(long, global = true, conflicts_with = "password")]
    pub password_stdin: bool,
    /// docker configuration files to find the login in.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: AcrCommand,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum AcrCommand {
    /// Delete old tags, and manifests that nothing needs any more.
    Purge(PurgeArguments),
    /// List the tags of a repository, or delete some.
    Tag(TagArguments),
    /// List the manifests of a repository, or delete some.
    Manifest(ManifestArguments),
    /// Check a login, and keep it in docker's configuration file.
    Login(LoginArguments),
    /// Remove a login from docker's configuration file.
    Logout(LogoutArguments),
    /// Print the version.
    Version,
}

/// `purge`.
#[derive(Clone, Debug, Args)]
pub struct PurgeArguments {
    /// REPOSITORY:TAG, two regular expressions: the first matches whole names, the second any part. May be repeated.
    #[arg(short, long, value_name = "REPOSITORY:TAG")]
    pub filter: Vec<String>,
    /// Only what was last changed so long ago: a number of days and a Go duration, such as 7d, 2d3h6m or 36h.
    #[arg(long, value_name = "AGE", allow_hyphen_values = true)]
    pub ago: Option<String>,
    /// How many of the newest that would be deleted are kept, in each repository.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub keep: usize,
    /// Then also delete manifests without tags.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub untagged: bool,
    /// Delete only manifests without tags. --filter and --ago are optional then, and only the filters' first part counts.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub untagged_only: bool,
    /// Only say what would be deleted.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub dry_run: bool,
    /// Unlock what is locked against deletion or writing, and delete it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub include_locked: bool,
    /// How many requests at once, 1 to 32. Default: one per processor.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub concurrency: Option<i64>,
    /// How long one name may be matched with one filter.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", allow_hyphen_values = true)]
    pub filter_timeout_seconds: i64,
    /// How many repositories are asked for at once.
    #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub repository_page_size: u32,
    /// Say more.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub verbose: bool,
}

/// `tag`.
#[derive(Clone, Debug, Args)]
pub struct TagArguments {
    /// The repository name.
    #[arg(long, global = true, value_name = "NAME")]
    pub repository: Option<RepositoryName>,
    /// What to do.
    #[command(subcommand)]
    pub command: TagCommand,
}

/// What is done with tags.
#[derive(Clone, Debug, Subcommand)]
pub enum TagCommand {
    /// List tags from a repository.
    List,
    /// Delete tags from a repository. Their manifests stay.
    Delete {
        /// The tags.
        tags: Vec<Tag>,
    },
}

/// `manifest`.
#[derive(Clone, Debug, Args)]
pub struct ManifestArguments {
    /// The repository name.
    #[arg(long, global = true, value_name = "NAME")]
    pub repository: Option<RepositoryName>,
    /// What to do.
    #[command(subcommand)]
    pub command: ManifestCommand,
}

/// What is done with manifests.
#[derive(Clone, Debug, Subcommand)]
pub enum ManifestCommand {
    /// List manifests.
    List,
    /// Delete manifests, with their tags and whatever refers to them.
    Delete {
        /// The digests.
        digests: Vec<Digest>,
    },
}

/// `login`.
#[derive(Clone, Debug, Args)]
pub struct LoginArguments {
    /// The login server.
    #[arg(id = "login_server", value_name = "LOGIN SERVER")]
    pub server: String,
}

/// `logout`.
#[derive(Clone, Debug, Args)]
pub struct LogoutArguments {
    /// The login server.
    #[arg(id = "login_server", value_name = "LOGIN SERVER")]
    pub server: String,
}

/// A whole command line.
#[derive(Debug, Parser)]
#[command(name = "acr", disable_help_subcommand = true, arg_required_else_help = true)]
struct Words {
    #[command(flatten)]
    invocation: Invocation,
}

impl Invocation {
    /// Reads a command line, the name of the program first.
    pub fn from_words<W>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error>
    where
        W: Into<std::ffi::OsString> + Clone,
    {
        Words::try_parse_from(words).map(|words| words.invocation)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form that the parser wants")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &str, is_good: bool) {
        let outcome = Invocation::from_words(words.split(' '));
        assert_eq!(outcome.is_ok(), is_good, "{words}: {outcome:?}");
    }

    #[test]
    fn words() {
        check("acr purge --filter hello-world:.* --untagged --ago 1d --dry-run", true);
        check("acr -r myregistry purge -f a:b -f c:d --ago 0d --keep 3 -u u -p p -c config.json", true);
        check("acr purge -r myregistry --untagged-only --concurrency -1", true);
        check("acr purge --untagged=true --dry-run=false -f a:b --ago 1d", true);
        check("acr purge --filter a:b --ago -1d", true);
        check("acr tag list -r myregistry --repository app", true);
        check("acr tag --repository app delete -r myregistry 1 2 3", true);
        check("acr manifest list --repository app", true);
        check("acr login -u u --password-stdin myregistry.azurecr.io", true);
        check("acr tag list --repository app -u u -p -0GZ8tQY", true);
        check("acr version", true);
        check("acr", false);
        check("acr burn", false);
        check("acr purge --repository-page-size 0", false);
        check("acr purge --keep -1", false);
        check("acr tag list --repository App", false);
        check("acr manifest delete --repository app sha256:ab", false);
    }

    #[test]
    fn a_password_is_not_shown() {
        let words = ["acr", "version", "-p", "hunter2"];
        assert!(!format!("{:?}", Invocation::from_words(words)).contains("hunter2"));
    }
}
