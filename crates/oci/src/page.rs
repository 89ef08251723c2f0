use http::HeaderValue;
use postern_store::{Order, PageRequest};

use crate::error::{Condition, Refusal};
use crate::query::{Pairs, encode};

/// Most entries in one answer; a client that asks for more, or for no number, gets this many and a `Link`.
pub const MAX_PAGE: u32 = postern_store::MAX_ITEMS_PER_PAGE;

/// A repository's name is the longest thing that a list can be continued after.
const MAX_LAST_BYTES: usize = 512;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// `n`, as far as [`MAX_PAGE`] lets it.
    pub(crate) limit: u32,
    /// `last`: the list goes on behind this one.
    pub(crate) last: Option<String>,
    /// `orderby`.
    pub(crate) order: Order,
}

impl Page {
    pub(crate) fn parse(query: &Pairs) -> Result<Self, Refusal> {
        let limit = match query.non_empty("n") {
            None => MAX_PAGE,
            Some(text) => {
                let number = text.bytes().all(|digit| digit.is_ascii_digit()).then_some(text);
                // A number too large for any type is still one that asks for everything.
                number.ok_or_else(|| Refusal::new(Condition::PageInvalid))?.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
            }
        };
        let last = query.non_empty("last");
        if last.is_some_and(|last| last.len() > MAX_LAST_BYTES) {
            return Err(Refusal::new(Condition::QueryInvalid).with_detail("last is too long"));
        }
        Ok(Self { limit, last: last.map(str::to_owned), order: Order::default() })
    }

    /// The page as the store is asked for it.
    pub(crate) fn request(&self) -> PageRequest {
        PageRequest { last: self.last.clone(), limit: self.limit, order: self.order }
    }

    /// The `Link` header to what follows `last`, at `path` and with the other parameters carried over.
    pub(crate) fn link(&self, path: &str, last: &str, others: &[(&str, &str)]) -> Option<HeaderValue> {
        let mut target = format!("{path}?last={}&n={}", encode(last), self.limit);
        let order = match self.order {
            Order::Name => None,
            Order::NewestFirst => Some(("orderby", "timedesc")),
            Order::OldestFirst => Some(("orderby", "timeasc")),
        };
        for (name, value) in others.iter().copied().chain(order) {
            target.push('&');
            target.push_str(name);
            target.push('=');
            target.push_str(&encode(value));
        }
        HeaderValue::try_from(format!("<{target}>; rel=\"next\"")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<(u32, Option<&str>), Condition>) {
        let page = Page::parse(&Pairs::parse(query.as_bytes()).unwrap());
        let seen = page.as_ref().map(|page| (page.limit, page.last.as_deref())).map_err(Refusal::condition);
        assert_eq!(seen, expected, "{query}");
    }

    #[test]
    fn pages() {
        check("", Ok((MAX_PAGE, None)));
        check("n=", Ok((MAX_PAGE, None)));
        check("n=0", Ok((0, None)));
        check("n=7&last=a%2Fb", Ok((7, Some("a/b"))));
        check("n=1000", Ok((1000, None)));
        check("n=1001", Ok((MAX_PAGE, None)));
        check("n=99999999999999999999", Ok((MAX_PAGE, None)));
        for bad in ["n=-1", "n=x", "n=1.5", "n=%2B1"] {
            check(bad, Err(Condition::PageInvalid));
        }
        check(&format!("last={}", "a".repeat(513)), Err(Condition::QueryInvalid));
    }

    #[test]
    fn links_carry_the_other_parameters() {
        let page = Page { limit: 2, last: None, order: Order::NewestFirst };
        let link = page.link("/acr/v1/a/_tags", "v 1>", &[("digest", "sha256:ab")]).unwrap();
        assert_eq!(link, "</acr/v1/a/_tags?last=v%201%3E&n=2&digest=sha256:ab&orderby=timedesc>; rel=\"next\"");
    }
}
