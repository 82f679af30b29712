//! A TFTP client that fetches one file and behaves like real firmware: for the simulated machines
//! and the tests.
//!
//! It checks what firmware checks, and keeps no bytes: it passes received data on to the caller, in
//! order and once.

mod behaviour;
#[cfg(test)]
mod tests;

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

/// Datagrams that wait for the caller, who should drain them after each call. The client drops one
/// more, like a full queue.
const DUE_MAX: usize = 64;

/// One fetch of one file.
#[derive(Debug)]
pub struct FetchClient {
    behaviour: ClientBehaviour,
    name: Box<[u8]>,
    phase: ClientPhase,
    /// The server's TID: the port its first answer came from.
    server: Option<u16>,
    /// Local sockets used up: each request has its own port.
    socket: u8,
    block_size: u16,
    window: u16,
    /// The size in the OACK.
    tsize: Option<u64>,
    /// Next block; counts from 1 and never wraps.
    expected: u64,
    /// Blocks in order since the last ACK.
    unacked: u16,
    last_ack: u16,
    /// The client has reported the gap at `expected` to the server.
    gap_told: bool,
    received: u64,
    due: VecDeque<DuePacket>,
    tries: u16,
    deadline: Tick,
    random: SeededRandom,
    counters: ClientCounters,
    datagram: Vec<u8>,
}

/// A received piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedPiece<'a> {
    /// Place in the file, bytes.
    pub offset: u64,
    /// The bytes of one block.
    pub bytes: &'a [u8],
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientDatagram<'a> {
    /// The server's port; None: its listening port.
    pub to: Option<u16>,
    /// Which of this client's sockets sends it: 0, or 1 after a size probe, which uses up the
    /// first.
    pub socket: u8,
    /// The packet.
    pub bytes: &'a [u8],
}

/// How the fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOutcome {
    /// The client has received the whole file.
    Complete {
        /// Bytes received.
        octets: u64,
    },
    /// The server sent an ERROR.
    Refused {
        /// The code of the ERROR.
        code: u16,
    },
    /// The server did not answer for longer than this firmware waits.
    TimedOut,
    /// The server broke a rule; firmware ends the boot here.
    Disagreed(ServerViolation),
}

/// The rule that the server broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerViolation {
    /// An option that the client did not send, or with another spelling (T-11, T-12).
    OptionNotAsked,
    /// A value that the option forbids (T-17, T-18, T-20).
    OptionValue,
    /// A block longer than agreed.
    BlockTooLong,
    /// The number of bytes received differs from `tsize` (T-19).
    SizeDiffers,
}

/// What the fetch has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Requests sent, retransmissions included.
    pub requests_sent: u64,
    /// ACKs sent, retransmissions included.
    pub acks_sent: u64,
    /// Requests and ACKs that the timer sent again.
    pub retransmits: u64,
    /// DATA blocks in order.
    pub blocks: u64,
    /// DATA blocks received before.
    pub duplicates: u64,
    /// DATA blocks beyond a gap.
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
    /// A client that requests `name` at the first [`Self::poll_transmit`]. `seed` spreads its
    /// retransmissions a little.
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

    /// Handles a datagram from the server's port `from_port` at this client's current socket.
    /// Foreign ports do not disturb the transfer: all firmware ignores them, while RFC 1350 section
    /// 4 requires an ERROR to them.
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
            // Never answer an ERROR: two such clients would go on for ever.
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

    /// Handles the timer; call it at [`Self::poll_timeout`] or later.
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
                // U-Boot acknowledges the last block in order, the others send their last packet
                // again.
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
            // A request always goes to the listening port (RFC 1350 section 4).
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

        // The first request starts the timer, because `new` knows no time.
        if self.deadline == NEVER && self.outcome().is_none() {
            self.wait(now);
        }
        Some(ClientDatagram { to, socket, bytes: &self.datagram })
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Tick> {
        (self.deadline != NEVER).then_some(self.deadline)
    }

    /// How the fetch ended; None: it goes on. The last ACK may still wait in
    /// [`Self::poll_transmit`].
    pub fn outcome(&self) -> Option<ClientOutcome> {
        match self.phase {
            ClientPhase::Over(outcome) => Some(outcome),
            ClientPhase::Requesting { .. } | ClientPhase::Receiving => None,
        }
    }

    /// The server has answered the last request.
    pub fn has_answer(&self) -> bool {
        self.server.is_some()
    }

    /// What the fetch has cost so far.
    pub fn counters(&self) -> &ClientCounters {
        &self.counters
    }

    /// The socket at which the client expects datagrams; see [`ClientDatagram::socket`].
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
                if let Err(disagreement) = self.accept_options(options) {
                    return self.send_refusal(from_port, disagreement);
                }
                match self.behaviour.probe.filter(|_| probe) {
                    Some(code) => self.end_probe(now, code, from_port),
                    None => {
                        self.phase = ClientPhase::Receiving;
                        self.note_progress(now);
                        self.acknowledge(0);
                    }
                }
            }
            // The client's ACK 0 was lost.
            ClientPhase::Receiving if self.expected == 1 => self.acknowledge(0),
            ClientPhase::Receiving | ClientPhase::Over(_) => (),
        }
    }

    /// Accepts the server's options, if each is within the client's request.
    fn accept_options(&mut self, options: Options<'_>) -> Result<(), ServerViolation> {
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

    /// The size is known: the client ends the first transfer with an ERROR, and begins the real one
    /// on another port (T-52).
    fn end_probe(&mut self, now: Tick, code: ErrorCode, from_port: u16) {
        let refusal = TftpRefusal { code, text: "User aborted the transfer" };
        self.send(DuePacket::Error { refusal, to: from_port, socket: self.socket });
        self.socket += 1;
        self.server = None;
        self.block_size = BLOCK_SIZE_DEFAULT;
        self.window = 1;
        self.phase = ClientPhase::Requesting { probe: false };
        self.send(DuePacket::Request { probe: false });
        self.note_progress(now);
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
            self.send_refusal(from_port, ServerViolation::BlockTooLong);
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
        self.note_progress(now);
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

    /// Handles a block that is not the next one: here firmware differs most.
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

    /// Number on the wire of the last block received in order; 0: none yet.
    fn last_in_order(&self) -> u16 {
        ((self.expected - 1) & 0xffff) as u16
    }

    /// Sends an ACK, from which the next window counts (T-37).
    fn acknowledge(&mut self, block: u16) {
        self.unacked = 0;
        self.last_ack = block;
        self.send(DuePacket::Ack(block));
    }

    fn send_refusal(&mut self, to: u16, disagreement: ServerViolation) {
        let refusal = TftpRefusal { code: ErrorCode::OptionsRefused, text: "Options refused" };
        self.send(DuePacket::Error { refusal, to, socket: self.socket });
        self.finish(ClientOutcome::Disagreed(disagreement));
    }

    fn finish(&mut self, outcome: ClientOutcome) {
        self.phase = ClientPhase::Over(outcome);
        self.deadline = NEVER;
    }

    fn note_progress(&mut self, now: Tick) {
        self.tries = 0;
        self.wait(now);
    }

    fn wait(&mut self, now: Tick) {
        let interval = self.behaviour.patience.interval(self.tries);
        // One per cent of spread, so that two machines of one model drift apart.
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
