//! Sizes, times and numbers of connections (H-14, H-32 to H-34).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::client::Client;
use super::server::{PATIENCE, Server, pattern};
use ringboot::engine::open_files::raise_open_files;
use ringboot::http::limits::WAITING_MAX;
use ringboot::observe::events::EventWeight;
use ringboot::serve::http::{HttpPlan, HttpTimeouts};

fn hurried(change: impl FnOnce(&mut HttpTimeouts)) -> Server {
    let mut plan = HttpPlan::default();
    plan.timeouts.linger = Duration::from_millis(100);
    change(&mut plan.timeouts);
    Server::with(plan)
}

#[test]
fn h32_a_long_request_line_is_414_whether_it_ends_or_not() {
    let server = Server::start();
    for len in [8_180, 9_000, 20_000, 60_000, 300_000] {
        let mut client = server.connect();
        client.send(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len)));
        let answer = client.answer(true);
        assert_eq!((answer.status(), answer.value("Connection")), (414, Some("close")), "{len}");
        client.expect_end();
    }
    let mut endless = server.connect();
    endless.send(vec![b'x'; 4000]);
    endless.send(format!(" /{}", "a".repeat(10_000)));
    assert!(matches!(endless.answer(true).status(), 400 | 414));
    let answer = server.connect().get(&format!("/{}", "a".repeat(8_000)), &[]);
    assert_eq!(answer.status(), 404, "just below the limit");
}

#[test]
fn h32_large_or_many_headers_are_431() {
    let server = Server::start();
    let many: Vec<String> = (0..70).map(|n| format!("X-{n}: y")).collect();
    let very_many: Vec<String> = (0..150).map(|n| format!("X-{n}: y")).collect();
    let large = vec![format!("Cookie: {}", "c".repeat(17_000))];
    let very_large = vec![format!("Cookie: {}", "c".repeat(200_000))];
    for lines in [many, very_many, large, very_large] {
        let mut client = server.connect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = client.get("/f", &lines);
        assert_eq!(
            (answer.status(), answer.value("Connection")),
            (431, Some("close")),
            "{} lines",
            lines.len()
        );
        client.expect_end();
    }
    let allowed: Vec<String> = (0..60).map(|n| format!("X-{n}: {}", "y".repeat(200))).collect();
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    assert_eq!(server.connect().get("/f", &allowed).status(), 404);
}

#[test]
fn h32_a_small_body_on_get_is_ignored_and_a_large_one_ends_the_connection() {
    let server = Server::start();
    server.put("f", b"x");
    let mut client = server.connect();
    client.send(format!(
        "GET /f HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n{}",
        "b".repeat(60_000)
    ));
    assert_eq!(client.answer(true).text(), "x");
    client.send(
        "GET /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \
                 chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer(true).text(), "x");
    client.send(format!(
        "GET /f HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n{}",
        "b".repeat(70_000)
    ));
    assert_eq!(client.answer(true).status(), 413);
    client.expect_end();
    let mut chunked = server.connect();
    chunked.send("GET /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    chunked.send(format!("14000\r\n{}\r\n", "b".repeat(0x14000)));
    assert_eq!(chunked.answer(true).status(), 413);
}

#[test]
fn h33_a_head_that_does_not_come_in_time_ends_the_connection() {
    let server = hurried(|timeouts| timeouts.head = Duration::from_millis(300));
    server.put("f", b"x");
    let mut client = server.connect();
    assert_eq!(client.get("/f", &[]).text(), "x");
    let began = Instant::now();
    client.send("GET /f HTTP/1.1\r\n");
    // A byte now and then does not buy time.
    let mut byte = [0];
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while !matches!(client.stream.read(&mut byte), Ok(0))
        && began.elapsed() < Duration::from_secs(5)
    {
        if client.stream.write_all(b"X").is_err() {
            break;
        }
    }
    let time = began.elapsed();
    assert!(time >= Duration::from_millis(290) && time < Duration::from_secs(4), "{time:?}");
    assert_eq!(server.counters.timed_out.read(), 1);
}

#[test]
fn h33_an_idle_connection_is_closed_after_its_time() {
    let server = hurried(|timeouts| timeouts.idle = Duration::from_millis(300));
    server.put("f", b"x");
    let mut silent = server.connect();
    let mut client = server.connect();
    for _ in 0..2 {
        let began = Instant::now();
        client.get("/f", &[]);
        assert!(began.elapsed() < Duration::from_millis(250));
    }
    let began = Instant::now();
    client.expect_end();
    silent.expect_end();
    assert!(
        began.elapsed() > Duration::from_millis(200) && began.elapsed() < Duration::from_secs(4)
    );
}

#[test]
fn h33_a_client_that_takes_nothing_or_next_to_nothing_is_cut() {
    let server = hurried(|timeouts| timeouts.stall = Duration::from_millis(500));
    server.put("image", &pattern(40_000_000));
    let mut stalled = server.connect();
    stalled.send("GET /image HTTP/1.1\r\nHost: h\r\n\r\n");
    let began = Instant::now();
    let event = server.events.recv_timeout(PATIENCE).unwrap();
    assert!(event.weight == EventWeight::Warning && event.text.contains("too slow"), "{event:?}");
    assert!(
        began.elapsed() >= Duration::from_millis(450) && began.elapsed() < Duration::from_secs(5)
    );
    assert!(stalled.rest().len() < 40_000_000);
}

#[test]
fn h33_what_a_client_that_is_cut_has_not_taken_is_thrown_away() {
    let server = hurried(|timeouts| timeouts.stall = Duration::from_millis(500));
    server.put("image", &pattern(40_000_000));
    server.put("f", &pattern(100_000));
    // The first stops in the middle, the other one when the last bytes wait for its
    // acknowledgement.
    for (name, read) in [("image", 0), ("f", 20_000)] {
        let mut stalled = narrow(server.v4);
        stalled.send(format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
        stalled.stream.read_exact(&mut vec![0; read]).unwrap();
        let event = server.events.recv_timeout(PATIENCE).unwrap();
        assert!(event.text.contains("too slow"), "{event:?}");
        let ended = std::iter::repeat_with(|| stalled.stream.read(&mut [0; 65_536]))
            .find(|read| !matches!(read, Ok(1..)));
        assert_eq!(ended.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn h33_a_client_that_resets_or_stops_just_before_the_end_gives_its_place_back() {
    let server = Server::with(HttpPlan { connections: 4, ..HttpPlan::default() });
    server.put("f", &pattern(100_000));
    for _ in 0..5 {
        let stalled: Vec<Client> = (0..4).map(|_| narrow(server.v4)).collect();
        for mut client in stalled {
            client.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n");
            client.stream.read_exact(&mut [0; 20_000]).unwrap();
            socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        // They are gone with a reset, in the state in which the last bytes wait for an
        // acknowledgement.
        assert_eq!(server.connect().get("/f", &[]).body.len(), 100_000);
    }
}

/// A client whose kernel takes little of what it does not read.
fn narrow(address: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::new(socket.into())
}

#[test]
fn h9_no_reset_cuts_an_answer_whatever_the_client_sends_behind_its_last_request() {
    let server = Server::start();
    let file = pattern(64 * 1024);
    server.put("f", &file);
    let close = "Connection: close\r\n";
    for (line, head, late) in [
        ("1.0", "", "\r\n"),
        ("1.1", close, "\r\n"),
        ("1.1", close, "GET /f HTTP/1.1\r\n"),
        ("1.0", "", ""),
    ] {
        let (address, file) = (server.v4, &file);
        let ask = || {
            let mut client = narrow(address);
            client.send(format!("GET /f HTTP/{line}\r\nHost: h\r\n{head}\r\n"));
            let mut answer = Vec::new();
            for step in 0.. {
                let mut piece = [0; 4096];
                let len = client.stream.read(&mut piece).unwrap_or_else(|error| {
                    panic!(
                        "{error} after {}",
                        answer.len()
                    )
                });
                answer.extend_from_slice(&piece[..len]);
                if step % 4 == 0 && len > 0 {
                    client.send(late);
                }
                if len == 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(15));
            }
            assert!(answer.ends_with(file), "{} bytes", answer.len());
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(ask))));
    }
}

#[test]
fn h9_an_upload_that_is_refused_reads_its_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n");
    client.send(vec![0; 4_000_000]);
    assert_eq!(client.answer(true).status(), 413);
    client.expect_end();
}

#[test]
fn h33_a_client_that_rests_and_goes_on_gets_all() {
    let server = hurried(|timeouts| timeouts.stall = Duration::from_millis(1500));
    let image = pattern(60_000_000);
    server.put("image", &image);
    let mut client = server.connect();
    client.send("GET /image HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut received = Vec::new();
    let mut piece = vec![0; 6_000_000];
    for _ in 0..3 {
        // As a machine that writes to flash: it takes a few MB, then nothing for most of the time
        // that it has.
        client.stream.read_exact(&mut piece).unwrap();
        received.extend_from_slice(&piece);
        let said = server.events.recv_timeout(Duration::from_millis(700));
        assert!(said.is_err(), "{said:?}");
    }
    client.half_close();
    received.extend(client.rest());
    let head = received.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(received[head..] == image);
}

#[test]
fn h34_connections_over_the_total_wait_for_their_turn() {
    let server = Server::with(HttpPlan { connections: 2, ..HttpPlan::default() });
    server.put("f", b"x");
    let mut first = server.connect();
    let mut second = server.connect();
    first.get("/f", &[]);
    second.get("/f", &[]);
    let mut third = server.connect();
    third.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.stream.peek(&mut [0]).is_err(), "served over the limit");
    third.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(first);
    assert_eq!(third.answer(true).text(), "x");
    assert_eq!(server.counters.queued.read(), 1);
}

#[test]
fn h14_without_room_to_wait_ipxe_is_told_when_to_come_again_and_others_are_closed() {
    raise_open_files().unwrap();
    let server = Server::with(HttpPlan { connections: 1, ..HttpPlan::default() });
    let mut running = server.connect();
    running.get("/none", &[]);
    let waiting: Vec<TcpStream> =
        (0..WAITING_MAX).map(|_| TcpStream::connect(server.v4).unwrap()).collect();
    let mut ipxe = server.connect();
    ipxe.send(
        "GET /boot.ipxe HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: \
               iPXE/1.21.1\r\nHost: h\r\n\r\n",
    );
    let answer = ipxe.answer(true);
    assert_eq!((answer.status(), answer.value("Retry-After")), (503, Some("5")));
    let mut other = server.connect();
    other.send("GET /boot.ipxe HTTP/1.1\r\nUser-Agent: UefiHttpBoot/1.0\r\nHost: h\r\n\r\n");
    other.expect_end();
    assert_eq!(
        (server.counters.queued.read(), server.counters.turned_away.read()),
        (WAITING_MAX as u64, 2)
    );
    drop(waiting);
}

#[test]
fn h34_two_thousand_slow_clients_do_not_slow_another_one_down() {
    raise_open_files().unwrap();
    let server = Server::start();
    let image = pattern(300_000);
    server.put("image", &image);
    server.connect().get("/image", &[]);
    let mut slow: Vec<TcpStream> =
        (0..2000).map(|_| TcpStream::connect(server.v4).unwrap()).collect();
    let mut times = Vec::new();
    for (round, byte) in b"GET /image HTTP/1.1\r\nX".chunks(1).enumerate() {
        for stream in slow.iter_mut().skip(round % 2).step_by(2) {
            stream.write_all(byte).unwrap();
        }
        let began = Instant::now();
        let mut client = Client::new(TcpStream::connect(server.v4).unwrap());
        client.send("GET /image HTTP/1.1\r\nHost: h\r\n\r\n");
        client.stream.peek(&mut [0]).unwrap();
        times.push(began.elapsed());
        assert!(client.answer(true).body == image);
    }
    times.sort_unstable();
    // All but the few that another program on this machine may have delayed.
    let slowest = times[times.len() * 8 / 10];
    assert!(slowest < Duration::from_millis(100), "{times:?}");
}
