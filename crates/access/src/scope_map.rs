use std::collections::BTreeMap;

use postern_model::RepositoryName;

use crate::{Action, Actions};

/// Most actions in one scope map.
///
/// Source: Azure Container Registry, "Repository-scoped permissions", limits (read 2026-11).
pub const MAX_SCOPE_MAP_ACTIONS: usize = 500;

/// Most repositories, wildcards counted as one each, in one scope map.
///
/// Source: Azure Container Registry, "Repository-scoped permissions", limits (read 2026-11).
pub const MAX_SCOPE_MAP_REPOSITORIES: usize = 500;

/// The scope maps that every registry has: name and actions.
///
/// Source: Azure Container Registry, "Repository-scoped permissions", system-defined scope maps (read 2026-11).
pub const SYSTEM_SCOPE_MAPS: [(&str, &[&str]); 5] = [
    (
        "_repositories_admin",
        &[
            "repositories/*/metadata/read",
            "repositories/*/metadata/write",
            "repositories/*/content/read",
            "repositories/*/content/write",
            "repositories/*/content/delete",
        ],
    ),
    ("_repositories_pull", &["repositories/*/content/read"]),
    ("_repositories_pull_metadata_read", &["repositories/*/content/read", "repositories/*/metadata/read"]),
    ("_repositories_push", &["repositories/*/content/read", "repositories/*/content/write"]),
    (
        "_repositories_push_metadata_write",
        &[
            "repositories/*/metadata/read",
            "repositories/*/metadata/write",
            "repositories/*/content/read",
            "repositories/*/content/write",
        ],
    ),
];

/// What a scope map allows, per repository: `repositories/<name>/content/read` and its siblings.
///
/// The name may be `*` or end in `/*`, which covers every repository below, those to come included. Entries add up. Pushing
/// needs `content/write` and `content/read`; nothing here ever lists the catalog.
///
/// Source: Azure Container Registry, "Repository-scoped permissions", actions and wildcards (read 2026-11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeMapActions {
    exact: BTreeMap<Box<str>, Actions>,
    /// By what comes before the `*`: empty, or ending in `/`.
    prefixes: BTreeMap<Box<str>, Actions>,
}

/// Why a text is not one of a scope map's actions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeMapError {
    /// More than [`MAX_SCOPE_MAP_ACTIONS`].
    #[error("a scope map holds at most {MAX_SCOPE_MAP_ACTIONS} actions")]
    TooManyActions,
    /// More than [`MAX_SCOPE_MAP_REPOSITORIES`].
    #[error("a scope map names at most {MAX_SCOPE_MAP_REPOSITORIES} repositories")]
    TooManyRepositories,
    /// Neither of the two forms.
    #[error("`{0}` is not an action: use `repositories/<name>/<action>` or `gateway/<name>/<action>`")]
    Form(Box<str>),
    /// The form is right, the verb is not.
    #[error(
        "`{0}` ends in no known action: use `content/read`, `content/write`, `content/delete`, `metadata/read` or \
         `metadata/write` for a repository, `config/read`, `config/write`, `message/read` or `message/write` for a gateway"
    )]
    Verb(Box<str>),
    /// A `*` in the wrong place.
    #[error("`{0}` has a wildcard in the wrong place: only the whole name or its last segment may be `*`")]
    Wildcard(Box<str>),
    /// Not a repository's name.
    #[error("`{0}` does not hold a repository name")]
    Repository(Box<str>),
}

impl ScopeMapActions {
    /// Reads the lines of a scope map's `actions`. Those for gateways (connected registries) are checked and set aside: they
    /// give no rights on content.
    pub fn parse<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Result<Self, ScopeMapError> {
        let mut map = Self::default();
        for (count, line) in lines.into_iter().enumerate() {
            if count >= MAX_SCOPE_MAP_ACTIONS {
                return Err(ScopeMapError::TooManyActions);
            }
            map.add(line.as_ref())?;
        }
        if map.exact.len() + map.prefixes.len() > MAX_SCOPE_MAP_REPOSITORIES {
            return Err(ScopeMapError::TooManyRepositories);
        }
        Ok(map)
    }

    /// What the scope map allows on the repository.
    pub fn allows(&self, repository: &RepositoryName) -> Actions {
        let name = repository.as_str();
        let exact = self.exact.get(name).copied().unwrap_or_default();
        let everywhere = self.prefixes.get("").copied().unwrap_or_default();
        let ends = name.match_indices('/').map(|(at, slash)| at + slash.len());
        ends.filter_map(|end| self.prefixes.get(name.get(..end)?))
            .fold(exact.union(everywhere), |all, &actions| all.union(actions))
    }

    fn add(&mut self, line: &str) -> Result<(), ScopeMapError> {
        let form = || ScopeMapError::Form(shortened(line));
        let (kind, rest) = line.split_once('/').ok_or_else(form)?;
        let (name, verb) =
            rest.rmatch_indices('/').nth(1).and_then(|(at, _)| rest.split_at_checked(at)).ok_or_else(form)?;
        match kind {
            "repositories" => {
                let action = repository_action(verb).ok_or_else(|| ScopeMapError::Verb(shortened(line)))?;
                self.add_repository(name, action, line)
            }
            "gateway" if !is_gateway_verb(verb) => Err(ScopeMapError::Verb(shortened(line))),
            "gateway" if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) => Err(form()),
            "gateway" => Ok(()),
            _ => Err(form()),
        }
    }

    fn add_repository(&mut self, name: &str, action: Action, line: &str) -> Result<(), ScopeMapError> {
        let actions = match name.strip_suffix('*') {
            Some("") => self.prefixes.entry("".into()).or_default(),
            Some(prefix) => {
                let parent = prefix.strip_suffix('/').filter(|parent| !parent.contains('*'));
                let parent = parent.ok_or_else(|| ScopeMapError::Wildcard(shortened(line)))?;
                check_name(parent, line)?;
                self.prefixes.entry(prefix.into()).or_default()
            }
            None if name.contains('*') => return Err(ScopeMapError::Wildcard(shortened(line))),
            None => {
                check_name(name, line)?;
                self.exact.entry(name.into()).or_default()
            }
        };
        actions.insert(action);
        Ok(())
    }
}

fn check_name(name: &str, line: &str) -> Result<(), ScopeMapError> {
    name.parse::<RepositoryName>().map(drop).map_err(|_| ScopeMapError::Repository(shortened(line)))
}

fn repository_action(verb: &str) -> Option<Action> {
    match verb {
        "/content/read" => Some(Action::Pull),
        "/content/write" => Some(Action::Push),
        "/content/delete" => Some(Action::Delete),
        "/metadata/read" => Some(Action::MetadataRead),
        "/metadata/write" => Some(Action::MetadataWrite),
        _ => None,
    }
}

fn is_gateway_verb(verb: &str) -> bool {
    matches!(verb, "/config/read" | "/config/write" | "/message/read" | "/message/write")
}

/// As much of a line as a message should repeat: the longest valid one fits.
fn shortened(line: &str) -> Box<str> {
    const LONGEST: usize = 300;
    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], repository: &str, expected: &str) {
        let map = ScopeMapActions::parse(lines).unwrap();
        assert_eq!(map.allows(&repository.parse().unwrap()).to_string(), expected, "{repository} by {lines:?}");
    }

    #[test]
    fn entries_add_up() {
        let lines = [
            "repositories/team/app/content/read",
            "repositories/team/app/content/write",
            "repositories/team/*/metadata/read",
            "repositories/team/app/*/content/delete",
            "repositories/content/read/content/read",
            "gateway/edge1/config/read",
            "gateway/edge1/message/write",
        ];
        for (repository, expected) in [
            ("team/app", "pull,push,metadata_read"),
            ("team/other", "metadata_read"),
            ("team/app/web", "delete,metadata_read"),
            ("team/app/web/x", "delete,metadata_read"),
            ("team", ""),
            ("team2/app", ""),
            ("teams/app", ""),
            ("content/read", "pull"),
            ("edge1", ""),
        ] {
            check(&lines, repository, expected);
        }
        check(&[], "team/app", "");
        check(&["repositories/*/content/read"], "a", "pull");
        check(&["repositories/*/content/read", "repositories/a/metadata/write"], "a", "pull,metadata_write");
        check(&["repositories/*/content/read", "repositories/a/metadata/write"], "b/c/d", "pull");
    }

    #[test]
    fn system_maps() {
        for (name, expected) in [
            ("_repositories_admin", "pull,push,delete,metadata_read,metadata_write"),
            ("_repositories_pull", "pull"),
            ("_repositories_pull_metadata_read", "pull,metadata_read"),
            ("_repositories_push", "pull,push"),
            ("_repositories_push_metadata_write", "pull,push,metadata_read,metadata_write"),
        ] {
            let (_, lines) = SYSTEM_SCOPE_MAPS.iter().find(|(known, _)| *known == name).unwrap();
            check(lines, "any/name", expected);
        }
    }

    #[test]
    fn refusals() {
        type Make = fn(Box<str>) -> ScopeMapError;
        let rows: [(Make, &[&str]); 4] = [
            (
                ScopeMapError::Form,
                &[
                    "",
                    "repositories",
                    "repositories/app",
                    "repositories/content/read",
                    "app/content/read",
                    "registries/app/content/read",
                    "gateway//config/read",
                    "gateway/a/b/config/read",
                ],
            ),
            (
                ScopeMapError::Verb,
                &[
                    "repositories/app/content/*",
                    "repositories/app/metadata/delete",
                    "repositories/app/config/read",
                    "repositories/app/content/Read",
                    "repositories/app/content/read/",
                    "gateway/edge/content/read",
                ],
            ),
            (
                ScopeMapError::Wildcard,
                &[
                    "repositories/a*/content/read",
                    "repositories/*a/content/read",
                    "repositories/**/content/read",
                    "repositories/a/*/b/content/read",
                    "repositories/a/*/b/*/content/read",
                    "repositories/*/*/content/read",
                    "repositories/a/b*/content/read",
                ],
            ),
            (
                ScopeMapError::Repository,
                &[
                    "repositories/App/content/read",
                    "repositories//content/read",
                    "repositories/a//b/content/read",
                    "repositories/../content/read",
                    "repositories//*/content/read",
                    "repositories/A/*/content/read",
                    "repositories/a b/content/read",
                ],
            ),
        ];
        for (make, lines) in rows {
            for &line in lines {
                assert_eq!(ScopeMapActions::parse([line]), Err(make(line.into())), "{line}");
            }
        }
    }

    #[test]
    fn limits_at_the_edge_and_one_past() {
        let lines = |count| (0..count).map(|at| format!("repositories/r{at}/content/read"));
        assert!(ScopeMapActions::parse(lines(MAX_SCOPE_MAP_ACTIONS)).is_ok());
        assert_eq!(ScopeMapActions::parse(lines(MAX_SCOPE_MAP_ACTIONS + 1)), Err(ScopeMapError::TooManyActions));
    }
}
