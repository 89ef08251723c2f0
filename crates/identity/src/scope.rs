use std::fmt;

use postern_access::{Actions, TokenClaim};
use postern_model::RepositoryName;

use crate::TokenRefusal;

/// How many scopes one token may be asked for.
pub const MAX_SCOPES: usize = 64;
const MAX_SCOPE_BYTES: usize = 1024;

/// What a token is asked for, by one `scope` value.
///
/// Source: Docker registry token scope documentation; Azure Container Registry token service (read 2026-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `repository:<name>:<actions>`.
    Repository(RepositoryName, Actions),
    /// `registry:catalog:*`.
    Catalog,
    /// `registry:deleted_catalog:*`.
    DeletedCatalog,
}

impl Scope {
    /// Parses every `scope` parameter, each of which may hold several scopes between blanks.
    ///
    /// A scope of a type that this server does not have gives nothing and is no error: clients ask for more than one kind.
    pub fn parse_all<'a>(parameters: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, TokenRefusal> {
        let mut scopes = Vec::new();
        for (at, text) in parameters.into_iter().flat_map(str::split_ascii_whitespace).enumerate() {
            if at >= MAX_SCOPES {
                return Err(TokenRefusal::TooManyScopes);
            }
            scopes.extend(Self::parse(text)?);
        }
        Ok(scopes)
    }

    fn parse(text: &str) -> Result<Option<Self>, TokenRefusal> {
        if text.len() > MAX_SCOPE_BYTES {
            return Err(TokenRefusal::BadScope);
        }
        let (kind, rest) = text.split_once(':').ok_or(TokenRefusal::BadScope)?;
        let (name, actions) = rest.rsplit_once(':').ok_or(TokenRefusal::BadScope)?;
        match kind {
            "repository" => {
                let name = name.parse().map_err(|_| TokenRefusal::BadScope)?;
                let actions = actions
                    .split(',')
                    .fold(Actions::NONE, |all, word| all.union(Actions::from_scope_word(word.trim())));
                Ok(Some(Self::Repository(name, actions)))
            }
            "registry" if name == "catalog" => Ok((actions == "*").then_some(Self::Catalog)),
            "registry" if name == "deleted_catalog" => Ok((actions == "*").then_some(Self::DeletedCatalog)),
            _ => Ok(None),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name, actions) => write!(f, "repository:{name}:{actions}"),
            Self::Catalog => f.write_str("registry:catalog:*"),
            Self::DeletedCatalog => f.write_str("registry:deleted_catalog:*"),
        }
    }
}

/// What of the scopes is granted: asking for more than one has is no error.
pub(crate) fn granted(scopes: &[Scope], rights: impl Fn(Option<&RepositoryName>) -> Actions) -> TokenClaim {
    let mut claim = TokenClaim::default();
    for scope in scopes {
        match scope {
            Scope::Repository(name, asked) => {
                let allowed = asked.intersection(rights(Some(name)));
                match claim.repositories.iter_mut().find(|(known, _)| known == name) {
                    Some((_, actions)) => *actions = actions.union(allowed),
                    None => claim.repositories.push((name.clone(), allowed)),
                }
            }
            Scope::Catalog => claim.catalog |= rights(None).contains(postern_access::Action::CatalogRead),
            Scope::DeletedCatalog => {
                claim.deleted_catalog |= rights(None).contains(postern_access::Action::DeletedRead);
            }
        }
    }
    claim
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parameters: &[&str], expected: Result<&[&str], TokenRefusal>) {
        let scopes = Scope::parse_all(parameters.iter().copied());
        let shown = scopes.map(|scopes| scopes.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(shown, expected.map(|texts| texts.iter().map(ToString::to_string).collect()), "{parameters:?}");
    }

    #[test]
    fn scopes() {
        check(&[], Ok(&[]));
        check(&["", "  "], Ok(&[]));
        check(&["repository:a/b:pull"], Ok(&["repository:a/b:pull"]));
        check(
            &["repository:a:push,pull repository:b:pull", "registry:catalog:*"],
            Ok(&["repository:a:pull,push", "repository:b:pull", "registry:catalog:*"]),
        );
        check(&["repository:a:dance"], Ok(&["repository:a:"]));
        check(
            &["repository:a:*"],
            Ok(&[
                "repository:a:pull,push,delete,metadata_read,metadata_write,metadata_delete,deleted_read,deleted_restore",
            ]),
        );
        check(&["artifact-repository:a:pull", "registry:deleted_catalog:read", "registry:catalog:pull"], Ok(&[]));
        check(&["registry:deleted_catalog:*"], Ok(&["registry:deleted_catalog:*"]));
        for bad in ["repository", "repository:a", "repository:A:pull", "repository:a/../b:pull", "repository::pull"] {
            check(&[bad], Err(TokenRefusal::BadScope));
        }
        check(&[&"repository:a:pull ".repeat(MAX_SCOPES + 1)], Err(TokenRefusal::TooManyScopes));
        assert_eq!(Scope::parse_all([&*"repository:a:pull ".repeat(MAX_SCOPES)]).map(|all| all.len()), Ok(MAX_SCOPES));
    }

    #[test]
    fn the_same_repository_twice_is_one_entry() {
        let scopes = Scope::parse_all(["repository:a:pull repository:a:push,delete"]).unwrap();
        let rights = Actions::of(&[postern_access::Action::Pull, postern_access::Action::Push]);
        let claim = granted(&scopes, |_| rights);
        assert_eq!(claim.repositories, [("a".parse().unwrap(), rights)]);
        assert!(!claim.catalog);
    }
}
