//! The input of one connection: bytes in any pieces become one request after the other; the server
//! discards their bodies.

#[cfg(test)]
mod tests;

use super::limits::REQUEST_BODY_BYTES_MAX;
use super::request::{
    BadHead, BodyFraming, HEAD_BYTES_MAX, ParsedHead, RequestHead, count_empty_lines,
    is_worth_parsing, parse_request_head,
};

/// Bytes kept of pipelined requests. The caller stops reading from a client that sends more; see
/// [`RequestInput::is_full`].
pub const WAITING_BYTES_MAX: usize = HEAD_BYTES_MAX + 8 * 1024;
/// Capacity that an empty buffer keeps for the next request, bytes.
const BUFFER_BYTES_KEPT: usize = 4 * 1024;
/// Longest line before a chunk, extensions included, and longest trailer line, bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// The bytes of one connection that have arrived and have no response yet.
#[derive(Debug, Default)]
pub struct RequestInput {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that already have a response.
    start: usize,
    state: InputState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputState {
    /// The first bytes of a head; this many were parsed and are no whole head.
    Head(usize),
    /// A head of this many bytes, and the rest of its body.
    Body(usize, DiscardedBody),
    /// A head of this many bytes, its body discarded: it waits for its response.
    Whole(usize),
    /// The server ignores all further input.
    Lost,
}

impl Default for InputState {
    fn default() -> Self {
        Self::Head(0)
    }
}

/// A body that the server reads and discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DiscardedBody {
    /// Bytes that may still arrive before the body is too large, framing included.
    room: u64,
    place: BodyPosition,
}

/// The part of the body that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyPosition {
    /// This many bytes of a body of known length.
    Length(u64),
    /// The line with a chunk's size.
    Size,
    /// This many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailer lines up to an empty one.
    Trailers,
}

/// The next step of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum InputStep<'a> {
    /// Wait for bytes.
    More,
    /// A request with a body. Send 100 if the client awaits it (RFC 9110 §10.1.1), then call again.
    Body {
        /// The client waits for 100 before it sends the body.
        is_awaited: bool,
    },
    /// Answer this request; [`RequestInput::finish_request`] goes on to the next.
    Request(RequestHead<'a>),
    /// Answer this and read no more.
    Bad(BadHead),
}

impl RequestInput {
    /// Appends bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.state == InputState::Lost {
            return;
        }
        self.buffer.drain(..std::mem::take(&mut self.start));
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether no byte of a next request has arrived.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The bytes that have arrived and have no response yet.
    pub fn unanswered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Whether the caller should send a response before it reads more.
    pub fn is_full(&self) -> bool {
        self.buffer.len() - self.start >= WAITING_BYTES_MAX
    }

    /// Whether a request's body is still to come.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, InputState::Body(..))
    }

    /// Parses the next step. `has_ended`: the client sends no more.
    pub fn step(&mut self, has_ended: bool) -> InputStep<'_> {
        let Self { buffer, start, state } = self;
        if let InputState::Body(head, body) = state {
            match body.discard(buffer, *start + *head) {
                DiscardProgress::Whole => *state = InputState::Whole(*head),
                DiscardProgress::More => return InputStep::More,
                DiscardProgress::Bad(bad) => {
                    *state = InputState::Lost;
                    return InputStep::Bad(bad);
                }
            }
        }
        let seen = match *state {
            InputState::Head(seen) => seen,
            InputState::Whole(head) => return parse_whole_head(&buffer[*start..*start + head]),
            InputState::Body(..) | InputState::Lost => return InputStep::More,
        };
        *start += if seen == 0 { count_empty_lines(&buffer[*start..]) } else { 0 };
        let bytes = &buffer[*start..];
        // Half of an empty line belongs to no head: the parser would count it to the request line.
        let is_half_a_line = seen == 0 && bytes == b"\r";
        if bytes.is_empty()
            || (!has_ended && (is_half_a_line || (seen > 0 && !is_worth_parsing(bytes, seen))))
        {
            return InputStep::More;
        }
        match parse_request_head(bytes) {
            ParsedHead::Partial => *state = InputState::Head(bytes.len()),
            ParsedHead::Bad(bad) => {
                *state = InputState::Lost;
                return InputStep::Bad(bad);
            }
            ParsedHead::Whole(request, head) if request.framing == BodyFraming::Length(0) => {
                *state = InputState::Whole(head);
                return InputStep::Request(request);
            }
            ParsedHead::Whole(request, head) => {
                *state = InputState::Body(head, DiscardedBody::new(request.framing));
                return InputStep::Body { is_awaited: request.expects_continue };
            }
        }
        InputStep::More
    }

    /// The request that waits for its response, parsed again.
    pub fn request(&self) -> Option<RequestHead<'_>> {
        let InputState::Whole(head) = self.state else { return None };
        match parse_whole_head(&self.buffer[self.start..self.start + head]) {
            InputStep::Request(request) => Some(request),
            _ => None,
        }
    }

    /// Drops the request that has got its response.
    pub fn finish_request(&mut self) {
        if let InputState::Whole(head) = self.state {
            self.start += head;
            self.state = InputState::Head(0);
        }
        if self.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
            self.start = 0;
        }
    }

    /// Ignores all further input.
    pub fn close(&mut self) {
        *self = Self { state: InputState::Lost, ..Self::default() };
    }
}

/// Parses a head that was whole before.
fn parse_whole_head(head: &[u8]) -> InputStep<'_> {
    match parse_request_head(head) {
        ParsedHead::Whole(request, _) => InputStep::Request(request),
        ParsedHead::Bad(bad) => InputStep::Bad(bad),
        ParsedHead::Partial => InputStep::More,
    }
}

/// How much of a body has been discarded.
enum DiscardProgress {
    Whole,
    More,
    Bad(BadHead),
}

impl DiscardedBody {
    fn new(framing: BodyFraming) -> Self {
        let place = match framing {
            BodyFraming::Length(len) => BodyPosition::Length(len),
            BodyFraming::Chunked => BodyPosition::Size,
        };
        Self { room: REQUEST_BODY_BYTES_MAX, place }
    }

    /// Removes the arrived part of the body from the buffer, in which it begins at `at`.
    fn discard(&mut self, buffer: &mut Vec<u8>, at: usize) -> DiscardProgress {
        let mut taken = at;
        let thrown = loop {
            let rest = &buffer[taken..];
            let (len, next) = match self.place {
                BodyPosition::Length(0) => break DiscardProgress::Whole,
                BodyPosition::Length(left) => {
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    (len, BodyPosition::Length(left - len as u64))
                }
                BodyPosition::Chunk(0) => (0, BodyPosition::ChunkEnd),
                BodyPosition::Chunk(left) => {
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    (len, BodyPosition::Chunk(left - len as u64))
                }
                BodyPosition::Size | BodyPosition::ChunkEnd | BodyPosition::Trailers => {
                    match scan_line(rest) {
                        LineScan::Part => break DiscardProgress::More,
                        LineScan::TooLong => break DiscardProgress::Bad(BadHead::Chunk),
                        LineScan::Whole(line, len) => match self.parse_chunk_line(line) {
                            Ok(Some(next)) => (len, next),
                            Ok(None) => {
                                taken += len;
                                break DiscardProgress::Whole;
                            }
                            Err(bad) => break DiscardProgress::Bad(bad),
                        },
                    }
                }
            };
            // The buffer has no byte of this part.
            if len == 0 && self.place == next {
                break DiscardProgress::More;
            }
            // Framing counts too, or extensions and trailers could go on for ever.
            let Some(room) = self.room.checked_sub(len as u64) else {
                break DiscardProgress::Bad(BadHead::BodyTooLarge);
            };
            (self.room, self.place) = (room, next);
            taken += len;
        };
        buffer.drain(at..taken);
        thrown
    }

    /// Parses a line of chunked framing (RFC 9112 §7.1) and returns what follows; None: the body is
    /// whole.
    fn parse_chunk_line(&self, line: &[u8]) -> Result<Option<BodyPosition>, BadHead> {
        match self.place {
            BodyPosition::Size => match parse_chunk_size(line).ok_or(BadHead::Chunk)? {
                0 => Ok(Some(BodyPosition::Trailers)),
                size if size > self.room => Err(BadHead::BodyTooLarge),
                size => Ok(Some(BodyPosition::Chunk(size))),
            },
            BodyPosition::ChunkEnd if line.is_empty() => Ok(Some(BodyPosition::Size)),
            BodyPosition::Trailers if line.is_empty() => Ok(None),
            BodyPosition::Trailers if is_field_line(line) => Ok(Some(BodyPosition::Trailers)),
            _ => Err(BadHead::Chunk),
        }
    }
}

enum LineScan<'a> {
    Part,
    TooLong,
    /// The line without its line end, and its length with the line end.
    Whole(&'a [u8], usize),
}

/// Finds the line that begins here. It must end in CR LF: a lax end would let two servers disagree
/// on the framing.
fn scan_line(bytes: &[u8]) -> LineScan<'_> {
    let window = &bytes[..bytes.len().min(CHUNK_LINE_BYTES_MAX)];
    match window.iter().position(|&b| b == b'\n') {
        Some(end) => match window[..end].strip_suffix(b"\r") {
            Some(line) => LineScan::Whole(line, end + 1),
            None => LineScan::TooLong,
        },
        None if window.len() == CHUNK_LINE_BYTES_MAX => LineScan::TooLong,
        None => LineScan::Part,
    }
}

/// Parses the hexadecimal size of a chunk; skips its extensions.
fn parse_chunk_size(line: &[u8]) -> Option<u64> {
    let (digits, extensions) =
        line.split_at(line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len()));
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    skip_chunk_extensions(extensions)?;
    digits
        .iter()
        .try_fold(0u64, |size, &digit| Some(size * 16 + u64::from((digit as char).to_digit(16)?)))
}

/// Skips `*( BWS ";" BWS name [ BWS "=" BWS value ] )` (RFC 9112 §7.1.1), which must be the rest of
/// the line.
fn skip_chunk_extensions(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        rest = skip_token(skip_blanks(skip_blanks(rest).strip_prefix(b";")?))?;
        if let Some(value) = skip_blanks(rest).strip_prefix(b"=") {
            let value = skip_blanks(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => skip_quoted_string(quoted)?,
                None => skip_token(value)?,
            };
        }
    }
    Some(())
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(bytes.len())..]
}

fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let is_of_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let len = bytes.iter().position(|b| !is_of_token(b)).unwrap_or(bytes.len());
    (len > 0).then(|| &bytes[len..])
}

/// Skips a quoted string after its first quote.
fn skip_quoted_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', quoted, rest @ ..] if is_field_text(*quoted) => rest,
            [byte, rest @ ..] if is_field_text(*byte) && *byte != b'\\' => rest,
            _ => return None,
        };
    }
}

/// Whether a field value may contain this byte: no control characters but the tabulator (RFC 9110
/// §5.5).
fn is_field_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether this is `name: value` on one line.
fn is_field_line(line: &[u8]) -> bool {
    let value = skip_token(line).and_then(|rest| rest.strip_prefix(b":"));
    value.is_some_and(|value| value.iter().all(|&b| is_field_text(b)))
}
