//! Requests bent and broken: none may panic a parser or stop the core.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Version};
use ringboot::http::guard::LineGuard;
use ringboot::http::respond::{self, Head, Meta, Payload};
use ringboot::http::{conditional, range, target};
use std::time::{Duration, SystemTime};

use super::server::{Server, pattern};

const MUTATIONS: u32 = 300_000;

const REQUESTS: &[&str] = &[
    "GET /boot/vmlinuz HTTP/1.1\r\nHost: 192.168.4.150\r\nRange: bytes=0-2047,4096-\r\nIf-Range: \"1-2-3\"\r\n\r\n",
    "GET //grubx64.efi?x=%41 HTTP/1.1\r\nHost: h\r\nIf-Match: \"a\", W/\"b\"\r\nIf-None-Match: *\r\n\r\n",
    "HEAD http://192.168.4.150:80/a%20b/c.efi HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET http,192.168.4.150/grub/grub.cfg HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /%2e%2e/x HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\nContent-Length: 3\r\n\r\nabc",
    "POST /done HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
];

/// A small generator, so that a failure is found again with the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A request with a few bytes flipped, taken away, doubled or put in.
    fn mutated(&mut self) -> Vec<u8> {
        let mut bytes = REQUESTS[self.below(REQUESTS.len())].as_bytes().to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] = self.next() as u8,
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"%\r\n \0/.-,=\"\xff:9"[self.below(14)]),
                3 => {
                    let end = at + self.below((bytes.len() - at).min(20));
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    }
}

/// Takes a request apart as crudely as can be, so that the pure parsers see what hyper would have refused.
fn parse_everything(bytes: &[u8], len: u64) {
    let mut passed = bytes.to_vec();
    LineGuard::default().pass(&mut passed);
    let mut lines = bytes.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|&b| b == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok()).unwrap_or(Method::GET);
    let name = words.next().unwrap_or_default();
    if let Ok(path) = target::path(name) {
        assert!(!path.contains(&0) && !path.split(|&b| b == b'/').any(|part| part == b".."), "{path:?}");
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|&b| b == b':').unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"range") {
            range::parse(value, len);
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    conditional::evaluate(&headers, "\"1-2-3\"", mtime);
    let head = Head { method: &method, version: Version::HTTP_11, headers: &headers, target_len: name.len() };
    let plan = respond::forbid(&head)
        .unwrap_or_else(|| respond::file(&head, name, Meta { len, etag: "\"1-2-3\"", mtime }, mtime));
    if let Payload::File(part) = &plan.payload {
        assert!(part.start < part.end && part.end <= len);
    }
    let stated = plan.headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
    if method != Method::HEAD && plan.status != 304 {
        assert_eq!(stated, Some(plan.payload.len()));
    }
}

#[test]
fn h24_h17_h19_three_hundred_thousand_mutated_requests_panic_no_parser() {
    let mut random = Random(0x0072_696e_6762_6f6f);
    for _ in 0..MUTATIONS {
        let bytes = random.mutated();
        let len = random.next() >> random.below(64);
        parse_everything(&bytes, len);
    }
}

#[test]
fn h30_mutated_requests_on_the_wire_are_answered_or_closed_and_the_core_lives() {
    let mut plan = ringboot::serve::http_core::HttpPlan::default();
    plan.timeouts.head = Duration::from_millis(200);
    plan.timeouts.idle = Duration::from_millis(200);
    plan.timeouts.linger = Duration::from_millis(50);
    let server = Server::with(plan);
    server.put("boot/vmlinuz", &pattern(100_000));
    let mut random = Random(7);
    for _ in 0..1500 {
        let bytes = random.mutated();
        let mut client = server.connect();
        client.send(&bytes);
        client.half_close();
        let answer = client.rest();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", bytes.escape_ascii());
    }
    assert_eq!(server.connect().get("/boot/vmlinuz", &[]).body.len(), 100_000);
}
