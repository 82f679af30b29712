//! Looking for other DHCP servers: the DISCOVER that is sent, what counts as a server's word, and when to look.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::frame;
use super::lease::Time;
use super::limits::{
    LOOK_APART_MS, LOOK_BUSY_MS, LOOK_EVERY_MS, LOOK_FIRST_MS, LOOK_LISTENS_MS, LOOK_RETRY_MS, LOOK_SPREAD_MS,
    REPLY_OCTETS_MIN,
};
use super::packet::{COOKIE, FLAG_BROADCAST, OP_REQUEST, Packet, code};
use super::route::{CLIENT_PORT, SERVER_PORT};
use super::subnet::{Held, Network, OtherServer};
use crate::boot::machine::Mac;

/// The port on which other servers listen, and ours unless it is a trial.
pub const PORT: u16 = SERVER_PORT;

/// Milliseconds of a clock that never goes back.
pub type Millis = u64;

/// What a look found: the server that answered first, or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub network: Network,
    pub looked_s: Time,
    pub server: Option<OtherServer>,
}

/// A DHCP server spoke on the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub xid: u32,
    pub server: OtherServer,
}

/// A DISCOVER as an IPv4 packet, from 0.0.0.0 port 68 to all. It says PXE, because a server may serve such clients alone, and
/// asks for a broadcast, because no address will ever be ours.
pub fn discover(mac: Mac, xid: u32) -> Option<Vec<u8>> {
    let mut bytes = message(mac, xid, FLAG_BROADCAST, Ipv4Addr::UNSPECIFIED, DISCOVER);
    bytes.extend([code::PARAMETER_REQUEST_LIST, 3, code::SUBNET_MASK, code::ROUTERS, code::DOMAIN_NAME_SERVERS]);
    let class = b"PXEClient:Arch:00000:UNDI:002001";
    bytes.extend([code::CLASS_IDENTIFIER, u8::try_from(class.len()).ok()?]);
    bytes.extend(class);
    bytes.extend([code::CLIENT_ARCHITECTURE, 2, 0, 0, code::END]);
    to_all(Ipv4Addr::UNSPECIFIED, bytes)
}

/// An INFORM as an IPv4 packet, from our own address on the segment: a server that pings an address for seconds before it offers
/// it (dnsmasq) answers this one at once, to that address (RFC 2131 section 4.3.5).
pub fn inform(mac: Mac, xid: u32, own: Ipv4Addr) -> Option<Vec<u8>> {
    let mut bytes = message(mac, xid, 0, own, INFORM);
    bytes.extend([code::PARAMETER_REQUEST_LIST, 1, code::SUBNET_MASK, code::END]);
    to_all(own, bytes)
}

/// Values of the message type option.
const DISCOVER: u8 = 1;
const INFORM: u8 = 8;

/// The fixed header, the cookie and the message type.
fn message(mac: Mac, xid: u32, flags: u16, ciaddr: Ipv4Addr, kind: u8) -> Vec<u8> {
    let mut bytes = vec![OP_REQUEST, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend(ciaddr.octets());
    bytes.resize(28, 0);
    bytes.extend(mac.0);
    bytes.resize(236, 0);
    bytes.extend(COOKIE);
    bytes.extend([code::MESSAGE_TYPE, 1, kind]);
    bytes
}

fn to_all(from: Ipv4Addr, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes.resize(bytes.len().max(REPLY_OCTETS_MIN), 0);
    let from = SocketAddrV4::new(from, CLIENT_PORT);
    frame::datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT), &bytes)
}

/// Reads an IPv4 packet that came in a frame of `sender`. None where it is no server's message, or our own.
pub fn word(packet: &[u8], sender: Mac, ours: &[Ipv4Addr]) -> Option<Word> {
    let (source, payload) = frame::read_datagram(packet)?;
    let reply = Packet::parse_reply(payload).ok()?;
    let named: Option<[u8; 4]> = reply.option(code::SERVER_IDENTIFIER).and_then(|value| value.try_into().ok());
    let address = named.map_or(*source.ip(), Ipv4Addr::from);
    let is_ours = ours.contains(&address) || ours.contains(source.ip());
    (!is_ours).then_some(Word { xid: reply.xid, server: OtherServer { mac: sender, address } })
}

/// Whether a subnet may be served, as far as other servers go.
#[derive(Clone, Debug)]
pub struct Watch {
    state: State,
    /// Serve beside other servers (`allow-other-servers`), but look for them all the same.
    beside: bool,
    before: Before,
    xid: Option<u32>,
    looked_ms: Millis,
    listens_until_ms: Option<Millis>,
    next_ms: Millis,
}

/// What the run before this one knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Its last look found nobody, and clients have leases: serve at once, look behind it.
    Alone,
    /// Its last look found a server, which may be slow to answer.
    Beside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No interface with an address in the subnet.
    Nowhere,
    /// Nothing is known yet.
    Looking,
    Alone,
    Beside(OtherServer),
}

/// A look has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub server: Option<OtherServer>,
    /// It is not what was known before.
    pub is_news: bool,
}

impl Watch {
    pub fn new(beside: bool, before: Before) -> Self {
        let state = State::Nowhere;
        Self { state, beside, before, xid: None, looked_ms: 0, listens_until_ms: None, next_ms: 0 }
    }

    /// Why nothing may leave; None where the subnet is served.
    pub fn held(&self) -> Option<Held> {
        match self.state {
            State::Nowhere => Some(Held::NoInterface),
            _ if self.beside => None,
            State::Looking => Some(Held::Looking),
            State::Alone => None,
            State::Beside(server) => Some(Held::OtherServer(server)),
        }
    }

    /// The configuration says otherwise now.
    pub fn serve_beside(&mut self, beside: bool) {
        self.beside = beside;
    }

    /// The interface is there, with an address in the subnet. What was known before counts for its first appearance only: a
    /// new interface may be on another segment.
    pub fn appeared(&mut self, now: Millis) {
        self.state = if self.before == Before::Alone { State::Alone } else { State::Looking };
        (self.xid, self.listens_until_ms, self.next_ms) = (None, None, now);
    }

    pub fn vanished(&mut self) {
        if self.state != State::Nowhere {
            self.before = Before::Nothing;
        }
        (self.state, self.xid, self.listens_until_ms) = (State::Nowhere, None, None);
    }

    /// True where a DISCOVER is to be sent; then call `looked`.
    pub fn is_due(&self, now: Millis) -> bool {
        self.state != State::Nowhere && self.listens_until_ms.is_none() && now >= self.next_ms
    }

    /// The DISCOVER with this number has left.
    pub fn looked(&mut self, xid: u32, now: Millis) {
        let is_waited_for = self.state == State::Looking && self.before == Before::Nothing;
        let listens = if is_waited_for { LOOK_FIRST_MS } else { LOOK_LISTENS_MS };
        (self.xid, self.looked_ms, self.listens_until_ms) = (Some(xid), now, Some(now.saturating_add(listens)));
        self.next_ms = now.saturating_add(LOOK_EVERY_MS).saturating_add(u64::from(xid) % LOOK_SPREAD_MS);
    }

    /// The DISCOVER could not leave: the interface is down, say.
    pub fn unsent(&mut self, now: Millis) {
        self.next_ms = now.saturating_add(LOOK_RETRY_MS);
    }

    /// Another server spoke: to our DISCOVER, however late, or to somebody else, which is a reason to look.
    pub fn heard(&mut self, word: &Word, now: Millis) -> Option<Verdict> {
        if !self.asked_for(word) {
            self.suspects(now);
            return None;
        }
        let is_known = matches!(self.state, State::Nowhere | State::Beside(_));
        if is_known && self.listens_until_ms.is_none() {
            return None;
        }
        self.listens_until_ms = None;
        let is_news = self.state != State::Beside(word.server);
        self.state = State::Beside(word.server);
        Some(Verdict { server: Some(word.server), is_news })
    }

    /// Whether this is an answer to the last look.
    pub fn asked_for(&self, word: &Word) -> bool {
        self.xid == Some(word.xid)
    }

    /// A client asks here, and has for so long. If it began before the look did, another server may be busy with it, and deaf to
    /// us until it has pinged.
    pub fn client_asks(&mut self, for_ms: Millis, now: Millis) {
        let began_before = now.saturating_sub(self.looked_ms) < for_ms;
        if let (State::Looking, Some(until), true) = (self.state, &mut self.listens_until_ms, began_before) {
            *until = (*until).max(self.looked_ms.saturating_add(LOOK_BUSY_MS));
        }
    }

    /// A packet shows that another server may be there: look soon, where none is known.
    pub fn suspects(&mut self, now: Millis) {
        if self.state == State::Alone {
            self.next_ms = self.next_ms.min(now.max(self.looked_ms.saturating_add(LOOK_APART_MS)));
        }
    }

    /// The time for answers is over, and there was none.
    pub fn tick(&mut self, now: Millis) -> Option<Verdict> {
        self.listens_until_ms.take_if(|until| now >= *until)?;
        let is_news = self.state != State::Alone;
        self.state = State::Alone;
        Some(Verdict { server: None, is_news })
    }

    /// When there is something to do next.
    pub fn wakes_at(&self) -> Option<Millis> {
        (self.state != State::Nowhere).then(|| self.listens_until_ms.unwrap_or(self.next_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dhcp::classify::{Facts, Kind};
    use crate::dhcp::reply::Reply;

    const PROBE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SENDER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
    const OTHER: OtherServer = OtherServer { mac: SENDER, address: Ipv4Addr::new(192, 168, 4, 2) };
    const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);

    fn offer(server: Option<Ipv4Addr>) -> Vec<u8> {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&PROBE.0);
        let none = Ipv4Addr::UNSPECIFIED;
        let options = server.map(|server| (54, server.octets().to_vec())).into_iter().collect();
        let reply = Reply {
            htype: 1,
            hlen: 6,
            xid: 7,
            flags: FLAG_BROADCAST,
            ciaddr: none,
            yiaddr: none,
            siaddr: none,
            giaddr: none,
            chaddr,
            file: Vec::new(),
            options,
        };
        let (bytes, _) = reply.encode(1472).unwrap();
        let from = SocketAddrV4::new(server.unwrap_or(OTHER.address), SERVER_PORT);
        frame::datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT), &bytes).unwrap()
    }

    #[test]
    fn the_discover_is_one_that_any_server_answers_by_broadcast() {
        let packet = discover(PROBE, 7).unwrap();
        let (source, payload) = frame::read_datagram(&packet).unwrap();
        assert_eq!(source, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68));
        assert_eq!((&packet[16..20], &packet[22..24]), (&[255; 4][..], &67u16.to_be_bytes()[..]));
        let request = Packet::parse_request(payload).unwrap();
        let facts = Facts::of(&request);
        assert_eq!((facts.kind, facts.mac, request.xid), (Kind::Discover, PROBE, 7));
        assert!(request.wants_broadcast() && facts.boots_from_network() && facts.is_station());
    }

    #[test]
    fn the_inform_comes_from_an_address_of_ours_and_asks_for_none() {
        let packet = inform(PROBE, 7, OURS).unwrap();
        let (source, payload) = frame::read_datagram(&packet).unwrap();
        assert_eq!((source, &packet[16..20]), (SocketAddrV4::new(OURS, 68), &[255; 4][..]));
        let request = Packet::parse_request(payload).unwrap();
        assert_eq!((Facts::of(&request).kind, request.xid, request.ciaddr), (Kind::Inform, 7, OURS));
        assert!(!request.wants_broadcast());
    }

    #[test]
    fn a_server_is_known_by_its_identifier_or_its_address_and_we_are_none() {
        let heard = |packet: &[u8]| word(packet, SENDER, &[OURS]);
        assert_eq!(heard(&offer(Some(OTHER.address))), Some(Word { xid: 7, server: OTHER }));
        assert_eq!(heard(&offer(None)), Some(Word { xid: 7, server: OTHER }));
        assert_eq!(heard(&offer(Some(OURS))), None);
        assert_eq!(heard(&discover(PROBE, 7).unwrap()), None, "a client's message");
        let whole = offer(Some(OTHER.address));
        for cut in 0..whole.len() {
            let _ = heard(&whole[..cut]);
        }
    }

    fn watching(beside: bool, before: Before) -> Watch {
        let mut watch = Watch::new(beside, before);
        assert_eq!(watch.held(), Some(Held::NoInterface));
        assert!(!watch.is_due(0) && watch.wakes_at().is_none());
        watch.appeared(100);
        assert!(watch.is_due(100));
        watch.looked(7, 100);
        watch
    }

    fn word_of(xid: u32) -> Word {
        Word { xid, server: OTHER }
    }

    #[test]
    fn nothing_leaves_for_two_seconds_and_then_all_is_well_where_nobody_answers() {
        let mut watch = watching(false, Before::Nothing);
        assert_eq!((watch.held(), watch.tick(2099)), (Some(Held::Looking), None));
        assert_eq!(watch.wakes_at(), Some(2100));
        assert_eq!(watch.tick(2100), Some(Verdict { server: None, is_news: true }));
        assert_eq!((watch.held(), watch.is_due(300_000), watch.is_due(330_100)), (None, false, true));
    }

    #[test]
    fn a_client_that_asked_before_the_look_makes_it_longer_than_a_ping() {
        let mut watch = watching(false, Before::Nothing);
        watch.client_asks(900, 1000);
        assert_eq!(watch.wakes_at(), Some(2100), "its first word came after the look");
        watch.client_asks(2000, 1000);
        assert_eq!((watch.tick(4099), watch.wakes_at()), (None, Some(4100)));
        assert!(watch.tick(4100).is_some() && watch.held().is_none());
        watch.client_asks(9000, 4200);
        assert_eq!(watch.held(), None, "the look is over");
    }

    #[test]
    fn a_server_that_answers_silences_the_subnet_until_a_look_finds_nobody() {
        let mut watch = watching(false, Before::Nothing);
        assert_eq!(watch.heard(&word_of(7), 600), Some(Verdict { server: Some(OTHER), is_news: true }));
        assert_eq!((watch.held(), watch.tick(9000)), (Some(Held::OtherServer(OTHER)), None));
        watch.looked(8, 400_000);
        assert_eq!(watch.tick(402_500), None, "two seconds are too short to call it gone: dnsmasq pings for three");
        assert_eq!(watch.tick(410_000), Some(Verdict { server: None, is_news: true }));
        assert_eq!(watch.held(), None);
    }

    #[test]
    fn after_a_run_that_found_a_server_it_is_given_time_to_answer() {
        let mut watch = watching(false, Before::Beside);
        assert_eq!((watch.tick(10_099), watch.held()), (None, Some(Held::Looking)));
        assert!(watch.tick(10_100).is_some() && watch.held().is_none());
    }

    #[test]
    fn a_late_answer_counts() {
        let mut watch = watching(false, Before::Nothing);
        watch.tick(2100).unwrap();
        assert_eq!(watch.heard(&word_of(7), 3200), Some(Verdict { server: Some(OTHER), is_news: true }));
        assert!(watch.held().is_some());
        assert_eq!(watch.heard(&word_of(7), 3300), None, "said once");
    }

    #[test]
    fn a_server_that_speaks_to_others_is_a_reason_to_look_but_not_every_time() {
        let mut watch = watching(false, Before::Nothing);
        watch.tick(2100).unwrap();
        assert_eq!(watch.heard(&word_of(99), 3000), None);
        assert_eq!((watch.held(), watch.is_due(3000), watch.is_due(15_100)), (None, false, true));
        watch.looked(8, 60_000);
        watch.tick(70_000).unwrap();
        watch.suspects(90_000);
        assert!(watch.is_due(90_000));
    }

    #[test]
    fn beside_other_servers_it_looks_but_is_never_held() {
        let mut watch = watching(true, Before::Nothing);
        assert_eq!(watch.held(), None);
        assert!(watch.heard(&word_of(7), 600).is_some_and(|verdict| verdict.is_news));
        assert_eq!(watch.held(), None);
    }

    #[test]
    fn a_restart_with_leases_serves_at_once_but_a_new_interface_does_not() {
        let mut watch = watching(false, Before::Alone);
        assert_eq!(watch.held(), None);
        assert!(watch.heard(&word_of(7), 3000).is_some(), "it listens behind that");
        assert!(watch.held().is_some());
        watch.vanished();
        watch.appeared(20_000);
        assert_eq!(watch.held(), Some(Held::Looking));
    }
}
