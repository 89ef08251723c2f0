use crate::error::{ArmError, Condition};

/// Longest `$filter` accepted.
const MAX_FILTER_BYTES: usize = 2048;

/// One term of a `$filter`; terms are joined by `and`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    /// `name eq 'value'`.
    Equals(String, String),
    /// `name('value')`, `name()`.
    Call(String, String),
    /// `startswith(name, 'value')`.
    StartsWith(String, String),
    /// `name/any(x:x eq 'value')`.
    Any(String, String),
    /// `contains(name, 'value')`.
    Contains(String, String),
    /// `name ge value`, with a value in quotes or a time without.
    AtLeast(String, String),
    /// `name le value`, the same.
    AtMost(String, String),
}

impl Term {
    /// What it is about.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Equals(name, _)
            | Self::Call(name, _)
            | Self::StartsWith(name, _)
            | Self::Any(name, _)
            | Self::Contains(name, _)
            | Self::AtLeast(name, _)
            | Self::AtMost(name, _) => name,
        }
    }
}

/// Reads a `$filter`. Names come in lower case.
pub(crate) fn parse(text: Option<&str>) -> Result<Vec<Term>, ArmError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let invalid = || {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
        ArmError::new(Condition::InvalidFilter, format!("Invalid $filter '{shown}' specified in the query string."))
    };
    if text.len() > MAX_FILTER_BYTES {
        return Err(invalid());
    }
    let mut terms = Vec::new();
    let mut rest = text;
    loop {
        let (term, after) = term(rest).ok_or_else(invalid)?;
        terms.push(term);
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(terms);
        }
        rest = keyword(after, "and").ok_or_else(invalid)?;
    }
}

fn term(text: &str) -> Option<(Term, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '.')?;
    let (name, rest) = text.split_at_checked(end)?;
    let name = Some(name.to_ascii_lowercase()).filter(|name| !name.is_empty())?;
    let rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('(') {
        let inner = inner.trim_start();
        if let Some(found) = function(&name, inner) {
            return Some(found);
        }
        let (value, after) = if inner.starts_with('\'') { literal(inner)? } else { (String::new(), inner) };
        return Some((Term::Call(name, value), after.trim_start().strip_prefix(')')?));
    }
    for (word, make) in [("ge", Term::AtLeast as fn(String, String) -> Term), ("le", Term::AtMost)] {
        if let Some(value) = keyword(rest, word) {
            let (value, after) = literal(value.trim_start()).or_else(|| time(value.trim_start()))?;
            return Some((make(name, value), after));
        }
    }
    let (value, after) = literal(keyword(rest, "eq")?.trim_start())?;
    Some((Term::Equals(name, value), after))
}

/// A time as it stands.
fn time(text: &str) -> Option<(String, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.+".contains(c);
    let (value, after) = text.split_at_checked(text.find(|c| !is_part(c)).unwrap_or(text.len()))?;
    value.starts_with(|c: char| c.is_ascii_digit()).then(|| (value.to_owned(), after))
}

/// What stands inside of `startswith(…)`, `contains(…)` and `…/any(…)`.
fn function<'a>(name: &str, inner: &'a str) -> Option<(Term, &'a str)> {
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (word, rest) = inner.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
    let rest = rest.trim_start();
    let of_word = match name {
        "startswith" => Some(Term::StartsWith as fn(String, String) -> Term),
        "contains" => Some(Term::Contains as fn(String, String) -> Term),
        _ => None,
    };
    let (term, after) = if let Some(of_word) = of_word {
        let (value, after) = literal(rest.strip_prefix(',')?.trim_start())?;
        (of_word(word.to_ascii_lowercase(), value), after)
    } else {
        let list = name.strip_suffix("/any")?;
        let condition = rest.strip_prefix(':')?.trim_start().strip_prefix(word)?;
        let (value, after) = literal(keyword(condition.trim_start(), "eq")?.trim_start())?;
        (Term::Any(list.to_owned(), value), after)
    };
    Some((term, after.trim_start().strip_prefix(')')?))
}

fn keyword<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    (start.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// A text in single quotes; two of them stand for one.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[Term]>) {
        assert_eq!(parse(Some(text)).ok().as_deref(), expected, "{text}");
    }

    #[test]
    fn filters() {
        let equals = |name: &str, value: &str| Term::Equals(name.into(), value.into());
        let call = |name: &str, value: &str| Term::Call(name.into(), value.into());
        check("", Some(&[]));
        check("resourceType eq 'A/b'", Some(&[equals("resourcetype", "A/b")]));
        check(
            "resourceGroup eq 'it''s' AND resourceType EQ 'x'",
            Some(&[equals("resourcegroup", "it's"), equals("resourcetype", "x")]),
        );
        let starts = |name: &str, value: &str| Term::StartsWith(name.into(), value.into());
        check("startswith(displayName,'a')", Some(&[starts("displayname", "a")]));
        check("startswith( displayName , 'a' ) and x eq 'y'", Some(&[starts("displayname", "a"), equals("x", "y")]));
        let any = Term::Any("serviceprincipalnames".into(), "x".into());
        check("servicePrincipalNames/any(c:c eq 'x')", Some(&[any]));
        let contains = Term::Contains("outputimagemanifests".into(), "r@sha256:a".into());
        check(
            "TaskName eq 't' and contains(OutputImageManifests, 'r@sha256:a')",
            Some(&[equals("taskname", "t"), contains]),
        );
        let (from, to) = ("2026-11-22T01:02:03Z".to_owned(), "2026-11-23".to_owned());
        check(
            "CreateTime ge 2026-11-22T01:02:03Z and CreateTime le '2026-11-23'",
            Some(&[Term::AtLeast("createtime".into(), from), Term::AtMost("createtime".into(), to)]),
        );
        check("atScope()", Some(&[call("atscope", "")]));
        check("atScope() and assignedTo('x')", Some(&[call("atscope", ""), call("assignedto", "x")]));
        for bad in [
            "x",
            "x eq",
            "x eq 'y",
            "x eq y",
            "x eq 'y' or z eq 'w'",
            "x ne 'y'",
            "x eq 'y' and",
            "f(",
            "f('x'",
            "startswith(a)",
            "startswith(a,b)",
            "contains(a)",
            "x ge",
            "x ge y",
            "a/any(c:d eq 'x')",
            "a/any(c:c eq 'x'",
            "eq 'x'",
        ] {
            check(bad, None);
        }
        check(&format!("x eq '{}'", "y".repeat(MAX_FILTER_BYTES)), None);
    }
}
