//! Looking for other DHCP servers: the DISCOVER that is sent, what counts as a server's word, and
//! when to look.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::frame;
use super::lease::Time;
use super::limits::{
    LOOK_AGAIN_MS, LOOK_APART_MS, LOOK_ASK_AGAIN_MS, LOOK_BESIDE_MS, LOOK_BUSY_MS, LOOK_EVERY_MS,
    LOOK_FIRST_MS, LOOK_KNOWN_MS, LOOK_LISTENS_MS, LOOK_RETRY_MS, LOOK_SPREAD, REPLY_OCTETS_MIN,
};
use super::packet::{COOKIE, FLAG_BROADCAST, OP_REPLY, OP_REQUEST, Packet, code};
use super::route::{CLIENT_PORT, SERVER_PORT};
use super::subnet::{Held, OtherServer};
use crate::model::machine::Mac;
use crate::model::network::Network;

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

/// A DHCP server gave something to a client on the segment: an OFFER of an address, or an ACK. A
/// ProxyDHCP server does neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub xid: u32,
    pub server: OtherServer,
    /// It is a ringboot as well, and yields where ours has the lower address.
    pub is_ringboot: bool,
}

/// How a ringboot that looks, or answers a look, is known to others: an option of its own, which
/// means nothing to other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its own on the segment.
    pub address: Ipv4Addr,
    pub serves: bool,
}

/// Another ringboot looks for DHCP servers on the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    pub mac: Mac,
    pub xid: u32,
    pub mark: Mark,
}

/// A code for the use of a site (RFC 3942).
const MARK_CODE: u8 = 224;
const MARK_NAME: [u8; 8] = *b"ringboot";
const MARK_OCTETS: u8 = 13;
/// Where it begins in a look: right after the message type, so that it is found without reading the
/// options.
const MARK_AT: usize = 243;

impl Mark {
    fn option(self) -> Vec<u8> {
        let mut option = vec![MARK_CODE, MARK_OCTETS];
        option.extend(MARK_NAME);
        option.push(u8::from(self.serves));
        option.extend(self.address.octets());
        option
    }
}

/// The look of another ringboot, or our own that came back; None for any other message, and for
/// what a relay brings.
pub fn rival(message: &[u8]) -> Option<Rival> {
    let mark = message
        .get(MARK_AT..)?
        .strip_prefix(&[MARK_CODE, MARK_OCTETS])?
        .strip_prefix(&MARK_NAME)?;
    let (serves, address) =
        (*mark.first()? != 0, Ipv4Addr::from(*mark.get(1..)?.first_chunk::<4>()?));
    let is_relayed = message.get(24..28)? != [0; 4];
    let xid = u32::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let mac = Mac(*message.get(28..)?.first_chunk()?);
    (!is_relayed).then_some(Rival { mac, xid, mark: Mark { address, serves } })
}

/// The hardware address of the client that looks, also where a relay has brought its message.
pub fn looker(message: &[u8]) -> Option<Mac> {
    message.get(MARK_AT..)?.strip_prefix(&[MARK_CODE, MARK_OCTETS])?.strip_prefix(&MARK_NAME)?;
    Some(Mac(*message.get(28..)?.first_chunk()?))
}

/// A DISCOVER as an IPv4 packet, from 0.0.0.0 port 68 to all. It says PXE, because a server may
/// serve such clients alone, and asks for a broadcast, because no address will ever be ours. A
/// server that unicasts all the same reaches us: the hardware address is our interface's.
pub fn discover(mac: Mac, xid: u32, mark: Mark) -> Option<Vec<u8>> {
    let mut bytes =
        message(OP_REQUEST, (mac, xid), FLAG_BROADCAST, Ipv4Addr::UNSPECIFIED, DISCOVER, mark);
    bytes.extend([
        code::PARAMETER_REQUEST_LIST,
        3,
        code::SUBNET_MASK,
        code::ROUTERS,
        code::DOMAIN_NAME_SERVERS,
    ]);
    let class = b"PXEClient:Arch:00000:UNDI:002001";
    bytes.extend([code::CLASS_IDENTIFIER, u8::try_from(class.len()).ok()?]);
    bytes.extend(class);
    bytes.extend([code::CLIENT_ARCHITECTURE, 2, 0, 0, code::END]);
    to_all(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT), SERVER_PORT, bytes)
}

/// An INFORM as an IPv4 packet, from our own address on the segment: a server that pings an address
/// for seconds before it offers it (dnsmasq) answers this one at once, to that address (RFC 2131
/// section 4.3.5).
pub fn inform(mac: Mac, xid: u32, mark: Mark) -> Option<Vec<u8>> {
    let mut bytes = message(OP_REQUEST, (mac, xid), 0, mark.address, INFORM, mark);
    bytes.extend([code::PARAMETER_REQUEST_LIST, 1, code::SUBNET_MASK, code::END]);
    to_all(SocketAddrV4::new(mark.address, CLIENT_PORT), SERVER_PORT, bytes)
}

/// The answer to the look of another ringboot, as an IPv4 packet to all: somebody serves here. It
/// gives nothing.
pub fn acknowledge(rival: &Rival, mark: Mark) -> Option<Vec<u8>> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut bytes = message(OP_REPLY, (rival.mac, rival.xid), FLAG_BROADCAST, none, ACK, mark);
    bytes.extend([code::SERVER_IDENTIFIER, 4]);
    bytes.extend(mark.address.octets());
    bytes.push(code::END);
    to_all(SocketAddrV4::new(mark.address, SERVER_PORT), CLIENT_PORT, bytes)
}

/// Values of the message type option.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const ACK: u8 = 5;
const INFORM: u8 = 8;

/// The fixed header, the cookie, the message type and the mark.
fn message(
    op: u8,
    (mac, xid): (Mac, u32),
    flags: u16,
    ciaddr: Ipv4Addr,
    kind: u8,
    mark: Mark,
) -> Vec<u8> {
    let mut bytes = vec![op, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend(ciaddr.octets());
    bytes.resize(28, 0);
    bytes.extend(mac.0);
    bytes.resize(236, 0);
    bytes.extend(COOKIE);
    bytes.extend([code::MESSAGE_TYPE, 1, kind]);
    bytes.extend(mark.option());
    bytes
}

fn to_all(from: SocketAddrV4, port: u16, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes.resize(bytes.len().max(REPLY_OCTETS_MIN), 0);
    frame::datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, port), &bytes)
}

/// Reads an IPv4 packet that came in a frame of `sender`. None where it gives nothing (a ProxyDHCP
/// server's OFFER has no address), is no server's message, or our own.
pub fn word(packet: &[u8], sender: Mac, ours: &[Ipv4Addr]) -> Option<Word> {
    let (source, payload) = frame::read_datagram(packet)?;
    let reply = Packet::parse_reply(payload).ok()?;
    let gives = match reply.option(code::MESSAGE_TYPE)? {
        [OFFER] => !reply.yiaddr.is_unspecified(),
        kind => kind == [ACK],
    };
    let named: Option<[u8; 4]> =
        reply.option(code::SERVER_IDENTIFIER).and_then(|value| value.try_into().ok());
    let address = named.map_or(*source.ip(), Ipv4Addr::from);
    let is_ours = ours.contains(&address) || ours.contains(source.ip());
    let is_ringboot = reply.option(MARK_CODE).is_some_and(|value| value.starts_with(&MARK_NAME));
    let word = Word { xid: reply.xid, server: OtherServer { mac: sender, address }, is_ringboot };
    (gives && !is_ours).then_some(word)
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
    /// To the look after the next.
    pause_ms: Millis,
    /// Who has answered once where this server serves, and is asked again.
    doubt: Option<OtherServer>,
    /// When another server last answered a look.
    answered_ms: Option<Millis>,
}

/// What the run before this one knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// The last look found nobody, and clients have leases: offer soon, look behind it.
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

/// What is concluded; `is_news`: it is not what was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Nobody {
        is_news: bool,
    },
    Server {
        server: OtherServer,
        is_news: bool,
    },
    /// One has answered where this server serves. It goes on until the same question is answered
    /// once more.
    Doubt(OtherServer),
}

/// What to do about another ringboot that looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Silence,
    /// Tell it that this one is here.
    Answer,
    /// It has the lower address: this one stands by.
    Yield(Verdict),
}

impl Watch {
    pub fn new(beside: bool, before: Before) -> Self {
        Self {
            state: State::Nowhere,
            beside,
            before,
            xid: None,
            looked_ms: 0,
            listens_until_ms: None,
            next_ms: 0,
            pause_ms: LOOK_AGAIN_MS,
            doubt: None,
            answered_ms: None,
        }
    }

    /// When another server last answered a look.
    pub fn answered_ms(&self) -> Option<Millis> {
        self.answered_ms
    }

    /// When the last look began; None: there was none.
    pub fn looked_ms(&self) -> Option<Millis> {
        self.xid.map(|_| self.looked_ms)
    }

    /// When the next look begins; None: one is under way, or nobody looks.
    pub fn next_look_ms(&self) -> Option<Millis> {
        (self.state != State::Nowhere && self.listens_until_ms.is_none()).then_some(self.next_ms)
    }

    /// Why no address is offered; None where the subnet is served.
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

    /// The interface is there, with an address in the subnet. What was known before counts for its
    /// first appearance only: a new interface may be on another segment.
    pub fn appeared(&mut self, now: Millis) {
        self.state = State::Looking;
        self.start_over(now);
    }

    pub fn vanished(&mut self) {
        if self.state != State::Nowhere {
            self.before = Before::Nothing;
        }
        self.state = State::Nowhere;
        self.start_over(0);
    }

    /// The wire was lost and is there again: another server may have taken over meanwhile.
    pub fn wire_came(&mut self, now: Millis) {
        if self.state == State::Alone {
            (self.state, self.before) = (State::Looking, Before::Alone);
        }
        self.start_over(now);
    }

    /// An operator says that what was found is not so: look anew, as at the first start.
    pub fn forget(&mut self, now: Millis) {
        if self.state != State::Nowhere {
            (self.state, self.before) = (State::Looking, Before::Nothing);
            self.start_over(now);
        }
    }

    /// An operator may have changed something: who is silent beside another server looks as at the
    /// first start, who serves looks while it goes on.
    pub fn look_again(&mut self, now: Millis) {
        match self.state {
            State::Beside(_) => self.forget(now),
            State::Alone if self.listens_until_ms.is_none() => self.next_ms = now,
            State::Alone | State::Looking | State::Nowhere => {}
        }
    }

    fn start_over(&mut self, now: Millis) {
        (self.xid, self.listens_until_ms, self.doubt) = (None, None, None);
        (self.next_ms, self.pause_ms) = (now, LOOK_AGAIN_MS);
    }

    /// True where a DISCOVER is to be sent; then call `looked`.
    pub fn is_due(&self, now: Millis) -> bool {
        self.state != State::Nowhere && self.listens_until_ms.is_none() && now >= self.next_ms
    }

    /// The DISCOVER with this number has left.
    pub fn looked(&mut self, xid: u32, now: Millis) {
        let listens = match (self.state, self.before) {
            (State::Looking, Before::Nothing) => LOOK_FIRST_MS,
            (State::Looking, Before::Alone) => LOOK_KNOWN_MS,
            _ => LOOK_LISTENS_MS,
        };
        (self.xid, self.looked_ms, self.listens_until_ms) =
            (Some(xid), now, Some(now.saturating_add(listens)));
        let spread = u64::from(xid) % (self.pause_ms / LOOK_SPREAD).max(1);
        self.next_ms = now.saturating_add(self.pause_ms).saturating_add(spread);
        let longest =
            if matches!(self.state, State::Beside(_)) { LOOK_BESIDE_MS } else { LOOK_EVERY_MS };
        self.pause_ms = self.pause_ms.saturating_mul(2).min(longest);
    }

    /// The DISCOVER could not leave: the interface is down, say.
    pub fn unsent(&mut self, now: Millis) {
        self.next_ms = now.saturating_add(LOOK_RETRY_MS);
    }

    /// Another server gave something: in answer to our DISCOVER, however late, or to somebody else,
    /// which is a reason to look.
    pub fn heard(&mut self, word: &Word, own: Ipv4Addr, now: Millis) -> Option<Verdict> {
        if !self.asked_for(word) {
            self.suspects(now);
            return None;
        }
        self.answered_ms = Some(now);
        let is_known = matches!(self.state, State::Nowhere | State::Beside(_));
        if is_known && self.listens_until_ms.is_none() {
            return None;
        }
        if self.state == State::Alone {
            // The other one hears our looks, and answers, and so finds out by itself.
            if word.is_ringboot && own < word.server.address {
                return None;
            }
            if self.doubt.is_none() {
                (self.doubt, self.xid, self.listens_until_ms) = (Some(word.server), None, None);
                self.next_ms = now.saturating_add(LOOK_ASK_AGAIN_MS);
                return Some(Verdict::Doubt(word.server));
            }
        }
        Some(self.stand_by(word.server, word.xid, now))
    }

    /// The other one serves; look again before long.
    fn stand_by(&mut self, server: OtherServer, xid: u32, now: Millis) -> Verdict {
        (self.listens_until_ms, self.doubt) = (None, None);
        if !matches!(self.state, State::Beside(_)) {
            self.pause_ms = LOOK_AGAIN_MS;
            self.next_ms = now
                .saturating_add(LOOK_AGAIN_MS)
                .saturating_add(u64::from(xid) % (LOOK_AGAIN_MS / LOOK_SPREAD));
        }
        let is_news = self.state != State::Beside(server);
        self.answered_ms = Some(now);
        self.state = State::Beside(server);
        Verdict::Server { server, is_news }
    }

    /// Another ringboot looks for servers. One that serves answers it; of two that look, the lower
    /// address goes on.
    pub fn met(&mut self, rival: &Rival, own: Ipv4Addr, now: Millis) -> Met {
        let its = rival.mark;
        match self.state {
            State::Nowhere => Met::Silence,
            State::Alone => {
                // Two serve: they were apart, or their first looks were lost. The higher address
                // finds out, and yields.
                if its.serves && its.address < own && self.doubt.is_none() {
                    (self.listens_until_ms, self.next_ms) = (None, self.next_ms.min(now));
                }
                Met::Answer
            }
            State::Beside(_) if self.listens_until_ms.is_none() => Met::Silence,
            State::Looking | State::Beside(_) if own <= its.address => Met::Answer,
            State::Looking | State::Beside(_) => Met::Yield(self.stand_by(
                OtherServer { mac: rival.mac, address: its.address },
                rival.xid,
                now,
            )),
        }
    }

    /// Whether this is an answer to the last look.
    pub fn asked_for(&self, word: &Word) -> bool {
        self.xid == Some(word.xid)
    }

    /// A client asks here, and has for so long. If it began before the look did, another server may
    /// be busy with it, and deaf to us until it has pinged.
    pub fn client_asks(&mut self, for_ms: Millis, now: Millis) {
        let is_first = self.state == State::Looking && self.before != Before::Alone;
        let began_before = now.saturating_sub(self.looked_ms) < for_ms;
        if let (true, Some(until), true) = (is_first, &mut self.listens_until_ms, began_before) {
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
        let is_news = self.state != State::Alone || self.doubt.is_some();
        (self.state, self.doubt) = (State::Alone, None);
        Some(Verdict::Nobody { is_news })
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
    use crate::dhcp::reply::{Options, Reply};

    const PROBE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SENDER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
    const OTHER: OtherServer = OtherServer { mac: SENDER, address: Ipv4Addr::new(192, 168, 4, 2) };
    const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);

    /// Above and below the other's address.
    const LOW: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 1);
    const MARK: Mark = Mark { address: OURS, serves: false };

    fn reply(kind: u8, yiaddr: Ipv4Addr, server: Option<Ipv4Addr>) -> Vec<u8> {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&PROBE.0);
        let none = Ipv4Addr::UNSPECIFIED;
        let server_id = server.map(|server| (54, server.octets().to_vec()));
        let reply = Reply {
            htype: 1,
            hlen: 6,
            xid: 7,
            flags: FLAG_BROADCAST,
            ciaddr: none,
            yiaddr,
            siaddr: none,
            giaddr: none,
            chaddr,
            file: Vec::new(),
            options: std::iter::once((53, vec![kind])).chain(server_id).collect::<Options>(),
        };
        let (bytes, _) = reply.encode(1472).unwrap();
        let from = SocketAddrV4::new(server.unwrap_or(OTHER.address), SERVER_PORT);
        frame::datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT), &bytes).unwrap()
    }

    fn offer(server: Option<Ipv4Addr>) -> Vec<u8> {
        reply(OFFER, Ipv4Addr::new(192, 168, 4, 30), server)
    }

    #[test]
    fn after_a_reload_who_is_silent_looks_as_at_the_start_and_who_serves_goes_on() {
        let mut watch = Watch::new(false, Before::Nothing);
        watch.appeared(0);
        watch.looked(7, 0);
        assert_eq!((watch.looked_ms(), watch.next_look_ms()), (Some(0), None), "it listens");
        let word = Word { xid: 7, server: OTHER, is_ringboot: false };
        assert!(watch.heard(&word, OURS, 500).is_some());
        assert_eq!(watch.answered_ms(), Some(500));
        assert!(watch.next_look_ms().is_some_and(|at| at >= 500 + LOOK_AGAIN_MS));
        watch.look_again(1000);
        assert_eq!((watch.held(), watch.next_look_ms()), (Some(Held::Looking), Some(1000)));
        watch.looked(8, 1000);
        assert_eq!(watch.tick(1000 + LOOK_FIRST_MS), Some(Verdict::Nobody { is_news: true }));
        watch.look_again(9000);
        assert_eq!((watch.held(), watch.next_look_ms()), (None, Some(9000)), "served meanwhile");
    }

    #[test]
    fn the_discover_is_one_that_any_server_answers_by_broadcast() {
        let packet = discover(PROBE, 7, MARK).unwrap();
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
        let packet = inform(PROBE, 7, MARK).unwrap();
        let (source, payload) = frame::read_datagram(&packet).unwrap();
        assert_eq!((source, &packet[16..20]), (SocketAddrV4::new(OURS, 68), &[255; 4][..]));
        let request = Packet::parse_request(payload).unwrap();
        assert_eq!(
            (Facts::of(&request).kind, request.xid, request.ciaddr),
            (Kind::Inform, 7, OURS)
        );
        assert!(!request.wants_broadcast());
    }

    #[test]
    fn a_server_is_known_by_its_identifier_or_its_address_and_we_are_none() {
        let heard = |packet: &[u8]| word(packet, SENDER, &[OURS]);
        assert_eq!(heard(&offer(Some(OTHER.address))), Some(word_of(7)));
        assert_eq!(heard(&offer(None)), Some(word_of(7)));
        assert_eq!(heard(&offer(Some(OURS))), None);
        assert_eq!(heard(&discover(PROBE, 7, MARK).unwrap()), None, "a client's message");
        assert_eq!(
            heard(&reply(ACK, Ipv4Addr::UNSPECIFIED, Some(OTHER.address))),
            Some(word_of(7)),
            "an INFORM's answer"
        );
        let sent_by = |source: Ipv4Addr, mut packet: Vec<u8>| {
            packet[12..16].copy_from_slice(&source.octets());
            packet
        };
        assert_eq!(
            heard(&sent_by(OTHER.address, offer(Some(OURS)))),
            None,
            "ours, through a relay agent"
        );
        assert_eq!(
            heard(&sent_by(OURS, offer(Some(OTHER.address)))),
            None,
            "ours, in the name of a relay agent"
        );
        assert_eq!(
            heard(&sent_by(LOW, offer(Some(OTHER.address)))),
            Some(word_of(7)),
            "its identifier counts"
        );
        let proxy = reply(OFFER, Ipv4Addr::UNSPECIFIED, Some(OTHER.address));
        assert_eq!(heard(&proxy), None, "a ProxyDHCP server gives no addresses");
        assert_eq!(heard(&reply(6, Ipv4Addr::UNSPECIFIED, Some(OTHER.address))), None, "a NAK");
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
        Word { xid, server: OTHER, is_ringboot: false }
    }

    fn rival_at(address: Ipv4Addr, serves: bool) -> Rival {
        Rival { mac: SENDER, xid: 9, mark: Mark { address, serves } }
    }

    const NOBODY: Option<Verdict> = Some(Verdict::Nobody { is_news: true });
    const NEWS: Option<Verdict> = Some(Verdict::Server { server: OTHER, is_news: true });

    /// Serves since 2.1 s, having looked at 0.1 s.
    fn serving() -> Watch {
        let mut watch = watching(false, Before::Nothing);
        assert_eq!(watch.tick(2100), NOBODY);
        watch
    }

    #[test]
    fn a_look_says_whose_it_is_and_so_does_its_answer() {
        let payload = |packet: &[u8]| frame::read_datagram(packet).unwrap().1.to_vec();
        for packet in [discover(PROBE, 7, MARK), inform(PROBE, 7, MARK)] {
            let message = payload(&packet.unwrap());
            assert_eq!(rival(&message), Some(Rival { mac: PROBE, xid: 7, mark: MARK }));
            assert_eq!(looker(&message), Some(PROBE));
            for cut in 0..message.len() {
                let _ = rival(&message[..cut]);
            }
            let mut relayed = message.clone();
            relayed[24] = 10;
            assert_eq!((rival(&relayed), looker(&relayed)), (None, Some(PROBE)));
            relayed[250] ^= 1;
            assert_eq!((rival(&relayed), looker(&relayed)), (None, None), "anybody's");
        }
        let mark = Mark { address: OTHER.address, serves: true };
        let answer = acknowledge(&Rival { mac: PROBE, xid: 7, mark: MARK }, mark).unwrap();
        assert_eq!(word(&answer, SENDER, &[OURS]), Some(Word { is_ringboot: true, ..word_of(7) }));
    }

    #[test]
    fn nothing_is_offered_for_two_seconds_and_then_all_is_well_where_nobody_answers() {
        let mut watch = watching(false, Before::Nothing);
        assert_eq!((watch.held(), watch.tick(2099)), (Some(Held::Looking), None));
        assert_eq!(watch.wakes_at(), Some(2100));
        assert_eq!(watch.tick(2100), NOBODY);
        assert_eq!(watch.held(), None);
    }

    #[test]
    fn looks_come_soon_at_first_and_then_every_five_minutes() {
        let (mut watch, mut now, mut pauses) = (serving(), 100, Vec::new());
        for xid in 0..7 {
            let next = watch.wakes_at().unwrap();
            pauses.push((next - now) / 1000);
            now = next;
            assert!(watch.is_due(now) && !watch.is_due(now - 1));
            watch.looked(8 * xid, now);
            assert_eq!(watch.tick(now + 10_000), Some(Verdict::Nobody { is_news: false }));
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
    }

    /// The first number shifts by nothing, and the one before the end of a turn by the most.
    #[test]
    fn two_servers_look_at_moments_of_their_own_and_no_later_than_an_eighth_of_the_pause() {
        let most = LOOK_AGAIN_MS / LOOK_SPREAD - 1;
        for (xid, later) in [
            (0, 0),
            (1, 1),
            (1874, most),
            (1875, 0),
            (3_749, most),
            (4_000_000_000, 4_000_000_000 % 1875),
        ] {
            let mut alone = watching(false, Before::Nothing);
            alone.looked(xid, 200);
            // The second pause is twice as long, and so is what it may be longer by.
            assert_eq!(alone.next_ms, 200 + 2 * LOOK_AGAIN_MS + u64::from(xid) % 3750);
            let mut beside = Watch::new(false, Before::Nothing);
            beside.appeared(100);
            beside.looked(xid, 100);
            assert_eq!(beside.next_ms, 100 + LOOK_AGAIN_MS + later, "{xid}");
            beside.heard(&word_of(xid), OURS, 600).unwrap();
            assert_eq!(beside.wakes_at(), Some(600 + LOOK_AGAIN_MS + later), "{xid}");
        }
    }

    #[test]
    fn a_standby_looks_soon_at_first_and_then_every_minute_while_the_server_answers() {
        let mut watch = watching(false, Before::Nothing);
        watch.heard(&word_of(7), OURS, 100).unwrap();
        let (mut now, mut pauses) = (100, Vec::new());
        for xid in 1..6 {
            let next = watch.wakes_at().unwrap();
            pauses.push((next - now) / 1000);
            now = next;
            watch.looked(8 * xid, now);
            let verdict = watch.heard(&word_of(8 * xid), OURS, now + 5);
            assert_eq!(verdict, Some(Verdict::Server { server: OTHER, is_news: false }));
        }
        assert_eq!(pauses, [15, 15, 30, 60, 60]);
    }

    #[test]
    fn a_look_that_could_not_leave_is_tried_again_a_second_later() {
        let mut watch = Watch::new(false, Before::Nothing);
        watch.appeared(100);
        watch.unsent(100);
        assert_eq!([100, 1099, 1100].map(|now| watch.is_due(now)), [false, false, true]);
        assert_eq!((watch.wakes_at(), watch.held()), (Some(1100), Some(Held::Looking)));
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
        let mut known = watching(false, Before::Alone);
        known.client_asks(9000, 200);
        assert_eq!(known.wakes_at(), Some(600), "nobody was there a moment ago");
    }

    #[test]
    fn a_server_that_answers_silences_the_subnet_until_a_look_finds_nobody() {
        let mut watch = watching(false, Before::Nothing);
        assert_eq!(watch.heard(&word_of(7), OURS, 600), NEWS);
        assert_eq!((watch.held(), watch.tick(9000)), (Some(Held::OtherServer(OTHER)), None));
        assert!(
            !watch.is_due(15_000) && watch.is_due(18_000),
            "soon: it may have been a single packet"
        );
        watch.looked(8, 18_000);
        assert_eq!(
            watch.tick(20_500),
            None,
            "two seconds are too short to call it gone: dnsmasq pings for three"
        );
        assert_eq!(watch.tick(28_000), NOBODY);
        assert_eq!(watch.held(), None);
    }

    #[test]
    fn one_packet_silences_no_server_that_serves_and_two_answers_do() {
        let mut watch = serving();
        assert_eq!(
            watch.heard(&word_of(7), OURS, 3200),
            Some(Verdict::Doubt(OTHER)),
            "a late answer"
        );
        assert_eq!(
            (watch.held(), watch.heard(&word_of(7), OURS, 3300)),
            (None, None),
            "the same packet again"
        );
        assert!(!watch.is_due(5199) && watch.is_due(5200), "asked once more, seconds later");
        watch.looked(8, 5200);
        assert_eq!(
            (watch.heard(&word_of(7), OURS, 5300), watch.held()),
            (None, None),
            "not the new number"
        );
        let mut silent = watch.clone();
        assert_eq!(silent.tick(15_200), NOBODY);
        assert_eq!(silent.held(), None);
        assert_eq!(watch.heard(&word_of(8), OURS, 5400), NEWS);
        assert!(watch.held().is_some());
        assert!(watch.is_due(22_500));
    }

    #[test]
    fn after_a_run_that_found_a_server_it_is_given_time_to_answer() {
        let mut watch = watching(false, Before::Beside);
        assert_eq!((watch.tick(10_099), watch.held()), (None, Some(Held::Looking)));
        assert!(watch.tick(10_100).is_some() && watch.held().is_none());
    }

    #[test]
    fn a_server_that_speaks_to_others_is_a_reason_to_look_but_not_every_time() {
        let mut watch = serving();
        watch.looked(8, 60_000);
        watch.tick(70_000).unwrap();
        assert!(!watch.is_due(74_999));
        assert_eq!(watch.heard(&word_of(99), OURS, 70_500), None);
        assert_eq!((watch.held(), watch.is_due(74_999), watch.is_due(75_000)), (None, false, true));
        watch.suspects(90_000);
        assert!(watch.is_due(90_000));
    }

    #[test]
    fn a_configuration_that_changes_its_mind_about_other_servers_counts_at_once() {
        let mut watch = watching(false, Before::Nothing);
        assert_eq!(watch.held(), Some(Held::Looking));
        watch.serve_beside(true);
        assert_eq!(watch.held(), None);
        watch.serve_beside(false);
        assert_eq!(watch.held(), Some(Held::Looking));
    }

    #[test]
    fn beside_other_servers_it_looks_but_is_never_held() {
        let mut watch = watching(true, Before::Nothing);
        assert_eq!(watch.held(), None);
        assert_eq!(watch.heard(&word_of(7), OURS, 600), NEWS);
        assert_eq!(watch.held(), None);
    }

    #[test]
    fn after_a_run_alone_and_after_a_loss_of_the_wire_it_offers_soon() {
        let mut watch = watching(false, Before::Alone);
        assert_eq!((watch.held(), watch.tick(599)), (Some(Held::Looking), None));
        assert_eq!((watch.tick(600), watch.held()), (NOBODY, None));
        watch.wire_came(20_000);
        assert!(watch.is_due(20_000) && watch.held() == Some(Held::Looking));
        watch.looked(8, 20_000);
        assert_eq!((watch.tick(20_500), watch.held()), (NOBODY, None));
        watch.vanished();
        watch.appeared(30_000);
        watch.looked(9, 30_000);
        assert_eq!(
            (watch.tick(30_500), watch.held()),
            (None, Some(Held::Looking)),
            "a new interface: the whole time"
        );
    }

    #[test]
    fn of_two_ringboots_that_start_together_the_lower_address_serves() {
        let (mut low, mut high) =
            (watching(false, Before::Nothing), watching(false, Before::Nothing));
        let other = OtherServer { mac: SENDER, address: LOW };
        let yields = Met::Yield(Verdict::Server { server: other, is_news: true });
        assert_eq!(high.met(&rival_at(LOW, false), OURS, 1000), yields);
        assert_eq!(low.met(&rival_at(OURS, false), LOW, 1000), Met::Answer);
        assert_eq!((low.tick(2100), high.tick(2100)), (NOBODY, None));
        assert_eq!((low.held(), high.held()), (None, Some(Held::OtherServer(other))));
        assert_eq!(high.met(&rival_at(LOW, true), OURS, 2200), Met::Silence, "it stands by");
        assert_eq!(low.met(&rival_at(OURS, false), LOW, 17_000), Met::Answer, "it serves");
        high.looked(8, 18_000);
        assert_eq!(
            high.met(&rival_at(LOW, false), OURS, 18_100),
            Met::Yield(Verdict::Server { server: other, is_news: false })
        );
        high.looked(9, 40_000);
        let highest = Ipv4Addr::new(192, 168, 4, 200);
        assert_eq!(
            high.met(&rival_at(highest, false), OURS, 40_100),
            Met::Answer,
            "it looks as well, and is lower"
        );
        let mut nowhere = Watch::new(false, Before::Nothing);
        assert_eq!(nowhere.met(&rival_at(OURS, false), LOW, 0), Met::Silence);
    }

    /// Two halves of a network grow together, or the first looks of both were lost.
    #[test]
    fn of_two_ringboots_that_serve_the_higher_address_yields() {
        let (mut low, mut high) = (serving(), serving());
        assert_eq!(high.met(&rival_at(LOW, true), OURS, 5000), Met::Answer);
        assert!(high.is_due(5000), "and looks at once");
        for (address, serves) in
            [(LOW, false), (OURS, true), (OTHER.address.max(Ipv4Addr::new(192, 168, 4, 200)), true)]
        {
            let mut goes_on = serving();
            assert_eq!(goes_on.met(&rival_at(address, serves), OURS, 5000), Met::Answer);
            assert!(!goes_on.is_due(5000), "{address}, serves: {serves}");
        }
        let mut in_doubt = serving();
        in_doubt.heard(&word_of(7), OURS, 4000).unwrap();
        assert_eq!(in_doubt.met(&rival_at(LOW, true), OURS, 5000), Met::Answer);
        assert!(
            !in_doubt.is_due(5999) && in_doubt.is_due(6000),
            "it is to be asked again as it is"
        );
        let answer = |xid, address| Word {
            xid,
            server: OtherServer { mac: SENDER, address },
            is_ringboot: true,
        };
        assert_eq!(
            (low.heard(&answer(7, OURS), LOW, 5000), low.held()),
            (None, None),
            "the lower one goes on"
        );
        assert_eq!(low.met(&rival_at(OURS, true), LOW, 5000), Met::Answer);
        high.looked(8, 5000);
        assert!(matches!(high.heard(&answer(8, LOW), OURS, 5001), Some(Verdict::Doubt(_))));
        high.looked(9, 7001);
        assert!(matches!(high.heard(&answer(9, LOW), OURS, 7002), Some(Verdict::Server { .. })));
        assert!(high.held().is_some());
    }

    #[test]
    fn an_operator_may_have_what_was_found_forgotten() {
        let mut watch = watching(false, Before::Beside);
        watch.heard(&word_of(7), OURS, 600).unwrap();
        watch.forget(5000);
        assert!(watch.is_due(5000) && watch.held() == Some(Held::Looking));
        watch.looked(8, 5000);
        assert_eq!(watch.tick(7000), NOBODY, "as at the first start");
    }
}
