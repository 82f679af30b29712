//! The TCP driver and the descriptors of its process: none is lost, and a shortage passes. One
//! test, since it takes them all.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringboot::engine::datapath::Datapath;
use ringboot::engine::limits::ACCEPT_PAUSE;
use ringboot::engine::net;
use ringboot::engine::stream::{ConnectionId, SendBody, TcpDriver, TcpEvent, TurnWait};

const EMFILE: i32 = 24;
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn descriptors_come_back_and_a_shortage_of_them_passes() {
    for datapath in [Datapath::IoUring, Datapath::Epoll] {
        let listener = net::open_tcp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let mut driver = TcpDriver::new(datapath).unwrap();
        driver.listen(listener).unwrap();
        connections_leave_nothing_behind(&mut driver, address);
        accepting_pauses_and_goes_on(&mut driver, address);
    }
}

/// Thousands of connections: closed by us with a receive in the kernel, closed after an answer,
/// closed by the client.
fn connections_leave_nothing_behind(driver: &mut TcpDriver, address: SocketAddr) {
    let before = open_descriptors();
    for round in 0..1500 {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let id = accepted(driver);
        let requests = round % 3;
        for _ in 0..requests {
            client.write_all(b"request").unwrap();
            until(driver, |event| matches!(event, TcpEvent::Received { .. }));
            driver.send(id, b"answer", SendBody::Nothing, false);
            until(driver, |event| matches!(event, TcpEvent::Sent { left: 0, .. }));
            client.read_exact(&mut [0; 6]).unwrap();
        }
        if round % 2 == 0 {
            // The receive for the next request is in the kernel by now.
            driver.run_turn(TurnWait::No, |_| {}).unwrap();
            driver.close(id);
            // The receive is taken back, and then the kernel lets go of the socket.
            (0..2).for_each(|_| driver.run_turn(TurnWait::No, |_| {}).unwrap());
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        } else {
            drop(client);
            until(driver, |event| matches!(event, TcpEvent::Ended { .. }));
            driver.close(id);
        }
        assert_eq!(driver.connections(), 0);
    }
    assert_eq!(open_descriptors(), before);
    assert_eq!(driver.overflows(), 0);
}

fn accepting_pauses_and_goes_on(driver: &mut TcpDriver, address: SocketAddr) {
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    all.pop();
    let mut client = TcpStream::connect(address).unwrap();
    let mut errors = Vec::new();
    let started = Instant::now();
    while started.elapsed() < 3 * ACCEPT_PAUSE {
        let note = |event: TcpEvent<'_>| {
            if let TcpEvent::AcceptFailed(error) = event {
                errors.push(error)
            }
        };
        driver.run_turn(TurnWait::AtMost(3 * ACCEPT_PAUSE), note).unwrap();
    }
    assert!(
        matches!(errors.len(), 2..=4) && errors.iter().all(|error| *error == EMFILE),
        "{errors:?}"
    );
    // With the descriptor that is kept back a client is told at once, as often as need be, and
    // nobody is taken twice.
    client.write_all(b"request").unwrap();
    let mut seen = Vec::new();
    let mut answer = |asked: &[u8]| {
        seen.extend_from_slice(asked);
        Some(b"come again".to_vec())
    };
    assert_eq!([driver.turn_away(5, &mut answer), driver.turn_away(5, &mut answer)], [1, 0]);
    assert_eq!(seen, b"request");
    let mut told = String::new();
    client.read_to_string(&mut told).unwrap();
    assert_eq!(told, "come again");
    assert!(File::open("/dev/null").is_err(), "it is kept back again");
    drop(all);
    let _client = TcpStream::connect(address).unwrap();
    let id = accepted(driver);
    driver.close(id);
}

fn accepted(driver: &mut TcpDriver) -> ConnectionId {
    let mut accepted = None;
    until(driver, |event| {
        if let TcpEvent::Accepted { id, .. } = event {
            accepted.replace(*id).is_none()
        } else {
            false
        }
    });
    accepted.unwrap()
}

fn until(driver: &mut TcpDriver, mut enough: impl FnMut(&TcpEvent<'_>) -> bool) {
    let started = Instant::now();
    let mut done = false;
    while !done {
        assert!(started.elapsed() < PATIENCE, "nothing happened");
        driver.run_turn(TurnWait::AtMost(PATIENCE), |event| done |= enough(&event)).unwrap();
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
