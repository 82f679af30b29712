//! The DISCOVER and the INFORM that find other DHCP servers, and what counts as another server's
//! message.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::dhcp::frame;
use crate::dhcp::lease::ClockSeconds;
use crate::dhcp::limits::REPLY_BYTES_MIN;
use crate::dhcp::packet::{COOKIE, FLAG_BROADCAST, OP_REPLY, OP_REQUEST, Packet, code};
use crate::dhcp::route::{CLIENT_PORT, SERVER_PORT};
use crate::dhcp::subnet::OtherServer;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// The port of DHCP servers, and ours unless the configuration names another for a trial.
pub const PORT: u16 = SERVER_PORT;

/// Milliseconds of a monotonic clock.
pub type MonotonicMillis = u64;

/// The result of a look, for the store: the server that answered first, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookResult {
    /// The subnet of the look.
    pub network: Ipv4Network,
    /// When the look began.
    pub looked_s: ClockSeconds,
    /// The server that answered first; None: none did.
    pub server: Option<OtherServer>,
}

/// An OFFER of an address, or an ACK, that a DHCP server sent on the segment. A ProxyDHCP server
/// sends neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerMessage {
    /// Transaction ID of the message that the server answers.
    pub xid: u32,
    /// The server that sent it.
    pub server: OtherServer,
    /// True for another ringboot, which yields where ours has the lower address.
    pub is_ringboot: bool,
}

/// The option by which a ringboot marks its look, or its answer to one. Other programs ignore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingbootMark {
    /// The address of that ringboot on the segment.
    pub address: Ipv4Addr,
    /// True where it gives addresses here.
    pub serves: bool,
}

/// A look of another ringboot for DHCP servers on the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RivalLook {
    /// `chaddr` of the look: the interface of that ringboot.
    pub mac: Mac,
    /// Transaction ID of the look.
    pub xid: u32,
    /// Its address, and whether it serves.
    pub mark: RingbootMark,
}

/// A site-specific option code (RFC 3942).
const MARK_CODE: u8 = 224;
const MARK_NAME: [u8; 8] = *b"ringboot";
const MARK_BYTES: u8 = 13;
/// Offset of the mark in a look: right after the message type, so that a look is recognised without
/// a walk over the options.
const MARK_AT: usize = 243;

impl RingbootMark {
    /// The option with code and length.
    fn encode(self) -> Vec<u8> {
        let mut option = vec![MARK_CODE, MARK_BYTES];
        option.extend(MARK_NAME);
        option.push(u8::from(self.serves));
        option.extend(self.address.octets());
        option
    }
}

/// The look of another ringboot, or our own that came back. None for any other message, and for a
/// relayed one.
pub fn parse_rival_look(message: &[u8]) -> Option<RivalLook> {
    let mark =
        message.get(MARK_AT..)?.strip_prefix(&[MARK_CODE, MARK_BYTES])?.strip_prefix(&MARK_NAME)?;
    let (serves, address) =
        (*mark.first()? != 0, Ipv4Addr::from(*mark.get(1..)?.first_chunk::<4>()?));
    let is_relayed = message.get(24..28)? != [0; 4];
    let xid = u32::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let mac = Mac(*message.get(28..)?.first_chunk()?);
    (!is_relayed).then_some(RivalLook { mac, xid, mark: RingbootMark { address, serves } })
}

/// `chaddr` of a look, relayed or not; None for any other message.
pub fn find_look_client(message: &[u8]) -> Option<Mac> {
    message.get(MARK_AT..)?.strip_prefix(&[MARK_CODE, MARK_BYTES])?.strip_prefix(&MARK_NAME)?;
    Some(Mac(*message.get(28..)?.first_chunk()?))
}

/// A DISCOVER as an IPv4 packet, from 0.0.0.0 port 68 to the broadcast address. It names itself a
/// PXE client, because some servers answer only those, and asks for a broadcast reply, because the
/// offered address will never be ours. A unicast reply reaches us as well: `chaddr` is our
/// interface's.
pub fn build_look_discover(mac: Mac, xid: u32, mark: RingbootMark) -> Option<Vec<u8>> {
    let mut bytes = build_look_message(
        OP_REQUEST,
        (mac, xid),
        FLAG_BROADCAST,
        Ipv4Addr::UNSPECIFIED,
        DISCOVER,
        mark,
    );
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
    wrap_broadcast(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT), SERVER_PORT, bytes)
}

/// An INFORM as an IPv4 packet, from our own address on the segment. A server that pings an address
/// for seconds before it offers it (dnsmasq) answers an INFORM at once, to that address (RFC 2131
/// section 4.3.5).
pub fn build_look_inform(mac: Mac, xid: u32, mark: RingbootMark) -> Option<Vec<u8>> {
    let mut bytes = build_look_message(OP_REQUEST, (mac, xid), 0, mark.address, INFORM, mark);
    bytes.extend([code::PARAMETER_REQUEST_LIST, 1, code::SUBNET_MASK, code::END]);
    wrap_broadcast(SocketAddrV4::new(mark.address, CLIENT_PORT), SERVER_PORT, bytes)
}

/// The answer to the look of another ringboot, as a broadcast IPv4 packet: an ACK without an
/// address, which says that this server is here.
pub fn build_rival_answer(rival: &RivalLook, mark: RingbootMark) -> Option<Vec<u8>> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut bytes =
        build_look_message(OP_REPLY, (rival.mac, rival.xid), FLAG_BROADCAST, none, ACK, mark);
    bytes.extend([code::SERVER_IDENTIFIER, 4]);
    bytes.extend(mark.address.octets());
    bytes.push(code::END);
    wrap_broadcast(SocketAddrV4::new(mark.address, SERVER_PORT), CLIENT_PORT, bytes)
}

/// Values of the message type option.
const DISCOVER: u8 = 1;
pub(super) const OFFER: u8 = 2;
pub(super) const ACK: u8 = 5;
const INFORM: u8 = 8;

/// The fixed header, the cookie, the message type and the mark.
fn build_look_message(
    op: u8,
    (mac, xid): (Mac, u32),
    flags: u16,
    ciaddr: Ipv4Addr,
    kind: u8,
    mark: RingbootMark,
) -> Vec<u8> {
    let mut bytes = vec![op, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend(ciaddr.octets());
    bytes.resize(28, 0);
    bytes.extend(mac.0);
    bytes.resize(236, 0);

    // `MARK_AT` counts on this order: the message type, then the mark.
    bytes.extend(COOKIE);
    bytes.extend([code::MESSAGE_TYPE, 1, kind]);
    bytes.extend(mark.encode());
    bytes
}

fn wrap_broadcast(from: SocketAddrV4, port: u16, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes.resize(bytes.len().max(REPLY_BYTES_MIN), 0);
    frame::build_ipv4_datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, port), &bytes)
}

/// Reads an IPv4 packet from a frame of `sender`. None for our own messages, for messages of
/// clients, and for those that give nothing, like the OFFER of a ProxyDHCP server.
pub fn parse_server_message(
    packet: &[u8],
    sender: Mac,
    ours: &[Ipv4Addr],
) -> Option<ServerMessage> {
    let (source, payload) = frame::parse_ipv4_datagram(packet)?;
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
    let message =
        ServerMessage { xid: reply.xid, server: OtherServer { mac: sender, address }, is_ringboot };
    (gives && !is_ours).then_some(message)
}
