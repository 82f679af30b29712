//! The head of a request: httparse takes it apart, limits and framing rules judge it (H-7 to H-9,
//! H-32; RFC 9112). Bytes in, facts out.

mod field;
mod host;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use httparse::{Error, Header, Status};

pub use self::field::HeaderField;

use self::field::FIELDS;
use self::host::is_host_value;
use super::limits::{
    HEADERS_BYTES_MAX, HEADERS_MAX, REQUEST_BODY_BYTES_MAX, REQUEST_LINE_BYTES_MAX,
};

/// Bytes of a head at most: what needs more is refused before more is read.
pub const HEAD_BYTES_MAX: usize = REQUEST_LINE_BYTES_MAX + HEADERS_BYTES_MAX + LINE_END.len();

/// A head that does not end is looked at whenever so many bytes more have come.
const LOOK_BYTES: usize = 4096;

const LINE_END: &[u8] = b"\r\n";
const CHUNKED: &[u8] = b"chunked";

/// What a request wants done, as far as this server tells methods apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    Get,
    Head,
    /// Never served (H-29).
    Other,
}

/// The versions that are spoken; every other is answered 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    Http10,
    Http11,
}

/// How long a request's body is, which nobody reads (H-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// Bytes.
    Length(u64),
    Chunked,
}

/// A request's head, where it lies in the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    pub method: HttpMethod,
    pub version: HttpVersion,
    /// As it was sent, query included.
    pub target: &'a [u8],
    /// Whether the client wants to ask more on this connection (RFC 9112 §9.3).
    pub keeps_alive: bool,
    /// Whether it waits for 100 before it sends its body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    pub framing: BodyFraming,
    /// Host fields, which must be one (H-8).
    pub hosts: usize,
    /// One of them names no host (RFC 9112 §3.2).
    pub has_bad_host: bool,
    /// The header lines, each with its line end.
    lines: &'a [u8],
    /// The [`HeaderField`]s among them, and those that came more than once.
    present: u16,
    repeated: u16,
    /// Where in `lines` the value of the first line of each of them begins and ends, by the field's
    /// bit.
    firsts: [(u16, u16); FIELDS],
}

/// What the bytes of a connection begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedHead<'a> {
    /// A part of a head: more must come.
    Partial,
    /// A whole head of so many bytes.
    Whole(RequestHead<'a>, usize),
    Bad(BadHead),
}

/// Why a head is answered without a look at what it asks for. The connection ends: nobody knows
/// where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    #[error("the request is malformed")]
    Syntax,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("the request line is too long")]
    LineTooLong,
    #[error("the header is too large")]
    HeaderTooLarge,
    #[error("Content-Length is not one number")]
    Length,
    #[error(
        "both Content-Length and Transfer-Encoding, or a Transfer-Encoding that does not end in \
         chunked"
    )]
    Encoding,
    #[error("a Transfer-Encoding of more than chunked")]
    Coding,
    #[error("the request's body is too large")]
    BodyTooLarge,
    #[error("a malformed chunk")]
    Chunk,
    #[error("the request's body did not come")]
    BodyTooSlow,
}

/// Bytes of empty lines at the start, which do not count (RFC 9112 §2.2).
pub(super) fn count_empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(LINE_END)) {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Reads the head at the start of these bytes, which do not begin with an empty line. The answer
/// for bytes is the same for whatever follows them, unless it is [`ParsedHead::Partial`]: it does
/// not depend on the pieces in which they came.
pub fn parse_request_head(bytes: &[u8]) -> ParsedHead<'_> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    match split_request_head(window) {
        Ok(Status::Complete(parsed)) => parsed,
        Ok(Status::Partial) => find_broken_limit(window).map_or(ParsedHead::Partial, |bad| {
            ParsedHead::Bad(prefer_earlier_mistake(window, bad))
        }),
        Err(error) => ParsedHead::Bad(match find_broken_limit(window) {
            Some(bad) => prefer_earlier_mistake(window, bad),
            None => map_parse_error(window, error),
        }),
    }
}

/// What httparse makes of a head, and what is to be made of that. It knows HTTP/1.0 and 1.1; a
/// later minor version is read as 1.1 (RFC 9110 §2.5).
fn split_request_head(window: &[u8]) -> Result<Status<ParsedHead<'_>>, Error> {
    let mut space = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(window, &mut space) {
        Ok(Status::Complete(len)) => {
            let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version)
            else {
                return Ok(Status::Complete(ParsedHead::Bad(BadHead::Syntax)));
            };
            let version = if minor == 0 { HttpVersion::Http10 } else { HttpVersion::Http11 };
            return Ok(Status::Complete(judge_request_head(
                RequestLine { method, target, version },
                head.headers,
                &window[..len],
            )));
        }
        Ok(Status::Partial) => return Ok(Status::Partial),
        Err(Error::Version) => {}
        Err(error) => return Err(error),
    }
    let (line, after_line) = match parse_later_version(window)? {
        Status::Complete(found) => found,
        Status::Partial => return Ok(Status::Partial),
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    Ok(match httparse::parse_headers(&window[after_line..], &mut headers)? {
        Status::Complete((len, headers)) => {
            Status::Complete(judge_request_head(line, headers, &window[..after_line + len]))
        }
        Status::Partial => Status::Partial,
    })
}

/// The request line of a version from 1.2 to 1.9, and its length; httparse has found all before the
/// version to be well-formed.
fn parse_later_version(window: &[u8]) -> Result<Status<(RequestLine<'_>, usize)>, Error> {
    let end = window.iter().position(|&b| b == b'\n');
    let line = &window[..end.unwrap_or(window.len())];
    let mut words = line.strip_suffix(b"\r").unwrap_or(line).split(|&b| b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Error::Version);
    };
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] = version else {
        return Err(Error::Version);
    };
    let (Ok(method), Ok(target)) = (std::str::from_utf8(method), std::str::from_utf8(target))
    else {
        return Err(Error::Token);
    };
    let line = RequestLine { method, target, version: HttpVersion::Http11 };
    Ok(end.map_or(Status::Partial, |end| Status::Complete((line, end + 1))))
}

/// Whether these bytes, the first `seen` of which are a part of a head, are worth another look: the
/// head may have ended, or grown too large. A client that sends byte by byte is not parsed byte by
/// byte.
pub(super) fn is_worth_parsing(bytes: &[u8], seen: usize) -> bool {
    let new = &bytes[seen.saturating_sub(LINE_END.len())..];
    let ends =
        new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n");
    ends || bytes.len() / LOOK_BYTES > seen / LOOK_BYTES
}

/// A limit that these bytes break, whatever follows.
fn find_broken_limit(window: &[u8]) -> Option<BadHead> {
    let line_room = REQUEST_LINE_BYTES_MAX + LINE_END.len();
    match window.iter().take(line_room).position(|&b| b == b'\n') {
        None => (window.len() >= line_room).then_some(BadHead::LineTooLong),
        Some(end) if end > REQUEST_LINE_BYTES_MAX && window[end - 1] != b'\r' => {
            Some(BadHead::LineTooLong)
        }
        Some(end) => (window.len() > end + HEADERS_BYTES_MAX).then_some(BadHead::HeaderTooLarge),
    }
}

/// The limit, unless a mistake stands before the place where it is broken.
fn prefer_earlier_mistake(window: &[u8], limit: BadHead) -> BadHead {
    let place = match limit {
        BadHead::LineTooLong => REQUEST_LINE_BYTES_MAX + LINE_END.len(),
        _ => window.iter().position(|&b| b == b'\n').unwrap_or(0) + HEADERS_BYTES_MAX + 1,
    };
    let before = &window[..window.len().min(place)];
    split_request_head(before).err().map_or(limit, |error| map_parse_error(before, error))
}

fn map_parse_error(bytes: &[u8], error: Error) -> BadHead {
    match error {
        Error::TooManyHeaders => BadHead::HeaderTooLarge,
        // What httparse expects there is the version: a target with a space in it is another
        // mistake.
        Error::Version
            if bytes
                .split(|&b| b == b' ')
                .nth(2)
                .is_some_and(|word| word.starts_with(b"HTTP/")) =>
        {
            BadHead::Version
        }
        _ => BadHead::Syntax,
    }
}

/// The first line of a head.
#[derive(Clone, Copy, Debug)]
struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    version: HttpVersion,
}

/// What a well-formed head says, and whether that may be.
fn judge_request_head<'a>(
    line: RequestLine<'a>,
    headers: &[Header<'a>],
    bytes: &'a [u8],
) -> ParsedHead<'a> {
    let RequestLine { method, target, version } = line;
    let line = method.len() + target.len() + "  HTTP/1.1".len();
    if line > REQUEST_LINE_BYTES_MAX {
        return ParsedHead::Bad(BadHead::LineTooLong);
    }
    // The line may end in LF alone (RFC 9112 §2.2).
    let after_line =
        bytes[line..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |end| line + end + 1);
    let lines = &bytes[after_line..];
    if lines.len() > HEADERS_BYTES_MAX {
        return ParsedHead::Bad(BadHead::HeaderTooLarge);
    }
    let mut facts = HeaderFacts::default();
    for header in headers {
        if let Some(field) = HeaderField::from_name(header.name.as_bytes()) {
            facts.record_position(field, header.value, lines);
            facts.record_meaning(field, header.value);
        }
    }
    let method = match method {
        "GET" => HttpMethod::Get,
        "HEAD" => HttpMethod::Head,
        _ => HttpMethod::Other,
    };
    let framing = match facts.framing(version) {
        Ok(framing) => framing,
        Err(bad) => return ParsedHead::Bad(bad),
    };
    let request = RequestHead {
        method,
        version,
        target: target.as_bytes(),
        keeps_alive: !facts.closes && (version == HttpVersion::Http11 || facts.keeps_alive),
        expects_continue: facts.expects_continue && version == HttpVersion::Http11,
        framing,
        hosts: facts.hosts,
        has_bad_host: facts.has_bad_host,
        lines,
        present: facts.present,
        repeated: facts.repeated,
        firsts: facts.firsts,
    };
    ParsedHead::Whole(request, bytes.len())
}

/// What one pass over the header fields gathers.
#[derive(Debug, Default)]
struct HeaderFacts {
    present: u16,
    repeated: u16,
    firsts: [(u16, u16); FIELDS],
    hosts: usize,
    has_bad_host: bool,
    closes: bool,
    keeps_alive: bool,
    expects_continue: bool,
    length: Option<Result<u64, ()>>,
    /// Transfer codings, and whether the last of them is `chunked`.
    codings: usize,
    is_chunked: bool,
}

impl HeaderFacts {
    /// Where its value lies among the lines, of which there are at most [`HEADERS_BYTES_MAX`]
    /// bytes.
    fn record_position(&mut self, field: HeaderField, value: &[u8], lines: &[u8]) {
        let start = value.as_ptr().addr().saturating_sub(lines.as_ptr().addr());
        let place = |at: usize| u16::try_from(at.min(lines.len())).unwrap_or(u16::MAX);
        if self.present & field as u16 == 0 {
            self.firsts[field.index()] = (place(start), place(start + value.len()));
        } else {
            self.repeated |= field as u16;
        }
        self.present |= field as u16;
    }

    fn record_meaning(&mut self, field: HeaderField, value: &[u8]) {
        match field {
            HeaderField::Host => {
                self.hosts += 1;
                self.has_bad_host |= !is_host_value(value.trim_ascii());
            }
            HeaderField::Connection => {
                for token in split_field_tokens(value) {
                    self.closes |= token.eq_ignore_ascii_case(b"close");
                    self.keeps_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            HeaderField::ContentLength => {
                let length = parse_content_length(value).ok_or(());
                // The same number twice is one number (RFC 9112 §6.3).
                self.length = Some(if self.length.is_none_or(|before| before == length) {
                    length
                } else {
                    Err(())
                });
            }
            HeaderField::TransferEncoding => {
                for coding in split_field_tokens(value) {
                    self.codings += 1;
                    self.is_chunked = coding.eq_ignore_ascii_case(CHUNKED);
                }
            }
            HeaderField::Expect => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue")
            }
            _ => {}
        }
    }

    /// RFC 9112 §6.3. Where two servers could disagree on where a body ends, it is refused.
    fn framing(&self, version: HttpVersion) -> Result<BodyFraming, BadHead> {
        let is_encoded = self.present & HeaderField::TransferEncoding as u16 != 0;
        match (is_encoded, self.length) {
            (false, None) => Ok(BodyFraming::Length(0)),
            (false, Some(Ok(len))) if len > REQUEST_BODY_BYTES_MAX => Err(BadHead::BodyTooLarge),
            (false, Some(Ok(len))) => Ok(BodyFraming::Length(len)),
            (false, Some(Err(()))) => Err(BadHead::Length),
            (true, None) if self.is_chunked && version == HttpVersion::Http11 => match self.codings
            {
                1 => Ok(BodyFraming::Chunked),
                _ => Err(BadHead::Coding),
            },
            (true, _) => Err(BadHead::Encoding),
        }
    }
}

fn split_field_tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// Digits alone.
fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl<'a> RequestHead<'a> {
    pub fn has_field(&self, field: HeaderField) -> bool {
        self.present & field as u16 != 0
    }

    /// The values of a field, in the order in which its lines came.
    pub fn values(&self, field: HeaderField) -> impl Iterator<Item = &'a [u8]> {
        let (lines, name) = (if self.has_field(field) { self.lines } else { &[] }, field.name());
        lines.split(|&b| b == b'\n').filter_map(move |line| {
            let (named, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":").filter(|_| named.eq_ignore_ascii_case(name))?;
            Some(value.trim_ascii())
        })
    }

    /// The first value of a field.
    pub fn get(&self, field: HeaderField) -> Option<&'a [u8]> {
        let (start, end) = self.firsts[field.index()];
        self.has_field(field).then(|| self.lines.get(start.into()..end.into()).unwrap_or_default())
    }

    /// The value of a field that came once.
    pub fn single_value(&self, field: HeaderField) -> Option<&'a [u8]> {
        self.get(field).filter(|_| self.repeated & field as u16 == 0)
    }
}
