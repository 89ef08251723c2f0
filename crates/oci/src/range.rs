use postern_model::Digest;

/// What a `Range` header asks of content of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// All of it: there is no range, or one that this server does not have to honour (several at once, other units).
    Whole,
    /// The bytes from the first up to but not including the second.
    Part(u64, u64),
    /// No byte of it exists.
    Unsatisfiable,
}

impl ByteRange {
    /// Source: RFC 9110, section 14.
    pub(crate) fn parse(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header.and_then(single) else { return Self::Whole };
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // What no number holds lies behind every end.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (first, number(first), last, number(last)) {
            ("", _, _, Some(0)) => Self::Unsatisfiable,
            ("", _, _, Some(suffix)) if size > 0 => Self::Part(size.saturating_sub(suffix), size),
            ("", _, _, Some(_)) => Self::Unsatisfiable,
            (_, Some(first), "", _) if first < size => Self::Part(first, size),
            (_, Some(first), _, Some(last)) if first <= last && first < size => {
                Self::Part(first, last.saturating_add(1).min(size))
            }
            (_, Some(first), _, Some(last)) if first > last => Self::Whole,
            (_, Some(_), "", _) | (_, Some(_), _, Some(_)) => Self::Unsatisfiable,
            _ => Self::Whole,
        }
    }
}

fn single(header: &str) -> Option<(&str, &str)> {
    let (unit, set) = header.split_once('=')?;
    let set = set.trim();
    (unit.trim().eq_ignore_ascii_case("bytes") && !set.contains(',')).then(|| set.split_once('-'))?
}

/// `Content-Range` of an uploaded chunk: first and last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    pub(crate) first: u64,
    last: u64,
}

impl ChunkRange {
    /// `first-last`, both inclusive.
    ///
    /// Source: OCI distribution specification, "Pushing a blob in chunks": `^[0-9]+-[0-9]+$`.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (first, last) = header.split_once('-')?;
        let number =
            |text: &str| -> Option<u64> { text.bytes().all(|b| b.is_ascii_digit()).then_some(text)?.parse().ok() };
        let (first, last) = (number(first)?, number(last)?);
        // A last byte that no length can count is not a range.
        (first <= last && last < u64::MAX).then_some(Self { first, last })
    }

    /// How many bytes the chunk has.
    pub(crate) const fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// `ETag` of content: its digest, quoted.
pub(crate) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether an `If-None-Match` or `If-Range` header names this entity tag.
///
/// Source: RFC 9110, section 13.1.2: weak comparison.
pub(crate) fn names_etag(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|own| own == "*" || own.strip_prefix("W/").unwrap_or(own) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, size: u64, expected: ByteRange) {
        assert_eq!(ByteRange::parse(Some(header), size), expected, "{header} of {size}");
    }

    #[test]
    fn ranges() {
        use ByteRange::{Part, Unsatisfiable, Whole};
        assert_eq!(ByteRange::parse(None, 10), Whole);
        check("bytes=0-0", 10, Part(0, 1));
        check("bytes=2-5", 10, Part(2, 6));
        check("Bytes = 2-5", 10, Part(2, 6));
        check("bytes=9-", 10, Part(9, 10));
        check("bytes=-3", 10, Part(7, 10));
        check("bytes=-30", 10, Part(0, 10));
        check("bytes=0-99999999999999999999999", 10, Part(0, 10));
        check("bytes=10-", 10, Unsatisfiable);
        check("bytes=10-12", 10, Unsatisfiable);
        check("bytes=99999999999999999999999-", 10, Unsatisfiable);
        check("bytes=-0", 10, Unsatisfiable);
        check("bytes=-1", 0, Unsatisfiable);
        check("bytes=0-", 0, Unsatisfiable);
        for ignored in [
            "bytes=5-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
        ] {
            check(ignored, 10, Whole);
        }
    }

    #[test]
    fn chunks() {
        let range = ChunkRange::parse("10-19").unwrap();
        assert_eq!((range.first, range.length()), (10, 10));
        assert_eq!(ChunkRange::parse("0-18446744073709551614").map(ChunkRange::length), Some(u64::MAX));
        for bad in ["", "-", "1-", "-1", "5-4", "bytes 0-1/2", "0-1/2", "+0-1", "0 - 1", "0-18446744073709551615"] {
            assert_eq!(ChunkRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn entity_tags() {
        for (header, named) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("a", false), ("", false)]
        {
            assert_eq!(names_etag(header, "\"a\""), named, "{header}");
        }
    }
}
