//! What every driver does, tried over each of the ways to the kernel.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

use std::io::Read;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::engine::limits::{RECEIVE_BUFFERS, SEND_SLOTS};
use crate::engine::net::{self, SocketBinding};
use crate::images::{
    CatalogAnswer, DiskWorkers, ImageCatalog, ImageStore, JobAsker, ServedContent, clean_path_name,
};

/// Runs a test over each way.
fn over_both(test: impl Fn(Datapath)) {
    for datapath in Datapath::ALL {
        println!("over {datapath}");
        test(datapath);
    }
}

fn driver_on_loopback(datapath: Datapath, address: &str) -> (UdpDriver, SocketId, SocketAddr) {
    let address = address.parse().unwrap();
    let fd =
        net::open_udp_socket(&SocketBinding { address, interface: None, shared: false }).unwrap();
    let bound = net::read_local_address(&fd).unwrap();
    let mut driver = UdpDriver::new(datapath).unwrap();
    let socket = driver.add(fd, bound.ip(), true);
    (driver, socket, bound)
}

fn turn_until(driver: &mut UdpDriver, mut done: impl FnMut(UdpCompletion<'_>) -> bool) {
    let started = Instant::now();
    let mut finished = false;
    while !finished {
        assert!(started.elapsed() < Duration::from_secs(5), "nothing happened");
        driver
            .run_turn(TurnWait::AtMost(Duration::from_millis(100)), |c| finished |= done(c))
            .unwrap();
    }
}

fn mapped_file(len: usize) -> (tempfile::TempDir, ServedContent) {
    let directory = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
    std::fs::write(directory.path().join("image"), bytes).unwrap();
    let images = ImageStore::open(directory.path(), DiskWorkers::start().unwrap()).unwrap();
    let CatalogAnswer::Ask(question) =
        ImageCatalog::new(&images).find(&clean_path_name(b"image").unwrap())
    else {
        panic!("known already")
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    images
        .answer_on_worker(JobAsker::new([10, 0, 0, 1].into(), b""), question, move |answer| {
            sender.send(answer).unwrap()
        })
        .unwrap();
    (directory, receiver.recv().unwrap().unwrap())
}

#[test]
fn a_datagram_tells_where_it_came_from_and_where_it_was_sent() {
    over_both(|datapath| {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut driver, socket, bound) = driver_on_loopback(datapath, address);
            let client = UdpSocket::bind(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(b"hello", bound).unwrap();
            let mut answer = None;
            turn_until(&mut driver, |completion| {
                let UdpCompletion::Datagram(datagram) = completion else { return false };
                assert_eq!((datagram.bytes, datagram.local), (&b"hello"[..], bound.ip()));
                assert!(datagram.interface > 0);
                answer = Some((
                    datagram.from,
                    DatagramSource { address: datagram.local, interface: datagram.interface },
                ));
                true
            });
            let (to, from) = answer.unwrap();
            driver.send(socket, DatagramTarget::Ip(to), Some(from), b"world", 7).unwrap();
            turn_until(&mut driver, |c| {
                matches!(c, UdpCompletion::Sent { token: 7, result: Ok(()) })
            });
            let mut bytes = [0; 16];
            assert_eq!(client.recv_from(&mut bytes).unwrap(), (5, bound));
        }
    });
}

#[test]
fn a_window_leaves_as_one_send_and_arrives_as_blocks() {
    over_both(|datapath| {
        let (_directory, content) = mapped_file(200_000);
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let blocks = BlockBatch {
            content: &content,
            first: 65_530,
            block_size: 1000,
            bytes: 5_000..14_500,
            count: 10,
        };
        driver.send_blocks(socket, client.local_addr().unwrap(), None, &blocks, 1).unwrap();
        turn_until(&mut driver, |c| matches!(c, UdpCompletion::Sent { token: 1, result: Ok(()) }));
        for n in 0..10u16 {
            let mut bytes = [0; 2000];
            let (len, _) = client.recv_from(&mut bytes).unwrap();
            assert_eq!(len, if n == 9 { 504 } else { 1004 });
            assert_eq!(bytes[..2], [0, 3]);
            assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]), 65_530u16.wrapping_add(n));
            let start = 5_000 + usize::from(n) * 1000;
            assert!(bytes[4..len].iter().enumerate().all(|(i, b)| *b == ((start + i) % 251) as u8));
        }
    });
}

#[test]
fn a_file_cut_short_under_a_send_is_an_error_and_not_a_signal() {
    over_both(|datapath| {
        let (directory, content) = mapped_file(200_000);
        std::fs::OpenOptions::new()
            .write(true)
            .open(directory.path().join("image"))
            .unwrap()
            .set_len(0)
            .unwrap();
        assert!(!content.is_unchanged());
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let blocks =
            BlockBatch { content: &content, first: 1, block_size: 512, bytes: 0..5_120, count: 10 };
        driver.send_blocks(socket, client.local_addr().unwrap(), None, &blocks, 2).unwrap();
        turn_until(&mut driver, |c| {
            matches!(c, UdpCompletion::Sent { token: 2, result: Err(UdpSendError::ContentGone) })
        });
    });
}

#[test]
fn a_bell_wakes_a_sleeping_driver_again_and_again() {
    over_both(|datapath| {
        let (mut driver, _, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let (letters, mailbox) = CoreMailbox::new().unwrap();
        driver.listen_to(&mailbox);
        for n in 0..3 {
            let letters = letters.clone();
            let sender = std::thread::spawn(move || letters.send(n));
            turn_until(&mut driver, |c| matches!(c, UdpCompletion::Woken));
            sender.join().unwrap();
            assert_eq!(mailbox.take(), Some(n));
        }
    });
}

#[test]
fn a_removed_socket_frees_its_port_and_its_place() {
    over_both(|datapath| {
        let (mut driver, socket, bound) = driver_on_loopback(datapath, "127.0.0.1:0");
        driver.run_turn(TurnWait::No, |_| {}).unwrap();
        driver.remove(socket);
        driver.run_turn(TurnWait::No, |_| {}).unwrap();
        let fd =
            net::open_udp_socket(&SocketBinding { address: bound, interface: None, shared: false })
                .expect("the port is free");
        assert_eq!(driver.add(fd, bound.ip(), true), socket);
        driver.run_turn(TurnWait::No, |_| {}).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"again", bound).unwrap();
        turn_until(
            &mut driver,
            |c| matches!(c, UdpCompletion::Datagram(datagram) if datagram.bytes == b"again"),
        );
    });
}

#[test]
fn what_was_queued_leaves_before_the_end_and_the_end_waits_for_nobody() {
    over_both(|datapath| {
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let (_, mailbox) = CoreMailbox::<()>::new().unwrap();
        driver.listen_to(&mailbox);
        driver.run_turn(TurnWait::No, |_| {}).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        driver
            .send(socket, DatagramTarget::Ip(client.local_addr().unwrap()), None, b"last", 1)
            .unwrap();
        let started = Instant::now();
        drop(driver);
        assert!(started.elapsed() < Duration::from_millis(200), "nothing had to be given up");
        assert_eq!(client.recv(&mut [0; 10]).unwrap(), 4);
    });
}

#[test]
fn more_datagrams_than_buffers_lose_nothing() {
    over_both(|datapath| {
        for buffers in [16, RECEIVE_BUFFERS] {
            let fd = net::open_udp_socket(&SocketBinding {
                address: "127.0.0.1:0".parse().unwrap(),
                interface: None,
                shared: false,
            });
            let fd = fd.unwrap();
            let bound = net::read_local_address(&fd).unwrap();
            let mut driver = UdpDriver::with_buffers(datapath, buffers).unwrap();
            driver.add(fd, bound.ip(), true);
            driver.run_turn(TurnWait::No, |_| {}).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            let count = 2 * usize::from(buffers) + 10;
            for _ in 0..count {
                client.send_to(b"x", bound).unwrap();
            }
            let mut seen = 0;
            turn_until(&mut driver, |completion| {
                seen += usize::from(matches!(completion, UdpCompletion::Datagram(_)));
                seen == count
            });
        }
    });
}

#[test]
fn more_sends_than_slots_all_leave_and_a_full_driver_never_sleeps_on_them() {
    over_both(|datapath| {
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = net::open_udp_socket(&SocketBinding {
            address: "127.0.0.1:0".parse().unwrap(),
            interface: None,
            shared: false,
        });
        let client = UdpSocket::from(client.unwrap());
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to = DatagramTarget::Ip(client.local_addr().unwrap());
        for _ in 0..2 {
            while driver.has_room() {
                driver.send(socket, to, None, b"x", 1).unwrap();
            }
            assert_eq!(driver.send(socket, to, None, b"x", 1), Err(SendQueueFull));
            let mut left = 0;
            while left < SEND_SLOTS {
                let started = Instant::now();
                let count = |c: UdpCompletion<'_>| {
                    left += usize::from(matches!(c, UdpCompletion::Sent { .. }))
                };
                driver.run_turn(TurnWait::AtMost(Duration::from_secs(60)), count).unwrap();
                assert!(started.elapsed() < Duration::from_secs(5), "slept over free slots");
            }
            assert_eq!(driver.in_flight(), 0);
        }
        for _ in 0..2 * SEND_SLOTS {
            assert_eq!(client.recv(&mut [0; 10]).unwrap(), 1);
        }
    });
}

#[test]
fn a_datagram_that_is_refused_is_told_and_holds_up_no_other() {
    over_both(|datapath| {
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = DatagramTarget::Ip(client.local_addr().unwrap());
        let nowhere =
            Some(DatagramSource { address: "203.0.113.1".parse().unwrap(), interface: 0 });
        for (from, token) in [(None, 1), (nowhere, 2), (nowhere, 3), (None, 4)] {
            driver.send(socket, to, from, b"x", token).unwrap();
        }
        let mut ends = Vec::new();
        turn_until(&mut driver, |completion| {
            let UdpCompletion::Sent { token, result } = completion else { return false };
            ends.push((token, result.is_ok()));
            ends.len() == 4
        });
        ends.sort_unstable();
        assert_eq!(ends, [(1, true), (2, false), (3, false), (4, true)]);
    });
}

#[test]
fn a_segmented_send_that_fits_no_datagram_says_that_segments_do_not_work() {
    over_both(|datapath| {
        let (_directory, content) = mapped_file(200_000);
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Two blocks of more than one datagram's length together: EMSGSIZE.
        let blocks = BlockBatch {
            content: &content,
            first: 1,
            block_size: 60_000,
            bytes: 0..120_000,
            count: 2,
        };
        driver.send_blocks(socket, client.local_addr().unwrap(), None, &blocks, 5).unwrap();
        turn_until(&mut driver, |c| {
            matches!(c, UdpCompletion::Sent { token: 5, result: Err(UdpSendError::NoSegments) })
        });
    });
}

#[test]
fn a_datagram_longer_than_its_place_says_so() {
    over_both(|datapath| {
        let (mut driver, _, bound) = driver_on_loopback(datapath, "127.0.0.1:0");
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[7; 9000], bound).unwrap();
        turn_until(&mut driver, |completion| {
            let UdpCompletion::Datagram(datagram) = completion else { return false };
            assert!(datagram.truncated && datagram.bytes.len() >= 2048);
            true
        });
    });
}

/// In a network namespace of this thread's own, with 10.99.0.1/24 on a link on which nobody
/// answers.
fn with_a_mute_link(test: impl Fn(Datapath) + Send + 'static) {
    let elsewhere = std::thread::spawn(move || {
        // SAFETY: unshare takes no pointer, and concerns this thread alone, which ends here.
        let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(answer, 0, "a network namespace needs root: {}", io::Error::last_os_error());
        for line in [
            "link set lo up",
            "link add mute0 type veth peer name mute1",
            "addr add 10.99.0.1/24 dev mute0",
            "link set mute0 up",
            "link set mute1 up",
        ] {
            let status = std::process::Command::new("ip").args(line.split(' ')).status();
            assert!(status.unwrap().success(), "{line}");
        }
        over_both(test);
    });
    elsewhere.join().unwrap();
}

/// A socket on that link, with a send buffer of a few datagrams.
fn narrow_socket() -> OwnedFd {
    let socket = UdpSocket::bind("10.99.0.1:0").unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(8 * 1024).unwrap();
    socket.into()
}

#[test]
fn a_blocked_socket_holds_up_no_other_and_tells_when_it_has_room() {
    with_a_mute_link(|datapath| {
        let (mut driver, healthy, bound) = driver_on_loopback(datapath, "127.0.0.1:0");
        let mute: Vec<SocketId> =
            (0..3).map(|_| driver.add(narrow_socket(), bound.ip(), false)).collect();
        // The kernel keeps only so much for one neighbour.
        let nobody = |socket: &SocketId| {
            DatagramTarget::Ip(SocketAddr::from(([10, 99, 0, 2 + socket.0 as u8], 68)))
        };
        let mut lost = 0;
        let until = Instant::now() + Duration::from_secs(1);
        while !mute.iter().all(|socket| driver.is_blocked(*socket)) {
            assert!(Instant::now() < until, "a buffer that is never full");
            for socket in &mute {
                // The first takes more than one socket may park.
                for _ in 0..80 {
                    let _ = driver.send(*socket, nobody(socket), None, &[0; 1000], 1);
                }
            }
            driver
                .run_turn(TurnWait::No, |c| {
                    lost += usize::from(matches!(c, UdpCompletion::Sent { result: Err(_), .. }))
                })
                .unwrap();
        }
        assert_eq!(driver.send(mute[0], nobody(&mute[0]), None, b"more", 1), Err(SendQueueFull));
        assert_eq!(driver.in_flight(), 0, "none holds a slot");
        assert!(lost > 0, "what finds no place is told");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to = DatagramTarget::Ip(client.local_addr().unwrap());
        for _ in 0..SEND_SLOTS {
            driver.send(healthy, to, None, b"x", 2).unwrap();
        }
        let mut sent = 0;
        let started = Instant::now();
        while sent < SEND_SLOTS {
            assert!(started.elapsed() < Duration::from_secs(1), "{sent} have left");
            let count = |c: UdpCompletion<'_>| {
                sent += usize::from(matches!(c, UdpCompletion::Sent { token: 2, result: Ok(()) }))
            };
            driver.run_turn(TurnWait::AtMost(Duration::from_millis(10)), count).unwrap();
        }
        // The kernel gives up on the neighbour after three seconds, and lets the datagrams go.
        let mut room = Vec::new();
        let until = Instant::now() + Duration::from_secs(20);
        while room.is_empty() {
            assert!(Instant::now() < until, "no word of room");
            driver
                .run_turn(TurnWait::AtMost(Duration::from_millis(100)), |completion| {
                    if let UdpCompletion::Room(socket) = completion {
                        room.push(socket);
                    }
                })
                .unwrap();
        }
        assert!(mute.contains(&room[0]) && !room.contains(&healthy));
        // With sends parked, and with the kernel waiting to tell of room.
        driver.remove(mute[1]);
        driver.run_turn(TurnWait::No, |_| {}).unwrap();
    });
}

#[test]
fn what_was_queued_on_a_removed_socket_never_leaves_by_a_strangers() {
    over_both(|datapath| {
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        driver.run_turn(TurnWait::No, |_| {}).unwrap();
        driver
            .send(
                socket,
                DatagramTarget::Ip(client.local_addr().unwrap()),
                None,
                b"for the client",
                7,
            )
            .unwrap();
        driver.remove(socket);
        // Connections that come now, as those of an HTTP core: one of them gets the number of the
        // descriptor that was closed.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pairs: Vec<_> = (0..8)
            .map(|_| {
                let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                (near, listener.accept().unwrap().0)
            })
            .collect();
        driver.run_turn(TurnWait::AtMost(Duration::from_millis(50)), |_| {}).unwrap();
        for end in pairs.iter().flat_map(|(near, far)| [near, far]) {
            end.set_nonblocking(true).unwrap();
            let heard = (&mut &*end).read(&mut [0; 64]);
            assert_eq!(heard.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        }
    });
}

#[test]
fn a_panic_in_the_middle_of_a_turn_leaves_nothing_to_wait_for() {
    over_both(|datapath| {
        let (mut driver, socket, _) = driver_on_loopback(datapath, "127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = DatagramTarget::Ip(client.local_addr().unwrap());
        for token in 0..10 {
            driver.send(socket, to, None, b"x", token).unwrap();
        }
        let turn = std::panic::AssertUnwindSafe(|| {
            driver.run_turn(TurnWait::No, |_| panic!("the handler's own"))
        });
        assert!(std::panic::catch_unwind(turn).is_err());
        let started = Instant::now();
        drop(driver);
        assert!(
            started.elapsed() < Duration::from_millis(500),
            "the end waited {:?}",
            started.elapsed()
        );
    });
}
