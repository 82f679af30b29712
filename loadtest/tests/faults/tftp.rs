//! A TFTP server with one fault, and what the fleet says of each.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;
use std::time::Duration;

use ringboot_fleet::ClientOddity;
use ringboot_observe::events::MachineStage;

use super::{
    FILE, MACHINES, OCTETS, Server, assert_failed, assert_put_up_with, file, run, with_wrong_octet,
};

const BLOCK: usize = 1428;
const WINDOW: usize = 8;
/// A client of the RFCs.
const WINDOWS: &str = r#"{ tftp = "vmlinuz", blksize = 1428, windowsize = 8 }"#;
/// Firmware, with a timer of 5 s: a busy machine is no lost packet.
const FIRMWARE: &str = r#"{ tftp = "vmlinuz", as = "u-boot" }"#;
/// Firmware with a timer of 250 ms.
const HASTY: &str = r#"{ tftp = "vmlinuz", as = "ipxe" }"#;
/// A client that asks for no options.
const PLAIN: &str = r#"{ tftp = "vmlinuz" }"#;
/// The octet from which on a server that does so is silent: where a window ends.
const MIDDLE: usize = 3 * WINDOW * BLOCK;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    /// In the file as it is sent.
    WrongOctet(usize),
    /// The file ends before this octet.
    CutShort(usize),
    /// The file is followed by this many octets.
    GoesOn(usize),
    /// The answer to each client's first request is lost.
    LostOack,
    /// The second and third block of the first window change places, once for each client.
    OutOfOrder,
    /// The first block is sent twice, and every ACK is answered: the sorcerer's apprentice doubles
    /// all that follow (RFC 1123 section 4.2.3.1).
    Twice,
    /// Before the first block: DATA of somebody else's transfer, from its port.
    ForeignData,
    /// Before the first block: an ACK of another client.
    ForeignAck,
    OptionNotAsked,
    /// The first block is longer than agreed by this.
    LongBlock(usize),
    /// `tsize` is off by this.
    Tsize(usize),
    /// ERROR 3 in the middle.
    Error,
    Silent,
    /// After the OACK.
    SilentAtData,
    SilentMidway,
}

/// Serves the one file for as long as the test runs.
pub(crate) fn serve(fault: Fault) -> SocketAddrV4 {
    serve_and_hear(fault).0
}

/// The same; also gives what comes to the foreign port.
fn serve_and_hear(fault: Fault) -> (SocketAddrV4, Receiver<Vec<u8>>) {
    let [socket, foreign] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let (sender, heard) = channel();
    let listener = foreign.try_clone().unwrap();
    spawn(move || hear(&listener, &sender));
    let port = socket.local_addr().unwrap().port();
    let file = match fault {
        Fault::WrongOctet(at) => with_wrong_octet(at),
        Fault::CutShort(octets) => file()[..octets].to_vec(),
        Fault::GoesOn(octets) => [file(), vec![0; octets]].concat(),
        _ => file(),
    };
    let mut server = Broken {
        fault,
        socket,
        foreign,
        file,
        block: BLOCK,
        window: WINDOW,
        known: HashSet::new(),
        answered: HashSet::new(),
    };
    spawn(move || server.serve());
    (SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), heard)
}

fn hear(socket: &UdpSocket, sender: &Sender<Vec<u8>>) {
    let mut packet = [0; 2048];
    while let Ok((octets, _)) = socket.recv_from(&mut packet) {
        if sender.send(packet[..octets].to_vec()).is_err() {
            return;
        }
    }
}

/// All clients ask with the same options.
struct Broken {
    fault: Fault,
    socket: UdpSocket,
    /// Not the port of any transfer.
    foreign: UdpSocket,
    file: Vec<u8>,
    block: usize,
    window: usize,
    /// Clients that have met a fault which comes once for each.
    known: HashSet<SocketAddr>,
    /// ACKs that were answered: not twice.
    answered: HashSet<(SocketAddr, usize)>,
}

impl Broken {
    fn serve(&mut self) {
        let mut packet = [0; 2048];
        while let Ok((octets, from)) = self.socket.recv_from(&mut packet) {
            match packet[..octets] {
                [0, 1, ref request @ ..] => self.answer(request, from),
                [0, 4, high, low] => {
                    let block = usize::from(u16::from_be_bytes([high, low]));
                    if self.answered.insert((from, block)) || self.fault == Fault::Twice {
                        self.send_window(block, from);
                    }
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, request: &[u8], from: SocketAddr) {
        let is_lost = self.fault == Fault::LostOack && self.known.insert(from);
        if is_lost || self.fault == Fault::Silent {
            return;
        }
        let text = String::from_utf8_lossy(request).into_owned();
        let fields: Vec<&str> = text.split('\0').collect();
        let asked =
            |name: &str| fields.iter().position(|field| *field == name).map(|at| fields[at + 1]);
        self.block = asked("blksize").map_or(512, |size| size.parse().unwrap());
        self.window = asked("windowsize").map_or(1, |blocks| blocks.parse().unwrap());
        let mut oack = b"\0\x06".to_vec();
        let mut grant =
            |name: &str, value: usize| oack.extend(format!("{name}\0{value}\0").bytes());
        ["blksize", "windowsize"]
            .into_iter()
            .filter_map(|name| Some((name, asked(name)?)))
            .for_each(|(name, value)| {
                grant(name, value.parse().unwrap());
            });
        if asked("tsize").is_some() {
            grant("tsize", OCTETS + if let Fault::Tsize(off) = self.fault { off } else { 0 });
        }
        if self.fault == Fault::OptionNotAsked {
            grant("multicast", 1);
        }
        if oack.len() > 2 { self.send(&oack, from) } else { self.send_window(0, from) }
    }

    /// What follows this block.
    fn send_window(&mut self, acked: usize, to: SocketAddr) {
        let is_silent = match self.fault {
            Fault::SilentAtData => true,
            Fault::SilentMidway => acked * self.block >= MIDDLE,
            _ => false,
        };
        if is_silent {
            return;
        }
        if self.fault == Fault::Error && acked * self.block >= MIDDLE {
            return self.send(b"\0\x05\0\x03disk full\0", to);
        }
        if acked == 0 && self.known.insert(to) {
            match self.fault {
                Fault::ForeignData => {
                    drop(self.foreign.send_to(b"\0\x03\0\x01somebody else's", to))
                }
                Fault::ForeignAck => self.send(b"\0\x04\0\x07", to),
                Fault::Twice => self.send_block(1, to),
                Fault::OutOfOrder => {
                    return [1, 3, 2, 4].into_iter().for_each(|number| self.send_block(number, to));
                }
                _ => {}
            }
        }
        for number in acked + 1..=acked + self.window {
            self.send_block(number, to);
        }
    }

    fn send_block(&self, number: usize, to: SocketAddr) {
        let start = (number - 1) * self.block;
        if start > self.file.len() {
            return;
        }
        let mut end = (start + self.block).min(self.file.len());
        if let (Fault::LongBlock(octets), 1) = (self.fault, number) {
            end += octets;
        }
        let header = [0, 3, (number >> 8) as u8, (number & 0xff) as u8];
        self.send(&[&header, &self.file[start..end]].concat(), to);
    }

    fn send(&self, packet: &[u8], to: SocketAddr) {
        self.socket.send_to(packet, to).unwrap();
    }
}

/// Every machine fails in its one step; `said` is what the report says of all of them and of the
/// first.
#[track_caller]
fn assert_fault(fault: Fault, step: &str, said: [&str; 2]) {
    assert_failed(&run(Server::Tftp(serve(fault)), step), MachineStage::Loader, said[0], said[1]);
}

#[track_caller]
fn assert_recovers(
    fault: Fault,
    step: &str,
    retries_each: u64,
    oddities_each: &[(ClientOddity, u64)],
) {
    assert_put_up_with(&run(Server::Tftp(serve(fault)), step), retries_each, oddities_each);
}

#[test]
fn a_sound_server_has_no_faults() {
    for step in [WINDOWS, FIRMWARE, PLAIN] {
        assert_recovers(Fault::None, step, 0, &[]);
    }
}

#[test]
fn a_wrong_octet_is_named_with_its_place() {
    for at in [0, 4711, BLOCK - 1, BLOCK, OCTETS - 1] {
        let example = format!("wrong contents of {FILE} at byte {at}");
        assert_fault(Fault::WrongOctet(at), WINDOWS, ["wrong contents of vmlinuz", &example]);
    }
}

#[test]
fn a_file_that_ends_too_early_or_goes_on_has_a_wrong_length() {
    let cause = "wrong length of vmlinuz";
    assert_fault(Fault::CutShort(5000), WINDOWS, [cause, "vmlinuz is 5000 bytes long, not 100000"]);
    // At a block's end the transfer goes on with an empty block.
    assert_fault(
        Fault::CutShort(3 * BLOCK),
        WINDOWS,
        [cause, "vmlinuz is 4284 bytes long, not 100000"],
    );
    assert_fault(Fault::GoesOn(7), WINDOWS, [cause, "vmlinuz is 100007 bytes long, not 100000"]);
}

#[test]
fn a_lost_oack_is_asked_for_again() {
    let report = run(Server::Tftp(serve(Fault::LostOack)), HASTY);
    assert_eq!((report.booted, report.failures.len()), (MACHINES, 0), "{report}");
    assert!(
        report.retries >= MACHINES.into()
            && report.stages[&MachineStage::Loader].retries == report.retries,
        "{report}"
    );
}

#[test]
fn blocks_out_of_order_are_sent_again_and_counted() {
    // 1, 3, 2, 4: both 3 and 4 are beyond a gap, and their ACKs make the server send again.
    let server = Server::Tftp(serve(Fault::OutOfOrder));
    let report = run(server, WINDOWS);
    assert_eq!((report.booted, report.retries), (MACHINES, 0), "{report}");
    assert!(
        report.oddities[&ClientOddity::BlockOutOfOrder] >= 2 * u64::from(MACHINES),
        "{:?}",
        report.oddities
    );
    assert!(
        report.checked && report.oddities.contains_key(&ClientOddity::BlockAgain),
        "{:?}",
        report.oddities
    );
}

#[test]
fn blocks_that_come_twice_are_counted() {
    // The last one that is whole ends the transfer before its double comes.
    let doubles = OCTETS.div_ceil(512) as u64 - 1;
    assert_recovers(Fault::Twice, PLAIN, 0, &[(ClientOddity::BlockAgain, doubles)]);
}

#[test]
fn data_from_a_foreign_port_is_answered_with_error_5_and_disturbs_nobody() {
    let (server, heard) = serve_and_hear(Fault::ForeignData);
    assert_put_up_with(&run(Server::Tftp(server), WINDOWS), 0, &[(ClientOddity::Stray, 1)]);
    for _ in 0..MACHINES {
        let answer = heard.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(answer.starts_with(&[0, 5, 0, 5]), "{answer:?}");
    }
    // Firmware says nothing.
    let (server, heard) = serve_and_hear(Fault::ForeignData);
    assert_put_up_with(&run(Server::Tftp(server), FIRMWARE), 0, &[(ClientOddity::Stray, 1)]);
    assert!(heard.try_recv().is_err());
}

#[test]
fn an_ack_of_another_client_disturbs_nobody() {
    assert_recovers(Fault::ForeignAck, WINDOWS, 0, &[(ClientOddity::Stray, 1)]);
}

#[test]
fn an_answer_that_breaks_what_was_agreed_ends_the_boot() {
    for (fault, words) in [
        (Fault::OptionNotAsked, "it answered an option that was not requested"),
        (Fault::LongBlock(1), "a block is longer than was agreed"),
        (Fault::Tsize(1), "the file has more or fewer bytes than tsize said"),
    ] {
        let said = format!("TFTP: the server broke a rule with vmlinuz: {words}");
        assert_fault(fault, FIRMWARE, [&said, &said]);
    }
}

#[test]
fn an_error_in_the_middle_is_a_refusal() {
    let said = "TFTP: refused vmlinuz with error 3";
    assert_fault(Fault::Error, WINDOWS, [said, said]);
}

#[test]
fn silence_is_told_with_its_place() {
    let said = "TFTP: no answer for vmlinuz";
    assert_fault(Fault::Silent, WINDOWS, [said, said]);
    let cause = "TFTP: the server fell silent in the middle of vmlinuz";
    assert_fault(
        Fault::SilentAtData,
        WINDOWS,
        [cause, "TFTP: the server fell silent after 0 bytes of vmlinuz"],
    );
    let example = format!("TFTP: the server fell silent after {MIDDLE} bytes of vmlinuz");
    assert_fault(Fault::SilentMidway, WINDOWS, [cause, &example]);
}
