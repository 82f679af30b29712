//! An HTTP request as Anaconda and UEFI send it: its target, its Range, and the head of the answer.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use ringboot::http::media::find_media_type;
use ringboot::http::request::{HttpVersion, ParsedHead, parse_request_head};
use ringboot::http::respond::{RepresentationMeta, ResponseStatus, answer_with_file};
use ringboot::http::{range, target};

use super::Operation;

const TARGET: &[u8] = b"/centos/os/Packages/kernel%2Dcore-6.6.0-1.el9.x86_64.rpm?mirror=1";
const RANGE_1_MIB: &str = "bytes=1048576-2097151";
/// Octets of the file.
const LEN: u64 = 64 << 20;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("http: decode a request target", || {
            target::decode_target_path(black_box(TARGET)).unwrap()
        }),
        Operation::new("http: parse a Range", || {
            range::parse_range_header(black_box(RANGE_1_MIB.as_bytes()), black_box(LEN))
        }),
        partial_content(),
    ]
}

fn partial_content() -> Operation {
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: 192.168.4.150\r\nUser-Agent: anaconda/34.25\r\nRange: \
         {RANGE_1_MIB}\r\n\r\n",
        TARGET.escape_ascii()
    );
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let now = mtime + Duration::from_secs(86_400);
    let (etag, last_modified) = ("\"4000000-17979cfe362a0000\"", "Tue, 14 Nov 2023 22:13:20 GMT");
    let mut out = Vec::with_capacity(1024);
    Operation::new("http: read a GET of 1 MiB of a file and write the answer's head", move || {
        let ParsedHead::Whole(request, _) = parse_request_head(black_box(head.as_bytes())) else {
            return 0;
        };
        let media = find_media_type(b"centos/os/images/install.img");
        let plan = answer_with_file(
            &request,
            RepresentationMeta { len: LEN, etag, mtime, last_modified, media },
            now,
        );
        assert_eq!(plan.status, ResponseStatus::PARTIAL_CONTENT);
        out.clear();
        plan.write_head(HttpVersion::Http11, true, last_modified, &mut out);
        out.len()
    })
}
