//! From a request's head and what its name gave to an answer: status, header fields, the parts of
//! the body. Pure: the bytes of a file stay where they are.

use std::borrow::Cow;
use std::ops::Range;
use std::time::SystemTime;

use super::conditional::{Verdict, evaluate, whole_seconds};
use super::head::{decimal, field};
use super::limits::RETRY_AFTER_SECONDS;
use super::range::{Ranges, parse};
use super::request::{BadHead, Field, Method, Request, Version};

/// A status that this server gives, with its phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(&'static str);

impl Status {
    pub const OK: Self = Self("200 OK");
    pub const PARTIAL_CONTENT: Self = Self("206 Partial Content");
    pub const NOT_MODIFIED: Self = Self("304 Not Modified");
    pub const BAD_REQUEST: Self = Self("400 Bad Request");
    pub const FORBIDDEN: Self = Self("403 Forbidden");
    pub const NOT_FOUND: Self = Self("404 Not Found");
    pub const METHOD_NOT_ALLOWED: Self = Self("405 Method Not Allowed");
    pub const REQUEST_TIMEOUT: Self = Self("408 Request Timeout");
    pub const PRECONDITION_FAILED: Self = Self("412 Precondition Failed");
    pub const BODY_TOO_LARGE: Self = Self("413 Payload Too Large");
    pub const LINE_TOO_LONG: Self = Self("414 URI Too Long");
    pub const RANGE_NOT_SATISFIABLE: Self = Self("416 Range Not Satisfiable");
    pub const HEADER_TOO_LARGE: Self = Self("431 Request Header Fields Too Large");
    pub const INTERNAL_ERROR: Self = Self("500 Internal Server Error");
    pub const NOT_IMPLEMENTED: Self = Self("501 Not Implemented");
    pub const BUSY: Self = Self("503 Service Unavailable");
    pub const VERSION: Self = Self("505 HTTP Version Not Supported");

    /// Whether the client did not get what it wanted (4xx and 5xx).
    pub fn is_refusal(self) -> bool {
        self.0 >= "4"
    }
}

/// What answers depend on of a file or a rendered text.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// Bytes.
    pub len: u64,
    /// Strong and quoted (H-23).
    pub etag: &'a str,
    pub mtime: SystemTime,
    /// `mtime` as an HTTP date.
    pub last_modified: &'a str,
    /// As [`super::media::media_type`] names it by the name that was asked for.
    pub media: &'static str,
}

/// An answer, but for the bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    pub status: Status,
    pub payload: Payload,
    /// Whether the connection ends with this answer, whatever the client wants.
    pub closes: bool,
    /// Content-Length: that of the body, or of the body that GET would get; None where it must not
    /// be (304).
    length: Option<u64>,
    validators: Option<Validators<'a>>,
    kind: Option<Kind>,
    extra: Option<Extra>,
}

/// By what a client knows a version again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validators<'a> {
    etag: &'a str,
    /// None: the Date of the answer.
    last_modified: Option<&'a str>,
}

/// Content-Type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Media(&'static str),
    /// With this boundary.
    Multipart(String),
}

/// A header field that few answers have; none has two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extra {
    /// Content-Range: these bytes of so many.
    Range(Range<u64>, u64),
    /// Content-Range: none of so many.
    NoRange(u64),
    Allow,
    RetryAfter,
}

/// What follows the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: HEAD, 304, an empty file.
    None,
    Text(Cow<'static, str>),
    /// These bytes of the file.
    File(Range<u64>),
    /// `multipart/byteranges`: each part's own head and its bytes of the file; then the closing
    /// line.
    Multipart(Vec<Part>, String),
}

/// One part of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub head: String,
    pub range: Range<u64>,
}

impl Payload {
    /// Bytes on the wire.
    pub fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end - range.start,
            Self::Multipart(parts, end) => {
                let part = |part: &Part| part.head.len() as u64 + part.range.end - part.range.start;
                parts.iter().map(part).sum::<u64>() + end.len() as u64
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Plan<'_> {
    /// Writes the head of the answer: names in Title-Case (H-1), one space after each colon (H-2).
    /// `keeps`: the connection goes on after it, which a client of 1.1 takes for granted and one of
    /// 1.0 does not. `date` is the time as an HTTP date.
    pub fn write_head(&self, version: Version, keeps: bool, date: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if version == Version::Http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
        out.extend_from_slice(self.status.0.as_bytes());
        if let Some(Validators { etag, last_modified }) = self.validators {
            field(out, "Etag", etag);
            field(out, "Last-Modified", last_modified.unwrap_or(date));
            field(out, "Accept-Ranges", "bytes");
        }
        match &self.kind {
            None => {}
            Some(Kind::Media(media)) => field(out, "Content-Type", media),
            Some(Kind::Multipart(boundary)) => {
                field(out, "Content-Type", "multipart/byteranges; boundary=");
                out.extend_from_slice(boundary.as_bytes());
            }
        }
        match &self.extra {
            None => {}
            Some(Extra::Range(range, len)) => {
                field(out, "Content-Range", "bytes ");
                content_range(out, range, *len);
            }
            Some(Extra::NoRange(len)) => {
                field(out, "Content-Range", "bytes */");
                decimal(out, *len);
            }
            Some(Extra::Allow) => field(out, "Allow", "GET, HEAD"),
            Some(Extra::RetryAfter) => {
                field(out, "Retry-After", "");
                decimal(out, RETRY_AFTER_SECONDS.into());
            }
        }
        if let Some(length) = self.length {
            field(out, "Content-Length", "");
            decimal(out, length);
        }
        match (keeps, version) {
            (false, _) => field(out, "Connection", "close"),
            (true, Version::Http10) => field(out, "Connection", "keep-alive"),
            (true, Version::Http11) => {}
        }
        field(out, "Date", date);
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// What a head alone forbids, whatever is asked for; None = go on.
pub fn forbid(request: &Request<'_>) -> Option<Plan<'static>> {
    if request.hosts > 1 || (request.hosts == 0 && request.version == Version::Http11) {
        return Some(bad_request(request, "exactly one Host header is required"));
    }
    if request.has_bad_host {
        return Some(bad_request(request, "the Host header names no host"));
    }
    if request.method == Method::Other {
        let mut plan =
            text(request, Status::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        plan.extra = Some(Extra::Allow);
        return Some(plan);
    }
    None
}

/// A head, or a body, after which nothing on its connection makes sense. A client that sent such a
/// thing can not be asked whether it wanted the body of this answer.
pub fn bad(why: BadHead) -> Plan<'static> {
    let status = match why {
        BadHead::Syntax | BadHead::Length | BadHead::Encoding | BadHead::Chunk => {
            Status::BAD_REQUEST
        }
        BadHead::Coding => Status::NOT_IMPLEMENTED,
        BadHead::BodyTooSlow => Status::REQUEST_TIMEOUT,
        BadHead::BodyTooLarge => Status::BODY_TOO_LARGE,
        BadHead::LineTooLong => Status::LINE_TOO_LONG,
        BadHead::HeaderTooLarge => Status::HEADER_TOO_LARGE,
        BadHead::Version => Status::VERSION,
    };
    closing(finish(Method::Get, status, TEXT, Payload::Text(format!("{why}\n").into())))
}

/// A file or a rendered text.
pub fn file<'a>(request: &Request<'_>, meta: Meta<'a>, now: SystemTime) -> Plan<'a> {
    // Never in the future (H-23).
    let is_past = meta.mtime <= now;
    let validators =
        Validators { etag: meta.etag, last_modified: is_past.then_some(meta.last_modified) };
    let verdict =
        evaluate(request, meta.etag, whole_seconds(if is_past { meta.mtime } else { now }));
    let range = match verdict {
        Verdict::Failed => {
            return text(request, Status::PRECONDITION_FAILED, "the file has changed\n");
        }
        Verdict::NotModified => {
            let (status, payload) = (Status::NOT_MODIFIED, Payload::None);
            let validators = Some(validators);
            return Plan {
                status,
                payload,
                closes: false,
                length: None,
                validators,
                kind: None,
                extra: None,
            };
        }
        Verdict::Proceed { range } => range,
    };
    let kind = Kind::Media(meta.media);
    let (status, kind, extra, payload) =
        match if range { ranges(request, meta.len) } else { Ranges::Whole } {
            Ranges::Unsatisfiable => return unsatisfiable(request, meta.len),
            Ranges::Whole => (Status::OK, kind, None, Payload::File(0..meta.len)),
            Ranges::One(range) => {
                let extra = Extra::Range(range.clone(), meta.len);
                (Status::PARTIAL_CONTENT, kind, Some(extra), Payload::File(range))
            }
            Ranges::Several(parts) => {
                let boundary = boundary(meta.etag, &parts);
                let payload = multipart(parts, &boundary, meta.media, meta.len);
                (Status::PARTIAL_CONTENT, Kind::Multipart(boundary), None, payload)
            }
        };
    Plan { validators: Some(validators), extra, ..finish(request.method, status, kind, payload) }
}

/// A page of names.
pub fn listing(request: &Request<'_>, page: String) -> Plan<'static> {
    finish(request.method, Status::OK, Kind::Media("text/html"), Payload::Text(page.into()))
}

/// 404. GRUB takes nothing else for "not found" and goes on to its next name (H-30).
pub fn not_found(request: &Request<'_>) -> Plan<'static> {
    text(request, Status::NOT_FOUND, "not found\n")
}

/// 403 with the reason: there is something of this name that is never served.
pub fn forbidden(request: &Request<'_>, reason: &str) -> Plan<'static> {
    text(request, Status::FORBIDDEN, format!("{reason}\n"))
}

/// 500 with the reason: the fault is on this side.
pub fn failed(request: &Request<'_>, reason: &str) -> Plan<'static> {
    text(request, Status::INTERNAL_ERROR, format!("{reason}\n"))
}

/// 503. Only iPXE understands Retry-After, and only as whole seconds (H-14).
pub fn overloaded(request: &Request<'_>) -> Plan<'static> {
    let mut plan = closing(text(request, Status::BUSY, "the server is busy\n"));
    plan.extra = request.get(Field::UserAgent).is_some_and(is_ipxe).then_some(Extra::RetryAfter);
    plan
}

/// Whether a User-Agent is iPXE's.
fn is_ipxe(user_agent: &[u8]) -> bool {
    user_agent.starts_with(b"iPXE/")
}

/// Whether bytes that nobody has parsed begin with a request of iPXE's.
pub fn is_from_ipxe(request: &[u8]) -> bool {
    request.split(|&b| b == b'\n').any(|line| {
        let (name, value) =
            line.split_at(line.iter().position(|&b| b == b':').unwrap_or(line.len()));
        name.eq_ignore_ascii_case(b"user-agent")
            && is_ipxe(value.get(1..).unwrap_or_default().trim_ascii_start())
    })
}

/// 400 with the reason. The connection ends: what follows such a request can not be trusted.
pub fn bad_request(request: &Request<'_>, reason: &str) -> Plan<'static> {
    closing(text(request, Status::BAD_REQUEST, format!("{reason}\n")))
}

/// 503 for a connection that can not be served at all, as bytes: nobody has parsed its request.
/// `date` is the time as an HTTP date (H-31).
pub fn overloaded_bytes(date: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER_SECONDS}\r\nContent-Length: \
         0\r\nConnection: close\r\n\
         Date: {date}\r\n\r\n"
    )
    .into_bytes()
}

/// Range counts on GET only (H-19), and only where there is one.
fn ranges(request: &Request<'_>, len: u64) -> Ranges {
    match request.only(Field::Range) {
        Some(value) if request.method == Method::Get => parse(value, len),
        _ => Ranges::Whole,
    }
}

fn multipart(parts: Vec<Range<u64>>, boundary: &str, media: &str, len: u64) -> Payload {
    let part = |(n, range): (usize, Range<u64>)| {
        let line_end = if n == 0 { "" } else { "\r\n" };
        let mut place = Vec::new();
        content_range(&mut place, &range, len);
        let place = String::from_utf8_lossy(&place);
        let head = format!(
            "{line_end}--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes \
             {place}\r\n\r\n"
        );
        Part { head, range }
    };
    Payload::Multipart(
        parts.into_iter().enumerate().map(part).collect(),
        format!("\r\n--{boundary}--\r\n"),
    )
}

fn content_range(out: &mut Vec<u8>, range: &Range<u64>, len: u64) {
    decimal(out, range.start);
    out.push(b'-');
    decimal(out, range.end - 1);
    out.push(b'/');
    decimal(out, len);
}

/// Hard to meet inside a file, and the same for the same answer (FNV-1a over ETag and ranges).
fn boundary(etag: &str, parts: &[Range<u64>]) -> String {
    let numbers =
        parts.iter().flat_map(|part| [part.start.to_le_bytes(), part.end.to_le_bytes()]).flatten();
    let hash = etag.bytes().chain(numbers).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("ringboot-{hash:016x}")
}

fn unsatisfiable(request: &Request<'_>, len: u64) -> Plan<'static> {
    let plan = text(request, Status::RANGE_NOT_SATISFIABLE, "the range lies outside the file\n");
    Plan { extra: Some(Extra::NoRange(len)), ..plan }
}

const TEXT: Kind = Kind::Media("text/plain");

fn text(
    request: &Request<'_>,
    status: Status,
    text: impl Into<Cow<'static, str>>,
) -> Plan<'static> {
    finish(request.method, status, TEXT, Payload::Text(text.into()))
}

/// Adds the length, and takes the body away from HEAD (H-4, H-6).
fn finish(method: Method, status: Status, kind: Kind, payload: Payload) -> Plan<'static> {
    let length = Some(payload.len());
    let payload =
        if method == Method::Head || payload.is_empty() { Payload::None } else { payload };
    Plan { status, payload, closes: false, length, validators: None, kind: Some(kind), extra: None }
}

fn closing(plan: Plan<'static>) -> Plan<'static> {
    Plan { closes: true, ..plan }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::request::{self, Parsed};
    use std::time::Duration;

    const LEN: u64 = 1000;
    const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

    /// A head as bytes, to be parsed where it is looked at.
    struct Head(String);

    impl Head {
        fn request(&self) -> Request<'_> {
            match request::parse(self.0.as_bytes()) {
                Parsed::Whole(request, _) => request,
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(line: &str, fields: &[(&str, &str)]) -> Head {
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Head(format!("{line}\r\n{fields}\r\n"))
    }

    fn get(fields: &[(&str, &str)]) -> Head {
        ask("GET /boot/vmlinuz HTTP/1.1", fields)
    }

    fn meta(len: u64) -> Meta<'static> {
        let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Meta {
            len,
            etag: "\"1-2-3\"",
            mtime,
            last_modified: "Sun, 09 Sep 2001 01:46:40 GMT",
            media: "application/octet-stream",
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn answer(head: &Head) -> Plan<'static> {
        file(&head.request(), meta(LEN), now())
    }

    fn written(plan: &Plan<'_>, version: Version, keeps: bool) -> String {
        let mut out = Vec::new();
        plan.write_head(version, keeps, DATE, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn value(plan: &Plan<'_>, name: &str) -> Option<&'static str> {
        let head: &'static str = written(plan, Version::Http11, !plan.closes).leak();
        head.split("\r\n").skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn code(plan: &Plan<'_>) -> u16 {
        plan.status.0[..3].parse().unwrap()
    }

    #[test]
    fn h3_and_h15_a_file_is_200_with_its_length_type_and_accept_ranges() {
        let plan = answer(&get(&[]));
        assert_eq!(plan.status, Status::OK);
        assert_eq!(plan.payload, Payload::File(0..LEN));
        assert_eq!(value(&plan, "Content-Length"), Some("1000"));
        assert_eq!(value(&plan, "Accept-Ranges"), Some("bytes"));
        assert_eq!(value(&plan, "Content-Type"), Some("application/octet-stream"));
        assert_eq!(value(&plan, "Etag"), Some("\"1-2-3\""));
        assert_eq!(value(&plan, "Last-Modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
        for asked in [&[][..], &[("range", "bytes=0-9")], &[("if-none-match", "*")]] {
            assert!(!answer(&get(asked)).status.is_refusal(), "{asked:?}");
        }
        let empty = file(&get(&[]).request(), meta(0), now());
        assert_eq!((empty.status, &empty.payload), (Status::OK, &Payload::None));
        assert_eq!(value(&empty, "Content-Length"), Some("0"));
    }

    #[test]
    fn h5_no_answer_is_ever_encoded() {
        let plan = answer(&get(&[("accept-encoding", "gzip, br")]));
        assert_eq!(
            (value(&plan, "Content-Encoding"), value(&plan, "Transfer-Encoding")),
            (None, None)
        );
        assert_eq!(plan.payload, Payload::File(0..LEN));
    }

    #[test]
    fn h6_head_has_the_headers_of_get_and_no_body() {
        let whole = answer(&get(&[]));
        let plan = answer(&ask("HEAD / HTTP/1.1", &[]));
        assert_eq!(written(&plan, Version::Http11, true), written(&whole, Version::Http11, true));
        assert_eq!(plan.payload, Payload::None);
    }

    #[test]
    fn h8_one_host_is_required_of_http_1_1_and_never_of_1_0() {
        assert_eq!(forbid(&get(&[]).request()).unwrap().status, Status::BAD_REQUEST);
        assert!(forbid(&get(&[("host", "anything")]).request()).is_none());
        let twice = get(&[("host", "a"), ("host", "a")]);
        assert_eq!(forbid(&twice.request()).unwrap().status, Status::BAD_REQUEST);
        assert!(forbid(&ask("GET /f HTTP/1.0", &[]).request()).is_none());
    }

    #[test]
    fn h11_a_length_beyond_32_bits_is_written_whole() {
        let request = get(&[("range", "bytes=5368709120-5368711167")]);
        let plan = file(&request.request(), meta(6 << 30), now());
        assert_eq!(plan.payload, Payload::File(5_368_709_120..5_368_711_168));
        assert_eq!(value(&plan, "Content-Range"), Some("bytes 5368709120-5368711167/6442450944"));
    }

    #[test]
    fn h14_only_ipxe_is_told_when_to_come_again() {
        let plan = overloaded(&get(&[("user-agent", "iPXE/1.21.1+")]).request());
        assert_eq!((plan.status, value(&plan, "Retry-After")), (Status::BUSY, Some("5")));
        assert_eq!(
            value(
                &overloaded(&get(&[("user-agent", "UefiHttpBoot/1.0")]).request()),
                "Retry-After"
            ),
            None
        );
        assert!(is_from_ipxe(
            b"GET / HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.0.0+\r\nHost: \
              h\r\n\r\n"
        ));
        assert!(!is_from_ipxe(b"GET /User-Agent: HTTP/1.1\r\nUser-Agent: curl iPXE/1\r\n\r\n"));
        assert_eq!(
            String::from_utf8(overloaded_bytes(DATE)).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: \
             0\r\nConnection: close\r\n\
             Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n"
        );
    }

    #[test]
    fn h16_a_range_is_206_with_its_place_and_length() {
        for (range, place, len, payload) in [
            ("bytes=0-99", "bytes 0-99/1000", "100", 0..100),
            ("bytes=900-5000", "bytes 900-999/1000", "100", 900..1000),
            ("bytes=1-", "bytes 1-999/1000", "999", 1..1000),
            ("bytes=-5000", "bytes 0-999/1000", "1000", 0..1000),
        ] {
            let plan = answer(&get(&[("range", range)]));
            assert_eq!(plan.status, Status::PARTIAL_CONTENT, "{range}");
            assert_eq!(value(&plan, "Content-Range"), Some(place));
            assert_eq!(value(&plan, "Content-Length"), Some(len));
            assert_eq!(plan.payload, Payload::File(payload));
        }
    }

    #[test]
    fn h17_beyond_the_end_is_416_with_the_size_and_the_connection_goes_on() {
        let plan = answer(&get(&[("range", "bytes=1000-")]));
        assert_eq!(plan.status, Status::RANGE_NOT_SATISFIABLE);
        assert_eq!(
            (value(&plan, "Content-Range"), value(&plan, "Connection")),
            (Some("bytes */1000"), None)
        );
        assert_eq!(answer(&get(&[("range", "bytes=9-1")])).status, Status::OK);
    }

    #[test]
    fn h18_several_ranges_are_one_multipart_body_of_the_stated_length() {
        let plan = answer(&get(&[("range", "bytes=500-599,0-9")]));
        assert_eq!(plan.status, Status::PARTIAL_CONTENT);
        let boundary = value(&plan, "Content-Type")
            .unwrap()
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let Payload::Multipart(parts, end) = &plan.payload else { panic!("{plan:?}") };
        assert_eq!(
            parts[0].head,
            format!(
                "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes \
                 500-599/1000\r\n\r\n"
            )
        );
        assert_eq!(
            parts[1].head,
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: \
                 bytes 0-9/1000\r\n\r\n"
            )
        );
        assert_eq!(*end, format!("\r\n--{boundary}--\r\n"));
        let total = parts[0].head.len() + parts[1].head.len() + 110 + end.len();
        assert_eq!(value(&plan, "Content-Length"), Some(total.to_string().as_str()));
    }

    #[test]
    fn h18_the_boundary_is_the_published_hash_of_what_is_sent() {
        // Test vectors of FNV-1a, 64 bits (draft-eastlake-fnv, appendix C).
        for (text, hash) in
            [("", "cbf29ce484222325"), ("a", "af63dc4c8601ec8c"), ("foobar", "85944171f73967e8")]
        {
            assert_eq!(boundary(text, &[]), format!("ringboot-{hash}"));
        }
        assert_eq!(boundary("\"1\"", &[0..9, 20..30]), boundary("\"1\"", &[0..9, 20..30]));
        assert_ne!(boundary("\"1\"", &[0..9, 20..30]), boundary("\"1\"", &[0..9, 20..31]));
    }

    #[test]
    fn h19_range_counts_on_get_only_and_after_the_conditions() {
        let head = answer(&ask("HEAD / HTTP/1.1", &[("range", "bytes=0-9")]));
        assert_eq!((head.status, value(&head, "Content-Length")), (Status::OK, Some("1000")));
        let plan = answer(&get(&[("range", "bytes=5000-"), ("if-match", "\"x\"")]));
        assert_eq!(plan.status, Status::PRECONDITION_FAILED);
        let plan = answer(&get(&[("range", "bytes=0-9"), ("if-range", "\"x\"")]));
        assert_eq!((plan.status, plan.payload), (Status::OK, Payload::File(0..LEN)));
    }

    #[test]
    fn h22_304_has_the_tag_and_no_body() {
        let plan = answer(&get(&[("if-none-match", "*")]));
        assert_eq!((plan.status, &plan.payload), (Status::NOT_MODIFIED, &Payload::None));
        assert_eq!(
            (value(&plan, "Etag"), value(&plan, "Content-Length")),
            (Some("\"1-2-3\""), None)
        );
    }

    #[test]
    fn h23_last_modified_is_never_in_the_future() {
        let mut meta = meta(LEN);
        meta.mtime = now() + Duration::from_secs(86_400);
        let plan = file(&get(&[]).request(), meta, now());
        assert_eq!(value(&plan, "Last-Modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
    }

    #[test]
    fn h30_a_refusal_is_a_short_text_with_its_length() {
        let head = get(&[]);
        let head = head.request();
        for (plan, status, closes) in [
            (not_found(&head), 404, false),
            (forbidden(&head, "not a regular file"), 403, false),
            (failed(&head, "the file could not be read"), 500, false),
            (bad_request(&head, "a `..` component"), 400, true),
            (overloaded(&head), 503, true),
            (bad(BadHead::Syntax), 400, true),
            (bad(BadHead::Coding), 501, true),
            (bad(BadHead::BodyTooSlow), 408, true),
            (bad(BadHead::BodyTooLarge), 413, true),
            (bad(BadHead::LineTooLong), 414, true),
            (bad(BadHead::HeaderTooLarge), 431, true),
            (bad(BadHead::Version), 505, true),
        ] {
            assert_eq!(
                plan.closes, closes,
                "{status}: what follows a request that was not understood cannot be trusted"
            );
            assert_eq!(code(&plan), status);
            assert!(plan.status.is_refusal());
            let Payload::Text(text) = &plan.payload else { panic!("{plan:?}") };
            assert!(
                text.len() < 128 && value(&plan, "Content-Type") == Some("text/plain"),
                "{text}"
            );
            assert_eq!(value(&plan, "Content-Length"), Some(text.len().to_string().as_str()));
        }
    }

    #[test]
    fn h29_other_methods_are_405_with_allow() {
        for method in ["POST", "PUT", "DELETE", "CONNECT", "TRACE", "OPTIONS", "get"] {
            let head = ask(&format!("{method} /f HTTP/1.1"), &[("host", "h")]);
            let plan = forbid(&head.request()).unwrap();
            assert_eq!((code(&plan), value(&plan, "Allow")), (405, Some("GET, HEAD")));
        }
    }

    #[test]
    fn h7_a_client_of_1_0_is_told_that_its_connection_is_kept_and_one_of_1_1_that_it_is_not() {
        let plan = answer(&get(&[]));
        let connection = |version, keeps| {
            let head = written(&plan, version, keeps);
            let fields: Vec<&str> =
                head.split("\r\n").filter_map(|line| line.strip_prefix("Connection: ")).collect();
            (head[..8].to_owned(), fields.join("|"))
        };
        assert_eq!(
            connection(Version::Http10, true),
            ("HTTP/1.0".to_owned(), "keep-alive".to_owned())
        );
        assert_eq!(connection(Version::Http10, false), ("HTTP/1.0".to_owned(), "close".to_owned()));
        assert_eq!(connection(Version::Http11, true), ("HTTP/1.1".to_owned(), String::new()));
        assert_eq!(connection(Version::Http11, false), ("HTTP/1.1".to_owned(), "close".to_owned()));
    }

    #[test]
    fn h1_and_h2_the_head_is_as_boot_loaders_search_it() {
        let head = written(&answer(&get(&[("range", "bytes=1-2")])), Version::Http11, true);
        assert_eq!(
            head,
            "HTTP/1.1 206 Partial Content\r\nEtag: \"1-2-3\"\r\nLast-Modified: Sun, 09 Sep 2001 \
             01:46:40 GMT\r\n\
             Accept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\nContent-Range: \
             bytes 1-2/1000\r\n\
             Content-Length: 2\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n"
        );
    }
}
