/// One piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// `*`: any run of characters, the empty one too.
    Run,
    /// `?`: one character.
    One,
    /// This byte.
    Byte(u8),
}

/// The pattern of a `StringLike` comparison: `*`, `?`, and a backslash before either to mean the character itself.
///
/// Source: Azure role assignment condition format, "String comparison operators" (read 2026-11).
#[derive(Clone, Debug)]
pub(super) struct LikePattern(Box<[Piece]>);

impl LikePattern {
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            pieces.push(match byte {
                b'*' => Piece::Run,
                b'?' => Piece::One,
                b'\\' => Piece::Byte(bytes.next().unwrap_or(b'\\')),
                other => Piece::Byte(other),
            });
        }
        pieces.dedup_by(|next, piece| *next == Piece::Run && *piece == Piece::Run);
        Self(pieces.into())
    }

    pub(super) fn matches(&self, text: &str, ignore_case: bool) -> bool {
        let same = |a: u8, b: u8| if ignore_case { a.eq_ignore_ascii_case(&b) } else { a == b };
        matches(|at| self.0.get(at).copied(), text.as_bytes(), same)
    }
}

/// Whether an action pattern covers an action: `*` is any run of characters, letters compare without case.
///
/// Source: Azure role definitions, "Wildcard permissions" (read 2026-11).
pub(crate) fn action_matches(pattern: &str, action: &str) -> bool {
    if !pattern.contains('*') {
        return pattern.eq_ignore_ascii_case(action);
    }
    let pieces = pattern.as_bytes();
    let piece = |at: usize| pieces.get(at).map(|&byte| if byte == b'*' { Piece::Run } else { Piece::Byte(byte) });
    matches(piece, action.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b))
}

/// Matches without recursion or memory: on a mismatch only the last run is lengthened, which is enough because an
/// earlier run that took more would leave the later ones less.
fn matches(piece: impl Fn(usize) -> Option<Piece>, text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut last_run = None;
    loop {
        match (piece(at), text.get(from)) {
            (None, None) => return true,
            (Some(Piece::Run), _) => {
                at += 1;
                last_run = Some((at, from));
                continue;
            }
            (Some(_), None) => return false,
            (Some(Piece::One), Some(_)) => {
                at += 1;
                from = next_character(text, from);
                continue;
            }
            (Some(Piece::Byte(wanted)), Some(&byte)) if same(wanted, byte) => {
                at += 1;
                from += 1;
                continue;
            }
            (None | Some(Piece::Byte(_)), Some(_)) => {}
        }
        let Some((after_run, run_end)) = last_run else { return false };
        last_run = Some((after_run, run_end + 1));
        (at, from) = (after_run, run_end + 1);
    }
}

/// Where the character after the one at `from` begins, in UTF-8.
fn next_character(text: &[u8], from: usize) -> usize {
    let rest = text.iter().skip(from + 1);
    from + 1 + rest.take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, ignore_case: bool, expected: bool) {
        assert_eq!(LikePattern::new(pattern).matches(text, ignore_case), expected, "{text:?} like {pattern:?}");
    }

    #[test]
    fn like() {
        for (pattern, text, expected) in [
            ("a*c?", "abcd", true),
            ("A*C?", "abcd", false),
            ("a*c", "abcd", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("?", "", false),
            ("?", "é", true),
            ("?b", "éb", true),
            ("*ab*ab*", "aabbb", false),
            ("*ab*ab*", "aabxabb", true),
            ("*aab", "aaaaab", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"a\?*", "a?bc", true),
            (r"a\\*", r"a\b", true),
            (r"a\", r"a\", true),
            ("team-?/*", "team-a/app/web", true),
        ] {
            check(pattern, text, false, expected);
        }
        check("A*C?", "abcd", true, true);
    }

    #[test]
    fn actions() {
        for (pattern, action, expected) in [
            ("*", "Microsoft.ContainerRegistry/registries/read", true),
            ("*/read", "Microsoft.ContainerRegistry/registries/pull/read", true),
            ("*/read", "Microsoft.ContainerRegistry/registries/push/write", false),
            ("*/READ", "microsoft.containerregistry/registries/pull/read", true),
            ("Microsoft.Authorization/*/Write", "Microsoft.Authorization/roleAssignments/write", true),
            ("Microsoft.Authorization/*/Write", "Microsoft.Authorization/write", false),
            (
                "Microsoft.ContainerRegistry/registries/p*l/read",
                "Microsoft.ContainerRegistry/registries/pull/read",
                true,
            ),
            ("Microsoft.ContainerRegistry/registries/read", "Microsoft.ContainerRegistry/registries/readX", false),
            ("a?c", "abc", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(action_matches(pattern, action), expected, "{action} by {pattern}");
        }
    }

    /// Every pattern over a small alphabet against every text, compared with the definition written as a recursion.
    #[test]
    fn agrees_with_the_definition() {
        fn defined(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, rest) => rest.is_none(),
                (Some((b'*', rest)), None) => defined(rest, text),
                (Some((b'*', rest)), Some((_, tail))) => defined(rest, text) || defined(pattern, tail),
                (Some((b'?', rest)), Some((_, tail))) => defined(rest, tail),
                (Some((wanted, rest)), Some((byte, tail))) => wanted == byte && defined(rest, tail),
                (Some(_), None) => false,
            }
        }
        fn words(alphabet: &[u8], longest: usize) -> Vec<String> {
            let mut all = vec![String::new()];
            let mut from = 0;
            for _ in 0..longest {
                let end = all.len();
                for at in from..end {
                    for &letter in alphabet {
                        all.push(format!("{}{}", all[at], char::from(letter)));
                    }
                }
                from = end;
            }
            all
        }
        let texts = words(b"ab", 5);
        for pattern in words(b"ab*?", 4) {
            for text in &texts {
                check(&pattern, text, false, defined(pattern.as_bytes(), text.as_bytes()));
            }
        }
    }
}
