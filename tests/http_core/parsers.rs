//! Requests bent and broken, for the pure parsers alone: none may panic, and what they make of a
//! request holds together.

use ringboot::http::input::{InputStep, RequestInput};
use ringboot::http::request::RequestHead;
use ringboot::http::respond::{self, RepresentationMeta, ResponsePayload};
use ringboot::http::{range, target};
use ringboot::images::clean_path_name;
use std::time::{Duration, SystemTime};

use super::io_uring::hostile::Random;

const MUTATIONS: u32 = 300_000;

/// As the core answers a request, but for the file.
fn answer(request: &RequestHead<'_>, len: u64) {
    if let Ok(path) = target::decode_target_path(request.target) {
        assert!(!path.contains(&0), "{path:?}");
        if let Ok(path) = clean_path_name(&path) {
            let is_climbing = path.as_bytes().split(|&b| b == b'/').any(|part| part == b"..");
            assert!(!is_climbing, "{path:?}");
        }
    }
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let meta = RepresentationMeta {
        len,
        etag: "\"1-2-3\"",
        mtime,
        last_modified: "Sun, 09 Sep 2001 01:46:40 GMT",
        media: "text/plain",
    };
    let plan = respond::forbid_by_head(request)
        .unwrap_or_else(|| respond::answer_with_file(request, meta, mtime));
    if let ResponsePayload::File(part) = &plan.payload {
        assert!(part.start < part.end && part.end <= len);
    }
    let mut head = Vec::new();
    plan.write_head(
        request.version,
        request.keeps_alive,
        "Sun, 09 Sep 2001 01:46:40 GMT",
        &mut head,
    );
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("HTTP/1.")
            && head.ends_with("\r\n\r\n")
            && head.matches("\r\n\r\n").count() == 1,
        "{head}"
    );
    let stated = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map(|len| len.parse().unwrap());
    if !plan.payload.is_empty() {
        assert_eq!(stated, Some(plan.payload.len()));
    }
}

#[test]
fn h24_three_hundred_thousand_mutated_requests_panic_no_parser() {
    let mut random = Random(0x0072_696e_6762_6f6f);
    let mut answered = 0;
    for _ in 0..MUTATIONS {
        let bytes = random.mutated();
        let len = random.next() >> random.below(64);
        range::parse_range_header(&bytes, len);
        let _ = target::decode_target_path(&bytes);
        let mut input = RequestInput::default();
        input.push(&bytes);
        loop {
            match input.step(true) {
                InputStep::Request(request) => {
                    answer(&request, len);
                    answered += 1;
                    input.finish_request();
                }
                InputStep::Body { .. } => {}
                InputStep::More | InputStep::Bad(_) => break,
            }
        }
    }
    assert!(answered > MUTATIONS / 10, "many requests are only bent: {answered}");
}
