//! What a client sends on one connection: bytes in any pieces become one request after the other;
//! bodies are thrown away.

use super::limits::REQUEST_BODY_BYTES_MAX;
use super::request::{
    BadHead, Framing, HEAD_BYTES_MAX, Parsed, Request, empty_lines, is_worth_a_look, parse,
};

/// Bytes that are kept of requests that wait for their turn. Whoever sends more is to be slowed
/// down; see [`Input::is_full`].
pub const WAITING_BYTES_MAX: usize = HEAD_BYTES_MAX + 8 * 1024;
/// Room that an empty buffer keeps for the next request. Bytes.
const BUFFER_BYTES_KEPT: usize = 4 * 1024;
/// Longest line before a chunk, extensions included, and longest trailer line. Bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// The bytes of one connection that have come and are not answered yet.
#[derive(Debug, Default)]
pub struct Input {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been answered.
    start: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first bytes of a head, so many of which were looked at and are not whole.
    Head(usize),
    /// The head, of so many bytes, and after it what is left of its body.
    Body(usize, Body),
    /// A head of so many bytes whose body is gone: it waits for its answer.
    Whole(usize),
    /// Nothing that comes counts any more.
    Lost,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(0)
    }
}

/// A body on its way to nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Body {
    /// Bytes that may still come before it is too large, its framing included.
    room: u64,
    place: Place,
}

/// What comes next of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes of a body of known length.
    Length(u64),
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailer lines up to an empty one.
    Trailers,
}

/// What a connection is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Wait for bytes.
    More,
    /// A request with a body: tell the client that it may come where it waits for that word (100,
    /// RFC 9110 §10.1.1); ask again.
    Body { is_awaited: bool },
    /// Answer this; [`Input::answered`] goes on to the next.
    Request(Request<'a>),
    /// Answer this and read no more.
    Bad(BadHead),
}

impl Input {
    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.state == State::Lost {
            return;
        }
        self.buffer.drain(..std::mem::take(&mut self.start));
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing has come of a next request.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// What has come and is not answered yet.
    pub fn unanswered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Whether more should not be read before something is answered.
    pub fn is_full(&self) -> bool {
        self.buffer.len() - self.start >= WAITING_BYTES_MAX
    }

    /// Whether a request's body is still to come.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body(..))
    }

    /// What comes next. `has_ended`: the client sends no more.
    pub fn step(&mut self, has_ended: bool) -> Step<'_> {
        let Self { buffer, start, state } = self;
        if let State::Body(head, body) = state {
            match body.throw_away(buffer, *start + *head) {
                Thrown::Whole => *state = State::Whole(*head),
                Thrown::More => return Step::More,
                Thrown::Bad(bad) => {
                    *state = State::Lost;
                    return Step::Bad(bad);
                }
            }
        }
        let seen = match *state {
            State::Head(seen) => seen,
            State::Whole(head) => return reread(&buffer[*start..*start + head]),
            State::Body(..) | State::Lost => return Step::More,
        };
        *start += if seen == 0 { empty_lines(&buffer[*start..]) } else { 0 };
        let bytes = &buffer[*start..];
        // Half of an empty line is none of a head: a look at it would count it to the first line.
        let is_half_a_line = seen == 0 && bytes == b"\r";
        if bytes.is_empty()
            || (!has_ended && (is_half_a_line || (seen > 0 && !is_worth_a_look(bytes, seen))))
        {
            return Step::More;
        }
        match parse(bytes) {
            Parsed::Partial => *state = State::Head(bytes.len()),
            Parsed::Bad(bad) => {
                *state = State::Lost;
                return Step::Bad(bad);
            }
            Parsed::Whole(request, head) if request.framing == Framing::Length(0) => {
                *state = State::Whole(head);
                return Step::Request(request);
            }
            Parsed::Whole(request, head) => {
                *state = State::Body(head, Body::new(request.framing));
                return Step::Body { is_awaited: request.expects_continue };
            }
        }
        Step::More
    }

    /// The request that waits for its answer, once more.
    pub fn request(&self) -> Option<Request<'_>> {
        let State::Whole(head) = self.state else { return None };
        match reread(&self.buffer[self.start..self.start + head]) {
            Step::Request(request) => Some(request),
            _ => None,
        }
    }

    /// The request has had its answer.
    pub fn answered(&mut self) {
        if let State::Whole(head) = self.state {
            self.start += head;
            self.state = State::Head(0);
        }
        if self.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
            self.start = 0;
        }
    }

    /// Nothing that comes is wanted any more.
    pub fn close(&mut self) {
        *self = Self { state: State::Lost, ..Self::default() };
    }
}

/// A head that has been found whole before.
fn reread(head: &[u8]) -> Step<'_> {
    match parse(head) {
        Parsed::Whole(request, _) => Step::Request(request),
        Parsed::Bad(bad) => Step::Bad(bad),
        Parsed::Partial => Step::More,
    }
}

/// How far a body has been thrown away.
enum Thrown {
    Whole,
    More,
    Bad(BadHead),
}

impl Body {
    fn new(framing: Framing) -> Self {
        let place = match framing {
            Framing::Length(len) => Place::Length(len),
            Framing::Chunked => Place::Size,
        };
        Self { room: REQUEST_BODY_BYTES_MAX, place }
    }

    /// Takes what there is of the body out of the buffer, in which it begins at `at`.
    fn throw_away(&mut self, buffer: &mut Vec<u8>, at: usize) -> Thrown {
        let mut taken = at;
        let thrown = loop {
            let rest = &buffer[taken..];
            let (len, next) = match self.place {
                Place::Length(0) => break Thrown::Whole,
                Place::Length(left) => {
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    (len, Place::Length(left - len as u64))
                }
                Place::Chunk(0) => (0, Place::ChunkEnd),
                Place::Chunk(left) => {
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    (len, Place::Chunk(left - len as u64))
                }
                Place::Size | Place::ChunkEnd | Place::Trailers => match line(rest) {
                    Line::Part => break Thrown::More,
                    Line::TooLong => break Thrown::Bad(BadHead::Chunk),
                    Line::Whole(line, len) => match self.after(line) {
                        Ok(Some(next)) => (len, next),
                        Ok(None) => {
                            taken += len;
                            break Thrown::Whole;
                        }
                        Err(bad) => break Thrown::Bad(bad),
                    },
                },
            };
            if len == 0 && self.place == next {
                break Thrown::More;
            }
            let Some(room) = self.room.checked_sub(len as u64) else {
                break Thrown::Bad(BadHead::BodyTooLarge);
            };
            (self.room, self.place) = (room, next);
            taken += len;
        };
        buffer.drain(at..taken);
        thrown
    }

    /// What follows a line of chunked framing (RFC 9112 §7.1); None: the body is whole.
    fn after(&self, line: &[u8]) -> Result<Option<Place>, BadHead> {
        match self.place {
            Place::Size => match chunk_size(line).ok_or(BadHead::Chunk)? {
                0 => Ok(Some(Place::Trailers)),
                size if size > self.room => Err(BadHead::BodyTooLarge),
                size => Ok(Some(Place::Chunk(size))),
            },
            Place::ChunkEnd if line.is_empty() => Ok(Some(Place::Size)),
            Place::Trailers if line.is_empty() => Ok(None),
            Place::Trailers if is_field(line) => Ok(Some(Place::Trailers)),
            _ => Err(BadHead::Chunk),
        }
    }
}

enum Line<'a> {
    Part,
    TooLong,
    /// Without its line end, and its length with it.
    Whole(&'a [u8], usize),
}

/// The line that begins here. It ends in CR LF, nothing else: framing is where servers that
/// disagree are deceived.
fn line(bytes: &[u8]) -> Line<'_> {
    let window = &bytes[..bytes.len().min(CHUNK_LINE_BYTES_MAX)];
    match window.iter().position(|&b| b == b'\n') {
        Some(end) => match window[..end].strip_suffix(b"\r") {
            Some(line) => Line::Whole(line, end + 1),
            None => Line::TooLong,
        },
        None if window.len() == CHUNK_LINE_BYTES_MAX => Line::TooLong,
        None => Line::Part,
    }
}

/// Hexadecimal digits, and extensions that nobody here knows.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let (digits, extensions) =
        line.split_at(line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len()));
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    after_extensions(extensions)?;
    digits
        .iter()
        .try_fold(0u64, |size, &digit| Some(size * 16 + u64::from((digit as char).to_digit(16)?)))
}

/// Passes over `*( BWS ";" BWS name [ BWS "=" BWS value ] )` (RFC 9112 §7.1.1), which must be all
/// there is.
fn after_extensions(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        rest = after_token(after_blanks(after_blanks(rest).strip_prefix(b";")?))?;
        if let Some(value) = after_blanks(rest).strip_prefix(b"=") {
            let value = after_blanks(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => after_quoted(quoted)?,
                None => after_token(value)?,
            };
        }
    }
    Some(())
}

fn after_blanks(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(bytes.len())..]
}

fn after_token(bytes: &[u8]) -> Option<&[u8]> {
    let is_of_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let len = bytes.iter().position(|b| !is_of_token(b)).unwrap_or(bytes.len());
    (len > 0).then(|| &bytes[len..])
}

/// Behind the first quote.
fn after_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', quoted, rest @ ..] if is_text(*quoted) => rest,
            [byte, rest @ ..] if is_text(*byte) && *byte != b'\\' => rest,
            _ => return None,
        };
    }
}

/// What a field's value is made of: no control characters but the tabulator (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `name: value`, on one line.
fn is_field(line: &[u8]) -> bool {
    let value = after_token(line).and_then(|rest| rest.strip_prefix(b":"));
    value.is_some_and(|value| value.iter().all(|&b| is_text(b)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::limits::REQUEST_LINE_BYTES_MAX;
    use super::*;
    use proptest::prelude::*;

    /// What a server would do with these pieces, followed by the end of the input: targets, interim
    /// answers, the last word.
    fn seen<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut input = Input::default();
        let mut seen = Vec::new();
        let mut run = |input: &mut Input, has_ended| {
            loop {
                match input.step(has_ended) {
                    Step::More => return,
                    Step::Body { is_awaited: true } => seen.push("continue".to_owned()),
                    Step::Body { is_awaited: false } => {}
                    Step::Bad(bad) => seen.push(bad.to_string()),
                    Step::Request(request) => {
                        seen.push(format!(
                            "{:?} {}",
                            request.method,
                            request.target.escape_ascii()
                        ));
                        input.answered();
                    }
                }
            }
        };
        for piece in pieces {
            input.push(piece);
            run(&mut input, false);
        }
        run(&mut input, true);
        seen
    }

    fn in_one(bytes: &[u8]) -> Vec<String> {
        seen([bytes])
    }

    #[test]
    fn h9_requests_that_come_together_are_seen_one_after_the_other() {
        let two = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c";
        assert_eq!(in_one(two), ["Get /a", "Head /b"]);
        let mut input = Input::default();
        input.push(two);
        assert!(matches!(input.step(false), Step::Request(request) if request.target == b"/a"));
        assert!(
            matches!(input.step(false), Step::Request(request) if request.target == b"/a"),
            "until it is answered"
        );
    }

    #[test]
    fn h9_empty_lines_before_a_request_do_not_count() {
        assert_eq!(
            in_one(b"\r\n\n\r\nGET /a HTTP/1.1\r\n\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
            ["Get /a", "Get /b"]
        );
        let mut input = Input::default();
        for _ in 0..100_000 {
            input.push(b"\r\n");
            assert_eq!(input.step(false), Step::More);
        }
        assert!(input.buffer.capacity() < 100, "and take no room");
        for version in ["1.0", "1.1", "1.5"] {
            let bytes = format!(
                "\n\r\n\r\nGET /a HTTP/{version}\r\nHost: h\r\n\r\n\r\nGET /b \
                 HTTP/{version}\r\nHost: h\r\n\r\n"
            );
            for size in 1..bytes.len() {
                assert_eq!(
                    seen(bytes.as_bytes().chunks(size)),
                    ["Get /a", "Get /b"],
                    "{version} in pieces of {size}"
                );
            }
        }
        // The longest line that is taken, behind an empty one.
        let longest = format!(
            "\r\nGET /{} HTTP/1.1\r\nHost: h\r\n\r\n",
            "a".repeat(REQUEST_LINE_BYTES_MAX - 14)
        );
        let whole = in_one(longest.as_bytes());
        assert!(whole.len() == 1 && whole[0].starts_with("Get /a"), "{whole:?}");
        assert_eq!(seen(longest.as_bytes().chunks(1)), whole);
    }

    #[test]
    fn h32_bodies_are_thrown_away_whatever_their_framing() {
        let after = |head: &str, body: &str| {
            in_one(format!("GET /a HTTP/1.1\r\n{head}\r\n{body}GET /b HTTP/1.1\r\n\r\n").as_bytes())
        };
        let both = ["Get /a", "Get /b"];
        assert_eq!(after("Content-Length: 5\r\n", "GET /"), both);
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3;x=\"y\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
        ] {
            assert_eq!(after("Transfer-Encoding: chunked\r\n", body), both, "{body:?}");
        }
        for line in ["3;x", "3 ;x", "3; x = y ;z", "3;x=\"a;\\\"b\"", "03", "0000000000000003"] {
            assert_eq!(
                after("Transfer-Encoding: chunked\r\n", &format!("{line}\r\nabc\r\n0\r\n\r\n")),
                both,
                "{line:?}"
            );
        }
        let trailers = [
            "X\r\n",
            "X : y\r\n",
            " X: y\r\n",
            ": y\r\n",
            "X: a\rb\r\n",
            "X: \0\r\n",
            "X: y\r\n z\r\n",
            "X: y\n",
        ];
        let trailers = trailers.map(|trailer| format!("0\r\n{trailer}\r\n"));
        let lines = [
            "3\r",
            "3\x0c",
            "3 ",
            "3\t",
            " 3",
            "3;",
            "3;=y",
            "3;x=",
            "3;x=y ",
            "3;x y",
            "3;x=\"y",
            "3;x=\"\\",
            "3;x=a\rb",
            "3;x\0",
            "3;x=\"\0\"",
            "3;x=\"\\\0\"",
            "00000000000000003",
            "3,x",
            "0x3",
            "+3",
            "3g",
        ];
        let lines = lines.map(|line| format!("{line}\r\nabc\r\n0\r\n\r\n"));
        let bodies = [
            "x\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\nabc\r\n",
            "\r\n",
            "11111111111111111\r\n",
            "-1\r\n",
        ];
        for body in trailers.iter().chain(&lines).map(String::as_str).chain(bodies) {
            let bad = BadHead::Chunk.to_string();
            assert_eq!(after("Transfer-Encoding: chunked\r\n", body), [bad], "{body:?}");
        }
    }

    #[test]
    fn h32_a_body_that_is_too_large_is_refused_before_it_has_come() {
        let refused = [BadHead::BodyTooLarge.to_string()];
        assert_eq!(in_one(b"GET /a HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"), refused);
        assert_eq!(
            in_one(b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"),
            refused
        );
        let mut crumbs = b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        crumbs.extend_from_slice(&b"1\r\nx\r\n".repeat(15_000));
        assert_eq!(in_one(&crumbs), refused);
        let mut endless = b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;".to_vec();
        endless.extend_from_slice(&[b'x'; 2000]);
        assert_eq!(in_one(&endless), [BadHead::Chunk.to_string()]);
    }

    #[test]
    fn h31_a_client_that_expects_100_continue_is_told_once() {
        let head = "POST /a HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(in_one(format!("{head}ab").as_bytes()), ["continue", "Other /a"]);
        assert_eq!(in_one(head.as_bytes()), ["continue"]);
        assert_eq!(in_one(b"GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"), ["Get /a"]);
        let old = "POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(in_one(old.as_bytes()), ["Other /a"]);
    }

    #[test]
    fn h32_a_head_is_judged_with_its_first_piece_and_with_its_last_and_seldom_in_between() {
        // Somebody who speaks TLS here need not wait for an answer until he has given up.
        let mut tls = Input::default();
        tls.push(b"\x16\x03\x01\x02");
        assert_eq!(tls.step(false), Step::Bad(BadHead::Syntax));
        for line_end in ["\r\n", "\n"] {
            let head = format!(
                "GET /a HTTP/1.1{line_end}Cookie: {}{line_end}{line_end}",
                "c".repeat(7000)
            );
            let (mut input, mut looks, mut seen) = (Input::default(), 0, State::default());
            for byte in head.as_bytes() {
                assert_eq!(input.step(false), Step::More);
                looks += usize::from(std::mem::replace(&mut seen, input.state) != input.state);
                input.push(&[*byte]);
            }
            assert!(matches!(input.step(false), Step::Request(request) if request.target == b"/a"));
            assert!(looks <= 5, "{looks} looks at a head of {} pieces", head.len());
        }
    }

    #[test]
    fn h9_a_request_is_at_hand_from_its_end_to_its_answer_and_what_follows_it_after_that() {
        let mut input = Input::default();
        input.push(
            b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo",
        );
        assert_eq!((input.request(), input.is_in_body()), (None, false));
        assert!(matches!(input.step(false), Step::Request(_)));
        assert_eq!(input.request().map(|request| request.target), Some(&b"/a"[..]));
        input.answered();
        assert_eq!(input.unanswered(), b"POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo");
        assert_eq!(input.step(false), Step::Body { is_awaited: false });
        assert_eq!(input.step(false), Step::More);
        assert!(input.is_in_body());
        assert_eq!(input.request(), None, "half of its body is still to come");
        input.push(b"dyGET /c");
        assert!(matches!(input.step(false), Step::Request(_)));
        let target = input.request().map(|request| request.target.to_vec());
        assert_eq!((target.as_deref(), input.is_in_body()), (Some(&b"/b"[..]), false));
        input.answered();
        assert_eq!((input.unanswered(), input.is_empty()), (&b"GET /c"[..], false));
    }

    #[test]
    fn h32_nothing_counts_after_a_request_that_is_refused() {
        assert_eq!(
            in_one(b"nonsense\r\n\r\nGET /a HTTP/1.1\r\n\r\n"),
            [BadHead::Syntax.to_string()]
        );
        let mut input = Input::default();
        input.push(&[b'a'; 10_000]);
        assert_eq!(input.step(false), Step::Bad(BadHead::LineTooLong));
        input.push(&[b'a'; 10_000]);
        assert_eq!(input.step(true), Step::More);
        assert_eq!(input.buffer.len(), 10_000);
    }

    #[test]
    fn h9_what_waits_is_bounded_and_a_buffer_does_not_stay_large() {
        let mut input = Input::default();
        let request = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        while !input.is_full() {
            input.push(request);
        }
        assert!(
            (WAITING_BYTES_MAX..WAITING_BYTES_MAX + request.len()).contains(&input.buffer.len())
        );
        while matches!(input.step(false), Step::Request(_)) {
            input.answered();
            assert!(!input.is_full(), "what is answered does not count");
        }
        assert!(input.is_empty() && input.buffer.capacity() <= BUFFER_BYTES_KEPT);
        let mut longest = Input::default();
        longest.push(&vec![b'a'; HEAD_BYTES_MAX + 1]);
        assert!(!longest.is_full(), "a head that is too long is refused: nobody waits for its end");
    }

    #[test]
    fn what_is_closed_takes_nothing_more_and_keeps_no_room() {
        let mut input = Input::default();
        input.push(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
        input.close();
        assert_eq!(input.step(false), Step::More);
        assert_eq!(input.unanswered(), b"");
        input.push(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(input.step(true), Step::More);
        assert_eq!(input.buffer.capacity(), 0);
    }

    /// Bytes that look like requests more often than noise does.
    fn conversations() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
            1 => Just(b"HEAD /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
            2 => Just(
                b"POST /c HTTP/1.1\r\nContent-Length: 4\r\n\
                  Expect: 100-continue\r\n\r\nbody".to_vec()
            ),
            2 => Just(b"GET /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: \
                        x\r\n\r\n".to_vec()),
            1 => Just(b"GET /e HTTP/1.1\r\nX: y\r\n".to_vec()),
            1 => Just(b"\r\n".to_vec()),
            1 => Just(b"GET /f HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: \
                        chunked\r\n\r\n".to_vec()),
            1 => Just([b"Cookie: ", [b'c'; 5000].as_slice()].concat()),
            1 => proptest::collection::vec(any::<u8>(), 0..8),
        ];
        proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn h32_bytes_in_arbitrary_pieces_are_seen_as_in_one(
            bytes in conversations(),
            cuts in proptest::collection::vec(1usize..400, 1..8),
        ) {
            let mut sizes = cuts.iter().cycle();
            let mut rest = bytes.as_slice();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(seen(pieces), in_one(&bytes));
        }

        #[test]
        fn h32_any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            in_one(&bytes);
        }
    }
}
