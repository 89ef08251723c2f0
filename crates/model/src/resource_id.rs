use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

const MAX_RESOURCE_ID_BYTES: usize = 2048;

/// The id of an ARM resource or scope: `/subscriptions/{s}/resourceGroups/{g}/providers/{namespace}/{type}/{name}…`.
///
/// Compared without regard to case, kept with it. `/` is the root scope. Doubled slashes are collapsed and a
/// trailing one is dropped. Kept once however many have it: cheap to clone.
///
/// Source: Azure Resource Manager, resource id format (read 2026-11).
#[derive(Clone)]
pub struct ResourceId(Arc<str>);

/// Why a text is not a resource id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceIdError {
    /// It does not begin with a slash.
    #[error("a resource id begins with `/`")]
    NotAbsolute,
    /// Longer than 2048 bytes.
    #[error("a resource id is at most 2048 bytes long")]
    TooLong,
    /// A control character, `?`, `#`, `\`, or a `.` or `..` segment.
    #[error("a resource id has no control characters, `?`, `#`, `\\` and no `.` or `..` segments")]
    BadCharacter,
}

impl ResourceId {
    /// The root scope, `/`.
    pub fn root() -> Self {
        Self::from_normal("/".into())
    }

    fn from_normal(text: String) -> Self {
        Self(text.into())
    }

    /// Whether it is the root scope.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The id as it was written, without doubled slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The id in lower case: what it is compared by. Made anew each time.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The segments between the slashes.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The last segment; empty for the root.
    pub fn name(&self) -> &str {
        self.segments().next_back().unwrap_or_default()
    }

    fn value_after(&self, key: &str) -> Option<&str> {
        let mut segments = self.segments();
        segments.find(|segment| segment.eq_ignore_ascii_case(key))?;
        segments.next()
    }

    /// The subscription id, if the id is within one.
    pub fn subscription(&self) -> Option<&str> {
        self.segments().next().filter(|first| first.eq_ignore_ascii_case("subscriptions"))?;
        self.segments().nth(1)
    }

    /// The resource group's name, if the id is within one.
    pub fn resource_group(&self) -> Option<&str> {
        self.value_after("resourceGroups")
    }

    /// `namespace/type` or `namespace/type/childType` of the last provider in the id; group and subscription ids have their own types.
    pub fn resource_type(&self) -> Option<String> {
        let segments: Vec<&str> = self.segments().collect();
        let Some(provider) = segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers")) else {
            return match segments.len() {
                2 => Some("Microsoft.Resources/subscriptions".into()),
                4 => Some("Microsoft.Resources/resourceGroups".into()),
                _ => None,
            };
        };
        let namespace = segments.get(provider + 1)?;
        let types: Vec<&str> = segments.iter().skip(provider + 2).step_by(2).copied().collect();
        (!types.is_empty()).then(|| format!("{namespace}/{}", types.join("/")))
    }

    /// Whether the id is of this `namespace/type`, ignoring case.
    pub fn is_type(&self, resource_type: &str) -> bool {
        self.resource_type().is_some_and(|own| own.eq_ignore_ascii_case(resource_type))
    }

    /// The id without its last `type/name` pair; for a provider's top resource, its group (or scope). `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let segments: Vec<&str> = self.segments().collect();
        let mut kept = segments.len().checked_sub(2)?;
        let is_provider_pair =
            |at: usize| segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case("providers"));
        // `…/providers/Namespace` is not a resource: step over it.
        if kept >= 2 && is_provider_pair(kept - 2) {
            kept -= 2;
        }
        Some(Self::from_normal(format!("/{}", segments.iter().take(kept).copied().collect::<Vec<_>>().join("/"))))
    }

    /// Comes in order just before every id that is below this one.
    pub fn first_below(&self) -> Self {
        if self.is_root() { self.clone() } else { Self::from_normal(format!("{}/", self.0)) }
    }

    /// This id with `/type/name` appended.
    pub fn child(&self, resource_type: &str, name: &str) -> Self {
        let base = self.0.trim_end_matches('/');
        Self::from_normal(format!("{base}/{resource_type}/{name}"))
    }

    /// Whether this id is `scope` or below it, by whole segments.
    pub fn is_within(&self, scope: &Self) -> bool {
        if scope.is_root() {
            return true;
        }
        let (own, scope) = (self.0.as_bytes(), scope.0.as_bytes());
        own.split_at_checked(scope.len())
            .is_some_and(|(start, rest)| matches!(rest.first(), None | Some(b'/')) && start.eq_ignore_ascii_case(scope))
    }
}

impl FromStr for ResourceId {
    type Err = ResourceIdError;

    fn from_str(text: &str) -> Result<Self, ResourceIdError> {
        if text.len() > MAX_RESOURCE_ID_BYTES {
            return Err(ResourceIdError::TooLong);
        }
        if !text.starts_with('/') {
            return Err(ResourceIdError::NotAbsolute);
        }
        if text.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '\\')) {
            return Err(ResourceIdError::BadCharacter);
        }
        let mut normal = String::with_capacity(text.len());
        for segment in text.split('/').filter(|segment| !segment.is_empty()) {
            if matches!(segment, "." | "..") {
                return Err(ResourceIdError::BadCharacter);
            }
            normal.push('/');
            normal.push_str(segment);
        }
        if normal.is_empty() {
            normal.push('/');
        }
        Ok(Self::from_normal(normal))
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for ResourceId {}

impl Hash for ResourceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut folded = [0; 64];
        for piece in self.0.as_bytes().chunks(folded.len()) {
            if let Some(folded) = folded.get_mut(..piece.len()) {
                folded.copy_from_slice(piece);
                folded.make_ascii_lowercase();
                state.write(folded);
            }
        }
        // No text has this byte.
        state.write_u8(0xff);
    }
}

impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> Ordering {
        const PIECE: usize = 16;
        // Ids that are compared mostly begin alike, in the same case.
        let (own, other) = (self.0.as_bytes(), other.0.as_bytes());
        let (own_pieces, other_pieces) = (own.as_chunks::<PIECE>().0, other.as_chunks::<PIECE>().0);
        let alike = own_pieces.iter().zip(other_pieces).take_while(|(own, other)| own == other).count();
        let [own, other] = [own, other].map(|text| text.iter().skip(alike * PIECE).map(u8::to_ascii_lowercase));
        own.cmp(other)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "/subscriptions/s1/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/reg";

    fn id(text: &str) -> ResourceId {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(text: &str, resource_type: Option<&str>, parent: Option<&str>) {
        let id = id(text);
        assert_eq!(id.resource_type().as_deref(), resource_type, "{text}");
        assert_eq!(id.parent().as_ref().map(ResourceId::as_str), parent, "{text}");
    }

    #[test]
    fn types_and_parents() {
        check("/", None, None);
        check("/subscriptions/s1", Some("Microsoft.Resources/subscriptions"), Some("/"));
        check(
            "/subscriptions/s1/resourceGroups/g",
            Some("Microsoft.Resources/resourceGroups"),
            Some("/subscriptions/s1"),
        );
        check(REGISTRY, Some("Microsoft.ContainerRegistry/registries"), Some("/subscriptions/s1/resourceGroups/g"));
        check(&format!("{REGISTRY}/tasks/t"), Some("Microsoft.ContainerRegistry/registries/tasks"), Some(REGISTRY));
        check(
            &format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/a"),
            Some("Microsoft.Authorization/roleAssignments"),
            Some(REGISTRY),
        );
    }

    #[test]
    fn equality_ignores_case_and_doubled_slashes() {
        assert_eq!(id(&REGISTRY.to_uppercase()), id(&REGISTRY.replace("/registries", "//registries")));
        assert_eq!(id(&format!("{REGISTRY}/")).as_str(), REGISTRY);
        assert_eq!(id(REGISTRY).subscription(), Some("s1"));
        assert_eq!(id(REGISTRY).resource_group(), Some("g"));
    }

    /// Every pair of these, as texts in lower case are compared and hashed.
    #[test]
    fn ids_are_ordered_and_hashed_as_their_lower_case() {
        let hash = |id: &ResourceId| {
            let mut hasher = std::hash::DefaultHasher::new();
            id.hash(&mut hasher);
            hasher.finish()
        };
        let mut ids: Vec<ResourceId> =
            ["/", "/a", "/A", "/a-b", "/a/b", "/A/B", "/a/B/c", "/ab", "/Z", "/a/\u{e9}"].map(id).into();
        for end in ["", "x", "X", "-y", "0", "/child", "/CHILD/z"] {
            ids.push(id(&format!("{REGISTRY}{end}")));
            ids.push(id(&format!("{}{end}", REGISTRY.to_uppercase())));
        }
        for a in &ids {
            for b in &ids {
                assert_eq!(a.cmp(b), a.key().cmp(&b.key()), "{a} {b}");
                assert_eq!(a == b, a.key() == b.key(), "{a} {b}");
                assert_eq!(hash(a) == hash(b), a == b, "{a} {b}");
                let is_below = a.key() == b.key() || a.key().starts_with(&format!("{}/", b.key()));
                assert_eq!(a.is_within(b), b.is_root() || is_below, "{a} {b}");
                let comes_after = *a > b.first_below() && *a > *b;
                assert!(!(is_below && a != b) || comes_after, "{a} {b}");
            }
        }
    }

    #[test]
    fn scopes_match_whole_segments() {
        assert!(id(REGISTRY).is_within(&id("/")));
        assert!(id(REGISTRY).is_within(&id("/SUBSCRIPTIONS/S1")));
        assert!(id(REGISTRY).is_within(&id(REGISTRY)));
        assert!(!id(REGISTRY).is_within(&id("/subscriptions/s")));
        assert!(!id("/subscriptions/s1").is_within(&id(REGISTRY)));
    }

    #[test]
    fn refusals() {
        assert_eq!("a/b".parse::<ResourceId>(), Err(ResourceIdError::NotAbsolute));
        for bad in ["/a/../b", "/a/./b", "/a?b", "/a\nb", "/a\\b"] {
            assert_eq!(bad.parse::<ResourceId>(), Err(ResourceIdError::BadCharacter), "{bad}");
        }
        assert_eq!(format!("/{}", "a".repeat(2048)).parse::<ResourceId>(), Err(ResourceIdError::TooLong));
    }
}
