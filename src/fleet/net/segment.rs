//! The DHCP of the machines of one segment: it hands answers to their machine, repeats unanswered
//! messages, and releases leases.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::context::FleetContext;
use super::dhcp::{self, ClientMessage, DhcpAnswer, DhcpMessageType, DhcpSpeaker};
use super::impair::{ImpairedQueue, NetworkImpairment};
use super::ledger::AddressLedger;
use super::link::PacketLink;
use super::relay::RelayAgent;
use crate::failure::BootFailure;
use crate::limits::ANSWERS_QUEUED_MAX;
use crate::measure::line::AskedProtocol;
use ringboot_protocol::model::machine::{Mac, Uuid};
use ringboot_protocol::tftp::Tick;

/// A machine as its segment knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachinePort {
    pub(crate) mac: Mac,
    pub(crate) uuid: Uuid,
    /// The machine's number in its fleet, as the number of its switch port (option 82, sub-option
    /// 1).
    pub(crate) circuit: u32,
}

/// Transaction ids of one machine: a new one for each exchange.
#[derive(Clone, Debug)]
pub(crate) struct XidSource(pub(crate) u64);

/// How messages of a segment reach a server.
#[derive(Debug)]
pub(crate) enum SegmentTransport {
    Relay(RelayAgent),
    Link(PacketLink),
}

/// Machines that share one transport. Answers find their machine by hardware address and xid
/// together: two machines may have the same xid, and one machine uses several.
#[derive(Debug)]
pub(crate) struct FleetSegment {
    pub(crate) context: Rc<FleetContext>,
    pub(crate) road: SegmentTransport,
    ledger: Rc<AddressLedger>,
    pub(crate) waiting: RefCell<HashMap<(Mac, u32), Rc<AnswerMailbox>>>,
    /// The leases to release, with addresses that were requested and may have been granted without
    /// a received ACK.
    held: RefCell<BTreeMap<(Mac, Ipv4Addr), HeldLease>>,
    trouble: Option<SegmentImpairment>,
}

/// A lease to release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldLease {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: MachinePort,
    pub(crate) speaker: DhcpSpeaker,
    pub(crate) server: Option<Ipv4Addr>,
}

/// Answers that one machine has not read yet.
#[derive(Debug, Default)]
pub(crate) struct AnswerMailbox {
    answers: RefCell<VecDeque<DhcpAnswer>>,
    bell: Notify,
}

/// A bad network between the machines and the server.
#[derive(Debug)]
struct SegmentImpairment {
    begun: Instant,
    letters: RefCell<ImpairedQueue<DelayedMessage>>,
    posted: Notify,
}

#[derive(Clone, Debug)]
enum DelayedMessage {
    Out(Vec<u8>),
    In(Box<DhcpAnswer>),
}

impl FleetSegment {
    /// `seed` is that of the simulated losses.
    pub(crate) fn open(
        context: Rc<FleetContext>,
        road: SegmentTransport,
        ledger: Rc<AddressLedger>,
        seed: u64,
    ) -> Rc<Self> {
        let impairment = context.wire.impairment;
        let segment = Rc::new(Self {
            context,
            road,
            ledger,
            waiting: RefCell::default(),
            held: RefCell::default(),
            trouble: (!impairment.is_none()).then(|| SegmentImpairment::new(impairment, seed)),
        });
        // These tasks end with the set that they are in.
        spawn_local(Rc::clone(&segment).carry_messages());
        if segment.trouble.is_some() {
            spawn_local(Rc::clone(&segment).deliver_late());
        }
        segment
    }

    /// Leases to release. A requested address counts as one, too: its ACK may have been lost.
    pub(super) fn take_held(&self) -> Vec<HeldLease> {
        self.held.take().into_values().collect()
    }

    /// Sends a RELEASE, which has no answer. Returns whether there was a server for it.
    pub(crate) fn send_release(&self, held: HeldLease) -> bool {
        let HeldLease { port: MachinePort { mac, uuid, circuit }, speaker, address, server } = held;
        self.ledger.record_release(circuit, address);
        let xid = u32::from(address);
        let ask = ClientMessage {
            speaker,
            mac,
            uuid,
            xid,
            nth: 0,
            server,
            address: Some(address),
            kind: DhcpMessageType::Release,
        };
        let letter = self.road.encode_message(&ask, circuit);
        letter.inspect(|bytes| self.road.send(bytes)).is_some()
    }

    /// Returns when all messages have left.
    pub(super) async fn flush(&self) {
        if let SegmentTransport::Relay(relay) = &self.road {
            relay.flush().await;
        }
    }

    /// Machines of the fleet whose address another machine got while they held it.
    pub(crate) fn list_doubled(&self) -> Vec<u32> {
        self.ledger.list_doubled()
    }

    /// Acknowledged leases of the fleet a second.
    pub(crate) fn rate(&self) -> f64 {
        self.ledger.rate()
    }

    pub(crate) fn accept_lease(
        &self,
        port: MachinePort,
        speaker: DhcpSpeaker,
        answer: DhcpAnswer,
    ) -> Result<DhcpAnswer, BootFailure> {
        self.hold_lease(HeldLease {
            port,
            speaker,
            address: answer.address,
            server: answer.server,
        });
        self.ledger.record_lease(
            port.circuit,
            answer.address,
            answer.lease_s,
            Instant::now().into_std(),
        )?;
        Ok(answer)
    }

    /// The server refused the address: there is nothing to release.
    pub(crate) fn forget_lease(&self, mac: Mac, address: Ipv4Addr) {
        self.held.borrow_mut().remove(&(mac, address));
    }

    pub(crate) fn hold_lease(&self, held: HeldLease) {
        self.held.borrow_mut().insert((held.port.mac, held.address), held);
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        match &self.trouble {
            Some(trouble) => trouble.queue_message(DelayedMessage::Out(bytes.to_vec())),
            None => self.road.send(bytes),
        }
    }

    /// Sends queued messages and receives answers; never ends.
    async fn carry_messages(self: Rc<Self>) {
        let accept = |answer| self.accept_answer(answer);
        let line = self.context.progress.line(AskedProtocol::Dhcp);
        match &self.road {
            SegmentTransport::Relay(relay) => {
                tokio::join!(
                    relay.receive_answers(accept, |nobody| line.note_absent_server(nobody)),
                    relay.send_on()
                );
            }
            SegmentTransport::Link(link) => link.receive_answers(accept).await,
        }
    }

    fn accept_answer(&self, answer: DhcpAnswer) {
        self.context.progress.line(AskedProtocol::Dhcp).note_answer();
        match &self.trouble {
            Some(trouble) => trouble.queue_message(DelayedMessage::In(Box::new(answer))),
            None => self.deliver_answer(answer),
        }
    }

    fn deliver_answer(&self, answer: DhcpAnswer) {
        if let Some(mailbox) = self.waiting.borrow().get(&(answer.mac, answer.xid)) {
            mailbox.push(answer);
        }
    }

    /// Sends and delivers messages that the bad network delayed; never ends.
    async fn deliver_late(self: Rc<Self>) {
        let Some(trouble) = &self.trouble else { return };
        loop {
            let next = trouble.letters.borrow().next();
            match next {
                Some(due) => drop(timeout_at(trouble.moment(due), trouble.posted.notified()).await),
                None => trouble.posted.notified().await,
            }
            while let Some(letter) = trouble.pop_due() {
                match letter {
                    DelayedMessage::Out(bytes) => self.road.send(&bytes),
                    DelayedMessage::In(answer) => self.deliver_answer(*answer),
                }
            }
        }
    }
}

impl SegmentTransport {
    /// The message as it leaves. None for a RELEASE to an unknown server.
    pub(crate) fn encode_message(&self, ask: &ClientMessage, circuit: u32) -> Option<Vec<u8>> {
        match self {
            Self::Relay(relay) => {
                Some(dhcp::encode_client_message(ask, Some(&relay.make_hop(circuit))))
            }
            Self::Link(link) => link.build_frame(ask),
        }
    }

    /// Sends a message. One that the network or the kernel refuses (server down, buffer full) is
    /// lost like any other.
    fn send(&self, bytes: &[u8]) {
        match self {
            Self::Relay(relay) => relay.send(bytes),
            Self::Link(link) => link.send(bytes),
        }
    }

    /// Whether the server returned option 82 unchanged (D-49).
    pub(crate) fn is_untouched(&self, answer: &DhcpAnswer, circuit: u32) -> bool {
        match self {
            Self::Relay(relay) => {
                answer.relay_information.as_deref()
                    == Some(&dhcp::encode_relay_information(&relay.make_hop(circuit)))
            }
            Self::Link(_) => true,
        }
    }
}

impl AnswerMailbox {
    /// A full queue has answers that the machine will not read any more.
    fn push(&self, answer: DhcpAnswer) {
        let mut answers = self.answers.borrow_mut();
        if answers.len() < ANSWERS_QUEUED_MAX {
            answers.push_back(answer);
            self.bell.notify_one();
        }
    }

    pub(crate) async fn next(&self) -> DhcpAnswer {
        loop {
            let answer = self.answers.borrow_mut().pop_front();
            match answer {
                Some(answer) => return answer,
                None => self.bell.notified().await,
            }
        }
    }
}

impl SegmentImpairment {
    fn new(impairment: NetworkImpairment, seed: u64) -> Self {
        let letters = RefCell::new(ImpairedQueue::new(impairment, seed));
        Self { begun: Instant::now(), letters, posted: Notify::new() }
    }

    fn queue_message(&self, letter: DelayedMessage) {
        self.letters.borrow_mut().send(self.now(), letter);
        self.posted.notify_one();
    }

    fn pop_due(&self) -> Option<DelayedMessage> {
        self.letters.borrow_mut().pop_due(self.now())
    }

    fn now(&self) -> Tick {
        Tick::try_from(self.begun.elapsed().as_nanos()).unwrap_or(Tick::MAX)
    }

    fn moment(&self, tick: Tick) -> Instant {
        self.begun + Duration::from_nanos(tick)
    }
}

impl XidSource {
    pub(crate) fn next(&mut self) -> u32 {
        // SplitMix64: different seeds give different values within a run.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{SocketAddrV4, UdpSocket as Blocking};
    use std::thread::spawn;

    use tokio::task::LocalSet;

    use super::*;
    use crate::content::ContentMap;
    use crate::net::relay;
    use crate::net::wire::WireSettings;
    use crate::pace::FleetPace;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 16, 1);

    /// A server that answers each message with the next of these types, or not at all.
    fn server(answers: Vec<Option<u8>>) -> SocketAddrV4 {
        let socket = Blocking::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        spawn(move || {
            for answer in answers {
                let mut packet = [0; 1500];
                let (octets, from) = socket.recv_from(&mut packet).unwrap();
                if let Some(kind) = answer {
                    packet[0] = 2;
                    packet[16..20].copy_from_slice(&ADDRESS.octets());
                    packet[242] = kind;
                    socket.send_to(&packet[..octets], from).unwrap();
                }
            }
        });
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    fn with_segment<T>(
        server: SocketAddrV4,
        impairment: NetworkImpairment,
        work: impl AsyncFnOnce(&FleetSegment, MachinePort) -> T,
    ) -> (T, u64) {
        let pace = FleetPace {
            haste: 20,
            idle_waits: false,
            gives_up: false,
            patience: Duration::from_secs(10),
        };
        let context = FleetContext::new(
            server.into(),
            ContentMap::default(),
            pace,
            std::sync::Arc::default(),
        );
        let context =
            Rc::new(context.with_wire(WireSettings { impairment, ..WireSettings::default() }, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
            let road = SegmentTransport::Relay(
                RelayAgent::open(agent, server, relay::make_shared_inbox()).unwrap(),
            );
            let segment = FleetSegment::open(Rc::clone(&context), road, Rc::default(), 1);
            (work(&segment, port(2)).await, context.progress.retries())
        })
    }

    fn port(last: u8) -> MachinePort {
        MachinePort { mac: Mac([2, 0, 0, 0, 0, last]), uuid: Uuid([1; 16]), circuit: last.into() }
    }

    const OFFER: Option<u8> = Some(2);
    const ACK: Option<u8> = Some(5);
    const NAK: Option<u8> = Some(6);

    #[test]
    fn d71_a_lost_message_is_repeated_and_a_nak_leads_back_to_discover() {
        let server = server(vec![None, OFFER, None, NAK, OFFER, ACK]);
        let acquire = async |segment: &FleetSegment, port| {
            segment.acquire(port, DhcpSpeaker::Ipxe(0), &mut XidSource(1)).await
        };
        let (answer, retries) = with_segment(server, NetworkImpairment::default(), acquire);
        assert_eq!(answer.unwrap().address, ADDRESS);
        assert_eq!(retries, 3);
    }

    #[test]
    fn d24_a_refused_address_is_no_longer_ours() {
        let confirm = async |segment: &FleetSegment, port| {
            segment.confirm(port, DhcpSpeaker::UefiPxe(7), &mut XidSource(1), ADDRESS).await
        };
        let asked =
            |answer| with_segment(server(vec![answer]), NetworkImpairment::default(), confirm).0;
        assert_eq!(asked(ACK), Some(ADDRESS));
        assert_eq!(asked(NAK), None);
    }

    #[test]
    fn an_address_that_two_machines_are_given_fails_the_second_and_marks_the_first() {
        let work = async |segment: &FleetSegment, _| {
            let acquire = async |last| {
                segment.acquire(port(last), DhcpSpeaker::BiosRom, &mut XidSource(last.into())).await
            };
            let (first, second) = (acquire(1).await, acquire(2).await);
            assert_eq!(first.unwrap().address, ADDRESS);
            assert_eq!(second.unwrap_err(), BootFailure::AddressDoubled);
            let mut doubled = segment.list_doubled();
            doubled.sort_unstable();
            assert_eq!(doubled, [1, 2]);
        };
        with_segment(server(vec![OFFER, ACK, OFFER, ACK]), NetworkImpairment::default(), work);
    }

    #[test]
    fn d28_what_was_granted_or_only_asked_for_is_given_back_once() {
        let socket = Blocking::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let heard = spawn(move || {
            let mut packet = [0; 1500];
            // The second machine's REQUEST is never answered.
            for kind in [OFFER, ACK, OFFER, None] {
                let (octets, from) = socket.recv_from(&mut packet).unwrap();
                packet[0] = 2;
                let last = packet[33];
                packet[16..20].copy_from_slice(&[127, 77, 16, last]);
                packet[242] = kind.unwrap_or_default();
                if kind.is_some() {
                    socket.send_to(&packet[..octets], from).unwrap();
                }
            }
            let mut releases = Vec::new();
            while releases.len() < 2 {
                socket.recv_from(&mut packet).unwrap();
                if packet[242] == 7 {
                    releases.push((packet[33], <[u8; 4]>::try_from(&packet[12..16]).unwrap()));
                }
            }
            releases
        });
        let work = async |segment: &FleetSegment, _| {
            segment.acquire(self::port(1), DhcpSpeaker::BiosRom, &mut XidSource(1)).await.unwrap();
            let asking = async {
                while segment.held.borrow().len() < 2 {
                    tokio::task::yield_now().await;
                }
            };
            let mut xids = XidSource(2);
            tokio::select! {
                () = asking => {}
                _ = segment.acquire(self::port(2), DhcpSpeaker::BiosRom, &mut xids) => {}
            }
            for held in segment.take_held() {
                assert!(segment.send_release(held));
            }
            segment.flush().await;
            assert!(segment.take_held().is_empty());
        };
        with_segment(
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            NetworkImpairment::default(),
            work,
        );
        let mut releases = heard.join().unwrap();
        releases.sort_unstable();
        assert_eq!(releases, [(1, [127, 77, 16, 1]), (2, [127, 77, 16, 2])]);
    }

    #[test]
    fn on_a_bad_network_messages_are_late_both_ways() {
        let acquire = async |segment: &FleetSegment, port| {
            segment.acquire(port, DhcpSpeaker::Ipxe(0), &mut XidSource(1)).await
        };
        let delay = Duration::from_millis(5);
        let begun = Instant::now();
        let (answer, _) = with_segment(
            server(vec![OFFER, ACK]),
            NetworkImpairment { delay, ..NetworkImpairment::default() },
            acquire,
        );
        assert_eq!(answer.unwrap().address, ADDRESS);
        assert!(begun.elapsed() >= delay * 4, "two messages and two answers");
    }

    #[test]
    fn transaction_ids_of_one_seed_differ() {
        let mut xids = XidSource(7);
        let mut seen: Vec<u32> = (0..1000).map(|_| xids.next()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
