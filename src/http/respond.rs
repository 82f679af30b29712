//! From a request's head and what its name gave to status, headers and the parts of the body. Pure: the bytes of a file stay where they are.

use std::ops::Range;
use std::time::SystemTime;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Version};

use super::conditional::{Verdict, evaluate, whole_seconds};
use super::limits::{HEADERS_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX, RETRY_AFTER_SECONDS};
use super::media::media_type;
use super::range::{Ranges, parse};

/// The head of a request, as far as answers depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub method: &'a Method,
    pub version: Version,
    pub headers: &'a HeaderMap,
    /// Bytes of the request target.
    pub target_len: usize,
}

/// What answers depend on of a file or a rendered text.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// Bytes.
    pub len: u64,
    /// Strong and quoted (H-23).
    pub etag: &'a str,
    pub mtime: SystemTime,
}

/// An answer, but for the bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub status: StatusCode,
    /// Content-Length included, except where it must not be (304).
    pub headers: HeaderMap,
    pub payload: Payload,
}

/// What follows the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: HEAD, 304, an empty file.
    None,
    Text(String),
    /// These bytes of the file.
    File(Range<u64>),
    /// `multipart/byteranges`: each part's own head and its bytes of the file; then the closing line.
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

/// What a head alone forbids, whatever is asked for; None = go on.
pub fn forbid(head: &Head<'_>) -> Option<Plan> {
    let line = head.method.as_str().len() + head.target_len + " ".len() + " HTTP/1.1".len();
    let field = |(name, value): (&header::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    if line > REQUEST_LINE_BYTES_MAX {
        return Some(closing(text(head, StatusCode::URI_TOO_LONG, "the request line is too long\n")));
    }
    if head.headers.len() > HEADERS_MAX || head.headers.iter().map(field).sum::<usize>() > HEADERS_BYTES_MAX {
        return Some(closing(text(head, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the header is too large\n")));
    }
    let hosts = head.headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Some(bad_request(head, "exactly one Host header is required"));
    }
    if !matches!(*head.method, Method::GET | Method::HEAD) {
        let mut plan = text(head, StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        plan.headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(plan);
    }
    None
}

/// A file or a rendered text, under the name that was asked for.
pub fn file(head: &Head<'_>, path: &[u8], meta: Meta<'_>, now: SystemTime) -> Plan {
    let last_modified = whole_seconds(meta.mtime.min(now));
    let mut headers = HeaderMap::with_capacity(8);
    if let Ok(etag) = HeaderValue::from_str(meta.etag) {
        headers.insert(header::ETAG, etag);
    }
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(last_modified)) {
        headers.insert(header::LAST_MODIFIED, date);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let range = match evaluate(head.headers, meta.etag, last_modified) {
        Verdict::NotModified => return Plan { status: StatusCode::NOT_MODIFIED, headers, payload: Payload::None },
        Verdict::Failed => return text(head, StatusCode::PRECONDITION_FAILED, "the file has changed\n"),
        Verdict::Proceed { range } => range,
    };
    let media_type = media_type(path);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    let ranges = if range { ranges(head, meta.len) } else { Ranges::Whole };
    let (status, payload) = match ranges {
        Ranges::Unsatisfiable => return unsatisfiable(head, meta.len),
        Ranges::Whole => (StatusCode::OK, Payload::File(0..meta.len)),
        Ranges::Parts(parts) => (StatusCode::PARTIAL_CONTENT, partial(&mut headers, parts, meta, media_type)),
    };
    finish(head, status, headers, payload)
}

/// A page of names.
pub fn listing(head: &Head<'_>, page: String) -> Plan {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    finish(head, StatusCode::OK, headers, Payload::Text(page))
}

/// 404. GRUB takes nothing else for "not found" and goes on to its next name (H-30).
pub fn not_found(head: &Head<'_>) -> Plan {
    text(head, StatusCode::NOT_FOUND, "not found\n")
}

/// 403 with the reason: there is something of this name that is never served.
pub fn forbidden(head: &Head<'_>, reason: &str) -> Plan {
    text(head, StatusCode::FORBIDDEN, &format!("{reason}\n"))
}

/// 500 with the reason: the fault is on this side.
pub fn failed(head: &Head<'_>, reason: &str) -> Plan {
    text(head, StatusCode::INTERNAL_SERVER_ERROR, &format!("{reason}\n"))
}

/// 503. Only iPXE understands Retry-After, and only as whole seconds (H-14).
pub fn overloaded(head: &Head<'_>) -> Plan {
    let mut plan = closing(text(head, StatusCode::SERVICE_UNAVAILABLE, "the server is busy\n"));
    if head.headers.get(header::USER_AGENT).is_some_and(|agent| is_ipxe(agent.as_bytes())) {
        plan.headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    plan
}

/// Whether a User-Agent is iPXE's.
fn is_ipxe(user_agent: &[u8]) -> bool {
    user_agent.starts_with(b"iPXE/")
}

/// Whether bytes that nobody has parsed begin with a request of iPXE's.
pub fn is_from_ipxe(request: &[u8]) -> bool {
    request.split(|&b| b == b'\n').any(|line| {
        let (name, value) = line.split_at(line.iter().position(|&b| b == b':').unwrap_or(line.len()));
        name.eq_ignore_ascii_case(b"user-agent") && is_ipxe(value.get(1..).unwrap_or_default().trim_ascii_start())
    })
}

/// 400 with the reason. The connection ends: what follows such a request can not be trusted.
pub fn bad_request(head: &Head<'_>, reason: &str) -> Plan {
    closing(text(head, StatusCode::BAD_REQUEST, &format!("{reason}\n")))
}

/// 413: the body of a request that has no use for one.
pub fn body_too_large(head: &Head<'_>) -> Plan {
    closing(text(head, StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large\n"))
}

/// 408: the body of a request did not come in time.
pub fn body_too_slow(head: &Head<'_>) -> Plan {
    closing(text(head, StatusCode::REQUEST_TIMEOUT, "the request's body did not come\n"))
}

/// 503 for a connection that can not be served at all, as bytes: nobody has parsed its request.
pub fn overloaded_bytes() -> Vec<u8> {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER_SECONDS}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Range counts on GET only (H-19), and only where there is one.
fn ranges(head: &Head<'_>, len: u64) -> Ranges {
    let mut values = head.headers.get_all(header::RANGE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if *head.method == Method::GET => parse(value.as_bytes(), len),
        _ => Ranges::Whole,
    }
}

fn partial(headers: &mut HeaderMap, mut parts: Vec<Range<u64>>, meta: Meta<'_>, media_type: &str) -> Payload {
    if parts.len() == 1 {
        let range = parts.swap_remove(0);
        insert(headers, header::CONTENT_RANGE, &content_range(&range, meta.len));
        return Payload::File(range);
    }
    let boundary = boundary(meta.etag, &parts);
    insert(headers, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    let part = |(n, range): (usize, Range<u64>)| {
        let line_end = if n == 0 { "" } else { "\r\n" };
        let content_range = content_range(&range, meta.len);
        let head =
            format!("{line_end}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range}\r\n\r\n");
        Part { head, range }
    };
    Payload::Multipart(parts.into_iter().enumerate().map(part).collect(), format!("\r\n--{boundary}--\r\n"))
}

fn content_range(range: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end - 1)
}

/// Hard to meet inside a file, and the same for the same answer (FNV-1a over ETag and ranges).
fn boundary(etag: &str, parts: &[Range<u64>]) -> String {
    let numbers = parts.iter().flat_map(|part| [part.start.to_le_bytes(), part.end.to_le_bytes()]).flatten();
    let hash = etag
        .bytes()
        .chain(numbers)
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("ringboot-{hash:016x}")
}

fn unsatisfiable(head: &Head<'_>, len: u64) -> Plan {
    let mut plan = text(head, StatusCode::RANGE_NOT_SATISFIABLE, "the range lies outside the file\n");
    insert(&mut plan.headers, header::CONTENT_RANGE, &format!("bytes */{len}"));
    plan
}

fn text(head: &Head<'_>, status: StatusCode, text: &str) -> Plan {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    finish(head, status, headers, Payload::Text(text.to_owned()))
}

/// Adds the length, and takes the body away from HEAD (H-4, H-6).
fn finish(head: &Head<'_>, status: StatusCode, mut headers: HeaderMap, payload: Payload) -> Plan {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(payload.len()));
    let payload = if *head.method == Method::HEAD || payload.is_empty() { Payload::None } else { payload };
    Plan { status, headers, payload }
}

fn closing(mut plan: Plan) -> Plan {
    plan.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    plan
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    // Every value made here is visible ASCII, so none is ever refused.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    const LEN: u64 = 1000;

    struct Request {
        method: Method,
        version: Version,
        headers: HeaderMap,
        target_len: usize,
    }

    impl Request {
        fn head(&self) -> Head<'_> {
            Head { method: &self.method, version: self.version, headers: &self.headers, target_len: self.target_len }
        }
    }

    fn get(headers: &[(&'static str, &str)]) -> Request {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        Request { method: Method::GET, version: Version::HTTP_11, headers, target_len: 10 }
    }

    fn meta(len: u64) -> Meta<'static> {
        Meta { len, etag: "\"1-2-3\"", mtime: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn answer(request: &Request) -> Plan {
        file(&request.head(), b"boot/vmlinuz", meta(LEN), now())
    }

    fn value<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
        plan.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn h3_and_h15_a_file_is_200_with_its_length_type_and_accept_ranges() {
        let plan = answer(&get(&[]));
        assert_eq!(plan.status, StatusCode::OK);
        assert_eq!(plan.payload, Payload::File(0..LEN));
        assert_eq!(value(&plan, "content-length"), Some("1000"));
        assert_eq!(value(&plan, "accept-ranges"), Some("bytes"));
        assert_eq!(value(&plan, "content-type"), Some("application/octet-stream"));
        assert_eq!(value(&plan, "etag"), Some("\"1-2-3\""));
        assert_eq!(value(&plan, "last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    }

    #[test]
    fn h5_no_answer_is_ever_encoded() {
        let plan = answer(&get(&[("accept-encoding", "gzip, br")]));
        assert_eq!((value(&plan, "content-encoding"), value(&plan, "transfer-encoding")), (None, None));
        assert_eq!(plan.payload, Payload::File(0..LEN));
    }

    #[test]
    fn h6_head_has_the_headers_of_get_and_no_body() {
        let mut request = get(&[]);
        let whole = answer(&request);
        request.method = Method::HEAD;
        let plan = answer(&request);
        assert_eq!((plan.status, &plan.headers), (whole.status, &whole.headers));
        assert_eq!(plan.payload, Payload::None);
    }

    #[test]
    fn h8_one_host_is_required_of_http_1_1_and_never_of_1_0() {
        assert_eq!(forbid(&get(&[]).head()).unwrap().status, StatusCode::BAD_REQUEST);
        assert!(forbid(&get(&[("host", "anything")]).head()).is_none());
        let mut twice = get(&[("host", "a")]);
        twice.headers.append(header::HOST, HeaderValue::from_static("a"));
        assert_eq!(forbid(&twice.head()).unwrap().status, StatusCode::BAD_REQUEST);
        let mut old = get(&[]);
        old.version = Version::HTTP_10;
        assert!(forbid(&old.head()).is_none());
    }

    #[test]
    fn h11_a_length_beyond_32_bits_is_written_whole() {
        let request = get(&[("range", "bytes=5368709120-5368711167")]);
        let plan = file(&request.head(), b"a.iso", meta(6 << 30), now());
        assert_eq!(plan.payload, Payload::File(5_368_709_120..5_368_711_168));
        assert_eq!(value(&plan, "content-range"), Some("bytes 5368709120-5368711167/6442450944"));
    }

    #[test]
    fn h14_only_ipxe_is_told_when_to_come_again() {
        let plan = overloaded(&get(&[("user-agent", "iPXE/1.21.1+")]).head());
        assert_eq!((plan.status, value(&plan, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("5")));
        assert_eq!(value(&overloaded(&get(&[("user-agent", "UefiHttpBoot/1.0")]).head()), "retry-after"), None);
        assert!(is_from_ipxe(
            b"GET / HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.0.0+\r\nHost: h\r\n\r\n"
        ));
        assert!(!is_from_ipxe(b"GET /User-Agent: HTTP/1.1\r\nUser-Agent: curl iPXE/1\r\n\r\n"));
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
            assert_eq!(plan.status, StatusCode::PARTIAL_CONTENT, "{range}");
            assert_eq!(value(&plan, "content-range"), Some(place));
            assert_eq!(value(&plan, "content-length"), Some(len));
            assert_eq!(plan.payload, Payload::File(payload));
        }
    }

    #[test]
    fn h17_beyond_the_end_is_416_with_the_size_and_the_connection_goes_on() {
        let plan = answer(&get(&[("range", "bytes=1000-")]));
        assert_eq!(plan.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!((value(&plan, "content-range"), value(&plan, "connection")), (Some("bytes */1000"), None));
        assert_eq!(answer(&get(&[("range", "bytes=9-1")])).status, StatusCode::OK);
    }

    #[test]
    fn h18_several_ranges_are_one_multipart_body_of_the_stated_length() {
        let plan = answer(&get(&[("range", "bytes=500-599,0-9")]));
        assert_eq!(plan.status, StatusCode::PARTIAL_CONTENT);
        let boundary = value(&plan, "content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
        let Payload::Multipart(parts, end) = &plan.payload else { panic!("{plan:?}") };
        assert_eq!(
            parts[0].head,
            format!(
                "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 500-599/1000\r\n\r\n"
            )
        );
        assert_eq!(
            parts[1].head,
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-9/1000\r\n\r\n"
            )
        );
        assert_eq!(*end, format!("\r\n--{boundary}--\r\n"));
        let total = parts[0].head.len() + parts[1].head.len() + 110 + end.len();
        assert_eq!(value(&plan, "content-length"), Some(total.to_string().as_str()));
    }

    #[test]
    fn h19_range_counts_on_get_only_and_after_the_conditions() {
        let mut request = get(&[("range", "bytes=0-9")]);
        request.method = Method::HEAD;
        assert_eq!(answer(&request).status, StatusCode::OK);
        assert_eq!(value(&answer(&request), "content-length"), Some("1000"));
        let plan = answer(&get(&[("range", "bytes=5000-"), ("if-match", "\"x\"")]));
        assert_eq!(plan.status, StatusCode::PRECONDITION_FAILED);
        let plan = answer(&get(&[("range", "bytes=0-9"), ("if-range", "\"x\"")]));
        assert_eq!((plan.status, plan.payload), (StatusCode::OK, Payload::File(0..LEN)));
    }

    #[test]
    fn h22_304_has_the_tag_and_no_body() {
        let plan = answer(&get(&[("if-none-match", "*")]));
        assert_eq!((plan.status, &plan.payload), (StatusCode::NOT_MODIFIED, &Payload::None));
        assert_eq!((value(&plan, "etag"), value(&plan, "content-length")), (Some("\"1-2-3\""), None));
    }

    #[test]
    fn h23_last_modified_is_never_in_the_future() {
        let mut meta = meta(LEN);
        meta.mtime = now() + Duration::from_secs(86_400);
        let plan = file(&get(&[]).head(), b"a", meta, now());
        assert_eq!(value(&plan, "last-modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
    }

    #[test]
    fn h30_a_refusal_is_a_short_text_with_its_length() {
        let request = get(&[]);
        let head = request.head();
        for (plan, status) in [
            (not_found(&head), 404),
            (forbidden(&head, "not a regular file"), 403),
            (failed(&head, "the file could not be read"), 500),
            (bad_request(&head, "a `..` component"), 400),
            (overloaded(&head), 503),
        ] {
            assert_eq!(plan.status.as_u16(), status);
            let Payload::Text(text) = &plan.payload else { panic!("{plan:?}") };
            assert!(text.len() < 128 && value(&plan, "content-type") == Some("text/plain"), "{text}");
            assert_eq!(value(&plan, "content-length"), Some(text.len().to_string().as_str()));
        }
    }

    #[test]
    fn h29_other_methods_are_405_with_allow() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::CONNECT, Method::TRACE, Method::OPTIONS] {
            let mut request = get(&[("host", "h")]);
            request.method = method;
            let plan = forbid(&request.head()).unwrap();
            assert_eq!((plan.status.as_u16(), value(&plan, "allow")), (405, Some("GET, HEAD")));
        }
    }

    #[test]
    fn h32_long_lines_are_414_and_large_headers_431() {
        let mut request = get(&[("host", "h")]);
        request.target_len = REQUEST_LINE_BYTES_MAX - "GET  HTTP/1.1".len();
        assert!(forbid(&request.head()).is_none());
        request.target_len += 1;
        assert_eq!(forbid(&request.head()).unwrap().status, StatusCode::URI_TOO_LONG);
        let mut request = get(&[("host", "h")]);
        for _ in 1..HEADERS_MAX {
            request.headers.append(header::COOKIE, HeaderValue::from_static("a"));
        }
        assert!(forbid(&request.head()).is_none());
        request.headers.append(header::COOKIE, HeaderValue::from_static("a"));
        assert_eq!(forbid(&request.head()).unwrap().status.as_u16(), 431);
        let large = get(&[("host", "h"), ("cookie", &"a".repeat(HEADERS_BYTES_MAX))]);
        assert_eq!(forbid(&large.head()).unwrap().status.as_u16(), 431);
    }
}
