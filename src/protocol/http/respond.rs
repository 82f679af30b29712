//! Builds the response to a request: status, header fields, the parts of the body. Pure: it never
//! touches the bytes of a file.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::time::SystemTime;

use super::conditional::{PreconditionOutcome, evaluate_preconditions, truncate_to_seconds};
use super::head::{write_decimal, write_header_field};
use super::limits::RETRY_AFTER_SECONDS;
use super::range::{ByteRanges, parse_range_header};
use super::request::{BadHead, HeaderField, HttpMethod, HttpVersion, RequestHead};

/// A status that this server sends, with its phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseStatus(&'static str);

impl ResponseStatus {
    /// A whole file, a listing, or the head of one.
    pub const OK: Self = Self("200 OK");
    /// One range of a file, or several in a multipart body (H-16, H-18).
    pub const PARTIAL_CONTENT: Self = Self("206 Partial Content");
    /// The client's copy is current (H-22).
    pub const NOT_MODIFIED: Self = Self("304 Not Modified");
    /// The request is malformed; the connection ends.
    pub const BAD_REQUEST: Self = Self("400 Bad Request");
    /// The name exists and is never served.
    pub const FORBIDDEN: Self = Self("403 Forbidden");
    /// No file of this name exists.
    pub const NOT_FOUND: Self = Self("404 Not Found");
    /// Neither GET nor HEAD (H-29).
    pub const METHOD_NOT_ALLOWED: Self = Self("405 Method Not Allowed");
    /// The request's body did not arrive in time.
    pub const REQUEST_TIMEOUT: Self = Self("408 Request Timeout");
    /// If-Match or If-Unmodified-Since failed (H-20).
    pub const PRECONDITION_FAILED: Self = Self("412 Precondition Failed");
    /// The request's body is too large (H-32).
    pub const BODY_TOO_LARGE: Self = Self("413 Content Too Large");
    /// The request line is too long (H-32).
    pub const LINE_TOO_LONG: Self = Self("414 URI Too Long");
    /// The range lies outside the file (H-17).
    pub const RANGE_NOT_SATISFIABLE: Self = Self("416 Range Not Satisfiable");
    /// The header lines are too large or too many (H-32).
    pub const HEADER_TOO_LARGE: Self = Self("431 Request Header Fields Too Large");
    /// The server failed; its log says why.
    pub const INTERNAL_ERROR: Self = Self("500 Internal Server Error");
    /// A transfer coding besides chunked.
    pub const NOT_IMPLEMENTED: Self = Self("501 Not Implemented");
    /// The server has no room now (H-14).
    pub const BUSY: Self = Self("503 Service Unavailable");
    /// Neither HTTP/1.0 nor HTTP/1.x.
    pub const VERSION: Self = Self("505 HTTP Version Not Supported");

    /// Whether the client did not get what it wanted (4xx and 5xx).
    pub fn is_refusal(self) -> bool {
        self.0 >= "4"
    }
}

/// The metadata of a file or a rendered text, on which responses depend.
#[derive(Clone, Copy, Debug)]
pub struct RepresentationMeta<'a> {
    /// Length, bytes.
    pub len: u64,
    /// The ETag: strong, and quoted (H-23).
    pub etag: &'a str,
    /// When the file last changed.
    pub mtime: SystemTime,
    /// `mtime` as an HTTP date.
    pub last_modified: &'a str,
    /// The media type, which [`super::media::find_media_type`] derives from the requested name.
    pub media: &'static str,
}

/// A response without the bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponsePlan<'a> {
    /// The status line.
    pub status: ResponseStatus,
    /// The body.
    pub payload: ResponsePayload,
    /// Whether the connection ends after this response, whatever the client wants.
    pub closes: bool,
    /// Content-Length: of the body, or of the body that GET would get; None where the field is
    /// forbidden (304).
    length: Option<u64>,
    validators: Option<CacheValidators<'a>>,
    kind: Option<ContentType>,
    extra: Option<ExtraField>,
}

/// The fields by which a client recognizes a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CacheValidators<'a> {
    etag: &'a str,
    /// None: the Date of the response.
    last_modified: Option<&'a str>,
}

/// Content-Type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ContentType {
    Media(&'static str),
    /// `multipart/byteranges` with this boundary.
    Multipart(String),
}

/// A header field that few responses have; none has two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ExtraField {
    /// Content-Range: these bytes of a file of this length.
    Range(Range<u64>, u64),
    /// Content-Range without a range: the length of the file alone.
    NoRange(u64),
    Allow,
    RetryAfter,
}

/// The body of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponsePayload {
    /// No body: HEAD, 304, an empty file.
    None,
    /// A text that the server made.
    Text(Cow<'static, str>),
    /// These bytes of the file.
    File(Range<u64>),
    /// `multipart/byteranges`: each part with its own head and range, then the closing line.
    Multipart(Vec<BodyPart>, String),
}

/// One part of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// The lines before the part's bytes.
    pub head: String,
    /// The part's bytes of the file.
    pub range: Range<u64>,
}

impl ResponsePayload {
    /// Length on the wire, bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end - range.start,
            Self::Multipart(parts, end) => {
                let part =
                    |part: &BodyPart| part.head.len() as u64 + part.range.end - part.range.start;
                parts.iter().map(part).sum::<u64>() + end.len() as u64
            }
        }
    }

    /// Whether no byte follows the head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ResponsePlan<'_> {
    /// Writes the head of the response: names in Title-Case (H-1), one space after each colon
    /// (H-2). `keeps`: the connection goes on, which HTTP/1.1 implies and HTTP/1.0 must be told.
    /// `date` is the time as an HTTP date.
    pub fn write_head(&self, version: HttpVersion, keeps: bool, date: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if version == HttpVersion::Http10 {
            b"HTTP/1.0 "
        } else {
            b"HTTP/1.1 "
        });
        out.extend_from_slice(self.status.0.as_bytes());

        // The fields of the file come first, and those of the connection last.
        if let Some(CacheValidators { etag, last_modified }) = self.validators {
            write_header_field(out, "Etag", etag);
            write_header_field(out, "Last-Modified", last_modified.unwrap_or(date));
            write_header_field(out, "Accept-Ranges", "bytes");
        }
        match &self.kind {
            None => {}
            Some(ContentType::Media(media)) => write_header_field(out, "Content-Type", media),
            Some(ContentType::Multipart(boundary)) => {
                write_header_field(out, "Content-Type", "multipart/byteranges; boundary=");
                out.extend_from_slice(boundary.as_bytes());
            }
        }
        match &self.extra {
            None => {}
            Some(ExtraField::Range(range, len)) => {
                write_header_field(out, "Content-Range", "bytes ");
                write_content_range(out, range, *len);
            }
            Some(ExtraField::NoRange(len)) => {
                write_header_field(out, "Content-Range", "bytes */");
                write_decimal(out, *len);
            }
            Some(ExtraField::Allow) => write_header_field(out, "Allow", "GET, HEAD"),
            Some(ExtraField::RetryAfter) => {
                write_header_field(out, "Retry-After", "");
                write_decimal(out, RETRY_AFTER_SECONDS.into());
            }
        }

        if let Some(length) = self.length {
            write_header_field(out, "Content-Length", "");
            write_decimal(out, length);
        }
        match (keeps, version) {
            (false, _) => write_header_field(out, "Connection", "close"),
            (true, HttpVersion::Http10) => write_header_field(out, "Connection", "keep-alive"),
            (true, HttpVersion::Http11) => {}
        }
        write_header_field(out, "Date", date);
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// The refusal that a head alone causes, whatever its target; None: go on.
pub fn forbid_by_head(request: &RequestHead<'_>) -> Option<ResponsePlan<'static>> {
    if request.hosts > 1 || (request.hosts == 0 && request.version == HttpVersion::Http11) {
        return Some(answer_bad_request(request, "exactly one Host header is required"));
    }
    if request.has_bad_host {
        return Some(answer_bad_request(request, "the Host header names no host"));
    }
    if request.method == HttpMethod::Other {
        let mut plan = answer_text(
            request,
            ResponseStatus::METHOD_NOT_ALLOWED,
            "this server answers only GET and HEAD\n",
        );
        plan.extra = Some(ExtraField::Allow);
        return Some(plan);
    }
    None
}

/// The response to a head or a body after which the connection is useless. Such a head does not
/// tell whether the client wants a body, so this response has one.
pub fn answer_bad_head(why: BadHead) -> ResponsePlan<'static> {
    let status = match why {
        BadHead::Syntax | BadHead::Length | BadHead::Encoding | BadHead::Chunk => {
            ResponseStatus::BAD_REQUEST
        }
        BadHead::Coding => ResponseStatus::NOT_IMPLEMENTED,
        BadHead::BodyTooSlow => ResponseStatus::REQUEST_TIMEOUT,
        BadHead::BodyTooLarge => ResponseStatus::BODY_TOO_LARGE,
        BadHead::LineTooLong => ResponseStatus::LINE_TOO_LONG,
        BadHead::HeaderTooLarge => ResponseStatus::HEADER_TOO_LARGE,
        BadHead::Version => ResponseStatus::VERSION,
    };
    close_after_response(finish_response(
        HttpMethod::Get,
        status,
        TEXT,
        ResponsePayload::Text(format!("{why}\n").into()),
    ))
}

/// The response with a file or a rendered text.
pub fn answer_with_file<'a>(
    request: &RequestHead<'_>,
    meta: RepresentationMeta<'a>,
    now: SystemTime,
) -> ResponsePlan<'a> {
    // Last-Modified is never in the future (H-23).
    let is_past = meta.mtime <= now;
    let validators =
        CacheValidators { etag: meta.etag, last_modified: is_past.then_some(meta.last_modified) };
    let verdict = evaluate_preconditions(
        request,
        meta.etag,
        truncate_to_seconds(if is_past { meta.mtime } else { now }),
    );
    let range = match verdict {
        PreconditionOutcome::Failed => {
            return answer_text(
                request,
                ResponseStatus::PRECONDITION_FAILED,
                "the file has changed\n",
            );
        }
        PreconditionOutcome::NotModified => {
            let (status, payload) = (ResponseStatus::NOT_MODIFIED, ResponsePayload::None);
            let validators = Some(validators);
            return ResponsePlan {
                status,
                payload,
                closes: false,
                length: None,
                validators,
                kind: None,
                extra: None,
            };
        }
        PreconditionOutcome::Proceed { range } => range,
    };
    let kind = ContentType::Media(meta.media);
    let (status, kind, extra, payload) =
        match if range { select_ranges(request, meta.len) } else { ByteRanges::Whole } {
            ByteRanges::Unsatisfiable => return answer_unsatisfiable(request, meta.len),
            ByteRanges::Whole => {
                (ResponseStatus::OK, kind, None, ResponsePayload::File(0..meta.len))
            }
            ByteRanges::One(range) => {
                let extra = ExtraField::Range(range.clone(), meta.len);
                (ResponseStatus::PARTIAL_CONTENT, kind, Some(extra), ResponsePayload::File(range))
            }
            ByteRanges::Several(parts) => {
                let boundary = make_boundary(meta.etag, &parts);
                let payload = build_multipart_payload(parts, &boundary, meta.media, meta.len);
                (ResponseStatus::PARTIAL_CONTENT, ContentType::Multipart(boundary), None, payload)
            }
        };
    ResponsePlan {
        validators: Some(validators),
        extra,
        ..finish_response(request.method, status, kind, payload)
    }
}

/// A directory listing as HTML.
pub fn answer_listing(request: &RequestHead<'_>, page: String) -> ResponsePlan<'static> {
    finish_response(
        request.method,
        ResponseStatus::OK,
        ContentType::Media("text/html"),
        ResponsePayload::Text(page.into()),
    )
}

/// 404. GRUB tries its next name after this status only (H-30).
pub fn answer_not_found(request: &RequestHead<'_>) -> ResponsePlan<'static> {
    answer_text(request, ResponseStatus::NOT_FOUND, "not found\n")
}

/// 403 with the reason: the name exists and is never served.
pub fn answer_forbidden(request: &RequestHead<'_>, reason: &str) -> ResponsePlan<'static> {
    answer_text(request, ResponseStatus::FORBIDDEN, format!("{reason}\n"))
}

/// 500 with the reason: the server failed.
pub fn answer_failed(request: &RequestHead<'_>, reason: &str) -> ResponsePlan<'static> {
    answer_text(request, ResponseStatus::INTERNAL_ERROR, format!("{reason}\n"))
}

/// 503. Only iPXE understands Retry-After, and only as whole seconds (H-14).
pub fn answer_overloaded(request: &RequestHead<'_>) -> ResponsePlan<'static> {
    let mut plan =
        close_after_response(answer_text(request, ResponseStatus::BUSY, "the server is busy\n"));
    plan.extra = request
        .get(HeaderField::UserAgent)
        .is_some_and(is_ipxe_agent)
        .then_some(ExtraField::RetryAfter);
    plan
}

/// Whether iPXE sent this User-Agent.
fn is_ipxe_agent(user_agent: &[u8]) -> bool {
    user_agent.starts_with(b"iPXE/")
}

/// Whether unparsed bytes begin with a request of iPXE.
pub fn is_ipxe_request(request: &[u8]) -> bool {
    request.split(|&b| b == b'\n').any(|line| {
        let (name, value) =
            line.split_at(line.iter().position(|&b| b == b':').unwrap_or(line.len()));
        name.eq_ignore_ascii_case(b"user-agent")
            && is_ipxe_agent(value.get(1..).unwrap_or_default().trim_ascii_start())
    })
}

/// 400 with the reason. The connection ends: the bytes after such a request may be no request.
pub fn answer_bad_request(request: &RequestHead<'_>, reason: &str) -> ResponsePlan<'static> {
    close_after_response(answer_text(request, ResponseStatus::BAD_REQUEST, format!("{reason}\n")))
}

/// 503 as bytes, for a connection that the server has no room for and whose request it has not
/// parsed. `date` is the time as an HTTP date (H-31).
pub fn encode_overloaded(date: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER_SECONDS}\r\nContent-Length: \
         0\r\nConnection: close\r\n\
         Date: {date}\r\n\r\n"
    )
    .into_bytes()
}

/// Range counts on GET only (H-19), and only if it occurs once.
fn select_ranges(request: &RequestHead<'_>, len: u64) -> ByteRanges {
    match request.single_value(HeaderField::Range) {
        Some(value) if request.method == HttpMethod::Get => parse_range_header(value, len),
        _ => ByteRanges::Whole,
    }
}

fn build_multipart_payload(
    parts: Vec<Range<u64>>,
    boundary: &str,
    media: &str,
    len: u64,
) -> ResponsePayload {
    let part = |(n, range): (usize, Range<u64>)| {
        // The CRLF before a boundary belongs to the boundary (RFC 2046 section 5.1.1).
        let line_end = if n == 0 { "" } else { "\r\n" };
        let mut place = Vec::new();
        write_content_range(&mut place, &range, len);
        let place = String::from_utf8_lossy(&place);
        let head = format!(
            "{line_end}--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes \
             {place}\r\n\r\n"
        );
        BodyPart { head, range }
    };
    ResponsePayload::Multipart(
        parts.into_iter().enumerate().map(part).collect(),
        format!("\r\n--{boundary}--\r\n"),
    )
}

fn write_content_range(out: &mut Vec<u8>, range: &Range<u64>, len: u64) {
    write_decimal(out, range.start);
    out.push(b'-');
    write_decimal(out, range.end - 1);
    out.push(b'/');
    write_decimal(out, len);
}

/// A boundary that hardly occurs in a file, and is the same for the same response (FNV-1a over ETag
/// and ranges).
fn make_boundary(etag: &str, parts: &[Range<u64>]) -> String {
    let numbers =
        parts.iter().flat_map(|part| [part.start.to_le_bytes(), part.end.to_le_bytes()]).flatten();
    let hash = etag.bytes().chain(numbers).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("ringboot-{hash:016x}")
}

fn answer_unsatisfiable(request: &RequestHead<'_>, len: u64) -> ResponsePlan<'static> {
    let plan = answer_text(
        request,
        ResponseStatus::RANGE_NOT_SATISFIABLE,
        "the range lies outside the file\n",
    );
    ResponsePlan { extra: Some(ExtraField::NoRange(len)), ..plan }
}

const TEXT: ContentType = ContentType::Media("text/plain");

fn answer_text(
    request: &RequestHead<'_>,
    status: ResponseStatus,
    text: impl Into<Cow<'static, str>>,
) -> ResponsePlan<'static> {
    finish_response(request.method, status, TEXT, ResponsePayload::Text(text.into()))
}

/// Adds the length, and removes the body for HEAD (H-4, H-6).
fn finish_response(
    method: HttpMethod,
    status: ResponseStatus,
    kind: ContentType,
    payload: ResponsePayload,
) -> ResponsePlan<'static> {
    // HEAD states the length of the body that GET would get, so the body is measured first (H-6).
    let length = Some(payload.len());
    let payload = if method == HttpMethod::Head || payload.is_empty() {
        ResponsePayload::None
    } else {
        payload
    };
    ResponsePlan {
        status,
        payload,
        closes: false,
        length,
        validators: None,
        kind: Some(kind),
        extra: None,
    }
}

fn close_after_response(plan: ResponsePlan<'static>) -> ResponsePlan<'static> {
    ResponsePlan { closes: true, ..plan }
}
