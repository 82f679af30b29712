//! Many large bodies at once: a few run, the others have their first bytes and a trickle, and all
//! end whole (U8).

use std::time::{Duration, Instant};

use ringboot::http::schedule::TRICKLE_BYTES;
use ringboot::serve::http::HttpPlan;

use super::server::{PATIENCE, Server, pattern};

/// More than the kernel takes for a client that does not read.
const LARGE_BYTES: usize = 24 << 20;

#[test]
fn u8_who_stands_in_line_has_the_first_bytes_at_once_and_everything_in_the_end() {
    // A machine with other work may look away for as long as somebody stands in line.
    assert!((0..5).any(|_| one_stands_in_line_behind_another()), "nobody has stood in line");
}

/// Whether the second one was seen to wait.
fn one_stands_in_line_behind_another() -> bool {
    let server = Server::with(HttpPlan { slots: Some(1), ..HttpPlan::default() });
    let image = pattern(LARGE_BYTES);
    server.put("initrd", &image);
    server.put("menu", b"a menu");
    let request = "GET /initrd HTTP/1.1\r\nHost: h\r\n\r\n";
    server.connect().get("/initrd", &[]);

    let mut first = server.connect();
    first.send(request);
    first.stream.peek(&mut [0]).unwrap();
    let mut second = server.connect();
    second.send(request);
    let head = second.head().unwrap();
    assert_eq!(head.status(), 200);
    // The first one does not read, and holds the only slot until it is found to stand still. What
    // is counted is shown after the turn in which the head left.
    let began = Instant::now();
    let seen = || (server.counters.at_full_speed.read(), server.counters.in_line.read()) == (1, 1);
    while !seen() && began.elapsed() < Duration::from_millis(100) {
        std::thread::yield_now();
    }
    let stood_in_line = seen();
    let mut begun = vec![0; TRICKLE_BYTES as usize];
    second.stream.peek(&mut begun).unwrap();
    assert_eq!(
        server.connect().get("/menu", &[]).text(),
        "a menu",
        "what is small stands in no \
        line"
    );

    // It stands still, so the slot is not its own for long.
    let began = Instant::now();
    let len: usize = head.value("Content-Length").unwrap().parse().unwrap();
    assert!(second.body(len) == image);
    assert!(began.elapsed() < PATIENCE);
    assert!(first.answer(true).body == image);
    let gone = || (server.counters.at_full_speed.read(), server.counters.in_line.read()) == (0, 0);
    while !gone() {
        assert!(began.elapsed() < PATIENCE, "a place that nobody gives back");
        std::thread::yield_now();
    }
    stood_in_line
}

#[test]
fn u8_who_goes_away_while_in_line_leaves_no_place_behind() {
    let server = Server::with(HttpPlan { slots: Some(1), ..HttpPlan::default() });
    server.put("initrd", &pattern(LARGE_BYTES));
    server.connect().get("/initrd", &[]);
    let request = "GET /initrd HTTP/1.1\r\nHost: h\r\n\r\n";
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.connect();
            client.send(request);
            client.stream.peek(&mut [0]).unwrap();
            client
        })
        .collect();
    drop(clients);
    let began = Instant::now();
    while server.counters.at_full_speed.read() + server.counters.in_line.read() > 0 {
        assert!(
            began.elapsed() < PATIENCE + Duration::from_secs(5),
            "a place that nobody gives \
            back"
        );
        std::thread::yield_now();
    }
    assert_eq!(server.connect().get("/initrd", &[]).body.len(), LARGE_BYTES);
}
