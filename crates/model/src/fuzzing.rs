//! What holds for names and values, whatever text they are read from.

use std::fmt::Display;
use std::str::FromStr;

use crate::{
    Digest, IpRule, IpRuleMode, MAX_REPOSITORY_NAME_BYTES, PrincipalId, Reference, RegistryName, RepositoryName,
    ResourceId, Tag, Timestamp,
};

/// One text, read as everything.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(name) = same::<RepositoryName>(text) {
        assert!(text.len() <= MAX_REPOSITORY_NAME_BYTES && !text.starts_with('/') && !text.ends_with('/'));
        assert!(!name.as_str().contains("..") && !text.contains("//"));
        assert!(text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/')));
    }
    if same::<Tag>(text).is_some() {
        assert!(text.len() <= 128 && !text.contains(['/', ':', '%']) && !text.starts_with('.'));
        assert!(matches!(text.parse::<Reference>(), Ok(Reference::Tag(_))));
    }
    if let Some(digest) = same::<Digest>(text) {
        assert_eq!(text.split_once(':').map(|(_, hex)| hex), Some(&*digest.hex()));
        assert!(matches!(text.parse::<Reference>(), Ok(Reference::Digest(_))));
    }
    same::<Reference>(text);
    if same::<RegistryName>(text).is_some() {
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
    resource_id(text);
    if let Ok(rule) = IpRule::parse(text, IpRuleMode::Strict) {
        let permissive = IpRule::parse(text, IpRuleMode::Permissive);
        assert_eq!(permissive.as_ref(), Ok(&rule), "strict allows no more than permissive");
        assert_eq!(rule.to_string(), text);
        assert_eq!(rule.range(), rule.range().trunc());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        assert_eq!(moment.to_string().parse(), Ok(moment));
    }
    if let Ok(id) = text.parse::<PrincipalId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// Reads the text; what can be read prints as it was written.
fn same<T: FromStr + Display>(text: &str) -> Option<T> {
    let value = text.parse::<T>().ok()?;
    assert_eq!(value.to_string(), text);
    Some(value)
}

fn resource_id(text: &str) {
    let Ok(id) = text.parse::<ResourceId>() else { return };
    assert_eq!(id.to_string().parse(), Ok(id.clone()));
    assert_eq!(text.to_ascii_uppercase().parse().as_ref(), Ok(&id), "ids compare without case");
    assert!(id.segments().all(|segment| !matches!(segment, "." | "..") && !segment.contains(char::is_control)));
    assert!(id.is_within(&id) && id.is_within(&ResourceId::root()));
    if let Some(parent) = id.parent() {
        assert!(id.is_within(&parent) && parent != id, "{id} in {parent}");
    }
    let child = id.child("a", "b");
    assert!(child.is_within(&id) && !id.is_within(&child) && child.name() == "b");
    let _ = (id.resource_type(), id.subscription(), id.resource_group());
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("names", super::names);
    }
}
