//! Responses for every kind of request, compared with the bytes that clients see.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::http::request::{self, ParsedHead};
use std::time::Duration;

const LEN: u64 = 1000;
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

/// A head as bytes, to be parsed where it is looked at.
struct Head(String);

impl Head {
    fn request(&self) -> RequestHead<'_> {
        match request::parse_request_head(self.0.as_bytes()) {
            ParsedHead::Whole(request, _) => request,
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

fn meta(len: u64) -> RepresentationMeta<'static> {
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    RepresentationMeta {
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

fn answer(head: &Head) -> ResponsePlan<'static> {
    answer_with_file(&head.request(), meta(LEN), now())
}

fn written(plan: &ResponsePlan<'_>, version: HttpVersion, keeps: bool) -> String {
    let mut out = Vec::new();
    plan.write_head(version, keeps, DATE, &mut out);
    String::from_utf8(out).unwrap()
}

fn value(plan: &ResponsePlan<'_>, name: &str) -> Option<&'static str> {
    let head: &'static str = written(plan, HttpVersion::Http11, !plan.closes).leak();
    head.split("\r\n").skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn code(plan: &ResponsePlan<'_>) -> u16 {
    plan.status.0[..3].parse().unwrap()
}

#[test]
fn h3_and_h15_a_file_is_200_with_its_length_type_and_accept_ranges() {
    let plan = answer(&get(&[]));
    assert_eq!(plan.status, ResponseStatus::OK);
    assert_eq!(plan.payload, ResponsePayload::File(0..LEN));
    assert_eq!(value(&plan, "Content-Length"), Some("1000"));
    assert_eq!(value(&plan, "Accept-Ranges"), Some("bytes"));
    assert_eq!(value(&plan, "Content-Type"), Some("application/octet-stream"));
    assert_eq!(value(&plan, "Etag"), Some("\"1-2-3\""));
    assert_eq!(value(&plan, "Last-Modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    for asked in [&[][..], &[("range", "bytes=0-9")], &[("if-none-match", "*")]] {
        assert!(!answer(&get(asked)).status.is_refusal(), "{asked:?}");
    }
    let empty = answer_with_file(&get(&[]).request(), meta(0), now());
    assert_eq!((empty.status, &empty.payload), (ResponseStatus::OK, &ResponsePayload::None));
    assert_eq!(value(&empty, "Content-Length"), Some("0"));
}

#[test]
fn h5_no_answer_is_ever_encoded() {
    let plan = answer(&get(&[("accept-encoding", "gzip, br")]));
    assert_eq!((value(&plan, "Content-Encoding"), value(&plan, "Transfer-Encoding")), (None, None));
    assert_eq!(plan.payload, ResponsePayload::File(0..LEN));
}

#[test]
fn h6_head_has_the_headers_of_get_and_no_body() {
    let whole = answer(&get(&[]));
    let plan = answer(&ask("HEAD / HTTP/1.1", &[]));
    assert_eq!(
        written(&plan, HttpVersion::Http11, true),
        written(&whole, HttpVersion::Http11, true)
    );
    assert_eq!(plan.payload, ResponsePayload::None);
}

#[test]
fn h8_one_host_is_required_of_http_1_1_and_never_of_1_0() {
    assert_eq!(forbid_by_head(&get(&[]).request()).unwrap().status, ResponseStatus::BAD_REQUEST);
    assert!(forbid_by_head(&get(&[("host", "anything")]).request()).is_none());
    let twice = get(&[("host", "a"), ("host", "a")]);
    assert_eq!(forbid_by_head(&twice.request()).unwrap().status, ResponseStatus::BAD_REQUEST);
    assert!(forbid_by_head(&ask("GET /f HTTP/1.0", &[]).request()).is_none());
}

#[test]
fn h11_a_length_beyond_32_bits_is_written_whole() {
    let request = get(&[("range", "bytes=5368709120-5368711167")]);
    let plan = answer_with_file(&request.request(), meta(6 << 30), now());
    assert_eq!(plan.payload, ResponsePayload::File(5_368_709_120..5_368_711_168));
    assert_eq!(value(&plan, "Content-Range"), Some("bytes 5368709120-5368711167/6442450944"));
}

#[test]
fn h14_only_ipxe_is_told_when_to_come_again() {
    let plan = answer_overloaded(&get(&[("user-agent", "iPXE/1.21.1+")]).request());
    assert_eq!((plan.status, value(&plan, "Retry-After")), (ResponseStatus::BUSY, Some("5")));
    assert_eq!(
        value(
            &answer_overloaded(&get(&[("user-agent", "UefiHttpBoot/1.0")]).request()),
            "Retry-After"
        ),
        None
    );
    assert!(is_ipxe_request(
        b"GET / HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.0.0+\r\nHost: \
          h\r\n\r\n"
    ));
    assert!(!is_ipxe_request(b"GET /User-Agent: HTTP/1.1\r\nUser-Agent: curl iPXE/1\r\n\r\n"));
    assert_eq!(
        String::from_utf8(encode_overloaded(DATE)).unwrap(),
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
        assert_eq!(plan.status, ResponseStatus::PARTIAL_CONTENT, "{range}");
        assert_eq!(value(&plan, "Content-Range"), Some(place));
        assert_eq!(value(&plan, "Content-Length"), Some(len));
        assert_eq!(plan.payload, ResponsePayload::File(payload));
    }
}

#[test]
fn h17_beyond_the_end_is_416_with_the_size_and_the_connection_goes_on() {
    let plan = answer(&get(&[("range", "bytes=1000-")]));
    assert_eq!(plan.status, ResponseStatus::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        (value(&plan, "Content-Range"), value(&plan, "Connection")),
        (Some("bytes */1000"), None)
    );
    assert_eq!(answer(&get(&[("range", "bytes=9-1")])).status, ResponseStatus::OK);
}

#[test]
fn h18_several_ranges_are_one_multipart_body_of_the_stated_length() {
    let plan = answer(&get(&[("range", "bytes=500-599,0-9")]));
    assert_eq!(plan.status, ResponseStatus::PARTIAL_CONTENT);
    let boundary = value(&plan, "Content-Type")
        .unwrap()
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let ResponsePayload::Multipart(parts, end) = &plan.payload else { panic!("{plan:?}") };
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
        assert_eq!(make_boundary(text, &[]), format!("ringboot-{hash}"));
    }
    assert_eq!(make_boundary("\"1\"", &[0..9, 20..30]), make_boundary("\"1\"", &[0..9, 20..30]));
    assert_ne!(make_boundary("\"1\"", &[0..9, 20..30]), make_boundary("\"1\"", &[0..9, 20..31]));
}

#[test]
fn h19_range_counts_on_get_only_and_after_the_conditions() {
    let head = answer(&ask("HEAD / HTTP/1.1", &[("range", "bytes=0-9")]));
    assert_eq!((head.status, value(&head, "Content-Length")), (ResponseStatus::OK, Some("1000")));
    let plan = answer(&get(&[("range", "bytes=5000-"), ("if-match", "\"x\"")]));
    assert_eq!(plan.status, ResponseStatus::PRECONDITION_FAILED);
    let plan = answer(&get(&[("range", "bytes=0-9"), ("if-range", "\"x\"")]));
    assert_eq!((plan.status, plan.payload), (ResponseStatus::OK, ResponsePayload::File(0..LEN)));
}

#[test]
fn h22_304_has_the_tag_and_no_body() {
    let plan = answer(&get(&[("if-none-match", "*")]));
    assert_eq!(
        (plan.status, &plan.payload),
        (ResponseStatus::NOT_MODIFIED, &ResponsePayload::None)
    );
    assert_eq!((value(&plan, "Etag"), value(&plan, "Content-Length")), (Some("\"1-2-3\""), None));
}

#[test]
fn h23_last_modified_is_never_in_the_future() {
    let mut meta = meta(LEN);
    meta.mtime = now() + Duration::from_secs(86_400);
    let plan = answer_with_file(&get(&[]).request(), meta, now());
    assert_eq!(value(&plan, "Last-Modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
}

#[test]
fn h30_a_refusal_is_a_short_text_with_its_length() {
    let head = get(&[]);
    let head = head.request();
    for (plan, status, closes) in [
        (answer_not_found(&head), 404, false),
        (answer_forbidden(&head, "not a regular file"), 403, false),
        (answer_failed(&head, "the file could not be read"), 500, false),
        (answer_bad_request(&head, "a `..` component"), 400, true),
        (answer_overloaded(&head), 503, true),
        (answer_bad_head(BadHead::Syntax), 400, true),
        (answer_bad_head(BadHead::Coding), 501, true),
        (answer_bad_head(BadHead::BodyTooSlow), 408, true),
        (answer_bad_head(BadHead::BodyTooLarge), 413, true),
        (answer_bad_head(BadHead::LineTooLong), 414, true),
        (answer_bad_head(BadHead::HeaderTooLarge), 431, true),
        (answer_bad_head(BadHead::Version), 505, true),
    ] {
        assert_eq!(
            plan.closes, closes,
            "{status}: what follows a request that was not understood cannot be trusted"
        );
        assert_eq!(code(&plan), status);
        assert!(plan.status.is_refusal());
        let ResponsePayload::Text(text) = &plan.payload else { panic!("{plan:?}") };
        assert!(text.len() < 128 && value(&plan, "Content-Type") == Some("text/plain"), "{text}");
        assert_eq!(value(&plan, "Content-Length"), Some(text.len().to_string().as_str()));
    }
}

#[test]
fn h29_other_methods_are_405_with_allow() {
    for method in ["POST", "PUT", "DELETE", "CONNECT", "TRACE", "OPTIONS", "get"] {
        let head = ask(&format!("{method} /f HTTP/1.1"), &[("host", "h")]);
        let plan = forbid_by_head(&head.request()).unwrap();
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
        connection(HttpVersion::Http10, true),
        ("HTTP/1.0".to_owned(), "keep-alive".to_owned())
    );
    assert_eq!(connection(HttpVersion::Http10, false), ("HTTP/1.0".to_owned(), "close".to_owned()));
    assert_eq!(connection(HttpVersion::Http11, true), ("HTTP/1.1".to_owned(), String::new()));
    assert_eq!(connection(HttpVersion::Http11, false), ("HTTP/1.1".to_owned(), "close".to_owned()));
}

#[test]
fn h1_and_h2_the_head_is_as_boot_loaders_search_it() {
    let head = written(&answer(&get(&[("range", "bytes=1-2")])), HttpVersion::Http11, true);
    assert_eq!(
        head,
        "HTTP/1.1 206 Partial Content\r\nEtag: \"1-2-3\"\r\nLast-Modified: Sun, 09 Sep 2001 \
         01:46:40 GMT\r\n\
         Accept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\nContent-Range: \
         bytes 1-2/1000\r\n\
         Content-Length: 2\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n"
    );
}

/// The phrases of RFC 9110 §15 and RFC 6585 §5: people read them in the log of a client.
#[test]
fn every_status_has_the_phrase_of_its_rfc() {
    for (status, line) in [
        (ResponseStatus::OK, "200 OK"),
        (ResponseStatus::PARTIAL_CONTENT, "206 Partial Content"),
        (ResponseStatus::NOT_MODIFIED, "304 Not Modified"),
        (ResponseStatus::BAD_REQUEST, "400 Bad Request"),
        (ResponseStatus::FORBIDDEN, "403 Forbidden"),
        (ResponseStatus::NOT_FOUND, "404 Not Found"),
        (ResponseStatus::METHOD_NOT_ALLOWED, "405 Method Not Allowed"),
        (ResponseStatus::REQUEST_TIMEOUT, "408 Request Timeout"),
        (ResponseStatus::PRECONDITION_FAILED, "412 Precondition Failed"),
        (ResponseStatus::BODY_TOO_LARGE, "413 Content Too Large"),
        (ResponseStatus::LINE_TOO_LONG, "414 URI Too Long"),
        (ResponseStatus::RANGE_NOT_SATISFIABLE, "416 Range Not Satisfiable"),
        (ResponseStatus::HEADER_TOO_LARGE, "431 Request Header Fields Too Large"),
        (ResponseStatus::INTERNAL_ERROR, "500 Internal Server Error"),
        (ResponseStatus::NOT_IMPLEMENTED, "501 Not Implemented"),
        (ResponseStatus::BUSY, "503 Service Unavailable"),
        (ResponseStatus::VERSION, "505 HTTP Version Not Supported"),
    ] {
        assert_eq!(status.0, line);
    }
}
