//! HTTP/1.1 as a client sees it: requests as bytes, answers read and thrown away.

use std::io::IoSlice;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Largest body that is kept.
const MAX_KEPT_BYTES: usize = 64 << 20;
/// The part of a body that makes it different from all others.
pub(crate) const TAIL_BYTES: usize = 16;

/// Many bytes that requests share, and a few of their own behind them.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    shared: Rc<[u8]>,
    tail: [u8; TAIL_BYTES],
}

impl Content {
    pub(crate) fn new(shared: Rc<[u8]>, tail: [u8; TAIL_BYTES]) -> Self {
        Self { shared, tail }
    }

    pub(crate) fn len(&self) -> usize {
        self.shared.len() + TAIL_BYTES
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        [&*self.shared, &self.tail].concat()
    }

    /// What lies at an offset in one piece, up to `end`.
    fn piece(&self, at: usize, end: usize) -> &[u8] {
        let split = self.shared.len();
        if at < split {
            self.shared.get(at..end.min(split)).unwrap_or_default()
        } else {
            self.tail.get(at - split..end.saturating_sub(split)).unwrap_or_default()
        }
    }
}

/// A request's body.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Empty,
    Bytes(Rc<[u8]>),
    /// A part of some content, from the first offset to before the second.
    Part(Content, usize, usize),
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Part(_, start, end) => end - start,
        }
    }

    fn piece(&self, at: usize) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Bytes(bytes) => bytes.get(at..).unwrap_or_default(),
            Self::Part(content, start, end) => content.piece(start + at, *end),
        }
    }
}

/// A request that is ready to send, and what has to come back.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    head: Rc<[u8]>,
    body: Body,
    is_head: bool,
    status: u16,
    keep: bool,
}

impl Request {
    /// `lines` are whole header lines, each with its line end.
    pub(crate) fn new(method: &str, target: &str, lines: &str, body: Body) -> Self {
        let length = match (&body, method) {
            (Body::Empty, "GET" | "HEAD" | "DELETE") => String::new(),
            _ => format!("content-length: {}\r\n", body.len()),
        };
        let head = format!("{method} {target} HTTP/1.1\r\n{lines}{length}\r\n");
        Self { head: head.into_bytes().into(), body, is_head: method == "HEAD", status: 200, keep: false }
    }

    /// The only status that counts as success; 200 unless said.
    pub(crate) fn expect(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The answer's body is wanted.
    pub(crate) fn keep(self) -> Self {
        Self { keep: true, ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// What is still to be sent after so many bytes, in at most two pieces.
    pub(crate) fn rest(&self, sent: usize) -> [IoSlice<'_>; 2] {
        let head = self.head.get(sent..).unwrap_or_default();
        let body = self.body.piece(sent.saturating_sub(self.head.len()));
        if head.is_empty() { [IoSlice::new(body), IoSlice::new(&[])] } else { [IoSlice::new(head), IoSlice::new(body)] }
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Path and query of `Location`.
    pub(crate) location: Option<String>,
    /// Only if the request said so.
    pub(crate) body: Vec<u8>,
    /// How many bytes of body came.
    pub(crate) length: u64,
    /// No further request on this connection.
    pub(crate) closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Sized(u64),
    /// In the line that says how long the next chunk is: the number so far, and whether it has ended.
    ChunkSize(u64, bool),
    /// In a chunk; the line end behind it counts as two more bytes.
    Chunk(u64),
    /// In the lines behind the last chunk; how many bytes the current line has.
    Trailer(usize),
    Done,
}

/// Reads one answer from pieces of any size.
#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
    head: Vec<u8>,
    reply: Reply,
    is_head: bool,
    keep: bool,
    expected: u16,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { state: State::Done, head: Vec::new(), reply: Reply::default(), is_head: false, keep: false, expected: 0 }
    }

    /// Gets ready for the answer to a request.
    pub(crate) fn begin(&mut self, request: &Request) {
        self.state = State::Head;
        self.head.clear();
        self.reply = Reply::default();
        (self.is_head, self.keep, self.expected) = (request.is_head, request.keep, request.status);
    }

    /// Takes bytes; gives the answer once it is whole. Bytes behind it are an error, as nothing else was asked for.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Reply>> {
        while !bytes.is_empty() && self.state != State::Done {
            let taken = self.step(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        if !bytes.is_empty() {
            bail!("the server sent more than was asked for");
        }
        if self.state != State::Done {
            return Ok(None);
        }
        // What the server says about an unexpected answer is worth showing.
        if self.reply.status != self.expected {
            let head = String::from_utf8_lossy(&self.head);
            let body = String::from_utf8_lossy(&self.reply.body);
            bail!("status {} instead of {}:\n{head}{body}", self.reply.status, self.expected);
        }
        Ok(Some(std::mem::take(&mut self.reply)))
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize> {
        let (taken, next) = match self.state {
            State::Head => return self.take_head(bytes),
            State::Sized(left) => {
                let taken = within(left, bytes.len());
                self.body(bytes.get(..taken).unwrap_or_default())?;
                let left = left - taken as u64;
                (taken, if left == 0 { State::Done } else { State::Sized(left) })
            }
            State::ChunkSize(size, ended) => (1, chunk_size(bytes, size, ended)?),
            State::Chunk(left) => {
                let taken = within(left, bytes.len());
                let data = within(left.saturating_sub(2), taken);
                self.body(bytes.get(..data).unwrap_or_default())?;
                let left = left - taken as u64;
                (taken, if left == 0 { State::ChunkSize(0, false) } else { State::Chunk(left) })
            }
            State::Trailer(length) => {
                let next = match (bytes.first(), length) {
                    (Some(b'\n'), 0) => State::Done,
                    (Some(b'\n'), _) => State::Trailer(0),
                    (Some(b'\r'), _) => State::Trailer(length),
                    _ => State::Trailer(length + 1),
                };
                (1, next)
            }
            State::Done => (0, State::Done),
        };
        self.state = next;
        Ok(taken)
    }

    fn body(&mut self, bytes: &[u8]) -> Result<()> {
        self.reply.length += bytes.len() as u64;
        if self.keep || self.reply.status != self.expected {
            if self.reply.body.len() + bytes.len() > MAX_KEPT_BYTES {
                bail!("an answer that was to be kept is too long");
            }
            self.reply.body.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Takes bytes up to the end of the head.
    fn take_head(&mut self, bytes: &[u8]) -> Result<usize> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let end = self.head.get(from..).unwrap_or_default().windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end.map(|at| from + at + 4) else {
            if self.head.len() > MAX_HEAD_BYTES {
                bail!("the head of an answer is too long");
            }
            return Ok(bytes.len());
        };
        self.head.truncate(end);
        self.state = self.read_head()?;
        Ok(end - before)
    }

    fn read_head(&mut self) -> Result<State> {
        let head = std::str::from_utf8(&self.head).context("the head of an answer is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        self.reply.status = status.with_context(|| format!("not an answer: {head}"))?;
        let (mut length, mut chunked) = (None, false);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().context("content-length is not a number")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("location") {
                self.reply.location = Some(path_of(value).to_owned());
            } else if name.eq_ignore_ascii_case("connection") {
                self.reply.closes = value.eq_ignore_ascii_case("close");
            }
        }
        let bodiless = self.is_head || matches!(self.reply.status, 204 | 304);
        Ok(match length {
            _ if bodiless => State::Done,
            _ if chunked => State::ChunkSize(0, false),
            Some(0) => State::Done,
            Some(length) => State::Sized(length),
            None => bail!("an answer does not say how long it is: {head}"),
        })
    }
}

fn chunk_size(bytes: &[u8], size: u64, ended: bool) -> Result<State> {
    Ok(match bytes.first() {
        Some(b'\n') if size == 0 => State::Trailer(0),
        Some(b'\n') => State::Chunk(size + 2),
        Some(b'\r' | b';') => State::ChunkSize(size, true),
        Some(digit) if !ended => {
            let digit = char::from(*digit).to_digit(16).context("a chunk's size is not a number")?;
            let size = size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
            State::ChunkSize(size.context("a chunk is too large")?, false)
        }
        _ => State::ChunkSize(size, ended),
    })
}

fn within(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// An address without scheme and host.
fn path_of(location: &str) -> &str {
    let rest = location.strip_prefix("http://").or_else(|| location.strip_prefix("https://"));
    rest.map_or(location, |rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer, fed in pieces of every size, must come out the same.
    #[track_caller]
    fn check(method: &str, answer: &str, expected: Option<(u16, &str, Option<&str>)>) {
        for size in 1..=answer.len() {
            let request =
                Request::new(method, "/", "", Body::Empty).expect(expected.map_or(200, |(status, ..)| status));
            let mut reader = Reader::new();
            reader.begin(&request.keep());
            let mut outcome = Ok(None);
            for piece in answer.as_bytes().chunks(size) {
                outcome = reader.feed(piece);
                if outcome.is_err() {
                    break;
                }
            }
            let seen = outcome.ok().flatten();
            let seen = seen.map(|reply| (reply.status, String::from_utf8(reply.body).unwrap(), reply.location));
            let expected = expected.map(|(status, body, location)| (status, body.into(), location.map(str::to_owned)));
            assert_eq!(seen, expected, "in pieces of {size}: {answer}");
        }
    }

    #[test]
    fn answers() {
        check("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Some((200, "hello", None)));
        check("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Some((200, "", None)));
        check("GET", "HTTP/1.1 204 No Content\r\n\r\n", Some((204, "", None)));
        check(
            "POST",
            "HTTP/1.1 202 Accepted\r\nlocation: http://a:1/v2/x?y=z\r\ncontent-length: 0\r\n\r\n",
            Some((202, "", Some("/v2/x?y=z"))),
        );
        check(
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nC;x=y\r\n, wide world\r\n0\r\nA: b\r\n\r\n",
            Some((200, "hello, wide world", None)),
        );
        check("GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", None);
        check("GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", None);
        check("GET", "HTTP/1.1 200 OK\r\n\r\n", None);
        check("GET", "SSH-2.0\r\n\r\n", None);
    }

    #[test]
    fn requests_in_pieces() {
        let content = Content::new(Rc::from(*b"abcdef"), [b'x'; TAIL_BYTES]);
        let whole: Vec<u8> = [&b"abcdef"[..], &[b'x'; TAIL_BYTES]].concat();
        for (start, end) in [(0, 22), (2, 4), (2, 10), (6, 22), (10, 12), (4, 4)] {
            let request = Request::new("PUT", "/a", "host: b\r\n", Body::Part(content.clone(), start, end));
            let length = end - start;
            let mut expected = format!("PUT /a HTTP/1.1\r\nhost: b\r\ncontent-length: {length}\r\n\r\n").into_bytes();
            expected.extend_from_slice(&whole[start..end]);
            let mut sent = Vec::new();
            while sent.len() < request.len() {
                let slices = request.rest(sent.len());
                let mut piece: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                piece.truncate(5);
                assert!(!piece.is_empty());
                sent.extend(piece);
            }
            assert_eq!(String::from_utf8(sent), String::from_utf8(expected));
        }
    }
}
