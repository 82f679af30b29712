//! Every promise of the driver, over both datapaths, with real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{Domain, Type};

use super::*;
use crate::engine::net;
use crate::images::{
    CatalogAnswer, DiskWorkers, ImageCatalog, ImageStore, JobAsker, ServedContent, clean_path_name,
};

/// An event with bytes of its own.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Accepted(ConnectionId, SocketAddr),
    Received(ConnectionId, Vec<u8>),
    Ended(ConnectionId),
    Reset(ConnectionId),
    Sent(ConnectionId, u64, u64),
    Failed(ConnectionId, TcpSendError),
    AcceptFailed(i32),
    Woken,
}

impl From<TcpEvent<'_>> for Told {
    fn from(event: TcpEvent<'_>) -> Self {
        match event {
            TcpEvent::Accepted { id, peer } => Self::Accepted(id, peer),
            TcpEvent::Received { id, bytes } => Self::Received(id, bytes.to_vec()),
            TcpEvent::Ended { id, is_reset: false } => Self::Ended(id),
            TcpEvent::Ended { id, is_reset: true } => Self::Reset(id),
            TcpEvent::Sent { id, bytes, left } => Self::Sent(id, bytes, left),
            TcpEvent::SendFailed { id, why } => Self::Failed(id, why),
            TcpEvent::AcceptFailed(number) => Self::AcceptFailed(number),
            TcpEvent::Woken => Self::Woken,
        }
    }
}

/// A driver with one listener.
struct Rig {
    driver: TcpDriver,
    address: SocketAddr,
}

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;
/// What a client's socket takes in while nobody reads; a sender's grows to 4 MiB
/// (net.ipv4.tcp_wmem).
const CLIENT_BYTES: usize = 64 * 1024;
/// More than both sockets hold.
const LARGE: usize = 8 * MIB;

fn on_both(test: impl Fn(Rig)) {
    for datapath in [Datapath::IoUring, Datapath::Epoll] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = net::open_tcp_listener(address.parse().unwrap(), false).unwrap();
            let address = listener.local_addr().unwrap();
            let mut driver = TcpDriver::new(datapath).unwrap();
            driver.listen(listener).unwrap();
            test(Rig { driver, address });
        }
    }
}

impl Rig {
    fn turn(&mut self, wait: Duration) -> Vec<Told> {
        let mut told = Vec::new();
        self.driver.run_turn(TurnWait::AtMost(wait), |event| told.push(event.into())).unwrap();
        told
    }

    /// Turns until this says that it has seen enough; everything that was told.
    fn until(&mut self, mut enough: impl FnMut(&Told) -> bool) -> Vec<Told> {
        let started = Instant::now();
        let mut all = Vec::new();
        loop {
            let told = self.turn(Duration::from_millis(100));
            let done = told.iter().any(&mut enough);
            all.extend(told);
            if done {
                return all;
            }
            assert!(started.elapsed() < PATIENCE, "nothing more came after {all:?}");
        }
    }

    fn connect(&mut self) -> (TcpStream, ConnectionId) {
        let client =
            socket2::Socket::new(Domain::for_address(self.address), Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(CLIENT_BYTES).unwrap();
        client.connect(&self.address.into()).unwrap();
        let client = TcpStream::from(client);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let ours = client.local_addr().unwrap();
        let mut found = None;
        self.until(|told| match told {
            Told::Accepted(id, peer) if *peer == ours => found.replace(*id).is_none(),
            _ => false,
        });
        (client, found.unwrap())
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let told = self.turn(Duration::from_millis(30));
            if told.is_empty() {
                return all;
            }
            all.extend(told);
        }
    }

    /// Turns until this send has ended, and adds up what was told of it.
    fn until_sent(&mut self, id: ConnectionId) -> u64 {
        let told = self.until(|told| {
            matches!(told, Told::Sent(at, _, 0) if *at == id) || matches!(told, Told::Failed(..))
        });
        told.iter().map(|told| if let Told::Sent(_, bytes, _) = told { *bytes } else { 0 }).sum()
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8 ^ (n / 65_536) as u8).collect()
}

/// A file of a tree, mapped as the server maps it.
fn mapped(len: usize) -> (tempfile::TempDir, File, ServedContent) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    std::fs::write(&path, pattern(len)).unwrap();
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
    let content = receiver.recv().unwrap().unwrap();
    assert!(content.file().is_some());
    (directory, OpenOptions::new().write(true).open(path).unwrap(), content)
}

fn file(content: &ServedContent) -> SendBody {
    SendBody::File { content: content.clone(), range: 0..content.len() }
}

/// Reads so many bytes with small reads, on a thread of its own.
fn read_slowly(mut client: TcpStream, len: usize) -> std::thread::JoinHandle<(TcpStream, Vec<u8>)> {
    std::thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), [0; 8000]);
        while all.len() < len {
            let got = client.read(&mut piece).unwrap();
            assert!(got > 0, "the end came after {} of {len} bytes", all.len());
            all.extend_from_slice(&piece[..got]);
        }
        (client, all)
    })
}

#[test]
fn bytes_come_in_and_answers_go_out() {
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        assert_eq!((rig.driver.connections(), rig.driver.local(id)), (1, Some(rig.address)));
        for question in [&b"one"[..], b"two", b"three"] {
            client.write_all(question).unwrap();
            let told = rig.until(|told| matches!(told, Told::Received(..)));
            assert_eq!(told, [Told::Received(id, question.to_vec())]);
            rig.driver.send(id, b"head ", SendBody::Bytes(Bytes::copy_from_slice(question)), false);
            assert!(rig.driver.is_sending(id));
            assert_eq!(rig.until_sent(id), 5 + question.len() as u64);
            assert!(!rig.driver.is_sending(id));
            let mut answer = vec![0; 5 + question.len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [b"head ", question].concat());
        }
        drop(client);
        rig.until(|told| *told == Told::Ended(id));
        rig.driver.close(id);
        assert_eq!((rig.driver.connections(), rig.driver.local(id)), (0, None));
    });
}

#[test]
fn what_is_kept_back_for_more_to_come_is_sent_with_it() {
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        rig.driver.send(id, b"first,", SendBody::Nothing, true);
        rig.until_sent(id);
        rig.driver.send(id, b"", SendBody::Bytes(Bytes::from_static(b"last")), false);
        rig.until_sent(id);
        let mut answer = [0; 10];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"first,last");
    });
}

#[test]
fn a_large_file_reaches_a_slow_reader_byte_for_byte() {
    let (_directory, _, content) = mapped(LARGE + 77);
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        rig.driver.send(id, b"head", file(&content), false);
        let before: u64 = rig
            .settle()
            .iter()
            .map(|told| if let Told::Sent(_, n, _) = told { *n } else { 0 })
            .sum();
        assert!(
            rig.driver.is_sending(id) && before < content.len(),
            "the socket is full, and nobody reads"
        );
        assert!(rig.driver.unacknowledged(id) > Some(0));
        let reader = read_slowly(client, 4 + content.len() as usize);
        assert_eq!(before + rig.until_sent(id), 4 + content.len());
        let (_, all) = reader.join().unwrap();
        assert!(all[..4] == *b"head" && all[4..] == pattern(LARGE + 77));
    });
}

#[test]
fn a_range_of_a_file_and_a_content_in_memory_are_sent_as_asked() {
    let (_directory, _, content) = mapped(MIB);
    let text =
        ServedContent::rendered("0123456789".into(), std::time::SystemTime::UNIX_EPOCH, None);
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        for (content, expected) in [(&content, &pattern(MIB)[3..9]), (&text, b"345678")] {
            rig.driver.send(
                id,
                b"",
                SendBody::File { content: content.clone(), range: 3..9 },
                false,
            );
            assert_eq!(rig.until_sent(id), 6);
            let mut got = [0; 6];
            client.read_exact(&mut got).unwrap();
            assert_eq!(got, expected);
        }
        rig.driver.send(id, b"", SendBody::File { content: text.clone(), range: 3..30 }, false);
        rig.until(|told| *told == Told::Failed(id, TcpSendError::ContentGone));
    });
}

#[test]
fn many_bytes_are_sent_to_the_last() {
    let bytes = Bytes::from(pattern(LARGE));
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        let head = vec![b'h'; MIB];
        rig.driver.send(id, &head, SendBody::Bytes(bytes.clone()), false);
        let told: u64 = rig
            .settle()
            .iter()
            .map(|told| if let Told::Sent(_, n, _) = told { *n } else { 0 })
            .sum();
        assert!(told < (head.len() + bytes.len()) as u64, "the socket is full, and nobody reads");
        let reader = read_slowly(client, head.len() + bytes.len());
        assert_eq!(told + rig.until_sent(id), (head.len() + bytes.len()) as u64);
        let (_, all) = reader.join().unwrap();
        assert!(all[..head.len()] == head && all[head.len()..] == bytes);
    });
}

#[test]
fn a_file_cut_short_fails_its_send() {
    on_both(|mut rig| {
        let (_directory, handle, content) = mapped(LARGE);
        let (client, id) = rig.connect();
        rig.driver.send(id, b"head", file(&content), false);
        rig.settle();
        handle.set_len(LARGE as u64 / 2).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = (&client).read_to_end(&mut all);
            all.len()
        });
        rig.until(|told| *told == Told::Failed(id, TcpSendError::ContentGone));
        assert!(!rig.driver.is_sending(id));
        rig.driver.close(id);
        rig.settle();
        assert!(reader.join().unwrap() <= 4 + LARGE / 2);
    });
}

#[test]
fn a_reset_ends_the_send_and_its_place_is_used_again_under_another_number() {
    let (_directory, _, content) = mapped(LARGE);
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        rig.driver.send(id, b"", file(&content), false);
        rig.settle();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let told = rig.until(|told| *told == Told::Failed(id, TcpSendError::Gone));
        rig.driver.close(id);
        let (mut client, next) = rig.connect();
        assert!(next != id && next.index() == id.index());
        client.write_all(b"x").unwrap();
        let later = rig.until(|told| matches!(told, Told::Received(at, _) if *at == next));
        let of_the_old = |told: &&Told| matches!(told, Told::Reset(at) if *at == id);
        assert_eq!(
            told.iter().chain(&later).filter(of_the_old).count(),
            told.iter().filter(of_the_old).count()
        );
        rig.driver.send(id, b"nobody", SendBody::Nothing, false);
        assert_eq!(rig.settle(), []);
    });
}

#[test]
fn a_connection_that_is_reset_is_told_apart_from_one_that_has_ended() {
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        rig.driver.send(id, b"", SendBody::Bytes(Bytes::from(vec![0; LARGE])), false);
        rig.settle();
        assert!(rig.driver.unacknowledged(id) > Some(0));
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        rig.until(|told| *told == Told::Reset(id));
        assert_eq!(rig.driver.unacknowledged(id), None, "nobody will ever have it");
    });
}

#[test]
fn a_connection_that_is_given_up_leaves_nothing_in_the_kernel() {
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        rig.driver.send(id, b"", SendBody::Bytes(Bytes::from(vec![0; LARGE])), false);
        rig.settle();
        rig.driver.reset(id);
        rig.settle();
        let ended = std::iter::repeat_with(|| client.read(&mut vec![0; MIB]))
            .find(|read| !matches!(read, Ok(1..)));
        assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn each_side_may_end_before_the_other() {
    let (_directory, _, content) = mapped(LARGE);
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        client.write_all(b"last words").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let told = rig.until(|told| *told == Told::Ended(id));
        assert_eq!(told, [Told::Received(id, b"last words".to_vec()), Told::Ended(id)]);
        rig.driver.send(id, b"", file(&content), false);
        rig.driver.shutdown_write(id);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(rig.until_sent(id), content.len());
        assert_eq!(reader.join().unwrap().len(), LARGE, "the end follows the last byte");
    });
}

#[test]
fn a_flood_waits_in_the_client_while_reading_is_paused() {
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        client.write_all(b"begin").unwrap();
        rig.until(|told| matches!(told, Told::Received(..)));
        rig.driver.pause_reading(id);
        rig.settle();
        client.set_nonblocking(true).unwrap();
        let (piece, mut written, mut early) = (vec![7; 64 * 1024], 0, 0);
        loop {
            match client.write(&piece) {
                Ok(bytes) => written += bytes,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    if rig.settle().is_empty() {
                        break;
                    }
                    early += 1;
                }
            }
            assert!(written < 64 * MIB && early < 20, "nothing holds the client back");
        }
        rig.driver.resume_reading(id);
        let mut got = 0;
        rig.until(|told| {
            got += if let Told::Received(_, bytes) = told { bytes.len() } else { 0 };
            got == written
        });
    });
}

#[test]
fn a_pause_that_ends_at_once_loses_nothing() {
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        client.write_all(b"begin").unwrap();
        rig.until(|told| matches!(told, Told::Received(..)));
        for _ in 0..50 {
            rig.driver.pause_reading(id);
            rig.driver.resume_reading(id);
            client.write_all(b"x").unwrap();
            rig.until(|told| *told == Told::Received(id, b"x".to_vec()));
        }
    });
}

#[test]
fn more_input_than_receive_buffers_arrives_whole() {
    on_both(|mut rig| {
        let mut clients: Vec<_> = (0..100).map(|_| rig.connect()).collect();
        let input = pattern(48 * 1024);
        for (client, _) in &mut clients {
            client.set_nonblocking(true).unwrap();
        }
        let written: usize =
            clients.iter_mut().map(|(client, _)| client.write(&input).unwrap()).sum();
        let mut got = std::collections::HashMap::<ConnectionId, Vec<u8>>::new();
        let mut total = 0;
        rig.until(|told| {
            if let Told::Received(id, bytes) = told {
                got.entry(*id).or_default().extend_from_slice(bytes);
                total += bytes.len();
            }
            total == written
        });
        assert!(got.len() == 100 && got.values().all(|bytes| input.starts_with(bytes)));
        for (mut client, id) in clients {
            client.write_all(b"again").unwrap();
            rig.until(|told| *told == Told::Received(id, b"again".to_vec()));
        }
    });
}

#[test]
fn a_letter_wakes_the_driver() {
    on_both(|mut rig| {
        let (letters, mailbox) = CoreMailbox::new().unwrap();
        rig.driver.listen_to(&mailbox).unwrap();
        for letter in 0..3 {
            let letters = letters.clone();
            let sender = std::thread::spawn(move || letters.send(letter));
            assert_eq!(rig.until(|told| *told == Told::Woken), [Told::Woken]);
            assert_eq!(mailbox.take(), Some(letter));
            sender.join().unwrap();
        }
        assert_eq!(rig.settle(), []);
    });
}

#[test]
fn a_turn_does_not_sleep_while_something_is_to_be_told_or_done() {
    let (_directory, _, content) = mapped(3 * MIB);
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        let reader = read_slowly(client, 4 + 3 * MIB);
        let started = Instant::now();
        rig.driver.send(id, b"head", SendBody::Nothing, false);
        assert_eq!(rig.turn(PATIENCE), [Told::Sent(id, 4, 0)]);
        rig.driver.send(id, b"", file(&content), false);
        let mut left = u64::MAX;
        while left > 0 {
            for told in rig.turn(PATIENCE) {
                let Told::Sent(_, _, now) = told else { panic!("{told:?}") };
                left = now;
            }
        }
        assert!(started.elapsed() < PATIENCE / 2);
        reader.join().unwrap();
    });
}

#[test]
fn one_client_does_not_hold_the_core() {
    let (_directory, _, content) = mapped(LARGE);
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        rig.driver.send(id, b"", file(&content), false);
        let reader = read_slowly(client, LARGE);
        let steps = rig.until(|told| matches!(told, Told::Sent(_, _, 0)));
        let largest = steps
            .iter()
            .map(|told| if let Told::Sent(_, bytes, _) = told { *bytes } else { 0 })
            .max();
        assert!(largest <= Some(crate::engine::limits::STREAM_STEP_BYTES), "{steps:?}");
        reader.join().unwrap();
    });
}

#[test]
fn a_paced_connection_keeps_about_its_rate() {
    const RATE: u64 = 4 * MIB as u64;
    let (_directory, _, content) = mapped(3 * MIB);
    on_both(|mut rig| {
        let (client, id) = rig.connect();
        rig.driver.pace(id, NonZeroU64::new(RATE));
        let started = Instant::now();
        rig.driver.send(id, b"", file(&content), false);
        let reader = read_slowly(client, 3 * MIB);
        rig.until_sent(id);
        reader.join().unwrap();
        let paced = started.elapsed();
        assert!(
            (Duration::from_millis(500)..Duration::from_secs(3)).contains(&paced),
            "3 MiB took {paced:?}"
        );
    });
}

#[test]
fn nobody_is_accepted_after_the_listeners_are_closed() {
    on_both(|mut rig| {
        let (mut client, id) = rig.connect();
        rig.driver.stop_listening();
        assert!(TcpStream::connect(rig.address).is_err());
        client.write_all(b"still here").unwrap();
        rig.until(|told| *told == Told::Received(id, b"still here".to_vec()));
    });
}

#[test]
fn who_speaks_first_is_accepted_with_his_first_bytes_and_who_is_silent_later() {
    for datapath in [Datapath::IoUring, Datapath::Epoll] {
        let listener = net::open_tcp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        net::accept_with_first_bytes(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        let mut driver = TcpDriver::new(datapath).unwrap();
        driver.listen(listener).unwrap();
        let mut rig = Rig { driver, address };
        let mut client = TcpStream::connect(address).unwrap();
        assert_eq!(rig.settle(), [], "it has said nothing yet");
        client.write_all(b"request").unwrap();
        let told = rig.until(|told| matches!(told, Told::Received(..)));
        assert!(matches!(told[..], [Told::Accepted(..), Told::Received(..)]), "{told:?}");
        let _silent = TcpStream::connect(address).unwrap();
        rig.until(|told| matches!(told, Told::Accepted(..)));
    }
}

#[test]
fn the_end_of_a_driver_leaves_nothing_lent_and_closes_all() {
    let (_directory, _, content) = mapped(LARGE);
    on_both(|mut rig| {
        let (_, mailbox) = CoreMailbox::<()>::new().unwrap();
        rig.driver.listen_to(&mailbox).unwrap();
        let (mut sending, id) = rig.connect();
        let (mut receiving, other) = rig.connect();
        receiving.write_all(b"one request").unwrap();
        rig.until(|told| matches!(told, Told::Received(at, _) if *at == other));
        rig.driver.send(id, b"", file(&content), false);
        rig.settle();
        let started = Instant::now();
        if let TcpBackend::Ring(ring) = &mut rig.driver.kernel {
            assert!(ring.is_lent());
            ring.settle();
            assert!(!ring.is_lent());
        }
        drop(rig);
        assert!(started.elapsed() < Duration::from_millis(200), "nothing had to be given up");
        assert_eq!(receiving.read(&mut [0; 1]).unwrap(), 0);
        let mut rest = Vec::new();
        let _ = sending.read_to_end(&mut rest);
        assert!(rest.len() < LARGE);
    });
}
