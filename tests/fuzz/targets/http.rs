//! HTTP: heads, ranges, and whole connections, whose meaning must not depend on the pieces in which
//! the bytes came.

use std::time::{Duration, SystemTime};

use arbitrary::Unstructured;
use ringboot::http::input::{InputStep, RequestInput};
use ringboot::http::range::{self, ByteRanges};
use ringboot::http::request::{self, HttpMethod, ParsedHead};
use ringboot::http::respond::{self, RepresentationMeta, ResponsePayload};

/// Length of the file that is asked for.
const LENGTH: u64 = 100_000;

pub(crate) fn request(bytes: &[u8]) {
    let ParsedHead::Whole(asked, length) = request::parse_request_head(bytes) else { return };
    assert!(length <= bytes.len() && bytes[..length].ends_with(b"\n"));
    assert_eq!(
        request::parse_request_head(&bytes[..length]),
        ParsedHead::Whole(asked, length),
        "what follows changes a head"
    );
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mtime = now - Duration::from_secs(3600);
    let meta = RepresentationMeta {
        len: LENGTH,
        etag: "\"tag\"",
        mtime,
        last_modified: "Tue, 14 Nov 2023 21:13:20 GMT",
        media: "application/octet-stream",
    };
    let plan = respond::forbid_by_head(&asked)
        .unwrap_or_else(|| respond::answer_with_file(&asked, meta, now));
    match &plan.payload {
        ResponsePayload::File(range) => assert!(range.start <= range.end && range.end <= LENGTH),
        ResponsePayload::Multipart(parts, _) => {
            assert!(
                parts.len() >= 2
                    && parts
                        .iter()
                        .all(|part| part.range.start < part.range.end && part.range.end <= LENGTH)
            );
        }
        ResponsePayload::None | ResponsePayload::Text(_) => {}
    }
    assert!(
        asked.method != HttpMethod::Head || plan.payload == ResponsePayload::None,
        "a body for HEAD"
    );
    let mut head = Vec::new();
    plan.write_head(asked.version, asked.keeps_alive, "Tue, 14 Nov 2023 22:13:20 GMT", &mut head);
    assert_head(&head, &plan.payload, asked.method);
}

/// The head is one that another reader takes, and its length is the body's.
fn assert_head(head: &[u8], payload: &ResponsePayload, method: HttpMethod) {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let read =
        response.parse(head).unwrap_or_else(|error| panic!("{error}: {}", head.escape_ascii()));
    assert_eq!(read, httparse::Status::Complete(head.len()), "{}", head.escape_ascii());
    let of = |name: &'static str| {
        response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name))
    };
    assert_eq!(of("date").count(), 1, "{}", head.escape_ascii());
    let lengths: Vec<&[u8]> = of("content-length").map(|header| header.value).collect();
    if let ([length], false) = (&lengths[..], method == HttpMethod::Head) {
        assert_eq!(*length, payload.len().to_string().as_bytes(), "{}", head.escape_ascii());
    }
    assert!(lengths.len() == 1 || response.code == Some(304), "{}", head.escape_ascii());
}

pub(crate) fn range(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(length) = input.arbitrary::<u64>() else { return };
    let header = input.take_rest();
    let is_inside = |range: &std::ops::Range<u64>| range.start < range.end && range.end <= length;
    match range::parse_range_header(header, length) {
        ByteRanges::Whole | ByteRanges::Unsatisfiable => {}
        ByteRanges::One(one) => assert!(is_inside(&one), "{one:?} of {length}"),
        ByteRanges::Several(parts) => {
            assert!(parts.len() >= 2 && parts.iter().all(is_inside), "{parts:?} of {length}");
            let asked: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
            assert!(asked <= u128::from(length), "overlapping parts: {parts:?} of {length}");
        }
    }
}

/// Most steps of one connection: every step takes bytes, or ends it.
const STEPS_MAX: usize = 100_000;

/// The first byte says how the others are cut into pieces.
pub(crate) fn connection(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let whole = conversation(&[bytes]);
    let piece = usize::from(cut) + 1;
    let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
    assert_eq!(whole, conversation(&pieces), "cut into pieces of {piece}");
}

/// Every request and refusal of a connection whose client sends these pieces and then ends.
fn conversation(pieces: &[&[u8]]) -> Vec<String> {
    let mut input = RequestInput::default();
    let mut said = Vec::new();
    let mut steps = 0;
    for (number, piece) in pieces.iter().enumerate() {
        input.push(piece);
        let is_last = number + 1 == pieces.len();
        loop {
            steps += 1;
            assert!(steps < STEPS_MAX, "the connection never ends");
            match input.step(is_last) {
                InputStep::More => break,
                InputStep::Body { .. } => {}
                InputStep::Bad(why) => {
                    said.push(format!("refused: {why}"));
                    return said;
                }
                InputStep::Request(asked) => {
                    said.push(format!("{:?} {}", asked.method, asked.target.escape_ascii()));
                    assert!(input.request().is_some(), "a request that is not there a second time");
                    input.finish_request();
                }
            }
        }
    }
    said
}
