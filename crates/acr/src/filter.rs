//! `--filter REPOSITORY:TAG`: two regular expressions.
//!
//! The tool that people know matches with a backtracking engine in its RE2 mode, with a time limit per match. Filters with lookaheads are
//! in wide use (`app:^(?!latest$)`), so that an engine without them would not do; this one has them and counts its backtracking, so
//! that the same filter has the same outcome on every machine. What the two engines would read differently is refused.

use fancy_regex::{Regex, RegexBuilder};
use postern_model::{RepositoryName, Tag};

/// Longest filter.
const MAX_FILTER_BYTES: usize = 4096;
/// Most filters of one command.
const MAX_FILTERS: usize = 1000;
/// Largest compiled piece of an expression.
const MAX_COMPILED_BYTES: usize = 4 << 20;
/// What a second of `--filter-timeout-seconds` is taken for. Any machine backtracks at least as often in a second.
const BACKTRACKS_PER_SECOND: u64 = 100_000;

/// Filters that were understood.
#[derive(Debug)]
pub struct Filters(Vec<Filter>);

#[derive(Debug)]
struct Filter {
    repository: Regex,
    tag: Regex,
}

/// What matches the tags of one repository.
#[derive(Debug)]
pub(crate) struct TagFilter<'a>(Vec<&'a Regex>);

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is not exactly one colon that separates.
    #[error("unable to correctly parse filter flag {0:?}: write REPOSITORY:TAG, two regular expressions")]
    NotTwo(String),
    /// Nothing in front of the colon.
    #[error("missing repository name/expression in filter {0:?}")]
    NoRepository(String),
    /// Nothing behind the colon.
    #[error("missing tag name/expression in filter {0:?}")]
    NoTag(String),
    /// Too many, or too long.
    #[error("a filter has at most {MAX_FILTER_BYTES} bytes, a command at most {MAX_FILTERS} filters")]
    TooLarge,
    /// No regular expression.
    #[error("{expression:?} is no regular expression that can be used: {why}")]
    BadExpression {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        why: String,
    },
    /// Engines read it differently.
    #[error("{expression:?} means one thing here and another elsewhere: {why}")]
    Ambiguous {
        /// The expression.
        expression: String,
        /// What is ambiguous.
        why: &'static str,
    },
    /// Matching takes too long.
    #[error("matching {text:?} backtracks too often: write a simpler filter, or raise --filter-timeout-seconds")]
    TooSlow {
        /// What was being matched.
        text: String,
    },
}

impl Filters {
    /// Reads filters.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>, timeout_seconds: u64) -> Result<Self, FilterError> {
        let backtracks = usize::try_from(timeout_seconds.max(1).saturating_mul(BACKTRACKS_PER_SECOND));
        let backtracks = backtracks.unwrap_or(usize::MAX);
        let mut filters = Vec::new();
        for text in texts {
            if filters.len() == MAX_FILTERS || text.len() > MAX_FILTER_BYTES {
                return Err(FilterError::TooLarge);
            }
            let (repository, tag) = split(text)?;
            // In a group: `a|b` is one of the two names, and not whatever begins with `a` or ends with `b`.
            let repository = compile(repository, |expression| format!("^(?:{expression})$"), backtracks)?;
            filters.push(Filter { repository, tag: compile(tag, str::to_owned, backtracks)? });
        }
        Ok(Self(filters))
    }

    /// What of the filters is about this repository; `None` where none is.
    pub(crate) fn of(&self, repository: &RepositoryName) -> Result<Option<TagFilter<'_>>, FilterError> {
        let mut tags = Vec::new();
        for filter in &self.0 {
            if is_match(&filter.repository, repository.as_str())? {
                tags.push(&filter.tag);
            }
        }
        Ok((!tags.is_empty()).then_some(TagFilter(tags)))
    }

    /// Whether any filter takes a tag of this repository.
    pub fn matches(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, FilterError> {
        self.of(repository)?.map_or(Ok(false), |tags| tags.matches(tag))
    }
}

impl TagFilter<'_> {
    pub(crate) fn matches(&self, tag: &Tag) -> Result<bool, FilterError> {
        for expression in &self.0 {
            if is_match(expression, tag.as_str())? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_match(expression: &Regex, text: &str) -> Result<bool, FilterError> {
    expression.is_match(text).map_err(|_| FilterError::TooSlow { text: text.to_owned() })
}

/// At the only colon that belongs to neither `(?:` nor a class such as `[:alpha:]`.
fn split(filter: &str) -> Result<(&str, &str), FilterError> {
    let mut separators = filter.match_indices(':').filter(|(at, _)| {
        let (before, after) = (filter.get(..*at).unwrap_or_default(), filter.get(at + 1..).unwrap_or_default());
        !(opens_group(before) || before.trim_end_matches('^').ends_with('[') || after.starts_with(']'))
    });
    let (at, only) = (separators.next(), separators.next().is_none());
    let parts = at.filter(|_| only).and_then(|(at, _)| Some((filter.get(..at)?, filter.get(at + 1..)?)));
    match parts {
        None => Err(FilterError::NotTwo(filter.to_owned())),
        Some(("", _)) => Err(FilterError::NoRepository(filter.to_owned())),
        Some((_, "")) => Err(FilterError::NoTag(filter.to_owned())),
        Some(parts) => Ok(parts),
    }
}

/// Whether the text ends with `(?` and at most five flags.
fn opens_group(before: &str) -> bool {
    let without = before.trim_end_matches(['i', 'm', 's', 'U', '-']);
    before.len() - without.len() <= 5 && without.ends_with("(?")
}

fn compile(expression: &str, anchored: impl Fn(&str) -> String, backtracks: usize) -> Result<Regex, FilterError> {
    if let Some(why) = ambiguity(expression) {
        return Err(FilterError::Ambiguous { expression: expression.to_owned(), why });
    }
    let build = |text: &str| {
        RegexBuilder::new(text).backtrack_limit(backtracks).delegate_size_limit(MAX_COMPILED_BYTES).build()
    };
    // By itself first: `)(` would become one in a group.
    build(expression).and_then(|_| build(&anchored(expression))).map_err(|error| FilterError::BadExpression {
        expression: expression.to_owned(),
        why: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })
}

/// What is a set operation in one engine's classes and plain characters, or another operation, in the other's.
fn ambiguity(expression: &str) -> Option<&'static str> {
    let mut class = None;
    let mut rest = expression.char_indices();
    while let Some((at, c)) = rest.next() {
        let following = expression.get(at + c.len_utf8()..).unwrap_or_default();
        match (c, class) {
            ('\\', _) => {
                rest.next();
            }
            ('[', None) => {
                // A bracket right behind the opening one is a plain character.
                let first = following.strip_prefix('^').unwrap_or(following);
                class = Some(expression.len() - first.len());
            }
            ('[', Some(_)) if following.starts_with(':') => {
                let Some(end) = following.find(":]") else {
                    return Some("a bracket inside of brackets; write \\[ for the character");
                };
                let _ = rest.by_ref().take_while(|(now, _)| *now < at + 1 + end + 1).count();
            }
            ('[', Some(_)) => return Some("a bracket inside of brackets; write \\[ for the character"),
            (']', Some(first)) if at > first => class = None,
            ('&' | '~' | '-', Some(_)) if following.starts_with(c) => {
                return Some("&&, ~~ or -- inside of brackets; write each character once");
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
