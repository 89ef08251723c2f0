use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest query or form in pairs. Clients send a handful; a push with many mounts sends a scope for each.
const MAX_PAIRS: usize = 256;

/// Everything but the unreserved characters, and the two that names and digests hold and that queries may.
const QUERY_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// A query string or an `application/x-www-form-urlencoded` body, decoded.
#[derive(Default, Clone, PartialEq, Eq)]
pub(crate) struct Pairs(Vec<(String, String)>);

/// The text is no form: not UTF-8 once decoded, a control character, or too many pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedForm;

impl Pairs {
    /// Parses `a=1&b=2`, `+` for space.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, MalformedForm> {
        let is_bad = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        let mut pairs = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            if pairs.len() == MAX_PAIRS || name.contains(is_bad) || value.contains(is_bad) {
                return Err(MalformedForm);
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// The first value under the name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value under the name, unless it is empty.
    pub(crate) fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value under the name, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// A value for a query that this server writes into a header.
pub(crate) fn encode(value: &str) -> String {
    utf8_percent_encode(value, QUERY_VALUE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[(&str, &str)], MalformedForm>) {
        let expected = expected
            .map(|pairs| Pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()));
        assert!(Pairs::parse(text.as_bytes()) == expected, "{text:?}");
    }

    #[test]
    fn forms() {
        check("", Ok(&[]));
        check("a=1&&b=x+y%2Fz&c", Ok(&[("a", "1"), ("b", "x y/z"), ("c", "")]));
        check("scope=a&scope=b%20c", Ok(&[("scope", "a"), ("scope", "b c")]));
        check("a=%ff", Err(MalformedForm));
        check("a=%00", Err(MalformedForm));
        check("a=%0d%0aX", Err(MalformedForm));
        check(&"a&".repeat(MAX_PAIRS + 1), Err(MalformedForm));
        assert!(Pairs::parse("a&".repeat(MAX_PAIRS).as_bytes()).is_ok());
    }

    #[test]
    fn written_values_cannot_break_out() {
        assert_eq!(encode("a/b:1>\"&\r\n é"), "a/b:1%3E%22%26%0D%0A%20%C3%A9");
    }
}
