//! Files that change while they are served (H-12), and what the log is told.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::server::{PATIENCE, Server, pattern};
use ringboot::observe::events::EventWeight;

const LEN: usize = 40_000_000;

/// A client that has asked for the image and read no more than a little of it: most can not have
/// been sent yet.
fn half_way(server: &Server) -> Client {
    let mut client = server.connect();
    client.send("GET /image HTTP/1.1\r\nHost: h\r\n\r\n");
    client.stream.peek(&mut [0]).unwrap();
    client
}

#[test]
fn h12_a_file_replaced_during_a_transfer_is_finished_from_the_old_version() {
    let server = Server::start();
    let old = pattern(LEN);
    server.put("image", &old);
    let mut client = half_way(&server);
    fs::write(server.path("new"), vec![0; LEN]).unwrap();
    fs::rename(server.path("new"), server.path("image")).unwrap();
    assert!(client.answer(true).body == old);
    assert!(
        client.get("/image", &["Range: bytes=0-99"]).body == [0; 100],
        "and the next request gets the new one"
    );
    fs::remove_file(server.path("image")).unwrap();
    assert_eq!(client.get("/image", &[]).status(), 404);
}

#[test]
fn h12_a_file_cut_short_during_a_transfer_ends_the_connection_and_nothing_else() {
    let server = Server::start();
    server.put("image", &pattern(LEN));
    server.put("other", &pattern(1_000_000));
    let mut other = server.connect();
    let mut client = half_way(&server);
    File::options().write(true).open(server.path("image")).unwrap().set_len(100_000).unwrap();
    let received = client.rest();
    assert!(received.len() < LEN, "{} bytes of a file that is no more", received.len());
    assert!(other.get("/other", &[]).body == pattern(1_000_000));
    assert_eq!(server.connect().get("/image", &[]).value("Content-Length"), Some("100000"));
}

#[test]
fn h12_a_file_overwritten_in_place_is_never_completed_as_a_mix() {
    let server = Server::start();
    server.put("image", &vec![1; LEN]);
    let mut client = half_way(&server);
    let file = File::options().write(true).open(server.path("image")).unwrap();
    file.write_all_at(&vec![2; LEN], 0).unwrap();
    let received = client.rest();
    let head_len = received.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let body = &received[head_len..];
    assert!(
        body.len() < LEN,
        "a whole body was sent: {} bytes of the new version",
        body.iter().filter(|&&b| b == 2).count()
    );
    let event = server.events.recv_timeout(PATIENCE).unwrap();
    assert!(
        event.weight == EventWeight::Warning && event.text.contains("changed in place"),
        "{event:?}"
    );
}

#[test]
fn h12_files_cut_short_and_replaced_under_load_never_hurt_the_core() {
    let server = Server::start();
    let stop = AtomicBool::new(false);
    let versions: Vec<Vec<u8>> = (1..=3u8).map(|n| vec![n; 3_000_000]).collect();
    server.put("image", &versions[0]);
    let (image, new, address) = (server.path("image"), server.path("new"), server.v4);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..150 {
                match round % 3 {
                    0 => File::options().write(true).open(&image).unwrap().set_len(4096).unwrap(),
                    1 => drop(fs::remove_file(&image)),
                    _ => {}
                }
                fs::write(&new, &versions[round % 3]).unwrap();
                fs::rename(&new, &image).unwrap();
            }
        });
        for _ in 0..6 {
            scope.spawn(|| {
                let mut whole = 0;
                while !stop.load(Ordering::Acquire) {
                    let mut client = Client::new(TcpStream::connect(address).unwrap());
                    client.send("GET /image HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                    let received = client.rest();
                    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
                        continue;
                    };
                    let body = &received[end + 4..];
                    if received.starts_with(b"HTTP/1.1 200") && body.len() == 3_000_000 {
                        assert!(body.iter().all(|&b| b == body[0]), "a mix of versions");
                        whole += 1;
                    }
                }
                assert!(whole > 0);
            });
        }
        let written = writer.join();
        stop.store(true, Ordering::Release);
        written.unwrap();
    });
    server.put("image", b"in the end");
    assert_eq!(server.connect().get("/image", &[]).text(), "in the end");
}

#[test]
fn a_delivered_file_is_one_event_and_a_part_of_it_is_none() {
    let server = Server::start();
    server.put("vmlinuz", &pattern(300_000));
    let mut client = server.connect();
    client.get("/vmlinuz", &["Range: bytes=0-1000"]);
    client.ask("HEAD", "/vmlinuz", &[]);
    client.get("/vmlinuz", &[]);
    let event = server.events.recv_timeout(PATIENCE).unwrap();
    assert!(event.text.starts_with("vmlinuz sent by HTTP, 300000 bytes"), "{event:?}");
    assert_eq!(event.address, Some(server.v4.ip()));
    client.get("/none", &[]);
    let event = server.events.recv_timeout(PATIENCE).unwrap();
    assert!(event.weight == EventWeight::Step && event.text.contains("none"), "{event:?}");
}

#[test]
fn a_client_that_leaves_in_the_middle_is_not_a_delivery() {
    let server = Server::start();
    server.put("image", &pattern(LEN));
    drop(half_way(&server));
    server.put("small", b"x");
    server.connect().get("/small", &[]);
    let event = server.events.recv_timeout(PATIENCE).unwrap();
    assert!(event.text.starts_with("small sent"), "{event:?}");
}

#[test]
fn a_stop_finishes_what_runs_closes_what_is_idle_and_takes_nothing_new() {
    let mut server = Server::start();
    let image = pattern(LEN);
    server.put("image", &image);
    let mut idle = server.connect();
    idle.get("/image", &["Range: bytes=0-9"]);
    let silent = server.connect();
    let mut running = half_way(&server);
    let asked = Instant::now();
    server.order_stop();
    idle.expect_end();
    Client::new(silent.stream.try_clone().unwrap()).expect_end();
    assert!(running.answer(true).body == image);
    running.expect_end();
    assert!(asked.elapsed() < Duration::from_secs(5));
    server.stop().unwrap();
    let refused = TcpStream::connect(server.v4).map(|mut late| late.read(&mut [0]));
    assert!(!matches!(refused, Ok(Ok(1..))), "a stopped server answered");
}
