//! Command lines as the runner takes them apart: quotes group, nothing is expanded.

/// How many words a command line may have.
pub const MAX_WORDS: usize = 4096;

/// Why a command line cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// It has a zero byte.
    #[error("command contains a NUL character")]
    Nul,
    /// A quote is not closed.
    #[error("command contains an unterminated {0:?} quote")]
    Quote(char),
    /// It has too many words.
    #[error("command has more than {MAX_WORDS} words")]
    TooMany,
}

/// The words of a command line.
///
/// Outside of quotes a backslash protects a gap or a quote, inside of double quotes only a double quote;
/// everywhere else, and where there are two, it stands for itself.
pub fn split(command: &str) -> Result<Vec<String>, WordsError> {
    if command.contains('\0') {
        return Err(WordsError::Nul);
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = command.chars().peekable();
    while let Some(next) = rest.next() {
        let protects = match (quote, next) {
            (None, '\\') => rest.peek().is_some_and(|after| is_gap(*after) || matches!(after, '\'' | '"')),
            (Some('"'), '\\') => rest.peek() == Some(&'"'),
            _ => false,
        };
        if protects {
            word.get_or_insert_default().extend(rest.next());
        } else if next == '\\' && quote != Some('\'') {
            let word = word.get_or_insert_default();
            word.push('\\');
            word.extend(rest.next_if_eq(&'\\'));
        } else if quote == Some(next) {
            quote = None;
        } else if quote.is_none() && matches!(next, '\'' | '"') {
            quote = Some(next);
            word.get_or_insert_default();
        } else if quote.is_none() && is_gap(next) {
            words.extend(word.take());
        } else {
            word.get_or_insert_default().push(next);
        }
        if words.len() > MAX_WORDS {
            return Err(WordsError::TooMany);
        }
    }
    if let Some(quote) = quote {
        return Err(WordsError::Quote(quote));
    }
    words.extend(word);
    Ok(words)
}

fn is_gap(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, expected: &[&str]) {
        assert_eq!(split(command).unwrap(), expected, "{command}");
    }

    #[test]
    fn words() {
        check("", &[]);
        check("  a  b\tc\n", &["a", "b", "c"]);
        check(r#"a 'b "c' "d 'e""#, &["a", "b \"c", "d 'e"]);
        check(r#"--x="1 2"'3 4'5"#, &["--x=1 23 45"]);
        check(r#"'' "" a"#, &["", "", "a"]);
        check(r#"a\ b \"c\' d\\ e\n"#, &["a b", "\"c'", r"d\\", r"e\n"]);
        check(r#""a\"b\\c\d" 'e\f'"#, &[r#"a"b\\c\d"#, r"e\f"]);
        check("a && b | c > $X `d`", &["a", "&&", "b", "|", "c", ">", "$X", "`d`"]);
        check("--filter 'app:^v.*' --ago 1d", &["--filter", "app:^v.*", "--ago", "1d"]);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(split("a 'b"), Err(WordsError::Quote('\'')));
        assert_eq!(split("a \"b\\\""), Err(WordsError::Quote('"')));
        assert_eq!(split("a\0"), Err(WordsError::Nul));
        assert_eq!(split(&"a ".repeat(MAX_WORDS + 2)), Err(WordsError::TooMany));
    }
}
