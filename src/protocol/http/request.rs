//! The head of a request: httparse splits it, this file checks limits and framing (H-7 to H-9,
//! H-32; RFC 9112).

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

/// Longest head, bytes: the server refuses a longer one before it reads more.
pub const HEAD_BYTES_MAX: usize = REQUEST_LINE_BYTES_MAX + HEADERS_BYTES_MAX + LINE_END.len();

/// A head that does not end is parsed again after this many more bytes.
const LOOK_BYTES: usize = 4096;

const LINE_END: &[u8] = b"\r\n";
const CHUNKED: &[u8] = b"chunked";

/// The method of a request, as far as this server tells methods apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// GET: the head and the body of the response.
    Get,
    /// HEAD: the head alone (H-6).
    Head,
    /// Any other method: 405 (H-29).
    Other,
}

/// The versions that this server speaks; it answers every other one with 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0: the connection ends after the response, unless the client asks to keep it.
    Http10,
    /// HTTP/1.1, and every later minor version.
    Http11,
}

/// The length of a request's body, which the server discards (H-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// A body of this many bytes; 0: no body.
    Length(u64),
    /// A body in chunks, which says itself where it ends.
    Chunked,
}

/// A request's head, borrowed from the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: HttpMethod,
    /// The version that the response must speak.
    pub version: HttpVersion,
    /// The request target as the client sent it, query included.
    pub target: &'a [u8],
    /// Whether the client keeps the connection for further requests (RFC 9112 §9.3).
    pub keeps_alive: bool,
    /// Whether the client waits for 100 before it sends its body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// The length of the body.
    pub framing: BodyFraming,
    /// Number of Host fields, which must be 1 (H-8).
    pub hosts: usize,
    /// One of the Host fields names no host (RFC 9112 §3.2).
    pub has_bad_host: bool,
    /// The header lines, each with its line end.
    lines: &'a [u8],
    /// The [`HeaderField`]s among the lines, one bit each.
    present: u16,
    /// The fields that occur more than once, one bit each.
    repeated: u16,
    /// Where in `lines` the value of the first line of each of them begins and ends, by the field's
    /// bit.
    firsts: [(u16, u16); FIELDS],
}

/// The parsed beginning of a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedHead<'a> {
    /// A part of a head: wait for more bytes.
    Partial,
    /// A whole head and its length in bytes.
    Whole(RequestHead<'a>, usize),
    /// No head that the server answers normally.
    Bad(BadHead),
}

/// Why the server refuses a head or a body without a look at its target. The connection ends, since
/// the start of the next request is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// 400: no valid request line or header line.
    #[error("the request is malformed")]
    Syntax,
    /// 505: neither HTTP/1.0 nor HTTP/1.x.
    #[error("this server speaks only HTTP/1.0 and HTTP/1.1")]
    Version,
    /// 414: the request line exceeds [`REQUEST_LINE_BYTES_MAX`].
    #[error("the request line is too long")]
    LineTooLong,
    /// 431: the header lines exceed [`HEADERS_BYTES_MAX`] or [`HEADERS_MAX`].
    #[error("the header is too large")]
    HeaderTooLarge,
    /// 400: several different values of Content-Length, or one that is no number.
    #[error("Content-Length is not one number")]
    Length,
    /// 400: the end of the body is ambiguous (RFC 9112 §6.3).
    #[error(
        "both Content-Length and Transfer-Encoding, or a Transfer-Encoding that does not end in \
         chunked"
    )]
    Encoding,
    /// 501: a transfer coding besides chunked.
    #[error("a Transfer-Encoding other than chunked alone")]
    Coding,
    /// 413: the body exceeds [`REQUEST_BODY_BYTES_MAX`].
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// 400: a chunk of the body is malformed.
    #[error("a malformed chunk")]
    Chunk,
    /// 408: the body did not arrive in time.
    #[error("the request's body did not arrive in time")]
    BodyTooSlow,
}

/// Bytes of empty lines at the start, which the server ignores (RFC 9112 §2.2).
pub(super) fn count_empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(LINE_END)) {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Parses the head at the start of these bytes, which do not begin with an empty line. Unless the
/// result is [`ParsedHead::Partial`], further bytes do not change it: it does not depend on the
/// pieces in which the bytes arrive.
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

/// Splits a head by httparse, which knows HTTP/1.0 and 1.1, and checks it. Reads a later minor
/// version as 1.1 (RFC 9110 §2.5).
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

    // httparse stopped at the version: read the line here, and the header lines by httparse.
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

/// Parses the request line of a version from 1.2 to 1.9, and returns its length too. httparse has
/// already checked everything before the version.
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

/// Whether to parse these bytes again, the first `seen` of which are a part of a head: the head may
/// have ended, or grown too large. The server does not parse a client's input byte by byte, even if
/// the client sends so.
pub(super) fn is_worth_parsing(bytes: &[u8], seen: usize) -> bool {
    let new = &bytes[seen.saturating_sub(LINE_END.len())..];
    let ends =
        new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n");
    ends || bytes.len() / LOOK_BYTES > seen / LOOK_BYTES
}

/// The limit that these bytes exceed, whatever follows.
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

/// Returns `limit`, unless a syntax error comes before the place where the limit is exceeded.
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
        // httparse expects the version there; a target with a space in it is a syntax error.
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

/// Checks a well-formed head against the limits and the framing rules.
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
    let expects_continue = facts.expects_continue && version == HttpVersion::Http11;
    // The answer to such a method is known before its body: the client waits and need not send it
    // (RFC 9110 section 10.1.1). What comes all the same is no request, so the connection ends.
    let is_body_unwanted =
        expects_continue && method == HttpMethod::Other && framing != BodyFraming::Length(0);
    let keeps_alive = !facts.closes && (version == HttpVersion::Http11 || facts.keeps_alive);
    let request = RequestHead {
        method,
        version,
        target: target.as_bytes(),
        keeps_alive: keeps_alive && !is_body_unwanted,
        expects_continue,
        framing: if is_body_unwanted { BodyFraming::Length(0) } else { framing },
        hosts: facts.hosts,
        has_bad_host: facts.has_bad_host,
        lines,
        present: facts.present,
        repeated: facts.repeated,
        firsts: facts.firsts,
    };
    ParsedHead::Whole(request, bytes.len())
}

/// The facts that one pass over the header fields gathers.
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
    /// Number of transfer codings.
    codings: usize,
    /// The last transfer coding is `chunked`.
    is_chunked: bool,
}

impl HeaderFacts {
    /// Records where the value lies in `lines`, which have at most [`HEADERS_BYTES_MAX`] bytes.
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

    /// The length of the body (RFC 9112 §6.3). An error where two servers could disagree on the end
    /// of the body.
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

/// Parses digits alone: no sign, no blank.
fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl<'a> RequestHead<'a> {
    /// Whether the field occurs at all.
    pub fn has_field(&self, field: HeaderField) -> bool {
        self.present & field as u16 != 0
    }

    /// The values of a field, in the order of its lines.
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

    /// The value of a field that occurs once; None where it is missing or repeated.
    pub fn single_value(&self, field: HeaderField) -> Option<&'a [u8]> {
        self.get(field).filter(|_| self.repeated & field as u16 == 0)
    }
}
