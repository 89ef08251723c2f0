//! Addresses, scopes and patterns, as text.

use crate::Mutation;

/// An IPv4 address as a number.
fn number(address: &str) -> Option<u64> {
    let parts: Vec<&str> = address.split('.').collect();
    if parts.len() != 4 {
        return None;
    }
    parts.iter().try_fold(0u64, |sum, part| Some(sum * 256 + part.parse::<u64>().ok().filter(|part| *part < 256)?))
}

/// Whether an IPv4 address lies in a rule: `a.b.c.d` or `a.b.c.d/n`. Two addresses share a block of 2^(32-n) when they have the same
/// quotient by it.
pub fn address_in_range(address: &str, rule: &str, mutation: Option<Mutation>) -> bool {
    let (network, bits) = rule.split_once('/').unwrap_or((rule, "32"));
    let mut bits: u32 = bits.parse().expect("a prefix length");
    if mutation == Some(Mutation::PrefixOneShort) {
        bits = bits.saturating_sub(1);
    }
    if mutation == Some(Mutation::PrefixOneLong) {
        bits = (bits + 1).min(32);
    }
    let block = 2u64.pow(32 - bits);
    match (number(address), number(network)) {
        (Some(address), Some(network)) => address / block == network / block,
        _ => false,
    }
}

/// Whether a resource id is a scope or below it: the scope's segments are its first ones.
pub fn within(id: &str, scope: &str, mutation: Option<Mutation>) -> bool {
    if mutation == Some(Mutation::ScopePrefixInsideSegment) {
        return id.to_lowercase().starts_with(&scope.trim_end_matches('/').to_lowercase());
    }
    let mut id = id.split('/').filter(|segment| !segment.is_empty());
    let same = |left: &str, right: &str| match mutation {
        Some(Mutation::ScopeCaseCounts) => left == right,
        _ => left.eq_ignore_ascii_case(right),
    };
    scope.split('/').filter(|segment| !segment.is_empty()).all(|part| id.next().is_some_and(|own| same(own, part)))
}

/// Whether an operation's name is covered by a pattern: `*` is any run of characters, case does not count.
pub fn covers(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `StringLike`: `*` any run, `?` any one, a backslash takes the next one as it is.
pub(crate) fn like(text: &[char], pattern: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=text.len()).any(|skipped| like(&text[skipped..], rest)),
        (['?', rest @ ..], [_, after @ ..]) => like(after, rest),
        (['\\', literal, rest @ ..] | [literal, rest @ ..], [first, after @ ..]) => {
            first == literal && like(after, rest)
        }
        _ => false,
    }
}
