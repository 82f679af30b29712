//! Requests bent and broken: none may stop the core.

use ringboot::serve::http::HttpPlan;
use std::time::Duration;

use super::server::{Server, pattern};

const REQUESTS: &[&str] = &[
    "GET /boot/vmlinuz HTTP/1.1\r\nHost: 192.168.4.150\r\nRange: bytes=0-2047,4096-\r\nIf-Range: \
     \"1-2-3\"\r\n\r\n",
    "GET //grubx64.efi?x=%41 HTTP/1.1\r\nHost: h\r\nIf-Match: \"a\", W/\"b\"\r\nIf-None-Match: \
     *\r\n\r\n",
    "HEAD http://192.168.4.150:80/a%20b/c.efi HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET http,192.168.4.150/grub/grub.cfg HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /%2e%2e/x HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:46:40 \
     GMT\r\nContent-Length: 3\r\n\r\nabc",
    "POST /done HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: \
     100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
];

/// A small generator, so that a failure is found again with the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A request with a few bytes flipped, taken away, doubled or put in.
    pub(crate) fn mutated(&mut self) -> Vec<u8> {
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

#[test]
fn h30_mutated_requests_on_the_wire_are_answered_or_closed_and_the_core_lives() {
    let mut plan = HttpPlan::default();
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
