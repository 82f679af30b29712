//! A TFTP client that fetches one file, with the manners of real firmware: for the simulated
//! machines and the tests.
//!
//! It checks what firmware checks and keeps no bytes: received data goes straight to the caller, in
//! order and once.

mod behaviour;

use std::collections::VecDeque;

pub use self::behaviour::{AskedOption, ClientBehaviour, ClientPatience, OutOfOrderPolicy};
use super::limits::{BLOCK_SIZE_DEFAULT, BLOCK_SIZE_MIN};
use super::options::parse_decimal;
use super::packet::{
    ErrorCode, Options, Packet, TftpRefusal, parse_tftp_packet, write_ack, write_error,
    write_option, write_read_request,
};
use super::{NEVER, Tick};
use crate::model::random::SeededRandom;

/// Datagrams that wait for the caller; it should take them after each call. One more is dropped,
/// like a full queue.
const DUE_MAX: usize = 64;

/// One fetch of one file.
#[derive(Debug)]
pub struct FetchClient {
    behaviour: ClientBehaviour,
    name: Box<[u8]>,
    phase: ClientPhase,
    /// The server's TID: the port its first answer came from.
    server: Option<u16>,
    /// Local sockets used up: each request has a port of its own.
    socket: u8,
    block_size: u16,
    window: u16,
    /// What the OACK said.
    tsize: Option<u64>,
    /// Next block; counts from 1 and never wraps.
    expected: u64,
    /// Blocks in order since the last ACK.
    unacked: u16,
    last_ack: u16,
    /// The gap at `expected` has been told to the server.
    gap_told: bool,
    received: u64,
    due: VecDeque<DuePacket>,
    tries: u16,
    deadline: Tick,
    random: SeededRandom,
    counters: ClientCounters,
    datagram: Vec<u8>,
}

/// A piece of the file, ready to be checked or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedPiece<'a> {
    /// Place in the file, bytes.
    pub offset: u64,
    pub bytes: &'a [u8],
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientDatagram<'a> {
    /// The server's port; None = its listening port.
    pub to: Option<u16>,
    /// Which of this client's sockets sends it: 0, or 1 after a size probe, which uses up the
    /// first.
    pub socket: u8,
    pub bytes: &'a [u8],
}

/// How the fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOutcome {
    /// All there: so many bytes.
    Complete { octets: u64 },
    /// The server sent an ERROR.
    Refused { code: u16 },
    /// The server fell silent for longer than this firmware waits.
    TimedOut,
    /// The server broke a rule; firmware ends the boot here.
    Disagreed(ServerViolation),
}

/// The rule that the server broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerViolation {
    /// An option that was not asked for, or spelt otherwise (T-11, T-12).
    OptionNotAsked,
    /// A value that the option does not allow (T-17, T-18, T-20).
    OptionValue,
    /// A block longer than agreed.
    BlockTooLong,
    /// The bytes received are not as many as `tsize` said (T-19).
    SizeDiffers,
}

/// What the fetch has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    pub requests_sent: u64,
    pub acks_sent: u64,
    /// Requests and ACKs sent again by the timer.
    pub retransmits: u64,
    /// DATA that came in order.
    pub blocks: u64,
    /// DATA that had come before.
    pub duplicates: u64,
    /// DATA beyond a gap.
    pub out_of_order: u64,
    /// Datagrams from a foreign port, or of a kind that only clients send.
    pub strays: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientPhase {
    Requesting { probe: bool },
    Receiving,
    Over(ClientOutcome),
}

#[derive(Clone, Copy, Debug)]
enum DuePacket {
    Request { probe: bool },
    Ack(u16),
    Error { refusal: TftpRefusal, to: u16, socket: u8 },
}

impl FetchClient {
    /// A client that asks for `name` at the first [`Self::poll_transmit`]. `seed` spreads its
    /// repeats a little.
    pub fn new(behaviour: ClientBehaviour, name: &[u8], seed: u64) -> Self {
        let probe = behaviour.probe.is_some();
        Self {
            behaviour,
            name: name.into(),
            phase: ClientPhase::Requesting { probe },
            server: None,
            socket: 0,
            block_size: BLOCK_SIZE_DEFAULT,
            window: 1,
            tsize: None,
            expected: 1,
            unacked: 0,
            last_ack: 0,
            gap_told: false,
            received: 0,
            due: VecDeque::from([DuePacket::Request { probe }]),
            tries: 0,
            deadline: NEVER,
            random: SeededRandom::new(seed),
            counters: ClientCounters::default(),
            datagram: Vec::with_capacity(512),
        }
    }

    /// A datagram from the server's port `from_port` at this client's current socket. Foreign ports
    /// do not disturb the transfer: all firmware ignores them, RFC 1350 section 4 wants an ERROR
    /// sent there.
    pub fn handle<'a>(
        &mut self,
        now: Tick,
        from_port: u16,
        bytes: &'a [u8],
    ) -> Option<ReceivedPiece<'a>> {
        if matches!(self.phase, ClientPhase::Over(_)) {
            return None;
        }
        let packet = parse_tftp_packet(bytes);
        if self.server.is_some_and(|port| port != from_port) {
            self.counters.strays += 1;
            // An ERROR is never answered: two such clients would go on for ever.
            if self.behaviour.refuses_strays && !matches!(packet, Some(Packet::Error { .. })) {
                let refusal =
                    TftpRefusal { code: ErrorCode::UnknownTid, text: "Unknown transfer ID" };
                self.send(DuePacket::Error { refusal, to: from_port, socket: self.socket });
            }
            return None;
        }
        match packet? {
            Packet::Data { block, payload } => self.handle_data(now, from_port, block, payload),
            Packet::OptionAck(options) => {
                self.handle_oack(now, from_port, options);
                None
            }
            Packet::Error { code, .. } => {
                self.finish(ClientOutcome::Refused { code });
                None
            }
            Packet::Read(_) | Packet::Write | Packet::Ack { .. } => {
                self.counters.strays += 1;
                None
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Tick) {
        if now < self.deadline {
            return;
        }
        self.tries += 1;
        if self.tries >= self.behaviour.patience.tries {
            return self.finish(ClientOutcome::TimedOut);
        }
        match self.phase {
            ClientPhase::Requesting { probe } => {
                self.counters.retransmits += 1;
                self.send(DuePacket::Request { probe });
            }
            ClientPhase::Receiving if self.behaviour.repeats_acks => {
                self.counters.retransmits += 1;
                // U-Boot acknowledges what it has, the others send their last packet again.
                let uboot = self.behaviour.unexpected == OutOfOrderPolicy::AckGapOnce;
                self.acknowledge(if uboot { self.last_in_order() } else { self.last_ack });
            }
            ClientPhase::Receiving | ClientPhase::Over(_) => (),
        }
        self.wait(now);
    }

    /// The next datagram to send; call it until None.
    pub fn poll_transmit(&mut self, now: Tick) -> Option<ClientDatagram<'_>> {
        let due = self.due.pop_front()?;
        let (mut to, mut socket) = (self.server, self.socket);
        match due {
            DuePacket::Request { probe } => {
                self.counters.requests_sent += 1;
                to = None;
                self.write_request(probe);
            }
            DuePacket::Ack(block) => {
                self.counters.acks_sent += 1;
                write_ack(&mut self.datagram, block);
            }
            DuePacket::Error { refusal, to: port, socket: from } => {
                (to, socket) = (Some(port), from);
                write_error(&mut self.datagram, refusal);
            }
        }
        if self.deadline == NEVER && self.outcome().is_none() {
            self.wait(now);
        }
        Some(ClientDatagram { to, socket, bytes: &self.datagram })
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Tick> {
        (self.deadline != NEVER).then_some(self.deadline)
    }

    /// How it ended; None = it goes on. The last ACK may still wait in [`Self::poll_transmit`].
    pub fn outcome(&self) -> Option<ClientOutcome> {
        match self.phase {
            ClientPhase::Over(outcome) => Some(outcome),
            ClientPhase::Requesting { .. } | ClientPhase::Receiving => None,
        }
    }

    /// The server has answered the last request.
    pub fn answered(&self) -> bool {
        self.server.is_some()
    }

    pub fn counters(&self) -> &ClientCounters {
        &self.counters
    }

    /// The socket that datagrams are expected at; see [`ClientDatagram::socket`].
    pub fn socket(&self) -> u8 {
        self.socket
    }

    /// Size of the file as the server announced it, bytes.
    pub fn announced(&self) -> Option<u64> {
        self.tsize
    }

    fn handle_oack(&mut self, now: Tick, from_port: u16, options: Options<'_>) {
        match self.phase {
            ClientPhase::Requesting { probe } => {
                self.server = Some(from_port);
                if let Err(disagreement) = self.agree(options) {
                    return self.refuse(from_port, disagreement);
                }
                match self.behaviour.probe.filter(|_| probe) {
                    Some(code) => self.end_probe(now, code, from_port),
                    None => {
                        self.phase = ClientPhase::Receiving;
                        self.progress(now);
                        self.acknowledge(0);
                    }
                }
            }
            // Our ACK 0 was lost.
            ClientPhase::Receiving if self.expected == 1 => self.acknowledge(0),
            ClientPhase::Receiving | ClientPhase::Over(_) => (),
        }
    }

    /// Takes over what the server grants, if it is within what was asked.
    fn agree(&mut self, options: Options<'_>) -> Result<(), ServerViolation> {
        for (name, value) in options {
            let asked = self.behaviour.asks.iter().find(|ask| ask.name().as_bytes() == name);
            let asked = asked.ok_or(ServerViolation::OptionNotAsked)?;
            let value = parse_decimal(value).ok_or(ServerViolation::OptionValue)?;
            match *asked {
                AskedOption::Tsize => self.tsize = Some(value),
                AskedOption::Timeout(seconds) if value == u64::from(seconds) => (),
                AskedOption::Blksize(most) => {
                    self.block_size = check_option_range(value, BLOCK_SIZE_MIN, most)?
                }
                AskedOption::Windowsize(most) => self.window = check_option_range(value, 1, most)?,
                AskedOption::Timeout(_) => return Err(ServerViolation::OptionValue),
            }
        }
        Ok(())
    }

    /// The size is known: the first transfer is ended with an ERROR, and the real one begins on
    /// another port (T-52).
    fn end_probe(&mut self, now: Tick, code: ErrorCode, from_port: u16) {
        let refusal = TftpRefusal { code, text: "User aborted the transfer" };
        self.send(DuePacket::Error { refusal, to: from_port, socket: self.socket });
        self.socket += 1;
        self.server = None;
        self.block_size = BLOCK_SIZE_DEFAULT;
        self.window = 1;
        self.phase = ClientPhase::Requesting { probe: false };
        self.send(DuePacket::Request { probe: false });
        self.progress(now);
    }

    fn handle_data<'a>(
        &mut self,
        now: Tick,
        from_port: u16,
        block: u16,
        payload: &'a [u8],
    ) -> Option<ReceivedPiece<'a>> {
        if let ClientPhase::Requesting { .. } = self.phase {
            // GRUB begins with an OACK or not at all (T-22).
            if block != 1 || self.behaviour.needs_oack {
                return None;
            }
            self.server = Some(from_port);
            self.phase = ClientPhase::Receiving;
        }
        if payload.len() > usize::from(self.block_size) {
            self.refuse(from_port, ServerViolation::BlockTooLong);
            return None;
        }
        let distance = block.wrapping_sub((self.expected & 0xffff) as u16).cast_signed();
        if distance != 0 {
            self.handle_unexpected(block, distance < 0);
            return None;
        }
        let piece = ReceivedPiece { offset: self.received, bytes: payload };
        self.counters.blocks += 1;
        self.received += payload.len() as u64;
        self.expected += 1;
        self.unacked += 1;
        self.gap_told = false;
        self.progress(now);
        let last = payload.len() < usize::from(self.block_size);
        if last || self.unacked >= self.window {
            self.acknowledge(block);
        }
        if last {
            let differs = self.tsize.is_some_and(|size| size != self.received);
            self.finish(if differs {
                ClientOutcome::Disagreed(ServerViolation::SizeDiffers)
            } else {
                ClientOutcome::Complete { octets: self.received }
            });
        }
        Some(piece)
    }

    /// A block that is not the next one: here firmware differs most.
    fn handle_unexpected(&mut self, block: u16, old: bool) {
        *(if old { &mut self.counters.duplicates } else { &mut self.counters.out_of_order }) += 1;
        let last = self.last_in_order();
        match self.behaviour.unexpected {
            OutOfOrderPolicy::AckLast => self.acknowledge(last),
            OutOfOrderPolicy::AckOldOnly if old => self.send(DuePacket::Ack(block)),
            OutOfOrderPolicy::AckGapOnce
                if !old && !self.gap_told && self.expected <= behaviour::UBOOT_GAPS_TOLD_TO =>
            {
                self.gap_told = true;
                self.acknowledge(last);
            }
            OutOfOrderPolicy::AckOldOnly | OutOfOrderPolicy::AckGapOnce => (),
        }
    }

    /// Number on the wire of the last block received in order; 0 = none yet.
    fn last_in_order(&self) -> u16 {
        ((self.expected - 1) & 0xffff) as u16
    }

    /// Windows are counted from the ACK (T-37).
    fn acknowledge(&mut self, block: u16) {
        self.unacked = 0;
        self.last_ack = block;
        self.send(DuePacket::Ack(block));
    }

    fn refuse(&mut self, to: u16, disagreement: ServerViolation) {
        let refusal = TftpRefusal { code: ErrorCode::OptionsRefused, text: "Options refused" };
        self.send(DuePacket::Error { refusal, to, socket: self.socket });
        self.finish(ClientOutcome::Disagreed(disagreement));
    }

    fn finish(&mut self, outcome: ClientOutcome) {
        self.phase = ClientPhase::Over(outcome);
        self.deadline = NEVER;
    }

    fn progress(&mut self, now: Tick) {
        self.tries = 0;
        self.wait(now);
    }

    fn wait(&mut self, now: Tick) {
        let interval = self.behaviour.patience.interval(self.tries);
        // A per cent of spread: two machines of one model still drift apart.
        self.deadline = now + interval + self.random.below(interval / 100);
    }

    fn send(&mut self, due: DuePacket) {
        if self.due.len() < DUE_MAX {
            self.due.push_back(due);
        }
    }

    fn write_request(&mut self, probe: bool) {
        write_read_request(&mut self.datagram, &self.name, b"octet");
        let had_size = self.behaviour.probe.is_some() && !probe;
        for ask in
            self.behaviour.asks.iter().filter(|ask| !(had_size && **ask == AskedOption::Tsize))
        {
            write_option(&mut self.datagram, ask.name().as_bytes(), ask.value());
        }
    }
}

fn check_option_range(value: u64, least: u16, most: u16) -> Result<u16, ServerViolation> {
    let value = u16::try_from(value).ok().filter(|value| (least..=most).contains(value));
    value.ok_or(ServerViolation::OptionValue)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use super::super::limits::{MILLISECOND, SECOND};
    use super::super::packet::build_data_header;
    use super::*;

    fn sent(client: &mut FetchClient, now: Tick) -> Vec<(Option<u16>, u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(transmit) = client.poll_transmit(now) {
            all.push((transmit.to, transmit.socket, transmit.bytes.to_vec()));
        }
        all
    }

    fn acks(client: &mut FetchClient) -> Vec<u8> {
        sent(client, 0).iter().map(|(_, _, bytes)| bytes[3]).collect()
    }

    fn data(block: u16, octets: usize) -> Vec<u8> {
        [&build_data_header(block)[..], &vec![block as u8; octets]].concat()
    }

    /// A client with its options granted and its first ACK taken.
    fn receiving(behaviour: ClientBehaviour, oack: &[u8]) -> FetchClient {
        let mut client = FetchClient::new(behaviour, b"f", 1);
        sent(&mut client, 0);
        client.handle(0, 7, oack);
        assert_eq!(acks(&mut client), [0]);
        client
    }

    #[test]
    fn t52_edk2_asks_for_the_size_first_and_again_from_another_port() {
        let mut client = FetchClient::new(ClientBehaviour::edk2(), b"bootx64.efi", 1);
        let request = b"\0\x01bootx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
        assert_eq!(sent(&mut client, 0), [(None, 0, request.to_vec())]);
        client.handle(0, 1000, b"\0\x06tsize\x0077\0blksize\x001468\0windowsize\x004\0");
        let again = b"\0\x01bootx64.efi\0octet\0blksize\x001468\0windowsize\x004\0";
        let error = b"\0\x05\0\x08User aborted the transfer\0";
        assert_eq!(
            sent(&mut client, 0),
            [(Some(1000), 0, error.to_vec()), (None, 1, again.to_vec())]
        );
        assert_eq!((client.socket(), client.announced()), (1, Some(77)));
        client.handle(0, 2000, b"\0\x06blksize\x001468\0windowsize\x004\0");
        assert_eq!(sent(&mut client, 0), [(Some(2000), 1, vec![0, 4, 0, 0])]);
        client.handle(0, 2000, &data(1, 77));
        assert_eq!(client.outcome(), Some(ClientOutcome::Complete { octets: 77 }));
    }

    #[test]
    fn t11_an_answer_that_was_not_asked_for_ends_it() {
        for (oack, disagreement) in [
            (&b"\0\x06multicast\x001\0"[..], ServerViolation::OptionNotAsked),
            (b"\0\x06BLKSIZE\x00512\0", ServerViolation::OptionNotAsked),
            (b"\0\x06blksize\x001469\0", ServerViolation::OptionValue),
            (b"\0\x06blksize\x007\0", ServerViolation::OptionValue),
            (b"\0\x06timeout\x006\0", ServerViolation::OptionValue),
        ] {
            let mut client = FetchClient::new(ClientBehaviour::uboot(1), b"f", 1);
            sent(&mut client, 0);
            client.handle(0, 7, oack);
            assert_eq!(client.outcome(), Some(ClientOutcome::Disagreed(disagreement)), "{oack:?}");
            assert_eq!(&sent(&mut client, 0)[0].2[..4], [0, 5, 0, 8]);
        }
    }

    #[test]
    fn t35_edk2_answers_every_unexpected_block_and_uboot_only_the_first() {
        let mut edk2 =
            receiving(ClientBehaviour::generic(512, 4), b"\0\x06blksize\x00512\0windowsize\x004\0");
        edk2.handle(0, 7, &data(1, 512));
        for block in 3..=4 {
            assert_eq!(edk2.handle(0, 7, &data(block, 512)), None);
        }
        assert_eq!(acks(&mut edk2), [1, 1]);
        (0..2 * DUE_MAX).for_each(|_| assert_eq!(edk2.handle(0, 7, &data(4, 512)), None));
        assert_eq!(acks(&mut edk2).len(), DUE_MAX, "and no more than wait for a turn");
        let mut uboot =
            receiving(ClientBehaviour::uboot(4), b"\0\x06timeout\x005\0windowsize\x004\0");
        uboot.handle(0, 7, &data(1, 512));
        for block in 3..=4 {
            uboot.handle(0, 7, &data(block, 512));
        }
        assert_eq!(acks(&mut uboot), [1]);
        let mut grub = receiving(ClientBehaviour::grub(), b"\0\x06blksize\x001024\0");
        for block in 1..=2 {
            assert!(grub.handle(0, 7, &data(block, 1024)).is_some());
        }
        assert_eq!(acks(&mut grub), [1, 2]);
        for block in [1, 4, 2] {
            assert_eq!(grub.handle(0, 7, &data(block, 1024)), None);
        }
        assert_eq!(
            acks(&mut grub),
            [1, 2],
            "GRUB answers old blocks by their own number, and none that is ahead"
        );
    }

    #[test]
    fn t37_a_window_is_counted_from_the_ack() {
        let mut client =
            receiving(ClientBehaviour::generic(512, 4), b"\0\x06blksize\x00512\0windowsize\x004\0");
        client.handle(0, 7, &data(1, 512));
        client.handle(0, 7, &data(3, 512));
        assert_eq!(acks(&mut client), [1]);
        for block in 2..=5 {
            assert!(client.handle(0, 7, &data(block, 512)).is_some());
        }
        assert_eq!(acks(&mut client), [5]);
    }

    #[test]
    fn t43_grub_repeats_requests_but_no_acks() {
        let mut grub = FetchClient::new(ClientBehaviour::grub(), b"f", 1);
        assert_eq!(sent(&mut grub, 0).len(), 1);
        assert!((400 * MILLISECOND..410 * MILLISECOND).contains(&grub.poll_timeout().unwrap()));
        grub.handle_timeout(SECOND);
        assert_eq!(sent(&mut grub, 0).len(), 1, "the request again");
        assert_eq!(grub.handle(0, 7, &data(1, 512)), None, "DATA without an OACK");
        grub.handle(SECOND, 7, b"\0\x06blksize\x001024\0tsize\x009\0");
        assert_eq!(acks(&mut grub), [0]);
        grub.handle_timeout(grub.poll_timeout().unwrap());
        assert_eq!(sent(&mut grub, 0).len(), 0);
    }

    #[test]
    fn t44_patience_is_that_of_the_firmware() {
        let lasts = |behaviour: ClientBehaviour| {
            let mut client = FetchClient::new(behaviour, b"f", 1);
            let mut requests = sent(&mut client, 0).len();
            let mut now = 0;
            while let Some(next) = client.poll_timeout() {
                now = next;
                client.handle_timeout(now);
                requests += sent(&mut client, now).len();
            }
            assert_eq!(client.outcome(), Some(ClientOutcome::TimedOut));
            (requests, now / SECOND)
        };
        assert_eq!(lasts(ClientBehaviour::edk2()).0, 6);
        assert!((24..=25).contains(&lasts(ClientBehaviour::edk2()).1));
        assert_eq!(lasts(ClientBehaviour::uboot(1)).0, 10);
        assert!((50..=51).contains(&lasts(ClientBehaviour::uboot(1)).1));
        assert_eq!(lasts(ClientBehaviour::grub()).0, 40);
        assert!((15..=40).contains(&lasts(ClientBehaviour::ipxe()).1));
        assert!((30..=31).contains(&lasts(ClientBehaviour::pi3()).1));
    }

    #[test]
    fn t43_the_timer_repeats_the_last_ack_and_uboot_acknowledges_what_it_has() {
        for (behaviour, oack, repeated) in [
            (ClientBehaviour::generic(512, 4), &b"\0\x06blksize\x00512\0windowsize\x004\0"[..], 4),
            (ClientBehaviour::uboot(4), b"\0\x06timeout\x005\0windowsize\x004\0", 6),
        ] {
            let tries = behaviour.patience.tries;
            let mut client = receiving(behaviour, oack);
            assert_eq!((client.answered(), client.socket()), (true, 0));
            client.handle(0, 7, oack);
            assert_eq!(acks(&mut client), [0], "the first ACK 0 was lost");
            (1..=6).for_each(|block| assert!(client.handle(0, 7, &data(block, 512)).is_some()));
            assert_eq!(acks(&mut client), [4]);
            client.handle(0, 7, oack);
            assert_eq!(acks(&mut client), b"", "an OACK that comes late");
            client.handle_timeout(client.poll_timeout().unwrap() - 1);
            assert_eq!(acks(&mut client), b"", "before its time");
            for _ in 1..tries {
                client.handle_timeout(client.poll_timeout().unwrap());
                assert_eq!(acks(&mut client), [repeated]);
            }
            // What comes at the last moment counts: its patience begins anew.
            let now = client.poll_timeout().unwrap() - 1;
            assert!(client.handle(now, 7, &data(7, 512)).is_some());
            assert!(client.poll_timeout().unwrap() > now + SECOND);
            for _ in 1..tries {
                client.handle_timeout(client.poll_timeout().unwrap());
            }
            assert_eq!(
                (client.outcome(), client.counters().retransmits),
                (None, 2 * u64::from(tries - 1))
            );
            client.handle_timeout(client.poll_timeout().unwrap());
            assert_eq!(
                (client.outcome(), client.poll_timeout()),
                (Some(ClientOutcome::TimedOut), None)
            );
        }
    }

    #[test]
    fn machines_of_one_model_drift_apart_by_a_per_cent() {
        let first = |seed| {
            let mut client = FetchClient::new(ClientBehaviour::edk2(), b"f", seed);
            assert!(!client.answered());
            sent(&mut client, 0);
            client.poll_timeout().unwrap() / MILLISECOND
        };
        let firsts: std::collections::BTreeSet<_> = (0..100).map(first).collect();
        assert!(
            firsts.len() > 25 && firsts.iter().all(|first| (4000..4040).contains(first)),
            "{firsts:?}"
        );
    }

    #[test]
    fn what_a_fetch_has_cost_is_counted_and_a_stranger_is_refused_but_never_its_error() {
        let mut client =
            receiving(ClientBehaviour::generic(512, 2), b"\0\x06blksize\x00512\0windowsize\x002\0");
        for block in [1, 2, 2, 1, 4, 5, 3] {
            client.handle(0, 7, &data(block, 512));
        }
        assert_eq!(acks(&mut client), [2; 5]);
        assert_eq!(client.handle(0, 8, &data(4, 512)), None);
        assert_eq!(
            sent(&mut client, 0),
            [(Some(8), 0, b"\0\x05\0\x05Unknown transfer ID\0".to_vec())]
        );
        assert_eq!(client.handle(0, 8, b"\0\x05\0\x05x\0"), None);
        assert_eq!(client.handle(0, 7, &[0, 4, 0, 1]), None, "what only clients send");
        assert_eq!(sent(&mut client, 0), []);
        client.handle_timeout(client.poll_timeout().unwrap());
        client.handle(0, 7, &data(4, 0));
        assert_eq!(acks(&mut client), [2, 4]);
        assert_eq!(
            (client.outcome(), client.poll_timeout()),
            (Some(ClientOutcome::Complete { octets: 1536 }), None)
        );
        let counted = ClientCounters {
            requests_sent: 1,
            acks_sent: 8,
            retransmits: 1,
            blocks: 4,
            duplicates: 2,
            out_of_order: 2,
            strays: 3,
        };
        assert_eq!(*client.counters(), counted);
        let mut silent = FetchClient::new(ClientBehaviour::grub(), b"f", 1);
        sent(&mut silent, 0);
        silent.handle_timeout(silent.poll_timeout().unwrap());
        sent(&mut silent, 0);
        assert_eq!(
            *silent.counters(),
            ClientCounters { requests_sent: 2, retransmits: 1, ..ClientCounters::default() }
        );
    }

    #[test]
    fn t55_a_pi_asks_for_nothing_and_takes_plain_data() {
        let mut pi = FetchClient::new(ClientBehaviour::pi3(), b"bootcode.bin", 1);
        assert_eq!(sent(&mut pi, 0), [(None, 0, b"\0\x01bootcode.bin\0octet\0".to_vec())]);
        let first = data(1, 512);
        assert_eq!(pi.handle(0, 7, &first), Some(ReceivedPiece { offset: 0, bytes: &first[4..] }));
        assert_eq!(pi.handle(0, 8, &data(2, 512)), None, "a foreign port");
        let second = data(2, 0);
        assert_eq!(pi.handle(0, 7, &second), Some(ReceivedPiece { offset: 512, bytes: b"" }));
        assert_eq!(acks(&mut pi), [1, 2]);
        assert_eq!(pi.outcome(), Some(ClientOutcome::Complete { octets: 512 }));
    }

    #[test]
    fn a_size_that_differs_from_the_announced_one_is_seen() {
        let mut client =
            receiving(ClientBehaviour::ipxe(), b"\0\x06blksize\x001432\0tsize\x001000\0");
        client.handle(0, 7, &data(1, 999));
        assert_eq!(client.outcome(), Some(ClientOutcome::Disagreed(ServerViolation::SizeDiffers)));
    }
}
