//! The DHCP of the machines of one segment: answers find their machine, silence is met by
//! repetition, leases are given back.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::dhcp::{self, Answer, Ask, Kind, Speaker};
use super::impair::{Impaired, Impairment};
use super::ledger::Ledger;
use super::link::Link;
use super::relay::Relay;
use crate::failure::Failure;
use crate::limits::ANSWERS_QUEUED_MAX;
use crate::measure::line::Protocol;
use ringboot_protocol::model::machine::{Mac, Uuid};
use ringboot_protocol::tftp::Tick;

/// A machine as its segment knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) mac: Mac,
    pub(crate) uuid: Uuid,
    /// Number of the switch port (option 82, sub-option 1), which is the machine's in its fleet.
    pub(crate) circuit: u32,
}

/// Transaction ids of one machine: a new one for each exchange.
#[derive(Clone, Debug)]
pub(crate) struct Xids(pub(crate) u64);

/// How messages of a segment reach a server.
#[derive(Debug)]
pub(crate) enum Road {
    Relay(Relay),
    Link(Link),
}

/// Machines that share one road. Answers find theirs by hardware address and xid together: two
/// machines were seen with one xid, and one machine uses several.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) context: Rc<Context>,
    pub(crate) road: Road,
    ledger: Rc<Ledger>,
    pub(crate) waiting: RefCell<HashMap<(Mac, u32), Rc<Mailbox>>>,
    /// What there is to give back: with every lease, what was asked for and perhaps granted
    /// unheard.
    held: RefCell<BTreeMap<(Mac, Ipv4Addr), Held>>,
    trouble: Option<Trouble>,
}

/// A lease to give back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: Port,
    pub(crate) speaker: Speaker,
    pub(crate) server: Option<Ipv4Addr>,
}

/// Answers that one machine has not read yet.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    answers: RefCell<VecDeque<Answer>>,
    bell: Notify,
}

/// A bad network between the machines and the server.
#[derive(Debug)]
struct Trouble {
    begun: Instant,
    letters: RefCell<Impaired<Letter>>,
    posted: Notify,
}

#[derive(Clone, Debug)]
enum Letter {
    Out(Vec<u8>),
    In(Box<Answer>),
}

impl Segment {
    /// `seed` is that of the made-up troubles.
    pub(crate) fn open(
        context: Rc<Context>,
        road: Road,
        ledger: Rc<Ledger>,
        seed: u64,
    ) -> Rc<Self> {
        let impairment = context.wire.impairment;
        let segment = Rc::new(Self {
            context,
            road,
            ledger,
            waiting: RefCell::default(),
            held: RefCell::default(),
            trouble: (!impairment.is_none()).then(|| Trouble::new(impairment, seed)),
        });
        // They end with the set of tasks that they are in.
        spawn_local(Rc::clone(&segment).carry());
        if segment.trouble.is_some() {
            spawn_local(Rc::clone(&segment).bring_late());
        }
        segment
    }

    /// Leases to give back. What was asked for counts as one, too: perhaps it was granted and the
    /// answer lost.
    pub(super) fn take_held(&self) -> Vec<Held> {
        self.held.take().into_values().collect()
    }

    /// RELEASE: nobody answers it. Says whether there was a server to send it to.
    pub(crate) fn give_back(&self, held: Held) -> bool {
        let Held { port: Port { mac, uuid, circuit }, speaker, address, server } = held;
        self.ledger.returned(circuit, address);
        let xid = u32::from(address);
        let ask = Ask {
            speaker,
            mac,
            uuid,
            xid,
            nth: 0,
            server,
            address: Some(address),
            kind: Kind::Release,
        };
        let letter = self.road.letter(&ask, circuit);
        letter.inspect(|bytes| self.road.send(bytes)).is_some()
    }

    /// Returns when all has left.
    pub(super) async fn flush(&self) {
        if let Road::Relay(relay) = &self.road {
            relay.flush().await;
        }
    }

    /// Machines of the fleet whose address another one was given while they had it.
    pub(crate) fn doubled(&self) -> Vec<u32> {
        self.ledger.doubled()
    }

    /// Leases of the fleet that were acknowledged a second.
    pub(crate) fn rate(&self) -> f64 {
        self.ledger.rate()
    }

    pub(crate) fn take_possession(
        &self,
        port: Port,
        speaker: Speaker,
        answer: Answer,
    ) -> Result<Answer, Failure> {
        self.hold(Held { port, speaker, address: answer.address, server: answer.server });
        self.ledger.given(
            port.circuit,
            answer.address,
            answer.lease_s,
            Instant::now().into_std(),
        )?;
        Ok(answer)
    }

    /// The address was refused: there is nothing to give back.
    pub(crate) fn forget(&self, mac: Mac, address: Ipv4Addr) {
        self.held.borrow_mut().remove(&(mac, address));
    }

    pub(crate) fn hold(&self, held: Held) {
        self.held.borrow_mut().insert((held.port.mac, held.address), held);
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        match &self.trouble {
            Some(trouble) => trouble.post(Letter::Out(bytes.to_vec())),
            None => self.road.send(bytes),
        }
    }

    /// Sends what waits and takes in answers; never ends.
    async fn carry(self: Rc<Self>) {
        let take_in = |answer| self.take_in(answer);
        let line = self.context.progress.line(Protocol::Dhcp);
        match &self.road {
            Road::Relay(relay) => {
                tokio::join!(
                    relay.listen(take_in, |nobody| line.comes_to(nobody)),
                    relay.send_on()
                );
            }
            Road::Link(link) => link.listen(take_in).await,
        }
    }

    fn take_in(&self, answer: Answer) {
        self.context.progress.line(Protocol::Dhcp).hears();
        match &self.trouble {
            Some(trouble) => trouble.post(Letter::In(Box::new(answer))),
            None => self.deliver(answer),
        }
    }

    fn deliver(&self, answer: Answer) {
        if let Some(mailbox) = self.waiting.borrow().get(&(answer.mac, answer.xid)) {
            mailbox.put(answer);
        }
    }

    /// Sends and hands over what was held up on a bad network; never ends.
    async fn bring_late(self: Rc<Self>) {
        let Some(trouble) = &self.trouble else { return };
        loop {
            let next = trouble.letters.borrow().next();
            match next {
                Some(due) => drop(timeout_at(trouble.moment(due), trouble.posted.notified()).await),
                None => trouble.posted.notified().await,
            }
            while let Some(letter) = trouble.due() {
                match letter {
                    Letter::Out(bytes) => self.road.send(&bytes),
                    Letter::In(answer) => self.deliver(*answer),
                }
            }
        }
    }
}

impl Road {
    /// The message as it leaves. None for a RELEASE to a server that was never heard.
    pub(crate) fn letter(&self, ask: &Ask, circuit: u32) -> Option<Vec<u8>> {
        match self {
            Self::Relay(relay) => Some(dhcp::encode(ask, Some(&relay.through(circuit)))),
            Self::Link(link) => link.frame(ask),
        }
    }

    /// One that the network or the kernel refuses (server down, buffer full) is lost like any
    /// other.
    fn send(&self, bytes: &[u8]) {
        match self {
            Self::Relay(relay) => relay.send(bytes),
            Self::Link(link) => link.send(bytes),
        }
    }

    /// Whether the server has left the relay agent's marks alone (D-49).
    pub(crate) fn is_untouched(&self, answer: &Answer, circuit: u32) -> bool {
        match self {
            Self::Relay(relay) => {
                answer.relay_information.as_deref()
                    == Some(&dhcp::relay_information(&relay.through(circuit)))
            }
            Self::Link(_) => true,
        }
    }
}

impl Mailbox {
    /// A full one means answers that the machine will not read any more.
    fn put(&self, answer: Answer) {
        let mut answers = self.answers.borrow_mut();
        if answers.len() < ANSWERS_QUEUED_MAX {
            answers.push_back(answer);
            self.bell.notify_one();
        }
    }

    pub(crate) async fn next(&self) -> Answer {
        loop {
            let answer = self.answers.borrow_mut().pop_front();
            match answer {
                Some(answer) => return answer,
                None => self.bell.notified().await,
            }
        }
    }
}

impl Trouble {
    fn new(impairment: Impairment, seed: u64) -> Self {
        let letters = RefCell::new(Impaired::new(impairment, seed));
        Self { begun: Instant::now(), letters, posted: Notify::new() }
    }

    fn post(&self, letter: Letter) {
        self.letters.borrow_mut().send(self.now(), letter);
        self.posted.notify_one();
    }

    fn due(&self) -> Option<Letter> {
        self.letters.borrow_mut().due(self.now())
    }

    fn now(&self) -> Tick {
        Tick::try_from(self.begun.elapsed().as_nanos()).unwrap_or(Tick::MAX)
    }

    fn moment(&self, tick: Tick) -> Instant {
        self.begun + Duration::from_nanos(tick)
    }
}

impl Xids {
    pub(crate) fn next(&mut self) -> u32 {
        // SplitMix64: different seeds never meet within a run.
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
    use crate::content::Contents;
    use crate::net::relay;
    use crate::net::wire::Wire;
    use crate::pace::Pace;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 16, 1);

    /// A server that answers each message with the next of these kinds, or not at all.
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
        impairment: Impairment,
        work: impl AsyncFnOnce(&Segment, Port) -> T,
    ) -> (T, u64) {
        let pace = Pace {
            haste: 20,
            idle_waits: false,
            gives_up: false,
            patience: Duration::from_secs(10),
        };
        let context =
            Context::new(server.into(), Contents::default(), pace, std::sync::Arc::default());
        let context = Rc::new(context.with_wire(Wire { impairment, ..Wire::default() }, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
            let road = Road::Relay(Relay::open(agent, server, relay::room()).unwrap());
            let segment = Segment::open(Rc::clone(&context), road, Rc::default(), 1);
            (work(&segment, port(2)).await, context.progress.retries())
        })
    }

    fn port(last: u8) -> Port {
        Port { mac: Mac([2, 0, 0, 0, 0, last]), uuid: Uuid([1; 16]), circuit: last.into() }
    }

    const OFFER: Option<u8> = Some(2);
    const ACK: Option<u8> = Some(5);
    const NAK: Option<u8> = Some(6);

    #[test]
    fn d71_a_lost_message_is_repeated_and_a_nak_leads_back_to_discover() {
        let server = server(vec![None, OFFER, None, NAK, OFFER, ACK]);
        let acquire = async |segment: &Segment, port| {
            segment.acquire(port, Speaker::Ipxe(0), &mut Xids(1)).await
        };
        let (answer, retries) = with_segment(server, Impairment::default(), acquire);
        assert_eq!(answer.unwrap().address, ADDRESS);
        assert_eq!(retries, 3);
    }

    #[test]
    fn d24_a_refused_address_is_no_longer_ours() {
        let confirm = async |segment: &Segment, port| {
            segment.confirm(port, Speaker::UefiPxe(7), &mut Xids(1), ADDRESS).await
        };
        let asked = |answer| with_segment(server(vec![answer]), Impairment::default(), confirm).0;
        assert_eq!(asked(ACK), Some(ADDRESS));
        assert_eq!(asked(NAK), None);
    }

    #[test]
    fn an_address_that_two_machines_are_given_fails_the_second_and_marks_the_first() {
        let work = async |segment: &Segment, _| {
            let acquire = async |last| {
                segment.acquire(port(last), Speaker::BiosRom, &mut Xids(last.into())).await
            };
            let (first, second) = (acquire(1).await, acquire(2).await);
            assert_eq!(first.unwrap().address, ADDRESS);
            assert_eq!(second.unwrap_err(), Failure::AddressDoubled);
            let mut doubled = segment.doubled();
            doubled.sort_unstable();
            assert_eq!(doubled, [1, 2]);
        };
        with_segment(server(vec![OFFER, ACK, OFFER, ACK]), Impairment::default(), work);
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
        let work = async |segment: &Segment, _| {
            segment.acquire(self::port(1), Speaker::BiosRom, &mut Xids(1)).await.unwrap();
            let asking = async {
                while segment.held.borrow().len() < 2 {
                    tokio::task::yield_now().await;
                }
            };
            let mut xids = Xids(2);
            tokio::select! {
                () = asking => {}
                _ = segment.acquire(self::port(2), Speaker::BiosRom, &mut xids) => {}
            }
            for held in segment.take_held() {
                assert!(segment.give_back(held));
            }
            segment.flush().await;
            assert!(segment.take_held().is_empty());
        };
        with_segment(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), Impairment::default(), work);
        let mut releases = heard.join().unwrap();
        releases.sort_unstable();
        assert_eq!(releases, [(1, [127, 77, 16, 1]), (2, [127, 77, 16, 2])]);
    }

    #[test]
    fn on_a_bad_network_messages_are_late_both_ways() {
        let acquire = async |segment: &Segment, port| {
            segment.acquire(port, Speaker::Ipxe(0), &mut Xids(1)).await
        };
        let delay = Duration::from_millis(5);
        let begun = Instant::now();
        let (answer, _) = with_segment(
            server(vec![OFFER, ACK]),
            Impairment { delay, ..Impairment::default() },
            acquire,
        );
        assert_eq!(answer.unwrap().address, ADDRESS);
        assert!(begun.elapsed() >= delay * 4, "two messages and two answers");
    }

    #[test]
    fn transaction_ids_of_one_seed_differ() {
        let mut xids = Xids(7);
        let mut seen: Vec<u32> = (0..1000).map(|_| xids.next()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
