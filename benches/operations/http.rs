//! An HTTP request as Anaconda and UEFI send it: its target, its Range, the head of the answer, and
//! the schedule of a large body.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ringboot::http::media::find_media_type;
use ringboot::http::request::{HttpVersion, ParsedHead, parse_request_head};
use ringboot::http::respond::{RepresentationMeta, ResponseStatus, answer_with_file};
use ringboot::http::schedule::{SLOTS, ScheduleTick, SendSchedule};
use ringboot::http::{range, target};

use super::Operation;

const TARGET: &[u8] = b"/centos/os/Packages/kernel%2Dcore-6.6.0-1.el9.x86_64.rpm?mirror=1";
const RANGE_1_MIB: &str = "bytes=1048576-2097151";
/// Octets of the file.
const LEN: u64 = 64 << 20;
/// Octets in one sendfile(2) call: the default of `[tuning] http-chunk`.
const PIECE: u64 = 4 << 20;
/// From one piece to the next, nanoseconds.
const STEP: ScheduleTick = 1_000_000;
/// Large bodies of other machines.
const OTHERS: u16 = SLOTS - 1;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("http: decode a request target", || {
            target::decode_target_path(black_box(TARGET)).unwrap()
        }),
        Operation::new("http: parse a Range", || {
            range::parse_range_header(black_box(RANGE_1_MIB.as_bytes()), black_box(LEN))
        }),
        head(
            "http: read a GET of 1 MiB of a file and write the answer's head",
            &format!("Range: {RANGE_1_MIB}\r\n"),
            ResponseStatus::PARTIAL_CONTENT,
        ),
        head("http: read a GET of a file and write the answer's head", "", ResponseStatus::OK),
        schedule(),
    ]
}

fn head(name: &'static str, line: &str, status: ResponseStatus) -> Operation {
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: 192.168.4.150\r\nUser-Agent: anaconda/34.25\r\n{line}\r\n",
        TARGET.escape_ascii()
    );
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let now = mtime + Duration::from_secs(86_400);
    let (etag, last_modified) = ("\"4000000-17979cfe362a0000\"", "Tue, 14 Nov 2023 22:13:20 GMT");
    let mut out = Vec::with_capacity(1024);
    Operation::new(name, move || {
        let ParsedHead::Whole(request, _) = parse_request_head(black_box(head.as_bytes())) else {
            return 0;
        };
        let media = find_media_type(b"centos/os/images/install.img");
        let plan = answer_with_file(
            &request,
            RepresentationMeta { len: LEN, etag, mtime, last_modified, media },
            now,
        );
        assert_eq!(plan.status, status);
        out.clear();
        plan.write_head(HttpVersion::Http11, true, last_modified, &mut out);
        out.len()
    })
}

/// From the first grant to the end of one body of 64 MiB, beside others that stand still.
fn schedule() -> Operation {
    let mut schedule = SendSchedule::new(Some(SLOTS.into()));
    for other in 1..=OTHERS {
        schedule.begin_body(0, u64::from(other), machine(other));
    }
    let mut now = 0;
    Operation::new("http: schedule a body of 64 MiB", move || {
        schedule.begin_body(now, 0_u64, machine(0));
        let mut left = LEN;
        while left > 0 {
            now += STEP;
            let granted = schedule.grant_bytes(now, 0).min(PIECE).min(left);
            assert!(granted > 0, "it has a slot");
            schedule.count_sent(0, granted);
            left -= granted;
            while schedule.poll(now).is_some() {}
        }
        schedule.end_body(now, 0);
    })
}

fn machine(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}
