//! An HTTP request as Anaconda and UEFI send it: its target, its Range, and the head of the answer.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use http::header::{HOST, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use ringboot::http::respond::{Head, Meta, file};
use ringboot::http::{range, target};

use super::Operation;

const TARGET: &[u8] = b"/centos/os/Packages/kernel%2Dcore-6.6.0-1.el9.x86_64.rpm?mirror=1";
const RANGE_1_MIB: &str = "bytes=1048576-2097151";
/// Octets of the file.
const LEN: u64 = 64 << 20;

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("http: decode a request target", || target::path(black_box(TARGET)).unwrap()),
        Operation::new("http: parse a Range", || range::parse(black_box(RANGE_1_MIB.as_bytes()), black_box(LEN))),
        partial_content(),
    ]
}

fn partial_content() -> Operation {
    let headers = HeaderMap::from_iter([
        (HOST, HeaderValue::from_static("192.168.4.150")),
        (USER_AGENT, HeaderValue::from_static("anaconda/34.25")),
        (RANGE, HeaderValue::from_static(RANGE_1_MIB)),
    ]);
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let now = mtime + Duration::from_secs(86_400);
    Operation::new("http: answer a GET of 1 MiB of a file", move || {
        let head =
            Head { method: &Method::GET, version: Version::HTTP_11, headers: &headers, target_len: TARGET.len() };
        let meta = Meta { len: LEN, etag: "\"4000000-17979cfe362a0000\"", mtime };
        let plan = file(black_box(&head), b"centos/os/images/install.img", meta, now);
        assert_eq!(plan.status, StatusCode::PARTIAL_CONTENT);
        plan
    })
}
