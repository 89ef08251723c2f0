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
    let (value, after) = literal(keyword(rest, "eq")?.trim_start())?;
    Some((Term::Equals(name, value), after))
}

/// What stands inside of `startswith(…)` and `…/any(…)`.
fn function<'a>(name: &str, inner: &'a str) -> Option<(Term, &'a str)> {
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (word, rest) = inner.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
    let rest = rest.trim_start();
    let (term, after) = if name == "startswith" {
        let (value, after) = literal(rest.strip_prefix(',')?.trim_start())?;
        (Term::StartsWith(word.to_ascii_lowercase(), value), after)
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
            "a/any(c:d eq 'x')",
            "a/any(c:c eq 'x'",
            "eq 'x'",
        ] {
            check(bad, None);
        }
        check(&format!("x eq '{}'", "y".repeat(MAX_FILTER_BYTES)), None);
    }
}
