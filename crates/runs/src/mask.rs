//! Secrets that a run prints are not stored.

use postern_model::Secret;
use postern_store::MAX_LOG_TAIL_BYTES;
use postern_tasks::Location;
use postern_tasks::order::{Login, RunOrder, Source, Work};

/// Shorter ones would blacken every other word.
const MIN_SECRET_BYTES: usize = 4;
/// Longer secrets are looked for in pieces of this length.
const MAX_PATTERN_BYTES: usize = 4 << 10;
/// What a JSON web token begins with: `{"` in base64.
const TOKEN_START: &[u8] = b"eyJ";
/// Shortest token of three parts that is one.
const MIN_TOKEN_BYTES: usize = 40;
const BEARER: &[u8] = b"bearer ";
const MIN_BEARER_BYTES: usize = 16;
const MASK: &[u8] = b"***";

/// What is looked for in a run's log.
pub(crate) struct Masks {
    /// The longest first.
    patterns: Vec<Box<[u8]>>,
    /// Which bytes anything begins with.
    starts: [bool; 256],
}

/// What came of a piece of log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Masked {
    /// What may be stored.
    pub(crate) shown: Vec<u8>,
    /// What has to wait for more: the beginning of a line.
    pub(crate) tail: Vec<u8>,
    /// How many secrets were found.
    pub(crate) findings: u64,
}

impl Masks {
    /// For the secrets of an order.
    pub(crate) fn of(order: &RunOrder) -> Self {
        let arguments = match &order.work {
            Work::Docker(docker) => &docker.arguments,
            Work::File { values, .. } | Work::Encoded { values, .. } => values,
        };
        let arguments = arguments.iter().filter(|argument| argument.is_secret).map(|argument| argument.value.expose());
        let logins = order.logins.iter().filter_map(|login| match &login.login {
            Login::Token { token } => Some(token.expose()),
            Login::Password { password, .. } => Some(password.expose()),
            Login::Identity { .. } | Login::Unavailable { .. } => None,
        });
        let source = match &order.source {
            Source::Remote { location, access_token } => {
                let stated = Location::parse(location, true).ok().and_then(|parsed| parsed.token);
                [access_token.clone(), stated]
            }
            Source::None | Source::Uploaded => [None, None],
        };
        let source = source.iter().flatten().map(Secret::expose);
        Self::new(arguments.chain(logins).chain(source))
    }

    pub(crate) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let mut patterns = Vec::new();
        for secret in secrets {
            // A log is made of lines: that is how a secret of several would be printed.
            let lines = secret.split(['\r', '\n']).map(|line| line.trim().as_bytes());
            for line in lines.filter(|line| line.len() >= MIN_SECRET_BYTES) {
                let pieces = line.chunks(MAX_PATTERN_BYTES).filter(|piece| piece.len() >= MIN_SECRET_BYTES);
                patterns.extend(pieces.map(Box::<[u8]>::from));
            }
        }
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        let mut starts = [false; 256];
        let firsts = patterns.iter().filter_map(|pattern| pattern.first());
        for first in firsts.chain(b"eBb") {
            if let Some(start) = starts.get_mut(usize::from(*first)) {
                *start = true;
            }
        }
        Self { patterns, starts }
    }

    /// Takes the lines of a log that are whole; a line that grows very long is taken in part.
    pub(crate) fn take(&self, text: &[u8]) -> Masked {
        let mut masked = Masked::default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (lines, rest) = text.split_at_checked(whole).unwrap_or((text, &[]));
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.line(line, &mut masked);
        }
        if rest.len() <= MAX_LOG_TAIL_BYTES {
            masked.tail = rest.to_vec();
            return masked;
        }
        let taken = self.scan(rest, rest.len() - MAX_PATTERN_BYTES, &mut masked);
        masked.tail = rest.get(taken..).unwrap_or_default().to_vec();
        masked
    }

    /// Takes all of it, as a whole line if it is anything.
    pub(crate) fn finish(&self, text: &[u8]) -> Masked {
        let mut masked = Masked::default();
        if !text.is_empty() {
            self.scan(text, text.len(), &mut masked);
            masked.shown.extend_from_slice(b"\r\n");
        }
        masked
    }

    fn line(&self, line: &[u8], masked: &mut Masked) {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        self.scan(body, body.len(), masked);
        masked.shown.extend_from_slice(b"\r\n");
    }

    /// Takes what begins before `limit`; gives how much that is.
    fn scan(&self, text: &[u8], limit: usize, masked: &mut Masked) -> usize {
        let (mut at, mut copied) = (0, 0);
        while let Some(byte) = text.get(at).filter(|_| at < limit) {
            let is_start = self.starts.get(usize::from(*byte)).copied().unwrap_or(false);
            let found = if is_start { self.secret_at(text, at) } else { None };
            let Some((before, length)) = found else {
                at += 1;
                continue;
            };
            masked.shown.extend_from_slice(text.get(copied..at + before).unwrap_or_default());
            masked.shown.extend_from_slice(MASK);
            masked.findings += 1;
            at += before + length;
            copied = at;
        }
        masked.shown.extend_from_slice(text.get(copied..at).unwrap_or_default());
        at
    }

    /// The length of what stays and of what is secret behind it, from here on.
    fn secret_at(&self, text: &[u8], at: usize) -> Option<(usize, usize)> {
        let rest = text.get(at..)?;
        if let Some(pattern) = self.patterns.iter().find(|pattern| rest.starts_with(pattern)) {
            return Some((0, pattern.len()));
        }
        let is_inside = at.checked_sub(1).and_then(|before| text.get(before)).is_some_and(|byte| is_token(*byte));
        if rest.starts_with(TOKEN_START) && !is_inside {
            let length = rest.iter().take_while(|byte| is_token(**byte) || **byte == b'.').count();
            let token = rest.get(..length)?;
            let parts = token.split(|byte| *byte == b'.').count();
            if parts >= 3 && length >= MIN_TOKEN_BYTES {
                return Some((0, length));
            }
        }
        let head = rest.get(..BEARER.len())?;
        if head.eq_ignore_ascii_case(BEARER) {
            let is_part = |byte: &u8| is_token(*byte) || b".~+/=".contains(byte);
            let length = rest.iter().skip(BEARER.len()).take_while(|byte| is_part(byte)).count();
            if length >= MIN_BEARER_BYTES {
                return Some((BEARER.len(), length));
            }
        }
        None
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIiwiYXVkIjoiYiJ9.c2lnbmF0dXJl-_";

    #[track_caller]
    fn check(text: &str, expected: &str, findings: u64) {
        let masks = Masks::new(["hunter2", "abc", "hunter2-longer", "one\ntwo two\r\nthree"].into_iter());
        // However it is cut, the same comes out.
        for cut in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let one = masks.take(first);
            let two = masks.take(&[&one.tail[..], second].concat());
            let three = masks.finish(&two.tail);
            let shown = String::from_utf8([one.shown, two.shown, three.shown].concat()).unwrap();
            assert_eq!(shown, expected, "cut at {cut}");
            assert_eq!(one.findings + two.findings + three.findings, findings, "cut at {cut}");
        }
    }

    #[test]
    fn secrets_are_masked_wherever_the_log_is_cut() {
        check("", "", 0);
        check("plain\n", "plain\r\n", 0);
        check("plain\r\nand more", "plain\r\nand more\r\n", 0);
        check("a hunter2 b\n", "a *** b\r\n", 1);
        check("hunter2hunter2-longer", "******\r\n", 2);
        check("abc is too short, hunter is another\n", "abc is too short, hunter is another\r\n", 0);
        check("three and two two\n", "*** and ***\r\n", 2);
        check(&format!("token={TOKEN};\n"), "token=***;\r\n", 1);
        check(&format!("xeyJ {TOKEN}\n"), "xeyJ ***\r\n", 1);
        check("eyJ.a.b\n", "eyJ.a.b\r\n", 0);
        check("Authorization: Bearer abcdefghijklmnop/+=\n", "Authorization: Bearer ***\r\n", 1);
        check("bearer of news\n", "bearer of news\r\n", 0);
        check("ä€\n", "ä€\r\n", 0);
    }

    #[test]
    fn a_line_without_end_is_taken_in_pieces_that_split_no_secret() {
        let secret = "s".repeat(600) + "!";
        let masks = Masks::new([secret.as_str()].into_iter());
        for before in [0, 3000, 4090, 4095, 4096, 4097, 5000, 8000] {
            let text = format!("{}{secret}{}", "x".repeat(before), "y".repeat(9000));
            let first = masks.take(text.as_bytes());
            assert!(first.tail.len() <= MAX_LOG_TAIL_BYTES);
            let rest = masks.finish(&first.tail);
            let shown = String::from_utf8([first.shown, rest.shown].concat()).unwrap();
            assert_eq!(shown, format!("{}***{}\r\n", "x".repeat(before), "y".repeat(9000)));
        }
    }
}
